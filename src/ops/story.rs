//! The story of a record, and what would become of it, in the words that command line and console share.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::notes::TIME;
use super::preview::{PreviewOfRow, PreviewRow};
use super::{Explained, GoneShown, Look, PageOwning, ParkedShown};
use crate::config::{EntityId, Side};
use crate::mapping::told_key;
use crate::stages::{ConflictField, Foreseen, ForeseenField, ForeseenKind, Key, ParkedReason, RecordValue};
use crate::told::{counted, duration, plain};

/// What is known of a record, and in words what runs do with it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RecordTold<'e> {
    #[serde(flatten)]
    explained: &'e Explained,
    /// What keeps it back, and what makes runs look at it.
    story: Vec<String>,
    /// What a run that looks at it would do, with what it waits for first; empty: nothing.
    next: Vec<String>,
}

impl Explained {
    /// For a program.
    pub fn told(&self, slug: &str, values: bool) -> RecordTold<'_> {
        let story = [self.of_pair(), self.story(slug)].concat();
        RecordTold { explained: self, story, next: self.next_told(values) }
    }

    /// Leaves values out: they are the customer's data.
    pub fn hide(&mut self) {
        for field in &mut self.look.record.fields {
            for value in [&mut field.legacy, &mut field.platform] {
                if let RecordValue::Value { text } = value {
                    "•••".clone_into(text);
                }
            }
        }
        self.conflicts.iter_mut().flat_map(|entry| &mut entry.fields).for_each(ConflictField::hide);
    }

    /// What the ledger knows of the pair.
    pub fn of_pair(&self) -> Vec<String> {
        let Some(pair) = &self.look.record.pair else { return vec!["It was never paired.".into()] };
        let gone = if pair.gone { "; it is gone on both sides, or was marked as deleted" } else { "" };
        let mut told = vec![format!("The pair's revision is {}, its generation {}{gone}.", pair.rev, pair.generation)];
        told.extend(
            pair.announced_secs
                .map(|secs| format!("A write to legacy was announced {} ago, and is not settled.", duration(secs))),
        );
        told
    }

    /// What keeps it back, and what makes runs look at it; commands stand between backticks.
    pub fn story(&self, slug: &str) -> Vec<String> {
        let Explained { look, quarantined, conflicts, .. } = self;
        let record = &look.record;
        let mut text: Vec<String> = look.parked.iter().map(waiting).collect();
        for row in quarantined {
            let field = row.field.as_deref().map(|field| format!("{field}: ")).unwrap_or_default();
            let what = match look.gone.as_ref().is_some_and(|gone| gone.side.as_str() == row.side) {
                true => format!("That its {} row is gone cannot be carried over ({})", row.side, row.id),
                false => format!("Its {} row is quarantined ({})", row.side, row.id),
            };
            text.push(format!("{what}: {field}{}", plain(&row.reason)));
        }
        for entry in conflicts {
            let names: Vec<&str> =
                entry.fields.iter().map(|field| field.field.as_deref().unwrap_or("the record")).collect();
            text.push(format!(
                "Conflict {}:{} at {}: {}, {}.",
                entry.entity,
                entry.id,
                time(entry.noticed_at),
                names.join(", "),
                entry.state
            ));
        }
        text.extend(look.paused.iter().map(|paused| {
            let kept_back = match paused.direction {
                None => "Nothing of it flows",
                Some("to-legacy") => "Nothing is written to legacy",
                Some(_) => "Nothing is written to the platform",
            };
            let why = paused.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            plain(&format!("{kept_back}: paused by {}{why}.", paused.who))
        }));
        text.extend(look.away.iter().map(|away| format!("{}.", plain(&away.to_string()))));
        text.extend(look.pages.iter().map(owning));
        text.extend(look.gone.as_ref().map(|gone| missing(gone, look.stands_still, !quarantined.is_empty())));
        if record.legacy.is_none() && record.platform.is_none() && record.pair.as_ref().is_some_and(|pair| !pair.gone) {
            text.push("No row of it is there any more, which a run notes that looks for rows that are gone.".into());
        }
        text.push(ahead(self, slug));
        text
    }

    /// What a run that looks at it would do, a text for each record.
    pub fn next_told(&self, values: bool) -> Vec<String> {
        self.next.iter().map(|row| row.told(values)).collect()
    }

    /// Why that may not come true.
    pub fn unsure(&self) -> Vec<String> {
        let waits = self.unsure.as_ref().map(|why| format!("What it waits for: {}.", plain(why)));
        let writes = self.next.iter().any(|row| match &row.what {
            PreviewOfRow::Acted(acted) => {
                matches!(acted.kind, ForeseenKind::Create | ForeseenKind::Update | ForeseenKind::Delete)
            }
            PreviewOfRow::Parked { .. } | PreviewOfRow::Quarantined { .. } => false,
        });
        let refused = writes.then(|| "Whether a constraint or a trigger refuses that is not foreseen.".to_owned());
        waits.into_iter().chain(refused).collect()
    }
}

