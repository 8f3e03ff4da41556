//! The least that each role needs: what `prepare --roles` prints is enough for everything, and none of it is too much.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::operator::json_of;
use super::{Databases, Desk, STAGES, execute, number, users};
use crate::support::TestDatabase;

const PASSWORD: &str = "r";

/// Both systems and a queue, prepared by their owner, who is no superuser; and who comes with roles that may do nothing yet.
struct Strangers {
    databases: Databases,
    desk: Desk,
    owner: String,
    roles: [String; 3],
}

impl Strangers {
    fn all(&self) -> [&TestDatabase; 3] {
        [&self.databases.legacy, &self.databases.platform, &self.databases.queue]
    }
}

/// Roles are the server's, and tests share it.
impl Drop for Strangers {
    fn drop(&mut self) {
        let owner = &self.owner;
        for (number, (database, role)) in self.all().into_iter().zip(&self.roles).enumerate() {
            let last = if number == 2 { format!("drop role {owner}") } else { String::new() };
            let sql = format!(
                "drop owned by {role}; drop role {role}; reassign owned by {owner} to current_user; drop owned by {owner}; {last}"
            );
            let url = database.url.clone();
            let dropped = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let mut owner = PgConnection::connect(url.expose()).await?;
                    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut owner).await?;
                    anyhow::Ok(())
                })
            });
            let _ = dropped.join();
        }
    }
}

async fn strangers(hint: &str) -> Strangers {
    let databases = Databases::new(hint).await;
    let owner = databases.desk(hint);
    owner.succeeds(&["migrate"]);
    owner.succeeds(&["prepare"]);
    // Types of a schema that the file does not name, and that nobody may use: of a column, and below a domain that everybody may.
    let kinds = "create schema kinds; create domain kinds.title as text; create domain identity.title as kinds.title;
        alter table identity.users alter column name type identity.title";
    execute(&databases.platform, kinds).await;
    let all = [&databases.legacy, &databases.platform, &databases.queue];
    // A role that may do what whoever owns a database may, and nothing else.
    let theirs = format!("\"Owner-{}\"", &databases.legacy.name[..databases.legacy.name.len().min(50)]);
    execute(&databases.legacy, &format!("create role {theirs}")).await;
    let mut roles = Vec::new();
    for (database, kind) in all.into_iter().zip(["Legacy", "Platform", "Queue"]) {
        let role = format!("{kind}-{}", database.name);
        let role = role[..role.len().min(63)].to_owned();
        // Nothing comes to it by being anybody.
        execute(
            database,
            &format!(
                "create role \"{role}\" login password '{PASSWORD}'; revoke all on database \"{}\" from public;
                 revoke all on schema public from public",
                database.name
            ),
        )
        .await;
        roles.push(role);
        execute(database, &GIVE_AWAY.replace("OWNER", &theirs).replace("DATABASE", &format!("\"{}\"", database.name)))
            .await;
    }
    let url = |database: &TestDatabase, role: &str| {
        let (scheme, rest) = database.url.expose().split_once("://").expect("a URL");
        format!("{scheme}://{role}:{PASSWORD}@{}", rest.split_once('@').map_or(rest, |(_, rest)| rest))
    };
    let config = format!(
        "[queue]\nurl = \"${{QUEUE_URL}}\"\n[defaults]\nsweep_every = \"1s\"\ndeletes_every = \"1s\"\ndeletes_after = \"0s\"\n\
         deletes_percent_max = 100\n[[customers]]\nid = \"c-1\"\nslug = \"acme\"\n\
         databases = {{ legacy = \"${{LEGACY_URL}}\", platform = \"${{PLATFORM_URL}}\" }}\n{STAGES}"
    );
    let desk = Desk::new(hint, &config)
        .with("LEGACY_URL", url(&databases.legacy, &roles[0]))
        .with("PLATFORM_URL", url(&databases.platform, &roles[1]))
        .with("QUEUE_URL", url(&databases.queue, &roles[2]));
    let roles = <[String; 3]>::try_from(roles).expect("three roles").map(|role| format!("\"{role}\""));
    Strangers { databases, desk, owner: theirs, roles }
}

