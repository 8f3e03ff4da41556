//! Two small systems of one customer, and runs over them without a queue: every page of every entity, what failed for the
//! moment tried again, what waits carried on. And the oracles that hold whenever such systems have come to rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, PgPool};
use sync_bridge::config::{self, Config, CustomerId, DatabaseUrl, EntityId, Side};
use sync_bridge::jobs::failure::{self, Sorted};
use sync_bridge::stages::{
    Contact, Cut, Data, Key, Known, Lane, Page, PageMode, PageReport, Parked, Quarantined, Range,
};

use super::{Folder, TestDatabase, database, server};

/// The customer of every configuration here.
pub const CUSTOMER: &str = "c-1";

/// As often as a job tries.
const ATTEMPTS_MAX: u32 = 10;

/// What changes with every version of a row, and with every lock.
pub const VERSIONS_AND_LOCKS: &str = "ctid::text || xmin::text || xmax::text";

/// How many of the newest past pages are delivered again.
const PAST_PAGES_MAX: usize = 200;

/// A legacy and a platform database, configured and prepared.
pub struct Systems {
    pub legacy: PgPool,
    pub platform: PgPool,
    pub config: Arc<Config>,
    pub data: Arc<Data>,
    /// Pages worked on at a time.
    pub at_once: usize,
    pub databases: [TestDatabase; 2],
    /// Where the platform's services have databases of their own.
    others: Vec<Other>,
    marks: Vec<Mark>,
    /// What waits or is quarantined, as the ledger would list it, with what it waits for.
    listed: HashMap<(EntityId, Side, Key), Option<Parked>>,
    /// Every page that was ever run.
    past: Vec<(EntityId, Side, Range)>,
}

/// A further database of the platform.
struct Other {
    /// As the configuration calls it.
    name: String,
    pool: PgPool,
    /// Held until the test ends.
    _database: TestDatabase,
}

/// What a run leaves for the next: watermark and signature of an entity's side.
struct Mark {
    entity: EntityId,
    side: Side,
    known: Known,
}

/// All pages of a run together.
#[derive(Debug, Default)]
pub struct RunSummary {
    pub pages: usize,
    pub to_platform: u64,
    pub to_legacy: u64,
    pub conflicts: u64,
    pub parked: Vec<Parked>,
    pub quarantined: Vec<Quarantined>,
}

/// The records of an entity as a person would compare them: SQL of the test's own, which answers a key and a text on each side.
#[derive(Debug, Clone, Copy)]
pub struct Same {
    pub entity: &'static str,
    pub legacy: &'static str,
    pub platform: &'static str,
}

impl Systems {
    /// `stages` is the TOML from `[[stages]]` on; both sides' SQL makes the tables.
    pub async fn new(hint: &str, legacy_sql: &str, platform_sql: &str, stages: &str) -> Systems {
        let databases = [database(&format!("{hint} l")).await, database(&format!("{hint} p")).await];
        Systems::over(hint, databases, legacy_sql, platform_sql, stages).await
    }

    /// As `new`, over empty databases of any kind.
    pub async fn over(
        hint: &str,
        databases: [TestDatabase; 2],
        legacy_sql: &str,
        platform_sql: &str,
        stages: &str,
    ) -> Systems {
        let names = [&databases[0], &databases[1]].map(|database| database.name.as_str());
        let config = configured(hint, names, stages).await;
        Systems::of(databases, Vec::new(), config, legacy_sql, platform_sql).await
    }

    /// As `new`, with further databases of the platform: each with its name in the configuration and its tables' SQL.
    pub async fn with_services(
        hint: &str,
        legacy_sql: &str,
        platform_sql: &str,
        others: &[(&str, &str)],
        stages: &str,
    ) -> Systems {
        let databases = [database(&format!("{hint} l")).await, database(&format!("{hint} p")).await];
        let mut made = Vec::new();
        for &(name, sql) in others {
            let database = database(&format!("{hint} {name}")).await;
            made.push(Other { name: name.to_owned(), pool: side(&database.url, sql).await, _database: database });
        }
        let mut names = vec![("legacy", &*databases[0].name), ("platform", &*databases[1].name)];
        names.extend(made.iter().map(|other| (&*other.name, &*other._database.name)));
        let config = configured_as(hint, &names, stages).await;
        Systems::of(databases, made, config, legacy_sql, platform_sql).await
    }

