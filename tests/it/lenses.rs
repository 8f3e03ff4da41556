//! Lenses on real databases, through whole runs: what one side cannot hold comes back, what goes one way goes one way, what would be
//! a guess is refused.

use crate::support::systems::Systems;

/// One entity `item` with these lines between its tables and its fields, and these fields.
fn item(more: &str, fields: &str) -> String {
    format!(
        "[[stages]]\nname = \"items\"\n  [[stages.entities]]\n  id = \"item\"\n  \
         legacy = {{ database = \"legacy\", table = \"item\", key = \"id\", timezone = \"Europe/Berlin\" }}\n  \
         platform = {{ database = \"platform\", table = \"item\", key = \"id\" }}\n{more}\n    \
         [stages.entities.fields]\n{fields}\n"
    )
}

fn legacy(columns: &str) -> String {
    format!("create table item (id serial primary key, {columns}, updated_at timestamptz not null default now())")
}

fn platform(columns: &str) -> String {
    format!(
        "create table item (id uuid primary key default gen_random_uuid(), {columns}, updated_at timestamptz not null default now())"
    )
}

const TOUCH: &str = ", updated_at = clock_timestamp()";

#[tokio::test]
async fn a_name_that_is_edited_and_edited_back_has_its_parts_again() {
    let fields = r#"name = { legacy = ["first", "last"], platform = "name", lens = { join = " " } }
        state = { legacy = "state", platform = "state", lens = { values = { Y = "active", J = "active", N = "closed" }, back = { active = "Y" } } }"#;
    let mut systems = Systems::new(
        "complement",
        &legacy("first text, last text, state char(1)"),
        &platform("name text, state text"),
        &item("", fields),
    )
    .await;
    systems.on_legacy("insert into item (first, last, state) values ('Mary Ann', 'van der Berg', 'J')").await;
    systems.settle().await;
    let parts = "select concat_ws('|', first, last, state) from item";
    let whole = "select concat_ws('|', name, state) from item";
    assert_eq!(systems.platform_rows(whole).await, ["Mary Ann van der Berg|active"]);
    systems.on_platform(&format!("update item set name = 'Cher', state = 'closed'{TOUCH}")).await;
    systems.settle().await;
    assert_eq!(systems.legacy_rows(parts).await, ["Cher|N"]);
    systems.on_platform(&format!("update item set name = 'Mary Ann van der Berg', state = 'active'{TOUCH}")).await;
    systems.oracles(&[]).await;
    assert_eq!(systems.legacy_rows(parts).await, ["Mary Ann|van der Berg|J"]);
    // And what nobody had before is split as well as can be.
    systems.on_platform(&format!("update item set name = 'Mary Ann Smith'{TOUCH}")).await;
    systems.oracles(&[]).await;
    assert_eq!(systems.legacy_rows(parts).await, ["Mary Ann|Smith|J"]);
}

#[tokio::test]
async fn what_is_edited_at_the_end_of_a_one_way_field_is_overwritten_and_logged() {
    let fields = r#"name = { legacy = "name", platform = "name" }
        price = { legacy = "cents", platform = "price", lens = { scale = 100 }, one_way = "to-platform" }"#;
    let mut systems = Systems::new(
        "one way",
        &legacy("name text, cents integer not null default 7"),
        &platform("name text, price numeric"),
        &item("", fields),
    )
    .await;
    systems.on_legacy("insert into item (name, cents) values ('a', 1250)").await;
    systems.on_platform("insert into item (name, price) values ('p', 99), ('q', null)").await;
    systems.settle().await;
    let prices = "select concat_ws('|', name, price) from item order by name";
    assert_eq!(systems.platform_rows(prices).await, ["a|12.5", "p|0.07", "q|0.07"]);
    let lost = "select concat_ws('|', fields -> 0 ->> 'platform', fields -> 0 ->> 'winner', fields -> 0 ->> 'why')
                from sync_bridge.conflict order by id";
    assert_eq!(systems.platform_rows(lost).await, ["99|legacy|one_way"], "a value that a user gave is in the log");

    systems.on_platform(&format!("update item set price = 5, name = 'b'{TOUCH} where name = 'a'")).await;
    systems.on_legacy(&format!("update item set cents = 30{TOUCH} where name = 'q'")).await;
    systems.oracles(&[]).await;
    assert_eq!(systems.platform_rows(prices).await, ["b|12.5", "p|0.07", "q|0.3"]);
    assert_eq!(
        systems.legacy_rows("select concat_ws('|', name, cents) from item order by name").await,
        ["b|1250", "p|7", "q|30"]
    );
    assert_eq!(systems.platform_rows(lost).await, ["99|legacy|one_way", "5|legacy|one_way"]);
}

