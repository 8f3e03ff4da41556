//! What the process tells about itself: logs on stderr, metrics to a Datadog agent. Never: stdout, which belongs to
//! results; row contents; credentials.

use tracing_appender::non_blocking::WorkerGuard;

mod dogstatsd;
pub mod events;
pub mod logs;
pub mod metrics;

/// Keeps telemetry alive; dropping it sends what is still waiting.
#[must_use = "metrics and logs are flushed when it is dropped"]
pub struct Telemetry {
    _metrics: Option<dogstatsd::Agent>,
    /// Last, so that it writes what the others say at their end.
    _logs: WorkerGuard,
}

/// Starts logs and metrics as the environment asks; once per process.
///
/// # Errors
/// Names the variable that cannot be understood.
pub fn start(level: logs::Level) -> anyhow::Result<Telemetry> {
    let logs = logs::start(level)?;
    let agent = match dogstatsd::Settings::from_env()? {
        Some(settings) => Some(dogstatsd::start(settings)?),
        None => None,
    };
    Ok(Telemetry { _metrics: agent, _logs: logs })
}
