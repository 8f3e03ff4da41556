//! The laws of a mapping, tried on values. A lens is trusted both ways only if what one side holds can stand on the other and mean
//! the same there, over whatever stood there before. Owns: the trial, and values to try with. Never: a database.

use std::fmt;

use chrono_tz::Tz;

use crate::config::{self, Config, EntityId, Lens as Declared, Nulls, Place, Side};
use crate::pairs::Complement;

use super::{
    Canonical, Cell, Class, Column, Columns, Field, Lens, Links, Mapping, NullMarks, On, Shape, StampKind,
    Untranslatable,
};

/// A field whose lens breaks a law, and the two values that show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub field: String,
    pub law: Law,
    /// Where the value stands that does not survive.
    pub side: Side,
    /// As the database would print it; NULL: none.
    pub value: Vec<Option<String>>,
    /// What comes back in its place, or why nothing does.
    pub back: Result<Option<String>, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// What a side holds can be written to the other, and means the same there.
    SurvivesTheOtherSide,
    /// And over whatever stands there.
    SurvivesWhatStands,
    /// What a side holds can be written anew on that side, and means the same.
    SurvivesItsOwnSide,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<String>| value.as_ref().map_or("NULL".to_owned(), |value| format!("{value:?}"));
        let value: Vec<String> = self.value.iter().map(show).collect();
        let (value, other) = (value.join(", "), self.side.other());
        match self.law {
            Law::SurvivesTheOtherSide => write!(f, "{value} on the {} side, written to the {other} side, ", self.side)?,
            Law::SurvivesWhatStands => {
                write!(f, "{value} on the {} side, written over another value of the {other} side, ", self.side)?;
            }
            Law::SurvivesItsOwnSide => write!(f, "{value}, written anew on the {} side, ", self.side)?,
        }
        match &self.back {
            Ok(back) => write!(f, "comes back as {}", show(back)),
            Err(why) => write!(f, "cannot be read there: {why}"),
        }
    }
}

/// What trying rows showed.
#[derive(Debug, Default)]
pub struct Trial {
    /// At most one for each field.
    pub broken: Vec<Broken>,
    /// Values that have no translation, per field: how many rows, and why. They would be quarantined.
    pub untranslatable: Vec<(String, u64, String)>,
    /// Values read and translated.
    pub values: u64,
}

/// Tries every field on rows of a side, as the database prints their mapped columns. References are left out: they are proven by
/// the pairs they go through.
pub fn try_rows(mapping: &Mapping, side: Side, rows: &[Vec<Cell>]) -> Trial {
    let mut trial = Trial::default();
    let links = Links::default();
    for field in mapping.fields.iter().filter(|field| !matches!(field.lens, Lens::Ref(_) | Lens::Constant(_))) {
        let mut before: Option<(Canonical<'_>, Vec<Cell>)> = None;
        for row in rows {
            let value = match field.get(mapping, side, row, &links) {
                Ok(value) => value,
                Err(Untranslatable::Parent { .. }) => continue,
                Err(Untranslatable::Value { reason, .. }) => {
                    match trial.untranslatable.iter_mut().find(|(name, ..)| *name == field.name) {
                        Some((_, rows, _)) => *rows += 1,
                        None => trial.untranslatable.push((field.name.clone(), 1, reason)),
                    }
                    continue;
                }
            };
            trial.values += 1;
            match try_value(mapping, field, side, row, &value, before.as_ref().map(|(_, cells)| cells.as_slice())) {
                Ok(stands) => before = stands.map(|stands| (value, stands)).or(before),
                Err(broken) => {
                    trial.broken.push(broken);
                    break;
                }
            }
        }
    }
    trial
}

/// Tries one value; `stands` is a row of the other side that holds another. Answers the row that it makes there.
fn try_value(
    mapping: &Mapping,
    field: &Field,
    side: Side,
    row: &[Cell],
    value: &Canonical<'_>,
    stands: Option<&[Cell]>,
) -> Result<Option<Vec<Cell>>, Broken> {
    let links = Links::default();
    let written = |on: Side, law: Law, cells: Vec<Cell>| -> Result<Option<Vec<Cell>>, Broken> {
        let mut cells = cells;
        // What cannot be written at all is quarantined and says so; it changes nobody's value.
        if !field.flows_to(on) || field.put(mapping, on, value, &links, &mut cells).is_err() {
            return Ok(None);
        }
        let back = match field.get(mapping, on, &cells, &links) {
            Ok(back) if back == *value => None,
            Ok(back) => Some(Ok(back.as_deref().map(str::to_owned))),
            Err(Untranslatable::Value { reason, .. }) => Some(Err(reason)),
            Err(Untranslatable::Parent { .. }) => None,
        };
        match back {
            None => Ok(Some(cells)),
            Some(back) => Err(Broken {
                field: field.name.clone(),
                law,
                side,
                value: field.columns(side).iter().map(|&at| row[at].as_deref().map(str::to_owned)).collect(),
                back,
            }),
        }
    };
    let empty = |on: Side| vec![None; mapping.shape(on).columns.len()];
    let other = side.other();
    let made = written(other, Law::SurvivesTheOtherSide, empty(other))?;
    if let Some(stands) = stands {
        written(other, Law::SurvivesWhatStands, stands.to_vec())?;
    }
    written(side, Law::SurvivesItsOwnSide, empty(side))?;
    Ok(made)
}

/// A field of the file that breaks a law whatever the databases hold.
#[derive(Debug)]
pub struct Flaw {
    pub entity: EntityId,
    pub place: Place,
    pub broken: Broken,
}

/// Tries every lens of the file that has something to go wrong by itself, on values made for it. What depends on the columns'
/// types is seen by `check`, on the operator's own rows.
pub fn of_file(config: &Config) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    for entity in config.entities() {
        for declared in &entity.fields {
            let broken = broken(entity, declared);
            flaws.extend(broken.map(|broken| Flaw { entity: entity.id.clone(), place: declared.place, broken }));
        }
    }
    flaws
}

