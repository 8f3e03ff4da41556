//! Traces as a receiver gets them: real processes, real databases, OTLP over a real socket.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Output;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use serde_json::Value as Json;
use sqlx::{Connection as _, PgConnection};
use sync_bridge::telemetry::traces::Trace;

use crate::cli::{Databases, Desk, Running, config, execute, number, users};
use crate::support::eventually;

const WORKER: &str = env!("CARGO_BIN_EXE_sync-bridge-worker");
const SCHEDULER: &str = env!("CARGO_BIN_EXE_sync-bridge-scheduler");

/// A span as it was received.
#[derive(Debug, Clone)]
struct Span {
    trace: String,
    id: u64,
    /// 0 of a root.
    parent: u64,
    name: String,
    attributes: BTreeMap<String, String>,
    is_error: bool,
    lasted: std::ops::RangeInclusive<u64>,
    /// Of whoever sent it.
    resource: BTreeMap<String, String>,
}

impl Span {
    fn has(&self, attribute: &str, value: impl ToString) -> bool {
        self.attributes.get(attribute) == Some(&value.to_string())
    }

    fn is_of(&self, process: &Running) -> bool {
        self.resource.get("process.pid") == Some(&process.id().to_string())
    }
}

/// Whoever speaks OTLP, on a thread of its own: tests wait for processes.
struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Span>>>,
}

impl Receiver {
    /// One that answers; else it takes all that it is sent, and says nothing.
    fn new(answers: bool) -> Receiver {
        Receiver::on("127.0.0.1:0", answers)
    }

    fn on(address: &str, answers: bool) -> Receiver {
        let listener = std::net::TcpListener::bind(address).expect("a free port");
        listener.set_nonblocking(true).expect("a listener of the runtime");
        let address = listener.local_addr().expect("it is bound");
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = received.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    let kept = kept.clone();
                    let service = service_fn(move |request| take(request, kept.clone(), answers));
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                    );
                }
            });
        });
        Receiver { address, received }
    }

    fn hears(&self, desk: Desk) -> Desk {
        desk.with("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address)).with("LOG_FORMAT", "json")
    }

    fn of(&self, trace: Trace) -> Vec<Span> {
        let received = self.received.lock().expect("no panic");
        received.iter().filter(|span| span.trace == trace.to_string()).cloned().collect()
    }
}

async fn take(
    request: Request<Incoming>,
    kept: Arc<Mutex<Vec<Span>>>,
    answers: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let told = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    };
    if request.uri().path() != "/v1/traces" || request.headers()["content-type"] != "application/x-protobuf" {
        return told(StatusCode::NOT_FOUND);
    }
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let sent = ExportTraceServiceRequest::decode(body).expect("what the protocol says");
    kept.lock().expect("no panic").extend(spans(sent));
    if !answers {
        std::future::pending::<()>().await;
    }
    told(StatusCode::OK)
}

fn spans(sent: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in sent.resource_spans {
        let resource = attributes(of_resource.resource.expect("a resource").attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            assert_eq!(span.events, [], "log lines are no part of a span");
            spans.push(Span {
                trace: span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect(),
                id: u64::from_be_bytes(span.span_id.try_into().expect("eight bytes")),
                parent: span.parent_span_id.try_into().map(u64::from_be_bytes).unwrap_or(0),
                name: span.name,
                attributes: attributes(span.attributes),
                is_error: span.status.is_some_and(|status| status.code == 2),
                lasted: span.start_time_unix_nano..=span.end_time_unix_nano,
                resource: resource.clone(),
            });
        }
    }
    spans
}

fn attributes(sent: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: KeyValue| match value.value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        other => panic!("{other:?}"),
    };
    sent.into_iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

/// The one span of this name that has these attributes.
fn one<'s>(spans: &'s [Span], name: &str, has: &[(&str, &str)]) -> &'s Span {
    let is = |span: &&Span| span.name == name && has.iter().all(|(attribute, value)| span.has(attribute, value));
    let found: Vec<&Span> = spans.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{name} {has:?} in {spans:#?}");
    found[0]
}

