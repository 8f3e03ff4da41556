//! Pages among applications that lock the same rows.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use sync_bridge::config::Side;
use sync_bridge::stages::ParkedReason;
use tokio_util::sync::CancellationToken;

use crate::support::people::{SAME, people_with};
use crate::support::systems::Systems;

/// Every fifth writing statement of the bridge fails as if it had met somebody. A sequence counts through rollbacks.
const STUMBLE: &str = "
    create sequence stumbles;
    create function stumble() returns trigger language plpgsql as $$
      declare n bigint;
      begin
        if current_setting('application_name') = 'sync-bridge write' then
          n := nextval('public.stumbles');
          if n % 5 = 0 then
            raise exception 'stumbled' using errcode = case when n % 10 = 0 then '40P01' else '40001' end;
          end if;
        end if;
        return null;
      end $$;
    create trigger stumble before insert or update on person for each statement execute function stumble()";

/// Transactions of an application, each with two rows in an order of its own. Tries again what the database asks it to.
async fn application(url: String, edit: &'static str, step: u32, stop: CancellationToken) {
    let mut session = PgConnection::connect(&url).await.expect("a session of an application");
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    for n in 0u32.. {
        beat.tick().await;
        if stop.is_cancelled() {
            break;
        }
        let (first, second) = (60 - n.wrapping_mul(step) % 60, 1 + n.wrapping_mul(17) % 60);
        let rows = [first, second].map(|row| edit.replace("{n}", &n.to_string()).replace("{row}", &row.to_string()));
        loop {
            let sql = format!("begin; {}; {}; commit", rows[0], rows[1]);
            match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut session).await {
                Ok(_) => break,
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40P01") => {
                    sqlx::raw_sql("rollback").execute(&mut session).await.expect("a rollback");
                }
                Err(error) => panic!("an application: {error}"),
            }
        }
    }
}

/// Of the bridge, among the applications.
const RUNS: u32 = 6;

async fn sixty_people(hint: &str) -> Systems {
    let mut systems = people_with(hint, &[("match_on = [\"email\"]", "match_on = [\"email\"]\n  page_rows = 8")]).await;
    systems
        .on_legacy("insert into person (email, phone) select n || '@example.org', '0' from generate_series(1, 60) n")
        .await;
    systems.settle().await;
    systems
}

#[tokio::test]
async fn s28_deadlocks_and_serialization_failures_only_delay() {
    let (mut systems, mut calm) = (sixty_people("deadlocks").await, sixty_people("calm").await);
    for (pool, database) in [(&systems.legacy, &systems.databases[0]), (&systems.platform, &systems.databases[1])] {
        // So that a deadlock costs no second; new sessions see it.
        let sql = format!("alter database \"{}\" set deadlock_timeout = '20ms'; {STUMBLE}", database.name);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.expect("stumbling stones");
    }
    systems.restart();
    systems.at_once = 4;
    let urls = [0, 1].map(|at: usize| systems.databases[at].url.expose().to_owned());
    let legacy = "update person set phone = 'l{n}', last_update = now() where id = {row}";
    let platform = "update person set phone = 'p{n}', updated_at = now() where email = '{row}@example.org'";
    let other = "update person set first = 'f{n}', last_update = now() where id = {row}";
    let stop = CancellationToken::new();
    let applications = tokio::spawn(futures::future::join3(
        application(urls[0].clone(), legacy, 7, stop.clone()),
        application(urls[1].clone(), platform, 11, stop.clone()),
        application(urls[0].clone(), other, 13, stop.clone()),
    ));
    for _ in 0..RUNS {
        let (summary, ()) = tokio::join!(systems.run(), async {
            calm.on_legacy("update person set phone = phone || '.', last_update = now()").await;
            assert_eq!(calm.run().await.to_platform, 60, "another customer");
        });
        assert!(summary.quarantined.is_empty(), "{:?}", summary.quarantined);
    }
    stop.cancel();
    applications.await.expect("the applications");
    systems.oracles(&SAME).await;
    calm.oracles(&SAME).await;
    for stumbles in [
        systems.legacy_rows("select (last_value / 5)::text from stumbles").await,
        systems.platform_rows("select (last_value / 5)::text from stumbles").await,
    ] {
        assert!(stumbles[0].parse::<u32>().expect("a number") > 2, "nobody stumbled: {stumbles:?}");
    }
}

