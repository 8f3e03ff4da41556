//! What is held against one live table of an entity. Pure.
//!
//! [`must_have`] is what no page can do without: a worker asks it too when it makes an entity ready. [`should_have`] is what rows
//! will need, or what costs more than it should.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Deleted, Entity, Field, Side, Spot, Table, all_known, nearest, suggest};
use crate::mapping::Class;
use crate::sides::postgres::{Index, Kind, LiveColumn, LiveTable, Rewriter, shown_ident};
use crate::stages::entity::marked;

use super::flaw::{Flaw, Named, listed, named, sql_name, wanted};
use super::types;

/// Who a database has, beside the table that was looked for: schema and table.
pub type Names = [(String, String)];

pub fn no_such_table(entity: &Entity, side: Side, database: &str, names: &Names) -> Flaw {
    let table = entity.table(side);
    let spot = Spot::Table(side);
    let mean = |schema: &str, name: &str| format!("did you mean `{schema}.{name}`?");
    // Where `users` is written, `public.users` is read: perhaps it is in another schema.
    let elsewhere = names.iter().find(|(_, name)| *name == table.name).map(|(schema, name)| mean(schema, name));
    let schemas: BTreeSet<&str> = names.iter().map(|(schema, _)| schema.as_str()).collect();
    if !names.is_empty() && !schemas.contains(table.schema.as_str()) {
        let message = format!("there is no schema `{}` with tables in {database} ({side} side)", table.schema);
        let help = elsewhere.or_else(|| suggest(&table.schema, schemas));
        return Flaw { help, ..Flaw::error("no-such-schema", spot, message) };
    }
    let beside = || names.iter().filter(|(schema, _)| *schema == table.schema).map(|(_, name)| name.as_str());
    let near = || nearest(&table.name, beside()).map(|name| mean(&table.schema, name));
    let all = || {
        let all: Vec<String> = names.iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
        all_known(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let message = format!("there is no table {} in {database} ({side} side)", table.shown());
    let help = elsewhere.or_else(near).or_else(all);
    Flaw::error("no-such-table", spot, message)
        .help(help.unwrap_or_else(|| "correct `table`, or grant the role the right to see it".into()))
}

/// Why no page of this side can work.
pub fn must_have(entity: &Entity, side: Side, live: &LiveTable) -> Vec<Flaw> {
    let table = entity.table(side);
    let spot = Spot::Table(side);
    let name = table.shown();
    match live.kind {
        Kind::Table => {}
        Kind::View | Kind::MaterializedView => {
            let message =
                format!("{name} is a view: rows are locked and written, and what a view shows has no key of its own");
            return vec![Flaw::error("not-a-table", spot, message).help("name the table that the view shows")];
        }
        Kind::ForeignTable => {
            let message = format!("{name} is a foreign table: its rows cannot be locked from here");
            let help = "name the database that it lies in under `databases`, and its table there";
            return vec![Flaw::error("not-a-table", spot, message).help(help)];
        }
    }
    let mut flaws = Vec::new();
    if live.row_security {
        let message =
            format!("row security hides rows of {name} from role {}, and a hidden row would look deleted", live.role);
        let help = format!(
            "`alter role {} bypassrls`, or `alter table {} disable row level security`",
            shown_ident(&live.role),
            sql_name(table)
        );
        flaws.push(Flaw::error("row-security", spot, message).help(help));
    }
    let key = || {
        let columns: Vec<String> = table.key.iter().map(|key| shown_ident(key)).collect();
        columns.join(", ")
    };
    if live.has_heirs {
        let message = format!(
            "tables inherit from {name} ({side} side), and no unique index of it covers their rows: its key ({}) may name several rows",
            key()
        );
        let help = "name a table that none inherits from, make them partitions of it, or let them go by `alter table … no inherit`";
        flaws.push(Flaw::error("key-not-unique", Spot::Column(side, table.key[0].clone()), message).help(help));
    }
    for column in table.key.iter().filter_map(|key| live.column(key)).filter(|column| column.folds) {
        let message = format!(
            "key column {name}.{} has a collation that is not deterministic: two spellings are one key there, and two on the other side",
            column.name
        );
        let help = format!(
            "`alter table {} alter column {} type {} collate \"C\"`, or name another `key`",
            sql_name(table),
            shown_ident(&column.name),
            column.type_shown
        );
        flaws.push(Flaw::error("key-collation", Spot::Column(side, column.name.clone()), message).help(help));
    }
    for Named { column, field } in named(entity, side) {
        let Some(found) = live.column(column) else {
            flaws.push(no_such_column(table, side, live, column).of_field(field));
            continue;
        };
        let spot = || Spot::Column(side, column.to_owned());
        if let Some(why) = types::unsupported(found) {
            let message = format!("{name}.{column} is of type {}, which is not supported: {why}", found.type_shown);
            let help = "leave the column out, or map one that holds the same as numeric, text or json";
            flaws.push(Flaw::error("type-not-supported", spot(), message).of_field(field).help(help));
        }
        let is_own = table.key.iter().any(|key| key == column);
        let written = field.is_some() && flows_to(entity, side, column)
            || table.deleted.as_ref().is_some_and(|mark| marked(mark) == column);
        if found.generated && (written || Some(column) == table.updated_at.as_deref()) {
            let message = format!("{name}.{column} is generated: the database computes it, and it cannot be written");
            flaws.push(
                Flaw::error("generated-column", spot(), message)
                    .of_field(field)
                    .help("map the columns that it is computed from"),
            );
        }
        if found.always_identity && written && !is_own {
            let message = format!("{name}.{column} is `generated always as identity`: it cannot be changed");
            let help = format!(
                "`alter table {} alter column {} set generated by default`",
                sql_name(table),
                shown_ident(column)
            );
            flaws.push(Flaw::error("generated-column", spot(), message).of_field(field).help(help));
        }
    }
    if let Some(stamp) = table.updated_at.as_deref().and_then(|name| live.column(name))
        && !matches!(stamp.typname.as_str(), "timestamptz" | "timestamp" | "date" | "int4" | "int8")
    {
        let message = format!(
            "`updated_at` column {name}.{} is {}: a timestamp, a date or epoch seconds is needed",
            stamp.name, stamp.type_shown
        );
        let help = "name another column as `updated_at`; where rows have no stamp, `changes = \"sweep\"` compares them";
        flaws.push(Flaw::error("stamp-type", Spot::Column(side, stamp.name.clone()), message).help(help));
    }
    flaws
}

/// Whether a field that stands on the column is ever written there.
fn flows_to(entity: &Entity, side: Side, column: &str) -> bool {
    let mut fields = entity.fields.iter().filter(|field| field.columns(side).iter().any(|own| own == column));
    fields.any(|field| field.one_way.is_none_or(|only| only == side))
}

pub fn no_such_column(table: &Table, side: Side, live: &LiveTable, column: &str) -> Flaw {
    let message = format!("there is no column `{column}` in {} ({side} side)", table.shown());
    Flaw {
        help: suggest(column, live.columns.iter().map(|column| column.name.as_str())),
        ..Flaw::error("no-such-column", Spot::Column(side, column.to_owned()), message)
    }
}

/// What the database's catalogue says around a table.
#[derive(Debug, Clone, Copy)]
pub struct Around<'f> {
    /// The entities whose table it is on this side: one wide table may be several entities.
    pub entities: &'f [&'f Entity],
    pub indexes: &'f [Index],
    pub rewriters: &'f [Rewriter],
}

