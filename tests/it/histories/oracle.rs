//! What must hold after a history. Every statement here is its own: nothing is asked of the bridge's translation.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AssertSqlSafe;
use sync_bridge::config::{CustomerId, EntityId, Side};
use sync_bridge::stages::Page;

use super::plan::FOCUSES;
use super::tables::table;
use super::world::{Failed, Happening, RowName, shown, told};
use crate::support::systems::{CUSTOMER, VERSIONS_AND_LOCKS, image};

/// Two in a row that do nothing, ten at most.
const RUNS_MAX: usize = 10;

type Values = Vec<Option<String>>;

#[derive(Debug, Clone, sqlx::FromRow)]
struct PairRow {
    entity: String,
    platform_key: String,
    legacy_key: Option<String>,
    generation: i32,
    rev: i64,
    gone: bool,
}

#[derive(Debug, sqlx::FromRow)]
struct ReceiptRow {
    entity: String,
    platform_key: String,
    legacy_key: Option<String>,
    generation: i32,
    rev: i64,
    done: bool,
}

#[derive(Debug, sqlx::FromRow)]
struct LoggedRow {
    entity: String,
    platform_key: String,
    kind: String,
    field: Option<String>,
    legacy: Option<String>,
    platform: Option<String>,
    winner: Option<String>,
}

/// Runs to the end of the history, then asks every oracle.
pub async fn judge(happening: &mut Happening<'_>) -> Result<(), Failed> {
    happening.calm().await?;
    settle(happening).await?;
    if !happening.deleted.is_empty() {
        happening.sweep().await?;
        settle(happening).await?;
    }
    resolve(happening).await?;
    is_still(happening).await?;
    let seen = Seen::look(happening).await?;
    seen.nothing_is_listed_without_cause(happening)?;
    seen.both_sides_are_equal(happening)?;
    seen.pairs_are_one_to_one(happening)?;
    seen.nothing_is_lost(happening)?;
    happening.tally.conflicts += seen.log.len() as u64;
    happening.tally.pairs += seen.pairs.len() as u64;
    happening.tally.listed += (happening.parked.len() + happening.quarantined.len()) as u64;
    the_past_changes_nothing(happening).await
}

async fn settle(happening: &mut Happening<'_>) -> Result<(), Failed> {
    let mut still = 0;
    for _ in 0..RUNS_MAX {
        let before = happening.wrote;
        happening.run(&[]).await?;
        still = if happening.wrote == before { still + 1 } else { 0 };
        if still == 2 {
            return Ok(());
        }
    }
    Err(format!("O2 after {RUNS_MAX} runs the bridge still writes"))
}

/// Manual conflicts wait for a person: here he comes.
async fn resolve(happening: &mut Happening<'_>) -> Result<(), Failed> {
    let customer = CustomerId::new(CUSTOMER);
    let person = EntityId::new("person");
    let open = happening.data.conflicts(&customer, &person, None, Some("open"), 100).await;
    let open = open.map_err(|error| format!("reading conflicts: {error:#}"))?;
    if open.is_empty() {
        return Ok(());
    }
    let is_deleted = |key: &str| happening.deleted.iter().any(|row| row.0 == "person" && row.2 == key);
    for conflict in &open {
        let deleted = is_deleted(&conflict.platform_key) || conflict.legacy_key.as_deref().is_some_and(is_deleted);
        let winner = if conflict.id % 2 == 0 { Side::Legacy } else { Side::Platform };
        let done = happening.data.resolve_conflict(&customer, &person, conflict.id, winner, "ann").await;
        if !deleted {
            done.map_err(|error| format!("resolving a conflict: {error:#}"))?;
        }
    }
    settle(happening).await
}

async fn images(happening: &Happening<'_>) -> [Vec<(String, i64, Option<String>)>; 2] {
    [
        image(happening.world.pool(Side::Legacy), VERSIONS_AND_LOCKS).await,
        image(happening.world.pool(Side::Platform), VERSIONS_AND_LOCKS).await,
    ]
}

/// What every table of the side's own holds, as one number each.
async fn contents(happening: &Happening<'_>, side: Side) -> Vec<(String, i64, Option<String>)> {
    let pool = happening.world.pool(side);
    let mut contents = Vec::new();
    let tables = image(pool, VERSIONS_AND_LOCKS).await.into_iter().map(|(table, ..)| table);
    for table in tables.filter(|table| !table.starts_with("sync_bridge.")) {
        let sql = format!("select count(*), sum(hashtextextended(t::text, 0))::text from {table} t");
        let (count, sum) = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(pool).await.expect("hashing a table");
        contents.push((table, count, sum));
    }
    contents
}

