//! A whole table held against the ledger: its rows are compared with the hashes that the pairs keep of them, bucket by bucket, each
//! bucket summed up by its own database; only the rows of buckets that differ are named. So changes are found where rows have no
//! stamp, and a sweep finds what no stamp shows: silent writes, and rows that are not there any more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::clock;
use crate::config::Side;
use crate::keyset::{Key, Signature};
use crate::pairs::CarriedOut;

use super::super::{Sessions, Statement};
use super::{TableSql, sums_over};

/// Blocks of a slice that one statement reads (1 MiB): keys and hashes of so many rows are held in memory.
const BLOCKS_OF_SLICE: u32 = 128;

/// Few enough to be answered in one go, and of a table of ten million rows each still holds but 600.
const BUCKETS: i64 = 16_384;

/// Rows whose hashes are held in memory at a time.
const HELD_MAX: i64 = 100_000;

/// Keys that are named one by one; where more rows differ, the whole table is read.
const KEYS_MAX: usize = 100_000;

/// Keys that are asked for in one statement.
const STANDING_MAX: usize = 10_000;

/// Blocks of a table that the first statement reads (8 MiB); the next ones read more or fewer, by how long it took.
const BLOCKS_FIRST: u32 = 1_024;

/// How long a statement over a part of a table is to take.
const PART_SECS: f64 = 2.0;

/// A part that takes this many times as long as those before it says that the database has other things to do.
const SLOW: f64 = 2.0;

/// Sums of hashes are compared by their rest.
const MODULUS: i64 = i64::MAX;

/// How wrong a clock may be before it counts as set back.
const CLOCK_SLACK_SECS: u32 = 60;

/// What of the rows is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Keys and mapped values.
    Rows,
    /// Keys alone: whether the rows are there.
    Keys,
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Rows of the table, and living pairs with a key on this side.
    pub rows: u64,
    pub pairs: u64,
    /// Rows that the ledger does not know, or knows with another hash, or without one.
    pub differing: Named,
    /// Keys of living pairs without a row.
    pub missing: Named,
    /// Intents that legacy's receipts call done and the ledger does not yet, whose rows are as they were left; `KEYS_MAX` at most.
    pub carried_out: Vec<CarriedOut>,
}

/// Keys in their order, at most `KEYS_MAX`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub keys: Vec<Key>,
    /// Whether there are more.
    pub more: bool,
}

impl Named {
    fn add(&mut self, key: String) {
        if self.keys.len() < KEYS_MAX {
            self.keys.push(Key(key));
        } else {
            self.more = true;
        }
    }
}

/// How far a comparison went in a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reach {
    Whole,
    /// From where the one before ended to this block, before which so much of the table lies (below 1).
    Upto {
        block: u32,
        done: f64,
    },
    /// From where the one before ended to the end.
    Rest,
}

/// What a comparison of a slice found.
#[derive(Debug, PartialEq)]
pub struct Slice {
    pub reach: Reach,
    /// Rows of the slice, and living pairs that have one of them.
    pub rows: u64,
    pub pairs: u64,
    /// As in `Compared`, of this slice.
    pub differing: Named,
    pub carried_out: Vec<CarriedOut>,
}

/// What a pair knows of its row.
struct Known {
    hash: Option<i64>,
    /// The platform's key and the revision, where legacy's receipt may know more.
    announced: Option<(String, i64)>,
}

/// A row of legacy's whose pair has an open intent to write it: as it stands.
struct Announced {
    key: String,
    hash: i64,
    platform_key: String,
    rev: i64,
}

/// By bucket: count and sum of hashes. Sums of parts add up to that of the whole.
type Sums = BTreeMap<i64, (i64, i64)>;

/// For how long others are waited for now.
pub type RestFor<'r> = dyn Fn() -> BoxFuture<'r, Duration> + Send + Sync + 'r;

/// Blocks of a table, from the first up to the second, or to wherever it ends by then. What moves from one part to another meanwhile is
/// seen twice or not at all, and looked at more closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    from: u32,
    upto: Option<u32>,
}

impl Part {
    const WHOLE: Part = Part { from: 0, upto: None };

