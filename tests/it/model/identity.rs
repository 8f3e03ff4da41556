//! Who is whose partner: records that applications insert on both sides, with a natural key that may change, made and
//! adopted by two workers. The look-up of partners mirrors `stages/read.rs`; what follows from it is `judge`'s.
//!
//! Platform rows 2 and up bear the ids that are computed from legacy rows; legacy rows 2 and up are the bridge's.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sync_bridge::config::{CustomerId, EntityId, FirstContact, Policy, Side};
use sync_bridge::keyset::Key;
use sync_bridge::mapping::{
    Canonical, Class, Column, Field, Lens, Links, Mapping, NewKey, NewPart, NullMarks, Shape, StampKind,
};
use sync_bridge::pairs::{self, Base, Complement, Listed};
use sync_bridge::sides::postgres;
use sync_bridge::stages::Contact;
use sync_bridge::stages::model_door::{Context, Measured, Verdict, View, WriteKind, judge};

use super::search::{Model, Small, Step, fingerprint};

const LEGACY_ROWS: usize = 4;
const PLATFORM_ROWS: usize = 6;
/// The first legacy row of the bridge, and the first platform row with a computed id.
const MADE: usize = 2;
const WORKERS: usize = 2;
const NONE: u8 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// C3: one living pair per legacy key.
    UniqueLegacyKey,
    /// C4: a foreign intent to create is void before its record is adopted.
    Void,
    /// C5: legacy's natural key is looked at again after the candidate was found.
    LookAgain,
}

#[derive(Debug, Clone, Copy)]
pub struct IdentityModel {
    /// Inserts and changes of the key by applications.
    pub edits: u8,
    pub inserts: u8,
    pub changes: bool,
    pub deletes: bool,
    pub alone: bool,
    pub omit: Option<Guard>,
}