/// What an expression may stand on, by the side.
const EXPRESSED: [[Class; 2]; 9] = {
    use Class::{Bool, Number, Text};
    [
        [Text, Text],
        [Number, Number],
        [Text, Number],
        [Number, Text],
        [Text, Bool],
        [Bool, Text],
        [Number, Bool],
        [Bool, Number],
        [Bool, Bool],
    ]
};

fn broken(entity: &config::Entity, declared: &config::Field) -> Option<Broken> {
    // An expression does not say of which types its columns are: one that keeps the laws for some has its reasons.
    let classes = if matches!(declared.lens, Declared::Express { .. }) { &EXPRESSED[..] } else { &EXPRESSED[..1] };
    let mut first = None;
    for classes in classes {
        let Some(mapping) = alone(entity, declared, *classes) else { continue };
        let trials = Side::BOTH.map(|side| try_rows(&mapping, side, &samples(&mapping, side, &declared.null)));
        // NULL is translated whatever an expression says.
        let gives_values = trials.iter().all(|trial| trial.values > 1);
        match trials.into_iter().flat_map(|trial| trial.broken).next() {
            None if gives_values => return None,
            found => first = first.or(found),
        }
    }
    first
}

/// The field by itself, on columns that such a lens takes, or that an expression is tried on.
fn alone(entity: &config::Entity, declared: &config::Field, expressed: [Class; 2]) -> Option<Mapping> {
    let class = |side: Side| match (&declared.lens, side) {
        (Declared::Express { .. }, side) => Some(expressed[side as usize]),
        (Declared::Ref(_) | Declared::Constant(_), _) => None,
        (Declared::Scale(_), _) => Some(Class::Number),
        (Declared::Epoch(_), Side::Legacy) => Some(Class::Number),
        (Declared::Epoch(_) | Declared::Time(_), _) => Some(Class::Instant),
        (Declared::Date, Side::Legacy) => Some(Class::Date),
        (Declared::Date, Side::Platform) => Some(Class::Instant),
        (Declared::Bool { .. }, Side::Platform) => Some(Class::Bool),
        (Declared::Format(pattern), Side::Platform) => {
            let names_time =
                ["%H", "%I", "%M", "%S", "%T", "%R", "%X", "%c", "%s"].iter().any(|part| pattern.contains(part));
            Some(if names_time { Class::Instant } else { Class::Date })
        }
        (Declared::Point, side) => Some(if columns_of(declared, side) == 1 { Class::Other } else { Class::Number }),
        (Declared::Object(_), side) => Some(if columns_of(declared, side) == 1 { Class::Json } else { Class::Text }),
        (Declared::Path(_), Side::Platform) => Some(Class::Json),
        (Declared::Flags { .. }, Side::Legacy) => Some(Class::Number),
        (Declared::List { .. } | Declared::Flags { .. }, Side::Platform) => Some(Class::Other),
        (Declared::GeoJson, side) => Some(match (columns_of(declared, side), columns_of(declared, side.other())) {
            (2, _) => Class::Number,
            (_, 2) => Class::Json,
            // Either may be the document.
            _ if side == Side::Legacy => Class::Other,
            _ => Class::Json,
        }),
        _ => Some(Class::Text),
    };
    let shape = |side: Side| {
        let class = class(side)?;
        Some(shape_of(side, class, columns_of(declared, side), entity.table(side).timezone))
    };
    let (legacy, platform) = (shape(Side::Legacy)?, shape(Side::Platform)?);
    mapping_of(&declared.name, &declared.lens, declared.null.clone(), declared.one_way, legacy, platform).ok()
}

fn columns_of(declared: &config::Field, side: Side) -> usize {
    declared.columns(side).len()
}

fn shape_of(side: Side, class: Class, count: usize, zone: Tz) -> Shape {
    let column = |name: String, class: Class| Column {
        name,
        type_sql: format!("pg_catalog.\"{class:?}\""),
        class,
        // Where a lens takes an array, one of texts.
        element: (class == Class::Other).then_some(Class::Text),
        nullable: true,
        local_time: false,
        caseless: false,
        fixed: false,
    };
    Shape {
        side,
        columns: (0..count).map(|n| column(format!("c{n}"), class)).collect(),
        key: vec![column("id".into(), Class::Text)],
        stamp: Some(column("updated_at".into(), Class::Instant)),
        stamp_kind: StampKind::Timestamptz { digits: super::DIGITS },
        created_at: None,
        zone,
    }
}