    /// As a condition on rows of `alias`.
    fn sql(self, alias: &str) -> String {
        let from = (self.from > 0).then(|| format!(" and {alias}.ctid >= '({},0)'::tid", self.from));
        let upto = self.upto.map(|upto| format!(" and {alias}.ctid < '({upto},0)'::tid"));
        from.into_iter().chain(upto).collect()
    }
}

/// A walk over a table, each statement about as long as the last but one says that it will be. Pure.
#[derive(Debug)]
struct Parts {
    blocks: u32,
    size: u32,
    at: Option<u32>,
    /// Seconds that a block took so far, where that was no trouble.
    usual: Option<f64>,
}

impl Parts {
    /// `None`: its rows are not in blocks that we know.
    fn of(blocks: Option<u32>) -> Parts {
        Parts { blocks: blocks.unwrap_or(0), size: BLOCKS_FIRST, at: Some(0), usual: None }
    }

    fn next(&mut self) -> Option<Part> {
        let from = self.at?;
        let upto = from.checked_add(self.size).filter(|upto| *upto < self.blocks);
        self.at = upto;
        Some(Part { from, upto })
    }

    /// How long to rest after a part, and how large the next one is.
    fn took(&mut self, part: Part, secs: f64) -> Duration {
        let Some(upto) = part.upto else { return Duration::ZERO };
        let per_block = secs / f64::from(upto - part.from);
        let is_slow = self.usual.is_some_and(|usual| per_block > usual * SLOW);
        if !is_slow {
            self.usual = Some(per_block);
        }
        let larger = (PART_SECS / secs.max(0.001)).clamp(0.25, 4.0);
        self.size = (f64::from(self.size) * larger).max(1.0) as u32;
        if is_slow { Duration::from_secs_f64(secs) } else { Duration::ZERO }
    }
}

impl TableSql {
    /// As `signature_select` for a table without a stamp: all rows, and what the ledger says of them, as each write of ours moves that.
    /// Left out, so that nothing differs, until `every` has passed.
    pub(super) fn whole_signature_select(&self, number: usize, first: usize, every: Duration) -> String {
        let due = format!(
            "(select now() not between ${first}::timestamptz - interval '{CLOCK_SLACK_SECS} s' \
             and ${first}::timestamptz + interval '{} s' as due) d",
            every.as_secs_f64()
        );
        format!(
            "select {number}::bigint as n, s.* from {due} cross join lateral (select {rows} from {table} where true{scope}) s where d.due \
             union all select {number}::bigint, s.* from {due} cross join lateral ({ledger}) s where d.due",
            rows = sums_over("0", "null", &self.row_hash()),
            table = self.seen(),
            scope = self.scope_sql(first + 1),
            ledger = self.ledger_sums(),
        )
    }

    /// All rows and the ledger's, as the next probe will compare them.
    pub async fn whole_signature(&self, sessions: &Sessions, since: DateTime<Utc>) -> Result<Signature, sqlx::Error> {
        let sql = format!(
            "select {rows} from {table} where true{scope} union all {ledger} order by lane",
            rows = sums_over("0", "null", &self.row_hash()),
            table = self.seen(),
            scope = self.scope_sql(2),
            ledger = self.ledger_sums(),
        );
        let rows = sessions.fetch_all(self.start(&Statement::new(sql))).await?;
        let of = |row: &PgRow| Ok::<_, sqlx::Error>((row.try_get("rows")?, row.try_get("hash")?));
        let [rows, ledger] = rows.as_slice() else { return Err(sqlx::Error::RowNotFound) };
        let ((rows, hash), (null_rows, null_hash)) = (of(rows)?, of(ledger)?);
        Ok(Signature { since, rows, hash, null_rows, null_hash })
    }

