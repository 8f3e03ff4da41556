//! Further tables of a record. Statements see them left-joined to the table itself, as one row whose columns are numbered and whose
//! stamp is the newest of all; each keeps its own locks, stamps and indexes. A row of theirs without its record is not seen. Never: a
//! statement of an entity that has none.

use std::collections::HashSet;

use sqlx::{PgConnection, Row as _};

use crate::config;
use crate::mapping::Shape;

use super::super::{ForeignKey, LiveTable, Query, Statement, ident};
use super::{PgRow, Put, Row, ScopeValue, SqlColumn, TableSql, key_spelling, key_text};

/// The newest of a record's stamps.
pub(super) const STAMP: &str = "t.sync_bridge_stamp";

/// Whether one of its rows lacks its stamp.
pub(super) const UNSTAMPED: &str = "t.sync_bridge_unstamped";

/// One of them.
#[derive(Debug, PartialEq)]
pub(super) struct Further {
    /// Quoted, qualified.
    pub table: String,
    alias: String,
    /// Schema and name as the database has them.
    named: (String, String),
    /// The record's own row refers to this one by its key, which therefore comes first and goes last.
    pub comes_first: bool,
    /// As the table's own, part by part.
    keys: Vec<SqlColumn>,
    /// Quoted.
    stamp: String,
    /// Columns that the scope fixes in the table itself, and that are here too: each with its number among the scope's values.
    scope: Vec<(SqlColumn, usize)>,
    /// Positions in the shape, with the quoted names here.
    columns: Vec<(usize, String)>,
    /// Those that are ever written.
    updatable: Vec<(usize, String)>,
    /// What a column begins with, by its position.
    constants: Vec<(usize, String)>,
}

/// What is known of the further rows of records that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Locked: what was not there then is made where it has to hold anything, and collides with what came since.
    Locked,
    /// The records are new: all are made, unless somebody else did so by now, a trigger perhaps.
    New,
}

/// A column of a further table in the joined row.
pub(super) fn column(at: usize) -> String {
    ident(&format!("sync_bridge_{at}"))
}

/// That further table `n` has no row, or that the key is among those in a parameter.
pub(super) fn is_held(n: usize, parameter: usize) -> String {
    format!(" and (not t.sync_bridge_has_{n} or w.k = any(${parameter}::text[]))")
}

impl Further {
    pub fn all(
        (shape, written, constants): (&Shape, &[usize], &[(usize, &str)]),
        live: &LiveTable,
        table: &config::Table,
        scope: &[ScopeValue],
    ) -> Vec<Further> {
        let further = |further: &config::Further| {
            let sql_column = |name: &String| {
                let found = live.column(&format!("{}.{name}", further.alias))?;
                let sql = SqlColumn::of(live, &found.name, &found.type_sql);
                let spelled = key_spelling(found, &format!("t.{}", ident(name)));
                Some(SqlColumn { name: ident(name), spelled, ..sql })
            };
            let here = |at: usize| {
                let (of, own) = table.locate(&shape.columns[at].name);
                of.filter(|it| it.alias == further.alias).map(|_| (at, ident(own)))
            };
            let named = (further.schema.clone(), further.name.clone());
            let joined = |own: &String, theirs: &String| {
                table.key.iter().zip(&further.key).any(|(key, their_key)| (key, their_key) == (own, theirs))
            };
            let is_to_it = |key: &&ForeignKey| (&key.target_schema, &key.target_table) == (&named.0, &named.1);
            let by_its_key =
                |key: &ForeignKey| key.columns.iter().zip(&key.target_columns).all(|(own, theirs)| joined(own, theirs));
            let comes_first = live.foreign_keys.iter().filter(is_to_it).any(by_its_key);
            let constants = constants.iter().filter(|(at, _)| here(*at).is_some());
            let scope = scope.iter().enumerate();
            Further {
                table: format!("{}.{}", ident(&further.schema), ident(&further.name)),
                alias: further.alias.clone(),
                named,
                comes_first,
                keys: further.key.iter().filter_map(sql_column).collect(),
                stamp: ident(&further.updated_at),
                scope: scope.filter_map(|(at, fixed)| Some((sql_column(&fixed.column)?, at))).collect(),
                columns: (0..shape.columns.len()).filter_map(here).collect(),
                updatable: written.iter().copied().filter_map(here).collect(),
                constants: constants.map(|(at, value)| (*at, (*value).to_owned())).collect(),
            }
        };
        table.also.iter().map(further).collect()
    }

