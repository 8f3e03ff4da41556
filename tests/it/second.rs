//! Two systems that the bridge was not made for: a town library's of 1998, with keys of two parts, a tree, and names of every
//! spelling, and two services of a platform with a database each. What is between them is one file.

use std::collections::BTreeMap;

use sync_bridge::config::{CustomerId, Severity, Side};
use sync_bridge::stages::{Key, PageReport};

use crate::support::systems::{CUSTOMER, RunSummary, Same, Systems, keys};

const LEGACY: &str = include_str!("second/legacy.sql");
const IDENTITY: &str = include_str!("second/identity.sql");
const STOCK: &str = include_str!("second/stock.sql");
const STAGES: &str = include_str!("second/bridge.toml");

/// The records as a librarian compares them.
const SAME: [Same; 6] = [
    Same {
        entity: "branch",
        legacy: r#"select "Kürzel"::text, concat_ws('|', "Kürzel"::text, normalize(btrim("Name", E' \t')), "Offen" = 1,
            coalesce("Netz"::text, '-'), coalesce("Stunden"::text, '-'), coalesce("Öffnet"::text, '-'), coalesce("group"::text, '-'))
            from "Alt Bestand"."Zweigstelle""#,
        platform: r#"select code, concat_ws('|', code, normalize(btrim(title, E' \t')), is_open,
            coalesce(network::text, '-'), coalesce(hours::text, '-'), coalesce(opens_at::text, '-'), coalesce("group", '-'))
            from identity.branches"#,
    },
    Same {
        entity: "member",
        legacy: r#"select "Zweig"::text || E'\x1f' || "Nr.", concat_ws('|', "Zweig"::text, "Nr.",
            concat_ws(' ', nullif("Vor Name", ''), nullif("von", ''), nullif("select", '')), coalesce("E-Mail"::text, '-'),
            case when "Stufe" = 1 then 'child' when "Stufe" in (2, 3) then 'adult' when "Stufe" = 9 then 'staff' end,
            case "Geburt" when '' then '-' else concat_ws('-', substr("Geburt", 7, 4), substr("Geburt", 4, 2), substr("Geburt", 1, 2)) end, "gültig bis",
            coalesce(extract(epoch from "gesperrt bis" at time zone 'Europe/Vienna')::text, '-'), trim_scale("Guthaben"),
            coalesce("Karte"::text, '-'), coalesce(encode("PIN", 'hex'), '-'), coalesce("letzte IP"::text, '-'), "Interessen"::text,
            "Werbung" = 'J', coalesce("Sprache"::text, '-'), coalesce("Zeilen"::text, '-'),
            coalesce(extract(epoch from "beigetreten" at time zone 'Europe/Vienna')::text, '-'), "gelöscht")
            from "Alt Bestand"."Leser Konto""#,
        platform: r#"select id::text, concat_ws('|', branch, "number", "name", coalesce(email::text, '-'), level::text,
            coalesce(born::text, '-'), valid_until, coalesce(extract(epoch from blocked_until)::text, '-'), trim_scale(balance),
            coalesce(card::text, '-'), coalesce(encode(pin, 'hex'), '-'), coalesce(last_ip::text, '-'), interests::text, newsletter,
            coalesce(settings #>> '{ui,language}', '-'), coalesce(settings #>> array['ui.v2', 'rows'], '-'),
            coalesce(extract(epoch from joined_at)::text, '-'), removed_at is not null)
            from identity.members"#,
    },
    Same {
        entity: "subject",
        legacy: r#"select "Notation", concat_ws('|', "Notation", coalesce("Über", '-'), "Text", coalesce("order"::text, '-'))
            from "Alt Bestand"."Sachgruppe""#,
        platform: r#"select s.id::text, concat_ws('|', s.notation, coalesce(p.notation, '-'), s.label, coalesce(s."order"::text, '-'))
            from stock."Subject Heading" s left join stock."Subject Heading" p on p.id = s.parent"#,
    },
    Same {
        entity: "title",
        legacy: r#"select "ID"::text, concat_ws('|', "Haupttitel", coalesce("ISBN"::text, '-'), coalesce("Sachgruppe", '-'),
            coalesce(substr("Erschienen", 1, 4) || '-' || substr("Erschienen", 5, 2) || '-' || substr("Erschienen", 7, 2), '-'), coalesce(("Preis ct" / 100.0)::numeric(12, 2)::text, '-'),
            coalesce(trim_scale("Gewicht")::text, '-'), coalesce("Höhe"::text, '-'), coalesce("Verlag", '-'), coalesce("Ort", '-'),
            coalesce("Auflage"::text, '-'), coalesce(encode("Umschlag", 'hex'), '-'), coalesce("Sprachen"::text, '-'),
            coalesce("Zusatz"::jsonb::text, '-'), coalesce("Frist"::text, '-'), "Zähler", coalesce("Note"::text, '-'),
            "entfernt" is not null)
            from "Alt Bestand"."Titel""#,
        platform: r#"select t.id::text, concat_ws('|', t.name, coalesce(t.isbn, '-'), coalesce(s.notation, '-'),
            coalesce(t.published::text, '-'), coalesce(t.price::text, '-'), coalesce(trim_scale(t.weight)::text, '-'),
            coalesce(t.height::text, '-'), coalesce(t.imprint ->> 'publisher', '-'), coalesce(t.imprint ->> 'place', '-'),
            coalesce(t.imprint ->> 'edition', '-'), coalesce(encode(t.cover, 'hex'), '-'), coalesce(t.languages::text, '-'),
            coalesce(t.extra::text, '-'), coalesce(t.grace::text, '-'), t.popularity, coalesce(t.rating::text, '-'),
            t.removed_at is not null)
            from stock.titles t left join stock."Subject Heading" s on s.id = t.subject_id"#,
    },
    Same {
        entity: "copy",
        legacy: r#"select e."Titel" || E'\x1f' || e."Ex."::text, concat_ws('|', t."Haupttitel", e."Ex."::text, e."Zweig"::text,
            coalesce(e."x"::float8 || ' ' || e."y"::float8, '-'),
            case e."Zustand" when 'neu' then 'new' when 'zerlesen' then 'worn' else 'fair' end, coalesce(e."Zugang"::text, '-'),
            coalesce(e."zuletzt"::text, '-'), coalesce(e."Anmerkung zum Zustand des Exemplares bei letzter Revision (€)", '-'),
            e."raus" = 'J')
            from "Alt Bestand"."Exemplar" e join "Alt Bestand"."Titel" t on t."ID" = e."Titel""#,
        platform: r#"select c.title_id || E'\x1f' || c.suffix, concat_ws('|', t.name, c.suffix, c.branch,
            coalesce(c.shelf[0] || ' ' || c.shelf[1], '-'), c.condition::text,
            coalesce((c.acquired at time zone 'UTC')::date::text, '-'),
            coalesce(floor(extract(epoch from n.seen_at) * 1000)::bigint::text, '-'), coalesce(n.remark, '-'), c.withdrawn)
            from stock.copies c join stock.titles t on t.id = c.title_id
            left join stock."copy.notes" n on (n."of title", n."of copy") = (c.title_id, c.suffix)"#,
    },
    Same {
        entity: "loan",
        // Of the hour that is there twice, the file says which is meant.
        legacy: r#"select l."lfd"::text, concat_ws('|', t."Haupttitel", l."Ex."::text,
            extract(epoch from case when l."von" >= '2025-10-26 02:00' and l."von" < '2025-10-26 03:00'
              then (l."von" - interval '2 hours') at time zone 'UTC' else l."von" at time zone 'Europe/Vienna' end)::text,
            l."bis", coalesce(l."user", '-'), coalesce((l."Gebühr ""€""" * 100)::integer::text, '-'), coalesce(l."zurück"::text, '-'))
            from "Alt Bestand"."Ausleihe ""neu"".2" l join "Alt Bestand"."Titel" t on t."ID" = l."Titel""#,
        platform: r#"select l.id::text, concat_ws('|', t.name, l.suffix, extract(epoch from l.lent_at)::text, l.due,
            coalesce(l."user", '-'), coalesce(l.fee_cents::text, '-'), coalesce(l.returned::text, '-'))
            from stock.loans l join stock.titles t on t.id = l.title_id"#,
    },
];

