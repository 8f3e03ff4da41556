//! The horizon: the time before which no change can still appear in a database, and who holds it back. `updated_at = now()` is
//! fixed when a transaction begins, so every open one counts, also one that has not written yet.

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};

use crate::sides::Standby;
use crate::sides::postgres::{self, Database, READER};

/// Without the right to see other sessions, changes are taken to appear at most this late.
pub const BLIND_LAG: TimeDelta = TimeDelta::minutes(5);

/// A transaction older than this holds the watermark no longer; what it may still commit is noted as a debt and read once
/// more when it has ended.
pub const HELD_MAX: TimeDelta = TimeDelta::hours(1);

/// Somebody holds the horizon back if it is older than this.
const HELD_MIN: TimeDelta = TimeDelta::seconds(5);

/// What a database says of its open transactions.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Sessions {
    pub now: DateTime<Utc>,
    pub visible_horizon: DateTime<Utc>,
    pub holder: Option<String>,
    pub standby: bool,
    pub sees_others: bool,
    pub untracked_pid: Option<i32>,
    pub prepared: Option<DateTime<Utc>>,
    pub prepared_holder: Option<String>,
    pub role: String,
    /// How far its log is written; none on a standby.
    pub wal: Option<i64>,
}

/// Up to when a read is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    /// The watermark may move up to here.
    pub at: DateTime<Utc>,
    /// Changes stamped after this may still appear although the watermark passes them.
    pub debt: Option<DateTime<Utc>>,
    /// The debt that was known: nothing can appear any more that belongs to it, so it is read once more now.
    pub paid: Option<DateTime<Utc>>,
    pub held_by: Option<String>,
}

/// Asks before the read, in a transaction of its own: within one, the view is frozen.
///
/// # Errors
/// The database does not answer; or it is a hot standby, which lags behind what it says.
pub async fn ask(database: &Database) -> anyhow::Result<Sessions> {
    let what = || format!("asking {} for its open transactions", database.shown);
    let mut session = database.read.begin().await.with_context(what)?;
    let sessions: Sessions = postgres::query_as(include_str!("horizon.sql"))
        .bind(READER)
        .fetch_one(&mut session)
        .await
        .with_context(what)?;
    drop(session);
    if sessions.standby {
        return Err(Standby(database.shown.clone()).into());
    }
    Ok(sessions)
}

/// The horizon from what the database said, the watermark before, and the debt that it left. Pure.
pub fn horizon(sessions: &Sessions, watermark: Option<DateTime<Utc>>, owed: Option<DateTime<Utc>>) -> Horizon {
    let mut at = sessions.visible_horizon;
    let mut held_by = sessions.holder.clone().filter(|_| sessions.now - at > HELD_MIN);
    if let Some(prepared) = sessions.prepared {
        // Its stamps are older than `prepared`; the last horizon was taken while it was seen, or before it began. Where the cap moved the
        // watermark past that, the debt is what stayed there.
        let before =
            watermark.map_or(prepared - HELD_MAX, |watermark| owed.map_or(watermark, |owed| owed.min(watermark)));
        if before < at {
            at = before;
            held_by = sessions.prepared_holder.clone();
        }
    }
    if let Some(blind) = blind(sessions)
        && sessions.now - BLIND_LAG < at
    {
        at = sessions.now - BLIND_LAG;
        held_by = Some(blind);
    }
    let capped = sessions.now - HELD_MAX;
    let paid = owed.filter(|owed| at > *owed);
    let left = (at < capped).then_some(at);
    let debt = owed.filter(|_| paid.is_none()).into_iter().chain(left).min();
    Horizon { at: at.max(capped), debt, paid, held_by }
}

