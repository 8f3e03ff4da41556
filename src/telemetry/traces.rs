//! Traces of ticks, sent by OTLP. Owns: which trace and span a tick, a run and a stage are, and the way to whoever receives them. Never: a
//! wait of the caller, a row's key or value.
//!
//! What travels with a job is nothing more than its id: trace and span ids are derived from the ledger's rows. A trace is its tick, and what
//! other spans hang on (tick, run, stage) is a row too. So whoever takes up a job knows where its span belongs, also when it is delivered a
//! second time or by an older worker, and neither ledger nor payload has a place for it that could be lost or wrong. A span that no process
//! lives through (one cuts a stage, another closes it) is sent whole, at its end, by whoever ended it; until then its id is known all the
//! same. And from a run's number leads a way to its trace, whether or not it was sent.

use std::cell::Cell;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider,
    ShouldSample, SpanData,
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::{Layer, Registry};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

pub use opentelemetry::Value;

/// How long the end of the process may wait for the last spans.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// What a span says of its work.
pub type Attribute = (&'static str, Value);

/// Set once a receiver is named; empty, traces cost nothing.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

thread_local! {
    /// The ids of the span that is made next.
    static GIVEN: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// The trace of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace(u128);

/// What other spans hang on: a row of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Tick,
    Run { run: i64 },
    Stage { run: i64, stage: i64 },
}

impl Trace {
    /// Of the tick with this id, made at this time: in another queue database, or one that was made anew, the same id is of another tick.
    ///
    /// Processes of different versions derive the same: how it is done is fixed for ever.
    pub fn of(tick: i64, made_at: DateTime<Utc>) -> Trace {
        Trace(xxh3_128(&[tick.to_be_bytes(), made_at.timestamp_micros().to_be_bytes()].concat()))
    }

    fn id(self) -> TraceId {
        TraceId::from(self.0)
    }

    fn span(self, node: Node) -> SpanId {
        let (kind, id) = match node {
            Node::Tick => (b't', 0),
            Node::Run { run } => (b'r', run),
            Node::Stage { stage, .. } => (b's', stage),
        };
        let bytes = [&self.0.to_be_bytes()[..], &[kind], &id.to_be_bytes()].concat();
        SpanId::from(xxh3_64(&bytes))
    }

    /// Says "sampled" whatever the sampler says, which asks nobody but the trace's id.
    fn context(self, node: Node) -> Context {
        let span = SpanContext::new(self.id(), self.span(node), TraceFlags::SAMPLED, true, TraceState::default());
        Context::new().with_remote_span_context(span)
    }
}

/// As traces are looked up.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Node {
    const NAMES: [&str; 3] = ["tick", "run", "stage"];

    fn name(self) -> &'static str {
        let [tick, run, stage] = Node::NAMES;
        match self {
            Node::Tick => tick,
            Node::Run { .. } => run,
            Node::Stage { .. } => stage,
        }
    }

    fn parent(self) -> Option<Node> {
        match self {
            Node::Tick => None,
            Node::Run { .. } => Some(Node::Tick),
            Node::Stage { run, .. } => Some(Node::Run { run }),
        }
    }
}

/// Whether anybody receives them: what must be asked for first need not be asked for otherwise.
pub fn are_sent() -> bool {
    TRACER.get().is_some()
}

/// Makes a span that was not entered yet part of the trace, below `node`.
pub fn hang(span: &tracing::Span, trace: Trace, node: Node, attributes: Vec<Attribute>) {
    if !are_sent() {
        return;
    }
    if span.set_parent(trace.context(node)).is_err() {
        tracing::debug!(%trace, "a span found no place in its trace");
    }
    for (key, value) in attributes {
        span.set_attribute(key, value);
    }
}

/// Says of the span under way how it ended; `error_kind` if it failed.
pub fn note(ending: &'static str, error_kind: Option<&str>) {
    if !are_sent() {
        return;
    }
    let span = tracing::Span::current();
    span.set_attribute("ending", ending);
    if let Some(kind) = error_kind {
        span.set_attribute("error_kind", kind.to_owned());
        span.set_status(Status::error(kind.to_owned()));
    }
}