/// Both systems, the library's full, the platform's with a little of its own.
async fn library(hint: &str) -> Systems {
    let systems = Systems::with_services(hint, LEGACY, IDENTITY, &[("stock", STOCK)], STAGES).await;
    at_the_desk(&systems, include_str!("second/legacy_rows.sql").trim_end().trim_end_matches(';')).await;
    systems
        .on_platform(
            r#"insert into identity.branches (code, title, is_open, network, hours, opens_at, "group") values
                 ('ZB', 'Zentralbibliothek', true, '10.1.0.0/16', '{8,20,NULL}', '08:00', 'Mitte'),
                 ('W', 'West', true, null, '{9}', '09:00:00', null);
               insert into identity.members (branch, "number", "name", settings) values
                 ('W', 1, 'Anna Maria Magdalena Exner', '{"theme": "dark"}')"#,
        )
        .await;
    systems
        .on(
            "stock",
            r#"insert into stock.titles (id, name, isbn, price, origin, rating) values
                 ('00000000-0000-4000-8000-000000000001', 'Only online', '9990000000001', 12.30, 'web', 4.5),
                 -- The library has it too, under a number that is shorter than its column.
                 ('00000000-0000-4000-8000-000000000011', 'Title 11, online', '0000000011', null, 'web', null);
               insert into stock.copies (title_id, suffix, branch, shelf, condition, acquired) values
                 ('00000000-0000-4000-8000-000000000001', 'e', 'W', '(1.5,-2)', 'new', '2026-01-05 17:00+00')"#,
        )
        .await;
    systems
}