    /// Compares the rows that are seen with what the ledger knows of them. `ledger` are sessions of the platform database that
    /// holds the pairs, in which the entity has the number `pairs_of`. What is written meanwhile may be named too. Large tables are read in
    /// parts; after each, `rest` says for how long others are waited for.
    pub async fn compare_with_ledger(
        &self,
        sessions: &Sessions,
        ledger: &Sessions,
        pairs_of: i32,
        depth: Depth,
        rest: &RestFor<'_>,
    ) -> Result<Compared, sqlx::Error> {
        let row_hash = self.row_hash();
        let hash_of = |hash| if depth == Depth::Rows { hash } else { "0::bigint" };
        let (key, hash) = self.known();
        let known = |part: Part| {
            format!(
                "select {key} as k, {hash} as h, {announced} as rev, g.platform_key as p from sync_bridge.pair g \
                 where g.entity_id = $1 and not g.gone and {key} is not null{part}",
                hash = hash_of(hash),
                announced = self.announced(),
                part = part.sql("g"),
            )
        };
        let own = |part: Part| self.rows_of(part, hash_of(&row_hash));
        // A row's hash is over its key, too; mixed with the key's own, what has none counts as well, and unlike any that has one.
        let sums = format!(
            "select {bucket} as bucket, count(*) as rows, (sum(coalesce(h # {key}, ~{key})) % {MODULUS})::bigint as hash",
            bucket = bucket("k"),
            key = "hashtextextended(k, 0)",
        );
        let blocks = [blocks(ledger, "sync_bridge.pair").await?, blocks(sessions, &self.table).await?];
        let blocks = blocks.map(|blocks| blocks.map(|blocks| blocks.largest));
        let of_ledger = async {
            let (mut all, mut parts) = (Sums::new(), Parts::of(blocks[0]));
            while let Some(part) = parts.next() {
                let began = clock::instant();
                add(&mut all, ledger.fetch_all(sum(&sums, &known(part)).query().bind(pairs_of)).await?)?;
                go_easy(&mut parts, part, began, rest).await;
            }
            Ok::<_, sqlx::Error>(all)
        };
        let of_side = async {
            let (mut all, mut parts) = (Sums::new(), Parts::of(blocks[1]));
            while let Some(part) = parts.next() {
                let began = clock::instant();
                add(&mut all, sessions.fetch_all(self.start(&sum(&sums, &own(part)))).await?)?;
                go_easy(&mut parts, part, began, rest).await;
            }
            Ok(all)
        };
        // At once: what moves meanwhile makes a bucket unequal, and is looked at more closely.
        let (of_ledger, of_side) = tokio::try_join!(of_ledger, of_side)?;
        let count = |sums: &Sums| sums.values().map(|(count, _)| u64::try_from(*count).unwrap_or(0)).sum();
        let (rows, pairs) = (count(&of_side), count(&of_ledger));

        let (mut differing, mut missing, mut carried_out) = (Named::default(), Named::default(), Vec::new());
        let buckets: BTreeSet<i64> = of_side.keys().chain(of_ledger.keys()).copied().collect();
        let unequal = buckets.into_iter().filter(|bucket| of_side.get(bucket) != of_ledger.get(bucket));
        let held = |bucket: i64| {
            let count = |sums: &Sums| sums.get(&bucket).map_or(0, |(count, _)| *count);
            count(&of_side).max(count(&of_ledger))
        };
        let mut unequal = unequal.peekable();
        // Here the ledger first: a row is there before its pair is.
        while unequal.peek().is_some() && !(differing.more && missing.more) {
            let (mut buckets, mut rows) = (Vec::new(), 0);
            while let Some(bucket) = unequal.next_if(|bucket| rows == 0 || rows + held(*bucket) <= HELD_MAX) {
                rows += held(bucket);
                buckets.push(bucket);
            }
            let only = |select: &str, first: usize| {
                Statement::new(format!("select * from ({select}) t where {} = any(${first})", bucket("k")))
            };
            let mut known_rows: HashMap<String, Known> = HashMap::new();
            let mut parts = Parts::of(blocks[0]);
            while let Some(part) = parts.next() {
                let began = clock::instant();
                let query = only(&known(part), 2).query().bind(pairs_of).bind(buckets.clone());
                for row in ledger.fetch_all(query).await? {
                    let rev: Option<i64> = row.try_get("rev")?;
                    let announced = rev.map(|rev| Ok::<_, sqlx::Error>((row.try_get("p")?, rev))).transpose()?;
                    known_rows.insert(row.try_get("k")?, Known { hash: row.try_get("h")?, announced });
                }
                go_easy(&mut parts, part, began, rest).await;
            }
            let (mut parts, mut announced) = (Parts::of(blocks[1]), Vec::new());
            while let Some(part) = parts.next() {
                let began = clock::instant();
                let query = self.start(&only(&own(part), self.first_own())).bind(buckets.clone());
                for row in sessions.fetch_all(query).await? {
                    let (key, hash): (String, i64) = (row.try_get("k")?, row.try_get("h")?);
                    match known_rows.remove(&key) {
                        Some(Known { hash: Some(known), .. }) if known == hash => {}
                        Some(Known { announced: Some((platform_key, rev)), .. }) => {
                            announced.push(Announced { key, hash, platform_key, rev });
                        }
                        _ => differing.add(key),
                    }
                }
                go_easy(&mut parts, part, began, rest).await;
            }
            let done = self.carried_out(sessions, announced, &mut differing).await?;
            carried_out.extend(done.into_iter().take(KEYS_MAX.saturating_sub(carried_out.len())));
            // In their order: where more are missing than are named, each look names the same.
            let mut left: Vec<String> = known_rows.into_keys().collect();
            left.sort_unstable();
            left.into_iter().for_each(|key| missing.add(key));
        }
        differing.keys.sort_unstable();
        missing.keys.sort_unstable();
        Ok(Compared { rows, pairs, differing, missing, carried_out })
    }

