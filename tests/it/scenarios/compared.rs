//! The bridge's comparison held against the slow one, over tables that were damaged at random: both name the same rows. A seed makes a round.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::sync::Arc;
use sync_bridge::config::Config;

use super::sweeps::{sweep, verified};
use crate::support::bridge::{Bridge, GRACE, page_rows};
use crate::support::queue::queue;
use crate::support::slow::{Named, Slow, compare, named};
use crate::support::systems::Systems;

/// What a text says, by PostgreSQL's own reading; none where it says nothing of the kind.
const SAID: &str = "
    create function said(text, regtype) returns text language plpgsql immutable as $$
      declare said text;
      begin
        execute format('select %L::%s::text', $1, $2) into said;
        return said;
      exception when data_exception then return null;
      end $$;
    create extension citext;";

const LEGACY: &str = "
    create table item (
      id serial primary key, code citext not null unique, name text, note text, email text, amount text, at timestamp, seen text,
      born text, ref text, kind char(4), flag text, doc json, tenant text not null default 'a', state text not null default 'open',
      last_update timestamptz not null default now());
    create index on item (last_update, id);
    create table line (id serial primary key, item integer, body text, last_update timestamptz not null default now());
    create index on line (last_update, id);";

const PLATFORM: &str = "
    create table item (
      id uuid primary key, code text not null, name text, note text, email text, amount numeric, at timestamptz, seen timestamptz,
      born date, ref uuid, kind text, flag boolean, doc jsonb, hidden boolean, updated_at timestamptz not null default now());
    create index on item (updated_at, id);
    create unique index on item (lower(code));
    create table line (id uuid primary key, item_id uuid, body text, updated_at timestamptz not null default now());
    create index on line (updated_at, id);";

const STAGES: &str = r#"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "item"
  legacy = { database = "legacy", table = "item", key = "id", updated_at = "last_update", timezone = "Europe/Berlin", scope = { tenant = "a" }, where = "state <> 'shut'" }
  platform = { database = "platform", table = "item", key = "id", where = "hidden is not true" }
  match_on = ["code"]
    [stages.entities.fields]
    code = { legacy = "code", platform = "code" }
    name = { legacy = "name", platform = "name", null = { legacy = "" } }
    note = { legacy = "note", platform = "note" }
    email = { legacy = "email", platform = "email", lens = ["trim", "lowercase"] }
    amount = { legacy = "amount", platform = "amount" }
    at = { legacy = "at", platform = "at" }
    seen = { legacy = "seen", platform = "seen" }
    born = { legacy = "born", platform = "born" }
    ref = { legacy = "ref", platform = "ref" }
    kind = { legacy = "kind", platform = "kind" }
    flag = { legacy = "flag", platform = "flag", lens = { bool = ["Y", "N"] } }
    doc = { legacy = "doc", platform = "doc" }
  [[stages.entities]]
  id = "line"
  legacy = { database = "legacy", table = "line", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "line", key = "id" }
    [stages.entities.fields]
    item = { legacy = "item", platform = "item_id", lens = { ref = "item" } }
    body = { legacy = "body", platform = "body" }
"#;

/// The tables as a person reads them. What a text does not say stands as it is, which nothing on the other side can be.
const SLOW: [Slow; 2] = [
    Slow {
        entity: "item",
        legacy: "select id::text as key, lower(code::text) as natural, null::text as refers, state = 'shut' as rests,
            case when flag in ('Y', 'N') or flag is null then jsonb_build_array(
                code::text, nullif(name, ''), note, lower(btrim(email, E' \\t\\n')),
                coalesce(trim_scale(said(amount, 'numeric')::numeric)::text, '?' || amount),
                at at time zone 'Europe/Berlin' at time zone 'UTC',
                coalesce((said(seen, 'timestamptz')::timestamptz at time zone 'UTC')::text, '?' || seen),
                coalesce(said(born, 'date'), '?' || born), coalesce(said(ref, 'uuid'), '?' || ref), kind::text, flag = 'Y',
                jsonb_hash_extended(doc::jsonb, 0))::text end as holds
            from item where tenant = 'a'",
        platform: "select id::text as key, lower(code) as natural, null::text as refers, coalesce(hidden, false) as rests,
            jsonb_build_array(
                code, nullif(name, ''), note, lower(btrim(email, E' \\t\\n')), trim_scale(amount)::text, at at time zone 'UTC',
                (seen at time zone 'UTC')::text, born::text, ref::text, kind, flag, jsonb_hash_extended(doc, 0))::text as holds
            from item",
        refers_to: None,
    },
    Slow {
        entity: "line",
        legacy: "select id::text as key, null::text as natural, item::text as refers, false as rests,
            jsonb_build_array(body)::text as holds from line",
        platform: "select id::text as key, null::text as natural, item_id::text as refers, false as rests,
            jsonb_build_array(body)::text as holds from line",
        refers_to: Some("item"),
    },
];

