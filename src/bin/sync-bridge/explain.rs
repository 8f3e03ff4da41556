//! `sync-bridge explain`

use std::path::Path;

use anyhow::anyhow;
use sync_bridge::config::{Customer, EntityId, Side};
use sync_bridge::ops::{self, Explained, Look};
use sync_bridge::stages::{Key, RecordRow, RecordValue};
use sync_bridge::startup::{self, Bridge, Embedded, refused};

use crate::out;

/// Tell the whole story of one record: both rows, the pair, each field, conflicts, why it waits, and what a run would do; writes nothing
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge explain --customer acme --entity user --key 17
  sync-bridge explain --customer acme --entity user --side platform --key 6f9619ff-8b86-4d01-b42d-00cf4fc964ff --show-values
  sync-bridge explain --customer acme --entity membership --key 17,3            a key of two columns
  sync-bridge explain --customer acme --entity seat --key '[\"Room 4, north\",\"3\"]'   of two, with a comma in one

A field's state: equal; which side changed it since both agreed (legacy, platform, both); never agreed; listed (for a person); constant
  (what new rows begin with, and nothing compares); unknown.

JSON: record (entity, legacy, platform: key, stamp, seen; pair: legacy_key, platform_key, rev, generation, gone, announced_secs, stamps;
  fields: field, state, legacy, platform), parked, pages (side, letter: a dead letter, run, since, attempts, error, next_at), gone (of a row that is missing: side, seen_secs,
  every_secs, after_secs, follows, due), quarantined, conflicts, watermarks, paused (entity, direction, who, reason, since, halted),
  stands_still, away (databases that do not answer: database, since, asked_at, error, waiting), due, story (what keeps it back and what brings it on, in sentences), next (as `plan` words it, with what it waits for first), unsure (of what it waits for: why that may
  not come)

Exit codes: 0 here it is, 1 a database failed meanwhile, 2 refused: there is no such record, too")]
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
    /// Whose key it is; the first side that has it, unless it is said
    #[arg(long, value_enum)]
    side: Option<out::OfSide>,
    /// Show the values of both sides too: they are the customer's data
    #[arg(long)]
    show_values: bool,
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
    let mut found = find(&bridge, &customer, &entity, &keys).await;
    if let Err(error) = found {
        let error = ops::with_lock(&bridge.config, &customer.id, Some(&entity), error);
        found = Err(ops::with_away(&bridge.queue, &bridge.config, &customer.id, error).await);
    }
    bridge.close().await?;
    let mut explained = found?.ok_or_else(|| {
        let key = out::plain(&args.key);
        refused(anyhow!("customer {} has no {entity} {key}, neither a row nor a pair", customer.slug))
    })?;
    if !args.show_values {
        explained.hide();
    }
    if args.json {
        out::say_json(&explained.told(&customer.slug, args.show_values))
    } else {
        out::say(&shown(&explained, &customer.slug, args.show_values))
    }
}

async fn find(
    bridge: &Bridge,
    customer: &Customer,
    entity: &EntityId,
    keys: &[(Side, Key)],
) -> anyhow::Result<Option<Explained>> {
    bridge.must_be_migrated().await?;
    startup::check_entity(&bridge.data, customer, entity).await?;
    let env = bridge.env();
    for (side, key) in keys {
        if let Some(found) = ops::explain(&env, &customer.id, entity, (*side, key)).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn shown(explained: &Explained, slug: &str, values: bool) -> String {
    let Look { record, watermarks, .. } = &explained.look;
    let key = |key: Option<&Key>| key.map_or_else(|| "-".into(), |key| out::plain(&out::key(&key.listed())));
    let mut facts = out::table(&["", "legacy", "platform"]);
    let rows = [&record.legacy, &record.platform];
    let of = |tell: &dyn Fn(&RecordRow) -> String| rows.map(|row| row.as_ref().map_or_else(|| "no row".into(), tell));
    let mut fact = |name: &str, of_sides: [String; 2]| {
        facts.add_row([name, &of_sides[0], &of_sides[1]].map(out::text));
    };
    let time = |at| out::time(at).content();
    fact("key", of(&|row| key(Some(&row.key))));
    fact("stamp", of(&|row| time(row.stamp)));
    fact("done up to", watermarks.map(time));
    if rows.iter().any(|row| row.as_ref().is_some_and(|row| !row.seen)) {
        fact("`where`", of(&|row| if row.seen { "inside" } else { "outside: it rests" }.into()));
    }
    if let Some(pair) = &record.pair {
        fact("pair", [key(pair.legacy_key.as_ref()), key(Some(&pair.platform_key))]);
        fact("stamp when looked at", [time(pair.legacy_stamp), time(pair.platform_stamp)]);
    }
    let mut text = vec![facts.to_string()];
    text.extend(explained.of_pair());
    let mut fields = out::table(&["field", "legacy", "platform", "state"]);
    let value = |value: &RecordValue| match value {
        RecordValue::Absent => "-".to_owned(),
        RecordValue::Null => "null".into(),
        RecordValue::Value { text } => out::value(text),
        RecordValue::Untranslatable { why } => format!("({why})"),
    };
    for field in &record.fields {
        let cells = [field.field.clone(), value(&field.legacy), value(&field.platform), field.state.to_owned()];
        fields.add_row(cells.map(|cell| out::text(&cell)));
    }
    text.push(fields.to_string());
    text.extend(explained.story(slug));
    text.extend(explained.next_told(values));
    text.extend(explained.unsure());
    text.join("\n")
}
