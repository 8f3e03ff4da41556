//! Records of one table on one side and of three on the other, joined by key, in either direction: one record, written in one
//! transaction, whichever of its rows was edited.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use sync_bridge::config::{CustomerId, Severity, Side};
use sync_bridge::stages::{Key, Lane, ParkedReason, Range};

use super::deletes::look;
use super::guards::begun;
use crate::support::bridge::{Bridge, GRACE};
use crate::support::eventually;
use crate::support::faults::{crash_at, meanwhile};
use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Same, Systems, keys, run_page};

const WIDE: &str = "
    create schema crm;
    create table crm.people (
      id {id}, email text not null unique, name text, phone text, city text, gone boolean not null default false,
      updated_at timestamptz not null default now());
    create index on crm.people (updated_at, id);
";

const NARROW: &str = r#"
    create schema crm;
    create table crm.person (
      id {id}, email text not null unique, name text, gone boolean not null default false,
      updated_at timestamptz not null default now());
    create index on crm.person (updated_at, id);
    create table crm."Profile" (
      person_id {key} primary key references crm.person, "the.phone" text check ("the.phone" <> 'poison'),
      origin text not null, changed timestamptz not null default now());
    create index on crm."Profile" (changed, person_id);
    create table crm.address (
      owner {key} primary key references crm.person, city text, updated_at timestamptz not null default now());
    create index on crm.address (updated_at, owner);
"#;

const STAGES: &str = r#"
[[stages]]
name = "all"

  [[stages.entities]]
  id = "person"
  {wide} = { database = "{wide}", table = "crm.people", key = "id", deleted = { column = "gone", yes = "true", no = "false" } }
  {narrow} = { database = "{narrow}", table = "crm.person", key = "id", deleted = { column = "gone", yes = "true", no = "false" }, also = { profile = { table = "crm.Profile", key = "person_id", updated_at = "changed" }, home = { table = "crm.address", key = "owner" } } }
  match_on = ["email"]
  page_rows = 8
    [stages.entities.fields]
    email = { {wide} = "email", {narrow} = "email", lens = "lowercase" }
    name = { {wide} = "name", {narrow} = "name" }
    phone = { {wide} = "phone", {narrow} = "profile.the.phone" }
    city = { {wide} = "city", {narrow} = "home.city" }
    origin = { {narrow} = "profile.origin", lens = { constant = "bridge" } }
"#;

const WIDE_ROWS: &str =
    "select id::text, concat_ws('|', email, coalesce(name, '-'), coalesce(phone, '-'), coalesce(city, '-'), gone)
    from crm.people";
const NARROW_ROWS: &str = r#"select id::text, concat_ws('|', email, coalesce(name, '-'), coalesce("the.phone", '-'), coalesce(city, '-'), gone)
    from crm.person left join crm."Profile" on person_id = id left join crm.address on owner = id"#;

/// Which side has the narrow tables.
struct World {
    narrow: Side,
    systems: Systems,
}

impl World {
    async fn new(hint: &str, narrow: Side) -> World {
        World::changed(hint, narrow, &[]).await
    }

    /// With other words in the narrow side's tables and in the file.
    async fn changed(hint: &str, narrow: Side, changes: &[(&str, &str)]) -> World {
        let of = |side: Side| {
            let (id, key) = match side {
                Side::Legacy => ("serial primary key", "integer"),
                Side::Platform => ("uuid primary key default gen_random_uuid()", "uuid"),
            };
            let mut sql = if side == narrow { NARROW } else { WIDE }.replace("{id}", id).replace("{key}", key);
            if side == narrow {
                changes.iter().for_each(|(old, new)| sql = sql.replace(old, new));
            }
            sql
        };
        let mut stages = STAGES.replace("{narrow}", narrow.as_str()).replace("{wide}", narrow.other().as_str());
        changes.iter().for_each(|(old, new)| stages = stages.replace(old, new));
        let systems = Systems::new(hint, &of(Side::Legacy), &of(Side::Platform), &stages).await;
        World { narrow, systems }
    }

    async fn on(&self, side: Side, sql: &str) {
        match side {
            Side::Legacy => self.systems.on_legacy(sql).await,
            Side::Platform => self.systems.on_platform(sql).await,
        }
    }

    async fn on_wide(&self, sql: &str) {
        self.on(self.narrow.other(), sql).await;
    }

    async fn on_narrow(&self, sql: &str) {
        self.on(self.narrow, sql).await;
    }

    async fn rows(&self, side: Side, sql: &str) -> Vec<String> {
        match side {
            Side::Legacy => self.systems.legacy_rows(sql).await,
            Side::Platform => self.systems.platform_rows(sql).await,
        }
    }

    async fn narrow_rows(&self, sql: &str) -> Vec<String> {
        self.rows(self.narrow, sql).await
    }

    async fn wide_rows(&self, sql: &str) -> Vec<String> {
        self.rows(self.narrow.other(), sql).await
    }