/// What rows will need, or what costs more than it should.
pub fn should_have(entity: &Entity, side: Side, live: &LiveTable, around: Around<'_>) -> Vec<Flaw> {
    let table = entity.table(side);
    let indexes: Vec<&Index> =
        around.indexes.iter().filter(|index| index.schema == table.schema && index.table == table.name).collect();
    let rewriters =
        around.rewriters.iter().filter(|one| one.schema == table.schema && one.table == table.name).collect::<Vec<_>>();
    let mut flaws = Vec::new();
    flaws.extend(key(table, side, live, &indexes));
    flaws.extend(stamp(table, side, live, &indexes));
    flaws.extend(natural_key(entity, side, live, &indexes));
    flaws.extend(caseless_key(entity, side, live, &indexes));
    flaws.extend(deleted(table, side, live));
    flaws.extend(left_out(entity, side, live, around.entities));
    flaws.extend(rights(entity, side, live));
    flaws.extend(rewritten(entity, side, &rewriters));
    flaws
}

/// The key must name one row, and each row.
fn key(table: &Table, side: Side, live: &LiveTable, indexes: &[&Index]) -> Vec<Flaw> {
    let name = table.shown();
    let spot = || Spot::Column(side, table.key[0].clone());
    let columns: Vec<String> = table.key.iter().map(|key| shown_ident(key)).collect();
    let mut flaws = Vec::new();
    let is_unique = |index: &&&Index| {
        let part = |part: &String| {
            let column = plain(part);
            column.is_some_and(|column| table.key.contains(&column) || table.scope.contains_key(&column))
        };
        index.is_unique && index.is_immediate && index.predicate.is_none() && index.columns.iter().all(part)
    };
    let is_there = table.key.iter().all(|key| live.column(key).is_some());
    if is_there && !indexes.iter().any(|index| is_unique(&index)) {
        let message = format!(
            "no unique index of {name} ({side} side) holds its key ({}): it may name several rows",
            columns.join(", ")
        );
        let help = format!(
            "`create unique index concurrently on {} ({})`, or name another `key`",
            sql_name(table),
            columns.join(", ")
        );
        flaws.push(Flaw::error("key-not-unique", spot(), message).help(help));
    }
    for column in table.key.iter().filter_map(|name| live.column(name)) {
        let spot = Spot::Column(side, column.name.clone());
        if column.nullable {
            let message =
                format!("key column {name}.{} may be NULL: a row without a key is never carried over", column.name);
            let help =
                format!("`alter table {} alter column {} set not null`", sql_name(table), shown_ident(&column.name));
            flaws.push(Flaw::warning("key-nullable", spot.clone(), message).help(help));
        }
        let served =
            |index: &&Index| index.columns.iter().any(|part| about(part) == column.name && part.contains("::text"));
        if column.foreign_order && !indexes.iter().any(served) {
            let message = format!(
                "key column {name}.{} is {}, whose order is not the catalogue's: it is read by its text, which no index serves",
                column.name, column.type_shown
            );
            let help =
                format!("`create index concurrently on {} (({}::text))`", sql_name(table), shown_ident(&column.name));
            flaws.push(Flaw::warning("no-index", spot, message).help(help));
        }
    }
    flaws
}

