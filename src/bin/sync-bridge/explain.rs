//! `sync-bridge explain`

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::anyhow;
use serde_json::json;
use sync_bridge::config::{Customer, EntityId, Side};
use sync_bridge::ops::{self, Explained, GoneShown, Look, PageOwning, ParkedShown};
use sync_bridge::stages::{ConflictField, Key, RecordRow, RecordValue};
use sync_bridge::startup::{self, Bridge, Embedded, refused};
use sync_bridge::told::counted;

use crate::{out, plan};

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
  stands_still, away (databases that do not answer: database, since, asked_at, error, waiting), due, next (as `plan` words it, with what it waits for first), unsure (of what it waits for: why that may
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
        hide(&mut explained);
    }
    if args.json {
        let next: Vec<String> =
            explained.next.iter().map(|row| plan::row_shown(row, args.show_values).trim_end().to_owned()).collect();
        let mut said = serde_json::to_value(&explained)?;
        said["next"] = json!(next);
        out::say_json(&said)
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

/// Leaves values out: they are the customer's data.
fn hide(explained: &mut Explained) {
    for field in &mut explained.look.record.fields {
        for value in [&mut field.legacy, &mut field.platform] {
            if let RecordValue::Value { text } = value {
                "•••".clone_into(text);
            }
        }
    }
    explained.conflicts.iter_mut().flat_map(|entry| &mut entry.fields).for_each(ConflictField::hide);
}

fn shown(explained: &Explained, slug: &str, values: bool) -> String {
    let Explained { look, quarantined, conflicts, next, unsure } = explained;
    let Look { record, parked, watermarks, .. } = look;
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
        RecordValue::Value { text } => out::value(text),
        RecordValue::Untranslatable { why } => format!("({why})"),
    };
    for field in &record.fields {
        let cells = [field.field.clone(), value(&field.legacy), value(&field.platform), field.state.to_owned()];
        fields.add_row(cells.map(|cell| out::text(&cell)));
    }
    text.push(fields.to_string());
    text.extend(parked.iter().map(waiting));
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
            time(Some(entry.noticed_at)),
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
        out::plain(&format!("{kept_back}: paused by {}{why}.", paused.who))
    }));
    text.extend(look.away.iter().map(|away| format!("{}.", out::plain(&away.to_string()))));
    text.extend(look.pages.iter().map(owning));
    text.extend(look.gone.as_ref().map(missing));
    if record.legacy.is_none() && record.platform.is_none() && record.pair.as_ref().is_some_and(|pair| !pair.gone) {
        text.push("No row of it is there any more, which a run notes that looks for rows that are gone.".into());
    }
    text.push(ahead(explained, slug));
    text.extend(next.iter().map(|row| plan::row_shown(row, values).trim_end().to_owned()));
    text.extend(unsure.as_ref().map(|why| format!("What it waits for: {}.", out::plain(why))));
    text.join("\n")
}

/// Dead letters in whose ranges it lies.
fn letters(look: &Look) -> impl Iterator<Item = i64> {
    let letters: BTreeSet<i64> = look.pages.iter().filter_map(|page| page.letter).collect();
    letters.into_iter()
}

/// A page that it lies in, and why that has not come through.
fn owning(page: &PageOwning) -> String {
    let PageOwning { side, letter, run, since, attempts, error, next_at } = page;
    let time = |at| out::time(at).content();
    let error = error.as_deref().map(out::plain).unwrap_or_default();
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
    let since = out::time(Some(row.since)).content();
    let side = row.waits_side.as_deref().unwrap_or("-");
    let (why, over) = match (row.reason.as_str(), &row.waits_entity, &row.waits_key) {
        ("parent", Some(entity), Some(key)) => {
            (format!("waits since {since} for {entity} {} of {side}", out::key(key)), "that is there")
        }
        ("paused", ..) => (format!("waits since {since}, as {side} was not to be written"), "that is over"),
        _ => (format!("is to be looked at again since {since}: it was asked for, or others were writing it"), ""),
    };
    let due = match (row.due, over) {
        (false, _) | (true, "") => String::new(),
        (true, over) => format!("; {over}, so the next run looks again"),
    };
    format!("Its {} row {}{due}.", row.side, out::plain(&why))
}

/// What becomes of a record of which one row is missing.
fn missing(gone: &GoneShown) -> String {
    let GoneShown { side, seen_secs, every_secs, after_secs, follows, due } = gone;
    let [every, after] = [every_secs, after_secs].map(|secs| out::shown_secs(*secs));
    let seen = seen_secs.map_or_else(
        || "which no run has seen yet".to_owned(),
        |secs| format!("as a run saw {} ago for the first time", out::shown_secs(secs)),
    );
    match (follows, due) {
        (false, _) => format!(
            "Its {side} row is gone. The other one stays, as `deletes` says; an edit of it brings the record back."
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
    let open = conflicts.iter().find(|entry| entry.state == "open").map(|entry| {
        let name = format!("{}:{}", entry.entity, entry.id);
        format!(
            " A person is to decide: `sync-bridge conflicts resolve {name} --customer {slug} --winner legacy|platform`."
        )
    });
    if look.due {
        return match next.is_empty() {
            true => format!("The next run looks at it, and has nothing to do.{}", open.unwrap_or_default()),
            false if open.is_none() => "The next run would do this:".into(),
            false => format!("The next run looks at it.{} The run would do this:", open.unwrap_or_default()),
        };
    }
    let mut until = Vec::new();
    if look.stands_still {
        until.push("it is paused no more".to_owned());
    } else if look.gone.as_ref().is_some_and(|gone| gone.follows) {
        return "That would do this:".into();
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
            until.push("a sweep meets it".into());
        }
    }
    let until = until.join(", or ");
    match next.is_empty() {
        true if open.is_none() => format!("No run looks at it before {until}, and there is nothing to do."),
        true => format!("No run looks at it before {until}.{}", open.unwrap_or_default()),
        false => format!("No run looks at it before {until}.{} One that did would do this:", open.unwrap_or_default()),
    }
}