    /// People, and what the narrow side's application made of each.
    async fn people(&self, side: Side, count: u32) {
        let sql = if side == self.narrow {
            format!(
                r#"with p as (insert into crm.person (email, name) select 'n' || n || '@x', 'N' || n from generate_series(1, {count}) n returning id),
                        f as (insert into crm."Profile" (person_id, "the.phone", origin) select id, '0', 'app' from p)
                   insert into crm.address (owner, city) select id, 'Oslo' from p"#
            )
        } else {
            format!(
                "insert into crm.people (email, name, phone, city)
                 select 'w' || n || '@x', 'W' || n, '0', 'Oslo' from generate_series(1, {count}) n"
            )
        };
        self.on(side, &sql).await;
    }

    /// Both hold these, in the order of their addresses.
    async fn both_hold(&self, rows: &[&str]) {
        let listed = |rows: &str| format!("select row from ({rows}) r (id, row) order by row collate \"C\"");
        assert_eq!(self.wide_rows(&listed(WIDE_ROWS)).await, rows, "on {}", self.narrow.other());
        assert_eq!(self.narrow_rows(&listed(NARROW_ROWS)).await, rows, "on {}", self.narrow);
    }

    async fn oracles(&mut self) {
        let (legacy, platform) = match self.narrow {
            Side::Legacy => (NARROW_ROWS, WIDE_ROWS),
            Side::Platform => (WIDE_ROWS, NARROW_ROWS),
        };
        self.systems.oracles(&[Same { entity: "person", legacy, platform }]).await;
    }

    /// Versions of the rows of each narrow table.
    async fn versions(&self) -> [Vec<String>; 3] {
        let of = |table: &str, key: &str| format!("select ctid::text || xmin::text from crm.{table} order by {key}");
        [
            self.narrow_rows(&of("person", "id")).await,
            self.narrow_rows(&of("\"Profile\"", "person_id")).await,
            self.narrow_rows(&of("address", "owner")).await,
        ]
    }

    /// The only record's row of a side, as a page.
    async fn only(&self, side: Side) -> Range {
        let table = if side == self.narrow { "crm.person" } else { "crm.people" };
        keys(vec![Key(self.rows(side, &format!("select id::text from {table}")).await.concat())])
    }
}

async fn both(hint: &str) -> [World; 2] {
    [World::new(hint, Side::Platform).await, World::new(hint, Side::Legacy).await]
}

/// The wide side's edit of a record.
fn wide(set: &str, email: &str) -> String {
    format!("update crm.people set {set}, updated_at = now() where email = '{email}'")
}

/// The narrow side's edit of a telephone.
fn profile(phone: &str, email: &str) -> String {
    format!(
        r#"update crm."Profile" set "the.phone" = '{phone}', changed = now() where person_id = (select id from crm.person where email = '{email}')"#
    )
}

fn address(city: &str, email: &str) -> String {
    format!(
        "update crm.address set city = '{city}', updated_at = now() where owner = (select id from crm.person where email = '{email}')"
    )
}

#[tokio::test]
async fn a_wide_table_and_narrow_ones_become_equal_and_stay_so() {
    for mut world in both("wide").await {
        let narrow = world.narrow;
        world.people(Side::Legacy, 20).await;
        world.people(Side::Platform, 20).await;
        world.oracles().await;
        let count = |table: &str| format!("select count(*)::text from crm.{table}");
        for table in ["person", "\"Profile\"", "address"] {
            assert_eq!(world.narrow_rows(&count(table)).await, ["40"], "{table} on {narrow}");
        }
        assert_eq!(world.wide_rows(&count("people")).await, ["40"]);
        let origins = r#"select origin || ' ' || count(*) from crm."Profile" group by origin order by 1"#;
        assert_eq!(world.narrow_rows(origins).await, ["app 20", "bridge 20"]);

        // Each of the narrow tables alone, all of them at once, and back; different fields of one record on both sides.
        world.on_narrow("update crm.person set name = 'A', updated_at = now() where email = 'w1@x'").await;
        world.on_narrow(&profile("1", "w2@x")).await;
        world.on_narrow(&address("Rome", "n3@x")).await;
        world.on_narrow(&format!("begin; {}; {}; commit", profile("4", "n4@x"), address("Bern", "n4@x"))).await;
        world.on_wide(&wide("city = 'Wien'", "n5@x")).await;
        world.on_wide(&wide("name = 'M'", "w6@x")).await;
        world.on_narrow(&profile("6", "w6@x")).await;
        let summary = world.systems.run().await;
        assert_eq!((summary.to_platform + summary.to_legacy, summary.conflicts), (7, 0), "{summary:?}");
        world.oracles().await;
        let edited = "select row from ({rows}) r (id, row) where row similar to '(w1|w2|n3|n4|n5|w6)@%' order by row";
        for (side, rows) in [(narrow, NARROW_ROWS), (narrow.other(), WIDE_ROWS)] {
            assert_eq!(
                world.rows(side, &edited.replace("{rows}", rows)).await,
                [
                    "n3@x|N3|0|Rome|f",
                    "n4@x|N4|4|Bern|f",
                    "n5@x|N5|0|Wien|f",
                    "w1@x|A|0|Oslo|f",
                    "w2@x|W2|1|Oslo|f",
                    "w6@x|M|6|Oslo|f"
                ]
            );
        }
    }
}