/// Changes are found by the stamp.
fn stamp(table: &Table, side: Side, live: &LiveTable, indexes: &[&Index]) -> Vec<Flaw> {
    let name = table.shown();
    let Some(stamp) = table.updated_at.as_deref().and_then(|name| live.column(name)) else { return Vec::new() };
    let spot = || Spot::Column(side, stamp.name.clone());
    let mut flaws = Vec::new();
    // Behind columns that the scope fixes it serves as well.
    let serves = |index: &&Index| {
        let mut parts =
            index.columns.iter().skip_while(|part| plain(part).is_some_and(|it| table.scope.contains_key(&it)));
        // A partial index serves where its predicate is the table's `where`: the planner is asked, not we.
        (index.predicate.is_none() || table.filter.is_some())
            && parts.next().is_some_and(|part| plain(part).as_ref() == Some(&stamp.name))
    };
    if !indexes.iter().any(serves) {
        let columns: Vec<String> =
            std::iter::once(&stamp.name).chain(&table.key).map(|column| shown_ident(column)).collect();
        let message = format!(
            "no index of {name} ({side} side) begins with `{}`, so every look for changes reads the whole table",
            stamp.name
        );
        let help = format!("`create index concurrently on {} ({})`", sql_name(table), columns.join(", "));
        flaws.push(Flaw::warning("no-index", spot(), message).help(help));
    }
    if stamp.nullable {
        let message = format!(
            "`updated_at` column {name}.{} may be NULL: such rows are all looked at whenever one of them changes",
            stamp.name
        );
        let column = shown_ident(&stamp.name);
        let help = format!(
            "`alter table {table} alter column {column} set default now()`, fill it, then `alter column {column} set not null`",
            table = sql_name(table)
        );
        flaws.push(Flaw::warning("stamp-nullable", spot(), message).help(help));
    }
    flaws
}

