//! What a run would do, foreseen: it is what the run then does, and foreseeing writes nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::PgPool;
use sync_bridge::config::DatabaseUrl;
use sync_bridge::demo::samples::{self, ACME, Amounts, BIRCH, Sample, Systems};

use super::{Desk, execute, number};
use crate::support::systems::{VERSIONS_AND_LOCKS, image};
use crate::support::{TestDatabase, database};

pub fn json_of(desk: &Desk, args: &[&str]) -> Value {
    let text = desk.succeeds(args);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

type Images = Vec<Vec<(String, i64, Option<String>)>>;

/// Every row version and every lock of all tables, ours included.
async fn images(databases: &[&TestDatabase]) -> Images {
    let mut images = Vec::new();
    for database in databases {
        let pool = PgPool::connect(database.url.expose()).await.expect("connecting");
        images.push(image(&pool, VERSIONS_AND_LOCKS).await);
        pool.close().await;
    }
    images
}

/// What is counted, by entity; entities of which nothing is counted left out.
fn kinds(report: &Value) -> BTreeMap<String, Value> {
    let all = report["by_kind"].as_object().expect("counts by kind").keys().cloned().collect::<Vec<_>>();
    let of = |counts: &Value| all.iter().map(|kind| (kind.clone(), counts[kind].clone())).collect::<Value>();
    let entities = report["entities"].as_array().expect("a list").iter();
    let named = entities.map(|one| (one["entity"].as_str().expect("a name").to_owned(), of(one)));
    named.chain([("all".to_owned(), of(&report["by_kind"]))]).filter(|(_, counts)| !is_zero(counts)).collect()
}

fn is_zero(counts: &Value) -> bool {
    counts.as_object().expect("counts").values().all(|count| *count == 0)
}

/// A plan that writes nothing, and then the run, which does the same.
pub async fn foreseen(desk: &Desk, customer: &str, databases: &[&TestDatabase]) -> Value {
    let before = images(databases).await;
    let plan = json_of(desk, &["plan", "--customer", customer, "--limit", "1000", "--show-values", "--json"]);
    assert!(images(databases).await == before, "a plan wrote");
    let run = json_of(desk, &["run", "--customer", customer, "--inline", "--json"]);
    assert_eq!(kinds(&plan), kinds(&run), "foreseen, and done\n{plan}\n{run}");
    plan
}

/// The sample systems with the mapping of the examples.
struct Stand {
    databases: BTreeMap<&'static str, TestDatabase>,
    desk: Desk,
}

impl Stand {
    async fn new(sample: &Sample, people: usize) -> Stand {
        let mut databases = BTreeMap::new();
        databases.insert("legacy", database("plan l").await);
        databases.insert("queue", database("plan q").await);
        let services = if sample.one_database { &["identity"][..] } else { &["identity", "groups", "geo"] };
        for service in services {
            databases.insert(service, database(&format!("plan {service}")).await);
        }
        let url = |name: &str| -> DatabaseUrl { databases.get(name).unwrap_or(&databases["identity"]).url.clone() };
        let systems =
            Systems { legacy: url("legacy"), identity: url("identity"), groups: url("groups"), geo: url("geo") };
        samples::create(sample, &systems).await.expect("making the tables");
        samples::fill(sample, &systems, Amounts::of_people(people), 7).await.expect("filling them");
        let mut desk = Desk::new("plan", include_str!("../../../examples/bridge.toml"))
            .with("QUEUE_DATABASE_URL", url("queue").expose());
        for (name, of) in [
            ("ACME_LEGACY_URL", "legacy"),
            ("ACME_PLATFORM_URL", "identity"),
            ("BIRCH_LEGACY_URL", "legacy"),
            ("BIRCH_IDENTITY_URL", "identity"),
            ("BIRCH_GROUPS_URL", "groups"),
            ("BIRCH_GEO_URL", "geo"),
        ] {
            desk = desk.with(name, url(of).expose());
        }
        // Only this one: two customers must not see the same rows.
        let file = desk.folder.path().join("bridge.toml");
        let text = std::fs::read_to_string(&file).expect("the configuration");
        // And a page at a time: of two that meet a record at once, one may park it as busy, which no plan can know.
        let text = only(&text, sample.slug).replacen("[defaults]", "[defaults]\nwindow_pages = 1", 1);
        std::fs::write(&file, text).expect("writing a configuration");
        desk.succeeds(&["migrate"]);
        desk.succeeds(&["prepare"]);
        Stand { databases, desk }
    }

    fn all(&self) -> Vec<&TestDatabase> {
        self.databases.values().collect()
    }
}

/// The configuration without the other customers.
fn only(text: &str, slug: &str) -> String {
    let (head, stages) = text.split_once("[[stages]]").expect("stages");
    let mut parts = head.split("[[customers]]");
    let mut kept = parts.next().expect("a beginning").to_owned();
    for customer in parts.filter(|part| part.contains(&format!("\"{slug}\""))) {
        kept.push_str("[[customers]]");
        kept.push_str(customer);
    }
    format!("{kept}[[stages]]{stages}")
}

async fn the_samples_first_load_is_foreseen(sample: &Sample) {
    let stand = Stand::new(sample, 60).await;
    let plan = foreseen(&stand.desk, sample.slug, &stand.all()).await;
    assert_eq!(plan["outcome"], "load", "{plan}");
    // What new legacy rows got by the defaults of columns that only legacy writes.
    foreseen(&stand.desk, sample.slug, &stand.all()).await;
    let plan = foreseen(&stand.desk, sample.slug, &stand.all()).await;
    assert!(is_zero(&plan["by_kind"]), "{plan}");
}

#[tokio::test]
async fn the_first_load_of_systems_that_share_nothing_is_foreseen() {
    the_samples_first_load_is_foreseen(&ACME).await;
}

#[tokio::test]
async fn the_first_load_of_systems_that_share_people_is_foreseen() {
    the_samples_first_load_is_foreseen(&BIRCH).await;
}

const STAGES: &str = r#"
[[stages]]
name = "teams"
  [[stages.entities]]
  id = "team"
  legacy = { database = "legacy", table = "teams", key = "id", updated_at = "changed" }
  platform = { database = "platform", table = "org.teams", key = "id" }
    [stages.entities.fields]
    title = { legacy = "title", platform = "title" }
    parent = { legacy = "parent_id", platform = "parent_id", lens = { ref = "team" } }

[[stages]]
name = "people"
  [[stages.entities]]
  id = "person"
  legacy = { database = "legacy", table = "people", key = "id", updated_at = "changed" }
  platform = { database = "platform", table = "org.people", key = "id" }
  match_on = "email"
    [stages.entities.fields]
    email = { legacy = "mail", platform = "email", lens = "lowercase" }
    name = { legacy = "name", platform = "name" }
    phone = { legacy = "phone", platform = "phone", conflict = "manual", first_contact = "manual" }
    note = { legacy = "note", platform = "note" }
    status = { legacy = "active", platform = "status", lens = { values = { Y = "active", N = "away" } } }
    team = { legacy = "team_id", platform = "team_id", lens = { ref = "team" } }
"#;

/// Ada is on both sides and equal; Bob differs by name and phone; Eve cannot be translated; Fay waits for a team that nobody has.
/// Children come before their parents, two teams point at each other, and one with a member is known to the platform alone.
const LEGACY_SQL: &str = "
    create table teams (
      id integer generated by default as identity (start with 100) primary key, parent_id integer, title text,
      changed timestamptz default now()
    );
    insert into teams (id, parent_id, title) values
      (1, 6, 'a'), (2, 6, 'b'), (3, 8, 'c'), (4, null, 'd'), (5, 4, 'e'), (6, 7, 'f'), (7, null, 'g'), (8, 3, 'h');
    create table people (
      id integer generated by default as identity (start with 100) primary key, mail text unique, name text, phone text, note text,
      active text default 'Y', team_id integer, changed timestamptz default now()
    );
    insert into people (id, mail, name, phone, active, team_id, changed) values
      (1, 'Ada@example.org', 'Ada', '1', 'Y', null, now() - interval '1 hour'),
      (2, 'bob@example.org', 'Bob L', '2', 'Y', null, now() - interval '1 hour'),
      (3, 'cyd@example.org', 'Cyd', null, 'N', 1, now() - interval '1 hour'),
      (4, 'eve@example.org', 'Eve', null, '?', 4, now() - interval '1 hour'),
      (5, 'fay@example.org', 'Fay', null, 'Y', 99, now() - interval '1 hour');";

const PLATFORM_SQL: &str = "
    create schema org;
    create table org.teams (
      id uuid primary key default gen_random_uuid(), parent_id uuid, title text, updated_at timestamptz default now()
    );
    create table org.people (
      id uuid primary key default gen_random_uuid(), email text unique, name text, phone text, note text, status text default 'active',
      team_id uuid, updated_at timestamptz default now()
    );
    insert into org.teams (id, title) values ('00000000-0000-4000-8000-000000000001', 'only here');
    insert into org.people (email, name, phone, team_id) values
      ('ada@example.org', 'Ada', '1', null), ('bob@example.org', 'Bob P', '3', null),
      ('gil@example.org', 'Gil', null, '00000000-0000-4000-8000-000000000001');";

pub struct Office {
    databases: [TestDatabase; 3],
    pub desk: Desk,
}

impl Office {
    /// With pages of few rows, so that what belongs together is apart.
    pub async fn new(hint: &str) -> Office {
        Office::over(hint, LEGACY_SQL, PLATFORM_SQL, STAGES).await
    }

    async fn over(hint: &str, legacy: &'static str, platform: &'static str, stages: &str) -> Office {
        let databases = [
            database(&format!("{hint} l")).await,
            database(&format!("{hint} p")).await,
            database(&format!("{hint} q")).await,
        ];
        execute(&databases[0], legacy).await;
        execute(&databases[1], platform).await;
        let config = format!(
            "[queue]\nurl = \"${{QUEUE_URL}}\"\n[defaults]\npage_rows = 2\n[[customers]]\nid = \"c-1\"\nslug = \"acme\"\n\
             databases = {{ legacy = \"${{LEGACY_URL}}\", platform = \"${{PLATFORM_URL}}\" }}\n{stages}"
        );
        let desk = Desk::new(hint, &config)
            .with("LEGACY_URL", databases[0].url.expose())
            .with("PLATFORM_URL", databases[1].url.expose())
            .with("QUEUE_URL", databases[2].url.expose());
        desk.succeeds(&["migrate"]);
        desk.succeeds(&["prepare"]);
        Office { databases, desk }
    }

    async fn foreseen(&self) -> Value {
        let [legacy, platform, queue] = &self.databases;
        foreseen(&self.desk, "acme", &[legacy, platform, queue]).await
    }

    pub async fn on_legacy(&self, sql: &str) {
        execute(&self.databases[0], sql).await;
    }

    pub async fn on_platform(&self, sql: &str) {
        execute(&self.databases[1], sql).await;
    }

    pub async fn on_queue(&self, sql: &str) {
        execute(&self.databases[2], sql).await;
    }

    pub fn settle(&self) {
        for _ in 0..6 {
            if json_of(&self.desk, &["run", "--customer", "acme", "--inline", "--json"])["ending"] == "idle" {
                return;
            }
        }
        panic!("never idle");
    }
}

fn rows<'p>(plan: &'p Value, kind: &str) -> Vec<&'p Value> {
    plan["rows"].as_array().expect("a list").iter().filter(|row| row["kind"] == kind).collect()
}

