//! A page from read to write: read platform then legacy, decide, void what others left open, commit on the platform, carry
//! out on legacy. Pairs that moved meanwhile are read and decided again, a few times; then they wait for the next run.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::future::BoxFuture;
use tracing::{Instrument as _, debug_span};

use crate::clock;
use crate::config::{Policy, Side};
use crate::fault;
use crate::mapping::{Lens, Links, Mapping, Untranslatable};
use crate::pairs::CarriedOut;

use super::claims::{self, Claims};
use super::clocks::Measured;
use super::differences;
use super::drawn;
use super::entity::ReadyEntity;
use super::legacy::{commit_legacy, void};
use super::plan::{Act, Context, PairWrite, Verdict, WriteKind, judge, stamp};
use super::platform::{Committed, commit_platform, fold};
use super::preview::Ahead;
use super::read::{View, by_keys, find_candidates, find_links, origins, reread_legacy};
use super::rings;
use super::write::Failure;
use super::{Difference, Key, Lane, Page, PageMode, PageReport, Parked, ParkedReason, Quarantined, Tally};

/// How often a pair that moved is decided again within its page.
pub const TURNS_MAX: usize = 3;
/// A page that finds this many times the rows that one is cut with works on a part and hands on the rest.
const GROWTH_MAX: i64 = 2;
/// Freshness samples a page reports.
const SAMPLES_MAX: usize = 20;

/// Works on a page.
///
/// # Errors
/// What concerns the whole page.
///
/// Boxed here: each program that awaits it would else be built with all of it once more.
pub fn run<'a>(
    entity: &'a ReadyEntity,
    page: &'a Page,
    clocks: &'a Measured,
) -> BoxFuture<'a, anyhow::Result<PageReport>> {
    Box::pin(work(entity, page, clocks))
}

async fn work(entity: &ReadyEntity, page: &Page, clocks: &Measured) -> anyhow::Result<PageReport> {
    let mut report = PageReport::default();
    let began = clock::instant();
    let (mut views, rest) = origins(entity, page, rows_max(entity)).instrument(debug_span!("read")).await?;
    report.timings.read += began.elapsed();
    report.rest = rest;
    report.rows_read = views.len() as u64;
    if page.mode == PageMode::Compare {
        compare(entity, page, clocks, views, &mut report).await?;
        return Ok(report);
    }
    let mut looked = HashSet::new();
    for turn in 1..=TURNS_MAX {
        looked.extend(views.iter().map(|view| view.origin.clone()));
        let turn = Turn { last: turn == TURNS_MAX, looked: &looked };
        let again = turn_over(entity, page, clocks, views, &turn, &mut report).await?;
        if again.is_empty() {
            break;
        }
        let began = clock::instant();
        views = by_keys(entity, page.side, &again).instrument(debug_span!("read")).await?;
        report.timings.read += began.elapsed();
    }
    Ok(report)
}

/// The rows that a page takes; what its range holds beyond them is handed on. Not by the size that it was cut with: one that took too
/// long comes back to pages that are smaller by now.
pub fn rows_max(entity: &ReadyEntity) -> i64 {
    GROWTH_MAX * i64::from(entity.page_rows)
}

/// One pass over a page's rows.
struct Turn<'a> {
    last: bool,
    /// The origins of this turn and those before it.
    looked: &'a HashSet<Key>,
}

/// One pass over the views; answers the origins that have to be read and decided again.
async fn turn_over(
    entity: &ReadyEntity,
    page: &Page,
    clocks: &Measured,
    views: Vec<View>,
    turn: &Turn<'_>,
    report: &mut PageReport,
) -> anyhow::Result<Vec<Key>> {
    let began = clock::instant();
    let none = Ahead::default();
    let (judged, links) = decide(entity, page, clocks, views, &none).instrument(debug_span!("decide")).await?;
    report.timings.decide += began.elapsed();
    fault::point("page.decided").await;
    let Sorted { acts, mut again, voids } = sort_out(entity, page, judged, report);
    let began = clock::instant();
    if !voids.is_empty() {
        again.extend(voids.iter().map(|view| view.origin.clone()));
        let pairs = voids.iter().filter_map(|view| view.pair.as_ref());
        let pairs: Vec<_> = pairs.map(|pair| (pair.platform_key.clone(), pair.rev, pair.generation)).collect();
        void(entity, &pairs).instrument(debug_span!("void")).await?;
    }
    let (committed, moved) = commit(entity, page, acts, &links, turn, report).await?;
    report.timings.write += began.elapsed();
    again.extend(moved);
    let (left, committed) = part_ended(committed);
    again.extend(left.into_iter().map(|committed| committed.act.view.origin));
    record(entity, page, committed, report);
    // Several may wait for the same one.
    let mut named = HashSet::new();
    again.retain(|key| named.insert(key.clone()));
    if turn.last {
        report.parked.extend(again.drain(..).map(|key| busy(page, key)));
    }
    Ok(again)
}

