//! The console: what an operator asks and does, in a browser. Owns: words, tables and pictures, and who may see them. Never: a question to
//! a database of its own; each page and action is a function of `ops`, or of `stages` for what lies on the sides.

mod access;
mod actions;
mod answer;
mod api;
mod charts;
mod configuration;
mod conflicts;
mod customer;
mod dead_letters;
mod frame;
mod health;
mod login;
mod overview;
mod quarantine;
mod reconciliation;
mod record;
mod run;

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::{ConnectInfo, FromRef, OriginalUri, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use http_body_util::LengthLimitError;
use hyper::Request;
use hyper::service::{Service as _, service_fn};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::access::Access;
pub use self::access::Tokens;
use self::answer::{Problem, QUEUE_MAX};
use crate::clock;
use crate::config::{Customer, CustomerId, EntityId, Side};
use crate::health::Health;
use crate::jobs::Env;
use crate::listening::{self, Arriving, Bounds};
use crate::ops::{self, REASON_MAX, Scope};
use crate::roster::Roster;

/// A form holds ids and a reason.
const BODY_MAX: usize = 1 << 20;

/// What the arrival of a request may take whose sender is not logged in, as its head may. Whoever is has as long as for a page.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);

/// What a page may take; a database that is slower than this is told so.
const PAGE_MAX: Duration = Duration::from_secs(20);

/// Requests answered at a time: far more than people and programs have under way, far fewer than a process may have files open.
const REQUESTS_AT_ONCE: usize = 64;

/// What a request may take with its answer and whoever reads it.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// What running requests may take of a stop.
const STOP_MAX: Duration = Duration::from_secs(3);

/// Everything a page needs, as it is when it is asked for.
pub struct Console {
    env: Env,
    health: Health,
    access: Arc<Access>,
    /// Whether values of rows are shown; keys always are.
    show_values: bool,
}

/// What lasts longer than a request.
#[derive(Clone)]
struct Door {
    roster: Roster,
    health: Health,
    access: Arc<Access>,
    show_values: bool,
}

impl FromRef<Door> for Arc<Console> {
    fn from_ref(door: &Door) -> Arc<Console> {
        let Door { roster, health, access, show_values } = door.clone();
        Arc::new(Console { env: roster.now(), health, access, show_values })
    }
}

/// How the console is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    pub address: SocketAddr,
    pub tokens: Tokens,
    pub show_values: bool,
}

/// A console that listens.
pub struct Listening {
    /// With the port that it has, for port 0.
    pub address: SocketAddr,
    listener: TcpListener,
    router: Router,
    roster: Roster,
}

/// Listens; answers nobody yet.
///
/// # Errors
/// An address that cannot be had; one that others can reach, without tokens.
pub async fn listen(env: Env, health: Health, settings: Settings) -> anyhow::Result<Listening> {
    let Settings { address, tokens, show_values } = settings;
    let access = Access::new(address, tokens)?;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("listening on {address} for the console"))?;
    let address = listener.local_addr().with_context(|| format!("listening on {address} for the console"))?;
    let roster = Roster::of(env);
    let router = router(Door { roster: roster.clone(), health, access: Arc::new(access), show_values });
    Ok(Listening { address, listener, router, roster })
}

impl Listening {
    /// Answers until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        tracing::info!("console: http://{}/", self.address);
        let router = TowerToHyperService::new(self.router);
        let service = |from: SocketAddr| {
            let router = router.clone();
            service_fn(move |mut request: Request<Arriving>| {
                request.extensions_mut().insert(ConnectInfo(from));
                router.call(request)
            })
        };
        let bounds = Bounds { at_once: REQUESTS_AT_ONCE, whole: REQUEST_MAX };
        // Ends by `stop` alone, as what is served does.
        let kept = async { futures::join!(self.roster.keep(stop.clone()), std::future::pending::<()>()) };
        tokio::select! {
            _ = kept => {}
            () = listening::serve(self.listener, bounds, &stop, service) => {}
            // Who does not read an answer does not keep the process.
            () = async { stop.cancelled().await; clock::sleep(STOP_MAX).await } => {}
        }
    }
}

fn router(door: Door) -> Router {
    let routes = Router::new()
        .route("/", get(overview::page))
        .route("/customers/{customer}", get(customer::page))
        .route("/customers/{customer}/pause", post(customer::pause))
        .route("/customers/{customer}/resume", post(customer::resume))
        .route("/customers/{customer}/tick", post(customer::tick))
        .route("/customers/{customer}/records", get(record::page))
        .route("/runs/{run}", get(run::page))
        .route("/dead-letters", get(dead_letters::page))
        .route("/dead-letters/{id}", get(dead_letters::one))
        .route("/dead-letters/act", post(dead_letters::act))
        .route("/quarantine", get(quarantine::page))
        .route("/quarantine/retry", post(quarantine::retry))
        .route("/conflicts", get(conflicts::page))
        .route("/conflicts/{customer}/{entity}/{id}", get(conflicts::one).post(conflicts::act))
        .route("/reconciliation", get(reconciliation::page))
        .route("/actions", get(actions::page))
        .route("/configuration", get(configuration::page))
        .route("/health", get(health::page))
        .route("/login", get(login::page).post(login::enter))
        .route("/logout", post(login::leave))
        .route("/assets/{name}", get(asset))
        .nest("/api/v1", api::router())
        .route("/livez", get(probe))
        .route("/readyz", get(probe))
        .fallback(nowhere)
        .layer(axum::middleware::from_fn_with_state(door.clone(), bounded))
        .layer(axum::middleware::from_fn_with_state(door.clone(), access::only_local))
        .with_state(door.clone());
    // Around all of them, not around each: what a path takes instead of a method that it does not is known only here.
    Router::new().fallback_service(routes).layer(axum::middleware::from_fn_with_state(door, answer::finished))
}