#[tokio::test]
async fn one_field_that_both_sides_changed_goes_to_the_newer_edit_of_all_tables() {
    for mut world in both("wide conflict").await {
        world.people(Side::Legacy, 1).await;
        world.systems.settle().await;
        // The record's other rows are older than both.
        world.on_narrow("update crm.person set updated_at = now() - interval '1 h'").await;
        world.on_narrow("update crm.address set updated_at = now() - interval '1 h'").await;
        world.systems.settle().await;
        let email = world.narrow_rows("select email from crm.person").await.concat();
        world.on_wide(&wide("phone = 'w'", &email).replace("now()", "now() - interval '10 s'")).await;
        world.on_narrow(&profile("n", &email).replace("now()", "now() - interval '5 s'")).await;
        assert_eq!(world.systems.run().await.conflicts, 1);
        world.oracles().await;
        assert_eq!(world.wide_rows("select phone from crm.people").await, ["n"]);
        world.on_narrow(&profile("n2", &email).replace("now()", "now() - interval '4 s'")).await;
        world.on_wide(&wide("phone = 'w2'", &email).replace("now()", "now() - interval '2 s'")).await;
        assert_eq!(world.systems.run().await.conflicts, 1);
        world.oracles().await;
        assert_eq!(world.narrow_rows(r#"select "the.phone" from crm."Profile""#).await, ["w2"]);
    }
}

#[tokio::test]
async fn only_the_tables_whose_columns_changed_are_written() {
    for mut world in both("wide touch").await {
        world.people(world.narrow, 2).await;
        world.systems.settle().await;
        for (set, written) in [
            ("phone = '1'", vec![1]),
            ("city = 'Rome'", vec![2]),
            ("name = 'x', city = 'Bern'", vec![0, 2]),
            ("gone = true", vec![0]),
        ] {
            let before = world.versions().await;
            world.on_wide(&wide(set, "n1@x")).await;
            world.systems.run().await;
            let after = world.versions().await;
            let changed: Vec<usize> = (0..3).filter(|&at| before[at] != after[at]).collect();
            assert_eq!(changed, written, "{set}");
        }
        world.oracles().await;
    }
}

#[tokio::test]
async fn a_deleted_record_is_marked_in_its_own_row_and_comes_back() {
    for mut world in both("wide gone").await {
        world.people(world.narrow, 2).await;
        world.systems.settle().await;
        world.on_wide(&wide("gone = true", "n1@x")).await;
        world.on_narrow("update crm.person set gone = true, updated_at = now() where email = 'n2@x'").await;
        world.oracles().await;
        world.both_hold(&["n1@x|N1|0|Oslo|t", "n2@x|N2|0|Oslo|t"]).await;
        world.on_narrow("update crm.person set gone = false, updated_at = now() where email = 'n1@x'").await;
        world.on_wide(&wide("gone = false, phone = '9'", "n2@x")).await;
        world.oracles().await;
        world.both_hold(&["n1@x|N1|0|Oslo|f", "n2@x|N2|9|Oslo|f"]).await;
    }
}

#[tokio::test]
async fn a_row_that_is_missing_reads_as_null_and_is_made_when_it_has_to_hold_something() {
    for mut world in both("wide missing").await {
        world.on_narrow("insert into crm.person (email, name) values ('a@x', 'A'), ('b@x', 'B'), ('c@x', 'C')").await;
        world.oracles().await;
        world.both_hold(&["a@x|A|-|-|f", "b@x|B|-|-|f", "c@x|C|-|-|f"]).await;
        world.on_wide(&wide("phone = '1'", "a@x")).await;
        world.on_wide(&wide("name = 'B2'", "b@x")).await;
        // The application makes one itself; it is found by its stamp.
        world
            .on_narrow("insert into crm.address (owner, city) select id, 'Rome' from crm.person where email = 'c@x'")
            .await;
        world.oracles().await;
        world.both_hold(&["a@x|A|1|-|f", "b@x|B2|-|-|f", "c@x|C|-|Rome|f"]).await;
        let made = r#"select email || ' ' || origin from crm.person join crm."Profile" on person_id = id"#;
        assert_eq!(world.narrow_rows(made).await, ["a@x bridge"]);
        assert_eq!(world.narrow_rows("select count(*)::text from crm.address").await, ["1"]);
    }
}

#[tokio::test]
async fn a_record_whose_further_row_cannot_be_written_is_not_made_and_named() {
    for mut world in both("wide poison").await {
        let narrow = world.narrow;
        world.people(world.narrow.other(), 10).await;
        world.on_wide("update crm.people set phone = 'poison' where email = 'w4@x'").await;
        let summary = world.systems.run().await;
        assert_eq!((summary.to_platform + summary.to_legacy, summary.quarantined.len()), (9, 1), "{summary:?}");
        let of = "select count(*)::text from crm.person where email = 'w4@x'";
        assert_eq!(world.narrow_rows(of).await, ["0"], "a row without its others");
        assert!(summary.quarantined[0].reason.contains("check constraint"), "{summary:?}");
        if narrow == Side::Platform {
            world.oracles().await;
        }
        // As an edit it costs the record's other edits, too: all of it or nothing.
        world.on_wide(&wide("phone = 'poison', name = 'lost?'", "w5@x")).await;
        let summary = world.systems.run().await;
        assert_eq!(summary.to_platform + summary.to_legacy, 0, "{summary:?}");
        assert_eq!(world.narrow_rows("select name from crm.person where email = 'w5@x'").await, ["W5"]);
        world.on_wide("update crm.people set phone = 'ok', updated_at = now() where phone = 'poison'").await;
        world.oracles().await;
        assert_eq!(world.systems.listed(), Vec::<String>::new());
        assert_eq!(world.narrow_rows("select name from crm.person where email = 'w5@x'").await, ["lost?"]);
    }
}

#[tokio::test]
async fn a_column_that_must_not_be_null_is_named_with_its_table() {
    let changes = [("city text, updated_at", "city text not null, updated_at")];
    let mut world = World::changed("wide null", Side::Platform, &changes).await;
    world.on_wide("insert into crm.people (email, city) values ('a@x', null), ('b@x', 'Rome')").await;
    let summary = world.systems.run().await;
    assert_eq!((summary.to_platform, summary.quarantined.len()), (1, 1), "{summary:?}");
    assert_eq!(summary.quarantined[0].field.as_deref(), Some("city"));
    assert_eq!(world.narrow_rows("select email from crm.person").await, ["b@x"]);
    world.oracles().await;
}

#[tokio::test]
async fn a_crash_between_a_records_rows_leaves_none_of_them() {
    for mut world in both("wide crash").await {
        let (narrow, from) = (world.narrow, world.narrow.other());
        world.on_wide("insert into crm.people (email, phone) values ('a@x', '1')").await;
        let data = world.systems.data.clone();
        for place in ["rows.inserted", "platform.before_commit", "legacy.before_commit"] {
            if place.starts_with("platform") && narrow == Side::Legacy
                || place.starts_with("legacy") && narrow == Side::Platform
            {
                continue;
            }
            crash_at(place, run_page(&data, "person", from, world.only(from).await)).await;
            for table in ["person", "\"Profile\"", "address"] {
                assert_eq!(
                    world.narrow_rows(&format!("select count(*)::text from crm.{table}")).await,
                    ["0"],
                    "{place}"
                );
            }
        }
        world.oracles().await;
        world.both_hold(&["a@x|-|1|-|f"]).await;
        world.on_wide(&wide("name = 'A', phone = '2', city = 'Rome'", "a@x")).await;
        crash_at("rows.updated", run_page(&data, "person", from, world.only(from).await)).await;
        world.systems.settle().await;
        world.oracles().await;
        world.both_hold(&["a@x|A|2|Rome|f"]).await;
    }
}

/// One record, at rest, with a page of an edit of its telephone on the wide side.
async fn one(hint: &str, narrow: Side) -> (World, Range) {
    let mut world = World::new(hint, narrow).await;
    world.people(narrow, 1).await;
    world.systems.settle().await;
    world.on_wide(&wide("phone = 'w'", "n1@x").replace("now()", "now() - interval '10 s'")).await;
    let page = world.only(narrow.other()).await;
    (world, page)
}

const fn before(narrow: Side) -> &'static str {
    match narrow {
        Side::Legacy => "legacy.before",
        Side::Platform => "platform.before",
    }
}

const fn locked(narrow: Side) -> &'static str {
    match narrow {
        Side::Legacy => "legacy.locked",
        Side::Platform => "platform.locked",
    }
}

