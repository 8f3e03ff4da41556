//! One pair, kept in step by workers that may stop, crash or come back at any step, while applications edit both rows.
//! Every step below is one statement or one transaction of the project; anything may happen between two steps.
//!
//! Along with what the databases hold, the model keeps what nobody could know: which edit made each value, and which
//! edits that value knows of. By that it tells a lost edit from one that was replaced knowingly or logged as a loser.

use sync_bridge::config::{Policy, Side};

use super::judged::{ABSENT, FIELDS, Image, Judge, Look, NO_BASE, Pair, Plan, Receipt, Ruling, VALUES, Write};
use super::search::{Model, Step, fingerprint};

const WORKERS_MAX: usize = 3;
const L: usize = 0;
const P: usize = 1;

/// A guard of the protocol that a run may leave out. The names are those of `docs/MODEL.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// B1: P's row is compared before it is written.
    ImageOnPlatform,
    /// B2: the same on L.
    ImageOnLegacy,
    /// B3: the ledger row's revision is compared.
    Revision,
    /// B4: the receipt must be older than the intent.
    Receipt,
    /// B5: a foreign open intent is made void first.
    Void,
    /// B6: a receipt newer than the ledger row means "read again".
    ReadAgain,
    /// B7: P is read before L, or L is read again.
    Order,
    /// B16, B17: the same in a sweep.
    SweepOrder,
    /// B8: row and ledger row come from one statement.
    OneStatement,
    /// B9: the base moves per field.
    BasePerField,
    /// B10: what became equal is recorded.
    Record,
    /// B11: a write of the bridge makes the row due.
    Due,
    /// B12: nothing is settled by a look at one side.
    BothSides,
    /// B13: edits are compared by the application's stamps.
    Stamps,
    /// B14: a manual conflict is listed in a transaction that compares the revision.
    List,
    /// B15: the ledger row of a deleted pair stays.
    Tombstone,
    /// Of B1: P's row is compared too where the values of both sides are recorded as they were read.
    ImageOnRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    InStep,
    /// Both rows are there, and differ, and were never compared.
    FirstContact,
    NewOnLegacy,
    NewOnPlatform,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A policy per field.
    Fixed([Policy; FIELDS]),
    /// Each conflict may go either way.
    Any,
}

/// What of the world is modelled, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct PairModel {
    pub fields: usize,
    /// 2 or 3.
    pub values: u8,
    pub edits: u8,
    pub workers: usize,
    pub rule: Rule,
    pub start: Start,
    /// Applications delete rows, and sweeps run.
    pub deletes: bool,
    /// Applications insert deleted rows again.
    pub reinserts: bool,
    /// Sightings that a sweep needs before it carries a delete over: 1 or 2.
    pub sightings: u8,
    /// Whether the last edit that the bridge saw may be undone by one that it replaced; costs states.
    pub strict: bool,
    /// More row writes than these after the last edit are a ping-pong; 0: not counted.
    pub writes_max: u8,
    /// One worker alone brings every state to rest.
    pub alone: bool,
    pub omit: Option<Guard>,
}

impl Default for PairModel {
    fn default() -> PairModel {
        PairModel {
            fields: 1,
            values: VALUES,
            edits: 3,
            workers: 2,
            rule: Rule::Fixed([Policy::Newest; FIELDS]),
            start: Start::InStep,
            deletes: false,
            reinserts: false,
            sightings: 1,
            strict: true,
            writes_max: 0,
            alone: true,
            omit: None,
        }
    }
}

/// A value, and what nobody can see of it: the edit that made it, and the edits it knows of (a bit each).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Cell {
    value: u8,
    edit: u8,
    knows: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Row {
    cells: [Cell; FIELDS],
    stamp: u8,
    /// Unseen: the last edit by an application.
    edited: u8,
}

impl Row {
    fn there(&self) -> bool {
        self.cells[0].value != ABSENT
    }

    fn values(&self) -> [u8; FIELDS] {
        self.cells.map(|cell| cell.value)
    }

    fn image(&self) -> Image {
        match self.there() {
            true => Image { there: true, values: self.values(), stamp: self.stamp },
            false => Image::default(),
        }
    }
}

