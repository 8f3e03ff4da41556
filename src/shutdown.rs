//! How a process is asked to stop. Owns: SIGTERM and Ctrl-C. Never: what stopping means; that is each part's own.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell says of a process that an interrupt ended.
const EXIT_INTERRUPTED: i32 = 130;

/// A token that the first SIGTERM or Ctrl-C cancels. A second one ends the process at once: leases and transactions make
/// that safe, only slower to recover from.
///
/// # Errors
/// When signals cannot be listened to.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to Ctrl-C")?;
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "Ctrl-C",
            }
        };
        let name = next().await;
        tracing::info!("{name}: stopping in order, once more stops at once");
        asked.cancel();
        let name = next().await;
        tracing::warn!("{name} again: stopping at once");
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(token)
}

/// Ends this process in order, as SIGTERM does, once its stdin ends: a parent that is killed cannot say goodbye.
pub fn when_stdin_ends() {
    std::thread::spawn(|| {
        // An end and an error are the same: nobody is there any more.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        // It is this process, so it is there.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGTERM);
    });
}
