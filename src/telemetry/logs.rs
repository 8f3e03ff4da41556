//! Logs on stderr, for people on a terminal and as JSON elsewhere.

use std::io::IsTerminal as _;

use anyhow::{Context as _, bail};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

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

/// sqlx tells every statement at debug and apalis every task at info; neither is ours to act on. A statement that takes more than a second
/// is a warning of sqlx's, with all of its text over many lines: that an answer is late, or does not come, is told by who waits for it.
const FILTER_WORKING: &str = "info,sqlx=warn,sqlx::query=error,apalis=warn";
const FILTER_ANSWERING: &str = "warn,sqlx::query=error";

/// Lines that wait for a slow reader.
const LINES_BUFFERED: usize = 20_000;

/// Reads `LOG_FORMAT` (`text`, `json`) and `SYNC_BRIDGE_LOG`, else `RUST_LOG`.
///
/// # Errors
/// Names the variable that cannot be understood.
pub(super) fn start(level: Level) -> anyhow::Result<WorkerGuard> {
    let format = format(std::env::var("LOG_FORMAT").ok().as_deref(), std::io::stderr().is_terminal())?;
    let filter = filter(level)?;
    // Nobody waits for a full pipe: lines that find no room in the buffer are dropped. What is left is written when the guard is.
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_BUFFERED).finish(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(format == Format::Text && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_span_events(FmtSpan::NONE);
    match format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(true).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("starting the log: {error}"))?;
    Ok(guard)
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
                assert!(tracing::enabled!(target: "sqlx::pool", tracing::Level::WARN), "{filter}");
            });
        }
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