    /// Compares the slice of the table that begins with block `from` and ends where `share` of it lies before (1 and more: at its end), row by
    /// row: each one's hash is held against that of its key. So, unlike by sums, one slice can be compared today and the next one tomorrow, whatever is
    /// written in between. A row that moves to a block which was read is the next walk's; one that is not there shows itself to
    /// `compare_with_ledger` alone. One that takes longer than `within`, or in which more rows differ than are named, ends before `share`.
    pub async fn compare_slice(
        &self,
        sessions: &Sessions,
        (ledger, pairs_of): (&Sessions, i32),
        (from, share, within): (u32, f64, Duration),
        rest: &RestFor<'_>,
    ) -> Result<Slice, sqlx::Error> {
        let (key, hash) = self.known();
        let differ = Statement::new(format!(
            "select w.k, w.h, g.entity_id is null as new, {announced} as rev, g.platform_key as p \
             from unnest($2::text[], $3::bigint[]) as w (k, h) \
             left join lateral (select * from sync_bridge.pair g where g.entity_id = $1 and not g.gone and {key} = w.k offset 0) g on true \
             where ({hash}) is distinct from w.h",
            announced = self.announced(),
        ));
        let Blocks { largest: blocks, tables } = blocks(sessions, &self.table).await?.unwrap_or_default();
        // Each partition has blocks of these numbers.
        let step = (BLOCKS_OF_SLICE / tables.max(1)).max(1);
        let began = clock::instant();
        let (mut at, mut rows, mut unpaired) = (from, 0, 0);
        let (mut differing, mut carried_out) = (Named::default(), Vec::new());
        let mut parts = Parts::of(Some(blocks));
        let reach = loop {
            let Some(part) = part_of_slice(at, step, share, blocks) else {
                break Reach::Upto { block: at, done: share };
            };
            let part_began = clock::instant();
            let own = Statement::new(self.rows_of(part, &self.row_hash()));
            let (mut keys, mut hashes) = (Vec::new(), Vec::new());
            for row in sessions.fetch_all(self.start(&own)).await? {
                keys.push(row.try_get::<String, _>("k")?);
                hashes.push(row.try_get::<i64, _>("h")?);
            }
            rows += keys.len() as u64;
            let mut announced = Vec::new();
            for row in ledger.fetch_all(differ.query().bind(pairs_of).bind(keys).bind(hashes)).await? {
                unpaired += u64::from(row.try_get::<bool, _>("new")?);
                let key = row.try_get("k")?;
                match row.try_get("rev")? {
                    Some(rev) => {
                        announced.push(Announced {
                            key,
                            hash: row.try_get("h")?,
                            platform_key: row.try_get("p")?,
                            rev,
                        });
                    }
                    None => differing.add(key),
                }
            }
            carried_out.extend(self.carried_out(sessions, announced, &mut differing).await?);
            let Some(next) = part.upto else { break Reach::Rest };
            at = next;
            if began.elapsed() > within || differing.more || carried_out.len() >= KEYS_MAX {
                break Reach::Upto { block: at, done: (f64::from(at) / f64::from(blocks.max(1))).min(share) };
            }
            go_easy(&mut parts, part, part_began, rest).await;
        };
        differing.keys.sort_unstable();
        Ok(Slice { reach, rows, pairs: rows - unpaired, differing, carried_out })
    }

