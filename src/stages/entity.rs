//! An entity of one customer, made ready: its mapping held against the live tables, its statements, its pools. Made when
//! first needed and thrown away when a database says that a table is not what it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sqlx::PgConnection;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{
    self, ByName, Config, Customer, Deleted, Deletes, EntityId, FirstContact, KeyRule, Limits, Nulls, Side, Spot,
};
use crate::mapping::{
    Class, Column, Columns, DIGITS, Field, Lens, Mapping, Marks, NewKey, NewPart, NullMarks, On, Shape, StampKind,
};
use crate::pairs::CREATED_AT;
use crate::sides::postgres::{
    self, Database, LiveColumn, LiveTable, Pools, ScopeValue, Sessions, TableParts, TableSql, filter_check,
    key_spelling,
};
use crate::sides::{Fault, Permanent, sort};

use super::check::{self, Flaw};
use super::common::Common;
use super::conflicts::Log;

use super::fits::{Look, tables};
use super::parts::{as_one, misjoined, parts};

/// One entity of one customer, ready to run pages.
#[derive(Debug)]
pub struct ReadyEntity {
    pub mapping: Arc<Mapping>,
    pub legacy: ReadySide,
    pub platform: ReadySide,
    /// The entities that fields refer to, each with where its pairs are.
    pub refs: Vec<RefTarget>,
    pub page_rows: u32,
    pub overlap: Duration,
    pub compare_every: Duration,
    pub deletes: Deletes,
    /// Where other entities have a part of its rows.
    pub shared: Vec<Side>,
    /// Its fields and tables, as the ledger keeps them.
    pub look: Look,
}

/// One side of an entity.
#[derive(Debug)]
pub struct ReadySide {
    pub database: Database,
    pub sql: TableSql,
    pub new_key: NewKey,
    pub limits: Limits,
}

/// Where the pairs of a referred entity are.
#[derive(Debug)]
pub struct RefTarget {
    pub entity: EntityId,
    pub sessions: Sessions,
    pub entity_number: i32,
}

impl ReadyEntity {
    pub fn side(&self, side: Side) -> &ReadySide {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        }
    }
}

/// Describes both tables and resolves every field against them.
///
/// # Errors
/// `Permanent` with the table, column or field at fault; or the database's own error.
pub async fn make_ready(
    (pools, common): (&Pools, &Common),
    config: &Config,
    customer: &Customer,
    entity: &config::Entity,
) -> anyhow::Result<ReadyEntity> {
    let legacy = live(pools, customer, entity, Side::Legacy).await?;
    let platform = live(pools, customer, entity, Side::Platform).await?;
    let mapping =
        resolve(entity, &legacy.described.table, &platform.described.table).map_err(|flaw| refused(entity, flaw))?;
    let mapping = common.mappings.once(mapping);
    let mut fingerprints: Vec<i64> = mapping.fields.iter().map(|field| i64::from(field.fingerprint)).collect();
    fingerprints.sort_unstable();
    let tables = tables(entity, &legacy.described.table, &platform.described.table);
    let look = Look { fields: fingerprints, tables: common.looks.once(tables) };

    let mut refs: Vec<RefTarget> = Vec::new();
    for field in &entity.fields {
        let config::Lens::Ref(target) = &field.lens else { continue };
        if refs.iter().any(|known| known.entity == *target) {
            continue;
        }
        let referred = config.entity(target).ok_or_else(|| {
            refused(entity, format!("field `{}` refers to `{target}`, which is no entity", field.name))
        })?;
        let database = database_of(pools, customer, referred, Side::Platform)?;
        let entity_number = entity_number(&database, customer, target).await?;
        refs.push(RefTarget { entity: target.clone(), sessions: database.read, entity_number });
    }

    Ok(ReadyEntity {
        legacy: ready_side((&mapping, common), customer, entity, Side::Legacy, legacy)
            .map_err(|reason| refused(entity, reason))?,
        platform: ready_side((&mapping, common), customer, entity, Side::Platform, platform)
            .map_err(|reason| refused(entity, reason))?,
        mapping,
        refs,
        page_rows: entity.page_rows,
        overlap: entity.overlap,
        compare_every: entity.compare_every,
        deletes: entity.deletes,
        shared: Side::BOTH.into_iter().filter(|side| config.sharer(entity, *side).is_some()).collect(),
        look,
    })
}

