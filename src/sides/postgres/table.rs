//! Every statement on an entity's table of one side, together with the ledger rows (platform) or receipts (legacy) that
//! stand beside it. The same shape serves both sides; row and ledger row always come from one statement, one snapshot.

mod compare;
mod further;

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _, ValueRef as _};

use crate::config::{self, Side};
use crate::keyset::{Key, Lane, Position, Range, Signature};
use crate::mapping::{Cell, Class, DIGITS, LookUp, Shape, StampKind};
use crate::pairs::{Base, Complement, Intent, Listed, Pair, Receipt};

pub use compare::{Compared, Depth, Reach, Slice};

use further::{Further, Rows};

use super::{LiveColumn, LiveTable, Query, Sessions, Statement, ident};

/// A row of an entity's table: what is mapped of it, as the database prints it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub key: Key,
    pub stamp: Cell,
    /// When the record was made, if that is declared and known.
    pub created_at: Cell,
    /// The database's own hash of the mapped columns.
    pub hash: i64,
    /// In the order of `Shape::columns`.
    pub cells: Vec<Cell>,
    /// The column whose bytes are no text: a database of the encoding SQL_ASCII keeps whatever it is given.
    pub garbled: Option<usize>,
    /// Whether `where` lets it be seen; a row that is read by its key may lie outside.
    pub seen: bool,
    /// The further tables that have no row of it.
    pub lacks: Vec<usize>,
}

/// A row to be written.
#[derive(Debug, Clone, Copy)]
pub struct Put<'r> {
    pub key: &'r str,
    /// In the order of `Shape::columns`.
    pub cells: &'r [Cell],
    /// Of one that stands: as it was when it was locked.
    pub lacks: &'r [usize],
}

impl Row {
    /// Whether it is as it was at an earlier look: what is mapped of it, where that lies, and on which side of `where` it lies.
    pub fn is_as(&self, before: &Row) -> bool {
        self.cells == before.cells && self.seen == before.seen && self.lacks == before.lacks
    }
}

/// What stands beside a row: a pair on the platform, a receipt on legacy.
#[derive(Debug, Clone, PartialEq)]
pub enum LedgerRow {
    Pair(Pair),
    Receipt(Receipt),
}

/// The statements of one table for one customer. Parameters: $1 the entity's number, then the scope's values, then each statement's own.
#[derive(Debug)]
pub struct TableSql {
    of: Arc<TableParts>,
    scope_values: Vec<String>,
    entity_number: i32,
}

impl Deref for TableSql {
    type Target = TableParts;

    fn deref(&self) -> &TableParts {
        &self.of
    }
}

/// What statements on a table are made of. The same for all customers with the same table.
#[derive(Debug, PartialEq)]
pub struct TableParts {
    side: Side,
    /// Quoted, qualified.
    table: String,
    keys: Vec<SqlColumn>,
    /// Quoted; none: rows have no stamp.
    stamp: Option<String>,
    stamp_kind: StampKind,
    /// As text.
    created_at: Option<String>,
    lowers_ascii_only: bool,
    columns: Vec<SqlColumn>,
    /// The columns' types with length and precision.
    declared: Vec<String>,
    /// Each holds one value in all of a customer's rows.
    scope: Vec<SqlColumn>,
    /// Key columns that may be NULL all the same.
    nullable_keys: Vec<String>,
    /// Positions of columns that an update may set.
    updatable: Vec<usize>,
    /// `where`, as the operator wrote it.
    filter: Option<String>,
    /// The columns that our statements read of the table, quoted.
    read: Vec<String>,
    /// What else there is of each row.
    further: Vec<Further>,
    /// An index tells its rows apart by their keys.
    is_keyed: bool,
    /// Its statements may answer what they stored.
    is_plain: bool,
    /// By the name of a unique index: the position of a column of it, and what it can hold for the moment in which values change places.
    asides: HashMap<String, (usize, String)>,
}

/// A column, and how it is compared.
#[derive(Debug, PartialEq)]
struct SqlColumn {
    /// Quoted.
    name: String,
    type_sql: String,
    /// Compared and ordered as its text: the type's own operators (citext's, say) are not the catalogue's. Which operators an
    /// expression meets would depend on the search path, and an `order by` would go by others than a comparison.
    as_text: bool,
    /// Its values may hold any character.
    is_free_text: bool,
    /// The table's value as text, in the spelling that keys have.
    spelled: String,
}

impl SqlColumn {
    fn of(live: &LiveTable, name: &str, type_sql: &str) -> SqlColumn {
        let as_text = live.column(name).is_some_and(|column| column.foreign_order);
        let class = live.column(name).map_or(Class::Other, |column| column.class);
        let is_free_text = matches!(class, Class::Text | Class::Json | Class::Other);
        let own = format!("t.{}", ident(name));
        let spelled = live.column(name).map_or_else(|| format!("{own}::text"), |column| key_spelling(column, &own));
        SqlColumn { name: ident(name), type_sql: type_sql.to_owned(), as_text, is_free_text, spelled }
    }

    /// The table's value.
    fn own(&self) -> String {
        self.in_row("t")
    }

    /// The value of a row of this name.
    fn in_row(&self, row: &str) -> String {
        format!("{row}.{}{}", self.name, self.suffix())
    }

    /// A value given as text, to be compared with the table's.
    fn given(&self, text: &str) -> String {
        format!("({text})::{}{}", self.type_sql, self.suffix())
    }

    fn suffix(&self) -> &'static str {
        if self.as_text { "::text" } else { "" }
    }
}

/// A column that holds one value in all rows that are ours, and the value as the database prints it.
#[derive(Debug, Clone)]
pub struct ScopeValue {
    pub column: String,
    pub type_sql: String,
    pub value: String,
}

/// Whose letters are lowered when texts are compared without their case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lower {
    /// As the database's locale does it, which an index on `lower(…)` follows.
    OfDatabase,
    /// All of Unicode's, as the lens does it; reads the whole table.
    OfUnicode,
}

/// Unicode's rules, whatever the database's locale.
const UNICODE: &str = "pg_catalog.\"und-x-icu\"";
/// What lens `trim` takes away.
const MARGIN: &str = "E' \\t\\n\\r\\x0b\\f'";

/// Which rows to read by key: by own key where known, by the ledger otherwise.
#[derive(Debug, Clone, Default)]
pub struct Want {
    pub legacy_key: Option<Key>,
    pub platform_key: Option<Key>,
}

/// One answer to a want; a want may have several ledger rows.
#[derive(Debug)]
pub struct Found {
    /// Position of the want.
    pub want: usize,
    pub ledger: Option<LedgerRow>,
    pub row: Option<Arc<Row>>,
}

