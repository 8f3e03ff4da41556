//! Which column is which, and by what lens. What two candidates are equally good for is a comment, not a guess. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::mapping::Class;
use crate::stages::check::unsupported;

use super::lenses::{self, Lens};
use super::names::{CREATED, Likeness, Name, SECRET};
use super::values::{literal, values};
use super::view::{Refers, Seen, SeenColumn, View};

/// A field as it will stand in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub columns: [Vec<String>; 2],
    pub lens: Lens,
    /// What stands for NULL, by side.
    pub null: [Option<String>; 2],
    /// Only towards the platform.
    pub is_one_way: bool,
    pub why: String,
    /// It is a comment: somebody must decide.
    pub is_doubted: bool,
}

/// An entity that fields may refer to.
#[derive(Debug, Clone)]
pub struct Target {
    pub id: String,
    pub tables: [usize; 2],
}

/// Two columns, or a few, that may be one field.
struct Candidate {
    points: u32,
    field: Field,
}

/// What two tables are looked at with.
pub struct Around<'v> {
    pub views: [&'v View<'v>; 2],
    pub tables: [usize; 2],
    /// The entities, each with its two tables, and which of them this is.
    pub targets: &'v [Target],
    /// Columns that are spoken for, by side.
    pub taken: &'v [BTreeSet<String>; 2],
}

/// Below, a guess is worth no more than a comment.
const POINTS_SURE: u32 = 60;
/// A column that refers to something is the same as another that does, before anything of its name.
const POINTS_REFERENCE: u32 = 100;
const POINTS_TOGETHER: u32 = 150;

pub fn guessed(around: &Around<'_>) -> Vec<Field> {
    let tables = [0, 1].map(|side: usize| &around.views[side].tables[around.tables[side]]);
    let mut candidates = references(around, tables);
    candidates.extend(together(around, tables));
    candidates.extend(one_to_one(around, tables));
    let mut fields = chosen(candidates);
    fields.extend(demanded(around, tables, &fields));
    fields.extend(only_of_their_type(around, tables, &fields));
    for side in 0..2 {
        fields.extend(wanting(around, tables, side, &fields));
    }
    for field in &mut fields {
        field.null = nulls(tables, field);
        if field.null != [None, None] {
            field.why.push_str("; what is left out is NULL on one side and a default on the other");
        }
    }
    let order = |field: &Field| {
        let place = |name: &String| tables[1].table.live.columns.iter().position(|column| column.name == *name);
        field.columns[1].iter().filter_map(place).min()
    };
    fields.sort_by_key(|field| (field.is_doubted, order(field)));
    unlike(&mut fields);
    fields
}

/// Takes the best first. Where several are equally good for one column, all of them are comments.
fn chosen(mut candidates: Vec<Candidate>) -> Vec<Field> {
    candidates.sort_by(|a, b| b.points.cmp(&a.points).then_with(|| a.field.columns.cmp(&b.field.columns)));
    let mut taken: [BTreeSet<String>; 2] = [BTreeSet::new(), BTreeSet::new()];
    let mut fields = Vec::new();
    let mut rest = candidates.into_iter().peekable();
    while let Some(points) = rest.peek().map(|one| one.points) {
        let mut level: Vec<Field> = Vec::new();
        while let Some(one) = rest.next_if(|one| one.points == points) {
            let is_free = |side: usize| one.field.columns[side].iter().all(|column| !taken[side].contains(column));
            if is_free(0) && is_free(1) {
                level.push(one.field);
            }
        }
        let mut wanted: [BTreeMap<&String, usize>; 2] = [BTreeMap::new(), BTreeMap::new()];
        for field in &level {
            for (wanted, columns) in wanted.iter_mut().zip(&field.columns) {
                columns.iter().for_each(|column| *wanted.entry(column).or_default() += 1);
            }
        }
        let is_alone = |field: &Field| {
            (0..2).all(|side| field.columns[side].iter().all(|column| wanted[side].get(column) == Some(&1)))
        };
        let alone: Vec<bool> = level.iter().map(is_alone).collect();
        for (mut field, alone) in level.into_iter().zip(alone) {
            for (taken, columns) in taken.iter_mut().zip(&field.columns) {
                taken.extend(columns.iter().cloned());
            }
            if !alone {
                field.is_doubted = true;
                field.why = format!("{}, but another is as good", field.why);
            }
            fields.push(field);
        }
    }
    fields
}

