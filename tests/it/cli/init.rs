//! `sync-bridge init`: what it makes of two catalogues, word for word. The files stand in `init/`; after a change that was meant,
//! `REWRITE_SNAPSHOTS=1 cargo test --test it -- cli::init` writes them anew, and the difference is there to be read.

use std::path::Path;

use sync_bridge::demo::samples::{self, ACME, Amounts, Systems};

use super::operator::json_of;
use super::{Desk, SECRET, execute, number};
use crate::support::{TestDatabase, database, database_in};

const INIT: [&str; 5] = ["init", "--legacy-env", "LEGACY_URL", "--platform-env", "PLATFORM_URL"];

/// An empty folder, and two databases filled by this SQL.
async fn systems(hint: &str, legacy: &[&str], platform: &[&str]) -> ([TestDatabase; 2], Desk) {
    let databases = [database(&format!("{hint} l")).await, database(&format!("{hint} p")).await];
    for (database, all) in databases.iter().zip([legacy, platform]) {
        for sql in all {
            execute(database, sql).await;
        }
    }
    let desk = Desk::new(hint, "");
    std::fs::remove_file(desk.folder.path().join("bridge.toml")).expect("an empty folder");
    let desk = desk.with("LEGACY_URL", databases[0].url.expose()).with("PLATFORM_URL", databases[1].url.expose());
    (databases, desk)
}

/// Runs `init`, holds what it wrote against the snapshot, and lets `check` say that there is no error in it.
fn writes(desk: &Desk, snapshot: &str) -> String {
    let output = desk.run(&INIT);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b""[..]), "{said}");
    assert!(said.starts_with("bridge.toml: "), "{said}");
    let written = std::fs::read_to_string(desk.folder.path().join("bridge.toml")).expect("a file");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cli/init").join(snapshot);
    if std::env::var_os("REWRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &written).expect("writing the snapshot");
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    for (now, before) in written.lines().zip(before.lines()) {
        assert_eq!(now, before, "{}: REWRITE_SNAPSHOTS=1 takes it over, if it was meant", path.display());
    }
    assert_eq!(written, before, "{}", path.display());
    desk.succeeds(&["prepare"]);
    let check = desk.run(&["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stderr));
    written
}

#[tokio::test]
async fn the_sample_systems_get_a_mapping_that_runs() {
    let (databases, desk) = systems("init samples", &[], &[]).await;
    let [legacy, platform] = databases.each_ref().map(|database| database.url.clone());
    let systems = Systems { legacy, identity: platform.clone(), groups: platform.clone(), geo: platform };
    samples::create(&ACME, &systems).await.expect("making the tables");
    writes(&desk, "samples.toml");

    samples::fill(&ACME, &systems, Amounts::of_people(60), 7).await.expect("filling them");
    let queue = database("init q").await;
    let desk = desk.with("QUEUE_URL", queue.url.expose());
    let file = desk.folder.path().join("bridge.toml");
    let text = std::fs::read_to_string(&file).expect("the file");
    let text = text.replace("# [queue]", "[queue]\nurl = \"${QUEUE_URL}\"");
    std::fs::write(&file, text).expect("naming a queue");
    desk.succeeds(&["migrate"]);
    let run = json_of(&desk, &["run", "--customer", "acme", "--inline", "--json"]);
    assert_eq!(run["ending"], "done", "{run}");
    for what in ["quarantined", "dead_letters"] {
        assert_eq!(run[what], 0, "{what}: {run}");
    }
    let people = number(&databases[0], "select count(*) from users").await;
    assert!(people >= 60);
    assert_eq!(number(&databases[1], "select count(*) from identity.users").await, people);
    assert_eq!(
        number(&databases[1], "select count(*) from groups.memberships").await,
        number(&databases[0], "select count(*) from grp_usr").await
    );
}

#[tokio::test]
async fn a_town_library_gets_what_is_clear_and_reads_the_rest_in_comments() {
    let legacy = include_str!("../second/legacy.sql");
    let platform = [include_str!("../second/identity.sql"), include_str!("../second/stock.sql")];
    let (_databases, desk) = systems("init second", &[legacy], &platform).await;
    writes(&desk, "second.toml");
}

#[tokio::test]
async fn whatever_a_catalogue_holds_the_file_is_one_that_check_accepts() {
    let (_databases, desk) =
        systems("init ugly", &[include_str!("init/ugly_legacy.sql")], &[include_str!("init/ugly_platform.sql")]).await;
    let written = writes(&desk, "ugly.toml");
    // What is unsure is a line that only waits for its `#` to be taken away, but where its reason says that it needs a lens.
    let lines: Vec<&str> = written.lines().collect();
    let doubted = lines.windows(2).filter(|two| two[1].starts_with("    # ") && two[1].contains(" = { "));
    let doubted: Vec<&str> =
        doubted.filter(|two| !two[0].contains("cannot hold the same values")).map(|two| two[1]).collect();
    assert!(doubted.len() >= 7, "{written}");
    for line in doubted {
        let sure = written.replacen(line, &line.replacen("# ", "", 1), 1);
        std::fs::write(desk.folder.path().join("bridge.toml"), sure).expect("editing the file");
        let check = desk.run(&["check"]);
        assert_eq!(check.status.code(), Some(0), "{line}\n{}", String::from_utf8_lossy(&check.stderr));
    }
}

const LEGACY: &str =
    "create table users (id serial primary key, mail text not null unique, changed timestamptz not null default now());
                      create index on users (changed, id); insert into users (mail) values ('ada@example.org')";
const PLATFORM: &str = "create table users (id uuid primary key, email text not null unique, updated_at timestamptz not null default now());
                        create index on users (updated_at, id)";

#[tokio::test]
async fn a_file_that_is_there_is_written_over_by_force_only() {
    let (_databases, desk) = systems("init force", &[LEGACY], &[PLATFORM]).await;
    desk.succeeds(&INIT);
    let file = desk.folder.path().join("bridge.toml");
    let written = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, "mine").expect("editing it");
    desk.is_refused(&INIT, "bridge.toml is there already");
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "mine");
    let shown = desk.succeeds(&[&INIT[..], &["--output", "-"]].concat());
    assert_eq!(shown, written);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "mine", "what is shown is not written");
    desk.succeeds(&[&INIT[..], &["--force"]].concat());
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), written);
    desk.succeeds(&[&INIT[..], &["--output", "other.toml"]].concat());
    assert_eq!(std::fs::read_to_string(desk.folder.path().join("other.toml")).expect("the file"), written);
}

