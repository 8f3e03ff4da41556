//! One delivery, from claim to outcome: decode, claim, load, work, record. Owns: the time limit, the panic, the fencing and
//! the one transaction that records an outcome with everything it implies. Never fails towards the queue.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use super::circuits::{Away, Circuits};
use super::claims::Claims;
use super::failure::{self, DEAD_KINDS, Panicked, Sorted, TimeLimit};
use super::lease::Leases;
use super::shares::{self, Shares};
use super::stage::After;
use super::together::Together;
use super::traced::{self, Traced};
use super::{Env, measure, page, stage, tick};
use crate::clock;
use crate::config::{Config, CustomerId, DatabaseUrl};
use crate::ledger::job::{self, Back, Claim, Claimed, EXHAUSTED, LastError};
use crate::ledger::page::Page;
use crate::queue::{self, ANSWER_MAX, Kind, Payload};
use crate::telemetry::traces;
use crate::told::told;

/// Well below the queue's orphan window of 10 minutes.
pub const PAGE_LIMIT: Duration = Duration::from_secs(300);
/// Cutting a large table is a few index scans.
const STAGE_LIMIT: Duration = Duration::from_secs(300);
/// A probe is one index scan per table.
const TICK_LIMIT: Duration = Duration::from_secs(120);

/// Outages in a row that spend no attempt although every database of the job answers when asked.
const OUTAGES_MAX: i32 = 20;

/// Tries at a statement of the queue database while it hiccups; together they take less than a lease.
const TRIES_MAX: u32 = 6;

/// What one worker process executes deliveries with.
#[derive(Clone)]
pub struct Executor {
    pub env: Env,
    /// Who claims: this process.
    pub worker: String,
    pub leases: Leases,
    pub claims: Claims,
    pub circuits: Circuits,
    pub shares: Shares,
    /// Cancelled when the grace of a stopping process is over: what still runs is handed back.
    pub hurry: CancellationToken,
    /// What the work of a page may take.
    pub page_limit: Duration,
    /// Claims of jobs that come at the same time.
    pub claiming: Arc<Together<i64, Claimed>>,
    /// The ends of those that come to nothing.
    pub ending: Arc<Together<(i64, Uuid), bool>>,
}

/// A job with all that is known of it before its work.
struct Loaded {
    subject: Subject,
    /// Nobody receives traces, or it is not known.
    traced: Option<Traced>,
}

/// What a job is of, loaded.
enum Subject {
    Tick(tick::Loaded),
    Stage(stage::Loaded),
    Page(page::Loaded),
    /// Already ended by an earlier delivery, or gone.
    Ended,
}

/// What a job's work came to; `record` writes it down.
enum Work {
    Tick(tick::Decided),
    Stage(stage::Plan),
    Page(Box<page::Finished>),
    /// A page that is paused, or not to be loaded at this hour.
    Paused(Box<Page>),
    /// A page of an entity whose tables do not fit its mapping, with what is different.
    Misfit(Box<Page>, String),
    Nothing,
}

/// How a claim ends.
enum Ending {
    Done(Work),
    Retry {
        error_kind: &'static str,
        error: String,
        /// An outage, which spends no attempt: for how long it is waited for.
        outage: Option<Duration>,
    },
    Dead {
        error_kind: &'static str,
        error: String,
    },
    /// A database that it needs is away.
    Waits(Away),
    /// The process stops.
    HandedBack,
    /// Its customer has its share of this process's places.
    Crowded,
    /// The claim is somebody else's now: nothing to record.
    Lost,
}

impl Executor {
    /// Works on one delivery of `kind`. Whatever happens is in the ledger, or will be found by the janitor.
    pub async fn execute(self, kind: Kind, payload: Value) {
        let payload: Payload = match serde_json::from_value(payload) {
            Ok(payload) => payload,
            Err(error) => return self.refuse(kind, &error.to_string()).await,
        };
        crate::fault::point("job.delivered").await;
        match self.claim(kind, payload.job).await {
            Ok(Claimed::Yes(claim)) => self.run(claim).await,
            Ok(Claimed::Exhausted(claim, last)) => self.bury(claim, last).await,
            Ok(Claimed::No) => {
                tracing::debug!(job = payload.job, delivery = payload.delivery, "late or doubled delivery")
            }
            // Its job is ready still; the janitor delivers it again.
            Err(error) => tracing::warn!(job = payload.job, %kind, "claiming: {}", told(&error)),
        }
    }

