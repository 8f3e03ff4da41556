//! What must hold when nothing is due and nobody works, and that one worker alone gets there from anywhere.

use super::*;

impl PairModel {
    /// Nothing is due and nobody works: then both sides are equal, a further page has nothing to do, and no edit is lost.
    pub(super) fn at_rest(&self, state: &State, judges: &mut [Judge]) -> Option<String> {
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
                    field_name(field),
                    worth(l.value),
                    worth(p.value)
                ));
            }
            let lost = state.concern[field] & !(l.knows | p.knows | state.accounted | state.logged);
            if lost != 0 {
                return Some(format!(
                    "lost edit: nothing is due, yet edit {} of {} is neither known to the value nor logged",
                    lost.trailing_zeros(),
                    field_name(field)
                ));
            }
            if self.strict && l.edit == p.edit && l.edit != 0 {
                for edit in 1..=state.edits {
                    let at = usize::from(edit) - 1;
                    let over = state.concern[field] & bit(edit) != 0 && state.replaced[at] & bit(l.edit) != 0;
                    if edit != l.edit && over && state.logged & bit(edit) == 0 && state.value[at] != l.value {
                        return Some(format!(
                            "stale end: the value of {} is edit {}, which edit {edit} had replaced, and {edit} is not logged",
                            field_name(field),
                            l.edit
                        ));
                    }
                }
            }
        }
        None
    }

    /// One worker alone, all others dead, brings any state to rest with few writes.
    pub(super) fn alone(&self, state: &State, judges: &mut [Judge]) -> Option<String> {
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
                    Some(side) => state.due[side] && (self.keys || kind != Kind::Keys),
                };
                if !due {
                    continue;
                }
                let images = state.rows;
                let choice = state.edits & (self.choices() - 1);
                self.begin(&mut state, 0, kind, choice, judges);
                while state.workers[0].phase != Phase::Idle {
                    let (_, broken) = self.advance(&mut state, 0, judges, false);
                    if let Some(broken) = broken {
                        return Some(format!("{broken} (by a later page)"));
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
            if still > usize::from(self.deletes && self.sightings > 1) {
                return self
                    .at_rest(&state, judges)
                    .map(|what| format!("{what} (after one worker alone came to rest)"));
            }
            if writes > WRITES_MAX {
                return Some("ping-pong: one worker alone keeps writing".into());
            }
        }
        Some("no rest: one worker alone does not come to an end".into())
    }
}
