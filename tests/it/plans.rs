//! What is asked about a ledger of many weeks: no question of the command line, the console or the metrics reads through a table that grows
//! with time. Counted by the database itself.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection as _, PgConnection, PgPool};
use sync_bridge::config::DatabaseUrl;
use sync_bridge::{config, ops, queue};

use crate::cli::{self, Databases};
use crate::console::{Console, links};
use crate::support::crowd::Crowd;
use crate::support::eventually;

const CROWD: Crowd = Crowd { customers: 40, runs: 200, pages: 8 };

/// What grows with every tick.
const GROWING: [&str; 6] = ["tick", "run", "stage", "page", "job", "attempt"];

/// Rows of a table that were read one after the other, and by an index, up to now.
async fn read(queue: &PgPool) -> BTreeMap<String, (i64, i64)> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "select relname::text, coalesce(seq_tup_read, 0), coalesce(idx_tup_fetch, 0) from pg_stat_user_tables
         where schemaname = 'bridge' order by 1",
    )
    .fetch_all(queue)
    .await
    .expect("counts");
    rows.into_iter().map(|(name, by_scan, by_index)| (name, (by_scan, by_index))).collect()
}

/// Whoever asked has left, so that all is counted.
async fn counted(queue: &PgPool) -> BTreeMap<String, (i64, i64)> {
    eventually("nobody else is there", async || {
        let others: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'",
        )
        .fetch_one(queue)
        .await
        .expect("a count");
        others == 0
    })
    .await;
    read(queue).await
}

/// That whatever was asked since `before` needed few rows of the tables that grow.
async fn asked_little(
    queue: &PgPool,
    before: &BTreeMap<String, (i64, i64)>,
    who: &str,
) -> BTreeMap<String, (i64, i64)> {
    let after = counted(queue).await;
    for table in GROWING {
        let (scanned, fetched) = (after[table].0 - before[table].0, after[table].1 - before[table].1);
        assert_eq!(scanned, 0, "{who} reads through bridge.{table}");
        // Of 64,000 pages and 160,000 jobs.
        assert!(fetched <= 10_000, "{who} fetches {fetched} rows of bridge.{table}");
    }
    after
}

async fn leaving(url: &DatabaseUrl, sql: &'static str) {
    let mut session = PgConnection::connect(url.expose()).await.expect("connecting");
    sqlx::raw_sql(sql).execute(&mut session).await.expect("a statement");
    session.close().await.expect("leaving");
}

#[tokio::test]
async fn no_question_reads_through_a_table_that_grows_with_time() {
    let databases = Databases::new("plans").await;
    let desk = databases.desk("plans");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    let text = cli::config(true);
    let (head, stages) = text.split_once("[[stages]]").expect("stages");
    let (head, _) = head.split_once("[[customers]]").expect("a customer");
    let many = CROWD.customers("{ legacy = \"${LEGACY_URL}\", platform = \"${PLATFORM_URL}\" }");
    let text = format!("{head}{many}[[stages]]{stages}");
    std::fs::write(desk.folder.path().join("bridge.toml"), &text).expect("writing the configuration");
    let url = &databases.queue.url;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(url.expose()).await.expect("connecting");
    CROWD.fill(&pool).await;
    // A scan of a small table would be the better plan; of these none is small enough.
    let letter: i64 = sqlx::query_scalar("select min(id) from bridge.job where state = 'dead'")
        .fetch_one(&pool)
        .await
        .expect("an id");
    let run: i64 = sqlx::query_scalar("select max(id) from bridge.run").fetch_one(&pool).await.expect("an id");
    let (letter, run) = (letter.to_string(), run.to_string());

    let mut before = counted(&pool).await;
    for args in [
        &["status"][..],
        &["runs", "list", "--customer", "customer-7"],
        &["runs", "show", &run],
        &["dead-letters", "list"],
        &["dead-letters", "list", "--customer", "customer-7", "--entity", "user", "--kind", "permanent"],
        &["dead-letters", "show", &letter],
        &["quarantine", "list"],
        &["explain", "--customer", "customer-1", "--entity", "user", "--key", "1"],
    ] {
        desk.succeeds(args);
        before = asked_little(&pool, &before, &args.join(" ")).await;
    }

    // Gauges are about the queue database alone.
    let file = desk.folder.path().join("nowhere.toml");
    let nowhere = ["LEGACY", "PLATFORM", "QUEUE"].map(|side| format!("${{{side}_URL}}"));
    let text = nowhere.iter().fold(text, |text, url| text.replace(url, "postgres://127.0.0.1:1/nowhere"));
    std::fs::write(&file, text).expect("writing a configuration");
    let config = config::load(&file).unwrap_or_else(|error| panic!("{error}"));
    let own = queue::connect(url).await.expect("connecting");
    let standing = ops::standing(&own, &config).await.expect("an answer");
    assert_eq!(standing.sides.len(), 2 * CROWD.customers as usize);
    own.close().await;
    asked_little(&pool, &before, "the gauges").await;

    // Whoever scales the workers asks each few seconds, also of a queue that is longer than anybody's.
    // By sessions that end: what they read is counted then.
    let due = "insert into bridge.job (kind, customer, subject, run_at)
               select 'page', 'c-' || n % 40, -n, date_trunc('second', now()) - interval '1 minute' from generate_series(1, 60000) as n;
               analyze bridge.job";
    leaving(url, due).await;
    before = counted(&pool).await;
    let mut scaler = PgConnection::connect(url.expose()).await.expect("connecting");
    let number: i32 =
        sqlx::query_scalar("select bridge.workers_wanted()").fetch_one(&mut scaler).await.expect("an answer");
    scaler.close().await.expect("leaving");
    assert!(number > 1, "{number}");
    let after = counted(&pool).await;
    let (scanned, fetched) = (after["job"].0 - before["job"].0, after["job"].1 - before["job"].1);
    assert!(
        scanned == 0 && fetched <= 11_000,
        "the scaler reads {scanned} rows of bridge.job in order and {fetched} by an index"
    );
    leaving(url, "delete from bridge.job where subject < 0; analyze bridge.job").await;
    before = counted(&pool).await;

    // A page of each kind, and whatever a program may ask.
    let console = Console::start(&desk, &[]).await;
    let mut seen = BTreeSet::new();
    let mut next = BTreeSet::from(["/".to_owned(), "/api/v1/customers".into(), "/api/v1/dead-letters".into()]);
    let kind = |path: &str| -> String {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        path.chars().filter(|c| !c.is_ascii_digit()).collect()
    };
    while let Some(path) = next.pop_first() {
        if seen.insert(kind(&path)) {
            let answer = console.get(&path);
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            next.extend(links(&answer.body));
        }
    }
    for wanted in ["/customers/c-", "/runs/", "/dead-letters/", "/quarantine", "/reconciliation", "/actions", "/health"]
    {
        assert!(seen.contains(wanted), "{wanted} was not asked: {seen:?}");
    }
    console.stop();
    asked_little(&pool, &before, &format!("one of {seen:?}")).await;
}