/// Without a unique index two records made at once are doubled.
fn natural_key(entity: &Entity, side: Side, live: &LiveTable, indexes: &[&Index]) -> Option<Flaw> {
    let table = entity.table(side);
    let first = entity.match_on.first()?;
    let fields: Vec<&Field> = entity.fields.iter().filter(|field| entity.match_on.contains(&field.name)).collect();
    let natural: Vec<&str> = fields.iter().flat_map(|field| field.columns(side)).map(String::as_str).collect();
    let covers = |index: &&Index| {
        let within = |part: &String| natural.contains(&about(part)) || table.scope.contains_key(about(part));
        let living = |predicate: &String| of_the_living(predicate, table.deleted.as_ref());
        index.is_unique && index.columns.iter().all(within) && index.predicate.as_ref().is_none_or(living)
    };
    let is_there = !natural.is_empty() && natural.iter().all(|column| live.column(column).is_some());
    if !is_there || indexes.iter().any(covers) {
        return None;
    }
    let message = format!(
        "no unique index of {} ({side} side) covers `match_on` ({}), so two records made at once can be doubled",
        table.shown(),
        natural.join(", ")
    );
    let columns: Vec<String> = table.scope.keys().map(String::as_str).chain(natural).map(shown_ident).collect();
    let help = format!("`create unique index concurrently on {} ({})`", sql_name(table), columns.join(", "));
    Some(Flaw::warning("match-on-not-unique", Spot::MatchOn(first.clone()), message).about(side, None).help(help))
}

/// Partners are looked up by what the database makes of a caseless text, and that by no operator of an extension.
fn caseless_key(entity: &Entity, side: Side, live: &LiveTable, indexes: &[&Index]) -> Vec<Flaw> {
    let table = entity.table(side);
    let natural = entity.fields.iter().filter(|field| entity.match_on.contains(&field.name));
    let columns = natural.flat_map(|field| field.columns(side)).filter_map(|name| live.column(name));
    let served = |column: &LiveColumn| {
        let serves = |part: &String| about(part) == column.name && part.starts_with("lower(");
        indexes.iter().any(|index| index.columns.iter().any(serves))
    };
    columns
        .filter(|column| column.typname == "citext" && !served(column))
        .map(|column| {
            let message = format!(
                "`match_on` column {}.{} ({side} side) is {}: partners are looked up by its text in small letters, which no index serves",
                table.shown(),
                column.name,
                column.type_shown
            );
            let help = format!(
                "`create index concurrently on {} (lower({}::text))`",
                sql_name(table),
                shown_ident(&column.name)
            );
            Flaw::warning("no-index", Spot::Column(side, column.name.clone()), message).help(help)
        })
        .collect()
}

/// A mark of deleted rows must be able to mark.
fn deleted(table: &Table, side: Side, live: &LiveTable) -> Option<Flaw> {
    let mark = table.deleted.as_ref()?;
    let column = live.column(marked(mark))?;
    let name = format!("{}.{}", table.shown(), column.name);
    let message = match mark {
        Deleted::At { .. } if matches!(column.class, Class::Instant | Class::Date) => return None,
        Deleted::At { .. } => {
            format!("`deleted_at` column {name} is {}: a time or a date is needed", column.type_shown)
        }
        Deleted::Flag { yes, no, .. } => {
            let strange: Vec<&str> =
                [yes, no].into_iter().filter(|mark| !reads_as(mark, column)).map(String::as_str).collect();
            if strange.is_empty() {
                return None;
            }
            format!("`deleted` column {name} is {}, which has no value {}", column.type_shown, listed(strange))
        }
    };
    let help = "name a column that fits: `deleted_at = \"column\"` or `deleted = { column = …, yes = …, no = … }`";
    Some(Flaw::error("deleted-type", Spot::Column(side, column.name.clone()), message).help(help))
}

