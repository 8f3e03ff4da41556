//! `check`: the mapping held against the live databases. Owns: which facts are asked for, and whose each finding is. What is
//! judged from them is judged in `database`, `table` and `types`, which are pure; a worker that makes an entity ready asks those of
//! them that no page can do without. Never: a write.

mod database;
mod flaw;
#[cfg(test)]
pub(in crate::stages) mod live;
mod passes;
mod sample;
mod table;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;

use crate::config::{Config, Customer, Entity, EntityId, Finding, Locator, Severity, Side, Spot};
use crate::sides::postgres::{self, About, Index, LiveTables, Ours, Pools, Rewriter, reach};
use crate::told::told;

use super::Data;
use super::entity::{self, database_of};
use super::horizon::{self, Sessions};
use super::parts::{Part, as_one, misjoined, parts};
use super::registry::vanished;

pub use database::{not_prepared, registered};
pub use flaw::{Flaw, wanted};
pub use table::{must_have, no_such_column, no_such_table, plain};
pub use types::unsupported;

/// What a database says of itself, and of the tables of it that are mapped.
struct Facts {
    about: About,
    /// `None` where `about` already says that it is of no use.
    catalogue: Option<Catalogue>,
}

struct Catalogue {
    sessions: Sessions,
    live: LiveTables,
    indexes: Vec<Index>,
    rewriters: Vec<Rewriter>,
    ours: Vec<Ours>,
    /// By entity: its number, and the version that the schema is for. `None`: it cannot be read.
    registered: Option<BTreeMap<String, (i32, i32)>>,
    /// Ids that are registered there and that the file does not know any more, in words.
    vanished: Vec<String>,
    /// Only where a table is missing.
    names: Vec<(String, String)>,
}

/// A database of the customer with the tables of it that are mapped.
struct Mapped<'c> {
    /// The names that the customer has for it.
    names: BTreeSet<&'c str>,
    tables: Vec<(&'c Entity, Side)>,
    facts: Option<Facts>,
}

/// Whose findings they are, and where to put them.
struct Desk<'c> {
    customer: &'c Customer,
    locator: &'c Locator<'c>,
    found: Vec<Finding>,
}

/// Everything that is to be told of a customer, in the order of the file: a database that does not answer is a finding too.
/// `sample`: so many rows of each table are tried, too.
pub async fn findings(data: &Data, customer: &Customer, locator: &Locator<'_>, sample: Option<u32>) -> Vec<Finding> {
    let (pools, config) = (&data.pools, &*data.config);
    let mut desk = Desk { customer, locator, found: Vec::new() };
    // By address: two names of one database are asked once.
    let mut databases: BTreeMap<&str, Mapped<'_>> = BTreeMap::new();
    for (name, url) in customer.databases.iter() {
        let tables = config.entities().flat_map(|entity| Side::BOTH.map(|side| (entity, side)));
        let tables = tables.filter(|(entity, side)| entity.table(*side).database == *name);
        let known = databases.entry(url.expose()).or_insert_with(|| Mapped {
            names: BTreeSet::new(),
            tables: Vec::new(),
            facts: None,
        });
        known.names.insert(name);
        known.tables.extend(tables);
    }
    for mapped in databases.values_mut() {
        mapped.facts = desk.ask(pools, config, mapped).await;
    }
    for mapped in databases.values() {
        desk.judge_database(mapped);
    }
    for entity in config.entities() {
        desk.judge_entity(config, entity, &databases);
    }
    for entity in config.entities() {
        for side in Side::BOTH {
            desk.try_filter(pools, entity, side, &databases).await;
        }
    }
    if let Some(rows_max) = sample {
        for entity in config.entities() {
            desk.try_rows(data, entity, rows_max).await;
        }
    }
    desk.found.sort_by_key(|finding| finding.place);
    desk.found
}

