//! Progress on stderr: bars on a terminal, else a line for each step that ended. Owns: how a step looks.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TURN_EVERY: Duration = Duration::from_millis(120);

/// One step of a longer work, ended with a sentence that stays.
pub(super) struct Step {
    bar: ProgressBar,
}

impl Step {
    pub(super) fn begin(what: &'static str) -> Step {
        Step::with(ProgressBar::new_spinner().with_message(what))
    }

    /// A step of which one can say how far it is.
    pub(super) fn counting(what: &'static str, count: usize) -> Step {
        let style = ProgressStyle::with_template("{spinner} {prefix} [{bar:20}] {pos}/{len} {wide_msg}")
            .expect("the template is of known parts")
            .progress_chars("=> ");
        Step::with(ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX)).with_prefix(what).with_style(style))
    }

    fn with(bar: ProgressBar) -> Step {
        bar.enable_steady_tick(TURN_EVERY);
        Step { bar }
    }

    pub(super) fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    pub(super) fn say(&self, what: String) {
        self.bar.set_message(what);
    }

    pub(super) fn end(self, what: &str) {
        self.bar.finish_and_clear();
        eprintln!("✓ {what} ({:.1} s)", self.bar.elapsed().as_secs_f64());
    }
}
