//! `sync-bridge completions`: what shells complete.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{Desk, verbs_of};

/// What bash says of a script; its exit code must be 0.
fn bash(script: &str) -> String {
    let mut bash = Command::new("bash")
        .args(["--noprofile", "--norc"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting bash");
    bash.stdin.take().expect("its stdin").write_all(script.as_bytes()).expect("writing a script");
    let output = bash.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn every_shell_gets_every_verb() {
    let desk = Desk::new("completions", "this file is not read");
    let verbs = verbs_of(&desk.succeeds(&["--help"]));
    assert!(verbs.len() > 20 && verbs.iter().any(|verb| verb == "dead-letters"), "{verbs:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = desk.succeeds(&["completions", shell]);
        for verb in verbs.iter().map(String::as_str).chain(["accept-deletes", "requeue"]) {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
    desk.is_refused(&["completions", "tcsh"], "tcsh");
}

#[test]
fn bash_completes_verbs_options_and_values() {
    let desk = Desk::new("bash", "this file is not read");
    let script = desk.succeeds(&["completions", "bash"]);
    let asked = |words: &[&str]| {
        let last = words.len() - 1;
        // As bash calls it: the function, with the command, the word and the one before.
        bash(&format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={last}\nfunction=$(complete -p sync-bridge | grep -oE '\\-F [^ ]+' | cut -d' ' -f2)\n\
             $function sync-bridge '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words[last],
            words[last - 1]
        ))
    };
    let lines = |words: &[&str]| asked(words).lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&["sync-bridge", "quar"]), ["quarantine"]);
    assert_eq!(lines(&["sync-bridge", "dead-letters", "req"]), ["requeue"]);
    assert_eq!(lines(&["sync-bridge", "erase", "--rea"]), ["--reason"]);
    assert_eq!(lines(&["sync-bridge", "erase", "--side", "pl"]), ["platform"]);
    assert_eq!(lines(&["sync-bridge", "nonsense", ""]).concat(), lines(&["sync-bridge", ""]).concat());
}
