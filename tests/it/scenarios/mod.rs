//! What a two-way sync by `updated_at` must survive, one test per scenario, numbered. After each, the systems come to rest
//! and the oracles of `Systems::oracles` hold. Where a guard is what saves the scenario, it runs once more without that guard,
//! and must be lost.

mod changes;
mod conflicts;
mod crashes;
mod crowds;
mod rows;

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use sync_bridge::fault;

/// That the scenario is lost without these guards, and by which of its assertions.
async fn is_lost_without(guards: &[&'static str], says: &str, scenario: impl Future<Output = ()>) {
    let lost = AssertUnwindSafe(fault::weakly(guards, scenario)).catch_unwind().await;
    let panic = lost.expect_err("nobody misses the guard");
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
    assert!(text.contains(says), "without {guards:?} it is lost by another reason than `{says}`: {text}");
}
