//! What the console answers, and what it says when something is wrong: as a page to people, as JSON to programs.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde_json::json;
use sqlx::Connection as _;

use super::access::Visitor;
use super::{Console, frame};
use crate::told::told;
use crate::{clock, queue};

/// A sentence about a request that cannot be read.
const SAID_MAX: usize = 1 << 14;

/// Within this the queue database lets somebody in, if it works.
pub(super) const QUEUE_MAX: Duration = Duration::from_secs(2);

/// What is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Nobody knows who asks.
    NotAllowed(&'static str),
    /// Who asks may not.
    Forbidden(&'static str),
    TooMany(&'static str),
    NotFound(String),
    /// What was asked makes no sense.
    Bad(String),
    /// It cannot be done as things are.
    Refused(String),
    /// A database failed meanwhile.
    Failed(String),
    /// It never came to a question or an action: a method, a path, a query or a body that cannot be read.
    Unread(StatusCode, String),
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Problem::NotAllowed(_) => StatusCode::UNAUTHORIZED,
            Problem::Forbidden(_) => StatusCode::FORBIDDEN,
            Problem::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Problem::NotFound(_) => StatusCode::NOT_FOUND,
            Problem::Bad(_) => StatusCode::BAD_REQUEST,
            Problem::Refused(_) => StatusCode::CONFLICT,
            Problem::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
            Problem::Unread(status, _) => *status,
        }
    }

    fn text(&self) -> &str {
        match self {
            Problem::NotAllowed(text) | Problem::Forbidden(text) | Problem::TooMany(text) => text,
            Problem::NotFound(text) | Problem::Bad(text) | Problem::Refused(text) | Problem::Failed(text) => text,
            Problem::Unread(_, text) => text,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Problem::NotAllowed(_) => "Who are you?",
            Problem::Forbidden(_) => "Not allowed",
            Problem::TooMany(_) => "Too many tries",
            Problem::NotFound(_) => "Not here",
            Problem::Bad(_) | Problem::Unread(..) => "Something is missing, or wrong",
            Problem::Refused(_) => "That cannot be done now",
            Problem::Failed(_) => "That did not work just now",
        }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Problem {
        Problem::Failed(told(&error))
    }
}

impl IntoResponse for Problem {
    /// Without a body: [`finished`] knows who asked.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        if let Problem::TooMany(_) = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// A page, a redirect or a problem.
pub struct Answer(Response);

impl Answer {
    pub(super) fn page(markup: Markup) -> Answer {
        Answer(markup.into_response())
    }

    pub(super) fn to(path: &str) -> Answer {
        Answer(Redirect::to(path).into_response())
    }

    pub(super) fn to_login(from: &str) -> Answer {
        Answer::to(&format!("/login?next={}", frame::escaped(from)))
    }

    pub(super) fn with_cookie(mut self, cookie: &str) -> Answer {
        if let Ok(cookie) = HeaderValue::from_str(cookie) {
            self.0.headers_mut().append(header::SET_COOKIE, cookie);
        }
        self
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Answer {
        Answer(problem.into_response())
    }
}

impl From<anyhow::Error> for Answer {
    fn from(error: anyhow::Error) -> Answer {
        Problem::from(error).into()
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.0
    }
}

/// Whether the queue database lets somebody in, now.
pub(super) async fn queue_answers(console: &Console) -> bool {
    let asked = async { queue::session(&console.env.queue).await?.close().await };
    matches!(clock::within(QUEUE_MAX, asked).await, Some(Ok(())))
}

/// Nearly all that is asked here is asked of the queue database: where that one does not answer, it is told so, and what to do.
async fn explained(console: &Console, problem: Problem) -> Problem {
    let Problem::Failed(text) = problem else { return problem };
    match queue_answers(console).await {
        true => Problem::Failed(text),
        false => {
            let queue = console.env.config.queue.as_ref().map(ToString::to_string).unwrap_or_default();
            Problem::Failed(format!(
                "The queue database {queue} does not answer. Until it does nothing is synchronised, and nothing is lost; the processes go on by \
                 themselves. What to do: docs/OPERATIONS.md, \u{201c}The queue database is down\u{201d}. ({text})"
            ))
        }
    }
}

/// The last word on each answer: problems get a body, and everything the headers that keep browsers from being used against it.
pub(super) async fn finished(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let is_asset = request.uri().path().starts_with("/assets/");
    // For the frame of a page that says what is wrong.
    let visitor = if is_api { None } else { console.access.known(request.headers(), clock::now()) };
    let method = request.method().clone();
    let mut response = next.run(request).await;
    let problem = match response.extensions_mut().remove::<Problem>() {
        None => unread(&method, &mut response).await,
        said => said,
    };
    if let Some(problem) = problem {
        let problem = explained(&console, problem).await;
        let body = match is_api {
            true => Json(json!({ "error": problem.text() })).into_response(),
            false => shown(&console, visitor.as_ref(), &method, &problem).into_response(),
        };
        let (mut parts, _) = response.into_parts();
        let (mut of_body, body) = body.into_parts();
        of_body.status = problem.status();
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        of_body.headers.extend(parts.headers);
        response = Response::from_parts(of_body, body);
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, if is_asset { "no-cache" } else { "no-store" }),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What the router or an extractor turned away, in words of its own or none.
async fn unread(method: &Method, response: &mut Response) -> Option<Problem> {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_text = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !is_text {
        return None;
    }
    let said = to_bytes(std::mem::take(response.body_mut()), SAID_MAX).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
    let said = match response.headers().get(header::ALLOW).and_then(|allow| allow.to_str().ok()) {
        Some(allow) => format!("There is no {method} here, only {}.", allow.replace(',', " and ")),
        None if said.is_empty() => status.to_string(),
        None => reworded(&said),
    };
    Some(Problem::Unread(status, said))
}

/// What extractors say, for somebody who does not know what they are.
fn reworded(said: &str) -> String {
    const WORDS: [(&str, &str); 13] = [
        ("Failed to deserialize the JSON body into the target type: ", "The body does not fit: "),
        ("Failed to parse the request body as JSON: ", "The body is no JSON: "),
        (
            "Expected request with `Content-Type: application/json`",
            "The body must be JSON and say so: `Content-Type: application/json`",
        ),
        ("Failed to deserialize query string: ", "The query does not fit: "),
        ("Failed to deserialize form body: ", "The form does not fit: "),
        ("Invalid URL: ", "The path does not fit: "),
        ("to a `i64`", "as a whole number"),
        ("invalid digit found in string", "that is no whole number"),
        ("cannot parse integer from empty string", "there is nothing, where a whole number has to be"),
        ("number too large to fit in target type", "that is too large"),
        ("expected i64", "expected a whole number"),
        ("expected u32", "expected a whole number"),
        ("invalid type: ", ""),
    ];
    WORDS.iter().fold(said.to_owned(), |said, (theirs, ours)| said.replace(theirs, ours))
}

fn shown(console: &Console, visitor: Option<&Visitor>, method: &Method, problem: &Problem) -> Markup {
    let passes = method == Method::GET && matches!(problem, Problem::Failed(_));
    frame::page(
        console,
        visitor,
        frame::Place::problem(problem.title(), passes),
        html! {
            section class="problem" role="alert" {
                p { (problem.text()) }
                p { a href="/" { "To the overview" } }
            }
        },
    )
}