/// Columns that refer to the same entity.
fn references(around: &Around<'_>, tables: [&Seen<'_>; 2]) -> Vec<Candidate> {
    let target_of = |side: usize, refers: &Refers| {
        around.targets.iter().find(|target| refers.is_key && refers.target == Some(target.tables[side]))
    };
    let free = |side: usize, refers: &&Refers| refers.columns.iter().all(|column| !around.taken[side].contains(column));
    let refers = |side: usize| tables[side].refers.iter().filter(move |one| free(side, one));
    let mut found = Vec::new();
    for ours in refers(0) {
        for theirs in refers(1) {
            let Some(target) = target_of(0, ours) else { continue };
            if target_of(1, theirs).is_none_or(|other| other.id != target.id) {
                continue;
            }
            let like = likeness(tables, [&ours.columns, &theirs.columns]).map_or(0, Likeness::points);
            let columns = [ours.columns.clone(), theirs.columns.clone()];
            let why = match (ours.is_declared, theirs.is_declared) {
                (true, true) => "both refer to it".to_owned(),
                (true, false) => "legacy refers to it, and the platform's is named for it".to_owned(),
                (false, true) => "the platform refers to it, and legacy's is named for it".to_owned(),
                (false, false) => "both are named for it".to_owned(),
            };
            let field = field(tables, columns, Lens::Ref(target.id.clone()), why);
            found.push(Candidate { points: POINTS_REFERENCE + like, field });
        }
    }
    // One side declares it; the other has a column of the right type and a like name.
    for (side, other) in [(0, 1), (1, 0)] {
        for refers in refers(side).filter(|refers| refers.columns.len() == 1) {
            let Some(target) = target_of(side, refers) else { continue };
            let [key] = around.views[other].tables[target.tables[other]].key() else { continue };
            let Some(key) = around.views[other].tables[target.tables[other]].table.live.column(key) else { continue };
            for column in free_columns(around, tables, other) {
                let is_own = tables[other].key() == [column.live.name.clone()];
                let refers_already = tables[other].refers.iter().any(|one| one.columns.contains(&column.live.name));
                if column.live.typname != key.typname || is_own || refers_already {
                    continue;
                }
                let mut columns = [refers.columns.clone(), refers.columns.clone()];
                columns[other] = vec![column.live.name.clone()];
                let Some(like) = likeness(tables, [&columns[0], &columns[1]]) else { continue };
                let whose = if side == 0 { "legacy" } else { "the platform" };
                let why = format!("{whose} refers to it; {}", like.why());
                let mut field = field(tables, columns, Lens::Ref(target.id.clone()), why);
                field.is_doubted = like < Likeness::Synonym;
                found.push(Candidate { points: POINTS_REFERENCE.min(like.points() + 8), field });
            }
        }
    }
    found
}

fn likeness(tables: [&Seen<'_>; 2], columns: [&[String]; 2]) -> Option<Likeness> {
    let name =
        |side: usize| columns[side].first().and_then(|name| tables[side].column(name)).map(|column| &column.name);
    // What refers may be named for what it refers to: the table's own words are no prefix then.
    let whole = |side: usize| columns[side].first().map(|name| Name::of(name));
    name(0)?.like(name(1)?).max(whole(0)?.like(&whole(1)?))
}

fn free_columns<'v, 's>(around: &Around<'v>, tables: [&'v Seen<'s>; 2], side: usize) -> Vec<&'v SeenColumn<'s>> {
    let taken = &around.taken[side];
    let can_be = |column: &&SeenColumn<'_>| {
        let live = column.live;
        let is_key = tables[side].key().contains(&live.name);
        !taken.contains(&live.name)
            && !live.generated
            && (!live.always_identity || is_key)
            && unsupported(live).is_none()
    };
    tables[side].columns.iter().filter(can_be).collect()
}

