//! Pages among applications that lock the same rows.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
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
