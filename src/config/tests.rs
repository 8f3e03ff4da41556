//! The whole file: one that is right, and a table of what can be wrong with it.

use std::collections::BTreeSet;
use std::env::VarError;
use std::path::Path;
use std::time::Duration;

use chrono_tz::Tz;

use super::*;

const FULL: &str = include_str!("tests/full.toml");
const SMALL: &str = include_str!("tests/small.toml");
/// Cases: what of the small file is replaced (`-`), by what (`+`), and the message that follows.
const BROKEN: &str = include_str!("tests/broken.txt");
const SECRET: &str = "hunter2";

fn env(name: &str) -> Result<String, VarError> {
    match name {
        "QUEUE_DATABASE_URL" => Ok(format!("postgres://bridge:{SECRET}@queue:5432/bridge")),
        "ACME_LEGACY_URL" => Ok(format!("postgres://bridge:{SECRET}@legacy.example.org/acme")),
        "ACME_PASSWORD" | "PLAIN" => Ok(SECRET.into()),
        "MYSQL_URL" => Ok(format!("mysql://u:{SECRET}@h/db")),
        "UNENCODED_URL" => Ok(format!("postgres://u:12/{SECRET}@h/db")),
        "HASH_URL" => Ok(format!("postgres://u:12#{SECRET}@h/db")),
        "MODE_URL" => Ok(format!("postgres://u@h/db?sslmode={SECRET}")),
        "PARAMETER_URL" => Ok(format!("postgres://u@h/db?{SECRET}=1")),
        _ => Err(VarError::NotPresent),
    }
}

fn read(text: &str) -> Result<Config, String> {
    parse::parse(Path::new("bridge.toml"), text, &env).map_err(|error| error.to_string())
}

/// The keys that reading this file asks each table for, by the table's place.
pub fn asked(text: &str) -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut reader = reader::Reader::new(report::Report::new("bridge.toml".into(), text), &env);
    let table = toml::de::DeTable::parse(text).expect("a TOML file");
    parse::read(Path::new("bridge.toml"), table.get_ref(), &[], &mut reader);
    reader.asked
}