const NO_ROW: Row = Row { cells: [Cell { value: ABSENT, edit: 0, knows: 0 }; FIELDS], stamp: 0, edited: 0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Kind {
    /// A page of L's tail: L is read first.
    #[default]
    Tail,
    /// Rows of L by key: P first. Also what is left of a tail page after its first turn.
    Keys,
    /// A page of P, by its tail or by key.
    Platform,
    Sweep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Phase {
    #[default]
    Idle,
    NeedsPlatform,
    /// Only where row and ledger row come from two statements.
    NeedsPair,
    NeedsLegacy,
    Decided,
    /// The intent is committed on P.
    Announced,
    /// The new legacy row is made; its key is to be noted.
    Made,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Worker {
    phase: Phase,
    kind: Kind,
    /// The own side's row was changed since the page began: its due mark is not this page's to take.
    changed: bool,
    legacy_first: bool,
    /// The platform key is known from a receipt.
    knows_key: bool,
    /// Where each conflict goes under `Rule::Any`.
    choice: u8,
    /// The bridge wrote the side since this worker read it.
    overtaken: [bool; 2],
    rows: [Row; 2],
    pair: Pair,
    receipt: Receipt,
    /// From the commit on P to the end: the intent's revision, what to write, and when users had edited before.
    rev: u8,
    write: u8,
    /// Fields that go to L, a bit each.
    fields: u8,
    /// Fields whose value on L loses a conflict.
    losers: u8,
    before: u8,
    keyed: bool,
}

const UPDATE: u8 = 1;
const INSERT: u8 = 2;
const DELETE: u8 = 3;

const EDITS_MAX: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    rows: [Row; 2],
    pair: Pair,
    receipt: Receipt,
    due: [bool; 2],
    workers: [Worker; WORKERS_MAX],
    edits: u8,
    /// The side whose row a sweep has seen absent, plus one.
    sighted: u8,
    /// Row writes of the bridge since the last edit.
    writes: u8,
    /// A record of another generation came into play: not modelled further.
    beyond: bool,
    /// Unseen: per side and field, the value and its edit when both sides last agreed.
    agreed: [[(u8, u8); FIELDS]; 2],
    /// Unseen: edits logged as losers; edits accounted for, by the log or as without net change, with all they replaced.
    logged: u8,
    accounted: u8,
    /// Unseen: which edits concern a field.
    concern: [u8; FIELDS],
    /// Unseen, where `strict`: per edit what it replaced knowingly, and its value.
    replaced: [u8; EDITS_MAX],
    value: [u8; EDITS_MAX],
}

fn bit(edit: u8) -> u8 {
    if edit == 0 { 0 } else { 1 << edit }
}

fn name(side: usize) -> &'static str {
    if side == L { "legacy" } else { "platform" }
}

const FIELD_NAMES: [&str; FIELDS] = ["f", "g"];


impl Model for PairModel {
    type State = State;
    type Scratch = Vec<Judge>;

    fn scratch(&self) -> Vec<Judge> {
        match self.rule {
            Rule::Fixed(policies) => vec![Judge::new(&policies[..self.fields])],
            Rule::Any => [Policy::Legacy, Policy::Platform]
                .iter()
                .map(|policy| Judge::new(&[*policy; FIELDS][..self.fields]))
                .collect(),
        }
    }

    fn start(&self) -> State {
        let mut state = State::default();
        let mut base = [NO_BASE; FIELDS];
        base[..self.fields].fill(0);
        let stamp = u8::from(self.stamps());
        match self.start {
            Start::InStep => {
                state.rows.iter_mut().for_each(|row| row.stamp = stamp);
                state.pair = Pair { there: true, rev: 1, base, keyed: true, ..Pair::default() };
            }
            Start::FirstContact => {
                state.agreed = [[(NO_BASE, 0); FIELDS]; 2];
                for side in [L, P] {
                    let edit = self.edit(&mut state, side, (1 << self.fields) - 1, |field| {
                        if field == 0 { side as u8 } else { 1 }
                    });
                    // What was there before the edit concerns nobody.
                    state.rows[side].cells.iter_mut().for_each(|cell| cell.knows = bit(edit));
                }
            }
            Start::NewOnLegacy | Start::NewOnPlatform => {
                let (side, other) = if self.start == Start::NewOnLegacy { (L, P) } else { (P, L) };
                state.agreed[side] = [(NO_BASE, 0); FIELDS];
                state.agreed[other] = [(ABSENT, 0); FIELDS];
                state.rows[other].cells.iter_mut().for_each(|cell| cell.value = ABSENT);
                self.edit(&mut state, side, (1 << self.fields) - 1, |_| 1);
            }
        }
        state
    }

    fn steps(&self, judges: &mut Vec<Judge>, state: &State, words: bool, found: &mut Vec<Step<State>>) {
        self.applications(state, words, found);
        for at in 0..self.workers {
            let worker = state.workers[at];
            let who = char::from(b'A' + at as u8);
            if worker.phase == Phase::Idle {
                // Idle workers are alike: the first one starts.
                if state.workers[..at].iter().any(|other| other.phase == Phase::Idle) {
                    continue;
                }
                for kind in [Kind::Tail, Kind::Keys, Kind::Platform, Kind::Sweep] {
                    if kind == Kind::Sweep && !self.deletes {
                        continue;
                    }
                    for choice in 0..self.choices() {
                        let mut next = *state;
                        let told = self.begin(&mut next, at, kind, choice, judges);
                        found.push(Step { state: next, words: tell(words, who, told), broken: None });
                    }
                }
                continue;
            }
            let mut next = *state;
            let (told, broken) = self.advance(&mut next, at, judges, words);
            found.push(Step { state: next, words: tell(words, who, told), broken });
            let mut next = *state;
            next.workers[at] = Worker::default();
            found.push(Step { state: next, words: tell(words, who, "crashes".into()), broken: None });
        }
        // Told in words, revisions keep the numbers that they have in the ledger.
        if !words {
            for step in found.iter_mut() {
                renumber(&mut step.state);
            }
        }
    }

    fn fingerprint(&self, state: &State) -> u64 {
        let mut workers: [u64; WORKERS_MAX] = std::array::from_fn(|at| match state.workers[at].phase {
            Phase::Idle => 0,
            _ => fingerprint(&state.workers[at]),
        });
        workers.sort_unstable();
        let rest = State { workers: [Worker::default(); WORKERS_MAX], ..*state };
        fingerprint(&(workers.map(u64::to_ne_bytes), Rest(&rest)))
    }

    fn broken(&self, judges: &mut Vec<Judge>, state: &State) -> Option<String> {
        if state.beyond || state.workers.iter().any(|worker| worker.phase != Phase::Idle) {
            return None;
        }
        // An absent row is the next sweep's, which is always to come.
        let both = state.rows[L].there() && state.rows[P].there();
        if state.due == [false, false]
            && (both || !self.deletes)
            && let Some(what) = self.at_rest(state, judges)
        {
            return Some(what);
        }
        if self.alone { self.alone(state, judges) } else { None }
    }

    fn show(&self, state: &State) -> String {
        let values = |values: [u8; FIELDS]| {
            let told = values[..self.fields].iter().map(|value| match *value {
                ABSENT => "no row".to_string(),
                NO_BASE => "?".to_string(),
                value => value.to_string(),
            });
            told.collect::<Vec<_>>().join(",")
        };
        let mut shown = format!("legacy {}; platform {}", values(state.rows[L].values()), values(state.rows[P].values()));
        let pair = &state.pair;
        if pair.there {
            shown += &format!("; ledger r{} base {}", pair.rev, values(pair.base));
            if pair.gone {
                shown += " gone";
            }
            if pair.open {
                shown += &format!(" intent {}{}", values(pair.next), if pair.next_gone { " gone" } else { "" });
            }
        }
        if state.receipt.there {
            shown += &format!("; receipt r{} {}", state.receipt.rev, if state.receipt.done { "done" } else { "void" });
        }
        for side in [L, P] {
            if state.due[side] {
                shown += &format!("; {} due", name(side));
            }
        }
        shown
    }
}

/// Everything of a state but its workers.
struct Rest<'a>(&'a State);

