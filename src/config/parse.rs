//! From the text of the file to checked types. Owns: the top of the file, defaults, limits. `customers` and `entities` read
//! the two lists. Never: a connection; what only a live database can tell is `stages::Data::check`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use chrono_tz::Tz;
use toml::de::DeTable;

use super::apart::{Apart, Part};
use super::env::Lookup;
use super::reader::{Keys, Located, Node, Reader};
use super::report::Report;
use super::{
    Config, ConfigError, DatabaseUrl, DayWindow, Limits, customers, database, entities, kept, limits, schedule,
};

/// A file with ten thousand customers has some 5 MB; what is larger was not meant.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// A page is one transaction per side: at 10,000 rows its locks and its memory are still small.
pub(super) const PAGE_ROWS: RangeInclusive<u32> = 1..=10_000;
const PAGE_ROWS_DEFAULT: u32 = 1_000;

/// Pages of one customer at work at a time: what its databases must bear.
pub(super) const WINDOW_PAGES: RangeInclusive<u32> = 1..=64;
const WINDOW_PAGES_DEFAULT: u32 = 4;

/// Rows below the watermark that are read again; a week would mean that nearly every row is.
pub(super) const OVERLAP: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 86_400);
const OVERLAP_DEFAULT: Duration = Duration::from_secs(120);

/// A comparison rarer than a sweep would be no other than it.
pub(super) const COMPARE_EVERY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 86_400);

pub(super) const ATTEMPTS: RangeInclusive<u32> = 1..=100;
const ATTEMPTS_DEFAULT: u32 = 10;

/// Comparing whole tables more often than each second would be all that a customer does.
const SWEEP_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(31 * 86_400);
const SWEEP_EVERY_DEFAULT: Duration = Duration::from_secs(86_400);

/// Less than a day, and nobody could look at what was decided last night; the log is not an archive either.
const CONFLICTS_KEPT: RangeInclusive<Duration> = Duration::from_secs(86_400)..=Duration::from_secs(3_650 * 86_400);
const CONFLICTS_KEPT_DEFAULT: Duration = Duration::from_secs(90 * 86_400);

/// An hour is a restart, a month nobody's outage.
const OUTAGE_MAX: RangeInclusive<Duration> = Duration::from_secs(3_600)..=Duration::from_secs(31 * 86_400);
const OUTAGE_MAX_DEFAULT: Duration = Duration::from_secs(3 * 86_400);

/// Fewer, and the places for work of one process could not all be at work.
pub(super) const CONNECTIONS: RangeInclusive<u32> = 10..=10_000;
const CONNECTIONS_DEFAULT: u32 = 100;

/// All of them: nobody is asked.
pub(super) const MAPPING_PERCENT: RangeInclusive<u32> = 0..=100;
const MAPPING_PERCENT_DEFAULT: u32 = 1;

/// Each look costs what reading all keys costs; and a row that is gone for a day is nobody's glitch.
const DELETES_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
const DELETES_EVERY_DEFAULT: Duration = Duration::from_secs(600);
const DELETES_AFTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 86_400);
const DELETES_AFTER_DEFAULT: Duration = Duration::from_secs(300);
const DELETES_PERCENT_DEFAULT: u32 = 1;

const SCHEDULE_DEFAULT: &str = "* * * * *";

/// What holds where a customer or entity says nothing else.
#[derive(Debug, Clone)]
pub(super) struct Defaults {
    pub expression: String,
    pub timezone: Tz,
    pub load_window: Option<DayWindow>,
    pub limits: BTreeMap<String, Limits>,
    pub page_rows: u32,
    pub overlap: Duration,
    window_pages: u32,
    attempts_max: u32,
    sweep_every: Duration,
    conflicts_kept: Duration,
    outage_max: Duration,
    connections_max: u32,
    mapping_percent_max: u32,
    deletes_every: Duration,
    deletes_after: Duration,
    deletes_percent_max: u32,
}

