//! A whole table held against the ledger: its rows are compared with the hashes that the pairs keep of them, bucket by bucket, each
//! bucket summed up by its own database; only the rows of buckets that differ are named. So changes are found where rows have no
//! stamp, and a sweep finds what no stamp shows: silent writes, and rows that are not there any more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::config::Side;
use crate::keyset::{Key, Signature};

use super::super::{Sessions, Statement};
use super::{TableSql, sums_over};

/// Few enough to be answered in one go, and of a table of ten million rows each still holds but 600.
const BUCKETS: i64 = 16_384;

/// Rows whose hashes are held in memory at a time.
const HELD_MAX: i64 = 100_000;

/// Keys that are named one by one; where more rows differ, the whole table is read.
const KEYS_MAX: usize = 100_000;

/// Keys that are asked for in one statement.
const STANDING_MAX: usize = 10_000;

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

/// By bucket: count and sum of hashes.
type Sums = BTreeMap<i64, (i64, i64)>;

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
    /// holds the pairs, in which the entity has the number `pairs_of`. What is written meanwhile may be named too.
    pub async fn compare_with_ledger(
        &self,
        sessions: &Sessions,
        ledger: &Sessions,
        pairs_of: i32,
        depth: Depth,
    ) -> Result<Compared, sqlx::Error> {
        let (key, hash) = match self.side {
            Side::Legacy => ("legacy_key", "legacy_hash"),
            Side::Platform => ("platform_key", "platform_hash"),
        };
        let hash_of = |hash: String| if depth == Depth::Rows { hash } else { "0::bigint".to_owned() };
        // Of a pair that somebody meant to write nothing is known before it is looked at: the write may not have come to pass.
        let known = format!(
            "select g.{key} as k, {hash} as h from sync_bridge.pair g \
             where g.entity_id = $1 and not g.gone and g.{key} is not null",
            hash = hash_of(format!("case when g.next_base is null then g.{hash} end")),
        );
        let own = format!(
            "select {key} as k, {hash} as h from {table} where true{scope}",
            key = self.key_text(),
            hash = hash_of(self.row_hash()),
            table = self.seen(),
            scope = self.scope_sql(2),
        );
        let sums = format!(
            "select {bucket} as bucket, count(*) as rows, \
             (sum(hashtextextended(k || ' ' || coalesce(h::text, ''), 0)) % 9223372036854775807)::bigint as hash",
            bucket = bucket("k"),
        );
        // The ledger first: a row is there before its pair is.
        let of_ledger = summed(ledger.fetch_all(sum(&sums, &known).query().bind(pairs_of)).await?)?;
        let of_side = summed(sessions.fetch_all(self.start(&sum(&sums, &own))).await?)?;
        let count = |sums: &Sums| sums.values().map(|(count, _)| u64::try_from(*count).unwrap_or(0)).sum();
        let (rows, pairs) = (count(&of_side), count(&of_ledger));

        let (mut differing, mut missing) = (Named::default(), Named::default());
        let buckets: BTreeSet<i64> = of_side.keys().chain(of_ledger.keys()).copied().collect();
        let unequal = buckets.into_iter().filter(|bucket| of_side.get(bucket) != of_ledger.get(bucket));
        let held = |bucket: i64| {
            let count = |sums: &Sums| sums.get(&bucket).map_or(0, |(count, _)| *count);
            count(&of_side).max(count(&of_ledger))
        };
        let mut unequal = unequal.peekable();
        while unequal.peek().is_some() && !(differing.more && missing.more) {
            let (mut buckets, mut rows) = (Vec::new(), 0);
            while let Some(bucket) = unequal.next_if(|bucket| rows == 0 || rows + held(*bucket) <= HELD_MAX) {
                rows += held(bucket);
                buckets.push(bucket);
            }
            let only = |select: &str, first: usize| {
                Statement::new(format!("select k, h from ({select}) t where {} = any(${first})", bucket("k")))
            };
            let query = only(&known, 2).query().bind(pairs_of).bind(buckets.clone());
            let mut known_rows: HashMap<String, Option<i64>> = HashMap::new();
            for row in ledger.fetch_all(query).await? {
                known_rows.insert(row.try_get("k")?, row.try_get("h")?);
            }
            for row in sessions.fetch_all(self.start(&only(&own, self.first_own())).bind(buckets)).await? {
                let (key, hash): (String, i64) = (row.try_get("k")?, row.try_get("h")?);
                if known_rows.remove(&key) != Some(Some(hash)) {
                    differing.add(key);
                }
            }
            known_rows.into_keys().for_each(|key| missing.add(key));
        }
        differing.keys.sort_unstable();
        missing.keys.sort_unstable();
        Ok(Compared { rows, pairs, differing, missing })
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

fn bucket(key: &str) -> String {
    format!("(hashtextextended({key}, 0) & {})", BUCKETS - 1)
}

fn sum(sums: &str, rows: &str) -> Statement {
    Statement::new(format!("{sums} from ({rows}) t group by 1"))
}

fn summed(rows: Vec<PgRow>) -> Result<Sums, sqlx::Error> {
    rows.iter().map(|row| Ok((row.try_get("bucket")?, (row.try_get("rows")?, row.try_get("hash")?)))).collect()
}