    async fn claim(&self, kind: Kind, job: i64) -> anyhow::Result<Claimed> {
        let attempts_max = self.env.config.attempts_max;
        let claim = |jobs: Vec<i64>| {
            let claimed = async move {
                let mut conn = queue::acquire(&self.env.queue).await?;
                anyhow::Ok(job::claim(&mut conn, &jobs, &self.worker, attempts_max).await?)
            };
            queue::answered(ANSWER_MAX, claimed).boxed()
        };
        // A claim whose answer got lost is not ours: its lease runs out and the janitor brings it back.
        let mut tries = Tries::default();
        loop {
            match self.claiming.ask(job, claim).await {
                Ok(claimed) => {
                    self.claims.work(kind);
                    return Ok(claimed);
                }
                Err(error) => {
                    self.claims.fail(kind, &error);
                    tries.after(error).await?;
                }
            }
        }
    }

    async fn run(&self, claim: Claim) {
        let held = self.leases.hold(&claim);
        let loaded = match queue::answered(ANSWER_MAX, load(&claim, &self.env.queue)).await {
            Ok(loaded) => loaded,
            Err(error) => return self.settle(&claim, None, self.failed(&claim, error)).await,
        };
        let (span, subject) = (loaded.span(&claim), &loaded.subject);
        async {
            crate::fault::point("job.claimed").await;
            let limit = match claim.kind {
                Kind::Tick => TICK_LIMIT,
                Kind::Stage => STAGE_LIMIT,
                Kind::Page => self.page_limit,
            };
            let databases = subject.databases(&self.env.config);
            let work = async {
                if let Some(away) = self.circuits.away(&self.env, &databases) {
                    return self.waits(&claim, away);
                }
                let Some(_turn) = self.shares.turn(&claim).await else { return Ending::Crowded };
                let work = clock::within(limit, AssertUnwindSafe(subject.work(&self.env)).catch_unwind());
                let error = tokio::select! {
                    biased;
                    worked = work => match worked {
                        Some(Ok(Ok(work))) => return Ending::Done(work),
                        Some(Ok(Err(error))) => error,
                        Some(Err(panic)) => Panicked(panic_text(&*panic)).into(),
                        None => TimeLimit(limit).into(),
                    },
                    away = self.circuits.watch(&self.env, &databases) => return self.waits(&claim, away),
                };
                // Which database it was, the error does not say; asking tells, and whether it is back already. A standby refuses our
                // transactions in words that say less.
                if failure::sort(&error) != Sorted::Permanent
                    && let Some(away) = self.circuits.ask(&self.env, &databases).await
                {
                    return self.waits(&claim, away);
                }
                self.failed(&claim, error)
            };
            let ending = tokio::select! {
                biased;
                () = held.lost.cancelled() => Ending::Lost,
                ending = work => ending,
                () = self.hurry.cancelled() => Ending::HandedBack,
            };
            crate::fault::point("job.worked").await;
            self.settle(&claim, Some(&loaded), ending).await;
        }
        .instrument(span)
        .await;
    }

    /// A job whose attempts are used up: nothing is tried, it is dead.
    async fn bury(&self, claim: Claim, last: Option<LastError>) {
        let _held = self.leases.hold(&claim);
        // Only to tell which page it is.
        let loaded = queue::answered(ANSWER_MAX, load(&claim, &self.env.queue)).await.ok();
        let span = loaded.as_ref().map_or_else(tracing::Span::none, |loaded| loaded.span(&claim));
        self.settle(&claim, loaded.as_ref(), exhausted(&claim, last)).instrument(span).await;
    }

    /// What an error makes of the claim.
    fn failed(&self, claim: &Claim, error: anyhow::Error) -> Ending {
        let sorted = failure::sort(&error);
        let error_kind = failure::kind(&error, sorted);
        // A connection that breaks time and again though the database answers whoever asks: the work may be what breaks it. What
        // the database itself says of its state (full, read only) is nobody's fault here.
        let is_away = failure::is_said(&error) || claim.outages < OUTAGES_MAX;
        let wait = failure::probe_in(&error, claim.outages);
        let error = told(&error);
        let last = i64::from(claim.attempt) >= i64::from(self.env.config.attempts_max);
        match sorted {
            Sorted::Outage if is_away && self.may_wait(claim) => {
                Ending::Retry { error_kind, error, outage: Some(wait) }
            }
            Sorted::Outage if is_away => Ending::Dead { error_kind, error },
            Sorted::Permanent => Ending::Dead { error_kind, error },
            Sorted::Transient | Sorted::Outage if last => Ending::Dead { error_kind, error },
            Sorted::Transient | Sorted::Outage => Ending::Retry { error_kind, error, outage: None },
        }
    }