    async fn of(
        databases: [TestDatabase; 2],
        others: Vec<Other>,
        config: Arc<Config>,
        legacy_sql: &str,
        platform_sql: &str,
    ) -> Systems {
        let legacy = side(&databases[0].url, legacy_sql).await;
        let platform = side(&databases[1].url, platform_sql).await;
        let data = Arc::new(Data::new(config.clone()));
        data.prepare(&CustomerId::new(CUSTOMER)).await.expect("preparing the sides");
        data.check(&CustomerId::new(CUSTOMER)).await.expect("the mapping fits the tables");
        let mut systems = Systems {
            legacy,
            platform,
            config,
            data,
            at_once: 1,
            databases,
            others,
            marks: Vec::new(),
            listed: HashMap::new(),
            past: Vec::new(),
        };
        if std::env::var_os("SYNC_BRIDGE_LEAST_RIGHTS").is_some() {
            systems.config = super::rights::least(&systems).await.into();
            systems.restart();
        }
        systems
    }

    /// As `new`, in databases of the caller's own.
    pub async fn at(urls: [DatabaseUrl; 2], legacy_sql: &str, platform_sql: &str, stages: &str) -> Systems {
        let databases = urls.clone().map(|url| {
            let name = url.to_string().rsplit_once('/').map(|(_, name)| name.to_owned()).expect("a URL with a name");
            TestDatabase { url, name }
        });
        let mut config = parsed("at", &[("legacy", "legacy"), ("platform", "platform")], stages);
        config.embed(|name| urls[usize::from(name == "platform")].clone());
        Systems::of(databases, Vec::new(), config.into(), legacy_sql, platform_sql).await
    }

    /// The pages of a queue's ledger, to be delivered again by the oracles.
    pub async fn remember(&mut self, queue: &PgPool) {
        let pages: Vec<(String, String, serde_json::Value)> = sqlx::query_as(
            "select entity, side, range from bridge.page where mode = 'sync' and range ->> 'lane' <> 'keys' order by id",
        )
        .fetch_all(queue)
        .await
        .expect("reading pages");
        self.past.extend(pages.into_iter().map(|(entity, side, range)| {
            let side = side.parse().expect("a side");
            (EntityId::new(entity), side, serde_json::from_value(range).expect("a range"))
        }));
    }

    /// What a new process starts with: nothing but the databases and what earlier runs left.
    pub fn restart(&mut self) {
        self.data = Arc::new(Data::new(self.config.clone()));
    }

    /// As `restart`, with other addresses of the two databases.
    pub fn restart_at(&mut self, address: impl Fn(&str) -> DatabaseUrl) {
        let mut config = Config::clone(&self.config);
        for url in config.customers.iter_mut().flat_map(|customer| customer.databases.values_mut()) {
            *url = address(url.expose());
        }
        self.data = Arc::new(Data::new(Arc::new(config)));
    }

    /// What the last run left of an entity's side.
    pub fn known(&mut self, entity: &str, side: Side) -> &mut Known {
        let mark = self.marks.iter_mut().find(|mark| mark.entity.as_str() == entity && mark.side == side);
        &mut mark.unwrap_or_else(|| panic!("there was no run of {entity} on {side}")).known
    }