impl TableParts {
    /// `written`: the columns of the shape that are ever written; `constants`: what new rows begin with in some. `live` is all tables
    /// of a row as one.
    pub fn new(
        (shape, written, constants): (&Shape, &[usize], &[(usize, &str)]),
        live: &LiveTable,
        table: &config::Table,
        scope: &[ScopeValue],
    ) -> Self {
        let quoted = |columns: &[crate::mapping::Column]| {
            columns.iter().map(|column| SqlColumn::of(live, &column.name, &column.type_sql)).collect::<Vec<_>>()
        };
        let read = shape.key.iter().chain(&shape.columns).chain(&shape.stamp).chain(&shape.created_at);
        let read = read.map(|column| &column.name).chain(scope.iter().map(|value| &value.column));
        let read = read.filter(|name| table.locate(name).0.is_none());
        let is_own = |at: usize| table.locate(&shape.columns[at].name).0.is_none();
        let of_key = |name: &String| shape.key.iter().any(|key| key.name == *name);
        let in_scope = |name: &String| scope.iter().any(|fixed| fixed.column == *name);
        let is_keyed = live.apart.iter().any(|columns| columns.iter().all(|name| of_key(name) || in_scope(name)));
        // A new row's key may have another value than the scope's; only a look under the scope finds that out.
        let is_whole =
            table.filter.is_none() && table.also.is_empty() && !scope.iter().any(|fixed| of_key(&fixed.column));
        let mut columns = quoted(&shape.columns);
        for (at, column) in columns.iter_mut().enumerate().filter(|(at, _)| !is_own(*at)) {
            column.name = further::column(at);
        }
        TableParts {
            side: shape.side,
            table: qualified(table),
            keys: quoted(&shape.key),
            filter: table.filter.clone(),
            read: read.map(|name| ident(name)).collect::<BTreeSet<_>>().into_iter().collect(),
            further: Further::all((shape, written, constants), live, table, scope),
            is_plain: live.is_plain && is_keyed && is_whole,
            is_keyed,
            stamp: shape.stamp.as_ref().map(|column| ident(&column.name)),
            stamp_kind: shape.stamp_kind,
            lowers_ascii_only: live.lowers_ascii_only,
            created_at: shape
                .created_at
                .as_ref()
                .map(|column| SqlColumn::of(live, &column.name, &column.type_sql).spelled),
            columns,
            declared: shape
                .columns
                .iter()
                .map(|column| live.column(&column.name).map_or(&column.type_sql, |live| &live.type_shown).clone())
                .collect(),
            scope: scope.iter().map(|fixed| SqlColumn::of(live, &fixed.column, &fixed.type_sql)).collect(),
            nullable_keys: shape.key.iter().filter(|key| key.nullable).map(|key| ident(&key.name)).collect(),
            updatable: written.iter().copied().filter(|&at| is_own(at) && !shape.is_key(at)).collect(),
            asides: live
                .uniques
                .iter()
                .filter_map(|(name, columns)| Some((name.clone(), aside((shape, live), written, columns)?)))
                .collect(),
        }
    }
}

impl TableSql {
    pub fn new(of: Arc<TableParts>, scope: Vec<ScopeValue>, entity_number: i32) -> TableSql {
        TableSql { of, scope_values: scope.into_iter().map(|fixed| fixed.value).collect(), entity_number }
    }

    pub fn entity_number(&self) -> i32 {
        self.entity_number
    }

    /// Whether the database's own `lower` leaves all letters beyond ASCII as they are.
    pub fn lowers_ascii_only(&self) -> bool {
        self.lowers_ascii_only
    }

    /// The rows of a range in its order, at most `limit`, each with what stands beside it.
    pub async fn read_range(&self, sessions: &Sessions, range: &Range, limit: i64) -> Result<Vec<Found>, sqlx::Error> {
        let mut next = self.first_own();
        let bounds = self.within(range, &mut next);
        let sql = format!(
            "select 0::bigint as n, {ledger}, {row} from {table} {beside} where true{scope}{bounds} order by {order} limit ${next}",
            ledger = self.ledger_columns(),
            row = self.row_columns(),
            table = self.seen(),
            beside = self.ledger_beside(),
            scope = self.scope_sql(2),
            order = self.order(range.lane),
        );
        let statement = Statement::new(sql);
        let rows = sessions.fetch_all(self.bind_range(self.start(&statement), range).bind(limit)).await?;
        rows.iter().map(|row| self.found(row)).collect()
    }

    /// Whether the row of this key lies in the range, as it is by now.
    pub async fn lies_in(&self, sessions: &Sessions, key: &Key, range: &Range) -> Result<bool, sqlx::Error> {
        let mut next = self.first_own();
        let bounds = self.within(range, &mut next);
        let statement = Statement::new(format!(
            "select exists (select from {} where {}{}{bounds})",
            self.seen(),
            self.key_is(&format!("${next}")),
            self.scope_sql(2)
        ));
        let query = self.bind_range(self.start(&statement), range).bind(key.0.clone());
        sessions.fetch_all(query).await?.first().map_or(Ok(false), |row| row.try_get(0))
    }

    /// The bounds of a range, from parameter `next` on, for [`Self::bind_range`].
    fn within(&self, range: &Range, next: &mut usize) -> String {
        let mut bounds = String::new();
        let mut of_stamps = Vec::new();
        for (operator, bound) in [(">", &range.after), ("<=", &range.upto)] {
            if bound.is_some() {
                of_stamps.push(format!("{}= ${next}::{}", &operator[..1], self.stamp_type()));
                bounds.push_str(&format!(" and {}", self.compare(range.lane, operator, next)));
            }
        }
        if range.lane == Lane::Stamp && !of_stamps.is_empty() {
            let within = |stamp: &str| format!("{stamp} {}", of_stamps.join(&format!(" and {stamp} ")));
            bounds.push_str(&self.with_any_stamp(2, within));
        }
        if range.lane == Lane::Null {
            bounds.push_str(&format!(" and {}", self.unstamped(2)));
        }
        bounds
    }

