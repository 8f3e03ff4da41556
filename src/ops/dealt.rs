//! What was done to things that a person may name by their ids, and which of the ids that were named nothing was done to, in words.

/// What was done to dead letters, or to quarantined rows.
#[derive(Debug, Clone)]
pub struct DealtWith {
    pub count: u64,
    /// Of those that were named by their ids, the others.
    left: Vec<Left>,
    /// What an id is that nothing was done to; what several are.
    are: [&'static str; 2],
}

/// An id that nothing was done to.
#[derive(Debug, Clone)]
pub(super) struct Left {
    pub id: i64,
    pub why: String,
}

/// Why one that is there was left: it is not among what was asked for beside the ids.
pub(super) const NOT_ASKED_FOR: &str = "not one of what else was said";

impl DealtWith {
    pub(super) fn new(count: u64, left: Vec<Left>, are: [&'static str; 2]) -> DealtWith {
        DealtWith { count, left, are }
    }

    /// Which of the ids that were named nothing was done to, and why; `None`: all were dealt with.
    pub fn left_told(&self) -> Option<String> {
        /// Ids that are named one by one.
        const NAMED: usize = 20;
        let mut named: Vec<String> =
            self.left.iter().take(NAMED).map(|Left { id, why }| format!("{id} ({why})")).collect();
        if self.left.len() > NAMED {
            named.push(format!("and {} more", self.left.len() - NAMED));
        }
        let of = self.left.len() as u64 + self.count;
        let [one, several] = self.are;
        (!named.is_empty()).then(|| match of {
            1 => format!("{one}: {}", named.concat()),
            _ => format!("{} of {of} ids are {several}: {}", self.left.len(), named.join(", ")),
        })
    }
}
