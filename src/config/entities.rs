//! `[[stages]]` with `[[stages.entities]]`: what an entity says about itself and about its two tables. `fields` reads what
//! it maps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono_tz::Tz;

use super::customers::{NAME_CHARS_MAX, Outline, read_id};
use super::parse::{COMPARE_EVERY, Defaults, OVERLAP, PAGE_ROWS, read_list};
use super::reader::{Keys, Located, Node, Reader, Text};
use super::report::suggest;
use super::{
    Deleted, Deletes, Entity, EntityId, Field, FirstContact, KeyRule, Policy, Side, Stage, Table, also, condition,
    fields, schedule,
};

/// The stage that follows all others.
const STAGE_RESERVED: &str = "reconciliation";

/// PostgreSQL cuts a longer name off without an error.
const IDENTIFIER_BYTES_MAX: usize = 63;

/// What an entity's problems are held against.
pub(super) struct Surroundings<'o> {
    pub outlines: &'o [Outline],
    /// Entities by id: how many key columns each side has, if that could be read.
    pub entities: BTreeMap<String, BySide<Option<usize>>>,
    /// Databases already reported as unknown: once is enough.
    unknown_databases: BTreeSet<String>,
    /// The tables of the entities before, with the entity's line.
    tables: Vec<(Table, Table, u32)>,
}

/// One value for each side.
pub(super) struct BySide<T> {
    pub legacy: T,
    pub platform: T,
}

impl<T> BySide<T> {
    pub fn of(&self, side: Side) -> &T {
        match side {
            Side::Legacy => &self.legacy,
            Side::Platform => &self.platform,
        }
    }
}

/// A table of an entity while it is checked.
pub(super) struct TableDraft {
    pub table: Table,
    /// Columns that are carried along by themselves, with the key of the file that names them.
    pub own_columns: BTreeMap<String, &'static str>,
    at: Text,
}

pub(super) fn read(
    node: &Node<'_>,
    defaults: &Defaults,
    outlines: &[Outline],
    reader: &mut Reader<'_>,
) -> Option<Vec<Stage>> {
    let nodes = read_list(node, "stage", reader);
    let mut around =
        Surroundings { outlines, entities: outline(&nodes), unknown_databases: BTreeSet::new(), tables: Vec::new() };
    let mut stage_lines = BTreeMap::new();
    let mut entity_lines = BTreeMap::new();
    let stages: Vec<Option<Stage>> = nodes
        .iter()
        .map(|node| read_stage(node, defaults, &mut around, &mut stage_lines, &mut entity_lines, reader))
        .collect();
    stages.into_iter().collect()
}

