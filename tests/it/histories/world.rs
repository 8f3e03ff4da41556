//! Two databases that histories happen in, one after the other, and a bridge without a queue: it keeps in memory what the
//! ledger would (watermarks, parked and quarantined rows) and delivers pages, however often and however badly.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};
use sync_bridge::config::{CustomerId, EntityId, Policy, Side};
use sync_bridge::fault::Watch;
use sync_bridge::stages::{Contact, Data, Key, Known, Page, PageMode, PageReport, ParkedReason, Range};

use super::plan::{Edit, FOCUSES, History, Setting, Step, Trouble, WAYS};
use super::tables::{self, Table, table};
use crate::support::rights;
use crate::support::systems::{CUSTOMER, Systems, keys};

/// How often a page that fails is delivered again; what is transient passes sooner.
const ATTEMPTS_MAX: usize = 6;
/// Rounds of a stage over what is parked.
const ROUNDS_MAX: i32 = 16;
/// As a page's lease.
const LEASE: Duration = Duration::from_secs(15);

/// What went wrong, told by the step or oracle that saw it.
pub type Failed = String;

/// The databases and, per way of configuring it, the bridge.
pub struct World {
    pub systems: Systems,
    ways: Vec<Arc<Data>>,
}

/// A write of a user.
#[derive(Debug)]
pub struct Deed {
    pub entity: &'static str,
    pub side: Side,
    pub key: String,
    /// Canonical; `None` for a row that was not there.
    pub before: Option<Vec<Option<String>>>,
    /// `None` for a row that was deleted.
    pub after: Option<Vec<Option<String>>>,
}

#[derive(Debug)]
pub struct Waiting {
    reason: ParkedReason,
    woken: bool,
    /// Of the run, stage and round it was parked in.
    seen: (u32, usize, i32),
}

/// A row by entity, side and key.
pub type RowName = (String, Side, String);

/// How much happened, so that a quiet test is not taken for a good one.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub steps: u64,
    pub pages: u64,
    pub crashed: u64,
    pub aborted: u64,
    pub stalled: u64,
    pub beside: u64,
    pub late: u64,
    pub restored: u64,
    pub rows_written: u64,
    pub conflicts: u64,
    pub pairs: u64,
    pub listed: u64,
}

/// A history as it happens.
pub struct Happening<'w> {
    pub world: &'w World,
    pub setting: Setting,
    pub data: Arc<Data>,
    marks: Vec<(EntityId, Side, Known)>,
    pub parked: BTreeMap<RowName, Waiting>,
    pub quarantined: BTreeMap<RowName, String>,
    /// Every page that was ever delivered.
    pub past: Vec<Page>,
    pub deeds: Vec<Deed>,
    /// Keys of rows that users deleted, and what they held.
    pub deleted: Vec<(&'static str, Side, String, Vec<Option<String>>)>,
    /// Rows that somebody kept.
    backups: Vec<(&'static str, Side, String, serde_json::Value)>,
    /// Pages that died outside a run.
    owed: Vec<Page>,
    open: VecDeque<(Side, Transaction<'static, Postgres>)>,
    lease: Duration,
    runs: u32,
    /// Rows the bridge wrote, both sides, and conflicts it decided.
    pub wrote: u64,
    pub tally: Tally,
}

impl World {
    pub async fn new() -> World {
        let systems = Systems::new("histories", tables::LEGACY, tables::PLATFORM, tables::STAGES).await;
        let still = "do $$ declare t text; begin for t in select format('%I.%I', schemaname, tablename) from pg_tables \
                     where schemaname in ('public', 'sync_bridge') loop \
                     execute format('alter table %s set (autovacuum_enabled = false)', t); end loop; end $$";
        systems.on_legacy(still).await;
        systems.on_platform(still).await;
        // The bridge may do what `prepare --roles` prints; users own the tables.
        let least = rights::least(&systems).await;
        let ways = WAYS.iter().map(|way| {
            let mut config = least.clone();
            for entity in config.stages.iter_mut().flat_map(|stage| &mut stage.entities) {
                entity.page_rows = way.page_rows;
                entity.overlap = if way.overlap { Duration::from_secs(120) } else { Duration::ZERO };
                entity.policy = match way.policy {
                    "legacy" => Policy::Legacy,
                    "platform" => Policy::Platform,
                    _ => Policy::Newest,
                };
                for field in entity.fields.iter_mut().filter(|field| field.name == "phone") {
                    field.policy = (way.policy == "manual").then_some(Policy::Manual);
                }
            }
            Arc::new(Data::new(Arc::new(config)))
        });
        World { ways: ways.collect(), systems }
    }

    /// An empty world; every now and then without what the histories before have left in the files.
    pub async fn clear(&self, tidy: bool) {
        self.systems.on_legacy(tables::clear(Side::Legacy)).await;
        self.systems.on_platform(tables::clear(Side::Platform)).await;
        if tidy {
            self.systems.on_legacy("vacuum").await;
            self.systems.on_platform("vacuum").await;
        }
    }

    pub fn pool(&self, side: Side) -> &PgPool {
        match side {
            Side::Legacy => &self.systems.legacy,
            Side::Platform => &self.systems.platform,
        }
    }

    pub fn happening(&self, history: &History) -> Happening<'_> {
        Happening {
            world: self,
            setting: history.setting,
            data: self.ways[history.setting.way].clone(),
            marks: Vec::new(),
            parked: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            past: Vec::new(),
            deeds: Vec::new(),
            deleted: Vec::new(),
            backups: Vec::new(),
            owed: Vec::new(),
            open: VecDeque::new(),
            lease: if history.setting.young { LEASE } else { Duration::ZERO },
            runs: 0,
            wrote: 0,
            tally: Tally::default(),
        }
    }
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.pages += other.pages;
        self.crashed += other.crashed;
        self.aborted += other.aborted;
        self.stalled += other.stalled;
        self.beside += other.beside;
        self.late += other.late;
        self.restored += other.restored;
        self.rows_written += other.rows_written;
        self.conflicts += other.conflicts;
        self.pairs += other.pairs;
        self.listed += other.listed;
    }
}

