//! What is wrong with a file, collected and shown in one go. Owns: how a problem looks. Never: a secret; every line passes
//! `secrets::mask` on its way out.

use std::fmt::Write as _;
use std::ops::Range;

use super::parse::Place;
use super::secrets;

/// More than this says nothing new; the rest is counted.
const PROBLEMS_SHOWN_MAX: usize = 30;

/// A longer line is cut around the caret, so that it fits a terminal.
const LINE_CHARS_MAX: usize = 120;

/// Everything that is wrong with a file, each with its place and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);

/// Problems of one file while it is read.
pub(super) struct Report<'a> {
    file: String,
    text: &'a str,
    /// Where each line starts: a file of ten thousand customers asks for as many places.
    lines: Vec<usize>,
    problems: Vec<Problem>,
}

struct Problem {
    at: Range<usize>,
    /// `customers[0].schedule`; empty for the file as a whole.
    field: String,
    message: String,
    help: Option<String>,
}

impl<'a> Report<'a> {
    pub fn new(file: String, text: &'a str) -> Report<'a> {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Report { file, text, lines, problems: Vec::new() }
    }

    pub fn problem(&mut self, at: &Range<usize>, field: &str, message: impl Into<String>, help: Option<String>) {
        self.problems.push(Problem { at: at.clone(), field: field.to_owned(), message: message.into(), help });
    }

    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn count(&self) -> usize {
        self.problems.len()
    }

    pub fn place(&self, at: &Range<usize>) -> Place {
        Place { line: u32::try_from(self.line_of(at.start).0).unwrap_or(u32::MAX) }
    }

    /// Where `needle` stands in the source of a value: the caret of a `${NAME}` points at it and not at the whole string.
    pub fn within(&self, at: &Range<usize>, needle: &str) -> Range<usize> {
        match self.text.get(at.clone()).and_then(|source| source.find(needle)) {
            Some(offset) => at.start + offset..at.start + offset + needle.len(),
            None => at.clone(),
        }
    }

    /// All problems in the order of the file.
    pub fn into_error(mut self) -> ConfigError {
        self.problems.sort_by_key(|problem| problem.at.start);
        let mut out = String::new();
        for problem in self.problems.iter().take(PROBLEMS_SHOWN_MAX) {
            if !out.is_empty() {
                out.push_str("\n\n");
            }
            self.show(problem, &mut out);
        }
        let count = self.problems.len();
        if count > PROBLEMS_SHOWN_MAX {
            let _ = write!(out, "\n\n{}: {} more problems", self.file, count - PROBLEMS_SHOWN_MAX);
        }
        ConfigError(out)
    }

    fn show(&self, problem: &Problem, out: &mut String) {
        let (line, start, source) = self.line_of(problem.at.start);
        let field =
            if problem.field.is_empty() { String::new() } else { format!(" {}:", secrets::mask(&problem.field).0) };
        let _ = write!(out, "{}:{line}:{field} {}", self.file, secrets::mask(&problem.message).0);

        let gutter = " ".repeat(line.to_string().len());
        let from = (problem.at.start - start).min(source.len());
        let upto = (problem.at.end.max(problem.at.start) - start).min(source.len());
        let (shown, caret) = underline(source, from..upto);
        let _ = write!(out, "\n{gutter} |\n{line} | {shown}\n{gutter} | {caret}");
        if let Some(help) = &problem.help {
            let _ = write!(out, "\n{gutter} = help: {}", secrets::mask(help).0);
        }
    }

    /// Number (from 1), start and text of the line that holds this byte.
    fn line_of(&self, byte: usize) -> (usize, usize, &'a str) {
        let number = self.lines.partition_point(|start| *start <= byte);
        let start = self.lines[number - 1];
        let source = self.text[start..].lines().next().unwrap_or("");
        (number, start, source)
    }
}

/// A source line as it may be shown and the carets under `at`.
fn underline(source: &str, at: Range<usize>) -> (String, String) {
    let (masked, at) = secrets::mask_with(source, at);
    let column = |byte: usize| masked[..masked.floor_char_boundary(byte)].chars().count();
    let (mut from, mut upto) = (column(at.start), column(at.end));

    let mut chars: Vec<char> = masked.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if chars.len() > LINE_CHARS_MAX {
        let first = from.saturating_sub(LINE_CHARS_MAX / 3).min(chars.len() - LINE_CHARS_MAX);
        chars = chars[first..first + LINE_CHARS_MAX].to_vec();
        if first > 0 {
            chars[0] = '…';
        }
        (from, upto) = (from - first, (upto - first).min(LINE_CHARS_MAX));
    }
    let shown: String = chars.into_iter().collect();
    let caret = format!("{}{}", " ".repeat(from), "^".repeat(upto.saturating_sub(from).max(1)));
    (shown.trim_end().to_owned(), caret)
}

/// `did you mean …?` if one of the names is near, else all of them if they are few.
pub(super) fn suggest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    /// As many names fit a line that a person reads.
    const NAMES_LISTED_MAX: usize = 16;
    let names: Vec<&str> = names.into_iter().collect();
    if let Some(near) = nearest(wrong, &names) {
        return Some(format!("did you mean `{near}`?"));
    }
    (!names.is_empty() && names.len() <= NAMES_LISTED_MAX).then(|| {
        let listed: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("known here: {}", listed.join(", "))
    })
}

fn nearest<'n>(wrong: &str, names: &[&'n str]) -> Option<&'n str> {
    let wrong = wrong.to_lowercase();
    let distance_max = (wrong.chars().count() / 3).max(1);
    names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), *name))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, name)| name)
}