/// What a turn has to act on or to look at again.
pub struct Sorted {
    pub acts: Vec<Box<Act>>,
    pub again: Vec<Key>,
    /// With open intents of others, which are made void first.
    pub voids: Vec<View>,
}

/// Reports what ends by its verdict alone.
pub fn sort_out(entity: &ReadyEntity, page: &Page, judged: Vec<(View, Verdict)>, report: &mut PageReport) -> Sorted {
    let mut sorted = Sorted { acts: Vec::new(), again: Vec::new(), voids: Vec::new() };
    for (view, verdict) in judged {
        match verdict {
            Verdict::Nothing => {
                let pair = view.pair.as_ref().filter(|pair| !pair.gone);
                report.differences.extend(pair.and_then(|pair| {
                    differences::listed(entity, &pair.listed, pair.legacy_key.as_ref(), &pair.platform_key)
                }));
                unchanged(page, view, report);
            }
            Verdict::Waits(fields) => {
                waits(report, fields);
                unchanged(page, view, report);
            }
            Verdict::Act(act) => sorted.acts.push(act),
            Verdict::Again => sorted.again.push(view.origin),
            Verdict::Void => sorted.voids.push(view),
            Verdict::Parent { entity, side, key } => report.parked.push(Parked {
                side: page.side,
                key: view.origin,
                reason: ParkedReason::Parent { entity, side, key },
            }),
            Verdict::Busy => report.parked.push(busy(page, view.origin)),
            Verdict::Paused(toward) => report.parked.push(paused(page, view.origin, toward)),
            Verdict::Bad { field, reason } => {
                report.quarantined.push(quarantined(page, &view, field, reason));
            }
        }
    }
    sorted
}

/// A pair that ended while another record has its legacy id: that record is next.
pub fn part_ended(committed: Vec<Committed>) -> (Vec<Committed>, Vec<Committed>) {
    committed.into_iter().partition(|committed| committed.act.pair.gone && committed.act.view.legacy.is_some())
}

/// Pairs up, translates and judges all views, with what a page that is only foreseen has `ahead` of it (of one that runs, all is in
/// the databases).
pub async fn decide(
    entity: &ReadyEntity,
    page: &Page,
    clocks: &Measured,
    mut views: Vec<View>,
    ahead: &Ahead,
) -> anyhow::Result<(Vec<(View, Verdict)>, Links)> {
    let mut links = ahead.real(find_links(entity, &views, &page.rulings).await?);
    find_candidates(entity, page.side, &mut views, &links).await?;
    ahead.adopt(entity, page.side, &mut views, clocks, &links);
    if views.iter().any(|view| view.adopted) {
        links = ahead.real(find_links(entity, &views, &page.rulings).await?);
    }
    let mut links = ahead.stood_in(links);
    let mut verdicts = judge_all(entity, page, clocks, &views, &mut links).await;
    // A legacy row that was read before platform is enough for "nothing" and for a record never paired; else legacy is read
    // again, and the pair decided again.
    let stale: Vec<bool> = views
        .iter()
        .zip(&verdicts)
        .map(|(view, verdict)| {
            let fresh_record = view.pair.is_none() && !view.adopted;
            view.legacy_first
                && !matches!(verdict, Verdict::Nothing)
                && !(fresh_record && matches!(verdict, Verdict::Act(_)))
        })
        .collect();
    if stale.contains(&true) {
        let mut position = stale.into_iter();
        for view in &mut views {
            view.legacy_first = position.next().unwrap_or(false);
        }
        reread_legacy(entity, &mut views, |view| view.legacy_first).await?;
        links = ahead.stood_in(ahead.real(find_links(entity, &views, &page.rulings).await?));
        verdicts = judge_all(entity, page, clocks, &views, &mut links).await;
    }
    if matches!(page.range.lane, Lane::Ring | Lane::Stuck) {
        for (view, _) in
            views.iter_mut().zip(&verdicts).filter(|(_, verdict)| matches!(verdict, Verdict::Parent { .. }))
        {
            view.left_out = rings::to_leave_out(&entity.mapping, view, &links);
        }
        verdicts = judge_all(entity, page, clocks, &views, &mut links).await;
    }
    if page.range.lane == Lane::Stuck {
        verdicts = verdicts.into_iter().map(|verdict| rings::named(&entity.mapping, verdict)).collect();
    }
    Ok((views.into_iter().zip(verdicts).collect(), links))
}