impl Happening<'_> {
    pub async fn step(&mut self, step: &Step) -> Result<(), Failed> {
        match step {
            Step::Edit(edit) => {
                let mut connection = self.connection(edit.side).await;
                self.edit(&mut connection, edit).await
            }
            Step::Insert { entity, side, value, shift } => {
                let sql = table(entity, *side).insert(*value, *shift, false, self.setting.collisions, None);
                self.insert(entity, *side, &sql).await
            }
            Step::InsertBoth { entity, value, shift } => {
                for side in Side::BOTH {
                    let sql = table(entity, side).insert(*value, *shift, true, self.setting.collisions, None);
                    self.insert(entity, side, &sql).await?;
                }
                Ok(())
            }
            Step::Begin { side } => {
                let mut transaction = self.world.pool(*side).begin().await.map_err(told)?;
                sqlx::query("select now()").execute(&mut *transaction).await.map_err(told)?;
                self.open.push_back((*side, transaction));
                Ok(())
            }
            Step::Late { edit } => self.late(edit).await,
            Step::Delete { entity, side, pick } => self.delete(entity, *side, *pick).await,
            Step::Reinsert { entity, side, pick, value } => {
                let of: Vec<_> = self.deleted.iter().filter(|row| row.0 == *entity && row.1 == *side).collect();
                if of.is_empty() {
                    return Ok(());
                }
                let key = of[*pick as usize % of.len()].2.clone();
                let held = of.iter().rev().find(|row| row.2 == key).map(|row| row.3.clone());
                let sql = table(entity, *side).insert(*value, 0, false, self.setting.collisions, Some(&key));
                let before = self.deeds.len();
                self.insert(entity, *side, &sql).await?;
                // Who brings a row back knows what it held.
                if let Some(deed) = self.deeds.get_mut(before).filter(|deed| deed.key == key) {
                    deed.before = held;
                }
                Ok(())
            }
            Step::Backup { entity, side } => {
                let table = table(entity, *side);
                let sql =
                    format!("select {}, to_jsonb(t) from {entity} t order by {}", table.key_text("t"), table.natural);
                let rows: Vec<(String, serde_json::Value)> =
                    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(self.world.pool(*side)).await.map_err(told)?;
                self.backups.extend(rows.into_iter().map(|(key, row)| (*entity, *side, key, row)));
                Ok(())
            }
            Step::Restore { entity, side, pick } => self.restore(entity, *side, *pick).await,
            Step::Run { trouble } => self.run(trouble).await,
            Step::Keys { entity, side, picks, trouble } => {
                let mut known = self.keys(table(entity, *side)).await?;
                known.extend(
                    self.deleted.iter().filter(|row| row.0 == *entity && row.1 == *side).map(|row| row.2.clone()),
                );
                if known.is_empty() {
                    return Ok(());
                }
                let mut named: Vec<Key> =
                    picks.iter().map(|pick| Key(known[*pick as usize % known.len()].clone())).collect();
                named.sort();
                named.dedup();
                let page = self.page(&EntityId::new(*entity), *side, keys(named));
                let report = self.deliver(page.clone(), trouble.clone(), &[], (self.runs, usize::MAX, 0)).await?;
                self.owed.extend(report.is_none().then_some(page));
                Ok(())
            }
            Step::Again { pick } => {
                if self.past.is_empty() {
                    return Ok(());
                }
                let page = self.past[*pick as usize % self.past.len()].clone();
                // A late delivery is fenced off: what it reports is not recorded.
                self.work(&page).await.map(|_| ())
            }
        }
    }

    /// Pages over every row there is or was: what a sweep does where stamps show nothing.
    pub async fn sweep(&mut self) -> Result<(), Failed> {
        self.runs += 1;
        for entity in FOCUSES[self.setting.focus] {
            for side in Side::BOTH {
                let mut known = self.keys(table(entity, side)).await?;
                known.extend(
                    self.deleted.iter().filter(|row| row.0 == *entity && row.1 == side).map(|row| row.2.clone()),
                );
                known.sort();
                known.dedup();
                let named = known.into_iter().map(Key).collect();
                let page = self.page(&EntityId::new(*entity), side, keys(named));
                self.deliver(page, Vec::new(), &[], (self.runs, usize::MAX, 0)).await?;
            }
        }
        Ok(())
    }

    /// Delivers what died outside a run.
    async fn pay(&mut self) -> Result<(), Failed> {
        for page in std::mem::take(&mut self.owed) {
            self.deliver(page, Vec::new(), &[], (self.runs, usize::MAX, 0)).await?;
        }
        Ok(())
    }

    /// Commits what is still open, and lets time pass for what was young.
    pub async fn calm(&mut self) -> Result<(), Failed> {
        while let Some((_, transaction)) = self.open.pop_front() {
            transaction.commit().await.map_err(told)?;
        }
        self.lease = Duration::ZERO;
        self.pay().await
    }

    async fn connection(&self, side: Side) -> sqlx::pool::PoolConnection<Postgres> {
        self.world.pool(side).acquire().await.expect("a connection to a side")
    }

    async fn keys(&self, table: &Table) -> Result<Vec<String>, Failed> {
        sqlx::query_scalar(AssertSqlSafe(table.keys())).fetch_all(self.world.pool(table.side)).await.map_err(told)
    }

    async fn edit(&mut self, connection: &mut PgConnection, edit: &Edit) -> Result<(), Failed> {
        let table = table(edit.entity, edit.side);
        let known: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(table.keys())).fetch_all(&mut *connection).await.map_err(told)?;
        if known.is_empty() {
            return Ok(());
        }
        let key = known[edit.pick as usize % known.len()].clone();
        let sql = table.edit(&key, edit.what, edit.value, edit.shift, self.setting.collisions);
        let changed = sqlx::query_as(AssertSqlSafe(sql)).fetch_optional(connection).await;
        if let Some(Some((before, after))) = unless_refused(changed)? {
            self.deeds.push(Deed {
                entity: edit.entity,
                side: edit.side,
                key,
                before: Some(before),
                after: Some(after),
            });
        }
        Ok(())
    }

    async fn restore(&mut self, entity: &'static str, side: Side, pick: u32) -> Result<(), Failed> {
        let of: Vec<_> = self.backups.iter().filter(|kept| kept.0 == entity && kept.1 == side).collect();
        if of.is_empty() {
            return Ok(());
        }
        let (.., key, row) = of[pick as usize % of.len()].clone();
        let table = table(entity, side);
        let columns = row.as_object().expect("a row").keys().map(String::as_str);
        let columns: Vec<&str> =
            columns.filter(|column| !table.key.contains(column) && *column != table.stamp).collect();
        let sql = AssertSqlSafe(table.restore(&key, &columns));
        let changed = sqlx::query_as(sql).bind(&row).fetch_optional(self.world.pool(side)).await;
        if let Some(Some((before, after))) = unless_refused(changed)? {
            self.tally.restored += 1;
            self.deeds.push(Deed { entity, side, key, before: Some(before), after: Some(after) });
        }
        Ok(())
    }

    async fn insert(&mut self, entity: &'static str, side: Side, sql: &str) -> Result<(), Failed> {
        let made = sqlx::query_as(AssertSqlSafe(sql.to_owned())).fetch_one(self.world.pool(side)).await;
        if let Some((key, after)) = unless_refused(made)? {
            self.deeds.push(Deed { entity, side, key, before: None, after: Some(after) });
        }
        Ok(())
    }

    async fn delete(&mut self, entity: &'static str, side: Side, pick: u32) -> Result<(), Failed> {
        let table = table(entity, side);
        let known = self.keys(table).await?;
        if known.is_empty() {
            return Ok(());
        }
        let key = known[pick as usize % known.len()].clone();
        let done = sqlx::query_scalar(AssertSqlSafe(table.delete(&key))).fetch_one(self.world.pool(side)).await;
        if let Some(held) = unless_refused(done)? {
            self.deleted.push((entity, side, key.clone(), held));
            self.deeds.push(Deed { entity, side, key, before: Some(Vec::new()), after: None });
        }
        Ok(())
    }

    async fn late(&mut self, edit: &Edit) -> Result<(), Failed> {
        let Some((side, mut transaction)) = self.open.pop_front() else { return Ok(()) };
        let before = self.deeds.len();
        let edit = Edit { side, shift: 0, ..edit.clone() };
        match self.edit(&mut transaction, &edit).await {
            // Refused: the transaction is lost.
            Ok(()) if self.deeds.len() == before => transaction.rollback().await.map_err(told),
            Ok(()) => {
                self.tally.late += 1;
                transaction.commit().await.map_err(told)
            }
            Err(failed) => Err(failed),
        }
    }

    fn page(&self, entity: &EntityId, side: Side, range: Range) -> Page {
        Page {
            customer: CustomerId::new(CUSTOMER),
            entity: entity.clone(),
            side,
            range,
            mode: PageMode::Sync,
            lease: self.lease,
            held: None,
            contact: Contact::Decide,
            rulings: Vec::new(),
            notes: false,
            recovery: None,
            watermarks: [None, None],
        }
    }

    /// One run: each stage's pages, and parked rows in further rounds, as the ledger gives them out.
    pub async fn run(&mut self, trouble: &[(u32, Trouble)]) -> Result<(), Failed> {
        self.runs += 1;
        let customer = CustomerId::new(CUSTOMER);
        let mut at = 0;
        for number in 0..self.data.config.stages.len() {
            let config = self.data.config.clone();
            let focus = FOCUSES[self.setting.focus];
            let entities: Vec<EntityId> = config.stages[number]
                .entities
                .iter()
                .map(|entity| entity.id.clone())
                .filter(|entity| focus.contains(&entity.as_str()))
                .collect();
            let mut work: VecDeque<Page> = VecDeque::new();
            let mut proposals = Vec::new();
            for entity in &entities {
                for side in Side::BOTH {
                    let known = self.marks.iter().find(|mark| mark.0 == *entity && mark.1 == side);
                    let cut = self.data.cut(&customer, entity, side, known.map(|mark| &mark.2)).await;
                    let cut = cut.map_err(|error| format!("cutting {entity} on {side}: {error:#}"))?;
                    work.extend(cut.ranges.into_iter().map(|range| self.page(entity, side, range)));
                    let known = Known {
                        wal: None,
                        watermark: cut.horizon,
                        signature: Some(cut.signature),
                        debt: cut.debt,
                        done_before: Duration::ZERO,
                    };
                    proposals.push((entity.clone(), side, known));
                }
            }
            let mut round = 0;
            let woken = self.take(&entities, |waiting| waiting.woken);
            work.extend(woken);
            loop {
                let mut paired = false;
                while let Some(page) = work.pop_front() {
                    let mine: Vec<Trouble> =
                        trouble.iter().filter(|(page, _)| *page == at).map(|(_, trouble)| trouble.clone()).collect();
                    at += 1;
                    let others: Vec<Page> = work.iter().cloned().collect();
                    let Some(report) = self.deliver(page.clone(), mine, &others, (self.runs, number, round)).await?
                    else {
                        // It died; others come before its lease has run out.
                        work.push_back(page);
                        continue;
                    };
                    paired |= !report.paired.is_empty();
                    if let Some(rest) = report.rest {
                        work.push_front(Page { range: rest, ..page });
                    }
                }
                if round >= ROUNDS_MAX {
                    break;
                }
                let upto: Vec<EntityId> =
                    config.stages[..=number].iter().flat_map(|s| s.entities.iter().map(|e| e.id.clone())).collect();
                let now = (self.runs, number, round);
                let again = self.take(&upto, |waiting| {
                    let busy = waiting.reason == ParkedReason::Busy;
                    waiting.woken && !(busy && waiting.seen.0 == now.0 && round > 1)
                        || (paired || round == 1) && !busy && waiting.seen == now
                });
                if again.is_empty() {
                    break;
                }
                work.extend(again);
                round += 1;
            }
            self.pay().await?;
            for proposal in proposals {
                self.marks.retain(|mark| mark.0 != proposal.0 || mark.1 != proposal.1);
                self.marks.push(proposal);
            }
        }
        Ok(())
    }

    /// Takes parked rows that are due again, as pages of their own.
    fn take(&mut self, entities: &[EntityId], due: impl Fn(&Waiting) -> bool) -> Vec<Page> {
        let mut named: BTreeMap<(String, Side), Vec<Key>> = BTreeMap::new();
        for ((entity, side, key), waiting) in &mut self.parked {
            if entities.iter().any(|known| known.as_str() == entity) && due(waiting) {
                waiting.woken = false;
                named.entry((entity.clone(), *side)).or_default().push(Key(key.clone()));
            }
        }
        let rows = WAYS[self.setting.way].page_rows as usize;
        let mut pages = Vec::new();
        for ((entity, side), named) in named {
            let entity = EntityId::new(entity);
            pages.extend(named.chunks(rows).map(|chunk| self.page(&entity, side, keys(chunk.to_vec()))));
        }
        pages
    }

    /// A page with what befalls it. The delivery that ends is recorded; none if it died.
    async fn deliver(
        &mut self,
        page: Page,
        trouble: Vec<Trouble>,
        others: &[Page],
        seen: (u32, usize, i32),
    ) -> Result<Option<PageReport>, Failed> {
        let (mut ended, mut died) = (None, false);
        for trouble in trouble {
            died = matches!(trouble, Trouble::Crash(_) | Trouble::Abort(_));
            match trouble {
                Trouble::Crash(point) => {
                    let watch = Watch::new(point, |_| true);
                    let data = self.data.clone();
                    let mut work = pin!(watch.over(data.run_page(&page)));
                    tokio::select! {
                        report = &mut work => ended = report.ok().or(ended),
                        _ = watch.reached() => self.tally.crashed += 1,
                    }
                }
                Trouble::Abort(polls) => {
                    let data = self.data.clone();
                    let mut work = pin!(data.run_page(&page));
                    let mut left = polls;
                    let outcome = std::future::poll_fn(|context| match work.as_mut().poll(context) {
                        std::task::Poll::Ready(report) => std::task::Poll::Ready(Some(report)),
                        std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
                        std::task::Poll::Pending => {
                            left -= 1;
                            std::task::Poll::Pending
                        }
                    });
                    match outcome.await {
                        Some(report) => ended = report.ok().or(ended),
                        None => self.tally.aborted += 1,
                    }
                }
                Trouble::Stall(point, during) => {
                    let watch = Watch::new(point, holds_no_lock);
                    let data = self.data.clone();
                    let mut work = pin!(watch.over(data.run_page(&page)));
                    let early = tokio::select! {
                        report = &mut work => Some(report),
                        _ = watch.reached() => None,
                    };
                    self.tally.stalled += u64::from(early.is_none());
                    for step in &during {
                        Box::pin(self.step(step)).await?;
                    }
                    watch.go();
                    let report = match early {
                        Some(report) => report,
                        None => work.await,
                    };
                    ended = report.ok().or(ended);
                }
                Trouble::Twice => {
                    self.work(&page).await?;
                }
                Trouble::Beside(pick) => {
                    let other = match others.is_empty() {
                        true => page.clone(),
                        false => others[pick as usize % others.len()].clone(),
                    };
                    self.tally.beside += 1;
                    let data = self.data.clone();
                    let (report, _) = tokio::join!(data.run_page(&page), data.run_page(&other));
                    ended = report.ok().or(ended);
                }
                Trouble::Before(steps) => {
                    for step in &steps {
                        Box::pin(self.step(step)).await?;
                    }
                }
            }
        }
        let report = match ended {
            Some(report) => report,
            None if died => {
                self.past.push(page);
                return Ok(None);
            }
            None => self.work(&page).await?,
        };
        self.past.push(page.clone());
        self.tally.pages += 1;
        self.tally.rows_written += report.rows_to_legacy + report.rows_to_platform;
        self.record(&page, &report, seen);
        Ok(Some(report))
    }

    /// Delivers a page until it ends well; what is transient passes.
    pub async fn work(&self, page: &Page) -> Result<PageReport, Failed> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS_MAX {
            match self.data.run_page(page).await {
                Ok(report) => return Ok(report),
                Err(error) => last = format!("{error:#}"),
            }
        }
        Err(format!("a page of {} on {} keeps failing: {last}", page.entity, page.side))
    }

    /// As the ledger does.
    fn record(&mut self, page: &Page, report: &PageReport, seen: (u32, usize, i32)) {
        self.wrote += report.rows_to_platform + report.rows_to_legacy;
        self.wrote += report.conflicts.iter().map(|(_, count)| count).sum::<u64>();
        let name = |side: Side, key: &Key| (page.entity.to_string(), side, key.0.clone());
        for (side, key) in &report.settled {
            self.parked.remove(&name(*side, key));
            self.quarantined.remove(&name(*side, key));
        }
        for row in &report.parked {
            let waiting = self.parked.entry(name(row.side, &row.key)).or_insert(Waiting {
                reason: row.reason.clone(),
                woken: false,
                seen,
            });
            waiting.reason = row.reason.clone();
            waiting.seen = seen;
            waiting.woken |= row.reason == ParkedReason::Busy;
        }
        for row in &report.quarantined {
            self.quarantined.insert(name(row.side, &row.key), format!("{:?}: {}", row.field, row.reason));
        }
        for waiting in self.parked.values_mut() {
            let ParkedReason::Parent { entity, side, key } = &waiting.reason else { continue };
            let is_here = |pair: &(Key, Key)| match side {
                Side::Legacy => pair.0 == *key,
                Side::Platform => pair.1 == *key,
            };
            waiting.woken |= *entity == page.entity && report.paired.iter().any(is_here);
        }
    }
}

/// Where a page may stall while others work on the same rows.
fn holds_no_lock(point: &str) -> bool {
    point.starts_with("read.")
        || matches!(
            point,
            "page.decided"
                | "void.before"
                | "void.after"
                | "platform.before"
                | "platform.after_commit"
                | "legacy.before"
                | "legacy.after_commit"
                | "fold.before"
                | "fold.after"
        )
}

/// What a constraint refuses did not happen; anything else is a failure.
fn unless_refused<T>(result: Result<T, sqlx::Error>) -> Result<Option<T>, Failed> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("23")) => Ok(None),
        Err(error) => Err(told(error)),
    }
}

pub fn told(error: sqlx::Error) -> Failed {
    format!("the history itself: {error}")
}

/// Which rows a range names is told by its lane.
pub fn shown(page: &Page) -> String {
    let range = &page.range;
    match range.lane {
        lane if lane.is_named() => format!("{} on {}: {:?}", page.entity, page.side, range.keys),
        lane => format!("{} on {}: {lane:?} {:?} {:?}", page.entity, page.side, range.after, range.upto),
    }
}