/// The names of the spans below this one.
fn below(spans: &[Span], parent: &Span) -> BTreeSet<String> {
    spans.iter().filter(|span| span.parent == parent.id).map(|span| span.name.clone()).collect()
}

/// One root, everything else below something that was sent as well, and nothing twice.
fn is_whole(spans: &[Span]) {
    let ids: BTreeSet<u64> = spans.iter().map(|span| span.id).collect();
    assert_eq!(ids.len(), spans.len(), "{spans:#?}");
    for span in spans {
        assert_eq!(span.parent == 0, span.name == "tick", "{span:#?}");
        assert!(span.parent == 0 || ids.contains(&span.parent), "{} hangs on nothing: {spans:#?}", span.name);
        assert!(span.lasted.start() <= span.lasted.end(), "{span:#?}");
    }
}

fn json_lines(output: &Output) -> Vec<Json> {
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    // A panic is told as it always is.
    let lines = lines.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Lines of the trace name spans of it, as both OpenTelemetry and Datadog call them. Answers how many there are.
fn lines_lead_to_spans(lines: &[Json], trace: Trace, spans: &[Span]) -> usize {
    let hex = trace.to_string();
    let lower = u64::from_str_radix(&hex[16..], 16).expect("hex").to_string();
    let of_it: Vec<&Json> = lines.iter().filter(|line| line["trace_id"] == hex.as_str()).collect();
    for line in &of_it {
        assert_eq!(line["dd.trace_id"], lower.as_str(), "{line}");
        let span: u64 = line["dd.span_id"].as_str().expect("text").parse().expect("decimal");
        assert!(spans.iter().any(|known| known.id == span), "{line} is of no span of {spans:#?}");
    }
    of_it.len()
}

/// What the ledger says of the trace of the first run.
async fn first_trace(databases: &Databases) -> Trace {
    let mut ledger = PgConnection::connect(databases.queue.url.expose()).await.expect("connecting");
    let first = "select tick.id, tick.created_at from bridge.run join bridge.tick on tick.id = run.tick order by run.id limit 1";
    let (tick, made_at) = sqlx::query_as(first).fetch_one(&mut ledger).await.expect("a run");
    Trace::of(tick, made_at)
}

/// Both systems; rows that are written to the platform hang there until they are let go.
async fn hanging(hint: &str, schedule: &str) -> (Databases, Desk) {
    let databases = Databases::new(hint).await;
    let desk = databases.desk(&hint.replace(" ", "-"));
    std::fs::write(
        desk.folder.path().join("bridge.toml"),
        config(true).replacen("slug = ", &format!("{schedule}\nslug = "), 1),
    )
    .expect("writing a configuration");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    execute(
        &databases.platform,
        "insert into identity.users (id, email) values (gen_random_uuid(), 'cleo@example.org');
         create function hang() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return new; end $$;
         create trigger hang before insert on identity.users for each row execute function hang()",
    )
    .await;
    (databases, desk)
}

const HANGING: &str =
    "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";

/// The page towards the platform hangs, and the one towards legacy was carried out.
async fn hangs(databases: &Databases) -> bool {
    let carried = "select count(*) from users where mail = 'cleo@example.org'";
    number(&databases.platform, HANGING).await > 0 && number(&databases.legacy, carried).await == 1
}

async fn let_go(databases: &Databases) {
    execute(
        &databases.platform,
        "create or replace function hang() returns trigger language plpgsql as $$ begin return new; end $$;
         select pg_terminate_backend(pid) from pg_stat_activity
         where wait_event = 'PgSleep' and datname = current_database()",
    )
    .await;
}

async fn the_run_ends(databases: &Databases, worker: &mut Running) {
    let mut ledger = PgConnection::connect(databases.queue.url.expose()).await.expect("connecting");
    eventually("the first run has ended", async || {
        worker.must_run();
        let ended = "select exists (select from bridge.run where ended_at is not null)";
        sqlx::query_scalar(ended).fetch_one(&mut ledger).await.expect("an answer")
    })
    .await;
}

fn stops(process: Running) -> Output {
    let output = process.stop(Signal::SIGTERM);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[tokio::test]
async fn a_tick_its_run_stages_pages_and_their_steps_are_one_trace_whoever_works_on_them() {
    let (databases, desk) = hanging("one trace", "schedule = \"* * * * * *\"").await;
    let receiver = Receiver::new(true);
    let desk = receiver.hears(desk).with("DD_ENV", "test").with("OTEL_SERVICE_NAME", "bridge");
    let mut scheduler = desk.start(SCHEDULER, &[]);
    // The first cuts a stage, and hands back its page; the other one does the rest.
    let first = desk.start(WORKER, &["--grace", "8"]);
    eventually("its page writes", async || {
        scheduler.must_run();
        hangs(&databases).await
    })
    .await;
    let first_pid = first.id();
    let of_first = json_lines(&stops(first));
    let_go(&databases).await;
    let mut second = desk.start(WORKER, &[]);
    let second_pid = second.id();
    the_run_ends(&databases, &mut second).await;
    let of_second = json_lines(&stops(second));
    stops(scheduler);

    let trace = first_trace(&databases).await;
    let spans = receiver.of(trace);
    is_whole(&spans);
    let by = |span: &Span, pid: u32| {
        assert_eq!(span.resource["process.pid"], pid.to_string(), "{span:#?}");
        assert!(span.has("customer", "c-1"), "{span:#?}");
    };
    let tick = one(&spans, "tick", &[("ending", "opened")]);
    by(tick, first_pid);
    assert_eq!(below(&spans, tick), BTreeSet::from(["probe".to_owned(), "run".to_owned()]));
    by(one(&spans, "probe", &[("attempt", "1"), ("ending", "done")]), first_pid);
    let run = one(&spans, "run", &[("ending", "done")]);
    by(run, second_pid);
    assert_eq!(below(&spans, run), BTreeSet::from(["stage".to_owned()]));
    let stage = one(&spans, "stage", &[("stage", "identities"), ("ending", "closed")]);
    by(stage, second_pid);
    by(one(&spans, "stage", &[("stage", "reconciliation"), ("ending", "closed")]), second_pid);
    assert_eq!(below(&spans, stage), BTreeSet::from(["cut".to_owned(), "page".to_owned()]));
    by(one(&spans, "cut", &[("stage", "identities"), ("ending", "done")]), first_pid);
    by(one(&spans, "cut", &[("stage", "reconciliation"), ("ending", "done")]), second_pid);
    let handed_back = one(&spans, "page", &[("ending", "handed_back")]);
    by(handed_back, first_pid);
    let page = one(&spans, "page", &[("ending", "done"), ("page", &handed_back.attributes["page"])]);
    by(page, second_pid);
    for (attribute, value) in [("entity", "user"), ("side", "legacy"), ("stage", "identities"), ("attempt", "1")] {
        assert!(page.has(attribute, value), "{page:#?}");
    }
    let other_way = one(&spans, "page", &[("side", "platform"), ("ending", "done")]);
    by(other_way, first_pid);
    for (page, steps) in [
        (handed_back, &["read", "decide", "write_platform", "settle"][..]),
        (page, &["read", "decide", "write_platform", "settle"]),
        (other_way, &["read", "decide", "write_platform", "write_legacy", "fold", "settle"]),
    ] {
        assert_eq!(page.parent, stage.id);
        assert_eq!(below(&spans, page), steps.iter().map(|step| (*step).to_owned()).collect());
    }
    for span in &spans {
        let told = format!("{:?}", span.attributes);
        assert!(["ada", "Ada", "cleo"].iter().all(|value| !told.contains(value)), "{told}");
        assert_eq!(span.resource["service.name"], "bridge");
        assert_eq!(span.resource["deployment.environment.name"], "test");
    }

    assert!(lines_lead_to_spans(&of_first, trace, &spans) > 0);
    assert!(lines_lead_to_spans(&of_second, trace, &spans) > 0);
    let told = |line: &&Json| line["message"].as_str().is_some_and(|told| told.starts_with("2 rows read"));
    let done = of_second.iter().find(told).expect("the page's line");
    assert_eq!(done["dd.span_id"], page.id.to_string().as_str(), "{done}");
    let started = of_second.iter().find(|line| line["message"] == "worker started").expect("its first line");
    assert_eq!(started.get("trace_id"), None, "{started}");

    let run = number(&databases.queue, "select min(id) from bridge.run").await.to_string();
    let shown: Json = serde_json::from_str(&desk.succeeds(&["runs", "show", &run, "--json"])).expect("JSON");
    assert_eq!(shown["trace_id"], trace.to_string().as_str());
}

#[tokio::test]
async fn a_page_that_is_delivered_again_after_a_kill_stays_in_its_trace() {
    let (databases, desk) = hanging("killed trace", "").await;
    let receiver = Receiver::new(true);
    let desk = receiver.hears(desk).with("OTEL_BSP_SCHEDULE_DELAY", "50");
    let queue = sync_bridge::queue::connect(&databases.queue.url).await.expect("connecting");
    sync_bridge::ops::tick_now(&queue, &sync_bridge::config::CustomerId::new("c-1")).await.expect("a tick");
    let mut first = desk.start(WORKER, &[]);
    eventually("its page writes", async || {
        first.must_run();
        hangs(&databases).await
    })
    .await;
    let trace = first_trace(&databases).await;
    eventually("it sent what it did before", async || {
        receiver.of(trace).iter().any(|span| span.name == "write_platform" || span.name == "cut" && span.is_of(&first))
    })
    .await;
    let first_pid = first.id().to_string();
    first.stop(Signal::SIGKILL);
    let_go(&databases).await;
    // Its lease would run out a while later.
    execute(&databases.queue, "update bridge.job set lease_until = now() - interval '1 s' where state = 'claimed'")
        .await;
    let mut second = desk.start(WORKER, &[]);
    the_run_ends(&databases, &mut second).await;
    stops(second);

    let spans = receiver.of(trace);
    let cut = one(&spans, "cut", &[("stage", "identities")]);
    assert_eq!(cut.resource["process.pid"], first_pid);
    let page = one(&spans, "page", &[("side", "legacy"), ("attempt", "2"), ("ending", "done")]);
    assert_ne!(page.resource["process.pid"], first_pid);
    let stage = one(&spans, "stage", &[("stage", "identities")]);
    assert_eq!((cut.parent, page.parent), (stage.id, stage.id));
    assert_eq!(one(&spans, "run", &[]).id, stage.parent);
    assert_eq!(users(&databases).await, 3);
}

#[tokio::test]
async fn what_fails_is_told_by_its_kind() {
    let databases = Databases::new("failed trace").await;
    let receiver = Receiver::new(true);
    let quiet = databases.desk("failed-trace");
    quiet.succeeds(&["migrate"]);
    quiet.succeeds(&["prepare"]);
    let config = config(true) + "\n[defaults]\nattempts_max = 1\n";
    std::fs::write(quiet.folder.path().join("bridge.toml"), config).expect("writing a configuration");
    let desk = receiver.hears(quiet).with("SYNC_BRIDGE_FAULT", "page.decided:panic");
    // All that it did is sent when it ends.
    let output = desk.run(&["run", "--customer", "acme", "--inline"]);
    let trace = first_trace(&databases).await;
    let spans = receiver.of(trace);
    assert!(!spans.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    is_whole(&spans);
    let page = one(&spans, "page", &[("side", "legacy"), ("ending", "dead"), ("error_kind", "crash")]);
    assert!(page.is_error, "{page:#?}");
    assert!(!one(&spans, "run", &[("ending", "degraded")]).is_error);
    // Also where lines below warnings are not written.
    let lines = json_lines(&output);
    assert!(lines_lead_to_spans(&lines, trace, &spans) > 0, "{lines:#?}");
}

#[tokio::test]
async fn without_a_receiver_no_line_names_a_trace() {
    let databases = Databases::new("no trace").await;
    let desk = databases.desk("no-trace");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    let desk = desk.with("LOG_FORMAT", "json").with("SYNC_BRIDGE_LOG", "info");
    let output = desk.run(&["run", "--customer", "acme", "--inline"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = json_lines(&output);
    assert!(lines.iter().any(|line| line["message"] == "run closed"), "{lines:#?}");
    for line in lines {
        assert_eq!([line.get("trace_id"), line.get("dd.trace_id"), line.get("dd.span_id")], [None; 3], "{line}");
    }
}

/// Its queue is full after a few spans, and what it was sent first is never answered.
#[tokio::test]
async fn a_receiver_that_never_answers_keeps_neither_a_run_nor_a_process_from_ending() {
    let databases = Databases::new("silent receiver").await;
    let receiver = Receiver::new(false);
    let quiet = databases.desk("silent-receiver");
    quiet.succeeds(&["migrate"]);
    quiet.succeeds(&["prepare"]);
    let desk = receiver
        .hears(quiet)
        .with("OTEL_EXPORTER_OTLP_TIMEOUT", "600000")
        .with("OTEL_BSP_SCHEDULE_DELAY", "20")
        .with("OTEL_BSP_MAX_QUEUE_SIZE", "2")
        .with("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1");
    let queue = sync_bridge::queue::connect(&databases.queue.url).await.expect("connecting");
    sync_bridge::ops::tick_now(&queue, &sync_bridge::config::CustomerId::new("c-1")).await.expect("a tick");
    let mut worker = desk.start(WORKER, &["--grace", "10"]);
    the_run_ends(&databases, &mut worker).await;
    assert_eq!(users(&databases).await, 2);
    assert_eq!(receiver.received.lock().expect("no panic").len(), 1, "it waits for the first answer");
    worker.signal(Signal::SIGTERM);
    eventually("it has ended", async || worker.has_ended().is_some()).await;
    let output = worker.end();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told: BTreeSet<String> =
        json_lines(&output).iter().filter_map(|line| Some(line["name"].as_str()?.to_owned())).collect();
    assert!(told.contains("BatchSpanProcessor.Shutdown.Timeout"), "{told:?}");
}

#[tokio::test]
async fn a_receiver_that_is_away_is_told_of_once() {
    let databases = Databases::new("away receiver").await;
    let quiet = databases.desk("away-receiver");
    quiet.succeeds(&["migrate"]);
    quiet.succeeds(&["prepare"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|there| there.local_addr()).expect("a free port");
    let desk = quiet
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{nobody}"))
        .with("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
        .with("LOG_FORMAT", "json");
    let output = desk.run(&["run", "--customer", "acme", "--inline"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = json_lines(&output);
    let told = |start: &str| {
        lines.iter().filter(|line| line["message"].as_str().is_some_and(|m| m.starts_with(start))).count()
    };
    assert_eq!(told("traces are not received, the work goes on without: "), 1, "{lines:#?}");
    assert!(lines.iter().all(|line| line["target"] != "opentelemetry-otlp"), "{lines:#?}");
}

/// A pod knows the address of its node, and puts a port behind it, whatever family that is of.
#[tokio::test]
async fn a_receiver_on_ipv6_is_found_without_brackets() {
    let databases = Databases::new("ipv6").await;
    let receiver = Receiver::on("[::1]:0", true);
    let endpoint = format!("http://{}:{}", receiver.address.ip(), receiver.address.port());
    assert!(!endpoint.contains('['), "{endpoint}");
    let desk = databases.desk("ipv6").with("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    desk.succeeds(&["run", "--customer", "acme", "--inline"]);
    let spans = receiver.of(first_trace(&databases).await);
    assert!(!spans.is_empty(), "nothing came");
}

#[tokio::test]
async fn a_receiver_that_cannot_be_understood_is_refused() {
    let desk = Desk::new("wrong-receiver", &config(false))
        .with("LEGACY_URL", "postgres://localhost/a")
        .with("PLATFORM_URL", "postgres://localhost/b")
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", "agent:4318");
    desk.is_refused(&["worker"], "OTEL_EXPORTER_OTLP_ENDPOINT is no `http://HOST:4318`");
}
