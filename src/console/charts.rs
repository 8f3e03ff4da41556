//! Pictures, drawn as SVG by the server. Pure: from numbers to markup. Each says in words what it shows, for those who do not see it.

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::frame::{duration, grouped};
use crate::ops::{Minute, RunShown, Settled};
use crate::told::counted;

/// A picture's own measure: it is stretched to the room there is. Words stand beside it, as large on a phone as elsewhere.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 140.0;

/// Rows a timeline's pages are drawn in, so that those of one moment do not hide each other.
const LANES_MAX: usize = 12;

/// The smallest of 1, 2, 5, 10, 20, … that is not below.
fn ceiling(value: f64) -> f64 {
    if value <= 1.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

/// Rows per minute: up to the platform, down to legacy.
pub(super) fn rates(minutes: &[Minute]) -> Markup {
    let most = minutes.iter().map(|one| one.rows_to_platform.max(one.rows_to_legacy)).max().unwrap_or(0);
    let (up, down): (i64, i64) =
        minutes.iter().fold((0, 0), |sum, one| (sum.0 + one.rows_to_platform, sum.1 + one.rows_to_legacy));
    let top = ceiling(most as f64);
    let middle = HEIGHT / 2.0;
    let width = WIDTH / (minutes.len().max(1) as f64);
    let told = format!(
        "In the last {} {} went to the platform and {} to legacy, at most {} in a minute.",
        counted(minutes.len(), "minute"),
        counted(up, "row"),
        grouped(down),
        grouped(most)
    );
    let picture = html! {
        line class="axis" x1="0" y1=(middle) x2=(WIDTH) y2=(middle) {}
        @for (index, minute) in minutes.iter().enumerate() {
            @let x = width * index as f64;
            @let up = middle * (minute.rows_to_platform as f64) / top;
            @let down = middle * (minute.rows_to_legacy as f64) / top;
            g {
                title { (minute.at.format("%H:%MZ")) ": " (grouped(minute.rows_to_platform)) " to platform, " (grouped(minute.rows_to_legacy)) " to legacy" }
                rect class="platform" x=(round(x)) y=(round(middle - up)) width=(round(width * 0.8)) height=(round(up)) {}
                rect class="legacy" x=(round(x)) y=(round(middle)) width=(round(width * 0.8)) height=(round(down)) {}
            }
        }
    };
    let top = grouped(top as i64);
    html! {
        figure {
            figcaption { "Rows per minute" span class="key platform" { "to platform" } span class="key legacy" { "to legacy" } }
            (chart(&told, &[&top, "0", &top], [minutes.first(), minutes.last()].map(|one| one.map(|one| one.at)), &picture))
        }
    }
}

/// How old the oldest change was that was not known to be on the other side.
pub(super) fn freshness(settled: &[Settled], from: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    let points = saw(settled, from, now);
    let worst = points.iter().map(|(_, age)| *age).fold(0.0, f64::max);
    let top = ceiling(worst);
    let span = secs(now - from).max(1.0);
    let at = |(at, age): &(DateTime<Utc>, f64)| {
        let x = WIDTH * secs(*at - from) / span;
        format!("{},{}", round(x), round(HEIGHT - HEIGHT * age / top))
    };
    let line = points.iter().map(at).collect::<Vec<_>>().join(" ");
    let told = match points.is_empty() {
        true => "Nothing is known of this time.".to_owned(),
        false => format!("At most {} in this time.", duration(worst)),
    };
    let picture = html! {
        line class="axis" x1="0" y1=(HEIGHT) x2=(WIDTH) y2=(HEIGHT) {}
        @if !points.is_empty() { polyline class="line" points=(line) {} }
    };
    html! {
        figure {
            figcaption { "Freshness: age of what may not have arrived yet" }
            (chart(&told, &[&duration(top), "0"], [Some(from), Some(now)], &picture))
        }
    }
}

/// A picture between its scale, from the top down, and its time; and what it shows, in words.
fn chart(told: &str, scale: &[&str], ends: [Option<DateTime<Utc>>; 2], picture: &Markup) -> Markup {
    html! {
        div class="chart" {
            div class="scale" aria-hidden="true" { @for mark in scale { span { (mark) } } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(told) { (picture) }
            div class="ends" aria-hidden="true" { @for at in ends { span { @if let Some(at) = at { (at.format("%H:%MZ")) } } } }
        }
        p class="told" { (told) }
    }
}

/// The age over time: it grows by a second each second, and falls where something became known.
fn saw(settled: &[Settled], from: DateTime<Utc>, now: DateTime<Utc>) -> Vec<(DateTime<Utc>, f64)> {
    let mut points = Vec::new();
    let mut known: Option<DateTime<Utc>> = None;
    for one in settled {
        if one.at >= from {
            if let Some(up_to) = known {
                if points.is_empty() {
                    points.push((from, secs(from - up_to)));
                }
                points.push((one.at, secs(one.at - up_to)));
            }
            points.push((one.at, secs(one.at - one.up_to.max(known.unwrap_or(one.up_to)))));
        }
        known = known.max(Some(one.up_to));
    }
    if let Some(up_to) = known {
        if points.is_empty() {
            points.push((from.max(up_to), secs(from - up_to)));
        }
        points.push((now, secs(now - up_to)));
    }
    points
}

/// A run from its opening on: its stages, and below each its pages while they were worked on.
pub(super) fn timeline(run: &RunShown, now: DateTime<Utc>) -> Markup {
    const STAGE: f64 = 16.0;
    const LANE: f64 = 8.0;
    let (from, to) = (run.run.opened_at, run.run.ended_at.unwrap_or(now));
    let span = secs(to - from).max(0.001);
    let x = |at: DateTime<Utc>| WIDTH * (secs(at - from) / span).clamp(0.0, 1.0);
    let bar = |class: String, (begin, end): (DateTime<Utc>, DateTime<Utc>), (y, height): (f64, f64), told: &str| {
        let width = (x(end) - x(begin)).max(2.0);
        html! { rect class=(class) x=(round(x(begin).min(WIDTH - width))) y=(y) width=(round(width)) height=(height) { title { (told) } } }
    };
    let mut stages: Vec<(&str, String, f64, Vec<Markup>)> = Vec::new();
    for stage in &run.stages {
        let (begin, end) = (stage.opened_at.unwrap_or(stage.created_at), stage.ended_at.unwrap_or(to));
        let took = format!("{}: {} in {}", stage.name, duration(secs(end - begin)), counted(stage.pages, "page"));
        let mut bars = vec![bar(format!("stage {}", stage.state), (begin, end), (2.0, 12.0), &took)];
        // Each page in the first lane that is free by then.
        let mut lanes: Vec<DateTime<Utc>> = Vec::new();
        for page in run.page_list.iter().filter(|page| page.stage == stage.name) {
            let Some(begin) = page.released_at else { continue };
            let end = page.ended_at.unwrap_or(to);
            let lane = lanes.iter().position(|free| *free <= begin).unwrap_or(lanes.len());
            if lane >= LANES_MAX {
                continue;
            }
            if lane == lanes.len() {
                lanes.push(end)
            } else {
                lanes[lane] = end
            }
            let what = format!(
                "page {}: {} of {}, {}, {}, {}",
                page.id,
                page.entity,
                page.side,
                page.state,
                counted(page.rows_read, "row"),
                duration(secs(end - begin))
            );
            let top = STAGE + LANE * lane as f64;
            bars.push(bar(format!("page {}", page.state), (begin, end), (top, LANE - 2.0), &what));
        }
        stages.push((&stage.name, took, STAGE + LANE * lanes.len() as f64, bars));
    }
    let told = format!(
        "{} and {} in {}.",
        counted(run.stages.len(), "stage"),
        counted(run.run.pages, "page"),
        duration(secs(to - from))
    );
    html! {
        figure {
            figcaption {
                "From its opening to its end"
                span class="key stage" { "stage" }
                @for (state, words) in [("done", "page"), ("released", "page at work"), ("dead", "page that died")] {
                    @if run.page_list.iter().any(|page| page.state == state) { span class={ "key page " (state) } { (words) } }
                }
            }
            div class="timeline" {
                @for (name, took, height, bars) in &stages {
                    span { (name) }
                    svg viewBox={ "0 0 " (WIDTH) " " (height) } height=(height) preserveAspectRatio="none" role="img" aria-label=(took) {
                        @for bar in bars { (bar) }
                    }
                }
                div class="ends" aria-hidden="true" { span { "0" } span { (duration(secs(to - from))) } }
            }
            p class="told" { (told) }
        }
    }
}

fn secs(delta: TimeDelta) -> f64 {
    delta.as_seconds_f64().max(0.0)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + secs, 0).expect("a time")
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        for (value, top) in [(0.0, 1.0), (1.0, 1.0), (3.0, 5.0), (11.0, 20.0), (99.0, 100.0), (4_200.0, 5_000.0)] {
            assert_eq!(ceiling(value), top, "{value}");
        }
    }

    #[test]
    fn freshness_grows_with_time_and_falls_where_something_is_known() {
        let settled = [Settled { at: at(-10), up_to: at(-12) }, Settled { at: at(60), up_to: at(55) }];
        let points = saw(&settled, at(0), at(100));
        assert_eq!(points, [(at(0), 12.0), (at(60), 72.0), (at(60), 5.0), (at(100), 45.0)]);
        assert_eq!(saw(&[], at(0), at(100)), []);
        let only_before = saw(&settled[..1], at(0), at(100));
        assert_eq!(only_before.last(), Some(&(at(100), 112.0)));
    }

    #[test]
    fn a_run_that_ended_late_does_not_make_older_what_is_known_already() {
        let settled = [Settled { at: at(10), up_to: at(9) }, Settled { at: at(20), up_to: at(0) }];
        let points = saw(&settled, at(0), at(30));
        assert_eq!(points.last(), Some(&(at(30), 21.0)));
    }
}