    fn bind_range<'q>(&self, query: Query<'q>, range: &Range) -> Query<'q> {
        let bounds = [&range.after, &range.upto].into_iter().flatten();
        bounds.fold(query, |query, bound| self.bind_position(query, range.lane, bound))
    }

    /// The key in the one spelling that the ledgers know, whatever of the column's own somebody wrote.
    pub async fn spelled(&self, sessions: &Sessions, key: &Key) -> Result<Key, sqlx::Error> {
        let own = format!("${}", self.first_own());
        let parts: Vec<String> = (self.keys.iter().enumerate())
            .map(|(at, key)| format!("({})::{} as {}", self.key_part(&own, at), key.type_sql, key.name))
            .collect();
        let statement = Statement::new(format!("select {} from (select {}) t", self.key_text(), parts.join(", ")));
        let rows = sessions.fetch_all(self.start(&statement).bind(key.0.clone())).await?;
        rows.first().map_or_else(|| Ok(key.clone()), |row| Ok(Key(row.try_get(0)?)))
    }

    /// Rows and what stands beside them, by key, both ways outer: ledger rows without a row, rows without a ledger row. A want that
    /// finds neither has no answer.
    pub async fn read_keys(&self, sessions: &Sessions, wants: &[Want]) -> Result<Vec<Found>, sqlx::Error> {
        let own = self.first_own();
        let hits = match self.side {
            // A tombstone and a living pair may both answer to a legacy key.
            Side::Platform => {
                "select p.* from sync_bridge.pair p where p.entity_id = $1 and p.platform_key = w.platform_key \
                 union all \
                 select p.* from sync_bridge.pair p where p.entity_id = $1 and p.legacy_key = w.legacy_key \
                 and not p.gone and p.platform_key is distinct from w.platform_key \
                 union all \
                 select p.* from sync_bridge.pair p where p.entity_id = $1 and p.legacy_key = w.legacy_key \
                 and p.gone and p.platform_key is distinct from w.platform_key"
            }
            Side::Legacy => {
                "select r.* from sync_bridge.receipt r where r.entity_id = $1 and r.platform_key = w.platform_key \
                 union all \
                 select r.* from sync_bridge.receipt r where r.entity_id = $1 and r.legacy_key = w.legacy_key \
                 and r.platform_key is distinct from w.platform_key"
            }
        };
        let key = match self.side {
            Side::Platform => "coalesce(g.platform_key, w.platform_key)",
            Side::Legacy => "coalesce(w.legacy_key, g.legacy_key)",
        };
        let sql = format!(
            "select w.n, {ledger}, {row} \
             from unnest(${own}::text[], ${}::text[]) with ordinality as w (legacy_key, platform_key, n) \
             left join lateral ({hits}) g on true \
             left join lateral (select ({key}) collate pg_catalog.\"default\" as k) q on true left {found} where g.rev is not null or t.{one} is not null order by w.n",
            own + 1,
            one = self.keys[0].name,
            ledger = self.ledger_columns(),
            row = self.row_columns(),
            // The ledger's collation is not the column's, whose index serves only its own.
            found = self.join_by_key("q.k"),
        );
        let legacy: Vec<Option<&str>> = wants.iter().map(|want| want.legacy_key.as_ref().map(|key| &*key.0)).collect();
        let platform: Vec<Option<&str>> =
            wants.iter().map(|want| want.platform_key.as_ref().map(|key| &*key.0)).collect();
        let rows = sessions.fetch_all(self.start(&Statement::new(sql)).bind(legacy).bind(platform)).await?;
        rows.iter().map(|row| self.found(row)).collect()
    }

    /// Rows without a ledger row (or with any, to be judged by the caller) whose column `on` holds one of `values`;
    /// several columns are matched together, row by row.
    pub async fn read_candidates(
        &self,
        sessions: &Sessions,
        on: &[(usize, LookUp)],
        values: &[Vec<Option<&str>>],
        lower: Lower,
    ) -> Result<Vec<Found>, sqlx::Error> {
        let own = self.first_own();
        let arrays: Vec<String> = (0..on.len()).map(|at| format!("${}::text[]", own + at)).collect();
        let names: Vec<String> = (0..on.len()).map(|at| format!("v{at}")).collect();
        let matched: Vec<String> = on
            .iter()
            .enumerate()
            .map(|(at, &(column, look_up))| {
                let column = &self.columns[column];
                let as_text = look_up.caseless || (look_up.lowercase && lower == Lower::OfUnicode);
                let own = match (look_up.trim, as_text) {
                    (false, false) => column.own(),
                    (false, true) => format!("t.{}::text", column.name),
                    (true, _) => format!("btrim(t.{}::text, {MARGIN})", column.name),
                };
                match (look_up.lowercase, lower) {
                    (true, Lower::OfDatabase) => format!("lower({own}) = w.v{at}"),
                    (true, Lower::OfUnicode) => format!("lower({own} collate {UNICODE}) = w.v{at}"),
                    (false, _) if look_up.caseless => format!("lower({own}) = lower(w.v{at})"),
                    (false, _) if look_up.trim => format!("{own} = w.v{at}"),
                    (false, _) => format!("{own} = {}", column.given(&format!("w.v{at}"))),
                }
            })
            .collect();
        let sql = format!(
            "with want as (select * from unnest({}) with ordinality as w ({}, n)) \
             select w.n, {ledger}, {row} from want w join {table} on {matched}{scope} {beside} order by w.n, {key}",
            arrays.join(", "),
            names.join(", "),
            ledger = self.ledger_columns(),
            row = self.row_columns(),
            table = self.seen(),
            matched = matched.join(" and "),
            scope = self.scope_sql(2),
            beside = self.ledger_beside(),
            key = self.key_text(),
        );
        let statement = Statement::new(sql);
        let mut query = self.start(&statement);
        for column in values {
            query = query.bind(column);
        }
        let rows = sessions.fetch_all(query).await?;
        rows.iter().map(|row| self.found(row)).collect()
    }

    /// Up to `rows_max` rows: the newest half, and others from all over the table (where there are many, roughly so many). For looking
    /// at only.
    pub async fn sample(&self, sessions: &Sessions, rows_max: u32) -> Result<Vec<Row>, sqlx::Error> {
        let own = self.first_own();
        let newest = self.stamp.as_ref().map_or(String::new(), |stamp| format!(" order by t.{stamp} desc nulls last"));
        let sql = format!(
            "select * from (select {row} from {seen} where true{scope}{newest} limit ${own}) newest \
             union \
             select * from (select {row} from {seen} where random() < ${chance} / greatest(1, (select reltuples from pg_class \
             where oid = ${name}::regclass)){scope} limit ${own}) others",
            row = self.row_columns(),
            seen = self.seen(),
            scope = self.scope_sql(2),
            chance = own + 1,
            name = own + 2,
        );
        let half = i64::from(rows_max / 2).max(1);
        let query = self.start(&Statement::new(sql)).bind(half).bind(half as f64).bind(self.table.clone());
        let rows = sessions.fetch_all(query).await?;
        rows.iter().filter_map(|row| self.row(row).transpose()).collect()
    }

    /// Locks rows against other writers, in key order, and answers what they hold now. One that others hold is left out like one that
    /// is not there: nobody waits for it.
    pub async fn lock(&self, connection: &mut PgConnection, keys: &[&str]) -> Result<Vec<Row>, sqlx::Error> {
        if !self.further.is_empty() {
            return self.lock_all(connection, keys).await;
        }
        self.by_keys(connection, keys, " for no key update of t skip locked", &[]).await
    }

    /// What is stored.
    pub async fn stored(&self, connection: &mut PgConnection, keys: &[&str]) -> Result<Vec<Row>, sqlx::Error> {
        self.by_keys(connection, keys, "", &[]).await
    }

    /// `held`: for each further table the keys whose rows are ours; a record with one that is not is left out.
    async fn by_keys(
        &self,
        connection: &mut PgConnection,
        keys: &[&str],
        lock: &str,
        held: &[Vec<String>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let own = self.first_own();
        let ours: String = (0..held.len()).map(|n| further::is_held(n, own + 1 + n)).collect();
        let sql = format!(
            "select {row} from unnest(${own}::text[]) as w (k) {found}{ours} order by {order}{lock}",
            row = self.row_columns(),
            // A lock is taken of the table itself, in the order of the keys.
            found = match lock {
                "" => self.join_by_key("w.k"),
                _ => format!("join {} on {}{}", self.marked(), self.key_is("w.k"), self.scope_sql(2)),
            },
            order = self.order(Lane::Whole),
        );
        let asked: BTreeSet<&str> = keys.iter().copied().collect();
        let asked: Vec<&str> = asked.into_iter().collect();
        let query = self.start(&Statement::new(sql)).bind(asked);
        let rows = held.iter().fold(query, |query, held| query.bind(held.clone())).fetch_all(connection).await?;
        self.one_each(&rows)
    }

    /// The rows, without those whose key names several: it names none that may be written, as one edit would go over all of them.
    fn one_each(&self, rows: &[PgRow]) -> Result<Vec<Row>, sqlx::Error> {
        let mut found: Vec<Row> = Vec::with_capacity(rows.len());
        for row in rows {
            found.push(self.row(row)?.ok_or(sqlx::Error::RowNotFound)?);
        }
        let mut seen: HashMap<&Key, u32> = HashMap::with_capacity(found.len());
        for row in &found {
            *seen.entry(&row.key).or_default() += 1;
        }
        if seen.len() < found.len() {
            let twins: BTreeSet<Key> =
                seen.iter().filter(|(_, times)| **times > 1).map(|(key, _)| (*key).clone()).collect();
            found.retain(|row| !twins.contains(&row.key));
        }
        Ok(found)
    }

    /// What a statement that writes is to answer, with the number of the parameter that names the table.
    fn returning(&self, parameter: usize) -> String {
        if !self.is_plain {
            return String::new();
        }
        format!(
            " returning not exists (select from pg_catalog.pg_trigger g where g.tgrelid = {of} and g.tgenabled <> 'D' \
             and not (g.tgisinternal and g.tgconstraint <> 0)) \
             and not exists (select from pg_catalog.pg_rewrite w where w.ev_class = {of}) \
             and not exists (select from pg_catalog.pg_inherits h where h.inhparent = {of}) \
             and not exists (select from pg_catalog.pg_constraint f where f.contype = 'f' and f.conrelid = {of} and f.confrelid = {of} \
             and f.confupdtype in ('c', 'n', 'd')) as t_final, {}",
            self.row_columns(),
            of = format_args!("${parameter}::regclass"),
        )
    }

    /// Runs a statement with `returning`; answers the rows as they are stored, unless something may come in between or after, a trigger say.
    async fn write(&self, connection: &mut PgConnection, query: Query<'_>) -> Result<Option<Vec<Row>>, sqlx::Error> {
        if !self.is_plain {
            query.execute(connection).await?;
            return Ok(None);
        }
        let rows = query.bind(self.table.clone()).fetch_all(connection).await?;
        match rows.first().map(|row| row.try_get("t_final")).transpose()? {
            Some(true) => self.one_each(&rows).map(Some),
            _ => Ok(None),
        }
    }

    /// Sets the mapped columns (never the key) and the stamp of rows; answers the rows as they are stored, if the statement knows.
    pub async fn update(
        &self,
        connection: &mut PgConnection,
        rows: &[Put<'_>],
    ) -> Result<Option<Vec<Row>>, sqlx::Error> {
        let elsewhere = self.write_further(connection, rows, Rows::Locked, |_| true).await?;
        let own = self.first_own();
        let mut arrays = vec![format!("${own}::text[]")];
        let mut names = vec!["k".to_string()];
        let mut sets = Vec::new();
        for (at, &column) in self.updatable.iter().enumerate() {
            let SqlColumn { name, type_sql, .. } = &self.columns[column];
            arrays.push(format!("${}::text[]", own + 1 + at));
            names.push(format!("v{at}"));
            sets.push(format!("{name} = v.v{at}::{type_sql}"));
        }
        sets.extend(self.stamp.iter().map(|stamp| format!("{stamp} = {}", self.now())));
        if sets.is_empty() {
            return Ok(None);
        }
        let sql = format!(
            "update {table} t set {sets} from unnest({arrays}) as v ({names}) where {matched}{scope}{changed}{returning}",
            returning = self.returning(own + 1 + self.updatable.len()),
            table = self.table,
            sets = sets.join(", "),
            arrays = arrays.join(", "),
            names = names.join(", "),
            matched = self.key_is("v.k"),
            scope = self.scope_sql(2),
            changed = self.changed_here(own + 1 + self.updatable.len()),
        );
        let statement = Statement::new(sql);
        let mut query = self.start(&statement).bind(rows.iter().map(|row| row.key).collect::<Vec<_>>());
        for &column in &self.updatable {
            query = query.bind(rows.iter().map(|row| row.cells[column].as_deref()).collect::<Vec<_>>());
        }
        if !self.further.is_empty() {
            query = query.bind(elsewhere);
        }
        self.write(connection, query).await
    }

    /// Whether rows can make room in this unique index for values that change places among them.
    pub fn can_set_aside(&self, index: &str) -> bool {
        self.asides.contains_key(index)
    }

    /// Takes the rows' values out of a unique index, for the moment before they are all written anew.
    pub async fn set_aside(
        &self,
        connection: &mut PgConnection,
        index: &str,
        keys: &[&str],
    ) -> Result<(), sqlx::Error> {
        let Some((at, holder)) = self.asides.get(index) else { return Ok(()) };
        let (table, column, matched) = match self.placed(*at) {
            None => (&self.table, &self.columns[*at].name, format!("{}{}", self.key_is("w.k"), self.scope_sql(2))),
            Some((further, column)) => (&further.table, column, self.key_is_of(further, "w.k")),
        };
        let sql = format!(
            "update {table} t set {column} = {holder} from unnest(${own}::text[]) with ordinality as w (k, n) where {matched}",
            own = self.first_own(),
        );
        self.start(&Statement::new(sql)).bind(keys).execute(connection).await?;
        Ok(())
    }

    /// Inserts rows under their keys, with the scope's fixed values, stamped now; answers as [`Self::update`].
    pub async fn insert(
        &self,
        connection: &mut PgConnection,
        rows: &[Put<'_>],
    ) -> Result<Option<Vec<Row>>, sqlx::Error> {
        let own = self.first_own();
        let mut arrays = vec![format!("${own}::text[]")];
        let mut names = vec!["k".to_string()];
        let (mut targets, mut values) = (Vec::new(), Vec::new());
        // The key is what the ledger knows the row by, whoever gave its parts.
        for (at, key) in self.keys.iter().enumerate() {
            targets.push(key.name.clone());
            values.push(format!("({})::{}", self.key_part("v.k", at), key.type_sql));
        }
        for (at, &column) in self.updatable.iter().enumerate() {
            let SqlColumn { name, type_sql, .. } = &self.columns[column];
            arrays.push(format!("${}::text[]", own + 1 + at));
            names.push(format!("v{at}"));
            targets.push(name.clone());
            values.push(format!("v.v{at}::{type_sql}"));
        }
        for (at, SqlColumn { name, type_sql, .. }) in self.scope.iter().enumerate() {
            if !targets.contains(name) {
                targets.push(name.clone());
                values.push(format!("${}::{type_sql}", 2 + at));
            }
        }
        if let Some(stamp) = &self.stamp {
            targets.push(stamp.clone());
            values.push(self.now().to_string());
        }
        let sql = format!(
            "insert into {table} as t ({targets}) overriding system value select {values} from unnest({arrays}) as v ({names}){returning}",
            returning = self.returning(own + 1 + self.updatable.len()),
            table = self.table,
            targets = targets.join(", "),
            values = values.join(", "),
            arrays = arrays.join(", "),
            names = names.join(", "),
        );
        let statement = Statement::new(sql);
        let mut query = self.start(&statement).bind(rows.iter().map(|row| row.key).collect::<Vec<_>>());
        for &column in &self.updatable {
            query = query.bind(rows.iter().map(|row| row.cells[column].as_deref()).collect::<Vec<_>>());
        }
        self.write_further(&mut *connection, rows, Rows::New, |it| it.comes_first).await?;
        let stored = self.write(&mut *connection, query).await?;
        self.write_further(connection, rows, Rows::New, |it| !it.comes_first).await?;
        Ok(stored)
    }

    /// Deletes rows; answers how many were there.
    pub async fn delete(&self, connection: &mut PgConnection, keys: &[&str]) -> Result<u64, sqlx::Error> {
        // Rows that refer to others before those.
        self.delete_further(&mut *connection, keys, |it| !it.comes_first).await?;
        let sql = format!(
            "delete from {table} t using unnest(${own}::text[]) as w (k) where {matched}{scope}",
            table = self.table,
            own = self.first_own(),
            matched = self.key_is("w.k"),
            scope = self.scope_sql(2),
        );
        let gone = self.start(&Statement::new(sql)).bind(keys).execute(&mut *connection).await?;
        self.delete_further(connection, keys, |it| it.comes_first).await?;
        Ok(gone)
    }

    /// Whether a column's declared type keeps a value as it is; an error if it cannot hold it at all.
    pub async fn keeps(&self, connection: &mut PgConnection, column: usize, value: &str) -> Result<bool, sqlx::Error> {
        let (declared, type_sql) = (&self.declared[column], &self.columns[column].type_sql);
        let sql = format!("select $1::text::{declared}::text = $1::text::{type_sql}::text");
        Statement::new(sql).query().bind(value).fetch_one(connection).await?.try_get(0)
    }

    /// Parts of new keys, drawn by the columns' own defaults: for each row one per expression.
    pub async fn allocate(
        &self,
        connection: &mut PgConnection,
        expressions: &[&str],
        count: usize,
    ) -> Result<Vec<Vec<String>>, sqlx::Error> {
        let drawn: Vec<String> = expressions.iter().map(|expression| format!("({expression})::text")).collect();
        let sql = format!("select array[{}] from generate_series(1, $1)", drawn.join(", "));
        let rows = Statement::new(sql).query().bind(count as i32).fetch_all(connection).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// Counts and hashes the rows above `since` and those without a stamp: a select to be joined with others by UNION ALL.
    /// Its parameters start at `first`: since, then the scope's values.
    pub fn signature_select(&self, number: usize, first: usize, compare_every: Duration) -> String {
        if self.stamp.is_none() {
            return self.whole_signature_select(number, first, compare_every);
        }
        format!(
            "select {number}::bigint as n, {sums} from {table} where {tail}{scope} \
             union all select {number}::bigint, {null_sums} from {table} where {unstamped}{scope}",
            sums = self.sums("0"),
            null_sums = self.sums("1"),
            table = self.seen(),
            tail = self.tail(first + 1, &format!("${first}")),
            unstamped = self.unstamped(first + 1),
            scope = self.scope_sql(first + 1),
        )
    }

    pub fn bind_signature<'q>(&self, query: Query<'q>, since: DateTime<Utc>) -> Query<'q> {
        self.scope_values.iter().fold(query.bind(since), |query, value| query.bind(value.clone()))
    }

    pub fn scope_len(&self) -> usize {
        self.scope.len()
    }

    /// Cuts the rows stamped above `lower` into pages of `page_rows`, and takes the signatures of `lower` and of `since`, all in one
    /// snapshot.
    pub async fn cut_tail(
        &self,
        sessions: &Sessions,
        lower: DateTime<Utc>,
        since: DateTime<Utc>,
        page_rows: u32,
    ) -> Result<TailCut, sqlx::Error> {
        let own = self.first_own();
        let sql = format!(
            "with tail as materialized (select {key} as k, {stamp} as s, {row_hash} as h, row_number() over (order by {order}) as n, \
             count(*) over () as total from {table} where {tail}{scope}) \
             select 0 as what, null::bigint as n, {sums}, null::text as s, null::text as k from tail t \
             union all select 1, null, {sums_since}, null, null from tail t where {since} \
             union all select 2, null, {null_sums}, null, null from {table} where {unstamped}{scope} \
             union all select 3, n, 0, 0, 0, s::text, k from tail where n % ${rows} = 0 or n = total \
             union all (select 4, null, 0, 0, 0, {last_before}) \
             order by what, n",
            key = self.key_text(),
            stamp = self.stamp(),
            order = self.order(Lane::Stamp),
            table = self.seen(),
            tail = self.tail(2, &format!("${own}")),
            unstamped = self.unstamped(2),
            last_before = self.last_before(&format!("${own}")),
            since = self.tail_of("t.s", &format!("${}", own + 1)),
            scope = self.scope_sql(2),
            row_hash = self.look_hash(),
            sums = sums_over("0", "t.s", "t.h"),
            sums_since = sums_over("0", "t.s", "t.h"),
            null_sums = self.sums("1"),
            rows = own + 2,
        );
        let rows = sessions
            .fetch_all(self.start(&Statement::new(sql)).bind(lower).bind(since).bind(i64::from(page_rows)))
            .await?;
        let mut cut = TailCut::default();
        let mut before = 0;
        for row in rows {
            let what: i32 = row.try_get("what")?;
            let (count, hash): (i64, i64) = (row.try_get("rows")?, row.try_get("hash")?);
            match what {
                0 => cut.lower = (count, hash),
                1 => cut.since = (count, hash),
                2 => cut.null = (count, hash),
                4 => {
                    cut.after = Some(Position { stamp: row.try_get("s")?, key: Key(row.try_get("k")?) });
                }
                _ => {
                    let n: i64 = row.try_get("n")?;
                    let position = Position { stamp: row.try_get("s")?, key: Key(row.try_get("k")?) };
                    cut.bounds.push((position, (n - before) as u32));
                    before = n;
                }
            }
        }
        Ok(cut)
    }

    /// Cuts the whole table (or its rows without a stamp) by key.
    pub async fn cut_by_key(
        &self,
        sessions: &Sessions,
        lane: Lane,
        page_rows: u32,
    ) -> Result<Vec<(Position, u32)>, sqlx::Error> {
        let own = self.first_own();
        let only = if lane == Lane::Null { format!(" and {}", self.unstamped(2)) } else { String::new() };
        let sql = format!(
            "select n, k from (select {key} as k, row_number() over (order by {order}) as n, count(*) over () as total \
             from {table} where true{scope}{only}) t where n % ${own} = 0 or n = total order by n",
            key = self.key_text(),
            order = self.order(lane),
            table = self.seen(),
            scope = self.scope_sql(2),
        );
        let rows = sessions.fetch_all(self.start(&Statement::new(sql)).bind(i64::from(page_rows))).await?;
        let mut before = 0;
        rows.iter()
            .map(|row| {
                let n: i64 = row.try_get("n")?;
                let bound = (Position { stamp: None, key: Key(row.try_get("k")?) }, (n - before) as u32);
                before = n;
                Ok(bound)
            })
            .collect()
    }

    fn start(&self, statement: &Statement) -> Query<'static> {
        let query = statement.query().bind(self.entity_number);
        self.scope_values.iter().fold(query, |query, value| query.bind(value.clone()))
    }

    /// The number of a statement's first own parameter.
    fn first_own(&self) -> usize {
        2 + self.scope.len()
    }

    /// A row without a key is nobody's: it is not seen.
    fn scope_sql(&self, first: usize) -> String {
        let scope = self
            .scope
            .iter()
            .enumerate()
            .map(|(at, column)| format!(" and {} = {}", column.own(), column.given(&format!("${}", first + at))));
        let keyed = self.nullable_keys.iter().map(|name| format!(" and t.{name} is not null"));
        scope.chain(keyed).collect()
    }

    /// The rows as `t`, without those that `where` leaves out. Nothing but the table's own columns can be meant in it, and the
    /// planner sees through it, to the indexes.
    fn seen(&self) -> String {
        self.joined(self.seen_here())
    }

    /// As `seen`, of the table itself.
    fn seen_here(&self) -> String {
        match &self.filter {
            None => format!("{} t", self.table),
            Some(condition) => format!(
                "(select {}, true as sync_bridge_seen from {} as \"row\" where ({condition})) t",
                self.read.join(", "),
                self.table
            ),
        }
    }

    /// The rows as `t`, each with which side of `where` it lies on: absent is something else than left out.
    fn marked(&self) -> String {
        self.joined(match &self.filter {
            None => format!("{} t", self.table),
            Some(condition) => format!(
                "(select {}, ({condition}) is true as sync_bridge_seen from {} as \"row\") t",
                self.read.join(", "),
                self.table
            ),
        })
    }

    /// The row's stamp, if rows have one.
    fn stamp(&self) -> String {
        if !self.further.is_empty() {
            return further::STAMP.to_owned();
        }
        self.stamp_here()
    }

    /// As `stamp`, of the table itself.
    fn stamp_here(&self) -> String {
        self.stamp.as_ref().map_or_else(|| "null::timestamptz".to_owned(), |stamp| format!("t.{stamp}"))
    }

    /// Joins the rows under keys given as text, one look by the key's index for each: what the planner thinks of a table's size is old
    /// just when much is written, and then it reads the table through for every page.
    fn join_by_key(&self, key: &str) -> String {
        let (table, matched, scope) = (self.marked(), self.key_is(key), self.scope_sql(2));
        // No index serves them, so one pass over the table is better than one for each.
        if !self.is_keyed || self.keys.iter().any(|key| key.as_text) {
            return format!("join {table} on {matched}{scope}");
        }
        let columns = match self.filter.is_none() && self.further.is_empty() {
            true => format!("t.{}", self.read.join(", t.")),
            false => "*".to_owned(),
        };
        format!("join lateral (select {columns} from {table} where {matched}{scope} offset 0) t on true")
    }

    /// Joins what stands beside each row, by the ledger's index, as `g`.
    fn ledger_beside(&self) -> String {
        format!(
            "left join lateral (select * from sync_bridge.{} g where g.entity_id = $1 and g.{} = ({}) collate \"C\" offset 0) g on true",
            self.store(),
            self.own_key(),
            self.key_text()
        )
    }

    fn store(&self) -> &'static str {
        match self.side {
            Side::Platform => "pair",
            Side::Legacy => "receipt",
        }
    }

    fn own_key(&self) -> &'static str {
        match self.side {
            Side::Platform => "platform_key",
            Side::Legacy => "legacy_key",
        }
    }

    fn key_text(&self) -> String {
        key_text(&self.keys)
    }

    /// Part `at` of a key given as text, as `mapping::join_key` joined it.
    fn key_part(&self, text: &str, at: usize) -> String {
        if self.keys.len() == 1 {
            return text.to_string();
        }
        let part = format!("split_part({text}, E'\\x1f', {})", at + 1);
        match self.keys[at].is_free_text {
            true => format!("replace(replace({part}, E'\\x1e1', E'\\x1f'), E'\\x1e0', E'\\x1e')"),
            false => part,
        }
    }

    fn key_is(&self, text: &str) -> String {
        self.are(&self.keys, text)
    }

    /// Whether these columns are the parts of a key given as text.
    fn are(&self, keys: &[SqlColumn], text: &str) -> String {
        let parts: Vec<String> = keys
            .iter()
            .enumerate()
            .map(|(at, key)| format!("{} = {}", key.own(), key.given(&self.key_part(text, at))))
            .collect();
        parts.join(" and ")
    }

    fn order(&self, lane: Lane) -> String {
        let keys = self.keys.iter().map(SqlColumn::own);
        match lane {
            Lane::Stamp => std::iter::once(self.stamp()).chain(keys).collect::<Vec<_>>().join(", "),
            _ => keys.collect::<Vec<_>>().join(", "),
        }
    }

    /// `Lane::Stamp` from its end.
    fn order_backwards(&self) -> String {
        let keys = self.keys.iter().map(SqlColumn::own);
        let columns = std::iter::once(self.stamp()).chain(keys).map(|column| format!("{column} desc"));
        columns.collect::<Vec<_>>().join(", ")
    }

    fn compare(&self, lane: Lane, operator: &str, next: &mut usize) -> String {
        let mut right = Vec::new();
        if lane == Lane::Stamp {
            right.push(format!("${next}::{}", self.stamp_type()));
            *next += 1;
        }
        for (at, key) in self.keys.iter().enumerate() {
            right.push(key.given(&self.key_part(&format!("${next}"), at)));
        }
        *next += 1;
        format!("({}) {operator} ({})", self.order(lane), right.join(", "))
    }

    fn bind_position<'q>(&self, query: Query<'q>, lane: Lane, position: &Position) -> Query<'q> {
        let query = match lane {
            Lane::Stamp => query.bind(position.stamp.clone()),
            _ => query,
        };
        query.bind(position.key.0.clone())
    }

    fn stamp_type(&self) -> &'static str {
        match self.stamp_kind {
            StampKind::Timestamptz { .. } | StampKind::Absent => "timestamptz",
            StampKind::Timestamp { .. } => "timestamp",
            StampKind::Date => "date",
            StampKind::EpochSeconds | StampKind::EpochMillis => "bigint",
        }
    }

    /// The transaction's start by this database's clock, as the column stores it.
    fn now(&self) -> &'static str {
        match self.stamp_kind {
            StampKind::Timestamptz { .. } | StampKind::Absent => "now()",
            StampKind::Timestamp { .. } => "localtimestamp",
            StampKind::Date => "current_date",
            StampKind::EpochSeconds => "floor(extract(epoch from now()))::bigint",
            StampKind::EpochMillis => "floor(extract(epoch from now()) * 1000)::bigint",
        }
    }

    /// `first`: the number of the scope's first value.
    fn tail(&self, first: usize, since: &str) -> String {
        format!(
            "{}{}",
            self.tail_of(&self.stamp(), since),
            self.with_any_stamp(first, |stamp| self.tail_of(stamp, since))
        )
    }

    /// What has no stamp, or has not all of its stamps.
    fn unstamped(&self, first: usize) -> String {
        if self.further.is_empty() {
            return format!("{} is null", self.stamp());
        }
        format!("{}{}", further::UNSTAMPED, self.with_any_stamp(first, |stamp| format!("{stamp} is null")))
    }

    /// Stamp and key of the last row below the tail.
    fn last_before(&self, since: &str) -> String {
        if !self.further.is_empty() {
            return self.last_before_of_all(since);
        }
        format!(
            "{stamp}::text, {key} from {table} where {before}{scope} order by {backwards} limit 1",
            stamp = self.stamp(),
            key = self.key_text(),
            table = self.seen(),
            before = self.before(&self.stamp(), since),
            scope = self.scope_sql(2),
            backwards = self.order_backwards(),
        )
    }

    /// Stamped after `since`, or in the same instant as far as a coarser column can tell.
    fn tail_of(&self, stamp: &str, since: &str) -> String {
        let operator = if self.is_exact() { ">" } else { ">=" };
        format!("{stamp} {operator} {}", self.bound(since))
    }

    /// What has a stamp and is not in the tail.
    fn before(&self, stamp: &str, since: &str) -> String {
        let operator = if self.is_exact() { "<=" } else { "<" };
        format!("{stamp} {operator} {}", self.bound(since))
    }

    /// Whether the column tells instants apart as well as the database does.
    fn is_exact(&self) -> bool {
        matches!(self.stamp_kind, StampKind::Timestamptz { digits } | StampKind::Timestamp { digits } if digits >= DIGITS)
    }

    /// An instant as the column stores it.
    fn bound(&self, since: &str) -> String {
        match self.stamp_kind {
            // Rounded as the column rounds: what is stamped later is never stored as less.
            StampKind::Timestamptz { digits } => format!("{since}::timestamptz({digits})"),
            // In the hour before local time goes back, and in that after it went forward, an hour earlier: the stamps of
            // later moments may be that much lower.
            StampKind::Timestamp { digits } => format!(
                "least(({since}::timestamptz)::timestamp, \
                 ({since}::timestamptz + interval '1 hour')::timestamp - interval '1 hour', \
                 ({since}::timestamptz - interval '1 hour')::timestamp + interval '1 hour')::timestamp({digits})"
            ),
            StampKind::Absent => format!("{since}::timestamptz"),
            StampKind::Date => format!("({since}::timestamptz)::date"),
            StampKind::EpochSeconds => format!("floor(extract(epoch from {since}::timestamptz))::bigint"),
            StampKind::EpochMillis => format!("floor(extract(epoch from {since}::timestamptz) * 1000)::bigint"),
        }
    }

    fn sums(&self, lane: &str) -> String {
        sums_over(lane, &self.stamp(), &self.look_hash())
    }

    fn row_hash(&self) -> String {
        let hashed: Vec<String> =
            self.keys.iter().chain(&self.columns).map(|column| format!("t.{}", column.name)).collect();
        format!("hashtextextended(row({})::text, 0)", hashed.join(", "))
    }

    fn row_columns(&self) -> String {
        let cells: Vec<String> =
            self.columns.iter().enumerate().map(|(at, column)| format!("t.{}::text as c{at}", column.name)).collect();
        format!(
            "{key} as t_key, {stamp}::text as t_stamp, {created_at} as t_created_at, {hash} as t_hash, {seen} as t_seen, {further}{cells}",
            key = self.key_text(),
            stamp = self.stamp(),
            seen = if self.filter.is_some() { "t.sync_bridge_seen" } else { "true" },
            created_at = self.created_at.as_deref().unwrap_or("null::text"),
            further = self.are_there(),
            hash = self.row_hash(),
            cells = cells.join(", "),
        )
    }

    fn ledger_columns(&self) -> &'static str {
        match self.side {
            Side::Platform => {
                "g.platform_key as g_platform_key, g.legacy_key as g_legacy_key, g.generation as g_generation, \
                 g.rev as g_rev, g.base as g_base, g.gone as g_gone, g.next_base as g_next_base, \
                 g.next_gone as g_next_gone, extract(epoch from clock_timestamp() - g.intent_at)::float8 as g_intent_age, \
                 g.listed as g_listed, g.complement as g_complement, g.platform_stamp as g_stamp, g.platform_edited_at as g_edited_at, \
                 g.legacy_stamp as g_legacy_stamp, g.legacy_hash as g_legacy_hash, g.platform_hash as g_platform_hash"
            }
            Side::Legacy => {
                "g.platform_key as g_platform_key, g.legacy_key as g_legacy_key, g.generation as g_generation, \
                 g.rev as g_rev, g.done as g_done, g.stamp_written as g_stamp, g.stamp_before as g_edited_at"
            }
        }
    }

    fn found(&self, row: &PgRow) -> Result<Found, sqlx::Error> {
        let want: i64 = row.try_get("n")?;
        Ok(Found { want: (want - 1).max(0) as usize, ledger: self.ledger(row)?, row: self.row(row)?.map(Arc::new) })
    }

    fn row(&self, row: &PgRow) -> Result<Option<Row>, sqlx::Error> {
        let Some(key) = row.try_get::<Option<String>, _>("t_key")? else { return Ok(None) };
        let first = row.len() - self.columns.len();
        let mut garbled = None;
        let cells = (first..row.len())
            .map(|at| {
                let value = row.try_get_raw(at)?;
                if value.is_null() {
                    return Ok(None);
                }
                let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
                Ok(Some(match std::str::from_utf8(bytes) {
                    Ok(text) => text.into(),
                    Err(_) => {
                        garbled = Some(at - first);
                        String::from_utf8_lossy(bytes).into()
                    }
                }))
            })
            .collect::<Result<Vec<Cell>, sqlx::Error>>()?;
        Ok(Some(Row {
            key: Key(key),
            stamp: row.try_get::<Option<&str>, _>("t_stamp")?.map(Into::into),
            created_at: row.try_get::<Option<&str>, _>("t_created_at")?.map(Into::into),
            hash: row.try_get("t_hash")?,
            cells,
            garbled,
            seen: row.try_get("t_seen")?,
            lacks: self.lacks(row)?,
        }))
    }

    fn ledger(&self, row: &PgRow) -> Result<Option<LedgerRow>, sqlx::Error> {
        let Some(platform_key) = row.try_get::<Option<String>, _>("g_platform_key")? else { return Ok(None) };
        let platform_key = Key(platform_key);
        let legacy_key = row.try_get::<Option<String>, _>("g_legacy_key")?.map(Key);
        let generation = row.try_get("g_generation")?;
        let rev = row.try_get("g_rev")?;
        Ok(Some(match self.side {
            Side::Platform => {
                let base = |bytes: Option<&[u8]>| bytes.map(Base::decode);
                let intent = match base(row.try_get("g_next_base")?) {
                    None => None,
                    Some(next) => Some(Intent {
                        base: next,
                        gone: row.try_get::<Option<bool>, _>("g_next_gone")?.unwrap_or(false),
                        age_secs: row.try_get::<Option<f64>, _>("g_intent_age")?.unwrap_or(f64::MAX),
                    }),
                };
                LedgerRow::Pair(Pair {
                    platform_key,
                    legacy_key,
                    generation,
                    rev,
                    base: base(row.try_get("g_base")?).unwrap_or_default(),
                    gone: row.try_get("g_gone")?,
                    intent,
                    listed: row.try_get::<Option<&[u8]>, _>("g_listed")?.map(Listed::decode).unwrap_or_default(),
                    complement: row
                        .try_get::<Option<serde_json::Value>, _>("g_complement")?
                        .map(|json| Complement::decode(&json))
                        .unwrap_or_default(),
                    platform_stamp: row.try_get("g_stamp")?,
                    platform_edited_at: row.try_get("g_edited_at")?,
                    legacy_stamp: row.try_get("g_legacy_stamp")?,
                    legacy_hash: row.try_get("g_legacy_hash")?,
                    platform_hash: row.try_get("g_platform_hash")?,
                })
            }
            Side::Legacy => LedgerRow::Receipt(Receipt {
                platform_key,
                legacy_key,
                generation,
                rev,
                done: row.try_get("g_done")?,
                stamp_written: row.try_get("g_stamp")?,
                stamp_before: row.try_get("g_edited_at")?,
            }),
        }))
    }
}

