//! `sync-bridge conflicts list`, and the console's list.

use crate::config::{CustomerId, EntityId};
use crate::stages::{ConflictEntry, Data};

/// The newest entries of a customer, of all entities or of one, the newest first.
///
/// # Errors
/// A database that does not answer, or a mapping that does not fit it.
pub async fn conflicts(
    data: &Data,
    customer: &CustomerId,
    entity: Option<&EntityId>,
    state: Option<&str>,
    limit: i64,
) -> anyhow::Result<Vec<ConflictEntry>> {
    let mut entries = Vec::new();
    for id in data.config.entities().map(|entity| &entity.id).filter(|id| entity.is_none_or(|one| one == *id)) {
        entries.extend(data.conflicts(customer, id, None, state, limit).await?);
    }
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.decided_at, entry.id)));
    entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(entries)
}