/// Several columns of one side that are one on the other.
fn together(around: &Around<'_>, tables: [&Seen<'_>; 2]) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (many, one) in [(0, 1), (1, 0)] {
        let parts = free_columns(around, tables, many);
        let wholes = free_columns(around, tables, one);
        let only = |columns: &[&SeenColumn<'_>], class: Class, concept: &str| -> Option<String> {
            let is = |column: &&&SeenColumn<'_>| {
                column.live.class == class && (column.name.concept == Some(concept) || column.name.stem == [concept])
            };
            let mut all = columns.iter().filter(is);
            let first = all.next()?.live.name.clone();
            all.next().is_none().then_some(first)
        };
        let mut push = |parts: Vec<String>, whole: String, lens: Lens, why: &str, is_doubted: bool| {
            let mut columns = [vec![whole.clone()], vec![whole]];
            columns[many] = parts;
            let field = Field { is_doubted, ..field(tables, columns, lens, why.to_owned()) };
            found.push(Candidate { points: POINTS_TOGETHER, field });
        };
        let text = |columns: &[&SeenColumn<'_>], concept| only(columns, Class::Text, concept);
        let is_named_there = |concept: &str| wholes.iter().any(|column| column.name.concept == Some(concept));
        if let (Some(first), Some(last), Some(whole), None, false) = (
            text(&parts, "first name"),
            text(&parts, "last name"),
            text(&wholes, "name"),
            text(&parts, "name"),
            is_named_there("last name"),
        ) {
            push(vec![first, last], whole, Lens::Join, "two names there, one here", false);
        }
        let numbers = |concept| only(&parts, Class::Number, concept);
        let mut points = wholes.iter().filter(|column| column.live.typname == "point");
        if let (Some(lon), Some(lat), Some(point), None) =
            (numbers("longitude"), numbers("latitude"), points.next(), points.next())
        {
            let whole = point.live.name.clone();
            let [x, y] = ["0", "1"].map(|at| format!("{whole}[{at}]"));
            // `location[0]` between -180 and 180: x is the longitude.
            let said = |condition: &String| {
                let of_x = condition.split_once(&x).and_then(|(_, rest)| rest.split_once(&y));
                of_x.is_some_and(|(of_x, _)| of_x.contains("180"))
            };
            let is_said = tables[one].table.conditions.iter().any(said);
            let why = match is_said {
                true => "a check says that x is the longitude",
                false => "whether x is the longitude, as is usual, is not to be seen",
            };
            push(vec![lon, lat], whole, Lens::Point, why, !is_said);
        }
    }
    found
}