/// Judges all views, with the records that this very page is about to make counted as there. Those that turn out not to be made are taken
/// back and what refers to them is judged again, so a tree or a ring within one page goes through in one transaction.
async fn judge_all(
    entity: &ReadyEntity,
    page: &Page,
    clocks: &Measured,
    views: &[View],
    links: &mut Links,
) -> Vec<Verdict> {
    let mapping = &entity.mapping;
    let itself = entity.refs.iter().any(|target| target.entity == mapping.entity);
    let mut planned: HashMap<usize, (Key, Key)> = HashMap::new();
    if itself {
        for (at, view) in views.iter().enumerate() {
            if let Some((legacy, platform)) = plan_link(entity, view) {
                links.insert(&mapping.entity, &legacy, &platform);
                planned.insert(at, (legacy, platform));
            }
        }
    }
    let referring = match page.rulings.is_empty() {
        true => referring(mapping, views, &planned),
        // A decided value may refer to any record; such a page has few.
        false => planned.keys().map(|&at| (at, (0..views.len()).collect())).collect(),
    };
    let mut verdicts: Vec<Option<Verdict>> = views.iter().map(|_| None).collect();
    let lease_secs = page.lease.as_secs_f64();
    let judge_those = |due: &[usize]| {
        let context = Context {
            mapping,
            links,
            platform_new_key: &entity.platform.new_key,
            legacy_new_key: &entity.legacy.new_key,
            clocks: *clocks,
            lease_secs,
            held: page.held,
            contact: page.contact,
            rulings: &page.rulings,
            gone: (page.mode == PageMode::Delete).then_some((page.side, entity.deletes)),
            shared: &entity.shared,
            notes: page.notes,
            recovery: page.recovery,
            overlap: entity.overlap,
        };
        let mut given_up = Vec::new();
        for &at in due {
            let verdict = judge(&views[at], &context);
            let makes = matches!(&verdict, Verdict::Act(act) if act.platform.is_some() || act.legacy.is_some());
            verdicts[at] = Some(verdict);
            if !makes && planned.contains_key(&at) {
                given_up.push(at);
            }
        }
        for at in &given_up {
            if let Some((legacy, platform)) = planned.remove(at) {
                links.remove(&mapping.entity, &legacy, &platform);
            }
        }
        given_up
    };
    settle_all(views.len(), &referring, judge_those).await;
    verdicts.into_iter().map(|verdict| verdict.expect("each view is judged in the first round")).collect()
}

/// Who refers to each of the planned records, by position.
fn referring(mapping: &Mapping, views: &[View], planned: &HashMap<usize, (Key, Key)>) -> HashMap<usize, Vec<usize>> {
    let mut places: HashMap<(Side, &Key), Vec<usize>> = HashMap::new();
    for (&at, (legacy, platform)) in planned {
        places.entry((Side::Legacy, legacy)).or_default().push(at);
        places.entry((Side::Platform, platform)).or_default().push(at);
    }
    let mut referring: HashMap<usize, Vec<usize>> = HashMap::new();
    let itself = Lens::Ref(mapping.entity.clone());
    for field in mapping.fields.iter().filter(|field| field.lens == itself) {
        for (at, view) in views.iter().enumerate() {
            for (side, row) in [(Side::Legacy, &view.legacy), (Side::Platform, &view.platform)] {
                let Some(key) = row.as_ref().and_then(|row| field.referred(mapping, side, &row.cells)) else {
                    continue;
                };
                for &to in places.get(&(side, &key)).into_iter().flatten() {
                    referring.entry(to).or_default().push(at);
                }
            }
        }
    }
    referring
}

