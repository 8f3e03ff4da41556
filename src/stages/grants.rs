//! The least that the roles of the sides need, as SQL that their owners run, but for a membership that only a superuser gives (`sync-bridge
//! prepare --roles`). Pure: from the file alone, by the same rule that `check` asks after.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Context as _;

use crate::config::{Config, DatabaseUrl, Deletes, Entity, KeyRule, Side, Table};
use crate::sides::postgres::ident;

use super::check::wanted;

/// What every table of ours needs: pages, the end of tombstones, `prepare` (which registers entities) and `customers remove --purge`.
const OURS: [(&str, &[Side], &str); 5] = [
    ("entity", &Side::BOTH, "select, insert, delete"),
    ("relation", &Side::BOTH, "select, insert, update, delete"),
    ("pair", &[Side::Platform], "select, insert, update, delete"),
    ("conflict", &[Side::Platform], "select, insert, update, delete"),
    ("receipt", &[Side::Legacy], "select, insert, update, delete"),
];

/// What one role needs in one database.
#[derive(Debug, Clone)]
pub struct Grants {
    /// Host, port and name.
    pub database: String,
    pub role: String,
    /// What it is there.
    pub sides: BTreeSet<Side>,
    /// For a superuser: the membership by which others' transactions are seen. It is of the whole server.
    pub membership: String,
    /// For the owner of the database.
    pub statements: Vec<String>,
}

/// A database and a role, and what is done there.
#[derive(Default)]
struct Place {
    name: String,
    sides: BTreeSet<Side>,
    /// By schema and name.
    tables: BTreeMap<(String, String), Wanted>,
}

/// What is done with a table.
#[derive(Default)]
struct Wanted {
    insert: BTreeSet<String>,
    update: BTreeSet<String>,
    delete: bool,
    /// The scope's columns stand in one of a record's tables or in several: which, the catalogue knows.
    any_column: bool,
    /// Columns whose sequences give new keys.
    drawn: BTreeSet<String>,
}

/// For each database of the customers and each role that the bridge comes by, in their order.
///
/// # Errors
/// A URL that cannot be read.
pub fn grants(config: &Config) -> anyhow::Result<Vec<Grants>> {
    let mut places: BTreeMap<(String, String), Place> = BTreeMap::new();
    for customer in &config.customers {
        for entity in config.entities() {
            for side in Side::BOTH {
                let Some(url) = customer.databases.get(&entity.table(side).database) else { continue };
                let (role, name) = of_url(url)?;
                let place = places.entry((url.to_string(), role)).or_default();
                place.name = name;
                place.sides.insert(side);
                add(place, config, entity, side);
            }
        }
    }
    let granted = places.into_iter().map(|((database, role), place)| {
        let statements = statements(&place, &ident(&role));
        let membership = format!("grant pg_read_all_stats to {}", ident(&role));
        Grants { database, role, sides: place.sides, membership, statements }
    });
    Ok(granted.collect())
}

/// The role and the database that a URL names.
///
/// # Errors
/// One of the embedded server: its role is its owner.
pub fn of_url(url: &DatabaseUrl) -> anyhow::Result<(String, String)> {
    anyhow::ensure!(
        url.embedded_name().is_none(),
        "{url} lies on the embedded server, whose one role owns all there is"
    );
    let options = url.options()?;
    let role = options.get_username().to_owned();
    let name = options.get_database().context("the URL names no database")?.to_owned();
    Ok((role, name))
}

fn add(place: &mut Place, config: &Config, entity: &Entity, side: Side) {
    let table = entity.table(side);
    let [_, (_, insert), (_, update)] = wanted(entity, side);
    for (right, columns) in [(0, insert), (1, update)] {
        for column in columns {
            let (further, own) = table.locate(column);
            let named = further.map_or((&table.schema, &table.name), |further| (&further.schema, &further.name));
            let wanted = place.tables.entry((named.0.clone(), named.1.clone())).or_default();
            let columns = if right == 0 { &mut wanted.insert } else { &mut wanted.update };
            columns.insert(own.to_owned());
        }
    }
    for further in &table.also {
        let wanted = place.tables.entry((further.schema.clone(), further.name.clone())).or_default();
        wanted.insert.extend(further.key.iter().cloned().chain([further.updated_at.clone()]));
        wanted.update.insert(further.updated_at.clone());
        wanted.any_column |= !table.scope.is_empty();
    }
    // As `plan` has it: of a table that another entity has a part of nothing is deleted, whatever was declared.
    if entity.deletes != Deletes::Keep && config.sharer(entity, side).is_none() {
        for (schema, name) in table.names() {
            place.tables.entry((schema.to_owned(), name.to_owned())).or_default().delete = true;
        }
    }
    let own = place.tables.entry((table.schema.clone(), table.name.clone())).or_default();
    own.drawn.extend(drawn(entity, table, side));
}

