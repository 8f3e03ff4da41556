//! Which table of one side is which of the other: by their names, by the names of their columns, and by what they refer to. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::names::{CREATED, DELETED, Likeness, Name, UPDATED};
use super::view::{Seen, View};
use crate::told::counted;

/// Fewer points are a coincidence.
const POINTS_MIN: u32 = 35;
/// By how much the best must lead for nobody to doubt it.
const LEAD_MIN: u32 = 10;
/// What columns and references can add to the name's.
const COLUMNS_POINTS: f64 = 40.0;
const REFERS_POINTS: f64 = 30.0;
/// Without a likeness of the tables' names so much of their columns must be alike.
const COLUMNS_MIN: f64 = 1.5;

/// Two tables that hold the same records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub legacy: usize,
    pub platform: usize,
    pub why: String,
}

pub struct Matched {
    /// In the order in which they were found, the clearest first.
    pub pairs: Vec<Pair>,
    /// Of a table that has no partner: those that are equally good, by side.
    pub rivals: [BTreeMap<usize, BTreeSet<usize>>; 2],
}

/// How much two tables have in common, their references left out.
struct Candidate {
    legacy: usize,
    platform: usize,
    points: u32,
    name: Option<Likeness>,
    columns: usize,
}

pub fn matched(views: [&View<'_>; 2]) -> Matched {
    let mut open = candidates(views);
    let mut pairs: Vec<Pair> = Vec::new();
    // What is matched in one round tells what its references are in the next.
    loop {
        let known = Known::of(&pairs);
        let points: Vec<u32> =
            open.iter().map(|one| one.points + known.refer_points(views, one.legacy, one.platform).0).collect();
        let best = [best(&open, &points, |one| one.legacy), best(&open, &points, |one| one.platform)];
        // No two that are clear have a table in common: one of them would not lead.
        let is_clear = |at: usize| {
            let leads = |[first, second]: [u32; 2]| points[at] == first && first - second >= LEAD_MIN;
            let (legacy, platform) = (open[at].legacy, open[at].platform);
            points[at] >= POINTS_MIN && leads(best[0][&legacy]) && leads(best[1][&platform])
        };
        let mut clear: Vec<usize> = (0..open.len()).filter(|&at| is_clear(at)).collect();
        if clear.is_empty() {
            let mut rivals = [BTreeMap::new(), BTreeMap::new()];
            for (one, _) in open.iter().zip(&points).filter(|(_, points)| **points >= POINTS_MIN) {
                rivals[0].entry(one.legacy).or_insert_with(BTreeSet::new).insert(one.platform);
                rivals[1].entry(one.platform).or_insert_with(BTreeSet::new).insert(one.legacy);
            }
            return Matched { pairs, rivals };
        }
        clear.sort_by_key(|&at| (std::cmp::Reverse(points[at]), at));
        let mut found = Vec::new();
        for one in clear.into_iter().map(|at| &open[at]) {
            let (legacy, platform) = (one.legacy, one.platform);
            let mut why: Vec<String> = Vec::new();
            why.extend(one.name.map(|likeness| likeness.why().to_owned()));
            why.extend((one.columns > 0).then(|| counted(one.columns, "column") + " alike"));
            let refers = known.refer_points(views, legacy, platform).1;
            why.extend((refers > 0).then(|| counted(refers, "reference") + " to the same"));
            found.push(Pair { legacy, platform, why: why.join(", ") });
        }
        open.retain(|one| found.iter().all(|pair| one.legacy != pair.legacy && one.platform != pair.platform));
        pairs.extend(found);
    }
}

/// By table: the points of its best candidate, and of the second.
fn best(open: &[Candidate], points: &[u32], table: fn(&Candidate) -> usize) -> BTreeMap<usize, [u32; 2]> {
    let mut best: BTreeMap<usize, [u32; 2]> = BTreeMap::new();
    for (one, &points) in open.iter().zip(points) {
        let [first, second] = best.entry(table(one)).or_default();
        if points > *first {
            (*first, *second) = (points, *first);
        } else {
            *second = points.max(*second);
        }
    }
    best
}

/// Every two tables that have anything in common.
fn candidates(views: [&View<'_>; 2]) -> Vec<Candidate> {
    let mut alike = Alike::default();
    let telling: [Vec<Vec<usize>>; 2] = views
        .map(|view| view.tables.iter().map(|seen| telling(seen).map(|name| alike.number(name)).collect()).collect());
    // By what a column is about: the platform's tables that have one. Most tables have nothing in common, and are not compared.
    let topics: Vec<String> = alike.names.iter().map(|name| topic(name)).collect();
    let about = |names: &[usize]| -> BTreeSet<&str> { names.iter().map(|&name| &*topics[name]).collect() };
    let mut having: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, names) in telling[1].iter().enumerate() {
        about(names).into_iter().for_each(|topic| having.entry(topic).or_default().push(at));
    }
    let mut found = Vec::new();
    for (legacy, one) in views[0].tables.iter().enumerate().filter(|(_, one)| one.key.is_ok()) {
        let mut shared = vec![0_u32; views[1].tables.len()];
        for topic in about(&telling[0][legacy]) {
            having.get(topic).into_iter().flatten().for_each(|&platform| shared[platform] += 1);
        }
        for (platform, other) in views[1].tables.iter().enumerate().filter(|(_, other)| other.key.is_ok()) {
            let name = one.name.like(&other.name);
            let is_part = name.is_none() && is_part(&one.name, &other.name);
            if name.is_none() && !is_part && shared[platform] < 2 {
                continue;
            }
            let (sum, columns) = alike.in_common(&telling[0][legacy], &telling[1][platform]);
            let all = telling[0][legacy].len() + telling[1][platform].len();
            let share = if all == 0 { 0.0 } else { 2.0 * sum / all as f64 };
            let of_name = name.map_or(if is_part { 20 } else { 0 }, |likeness| likeness.points() / 2);
            let points = of_name + (share * COLUMNS_POINTS) as u32;
            // What no reference could lift above the bound is none.
            if (of_name < 20 && sum < COLUMNS_MIN) || points + REFERS_POINTS as u32 + LEAD_MIN < POINTS_MIN {
                continue;
            }
            found.push(Candidate { legacy, platform, points, name, columns });
        }
    }
    found
}

/// The columns that say something about what a table holds.
fn telling<'v>(seen: &'v Seen<'_>) -> impl Iterator<Item = &'v Name> {
    let is_counted = seen.has_surrogate_key();
    let says = |name: &&Name| !matches!(name.concept, Some(CREATED | UPDATED | DELETED));
    let columns = seen.columns.iter().filter(move |column| !(is_counted && seen.key().contains(&column.live.name)));
    columns.map(|column| &column.name).filter(says)
}

fn topic(name: &Name) -> String {
    name.concept.map_or_else(|| name.stem.join(" "), ToOwned::to_owned)
}

/// Names with numbers: most tables have the same few, and each two are compared once.
#[derive(Default)]
struct Alike<'v> {
    names: Vec<&'v Name>,
    numbers: HashMap<&'v [String], usize>,
    /// By two numbers.
    points: HashMap<(usize, usize), u32>,
}

