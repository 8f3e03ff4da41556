//! `bridge.job`: every delivery's life. Owns: claims, leases, fencing, attempts. Never: what a job's outcome implies.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{attempt, interval, unknown};
use crate::fault;
use crate::queue::{Delivery, Kind};

/// How long a claim holds without being renewed. A worker that died is noticed after this and at most one janitor round.
pub const LEASE: Duration = Duration::from_secs(15);

/// Three renewals fit into a lease, so one that fails costs nothing.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);

/// A job that waits for a database looks by itself after this, should nobody wake it.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// The longest error text that is kept.
const ERROR_CHARS_MAX: usize = 2000;

/// A claimed job. An outcome is recorded only while `token` is still the job's.
#[derive(Debug, Clone)]
pub struct Claim {
    pub job: i64,
    pub kind: Kind,
    pub customer: String,
    /// The tick's, stage's or page's id.
    pub subject: i64,
    /// Counted by the claim: 1 for the first.
    pub attempt: i32,
    pub outages: i32,
    /// For how long databases that are away have held it up.
    pub away: Option<Duration>,
    pub token: Uuid,
}

/// How a job's last claim ended, if not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    pub kind: String,
    pub error: String,
}

/// The kind of error of a claim whose lease ran out.
pub const LEASE_EXPIRED: &str = "lease expired";

/// The kind of error of a job that is dead because its attempts are used up; what went before is told with it.
pub const EXHAUSTED: &str = "exhausted";

/// What a try to claim came to.
#[derive(Debug, Clone)]
pub enum Claimed {
    Yes(Claim),
    /// Claimed as well, but only to be dead-lettered: its attempts are used up, perhaps by workers it killed.
    Exhausted(Claim, Option<LastError>),
    /// Done, dead, claimed by another, not due yet, or not there: the delivery is late or doubled.
    No,
}

#[derive(sqlx::FromRow)]
struct DeliveryRow {
    id: i64,
    kind: String,
    pool: Option<String>,
    delivery: i32,
    priority: i16,
    run_at_secs: i64,
}

impl TryFrom<DeliveryRow> for Delivery {
    type Error = sqlx::Error;

    fn try_from(row: DeliveryRow) -> sqlx::Result<Delivery> {
        let kind = row.kind.parse().map_err(unknown)?;
        let priority = u8::try_from(row.priority).unwrap_or(0);
        Ok(Delivery {
            kind,
            pool: row.pool,
            job: row.id,
            delivery: row.delivery,
            priority,
            run_at_secs: row.run_at_secs,
        })
    }
}

fn deliveries(rows: Vec<DeliveryRow>) -> sqlx::Result<Vec<Delivery>> {
    rows.into_iter().map(Delivery::try_from).collect()
}

/// Makes a job for each subject, due now. What an operator asked for goes first, but not a load, which may
/// take hours. To be enqueued in the same transaction.
pub async fn insert(conn: &mut PgConnection, kind: Kind, subjects: &[(String, i64)]) -> sqlx::Result<Vec<Delivery>> {
    insert_later(conn, kind, subjects, Duration::ZERO).await
}

/// As `insert`; nobody starts on them before `rest` is over, and the next whole second has come.
pub async fn insert_later(
    conn: &mut PgConnection,
    kind: Kind,
    subjects: &[(String, i64)],
    rest: Duration,
) -> sqlx::Result<Vec<Delivery>> {
    let (customers, ids): (Vec<&str>, Vec<i64>) =
        subjects.iter().map(|(customer, id)| (customer.as_str(), *id)).unzip();
    let tick = match kind {
        Kind::Tick => "subject.id",
        Kind::Stage => {
            "(select run.tick from bridge.run join bridge.stage on stage.run = run.id \
             where stage.id = subject.id and run.state <> 'loading')"
        }
        Kind::Page => {
            "(select run.tick from bridge.run join bridge.page on page.run = run.id \
             where page.id = subject.id and run.state <> 'loading')"
        }
    };
    let rows: Vec<DeliveryRow> = sqlx::query_as(AssertSqlSafe(format!(
        "insert into bridge.job (kind, customer, pool, subject, priority, run_at)
         select $1, subject.customer, (select pool from bridge.pool_member as member where member.customer = subject.customer), subject.id,
             (select count(*) from bridge.tick where tick.origin = 'operator' and tick.id = {tick}),
             case when $4 = interval '0' then date_trunc('second', now())
                  else to_timestamp(ceil(extract(epoch from clock_timestamp() + $4))) end
         from unnest($2::text[], $3::bigint[]) as subject (customer, id)
         returning id, kind, pool, delivery, priority, extract(epoch from run_at)::bigint as run_at_secs"
    )))
    .bind(kind.as_str())
    .bind(customers)
    .bind(ids)
    .bind(interval(rest))
    .fetch_all(conn)
    .await?;
    fault::point("ledger.jobs_made").await;
    deliveries(rows)
}

