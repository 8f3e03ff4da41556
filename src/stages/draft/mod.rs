//! A first mapping for two systems that nobody has mapped yet, guessed from what both catalogues say. Pure: surveys in, the text of a
//! file out; no row is read. What is unsure is a comment of the file, each guess says its reason, and what `check` would refuse is
//! made a comment by [`Draft::settle`].

mod fields;
mod lenses;
mod names;
mod own;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod values;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Finding, Severity};
use crate::mapping::Class;
use crate::sides::postgres::{Survey, TABLES_MAX};

use fields::{Around, Field, Target, guessed};
use lenses::Lens;
use names::Name;
use own::{Mark, Pick};
use view::{Refers, Seen, View};

/// What of both systems belongs together, as far as it can be told.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The environment variables that hold the addresses of legacy and of the platform.
    variables: [String; 2],
    stages: Vec<Stage>,
    /// Tables that nothing is made of, by side.
    left: [Vec<Left>; 2],
    /// Only the first tables were looked at.
    is_cut: [bool; 2],
}

#[derive(Debug, Clone)]
struct Stage {
    name: String,
    entities: Vec<Entity>,
}

#[derive(Debug, Clone)]
struct Entity {
    id: String,
    why: String,
    sides: [Side; 2],
    match_on: Option<MatchOn>,
    /// Named where `newest` cannot tell.
    conflict: Option<&'static str>,
    fields: Vec<Field>,
    notes: Vec<Note>,
    /// Columns that no field is about, by side.
    left: [Vec<String>; 2],
    /// Why all of it is a comment.
    doubts: Vec<String>,
}

/// A table as an entity names it.
#[derive(Debug, Clone)]
struct Side {
    schema: String,
    name: String,
    key: Vec<String>,
    updated_at: Option<String>,
    zone: Option<String>,
    mark: Option<Mark>,
    scope: Vec<(String, String)>,
    new_key: Option<&'static str>,
    why: Vec<String>,
}

#[derive(Debug, Clone)]
struct MatchOn {
    fields: Vec<String>,
    why: String,
    is_doubted: bool,
}

/// Something that somebody must decide, with the lines that would stand in the file then.
#[derive(Debug, Clone)]
struct Note {
    says: String,
    lines: Vec<String>,
}

/// A table that nothing is made of.
#[derive(Debug, Clone)]
struct Left {
    shown: String,
    rows_about: Option<u64>,
    note: Option<String>,
    why: String,
}

/// How much of it is sure, for a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub entities: usize,
    pub fields: usize,
    /// Entities, fields and others that are comments.
    pub doubts: usize,
    /// Tables that nothing is made of, by side.
    pub left: [usize; 2],
}

/// What is wrong with a database or a role, not with a guess: the file is right once that is put right.
const NOT_OF_THE_FILE: [&str; 4] = ["missing-right", "row-security", "not-registered", "sync-bridge-too-new"];

/// Guesses a mapping. `variables` are the environment variables that hold the addresses.
pub fn draft(variables: [&str; 2], surveys: [&Survey; 2]) -> Draft {
    let views = surveys.map(View::of);
    let views = [&views[0], &views[1]];
    let matched = tables::matched(views);
    let mut ids = BTreeSet::new();
    let targets: Vec<Target> = matched
        .pairs
        .iter()
        .map(|pair| {
            let names = [&views[1].tables[pair.platform].name, &views[0].tables[pair.legacy].name];
            Target { id: entity_id(names, &mut ids), tables: [pair.legacy, pair.platform] }
        })
        .collect();
    let plan = Plan { views, targets: &targets };
    let mut made: Vec<([usize; 2], Entity)> = Vec::new();
    for (pair, target) in matched.pairs.iter().zip(&targets) {
        made.push((target.tables, entity(&plan, target, &pair.why, &[BTreeSet::new(), BTreeSet::new()], None)));
    }
    made.extend(extensions(&plan, &made, &mut ids));
    let used = |side: usize, at: usize| made.iter().any(|(tables, _)| tables[side] == at);
    let left = [0, 1].map(|side: usize| {
        let open = views[side].tables.iter().enumerate().filter(|(at, _)| !used(side, *at));
        open.map(|(at, seen)| left_over(views, side, seen, matched.rivals[side].get(&at))).collect()
    });
    let mut draft = Draft {
        variables: variables.map(str::to_owned),
        stages: stages(made),
        left,
        is_cut: surveys.map(|survey| survey.tables.len() >= TABLES_MAX),
    };
    draft.agree();
    draft
}