/// Holds the mapping against the live tables alone: before there is a schema `sync_bridge`. Writes nothing.
///
/// # Errors
/// As `make_ready`.
pub async fn check_tables(pools: &Pools, customer: &Customer, entity: &config::Entity) -> anyhow::Result<()> {
    let legacy = described(pools, customer, entity, Side::Legacy).await?;
    let platform = described(pools, customer, entity, Side::Platform).await?;
    let sides = [(&legacy.table, &*legacy.scope), (&platform.table, &*platform.scope)];
    made(entity, sides).map_err(|flaw| refused(entity, flaw))?;
    Ok(())
}

/// Why an entity whose tables have all they must have is refused all the same. Pure.
pub fn refusal(customer: &Customer, entity: &config::Entity, legacy: &LiveTable, platform: &LiveTable) -> Option<Flaw> {
    let scope = |side: Side, live: &LiveTable| -> Result<Vec<ScopeValue>, String> {
        let table = entity.table(side);
        let fixed = |(name, value): (&str, String)| {
            let type_sql = live_column(live, side, table, name)?.type_sql.clone();
            Ok(ScopeValue { column: name.to_owned(), type_sql, value })
        };
        scope_values(customer, table)?.into_iter().map(fixed).collect()
    };
    let refusal = || -> Result<(), Box<Flaw>> {
        let (on_legacy, on_platform) = (scope(Side::Legacy, legacy)?, scope(Side::Platform, platform)?);
        made(entity, [(legacy, &*on_legacy), (platform, &*on_platform)])?;
        Ok(())
    };
    refusal().err().map(|flaw| *flaw)
}

/// The mapping, with a way to make keys on both sides.
fn made(entity: &config::Entity, [legacy, platform]: [(&LiveTable, &[ScopeValue]); 2]) -> Result<Mapping, Box<Flaw>> {
    let mapping = resolve(entity, legacy.0, platform.0)?;
    for (side, (live, scope)) in [(Side::Legacy, legacy), (Side::Platform, platform)] {
        new_key(&mapping, entity, side, live, scope).map_err(|NoKey { part, reason }| {
            let spot = Spot::Column(side, entity.table(side).key[part].clone());
            Flaw::error("no-new-key", spot, reason).help("give the column a default, or map it by a field")
        })?;
    }
    Ok(mapping)
}

/// An entity's mapping and statements without the numbers that `sync_bridge` gives: enough to read rows, before or after it is
/// installed.
pub struct Readable {
    pub mapping: Mapping,
    legacy: ReadySide,
    platform: ReadySide,
}

impl Readable {
    pub fn side(&self, side: Side) -> &ReadySide {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        }
    }
}

/// # Errors
/// As `make_ready`.
pub async fn readable(pools: &Pools, customer: &Customer, entity: &config::Entity) -> anyhow::Result<Readable> {
    /// The number of no entity: its statements find no ledger rows.
    const NO_NUMBER: i32 = 0;
    forget_tables(pools, customer, entity);
    let legacy = described(pools, customer, entity, Side::Legacy).await?;
    let platform = described(pools, customer, entity, Side::Platform).await?;
    let mapping = resolve(entity, &legacy.table, &platform.table).map_err(|flaw| refused(entity, flaw))?;
    let common = Common::default();
    let ready = |side: Side, described: Described| {
        let live = Live { described, entity_number: NO_NUMBER };
        ready_side((&mapping, &common), customer, entity, side, live).map_err(|reason| refused(entity, reason))
    };
    Ok(Readable { legacy: ready(Side::Legacy, legacy)?, platform: ready(Side::Platform, platform)?, mapping })
}

/// The entity's tables are described anew when somebody asks next.
pub fn forget_tables(pools: &Pools, customer: &Customer, entity: &config::Entity) {
    // What leads to no database has nothing to forget.
    Side::BOTH
        .into_iter()
        .flat_map(|side| database_of(pools, customer, entity, side))
        .for_each(|it| it.forget_tables());
}

