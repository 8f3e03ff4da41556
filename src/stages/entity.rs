//! An entity of one customer, made ready: its mapping held against the live tables, its statements, its pools. Made when
//! first needed and thrown away when a database says that a table is not what it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{self, Config, Customer, Deleted, EntityId, Limits, Nulls, Side};
use crate::mapping::{Class, Column, Columns, DIGITS, Field, Lens, Mapping, Marks, NullMarks, On, Shape, StampKind};
use crate::pairs::{self, CREATED_AT};
use crate::sides::Permanent;
use crate::sides::postgres::{self, Database, LiveColumn, LiveTable, NewKey, Pools, Sessions, TableSql, describe};

/// One entity of one customer, ready to run pages.
#[derive(Debug)]
pub struct ReadyEntity {
    pub mapping: Mapping,
    pub legacy: ReadySide,
    pub platform: ReadySide,
    /// The entities that fields refer to, each with where its pairs are.
    pub refs: Vec<RefTarget>,
    pub page_rows: u32,
    pub overlap: Duration,
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
    pools: &Pools,
    config: &Config,
    customer: &Customer,
    entity: &config::Entity,
) -> anyhow::Result<ReadyEntity> {
    let legacy = live(pools, customer, entity, Side::Legacy).await?;
    let platform = live(pools, customer, entity, Side::Platform).await?;
    let mapping =
        resolve(customer, entity, &legacy.table, &platform.table).map_err(|reason| refused(entity, reason))?;

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
        legacy: ready_side(&mapping, customer, entity, Side::Legacy, legacy)
            .map_err(|reason| refused(entity, reason))?,
        platform: ready_side(&mapping, customer, entity, Side::Platform, platform)
            .map_err(|reason| refused(entity, reason))?,
        mapping,
        refs,
        page_rows: entity.page_rows,
        overlap: entity.overlap,
    })
}

/// Holds the mapping against the live tables alone: before there is a schema `sync_bridge`. Writes nothing.
///
/// # Errors
/// As `make_ready`.
pub async fn check_tables(pools: &Pools, customer: &Customer, entity: &config::Entity) -> anyhow::Result<()> {
    let (_, legacy) = described(pools, customer, entity, Side::Legacy).await?;
    let (_, platform) = described(pools, customer, entity, Side::Platform).await?;
    resolve(customer, entity, &legacy, &platform).map_err(|reason| refused(entity, reason))?;
    Ok(())
}

struct Live {
    database: Database,
    table: LiveTable,
    entity_number: i32,
}

async fn live(pools: &Pools, customer: &Customer, entity: &config::Entity, side: Side) -> anyhow::Result<Live> {
    let (database, table) = described(pools, customer, entity, side).await?;
    let entity_number = entity_number(&database, customer, &entity.id).await?;
    Ok(Live { database, table, entity_number })
}

async fn described(
    pools: &Pools,
    customer: &Customer,
    entity: &config::Entity,
    side: Side,
) -> anyhow::Result<(Database, LiveTable)> {
    let table = entity.table(side);
    let database = database_of(pools, customer, entity, side)?;
    let mut connection = database.read.begin().await.with_context(|| format!("connecting to {}", database.shown))?;
    let found = describe(&mut connection, &table.schema, &table.name)
        .await
        .with_context(|| format!("describing table {}.{} in {}", table.schema, table.name, database.shown))?;
    drop(connection);
    let table = found.ok_or_else(|| {
        refused(
            entity,
            format!(
                "there is no table {}.{} in {} ({side} side), or no right to see it; correct `table` or grant the right",
                table.schema, table.name, database.shown
            ),
        )
    })?;
    if table.row_security {
        return Err(refused(
            entity,
            format!(
                "row security hides rows of {}.{} in {} from this role, and a hidden row would look deleted: `alter role … bypassrls`, \
                 or `alter table … disable row level security`",
                entity.table(side).schema,
                entity.table(side).name,
                database.shown
            ),
        ));
    }
    Ok((database, table))
}

