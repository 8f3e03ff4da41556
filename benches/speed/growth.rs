//! How cost grows with rows, with customers and with workers: measured at several sizes, and drawn into `docs/growth/`.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use plotters::prelude::*;

use super::Figure;
use super::load::upserted;
use super::many::at_rest;
use super::place::Place;

/// Time per row may grow so many times as much as that of `COPY` and upsert.
const GROWTH_MAX: f64 = 1.2;
const CUSTOMERS: [u32; 3] = [100, 300, 1_000];
/// For how long they are looked at.
const MEASURED: Duration = Duration::from_secs(61);
const WORKERS: [usize; 3] = [1, 2, 4];
/// Loaded by them.
const ROWS: u32 = 200_000;

/// One line of a picture: its name, and its points.
type Line = (&'static str, Vec<(f64, f64)>);

pub async fn growth(place: &Place, rows: &[u32]) -> Vec<Figure> {
    let mut figures = with_rows(place, rows).await;
    figures.extend(with_workers(place).await);
    figures.extend(with_customers(place).await);
    figures
}

async fn with_rows(place: &Place, sizes: &[u32]) -> Vec<Figure> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for &rows in sizes {
        place.people(rows).await;
        let each = |secs: f64| (f64::from(rows), secs * 1e6 / f64::from(rows));
        theirs.push(each(upserted(place).await));
        place.execute("postgres", "checkpoint").await;
        let (ended, said) = place.run();
        assert_eq!(said["rows_to_platform"], rows, "{said}");
        ours.push(each(ended.secs));
    }
    let grew = |points: &[(f64, f64)]| points[points.len() - 1].1 / points[0].1;
    let figure = Figure::of(
        format!("time per row of a first load from {} to {} rows grows, times", sizes[0], sizes[sizes.len() - 1]),
        "",
        &[grew(&ours)],
    );
    let most = GROWTH_MAX * grew(&theirs);
    let figure = figure.at_most(most).beside("COPY and upsert with UUID keys", grew(&theirs));
    draw("rows", ["rows", "us for each"], &[("sync-bridge, first load", ours), ("COPY and upsert", theirs)]);
    vec![figure]
}

/// The same load by several processes.
async fn with_workers(place: &Place) -> Vec<Figure> {
    let mut points = Vec::new();
    for count in WORKERS {
        place.people(ROWS).await;
        let workers: Vec<_> = (0..count).map(|_| place.worker()).collect();
        let began = Instant::now();
        place.succeeds(&["run", "--customer", "acme"]);
        points.push((count as f64, f64::from(ROWS) / began.elapsed().as_secs_f64()));
        for worker in workers {
            worker.stop().await;
        }
    }
    let figure =
        |(count, rate): &(f64, f64)| Figure::of(format!("a first load by {count} workers"), "rows/s", &[*rate]);
    let figures = points.iter().map(figure).collect();
    draw("workers", ["worker processes", "rows a second"], &[("sync-bridge, first load", points)]);
    figures
}

/// A tick each minute for customers of whom nothing changes.
async fn with_customers(place: &Place) -> Vec<Figure> {
    let (mut workers, mut schedulers) = (Vec::new(), Vec::new());
    for customers in CUSTOMERS {
        let [worker, scheduler] = at_rest(place, customers, MEASURED).await.cores;
        workers.push((f64::from(customers), worker));
        schedulers.push((f64::from(customers), scheduler));
    }
    let figure = |(customers, cores): &(f64, f64)| {
        Figure::of(format!("{customers} idle customers: processors of the worker"), "", &[*cores])
    };
    let figures = workers.iter().map(figure).collect();
    draw("customers", ["idle customers", "processors"], &[("a worker", workers), ("a scheduler", schedulers)]);
    figures
}

/// From zero on, with room above.
fn axis(of: impl Iterator<Item = f64>) -> Range<f64> {
    0.0..of.fold(0.0_f64, f64::max) * 1.15
}

fn draw(name: &str, [across, up]: [&str; 2], lines: &[Line]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/growth");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join(format!("{name}.svg"));
    let area = SVGBackend::new(&file, (640, 360)).into_drawing_area();
    area.fill(&WHITE).expect("drawing");
    let points = || lines.iter().flat_map(|(_, points)| points);
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(axis(points().map(|point| point.0)), axis(points().map(|point| point.1)))
        .expect("axes");
    chart.configure_mesh().x_desc(across).y_desc(up).light_line_style(TRANSPARENT).draw().expect("drawing");
    for (at, (name, points)) in lines.iter().enumerate() {
        let colour = [RGBColor(0, 92, 175), RGBColor(180, 83, 9)][at % 2];
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(4);
        let line = chart.draw_series(line).expect("drawing").label(*name);
        line.legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()
        .expect("drawing");
    area.present().expect("writing the picture");
}