struct Live {
    described: Described,
    entity_number: i32,
}

/// A side as it is, with what only its database could say about the declaration.
struct Described {
    database: Database,
    table: LiveTable,
    scope: Vec<ScopeValue>,
}

async fn live(pools: &Pools, customer: &Customer, entity: &config::Entity, side: Side) -> anyhow::Result<Live> {
    let described = described(pools, customer, entity, side).await?;
    let entity_number = entity_number(&described.database, customer, &entity.id).await?;
    Ok(Live { described, entity_number })
}

async fn described(
    pools: &Pools,
    customer: &Customer,
    entity: &config::Entity,
    side: Side,
) -> anyhow::Result<Described> {
    let table = entity.table(side);
    let database = database_of(pools, customer, entity, side)?;
    let found = database.tables(&table.names().collect::<Vec<_>>()).await?;
    let mut flaws = Vec::new();
    for part in parts(entity, side, &found) {
        let table = part.entity.table(side);
        let of_part = match found.get(&(table.schema.clone(), table.name.clone())) {
            Some(live) => check::must_have(&part.entity, side, live),
            None => vec![check::no_such_table(&part.entity, side, &database.shown, &[])],
        };
        flaws.extend(of_part.into_iter().map(|flaw| part.of_entity(side, flaw)));
    }
    let Some(live) = as_one(table, &found) else {
        return Err(refused(entity, check::no_such_table(entity, side, &database.shown, &[])));
    };
    flaws.extend(misjoined(entity, side, &live));
    if !flaws.is_empty() {
        let flaws: Vec<String> = flaws.iter().map(|flaw| format!("{flaw} (in {})", database.shown)).collect();
        return Err(refused(entity, flaws.join("; ")));
    }
    let scope = scope_as_stored(customer, entity, side, &database, &live).await?;
    if let Some(condition) = &table.filter
        && let Some(flaw) = filter_flaw(entity, side, &database, &live, condition).await?
    {
        let place = format!("`where` of {} ({side} side, line {})", table.shown(), table.place.line);
        return Err(refused(entity, format!("{place}: {flaw}")));
    }
    Ok(Described { database, table: live, scope })
}

/// The scope's values as the database prints them in the types of their columns: as a part of a key they must be known so.
async fn scope_as_stored(
    customer: &Customer,
    entity: &config::Entity,
    side: Side,
    database: &Database,
    live: &LiveTable,
) -> anyhow::Result<Vec<ScopeValue>> {
    let table = entity.table(side);
    let mut scope = Vec::new();
    for (name, value) in scope_values(customer, table).map_err(|reason| refused(entity, reason))? {
        let column = live_column(live, side, table, name).map_err(|reason| refused(entity, reason))?;
        let sql = format!("select {}", key_spelling(column, &format!("($1::text)::{}", column.type_sql)));
        let mut session = database.read.begin().await.with_context(|| format!("connecting to {}", database.shown))?;
        let stored: sqlx::Result<(String,)> =
            postgres::query_as(sqlx::AssertSqlSafe(sql)).bind(value).fetch_one(&mut session).await;
        let value = match stored {
            Ok((value,)) => value,
            Err(error) if sort(&error) == Fault::Row => {
                let what = format!(
                    "the value of scope `{name}` for customer `{}` cannot be one of {}.`{name}` ({side} side), which is {}",
                    customer.id,
                    table.shown(),
                    column.type_shown
                );
                return Err(refused(entity, what));
            }
            Err(error) => return Err(error).with_context(|| format!("reading scope `{name}` in {}", database.shown)),
        };
        scope.push(ScopeValue { column: name.to_owned(), type_sql: column.type_sql.clone(), value });
    }
    Ok(scope)
}

