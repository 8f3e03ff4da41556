//! Write, then look: sets of rows are written inside a savepoint, constraints are checked, and what is stored is read back
//! and compared in canonical form. A set that fails, or has to wait for what others hold, is halved until exactly the offending rows
//! stay out.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use sqlx::{Connection, Executor, PgConnection};

use crate::config::Side;
use crate::fault;
use crate::mapping::{Canonical, Cell, Lens, Links, Mapping};
use crate::sides::postgres::{Answered as _, LOCK_WAIT, Put, Row, TableSql};
use crate::sides::{Fault, sort};

use super::Key;
use super::plan::WriteKind;

/// A row to write.
#[derive(Debug)]
pub struct Item<'a> {
    pub key: Key,
    pub what: What,
    pub cells: Cow<'a, [Cell]>,
    /// As [`Row::lacks`] of the row that is updated.
    pub lacks: &'a [usize],
    /// What must be stored, in canonical form.
    pub values: &'a [Canonical<'static>],
}

impl Item<'_> {
    fn put(&self) -> Put<'_> {
        Put { key: &self.key.0, cells: &self.cells, lacks: self.lacks }
    }
}

/// What is done to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Update,
    Insert,
    Delete,
}

impl From<&WriteKind> for What {
    fn from(kind: &WriteKind) -> What {
        match kind {
            WriteKind::Update => What::Update,
            WriteKind::Insert(_) => What::Insert,
            WriteKind::Delete => What::Delete,
        }
    }
}

/// What became of the items.
#[derive(Debug, Default)]
pub struct Written {
    /// The rows as stored, by key.
    pub stored: HashMap<Key, Row>,
    /// The rows that are no more.
    pub deleted: HashSet<Key>,
    pub failed: HashMap<Key, Failure>,
    /// Rows that would have to wait for what others hold.
    pub busy: HashSet<Key>,
}

/// Why a row stayed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub field: Option<String>,
    /// Holds no row values.
    pub reason: String,
    /// Another record stands in the way, or is missing: another look may find it otherwise.
    pub others: bool,
}

impl Written {
    fn note(&mut self, set: &[&Item<'_>], stored: HashMap<Key, Row>) {
        self.stored.extend(stored);
        self.deleted.extend(set.iter().filter(|item| item.what == What::Delete).map(|item| item.key.clone()));
    }

    fn stays_out(&self, key: &Key) -> bool {
        self.failed.contains_key(key) || self.busy.contains(key)
    }
}

/// How long rows are waited for that others hold: at first for as long as a short transaction takes, so that most are met only once...
const WAIT_FIRST: &str = "set local lock_timeout = '500ms'";
/// ... then just as long as shows which of them waits.
const WAIT_AGAIN: &str = "set local lock_timeout = '20ms'";
/// So often, then what waits is not looked at more closely: 2 s in all, enough for about ten rows of a thousand.
const WAITS_MAX: u32 = 100;

/// What a transaction has left of its readiness to wait for others.
#[derive(Debug, Default)]
pub struct Patience {
    waits: u32,
}

impl Patience {
    fn is_over(&self) -> bool {
        self.waits > WAITS_MAX
    }

    async fn begin(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        connection.execute(if self.waits == 0 { WAIT_FIRST } else { WAIT_AGAIN }).answered().await.map(drop)
    }