/// The customer's values for the columns of a scope must be values of those columns. They may be secret, and are not shown.
pub fn scope(side: Side, live: &LiveTable, values: &[(&str, String)]) -> Vec<Flaw> {
    let wrong = values.iter().filter_map(|(name, value)| live.column(name).filter(|column| !reads_as(value, column)));
    wrong
        .map(|column| {
            let message = format!(
                "the value for scope column `{}` ({side} side) does not read as {}",
                column.name, column.type_shown
            );
            let help = "correct it in `scope`, or the customer's variable under `vars`";
            Flaw::error("scope-value", Spot::Column(side, column.name.clone()), message).help(help)
        })
        .collect()
}

/// As far as it can be told without asking the database.
pub(super) fn reads_as(value: &str, column: &LiveColumn) -> bool {
    let value = value.trim();
    match (column.class, column.typname.as_str()) {
        (_, "int2") => value.parse::<i16>().is_ok(),
        (_, "int4") => value.parse::<i32>().is_ok(),
        (_, "int8") => value.parse::<i64>().is_ok(),
        (Class::Number, _) => value.parse::<f64>().is_ok(),
        (Class::Uuid, _) => uuid::Uuid::parse_str(value).is_ok(),
        (Class::Bool, _) => {
            let known = ["t", "true", "y", "yes", "on", "1", "f", "false", "n", "no", "off", "0"];
            known.contains(&value.to_lowercase().as_str())
        }
        _ if !column.labels.is_empty() => column.labels.iter().any(|label| label == value),
        _ => true,
    }
}

/// Columns that an insert must fill and nobody does.
fn left_out(entity: &Entity, side: Side, live: &LiveTable, entities: &[&Entity]) -> Vec<Flaw> {
    let table = entity.table(side);
    // Who reads when a record was made does not write it.
    let fills = |one: &&Named<'_>| Some(one.column) != table.created_at.as_deref();
    let all = entities.iter().flat_map(|entity| named(entity, side)).chain(named(entity, side));
    let named: BTreeSet<&str> = all.filter(|one| fills(&one)).map(|one| one.column).collect();
    // Who wrote `nmae` meant `name`: that is said already.
    let missing: Vec<&str> = named.iter().copied().filter(|name| live.column(name).is_none()).collect();
    let columns = || live.columns.iter().map(|column| column.name.as_str());
    let meant: BTreeSet<&str> = missing.into_iter().filter_map(|name| nearest(name, columns())).collect();
    let is_left_out = |column: &&LiveColumn| {
        !meant.contains(column.name.as_str())
            && !column.nullable
            && column.default.is_none()
            && !column.generated
            && !named.contains(column.name.as_str())
    };
    live.columns
        .iter()
        .filter(is_left_out)
        .map(|column| {
            let message = format!(
                "{}.{} is NOT NULL without a default, and no field fills it: no record can be made on the {side} side",
                table.shown(),
                column.name
            );
            let help = format!(
                "map it, fix it in `scope`, or `alter table {} alter column {} set default …`",
                sql_name(table),
                shown_ident(&column.name)
            );
            Flaw::error("not-null-not-mapped", Spot::Table(side), message).help(help)
        })
        .collect()
}

