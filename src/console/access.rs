//! Who may do what in the console. Owns: tokens, the signed cookie of a login, the token against forged requests, the bound on tries.
//! Keeps no sessions: any replica knows a login of any other, and a token that is changed ends all that came by it.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use axum::extract::{ConnectInfo, FromRef, FromRequestParts, OriginalUri, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, header};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use std::sync::Arc;

use super::Console;
use super::answer::{Answer, Problem};
use crate::clock;
use crate::listening::place;

/// How long a login lasts: a working day.
const LOGIN_LASTS: TimeDelta = TimeDelta::hours(12);

/// Wrong tokens from one place that are looked at in a minute. A guess has no chance anyway; this keeps it out of the logs, and who guesses
/// keeps nobody else out.
const TRIES_MAX: usize = 20;
const TRIES_IN: Duration = Duration::from_secs(60);
/// Places that are told apart; those beyond count as one.
const PLACES_MAX: usize = 1_000;

/// A token shorter than this can be guessed.
const TOKEN_MIN: usize = 20;

const WHO_MAX: usize = 60;

pub(super) const COOKIE: &str = "sync_bridge_console";
pub(super) const CSRF_HEADER: &str = "x-csrf-token";

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything.
    Read,
    /// Re-queue, discard, retry, decide, pause.
    Act,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Act => "act",
        }
    }
}

/// The tokens of the two roles; none where the console is reached from its own machine only.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    pub read: Option<SecretString>,
    pub act: Option<SecretString>,
}

/// Who asks, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// A name for people, kept with what they do.
    pub who: String,
    pub role: Role,
    /// What each form has to bring back.
    pub csrf: String,
    /// Whether there is a login to leave.
    pub logged_in: bool,
}

/// The door.
pub struct Access {
    tokens: Tokens,
    /// Signs what this process gives out where there are no tokens.
    own: [u8; 32],
    /// The latest wrong tokens, by where they came from.
    tries: Mutex<HashMap<IpAddr, VecDeque<Instant>>>,
}

impl Access {
    /// # Errors
    /// A console that others can reach, without tokens; tokens that could be guessed, or that are one.
    pub fn new(address: SocketAddr, tokens: Tokens) -> anyhow::Result<Access> {
        let all = [("read", &tokens.read), ("act", &tokens.act)];
        for (role, token) in all.into_iter().filter_map(|(role, token)| Some((role, token.as_ref()?))) {
            if token.expose_secret().chars().count() < TOKEN_MIN {
                bail!(
                    "the console's token to {role} is shorter than {TOKEN_MIN} characters: take a longer one, from `openssl rand -hex 32`"
                );
            }
        }
        if let (Some(read), Some(act)) = (&tokens.read, &tokens.act)
            && read.expose_secret() == act.expose_secret()
        {
            bail!("the console's tokens to read and to act are the same: who is to read only could act");
        }
        if !address.ip().is_loopback() && tokens.read.is_none() && tokens.act.is_none() {
            bail!(
                "the console would be open to whoever reaches {address}: set SYNC_BRIDGE_CONSOLE_READ_TOKEN or \
                 SYNC_BRIDGE_CONSOLE_ACT_TOKEN, or listen on a loopback address"
            );
        }
        Ok(Access { tokens, own: rand::random(), tries: Mutex::default() })
    }

    pub(super) fn has_tokens(&self) -> bool {
        self.tokens.read.is_some() || self.tokens.act.is_some()
    }

    /// Who asks, by cookie or bearer token; everybody, where there are no tokens.
    pub(super) fn visitor(
        &self,
        headers: &HeaderMap,
        from: IpAddr,
        now: DateTime<Utc>,
    ) -> Result<Option<Visitor>, Problem> {
        if let Some(given) = headers.get(header::AUTHORIZATION).filter(|_| self.has_tokens()) {
            let token = given.to_str().ok().and_then(|given| given.strip_prefix("Bearer "));
            let role = token.map(|token| self.role_of(token, from)).transpose()?.flatten();
            let role = role.ok_or(Problem::NotAllowed("this token opens nothing"))?;
            return Ok(Some(Visitor {
                who: format!("token to {}", role.as_str()),
                role,
                csrf: String::new(),
                logged_in: false,
            }));
        }
        Ok(self.known(headers, now))
    }