/// A key as text, as `mapping::join_key` joins it.
fn key_text(keys: &[SqlColumn]) -> String {
    let part = |key: &SqlColumn| match key.is_free_text && keys.len() > 1 {
        true => format!("replace(replace({}, E'\\x1e', E'\\x1e0'), E'\\x1f', E'\\x1e1')", key.spelled),
        false => key.spelled.clone(),
    };
    let parts: Vec<String> = keys.iter().map(part).collect();
    match parts.len() {
        1 => parts.concat(),
        _ => format!("({})", parts.join(" || E'\\x1f' || ")),
    }
}

/// The table's name, quoted, with its schema.
pub fn qualified(table: &config::Table) -> String {
    format!("{}.{}", ident(&table.schema), ident(&table.name))
}

/// A value of this column as text, the same whatever the session's time zone and the value's scale: a key has one spelling only, and
/// a record is known by it. `mapping::spelled` does the same to a text.
pub fn key_spelling(column: &LiveColumn, value: &str) -> String {
    match column.typname.as_str() {
        "timestamptz" => format!(
            "(case when isfinite({value}) and ({value}) >= '0001-01-01 00:00:00+00' then (({value}) at time zone 'UTC')::text || '+00' \
             else ({value})::text end)"
        ),
        "numeric" => {
            format!(
                "(case when scale({value}) > 0 then rtrim(rtrim(({value})::text, '0'), '.') else ({value})::text end)"
            )
        }
        _ => format!("{value}::text"),
    }
}