    fn stamp(&self) -> String {
        format!("t.{}", self.stamp)
    }
}

impl TableSql {
    /// A row of the table itself (`here`, as `t`) with its further ones, as `t`.
    pub(super) fn joined(&self, here: String) -> String {
        if self.further.is_empty() {
            return here;
        }
        let further = || self.further.iter().enumerate();
        let of = |n: usize, name: &str| format!("f{n}.{name}");
        let stamps: Vec<String> =
            std::iter::once(self.stamp_here()).chain(further().map(|(n, it)| of(n, &it.stamp))).collect();
        let mut columns: Vec<String> = self.read.iter().map(|name| format!("t.{name}")).collect();
        columns.extend(self.filter.iter().map(|_| "t.sync_bridge_seen".to_owned()));
        columns.push(format!("greatest({}) as sync_bridge_stamp", stamps.join(", ")));
        columns.push(format!("row({})::text as sync_bridge_stamps", stamps.join(", ")));
        let is_there = |n: usize, it: &Further| format!("{} is not null", of(n, &it.keys[0].name));
        let unstamped = further().map(|(n, it)| format!(" or {} and {} is null", is_there(n, it), of(n, &it.stamp)));
        let unstamped: String = unstamped.collect();
        columns.push(format!("({} is null{unstamped}) as sync_bridge_unstamped", self.stamp_here()));
        let mut joins = String::new();
        for (n, it) in further() {
            columns.push(format!("({}) as sync_bridge_has_{n}", is_there(n, it)));
            columns.extend(it.columns.iter().map(|(at, name)| format!("{} as {}", of(n, name), column(*at))));
            let row = format!("f{n}");
            let keys =
                it.keys.iter().zip(&self.keys).map(|(theirs, own)| format!("{} = {}", theirs.in_row(&row), own.own()));
            let scope = it.scope.iter().map(|(theirs, at)| {
                let own = &self.scope[*at];
                match own.type_sql == theirs.type_sql {
                    true => format!("{} = {}", theirs.in_row(&row), own.own()),
                    false => format!("{row}.{}::text = t.{}::text", theirs.name, own.name),
                }
            });
            let on: Vec<String> = keys.chain(scope).collect();
            joins.push_str(&format!(" left join {} {row} on {}", it.table, on.join(" and ")));
        }
        format!("(select {} from {here}{joins}) t", columns.join(", "))
    }

    /// Which further tables have a row, to be read by `lacks`.
    pub(super) fn are_there(&self) -> String {
        (0..self.further.len()).map(|n| format!("t.sync_bridge_has_{n}, ")).collect()
    }

    pub(super) fn lacks(&self, row: &PgRow) -> Result<Vec<usize>, sqlx::Error> {
        let first = row.len() - self.columns.len() - self.further.len();
        let mut lacks = Vec::new();
        for n in 0..self.further.len() {
            if !row.try_get::<bool, _>(first + n)? {
                lacks.push(n);
            }
        }
        Ok(lacks)
    }

    /// What a look at a row hashes: all of its stamps, too, as the newest of them may stay where it is.
    pub(super) fn look_hash(&self) -> String {
        if self.further.is_empty() {
            return self.row_hash();
        }
        let hashed = self.keys.iter().chain(&self.columns).map(|column| format!("t.{}", column.name));
        let hashed: Vec<String> = std::iter::once("t.sync_bridge_stamps".to_owned()).chain(hashed).collect();
        format!("hashtextextended(row({})::text, 0)", hashed.join(", "))
    }

