//! The way to a Datadog agent. Owns: the one thread with the client. Never: a wait of the caller, a word on stdout.
//!
//! The client blocks whoever calls it (it even looks the agent's name up for each value), and with its own batching it
//! writes errors to stdout and loses the last batch at exit. So its batching stays off, a thread of ours owns it behind a
//! bounded channel that drops and counts, and it only ever sees an address that was looked up already.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dogstatsd::{Client, OptionsBuilder};

use super::metrics::{TELEMETRY_DROPPED, Tag};
use crate::clock;

/// Values that may wait: some seconds of a busy worker, a few megabytes.
const WAITING_MAX: usize = 10_000;

/// How long the end of the process may wait for the last values.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// How often the agent's name is looked up again: a restarted agent may have another address.
const LOOK_UP_EVERY: Duration = Duration::from_secs(60);

const PORT_DEFAULT: u16 = 8125;

/// Where the agent is and what every value is tagged with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub host: String,
    pub port: u16,
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Count(i64),
    Gauge(f64),
    Distribution(f64),
}

struct Sample {
    name: &'static str,
    value: Value,
    tags: Vec<String>,
}

/// `None` wakes the thread.
type Message = Option<Sample>;

/// Set once an agent is named; empty, metrics cost nothing.
static OUTLET: OnceLock<Outlet> = OnceLock::new();

