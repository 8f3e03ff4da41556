//! The protocol of a page as a model that is searched exhaustively: every interleaving of applications and workers, with a
//! crash possible between any two steps. Deciding is the project's own `judge`. `docs/MODEL.md` says what is modelled.
//!
//! Small bounds run here with the other tests; `cargo run --release --example model` runs millions of states.

pub mod identity;
pub mod judged;
pub mod pair;
pub mod search;
#[cfg(test)]
mod small;

use sync_bridge::config::Policy;

use identity::IdentityModel;
use judged::VALUES;
use pair::{PairModel, Rule, Start};
use search::{Bounds, Outcome, search};

/// How much of the world a run looks at.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub fields: usize,
    pub values: u8,
    /// Edits by applications.
    pub edits: u8,
    pub workers: usize,
}

/// Something to search, and what has to come of it.
pub struct Case {
    pub name: String,
    /// For an omission: what is left out.
    pub without: Option<&'static str>,
    subject: Subject,
}

enum Subject {
    Pair(PairModel),
    Identity(IdentityModel),
}

impl Case {
    pub fn run(&self, bounds: Bounds) -> Outcome {
        match &self.subject {
            Subject::Pair(model) => search(model, bounds),
            Subject::Identity(model) => search(model, bounds),
        }
    }
}

/// The protocol as it is: nothing may be found.
pub fn protocol(size: Size) -> Vec<Case> {
    let one = PairModel { values: size.values, edits: size.edits, workers: size.workers, ..PairModel::default() };
    let all = PairModel { fields: size.fields, ..one };
    let rule = |policies| Rule::Fixed(policies);
    let pair = |name: &str, model: PairModel| Case { name: name.into(), without: None, subject: Subject::Pair(model) };
    let identity = |name: &str, model| Case { name: name.into(), without: None, subject: Subject::Identity(model) };
    let newest = [Policy::Newest; 2];
    vec![
        pair("in step, the newer edit wins", all),
        pair("in step, one more edit of one field", PairModel { edits: size.edits + 1, values: 2, ..one }),
        pair("in step, either side may win", PairModel { rule: Rule::Any, ..all }),
        pair("in step, legacy wins", PairModel { rule: rule([Policy::Legacy; 2]), ..all }),
        pair("in step, the platform wins", PairModel { rule: rule([Policy::Platform; 2]), ..all }),
        pair("in step, a person decides", PairModel { rule: rule([Policy::Manual; 2]), ..all }),
        pair(
            "in step, a person decides about one of two fields",
            PairModel { fields: 2, values: 2, rule: rule([Policy::Manual, Policy::Newest]), ..one },
        ),
        pair("in step, few row writes after the last edit", PairModel { writes_max: 3, ..all }),
        pair("in step, three workers", PairModel { workers: 3, values: 2, edits: size.edits - 1, ..one }),
        pair("first contact", PairModel { start: Start::FirstContact, fields: 2, edits: 2 + size.edits - 1, ..one }),
        pair("a new field", PairModel { start: Start::NewField, fields: 2, edits: 2 + size.edits - 1, ..one }),
        pair(
            "a new field, a person decides about it",
            PairModel {
                start: Start::NewField,
                fields: 2,
                values: 2,
                edits: 2 + size.edits - 1,
                rule: rule([Policy::Newest, Policy::Manual]),
                ..one
            },
        ),
        pair("a new record on legacy", PairModel { start: Start::NewOnLegacy, edits: 1 + size.edits - 1, ..all }),
        pair("a new record on the platform", PairModel { start: Start::NewOnPlatform, edits: size.edits, ..all }),
        pair("deletes, one sighting", PairModel { deletes: true, rule: rule(newest), ..one }),
        pair("deletes, two sightings", PairModel { deletes: true, sightings: 2, values: 2, ..one }),
        pair("deletes, and rows that come back", PairModel { deletes: true, reinserts: true, values: 2, ..one }),
        pair(
            "deletes of a new record on the platform",
            PairModel { deletes: true, reinserts: true, values: 2, start: Start::NewOnPlatform, ..one },
        ),
        pair("deletes, and tombstones that end", PairModel { deletes: true, forgets: true, values: 2, ..one }),
        pair(
            "deletes, rows that come back, and tombstones that end",
            PairModel { deletes: true, reinserts: true, forgets: true, values: 2, ..one },
        ),
        identity("partners: keys change", IdentityModel { edits: size.edits, ..IdentityModel::default() }),
        identity(
            "partners: keys change, legacy rows are deleted",
            IdentityModel { edits: size.edits, deletes: true, ..IdentityModel::default() },
        ),
    ]
}