/// All that stands in a database is this role's by then.
const GIVE_AWAY: &str = r#"
    alter database DATABASE owner to OWNER;
    do $$
    declare one record;
    begin
      for one in
        select format('schema %I', nspname) as what from pg_namespace
        where nspname in ('public', 'identity', 'sync_bridge', 'bridge', 'apalis', 'kinds')
        union all
        select format('table %s', c.oid::regclass) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where nspname in ('public', 'identity', 'sync_bridge', 'bridge', 'apalis', 'kinds') and relkind in ('r', 'p', 'v')
      loop
        execute format('alter %s owner to OWNER', one.what);
      end loop;
    end
    $$"#;

/// The statements of each database, in the order legacy, platform, queue.
fn printed(strangers: &Strangers) -> [Vec<String>; 3] {
    let text = strangers.desk.succeeds(&["prepare", "--roles"]);
    strangers.all().map(|database| {
        let of = text.split("\n-- ").find(|part| part.lines().next().is_some_and(|head| head.contains(&database.name)));
        let body = of.and_then(|part| part.split_once('\n')).unwrap_or_else(|| panic!("{text}")).1;
        // A block holds semicolons of its own.
        let (plain, block) = body.split_once("do $grants$").unwrap_or((body, ""));
        let mut statements: Vec<String> = plain
            .split(";\n")
            .map(|one| one.trim().trim_end_matches(';').to_owned())
            .filter(|one| !one.is_empty())
            .collect();
        statements
            .extend((!block.is_empty()).then(|| format!("do $grants${}", block.trim_end().trim_end_matches(';'))));
        assert!(statements.iter().all(|one| !one.contains(MEMBERSHIP)), "an owner cannot: {statements:#?}");
        let memberships = text.lines().filter(|line| line.starts_with(MEMBERSHIP) && line.ends_with(&database.name));
        statements.extend(memberships.filter_map(|line| Some(line.split_once(';')?.0.to_owned())));
        statements
    })
}

/// The one that is not the owner's to give.
const MEMBERSHIP: &str = "grant pg_read_all_stats to ";

async fn grant(strangers: &Strangers) -> [Vec<String>; 3] {
    let printed = printed(strangers);
    for (database, statements) in strangers.all().into_iter().zip(&printed) {
        for statement in statements {
            let by = if statement.starts_with(MEMBERSHIP) { "none" } else { &strangers.owner };
            execute(database, &format!("set role {by}; {statement}")).await;
        }
    }
    printed
}

fn run(desk: &Desk) -> Value {
    json_of(desk, &["run", "--customer", "acme", "--inline", "--json"])
}

fn settle(desk: &Desk) {
    for _ in 0..8 {
        let report = run(desk);
        assert_eq!((&report["dead_letters"], &report["quarantined"]), (&json!(0), &json!(0)), "{report}");
        if report["rows_to_platform"] == 0 && report["rows_to_legacy"] == 0 && report["parked"] == 0 {
            return;
        }
    }
    panic!("never quiet");
}

