//! `[stages.entities.fields]`: columns, lenses, policies. Owns: what can be told from the file alone. Never: a lens's
//! meaning, which `mapping` gives and proves.

use std::collections::BTreeMap;

use super::customers::read_id;
use super::entities::{
    BySide, Surroundings, TableDraft, help_unless_secret, read_columns, read_first_contact, read_policy,
};
use super::reader::{Entry, Keys, Located, Node, Reader};
use super::report::suggest;
use super::{EntityId, Field, Lens, Side};

const LENS_FORMS: &str = "`\"same\"`, `\"lowercase\"`, `{ values = { Y = \"active\" } }`, `{ join = \" \" }`, \
                          `{ ref = \"entity\" }` or `{ object = [\"street\", \"city\"] }`";

/// Reads all fields in the order of the file.
pub(super) fn read(
    node: &Node<'_>,
    tables: &BySide<Option<TableDraft>>,
    around: &Surroundings<'_>,
    reader: &mut Reader<'_>,
) -> Option<Vec<Field>> {
    let entries = node.entries(reader)?;
    if entries.is_empty() {
        reader.problem(node, "names no field", Some(r#"add `name = { legacy = "name", platform = "name" }`"#.into()));
        return None;
    }
    let mut used = BySide { legacy: BTreeMap::new(), platform: BTreeMap::new() };
    let fields: Vec<Option<Field>> =
        entries.iter().map(|entry| read_field(entry, tables, around, &mut used, reader)).collect();
    fields.into_iter().collect()
}

/// By column: the field that uses it.
type Used = BTreeMap<String, String>;

fn read_field(
    entry: &Entry<'_>,
    tables: &BySide<Option<TableDraft>>,
    around: &Surroundings<'_>,
    used: &mut BySide<Used>,
    reader: &mut Reader<'_>,
) -> Option<Field> {
    let name = &entry.name;
    if name.is_empty() {
        reader.problem(&entry.key, "the name of the field is empty", None);
    }
    let mut keys = entry.node.keys(reader)?;
    let legacy = keys.required("legacy", &format!("legacy = \"{name}\""), reader);
    let platform = keys.required("platform", &format!("platform = \"{name}\""), reader);
    let legacy = legacy.and_then(|node| claim(&node, name, tables.legacy.as_ref(), &mut used.legacy, reader));
    let platform = platform.and_then(|node| claim(&node, name, tables.platform.as_ref(), &mut used.platform, reader));
    let lens_node = keys.optional("lens");
    let lens = match &lens_node {
        Some(node) => read_lens(node, reader),
        None => Some(Lens::Same),
    };
    let policy = match keys.optional("conflict") {
        Some(node) => read_policy(&node, reader).map(Some),
        None => Some(None),
    };
    let first_contact = match keys.optional("first_contact") {
        Some(node) => read_first_contact(&node, reader).map(Some),
        None => Some(None),
    };
    keys.close(reader);

    let columns = BySide { legacy: legacy?, platform: platform? };
    let (lens, policy) = (lens?, policy?);
    let lens_at: &dyn Located = match &lens_node {
        Some(node) => node,
        None => &entry.node,
    };
    if let Some((message, help)) = misfit(&lens, &columns, around) {
        reader.report.problem(lens_at.at(), lens_at.field(), message, help);
    }
    Some(Field {
        name: name.clone(),
        legacy: columns.legacy,
        platform: columns.platform,
        lens,
        policy,
        first_contact: first_contact?,
        place: reader.report.place(entry.key.at()),
    })
}

/// The columns of a field on one side; each belongs to one field only.
fn claim(
    node: &Node<'_>,
    field: &str,
    table: Option<&TableDraft>,
    used: &mut Used,
    reader: &mut Reader<'_>,
) -> Option<Vec<String>> {
    let columns = read_columns(node, reader)?;
    for column in &columns {
        if let Some(key) = table.and_then(|table| table.own_columns.get(&column.value)) {
            let help = "leave the field out: the bridge writes this column itself";
            reader.problem(column, format!("column `{}` is the table's `{key}`", column.raw), Some(help.into()));
        } else if let Some(other) = used.get(&column.value) {
            reader.problem(column, format!("column `{}` is already mapped by field `{other}`", column.raw), None);
        } else {
            used.insert(column.value.clone(), field.to_owned());
        }
    }
    Some(columns.into_iter().map(|column| column.value).collect())
}

fn read_lens(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Lens> {
    if node.is_text() {
        let text = node.text(reader)?;
        return match text.value.as_str() {
            "same" => Some(Lens::Same),
            "lowercase" => Some(Lens::Lowercase),
            _ => {
                let near = help_unless_secret(&text, ["same", "lowercase"]).filter(|help| help.starts_with("did"));
                let help = near.unwrap_or_else(|| format!("a lens is {LENS_FORMS}"));
                reader.problem(&text, format!("`{}` is no lens", text.raw), Some(help));
                None
            }
        };
    }
    let mut keys = node.keys(reader)?;
    let found: Vec<(&str, Node<'_>)> =
        ["values", "join", "ref", "object"].into_iter().filter_map(|name| Some((name, keys.optional(name)?))).collect();
    let strange = keys_close_counted(keys, reader);
    let [(name, value)] = found.as_slice() else {
        // An unknown key was reported already.
        if !(strange && found.is_empty()) {
            let message = if found.is_empty() { "is an empty lens" } else { "is more than one lens: keep one" };
            reader.problem(node, message, Some(format!("a lens is {LENS_FORMS}")));
        }
        return None;
    };
    match *name {
        "values" => read_values(value, reader),
        "join" => {
            let separator = value.text(reader)?;
            if separator.value.is_empty() {
                reader.problem(value, "joins by nothing: the parts could not be told apart again", None);
                return None;
            }
            Some(Lens::Join(separator.value))
        }
        "ref" => Some(Lens::Ref(EntityId::new(read_id(value, reader)?.value))),
        _ => read_object(value, reader),
    }
}

/// Closes a table and tells whether that found a problem.
fn keys_close_counted(keys: Keys<'_>, reader: &mut Reader<'_>) -> bool {
    let before = reader.report.count();
    keys.close(reader);
    reader.report.count() > before
}

fn read_values(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Lens> {
    let entries = node.entries(reader)?;
    if entries.is_empty() {
        reader.problem(node, "maps no value", Some(r#"write `{ values = { Y = "active", N = "suspended" } }`"#.into()));
        return None;
    }
    let mut values = BTreeMap::new();
    let mut legacy_by_platform: BTreeMap<String, String> = BTreeMap::new();
    let mut good = true;
    for entry in entries {
        let Some(platform) = entry.node.scalar(reader) else {
            good = false;
            continue;
        };
        if let Some(first) = legacy_by_platform.insert(platform.value.clone(), entry.name.clone()) {
            let message = format!("`{first}` and `{}` both become `{}`", entry.name, platform.raw);
            let help = "values map one to one, or the way back would be a guess";
            reader.problem(&platform, message, Some(help.into()));
            good = false;
        }
        values.insert(entry.name, platform.value);
    }
    good.then_some(Lens::Values(values))
}

fn read_object(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Lens> {
    let members = node.list(reader)?;
    if members.is_empty() {
        reader.problem(node, "names no member", None);
        return None;
    }
    let mut names = Vec::new();
    let mut good = true;
    for member in members {
        let Some(text) = member.text(reader) else {
            good = false;
            continue;
        };
        if text.value.is_empty() || names.contains(&text.value) {
            let what = if text.value.is_empty() {
                "the name of a member is empty".into()
            } else {
                format!("member `{}` is named twice", text.raw)
            };
            reader.problem(&text, what, None);
            good = false;
        }
        names.push(text.value);
    }
    good.then_some(Lens::Object(names))
}

/// Why a lens does not fit the number of its columns.
fn misfit(lens: &Lens, columns: &BySide<Vec<String>>, around: &Surroundings<'_>) -> Option<(String, Option<String>)> {
    let (legacy, platform) = (columns.legacy.len(), columns.platform.len());
    let counts = format!("here are {legacy} legacy and {platform} platform");
    match lens {
        Lens::Same | Lens::Lowercase | Lens::Values(_) => {
            let name = match lens {
                Lens::Same => "same",
                Lens::Lowercase => "lowercase",
                _ => "values",
            };
            let help = "several columns on one side take `{ join = \" \" }` or `{ object = […] }`";
            (legacy != 1 || platform != 1)
                .then(|| (format!("lens `{name}` maps one column to one, {counts}"), Some(help.into())))
        }
        Lens::Join(_) => ((legacy > 1) == (platform > 1))
            .then(|| (format!("lens `join` takes several columns on exactly one side, {counts}"), None)),
        Lens::Object(members) if platform != 1 => Some((
            format!(
                "lens `object` takes one platform column, the json object, not {platform} ({} members)",
                members.len()
            ),
            None,
        )),
        Lens::Object(members) => (members.len() != legacy)
            .then(|| (format!("lens `object` names {} members for {legacy} legacy columns", members.len()), None)),
        Lens::Ref(entity) => ref_misfit(entity, columns, around),
    }
}

fn ref_misfit(
    entity: &EntityId,
    columns: &BySide<Vec<String>>,
    around: &Surroundings<'_>,
) -> Option<(String, Option<String>)> {
    let Some(keys) = around.entities.get(entity.as_str()) else {
        let help = suggest(entity.as_str(), around.entities.keys().map(String::as_str));
        return Some((format!("refers to `{entity}`, which is no entity"), help));
    };
    Side::BOTH.into_iter().find_map(|side| {
        let (wanted, found) = ((*keys.of(side))?, columns.of(side).len());
        let plural = if wanted == 1 { "column" } else { "columns" };
        (wanted != found).then(|| {
            (format!("the key of `{entity}` has {wanted} {plural} on the {side} side, {found} named here"), None)
        })
    })
}
