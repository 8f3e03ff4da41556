//! One pair, kept in step by workers that may stop, crash or come back at any step, while applications edit both rows.
//! Every step below is one statement or one transaction of the project; anything may happen between two steps.
//!
//! Along with what the databases hold, the model keeps what nobody could know: which edit made each value, and which
//! edits that value knows of. By that it tells a lost edit from one that was replaced knowingly or logged as a loser.

mod pages;
mod rest;
mod unseen;

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
    /// B18: a row that is listed is noted when it was touched since.
    Touched,
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
    /// B19: a tombstone is forgotten only while nothing of it is open or due.
    Forgotten,
    /// Of B1: P's row is compared too where the values of both sides are recorded as they were read.
    ImageOnRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    InStep,
    /// Both rows are there, and differ, and were never compared.
    FirstContact,
    /// In step, but for the second field: it is new in the mapping, and differs.
    NewField,
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
    /// Legacy pages by key run too, beside those of the tail.
    pub keys: bool,
    pub rule: Rule,
    pub start: Start,
    /// Applications delete rows, and sweeps run.
    pub deletes: bool,
    /// Applications insert deleted rows again.
    pub reinserts: bool,
    /// Sightings that a sweep needs before it carries a delete over: 1 or 2.
    pub sightings: u8,
    /// Tombstones end: the receipt first, then the ledger row.
    pub forgets: bool,
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
            keys: true,
            rule: Rule::Fixed([Policy::Newest; FIELDS]),
            start: Start::InStep,
            deletes: false,
            reinserts: false,
            sightings: 1,
            forgets: false,
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

fn field_name(field: usize) -> &'static str {
    if field == 0 { "f" } else { "g" }
}

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
                    let edit =
                        self.edit(
                            &mut state,
                            side,
                            (1 << self.fields) - 1,
                            |field| {
                                if field == 0 { side as u8 } else { 1 }
                            },
                        );
                    // What was there before the edit concerns nobody.
                    state.rows[side].cells.iter_mut().for_each(|cell| cell.knows = bit(edit));
                }
            }
            Start::NewField => {
                base[1] = NO_BASE;
                state.rows.iter_mut().for_each(|row| row.stamp = stamp);
                state.pair = Pair { there: true, rev: 1, base, keyed: true, ..Pair::default() };
                for side in [L, P] {
                    state.agreed[side][1] = (NO_BASE, 0);
                    let edit = self.edit(&mut state, side, 1 << 1, |_| side as u8);
                    state.rows[side].cells[1].knows = bit(edit);
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
        self.forget(state, words, found);
        for at in 0..self.workers {
            let worker = state.workers[at];
            let who = char::from(b'A' + at as u8);
            if worker.phase == Phase::Idle {
                // Idle workers are alike: the first one starts.
                if state.workers[..at].iter().any(|other| other.phase == Phase::Idle) {
                    continue;
                }
                for kind in [Kind::Tail, Kind::Keys, Kind::Platform, Kind::Sweep] {
                    if kind == Kind::Sweep && !self.deletes || kind == Kind::Keys && !self.keys {
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
        if state.beyond && !self.reinserts {
            return Some("deleted row: nobody inserted it again, yet it would come back as a new record".into());
        }
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
        let mut shown =
            format!("legacy {}; platform {}", values(state.rows[L].values()), values(state.rows[P].values()));
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
                    let field = field_name(field);
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

    /// What was deleted long ago is forgotten: both watermarks are past it, and no page of before is at work any more.
    fn forget(&self, state: &State, words: bool, found: &mut Vec<Step<State>>) {
        let pair = &state.pair;
        // Whoever saw the row on legacy, which nobody inserted again, looked before it was deleted.
        let young = |worker: &Worker| match worker.phase {
            Phase::Idle => true,
            Phase::NeedsPlatform => !worker.legacy_first || !worker.rows[L].there(),
            _ => worker.pair.rev == pair.rev,
        };
        let may = self.forgets
            && pair.there
            && pair.gone
            && (self.omits(Guard::Forgotten) || !pair.open && state.due == [false, false])
            && state.workers.iter().all(young);
        if !may {
            return;
        }
        let mut next = *state;
        let told = match state.receipt.there {
            true if state.receipt.rev > pair.rev => return,
            true => {
                next.receipt = Receipt::default();
                "the receipt of a tombstone is forgotten"
            }
            false => {
                next.pair = Pair::default();
                "a tombstone is forgotten"
            }
        };
        found.push(Step { state: next, words: if words { told.into() } else { String::new() }, broken: None });
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
                false => {
                    if value(0) == ABSENT {
                        ABSENT
                    } else {
                        0
                    }
                }
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
    let (pair, receipt) = (&mut state.pair, &mut state.receipt);
    for stamp in [&mut pair.stamp, &mut pair.edited, &mut pair.seen, &mut receipt.stamp, &mut receipt.before] {
        each(stamp);
    }
    for worker in state.workers.iter_mut().filter(|worker| worker.phase != Phase::Idle) {
        for row in &mut worker.rows {
            each(&mut row.stamp);
        }
        let (pair, receipt) = (&mut worker.pair, &mut worker.receipt);
        for stamp in [&mut pair.stamp, &mut pair.edited, &mut pair.seen, &mut receipt.stamp, &mut receipt.before] {
            each(stamp);
        }
        each(&mut worker.before);
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
