//! What lies in `deploy/` for containers: the image's steps, tried by its own script, and the compose file, held against the programs.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::Folder;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sync-bridge")).parent().expect("programs lie in a folder")
}

/// `deploy/check.sh` over these files, with the programs that are built already.
fn checked(root: &Path) -> Output {
    let mut script = Command::new(Path::new(ROOT).join("deploy/check.sh"));
    script.env("SYNC_BRIDGE_ROOT", root).arg("--built").arg(programs());
    script.output().expect("starting the script")
}

/// The project's folder by links, but for these files, which are written anew.
fn changed(folder: &Folder, files: &[(&str, String)]) {
    for name in [
        "Cargo.toml",
        "Cargo.lock",
        "build.rs",
        "sqlx.toml",
        "benches",
        "examples",
        "migrations",
        "src",
        ".dockerignore",
    ] {
        std::os::unix::fs::symlink(Path::new(ROOT).join(name), folder.path().join(name)).expect("a link");
    }
    std::fs::create_dir(folder.path().join("deploy")).expect("a folder");
    std::fs::copy(Path::new(ROOT).join("deploy/Containerfile"), folder.path().join("deploy/Containerfile"))
        .expect("a copy");
    for (name, text) in files {
        let path = folder.path().join(name);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text).expect("writing it");
    }
}

#[test]
fn each_step_of_the_image_can_be_done() {
    let output = checked(Path::new(ROOT));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("they work as user 10001 where nothing can be written\n"), "{said}");
}

#[test]
fn a_step_that_cannot_be_done_is_named() {
    let read = |name: &str| std::fs::read_to_string(Path::new(ROOT).join(name)).expect("a file");
    let (file, ignored) = (read("deploy/Containerfile"), read(".dockerignore"));
    for (name, text, old, new, message) in [
        ("deploy/Containerfile", &file, "COPY src ./src", "COPY source ./src", "copies source, which is not there"),
        (
            "deploy/Containerfile",
            &file,
            "COPY src ./src",
            "COPY src deploy ./",
            "copies deploy, which .dockerignore leaves out",
        ),
        ("deploy/Containerfile", &file, "--locked", "--offline", "a release of what is locked is expected"),
        (
            "deploy/Containerfile",
            &file,
            "target/release/sync-bridge-worker",
            "target/release/worker",
            "calls target/release/worker sync-bridge-worker",
        ),
        (
            "deploy/Containerfile",
            &file,
            "FROM debian:bookworm-slim",
            "FROM debian:bullseye-slim",
            "builds on another release than bullseye",
        ),
        ("deploy/Containerfile", &file, "USER 10001:10001", "USER 0:0", "a USER by number that is not root"),
        (".dockerignore", &ignored, "!migrations", "", "copies migrations, which .dockerignore leaves out"),
        (".dockerignore", &ignored, "!src", "!src\n!gone", "lets gone through, which is not there"),
    ] {
        assert!(text.contains(old), "{old}");
        let folder = Folder::new("image");
        changed(&folder, &[(name, text.replacen(old, new, 1))]);
        let output = checked(folder.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(message), "{new}: {said}");
    }
}

/// A mapping with those that `<<` takes in.
fn merged(service: &Value) -> Value {
    let mut merged = service["<<"].as_object().cloned().unwrap_or_default();
    merged.extend(service.as_object().cloned().expect("a service"));
    merged.remove("<<");
    Value::Object(merged)
}

#[test]
fn the_trial_starts_what_there_is() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("deploy/compose.yaml")).expect("a file");
    let file: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let services = file["services"].as_object().expect("services");
    let mut ours = Vec::new();
    for (name, service) in services {
        let service = merged(service);
        let Some(command) = service["command"].as_array() else { continue };
        let words: Vec<&str> = command.iter().map(|word| word.as_str().expect("a word")).collect();
        let help =
            Command::new(programs().join(words[0])).args(&words[1..]).arg("--help").output().expect("starting it");
        assert!(help.status.success(), "{words:?}: {}", String::from_utf8_lossy(&help.stderr));
        assert_eq!((&service["read_only"], &service["cap_drop"][0]), (&Value::Bool(true), &"ALL".into()), "{name}");
        let build = &service["build"];
        let context = Path::new(ROOT).join("deploy").join(build["context"].as_str().expect("a folder"));
        assert!(context.join(build["dockerfile"].as_str().expect("a file")).is_file(), "{build}");
        let config = service["environment"]["SYNC_BRIDGE_CONFIG"].as_str().expect("a path");
        let mounted = service["volumes"][0].as_str().expect("a volume");
        assert_eq!(mounted.split(':').nth(1), Some(config), "{name}");
        for other in service["depends_on"].as_object().into_iter().flat_map(|others| others.keys()) {
            assert!(services.contains_key(other), "{name} waits for {other}");
        }
        ours.push(name.as_str());
    }
    assert_eq!(ours, ["console", "migrate", "scheduler", "worker"]);
}
