//! A page: `stages` does the work, and here it is settled, in one transaction with the barrier.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::Env;
use super::failure::Misfit;
use super::stage::{self, After, window};
use crate::clock;
use crate::config::{Config, Side};
use crate::ledger::job::{self, Claim};
use crate::ledger::mapping::{self, Mapping, State};
use crate::ledger::page::{NewPage, Page, Unfinished};
use crate::ledger::parked::Seen;
use crate::ledger::{difference, page, parked, pause, quarantine, stage as barrier, sweep, watermark};
use crate::stages::{self, Contact, Difference, Key, PageMode, PageReport, Rest, may_be_dead, name_parked};
use crate::telemetry::events;
use crate::told::told;

/// Dead letters in whose ranges a page that compares looks for its differences. Each is read once more for it: with many of them what is
/// due is a person.
const LETTERS_MAX: i64 = 32;

/// A released page.
pub struct Loaded {
    page: Page,
    /// Under which mapping its entity's rows are looked at.
    mapping: Option<Box<Mapping>>,
    /// Of legacy and platform, where the page compares.
    watermarks: [Option<DateTime<Utc>>; 2],
    /// The entity's dead letters, where the page compares.
    letters: Vec<Unfinished>,
    /// Nothing of its entity is to go on now.
    paused: bool,
    /// The side of its entity that is not to be written now.
    held: Option<Side>,
    /// An intent younger than this may still belong to a living page.
    lease: Duration,
    /// Of rows that are gone, the seconds since the first of them was seen so.
    gone_for: Option<f64>,
}

/// A page whose work is done; whatever it wrote on the sides is committed.
pub struct Finished {
    page: Page,
    report: PageReport,
    /// The mapping it went by, and what it did about fields that have no base under it.
    fields: Vec<i64>,
    contact: Contact,
    worked_for: Duration,
    /// Before the load's next page.
    rest: Option<Rest>,
    gone_for: Option<f64>,
}

impl Finished {
    /// Of rows that are gone, the seconds since the first of them was seen so.
    pub fn gone_for(&self) -> Option<f64> {
        self.gone_for
    }

    pub fn page(&self) -> &Page {
        &self.page
    }

    pub fn report(&self) -> &PageReport {
        &self.report
    }

    pub fn worked_for(&self) -> Duration {
        self.worked_for
    }

    pub fn told(&self) -> String {
        let report = &self.report;
        let rest = self
            .rest
            .as_ref()
            .map(|rest| format!("; the load rests {} s: {}", rest.length.as_secs_f32().ceil(), rest.why));
        format!(
            "{} rows read, {} to platform, {} to legacy, {} parked, {} quarantined{}",
            report.rows_read,
            report.rows_to_platform,
            report.rows_to_legacy,
            report.parked.len(),
            report.quarantined.len(),
            rest.unwrap_or_default()
        )
    }
}

/// The page, unless it ended before. What a further attempt finds open is most likely of the one before: left to its owner it would be
/// parked, and whatever that attempt failed of would fail nobody any more.
pub async fn load(conn: &mut PgConnection, id: i64, attempt: i32) -> sqlx::Result<Option<Loaded>> {
    let page = page::get(conn, id).await?;
    let Some(page) = page.filter(|page| page.state == "released") else { return Ok(None) };
    let (watermarks, letters) = match page.mode {
        PageMode::Sync | PageMode::Delete => ([None, None], Vec::new()),
        PageMode::Compare => {
            let (customer, entity) = (page.customer.as_str(), page.entity.as_str());
            let watermarks = watermark::of_entity(conn, customer, entity).await?;
            (watermarks, page::dead_letters(conn, customer, entity, LETTERS_MAX).await?)
        }
    };
    let pauses = pause::of_customer(conn, page.customer.as_str()).await?;
    let (paused, held) = (pauses.entity(page.entity.as_str()), pauses.held(page.entity.as_str()));
    let mapping = mapping::of_entity(conn, page.customer.as_str(), page.entity.as_str()).await?;
    let lease = if attempt > 1 { Duration::ZERO } else { job::LEASE };
    let gone_for = match page.mode {
        PageMode::Delete => {
            let what = (page.customer.as_str(), page.entity.as_str(), page.side);
            sweep::gone_for(conn, what, &page.range.keys).await?
        }
        PageMode::Sync | PageMode::Compare => None,
    };
    Ok(Some(Loaded { page, mapping: mapping.map(Box::new), watermarks, letters, paused, held, lease, gone_for }))
}

impl Loaded {
    pub fn page(&self) -> &Page {
        &self.page
    }

    /// Whether it is to leave its stage: nothing of its entity is to go on, or the hours in which whole tables may be loaded are over.
    pub fn waits(&self, config: &Config) -> bool {
        let may_load = || config.customer(&self.page.customer).is_none_or(|customer| customer.may_load(clock::now()));
        self.paused || (self.page.loads && !may_load())
    }