/// What a column may come to hold on legacy and on the platform, as SQL: the same in other words, almost the same, and else.
const VALUES: [(&str, &[&str], &[&str]); 11] = [
    (
        "name",
        &["null", "''", "' '", "'Ann'", "'Ann '", "'ann'", "'Zo\u{eb}'"],
        &["null", "''", "' '", "'Ann'", "'Zo\u{eb}'", "'Zoe\u{308}'"],
    ),
    (
        "note",
        &["null", "''", "' '", "'x'", "E'x\\t'", "'\u{1f600}'"],
        &["null", "''", "' '", "'x'", "'x '", "'\u{1f600}'"],
    ),
    (
        "email",
        &["null", "''", "' '", "'a@b.example'", "' A@B.example'", "E'a@b.example\\t'"],
        &["null", "''", "'a@b.example'", "'A@b.example '"],
    ),
    (
        "amount",
        &[
            "null", "'1.5'", "'1.50'", "'+1.5'", "'15e-1'", "' 1.5 '", "'001.5'", "'1,5'", "'twelve'", "'NaN'", "'-0'",
            "''",
        ],
        &["null", "1.5", "1.500", "'NaN'", "0", "0.00", "12"],
    ),
    (
        "at",
        &["null", "'2026-07-01 12:00'", "'2026-01-01 12:00:00.5'", "'2026-01-01 12:00'", "'infinity'"],
        &[
            "null",
            "'2026-07-01 10:00+00'",
            "'2026-07-01 15:30+05:30'",
            "'2026-01-01 11:00:00.5+00'",
            "'2026-07-01 12:00+00'",
            "'infinity'",
        ],
    ),
    (
        "seen",
        &[
            "null",
            "'2026-07-01 12:00:00+02'",
            "'2026-07-01 10:00:00+00'",
            "'2026-07-01 10:00:00.500+00'",
            "'2026-07-01 05:00:00.5-05'",
            "'soon'",
        ],
        &["null", "'2026-07-01 10:00:00+00'", "'2026-07-01 10:00:00.5+00'", "'2026-07-01 12:00:00+00'"],
    ),
    ("born", &["null", "'1990-02-03'", "'1990-02-04'", "'in may'", "''"], &["null", "'1990-02-03'", "'1990-02-04'"]),
    (
        "ref",
        &["null", "'0f0e0d0c-0000-4000-8000-00000000000a'", "'0F0E0D0C-0000-4000-8000-00000000000A'", "'none'"],
        &["null", "'0f0e0d0c-0000-4000-8000-00000000000a'", "'0f0e0d0c-0000-4000-8000-00000000000b'"],
    ),
    ("kind", &["null", "''", "'ab'", "'ab  '", "' ab'", "'AB'"], &["null", "''", "'ab'", "'ab '", "' ab'"]),
    ("flag", &["null", "'Y'", "'N'", "'X'", "'y'"], &["null", "true", "false"]),
    (
        "doc",
        &[
            "null",
            "'null'",
            r#"'{"a": 1, "b": [1, 2]}'"#,
            r#"'{"b":[1,2.0],"a":1e0}'"#,
            r#"'{"a": 2, "a": 1, "b": [1, 2]}'"#,
            r#"'{"b": [2, 1], "a": 1}'"#,
        ],
        &[
            "null",
            "'null'",
            r#"'{"a": 1, "b": [1, 2]}'"#,
            r#"'{"a": 1.0, "b": [1, 2]}'"#,
            r#"'{"a": "1", "b": [1, 2]}'"#,
        ],
    ),
];

/// As many as there are at first; a third of them has a line.
const ITEMS: u32 = 1000;
/// Damages a round.
const DAMAGES: u32 = 200;
const ROUNDS: u64 = 4;
/// After this one runs do what they can.
const REPAIRED: u64 = 2;