    /// Whether the table is so large that it is compared slice by slice; `None` if its rows cannot be read by their blocks, which would
    /// read the whole table each time before PostgreSQL 14.
    pub async fn has_slices(&self, sessions: &Sessions) -> Result<Option<bool>, sqlx::Error> {
        let is_new = Statement::new("select current_setting('server_version_num')::integer >= 140000".to_owned());
        let is_new = sessions.fetch_all(is_new.query()).await?.first().map(|row| row.try_get(0)).transpose()?;
        let blocks = blocks(sessions, &self.table).await?;
        Ok(blocks.filter(|_| is_new == Some(true)).map(|blocks| blocks.largest > BLOCKS_FIRST))
    }

    /// Key and hash that a pair `g` knows of its row on this side. Of a row of legacy's that somebody meant to write nothing is known before
    /// its receipt was asked: the write may not have come to pass. The platform's is known as it was then, if legacy's own row, which stood by then,
    /// is to tell whether it did; one without a stamp nobody but the comparison finds. And what a person is to decide about differs although nobody
    /// touched it.
    fn known(&self) -> (&'static str, &'static str) {
        match (self.side, &self.stamp) {
            (Side::Legacy, _) => {
                ("g.legacy_key", "case when g.next_base is null and g.listed is null then g.legacy_hash end")
            }
            (Side::Platform, Some(_)) => (
                "g.platform_key",
                "case when (g.next_base is null or g.legacy_hash is not null and not g.next_gone) and g.listed is null \
                 then g.platform_hash end",
            ),
            (Side::Platform, None) => {
                ("g.platform_key", "case when g.next_base is null and g.listed is null then g.platform_hash end")
            }
        }
    }