impl std::hash::Hash for Rest<'_> {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        let state = self.0;
        (state.rows, state.pair, state.receipt, state.due, state.edits, state.sighted).hash(hasher);
        (state.writes, state.beyond, state.agreed, state.logged, state.accounted).hash(hasher);
        (state.concern, state.replaced, state.value).hash(hasher);
    }
}

fn tell(words: bool, who: char, told: String) -> String {
    if words { format!("{who} {told}") } else { String::new() }
}

impl PairModel {
    fn omits(&self, guard: Guard) -> bool {
        self.omit == Some(guard)
    }

    fn keeps_first_look(&self, kind: Kind) -> bool {
        self.omits(if kind == Kind::Sweep { Guard::SweepOrder } else { Guard::Order })
    }

    /// Stamps matter only where the newer edit wins.
    fn stamps(&self) -> bool {
        matches!(self.rule, Rule::Fixed(policies) if policies[..self.fields].contains(&Policy::Newest))
    }

    fn choices(&self) -> u8 {
        if self.rule == Rule::Any { 2 } else { 1 }
    }

    // --- applications

    fn applications(&self, state: &State, words: bool, found: &mut Vec<Step<State>>) {
        if state.edits >= self.edits {
            return;
        }
        let mut push = |next: State, told: String| {
            let words = if words { told } else { String::new() };
            found.push(Step { state: next, words, broken: None });
        };
        for side in [L, P] {
            let row = &state.rows[side];
            if !row.there() {
                // A legacy row under a used key is another record; only before the pair is given up it is this one.
                let same = side == P || !(state.pair.gone || state.pair.open && state.pair.next_gone);
                if self.reinserts && row.cells[0].edit != 0 && same {
                    let mut next = *state;
                    let edit = self.edit(&mut next, side, (1 << self.fields) - 1, |_| 1);
                    push(next, format!("{}: an application inserts the row again (edit {edit})", name(side)));
                }
                continue;
            }
            for field in 0..self.fields {
                for value in (0..self.values).filter(|value| *value != row.cells[field].value) {
                    let mut next = *state;
                    let edit = self.edit(&mut next, side, 1 << field, |_| value);
                    let field = FIELD_NAMES[field];
                    push(next, format!("{}: an application sets {field} := {value} (edit {edit})", name(side)));
                }
            }
            if self.deletes {
                let mut next = *state;
                let edit = self.edit(&mut next, side, (1 << self.fields) - 1, |_| ABSENT);
                push(next, format!("{}: an application deletes the row (edit {edit})", name(side)));
            }
        }
    }

    /// An edit by an application of the fields whose bits are set. A row that comes or goes does so in all fields.
    fn edit(&self, state: &mut State, side: usize, fields: u8, value: impl Fn(usize) -> u8) -> u8 {
        state.edits += 1;
        let edit = state.edits;
        let stamp = if self.stamps() { newest_stamp(state) + 1 } else { 0 };
        let row = &mut state.rows[side];
        let whole = !row.there() || value(0) == ABSENT;
        let all = row.cells.iter().fold(0, |knows, cell| knows | cell.knows);
        for field in 0..FIELDS {
            if fields >> field & 1 == 0 && !whole {
                continue;
            }
            let known = if whole { all } else { row.cells[field].knows };
            let value = match field < self.fields {
                true => value(field),
                false => if value(0) == ABSENT { ABSENT } else { 0 },
            };
            row.cells[field] = Cell { value, edit, knows: known | bit(edit) };
            if field < self.fields {
                state.concern[field] |= bit(edit);
            }
            if self.strict {
                state.replaced[usize::from(edit) - 1] |= known;
                state.value[usize::from(edit) - 1] = value;
            }
        }
        let there = row.there();
        row.stamp = if there { stamp } else { 0 };
        row.edited = if there { edit } else { 0 };
        state.writes = 0;
        // A deleted row is in no tail.
        self.touched(state, side, false, there);
        edit
    }

    fn touched(&self, state: &mut State, side: usize, bridge: bool, due: bool) {
        let due = due && !(bridge && self.omits(Guard::Due));
        state.due[side] |= due;
        if state.sighted != 0 && usize::from(state.sighted) != side + 1 {
            state.sighted = 0;
        }
        for worker in state.workers.iter_mut().filter(|worker| worker.phase != Phase::Idle) {
            worker.changed |= due && own(worker.kind) == Some(side);
            worker.overtaken[side] |= bridge;
        }
    }

    // --- workers

    /// The page's first statement.
    fn begin(&self, state: &mut State, at: usize, kind: Kind, choice: u8, judges: &mut [Judge]) -> String {
        let mut worker = Worker { kind, choice, ..Worker::default() };
        let legacy_row = state.rows[L];
        // A receipt is found beside its row only if it knows the row's key.
        let beside = if state.receipt.keyed { state.receipt } else { Receipt::default() };
        let sweep_by_legacy = self.omits(Guard::SweepOrder);
        match kind {
            Kind::Tail if !legacy_row.there() => {
                state.due[L] = false;
                return "runs a legacy page; the row is not in it".into();
            }
            Kind::Tail => {
                worker.rows[L] = legacy_row;
                worker.receipt = beside;
                worker.knows_key = beside.there;
                worker.legacy_first = true;
                worker.phase = Phase::NeedsPlatform;
                state.workers[at] = worker;
                "starts a legacy page: reads legacy".into()
            }
            Kind::Keys => {
                // Only what the read tells of the keys is kept.
                worker.knows_key = beside.there && !state.pair.keyed;
                worker.phase = Phase::NeedsPlatform;
                state.workers[at] = worker;
                "starts a legacy page by keys: reads the receipts".into()
            }
            Kind::Sweep if sweep_by_legacy => {
                worker.rows[L] = legacy_row;
                worker.receipt = state.receipt;
                worker.knows_key = true;
                worker.legacy_first = true;
                worker.phase = Phase::NeedsPlatform;
                state.workers[at] = worker;
                "starts a sweep: reads legacy".into()
            }
            Kind::Platform | Kind::Sweep => {
                worker.knows_key = true;
                worker.phase = Phase::NeedsPlatform;
                state.workers[at] = worker;
                let what = if kind == Kind::Sweep { "sweep" } else { "platform page" };
                let told = self.read_platform(state, at, judges);
                format!("starts a {what}: {told}")
            }
        }
    }