impl PreviewRow {
    /// What would become of it: a line, and one for each field that is written, further in.
    pub fn told(&self, values: bool) -> String {
        let entity = &self.entity;
        match &self.what {
            PreviewOfRow::Acted(acted) => acted_shown(entity, acted, values),
            PreviewOfRow::Parked { side, key, reason } => {
                let why = match reason {
                    ParkedReason::Parent { entity, side, key } => {
                        format!("waits for {entity} {} of {side}", key_shown(Some(key)))
                    }
                    ParkedReason::Busy => "it is being written by others".into(),
                    ParkedReason::Paused { toward } => format!("{toward} is paused"),
                };
                format!("{entity} {} of {side}: parked: {why}", key_shown(Some(key)))
            }
            PreviewOfRow::Quarantined { side, key, field, reason } => {
                let field = field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
                format!("{entity} {} of {side}: quarantined: {field}{}", key_shown(Some(key)), plain(reason))
            }
        }
    }
}

fn acted_shown(entity: &EntityId, acted: &Foreseen, values: bool) -> String {
    let what = match acted.kind {
        ForeseenKind::Create => "create",
        ForeseenKind::Update => "update",
        ForeseenKind::Delete => "delete",
        ForeseenKind::Conflict => "conflict",
        ForeseenKind::Listed => "conflict for a person",
        _ => "recorded",
    };
    let adopted = if acted.adopted { ", paired by its natural key" } else { "" };
    let keys = format!("{} = {}", key_shown(acted.legacy_key.as_ref()), key_shown(acted.platform_key.as_ref()));
    let mut text = format!("{entity} {keys}: {what}{adopted}");
    for field in &acted.fields {
        text.push_str(&format!("\n    {}", plain(&field_shown(field, values))));
    }
    text
}

/// `name: to platform: "Ada" -> "Ada L."`, or `phone: to legacy: platform wins by newest (newer): legacy "1", platform "2"`
fn field_shown(field: &ForeseenField, values: bool) -> String {
    let shown = |value: Option<&str>| value.map_or_else(|| "null".to_owned(), |value| format!("{value:?}"));
    let mut parts = vec![field.field.as_deref().unwrap_or("the record").to_owned()];
    parts.extend(field.toward.map(|side: Side| format!("to {side}")));
    if let Some(conflict) = &field.conflict {
        let who = conflict.winner.map_or_else(|| "nobody wins yet".to_owned(), |side| format!("{side} wins"));
        let by = conflict.policy.as_ref().map(|policy| format!(" by {policy}")).unwrap_or_default();
        parts.push(format!("{who}{by} ({})", conflict.why));
        if values && field.field.is_some() {
            parts.push(format!(
                "legacy {}, platform {}",
                shown(conflict.legacy.as_deref()),
                shown(conflict.platform.as_deref())
            ));
        }
    } else if let (true, Some(after)) = (values, &field.after) {
        let before =
            field.before.as_ref().map(|before| format!("{} -> ", shown(before.as_deref()))).unwrap_or_default();
        parts.push(format!("{before}{}", shown(after.as_deref())));
    }
    parts.join(": ")
}

fn key_shown(key: Option<&Key>) -> String {
    key.map_or_else(|| "new".into(), |key| plain(&told_key(&key.listed())))
}

/// Dead letters in whose ranges it lies.
fn letters(look: &Look) -> impl Iterator<Item = i64> {
    let letters: BTreeSet<i64> = look.pages.iter().filter_map(|page| page.letter).collect();
    letters.into_iter()
}

/// A page that it lies in, and why that has not come through.
fn owning(page: &PageOwning) -> String {
    let PageOwning { side, letter, run, since, attempts, error, next_at } = page;
    let time = |at: Option<DateTime<Utc>>| at.map_or_else(|| "-".into(), self::time);
    let error = error.as_deref().map(plain).unwrap_or_default();
    match (letter, run) {
        (Some(letter), _) => {
            format!("Its {side} row lies in a page that is dead letter {letter} since {}: {error}.", time(*since))
        }
        (None, Some(run)) if !error.is_empty() => {
            let next = next_at.map_or_else(String::new, |at| format!(", and again at {}", time(Some(at))));
            let times = counted(attempts.unwrap_or_default(), "time");
            format!(
                "Its {side} row lies in a page of run {run}, which is tried again: {times} since {}{next}: {error}.",
                time(*since)
            )
        }
        (None, Some(run)) => format!("Its {side} row lies in a page of run {run}, which is under way."),
        (None, None) => format!("Its {side} row lies in a page that waits for the next run."),
    }
}

