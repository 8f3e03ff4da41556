//! A second comparison, to check the bridge's with: slow and obvious. Both tables of an entity are read in full, by SQL of the test's own
//! that says what a row holds, and the rows are held against each other by the ledger's pairs. Never: the bridge's mapping, hashes or buckets.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AssertSqlSafe;
use sync_bridge::config::{EntityId, Side};
use sync_bridge::ops::Verified;

use super::systems::Systems;

/// An entity as a person would read it on either side. Each statement answers of every row that is the customer's:
/// `key` and `natural` (none where nothing tells records apart), what it `holds` (none where that is nothing that both sides can hold),
/// the key of the record that it `refers` to, and whether it `rests` outside of `where`.
#[derive(Debug, Clone, Copy)]
pub struct Slow {
    pub entity: &'static str,
    pub legacy: &'static str,
    pub platform: &'static str,
    /// The entity that `refers` is about.
    pub refers_to: Option<&'static str>,
}

#[derive(Debug, sqlx::FromRow)]
struct Row {
    key: String,
    natural: Option<String>,
    holds: Option<String>,
    refers: Option<String>,
    rests: bool,
}

/// For the legacy key of a pair that legacy refused.
const UNKNOWN: &str = "?";

/// A pair or a lone row: its keys on legacy and on the platform.
pub type Named = (Option<String>, Option<String>);

/// What is not the same, with what the two rows hold.
#[derive(Debug, Default)]
pub struct Found {
    pub differ: BTreeMap<Named, String>,
    /// Pairs whose rows hold the same but for a reference to the same record, which has no living pair: nobody edited
    /// them, so only who reads every row can see it.
    pub dangle: BTreeSet<Named>,
}

/// Compares an entity. Nobody may write meanwhile.
pub async fn compare(systems: &Systems, slow: &Slow) -> Found {
    let (entity, legacy, platform) = (EntityId::new(slow.entity), slow.legacy, slow.platform);
    let [legacy, platform] =
        [rows(systems, &entity, Side::Legacy, legacy).await, rows(systems, &entity, Side::Platform, platform).await];
    let pairs = systems.pairs(&entity).await;
    let parents: BTreeMap<String, String> = match slow.refers_to {
        Some(parent) => systems.pairs(&EntityId::new(parent)).await.into_iter().collect(),
        None => BTreeMap::new(),
    };
    let paired: [BTreeSet<&String>; 2] =
        [pairs.iter().map(|(legacy, _)| legacy).collect(), pairs.iter().map(|(_, platform)| platform).collect()];
    let mut together: Vec<(Named, Option<&Row>, Option<&Row>)> = pairs
        .iter()
        .map(|(l, p)| ((Some(l.clone()).filter(|l| l != UNKNOWN), Some(p.clone())), legacy.get(l), platform.get(p)))
        .collect();
    // Two rows that nobody paired are one record if they say so, and else two.
    let lone = |rows: &'_ BTreeMap<String, Row>, side: usize| -> Vec<String> {
        rows.values().filter(|row| !row.rests && !paired[side].contains(&row.key)).map(|row| row.key.clone()).collect()
    };
    let mut of_platform = lone(&platform, 1);
    for l in lone(&legacy, 0) {
        let natural = legacy[&l].natural.as_ref();
        let found = of_platform.iter().position(|p| natural.is_some() && platform[p].natural.as_ref() == natural);
        let partner = found.map(|at| of_platform.swap_remove(at));
        let other = partner.as_ref().map(|p| &platform[p]);
        together.push(((Some(l.clone()), partner.clone()), legacy.get(&l), other));
    }
    together.extend(of_platform.iter().map(|p| ((None, Some(p.clone())), None, platform.get(p))));

    let mut found = Found::default();
    for (named, legacy, platform) in together {
        let rests = [legacy, platform].into_iter().flatten().any(|row| row.rests);
        if rests || (legacy.is_none() && platform.is_none()) {
            continue;
        }
        let (Some(l), Some(p)) = (legacy, platform) else {
            found.differ.insert(named, format!("{legacy:?} {platform:?}"));
            continue;
        };
        let alike = l.holds.is_some() && l.holds == p.holds;
        let refers = match (&l.refers, &p.refers) {
            (None, None) => true,
            (Some(l), Some(p)) => parents.get(l) == Some(p),
            _ => false,
        };
        if alike && refers {
            continue;
        }
        let dangles = l.refers.as_ref().is_some_and(|key| !parents.contains_key(key))
            && p.refers.as_ref().is_some_and(|key| !parents.values().any(|known| known == key));
        if alike && dangles && pairs.iter().any(|(l, _)| Some(l) == named.0.as_ref()) {
            found.dangle.insert(named);
        } else {
            found.differ.insert(named, format!("{l:?} {p:?}"));
        }
    }
    found
}

/// What `verify` named of an entity.
pub fn named(found: &[Verified], entity: &str) -> BTreeMap<Named, String> {
    let of_entity = found.iter().filter(|one| one.entity.as_str() == entity).flat_map(|one| &one.differences);
    let key = |key: &Option<sync_bridge::stages::Key>| key.as_ref().map(|key| key.0.clone());
    of_entity
        .map(|one| ((key(&one.legacy_key), key(&one.platform_key)), format!("{} {:?}", one.kind, one.fields)))
        .collect()
}

async fn rows(systems: &Systems, entity: &EntityId, side: Side, sql: &'static str) -> BTreeMap<String, Row> {
    let pool = systems.pool_of(entity, side);
    let rows: Vec<Row> =
        sqlx::query_as(AssertSqlSafe(sql.to_owned())).fetch_all(pool).await.expect("reading a table in full");
    rows.into_iter().map(|row| (row.key.clone(), row)).collect()
}
