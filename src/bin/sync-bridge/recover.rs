//! `sync-bridge recover`

use std::path::Path;

use anyhow::anyhow;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sync_bridge::config::{Customer, Side};
use sync_bridge::ops::{self, CannotRecover, RecoverOf, Recovered};
use sync_bridge::shutdown;
use sync_bridge::stages::Recovery;
use sync_bridge::startup::{self, Bridge, Embedded, Look};

use crate::out;

const NOTES: &str = "\
Examples:
  sync-bridge recover --customer acme --from platform --plan   what would be done if the platform were right; writes nothing
  sync-bridge recover --customer acme --from platform          legacy was brought back from a backup: it gets what the platform has
  sync-bridge recover --customer acme --from merge             of each record the row that is stamped later

A database that is not as far as it was at the last run (a backup was brought back, it was moved, a standby took over without everything)
pauses its customer: what it holds looks like edits, and is none. This reads every row of both sides. What differs is decided as asked,
and the loser is kept in the conflict log; a record that is gone on one side is made again from the other, under its keys. Nothing is deleted.
Then the customer goes on. A command that was cut off may be repeated. While an entity or a direction is paused by itself it is refused: what
is left out now would flow as edits later. A plan counts records as waiting whose receipts would be forgotten first (receipts_forgotten).

JSON: customer, slug, plan, entities: entity, rows_read, creates_to_platform, creates_to_legacy, updates_to_platform, updates_to_legacy,
  adopted, recorded, conflicts, listed, receipts_forgotten, parked, quarantined

Exit codes: 0 done, 1 failed: the customer stays paused, repeat it, 2 refused";

/// Go on after a side was brought back from a backup: say which side is right
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// The customer, by id or slug
    #[arg(long)]
    customer: String,
    /// Who is right where both sides differ
    #[arg(long, value_enum)]
    from: From,
    /// Only show what would be done
    #[arg(long)]
    plan: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum From {
    Legacy,
    Platform,
    /// Of each record the row that is stamped later
    Merge,
}

impl From {
    fn recovery(self) -> Recovery {
        match self {
            From::Legacy => Recovery::From(Side::Legacy),
            From::Platform => Recovery::From(Side::Platform),
            From::Merge => Recovery::Merge,
        }
    }
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let config = startup::load(config).await?;
    let customer = out::customer(&config, &args.customer)?.clone();
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let done = tokio::select! {
        done = recover(&bridge, &customer, &args) => done,
        () = stop.cancelled() => Err(anyhow!("stopped: the customer stays paused; run it again")),
    };
    bridge.close().await?;
    let (entities, stays_paused) = done?;
    if args.json {
        return out::say_json(
            &json!({ "customer": customer.id, "slug": customer.slug, "plan": args.plan, "stays_paused": stays_paused, "entities": entities }),
        );
    }
    out::say(&table(&entities))?;
    match (args.plan, stays_paused) {
        (true, _) => out::say("nothing was written"),
        (false, false) => out::say("the customer goes on; what lost is in `sync-bridge conflicts list`"),
        (false, true) => out::say(
            "the customer stays paused, as it was before: `sync-bridge resume` lets it go on; what lost is in `sync-bridge conflicts list`",
        ),
    }
}

async fn recover(bridge: &Bridge, customer: &Customer, args: &Args) -> anyhow::Result<(Vec<Recovered>, bool)> {
    bridge.must_be_migrated().await?;
    startup::check(&bridge.data, [customer], Look::Everything).await?;
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {prefix} {human_pos} rows read")
            .expect("the template is of known parts"),
    );
    let who = out::who();
    let of = RecoverOf { customer: &customer.id, recovery: args.from.recovery(), plan: args.plan, who: &who };
    let env = bridge.env();
    let done = ops::recover(&env, of, |entity, rows| {
        bar.set_prefix(entity.to_string());
        bar.set_position(rows);
    });
    let done = done.await;
    bar.finish_and_clear();
    done.map_err(|error| if error.is::<CannotRecover>() { startup::refused(error) } else { error })
}

fn table(entities: &[Recovered]) -> String {
    let heads = ["entity", "rows read"].into_iter().chain(out::DONE).chain(["waiting", "quarantined"]);
    let mut table = out::table(&heads.collect::<Vec<_>>());
    for one in entities {
        let read = [out::text(one.entity.as_str()), out::count(one.rows_read)];
        let rest = [one.parked, one.quarantined].map(out::count);
        table.add_row(read.into_iter().chain(out::done(&one.tally)).chain(rest));
    }
    table.to_string()
}
