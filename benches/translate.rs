//! How fast rows are translated and hashed: `cargo bench --bench translate`. Ten fields of ten lenses, as a page does it for a row that
//! nobody changed: the canonical form of both sides, and their hashes compared. Beside it, in the same run, what it costs to look
//! at every byte of the same rows once, which no translation could avoid.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sync_bridge::config::{
    EntityId, EpochUnit, FirstContact, Hours, Lens as Declared, Policy, Side, TextFold, ValuePair,
};
use sync_bridge::mapping::{
    Cell, Class, Column, Columns, DIGITS, Field, Lens, Links, Mapping, NullMarks, Shape, StampKind,
};

/// Rows of a page; the same ones again and again, as a page's rows are in the cache when they are decided about.
const ROWS: usize = 1_000;
const ROUNDS_AT_LEAST: usize = 50;
const TIME: Duration = Duration::from_secs(3);

fn main() {
    let mapping = mapping();
    let (legacy, platform) = (rows(Side::Legacy), rows(Side::Platform));
    let links = Links::default();
    for (legacy, platform) in legacy.iter().zip(&platform) {
        let equal = mapping.canonical(Side::Legacy, legacy, &links).expect("translatable")
            == mapping.canonical(Side::Platform, platform, &links).expect("translatable");
        assert!(equal, "the rows are to be equal: {legacy:?} {platform:?}");
    }

    let translated = rate(|| {
        let mut equal = 0;
        for (legacy, platform) in legacy.iter().zip(&platform) {
            for field in &mapping.fields {
                let hash = |side, cells| field.get(&mapping, side, cells, &links).map_or(0, |value| value.hash());
                equal += usize::from(hash(Side::Legacy, legacy) == hash(Side::Platform, platform));
            }
        }
        equal
    });
    let looked_at = rate(|| {
        let bytes = legacy.iter().chain(&platform).flatten().flatten().flat_map(|cell| cell.bytes());
        bytes.fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)))
    });
    println!(
        "pairs of rows of {} fields, both sides translated, hashed and compared, per second on one core:",
        mapping.fields.len()
    );
    println!("  translated     {translated:>12.0}   (rows: {:.0})", translated * 2.0);
    println!("  looked at only {looked_at:>12.0}   ratio {:.2}", looked_at / translated);
    for field in &mapping.fields {
        let one = rate(|| {
            let mut sum = 0_u64;
            for (legacy, platform) in legacy.iter().zip(&platform) {
                for (side, cells) in [(Side::Legacy, legacy), (Side::Platform, platform)] {
                    sum = sum.wrapping_add(field.get(&mapping, side, cells, &links).map_or(0, |value| value.hash()));
                }
            }
            sum
        });
        println!("  {:<14} {:>6.0} ns a value", field.name, 1e9 / one / 2.0);
    }
}

/// How often a thousand rows go through, as rows per second: the best of several turns, since the machine has other work too.
fn rate<T>(mut once: impl FnMut() -> T) -> f64 {
    let start = Instant::now();
    let mut best = Duration::MAX;
    let mut rounds = 0;
    while rounds < ROUNDS_AT_LEAST || (start.elapsed() < TIME / 12 && rounds < 100_000) {
        let turn = Instant::now();
        black_box(once());
        best = best.min(turn.elapsed());
        rounds += 1;
    }
    ROWS as f64 / best.as_secs_f64()
}

struct Made {
    name: &'static str,
    lens: Declared,
    legacy: Vec<Class>,
    platform: Vec<Class>,
}

/// Ten fields as people have them.
fn fields() -> Vec<Made> {
    use Class::{Date, Instant, Number, Text, Uuid};
    let made = |name, lens, legacy: &[Class], platform: &[Class]| Made {
        name,
        lens,
        legacy: legacy.to_vec(),
        platform: platform.to_vec(),
    };
    let value = |legacy: &str, platform: &str| ValuePair {
        legacy: legacy.into(),
        platform: vec![platform.into()],
        is_written: true,
    };
    vec![
        made("text", Declared::Same, &[Text], &[Text]),
        made("number", Declared::Same, &[Number], &[Number]),
        made("uuid", Declared::Same, &[Uuid], &[Uuid]),
        made("lowercase", Declared::Fold(vec![TextFold::Trim, TextFold::Lowercase]), &[Text], &[Text]),
        made("values", Declared::Values(vec![value("Y", "active"), value("N", "suspended")]), &[Text], &[Text]),
        made("join", Declared::Join(" ".into()), &[Text, Text], &[Text]),
        made("scale", Declared::Scale(2), &[Number], &[Number]),
        made("time", Declared::Time(Hours::EARLIER_AND_LATER), &[Instant], &[Instant]),
        made("date", Declared::Format("%Y%m%d".into()), &[Text], &[Date]),
        made("epoch", Declared::Epoch(EpochUnit::Seconds), &[Number], &[Instant]),
    ]
}

