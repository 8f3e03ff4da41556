//! The tests' own ground: one server, a database each, templates made once.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, PgConnection};
use sync_bridge::config::DatabaseUrl;

use crate::support::{Template, database, database_from, server, template};

static FILLED: AtomicU32 = AtomicU32::new(0);

async fn words() -> Template {
    template("words", async |url| {
        FILLED.fetch_add(1, Ordering::SeqCst);
        let mut connection = PgConnection::connect(url.expose()).await?;
        sqlx::raw_sql("create table word (it text primary key); insert into word values ('one'), ('two')")
            .execute(&mut connection)
            .await?;
        Ok(connection.close().await?)
    })
    .await
}

async fn count(url: &DatabaseUrl, question: &'static str) -> i64 {
    let mut connection = PgConnection::connect(url.expose()).await.expect("connecting to a test's database");
    let count = sqlx::query_scalar(question).fetch_one(&mut connection).await.expect("counting");
    connection.close().await.expect("leaving a test's database");
    count
}

#[tokio::test]
async fn a_template_is_filled_once_and_its_copies_are_apart() {
    let (one, two, three) = tokio::join!(words(), words(), words());
    assert!(FILLED.load(Ordering::SeqCst) <= 1);
    let (one, two, three) = tokio::join!(
        database_from("words one", &one),
        database_from("words two", &two),
        database_from("words three", &three)
    );
    assert_eq!(count(&one.url, "with gone as (delete from word returning it) select count(*) from gone").await, 2);
    assert_eq!(count(&one.url, "select count(*) from word").await, 0);
    assert_eq!(count(&two.url, "select count(*) from word").await, 2);
    assert_eq!(count(&three.url, "select count(*) from word").await, 2);
}

#[tokio::test]
async fn a_database_is_dropped_with_its_last_connection_open() {
    let database = database("open").await;
    let name = database.name.clone();
    let _open = PgConnection::connect(database.url.expose()).await.expect("connecting to a test's database");
    drop(database);
    let mut admin =
        PgConnection::connect(server().await.url("postgres").expose()).await.expect("connecting to the server");
    let there: bool = sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(&mut admin)
        .await
        .expect("looking for the database");
    assert!(!there);
}

#[tokio::test]
async fn an_error_of_the_database_is_said_once_and_without_values() {
    let database = database("told").await;
    let mut connection = PgConnection::connect(database.url.expose()).await.expect("connecting to a test's database");
    let mut told = async |sql: &str| match sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await {
        Ok(_) => String::new(),
        Err(error) => sync_bridge::told::told(&anyhow::Error::from(error).context("asking")),
    };
    let missing = "asking: error returned from database: relation \"nowhere\" does not exist";
    assert_eq!(told("select from nowhere").await, missing);
    let unread = "asking: error returned from database: a value does not fit its type [22P02]";
    assert_eq!(told("select 'a secret'::int").await, unread);
    let unread = "asking: error returned from database: a value does not fit its type [2201B]";
    assert_eq!(told("select 'a' ~ '(a secret'").await, unread);
    let long = "asking: error returned from database: value too long for type character varying(1)";
    assert_eq!(told("create temporary table short as select ''::varchar(1) as it").await, "");
    assert_eq!(told("insert into short values ('a secret')").await, long);
    // What a function says is in words of its author, whatever it says that it is.
    for (made, found) in [
        ("raise exception 'no table for %', given using errcode = '42P01'", "at RAISE [42P01]"),
        ("raise exception '%', given", "at RAISE [P0001]"),
        ("execute format('select %I', given)", "at EXECUTE [42703]"),
        ("perform given::int", "at PERFORM [22P02]"),
    ] {
        let body = format!("begin {made}; end");
        told(&format!("create or replace function says(given text) returns void language plpgsql as $${body}$$")).await;
        let said = format!(
            "asking: error returned from database: a function of the database failed: PL/pgSQL function says(text) line 1 {found}"
        );
        assert_eq!(told("select says('a secret')").await, said);
    }
    let two =
        "create function divides(given text) returns int language sql as 'select 1; select 1 / (length(given) - 8)'";
    assert_eq!(told(two).await, "");
    let divided = "asking: error returned from database: a function of the database failed [22012]";
    assert_eq!(told("select divides('a secret')").await, divided);
}