    /// That one of a record's rows has such a stamp: by the index of each table, as no index knows the newest of them. `first` is the
    /// number of the scope's first value.
    pub(super) fn with_any_stamp(&self, first: usize, condition: impl Fn(&str) -> String) -> String {
        if self.further.is_empty() {
            return String::new();
        }
        let list = |keys: &[SqlColumn]| keys.iter().map(SqlColumn::own).collect::<Vec<_>>().join(", ");
        let here = format!(
            "select {} from {} where {}{}",
            list(&self.keys),
            self.seen_here(),
            condition(&self.stamp_here()),
            self.scope_sql(first)
        );
        let further = self.further.iter().map(|it| {
            let scope = self.scope_of(it, first);
            format!(" union select {} from {} t where {}{scope}", list(&it.keys), it.table, condition(&it.stamp()))
        });
        format!(" and ({}) in ({here}{})", list(&self.keys), further.collect::<String>())
    }

    /// A stamp below the tail that no record below it exceeds, with a key.
    pub(super) fn last_before_of_all(&self, since: &str) -> String {
        let last = |(stamp, key, table, scope): (&str, String, &str, String)| {
            let before = self.before(stamp, since);
            format!(
                "(select {stamp} as s, {key} as k from {table} where {before}{scope} order by {stamp} desc limit 1)"
            )
        };
        let here = last((&self.stamp_here(), self.key_text(), &self.seen_here(), self.scope_sql(2)));
        let further = self.further.iter().map(|it| {
            let table = format!("{} t", it.table);
            let keyed: String = it.keys.iter().map(|key| format!(" and t.{} is not null", key.name)).collect();
            last((&it.stamp(), key_text(&it.keys), &table, format!("{}{keyed}", self.scope_of(it, 2))))
        });
        let all: Vec<String> = std::iter::once(here).chain(further).collect();
        format!("l.s::text, l.k from ({}) l order by l.s desc limit 1", all.join(" union all "))
    }

    fn scope_of(&self, further: &Further, first: usize) -> String {
        let fixed = further.scope.iter();
        fixed
            .map(|(column, at)| format!(" and {} = {}", column.own(), column.given(&format!("${}", first + at))))
            .collect()
    }

    pub(super) fn key_is_of(&self, further: &Further, text: &str) -> String {
        format!("{}{}", self.are(&further.keys, text), self.scope_of(further, 2))
    }

    /// The further table that a column of the shape stands in, and its quoted name there.
    pub(super) fn placed(&self, at: usize) -> Option<(&Further, &String)> {
        self.further.iter().find_map(|it| Some((it, &it.columns.iter().find(|(column, _)| *column == at)?.1)))
    }

    /// A column as fields call it, where the database names it with its table.
    pub fn name_of(&self, schema: Option<&str>, table: Option<&str>, column: &str) -> String {
        let is = |it: &&Further| (Some(&*it.named.0), Some(&*it.named.1)) == (schema, table);
        self.further.iter().find(is).map_or_else(|| column.to_owned(), |it| format!("{}.{column}", it.alias))
    }

    /// Locks a record's rows, those of the table itself first, and answers what they hold. A record of which others hold a row is left
    /// out; one that lacks a row in a further table may get it from others all the same: our own insert meets it then.
    pub(super) async fn lock_all(&self, connection: &mut PgConnection, keys: &[&str]) -> Result<Vec<Row>, sqlx::Error> {
        let matched = format!("{}{}", self.key_is("w.k"), self.scope_sql(2));
        let ours = self.lock_in(connection, (&self.table, &matched, &self.keys), keys).await?;
        let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
        let mut held = Vec::new();
        for it in &self.further {
            held.push(self.lock_in(connection, (&it.table, &self.key_is_of(it, "w.k"), &it.keys), &ours).await?);
        }
        // In a statement of its own: what the others see beside a lock is older than it.
        self.by_keys(connection, &ours, "", &held).await
    }

