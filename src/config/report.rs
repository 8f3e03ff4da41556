//! What is wrong with a file, collected and shown in one go. `source` knows how a problem looks.

use std::fmt::Write as _;
use std::ops::Range;

use super::{Finding, Place, Source};

/// More than this says nothing new; the rest is counted.
const PROBLEMS_SHOWN_MAX: usize = 30;

/// Everything that is wrong with a file, each with its place and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{shown}")]
pub struct ConfigError {
    shown: String,
    /// The same, one by one.
    pub findings: Vec<Finding>,
}

/// Problems of one file while it is read.
pub(super) struct Report {
    pub source: Source,
    problems: Vec<Finding>,
}

impl ConfigError {
    /// A file that cannot be read at all.
    pub(super) fn unreadable(message: String) -> ConfigError {
        ConfigError { findings: vec![Finding::error("file", message.clone())], shown: message }
    }

    /// What was found in a file that could be read.
    pub fn of(source: &Source, mut findings: Vec<Finding>) -> ConfigError {
        findings.sort_by_key(|finding| finding.place.map(|place| place.from));
        let first = findings.iter().take(PROBLEMS_SHOWN_MAX);
        let mut shown = first.map(|finding| source.show(finding, &[])).collect::<Vec<_>>().join("\n\n");
        if findings.len() > PROBLEMS_SHOWN_MAX {
            let _ = write!(shown, "\n\n{}: {} more problems", source.file, findings.len() - PROBLEMS_SHOWN_MAX);
        }
        findings.iter_mut().for_each(Finding::hide_secrets);
        ConfigError { shown, findings }
    }
}

impl Report {
    pub fn new(file: String, text: &str) -> Report {
        Report::of(Source::new(file, text))
    }

    pub fn of(source: Source) -> Report {
        Report { source, problems: Vec::new() }
    }

    pub fn problem(&mut self, at: &Range<usize>, field: &str, message: impl Into<String>, help: Option<String>) {
        let place = Some(self.place(at));
        // Empty for the file as a whole.
        let field = (!field.is_empty()).then(|| field.to_owned());
        self.problems.push(Finding { place, field, help, ..Finding::error("file", message) });
    }

    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn count(&self) -> usize {
        self.problems.len()
    }

    pub fn place(&self, at: &Range<usize>) -> Place {
        self.source.place(at)
    }

    /// See [`Source::within`].
    pub fn within(&self, at: &Range<usize>, needle: &str) -> Range<usize> {
        self.source.within(at, needle)
    }

    /// All problems in the order of the file.
    pub fn into_error(self) -> ConfigError {
        ConfigError::of(&self.source, self.problems)
    }
}

/// `did you mean …?` if one of the names is near, else all of them if they are few.
pub fn suggest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let names: Vec<&str> = names.into_iter().collect();
    match nearest(wrong, names.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None => all_known(&names),
    }
}

/// `known here: …`, if they are few.
pub fn all_known(names: &[&str]) -> Option<String> {
    /// As many names fit a line that a person reads.
    const NAMES_LISTED_MAX: usize = 16;
    (!names.is_empty() && names.len() <= NAMES_LISTED_MAX).then(|| {
        let listed: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("known here: {}", listed.join(", "))
    })
}

/// The name that somebody may have meant.
pub fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wrong = wrong.to_lowercase();
    let distance_max = (wrong.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, name)| name)
}
