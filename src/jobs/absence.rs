//! Rows that are not there any more: seen twice, their counterparts go, too; where too many are gone at once, none does, and the
//! entity stands still until an operator has looked. Owns: when a delete is carried over. Never: a delete itself, which is a page's.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::config::{Config, Deletes, Entity, EntityId, Side};
use crate::ledger::page::{self, NewPage};
use crate::ledger::pause::{self, Scope};
use crate::ledger::stage::Stage;
use crate::ledger::sweep::{self, Gone};
use crate::stages::{Key, Lane, PageMode, Range, SweptSide};

/// Rows that may be gone whatever their share is: of a small table a few are a lot.
const ROWS_FREE: u64 = 50;

/// Who stands for a pause that nobody asked for.
pub const WHO: &str = "sync-bridge";

/// Notes what was found, and makes pages of the rows whose counterparts are to go. Answers how many pages.
pub async fn record(
    conn: &mut PgConnection,
    config: &Config,
    stage: &Stage,
    swept: &[(EntityId, SweptSide)],
) -> anyhow::Result<i32> {
    let mut of_entities: BTreeMap<usize, Vec<NewPage>> = BTreeMap::new();
    let order: Vec<&Entity> = config.entities().collect();
    let known = config.customers.iter().find(|known| known.id.as_str() == stage.customer);
    let slug = known.map_or(stage.customer.as_str(), |known| &known.slug);
    for (entity, found) in swept {
        sweep::note(conn, (&stage.customer, stage.run, entity.as_str()), found).await?;
        let Some(position) = order.iter().position(|known| known.id == *entity) else { continue };
        let known = order[position];
        if config.deletes(known, found.side.other()) == Deletes::Keep {
            continue;
        }
        let what = (stage.customer.as_str(), entity.as_str(), found.side);
        let Gone { due, unaccepted } =
            sweep::sight(conn, what, &found.missing, found.more_missing, config.deletes_after).await?;
        if let Some(reason) = guard(config.deletes_percent_max, slug, entity, found, unaccepted) {
            tracing::error!(customer = stage.customer, %entity, "halted, the other entities go on: {reason}");
            let scope = Scope { customer: &stage.customer, entity: Some(entity.as_str()), toward: None };
            pause::set(conn, scope, WHO, &reason).await?;
            of_entities.remove(&position);
            continue;
        }
        of_entities.entry(position).or_default().extend(pages_of(known, found.side, &due));
    }
    // What refers to others goes before them.
    let pages: Vec<NewPage> = of_entities.into_iter().rev().flat_map(|(_, pages)| pages).collect();
    Ok(page::insert(conn, stage, 0, &pages).await?)
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

/// Why nothing of an entity is deleted: too much is gone to have been meant. Pure.
fn guard(percent_max: u32, slug: &str, entity: &EntityId, found: &SweptSide, unaccepted: u64) -> Option<String> {
    let SweptSide { side, rows, pairs, missing, more_missing, .. } = found;
    let gone = missing.len() as u64;
    let what = if unaccepted > 0 && *rows == 0 && *pairs > 1 {
        format!("its table on the {side} side shows no row, where {pairs} were")
    } else if unaccepted > ROWS_FREE && unaccepted * 100 > pairs * u64::from(percent_max) {
        let at_least = if *more_missing { "at least " } else { "" };
        format!(
            "{at_least}{gone} of {pairs} rows are gone from the {side} side, more than `deletes_percent_max` ({percent_max} %)"
        )
    } else {
        return None;
    };
    let resume = format!("`sync-bridge resume --customer {slug} --entity {entity}");
    Some(format!(
        "{what}: nothing was deleted. Bring the rows back, then {resume}`; if they were deleted on purpose, {resume} --accept-deletes`"
    ))
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
            took: Duration::ZERO,
            rows,
            pairs,
            ranges: Vec::new(),
            differing: 0,
            missing: (0..gone).map(|at| Key(at.to_string())).collect(),
            more_missing: false,
        }
    }

    #[test]
    fn what_may_be_gone_and_what_may_not() {
        let trips =
            |found: &SweptSide, unaccepted| guard(1, "acme", &EntityId::new("user"), found, unaccepted).is_some();
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
