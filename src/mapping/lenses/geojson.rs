//! Coordinates as two numbers or a `point` on one side, a GeoJSON point in a json column on the other. Other members of the geometry
//! stay as they are; an altitude stays until the point moves, and is back when it does.

use crate::config::Side;
use crate::mapping::class::number;
use crate::mapping::{Canonical, Cell, json};

use super::point::{Point, parts};
use super::{On, Reason};

const TYPE: &str = "type";
const COORDINATES: &str = "coordinates";

/// The canonical form is that of `point`: `(longitude,latitude)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeoJson {
    /// The side of the document.
    pub document: Side,
}

impl GeoJson {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        if on.side != self.document {
            return Point.get(on, cells);
        }
        let geometry = json::members(on.one(cells))?;
        if geometry.is_empty() {
            return Ok(Canonical::null());
        }
        if geometry.get(TYPE).is_none_or(|name| name.get() != "\"Point\"") {
            return Err("it is no GeoJSON point".into());
        }
        let coordinates = geometry.get(COORDINATES).map(|list| json::items(list.get())).transpose()?.flatten();
        let Some([x, y, ..]) = coordinates.as_deref() else {
            return Err("its coordinates are no list of two numbers or more".into());
        };
        let exact = |value: &serde_json::value::RawValue| match value.get().as_bytes() {
            [b'-' | b'0'..=b'9', ..] => number(value.get()).map(|number| number.into_owned()),
            _ => Err("a coordinate is no number".into()),
        };
        Ok(Canonical::text(format!("({},{})", exact(x)?, exact(y)?)))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        if on.side != self.document {
            return Point.put(on, value, cells);
        }
        let Some(value) = value else {
            on.set(0, (!on.column(0).nullable).then_some("{}"), cells);
            return Ok(());
        };
        let (x, y) = parts(value)?;
        if [x, y].iter().any(|part| part.ends_with(|last: char| !last.is_ascii_digit())) {
            return Err("json has no number for a coordinate that is infinite or none".into());
        }
        let written = placed(on.one(cells), &format!("[{x}, {y}]"))?;
        on.set(0, Some(&written), cells);
        Ok(())
    }

    /// Puts back what stood in the column before an edit: the coordinates with all they had, in the geometry as it is by now.
    pub fn put_back(&self, on: &On<'_>, kept: &[Option<String>], cells: &mut [Cell]) {
        let before = kept.first().and_then(Option::as_deref);
        let merged = || {
            let (before, now) = (json::members(before).ok()?, json::members(on.one(cells)).ok()?);
            let stands = on.side == self.document && !now.is_empty();
            placed(on.one(cells), before.get(COORDINATES).filter(|_| stands)?.get()).ok()
        };
        match merged() {
            Some(merged) => on.set(0, Some(&merged), cells),
            None => on.set_all(kept, cells),
        }
    }
}

/// The geometry with these coordinates; a new one is spelled as `jsonb` prints it.
fn placed(geometry: Option<&str>, coordinates: &str) -> Result<String, Reason> {
    let members = json::members(geometry)?;
    if members.is_empty() {
        return Ok(format!(r#"{{"{TYPE}": "Point", "{COORDINATES}": {coordinates}}}"#));
    }
    let others = members.iter().map(|(name, value)| (name.as_str(), value.get()));
    let others = others.filter(|(name, _)| ![TYPE, COORDINATES].contains(name));
    Ok(json::object([(TYPE, "\"Point\""), (COORDINATES, coordinates)].into_iter().chain(others)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Class, Column};

    #[test]
    fn a_height_is_back_with_its_place_in_the_geometry_as_it_is_by_now() {
        let column = Column {
            name: "place".into(),
            type_sql: "pg_catalog.json".into(),
            class: Class::Json,
            element: None,
            nullable: true,
            local_time: false,
            caseless: false,
            fixed: false,
        };
        let on = On { side: Side::Platform, columns: &[column], at: &[0], zone: chrono_tz::UTC };
        let lens = GeoJson { document: Side::Platform };
        let kept = [Some(r#"{"type":"Point","coordinates":[1,2,300],"bbox":[1]}"#.to_owned())];
        let back = |stands: Option<&str>| {
            let mut cells: Vec<Cell> = vec![stands.map(Into::into)];
            lens.put_back(&on, &kept, &mut cells);
            cells.remove(0).map(String::from)
        };
        let moved = r#"{"type":"Point","coordinates":[5,6],"bbox":[2]}"#;
        assert_eq!(back(Some(moved)).as_deref(), Some(r#"{"type":"Point","coordinates":[1,2,300],"bbox":[2]}"#));
        assert_eq!(back(None), kept[0]);
    }
}