impl Desk<'_> {
    /// Asks a database all it is ever asked, in a handful of statements.
    async fn ask(&mut self, pools: &Pools, config: &Config, mapped: &Mapped<'_>) -> Option<Facts> {
        let name = mapped.names.first()?;
        let url = self.customer.databases.get(name)?;
        let asked = async {
            // A pool would go on trying until its time is up.
            reach(url).await?;
            match mapped.tables.first() {
                Some((entity, side)) => {
                    facts(pools, config, self.customer, (entity, *side), &mapped.tables).await.map(Some)
                }
                None => Ok(None),
            }
        };
        match asked.await {
            Ok(facts) => facts,
            Err(error) => {
                let help = "start it, or correct the URL; nothing of it was looked at";
                self.of_database(name, Flaw::error("unreachable", Spot::Whole, told(&error)).help(help));
                None
            }
        }
    }

    fn judge_database(&mut self, mapped: &Mapped<'_>) {
        let (Some(name), Some(facts)) = (mapped.names.first(), &mapped.facts) else { return };
        for flaw in database::server(&facts.about) {
            self.of_database(name, flaw);
        }
        let Some(catalogue) = &facts.catalogue else { return };
        let of_ours = database::ours(&catalogue.ours, &facts.about.role);
        for flaw in database::sessions(&catalogue.sessions).into_iter().chain(of_ours) {
            self.of_database(name, flaw);
        }
        for what in &catalogue.vanished {
            self.of_database(name, Flaw::warning("id-vanished", Spot::Whole, what.clone()));
        }
        let Some(registered) = &catalogue.registered else { return };
        let entities: BTreeSet<&EntityId> = mapped.tables.iter().map(|(entity, _)| &entity.id).collect();
        let declared = mapped.tables.iter().filter(|(entity, _)| entities.contains(&entity.id));
        let mut seen = BTreeSet::new();
        for (entity, side) in declared {
            if !seen.insert(&entity.id) {
                continue;
            }
            let found = registered.get(entity.id.as_str()).copied();
            if let Err(flaw) = database::registered(&self.customer.id, found) {
                let place = self.locator.entity(&entity.id, None, &Spot::Whole);
                let object = self.customer.databases.get(name).map(ToString::to_string);
                let side = Some(*side);
                self.found.push(Finding { entity: Some(entity.id.clone()), place, object, side, ..self.told(*flaw) });
            }
        }
    }

    fn judge_entity(&mut self, config: &Config, entity: &Entity, databases: &BTreeMap<&str, Mapped<'_>>) {
        let catalogue = |entity: &Entity, side: Side| {
            let url = self.customer.databases.get(&entity.table(side).database)?;
            databases.get(url.expose())?.facts.as_ref()?.catalogue.as_ref()
        };
        let live = |entity: &Entity, side: Side| as_one(entity.table(side), &catalogue(entity, side)?.live);
        let mut flaws = Vec::new();
        let mut usable = Vec::new();
        for side in Side::BOTH {
            let Some(catalogue) = catalogue(entity, side) else { continue };
            let (mut fatal, mut others) = (Vec::new(), Vec::new());
            for part in parts(entity, side, &catalogue.live) {
                let (must, should) = self.of_part(config, &part, side, catalogue);
                fatal.extend(must.into_iter().map(|flaw| part.of_entity(side, flaw)));
                others.extend(should.into_iter().map(|flaw| part.of_entity(side, flaw)));
            }
            fatal.extend(live(entity, side).into_iter().flat_map(|live| misjoined(entity, side, &live)));
            if fatal.is_empty() {
                usable.push(side);
            }
            flaws.extend(fatal);
            flaws.extend(others);
        }
        if let [Some(legacy), Some(platform)] = &Side::BOTH.map(|side| live(entity, side)) {
            let key_of = |target: &Entity, side: Side, at: usize| {
                let key = target.table(side).key.get(at)?;
                live(target, side)?.column(key).cloned()
            };
            let of_types: Vec<Flaw> = types::of_fields(config, entity, [legacy, platform], key_of)
                .into_iter()
                // A field that cannot be mapped at all need not fit, too.
                .filter(|flaw| {
                    !flaws.iter().any(|other: &Flaw| other.severity == Severity::Error && other.field == flaw.field)
                })
                .collect();
            // Of types that do not fit all is said by now, and better.
            let is_told = |refusal: &Flaw| {
                of_types.iter().any(|flaw| flaw.code == refusal.code && flaw.severity == Severity::Error)
            };
            if usable == Side::BOTH {
                flaws.extend(
                    entity::refusal(self.customer, entity, legacy, platform).filter(|refusal| !is_told(refusal)),
                );
            }
            flaws.extend(of_types);
        }
        let encoding = |side: Side| {
            let url = self.customer.databases.get(&entity.table(side).database)?;
            Some(databases.get(url.expose())?.facts.as_ref()?.about.encoding.as_str())
        };
        if let (Some(legacy), Some(platform)) = (encoding(Side::Legacy), encoding(Side::Platform)) {
            flaws.extend(encodings(legacy, platform));
        }
        flaws.extend(Side::BOTH.into_iter().filter_map(|side| kept(config, entity, side)));
        for flaw in flaws {
            self.of_entity(entity, flaw);
        }
    }

    /// Lets the database read `where` of a table that is there.
    async fn try_filter(&mut self, pools: &Pools, entity: &Entity, side: Side, databases: &BTreeMap<&str, Mapped<'_>>) {
        let table = entity.table(side);
        let Some(condition) = &table.filter else { return };
        let url = self.customer.databases.get(&table.database);
        let facts = url.and_then(|url| databases.get(url.expose())?.facts.as_ref());
        let Some(catalogue) = facts.and_then(|facts| facts.catalogue.as_ref()) else { return };
        let Some(live) = as_one(table, &catalogue.live) else { return };
        let asked = async {
            let database = database_of(pools, self.customer, entity, side)?;
            let flaw = entity::filter_flaw(entity, side, &database, &live, condition).await?;
            match flaw {
                Some(flaw) => Ok(Some(flaw)),
                None => moves_by_itself(&database, side, condition).await,
            }
        };
        match asked.await {
            Ok(flaw) => flaw.into_iter().for_each(|flaw| self.of_entity(entity, flaw)),
            Err(error) => self.of_entity(entity, Flaw::error("unreadable", Spot::Filter(side), told(&error))),
        }
    }

    /// Of one table: what no page can do without, and what else there is.
    fn of_part(&self, config: &Config, part: &Part<'_>, side: Side, catalogue: &Catalogue) -> (Vec<Flaw>, Vec<Flaw>) {
        let place = |entity: &Entity| {
            let table = entity.table(side);
            (table.database.clone(), table.schema.clone(), table.name.clone())
        };
        let (database, schema, name) = place(&part.entity);
        let Some(found) = catalogue.live.get(&(schema, name)) else {
            let shown = self.customer.databases.get(&database).map(ToString::to_string).unwrap_or_default();
            return (vec![table::no_such_table(&part.entity, side, &shown, &catalogue.names)], Vec::new());
        };
        let must = table::must_have(&part.entity, side, found);
        let mut should = Vec::new();
        if found.kind == postgres::Kind::Table {
            let all: Vec<Part<'_>> = config.entities().flat_map(|other| parts(other, side, &catalogue.live)).collect();
            let all = all.iter().map(|part| &*part.entity);
            let entities: Vec<&Entity> = all.filter(|other| place(other) == place(&part.entity)).collect();
            let (indexes, rewriters) = (&catalogue.indexes[..], &catalogue.rewriters[..]);
            let around = table::Around { entities: &entities, indexes, rewriters };
            should.extend(table::should_have(&part.entity, side, found, around));
            if let Ok(values) = entity::scope_values(self.customer, part.entity.table(side)) {
                should.extend(table::scope(side, found, &values));
            }
        }
        (must, should)
    }

    /// Of an entity that can be read at all.
    async fn try_rows(&mut self, data: &Data, entity: &Entity, rows_max: u32) {
        let is_of = |finding: &&Finding| finding.entity.as_ref() == Some(&entity.id) || finding.entity.is_none();
        if self.found.iter().filter(is_of).any(|finding| finding.severity == Severity::Error) {
            return;
        }
        let percent_max = data.config.mapping_percent_max;
        let tried = async {
            let mut flaws = sample::sampled(&data.pools, self.customer, entity, rows_max).await?;
            let touched = data.touched(&self.customer.id, &entity.id, u64::from(rows_max)).await?;
            flaws.extend(sample::changed(&touched, percent_max));
            anyhow::Ok(flaws)
        };
        match tried.await {
            Ok(flaws) => flaws.into_iter().for_each(|flaw| self.of_entity(entity, flaw)),
            Err(error) => self.of_entity(entity, Flaw::error("unreadable", Spot::Whole, told(&error))),
        }
    }

    fn of_database(&mut self, name: &str, flaw: Flaw) {
        let place = self.locator.database(&self.customer.id, name);
        let object = self.customer.databases.get(name).map(ToString::to_string);
        self.found.push(Finding { place, object, ..self.told(flaw) });
    }

    fn of_entity(&mut self, entity: &Entity, flaw: Flaw) {
        let place = self.locator.entity(&entity.id, flaw.field.as_deref(), &flaw.spot);
        let object = flaw.side.and_then(|side| {
            let table = entity.table(side);
            let database = self.customer.databases.get(&table.database)?;
            let (further, column) = match (&flaw.spot, &flaw.column) {
                (Spot::Further(_, alias), _) => (table.further(alias), None),
                (_, Some(column)) => (table.locate(column).0, Some(table.locate(column).1)),
                (_, None) => (None, None),
            };
            let column = column.map(|column| format!(".{column}")).unwrap_or_default();
            let (schema, name) = further.map_or((&table.schema, &table.name), |it| (&it.schema, &it.name));
            Some(format!("{database}: {schema}.{name}{column}"))
        });
        let (entity, side) = (Some(entity.id.clone()), flaw.side);
        self.found.push(Finding { entity, place, object, side, ..self.told(flaw) });
    }

    fn told(&self, flaw: Flaw) -> Finding {
        Finding {
            severity: flaw.severity,
            customer: Some(self.customer.id.clone()),
            field: flaw.field,
            help: flaw.help,
            ..Finding::error(flaw.code, flaw.message)
        }
    }
}