/// The protocol with one guard out: each must be found out.
pub fn omissions() -> Vec<Case> {
    use pair::Guard;
    let two = PairModel { values: 2, alone: false, keys: false, ..PairModel::default() };
    let alone = PairModel { alone: true, ..two };
    let three = PairModel { values: VALUES, ..two };
    let gone = PairModel { deletes: true, values: 1, ..alone };
    let pair = |name: &str, without, guard, model: PairModel| Case {
        name: name.into(),
        without: Some(without),
        subject: Subject::Pair(PairModel { omit: Some(guard), ..model }),
    };
    let identity = |name: &str, without, guard| Case {
        name: name.into(),
        without: Some(without),
        subject: Subject::Identity(IdentityModel { omit: Some(guard), alone: false, ..IdentityModel::default() }),
    };
    vec![
        pair("B1", "the platform's row is compared before it is written", Guard::ImageOnPlatform, three),
        pair("B1r", "it is compared too where values are recorded as they were read", Guard::ImageOnRecord, alone),
        pair("B2", "legacy's row is compared", Guard::ImageOnLegacy, three),
        pair("B3", "the ledger row's revision is compared", Guard::Revision, two),
        pair("B4", "the receipt must be older than the intent", Guard::Receipt, two),
        pair("B5", "a foreign open intent is made void first", Guard::Void, two),
        pair("B6", "a receipt newer than the ledger row means: read again", Guard::ReadAgain, two),
        pair("B7", "the platform is read before legacy, or legacy again", Guard::Order, two),
        pair("B8", "row and ledger row come from one statement", Guard::OneStatement, two),
        pair("B9", "the base moves per field", Guard::BasePerField, PairModel { fields: 2, ..alone }),
        pair("B10", "what became equal is recorded", Guard::Record, alone),
        pair("B11", "a write of the bridge makes the row due", Guard::Due, two),
        pair("B12", "nothing is settled by a look at one side", Guard::BothSides, two),
        pair(
            "B13",
            "edits are compared by the application's stamps",
            Guard::Stamps,
            PairModel { fields: 2, alone: true, ..three },
        ),
        pair(
            "B14",
            "a manual conflict is listed under the compare of the revision",
            Guard::List,
            PairModel { rule: Rule::Fixed([Policy::Manual; 2]), ..three },
        ),
        pair("B15", "the ledger row of a deleted pair stays", Guard::Tombstone, gone),
        pair("B16", "a sweep reads the platform before legacy", Guard::SweepOrder, gone),
        pair(
            "B17",
            "a sweep with two sightings reads the platform before legacy",
            Guard::SweepOrder,
            PairModel { sightings: 2, ..gone },
        ),
        pair(
            "B18",
            "a row that is listed and was touched since is noted under the revision",
            Guard::Touched,
            PairModel {
                start: Start::NewField,
                fields: 2,
                edits: 4,
                rule: Rule::Fixed([Policy::Newest, Policy::Manual]),
                ..PairModel { values: 2, ..PairModel::default() }
            },
        ),
        pair(
            "B19",
            "a tombstone is forgotten only while nothing of it is open or due",
            Guard::Forgotten,
            PairModel { forgets: true, reinserts: true, values: 2, ..gone },
        ),
        identity("C3", "one living pair per legacy key", identity::Guard::UniqueLegacyKey),
        identity("C4", "a foreign intent to create is void before its record is paired", identity::Guard::Void),
        identity("C5", "the natural key is compared again after legacy was read again", identity::Guard::LookAgain),
    ]
}
