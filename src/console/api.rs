//! The same questions and actions for programs: `/api/v1`, described in `assets/openapi.json`. A bearer token opens it where the
//! console has tokens.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Actor, Visitor};
use super::answer::{Answer, Problem};
use super::{Console, Door, conflicts, customer, dead_letters, quarantine};
use crate::config::CustomerId;
use crate::ops::{self, Intended, Scope, Selection, Which};
use crate::stages::ConflictField;

const RUNS_MAX: u32 = 1_000;
const PAGES_MAX: u32 = 10_000;
const DIFFERENCES_MAX: u32 = 10_000;
const CONFLICTS_MAX: u32 = 10_000;
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
        .route("/runs/{run}", get(run))
        .route("/dead-letters", get(letters))
        .route("/dead-letters/{id}", get(letter))
        .route("/dead-letters/requeue", post(requeue))
        .route("/dead-letters/discard", post(discard))
        .route("/quarantine", get(quarantined))
        .route("/quarantine/retry", post(retry))
        .route("/actions", get(actions))
        .route("/queues", get(queues))
}

type Answered = Result<Json<Value>, Problem>;

fn json_of(value: impl serde::Serialize) -> Answered {
    Ok(Json(serde_json::to_value(value).map_err(|error| Problem::Failed(error.to_string()))?))
}

async fn openapi(_: Visitor) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("assets/openapi.json"))
}

async fn customers(State(console): State<Arc<Console>>, _: Visitor) -> Answered {
    json_of(ops::status(&console.env.queue, &console.env.config).await?)
}

async fn customer(State(console): State<Arc<Console>>, _: Visitor, Path(named): Path<String>) -> Answered {
    let customer = console.customer(&named)?;
    let found = ops::status_of(&console.env.queue, &console.env.config, &customer.id).await?;
    json_of(found.ok_or_else(|| Problem::NotFound(format!("There is no customer {named}.")))?)
}

#[derive(Deserialize)]
struct Limited {
    limit: Option<u32>,
    minutes: Option<u32>,
    kind: Option<String>,
    state: Option<String>,
    entity: Option<String>,
    customer: Option<String>,
    #[serde(default)]
    all: bool,
}

async fn runs(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Limited>,
) -> Answered {
    let limit = asked.limit.unwrap_or(50).min(RUNS_MAX);
    json_of(ops::runs(&console.env.queue, &console.customer(&named)?.id, limit).await?)
}

async fn run(State(console): State<Arc<Console>>, _: Visitor, Path(id): Path<i64>) -> Answered {
    let found = ops::run(&console.env.queue, id, PAGES_MAX).await?;
    json_of(found.ok_or_else(|| Problem::NotFound(format!("There is no run {id}, or it is too old to be kept.")))?)
}

async fn rates(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Limited>,
) -> Answered {
    let minutes = asked.minutes.unwrap_or(60).clamp(1, MINUTES_MAX);
    json_of(ops::rates(&console.env.queue, &console.customer(&named)?.id, minutes).await?)
}

async fn freshness(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Limited>,
) -> Answered {
    let minutes = asked.minutes.unwrap_or(60).clamp(1, MINUTES_MAX);
    json_of(ops::freshness(&console.env.queue, &console.customer(&named)?.id, minutes).await?)
}

async fn reconciliation(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Limited>,
) -> Answered {
    let limit = asked.limit.unwrap_or(1_000).min(DIFFERENCES_MAX);
    let customer = &console.customer(&named)?.id;
    json_of(ops::reconciliation(&console.env.queue, customer, asked.kind.as_deref(), limit).await?)
}

async fn conflict_list(
    State(console): State<Arc<Console>>,
    _: Visitor,
    Path(named): Path<String>,
    Query(asked): Query<Limited>,
) -> Answered {
    let (customer, entity) = (&console.customer(&named)?.id, console.entity_asked(asked.entity.as_deref())?);
    let limit = asked.limit.unwrap_or(200).min(CONFLICTS_MAX);
    let mut entries = ops::conflicts(&console.env.data, customer, entity, asked.state.as_deref(), limit.into()).await?;
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
        fields.iter_mut().for_each(|field| (field.legacy, field.platform) = (None, None));
    }
}

#[derive(Deserialize)]
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

async fn letters(State(console): State<Arc<Console>>, _: Visitor, Query(asked): Query<Limited>) -> Answered {
    let customer = console.customer_asked(asked.customer.as_deref())?.map(|customer| customer.id.clone());
    let entity = console.entity_asked(asked.entity.as_deref())?.cloned();
    let selection = Selection { customer, entity, error_kind: asked.kind, ..Selection::default() };
    json_of(ops::dead_letters(&console.env.queue, &selection, asked.all).await?)
}

async fn letter(State(console): State<Arc<Console>>, _: Visitor, Path(id): Path<i64>) -> Answered {
    let found = ops::dead_letter(&console.env.queue, id).await?;
    json_of(found.ok_or_else(|| Problem::NotFound(format!("There is no dead letter {id}.")))?)
}

/// Which are meant; something has to be said.
#[derive(Deserialize)]
struct Dealing {
    #[serde(default)]
    ids: Vec<i64>,
    customer: Option<String>,
    entity: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    all: bool,
    reason: String,
}

impl Dealing {
    fn selection(&self, console: &Console) -> Result<Selection, Problem> {
        let Dealing { ids, customer, entity, kind, all, .. } = self;
        if !all && ids.is_empty() && customer.is_none() && entity.is_none() && kind.is_none() {
            return Err(Problem::Bad("say which are meant: ids, customer, entity, kind or all".into()));
        }
        Ok(Selection {
            ids: ids.clone(),
            customer: console.customer_asked(customer.as_deref())?.map(|customer| customer.id.clone()),
            entity: console.entity_asked(entity.as_deref())?.cloned(),
            error_kind: kind.clone(),
            ..Selection::default()
        })
    }
}