#[tokio::test]
async fn an_edit_of_a_further_row_between_look_and_lock_is_not_written_over() {
    for narrow in Side::BOTH {
        let (mut world, page) = one("wide moved", narrow).await;
        let data = world.systems.data.clone();
        let slow = run_page(&data, "person", narrow.other(), page);
        meanwhile(before(narrow), slow, world.on_narrow(&profile("n", "n1@x"))).await.0.expect("a page");
        world.oracles().await;
        world.both_hold(&["n1@x|N1|n|Oslo|f"]).await;
    }
}

#[tokio::test]
async fn nobody_writes_a_further_row_between_its_compare_and_its_write() {
    const EDIT: &str = r#"update crm."Profile" set "the.phone" = 'n', changed = now()"#;
    for narrow in Side::BOTH {
        let (mut world, page) = one("wide locked", narrow).await;
        let data = world.systems.data.clone();
        let slow = run_page(&data, "person", narrow.other(), page);
        let (report, edit) = meanwhile(locked(narrow), slow, begun(&world.systems, narrow, EDIT)).await;
        report.expect("a page");
        edit.await.expect("the edit");
        world.oracles().await;
        world.both_hold(&["n1@x|N1|n|Oslo|f"]).await;
    }
}

#[tokio::test]
async fn a_further_row_that_others_hold_costs_its_record_alone_and_no_wait() {
    for mut world in both("wide held").await {
        world.people(world.narrow, 20).await;
        world.systems.settle().await;
        world.on_wide("update crm.people set phone = phone || 'w', name = 'w', updated_at = now()").await;
        let url = world.systems.databases[usize::from(world.narrow == Side::Platform)].url.clone();
        let mut session = PgConnection::connect(url.expose()).await.expect("a session");
        let mut held = session.begin().await.expect("a transaction");
        sqlx::raw_sql(AssertSqlSafe(profile("n", "n7@x"))).execute(&mut *held).await.expect("an edit");
        let mut watcher = PgConnection::connect(url.expose()).await.expect("a session");
        let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event in ('transactionid', 'tuple')";
        let somebody_waits =
            async || sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut watcher).await.expect("a count") > 0;
        let summary = tokio::select! {
            biased;
            summary = world.systems.run() => summary,
            () = eventually("somebody waits", somebody_waits) => panic!("a page waits for what others hold"),
        };
        assert_eq!((summary.to_platform + summary.to_legacy, summary.parked.len()), (19, 1), "{summary:?}");
        assert_eq!(summary.parked[0].reason, ParkedReason::Busy);
        held.commit().await.expect("a commit");
        world.oracles().await;
        let row = r#"select name || ' ' || "the.phone" from crm.person join crm."Profile" on person_id = id where email = 'n7@x'"#;
        assert_eq!(world.narrow_rows(row).await, ["w n"], "both edits, of different rows of one record");
    }
}