fn rows(side: Side) -> Vec<Vec<Cell>> {
    let row = |n: usize| -> Vec<String> {
        let (first, last) = (["Mary Ann", "José", "Li"][n % 3], ["van der Berg", "Öztürk", "O'Brien"][n % 3]);
        let minute = n % 60;
        match side {
            Side::Legacy => vec![
                format!("Some street {n}, somewhere"),
                format!("{}.50", n * 17),
                format!("6f1c0a52-0000-4000-8000-{n:012}"),
                format!("Person.{n}@Example.org "),
                ["Y", "N"][n % 2].into(),
                first.into(),
                last.into(),
                (n * 1_995).to_string(),
                format!("2026-07-01 12:{minute:02}:00.123456"),
                format!("202607{:02}", n % 28 + 1),
                (1_700_000_000 + n).to_string(),
            ],
            Side::Platform => vec![
                format!("Some street {n}, somewhere"),
                format!("{}.5", n * 17),
                format!("6f1c0a52-0000-4000-8000-{n:012}"),
                format!("person.{n}@example.org"),
                ["active", "suspended"][n % 2].into(),
                format!("{first} {last}"),
                format!("{}.{:02}", n * 1_995 / 100, n * 1_995 % 100),
                format!("2026-07-01 10:{minute:02}:00.123456+00"),
                format!("2026-07-{:02}", n % 28 + 1),
                chrono::DateTime::from_timestamp(1_700_000_000 + n as i64, 0)
                    .expect("a moment")
                    .format("%Y-%m-%d %H:%M:%S+00")
                    .to_string(),
            ],
        }
    };
    (0..ROWS).map(|n| row(n).into_iter().map(|cell| Some(cell.into())).collect()).collect()
}

fn mapping() -> Mapping {
    let column = |class: Class, local_time: bool| Column {
        name: "c".into(),
        type_sql: "pg_catalog.text".into(),
        class,
        element: None,
        nullable: true,
        local_time,
        caseless: false,
        fixed: false,
    };
    let shape = |side: Side| Shape {
        side,
        columns: Vec::new(),
        key: vec![column(Class::Text, false)],
        stamp: Some(column(Class::Instant, false)),
        stamp_kind: StampKind::Timestamptz { digits: DIGITS },
        created_at: None,
        zone: if side == Side::Legacy { chrono_tz::Europe::Berlin } else { chrono_tz::UTC },
    };
    let (mut legacy, mut platform) = (shape(Side::Legacy), shape(Side::Platform));
    let place = |shape: &mut Shape, classes: &[Class]| -> Vec<usize> {
        let first = shape.columns.len();
        let local = shape.side == Side::Legacy;
        shape.columns.extend(classes.iter().map(|class| column(*class, local && *class == Class::Instant)));
        (first..shape.columns.len()).collect()
    };
    let mut resolved = Vec::new();
    for (n, made) in fields().into_iter().enumerate() {
        let (on_legacy, on_platform) = (place(&mut legacy, &made.legacy), place(&mut platform, &made.platform));
        let columns =
            |shape: &'_ Shape, at: &[usize]| at.iter().map(|&at| shape.columns[at].clone()).collect::<Vec<_>>();
        let (l, p) = (columns(&legacy, &on_legacy), columns(&platform, &on_platform));
        let lens = Lens::resolve(
            &made.lens,
            &Columns { columns: l.iter().collect(), zone: legacy.zone },
            &Columns { columns: p.iter().collect(), zone: platform.zone },
        );
        resolved.push(Field {
            name: made.name.into(),
            fingerprint: n as u32,
            lens: lens.expect("a lens that fits"),
            legacy: on_legacy,
            platform: on_platform,
            policy: Policy::Newest,
            first_contact: FirstContact::Authority,
            one_way: None,
            null: NullMarks::default(),
        });
    }
    Mapping {
        entity: EntityId::new("e"),
        fields: resolved,
        legacy,
        platform,
        match_on: Vec::new(),
        authority: Side::Platform,
    }
}