/// A condition whose answer changes while nobody edits a row: no stamp says when that is.
async fn moves_by_itself(database: &postgres::Database, side: Side, condition: &str) -> anyhow::Result<Option<Flaw>> {
    const CLOCKS: [&str; 5] = ["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"];
    let lowered = condition.to_lowercase();
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let words: BTreeSet<&str> = lowered.split(|letter| !is_part(letter)).filter(|word| !word.is_empty()).collect();
    let called: Vec<&str> = words.iter().copied().filter(|word| lowered.contains(&format!("{word}("))).collect();
    let mut session = database.read.begin().await.with_context(|| format!("connecting to {}", database.shown))?;
    // A function by any of whose forms the same arguments always give the same is let through.
    let unsteady: Vec<(String,)> = postgres::query_as(
        "select proname::text from pg_proc where proname = any($1) and prokind = 'f' \
         group by proname having bool_and(provolatile <> 'i') order by proname",
    )
    .bind(called)
    .fetch_all(&mut session)
    .await
    .with_context(|| format!("reading the catalogue of {}", database.shown))?;
    let clocks = CLOCKS.into_iter().filter(|name| words.contains(name)).map(str::to_owned);
    let all: Vec<String> = unsteady.into_iter().map(|(name,)| name).chain(clocks).collect();
    if all.is_empty() {
        return Ok(None);
    }
    let message = format!(
        "`where` ({side} side) asks {}, whose answer changes by itself: a row that comes or goes so is edited by nobody, and is not \
         looked at until it is",
        flaw::listed(all.iter().map(String::as_str))
    );
    let help = "compare with columns alone, and let the application edit the row when it is to be seen or not";
    Ok(Some(Flaw::warning("where-moves", Spot::Filter(side), message).help(help)))
}

