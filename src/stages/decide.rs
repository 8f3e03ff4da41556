//! The one rule: what to do with a pair, per field, from both sides' canonical values and the base. Pure: hashes and
//! stamps in, a decision out.

use chrono::{DateTime, Duration, Utc};

use crate::config::{FirstContact, Policy, Side};
use crate::mapping::Canonical;

/// A field of a pair whose two rows are there. Values are hashes of canonical forms.
#[derive(Debug, Clone, Copy)]
pub struct FieldView {
    pub legacy: u64,
    pub platform: u64,
    /// `None`: never compared under this lens.
    pub base: Option<u64>,
    pub policy: Policy,
    /// The only side that is ever written.
    pub one_way: Option<Side>,
    /// Decides where there is no base; `None`: nothing may be decided there now.
    pub first_contact: Option<FirstContact>,
    /// Already listed as a manual conflict with exactly these two values.
    pub listed: bool,
}

/// What `newest` needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// When users last edited each row.
    pub legacy_edited_at: Option<DateTime<Utc>>,
    pub platform_edited_at: Option<DateTime<Utc>>,
    /// Two edits closer than this are a tie: the coarser stamp's doubt plus the measured clock difference.
    pub tie: Duration,
    /// The clocks are too far apart to compare.
    pub suspended: bool,
    /// Who wins a tie.
    pub authority: Side,
}

/// What to do with one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Equal, and equal to the base.
    Nothing,
    /// Equal, but the base does not say so yet.
    Record,
    /// One side changed since the base.
    To(Side),
    /// Both changed, to different values.
    Conflict { winner: Side, why: Why },
    /// Both changed and a person decides: to be listed.
    List,
    /// Listed already, with these values.
    Listed,
    /// To be decided once the side that it would write is no longer paused, or the record that it refers to is there.
    Held,
    /// Never compared under this lens, and different: to be decided once the mapping is accepted.
    Waits,
}

/// Why a side won a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Newer,
    /// Too close to tell: the authority.
    Tie,
    /// The clocks are too far apart: the authority.
    Clocks,
    /// The policy names a side.
    Policy,
    /// The field goes one way, and was edited at its end.
    OneWay,
    /// They were never compared: the policy for that names a side.
    FirstContact,
}

impl Step {
    /// The side that will be written.
    pub fn target(self) -> Option<Side> {
        match self {
            Step::To(side) => Some(side),
            Step::Conflict { winner, .. } => Some(winner.other()),
            Step::Nothing | Step::Record | Step::List | Step::Listed | Step::Held | Step::Waits => None,
        }
    }

    /// Whether a transaction has to say something about this field.
    pub fn acts(self) -> bool {
        !matches!(self, Step::Nothing | Step::Listed | Step::Held | Step::Waits)
    }
}

/// The rule for one field.
pub fn decide_field(field: &FieldView, clocks: &Clocks) -> Step {
    if field.legacy == field.platform {
        return if field.base == Some(field.legacy) { Step::Nothing } else { Step::Record };
    }
    if let Some(target) = field.one_way {
        if field.base.is_none() && field.first_contact.is_none() {
            return Step::Waits;
        }
        let stands = if target == Side::Legacy { field.legacy } else { field.platform };
        // What was edited at the end of a one-way field is overwritten, and so it is logged.
        return match field.base == Some(stands) || stands == Canonical::null().hash() {
            true => Step::To(target),
            false => Step::Conflict { winner: target.other(), why: Why::OneWay },
        };
    }
    match field.base {
        Some(base) if base == field.platform => Step::To(Side::Platform),
        Some(base) if base == field.legacy => Step::To(Side::Legacy),
        None => first_contact(field, clocks.authority),
        Some(_) => match field.policy {
            Policy::Manual if field.listed => Step::Listed,
            Policy::Manual => Step::List,
            Policy::Legacy => Step::Conflict { winner: Side::Legacy, why: Why::Policy },
            Policy::Platform => Step::Conflict { winner: Side::Platform, why: Why::Policy },
            Policy::Newest => {
                let (winner, why) = newest(clocks);
                Step::Conflict { winner, why }
            }
        },
    }
}