impl Draft {
    /// The file.
    pub fn text(&self) -> String {
        text::of(self)
    }

    pub fn counts(&self) -> Counts {
        let sure = || self.entities().filter(|entity| entity.doubts.is_empty());
        let sure_fields = |entity: &Entity| entity.fields.iter().filter(|field| !field.is_doubted).count();
        let doubts = |entity: &Entity| {
            usize::from(!entity.doubts.is_empty())
                + entity.fields.iter().filter(|field| field.is_doubted).count()
                + entity.notes.len()
                + usize::from(entity.match_on.as_ref().is_some_and(|match_on| match_on.is_doubted))
        };
        Counts {
            entities: sure().count(),
            fields: sure().map(sure_fields).sum(),
            doubts: self.entities().map(doubts).sum(),
            left: [0, 1].map(|side: usize| self.left[side].len()),
        }
    }

    /// Makes a comment of what `check` refuses. Answers whether there was anything of that: what depends on it is refused by the next
    /// look only.
    pub fn settle(&mut self, findings: &[Finding]) -> bool {
        let errors = || {
            findings
                .iter()
                .filter(|finding| finding.severity == Severity::Error && !NOT_OF_THE_FILE.contains(&finding.code))
        };
        let mut changed = false;
        for entity in self.stages.iter_mut().flat_map(|stage| &mut stage.entities).filter(|one| one.doubts.is_empty()) {
            let own = || errors().filter(|finding| finding.entity.as_ref().is_some_and(|id| id.as_str() == entity.id));
            let said = |finding: &Finding| match &finding.help {
                Some(help) => format!("{}; {help}", finding.message),
                None => finding.message.clone(),
            };
            let of_fields: Vec<(&str, String)> =
                own().filter_map(|finding| Some((finding.field.as_deref()?, said(finding)))).collect();
            let of_all: Vec<String> = own().filter(|finding| finding.field.is_none()).map(said).collect();
            let is_active = |match_on: &&mut MatchOn| !match_on.is_doubted;
            if !of_fields.is_empty() {
                for (name, why) in of_fields {
                    match entity.fields.iter_mut().find(|field| field.name == name && !field.is_doubted) {
                        Some(field) => (field.is_doubted, field.why) = (true, why),
                        // Not one of ours, such as the mark of deleted rows.
                        None => entity.doubts.push(why),
                    }
                }
                changed = true;
            } else if let (Some(why), Some(match_on)) =
                (of_all.iter().find(|why| why.starts_with("`match_on`")), entity.match_on.as_mut().filter(is_active))
            {
                (match_on.is_doubted, match_on.why) = (true, why.clone());
                changed = true;
            } else if !of_all.is_empty() {
                entity.doubts = of_all;
                changed = true;
            }
        }
        self.agree();
        changed
    }

