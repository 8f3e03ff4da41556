//! `[stages.entities.fields]`: columns, lenses, policies. Owns: what can be told from the file alone. Never: a lens's
//! meaning, which `mapping` gives and proves.

use std::collections::BTreeMap;

use super::customers::read_id;
use super::entities::{
    BySide, Surroundings, TableDraft, help_unless_secret, read_choice, read_columns, read_first_contact, read_policy,
};
use super::reader::{Entry, Keys, Located, Node, Reader, Text};
use super::report::suggest;
use super::{EntityId, EpochUnit, Expression, Field, Hours, Lens, Nulls, Side, TextFold, ValuePair, Which};

const LENS_FORMS: &str = "`\"same\"`, `\"date\"`, `\"point\"`, `\"geojson\"`, one or a list of `\"trim\"`, `\"lowercase\"`, `\"uppercase\"` and `\"nfc\"`, \
                          or `{ values | bool | join | object | path | scale | epoch | format | time | list | set | flags | constant | ref = … }`, \
                          or `{ to_platform = …, to_legacy = … }`: see docs/MAPPING.md";

/// Lenses that are a word.
pub(super) const LENS_WORDS: [&str; 8] = ["same", "trim", "lowercase", "uppercase", "nfc", "date", "point", "geojson"];

/// Lenses with a value.
pub(super) const LENS_KEYS: [&str; 14] = [
    "values", "bool", "join", "object", "path", "scale", "epoch", "format", "time", "list", "set", "flags", "constant",
    "ref",
];

/// The keys of an expression for each way, by the side it leads to.
pub(super) const WAYS: [&str; 2] = ["to_legacy", "to_platform"];

pub(super) const EPOCH_UNITS: [(&str, EpochUnit); 2] =
    [("seconds", EpochUnit::Seconds), ("milliseconds", EpochUnit::Milliseconds)];
pub(super) const WHICH: [(&str, Which); 2] = [("earlier", Which::Earlier), ("later", Which::Later)];

/// As far as `numeric` moves a point without losing digits that anybody has.
const SCALE_POWER_MAX: usize = 30;

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

/// By column: the field that uses it, and whether that leaves room for others inside the column's document.
type Used = BTreeMap<String, (String, bool)>;

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
    let lens_node = keys.optional("lens");
    let lens = match &lens_node {
        Some(node) => read_lens(node, reader),
        None => Some(Lens::Same),
    };
    // A constant is one side's alone.
    let is_constant = matches!(lens, Some(Lens::Constant(_)));
    let [legacy, platform] = ["legacy", "platform"].map(|key| match is_constant {
        true => Some(keys.optional(key)),
        false => keys.required(key, &format!("{key} = \"{name}\""), reader).map(Some),
    });
    let stands =
        Stands { field: name, shares: matches!(lens, Some(Lens::Path(_))), refers: matches!(lens, Some(Lens::Ref(_))) };
    let mut claimed = |node: Option<Option<Node<'_>>>, table: Option<&TableDraft>, used: &mut Used| match node? {
        Some(node) => claim(&node, &stands, table, used, reader),
        None => Some(Vec::new()),
    };
    let legacy = claimed(legacy, tables.legacy.as_ref(), &mut used.legacy);
    let platform = claimed(platform, tables.platform.as_ref(), &mut used.platform);
    let policy = match keys.optional("conflict") {
        Some(node) => read_policy(&node, reader).map(Some),
        None => Some(None),
    };
    let one_way = match keys.optional("one_way") {
        Some(node) => {
            read_choice(&node, "direction", &Side::BOTH.map(|side| (side.direction(), side)), reader).map(Some)
        }
        None => Some(None),
    };
    let null = match keys.optional("null") {
        Some(node) => read_nulls(&node, reader),
        None => Some(Nulls::default()),
    };
    let first_contact = match keys.optional("first_contact") {
        Some(node) => read_first_contact(&node, reader).map(Some),
        None => Some(None),
    };
    keys.close(reader);

    let columns = BySide { legacy: legacy?, platform: platform? };
    let (lens, policy, one_way, null) = (lens?, policy?, one_way?, null?);
    let lens_at: &dyn Located = match &lens_node {
        Some(node) => node,
        None => &entry.node,
    };
    let flaw =
        misfit(&lens, &columns, around).or_else(|| way_misfit(&lens, one_way)).or_else(|| null_misfit(&null, &columns));
    if let Some((message, help)) = flaw {
        reader.report.problem(lens_at.at(), lens_at.field(), message, help);
    }
    Some(Field {
        name: name.clone(),
        legacy: columns.legacy,
        platform: columns.platform,
        lens,
        policy,
        one_way,
        null,
        first_contact: first_contact?,
        place: reader.report.place(entry.key.at()),
    })
}

