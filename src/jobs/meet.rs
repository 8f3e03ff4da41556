//! Which rows that wait go into one page. Rows that wait for each other, in a ring, can only go through together. Pure.

use std::collections::{HashMap, HashSet};

use crate::config::Side;
use crate::ledger::parked::{Named, Waiting};
use crate::stages::{Key, Lane};

/// Rows that wait are looked at by key, a few at a time even where pages are cut smaller: who change places must meet.
const TOGETHER_MIN: usize = 100;

/// A ring may make a page this much larger than it should be; a longer one is split, and stays.
const RING_MAX: usize = 10_000;

/// The rows to be looked at again, in the order in which they are to be cut: rings first, each as one part. What only came along
/// and closes no ring is left out.
pub fn parts(waiting: Vec<Waiting>) -> Vec<Vec<Named>> {
    // One page is of one entity and one side.
    let mut rings = closed(&waiting);
    rings.retain(|ring| ring.iter().all(|(entity, side, _)| (entity, side) == (&ring[0].0, &ring[0].1)));
    let in_ring: HashSet<&Named> = rings.iter().flatten().copied().collect();
    let mut parts: Vec<Vec<Named>> = rings.iter().map(|ring| ring.iter().map(|&row| row.clone()).collect()).collect();
    let alone = waiting.iter().filter(|it| it.due && !in_ring.contains(&it.row));
    parts.extend(alone.map(|it| vec![it.row.clone()]));
    parts
}

/// All rows that wait for each other, also over entities: those of one ring, entity and side are one part.
pub fn rings(waiting: &[Waiting]) -> Vec<Vec<Named>> {
    let mut parts: Vec<Vec<Named>> = Vec::new();
    for mut ring in closed(waiting) {
        ring.sort();
        let of_one_page = ring.chunk_by(|one, other| (&one.0, one.1) == (&other.0, other.1));
        parts.extend(of_one_page.map(|part| part.iter().map(|&row| row.clone()).collect()));
    }
    parts
}

/// How rows that wait for each other are looked at, after a round over pages of this lane that made pairs or did not: none if nothing more
/// can be done for them.
pub fn next_lane(last: Option<Lane>, paired: bool) -> Option<Lane> {
    match last {
        Some(Lane::Ring) if !paired => Some(Lane::Stuck),
        Some(Lane::Stuck) if !paired => None,
        _ => Some(Lane::Ring),
    }
}

/// The rings, each in the order of its waits.
fn closed(waiting: &[Waiting]) -> Vec<Vec<&Named>> {
    let waits_for: HashMap<&Named, &Named> =
        waiting.iter().filter_map(|it| Some((&it.row, it.waits_for.as_ref()?))).collect();
    let mut seen: HashSet<&Named> = HashSet::new();
    let mut rings: Vec<Vec<&Named>> = Vec::new();
    for start in waiting {
        // Each row waits for one other: a walk ends where nothing is waited for, at a walk of before, or in a ring.
        let mut walk: Vec<&Named> = Vec::new();
        let mut at = Some(&start.row);
        while let Some(row) = at {
            if !seen.insert(row) {
                if let Some(first) = walk.iter().position(|&earlier| earlier == row) {
                    rings.push(walk[first..].to_vec());
                }
                break;
            }
            walk.push(row);
            at = waits_for.get_key_value(row).map(|(_, next)| *next);
        }
    }
    rings
}

