//! What the tests stand on. Owns: folders, waiting with a bound. Never: a test.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A machine under load is slow; nothing that works takes this long.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How often a condition is looked at that cannot signal.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A folder of this test under the target folder, deleted at its end.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(hint: &str) -> Folder {
        let name = format!("{hint}-{}", uuid::Uuid::new_v4().simple());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("making a folder under the target folder");
        Folder { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Waits until the condition holds; for what happens in another process, which cannot signal.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < WAIT_MAX, "still not after {} s: {what}", WAIT_MAX.as_secs());
        std::thread::park_timeout(LOOK_EVERY);
    }
}
