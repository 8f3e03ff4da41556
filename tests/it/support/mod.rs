//! What the tests stand on: a server that all share, a database for each, folders, waiting with a bound. Never: a test.

#![allow(dead_code, unused_imports, reason = "what no test uses today is still part of the set")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub mod bridge;
pub mod browser;
pub mod crowd;
mod database;
pub mod door;
pub mod faults;
pub mod people;
pub mod proxy;
pub mod queue;
pub mod rights;
pub mod slow;
pub mod systems;

pub use database::{Template, TestDatabase, database, database_from, database_in, server, template};

/// A machine under load is slow; nothing that works takes this long.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// How often a condition is looked at that cannot signal.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where tests may write: under the target folder. An example is not told where; it lies two folders below the target.
pub fn target_tmp() -> &'static Path {
    static FOUND: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        let given = option_env!("CARGO_TARGET_TMPDIR").map(PathBuf::from);
        given.unwrap_or_else(|| {
            let program = std::env::current_exe().expect("the program's own path");
            program.ancestors().nth(3).expect("a target folder").join("tmp")
        })
    });
    &FOUND
}

/// A folder of this test, deleted at its end; kept if the test fails.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(hint: &str) -> Folder {
        let path = target_tmp().join(format!("{hint}-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&path).expect("making a folder under the target folder");
        Folder { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // A cluster that its account cannot reach under the target folder lives elsewhere.
        if let Ok(elsewhere) = std::fs::read_to_string(self.path.join("cluster-is-at")) {
            let _ = std::fs::remove_dir_all(elsewhere.trim());
        }
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Waits until the condition holds: only for what happens in another process or database, which cannot signal.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !condition().await {
        assert!(start.elapsed() < WAIT_MAX, "still not after {} s: {what}", WAIT_MAX.as_secs());
        looks.tick().await;
    }
}
