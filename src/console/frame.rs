//! What every page is made of: the frame around it, tables, times, badges, forms.

use chrono::{DateTime, SecondsFormat, Utc};
use maud::{DOCTYPE, Markup, Render, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Console;
use super::access::{Role, Visitor};
use crate::clock;
pub(super) use crate::mapping::told_key as key;
use crate::ops::{CustomerStatus, Urgency};
use crate::told;
pub(super) use crate::told::{counted, grouped};

const NAV: [(&str, &str); 8] = [
    ("/", "Overview"),
    ("/dead-letters", "Dead letters"),
    ("/quarantine", "Quarantine"),
    ("/conflicts", "Conflicts"),
    ("/reconciliation", "Reconciliation"),
    ("/actions", "Actions"),
    ("/configuration", "Configuration"),
    ("/health", "Health"),
];

/// Where a page stands.
#[derive(Debug, Clone)]
pub(super) struct Place<'p> {
    /// The entry of the navigation it belongs to.
    nav: &'p str,
    title: &'p str,
    /// Whether it is kept up to date while it is looked at.
    live: bool,
    /// Whether it stands in the place of another, of which it says what is wrong.
    problem: bool,
}

impl<'p> Place<'p> {
    pub fn live(nav: &'p str, title: &'p str) -> Place<'p> {
        Place { nav, title, live: true, problem: false }
    }

    pub fn still(nav: &'p str, title: &'p str) -> Place<'p> {
        Place { nav, title, live: false, problem: false }
    }

    /// Asked for again until it is over, if asking is all that was done.
    pub fn problem(title: &'p str, live: bool) -> Place<'p> {
        Place { nav: "", title, live, problem: true }
    }
}

/// A whole page.
pub(super) fn page(console: &Console, visitor: Option<&Visitor>, place: Place<'_>, main: Markup) -> Markup {
    let Place { nav, title, live, problem } = place;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · sync-bridge" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/console.css";
                script src="/assets/console.js" defer {}
            }
            body {
                a class="skip" href="#main" { "Skip to the content" }
                header {
                    a class="brand" href="/" { img src="/assets/icon.svg" alt="" width="24" height="24"; "sync-bridge" }
                    @if visitor.is_some() {
                        nav aria-label="Pages" {
                            @for (path, name) in NAV {
                                a href=(path) aria-current=[(path == nav).then_some("page")] { (name) }
                            }
                        }
                    }
                    @if let Some(visitor) = visitor {
                        div class="who" {
                            span { (visitor.who) @if visitor.role == Role::Read { " (may look only)" } }
                            @if visitor.logged_in {
                                form method="post" action="/logout" { (csrf(visitor)) button type="submit" class="quiet" { "Log out" } }
                            }
                        }
                    }
                }
                main id="main" tabindex="-1" data-live=[live.then_some("5")] data-problem=[problem.then_some("")] {
                    div class="title" {
                        h1 { (title) }
                        @if live { p class="updated" { "as of " (Time(clock::now())) } }
                    }
                    (main)
                }
                footer { "sync-bridge " (env!("CARGO_PKG_VERSION")) " · " (console.env.config.path.display()) }
            }
        }
    }
}

/// A moment, in UTC; the browser adds how long ago that is.
pub(super) struct Time(pub DateTime<Utc>);

impl Render for Time {
    fn render(&self) -> Markup {
        html! { time datetime=(self.0.to_rfc3339_opts(SecondsFormat::Millis, true)) { (self.0.format("%Y-%m-%d %H:%M:%SZ")) } }
    }
}

pub(super) fn time(at: Option<DateTime<Utc>>) -> Markup {
    html! { @match at { Some(at) => (Time(at)), None => span class="none" { "–" } } }
}

/// Why somebody did something, if that was said.
pub(super) fn why(reason: Option<&str>) -> Markup {
    html! { @match reason { Some(reason) => (reason), None => span class="none" { "–" } } }
}

/// A text in which commands stand between backticks.
pub(super) fn with_code(text: &str) -> Markup {
    html! { @for (place, part) in text.split('`').enumerate() { @if place % 2 == 1 { code { (part) } } @else { (part) } } }
}

/// As exact as a person needs it, together on one line however narrow the column.
pub(super) fn duration(secs: f64) -> String {
    told::duration(secs).replace(' ', "\u{a0}")
}

