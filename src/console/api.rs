//! The same questions and actions for programs: `/api/v1`, described in `assets/openapi.json`, to which the shapes of the answers are added
//! as their types have them. A bearer token opens it where the console has tokens.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::{Actor, Visitor};
use super::answer::Problem;
use super::{Console, Door, conflicts, dead_letters, quarantine, record};
use crate::config::Side;
use crate::ops::{
    self, Action, AtWork, By, CustomerStatus, DEAD_KINDS, DeadLetter, DeadLetterShown, DealtWith, Minute, Parked,
    QuarantinedRow, QueueDepth, Reconciliation, RecordTold, RunListed, RunShown, Selection, Settled, Which,
};
use crate::stages::{ConflictEntry, ConflictField, DifferenceKind};
use crate::told::grouped;

const RUNS_MAX: u32 = 1_000;
const PAGES_MAX: u32 = 10_000;
const DIFFERENCES_MAX: u32 = 10_000;
const CONFLICTS_MAX: u32 = 10_000;
const PARKED_MAX: u32 = 10_000;
const QUARANTINED_MAX: u32 = 10_000;
const LETTERS_MAX: u32 = 10_000;
const ACTIONS_MAX: u32 = 1_000;
const MINUTES_MAX: u32 = 24 * 60;

pub(super) fn router() -> Router<Door> {
    Router::new()
        .route("/openapi.json", get(openapi))
        .route("/customers", get(customers))
        .route("/customers/{customer}", get(customer))
        .route("/customers/{customer}/runs", get(runs))
        .route("/customers/{customer}/rates", get(rates))
        .route("/customers/{customer}/freshness", get(freshness))
        .route("/customers/{customer}/reconciliation", get(reconciliation))
        .route("/customers/{customer}/conflicts", get(conflict_list))
        .route("/customers/{customer}/conflicts/{entity}/{id}", get(conflict).post(decide))
        .route("/customers/{customer}/pause", post(pause))
        .route("/customers/{customer}/resume", post(resume))
        .route("/customers/{customer}/tick", post(tick))
        .route("/customers/{customer}/records/{entity}/{key}", get(explained))
        .route("/runs/{run}", get(run))
        .route("/dead-letters", get(letters))
        .route("/dead-letters/{id}", get(letter))
        .route("/dead-letters/requeue", post(requeue))
        .route("/dead-letters/discard", post(discard))
        .route("/quarantine", get(quarantined))
        .route("/quarantine/retry", post(retry))
        .route("/parked", get(parked))
        .route("/actions", get(actions))
        .route("/queues", get(queues))
}

type Answered = Result<Json<Value>, Problem>;

fn json_of(value: impl serde::Serialize) -> Answered {
    Ok(Json(serde_json::to_value(value).map_err(|error| Problem::Failed(error.to_string()))?))
}

async fn openapi(_: Visitor) -> Json<&'static Value> {
    Json(&DOCUMENT)
}

/// The document, with the shape of each answer as its type has it.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let within = |settings: &mut SchemaSettings| settings.definitions_path = "/components/schemas".into();
    let mut shapes = SchemaSettings::draft2020_12().for_serialize().with(within).into_generator();
    for shape in [
        SchemaGenerator::subschema_for::<CustomerStatus>,
        SchemaGenerator::subschema_for::<RunListed>,
        SchemaGenerator::subschema_for::<RunShown>,
        SchemaGenerator::subschema_for::<Minute>,
        SchemaGenerator::subschema_for::<Settled>,
        SchemaGenerator::subschema_for::<Reconciliation>,
        SchemaGenerator::subschema_for::<ConflictEntry>,
        SchemaGenerator::subschema_for::<DeadLetter>,
        SchemaGenerator::subschema_for::<DeadLetterShown>,
        SchemaGenerator::subschema_for::<QuarantinedRow>,
        SchemaGenerator::subschema_for::<Parked>,
        SchemaGenerator::subschema_for::<Action>,
        SchemaGenerator::subschema_for::<Queues>,
        SchemaGenerator::subschema_for::<RecordTold<'static>>,
    ] {
        shape(&mut shapes);
    }
    let mut document: Value = serde_json::from_str(include_str!("assets/openapi.json")).unwrap_or_default();
    if let Some(known) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        known.extend(shapes.take_definitions(true));
    }
    document
});

async fn customers(State(console): State<Arc<Console>>, _: Visitor) -> Answered {
    json_of(ops::status(&console.env.queue, &console.env.config).await?)
}

async fn customer(State(console): State<Arc<Console>>, _: Visitor, Path(named): Path<String>) -> Answered {
    let customer = console.customer(&named)?;
    let found = ops::status_of(&console.env.queue, &console.env.config, &customer.id).await?;
    json_of(found.ok_or_else(|| Problem::NotFound(format!("There is no customer {named}.")))?)
}

