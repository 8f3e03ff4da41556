//! What is said of a customer that waits, is kept back or was stopped, and what to do: in the same words by `status`, `plan` and the console.

use schemars::JsonSchema;
use serde::Serialize;

use super::{CustomerStatus, MappingStanding, Paused, Retried};
use crate::told::counted;

/// How times are told.
pub(super) const TIME: &str = "%Y-%m-%d %H:%M:%SZ";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Note {
    pub about: About,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// What the queue database keeps of the customer cannot be read here.
    Unreadable,
    /// Nobody makes its ticks.
    NoTick,
    /// Nobody takes its jobs.
    NoWorker,
    Pause,
    /// A database does not answer.
    Away,
    /// Somebody holds a table locked, or an open transaction holds the horizon.
    Held,
    /// What failed and is tried again.
    Retried,
    /// Pages that nobody looks at before somebody acts.
    DeadLetters,
    /// Rows that cannot be written as they are.
    Quarantine,
    /// Those that a person is to decide.
    Conflicts,
    /// What comparisons of whole tables found.
    Differences,
    OpenRun,
    Load,
    LoadWindow,
    Debt,
    Sweep,
    /// Too many rows are gone.
    Deletes,
    /// The mapping was changed.
    Mapping,
}

impl Note {
    pub(super) fn new(about: About, text: String) -> Note {
        Note { about, entity: None, text }
    }

    pub(super) fn of(about: About, entity: Option<&str>, text: String) -> Note {
        Note { about, entity: entity.map(str::to_owned), text }
    }
}

/// What a person is to look at in a customer, the most urgent first; nothing of what gets done by itself in the next seconds.
pub(super) fn of_customer(status: &CustomerStatus) -> Vec<Note> {
    let slug = &status.slug;
    if status.state == "disabled" {
        return status.paused.iter().map(|pause| paused(slug, pause, &status.paused)).collect();
    }
    let mut notes = Vec::new();
    let mut note = |about, text| notes.push(Note::new(about, text));
    if let Some(problem) = &status.problem {
        let then = format!(
            "put it right, and keep it again: `sync-bridge customers export --customer {slug}`, `customers apply`"
        );
        note(
            About::Unreadable,
            format!("nobody works for it here, as what is kept of it cannot be read: {problem}; {then}"),
        );
    }
    match status.state.as_str() {
        "no tick" => {
            let since = status.last_tick_at.map_or_else(String::new, |at| format!(" since {}", at.format(TIME)));
            let then = "start `sync-bridge-scheduler`, or look at its log and `/readyz`";
            note(About::NoTick, format!("no tick was made{since}, though one was due: {then}"));
        }
        "waiting for a worker" => {
            let then = "start `sync-bridge-worker`, or look at its log and `/readyz`";
            note(About::NoWorker, format!("work of it is due, and nobody takes it: {then}"));
        }
        _ => {}
    }
    for away in &status.away {
        note(About::Away, away.to_string());
    }
    if status.dead_letters > 0 {
        let letters = waiting(status.dead_letters, "dead letter");
        note(
            About::DeadLetters,
            format!("{letters} for a person: see `sync-bridge dead-letters list --customer {slug}`"),
        );
    }
    notes.extend(status.paused.iter().map(|pause| paused(slug, pause, &status.paused)));
    notes.extend(held(status));
    let waiting = status.mappings.iter().filter(|mapping| mapping.state == "waiting");
    notes.extend(waiting.map(|MappingStanding { entity, rows_read, rows_different, .. }| {
        mapping(slug, entity, (rows_different.unsigned_abs(), rows_read.unsigned_abs()), true)
    }));
    notes.extend(listed(&format!("--customer {slug}"), status.quarantined, status.conflicts, status.differences));
    notes.extend(status.retried.as_ref().map(retried));
    notes
}

/// Each lock and each holder once, whatever it keeps back.
fn held(status: &CustomerStatus) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    for mark in &status.watermarks {
        let (entity, side) = (&mark.entity, &mark.side);
        let text = match (mark.locked_since, &mark.held_by) {
            (Some(since), _) => format!(
                "somebody has held a table of {entity} locked since {}: `sync-bridge plan --customer {}` names it, and how to find who",
                since.format(TIME),
                status.slug
            ),
            (None, Some(by)) => {
                format!(
                    "an open transaction keeps changes on {side} from being read ({by}): docs/OPERATIONS.md, \u{201c}The horizon is held\u{201d}"
                )
            }
            (None, None) => continue,
        };
        if notes.iter().all(|known| known.text != text) {
            notes.push(Note::new(About::Held, text));
        }
    }
    notes
}

