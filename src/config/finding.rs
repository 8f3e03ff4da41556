//! One thing that is wrong, with the file or with what the file says of the live databases: what every check has to tell.

use serde::Serialize;

use super::{CustomerId, EntityId, Place, Side, secrets};

/// Something that an operator should know of. Never holds values of rows, or secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// Its kind: stays the same over versions. Problems of the file itself are all `file`.
    pub code: &'static str,
    pub customer: Option<CustomerId>,
    pub entity: Option<EntityId>,
    /// Of the entity; for a problem of the file itself, the path of the value in the file.
    pub field: Option<String>,
    pub side: Option<Side>,
    pub place: Option<Place>,
    /// `host:port/database: schema.table.column`, as far as it goes.
    pub object: Option<String>,
    pub message: String,
    /// What to do about it, with the SQL to run where there is one.
    pub help: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Rows could not be kept equal.
    Error,
    /// It works, but not for every row, or not as well as it could.
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

impl Finding {
    pub fn error(code: &'static str, message: impl Into<String>) -> Finding {
        Finding {
            severity: Severity::Error,
            code,
            customer: None,
            entity: None,
            field: None,
            side: None,
            place: None,
            object: None,
            message: message.into(),
            help: None,
        }
    }

    /// What quotes the file may quote a password of it.
    pub(super) fn hide_secrets(&mut self) {
        for text in [Some(&mut self.message), self.field.as_mut(), self.help.as_mut()].into_iter().flatten() {
            *text = secrets::mask(text).0;
        }
    }
}