    /// What is different where the entity's tables do not fit its mapping.
    pub async fn work(&self, env: &Env) -> anyhow::Result<Result<Finished, String>> {
        match self.work_fitting(env).await {
            Ok(finished) => Ok(Ok(finished)),
            Err(error) => match error.downcast_ref::<Misfit>() {
                Some(Misfit(reason)) => Ok(Err(reason.clone())),
                None => Err(error),
            },
        }
    }

    async fn work_fitting(&self, env: &Env) -> anyhow::Result<Finished> {
        let began = clock::instant();
        let page = &self.page;
        let before = self.mapping.as_ref().map(|mapping| &mapping.tables);
        let fields = env.data.look(&page.customer, &page.entity, before, false).await?.fields;
        let contact = contact(self.mapping.as_deref(), &fields);
        let work = stages::Page {
            customer: page.customer.clone(),
            entity: page.entity.clone(),
            side: page.side,
            range: page.range.clone(),
            mode: page.mode,
            lease: self.lease,
            held: self.held,
            contact,
            rulings: Vec::new(),
            recovery: None,
            notes: page.mode == PageMode::Compare,
            watermarks: self.watermarks,
        };
        let mut report = env.data.run_page(&work).await?;
        name_dead(env, &work, &self.letters, &mut report.differences).await;
        let worked_for = began.elapsed();
        let rest = match page.loads {
            // What is done stays done: a server that does not tell of its replicas costs no page.
            true => env.data.rest(&work, &report, worked_for, window(&env.config)).await.unwrap_or_else(|error| {
                tracing::warn!(page = page.id, "the load takes no rest: {}", told(&error));
                None
            }),
            false => None,
        };
        Ok(Finished { page: page.clone(), report, fields, contact, worked_for, rest, gone_for: self.gone_for })
    }
}

/// Calls those of the differences so that lie in the ranges of these dead letters: their pages never came through. What of a range cannot be
/// read, which its page may have died of, is called as it was.
pub async fn name_dead(env: &Env, of: &stages::Page, letters: &[Unfinished], differences: &mut [Difference]) {
    for letter in letters {
        let mut rest = Some(letter.range.clone());
        while let Some(range) = rest.filter(|_| differences.iter().any(may_be_dead)) {
            let page = stages::Page { side: letter.side, range, mode: PageMode::Compare, notes: false, ..of.clone() };
            rest = match env.data.run_page(&page).await {
                Ok(report) => {
                    stages::name_dead(differences, letter.letter, &report.differences);
                    report.rest
                }
                Err(error) => {
                    tracing::warn!(letter = letter.letter, "what lies in a dead letter is not known: {}", told(&error));
                    None
                }
            };
        }
    }
}

/// What is done about fields that pairs have no base of, by a process whose file maps these fields.
pub fn contact(mapping: Option<&Mapping>, fields: &[i64]) -> Contact {
    match mapping {
        Some(mapping) if mapping.target == fields => match mapping.state {
            State::Counting | State::Waiting => Contact::Wait,
            State::Covering | State::Settled => Contact::Decide,
        },
        _ => Contact::Stranger,
    }
}