    /// The revision of a pair `g` of which legacy's receipt may say that its row was written. A row without a stamp is looked at whatever that
    /// says, as nothing else shows it once more.
    fn announced(&self) -> &'static str {
        match (self.side, &self.stamp) {
            (Side::Legacy, Some(_)) => "case when g.listed is null and not g.next_gone then g.rev end",
            _ => "null::bigint",
        }
    }

    /// Those of the intents that legacy's receipts call done, and whose rows are as they were left then; the keys of the others are added.
    async fn carried_out(
        &self,
        legacy: &Sessions,
        announced: Vec<Announced>,
        differing: &mut Named,
    ) -> Result<Vec<CarriedOut>, sqlx::Error> {
        let select = Statement::new(
            "select w.n, r.generation, r.stamp_written from unnest($2::text[], $3::bigint[], $4::bigint[]) \
             with ordinality as w (p, rev, h, n) \
             join lateral (select * from sync_bridge.receipt r where r.entity_id = $1 and r.platform_key = w.p offset 0) r \
             on r.rev = w.rev and r.done and r.row_hash = w.h"
                .to_owned(),
        );
        let mut carried_out = Vec::new();
        let mut left = announced.into_iter();
        loop {
            let some: Vec<Announced> = left.by_ref().take(STANDING_MAX).collect();
            if some.is_empty() {
                return Ok(carried_out);
            }
            let query = select
                .query()
                .bind(self.entity_number)
                .bind(some.iter().map(|one| one.platform_key.as_str()).collect::<Vec<_>>())
                .bind(some.iter().map(|one| one.rev).collect::<Vec<_>>())
                .bind(some.iter().map(|one| one.hash).collect::<Vec<_>>());
            let mut done: HashMap<i64, (i32, Option<DateTime<Utc>>)> = HashMap::new();
            for row in legacy.fetch_all(query).await? {
                done.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?));
            }
            for (n, Announced { key, hash, platform_key, rev }) in (1..).zip(some) {
                match done.get(&n) {
                    None => differing.add(key),
                    Some(&(generation, legacy_stamp)) => carried_out.push(CarriedOut {
                        platform_key: Key(platform_key),
                        rev,
                        legacy_key: Key(key),
                        generation,
                        legacy_hash: Some(hash),
                        legacy_stamp,
                    }),
                }
            }
        }
    }

    fn rows_of(&self, part: Part, hash: &str) -> String {
        format!(
            "select {key} as k, {hash} as h from {table} where true{scope}",
            key = self.key_text(),
            table = self.seen_part(part),
            scope = self.scope_sql(2),
        )
    }

    /// As `seen`, of a part of the table itself.
    fn seen_part(&self, part: Part) -> String {
        if part == Part::WHOLE {
            return self.seen();
        }
        self.joined(format!(
            "(select {read}, true as sync_bridge_seen from {table} as \"row\" where ({condition}){part}) t",
            read = self.read.join(", "),
            table = self.table,
            condition = self.filter.as_deref().unwrap_or("true"),
            part = part.sql("\"row\""),
        ))
    }

    /// Those of the keys under which a row stands, on whichever side of `where` it lies.
    pub async fn standing(&self, sessions: &Sessions, keys: &[Key]) -> Result<HashSet<Key>, sqlx::Error> {
        let mut standing = HashSet::new();
        for keys in keys.chunks(STANDING_MAX) {
            let sql = format!(
                "select distinct w.k from unnest(${own}::text[]) as w (k) join {table} t on {matched}{scope}",
                own = self.first_own(),
                table = self.table,
                matched = self.key_is("w.k"),
                scope = self.scope_sql(2),
            );
            let keys: Vec<&str> = keys.iter().map(|key| key.0.as_str()).collect();
            for row in sessions.fetch_all(self.start(&Statement::new(sql)).bind(keys)).await? {
                standing.insert(Key(row.try_get(0)?));
            }
        }
        Ok(standing)
    }

    /// The revisions that stand beside the rows: every write of ours raises one, so that a row which was written and is as before by now
    /// is not taken for one that nobody touched.
    fn ledger_sums(&self) -> String {
        format!(
            "select 1::bigint as lane, count(*) as rows, \
             (coalesce(sum(hashtextextended(g.platform_key || ' ' || g.rev, 0)), 0) % 9223372036854775807)::bigint as hash \
             from sync_bridge.{} g where g.entity_id = {}",
            self.store(),
            self.entity_number
        )
    }
}

/// The next part of a slice; none where the slice is over. Pure.
fn part_of_slice(from: u32, step: u32, share: f64, blocks: u32) -> Option<Part> {
    let next = from.saturating_add(step);
    if share >= 1.0 {
        // The last part has no end: the table may have grown by then.
        return Some(Part { from, upto: Some(next).filter(|next| *next < blocks) });
    }
    let end = (f64::from(blocks) * share) as u32;
    (from < end).then(|| Part { from, upto: Some(next.min(end)) })
}

fn bucket(key: &str) -> String {
    format!("(hashtextextended({key}, 0) & {})", BUCKETS - 1)
}

fn sum(sums: &str, rows: &str) -> Statement {
    Statement::new(format!("{sums} from ({rows}) t group by 1"))
}

fn add(sums: &mut Sums, rows: Vec<PgRow>) -> Result<(), sqlx::Error> {
    for row in rows {
        let (count, hash): (i64, i64) = (row.try_get("rows")?, row.try_get("hash")?);
        let known = sums.entry(row.try_get("bucket")?).or_default();
        let hash = (i128::from(known.1) + i128::from(hash)).rem_euclid(i128::from(MODULUS));
        *known = (known.0 + count, i64::try_from(hash).unwrap_or(0));
    }
    Ok(())
}

/// Where a table's rows lie.
#[derive(Debug, Clone, Copy, Default)]
struct Blocks {
    /// Of the largest of its partitions.
    largest: u32,
    /// How many partitions there are.
    tables: u32,
}