/// Ids and key columns of all entities, read beforehand because an entity may refer to a later one. Reports nothing.
fn outline(stages: &[Node<'_>]) -> BTreeMap<String, BySide<Option<usize>>> {
    let entities = stages.iter().flat_map(|stage| stage.peek_list("entities"));
    let keys = |entity: &Node<'_>, side: &str| entity.peek(side).and_then(|table| table.peek("key")?.peek_count());
    let mut outline: BTreeMap<String, BySide<Option<usize>>> = BTreeMap::new();
    for entity in entities {
        let Some(id) = entity.peek("id").and_then(|id| id.peek_str()) else { continue };
        // Two entities of one id are reported; which of them is meant is unknown.
        let keys = if outline.contains_key(id) {
            BySide { legacy: None, platform: None }
        } else {
            BySide { legacy: keys(&entity, "legacy"), platform: keys(&entity, "platform") }
        };
        outline.insert(id.to_owned(), keys);
    }
    outline
}

fn read_stage(
    node: &Node<'_>,
    defaults: &Defaults,
    around: &mut Surroundings<'_>,
    stage_lines: &mut BTreeMap<String, u32>,
    entity_lines: &mut BTreeMap<String, u32>,
    reader: &mut Reader<'_>,
) -> Option<Stage> {
    let mut keys = node.keys(reader)?;
    let name = keys.required("name", r#"name = "identities""#, reader).and_then(|node| node.text(reader));
    let name = name.filter(|name| check_stage_name(name, reader));
    let entities = keys.required("entities", "[[stages.entities]]", reader);
    keys.close(reader);

    if let Some(name) = &name {
        if name.value == STAGE_RESERVED {
            let message = format!("`{STAGE_RESERVED}` is the last stage of every run and cannot be another's name");
            reader.problem(name, message, None);
        }
        check_new(name, "stage", stage_lines, reader);
    }
    let entities: Vec<Option<Entity>> = entities
        .map(|node| read_list(&node, "entity", reader))?
        .iter()
        .map(|node| read_entity(node, defaults, around, entity_lines, reader))
        .collect();
    Some(Stage { name: name?.value, entities: entities.into_iter().collect::<Option<_>>()? })
}

/// A name as people speak of it: `geo entities`.
fn check_stage_name(name: &Text, reader: &mut Reader<'_>) -> bool {
    let value = &name.value;
    let good = value.trim() == value
        && (1..=NAME_CHARS_MAX).contains(&value.chars().count())
        && value.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.'));
    if !good {
        let help = format!("letters, digits, spaces, `-`, `_` and `.`, at most {NAME_CHARS_MAX}");
        reader.problem(name, format!("`{}` is no stage name", name.raw), Some(help));
    }
    good
}

/// Reports a name that was there before.
fn check_new(name: &Text, what: &str, lines: &mut BTreeMap<String, u32>, reader: &mut Reader<'_>) {
    let line = reader.report.place(name.at()).line;
    match lines.get(&name.value) {
        Some(first) => {
            let message = format!("`{}` is taken, by the {what} in line {first}", name.raw);
            reader.problem(name, message, None);
        }
        None => {
            lines.insert(name.value.clone(), line);
        }
    }
}

fn read_entity(
    node: &Node<'_>,
    defaults: &Defaults,
    around: &mut Surroundings<'_>,
    lines: &mut BTreeMap<String, u32>,
    reader: &mut Reader<'_>,
) -> Option<Entity> {
    let mut keys = node.keys(reader)?;
    let id = keys.required("id", r#"id = "user""#, reader).and_then(|node| read_id(&node, reader));
    if let Some(id) = &id {
        check_new(id, "entity", lines, reader);
    }
    let legacy = read_side(&mut keys, Side::Legacy, around, reader);
    let platform = read_side(&mut keys, Side::Platform, around, reader);
    let match_on = keys.optional("match_on").map_or(Some(Vec::new()), |node| node.texts(reader));
    let authority = keys.optional("authority").map_or(Some(Side::Platform), |node| read_authority(&node, reader));
    let policy_node = keys.optional("conflict");
    let policy = policy_node.as_ref().map_or(Some(Policy::Newest), |node| read_policy(node, reader));
    let first_contact = keys.optional("first_contact");
    let first_contact = first_contact.map_or(Some(FirstContact::Authority), |node| read_first_contact(&node, reader));
    let page_rows = keys.optional("page_rows").map_or(Some(defaults.page_rows), |node| node.whole(PAGE_ROWS, reader));
    let overlap = keys.optional("overlap").map_or(Some(defaults.overlap), |node| node.duration(OVERLAP, reader));
    let every = keys.optional("compare_every");
    let compare_every = every.as_ref().map_or(Some(Duration::ZERO), |node| node.duration(COMPARE_EVERY, reader));
    let deletes_node = keys.optional("deletes");
    let deletes = deletes_node.as_ref().map_or(Some(Deletes::Follow), |node| {
        read_choice(node, "way to deal with rows that are gone", &DELETES, reader)
    });
    let repair = keys.optional("repair").map_or(Some(true), |node| node.truth(reader));
    let fields = keys.required("fields", "[stages.entities.fields]", reader);
    keys.close(reader);

    if let (Some(node), Some(Deletes::Mark), Some(legacy), Some(platform)) =
        (&deletes_node, deletes, &legacy, &platform)
        && legacy.table.deleted.is_none()
        && platform.table.deleted.is_none()
    {
        let help = "declare `deleted_at = \"column\"` or `deleted = { column = …, yes = …, no = … }` for both sides";
        reader.problem(node, "rows cannot be marked as deleted: no side declares how", Some(help.into()));
    }
    if let (Some(legacy), Some(platform)) = (&legacy, &platform) {
        let by_stamp = [legacy, platform].iter().all(|draft| draft.table.updated_at.is_some());
        if let Some(every) = every.as_ref().filter(|_| by_stamp) {
            let help = "declare `changes = \"sweep\"` for the side that has no `updated_at`, or leave this out";
            reader.problem(
                every,
                "compares nothing: changes of both sides are found by their stamps",
                Some(help.into()),
            );
        }
        check_both_tables(legacy, platform, reader);
        check_not_shared(legacy, platform, around, reader);
        around.tables.push((legacy.table.clone(), platform.table.clone(), reader.report.place(node.at()).line));
    }
    let tables = BySide { legacy, platform };
    let names = fields.as_ref().map(Node::peek_names);
    let fields = fields.and_then(|node| fields::read(&node, &tables, around, reader));
    if let (Some(match_on), Some(names)) = (&match_on, names) {
        check_match_on(match_on, &names, reader);
    }
    if let (Some(policy), Some(fields)) = (policy, &fields)
        && let Some(draft) =
            [&tables.legacy, &tables.platform].into_iter().flatten().find(|it| it.table.updated_at.is_none())
    {
        let named = policy_node.as_ref().map_or(&draft.at as &dyn Located, |node| node);
        check_policies_without_stamp(policy, policy_node.is_some(), fields, named, reader);
    }
    Some(Entity {
        id: EntityId::new(id?.value),
        legacy: tables.legacy?.table,
        platform: tables.platform?.table,
        match_on: match_on?.into_iter().map(|name| name.value).collect(),
        authority: authority?,
        policy: policy?,
        first_contact: first_contact?,
        page_rows: page_rows?,
        overlap: overlap?,
        compare_every: compare_every?,
        deletes: deletes?,
        repair: repair?,
        fields: fields?,
        place: reader.report.place(node.at()),
    })
}

fn check_both_tables(legacy: &TableDraft, platform: &TableDraft, reader: &mut Reader<'_>) {
    let (l, p) = (&legacy.table, &platform.table);
    if l.is_same(p) {
        reader.problem(&platform.at, "is the same table as the legacy one", None);
    }
    let (with, without) = match (&l.deleted, &p.deleted) {
        (Some(_), None) => (legacy, Side::Platform),
        (None, Some(_)) => (platform, Side::Legacy),
        _ => return,
    };
    let message = format!("soft deletes are declared here and not on the {without} side");
    let help = format!(
        "declare `deleted_at = \"column\"` or `deleted = {{ column = …, yes = …, no = … }}` for {without} too, or on \
         neither side"
    );
    reader.problem(&with.at, message, Some(help));
}

/// Where a row does not say when it was edited, nobody is the newest.
fn check_policies_without_stamp(
    policy: Policy,
    is_named: bool,
    fields: &[Field],
    named: &dyn Located,
    reader: &mut Reader<'_>,
) {
    let help = "name who decides: `conflict = \"legacy\"`, `\"platform\"` or `\"manual\"`";
    let message = if policy == Policy::Newest && !is_named {
        "changes are found without `updated_at`, so `newest`, which decides conflicts unless another policy is named, cannot tell".into()
    } else if policy == Policy::Newest {
        "`newest` cannot tell: one side has no `updated_at`".into()
    } else if let Some(field) = fields.iter().find(|field| field.policy == Some(Policy::Newest)) {
        format!("`newest` cannot tell, as field `{}` asks it to: one side has no `updated_at`", field.name)
    } else {
        return;
    };
    reader.report.problem(named.at(), named.field(), message, Some(help.into()));
}

/// Two entities that see the same rows on both sides would take each other's records for new ones.
fn check_not_shared(legacy: &TableDraft, platform: &TableDraft, around: &Surroundings<'_>, reader: &mut Reader<'_>) {
    let meet = |one: &Table, other: &Table| one.is_same(other) && one.meets(other);
    let shared = around.tables.iter().find(|(l, p, _)| meet(l, &legacy.table) && meet(p, &platform.table));
    if let Some((.., line)) = shared {
        let message = format!("has both tables in common with the entity in line {line}");
        let help = "each would take the other's records for new ones and double them: make it one entity, or give each a `scope` \
                    or a `where` of its own";
        reader.problem(&platform.at, message, Some(help.into()));
    }
}

fn check_match_on(match_on: &[Text], names: &[String], reader: &mut Reader<'_>) {
    let mut seen = BTreeSet::new();
    for name in match_on {
        if !names.contains(&name.value) {
            let help = help_unless_secret(name, names.iter().map(String::as_str));
            reader.problem(name, format!("`{}` is no field of this entity", name.raw), help);
        } else if !seen.insert(&name.value) {
            reader.problem(name, format!("`{}` is named twice", name.raw), None);
        }
    }
}

fn read_authority(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Side> {
    read_choice(node, "side", &Side::BOTH.map(|side| (side.as_str(), side)), reader)
}

pub(super) const POLICIES: [(&str, Policy); 4] = [
    ("newest", Policy::Newest),
    ("legacy", Policy::Legacy),
    ("platform", Policy::Platform),
    ("manual", Policy::Manual),
];

pub(super) fn read_policy(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Policy> {
    read_choice(node, "policy", &POLICIES, reader)
}

pub(super) const FIRST_CONTACTS: [(&str, FirstContact); 4] = [
    ("authority", FirstContact::Authority),
    ("legacy", FirstContact::Side(Side::Legacy)),
    ("platform", FirstContact::Side(Side::Platform)),
    ("manual", FirstContact::Manual),
];

pub(super) fn read_first_contact(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<FirstContact> {
    read_choice(node, "policy of a first contact", &FIRST_CONTACTS, reader)
}

pub(super) fn read_choice<T: Copy>(
    node: &Node<'_>,
    what: &str,
    choices: &[(&str, T)],
    reader: &mut Reader<'_>,
) -> Option<T> {
    let text = node.text(reader)?;
    let chosen = choices.iter().find(|(name, _)| *name == text.value).map(|(_, choice)| *choice);
    if chosen.is_none() {
        let help = help_unless_secret(&text, choices.iter().map(|(name, _)| *name));
        reader.problem(&text, format!("`{}` is no {what}", text.raw), help);
    }
    chosen
}

/// A suggestion says something about what a variable holds.
pub(super) fn help_unless_secret<'n>(text: &Text, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    if text.variables.is_empty() { suggest(&text.value, names) } else { None }
}

fn read_side(
    keys: &mut Keys<'_>,
    side: Side,
    around: &mut Surroundings<'_>,
    reader: &mut Reader<'_>,
) -> Option<TableDraft> {
    let (name, example) = match side {
        Side::Legacy => ("legacy", r#"legacy = { database = "legacy", table = "users", key = "id" }"#),
        Side::Platform => ("platform", r#"platform = { database = "identity", table = "identity.users", key = "id" }"#),
    };
    let node = keys.required(name, example, reader)?;
    let mut keys = node.keys(reader)?;
    let database = keys.required("database", r#"database = "legacy""#, reader).and_then(|node| node.text(reader));
    let named = keys.required("table", r#"table = "public.users""#, reader).and_then(|node| read_table(&node, reader));
    let key = keys.required("key", r#"key = "id""#, reader).and_then(|node| read_columns(&node, reader));
    let updated_at = read_updated_at(&mut keys, reader);
    // Only legacy's ids are ever used again.
    let created_at = match side {
        Side::Legacy => keys.optional("created_at").map(|node| read_column(&node, reader)),
        Side::Platform => None,
    };
    let timezone = keys.optional("timezone").map_or(Some(Tz::UTC), |node| {
        let text = node.text(reader)?;
        schedule::read_timezone(&text, reader)
    });
    let deleted = read_deleted(&mut keys, reader);
    let scope = keys.optional("scope").map_or(Some(BTreeMap::new()), |node| read_scope(&node, around, reader));
    let filter = keys.optional("where").map_or(Some(None), |node| read_filter(&node, reader).map(Some));
    let new_key = keys
        .optional("new_key")
        .map_or(Some(None), |node| read_choice(&node, "way to make a key", &KeyRule::ALL, reader).map(Some));
    let also_node = keys.optional("also");
    let also = also_node.as_ref().map_or(Some(Vec::new()), |node| also::read(node, reader));
    keys.close(reader);

    if let Some(database) = &database {
        around.check_database(database, reader);
    }
    let (schema, name, at) = named?;
    let table = Table {
        database: database?.value,
        schema,
        name,
        key: key.as_ref()?.iter().map(|column| column.value.clone()).collect(),
        updated_at: updated_at?,
        created_at: match created_at {
            Some(column) => Some(column?),
            None => None,
        },
        timezone: timezone?,
        deleted: deleted?,
        scope: scope?,
        filter: filter?,
        new_key: new_key?,
        also: also?,
        place: reader.report.place(node.at()),
    };
    if let Some(node) = &also_node {
        also::check(&table, node, reader);
    }
    let own_columns = own_columns(&table);
    // A key may hold a scope column: a tenant's id often is a part of it.
    for column in key.iter().flatten() {
        if let Some(name) = own_columns.get(&column.value).filter(|name| **name != "scope") {
            reader.problem(column, format!("column `{}` is the table's `{name}` and no key", column.raw), None);
        }
    }
    Some(TableDraft { table, own_columns, at })
}

fn own_columns(table: &Table) -> BTreeMap<String, &'static str> {
    let mut columns: BTreeMap<String, &'static str> = table.scope.keys().map(|name| (name.clone(), "scope")).collect();
    match &table.deleted {
        Some(Deleted::At { column }) => columns.insert(column.clone(), "deleted_at"),
        Some(Deleted::Flag { column, .. }) => columns.insert(column.clone(), "deleted"),
        None => None,
    };
    columns.extend(table.updated_at.iter().map(|column| (column.clone(), "updated_at")));
    columns.extend(table.also.iter().flat_map(|further| also::own_columns(table, further)));
    columns
}

/// `"schema.name"`, or a name in `public`; or `{ schema = …, name = … }`, which may hold anything. With where it stands.
pub(super) fn read_table(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<(String, String, Text)> {
    if node.is_text() {
        let text = node.text(reader)?;
        let (schema, name) = text.value.split_once('.').unwrap_or(("public", &text.value));
        let good = !text.value.contains('"') && !name.contains('.') && is_identifier(schema) && is_identifier(name);
        if !good {
            let help = "write `schema.table`, or `table` for one in `public`, without quotes, at most 63 bytes each; names with dots or quotes \
                        go into `{ schema = \"…\", name = \"…\" }`";
            reader.problem(&text, format!("`{}` is no table name", text.raw), Some(help.into()));
        }
        let (schema, name) = (schema.to_owned(), name.to_owned());
        return good.then_some((schema, name, text));
    }
    let mut keys = node.keys(reader)?;
    let schema = keys.optional("schema").map_or(Some("public".into()), |node| Some(node.text(reader)?.value));
    let name = keys.required("name", r#"name = "users""#, reader).and_then(|node| node.text(reader));
    keys.close(reader);
    let (schema, name) = (schema?, name?);
    let good = is_identifier(&schema) && is_identifier(&name.value);
    if !good {
        let help = "a name has 1 to 63 bytes and no zero byte";
        reader.problem(&name, "is no table name, or its schema is none", Some(help.into()));
    }
    good.then(|| (schema, name.value.clone(), name))
}

/// What the database takes for a name when it is quoted.
fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.len() <= IDENTIFIER_BYTES_MAX && !name.contains('\0')
}

pub(super) const DELETES: [(&str, Deletes); 3] =
    [("follow", Deletes::Follow), ("keep", Deletes::Keep), ("mark", Deletes::Mark)];

/// How changes are found, and whether without a stamp.
pub(super) const CHANGES: [(&str, bool); 2] = [("updated_at", false), ("sweep", true)];

/// The stamp's column; inner `None`: there is none, and rows are compared instead.
fn read_updated_at(keys: &mut Keys<'_>, reader: &mut Reader<'_>) -> Option<Option<String>> {
    let named = keys.optional("updated_at");
    let sweep = match keys.optional("changes") {
        Some(node) => read_choice(&node, "way to find changes", &CHANGES, reader)?,
        None => false,
    };
    match named {
        Some(node) if sweep => {
            let help = "with a stamp changes are found by it: leave `changes` out; without one leave `updated_at` out";
            reader.problem(&node, "`updated_at` and `changes = \"sweep\"` are both declared", Some(help.into()));
            None
        }
        Some(node) => read_column(&node, reader).map(Some),
        None => Some((!sweep).then(|| "updated_at".to_owned())),
    }
}

/// A condition that can be put between parentheses and stays one.
fn read_filter(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let text = node.text(reader)?;
    match condition::flaw(&text.value) {
        None => Some(text.value),
        Some((message, help)) => {
            reader.problem(&text, message, help);
            None
        }
    }
}

fn check_column(text: &Text, reader: &mut Reader<'_>) -> bool {
    let good = is_identifier(&text.value);
    if !good {
        let what = if text.value.is_empty() {
            "the name of a column is empty".into()
        } else {
            format!("`{}` is no column name", text.raw)
        };
        reader.problem(text, what, None);
    }
    good
}

pub(super) fn read_column(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let text = node.text(reader)?;
    check_column(&text, reader).then_some(text.value)
}

/// One or more columns, none twice.
pub(super) fn read_columns(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<Text>> {
    let texts = node.texts(reader)?;
    if texts.is_empty() {
        reader.problem(node, "names no column", None);
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut good = true;
    for text in &texts {
        good &= check_column(text, reader);
        if !seen.insert(&text.value) {
            reader.problem(text, format!("column `{}` is named twice", text.raw), None);
            good = false;
        }
    }
    good.then_some(texts)
}

/// Outer `None`: reported. Inner: rows are not soft-deleted here.
fn read_deleted(keys: &mut Keys<'_>, reader: &mut Reader<'_>) -> Option<Option<Deleted>> {
    let at = keys.optional("deleted_at");
    let flag = keys.optional("deleted");
    match (at, flag) {
        (None, None) => Some(None),
        (Some(at), None) => Some(Some(Deleted::At { column: read_column(&at, reader)? })),
        (None, Some(flag)) => read_flag(&flag, reader).map(Some),
        (Some(_), Some(flag)) => {
            reader.problem(&flag, "`deleted_at` and `deleted` are both declared: keep one", None);
            None
        }
    }
}

fn read_flag(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Deleted> {
    let mut keys = node.keys(reader)?;
    let column =
        keys.required("column", r#"column = "is_deleted""#, reader).and_then(|node| read_column(&node, reader));
    let yes = keys.required("yes", r#"yes = "Y""#, reader).and_then(|node| node.scalar(reader));
    let no = keys.required("no", r#"no = "N""#, reader).and_then(|node| node.scalar(reader));
    keys.close(reader);
    let (column, yes, no) = (column?, yes?, no?);
    if yes.value == no.value {
        reader.problem(&no, "`yes` and `no` are the same value", None);
    }
    Some(Deleted::Flag { column, yes: yes.value, no: no.value })
}

fn read_scope(node: &Node<'_>, around: &Surroundings<'_>, reader: &mut Reader<'_>) -> Option<BTreeMap<String, String>> {
    let mut scope = Some(BTreeMap::new());
    for entry in node.entries(reader)? {
        let value = entry.node.scalar(reader);
        if !is_identifier(&entry.name) {
            reader.problem(&entry.key, "is no column name", None);
        }
        if let Some(value) = &value {
            around.check_vars(value, reader);
        }
        match value {
            Some(value) => scope = scope.map(|mut scope| (scope.insert(entry.name, value.value), scope).1),
            None => scope = None,
        }
    }
    scope
}

impl Surroundings<'_> {
    /// Every customer must have the database.
    fn check_database(&mut self, database: &Text, reader: &mut Reader<'_>) {
        let known: Vec<_> = self.outlines.iter().filter_map(|one| Some((one, one.databases.as_ref()?))).collect();
        let without: Vec<&str> = known
            .iter()
            .filter(|(_, names)| !names.contains(&database.value))
            .map(|(customer, _)| customer.name.as_str())
            .collect();
        if without.is_empty() || !self.unknown_databases.insert(database.value.clone()) {
            return;
        }
        let all: BTreeSet<&str> = known.iter().flat_map(|(_, names)| names.iter().map(String::as_str)).collect();
        let help = if without.len() == known.len() {
            help_unless_secret(database, all)
        } else {
            Some("add it under the customer's `databases`".into())
        };
        let message = format!("{} no database `{}`", customers_have(&without, known.len()), database.raw);
        reader.problem(database, message, help);
    }

    /// Every `{name}` must be a variable of every customer.
    fn check_vars(&self, value: &Text, reader: &mut Reader<'_>) {
        let Some(names) = template_names(&value.value) else {
            let help = "`{name}` stands for a customer's variable of that name, under `vars`";
            reader.problem(value, format!("`{}` has a brace without its partner", value.raw), Some(help.into()));
            return;
        };
        for name in names {
            let without: Vec<&str> = self
                .outlines
                .iter()
                .filter(|customer| !customer.vars.iter().any(|known| known == name))
                .map(|customer| customer.name.as_str())
                .collect();
            if !without.is_empty() {
                let shown = if value.variables.is_empty() { format!("`{name}`") } else { "of that name".into() };
                let message = format!("{} no variable {shown}", customers_have(&without, self.outlines.len()));
                let known: BTreeSet<&str> =
                    self.outlines.iter().flat_map(|customer| customer.vars.iter().map(String::as_str)).collect();
                let help = if without.len() == self.outlines.len() && !known.is_empty() {
                    if value.variables.is_empty() { suggest(name, known) } else { None }
                } else {
                    Some("add it under the customer's `vars`".into())
                };
                reader.problem(value, message, help);
            }
        }
    }
}

/// The names in braces; `None` if a brace is alone.
pub(super) fn template_names(template: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some(brace) = rest.find(['{', '}']) {
        let (name, tail) = rest[brace..].strip_prefix('{')?.split_once('}')?;
        if name.contains('{') {
            return None;
        }
        names.push(name);
        rest = tail;
    }
    Some(names)
}

/// `customer acme has`, `customers a, b and 3 more have`, `no customer has`: the start of a sentence about what they lack.
pub(super) fn customers_have(without: &[&str], all: usize) -> String {
    const NAMED_MAX: usize = 3;
    match without {
        [one] => format!("customer `{one}` has"),
        _ if without.len() == all => format!("all {all} customers have"),
        _ => {
            let named: Vec<String> = without.iter().take(NAMED_MAX).map(|name| format!("`{name}`")).collect();
            let more = without.len().saturating_sub(NAMED_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("customers {}{more} have", named.join(", "))
        }
    }
}
