//! What a worker does: a page, statement by statement and transaction by transaction, as `stages` runs it.

use super::*;

impl PairModel {
    /// The page's first statement.
    pub(super) fn begin(&self, state: &mut State, at: usize, kind: Kind, choice: u8, judges: &mut [Judge]) -> String {
        let mut worker = Worker { kind, choice, ..Worker::default() };
        let legacy_row = state.rows[L];
        // A receipt is found beside its row only if it knows the row's key.
        let beside = if state.receipt.keyed { state.receipt } else { Receipt::default() };
        let sweep_by_legacy = self.omits(Guard::SweepOrder);
        match kind {
            Kind::Tail if !legacy_row.there() => {
                state.due[L] = false;
                "runs a legacy page; the row is not in it".into()
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
    pub(super) fn advance(
        &self,
        state: &mut State,
        at: usize,
        judges: &mut [Judge],
        words: bool,
    ) -> (String, Option<String>) {
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

    pub(super) fn read_platform(&self, state: &mut State, at: usize, judges: &mut [Judge]) -> String {
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

    pub(super) fn read_pair(&self, state: &mut State, at: usize, judges: &mut [Judge]) -> String {
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

    pub(super) fn needs_legacy(&self, state: &mut State, at: usize) {
        let worker = &mut state.workers[at];
        worker.phase = Phase::NeedsLegacy;
        worker.legacy_first = false;
        worker.rows[L] = Row::default();
        worker.receipt = Receipt::default();
        worker.overtaken[L] = false;
    }

    pub(super) fn read_legacy(&self, state: &mut State, at: usize, judges: &mut [Judge]) -> String {
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
    pub(super) fn consider(&self, state: &mut State, at: usize, told: &str, judges: &mut [Judge]) -> String {
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
                format!(
                    "{told}: nothing to do; settles the page{}",
                    if stays { ", later changes stay due" } else { "" }
                )
            }
            Ruling::Again => {
                state.workers[at] = Worker::default();
                format!("{told}: the receipt is newer than the ledger row; the page stays due")
            }
            // A record that nobody has paired may rest on the first look at legacy; the unique keys decide.
            Ruling::Act(_) if worker.legacy_first && !worker.pair.there => told.into(),
            Ruling::Act(_) | Ruling::Void | Ruling::Beyond
                if worker.legacy_first && !self.keeps_first_look(worker.kind) =>
            {
                self.needs_legacy(state, at);
                format!("{told}: not settled by that; legacy is to be read again")
            }
            Ruling::Beyond => {
                state.beyond = true;
                state.workers[at] = Worker::default();
                format!("{told}: a new record under a used key")
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

    pub(super) fn look(&self, worker: &Worker) -> Look {
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

    pub(super) fn rule_on(&self, state: &State, at: usize, judges: &mut [Judge]) -> Ruling {
        let worker = &state.workers[at];
        let look = self.look(worker);
        let judge = &mut judges[usize::from(worker.choice)];
        let ruling = if worker.kind == Kind::Sweep { judge.sweep(&look) } else { judge.page(&look) };
        let Ruling::Act(mut plan) = ruling else { return ruling };
        let quiet = plan.platform == Write::None && plan.legacy == Write::None && plan.loser == [None; FIELDS];
        let same = (0..self.fields).all(|field| look.legacy.values[field] == look.platform.values[field]);
        match self.omit {
            Some(Guard::Record) if quiet && same && look.pair.there => return Ruling::Nothing,
            Some(Guard::Touched)
                if quiet && plan.records == [false; FIELDS] && plan.pair.listed == look.pair.listed && !same =>
            {
                return Ruling::Nothing;
            }
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

    pub(super) fn settle(&self, state: &mut State, at: usize) {
        let worker = state.workers[at];
        if let (Some(side), false) = (own(worker.kind), worker.changed) {
            state.due[side] = false;
        }
        state.workers[at] = Worker::default();
    }

    /// Transaction V: a receipt that only ever grows.
    pub(super) fn void(&self, state: &mut State, at: usize) -> String {
        let rev = state.workers[at].pair.rev;
        state.workers[at] = Worker::default();
        if state.receipt.there && state.receipt.rev >= rev {
            return format!(
                "finds receipt r{} when it would void intent r{rev}; the page stays due",
                state.receipt.rev
            );
        }
        state.receipt = Receipt { there: true, rev, done: false, ..state.receipt };
        format!("commits on legacy: intent r{rev} is void; the page stays due")
    }

    /// Transaction P.
    pub(super) fn commit_platform(
        &self,
        state: &mut State,
        at: usize,
        plan: &Plan,
        words: bool,
    ) -> (String, Option<String>) {
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
            for (field, value) in values.into_iter().enumerate() {
                if whole || field < self.fields && value != read.cells[field].value {
                    let source = worker.rows[L].cells[field];
                    let lost = self.replace(
                        state,
                        P,
                        field,
                        source,
                        plan.restores || plan.loser[field] == Some(Side::Platform),
                    );
                    broken = broken.or(lost);
                    self.agree(state, &worker, P, field, source);
                    if words && field < self.fields {
                        told.push(format!("{} := {}", field_name(field), worth(source.value)));
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
                told.push(format!("{} recorded", field_name(field)));
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
            losers: bits(&mut (0..FIELDS).filter(|field| plan.restores || plan.loser[*field] == Some(Side::Legacy))),
            before: if self.stamps() { before } else { 0 },
            keyed: plan.pair.keyed,
            pair: Pair::default(),
            receipt: Receipt::default(),
            ..*kept
        };
        (told, broken)
    }

    /// Transaction L.
    pub(super) fn commit_legacy(&self, state: &mut State, at: usize) -> (String, Option<String>) {
        let worker = state.workers[at];
        let rev = worker.rev;
        if state.receipt.there && state.receipt.rev >= rev && !self.omits(Guard::Receipt) {
            state.workers[at] = Worker::default();
            return (
                format!("rolls back on legacy: receipt r{} is no older; the page stays due", state.receipt.rev),
                None,
            );
        }
        let (now, read) = (state.rows[L], worker.rows[L]);
        let moved = match worker.write {
            INSERT => now.there(),
            _ => !now.there() || (now.values() != read.values() && !self.omits(Guard::ImageOnLegacy)),
        };
        if moved {
            state.receipt = Receipt { there: true, rev, done: false, ..state.receipt };
            state.workers[at] = Worker::default();
            return (
                format!("commits on legacy: the row moved, so receipt r{rev} says void; the page stays due"),
                None,
            );
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
    pub(super) fn fold(&self, state: &mut State, at: usize) -> String {
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
}