/// Why somebody does something: to be said, in a sentence or two.
fn reason(given: &str) -> Result<&str, Problem> {
    let said = || format!("Say why, in at most {REASON_MAX} characters: it is kept with what is done.");
    ops::reason(given).ok_or_else(|| Problem::Bad(said()))
}

/// Has a request here whole before it is looked at, and an answer in time.
async fn bounded(
    State(console): State<Arc<Console>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let is_known = console.access.known(&parts.headers, clock::now()).is_some();
    let arrival_max = if is_known { PAGE_MAX } else { ARRIVAL_MAX };
    let body = match clock::within(arrival_max, to_bytes(body, BODY_MAX)).await {
        Some(Ok(body)) => body,
        Some(Err(error)) if error.source().is_some_and(|why| why.is::<LengthLimitError>()) => {
            let said = format!("A request has {BODY_MAX} bytes at most.");
            return Problem::Unread(StatusCode::PAYLOAD_TOO_LARGE, said).into_response();
        }
        Some(Err(_)) => return Problem::Bad("The request was cut off.".into()).into_response(),
        None => {
            let said = format!("The request was not here within {} s.", arrival_max.as_secs());
            return Problem::Unread(StatusCode::REQUEST_TIMEOUT, said).into_response();
        }
    };
    let changes_nothing = parts.method.is_safe();
    let request = axum::extract::Request::from_parts(parts, body.into());
    let late =
        |max: Duration| Problem::Failed(format!("There was no answer within {} s.", max.as_secs())).into_response();
    tokio::select! {
        biased;
        answer = clock::within(PAGE_MAX, next.run(request)) => answer.unwrap_or_else(|| late(PAGE_MAX)),
        // Nobody waits for what will not come.
        () = queue_is_away(&console), if changes_nothing => late(QUEUE_MAX),
    }
}

/// Ends once a page is slow because the queue database does not answer.
async fn queue_is_away(console: &Console) {
    clock::sleep(QUEUE_MAX).await;
    if answer::queue_answers(console).await {
        std::future::pending().await
    }
}

/// What no route answers to.
async fn nowhere(OriginalUri(uri): OriginalUri) -> Problem {
    Problem::NotFound(match uri.path().starts_with("/api/") {
        true => format!("There is nothing at {}: GET /api/v1/openapi.json says what there is.", uri.path()),
        false => "There is no such page.".into(),
    })
}

/// As on the port of `--health-listen`.
async fn probe(State(console): State<Arc<Console>>, uri: axum::http::Uri) -> Result<impl IntoResponse, Problem> {
    let known = console.health.answer(uri.path());
    let (status, body) = known.ok_or_else(|| Problem::NotFound("There is no such page.".into()))?;
    Ok((status, axum::Json(body)))
}

async fn asset(axum::extract::Path(name): axum::extract::Path<String>) -> Result<impl IntoResponse, Problem> {
    let (kind, body) = match name.as_str() {
        "console.css" => ("text/css; charset=utf-8", include_str!("assets/console.css")),
        "console.js" => ("text/javascript; charset=utf-8", include_str!("assets/console.js")),
        "icon.svg" => ("image/svg+xml", include_str!("assets/icon.svg")),
        _ => return Err(Problem::NotFound("There is no such file.".into())),
    };
    Ok(([(header::CONTENT_TYPE, kind)], body))
}

impl Console {
    /// The customer of this id or slug.
    fn customer(&self, named: &str) -> Result<&Customer, Problem> {
        let found = self.env.config.customer_named(named);
        found.ok_or_else(|| Problem::NotFound(format!("There is no customer {named} in this console's configuration.")))
    }

    /// The one that is named, if any is.
    fn customer_asked(&self, named: Option<&str>) -> Result<Option<&Customer>, Problem> {
        named.filter(|named| !named.is_empty()).map(|named| self.customer(named)).transpose()
    }

    fn entity_asked(&self, named: Option<&str>) -> Result<Option<&EntityId>, Problem> {
        let Some(named) = named.filter(|named| !named.is_empty()) else { return Ok(None) };
        let found = self.env.config.entities().map(|entity| &entity.id).find(|id| id.as_str() == named);
        found
            .map(Some)
            .ok_or_else(|| Problem::NotFound(format!("There is no entity {named} in this console's configuration.")))
    }

    /// What is to be paused, or to go on; empty is as good as not said.
    fn scope<'s>(
        &self,
        customer: &'s CustomerId,
        entity: Option<&'s str>,
        direction: Option<&'s str>,
    ) -> Result<Scope<'s>, Problem> {
        self.entity_asked(entity)?;
        let entity = entity.filter(|entity| !entity.is_empty());
        let toward = direction.filter(|direction| !direction.is_empty()).map(|direction| {
            let side = Side::BOTH.into_iter().find(|side| side.direction() == direction);
            side.ok_or_else(|| Problem::Bad(format!("{direction} is no direction: to-legacy or to-platform")))
        });
        Ok(Scope { customer: customer.as_str(), entity, toward: toward.transpose()? })
    }

    /// Ids and slugs, for a choice.
    fn customers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.config.customers.iter().map(|customer| (customer.id.as_str(), customer.slug.as_str()))
    }

    /// As people call a customer.
    fn slug<'c>(&'c self, customer: &'c str) -> &'c str {
        let known = self.env.config.customers.iter().find(|known| known.id.as_str() == customer);
        known.map_or(customer, |known| known.slug.as_str())
    }
}