/// The parts of new keys that may come from a sequence.
fn drawn<'e>(entity: &'e Entity, table: &'e Table, side: Side) -> impl Iterator<Item = String> + 'e {
    let filled = move |key: &String| entity.fields.iter().any(|field| field.columns(side).contains(key));
    let by_database = !matches!(table.new_key, Some(KeyRule::Uuid5 | KeyRule::Same));
    let keys = table.key.iter().filter(move |_| by_database);
    keys.filter(move |key| !filled(key) && !table.scope.contains_key(*key)).cloned()
}

fn statements(place: &Place, role: &str) -> Vec<String> {
    let mut statements = vec![
        format!("grant connect on database {} to {role}", ident(&place.name)),
        format!("grant usage on schema sync_bridge to {role}"),
    ];
    for (table, _, rights) in OURS.iter().filter(|(_, sides, _)| sides.iter().any(|side| place.sides.contains(side))) {
        statements.push(format!("grant {rights} on sync_bridge.{table} to {role}"));
    }
    let schemas: BTreeSet<&String> = place.tables.keys().map(|(schema, _)| schema).collect();
    statements.extend(schemas.into_iter().map(|schema| format!("grant usage on schema {} to {role}", ident(schema))));
    for ((schema, name), wanted) in &place.tables {
        let table = format!("{}.{}", ident(schema), ident(name));
        // Of all its columns: large tables are read by their blocks, and a condition of the file names what it likes.
        statements.push(format!("grant select on {table} to {role}"));
        for (right, columns) in [("insert", &wanted.insert), ("update", &wanted.update)] {
            let named: Vec<String> = columns.iter().map(|column| ident(column)).collect();
            let of = if wanted.any_column { String::new() } else { format!(" ({})", named.join(", ")) };
            if wanted.any_column || !named.is_empty() {
                statements.push(format!("grant {right}{of} on {table} to {role}"));
            }
        }
        if wanted.delete {
            statements.push(format!("grant delete on {table} to {role}"));
        }
    }
    statements.push(types(place, role));
    statements.extend(sequences(place, role));
    statements
}

/// In which schemas the types of mapped columns lie, and those that domains are over, the catalogue knows; what everybody may use needs no
/// grant, and what is not the owner's to give is told.
fn types(place: &Place, role: &str) -> String {
    let mapped = place.tables.iter().flat_map(|((schema, name), wanted)| {
        let columns: BTreeSet<&String> = wanted.insert.union(&wanted.update).collect();
        let column = columns.into_iter().filter(|_| !wanted.any_column).map(|column| literal(column));
        let any = wanted.any_column.then(|| "null".to_owned());
        column.chain(any).map(move |column| format!("({}, {}, {column})", literal(schema), literal(name)))
    });
    let mapped: Vec<String> = mapped.collect();
    let role = literal(role);
    format!(
        "do $grants$\ndeclare\n  schema text;\nbegin\n  for schema in\n    \
         with recursive types (oid) as (\n      \
         select a.atttypid\n      \
         from (values {}) as mapped (schema, name, own)\n      \
         join pg_namespace n on n.nspname = mapped.schema\n      \
         join pg_class c on c.relnamespace = n.oid and c.relname = mapped.name\n      \
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped\n        \
         and a.attname = coalesce(mapped.own, a.attname)\n      \
         union select t.typbasetype from types join pg_type t using (oid) where t.typtype = 'd')\n    \
         select distinct tn.nspname from types join pg_type t using (oid) join pg_namespace tn on tn.oid = t.typnamespace\n    \
         where not has_schema_privilege({role}::regrole, tn.oid, 'usage')\n  \
         loop\n    begin\n      execute format('grant usage on schema %I to %s', schema, {role});\n    \
         exception when insufficient_privilege then\n      null;\n    end;\n    \
         if not has_schema_privilege({role}::regrole, schema, 'usage') then\n      \
         raise warning 'its owner is to grant usage on schema % to %', schema, {role};\n    end if;\n  \
         end loop;\nend\n$grants$",
        mapped.join(", "),
    )
}