/// Reads and checks the file.
///
/// # Errors
/// All problems of the file, each with file, line, field and what to do; never a secret.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    read_text(path, &text_of(path)?)
}

/// The same for whoever connects to nothing and has not got the secrets: a URL with variables is taken as it is written, and elsewhere a
/// variable that is not set stands for itself.
///
/// # Errors
/// As `load`, without what only the values of variables could tell.
pub fn load_unset(path: &Path) -> Result<Config, ConfigError> {
    let itself = |name: &str| std::env::var(name).or_else(|_| Ok(format!("${{{name}}}")));
    let text = text_of(path)?;
    let mut reader = Reader::new(Report::new(path.display().to_string(), &text), &itself);
    reader.urls_as_written = true;
    parsed(path, &text, reader)
}

fn text_of(path: &Path) -> Result<String, ConfigError> {
    if std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        let what = "no such file: name it with --config or SYNC_BRIDGE_CONFIG";
        return Err(ConfigError::unreadable(format!("reading the configuration {}: {what}", path.display())));
    }
    read_file(path)
}

/// The text of a file of ours.
///
/// # Errors
/// It is not there, not a text, or larger than any that was meant.
pub fn read_file(path: &Path) -> Result<String, ConfigError> {
    let refuse =
        |what: String| Err(ConfigError::unreadable(format!("reading the configuration {}: {what}", path.display())));
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return refuse("it is a folder: name the file".into()),
        Ok(meta) if meta.len() > FILE_BYTES_MAX => return refuse(format!("larger than {FILE_BYTES_MAX} bytes")),
        Ok(_) => {}
        Err(error) => return refuse(error.to_string()),
    }
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return refuse(error.to_string()),
    };
    String::from_utf8(bytes).or_else(|_| refuse("it is not UTF-8".into()))
}

/// The same from the text of a file that is not written yet.
///
/// # Errors
/// As `load`.
pub fn read_text(path: &Path, text: &str) -> Result<Config, ConfigError> {
    parse(path, text, &|name| std::env::var(name))
}

/// The same from text, with variables from anywhere.
pub(super) fn parse(path: &Path, text: &str, env: Lookup<'_>) -> Result<Config, ConfigError> {
    parsed(path, text, Reader::new(Report::new(path.display().to_string(), text), env))
}

/// A file that is right is read customer by customer. Any other is read as a whole, so that what is wrong is told with its place.
fn parsed(path: &Path, text: &str, reader: Reader<'_>) -> Result<Config, ConfigError> {
    match read_apart(path, text, &mut reader.afresh()) {
        Some(config) => Ok(config),
        None => read_whole(path, text, reader),
    }
}

/// `None`: not everything is right, or not in parts. What the reader was told of it has the places of the parts.
pub(super) fn read_apart(path: &Path, text: &str, reader: &mut Reader<'_>) -> Option<Config> {
    let apart = Apart::of(text);
    let rest = DeTable::parse(&apart.rest).ok()?;
    if !apart.fits(rest.get_ref()) {
        return None;
    }
    let config = read(path, rest.get_ref(), &apart.customers, reader);
    config.filter(|_| reader.report.is_clean())
}

pub(super) fn read_whole(path: &Path, text: &str, mut reader: Reader<'_>) -> Result<Config, ConfigError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    // What was recovered from a broken file would only give further problems that are none; so would its next errors.
    if let Some(error) = errors.iter().min_by_key(|error| error.span().map_or(0, |at| at.start)) {
        let at = error.span().unwrap_or(0..0);
        reader.report.problem(&at, "", format!("not TOML: {}", error.message()), None);
    }
    if errors.is_empty()
        && let Some(config) = read(path, table.get_ref(), &[], &mut reader)
        && reader.report.is_clean()
    {
        return Ok(config);
    }
    Err(reader.report.into_error())
}

