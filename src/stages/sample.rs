//! The laws of a mapping, tried on the operator's own rows: `check --sample`. Reads, and writes nothing.

use anyhow::Context as _;

use crate::config::{self, Customer, EntityId, Side};
use crate::mapping::laws::{Trial, try_rows};
use crate::sides::postgres::Pools;

use super::entity::readable;

/// What an entity's rows of one side showed.
#[derive(Debug)]
pub struct Sampled {
    pub entity: EntityId,
    pub side: Side,
    pub rows: usize,
    pub trial: Trial,
}

/// Tries both sides' rows, at most so many of each: the newest ones, and others from all over the table.
///
/// # Errors
/// A database that does not answer, or a mapping that does not fit it.
pub async fn sample(
    pools: &Pools,
    customer: &Customer,
    entity: &config::Entity,
    rows_max: u32,
) -> anyhow::Result<Vec<Sampled>> {
    let readable = readable(pools, customer, entity).await?;
    let mut sampled = Vec::new();
    for side in Side::BOTH {
        let ready = readable.side(side);
        let rows = ready
            .sql
            .sample(&ready.database.read, rows_max)
            .await
            .with_context(|| format!("reading sample rows of {} in {}", entity.id, ready.database.shown))?;
        let cells: Vec<_> = rows.into_iter().map(|row| row.cells).collect();
        let trial = try_rows(&readable.mapping, side, &cells);
        sampled.push(Sampled { entity: entity.id.clone(), side, rows: cells.len(), trial });
    }
    Ok(sampled)
}
