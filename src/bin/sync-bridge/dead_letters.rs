//! `sync-bridge dead-letters`

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde_json::json;
use sync_bridge::config::{Config, parse_duration};
use sync_bridge::jobs::stage::RECONCILIATION;
use sync_bridge::ops::{self, By, DeadLetter, DeadLetterShown, Deal, Selection};
use sync_bridge::startup::{self, Bridge, Embedded, refused};
use sync_bridge::told::counted;

use crate::out;

/// Work that used up its attempts or can never succeed: list it, look at it, bring it back, give it up
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge dead-letters list --customer acme
  sync-bridge dead-letters show 17
  sync-bridge dead-letters requeue --all --reason 'the disk is larger now'

Exit codes: 0 done; 1 failed, or some of the ids are none that wait (the others were dealt with); 2 refused: none of the ids is, too")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show dead letters with what re-enqueueing would do
    #[command(after_help = "\
Examples:
  sync-bridge dead-letters list --kind timeout --younger-than 2h
  sync-bridge dead-letters list --all-states --json

JSON: a list; each: id, customer, kind, stage, entity, side, rows, generation, attempts, repeats, repeated_at, error_kind, error, dead_since,
  state, requeue_will")]
    List {
        #[command(flatten)]
        of: Of,
        /// Also those that were dealt with
        #[arg(long)]
        all_states: bool,
        /// At most so many
        #[arg(long, default_value_t = out::LISTED_MAX, allow_negative_numbers = true, value_parser = out::limit(1, out::LISTED_MAX))]
        limit: u32,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one with its cause, its range, its attempts and what was done about it before
    #[command(after_help = "\
Examples:
  sync-bridge dead-letters show 17

JSON: as `list`, with discard_will, run, mode, range, history, dealt, earlier")]
    Show {
        /// Its id, as `list` shows it
        #[arg(value_name = "ID", allow_negative_numbers = true, value_parser = out::id_of())]
        id: i64,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring dead letters back, as new work with attempts of its own
    #[command(after_help = "\
Examples:
  sync-bridge dead-letters requeue 17 18 --reason 'disk is larger now'
  sync-bridge dead-letters requeue --customer acme --kind timeout --younger-than 2h
  sync-bridge dead-letters requeue --all

JSON: requeued (how many)")]
    Requeue {
        #[command(flatten)]
        of: Of,
        /// Why; kept with what was done
        #[arg(long, default_value = out::NO_REASON, hide_default_value = true, value_parser = out::reason)]
        reason: String,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Give dead letters up: the rows of pages are left to a comparison of whole tables, in the next run or once `load_window` and pauses let it
    #[command(after_help = "\
Examples:
  sync-bridge dead-letters discard 17 --reason 'the table is gone for good'
  sync-bridge dead-letters discard --customer acme --older-than 30d --reason 'loaded anew'

JSON: discarded (how many)")]
    Discard {
        #[command(flatten)]
        of: Of,
        /// Why; kept with what was done
        #[arg(long, value_parser = out::reason)]
        reason: String,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which are meant: those for which all that is said here holds
#[derive(clap::Args)]
struct Of {
    /// Their ids, as `list` shows them
    #[arg(value_name = "ID", conflicts_with = "all", allow_negative_numbers = true, value_parser = out::id_of())]
    ids: Vec<i64>,
    /// All there are
    #[arg(long)]
    all: bool,
    /// Those of this customer, by id or slug
    #[arg(long, value_name = "CUSTOMER")]
    customer: Option<String>,
    /// Those of this stage
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Pages of this entity
    #[arg(long, value_name = "ENTITY")]
    entity: Option<String>,
    /// Those that died of this kind of error
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(ops::DEAD_KINDS))]
    kind: Option<String>,
    /// Dead for at least this long, like `30m`, `12h`, `7d`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Dead for less than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    younger_than: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a whole number and a unit: 30s, 5m, 12h, 7d".into())
}

impl Of {
    fn selection(&self, config: &Config) -> anyhow::Result<Selection> {
        let mut ids = self.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        let stages = || config.stages.iter().map(|stage| stage.name.as_str()).chain([RECONCILIATION]);
        if let Some(stage) = self.stage.as_ref().filter(|&named| !stages().any(|stage| stage == named)) {
            let known: Vec<&str> = stages().collect();
            let file = config.path.display();
            return Err(refused(anyhow!("no stage `{stage}` in {file}: there are {}", known.join(", "))));
        }
        let customer = self.customer.as_ref().map(|named| out::customer(config, named)).transpose()?;
        let entity = self.entity.as_ref().map(|named| out::entity(config, named)).transpose()?;
        Ok(Selection {
            ids,
            customer: customer.map(|customer| customer.id.clone()),
            stage: self.stage.clone(),
            entity: entity.cloned(),
            error_kind: self.kind.clone(),
            older_than: self.older_than,
            younger_than: self.younger_than,
        })
    }

    /// What changes something changes all only when told so.
    fn must_select(&self) -> anyhow::Result<()> {
        let Of { ids, all, customer, stage, entity, kind, older_than, younger_than } = self;
        let said = *all
            || !ids.is_empty()
            || [customer, stage, entity, kind].into_iter().any(Option::is_some)
            || [older_than, younger_than].into_iter().any(Option::is_some);
        if said {
            return Ok(());
        }
        Err(refused(anyhow!(
            "say which dead letters are meant: <ID>..., --customer, --stage, --entity, --kind, --older-than, \
             --younger-than or --all"
        )))
    }
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let config = startup::load(config).await?;
    let selection = match &args.verb {
        Verb::List { of, .. } => of.selection(&config)?,
        Verb::Show { id, .. } => Selection::ids(&[*id]),
        Verb::Requeue { of, .. } | Verb::Discard { of, .. } => {
            of.must_select()?;
            of.selection(&config)?
        }
    };
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let done = act(&bridge, args.verb, &selection).await;
    bridge.close().await?;
    done
}

async fn act(bridge: &Bridge, verb: Verb, selection: &Selection) -> anyhow::Result<()> {
    bridge.must_be_migrated().await?;
    match verb {
        Verb::List { of: _, all_states, limit, json } => {
            let letters = ops::dead_letters(&bridge.queue, selection, all_states, limit).await?;
            if json { out::say_json(&letters) } else { out::say(&table(&bridge.config, &letters, all_states, limit)) }
        }
        Verb::Show { id, json } => {
            let found = ops::dead_letter(&bridge.queue, id).await?;
            let letter = found.ok_or_else(|| refused(anyhow!("there is no dead letter {id}: see `list`")))?;
            if json { out::say_json(&letter) } else { out::say(&told(&bridge.config, &letter)) }
        }
        Verb::Requeue { of: _, reason, json } => {
            let by = By { who: &out::who(), reason: &reason };
            let done = ops::deal(&bridge.queue, Deal::Requeue, selection, by).await?;
            if json {
                out::say_json(&json!({ "requeued": done.count }))?;
            } else {
                out::say(&format!("re-enqueued {}", done.count))?;
            }
            out::all_were(&done)
        }
        Verb::Discard { of: _, reason, json } => {
            let by = By { who: &out::who(), reason: &reason };
            let done = ops::deal(&bridge.queue, Deal::Discard, selection, by).await?;
            if json {
                out::say_json(&json!({ "discarded": done.count }))?;
            } else {
                out::say(&format!("discarded {}", done.count))?;
            }
            out::all_were(&done)
        }
    }
}

fn table(config: &Config, letters: &[DeadLetter], all_states: bool, limit: u32) -> String {
    if letters.is_empty() {
        return "no dead letters".into();
    }
    let last = if all_states { "state" } else { "re-enqueueing will" };
    let mut table =
        out::table(&["id", "customer", "what", "rows", "attempts", "repeats", "since", "kind", "error", last]);
    for letter in letters {
        table.add_row(vec![
            out::id(letter.id),
            out::text(out::slug(config, &letter.customer)),
            out::text(&what(letter)),
            letter.rows.map_or_else(|| out::text("-"), out::number),
            out::number(letter.attempts.into()),
            out::number(letter.repeats.into()),
            out::time(Some(letter.dead_since)),
            out::text(&letter.error_kind),
            out::text(&letter.error),
            out::text(if all_states { &letter.state } else { &letter.requeue_will }),
        ]);
    }
    match letters.len() == limit as usize {
        true => format!("{table}\nthe first {}, the oldest; {}", counted(limit, "dead letter"), out::others(limit)),
        false => table.to_string(),
    }
}

fn what(letter: &DeadLetter) -> String {
    let parts = [Some(letter.kind.as_str()), letter.stage.as_deref(), letter.entity.as_deref(), letter.side.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// All of one, top to bottom.
fn told(config: &Config, shown: &DeadLetterShown) -> String {
    let letter = &shown.letter;
    let mut facts = out::table(&["dead letter", &letter.id.to_string()]);
    let mut fact = |name: &str, value: String| {
        facts.add_row(vec![out::text(name), out::text(&value)]);
    };
    let time = |time| out::time(Some(time)).content();
    fact("customer", out::slug(config, &letter.customer).to_owned());
    fact("what", what(letter));
    if let Some(run) = shown.run {
        fact("run", run.to_string());
    }
    if let Some(range) = &shown.range {
        let mode = if shown.mode.as_deref() == Some("compare") { "compared only" } else { "to be synchronised" };
        fact("range", range.told.clone());
        fact("rows", format!("{} when it was cut, {mode}", out::grouped(range.rows.into())));
    }
    if let Some(generation) = letter.generation {
        fact("generation", generation.to_string());
    }
    fact("error", letter.error.clone());
    fact("kind", letter.error_kind.clone());
    fact("dead since", time(letter.dead_since));
    if let Some(last) = letter.repeated_at {
        fact("died again", format!("{}, the last at {}", counted(letter.repeats, "time"), time(last)));
    }
    fact("attempts", letter.attempts.to_string());
    fact("state", letter.state.clone());
    if letter.state == "waiting" {
        fact("re-enqueueing will", letter.requeue_will.clone());
        fact("discarding will", shown.discard_will.clone());
    }
    let mut text = facts.to_string();
    if !shown.history.is_empty() {
        let mut history = out::table(&["attempt", "worker", "from", "to", "ending", "kind", "error", "next"]);
        for attempt in &shown.history {
            history.add_row(vec![
                out::id(attempt.number.into()),
                out::text(&attempt.worker),
                out::time(Some(attempt.claimed_at)),
                out::time(Some(attempt.ended_at)),
                out::text(&attempt.ending),
                out::text(&attempt.error_kind),
                out::text(&attempt.error),
                out::time(attempt.next_run_at),
            ]);
        }
        let _ = write!(text, "\n\n{history}");
    }
    let of_this = shown.dealt.iter().map(|dealt| (letter.id, letter.generation, letter.error.as_str(), dealt));
    let of_earlier = shown.earlier.iter().flat_map(|earlier| {
        let dealt = earlier.dealt.iter();
        dealt.map(|dealt| (earlier.id, Some(earlier.generation), earlier.error.as_str(), dealt))
    });
    let mut done = out::table(&["dead letter", "generation", "error", "what was done", "by", "why", "at"]);
    for (id, generation, error, dealt) in of_this.chain(of_earlier) {
        done.add_row(vec![
            out::id(id),
            generation.map_or_else(|| out::text("-"), |generation| out::id(generation.into())),
            out::text(error),
            out::text(&dealt.action),
            out::text(&dealt.who),
            out::why(dealt.reason.as_deref()),
            out::time(Some(dealt.at)),
        ]);
    }
    if !done.is_empty() {
        let _ = write!(text, "\n\n{done}");
    }
    text
}