/// A mapping of one field.
fn mapping_of(
    name: &str,
    declared: &Declared,
    null: Nulls,
    one_way: Option<Side>,
    legacy: Shape,
    platform: Shape,
) -> Result<Mapping, String> {
    let all = |shape: &Shape| (0..shape.columns.len()).collect::<Vec<usize>>();
    let lens = Lens::resolve(
        declared,
        &Columns { columns: legacy.columns.iter().collect(), zone: legacy.zone },
        &Columns { columns: platform.columns.iter().collect(), zone: platform.zone },
    )?;
    let (at_legacy, at_platform) = (all(&legacy), all(&platform));
    let null = {
        let on = [(&legacy, &at_legacy), (&platform, &at_platform)].map(|(shape, at)| On {
            side: shape.side,
            columns: &shape.columns,
            at,
            zone: shape.zone,
        });
        NullMarks::new(null, &lens, on)
    };
    let field = Field {
        name: name.to_owned(),
        fingerprint: 1,
        lens,
        legacy: at_legacy,
        platform: at_platform,
        policy: config::Policy::Newest,
        first_contact: config::FirstContact::Authority,
        one_way,
        null,
    };
    Ok(Mapping {
        entity: EntityId::new("e"),
        fields: vec![field],
        legacy,
        platform,
        match_on: Vec::new(),
        authority: Side::Platform,
    })
}

const DATES: [&str; 12] = [
    "1900-01-01",
    "1931-07-04",
    "1969-12-31",
    "1970-01-01",
    "1999-12-31",
    "2000-02-29",
    "2001-02-03",
    "2026-03-29",
    "2026-10-25",
    "2031-07-04",
    "2038-01-19",
    "2099-12-31",
];
const TIMES: [&str; 6] = ["00:00:00", "01:02:03", "11:59:59", "12:00:00", "13:30:00", "23:59:59"];
const TEXTS: [&str; 12] = ["", " ", "a", "A b", "  a  b ", "Ärger", "A\u{308}rger", "ß", "İ", "x,y;z", "\t", "0"];
const NUMBERS: [&str; 10] = ["0", "1", "-1", "7", "100", "0.5", "-12.300", "1e3", "12345678901234567890.123", "NaN"];

