//! The laws of a mapping, tried on the operator's own rows: `check --sample`. Reads, and writes nothing.

use anyhow::Context as _;

use crate::config::{self, Customer, Side, Spot};
use crate::mapping::laws::{Trial, try_rows};
use crate::sides::postgres::Pools;

use super::super::{Touched, entity::readable};
use super::Flaw;
use super::flaw::listed;

/// Tries both sides' rows, at most so many of each: the newest ones, and others from all over the table.
///
/// # Errors
/// A database that does not answer, or a mapping that does not fit it.
pub async fn sampled(
    pools: &Pools,
    customer: &Customer,
    entity: &config::Entity,
    rows_max: u32,
) -> anyhow::Result<Vec<Flaw>> {
    let readable = readable(pools, customer, entity).await?;
    let mut flaws = Vec::new();
    for side in Side::BOTH {
        let ready = readable.side(side);
        let rows = ready
            .sql
            .sample(&ready.database.read, rows_max)
            .await
            .with_context(|| format!("reading sample rows of {} in {}", entity.id, ready.database.shown))?;
        let cells: Vec<_> = rows.into_iter().map(|row| row.cells).collect();
        flaws.extend(told(side, cells.len(), try_rows(&readable.mapping, side, &cells)));
    }
    Ok(flaws)
}

/// What the next run will have to settle because the mapping is not the one that the pairs were compared under.
pub fn changed(touched: &Touched, percent_max: u32) -> Option<Flaw> {
    if touched.rows_different == 0 {
        return None;
    }
    let fields = listed(touched.fields.iter().map(String::as_str));
    let (different, read, rows, percent) = (touched.rows_different, touched.rows_read, touched.rows, touched.percent());
    let looked_at = if touched.counted { format!("{read} rows") } else { format!("{read} rows looked at of {rows}") };
    let message = format!(
        "the mapping changed: {different} of {looked_at} ({percent:.1} %) differ in what was never compared as it is mapped now: {fields}"
    );
    let help = format!(
        "`first_contact` decides about these rows; above {percent_max} % they wait for `sync-bridge run --accept-mapping`"
    );
    Some(Flaw::warning("mapping-changed", Spot::Whole, message).about(Side::Platform, None).help(help))
}

/// Pure.
fn told(side: Side, rows: usize, trial: Trial) -> Vec<Flaw> {
    let broken = trial.broken.into_iter().map(|broken| {
        let help = "choose a lens that brings the value back, or let the field go one way: `one_way = \"to-platform\"`";
        Flaw::error("law-broken", Spot::Lens, broken.to_string()).of_field(Some(&broken.field)).help(help)
    });
    let untranslatable = trial.untranslatable.into_iter().map(|(field, count, reason)| {
        let message = format!("{count} of {rows} rows looked at on the {side} side have no translation: {reason}");
        let help = "such a row is quarantined: widen the lens, or correct the rows";
        Flaw::warning("no-translation", Spot::Lens, message).of_field(Some(&field)).help(help)
    });
    broken.chain(untranslatable).map(|flaw| flaw.about(side, None)).collect()
}
