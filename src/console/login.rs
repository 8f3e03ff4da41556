//! Coming in with a token and a name, and leaving.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Form;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::HeaderMap;
use maud::html;
use serde::Deserialize;

use super::access::{Actor, COOKIE, Role, Visitor};
use super::answer::{Answer, Problem};
use super::{Console, frame};
use crate::clock;

#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
    /// The token was right, and the browser was told to keep the login.
    #[serde(default)]
    entered: bool,
}

#[derive(Deserialize)]
pub(super) struct Entering {
    token: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct Leaving {
    csrf: String,
}

const NOT_KEPT: &str = "The token is right, but the browser did not keep the login: its cookie goes over TLS, or to localhost, only. \
                        Reach the console by https, or let the browser take cookies of it.";

pub(super) async fn page(State(console): State<Arc<Console>>, headers: HeaderMap, Query(asked): Query<Next>) -> Answer {
    match asked.entered {
        true if console.access.known(&headers, clock::now()).is_some() => Answer::to(own(&asked.next)),
        entered => shown(&console, &asked.next, entered.then_some(NOT_KEPT)),
    }
}

fn shown(console: &Console, next: &str, wrong: Option<&str>) -> Answer {
    Answer::page(frame::page(
        console,
        None,
        frame::Place::still("", "Log in"),
        html! {
            form method="post" action="/login" class="card narrow" {
                @if let Some(wrong) = wrong { p class="problem" role="alert" { (wrong) } }
                input type="hidden" name="next" value=(next);
                label { "Your name, kept with what you do" input type="text" name="who" maxlength="60" required autocomplete="username" autofocus; }
                label { "Token" input type="password" name="token" required autocomplete="current-password"; }
                button type="submit" { "Log in" }
            }
        },
    ))
}

pub(super) async fn enter(
    State(console): State<Arc<Console>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Form(form): Form<Entering>,
) -> Answer {
    let access = &console.access;
    match access.role_of(&form.token, from.ip()) {
        Ok(Some(role)) => {
            let cookie = access.login(role, &form.who, clock::now());
            let what = if role == Role::Act { "act" } else { "read" };
            tracing::info!(who = form.who, "console: somebody logged in to {what}");
            // Whether it was kept shows when it comes back.
            Answer::to(&format!("/login?entered=true&next={}", frame::escaped(own(&form.next))))
                .with_cookie(&format!("{COOKIE}={cookie}; Path=/; HttpOnly; Secure; SameSite=Strict"))
        }
        Ok(None) => {
            tracing::warn!("console: a wrong token");
            shown(&console, &form.next, Some("This token opens nothing."))
        }
        Err(problem) => problem.into(),
    }
}

pub(super) async fn leave(
    State(console): State<Arc<Console>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(form): Form<Leaving>,
) -> Result<Answer, Problem> {
    if let Some(visitor) = console.access.visitor(&headers, from.ip(), clock::now())? {
        // Whoever may read may leave.
        Actor::of_form(&console.access, Visitor { role: Role::Act, ..visitor }, &form.csrf)?;
    }
    Ok(Answer::to("/login").with_cookie(&format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict")))
}

/// A path of ours; anything else leads to the overview.
fn own(next: &str) -> &str {
    let inside =
        next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.chars().any(char::is_control);
    if inside { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn a_login_leads_nowhere_else() {
        for (next, to) in [
            ("/runs/7?a=b", "/runs/7?a=b"),
            ("", "/"),
            ("https://evil.example/", "/"),
            ("//evil.example/", "/"),
            ("/\\evil.example/", "/"),
            ("/\t/evil.example", "/"),
        ] {
            assert_eq!(own(next), to, "{next}");
        }
    }
}