/// Sends the span of a tick, run or stage that has ended: once, whoever worked on it.
pub fn ended(trace: Trace, node: Node, from: DateTime<Utc>, upto: DateTime<Utc>, attributes: Vec<Attribute>) {
    let Some(tracer) = TRACER.get() else { return };
    let parent = node.parent().map_or_else(Context::new, |parent| trace.context(parent));
    let attributes = attributes.into_iter().map(|(key, value)| KeyValue::new(key, value));
    let span = tracer.span_builder(node.name()).with_start_time(from).with_attributes(attributes);
    GIVEN.set(Some((trace.id(), trace.span(node))));
    let mut span = tracer.build_with_context(span, &parent);
    GIVEN.set(None);
    // Two clocks: the ledger's and this process's.
    span.end_with_timestamp(upto.max(from).into());
}

/// Of the span under way: the trace's id and its own.
pub(super) fn current() -> Option<(u128, u64)> {
    if !are_sent() {
        return None;
    }
    let context = Context::current();
    let span = context.span().span_context().clone();
    let ids = || (u128::from_be_bytes(span.trace_id().to_bytes()), u64::from_be_bytes(span.span_id().to_bytes()));
    span.is_valid().then(ids)
}

/// What is sent and how, beside what the exporter reads of the environment itself.
#[derive(Debug)]
struct Settings {
    sampler: Sampler,
    service: Vec<KeyValue>,
    /// Goes before all that names a service otherwise.
    service_name: Option<String>,
    /// In place of the one that the exporter would take from the environment.
    endpoint: Option<String>,
}

impl Settings {
    /// `None` if no receiver is named, or traces are switched off.
    fn from(var: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Settings>> {
        if var("OTEL_SDK_DISABLED").is_some_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match var("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => bail!("OTEL_TRACES_EXPORTER is `{other}`: `otlp` or `none`"),
        }
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, var(name)?)));
        let Some((name, endpoint)) = first(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
        else {
            return Ok(None);
        };
        let mended = with_brackets(&endpoint);
        // The exporter takes its own default for what it does not understand.
        let is_known = |endpoint: hyper::Uri| endpoint.scheme_str() == Some("http") && endpoint.host().is_some();
        if mended.is_none() && !endpoint.parse().is_ok_and(is_known) {
            // Not as it is: a password may stand in it.
            bail!("{name} is no `http://HOST:4318`: name an agent or collector that is near (TLS is not spoken)");
        }
        if let Some((name, protocol)) = first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"])
            && protocol != "http/protobuf"
        {
            bail!("{name} is `{protocol}`: `http/protobuf`");
        }
        let sampler = sampler(var("OTEL_TRACES_SAMPLER").as_deref(), var("OTEL_TRACES_SAMPLER_ARG").as_deref())?;
        // As metrics are tagged, so that one leads to the other.
        let version = var("DD_VERSION").unwrap_or_else(|| env!("CARGO_PKG_VERSION").into());
        let mut service = vec![
            KeyValue::new("service.name", var("DD_SERVICE").unwrap_or_else(|| "sync-bridge".into())),
            KeyValue::new("service.version", version),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ];
        service.extend(var("DD_ENV").map(|env| KeyValue::new("deployment.environment.name", env)));
        // As the exporter would: the one for traces is taken as it is.
        let endpoint = mended.map(|endpoint| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            _ => endpoint,
        });
        Ok(Some(Settings { sampler, service, service_name: var("OTEL_SERVICE_NAME"), endpoint }))
    }
}

/// `http://fd00::7:4318` as it was meant, with brackets: a pod puts its node's address before the port, of whatever family that is.
fn with_brackets(endpoint: &str) -> Option<String> {
    let rest = endpoint.strip_prefix("http://")?;
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = place.rsplit_once(':')?;
    host.parse::<Ipv6Addr>().ok()?;
    Some(format!("http://[{host}]:{port}{path}"))
}

/// All spans of a trace are derived by whoever has them, so that there is no parent to ask: `parentbased_…` is the same as without.
fn sampler(name: Option<&str>, arg: Option<&str>) -> anyhow::Result<Sampler> {
    let Some(name) = name else { return Ok(Sampler::AlwaysOn) };
    match name.strip_prefix("parentbased_").unwrap_or(name) {
        "always_on" => Ok(Sampler::AlwaysOn),
        "always_off" => Ok(Sampler::AlwaysOff),
        "traceidratio" => {
            let arg = arg.unwrap_or("1");
            let ratio = arg.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            let ratio = ratio.with_context(|| format!("OTEL_TRACES_SAMPLER_ARG is `{arg}`: a number from 0 to 1"))?;
            Ok(Sampler::TraceIdRatioBased(ratio))
        }
        _ => bail!("OTEL_TRACES_SAMPLER is `{name}`: `always_on`, `always_off` or `traceidratio`"),
    }
}

