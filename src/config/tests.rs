//! The whole file: one that is right, and a table of what can be wrong with it.

use std::collections::BTreeMap;
use std::env::VarError;
use std::path::Path;
use std::time::Duration;

use chrono_tz::Tz;

use super::*;

const FULL: &str = include_str!("tests/full.toml");
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

#[test]
fn the_full_file_becomes_what_it_says() {
    let config = read(FULL).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.window_pages, config.attempts_max), (6, 5));
    assert_eq!(config.sweep_every, Duration::from_secs(86_400));
    let queue = config.queue.as_ref().expect("the file names one");
    assert_eq!(queue.to_string(), "queue:5432/bridge");
    assert_eq!(queue.expose(), format!("postgres://bridge:{SECRET}@queue:5432/bridge"));

    let [acme, globex] = config.customers.as_slice() else { panic!("two customers") };
    assert_eq!((acme.id.as_str(), acme.slug.as_str()), ("c-1001", "acme"));
    assert_eq!((acme.schedule.expression.as_str(), acme.schedule.timezone), ("*/5 * * * *", Tz::Europe__Berlin));
    assert_eq!(acme.databases["identity"].to_string(), "db.example.org:5432/acme_identity");
    assert_eq!((globex.id.as_str(), globex.slug.as_str()), ("c-1002", "c-1002"));
    assert_eq!((globex.schedule.expression.as_str(), globex.schedule.timezone), ("*/10 * * * * *", Tz::UTC));
    assert_eq!(globex.vars["tenant_id"], "7");

    let names: Vec<&str> = config.entities().map(|entity| entity.id.as_str()).collect();
    assert_eq!(names, ["user", "group", "membership"]);
    let user = config.entity(&EntityId::new("user")).expect("it is there");
    assert_eq!((user.legacy.schema.as_str(), user.legacy.name.as_str()), ("public", "users"));
    assert_eq!((user.platform.schema.as_str(), user.platform.name.as_str()), ("identity", "users"));
    assert_eq!((user.legacy.updated_at.as_str(), user.platform.updated_at.as_str()), ("last_update", "updated_at"));
    assert_eq!((user.legacy.timezone, user.platform.timezone), (Tz::Europe__Berlin, Tz::UTC));
    let flag = Deleted::Flag { column: "removed".into(), yes: "Y".into(), no: "N".into() };
    assert_eq!(user.legacy.deleted, Some(flag));
    assert_eq!(user.platform.deleted, Some(Deleted::At { column: "deleted_at".into() }));
    assert_eq!(user.platform.scope["tenant_id"], "{tenant_id}");
    assert_eq!((user.authority, user.policy, user.page_rows), (Side::Legacy, Policy::Manual, 250));
    assert_eq!((user.overlap, user.place.line), (Duration::from_secs(3_600), 33));
    let fields: Vec<&str> = user.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(fields, ["email", "name", "status", "price", "address", "team"], "in the order of the file");
    assert_eq!(user.fields[1].policy, Some(Policy::Platform));
    let values = BTreeMap::from([("Y".into(), "active".into()), ("N".into(), "suspended".into())]);
    let lenses: Vec<&Lens> = user.fields.iter().map(|field| &field.lens).collect();
    assert_eq!(
        lenses,
        [
            &Lens::Lowercase,
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
    assert_eq!((group.overlap, group.match_on.as_slice()), (Duration::from_secs(30), ["code".to_owned()].as_slice()));
    let membership = config.entity(&EntityId::new("membership")).expect("it is there");
    assert_eq!(membership.platform.key, ["group_id", "user_id"]);
}