/// Rows of the mapping's one field to try it with.
fn samples(mapping: &Mapping, side: Side, null: &Nulls) -> Vec<Vec<Cell>> {
    let field = &mapping.fields[0];
    let shape = mapping.shape(side);
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    let mut values: Vec<String> = match (&field.lens, shape.columns[0].class) {
        (Lens::Values(values), _) => values.of(side).map(str::to_owned).collect(),
        (Lens::Express(lens), _) if side == lens.home => written_from(mapping, side),
        (Lens::Express(_), Class::Text) => {
            [&TEXTS[..], &DATES, &["C-17", "007", "Y"]].concat().into_iter().map(Into::into).collect()
        }
        (Lens::Flags(flags), Class::Number) => {
            let all: i64 = flags.bits.values().sum();
            flags.bits.values().chain([&0, &all, &i64::MAX]).map(i64::to_string).collect()
        }
        (_, Class::Number) => owned(&NUMBERS),
        (_, Class::Date) => owned(&DATES),
        (_, Class::Instant) => DATES.iter().flat_map(|date| TIMES.map(|time| format!("{date} {time}+00"))).collect(),
        (_, Class::Bool) => owned(&["t", "f"]),
        (Lens::List(_), Class::Other) => owned(&["{}", "{b,a,a}", r#"{"A b","","x,y;z"}"#, "[2:3]={1,NULL}"]),
        (Lens::List(lens), _) => {
            let list = |texts: &[&str]| texts.join(lens.separator().unwrap_or_default());
            vec![list(&["b", "a", "a"]), list(&["", "A b ", ""]), list(&[" ", "1"]), String::new(), "x".into()]
        }
        (Lens::GeoJson(_), Class::Json) => owned(&[
            r#"{"type":"Point","coordinates":[13.4,52.50]}"#,
            r#"{"type":"Point","coordinates":[-1,1e3,100],"bbox":[]}"#,
        ]),
        (Lens::Point(_) | Lens::GeoJson(_), Class::Other) => owned(&["(0,0)", "(13.4,52.5)", "(-1.5,1e3)"]),
        (Lens::Object(object), Class::Json) => {
            let members = |text: &str| {
                let members: Vec<String> = object
                    .members
                    .iter()
                    .zip(&object.classes)
                    .filter(|(_, class)| **class == Class::Text)
                    .map(|(name, _)| format!("{}:{}", super::json::quoted(name), super::json::quoted(text)))
                    .collect();
                format!("{{{}}}", members.join(","))
            };
            vec!["{}".into(), members("a"), members("B c"), r#"{"other":1}"#.into()]
        }
        (Lens::Path(path), Class::Json) => ["a", "B c", ""]
            .iter()
            .map(|text| {
                path.members
                    .iter()
                    .rev()
                    .fold(super::json::quoted(text), |inner, name| format!("{{{}:{inner}}}", super::json::quoted(name)))
            })
            .chain(["{}".to_owned()])
            .collect(),
        // What the other side's values become is what stands here.
        (Lens::Format(_) | Lens::Flags(_), _) => written_from(mapping, side),
        (_, _) => owned(&TEXTS),
    };
    if let Lens::Join(join) = &field.lens {
        values.extend([
            join.separator.to_string(),
            format!("a{}b", join.separator),
            format!("{0}a{0}", join.separator),
        ]);
    }
    values.extend(null.of(side).map(str::to_owned));
    let width = shape.columns.len();
    let mut rows: Vec<Vec<Cell>> = vec![vec![None; width]];
    for (n, value) in values.iter().enumerate() {
        // Over several columns each value meets others, and none.
        let cell = |column: usize| match column {
            0 => Some(value.as_str().into()),
            _ if matches!(field.lens, Lens::Point(_) | Lens::GeoJson(_)) || n % 3 > 0 => {
                Some(values[(n + column) % values.len()].as_str().into())
            }
            _ => None,
        };
        rows.push((0..width).map(cell).collect());
    }
    rows
}

/// The values of the other side, as the lens writes them on this one.
fn written_from(mapping: &Mapping, side: Side) -> Vec<String> {
    let links = Links::default();
    let rows = samples(mapping, side.other(), &Nulls::default());
    let made = rows.iter().filter_map(|row| {
        let value = mapping.fields[0].get(mapping, side.other(), row, &links).ok()?;
        let cells = mapping.put(side, &[value], None, &links, &Complement::default()).ok()?;
        cells.into_iter().next()?.map(String::from)
    });
    made.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{EpochUnit, Expression, Hours, TextFold, ValuePair, Which};

    const BERLIN: Tz = Tz::Europe__Berlin;

    /// A mapping of one field on columns of these classes.
    fn mapping(lens: Declared, legacy: &[Class], platform: &[Class]) -> Mapping {
        nullable(lens, legacy, platform, Nulls::default())
    }

    fn nullable(lens: Declared, legacy: &[Class], platform: &[Class], null: Nulls) -> Mapping {
        over_arrays_of(Text, lens, legacy, platform, null)
    }

    /// Columns of no class are arrays of this one.
    fn over_arrays_of(element: Class, lens: Declared, legacy: &[Class], platform: &[Class], null: Nulls) -> Mapping {
        let shape = |side: Side, classes: &[Class]| {
            let mut shape = shape_of(side, Class::Text, classes.len(), BERLIN);
            for (column, class) in shape.columns.iter_mut().zip(classes) {
                column.class = *class;
                column.element = (*class == Other).then_some(element);
                column.local_time = side == Side::Legacy && *class == Class::Instant;
            }
            shape
        };
        mapping_of("f", &lens, null, None, shape(Side::Legacy, legacy), shape(Side::Platform, platform))
            .expect("a lens that fits its columns")
    }

    fn raw(cells: &[Option<String>]) -> Vec<Cell> {
        cells.iter().map(|cell| cell.as_deref().map(Into::into)).collect()
    }

    fn holds(mapping: &Mapping, side: Side, rows: &[Vec<Option<String>>]) {
        let rows: Vec<Vec<Cell>> = rows.iter().map(|row| raw(row)).collect();
        let trial = try_rows(mapping, side, &rows);
        assert_eq!(trial.broken, [], "{:?}", mapping.fields[0].lens);
        // What was not edited comes back as it was, and an edit that comes back brings the very row.
        let links = Links::default();
        let field = &mapping.fields[0];
        for row in &rows {
            let Ok(value) = mapping.canonical(side, row, &links) else { continue };
            let put = |values: &[Canonical<'_>], over: &[Cell], complement: &Complement| {
                mapping.put(side, values, Some(over), &links, complement)
            };
            assert_eq!(put(&value, row, &Complement::default()).as_ref(), Ok(row));
            for other in &rows {
                let Ok(edit) = mapping.canonical(side, other, &links) else { continue };
                let mut complement = Complement::default();
                for (fingerprint, raw) in mapping.lost(side, &edit, row, &links) {
                    complement.insert(fingerprint, side, raw);
                }
                let Ok(edited) = put(&edit, row, &complement) else { continue };
                let Ok(again) = put(&value, &edited, &complement) else { continue };
                if field.lens.has_spellings() && edit != value {
                    assert_eq!(&again, row, "{:?} by way of {edit:?}", field.lens);
                }
            }
        }
    }

    /// Any text that a database may hold, often one that is near what lenses do.
    fn text() -> impl Strategy<Value = Option<String>> {
        prop_oneof![
            1 => Just(None),
            2 => "[ \t]{0,2}[aA\u{c4}\u{df}\u{130} ,;.-]{0,6}[ \t]{0,2}".prop_map(Some),
            1 => any::<String>().prop_map(|text| Some(text.replace('\0', ""))),
        ]
    }

    fn number() -> impl Strategy<Value = Option<String>> {
        prop_oneof![
            1 => Just(None),
            3 => "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,12})?".prop_map(Some),
            1 => "-?[0-9]{1,3}(\\.[0-9]{0,3})?e[+-]?[0-9]{1,2}".prop_map(Some),
            1 => prop::sample::select(vec!["NaN", "Infinity", "-Infinity", "0.00", "-0", "007"]).prop_map(|n| Some(n.into())),
        ]
    }

    fn date() -> impl Strategy<Value = Option<String>> {
        prop_oneof![
            1 => Just(None),
            8 => (1..9999_i32, 1..=366_u32).prop_map(|(year, day)| {
                chrono::NaiveDate::from_yo_opt(year, day).map(|date| date.to_string())
            }),
            1 => prop::sample::select(vec!["infinity", "-infinity"]).prop_map(|date| Some(date.into())),
        ]
    }

    fn local_time() -> impl Strategy<Value = Option<String>> {
        prop_oneof![
            1 => Just(None),
            4 => (-2_000_000_000_i64..4_000_000_000, 0..1_000_000_u32).prop_map(|(seconds, micros)| {
                let at = chrono::DateTime::from_timestamp(seconds, micros * 1_000)?;
                Some(crate::mapping::stamp::printed(at.naive_utc()))
            }),
            1 => (0..7_200_i64).prop_map(|seconds| {
                // Around the hour that Berlin has twice, and the one that it skips.
                let at = [1_792_890_000 + seconds, 1_774_745_000 + seconds][(seconds % 2) as usize];
                Some(crate::mapping::stamp::printed(chrono::DateTime::from_timestamp(at, 0)?.naive_utc()))
            }),
        ]
    }

    fn instant() -> impl Strategy<Value = Option<String>> {
        let offset = prop::sample::select(vec!["+00", "+02", "-03:30", "+05:45"]);
        (local_time(), offset).prop_map(|(time, offset)| time.map(|time| format!("{time}{offset}")))
    }

    fn rows<S: Strategy<Value = Option<String>>>(
        cell: S,
        width: usize,
    ) -> impl Strategy<Value = Vec<Vec<Option<String>>>> {
        prop::collection::vec(prop::collection::vec(cell, width), 1..8)
    }

    /// Rows for both sides under a mapping.
    macro_rules! laws {
        ($($name:ident: $mapping:expr, $legacy:expr, $platform:expr;)*) => {$(
            proptest! {
                #[test]
                fn $name(legacy in $legacy, platform in $platform) {
                    let mapping = $mapping;
                    holds(&mapping, Side::Legacy, &legacy);
                    holds(&mapping, Side::Platform, &platform);
                }
            }
        )*};
    }

    use Class::{Bool, Date, Instant, Json, Number, Other, Text};

    fn values() -> Declared {
        let pair = |legacy: &str, platform: &[&str], is_written| ValuePair {
            legacy: legacy.into(),
            platform: platform.iter().map(|value| (*value).to_owned()).collect(),
            is_written,
        };
        Declared::Values(vec![
            pair("Y", &["active", "trial"], true),
            pair("J", &["active"], false),
            pair("N", &["closed"], true),
        ])
    }

    fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
        prop::option::of(prop::sample::select(values).prop_map(str::to_owned))
    }

    fn document() -> impl Strategy<Value = Option<String>> {
        let leaf = prop_oneof![
            "[a-z\u{c4} ]{0,5}".prop_map(|text| crate::mapping::json::quoted(&text)),
            "-?[1-9][0-9]{0,20}(\\.[0-9]{1,5})?".prop_map(|number| number),
            prop::sample::select(vec!["null", "true", "false"]).prop_map(str::to_owned),
        ];
        let object = |inner: BoxedStrategy<String>| {
            prop::collection::btree_map("[abc]", inner, 0..3).prop_map(|members| {
                crate::mapping::json::object(members.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            })
        };
        let deep = object(prop_oneof![leaf.clone(), object(leaf.clone().boxed())].boxed());
        prop_oneof![1 => Just(None), 5 => deep.prop_map(Some), 1 => leaf.prop_map(Some)]
    }

    /// Points with and without an altitude and other members, and what is none.
    fn geometry() -> impl Strategy<Value = Option<String>> {
        let coordinate = "-?[0-9]{1,3}(\\.[0-9]{1,12})?(e-?[0-9])?".prop_filter("json has no leading zeros", |text| {
            let digits = text.trim_start_matches('-');
            !digits.starts_with('0') || !digits[1..].starts_with(|next: char| next.is_ascii_digit())
        });
        let name = prop_oneof![9 => Just("Point"), 1 => Just("Polygon")];
        let bbox = prop::option::of(prop::sample::select(vec!["[]", "[1.0, 2]", "null"]));
        let point = (name, prop::collection::vec(coordinate, 0..5), bbox).prop_map(|(name, coordinates, bbox)| {
            let coordinates = format!("[{}]", coordinates.join(","));
            let name = crate::mapping::json::quoted(name);
            let members = [("type", name.as_str()), ("coordinates", coordinates.as_str())];
            crate::mapping::json::object(members.into_iter().chain(bbox.map(|bbox| ("bbox", bbox))))
        });
        prop_oneof![1 => Just(None), 1 => Just(Some("null".to_owned())), 8 => point.prop_map(Some)]
    }

    fn list(separator: &str) -> Declared {
        Declared::List { separator: separator.into(), is_set: false }
    }

    fn set(separator: &str) -> Declared {
        Declared::List { separator: separator.into(), is_set: true }
    }

    fn flags(separator: Option<&str>) -> Declared {
        let bits = vec![(1, "a".to_owned()), (4, "b c".to_owned()), (1 << 62, "d".to_owned())];
        Declared::Flags { bits, separator: separator.map(str::to_owned) }
    }

    fn bits() -> impl Strategy<Value = Option<String>> {
        let bit = prop::sample::select(vec![1, 2, 4, 8, 1 << 62]);
        let sum = prop::collection::btree_set(bit, 0..5).prop_map(|bits| Some(bits.iter().sum::<i64>().to_string()));
        prop_oneof![1 => number(), 4 => sum, 1 => any::<i64>().prop_map(|bits| Some(bits.to_string()))]
    }

    /// Names of flags, and of none, as an array, a json array or a text.
    fn names(
        before: &'static str,
        between: &'static str,
        after: &'static str,
    ) -> impl Strategy<Value = Option<String>> {
        let quote = if before.is_empty() { "" } else { "\"" };
        let name = prop::sample::select(vec!["a", "b c", "d", "d", "e", ""]);
        let whole = prop::collection::vec(name, 0..5).prop_map(move |names| {
            let names: Vec<String> = names.iter().map(|name| format!("{quote}{name}{quote}")).collect();
            format!("{before}{}{after}", names.join(between))
        });
        prop_oneof![1 => text(), 6 => whole.prop_map(Some)]
    }

    fn express(to_platform: &str, to_legacy: &str) -> Declared {
        let parsed = |text| Some(Expression::parse(text).expect("an expression"));
        Declared::Express { to_platform: parsed(to_platform), to_legacy: parsed(to_legacy) }
    }

    fn amount() -> impl Strategy<Value = Option<String>> {
        prop_oneof![1 => Just(None), 8 => "-?(0|[1-9][0-9]{0,11})(\\.[0-9]{1,4})?".prop_map(Some)]
    }

    proptest! {
        #[test]
        fn no_expression_panics_on_any_value(texts in rows(text(), 1), numbers in rows(number(), 1)) {
            for expression in ["value * value + 1 / value", "value.part(1, 3).pad(9, value)", "-number(value).round(2)", "value % 7 > value"] {
                for class in [Text, Number] {
                    let mapping = mapping(express(expression, expression), &[class], &[class]);
                    for rows in [&texts, &numbers] {
                        let rows: Vec<Vec<Cell>> = rows.iter().map(|row| raw(row)).collect();
                        let trials = Side::BOTH.map(|side| try_rows(&mapping, side, &rows));
                        prop_assert!(trials.iter().all(|trial| trial.values <= rows.len() as u64));
                    }
                }
            }
        }
    }

    /// Texts that are lists, mostly of few letters.
    fn listed() -> impl Strategy<Value = Option<String>> {
        prop_oneof![1 => text(), 4 => "[ab01, ;\\t]{0,8}".prop_map(Some)]
    }

    fn array() -> impl Strategy<Value = Option<String>> {
        let element = prop_oneof![
            6 => "[ab01. ,;\"\\\\{}]{0,3}".prop_map(|text| {
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            }),
            6 => "[ab01]{1,2}",
            1 => prop::sample::select(vec!["NULL", "\"NULL\"", "{a}", "1.50", "t"]).prop_map(str::to_owned),
        ];
        let bounds = prop::sample::select(vec!["", "", "", "[0:1]="]);
        let whole = (bounds, prop::collection::vec(element, 0..4))
            .prop_map(|(bounds, elements)| format!("{bounds}{{{}}}", elements.join(",")));
        prop_oneof![1 => text(), 6 => whole.prop_map(Some)]
    }

    fn json_list() -> impl Strategy<Value = Option<String>> {
        let leaf = prop_oneof![
            4 => "[ab01 ,;]{0,3}".prop_map(|text| crate::mapping::json::quoted(&text)),
            2 => "[1-9][0-9]{0,2}(\\.[0-9]{1,2})?",
            1 => prop::sample::select(vec!["null", "true", "{}", "[]"]).prop_map(str::to_owned),
        ];
        let whole = prop::collection::vec(leaf, 0..4).prop_map(|items| format!("[{}]", items.join(",")));
        prop_oneof![1 => document(), 5 => whole.prop_map(Some)]
    }

    laws! {
        same_texts: mapping(Declared::Same, &[Text], &[Text]), rows(text(), 1), rows(text(), 1);
        same_numbers: mapping(Declared::Same, &[Number], &[Number]), rows(number(), 1), rows(number(), 1);
        numbers_in_a_text: mapping(Declared::Same, &[Text], &[Number]), rows(text(), 1), rows(number(), 1);
        same_moments: mapping(Declared::Same, &[Instant], &[Instant]), rows(local_time(), 1), rows(instant(), 1);
        moments_as_declared: mapping(
            Declared::Time(Hours { doubled: Some(Which::Later), missing: Some(Which::Earlier) }), &[Instant], &[Instant]
        ), rows(local_time(), 1), rows(instant(), 1);
        same_json: mapping(Declared::Same, &[Json], &[Json]), rows(document(), 1), rows(document(), 1);
        folds: mapping(
            Declared::Fold(vec![TextFold::Trim, TextFold::Lowercase, TextFold::Nfc]), &[Text], &[Text]
        ), rows(text(), 1), rows(text(), 1);
        uppercase: mapping(Declared::Fold(vec![TextFold::Uppercase]), &[Text], &[Text]), rows(text(), 1), rows(text(), 1);
        value_maps: mapping(values(), &[Text], &[Text]),
            rows(one_of(&["Y", "J", "N", "?"]), 1), rows(one_of(&["active", "trial", "closed", "?"]), 1);
        booleans: mapping(Declared::Bool { yes: "Y".into(), no: "N".into() }, &[Text], &[Bool]),
            rows(one_of(&["Y", "N", "?"]), 1), rows(one_of(&["t", "f"]), 1);
        joins: mapping(Declared::Join(" ".into()), &[Text, Text, Text], &[Text]), rows(text(), 3), rows(text(), 1);
        joins_on_the_platform: mapping(Declared::Join(", ".into()), &[Text], &[Text, Text]), rows(text(), 1), rows(text(), 2);
        objects: mapping(Declared::Object(vec!["a".into(), "b".into()]), &[Text, Text], &[Json]),
            rows(text(), 2), rows(document(), 1);
        objects_on_legacy: mapping(Declared::Object(vec!["a".into(), "b".into()]), &[Json], &[Text, Text]),
            rows(document(), 1), rows(text(), 2);
        paths_of_texts: mapping(Declared::Path(vec!["a".into(), "b".into()]), &[Text], &[Json]),
            rows(text(), 1), rows(document(), 1);
        paths_of_numbers: mapping(Declared::Path(vec!["a".into()]), &[Number], &[Json]), rows(number(), 1), rows(document(), 1);
        paths_of_documents: mapping(Declared::Path(vec!["b".into()]), &[Json], &[Json]), rows(document(), 1), rows(document(), 1);
        scales: mapping(Declared::Scale(2), &[Number], &[Number]), rows(number(), 1), rows(number(), 1);
        scales_down: mapping(Declared::Scale(-3), &[Number], &[Number]), rows(number(), 1), rows(number(), 1);
        dates: mapping(Declared::Date, &[Date], &[Instant]), rows(date(), 1), rows(instant(), 1);
        dates_of_local_times: mapping(Declared::Date, &[Instant], &[Date]), rows(local_time(), 1), rows(date(), 1);
        epochs: mapping(Declared::Epoch(EpochUnit::Seconds), &[Number], &[Instant]), rows(number(), 1), rows(instant(), 1);
        epochs_on_the_platform: mapping(Declared::Epoch(EpochUnit::Milliseconds), &[Instant], &[Number]),
            rows(local_time(), 1), rows(number(), 1);
        formats_of_dates: mapping(Declared::Format("%d.%m.%Y".into()), &[Text], &[Date]), rows(text(), 1), rows(date(), 1);
        formats_of_times: mapping(Declared::Format("%Y%m%d%H%M".into()), &[Text], &[Instant]), rows(text(), 1), rows(instant(), 1);
        points: mapping(Declared::Point, &[Number, Number], &[Other]), rows(number(), 2),
            rows(one_of(&["(0,0)", "(13.4,52.5)", "(1e-7,-0)", "(NaN,Infinity)"]), 1);
        geojson_of_columns: mapping(Declared::GeoJson, &[Number, Number], &[Json]), rows(number(), 2), rows(geometry(), 1);
        geojson_of_points: mapping(Declared::GeoJson, &[Json], &[Other]), rows(geometry(), 1),
            rows(one_of(&["(0,0)", "(13.4,52.5)", "(1e-7,-0)", "(NaN,Infinity)"]), 1);
        geojson_of_any_document: mapping(Declared::GeoJson, &[Number, Number], &[Json]), rows(text(), 2), rows(document(), 1);
        lists: mapping(list(","), &[Text], &[Other]), rows(listed(), 1), rows(array(), 1);
        lists_between_spaces: mapping(list(" "), &[Text], &[Other]), rows(listed(), 1), rows(array(), 1);
        lists_of_numbers: over_arrays_of(Number, list("; "), &[Other], &[Text], Nulls::default()),
            rows(array(), 1), rows(listed(), 1);
        lists_in_json: mapping(list(","), &[Text], &[Json]), rows(listed(), 1), rows(json_list(), 1);
        lists_of_booleans_in_json: over_arrays_of(Bool, list(","), &[Other], &[Json], Nulls::default()),
            rows(array(), 1), rows(json_list(), 1);
        sets: mapping(set(","), &[Text], &[Other]), rows(listed(), 1), rows(array(), 1);
        sets_of_numbers: over_arrays_of(Number, set(","), &[Text], &[Other], Nulls::default()),
            rows(listed(), 1), rows(array(), 1);
        sets_in_json: mapping(set("ab"), &[Json], &[Text]), rows(json_list(), 1), rows(listed(), 1);
        flags_and_arrays: mapping(flags(None), &[Number], &[Other]), rows(bits(), 1), rows(names("{", ",", "}"), 1);
        flags_and_json: mapping(flags(None), &[Json], &[Number]), rows(names("[", ", ", "]"), 1), rows(bits(), 1);
        flags_and_texts: mapping(flags(Some("|")), &[Number], &[Text]), rows(bits(), 1), rows(names("", " |", ""), 1);
        expressions_of_texts: mapping(express("\"C-\" + value", "value.part(2, 9999)"), &[Text], &[Text]),
            rows(text(), 1), rows(text().prop_map(|text| text.map(|text| format!("C-{text}"))), 1);
        expressions_of_numbers: mapping(express("value * 100 + 7", "(value - 7) / 100"), &[Number], &[Number]),
            rows(amount(), 1), rows(amount(), 1);
        expressions_of_booleans: mapping(
            express("value == \"Y\"", "if value { \"Y\" } else { \"N\" }"), &[Text], &[Bool]
        ), rows(text(), 1), rows(one_of(&["t", "f"]), 1);
        expressions_that_give_null: mapping(express("if value == 0 { () } else { text(value) }", "number(value)"), &[Number], &[Text]),
            rows(amount(), 1), rows(one_of(&["1", "-2.5", "x"]), 1);
        nulls: nullable(Declared::Same, &[Text], &[Text], Nulls { legacy: Some(String::new()), platform: Some("a".into()) }),
            rows(text(), 1), rows(text(), 1);
    }

    #[test]
    fn a_lens_that_breaks_a_law_is_found_with_the_values_that_show_it() {
        // A year of two digits: 1931 comes back as 2031.
        let short = mapping(Declared::Format("%d.%m.%y".into()), &[Text], &[Date]);
        let rows = samples(&short, Side::Platform, &Nulls::default());
        let broken = try_rows(&short, Side::Platform, &rows).broken;
        assert_eq!(
            broken[0].to_string(),
            "\"1900-01-01\" on the platform side, written to the legacy side, comes back as \"2000-01-01\""
        );
    }

    /// What is said of a file of one field with this lens.
    fn said(lens: &str) -> Option<String> {
        let file = format!(
            "[[customers]]\nid = \"c\"\ndatabases = {{ a = \"postgres://localhost/a\", b = \"postgres://localhost/b\" }}\n\
             [[stages]]\nname = \"s\"\n[[stages.entities]]\nid = \"e\"\n\
             legacy = {{ database = \"a\", table = \"t\", key = \"id\" }}\nplatform = {{ database = \"b\", table = \"t\", key = \"id\" }}\n\
             fields = {{ f = {{ legacy = \"l\", platform = \"p\", lens = {lens} }} }}"
        );
        of_file(&Config::from_text(&file)).into_iter().next().map(|flaw| flaw.broken.to_string())
    }

    #[test]
    fn a_pair_of_expressions_is_tried_on_values_of_every_kind() {
        for good in [
            "{ to_platform = \"value * 100\", to_legacy = \"value / 100\" }",
            "{ to_platform = '\"C-\" + value', to_legacy = 'value.after(\"-\")' }",
            "{ to_platform = '\"C-\" + value', to_legacy = 'value.part(2, 99)' }",
            "{ to_platform = 'value == \"Y\"', to_legacy = 'if value { \"Y\" } else { \"N\" }' }",
            "{ to_platform = 'text(value).pad(9, \"0\")', to_legacy = 'number(value)' }",
        ] {
            assert_eq!(said(good), None, "{good}");
        }
        assert_eq!(
            said("{ to_platform = \"value * 2\", to_legacy = \"value\" }").as_deref(),
            Some("\"1\", written anew on the legacy side, comes back as \"4\"")
        );
    }

    #[test]
    fn bits_without_a_name_stay_and_are_not_given_up_for_null() {
        let mapping = mapping(flags(None), &[Number], &[Other]);
        let row = raw(&[Some("-9223372036854775797".into())]);
        let put = |value: Canonical<'_>| {
            mapping.put(Side::Legacy, &[value], Some(&row), &Links::default(), &Complement::default())
        };
        assert_eq!(put(Canonical::text(r#"["b c"]"#)), Ok(raw(&[Some("-9223372036854775794".into())])));
        assert!(put(Canonical::null()).is_err());
    }

    #[test]
    fn a_document_that_must_be_there_is_made_for_a_place_without_a_value() {
        let mut mapping = mapping(Declared::Path(vec!["a".into()]), &[Text], &[Json]);
        let anew = |mapping: &Mapping| {
            mapping.put(Side::Platform, &[Canonical::null()], None, &Links::default(), &Complement::default())
        };
        assert_eq!(anew(&mapping), Ok(raw(&[None])));
        mapping.platform.columns[0].nullable = false;
        assert_eq!(anew(&mapping), Ok(raw(&[Some("{}".into())])));
    }

    #[test]
    fn a_name_that_was_edited_and_edited_back_has_its_parts_again() {
        let mapping = mapping(Declared::Join(" ".into()), &[Text, Text], &[Text]);
        let row = raw(&[Some("Mary Ann".into()), Some("van der Berg".into())]);
        let rows = vec![vec![Some("Mary Ann".into()), Some("van der Berg".into())], vec![Some("Cher".into()), None]];
        holds(&mapping, Side::Legacy, &rows);
        let links = Links::default();
        let edit = [Canonical::text("Cher")];
        let cher = mapping.put(Side::Legacy, &edit, Some(&row), &links, &Complement::default()).expect("a text splits");
        // Without what was kept, nobody knows where the parts were.
        let back = [Canonical::text("Mary Ann van der Berg")];
        let guessed =
            mapping.put(Side::Legacy, &back, Some(&cher), &links, &Complement::default()).expect("a text splits");
        assert_ne!(guessed, row);
    }
}
