//! `sync-bridge plan`

use std::path::Path;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use sync_bridge::config::{Customer, CustomerId, EntityId};
use sync_bridge::ops::{self, EntityKinds, Outcome, Preview, PreviewOf, PreviewOfRow, PreviewRow, Walked};
use sync_bridge::shutdown;
use sync_bridge::stages::{ForeseenField, ForeseenKind};
use sync_bridge::startup::{self, Bridge, Embedded};

use crate::out;

/// What only a write shows, said with every plan.
const NOT_FORESEEN: &str = "not foreseen: what a database says only when a row is written (constraints, triggers, rounding), and edits made \
                            until the run";

const NOTES: &str = "\
Examples:
  sync-bridge plan --customer acme                          counts, and 20 rows field by field, what needs a person first
  sync-bridge plan --customer acme --entity user --kind conflict --show-values
  sync-bridge plan --customer acme --limit 0 --json         counts only; `run --inline --json` has the same under by_kind

Nothing is written, neither on the sides nor in the queue database. The plan reads what the run would read and decides by the same
code; records that the run would make before count as there. What a database says only when a row is written (constraints,
triggers, rounding) is not foreseen: such rows are counted as if they went through.

JSON: customer, slug, outcome (idle, run, load, paused), complete, rows_read, rows_unchanged,
  by_kind: creates_to_platform, creates_to_legacy, updates_to_platform, updates_to_legacy, deletes_to_platform,
    deletes_to_legacy, adopted, recorded, conflicts (fields), listed (of these, for a person), parked, quarantined
  entities: the same of each, with entity, rows_read, rows_unchanged
  notes: about (pause, away, retried, dead_letters, quarantine, conflicts, differences, open_run, load, load_window, debt, sweep, deletes, mapping), entity, text
  rows: entity, kind, and by kind
    create, update, delete, conflict, listed, recorded: legacy_key, platform_key (null: given when it is made), adopted,
      fields: field (null: the record), toward, conflict: winner, policy, why; with --show-values before (unless it is made), after,
      and in a conflict legacy, platform
    parked: side, key, waits_for: kind (parent, busy, paused), entity, side, key, toward
    quarantined: side, key, field, reason

Exit codes: 0 here it is, 1 a database failed meanwhile, 2 refused";

/// Show what a run of a customer would do now, row by row, field by field; writes nothing
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// The customer, by id or slug
    #[arg(long)]
    customer: String,
    /// Only this entity; what it refers to is read too
    #[arg(long, value_name = "ENTITY")]
    entity: Option<String>,
    /// Only rows of this kind; counts are of all
    #[arg(long, value_enum)]
    kind: Option<KindShown>,
    /// How many rows to show
    #[arg(long, default_value_t = 20, allow_negative_numbers = true, value_parser = out::limit(0, 100_000))]
    limit: u32,
    /// End after so many records that would be written or listed: about half a kilobyte of each is kept in memory
    #[arg(long, default_value_t = 1_000_000, value_name = "RECORDS", value_parser = clap::value_parser!(u32).range(1..))]
    up_to: u32,
    /// Show the values before and after too: they are the customer's data
    #[arg(long)]
    show_values: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindShown {
    Create,
    Update,
    /// Its counterpart is gone
    Delete,
    /// Decided by a policy
    Conflict,
    /// A conflict that waits for a person
    Listed,
    /// Equal on both sides: only the bridge notes it
    Recorded,
    Parked,
    Quarantined,
}

impl KindShown {
    fn kind(self) -> ForeseenKind {
        match self {
            KindShown::Create => ForeseenKind::Create,
            KindShown::Update => ForeseenKind::Update,
            KindShown::Delete => ForeseenKind::Delete,
            KindShown::Conflict => ForeseenKind::Conflict,
            KindShown::Listed => ForeseenKind::Listed,
            KindShown::Recorded => ForeseenKind::Recorded,
            KindShown::Parked => ForeseenKind::Parked,
            KindShown::Quarantined => ForeseenKind::Quarantined,
        }
    }
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let config = startup::load(config).await?;
    let customer = out::customer(&config, &args.customer)?.clone();
    let entity = args.entity.as_deref().map(|named| out::entity(&config, named)).transpose()?.cloned();
    let bridge = Bridge::open(config, Embedded::MustExist).await?;
    let plan = tokio::select! {
        plan = plan(&bridge, &customer, entity.as_ref(), &args) => plan,
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped")),
    };
    let plan = match plan {
        Err(error) => {
            let error = ops::with_lock(&bridge.config, &customer.id, entity.as_ref(), error);
            Err(ops::with_away(&bridge.queue, &bridge.config, &customer.id, error).await)
        }
        plan => plan,
    };
    bridge.close().await?;
    let plan = plan?;
    if args.json {
        out::say_json(&as_json(&customer, &plan, args.show_values))
    } else {
        out::say(&shown(&customer, &plan, &args))
    }
}

