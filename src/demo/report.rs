//! What the demo tells at its end: a table for people, one line of JSON for programs. Owns: wording and form. Never: a
//! database.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

use super::compare::Comparison;
use crate::ops::Totals;
use crate::told::grouped;

/// More lines than these say nothing new.
const DIFFERENCES_SHOWN_MAX: usize = 20;

/// The line of `--json`. The keys up to `differences` keep their order and meaning; others may be added after them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub customers: i64,
    pub runs: i64,
    pub pages: i64,
    pub rows_to_platform: i64,
    pub rows_to_legacy: i64,
    pub conflicts: i64,
    pub parked: i64,
    pub quarantined: i64,
    pub differences: usize,
    /// Differences of rows that are parked, quarantined or open conflicts.
    pub differences_listed: usize,
    pub dead_letters: i64,
    pub pairs: usize,
    /// What the applications did while the bridge worked.
    pub actions_on_legacy: u64,
    pub actions_on_platform: u64,
    /// Of these, rows that they deleted for good.
    pub hard_deletes_on_legacy: u64,
    pub hard_deletes_on_platform: u64,
    /// Rows that went because their counterparts were gone.
    pub deletes_to_platform: i64,
    pub deletes_to_legacy: i64,
    /// Pairs that stand though one of their rows is gone.
    pub deletes_left: usize,
    /// Processes of the demo that ended and were started again.
    pub restarts: u32,
    pub freshness_p50_secs: Option<f64>,
    pub freshness_p99_secs: Option<f64>,
    pub secs: f64,
    pub seed: u64,
    #[serde(skip)]
    by_entity: BTreeMap<String, (i64, i64)>,
}

/// What only the demo knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Course {
    pub actions_on_legacy: u64,
    pub actions_on_platform: u64,
    pub hard_deletes_on_legacy: u64,
    pub hard_deletes_on_platform: u64,
    pub restarts: u32,
    pub secs: f64,
    pub seed: u64,
}

impl Report {
    pub fn new(totals: Totals, comparisons: &[Comparison], course: Course) -> Report {
        Report {
            customers: totals.customers,
            runs: totals.runs,
            pages: totals.pages,
            rows_to_platform: totals.rows_to_platform,
            rows_to_legacy: totals.rows_to_legacy,
            conflicts: totals.conflicts,
            parked: totals.parked,
            quarantined: totals.quarantined,
            differences: comparisons.iter().map(|found| found.differences).sum(),
            differences_listed: comparisons.iter().map(|found| found.listed).sum(),
            dead_letters: totals.dead_letters,
            pairs: comparisons.iter().flat_map(|found| &found.entities).map(|counted| counted.pairs).sum(),
            actions_on_legacy: course.actions_on_legacy,
            actions_on_platform: course.actions_on_platform,
            hard_deletes_on_legacy: course.hard_deletes_on_legacy,
            hard_deletes_on_platform: course.hard_deletes_on_platform,
            deletes_to_platform: totals.deletes_to_platform,
            deletes_to_legacy: totals.deletes_to_legacy,
            deletes_left: comparisons.iter().map(|found| found.absent).sum(),
            restarts: course.restarts,
            freshness_p50_secs: totals.freshness_p50_secs.map(to_millis),
            freshness_p99_secs: totals.freshness_p99_secs.map(to_millis),
            secs: to_millis(course.secs),
            seed: course.seed,
            by_entity: totals.by_entity,
        }
    }

    /// For people.
    pub fn table(&self, comparisons: &[Comparison]) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let mut header = vec!["entity".to_owned()];
        for found in comparisons {
            header.extend(["legacy", "platform"].map(|side| format!("{}\n{side}", found.customer)));
        }
        header.extend(["pairs", "rows to\nplatform", "rows to\nlegacy", "differ"].map(str::to_owned));
        table.set_header(header);
        let entities = comparisons.first().map(|found| found.entities.as_slice()).unwrap_or_default();
        for (at, first) in entities.iter().enumerate() {
            let counted: Vec<_> = comparisons.iter().filter_map(|found| found.entities.get(at)).collect();
            let (to_platform, to_legacy) = self.by_entity.get(first.entity).copied().unwrap_or_default();
            let mut numbers: Vec<i64> = Vec::new();
            for counted in &counted {
                numbers.extend([as_i64(counted.legacy), as_i64(counted.platform)]);
            }
            numbers.push(as_i64(counted.iter().map(|counted| counted.pairs).sum()));
            numbers.extend([to_platform, to_legacy]);
            numbers.push(as_i64(counted.iter().map(|counted| counted.differences).sum()));
            table.add_row(row(first.entity, &numbers));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("{table}\n{}", self.words())
    }