impl Default for IdentityModel {
    fn default() -> IdentityModel {
        IdentityModel { edits: 3, inserts: 2, changes: true, deletes: false, alone: true, omit: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Row {
    /// The natural key; 0: no row.
    key: u8,
    /// Unseen: the people it stands for, a bit each.
    people: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Pair {
    rev: u8,
    legacy: u8,
    base: u8,
    /// 0: no intent.
    next: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Receipt {
    rev: u8,
    legacy: u8,
    done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Phase {
    #[default]
    Idle,
    /// A legacy page: pair by key, candidates on the platform, legacy again.
    Pair,
    Candidates,
    Again,
    /// A platform page: receipt by key, candidates on legacy, their pairs.
    Receipt,
    LegacyCandidates,
    Paired,
    Decided,
    Announced,
    Made,
}

/// What a worker knows of a pair. `NONE` stands for no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Look {
    legacy: u8,
    legacy_key: u8,
    platform: u8,
    platform_key: u8,
    /// Which ledger row and which receipt, and what they say.
    pair_of: u8,
    pair: Pair,
    receipt_of: u8,
    receipt: Receipt,
    adopted: bool,
}

const NO_LOOK: Look = Look {
    legacy: NONE,
    legacy_key: 0,
    platform: NONE,
    platform_key: 0,
    pair_of: NONE,
    pair: Pair { rev: 0, legacy: 0, base: 0, next: 0 },
    receipt_of: NONE,
    receipt: Receipt { rev: 0, legacy: 0, done: false },
    adopted: false,
};

impl Default for Look {
    fn default() -> Look {
        NO_LOOK
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Worker {
    phase: Phase,
    side: u8,
    row: u8,
    changed: bool,
    legacy_first: bool,
    look: Look,
    /// After the commit on the platform.
    pair_of: u8,
    rev: u8,
    write: u8,
    into: u8,
    key: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    legacy: [Row; LEGACY_ROWS],
    platform: [Row; PLATFORM_ROWS],
    /// By platform row; revision 0: none.
    pairs: [Pair; PLATFORM_ROWS],
    receipts: [Receipt; PLATFORM_ROWS],
    due: [u8; 2],
    workers: [Worker; WORKERS],
    edits: u8,
    inserted: [u8; 2],
    made: u8,
    people: u8,
    /// Unseen: which rows bore the same key at the same time, a bit each.
    met: [u8; LEGACY_ROWS],
}

#[derive(Debug, Clone, Copy)]
enum Ruling {
    Nothing,
    Wait,
    Void,
    Act(Plan),
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    rev_read: u8,
    pair_of: u8,
    pair: Pair,
    platform: u8,
    platform_inserts: bool,
    legacy: u8,
    legacy_inserts: bool,
    /// The legacy row's key where it is known, else the database gives one.
    legacy_row: u8,
}

pub struct Judge {
    mapping: Mapping,
    hashes: [u64; 3],
    keys: [Key; PLATFORM_ROWS],
    memory: HashMap<(Look, bool), Ruling, BuildHasherDefault<Small>>,
}

const L: usize = 0;
const P: usize = 1;
const UPDATE: u8 = 1;
const INSERT: u8 = 2;

impl Model for IdentityModel {
    type State = State;
    type Scratch = Judge;

    fn scratch(&self) -> Judge {
        Judge::new()
    }

    fn start(&self) -> State {
        State::default()
    }

    fn steps(&self, judge: &mut Judge, state: &State, words: bool, found: &mut Vec<Step<State>>) {
        self.applications(state, words, found);
        for at in 0..WORKERS {
            let who = char::from(b'A' + at as u8);
            let tell = |told: String| if words { format!("{who} {told}") } else { String::new() };
            if state.workers[at].phase == Phase::Idle {
                if state.workers[..at].iter().any(|other| other.phase == Phase::Idle) {
                    continue;
                }
                for (side, rows) in [(L, LEGACY_ROWS), (P, PLATFORM_ROWS)] {
                    for row in (0..rows).filter(|&row| self.row(state, side, row).key > 0) {
                        let mut next = *state;
                        let told = self.begin(&mut next, at, side, row);
                        found.push(Step { state: next, words: tell(told), broken: None });
                    }
                }
                continue;
            }
            let mut next = *state;
            let (told, broken) = self.advance(&mut next, at, judge);
            found.push(Step { state: next, words: tell(told), broken });
            let mut next = *state;
            next.workers[at] = Worker::default();
            found.push(Step { state: next, words: tell("crashes".into()), broken: None });
        }
        for step in found.iter_mut() {
            if !words {
                renumber(&mut step.state);
            }
            meet(&mut step.state);
        }
    }

    fn fingerprint(&self, state: &State) -> u64 {
        let mut workers =
            state.workers.map(|worker| if worker.phase == Phase::Idle { 0 } else { fingerprint(&worker) });
        workers.sort_unstable();
        let rest = (state.legacy, state.platform, state.pairs, state.receipts, state.due);
        fingerprint(&(
            workers.map(u64::to_ne_bytes),
            rest,
            (state.edits, state.inserted, state.made, state.people, state.met),
        ))
    }

    fn broken(&self, judge: &mut Judge, state: &State) -> Option<String> {
        if let Some(what) = contradiction(state) {
            return Some(what);
        }
        let idle = state.workers.iter().all(|worker| worker.phase == Phase::Idle);
        if idle && self.alone { self.alone(state, judge) } else { None }
    }

    fn show(&self, state: &State) -> String {
        let key = |key: u8| char::from(b'd' + key);
        let mut shown = String::new();
        for (letter, rows) in [('l', &state.legacy[..]), ('p', &state.platform[..])] {
            for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.key > 0) {
                shown += &format!("{letter}{at}:{} ", key(row.key));
            }
        }
        for (at, pair) in state.pairs.iter().enumerate().filter(|(_, pair)| pair.rev > 0) {
            let legacy = if pair.legacy == NONE { "?".into() } else { format!("l{}", pair.legacy) };
            shown += &format!("pair(p{at},{legacy}{}) ", if pair.next > 0 { ", intent" } else { "" });
        }
        for (at, receipt) in state.receipts.iter().enumerate().filter(|(_, receipt)| receipt.rev > 0) {
            let legacy = if receipt.legacy == NONE { "?".into() } else { format!("l{}", receipt.legacy) };
            shown += &format!("receipt(p{at},{legacy},{}) ", if receipt.done { "done" } else { "void" });
        }
        shown.trim_end().to_string()
    }
}

impl IdentityModel {
    fn omits(&self, guard: Guard) -> bool {
        self.omit == Some(guard)
    }

    fn row(&self, state: &State, side: usize, row: usize) -> Row {
        if side == L { state.legacy[row] } else { state.platform[row] }
    }

    fn applications(&self, state: &State, words: bool, found: &mut Vec<Step<State>>) {
        let mut push = |mut next: State, told: String| {
            next.edits += 1;
            found.push(Step { state: next, words: if words { told } else { String::new() }, broken: None });
        };
        if state.edits >= self.edits {
            return;
        }
        for (side, letter) in [(L, 'l'), (P, 'p')] {
            for key in (1..=2).filter(|&key| is_free(state, side, key)) {
                let name = char::from(b'd' + key);
                if state.inserted[side] < self.inserts {
                    let mut next = *state;
                    let row = next.inserted[side];
                    next.inserted[side] += 1;
                    let people = 1 << next.people;
                    set(&mut next, side, usize::from(row), Row { key, people });
                    next.people += 1;
                    push(next, format!("an application inserts {letter}{row} with key {name}"));
                }
                let rows = if side == L { LEGACY_ROWS } else { PLATFORM_ROWS };
                for row in (0..rows).filter(|_| self.changes) {
                    let old = self.row(state, side, row);
                    if old.key > 0 && old.key != key {
                        let mut next = *state;
                        set(&mut next, side, row, Row { key, ..old });
                        push(next, format!("an application gives {letter}{row} the key {name}"));
                    }
                }
            }
        }
        if self.deletes {
            for row in (0..LEGACY_ROWS).filter(|&row| state.legacy[row].key > 0) {
                let mut next = *state;
                next.legacy[row] = Row::default();
                push(next, format!("an application deletes l{row}"));
            }
        }
    }

    /// The page's first statement: its own side.
    fn begin(&self, state: &mut State, at: usize, side: usize, row: usize) -> String {
        let mut worker = Worker { side: side as u8, row: row as u8, ..Worker::default() };
        let look = &mut worker.look;
        let told = if side == L {
            (look.legacy, look.legacy_key) = (row as u8, state.legacy[row].key);
            if let Some(of) = state.receipts.iter().position(|receipt| receipt.rev > 0 && receipt.legacy == row as u8) {
                (look.receipt_of, look.receipt) = (of as u8, state.receipts[of]);
            }
            worker.legacy_first = true;
            worker.phase = Phase::Pair;
            format!("starts a legacy page: reads l{row}")
        } else {
            (look.platform, look.platform_key) = (row as u8, state.platform[row].key);
            if state.pairs[row].rev > 0 {
                (look.pair_of, look.pair) = (row as u8, state.pairs[row]);
            }
            worker.phase = Phase::Receipt;
            format!("starts a platform page: reads p{row}")
        };
        state.workers[at] = worker;
        told
    }

    fn advance(&self, state: &mut State, at: usize, judge: &mut Judge) -> (String, Option<String>) {
        let now = *state;
        let worker = &mut state.workers[at];
        if worker.phase == Phase::Decided {
            return match self.rule_on(worker, judge) {
                Ruling::Act(plan) => self.commit_platform(state, at, &plan),
                Ruling::Void => (self.void(state, at), None),
                ruling => unreachable!("{ruling:?} ends where it is made"),
            };
        }
        let look = &mut worker.look;
        match worker.phase {
            Phase::Idle | Phase::Decided => unreachable!("idle workers begin, and what is decided is done above"),
            Phase::Pair => {
                let by_legacy =
                    (0..PLATFORM_ROWS).find(|&p| now.pairs[p].rev > 0 && now.pairs[p].legacy == look.legacy);
                let by_receipt =
                    Some(usize::from(look.receipt_of)).filter(|&p| p < PLATFORM_ROWS && now.pairs[p].rev > 0);
                let Some(p) = by_legacy.or(by_receipt) else {
                    worker.phase = Phase::Candidates;
                    return ("reads platform: no pair".into(), None);
                };
                (look.pair_of, look.pair) = (p as u8, now.pairs[p]);
                if now.platform[p].key > 0 {
                    (look.platform, look.platform_key) = (p as u8, now.platform[p].key);
                }
                (self.consider(state, at, format!("reads platform: pair with p{p}"), judge), None)
            }
            Phase::Candidates => {
                let free = |p: &usize| now.pairs[*p].rev == 0 || now.pairs[*p].legacy == NONE;
                let found: Vec<usize> =
                    (0..PLATFORM_ROWS).filter(|&p| now.platform[p].key == look.legacy_key).filter(free).collect();
                match found[..] {
                    [] => (self.consider(state, at, "reads platform: no candidate".into(), judge), None),
                    [p] => {
                        (look.platform, look.platform_key) = (p as u8, now.platform[p].key);
                        if now.pairs[p].rev > 0 {
                            (look.pair_of, look.pair) = (p as u8, now.pairs[p]);
                        }
                        look.adopted = true;
                        worker.phase = Phase::Again;
                        (format!("reads platform: p{p} is a candidate"), None)
                    }
                    _ => (self.wait(state, at, "reads platform: several candidates"), None),
                }
            }
            Phase::Again => {
                worker.legacy_first = false;
                let row = look.legacy;
                look.legacy_key = now.legacy[usize::from(row)].key;
                let p = if look.pair_of < NONE { look.pair_of } else { look.platform };
                let by_legacy = now.receipts.iter().position(|receipt| receipt.rev > 0 && receipt.legacy == row);
                let own = Some(usize::from(p)).filter(|&p| p < PLATFORM_ROWS && now.receipts[p].rev > 0);
                match own.or(by_legacy) {
                    Some(of) => (look.receipt_of, look.receipt) = (of as u8, now.receipts[of]),
                    None => (look.receipt_of, look.receipt) = (NONE, Receipt::default()),
                }
                if look.legacy_key == 0 {
                    look.legacy = NONE;
                }
                if look.adopted {
                    if look.legacy_key != look.platform_key && !self.omits(Guard::LookAgain) {
                        return (self.wait(state, at, "reads legacy again: the key is another by now"), None);
                    }
                    // The candidate's intent was carried out after all: it has a legacy row of its own.
                    if look.pair_of < NONE && look.receipt.done && look.receipt.legacy != row {
                        *look = Look { legacy: look.legacy, legacy_key: look.legacy_key, ..NO_LOOK };
                    }
                }
                (self.consider(state, at, "reads legacy again".into(), judge), None)
            }
            Phase::Receipt => {
                let p = usize::from(look.platform);
                if now.receipts[p].rev > 0 {
                    (look.receipt_of, look.receipt) = (p as u8, now.receipts[p]);
                }
                let by_pair = if look.pair_of < NONE { look.pair.legacy } else { NONE };
                let by_receipt = if look.receipt_of < NONE { look.receipt.legacy } else { NONE };
                let row = if by_pair < NONE { by_pair } else { by_receipt };
                if row < NONE && now.legacy[usize::from(row)].key > 0 {
                    (look.legacy, look.legacy_key) = (row, now.legacy[usize::from(row)].key);
                }
                if look.pair_of < NONE {
                    return (self.consider(state, at, "reads legacy".into(), judge), None);
                }
                worker.phase = Phase::LegacyCandidates;
                ("reads legacy: no pair yet".into(), None)
            }
            Phase::LegacyCandidates => {
                let found: Vec<usize> = (0..LEGACY_ROWS).filter(|&l| now.legacy[l].key == look.platform_key).collect();
                match found[..] {
                    [] => (self.consider(state, at, "reads legacy: no candidate".into(), judge), None),
                    [l] => {
                        (look.legacy, look.legacy_key) = (l as u8, now.legacy[l].key);
                        if let Some(of) = now.receipts.iter().position(|r| r.rev > 0 && r.legacy == l as u8) {
                            (look.receipt_of, look.receipt) = (of as u8, now.receipts[of]);
                        }
                        look.adopted = true;
                        worker.phase = Phase::Paired;
                        (format!("reads legacy: l{l} is a candidate"), None)
                    }
                    _ => (self.wait(state, at, "reads legacy: several candidates"), None),
                }
            }
            Phase::Paired => {
                let paired = now.pairs.iter().any(|pair| pair.rev > 0 && pair.legacy == look.legacy);
                if paired {
                    *look = Look { platform: look.platform, platform_key: look.platform_key, ..NO_LOOK };
                }
                let told = format!("reads the ledger: the candidate is {}", if paired { "taken" } else { "free" });
                (self.consider(state, at, told, judge), None)
            }
            Phase::Announced => (self.commit_legacy(state, at), None),
            Phase::Made => {
                let (of, rev, row) = (usize::from(worker.pair_of), worker.rev, worker.write);
                let taken = self.is_paired(state, row);
                self.settle(state, at);
                let pair = &mut state.pairs[of];
                if pair.rev != rev || pair.next == 0 || taken {
                    return ("leaves the key unnoted".into(), None);
                }
                *pair = Pair { rev: rev + 1, legacy: row, base: pair.next, next: 0 };
                ("commits on the platform: notes the legacy key".into(), None)
            }
        }
    }

    /// Transaction V.
    fn void(&self, state: &mut State, at: usize) -> String {
        let look = state.workers[at].look;
        let receipt = &mut state.receipts[usize::from(look.pair_of)];
        if receipt.rev < look.pair.rev {
            let legacy = if receipt.rev > 0 { receipt.legacy } else { NONE };
            *receipt = Receipt { rev: look.pair.rev, legacy, done: false };
        }
        self.wait(state, at, "commits on legacy: the open intent is void")
    }

    fn wait(&self, state: &mut State, at: usize, told: &str) -> String {
        state.workers[at] = Worker::default();
        format!("{told}; the page stays due")
    }

    fn settle(&self, state: &mut State, at: usize) {
        let worker = state.workers[at];
        if !worker.changed {
            state.due[usize::from(worker.side)] &= !(1 << worker.row);
        }
        state.workers[at] = Worker::default();
    }

    fn is_paired(&self, state: &State, legacy: u8) -> bool {
        !self.omits(Guard::UniqueLegacyKey)
            && legacy < NONE
            && state.pairs.iter().any(|pair| pair.rev > 0 && pair.legacy == legacy)
    }

    fn rule_on(&self, worker: &Worker, judge: &mut Judge) -> Ruling {
        let mut look = worker.look;
        if self.omits(Guard::Void) && look.pair.next > 0 && look.receipt.rev < look.pair.rev {
            look.pair.next = 0;
        }
        judge.rule(&look, worker.legacy_first)
    }

    fn consider(&self, state: &mut State, at: usize, told: String, judge: &mut Judge) -> String {
        let worker = state.workers[at];
        match self.rule_on(&worker, judge) {
            Ruling::Nothing => {
                self.settle(state, at);
                format!("{told}: nothing to do; settles the page")
            }
            Ruling::Wait => self.wait(state, at, &told),
            Ruling::Act(_) | Ruling::Void if worker.legacy_first && worker.look.pair_of < NONE => {
                state.workers[at].phase = Phase::Again;
                told
            }
            Ruling::Act(_) | Ruling::Void => {
                state.workers[at].phase = Phase::Decided;
                told
            }
        }
    }

    fn commit_platform(&self, state: &mut State, at: usize, plan: &Plan) -> (String, Option<String>) {
        let worker = state.workers[at];
        let look = worker.look;
        let p = usize::from(plan.pair_of);
        let pair = state.pairs[p];
        if pair.rev != plan.rev_read {
            return (self.wait(state, at, "rolls back on the platform: the pair moved"), None);
        }
        let claims = pair.legacy != plan.pair.legacy || plan.rev_read == 0;
        if claims && self.is_paired(state, plan.pair.legacy) {
            return (self.wait(state, at, "rolls back on the platform: the legacy key is paired"), None);
        }
        let updates = plan.platform > 0 && !plan.platform_inserts;
        if (look.adopted || updates) && state.platform[p].key != look.platform_key {
            return (self.wait(state, at, "rolls back on the platform: the row moved"), None);
        }
        if plan.platform > 0 {
            if plan.platform_inserts && state.platform[p].key > 0 || !is_free(state, P, plan.platform) {
                return (self.wait(state, at, "rolls back on the platform: the key is in use"), None);
            }
            let people = if plan.platform_inserts {
                state.legacy.get(usize::from(look.legacy)).map_or(0, |row| row.people)
            } else {
                state.platform[p].people
            };
            set(state, P, p, Row { key: plan.platform, people });
        }
        let rev = plan.rev_read + 1;
        state.pairs[p] = Pair { rev, ..plan.pair };
        let mut broken = None;
        let mut told = format!("commits on the platform: p{p}");
        if look.adopted {
            let l = usize::from(look.legacy);
            told += &format!(" adopts l{l}");
            if state.met[l] >> p & 1 == 0 {
                broken = Some(format!("wrong partner: p{p} and l{l} never had the same key at the same time"));
            }
            let both = state.platform[p].people | state.legacy[l].people;
            state.platform[p].people = both;
            if state.legacy[l].key > 0 {
                state.legacy[l].people = both;
            }
        } else if plan.platform > 0 {
            told += &format!(" := key {}", char::from(b'd' + plan.platform));
        }
        if plan.legacy == 0 {
            self.settle(state, at);
            return (told, broken);
        }
        told += " intent to write legacy";
        state.workers[at] = Worker {
            phase: Phase::Announced,
            pair_of: p as u8,
            rev,
            write: if plan.legacy_inserts { INSERT } else { UPDATE },
            into: plan.legacy_row,
            key: plan.legacy,
            ..worker
        };
        (told, broken)
    }

    fn commit_legacy(&self, state: &mut State, at: usize) -> String {
        let worker = state.workers[at];
        let (p, rev) = (usize::from(worker.pair_of), worker.rev);
        let old = state.receipts[p];
        if old.rev >= rev {
            return self.wait(state, at, "rolls back on legacy: the receipt is no older");
        }
        let known = if old.rev > 0 { old.legacy } else { NONE };
        let moved = worker.write == UPDATE
            && state.legacy.get(usize::from(worker.into)).is_none_or(|row| row.key != worker.look.legacy_key);
        let drawn = worker.into == NONE;
        let row = if drawn { MADE + usize::from(state.made) } else { usize::from(worker.into) };
        let there = worker.write == INSERT && state.legacy.get(row).is_some_and(|row| row.key > 0);
        if moved || there || row >= LEGACY_ROWS || !is_free(state, L, worker.key) {
            state.receipts[p] = Receipt { rev, legacy: known, done: false };
            return self.wait(state, at, "commits on legacy: cannot be written, so the receipt says void");
        }
        let people = if worker.write == UPDATE { state.legacy[row].people } else { state.platform[p].people };
        set(state, L, row, Row { key: worker.key, people });
        state.receipts[p] = Receipt { rev, legacy: row as u8, done: true };
        if !drawn {
            self.settle(state, at);
        } else {
            state.made += 1;
            let worker = &mut state.workers[at];
            *worker = Worker { phase: Phase::Made, look: NO_LOOK, key: 0, write: row as u8, ..*worker };
        }
        format!("commits on legacy: l{row} with key {}", char::from(b'd' + worker.key))
    }

    /// One worker alone: every row finds its partner, or waits for a reason.
    fn alone(&self, state: &State, judge: &mut Judge) -> Option<String> {
        const ROUNDS: usize = 8;
        let mut state = *state;
        for _ in 0..ROUNDS {
            for (side, rows) in [(L, LEGACY_ROWS), (P, PLATFORM_ROWS)] {
                for row in 0..rows {
                    if state.due[side] >> row & 1 == 0 {
                        continue;
                    }
                    if self.row(&state, side, row).key == 0 {
                        state.due[side] &= !(1 << row);
                        continue;
                    }
                    self.begin(&mut state, 0, side, row);
                    while state.workers[0].phase != Phase::Idle {
                        let (_, broken) = self.advance(&mut state, 0, judge);
                        if let Some(broken) = broken {
                            return Some(format!("{broken} (by a later page)"));
                        }
                        renumber(&mut state);
                        meet(&mut state);
                    }
                }
            }
        }
        if let Some(what) = contradiction(&state) {
            return Some(format!("{what} (after one worker alone)"));
        }
        let couples = couples(&state);
        for (side, letter, rows) in [(L, 'l', LEGACY_ROWS), (P, 'p', PLATFORM_ROWS)] {
            for row in 0..rows {
                let key = self.row(&state, side, row).key;
                if key == 0 {
                    continue;
                }
                let due = state.due[side] >> row & 1 == 1;
                let own = |couple: &(u8, u8)| usize::from(if side == L { couple.1 } else { couple.0 }) == row;
                let partner = couples.iter().find(|couple| own(couple));
                if partner.is_none() && !due {
                    return Some(format!("no partner: {letter}{row} has none, and nothing is due"));
                }
                // A key that it or its partner needs is in the hands of another record: that is for a person to solve.
                let other = partner.map_or(0, |couple| {
                    self.row(&state, 1 - side, usize::from(if side == L { couple.0 } else { couple.1 })).key
                });
                let in_the_way = key != other && !is_free(&state, 1 - side, key)
                    || other > 0 && key != other && !is_free(&state, side, other);
                let room = usize::from(state.made) + MADE < LEGACY_ROWS;
                if due && !in_the_way && room {
                    return Some(format!("no end: {letter}{row} stays due for ever"));
                }
            }
        }
        None
    }
}

fn is_free(state: &State, side: usize, key: u8) -> bool {
    match side {
        L => state.legacy.iter().all(|row| row.key != key),
        _ => state.platform.iter().all(|row| row.key != key),
    }
}

fn set(state: &mut State, side: usize, at: usize, row: Row) {
    if side == L {
        state.legacy[at] = row;
    } else {
        state.platform[at] = row;
    }
    state.due[side] |= 1 << at;
    for worker in state.workers.iter_mut().filter(|worker| worker.phase != Phase::Idle) {
        worker.changed |= usize::from(worker.side) == side && usize::from(worker.row) == at;
    }
}

fn meet(state: &mut State) {
    for l in 0..LEGACY_ROWS {
        for p in 0..PLATFORM_ROWS {
            if state.legacy[l].key > 0 && state.legacy[l].key == state.platform[p].key {
                state.met[l] |= 1 << p;
            }
        }
    }
}

/// (platform row, legacy row), as ledger and receipts say.
fn couples(state: &State) -> Vec<(u8, u8)> {
    let mut couples = Vec::new();
    for p in 0..PLATFORM_ROWS {
        let (pair, receipt) = (state.pairs[p], state.receipts[p]);
        if pair.rev > 0 && pair.legacy < NONE {
            couples.push((p as u8, pair.legacy));
        }
        if receipt.rev > 0 && receipt.done && receipt.legacy < NONE {
            couples.push((p as u8, receipt.legacy));
        }
    }
    couples.dedup();
    couples
}

fn contradiction(state: &State) -> Option<String> {
    let couples = couples(state);
    for (at, a) in couples.iter().enumerate() {
        for b in &couples[..at] {
            if a != b && (a.0 == b.0 || a.1 == b.1) {
                return Some(format!("two partners: p{} with l{}, and p{} with l{}", a.0, a.1, b.0, b.1));
            }
        }
    }
    for (letter, rows) in [('l', &state.legacy[..]), ('p', &state.platform[..])] {
        for (at, a) in rows.iter().enumerate() {
            for (other, b) in rows[..at].iter().enumerate() {
                if a.key > 0 && b.key > 0 && a.people & b.people != 0 {
                    return Some(format!("two records for one: {letter}{other} and {letter}{at}"));
                }
            }
        }
    }
    None
}

/// Only the order of a pair's revisions matters.
fn renumber(state: &mut State) {
    for p in 0..PLATFORM_ROWS {
        let of = p as u8;
        let mut used = 0_u64;
        let each = |state: &mut State, change: &mut dyn FnMut(&mut u8)| {
            change(&mut state.pairs[p].rev);
            change(&mut state.receipts[p].rev);
            for worker in state.workers.iter_mut().filter(|worker| worker.phase != Phase::Idle) {
                if worker.look.pair_of == of {
                    change(&mut worker.look.pair.rev);
                }
                if worker.look.receipt_of == of {
                    change(&mut worker.look.receipt.rev);
                }
                if matches!(worker.phase, Phase::Announced | Phase::Made) && worker.pair_of == of {
                    change(&mut worker.rev);
                }
            }
        };
        each(state, &mut |rev| used |= 1 << *rev);
        each(state, &mut |rev| {
            if *rev > 0 {
                *rev = ((used & !1) & ((1_u64 << *rev) | ((1_u64 << *rev) - 1))).count_ones() as u8;
            }
        });
    }
}

impl Judge {
    fn new() -> Judge {
        let column = |name: &str| Column {
            name: name.into(),
            type_sql: "text".into(),
            class: Class::Text,
            element: None,
            nullable: true,
            local_time: false,
            caseless: false,
            fixed: false,
        };
        let shape = |side| Shape {
            side,
            columns: vec![column("key")],
            key: vec![column("id")],
            stamp: Some(column("updated_at")),
            stamp_kind: StampKind::EpochSeconds,
            created_at: None,
            zone: chrono_tz::UTC,
        };
        let mapping = Mapping {
            entity: EntityId::new("e"),
            fields: vec![Field {
                name: "key".into(),
                fingerprint: 0,
                lens: Lens::Same(Class::Text),
                legacy: vec![0],
                platform: vec![0],
                policy: Policy::Newest,
                one_way: None,
                null: NullMarks::default(),
                first_contact: FirstContact::Authority,
            }],
            legacy: shape(Side::Legacy),
            platform: shape(Side::Platform),
            match_on: vec![0],
            authority: Side::Platform,
        };
        let keys = std::array::from_fn(|p| match p.checked_sub(MADE) {
            None => Key(format!("p{p}")),
            Some(l) => NewKey { customer: CustomerId::new("c"), parts: vec![NewPart::Uuid5] }
                .known(&mapping, Side::Platform, &Key(format!("l{l}")), 0, &[])
                .expect("a computed id"),
        });
        let hashes = std::array::from_fn(|key| Canonical::text(key.to_string()).hash());
        Judge { mapping, hashes, keys, memory: HashMap::default() }
    }

    fn rule(&mut self, look: &Look, legacy_first: bool) -> Ruling {
        if let Some(ruling) = self.memory.get(&(*look, legacy_first)) {
            return *ruling;
        }
        let ruling = self.ask(look, legacy_first);
        self.memory.insert((*look, legacy_first), ruling);
        ruling
    }

    fn ask(&self, look: &Look, legacy_first: bool) -> Ruling {
        let legacy_key = |row: u8| (row < NONE).then(|| Key(format!("l{row}")));
        let row = |key: Key, value: u8| postgres::Row {
            key,
            stamp: None,
            created_at: None,
            hash: 0,
            cells: vec![Some(value.to_string().into())],
            garbled: None,
            seen: true,
            lacks: Vec::new(),
        };
        let base = |value: u8| Base::of((value > 0).then(|| (0, self.hashes[usize::from(value)])));
        let view = View {
            origin: Key("origin".into()),
            left_out: Vec::new(),
            legacy: legacy_key(look.legacy).map(|key| Arc::new(row(key, look.legacy_key))),
            platform: (look.platform < NONE)
                .then(|| Arc::new(row(self.keys[usize::from(look.platform)].clone(), look.platform_key))),
            pair: (look.pair_of < NONE).then(|| pairs::Pair {
                platform_key: self.keys[usize::from(look.pair_of)].clone(),
                legacy_key: legacy_key(look.pair.legacy),
                generation: 0,
                rev: i64::from(look.pair.rev),
                base: base(look.pair.base),
                gone: false,
                intent: (look.pair.next > 0).then(|| pairs::Intent {
                    base: base(look.pair.next),
                    gone: false,
                    age_secs: 1.0,
                }),
                listed: Listed::default(),
                complement: Complement::default(),
                platform_stamp: None,
                platform_edited_at: None,
                legacy_stamp: None,
                legacy_hash: None,
                platform_hash: None,
            }),
            receipt: (look.receipt_of < NONE).then(|| pairs::Receipt {
                platform_key: self.keys[usize::from(look.receipt_of)].clone(),
                legacy_key: legacy_key(look.receipt.legacy),
                generation: 0,
                rev: i64::from(look.receipt.rev),
                done: look.receipt.done,
                stamp_written: None,
                stamp_before: None,
            }),
            legacy_first,
            adopted: look.adopted,
            generation: 0,
            again: false,
            legacy_taken: false,
            refused: None,
            ambiguous: false,
        };
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let context = Context {
            mapping: &self.mapping,
            links: &Links::default(),
            platform_new_key: &NewKey { customer: CustomerId::new("c"), parts: vec![NewPart::Uuid5] },
            legacy_new_key: &NewKey { customer: CustomerId::new("c"), parts: vec![NewPart::Drawn("nextval".into())] },
            clocks: Measured { difference: TimeDelta::zero(), legacy_now: now, platform_now: now },
            lease_secs: 0.0,
            held: None,
            contact: Contact::Decide,
            rulings: &[],
            gone: None,
            shared: &[],
            notes: false,
            recovery: None,
            overlap: std::time::Duration::ZERO,
        };
        let act = match judge(&view, &context) {
            Verdict::Nothing => return Ruling::Nothing,
            Verdict::Void => return Ruling::Void,
            Verdict::Act(act) => act,
            _ => return Ruling::Wait,
        };
        let pair_of = self.keys.iter().position(|key| Some(key) == act.pair.platform_key.as_ref()).expect("a known id");
        let value = |hash: Option<u64>| {
            hash.and_then(|hash| self.hashes.iter().position(|known| *known == hash)).unwrap_or(0) as u8
        };
        let written = |write: &Option<sync_bridge::stages::model_door::Write>| {
            write.as_ref().map_or((0, false), |write| {
                let key = write.values[0].as_deref().and_then(|key| key.parse().ok()).unwrap_or(0);
                (key, matches!(write.kind, WriteKind::Insert(_)))
            })
        };
        let (platform, platform_inserts) = written(&act.platform);
        let (legacy, legacy_inserts) = written(&act.legacy);
        let key_of = |key: &Key| (0..LEGACY_ROWS as u8).find(|row| key.0 == format!("l{row}"));
        Ruling::Act(Plan {
            rev_read: act.rev_read as u8,
            pair_of: pair_of as u8,
            pair: Pair {
                rev: 0,
                legacy: act.pair.legacy_key.as_ref().and_then(key_of).unwrap_or(NONE),
                base: value(act.pair.base.get(0)),
                next: act.pair.next.as_ref().map_or(0, |next| value(next.0.get(0))),
            },
            platform,
            platform_inserts,
            legacy,
            legacy_inserts,
            legacy_row: act.pair.legacy_key.as_ref().and_then(key_of).unwrap_or(NONE),
        })
    }
}
