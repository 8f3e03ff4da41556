//! Rows that are not there any more: seen twice, their counterparts go, too; where too many are gone at once, none does, and the
//! entity stands still until an operator has looked. Owns: when a delete is carried over. Never: a delete itself, which is a page's.

use sqlx::PgConnection;

use crate::config::{Config, Deletes, Entity, EntityId, Side};
use crate::ledger::page::{self, NewPage};
use crate::ledger::pause::{self, Scope};
use crate::ledger::stage::Stage;
use crate::ledger::sweep::{self, Gone};
use crate::stages::{Key, Lane, PageMode, Range, Reach, SweptSide};

/// Rows that may be gone whatever their share is: of a small table a few are a lot.
const ROWS_FREE: u64 = 50;

/// What becomes of rows that are gone.
#[derive(Debug, Default)]
pub struct Carried {
    /// Of the rows whose counterparts are to go.
    pub pages: Vec<NewPage>,
    /// Entities of which too much is gone, with what is.
    pub masses: Vec<(EntityId, String)>,
}

/// What was found on a side of an entity, and what is known of the rows that are gone there.
type Sighted<'s> = (&'s EntityId, &'s SweptSide, Gone);

/// Notes what was found, and makes pages of the rows whose counterparts are to go. Answers how many pages, and of each entity of which too
/// much is gone why it stands still.
pub async fn record(
    conn: &mut PgConnection,
    config: &Config,
    stage: &Stage,
    swept: &[(EntityId, SweptSide)],
) -> anyhow::Result<(i32, Vec<String>)> {
    let mut sighted = Vec::new();
    for (entity, found) in swept {
        sweep::note(conn, (&stage.customer, stage.run, entity.as_str()), found).await?;
        if found.reach == Reach::Whole && follows(config, entity, found.side) {
            let what = (stage.customer.as_str(), entity.as_str(), found.side);
            let gone = sweep::sight(conn, what, &found.missing, found.more_missing, config.deletes_after).await?;
            sighted.push((entity, found, gone));
        }
    }
    let known = config.customers.iter().find(|known| known.id.as_str() == stage.customer);
    let slug = known.map_or(stage.customer.as_str(), |known| &known.slug);
    let Carried { pages, masses } = carry(config, &sighted);
    let mut held = Vec::new();
    for (entity, what) in &masses {
        let reason = reason(slug, entity, what);
        tracing::error!(customer = stage.customer, %entity, "halted, the other entities go on: {reason}");
        let scope = Scope { customer: &stage.customer, entity: Some(entity.as_str()), toward: None };
        pause::set(conn, scope, pause::OWN, &reason).await?;
        held.push(format!("{entity}: {reason}"));
    }
    Ok((page::insert(conn, stage, 0, &pages).await?, held))
}

/// What `record` would do now; notes nothing.
pub async fn foresee(
    conn: &mut PgConnection,
    config: &Config,
    customer: &str,
    swept: &[(EntityId, SweptSide)],
) -> anyhow::Result<Carried> {
    let mut sighted = Vec::new();
    for (entity, found) in
        swept.iter().filter(|(entity, found)| found.reach == Reach::Whole && follows(config, entity, found.side))
    {
        let what = (customer, entity.as_str(), found.side);
        sighted.push((entity, found, sweep::foresee(conn, what, &found.missing, config.deletes_after).await?));
    }
    Ok(carry(config, &sighted))
}

/// Whether something becomes of the counterparts of rows that are gone on this side.
fn follows(config: &Config, entity: &EntityId, side: Side) -> bool {
    config.entity(entity).is_some_and(|entity| config.deletes(entity, side.other()) != Deletes::Keep)
}

/// Pure.
fn carry(config: &Config, sighted: &[Sighted<'_>]) -> Carried {
    let too_much = |(entity, found, gone): &Sighted<'_>| {
        guard(config.deletes_percent_max, found, gone.unaccepted).map(|what| ((*entity).clone(), what))
    };
    let masses: Vec<(EntityId, String)> = sighted.iter().filter_map(too_much).collect();
    let mut pages = Vec::new();
    // What refers to others goes before them.
    let entities: Vec<&Entity> = config.entities().collect();
    for entity in entities.into_iter().rev().filter(|known| masses.iter().all(|(halted, _)| *halted != known.id)) {
        for (_, found, gone) in sighted.iter().filter(|(of, ..)| **of == entity.id) {
            pages.extend(pages_of(entity, found.side, &gone.due));
        }
    }
    Carried { pages, masses }
}

fn pages_of(entity: &Entity, side: Side, due: &[Key]) -> Vec<NewPage> {
    let page = |keys: &[Key]| NewPage {
        entity: entity.id.clone(),
        side,
        mode: PageMode::Delete,
        range: Range {
            lane: Lane::Keys,
            after: None,
            upto: None,
            keys: keys.to_vec(),
            rows: u32::try_from(keys.len()).unwrap_or(u32::MAX),
        },
    };
    due.chunks(entity.page_rows as usize).map(page).collect()
}

/// What is too much to have been meant, so that nothing of an entity is deleted. Pure.
fn guard(percent_max: u32, found: &SweptSide, unaccepted: u64) -> Option<String> {
    let SweptSide { side, rows, pairs, missing, more_missing, .. } = found;
    let gone = missing.len() as u64;
    if unaccepted > 0 && *rows == 0 && *pairs > 1 {
        Some(format!("its table on the {side} side shows no row, where {pairs} were"))
    } else if unaccepted > ROWS_FREE && unaccepted * 100 > pairs * u64::from(percent_max) {
        let at_least = if *more_missing { "at least " } else { "" };
        Some(format!(
            "{at_least}{gone} of {pairs} rows are gone from the {side} side, more than `deletes_percent_max` ({percent_max} %)"
        ))
    } else {
        None
    }
}

fn reason(slug: &str, entity: &EntityId, what: &str) -> String {
    let resume = format!("`sync-bridge resume --customer {slug} --entity {entity}");
    format!(
        "{what}: nothing was deleted. Bring the rows back, then {resume}`; if they were deleted on purpose, {resume} --accept-deletes`"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stages::Depth;

    fn found(rows: u64, pairs: u64, gone: usize) -> SweptSide {
        SweptSide {
            side: Side::Legacy,
            depth: Depth::Keys,
            reach: Reach::Whole,
            took: Duration::ZERO,
            rows,
            pairs,
            ranges: Vec::new(),
            differing: 0,
            missing: (0..gone).map(|at| Key(at.to_string())).collect(),
            more_missing: false,
            carried_out: Vec::new(),
        }
    }

    #[test]
    fn what_may_be_gone_and_what_may_not() {
        let trips = |found: &SweptSide, unaccepted| guard(1, found, unaccepted).is_some();
        for (rows, pairs, gone, unaccepted, expected) in [
            (1_000, 1_000, 0, 0, false),
            (950, 1_000, 50, 50, false),
            (949, 1_000, 51, 51, true),
            (9_949, 10_000, 51, 51, false),
            (9_899, 10_000, 101, 101, true),
            (9_899, 10_000, 101, 0, false),
            (0, 2, 2, 2, true),
            (0, 1, 1, 1, false),
            (0, 2, 2, 0, false),
        ] {
            assert_eq!(trips(&found(rows, pairs, gone), unaccepted), expected, "{rows} {pairs} {gone} {unaccepted}");
        }
    }
}