    /// What a database that is away makes of the claim.
    fn waits(&self, claim: &Claim, away: Away) -> Ending {
        if self.may_wait(claim) {
            return Ending::Waits(away);
        }
        let hours = self.env.config.outage_max.as_secs() / 3600;
        let error = format!("{} has been away for more than {hours} h (`outage_max`): {}", away.database, away.error);
        Ending::Dead { error_kind: "outage", error }
    }

    /// Whether databases that are away have not held the job up for too long. A tick waits however long: the next one would
    /// only do the same.
    fn may_wait(&self, claim: &Claim) -> bool {
        claim.kind == Kind::Tick || claim.away.is_none_or(|waited| waited < self.env.config.outage_max)
    }

    /// Records the ending, and says so once: the single place where every outcome passes.
    async fn settle(&self, claim: &Claim, loaded: Option<&Loaded>, ending: Ending) {
        let began = clock::instant();
        match self.record_retrying(claim, &ending).await {
            // An outcome that cannot be written down though the database is there: the job has failed all the same.
            Err(error) if matches!(ending, Ending::Done(_)) && failure::sort(&error) != Sorted::Outage => {
                let failed = self.failed(claim, error.context("recording the outcome"));
                let recorded = self.record_retrying(claim, &failed).await;
                report(claim, loaded, &failed, recorded, began.elapsed());
            }
            recorded => report(claim, loaded, &ending, recorded, began.elapsed()),
        }
    }

    async fn record_retrying(&self, claim: &Claim, ending: &Ending) -> anyhow::Result<Option<After>> {
        let recorded = async {
            let mut tries = Tries::default();
            loop {
                match queue::answered(ANSWER_MAX, self.record_once(claim, ending)).await {
                    Ok(recorded) => return Ok(recorded),
                    Err(error) => tries.after(error).await?,
                }
            }
        };
        recorded.instrument(tracing::debug_span!("settle")).await
    }

    /// The one transaction of an outcome; `None` if the claim was not ours any more.
    async fn record_once(&self, claim: &Claim, ending: &Ending) -> anyhow::Result<Option<After>> {
        crate::fault::point("job.before_record").await;
        if let Ending::Done(Work::Nothing) = ending {
            let ours = self.ending.ask((claim.job, claim.token), |claims| self.end(claims).boxed()).await?;
            return Ok(ours.then(After::default));
        }
        let mut conn = queue::acquire(&self.env.queue).await?;
        let mut tx = conn.begin().await?;
        let Some(after) = record(&mut tx, &self.env, claim, ending).await? else {
            tx.rollback().await?;
            return Ok(None);
        };
        queue::enqueue(&mut tx, &after.deliveries).await.context("enqueueing")?;
        crate::fault::point("job.recorded").await;
        tx.commit().await?;
        crate::fault::point("job.after_record").await;
        Ok(Some(after))
    }

    /// Of jobs that imply nothing: whether each claim was ours still.
    async fn end(&self, claims: Vec<(i64, Uuid)>) -> anyhow::Result<Vec<bool>> {
        let ended = async {
            let mut conn = queue::acquire(&self.env.queue).await?;
            anyhow::Ok(job::done_with_nothing(&mut conn, &claims).await?)
        };
        queue::answered(ANSWER_MAX, ended).await
    }

    /// A payload that is not ours: its row is moved aside, by the statement of the janitor, so that it is noted once.
    async fn refuse(&self, kind: Kind, problem: &str) {
        tracing::error!(%kind, problem, "a delivery whose payload is not ours was dropped");
        let aside = async {
            let mut conn = queue::acquire(&self.env.queue).await?;
            anyhow::Ok(queue::upkeep::set_aside_malformed(&mut conn).await?)
        };
        if let Err(error) = queue::answered(ANSWER_MAX, aside).await {
            tracing::warn!("noting a dropped delivery: {}", told(&error));
        }
    }
}

async fn load(claim: &Claim, queue: &PgPool) -> anyhow::Result<Loaded> {
    let mut conn = queue::acquire(queue).await?;
    let subject = match claim.kind {
        Kind::Tick => tick::load(&mut conn, claim.subject).await?.map_or(Subject::Ended, Subject::Tick),
        Kind::Stage => stage::load(&mut conn, claim.subject).await?.map_or(Subject::Ended, Subject::Stage),
        Kind::Page => page::load(&mut conn, claim.subject, claim.attempt).await?.map_or(Subject::Ended, Subject::Page),
    };
    Ok(Loaded { subject, traced: traced::load(&mut conn, claim).await })
}