/// One column each, by name and type.
fn one_to_one(around: &Around<'_>, tables: [&Seen<'_>; 2]) -> Vec<Candidate> {
    let [ours, theirs] = [0, 1].map(|side| free_columns(around, tables, side));
    let is_counted = |side: usize, column: &SeenColumn<'_>| {
        tables[side].has_surrogate_key() && tables[side].key().contains(&column.live.name)
    };
    let refers = |side: usize, column: &SeenColumn<'_>| {
        let mut all =
            tables[side].refers.iter().filter(|one| one.is_declared && one.columns.contains(&column.live.name));
        all.next().map(|one| one.target.map(|target| around.views[side].tables[target].shown()))
    };
    let mut found = Vec::new();
    for &legacy in &ours {
        for &platform in &theirs {
            let is_legacy_id = tables[0].key() == [legacy.live.name.clone()]
                && Name::of(&platform.live.name).words.split_first().is_some_and(|(first, rest)| {
                    matches!(first.as_str(), "legacy" | "old")
                        && (rest == ["id"] || rest == ["key"] || rest == legacy.name.words)
                });
            if (is_counted(0, legacy) && !is_legacy_id) || is_counted(1, platform) {
                continue;
            }
            let like = match is_legacy_id {
                true => Likeness::Same,
                false => match legacy.name.like(&platform.name) {
                    Some(like) => like,
                    None => continue,
                },
            };
            let columns = [vec![legacy.live.name.clone()], vec![platform.live.name.clone()]];
            let mut points = like.points();
            let mut field = field(tables, columns, Lens::Same, like.why().to_owned());
            match lenses::between(tables, [legacy, platform]) {
                Ok(fit) => {
                    field.lens = fit.lens;
                    field.is_doubted = fit.doubt.is_some();
                    if let Some(more) = fit.doubt.or(fit.why) {
                        field.why = format!("{}; {more}", field.why);
                    }
                }
                Err(why) => {
                    // Another column of a less like name may fit.
                    points = points.saturating_sub(40);
                    field.is_doubted = true;
                    field.why = format!("{}, but {why}", field.why);
                }
            }
            if is_legacy_id {
                field.is_one_way = true;
                field.why = "named for legacy's key, which only legacy gives out".into();
            }
            if points < POINTS_SURE && !field.is_doubted {
                field.is_doubted = true;
            }
            // A key of something else is another value on each side.
            let elsewhere = [refers(0, legacy), refers(1, platform)].into_iter().flatten().next();
            if let (Some(target), false) = (elsewhere, is_legacy_id) {
                field.is_doubted = true;
                let target = target.unwrap_or_else(|| "a table that is not seen".into());
                field.why = format!(
                    "{}, but it refers to `{target}`: by an entity of that it would be a reference",
                    like.why()
                );
                points = points.saturating_sub(20);
            }
            if legacy.name.concept == Some(CREATED) || platform.name.concept == Some(CREATED) {
                field.is_doubted = true;
                field.why = "each side says when its own row was made, as a rule".into();
            }
            if [legacy, platform].iter().any(|column| column.name.concept == Some(SECRET)) {
                field.is_doubted = true;
                field.why = "perhaps a secret, which you may not want to carry over".into();
            }
            found.push(Candidate { points, field });
        }
    }
    found
}

/// What no name says, but a type that only one column of each side has.
fn only_of_their_type(around: &Around<'_>, tables: [&Seen<'_>; 2], fields: &[Field]) -> Vec<Field> {
    /// Types that nobody uses for just anything.
    const TELLING: [&str; 10] =
        ["inet", "cidr", "macaddr", "point", "bytea", "interval", "time", "uuid", "json", "jsonb"];
    let left = |side: usize| -> Vec<&SeenColumn<'_>> {
        let is_named =
            |column: &&SeenColumn<'_>| fields.iter().any(|field| field.columns[side].contains(&column.live.name));
        let is_key = |column: &&SeenColumn<'_>| tables[side].key().contains(&column.live.name);
        free_columns(around, tables, side).into_iter().filter(|column| !is_named(column) && !is_key(column)).collect()
    };
    let [ours, theirs] = [left(0), left(1)];
    let only = |columns: &[&SeenColumn<'_>], typname: &str| -> Option<String> {
        let mut all = columns.iter().filter(|column| column.live.typname == typname);
        let first = all.next()?.live.name.clone();
        all.next().is_none().then_some(first)
    };
    TELLING
        .iter()
        .filter_map(|typname| {
            let columns = [vec![only(&ours, typname)?], vec![only(&theirs, typname)?]];
            let why = format!("the only {typname} that is left on either side");
            Some(Field { is_doubted: true, ..field(tables, columns, Lens::Same, why) })
        })
        .collect()
}

/// The one column that each side wants in every row and that nothing is for yet.
fn demanded(around: &Around<'_>, tables: [&Seen<'_>; 2], fields: &[Field]) -> Option<Field> {
    let [ours, theirs] = [0, 1].map(|side| wanted(around, tables, side, fields));
    let ([legacy], [platform]) = (ours.as_slice(), theirs.as_slice()) else { return None };
    let is_text = [legacy, platform].iter().all(|column| column.live.class == Class::Text);
    let fit = lenses::between(tables, [legacy, platform]).ok()?;
    let columns = [vec![legacy.live.name.clone()], vec![platform.live.name.clone()]];
    let why = "the one column that is left of those that each side wants in every row".to_owned();
    let is_doubted = !is_text || fit.doubt.is_some();
    Some(Field { is_doubted, ..field(tables, columns, fit.lens, why) })
}

