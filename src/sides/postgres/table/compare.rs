//! Finding changes in a table whose rows have no stamp: its rows are compared with the hashes that the ledger keeps of them, bucket
//! by bucket, each bucket summed up by its own database. Never: a row that is not there; an absence has no time, and is the sweep's.

use std::collections::{BTreeMap, HashMap};
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

/// Keys that are named one by one; where more differ, the whole table is read.
const KEYS_MAX: usize = 100_000;

/// How wrong a clock may be before it counts as set back.
const CLOCK_SLACK_SECS: u32 = 60;

/// What a comparison found.
#[derive(Debug, PartialEq, Eq)]
pub enum Compared {
    /// Rows that are not as the ledger knows them.
    Keys(Vec<Key>),
    /// More than can be named.
    Most,
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

    /// The keys of rows that the ledger does not know, or knows with another hash, or without one. `ledger` are sessions of the platform
    /// database that holds the pairs, in which the entity has the number `pairs_of`.
    pub async fn compare_with_ledger(
        &self,
        sessions: &Sessions,
        ledger: &Sessions,
        pairs_of: i32,
    ) -> Result<Compared, sqlx::Error> {
        let (key, hash) = match self.side {
            Side::Legacy => ("legacy_key", "legacy_hash"),
            Side::Platform => ("platform_key", "platform_hash"),
        };
        let known = format!(
            "select g.{key} as k, g.{hash} as h from sync_bridge.pair g where g.entity_id = $1 and not g.gone and g.{key} is not null"
        );
        let own = format!(
            "select {key} as k, {hash} as h from {table} where true{scope}",
            key = self.key_text(),
            hash = self.row_hash(),
            table = self.seen(),
            scope = self.scope_sql(2),
        );
        let sums = format!(
            "select {bucket} as bucket, count(*) as rows, \
             (sum(hashtextextended(k || ' ' || coalesce(h::text, ''), 0)) % 9223372036854775807)::bigint as hash",
            bucket = bucket("k"),
        );
        let of_side = summed(sessions.fetch_all(self.start(&sum(&sums, &own))).await?)?;
        let of_ledger = summed(ledger.fetch_all(sum(&sums, &known).query().bind(pairs_of)).await?)?;

        let mut keys = Vec::new();
        let mut differing = of_side.into_iter().filter(|(bucket, sum)| of_ledger.get(bucket) != Some(sum)).peekable();
        while differing.peek().is_some() {
            let (mut buckets, mut rows) = (Vec::new(), 0);
            while let Some((bucket, (count, _))) =
                differing.next_if(|(_, (count, _))| rows == 0 || rows + count <= HELD_MAX)
            {
                buckets.push(bucket);
                rows += count;
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
                if known_rows.get(&key) != Some(&Some(hash)) {
                    keys.push(Key(key));
                }
            }
            if keys.len() > KEYS_MAX {
                return Ok(Compared::Most);
            }
        }
        keys.sort_unstable();
        Ok(Compared::Keys(keys))
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
