//! What counts as done survives a crash of the server that holds it, also where commits wait for no disk by default.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use sync_bridge::config::Side;
use sync_bridge::embedded::{Options, Server};
use sync_bridge::ledger::job;
use sync_bridge::queue::{self, Kind};

use crate::support::faults::crash_at;
use crate::support::systems::{Systems, run_page};
use crate::support::{Folder, TestDatabase, database};

const LEGACY: &str =
    "create table item (id serial primary key, name text, last_update timestamptz not null default now())";
const PLATFORM: &str = "create table item (id uuid primary key default gen_random_uuid(), name text, updated_at timestamptz not null default now())";
const STAGES: &str = r#"
[[stages]]
name = "items"
  [[stages.entities]]
  id = "item"
  legacy = { database = "legacy", table = "item", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "item", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#;
const NAMES: &str = "select name from item order by name";

/// Notes for what commits wait that write to a table.
fn noting(table: &str) -> String {
    format!("create trigger note after insert or update on {table} for each statement execute function note()")
}

const NOTE: &str = "create table noted (what text, waits text);
    create function note() returns trigger language plpgsql as $$ begin
      if current_setting('application_name') like 'sync-bridge%' then
        insert into public.noted values (tg_table_name, current_setting('synchronous_commit'));
      end if;
      return null;
    end $$";

async fn noted(pool: &PgPool) -> BTreeSet<String> {
    let sql = "select what || '|' || waits from noted";
    let noted: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.expect("reading notes");
    noted.into_iter().collect()
}

/// For what the bridge's transactions wait, where sessions wait for `default`.
async fn waits(default: &str) -> [BTreeSet<String>; 2] {
    let mut systems = Systems::new(&format!("waits {default}"), LEGACY, PLATFORM, STAGES).await;
    for (database, pool, ours) in [
        (&systems.databases[0], &systems.legacy, "sync_bridge.receipt"),
        (&systems.databases[1], &systems.platform, "sync_bridge.pair"),
    ] {
        let default = format!("alter database \"{}\" set synchronous_commit = {default}", database.name);
        for sql in [&default, NOTE, &noting("item"), &noting(ours)] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.expect("making notes");
        }
    }
    systems.restart();
    systems.on_legacy("insert into item (name) values ('l')").await;
    systems.on_platform("insert into item (name) values ('p'), ('q')").await;
    // An intent that is made void, too.
    let range = systems.cut("item", Side::Platform).await.ranges.remove(0);
    crash_at("platform.after_commit", run_page(&systems.data, "item", Side::Platform, range)).await;
    systems.settle().await;
    systems.both_hold(NAMES, NAMES, &["l", "p", "q"]).await;
    [noted(&systems.legacy).await, noted(&systems.platform).await]
}

#[tokio::test]
async fn who_writes_waits_for_the_disk_where_commits_would_not_and_for_more_where_they_do() {
    for (default, expected) in
        [("off", "on"), ("local", "on"), ("remote_write", "remote_write"), ("remote_apply", "remote_apply")]
    {
        let all = |ours: &str| BTreeSet::from([format!("item|{expected}"), format!("{ours}|{expected}")]);
        assert_eq!(waits(default).await, [all("receipt"), all("pair")], "where the default is {default}");
    }
}

#[tokio::test]
async fn sessions_of_the_queue_wait_for_the_disk_where_commits_would_not_and_for_more_where_they_do() {
    for (default, expected) in [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")] {
        let database: TestDatabase = database(&format!("queue {default}")).await;
        let pool = PgPool::connect(database.url.expose()).await.expect("connecting");
        let sql = format!("alter database \"{}\" set synchronous_commit = {default}", database.name);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect("a default");
        let pool = queue::connect(&database.url).await.expect("connecting to the queue");
        let ask = "show synchronous_commit";
        let pooled: String = sqlx::query_scalar(ask).fetch_one(&pool).await.expect("an answer");
        let mut session = queue::session(&pool).await.expect("a session");
        let alone: String = sqlx::query_scalar(ask).fetch_one(&mut session).await.expect("an answer");
        assert_eq!([pooled, alone], [expected, expected], "where the default is {default}");
    }
}

/// A dump that is restored over the database makes its extensions anew: what a connection knows them by is nobody's any more.
#[tokio::test]
async fn a_queue_database_that_was_restored_under_its_connections_is_written_to() {
    let database = crate::support::queue::queue("restored under").await.database;
    let pool = queue::connect(&database.url).await.expect("connecting to the queue");
    let push = async |conn: &mut PgConnection, subject: i64| {
        let mut transaction = conn.begin().await.expect("a transaction");
        let jobs = job::insert(&mut transaction, Kind::Page, &[("acme".to_owned(), subject)]).await.expect("a job");
        queue::enqueue(&mut transaction, &jobs).await?;
        transaction.commit().await
    };
    // Several, each of which knows it by then.
    let mut all = Vec::new();
    for subject in 1..=4 {
        let mut conn = queue::acquire(&pool).await.expect("a connection");
        push(&mut conn, subject).await.expect("a delivery");
        all.push(conn);
    }
    drop(all);
    let anew = "alter table apalis.jobs drop column metadata; drop extension hstore; create extension hstore;
        alter table apalis.jobs add column metadata hstore default ''";
    sqlx::raw_sql(anew).execute(&pool).await.expect("another hstore");
    let mut failed = 0;
    for subject in 5..=12 {
        let mut conn = queue::acquire(&pool).await.expect("a connection");
        failed += u32::from(push(&mut conn, subject).await.is_err());
    }
    assert!(failed <= 1, "the first could not know: {failed}");
}

#[tokio::test]
async fn what_is_settled_is_there_after_a_crash_of_a_server_that_commits_before_it_writes() {
    let folder = Folder::new("lazy-commits");
    let lazy = [("synchronous_commit", "off"), ("wal_writer_delay", "10s"), ("autovacuum", "off")];
    let extra = lazy.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let options = Options { fsync: false, extra, ..Options::default() };
    let server = Server::start_with(folder.path(), options).await.expect("starting a server");
    for name in ["legacy", "platform"] {
        server.create_database(name).await.expect("a database");
    }
    let urls = || [server.url("legacy"), server.url("platform")];
    let mut systems = Systems::at(urls(), LEGACY, PLATFORM, STAGES).await;
    systems.on_legacy("insert into item (name) values ('a'), ('b')").await;
    systems.settle().await;
    // The applications know what they want.
    let edit = |table| format!("begin; set local synchronous_commit = on; {table}; commit");
    systems.on_legacy(&edit("update item set name = 'a2', last_update = clock_timestamp() where name = 'a'")).await;
    systems.on_platform(&edit("update item set name = 'b2', updated_at = clock_timestamp() where name = 'b'")).await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.to_legacy), (1, 1), "{summary:?}");
    server.crash().await.expect("a crash");
    server.restart().await.expect("a restart");
    let [legacy, platform] = urls();
    systems.legacy = PgPool::connect(legacy.expose()).await.expect("connecting");
    systems.platform = PgPool::connect(platform.expose()).await.expect("connecting");
    systems.restart();
    systems.both_hold(NAMES, NAMES, &["a2", "b2"]).await;
    systems.settle().await;
    drop(systems);
    server.remove().await.expect("removing the server");
}