/// Takes these jobs, counts the attempts, sets tokens and leases: one conditional update. Answers each in its place.
///
/// The first ones' commit waits for no disk: a claim that goes with a crash of the server's was nobody's, as no outcome is recorded without its
/// token, and the job is ready still. Whoever had it works on until its lease is to be renewed. Further ones are counted for certain.
///
/// Any delivery of a ready job may claim it, also an older one than the last: the second to come finds nothing. A job whose
/// attempts are used up is taken only to be dead-lettered, so that one which kills its workers does not circle.
pub async fn claim(
    conn: &mut PgConnection,
    jobs: &[i64],
    worker: &str,
    attempts_max: u32,
) -> sqlx::Result<Vec<Claimed>> {
    let tokens: Vec<Uuid> = jobs.iter().map(|_| Uuid::new_v4()).collect();
    let rows: Vec<ClaimedRow> = sqlx::query_as(
        "with due as (
             -- Not `state = 'ready'`: the planner would look for each in the index of all that are ready, which were few a moment ago.
             -- Not `any($1)`: while it sees how many they are, it plans anew each time, which takes longer than the claim.
             select id, attempt, attempt >= $5 as is_exhausted from bridge.job
             where id = any(array(select unnest($1::bigint[]))) and (state = 'ready') is true and run_at <= clock_timestamp()
             order by id for update
         )
         update bridge.job
         set state = 'claimed', token = ($2::uuid[])[array_position($1, job.id)], lease_until = clock_timestamp() + $3, claimed_by = $4,
             claimed_at = clock_timestamp(), attempt = due.attempt + case when is_exhausted then 0 else 1 end, waits_for = null
         from due
         where job.id = due.id
           and case when (select max(attempt) from due) = 0 then set_config('synchronous_commit', 'off', true) else 'off' end = 'off'
         returning job.id, kind, customer, subject, job.attempt, outages, extract(epoch from now() - away_since)::float8 as away_secs,
             error_kind, last_error, is_exhausted",
    )
    .bind(jobs)
    .bind(&tokens)
    .bind(interval(LEASE))
    .bind(worker)
    .bind(i32::try_from(attempts_max).unwrap_or(i32::MAX))
    .fetch_all(conn)
    .await?;
    let mut rows: HashMap<i64, ClaimedRow> = rows.into_iter().map(|row| (row.id, row)).collect();
    // Of two deliveries of a job at once the first has it: its token is the one that was set.
    let claimed = jobs.iter().zip(tokens).map(|(job, token)| match rows.remove(job) {
        Some(row) => row.claimed(token),
        None => Ok(Claimed::No),
    });
    claimed.collect()
}

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    id: i64,
    kind: String,
    customer: String,
    subject: i64,
    attempt: i32,
    outages: i32,
    away_secs: Option<f64>,
    error_kind: Option<String>,
    last_error: Option<String>,
    is_exhausted: bool,
}

impl ClaimedRow {
    fn claimed(self, token: Uuid) -> sqlx::Result<Claimed> {
        let kind = self.kind.parse().map_err(unknown)?;
        let away = self.away_secs.map(|secs| Duration::from_secs_f64(secs.max(0.0)));
        let ClaimedRow { id: job, customer, subject, attempt, outages, .. } = self;
        let claim = Claim { job, kind, customer, subject, attempt, outages, away, token };
        let last = self.error_kind.zip(self.last_error).map(|(kind, error)| LastError { kind, error });
        Ok(if self.is_exhausted { Claimed::Exhausted(claim, last) } else { Claimed::Yes(claim) })
    }
}