#[tokio::test]
async fn the_platforms_column_of_legacy_ids_pairs_and_is_filled_in() {
    let fields = r#"name = { legacy = "name", platform = "name" }
        legacy_id = { legacy = "id", platform = "legacy_id", one_way = "to-platform" }"#;
    let mut systems = Systems::new(
        "cross reference",
        &legacy("name text"),
        &platform("name text, legacy_id integer unique"),
        &item("match_on = [\"legacy_id\"]", fields),
    )
    .await;
    systems.on_legacy("insert into item (name) values ('one'), ('two')").await;
    systems.on_platform("insert into item (name, legacy_id) values ('one', 1), ('new', null)").await;
    systems.oracles(&[]).await;
    let names = "select concat_ws('|', name, id) from item order by name";
    let known = "select concat_ws('|', name, legacy_id) from item order by name";
    systems.both_hold(names, known, &["new|3", "one|1", "two|2"]).await;
    assert_eq!(systems.platform_rows("select count(*)::text from sync_bridge.conflict").await, ["0"]);
}

#[tokio::test]
async fn two_fields_of_one_document_merge_and_leave_the_rest_of_it_alone() {
    let fields = r#"city = { legacy = "city", platform = "doc", lens = { path = "address.city" } }
        age = { legacy = "age", platform = "doc", lens = { path = "age" } }"#;
    let mut systems =
        Systems::new("path", &legacy("city text, age integer"), &platform("doc jsonb"), &item("", fields)).await;
    systems.on_legacy("insert into item (city, age) values ('Oslo', 40)").await;
    systems
        .on_platform(r#"insert into item (doc) values ('{"address": {"city": "Rome", "zip": "1"}, "n": 1.10}')"#)
        .await;
    systems.settle().await;
    let plain = "select concat_ws('|', city, age) from item order by city";
    let document = "select doc::text from item order by doc #>> '{address,city}'";
    assert_eq!(systems.legacy_rows(plain).await, ["Oslo|40", "Rome"]);
    assert_eq!(
        systems.platform_rows(document).await,
        [r#"{"age": 40, "address": {"city": "Oslo"}}"#, r#"{"n": 1.10, "address": {"zip": "1", "city": "Rome"}}"#]
    );
    // Both sides edit another field of the same document.
    systems.on_legacy(&format!("update item set age = 50{TOUCH} where city = 'Rome'")).await;
    systems
        .on_platform(&format!(
            r#"update item set doc = jsonb_set(doc, '{{address,city}}', '"Pisa"'){TOUCH} where doc ? 'n'"#
        ))
        .await;
    systems.on_platform(&format!("update item set doc = doc - 'age'{TOUCH} where doc ->> 'age' = '40'")).await;
    systems.oracles(&[]).await;
    assert_eq!(systems.legacy_rows(plain).await, ["Oslo", "Pisa|50"]);
    assert_eq!(
        systems.platform_rows(document).await,
        [r#"{"address": {"city": "Oslo"}}"#, r#"{"n": 1.10, "age": 50, "address": {"zip": "1", "city": "Pisa"}}"#]
    );
}

#[tokio::test]
async fn marks_that_stand_for_null_are_null_on_both_sides_and_written_as_each_has_them() {
    let fields = r#"name = { legacy = "name", platform = "name", lens = ["trim", "lowercase"] }
        note = { legacy = "note", platform = "note", null = { legacy = "" } }
        parent = { legacy = "parent", platform = "parent", lens = { ref = "item" }, null = { legacy = "0" } }"#;
    let mut systems = Systems::new(
        "null",
        &legacy("name text unique, note text not null default '', parent integer not null default 0"),
        &platform("name text unique, note text, parent uuid references item"),
        &item("match_on = [\"name\"]", fields),
    )
    .await;
    systems.on_legacy("insert into item (name) values (' Root '), ('Other')").await;
    systems.on_legacy("insert into item (name, note, parent) values ('leaf', 'x', 1)").await;
    systems.on_platform("insert into item (name, note) values ('ROOT', ''), ('new', null)").await;
    systems.oracles(&[]).await;
    let legacy = "select concat_ws('|', name, '<' || note || '>', parent) from item order by id";
    assert_eq!(systems.legacy_rows(legacy).await, [" Root |<>|0", "Other|<>|0", "leaf|<x>|1", "new|<>|0"]);
    let platform = "select concat_ws('|', i.name, '<' || i.note || '>', p.name) from item i left join item p on p.id = i.parent order by 1";
    assert_eq!(systems.platform_rows(platform).await, ["ROOT|<>", "leaf|<x>|ROOT", "new", "other"]);
    systems.on_platform(&format!("update item set note = null, parent = null{TOUCH} where name = 'leaf'")).await;
    systems.oracles(&[]).await;
    assert_eq!(systems.legacy_rows(legacy).await[2], "leaf|<>|0");
}

#[tokio::test]
async fn a_local_time_that_means_two_moments_is_refused_unless_it_is_declared() {
    let fields = |lens: &str| format!("at = {{ legacy = \"at\", platform = \"at\"{lens} }}");
    let (on_legacy, on_platform) = (legacy("at timestamp"), platform("at timestamptz"));
    let rows = "insert into item (at) values ('2026-10-25 02:30'), ('2026-03-29 02:30'), ('2026-07-01 12:00')";
    let moments = "select (at at time zone 'UTC')::text from item order by at";

    let mut guessed = Systems::new("hours", &on_legacy, &on_platform, &item("", &fields(""))).await;
    guessed.on_legacy(rows).await;
    let summary = guessed.run().await;
    assert_eq!(summary.quarantined.len(), 2, "{summary:?}");
    assert!(summary.quarantined.iter().all(|row| row.field.as_deref() == Some("at")), "{summary:?}");
    let twice = summary.quarantined.iter().any(|row| row.reason.contains("clocks in Europe/Berlin have twice"));
    let skipped = summary.quarantined.iter().any(|row| row.reason.contains("clocks in Europe/Berlin skip"));
    assert!(twice && skipped, "{summary:?}");
    guessed.on_platform("insert into item (at) values ('2026-10-25 01:30+00')").await;
    assert_eq!(guessed.run().await.quarantined.len(), 1, "the moment has no local time of its own");

    let lens = r#", lens = { time = { doubled = "later", missing = "earlier" } }"#;
    let mut declared = Systems::new("hours declared", &on_legacy, &on_platform, &item("", &fields(lens))).await;
    declared.on_legacy(rows).await;
    declared.oracles(&[]).await;
    assert_eq!(
        declared.platform_rows(moments).await,
        ["2026-03-29 00:30:00", "2026-07-01 10:00:00", "2026-10-25 01:30:00"]
    );
}

#[tokio::test]
async fn new_rows_begin_with_their_constants_and_keep_what_becomes_of_them() {
    let fields = r#"name = { legacy = "name", platform = "name" }
        origin = { platform = "origin", lens = { constant = "legacy" } }
        kind = { legacy = "kind", lens = { constant = "W" } }"#;
    let mut systems = Systems::new(
        "constant",
        &legacy("name text, kind char(1) not null"),
        &platform("name text, origin text not null"),
        &item("", fields),
    )
    .await;
    systems.on_legacy("insert into item (name, kind) values ('l', 'X')").await;
    systems.on_platform("insert into item (name, origin) values ('p', 'web')").await;
    systems.settle().await;
    systems.on_platform(&format!("update item set origin = 'app'{TOUCH} where name = 'l'")).await;
    systems.on_legacy(&format!("update item set name = 'l2'{TOUCH} where name = 'l'")).await;
    systems.oracles(&[]).await;
    assert_eq!(systems.legacy_rows("select name || kind from item order by name").await, ["l2X", "pW"]);
    assert_eq!(systems.platform_rows("select name || origin from item order by name").await, ["l2app", "pweb"]);
}

#[tokio::test]
async fn coordinates_and_a_geojson_point_agree_and_leave_the_rest_of_the_geometry_alone() {
    let fields = r#"name = { legacy = "name", platform = "name" }
        at = { legacy = ["lon", "lat"], platform = "place", lens = "geojson" }
        door = { legacy = "door", platform = "door", lens = "geojson" }"#;
    let mut systems = Systems::new(
        "geojson",
        &legacy("name text, lon numeric(9,6), lat numeric(9,6), door point"),
        &platform("name text, place jsonb, door json not null default '{}'"),
        &item("", fields),
    )
    .await;
    systems
        .on_legacy(
            "insert into item (name, lon, lat, door) values ('a', 13.4, 52.5, '(1,-2.5)'), ('b', null, null, null)",
        )
        .await;
    let place = r#"{"type": "Point", "coordinates": [10.75, 59.91, 23], "bbox": [1]}"#;
    systems.on_platform(&format!("insert into item (name, place) values ('c', '{place}')")).await;
    systems.settle().await;
    let plain = "select concat_ws('|', name, trim_scale(lon), trim_scale(lat), door) from item order by name";
    let documents = "select concat_ws('|', name, place, door) from item order by name";
    assert_eq!(systems.legacy_rows(plain).await, ["a|13.4|52.5|(1,-2.5)", "b", "c|10.75|59.91"]);
    let new = r#"a|{"type": "Point", "coordinates": [13.4, 52.5]}|{"type": "Point", "coordinates": [1, -2.5]}"#;
    let standing = r#"c|{"bbox": [1], "type": "Point", "coordinates": [10.75, 59.91, 23]}|{}"#;
    assert_eq!(systems.platform_rows(documents).await, [new, "b|{}", standing]);

    // The height is that of another place, and is back with the place; what nobody maps is the platform's all the time.
    systems.on_legacy(&format!("update item set lat = 60{TOUCH} where name = 'c'")).await;
    systems.on_platform(&format!("update item set place = null, door = '{{}}'{TOUCH} where name = 'a'")).await;
    systems.settle().await;
    assert_eq!(systems.legacy_rows(plain).await, ["a", "b", "c|10.75|60"]);
    let moved = r#"c|{"bbox": [1], "type": "Point", "coordinates": [10.75, 60]}|{}"#;
    assert_eq!(systems.platform_rows(documents).await, ["a|{}", "b|{}", moved]);
    systems.on_platform("update item set place = place || '{\"bbox\": [2]}' where name = 'c'").await;
    systems.on_legacy(&format!("update item set lat = 59.91{TOUCH} where name = 'c'")).await;
    systems.oracles(&[]).await;
    assert_eq!(systems.platform_rows(documents).await[2], standing.replace("[1]", "[2]"));

    let polygon = r#"{"type": "Polygon", "coordinates": []}"#;
    systems.on_platform(&format!("insert into item (name, place) values ('d', '{polygon}')")).await;
    let refused = systems.run().await.quarantined;
    assert!(matches!(&*refused, [row] if row.field.as_deref() == Some("at")), "{refused:?}");
}

#[tokio::test]
async fn separated_texts_and_arrays_agree_as_lists_and_as_sets() {
    let fields = r#"name = { legacy = "name", platform = "name" }
        steps = { legacy = "steps", platform = "steps", lens = { list = ", " } }
        sizes = { legacy = "sizes", platform = "sizes", lens = { list = ";" } }
        tags = { legacy = "tags", platform = "tags", lens = { set = "," } }
        marks = { legacy = "marks", platform = "marks", lens = { set = "|" } }"#;
    let mut systems = Systems::new(
        "lists",
        &legacy("name text, steps text, sizes text, tags varchar(20), marks text[]"),
        &platform("name text, steps text[], sizes numeric(9,2)[], tags jsonb, marks text"),
        &item("", fields),
    )
    .await;
    systems
        .on_legacy(
            "insert into item (name, steps, sizes, tags, marks) values
               ('a', 'cut ,dye', '1; 2.50', ',x,y,', '{q,p,q}'), ('b', '', '', '', '{}'), ('c', null, null, null, null)",
        )
        .await;
    systems
        .on_platform(
            r#"insert into item (name, steps, sizes, tags, marks) values ('d', '{"cut up",sew}', '{3}', '["y", 7, "x"]', 'p|q')"#,
        )
        .await;
    systems.settle().await;
    let rows = "select concat_ws('/', name, steps, sizes, tags, marks) from item order by name";
    let legacy = ["a/cut ,dye/1; 2.50/,x,y,/{q,p,q}", "b////{}", "c", "d/cut up, sew/3/7,x,y/{p,q}"];
    assert_eq!(systems.legacy_rows(rows).await, legacy);
    let platform = [
        r#"a/{cut,dye}/{1.00,2.50}/["x", "y"]/p|q"#,
        "b/{}/{}/[]/",
        "c",
        r#"d/{"cut up",sew}/{3.00}/["y", 7, "x"]/p|q"#,
    ];
    assert_eq!(systems.platform_rows(rows).await, platform);

    // In a set another order is no edit, and what stays keeps its place.
    systems.on_legacy(&format!("update item set tags = 'y,x,7,x'{TOUCH} where name = 'd'")).await;
    systems.on_legacy(&format!("update item set marks = '{{z,q}}'{TOUCH} where name = 'a'")).await;
    systems
        .on_platform(&format!("update item set tags = tags || '[\"w\"]', steps = '{{dye}}'{TOUCH} where name = 'a'"))
        .await;
    systems.settle().await;
    let edited = "select concat_ws('/', name, steps, tags, marks) from item where name in ('a', 'd') order by name";
    assert_eq!(systems.legacy_rows(edited).await, ["a/dye/x,y,w/{z,q}", "d/cut up, sew/y,x,7,x/{p,q}"]);
    assert_eq!(
        systems.platform_rows(edited).await,
        [r#"a/{dye}/["x", "y", "w"]/q|z"#, r#"d/{"cut up",sew}/["y", 7, "x"]/p|q"#]
    );
    // What was there before is back as it was.
    systems
        .on_platform(&format!("update item set tags = '[\"x\", \"y\"]', steps = '{{cut,dye}}'{TOUCH} where name = 'a'"))
        .await;
    systems.oracles(&[]).await;
    assert_eq!(systems.legacy_rows(edited).await[0], "a/cut ,dye/,x,y,/{z,q}");

    // An element with the separator in it, one that is NULL, a list of one empty element.
    systems
        .on_platform(
            r#"insert into item (name, steps) values ('e', '{"a,b"}'), ('f', '{NULL}'), ('g', '{""}'), ('h', '{{a},{b}}')"#,
        )
        .await;
    let refused = systems.run().await.quarantined;
    assert_eq!(refused.len(), 4, "{refused:?}");
    assert!(refused.iter().all(|row| row.field.as_deref() == Some("steps")), "{refused:?}");
}

#[tokio::test]
async fn bits_of_a_number_and_names_agree_and_bits_without_a_name_stay() {
    let fields = r#"name = { legacy = "name", platform = "name" }
        roles = { legacy = "rights", platform = "roles", lens = { flags = { 1 = "admin", 2 = "editor", 8 = "guest" } } }
        ways = { legacy = "ways", platform = "ways", lens = { flags = { 1 = "mail", 4096 = "phone" }, separator = ", " } }"#;
    let mut systems = Systems::new(
        "flags",
        &legacy("name text, rights smallint, ways text"),
        &platform("name text, roles text[], ways bigint"),
        &item("", fields),
    )
    .await;
    systems
        .on_legacy(
            "insert into item (name, rights, ways) values ('a', 7, 'mail,phone'), ('b', 0, ''), ('c', null, null), ('d', -32767, 'mail')",
        )
        .await;
    systems.on_platform("insert into item (name, roles, ways) values ('e', '{guest,admin}', 4099)").await;
    systems.settle().await;
    let on_legacy = "select concat_ws('|', name, rights, ways) from item order by name";
    let on_platform = "select concat_ws('|', name, roles, ways) from item order by name";
    assert_eq!(
        systems.legacy_rows(on_legacy).await,
        ["a|7|mail,phone", "b|0|", "c", "d|-32767|mail", "e|9|mail, phone"]
    );
    let rows = ["a|{admin,editor}|4097", "b|{}|0", "c", "d|{admin}|1", "e|{guest,admin}|4099"];
    assert_eq!(systems.platform_rows(on_platform).await, rows);

    systems.on_platform(&format!("update item set roles = '{{guest}}'{TOUCH} where name in ('a', 'd')")).await;
    systems.on_legacy(&format!("update item set ways = 'phone'{TOUCH} where name = 'e'")).await;
    systems.oracles(&[]).await;
    assert_eq!(systems.legacy_rows(on_legacy).await, ["a|12|mail,phone", "b|0|", "c", "d|-32760|mail", "e|9|phone"]);
    assert_eq!(systems.platform_rows(on_platform).await[4], "e|{guest,admin}|4098");

    // A name that is no flag, and a NULL that would take a bit away that only legacy knows.
    systems.on_platform("insert into item (name, roles) values ('f', '{owner}')").await;
    systems.on_platform(&format!("update item set roles = null{TOUCH} where name = 'a'")).await;
    let refused = systems.run().await.quarantined;
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().all(|row| row.field.as_deref() == Some("roles")), "{refused:?}");
}

#[tokio::test]
async fn expressions_translate_what_no_lens_covers_and_refuse_what_they_cannot() {
    let fields = r#"number = { legacy = "no", platform = "number", lens = { to_platform = '"C-" + text(value)', to_legacy = 'number(value.after("-"))' } }
        length = { legacy = "eighths", platform = "inches", lens = { to_platform = "value / 8", to_legacy = "value * 8" } }
        big = { legacy = "size", platform = "is_big", lens = { to_platform = 'value == "XL"', to_legacy = 'if value { "XL" } else { "M" }' } }
        short = { legacy = "note", platform = "short", lens = { to_platform = "value.part(0, 3)" }, one_way = "to-platform" }"#;
    let mut systems = Systems::new(
        "expressions",
        &legacy("no integer, eighths integer, size text, note text"),
        &platform("number text, inches numeric, is_big boolean, short text"),
        &item("", fields),
    )
    .await;
    systems
        .on_legacy("insert into item (no, eighths, size, note) values (1, 12, 'S', 'Ärger'), (2, null, 'XL', null)")
        .await;
    systems.on_platform("insert into item (number, inches, is_big) values ('C-3', 0.5, true)").await;
    systems.settle().await;
    let on_legacy = "select concat_ws('|', no, eighths, size, note) from item order by no";
    let on_platform = "select concat_ws('|', number, inches, is_big, short) from item order by number";
    assert_eq!(systems.legacy_rows(on_legacy).await, ["1|12|S|Ärger", "2|XL", "3|4|XL"]);
    assert_eq!(systems.platform_rows(on_platform).await, ["C-1|1.5|f|Ärg", "C-2|t", "C-3|0.5|t"]);

    systems.on_platform(&format!("update item set is_big = true, inches = 1.25{TOUCH} where number = 'C-1'")).await;
    systems.on_legacy(&format!("update item set size = 'L'{TOUCH} where no = 3")).await;
    systems.settle().await;
    assert_eq!(systems.legacy_rows(on_legacy).await, ["1|10|XL|Ärger", "2|XL", "3|4|L"]);
    systems.on_platform(&format!("update item set is_big = false, inches = 1.5{TOUCH} where number = 'C-1'")).await;
    systems.oracles(&[]).await;
    assert_eq!(systems.legacy_rows(on_legacy).await[0], "1|12|S|Ärger", "the size is the one that was there before");

    // No number behind the mark; a number that comes back as another is rolled back.
    systems.on_platform("insert into item (number) values ('C-x'), ('D-9')").await;
    let refused = systems.run().await.quarantined;
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().all(|row| row.field.as_deref() == Some("number")), "{refused:?}");
}