/// What stands for NULL on either side.
fn read_nulls(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Nulls> {
    let mut keys = node.keys(reader)?;
    let mut side = |name: &'static str, reader: &mut Reader<'_>| match keys.optional(name) {
        Some(node) => node.scalar(reader).map(|text| Some(text.value)),
        None => Some(None),
    };
    let (legacy, platform) = (side("legacy", reader), side("platform", reader));
    keys.close(reader);
    let null = Nulls { legacy: legacy?, platform: platform? };
    if null == Nulls::default() {
        reader.problem(node, "names no value", Some(r#"write `null = { legacy = "" }`, say"#.into()));
        return None;
    }
    Some(null)
}

/// A way without an expression is one that the field must not go.
fn way_misfit(lens: &Lens, one_way: Option<Side>) -> Option<(String, Option<String>)> {
    let Lens::Express { to_platform, to_legacy } = lens else { return None };
    let missing = match (to_platform, to_legacy) {
        (Some(_), None) => Side::Legacy,
        (None, Some(_)) => Side::Platform,
        _ => return None,
    };
    (one_way != Some(missing.other())).then(|| {
        let help = format!(
            "add `{} = \"…\"`, or `one_way = \"{}\"` beside `lens`",
            WAYS[missing as usize],
            missing.other().direction()
        );
        (format!("has no expression for what flows to {missing}"), Some(help))
    })
}

fn null_misfit(null: &Nulls, columns: &BySide<Vec<String>>) -> Option<(String, Option<String>)> {
    Side::BOTH.into_iter().find(|&side| null.of(side).is_some() && columns.of(side).len() != 1).map(|side| {
        (
            format!(
                "`null` names a value for the {side} side, where the field stands on {} columns",
                columns.of(side).len()
            ),
            None,
        )
    })
}

/// Who stands on a column, and beside whom.
struct Stands<'f> {
    field: &'f str,
    /// It leaves room for others inside the column's document.
    shares: bool,
    /// It may name a scope's column, as keys do: what it refers to is of the same scope, so there is nothing to be written.
    refers: bool,
}

/// The columns of a field on one side; each belongs to one field only.
fn claim(
    node: &Node<'_>,
    stands: &Stands<'_>,
    table: Option<&TableDraft>,
    used: &mut Used,
    reader: &mut Reader<'_>,
) -> Option<Vec<String>> {
    let columns = read_columns(node, reader)?;
    for column in &columns {
        let own = table.and_then(|table| table.own_columns.get(&column.value));
        if stands.refers && columns.len() > 1 && own.is_some_and(|key| *key == "scope") {
            continue;
        }
        if let Some(key) = own {
            let help = "leave the field out: the bridge writes this column itself";
            reader.problem(column, format!("column `{}` is the table's `{key}`", column.raw), Some(help.into()));
        } else if let Some((other, _)) =
            used.get(&column.value).filter(|(_, other_shares)| !(stands.shares && *other_shares))
        {
            reader.problem(column, format!("column `{}` is already mapped by field `{other}`", column.raw), None);
        } else {
            used.insert(column.value.clone(), (stands.field.to_owned(), stands.shares));
        }
    }
    Some(columns.into_iter().map(|column| column.value).collect())
}

fn read_lens(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Lens> {
    if node.is_text() {
        let text = node.text(reader)?;
        return match text.value.as_str() {
            "same" => Some(Lens::Same),
            "date" => Some(Lens::Date),
            "point" => Some(Lens::Point),
            "geojson" => Some(Lens::GeoJson),
            _ => read_fold(&text, reader).map(|fold| Lens::Fold(vec![fold])),
        };
    }
    if node.is_list() {
        let texts = node.texts(reader)?;
        if texts.is_empty() {
            reader.problem(node, "is an empty lens", Some(format!("a lens is {LENS_FORMS}")));
            return None;
        }
        let folds: Vec<Option<TextFold>> = texts.iter().map(|text| read_fold(text, reader)).collect();
        let folds: Vec<TextFold> = folds.into_iter().collect::<Option<_>>()?;
        if folds.contains(&TextFold::Lowercase) && folds.contains(&TextFold::Uppercase) {
            reader.problem(node, "lowers and raises the same text", None);
            return None;
        }
        return Some(Lens::Fold(folds));
    }
    let mut keys = node.keys(reader)?;
    let (back, separator) = (keys.optional("back"), keys.optional("separator"));
    let ways = Side::BOTH.map(|side| keys.optional(WAYS[side as usize]));
    let found: Vec<(&str, Node<'_>)> =
        LENS_KEYS.into_iter().filter_map(|name| Some((name, keys.optional(name)?))).collect();
    let strange = keys_close_counted(keys, reader);
    if let ([], true) = (&found[..], ways.iter().any(Option::is_some)) {
        return read_expressions(ways, reader);
    }
    let ([(name, value)], [None, None]) = (found.as_slice(), &ways) else {
        // An unknown key was reported already.
        if !(strange && found.is_empty()) {
            let message = if found.is_empty() { "is an empty lens" } else { "is more than one lens: keep one" };
            reader.problem(node, message, Some(format!("a lens is {LENS_FORMS}")));
        }
        return None;
    };
    if let (Some(back), false) = (&back, *name == "values") {
        reader.problem(back, "says which of several values is written, and belongs to `values` alone", None);
        return None;
    }
    if let (Some(separator), false) = (&separator, *name == "flags") {
        reader.problem(separator, "says what stands between the names of `flags`, and belongs to these alone", None);
        return None;
    }
    match *name {
        "values" => read_values(value, back.as_ref(), reader),
        "bool" => read_bool(value, reader),
        "join" => {
            let separator = value.text(reader)?;
            if separator.value.is_empty() {
                reader.problem(value, "joins by nothing: the parts could not be told apart again", None);
                return None;
            }
            Some(Lens::Join(separator.value))
        }
        "path" => read_path(value, reader),
        "scale" => read_scale(value, reader),
        "epoch" => Some(Lens::Epoch(read_choice(value, "unit", &EPOCH_UNITS, reader)?)),
        "format" => read_format(value, reader),
        "time" => read_time(value, reader),
        "list" | "set" => {
            let is_set = *name == "set";
            read_separator(value, reader).map(|separator| Lens::List { separator, is_set })
        }
        "flags" => read_flags(value, separator.as_ref(), reader),
        "constant" => Some(Lens::Constant(value.scalar(reader)?.value)),
        "ref" => Some(Lens::Ref(EntityId::new(read_id(value, reader)?.value))),
        _ => read_object(value, reader),
    }
}

fn read_fold(text: &Text, reader: &mut Reader<'_>) -> Option<TextFold> {
    let fold = TextFold::ALL.into_iter().find(|fold| fold.as_str() == text.value);
    if fold.is_none() {
        let short =
            TextFold::ALL.into_iter().map(TextFold::as_str).find(|name| name.strip_suffix("case") == Some(&text.value));
        let near = short.map(|name| format!("did you mean `{name}`?"));
        let near = near.or_else(|| help_unless_secret(text, LENS_WORDS).filter(|help| help.starts_with("did")));
        let help = near.unwrap_or_else(|| format!("a lens is {LENS_FORMS}"));
        reader.problem(text, format!("`{}` is no lens", text.raw), Some(help));
    }
    fold
}

/// The word for yes, the word for no.
fn read_bool(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Lens> {
    let words: Vec<Option<Text>> = node.list(reader)?.iter().map(|word| word.scalar(reader)).collect();
    let words: Vec<Text> = words.into_iter().collect::<Option<_>>()?;
    match words.as_slice() {
        [yes, no] if yes.value != no.value => Some(Lens::Bool { yes: yes.value.clone(), no: no.value.clone() }),
        _ => {
            let help = r#"write `{ bool = ["Y", "N"] }`: what stands for true, then what stands for false"#;
            reader.problem(node, "names no two different values", Some(help.into()));
            None
        }
    }
}

/// `"a.b"`, or a list where a member's name has a dot.
fn read_path(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Lens> {
    let members: Vec<String> = match node.is_list() {
        true => node.texts(reader)?.into_iter().map(|text| text.value).collect(),
        false => node.text(reader)?.value.split('.').map(str::to_owned).collect(),
    };
    if members.is_empty() || members.iter().any(String::is_empty) {
        let help = r#"write `{ path = "address.city" }`, or a list of members where a name has a dot"#;
        reader.problem(node, "has a member without a name", Some(help.into()));
        return None;
    }
    Some(Lens::Path(members))
}

/// What flows to legacy, what flows to the platform.
fn read_expressions(ways: [Option<Node<'_>>; 2], reader: &mut Reader<'_>) -> Option<Lens> {
    let mut read = |node: Option<Node<'_>>| {
        let Some(node) = node else { return Some(None) };
        let text = node.text(reader)?;
        match Expression::parse(&text.value) {
            Ok(expression) => Some(Some(expression)),
            Err(why) => {
                let help = "an expression over `value`, such as `value.upper()` or `value / 100`: see docs/MAPPING.md";
                reader.problem(&text, format!("is no expression: {why}"), Some(help.into()));
                None
            }
        }
    };
    let [to_legacy, to_platform] = ways.map(&mut read);
    Some(Lens::Express { to_platform: to_platform?, to_legacy: to_legacy? })
}

/// What stands between the elements of a text.
fn read_separator(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let text = node.text(reader)?;
    if text.value.is_empty() {
        reader.problem(node, "separates by nothing: name what stands between two elements, such as `\",\"`", None);
        return None;
    }
    Some(text.value)
}

/// `{ 1 = "admin", 2 = "editor" }`: bits and their names.
fn read_flags(node: &Node<'_>, separator: Option<&Node<'_>>, reader: &mut Reader<'_>) -> Option<Lens> {
    let entries = node.entries(reader)?;
    if entries.is_empty() {
        reader.problem(node, "names no flag", Some(r#"write `{ flags = { 1 = "admin", 2 = "editor" } }`"#.into()));
        return None;
    }
    let separator = match separator {
        Some(node) => Some(read_separator(node, reader)?),
        None => None,
    };
    let mut bits: Vec<(i64, String)> = Vec::new();
    let mut good = true;
    for entry in &entries {
        // The highest bit of all is the sign.
        let bit = entry
            .name
            .parse()
            .ok()
            .filter(|bit: &i64| *bit > 0 && bit.count_ones() == 1 && bit.to_string() == entry.name);
        if bit.is_none() {
            let help = "a flag is a power of two: 1, 2, 4, up to 4611686018427387904";
            reader.problem(&entry.key, format!("`{}` is no bit", entry.name), Some(help.into()));
        }
        let name = entry.node.text(reader);
        if let Some(name) = &name {
            let message = if name.value.is_empty() || name.value.trim() != name.value {
                format!("`{}` is no name of a flag: it is empty, or has space around it", name.raw)
            } else if separator.as_deref().is_some_and(|separator| name.value.contains(separator.trim())) {
                format!("`{}` has the separator in it", name.raw)
            } else if let Some((other, _)) = bits.iter().find(|(_, other)| *other == name.value) {
                format!("`{}` is the name of {other} too", name.raw)
            } else {
                String::new()
            };
            if !message.is_empty() {
                reader.problem(name, message, None);
                good = false;
            }
        }
        match (bit, name) {
            (Some(bit), Some(name)) => bits.push((bit, name.value)),
            _ => good = false,
        }
    }
    good.then_some(Lens::Flags { bits, separator })
}

/// A power of ten: 100, or 0.001.
fn read_scale(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Lens> {
    let text = node.number(reader)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let zeros = |digits: &str| digits.bytes().all(|byte| byte == b'0');
    let power = match (whole.strip_prefix('1'), fraction.strip_suffix('1')) {
        (Some(tail), None) if zeros(tail) && zeros(fraction) => Some(tail.len()).map(|power| power as i32),
        (None, Some(head)) if zeros(whole) && zeros(head) => Some(-(head.len() as i32 + 1)),
        _ => None,
    };
    let power = power.filter(|power| power.unsigned_abs() as usize <= SCALE_POWER_MAX);
    if power.is_none() {
        let help =
            "how many on legacy are one on the platform: 100 for cents and a decimal, 0.001 for the reverse of milli";
        reader.problem(
            node,
            format!("`{text}` is no power of ten, so the way back would not be exact"),
            Some(help.into()),
        );
    }
    Some(Lens::Scale(power?))
}

fn read_format(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Lens> {
    let text = node.text(reader)?;
    let flaw = match unknown_part(&text.value) {
        Some(part) => format!("`{}` is no form of a date: there is no `{part}`", text.raw),
        None if !text.value.contains('%') => format!("`{}` is no form of a date", text.raw),
        None => return Some(Lens::Format(text.value)),
    };
    let help = "in the notation of strftime: `%d.%m.%Y`, `%Y%m%d`, `%Y-%m-%d %H:%M:%S`";
    reader.problem(node, flaw, Some(help.into()));
    None
}

/// The first part of a form that means nothing.
fn unknown_part(form: &str) -> Option<String> {
    use chrono::format::{Item, StrftimeItems};
    let is_known = |part: &str| !StrftimeItems::new(part).any(|item| item == Item::Error);
    let mut rest = form;
    while let Some(at) = rest.find('%') {
        let part = &rest[at..];
        let ends = part.char_indices().skip(1).map(|(at, letter)| at + letter.len_utf8());
        // The longest has three letters between: `%-3f`, `%:::z`.
        match ends.take(5).find(|end| is_known(&part[..*end])) {
            Some(end) => rest = &part[end..],
            None => return Some(part.chars().take(2).collect()),
        }
    }
    None
}

fn read_time(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Lens> {
    let mut keys = node.keys(reader)?;
    let mut which = |name: &'static str, reader: &mut Reader<'_>| match keys.optional(name) {
        Some(node) => read_choice(&node, "choice", &WHICH, reader).map(Some),
        None => Some(None),
    };
    let (doubled, missing) = (which("doubled", reader), which("missing", reader));
    keys.close(reader);
    Some(Lens::Time(Hours { doubled: doubled?, missing: missing? }))
}

/// Closes a table and tells whether that found a problem.
fn keys_close_counted(keys: Keys<'_>, reader: &mut Reader<'_>) -> bool {
    let before = reader.report.count();
    keys.close(reader);
    reader.report.count() > before
}

/// `{ Y = "active", N = ["suspended", "closed"] }`; of several platform values the first is written. Where several legacy values
/// mean the same, `back` names the one that is written.
fn read_values(node: &Node<'_>, back: Option<&Node<'_>>, reader: &mut Reader<'_>) -> Option<Lens> {
    let entries = node.entries(reader)?;
    if entries.is_empty() {
        reader.problem(node, "maps no value", Some(r#"write `{ values = { Y = "active", N = "suspended" } }`"#.into()));
        return None;
    }
    let mut ways_back: BTreeMap<String, (Text, bool)> = BTreeMap::new();
    for entry in back.map_or(Some(Vec::new()), |node| node.entries(reader))? {
        ways_back.insert(entry.name, (entry.node.scalar(reader)?, false));
    }
    let mut pairs: Vec<ValuePair> = Vec::new();
    // By platform value: the legacy value and what it means there.
    let mut known: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut good = true;
    for entry in &entries {
        let on_platform: Option<Vec<Text>> = match entry.node.is_list() {
            true => entry.node.list(reader)?.iter().map(|node| node.scalar(reader)).collect(),
            false => entry.node.scalar(reader).map(|text| vec![text]),
        };
        let Some((first, on_platform)) = on_platform.and_then(|all| Some((all.first()?.clone(), all))) else {
            good = false;
            continue;
        };
        for text in &on_platform {
            let (other, meaning) =
                known.entry(text.value.clone()).or_insert_with(|| (entry.name.clone(), first.value.clone()));
            if *meaning != first.value {
                let message = format!("`{}` on the platform would mean `{other}` and `{}`", text.raw, entry.name);
                reader.problem(text, message, Some("a value of one side has one meaning on the other".into()));
                good = false;
            }
        }
        let is_written = match ways_back.get_mut(&first.value) {
            Some((legacy, seen)) => {
                *seen |= legacy.value == entry.name;
                legacy.value == entry.name
            }
            None => {
                if let Some(other) = pairs.iter().find(|pair| pair.platform[0] == first.value) {
                    let message = format!("`{}` and `{}` both become `{}`", other.legacy, entry.name, first.raw);
                    let help = format!(
                        "say which of them is written back: `lens = {{ values = {{ … }}, back = {{ {:?} = {:?} }} }}`",
                        first.raw, other.legacy
                    );
                    reader.problem(&first, message, Some(help));
                    good = false;
                }
                true
            }
        };
        pairs.push(ValuePair {
            legacy: entry.name.clone(),
            platform: on_platform.into_iter().map(|text| text.value).collect(),
            is_written,
        });
    }
    for (platform, (legacy, _)) in ways_back.iter().filter(|(_, (_, seen))| !seen) {
        let message = format!("`{platform}` goes back to `{}`, which `values` does not map to it", legacy.raw);
        reader.problem(legacy, message, None);
        good = false;
    }
    good.then_some(Lens::Values(pairs))
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
    let one_to_one = |name: &str| {
        let help = "several columns on one side take `{ join = \" \" }`, `{ object = […] }` or `\"point\"`";
        (legacy != 1 || platform != 1)
            .then(|| (format!("lens `{name}` maps one column to one, {counts}"), Some(help.to_owned())))
    };
    match lens {
        Lens::Same => one_to_one("same"),
        Lens::Fold(folds) => one_to_one(folds.first().map_or("trim", |fold| fold.as_str())),
        Lens::Values(_) => one_to_one("values"),
        Lens::Bool { .. } => one_to_one("bool"),
        Lens::Path(_) => one_to_one("path"),
        Lens::Scale(_) => one_to_one("scale"),
        Lens::Time(_) => one_to_one("time"),
        Lens::Date => one_to_one("date"),
        Lens::Epoch(_) => one_to_one("epoch"),
        Lens::Format(_) => one_to_one("format"),
        Lens::Flags { .. } => one_to_one("flags"),
        Lens::Express { .. } => one_to_one("to_platform"),
        Lens::List { is_set, .. } => one_to_one(if *is_set { "set" } else { "list" }),
        Lens::Join(_) => ((legacy > 1) == (platform > 1))
            .then(|| (format!("lens `join` takes several columns on exactly one side, {counts}"), None)),
        Lens::Point => (![(2, 1), (1, 2)].contains(&(legacy, platform)))
            .then(|| (format!("lens `point` takes two columns on one side and one on the other, {counts}"), None)),
        Lens::GeoJson => (![(2, 1), (1, 2), (1, 1)].contains(&(legacy, platform))).then(|| {
            (
                format!(
                    "lens `geojson` takes two columns or a point on one side and a json column on the other, {counts}"
                ),
                None,
            )
        }),
        Lens::Object(_) if legacy != 1 && platform != 1 => {
            Some((format!("lens `object` takes one column, the json object, on one side, {counts}"), None))
        }
        Lens::Object(members) => (members.len() != legacy.max(platform)).then(|| {
            (format!("lens `object` names {} members for {} columns", members.len(), legacy.max(platform)), None)
        }),
        Lens::Constant(_) => ((legacy == 0) == (platform == 0))
            .then(|| ("lens `constant` is of one side's column: name `legacy` or `platform`, not both".into(), None)),
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