/// Renews leases; answers the jobs whose claim is still ours.
pub async fn renew(conn: &mut PgConnection, claims: &[(i64, Uuid)]) -> sqlx::Result<Vec<i64>> {
    let (jobs, tokens): (Vec<i64>, Vec<Uuid>) = claims.iter().copied().unzip();
    sqlx::query_scalar(
        "with mine as (
             select job.id
             from bridge.job
             join unnest($1::bigint[], $2::uuid[]) as held (id, token) on held.id = job.id and held.token = job.token
             order by job.id
             for update of job
         )
         update bridge.job set lease_until = clock_timestamp() + $3 from mine where job.id = mine.id returning job.id",
    )
    .bind(jobs)
    .bind(tokens)
    .bind(interval(LEASE))
    .fetch_all(conn)
    .await
}

/// Whether each claim was still ours, and its job is now done.
#[must_use = "an outcome is recorded only by the holder of the claim"]
pub async fn done(conn: &mut PgConnection, claims: &[(i64, Uuid)]) -> sqlx::Result<Vec<bool>> {
    end(conn, claims, true).await
}

/// As `done`, of jobs that came to nothing. Their commit waits for no disk: what goes with a crash of the server's comes to nothing once more.
#[must_use = "an outcome is recorded only by the holder of the claim"]
pub async fn done_with_nothing(conn: &mut PgConnection, claims: &[(i64, Uuid)]) -> sqlx::Result<Vec<bool>> {
    end(conn, claims, false).await
}

async fn end(conn: &mut PgConnection, claims: &[(i64, Uuid)], durably: bool) -> sqlx::Result<Vec<bool>> {
    let (jobs, tokens): (Vec<i64>, Vec<Uuid>) = claims.iter().copied().unzip();
    let ended: Vec<(i64, Uuid)> = sqlx::query_as(
        "with held as (
             -- A token is one job's alone. As in `claim`, so that it is planned once.
             select id, token from bridge.job
             where id = any(array(select unnest($1::bigint[]))) and token = any(array(select unnest($2::uuid[])))
             order by id for update
         )
         update bridge.job
         set state = 'done', ended_at = now(), token = null, lease_until = null, last_error = null, error_kind = null
         from held
         where job.id = held.id
           and case when $3 then 'off' else set_config('synchronous_commit', 'off', true) end = 'off'
         returning job.id, held.token",
    )
    .bind(jobs)
    .bind(tokens)
    .bind(durably)
    .fetch_all(conn)
    .await?;
    fault::point("ledger.job_done").await;
    Ok(claims.iter().map(|claim| ended.contains(claim)).collect())
}

/// Whether the claim was still ours, and the job is now dead.
#[must_use = "an outcome is recorded only by the holder of the claim"]
pub async fn dead(conn: &mut PgConnection, claim: &Claim, error_kind: &str, error: &str) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update bridge.job
         set state = 'dead', ended_at = now(), token = null, lease_until = null, error_kind = $3,
             last_error = case when $3 = 'exhausted' then coalesce(last_error || '; ', '') || $4 else $4 end
         where id = $1 and token = $2",
    )
    .bind(claim.job)
    .bind(claim.token)
    .bind(error_kind)
    .bind(short(error))
    .execute(&mut *conn)
    .await?;
    fault::point("ledger.job_dead").await;
    let ours = done.rows_affected() == 1;
    if ours {
        attempt::note(conn, &[claim.job], attempt::Ending::Dead).await?;
    }
    Ok(ours)
}

/// Why a job goes back to `ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// It failed: the attempt stays spent.
    Failed,
    /// A database was away: the attempt is given back.
    Outage,
    /// This worker stops: the attempt is given back, and it was nobody's failure.
    Stopping,
    /// Nothing was tried, there was no place for it: as if it had not been claimed.
    Crowded,
}

impl Back {
    fn ending(self) -> Option<attempt::Ending> {
        match self {
            Back::Failed => Some(attempt::Ending::Failed),
            Back::Outage => Some(attempt::Ending::Outage),
            Back::Stopping => Some(attempt::Ending::HandedBack),
            Back::Crowded => None,
        }
    }
}