    /// What a worker does next; it can always do something.
    fn advance(&self, state: &mut State, at: usize, judges: &mut [Judge], words: bool) -> (String, Option<String>) {
        match state.workers[at].phase {
            Phase::Idle => unreachable!("idle workers begin"),
            Phase::NeedsPlatform => (self.read_platform(state, at, judges), None),
            Phase::NeedsPair => (self.read_pair(state, at, judges), None),
            Phase::NeedsLegacy => (self.read_legacy(state, at, judges), None),
            Phase::Decided => match self.rule_on(state, at, judges) {
                Ruling::Act(plan) => self.commit_platform(state, at, &plan, words),
                Ruling::Void => (self.void(state, at), None),
                ruling => unreachable!("{ruling:?} ends where it is made"),
            },
            Phase::Announced => self.commit_legacy(state, at),
            Phase::Made => (self.fold(state, at), None),
        }
    }

    fn read_platform(&self, state: &mut State, at: usize, judges: &mut [Judge]) -> String {
        let row = state.rows[P];
        let worker = &mut state.workers[at];
        worker.overtaken[P] = false;
        worker.rows[P] = row;
        if self.omits(Guard::OneStatement) {
            worker.phase = Phase::NeedsPair;
            return "reads platform's row".into();
        }
        self.read_pair(state, at, judges)
    }

    fn read_pair(&self, state: &mut State, at: usize, judges: &mut [Judge]) -> String {
        let pair = state.pair;
        let worker = &mut state.workers[at];
        let told = if worker.phase == Phase::NeedsPair { "reads platform's ledger" } else { "reads platform" };
        if !pair.there || pair.keyed || worker.knows_key {
            worker.pair = pair;
        } else {
            // Nothing ties the legacy row that was asked for to this pair.
            worker.rows[P] = NO_ROW;
        }
        if worker.kind == Kind::Platform && !worker.rows[P].there() && !worker.pair.there {
            self.settle(state, at);
            return format!("{told}: the row is not there; settles the page");
        }
        if self.omits(Guard::BothSides)
            && worker.kind == Kind::Platform
            && pair.there
            && !pair.open
            && worker.rows[P].values() == pair_values(&pair)
        {
            self.settle(state, at);
            return format!("{told}: as its base; settles the page");
        }
        let worker = &mut state.workers[at];
        // Two rows without a pair are partners by natural key; for that legacy is always looked at again.
        let adopts = !worker.pair.there && worker.rows[P].there() && worker.rows[L].there();
        if worker.legacy_first && (!adopts || self.keeps_first_look(worker.kind)) {
            return self.consider(state, at, told, judges);
        }
        self.needs_legacy(state, at);
        told.into()
    }

    fn needs_legacy(&self, state: &mut State, at: usize) {
        let worker = &mut state.workers[at];
        worker.phase = Phase::NeedsLegacy;
        worker.legacy_first = false;
        worker.rows[L] = Row::default();
        worker.receipt = Receipt::default();
        worker.overtaken[L] = false;
    }

    fn read_legacy(&self, state: &mut State, at: usize, judges: &mut [Judge]) -> String {
        let (row, receipt) = (state.rows[L], state.receipt);
        let worker = &mut state.workers[at];
        worker.rows[L] = row;
        let known = worker.pair.there || worker.rows[P].there() || receipt.keyed;
        worker.receipt = if known { receipt } else { Receipt::default() };
        worker.overtaken[L] = false;
        if own(worker.kind) == Some(L) && !worker.pair.there && !row.there() {
            // A row that is not there has no partner by natural key either.
            worker.rows[P] = NO_ROW;
        }
        self.consider(state, at, "reads legacy", judges)
    }

    /// Judges what was read last. Settling at once is the same as settling later: what happens in between is due by
    /// itself.
    fn consider(&self, state: &mut State, at: usize, told: &str, judges: &mut [Judge]) -> String {
        let ruling = self.rule_on(state, at, judges);
        let worker = &mut state.workers[at];
        worker.phase = Phase::Decided;
        match ruling {
            Ruling::Nothing => {
                if worker.kind == Kind::Sweep && state.rows[L].there() == state.rows[P].there() {
                    state.sighted = 0;
                }
                self.observe_agreement(state, at);
                self.list_unseen(state, at, judges);
                let stays = state.workers[at].changed;
                self.settle(state, at);
                format!("{told}: nothing to do; settles the page{}", if stays { ", later changes stay due" } else { "" })
            }
            Ruling::Again => {
                state.workers[at] = Worker::default();
                format!("{told}: the receipt is newer than the ledger row; the page stays due")
            }
            Ruling::Beyond => {
                state.beyond = true;
                state.workers[at] = Worker::default();
                format!("{told}: a new record under a used key")
            }
            // A record that nobody has paired may rest on the first look at legacy; the unique keys decide.
            Ruling::Act(_) if worker.legacy_first && !worker.pair.there => told.into(),
            Ruling::Act(_) | Ruling::Void if worker.legacy_first && !self.keeps_first_look(worker.kind) => {
                self.needs_legacy(state, at);
                format!("{told}: not settled by that; legacy is to be read again")
            }
            Ruling::Act(plan) if worker.kind == Kind::Sweep && is_delete(&plan) && self.sightings > 1 => {
                let absent = if plan.platform == Write::Delete { L } else { P };
                if usize::from(state.sighted) == absent + 1 {
                    return told.into();
                }
                state.sighted = absent as u8 + 1;
                state.workers[at] = Worker::default();
                format!("{told}: {} is absent, seen once; ends", name(absent))
            }
            Ruling::Act(_) | Ruling::Void => told.into(),
        }
    }

