//! What nobody can see: which edits a value knows of. By it a lost edit is told from one that was replaced knowingly.

use super::*;

impl PairModel {
    /// A value of the bridge replaces another: is an edit lost by it?
    pub(super) fn replace(
        &self,
        state: &mut State,
        side: usize,
        field: usize,
        new: Cell,
        loses: bool,
    ) -> Option<String> {
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
                field_name(field),
                worth(old.value),
                if new.edit == 0 { "the value at the start".into() } else { format!("edit {}", new.edit) },
                worth(new.value),
            )
        })
    }

    /// After a commit on `side` both sides agree about a field: on `value`, as the other side was read.
    pub(super) fn agree(&self, state: &mut State, worker: &Worker, side: usize, field: usize, value: Cell) {
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
    pub(super) fn observe_agreement(&self, state: &mut State, at: usize) {
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
    pub(super) fn list_unseen(&self, state: &mut State, at: usize, judges: &mut [Judge]) {
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
    pub(super) fn log(&self, state: &mut State, worker: &Worker, plan: &Plan) -> Option<String> {
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
                        field_name(field),
                        if won.edit == 0 { "the value at the start".into() } else { format!("edit {}", won.edit) },
                    ))
                });
            }
            let newest = matches!(self.rule, Rule::Fixed(policies) if policies[field] == Policy::Newest);
            if newest && plan.contact[field] && winner == L {
                broken = broken.or_else(|| Some("wrong winner: a first contact goes to the authority".into()));
            }
            if newest && !plan.contact[field] && worker.rows[loser].edited > worker.rows[winner].edited {
                broken = broken.or_else(|| {
                    Some(format!(
                        "wrong winner: {} of {}, last edited by edit {}, wins against edit {}",
                        field_name(field),
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
            let knew_all = (0..self.fields).all(|field| {
                bit(worker.rows[present].cells[field].edit) & !worker.rows[absent].cells[field].knows == 0
            });
            if knew_all && lost.edit != 0 {
                broken = broken.or_else(|| {
                    Some(format!(
                        "false conflict: delete {} on {} loses against a row that it wholly knew",
                        lost.edit,
                        name(absent)
                    ))
                });
            }
        }
        broken
    }

    /// The bridge has written a row: it is stamped, and due.
    pub(super) fn wrote(&self, state: &mut State, side: usize, worker: &Worker, whole: bool) {
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

    pub(super) fn ping_pong(&self, state: &State) -> Option<String> {
        (self.writes_max > 0 && state.writes > self.writes_max)
            .then(|| format!("ping-pong: {} row writes since the last edit", state.writes))
    }
}
