//! `sync-bridge explain`

use std::path::Path;

use anyhow::anyhow;
use serde_json::json;
use sync_bridge::config::{Customer, EntityId, Side};
use sync_bridge::ops::{self, Explained};
use sync_bridge::stages::{Key, RecordRow, RecordValue};
use sync_bridge::startup::{self, Bridge, Embedded, Look, refused};

use crate::{out, plan};

/// Tell the whole story of one record: both rows, the pair, each field, conflicts, why it waits, and what a run would do; writes nothing
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge explain --customer acme --entity user --key 17
  sync-bridge explain --customer acme --entity user --side platform --key 6f9619ff-8b86-4d01-b42d-00cf4fc964ff --show-values
  sync-bridge explain --customer acme --entity membership --key 17,3            a key of two columns

A field's state: equal; which side changed it since both agreed (legacy, platform, both); never agreed; listed (for a person); unknown.

JSON: record (entity, legacy, platform: key, stamp, seen; pair: legacy_key, platform_key, rev, generation, gone, announced_secs, stamps;
  fields: field, state, legacy, platform), parked, quarantined, conflicts, watermarks, paused, due, next (as `plan` words it)

Exit codes: 0 here it is, 1 a database failed meanwhile, 2 refused: there is no such record, too")]
pub struct Args {
    /// The customer, by id or slug
    #[arg(long)]
    customer: String,
    /// Its entity
    #[arg(long)]
    entity: String,
    /// Its key; the parts of one of several columns with commas between them
    #[arg(long)]
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
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let found = find(&bridge, &customer, &entity, &args).await;
    bridge.close().await?;
    let mut explained = found?;
    if !args.show_values {
        hide(&mut explained);
    }
    if args.json {
        let next: Vec<String> =
            explained.next.iter().map(|row| plan::row_shown(row, args.show_values).trim_end().to_owned()).collect();
        let mut said = serde_json::to_value(&explained)?;
        said["next"] = json!(next);
        out::say_json(&said)
    } else {
        out::say(&shown(&explained, args.show_values))
    }
}

async fn find(bridge: &Bridge, customer: &Customer, entity: &EntityId, args: &Args) -> anyhow::Result<Explained> {
    bridge.must_be_migrated().await?;
    startup::check(&bridge.data, [customer], Look::Everything).await?;
    let key = out::key_of(&args.key);
    let sides = args.side.map_or_else(|| Side::BOTH.to_vec(), |side| vec![side.side()]);
    let env = bridge.env();
    for side in sides {
        // What is no key of one side at all may be one of the other.
        match ops::explain(&env, &customer.id, entity, (side, &key)).await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) if args.side.is_some() => return Err(error),
            Err(error) => tracing::debug!("{side}: {error:#}"),
        }
    }
    Err(refused(anyhow!("customer {} has no {entity} {}, neither a row nor a pair", customer.slug, args.key)))
}

/// Leaves values out: they are the customer's data.
fn hide(explained: &mut Explained) {
    for field in &mut explained.record.fields {
        for value in [&mut field.legacy, &mut field.platform] {
            if let RecordValue::Value { text } = value {
                "•••".clone_into(text);
            }
        }
    }
    for field in explained.conflicts.iter_mut().flat_map(|entry| &mut entry.fields) {
        (field.legacy, field.platform) = (None, None);
    }
}

fn shown(explained: &Explained, values: bool) -> String {
    let Explained { record, parked, quarantined, conflicts, watermarks, paused, due, next } = explained;
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
        fact("looked at", [time(pair.legacy_stamp), time(pair.platform_stamp)]);
    }
    let mut text = vec![facts.to_string()];
    match &record.pair {
        None => text.push("It was never paired.".into()),
        Some(pair) => {
            let gone = if pair.gone { "; it is gone on both sides, or was marked as deleted" } else { "" };
            text.push(format!("The pair's revision is {}, its generation {}{gone}.", pair.rev, pair.generation));
            if let Some(secs) = pair.announced_secs {
                text.push(format!(
                    "A write to legacy was announced {} ago, and is not settled.",
                    out::shown_secs(secs)
                ));
            }
        }
    }
    let mut fields = out::table(&["field", "legacy", "platform", "state"]);
    let value = |value: &RecordValue| match value {
        RecordValue::Absent => "-".to_owned(),
        RecordValue::Null => "null".into(),
        RecordValue::Value { text } => text.clone(),
        RecordValue::Untranslatable { why } => format!("({why})"),
    };
    for field in &record.fields {
        let cells = [field.field.clone(), value(&field.legacy), value(&field.platform), field.state.to_owned()];
        fields.add_row(cells.map(|cell| out::text(&cell)));
    }
    text.push(fields.to_string());
    for row in parked {
        let waits = match (&row.waits_entity, &row.waits_key) {
            (Some(entity), Some(key)) => {
                format!("for {entity} {} of {}", out::key(key), row.waits_side.as_deref().unwrap_or("-"))
            }
            _ => row.reason.clone(),
        };
        let woken = if row.woken { "; that is there, so the next run looks again" } else { "" };
        text.push(format!("Its {} row waits since {} {}{woken}.", row.side, time(Some(row.since)), out::plain(&waits)));
    }
    for row in quarantined {
        let field = row.field.as_deref().map(|field| format!("{field}: ")).unwrap_or_default();
        text.push(format!("Its {} row is quarantined ({}): {field}{}", row.side, row.id, out::plain(&row.reason)));
    }
    for entry in conflicts {
        let names: Vec<&str> =
            entry.fields.iter().map(|field| field.field.as_deref().unwrap_or("the record")).collect();
        text.push(format!(
            "Conflict {}:{} at {}: {}, {}.",
            entry.entity,
            entry.id,
            time(Some(entry.decided_at)),
            names.join(", "),
            entry.state
        ));
    }
    text.extend(paused.clone().map(|paused| format!("Nothing flows: {}.", out::plain(&paused))));
    text.push(match (next.is_empty(), due) {
        (true, true) => "The next run looks at it, and has nothing to do.".to_owned(),
        (true, false) => "No run looks at it before it changes, and there is nothing to do.".into(),
        (false, true) => "The next run would do this:".into(),
        (false, false) => {
            "No run looks at it before it changes or a sweep meets it; one that did would do this:".into()
        }
    });
    text.extend(next.iter().map(|row| plan::row_shown(row, values).trim_end().to_owned()));
    text.join("\n")
}