impl Loaded {
    /// Of this attempt, in its place in the log and in its tick's trace.
    fn span(&self, claim: &Claim) -> tracing::Span {
        let span = self.subject.span(claim);
        if let Some(traced) = &self.traced {
            traced.hang(&span, claim);
        }
        span
    }
}

impl Subject {
    /// Spans nest as the work does: run > stage > page. Those of tick, run and stage are for the log; a trace gets its own of these
    /// once they have ended, as many jobs work on one.
    fn span(&self, claim: &Claim) -> tracing::Span {
        let (job, attempt, customer) = (claim.job, claim.attempt, claim.customer.as_str());
        match self {
            Subject::Tick(tick) => {
                let tick = tracing::info_span!("tick", customer, tick = tick.id());
                tracing::info_span!(parent: &tick, "probe", job, attempt)
            }
            Subject::Stage(stage) => {
                let run = tracing::info_span!("run", customer, run = stage.stage().run);
                let stage =
                    tracing::info_span!(parent: &run, "stage", stage = stage.stage().name, id = stage.stage().id);
                tracing::info_span!(parent: &stage, "cut", job, attempt)
            }
            Subject::Page(page) => {
                let page = page.page();
                let run = tracing::info_span!("run", customer, run = page.run);
                let stage = tracing::info_span!(parent: &run, "stage", id = page.stage);
                tracing::info_span!(parent: &stage, "page", page = page.id, entity = %page.entity, side = %page.side, job, attempt)
            }
            Subject::Ended => tracing::info_span!("ended", customer, job, attempt),
        }
    }

    fn page(&self) -> Option<&Page> {
        match self {
            Subject::Page(loaded) => Some(loaded.page()),
            Subject::Tick(_) | Subject::Stage(_) | Subject::Ended => None,
        }
    }

    /// The databases of the customer that it needs.
    fn databases<'c>(&self, config: &'c Config) -> Vec<&'c DatabaseUrl> {
        match self {
            Subject::Tick(tick) => config.databases_of(&tick.customer(), config.entities()),
            Subject::Stage(stage) => {
                let stage = stage.stage();
                let customer = CustomerId::new(stage.customer.as_str());
                config.databases_of(&customer, stage::worked_on(config, &stage.name))
            }
            // Nothing is asked of them.
            Subject::Page(page) if page.waits(config) => Vec::new(),
            Subject::Page(page) => {
                let page = page.page();
                config.databases_of(&page.customer, config.entity(&page.entity))
            }
            Subject::Ended => Vec::new(),
        }
    }

    async fn work(&self, env: &Env) -> anyhow::Result<Work> {
        Ok(match self {
            Subject::Tick(tick) => Work::Tick(tick.decide(env).await?),
            Subject::Stage(stage) => Work::Stage(stage.work(env).await?),
            Subject::Page(page) if page.waits(&env.config) => Work::Paused(Box::new(page.page().clone())),
            Subject::Page(loaded) => match loaded.work(env).await? {
                Ok(finished) => Work::Page(Box::new(finished)),
                Err(reason) => Work::Misfit(Box::new(loaded.page().clone()), reason),
            },
            Subject::Ended => Work::Nothing,
        })
    }
}

/// What becomes of a job whose attempts are used up. Where the last of them ended with an error, as when `attempts_max` was
/// lowered since, that is what is wrong with it.
fn exhausted(claim: &Claim, last: Option<LastError>) -> Ending {
    let times = claim.attempt;
    let dead = |error| Ending::Dead { error_kind: EXHAUSTED, error };
    let spent = || dead(format!("claimed {times} times, as often as `attempts_max` allows"));
    match last {
        Some(last) if last.kind == job::LEASE_EXPIRED => dead(format!(
            "claimed {times} times, and the last of them never ended: it may kill its workers, or its outcome could not be recorded"
        )),
        Some(LastError { kind, error }) => match DEAD_KINDS.into_iter().find(|known| *known == kind) {
            Some(error_kind) => Ending::Dead { error_kind, error },
            None => spent(),
        },
        None => spent(),
    }
}