impl<'v> Alike<'v> {
    fn number(&mut self, name: &'v Name) -> usize {
        *self.numbers.entry(&name.words).or_insert_with(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }

    /// The sum of likenesses, each up to one, and of how many columns.
    fn in_common(&mut self, legacy: &[usize], platform: &[usize]) -> (f64, usize) {
        let mut all: Vec<(u32, usize, usize)> = Vec::new();
        for (l, &one) in legacy.iter().enumerate() {
            for (p, &other) in platform.iter().enumerate() {
                let names = &self.names;
                let points = *self
                    .points
                    .entry((one, other))
                    .or_insert_with(|| names[one].like(names[other]).map_or(0, Likeness::points));
                if points > 0 {
                    all.push((points, l, p));
                }
            }
        }
        all.sort_unstable_by_key(|(points, l, p)| (std::cmp::Reverse(*points), *l, *p));
        let (mut left, mut right) = (vec![false; legacy.len()], vec![false; platform.len()]);
        let (mut sum, mut count) = (0.0, 0);
        for (points, l, p) in all {
            if !left[l] && !right[p] {
                (left[l], right[p]) = (true, true);
                sum += f64::from(points) / 100.0;
                count += 1;
            }
        }
        (sum, count)
    }
}

/// `customer` and `crm_customer`, `order` and `order_header`.
fn is_part(one: &Name, other: &Name) -> bool {
    let (short, long) = if one.words.len() < other.words.len() { (one, other) } else { (other, one) };
    !short.words.is_empty()
        && short.words.len() < long.words.len()
        && (long.words.starts_with(&short.words) || long.words.ends_with(&short.words))
}

/// The pairs so far, by their tables on each side.
struct Known([BTreeMap<usize, usize>; 2]);

impl Known {
    fn of(pairs: &[Pair]) -> Known {
        let by = |table: fn(&Pair) -> usize| pairs.iter().enumerate().map(|(at, pair)| (table(pair), at)).collect();
        Known([by(|pair| pair.legacy), by(|pair| pair.platform)])
    }

    /// For what both tables refer to, of what is matched already, and for references to themselves; with how many these are.
    fn refer_points(&self, views: [&View<'_>; 2], legacy: usize, platform: usize) -> (u32, usize) {
        /// Itself, whatever its position.
        const ITSELF: usize = usize::MAX;
        let refers = [(0, legacy), (1, platform)].map(|(side, own): (usize, usize)| &views[side].tables[own].refers);
        if refers.iter().any(|refers| refers.is_empty()) {
            return (0, 0);
        }
        let targets = |side: usize, own: usize| -> (BTreeSet<usize>, usize) {
            let all: BTreeSet<usize> = refers[side].iter().filter_map(|one| one.target).collect();
            let known = |target: &usize| if *target == own { Some(ITSELF) } else { self.0[side].get(target).copied() };
            (all.iter().filter_map(known).collect(), all.len())
        };
        let (ours, our_count) = targets(0, legacy);
        let (theirs, their_count) = targets(1, platform);
        let both = ours.intersection(&theirs).count();
        match our_count.max(their_count) {
            0 => (0, 0),
            all => ((both as f64 / all as f64 * REFERS_POINTS) as u32, both),
        }
    }
}
