//! Whether this process works, for whoever starts and stops it: `GET /livez` and `/readyz`. Owns: what its loops last said of
//! themselves, and the two answers. Never: a question to a database; a look at health costs a lock and nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::listening::{self, Arriving, Bounds};

/// A loop that has not gone round for so long will not do so again: its waits are all bounded, the longest at half a minute.
const HOPELESS_AFTER: Duration = Duration::from_secs(300);

/// A probe is answered in less than a millisecond; who is slower than this is no probe.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// Probes answered at a time.
const PROBES_AT_ONCE: usize = 16;

/// What the loops of this process last said of themselves.
#[derive(Clone, Default)]
pub struct Health {
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    parts: Vec<Part>,
    /// There will be no parts: who is answered at all is answered by all there is.
    answers_only: bool,
    stopping: bool,
}

struct Part {
    name: String,
    /// It works if it did what it is there for no longer ago than this.
    within: Duration,
    beat: Instant,
    worked: Option<Instant>,
    /// Why it does not work, once it said so.
    trouble: Option<String>,
    /// What keeps it from being of use though it works.
    hindrance: Option<String>,
}

/// One loop's own line in the process's health.
#[derive(Clone)]
pub struct Pulse {
    told: Arc<Mutex<Told>>,
    at: usize,
}

impl Health {
    /// Of a process without loops, as a console alone.
    pub fn of_answers() -> Health {
        let health = Health::default();
        lock(&health.told).answers_only = true;
        health
    }

    /// A further loop, which is to do what it is there for every `within`.
    pub fn part(&self, name: impl Into<String>, within: Duration) -> Pulse {
        let mut told = lock(&self.told);
        told.parts.push(Part {
            name: name.into(),
            within,
            beat: clock::instant(),
            worked: None,
            trouble: None,
            hindrance: None,
        });
        Pulse { told: self.told.clone(), at: told.parts.len() - 1 }
    }

    /// Whether any loop tells here how it goes.
    pub fn has_parts(&self) -> bool {
        !lock(&self.told).parts.is_empty()
    }

    /// From now on nothing new is begun.
    pub fn stopping(&self) {
        lock(&self.told).stopping = true;
    }

    /// Whether every loop goes round at all.
    ///
    /// # Errors
    /// Names those that do not and never will.
    pub fn live(&self) -> Result<(), String> {
        let told = lock(&self.told);
        let dead = told.parts.iter().filter(|part| part.beat.elapsed() > HOPELESS_AFTER);
        all(dead.map(|part| format!("{} has not moved for {} s", part.name, part.beat.elapsed().as_secs())))
    }

    /// Whether every loop does what it is there for.
    ///
    /// # Errors
    /// Names those that do not, and why.
    pub fn ready(&self) -> Result<(), String> {
        let told = lock(&self.told);
        if told.stopping {
            return Err("stopping".into());
        }
        if told.parts.is_empty() && !told.answers_only {
            return Err("starting".into());
        }
        all(told.parts.iter().filter_map(|part| {
            let trouble = match (part.trouble.as_ref().or(part.hindrance.as_ref()), part.worked) {
                (Some(trouble), _) => trouble.clone(),
                (None, None) => "starting".into(),
                (None, Some(worked)) if worked.elapsed() > part.within => {
                    format!("nothing for {} s", worked.elapsed().as_secs())
                }
                (None, Some(_)) => return None,
            };
            Some(format!("{}: {trouble}", part.name))
        }))
    }

    /// What a probe is told, as JSON: `{"ready":false,"reason":"tick: ..."}`.
    pub fn answer(&self, path: &str) -> Option<(StatusCode, serde_json::Value)> {
        let (word, told) = match path {
            "/livez" => ("live", self.live()),
            "/readyz" => ("ready", self.ready()),
            _ => return None,
        };
        Some(match told {
            Ok(()) => (StatusCode::OK, serde_json::json!({ word: true })),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ word: false, "reason": reason })),
        })
    }
}

impl Pulse {
    /// The loop goes round.
    pub fn beats(&self) {
        self.change(|_| {});
    }

    /// It did what it is there for.
    pub fn works(&self) {
        self.change(|part| {
            part.worked = Some(clock::instant());
            part.trouble = None;
        });
    }