/// Writes the ending down, if the claim is still ours (`None` if not), and answers what follows.
async fn record(conn: &mut PgConnection, env: &Env, claim: &Claim, ending: &Ending) -> anyhow::Result<Option<After>> {
    let config = &env.config;
    let back = match ending {
        Ending::Lost => return Ok(None),
        Ending::Done(work) => {
            if job::done(conn, &[(claim.job, claim.token)]).await? != [true] {
                return Ok(None);
            }
            return Ok(Some(match work {
                Work::Tick(decided) => tick::record(conn, config, claim, decided).await?.into(),
                Work::Stage(plan) => stage::record(conn, config, claim, plan).await?,
                Work::Page(finished) => page::record(conn, config, claim, finished).await?,
                Work::Paused(page) => page::record_paused(conn, config, page).await?,
                Work::Misfit(page, reason) => page::record_misfit(conn, config, page, reason).await?,
                Work::Nothing => After::default(),
            }));
        }
        Ending::Dead { error_kind, error } => {
            if !job::dead(conn, claim, error_kind, error).await? {
                return Ok(None);
            }
            return Ok(Some(match claim.kind {
                Kind::Tick => tick::record_dead(conn, claim).await?.into(),
                Kind::Stage => stage::record_dead(conn, config, claim).await?,
                Kind::Page => page::record_dead(conn, config, claim).await?,
            }));
        }
        Ending::Waits(away) => {
            let ours = job::wait(conn, claim, &away.database, &away.error).await?;
            return Ok(ours.then(After::default));
        }
        Ending::Retry { error_kind, error, outage: Some(wait) } => {
            job::back(conn, claim, Back::Outage, *wait, error_kind, error).await?
        }
        Ending::Retry { error_kind, error, outage: None } => {
            job::back(conn, claim, Back::Failed, failure::retry_in(claim.kind, claim.attempt), error_kind, error)
                .await?
        }
        Ending::HandedBack => {
            job::back(conn, claim, Back::Stopping, Duration::ZERO, "stopping", "the worker stopped").await?
        }
        Ending::Crowded => {
            let error = "the customer has its share of the worker's places";
            job::back(conn, claim, Back::Crowded, shares::BACK_IN, "crowded", error).await?
        }
    };
    Ok(back.map(|delivery| vec![delivery].into()))
}

/// What is told of an outcome, once it is committed: one line at the level of who must act, and the metrics.
fn report(
    claim: &Claim,
    loaded: Option<&Loaded>,
    ending: &Ending,
    recorded: anyhow::Result<Option<After>>,
    settled_in: Duration,
) {
    let (job, kind, customer) = (claim.job, claim.kind.as_str(), claim.customer.as_str());
    let page = loaded.and_then(|loaded| loaded.subject.page());
    let after = match recorded {
        Ok(Some(after)) => after,
        Ok(None) => {
            traces::note("lost", None);
            return tracing::warn!(job, kind, customer, "the claim was lost; the outcome is not recorded");
        }
        Err(error) => {
            traces::note("not_recorded", Some("outage"));
            return tracing::error!(
                job,
                kind,
                customer,
                "the outcome is not recorded, the job will come again: {}",
                told(&error)
            );
        }
    };
    traces::note(ending.name(), ending.error_kind());
    match ending {
        Ending::Done(Work::Misfit(page, reason)) => {
            let entity = page.entity.as_str();
            tracing::error!(job, kind, customer, entity, "halted, the other entities go on: {reason}");
        }
        Ending::Done(work) => {
            tracing::info!(job, kind, customer, "{}", work.told());
            match work {
                Work::Tick(decided) => measure::tick_ended(claim, decided.decision.outcome()),
                Work::Page(finished) => measure::page_done(claim, finished, after.missed, settled_in),
                Work::Stage(_) | Work::Paused(_) | Work::Misfit(..) | Work::Nothing => {}
            }
        }
        Ending::Retry { error_kind, error, .. } => {
            tracing::warn!(job, kind, customer, attempt = claim.attempt, error_kind, "to be tried again: {error}");
            measure::retry(claim, page, error_kind);
        }
        Ending::Dead { error_kind, error } => {
            tracing::error!(job, kind, customer, attempt = claim.attempt, error_kind, "dead letter: {error}");
            measure::dead(claim, page, error_kind, error);
        }
        Ending::Waits(away) => {
            tracing::info!(job, kind, customer, database = away.database, "waits: {}", away.error);
            measure::retry(claim, page, "outage");
        }
        Ending::HandedBack => tracing::info!(job, kind, customer, "handed back: this worker stops"),
        Ending::Crowded => tracing::debug!(job, kind, customer, "handed back: the customer has its share of places"),
        Ending::Lost => {}
    }
    for (event, text) in &after.noted {
        measure::noted(claim, event, text);
    }
    if let Some(ended) = after.stage_ended.as_ref().filter(|ended| ended.ending == "closed") {
        tracing::info!(customer, stage = ended.stage.name, secs = ended.lived.secs, "stage closed");
        measure::stage_ended(claim, ended);
    }
    if let Some(ended) = &after.run_ended {
        let closed = &ended.closed;
        tracing::info!(customer, run = ended.run, ending = closed.ending, secs = closed.secs(), "run closed");
        measure::run_ended(claim, ended);
    }
    if let Some(traced) = loaded.and_then(|loaded| loaded.traced.as_ref()) {
        if let Some(outcome) = ending.tick_outcome(claim) {
            traced.tick_ended(claim, outcome);
        }
        if let Some(ended) = &after.stage_ended {
            traced.stage_ended(claim, ended);
        }
        if let Some(ended) = &after.run_ended {
            traced.run_ended(claim, ended);
        }
    }
}