/// Lets the database read `where`: why it cannot be one.
///
/// # Errors
/// The database does not answer.
pub async fn filter_flaw(
    entity: &config::Entity,
    side: Side,
    database: &Database,
    live: &LiveTable,
    condition: &str,
) -> anyhow::Result<Option<Flaw>> {
    let table = entity.table(side);
    let flaw = |reason: String| Flaw::error("where", Spot::Filter(side), reason);
    // Which operators such a column meets depends on the session's search path: it would be seen in one and not in another.
    let mut of_extensions = live.columns.iter().filter(|column| column.foreign_order);
    if let Some(column) = of_extensions.find(|column| names_bare(condition, &column.name)) {
        return Ok(Some(flaw(format!(
            "column `{}` is {}, an extension's type, which is compared by whatever the session finds; write `{}::text`",
            column.name, column.type_shown, column.name
        ))));
    }
    let mut session = database.read.begin().await.with_context(|| format!("connecting to {}", database.shown))?;
    match filter_check(table, condition).query().fetch_all(&mut session).await {
        Ok(_) => Ok(None),
        Err(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| ["0A", "22", "42"].contains(&&code[..2])) =>
        {
            let said =
                format!("{} says: {}; it may name the table's own columns only", database.shown, error.message());
            // `column "nmae" does not exist`
            let named = error.message().split('"').nth(1).filter(|_| error.code().as_deref() == Some("42703"));
            let near =
                named.and_then(|name| config::suggest(name, live.columns.iter().map(|column| column.name.as_str())));
            Ok(Some(Flaw { help: near, ..flaw(said) }))
        }
        Err(error) => Err(error).with_context(|| format!("reading `where` of {} in {}", table.shown(), database.shown)),
    }
}

/// Whether a condition names a column without making it text.
fn names_bare(condition: &str, column: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    condition.match_indices(column).any(|(at, _)| {
        let (before, after) = (&condition[..at], &condition[at + column.len()..]);
        let is_word = !before.ends_with(is_part) && !after.starts_with(is_part);
        is_word && !after.trim_start_matches('"').starts_with("::text")
    })
}

/// Where the entity's conflicts are logged. Neither its tables have to fit for that, nor the databases to answer that it refers into.
///
/// # Errors
/// The platform database does not answer, or does not know the entity.
pub async fn log(pools: &Pools, customer: &Customer, entity: &config::Entity) -> anyhow::Result<Log> {
    let database = database_of(pools, customer, entity, Side::Platform)?;
    let entity_number = entity_number(&database, customer, &entity.id).await?;
    Ok(Log { entity: entity.id.clone(), database, entity_number })
}

/// The short number that `sync_bridge` knows (customer, entity) by in this database; `registry` gave it.
async fn entity_number(database: &Database, customer: &Customer, entity: &EntityId) -> anyhow::Result<i32> {
    let mut session = database.read.begin().await.with_context(|| format!("connecting to {}", database.shown))?;
    let registrations = match registrations(&mut session, customer).await {
        Ok(registrations) => registrations,
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("42P01" | "3F000")) => {
            return Err(unprepared(&check::not_prepared(), database));
        }
        Err(error) => return Err(error).with_context(|| format!("reading sync_bridge.entity in {}", database.shown)),
    };
    let found = registrations.get(entity.as_str()).copied();
    check::registered(&customer.id, found).map_err(|flaw| {
        let flaw = Flaw { message: format!("entity `{entity}`: {}", flaw.message), ..*flaw };
        unprepared(&flaw, database)
    })
}

fn unprepared(flaw: &Flaw, database: &Database) -> anyhow::Error {
    let help = flaw.help.as_deref().unwrap_or_default();
    Permanent(format!("{} in {}; {help}", flaw.message, database.shown)).into()
}

/// The entities of a customer that this database knows: each its number, and the version of the schema that it needs.
///
/// # Errors
/// The database's, also where there is no schema `sync_bridge`.
pub async fn registrations(
    connection: &mut PgConnection,
    customer: &Customer,
) -> Result<BTreeMap<String, (i32, i32)>, sqlx::Error> {
    // The column came later than the table; where it lacks, an older binary prepared.
    let rows: Vec<(String, i32, i32)> = postgres::query_as(
        "select entity, id, coalesce((to_jsonb(known) ->> 'min_version')::integer, 1) from sync_bridge.entity as known \
         where customer = $1 order by entity",
    )
    .bind(customer.id.as_str())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(entity, number, needs)| (entity, (number, needs))).collect())
}

