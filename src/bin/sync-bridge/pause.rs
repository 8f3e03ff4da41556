//! `sync-bridge pause` and `sync-bridge resume`

use std::path::Path;

use clap::ValueEnum;
use serde_json::json;
use sync_bridge::config::{Config, Side};
use sync_bridge::ops::{self, By, Paused, Scope};
use sync_bridge::startup::{self, Bridge, Embedded};

use crate::out;

#[derive(clap::Args)]
struct What {
    /// The customer, by id or slug
    #[arg(long)]
    customer: String,
    /// Only this entity
    #[arg(long)]
    entity: Option<String>,
    /// Only writes to this side; changes the other way go on
    #[arg(long, value_name = "DIRECTION")]
    direction: Option<Direction>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Direction {
    ToLegacy,
    ToPlatform,
}

/// Stop a customer, or an entity of it, until `resume`; nothing is lost meanwhile
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge pause --customer acme --reason 'their database moves'
  sync-bridge pause --customer acme --entity user
  sync-bridge pause --customer acme --direction to-legacy   legacy is not written; its edits still go to the platform

Pages that are under way end; the next ones wait. Changes made meanwhile are taken over after `resume`.

JSON: paused: all that is paused of the customer: entity, direction, who, reason, since, halted

Exit codes: 0 paused, 1 failed, 2 refused")]
pub struct PauseArgs {
    #[command(flatten)]
    what: What,
    /// Why; shown by `status`
    #[arg(long, default_value = out::NO_REASON, hide_default_value = true, value_parser = out::reason)]
    reason: String,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

/// Let go on what `pause` stopped
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge resume --customer acme          ends the pause of the customer; an entity's own stays
  sync-bridge resume --customer acme --all    ends every pause of the customer
  sync-bridge resume --customer acme --entity user --accept-deletes
                                              that many rows were deleted on purpose: their counterparts go, too

JSON: resumed (how many pauses ended), paused: what is left of them, as `pause` tells

Exit codes: 0 done, or nothing of it was paused; 1 failed; 2 refused")]
pub struct ResumeArgs {
    #[command(flatten)]
    what: What,
    /// Also what was paused of it by itself: entities, directions
    #[arg(long)]
    all: bool,
    /// The rows that are gone now were deleted on purpose, however many they are
    #[arg(long)]
    accept_deletes: bool,
    /// Why; kept with what was done
    #[arg(long, default_value = out::NO_REASON, hide_default_value = true, value_parser = out::reason)]
    reason: String,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

impl What {
    fn scope<'c>(&self, config: &'c Config) -> anyhow::Result<Scope<'c>> {
        let entity = self.entity.as_deref().map(|named| out::entity(config, named)).transpose()?;
        Ok(Scope {
            customer: out::customer(config, &self.customer)?.id.as_str(),
            entity: entity.map(|entity| entity.as_str()),
            toward: self.direction.map(|direction| match direction {
                Direction::ToLegacy => Side::Legacy,
                Direction::ToPlatform => Side::Platform,
            }),
        })
    }
}

pub async fn pause(config: &Path, args: PauseArgs) -> anyhow::Result<()> {
    let config = startup::load(config).await?;
    args.what.scope(&config)?;
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let paused = async {
        bridge.must_be_migrated().await?;
        let by = By { who: &out::who(), reason: &args.reason };
        ops::pause_by(&bridge.queue, args.what.scope(&bridge.config)?, by).await
    };
    let paused = paused.await;
    bridge.close().await?;
    let paused = paused?;
    if args.json {
        return out::say_json(&json!({ "paused": paused }));
    }
    out::say(&table([(args.what.customer.as_str(), paused.as_slice())].into_iter()).unwrap_or_default())
}

pub async fn resume(config: &Path, args: ResumeArgs) -> anyhow::Result<()> {
    let config = startup::load(config).await?;
    args.what.scope(&config)?;
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let resumed = async {
        bridge.must_be_migrated().await?;
        let by = By { who: &out::who(), reason: &args.reason };
        ops::resume_by(&bridge.queue, args.what.scope(&bridge.config)?, args.all, args.accept_deletes, by).await
    };
    let resumed = resumed.await;
    bridge.close().await?;
    let (ended, left) = resumed?;
    if args.json {
        return out::say_json(&json!({ "resumed": ended, "paused": left }));
    }
    let ends: Vec<String> = left.iter().map(|pause| format!("  {}", pause.resumed_by(&args.what.customer))).collect();
    let left = table([(args.what.customer.as_str(), left.as_slice())].into_iter());
    out::say(match ended {
        0 => "nothing of this was paused",
        _ => {
            "resumed: what changed meanwhile is taken over in a run that was asked for; what does not fit even now is \
             halted again, and goes on by itself once it does"
        }
    })?;
    left.map_or(Ok(()), |left| out::say(&format!("still paused:\n{left}\nto end it:\n{}", ends.join("\n"))))
}

/// What is paused, if anything is.
pub fn table<'p>(customers: impl Iterator<Item = (&'p str, &'p [Paused])>) -> Option<String> {
    let mut table = out::table(&["paused", "entity", "direction", "since", "by", "why"]);
    for (customer, paused) in customers {
        for pause in paused {
            table.add_row(vec![
                out::text(customer),
                out::text(pause.entity.as_deref().unwrap_or("all")),
                out::text(pause.direction.unwrap_or("both")),
                out::time(Some(pause.since)),
                out::text(&match pause.halted {
                    true => format!("{} (ends by itself once the tables fit)", pause.who),
                    false => pause.who.clone(),
                }),
                out::why(pause.reason.as_deref()),
            ]);
        }
    }
    (!table.is_empty()).then(|| table.to_string())
}