/// Cuts parts into pages of one entity and side each, of about `page_rows(entity)` rows. No part is split, unless it is very long.
pub fn pages(parts: Vec<Vec<Named>>, page_rows: impl Fn(&str) -> usize) -> Vec<(String, Side, Vec<Key>)> {
    let mut open: HashMap<(String, Side), usize> = HashMap::new();
    let mut pages: Vec<(String, Side, Vec<Key>)> = Vec::new();
    for part in parts.iter().flat_map(|part| part.chunks(RING_MAX)) {
        let Some((entity, side, _)) = part.first() else { continue };
        let limit = page_rows(entity).max(TOGETHER_MIN);
        let place = (entity.clone(), *side);
        let fits = open.get(&place).copied().filter(|&at| pages[at].2.len() + part.len() <= limit);
        let at = fits.unwrap_or_else(|| {
            pages.push((entity.clone(), *side, Vec::new()));
            pages.len() - 1
        });
        pages[at].2.extend(part.iter().map(|(_, _, key)| key.clone()));
        open.insert(place, at);
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str) -> Named {
        ("team".into(), Side::Legacy, Key(key.into()))
    }

    fn waits(key: &str, other: &str, due: bool) -> Waiting {
        Waiting { row: row(key), waits_for: Some(row(other)), due }
    }

    #[test]
    fn rows_that_wait_for_each_other_are_one_part() {
        let waiting = vec![waits("1", "3", true), waits("2", "1", true), waits("3", "1", false), waits("4", "9", true)];
        assert_eq!(parts(waiting), [vec![row("1"), row("3")], vec![row("2")], vec![row("4")]]);
    }

    #[test]
    fn what_only_came_along_and_closes_no_ring_is_left_out() {
        assert_eq!(parts(vec![waits("1", "2", true), waits("2", "3", false)]), [vec![row("1")]]);
        assert_eq!(parts(vec![Waiting { row: row("1"), waits_for: None, due: true }]), [vec![row("1")]]);
    }

    #[test]
    fn a_row_that_waits_for_itself_is_a_ring_of_one() {
        assert_eq!(parts(vec![waits("1", "1", true)]), [vec![row("1")]]);
    }

    #[test]
    fn a_ring_over_two_entities_is_no_part_as_a_page_is_of_one() {
        let person = ("person".to_owned(), Side::Legacy, Key("7".into()));
        let there = Waiting { row: row("1"), waits_for: Some(person.clone()), due: true };
        let back = Waiting { row: person.clone(), waits_for: Some(row("1")), due: true };
        assert_eq!(parts(vec![there, back]), [vec![row("1")], vec![person]]);
    }

    #[test]
    fn of_rings_over_entities_the_rows_of_each_are_together_and_what_hangs_on_them_stays_out() {
        let person = |key: &str| ("person".to_owned(), Side::Legacy, Key(key.into()));
        let waits =
            |row: &Named, other: &Named| Waiting { row: row.clone(), waits_for: Some(other.clone()), due: true };
        let waiting = [
            waits(&row("1"), &person("7")),
            waits(&person("7"), &row("2")),
            waits(&row("2"), &person("8")),
            waits(&person("8"), &row("1")),
            waits(&row("3"), &row("1")),
            waits(&row("5"), &row("5")),
        ];
        assert_eq!(rings(&waiting), [vec![person("7"), person("8")], vec![row("1"), row("2")], vec![row("5")]]);
        assert!(rings(&waiting[1..]).iter().all(|part| *part == [row("5")]));
    }

    #[test]
    fn rings_are_looked_at_for_as_long_as_that_makes_pairs_and_then_named_once() {
        assert_eq!(next_lane(Some(Lane::Keys), false), Some(Lane::Ring));
        assert_eq!(next_lane(Some(Lane::Ring), true), Some(Lane::Ring));
        assert_eq!(next_lane(Some(Lane::Ring), false), Some(Lane::Stuck));
        assert_eq!(next_lane(Some(Lane::Stuck), true), Some(Lane::Ring));
        assert_eq!(next_lane(Some(Lane::Stuck), false), None);
    }

    #[test]
    fn pages_are_full_and_split_no_part() {
        let part = |from: usize, rows: usize| (from..from + rows).map(|n| row(&n.to_string())).collect::<Vec<_>>();
        let parts = vec![part(0, 250), part(1000, 60), part(2000, 30), part(3000, 30)];
        let sizes: Vec<usize> = pages(parts, |_| 10).iter().map(|(_, _, keys)| keys.len()).collect();
        assert_eq!(sizes, [250, 90, 30]);
    }
}