/// The database that an entity's side lies in; connects to nothing yet.
///
/// # Errors
/// The customer names none, or its URL cannot be read.
pub fn database_of(
    pools: &Pools,
    customer: &Customer,
    entity: &config::Entity,
    side: Side,
) -> anyhow::Result<Database> {
    let table = entity.table(side);
    let name = &table.database;
    let url = customer.databases.get(name).ok_or_else(|| {
        refused(entity, format!("customer `{}` names no database `{name}` under `databases`", customer.id))
    })?;
    pools.database(url, table.timezone, customer.limits_of(name).connections)
}

fn refused(entity: &config::Entity, reason: impl std::fmt::Display) -> anyhow::Error {
    Permanent(format!("entity `{}` (line {}): {reason}", entity.id, entity.place.line)).into()
}

/// Holds every declared column against the live tables. Pure.
fn resolve(entity: &config::Entity, legacy: &LiveTable, platform: &LiveTable) -> Result<Mapping, Box<Flaw>> {
    let mut legacy_shape = shape(entity, Side::Legacy, legacy)?;
    let mut platform_shape = shape(entity, Side::Platform, platform)?;
    let mut fields = Vec::new();
    for declared in &entity.fields {
        let legacy_at = place(&mut legacy_shape, &declared.legacy, (legacy, &entity.legacy))?;
        let platform_at = place(&mut platform_shape, &declared.platform, (platform, &entity.platform))?;
        let lens = lens(declared, [&legacy_shape, &platform_shape], [&legacy_at, &platform_at]).map_err(|reason| {
            Box::new(Flaw::error("types-do-not-fit", Spot::Lens, reason).of_field(Some(&declared.name)))
        })?;
        let on = [(&legacy_shape, &legacy_at), (&platform_shape, &platform_at)].map(|(shape, at)| On {
            side: shape.side,
            columns: &shape.columns,
            at,
            zone: shape.zone,
        });
        let null = NullMarks::new(declared.null.clone(), &lens, on);
        fields.push(Field {
            name: declared.name.clone(),
            fingerprint: fingerprint(&declared.name, &lens, &declared.null),
            lens,
            legacy: legacy_at,
            platform: platform_at,
            policy: declared.policy.unwrap_or(entity.policy),
            one_way: declared.one_way,
            null,
            first_contact: declared.first_contact.unwrap_or(entity.first_contact),
        });
    }
    if let (Some(legacy_mark), Some(platform_mark)) = (&entity.legacy.deleted, &entity.platform.deleted) {
        let lens = Lens::Deleted(Marks { legacy: legacy_mark.clone(), platform: platform_mark.clone() });
        fields.push(Field {
            name: "deleted".into(),
            fingerprint: fingerprint("deleted", &lens, &Nulls::default()),
            lens,
            legacy: place(&mut legacy_shape, &[marked(legacy_mark).to_string()], (legacy, &entity.legacy))?,
            platform: place(&mut platform_shape, &[marked(platform_mark).to_string()], (platform, &entity.platform))?,
            policy: entity.policy,
            one_way: None,
            null: NullMarks::default(),
            // NULL is a living row here, and no value that is missing.
            first_contact: match entity.first_contact {
                FirstContact::Authority => FirstContact::Side(entity.authority),
                declared => declared,
            },
        });
    }
    for (at, field) in fields.iter().enumerate() {
        if let Some(other) = fields[..at].iter().find(|other| other.fingerprint == field.fingerprint) {
            let both = format!("fields `{}` and `{}` have the same fingerprint; rename one", other.name, field.name);
            return Err(both.into());
        }
    }
    let match_on = entity
        .match_on
        .iter()
        .map(|name| {
            fields.iter().position(|field| field.name == *name).ok_or(format!("`match_on` names no field: `{name}`"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    for &at in &match_on {
        let field = &fields[at];
        let flaw = |what: String| Box::new(Flaw::error("mapping", Spot::MatchOn(field.name.clone()), what));
        for shape in [&legacy_shape, &platform_shape] {
            let mut columns = field.columns(shape.side).iter().map(|&at| &shape.columns[at]);
            let (Some(column), is_ref) = (columns.next(), matches!(field.lens, Lens::Ref(_))) else {
                return Err(flaw(format!(
                    "`match_on` field `{}` has no column on the {} side",
                    field.name, shape.side
                )));
            };
            if columns.next().is_some() && !is_ref {
                return Err(flaw(format!("`match_on` field `{}` stands on several columns", field.name)));
            }
            if field.lens.looked_up(column).is_none() || field.null.of(shape.side).is_some() {
                return Err(flaw(format!(
                    "`match_on` field `{}`: under its lens one value may be spelled in several ways on the {} side, so its records \
                     cannot be looked up there; match on a field with lens `same`, `trim`, `lowercase`, a one-to-one `values`, or a reference",
                    field.name, shape.side
                )));
            }
        }
    }
    Ok(Mapping {
        entity: entity.id.clone(),
        fields,
        legacy: legacy_shape,
        platform: platform_shape,
        match_on,
        authority: entity.authority,
    })
}

fn shape(entity: &config::Entity, side: Side, live: &LiveTable) -> Result<Shape, String> {
    let table = entity.table(side);
    let key = table.key.iter().map(|name| column(live, side, table, name)).collect::<Result<Vec<_>, _>>()?;
    let stamp = table.updated_at.as_ref().map(|name| live_column(live, side, table, name)).transpose()?;
    Ok(Shape {
        side,
        columns: Vec::new(),
        key,
        stamp: stamp.map(as_column),
        stamp_kind: stamp.map_or(Ok(StampKind::Absent), stamp_kind)?,
        created_at: table.created_at.as_ref().map(|name| column(live, side, table, name)).transpose()?,
        zone: table.timezone,
    })
}

pub(super) fn stamp_kind(stamp_column: &LiveColumn) -> Result<StampKind, String> {
    let digits = stamp_column.modifier.and_then(|digits| u8::try_from(digits).ok()).unwrap_or(DIGITS);
    Ok(match stamp_column.typname.as_str() {
        "timestamptz" => StampKind::Timestamptz { digits },
        "timestamp" => StampKind::Timestamp { digits },
        "date" => StampKind::Date,
        "int4" | "int8" => StampKind::EpochSeconds,
        other => return Err(format!("`updated_at` is {other}")),
    })
}

fn live_column<'a>(
    live: &'a LiveTable,
    side: Side,
    table: &config::Table,
    name: &str,
) -> Result<&'a LiveColumn, String> {
    live.column(name).ok_or_else(|| check::no_such_column(table, side, live, name).to_string())
}

fn column(live: &LiveTable, side: Side, table: &config::Table, name: &str) -> Result<Column, String> {
    Ok(as_column(live_column(live, side, table, name)?))
}

fn as_column(live: &LiveColumn) -> Column {
    Column {
        name: live.name.clone(),
        type_sql: live.type_sql.clone(),
        class: live.class,
        element: live.class_of_elements(),
        nullable: live.nullable,
        local_time: live.typname == "timestamp",
        caseless: live.typname == "citext",
        fixed: false,
    }
}

/// The columns' positions in the shape; adds those that are not there yet.
fn place(
    shape: &mut Shape,
    names: &[String],
    (live, table): (&LiveTable, &config::Table),
) -> Result<Vec<usize>, String> {
    let side = shape.side;
    names
        .iter()
        .map(|name| {
            // What is missing or cannot be written was found by `check::must_have`.
            let missing = || format!("there is no column `{name}` on the {side} side");
            let found = live.column(name).ok_or_else(missing)?;
            Ok(shape.columns.iter().position(|column| column.name == *name).unwrap_or_else(|| {
                let fixed = table.scope.contains_key(name);
                shape.columns.push(Column { fixed, ..as_column(found) });
                shape.columns.len() - 1
            }))
        })
        .collect()
}

/// A declared field's lens on these columns.
fn lens(field: &config::Field, shapes: [&Shape; 2], columns: [&[usize]; 2]) -> Result<Lens, String> {
    let [legacy, platform] = [0, 1].map(|side: usize| Columns {
        columns: columns[side].iter().map(|&at| &shapes[side].columns[at]).collect(),
        zone: shapes[side].zone,
    });
    Lens::resolve(&field.lens, &legacy, &platform)
}

pub fn marked(deleted: &Deleted) -> &str {
    match deleted {
        Deleted::At { column } | Deleted::Flag { column, .. } => column,
    }
}

/// A field's base counts only while name and lens are what they were when it was taken.
fn fingerprint(name: &str, lens: &Lens, null: &Nulls) -> u32 {
    let mut spelling = format!("{name}\u{0}{}", lens.spelling());
    if *null != Nulls::default() {
        spelling.push_str(&format!("\u{0}{:?}\u{0}{:?}", null.legacy, null.platform));
    }
    (xxh3_64(spelling.as_bytes()) as u32).min(CREATED_AT - 1)
}

fn ready_side(
    (mapping, common): (&Mapping, &Common),
    customer: &Customer,
    entity: &config::Entity,
    side: Side,
    live: Live,
) -> Result<ReadySide, String> {
    let table = entity.table(side);
    let shape = mapping.shape(side);
    let Live { described, entity_number } = live;
    let parts = new_key(mapping, entity, side, &described.table, &described.scope).map_err(|no_key| no_key.reason)?;
    let new_key = NewKey { customer: customer.id.clone(), parts };
    let written = (mapping.written(side), mapping.constants(side));
    let parts = TableParts::new((shape, &written.0, &written.1), &described.table, table, &described.scope);
    let sql = TableSql::new(common.tables.once(parts), described.scope, entity_number);
    Ok(ReadySide { database: described.database, sql, new_key, limits: customer.limits_of(&table.database) })
}

/// The columns of a table's scope with the customer's values.
pub fn scope_values<'t>(customer: &Customer, table: &'t config::Table) -> Result<Vec<(&'t str, String)>, String> {
    let value = |(name, template): (&'t String, &String)| {
        let value = fill(template, &customer.vars)
            .ok_or_else(|| format!("scope `{name}` names a variable that customer `{}` lacks", customer.id))?;
        Ok((name.as_str(), value))
    };
    table.scope.iter().map(value).collect()
}

/// Replaces `{name}` by the customer's variable.
fn fill(template: &str, vars: &ByName<String>) -> Option<String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, remaining) = after.split_once('}')?;
        filled.push_str(before);
        filled.push_str(vars.get(name)?);
        rest = remaining;
    }
    filled.push_str(rest);
    Some(filled)
}