    async fn lock_in(
        &self,
        connection: &mut PgConnection,
        (table, matched, order): (&str, &str, &[SqlColumn]),
        keys: &[&str],
    ) -> Result<Vec<String>, sqlx::Error> {
        let order: Vec<String> = order.iter().map(SqlColumn::own).collect();
        let sql = format!(
            "select w.k from unnest(${own}::text[]) as w (k) join {table} t on {matched} order by {order} for no key update of t skip locked",
            own = self.first_own(),
            order = order.join(", "),
        );
        self.keys_of(connection, sql, keys).await
    }

    async fn keys_of(
        &self,
        connection: &mut PgConnection,
        sql: String,
        keys: &[&str],
    ) -> Result<Vec<String>, sqlx::Error> {
        let rows = self.start(&Statement::new(sql)).bind(keys).fetch_all(connection).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// Makes these further tables hold the rows, of which only the changed ones are touched; answers their keys.
    pub(super) async fn write_further(
        &self,
        connection: &mut PgConnection,
        rows: &[Put<'_>],
        what: Rows,
        those: impl Fn(&Further) -> bool,
    ) -> Result<Vec<String>, sqlx::Error> {
        let mut touched = Vec::new();
        for (n, it) in self.further.iter().enumerate().filter(|(_, it)| those(it)) {
            let there = if what == Rows::Locked {
                rows.iter().filter(|row| !row.lacks.contains(&n)).map(|row| row.key.to_owned()).collect()
            } else {
                self.there(connection, it, rows).await?
            };
            let (old, new): (Vec<Put<'_>>, Vec<Put<'_>>) = rows.iter().partition(|row| there.contains(row.key));
            let holds = |row: &Put<'_>| it.updatable.iter().any(|(at, _)| row.cells[*at].is_some());
            let new: Vec<Put<'_>> = new.into_iter().filter(|row| what == Rows::New || holds(row)).collect();
            if !new.is_empty() {
                self.insert_further(connection, it, &new).await?;
                touched.extend(new.iter().map(|row| row.key.to_owned()));
            }
            if !old.is_empty() && !it.updatable.is_empty() {
                touched.extend(self.update_further(connection, it, &old).await?);
            }
        }
        Ok(touched)
    }

    pub(super) async fn delete_further(
        &self,
        connection: &mut PgConnection,
        keys: &[&str],
        those: impl Fn(&Further) -> bool,
    ) -> Result<(), sqlx::Error> {
        for it in self.further.iter().filter(|it| those(it)) {
            let sql = format!(
                "delete from {table} t using unnest(${own}::text[]) as w (k) where {matched}",
                table = it.table,
                own = self.first_own(),
                matched = self.key_is_of(it, "w.k"),
            );
            self.start(&Statement::new(sql)).bind(keys).execute(&mut *connection).await?;
        }
        Ok(())
    }

    async fn there(
        &self,
        connection: &mut PgConnection,
        it: &Further,
        rows: &[Put<'_>],
    ) -> Result<HashSet<String>, sqlx::Error> {
        let sql = format!(
            "select w.k from unnest(${own}::text[]) as w (k) join {table} t on {matched}",
            own = self.first_own(),
            table = it.table,
            matched = self.key_is_of(it, "w.k"),
        );
        let keys: Vec<&str> = rows.iter().map(|row| row.key).collect();
        Ok(self.keys_of(connection, sql, &keys).await?.into_iter().collect())
    }

    async fn insert_further(
        &self,
        connection: &mut PgConnection,
        it: &Further,
        rows: &[Put<'_>],
    ) -> Result<(), sqlx::Error> {
        let (arrays, names) = self.unnested(it);
        let key = |(at, key): (usize, &SqlColumn)| {
            (key.name.clone(), format!("({})::{}", self.key_part("v.k", at), key.type_sql))
        };
        let value = |(n, (at, name)): (usize, &(usize, String))| {
            let type_sql = &self.columns[*at].type_sql;
            let value = format!("v.v{n}::{type_sql}");
            let constant = it.constants.iter().position(|(column, _)| column == at);
            let first = self.first_own() + arrays.len();
            let value = constant.map_or(value.clone(), |n| format!("coalesce({value}, ${}::{type_sql})", first + n));
            (name.clone(), value)
        };
        let mut targets: Vec<(String, String)> = it.keys.iter().enumerate().map(key).collect();
        targets.extend(it.updatable.iter().enumerate().map(value));
        for (column, at) in &it.scope {
            if !targets.iter().any(|(name, _)| *name == column.name) {
                targets.push((column.name.clone(), format!("${}::{}", 2 + at, column.type_sql)));
            }
        }
        targets.push((it.stamp.clone(), self.now().to_owned()));
        let (targets, values): (Vec<_>, Vec<_>) = targets.into_iter().unzip();
        let sql = format!(
            "insert into {} ({}) overriding system value select {} from unnest({}) as v ({})",
            it.table,
            targets.join(", "),
            values.join(", "),
            arrays.join(", "),
            names.join(", "),
        );
        let query = self.bind_cells(self.start(&Statement::new(sql)), it, rows);
        let query = it.constants.iter().fold(query, |query, (_, value)| query.bind(value.clone()));
        query.execute(connection).await?;
        Ok(())
    }

    async fn update_further(
        &self,
        connection: &mut PgConnection,
        it: &Further,
        rows: &[Put<'_>],
    ) -> Result<Vec<String>, sqlx::Error> {
        let (arrays, names) = self.unnested(it);
        let set =
            |(n, (at, name)): (usize, &(usize, String))| format!("{name} = v.v{n}::{}", self.columns[*at].type_sql);
        let sets: Vec<String> = it.updatable.iter().enumerate().map(set).collect();
        let sql = format!(
            "update {table} t set {sets}, {stamp} = {now} from unnest({arrays}) as v ({names}) where {matched} and {changed} returning v.k",
            table = it.table,
            sets = sets.join(", "),
            stamp = it.stamp,
            now = self.now(),
            arrays = arrays.join(", "),
            names = names.join(", "),
            matched = self.key_is_of(it, "v.k"),
            changed = differ(it.updatable.iter().map(|(_, name)| name.as_str())),
        );
        let rows = self.bind_cells(self.start(&Statement::new(sql)), it, rows).fetch_all(connection).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    fn unnested(&self, it: &Further) -> (Vec<String>, Vec<String>) {
        let arrays = (0..=it.updatable.len()).map(|n| format!("${}::text[]", self.first_own() + n)).collect();
        let values = (0..it.updatable.len()).map(|n| format!("v{n}"));
        (arrays, std::iter::once("k".to_owned()).chain(values).collect())
    }

    fn bind_cells<'q>(&self, query: Query<'q>, it: &Further, rows: &[Put<'q>]) -> Query<'q> {
        let keys: Vec<&str> = rows.iter().map(|row| row.key).collect();
        it.updatable.iter().fold(query.bind(keys), |query, (at, _)| {
            query.bind(rows.iter().map(|row| row.cells[*at].as_deref()).collect::<Vec<_>>())
        })
    }

    /// Whether an update changes the table itself: a stamp is moved where something was edited, and where nothing was (so that the row is
    /// due again). `parameter` holds the keys that were written elsewhere.
    pub(super) fn changed_here(&self, parameter: usize) -> String {
        if self.further.is_empty() {
            return String::new();
        }
        let elsewhere = format!("v.k <> all(${parameter}::text[])");
        match self.updatable.is_empty() {
            true => format!(" and {elsewhere}"),
            false => {
                let differs = differ(self.updatable.iter().map(|&at| self.columns[at].name.as_str()));
                format!(" and ({differs} or {elsewhere})")
            }
        }
    }
}

/// Whether columns of `t` are not what `v` holds, as the database prints them.
fn differ<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let (own, given): (Vec<String>, Vec<String>) =
        names.enumerate().map(|(n, name)| (format!("t.{name}::text"), format!("v.v{n}"))).unzip();
    format!("row({}) is distinct from row({})", own.join(", "), given.join(", "))
}