    /// Who asks, without a look at a bearer token, which counts as a try.
    pub(super) fn known(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Option<Visitor> {
        if !self.has_tokens() {
            let csrf = self.csrf(None, "local");
            return Some(Visitor { who: local_user(), role: Role::Act, csrf, logged_in: false });
        }
        cookie(headers).and_then(|cookie| self.login_of(cookie, now))
    }

    /// The role that a token opens.
    ///
    /// # Errors
    /// Too many wrong ones were tried from there.
    pub(super) fn role_of(&self, token: &str, from: IpAddr) -> Result<Option<Role>, Problem> {
        let now = clock::instant();
        let mut all = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, tries| {
            tries.retain(|tried| now.duration_since(*tried) <= TRIES_IN);
            !tries.is_empty()
        });
        let mut place = place(from);
        if all.len() >= PLACES_MAX && !all.contains_key(&place) {
            place = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        }
        if all.get(&place).is_some_and(|tries| tries.len() >= TRIES_MAX) {
            return Err(Problem::TooMany("too many wrong tokens were tried: wait a minute"));
        }
        // Both are compared whatever the first says, and by their digests, so that no time tells how much was right.
        let opens =
            |own: &Option<SecretString>| own.as_ref().is_some_and(|own| self.is_same(own.expose_secret(), token));
        let (acts, reads) = (opens(&self.tokens.act), opens(&self.tokens.read));
        let role = if acts { Some(Role::Act) } else { reads.then_some(Role::Read) };
        if role.is_none() {
            all.entry(place).or_default().push_back(now);
        }
        Ok(role)
    }

    /// The cookie of a login.
    pub(super) fn login(&self, role: Role, who: &str, now: DateTime<Utc>) -> String {
        let until = (now + LOGIN_LASTS).timestamp();
        let body = format!("{}.{until}.{}", role.as_str(), hex(name(who).as_bytes()));
        let seal = self.seal(Some(role), &["login", &body]);
        format!("{body}.{seal}")
    }

    fn login_of(&self, cookie: &str, now: DateTime<Utc>) -> Option<Visitor> {
        let (body, seal) = cookie.rsplit_once('.')?;
        let mut parts = body.split('.');
        let (role, until, who) = (parts.next()?, parts.next()?.parse::<i64>().ok()?, parts.next()?);
        let role = [Role::Read, Role::Act].into_iter().find(|known| known.as_str() == role)?;
        if parts.next().is_some() || !self.has_token_of(role) || now.timestamp() >= until {
            return None;
        }
        if !self.is_same(&self.seal(Some(role), &["login", body]), seal) {
            return None;
        }
        let who = String::from_utf8(unhex(who)?).ok()?;
        Some(Visitor { who, role, csrf: self.csrf(Some(role), cookie), logged_in: true })
    }

    fn has_token_of(&self, role: Role) -> bool {
        match role {
            Role::Read => self.tokens.read.is_some(),
            Role::Act => self.tokens.act.is_some(),
        }
    }

    fn csrf(&self, role: Option<Role>, cookie: &str) -> String {
        self.seal(role, &["csrf", cookie])
    }

    fn seal(&self, role: Option<Role>, parts: &[&str]) -> String {
        let token = match role {
            None => None,
            Some(Role::Read) => self.tokens.read.as_ref(),
            Some(Role::Act) => self.tokens.act.as_ref(),
        };
        let key = token.map_or(&self.own[..], |token| token.expose_secret().as_bytes());
        hex(&digest(key, &parts.join("\u{1f}")))
    }

    /// A text of ours for an address of ours.
    pub(super) fn vouched(&self, text: &str) -> String {
        format!("{}.{text}", self.seal(self.tokens.act.as_ref().map(|_| Role::Act), &["told", text]))
    }

    /// The text, if it is ours.
    pub(super) fn vouches<'t>(&self, vouched: &'t str) -> Option<&'t str> {
        let (_, text) = vouched.split_once('.')?;
        self.is_same(&self.vouched(text), vouched).then_some(text)
    }

    /// Takes as long whatever they hold.
    pub(super) fn is_same(&self, one: &str, other: &str) -> bool {
        mac(&self.own, one).verify_slice(&digest(&self.own, other)).is_ok()
    }
}

/// The address that a request came from.
pub(super) fn from(extensions: &Extensions) -> IpAddr {
    let known = extensions.get::<ConnectInfo<SocketAddr>>();
    known.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |ConnectInfo(from)| from.ip())
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text.as_bytes());
    mac
}

fn digest(key: &[u8], text: &str) -> Vec<u8> {
    mac(key, text).finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(byte).collect())?
}

/// What somebody calls themselves, as it is kept.
fn name(who: &str) -> String {
    let plain: String = who.trim().chars().filter(|c| !c.is_control()).take(WHO_MAX).collect();
    if plain.is_empty() { "unnamed".into() } else { plain }
}