struct World {
    bridge: Bridge,
    dice: StdRng,
    /// Items and lines made so far, by number.
    items: u32,
}

impl World {
    async fn new(hint: &str) -> World {
        let [legacy, platform] = [LEGACY, PLATFORM].map(|tables| format!("{SAID}{tables}"));
        let systems = Systems::new(hint, &legacy, &platform, STAGES).await;
        let mut config = Config::clone(&systems.config);
        page_rows(&mut config, 250);
        let bridge = Bridge { systems, queue: queue(hint).await, config: Arc::new(config) };
        bridge
            .systems
            .on_legacy(&format!(
                "insert into item (code, name, note, email, amount, at, seen, born, kind, flag, doc)
                 select case n % 3 when 0 then 'C' else 'c' end || n, nullif('n' || n % 7, 'n0'), 'x', n || '@b.example', n % 9 || '.50',
                   '2026-07-01 12:00', '2026-07-01 12:00:00+02', '1990-02-03', 'ab', (array['Y', 'N', null])[1 + n % 3],
                   json_build_object('n', n, 'a', 1.50) from generate_series(1, {ITEMS}) n;
                 insert into line (item, body) select nullif(id, 9), 'l' || id from item where id % 3 = 0"
            ))
            .await;
        World { bridge, dice: StdRng::seed_from_u64(0), items: ITEMS }
    }

    fn below(&mut self, count: u32) -> u32 {
        self.dice.random_range(0..count)
    }