/// What else a side wants in every row: no record can be made there as long as nobody says what new ones begin with.
fn wanting(around: &Around<'_>, tables: [&Seen<'_>; 2], side: usize, fields: &[Field]) -> Vec<Field> {
    let constant = |column: &SeenColumn<'_>| {
        let values = values(tables[side].table, column.live);
        let first = values.as_ref().and_then(|values| values.first().cloned()).unwrap_or_else(|| "…".into());
        let mut columns = [Vec::new(), Vec::new()];
        columns[side].push(column.live.name.clone());
        let why = "wanted in every row: map it, or say what new rows begin with".to_owned();
        Field { is_doubted: true, ..field(tables, columns, Lens::Constant(first), why) }
    };
    wanted(around, tables, side, fields).into_iter().map(constant).collect()
}

/// Columns that every row must give, and that no field is about.
fn wanted<'v, 's>(
    around: &Around<'v>,
    tables: [&'v Seen<'s>; 2],
    side: usize,
    fields: &[Field],
) -> Vec<&'v SeenColumn<'s>> {
    let is_wanted = |column: &&SeenColumn<'_>| {
        let live = column.live;
        !live.nullable
            && live.default.is_none()
            && !tables[side].key().contains(&live.name)
            && !fields.iter().any(|field| field.columns[side].contains(&live.name))
    };
    free_columns(around, tables, side).into_iter().filter(is_wanted).collect()
}

fn field(tables: [&Seen<'_>; 2], columns: [Vec<String>; 2], lens: Lens, why: String) -> Field {
    let name = field_name(tables, &columns, matches!(lens, Lens::Ref(_)));
    Field { name, columns, lens, null: [None, None], is_one_way: false, why, is_doubted: false }
}

/// What stands for NULL on a side whose column cannot hold it: what a row has there that says nothing, by the column's default. Of
/// numbers only a reference's: any other zero is a number.
fn nulls(tables: [&Seen<'_>; 2], field: &Field) -> [Option<String>; 2] {
    let mut null = [None, None];
    let ([legacy], [platform]) = (field.columns[0].as_slice(), field.columns[1].as_slice()) else { return null };
    let (Some(legacy), Some(platform)) = (tables[0].column(legacy), tables[1].column(platform)) else { return null };
    for (side, (one, other)) in [(legacy, platform), (platform, legacy)].into_iter().enumerate() {
        let default = one.live.default.as_deref().and_then(literal);
        let stands_for_nothing = match field.lens {
            Lens::Same | Lens::Lowercase | Lens::Format(_) => {
                // Of a few values each says something.
                one.live.class == Class::Text && values(tables[side].table, one.live).is_none()
            }
            Lens::Ref(_) => matches!(default.as_deref(), Some("0" | "")),
            _ => false,
        };
        if stands_for_nothing && !one.live.nullable && other.live.nullable && other.live.default.is_none() {
            null[side] = default;
        }
    }
    null
}

/// As the platform calls it, without what only says of what kind it is.
fn field_name(tables: [&Seen<'_>; 2], columns: &[Vec<String>; 2], is_ref: bool) -> String {
    let side = usize::from(columns[1].len() == 1);
    let name = columns[side].first().map(|name| Name::of(name)).unwrap_or_else(|| Name::of(""));
    let is_key_of_several = columns[0].len() > 1 && is_ref;
    let mut words = &name.words[..];
    if words.len() > 1 && ((is_ref && words.last().is_some_and(|word| word == "id")) || is_key_of_several) {
        words = &words[..words.len() - 1];
    }
    if words.len() > 1 && matches!(words[0].as_str(), "is" | "has") {
        words = &words[1..];
    }
    if words.is_empty() { tables[side].name.joined() + "_field" } else { words.join("_") }
}

/// Gives each field a name of its own.
fn unlike(fields: &mut [Field]) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for field in fields {
        let wanted = field.name.clone();
        let mut number = 1;
        while !seen.insert(field.name.clone()) {
            number += 1;
            field.name = format!("{wanted}_{number}");
        }
    }
}