#[tokio::test]
async fn the_file_holds_no_address_and_no_row_is_read() {
    let (databases, desk) = systems("init blind", &[LEGACY], &[PLATFORM]).await;
    let role = format!("blind_{}", databases[0].name);
    execute(&databases[0], &format!("create role {role} login password '{SECRET}'")).await;
    let as_role = |url: &str| {
        let (_, host) = url.split_once('@').expect("a URL with a user");
        format!("postgres://{role}:{SECRET}@{host}")
    };
    // The role may read no table at all.
    let desk = desk
        .with("LEGACY_URL", as_role(databases[0].url.expose()))
        .with("PLATFORM_URL", as_role(databases[1].url.expose()));
    let output = desk.run(&[&INIT[..], &["--output", "-"]].concat());
    let (file, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(file.contains("\n    email = { legacy = \"mail\", platform = \"email\" }"), "{file}");
    for text in [&file, &said] {
        assert!(!text.contains(SECRET) && !text.contains("postgres://") && !text.contains("ada@"), "{text}");
    }
    assert!(desk.files().is_empty());
    execute(&databases[0], &format!("drop role {role}")).await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_and_nothing_is_written() {
    let (databases, desk) = systems("init refused", &[LEGACY], &[PLATFORM]).await;
    let refuses = |desk: &Desk, args: &[&str], message: &str| {
        let output = desk.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{said}");
        assert!(said.contains(message) && !said.contains(SECRET), "wants `{message}`: {said}");
        assert!(desk.files().is_empty());
    };
    let nobody = ["init", "--legacy-env", "NOBODY_SET_THIS", "--platform-env", "PLATFORM_URL"];
    refuses(&desk, &nobody, "the environment variable `NOBODY_SET_THIS` is not set");
    let desk = desk.with("OTHER", format!("mysql://u:{SECRET}@localhost/x"));
    refuses(
        &desk,
        &["init", "--legacy-env", "OTHER", "--platform-env", "PLATFORM_URL"],
        "the URL from `OTHER` is no PostgreSQL URL",
    );
    let desk = desk.with("OTHER", format!("postgres://u:{SECRET}@127.0.0.1:1/x"));
    refuses(&desk, &["init", "--legacy-env", "LEGACY_URL", "--platform-env", "OTHER"], "connecting to 127.0.0.1:1/x");
    let twice = ["init", "--legacy-env", "LEGACY_URL", "--platform-env", "LEGACY_URL"];
    refuses(&desk, &twice, "both hold the address of");
    drop(databases);
}

/// A file without an entity is none: it is written to be read, and says so.
#[tokio::test]
async fn two_systems_with_nothing_in_common_get_a_list_of_their_tables() {
    let (_databases, desk) = systems(
        "init nothing",
        &["create table apples (id serial primary key, colour text)"],
        &["create table boats (id uuid primary key, mast integer)"],
    )
    .await;
    let output = desk.run(&INIT);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no entity is sure"), "{said}");
    let written = std::fs::read_to_string(desk.folder.path().join("bridge.toml")).expect("a file");
    assert!(
        written.contains("`apples`") && written.contains("`boats`") && !written.contains("\n[[stages]]"),
        "{written}"
    );
}

#[tokio::test]
async fn a_database_of_another_encoding_is_read_too() {
    let databases = [database_in("init ascii", "SQL_ASCII").await, database("init utf").await];
    execute(&databases[0], LEGACY).await;
    execute(&databases[1], PLATFORM).await;
    let desk = Desk::new("init encoding", "")
        .with("LEGACY_URL", databases[0].url.expose())
        .with("PLATFORM_URL", databases[1].url.expose());
    assert!(desk.succeeds(&[&INIT[..], &["--output", "-"]].concat()).contains("[stages.entities.fields]"));
}