/// The short number that `sync_bridge` knows (customer, entity) by in this database; `registry` gave it.
async fn entity_number(database: &Database, customer: &Customer, entity: &EntityId) -> anyhow::Result<i32> {
    let mut session = database.read.begin().await.with_context(|| format!("connecting to {}", database.shown))?;
    // The column came later than the table; where it lacks, an older binary prepared.
    let found: sqlx::Result<Option<(i32, i32)>> = postgres::query_as(
        "select id, coalesce((to_jsonb(known) ->> 'min_version')::integer, 1) from sync_bridge.entity as known \
         where customer = $1 and entity = $2",
    )
    .bind(customer.id.as_str())
    .bind(entity.as_str())
    .fetch_optional(&mut *session)
    .await;
    let missing = match found {
        Ok(Some((number, needs))) if needs <= pairs::VERSION => return Ok(number),
        Ok(Some((_, needs))) => {
            let what = format!(
                "schema sync_bridge in {} is for binaries that know its version {needs}, this one knows {}: use the newer binary",
                database.shown,
                pairs::VERSION
            );
            return Err(Permanent(what).into());
        }
        Ok(None) => format!("entity `{entity}` of customer `{}` is not registered", customer.id),
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("42P01" | "3F000")) => {
            "there is no schema sync_bridge".to_owned()
        }
        Err(error) => return Err(error).with_context(|| format!("reading sync_bridge.entity in {}", database.shown)),
    };
    Err(Permanent(format!("{missing} in {}; run `sync-bridge prepare`", database.shown)).into())
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
fn resolve(
    customer: &Customer,
    entity: &config::Entity,
    legacy: &LiveTable,
    platform: &LiveTable,
) -> Result<Mapping, String> {
    let mut legacy_shape = shape(entity, Side::Legacy, legacy)?;
    let mut platform_shape = shape(entity, Side::Platform, platform)?;
    let mut fields = Vec::new();
    for declared in &entity.fields {
        let legacy_at = place(&mut legacy_shape, &declared.legacy, legacy)?;
        let platform_at = place(&mut platform_shape, &declared.platform, platform)?;
        let lens = lens(declared, [&legacy_shape, &platform_shape], [&legacy_at, &platform_at])
            .map_err(|reason| format!("field `{}`: {reason}", declared.name))?;
        let on = [(&legacy_shape, &legacy_at), (&platform_shape, &platform_at)]
            .map(|(shape, at)| On { side: shape.side, columns: &shape.columns, at, zone: shape.zone });
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
        });
    }
    if let (Some(legacy_mark), Some(platform_mark)) = (&entity.legacy.deleted, &entity.platform.deleted) {
        let lens = Lens::Deleted(Marks { legacy: legacy_mark.clone(), platform: platform_mark.clone() });
        fields.push(Field {
            name: "deleted".into(),
            fingerprint: fingerprint("deleted", &lens, &Nulls::default()),
            lens,
            legacy: place(&mut legacy_shape, &[marked(legacy_mark).to_string()], legacy)?,
            platform: place(&mut platform_shape, &[marked(platform_mark).to_string()], platform)?,
            policy: entity.policy,
            one_way: None,
            null: NullMarks::default(),
        });
    }
    for (at, field) in fields.iter().enumerate() {
        if let Some(other) = fields[..at].iter().find(|other| other.fingerprint == field.fingerprint) {
            return Err(format!("fields `{}` and `{}` have the same fingerprint; rename one", other.name, field.name));
        }
    }
    for shape in [&mut legacy_shape, &mut platform_shape] {
        // A field that is never written on this side gives no new row its key.
        let is_written = |at: &usize| {
            fields.iter().any(|field| field.flows_to(shape.side) && field.columns(shape.side).contains(at))
        };
        let position = |key: &Column| shape.columns.iter().position(|column| column.name == key.name).filter(is_written);
        let positions: Option<Vec<usize>> = shape.key.iter().map(position).collect();
        shape.key_mapped = positions;
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
        for shape in [&legacy_shape, &platform_shape] {
            let mut columns = field.columns(shape.side).iter().map(|&at| &shape.columns[at]);
            let (Some(column), is_ref) = (columns.next(), matches!(field.lens, Lens::Ref(_))) else {
                return Err(format!("`match_on` field `{}` has no column on the {} side", field.name, shape.side));
            };
            if columns.next().is_some() && !is_ref {
                return Err(format!("`match_on` field `{}` stands on several columns", field.name));
            }
            if field.lens.looked_up(column).is_none() || field.null.of(shape.side).is_some() {
                return Err(format!(
                    "`match_on` field `{}`: under its lens one value may be spelled in several ways on the {} side, so its records \
                     cannot be looked up there; match on a field with lens `same`, `trim`, `lowercase`, a one-to-one `values`, or a reference",
                    field.name, shape.side
                ));
            }
        }
    }
    Ok(Mapping {
        customer: customer.id.clone(),
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
    let stamp_column = live_column(live, side, table, &table.updated_at)?;
    let digits = stamp_column.modifier.and_then(|digits| u8::try_from(digits).ok()).unwrap_or(DIGITS);
    let stamp_kind = match stamp_column.typname.as_str() {
        "timestamptz" => StampKind::Timestamptz { digits },
        "timestamp" => StampKind::Timestamp { digits },
        "date" => StampKind::Date,
        "int4" | "int8" => StampKind::EpochSeconds,
        _ => {
            return Err(format!(
                "`updated_at` column {}.{}.{} is {}: a timestamp, a date or epoch seconds is needed",
                table.schema, table.name, table.updated_at, stamp_column.type_shown
            ));
        }
    };
    Ok(Shape {
        side,
        columns: Vec::new(),
        key,
        key_mapped: None,
        stamp: column(live, side, table, &table.updated_at)?,
        stamp_kind,
        created_at: table.created_at.as_ref().map(|name| column(live, side, table, name)).transpose()?,
        zone: table.timezone,
    })
}

fn live_column<'a>(
    live: &'a LiveTable,
    side: Side,
    table: &config::Table,
    name: &str,
) -> Result<&'a LiveColumn, String> {
    live.column(name).ok_or_else(|| {
        let names: Vec<&str> = live.columns.iter().map(|column| column.name.as_str()).collect();
        format!(
            "there is no column `{name}` in {}.{} ({side} side); it has: {}",
            table.schema,
            table.name,
            names.join(", ")
        )
    })
}

