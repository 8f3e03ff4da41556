//! Which tables are to be compared: what is noted of a customer's comparisons is read as it stands, and what follows from it is pure. A tick
//! asks this each minute for each customer, so it is three looks by key.

use std::time::Duration;

use sqlx::PgConnection;

use super::sweep::depth_str;
use crate::config::Side;
use crate::stages::{Depth, NextSlice};

/// A large table is compared in at least so many slices: at a day, one every five minutes, so that none adds much to its run.
const SLICES: u32 = 288;

/// No slice ends for taking less.
const SLICE_MIN: Duration = Duration::from_secs(5);

/// Far below what a stage may take: one that is cut off notes nothing, and would never come further.
const SLICE_MAX: Duration = Duration::from_secs(60);

/// An entity whose tables are to be compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    pub entity: String,
    /// How many times the interval has passed, of slices by how much of it they are late beyond 1; infinite where that does not say why.
    pub overdue: f64,
    /// How long it took the last time, both sides together; 0 where nobody knows. Of slices, one.
    pub secs: f64,
    /// What may be left to later runs of a large table; none if all of it is to be looked at now.
    pub slice: Option<NextSlice>,
    /// Whether it is known to be large: a slice does not say which rows are gone.
    pub is_large: bool,
}

/// What is noted of a customer's comparisons.
#[derive(Debug, Default)]
pub struct Compared {
    swept: Vec<Swept>,
    walks: Vec<Walk>,
    /// The entities of which a page was discarded since their rows were compared: its rows are the next sweep's.
    given_up: Vec<String>,
}

/// The last comparison of one side of an entity.
#[derive(Debug, sqlx::FromRow)]
struct Swept {
    entity: String,
    side: String,
    depth: String,
    ago_secs: f64,
    secs: f64,
    in_slices: bool,
}

/// One side of an entity that is compared in slices, and how far.
#[derive(Debug, sqlx::FromRow)]
struct Walk {
    entity: String,
    side: String,
    ago_secs: f64,
    /// Where the next slice begins.
    block: i64,
    done: f64,
}

/// Reads it.
///
/// # Errors
/// The database's.
pub async fn compared(conn: &mut PgConnection, customer: &str) -> sqlx::Result<Compared> {
    let swept = sqlx::query_as(
        "select entity, side, depth, extract(epoch from now() - at)::float8 as ago_secs, secs, in_slices
         from bridge.swept where customer = $1",
    );
    let walks = sqlx::query_as(
        "select entity, side, extract(epoch from now() - began_at)::float8 as ago_secs, block, done
         from bridge.walk where customer = $1",
    );
    let given_up = sqlx::query_scalar(
        "select distinct page.entity from bridge.job join bridge.page on page.id = job.subject
         where job.customer = $1 and job.dealt = 'discarded' and job.kind = 'page'
           and job.requeued_at >= (
               select min(coalesce((select opened_at from bridge.run where run.id = swept.since_run), swept.at))
               from bridge.swept where swept.customer = $1 and swept.entity = page.entity and swept.depth = 'rows')",
    );
    Ok(Compared {
        swept: swept.bind(customer).fetch_all(&mut *conn).await?,
        walks: walks.bind(customer).fetch_all(&mut *conn).await?,
        given_up: given_up.bind(customer).fetch_all(conn).await?,
    })
}

impl Compared {
    /// The entities whose tables were not compared on both sides since `every` ago (or ever), but those of which the slices are in time;
    /// for `Depth::Rows` also those of which a page was discarded since. A comparison of rows is one of keys, too, if it was not made in
    /// slices. After the last slice comes the first one. Pure.
    pub fn due(&self, entities: &[&str], depth: Depth, every: Duration) -> Vec<Due> {
        entities.iter().filter_map(|entity| self.is_due(entity, depth, every)).collect()
    }

    fn is_due(&self, entity: &str, depth: Depth, every: Duration) -> Option<Due> {
        let every_secs = every.as_secs_f64();
        let of_entity = || self.swept.iter().filter(|swept| swept.entity == entity);
        let whole = |side: Side| {
            of_entity()
                .filter(|swept| swept.side == side.as_str() && !swept.in_slices)
                .filter(|swept| depth == Depth::Keys || swept.depth == depth_str(depth))
                .map(|swept| swept.ago_secs)
                .reduce(f64::min)
        };
        // Both sides: the one that was looked at longer ago counts.
        let passed = whole(Side::Legacy).zip(whole(Side::Platform)).map(|(legacy, platform)| legacy.max(platform));
        let overdue = passed.map_or(f64::INFINITY, |secs| secs / every_secs);

        let same_depth = || of_entity().filter(|swept| swept.depth == depth_str(depth));
        let of_one = |swept: &Swept| swept.secs / if swept.in_slices { f64::from(SLICES) } else { 1.0 };
        let secs = same_depth().map(of_one).sum();
        let walks: Vec<&Walk> =
            self.walks.iter().filter(|walk| depth == Depth::Rows && walk.entity == entity).collect();
        let is_large = !walks.is_empty() || same_depth().any(|swept| swept.in_slices);
        let given_up = depth == Depth::Rows && self.given_up.iter().any(|known| known == entity);

        let done = walks.iter().map(|walk| walk.done).reduce(f64::min).unwrap_or(0.0);
        let began = walks.iter().map(|walk| walk.ago_secs).reduce(f64::max);
        let began = began.or_else(|| same_depth().map(|swept| swept.ago_secs).reduce(f64::min));
        let walked = if is_large { began.unwrap_or(0.0) / every_secs } else { 0.0 };
        let is_due = given_up || if is_large { done <= walked } else { overdue >= 1.0 };
        let overdue = match (given_up, is_large) {
            (true, _) => f64::INFINITY,
            (false, true) => 1.0 + walked - done,
            (false, false) => overdue,
        };
        let share = walked + 1.0 / f64::from(SLICES);
        let from = Side::BOTH.map(|side| match walks.iter().find(|walk| walk.side == side.as_str()) {
            Some(walk) => Some(u32::try_from(walk.block).unwrap_or(u32::MAX)),
            // One that has none beside one that has is done.
            None => walks.is_empty().then_some(0),
        });
        let next = NextSlice { from, share, within: within(every, share - done) };
        let slice = (depth == Depth::Rows && !given_up).then_some(next);
        is_due.then(|| Due { entity: entity.to_owned(), overdue, secs, slice, is_large })
    }
}