/// Which sequence gives a column its numbers, the catalogue knows.
fn sequences(place: &Place, role: &str) -> Option<String> {
    let drawn = place.tables.iter().flat_map(|((schema, name), wanted)| {
        wanted.drawn.iter().map(move |key| format!("({}, {}, {})", literal(schema), literal(name), literal(key)))
    });
    let drawn: Vec<String> = drawn.collect();
    if drawn.is_empty() {
        return None;
    }
    let mut block = String::from("do $grants$\ndeclare\n  sequence text;\nbegin\n  for sequence in\n    ");
    let _ = write!(
        block,
        "select distinct quote_ident(sn.nspname) || '.' || quote_ident(s.relname)\n    \
         from (values {}) as drawn (schema, name, key)\n    \
         join pg_namespace n on n.nspname = drawn.schema\n    \
         join pg_class c on c.relnamespace = n.oid and c.relname = drawn.name\n    \
         join pg_attribute a on a.attrelid = c.oid and a.attname = drawn.key\n    \
         left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum\n    \
         join pg_depend x on (x.classid = 'pg_attrdef'::regclass and x.objid = d.oid and x.refclassid = 'pg_class'::regclass)\n      \
         or (x.classid = 'pg_class'::regclass and x.deptype = 'i' and x.refclassid = 'pg_class'::regclass\n          \
         and x.refobjid = c.oid and x.refobjsubid = a.attnum)\n    \
         join pg_class s on s.relkind = 'S' and s.oid = case when x.classid = 'pg_class'::regclass then x.objid else x.refobjid end\n    \
         join pg_namespace sn on sn.oid = s.relnamespace\n  \
         loop\n    execute format('grant usage on sequence %s to %s', sequence, {});\n  end loop;\nend\n$grants$",
        drawn.join(", "),
        literal(role)
    );
    Some(block)
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_to_delete_is_only_where_rows_are_deleted() {
        let granted = |deletes: &str, more: &str| {
            let entity = |id: &str, table: &str, deletes: &str| {
                format!(
                    r#"
  [[stages.entities]]
  id = "{id}"
  legacy = {{ database = "old", table = "{table}", key = "id", updated_at = "changed" }}
  platform = {{ database = "new", table = "{id}", key = "id" }}
  {deletes}
    [stages.entities.fields]
    name = {{ legacy = "name", platform = "name" }}
"#
                )
            };
            let config = Config::from_text(&format!(
                r#"
[[customers]]
id = "c-1"
databases = {{ old = "postgres://old@h/legacy", new = "postgres://new@h/platform" }}
[[stages]]
name = "all"
{}{}"#,
                entity("user", "users", deletes),
                if more.is_empty() { String::new() } else { entity("profile", more, "") },
            ));
            let all = grants(&config).expect("grants").into_iter().flat_map(|one| one.statements);
            let deletes = all.filter(|one| one.starts_with("grant delete") && !one.contains("sync_bridge"));
            deletes.filter_map(|one| Some(one.split('"').nth(3)?.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(granted("", ""), ["users", "user"]);
        assert_eq!(granted("deletes = \"keep\"", ""), Vec::<String>::new());
        // A table of two entities is nobody's to delete from; what is each entity's own, is.
        assert_eq!(granted("", "users"), ["profile", "user"]);
        assert_eq!(granted("deletes = \"keep\"", "people"), ["people", "profile"]);
    }

    #[test]
    fn a_role_is_granted_what_the_file_names_and_no_more() {
        let config = Config::from_text(
            r#"
[[customers]]
id = "c-1"
databases = { old = "postgres://Old@h/legacy", new = "postgres://new@h/platform" }
vars = { tenant = "1" }
[[stages]]
name = "all"
  [[stages.entities]]
  id = "user"
  legacy = { database = "old", table = "users", key = "id", updated_at = "changed", created_at = "made" }
  platform = { database = "new", table = { schema = "Odd\"s", name = "users" }, key = "id", scope = { tenant = "{tenant}" } }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#,
        );
        let [legacy, platform] = <[Grants; 2]>::try_from(grants(&config).expect("grants")).expect("two databases");
        assert_eq!((legacy.database.as_str(), legacy.role.as_str()), ("h:5432/legacy", "Old"));
        assert_eq!(legacy.membership, r#"grant pg_read_all_stats to "Old""#);
        let block = legacy.statements.last().expect("statements");
        assert!(block.contains("(values ('public', 'users', 'id'))") && block.contains("'\"Old\"'"), "{block}");
        assert_eq!(
            legacy.statements[..legacy.statements.len() - 2],
            [
                r#"grant connect on database "legacy" to "Old""#,
                r#"grant usage on schema sync_bridge to "Old""#,
                r#"grant select, insert, delete on sync_bridge.entity to "Old""#,
                r#"grant select, insert, update, delete on sync_bridge.relation to "Old""#,
                r#"grant select, insert, update, delete on sync_bridge.receipt to "Old""#,
                r#"grant usage on schema "public" to "Old""#,
                r#"grant select on "public"."users" to "Old""#,
                r#"grant insert ("changed", "id", "name") on "public"."users" to "Old""#,
                r#"grant update ("changed", "name") on "public"."users" to "Old""#,
                r#"grant delete on "public"."users" to "Old""#,
            ]
        );
        let insert = r#"grant insert ("id", "name", "tenant", "updated_at") on "Odd""s"."users" to "new""#;
        assert!(platform.statements.iter().any(|one| one == insert), "{:#?}", platform.statements);
    }
}