#[test]
fn the_full_file_becomes_what_it_says() {
    let config = read(FULL).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.window_pages, config.attempts_max), (6, 5));
    assert_eq!(config.sweep_every, Duration::from_secs(86_400));
    assert_eq!(config.conflicts_kept, Duration::from_secs(30 * 86_400));
    assert_eq!(config.outage_max, Duration::from_secs(12 * 3_600));
    assert_eq!(config.connections_max, 50);
    assert_eq!(config.mapping_percent_max, 5);
    let queue = config.queue.as_ref().expect("the file names one");
    assert_eq!(queue.to_string(), "queue:5432/bridge");
    assert_eq!(queue.expose(), format!("postgres://bridge:{SECRET}@queue:5432/bridge"));

    let [acme, globex] = config.customers.as_slice() else { panic!("two customers") };
    assert_eq!((acme.id.as_str(), acme.slug.as_str()), ("c-1001", "acme"));
    assert_eq!((acme.schedule.expression.as_str(), acme.schedule.timezone), ("*/5 * * * *", Tz::Europe__Berlin));
    assert_eq!(
        (acme.load_window, globex.load_window),
        (DayWindow::parse("22:00-06:00"), DayWindow::parse("01:00-03:30"))
    );
    let lag = Duration::from_secs(10);
    let of_legacy = Limits { connections: Some(4), load_rows_per_second: None, replica_lag: lag };
    assert_eq!((acme.limits_of("legacy"), acme.limits_of("identity")), (of_legacy, Limits::default()));
    assert_eq!(globex.limits_of("legacy"), Limits { load_rows_per_second: Some(200), ..of_legacy });
    assert_eq!(globex.limits_of("identity"), Limits { connections: Some(8), ..Limits::default() });
    assert_eq!(acme.databases["identity"].to_string(), "db.example.org:5432/acme_identity");
    assert_eq!((globex.id.as_str(), globex.slug.as_str()), ("c-1002", "c-1002"));
    assert_eq!((globex.schedule.expression.as_str(), globex.schedule.timezone), ("*/10 * * * * *", Tz::UTC));
    assert_eq!(globex.vars["tenant_id"], "7");

    let names: Vec<&str> = config.entities().map(|entity| entity.id.as_str()).collect();
    assert_eq!(names, ["user", "group", "membership"]);
    let user = config.entity(&EntityId::new("user")).expect("it is there");
    assert_eq!((user.legacy.schema.as_str(), user.legacy.name.as_str()), ("public", "users"));
    assert_eq!((user.platform.schema.as_str(), user.platform.name.as_str()), ("identity", "users"));
    assert_eq!(
        (user.legacy.updated_at.as_deref(), user.platform.updated_at.as_deref()),
        (Some("last_update"), Some("updated_at"))
    );
    assert_eq!((user.legacy.timezone, user.platform.timezone), (Tz::Europe__Berlin, Tz::UTC));
    let flag = Deleted::Flag { column: "removed".into(), yes: "Y".into(), no: "N".into() };
    assert_eq!(user.legacy.deleted, Some(flag));
    assert_eq!(user.platform.deleted, Some(Deleted::At { column: "deleted_at".into() }));
    assert_eq!(user.platform.scope["tenant_id"], "{tenant_id}");
    assert_eq!((user.authority, user.policy, user.page_rows), (Side::Legacy, Policy::Manual, 250));
    assert_eq!((user.overlap, user.place.line), (Duration::from_secs(3_600), 44));
    let fields: Vec<&str> = user.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(fields, ["email", "name", "status", "price", "address", "team"], "in the order of the file");
    assert_eq!(user.fields[1].policy, Some(Policy::Platform));
    assert_eq!(user.first_contact, FirstContact::Side(Side::Legacy));
    assert_eq!([0, 1].map(|at| user.fields[at].first_contact), [None, Some(FirstContact::Manual)]);
    let pair = |legacy: &str, platform: &str| ValuePair {
        legacy: legacy.into(),
        platform: vec![platform.into()],
        is_written: true,
    };
    let values = vec![pair("Y", "active"), pair("N", "suspended")];
    let lenses: Vec<&Lens> = user.fields.iter().map(|field| &field.lens).collect();
    assert_eq!(
        lenses,
        [
            &Lens::Fold(vec![TextFold::Lowercase]),
            &Lens::Join(" ".into()),
            &Lens::Values(values),
            &Lens::Same,
            &Lens::Object(vec!["street".into(), "city".into()]),
            &Lens::Ref(EntityId::new("group")),
        ]
    );
    assert_eq!(user.fields[3].platform, ["price_$"]);

    let group = config.entity(&EntityId::new("group")).expect("it is there");
    assert_eq!((group.authority, group.policy, group.page_rows), (Side::Platform, Policy::Newest, 500));
    assert_eq!(group.first_contact, FirstContact::Authority);
    assert_eq!((group.overlap, group.match_on.as_slice()), (Duration::from_secs(30), ["code".to_owned()].as_slice()));
    let membership = config.entity(&EntityId::new("membership")).expect("it is there");
    assert_eq!(membership.platform.key, ["group_id", "user_id"]);
}

struct Broken {
    text: String,
    change: String,
    message: String,
}

fn broken() -> Vec<Broken> {
    let case = |case: &str| {
        let lines = |mark: &str| -> String {
            let lines: Vec<&str> = case.lines().filter_map(|line| line.strip_prefix(mark)).collect();
            lines.join("\n")
        };
        let (old, new) = (lines("- "), lines("+ "));
        assert!(SMALL.contains(&old), "not in the small file: {old}");
        let message = case.lines().skip_while(|line| line.starts_with("- ") || line.starts_with("+ "));
        let message = message.collect::<Vec<_>>().join("\n");
        Broken { text: SMALL.replacen(&old, &new, 1), change: format!("{old} -> {new}"), message }
    };
    BROKEN.split("====\n").filter(|text| !text.is_empty()).map(case).collect()
}

