//! The draft as a file: TOML as a person writes it, with reasons beside the lines. Pure.

use std::fmt::Write as _;

use super::lenses::Lens;
use super::own::Mark;
use super::{Draft, Entity, Field, Left, Side, Stage};

/// What fits a line of an editor.
const LINE_CHARS_MAX: usize = 128;

/// Of what belongs to a stage.
const INDENT: &str = "  ";

/// The names of the two databases in the file.
const DATABASES: [&str; 2] = ["legacy", "platform"];

pub fn of(draft: &Draft) -> String {
    let mut text = String::new();
    let [legacy, platform] = &draft.variables;
    comment(
        &mut text,
        "",
        "A first mapping, guessed by `sync-bridge init` from the catalogues of both databases; no row was read. Each guess says its \
         reason, and what is unsure is a comment. Read it through, and put it right; then `sync-bridge prepare` installs the bridge's own \
         schema, `check` holds the file against both databases, `check --sample 1000` tries it on rows, and `plan` shows what a run would \
         do. docs/MAPPING.md has every lens.",
    );
    text.push_str("\n# [queue]\n");
    line(&mut text, "# url = \"${QUEUE_DATABASE_URL}\"", "left out: an embedded PostgreSQL under .sync-bridge/");
    text.push_str("\n[[customers]]\n");
    line(&mut text, "id = \"acme\"", "change it now or never: the ids of new records are derived from it");
    line(&mut text, "slug = \"acme\"", "may change");
    let _ = writeln!(text, "databases = {{ legacy = \"${{{legacy}}}\", platform = \"${{{platform}}}\" }}");
    line(&mut text, "# schedule = \"* * * * *\"", "each minute, if left out");
    for stage in &draft.stages {
        write_stage(&mut text, stage);
    }
    for side in 0..2 {
        write_left(&mut text, side, &draft.left[side], draft.is_cut[side]);
    }
    text
}

fn write_stage(text: &mut String, stage: &Stage) {
    let is_comment = stage.entities.iter().all(|entity| !entity.doubts.is_empty());
    let mark = if is_comment { "# " } else { "" };
    let rule = "-".repeat((LINE_CHARS_MAX - 10).saturating_sub(stage.name.chars().count()));
    let _ = write!(text, "\n# {rule} {}\n\n{mark}[[stages]]\n{mark}name = {}\n", stage.name, quoted(&stage.name));
    for entity in &stage.entities {
        text.push('\n');
        write_reasons(text, entity);
        let mut own = String::new();
        write_entity(&mut own, entity);
        // As an editor does it, so that an editor takes it away again.
        let mark = if entity.doubts.is_empty() { "" } else { "# " };
        for line in own.lines() {
            let _ = match line.strip_prefix(INDENT) {
                Some(line) => writeln!(text, "{INDENT}{mark}{line}"),
                None => writeln!(text),
            };
        }
    }
}

fn write_reasons(text: &mut String, entity: &Entity) {
    let [legacy, platform] = entity.sides.each_ref().map(shown);
    comment(text, INDENT, &format!("`{legacy}` and `{platform}`: {}.", entity.why));
    for (side, what) in entity.sides.iter().zip(DATABASES) {
        comment(text, INDENT, &format!("{what}: {}.", side.why.join("; ")));
    }
    for doubt in &entity.doubts {
        comment(text, INDENT, &format!("UNSURE, so a comment: {doubt}."));
    }
}

fn write_entity(text: &mut String, entity: &Entity) {
    let _ = writeln!(text, "{INDENT}[[stages.entities]]\n{INDENT}id = {}", quoted(&entity.id));
    for (side, table) in entity.sides.iter().enumerate() {
        let _ = writeln!(text, "{INDENT}{}", self::side(side, table));
    }
    for note in &entity.notes {
        comment(text, INDENT, &format!("UNSURE: {}.", note.says));
        note.lines.iter().for_each(|line| {
            let _ = writeln!(text, "{INDENT}# {line}");
        });
    }
    if let Some(match_on) = &entity.match_on {
        let names: Vec<String> = match_on.fields.iter().map(|name| quoted(name)).collect();
        let mark = if match_on.is_doubted { "# " } else { "" };
        let unsure = if match_on.is_doubted { "UNSURE: " } else { "" };
        line_within(
            text,
            INDENT,
            &format!("{mark}match_on = [{}]", names.join(", ")),
            &format!("{unsure}{}", match_on.why),
        );
    }
    if let Some(conflict) = entity.conflict {
        line_within(text, INDENT, &format!("conflict = \"{conflict}\""), "without a stamp `newest` cannot tell");
    }
    let _ = write!(text, "\n{INDENT}{INDENT}[stages.entities.fields]\n");
    let width =
        entity.fields.iter().filter(|field| !field.is_doubted).map(|field| key(&field.name).chars().count()).max();
    for field in &entity.fields {
        write_field(text, field, width.unwrap_or_default());
    }
    for (side, left) in ["legacy", "the platform"].iter().zip(&entity.left) {
        if !left.is_empty() {
            comment(text, "    ", &format!("No field on {side}: {}.", super::listed(left)));
        }
    }
}