/// How long a slice may take that is to make up for so much of a walk: a twentieth of the time that it stands for, a minute at most, as
/// changes wait for the run's end. Pure.
fn within(every: Duration, late: f64) -> Duration {
    every.mul_f64(late.clamp(0.0, 1.0) / 20.0).clamp(SLICE_MIN, SLICE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const HOUR: f64 = 3600.0;

    fn swept(side: Side, depth: Depth, ago_secs: f64, in_slices: bool) -> Swept {
        let (side, depth) = (side.as_str().to_owned(), depth_str(depth).to_owned());
        Swept { entity: "person".to_owned(), side, depth, ago_secs, secs: 288.0, in_slices }
    }

    fn both(depth: Depth, ago_secs: [f64; 2], in_slices: bool) -> Compared {
        let [legacy, platform] = ago_secs;
        let swept =
            vec![swept(Side::Legacy, depth, legacy, in_slices), swept(Side::Platform, depth, platform, in_slices)];
        Compared { swept, ..Compared::default() }
    }

    fn of(compared: &Compared, depth: Depth) -> Option<Due> {
        compared.due(&["person"], depth, DAY).pop()
    }

    #[test]
    fn a_comparison_is_due_once_its_older_side_is_as_old_as_the_interval() {
        let never = of(&Compared::default(), Depth::Rows).expect("never compared");
        assert_eq!((never.overdue, never.secs, never.is_large), (f64::INFINITY, 0.0, false));
        assert_eq!(never.slice.map(|next| next.from), Some([Some(0); 2]));
        assert_eq!(of(&both(Depth::Rows, [HOUR, 23.0 * HOUR], false), Depth::Rows), None);
        let due = of(&both(Depth::Rows, [HOUR, 36.0 * HOUR], false), Depth::Rows).expect("platform's is old");
        assert_eq!((due.overdue, due.secs, due.is_large), (1.5, 576.0, false));
        let one_side = Compared { swept: vec![swept(Side::Legacy, Depth::Rows, HOUR, false)], ..Compared::default() };
        assert_eq!(of(&one_side, Depth::Rows).map(|due| due.overdue), Some(f64::INFINITY));
    }

    #[test]
    fn rows_are_keys_too_unless_they_were_compared_in_slices() {
        assert_eq!(of(&both(Depth::Rows, [HOUR; 2], false), Depth::Keys), None);
        assert!(of(&both(Depth::Keys, [HOUR; 2], false), Depth::Rows).is_some());
        assert!(of(&both(Depth::Rows, [HOUR; 2], true), Depth::Keys).is_some());
    }

    #[test]
    fn slices_are_due_as_their_time_comes() {
        let walk = |side: Side, done: f64, block: i64| Walk {
            entity: "person".to_owned(),
            side: side.as_str().to_owned(),
            ago_secs: 12.0 * HOUR,
            block,
            done,
        };
        let walking = |walks: Vec<Walk>| Compared { walks, ..both(Depth::Rows, [36.0 * HOUR; 2], true) };
        assert_eq!(of(&walking(vec![walk(Side::Legacy, 0.6, 7), walk(Side::Platform, 0.55, 8)]), Depth::Rows), None);
        let late = of(&walking(vec![walk(Side::Platform, 0.25, 8)]), Depth::Rows).expect("late");
        assert_eq!((late.overdue, late.is_large, late.secs), (1.25, true, 2.0));
        let next = late.slice.expect("a slice");
        assert_eq!((next.from, next.within), ([None, Some(8)], SLICE_MAX), "legacy is done");
        let again = of(&both(Depth::Rows, [HOUR; 2], true), Depth::Rows).expect("after the last comes the first");
        assert_eq!(again.slice.map(|next| next.from), Some([Some(0); 2]));
    }

    #[test]
    fn what_was_discarded_is_the_next_sweeps_and_all_of_it() {
        let given_up = Compared { given_up: vec!["person".to_owned()], ..both(Depth::Rows, [HOUR; 2], false) };
        let due = of(&given_up, Depth::Rows).expect("discarded");
        assert_eq!((due.overdue, due.slice), (f64::INFINITY, None));
        assert_eq!(of(&given_up, Depth::Keys), None);
    }

    #[test]
    fn a_slice_may_take_a_part_of_the_time_that_it_stands_for() {
        assert_eq!(within(DAY, 1.0 / f64::from(SLICES)), Duration::from_secs(15));
        assert_eq!(within(DAY, 3.0), SLICE_MAX, "however late it is");
        assert_eq!(within(Duration::from_secs(1), -1.0), SLICE_MIN);
    }
}
