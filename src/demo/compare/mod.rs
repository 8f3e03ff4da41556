//! The proof: both sides of a customer in full, row by row and field by field, by statements of its own. Owns: the
//! comparison. Never: the bridge's mapping, a write.
//!
//! Rows are matched twice: by the pair ledger, and by what they are (an address, a code, all of their fields), so that a
//! wrong pair shows as much as a wrong value.

mod shapes;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use sqlx::{Connection, PgConnection};

use self::shapes::{SHAPES, Service, Shape};
use super::samples::{Sample, Systems, connect};
use crate::config::{DatabaseUrl, Side};
use crate::mapping::told_key;

/// Enough to see what is wrong; all are counted.
const SHOWN_MAX: usize = 100;

/// What a full comparison of one customer found.
#[derive(Debug, Default)]
pub struct Comparison {
    pub customer: String,
    pub entities: Vec<Counted>,
    /// All differences of rows that the bridge does not list as waiting for somebody.
    pub differences: usize,
    /// Differences of rows that it lists.
    pub listed: usize,
    /// Of both, rows that pairs lack.
    pub absent: usize,
    /// The first of both kinds.
    pub shown: Vec<Difference>,
}

/// How many rows there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub entity: &'static str,
    pub legacy: usize,
    pub platform: usize,
    pub pairs: usize,
    /// Of rows that the bridge does not list.
    pub differences: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub entity: &'static str,
    pub legacy_key: Option<String>,
    pub platform_key: Option<String>,
    pub what: What,
    /// Whether the bridge lists one of the rows as parked, quarantined or an open conflict.
    pub listed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Both rows, one field.
    Field { name: &'static str, legacy: Option<String>, platform: Option<String> },
    /// A row without a pair.
    Unpaired(Side),
    /// A pair without this side's row.
    Absent(Side),
    /// By what it is, the row has no equal on the other side, though its pair shows none of that.
    Alone(Side),
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |key: &Option<String>| key.as_ref().map_or("-".to_owned(), |key| told_key(key));
        write!(f, "{} legacy {} platform {}: ", self.entity, shown(&self.legacy_key), shown(&self.platform_key))?;
        match &self.what {
            What::Field { name, legacy, platform } => {
                let shown =
                    |value: &Option<String>| value.as_ref().map_or("NULL".to_owned(), |text| format!("{text:?}"));
                write!(f, "`{name}` is {} on legacy and {} on the platform", shown(legacy), shown(platform))
            }
            What::Unpaired(side) => write!(f, "the {side} row has no pair"),
            What::Absent(side) => write!(f, "the pair has no {side} row"),
            What::Alone(side) => write!(f, "nothing equal to the {side} row on the other side"),
        }
    }
}

/// Rows the bridge says it could not bring over: entity, side, key.
pub type Listed = BTreeSet<(String, Side, String)>;

/// Compares everything. Writers and the bridge must be still.
///
/// # Errors
/// A database that does not answer.
pub async fn compare(sample: &Sample, systems: &Systems, listed: &Listed) -> anyhow::Result<Comparison> {
    let sides = load(sample, systems).await.with_context(|| format!("reading both sides of {}", sample.slug))?;
    let mut found = Vec::new();
    for shape in &SHAPES {
        let by_pairs = by_pairs(shape, &sides);
        let seen = |difference: &Difference, side: Side| match side {
            Side::Legacy => difference.legacy_key.clone(),
            Side::Platform => difference.platform_key.clone(),
        };
        let told: BTreeSet<(Side, String)> = by_pairs
            .iter()
            .flat_map(|difference| Side::BOTH.map(|side| seen(difference, side).map(|key| (side, key))))
            .flatten()
            .collect();
        found.extend(by_pairs);
        found.extend(by_nature(shape, &sides).into_iter().filter(|difference| {
            Side::BOTH.iter().all(|&side| seen(difference, side).is_none_or(|key| !told.contains(&(side, key))))
        }));
    }
    for difference in &mut found {
        difference.listed = [(Side::Legacy, &difference.legacy_key), (Side::Platform, &difference.platform_key)]
            .into_iter()
            .filter_map(|(side, key)| key.clone().map(|key| (difference.entity.to_owned(), side, key)))
            .any(|row| listed.contains(&row));
    }
    let entities = SHAPES
        .iter()
        .map(|shape| {
            let entity = &sides[shape.entity];
            Counted {
                entity: shape.entity,
                legacy: entity.legacy.len(),
                platform: entity.platform.len(),
                pairs: entity.to_platform.len(),
                differences: found.iter().filter(|found| found.entity == shape.entity && !found.listed).count(),
            }
        })
        .collect();
    let listed = found.iter().filter(|difference| difference.listed).count();
    let differences = found.len() - listed;
    let absent = found.iter().filter(|difference| matches!(difference.what, What::Absent(_))).count();
    found.truncate(SHOWN_MAX);
    Ok(Comparison { customer: sample.slug.to_owned(), entities, differences, listed, absent, shown: found })
}