/// Of one that a person paused also how it ends; of the bridge's own the reason says what to do. With it `all` that is paused of the customer.
pub(super) fn paused(slug: &str, pause: &Paused, all: &[Paused]) -> Note {
    let is_of_it = |other: &&Paused| other.entity.is_none() || other.entity == pause.entity;
    let both_ways =
        all.iter().filter(is_of_it).any(|other| other.direction.is_some() && other.direction != pause.direction);
    let what = match pause.direction {
        None => "nothing of it is done".to_owned(),
        Some(direction) if both_ways => {
            format!("nothing is written {}, nor the other way: nothing of it is done", direction.replace('-', " "))
        }
        Some(direction) => format!("nothing is written {}: what would be is parked", direction.replace('-', " ")),
    };
    let reason = pause.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let until = match pause.is_own() {
        true if pause.halted => "; it ends by itself once the tables fit".to_owned(),
        true => String::new(),
        false => format!(", until `{}`", pause.resumed_by(slug)),
    };
    let text = format!("paused by {} since {}{reason}: {what}{until}", pause.who, pause.since.format(TIME));
    Note::of(About::Pause, pause.entity.as_deref(), text)
}

/// What failed and goes on by itself.
pub(super) fn retried(Retried { jobs, next_at, error }: &Retried) -> Note {
    let (jobs, next) = (counted(*jobs, "job"), next_at.format(TIME));
    Note::new(About::Retried, format!("{jobs} failed and will be tried again, the next at {next}: {error}"))
}

/// A mapping that was changed, and the rows that are not decided yet.
pub(super) fn mapping(slug: &str, entity: &str, (different, read): (u64, u64), waits: bool) -> Note {
    let then = match waits {
        true => format!("they wait for `sync-bridge run --customer {slug} --accept-mapping`, and all else flows"),
        false => "once all are counted, `first_contact` decides about them".to_owned(),
    };
    let text = format!(
        "the mapping changed: {different} of {read} rows differ in what was never compared as it is mapped now: {then}"
    );
    Note::of(About::Mapping, Some(entity), text)
}

/// What is listed for a person, which no run changes by itself; `which` are the arguments that name the customer, and the entity if only one is
/// asked for.
pub(super) fn listed(which: &str, quarantined: i64, conflicts: i64, differences: i64) -> Vec<Note> {
    let notes = [
        (
            About::Quarantine,
            quarantined,
            format!(
                "{} cannot be written as {}: mend what refuses {}, then `sync-bridge quarantine retry`: see `sync-bridge quarantine list {which}`",
                counted(quarantined, "row"),
                if quarantined == 1 { "it is" } else { "they are" },
                if quarantined == 1 { "it" } else { "them" }
            ),
        ),
        (
            About::Conflicts,
            conflicts,
            format!(
                "{} for a person: see `sync-bridge conflicts list {which} --state open`",
                waiting(conflicts, "conflict")
            ),
        ),
        (
            About::Differences,
            differences,
            format!(
                "{} differed when whole tables were compared last: see `sync-bridge verify {which}`",
                counted(differences, "pair")
            ),
        ),
    ];
    let there = notes.into_iter().filter(|(_, count, _)| *count > 0);
    there.map(|(about, _, text)| Note::new(about, text)).collect()
}

/// `1 conflict waits`, `2 conflicts wait`.
pub(super) fn waiting(count: i64, what: &str) -> String {
    format!("{} wait{}", counted(count, what), if count == 1 { "s" } else { "" })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn what_is_paused_both_ways_stands_still_and_is_not_said_to_be_parked() {
        let pause = |entity: Option<&str>, direction: Option<&'static str>| Paused {
            entity: entity.map(str::to_owned),
            direction,
            who: "ann".into(),
            reason: None,
            since: DateTime::UNIX_EPOCH,
            halted: false,
        };
        let (all, seat) = (pause(None, Some("to-legacy")), pause(Some("seat"), Some("to-platform")));
        let text = |one: &Paused, all: &[Paused]| paused("acme", one, all).text;
        let both = [all.clone(), seat.clone()];
        assert!(text(&seat, &both).contains("nothing of it is done"));
        for parked in [text(&all, &both), text(&all, &both[..1]), text(&seat, &both[1..])] {
            assert!(parked.contains("what would be is parked"), "{parked}");
        }
    }
}