fn write_field(text: &mut String, field: &Field, width: usize) {
    const INDENT: &str = "    ";
    let name = key(&field.name);
    let mut parts = Vec::new();
    for (side, columns) in DATABASES.iter().zip(&field.columns).filter(|(_, columns)| !columns.is_empty()) {
        parts.push(format!("{side} = {}", one_or_more(columns)));
    }
    parts.extend(lens(&field.lens).map(|lens| format!("lens = {lens}")));
    let nulls: Vec<String> = DATABASES
        .iter()
        .zip(&field.null)
        .filter_map(|(side, null)| Some(format!("{side} = {}", quoted(null.as_ref()?))))
        .collect();
    if !nulls.is_empty() {
        parts.push(format!("null = {{ {} }}", nulls.join(", ")));
    }
    if field.is_one_way {
        parts.push("one_way = \"to-platform\"".into());
    }
    let (mark, unsure, width) = if field.is_doubted { ("# ", "UNSURE: ", 0) } else { ("", "", width) };
    let declared = format!("{mark}{name:width$} = {{ {} }}", parts.join(", "));
    line_within(text, INDENT, &declared, &format!("{unsure}{}", field.why));
}

fn lens(lens: &Lens) -> Option<String> {
    Some(match lens {
        Lens::Same => return None,
        Lens::Lowercase => "\"lowercase\"".into(),
        Lens::Values(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(legacy, platform)| format!("{} = {}", key(legacy), quoted(platform))).collect();
            format!("{{ values = {{ {} }} }}", pairs.join(", "))
        }
        Lens::Bool(yes, no) => format!("{{ bool = [{}, {}] }}", quoted(yes), quoted(no)),
        Lens::Join => "{ join = \" \" }".into(),
        Lens::Point => "\"point\"".into(),
        Lens::Date => "\"date\"".into(),
        Lens::Epoch(unit) => format!("{{ epoch = \"{unit}\" }}"),
        Lens::Scale(many) => format!("{{ scale = {many} }}"),
        Lens::Format(pattern) => format!("{{ format = {} }}", quoted(pattern)),
        Lens::Path(path) => format!("{{ path = [{}] }}", quoted(path)),
        Lens::List(separator) => format!("{{ list = {} }}", quoted(separator)),
        Lens::Flags { separator } => {
            let separator = separator.map(|it| format!(", separator = {}", quoted(it))).unwrap_or_default();
            format!("{{ flags = {{ 1 = \"first\", 2 = \"second\" }}{separator} }}")
        }
        Lens::Constant(value) => format!("{{ constant = {} }}", quoted(value)),
        Lens::Ref(entity) => format!("{{ ref = {} }}", quoted(entity)),
    })
}

/// `legacy = { … }`, without its end of line.
pub fn side(at: usize, side: &Side) -> String {
    let is_plain = |name: &str| !name.contains(['.', '"']);
    let table = match (side.schema.as_str(), side.name.as_str()) {
        ("public", name) if is_plain(name) => quoted(name),
        (schema, name) if is_plain(schema) && is_plain(name) => quoted(&format!("{schema}.{name}")),
        _ => format!("{{ schema = {}, name = {} }}", quoted(&side.schema), quoted(&side.name)),
    };
    let mut parts = vec![
        format!("database = \"{}\"", DATABASES[at]),
        format!("table = {table}"),
        format!("key = {}", one_or_more(&side.key)),
    ];
    match side.updated_at.as_deref() {
        None => parts.push("changes = \"sweep\"".into()),
        Some("updated_at") => {}
        Some(column) => parts.push(format!("updated_at = {}", quoted(column))),
    }
    parts.extend(side.zone.as_ref().map(|zone| format!("timezone = {}", quoted(zone))));
    match &side.mark {
        Some(Mark::At(column)) => parts.push(format!("deleted_at = {}", quoted(column))),
        Some(Mark::Flag { column, yes, no }) => parts.push(format!(
            "deleted = {{ column = {}, yes = {}, no = {} }}",
            quoted(column),
            quoted(yes),
            quoted(no)
        )),
        None => {}
    }
    if !side.scope.is_empty() {
        let scope: Vec<String> =
            side.scope.iter().map(|(column, value)| format!("{} = {}", key(column), quoted(value))).collect();
        parts.push(format!("scope = {{ {} }}", scope.join(", ")));
    }
    parts.extend(side.new_key.map(|rule| format!("new_key = \"{rule}\"")));
    format!("{:8} = {{ {} }}", DATABASES[at], parts.join(", "))
}