/// Gives the job back, due after `wait` (to the next whole second); `None` if the claim is no longer ours. To be enqueued
/// in the same transaction.
pub async fn back(
    conn: &mut PgConnection,
    claim: &Claim,
    why: Back,
    wait: Duration,
    error_kind: &str,
    error: &str,
) -> sqlx::Result<Option<Delivery>> {
    let row: Option<DeliveryRow> = sqlx::query_as(
        "update bridge.job
         set state = 'ready', token = null, lease_until = null, delivery = delivery + 1,
             run_at = case when $3 = interval '0' then date_trunc('second', now())
                      else to_timestamp(ceil(extract(epoch from clock_timestamp() + $3))) end,
             attempt = attempt - case when $4 then 1 else 0 end,
             outages = case when $5 then outages + 1 else 0 end,
             away_since = case when $5 then coalesce(away_since, now()) when $4 then away_since end,
             error_kind = $6, last_error = $7
         where id = $1 and token = $2
         returning id, kind, pool, delivery, priority, extract(epoch from run_at)::bigint as run_at_secs",
    )
    .bind(claim.job)
    .bind(claim.token)
    .bind(interval(wait))
    .bind(why != Back::Failed)
    .bind(why == Back::Outage)
    .bind(error_kind)
    .bind(short(error))
    .fetch_optional(&mut *conn)
    .await?;
    fault::point("ledger.job_back").await;
    if let (Some(_), Some(ending)) = (&row, why.ending()) {
        attempt::note(conn, &[claim.job], ending).await?;
    }
    row.map(Delivery::try_from).transpose()
}

/// How many jobs of the customer somebody works on.
pub async fn claimed(conn: &mut PgConnection, customer: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from bridge.job where customer = $1 and state = 'claimed'")
        .bind(customer)
        .fetch_one(conn)
        .await
}

/// The claims of an entity's pages that somebody holds now.
pub async fn claims_of(conn: &mut PgConnection, customer: &str, entity: &str) -> sqlx::Result<Vec<(i64, Uuid)>> {
    sqlx::query_as(
        "select job.id, token from bridge.job join bridge.page on page.id = job.subject
         where job.kind = 'page' and job.state = 'claimed' and job.customer = $1 and page.entity = $2",
    )
    .bind(customer)
    .bind(entity)
    .fetch_all(conn)
    .await
}

/// How many of these claims are held still.
pub async fn still_held(conn: &mut PgConnection, claims: &[(i64, Uuid)]) -> sqlx::Result<i64> {
    let (jobs, tokens): (Vec<i64>, Vec<Uuid>) = claims.iter().copied().unzip();
    sqlx::query_scalar(
        "select count(*) from bridge.job join unnest($1::bigint[], $2::uuid[]) as held (id, token) using (id, token)
         where state = 'claimed'",
    )
    .bind(jobs)
    .bind(tokens)
    .fetch_one(conn)
    .await
}

/// Puts the job aside until `database` answers: the attempt is given back, and nothing is delivered before `wake`, or, if
/// that gets lost, before `WAIT_MAX` is over. Whether the claim was still ours.
#[must_use = "an outcome is recorded only by the holder of the claim"]
pub async fn wait(conn: &mut PgConnection, claim: &Claim, database: &str, error: &str) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update bridge.job
         set state = 'ready', token = null, lease_until = null, attempt = attempt - 1, waits_for = $3,
             away_since = coalesce(away_since, now()), run_at = date_trunc('second', now()) + $5,
             error_kind = 'outage', last_error = $4
         where id = $1 and token = $2",
    )
    .bind(claim.job)
    .bind(claim.token)
    .bind(database)
    .bind(short(error))
    .bind(interval(WAIT_MAX))
    .execute(&mut *conn)
    .await?;
    fault::point("ledger.job_waits").await;
    let ours = done.rows_affected() == 1;
    if ours {
        attempt::note(conn, &[claim.job], attempt::Ending::Outage).await?;
    }
    Ok(ours)
}

/// The customers whose jobs wait, each with the circuit they wait for.
pub async fn waiting(conn: &mut PgConnection) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as(
        "select distinct customer, waits_for from bridge.job where waits_for is not null order by customer, waits_for",
    )
    .fetch_all(conn)
    .await
}

