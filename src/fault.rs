//! Fault points: named places where a crash, or somebody else's write, would hurt, and guards that a test can weaken to see
//! that it notices. They exist in debug builds only; a release binary knows neither the switch nor the names.

#[cfg(debug_assertions)]
pub use trial::{crash_at, meanwhile, point, weak, weakly};

#[cfg(debug_assertions)]
mod trial {
    use std::future::Future;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::oneshot;

    tokio::task_local! {
        static TRIAL: Trial;
    }

    /// What a test changes for the code that it calls in its own task.
    #[derive(Default)]
    struct Trial {
        weak: Vec<&'static str>,
        stop: Mutex<Option<Stop>>,
    }

    struct Stop {
        place: &'static str,
        reached: oneshot::Sender<()>,
        go_on: oneshot::Receiver<()>,
    }

    /// Kills this process here with SIGKILL if `SYNC_BRIDGE_FAULT` is `name`, or `name:n` and this is the n-th pass. Stops
    /// here if a test asked for it.
    pub async fn point(name: &str) {
        let asked = TRIAL.try_with(|trial| {
            let mut stop = trial.stop.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            stop.take_if(|stop| stop.place == name)
        });
        if let Ok(Some(stop)) = asked {
            let _ = stop.reached.send(());
            let _ = stop.go_on.await;
        }
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

    /// Whether this guard does not hold, because a test wants to see that it is missed.
    pub fn weak(guard: &str) -> bool {
        TRIAL.try_with(|trial| trial.weak.contains(&guard)).unwrap_or(false)
    }

    /// Runs `work` without these guards.
    pub async fn weakly<F: Future>(guards: &[&'static str], work: F) -> F::Output {
        TRIAL.scope(Trial { weak: guards.to_vec(), stop: Mutex::default() }, work).await
    }

    /// Runs `work` until it first comes to `place`, then `other`, then the rest of `work`.
    ///
    /// # Panics
    /// If `work` ends without coming there.
    pub async fn meanwhile<F: Future, G: Future>(place: &'static str, work: F, other: G) -> (F::Output, G::Output) {
        let (reached, is_reached) = oneshot::channel();
        let (go_on, may_go_on) = oneshot::channel();
        let work = TRIAL.scope(stopping(Stop { place, reached, go_on: may_go_on }), work);
        let other = async {
            assert!(is_reached.await.is_ok(), "nobody came to {place}");
            let done = other.await;
            let _ = go_on.send(());
            done
        };
        tokio::join!(work, other)
    }

    /// Runs `work` until it first comes to `place`, and drops it there: what a crash leaves.
    ///
    /// # Panics
    /// If `work` ends without coming there.
    pub async fn crash_at<F: Future>(place: &'static str, work: F) {
        let (reached, is_reached) = oneshot::channel();
        let (_never, may_go_on) = oneshot::channel();
        let work = TRIAL.scope(stopping(Stop { place, reached, go_on: may_go_on }), work);
        tokio::select! {
            biased;
            reached = is_reached => assert!(reached.is_ok(), "nobody came to {place}"),
            _ = work => panic!("nobody came to {place}"),
        }
    }

    fn stopping(stop: Stop) -> Trial {
        let weak = TRIAL.try_with(|trial| trial.weak.clone()).unwrap_or_default();
        Trial { weak, stop: Mutex::new(Some(stop)) }
    }
}

#[cfg(not(debug_assertions))]
pub async fn point(_name: &str) {}

#[cfg(not(debug_assertions))]
pub const fn weak(_guard: &str) -> bool {
    false
}
