//! Two small systems of one customer, and a run over them without a queue: every page of every entity, in order.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use sync_bridge::config::{self, Config, CustomerId, EntityId, Side};
use sync_bridge::stages::{Data, Key, Known, Lane, Page, PageMode, PageReport, Parked, Quarantined, Range};

use super::{Folder, TestDatabase, database, server};

/// The customer of every configuration here.
pub const CUSTOMER: &str = "c-1";

/// A legacy and a platform database, configured and prepared.
pub struct Systems {
    pub legacy: PgPool,
    pub platform: PgPool,
    pub config: Arc<Config>,
    pub data: Data,
    marks: Vec<Mark>,
    _folder: Folder,
    _databases: [TestDatabase; 2],
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

impl Systems {
    /// `entities` is the TOML below `[[stages]]`; both sides' SQL makes the tables.
    pub async fn new(hint: &str, legacy_sql: &str, platform_sql: &str, stages: &str) -> Systems {
        let databases = [database(&format!("{hint} l")).await, database(&format!("{hint} p")).await];
        let folder = Folder::new(hint);
        let file = folder.path().join("bridge.toml");
        let text = format!(
            "[defaults]\npage_rows = 100\n\n[[customers]]\nid = \"{CUSTOMER}\"\nslug = \"acme\"\n\
             databases = {{ legacy = \"embedded:{}\", platform = \"embedded:{}\" }}\n\n{stages}",
            databases[0].name, databases[1].name
        );
        std::fs::write(&file, text).expect("writing a configuration");
        let mut config = config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let server = server().await;
        config.embed(|name| server.url(name));
        let config = Arc::new(config);
        let pool = async |url: &config::DatabaseUrl, sql: &str| {
            let pool = PgPool::connect(url.expose()).await.expect("connecting to a side");
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&pool).await.expect("making a side's tables");
            pool
        };
        let legacy = pool(&databases[0].url, legacy_sql).await;
        let platform = pool(&databases[1].url, platform_sql).await;
        let data = Data::new(config.clone());
        data.prepare(&CustomerId::new(CUSTOMER)).await.expect("preparing the sides");
        data.check(&CustomerId::new(CUSTOMER)).await.expect("the mapping fits the tables");
        Systems { legacy, platform, config, data, marks: Vec::new(), _folder: folder, _databases: databases }
    }

    pub async fn on_legacy(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.legacy).await.expect("an edit on legacy");
    }

    pub async fn on_platform(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.platform).await.expect("an edit on the platform");
    }

    /// One text per row.
    pub async fn legacy_rows(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&self.legacy).await.expect("reading legacy")
    }

    pub async fn platform_rows(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&self.platform).await.expect("reading the platform")
    }

    /// What the last run left of an entity's side.
    pub fn known(&self, entity: &str, side: Side) -> Option<Known> {
        let of = |mark: &&Mark| mark.entity.as_str() == entity && mark.side == side;
        self.marks.iter().find(of).map(|mark| mark.known.clone())
    }

    pub async fn run_page(&self, entity: &str, side: Side, range: Range) -> PageReport {
        self.data
            .run_page(&Page {
                customer: CustomerId::new(CUSTOMER),
                entity: EntityId::new(entity),
                side,
                range,
                mode: PageMode::Sync,
                lease: Duration::ZERO,
                rulings: Vec::new(),
                watermarks: [None, None],
            })
            .await
            .unwrap_or_else(|error| panic!("a page of {entity} on {side}: {error:#}"))
    }

    /// One run: each stage's pages, and parked rows once more while that pairs anything.
    pub async fn run(&mut self) -> RunSummary {
        let customer = CustomerId::new(CUSTOMER);
        let mut summary = RunSummary::default();
        for stage in &self.config.clone().stages {
            let mut work: Vec<(EntityId, Side, Range)> = Vec::new();
            let mut marks = Vec::new();
            for entity in &stage.entities {
                for side in Side::BOTH {
                    let known = self.marks.iter().find(|mark| mark.entity == entity.id && mark.side == side);
                    let cut = self
                        .data
                        .cut(&customer, &entity.id, side, known.map(|mark| &mark.known))
                        .await
                        .unwrap_or_else(|error| panic!("cutting {} on {side}: {error:#}", entity.id));
                    work.extend(cut.ranges.into_iter().map(|range| (entity.id.clone(), side, range)));
                    marks.push(Mark {
                        entity: entity.id.clone(),
                        side,
                        known: Known { watermark: cut.horizon, signature: Some(cut.signature), debt: cut.debt },
                    });
                }
            }
            let mut round = 0;
            while !work.is_empty() {
                round += 1;
                let mut parked: Vec<(EntityId, Parked)> = Vec::new();
                let mut paired = 0;
                for (entity, side, range) in std::mem::take(&mut work) {
                    let report = self.run_page(entity.as_str(), side, range).await;
                    summary.pages += 1;
                    summary.to_platform += report.rows_to_platform;
                    summary.to_legacy += report.rows_to_legacy;
                    summary.conflicts += report.conflicts.iter().map(|(_, count)| count).sum::<u64>();
                    summary.quarantined.extend(report.quarantined);
                    paired += report.paired.len();
                    parked.extend(report.parked.into_iter().map(|row| (entity.clone(), row)));
                }
                if paired == 0 && round > 1 {
                    summary.parked.extend(parked.into_iter().map(|(_, row)| row));
                    continue;
                }
                // Together, so that rows which wait for each other meet.
                for entity in &stage.entities {
                    for side in Side::BOTH {
                        let waiting: Vec<Key> = parked
                            .iter()
                            .filter(|(of, row)| *of == entity.id && row.side == side)
                            .map(|(_, row)| row.key.clone())
                            .collect();
                        if !waiting.is_empty() {
                            work.push((entity.id.clone(), side, keys(waiting)));
                        }
                    }
                }
            }
            for mark in marks {
                self.marks.retain(|known| known.entity != mark.entity || known.side != mark.side);
                self.marks.push(mark);
            }
        }
        summary
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
        let before = (image(&self.legacy).await, image(&self.platform).await);
        self.run().await;
        assert_eq!(before, (image(&self.legacy).await, image(&self.platform).await), "a run over settled data wrote");
    }
}

pub fn keys(keys: Vec<Key>) -> Range {
    Range { lane: Lane::Keys, after: None, upto: None, rows: keys.len() as u32, keys }
}

/// Every row version and every row lock of a database, `sync_bridge` included, as one number per table.
pub async fn image(pool: &PgPool) -> Vec<(String, i64, Option<String>)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables \
         where schemaname not in ('pg_catalog', 'information_schema') order by 1",
    )
    .fetch_all(pool)
    .await
    .expect("listing tables");
    let mut images = Vec::new();
    for table in tables {
        let sql = format!(
            "select count(*), sum(hashtextextended(ctid::text || xmin::text || xmax::text, 0))::text from {table}"
        );
        let (count, sum) = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(pool).await.expect("hashing a table");
        images.push((table, count, sum));
    }
    images
}
