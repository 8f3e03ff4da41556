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

/// An application's transaction that is not over.
async fn open<'c>(session: &'c mut PgConnection, sql: &str) -> sqlx::Transaction<'c, sqlx::Postgres> {
    let mut open = session.begin().await.expect("a transaction");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *open).await.expect("an application's statement");
    open
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

#[tokio::test]
async fn what_a_write_has_to_wait_for_costs_its_row_alone() {
    let mut systems = people_with("waited for", &[]).await;
    systems
        .on_legacy(
            "insert into team (label) select 't' || n from generate_series(1, 60) n;
             insert into person (email, phone, team) select n || '@example.org', '0', n from generate_series(1, 60) n",
        )
        .await;
    systems.settle().await;
    for sql in
        ["create table badge (person integer references person)", "create table badge (person uuid references person)"]
    {
        if sql.contains("uuid") { systems.on_platform(sql).await } else { systems.on_legacy(sql).await }
    }
    // Each with what an application has begun: the same unique value in a new row; a parent in its hands; a row that refers to one
    // of which a column with a unique index is changed.
    let to_platform = [
        (
            "insert into person (email) select 'l' || n || '@example.org' from generate_series(1, 60) n",
            "insert into person (email) values ('l7@example.org')",
        ),
        (
            "insert into person (email, team) select 'lt' || n || '@example.org', n from generate_series(1, 60) n",
            "select from team where name = 't7' for update",
        ),
        (
            "update person set email = 'm' || email, last_update = now() where phone = '0'",
            "insert into badge select id from person where email = '7@example.org'",
        ),
    ];
    let to_legacy = [
        (
            "insert into person (email) select 'p' || n || '@example.org' from generate_series(1, 60) n",
            "insert into person (email) values ('p7@example.org')",
        ),
        (
            "insert into person (email, team_id) select 'pt' || name || '@example.org', id from team",
            "select from team where label = 't7' for update",
        ),
        (
            "update person set email = 'n' || email, updated_at = now() where phone = '0'",
            "insert into badge select id from person where email = 'm7@example.org'",
        ),
    ];
    let edits = to_platform.map(|of| (Side::Platform, of)).into_iter().chain(to_legacy.map(|of| (Side::Legacy, of)));
    for (written, (edit, waited_for)) in edits {
        let url = systems.databases[usize::from(written == Side::Platform)].url.clone();
        let mut session = PgConnection::connect(url.expose()).await.expect("a session");
        if written == Side::Platform {
            systems.on_legacy(edit).await
        } else {
            systems.on_platform(edit).await
        }
        let application = open(&mut session, waited_for).await;
        let began = std::time::Instant::now();
        let summary = systems.run().await;
        let (done, waiting) = (summary.to_platform + summary.to_legacy, summary.parked);
        assert_eq!((done, waiting.len()), (59, 1), "{edit}: {waiting:?}");
        assert_eq!(waiting[0].reason, ParkedReason::Busy);
        assert!(summary.quarantined.is_empty(), "{:?}", summary.quarantined);
        // Sets that wait one after the other for as long as the first would take more than half a minute.
        assert!(began.elapsed() < Duration::from_secs(15), "it waited: {:?}", began.elapsed());
        application.rollback().await.expect("a rollback");
        let summary = systems.run().await;
        assert_eq!((summary.to_platform + summary.to_legacy, summary.parked.len()), (1, 0), "{edit}");
        systems.settle().await;
    }
    systems.oracles(&SAME).await;
}

/// Whatever row the bridge makes waits in vain. How often, and for how long at most, sequences count through rollbacks; and
/// how long the rest of its transaction would wait.
const IN_VAIN: &str = "
    create sequence tries;
    create sequence waits_ms;
    create sequence rest_ms;
    create function in_vain() returns trigger language plpgsql as $$
      begin
        if current_setting('application_name') = 'sync-bridge write' then
          perform nextval('public.tries');
          perform setval('public.waits_ms', greatest((select last_value from public.waits_ms),
                         (extract(epoch from current_setting('lock_timeout')::interval) * 1000)::bigint));
          raise exception 'not now' using errcode = '55P03';
        end if;
        return null;
      end $$;
    create trigger in_vain before insert on person for each statement execute function in_vain();
    create function rest() returns trigger language plpgsql as $$
      begin
        perform setval('public.rest_ms', (extract(epoch from current_setting('lock_timeout')::interval) * 1000)::bigint);
        return null;
      end $$;
    create trigger rest before insert or update on sync_bridge.{ledger} for each statement execute function rest()";

#[tokio::test]
async fn a_page_waits_in_vain_for_a_bounded_time() {
    let mut systems =
        people_with("in vain", &[("match_on = [\"email\"]", "match_on = [\"email\"]\n  page_rows = 600")]).await;
    systems.settle().await;
    systems.on_legacy(&IN_VAIN.replace("{ledger}", "receipt")).await;
    systems.on_platform(&IN_VAIN.replace("{ledger}", "pair")).await;
    // One is on both sides, and only the ledger is to say so.
    let insert = "insert into person (email) select '{side}' || n || '@example.org' from generate_series(1, 500) n;
                  insert into person (email) values ('both@example.org')";
    systems.on_legacy(&insert.replace("{side}", "l")).await;
    systems.on_platform(&insert.replace("{side}", "p")).await;
    for side in [Side::Legacy, Side::Platform] {
        let range = systems.cut("person", side).await.ranges.into_iter().next().expect("a page");
        let report = systems.run_page("person", side, range).await;
        assert!(report.parked.iter().all(|row| row.reason == ParkedReason::Busy), "{:?}", report.parked);
        assert_eq!((report.parked.len(), report.quarantined.len()), (500, 0));
        assert_eq!(report.tally.adopted, u64::from(side == Side::Legacy));
    }
    let counted = "select concat_ws(' ', t.last_value, w.last_value, r.last_value) from tries t, waits_ms w, rest_ms r";
    for rows in [systems.legacy_rows(counted).await, systems.platform_rows(counted).await] {
        let (tries, waits) = rows[0].split_once(' ').expect("numbers");
        // Three turns, where each row alone would be thousands of tries.
        assert!(tries.parse::<u32>().expect("a number") < 3 * 150, "{tries} tries");
        assert_eq!(waits, "500 5000", "how long the rows are waited for, and those of the ledger");
    }
    for pool in [&systems.legacy, &systems.platform] {
        sqlx::raw_sql("drop trigger in_vain on person").execute(pool).await.expect("dropping a trigger");
    }
    systems.oracles(&SAME).await;
    systems.both_hold("select count(*)::text from person", "select count(*)::text from person", &["1001"]).await;
}