#[test]
fn every_mistake_has_its_message() {
    assert!(read(SMALL).is_ok(), "{:?}", read(SMALL));
    let cases = broken();
    assert!(cases.len() > 70, "the cases are read");
    let mut others = Vec::new();
    for case in cases {
        let message = read(&case.text).map(|_| "accepted".to_owned()).unwrap_or_else(|error| error);
        if message != case.message {
            others.push(format!("{}\n{message}\ninstead of\n{}", case.change, case.message));
        }
    }
    assert!(others.is_empty(), "\n{}", others.join("\n\n"));
}

/// Whether the file can be read customer by customer; whichever way, it says what it says as a whole.
fn is_read_apart(text: &str) -> bool {
    let path = Path::new("bridge.toml");
    let reader = || reader::Reader::new(report::Report::new("bridge.toml".into(), text), &env);
    let told = |read: Result<&Config, &ConfigError>| match read {
        Ok(config) => {
            // `Debug` keeps to itself what may be secret.
            let secrets = config.customers.iter().map(|customer| {
                let urls: Vec<&str> = customer.databases.values().map(DatabaseUrl::expose).collect();
                format!("{urls:?} {:?}", customer.vars)
            });
            format!("{config:?}\n{}", secrets.collect::<Vec<_>>().join("\n"))
        }
        Err(error) => format!("{error}\n{:?}", error.findings),
    };
    let whole = told(parse::read_whole(path, text, reader()).as_ref());
    assert_eq!(told(parse::parse(path, text, &env).as_ref()), whole, "{text}");
    parse::read_apart(path, text, &mut reader()).is_some_and(|config| {
        assert_eq!(told(Ok(&config)), whole, "{text}");
        true
    })
}

#[test]
fn a_file_says_the_same_read_customer_by_customer_and_as_a_whole() {
    const OTHER: &str = r#"
[[customers]]
id = "c-2"
databases = { old = "postgres://h/o", new = "postgres://h/n" }
vars = { tenant_id = 2 }
"#;
    const VARS: &str = r#"vars = { tenant_id = "t-1" }"#;
    const TABLE: &str = r#"table = "identity.users""#;
    let two = format!("{SMALL}{OTHER}");
    let with = |old: &str, new: &str| {
        assert!(two.contains(old), "{old}");
        two.replacen(old, new, 1)
    };
    let filtered = |sql: &str| with(TABLE, &format!("{TABLE}, where = {sql}"));
    for text in [
        FULL.to_owned(),
        SMALL.to_owned(),
        two.clone(),
        two.replace('\n', "\r\n"),
        two.trim_end().to_owned(),
        format!("{OTHER}{SMALL}"),
        with("[[customers]]", "  [[customers]] # the first [of two]"),
        with(VARS, "# [[customers]]\n#[queue]"),
        with(VARS, "labels = { note = \"\"\"\nåø\n\"\"\" }"),
        with(VARS, "\t[customers.vars]\n\ttenant_id = \"t-1\"\n[customers.labels]\na = \"[\""),
        filtered("\"\"\"id > 0 or\n 'x' = '[customers'\"\"\""),
    ] {
        assert!(is_read_apart(&text), "{text}");
    }
    // Taken alone, the first customer's part is right, and so is the rest, in which the string goes on up to the second stage.
    let astride = format!("\"\"\"{}[[stages]]\nname = '''\n\"\"\"", OTHER.replace("c-2", "c-3"));
    for (is_right, text) in [
        // Lines of a string that look like headers.
        (true, with(VARS, "labels = { a = \"\"\"\n[[customers]]\nid = \"c-9\"\n\"\"\" }")),
        (true, filtered("\"\"\"true\n[[customers]]\n\"\"\"")),
        (true, filtered("'''true\n[[customers]]\n[customers.vars]\n'''")),
        (true, with("\" \"", &astride)),
        // The same written in other ways.
        (true, with("[[customers]]", "[[ customers ]]")),
        (true, with("[[customers]]", "[['customers']]")),
        (true, with(VARS, "[ customers.vars ]\ntenant_id = \"t-1\"")),
        (true, format!("{SMALL}[customers.labels]\na = 1\n")),
        (false, format!("{}[['customers']]\n", with("\" \"", &astride))),
        (false, with("[defaults]", "customers = []\n[defaults]")),
        (false, with(VARS, "[customers]\nid = \"c-3\"")),
        (false, format!("{two}[customers.vars]\na = 1\n[customers.vars]\na = 1\n")),
        (false, format!("{two}[[customers.oddities]]\nid = 1\n")),
        // Customers that are not right, by themselves or together.
        (false, format!("{two}{OTHER}")),
        (false, with("slug = \"acme\"", "slug = \"c-2\"")),
        (false, with("slug = \"acme\"", "slug = \"${NOT_SET}\"")),
        (false, with("id = \"c-2\"", "id = \"c 2\"")),
        (false, with("id = \"c-2\"", "id = \"c-2\"\u{1}")),
        (false, with("id = \"c-2\"", "id = \"c-2\"\nid = \"c-2\"")),
        (false, with("\"postgres://h/o\", ", "")),
    ] {
        assert_eq!(read(&text).is_ok(), is_right, "{text}\n{:?}", read(&text).err());
        assert!(!is_read_apart(&text), "{text}");
    }
    for case in broken() {
        assert!(!is_read_apart(&case.text), "{}", case.text);
    }
}