    fn look(&self, worker: &Worker) -> Look {
        let mut look = Look {
            legacy: worker.rows[L].image(),
            platform: worker.rows[P].image(),
            pair: worker.pair,
            receipt: worker.receipt,
            legacy_first: worker.legacy_first,
            adopted: !worker.pair.there && worker.rows[L].there() && worker.rows[P].there(),
        };
        match self.omit {
            // Take what was agreed before the intent for agreed still.
            Some(Guard::Void) if look.pair.open && !(look.receipt.there && look.receipt.rev >= look.pair.rev) => {
                look.pair.open = false;
                (look.pair.next, look.pair.next_gone) = ([0; FIELDS], false);
            }
            // Take a newer receipt for none of this revision.
            Some(Guard::ReadAgain) if look.pair.there && look.receipt.there && look.receipt.rev > look.pair.rev => {
                (look.receipt.rev, look.receipt.done) = (look.pair.rev, false);
            }
            Some(Guard::Stamps) => (look.pair.stamp, look.receipt.stamp) = (0, 0),
            _ => {}
        }
        look
    }

    fn rule_on(&self, state: &State, at: usize, judges: &mut [Judge]) -> Ruling {
        let worker = &state.workers[at];
        let look = self.look(worker);
        let judge = &mut judges[usize::from(worker.choice)];
        let ruling = if worker.kind == Kind::Sweep { judge.sweep(&look) } else { judge.page(&look) };
        let Ruling::Act(mut plan) = ruling else { return ruling };
        let quiet = plan.platform == Write::None && plan.legacy == Write::None && plan.loser == [None; FIELDS];
        let same = (0..self.fields).all(|field| look.legacy.values[field] == look.platform.values[field]);
        match self.omit {
            Some(Guard::Record) if quiet && same && look.pair.there => return Ruling::Nothing,
            Some(Guard::List) if quiet && plan.pair.listed != look.pair.listed && !same => return Ruling::Nothing,
            Some(Guard::BasePerField) if look.legacy.there && look.platform.there => {
                let stored = match plan.platform {
                    Write::Update(values) => values,
                    _ => look.platform.values,
                };
                plan.pair.base[..self.fields].copy_from_slice(&stored[..self.fields]);
                if plan.pair.open {
                    plan.pair.next = plan.pair.base;
                }
            }
            _ => {}
        }
        Ruling::Act(plan)
    }

    fn settle(&self, state: &mut State, at: usize) {
        let worker = state.workers[at];
        if let (Some(side), false) = (own(worker.kind), worker.changed) {
            state.due[side] = false;
        }
        state.workers[at] = Worker::default();
    }

    /// Transaction V: a receipt that only ever grows.
    fn void(&self, state: &mut State, at: usize) -> String {
        let rev = state.workers[at].pair.rev;
        state.workers[at] = Worker::default();
        if state.receipt.there && state.receipt.rev >= rev {
            return format!("finds receipt r{} when it would void intent r{rev}; the page stays due", state.receipt.rev);
        }
        state.receipt = Receipt { there: true, rev, done: false, ..state.receipt };
        format!("commits on legacy: intent r{rev} is void; the page stays due")
    }

    /// Transaction P.
    fn commit_platform(&self, state: &mut State, at: usize, plan: &Plan, words: bool) -> (String, Option<String>) {
        let worker = state.workers[at];
        let moved = |state: &mut State, why: &str| {
            state.workers[at] = Worker::default();
            (format!("rolls back on the platform: {why}; the page stays due"), None)
        };
        if plan.rev_read > 0 {
            if !state.pair.there || (state.pair.rev != plan.rev_read && !self.omits(Guard::Revision)) {
                return moved(state, "the ledger row moved");
            }
        } else if state.pair.there {
            return moved(state, "the pair is claimed already");
        }
        let now = state.rows[P];
        let read = worker.rows[P];
        let compares = match plan.platform {
            Write::Update(_) | Write::Delete => !self.omits(Guard::ImageOnPlatform),
            Write::Insert(_) => false,
            Write::None => {
                (!worker.pair.there && read.there() && worker.rows[L].there())
                    || (!self.omits(Guard::ImageOnRecord) && plan.records.contains(&true))
            }
        };
        if compares && now.values() != read.values() {
            return moved(state, "its row moved");
        }
        match plan.platform {
            Write::Update(_) | Write::Delete if !now.there() => return moved(state, "its row is gone"),
            Write::Insert(_) if now.there() => return moved(state, "a row is there already"),
            _ => {}
        }

        let mut broken = self.log(state, &worker, plan);
        let rev = 1 + if self.omits(Guard::Revision) { state.pair.rev } else { plan.rev_read };
        let keyed = plan.pair.keyed || state.pair.there && state.pair.keyed;
        state.pair = Pair { rev, keyed, ..plan.pair };
        let values = match plan.platform {
            Write::Update(values) | Write::Insert(values) => Some(values),
            Write::Delete => Some([ABSENT; FIELDS]),
            Write::None => None,
        };
        let mut told = Vec::new();
        if let Some(values) = values {
            let whole = !matches!(plan.platform, Write::Update(_));
            for field in 0..FIELDS {
                if whole || field < self.fields && values[field] != read.cells[field].value {
                    let source = worker.rows[L].cells[field];
                    let lost = self.replace(state, P, field, source, plan.loser[field] == Some(Side::Platform));
                    broken = broken.or(lost);
                    self.agree(state, &worker, P, field, source);
                    if words && field < self.fields {
                        told.push(format!("{} := {}", FIELD_NAMES[field], worth(source.value)));
                    }
                }
            }
            self.wrote(state, P, &worker, whole);
            broken = broken.or_else(|| self.ping_pong(state));
            if self.stamps() && state.rows[P].there() {
                state.pair.stamp = state.rows[P].stamp;
                state.pair.edited = if plan.pair.edited > 0 { plan.pair.edited } else { plan.legacy_stamp };
            }
        }
        for field in 0..self.fields {
            let l = worker.rows[L].cells[field];
            if plan.records[field] {
                self.agree(state, &worker, P, field, l);
                told.push(format!("{} recorded", FIELD_NAMES[field]));
            }
        }
        if self.omits(Guard::Tombstone) && is_delete(plan) {
            state.pair = Pair::default();
        }
        let told = format!("commits on the platform, r{rev}: {}", told.join(", "));
        let (write, told) = match plan.legacy {
            Write::None => {
                self.settle(state, at);
                return (told, broken);
            }
            Write::Update(_) => (UPDATE, told + " intent to write legacy"),
            Write::Insert(_) => (INSERT, told + " intent to make the row on legacy"),
            Write::Delete => (DELETE, told + " intent to delete on legacy"),
        };
        let to_legacy = |field: &usize| match plan.legacy {
            Write::Update(values) => *field < self.fields && values[*field] != worker.rows[L].cells[*field].value,
            _ => true,
        };
        let bits = |fields: &mut dyn Iterator<Item = usize>| fields.fold(0, |bits, field| bits | 1 << field);
        let before = if plan.legacy_edited > 0 { plan.legacy_edited } else { state.pair.edited };
        let kept = &mut state.workers[at];
        *kept = Worker {
            phase: Phase::Announced,
            rev,
            write,
            fields: bits(&mut (0..FIELDS).filter(to_legacy)),
            losers: bits(&mut (0..FIELDS).filter(|field| plan.loser[*field] == Some(Side::Legacy))),
            before: if self.stamps() { before } else { 0 },
            keyed: plan.pair.keyed,
            pair: Pair::default(),
            receipt: Receipt::default(),
            ..*kept
        };
        (told, broken)
    }