type Row = Vec<Option<String>>;
type Rows = BTreeMap<String, Row>;

/// Both sides of an entity and its pairs.
#[derive(Default)]
struct Entity {
    legacy: Rows,
    platform: Rows,
    to_platform: BTreeMap<String, String>,
    /// Pairs whose legacy key is not known or stands in two pairs.
    odd_pairs: Vec<String>,
}

impl Entity {
    fn rows(&self, side: Side) -> &Rows {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        }
    }
}

type Sides = BTreeMap<&'static str, Entity>;

async fn load(sample: &Sample, systems: &Systems) -> anyhow::Result<Sides> {
    let mut sides = Sides::new();
    let mut legacy = connect(&systems.legacy).await?;
    for service in [Service::Identity, Service::Groups, Service::Geo] {
        let mut platform = connect(service.url(systems)).await?;
        let has_pairs: bool =
            sqlx::query_scalar("select to_regclass('sync_bridge.pair') is not null").fetch_one(&mut platform).await?;
        for shape in SHAPES.iter().filter(|shape| shape.service == service) {
            let mut entity = Entity {
                legacy: rows(&mut legacy, shape.legacy).await?,
                platform: rows(&mut platform, shape.platform).await?,
                ..Entity::default()
            };
            if has_pairs {
                let pairs: Vec<(String, Option<String>)> = sqlx::query_as(include_str!("../sql/pairs.sql"))
                    .bind(sample.id)
                    .bind(shape.entity)
                    .fetch_all(&mut platform)
                    .await?;
                for (platform_key, legacy_key) in pairs {
                    match legacy_key {
                        Some(key) if !entity.to_platform.contains_key(&key) => {
                            entity.to_platform.insert(key, platform_key);
                        }
                        _ => entity.odd_pairs.push(platform_key),
                    }
                }
            }
            sides.insert(shape.entity, entity);
        }
        platform.close().await?;
    }
    legacy.close().await?;
    Ok(sides)
}

impl Service {
    fn url(self, systems: &Systems) -> &DatabaseUrl {
        match self {
            Service::Identity => &systems.identity,
            Service::Groups => &systems.groups,
            Service::Geo => &systems.geo,
        }
    }
}