/// Judges all, then in rounds those that refer to what was given up, until nothing more is: each as often as what it refers to fails, not
/// as often as anything does. `judge` answers what it gave up.
async fn settle_all(
    count: usize,
    referring: &HashMap<usize, Vec<usize>>,
    mut judge: impl FnMut(&[usize]) -> Vec<usize>,
) {
    let mut due: Vec<usize> = (0..count).collect();
    while !due.is_empty() {
        let given_up = judge(&due);
        let again: BTreeSet<usize> = given_up.iter().filter_map(|at| referring.get(at)).flatten().copied().collect();
        due = again.into_iter().collect();
        // A lease is to be renewed meanwhile.
        tokio::task::yield_now().await;
    }
}

/// The link that a view will have once its record is made: the legacy key of one to be made on legacy is only a stand-in
/// until the transaction there draws it.
fn plan_link(entity: &ReadyEntity, view: &View) -> Option<(Key, Key)> {
    if view.ambiguous || view.refused.is_some() || view.rests() {
        return None;
    }
    match (&view.legacy, &view.platform, &view.pair) {
        // A part that a field writes is known once the row is translated.
        (Some(legacy), None, None) => {
            let key = entity.platform.new_key.known(&entity.mapping, Side::Platform, &legacy.key, 0, &[])?;
            Some((legacy.key.clone(), key))
        }
        (Some(legacy), Some(platform), _) if view.adopted => Some((legacy.key.clone(), platform.key.clone())),
        (None, Some(platform), None) => Some((stand_in(&platform.key), platform.key.clone())),
        (None, Some(platform), Some(pair)) if !pair.gone && pair.legacy_key.is_none() => {
            Some((stand_in(&platform.key), platform.key.clone()))
        }
        _ => None,
    }
}

/// Before a partner's key: "substitute", which no key begins with.
const STAND_IN: char = '\u{1a}';

/// For the key of a record that is not made yet, from that of its partner.
pub fn stand_in(partner: &Key) -> Key {
    Key(format!("{STAND_IN}{}", partner.0))
}

pub fn is_stand_in(key: &Key) -> bool {
    key.0.starts_with(STAND_IN)
}

