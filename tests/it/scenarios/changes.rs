//! Finding changes: transactions that commit late, stamps of every kind, readers that stay.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use sync_bridge::config::{CustomerId, DatabaseUrl, EntityId, Side};
use sync_bridge::stages::{Known, Probe};

use crate::cli::{Desk, execute};
use crate::support::people::{SAME, people, people_with};
use crate::support::systems::{CUSTOMER, Systems};
use crate::support::{database, eventually};

/// Ten people whose telephone is 0, on both sides.
async fn ten_people(hint: &str) -> Systems {
    ten(people(hint).await).await
}

/// The same, read without an overlap, which alone would save most of what commits late.
async fn ten_people_without_overlap(hint: &str) -> Systems {
    ten(people_with(hint, &[("match_on = [\"email\"]", "match_on = [\"email\"]\n  overlap = \"0s\"")]).await).await
}

async fn ten(mut systems: Systems) -> Systems {
    systems
        .on_legacy("insert into person (email, phone) select n || '@example.org', '0' from generate_series(1, 10) n")
        .await;
    systems.settle().await;
    systems
}

/// A session of an application on legacy.
async fn application(systems: &Systems) -> PgConnection {
    PgConnection::connect(systems.databases[0].url.expose()).await.expect("a session of an application")
}

async fn say(session: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(session)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn started_at(session: &mut PgConnection) -> DateTime<Utc> {
    sqlx::query_scalar("select now()").fetch_one(session).await.expect("a time")
}

/// Younger ones lie above the horizon in any case: it stays a second behind the clock.
async fn older_than_a_second(systems: &Systems, started: DateTime<Utc>) {
    eventually("the transaction is older than a second", async || {
        let older = sqlx::query_scalar("select clock_timestamp() - $1 > interval '1.1 s'").bind(started);
        older.fetch_one(&systems.legacy).await.expect("the clock")
    })
    .await;
}

async fn phone(systems: &Systems, n: u32) -> Vec<String> {
    systems.platform_rows(&format!("select phone from person where email = '{n}@example.org'")).await
}

async fn late_commit(mut systems: Systems) {
    let mut slow = application(&systems).await;
    say(&mut slow, "begin; update person set phone = 'late', last_update = now() where id = 7").await;
    let started = started_at(&mut slow).await;
    systems.on_legacy("update person set phone = 'prompt', last_update = now() where id = 8").await;
    systems.run().await;
    assert_eq!(phone(&systems, 8).await, ["prompt"], "nobody waits for the slow one");
    let watermark = systems.known("person", Side::Legacy).watermark;
    say(&mut slow, "commit").await;
    systems.run().await;
    assert_eq!(phone(&systems, 7).await, ["late"], "what was committed late");
    assert!(watermark < started, "{watermark} is not before {started}");
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s01_a_transaction_that_commits_late_is_not_missed() {
    late_commit(ten_people("late").await).await;
    late_commit(ten_people_without_overlap("late bare").await).await;
}

#[tokio::test]
async fn s01_who_holds_the_watermark_back_is_named() {
    let systems = ten_people("holder").await;
    let mut slow = application(&systems).await;
    say(&mut slow, "set application_name = 'the slow one'; begin; update person set phone = 'late' where id = 7").await;
    eventually("the one who holds it back is named", async || {
        let cut = systems.cut("person", Side::Legacy).await;
        cut.held_by.is_some_and(|holder| holder.contains("application the slow one"))
    })
    .await;
    assert!(systems.cut("person", Side::Legacy).await.held_secs > 1.0);
}

async fn begun_and_not_yet_written(mut systems: Systems) {
    let mut slow = application(&systems).await;
    say(&mut slow, "begin").await;
    let started = started_at(&mut slow).await;
    older_than_a_second(&systems, started).await;
    systems.run().await;
    say(&mut slow, "update person set phone = 'old stamp', last_update = now() where id = 7; commit").await;
    systems.run().await;
    assert_eq!(phone(&systems, 7).await, ["old stamp"], "what was begun before the run");
    systems.oracles(&SAME).await;
}

async fn prepared(mut systems: Systems) {
    let mut slow = application(&systems).await;
    let name = systems.databases[0].name.clone();
    say(&mut slow, "begin; update person set phone = 'prepared', last_update = now() where id = 7").await;
    let started = started_at(&mut slow).await;
    older_than_a_second(&systems, started).await;
    say(&mut slow, &format!("prepare transaction '{name}'")).await;
    let held_by = systems.cut("person", Side::Legacy).await.held_by;
    for _ in 0..3 {
        systems.run().await;
    }
    say(&mut slow, &format!("commit prepared '{name}'")).await;
    systems.run().await;
    assert_eq!(phone(&systems, 7).await, ["prepared"], "what was prepared before the run");
    assert!(held_by.is_some_and(|holder| holder.contains(&name)), "the prepared transaction is named");
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s02_what_was_prepared_for_longer_than_the_cap_is_not_missed() {
    let mut systems = ten_people_without_overlap("prepared long").await;
    let mut slow = application(&systems).await;
    let name = systems.databases[0].name.clone();
    let edit = "begin; update person set phone = 'prepared', last_update = now() - interval '90 minutes' where id = 7";
    say(&mut slow, &format!("{edit}; prepare transaction '{name}'")).await;
    let known = systems.known("person", Side::Legacy);
    let before = known.watermark - chrono::TimeDelta::minutes(100);
    known.watermark = before;
    known.signature = None;
    // Each run moves the watermark on, and none of them may take what lies behind for done.
    let mut passed = Vec::new();
    for _ in 0..3 {
        systems.run().await;
        let known = systems.known("person", Side::Legacy);
        passed.push((known.debt, known.watermark > before));
    }
    say(&mut slow, &format!("commit prepared '{name}'")).await;
    systems.run().await;
    assert_eq!(phone(&systems, 7).await, ["prepared"], "what is stamped long before the watermark");
    assert_eq!(passed, [(Some(before), true); 3]);
    assert_eq!(systems.known("person", Side::Legacy).debt, None);
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s02_a_transaction_that_has_begun_and_not_written_is_not_missed() {
    begun_and_not_yet_written(ten_people_without_overlap("begun").await).await;
}

#[tokio::test]
async fn s02_a_prepared_transaction_is_not_missed() {
    prepared(ten_people_without_overlap("prepared").await).await;
}

/// What is logged while it lives, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panics here")).into_owned()
    }
}

#[tokio::test]
async fn s02_a_role_that_cannot_see_other_sessions_lags_and_says_so() {
    let mut systems = ten_people("blind").await;
    systems
        .on_legacy(
            "do $$ begin create role sync_bridge_blind login password 'blind';
               exception when duplicate_object or unique_violation then null; end $$;
             grant usage on schema public, sync_bridge to sync_bridge_blind;
             grant all on all tables in schema public, sync_bridge to sync_bridge_blind;
             grant all on all sequences in schema public, sync_bridge to sync_bridge_blind",
        )
        .await;
    let legacy = systems.databases[0].url.expose().to_owned();
    systems.restart_at(|url| match url == legacy {
        true => {
            let address = url.rsplit_once('@').expect("a URL with a password").1;
            DatabaseUrl::new(format!("postgres://sync_bridge_blind:blind@{address}"), address)
        }
        false => DatabaseUrl::new(url, "the platform"),
    });
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let mut slow = application(&systems).await;
    say(&mut slow, "begin; update person set phone = 'late', last_update = now() where id = 7").await;
    let started = started_at(&mut slow).await;
    let cut = systems.cut("person", Side::Legacy).await;
    drop(guard);
    assert!(cut.horizon < started - chrono::TimeDelta::minutes(4), "no lag: {} against {started}", cut.horizon);
    assert!(cut.held_by.is_some_and(|why| why.contains("grant pg_read_all_stats to sync_bridge_blind")));
    assert!(log.text().contains("WARN") && log.text().contains("cannot see other sessions"), "{}", log.text());
    systems.run().await;
    say(&mut slow, "commit").await;
    systems.run().await;
    assert_eq!(phone(&systems, 7).await, ["late"]);
    systems.oracles(&SAME).await;
}

async fn one_instant(mut systems: Systems) {
    let mut slow = application(&systems).await;
    say(&mut slow, "begin").await;
    let started = started_at(&mut slow).await;
    older_than_a_second(&systems, started).await;
    systems
        .on_legacy(&format!(
            "insert into person (id, email, last_update) select n, n || '@example.org', '{}' from generate_series(50, 55) n",
            started.to_rfc3339()
        ))
        .await;
    systems.run().await;
    assert_eq!(systems.platform_rows("select email from person where phone is null").await.len(), 6);
    say(
        &mut slow,
        "insert into person (id, email, last_update) values (20, '20@example.org', now()), (53000, '53000@example.org', now());
         update person set phone = 'same instant', last_update = now() where id = 52; commit",
    )
    .await;
    systems.run().await;
    let rows = "select email || coalesce(phone, '') from person where phone is null or phone <> '0' order by id";
    let expected = ["20", "50", "51", "52", "53", "54", "55", "53000"]
        .map(|id| format!("{id}@example.org{}", if id == "52" { "same instant" } else { "" }));
    let mut found = systems.platform_rows(rows).await;
    found.sort_by_key(|email| expected.iter().position(|other| other == email));
    assert_eq!(found, expected, "rows of the instant that was still filling");
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s04_an_instant_that_is_still_filling_is_read_again() {
    one_instant(ten_people("instant").await).await;
    // A transaction's own stamps are equal to its start: the horizon must lie before it.
    one_instant(ten_people_without_overlap("instant bare").await).await;
}

#[tokio::test]
async fn s05_stamps_a_microsecond_apart_arrive_once_each_over_pages_of_one_and_restarts() {
    let mut systems =
        people_with("precision", &[("match_on = [\"email\"]", "match_on = [\"email\"]\n  page_rows = 1")]).await;
    systems.run().await;
    systems
        .on_legacy(
            "insert into person (email, last_update)
             select n || '@example.org', case n when 9 then 'infinity'::timestamptz
               else date_trunc('second', now()) + interval '0.123456 s' + (n / 3) * interval '1 microsecond' end
             from generate_series(1, 9) n",
        )
        .await;
    let cut = systems.cut("person", Side::Legacy).await;
    assert_eq!(cut.ranges.len(), 9);
    for range in cut.ranges {
        systems.restart();
        let report = systems.run_page("person", Side::Legacy, range).await;
        assert_eq!((report.rows_read, report.rows_to_platform), (1, 1), "{report:?}");
    }
    assert_eq!(systems.platform_rows("select count(*)::text from person").await, ["9"]);
    systems.on_legacy("update person set phone = 'later', last_update = now() where id = 9").await;
    assert_eq!(systems.run().await.to_platform, 1);
    systems.oracles(&SAME).await;
}

/// A column of whole seconds rounds: a stamp may be stored as less than what the horizon already is.
async fn stored_as_less(hint: &str, change: &str) {
    let mut systems = ten_people_without_overlap(hint).await;
    systems.on_legacy(change).await;
    systems.restart();
    systems.settle().await;
    let mut slow = application(&systems).await;
    let early = "select pg_sleep(1.25 - extract(epoch from clock_timestamp())::numeric % 1)";
    say(&mut slow, early).await;
    say(&mut slow, "begin; update person set phone = 'late', last_update = now() where id = 7").await;
    let started = started_at(&mut slow).await;
    older_than_a_second(&systems, started).await;
    systems.run().await;
    say(&mut slow, "commit").await;
    assert_eq!(systems.run().await.to_platform, 1);
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s05_what_a_coarse_column_stores_as_less_than_the_horizon_is_not_missed() {
    stored_as_less("whole seconds", "alter table person alter last_update type timestamptz(0)").await;
    let domain = "create domain moment as timestamptz(0); create domain edited as moment; \
                  alter table person alter last_update type edited";
    stored_as_less("whole seconds' domain", domain).await;
}

#[tokio::test]
async fn s35_what_is_stamped_after_a_databases_clock_was_set_back_is_not_missed() {
    let mut systems = ten_people("set back").await;
    // The last run was by a clock that was half an hour ahead.
    let known = systems.known("person", Side::Legacy);
    let ahead = chrono::Duration::minutes(30);
    known.watermark += ahead;
    let signature = known.signature.as_mut().expect("a run");
    signature.since += ahead;
    (signature.rows, signature.hash) = (0, 0);
    let signature = signature.clone();
    systems.on_legacy("insert into person (email) values ('later@example.org')").await;
    let probe = Probe { entity: EntityId::new("person"), side: Side::Legacy, signature };
    assert!(systems.data.changed(&CustomerId::new(CUSTOMER), &[probe]).await.expect("an answer"), "nobody would look");
    let cut = systems.cut("person", Side::Legacy).await;
    assert!(cut.held_by.is_some_and(|why| why.contains("clock was set back")));
    assert_eq!(systems.run().await.to_platform, 1);
    systems.oracles(&SAME).await;
}

/// Every 50 ms, as a user's script would.
const HOT: Duration = Duration::from_millis(50);
const HOT_WRITES: u32 = 50;

#[tokio::test]
async fn s33_a_row_that_is_always_changing_arrives_again_and_again() {
    let mut systems = ten_people("hot").await;
    let pool = systems.legacy.clone();
    let writer = tokio::spawn(async move {
        let mut beat = tokio::time::interval(HOT);
        for n in 1..=HOT_WRITES {
            beat.tick().await;
            sqlx::query("update person set phone = $1, last_update = now() where id = 7")
                .bind(n.to_string())
                .execute(&pool)
                .await
                .expect("an edit");
        }
    });
    let mut seen: Vec<u32> = Vec::new();
    while !writer.is_finished() {
        systems.run().await;
        let value = phone(&systems, 7).await[0].parse().expect("a number");
        assert!(seen.last().is_none_or(|last| *last <= value), "an older value came back: {seen:?}, {value}");
        seen.push(value);
    }
    writer.await.expect("the writer");
    seen.dedup();
    assert!(seen.len() >= 4, "it was chased and seldom caught: {seen:?}");
    systems.oracles(&SAME).await;
    assert_eq!(phone(&systems, 7).await, [HOT_WRITES.to_string()]);
}

#[tokio::test]
async fn s34_a_reader_that_stays_holds_the_watermark_and_no_change() {
    let mut systems = ten_people("reader").await;
    let (mut readers, mut started) = (Vec::new(), Vec::new());
    for database in &systems.databases {
        let mut reader = PgConnection::connect(database.url.expose()).await.expect("a reader");
        say(&mut reader, "begin isolation level repeatable read; select count(*) from person").await;
        started.push(started_at(&mut reader).await);
        readers.push(reader);
    }
    for tick in 1..=10 {
        systems.on_legacy(&format!("update person set phone = 'l{tick}', last_update = now() where id = 1")).await;
        let edit = format!("update person set phone = 'p{tick}', updated_at = now() where email = '2@example.org'");
        systems.on_platform(&edit).await;
        let summary = systems.run().await;
        assert_eq!((summary.to_platform, summary.to_legacy), (1, 1), "tick {tick}: {summary:?}");
        assert_eq!(phone(&systems, 1).await, [format!("l{tick}")]);
        assert_eq!(systems.legacy_rows("select phone from person where id = 2").await, [format!("p{tick}")]);
    }
    for (side, started) in [Side::Legacy, Side::Platform].into_iter().zip(&started) {
        assert!(systems.known("person", side).watermark < *started, "{side}");
    }
    for reader in &mut readers {
        say(reader, "commit").await;
    }
    // It stays a second behind the clock.
    eventually("the watermarks catch up", async || {
        systems.run().await;
        let caught_up = |(side, started)| systems.known("person", side).watermark > started;
        [Side::Legacy, Side::Platform].into_iter().zip(started.clone()).all(caught_up)
    })
    .await;
    systems.oracles(&SAME).await;
}

async fn clock_behind(hint: &str) {
    let mut systems = ten_people(hint).await;
    systems.on_legacy("update person set phone = 'behind', last_update = now() - interval '30 s' where id = 3").await;
    systems.run().await;
    assert_eq!(phone(&systems, 3).await, ["behind"], "an edit by a clock that is 30 s behind");
    systems.oracles(&SAME).await;
}

#[tokio::test]
async fn s35_an_application_whose_clock_is_behind_is_not_missed() {
    clock_behind("behind").await;
}

#[tokio::test]
async fn s39_local_stamps_of_the_doubled_and_the_missing_hour_arrive() {
    let mut systems = people("doubled").await;
    systems.run().await;
    // Up to when changes were read, and a stamp that a row got after that.
    let cases = [
        ("2025-10-26T00:20:00Z", "2025-10-26 02:30:00"),
        // The clock went back at 03:00, an hour later by the sun it is 02:10 again.
        ("2025-10-26T00:50:00Z", "2025-10-26 02:10:00"),
        ("2025-10-26T00:59:59Z", "2025-10-26 02:00:00.000001"),
        ("2025-10-26T01:20:00Z", "2025-10-26 02:30:00"),
        ("2025-10-26T01:59:00Z", "2025-10-26 03:00:00"),
        // From 02:00 to 03:00 there is no local time; an application that does not know that writes it all the same.
        ("2026-03-29T00:59:00Z", "2026-03-29 02:00:30"),
        ("2026-03-29T01:20:00Z", "2026-03-29 02:25:00"),
        ("2026-03-29T01:20:00Z", "2026-03-29 03:21:00"),
    ];
    for (at, (watermark, stamp)) in cases.into_iter().enumerate() {
        let watermark = watermark.parse().expect("a literal");
        *systems.known("team", Side::Legacy) =
            Known { watermark, signature: None, debt: None, wal: None, done_before: Duration::ZERO };
        systems.on_legacy(&format!("insert into team (label, last_update) values ('t{at}', '{stamp}')")).await;
        systems.run().await;
        let found = systems.platform_rows(&format!("select name from team where name = 't{at}'")).await;
        assert_eq!(found.len(), 1, "stamped {stamp} after {watermark}");
    }
    systems.on_platform("update team set name = name || '!', updated_at = now()").await;
    systems.oracles(&SAME).await;
}

const LOCAL_STAGES: &str = r#"
[[stages]]
name = "identities"
  [[stages.entities]]
  id = "user"
  legacy = { database = "legacy", table = "users", key = "id", updated_at = "changed", timezone = "Europe/Berlin" }
  platform = { database = "platform", table = "users", key = "id" }
  match_on = "mail"
    [stages.entities.fields]
    mail = { legacy = "mail", platform = "mail" }
    name = { legacy = "name", platform = "name" }
    born = { legacy = "born", platform = "born" }
"#;

#[tokio::test]
async fn s39_local_time_means_the_sides_zone_whatever_the_process_thinks() {
    let [legacy, platform, queue] = [database("local l").await, database("local p").await, database("local q").await];
    let zone = format!("alter database \"{}\" set timezone = 'Europe/Berlin'", legacy.name);
    execute(&legacy, &zone).await;
    execute(
        &legacy,
        "set timezone = 'Europe/Berlin';
         create table users (id serial primary key, mail text unique, name text, born timestamp, changed timestamp default localtimestamp);
         create function touch() returns trigger language plpgsql as $$ begin new.changed := now(); return new; end $$;
         create trigger touch before update on users for each row execute function touch();
         insert into users (mail, name, born) values ('ada@example.org', 'Ada', '2000-07-01 12:00')",
    )
    .await;
    execute(
        &platform,
        "create table users (id uuid primary key, mail text unique, name text, born timestamptz, updated_at timestamptz default now())",
    )
    .await;
    let config = format!(
        "[queue]\nurl = \"${{QUEUE_URL}}\"\n[[customers]]\nid = \"c-1\"\nslug = \"acme\"\n\
         databases = {{ legacy = \"${{LEGACY_URL}}\", platform = \"${{PLATFORM_URL}}\" }}\n{LOCAL_STAGES}"
    );
    let desk = Desk::new("local", &config)
        .with("LEGACY_URL", legacy.url.expose())
        .with("PLATFORM_URL", platform.url.expose())
        .with("QUEUE_URL", queue.url.expose())
        .with("TZ", "America/New_York")
        .with("PGTZ", "Asia/Tokyo");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    let run = || -> (i64, i64) {
        let report: serde_json::Value =
            serde_json::from_str(&desk.succeeds(&["run", "--customer", "acme", "--inline", "--json"])).expect("JSON");
        (report["rows_to_platform"].as_i64().expect("a number"), report["rows_to_legacy"].as_i64().expect("a number"))
    };
    assert_eq!(run(), (1, 0));
    execute(&legacy, "set timezone = 'Europe/Berlin'; update users set name = 'Ada L.'").await;
    assert_eq!(run(), (1, 0), "an edit stamped with local time");
    execute(&platform, "update users set name = 'Ada K.', born = '2000-01-01 12:00+01', updated_at = now()").await;
    assert_eq!(run(), (0, 1));
    let mut session = PgConnection::connect(legacy.url.expose()).await.expect("a session");
    let stored: String = sqlx::query_scalar(
        "select concat_ws('|', name, born, abs(extract(epoch from changed - (now() at time zone 'Europe/Berlin'))) < 120) from users",
    )
    .fetch_one(&mut session)
    .await
    .expect("a row");
    assert_eq!(stored, "Ada K.|2000-01-01 12:00:00|t");
    assert_eq!(run(), (0, 0), "its own stamp is no edit");
}