/// Why new rows get no key, and the part of it that is at fault.
struct NoKey {
    part: usize,
    reason: String,
}

/// Where each part of a new row's key comes from.
fn new_key(
    mapping: &Mapping,
    entity: &config::Entity,
    side: Side,
    live: &LiveTable,
    scope: &[ScopeValue],
) -> Result<Vec<NewPart>, NoKey> {
    let (shape, table) = (mapping.shape(side), entity.table(side));
    let place = format!("{} ({side} side)", table.shown());
    let mut parts: Vec<Option<NewPart>> = shape
        .key
        .iter()
        .map(|key| {
            let fixed = scope.iter().find(|fixed| fixed.column == key.name);
            let field = || written_by_field(mapping, side, &key.name).map(NewPart::Field);
            fixed.map(|fixed| NewPart::Fixed(fixed.value.as_str().into())).or_else(field)
        })
        .collect();
    let open: Vec<usize> = (0..parts.len()).filter(|&at| parts[at].is_none()).collect();
    if let (true, Some(_)) = (open.is_empty(), table.new_key) {
        let reason = format!("fields cover the whole key of {place}, so `new_key` decides nothing; leave it out");
        return Err(NoKey { part: 0, reason });
    }
    for &at in &open {
        let key = &shape.key[at];
        let default = || live.column(&key.name).and_then(|column| column.default.clone()).map(NewPart::Drawn);
        let part = match table.new_key {
            None if side == Side::Platform && key.class == Class::Uuid => Ok(NewPart::Uuid5),
            None => default().ok_or_else(|| {
                let help = match key.class {
                    Class::Uuid | Class::Text => "name another way by `new_key = \"same\"` or `\"uuid5\"`",
                    _ => "name another way by `new_key = \"same\"`",
                };
                format!(
                    "new rows of {place} cannot get a key: `{}` has neither a default nor a field; {help}",
                    key.name
                )
            }),
            Some(KeyRule::Default) => default()
                .ok_or_else(|| format!("`new_key = \"default\"`, and `{}` of {place} has no default", key.name)),
            Some(KeyRule::Uuid5) if matches!(key.class, Class::Uuid | Class::Text) => Ok(NewPart::Uuid5),
            Some(KeyRule::Uuid5) => Err(format!(
                "`new_key = \"uuid5\"`, and `{}` of {place} can hold no uuid; use `default` or `same`",
                key.name
            )),
            Some(KeyRule::Same) => same_part(mapping, entity, side, live, (at, &open)),
        }
        .map_err(|reason| NoKey { part: at, reason })?;
        parts[at] = Some(part);
    }
    if parts.iter().flatten().filter(|part| **part == NewPart::Uuid5).count() > 1 {
        let reason = format!("two parts of the key of {place} would be the same uuid; map all but one by fields");
        return Err(NoKey { part: open[0], reason });
    }
    Ok(parts.into_iter().flatten().collect())
}