/// Of an application, or of a worker that hangs: holds the rows that this selects.
async fn held<'c>(session: &'c mut PgConnection, rows: &str) -> sqlx::Transaction<'c, sqlx::Postgres> {
    let mut lock = session.begin().await.expect("a transaction");
    let held = sqlx::raw_sql(AssertSqlSafe(format!("{rows} for update"))).execute(&mut *lock).await.expect("a lock");
    assert_eq!(held.rows_affected(), 1, "{rows}");
    lock
}

#[tokio::test]
async fn a_row_that_others_hold_costs_that_row_alone_and_no_wait() {
    let sides = [
        ("update person set phone = phone || 'l', last_update = now()", Side::Platform),
        ("update person set phone = phone || 'p', updated_at = now()", Side::Legacy),
    ];
    let mut systems = people_with("held", &[]).await;
    let phones = "select email || ' ' || phone from person where phone <> '0' order by email collate \"C\"";
    systems
        .on_legacy("insert into person (email, phone) select n || '@example.org', '0' from generate_series(1, 60) n")
        .await;
    systems.settle().await;
    // Every pair gets a receipt.
    systems.on_platform("update person set phone = '1', updated_at = now()").await;
    systems.settle().await;
    let pair =
        "select from sync_bridge.pair where platform_key = (select id::text from person where email = '7@example.org')";
    let receipt = "select from sync_bridge.receipt where legacy_key = (select id::text from person where email = '7@example.org')";
    let row = "select from person where email = '7@example.org'";
    for (edit, written) in sides {
        for (side, lock) in [(written, row), (Side::Platform, pair), (Side::Legacy, receipt)] {
            if written == Side::Platform && lock == receipt {
                continue;
            }
            let url = systems.databases[usize::from(side == Side::Platform)].url.clone();
            let mut session = PgConnection::connect(url.expose()).await.expect("a session");
            if written == Side::Platform {
                systems.on_legacy(edit).await
            } else {
                systems.on_platform(edit).await
            }
            let lock = held(&mut session, lock).await;
            let summary = systems.run().await;
            let (done, waiting) = (summary.to_platform + summary.to_legacy, summary.parked);
            assert_eq!((done, waiting.len()), (59, 1), "{edit}: {waiting:?}");
            assert_eq!(waiting[0].reason, ParkedReason::Busy);
            // However long: it stays on the list, and others still pass.
            let summary = systems.run().await;
            // Perhaps seen from both sides by now.
            assert_eq!(summary.to_platform + summary.to_legacy, 0);
            assert!((1..=2).contains(&summary.parked.len()), "{summary:?}");
            lock.rollback().await.expect("a rollback");
            let summary = systems.run().await;
            assert_eq!((summary.to_platform + summary.to_legacy, summary.parked.len()), (1, 0));
            systems.settle().await;
            assert_eq!(systems.legacy_rows(phones).await, systems.platform_rows(phones).await);
        }
    }
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn an_intent_whose_receipt_others_hold_is_made_void_later_and_keeps_nobody_up() {
    let mut systems = people_with("held receipt", &[]).await;
    systems
        .on_legacy("insert into person (email, phone) select n || '@example.org', '0' from generate_series(1, 9) n")
        .await;
    systems.settle().await;
    systems.on_platform("update person set phone = '1', updated_at = now()").await;
    systems.settle().await;
    // Its worker died a long time ago.
    let intent = "update sync_bridge.pair set rev = rev + 1, next_base = base, next_gone = gone, intent_at = now() - interval '1 h'
                  where platform_key in (select id::text from person where email in ('7@example.org', '8@example.org'))";
    systems.on_platform(intent).await;
    systems.on_platform("update person set phone = '2', updated_at = now()").await;
    let receipt = "select from sync_bridge.receipt where legacy_key = (select id::text from person where email = '7@example.org')";
    let mut session = PgConnection::connect(systems.databases[0].url.expose()).await.expect("a session");
    let lock = held(&mut session, receipt).await;
    let summary = systems.run().await;
    assert_eq!((summary.to_legacy, summary.parked.len()), (8, 1), "{summary:?}");
    lock.rollback().await.expect("a rollback");
    systems.settle().await;
    assert_eq!(systems.legacy_rows("select distinct phone from person").await, ["2"]);
    systems.oracles(&SAME).await;
}