/// None where its rows are in no table of this database (a view, a foreign table).
async fn blocks(sessions: &Sessions, table: &str) -> Result<Option<Blocks>, sqlx::Error> {
    let sql = "with recursive part as (
                   select to_regclass($1)::oid as oid
                   union all select i.inhrelid from pg_inherits i join part on i.inhparent = part.oid
               )
               select case when bool_and(c.relkind in ('r', 'p'))
                      then max(pg_relation_size(c.oid)) / current_setting('block_size')::bigint end as blocks,
                      count(*) filter (where c.relkind = 'r') as tables
               from part join pg_class c on c.oid = part.oid";
    let rows = sessions.fetch_all(Statement::new(sql).query().bind(table)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (blocks, tables): (Option<i64>, i64) = (row.try_get("blocks")?, row.try_get("tables")?);
    let number = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(blocks.map(|blocks| Blocks { largest: number(blocks), tables: number(tables) }))
}

/// Between two parts: as long as the database was slow, and as others ask for.
async fn go_easy(parts: &mut Parts, part: Part, began: Instant, rest: &RestFor<'_>) {
    let slow = parts.took(part, began.elapsed().as_secs_f64());
    if part.upto.is_some() {
        clock::sleep(slow.max(rest().await)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_table_is_read_at_once_and_a_large_one_in_parts_that_take_about_as_long() {
        for blocks in [None, Some(0), Some(BLOCKS_FIRST)] {
            let mut parts = Parts::of(blocks);
            assert_eq!((parts.next(), parts.next()), (Some(Part::WHOLE), None), "{blocks:?}");
        }
        // A tenth of a second for each thousand blocks.
        let mut parts = Parts::of(Some(200_000));
        let (mut seen, mut longest) = (Vec::new(), 0.0_f64);
        while let Some(part) = parts.next() {
            let secs = f64::from(part.upto.unwrap_or(200_000) - part.from) / 10_000.0;
            assert_eq!(parts.took(part, secs), Duration::ZERO);
            (seen.push(part), longest = longest.max(secs)).1
        }
        assert!(seen.windows(2).all(|two| two[0].upto == Some(two[1].from)), "no gap: {seen:?}");
        assert_eq!((seen[0].from, seen.last().and_then(|part| part.upto)), (0, None), "from end to end");
        assert!(longest <= PART_SECS * 1.01 && seen.len() < 20, "{longest} {seen:?}");
    }

    #[test]
    fn after_a_part_that_was_slow_the_database_has_a_rest() {
        let mut parts = Parts::of(Some(1_000_000));
        let part = parts.next().expect("a part");
        assert_eq!(parts.took(part, 1.0), Duration::ZERO);
        let part = parts.next().expect("a part");
        assert_eq!(parts.took(part, 9.0), Duration::from_secs(9));
        assert!(parts.size < BLOCKS_FIRST, "and the next is smaller");
    }

    #[test]
    fn slices_meet_and_the_last_one_has_no_end() {
        let walk = |from: u32, share: f64, blocks: u32| {
            let mut parts: Vec<Part> = Vec::new();
            while let Some(part) = part_of_slice(parts.last().map_or(Some(from), |last| last.upto)?, 128, share, blocks)
            {
                parts.push(part);
                part.upto?;
            }
            Some(parts)
        };
        let parts = walk(0, 0.25, 1600).expect("an end");
        assert_eq!(parts.first().map(|part| part.from), Some(0));
        assert!(parts.windows(2).all(|two| two[0].upto == Some(two[1].from)), "no gap: {parts:?}");
        assert_eq!(parts.last().and_then(|part| part.upto), Some(400));
        assert_eq!(walk(400, 0.25, 1600), Some(vec![]), "it is done");
        assert_eq!(
            part_of_slice(400, 128, 0.26, 1600),
            Some(Part { from: 400, upto: Some(416) }),
            "from where it ended"
        );
        assert_eq!(part_of_slice(1500, 128, 1.2, 1600), Some(Part { from: 1500, upto: None }));
        assert_eq!(part_of_slice(1500, 128, 1.2, 800), Some(Part { from: 1500, upto: None }), "it is smaller by now");
    }

    #[test]
    fn sums_of_parts_are_compared_whatever_the_parts_were() {
        let sum = |parts: &[i64]| {
            parts.iter().fold(0_i128, |sum, hash| (sum + i128::from(*hash)).rem_euclid(i128::from(MODULUS)))
        };
        assert_eq!(sum(&[-5, 3]), sum(&[-2]));
        assert_eq!(sum(&[i64::MAX - 1, 5]), sum(&[4]));
    }
}