fn column(live: &LiveTable, side: Side, table: &config::Table, name: &str) -> Result<Column, String> {
    Ok(as_column(live_column(live, side, table, name)?))
}

fn as_column(live: &LiveColumn) -> Column {
    Column {
        name: live.name.clone(),
        type_sql: live.type_sql.clone(),
        class: live.class,
        nullable: live.nullable,
        local_time: live.typname == "timestamp",
    }
}

/// The columns' positions in the shape; adds those that are not there yet.
fn place(shape: &mut Shape, names: &[String], live: &LiveTable) -> Result<Vec<usize>, String> {
    let side = shape.side;
    names
        .iter()
        .map(|name| {
            let found = live.column(name).ok_or_else(|| {
                let names: Vec<&str> = live.columns.iter().map(|column| column.name.as_str()).collect();
                format!("there is no column `{name}` on the {side} side; the table has: {}", names.join(", "))
            })?;
            if found.generated {
                return Err(format!("column `{name}` on the {side} side is generated and cannot be written"));
            }
            if *name == shape.stamp.name {
                return Err(format!("column `{name}` on the {side} side is its `updated_at` and cannot be a field"));
            }
            Ok(shape.columns.iter().position(|column| column.name == *name).unwrap_or_else(|| {
                shape.columns.push(as_column(found));
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

fn marked(deleted: &Deleted) -> &str {
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
    mapping: &Mapping,
    customer: &Customer,
    entity: &config::Entity,
    side: Side,
    live: Live,
) -> Result<ReadySide, String> {
    let table = entity.table(side);
    let shape = mapping.shape(side);
    let scope = scope_values(customer, table)?
        .into_iter()
        .map(|(name, value)| {
            Ok((name.to_owned(), live_column(&live.table, side, table, name)?.type_sql.clone(), value))
        })
        .collect::<Result<Vec<_>, String>>()?;
    let new_key = new_key(shape, &live.table, side, table)?;
    // A field that is never written on this side gives its new rows nothing, so not NULL either.
    let is_given = |at: &usize| mapping.fields.iter().any(|it| it.flows_to(side) && it.columns(side).contains(at));
    let left_out = (0..shape.columns.len()).filter(|at| !is_given(at)).collect();
    let sql = TableSql::new(shape, &live.table, &table.schema, &table.name, scope, live.entity_number);
    let sql = sql.leaving_out(left_out);
    Ok(ReadySide { database: live.database, sql, new_key, limits: customer.limits_of(&table.database) })
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
fn fill(template: &str, vars: &BTreeMap<String, String>) -> Option<String> {
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

fn new_key(shape: &Shape, live: &LiveTable, side: Side, table: &config::Table) -> Result<NewKey, String> {
    if shape.key_mapped.is_some() {
        return Ok(NewKey::Mapped);
    }
    let [key] = shape.key.as_slice() else {
        return Err(format!(
            "the key of {}.{} ({side} side) has several columns and fields do not cover them all",
            table.schema, table.name
        ));
    };
    if side == Side::Platform && key.class == Class::Uuid {
        return Ok(NewKey::Uuid5);
    }
    match live.column(&key.name).and_then(|column| column.default.clone()) {
        Some(expression) => Ok(NewKey::Default(expression)),
        None => Err(format!(
            "new rows of {}.{} ({side} side) cannot get a key: `{}` has neither a default nor a field",
            table.schema, table.name, key.name
        )),
    }
}

/// All that a customer's entities need, made once.
pub type Ready = Arc<ReadyEntity>;