fn changed(
    before: &[Vec<(String, i64, Option<String>)>; 2],
    after: &[Vec<(String, i64, Option<String>)>; 2],
) -> String {
    let tables = before.iter().flatten().zip(after.iter().flatten());
    let names: Vec<&str> = tables.filter(|(one, two)| one != two).map(|(one, _)| one.0.as_str()).collect();
    names.join(", ")
}

async fn is_still(happening: &mut Happening<'_>) -> Result<(), Failed> {
    let before = images(happening).await;
    happening.run(&[]).await?;
    let after = images(happening).await;
    match before == after {
        true => Ok(()),
        false => Err(format!("O2 a run over settled data wrote or locked rows of {}", changed(&before, &after))),
    }
}

async fn the_past_changes_nothing(happening: &Happening<'_>) -> Result<(), Failed> {
    // A listed row is tried again: what is rolled back then leaves its trace in row versions and revisions.
    let listed = !happening.parked.is_empty() || !happening.quarantined.is_empty();
    let look = async || match listed {
        true => [contents(happening, Side::Legacy).await, contents(happening, Side::Platform).await],
        false => images(happening).await,
    };
    let before = look().await;
    let mut delivered: Vec<&Page> = Vec::new();
    for page in &happening.past {
        let known = delivered
            .iter()
            .any(|known| known.entity == page.entity && known.side == page.side && known.range == page.range);
        if !known {
            happening.work(page).await?;
            delivered.push(page);
        }
    }
    let after = look().await;
    if before == after {
        return Ok(());
    }
    let pages: Vec<String> = delivered.into_iter().map(shown).collect();
    let pages = pages.join("; ");
    Err(format!("O5 pages of the past wrote or locked rows of {}: {pages}", changed(&before, &after)))
}

/// All that both databases hold at the end.
struct Seen {
    /// By entity, side and key.
    rows: BTreeMap<RowName, Values>,
    pairs: Vec<PairRow>,
    receipts: Vec<ReceiptRow>,
    log: Vec<LoggedRow>,
    /// Rows that users deleted, and their partners.
    deleted: BTreeSet<RowName>,
    /// Parked and quarantined rows, and their partners.
    listed: BTreeSet<RowName>,
}

impl Seen {
    async fn look(happening: &Happening<'_>) -> Result<Seen, Failed> {
        let mut rows = BTreeMap::new();
        for entity in FOCUSES[happening.setting.focus] {
            for side in Side::BOTH {
                let sql = AssertSqlSafe(table(entity, side).rows());
                let found: Vec<(String, Values)> =
                    sqlx::query_as(sql).fetch_all(happening.world.pool(side)).await.map_err(told)?;
                rows.extend(found.into_iter().map(|(key, values)| (((*entity).to_string(), side, key), values)));
            }
        }
        let platform = happening.world.pool(Side::Platform);
        let pairs: Vec<PairRow> = sqlx::query_as(
            "select e.entity, p.platform_key, p.legacy_key, p.generation, p.rev, p.gone from sync_bridge.pair p \
             join sync_bridge.entity e on e.id = p.entity_id order by e.entity, p.platform_key",
        )
        .fetch_all(platform)
        .await
        .map_err(told)?;
        let receipts = sqlx::query_as(
            "select e.entity, r.platform_key, r.legacy_key, r.generation, r.rev, r.done from sync_bridge.receipt r \
             join sync_bridge.entity e on e.id = r.entity_id order by e.entity, r.platform_key",
        )
        .fetch_all(happening.world.pool(Side::Legacy))
        .await
        .map_err(told)?;
        let code = |value: &str| {
            format!(
                "case when f->>'field' in ('team', 'parent') then (select code from team t where t.id::text = f->>'{value}') else f->>'{value}' end"
            )
        };
        let log = format!(
            "select e.entity, c.platform_key, c.kind, f->>'field' as field, {} as legacy, {} as platform, f->>'winner' as winner \
             from sync_bridge.conflict c join sync_bridge.entity e on e.id = c.entity_id, jsonb_array_elements(c.fields) f \
             order by c.id",
            code("legacy"),
            code("platform")
        );
        let log = sqlx::query_as(AssertSqlSafe(log)).fetch_all(platform).await.map_err(told)?;
        let mut seen = Seen { rows, pairs, receipts, log, deleted: BTreeSet::new(), listed: BTreeSet::new() };
        let deleted =
            happening.deleted.iter().map(|(entity, side, key, _)| ((*entity).to_string(), *side, key.clone()));
        seen.deleted = seen.with_partners(deleted);
        seen.listed = seen.with_partners(happening.parked.keys().chain(happening.quarantined.keys()).cloned());
        Ok(seen)
    }

