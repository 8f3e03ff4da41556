//! Fault points: named places where a crash would hurt. They exist in debug builds only; a release binary ignores their
//! switch.

/// Kills this process here with SIGKILL if `SYNC_BRIDGE_FAULT` is `name`, or `name:n` and this is the n-th pass.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSES: AtomicU64 = AtomicU64::new(0);
    let Ok(armed) = std::env::var("SYNC_BRIDGE_FAULT") else { return };
    let (wanted, pass) = match armed.split_once(':') {
        Some((wanted, pass)) => (wanted, pass.parse().unwrap_or(1)),
        None => (armed.as_str(), 1),
    };
    if wanted == name && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == pass {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(not(debug_assertions))]
pub fn point(_name: &str) {}