/// Rows that a delete does not take along, where the file says that it does.
fn kept(config: &Config, entity: &Entity, side: Side) -> Option<Flaw> {
    let sharer = config.sharer(entity, side).filter(|_| entity.deletes != config.deletes(entity, side))?;
    let message = format!(
        "entity `{}` has a part of the rows of {} too ({side} side), so none is deleted there after its counterpart, nor made again after \
         it is gone",
        sharer.id,
        entity.table(side).shown()
    );
    let help = "nothing, if such a row is to stay; `deletes = \"mark\"` marks it; where no row is both entities', say so by a `scope` or a \
                `where` of each";
    Some(Flaw::warning("deletes-kept", Spot::Table(side), message).help(help))
}

/// What one side can write and the other cannot.
fn encodings(legacy: &str, platform: &str) -> Option<Flaw> {
    let message = format!("the legacy database is in {legacy} and the platform's in {platform}");
    let help = match (legacy, platform) {
        _ if legacy == platform => return None,
        ("SQL_ASCII", _) | (_, "SQL_ASCII") => {
            "SQL_ASCII keeps whatever bytes it is given: a row whose bytes are no UTF-8 is quarantined"
        }
        _ => "a row with a character that the other encoding lacks is quarantined",
    };
    Some(Flaw::warning("encodings-differ", Spot::Whole, message).help(help))
}

