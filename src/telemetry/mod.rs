//! What the process tells about itself: logs on stderr, metrics to a Datadog agent, traces to whoever speaks OTLP. Never: stdout,
//! which belongs to results; row contents; credentials.

use tracing_appender::non_blocking::WorkerGuard;

mod dogstatsd;
pub mod events;
pub mod logs;
pub mod metrics;
pub mod traces;

/// Keeps telemetry alive; dropping it sends what is still waiting.
#[must_use = "metrics, traces and logs are flushed when it is dropped"]
pub struct Telemetry {
    metrics: Option<dogstatsd::Agent>,
    traces: Option<traces::Sending>,
    /// Last, so that it writes what the others say at their end.
    _logs: WorkerGuard,
}

/// Starts logs, metrics and traces as the environment asks; once per process.
///
/// # Errors
/// Names the variable that cannot be understood.
pub fn start(level: logs::Level) -> anyhow::Result<Telemetry> {
    let (traces, spans) = traces::start()?.unzip();
    let logs = logs::start(level, spans)?;
    let agent = match dogstatsd::Settings::from_env()? {
        Some(settings) => Some(dogstatsd::start(settings)?),
        None => None,
    };
    Ok(Telemetry { metrics: agent, traces, _logs: logs })
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let (metrics, traces) = (self.metrics.take(), self.traces.take());
        // Beside each other: an end that waits for one does not wait for the other after it.
        std::thread::scope(|both| {
            both.spawn(|| drop(traces));
            drop(metrics);
        });
    }
}