#[test]
fn databases_of_the_embedded_server_get_their_address_later() {
    let text = SMALL.replace("postgres://localhost/old", "embedded:acme_old");
    let mut config = read(&text).unwrap_or_else(|error| panic!("{error}"));
    assert!(config.needs_embedded());
    assert_eq!(config.customers[0].databases["old"].embedded_name(), Some("acme_old"));
    config.embed(|name| {
        DatabaseUrl::new(format!("postgres://u:p@127.0.0.1:7777/{name}"), format!("127.0.0.1:7777/{name}"))
    });
    assert_eq!(config.customers[0].databases["old"].to_string(), "127.0.0.1:7777/acme_old");
    assert_eq!(config.customers[0].databases["new"].to_string(), "localhost:5432/new");
    assert_eq!(config.queue.as_ref().map(ToString::to_string).as_deref(), Some("127.0.0.1:7777/bridge"));
    assert!(!config.needs_embedded());
}

#[test]
fn all_problems_are_shown_together_in_the_order_of_the_file() {
    let text = SMALL
        .replace("page_rows = 500", "page_rows = 0")
        .replace("id = \"c-1\"", "id = \"c 1\"")
        .replace("lens = \"lowercase\"", "lens = \"upper\"")
        .replace("ref = \"user\"", "ref = \"usr\"");
    let error = read(&text).expect_err("it has four mistakes");
    let heads: Vec<&str> = error.lines().filter(|line| line.starts_with("bridge.toml:")).collect();
    let lines: Vec<&str> = heads.iter().filter_map(|head| head.split(':').nth(1)).collect();
    assert_eq!(lines, ["2", "5", "18", "25"], "{error}");
}

#[test]
fn a_flood_of_problems_is_cut_and_counted() {
    let customers: String = (0..200).map(|n| format!("[[customers]]\nid = \"c {n}\"\n")).collect();
    let error = read(&format!("{customers}{}", &SMALL[SMALL.find("[[stages]]").expect("it is there")..]))
        .expect_err("ids hold spaces");
    assert!(error.ends_with("bridge.toml: 370 more problems"), "{error}");
}

#[test]
fn an_empty_file_says_what_belongs_into_it() {
    let error = read("").expect_err("it is empty");
    assert_eq!(
        error,
        "bridge.toml:1: customers: is missing\n  |\n1 | \n  | ^\n  = help: add `[[customers]]`\n\n\
         bridge.toml:1: stages: is missing\n  |\n1 | \n  | ^\n  = help: add `[[stages]]`"
    );
}