#[tokio::test]
async fn a_first_load_is_foreseen_with_parents_that_it_would_make_before_their_children() {
    let office = Office::new("plan load").await;
    let plan = office.foreseen().await;
    assert_eq!((&plan["outcome"], &plan["complete"]), (&json!("load"), &json!(true)), "{plan}");
    let counts = json!({
        "creates_to_platform": 9, "creates_to_legacy": 2, "updates_to_platform": 0, "updates_to_legacy": 1, "deletes_to_platform": 0, "deletes_to_legacy": 0, "adopted": 2,
        "recorded": 1, "conflicts": 2, "listed": 1, "parked": 1, "quarantined": 1,
    });
    assert_eq!(plan["by_kind"], counts, "{plan}");
    let parked = rows(&plan, "parked")[0];
    assert_eq!(parked["waits_for"], json!({ "kind": "parent", "entity": "team", "side": "legacy", "key": "99" }));
    let quarantined = rows(&plan, "quarantined")[0];
    assert_eq!((&quarantined["key"], &quarantined["field"]), (&json!("4"), &json!("status")), "{quarantined}");
    let made = rows(&plan, "create").into_iter().find(|row| row["entity"] == "person" && row["legacy_key"].is_null());
    assert!(made.is_some_and(|row| row["platform_key"].is_string()), "{plan}");
}

