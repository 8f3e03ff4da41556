//! `sync-bridge conflicts`

use std::path::Path;
use std::str::FromStr;

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;
use sync_bridge::config::{Config, Customer, CustomerId, EntityId};
use sync_bridge::ops::{self, Action, By};
use sync_bridge::sides::Permanent;
use sync_bridge::stages::{ConflictEntry, ConflictField, Data};
use sync_bridge::startup::{self, Bridge, Embedded, Sides, refused};
use sync_bridge::told::told;

use crate::out;

const ACTED_SHOWN: u32 = 20;

const EXAMPLES: &str = "\
Examples:
  sync-bridge conflicts list --customer acme --state open
  sync-bridge conflicts show user:12 --customer acme --show-values
  sync-bridge conflicts resolve user:12 --customer acme --winner legacy
  sync-bridge conflicts undo user:12 --customer acme --reason 'she asked for it'

JSON of `list` and `show`: conflict, customer, state, kind, legacy_key, platform_key, noticed_at, legacy_stamp, platform_stamp,
  clock_difference_secs, fields (field, winner, policy, why; legacy and platform with --show-values); of `show` also acted: what people decided
  about it, the latest first (at, who, action, reason, outcome), null if the queue database does not answer; of the others: conflict, state

Exit codes: 0 done; 1 failed, or not all could be read (what could be is shown); 2 refused: there is no such conflict, or nothing of it is to be decided, too";

/// What both sides changed: see who won, decide what waits for a person, bring a loser back
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the newest conflicts
    #[command(after_help = "\
Examples:
  sync-bridge conflicts list --customer acme --state open
  sync-bridge conflicts list --customer acme --entity user --json | jq '.[].conflict'")]
    List {
        #[command(flatten)]
        of: Of,
        /// Only those of this entity
        #[arg(long, value_name = "ENTITY")]
        entity: Option<String>,
        #[arg(long)]
        state: Option<State>,
        /// How many at most
        #[arg(long, default_value_t = 50, allow_negative_numbers = true, value_parser = out::limit(1, out::LISTED_MAX))]
        limit: u32,
        #[command(flatten)]
        values: Values,
    },
    /// Show one conflict, with what people decided about it
    #[command(after_help = "\
Examples:
  sync-bridge conflicts show user:12 --customer acme --show-values")]
    Show {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        values: Values,
    },
    /// Bring the loser of a conflict back, on both sides, if both still hold what won; whoever decided it, a policy or a person
    #[command(after_help = "\
Examples:
  sync-bridge conflicts undo user:12 --customer acme --reason 'she asked for it'")]
    Undo {
        #[command(flatten)]
        one: One,
        /// Why; kept with what was done
        #[arg(long, default_value = out::NO_REASON, hide_default_value = true, value_parser = out::reason)]
        reason: String,
    },
    /// Decide a conflict that waits for a person: the winner's values go to the other side, now
    #[command(after_help = "\
Examples:
  sync-bridge conflicts resolve user:12 --customer acme --winner legacy --reason 'she moved'")]
    Resolve {
        #[command(flatten)]
        one: One,
        /// Whose values count
        #[arg(long, value_enum)]
        winner: out::OfSide,
        /// Why; kept with what was done
        #[arg(long, default_value = out::NO_REASON, hide_default_value = true, value_parser = out::reason)]
        reason: String,
    },
}

#[derive(clap::Args)]
struct Of {
    /// The customer, by id or slug
    #[arg(long)]
    customer: String,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct One {
    /// The conflict, as `list` names it
    #[arg(value_name = "ENTITY:ID")]
    conflict: Name,
    #[command(flatten)]
    of: Of,
}

#[derive(clap::Args)]
struct Values {
    /// Show the values of both sides too: they are the customer's data
    #[arg(long)]
    show_values: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    /// By a policy
    Decided,
    /// Waits for a person
    Open,
    /// By a person
    Resolved,
    /// The loser was brought back
    Undone,
    /// Waited for a person; edits changed what it was about
    Superseded,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Decided => "decided",
            State::Open => "open",
            State::Resolved => "resolved",
            State::Undone => "undone",
            State::Superseded => "superseded",
        }
    }
}