/// The user whose process this is.
fn local_user() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    named.map(|who| name(&who)).next().unwrap_or_else(|| "operator".into())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Whether the request names this machine itself: a page elsewhere whose name leads here by now has another.
pub(super) fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whoever may look.
impl<S: Send + Sync> FromRequestParts<S> for Visitor
where
    Arc<Console>: FromRef<S>,
{
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Visitor, Answer> {
        let console = Arc::<Console>::from_ref(state);
        let found = console.access.visitor(&parts.headers, from(&parts.extensions), clock::now());
        // As it was asked for: the API's own routes see what follows their prefix.
        let asked = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
        let to = asked.path_and_query().map_or("/", |path| path.as_str());
        match found {
            Ok(Some(visitor)) => Ok(visitor),
            Ok(None) if is_api(to) => Err(Problem::NotAllowed("a token is needed: Authorization: Bearer …").into()),
            Ok(None) if parts.method == Method::GET => Err(Answer::to_login(to)),
            Ok(None) => Err(Problem::NotAllowed("the login has ended: log in again").into()),
            Err(problem) => Err(problem.into()),
        }
    }
}

fn is_api(path: &str) -> bool {
    path.starts_with("/api/")
}

/// Whoever may act, and whose request no other site made for them.
pub struct Actor(pub Visitor);

impl Actor {
    /// Of a form, which brings back what was given out with it.
    ///
    /// # Errors
    /// A role that may only read; a form of somebody else.
    pub(super) fn of_form(access: &Access, visitor: Visitor, csrf: &str) -> Result<Actor, Problem> {
        if visitor.role < Role::Act {
            return Err(Problem::Forbidden("this login may look only: log in with the token to act"));
        }
        if !access.is_same(&visitor.csrf, csrf) || visitor.csrf.is_empty() {
            return Err(Problem::Forbidden(
                "this form is not from this console, or from before it was started: load the page again",
            ));
        }
        Ok(Actor(visitor))
    }
}

/// Of the API: a bearer token, which no browser sends by itself, or the header that only our own pages can set.
impl<S: Send + Sync> FromRequestParts<S> for Actor
where
    Arc<Console>: FromRef<S>,
{
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Actor, Answer> {
        let console = Arc::<Console>::from_ref(state);
        let visitor = Visitor::from_request_parts(parts, state).await?;
        if visitor.role < Role::Act {
            return Err(Problem::Forbidden("this token may look only").into());
        }
        if parts.headers.contains_key(header::AUTHORIZATION) && console.access.has_tokens() {
            return Ok(Actor(visitor));
        }
        let given = parts.headers.get(CSRF_HEADER).and_then(|given| given.to_str().ok()).unwrap_or_default();
        if given.is_empty() {
            return Err(Problem::Forbidden(
                "a program acts on a console with tokens, by Authorization: Bearer …; else X-CSRF-Token of a page is needed",
            )
            .into());
        }
        Ok(Actor::of_form(&console.access, visitor, given)?)
    }
}