#[tokio::test]
async fn edits_on_both_sides_are_foreseen_field_by_field() {
    let office = Office::new("plan edits").await;
    office.settle();
    office
        .on_legacy(
            "update people set name = 'Ada L', changed = now() where id = 1;
             update people set name = 'Bob M', phone = '4', changed = now() - interval '1 minute' where id = 2;
             update people set note = 'n', changed = now() where id = 3;
             update people set active = 'N', changed = now() where id = 4;
             insert into teams (id, parent_id, title) values (99, 9, 'late');
             insert into teams (id, title) values (9, 'later');
             insert into people (mail, name, team_id) values ('hal@example.org', 'Hal', 9)",
        )
        .await;
    office
        .on_platform(
            "update org.people set name = 'Bob N', phone = '5', updated_at = now() where email like 'bob%';
             update org.people set name = 'Cyd P', updated_at = now() where email like 'cyd%';
             update org.people set note = 'p', updated_at = now() where email like 'gil%';
             insert into org.people (email, name) values ('ivy@example.org', 'Ivy')",
        )
        .await;
    let words = ["plan", "--customer", "acme", "--json"];
    let blind = office.desk.succeeds(&words);
    assert!(!blind.contains("Bob") && blind.contains("\"field\":\"name\""), "values only when asked for: {blind}");
    let table = office.desk.succeeds(&["plan", "--customer", "acme"]);
    assert!(table.contains("new on platform") && table.contains("not foreseen") && !table.contains("Bob"), "{table}");
    let table = office.desk.succeeds(&["plan", "--customer", "acme", "--show-values"]);
    assert!(table.contains("    name: to platform: \"Ada\" -> \"Ada L\"\n"), "{table}");

    let plan = office.foreseen().await;
    assert_eq!(plan["outcome"], "run", "{plan}");
    let counts = json!({
        // The two teams, Hal, Eve and Fay; Ivy.
        "creates_to_platform": 5, "creates_to_legacy": 1,
        // Ada and Cyd; Bob, Cyd and Gil.
        "updates_to_platform": 2, "updates_to_legacy": 3, "deletes_to_platform": 0, "deletes_to_legacy": 0,
        "adopted": 0, "recorded": 0, "conflicts": 2, "listed": 1, "parked": 0, "quarantined": 0,
    });
    assert_eq!(plan["by_kind"], counts, "{plan}");
    let ada = json!({ "entity": "person", "kind": "update", "legacy_key": "1", "adopted": false,
        "fields": [{ "field": "name", "toward": "platform", "before": "Ada", "after": "Ada L" }] });
    let mut found = rows(&plan, "update").into_iter().find(|row| row["legacy_key"] == "1").expect("Ada").clone();
    found.as_object_mut().expect("a row").remove("platform_key");
    assert_eq!(found, ada);
    let bob = rows(&plan, "conflict")[0];
    let name = json!({ "field": "name", "toward": "legacy", "before": "Bob M", "after": "Bob N",
        "conflict": { "winner": "platform", "policy": "newest", "why": "newer", "legacy": "Bob M", "platform": "Bob N" } });
    let phone = json!({ "field": "phone", "toward": null,
        "conflict": { "winner": null, "policy": "manual", "why": "first_contact", "legacy": "4", "platform": "5" } });
    assert_eq!(bob["fields"], json!([name, phone]), "{plan}");

    let after = office.foreseen().await;
    assert!(is_zero(&after["by_kind"]) && after["rows_unchanged"] != 0, "what was written is only looked at: {after}");
    office.settle();
    let idle = office.foreseen_idle().await;
    assert_eq!((&idle["outcome"], &idle["rows"]), (&json!("idle"), &json!([])), "{idle}");
}

