//! Other tools for the same rows, where they are installed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::place::Place;

/// A first load by sling: one way, the same schema, no key, no index, no pairs.
pub fn sling(place: &Place, program: &Path) -> Option<f64> {
    let url = |database: &str| format!("{}?sslmode=disable", place.url(database).split('?').next().unwrap_or_default());
    let began = Instant::now();
    let status = Command::new(program)
        .args(["run", "--src-conn", "SRC", "--src-stream", "public.people", "--tgt-conn", "DST"])
        .args(["--tgt-object", "public.people_by_sling", "--mode", "incremental", "--primary-key", "id"])
        .args(["--update-key", "updated_at"])
        .env("SLING_DISABLE_TELEMETRY", "TRUE")
        .env("SRC", url("legacy"))
        .env("DST", url("copied"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    status.success().then(|| began.elapsed().as_secs_f64())
}
