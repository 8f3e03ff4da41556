//! Kinds of values and keys that databases hold and bridges get wrong: exact numbers in json, odd numbers in texts, keys
//! whose order is not the catalogue's own, keys with anything in them, databases of other encodings.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::PgPool;
use sync_bridge::config::{CustomerId, EntityId, Finding, Side};
use sync_bridge::ledger::{difference, quarantine};
use sync_bridge::mapping::{Class, Column, Lens, On};
use sync_bridge::stages::{Difference, Key};

use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Same, Systems};
use crate::support::{database, database_in};

/// One entity `item` with a field per name, the same on both sides.
fn item(legacy_key: &str, platform_key: &str, fields: &[&str]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|name| format!("    {name} = {{ legacy = \"{name}\", platform = \"{name}\" }}\n")).collect();
    format!(
        "[[stages]]\nname = \"items\"\n  [[stages.entities]]\n  id = \"item\"\n  \
         legacy = {{ database = \"legacy\", table = \"item\", key = {legacy_key} }}\n  \
         platform = {{ database = \"platform\", table = \"item\", key = {platform_key} }}\n    \
         [stages.entities.fields]\n{}",
        fields.concat()
    )
}

/// A table `item` of these columns, stamped.
fn table(columns: &str) -> String {
    format!("create table item ({columns}, updated_at timestamptz not null default now())")
}