impl Office {
    /// A plan where no run follows, which writes nothing.
    async fn foreseen_idle(&self) -> Value {
        let [legacy, platform, queue] = &self.databases;
        let databases = [legacy, platform, queue];
        let before = images(&databases).await;
        let plan = json_of(&self.desk, &["plan", "--customer", "acme", "--json"]);
        assert!(images(&databases).await == before, "a plan wrote");
        plan
    }
}

#[tokio::test]
async fn what_is_paused_is_foreseen_as_it_is() {
    let office = Office::new("plan pause").await;
    office.settle();
    office.desk.succeeds(&["pause", "--customer", "acme", "--direction", "to-legacy", "--reason", "a deploy"]);
    office.on_legacy("update people set note = 'l', changed = now() where id = 1").await;
    office.on_platform("update org.people set name = 'Gil P', updated_at = now() where email like 'gil%'").await;
    office.on_platform("update org.people set name = 'Cyd P', updated_at = now() where email like 'cyd%'").await;
    let plan = office.foreseen().await;
    assert_eq!(plan["notes"][0]["about"], "pause", "{plan}");
    let text = plan["notes"][0]["text"].as_str().expect("a text");
    for part in [" since 20", "(a deploy)", "until `sync-bridge resume --customer acme --direction to-legacy`"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(plan["by_kind"]["updates_to_platform"], 1, "{plan}");
    let paused = json!({ "kind": "paused", "toward": "legacy" });
    assert!(rows(&plan, "parked").iter().all(|row| row["waits_for"] == paused), "{plan}");
    assert!(rows(&plan, "parked").len() >= 2, "one of them also as legacy has it: {plan}");
    // Edited on both sides: what the pause allows is written, and it waits for the rest.
    office.on_legacy("update people set note = 'm', changed = now() where id = 1").await;
    office.on_platform("update org.people set name = 'Ada P', updated_at = now() where email like 'ada%'").await;
    let plan = office.foreseen_idle().await;
    let ada = |row: &&&Value| row["legacy_key"] == "1" || row["key"] == "1";
    assert_eq!(rows(&plan, "update").iter().filter(ada).count(), 1, "{plan}");
    assert_eq!(rows(&plan, "parked").iter().filter(ada).count(), 1, "{plan}");
    office.desk.succeeds(&["pause", "--customer", "acme"]);
    assert_eq!(office.foreseen_idle().await["outcome"], "paused");
    office.desk.succeeds(&["resume", "--customer", "acme", "--all"]);
    let plan = office.foreseen().await;
    assert_eq!(plan["by_kind"]["updates_to_legacy"], 3, "{plan}");
}

#[tokio::test]
async fn a_plan_of_one_entity_knows_what_its_parents_become_and_ends_at_its_bound() {
    let office = Office::new("plan one").await;
    let person =
        json_of(&office.desk, &["plan", "--customer", "acme", "--entity", "person", "--kind", "create", "--json"]);
    assert_eq!(person["entities"].as_array().map(Vec::len), Some(1), "{person}");
    assert_eq!(person["by_kind"]["parked"], 1, "only who waits for a team that nobody has: {person}");
    let all = person["rows"].as_array().expect("a list");
    assert!(all.len() == 2 && all.iter().all(|row| row["entity"] == "person" && row["kind"] == "create"), "{person}");
    let part = json_of(&office.desk, &["plan", "--customer", "acme", "--up-to", "3", "--limit", "1", "--json"]);
    assert_eq!((&part["complete"], part["rows"].as_array().map(Vec::len)), (&json!(false), Some(1)), "{part}");
    let told = office.desk.succeeds(&["plan", "--customer", "acme", "--up-to", "3"]);
    assert!(told.contains("the plan ended after 3 records"), "{told}");
    let runs = number(&office.databases[2], "select count(*) from bridge.tick").await;
    assert_eq!(runs, 0, "nobody asked for a run");
}

#[tokio::test]
async fn a_record_of_two_tables_is_foreseen_as_one() {
    let office = Office::over(
        "plan wide",
        "create table wide (id serial primary key, name text, phone text, updated_at timestamptz not null default now());
         create index on wide (updated_at, id);
         insert into wide (name, phone) values ('A', '1'), ('B', null)",
        "create table person (id uuid primary key, name text, updated_at timestamptz not null default now());
         create table profile (person uuid primary key references person, phone text, updated_at timestamptz not null default now());
         create index on person (updated_at, id); create index on profile (updated_at, person)",
        r#"
        [[stages]]
        name = "all"
          [[stages.entities]]
          id = "person"
          legacy = { database = "legacy", table = "wide", key = "id" }
          platform = { database = "platform", table = "person", key = "id", also = { more = { table = "profile", key = "person" } } }
            [stages.entities.fields]
            name = { legacy = "name", platform = "name" }
            phone = { legacy = "phone", platform = "more.phone" }
        "#,
    )
    .await;
    let plan = office.foreseen().await;
    assert_eq!(plan["by_kind"]["creates_to_platform"], 2, "{plan}");
    office.settle();
    office.on_legacy("update wide set phone = '2', updated_at = now() where name = 'A'").await;
    office.on_platform("update profile set phone = 'p', updated_at = now() where phone is null").await;
    let plan = office.foreseen().await;
    let kinds = &plan["by_kind"];
    assert_eq!((&kinds["updates_to_platform"], &kinds["updates_to_legacy"]), (&json!(1), &json!(1)), "{plan}");
    let fields: Vec<&Value> = rows(&plan, "update").into_iter().map(|row| &row["fields"]).collect();
    let of = |toward: &str, before: Value, after: &str| json!([{ "field": "phone", "toward": toward, "before": before, "after": after }]);
    assert!(fields.contains(&&of("platform", json!("1"), "2")), "{plan}");
    assert!(fields.contains(&&of("legacy", Value::Null, "p")), "{plan}");
    office.settle();
}

/// A ring of which one row waits since an earlier run; intents that nobody carried out, an old and a young one; a page that was
/// brought back.
#[tokio::test]
async fn what_earlier_runs_left_is_foreseen() {
    let office = Office::new("plan left").await;
    // Stamped below what later runs read, so that only what it waits for brings it back.
    let early = "insert into teams (id, parent_id, title, changed) values (20, 21, 'r', now() - interval '1 hour')";
    office.on_legacy(early).await;
    office.settle();
    office
        .on_legacy(
            "insert into teams (id, parent_id, title) values (21, 20, 's');
             update people set name = 'Ada L', changed = now() where id = 1;
             update people set note = 'n', changed = now() where id = 2;
             update people set note = 'silent' where id = 3",
        )
        .await;
    office
        .on_platform(
            "update sync_bridge.pair set rev = rev + 1, next_base = base, next_gone = gone,
                 intent_at = now() + case legacy_key when '1' then interval '-1 hour' else interval '1 hour' end
             where legacy_key in ('1', '2') and entity_id = (select id from sync_bridge.entity where entity = 'person')",
        )
        .await;
    execute(
        &office.databases[2],
        r#"insert into bridge.page (customer, stage_name, entity, side, mode, range, rows_cut)
           values ('c-1', 'people', 'person', 'legacy', 'sync', '{"lane": "keys", "keys": ["3"], "rows": 1}', 1)"#,
    )
    .await;
    let plan = office.foreseen().await;
    let counts = json!({
        "creates_to_platform": 2, "creates_to_legacy": 0, "updates_to_platform": 2, "updates_to_legacy": 0, "deletes_to_platform": 0, "deletes_to_legacy": 0, "adopted": 0,
        "recorded": 0, "conflicts": 0, "listed": 0, "parked": 1, "quarantined": 0,
    });
    assert_eq!(plan["by_kind"], counts, "{plan}");
    assert_eq!(rows(&plan, "parked")[0]["waits_for"], json!({ "kind": "busy" }), "{plan}");
}

impl Office {
    /// Ten minutes later: it is looked whether all rows are there.
    async fn later(&self) {
        let sql =
            "update bridge.run set opened_at = opened_at - interval '10 min', ended_at = ended_at - interval '10 min';
                   update bridge.swept set at = at - interval '10 min';
                   update bridge.absence set first_seen = first_seen - interval '10 min'";
        execute(&self.databases[2], sql).await;
    }
}

#[tokio::test]
async fn deletes_that_are_due_are_foreseen() {
    let office = Office::new("plan gone").await;
    office.on_legacy("insert into people (mail, name) values ('hal@example.org', 'Hal')").await;
    office.settle();
    office.on_legacy("delete from people where mail like any ('{Ada%, cyd%, hal%}')").await;
    office.on_platform("delete from org.people where email like any ('{gil%, hal%}')").await;
    office.later().await;
    let plan = office.foreseen().await;
    assert!(is_zero(&plan["by_kind"]), "one look is none: {plan}");
    // Who is edited meanwhile is made again before it is looked a second time.
    office.on_platform("update org.people set name = 'Cyd P', updated_at = now() where email like 'cyd%'").await;
    office.later().await;
    let one = ["plan", "--customer", "acme", "--entity", "person", "--kind", "delete", "--json"];
    let gone = json_of(&office.desk, &one);
    let plan = office.foreseen().await;
    let kinds = &plan["by_kind"];
    let deletes = (&kinds["deletes_to_platform"], &kinds["deletes_to_legacy"]);
    assert_eq!(deletes, (&json!(1), &json!(1)), "{plan}");
    assert_eq!((&kinds["creates_to_legacy"], &kinds["recorded"]), (&json!(1), &json!(1)), "Cyd, and Hal: {plan}");
    assert_eq!(rows(&gone, "delete").len(), 2, "{gone}");
    assert!(rows(&plan, "delete").iter().any(|row| row["legacy_key"] == "1" && row["fields"] == json!([])), "{plan}");
    office.later().await;
    let plan = office.foreseen().await;
    assert!(is_zero(&plan["by_kind"]), "{plan}");
}

#[tokio::test]
async fn deletes_in_masses_are_foreseen_as_the_pause_that_they_are() {
    let office = Office::new("plan masses").await;
    office.settle();
    office.on_legacy("delete from people").await;
    office.later().await;
    let plan = office.foreseen().await;
    let note = plan["notes"].as_array().expect("a list").iter().find(|note| note["about"] == "deletes");
    let note = note.unwrap_or_else(|| panic!("a note: {plan}"));
    assert_eq!(note["entity"], "person", "{plan}");
    assert!(note["text"].as_str().is_some_and(|text| text.contains("shows no row")), "{plan}");
    office.later().await;
    let plan = office.foreseen().await;
    assert!(is_zero(&plan["by_kind"]), "{plan}");
    assert_eq!(
        (&plan["notes"][0]["about"], &plan["notes"][0]["entity"]),
        (&json!("pause"), &json!("person")),
        "{plan}"
    );
}

#[tokio::test]
async fn a_plan_says_what_keeps_it_from_being_done_now() {
    let office = Office::new("plan notes").await;
    let file = office.desk.folder.path().join("bridge.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let hour = chrono::Timelike::hour(&sync_bridge::clock::now());
    let window = format!("load_window = \"{:02}:00-{:02}:00\"\npage_rows", (hour + 2) % 24, (hour + 3) % 24);
    std::fs::write(&file, text.replace("page_rows", &window)).expect("writing a configuration");
    let plan = office.foreseen_idle().await;
    assert_eq!(plan["outcome"], "idle", "{plan}");
    let notes: Vec<(&Value, &Value)> =
        plan["notes"].as_array().expect("a list").iter().map(|note| (&note["about"], &note["entity"])).collect();
    let about = json!("load_window");
    assert_eq!(notes, [(&about, &json!("team")), (&about, &json!("person"))], "{plan}");
    std::fs::write(&file, text).expect("writing a configuration");

    office.settle();
    execute(
        &office.databases[2],
        "with made as (
             insert into bridge.tick (customer, at, origin, state, ended_at)
             values ('c-1', now(), 'operator', 'opened', now()) returning id
         )
         insert into bridge.run (customer, tick, first_load, sweep) select 'c-1', id, false, false from made",
    )
    .await;
    office.on_legacy("update people set note = 'n', changed = now() where id = 1").await;
    let plan = office.foreseen_idle().await;
    assert_eq!(plan["notes"][0]["about"], "open_run", "{plan}");
    assert_eq!(plan["by_kind"]["updates_to_platform"], 1, "{plan}");
    let told = office.desk.succeeds(&["plan", "--customer", "acme"]);
    assert!(told.contains("note: a run is open"), "{told}");
}

/// The rows that a new field touches are counted as the run would count them, and all else of the run is foreseen with them.
#[tokio::test]
async fn a_mapping_that_changed_is_foreseen_with_what_waits_for_it() {
    let office = Office::new("plan mapping").await;
    office.settle();
    office.on_platform("update org.people set note = 'p' where email in ('ada@example.org', 'cyd@example.org')").await;
    let file = office.desk.folder.path().join("bridge.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let note = "note = { legacy = \"note\", platform = \"note\" }";
    assert!(text.contains(note));
    std::fs::write(&file, text.replace(note, "remark = { legacy = \"note\", platform = \"note\" }"))
        .expect("writing a configuration");
    office.on_legacy("update people set name = 'Ada L', changed = now() where id = 1").await;
    let plan = office.foreseen().await;
    let notes: Vec<&Value> =
        plan["notes"].as_array().expect("a list").iter().filter(|note| note["about"] == "mapping").collect();
    assert_eq!(notes.len(), 1, "{plan}");
    let told = notes[0]["text"].as_str().expect("a text");
    // Bob's phone waits for a person all the same.
    assert!(notes[0]["entity"] == "person" && told.contains("the mapping changed: 3 of 4 rows differ"), "{plan}");
    assert!(told.contains("`first_contact` decides"), "{plan}");
    assert_eq!(plan["by_kind"]["updates_to_platform"], 1, "{plan}");
}