/// What asks a database whether a condition about a table makes sense, without reading a row.
pub fn filter_check(table: &config::Table, condition: &str) -> Statement {
    Statement::new(format!("select from {} as \"row\" where ({condition}) limit 0", qualified(table)))
}

/// Stamps alone would not do: where they are coarse, or an application cuts them, a row edited twice in one instant shows the
/// same stamp before and after.
fn sums_over(lane: &str, stamp: &str, row_hash: &str) -> String {
    format!(
        "{lane}::bigint as lane, count(*) as rows, (coalesce(sum(hashtextextended(coalesce({stamp}::text, '') || ' ' || {row_hash}, 0)), 0) \
         % 9223372036854775807)::bigint as hash"
    )
}

/// A mapped column of a unique index, and an expression of `w.k` and `w.n`, the row's number among those set aside, that is unique in it or
/// not compared at all.
fn aside((shape, live): (&Shape, &LiveTable), written: &[usize], index: &[String]) -> Option<(usize, String)> {
    let column = |wanted: fn(&crate::mapping::Column) -> bool| {
        let mut written = written.iter().copied();
        written.find(|&at| !shape.is_key(at) && index.contains(&shape.columns[at].name) && wanted(&shape.columns[at]))
    };
    if let Some(nullable) = column(|column| column.nullable) {
        return Some((nullable, "null".into()));
    }
    let at = column(|column| matches!(column.class, Class::Text | Class::Uuid | Class::Number))?;
    let column = &shape.columns[at];
    let modifier = live.column(&column.name).and_then(|live| live.modifier);
    Some((at, holder(column.class, &column.type_sql, modifier)))
}