    pub async fn on_legacy(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.legacy).await.expect("an edit on legacy");
    }

    pub async fn on_platform(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.platform).await.expect("an edit on the platform");
    }

    /// In one of the platform's further databases.
    pub async fn on(&self, name: &str, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(self.named(name)).await.expect("an edit on the platform");
    }

    /// One text per row, of one of the platform's further databases.
    pub async fn rows_on(&self, name: &str, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(self.named(name))
            .await
            .expect("reading the platform")
    }

    /// A database of the platform by its name in the configuration.
    fn named(&self, name: &str) -> &PgPool {
        self.others.iter().find(|other| other.name == name).map_or(&self.platform, |other| &other.pool)
    }

    /// The database that is shown so.
    pub fn pool_at(&self, shown: &str) -> &PgPool {
        let own = self.databases.iter().zip([&self.legacy, &self.platform]);
        let others = self.others.iter().map(|other| (&other._database, &other.pool));
        let found = own.chain(others).find(|(database, _)| shown.ends_with(&format!("/{}", database.name)));
        found.unwrap_or_else(|| panic!("{shown} is none of them")).1
    }

    /// Where an entity's side lies.
    pub fn pool_of(&self, entity: &EntityId, side: Side) -> &PgPool {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => self.named(&self.config.entity(entity).expect("an entity").platform.database),
        }
    }

    /// One text per row.
    pub async fn legacy_rows(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&self.legacy).await.expect("reading legacy")
    }

    pub async fn platform_rows(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&self.platform).await.expect("reading the platform")
    }

    /// Both sides hold these rows.
    pub async fn both_hold(&self, legacy_sql: &str, platform_sql: &str, rows: &[&str]) {
        assert_eq!(self.legacy_rows(legacy_sql).await, rows, "on legacy");
        assert_eq!(self.platform_rows(platform_sql).await, rows, "on the platform");
    }

    pub async fn cut(&self, entity: &str, side: Side) -> Cut {
        let known = self.marks.iter().find(|mark| mark.entity.as_str() == entity && mark.side == side);
        self.data
            .cut(&CustomerId::new(CUSTOMER), &EntityId::new(entity), side, known.map(|mark| &mark.known))
            .await
            .unwrap_or_else(|error| panic!("cutting {entity} on {side}: {error:#}"))
    }

    pub async fn run_page(&self, entity: &str, side: Side, range: Range) -> PageReport {
        run_page(&self.data, entity, side, range)
            .await
            .unwrap_or_else(|error| panic!("a page of {entity} on {side}: {error:#}"))
    }

    /// As the reconciliation looks at a page.
    pub async fn compare_page(&self, entity: &str, side: Side, range: Range) -> PageReport {
        let page = Page { mode: PageMode::Compare, ..page_of(entity, side, range) };
        self.data.run_page(&page).await.unwrap_or_else(|error| panic!("comparing {entity} on {side}: {error:#}"))
    }

    /// As a job runs it: what concerns the moment only is tried again.
    async fn run_page_as_job(&self, entity: &EntityId, side: Side, range: &Range) -> PageReport {
        for attempt in 1.. {
            match run_page(&self.data, entity.as_str(), side, range.clone()).await {
                Ok(report) => return report,
                Err(error) if failure::sort(&error) != Sorted::Permanent && attempt < ATTEMPTS_MAX => {}
                Err(error) => panic!("a page of {entity} on {side}, attempt {attempt}: {error:#}"),
            }
        }
        unreachable!("attempts are bounded")
    }

    /// One run: each stage's pages, and parked rows once more while that pairs anything.
    pub async fn run(&mut self) -> RunSummary {
        let mut summary = RunSummary::default();
        for stage in &self.config.clone().stages {
            let mut work: Vec<(EntityId, Side, Range)> = Vec::new();
            let mut marks = Vec::new();
            for entity in &stage.entities {
                for side in Side::BOTH {
                    let cut = self.cut(entity.id.as_str(), side).await;
                    work.extend(cut.ranges.into_iter().map(|range| (entity.id.clone(), side, range)));
                    marks.push(Mark {
                        entity: entity.id.clone(),
                        side,
                        known: Known {
                            watermark: cut.horizon,
                            signature: Some(cut.signature),
                            debt: cut.debt,
                            wal: None,
                            done_before: Duration::ZERO,
                        },
                    });
                    work.extend(self.waiting(&entity.id, side).map(|range| (entity.id.clone(), side, range)));
                }
            }
            let mut round = 0;
            while !work.is_empty() {
                round += 1;
                let reports = self.run_pages(std::mem::take(&mut work)).await;
                let paired = reports.iter().any(|(.., report)| !report.paired.is_empty());
                for (entity, side, report) in reports {
                    summary.pages += 1;
                    summary.to_platform += report.rows_to_platform;
                    summary.to_legacy += report.rows_to_legacy;
                    summary.conflicts += report.conflicts.iter().map(|(_, count)| count).sum::<u64>();
                    work.extend(report.rest.into_iter().map(|rest| (entity.clone(), side, rest)));
                    summary.quarantined.extend(report.quarantined);
                }
                if paired || round == 1 {
                    // Together, so that rows which wait for each other meet.
                    for entity in &stage.entities {
                        for side in Side::BOTH {
                            work.extend(self.waiting(&entity.id, side).map(|range| (entity.id.clone(), side, range)));
                        }
                    }
                }
            }
            for mark in marks {
                self.marks.retain(|known| known.entity != mark.entity || known.side != mark.side);
                self.marks.push(mark);
            }
        }
        summary.parked = self.listed.values().flatten().cloned().collect();
        summary
    }

    /// Works on pages, `at_once` at a time, and lists what they say of their rows.
    async fn run_pages(&mut self, work: Vec<(EntityId, Side, Range)>) -> Vec<(EntityId, Side, PageReport)> {
        let pages = work.iter().map(|(entity, side, range)| async {
            (entity.clone(), *side, self.run_page_as_job(entity, *side, range).await)
        });
        // In order where there is one at a time: tests count on it.
        let reports: Vec<_> = futures::stream::iter(pages).buffer_unordered(self.at_once).collect().await;
        for (entity, _, report) in &reports {
            for (side, key) in &report.settled {
                self.listed.remove(&(entity.clone(), *side, key.clone()));
            }
            for row in &report.parked {
                self.listed.insert((entity.clone(), row.side, row.key.clone()), Some(row.clone()));
            }
            for row in &report.quarantined {
                self.listed.insert((entity.clone(), row.side, row.key.clone()), None);
            }
        }
        self.past.extend(work.into_iter().filter(|(.., range)| range.lane != Lane::Keys));
        reports
    }

    /// Every row that waits or is quarantined: entity, side, key.
    pub fn listed(&self) -> Vec<String> {
        let rows = self.listed.keys();
        let mut rows: Vec<String> = rows.map(|(entity, side, key)| format!("{entity} {side} {}", key.0)).collect();
        rows.sort();
        rows
    }

    /// The rows of an entity's side that wait, as a page.
    fn waiting(&self, entity: &EntityId, side: Side) -> Option<Range> {
        let parked = self.listed.iter().filter(|(_, parked)| parked.is_some());
        let rows: BTreeSet<Key> =
            parked.filter(|((of, on, _), _)| of == entity && *on == side).map(|((.., key), _)| key.clone()).collect();
        (!rows.is_empty()).then(|| keys(rows.into_iter().collect()))
    }

    /// Runs until two runs in a row write nothing, ten at most; then one more must leave every table as it is.
    pub async fn settle(&mut self) {
        let mut still = 0;
        for _ in 0..10 {
            let summary = self.run().await;
            still = if summary.to_platform + summary.to_legacy == 0 { still + 1 } else { 0 };
            if still == 2 {
                break;
            }
        }
        assert_eq!(still, 2, "runs over unchanged data go on writing");
        let before = self.images().await;
        self.run().await;
        assert_eq!(before, self.images().await, "a run over settled data wrote");
    }

    /// Comes to rest, and then: both sides hold the same, except listed rows; a further run writes nothing; pairs are one to one
    /// over live rows and agree with the receipts; any page that ever was may come again and changes nothing.
    pub async fn oracles(&mut self, all: &[Same]) {
        self.settle().await;
        // A row that is listed is tried again, which leaves a lock's mark on it.
        let marks = if self.listed.is_empty() { VERSIONS_AND_LOCKS } else { "ctid::text || xmin::text" };
        let before = self.images_of(marks).await;
        let mut pages: Vec<(EntityId, Side, Range)> = Vec::new();
        for page in self.past.clone().into_iter().rev() {
            if pages.len() < PAST_PAGES_MAX && !pages.contains(&page) {
                pages.push(page);
            }
        }
        self.run_pages(pages).await;
        let after = self.images_of(marks).await;
        assert_eq!(before, after, "a page that was delivered again changed something");
        self.hold_the_same(all).await;
    }

    /// Both sides hold the same, except listed rows; pairs are one to one over live rows and agree with the receipts.
    pub async fn hold_the_same(&self, all: &[Same]) {
        for entity in self.config.clone().entities() {
            let pairs = self.pairs(&entity.id).await;
            let listed = self.listed_with_partners(&entity.id, &pairs).await;
            self.pairs_are_one_to_one(entity, &pairs, &listed).await;
            self.receipts_agree(&entity.id).await;
            if let Some(same) = all.iter().find(|same| same.entity == entity.id.as_str()) {
                self.sides_are_equal(same, &listed).await;
            }
        }
    }

    /// Every row version and every row lock of both sides.
    pub async fn images(&self) -> [Vec<(String, i64, Option<String>)>; 2] {
        self.images_of(VERSIONS_AND_LOCKS).await
    }

    async fn images_of(&self, marks: &str) -> [Vec<(String, i64, Option<String>)>; 2] {
        let mut platform = image(&self.platform, marks).await;
        for other in &self.others {
            platform.extend(image(&other.pool, marks).await);
        }
        [image(&self.legacy, marks).await, platform]
    }

    /// The living pairs: legacy key, platform key.
    pub async fn pairs(&self, entity: &EntityId) -> Vec<(String, String)> {
        sqlx::query_as(
            "select coalesce(legacy_key, '?'), platform_key from sync_bridge.pair p \
             join sync_bridge.entity e on e.id = p.entity_id where e.entity = $1 and not gone order by platform_key",
        )
        .bind(entity.as_str())
        .fetch_all(self.pool_of(entity, Side::Platform))
        .await
        .expect("reading pairs")
    }

    /// The keys of rows that are listed as parked, quarantined or in an open conflict, and those of their partners.
    async fn listed_with_partners(&self, entity: &EntityId, pairs: &[(String, String)]) -> HashSet<(Side, String)> {
        let rows = self.listed.keys().filter(|(of, ..)| of == entity);
        let mut listed: HashSet<(Side, String)> = rows.map(|(_, side, key)| (*side, key.0.clone())).collect();
        let open = self
            .data
            .conflicts(&CustomerId::new(CUSTOMER), entity, None, Some("open"), 1000)
            .await
            .expect("reading conflicts");
        listed.extend(open.into_iter().map(|conflict| (Side::Platform, conflict.platform_key)));
        for (legacy, platform) in pairs {
            let (legacy, platform) = ((Side::Legacy, legacy.clone()), (Side::Platform, platform.clone()));
            if listed.contains(&legacy) || listed.contains(&platform) {
                listed.extend([legacy, platform]);
            }
        }
        listed
    }

    async fn pairs_are_one_to_one(
        &self,
        entity: &config::Entity,
        pairs: &[(String, String)],
        listed: &HashSet<(Side, String)>,
    ) {
        for side in Side::BOTH {
            let pool = self.pool_of(&entity.id, side);
            let table = entity.table(side);
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let parts: Vec<String> = table.key.iter().map(|column| format!("{}::text", quoted(column))).collect();
            let (schema, name) = (quoted(&table.schema), quoted(&table.name));
            let sql = format!("select {} from {schema}.{name}", parts.join(" || E'\\x1f' || "));
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.expect("reading keys");
            let is_listed = |key: &String| listed.contains(&(side, key.clone()));
            let mut rows: Vec<String> = rows.into_iter().filter(|key| !is_listed(key)).collect();
            let keys = pairs.iter().map(|(legacy, platform)| match side {
                Side::Legacy => legacy.clone(),
                Side::Platform => platform.clone(),
            });
            let mut keys: Vec<String> = keys.filter(|key| !is_listed(key)).collect();
            rows.sort();
            keys.sort();
            assert_eq!(rows, keys, "rows of {} on {side}, and those that pairs name", entity.id);
        }
    }

    async fn receipts_agree(&self, entity: &EntityId) {
        type Row = (String, Option<String>, i64);
        let pairs: Vec<Row> = sqlx::query_as(
            "select platform_key, legacy_key, rev from sync_bridge.pair p \
             join sync_bridge.entity e on e.id = p.entity_id where e.entity = $1",
        )
        .bind(entity.as_str())
        .fetch_all(self.pool_of(entity, Side::Platform))
        .await
        .expect("reading pairs");
        let pairs: BTreeMap<String, (Option<String>, i64)> =
            pairs.into_iter().map(|(platform, legacy, rev)| (platform, (legacy, rev))).collect();
        let receipts: Vec<Row> = sqlx::query_as(
            "select platform_key, legacy_key, rev from sync_bridge.receipt r \
             join sync_bridge.entity e on e.id = r.entity_id where e.entity = $1",
        )
        .bind(entity.as_str())
        .fetch_all(&self.legacy)
        .await
        .expect("reading receipts");
        for (platform, legacy, rev) in receipts {
            let Some((paired, pair_rev)) = pairs.get(&platform) else {
                panic!("{entity}: receipt without pair {platform}")
            };
            assert!(rev <= *pair_rev, "{entity} {platform}: receipt {rev} is ahead of its pair {pair_rev}");
            assert!(
                legacy.is_none() || legacy == *paired,
                "{entity} {platform}: {legacy:?} on legacy, {paired:?} in its pair"
            );
        }
    }

    async fn sides_are_equal(&self, same: &Same, listed: &HashSet<(Side, String)>) {
        let mut sides = Vec::new();
        for (side, sql) in [(Side::Legacy, same.legacy), (Side::Platform, same.platform)] {
            let pool = self.pool_of(&EntityId::new(same.entity), side);
            let rows: Vec<(String, String)> =
                sqlx::query_as(AssertSqlSafe(sql.to_owned())).fetch_all(pool).await.expect("comparing");
            let rows = rows.into_iter().filter(|(key, _)| !listed.contains(&(side, key.clone())));
            let mut texts: Vec<String> = rows.map(|(_, text)| text).collect();
            texts.sort();
            sides.push(texts);
        }
        assert_eq!(sides[0], sides[1], "{} on legacy and on the platform", same.entity);
    }
}

