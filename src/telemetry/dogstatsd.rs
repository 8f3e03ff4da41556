//! The way to a Datadog agent. Owns: the one thread with the client. Never: a wait of the caller, a word on stdout.
//!
//! The client blocks whoever calls it (it even looks the agent's name up for each value), and with its own batching it
//! writes errors to stdout and loses the last batch at exit. So its batching stays off, a thread of ours owns it behind a
//! bounded channel that drops and counts, and it only ever sees an address that was looked up already.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dogstatsd::{Client, EventAlertType, EventOptions, OptionsBuilder, ServiceStatus};

use super::events::{Event, Tone};
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
    pub agent: Place,
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Over UDP.
    Host(String, u16),
    /// A socket file on this machine.
    Socket(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Count(i64),
    Gauge(f64),
    Distribution(f64),
}

/// What the thread is handed.
pub(super) enum Message {
    Value {
        name: &'static str,
        value: Value,
        tags: Vec<String>,
    },
    Event {
        event: &'static Event,
        text: String,
        tags: Vec<String>,
    },
    Check {
        name: &'static str,
        is_well: bool,
        tags: Vec<String>,
    },
    /// Wakes it.
    End,
}

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
    /// `DD_DOGSTATSD_SOCKET`, or `DD_AGENT_HOST` and `DD_DOGSTATSD_PORT`; `DD_ENV`, `DD_SERVICE`, `DD_VERSION` as tags. `None` without
    /// either.
    pub fn from_env() -> anyhow::Result<Option<Settings>> {
        Settings::from(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from(var: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Settings>> {
        let socket = var("DD_DOGSTATSD_SOCKET").map(|path| PathBuf::from(path.trim_start_matches("unix://")));
        let agent = match (socket, var("DD_AGENT_HOST")) {
            (Some(path), _) => Place::Socket(path),
            (None, None) => return Ok(None),
            (None, Some(host)) => match var("DD_DOGSTATSD_PORT") {
                Some(port) => {
                    Place::Host(host, port.parse().with_context(|| format!("DD_DOGSTATSD_PORT is `{port}`: a port"))?)
                }
                None => Place::Host(host, PORT_DEFAULT),
            },
        };
        let mut tags = Vec::new();
        tags.extend(var("DD_ENV").map(|env| format!("env:{}", clean(&env))));
        tags.push(format!("service:{}", clean(&var("DD_SERVICE").unwrap_or_else(|| "sync-bridge".into()))));
        let version = var("DD_VERSION").unwrap_or_else(|| env!("CARGO_PKG_VERSION").into());
        tags.push(format!("version:{}", clean(&version)));
        Ok(Some(Settings { agent, tags }))
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
    if is_open() {
        hand_over(Message::Value { name, value, tags: self::tags(tags) });
    }
}

/// The same for whatever else there is to tell.
pub(super) fn hand_over(message: Message) {
    if let Some(outlet) = OUTLET.get() {
        outlet.hand_over(message);
    }
}

/// Tags as they are sent.
pub(super) fn tags(tags: &[Tag<'_>]) -> Vec<String> {
    tags.iter().map(|(key, value)| format!("{key}:{}", clean(value))).collect()
}

impl Outlet {
    fn hand_over(&self, message: Message) {
        if self.sender.try_send(message).is_err() {
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
        sending.send(&message);
        if closing.load(Ordering::Acquire) {
            while let Ok(message) = receiver.try_recv() {
                sending.send(&message);
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
        let _ = self.sender.try_send(Message::End);
        let _ = self.ended.recv_timeout(FLUSH_MAX);
    }
}

/// The thread's own: the client and its address.
struct Sending {
    settings: Settings,
    /// With the address that it sends to; none for a socket file.
    client: Option<(Option<SocketAddr>, Client)>,
    looked_up: Option<Instant>,
    dropped: Arc<AtomicU64>,
}

impl Sending {
    fn send(&mut self, message: &Message) {
        self.report_dropped();
        if !self.deliver(message) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report_dropped(&mut self) {
        let count = self.dropped.swap(0, Ordering::Relaxed);
        if count == 0 {
            return;
        }
        let value = Value::Count(i64::try_from(count).unwrap_or(i64::MAX));
        if !self.deliver(&Message::Value { name: TELEMETRY_DROPPED.name, value, tags: Vec::new() }) {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn deliver(&mut self, message: &Message) -> bool {
        self.look_up();
        let Some((address, client)) = &self.client else { return matches!(message, Message::End) };
        let sent = match message {
            Message::Value { name, value, tags } => match *value {
                Value::Count(value) => client.count(*name, value, tags),
                Value::Gauge(value) if value.is_finite() => client.gauge(*name, value.to_string(), tags),
                Value::Distribution(value) if value.is_finite() => client.distribution(*name, value.to_string(), tags),
                Value::Gauge(_) | Value::Distribution(_) => return false,
            },
            Message::Event { event, text, tags } => {
                let alert = match event.tone {
                    Tone::Error => EventAlertType::Error,
                    Tone::Warning => EventAlertType::Warning,
                    Tone::Success => EventAlertType::Success,
                };
                let options = EventOptions::new().with_alert_type(alert).with_aggregation_key(event.name);
                let tags: Vec<String> = tags.iter().cloned().chain([format!("event:{}", event.name)]).collect();
                // Line breaks are escaped in the protocol, and texts of databases have them.
                let (title, text) = (format!("sync-bridge: {}", event.title), text.replace('\n', "\\n"));
                client.event_with_options(title, text, tags, Some(options))
            }
            Message::Check { name, is_well, tags } => {
                let status = if *is_well { ServiceStatus::OK } else { ServiceStatus::Critical };
                client.service_check(*name, status, tags, None)
            }
            Message::End => return true,
        };
        // An agent that was started again has another socket of this name.
        if sent.is_err() && address.is_none() {
            self.client = None;
        }
        sent.is_ok()
    }

    /// Finds the agent, at first and then from time to time. One that cannot be found is looked for again, no sooner.
    fn look_up(&mut self) {
        if self.looked_up.is_some_and(|at| at.elapsed() < LOOK_UP_EVERY) {
            return;
        }
        self.looked_up = Some(clock::instant());
        let address = match &self.settings.agent {
            Place::Socket(path) => {
                if self.client.is_none() {
                    self.connect(None, path.exists().then_some(path.clone()));
                }
                return;
            }
            Place::Host(host, port) => match (host.as_str(), *port).to_socket_addrs().map(|mut found| found.next()) {
                Ok(Some(address)) => address,
                _ if self.client.is_some() => return,
                _ => {
                    tracing::warn!(host, "the Datadog agent was not found, metrics are dropped");
                    return;
                }
            },
        };
        if self.client.as_ref().is_none_or(|(known, _)| *known != Some(address)) {
            self.connect(Some(address), None);
        }
    }

    fn connect(&mut self, address: Option<SocketAddr>, socket: Option<PathBuf>) {
        let mut options = OptionsBuilder::new();
        match (address, &socket) {
            (Some(address), _) => {
                let own = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                options.from_addr(own.into()).to_addr(address.to_string());
            }
            (None, Some(path)) => {
                options.socket_path(Some(path.display().to_string()));
            }
            (None, None) => {
                tracing::warn!("the Datadog agent's socket is not there, metrics are dropped");
                return;
            }
        }
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

    use super::super::events;
    use super::*;

    fn agent_on(socket: &UdpSocket) -> Settings {
        let port = socket.local_addr().expect("it is bound").port();
        Settings {
            agent: Place::Host("127.0.0.1".into(), port),
            tags: vec!["env:test".into(), "service:s".into(), "version:1".into()],
        }
    }

    fn send_by(outlet: &Outlet, name: &'static str, value: Value, given: &[Tag<'_>]) {
        outlet.hand_over(Message::Value { name, value, tags: tags(given) });
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
        send_by(&outlet, "sync_bridge.run.ended", Value::Count(2), &[("customer", "acme"), ("ending", "done")]);
        send_by(&outlet, "sync_bridge.parked.rows", Value::Gauge(0.0), &[("customer", "a,b|c #d")]);
        send_by(&outlet, "sync_bridge.run.duration", Value::Distribution(0.25), &[]);
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
    fn events_and_checks_arrive_too() {
        let socket = listener();
        let (agent, outlet) = spawn(agent_on(&socket)).expect("a thread");
        let text = "page 7: no such table\nWhat to do".to_owned();
        outlet.hand_over(Message::Event { event: &events::DEAD_LETTER, text, tags: tags(&[("customer", "c-1")]) });
        outlet.hand_over(Message::Check {
            name: events::CAN_CONNECT,
            is_well: false,
            tags: tags(&[("database", "db:5432/a")]),
        });
        let event = receive(&socket);
        assert!(
            event.starts_with("_e{26,33}:sync-bridge: a dead letter|page 7: no such table\\nWhat to do|"),
            "{event}"
        );
        assert!(event.contains("|t:error") && event.contains("|#customer:c-1,event:dead_letter,env:test"), "{event}");
        let check = receive(&socket);
        assert!(
            check.starts_with("_sc|sync_bridge.can_connect|2") && check.contains("#database:db_5432/a,env:test"),
            "{check}"
        );
        drop(agent);
    }

    #[test]
    fn an_agent_may_listen_on_a_socket_file_and_may_come_later() {
        let folder = std::env::temp_dir().join(format!("sync-bridge-socket-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("dsd.socket");
        let vars = |name: &str| (name == "DD_DOGSTATSD_SOCKET").then(|| format!("unix://{}", path.display()));
        let settings = Settings::from(vars).expect("nothing is wrong").expect("a socket is named");
        assert_eq!(settings.agent, Place::Socket(path.clone()));
        let dropped = Arc::new(AtomicU64::new(0));
        let mut sending = Sending { settings, client: None, looked_up: None, dropped: dropped.clone() };
        let value = Message::Value { name: "sync_bridge.rows.read", value: Value::Count(1), tags: Vec::new() };
        sending.send(&value);
        assert_eq!(dropped.load(Ordering::Relaxed), 1, "nobody is there yet");
        let agent = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
        agent.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout above zero");
        sending.looked_up = None;
        sending.send(&value);
        let mut buffer = [0; 2048];
        let length = agent.recv(&mut buffer).expect("a packet");
        assert!(buffer[..length].starts_with(b"sync_bridge.telemetry.dropped:1|c"));
        let length = agent.recv(&mut buffer).expect("a packet");
        assert!(buffer[..length].starts_with(b"sync_bridge.rows.read:1|c"));
        std::fs::remove_dir_all(&folder).expect("tidying up");
    }

    #[test]
    fn what_waits_is_sent_at_the_end() {
        let socket = listener();
        let (agent, outlet) = spawn(agent_on(&socket)).expect("a thread");
        // Fewer than a socket buffer holds, so that none is lost by the system.
        for n in 0..50 {
            send_by(&outlet, "sync_bridge.rows.read", Value::Count(n), &[]);
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
            send_by(&outlet, "sync_bridge.rows.read", Value::Count(n), &[]);
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
        let settings = Settings { agent: Place::Host("agent.invalid".into(), 1), tags: Vec::new() };
        let (agent, outlet) = spawn(settings).expect("a thread");
        for _ in 0..(WAITING_MAX * 2) {
            send_by(&outlet, "sync_bridge.rows.read", Value::Count(1), &[]);
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
        assert_eq!(settings.agent, Place::Host("10.0.0.1".into(), 9125));
        assert_eq!(settings.tags, ["env:prod", "service:sync-bridge", "version:1.2_3"]);
        let wrong = |name: &str| (name != "DD_DOGSTATSD_SOCKET").then(|| "x".to_owned());
        let wrong = Settings::from(wrong).expect_err("x is no port").to_string();
        assert_eq!(wrong, "DD_DOGSTATSD_PORT is `x`: a port");
    }
}