/// Never by the stamps: they are the rows', and say when any field was edited, or that a batch touched them all.
fn first_contact(field: &FieldView, authority: Side) -> Step {
    let null = Canonical::null().hash();
    let won = |winner| Step::Conflict { winner, why: Why::FirstContact };
    match field.first_contact {
        None => Step::Waits,
        Some(FirstContact::Manual) if field.listed => Step::Listed,
        Some(FirstContact::Manual) => Step::List,
        // Where nobody is named to be right, a value is worth more than none. Somebody may have taken it away: so it is logged.
        Some(FirstContact::Authority) if field.legacy == null => won(Side::Platform),
        Some(FirstContact::Authority) if field.platform == null => won(Side::Legacy),
        Some(FirstContact::Authority) => won(authority),
        Some(FirstContact::Side(winner)) => won(winner),
    }
}

fn newest(clocks: &Clocks) -> (Side, Why) {
    if clocks.suspended {
        return (clocks.authority, Why::Clocks);
    }
    match (clocks.legacy_edited_at, clocks.platform_edited_at) {
        (Some(legacy), Some(platform)) if legacy - platform > clocks.tie => (Side::Legacy, Why::Newer),
        (Some(legacy), Some(platform)) if platform - legacy > clocks.tie => (Side::Platform, Why::Newer),
        _ => (clocks.authority, Why::Tie),
    }
}

/// What to do with a pair of which one row is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    Nothing,
    /// Both rows are gone and the base does not say so yet.
    RecordGone,
    /// The record is new on the other side: make it here.
    Create(Side),
    /// A row appeared again under a key whose record was deleted: a new record, generation + 1.
    NewGeneration,
    /// One side deleted, the other edited: keep the edit, make the absent row again under its keys.
    Restore(Side),
    /// One row is gone and the other is as both last agreed: a delete, which needs the sweep's evidence.
    Deleted(Side),
}