/// What a column can hold for the moment, by its type.
fn holder(class: Class, type_sql: &str, modifier: Option<i32>) -> String {
    // PostgreSQL counts four bytes of its own.
    const HEADER: i32 = 4;
    match class {
        // Characters that no application uses, where there is room for one or two.
        Class::Text if modifier.is_some_and(|modifier| modifier < HEADER + 16) => "chr(57344 + w.n::integer)".into(),
        Class::Text => "'~' || substr(md5(w.k), 1, 15)".into(),
        Class::Uuid => "md5(w.k)::uuid".into(),
        // Below zero is where no application numbers things, and where some has a mark or two.
        _ => {
            // Digits less those after the point, which may be eleven bits with a sign.
            let before = |it: i32| ((it >> 16) & 0xffff) - (((it & 0x7ff) ^ 1024) - 1024);
            let is_narrow = modifier.is_some_and(|modifier| before(modifier - HEADER) < 6);
            let first = if is_narrow { 1 } else { 10_000 };
            format!("(-{first} - w.n)::{type_sql}")
        }
    }
}

/// What a cut of the tail answers.
#[derive(Debug, Default)]
pub struct TailCut {
    /// Count and hash of the rows above the lower bound, above `since`, and without a stamp.
    pub lower: (i64, i64),
    pub since: (i64, i64),
    pub null: (i64, i64),
    /// The last row below the tail; none: the tail begins with the table.
    pub after: Option<Position>,
    /// Each page's upper bound and number of rows.
    pub bounds: Vec<(Position, u32)>,
}

impl TailCut {
    pub fn signature(&self, since: DateTime<Utc>) -> Signature {
        Signature { since, rows: self.since.0, hash: self.since.1, null_rows: self.null.0, null_hash: self.null.1 }
    }
}