    /// What rests on a comment is one.
    fn agree(&mut self) {
        loop {
            let sure: BTreeSet<String> =
                self.entities().filter(|entity| entity.doubts.is_empty()).map(|entity| entity.id.clone()).collect();
            let mut changed = false;
            for entity in
                self.stages.iter_mut().flat_map(|stage| &mut stage.entities).filter(|one| one.doubts.is_empty())
            {
                for field in entity.fields.iter_mut().filter(|field| !field.is_doubted) {
                    if let Lens::Ref(id) = &field.lens
                        && !sure.contains(id)
                    {
                        field.why = format!("{}, but `{id}` is a comment as yet", field.why);
                        field.is_doubted = true;
                        changed = true;
                    }
                }
                if entity.fields.iter().all(|field| field.is_doubted) {
                    entity.doubts.push("no field of it is sure".into());
                    changed = true;
                }
                let doubted = |name: &String| entity.fields.iter().any(|field| field.name == *name && field.is_doubted);
                if let Some(match_on) = entity.match_on.as_mut().filter(|match_on| !match_on.is_doubted)
                    && match_on.fields.iter().any(doubted)
                {
                    match_on.is_doubted = true;
                    match_on.why.push_str(", but a field of it is a comment as yet");
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn entities(&self) -> impl Iterator<Item = &Entity> {
        self.stages.iter().flat_map(|stage| &stage.entities)
    }
}

/// An id as the file takes it, and that no other entity has: of these names the first that has letters for one.
fn entity_id(names: [&Name; 2], taken: &mut BTreeSet<String>) -> String {
    /// Leaves room for a number.
    const CHARS_MAX: usize = 50;
    let plain = |name: &Name| -> String {
        let joined = name.joined();
        let letters = joined.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(CHARS_MAX);
        letters.collect::<String>().trim_matches('_').to_owned()
    };
    let wanted = names.map(plain).into_iter().find(|id| !id.is_empty()).unwrap_or_else(|| "entity".to_owned());
    let mut id = wanted.clone();
    let mut number = 1;
    while !taken.insert(id.clone()) {
        number += 1;
        id = format!("{wanted}_{number}");
    }
    id
}

/// Both sides, and what of them is matched.
struct Plan<'v> {
    views: [&'v View<'v>; 2],
    targets: &'v [Target],
}

/// Two tables as an entity. `taken` are columns that are spoken for, by side; `owner` is the field by which a row belongs to another
/// entity's, whose table it shares on one side.
fn entity(plan: &Plan<'_>, target: &Target, why: &str, taken: &[BTreeSet<String>; 2], owner: Option<Field>) -> Entity {
    let Plan { views, targets } = *plan;
    let tables = [0, 1].map(|side: usize| &views[side].tables[target.tables[side]]);
    let mut notes = Vec::new();
    let mut taken = taken.clone();
    let mut sides = [0, 1].map(|side: usize| side_of(views[side], tables[side], side, &mut notes));
    // One mark is of one entity.
    if owner.is_none() {
        marks(tables, &mut sides, &mut notes);
    }
    for (side, taken) in sides.iter().zip(&mut taken) {
        taken.extend(side.updated_at.iter().cloned());
        taken.extend(side.mark.iter().map(|mark| mark.column().to_owned()));
        taken.extend(side.scope.iter().map(|(column, _)| column.clone()));
    }
    for (side, taken) in taken.iter_mut().enumerate() {
        taken.extend(owner.iter().flat_map(|owner| owner.columns[side].iter().cloned()));
    }
    let mut fields: Vec<Field> = owner.into_iter().collect();
    fields.extend(guessed(&Around { views, tables: target.tables, targets, taken: &taken }));
    let conflict = sides.iter().any(|side| side.updated_at.is_none()).then_some("platform");
    new_keys(tables, &fields, &mut sides, &mut notes);
    let match_on = match_on(tables, &fields);
    let left = [0, 1].map(|side: usize| {
        let is_left = |name: &&String| {
            !taken[side].contains(*name)
                && !tables[side].key().contains(name)
                && !fields.iter().any(|field| field.columns[side].contains(name))
        };
        tables[side].table.live.columns.iter().map(|column| &column.name).filter(is_left).cloned().collect()
    });
    Entity {
        id: target.id.clone(),
        why: why.to_owned(),
        sides,
        match_on,
        conflict,
        fields,
        notes,
        left,
        doubts: Vec::new(),
    }
}

const SIDES: [&str; 2] = ["legacy", "the platform"];

/// A table with what is its own, but for marks.
fn side_of(view: &View<'_>, seen: &Seen<'_>, side: usize, notes: &mut Vec<Note>) -> Side {
    let mut why = Vec::new();
    if let Ok((_, reason)) = &seen.key {
        why.push((*reason).to_owned());
    }
    let updated_at = match own::stamp(seen) {
        Pick::Sure(column, reason) => {
            why.push(format!("edited at `{column}` ({reason})"));
            Some(column)
        }
        Pick::Unsure(columns, _) => {
            let says = format!(
                "{} of {} may say when a row was edited, and are equally good: put one as `updated_at` in the place of `changes`",
                listed(&columns),
                SIDES[side]
            );
            notes.push(Note { says, lines: Vec::new() });
            None
        }
        Pick::None => {
            why.push("no column says when a row was edited, so rows are compared".into());
            None
        }
    };
    let zone = match own::zone(seen, view.zone) {
        Ok(zone) => {
            why.extend(zone.map(|_| "local times in the database's zone".to_owned()));
            zone.map(str::to_owned)
        }
        Err(columns) => {
            let says = format!(
                "the database of {} does not say its time zone, so {} there is taken as UTC: add `timezone` if it is local time",
                SIDES[side],
                listed(&columns)
            );
            notes.push(Note { says, lines: Vec::new() });
            None
        }
    };
    let scope = own::scope(seen);
    why.extend(scope.iter().map(|(column, _)| format!("`{column}` can hold one value only")));
    Side {
        schema: seen.table.schema.clone(),
        name: seen.table.name.clone(),
        key: seen.key().to_vec(),
        updated_at,
        zone,
        mark: None,
        scope,
        new_key: None,
        why,
    }
}

/// Soft deletes are declared on both sides, or on neither.
fn marks(tables: [&Seen<'_>; 2], sides: &mut [Side; 2], notes: &mut Vec<Note>) {
    let picks = [0, 1].map(|side: usize| own::mark(tables[side]));
    if let [Pick::Sure(legacy, _), Pick::Sure(platform, _)] = &picks {
        for (side, mark) in sides.iter_mut().zip([legacy, platform]) {
            side.why.push(format!("deleted by `{}` (name)", mark.column()));
            side.mark = Some(mark.clone());
        }
        return;
    }
    let is_named = |pick: &Pick<Mark>| matches!(pick, Pick::Sure(..));
    if !picks.iter().any(is_named)
        && !picks.iter().any(|pick| matches!(pick, Pick::Unsure(_, why) if why == "are equally good"))
    {
        return;
    }
    let shown = |pick: &Pick<Mark>| match pick {
        Pick::Sure(mark, _) => format!("`{}` marks deleted rows", mark.column()),
        Pick::Unsure(marks, why) => {
            format!("{} {why}", listed(&marks.iter().map(|mark| mark.column().to_owned()).collect::<Vec<_>>()))
        }
        Pick::None => "nothing does".into(),
    };
    let says = format!(
        "soft deletes are declared on both sides or on neither: on legacy {}, on the platform {}",
        shown(&picks[0]),
        shown(&picks[1])
    );
    let first = |pick: &Pick<Mark>| match pick {
        Pick::Sure(mark, _) => Some(mark.clone()),
        Pick::Unsure(marks, _) => marks.first().cloned(),
        Pick::None => None,
    };
    let lines = match [first(&picks[0]), first(&picks[1])] {
        [Some(legacy), Some(platform)] => {
            let with = |side: usize, mark: Mark| text::side(side, &Side { mark: Some(mark), ..sides[side].clone() });
            vec![with(0, legacy), with(1, platform)]
        }
        _ => Vec::new(),
    };
    notes.push(Note { says, lines });
}

/// Where new rows get their keys, as far as no field says it and the database does not make them.
fn new_keys(tables: [&Seen<'_>; 2], fields: &[Field], sides: &mut [Side; 2], notes: &mut Vec<Note>) {
    for side in 0..2 {
        let covered = |column: &String| {
            let writes = |field: &&Field| !field.is_doubted && (side == 1 || !field.is_one_way);
            sides[side].scope.iter().any(|(name, _)| name == column)
                || fields.iter().filter(writes).any(|field| field.columns[side].contains(column))
        };
        let open: Vec<&String> = tables[side].key().iter().filter(|column| !covered(column)).collect();
        let [only] = open.as_slice() else { continue };
        let Some(column) = tables[side].table.live.column(only) else { continue };
        let other = match tables[1 - side].key() {
            [key] => tables[1 - side].table.live.column(key),
            _ => None,
        };
        let fits = other.is_some_and(|other| other.class == column.class);
        let is_uuid = column.class == Class::Uuid;
        if column.default.is_none() && !(side == 1 && is_uuid) {
            let rule = if fits { Some("same") } else { is_uuid.then_some("uuid5") };
            sides[side].new_key = rule;
            sides[side].why.extend(
                rule.map(|_| format!("`{only}` has no default, so new rows take their key from the other side")),
            );
        } else if fits && side == 1 && tables[0].key().len() == 1 {
            let says = format!(
                "both keys are {}: if the same value means the same record, give both sides `new_key = \"same\"`",
                column.type_shown
            );
            notes.push(Note { says, lines: Vec::new() });
        }
    }
}

/// The fields by which records that are on both sides already are found: unique on both.
fn match_on(tables: [&Seen<'_>; 2], fields: &[Field]) -> Option<MatchOn> {
    let mut sets: BTreeMap<Vec<&str>, [bool; 2]> = BTreeMap::new();
    let is_legacy_id = |field: &&Field| field.is_one_way;
    let usable = |field: &&Field| {
        let is_looked_up =
            matches!(field.lens, Lens::Same | Lens::Lowercase | Lens::Values(_) | Lens::Bool(..) | Lens::Ref(_));
        !field.is_doubted && is_looked_up && field.null == [None, None]
    };
    for (side, seen) in tables.iter().enumerate() {
        for unique in seen.unique_sets() {
            let mut names: Vec<&str> = Vec::new();
            let whole = unique.iter().all(|column| {
                let mut all = fields.iter().filter(usable).filter(|field| field.columns[side].contains(column));
                all.next().map(|field| names.push(&field.name)).is_some()
            });
            names.sort_unstable();
            names.dedup();
            if whole {
                sets.entry(names).or_default()[side] = true;
            }
        }
    }
    // What is unique by less is unique by more.
    let known: Vec<(Vec<&str>, [bool; 2])> = sets.iter().map(|(names, sides)| (names.clone(), *sides)).collect();
    for (names, sides) in &mut sets {
        for (fewer, of_fewer) in &known {
            if fewer.iter().all(|name| names.contains(name)) {
                (0..2).for_each(|side| sides[side] |= of_fewer[side]);
            }
        }
    }
    let order = |names: &[&str]| -> Vec<String> {
        fields.iter().map(|field| &field.name).filter(|name| names.contains(&name.as_str())).cloned().collect()
    };
    let of_both: Vec<&Vec<&str>> =
        sets.iter().filter(|(_, sides)| **sides == [true, true]).map(|(names, _)| names).collect();
    // The one that legacy's key was put into says it all.
    let by_id = of_both.iter().find(|names| {
        names.len() == 1 && fields.iter().filter(is_legacy_id).any(|field| names.contains(&field.name.as_str()))
    });
    let least = of_both.iter().map(|names| names.len()).min();
    let best: Vec<&&Vec<&str>> = of_both.iter().filter(|names| Some(names.len()) == least).collect();
    match (by_id, best.as_slice()) {
        (Some(names), _) => {
            Some(MatchOn { fields: order(names), why: "the platform keeps legacy's key".into(), is_doubted: false })
        }
        (None, [names]) => {
            Some(MatchOn { fields: order(names), why: "unique on both sides".into(), is_doubted: false })
        }
        (None, []) => {
            let (names, sides) = sets.iter().min_by_key(|(names, _)| names.len())?;
            let (on, off) = if sides[0] { (SIDES[0], SIDES[1]) } else { (SIDES[1], SIDES[0]) };
            let why = format!("unique on {on}, but not on {off}, where two records may have the same");
            Some(MatchOn { fields: order(names), why, is_doubted: true })
        }
        (None, several) => {
            let others: Vec<String> = several.iter().map(|names| order(names).join(" and ")).collect();
            let why = format!("{} are equally good", listed(&others));
            Some(MatchOn { fields: order(several[0]), why, is_doubted: true })
        }
    }
}

/// Tables of one side that belong row by row to a table that is matched, and whose columns are in that one's partner: one wide
/// table and two narrow ones.
fn extensions(plan: &Plan<'_>, made: &[([usize; 2], Entity)], ids: &mut BTreeSet<String>) -> Vec<([usize; 2], Entity)> {
    /// Fewer columns alike are a coincidence.
    const FIELDS_MIN: usize = 2;
    let Plan { views, targets } = *plan;
    let mut found: Vec<([usize; 2], Entity)> = Vec::new();
    for narrow in 0..2 {
        for (at, seen) in views[narrow].tables.iter().enumerate() {
            let is_used = made.iter().chain(&found).any(|(tables, _)| tables[narrow] == at);
            if is_used || seen.key.is_err() {
                continue;
            }
            let belongs =
                |one: &&Refers| one.is_declared && one.is_key && seen.is_unique(&one.columns) && one.target != Some(at);
            let Some(refers) = seen.refers.iter().find(belongs) else { continue };
            let Some(owner) = targets.iter().find(|target| Some(target.tables[narrow]) == refers.target) else {
                continue;
            };
            let wide = 1 - narrow;
            let mut tables = owner.tables;
            tables[narrow] = at;
            let mut taken = [BTreeSet::new(), BTreeSet::new()];
            for (_, other) in made.iter().chain(&found).filter(|(others, _)| others[wide] == tables[wide]) {
                let sure = other.fields.iter().filter(|field| !field.is_doubted);
                taken[wide].extend(sure.flat_map(|field| field.columns[wide].iter().cloned()));
                taken[wide].extend(other.sides[wide].mark.iter().map(|mark| mark.column().to_owned()));
            }
            let key = views[wide].tables[tables[wide]].key().to_vec();
            let mut columns = [key.clone(), key];
            columns[narrow].clone_from(&refers.columns);
            let field = Field {
                name: owner.id.clone(),
                columns,
                lens: Lens::Ref(owner.id.clone()),
                null: [None, None],
                is_one_way: false,
                why: format!("the row belongs to that of `{}`", owner.id),
                is_doubted: false,
            };
            let shown = [0, 1].map(|side: usize| views[side].tables[tables[side]].shown());
            let owner_shown = views[narrow].tables[owner.tables[narrow]].shown();
            let why = format!(
                "each row of `{}` belongs to one of `{owner_shown}`, and `{}` has more of its columns",
                shown[narrow], shown[wide]
            );
            let mut trial = ids.clone();
            let target = Target { id: entity_id([&seen.name, &seen.name], &mut trial), tables };
            let entity = entity(plan, &target, &why, &taken, Some(field));
            let sure = entity.fields.iter().skip(1).filter(|field| !field.is_doubted).count();
            if sure >= FIELDS_MIN {
                *ids = trial;
                found.push((tables, entity));
            }
        }
    }
    found
}

fn left_over(views: [&View<'_>; 2], side: usize, seen: &Seen<'_>, rivals: Option<&BTreeSet<usize>>) -> Left {
    /// More say no more.
    const RIVALS_SHOWN_MAX: usize = 4;
    let why = match (&seen.key, rivals) {
        (Err(why), _) => why.clone(),
        (Ok(_), Some(rivals)) => {
            let names: Vec<String> =
                rivals.iter().take(RIVALS_SHOWN_MAX).map(|&at| views[1 - side].tables[at].shown()).collect();
            format!("like {} of {}, but not clearly enough", listed(&names), SIDES[1 - side])
        }
        (Ok(_), None) => format!("nothing on {} has a like name or like columns", SIDES[1 - side]),
    };
    Left { shown: seen.shown(), rows_about: seen.table.rows_about, note: seen.table.note.clone(), why }
}

/// Entities in stages: what others refer to comes first. Where the platform has several schemas, as services have, and none of them
/// needs one that needs it, each is a stage.
fn stages(made: Vec<([usize; 2], Entity)>) -> Vec<Stage> {
    let entities: Vec<Entity> = made.into_iter().map(|(_, entity)| entity).collect();
    let needs = |entity: &Entity| -> BTreeSet<String> {
        let refers = entity.fields.iter().filter(|field| !field.is_doubted).filter_map(|field| match &field.lens {
            Lens::Ref(id) if *id != entity.id => Some(id.clone()),
            _ => None,
        });
        refers.collect()
    };
    let schema_of: BTreeMap<&str, &str> =
        entities.iter().map(|entity| (&*entity.id, &*entity.sides[1].schema)).collect();
    let mut of_schemas: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entity in &entities {
        let own = &entity.sides[1].schema;
        let others = needs(entity)
            .iter()
            .filter_map(|id| schema_of.get(id.as_str()).map(|schema| (*schema).to_owned()))
            .collect::<Vec<_>>();
        of_schemas.entry(own.clone()).or_default().extend(others.into_iter().filter(|schema| schema != own));
    }
    let of_entities: BTreeMap<String, BTreeSet<String>> =
        entities.iter().map(|entity| (entity.id.clone(), needs(entity))).collect();
    let (order, _) = in_order(&of_entities);
    let place: BTreeMap<String, usize> = order.into_iter().flatten().enumerate().map(|(at, id)| (id, at)).collect();
    let (levels, is_round) = in_order(&of_schemas);
    let by_schema = of_schemas.len() > 1 && !is_round;
    let steps: Vec<Vec<String>> = if by_schema {
        levels.into_iter().flatten().map(|schema| vec![schema]).collect()
    } else {
        in_order(&of_entities).0
    };
    let mut entities = entities;
    entities.sort_by_key(|entity| place.get(&entity.id).copied());
    let mut stages = Vec::new();
    for (at, step) in steps.into_iter().enumerate() {
        let is_of = |entity: &Entity| step.contains(if by_schema { &entity.sides[1].schema } else { &entity.id });
        let (own, rest): (Vec<Entity>, Vec<Entity>) = entities.into_iter().partition(is_of);
        entities = rest;
        let name = match by_schema {
            true => stage_name(&step[0], at),
            false => ordinal(at),
        };
        stages.push(Stage { name, entities: own });
    }
    stages
}

fn ordinal(at: usize) -> String {
    let words = ["first", "second", "third", "fourth", "fifth", "sixth"];
    words.get(at).map_or_else(|| format!("step {}", at + 1), |word| (*word).to_owned())
}

/// A schema's name as far as it can be a stage's.
fn stage_name(schema: &str, at: usize) -> String {
    let good = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.');
    let name: String = schema.chars().filter(|c| good(*c)).collect();
    match name.trim() {
        "" | "reconciliation" => ordinal(at),
        name => name.to_owned(),
    }
}

/// Names in steps, each needing only those before; and whether a ring had to be broken for that.
fn in_order(needs: &BTreeMap<String, BTreeSet<String>>) -> (Vec<Vec<String>>, bool) {
    let mut open: BTreeSet<&String> = needs.keys().collect();
    let mut steps = Vec::new();
    let mut is_round = false;
    while !open.is_empty() {
        let is_ready = |name: &&&String| needs[**name].iter().all(|other| !open.contains(other));
        let mut ready: Vec<&String> = open.iter().filter(is_ready).copied().collect();
        if ready.is_empty() {
            is_round = true;
            ready.extend(open.first());
        }
        open.retain(|name| !ready.contains(name));
        steps.push(ready.into_iter().cloned().collect());
    }
    (steps, is_round)
}

/// `a`, `b` and `c`.
fn listed(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}
