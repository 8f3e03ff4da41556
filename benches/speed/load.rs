//! The first load of a table: every row is new on the other side.

use std::time::Instant;

use futures::StreamExt as _;
use sqlx::PgConnection;

use super::Figure;
use super::peers::Peers;
use super::place::Place;

/// MB that a worker may hold.
const MEMORY_MAX: f64 = 80.0;

pub async fn load(place: &Place, rows: u32, peers: &Peers) -> Vec<Figure> {
    place.people(rows).await;
    let copy = copied(place).await;
    let upsert = upserted(place).await;
    place.execute("copied", "vacuum analyze people").await;
    let peers = peers.load(place).await;
    place.execute("postgres", "checkpoint").await;
    let (ended, said) = place.run();
    assert_eq!(said["rows_to_platform"], rows, "{said}");
    // What was written is stamped, so the next run looks at it once more.
    let (echo, said) = place.run();
    assert_eq!((&said["rows_to_platform"], &said["rows_to_legacy"]), (&0.into(), &0.into()), "{said}");
    place.settle().await;
    place.execute("platform", "vacuum analyze").await;
    let bytes = place
        .number(
            "platform",
            "select pg_total_relation_size('sync_bridge.pair')::float8 / greatest(1, (select count(*) from sync_bridge.pair))",
        )
        .await;
    let each = |secs: f64| secs * 1e6 / f64::from(rows);
    let mut figure = Figure::of(format!("first load of {rows} rows"), "s", &[ended.secs])
        .beside("COPY to COPY", copy)
        .beside("COPY and upsert with UUID keys", upsert);
    let mut memory = Figure::of("  memory of the worker", "MB", &[ended.peak]).at_most(MEMORY_MAX);
    for (name, secs, peak) in peers {
        figure = figure.beside(name, secs);
        memory = memory.beside(name, peak);
        if name == "sling" {
            figure = figure.at_most(secs);
        }
    }
    vec![
        figure,
        Figure::of("  each row", "us", &[each(ended.secs)]).beside("COPY and upsert", each(upsert)),
        Figure::of("  the look afterwards at what was written", "s", &[echo.secs]),
        memory,
        Figure::of("  bytes of the ledger for each pair", "B", &[bytes]),
    ]
}

/// The rows as they are, key and index kept.
async fn copied(place: &Place) -> f64 {
    place.anew("copied").await;
    let mut from = place.connect("legacy").await;
    let mut to = place.connect("copied").await;
    sqlx::raw_sql(
        "create table people (id bigint primary key, email text not null, first_name text, last_name text, phone text,
         active char(1) not null, group_id bigint, created_at timestamptz not null, updated_at timestamptz not null);
         create index on people (updated_at, id)",
    )
    .execute(&mut to)
    .await
    .expect("a table");
    let began = Instant::now();
    carry(&mut from, "copy people to stdout (format binary)", &mut to, "copy people from stdin (format binary)").await;
    began.elapsed().as_secs_f64()
}

/// The rows with a key of the kind that ours have, by an upsert that keeps what is newer.
pub async fn upserted(place: &Place) -> f64 {
    place.anew("upserted").await;
    let mut from = place.connect("legacy").await;
    let mut to = place.connect("upserted").await;
    sqlx::raw_sql(super::people::PLATFORM).execute(&mut to).await.expect("a table");
    let began = Instant::now();
    sqlx::raw_sql("create temp table new (like person)").execute(&mut to).await.expect("a table");
    carry(
        &mut from,
        "copy (select md5(id::text)::uuid, lower(email), first_name || ' ' || last_name, phone, active = 'Y', group_id, created_at, updated_at \
         from people) to stdout (format binary)",
        &mut to,
        "copy new from stdin (format binary)",
    )
    .await;
    sqlx::raw_sql(
        "insert into person select * from new on conflict (id) do update set email = excluded.email, display_name = excluded.display_name, \
         phone = excluded.phone, active = excluded.active, group_no = excluded.group_no, joined_at = excluded.joined_at, \
         updated_at = excluded.updated_at where person.updated_at <= excluded.updated_at",
    )
    .execute(&mut to)
    .await
    .expect("an upsert");
    began.elapsed().as_secs_f64()
}

async fn carry(from: &mut PgConnection, out: &str, to: &mut PgConnection, into: &str) {
    let mut rows = from.copy_out_raw(out).await.expect("reading");
    let mut sink = to.copy_in_raw(into).await.expect("writing");
    while let Some(bytes) = rows.next().await {
        sink.send(bytes.expect("rows")).await.expect("writing");
    }
    sink.finish().await.expect("writing");
}
