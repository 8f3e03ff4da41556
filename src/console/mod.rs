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
mod run;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::access::Access;
pub use self::access::Tokens;
use self::answer::Problem;
use crate::clock;
use crate::config::{Customer, CustomerId, EntityId, Side};
use crate::health::Health;
use crate::jobs::Env;
use crate::ops::Scope;
use crate::roster::Roster;

/// A form holds ids and a reason.
const BODY_MAX: usize = 1 << 20;

/// What a page may take; a database that is slower than this is told so.
const PAGE_MAX: Duration = Duration::from_secs(20);

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
    ///
    /// # Errors
    /// The listener's.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        tracing::info!("console: http://{}/", self.address);
        let ended = stop.clone();
        let service = self.router.into_make_service_with_connect_info::<SocketAddr>();
        let serving =
            axum::serve(self.listener, service).with_graceful_shutdown(async move { ended.cancelled().await });
        // Ends by `stop` alone, as what is served does.
        let kept = async { futures::join!(self.roster.keep(stop.clone()), std::future::pending::<()>()) };
        tokio::select! {
            _ = kept => Ok(()),
            done = serving.into_future() => done.context("serving the console"),
            // A browser that keeps its connection open does not keep the process.
            () = async { stop.cancelled().await; clock::sleep(STOP_MAX).await } => Ok(()),
        }
    }
}

fn router(door: Door) -> Router {
    Router::new()
        .route("/", get(overview::page))
        .route("/customers/{customer}", get(customer::page))
        .route("/customers/{customer}/pause", post(customer::pause))
        .route("/customers/{customer}/resume", post(customer::resume))
        .route("/customers/{customer}/tick", post(customer::tick))
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
        .fallback(async || Problem::NotFound("There is no such page.".into()))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX))
        .layer(axum::middleware::from_fn(bounded))
        .layer(axum::middleware::from_fn_with_state(door.clone(), access::only_local))
        .layer(axum::middleware::from_fn_with_state(door.clone(), answer::finished))
        .with_state(door)
}

async fn bounded(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    match clock::within(PAGE_MAX, next.run(request)).await {
        Some(response) => response,
        None => Problem::Failed(format!("There was no answer within {} s.", PAGE_MAX.as_secs())).into_response(),
    }
}

/// The console's own health; that of loops only where they run in this process.
async fn probe(State(console): State<Arc<Console>>, uri: axum::http::Uri) -> impl IntoResponse {
    let alone = !console.health.has_parts() && uri.path() == "/readyz";
    let known = if alone { None } else { console.health.answer(uri.path()) };
    let (status, body) = known.unwrap_or_else(|| (StatusCode::OK, serde_json::json!({ "ready": true })));
    (status, axum::Json(body))
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