    /// Transaction L.
    fn commit_legacy(&self, state: &mut State, at: usize) -> (String, Option<String>) {
        let worker = state.workers[at];
        let rev = worker.rev;
        if state.receipt.there && state.receipt.rev >= rev && !self.omits(Guard::Receipt) {
            state.workers[at] = Worker::default();
            return (format!("rolls back on legacy: receipt r{} is no older; the page stays due", state.receipt.rev), None);
        }
        let (now, read) = (state.rows[L], worker.rows[L]);
        let moved = match worker.write {
            INSERT => now.there(),
            _ => !now.there() || (now.values() != read.values() && !self.omits(Guard::ImageOnLegacy)),
        };
        if moved {
            state.receipt = Receipt { there: true, rev, done: false, ..state.receipt };
            state.workers[at] = Worker::default();
            return (format!("commits on legacy: the row moved, so receipt r{rev} says void; the page stays due"), None);
        }
        let mut broken = None;
        for field in (0..FIELDS).filter(|field| worker.fields >> field & 1 == 1) {
            let source = worker.rows[P].cells[field];
            let loses = worker.losers >> field & 1 == 1;
            if loses && now.cells[field].value == read.cells[field].value {
                state.logged |= bit(now.cells[field].edit);
                state.accounted |= now.cells[field].knows;
            }
            broken = broken.or(self.replace(state, L, field, source, false));
            self.agree(state, &worker, L, field, source);
        }
        self.wrote(state, L, &worker, worker.write != UPDATE);
        broken = broken.or_else(|| self.ping_pong(state));
        let stamp = if state.rows[L].there() { state.rows[L].stamp } else { 0 };
        let before = if self.stamps() { worker.before } else { 0 };
        state.receipt = Receipt { there: true, rev, done: true, keyed: true, stamp, before };
        if worker.keyed {
            self.settle(state, at);
        } else {
            state.workers[at] = Worker {
                phase: Phase::Made,
                kind: worker.kind,
                changed: worker.changed || own(worker.kind) == Some(L),
                rev,
                choice: worker.choice,
                ..Worker::default()
            };
        }
        (format!("commits on legacy what intent r{rev} says"), broken)
    }

    /// Notes a new legacy row's key, and with it that the intent was carried out.
    fn fold(&self, state: &mut State, at: usize) -> String {
        let rev = state.workers[at].rev;
        self.settle(state, at);
        let pair = &mut state.pair;
        if !(pair.there && pair.rev == rev && pair.open) {
            return "leaves the key unnoted: the ledger row moved".into();
        }
        *pair = Pair {
            rev: rev + 1,
            base: pair.next,
            gone: pair.next_gone,
            open: false,
            next: [0; FIELDS],
            next_gone: false,
            keyed: true,
            ..*pair
        };
        "commits on the platform: notes the legacy key".into()
    }

    // --- what nobody can see

    /// A value of the bridge replaces another: is an edit lost by it?
    fn replace(&self, state: &mut State, side: usize, field: usize, new: Cell, loses: bool) -> Option<String> {
        let old = state.rows[side].cells[field];
        if loses {
            state.logged |= bit(old.edit);
            state.accounted |= old.knows;
        }
        let known = old.edit == 0
            || old.edit == new.edit
            || (new.knows | state.logged) & bit(old.edit) != 0
            || old.value == new.value;
        let agreed = state.agreed[side][field];
        let no_change = old.value == agreed.0 && old.edit != agreed.1;
        if !known && no_change {
            state.accounted |= old.knows;
        }
        let knows = new.knows | if known || no_change { old.knows } else { 0 };
        state.rows[side].cells[field] = Cell { knows, ..new };
        (!known && !no_change && field < self.fields).then(|| {
            format!(
                "lost edit: on {}, edit {} of {} ({}) is overwritten by {} ({}), which does not know of it, and it is not logged",
                name(side),
                old.edit,
                FIELD_NAMES[field],
                worth(old.value),
                if new.edit == 0 { "the value at the start".into() } else { format!("edit {}", new.edit) },
                worth(new.value),
            )
        })
    }

