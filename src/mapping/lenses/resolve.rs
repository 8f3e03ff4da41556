//! From a lens as declared to one that knows its columns.

use crate::config::{self, Hours, Side};
use crate::mapping::{Class, Column};

use super::elements::{Elements, Holder};
use super::values::spelled;
use super::{
    Constant, DateOf, Epoch, Express, Flags, Fold, Format, GeoJson, Instant, Join, Lens, List, Object, Path, Point,
    Scale, Values,
};

/// A field's columns on one side, with the side's zone.
#[derive(Debug, Clone)]
pub struct Columns<'s> {
    pub columns: Vec<&'s Column>,
    pub zone: chrono_tz::Tz,
}

impl Columns<'_> {
    fn class(&self) -> Class {
        self.columns.first().map_or(Class::Other, |column| column.class)
    }
}

impl Lens {
    /// Holds a declared lens against the columns it is to stand on; that they are as many as the lens takes was seen to before.
    ///
    /// # Errors
    /// Which columns it cannot stand on, and what would do.
    pub fn resolve(declared: &config::Lens, legacy: &Columns<'_>, platform: &Columns<'_>) -> Result<Lens, String> {
        let classes = [legacy.class(), platform.class()];
        let one = |wanted: Class, what: &str| match classes.map(|class| class == wanted) {
            [true, false] => Ok(Side::Legacy),
            [false, true] => Ok(Side::Platform),
            _ => Err(format!(
                "the lens takes {what} on exactly one side; here are {} on legacy and {} on the platform",
                shown(legacy),
                shown(platform)
            )),
        };
        let many = if legacy.columns.len() > 1 { Side::Legacy } else { Side::Platform };
        Ok(match declared {
            config::Lens::Same => match Class::common(classes[0], classes[1]) {
                Some(Class::Instant) => instant(Hours::default(), legacy, platform),
                Some(class) => Lens::Same(class),
                None => {
                    return Err(format!(
                        "{} on legacy and {} on the platform cannot hold the same values; choose a lens",
                        shown(legacy),
                        shown(platform)
                    ));
                }
            },
            config::Lens::Time(hours) => match classes {
                [Class::Instant, Class::Instant] => instant(*hours, legacy, platform),
                _ => {
                    return Err(format!(
                        "lens `time` is for timestamps; here are {} on legacy and {} on the platform",
                        shown(legacy),
                        shown(platform)
                    ));
                }
            },
            config::Lens::Fold(folds) => {
                texts("fold", legacy, platform)?;
                Lens::Fold(Fold(folds.clone()))
            }
            config::Lens::Values(pairs) => {
                let spell = |class, value: &str| spelled(class, value);
                let mut spelled_pairs = Vec::new();
                for pair in pairs {
                    let on_platform = pair.platform.iter().map(|value| spell(classes[1], value));
                    let on_platform = on_platform.collect::<Result<Vec<String>, String>>()?;
                    spelled_pairs.push((spell(classes[0], &pair.legacy)?, on_platform, pair.is_written));
                }
                Lens::Values(Values::new(
                    spelled_pairs.iter().map(|(legacy, platform, written)| (legacy.as_str(), &platform[..], *written)),
                )?)
            }
            config::Lens::Bool { yes, no } => {
                let boolean = one(Class::Bool, "a boolean")?;
                let other = if boolean == Side::Legacy { classes[1] } else { classes[0] };
                let (yes, no) = (spelled(other, yes)?, spelled(other, no)?);
                let pairs = match boolean {
                    Side::Platform => [(yes, vec!["true".to_owned()]), (no, vec!["false".to_owned()])],
                    Side::Legacy => [("true".to_owned(), vec![yes]), ("false".to_owned(), vec![no])],
                };
                Lens::Values(Values::new(
                    pairs.iter().map(|(legacy, platform)| (legacy.as_str(), &platform[..], true)),
                )?)
            }
            config::Lens::Join(separator) => {
                texts("join", legacy, platform)?;
                Lens::Join(Join { separator: separator.as_str().into(), many })
            }
            config::Lens::Object(members) => {
                let document = match classes {
                    [Class::Json, _] if legacy.columns.len() == 1 && classes[1] != Class::Json => Side::Legacy,
                    [_, Class::Json] if platform.columns.len() == 1 => Side::Platform,
                    _ => {
                        return Err(format!(
                            "lens `object` takes one json column on one side; here are {} on legacy and {} on the platform",
                            shown(legacy),
                            shown(platform)
                        ));
                    }
                };
                let many = if document == Side::Legacy { platform } else { legacy };
                let classes = many.columns.iter().map(|column| column.class).collect();
                Lens::Object(Object { members: members.clone(), classes, many: document.other() })
            }
            config::Lens::Path(members) => {
                let document = match classes {
                    // A part of one document is a document of its own: the platform's is the larger, as its services are.
                    [Class::Json, Class::Json] => Side::Platform,
                    _ => one(Class::Json, "a json column")?,
                };
                let class = if document == Side::Legacy { classes[1] } else { classes[0] };
                if !matches!(class, Class::Text | Class::Number | Class::Bool | Class::Uuid | Class::Date | Class::Json)
                {
                    return Err(format!(
                        "lens `path` cannot keep a {class:?} in a json document: a text, number, boolean, uuid or date can be"
                    ));
                }
                Lens::Path(Path { members: members.clone(), document, class })
            }
            config::Lens::Scale(power) => match classes {
                [Class::Number, Class::Number] => Lens::Scale(Scale { power: *power }),
                _ => {
                    return Err(format!(
                        "lens `scale` is for numbers; here are {} on legacy and {} on the platform",
                        shown(legacy),
                        shown(platform)
                    ));
                }
            },
            config::Lens::Date => match classes {
                [Class::Date, Class::Instant] | [Class::Instant, Class::Date] => Lens::Date(DateOf),
                _ => {
                    return Err(format!(
                        "lens `date` takes a date on one side and a timestamp on the other; here are {} on legacy and {} on the platform",
                        shown(legacy),
                        shown(platform)
                    ));
                }
            },
            config::Lens::Epoch(unit) => match classes {
                [Class::Number, Class::Instant] | [Class::Instant, Class::Number] => Lens::Epoch(Epoch { unit: *unit }),
                _ => {
                    return Err(format!(
                        "lens `epoch` takes a number on one side and a timestamp on the other; here are {} on legacy and {} on the platform",
                        shown(legacy),
                        shown(platform)
                    ));
                }
            },
            config::Lens::Format(pattern) => {
                let text = one(Class::Text, "a text")?;
                let (own, other) = match text {
                    Side::Legacy => (legacy, platform),
                    Side::Platform => (platform, legacy),
                };
                let is_date = match other.class() {
                    Class::Date => true,
                    Class::Instant => false,
                    _ => {
                        return Err(format!(
                            "lens `format` takes a date or a timestamp beside the text, not {}",
                            shown(other)
                        ));
                    }
                };
                let format = Format { pattern: pattern.as_str().into(), text, is_date, zone: own.zone };
                if !format.is_readable() {
                    let (what, wanted) =
                        if is_date { ("date", "day, month and year") } else { ("time", "day and time") };
                    return Err(format!(
                        "no {what} can be read from a text of the form `{pattern}`, not even by one way only: it must tell {wanted}"
                    ));
                }
                Lens::Format(format)
            }
            config::Lens::Point => {
                let (two, one) = if many == Side::Legacy { (legacy, platform) } else { (platform, legacy) };
                if two.columns.iter().any(|column| column.class != Class::Number) || one.class() != Class::Other {
                    return Err(format!(
                        "lens `point` takes two numbers on one side and a point on the other; here are {} on legacy and {} on the platform",
                        shown(legacy),
                        shown(platform)
                    ));
                }
                Lens::Point(Point)
            }
            config::Lens::GeoJson => {
                let document = one(Class::Json, "a json column")?;
                let plain = if document == Side::Legacy { platform } else { legacy };
                let wanted = if plain.columns.len() == 2 { Class::Number } else { Class::Other };
                if plain.columns.iter().any(|column| column.class != wanted) {
                    return Err(format!(
                        "lens `geojson` takes two numbers or a point beside the json column; here are {} on legacy and {} on the platform",
                        shown(legacy),
                        shown(platform)
                    ));
                }
                Lens::GeoJson(GeoJson { document })
            }
            config::Lens::List { separator, is_set } => {
                let holder = |columns: &Columns<'_>| Holder::of(columns.columns.first()?, Some(separator));
                let (Some((on_legacy, a)), Some((on_platform, b))) = (holder(legacy), holder(platform)) else {
                    return Err(format!(
                        "lens `{}` takes a text, a json column or an array of texts, numbers, booleans, dates or uuids on each side; here are {} on legacy and {} on the platform",
                        if *is_set { "set" } else { "list" },
                        shown(legacy),
                        shown(platform)
                    ));
                };
                let class = match (a, b) {
                    (Some(a), Some(b)) => Class::common(a, b).ok_or_else(|| {
                        format!(
                            "the elements of {} on legacy and of {} on the platform cannot hold the same values",
                            shown(legacy),
                            shown(platform)
                        )
                    })?,
                    (a, b) => a.or(b).unwrap_or(Class::Text),
                };
                let elements = |holder| Elements { holder, class, is_set: *is_set };
                Lens::List(List { legacy: elements(on_legacy), platform: elements(on_platform) })
            }
            config::Lens::Flags { bits, separator } => {
                let number = one(Class::Number, "a whole number")?;
                let other = if number == Side::Legacy { platform } else { legacy };
                let names = other.columns.first().and_then(|column| Holder::of(column, separator.as_deref()));
                let Some((holder, None | Some(Class::Text))) = names else {
                    let help = match other.class() {
                        Class::Text => "; say what stands between the names: `separator = \",\"`",
                        _ => "",
                    };
                    return Err(format!(
                        "lens `flags` takes a text with a separator, a json column or an array of texts beside the number, not {}{help}",
                        shown(other)
                    ));
                };
                Lens::Flags(Flags {
                    bits: bits.iter().map(|(bit, name)| (name.as_str().into(), *bit)).collect(),
                    number,
                    names: Elements { holder, class: Class::Text, is_set: true },
                })
            }
            config::Lens::Express { to_platform, to_legacy } => {
                if !classes.into_iter().all(Express::takes) {
                    return Err(format!(
                        "expressions are for texts, numbers, booleans, dates and uuids; here are {} on legacy and {} on the platform",
                        shown(legacy),
                        shown(platform)
                    ));
                }
                let (home, class, to_home, back) = match (to_platform, to_legacy) {
                    (Some(to_home), back) => (Side::Platform, classes[1], to_home, back),
                    (None, Some(to_home)) => (Side::Legacy, classes[0], to_home, to_platform),
                    (None, None) => return Err("there is no expression".into()),
                };
                Lens::Express(Express { home, class, to_home: to_home.clone(), back: back.clone() })
            }
            config::Lens::Constant(value) => {
                let class = if legacy.columns.is_empty() { classes[1] } else { classes[0] };
                Lens::Constant(Constant(spelled(class, value)?.into()))
            }
            config::Lens::Ref(target) => Lens::Ref(target.clone()),
        })
    }
}

fn instant(hours: Hours, legacy: &Columns<'_>, platform: &Columns<'_>) -> Lens {
    let local = |side: &Columns<'_>| side.columns.first().is_some_and(|column| column.local_time);
    Lens::Instant(Instant { hours, is_wall: local(legacy) && local(platform) && legacy.zone == platform.zone })
}

fn texts(lens: &str, legacy: &Columns<'_>, platform: &Columns<'_>) -> Result<(), String> {
    for (side, columns) in [("legacy", legacy), ("the platform", platform)] {
        if let Some(other) = columns.columns.iter().find(|column| column.class != Class::Text) {
            return Err(format!("lens `{lens}` is for texts; column `{}` on {side} is {}", other.name, other.type_sql));
        }
    }
    Ok(())
}

/// The types of a side's columns, as a message names them.
fn shown(columns: &Columns<'_>) -> String {
    let types: Vec<&str> = columns
        .columns
        .iter()
        .map(|column| column.type_sql.rsplit('.').next().unwrap_or(&column.type_sql).trim_matches('"'))
        .collect();
    if types.is_empty() { "nothing".into() } else { types.join(", ") }
}
