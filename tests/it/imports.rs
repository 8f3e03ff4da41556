//! Keeps the directions of the house true, by reading the source: who may import whom, and what only one place may name.
//! See `docs/STYLE.md`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The floors of the house, the ground first. A module may import its own floor and those below.
const FLOORS: [&[&str]; 5] = [
    &["config", "keyset", "telemetry", "embedded", "clock", "fault", "health", "listening", "shutdown", "told"],
    &["mapping", "pairs", "sides", "ledger", "queue"],
    &["stages", "reconcile"],
    &["scheduler", "jobs", "console", "ops", "manifests", "roster"],
    &["bin", "demo", "startup"],
];

/// Further imports that would be downwards or level, and must not be: from, to, why.
const FORBIDDEN: [(&str, &str, &str); 2] = [
    ("stages", "queue", "stages run in a test without a queue"),
    ("stages", "ledger", "what happened is recorded by the job, in its own transaction"),
];

/// Imports that go upwards all the same: from, to, why. One that is not needed any more fails the test too.
const UPWARDS: [(&str, &str, &str); 1] =
    [("ledger", "stages", "a page's report is plain data of the contract between stages and jobs")];

/// A word that only some files may name.
struct Reserved {
    words: &'static [&'static str],
    /// Files or folders under `src/`.
    only_in: &'static [&'static str],
    why: &'static str,
    /// Other files that name it all the same, and why.
    except: &'static [(&'static str, &'static str)],
}

const RESERVED: [Reserved; 4] = [
    Reserved {
        words: &["apalis", "apalis_postgres", "apalis_core", "apalis_sql"],
        only_in: &["queue"],
        why: "the queue can be replaced only if one place knows it",
        except: &[],
    },
    Reserved {
        words: &["opentelemetry", "opentelemetry_sdk", "opentelemetry_otlp", "tracing_opentelemetry"],
        only_in: &["telemetry"],
        why: "work says what it does with spans of `tracing`; how these are sent is known in one place",
        except: &[],
    },
    Reserved {
        words: &["sleep", "Utc::now", "Local::now", "Instant::now", "SystemTime::now"],
        only_in: &["clock.rs"],
        why: "a test can move a clock only if there is one",
        except: &[],
    },
    Reserved {
        words: &["sqlx::query", "sqlx::query_as", "sqlx::query_scalar"],
        only_in: &["sides/postgres/mod.rs", "queue", "ledger", "ops", "jobs", "embedded", "demo"],
        why: "on a side behind a pooler a prepared statement would stay in somebody else's session",
        except: &[("sides/postgres/answered.rs", "the type of a statement")],
    },
];

/// Pure files and folders under `src/`: they name none of these crates.
const PURE: [&str; 2] = ["mapping", "stages/decide.rs"];
const NOT_PURE: [&str; 3] = ["sqlx", "tokio", "futures"];