/// A number that leads to what it counts; nothing to be seen is no link.
pub(super) fn count(number: i64, to: &str) -> Markup {
    html! { @if number == 0 { span class="zero" { "0" } } @else { a href=(to) { (grouped(number)) } } }
}

/// How bad a state is: the words alone would be read one by one.
pub(super) fn state(state: &str) -> Markup {
    let tone = match state {
        "idle" | "done" | "closed" | "settled" | "resolved" => "good",
        "running" | "open" | "loading" | "released" | "queued" | "waiting for its turn" => "busy",
        "dead" | "failed" => "bad",
        of_customer => match Urgency::of_state(of_customer) {
            Urgency::Now => "bad",
            Urgency::Soon => "warn",
            Urgency::AtWork | Urgency::AtRest => "plain",
        },
    };
    html! { span class={ "state " (tone) } { (state) } }
}

/// How a customer stands, as bad as what is listed of it for a person.
pub(super) fn standing(status: &CustomerStatus) -> Markup {
    match status.urgency() {
        Urgency::Now => html! { span class="state bad" { (status.state) } },
        Urgency::Soon => html! { span class="state warn" { (status.state) } },
        Urgency::AtWork | Urgency::AtRest => state(&status.state),
    }
}

/// A table that a phone shows as cards: each cell knows its column.
pub(super) struct Table<'t> {
    /// What it is, for those who do not see it.
    pub caption: &'t str,
    pub columns: &'t [&'t str],
    pub rows: Vec<Vec<Markup>>,
    /// What it would show.
    pub empty: &'t str,
}

impl Render for Table<'_> {
    fn render(&self) -> Markup {
        html! {
            @if self.rows.is_empty() {
                p class="empty" { (self.empty) }
            } @else {
                div class="scroll" tabindex="0" role="region" aria-label=(self.caption) {
                    table {
                        caption class="unseen" { (self.caption) }
                        thead { tr { @for column in self.columns { th scope="col" { @if column.is_empty() { span class="unseen" { "Choice" } } @else { (column) } } } } }
                        tbody {
                            @for row in &self.rows {
                                tr { @for (column, cell) in self.columns.iter().zip(row) { td data-label=(column) { div { (cell) } } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What each form brings back.
pub(super) fn csrf(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="csrf" value=(visitor.csrf); }
}

/// Why something is done; kept with it.
pub(super) fn reason() -> Markup {
    html! { label class="reason" { "Why" input type="text" name="reason" required maxlength=(super::REASON_MAX) placeholder="kept with what is done"; } }
}

pub(super) fn may_act(visitor: &Visitor) -> bool {
    visitor.role == Role::Act
}

/// The box before a row of a table, to choose it by; on a phone, where no head stands above it, with the word.
pub(super) fn chosen(id: i64, what: &str) -> Markup {
    html! { label class="choose" { input type="checkbox" name="id" value=(id) aria-label={ "Choose " (what) " " (id) }; span aria-hidden="true" { "Choose" } } }
}

/// A choice among names, for a filter.
pub(super) fn choice<'a>(
    label: &str,
    name: &str,
    all: &str,
    chosen: Option<&str>,
    options: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Markup {
    html! {
        label {
            (label)
            select name=(name) {
                option value="" { (all) }
                @for (value, text) in options {
                    option value=(value) selected[chosen == Some(value)] { (text) }
                }
            }
        }
    }
}

/// What was just done, told once on the page that follows; of what an address says only what the console wrote into it.
pub(super) fn done(console: &Console, told: Option<&str>) -> Markup {
    html! { @if let Some(told) = told.and_then(|told| console.access.vouches(told)) { p class="done" role="status" { (told) } } }
}

/// What stands for itself in an address; a dot would not as a whole part of one.
const SPECIAL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// A part of a path or query, as it may stand in one.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, SPECIAL).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_database_stays_text() {
        let rows = vec![vec![html! { ("<script>alert(1)</script>") }]];
        let table = Table { caption: "a", columns: &["b"], rows, empty: "" };
        assert!(table.render().into_string().contains("&lt;script&gt;"));
    }

    #[test]
    fn an_empty_table_says_what_it_would_show() {
        let table = Table { caption: "a", columns: &["b"], rows: Vec::new(), empty: "Rows would be here." };
        assert!(table.render().into_string().contains("Rows would be here."));
    }
}
