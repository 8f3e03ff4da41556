//! The tables of an entity's side: each as if it were the only one, so that what is held against a table need not know of
//! others; and all as one, as the mapping sees them. Pure.

use std::borrow::Cow;

use crate::config::{Entity, Further, Side, Spot, Table, suggest};
use crate::sides::postgres::{LiveTable, LiveTables};

use super::check::Flaw;
use super::entity::stamp_kind;

/// One of a side's tables, with what of the entity stands on it.
pub struct Part<'e> {
    /// None: the side's own table.
    further: Option<&'e Further>,
    pub entity: Cow<'e, Entity>,
    /// What all tables of the side have, as fields call it.
    known: Vec<String>,
}

/// The side's own table first.
pub fn parts<'e>(entity: &'e Entity, side: Side, found: &LiveTables) -> Vec<Part<'e>> {
    let table = entity.table(side);
    if table.also.is_empty() {
        return vec![Part { further: None, entity: Cow::Borrowed(entity), known: Vec::new() }];
    }
    let known: Vec<String> = as_one(table, found).into_iter().flat_map(|live| live.columns).map(|it| it.name).collect();
    let part = |further: Option<&'e Further>| {
        let entity = Cow::Owned(Entity {
            match_on: if covers(entity, side, further) { entity.match_on.clone() } else { Vec::new() },
            ..alone(entity, side, further, found)
        });
        Part { further, entity, known: known.clone() }
    };
    std::iter::once(None).chain(table.also.iter().map(Some)).map(part).collect()
}

/// The entity with one table on this side.
fn alone(entity: &Entity, side: Side, further: Option<&Further>, found: &LiveTables) -> Entity {
    let declared = entity.table(side);
    let mut table = Table { also: Vec::new(), ..declared.clone() };
    if let Some(further) = further {
        let live = found.get(&(further.schema.clone(), further.name.clone()));
        table.scope.retain(|column, _| live.is_some_and(|live| live.column(column).is_some()));
        table = Table {
            schema: further.schema.clone(),
            name: further.name.clone(),
            key: further.key.clone(),
            updated_at: Some(further.updated_at.clone()),
            created_at: None,
            deleted: None,
            filter: None,
            new_key: None,
            ..table
        };
    }
    let mut entity = entity.clone();
    for field in &mut entity.fields {
        let columns = match side {
            Side::Legacy => &mut field.legacy,
            Side::Platform => &mut field.platform,
        };
        let here = columns.iter().map(|column| declared.locate(column)).filter(|(of, _)| is_same(*of, further));
        *columns = here.map(|(_, own)| own.to_owned()).collect();
    }
    match side {
        Side::Legacy => entity.legacy = table,
        Side::Platform => entity.platform = table,
    }
    entity
}

/// Whether the natural key is to be unique in this table: in the further one that holds all of it, else in the side's own.
fn covers(entity: &Entity, side: Side, further: Option<&Further>) -> bool {
    let table = entity.table(side);
    let natural = entity.fields.iter().filter(|field| entity.match_on.contains(&field.name));
    let mut tables: Vec<Option<&Further>> =
        natural.flat_map(|field| field.columns(side)).map(|column| table.locate(column).0).collect();
    tables.dedup_by(|one, other| is_same(*one, *other));
    let holds_all = if let [only] = tables.as_slice() { *only } else { None };
    is_same(holds_all, further)
}

fn is_same(one: Option<&Further>, other: Option<&Further>) -> bool {
    one.map(|it| &it.alias) == other.map(|it| &it.alias)
}

impl Part<'_> {
    /// A finding about this table, as one about the entity.
    pub fn of_entity(&self, side: Side, mut flaw: Flaw) -> Flaw {
        if flaw.code == "no-such-column"
            && let (Some(column), false) = (&flaw.column, self.known.is_empty())
        {
            flaw.help = suggest(&self.named(column), self.known.iter().map(String::as_str));
        }
        let Some(further) = self.further else { return flaw };
        flaw.column = flaw.column.map(|column| self.named(&column));
        flaw.spot = match flaw.spot {
            Spot::Table(_) => Spot::Further(side, further.alias.clone()),
            Spot::Column(_, column) => Spot::Column(side, self.named(&column)),
            spot => spot,
        };
        flaw
    }

    /// A column as fields call it.
    fn named(&self, column: &str) -> String {
        self.further.map_or_else(|| column.to_owned(), |further| format!("{}.{column}", further.alias))
    }
}

/// All tables of a side that are there as one, the columns of the further ones under their aliases; none: its own is not there.
pub fn as_one(table: &Table, found: &LiveTables) -> Option<LiveTable> {
    let live = |schema: &str, name: &str| found.get(&(schema.to_owned(), name.to_owned()));
    let also = table.also.iter().filter_map(|further| Some((further, live(&further.schema, &further.name)?)));
    Some(also.fold(live(&table.schema, &table.name)?.clone(), |one, (further, live)| one.with(&further.alias, live)))
}