#[tokio::test]
async fn a_further_row_that_comes_between_look_and_write_is_not_written_over() {
    for narrow in Side::BOTH {
        let mut world = World::changed("wide between", narrow, &[("origin text not null,", "origin text,")]).await;
        world.on_narrow("insert into crm.person (email) values ('a@x')").await;
        world.systems.settle().await;
        world.on_wide(&wide("phone = 'w'", "a@x").replace("now()", "now() - interval '10 s'")).await;
        let data = world.systems.data.clone();
        let slow = run_page(&data, "person", narrow.other(), world.only(narrow.other()).await);
        let made = world.on_narrow(
            r#"insert into crm."Profile" (person_id, "the.phone", origin) select id, 'n', 'app' from crm.person"#,
        );
        meanwhile(locked(narrow), slow, made).await.0.expect("a page");
        world.oracles().await;
        world.both_hold(&["a@x|-|n|-|f"]).await;
        assert_eq!(world.systems.listed(), Vec::<String>::new());
    }
}

/// Stamps of all tables in all orders, many of one instant, over pages of eight.
#[tokio::test]
async fn edits_of_all_tables_are_found_by_the_stamps_of_each_page_by_page() {
    for mut world in both("wide pages").await {
        world.people(world.narrow, 60).await;
        world.systems.settle().await;
        let old = "now() - interval '1 day' - n * interval '1 h'";
        for (table, stamp, key) in [
            ("person", "updated_at", "id"),
            ("\"Profile\"", "changed", "person_id"),
            ("address", "updated_at", "owner"),
        ] {
            let aged =
                format!("(select {key} as key, row_number() over () as n from crm.{table}) a where a.key = {key}");
            world.on_narrow(&format!("update crm.{table} set {stamp} = {old} from {aged}")).await;
        }
        world.on_wide("update crm.people set updated_at = now() - interval '3 days'").await;
        world.systems.settle().await;
        world
            .on_narrow(
                "update crm.person set name = 'p' || substr(email, 2, 1), updated_at = now() where email like '%1@x'",
            )
            .await;
        let of = |digit: u32| format!("(select id from crm.person where email like '%{digit}@x')");
        world
            .on_narrow(&format!(
                r#"begin; update crm."Profile" set "the.phone" = '2', changed = now() where person_id in {};
                   update crm.address set city = '3', updated_at = now() where owner in {}; commit"#,
                of(2),
                of(3)
            ))
            .await;
        let cut = world.systems.cut("person", world.narrow).await;
        assert_eq!(cut.ranges.iter().map(|range| range.rows).sum::<u32>(), 18, "{:?}", cut.ranges);
        assert!(
            cut.ranges.len() == 3 && cut.ranges.iter().all(|range| range.lane == Lane::Stamp && range.after.is_some())
        );
        let summary = world.systems.run().await;
        assert_eq!(summary.to_platform + summary.to_legacy, 18, "{summary:?}");
        world.oracles().await;
    }
}