#[tokio::test]
async fn numbers_in_json_are_exact_on_both_sides() {
    let mut systems = Systems::new(
        "json",
        &table("id serial primary key, body json"),
        &table("id uuid primary key, body jsonb"),
        &item("\"id\"", "\"id\"", &["body"]),
    )
    .await;
    let long = r#"{"n": 12345678901234567890123, "d": 0.1234567890123456789, "z": 1.10}"#;
    systems.on_legacy(&format!("insert into item (body) values ('{long}'), ('{{\"n\": 9007199254740993.5}}')")).await;
    systems.settle().await;
    let bodies = "select concat_ws(' ', body->>'n', body->>'d') from item order by body->>'n'";
    let exact = ["12345678901234567890123 0.1234567890123456789", "9007199254740993.5"];
    systems.both_hold(bodies, bodies, &exact).await;
    // The last digit is an edit like any other, and an edit beside it leaves the original as it was.
    systems
        .on_legacy("update item set body = replace(body::text, '123,', '124,')::json, updated_at = now() where id = 1")
        .await;
    systems.settle().await;
    systems.on_platform(r#"update item set body = body || '{"x": 1}', updated_at = now()"#).await;
    systems.settle().await;
    let exact = ["12345678901234567890124 0.1234567890123456789", "9007199254740993.5"];
    systems.both_hold(bodies, bodies, &exact).await;
    let texts = "select jsonb_agg(body::jsonb order by body->>'n')::text from item";
    let legacy = systems.legacy_rows(texts).await;
    assert!(legacy[0].contains("\"x\": 1"), "{legacy:?}");
    let count = "select count(*)::text from sync_bridge.conflict";
    assert_eq!(systems.platform_rows(count).await, ["0"]);
}

#[tokio::test]
async fn a_key_whose_order_is_an_extensions_is_read_whole_page_by_page() {
    let key = "create extension citext; ";
    let keyed =
        |rest: &str| format!("{key}{}", table(&format!("code citext primary key, tenant citext not null{rest}")));
    let stages = item("\"code\"", "\"code\"", &["code", "v"])
        .replace("key = \"code\" }", "key = \"code\", scope = { tenant = \"A\" } }");
    let mut systems = Systems::new("citext", &keyed(", v text"), &keyed(", v text"), &stages).await;
    // Capitals come before small letters in text, and not in citext; the letters of a page's end decide what is left out.
    systems
        .on_legacy(
            "insert into item (code, tenant, v)
             select case when n % 2 = 0 then upper(code) else code end, case when n = 7 then 'b' else 'A' end, n
             from (select n, chr(97 + n % 26) || lpad(n::text, 3, '0') as code from generate_series(0, 249) n) k",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.quarantined.len()), (249, 0), "{summary:?}");
    systems.on_legacy("update item set v = v || 'x', updated_at = now()").await;
    assert_eq!(systems.run().await.to_platform, 249);
    systems.on_platform("update item set v = 'p', updated_at = now() where code = 'A000'").await;
    assert_eq!(systems.run().await.to_legacy, 1);
    // Another tenant's, which nobody reads.
    systems.on_legacy("delete from item where tenant = 'b'").await;
    systems
        .oracles(&[Same {
            entity: "item",
            legacy: "select code::text, concat_ws('|', code::text, v) from item where tenant = 'A'",
            platform: "select code::text, concat_ws('|', code::text, v) from item",
        }])
        .await;
    for side in Side::BOTH {
        let whole =
            systems.data.cut_whole(&CustomerId::new(CUSTOMER), &EntityId::new("item"), side).await.expect("a cut");
        let mut rows = 0;
        for range in whole {
            rows += systems.run_page("item", side, range).await.rows_read;
        }
        assert_eq!(rows, 249, "{side}: what a comparison of whole tables reads");
    }
    let locator = systems.config.source.locator();
    let findings = systems.data.findings(&CustomerId::new(CUSTOMER), &locator, None).await.expect("findings");
    let by_text = |finding: &&Finding| finding.help.as_ref().is_some_and(|help| help.contains("((code::text))"));
    assert_eq!(findings.iter().filter(by_text).count(), 2, "{findings:#?}");
}

const CODED: [&str; 2] = ["id serial primary key, code text unique, v text", "code text primary key, v text"];

#[tokio::test]
async fn a_key_that_the_other_sides_encoding_lacks_costs_its_row() {
    let databases = [database_in("latin l", "LATIN1").await, database("latin p").await];
    let stages = item("\"id\"", "\"code\"", &["code", "v"])
        .replace("    [stages.entities.fields]", "  match_on = [\"code\"]\n    [stages.entities.fields]");
    let mut systems = Systems::over("latin", databases, &table(CODED[0]), &table(CODED[1]), &stages).await;
    systems.on_legacy("insert into item (code, v) select 'c' || n, 'é' from generate_series(1, 5) n").await;
    systems.settle().await;
    systems
        .on_platform(
            "insert into item (code, v) select 'p' || n, 'ü' from generate_series(1, 40) n;
             insert into item (code, v) values ('ключ', 'x'), ('smile', '😀');
             update item set v = 'edited', updated_at = now() where code = 'c1'",
        )
        .await;
    let summary = systems.run().await;
    let mut refused: Vec<&str> = summary.quarantined.iter().map(|row| row.key.0.as_str()).collect();
    refused.sort_unstable();
    assert_eq!((summary.to_legacy, refused), (41, vec!["smile", "ключ"]), "{summary:?}");
    systems.on_platform("update item set v = 'a smile', updated_at = now() where code = 'smile'").await;
    assert_eq!(systems.run().await.to_legacy, 1);
    systems
        .oracles(&[Same {
            entity: "item",
            legacy: "select id::text, concat_ws('|', code, v) from item",
            platform: "select code, concat_ws('|', code, v) from item",
        }])
        .await;
}

#[tokio::test]
async fn parts_of_a_key_may_hold_anything() {
    let mut systems = Systems::new(
        "parts",
        &table("a text, b text, v text, primary key (a, b)"),
        &table("id uuid primary key, a text, b text, v text, unique (a, b)"),
        &item("[\"a\", \"b\"]", "\"id\"", &["a", "b", "v"]),
    )
    .await;
    // The second would split into the first's key; the last is where the table's only page ends.
    systems
        .on_legacy(
            r"insert into item (a, b, v) values ('a', 'b', 'victim'), (E'a\x1fb', 'c', 'evil'), ('', '', 'empty'), ('z', '', 'half'),
              ('e', 'e', 'between'), (E'\x1e1', E'\x1e', 'escapes'), (E'z\x1f', E'\x1f', 'last')",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.quarantined.len()), (7, 0), "{summary:?}");
    systems.on_platform("update item set v = v || ' edited', updated_at = now() where v in ('evil', 'last')").await;
    assert_eq!(systems.run().await.to_legacy, 2);
    let rows = "select quote_literal(a) || quote_literal(b) || v from item order by a collate \"C\", b collate \"C\"";
    assert_eq!(systems.legacy_rows(rows).await, systems.platform_rows(rows).await);
    let victim = "select v from item where a = 'a'";
    systems.both_hold(victim, victim, &["victim"]).await;
    systems.settle().await;
}

/// What the bridge makes of a text that stands for a number: none, if it takes it for none.
fn number(text: &str) -> Option<String> {
    let lens = Lens::Same(Class::Number);
    let column = Column {
        name: "n".into(),
        type_sql: "pg_catalog.\"numeric\"".into(),
        class: Class::Number,
        element: None,
        nullable: true,
        local_time: false,
        caseless: false,
        fixed: false,
    };
    let on = On { side: Side::Platform, columns: &[column], at: &[0], zone: chrono_tz::Tz::UTC };
    let cells = [Some(text.into())];
    let read = lens.get(&on, &cells);
    read.ok().and_then(|value| value.as_deref().map(str::to_owned))
}

#[tokio::test]
async fn a_text_is_a_number_where_postgresql_says_so() {
    let database = database("numbers").await;
    let pool = PgPool::connect(database.url.expose()).await.expect("a connection");
    let tried = "create function tried(text) returns text language plpgsql as
      $$ begin return trim_scale($1::numeric)::text; exception when data_exception then return null; end $$";
    sqlx::raw_sql(tried).execute(&pool).await.expect("a function");
    let mut texts: Vec<String> = [
        "1.5each",
        "e5",
        ".",
        "-.e",
        "1.0E",
        "NaN",
        "nan",
        "-NaN",
        "+nan",
        "Infinity",
        "-Infinity",
        "+infinity",
        "inf",
        "-INF",
        "infin",
        " 5",
        "5 ",
        "\t5\n",
        "\u{b}5\u{c}\r",
        "\u{a0}5",
        "- 5",
        "+5",
        "+-5",
        "007",
        "-0",
        "-0.00",
        "1.",
        ".5",
        "1.e5",
        ".5e-1",
        "1e+05",
        "1e 5",
        "1e5 ",
        "1e131071",
        "1e131072",
        "-1e131071",
        "0.1e131072",
        "1e-16383",
        "1e-16384",
        "0e999999",
        "0e-16383",
        "0e-16384",
        "1e1073741822",
        "0e1073741823",
        "0e-1073741823",
        "0e99999999999999999999",
        "1e-3000000",
        "",
        " ",
        "1,5",
        "1..5",
        "1.2.3",
        "\u{661}",
        "\u{ff11}",
        "1f",
        "1e5e5",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push(format!("1.{}", "0".repeat(16_384)));
    texts.push(format!("{}1", "0".repeat(200_000)));
    texts.push("9".repeat(131_073));
    // And whatever else can be spelled.
    let letters: Vec<char> = "00159..eE+- naNifI".chars().collect();
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..20_000 {
        let length = random.random_range(1..8);
        texts.push((0..length).map(|_| letters[random.random_range(0..letters.len())]).collect());
    }
    let answers: Vec<Option<String>> =
        sqlx::query_scalar("select tried(t) from unnest($1::text[]) with ordinality as w (t, n) order by n")
            .bind(&texts)
            .fetch_all(&pool)
            .await
            .expect("answers");
    for (text, answer) in texts.iter().zip(answers) {
        let shown: String = text.chars().take(40).collect();
        // Until PostgreSQL 16 an exponent may begin with a blank; nobody writes that.
        if !text.contains("e ") && !text.contains("E ") {
            assert_eq!(number(text), answer, "{shown:?}");
        }
    }
}

#[tokio::test]
async fn a_text_that_is_no_number_costs_its_row() {
    let mut systems = Systems::new(
        "no numbers",
        &table("id serial primary key, v text"),
        &table("id uuid primary key, v numeric"),
        &item("\"id\"", "\"id\"", &["v"]),
    )
    .await;
    systems
        .on_legacy("insert into item (v) values ('1'), ('1.5each'), ('e5'), ('2.50'), ('.'), ('007'), ('12 kg'), ('1e3'), (' 5'), ('1.0E'), ('1e-3000000')")
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.quarantined.len()), (5, 6), "{summary:?}");
    assert!(summary.quarantined.iter().all(|row| row.field.as_deref() == Some("v")), "{summary:?}");
    assert_eq!(
        systems.platform_rows("select trim_scale(v)::text from item order by v").await,
        ["1", "2.5", "5", "7", "1000"]
    );
    // What was not edited stays as it was written.
    systems.settle().await;
    assert_eq!(
        systems.legacy_rows("select v from item where id in (4, 6, 9) order by id").await,
        ["2.50", "007", " 5"]
    );
}

#[tokio::test]
async fn databases_of_other_encodings_take_part() {
    for (encoding, letters) in [("WIN1251", "Ключ"), ("SQL_ASCII", "Ключ"), ("EUC_JP", "鍵"), ("LATIN2", "Łódź")]
    {
        let databases = [database_in(&format!("coded {encoding}"), encoding).await, database("coded p").await];
        let stages = item("\"id\"", "\"id\"", &["code", "v"])
            .replace("    [stages.entities.fields]", "  match_on = [\"code\"]\n    [stages.entities.fields]")
            .replace(
                "code = { legacy = \"code\", platform = \"code\"",
                "code = { legacy = \"code\", platform = \"code\", lens = \"lowercase\"",
            );
        let tables = [table(CODED[0]), table("id uuid primary key, code text unique, v text")];
        let mut systems = Systems::over("coded", databases, &tables[0], &tables[1], &stages).await;
        systems.on_legacy(&format!("insert into item (code, v) values ('one', '{letters}'), ('two', '2')")).await;
        systems
            .on_platform(&format!(
                "insert into item (id, code, v) values (gen_random_uuid(), '{}', 'p')",
                letters.to_lowercase()
            ))
            .await;
        let summary = systems.run().await;
        assert_eq!(
            (summary.to_platform, summary.to_legacy, summary.quarantined.len()),
            (2, 1, 0),
            "{encoding}: {summary:?}"
        );
        if encoding == "SQL_ASCII" {
            // Bytes that are no text cost their row.
            systems.on_legacy("update item set v = E'M\\xfcller', updated_at = now() where code = 'one'; update item set v = '3', updated_at = now() where code = 'two'").await;
            let summary = systems.run().await;
            assert_eq!(summary.to_platform, 1, "{summary:?}");
            assert_eq!(summary.quarantined[0].field.as_deref(), Some("v"), "{summary:?}");
            systems.on_legacy("update item set v = 'healed', updated_at = now() where code = 'one'").await;
        }
        systems
            .oracles(&[Same {
                entity: "item",
                legacy: "select id::text, concat_ws('|', code, v) from item",
                platform: "select id::text, concat_ws('|', code, v) from item",
            }])
            .await;
    }
}

#[tokio::test]
async fn a_key_that_no_index_of_the_ledger_holds_costs_its_row() {
    let mut systems = Systems::new(
        "long keys",
        &table("code text primary key, v text"),
        &table("id uuid primary key, code text, v text"),
        &item("\"code\"", "\"id\"", &["code", "v"]),
    )
    .await;
    systems
        .on_legacy(
            "insert into item (code, v) select 'c' || n, n from generate_series(1, 5) n;
             insert into item (code, v) select left(string_agg(md5(n::text || 'x'), ''), 2689), 'long' from generate_series(1, 85) n;
             insert into item (code, v) select left(string_agg(md5(n::text || 'y'), ''), 2400), 'fits' from generate_series(1, 85) n",
        )
        .await;
    let summary = systems.run().await;
    assert_eq!((summary.to_platform, summary.quarantined.len()), (6, 1), "{summary:?}");
    let same = [Same {
        entity: "item",
        legacy: "select code, concat_ws('|', code, v) from item",
        platform: "select id::text, concat_ws('|', code, v) from item",
    }];
    systems.oracles(&same).await;
    // The queue's list holds it too, under a name of its own.
    let queue = queue("long keys").await;
    let mut connection = queue.pool.acquire().await.expect("a connection");
    let rows = &summary.quarantined;
    quarantine::upsert(&mut connection, CUSTOMER, "item", 1, rows).await.expect("listed");
    quarantine::upsert(&mut connection, CUSTOMER, "item", 2, rows).await.expect("listed again");
    let listed: i64 =
        sqlx::query_scalar("select count(*) from bridge.quarantine").fetch_one(&queue.pool).await.expect("a count");
    assert_eq!(listed, 1);
    // As does the list of differences, of two such keys at once.
    let long = "select left(string_agg(md5(n || letter), ''), 2400) from generate_series(1, 85) n, (values ('a'), ('b')) as two (letter) group by letter";
    let keys = systems.legacy_rows(long).await;
    let key = |at: usize| Some(Key(keys[at].clone()));
    let found = Difference {
        legacy_key: key(0),
        platform_key: key(1),
        kind: "missed".into(),
        fields: vec!["v".into()],
        letter: None,
    };
    for noted in [1, 0] {
        let differences = std::slice::from_ref(&found);
        let counted = difference::insert(&mut connection, CUSTOMER, 1, "item", differences).await.expect("noted");
        assert_eq!(counted, noted, "once, whoever finds it");
    }
}

/// What a side may look like besides: names in capitals, a partitioned table, an enum, domains, an identity, a generated column.
#[tokio::test]
async fn tables_of_every_make_take_part() {
    let stages = r#"
[[stages]]
name = "items"
  [[stages.entities]]
  id = "item"
  legacy = { database = "legacy", table = "Old Shop.Item Ä", key = "Id", updated_at = "Last Update" }
  platform = { database = "platform", table = "item", key = ["id", "region"] }
    [stages.entities.fields]
    no = { legacy = "Id", platform = "id" }
    region = { legacy = "Region", platform = "region" }
    mood = { legacy = "Mood", platform = "mood" }
    size = { legacy = "Size", platform = "size" }
"#;
    let mut systems = Systems::new(
        "makes",
        r#"create schema "Old Shop"; create type "Mood" as enum ('sad', 'Happy');
           create domain small as integer check (value < 100); create domain smaller as small check (value < 50);
           create table "Old Shop"."Item Ä" ("Id" bigint generated always as identity primary key, "Region" text not null default 'eu',
             "Mood" "Mood", "Size" smaller, "Twice" integer generated always as ("Size" * 2) stored,
             "Last Update" timestamptz not null default now())"#,
        "create type mood as enum ('Happy', 'sad');
         create table item (id bigint not null, region text not null, mood mood, size integer, updated_at timestamptz not null default now(),
           primary key (id, region)) partition by list (region);
         create table item_eu partition of item for values in ('eu'); create table item_rest partition of item default",
        stages,
    )
    .await;
    systems
        .on_legacy(r#"insert into "Old Shop"."Item Ä" ("Region", "Mood", "Size") select case n % 2 when 0 then 'eu' else 'us' end, 'Happy', n from generate_series(1, 9) n"#)
        .await;
    assert_eq!(systems.run().await.to_platform, 9);
    systems
        .on_platform("insert into item (id, region, mood, size) values (77, 'eu', 'sad', 7), (78, 'asia', 'sad', 70)")
        .await;
    systems.on_platform("update item set mood = 'sad', updated_at = now() where id = 1").await;
    let summary = systems.run().await;
    assert_eq!((summary.to_legacy, summary.quarantined.len()), (2, 1), "70 is no `smaller`: {summary:?}");
    assert_eq!(summary.quarantined[0].key.0, "78\u{1f}asia");
    systems.on_platform("update item set size = 8, updated_at = now() where id = 78").await;
    assert_eq!(systems.run().await.to_legacy, 1);
    systems
        .oracles(&[Same {
            entity: "item",
            legacy: r#"select "Id"::text, concat_ws('|', "Id", "Region", "Mood", "Size") from "Old Shop"."Item Ä""#,
            platform: "select id || E'\\x1f' || region, concat_ws('|', id, region, mood, size) from item",
        }])
        .await;
}

const CITEXT: &str = "create extension citext;";

#[tokio::test]
async fn texts_that_are_one_to_the_database_whatever_their_case_find_their_partner() {
    let own = |key: &str| format!("{CITEXT} {}", table(&format!("id {key}, code citext unique, v text")));
    let stages = item("\"id\"", "\"id\"", &["code", "v"])
        .replace("    [stages.entities.fields]", "  match_on = [\"code\"]\n    [stages.entities.fields]");
    let (legacy, platform) = (own("serial primary key"), own("uuid primary key default gen_random_uuid()"));
    let mut systems = Systems::new("caseless", &legacy, &platform, &stages).await;
    systems.on_legacy("insert into item (code, v) values ('ANN', 'x'), ('bob', 'x'), ('Öl', 'x')").await;
    systems.on_platform("insert into item (code, v) values ('ann', 'x'), ('BOB', 'x'), ('Öl', 'x'), ('Cy', 'x')").await;
    systems.settle().await;
    let codes = "select lower(code::text) from item order by 1";
    systems.both_hold(codes, codes, &["ann", "bob", "cy", "Öl"]).await;
    assert_eq!(systems.listed(), [""; 0]);
    // In whose letters it is spelled is a value like any other.
    systems.on_legacy("update item set code = 'Ann', updated_at = now() where code = 'ann'").await;
    systems.settle().await;
    let ann = "select code::text from item where code = 'ANN'";
    systems.both_hold(ann, ann, &["Ann"]).await;
    let locator = systems.config.source.locator();
    let findings = systems.data.findings(&CustomerId::new(CUSTOMER), &locator, None).await.expect("findings");
    let by_text = |finding: &&Finding| finding.help.as_ref().is_some_and(|help| help.contains("(lower(code::text))"));
    assert_eq!(findings.iter().filter(by_text).count(), 2, "{findings:#?}");
}

const REFERRING: &str = r#"
[[stages]]
name = "items"
  [[stages.entities]]
  id = "kid"
  legacy = { database = "legacy", table = "kid", key = "id" }
  platform = { database = "platform", table = "kid", key = "id" }
    [stages.entities.fields]
    n = { legacy = "n", platform = "n" }
    up = { legacy = "up", platform = "up", one_way = "to-platform" }
    kind = { legacy = "code", platform = "kind", lens = { ref = "kind" } }
  [[stages.entities]]
  id = "kind"
  legacy = { database = "legacy", table = "kind", key = "code" }
  platform = { database = "platform", table = "kind", key = "id" }
  match_on = ["code"]
    [stages.entities.fields]
    code = { legacy = "code", platform = "code" }
  [[stages.entities]]
  id = "tree"
  legacy = { database = "legacy", table = "tree", key = ["tenant", "nr"], scope = { tenant = "7" } }
  platform = { database = "platform", table = "tree", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
    parent = { legacy = ["tenant", "parent"], platform = "parent", lens = { ref = "tree" } }
"#;

/// A reference that knows no case, a column that is computed, and a tree within a tenant.
async fn referring(hint: &str) -> Systems {
    let stamp = "updated_at timestamptz not null default now()";
    let legacy = format!(
        "{CITEXT}
         create table kind (code citext primary key, {stamp});
         create table kid (id serial primary key, n text, up text generated always as (upper(n)) stored,
           code citext references kind (code), {stamp});
         create table tree (tenant integer not null, nr integer generated by default as identity, parent integer, name text,
           {stamp}, primary key (tenant, nr), foreign key (tenant, parent) references tree (tenant, nr));"
    );
    let platform = format!(
        "{CITEXT}
         create table kind (id uuid primary key default gen_random_uuid(), code citext unique, {stamp});
         create table kid (id uuid primary key default gen_random_uuid(), n text, up text, kind uuid references kind (id), {stamp});
         create table tree (id uuid primary key default gen_random_uuid(), parent uuid references tree (id), name text, {stamp});"
    );
    Systems::new(hint, &legacy, &platform, REFERRING).await
}

#[tokio::test]
async fn a_reference_finds_its_record_by_a_key_in_other_letters() {
    let mut systems = referring("caseless ref").await;
    systems
        .on_legacy(
            "insert into kind (code) values ('AB'), ('cd');
             insert into kid (n, code) values ('one', 'ab'), ('two', 'AB'), ('three', 'CD'), ('four', null)",
        )
        .await;
    systems.settle().await;
    let of_legacy = "select concat_ws('|', n, lower(code::text)) from kid order by n";
    let of_platform =
        "select concat_ws('|', n, lower(code::text)) from kid left join kind on kind.id = kid.kind order by n";
    systems.both_hold(of_legacy, of_platform, &["four", "one|ab", "three|cd", "two|ab"]).await;
    // What is computed there goes one way, and is never written.
    assert_eq!(systems.platform_rows("select up from kid order by up").await, ["FOUR", "ONE", "THREE", "TWO"]);
    // It stays as it is spelled until another record is named.
    systems.on_platform("update kid set n = 'ein', updated_at = now() where n = 'one'").await;
    systems.settle().await;
    assert_eq!(systems.legacy_rows("select code::text from kid where n = 'ein'").await, ["ab"]);
    systems
        .on_platform(
            "update kid set kind = (select id from kind where code = 'cd'), updated_at = now() where n = 'two'",
        )
        .await;
    systems.settle().await;
    assert_eq!(systems.legacy_rows("select code::text from kid where n = 'two'").await, ["cd"]);
    assert_eq!(systems.listed(), [""; 0]);
}

#[tokio::test]
async fn a_reference_may_share_a_column_of_the_scope() {
    let mut systems = referring("scoped ref").await;
    systems
        .on_legacy(
            "insert into tree (tenant, nr, parent, name) values
               (7, 100, null, 'root'), (7, 101, 100, 'kid'), (7, 102, 101, 'grandchild'), (8, 100, null, 'other')",
        )
        .await;
    systems.settle().await;
    let of_legacy =
        "select concat_ws('<', t.name, p.name) from tree t left join tree p on (p.tenant, p.nr) = (t.tenant, t.parent)
                     where t.tenant = 7 order by t.name";
    let of_platform =
        "select concat_ws('<', t.name, p.name) from tree t left join tree p on p.id = t.parent order by t.name";
    systems.both_hold(of_legacy, of_platform, &["grandchild<kid", "kid<root", "root"]).await;
    systems
        .on_platform(
            "update tree set parent = null, updated_at = now() where name = 'kid';
             insert into tree (name, parent) select 'new', id from tree where name = 'grandchild'",
        )
        .await;
    systems.settle().await;
    systems.both_hold(of_legacy, of_platform, &["grandchild<kid", "kid", "new<grandchild", "root"]).await;
    assert_eq!(systems.legacy_rows("select name from tree where tenant <> 7").await, ["other"]);
    assert_eq!(systems.listed(), [""; 0]);
}

#[tokio::test]
async fn an_object_holds_each_columns_values_as_what_they_are() {
    let stages = item("\"id\"", "\"id\"", &["k"])
        + "    doc = { legacy = [\"price\", \"ok\", \"d\", \"at\", \"n\"], platform = \"doc\", \
           lens = { object = [\"price\", \"ok\", \"d\", \"at\", \"n\"] } }\n";
    let mut systems = Systems::new(
        "object",
        &table("id serial primary key, k text, price numeric(8,2), ok boolean, d date, at timestamptz, n integer"),
        &table("id uuid primary key default gen_random_uuid(), k text, doc jsonb"),
        &stages,
    )
    .await;
    systems
        .on_legacy(
            "insert into item (k, price, ok, d, at, n) values ('a', 12.50, true, '2026-01-02', '2026-01-02 10:00+02', 7), \
             ('b', null, null, null, null, null)",
        )
        .await;
    systems
        .on_platform(
            r#"insert into item (k, doc) values
               ('c', '{"price": 3.5, "ok": false, "at": "2026-01-01T10:00:00Z", "n": 3, "x": 1}'),
               ('d', '{"price": "4.50", "n": 1e1}')"#,
        )
        .await;
    systems.settle().await;
    let legacy =
        "select concat_ws('|', k, price, ok, d, extract(hour from at at time zone 'utc'), n) from item order by k";
    assert_eq!(systems.listed(), [""; 0]);
    assert_eq!(systems.legacy_rows(legacy).await, ["a|12.50|t|2026-01-02|8|7", "b", "c|3.50|f|10|3", "d|4.50|10"]);
    let docs = "select concat_ws(' ', k, doc::text) from item order by k";
    let written = [
        r#"a {"d": "2026-01-02", "n": 7, "at": "2026-01-02 08:00:00+00", "ok": true, "price": 12.5}"#,
        "b",
        r#"c {"n": 3, "x": 1, "at": "2026-01-01T10:00:00Z", "ok": false, "price": 3.5}"#,
        r#"d {"n": 10, "price": "4.50"}"#,
    ];
    assert_eq!(systems.platform_rows(docs).await, written);
    // What stays keeps its spelling when something beside it changes.
    systems.on_legacy("update item set n = 11, updated_at = now() where k = 'd'").await;
    systems.on_platform(r#"update item set doc = doc || '{"price": 13}', updated_at = now() where k = 'a'"#).await;
    systems.settle().await;
    let price = "select price::text from item where k = 'a'";
    assert_eq!(systems.legacy_rows(price).await, ["13.00"]);
    let edited = "select doc::text from item where k = 'd'";
    assert_eq!(systems.platform_rows(edited).await, [r#"{"n": 11, "price": "4.50"}"#]);
}
