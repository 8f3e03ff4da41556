//! `sync-bridge erase`

use std::path::Path;

use serde_json::json;
use sync_bridge::config::{Customer, EntityId, Side};
use sync_bridge::ops::{self, CannotErase, EraseOf, Erased, Kept};
use sync_bridge::stages::Key;
use sync_bridge::startup::{self, Bridge, Embedded, refused};

use crate::out;

/// Remove what the bridge itself keeps of one record's values; of a record that both sides deleted, its keys too
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge erase --customer acme --entity user --key 17 --plan
  sync-bridge erase --customer acme --entity user --side legacy --key 17 --reason 'request 4711'

First delete the record in the applications, or overwrite its values there, and let a run carry that over: no row of theirs is touched here.
Then this removes its entries of the conflict log, values that one side cannot hold, reasons and messages that may quote it. While a row of
it stands on either side its keys and hashes stay, as it would be doubled without. Once both sides deleted it and a day has passed, a further call
removes these as well; a row that is brought back after that is a new record. Repeat it as often as you like.

What was done is kept in the actions: who, when, why, and hashes of the keys in place of the keys.

JSON: customer, slug, entity, plan; conflicts, complements, quarantined, messages, parked, absences, differences, pages, receipts, pairs (how
  much of each); open (conflicts that a person is to decide about before it can be erased); kept (lives, under_way, young, or null: its keys are gone), ended_at, pages_left, erased_at (of one that was erased before)

Exit codes: 0 done, or nothing was left; 1 failed: repeat it; 2 refused: no such record, or a person is to decide about it first (`--plan` says so)")]
pub struct Args {
    /// The customer, by id or slug
    #[arg(long)]
    customer: String,
    /// Its entity
    #[arg(long)]
    entity: String,
    /// Its key; the parts of one of several columns with commas between them, or as a JSON array of strings
    #[arg(long, allow_hyphen_values = true)]
    key: String,
    /// Whose key it is; the side that has it, unless it is said
    #[arg(long, value_enum)]
    side: Option<out::OfSide>,
    /// Why, as the number of a request: it is kept, so no names
    #[arg(long, required_unless_present = "plan", value_parser = out::reason)]
    reason: Option<String>,
    /// Only show what would be removed
    #[arg(long)]
    plan: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let config = startup::load(config).await?;
    let customer = out::customer(&config, &args.customer)?.clone();
    let entity = out::entity(&config, &args.entity)?.clone();
    let keys = out::keys_of(&config, &entity, args.side, &args.key)?;
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let erased = erase(&bridge, &customer, &entity, &keys, &args).await;
    bridge.close().await?;
    let erased = erased.map_err(|error| if error.is::<CannotErase>() { refused(error) } else { error })?;
    if args.json {
        let mut said = serde_json::to_value(&erased)?;
        for (name, value) in [("customer", customer.id.as_str()), ("slug", &customer.slug), ("entity", entity.as_str())]
        {
            said[name] = json!(value);
        }
        return out::say_json(&said);
    }
    out::say(&shown(&erased, &customer.slug, &entity))
}

async fn erase(
    bridge: &Bridge,
    customer: &Customer,
    entity: &EntityId,
    keys: &[(Side, Key)],
    args: &Args,
) -> anyhow::Result<Erased> {
    bridge.must_be_migrated().await?;
    startup::check_entity(&bridge.data, customer, entity).await?;
    let of = EraseOf {
        customer: &customer.id,
        entity,
        keys,
        plan: args.plan,
        who: &out::who(),
        reason: args.reason.as_deref().unwrap_or_default(),
    };
    ops::erase(&bridge.env(), of).await
}

fn shown(erased: &Erased, slug: &str, entity: &EntityId) -> String {
    let mut text = Vec::new();
    if erased.removed.is_nothing() {
        text.push(match erased.erased_at {
            Some(at) => format!("nothing is left of it: it was erased at {}", out::time(Some(at)).content()),
            None => "nothing is left to erase".to_owned(),
        });
    } else {
        let mut table = out::table(&[if erased.plan { "would be removed" } else { "removed" }, "from", "how many"]);
        for (what, place, count) in erased.removed.places().into_iter().filter(|(.., count)| *count > 0) {
            table.add_row([out::text(what), out::text(place), out::count(count)]);
        }
        text.push(table.to_string());
    }
    text.extend(erased.kept.map(|kept| match (kept, erased.ended_at) {
        (Kept::Lives, _) => "A row of it stands, so its pair stays, with keys and hashes: without these it would be doubled.".to_owned(),
        (Kept::UnderWay, _) => "Its rows are gone, and no run has noted that yet: repeat this a day after one has.".to_owned(),
        (Kept::Young, Some(since)) => format!(
            "It is known to have ended since {}: its keys stay for a day, as what is still at work could bring it back. Repeat this then.",
            out::time(Some(since)).content()
        ),
        (Kept::Young, None) => "It ended: its keys stay for a day after that is noted, which `sync-bridge erase` does. Repeat it then.".to_owned(),
    }));
    if erased.pages_left > 0 {
        text.push(format!(
            "Pages that wait, or are dead letters, and name it still: {}. Repeat this when they are done with.",
            out::grouped(i64::try_from(erased.pages_left).unwrap_or(i64::MAX))
        ));
    }
    if erased.open > 0 {
        text.push(format!(
            "The erasure itself is refused until a person has decided about {} of its conflicts: see `sync-bridge conflicts list --customer {slug} \
             --entity {entity} --state open`, then `sync-bridge conflicts resolve {entity}:ID --customer {slug} --winner legacy|platform`.",
            erased.open
        ));
    }
    if erased.plan {
        text.push("nothing was written".to_owned());
    }
    text.join("\n")
}