/// `ENTITY:ID`; ids of two entities may be the same, for their logs may lie in two databases.
#[derive(Debug, Clone, PartialEq)]
struct Name {
    entity: String,
    id: i64,
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        let parts = text.rsplit_once(':').filter(|(entity, _)| !entity.is_empty());
        let name = parts.and_then(|(entity, id)| Some(Name { entity: entity.to_owned(), id: id.parse().ok()? }));
        name.ok_or_else(|| "a conflict is named ENTITY:ID, like user:12".to_owned())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.entity, self.id)
    }
}

/// A conflict as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    conflict: String,
    customer: &'a str,
    state: &'a str,
    kind: &'a str,
    legacy_key: Option<&'a str>,
    platform_key: &'a str,
    noticed_at: DateTime<Utc>,
    legacy_stamp: Option<DateTime<Utc>>,
    platform_stamp: Option<DateTime<Utc>>,
    clock_difference_secs: Option<f64>,
    fields: &'a [ConflictField],
}

#[derive(Serialize)]
struct ShownOne<'a> {
    #[serde(flatten)]
    shown: Shown<'a>,
    acted: Option<&'a Vec<Action>>,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let config = startup::load(config).await?;
    let (of, entity) = match &args.verb {
        Verb::List { of, entity, .. } => (of, entity.as_deref()),
        Verb::Show { one, .. } | Verb::Undo { one, .. } | Verb::Resolve { one, .. } => {
            (&one.of, Some(one.conflict.entity.as_str()))
        }
    };
    let customer = out::customer(&config, &of.customer)?.id.clone();
    let entity = entity.map(|named| out::entity(&config, named)).transpose()?.cloned();
    let (one, winner, reason) = match args.verb {
        Verb::Undo { one, reason } => (one, None, reason),
        Verb::Resolve { one, winner, reason } => (one, Some(winner.side()), reason),
        Verb::Show { one, values } => return show_one(config, &customer, &one, &values).await,
        Verb::List { .. } => return look(config, &customer, entity.as_ref(), args.verb).await,
    };
    // What is decided is noted, so that this needs the queue database too.
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let decided = async {
        bridge.must_be_migrated().await?;
        let of = bridge.config.customer(&customer).ok_or_else(|| anyhow!("no customer {customer}"))?;
        startup::check_entity(&bridge.data, of, &EntityId::new(one.conflict.entity.as_str())).await?;
        let ConflictEntry { entity, id, .. } = find(&bridge.data, of, &one.conflict).await?;
        let entity = EntityId::new(entity.as_str());
        let by = By { who: &out::who(), reason: &reason };
        ops::decide_conflict(&bridge.queue, &bridge.data, (&customer, &entity, id), winner, by).await
    };
    let decided = decided.await;
    bridge.close().await?;
    // Repeating it would be refused as well.
    decided.map_err(|error| if error.is::<Permanent>() { refused(error) } else { error })?;
    say_done(&one, if winner.is_some() { State::Resolved } else { State::Undone })
}

async fn look(config: Config, customer: &CustomerId, entity: Option<&EntityId>, verb: Verb) -> anyhow::Result<()> {
    let sides = Sides::open(config).await?;
    let done = match sides.config.customer(customer) {
        Some(customer) => show_those(&sides, customer, entity, verb).await,
        None => Err(anyhow!("no customer {customer}")),
    };
    sides.close().await?;
    done
}

async fn show_those(sides: &Sides, customer: &Customer, entity: Option<&EntityId>, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::List { of, state, limit, values, .. } => {
            let found = ops::conflicts(&sides.data, &customer.id, entity, state.map(State::as_str), limit.into()).await;
            let mut found = found.map_err(|error| unread(customer, error))?;
            found.entries.iter_mut().for_each(|entry| hide(entry, &values));
            let shown: Vec<Shown<'_>> = found.entries.iter().map(|entry| show(customer, entry)).collect();
            if of.json {
                out::say_json(&shown)?
            } else {
                out::say(&table(&shown))?
            }
            found.missing().map_or(Ok(()), |missing| Err(anyhow!(missing)))
        }
        _ => unreachable!("of the others none is a list"),
    }
}