impl Ending {
    /// As traces name it.
    fn name(&self) -> &'static str {
        match self {
            Ending::Done(_) => "done",
            Ending::Retry { .. } => "retry",
            Ending::Dead { .. } => "dead",
            Ending::Waits(_) => "waits",
            Ending::HandedBack => "handed_back",
            Ending::Crowded => "crowded",
            Ending::Lost => "lost",
        }
    }

    fn error_kind(&self) -> Option<&'static str> {
        match self {
            Ending::Retry { error_kind, .. } | Ending::Dead { error_kind, .. } => Some(*error_kind),
            Ending::Waits(_) => Some("outage"),
            Ending::Done(_) | Ending::HandedBack | Ending::Crowded | Ending::Lost => None,
        }
    }

    /// What became of the tick, if this ends one.
    fn tick_outcome(&self, claim: &Claim) -> Option<&'static str> {
        match self {
            Ending::Done(Work::Tick(decided)) => Some(decided.decision.outcome()),
            Ending::Dead { .. } if claim.kind == Kind::Tick => Some("dead"),
            _ => None,
        }
    }
}

impl Work {
    fn told(&self) -> String {
        match self {
            Work::Tick(decided) => decided.decision.told().to_owned(),
            Work::Stage(plan) => plan.told(),
            Work::Page(finished) => finished.told(),
            Work::Paused(page) => format!("{} is paused, or is not loaded at this hour: its pages wait", page.entity),
            Work::Misfit(page, _) => format!("{} is halted: its pages wait", page.entity),
            Work::Nothing => "had ended already".to_owned(),
        }
    }
}

/// What the queue database refuses for the moment is tried again, a few times and shortly.
#[derive(Default)]
struct Tries(u32);

impl Tries {
    /// Waits before the next try, or gives the error back.
    async fn after(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        self.0 += 1;
        if self.0 >= TRIES_MAX || failure::sort(&error) == Sorted::Permanent {
            return Err(error);
        }
        tracing::debug!(tries = self.0, "the queue database: {}", told(&error));
        clock::sleep(clock::backoff(Duration::ZERO, Duration::from_millis(100), self.0, Duration::from_secs(2))).await;
        Ok(())
    }
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_without_attempts_left_dies_of_what_its_last_one_ended_with() {
        let claim = Claim {
            job: 1,
            kind: Kind::Page,
            customer: "c-1".into(),
            subject: 1,
            attempt: 8,
            outages: 0,
            away: None,
            token: Uuid::nil(),
        };
        let died_of = |last: Option<(&str, &str)>| {
            let last = last.map(|(kind, error)| LastError { kind: kind.into(), error: error.into() });
            match exhausted(&claim, last) {
                Ending::Dead { error_kind, error } => (error_kind, error),
                _ => panic!("it is not dead"),
            }
        };
        assert_eq!(died_of(Some(("transient", "a lock"))), ("transient", "a lock".to_owned()));
        assert_eq!(died_of(Some(("timeout", "too long"))), ("timeout", "too long".to_owned()));
        let (kind, error) = died_of(Some(("lease expired", "worker w was not heard of any more")));
        assert_eq!((kind, error.contains("may kill its workers")), ("exhausted", true));
        for other in [None, Some(("crowded", "no place")), Some(("stopping", "the worker stopped"))] {
            let (kind, error) = died_of(other);
            assert_eq!((kind, error.contains("may kill its workers")), ("exhausted", false), "{other:?}");
        }
    }
}