/// A name that somebody gives. One that says nothing is a mistake, like a script's variable that is not set, and never means all.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Named(String);

impl TryFrom<String> for Named {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Named, &'static str> {
        let says_something = !name.trim().is_empty();
        says_something.then_some(Named(name)).ok_or("an empty name names nothing: leave it out if any is meant")
    }
}

fn name(named: &Option<Named>) -> Option<&str> {
    named.as_ref().map(|Named(name)| name.as_str())
}

/// One of those there are.
fn known<'n>(what: &str, named: &'n Option<Named>, all: &[&str]) -> Result<Option<&'n str>, Problem> {
    match name(named) {
        Some(name) if !all.contains(&name) => {
            Err(Problem::Bad(format!("There is no {what} {name}: there are {}.", all.join(", "))))
        }
        name => Ok(name),
    }
}

/// How many are asked for, where that is bounded: what is cut in silence would be taken for all there is.
fn bounded(what: &str, asked: Option<u32>, usual: u32, max: u32) -> Result<u32, Problem> {
    let said = |asked| Problem::Bad(format!("{what} is from 1 to {}, not {}.", grouped(max.into()), grouped(asked)));
    match asked.unwrap_or(usual) {
        asked if (1..=max).contains(&asked) => Ok(asked),
        asked => Err(said(asked.into())),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Newest {
    limit: Option<u32>,
}

async fn runs(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Newest>,
) -> Answered {
    let limit = bounded("limit", asked.limit, 50, RUNS_MAX)?;
    json_of(ops::runs(&console.env.queue, &console.customer(&named)?.id, limit).await?)
}

async fn run(State(console): State<Arc<Console>>, _: Visitor, Path(id): Path<i64>) -> Answered {
    let found = ops::run(&console.env.queue, id, PAGES_MAX).await?;
    json_of(found.ok_or_else(|| Problem::NotFound(format!("There is no run {id}, or it is too old to be kept.")))?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Latest {
    minutes: Option<u32>,
}

async fn rates(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Latest>,
) -> Answered {
    let minutes = bounded("minutes", asked.minutes, 60, MINUTES_MAX)?;
    json_of(ops::rates(&console.env.queue, &console.customer(&named)?.id, minutes).await?)
}

async fn freshness(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Latest>,
) -> Answered {
    let minutes = bounded("minutes", asked.minutes, 60, MINUTES_MAX)?;
    json_of(ops::freshness(&console.env.queue, &console.customer(&named)?.id, minutes).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Differences {
    kind: Option<Named>,
    limit: Option<u32>,
}

async fn reconciliation(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Differences>,
) -> Answered {
    let limit = bounded("limit", asked.limit, 1_000, DIFFERENCES_MAX)?;
    let customer = &console.customer(&named)?.id;
    let kind = known("kind", &asked.kind, &DifferenceKind::ALL.map(DifferenceKind::as_str))?;
    json_of(ops::reconciliation(&console.env.queue, customer, kind, limit).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfSide {
    side: Option<Named>,
}

async fn explained(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path((named, entity, key)): Path<(String, String, String)>,
    Query(asked): Query<OfSide>,
) -> Answered {
    let customer = console.customer(&named)?;
    let side = known("side", &asked.side, &Side::BOTH.map(Side::as_str))?.unwrap_or_default().to_owned();
    let found = record::find(&console, customer, &record::Asked { entity, side, key }).await?;
    let found = found.ok_or_else(|| Problem::NotFound("There is no such record, neither a row nor a pair.".into()))?;
    json_of(found.told(&customer.slug, console.show_values))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    entity: Option<Named>,
    state: Option<Named>,
    limit: Option<u32>,
}

async fn conflict_list(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Entries>,
) -> Answered {
    let (customer, entity) = (&console.customer(&named)?.id, console.entity_asked(name(&asked.entity))?);
    let state = known("state", &asked.state, &conflicts::STATES.map(|(state, _)| state))?;
    let limit = bounded("limit", asked.limit, 200, CONFLICTS_MAX)?;
    let found = ops::conflicts(&console.env.data, customer, entity, state, limit.into()).await?;
    // A list that is not whole would be taken for one that is.
    if let Some(missing) = found.missing() {
        return Err(Problem::Failed(format!("{missing}\nThose of one entity: ?entity=…")));
    }
    let mut entries = found.entries;
    entries.iter_mut().for_each(|entry| mask(&console, &mut entry.fields));
    json_of(entries)
}

async fn conflict(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path((named, entity, id)): Path<(String, String, i64)>,
) -> Answered {
    let mut entry = conflicts::find(&console, console.customer(&named)?, &entity, id).await?;
    mask(&console, &mut entry.fields);
    json_of(entry)
}

/// Values are the customer's data.
fn mask(console: &Console, fields: &mut [ConflictField]) {
    if !console.show_values {
        fields.iter_mut().for_each(ConflictField::hide);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deciding {
    act: String,
    reason: String,
}

async fn decide(
    State(console): State<Arc<Console>>,
    Actor(visitor): Actor,
    Path((named, entity, id)): Path<(String, String, i64)>,
    Json(asked): Json<Deciding>,
) -> Answered {
    let told = conflicts::decide(&console, &visitor, (&named, &entity, id), &asked.act, &asked.reason).await?;
    Ok(Json(json!({ "done": told })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Letters {
    customer: Option<Named>,
    entity: Option<Named>,
    kind: Option<Named>,
    #[serde(default)]
    all: bool,
    limit: Option<u32>,
}

async fn letters(State(console): State<Arc<Console>>, _: Visitor, Query(asked): Query<Letters>) -> Answered {
    let selection = Selection {
        customer: console.customer_asked(name(&asked.customer))?.map(|customer| customer.id.clone()),
        entity: console.entity_asked(name(&asked.entity))?.cloned(),
        error_kind: known("kind", &asked.kind, &DEAD_KINDS)?.map(str::to_owned),
        ..Selection::default()
    };
    let limit = bounded("limit", asked.limit, LETTERS_MAX, LETTERS_MAX)?;
    json_of(ops::dead_letters(&console.env.queue, &selection, asked.all, limit).await?)
}

async fn letter(State(console): State<Arc<Console>>, _: Visitor, Path(id): Path<i64>) -> Answered {
    let found = ops::dead_letter(&console.env.queue, id).await?;
    json_of(found.ok_or_else(|| Problem::NotFound(format!("There is no dead letter {id}.")))?)
}

/// Which dead letters are meant; something has to be said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dealing {
    ids: Option<Vec<i64>>,
    customer: Option<Named>,
    entity: Option<Named>,
    kind: Option<Named>,
    #[serde(default)]
    all: bool,
    reason: String,
}

impl Dealing {
    fn selection(&self, console: &Console) -> Result<Selection, Problem> {
        let Dealing { ids, customer, entity, kind, all, .. } = self;
        if !all && ids.is_none() && customer.is_none() && entity.is_none() && kind.is_none() {
            return Err(Problem::Bad("say which are meant: ids, customer, entity, kind or all".into()));
        }
        Ok(Selection {
            ids: chosen(ids.as_deref(), *all)?,
            customer: console.customer_asked(name(customer))?.map(|customer| customer.id.clone()),
            entity: console.entity_asked(name(entity))?.cloned(),
            error_kind: known("kind", kind, &DEAD_KINDS)?.map(str::to_owned),
            ..Selection::default()
        })
    }
}

/// The ids that are named, each once; none where none are to be named. An empty list means none of them, and is no way to say all.
fn chosen(ids: Option<&[i64]>, all: bool) -> Result<Vec<i64>, Problem> {
    match ids {
        Some([]) => Err(Problem::Bad("ids is an empty list: nothing is meant".into())),
        Some(_) if all => Err(Problem::Bad("say ids or all, not both".into())),
        ids => Ok(ids.into_iter().flatten().copied().collect::<BTreeSet<i64>>().into_iter().collect()),
    }
}

/// An id that was named and nothing was done to is a mistake worth a word; the others were dealt with all the same.
fn all_were(done: &DealtWith, what: &str) -> Result<(), Problem> {
    done.left_told().map_or(Ok(()), |left| Err(Problem::Refused(format!("{left}; {what}: {}", done.count))))
}

async fn requeue(State(console): State<Arc<Console>>, Actor(visitor): Actor, Json(asked): Json<Dealing>) -> Answered {
    let selection = asked.selection(&console)?;
    let (done, _) = dead_letters::deal(&console, &visitor, "requeue", &selection, &asked.reason).await?;
    all_were(&done, "requeued")?;
    Ok(Json(json!({ "requeued": done.count })))
}

async fn discard(State(console): State<Arc<Console>>, Actor(visitor): Actor, Json(asked): Json<Dealing>) -> Answered {
    let selection = asked.selection(&console)?;
    let (done, _) = dead_letters::deal(&console, &visitor, "discard", &selection, &asked.reason).await?;
    all_were(&done, "discarded")?;
    Ok(Json(json!({ "discarded": done.count })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    customer: Option<Named>,
    entity: Option<Named>,
    limit: Option<u32>,
}

async fn quarantined(State(console): State<Arc<Console>>, _: Visitor, Query(asked): Query<Rows>) -> Answered {
    let customer = console.customer_asked(name(&asked.customer))?.map(|customer| &customer.id);
    let which = Which { customer, entity: console.entity_asked(name(&asked.entity))?, ids: &[] };
    let limit = bounded("limit", asked.limit, QUARANTINED_MAX, QUARANTINED_MAX)?;
    json_of(ops::quarantine(&console.env.queue, which, limit).await?)
}

async fn parked(State(console): State<Arc<Console>>, _: Visitor, Query(asked): Query<Rows>) -> Answered {
    let customer = console.customer_asked(name(&asked.customer))?.map(|customer| &customer.id);
    let entity = console.entity_asked(name(&asked.entity))?;
    let limit = bounded("limit", asked.limit, 1_000, PARKED_MAX)?;
    json_of(ops::parked(&console.env.queue, customer, entity, limit).await?)
}

/// Which quarantined rows are meant; something has to be said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retrying {
    ids: Option<Vec<i64>>,
    customer: Option<Named>,
    entity: Option<Named>,
    #[serde(default)]
    all: bool,
    reason: String,
}

async fn retry(State(console): State<Arc<Console>>, Actor(visitor): Actor, Json(asked): Json<Retrying>) -> Answered {
    let Retrying { ids, customer, entity, all, reason } = &asked;
    if !all && ids.is_none() && customer.is_none() && entity.is_none() {
        return Err(Problem::Bad("say which are meant: ids, customer, entity or all".into()));
    }
    let ids = chosen(ids.as_deref(), *all)?;
    let customer = console.customer_asked(name(customer))?.map(|customer| &customer.id);
    let which = Which { customer, entity: console.entity_asked(name(entity))?, ids: &ids };
    let done = quarantine::again(&console, &visitor, which, reason).await?;
    all_were(&done, "due")?;
    Ok(Json(json!({ "due": done.count })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pausing {
    entity: Option<Named>,
    direction: Option<Named>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resuming {
    entity: Option<Named>,
    direction: Option<Named>,
    reason: String,
    #[serde(default)]
    accept_deletes: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticking {
    reason: String,
}

async fn pause(
    State(console): State<Arc<Console>>,
    Actor(visitor): Actor,
    Path(named): Path<String>,
    Json(asked): Json<Pausing>,
) -> Answered {
    let (customer, queue) = (&console.customer(&named)?.id, &console.env.queue);
    let scope = console.scope(customer, name(&asked.entity), name(&asked.direction))?;
    let left = ops::pause_by(queue, scope, by(&visitor, &asked.reason)?).await?;
    Ok(Json(json!({ "paused": left })))
}

async fn resume(
    State(console): State<Arc<Console>>,
    Actor(visitor): Actor,
    Path(named): Path<String>,
    Json(asked): Json<Resuming>,
) -> Answered {
    let (customer, queue) = (&console.customer(&named)?.id, &console.env.queue);
    let scope = console.scope(customer, name(&asked.entity), name(&asked.direction))?;
    let by = by(&visitor, &asked.reason)?;
    let (ended, left) = ops::resume_by(queue, scope, false, asked.accept_deletes, by).await?;
    Ok(Json(json!({ "ended": ended, "paused": left })))
}

async fn tick(
    State(console): State<Arc<Console>>,
    Actor(visitor): Actor,
    Path(named): Path<String>,
    Json(asked): Json<Ticking>,
) -> Answered {
    let customer = &console.customer(&named)?.id;
    let id = ops::tick_by(&console.env.queue, customer, by(&visitor, &asked.reason)?).await?;
    Ok(Json(json!({ "tick": id })))
}

fn by<'b>(visitor: &'b Visitor, reason: &'b str) -> Result<By<'b>, Problem> {
    Ok(By { who: &visitor.who, reason: super::reason(reason)? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    customer: Option<Named>,
    limit: Option<u32>,
}

async fn actions(State(console): State<Arc<Console>>, _: Visitor, Query(asked): Query<Done>) -> Answered {
    let customer = console.customer_asked(name(&asked.customer))?.map(|customer| &customer.id);
    let limit = bounded("limit", asked.limit, 200, ACTIONS_MAX)?;
    json_of(ops::actions(&console.env.queue, customer, limit).await?)
}

/// What waits, and who is at work.
#[derive(Serialize, JsonSchema)]
struct Queues {
    queues: Vec<QueueDepth>,
    #[serde(flatten)]
    at_work: AtWork,
}

async fn queues(State(console): State<Arc<Console>>, _: Visitor) -> Answered {
    let queues = ops::queue_depth(&console.env.queue).await?;
    json_of(Queues { queues, at_work: ops::at_work(&console.env.queue).await? })
}