async fn plan(bridge: &Bridge, customer: &Customer, entity: Option<&EntityId>, args: &Args) -> anyhow::Result<Preview> {
    bridge.must_be_migrated().await?;
    startup::check_for(&bridge.data, customer, entity).await?;
    let bar = ProgressBar::new(0).with_prefix("reading").with_style(
        ProgressStyle::with_template("{spinner} {prefix} [{bar:20}] {human_pos}/{human_len} rows {eta}")
            .expect("the template is of known parts")
            .progress_chars("=> "),
    );
    let told = |Walked { rows, of }| {
        bar.set_length(of);
        bar.set_position(rows);
    };
    let of = PreviewOf {
        customer: &customer.id,
        entity,
        rows: args.limit as usize,
        kind: args.kind.map(KindShown::kind),
        records_max: args.up_to as usize,
    };
    let plan = ops::preview(&bridge.env(), of, told).await;
    bar.finish_and_clear();
    plan
}

#[derive(Serialize)]
struct Shown<'p> {
    customer: &'p CustomerId,
    slug: &'p str,
    #[serde(flatten)]
    plan: &'p Preview,
    rows: Vec<Value>,
}

fn as_json<'p>(customer: &'p Customer, plan: &'p Preview, values: bool) -> Shown<'p> {
    let rows = plan.rows.iter().map(|row| row_json(row, values)).collect();
    Shown { customer: &customer.id, slug: &customer.slug, plan, rows }
}

fn row_json(row: &PreviewRow, values: bool) -> Value {
    let entity = &row.entity;
    match &row.what {
        PreviewOfRow::Acted(acted) => {
            let fields: Vec<Value> = acted.fields.iter().map(|field| field_json(field, values)).collect();
            json!({ "entity": entity, "kind": acted.kind, "legacy_key": acted.legacy_key, "platform_key": acted.platform_key,
                    "adopted": acted.adopted, "fields": fields })
        }
        PreviewOfRow::Parked { side, key, reason } => {
            json!({ "entity": entity, "kind": ForeseenKind::Parked, "side": side, "key": key, "waits_for": reason })
        }
        PreviewOfRow::Quarantined { side, key, field, reason } => {
            json!({ "entity": entity, "kind": ForeseenKind::Quarantined, "side": side, "key": key, "field": field,
                    "reason": reason })
        }
    }
}

fn field_json(field: &ForeseenField, values: bool) -> Value {
    let mut shown = json!({ "field": field.field, "toward": field.toward });
    if let Some(conflict) = &field.conflict {
        shown["conflict"] = json!({ "winner": conflict.winner, "policy": conflict.policy, "why": conflict.why });
        if values {
            shown["conflict"]["legacy"] = json!(conflict.legacy);
            shown["conflict"]["platform"] = json!(conflict.platform);
        }
    }
    if values {
        for (name, value) in [("before", &field.before), ("after", &field.after)] {
            if let Some(value) = value {
                shown[name] = json!(value.as_deref());
            }
        }
    }
    shown
}

fn shown(customer: &Customer, plan: &Preview, args: &Args) -> String {
    let outcome = match plan.outcome {
        Outcome::Idle => "nothing changed: no run",
        Outcome::Paused => "it is paused: no run",
        Outcome::Run => "a run would do this now; nothing was written",
        Outcome::Load => "a first load would do this now; nothing was written",
    };
    let mut text = format!("customer {}: {outcome}", customer.slug);
    for note in &plan.notes {
        let entity = note.entity.as_ref().map(|entity| format!("{entity}: ")).unwrap_or_default();
        text.push_str(&format!("\nnote: {entity}{}", out::plain(&note.text)));
    }
    if matches!(plan.outcome, Outcome::Idle | Outcome::Paused) {
        return text;
    }
    if !plan.complete {
        let end = out::grouped(i64::from(args.up_to));
        text.push_str(&format!(
            "\nnote: the plan ended after {end} records to be written or listed, and there is more: see --up-to, or plan one --entity"
        ));
    }
    text.push_str(&format!("\n{}\n", counts(plan)));
    for row in &plan.rows {
        text.push_str(&format!("{}\n", row.told(args.show_values)));
    }
    if args.limit > 0 && plan.rows.len() == args.limit as usize {
        text.push_str(&format!("… the first {} rows; --limit shows more, --kind only some\n", args.limit));
    }
    text.push_str(NOT_FORESEEN);
    text
}

fn counts(plan: &Preview) -> out::Table {
    let mut table = out::table(&[
        "entity",
        "new on platform",
        "new on legacy",
        "changed on platform",
        "changed on legacy",
        "deleted on platform",
        "deleted on legacy",
        "adopted",
        "recorded",
        "conflicts",
        "listed",
        "parked",
        "quarantined",
        "unchanged",
    ]);
    let all = EntityKinds {
        entity: "all".into(),
        kinds: plan.by_kind,
        rows_read: plan.rows_read,
        rows_unchanged: plan.rows_unchanged,
    };
    for one in plan.entities.iter().chain((plan.entities.len() > 1).then_some(&all)) {
        let tally = &one.kinds.tally;
        let numbers = [
            tally.creates_to_platform,
            tally.creates_to_legacy,
            tally.updates_to_platform,
            tally.updates_to_legacy,
            tally.deletes_to_platform,
            tally.deletes_to_legacy,
            tally.adopted,
            tally.recorded,
            tally.conflicts,
            tally.listed,
            one.kinds.parked,
            one.kinds.quarantined,
            one.rows_unchanged,
        ];
        let cells = numbers.into_iter().map(out::count);
        table.add_row(std::iter::once(out::text(&one.entity)).chain(cells).collect::<Vec<_>>());
    }
    table
}