    fn with_partners(&self, names: impl Iterator<Item = RowName>) -> BTreeSet<RowName> {
        let mut all: BTreeSet<RowName> = names.collect();
        for name in all.clone() {
            for pair in self.pairs.iter().filter(|pair| pair.entity == name.0) {
                let (legacy, platform) = (pair.legacy_key.as_ref(), &pair.platform_key);
                match name.1 {
                    Side::Legacy if legacy == Some(&name.2) => {
                        all.insert((name.0.clone(), Side::Platform, platform.clone()));
                    }
                    Side::Platform if *platform == name.2 => {
                        all.extend(legacy.map(|legacy| (name.0.clone(), Side::Legacy, legacy.clone())));
                    }
                    _ => {}
                }
            }
        }
        all
    }

    fn nothing_is_listed_without_cause(&self, happening: &Happening<'_>) -> Result<(), Failed> {
        if happening.setting.collisions {
            return Ok(());
        }
        let unless_deleted = |name: &RowName| !self.deleted.contains(name) && !happening.setting.deletes;
        if let Some((name, _)) = happening.parked.iter().find(|(name, _)| unless_deleted(name)) {
            return Err(format!("O1 {name:?} is parked in the end: {:?}", happening.parked[name]));
        }
        match happening.quarantined.iter().find(|(name, _)| unless_deleted(name)) {
            Some((name, reason)) => Err(format!("O1 {name:?} is quarantined in the end: {reason}")),
            None => Ok(()),
        }
    }

    fn both_sides_are_equal(&self, happening: &Happening<'_>) -> Result<(), Failed> {
        for entity in FOCUSES[happening.setting.focus] {
            let of = |side: Side| -> Vec<&Values> {
                let mut of: Vec<&Values> = self
                    .rows
                    .iter()
                    .filter(|(name, _)| name.0 == *entity && name.1 == side)
                    .filter(|(name, _)| !self.listed.contains(*name) && !self.is_half_deleted(name))
                    .map(|(_, values)| values)
                    .collect();
                of.sort();
                of
            };
            let (legacy, platform) = (of(Side::Legacy), of(Side::Platform));
            if legacy != platform {
                let one: Vec<_> = legacy.iter().filter(|values| !platform.contains(values)).collect();
                let two: Vec<_> = platform.iter().filter(|values| !legacy.contains(values)).collect();
                return Err(format!("O1 {entity} differs: only on legacy {one:?}, only on the platform {two:?}"));
            }
        }
        Ok(())
    }

    /// A row whose partner was deleted by a user: what becomes of it is for the sweep to say.
    fn is_half_deleted(&self, name: &RowName) -> bool {
        self.deleted.contains(name) && !self.pairs.iter().any(|pair| self.is_whole(pair) && pair_has(pair, name))
    }

    fn is_whole(&self, pair: &PairRow) -> bool {
        let on = |side: Side, key: &str| self.rows.contains_key(&(pair.entity.clone(), side, key.to_string()));
        !pair.gone
            && on(Side::Platform, &pair.platform_key)
            && pair.legacy_key.as_ref().is_some_and(|key| on(Side::Legacy, key))
    }

    fn pairs_are_one_to_one(&self, happening: &Happening<'_>) -> Result<(), Failed> {
        for name in self.rows.keys().filter(|name| !self.listed.contains(*name)) {
            let of: Vec<&PairRow> = self.pairs.iter().filter(|pair| !pair.gone && pair_has(pair, name)).collect();
            let whole = of.iter().any(|pair| self.is_whole(pair));
            if of.len() != 1 || !(whole || self.deleted.contains(name)) {
                return Err(format!("O4 {name:?} is in {} living pairs: {of:?}", of.len()));
            }
        }
        for receipt in &self.receipts {
            let pair = self
                .pairs
                .iter()
                .find(|pair| pair.entity == receipt.entity && pair.platform_key == receipt.platform_key);
            let Some(pair) = pair else { return Err(format!("O4 a receipt without a pair: {receipt:?}")) };
            let keys_agree = match (&pair.legacy_key, &receipt.legacy_key) {
                (Some(one), Some(two)) => one == two && pair.generation == receipt.generation,
                (None, Some(_)) => !receipt.done,
                _ => true,
            };
            if receipt.rev > pair.rev || !keys_agree {
                let name = (pair.entity.clone(), Side::Platform, pair.platform_key.clone());
                if happening.setting.collisions && self.listed.contains(&name) {
                    continue;
                }
                return Err(format!("O4 pair and receipt do not agree: {pair:?}, {receipt:?}"));
            }
        }
        Ok(())
    }