/// The newest of a record's stamps may be another table's, and later than any to come.
#[tokio::test]
async fn an_edit_is_found_although_another_of_the_records_stamps_is_newer() {
    for mut world in both("wide future").await {
        world.people(world.narrow, 1).await;
        world.on_narrow("update crm.person set updated_at = now() + interval '1 day'").await;
        world.oracles().await;
        world.on_narrow(&profile("1", "n1@x")).await;
        world.oracles().await;
        world.both_hold(&["n1@x|N1|1|Oslo|f"]).await;
        // Written by us, and set back before anybody looked again.
        world.on_wide(&wide("phone = '2'", "n1@x")).await;
        world.systems.run().await;
        world.on_narrow(&profile("1", "n1@x")).await;
        world.oracles().await;
        world.both_hold(&["n1@x|N1|1|Oslo|f"]).await;
    }
}

#[tokio::test]
async fn rows_without_their_stamp_are_looked_at_whenever_one_of_them_changes() {
    for narrow in Side::BOTH {
        let changes = [("changed timestamptz not null default now()", "changed timestamptz")];
        let mut world = World::changed("wide unstamped", narrow, &changes).await;
        world.people(narrow, 20).await;
        world.on_narrow(r#"update crm."Profile" set changed = null"#).await;
        world.systems.settle().await;
        // Nothing else of the records is young enough to be looked at.
        for table in ["person", "address"] {
            world.on_narrow(&format!("update crm.{table} set updated_at = now() - interval '1 h'")).await;
        }
        world.on_wide("update crm.people set updated_at = now() - interval '1 h'").await;
        world.oracles().await;
        world.on_narrow(r#"update crm."Profile" set "the.phone" = '1'"#).await;
        let summary = world.systems.run().await;
        assert_eq!(summary.to_platform + summary.to_legacy, 20, "{summary:?}");
        world.oracles().await;
        world.on_wide("update crm.people set phone = '2', updated_at = now()").await;
        world.oracles().await;
        assert_eq!(world.narrow_rows(r#"select distinct "the.phone" from crm."Profile""#).await, ["2"]);
    }
}

/// Rows of other tenants in the same tables, some under the same keys.
#[tokio::test]
async fn a_further_table_that_has_the_scopes_columns_is_in_the_scope() {
    for narrow in Side::BOTH {
        let changes = [
            ("origin text not null,", "origin text not null, tenant integer not null, unique (tenant, person_id),"),
            ("person_id {key} primary key references crm.person", "person_id {key}"),
            ("person_id integer primary key references crm.person", "person_id integer not null"),
            ("person_id uuid primary key references crm.person", "person_id uuid not null"),
            ("gone boolean", "tenant integer not null default 7, gone boolean"),
            (
                "key = \"id\", deleted = { column = \"gone\", yes = \"true\", no = \"false\" }, also",
                "key = \"id\", deleted = { column = \"gone\", yes = \"true\", no = \"false\" }, scope = { tenant = \"7\" }, also",
            ),
        ];
        let mut world = World::changed("wide scope", narrow, &changes).await;
        world.people(narrow.other(), 3).await;
        world.systems.settle().await;
        world
            .on_narrow(
                r#"insert into crm."Profile" (person_id, tenant, "the.phone", origin) select person_id, 8, 'theirs', 'app' from crm."Profile""#,
            )
            .await;
        world.on_wide(&wide("phone = '1'", "w1@x")).await;
        world.systems.run().await;
        world.systems.settle().await;
        world
            .on_narrow(
                r#"update crm."Profile" set "the.phone" = '2', changed = now() where tenant = 7 and "the.phone" = '0'"#,
            )
            .await;
        world.systems.settle().await;
        let phones = r#"select tenant || ' ' || "the.phone" || ' ' || count(*) from crm."Profile" group by tenant, "the.phone" order by 1"#;
        assert_eq!(world.narrow_rows(phones).await, ["7 1 1", "7 2 2", "8 theirs 3"]);
        assert_eq!(world.wide_rows("select phone from crm.people order by phone").await, ["1", "2", "2"]);
    }
}

/// Unique telephones that change places, in a further table.
#[tokio::test]
async fn unique_values_of_a_further_table_change_places() {
    for narrow in Side::BOTH {
        let changes = [("origin text not null,", "origin text not null, unique (\"the.phone\"),")];
        let mut world = World::changed("wide swap", narrow, &changes).await;
        world.on_wide("insert into crm.people (email, phone) values ('a@x', '1'), ('b@x', '2'), ('c@x', '3')").await;
        world.systems.settle().await;
        world.on_wide("update crm.people set phone = (phone::integer % 3 + 1)::text, updated_at = now()").await;
        world.oracles().await;
        world.both_hold(&["a@x|-|2|-|f", "b@x|-|3|-|f", "c@x|-|1|-|f"]).await;
    }
}

#[tokio::test]
async fn a_trigger_that_makes_the_further_row_is_in_nobodys_way() {
    let mut world = World::new("wide trigger", Side::Platform).await;
    world
        .on_narrow(
            r#"create function crm.follow() returns trigger language plpgsql as $$
                 begin insert into crm."Profile" (person_id, origin) values (new.id, 'trigger'); return null; end $$;
               create trigger follow after insert on crm.person for each row execute function crm.follow()"#,
        )
        .await;
    world.people(Side::Legacy, 5).await;
    world.oracles().await;
    assert_eq!(world.narrow_rows(r#"select distinct "the.phone" || origin from crm."Profile""#).await, ["0bridge"]);
}

#[tokio::test]
async fn a_row_that_lies_in_a_further_table_alone_is_nobodys() {
    let changes = [
        ("person_id {key} primary key references crm.person", "person_id {key} primary key"),
        ("primary key references crm.person, \"", "primary key, \""),
    ];
    let mut world = World::changed("wide orphan", Side::Platform, &changes).await;
    world
        .on_narrow(r#"insert into crm."Profile" (person_id, "the.phone", origin) select gen_random_uuid(), n, 'app' from generate_series(1, 20) n"#)
        .await;
    world.people(Side::Platform, 1).await;
    world.oracles().await;
    world.both_hold(&["n1@x|N1|0|Oslo|f"]).await;
}

#[tokio::test]
async fn records_meet_by_a_natural_key_in_a_further_table() {
    for narrow in Side::BOTH {
        let changes = [("match_on = [\"email\"]", "match_on = [\"phone\"]\n  authority = \"legacy\"")];
        let mut world = World::changed("wide meet", narrow, &changes).await;
        world.people(Side::Legacy, 1).await;
        world.people(Side::Platform, 1).await;
        assert_eq!(world.systems.run().await.conflicts, 2, "address and name");
        world.oracles().await;
        let all = if narrow == Side::Legacy { "n1@x|N1|0|Oslo|f" } else { "w1@x|W1|0|Oslo|f" };
        world.both_hold(&[all]).await;
    }
}

#[tokio::test]
async fn both_sides_may_have_several_tables_and_cut_a_record_differently() {
    const SAME: Same = Same {
        entity: "staff",
        legacy: "select id::text, concat_ws('|', name, coalesce(phone, '-'), coalesce(salary::text, '-')) from staff left join pay on staff = id",
        platform: "select id::text, concat_ws('|', name, coalesce(phone, '-'), coalesce(salary::text, '-')) from worker
                   left join contact on worker = id",
    };
    let mut systems = Systems::new(
        "wide both",
        "create table staff (id serial primary key, name text, phone text, updated_at timestamp not null default now()::timestamp);
         create index on staff (updated_at, id);
         create table pay (staff bigint primary key, salary integer, updated_at timestamp not null default now()::timestamp);
         create index on pay (updated_at, staff)",
        "create table worker (id uuid primary key, name text, salary integer, updated_at timestamptz not null default now());
         create index on worker (updated_at, id);
         create table contact (worker uuid primary key, phone text, updated_at timestamptz not null default now());
         create index on contact (updated_at, worker)",
        r#"
        [[stages]]
        name = "all"
          [[stages.entities]]
          id = "staff"
          legacy = { database = "legacy", table = "staff", key = "id", also = { pay = { table = "pay", key = "staff" } } }
          platform = { database = "platform", table = "worker", key = "id", also = { contact = { table = "contact", key = "worker" } } }
            [stages.entities.fields]
            name = { legacy = "name", platform = "name" }
            phone = { legacy = "phone", platform = "contact.phone" }
            salary = { legacy = "pay.salary", platform = "salary" }
        "#,
    )
    .await;
    systems
        .on_legacy("insert into staff (name, phone) values ('A', '1'), ('B', null); insert into pay values (1, 10)")
        .await;
    systems
        .on_platform(
            "insert into worker values (gen_random_uuid(), 'C', 30); insert into contact select id, '3' from worker where name = 'C'",
        )
        .await;
    systems.oracles(&[SAME]).await;
    systems.on_legacy("update pay set salary = 11, updated_at = now()::timestamp where staff = 1").await;
    systems.on_platform("update contact set phone = '2', updated_at = now() where worker = (select id from worker where name = 'B')").await;
    systems.on_platform("update worker set salary = 20, updated_at = now() where name = 'B'").await;
    systems.oracles(&[SAME]).await;
    systems
        .both_hold(
            "select concat_ws('|', name, phone, salary) from staff left join pay on staff = id order by name",
            "select concat_ws('|', name, phone, salary) from worker left join contact on worker = id order by name",
            &["A|1|11", "B|2|20", "C|3|30"],
        )
        .await;
}

#[tokio::test]
async fn the_mapping_fits_and_its_laws_hold_on_the_rows_of_all_tables() {
    for mut world in both("wide check").await {
        world.people(Side::Legacy, 5).await;
        world.people(Side::Platform, 5).await;
        world.systems.settle().await;
        let locator = world.systems.config.source.locator();
        let findings =
            world.systems.data.findings(&CustomerId::new(CUSTOMER), &locator, Some(100)).await.expect("findings");
        let bad: Vec<_> = findings.iter().filter(|it| it.severity == Severity::Error || it.field.is_none()).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

#[tokio::test]
async fn a_record_that_is_gone_goes_with_all_of_its_rows() {
    for narrow in Side::BOTH {
        let world = World::new("wide gone for good", narrow).await;
        world.people(narrow.other(), 3).await;
        let config = world.systems.config.clone();
        let World { systems, .. } = world;
        let bridge = Bridge { systems, queue: queue("wide gone for good").await, config };
        let worker = bridge.work(GRACE);
        bridge.settle().await;
        let world = World { narrow, systems: bridge.systems };
        world.on_wide("delete from crm.people where email = 'w1@x'").await;
        let of = "(select id from crm.person where email = 'w2@x')";
        world
            .on_narrow(&format!(
                r#"begin; delete from crm.address where owner = {of}; delete from crm."Profile" where person_id = {of};
                   delete from crm.person where email = 'w2@x'; commit"#
            ))
            .await;
        let bridge = Bridge { systems: world.systems, ..bridge };
        look(&bridge).await;
        look(&bridge).await;
        worker.stop().await;
        let world = World { narrow, systems: bridge.systems };
        world.both_hold(&["w3@x|W3|0|Oslo|f"]).await;
        for table in ["person", "\"Profile\"", "address"] {
            assert_eq!(world.narrow_rows(&format!("select count(*)::text from crm.{table}")).await, ["1"], "{table}");
        }
    }
}

/// Where a record's own row refers to a further one, that one is made first and goes last.
#[tokio::test]
async fn a_row_that_refers_to_a_further_one_is_made_after_it_and_goes_before() {
    for narrow in Side::BOTH {
        let hint = "wide turned";
        let changes = [
            ("primary key references crm.person, \"the.phone\"", "primary key, \"the.phone\""),
            (
                "create index on crm.\"Profile\" (changed, person_id);",
                "create index on crm.\"Profile\" (changed, person_id); alter table crm.person add foreign key (id) references crm.\"Profile\";",
            ),
        ];
        let world = World::changed(hint, narrow, &changes).await;
        world.people(narrow.other(), 3).await;
        let config = world.systems.config.clone();
        let bridge = Bridge { systems: world.systems, queue: queue(hint).await, config };
        let worker = bridge.work(GRACE);
        bridge.settle().await;
        assert_eq!(bridge.number("select count(*) from bridge.quarantine").await, 0, "{narrow}");
        let world = World { narrow, systems: bridge.systems };
        world.both_hold(&["w1@x|W1|0|Oslo|f", "w2@x|W2|0|Oslo|f", "w3@x|W3|0|Oslo|f"]).await;
        world.on_wide("delete from crm.people where email = 'w1@x'").await;
        let bridge = Bridge { systems: world.systems, ..bridge };
        look(&bridge).await;
        look(&bridge).await;
        worker.stop().await;
        let world = World { narrow, systems: bridge.systems };
        world.both_hold(&["w2@x|W2|0|Oslo|f", "w3@x|W3|0|Oslo|f"]).await;
    }
}

/// A further table that changes halts its entity as the record's own would.
#[tokio::test]
async fn a_further_table_that_changes_halts_its_entity_until_it_fits_again() {
    let World { systems, .. } = World::new("wide drift", Side::Platform).await;
    let config = systems.config.clone();
    let bridge = Bridge { systems, queue: queue("wide drift").await, config };
    bridge.systems.on_legacy("insert into crm.people (email, phone) values ('a@x', '1')").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_platform(r#"alter table crm."Profile" rename "the.phone" to telephone"#).await;
    bridge.systems.on_legacy("update crm.people set phone = '2', updated_at = now()").await;
    bridge.settle().await;
    let told = format!("{:#?}", bridge.status().await);
    assert!(
        told.contains("column `profile.the.phone` was text and is gone, new is `profile.telephone` (text)"),
        "{told}"
    );
    bridge.systems.on_platform(r#"alter table crm."Profile" rename telephone to "the.phone""#).await;
    bridge.settle().await;
    let phone = r#"select "the.phone" from crm."Profile""#;
    eventually("the entity goes on", async || {
        bridge.tick().await;
        bridge.systems.platform_rows(phone).await == ["2"]
    })
    .await;
    worker.stop().await;
}