/// All that is asked of a database.
///
/// # Errors
/// The database's.
async fn facts(
    pools: &Pools,
    config: &Config,
    customer: &Customer,
    (entity, side): (&Entity, Side),
    tables: &[(&Entity, Side)],
) -> anyhow::Result<Facts> {
    let database = database_of(pools, customer, entity, side)?;
    let what = || format!("reading the catalogue of {}", database.shown);
    let mut session = database.read.begin().await.with_context(|| format!("connecting to {}", database.shown))?;
    let about = postgres::about(&mut session).await.with_context(what)?;
    if !database::server(&about).is_empty() {
        return Ok(Facts { about, catalogue: None });
    }
    let named: BTreeSet<(&str, &str)> = tables.iter().flat_map(|(entity, side)| entity.table(*side).names()).collect();
    let named: Vec<(&str, &str)> = named.into_iter().collect();
    let live = postgres::describe_all(&mut session, &named).await.with_context(what)?;
    let names =
        if live.len() < named.len() { postgres::names(&mut session).await.with_context(what)? } else { Vec::new() };
    let indexes = postgres::indexes(&mut session, &named).await.with_context(what)?;
    let rewriters = postgres::rewriters(&mut session, &named).await.with_context(what)?;
    let sides: BTreeSet<Side> = tables.iter().map(|(_, side)| *side).collect();
    let ours: BTreeSet<&str> = sides.iter().flat_map(|side| database::tables_of_ours(*side)).copied().collect();
    let ours = postgres::ours(&mut session, &ours.into_iter().collect::<Vec<_>>()).await.with_context(what)?;
    let may_read = ours.iter().any(|one| one.name == "entity" && one.may_use_schema && one.may_select);
    let registered =
        if may_read { Some(entity::registrations(&mut session, customer).await.with_context(what)?) } else { None };
    let vanished = match &registered {
        Some(_) => vanished(&mut session, config, customer, &database.shown).await.with_context(what)?,
        None => Vec::new(),
    };
    drop(session);
    // In a transaction of its own: within one, what it looks at is frozen.
    let sessions = horizon::ask(&database).await?;
    Ok(Facts {
        about,
        catalogue: Some(Catalogue { sessions, live, indexes, rewriters, ours, registered, vanished, names }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_differ_where_one_side_may_write_what_the_other_cannot() {
        let told = |legacy: &str, platform: &str| encodings(legacy, platform).and_then(|flaw| flaw.help);
        assert_eq!(told("UTF8", "UTF8"), None);
        assert!(told("LATIN1", "UTF8").is_some_and(|help| help.contains("a character that the other encoding lacks")));
        assert!(told("SQL_ASCII", "UTF8").is_some_and(|help| help.contains("whose bytes are no UTF-8")));
    }
}
