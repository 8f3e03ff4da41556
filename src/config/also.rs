//! `also`: the further tables of a side, each of which holds a part of every record. Owns: that a record's tables can be written
//! together and are found by their stamps.

use super::entities::{read_column, read_columns, read_table};
use super::reader::{Entry, Node, Reader};
use super::{Further, Table};

const TOGETHER: &str = "a table that is not written together with its record's others is an entity of its own: leave it out here, and let \
                        that entity refer to this one by a field with `lens = { ref = \"…\" }`";

/// By alias, in the order of the file.
pub(super) fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<Further>> {
    let entries = node.entries(reader)?;
    if entries.is_empty() {
        let example = r#"write `also = { profile = { table = "profiles", key = "user_id" } }`, or leave it out"#;
        reader.problem(node, "names no table", Some(example.into()));
    }
    let tables: Vec<Option<Further>> = entries.iter().map(|entry| read_further(entry, reader)).collect();
    tables.into_iter().collect()
}

fn read_further(entry: &Entry<'_>, reader: &mut Reader<'_>) -> Option<Further> {
    let alias = &entry.name;
    let is_plain = !alias.is_empty() && alias.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    if !is_plain {
        let help = "letters, digits, `_` and `-`: fields call its columns `name.column`";
        reader.problem(&entry.key, "is no name for a further table", Some(help.into()));
    }
    let mut keys = entry.node.keys(reader)?;
    let mut together = true;
    if let Some(database) = keys.optional("database") {
        let message = "the tables of one record lie in one database, as they are written in one transaction";
        reader.problem(&database, message, Some(format!("leave `database` out if it is the record's own; {TOGETHER}")));
        together = false;
    }
    if let Some(changes) = keys.optional("changes") {
        let message = "a further table's changes are found by its stamps";
        reader.problem(&changes, message, Some(TOGETHER.into()));
        together = false;
    }
    let named = keys.required("table", r#"table = "profiles""#, reader).and_then(|node| read_table(&node, reader));
    let key = keys.required("key", r#"key = "user_id""#, reader).and_then(|node| read_columns(&node, reader));
    let stamp = keys.optional("updated_at");
    let updated_at = stamp.map_or(Some("updated_at".to_owned()), |node| read_column(&node, reader));
    keys.close(reader);
    let (schema, name, _) = named?;
    let key = key?.into_iter().map(|column| column.value).collect();
    let further = Further { alias: alias.clone(), schema, name, key, updated_at: updated_at? };
    (is_plain && together).then_some(further)
}

/// What the further tables are beside the side's own.
pub(super) fn check(table: &Table, node: &Node<'_>, reader: &mut Reader<'_>) {
    if table.updated_at.is_none() && !table.also.is_empty() {
        let message =
            "a record of several tables is found by the stamps of each, and this side has none (`changes = \"sweep\"`)";
        reader.problem(node, message, Some(format!("name the column under `updated_at`; {TOGETHER}")));
    }
    let names: Vec<(&str, &str)> = table.names().collect();
    for (at, further) in table.also.iter().enumerate() {
        let alias = &further.alias;
        if names[..=at].contains(&(&*further.schema, &*further.name)) {
            reader.problem(node, format!("`{alias}` is table {} once more", further.shown()), None);
        }
        let (own, theirs) = (table.key.len(), further.key.len());
        if own != theirs {
            let message = format!("the key of `{alias}` has {theirs} parts and that of {} has {own}", table.shown());
            let help = "name a column for each part of the key, in its order: the tables are joined by them";
            reader.problem(node, message, Some(help.into()));
        }
    }
}

/// Columns that no field may write, with what they are.
pub(super) fn own_columns<'t>(
    table: &'t Table,
    further: &'t Further,
) -> impl Iterator<Item = (String, &'static str)> + 't {
    let key = further.key.iter().map(|column| (column, "key"));
    // What the scope fixes in the table itself it fixes in this one, too.
    let scope = table.scope.keys().map(|column| (column, "scope"));
    let all = key.chain(scope).chain(std::iter::once((&further.updated_at, "updated_at")));
    all.map(|(column, what)| (format!("{}.{column}", further.alias), what))
}