#[test]
fn a_file_that_cannot_be_read_says_which_and_why() {
    let error = load(Path::new("/nowhere/bridge.toml")).expect_err("it is not there").to_string();
    assert_eq!(
        error,
        "reading the configuration /nowhere/bridge.toml: no such file: name it with --config or SYNC_BRIDGE_CONFIG"
    );
    let error = load(Path::new("/")).expect_err("it is a folder").to_string();
    assert_eq!(error, "reading the configuration /: it is a folder: name the file");
}

#[test]
fn no_secret_is_ever_shown() {
    let config = read(FULL).unwrap_or_else(|error| panic!("{error}"));
    for shown in [format!("{config:?}"), format!("{config:#?}")] {
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(!shown.contains("6f1c0a52"), "variables may be secret too: {shown}");
    }
    // The good file with the secret at hand, cut or bent at every line: whatever is said about it, never the secret.
    let literal = FULL.replace("${ACME_PASSWORD}", SECRET).replace("${ACME_LEGACY_URL}", "${UNENCODED_URL}");
    let lines: Vec<&str> = literal.lines().collect();
    let mut files: Vec<String> = broken().into_iter().map(|case| case.text).collect();
    for at in 0..lines.len() {
        let without: Vec<&str> = lines.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, line)| *line).collect();
        files.push(without.join("\n"));
        files.push(lines[..at].join("\n"));
        for variable in ["PLAIN", "QUEUE_DATABASE_URL", "MYSQL_URL", "PARAMETER_URL"] {
            let mut bent: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            // Every string of the line becomes the variable.
            let parts: Vec<&str> = lines[at].split('"').collect();
            bent[at] = parts
                .iter()
                .enumerate()
                .map(|(n, part)| if n % 2 == 1 { format!("\"${{{variable}}}\"") } else { (*part).to_owned() })
                .collect();
            files.push(bent.join("\n"));
        }
        // An unclosed string.
        let mut open: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        open[at] = open[at].replacen('"', "", 1);
        files.push(open.join("\n"));
    }
    for text in files {
        let error = read(&text).map(|config| format!("{config:?}")).unwrap_or_else(|error| error);
        assert!(!error.contains(SECRET), "{text}\n-----\n{error}");
    }
}

#[test]
fn a_row_is_shared_unless_conditions_or_scopes_keep_the_entities_apart() {
    let mut config = read(SMALL).unwrap_or_else(|error| panic!("{error}"));
    let one = config.entities().next().expect("an entity").clone();
    let mut other = Entity { id: EntityId::new("other"), ..one.clone() };
    other.platform.name = "others".into();
    let mut says = |other: &Entity, kept: [bool; 2]| {
        config.stages[0].entities = vec![one.clone(), other.clone()];
        for entity in config.entities() {
            let keeps = Side::BOTH.map(|side| config.deletes(entity, side) == Deletes::Keep);
            assert_eq!(keeps, kept, "{}: {other:?}", entity.id);
        }
    };
    says(&other, [true, false]);
    // A further table is as good as an own one.
    let (schema, name) = (one.platform.schema.clone(), one.platform.name.clone());
    let further = Further { alias: "it".into(), schema, name, key: vec!["id".into()], updated_at: "updated_at".into() };
    other.platform.also = vec![further];
    says(&other, [true, true]);
    other.platform.also.clear();
    other.legacy.database = "elsewhere".into();
    says(&other, [false, false]);
    let entities = |legacy: Table| vec![one.clone(), Entity { legacy, ..other.clone() }];
    let mut narrowed = one.legacy.clone();
    narrowed.filter = Some("kind = 1".into());
    config.stages[0].entities = entities(narrowed);
    config.stages[0].entities[0].legacy.filter = Some("kind = 2".into());
    assert!(config.entities().all(|entity| config.sharer(entity, Side::Legacy).is_none()));
    config.stages[0].entities[0].legacy.filter = None;
    assert!(
        config.entities().all(|entity| config.sharer(entity, Side::Legacy).is_some()),
        "one condition keeps nobody apart"
    );
}