fn waiting(row: &ParkedShown) -> String {
    let since = time(row.since);
    let side = row.waits_side.as_deref().unwrap_or("-");
    let (why, over) = match (row.reason.as_str(), &row.waits_entity, &row.waits_key) {
        ("parent", Some(entity), Some(key)) => {
            (format!("waits since {since} for {entity} {} of {side}", told_key(key)), "that is there")
        }
        ("paused", ..) => (format!("waits since {since}, as {side} was not to be written"), "that is over"),
        _ => (format!("is to be looked at again since {since}: it was asked for, or others were writing it"), ""),
    };
    let due = match (row.due, over) {
        (false, _) | (true, "") => String::new(),
        (true, over) => format!("; {over}, so the next run looks again"),
    };
    format!("Its {} row {}{due}.", row.side, plain(&why))
}

/// What becomes of a record of which one row is missing.
fn missing(gone: &GoneShown, stands_still: bool, is_refused: bool) -> String {
    let GoneShown { side, seen_secs, every_secs, after_secs, follows, due } = gone;
    let [every, after] = [every_secs, after_secs].map(|secs| duration(*secs));
    let seen = seen_secs.map_or_else(
        || "which no run has seen yet".to_owned(),
        |secs| format!("as a run saw {} ago for the first time", duration(secs)),
    );
    match (follows, due) {
        (false, _) => format!(
            "Its {side} row is gone. The other one stays, as `deletes` says; an edit of it brings the record back."
        ),
        (true, _) if stands_still => format!("Its {side} row is gone, {seen}. The other one stays while it is paused."),
        (true, _) if is_refused => format!(
            "Its {side} row is gone, {seen}, and the other one was refused to go. Runs look for such rows every {every}, and try again."
        ),
        (true, true) => {
            format!("Its {side} row is gone, {seen}: unless too many rows are gone at once, the other one follows now.")
        }
        (true, false) => format!(
            "Its {side} row is gone, {seen}. Runs look for such rows every {every}; once two looks that lie {after} apart have seen it, the other one follows."
        ),
    }
}

/// Whether runs look at it, and what makes them.
fn ahead(explained: &Explained, slug: &str) -> String {
    let Explained { look, quarantined, conflicts, next, .. } = explained;
    let would = if quarantined.is_empty() { "would do this" } else { "would try this" };
    let open = conflicts.iter().find(|entry| entry.state == "open").map(|entry| {
        let name = format!("{}:{}", entry.entity, entry.id);
        format!(
            " A person is to decide: `sync-bridge conflicts resolve {name} --customer {slug} --winner legacy|platform`."
        )
    });
    if look.due {
        return match next.is_empty() {
            true => format!("The next run looks at it, and has nothing to do.{}", open.unwrap_or_default()),
            false if open.is_none() => format!("The next run {would}:"),
            false => format!("The next run looks at it.{} The run {would}:", open.unwrap_or_default()),
        };
    }
    let mut until = Vec::new();
    if look.stands_still {
        until.push("it is paused no more".to_owned());
    } else if look.gone.as_ref().is_some_and(|gone| gone.follows) {
        return format!("That {would}:");
    } else {
        until.push("it changes".into());
        until.extend(look.joins.then(|| "something else opens a run".into()));
        // Any of them is enough.
        let letters: Vec<String> = letters(look).map(|letter| letter.to_string()).collect();
        let is_owned = !letters.is_empty();
        until.extend(is_owned.then(|| format!("`sync-bridge dead-letters requeue {}`", letters.join(" "))));
        until.extend(quarantined.iter().map(|row| format!("`sync-bridge quarantine retry {}`", row.id)));
        if look.parked.iter().any(|row| row.reason == "parent") {
            until.push("what it waits for is there".into());
        }
        if look.parked.iter().any(|row| row.reason == "paused") {
            until.push("the pause ends".into());
        }
        // It leaves to a dead letter what that owns.
        if !next.is_empty() && !is_owned {
            until.push(
                if look.compared_next { "the comparison that is due meets it" } else { "a sweep meets it" }.into(),
            );
        }
    }
    let until = until.join(", or ");
    match next.is_empty() {
        true if open.is_none() => format!("No run looks at it before {until}, and there is nothing to do."),
        true => format!("No run looks at it before {until}.{}", open.unwrap_or_default()),
        false => format!("No run looks at it before {until}.{} One that did {would}:", open.unwrap_or_default()),
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.format(TIME).to_string()
}