    /// Each value a user wrote stands, or was replaced by a user who saw it, or is logged as the loser of a conflict.
    fn nothing_is_lost(&self, happening: &Happening<'_>) -> Result<(), Failed> {
        for (at, deed) in happening.deeds.iter().enumerate() {
            let Some(after) = &deed.after else { continue };
            let name = (deed.entity.to_string(), deed.side, deed.key.clone());
            let later = &happening.deeds[at + 1..];
            if later.iter().any(|other| {
                other.after.is_none() && other.entity == deed.entity && other.side == deed.side && other.key == deed.key
            }) {
                continue;
            }
            let record: Vec<&PairRow> = self.pairs.iter().filter(|pair| pair_has(pair, &name)).collect();
            let Some(stands) = self.rows.get(&name) else {
                return Err(format!("O3 {name:?} is gone and no user deleted it: {deed:?}"));
            };
            let of_record = |other: &&super::world::Deed| {
                let other_name = (other.entity.to_string(), other.side, other.key.clone());
                other_name == name || record.iter().any(|pair| pair_has(pair, &other_name))
            };
            let fields = table(deed.entity, deed.side).fields;
            for (field, &field_name) in fields.iter().enumerate() {
                // A reference shows what the other record is called today.
                let is_renamed = match field_name {
                    "team" | "parent" => happening.setting.deletes,
                    "person" => true,
                    _ => false,
                };
                if is_renamed {
                    continue;
                }
                let value = &after[field];
                let before = deed.before.as_ref().map(|before| &before[field]);
                if before == Some(value) || stands[field] == *value || (before.is_none() && value.is_none()) {
                    continue;
                }
                // Back to what it was: no change on the whole.
                let undone = happening.deeds[..at].iter().filter(of_record).any(|other| {
                    [&other.before, &other.after].into_iter().flatten().any(|values| values.get(field) == Some(value))
                });
                let replaced = undone
                    || later.iter().filter(of_record).any(|other| {
                        other.before.as_ref().is_some_and(|before| before.get(field) == Some(value))
                            && other.after.as_ref().is_some_and(|after| after[field] != *value)
                    });
                let lost = self.log.iter().any(|entry| {
                    let (own, winner) = match deed.side {
                        Side::Legacy => (&entry.legacy, "platform"),
                        Side::Platform => (&entry.platform, "legacy"),
                    };
                    entry.entity == deed.entity
                        && record.iter().any(|pair| pair.platform_key == entry.platform_key)
                        && entry.field.as_deref() == Some(field_name)
                        && own == value
                        && entry.winner.as_deref().is_none_or(|by| by == winner)
                });
                if !replaced && !lost {
                    return Err(format!(
                        "O3 lost: field {field_name} of {name:?} was set to {value:?} and is {:?}; nobody who saw it replaced it, \
                         and it lost no logged conflict",
                        stands[field]
                    ));
                }
            }
        }
        self.no_loser_had_replaced_its_winner(happening)
    }

    /// A value made by a user who saw another is never a conflict's loser against that other.
    fn no_loser_had_replaced_its_winner(&self, happening: &Happening<'_>) -> Result<(), Failed> {
        for entry in self.log.iter().filter(|entry| entry.kind == "conflict") {
            let (loser, winner) = match entry.winner.as_deref() {
                Some("legacy") => (&entry.platform, &entry.legacy),
                Some("platform") => (&entry.legacy, &entry.platform),
                _ => continue,
            };
            // Only values that were set once tell who saw whom.
            let unique = |value: &Option<String>| {
                value.as_ref().is_some_and(|value| value.len() > 1 && !value.starts_with("same"))
                    && matches!(entry.field.as_deref(), Some("phone" | "name" | "body" | "role"))
            };
            if !unique(loser) || !unique(winner) {
                continue;
            }
            let fields = table(&entry.entity, Side::Legacy).fields;
            let Some(field) = fields.iter().position(|field| entry.field.as_deref() == Some(field)) else { continue };
            let knew = happening.deeds.iter().any(|deed| {
                deed.entity == entry.entity
                    && deed.before.as_ref().is_some_and(|before| before.get(field) == Some(winner))
                    && deed.after.as_ref().is_some_and(|after| after.get(field) == Some(loser))
            });
            if knew {
                return Err(format!("O3 an edit lost against the very value it had replaced: {entry:?}"));
            }
        }
        Ok(())
    }
}

fn pair_has(pair: &PairRow, name: &RowName) -> bool {
    pair.entity == name.0
        && match name.1 {
            Side::Legacy => pair.legacy_key.as_ref() == Some(&name.2),
            Side::Platform => pair.platform_key == name.2,
        }
}