/// Why the further tables of a side cannot be joined to its own; `live` is all of them as one.
pub fn misjoined(entity: &Entity, side: Side, live: &LiveTable) -> Vec<Flaw> {
    let table = entity.table(side);
    let mut flaws = Vec::new();
    for further in &table.also {
        let named = |column: &String| format!("{}.{column}", further.alias);
        let both = |own: &str, theirs: &str| Some((live.column(own)?, live.column(theirs)?));
        for (own, theirs) in table.key.iter().zip(&further.key) {
            let theirs = named(theirs);
            let Some((mine, other)) = both(own, &theirs) else { continue };
            if !is_one_key(&mine.typname, &other.typname) {
                let message = format!(
                    "{} is {} and {} is {}: no key of the one is a key of the other",
                    table.shown_column(own),
                    mine.type_shown,
                    table.shown_column(&theirs),
                    other.type_shown
                );
                let help = "name the column that holds the same key; both must have one type, or both be integers";
                flaws.push(Flaw::error("types-do-not-fit", Spot::Column(side, theirs), message).help(help));
            }
        }
        let theirs = named(&further.updated_at);
        if let Some((mine, other)) = table.updated_at.as_ref().and_then(|own| both(own, &theirs))
            && let (Ok(own_kind), Ok(their_kind)) = (stamp_kind(mine), stamp_kind(other))
            && own_kind != their_kind
        {
            let message = format!(
                "{} is {} and {} is {}: the newer of the two stamps of a record cannot be told",
                table.shown_column(&mine.name),
                mine.type_shown,
                table.shown_column(&theirs),
                other.type_shown
            );
            let help = format!(
                "give both one type; or leave `{}` out of `also`, and make it an entity of its own with a reference to this one",
                further.alias
            );
            flaws.push(Flaw::error("stamp-type", Spot::Column(side, theirs), message).help(help));
        }
    }
    flaws
}

/// Whether columns of these types are compared by an operator of the catalogue's own that their indexes know.
fn is_one_key(one: &str, other: &str) -> bool {
    let of = |types: &[&str]| types.contains(&one) && types.contains(&other);
    one == other || of(&["int2", "int4", "int8"]) || of(&["text", "varchar"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::stages::check::live;

    const FILE: &str = r#"
        [[customers]]
        id = "c"
        slug = "c"
        databases = { l = "postgres://h/l", p = "postgres://h/p" }
        vars = { tenant = "7" }
        [[stages]]
        name = "s"
          [[stages.entities]]
          id = "person"
          legacy = { database = "l", table = "wide", key = "id" }
          platform = { database = "p", table = "crm.person", key = "id", scope = { tenant = "{tenant}", kind = "x" }, also = { profile = { table = "crm.profile", key = "person_id", updated_at = "at" } } }
          match_on = ["card"]
            [stages.entities.fields]
            name = { legacy = ["first", "last"], platform = "name", lens = { join = " " } }
            card = { legacy = "card", platform = "profile.card" }
    "#;

    fn table(columns: &[(&str, &str)]) -> LiveTable {
        live::table(columns.iter().map(|(name, kind)| live::column(name, kind, &[])).collect())
    }

    fn found(person: LiveTable, profile: LiveTable) -> LiveTables {
        [("person", person), ("profile", profile)]
            .map(|(name, live)| (("crm".to_owned(), name.to_owned()), live))
            .into()
    }

    #[test]
    fn each_table_stands_alone_with_what_of_the_entity_it_holds() {
        let config = Config::from_text(FILE);
        let entity = config.entities().next().expect("one");
        let person = table(&[
            ("id", "bigint"),
            ("name", "text"),
            ("tenant", "integer"),
            ("kind", "text"),
            ("updated_at", "timestamptz"),
        ]);
        let profile =
            table(&[("person_id", "integer"), ("card", "text"), ("tenant", "integer"), ("at", "timestamptz")]);
        let found = found(person, profile);
        let all = parts(entity, Side::Platform, &found);
        let [own, further] = all.as_slice() else { panic!("two tables") };
        let columns =
            |part: &Part<'_>| part.entity.fields.iter().map(|field| field.platform.join(",")).collect::<Vec<_>>();
        assert_eq!(
            (columns(own), columns(further)),
            (vec!["name".into(), String::new()], vec![String::new(), "card".into()])
        );
        let scope = |part: &Part<'_>| part.entity.platform.scope.keys().cloned().collect::<Vec<_>>().join(",");
        assert_eq!((scope(own), scope(further)), ("kind,tenant".into(), "tenant".into()));
        // The natural key is to be unique where it stands.
        assert!(own.entity.match_on.is_empty() && further.entity.match_on == ["card"]);
        assert_eq!(parts(entity, Side::Legacy, &found).len(), 1);
        let flaw = |spot| further.of_entity(Side::Platform, Flaw::error("x", spot, "m"));
        assert_eq!(flaw(Spot::Table(Side::Platform)).spot, Spot::Further(Side::Platform, "profile".into()));
        let column = flaw(Spot::Column(Side::Platform, "card".into()));
        assert_eq!(column.column.as_deref(), Some("profile.card"));
        let one = as_one(&entity.platform, &found).expect("it is there");
        assert!(one.column("name").is_some() && one.column("profile.card").is_some());
        assert_eq!(misjoined(entity, Side::Platform, &one), []);
    }

    #[test]
    fn tables_of_other_keys_or_other_stamps_are_not_joined() {
        let config = Config::from_text(FILE);
        let entity = config.entities().next().expect("one");
        let said = |key: &str, stamp: &str| {
            let person = table(&[("id", "uuid"), ("updated_at", "timestamptz")]);
            let found = found(person, table(&[("person_id", key), ("at", stamp)]));
            let one = as_one(&entity.platform, &found).expect("it is there");
            misjoined(entity, Side::Platform, &one).into_iter().map(|flaw| flaw.message).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(said("uuid", "timestamptz"), "");
        assert_eq!(
            said("text", "timestamptz"),
            "crm.person.id is uuid and crm.profile.person_id is text: no key of the one is a key of the other"
        );
        assert!(said("uuid", "timestamptz(0)").contains("the newer of the two stamps"));
    }
}