/// Transaction P, then transaction L, then the fold. Answers what is fully committed and the origins that moved.
async fn commit(
    entity: &ReadyEntity,
    page: &Page,
    acts: Vec<Box<Act>>,
    links: &Links,
    turn: &Turn<'_>,
    report: &mut PageReport,
) -> anyhow::Result<(Vec<Committed>, Vec<Key>)> {
    let mut moved = Vec::new();
    if acts.is_empty() {
        return Ok((Vec::new(), moved));
    }
    let Claims { kept, in_the_way } = claims::settle(entity, page.side, acts).await?;
    for (act, first) in in_the_way {
        let failure = claims::taken(&act);
        let waiting = Waiting { view: act.view, first, failure };
        wait_for(page, waiting, turn, &mut moved, report);
    }
    if kept.is_empty() {
        return Ok((Vec::new(), moved));
    }
    let outcome = commit_platform(entity, kept, links).instrument(debug_span!("write_platform")).await?;
    moved.extend(outcome.moved.into_iter().map(|act| act.view.origin));
    for (act, failure) in outcome.failed {
        give_up(page, act.view, failure, turn.last, &mut moved, report);
    }
    for (act, other) in outcome.in_the_way {
        let first = other.filter(|_| page.side == Side::Legacy);
        let waiting = Waiting { view: act.view, first, failure: drawn::taken(Side::Platform) };
        wait_for(page, waiting, turn, &mut moved, report);
    }
    let (intents, mut finished): (Vec<_>, Vec<_>) =
        outcome.committed.into_iter().partition(|committed| committed.act.legacy.is_some());
    for committed in finished.iter().chain(&intents) {
        report.rows_to_platform += u64::from(committed.wrote_row);
        wrote_platform(committed, &mut report.tally);
    }
    if intents.is_empty() {
        return Ok((finished, moved));
    }
    let outcome = commit_legacy(entity, intents, links).instrument(debug_span!("write_legacy")).await?;
    moved.extend(outcome.moved.into_iter().map(|intent| intent.act.view.origin));
    for (intent, failure) in outcome.failed {
        give_up(page, intent.act.view, failure, turn.last, &mut moved, report);
    }
    for (intent, other) in outcome.in_the_way {
        let first = Some(other).filter(|_| page.side == Side::Platform);
        let waiting = Waiting { view: intent.act.view, first, failure: drawn::taken(Side::Legacy) };
        wait_for(page, waiting, turn, &mut moved, report);
    }
    for (intent, untranslatable) in outcome.parked {
        let reason = match untranslatable {
            Untranslatable::Parent { entity, side, key } => ParkedReason::Parent { entity, side, key },
            Untranslatable::Value { .. } => ParkedReason::Busy,
        };
        report.parked.push(Parked { side: page.side, key: intent.act.view.origin, reason });
    }
    let made: Vec<CarriedOut> = outcome
        .done
        .iter()
        .filter(|(intent, _)| {
            let PairWrite { legacy_key, gone, next, .. } = &intent.act.pair;
            legacy_key.is_none() || *gone || next.as_ref().is_some_and(|(_, gone)| *gone)
        })
        .map(|(intent, key)| CarriedOut {
            platform_key: intent.platform_key.clone(),
            rev: intent.rev,
            legacy_key: key.clone(),
            generation: intent.act.pair.generation,
            legacy_hash: intent.act.pair.legacy_hash,
            legacy_stamp: intent.act.pair.legacy_stamp,
        })
        .collect();
    fold(entity, &made).instrument(debug_span!("fold")).await?;
    report.rows_to_legacy += outcome.done.len() as u64;
    outcome.done.iter().for_each(|(intent, _)| wrote_legacy(intent, &mut report.tally));
    finished.extend(outcome.done.into_iter().map(|(mut intent, key)| {
        intent.act.pair.legacy_key = Some(key);
        intent
    }));
    Ok((finished, moved))
}

/// A row whose key another record has.
struct Waiting {
    view: View,
    /// That record on the page's side, where it is to be looked at.
    first: Option<Key>,
    failure: Failure,
}

/// Who has the key is looked at first, as that record may have ended; only once it is seen to stand, the row that waits is given up.
fn wait_for(page: &Page, waiting: Waiting, turn: &Turn<'_>, moved: &mut Vec<Key>, report: &mut PageReport) {
    let Waiting { view, first, failure } = waiting;
    match first.filter(|first| !turn.looked.contains(first)) {
        Some(_) if turn.last => report.parked.push(busy(page, view.origin)),
        Some(first) => moved.extend([first, view.origin]),
        None => give_up(page, view, failure, turn.last, moved, report),
    }
}

/// A row that another record stands in the way of gets another look within the page, then together with all rows that wait;
/// after that, and for its own fault, it is quarantined.
fn give_up(page: &Page, view: View, failure: Failure, last: bool, moved: &mut Vec<Key>, report: &mut PageReport) {
    if failure.others && !last {
        moved.push(view.origin);
        return;
    }
    // What a person decided gets no other look.
    if failure.others && !page.range.lane.is_another_look() && page.rulings.is_empty() {
        report.parked.push(busy(page, view.origin));
        return;
    }
    report.quarantined.push(quarantined(page, &view, failure.field, failure.reason));
}

fn quarantined(page: &Page, view: &View, field: Option<String>, reason: String) -> Quarantined {
    let partner = view.key(page.side.other()).cloned();
    Quarantined { side: page.side, key: view.origin.clone(), partner, field, reason }
}