/// What our role must be allowed to do with the table.
fn rights(entity: &Entity, side: Side, live: &LiveTable) -> Vec<Flaw> {
    let table = entity.table(side);
    let role = shown_ident(&live.role);
    let mut flaws = Vec::new();
    if !live.may_use_schema {
        let message = format!("role {} may not use schema {}", live.role, table.schema);
        let help = format!("`grant usage on schema {} to {role}`", shown_ident(&table.schema));
        flaws.push(Flaw::error("missing-right", Spot::Table(side), message).help(help));
    }
    flaws.extend(shut_schemas(entity, side, live));
    for (right, columns) in wanted(entity, side) {
        let has = |column: &LiveColumn| match right {
            "select" => column.rights.select,
            "insert" => column.rights.insert,
            _ => column.rights.update,
        };
        let lacking: Vec<&LiveColumn> =
            columns.into_iter().filter_map(|name| live.column(name)).filter(|column| !has(column)).collect();
        if lacking.is_empty() {
            continue;
        }
        // A right on some columns only is given so on purpose: the rest is to be as fine.
        let has_some = live.columns.iter().any(has);
        let names = listed(lacking.iter().map(|column| column.name.as_str()));
        let columns: Vec<String> = lacking.iter().map(|column| shown_ident(&column.name)).collect();
        let (what, granted) = if has_some {
            (format!("{names} of {}", table.shown()), format!("{right} ({})", columns.join(", ")))
        } else {
            (table.shown(), right.to_owned())
        };
        let message = format!("role {} may not {right} {what}", live.role);
        let help = format!("`grant {granted} on {} to {role}`", sql_name(table));
        flaws.push(Flaw::error("missing-right", Spot::Table(side), message).help(help));
    }
    // New keys are taken from the sequence before the row is written.
    if let [key] = table.key.as_slice()
        && !entity.fields.iter().any(|field| field.columns(side).contains(key))
        && let Some((sequence, false)) = live.column(key).and_then(|key| key.sequence.as_ref())
    {
        let message = format!("role {} may not take new keys of {} from sequence {sequence}", live.role, table.shown());
        let help = format!("`grant usage on sequence {sequence} to {role}`");
        flaws.push(Flaw::error("missing-right", Spot::Column(side, key.clone()), message).help(help));
    }
    flaws
}

/// Schemas of types, one by one. Values are read and written by a domain's base type, so its own schema is needed only to ask what it keeps.
fn shut_schemas(entity: &Entity, side: Side, live: &LiveTable) -> Vec<Flaw> {
    let role = shown_ident(&live.role);
    let mut shut: BTreeMap<&str, (bool, Vec<&str>)> = BTreeMap::new();
    for column in named(entity, side).into_iter().filter_map(|one| live.column(one.column)) {
        for schema in &column.shut_schemas {
            let (is_needed, columns) = shut.entry(schema).or_default();
            *is_needed |= column.type_sql.strip_prefix(schema.as_str()).is_some_and(|rest| rest.starts_with('.'));
            columns.push(&column.name);
        }
    }
    let flaw = |(schema, (is_needed, columns)): (&str, (bool, Vec<&str>))| {
        let name = entity.table(side).shown();
        let message =
            format!("role {} may not use schema {schema}, of the type of {} of {name}", live.role, listed(columns));
        let flaw = if is_needed { Flaw::error } else { Flaw::warning };
        flaw("missing-right", Spot::Table(side), message).help(format!("`grant usage on schema {schema} to {role}`"))
    };
    shut.into_iter().map(flaw).collect()
}

