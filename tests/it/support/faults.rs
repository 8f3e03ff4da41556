//! Work that is held up at a fault point, in this process.

use sync_bridge::fault::Watch;

/// Runs `work` until it first comes to `place`, then `other`, then the rest of `work`.
///
/// # Panics
/// If `work` ends without coming there.
pub async fn meanwhile<F: Future, G: Future>(place: &'static str, work: F, other: G) -> (F::Output, G::Output) {
    let watch = Watch::new(1, move |name| name == place);
    let mut work = std::pin::pin!(watch.over(work));
    tokio::select! {
        biased;
        _ = watch.reached() => {}
        _ = &mut work => panic!("nobody came to {place}"),
    }
    let other = other.await;
    watch.go();
    (work.await, other)
}

/// Runs `work` until it first comes to `place`, and drops it there: what a crash leaves.
///
/// # Panics
/// If `work` ends without coming there.
pub async fn crash_at<F: Future>(place: &'static str, work: F) {
    let watch = Watch::new(1, move |name| name == place);
    tokio::select! {
        biased;
        _ = watch.reached() => {}
        _ = watch.over(work) => panic!("nobody came to {place}"),
    }
}
