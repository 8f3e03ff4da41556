//! Pictures, drawn as SVG by the server. Pure: from numbers to markup. Each says in words what it shows, for those who do not see it.

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::frame::{duration, grouped};
use crate::ops::{Minute, RunShown, Settled};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 160.0;
/// Room for the scale's words.
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 20.0;

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
    let middle = (HEIGHT - BOTTOM) / 2.0;
    let width = (WIDTH - LEFT) / (minutes.len().max(1) as f64);
    let told = format!(
        "In the last {} minutes {} rows went to the platform and {} to legacy, at most {} in a minute.",
        minutes.len(),
        grouped(up),
        grouped(down),
        grouped(most)
    );
    html! {
        figure {
            figcaption { "Rows per minute" span class="key platform" { "to platform" } span class="key legacy" { "to legacy" } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(told) {
                line class="axis" x1=(LEFT) y1=(middle) x2=(WIDTH) y2=(middle) {}
                text class="scale" x=(LEFT - 6.0) y="12" text-anchor="end" { (grouped(top as i64)) }
                text class="scale" x=(LEFT - 6.0) y=(middle + 4.0) text-anchor="end" { "0" }
                text class="scale" x=(LEFT - 6.0) y=(HEIGHT - BOTTOM) text-anchor="end" { (grouped(top as i64)) }
                @for (index, minute) in minutes.iter().enumerate() {
                    @let x = LEFT + width * index as f64;
                    @let up = middle * (minute.rows_to_platform as f64) / top;
                    @let down = middle * (minute.rows_to_legacy as f64) / top;
                    g {
                        title { (minute.at.format("%H:%MZ")) ": " (grouped(minute.rows_to_platform)) " to platform, " (grouped(minute.rows_to_legacy)) " to legacy" }
                        rect class="platform" x=(round(x)) y=(round(middle - up)) width=(round(width * 0.8)) height=(round(up)) {}
                        rect class="legacy" x=(round(x)) y=(round(middle)) width=(round(width * 0.8)) height=(round(down)) {}
                    }
                }
                (ends(minutes.first().map(|one| one.at), minutes.last().map(|one| one.at)))
            }
            p class="told" { (told) }
        }
    }
}

/// How old the oldest change was that was not known to be on the other side.
pub(super) fn freshness(settled: &[Settled], from: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    let points = saw(settled, from, now);
    let worst = points.iter().map(|(_, age)| *age).fold(0.0, f64::max);
    let top = ceiling(worst);
    let (low, span) = (HEIGHT - BOTTOM, secs(now - from).max(1.0));
    let at = |(at, age): &(DateTime<Utc>, f64)| {
        let x = LEFT + (WIDTH - LEFT) * secs(*at - from) / span;
        format!("{},{}", round(x), round(low - (low - 6.0) * age / top))
    };
    let line = points.iter().map(at).collect::<Vec<_>>().join(" ");
    let told = match points.last() {
        None => "Nothing is known of this time.".to_owned(),
        Some((_, last)) => format!("At most {} in this time; {} now.", duration(worst), duration(*last)),
    };
    html! {
        figure {
            figcaption { "Freshness: age of what may not have arrived yet" }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(told) {
                line class="axis" x1=(LEFT) y1=(low) x2=(WIDTH) y2=(low) {}
                text class="scale" x=(LEFT - 6.0) y="12" text-anchor="end" { (duration(top)) }
                text class="scale" x=(LEFT - 6.0) y=(low) text-anchor="end" { "0" }
                @if !points.is_empty() { polyline class="line" points=(line) {} }
                (ends(Some(from), Some(now)))
            }
            p class="told" { (told) }
        }
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
    const ROW: f64 = 16.0;
    let (from, to) = (run.run.opened_at, run.run.ended_at.unwrap_or(now));
    let span = secs(to - from).max(0.001);
    let left = 130.0;
    let x = |at: DateTime<Utc>| left + (WIDTH - left) * (secs(at - from) / span).clamp(0.0, 1.0);
    let mut y = 0.0;
    let mut rows: Vec<Markup> = Vec::new();
    for stage in &run.stages {
        let (begin, end) = (stage.opened_at.unwrap_or(stage.created_at), stage.ended_at.unwrap_or(to));
        let took = format!("{}: {} in {} pages", stage.name, duration(secs(end - begin)), stage.pages);
        rows.push(html! {
            text class="scale" x=(left - 8.0) y=(y + 12.0) text-anchor="end" { (stage.name) }
            rect class={ "stage " (stage.state) } x=(round(x(begin))) y=(y + 2.0) width=(round((x(end) - x(begin)).max(2.0))) height="12" { title { (took) } }
        });
        y += ROW;
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
            let top = y + 8.0 * lane as f64;
            let what = format!(
                "page {}: {} of {}, {}, {} rows, {}",
                page.id,
                page.entity,
                page.side,
                page.state,
                page.rows_read,
                duration(secs(end - begin))
            );
            rows.push(html! {
                rect class={ "page " (page.state) } x=(round(x(begin))) y=(top + 1.0) width=(round((x(end) - x(begin)).max(1.5))) height="6" { title { (what) } }
            });
        }
        y += 8.0 * lanes.len() as f64 + 4.0;
    }
    let told = format!("{} stages and {} pages in {}.", run.stages.len(), run.run.pages, duration(secs(to - from)));
    html! {
        figure {
            figcaption { "From its opening to its end" }
            svg viewBox={ "0 0 " (WIDTH) " " (y.max(ROW) + BOTTOM) } role="img" aria-label=(told) {
                @for row in &rows { (row) }
                text class="scale" x=(left) y=(y.max(ROW) + 14.0) { "0" }
                text class="scale" x=(WIDTH) y=(y.max(ROW) + 14.0) text-anchor="end" { (duration(secs(to - from))) }
            }
            p class="told" { (told) }
        }
    }
}

fn ends(first: Option<DateTime<Utc>>, last: Option<DateTime<Utc>>) -> Markup {
    let shown = |at: Option<DateTime<Utc>>| at.map(|at| at.format("%H:%MZ").to_string()).unwrap_or_default();
    html! {
        text class="scale" x=(LEFT) y=(HEIGHT - 4.0) { (shown(first)) }
        text class="scale" x=(WIDTH) y=(HEIGHT - 4.0) text-anchor="end" { (shown(last)) }
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