/// One needs its sides alone; what people decided about it lies in the queue database.
async fn show_one(config: Config, customer: &CustomerId, one: &One, values: &Values) -> anyhow::Result<()> {
    match Bridge::open(config.clone(), Embedded::MustExist).await {
        Ok(bridge) => {
            let done = say_one(&bridge.data, customer, one, values, Ok(&bridge.queue)).await;
            bridge.close().await?;
            done
        }
        Err(error) => {
            let sides = Sides::open(config).await?;
            let done = say_one(&sides.data, customer, one, values, Err(error)).await;
            sides.close().await?;
            done
        }
    }
}

async fn say_one(
    data: &Data,
    customer: &CustomerId,
    one: &One,
    values: &Values,
    queue: anyhow::Result<&PgPool>,
) -> anyhow::Result<()> {
    let of = data.config.customer(customer).ok_or_else(|| anyhow!("no customer {customer}"))?;
    let mut entry = find(data, of, &one.conflict).await?;
    hide(&mut entry, values);
    let acted = match queue {
        Ok(queue) => ops::actions_about(queue, customer, &entry.name(), ACTED_SHOWN).await,
        Err(error) => Err(error),
    };
    let shown = show(of, &entry);
    if one.of.json {
        out::say_json(&ShownOne { shown, acted: acted.as_ref().ok() })?;
    } else {
        let decided =
            acted.as_ref().ok().filter(|acted| !acted.is_empty()).map(|acted| format!("\n\n{}", decided(acted)));
        out::say(&format!("{}{}", page(&shown), decided.unwrap_or_default()))?;
    }
    // What there is was shown: that this is not all is no refusal.
    acted.map(drop).map_err(|error| anyhow!("who decided what cannot be read: {}", told(&error)))
}

/// What people decided about it, the latest first.
fn decided(acted: &[Action]) -> String {
    let mut table = out::table(&["decided", "by", "what", "why", "outcome"]);
    for action in acted {
        table.add_row(vec![
            out::time(Some(action.at)),
            out::text(&action.who),
            out::text(&action.action),
            out::why(action.reason.as_deref()),
            out::text(action.outcome.as_deref().unwrap_or("not known")),
        ]);
    }
    table.to_string()
}

async fn find(data: &Data, customer: &Customer, name: &Name) -> anyhow::Result<ConflictEntry> {
    let entity = EntityId::new(name.entity.as_str());
    let found = data.conflicts(&customer.id, &entity, Some(name.id), None, 1).await;
    let found = found.map_err(|error| unread(customer, error))?.pop();
    found.ok_or_else(|| refused(anyhow!("customer {} has no conflict {name}: see `list`", customer.slug)))
}

/// A log that cannot be read: what nobody prepared is refused, what is away may be asked for later.
fn unread(customer: &Customer, error: anyhow::Error) -> anyhow::Error {
    let is_permanent = error.is::<Permanent>();
    let error = error.context(format!("customer {}", customer.slug));
    if is_permanent { refused(error) } else { error }
}

fn say_done(one: &One, state: State) -> anyhow::Result<()> {
    let (name, state) = (one.conflict.to_string(), state.as_str());
    if one.of.json {
        out::say_json(&json!({ "conflict": name, "state": state }))
    } else {
        out::say(&format!("{name} is {state}"))
    }
}

fn hide(entry: &mut ConflictEntry, values: &Values) {
    if !values.show_values {
        entry.fields.iter_mut().for_each(ConflictField::hide);
    }
}

fn show<'a>(customer: &'a Customer, entry: &'a ConflictEntry) -> Shown<'a> {
    Shown {
        conflict: entry.name(),
        customer: customer.id.as_str(),
        state: &entry.state,
        kind: &entry.kind,
        legacy_key: entry.legacy_key.as_deref(),
        platform_key: &entry.platform_key,
        noticed_at: entry.noticed_at,
        legacy_stamp: entry.legacy_stamp,
        platform_stamp: entry.platform_stamp,
        clock_difference_secs: entry.clock_difference_secs,
        fields: &entry.fields,
    }
}

