//! Every event and service check there is, for a timeline in Datadog. Owns: names, tones and meanings. Never: a value of a row.

use super::dogstatsd::{self, Message};
use super::metrics::Tag;

/// How an event is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A person has to act.
    Error,
    Warning,
    /// What was wrong is over.
    Success,
}

/// One event as declared.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// The value of its tag `event`.
    pub name: &'static str,
    pub tone: Tone,
    /// Its title.
    pub title: &'static str,
    /// The section of `docs/OPERATIONS.md` that says what to do.
    pub section: &'static str,
}

macro_rules! events {
    ($($id:ident = $tone:ident, $name:literal, $title:literal, $section:literal;)*) => {
        $(pub const $id: Event = Event { name: $name, tone: Tone::$tone, title: $title, section: $section };)*

        /// All of them, in the order of this file.
        pub const ALL: &[&Event] = &[$(&$id),*];
    };
}

events! {
    RUN_DEGRADED = Warning, "run_degraded", "a run ended degraded", "dead-letters";
    DEAD_LETTER = Error, "dead_letter", "a dead letter", "dead-letters";
    DATABASE_AWAY = Error, "database_away", "a database does not answer", "a-side-is-down";
    DATABASE_BACK = Success, "database_back", "a database answers again", "a-side-is-down";
    DELETES_HELD = Error, "deletes_held", "too many rows are gone: none of their counterparts was deleted", "rows-that-are-gone";
    TABLES_CHANGED = Error, "tables_changed", "an entity is halted: its tables do not fit its mapping", "tables-that-do-not-fit";
    SIDE_RESTORED = Error, "side_restored", "a customer is paused: a database was brought back from a backup", "a-side-was-brought-back";
}

/// The service check of each database that work needs: critical while it does not answer.
pub const CAN_CONNECT: &str = "sync_bridge.can_connect";

/// Tells the agent; nothing without one.
pub fn tell(event: &'static Event, tags: &[Tag<'_>], text: &str) {
    if dogstatsd::is_open() {
        let text = format!("{text}\n\nWhat to do: docs/OPERATIONS.md#{}", event.section);
        dogstatsd::hand_over(Message::Event { event, text, tags: dogstatsd::tags(tags) });
    }
}

/// Tells whether a database answers.
pub fn can_connect(database: &str, answers: bool) {
    if dogstatsd::is_open() {
        dogstatsd::hand_over(Message::Check {
            name: CAN_CONNECT,
            is_well: answers,
            tags: dogstatsd::tags(&[("database", database)]),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_event() {
        let document = include_str!("../../docs/TELEMETRY.md");
        for event in ALL {
            let row = format!("| `{}` | {:?} | {} |", event.name, event.tone, event.title).to_lowercase();
            assert!(document.to_lowercase().contains(&row), "docs/TELEMETRY.md lacks: {row}");
        }
        assert!(document.contains(CAN_CONNECT));
    }
}