/// Why open transactions cannot be seen, and what to do.
pub fn blind(sessions: &Sessions) -> Option<String> {
    if !sessions.sees_others {
        return Some(format!(
            "role {} cannot see other sessions, so changes are taken to appear up to {} minutes late; \
             `grant pg_read_all_stats to {}`",
            sessions.role,
            BLIND_LAG.num_minutes(),
            sessions.role
        ));
    }
    sessions.untracked_pid.map(|pid| {
        format!(
            "the session with pid {pid} has track_activities off, so changes are taken to appear up to {} minutes late; \
             turn it on",
            BLIND_LAG.num_minutes()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minutes * 60, 0).expect("in range")
    }

    fn sessions() -> Sessions {
        Sessions {
            now: at(0),
            visible_horizon: at(0) - TimeDelta::seconds(1),
            holder: None,
            standby: false,
            sees_others: true,
            untracked_pid: None,
            prepared: None,
            prepared_holder: None,
            role: "bridge".into(),
            wal: None,
        }
    }

    fn held_since(minutes: i64) -> Sessions {
        Sessions { visible_horizon: at(minutes), holder: Some("pid 7".into()), ..sessions() }
    }

    fn prepared(minutes: i64) -> Sessions {
        let prepared_holder = Some("prepared transaction x of y".into());
        Sessions { prepared: Some(at(minutes)), prepared_holder, ..sessions() }
    }

    #[test]
    fn an_open_transaction_holds_the_horizon_up_to_the_cap() {
        let held_by = Some("pid 7".to_string());
        let held = Horizon { at: at(-10), debt: None, paid: None, held_by: held_by.clone() };
        assert_eq!(horizon(&held_since(-10), Some(at(-20)), None), held);
        let capped = Horizon { at: at(-60), debt: Some(at(-90)), paid: None, held_by };
        assert_eq!(horizon(&held_since(-90), Some(at(-95)), None), capped);
    }

    #[test]
    fn a_debt_is_paid_once_all_that_is_open_began_after_it() {
        let of = |sessions: &Sessions| {
            let Horizon { debt, paid, .. } = horizon(sessions, Some(at(-60)), Some(at(-90)));
            (debt, paid)
        };
        assert_eq!(of(&held_since(-90)), (Some(at(-90)), None), "its own transaction");
        assert_eq!(of(&held_since(-100)), (Some(at(-100)), None), "an older one");
        assert_eq!(of(&held_since(-80)), (Some(at(-80)), Some(at(-90))), "a younger one, with a debt of its own");
        assert_eq!(of(&held_since(-30)), (None, Some(at(-90))));
        assert_eq!(of(&sessions()), (None, Some(at(-90))));
    }

    #[test]
    fn a_prepared_transaction_leaves_the_horizon_where_it_was() {
        assert_eq!(horizon(&prepared(-1), Some(at(-7)), None).at, at(-7));
        assert_eq!(horizon(&prepared(-1), None, None).at, at(-60));
    }

    #[test]
    fn no_debt_is_paid_while_anything_is_prepared() {
        let held_by = Some("prepared transaction x of y".to_string());
        let stays = Horizon { at: at(-60), debt: Some(at(-100)), paid: None, held_by };
        assert_eq!(horizon(&prepared(-80), Some(at(-100)), None), stays, "the run that passes it");
        // Each run moves the watermark on, and what stays behind is the first one's.
        assert_eq!(horizon(&prepared(-80), Some(at(-99)), Some(at(-100))), stays);
        assert_eq!(horizon(&prepared(-80), Some(at(-61)), Some(at(-100))), stays);
        // Prepared by now, while its debt was noted when it was open.
        assert_eq!(horizon(&prepared(-1), Some(at(-60)), Some(at(-100))), stays);
        // A clock that was set back: within the cap once more.
        assert_eq!(horizon(&prepared(-1), Some(at(-5)), Some(at(-30))).debt, Some(at(-30)));
        assert_eq!(horizon(&sessions(), Some(at(-61)), Some(at(-100))).paid, Some(at(-100)));
    }

    #[test]
    fn who_cannot_see_others_lags_and_says_so() {
        let blind = Sessions { sees_others: false, ..sessions() };
        let horizon = horizon(&blind, Some(at(-20)), None);
        assert_eq!(horizon.at, at(-5));
        assert!(horizon.held_by.is_some_and(|why| why.contains("grant pg_read_all_stats to bridge")));
    }
}