    /// It cannot do it now.
    pub fn fails(&self, trouble: impl Into<String>) {
        self.change(|part| part.trouble = Some(trouble.into()));
    }

    /// It may well work, and is of no use: others say so, who do not keep it going round.
    pub fn is_hindered(&self, hindrance: impl Into<String>) {
        self.part(|part| part.hindrance = Some(hindrance.into()));
    }

    /// Nothing is in its way any more.
    pub fn is_free(&self) {
        self.part(|part| part.hindrance = None);
    }

    fn change(&self, change: impl FnOnce(&mut Part)) {
        self.part(|part| {
            part.beat = clock::instant();
            change(part);
        });
    }

    fn part(&self, change: impl FnOnce(&mut Part)) {
        if let Some(part) = lock(&self.told).parts.get_mut(self.at) {
            change(part);
        }
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

fn all(wrong: impl Iterator<Item = String>) -> Result<(), String> {
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// Listens on `address` and answers until the process ends; the address it has, for port 0.
///
/// # Errors
/// An address that cannot be listened on.
pub async fn serve(address: SocketAddr, health: Health) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address} for health"))?;
    let own = listener.local_addr().with_context(|| format!("listening on {address} for health"))?;
    tracing::info!("health is told on http://{own}/livez and /readyz");
    tokio::spawn(async move {
        let service = |_| {
            let health = health.clone();
            service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&request, &health))))
        };
        let bounds = Bounds { at_once: PROBES_AT_ONCE, whole: PROBE_MAX };
        listening::serve(listener, bounds, &CancellationToken::new(), service).await;
    });
    Ok(own)
}

fn answer(request: &Request<Arriving>, health: &Health) -> Response<Full<Bytes>> {
    let is_asked = matches!(*request.method(), Method::GET | Method::HEAD);
    let known = is_asked.then(|| health.answer(request.uri().path())).flatten();
    let nothing = || (StatusCode::NOT_FOUND, serde_json::json!({ "error": "there are /livez and /readyz" }));
    let (status, body) = known.unwrap_or_else(nothing);
    json(status, &body)
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{value}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_part_worked_lately_and_says_what_does_not() {
        let health = Health::default();
        assert_eq!(health.ready(), Err("starting".into()));
        assert_eq!(Health::of_answers().ready(), Ok(()), "a console has no loops");
        let (one, other) = (health.part("one", Duration::from_secs(60)), health.part("other", Duration::ZERO));
        assert_eq!(health.ready(), Err("one: starting; other: starting".into()));
        one.works();
        one.fails("no answer");
        other.works();
        assert_eq!(health.ready(), Err("one: no answer; other: nothing for 0 s".into()));
        one.works();
        one.beats();
        assert_eq!(health.ready(), Err("other: nothing for 0 s".into()));
        assert_eq!(health.live(), Ok(()));
        other.fails("away");
        health.stopping();
        assert_eq!(health.ready(), Err("stopping".into()));
    }

    #[test]
    fn a_part_that_works_and_is_hindered_is_not_ready_until_it_is_free() {
        let health = Health::default();
        let pulse = health.part("page", Duration::from_secs(60));
        pulse.works();
        pulse.is_hindered("no job can be claimed");
        pulse.works();
        assert_eq!(health.ready(), Err("page: no job can be claimed".into()));
        pulse.fails("away");
        assert_eq!(health.ready(), Err("page: away".into()));
        pulse.works();
        pulse.is_free();
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn live_ends_only_when_a_loop_has_stood_still_for_minutes() {
        let health = Health::default();
        assert_eq!(health.live(), Ok(()), "a process that starts is alive");
        let pulse = health.part("page", Duration::ZERO);
        pulse.fails("the queue database is away");
        assert_eq!(health.live(), Ok(()), "an outage is no reason to be killed");
        let long_ago = clock::instant().checked_sub(HOPELESS_AFTER + Duration::from_secs(1)).expect("an uptime");
        lock(&health.told).parts[0].beat = long_ago;
        assert_eq!(health.live(), Err("page has not moved for 301 s".into()));
        pulse.beats();
        assert_eq!(health.live(), Ok(()));
    }
}