    /// After a commit on `side` both sides agree about a field: on `value`, as the other side was read.
    fn agree(&self, state: &mut State, worker: &Worker, side: usize, field: usize, value: Cell) {
        let other = 1 - side;
        let here = state.rows[side].cells[field];
        let read_here = worker.rows[side].cells[field];
        let read_there = worker.rows[other].cells[field];
        let knows = if here.value == value.value { here.knows | value.knows } else { read_here.knows | value.knows };
        if here.value == value.value {
            state.rows[side].cells[field].knows = knows;
            state.agreed[side][field] = (here.value, here.edit);
        } else {
            state.agreed[side][field] = (read_here.value, read_here.edit);
            // It has moved on, but both had been equal before that.
            if value.edit < here.edit {
                state.rows[side].cells[field].knows |= value.knows;
            }
        }
        if worker.overtaken[other] {
            return;
        }
        state.agreed[other][field] = (read_there.value, read_there.edit);
        let there = &mut state.rows[other].cells[field];
        // Legacy is read last: what is edited there since was edited after all that this agreement knows.
        if other == L || there.value == read_there.value {
            there.knows |= knows;
        }
    }

    /// Where equal values are not recorded, the agreement was seen all the same.
    fn observe_agreement(&self, state: &mut State, at: usize) {
        if !self.omits(Guard::Record) {
            return;
        }
        let worker = state.workers[at];
        for field in 0..self.fields {
            let cells = [state.rows[L].cells[field], state.rows[P].cells[field]];
            if cells[L].value == cells[P].value && (0..2).all(|side| cells[side] == worker.rows[side].cells[field]) {
                for side in [L, P] {
                    state.rows[side].cells[field].knows |= cells[1 - side].knows;
                    state.agreed[side][field] = (cells[side].value, cells[side].edit);
                }
            }
        }
    }

    /// Where listing compares nothing: the list is written whatever the ledger row says by now.
    fn list_unseen(&self, state: &mut State, at: usize, judges: &mut [Judge]) {
        if !self.omits(Guard::List) {
            return;
        }
        let worker = &state.workers[at];
        let look = self.look(worker);
        if let Ruling::Act(plan) = judges[usize::from(worker.choice)].page(&look)
            && state.pair.there
        {
            state.pair.listed = plan.pair.listed;
        }
    }

    /// The conflicts of a plan go to the log in transaction P.
    fn log(&self, state: &mut State, worker: &Worker, plan: &Plan) -> Option<String> {
        let mut broken = None;
        for field in 0..self.fields {
            let Some(side) = plan.loser[field] else { continue };
            let (loser, winner) = match side {
                Side::Legacy => (L, P),
                Side::Platform => (P, L),
            };
            let (lost, won) = (worker.rows[loser].cells[field], worker.rows[winner].cells[field]);
            state.logged |= bit(lost.edit);
            state.accounted |= lost.knows;
            let knew = won.edit == 0 || lost.knows & bit(won.edit) != 0;
            if lost.edit != 0 && lost.edit != won.edit && won.knows & bit(lost.edit) == 0 && knew {
                broken = broken.or_else(|| {
                    Some(format!(
                        "false conflict: edit {} of {} loses against {}, which it had replaced knowingly",
                        lost.edit,
                        FIELD_NAMES[field],
                        if won.edit == 0 { "the value at the start".into() } else { format!("edit {}", won.edit) },
                    ))
                });
            }
            let newest = matches!(self.rule, Rule::Fixed(policies) if policies[field] == Policy::Newest);
            if newest && worker.rows[loser].edited > worker.rows[winner].edited {
                broken = broken.or_else(|| {
                    Some(format!(
                        "wrong winner: {} of {}, last edited by edit {}, wins against edit {}",
                        FIELD_NAMES[field],
                        name(winner),
                        worker.rows[winner].edited,
                        worker.rows[loser].edited,
                    ))
                });
            }
        }
        if plan.restores {
            let (absent, present) = if worker.rows[L].there() { (P, L) } else { (L, P) };
            let lost = worker.rows[absent].cells[0];
            state.logged |= bit(lost.edit);
            state.accounted |= lost.knows;
            let knew_all = (0..self.fields)
                .all(|field| bit(worker.rows[present].cells[field].edit) & !worker.rows[absent].cells[field].knows == 0);
            if knew_all && lost.edit != 0 {
                broken = broken.or_else(|| {
                    Some(format!("false conflict: delete {} on {} loses against a row that it wholly knew", lost.edit, name(absent)))
                });
            }
        }
        broken
    }

    /// The bridge has written a row: it is stamped, and due.
    fn wrote(&self, state: &mut State, side: usize, worker: &Worker, whole: bool) {
        let stamp = if self.stamps() { newest_stamp(state) + 1 } else { 0 };
        let row = &mut state.rows[side];
        let there = row.there();
        row.stamp = if there { stamp } else { 0 };
        if whole {
            row.edited = if there { worker.rows[1 - side].edited } else { 0 };
        }
        self.touched(state, side, true, there);
        if self.writes_max > 0 {
            state.writes += 1;
        }
    }

    fn ping_pong(&self, state: &State) -> Option<String> {
        (self.writes_max > 0 && state.writes > self.writes_max)
            .then(|| format!("ping-pong: {} row writes since the last edit", state.writes))
    }

    // --- what must hold at rest