pub fn wrote_platform(committed: &Committed, tally: &mut Tally) {
    match &committed.act.platform {
        Some(write) if committed.wrote_row => match write.kind {
            WriteKind::Insert(_) => tally.creates_to_platform += 1,
            WriteKind::Update => tally.updates_to_platform += 1,
            WriteKind::Delete => tally.deletes_to_platform += 1,
        },
        _ => {}
    }
}

pub fn wrote_legacy(committed: &Committed, tally: &mut Tally) {
    match committed.act.legacy.as_ref().map(|write| &write.kind) {
        Some(WriteKind::Insert(_)) => tally.creates_to_legacy += 1,
        Some(WriteKind::Update) => tally.updates_to_legacy += 1,
        Some(WriteKind::Delete) => tally.deletes_to_legacy += 1,
        None => {}
    }
}

/// What the job needs to know of what is committed.
pub fn record(entity: &ReadyEntity, page: &Page, committed: Vec<Committed>, report: &mut PageReport) {
    let mapping = &entity.mapping;
    let now = clock::now();
    for Committed { act, platform_key, wrote_row, .. } in committed {
        report.ruled |= act.ruled;
        waits(report, act.waits);
        if let Some(conflict) = &act.conflict {
            for policy in &conflict.policies {
                count_policy(&mut report.conflicts, *policy);
            }
            report.tally.conflicts += conflict.policies.len() as u64;
            report.tally.listed += conflict.open as u64;
        }
        report.tally.adopted += u64::from(act.view.adopted);
        let writes = wrote_row || act.legacy.is_some();
        report.tally.recorded += u64::from(!writes && act.conflict.is_none());
        if let (Some(legacy_key), true) =
            (&act.pair.legacy_key, act.view.pair.as_ref().is_none_or(|pair| pair.legacy_key.is_none() || pair.gone))
        {
            report.paired.push((legacy_key.clone(), platform_key.clone()));
        }
        let source = match (wrote_row, &act.legacy) {
            (true, _) => Some((Side::Legacy, act.view.legacy.as_deref())),
            (false, Some(_)) => Some((Side::Platform, act.view.platform.as_deref())),
            (false, None) => None,
        };
        report.differences.extend(differences::listed(
            entity,
            &act.pair.listed,
            act.pair.legacy_key.as_ref(),
            &platform_key,
        ));
        // A first load and rows named by key say nothing about how late a change arrives.
        if page.range.lane == Lane::Stamp
            && let Some((side, row)) = source
            && let Some(at) = stamp(mapping, side, row)
            && report.freshness_secs.len() < SAMPLES_MAX
        {
            report.freshness_secs.push((side, (now - at).as_seconds_f64().max(0.0)));
        }
        if let Some(toward) = act.held {
            report.parked.push(paused(page, act.view.origin, toward));
            continue;
        }
        if let Some((_, reason)) = act.view.left_out.first() {
            report.parked.push(Parked { side: page.side, key: act.view.origin, reason: reason.clone() });
            continue;
        }
        let partner = match page.side {
            Side::Legacy => Some(platform_key),
            Side::Platform => act.pair.legacy_key,
        };
        settled(report, page.side, act.view.origin, partner);
    }
}

/// A pair of which these fields wait for their first contact.
fn waits(report: &mut PageReport, fields: Vec<String>) {
    report.rows_waiting += u64::from(!fields.is_empty());
    for field in fields {
        if !report.fields_waiting.contains(&field) {
            report.fields_waiting.push(field);
        }
    }
}

/// Nothing is to be done for it.
pub fn unchanged(page: &Page, view: View, report: &mut PageReport) {
    report.rows_unchanged += 1;
    let is_half = view.legacy.is_some() != view.platform.is_some() && view.pair.as_ref().is_some_and(|pair| !pair.gone);
    let partner = view.key(page.side.other()).cloned();
    if let Some(pair) = view.pair.as_ref().filter(|pair| !pair.gone)
        && let Some(legacy_key) = view.legacy_key()
    {
        report.standing.push((legacy_key.clone(), pair.platform_key.clone()));
    }
    if is_half {
        report.halves.push((page.side, view.origin.clone()));
        report.halves.extend(partner.clone().map(|key| (page.side.other(), key)));
    }
    settled(report, page.side, view.origin, partner);
}