    async fn waited(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        self.waits += 1;
        self.begin(connection).await
    }
}

/// Writes what can be written; everything else is rolled back and named.
///
/// # Errors
/// What is not one row's fault; the transaction is then lost.
pub async fn write_rows(
    connection: &mut PgConnection,
    mapping: &Mapping,
    side: Side,
    sql: &TableSql,
    links: &Links,
    items: &[Item<'_>],
    patience: &mut Patience,
) -> Result<Written, sqlx::Error> {
    let mut written = Written::default();
    loop {
        let good: Vec<&Item> = items.iter().filter(|item| !written.stays_out(&item.key)).collect();
        let mut sets = vec![good];
        // Rows that refer to others are tried once more when all others stand.
        let mut late: Vec<&Item> = Vec::new();
        let mut last_round = false;
        // Rows that a missing right or table keeps out, or a server that a trigger needs: where it is all of them, it is none of theirs.
        let mut refused = 0;
        let mut whole = connection.begin().answered().await?;
        patience.begin(&mut whole).await?;
        loop {
            let Some(set) = sets.pop() else {
                if last_round || late.is_empty() {
                    break;
                }
                last_round = true;
                sets = std::mem::take(&mut late).into_iter().map(|item| vec![item]).collect();
                continue;
            };
            if set.is_empty() {
                continue;
            }
            let mut savepoint = whole.begin().answered().await?;
            let outcome = attempt(&mut savepoint, mapping, side, sql, links, &set, None).await;
            match outcome {
                Ok(Attempt { stored, differing }) if differing.is_empty() => {
                    savepoint.commit().answered().await?;
                    written.note(&set, stored);
                }
                Ok(Attempt { differing, .. }) => {
                    savepoint.rollback().answered().await?;
                    let rest = set.into_iter().filter(|item| !differing.contains_key(&item.key)).collect();
                    written.failed.extend(differing);
                    sets.push(rest);
                }
                Err(error) if set.iter().all(|item| item.what == What::Delete) && may_not(&error) => {
                    savepoint.rollback().answered().await?;
                    let reason = "the bridge's role may not delete rows of this table: grant it `delete`, or leave them with `deletes = \"keep\"`";
                    let failure = Failure { field: None, reason: reason.into(), others: false };
                    written.failed.extend(set.into_iter().map(|item| (item.key.clone(), failure.clone())));
                }
                Err(error) if is_of_rows(&error, items.len()) => {
                    savepoint.rollback().answered().await?;
                    let mut waits = is_wait(&error);
                    // Values that change places among the rows of the set: once more, with room made in that index.
                    if let Some(index) = crowded(&error).filter(|index| sql.can_set_aside(index) && set.len() > 1) {
                        let mut savepoint = whole.begin().answered().await?;
                        let outcome = attempt(&mut savepoint, mapping, side, sql, links, &set, Some(&index)).await;
                        match outcome {
                            Ok(Attempt { stored, differing }) if differing.is_empty() => {
                                savepoint.commit().answered().await?;
                                written.note(&set, stored);
                                continue;
                            }
                            Ok(_) => savepoint.rollback().answered().await?,
                            Err(error) if is_of_rows(&error, items.len()) => {
                                savepoint.rollback().answered().await?;
                                waits = is_wait(&error);
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    if waits {
                        patience.waited(&mut whole).await?;
                    }
                    match set.as_slice() {
                        those if waits && (those.len() == 1 || patience.is_over()) => {
                            // Once of a write: of a thousand rows each may be kept by the same.
                            if written.busy.is_empty() {
                                let (entity, why) = (&mapping.entity, crate::told::told(&error.into()));
                                tracing::info!(%entity, %side, "a row is busy, and tried again in the next run: {why}");
                            }
                            written.busy.extend(those.iter().map(|item| item.key.clone()));
                        }
                        [only] => {
                            let fault = sort(&error);
                            if fault != Fault::Row && !waits {
                                refused += 1;
                                // What passes is waited for; what a person is to mend may be about the only row there is.
                                if refused == items.len() && (refused > 1 || fault == Fault::Transient) {
                                    return Err(error);
                                }
                            }
                            let misfit = misfit(&mut whole, mapping, side, sql, only, &error).await?;
                            let failure = failure(mapping, side, sql, only.what, misfit, &error);
                            if failure.others && !last_round && items.len() > 1 {
                                late.push(only);
                            } else {
                                written.failed.insert(only.key.clone(), failure);
                            }
                        }
                        _ => {
                            let (first, second) = set.split_at(set.len() / 2);
                            sets.push(second.to_vec());
                            sets.push(first.to_vec());
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        // What refers to a row that stayed out must stay out too, where no foreign key says so.
        let orphans = orphans(mapping, side, items, &written);
        if orphans.is_empty() {
            whole.execute(LOCK_WAIT).answered().await?;
            whole.commit().answered().await?;
            return Ok(written);
        }
        whole.rollback().answered().await?;
        written.stored.clear();
        written.deleted.clear();
        for key in orphans {
            let reason = "the record it refers to could not be written".to_string();
            written.failed.insert(key, Failure { field: None, reason, others: true });
        }
    }
}

struct Attempt {
    stored: HashMap<Key, Row>,
    differing: HashMap<Key, Failure>,
}

async fn attempt(
    connection: &mut PgConnection,
    mapping: &Mapping,
    side: Side,
    sql: &TableSql,
    links: &Links,
    set: &[&Item<'_>],
    make_room_in: Option<&str>,
) -> Result<Attempt, sqlx::Error> {
    let rows = |what: What| set.iter().filter(move |item| item.what == what).map(|item| item.put()).collect::<Vec<_>>();
    let (updates, inserts) = (rows(What::Update), rows(What::Insert));
    let deletes: Vec<&str> =
        set.iter().filter(|item| item.what == What::Delete).map(|item| item.key.0.as_str()).collect();
    // As the statements say themselves; one that cannot know leaves it to a look.
    let mut told = Some(Vec::with_capacity(set.len()));
    let tell = |told: &mut Option<Vec<Row>>, rows: Option<Vec<Row>>| match (told.as_mut(), rows) {
        (Some(told), Some(rows)) => told.extend(rows),
        _ => *told = None,
    };
    if !deletes.is_empty() {
        sql.delete(connection, &deletes).await?;
        tell(&mut told, None);
        fault::point("rows.deleted").await;
    }
    if !updates.is_empty() {
        if let Some(index) = make_room_in {
            let keys: Vec<&str> = updates.iter().map(|row| row.key).collect();
            sql.set_aside(connection, index, &keys).await?;
            fault::point("rows.set_aside").await;
        }
        tell(&mut told, sql.update(connection, &updates).await?);
        fault::point("rows.updated").await;
    }
    if !inserts.is_empty() {
        tell(&mut told, sql.insert(connection, &inserts).await?);
        fault::point("rows.inserted").await;
    }
    // Deferred constraints and triggers speak now, not at COMMIT.
    connection.execute("set constraints all immediate").answered().await?;
    let stored = match told {
        Some(rows) => rows,
        None => {
            let keys: Vec<&str> = set.iter().map(|item| item.key.0.as_str()).collect();
            sql.stored(connection, &keys).await?
        }
    };
    let stored: HashMap<Key, Row> = stored.into_iter().map(|row| (row.key.clone(), row)).collect();
    let mut differing = HashMap::new();
    for item in set {
        if let Some(failure) = differs(mapping, side, links, item, stored.get(&item.key)) {
            differing.insert(item.key.clone(), failure);
        }
    }
    Ok(Attempt { stored, differing })
}

/// Whether what is stored is not what was written.
fn differs(mapping: &Mapping, side: Side, links: &Links, item: &Item, stored: Option<&Row>) -> Option<Failure> {
    if item.what == What::Delete {
        let reason = "the row is still there after it was deleted; a trigger or a rule kept it".into();
        return stored.map(|_| Failure { field: None, reason, others: false });
    }
    let Some(stored) = stored else {
        let reason = "the row was not there under its key after it was written; its key was rounded or rewritten, or a trigger, a rule or the scope took \
             the row away"
            .into();
        return Some(Failure { field: None, reason, others: false });
    };
    // An update may take its row out: what both sides hold then rests.
    if item.what == What::Insert && !stored.seen {
        let reason = format!("the new row would lie outside of `where` on the {side} side, where nobody sees it again");
        return Some(Failure { field: None, reason, others: false });
    }
    for (field, value) in mapping.fields.iter().zip(item.values).filter(|(field, _)| field.flows_to(side)) {
        // The raw reference is compared: its translation was ours.
        let equal = match field.lens {
            Lens::Ref(_) => field.referred(mapping, side, &stored.cells) == field.referred(mapping, side, &item.cells),
            _ => field.get(mapping, side, &stored.cells, links).as_ref() == Ok(value),
        };
        if !equal {
            let no_inverse = match field.lens {
                Lens::Express(_) => "its expressions do not bring it back, ",
                _ => "",
            };
            let reason = format!(
                "the {side} side stored another value than was written: {no_inverse}its column is too narrow or too coarse, or a trigger rewrites it"
            );
            return Some(Failure { field: Some(field.name.clone()), reason, others: false });
        }
    }
    None
}

/// Written rows that refer to rows of the same set that stayed out.
fn orphans(mapping: &Mapping, side: Side, items: &[Item<'_>], written: &Written) -> HashSet<Key> {
    let mut orphans = HashSet::new();
    if written.failed.is_empty() && written.busy.is_empty() {
        return orphans;
    }
    for field in &mapping.fields {
        if field.lens != Lens::Ref(mapping.entity.clone()) {
            continue;
        }
        for item in items.iter().filter(|item| written.stored.contains_key(&item.key)) {
            if field.referred(mapping, side, &item.cells).is_some_and(|key| written.stays_out(&key)) {
                orphans.insert(item.key.clone());
            }
        }
    }
    orphans
}

/// Whether an error of a set's write may be the fault of some of its rows: they are tried apart. A trigger raises whatever it
/// likes, so only what is about the session, the database or the statement itself is nobody's.
fn is_of_rows(error: &sqlx::Error, rows: usize) -> bool {
    match sort(error) {
        Fault::Row => true,
        _ if is_wait(error) || is_raised(error) => true,
        // "Not now" and "not supported" come of a database's state, unless a trigger says so of this row; so does what else comes out of
        // one, but that the server is in need, or somebody stops us.
        Fault::Transient => is_of_a_function(error) && !is_of_the_server(error),
        // Our own session goes on, so whatever a function found away is something else: a server that it connects to. That a disk
        // is full, or this database read only, is so wherever it comes up.
        Fault::Outage => is_of_a_function(error) && ["08", "28", "3D"].contains(&class(&code(error))),
        Fault::Permanent => {
            let is_of_database = ["08", "25", "26", "28", "3D", "F0"].contains(&class(&code(error)));
            let is_answer = error.as_database_error().is_some();
            is_answer
                && !is_of_database
                && !is_of_the_server(error)
                && (!is_of_the_page(error) || rows > 1 || is_of_a_function(error))
        }
    }
}

/// Others hold what a row needs: a lock is not to be had in time, a deadlock, a transaction that cannot be put in order with theirs.
fn is_wait(error: &sqlx::Error) -> bool {
    ["55P03", "40P01", "40001"].contains(&code(error).as_ref())
}

/// Memory, disks and limits of the server, a statement that was stopped, damage.
fn is_of_the_server(error: &sqlx::Error) -> bool {
    ["53", "57", "58", "XX"].contains(&class(&code(error)))
}

/// About tables and rights, unless it concerns some rows only: a policy's refusal, a trigger that meets a table it does not know.
fn is_of_the_page(error: &sqlx::Error) -> bool {
    ["0A", "3F", "42"].contains(&class(&code(error)))
}

/// Came up inside a function, which a trigger called, and our session goes on.
fn is_of_a_function(error: &sqlx::Error) -> bool {
    detail(error)
        .is_some_and(|detail| detail.r#where().is_some() && detail.severity() == sqlx::postgres::PgSeverity::Error)
}

/// A trigger says so itself, by `raise`: whatever code it chose, it is about the row. But nobody calls a database damaged lightly.
fn is_raised(error: &sqlx::Error) -> bool {
    let by_raise = detail(error).and_then(|detail| detail.routine()) == Some("exec_stmt_raise");
    is_of_a_function(error) && by_raise && !["XX001", "XX002"].contains(&code(error).as_ref())
}

fn detail(error: &sqlx::Error) -> Option<&sqlx::postgres::PgDatabaseError> {
    error.as_database_error().and_then(|database| database.try_downcast_ref())
}

/// Its SQLSTATE, or nothing.
fn code(error: &sqlx::Error) -> std::borrow::Cow<'_, str> {
    error.as_database_error().and_then(|database| database.code()).unwrap_or_default()
}

fn class(code: &str) -> &str {
    code.get(..2).unwrap_or_default()
}

/// Whether a right is missing.
fn may_not(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("42501")
}

/// The unique index that an error names.
fn crowded(error: &sqlx::Error) -> Option<String> {
    let database = error.as_database_error()?;
    (database.code().as_deref() == Some("23505")).then(|| database.constraint().map(str::to_string))?
}

/// The field whose value its column cannot hold, found by casting one after the other: such an error names no column.
async fn misfit(
    connection: &mut PgConnection,
    mapping: &Mapping,
    side: Side,
    sql: &TableSql,
    item: &Item<'_>,
    error: &sqlx::Error,
) -> Result<Option<String>, sqlx::Error> {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    if !code.starts_with("22") {
        return Ok(None);
    }
    for (at, cell) in item.cells.iter().enumerate() {
        let Some(cell) = cell else { continue };
        let mut savepoint = connection.begin().answered().await?;
        let kept = sql.keeps(&mut savepoint, at, cell).await;
        savepoint.rollback().answered().await?;
        match kept {
            Err(error) if sort(&error) == Fault::Row => return Ok(field_of(mapping, side, at)),
            Err(error) => return Err(error),
            // Only a text that is cut off is an error; a number is rounded.
            Ok(false) if code == "22001" => return Ok(field_of(mapping, side, at)),
            Ok(_) => {}
        }
    }
    Ok(None)
}

/// The field that stands on a column.
fn field_of(mapping: &Mapping, side: Side, column: usize) -> Option<String> {
    mapping.fields.iter().find(|field| field.columns(side).contains(&column)).map(|field| field.name.clone())
}

/// What the database said about one row, without its values; `misfit` is the field whose value no such column holds.
fn failure(
    mapping: &Mapping,
    side: Side,
    sql: &TableSql,
    what: What,
    misfit: Option<String>,
    error: &sqlx::Error,
) -> Failure {
    let deletes = what == What::Delete;
    let sqlx::Error::Database(database) = error else {
        return Failure { field: None, reason: error.to_string(), others: false };
    };
    let code = database.code().unwrap_or_default().to_string();
    let others = matches!(code.as_str(), "23505" | "23503" | "23P01");
    let detail = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
    let column = detail.and_then(|detail| Some(sql.name_of(detail.schema(), detail.table(), detail.column()?)));
    let position = mapping.shape(side).columns.iter().position(|known| Some(&known.name) == column.as_ref());
    let constraint = database.constraint().map(|name| format!(" (constraint `{name}`)")).unwrap_or_default();
    let what = match code.as_str() {
        "23502" => "a column that must not be NULL would be",
        "23503" if deletes => "rows that are not deleted refer to it",
        "23503" => "it refers to a row that is not there",
        "23505" => "another row already holds this unique value",
        "23514" => "a check constraint refuses it",
        "23P01" => "an exclusion constraint refuses it",
        "22001" => "a text is too long for its column",
        "22003" => "a number is out of range",
        "22P02" | "22007" | "22008" => "a value cannot be read as the column's type",
        "P0001" => "a trigger refuses it",
        // Alone it fails as well: some types' functions say where they were, as those of a trigger do.
        _ if misfit.is_some() => "a value cannot be stored in its column",
        _ if is_of_a_function(error) => "a trigger refuses it",
        _ => "the database refuses it",
    };
    let field = position.and_then(|at| field_of(mapping, side, at)).or(column).or(misfit);
    Failure { field, reason: format!("{what}{constraint} [{code}]"), others }
}