/// `parts`: the customers, where the table has nothing but their headers.
pub(super) fn read<'t>(
    path: &Path,
    table: &'t DeTable<'t>,
    parts: &[Part<'_>],
    reader: &mut Reader<'_>,
) -> Option<Config> {
    let mut root = Keys::root(table);
    let queue = match root.optional("queue") {
        Some(node) => read_queue(&node, reader),
        None => Some(None),
    };
    // It is read first.
    let queue_variables = reader.variables.clone();
    let defaults_node = root.optional("defaults");
    let defaults = read_defaults(defaults_node.as_ref(), reader);
    let customers = root.required("customers", "[[customers]]", reader);
    let stages = root.required("stages", "[[stages]]", reader);
    root.close(reader);

    // Broken defaults are reported; the rest is read with the built-in ones, so that its problems show too.
    let filled = defaults.unwrap_or_else(Defaults::built_in);
    let kept = customers.as_ref().is_some_and(|node| kept::are_elsewhere(node, queue.as_ref(), reader));
    let customers = customers.filter(|_| !kept);
    let (customers, outlines) =
        customers.map(|node| customers::read(&node, parts, &filled, reader)).unwrap_or_default();
    // Where a customer's databases could not be read, any name may be one of them.
    let databases = outlines.iter().map(|outline| outline.databases.as_ref()).collect::<Option<Vec<_>>>();
    if let Some(databases) = databases.filter(|_| !kept) {
        let names: BTreeSet<&str> = databases.into_iter().flatten().map(String::as_str).collect();
        limits::check_names(defaults_node.and_then(|node| node.peek("limits")).as_ref(), &names, reader);
    }
    let stages = stages.and_then(|node| entities::read(&node, &filled, &outlines, reader));
    Some(Config {
        path: path.to_owned(),
        source: reader.report.source.clone(),
        variables: std::mem::take(&mut reader.variables),
        queue_variables,
        queue: queue?,
        customers,
        roster: kept.then_some(0),
        unserved: Vec::new(),
        stages: stages?,
        window_pages: filled.window_pages,
        sweep_every: filled.sweep_every,
        attempts_max: filled.attempts_max,
        conflicts_kept: filled.conflicts_kept,
        outage_max: filled.outage_max,
        connections_max: filled.connections_max,
        mapping_percent_max: filled.mapping_percent_max,
        deletes_every: filled.deletes_every,
        deletes_after: filled.deletes_after,
        deletes_percent_max: filled.deletes_percent_max,
        defaults: filled.into(),
    })
}

