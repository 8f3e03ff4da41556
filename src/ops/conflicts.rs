//! `sync-bridge conflicts list`, and the console's list.

use futures::{FutureExt as _, StreamExt as _, stream};

use crate::config::{CustomerId, EntityId};
use crate::stages::{ConflictEntry, Data};
use crate::told::told;

/// Entities that are asked at the same time.
const ASKED_AT_ONCE: usize = 4;

/// What there is of a customer.
#[derive(Debug, Default)]
pub struct Conflicts {
    /// The newest first.
    pub entries: Vec<ConflictEntry>,
    /// Entities whose log cannot be read now, and why: somebody changed their tables or holds them locked, their database is away.
    pub unread: Vec<(EntityId, String)>,
}

impl Conflicts {
    /// What is missing, in words; `None` if nothing is.
    pub fn missing(&self) -> Option<String> {
        let lines: Vec<String> = self.unread.iter().map(|(entity, why)| format!("of {entity}: {why}")).collect();
        (!lines.is_empty()).then(|| format!("not all conflicts could be read:\n{}", lines.join("\n")))
    }
}

/// The newest entries of a customer, of all entities or of one. One entity that cannot be read does not hide those of the others.
///
/// # Errors
/// The one entity that is named cannot be read, or none of them.
pub async fn conflicts(
    data: &Data,
    customer: &CustomerId,
    entity: Option<&EntityId>,
    state: Option<&str>,
    limit: i64,
) -> anyhow::Result<Conflicts> {
    let mut asked = Vec::new();
    for id in data.config.entities().map(|entity| &entity.id).filter(|id| entity.is_none_or(|one| one == *id)) {
        asked.push(async move { (id, data.conflicts(customer, id, None, state, limit).await) }.boxed());
    }
    let read: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
    let none = read.iter().all(|(_, read)| read.is_err());
    let (mut entries, mut unread) = (Vec::new(), Vec::new());
    for (id, read) in read {
        match read {
            Ok(read) => entries.extend(read),
            Err(error) if none => return Err(error),
            Err(error) => unread.push((id.clone(), told(&error))),
        }
    }
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.noticed_at, entry.id)));
    entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Conflicts { entries, unread })
}
