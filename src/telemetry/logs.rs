//! Logs on stderr, for people on a terminal and as JSON elsewhere, there with the trace that a line belongs to.

use std::fmt;
use std::io::IsTerminal as _;

use anyhow::{Context as _, bail};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::{FmtSpan, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, registry};

use super::traces;

/// How much is logged where no filter is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Processes that work for days.
    Working,
    /// Commands that answer and end: only what a person must act on.
    Answering,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// sqlx tells every statement at debug, apalis every task at info, and OpenTelemetry each batch that is lost; none is ours to act on. A
/// statement that takes more than a second is a warning of sqlx's, with all of its text over many lines: that an answer is late, or does not
/// come, is told by who waits for it. A command tells also that a connection was lost: a line of sqlx's would be drawn into its screen.
const FILTER_WORKING: &str = "info,sqlx=warn,sqlx::query=error,apalis=warn,opentelemetry=warn,opentelemetry-otlp=error";
const FILTER_ANSWERING: &str = "warn,sqlx=error,opentelemetry-otlp=error";

/// Lines that wait for a slow reader.
const LINES_BUFFERED: usize = 20_000;

/// Reads `LOG_FORMAT` (`text`, `json`) and `SYNC_BRIDGE_LOG`, else `RUST_LOG`.
///
/// # Errors
/// Names the variable that cannot be understood.
pub(super) fn start(level: Level, spans: Option<traces::Spans>) -> anyhow::Result<WorkerGuard> {
    let format = format(std::env::var("LOG_FORMAT").ok().as_deref(), std::io::stderr().is_terminal())?;
    let filter = filter(level)?;
    // Nobody waits for a full pipe: lines that find no room in the buffer are dropped. What is left is written when the guard is.
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_BUFFERED).finish(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(format == Format::Text && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_span_events(FmtSpan::NONE);
    let lines = match format {
        Format::Text => lines.with_target(false).boxed(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(true)
            .map_event_format(WithTrace)
            .boxed(),
    };
    // The filter is of lines alone: what is traced does not hang on what is logged.
    registry()
        .with(spans)
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|error| anyhow::anyhow!("starting the log: {error}"))?;
    Ok(guard)
}

/// Lines of JSON that begin with the ids of the span under way, in hex as OpenTelemetry has them and in decimal as Datadog does.
struct WithTrace<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(ids) = traces::current() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&with_trace(&line, ids))
    }
}

fn with_trace(line: &str, (trace, span): (u128, u64)) -> String {
    let Some(members) = line.strip_prefix('{') else { return line.to_owned() };
    // Datadog's are the lower half.
    let lower = trace as u64;
    format!(r#"{{"trace_id":"{trace:032x}","dd.trace_id":"{lower}","dd.span_id":"{span}",{members}"#)
}

fn format(asked: Option<&str>, is_terminal: bool) -> anyhow::Result<Format> {
    match asked {
        None | Some("") => Ok(if is_terminal { Format::Text } else { Format::Json }),
        Some("text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        Some(other) => bail!("LOG_FORMAT is `{other}`: `text` or `json`"),
    }
}

fn filter(level: Level) -> anyhow::Result<EnvFilter> {
    let set = ["SYNC_BRIDGE_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| Some((name, std::env::var(name).ok().filter(|value| !value.is_empty())?)));
    match set {
        Some((name, value)) => EnvFilter::try_new(&value)
            .with_context(|| format!("{name} is `{value}`: a level (`debug`) or `target=level` pairs")),
        None => Ok(EnvFilter::new(match level {
            Level::Working => FILTER_WORKING,
            Level::Answering => FILTER_ANSWERING,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_takes_its_time_is_not_printed() {
        use tracing_subscriber::layer::SubscriberExt as _;
        for filter in [FILTER_WORKING, FILTER_ANSWERING] {
            let subscriber = tracing_subscriber::registry().with(EnvFilter::new(filter));
            tracing::subscriber::with_default(subscriber, || {
                assert!(!tracing::enabled!(target: "sqlx::query", tracing::Level::WARN), "{filter}");
                assert!(!tracing::enabled!(target: "opentelemetry-otlp", tracing::Level::WARN), "{filter}");
                assert!(tracing::enabled!(target: "opentelemetry_sdk", tracing::Level::WARN), "{filter}");
                assert_eq!(
                    tracing::enabled!(target: "sqlx::pool", tracing::Level::WARN),
                    filter == FILTER_WORKING,
                    "{filter}"
                );
            });
        }
    }

    #[test]
    fn a_line_of_json_begins_with_its_trace() {
        let line = with_trace("{\"level\":\"INFO\"}\n", (0x1234_5678_9abc_def0_fedc_ba98_7654_3210, 7));
        assert!(line.ends_with("}\n"), "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["trace_id"], "123456789abcdef0fedcba9876543210");
        assert_eq!(line["dd.trace_id"], "18364758544493064720");
        assert_eq!((&line["dd.span_id"], &line["level"]), (&"7".into(), &"INFO".into()));
    }

    #[test]
    fn the_format_is_asked_for_or_follows_the_terminal() {
        for (asked, is_terminal, expected) in [
            (None, true, Some(Format::Text)),
            (None, false, Some(Format::Json)),
            (Some(""), false, Some(Format::Json)),
            (Some("text"), false, Some(Format::Text)),
            (Some("json"), true, Some(Format::Json)),
            (Some("xml"), true, None),
        ] {
            assert_eq!(format(asked, is_terminal).ok(), expected, "{asked:?} {is_terminal}");
        }
    }
}
