//! The list of mutations: each takes one guard out of the source, and names the tests that must notice. The example of the
//! same name tries them; the test here keeps the list from rotting. Never: a change of the project's own sources.

use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
struct List {
    mutation: Vec<Mutation>,
}

/// One guard taken out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    pub name: String,
    /// What is taken out, in words; first its name in the protocol, where it has one.
    pub guard: String,
    pub edit: Vec<Edit>,
    /// Tests of this program by their full names, or of the library behind `lib::`. At least one of them must fail.
    pub tests: Vec<String>,
    /// Without the guard the tests may wait for ever: killed after the limit, they count as failed.
    #[serde(default)]
    pub hangs: bool,
}

/// A text that occurs once in its file, and what stands there instead.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    pub file: PathBuf,
    pub find: String,
    pub replace: String,
}

/// All mutations of the list in this tree.
pub fn list(tree: &Path) -> Vec<Mutation> {
    let file = tree.join("tests/mutations.toml");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    toml::from_str::<List>(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())).mutation
}

/// A file of the tree with this edit made.
///
/// # Errors
/// The text is not there, or there twice.
pub fn edited(text: &str, edit: &Edit) -> Result<String, String> {
    match text.matches(&edit.find).count() {
        1 => Ok(text.replacen(&edit.find, &edit.replace, 1)),
        count => Err(format!("{} holds {count} times, not once: {}", edit.file.display(), edit.find)),
    }
}

#[cfg(test)]
#[test]
fn every_mutation_still_finds_its_place_and_its_tests() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = std::collections::BTreeSet::new();
    for mutation in list(tree) {
        assert!(names.insert(mutation.name.clone()), "{} twice", mutation.name);
        assert!(!mutation.guard.is_empty() && !mutation.edit.is_empty(), "{}", mutation.name);
        assert!(!mutation.tests.is_empty(), "{}: nobody is to notice", mutation.name);
        assert!(!mutation.hangs || mutation.tests.len() == 1, "{}: which of them waits?", mutation.name);
        for edit in &mutation.edit {
            let text = std::fs::read_to_string(tree.join(&edit.file)).expect("a file of the source");
            let changed = edited(&text, edit).unwrap_or_else(|error| panic!("{}: {error}", mutation.name));
            assert_ne!(changed, text, "{}", mutation.name);
        }
        for test in &mutation.tests {
            assert!(is_there(tree, test), "{}: there is no test {test}", mutation.name);
        }
    }
}

/// Whether a module's file holds the function of the test's name.
#[cfg(test)]
fn is_there(tree: &Path, test: &str) -> bool {
    let (root, path) = match test.strip_prefix("lib::") {
        Some(path) => ("src", path.replace("::tests::", "::")),
        None => ("tests/it", test.to_owned()),
    };
    let Some((modules, function)) = path.rsplit_once("::") else { return false };
    let module = tree.join(root).join(modules.replace("::", "/"));
    [module.with_extension("rs"), module.join("mod.rs")]
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .any(|text| text.contains(&format!("fn {function}()")))
}