#[test]
fn nobody_imports_upwards() {
    let mut wrong = String::new();
    let mut used = BTreeSet::new();
    for file in sources("src", "rs") {
        let Some((from, from_floor)) = floor(&file.module) else {
            if !file.is_root() {
                let _ = writeln!(wrong, "{}: a module without a floor: give it one in FLOORS", file.path.display());
            }
            continue;
        };
        for (to, line) in imports(&file) {
            let place = format!("{}:{line}: {from} imports {to}", file.path.display());
            match floor(&to) {
                None => {}
                Some((to, to_floor)) if to_floor > from_floor => {
                    if UPWARDS.iter().any(|(a, b, _)| (*a, *b) == (from, to)) {
                        used.insert((from, to));
                    } else {
                        let _ = writeln!(wrong, "{place}, which is upwards");
                    }
                }
                Some((to, _)) => {
                    if let Some((_, _, why)) = FORBIDDEN.iter().find(|(a, b, _)| (*a, *b) == (from, to)) {
                        let _ = writeln!(wrong, "{place}, but {why}");
                    }
                }
            }
        }
    }
    for (from, to, _) in UPWARDS.iter().filter(|(from, to, _)| !used.contains(&(*from, *to))) {
        let _ = writeln!(wrong, "the exception {from} to {to} is not needed any more: remove it from UPWARDS");
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn what_one_place_owns_is_named_nowhere_else() {
    let mut wrong = String::new();
    for file in sources("src", "rs").into_iter().chain(sources("src", "sql")) {
        for reserved in RESERVED.iter().filter(|reserved| !reserved.only_in.iter().any(|owner| file.is_in(owner))) {
            if reserved.except.iter().any(|(except, _)| file.is_in(except)) {
                continue;
            }
            for (word, line) in
                reserved.words.iter().flat_map(|word| occurrences(&file.code, word).map(move |at| (word, at)))
            {
                let _ = writeln!(wrong, "{}:{line}: names {word}, but {}", file.path.display(), reserved.why);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn what_decides_does_no_io() {
    let mut wrong = String::new();
    for file in sources("src", "rs").iter().filter(|file| PURE.iter().any(|pure| file.is_in(pure))) {
        for (word, line) in NOT_PURE.iter().flat_map(|word| occurrences(&file.code, word).map(move |at| (word, at))) {
            let _ = writeln!(wrong, "{}:{line}: names {word}, but is pure", file.path.display());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A connection that leads nowhere says nothing: each question to a side has a bound.
#[test]
fn every_answer_of_a_side_has_a_bound() {
    let mut wrong = String::new();
    for file in sources("src", "rs").into_iter().filter(|file| file.is_in("stages") || file.is_in("sides")) {
        let code: String = file.code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" .", ".");
        for call in [".commit()", ".rollback()", ".finish()"] {
            for (_, rest) in code.match_indices(call).map(|(at, _)| code.split_at(at + call.len())) {
                if rest.starts_with(".await") {
                    let _ = writeln!(wrong, "{}: {call}.await: .answered().await", file.path.display());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn tests_do_not_sleep() {
    let mut wrong = String::new();
    for file in sources("tests", "rs") {
        for line in occurrences(&file.code, "sleep") {
            let _ = writeln!(wrong, "{}:{line}: sleeps: wait for what should happen", file.path.display());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A source file without its comments and the text of its strings.
struct Source {
    /// From the project's folder.
    path: PathBuf,
    /// From the folder that was asked for.
    inside: PathBuf,
    /// The module at the crate's root that it belongs to.
    module: String,
    code: String,
}

impl Source {
    fn is_root(&self) -> bool {
        self.inside == Path::new("lib.rs")
    }

    fn is_in(&self, place: &str) -> bool {
        self.inside.starts_with(place)
    }

    /// How many modules it is away from the crate's root.
    fn depth(&self) -> usize {
        let parts = self.inside.with_extension("").components().count();
        if self.inside.ends_with("mod.rs") { parts - 1 } else { parts }
    }
}

/// All files under `folder` with this extension, in order of their names.
fn sources(folder: &str, extension: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("the project's folders can be read") {
            let path = entry.expect("the project's folders can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = std::fs::read_to_string(&path).expect("the project's files are text");
                let inside = path.strip_prefix(root.join(folder)).expect("it was found there").to_owned();
                let first = inside.iter().next().expect("a file has a name");
                let module = Path::new(first).with_extension("").to_string_lossy().into_owned();
                let code = if extension == "rs" { bare(&text) } else { text };
                found.push(Source { path: Path::new(folder).join(&inside), inside, module, code });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(extension != "rs" || !found.is_empty(), "no sources under {folder}");
    found
}

fn floor(module: &str) -> Option<(&'static str, usize)> {
    FLOORS
        .iter()
        .enumerate()
        .find_map(|(floor, modules)| modules.iter().find(|name| **name == module).map(|name| (*name, floor)))
}

/// The modules at the crate's root that a file names, by `crate::` or by as many `super::` as lead there, with lines.
fn imports(file: &Source) -> BTreeSet<(String, usize)> {
    let supers = "super::".repeat(file.depth());
    let mut found = BTreeSet::new();
    for root in ["crate::", supers.as_str()] {
        for (at, _) in file.code.match_indices(root).filter(|(_, text)| !text.is_empty()) {
            let line = line_of(&file.code, at);
            let names = heads(&file.code[at + root.len()..]);
            found.extend(names.into_iter().filter(|name| name != &file.module).map(|name| (name, line)));
        }
    }
    found
}

/// The first names of a path, or of each path in a group: `a::b` gives a; `{a::{b, c}, d}` gives a and d.
fn heads(path: &str) -> Vec<String> {
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else { return Vec::from_iter(head(path)) };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.extend(head(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn head(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|c| is_word(*c)).collect();
    (!name.is_empty()).then_some(name)
}

/// The lines on which `word` stands alone. Our own clock may be asked by anybody: `clock::sleep` is not `sleep`.
fn occurrences<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).filter_map(move |(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let alone = !before.ends_with(is_word) && !after.starts_with(is_word);
        (alone && !before.ends_with("clock::")).then(|| line_of(code, at))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Rust without comments and without what stands between quotes; the lines stay where they are.
fn bare(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let end = match (c, chars.get(at + 1)) {
            ('/', Some('/')) => find(&chars, at, &['\n']).unwrap_or(chars.len()),
            ('/', Some('*')) => end_of_block_comment(&chars, at),
            ('"', _) => end_of_string(&chars, at),
            ('r', Some('"' | '#'))
                if !at.checked_sub(1).is_some_and(|before| is_word(chars[before]) && chars[before] != 'b') =>
            {
                end_of_raw_string(&chars, at)
            }
            ('\'', _) => end_of_char(&chars, at),
            _ => at,
        };
        if end == at {
            code.push(c);
            at += 1;
        } else {
            // A string between two names must not make one of them.
            code.push(' ');
            code.extend(chars[at..end].iter().filter(|c| **c == '\n'));
            at = end;
        }
    }
    code
}

fn find(chars: &[char], from: usize, wanted: &[char]) -> Option<usize> {
    (from..chars.len()).find(|at| chars[*at..].starts_with(wanted))
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < chars.len() {
        if chars[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if chars[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `start` itself where `r` begins a name such as `r#type`.
fn end_of_raw_string(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return start;
    }
    let mut close = vec!['"'];
    close.resize(hashes + 1, '#');
    find(chars, start + 2 + hashes, &close).map_or(chars.len(), |at| at + close.len())
}

/// `start` itself where the quote begins a lifetime.
fn end_of_char(chars: &[char], start: usize) -> usize {
    match (chars.get(start + 1), chars.get(start + 2)) {
        (Some('\\'), _) => find(chars, start + 3, &['\'']).map_or(chars.len(), |at| at + 1),
        (Some(_), Some('\'')) => start + 3,
        _ => start,
    }
}

#[test]
fn code_is_told_from_comments_and_strings() {
    let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# l 'm' 'n o '\\'' p '\"' q br\"r\" r#type";
    let words: Vec<String> = bare(text).split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["a", "e", "i", "l", "'n", "o", "p", "q", "b", "r#type"]);
    assert_eq!(heads("{a::{b, c}, d as e,\n f}; g"), ["a", "d", "f"]);
    assert_eq!(heads("a::b::{c}"), ["a"]);
    assert_eq!(occurrences("clock::sleep(x);\nsleep(y); sleeper(); asleep()", "sleep").collect::<Vec<_>>(), [2]);
}