pub fn busy(page: &Page, key: Key) -> Parked {
    Parked { side: page.side, key, reason: ParkedReason::Busy }
}

pub fn paused(page: &Page, key: Key, toward: Side) -> Parked {
    Parked { side: page.side, key, reason: ParkedReason::Paused { toward } }
}

/// Whatever waited or was listed for either row of the pair no longer is.
pub fn settled(report: &mut PageReport, side: Side, origin: Key, partner: Option<Key>) {
    report.settled.push((side, origin));
    report.settled.extend(partner.map(|key| (side.other(), key)));
}

fn count_policy(counts: &mut Vec<(Policy, u64)>, policy: Policy) {
    match counts.iter_mut().find(|(known, _)| *known == policy) {
        Some((_, count)) => *count += 1,
        None => counts.push((policy, 1)),
    }
}

/// Reconciliation: each difference is called by its name, and no row is written. Records that both sides hold alike are noted in the
/// ledger as they are.
async fn compare(
    entity: &ReadyEntity,
    page: &Page,
    clocks: &Measured,
    views: Vec<View>,
    report: &mut PageReport,
) -> anyhow::Result<()> {
    let began = clock::instant();
    let none = Ahead::default();
    let (judged, links) = decide(entity, page, clocks, views, &none).instrument(debug_span!("decide")).await?;
    report.timings.decide += began.elapsed();
    let ahead = differences::ahead(entity, page, &judged).await?;
    let (mut notes, mut found) = (Vec::new(), Vec::new());
    let first = report.differences.len();
    for (view, verdict) in judged {
        if view.rests() {
            continue;
        }
        match &verdict {
            Verdict::Act(act) => waits(report, act.waits.clone()),
            Verdict::Waits(fields) => waits(report, fields.clone()),
            _ => {}
        }
        match differences::named(entity, page, clocks, &view, &verdict, &ahead) {
            Some((kind, fields)) => {
                let waits_for = differences::waits_for(entity, page, &view, &verdict);
                report.waiting.extend(waits_for.map(|record| (first + found.len(), record)));
                found.push((view, kind, fields));
            }
            None => match verdict {
                Verdict::Act(act) if page.notes && differences::is_note(&act) => notes.push(act),
                _ => {}
            },
        }
    }
    differences::foreign(entity, &mut found).await?;
    report.differences.extend(found.into_iter().map(|(view, kind, fields)| Difference {
        legacy_key: view.legacy_key().cloned(),
        platform_key: view.platform_key().cloned(),
        kind: kind.as_str().into(),
        fields,
        letter: None,
    }));
    if !notes.is_empty() {
        // What moved meanwhile is the next run's, and the next comparison's.
        let outcome = commit_platform(entity, notes, &links).instrument(debug_span!("write_platform")).await?;
        report.tally.recorded += outcome.committed.len() as u64;
        for Committed { act, platform_key, .. } in outcome.committed.into_iter().filter(|it| it.act.pair.gone) {
            // Nothing of it waits any more, and nothing is listed.
            settled(report, Side::Platform, platform_key, act.pair.legacy_key);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chain_whose_first_record_is_not_made_is_judged_twice_not_once_a_link() {
        const LENGTH: usize = 1000;
        let referring = (0..LENGTH - 1).map(|at| (at, vec![at + 1])).collect();
        let mut given_up = vec![false; LENGTH];
        let mut judged = 0;
        settle_all(LENGTH, &referring, |due| {
            judged += due.len();
            let fail: Vec<usize> =
                due.iter().copied().filter(|&at| !given_up[at] && (at == 0 || given_up[at - 1])).collect();
            fail.iter().for_each(|&at| given_up[at] = true);
            fail
        })
        .await;
        assert!(given_up.iter().all(|given_up| *given_up));
        assert!(judged <= 2 * LENGTH, "{judged}");
    }

    #[tokio::test]
    async fn a_ring_that_stands_is_judged_once() {
        let referring = (0..3).map(|at| (at, vec![(at + 1) % 3])).collect();
        let mut judged = 0;
        settle_all(3, &referring, |due| {
            judged += due.len();
            Vec::new()
        })
        .await;
        assert_eq!(judged, 3);
    }
}