fn shown(side: &Side) -> String {
    if side.schema == "public" { side.name.clone() } else { format!("{}.{}", side.schema, side.name) }
}

fn write_left(text: &mut String, side: usize, left: &[Left], is_cut: bool) {
    if left.is_empty() && !is_cut {
        return;
    }
    let rule = "-".repeat(LINE_CHARS_MAX - 30);
    let _ = write!(text, "\n# {rule} not mapped: {}\n", DATABASES[side]);
    text.push_str("# Tables that nothing was made of, with the reason. Add by hand what belongs together; the rest stays as it is.\n\n");
    for one in left {
        let rows = one.rows_about.map(|rows| format!(", about {rows} rows")).unwrap_or_default();
        let note = one.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        comment(text, "", &format!("`{}`{rows}{note}: {}.", one.shown, one.why));
    }
    if is_cut {
        comment(text, "", "There are more tables than are looked at.");
    }
}

/// A line with its reason behind it, or above it where both together are too long.
fn line_within(text: &mut String, indent: &str, line: &str, why: &str) {
    let why = plain(why);
    let whole = format!("{indent}{line}   # {why}");
    if whole.chars().count() <= LINE_CHARS_MAX && !line.starts_with('#') {
        let _ = writeln!(text, "{whole}");
    } else {
        comment(text, indent, &format!("{why}:"));
        let _ = writeln!(text, "{indent}{line}");
    }
}

fn line(text: &mut String, line: &str, why: &str) {
    let _ = writeln!(text, "{line:37} # {why}");
}

/// Words in lines of a comment.
fn comment(text: &mut String, indent: &str, says: &str) {
    let mut open = String::new();
    for word in plain(says).split_whitespace() {
        if !open.is_empty() && indent.len() + 3 + open.chars().count() + word.chars().count() > LINE_CHARS_MAX {
            let _ = writeln!(text, "{indent}# {open}");
            open.clear();
        }
        if !open.is_empty() {
            open.push(' ');
        }
        open.push_str(word);
    }
    let _ = writeln!(text, "{indent}# {open}");
}

/// A comment holds no control characters, whatever a name does.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn one_or_more(columns: &[String]) -> String {
    match columns {
        [only] => quoted(only),
        several => format!("[{}]", several.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")),
    }
}

/// A string that the file reads as this text: a dollar would begin a variable.
fn quoted(text: &str) -> String {
    literal(&text.replace('$', "$$"))
}

/// A string of one line, with as few escapes as there can be.
fn literal(text: &str) -> String {
    let written = toml::Value::from(text).to_string();
    let is_of_lines = written.starts_with("\"\"\"") || written.starts_with("'''");
    if is_of_lines {
        // JSON's escapes are TOML's too, but for this letter.
        return serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F");
    }
    written
}

/// A key of a table; variables are not filled in there.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if is_bare { name.to_owned() } else { literal(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a key or string reads as.
    fn read(written: &str) -> String {
        let table: toml::Table = toml::from_str(&format!("a = {{ b = {written} }} # c"))
            .unwrap_or_else(|error| panic!("{written}: {error}"));
        table["a"]["b"].as_str().map(str::to_owned).expect("a string")
    }

    #[test]
    fn every_name_is_read_back_as_it_is_from_one_line() {
        for name in [
            "plain",
            "it's",
            "a \"b\"",
            "both ' and \"",
            "''' \"\"\"",
            "tab\tand\nline",
            "\u{7f}\u{1}\u{85}",
            "ümläut ✓",
            "back\\slash",
            "#",
            "",
        ] {
            let written = literal(name);
            assert!(!written.contains('\n'), "{written}");
            assert_eq!(read(&written), name);
            let table: toml::Table = toml::from_str(&format!("a = {{ {} = 1 }}", key(name))).expect("a key");
            assert!(table["a"].get(name).is_some(), "{name}");
        }
        assert_eq!(read(&quoted("price $")), "price $$");
    }

    #[test]
    fn a_comment_stays_one_whatever_a_name_holds() {
        let mut text = String::new();
        comment(&mut text, "  ", "a\nname = \"x\"\r\u{0}\u{85}\u{2028} of `b`");
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("  # "));
        let table: toml::Table = toml::from_str(&text).expect("a comment");
        assert!(table.is_empty());
    }
}
