//! Breadth-first search over all interleavings, so that a counterexample is a shortest one. Keeps 64-bit fingerprints of
//! states, not states: that two of ten million states share one has a chance of some three in a million.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

/// Something that has states and steps.
pub trait Model: Sync {
    type State: Copy + Send + Sync;
    /// What a thread keeps between calls.
    type Scratch: Send;

    fn scratch(&self) -> Self::Scratch;
    fn start(&self) -> Self::State;
    /// All steps from a state, always in the same order; told in words only if asked for.
    fn steps(&self, scratch: &mut Self::Scratch, state: &Self::State, words: bool, found: &mut Vec<Step<Self::State>>);
    /// The same for states that differ only in what does not matter.
    fn fingerprint(&self, state: &Self::State) -> u64;
    /// The invariant that a state breaks.
    fn broken(&self, scratch: &mut Self::Scratch, state: &Self::State) -> Option<String>;
    fn show(&self, state: &Self::State) -> String;
}

pub struct Step<S> {
    pub state: S,
    pub words: String,
    /// The invariant that the step itself breaks.
    pub broken: Option<String>,
}

/// Where to stop.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub states: usize,
    pub seconds: u64,
    pub threads: usize,
}

#[derive(Debug)]
pub struct Outcome {
    pub states: usize,
    pub depth: usize,
    pub took: Duration,
    /// Every state that can be reached was looked at.
    pub complete: bool,
    pub found: Option<Counterexample>,
}

#[derive(Debug)]
pub struct Counterexample {
    pub what: String,
    /// Each step in words, and the state after it.
    pub steps: Vec<(String, String)>,
}

/// Fingerprints are spread well already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// States expanded between two merges: enough to keep the threads busy.
const BLOCK: usize = 1 << 12;

/// A new state: fingerprint, which of its origin's steps, itself, what it breaks.
struct Fresh<S> {
    fingerprint: u64,
    step: u16,
    origin: u32,
    state: S,
    broken: Option<String>,
}

pub fn search<M: Model>(model: &M, bounds: Bounds) -> Outcome {
    let began = Instant::now();
    let mut seen: HashSet<u64, BuildHasherDefault<AsIs>> = HashSet::default();
    // Where each state came from, to tell the way to it.
    let mut origins: Vec<(u32, u16)> = Vec::new();
    let start = model.start();
    seen.insert(model.fingerprint(&start));
    origins.push((0, 0));
    let mut scratches: Vec<M::Scratch> = (0..bounds.threads.max(1)).map(|_| model.scratch()).collect();
    let mut frontier = vec![(0_u32, start)];
    let mut depth = 0;
    let mut complete = true;
    'levels: while !frontier.is_empty() {
        let mut next = Vec::new();
        depth += 1;
        for block in frontier.chunks(BLOCK) {
            let share = block.len().div_ceil(scratches.len()).max(1);
            let found: Vec<Vec<Fresh<M::State>>> = std::thread::scope(|scope| {
                let seen = &seen;
                let workers: Vec<_> = block
                    .chunks(share)
                    .zip(&mut scratches)
                    .map(|(part, scratch)| scope.spawn(move || expand(model, scratch, part, seen)))
                    .collect();
                workers.into_iter().map(|worker| worker.join().expect("a model does not panic")).collect()
            });
            for fresh in found.into_iter().flatten() {
                if !seen.insert(fresh.fingerprint) && fresh.broken.is_none() {
                    continue;
                }
                let number = u32::try_from(origins.len()).expect("fewer than four thousand million states");
                origins.push((fresh.origin, fresh.step));
                if let Some(what) = fresh.broken {
                    let steps = way(model, &mut scratches[0], &origins, number);
                    let found = Some(Counterexample { what, steps });
                    return Outcome { states: seen.len(), depth, took: began.elapsed(), complete: false, found };
                }
                next.push((number, fresh.state));
            }
            if seen.len() >= bounds.states || began.elapsed().as_secs() >= bounds.seconds {
                complete = false;
                break 'levels;
            }
        }
        frontier = next;
    }
    Outcome { states: seen.len(), depth, took: began.elapsed(), complete, found: None }
}

fn expand<M: Model>(
    model: &M,
    scratch: &mut M::Scratch,
    part: &[(u32, M::State)],
    seen: &HashSet<u64, BuildHasherDefault<AsIs>>,
) -> Vec<Fresh<M::State>> {
    let mut fresh = Vec::new();
    let mut steps = Vec::new();
    for (origin, state) in part {
        steps.clear();
        model.steps(scratch, state, false, &mut steps);
        for (at, step) in steps.drain(..).enumerate() {
            let fingerprint = model.fingerprint(&step.state);
            let known = seen.contains(&fingerprint);
            if known && step.broken.is_none() {
                continue;
            }
            let broken = step.broken.or_else(|| if known { None } else { model.broken(scratch, &step.state) });
            fresh.push(Fresh { fingerprint, step: at as u16, origin: *origin, state: step.state, broken });
        }
    }
    fresh
}

/// The steps from the start to a state, found again by taking them.
fn way<M: Model>(
    model: &M,
    scratch: &mut M::Scratch,
    origins: &[(u32, u16)],
    mut number: u32,
) -> Vec<(String, String)> {
    let mut turns = Vec::new();
    while number != 0 {
        let (origin, step) = origins[number as usize];
        turns.push(step);
        number = origin;
    }
    let mut state = model.start();
    let mut found = Vec::new();
    let mut told = vec![("start".to_string(), model.show(&state))];
    for turn in turns.into_iter().rev() {
        found.clear();
        model.steps(scratch, &state, true, &mut found);
        let step = found.swap_remove(usize::from(turn));
        state = step.state;
        told.push((step.words, model.show(&state)));
    }
    told
}

/// Gathers the bytes that a value hashes, for one pass of a fast hash over all of them.
pub struct Bytes {
    bytes: [u8; 512],
    len: usize,
}

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn write_u8(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// The variant of an enum.
    fn write_isize(&mut self, variant: isize) {
        self.write_u8(variant as u8);
    }

    /// The length of an array, which never differs.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        xxh3_64(&self.bytes[..self.len])
    }
}

pub fn fingerprint(value: &impl Hash) -> u64 {
    let mut bytes = Bytes { bytes: [0; 512], len: 0 };
    value.hash(&mut bytes);
    bytes.finish()
}

/// A hasher for small keys of bytes.
#[derive(Default)]
pub struct Small(u64);

impl Hasher for Small {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(7) ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_isize(&mut self, variant: isize) {
        self.write_u8(variant as u8);
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 31)
    }
}