fn table(shown: &[Shown<'_>]) -> String {
    if shown.is_empty() {
        return "no conflicts".into();
    }
    let mut table = out::table(&["conflict", "noticed", "state", "kind", "legacy key", "platform key", "fields"]);
    for one in shown {
        let fields: Vec<String> = one.fields.iter().map(line).collect();
        table.add_row(vec![
            out::text(&one.conflict),
            out::time(Some(one.noticed_at)),
            out::text(one.state),
            out::text(one.kind),
            out::text(&one.legacy_key.map_or_else(|| "-".into(), out::key)),
            out::text(&out::key(one.platform_key)),
            out::text(&fields.join("; ")),
        ]);
    }
    table.to_string()
}

/// `phone: legacy won by newest (stamps)`
fn line(field: &ConflictField) -> String {
    let name = field.field.as_deref().unwrap_or("the record");
    let who = match (field.winner, field.kept) {
        (Some(side), _) => format!("{side} won"),
        (None, Some(side)) => format!("{side}'s was kept"),
        (None, None) => "nobody yet".to_owned(),
    };
    let by = match (field.filled(), &field.policy) {
        (Some(side), _) => format!(", as {side} had no value"),
        (None, Some(policy)) => format!(" by {policy}"),
        (None, None) => String::new(),
    };
    let why = if field.why.is_empty() { String::new() } else { format!(" ({})", field.why) };
    let values = field.values().map(|values| {
        let [legacy, platform] =
            values.map(|value| value.map_or_else(|| "null".to_owned(), |value| format!("{:?}", out::value(value))));
        format!(": legacy {legacy}, platform {platform}")
    });
    format!("{name}: {who}{by}{why}{}", values.unwrap_or_default())
}

fn page(shown: &Shown<'_>) -> String {
    let mut table = out::table(&["what", "is"]);
    for (what, is) in [
        ("conflict", out::text(&shown.conflict)),
        ("state", out::text(shown.state)),
        ("kind", out::text(shown.kind)),
        ("legacy key", out::text(&shown.legacy_key.map_or_else(|| "-".into(), out::key))),
        ("platform key", out::text(&out::key(shown.platform_key))),
        ("noticed", out::time(Some(shown.noticed_at))),
        ("edited on legacy", out::time(shown.legacy_stamp)),
        ("edited on platform", out::time(shown.platform_stamp)),
        ("clocks apart at most", out::duration(shown.clock_difference_secs)),
    ] {
        table.add_row(vec![out::text(what), is]);
    }
    for field in shown.fields {
        let undone = if shown.state == "undone" { "; undone since" } else { "" };
        table.add_row(vec![out::text("field"), out::text(&format!("{}{undone}", line(field)))]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use sync_bridge::config::Side;

    use super::*;

    #[test]
    fn a_record_that_one_side_deleted_says_whose_edit_it_was_kept_for() {
        let why = "one side deleted the record, the other edited it";
        let logged = serde_json::from_value(json!({ "field": null, "kept": "platform", "why": why }));
        let logged: ConflictField = logged.expect("as it is logged");
        assert_eq!(json!(logged)["kept"], "platform", "a mark writes the fields once more");
        assert_eq!(json!(logged)["legacy"], json!(null), "a value");
        let mut shown = logged;
        shown.hide();
        assert_eq!(line(&shown), format!("the record: platform's was kept ({why})"));
        assert_eq!((json!(shown)["kept"].as_str(), json!(shown).get("legacy")), (Some("platform"), None));
    }

    #[test]
    fn a_value_that_won_over_none_is_not_said_to_have_won_by_the_other_sides_policy() {
        let logged = json!({ "field": "hired", "platform": "2020", "winner": "platform", "policy": "legacy", "why": "first_contact" });
        let mut logged: ConflictField = serde_json::from_value(logged).expect("as it is logged");
        logged.hide();
        assert_eq!(line(&logged), "hired: platform won, as legacy had no value (first_contact)");
        logged.winner = Some(Side::Legacy);
        assert_eq!(line(&logged), "hired: legacy won by legacy (first_contact)");
    }

    #[test]
    fn a_conflict_is_named_by_entity_and_id() {
        assert_eq!("user:12".parse(), Ok(Name { entity: "user".into(), id: 12 }));
        assert_eq!("a:b:12".parse(), Ok(Name { entity: "a:b".into(), id: 12 }));
        for wrong in ["", "user", "user:", ":12", "user:x", "12"] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }
}