async fn requeue(State(console): State<Arc<Console>>, Actor(visitor): Actor, Json(asked): Json<Dealing>) -> Answered {
    let selection = asked.selection(&console)?;
    let (count, _) = dead_letters::deal(&console, &visitor, "requeue", &selection, &asked.reason).await?;
    Ok(Json(json!({ "requeued": count })))
}

async fn discard(State(console): State<Arc<Console>>, Actor(visitor): Actor, Json(asked): Json<Dealing>) -> Answered {
    let selection = asked.selection(&console)?;
    let (count, _) = dead_letters::deal(&console, &visitor, "discard", &selection, &asked.reason).await?;
    Ok(Json(json!({ "discarded": count })))
}

async fn quarantined(State(console): State<Arc<Console>>, _: Visitor, Query(asked): Query<Limited>) -> Answered {
    let customer = console.customer_asked(asked.customer.as_deref())?.map(|customer| &customer.id);
    let which = Which { customer, entity: console.entity_asked(asked.entity.as_deref())?, ids: &[] };
    json_of(ops::quarantine(&console.env.queue, which).await?)
}

async fn retry(State(console): State<Arc<Console>>, Actor(visitor): Actor, Json(asked): Json<Dealing>) -> Answered {
    if !asked.all && asked.ids.is_empty() && asked.customer.is_none() && asked.entity.is_none() {
        return Err(Problem::Bad("say which are meant: ids, customer, entity or all".into()));
    }
    let customer = console.customer_asked(asked.customer.as_deref())?.map(|customer| &customer.id);
    let which = Which { customer, entity: console.entity_asked(asked.entity.as_deref())?, ids: &asked.ids };
    let count = quarantine::again(&console, &visitor, which, &asked.reason).await?;
    Ok(Json(json!({ "due": count })))
}

#[derive(Deserialize)]
struct Scoped {
    entity: Option<String>,
    direction: Option<String>,
    reason: String,
    #[serde(default)]
    accept_deletes: bool,
}

impl Scoped {
    fn scope<'s>(&'s self, console: &Console, customer: &'s CustomerId) -> Result<Scope<'s>, Problem> {
        if self.reason.trim().is_empty() {
            return Err(Problem::Bad("say why: it is kept with what is done".into()));
        }
        console.scope(customer, self.entity.as_deref(), self.direction.as_deref())
    }

    fn intended<'i>(
        &'i self,
        visitor: &'i Visitor,
        action: &'i str,
        scope: Scope<'i>,
        subject: &'i str,
    ) -> Intended<'i> {
        Intended { who: &visitor.who, action, customer: Some(scope.customer), subject, reason: &self.reason }
    }
}

async fn pause(
    State(console): State<Arc<Console>>,
    Actor(visitor): Actor,
    Path(named): Path<String>,
    Json(asked): Json<Scoped>,
) -> Answered {
    let customer = &console.customer(&named)?.id;
    let (scope, queue) = (asked.scope(&console, customer)?, &console.env.queue);
    let subject = customer::told(scope);
    let left = ops::act(queue, asked.intended(&visitor, "pause", scope, &subject), async {
        let left = ops::pause(queue, scope, &visitor.who, &asked.reason).await?;
        Ok((left.clone(), format!("paused; {} pauses now", left.len())))
    });
    Ok(Json(json!({ "paused": left.await? })))
}

async fn resume(
    State(console): State<Arc<Console>>,
    Actor(visitor): Actor,
    Path(named): Path<String>,
    Json(asked): Json<Scoped>,
) -> Answered {
    let customer = &console.customer(&named)?.id;
    let (scope, queue) = (asked.scope(&console, customer)?, &console.env.queue);
    let subject = customer::told(scope);
    let done = ops::act(queue, asked.intended(&visitor, "resume", scope, &subject), async {
        let (ended, left) = ops::resume(queue, scope, false, asked.accept_deletes).await?;
        let told = format!("{ended} pauses ended, {} are left", left.len());
        Ok(((ended, left), told))
    });
    let (ended, left) = done.await?;
    Ok(Json(json!({ "ended": ended, "paused": left })))
}

async fn tick(
    State(console): State<Arc<Console>>,
    Actor(visitor): Actor,
    Path(named): Path<String>,
    Json(asked): Json<Scoped>,
) -> Answered {
    let (customer, queue) = (&console.customer(&named)?.id, &console.env.queue);
    let scope = asked.scope(&console, customer)?;
    let subject = customer::told(scope);
    let id = ops::act(queue, asked.intended(&visitor, "run now", scope, &subject), async {
        let id = ops::tick_now(queue, customer).await?;
        Ok((id, "a tick waits".to_owned()))
    });
    Ok(Json(json!({ "tick": id.await? })))
}

async fn actions(State(console): State<Arc<Console>>, _: Visitor, Query(asked): Query<Limited>) -> Answered {
    let customer = console.customer_asked(asked.customer.as_deref())?.map(|customer| &customer.id);
    json_of(ops::actions(&console.env.queue, customer, asked.limit.unwrap_or(200).min(RUNS_MAX)).await?)
}

async fn queues(State(console): State<Arc<Console>>, _: Visitor) -> Result<Json<Value>, Answer> {
    let queues = ops::queue_depth(&console.env.queue).await?;
    let (workers, away) = ops::workers(&console.env.queue).await?;
    Ok(Json(json!({ "queues": queues, "workers": workers, "away": away })))
}