    fn words(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, what: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<12} {what}");
        };
        let written = format!(
            "{} rows to the platform, {} to legacy",
            grouped(self.rows_to_platform),
            grouped(self.rows_to_legacy)
        );
        line("bridge", format!("{} runs, {} pages, {written}", grouped(self.runs), grouped(self.pages)));
        let (legacy, platform) = (as_i64_u64(self.actions_on_legacy), as_i64_u64(self.actions_on_platform));
        line("people", format!("{} actions on legacy, {} on the platform", grouped(legacy), grouped(platform)));
        let (legacy, platform) = (as_i64_u64(self.hard_deletes_on_legacy), as_i64_u64(self.hard_deletes_on_platform));
        line(
            "hard deletes",
            format!(
                "{} on legacy, {} on the platform; {} carried over, {} left",
                grouped(legacy),
                grouped(platform),
                grouped(self.deletes_to_platform + self.deletes_to_legacy),
                grouped(as_i64(self.deletes_left))
            ),
        );
        line("conflicts", format!("{}, each logged with both values", grouped(self.conflicts)));
        line(
            "left over",
            format!("{} parked, {} quarantined, {} dead letters", self.parked, self.quarantined, self.dead_letters),
        );
        if let (Some(p50), Some(p99)) = (self.freshness_p50_secs, self.freshness_p99_secs) {
            line("freshness", format!("p50 {p50:.1} s, p99 {p99:.1} s from an edit to its arrival on the other side"));
        }
        if self.restarts > 0 {
            line("restarts", format!("{} of the demo's processes ended and were started again", self.restarts));
        }
        line("differences", self.verdict());
        text
    }

    fn verdict(&self) -> String {
        let listed = match self.differences_listed {
            0 => String::new(),
            listed => format!("; {} more in rows that are listed above", grouped(as_i64(listed))),
        };
        match self.differences {
            0 => format!("0: {} pairs compared in full, field by field{listed}", grouped(as_i64(self.pairs))),
            some => format!("{}: BOTH SIDES ARE NOT EQUAL{listed}", grouped(as_i64(some))),
        }
    }
}

/// What differs, for stderr.
pub fn differences(comparisons: &[Comparison]) -> String {
    let mut text = String::new();
    for found in comparisons {
        for difference in found.shown.iter().take(DIFFERENCES_SHOWN_MAX) {
            let listed = if difference.listed { " (listed)" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}: {difference}{listed}", found.customer);
        }
        let more = (found.differences + found.listed).saturating_sub(DIFFERENCES_SHOWN_MAX);
        if more > 0 {
            let _ = writeln!(text, "{}: and {more} more", found.customer);
        }
    }
    text
}

fn row(name: &str, numbers: &[i64]) -> Vec<Cell> {
    std::iter::once(Cell::new(name)).chain(numbers.iter().map(|number| Cell::new(grouped(*number)))).collect()
}

fn as_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn as_i64_u64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_millis(secs: f64) -> f64 {
    (secs * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::compare::Counted;
    use super::*;

    fn report() -> (Report, Vec<Comparison>) {
        let entity = |entity, legacy, platform| Counted { entity, legacy, platform, pairs: platform, differences: 0 };
        let comparisons = vec![
            Comparison {
                customer: "acme".into(),
                entities: vec![entity("user", 5012, 5012), entity("group", 130, 130)],
                ..Comparison::default()
            },
            Comparison {
                customer: "birch".into(),
                entities: vec![entity("user", 5003, 5003), entity("group", 128, 128)],
                ..Comparison::default()
            },
        ];
        let totals = Totals {
            customers: 2,
            runs: 21,
            pages: 1204,
            rows_to_platform: 40123,
            rows_to_legacy: 1204,
            conflicts: 7,
            deletes_to_platform: 31,
            deletes_to_legacy: 27,
            by_entity: BTreeMap::from([("user".to_owned(), (10123, 510)), ("group".to_owned(), (300, 41))]),
            freshness_p50_secs: Some(1.8371),
            freshness_p99_secs: Some(4.2),
            ..Totals::default()
        };
        let course = Course {
            actions_on_legacy: 1188,
            actions_on_platform: 1190,
            hard_deletes_on_legacy: 33,
            hard_deletes_on_platform: 28,
            restarts: 0,
            secs: 41.25,
            seed: 1,
        };
        (Report::new(totals, &comparisons, course), comparisons)
    }

    #[test]
    fn the_line_begins_with_the_promised_keys_in_order() {
        let (report, _) = report();
        let line = serde_json::to_string(&report).expect("a report is JSON");
        assert!(
            line.starts_with(
                r#"{"customers":2,"runs":21,"pages":1204,"rows_to_platform":40123,"rows_to_legacy":1204,"conflicts":7,"parked":0,"quarantined":0,"differences":0,"#
            ),
            "{line}"
        );
        assert!(!line.contains('\n'));
    }

    #[test]
    fn the_table_is_what_a_person_reads() {
        let (report, comparisons) = report();
        let expected = include_str!("report.txt");
        assert_eq!(report.table(&comparisons), expected, "{}", report.table(&comparisons));
    }
}