/// What may change a row on its way in.
fn rewritten(entity: &Entity, side: Side, rewriters: &[&Rewriter]) -> Vec<Flaw> {
    let table = entity.table(side);
    let name = table.shown();
    let written: BTreeSet<String> = named(entity, side).iter().map(|one| one.column.to_lowercase()).collect();
    let stamp = table.updated_at.clone().unwrap_or_default();
    let is_stamp = |column: &String| *column == stamp.to_lowercase();
    rewriters
        .iter()
        .filter_map(|one| {
            if one.kind == "rule" {
                let message = format!("rule `{}` may put something else in place of what is written to {name}", one.name);
                let help = "what is stored otherwise than it was written is quarantined: make the rule a trigger that leaves mapped \
                            columns alone, or drop it";
                return Some(Flaw::warning("rule-may-rewrite", Spot::Table(side), message).help(help));
            }
            match assigned(one) {
                Assigned::Columns(columns) if columns.iter().all(|column| !written.contains(column)) => None,
                Assigned::Columns(columns) if columns.iter().all(|column| is_stamp(column) || !written.contains(column)) => {
                    let message = format!("trigger `{}` sets `{}` of {name} before each write", one.name, stamp);
                    let help = "nothing, if it sets the moment of the write: the next run looks at such a row once more and leaves it; \
                                one that sets anything else hides edits";
                    Some(Flaw::warning("trigger-restamps", Spot::Column(side, stamp.clone()), message).help(help))
                }
                _ => {
                    let message = format!(
                        "trigger `{}` (function {}) may change mapped columns of {name} before each write",
                        one.name, one.function
                    );
                    let help = "a value that it changes is quarantined: map what the trigger makes of it, by a lens or on both sides, or \
                                let the trigger leave it alone";
                    Some(Flaw::warning("trigger-may-rewrite", Spot::Table(side), message).help(help))
                }
            }
        })
        .collect()
}

#[derive(Debug, PartialEq)]
enum Assigned {
    /// No others than these.
    Columns(BTreeSet<String>),
    Unknown,
}

/// The columns that a trigger sets, as far as its text tells.
fn assigned(trigger: &Rewriter) -> Assigned {
    // A module of PostgreSQL's own, in C: its argument is the column.
    if trigger.function == "moddatetime" && !trigger.is_readable {
        let argument = trigger.arguments.split("\\000").next().unwrap_or_default();
        return Assigned::Columns([argument.to_lowercase()].into());
    }
    if !trigger.is_readable {
        return Assigned::Unknown;
    }
    let body = trigger.body.to_lowercase();
    let mut columns = BTreeSet::new();
    for (at, _) in body.match_indices("new") {
        let is_word = !body[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '"' | '\''));
        let rest = &body[at + "new".len()..];
        if !is_word || rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let Some(field) = rest.trim_start().strip_prefix('.') else {
            // `return new` hands it on, `old is distinct from new` looks at it; `new := …` and `into new` make another.
            let after = rest.trim_start();
            let made = after.starts_with(":=") || after.starts_with('=') || body[..at].trim_end().ends_with("into");
            if made {
                return Assigned::Unknown;
            }
            continue;
        };
        let field = field.trim_start();
        let end = field.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '"' | '$'))).unwrap_or(field.len());
        let after = field[end..].trim_start();
        // A comparison reads like an old-fashioned assignment: better one warning too many.
        if after.starts_with(":=") || after.starts_with('=') || body[..at].trim_end().ends_with("into") {
            columns.insert(field[..end].trim_matches('"').to_owned());
        }
    }
    let words: Vec<&str> =
        body.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect();
    // The row is left as it was, or not written at all.
    if words.windows(2).any(|pair| matches!(pair, ["return", "old" | "null"])) {
        return Assigned::Unknown;
    }
    Assigned::Columns(columns)
}

/// The column that a part of an index is; `None` for an expression.
pub fn plain(part: &str) -> Option<String> {
    match part.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(inner) => Some(inner.replace("\"\"", "\"")),
        None => (!part.contains(['(', ' ', ':'])).then(|| part.to_owned()),
    }
}

/// The column that an index's part is about: itself, or in lower case.
fn about(part: &str) -> &str {
    let inner = part.strip_prefix("lower(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(part);
    inner.split("::").next().unwrap_or(inner).trim_matches(['(', ')', '"'])
}

/// Whether an index's predicate leaves out no more than deleted rows.
fn of_the_living(predicate: &str, deleted: Option<&Deleted>) -> bool {
    deleted.is_some_and(|(Deleted::At { column } | Deleted::Flag { column, .. })| predicate.contains(column.as_str()))
}

#[cfg(test)]
mod tests;