/// A trace is sent whole or not at all, whichever processes work on it: its id decides. What belongs to no tick is no trace.
#[derive(Debug, Clone)]
struct Whole(Sampler);

impl ShouldSample for Whole {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let is_below = |parent: &Context| parent.span().span_context().is_sampled();
        if name != Node::Tick.name() && !parent.is_some_and(is_below) {
            let (attributes, trace_state) = (Vec::new(), TraceState::default());
            return SamplingResult { decision: SamplingDecision::Drop, attributes, trace_state };
        }
        self.0.should_sample(None, trace, name, kind, attributes, links)
    }
}

/// Random ids, but for spans that are given theirs.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        GIVEN.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        GIVEN.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// Says once that nobody receives spans, and once that somebody does again: an agent may be away for hours.
#[derive(Debug)]
struct Telling {
    exporter: SpanExporter,
    fails: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Telling {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        match self.exporter.export(spans).await {
            Ok(()) if self.fails.swap(false, Ordering::Relaxed) => tracing::info!("traces are received again"),
            Err(error) if !self.fails.swap(true, Ordering::Relaxed) => {
                tracing::warn!("traces are not received, the work goes on without: {error}");
            }
            Ok(()) | Err(_) => {}
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The sending thread; dropping it sends what waits, within a bound.
pub(super) struct Sending(SdkTracerProvider);

impl Drop for Sending {
    fn drop(&mut self) {
        // It says itself what it could not send.
        let _ = self.0.shutdown_with_timeout(FLUSH_MAX);
    }
}

/// Makes spans of the work's own spans.
pub(super) type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts the sending if a receiver is named.
pub(super) fn start() -> anyhow::Result<Option<(Sending, Spans)>> {
    let Some(settings) = Settings::from(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))? else {
        return Ok(None);
    };
    let resource = Resource::builder_empty()
        .with_attributes(settings.service)
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_detector(Box::new(TelemetryResourceDetector));
    let resource = match settings.service_name {
        Some(name) => resource.with_service_name(name),
        None => resource,
    };
    let builder = SpanExporter::builder().with_http();
    let builder = match settings.endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint),
        None => builder,
    };
    let exporter = builder.build().context("OTEL_EXPORTER_OTLP_…")?;
    let exporter = Telling { exporter, fails: AtomicBool::new(false) };
    // Its thread, its bounded queue which drops, and what `OTEL_BSP_…` says of them.
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.build())
        .with_sampler(Whole(settings.sampler))
        .with_id_generator(Ids::default())
        .with_batch_exporter(exporter)
        .build();
    let tracer = provider.tracer("sync-bridge");
    // A second start in one process keeps the first.
    let _ = TRACER.set(tracer.clone());
    // Of this program's spans those that are worked through; log lines stay log lines, they name keys.
    let is_sent = filter_fn(|meta| {
        meta.is_span() && meta.target().starts_with(env!("CARGO_CRATE_NAME")) && !Node::NAMES.contains(&meta.name())
    });
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false)
        .with_level(false)
        .with_filter(is_sent.with_max_level_hint(LevelFilter::DEBUG));
    Ok(Some((Sending(provider), Box::new(spans))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_at(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(1_700_000_000_000_000 + micros).expect("a time")
    }

    fn settings(vars: &[(&str, &str)]) -> anyhow::Result<Option<Settings>> {
        Settings::from(|name| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    /// Workers of two versions work on one trace while a new one is rolled out.
    #[test]
    fn ids_are_derived_as_they_always_were() {
        let trace = Trace::of(17, made_at(0));
        let [tick, run, stage] = [Node::Tick, Node::Run { run: 5 }, Node::Stage { run: 5, stage: 5 }]
            .map(|node| trace.span(node).to_string());
        let known = ["a0587b29147b12a9febb89c2cd1de973", "32001e5d8c9e72b0", "16b6dac9c843d21b", "d9df9a5ff090c106"];
        assert_eq!([trace.to_string(), tick, run, stage], known);
    }

    #[test]
    fn ids_differ_where_rows_do() {
        let trace = Trace::of(17, made_at(0));
        for other in [Trace::of(18, made_at(0)), Trace::of(17, made_at(1))] {
            assert_ne!(other, trace);
            assert_ne!(other.span(Node::Tick), trace.span(Node::Tick));
        }
        let spans =
            [trace.span(Node::Tick), trace.span(Node::Run { run: 0 }), trace.span(Node::Stage { run: 0, stage: 0 })];
        assert!(spans[0] != spans[1] && spans[1] != spans[2] && spans[0] != spans[2], "{spans:?}");
        assert_ne!(trace.span(Node::Run { run: 1 }), trace.span(Node::Run { run: 2 }));
    }

    #[test]
    fn nothing_is_sent_unless_a_receiver_is_named() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        for vars in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "bridge")],
            &[endpoint, ("OTEL_SDK_DISABLED", "true")],
            &[endpoint, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert!(settings(vars).expect("nothing is wrong").is_none(), "{vars:?}");
        }
        for vars in [
            &[endpoint][..],
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://agent:4318/v1/traces")],
            &[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_TRACES_EXPORTER", "otlp")],
        ] {
            assert!(settings(vars).expect("nothing is wrong").is_some(), "{vars:?}");
        }
    }

    #[test]
    fn a_node_may_have_an_address_of_ipv6() {
        let endpoint = |name: &'static str, value: &'static str| {
            settings(&[(name, value)]).expect("nothing is wrong").expect("a receiver").endpoint
        };
        let (all, own) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        assert_eq!(endpoint(all, "http://fd00::7:4318").as_deref(), Some("http://[fd00::7]:4318/v1/traces"));
        assert_eq!(endpoint(all, "http://::1:4318/").as_deref(), Some("http://[::1]:4318/v1/traces"));
        assert_eq!(endpoint(own, "http://fd00::7:4318/here").as_deref(), Some("http://[fd00::7]:4318/here"));
        for whole in ["http://10.0.0.7:4318", "http://[fd00::7]:4318", "http://agent:4318"] {
            assert_eq!(endpoint(all, whole), None, "{whole}: the exporter understands it");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        for (vars, told) in [
            (
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "agent:4318")][..],
                "OTEL_EXPORTER_OTLP_ENDPOINT is no `http://HOST:4318`",
            ),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:hunter2@agent:4318")], "(TLS is not spoken)"),
            (
                &[endpoint, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "no where")],
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is no `http://HOST:4318`",
            ),
            (
                &[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
                "OTEL_EXPORTER_OTLP_PROTOCOL is `grpc`: `http/protobuf`",
            ),
            (&[endpoint, ("OTEL_TRACES_EXPORTER", "zipkin")], "OTEL_TRACES_EXPORTER is `zipkin`: `otlp` or `none`"),
            (&[endpoint, ("OTEL_TRACES_SAMPLER", "xray")], "OTEL_TRACES_SAMPLER is `xray`: "),
            (
                &[endpoint, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "10%")],
                "OTEL_TRACES_SAMPLER_ARG is `10%`: a number from 0 to 1",
            ),
        ] {
            let error = settings(vars).expect_err(told).to_string();
            assert!(error.contains(told) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_trace_is_sent_whole_or_not_at_all() {
        let half = Whole(sampler(Some("parentbased_traceidratio"), Some("0.5")).expect("a sampler"));
        let is_sent = |trace: Trace, parent: Option<Node>, name: &str| {
            let context = parent.map_or_else(Context::new, |parent| trace.context(parent));
            let result = half.should_sample(Some(&context), trace.id(), name, &SpanKind::Internal, &[], &[]);
            result.decision == SamplingDecision::RecordAndSample
        };
        let mut sent = 0;
        for tick in 0..1000 {
            let trace = Trace::of(tick, made_at(0));
            let root = is_sent(trace, None, "tick");
            assert_eq!(is_sent(trace, Some(Node::Tick), "run"), root, "{trace}");
            assert_eq!(is_sent(trace, Some(Node::Stage { run: 1, stage: 1 }), "page"), root, "{trace}");
            assert!(!is_sent(trace, None, "read"), "what belongs to no tick is no trace");
            let left_out = SpanContext::new(
                trace.id(),
                trace.span(Node::Tick),
                TraceFlags::default(),
                false,
                TraceState::default(),
            );
            let below = Context::new().with_remote_span_context(left_out);
            let result = half.should_sample(Some(&below), trace.id(), "read", &SpanKind::Internal, &[], &[]);
            assert_eq!(result.decision, SamplingDecision::Drop, "nor what is below it");
            sent += u32::from(root);
        }
        assert!((400..600).contains(&sent), "{sent} of 1000");
    }

    #[test]
    fn without_a_receiver_nothing_happens() {
        assert!(!are_sent());
        hang(&tracing::info_span!("page"), Trace::of(1, made_at(0)), Node::Tick, Vec::new());
        ended(Trace::of(1, made_at(0)), Node::Tick, made_at(0), made_at(1), Vec::new());
        note("done", None);
        assert_eq!(current(), None);
    }
}