/// Settles the page. The stages' rows are taken first: pages of one customer settle one after the other, so what follows needs
/// no order among them, and exactly one of them finds that none is left.
pub async fn record(
    conn: &mut PgConnection,
    config: &Config,
    claim: &Claim,
    finished: &Finished,
) -> anyhow::Result<After> {
    let Finished { page, report, fields, contact, rest, .. } = finished;
    let more = i32::from(report.rest.is_some());
    barrier::hold_open(conn, claim.customer.as_str()).await?;
    let open = barrier::page_ended(conn, page.stage, more, !report.paired.is_empty()).await?;
    let stage =
        open.ok_or_else(|| anyhow::anyhow!("page {} was released, but its stage {} is not open", page.id, page.stage))?;
    anyhow::ensure!(page::done(conn, page.id, report).await?, "page {} was claimed, but it is not released", page.id);
    let (customer, entity) = (claim.customer.as_str(), page.entity.as_str());
    parked::remove(conn, customer, entity, &report.settled).await?;
    difference::settle(conn, customer, entity, &report.settled).await?;
    let whole: Vec<_> = report.settled.iter().filter(|row| !report.halves.contains(row)).cloned().collect();
    quarantine::remove(conn, customer, entity, &whole).await?;
    let seen = Seen { customer, entity, run: page.run, stage: page.stage, round: stage.round };
    parked::upsert(conn, seen, &report.parked).await?;
    quarantine::upsert(conn, customer, entity, page.id, &report.quarantined).await?;
    // A record is listed once, by the row that was looked at last.
    let partners = report.quarantined.iter().filter_map(|row| Some((row.side.other(), row.partner.clone()?)));
    quarantine::remove(conn, customer, entity, &partners.collect::<Vec<_>>()).await?;
    // A row stands in one of the two lists, as it was seen last.
    quarantine::remove(conn, customer, entity, &named(&report.parked, |row| (row.side, &row.key))).await?;
    parked::leave(conn, customer, entity, &named(&report.quarantined, |row| (row.side, &row.key))).await?;
    if !report.paired.is_empty() {
        barrier::tell_paired(conn, &stage).await?;
    }
    // After the parking: a row of this very page may wait for a pair of this very page.
    let there: Vec<_> = report.paired.iter().chain(&report.standing).cloned().collect();
    parked::wake(conn, customer, entity, &there).await?;
    let differences = named_parked(conn, customer, entity, &report.differences).await?;
    let missed = difference::insert(conn, customer, page.run, entity, &differences).await?;
    if config.entity(&page.entity).is_some_and(|entity| entity.repair) {
        parked::wake_found(conn, customer, entity, &stages::repairable(&differences)).await?;
    }
    let of_another = *contact == Contact::Stranger;
    if page.loads && !of_another {
        mapping::count(conn, (customer, entity), fields, report.rows_read, report.rows_waiting).await?;
    }
    if page.mode == PageMode::Sync && (page.loads || !of_another) {
        mapping::again(conn, (customer, entity), fields, of_another).await?;
    }
    if let Some(range) = &report.rest {
        let page_of_rest =
            NewPage { entity: page.entity.clone(), side: page.side, mode: page.mode, range: range.clone() };
        page::insert(conn, &stage, page.round, &[page_of_rest]).await?;
    }
    let rest = rest.as_ref().map_or(Duration::ZERO, |rest| rest.length);
    Ok(After { missed, ..stage::proceed(conn, config, stage, rest).await? })
}

/// What was found, with what is parked called so: it comes back by itself.
async fn named_parked(
    conn: &mut PgConnection,
    customer: &str,
    entity: &str,
    found: &[Difference],
) -> sqlx::Result<Vec<Difference>> {
    let mut differences = found.to_vec();
    if !differences.is_empty() {
        let rows: Vec<_> = differences.iter().flat_map(Difference::rows).collect();
        name_parked(&mut differences, &parked::listed(conn, customer, entity, &rows).await?);
    }
    Ok(differences)
}

fn named<T>(rows: &[T], name: impl Fn(&T) -> (Side, &Key)) -> Vec<(Side, Key)> {
    rows.iter().map(name).map(|(side, key)| (side, key.clone())).collect()
}

/// A dead page has ended: the watermark passes it, and it owns its range until somebody acts.
pub async fn record_dead(conn: &mut PgConnection, config: &Config, claim: &Claim) -> anyhow::Result<After> {
    // Not the whole page: it may be dead because it cannot be read.
    let Some(of) = page::stage_of_released(conn, claim.subject).await? else { return Ok(After::default()) };
    barrier::hold_open(conn, &claim.customer).await?;
    let Some(stage) = barrier::page_ended(conn, of, 0, false).await? else { return Ok(After::default()) };
    page::dead(conn, claim.subject).await?;
    Ok(stage::proceed(conn, config, stage, Duration::ZERO).await?)
}

/// The page's entity cannot be worked on: it is halted with what is different, and the page leaves with its range.
pub async fn record_misfit(
    conn: &mut PgConnection,
    config: &Config,
    page: &Page,
    reason: &str,
) -> anyhow::Result<After> {
    pause::halt(conn, page.customer.as_str(), page.entity.as_str(), reason).await?;
    let noted = vec![(&events::TABLES_CHANGED, format!("{}: {reason}", page.entity))];
    Ok(After { noted, ..record_paused(conn, config, page).await? })
}

/// A page that is paused leaves its stage with its range, and takes along what waits there of its entity: the stage goes on
/// without, and a run after the pause takes them up.
pub async fn record_paused(conn: &mut PgConnection, config: &Config, page: &Page) -> anyhow::Result<After> {
    barrier::hold_open(conn, page.customer.as_str()).await?;
    let open = barrier::lock(conn, page.stage).await?.filter(|stage| stage.state == "open");
    let open = open.ok_or_else(|| anyhow::anyhow!("page {} was released, but its stage is not open", page.id))?;
    let left = page::leave(conn, page).await?;
    let stage = barrier::page_ended(conn, open.id, 1 - left, false).await?;
    let stage = stage.ok_or_else(|| anyhow::anyhow!("stage {} was open, and closed under its lock", open.id))?;
    Ok(stage::proceed(conn, config, stage, Duration::ZERO).await?)
}