#[tokio::test]
async fn what_is_printed_is_enough_for_everything() {
    let strangers = strangers("enough").await;
    grant(&strangers).await;
    let Strangers { databases, desk, owner, roles } = &strangers;
    // What a later migration makes may be used at once.
    for schema in ["bridge", "apalis"] {
        let later = format!(
            "set role {owner}; create table {schema}.later (id integer); set role {}; insert into {schema}.later values (1);
             set role {owner}; drop table {schema}.later",
            roles[2]
        );
        execute(&databases.queue, &later).await;
    }
    let names = async |of: &TestDatabase, table: &str, mail: &str| {
        let mut session = PgConnection::connect(of.url.expose()).await.expect("connecting");
        let sql = format!("select string_agg(name, ',' order by {mail}) from {table}");
        let names: Option<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut session).await.expect("names");
        names.unwrap_or_default()
    };
    let both = async || {
        let (legacy, platform) = (
            names(&databases.legacy, "users", "mail").await,
            names(&databases.platform, "identity.users", "email").await,
        );
        assert_eq!(legacy, platform);
        legacy
    };
    desk.succeeds(&["prepare"]);
    let check = desk.run(&["check"]);
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success() && !said.contains("missing-right") && !said.contains("cannot-see"), "{said}");

    // New rows on both sides, edits on both, a conflict, and deletes on both.
    execute(
        &databases.platform,
        "insert into identity.users (id, email, name) values (gen_random_uuid(), 'cyd@example.org', 'Cyd')",
    )
    .await;
    settle(desk);
    assert_eq!(both().await, "Ada,Bob,Cyd");
    let stamped = |side: &str, set: &str| match side {
        "legacy" => format!("update users set {set}, changed = clock_timestamp()"),
        _ => format!("update identity.users set {set}, updated_at = clock_timestamp()"),
    };
    execute(&databases.legacy, &format!("{} where mail like 'ada%'", stamped("legacy", "name = 'Adele'"))).await;
    execute(&databases.platform, &format!("{} where email like 'bob%'", stamped("platform", "name = 'Rob'"))).await;
    settle(desk);
    assert_eq!(both().await, "Adele,Rob,Cyd");
    execute(&databases.legacy, &format!("{} where mail like 'cyd%'", stamped("legacy", "name = 'L'"))).await;
    execute(&databases.platform, &format!("{} where email like 'cyd%'", stamped("platform", "name = 'P'"))).await;
    settle(desk);
    assert_eq!(both().await, "Adele,Rob,P");
    assert!(desk.succeeds(&["conflicts", "list", "--customer", "acme"]).contains("name"));
    execute(&databases.legacy, "delete from users where mail like 'ada%'").await;
    execute(&databases.platform, "delete from identity.users where email like 'bob%'").await;
    for _ in 0..4 {
        execute(&databases.queue, "update bridge.swept set at = at - interval '1 h'").await;
        settle(desk);
    }
    assert_eq!(both().await, "P", "deletes go both ways");

    // What an operator does.
    let verified = json_of(desk, &["verify", "--customer", "acme", "--json"]);
    assert!(verified.to_string().contains("\"equal\""), "{verified}");
    execute(
        &databases.queue,
        "with tick as (insert into bridge.tick (customer, at, origin, state, ended_at) values ('c-1', now(), 'operator', 'dead', now()) returning id)
         insert into bridge.job (kind, customer, subject, state, attempt, run_at, ended_at, last_error, error_kind)
         select 'tick', 'c-1', id, 'dead', 1, date_trunc('second', now()), now(), 'by hand', 'permanent' from tick",
    )
    .await;
    assert!(desk.succeeds(&["dead-letters", "list"]).contains("by hand"));
    assert_eq!(json_of(desk, &["dead-letters", "requeue", "--all", "--json"]), json!({ "requeued": 1 }));
    settle(desk);
    for verb in [
        &["status"][..],
        &["runs", "list", "--customer", "acme"],
        &["explain", "--customer", "acme", "--entity", "user", "--side", "legacy", "--key", "3"],
        &["plan", "--customer", "acme"],
        &["pause", "--customer", "acme"],
        &["resume", "--customer", "acme"],
        &["quarantine", "retry", "--all"],
        &["conflicts", "list", "--customer", "acme"],
        &["recover", "--customer", "acme", "--from", "legacy", "--plan"],
        &["erase", "--customer", "acme", "--entity", "user", "--side", "legacy", "--key", "3", "--reason", "asked"],
    ] {
        desk.succeeds(verb);
    }

    // The same customer, kept in the table, and purged by these roles.
    let table = format!("customers = \"table\"\n[queue]\nurl = \"${{QUEUE_URL}}\"\n{STAGES}");
    std::fs::write(desk.folder.path().join("table.toml"), table).expect("writing a configuration");
    let acme = "[[customers]]\nid = \"c-1\"\nslug = \"acme\"\n\
                databases = { legacy = \"${LEGACY_URL}\", platform = \"${PLATFORM_URL}\" }\n";
    std::fs::write(desk.folder.path().join("acme.toml"), acme).expect("writing a file");
    desk.succeeds(&["--config", "table.toml", "customers", "apply", "acme.toml"]);
    desk.succeeds(&["--config", "table.toml", "customers", "remove", "acme", "--purge", "--yes"]);
    let left = "select (select count(*) from sync_bridge.entity) + (select count(*) from sync_bridge.relation)";
    assert_eq!((number(&databases.platform, left).await, number(&databases.legacy, left).await), (0, 0));
    assert_eq!(users(databases).await, 1, "rows stay");
}

