//! `--watch`: one look after another until Ctrl-C. Owns: how looks follow each other on a terminal, in a pipe, as JSON. Never: what a look
//! holds.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use console::{Term, measure_text_width, truncate_str};
use sync_bridge::told::told;
use sync_bridge::{clock, shutdown, startup};

use crate::out;

/// Into the screen that programs have beside the lines of a shell, and back; with the cursor out of the way.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner; to the end of a line; to the end of the screen.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

/// A look that takes longer is told to be late while it is waited for.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// Where looks are shown.
enum Shown {
    /// One over the other, as large as the terminal is.
    Screen(Screen),
    /// One after the other, each below its time.
    Pages,
    /// A line each.
    Json,
}

/// Looks every so often until Ctrl-C or SIGTERM, or until nobody reads any more. Answers are JSON if that was asked for.
///
/// # Errors
/// The first look's, unless a database is only away. What later ones say is shown, and asked for again.
pub async fn run(every: Duration, json: bool, look: impl AsyncFn() -> anyhow::Result<String>) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let mut shown: Option<Shown> = None;
    let mut last = String::new();
    let mut answered = clock::instant();
    'looks: loop {
        let mut looking = pin!(look());
        let said = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break 'looks,
                said = &mut looking => break said,
                () = clock::sleep(QUIET_MAX) => {}
            }
            if let Some(Shown::Screen(screen)) = &shown {
                write(&screen.frame(&framed(&last, every, Some(&quiet(answered)))))?;
            }
        };
        let trouble = match said {
            Ok(text) => {
                last = text;
                answered = clock::instant();
                None
            }
            Err(error) if shown.is_none() && !startup::is_away(&error) => return Err(error),
            Err(error) => Some(format!("{}:\n{}", quiet(answered), out::plain(&told(&error)))),
        };
        let shown = shown.get_or_insert_with(|| match (json, Screen::on_terminal()) {
            (true, _) => Shown::Json,
            (false, Some(screen)) => Shown::Screen(screen),
            (false, None) => Shown::Pages,
        });
        if !shown.show(every, &last, trouble.as_deref())? {
            break;
        }
        if !clock::sleep_unless(every, &stop).await {
            break;
        }
    }
    Ok(())
}

impl Shown {
    /// Answers whether anybody reads.
    fn show(&self, every: Duration, text: &str, trouble: Option<&str>) -> anyhow::Result<bool> {
        if let (Shown::Pages | Shown::Json, Some(trouble)) = (self, trouble) {
            eprintln!("warning: {}", trouble.replace('\n', " "));
            return Ok(true);
        }
        write(&match self {
            Shown::Screen(screen) => screen.frame(&framed(text, every, trouble)),
            Shown::Pages => format!("{}\n{text}\n\n", now()),
            Shown::Json => format!("{text}\n"),
        })
    }
}

fn quiet(answered: Instant) -> String {
    format!("the queue database has not answered for {} s", answered.elapsed().as_secs())
}

/// A look below its time, and what there is to say of it: why on a line of its own, as lines are cut where the window ends.
fn framed(text: &str, every: Duration, trouble: Option<&str>) -> String {
    match trouble {
        Some(trouble) if text.is_empty() => format!("{}: {trouble}", now()),
        Some(trouble) => format!("{}, this is older: {trouble}\n{text}", now()),
        None => format!("{}, every {} s; Ctrl-C ends\n{text}", now(), every.as_secs()),
    }
}

fn now() -> impl Display {
    clock::now().format("%Y-%m-%d %H:%M:%SZ")
}

/// The terminal's other screen; left when this goes.
struct Screen(Term);

impl Screen {
    /// `None` where stdout is no terminal that can be drawn on.
    fn on_terminal() -> Option<Screen> {
        let term = Term::stdout();
        let can = term.is_term() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        (can && matches!(write(ENTER), Ok(true))).then(|| Screen(term))
    }

    fn frame(&self, text: &str) -> String {
        let (rows, columns) = self.0.size();
        let mut lines = fitted(text, rows.into(), columns.into());
        // Cleared before it is written: after the last column a terminal takes that one along.
        let last = lines.pop().unwrap_or_default();
        let lines: String = lines.into_iter().map(|line| format!("{CLEAR_LINE}{line}\n")).collect();
        format!("{HOME}{lines}{CLEAR_REST}{last}")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(LEAVE);
    }
}

/// As many lines as there is room for, none of them longer; the last says how many are missing.
fn fitted(text: &str, rows: usize, columns: usize) -> Vec<String> {
    let all = text.lines().count();
    let kept = if all > rows { rows.saturating_sub(1) } else { all };
    let mut lines: Vec<String> = text.lines().take(kept).map(str::to_owned).collect();
    if kept < all && rows > 0 {
        lines.push(format!("… {} more lines: make the window larger, or name a `--customer`", all - kept));
    }
    for line in lines.iter_mut().filter(|line| measure_text_width(line) > columns) {
        *line = truncate_str(line, columns, "…").into_owned();
    }
    lines
}

/// Answers whether anybody reads.
fn write(text: &str) -> anyhow::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        done => done.map(|()| true).context("writing to stdout"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_cut() {
        assert_eq!(fitted("one\ntwo", 2, 80), ["one", "two"]);
        let cut = fitted("one\ntwo\nthree\nfour", 3, 80);
        assert_eq!(cut[..2], ["one", "two"]);
        assert!(cut.len() == 3 && cut[2].starts_with("… 2 more lines"), "{cut:?}");
        assert_eq!(fitted("a long line\nb", 2, 6), ["a lon…", "b"]);
        for rows in 0..6 {
            for columns in 0..30 {
                let cut = fitted("one\n\u{1b}[31mtwo\u{1b}[0m and more\nthree\n┌──────────────┐", rows, columns);
                assert!(cut.len() <= rows, "{rows}: {cut:?}");
                assert!(cut.iter().all(|line| measure_text_width(line) <= columns.max(1)), "{columns}: {cut:?}");
            }
        }
    }
}
