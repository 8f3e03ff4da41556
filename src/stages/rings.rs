//! Records of several entities that refer to each other: each waits for the others, so one is made without its reference, which is set
//! once the others are there. Pure.

use crate::config::Side;
use crate::mapping::{Cell, Field, Lens, Links, Mapping, Untranslatable};

use super::plan::Verdict;
use super::read::View;
use super::{Key, ParkedReason};

/// References that are left out for now, by the positions of their fields, each with the record that it waits for.
pub type LeftOut = Vec<(usize, ParkedReason)>;

/// The references of a new pair that it cannot have yet, and that it can be without.
pub fn to_leave_out(mapping: &Mapping, view: &View, links: &Links) -> LeftOut {
    if view.pair.as_ref().is_some_and(|pair| !pair.gone && !pair.base.is_empty()) {
        return Vec::new();
    }
    let made_on = match (&view.legacy, &view.platform) {
        (None, Some(_)) => Some(Side::Legacy),
        (Some(_), None) => Some(Side::Platform),
        _ => None,
    };
    let can_be_without = |at: usize, field: &Field| {
        !mapping.match_on.contains(&at) && made_on.is_none_or(|side| can_be_null(mapping, field, side))
    };
    let fields = mapping.fields.iter().enumerate().filter(|(at, field)| can_be_without(*at, field));
    fields.filter_map(|(at, field)| Some((at, waits_for(mapping, field, view, links)?))).collect()
}

/// What a reference waits for.
fn waits_for(mapping: &Mapping, field: &Field, view: &View, links: &Links) -> Option<ParkedReason> {
    let Lens::Ref(entity) = &field.lens else { return None };
    let of_legacy = view.legacy.as_ref().and_then(|row| match field.get(mapping, Side::Legacy, &row.cells, links) {
        Err(Untranslatable::Parent { entity, side, key }) => Some(ParkedReason::Parent { entity, side, key }),
        _ => None,
    });
    of_legacy.or_else(|| {
        let row = view.platform.as_ref()?;
        let key = Key(field.get(mapping, Side::Platform, &row.cells, links).ok()?.as_deref()?.to_owned());
        let is_there = links.legacy_key(entity, &key).is_some();
        (!is_there).then(|| ParkedReason::Parent { entity: entity.clone(), side: Side::Platform, key })
    })
}

fn can_be_null(mapping: &Mapping, field: &Field, side: Side) -> bool {
    let shape = mapping.shape(side);
    let mut columns = field.columns(side).iter();
    !field.flows_to(side)
        || field.null.of(side).is_some()
        || columns.all(|&at| shape.columns[at].fixed || (shape.columns[at].nullable && !shape.is_key(at)))
}

/// Columns of what is left out stay as they are in a row that stands.
pub fn keep(mapping: &Mapping, view: &View, side: Side, cells: &mut [Cell]) {
    let old = match side {
        Side::Legacy => view.legacy.as_ref(),
        Side::Platform => view.platform.as_ref(),
    };
    let Some(old) = old else { return };
    for &at in view.left_out.iter().flat_map(|(at, _)| mapping.fields[*at].columns(side)) {
        cells[at].clone_from(&old.cells[at]);
    }
}

/// A record that waits all the same.
pub fn named(mapping: &Mapping, verdict: Verdict) -> Verdict {
    let Verdict::Parent { entity, .. } = verdict else { return verdict };
    let of = Lens::Ref(entity.clone());
    let mut fields = mapping.fields.iter().filter(|field| field.lens == of).map(|field| field.name.clone());
    let reason = format!(
        "it and the record of `{entity}` that it refers to wait for each other, and none of the records between them can be made without its \
         reference: let a column of one of these references be NULL on the side where the records are missing, or make the records there by \
         hand, then `sync-bridge quarantine retry`"
    );
    Verdict::Bad { field: fields.next().filter(|_| fields.next().is_none()), reason }
}