/// Outer `None`: reported. Inner: no URL, the queue is embedded.
fn read_queue(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Option<DatabaseUrl>> {
    let mut keys = node.keys(reader)?;
    let url = keys.optional("url");
    keys.close(reader);
    match url {
        Some(node) => database::read(&node.text(reader)?, reader).map(Some),
        None => Some(None),
    }
}

impl Defaults {
    fn built_in() -> Defaults {
        Defaults {
            expression: SCHEDULE_DEFAULT.into(),
            timezone: Tz::UTC,
            load_window: None,
            limits: BTreeMap::new(),
            page_rows: PAGE_ROWS_DEFAULT,
            overlap: OVERLAP_DEFAULT,
            window_pages: WINDOW_PAGES_DEFAULT,
            attempts_max: ATTEMPTS_DEFAULT,
            sweep_every: SWEEP_EVERY_DEFAULT,
            conflicts_kept: CONFLICTS_KEPT_DEFAULT,
            outage_max: OUTAGE_MAX_DEFAULT,
            connections_max: CONNECTIONS_DEFAULT,
            mapping_percent_max: MAPPING_PERCENT_DEFAULT,
            deletes_every: DELETES_EVERY_DEFAULT,
            deletes_after: DELETES_AFTER_DEFAULT,
            deletes_percent_max: DELETES_PERCENT_DEFAULT,
        }
    }
}

fn read_defaults(node: Option<&Node<'_>>, reader: &mut Reader<'_>) -> Option<Defaults> {
    let built_in = Defaults::built_in();
    let Some(node) = node else { return Some(built_in) };
    let mut keys = node.keys(reader)?;
    let expression = keys.optional("schedule").map(|node| schedule::read_expression(&node.text(reader)?, reader));
    let timezone = keys.optional("timezone").map(|node| schedule::read_timezone(&node.text(reader)?, reader));
    let load_window = keys.optional("load_window").map(|node| schedule::read_window(&node.text(reader)?, reader));
    let limits = limits::read(keys.optional("limits").as_ref(), &built_in.limits, reader);
    let page_rows = keys.optional("page_rows").map(|node| node.whole(PAGE_ROWS, reader));
    let overlap = keys.optional("overlap").map(|node| node.duration(OVERLAP, reader));
    let window_pages = keys.optional("window_pages").map(|node| node.whole(WINDOW_PAGES, reader));
    let attempts_max = keys.optional("attempts_max").map(|node| node.whole(ATTEMPTS, reader));
    let sweep_every = keys.optional("sweep_every").map(|node| node.duration(SWEEP_EVERY, reader));
    let conflicts_kept = keys.optional("conflicts_kept").map(|node| node.duration(CONFLICTS_KEPT, reader));
    let outage_max = keys.optional("outage_max").map(|node| node.duration(OUTAGE_MAX, reader));
    let connections_max = keys.optional("connections_max").map(|node| node.whole(CONNECTIONS, reader));
    let mapping_percent_max = keys.optional("mapping_percent_max").map(|node| node.whole(MAPPING_PERCENT, reader));
    let deletes_every = keys.optional("deletes_every").map(|node| node.duration(DELETES_EVERY, reader));
    let deletes_after = keys.optional("deletes_after").map(|node| node.duration(DELETES_AFTER, reader));
    let deletes_percent_max = keys.optional("deletes_percent_max").map(|node| node.whole(MAPPING_PERCENT, reader));
    keys.close(reader);
    Some(Defaults {
        expression: expression.unwrap_or(Some(built_in.expression))?,
        timezone: timezone.unwrap_or(Some(built_in.timezone))?,
        load_window: load_window.map(|window| window.map(Some)).unwrap_or(Some(None))?,
        limits: limits?,
        page_rows: page_rows.unwrap_or(Some(built_in.page_rows))?,
        overlap: overlap.unwrap_or(Some(built_in.overlap))?,
        window_pages: window_pages.unwrap_or(Some(built_in.window_pages))?,
        attempts_max: attempts_max.unwrap_or(Some(built_in.attempts_max))?,
        sweep_every: sweep_every.unwrap_or(Some(built_in.sweep_every))?,
        conflicts_kept: conflicts_kept.unwrap_or(Some(built_in.conflicts_kept))?,
        outage_max: outage_max.unwrap_or(Some(built_in.outage_max))?,
        connections_max: connections_max.unwrap_or(Some(built_in.connections_max))?,
        mapping_percent_max: mapping_percent_max.unwrap_or(Some(built_in.mapping_percent_max))?,
        deletes_every: deletes_every.unwrap_or(Some(built_in.deletes_every))?,
        deletes_after: deletes_after.unwrap_or(Some(built_in.deletes_after))?,
        deletes_percent_max: deletes_percent_max.unwrap_or(Some(built_in.deletes_percent_max))?,
    })
}

/// The elements of a list that must not be empty.
pub(super) fn read_list<'t>(node: &Node<'t>, what: &str, reader: &mut Reader<'_>) -> Vec<Node<'t>> {
    let list = node.list(reader);
    if list.as_ref().is_some_and(Vec::is_empty) {
        reader.problem(node, format!("names no {what}"), Some(format!("add at least one `[[{}]]`", header(node))));
    }
    list.unwrap_or_default()
}

/// `stages[0].entities` as the header of a table: `stages.entities`.
fn header(node: &Node<'_>) -> String {
    node.field().split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}