#[derive(Clone)]
struct Outlet {
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

/// The thread; dropping it sends what waits, within a bound.
pub(super) struct Agent {
    sender: SyncSender<Message>,
    closing: Arc<AtomicBool>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
}

impl Settings {
    /// `DD_AGENT_HOST`, `DD_DOGSTATSD_PORT`; `DD_ENV`, `DD_SERVICE`, `DD_VERSION` as tags. `None` without a host.
    pub fn from_env() -> anyhow::Result<Option<Settings>> {
        Settings::from(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from(var: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Settings>> {
        let Some(host) = var("DD_AGENT_HOST") else { return Ok(None) };
        let port = match var("DD_DOGSTATSD_PORT") {
            Some(port) => port.parse().with_context(|| format!("DD_DOGSTATSD_PORT is `{port}`: a port"))?,
            None => PORT_DEFAULT,
        };
        let mut tags = Vec::new();
        tags.extend(var("DD_ENV").map(|env| format!("env:{}", clean(&env))));
        tags.push(format!("service:{}", clean(&var("DD_SERVICE").unwrap_or_else(|| "sync-bridge".into()))));
        let version = var("DD_VERSION").unwrap_or_else(|| env!("CARGO_PKG_VERSION").into());
        tags.push(format!("version:{}", clean(&version)));
        Ok(Some(Settings { host, port, tags }))
    }
}

/// Starts the thread and opens the outlet for the whole process.
pub(super) fn start(settings: Settings) -> anyhow::Result<Agent> {
    let (agent, outlet) = spawn(settings)?;
    // A second start in one process keeps the first outlet.
    let _ = OUTLET.set(outlet);
    Ok(agent)
}

/// Whether an agent is named.
pub(super) fn is_open() -> bool {
    OUTLET.get().is_some()
}

/// Hands a value to the thread, or drops it: never waits.
pub(super) fn send(name: &'static str, value: Value, tags: &[Tag<'_>]) {
    if let Some(outlet) = OUTLET.get() {
        outlet.send(name, value, tags);
    }
}

impl Outlet {
    fn send(&self, name: &'static str, value: Value, tags: &[Tag<'_>]) {
        let tags = tags.iter().map(|(key, value)| format!("{key}:{}", clean(value))).collect();
        if self.sender.try_send(Some(Sample { name, value, tags })).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The protocol separates by these; a tag's value with one of them would be torn.
fn clean(value: &str) -> String {
    value.chars().map(|c| if c.is_control() || c.is_whitespace() || ",|#:@".contains(c) { '_' } else { c }).collect()
}

fn spawn(settings: Settings) -> anyhow::Result<(Agent, Outlet)> {
    let (sender, receiver) = sync_channel(WAITING_MAX);
    let (end, ended) = sync_channel(0);
    let dropped = Arc::new(AtomicU64::new(0));
    let closing = Arc::new(AtomicBool::new(false));
    let sending = Sending { settings, client: None, looked_up: None, dropped: dropped.clone() };
    let is_closing = closing.clone();
    std::thread::Builder::new()
        .name("dogstatsd".into())
        .spawn(move || {
            let _end: SyncSender<()> = end;
            run(sending, &receiver, &is_closing);
        })
        .context("starting the thread for metrics")?;
    Ok((Agent { sender: sender.clone(), closing, ended }, Outlet { sender, dropped }))
}

fn run(mut sending: Sending, receiver: &Receiver<Message>, closing: &AtomicBool) {
    while let Ok(message) = receiver.recv() {
        if let Some(sample) = message {
            sending.send(&sample);
        }
        if closing.load(Ordering::Acquire) {
            while let Ok(message) = receiver.try_recv() {
                if let Some(sample) = message {
                    sending.send(&sample);
                }
            }
            sending.report_dropped();
            return;
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        // A full channel needs no wake-up: the thread is at it.
        let _ = self.sender.try_send(None);
        let _ = self.ended.recv_timeout(FLUSH_MAX);
    }
}

/// The thread's own: the client and its address.
struct Sending {
    settings: Settings,
    client: Option<(SocketAddr, Client)>,
    looked_up: Option<Instant>,
    dropped: Arc<AtomicU64>,
}

impl Sending {
    fn send(&mut self, sample: &Sample) {
        self.report_dropped();
        if !self.deliver(sample) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report_dropped(&mut self) {
        let count = self.dropped.swap(0, Ordering::Relaxed);
        if count == 0 {
            return;
        }
        let value = Value::Count(i64::try_from(count).unwrap_or(i64::MAX));
        if !self.deliver(&Sample { name: TELEMETRY_DROPPED.name, value, tags: Vec::new() }) {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn deliver(&mut self, sample: &Sample) -> bool {
        self.look_up();
        let Some((_, client)) = &self.client else { return false };
        let sent = match sample.value {
            Value::Count(value) => client.count(sample.name, value, &sample.tags),
            Value::Gauge(value) if value.is_finite() => client.gauge(sample.name, value.to_string(), &sample.tags),
            Value::Distribution(value) if value.is_finite() => {
                client.distribution(sample.name, value.to_string(), &sample.tags)
            }
            Value::Gauge(_) | Value::Distribution(_) => return false,
        };
        sent.is_ok()
    }

    /// Finds the agent, at first and then from time to time. One that cannot be found is looked for again, no sooner.
    fn look_up(&mut self) {
        if self.looked_up.is_some_and(|at| at.elapsed() < LOOK_UP_EVERY) {
            return;
        }
        self.looked_up = Some(clock::instant());
        let found = (self.settings.host.as_str(), self.settings.port).to_socket_addrs();
        let address = match found.map(|mut addresses| addresses.next()) {
            Ok(Some(address)) => address,
            _ if self.client.is_some() => return,
            _ => {
                tracing::warn!(host = self.settings.host, "the Datadog agent was not found, metrics are dropped");
                return;
            }
        };
        if self.client.as_ref().is_some_and(|(known, _)| *known == address) {
            return;
        }
        let mut options = OptionsBuilder::new();
        options.from_addr(if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }.into()).to_addr(address.to_string());
        for tag in &self.settings.tags {
            options.default_tag(tag.clone());
        }
        match Client::new(options.build()) {
            Ok(client) => self.client = Some((address, client)),
            Err(error) => tracing::warn!(%error, "no socket for metrics, they are dropped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn agent_on(socket: &UdpSocket) -> Settings {
        let port = socket.local_addr().expect("it is bound").port();
        Settings {
            host: "127.0.0.1".into(),
            port,
            tags: vec!["env:test".into(), "service:s".into(), "version:1".into()],
        }
    }

    fn listener() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout above zero");
        socket
    }

    fn receive(socket: &UdpSocket) -> String {
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).expect("a packet");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn values_arrive_in_the_form_the_agent_reads() {
        let socket = listener();
        let (agent, outlet) = spawn(agent_on(&socket)).expect("a thread");
        outlet.send("sync_bridge.run.ended", Value::Count(2), &[("customer", "acme"), ("ending", "done")]);
        outlet.send("sync_bridge.parked.rows", Value::Gauge(0.0), &[("customer", "a,b|c #d")]);
        outlet.send("sync_bridge.run.duration", Value::Distribution(0.25), &[]);
        let tags = "env:test,service:s,version:1";
        let count = receive(&socket);
        assert!(count.starts_with("sync_bridge.run.ended:2|c|#customer:acme,ending:done,"), "{count}");
        assert!(count.ends_with(tags), "{count}");
        let gauge = receive(&socket);
        assert!(gauge.starts_with("sync_bridge.parked.rows:0|g|#customer:a_b_c__d,"), "{gauge}");
        let distribution = receive(&socket);
        assert!(distribution.starts_with("sync_bridge.run.duration:0.25|d|#"), "{distribution}");
        drop(agent);
    }

    #[test]
    fn what_waits_is_sent_at_the_end() {
        let socket = listener();
        let (agent, outlet) = spawn(agent_on(&socket)).expect("a thread");
        // Fewer than a socket buffer holds, so that none is lost by the system.
        for n in 0..50 {
            outlet.send("sync_bridge.rows.read", Value::Count(n), &[]);
        }
        drop(agent);
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        let mut buffer = [0; 2048];
        let arrived = std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count();
        assert_eq!(arrived, 50, "all of them are there once the thread has ended");
    }

    #[test]
    fn a_full_channel_drops_and_counts_without_waiting() {
        let (sender, receiver) = sync_channel(2);
        let outlet = Outlet { sender, dropped: Arc::new(AtomicU64::new(0)) };
        for n in 0..5 {
            outlet.send("sync_bridge.rows.read", Value::Count(n), &[]);
        }
        assert_eq!(outlet.dropped.load(Ordering::Relaxed), 3);

        let socket = listener();
        let dropped = outlet.dropped.clone();
        let sending = Sending { settings: agent_on(&socket), client: None, looked_up: None, dropped };
        run(sending, &receiver, &AtomicBool::new(true));
        assert!(receive(&socket).starts_with("sync_bridge.telemetry.dropped:3|c"));
        assert!(receive(&socket).starts_with("sync_bridge.rows.read:0|c"));
    }

    #[test]
    fn an_agent_that_does_not_exist_costs_nothing() {
        let settings = Settings { host: "agent.invalid".into(), port: 1, tags: Vec::new() };
        let (agent, outlet) = spawn(settings).expect("a thread");
        for _ in 0..(WAITING_MAX * 2) {
            outlet.send("sync_bridge.rows.read", Value::Count(1), &[]);
        }
        drop(agent);
    }

    #[test]
    fn settings_come_from_the_variables_of_datadog() {
        let none = Settings::from(|_| None).expect("nothing is wrong");
        assert_eq!(none, None);
        let vars = |name: &str| match name {
            "DD_AGENT_HOST" => Some("10.0.0.1".to_owned()),
            "DD_DOGSTATSD_PORT" => Some("9125".to_owned()),
            "DD_ENV" => Some("prod".to_owned()),
            "DD_VERSION" => Some("1.2,3".to_owned()),
            _ => None,
        };
        let settings = Settings::from(vars).expect("nothing is wrong").expect("a host is named");
        assert_eq!((settings.host.as_str(), settings.port), ("10.0.0.1", 9125));
        assert_eq!(settings.tags, ["env:prod", "service:sync-bridge", "version:1.2_3"]);
        let wrong = Settings::from(|_| Some("x".into())).expect_err("x is no port").to_string();
        assert_eq!(wrong, "DD_DOGSTATSD_PORT is `x`: a port");
    }
}