/// A database with a side's tables.
async fn side(url: &DatabaseUrl, sql: &str) -> PgPool {
    let pool = PgPool::connect(url.expose()).await.expect("connecting to a side");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&pool).await.expect("making a side's tables");
    pool
}

/// Loads a configuration of these two databases of the tests' server.
pub async fn configured(hint: &str, [legacy, platform]: [&str; 2], stages: &str) -> Arc<Config> {
    configured_as(hint, &[("legacy", legacy), ("platform", platform)], stages).await
}

/// Loads a configuration of these databases of the tests' server, each with its name in the configuration.
async fn configured_as(hint: &str, names: &[(&str, &str)], stages: &str) -> Arc<Config> {
    let mut config = parsed(hint, names, stages);
    let server = server().await;
    config.embed(|name| server.url(name));
    Arc::new(config)
}

fn parsed(hint: &str, names: &[(&str, &str)], stages: &str) -> Config {
    let databases: Vec<String> =
        names.iter().map(|(name, database)| format!("{name} = \"embedded:{database}\"")).collect();
    let folder = Folder::new(hint);
    let file = folder.path().join("bridge.toml");
    let text = format!(
        "[defaults]\npage_rows = 100\n\n[[customers]]\nid = \"{CUSTOMER}\"\nslug = \"acme\"\n\
         databases = {{ {} }}\n\n{stages}",
        databases.join(", ")
    );
    std::fs::write(&file, text).expect("writing a configuration");
    config::load(&file).unwrap_or_else(|error| panic!("{error}"))
}