/// What `check` does not ask after: what it takes to delete (a row that cannot be is quarantined, see scenarios::deletes), to register entities, to end
/// tombstones and to purge. All of it is done by `what_is_printed_is_enough_for_everything`.
const NOT_CHECKED: [&str; 14] = [
    "delete on \"identity\".\"users\"",
    "delete on \"public\".\"users\"",
    "delete on sync_bridge.entity",
    "delete on sync_bridge.entity",
    "delete on sync_bridge.pair",
    "delete on sync_bridge.receipt",
    "delete on sync_bridge.relation",
    "delete on sync_bridge.relation",
    "insert on sync_bridge.entity",
    "insert on sync_bridge.entity",
    "insert on sync_bridge.relation",
    "insert on sync_bridge.relation",
    "update on sync_bridge.relation",
    "update on sync_bridge.relation",
];

#[tokio::test]
async fn none_of_it_is_too_much() {
    let strangers = strangers("too much").await;
    let printed = grant(&strangers).await;
    let Strangers { databases, desk, roles, .. } = &strangers;
    let looks_fine = || {
        desk.run(&["check", "--strict"]).status.success() || {
            // Only rights are of interest here.
            let said = desk.run(&["check", "--json"]).stdout;
            let report: Value = serde_json::from_slice(&said).expect("a report");
            let codes =
                ["missing-right", "cannot-see-sessions", "unreachable", "sync-bridge-missing", "not-registered"];
            let findings = report["findings"].as_array().cloned().unwrap_or_default();
            !findings.iter().any(|one| codes.iter().any(|code| one["code"] == *code))
        }
    };
    assert!(looks_fine());
    let (mut missed, mut unnoticed) = (0, Vec::new());
    for ((database, statements), role) in
        [(&databases.legacy, &printed[0]), (&databases.platform, &printed[1])].into_iter().zip(roles)
    {
        for statement in statements.iter().filter(|one| !one.starts_with("do $grants$")) {
            for what in each(statement, role) {
                execute(database, &format!("revoke {what} from {role}")).await;
                if looks_fine() {
                    unnoticed.push(what.clone());
                } else {
                    missed += 1;
                }
                execute(database, &format!("grant {what} to {role}")).await;
            }
        }
    }
    unnoticed.sort();
    assert_eq!(unnoticed, NOT_CHECKED);
    assert!(missed >= 20, "{missed}");
    assert!(looks_fine());
    // Of a sequence, of which only the catalogue knows the name.
    let sequence = format!("usage on sequence public.users_id_seq from {}", roles[0]);
    execute(&databases.legacy, &format!("revoke {sequence}")).await;
    assert!(!looks_fine());
    execute(&databases.legacy, &format!("grant {}", sequence.replace(" from ", " to "))).await;
    // And of the schema that a type lies in.
    execute(&databases.platform, &format!("revoke usage on schema kinds from {}", roles[1])).await;
    assert!(!looks_fine());
    let check = desk.run(&["check"]);
    let said = format!("{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
    let granted = format!("`grant usage on schema kinds to {}`", roles[1]);
    assert!(said.contains("may not use schema kinds, of the type of `name`") && said.contains(&granted), "{said}");
    execute(&databases.platform, &format!("grant usage on schema kinds to {}", roles[1])).await;
    assert!(looks_fine());

    for statement in printed[2].iter().filter(|one| !one.starts_with("alter default privileges")) {
        for what in each(statement, &roles[2]) {
            execute(&databases.queue, &format!("revoke {what} from {}", roles[2])).await;
            let verb: &[&str] = match what.split(' ').next() {
                Some("insert" | "update") => &["pause", "--customer", "acme"],
                Some("delete") => &["resume", "--customer", "acme"],
                _ if what.ends_with("public") => &["run", "--customer", "acme", "--inline"],
                _ => &["status"],
            };
            assert!(!desk.run(verb).status.success(), "{what} was taken away, and {verb:?} does not miss it");
            execute(&databases.queue, &format!("grant {what} to {}", roles[2])).await;
            desk.succeeds(verb);
        }
    }
}

/// The rights of a statement, one by one; of columns, all of them at once.
fn each(statement: &str, role: &str) -> Vec<String> {
    let what = statement.strip_prefix("grant ").and_then(|rest| rest.strip_suffix(&format!(" to {role}")));
    let what = what.unwrap_or_else(|| panic!("{statement}"));
    match what.split_once(" on ") {
        Some((rights, on)) if !rights.contains('(') => {
            rights.split(", ").map(|right| format!("{right} on {on}")).collect()
        }
        _ => vec![what.to_owned()],
    }
}

/// As docs/DEPLOY.md has it: the owner's role migrates, the other one works, and the scaler's asks its one question.
#[tokio::test]
async fn the_queue_database_has_a_role_to_migrate_and_one_to_work() {
    let databases = Databases::new("two roles").await;
    let name = &databases.queue.name;
    let roles = ["owner", "works", "scales"].map(|kind| format!("{kind}-{}", &name[..name.len().min(50)]));
    let [owner, works, scales] = roles.each_ref().map(|role| format!("\"{role}\""));
    let docs = include_str!("../../../docs/DEPLOY.md");
    let said = |part: &str| {
        let (_, rest) = docs.split_once(part).unwrap_or_else(|| panic!("docs/DEPLOY.md has no {part}"));
        let (block, _) = rest.split_once("```sql\n").and_then(|(_, rest)| rest.split_once("```")).expect("SQL");
        // The longer names first.
        block
            .replace(
                "create database sync_bridge owner sync_bridge_owner",
                &format!("alter database \"{name}\" owner to {owner}"),
            )
            .replace("sync_bridge_scaler", &scales)
            .replace("sync_bridge_owner", &owner)
            .replace("sync_bridge", &works)
            .replace('…', PASSWORD)
    };
    let url = |role: &str| {
        let (scheme, rest) = databases.queue.url.expose().split_once("://").expect("a URL");
        format!("{scheme}://{role}:{PASSWORD}@{}", rest.split_once('@').map_or(rest, |(_, rest)| rest))
    };
    execute(&databases.queue, &said("As an administrator:")).await;
    execute(&databases.queue, &format!("set role {owner}; {}", said("In that database, as `sync_bridge_owner`:")))
        .await;
    let desk = |role: &str| databases.desk("two-roles").with("QUEUE_URL", url(role));
    let (migrates, runs) = (desk(&roles[0]), desk(&roles[1]));
    runs.is_refused(&["status"], "run `sync-bridge migrate`");
    assert_eq!(runs.run(&["migrate"]).status.code(), Some(1), "it may not");
    migrates.succeeds(&["migrate"]);
    runs.succeeds(&["prepare"]);
    runs.succeeds(&["run", "--customer", "acme", "--inline"]);
    runs.succeeds(&["pause", "--customer", "acme"]);
    assert_eq!(users(&databases).await, 2);
    execute(&databases.queue, &format!("set role {owner}; {}", said("After the migration, as `sync_bridge_owner`:")))
        .await;
    execute(&databases.queue, &format!("set role {scales}; select bridge.pool_workers_wanted()")).await;
    execute(&databases.queue, &format!("reassign owned by {owner} to current_user")).await;
    for role in [&works, &scales, &owner] {
        execute(&databases.queue, &format!("drop owned by {role}; drop role {role}")).await;
    }
}