/// As the library's own desk does it: its sessions are on local time, a driver's are not.
async fn at_the_desk(systems: &Systems, sql: &str) {
    systems.on_legacy(&format!("begin; set local time zone 'Europe/Vienna'; {sql}; commit")).await;
}

/// Who lent what: members and loans are in databases that know nothing of each other.
async fn the_loans_are_of_the_same_people(systems: &Systems) {
    let pair =
        |row: &String| row.split_once('|').map(|(one, other)| (one.to_owned(), other.to_owned())).expect("two parts");
    let members = systems.platform_rows(r#"select id || '|' || branch || ' ' || "number" from identity.members"#).await;
    let members: BTreeMap<String, String> = members.iter().map(pair).collect();
    let loans = systems
        .rows_on(
            "stock",
            "select coalesce(l.member_id::text, '-') || '|' || t.name || ' ' || l.suffix
             from stock.loans l join stock.titles t on t.id = l.title_id",
        )
        .await;
    let mut on_platform: Vec<String> = loans
        .iter()
        .map(pair)
        .map(|(member, what)| format!("{} {what}", if member == "-" { "-" } else { &members[&member] }))
        .collect();
    let mut on_legacy = systems
        .legacy_rows(
            r#"select coalesce(l."Zweig"::text || ' ' || l."Nr.", '-') || ' ' || t."Haupttitel" || ' ' || l."Ex."::text
               from "Alt Bestand"."Ausleihe ""neu"".2" l join "Alt Bestand"."Titel" t on t."ID" = l."Titel""#,
        )
        .await;
    on_platform.sort();
    on_legacy.sort();
    assert_eq!(on_legacy, on_platform);
}

/// Nothing waits or is quarantined, both sides are equal, and the oracles hold.
async fn all_is_equal(systems: &mut Systems) {
    systems.settle().await;
    assert_eq!(systems.listed(), Vec::<String>::new());
    systems.oracles(&SAME).await;
    the_loans_are_of_the_same_people(systems).await;
}

async fn count(systems: &Systems, legacy: &str, service: &str, platform: &str) -> [String; 2] {
    let legacy = systems.legacy_rows(&format!("select count(*)::text from {legacy}")).await;
    let platform = systems.rows_on(service, &format!("select count(*)::text from {platform}")).await;
    [legacy.concat(), platform.concat()]
}

#[tokio::test]
async fn two_unrelated_systems_become_equal_and_stay_so_by_a_file_alone() {
    let mut systems = library("second").await;
    let loaded = systems.run().await;
    // Of the title that both had, five fields differ.
    assert_eq!((loaded.quarantined.len(), loaded.conflicts), (0, 5), "{loaded:?}");
    let met = "select kind || ' ' || platform_key from sync_bridge.conflict";
    assert_eq!(systems.rows_on("stock", met).await, ["first_contact 00000000-0000-4000-8000-000000000011"]);
    all_is_equal(&mut systems).await;
    // The file fits both schemas, and the laws hold on the rows that both have by now.
    let locator = systems.config.source.locator();
    let findings = systems.data.findings(&CustomerId::new(CUSTOMER), &locator, Some(100)).await.expect("findings");
    let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for (legacy, service, platform, rows) in [
        (r#""Alt Bestand"."Zweigstelle""#, "platform", "identity.branches", "4"),
        (r#""Alt Bestand"."Leser Konto""#, "platform", "identity.members", "41"),
        (r#""Alt Bestand"."Sachgruppe""#, "stock", r#"stock."Subject Heading""#, "5"),
        (r#""Alt Bestand"."Titel""#, "stock", "stock.titles", "31"),
        (r#""Alt Bestand"."Exemplar""#, "stock", "stock.copies", "61"),
        (r#""Alt Bestand"."Ausleihe ""neu"".2""#, "stock", "stock.loans", "24"),
    ] {
        assert_eq!(count(&systems, legacy, service, platform).await, [rows, rows], "{legacy}");
    }

    // New records on both sides, with references between them; a tree that grows from both ends.
    at_the_desk(&systems,
            r#"insert into "Alt Bestand"."Zweigstelle" ("Kürzel", "Name") values ('S', 'Süd');
               insert into "Alt Bestand"."Leser Konto" ("Zweig", "Nr.", "Vor Name", "select") values ('S', 1, null, 'Cher'), ('W', 2, 'O''Neill', 'x');
               insert into "Alt Bestand"."Sachgruppe" ("Notation", "Über", "Text") values ('B 1', 'Z', 'under');
               insert into "Alt Bestand"."Titel" ("Mandant", "Haupttitel", "Sachgruppe") values (7, 'Made in the library', 'B 1');
               insert into "Alt Bestand"."Exemplar" ("Titel", "Ex.", "Zweig") select max("ID"), 'c', 'S' from "Alt Bestand"."Titel";
               insert into "Alt Bestand"."Ausleihe ""neu"".2" ("Zweig", "Nr.", "Titel", "Ex.", "von") select 'S', 1, max("ID"), 'c', '2026-02-03 04:05:06' from "Alt Bestand"."Titel""#,
        )
        .await;
    systems
        .on_platform(
            r#"insert into identity.branches (code, title, is_open) values ('O', 'Ost', false);
               insert into identity.members (branch, "number", "name", email, level, balance, interests, valid_until) values
                 ('O', 1, 'Maria', 'M@X', 'staff', 0.000000000001, '{a,NULL,"b c"}', '2031-07-04')"#,
        )
        .await;
    let title = "00000000-0000-4000-8000-000000000002";
    let member = systems.platform_rows("select id::text from identity.members where branch = 'O'").await.concat();
    systems
        .on(
            "stock",
            &format!(
                r#"insert into stock."Subject Heading" (id, notation, parent, label) select '{title}', 'P 7', id, 'from the web' from stock."Subject Heading" where notation = 'ä|x';
                   insert into stock.titles (id, name, subject_id, origin, weight, imprint, extra, grace) values ('{title}', 'Made online', '{title}', 'web', 0.00000000000000000001, '{{"place": "Linz", "edition": 2, "kept": [1]}}', '[]', '90 minutes');
                   insert into stock.copies (title_id, suffix, branch, condition) values ('{title}', 'z', 'O', 'worn');
                   insert into stock.loans (id, member_id, title_id, suffix, lent_at, due, fee_cents) values (gen_random_uuid(), '{member}', '{title}', 'z', '2026-02-03 04:05:06+00', 'infinity', 1)"#
            ),
        )
        .await;
    all_is_equal(&mut systems).await;
    assert_eq!(count(&systems, r#""Alt Bestand"."Ausleihe ""neu"".2""#, "stock", "stock.loans").await, ["26", "26"]);

    // Edits on both sides, of different records and of different fields of one; soft deletes there and here.
    at_the_desk(&systems,
            r#"update "Alt Bestand"."Leser Konto" set "Sprache" = 'fr', "Zeilen" = null, "Werbung" = 'J', "geändert" = localtimestamp where "Nr." % 4 = 1;
               update "Alt Bestand"."Leser Konto" set "Geburt" = '', "Guthaben" = -"Guthaben", "geändert" = localtimestamp where "Nr." % 4 = 2;
               update "Alt Bestand"."Leser Konto" set "gelöscht" = not "gelöscht", "geändert" = localtimestamp where "Nr." in (7, 10);
               update "Alt Bestand"."Sachgruppe" set "Über" = 'B 1', "geändert" = floor(extract(epoch from clock_timestamp())) where "Notation" = 'A';
               update "Alt Bestand"."Titel" set "Preis ct" = 1, "Verlag" = null, "Zähler" = "Zähler" + 1, "geändert" = now() where "ID" % 3 = 1;
               update "Alt Bestand"."Titel" set "entfernt" = localtimestamp, "geändert" = now() where "ID" = 5;
               update "Alt Bestand"."Exemplar" set "Zustand" = 'Gut', "x" = 1, "y" = 2 where "Titel" % 5 = 1;
               update "Alt Bestand"."Exemplar" set "raus" = 'J' where "Titel" = 3;
               update "Alt Bestand"."Ausleihe ""neu"".2" set "Gebühr ""€""" = 0.05, "zurück" = null, "geändert" = localtimestamp where "lfd" % 3 = 1"#,
        )
        .await;
    systems
        .on_platform(
            r#"update identity.members set "name" = 'Mary Ann van der Berg-' || "number", updated_at = now() where "number" % 4 = 1;
               update identity.members set settings = settings || '{"theme": "light"}', level = 'child', updated_at = now() where "number" % 4 = 3;
               update identity.members set removed_at = now(), updated_at = now() where "number" in (8, 9);
               update identity.branches set hours = '{1,2}', "group" = 'x', updated_at = now() where code = 'N'"#,
        )
        .await;
    systems
        .on(
            "stock",
            r#"update stock.titles set rating = 5, languages = '{lat,"a\"b"}', updated_at = now() where name like '%2';
               update stock.titles set removed_at = case when removed_at is null then now() end, updated_at = now() where name in ('Title 8', 'Title 9');
               update stock.copies set acquired = acquired + interval '1 day', updated_at = now() where suffix = 'b2';
               update stock."copy.notes" set seen_at = '2026-06-01 10:00:00.123456+00', "order" = now() where "of copy" = 'b2';
               update stock.loans set due = '2027-01-01', "user" = null, updated_at = now() where fee_cents is null"#,
        )
        .await;
    all_is_equal(&mut systems).await;
    // What no column of the other side holds stands where it stood.
    let kept = "select count(*)::text from identity.members where settings ->> 'theme' = 'light'";
    assert_ne!(systems.platform_rows(kept).await, ["0"]);
    let kept = "select count(*)::text from stock.\"copy.notes\" where seen_at = '2026-06-01 10:00:00.123456+00'";
    assert_eq!(systems.rows_on("stock", kept).await, ["30"]);
    let kept = r#"select string_agg(imprint::text, '') from stock.titles where imprint::jsonb ? 'kept'"#;
    assert!(systems.rows_on("stock", kept).await.concat().contains("[1]"));
    let origins = "select origin || count(*) from stock.titles group by origin order by 1";
    assert_eq!(systems.rows_on("stock", origins).await, ["library30", "web3"]);
    let unmapped = r#"select distinct "Notiz ✓" from "Alt Bestand"."Leser Konto""#;
    assert_eq!(systems.legacy_rows(unmapped).await, ["nobody maps this"]);
}

#[tokio::test]
async fn two_edits_of_one_field_are_a_conflict_and_edits_of_two_are_none() {
    let mut systems = library("second conflict").await;
    all_is_equal(&mut systems).await;
    let of_member = r#"where "Zweig" = 'ZB' and "Nr." = 1"#;
    at_the_desk(&systems, &format!(
            r#"update "Alt Bestand"."Leser Konto" set "E-Mail" = 'office@x', "Zeilen" = 99, "geändert" = localtimestamp - interval '1 minute' {of_member};
               update "Alt Bestand"."Exemplar" set "Zustand" = 'zerlesen' where "Titel" = 4 and "Ex." = 'a'"#
        ))
        .await;
    systems
        .on_platform(
            r#"update identity.members set email = 'online@x', settings = jsonb_set(settings, '{ui,language}', '"es"'), updated_at = now()
               where branch = 'ZB' and "number" = 1"#,
        )
        .await;
    systems
        .on("stock", "update stock.copies set condition = 'fair', updated_at = now() where suffix = 'a' and title_id = (select id from stock.titles where name = 'Title 4')")
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.conflicts, summary.quarantined.len()), (2, 0), "{summary:?}");
    all_is_equal(&mut systems).await;
    let member = r#"select concat_ws(' ', email::text, settings #>> '{ui,language}', settings #>> array['ui.v2', 'rows']) from identity.members where branch = 'ZB' and "number" = 1"#;
    assert_eq!(systems.platform_rows(member).await, ["online@x es 99"]);
    // Stamps of a whole day are a tie, which the authority wins.
    let copy = r#"select "Zustand"::text from "Alt Bestand"."Exemplar" where "Titel" = 4 and "Ex." = 'a'"#;
    assert_eq!(systems.legacy_rows(copy).await, ["gut"]);
    let logged = "select string_agg(c.fields -> 0 ->> 'field' || ' ' || (c.fields -> 0 ->> 'winner') || ' ' || (c.fields -> 0 ->> 'why'), ',') from sync_bridge.conflict c where kind = 'conflict'";
    assert_eq!(systems.platform_rows(logged).await, ["email platform newer"]);
    assert_eq!(systems.rows_on("stock", logged).await, ["condition platform tie"]);
}

/// The fields at fault, each once: a row is met from either side of its pair.
fn quarantined(summary: &RunSummary) -> Vec<&str> {
    let mut found: Vec<&str> =
        summary.quarantined.iter().map(|row| row.field.as_deref().unwrap_or(&row.reason)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[tokio::test]
async fn what_does_not_fit_costs_its_row_and_heals_when_it_is_mended() {
    let mut systems = library("second fit").await;
    all_is_equal(&mut systems).await;
    at_the_desk(&systems,
            r#"update "Alt Bestand"."Leser Konto" set "Stufe" = 5, "geändert" = localtimestamp where "Nr." = 1;
               update "Alt Bestand"."Leser Konto" set "Geburt" = '31.02.2001', "geändert" = localtimestamp where "Nr." = 2;
               update "Alt Bestand"."Leser Konto" set "beigetreten" = '2025-10-26 02:30:00', "geändert" = localtimestamp where "Nr." = 3;
               update "Alt Bestand"."Titel" set "Erschienen" = '2020', "geändert" = now() where "ID" = 1;
               update "Alt Bestand"."Exemplar" set "x" = 1, "y" = null where "Titel" = 1 and "Ex." = 'a'"#,
        )
        .await;
    systems
        .on_platform(
            r#"update identity.members set balance = 0.1234567890123, updated_at = now() where "number" = 4;
               update identity.members set "name" = 'Ann ' || repeat('x', 25), updated_at = now() where "number" = 5;
               update identity.members set joined_at = '2026-01-01 10:00:00.5+00', updated_at = now() where "number" = 6;
               update identity.members set settings = '{"ui": {"language": ["de"]}}', updated_at = now() where "number" = 7;
               update identity.members set pin = 'ok', updated_at = now() where "number" = 8;
               update identity.branches set "group" = 'nine char', updated_at = now() where code = 'N'"#,
        )
        .await;
    systems
        .on(
            "stock",
            r#"update stock.titles set height = 0.123456789, updated_at = now() where name = 'Title 2';
               update stock.titles set imprint = '{"publisher": {"name": "Reclam"}}', updated_at = now() where name = 'Title 3';
               update stock.copies set shelf = '(1.23456789,0)', updated_at = now() where suffix = 'a' and title_id = (select id from stock.titles where name = 'Title 4');
               update stock.copies set shelf = '(NaN,0)', updated_at = now() where suffix = 'a' and title_id = (select id from stock.titles where name = 'Title 5');
               update stock.loans set lent_at = '2025-10-26 01:30:00+00', updated_at = now() where "user" = 'clerk 5';
               update stock.loans set fee_cents = 1, updated_at = now() where "user" = 'clerk 7';
               insert into stock."Subject Heading" (id, notation, label) values (gen_random_uuid(), repeat('n', 21), 'a notation of 21 letters')"#,
        )
        .await;
    let summary = systems.run().await;
    assert_eq!(
        quarantined(&summary),
        [
            "balance",
            "born",
            "height",
            "imprint",
            "joined",
            "language",
            "lent",
            "level",
            "name",
            "notation",
            "published",
            "region",
            "shelf"
        ],
        "{summary:#?}"
    );
    // The rows beside them went through; no reason names a value.
    assert_eq!(
        systems.legacy_rows(r#"select encode("PIN", 'escape') from "Alt Bestand"."Leser Konto" where "Nr." = 8"#).await,
        ["ok"]
    );
    assert_eq!(
        systems
            .legacy_rows(r#"select "Gebühr ""€"""::text from "Alt Bestand"."Ausleihe ""neu"".2" where "lfd" = 7"#)
            .await,
        ["0.01"]
    );
    for row in &summary.quarantined {
        for value in ["0.1234567890123", "xxxx", "31.02.2001", "1.23456789", "nnnn", "Reclam", "nine char"] {
            assert!(!row.reason.contains(value), "{row:?}");
        }
    }
    systems.settle().await;
    systems.hold_the_same(&SAME).await;
    assert_eq!(systems.listed().len(), 30, "{:#?}", systems.listed());

    at_the_desk(&systems,
            r#"update "Alt Bestand"."Leser Konto" set "Stufe" = 3, "geändert" = localtimestamp where "Nr." = 1;
               update "Alt Bestand"."Leser Konto" set "Geburt" = '28.02.2001', "geändert" = localtimestamp where "Nr." = 2;
               update "Alt Bestand"."Leser Konto" set "beigetreten" = '2025-10-26 03:30:00', "geändert" = localtimestamp where "Nr." = 3;
               update "Alt Bestand"."Titel" set "Erschienen" = '20200101', "geändert" = now() where "ID" = 1;
               update "Alt Bestand"."Exemplar" set "y" = 1 where "Titel" = 1 and "Ex." = 'a'"#,
        )
        .await;
    systems
        .on_platform(
            r#"update identity.members set balance = 0.123456789012, updated_at = now() where "number" = 4;
               update identity.members set "name" = 'Ann ' || repeat('x', 20), updated_at = now() where "number" = 5;
               update identity.members set joined_at = '2026-01-01 10:00:00+00', updated_at = now() where "number" = 6;
               update identity.members set settings = '{"ui": {"language": "de"}}', updated_at = now() where "number" = 7;
               update identity.branches set "group" = '8 chars.', updated_at = now() where code = 'N'"#,
        )
        .await;
    systems
        .on(
            "stock",
            r#"update stock.titles set height = 0.125, updated_at = now() where name = 'Title 2';
               update stock.titles set imprint = '{"publisher": "Reclam"}', updated_at = now() where name = 'Title 3';
               update stock.copies set shelf = '(1.234,0)', updated_at = now() where shelf is not null and suffix = 'a' and title_id in (select id from stock.titles where name in ('Title 4', 'Title 5'));
               update stock.loans set lent_at = '2025-10-26 02:30:00+00', updated_at = now() where "user" = 'clerk 5';
               update stock."Subject Heading" set notation = repeat('n', 20), "updated at" = now() where label like 'a notation%'"#,
        )
        .await;
    all_is_equal(&mut systems).await;
}

/// A cast to the library's type cuts the code to four letters, which are another branch's.
#[tokio::test]
async fn a_code_that_is_too_long_is_nobody_elses() {
    let mut systems = library("second long").await;
    systems.on_platform("insert into identity.branches (code, title, is_open) values ('MITTE', 'another', true)").await;
    let report = systems.run_page("branch", Side::Platform, keys(vec![Key("MITTE".into())])).await;
    let field = |report: &PageReport| report.quarantined.iter().map(|row| row.field.clone()).collect::<Vec<_>>();
    assert_eq!(field(&report), [Some("code".to_owned())], "{report:?}");
    let paired = "select count(*)::text from sync_bridge.pair where legacy_key is not null";
    assert_eq!(systems.platform_rows(paired).await, ["0"]);
    let named = r#"select "Name" from "Alt Bestand"."Zweigstelle" where "Kürzel" = 'MITT'"#;
    assert_eq!(systems.legacy_rows(named).await, ["Mitte"]);
    systems.settle().await;
    systems.hold_the_same(&SAME).await;
    assert_eq!(systems.listed(), ["branch platform MITTE"]);
    let named = "select title from identity.branches where code in ('MITT', 'MITTE') order by code";
    assert_eq!(systems.platform_rows(named).await, ["Mitte", "another"]);
}