/// Works on one page.
pub async fn run_page(data: &Data, entity: &str, side: Side, range: Range) -> anyhow::Result<PageReport> {
    data.run_page(&page_of(entity, side, range)).await
}

fn page_of(entity: &str, side: Side, range: Range) -> Page {
    Page {
        customer: CustomerId::new(CUSTOMER),
        entity: EntityId::new(entity),
        side,
        range,
        mode: PageMode::Sync,
        lease: Duration::ZERO,
        held: None,
        contact: Contact::Decide,
        rulings: Vec::new(),
        notes: false,
        recovery: None,
        watermarks: [None, None],
    }
}

pub fn keys(keys: Vec<Key>) -> Range {
    Range { lane: Lane::Keys, after: None, upto: None, rows: keys.len() as u32, keys }
}

/// A database, `sync_bridge` included, as one number per table: of these marks of its rows.
pub async fn image(pool: &PgPool, marks: &str) -> Vec<(String, i64, Option<String>)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables \
         where schemaname not in ('pg_catalog', 'information_schema') order by 1",
    )
    .fetch_all(pool)
    .await
    .expect("listing tables");
    let mut images = Vec::new();
    for table in tables {
        let sql = format!("select count(*), sum(hashtextextended({marks}, 0))::text from {table}");
        let (count, sum) = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(pool).await.expect("hashing a table");
        images.push((table, count, sum));
    }
    images
}
