//! `bridge.requeue`: dead letters dealt with by a person, by whom and why. Set-based: ten thousand are a handful of
//! statements.

use sqlx::PgConnection;

/// What was brought back, and what it needs now.
#[derive(Debug, Default)]
pub struct Requeued {
    pub jobs: Vec<i64>,
    /// Whose tick or stage it was: they need a tick.
    pub customers: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct Marked {
    id: i64,
    kind: String,
    customer: String,
    subject: i64,
}

/// Marks these dead jobs as brought back, writes the log, and makes a page of the next generation for each dead page. One
/// that was dealt with before is left alone, so this may be repeated.
///
/// A page joins the open stage of its name in its customer's open run: the next page of it that ends releases it. Without
/// one it waits for the next run's stage.
pub async fn bring_back(conn: &mut PgConnection, ids: &[i64], who: &str, reason: &str) -> sqlx::Result<Requeued> {
    let jobs = mark(conn, ids, ["requeued", "requeue"], who, reason).await?;
    let pages: Vec<i64> = jobs.iter().filter(|job| job.kind == "page").map(|job| job.subject).collect();
    let mut customers: Vec<String> =
        jobs.iter().filter(|job| job.kind != "page").map(|job| job.customer.clone()).collect();
    customers.sort_unstable();
    customers.dedup();
    if !pages.is_empty() {
        // Held until we commit: none of these stages closes under our hands. Its own statement, so that the next one sees
        // what the stages became while we waited.
        sqlx::query(
            "select stage.id from bridge.stage
             where stage.state = 'open' and (stage.customer, stage.name) in (
                 select customer, stage_name from bridge.page where id = any($1))
             order by stage.id for update",
        )
        .bind(&pages)
        .execute(&mut *conn)
        .await?;
        sqlx::query(include_str!("requeue_pages.sql")).bind(&pages).execute(&mut *conn).await?;
    }
    Ok(Requeued { jobs: jobs.iter().map(|job| job.id).collect(), customers })
}

/// Marks these dead jobs as given up and writes the log: a page's range is left to the customer's next sweep, which is due
/// by this (`sweep::due`). One that was dealt with before is left alone. Answers which.
pub async fn discard(conn: &mut PgConnection, ids: &[i64], who: &str, reason: &str) -> sqlx::Result<Vec<i64>> {
    Ok(mark(conn, ids, ["discarded", "discard"], who, reason).await?.iter().map(|job| job.id).collect())
}

async fn mark(
    conn: &mut PgConnection,
    ids: &[i64],
    [dealt, action]: [&'static str; 2],
    who: &str,
    reason: &str,
) -> sqlx::Result<Vec<Marked>> {
    sqlx::query_as(
        "with wanted as (
             select id from bridge.job
             where id = any($1) and state = 'dead' and requeued_at is null
             order by id for update
         ),
         marked as (
             update bridge.job set requeued_at = now(), dealt = $2 from wanted where job.id = wanted.id
             returning job.id, job.kind, job.customer, job.subject
         ),
         logged as (
             insert into bridge.requeue (job, kind, customer, action, who, reason)
             select id, kind, customer, $3, $4, $5 from marked order by id
         )
         select id, kind, customer, subject from marked order by id",
    )
    .bind(ids)
    .bind(dealt)
    .bind(action)
    .bind(who)
    .bind(reason)
    .fetch_all(conn)
    .await
}
