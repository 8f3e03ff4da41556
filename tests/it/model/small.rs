//! The model at small bounds, with every test run.

use super::search::Bounds;
use super::{Size, omissions, protocol};

/// Enough for the first dozen steps of every run, and for all of the smallest.
const STATES: usize = 12_000;
const SECONDS: u64 = 120;

fn bounds(states: usize) -> Bounds {
    Bounds { states, seconds: SECONDS, threads: 2 }
}

#[test]
fn the_protocol_loses_nothing() {
    for case in protocol(Size { fields: 1, values: 2, edits: 2, workers: 2 }) {
        let outcome = case.run(bounds(STATES));
        if let Some(found) = outcome.found {
            panic!("{}: {}\n{:#?}", case.name, found.what, found.steps);
        }
        let bounded = outcome.states >= STATES || outcome.took.as_secs() >= SECONDS;
        assert!(outcome.complete || bounded, "{}: {outcome:?}", case.name);
        assert!(outcome.states > 1_000 && outcome.depth > 5, "{}: {outcome:?}", case.name);
    }
}

#[test]
fn each_guard_that_is_left_out_is_found_out() {
    for case in omissions() {
        let outcome = case.run(bounds(100_000));
        let guard = case.without.expect("an omission leaves something out");
        let found = outcome.found.unwrap_or_else(|| {
            panic!("nothing goes wrong without {} ({guard}) in {} states", case.name, outcome.states)
        });
        assert!(found.steps.len() > 2 && found.steps.len() <= 20, "{}: {:#?}", case.name, found.steps);
    }
}