/// Turns away, on a console for this machine alone, requests that were sent to another name.
pub(super) async fn only_local(
    State(console): State<Arc<Console>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    if !console.access.has_tokens() && !is_local(request.headers()) {
        let problem =
            Problem::Forbidden("this console answers to localhost alone: set tokens to reach it by another name");
        return Answer::from(problem).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const READ: &str = "read-read-read-read-read";
    const ACT: &str = "act-act-act-act-act-act-act";

    fn local() -> SocketAddr {
        "127.0.0.1:8088".parse().expect("an address")
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn access() -> Access {
        let tokens = Tokens { read: Some(READ.into()), act: Some(ACT.into()) };
        Access::new("0.0.0.0:8088".parse().expect("an address"), tokens).expect("good tokens")
    }

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("a value"))])
    }

    #[test]
    fn only_a_loopback_address_needs_no_token() {
        assert!(Access::new(local(), Tokens::default()).is_ok());
        let open = Access::new("0.0.0.0:8088".parse().expect("an address"), Tokens::default());
        assert!(open.is_err_and(|error| error.to_string().contains("open to whoever reaches 0.0.0.0:8088")));
        let short = Tokens { read: Some("short".into()), act: None };
        assert!(Access::new(local(), short).is_err());
        let one = Tokens { read: Some(READ.into()), act: Some(READ.into()) };
        assert!(Access::new(local(), one).is_err());
    }

    #[test]
    fn each_token_opens_its_role_and_the_login_lasts_for_a_day_of_work() {
        let (access, now) = (access(), clock::now());
        assert_eq!(access.role_of(READ, HERE), Ok(Some(Role::Read)));
        assert_eq!(access.role_of(ACT, HERE), Ok(Some(Role::Act)));
        assert_eq!(access.role_of("nothing", HERE), Ok(None));
        assert_eq!(access.visitor(&HeaderMap::new(), HERE, now), Ok(None));
        let cookie = access.login(Role::Read, " Ada\n Lovelace ", now);
        let headers = with(header::COOKIE, &format!("other=1; {COOKIE}={cookie}"));
        let visitor = access.visitor(&headers, HERE, now).expect("known").expect("somebody");
        assert_eq!((visitor.who.as_str(), visitor.role), ("Ada Lovelace", Role::Read));
        assert_eq!(access.visitor(&headers, HERE, now + LOGIN_LASTS), Ok(None), "it ended");
    }

    #[test]
    fn a_login_cannot_be_made_up_or_made_more_of() {
        let (access, now) = (access(), clock::now());
        let cookie = access.login(Role::Read, "Ada", now);
        for forged in [
            cookie.replacen("read", "act", 1),
            cookie[..cookie.len() - 1].to_owned(),
            format!("{cookie}0"),
            cookie.replacen('.', ".9", 1),
            "read.99999999999.416461.".into(),
        ] {
            let headers = with(header::COOKIE, &format!("{COOKIE}={forged}"));
            assert_eq!(access.visitor(&headers, HERE, now), Ok(None), "{forged}");
        }
        let other = Tokens { read: Some("another-token-to-read-with".into()), act: None };
        let other = Access::new(local(), other).expect("a good token");
        assert_eq!(
            other.visitor(&with(header::COOKIE, &format!("{COOKIE}={cookie}")), HERE, now),
            Ok(None),
            "the token was changed"
        );
    }

    #[test]
    fn wrong_tokens_are_looked_at_only_so_often() {
        let access = access();
        for _ in 0..TRIES_MAX {
            assert_eq!(access.role_of("a guess", HERE), Ok(None));
        }
        assert!(matches!(access.role_of("a guess", HERE), Err(Problem::TooMany(_))));
        assert!(
            matches!(access.role_of(ACT, HERE), Err(Problem::TooMany(_))),
            "also the right one, which so tells nothing"
        );
        let elsewhere = |last: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last));
        assert_eq!(access.role_of(ACT, elsewhere(1)), Ok(Some(Role::Act)), "who guesses keeps nobody else out");
        for last in 0..TRIES_MAX as u16 {
            assert_eq!(access.role_of("a guess", elsewhere(last)), Ok(None));
        }
        assert!(matches!(access.role_of("a guess", elsewhere(99)), Err(Problem::TooMany(_))), "a network is one place");
        for last in 0..2 * PLACES_MAX as u32 {
            let _ = access.role_of("a guess", IpAddr::V4(std::net::Ipv4Addr::from_bits(last)));
        }
        assert!(access.tries.lock().expect("no panic").len() <= PLACES_MAX + 1, "places are bounded");
    }

    #[test]
    fn a_form_counts_only_with_what_was_given_out_for_it() {
        let (access, now) = (access(), clock::now());
        let visitor = |role| {
            let cookie = access.login(role, "Ada", now);
            access
                .visitor(&with(header::COOKIE, &format!("{COOKIE}={cookie}")), HERE, now)
                .expect("known")
                .expect("somebody")
        };
        let (acts, reads) = (visitor(Role::Act), visitor(Role::Read));
        assert!(Actor::of_form(&access, acts.clone(), &acts.csrf).is_ok());
        assert!(Actor::of_form(&access, acts.clone(), &reads.csrf).is_err());
        assert!(Actor::of_form(&access, acts, "").is_err());
        assert!(Actor::of_form(&access, reads.clone(), &reads.csrf).is_err());
        let bearer = access
            .visitor(&with(header::AUTHORIZATION, &format!("Bearer {ACT}")), HERE, now)
            .expect("known")
            .expect("somebody");
        assert!(Actor::of_form(&access, bearer, "").is_err(), "which has none");
    }

    #[test]
    fn only_names_of_this_machine_are_local() {
        for (host, is) in [
            ("localhost:8088", true),
            ("127.0.0.1:8088", true),
            ("127.0.0.1", true),
            ("[::1]:8088", true),
            ("bridge.localhost", true),
            ("evil.example", false),
            ("127.0.0.1.evil.example:8088", false),
            ("localhost.evil.example", false),
            ("10.0.0.1:8088", false),
        ] {
            assert_eq!(is_local(&with(header::HOST, host)), is, "{host}");
        }
        assert!(!is_local(&HeaderMap::new()));
    }
}