async fn rows(connection: &mut PgConnection, statement: &'static str) -> sqlx::Result<Rows> {
    let rows: Vec<(String, Row)> = sqlx::query_as(statement).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Rows matched by the pair ledger.
fn by_pairs(shape: &Shape, sides: &Sides) -> Vec<Difference> {
    let entity = &sides[shape.entity];
    let difference = |legacy_key: Option<&String>, platform_key: Option<&String>, what| Difference {
        entity: shape.entity,
        legacy_key: legacy_key.cloned(),
        platform_key: platform_key.cloned(),
        what,
        listed: false,
    };
    let mut found = Vec::new();
    for (legacy_key, platform_key) in &entity.to_platform {
        match (entity.legacy.get(legacy_key), entity.platform.get(platform_key)) {
            (Some(legacy), Some(platform)) => {
                for (at, field) in shape.fields.iter().enumerate() {
                    let expected = match (field.refers_to, &legacy[at]) {
                        // A reference without a pair stays as it is and so differs from every platform key.
                        (Some(other), Some(key)) => Some(sides[other].to_platform.get(key).unwrap_or(key)),
                        (_, value) => value.as_ref(),
                    };
                    if expected != platform[at].as_ref() {
                        let (legacy, platform) = (legacy[at].clone(), platform[at].clone());
                        let what = What::Field { name: field.name, legacy, platform };
                        found.push(difference(Some(legacy_key), Some(platform_key), what));
                    }
                }
            }
            (None, None) => {
                found.push(difference(Some(legacy_key), Some(platform_key), What::Absent(Side::Legacy)));
                found.push(difference(Some(legacy_key), Some(platform_key), What::Absent(Side::Platform)));
            }
            (None, _) => found.push(difference(Some(legacy_key), Some(platform_key), What::Absent(Side::Legacy))),
            (_, None) => found.push(difference(Some(legacy_key), Some(platform_key), What::Absent(Side::Platform))),
        }
    }
    for platform_key in &entity.odd_pairs {
        found.push(difference(None, Some(platform_key), What::Absent(Side::Legacy)));
    }
    for key in entity.legacy.keys().filter(|&key| !entity.to_platform.contains_key(key)) {
        found.push(difference(Some(key), None, What::Unpaired(Side::Legacy)));
    }
    let paired: BTreeSet<&String> = entity.to_platform.values().chain(&entity.odd_pairs).collect();
    for key in entity.platform.keys().filter(|key| !paired.contains(key)) {
        found.push(difference(None, Some(key), What::Unpaired(Side::Platform)));
    }
    found
}

/// Rows matched by what they are, without looking at the pair ledger.
fn by_nature(shape: &Shape, sides: &Sides) -> Vec<Difference> {
    let legacy = by_identity(shape, sides, Side::Legacy);
    let platform = by_identity(shape, sides, Side::Platform);
    let identities: BTreeSet<&String> = legacy.keys().chain(platform.keys()).collect();
    let mut found = Vec::new();
    for identity in identities {
        let mut others = platform.get(identity).cloned().unwrap_or_default();
        for (key, row) in legacy.get(identity).cloned().unwrap_or_default() {
            // The one that is equal, else any: which of several is meant cannot be told.
            let at = others.iter().position(|(_, other)| *other == row).or((!others.is_empty()).then_some(0));
            let Some((other_key, other)) = at.map(|at| others.remove(at)) else {
                found.push(alone(shape, Side::Legacy, key));
                continue;
            };
            for (at, field) in shape.fields.iter().enumerate().filter(|(at, _)| row[*at] != other[*at]) {
                found.push(Difference {
                    entity: shape.entity,
                    legacy_key: Some(key.clone()),
                    platform_key: Some(other_key.clone()),
                    what: What::Field { name: field.name, legacy: row[at].clone(), platform: other[at].clone() },
                    listed: false,
                });
            }
        }
        found.extend(others.into_iter().map(|(key, _)| alone(shape, Side::Platform, key)));
    }
    found
}

fn alone(shape: &Shape, side: Side, key: String) -> Difference {
    let (legacy_key, platform_key) = match side {
        Side::Legacy => (Some(key), None),
        Side::Platform => (None, Some(key)),
    };
    Difference { entity: shape.entity, legacy_key, platform_key, what: What::Alone(side), listed: false }
}

/// A side's rows by identity, references written as the identity of what they refer to.
fn by_identity(shape: &Shape, sides: &Sides, side: Side) -> BTreeMap<String, Vec<(String, Row)>> {
    let mut found: BTreeMap<String, Vec<(String, Row)>> = BTreeMap::new();
    for (key, row) in sides[shape.entity].rows(side) {
        let resolved: Row = row
            .iter()
            .zip(shape.fields)
            .map(|(value, field)| match (field.refers_to, value) {
                (Some(other), Some(key)) => Some(identity_of(other, key, sides, side)),
                _ => value.clone(),
            })
            .collect();
        found.entry(identity(shape, &resolved)).or_default().push((key.clone(), resolved));
    }
    found
}

fn identity(shape: &Shape, resolved: &Row) -> String {
    let parts: Vec<&str> = shape.natural.iter().map(|&at| resolved[at].as_deref().unwrap_or("\u{0}")).collect();
    parts.join("\u{1e}")
}

/// Ends because an identity refers only to entities that stand before its own in `SHAPES`.
fn identity_of(entity: &'static str, key: &str, sides: &Sides, side: Side) -> String {
    let shape = SHAPES.iter().find(|shape| shape.entity == entity).expect("a reference names an entity of SHAPES");
    let Some(row) = sides[entity].rows(side).get(key) else { return format!("no {entity} {key}") };
    let resolved: Row = row
        .iter()
        .zip(shape.fields)
        .enumerate()
        .map(|(at, (value, field))| match (field.refers_to, value) {
            (Some(other), Some(key)) if shape.natural.contains(&at) => Some(identity_of(other, key, sides, side)),
            _ => value.clone(),
        })
        .collect();
    identity(shape, &resolved)
}

#[cfg(test)]
mod tests {
    use super::super::folder::Folder;
    use super::super::samples;
    use super::*;
    use crate::config;

    fn row(values: &[&str]) -> Row {
        values.iter().map(|value| Some((*value).to_owned())).collect()
    }

    /// One user with a profile on both sides.
    fn equal_sides() -> Sides {
        let mut sides: Sides = SHAPES.iter().map(|shape| (shape.entity, Entity::default())).collect();
        let person = row(&["ann@acme.example", "Ann Lee", "active", "false", "0100", "false"]);
        let user = sides.get_mut("user").expect("an entity");
        user.legacy.insert("7".into(), person.clone());
        user.platform.insert("u-7".into(), person);
        user.to_platform.insert("7".into(), "u-7".into());
        let profile = sides.get_mut("profile").expect("an entity");
        let profile_of = |user| row(&[user, "1", "2000-01-01", "2020-01-01", "none", "", "", "", "", "de", "25"]);
        profile.legacy.insert("7".into(), profile_of("7"));
        profile.platform.insert("p-7".into(), profile_of("u-7"));
        profile.to_platform.insert("7".into(), "p-7".into());
        sides
    }

    fn all(sides: &Sides) -> Vec<Difference> {
        SHAPES.iter().flat_map(|shape| [by_pairs(shape, sides), by_nature(shape, sides)].concat()).collect()
    }

    /// A field that nobody compares would be proven by nothing. A constant has nothing to be compared with.
    #[test]
    fn every_field_of_the_mapping_is_compared() {
        let folder = Folder::temporary().expect("a folder");
        folder.write_configs(&samples::ALL, std::time::Duration::from_secs(60)).expect("writing the configuration");
        let config = config::load(&folder.demo_config()).expect("the mapping is understood");
        for entity in config.entities() {
            let shape = SHAPES.iter().find(|shape| shape.entity == entity.id.as_str()).expect("a shape");
            for field in entity.fields.iter().filter(|field| !matches!(field.lens, config::Lens::Constant(_))) {
                let is_it = |compared: &&shapes::Field| {
                    compared.name.strip_prefix(&field.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                assert!(shape.fields.iter().any(|compared| is_it(&compared)), "{} {}", entity.id, field.name);
            }
        }
    }

    /// What the samples are there to show.
    #[test]
    fn the_mapping_uses_lenses_of_every_common_kind() {
        let folder = Folder::temporary().expect("a folder");
        folder.write_configs(&samples::ALL, std::time::Duration::from_secs(60)).expect("writing the configuration");
        let config = config::load(&folder.demo_config()).expect("the mapping is understood");
        let fields = || config.entities().flat_map(|entity| &entity.fields);
        let kinds: BTreeSet<String> = fields()
            .map(|field| format!("{:?}", field.lens).split(['(', ' ']).next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            kinds.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "Bool", "Constant", "Date", "Epoch", "Fold", "Format", "Join", "Object", "Path", "Point", "Ref",
                "Same", "Scale", "Values"
            ]
        );
        assert!(fields().any(|field| field.one_way.is_some()));
        assert!(fields().any(|field| field.null.legacy.is_some()));
    }

    #[test]
    fn equal_sides_differ_in_nothing() {
        assert_eq!(all(&equal_sides()), []);
    }

    #[test]
    fn a_value_that_differs_is_named_with_both_values() {
        let mut sides = equal_sides();
        sides.get_mut("profile").expect("an entity").platform.get_mut("p-7").expect("a row")[1] = None;
        let shown: BTreeSet<String> = all(&sides).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown.into_iter().collect::<Vec<_>>(),
            ["profile legacy 7 platform p-7: `phone` is \"1\" on legacy and NULL on the platform"]
        );
    }

    #[test]
    fn a_reference_to_another_record_shows_both_ways() {
        let mut sides = equal_sides();
        let other = row(&["bo@acme.example", "Bo Lee", "active", "false", "0100", "false"]);
        let user = sides.get_mut("user").expect("an entity");
        user.legacy.insert("8".into(), other.clone());
        user.platform.insert("u-8".into(), other);
        user.to_platform.insert("8".into(), "u-8".into());
        sides.get_mut("profile").expect("an entity").platform.get_mut("p-7").expect("a row")[0] = Some("u-8".into());
        let profile = &SHAPES[1];
        assert_eq!(by_pairs(profile, &sides).len(), 1);
        assert_eq!(by_nature(profile, &sides).len(), 2);
    }

    #[test]
    fn a_row_without_partner_is_found_on_either_side() {
        let mut sides = equal_sides();
        sides.get_mut("user").expect("an entity").to_platform.clear();
        sides.get_mut("user").expect("an entity").platform.clear();
        let user = by_pairs(&SHAPES[0], &sides);
        assert_eq!(
            user.iter().map(|difference| difference.what.clone()).collect::<Vec<_>>(),
            [What::Unpaired(Side::Legacy)]
        );
        assert_eq!(by_nature(&SHAPES[0], &sides).len(), 1);
    }
}