/// The position of a column that a field writes: one that never writes on this side gives no new row its key.
fn written_by_field(mapping: &Mapping, side: Side, name: &str) -> Option<usize> {
    mapping.written(side).into_iter().find(|&at| mapping.shape(side).columns[at].name == name)
}

/// The part of the other side's key that a part without a field takes: the one in the same place, the scope's columns not counted; or,
/// where the others' parts are as many as have no field here, those in order.
fn same_part(
    mapping: &Mapping,
    entity: &config::Entity,
    side: Side,
    live: &LiveTable,
    (at, open): (usize, &[usize]),
) -> Result<NewPart, String> {
    let (shape, table) = (mapping.shape(side), entity.table(side));
    let (others, their_table) = (mapping.shape(side.other()), entity.table(side.other()));
    let own = |shape: &Shape, table: &config::Table| -> Vec<usize> {
        (0..shape.key.len()).filter(|&at| !table.scope.contains_key(&shape.key[at].name)).collect()
    };
    let (ours, theirs) = (own(shape, table), own(others, their_table));
    let place = match theirs.len() {
        count if count == ours.len() => ours.iter().position(|&part| part == at),
        count if count == open.len() => open.iter().position(|&part| part == at),
        _ => None,
    };
    let key = &shape.key[at];
    let Some(other) = place.map(|place| theirs[place]) else {
        return Err(format!(
            "`new_key = \"same\"`: the keys of {} and {} have no part each for the other; map the parts by fields",
            table.shown(),
            their_table.shown()
        ));
    };
    let their = &others.key[other];
    let kind = |column: &Column| match column.class {
        Class::Text | Class::Uuid => true,
        Class::Number => ["int2", "int4", "int8"].iter().any(|name| column.type_sql.ends_with(&format!("\"{name}\""))),
        _ => false,
    };
    // A text may hold any spelling of a number or a uuid: its record would be stored under another key than it was given.
    let fits = their.class == key.class || key.class == Class::Text;
    if !(fits && kind(key) && kind(their)) {
        let shown = |name: &str| live.column(name).map_or("", |column| column.type_shown.as_str()).to_owned();
        return Err(format!(
            "`new_key = \"same\"`: `{}` of {} is {} and cannot hold every key that `{}` of {} can; both must be integers, uuids or texts, \
             or this one a text",
            key.name,
            table.shown(),
            shown(&key.name),
            their.name,
            their_table.shown()
        ));
    }
    Ok(NewPart::Same(other))
}

/// All that a customer's entities need, made once.
pub type Ready = Arc<ReadyEntity>;