/// Up to `limit` jobs that wait for no database any more, be it that it answers or that it is one of these that a customer has
/// `left`, or that have waited for longer than `away_max` (a tick waits on: the next one would only do the same). They are due within
/// two seconds, not all at once. To be enqueued in the same transaction.
pub async fn wake(
    conn: &mut PgConnection,
    left: &[(String, String)],
    away_max: Duration,
    limit: i64,
) -> sqlx::Result<Vec<Delivery>> {
    let (customers, circuits): (Vec<&str>, Vec<&str>) =
        left.iter().map(|(customer, circuit)| (customer.as_str(), circuit.as_str())).unzip();
    let rows: Vec<DeliveryRow> = sqlx::query_as(
        "with woken as (
             select id from bridge.job
             where waits_for is not null
               and (not exists (select from bridge.circuit where circuit.database = job.waits_for)
                    or (customer, waits_for) in (select * from unnest($3::text[], $4::text[]))
                    or (kind <> 'tick' and away_since < now() - $1))
             order by id limit $2 for update skip locked
         )
         update bridge.job
         set waits_for = null, delivery = delivery + 1,
             run_at = date_trunc('second', now()) + make_interval(secs => floor(random() * 3))
         from woken where job.id = woken.id
         returning job.id, job.kind, job.pool, job.delivery, job.priority, extract(epoch from job.run_at)::bigint as run_at_secs",
    )
    .bind(interval(away_max))
    .bind(limit)
    .bind(customers)
    .bind(circuits)
    .fetch_all(conn)
    .await?;
    fault::point("ledger.jobs_woken").await;
    deliveries(rows)
}

/// Gives up to `limit` jobs back whose lease ran out: their worker is dead or cut off. To be enqueued in the same transaction.
pub async fn expire(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Delivery>> {
    let rows: Vec<DeliveryRow> = sqlx::query_as(
        "with expired as (
             select id from bridge.job where state = 'claimed' and lease_until < now()
             order by id limit $1 for update skip locked
         )
         update bridge.job
         set state = 'ready', token = null, lease_until = null, delivery = delivery + 1,
             run_at = date_trunc('second', now()), error_kind = $2,
             last_error = 'worker ' || claimed_by || ' was not heard of any more'
         from expired where job.id = expired.id
         returning job.id, job.kind, job.pool, job.delivery, job.priority, extract(epoch from job.run_at)::bigint as run_at_secs",
    )
    .bind(limit)
    .bind(LEASE_EXPIRED)
    .fetch_all(&mut *conn)
    .await?;
    let jobs: Vec<i64> = rows.iter().map(|row| row.id).collect();
    attempt::note(conn, &jobs, attempt::Ending::LeaseExpired).await?;
    deliveries(rows)
}

/// Whatever lies further in the future than anything is put off was written while this database's clock was ahead. A claim
/// gets a lease as of now, which its worker renews if it lives; up to `limit` jobs that are ready are due now. To be enqueued in the
/// same transaction.
pub async fn correct_clock(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Delivery>> {
    sqlx::query(
        "update bridge.job set lease_until = now() + $1 where state = 'claimed' and lease_until > now() + 4 * $1",
    )
    .bind(interval(LEASE))
    .execute(&mut *conn)
    .await?;
    let rows: Vec<DeliveryRow> = sqlx::query_as(
        "with ahead as (
             select id from bridge.job
             where state = 'ready' and waits_for is null and run_at > now() + interval '1 minute'
               and run_at > now() + case kind when 'tick' then interval '1 minute' when 'stage' then interval '5 minutes'
                                              else interval '15 minutes' end
             order by id limit $1 for update skip locked
         )
         update bridge.job set delivery = delivery + 1, run_at = date_trunc('second', now())
         from ahead where job.id = ahead.id
         returning job.id, job.kind, job.pool, job.delivery, job.priority, extract(epoch from job.run_at)::bigint as run_at_secs",
    )
    .bind(limit)
    .fetch_all(conn)
    .await?;
    fault::point("ledger.clock_corrected").await;
    deliveries(rows)
}

/// Removes up to `limit` jobs that ended before `age` ago and whose subject is gone, with their attempts; a dead letter that
/// nobody has dealt with stays. Answers how many.
pub async fn prune(conn: &mut PgConnection, age: Duration, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from bridge.job where id in (
             select id from bridge.job
             where ended_at < now() - $1
               and not (state = 'dead' and requeued_at is null)
               and not exists (select from bridge.page where job.kind = 'page' and page.id = job.subject)
               and not exists (select from bridge.stage where job.kind = 'stage' and stage.id = job.subject)
               and not exists (select from bridge.tick where job.kind = 'tick' and tick.id = job.subject)
             order by ended_at, id limit $2 for update skip locked)",
    )
    .bind(interval(age))
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

fn short(error: &str) -> String {
    error.chars().take(ERROR_CHARS_MAX).collect()
}
