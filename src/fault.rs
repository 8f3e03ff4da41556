//! Fault points: named places where a crash or a pause would hurt. A debug build can be killed at one by a switch of the
//! environment, which a release binary does not know; a test can hold up its own work at one.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, OnceCell};

tokio::task_local! {
    static WATCH: Arc<Watch>;
}

/// Kills this process here with SIGKILL if `SYNC_BRIDGE_FAULT` is `name`, or `name:n` and this is the n-th pass; panics here, at
/// each pass, if it is `name:panic`; or waits here if a test watches this work.
pub async fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    fail_if_armed(name);
    if let Ok(watch) = WATCH.try_with(Arc::clone) {
        watch.pass(name).await;
    }
}

#[cfg(debug_assertions)]
fn fail_if_armed(name: &str) {
    // So that a test knows which points a kind of work passes.
    tracing::trace!(point = name, "passed");
    static PASSES: AtomicU64 = AtomicU64::new(0);
    let Ok(armed) = std::env::var("SYNC_BRIDGE_FAULT") else { return };
    assert!(armed.strip_suffix(":panic") != Some(name), "a fault point that panics: {name}");
    let (wanted, pass) = match armed.split_once(':') {
        Some((wanted, pass)) => (wanted, pass.parse().unwrap_or(1)),
        None => (armed.as_str(), 1),
    };
    if wanted == name && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == pass {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Holds work up at the n-th fault point it passes, for tests: there it can be dropped, as if it had died, or let go on.
#[doc(hidden)]
pub struct Watch {
    at: u64,
    counts: Box<dyn Fn(&str) -> bool + Send + Sync>,
    passes: AtomicU64,
    reached: OnceCell<&'static str>,
    arrived: Notify,
    go: Notify,
}

impl Watch {
    /// Of the points that `counts` chooses, the n-th, from 1.
    pub fn new(at: u64, counts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Arc<Watch> {
        Arc::new(Watch {
            at,
            counts: Box::new(counts),
            passes: AtomicU64::new(0),
            reached: OnceCell::new(),
            arrived: Notify::new(),
            go: Notify::new(),
        })
    }

    /// Runs `work` under this watch.
    pub fn over<F: Future>(self: &Arc<Watch>, work: F) -> impl Future<Output = F::Output> {
        WATCH.scope(self.clone(), work)
    }

    /// Waits until the work stands at the point; answers its name.
    pub async fn reached(&self) -> &'static str {
        loop {
            let arrived = self.arrived.notified();
            if let Some(name) = self.reached.get() {
                return name;
            }
            arrived.await;
        }
    }

    /// Lets it go on.
    pub fn go(&self) {
        self.go.notify_one();
    }

    async fn pass(&self, name: &'static str) {
        if (self.counts)(name) && self.passes.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            let _ = self.reached.set(name);
            self.arrived.notify_waiters();
            self.go.notified().await;
        }
    }
}