/// The rule for absent rows. `present_is_base`: the row that is there equals the base in all fields that have one. A field without
/// one says nothing: it was mapped, or mapped otherwise, after both last agreed, and must not bring a deleted record back.
pub fn decide_absent(
    legacy: bool,
    platform: bool,
    paired: bool,
    gone: bool,
    base_is_empty: bool,
    present_is_base: bool,
) -> Absent {
    match (legacy, platform) {
        (true, true) => Absent::Nothing,
        (false, false) if paired && !gone => Absent::RecordGone,
        (false, false) => Absent::Nothing,
        (true, false) if paired && gone => Absent::NewGeneration,
        (false, true) if paired && gone => Absent::Create(Side::Legacy),
        (legacy, _) => {
            let absent = if legacy { Side::Platform } else { Side::Legacy };
            if !paired || base_is_empty {
                Absent::Create(absent)
            } else if present_is_base {
                Absent::Deleted(absent)
            } else {
                Absent::Restore(absent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(legacy: i64, platform: i64) -> Clocks {
        Clocks {
            legacy_edited_at: DateTime::from_timestamp(legacy, 0),
            platform_edited_at: DateTime::from_timestamp(platform, 0),
            tie: Duration::seconds(1),
            suspended: false,
            authority: Side::Platform,
        }
    }

    fn step(legacy: u64, platform: u64, base: Option<u64>, policy: Policy, clocks: &Clocks) -> Step {
        let first_contact = Some(FirstContact::Authority);
        decide_field(&FieldView { legacy, platform, base, policy, one_way: None, first_contact, listed: false }, clocks)
    }

    #[test]
    fn the_rule_per_field() {
        let older = clocks(50, 100);
        assert_eq!(step(1, 1, Some(1), Policy::Newest, &older), Step::Nothing);
        assert_eq!(step(2, 2, Some(1), Policy::Newest, &older), Step::Record);
        assert_eq!(step(2, 2, None, Policy::Newest, &older), Step::Record);
        // A one-sided change flows whatever the clocks say.
        assert_eq!(step(2, 1, Some(1), Policy::Newest, &older), Step::To(Side::Platform));
        assert_eq!(step(1, 2, Some(1), Policy::Newest, &clocks(100, 50)), Step::To(Side::Legacy));
        let platform_newer = Step::Conflict { winner: Side::Platform, why: Why::Newer };
        assert_eq!(step(2, 3, Some(1), Policy::Newest, &older), platform_newer);
        let legacy_newer = Step::Conflict { winner: Side::Legacy, why: Why::Newer };
        assert_eq!(step(2, 3, Some(1), Policy::Newest, &clocks(100, 50)), legacy_newer);
        let tie = Step::Conflict { winner: Side::Platform, why: Why::Tie };
        assert_eq!(step(2, 3, Some(1), Policy::Newest, &clocks(101, 100)), tie);
        let suspended = Clocks { suspended: true, ..clocks(500, 50) };
        let by_clocks = Step::Conflict { winner: Side::Platform, why: Why::Clocks };
        assert_eq!(step(2, 3, Some(1), Policy::Newest, &suspended), by_clocks);
        assert_eq!(step(2, 3, Some(1), Policy::Manual, &older), Step::List);
        let legacy_wins = Step::Conflict { winner: Side::Legacy, why: Why::Policy };
        assert_eq!(step(2, 3, Some(1), Policy::Legacy, &older), legacy_wins);
    }

    #[test]
    fn a_value_is_worth_more_than_none_where_nobody_is_named_to_be_right() {
        let null = Canonical::null().hash();
        let clocks = clocks(0, 0);
        let step = |legacy, platform, first_contact| {
            let field = FieldView {
                legacy,
                platform,
                base: None,
                policy: Policy::Newest,
                one_way: None,
                first_contact: Some(first_contact),
                listed: false,
            };
            decide_field(&field, &clocks)
        };
        let won = |winner| Step::Conflict { winner, why: Why::FirstContact };
        assert_eq!(step(null, 2, FirstContact::Authority), won(Side::Platform));
        assert_eq!(step(2, null, FirstContact::Authority), won(Side::Legacy));
        assert_eq!(step(null, 2, FirstContact::Side(Side::Legacy)), won(Side::Legacy));
        assert_eq!(step(null, 2, FirstContact::Manual), Step::List);
    }

    #[test]
    fn what_was_never_compared_goes_by_no_stamp_and_no_policy_for_edits() {
        let legacy_newer = clocks(100, 50);
        let wins = |winner| Step::Conflict { winner, why: Why::FirstContact };
        let manual = Some(FirstContact::Manual);
        for (first_contact, listed, step) in [
            (Some(FirstContact::Authority), false, wins(Side::Platform)),
            (Some(FirstContact::Side(Side::Legacy)), false, wins(Side::Legacy)),
            (Some(FirstContact::Side(Side::Platform)), false, wins(Side::Platform)),
            (manual, false, Step::List),
            (manual, true, Step::Listed),
            (None, false, Step::Waits),
        ] {
            for policy in [Policy::Newest, Policy::Legacy, Policy::Platform, Policy::Manual] {
                let field =
                    FieldView { legacy: 2, platform: 3, base: None, policy, one_way: None, first_contact, listed };
                assert_eq!(decide_field(&field, &legacy_newer), step, "{first_contact:?}, {policy:?}");
                // Equal values are agreed on whoever would have won, and whoever waits.
                let equal = FieldView { platform: 2, ..field };
                assert_eq!(decide_field(&equal, &legacy_newer), Step::Record);
                // And a base is a base.
                let changed = FieldView { base: Some(3), ..field };
                assert_eq!(decide_field(&changed, &legacy_newer), Step::To(Side::Platform));
            }
        }
    }

    #[test]
    fn the_rule_for_absent_rows() {
        assert_eq!(decide_absent(true, false, false, false, true, false), Absent::Create(Side::Platform));
        assert_eq!(decide_absent(false, true, false, false, true, false), Absent::Create(Side::Legacy));
        assert_eq!(decide_absent(false, true, true, false, false, true), Absent::Deleted(Side::Legacy));
        assert_eq!(decide_absent(false, true, true, false, false, false), Absent::Restore(Side::Legacy));
        assert_eq!(decide_absent(true, false, true, true, false, false), Absent::NewGeneration);
        assert_eq!(decide_absent(false, false, true, false, false, false), Absent::RecordGone);
        assert_eq!(decide_absent(false, false, true, true, false, false), Absent::Nothing);
    }
}