    fn one_of<'a>(&mut self, values: &[&'a str]) -> &'a str {
        values[self.below(values.len() as u32) as usize]
    }

    /// What is done to legacy and to the platform.
    fn damage(&mut self) -> [String; 2] {
        let code = format!("c{}", 1 + self.below(self.items));
        let [l, p] = ["legacy", "platform"].map(|_| format!("lower(code::text) = '{code}'"));
        let none = String::new;
        let stamped = self.below(4) == 0;
        let [l_stamp, p_stamp] = match stamped {
            true => [", last_update = clock_timestamp()", ", updated_at = clock_timestamp()"],
            false => ["", ""],
        };
        let both = self.below(3);
        let on = |legacy: String, platform: String| match both {
            0 => [legacy, none()],
            1 => [none(), platform],
            _ => [legacy, platform],
        };
        match self.below(20) {
            // A column, on one side or on both.
            0..10 => {
                let (column, legacy, platform) = VALUES[self.below(VALUES.len() as u32) as usize];
                let (legacy, platform) = (self.one_of(legacy), self.one_of(platform));
                on(
                    format!("update item set {column} = {legacy}{l_stamp} where {l}"),
                    format!("update item set {column} = {platform}{p_stamp} where {p}"),
                )
            }
            10 => on(
                format!("update item set code = upper(code::text) where {l}"),
                format!("update item set code = upper(code) where {p}"),
            ),
            11 => on(format!("delete from item where {l}"), format!("delete from item where {p}")),
            // Out of sight and back.
            12 => {
                let (state, hidden) = (self.one_of(&["'shut'", "'open'"]), self.one_of(&["true", "false", "null"]));
                on(
                    format!("update item set state = {state}{l_stamp} where {l}"),
                    format!("update item set hidden = {hidden}{p_stamp} where {p}"),
                )
            }
            13 => {
                let tenant = self.one_of(&["a", "b"]);
                [format!("update item set tenant = '{tenant}' where {l}"), none()]
            }
            // Made by hand, on one side or as the same record on both.
            14 | 15 => {
                self.items += 1;
                let n = self.items;
                let (amount, rest) =
                    (self.one_of(&["'1.50'", "'2'", "'x'"]), self.one_of(&["'shut'", "'open'", "'open'"]));
                let (number, hidden) = (self.one_of(&["1.5", "2"]), self.one_of(&["true", "null", "false"]));
                on(
                    format!("insert into item (code, amount, state) values ('C{n}', {amount}, {rest})"),
                    format!(
                        "insert into item (id, code, amount, hidden) values (gen_random_uuid(), 'c{n}', {number}, {hidden})"
                    ),
                )
            }
            16 => {
                let (legacy, platform) =
                    (self.one_of(&["null", "''", "'x'", "'x '"]), self.one_of(&["null", "''", "'x'"]));
                on(
                    format!("update line set body = {legacy}{l_stamp} where item in (select id from item where {l})"),
                    format!(
                        "update line set body = {platform}{p_stamp} where item_id in (select id from item where {p})"
                    ),
                )
            }
            // To another record, or to one that is nowhere.
            17 => {
                let other = format!("lower(code::text) = 'c{}'", 1 + self.below(self.items));
                let [legacy, platform] = match self.below(3) {
                    0 => ["null".to_owned(), "null".to_owned()],
                    1 => ["-1".to_owned(), "gen_random_uuid()".to_owned()],
                    _ => [(); 2].map(|()| format!("(select id from item where {other})")),
                };
                on(
                    format!("update line set item = {legacy}{l_stamp} where item in (select id from item where {l})"),
                    format!(
                        "update line set item_id = {platform}{p_stamp} where item_id in (select id from item where {p})"
                    ),
                )
            }
            18 => on(
                format!("delete from line where item in (select id from item where {l})"),
                format!("delete from line where item_id in (select id from item where {p})"),
            ),
            _ => on(
                format!("insert into line (item, body) select id, 'new' from item where {l}"),
                format!("insert into line (id, item_id, body) select gen_random_uuid(), id, 'new' from item where {p}"),
            ),
        }
    }

    async fn hurt(&mut self, seed: u64) {
        self.dice = StdRng::seed_from_u64(seed);
        let (mut legacy, mut platform) = (Vec::new(), Vec::new());
        for _ in 0..DAMAGES {
            let [l, p] = self.damage();
            legacy.push(l);
            platform.push(p);
        }
        self.bridge.systems.on_legacy(&legacy.join(";\n")).await;
        self.bridge.systems.on_platform(&platform.join(";\n")).await;
    }

    /// Both comparisons name the same; answers how many rows that is.
    async fn agree(&self, told: &str) -> usize {
        let [shallow, deep] = [verified(&self.bridge, false).await, verified(&self.bridge, true).await];
        let mut all = 0;
        for slow in &SLOW {
            let found = compare(&self.bridge.systems, slow).await;
            all += found.differ.len();
            for (deep, verified) in [(false, &shallow), (true, &deep)] {
                let named = named(verified, slow.entity);
                let what = format!("{told}, {}, deep: {deep}", slow.entity);
                let of_bridge: BTreeSet<&Named> = named.keys().collect();
                let missed: Vec<_> = found.differ.iter().filter(|(key, _)| !of_bridge.contains(key)).collect();
                assert!(missed.is_empty(), "{what}: not named: {missed:#?}");
                let may = |key: &Named| found.differ.contains_key(key) || found.dangle.contains(key);
                let wrongly: Vec<_> = named.iter().filter(|(key, _)| !may(key)).collect();
                assert!(wrongly.is_empty(), "{what}: named, though equal: {wrongly:#?}");
                let dangling: Vec<_> = found.dangle.iter().filter(|key| deep && !of_bridge.contains(key)).collect();
                assert!(dangling.is_empty(), "{what}: not named: {dangling:#?}");
            }
        }
        all
    }

    /// A run over whole tables, after which what was seen gone is seen gone for long enough.
    async fn repair(&self) {
        for _ in 0..2 {
            let sql = "update bridge.absence set first_seen = first_seen - interval '2 h'";
            sqlx::raw_sql(sql).execute(&self.bridge.queue.pool).await.expect("letting time pass");
            sweep(&self.bridge).await;
            self.bridge.settle().await;
        }
    }
}

#[tokio::test]
async fn the_slow_comparison_and_the_bridges_name_the_same_rows() {
    let mut world = World::new("compared").await;
    let worker = world.bridge.work(GRACE);
    world.bridge.settle().await;
    sweep(&world.bridge).await;
    assert_eq!(world.agree("at first").await, 0);
    for seed in 1..=ROUNDS {
        world.hurt(seed).await;
        let named = world.agree(&format!("seed {seed}")).await;
        assert!((50..1000).contains(&named), "seed {seed}: {named}");
        // What runs leave is compared as well: rows that cannot be written, ended pairs, and what waits.
        if seed == REPAIRED {
            world.repair().await;
            let left = world.agree(&format!("seed {seed}, repaired")).await;
            assert!(left < named, "seed {seed}: {left} of {named} are left");
        }
    }
    worker.stop().await;
}