    /// Nothing is due and nobody works: then both sides are equal, a further page has nothing to do, and no edit is lost.
    fn at_rest(&self, state: &State, judges: &mut [Judge]) -> Option<String> {
        let seen = Worker { rows: state.rows, pair: state.pair, receipt: state.receipt, ..Worker::default() };
        let rest = State { workers: [seen, Worker::default(), Worker::default()], ..*state };
        let nobody = !state.rows[L].there() && !state.rows[P].there() && !state.pair.there;
        match self.rule_on(&rest, 0, judges) {
            Ruling::Nothing => {}
            Ruling::Beyond => return None,
            _ if nobody => {}
            ruling => return Some(format!("not still: nothing is due, yet a page would act: {}", short(&ruling))),
        }
        for field in 0..self.fields {
            let (l, p) = (state.rows[L].cells[field], state.rows[P].cells[field]);
            if state.pair.listed[field] > 0 {
                continue;
            }
            if l.value != p.value {
                return Some(format!(
                    "not equal: nothing is due, yet {} is {} on legacy and {} on the platform",
                    FIELD_NAMES[field],
                    worth(l.value),
                    worth(p.value)
                ));
            }
            let lost = state.concern[field] & !(l.knows | p.knows | state.accounted | state.logged);
            if lost != 0 {
                return Some(format!(
                    "lost edit: nothing is due, yet edit {} of {} is neither known to the value nor logged",
                    lost.trailing_zeros(),
                    FIELD_NAMES[field]
                ));
            }
            if self.strict && l.edit == p.edit && l.edit != 0 {
                for edit in 1..=state.edits {
                    let at = usize::from(edit) - 1;
                    let over = state.concern[field] & bit(edit) != 0 && state.replaced[at] & bit(l.edit) != 0;
                    if edit != l.edit && over && state.logged & bit(edit) == 0 && state.value[at] != l.value {
                        return Some(format!(
                            "stale end: the value of {} is edit {}, which edit {edit} had replaced, and {edit} is not logged",
                            FIELD_NAMES[field], l.edit
                        ));
                    }
                }
            }
        }
        None
    }

    /// One worker alone, all others dead, brings any state to rest with few writes.
    fn alone(&self, state: &State, judges: &mut [Judge]) -> Option<String> {
        const ROUNDS_MAX: usize = 12;
        const WRITES_MAX: u8 = 10;
        let mut state = *state;
        let mut writes = 0;
        let mut still = 0;
        for _ in 0..ROUNDS_MAX {
            let before = (state.rows, state.pair, state.receipt, state.sighted);
            for kind in [Kind::Tail, Kind::Keys, Kind::Platform, Kind::Sweep] {
                // As in a run: what is due comes to a page, what is not does not.
                let due = match own(kind) {
                    None => self.deletes,
                    Some(side) => state.due[side],
                };
                if !due {
                    continue;
                }
                let images = state.rows;
                let choice = state.edits & (self.choices() - 1);
                self.begin(&mut state, 0, kind, choice, judges);
                while state.workers[0].phase != Phase::Idle {
                    let (_, broken) = self.advance(&mut state, 0, judges, false);
                    if broken.is_some() {
                        return broken;
                    }
                    renumber(&mut state);
                }
                if state.beyond {
                    return None;
                }
                writes += (0..2).filter(|&side| state.rows[side].values() != images[side].values()).count() as u8;
            }
            let same = before == (state.rows, state.pair, state.receipt, state.sighted);
            still = if same && state.due == [false, false] { still + 1 } else { 0 };
            if still >= 1 + usize::from(self.deletes && self.sightings > 1) {
                return self.at_rest(&state, judges).map(|what| format!("{what} (after one worker alone came to rest)"));
            }
            if writes > WRITES_MAX {
                return Some("ping-pong: one worker alone keeps writing".into());
            }
        }
        Some("no rest: one worker alone does not come to an end".into())
    }
}

fn own(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Tail | Kind::Keys => Some(L),
        Kind::Platform => Some(P),
        Kind::Sweep => None,
    }
}

fn is_delete(plan: &Plan) -> bool {
    plan.platform == Write::Delete || plan.legacy == Write::Delete
}

fn pair_values(pair: &Pair) -> [u8; FIELDS] {
    pair.base.map(|value| if value == NO_BASE { 0 } else { value })
}

fn worth(value: u8) -> String {
    if value == ABSENT { "no row".into() } else { value.to_string() }
}

fn short(ruling: &Ruling) -> &'static str {
    match ruling {
        Ruling::Nothing => "nothing",
        Ruling::Again => "reads again",
        Ruling::Void => "voids an intent",
        Ruling::Act(plan) if plan.platform == Write::None && plan.legacy == Write::None => "notes something",
        Ruling::Act(_) => "writes",
        Ruling::Beyond => "makes a new record",
    }
}

/// All stamps of a state, in any order.
fn stamps(state: &mut State, mut each: impl FnMut(&mut u8)) {
    for row in &mut state.rows {
        each(&mut row.stamp);
    }
    for stamp in [&mut state.pair.stamp, &mut state.pair.edited, &mut state.receipt.stamp, &mut state.receipt.before] {
        each(stamp);
    }
    for worker in state.workers.iter_mut().filter(|worker| worker.phase != Phase::Idle) {
        for row in &mut worker.rows {
            each(&mut row.stamp);
        }
        let (pair, receipt) = (&mut worker.pair, &mut worker.receipt);
        for stamp in [&mut pair.stamp, &mut pair.edited, &mut receipt.stamp, &mut receipt.before, &mut worker.before] {
            each(stamp);
        }
    }
}

fn revs(state: &mut State, mut each: impl FnMut(&mut u8)) {
    each(&mut state.pair.rev);
    each(&mut state.receipt.rev);
    for worker in state.workers.iter_mut().filter(|worker| worker.phase != Phase::Idle) {
        each(&mut worker.pair.rev);
        each(&mut worker.receipt.rev);
        each(&mut worker.rev);
    }
}

fn newest_stamp(state: &State) -> u8 {
    let mut newest = 0;
    stamps(&mut state.clone(), |stamp| newest = newest.max(*stamp));
    newest
}

/// Only the order of revisions and of stamps matters, so each is numbered anew: else there would be no end of states.
fn renumber(state: &mut State) {
    let mut used = 0_u64;
    revs(state, |rev| used |= 1 << *rev);
    revs(state, |rev| *rev = place(used, *rev));
    let mut used = 0_u64;
    stamps(state, |stamp| used |= 1 << *stamp);
    stamps(state, |stamp| *stamp = place(used, *stamp));
}

/// The place of a number among those used; 0 stays 0.
fn place(used: u64, number: u8) -> u8 {
    match number {
        0 => 0,
        number => ((used & !1) & ((1_u64 << number) | ((1_u64 << number) - 1))).count_ones() as u8,
    }
}
