//! What is guessed, and above all what is not.

use proptest::prelude::*;

use super::*;
use crate::sides::postgres::{ForeignKey, Index, LiveColumn, Surveyed};
use crate::stages::check::live::{column, table};

/// A side from lines such as `users: id int4 key, mail text unique, boss int4 null >users, act bpchar in(Y/N)`. A table that is not in
/// `public` is called `schema.table`.
fn survey(lines: &str) -> Survey {
    let mut tables: Vec<Surveyed> = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (named, columns) = line.split_once(": ").expect("a table");
        let (schema, name) = named.split_once('.').unwrap_or(("public", named));
        let mut found = Surveyed {
            schema: schema.into(),
            name: name.into(),
            live: table(Vec::new()),
            primary_key: Vec::new(),
            indexes: Vec::new(),
            conditions: Vec::new(),
            rows_about: None,
            note: None,
        };
        for declared in columns.split(", ") {
            let mut words = declared.split(' ');
            let (name, typname) = (words.next().expect("a name"), words.next().expect("a type"));
            let mut made = column(name, typname, &[]);
            let index = |is_unique| Index {
                schema: schema.into(),
                table: found.name.clone(),
                is_unique,
                is_immediate: true,
                predicate: None,
                columns: vec![name.into()],
            };
            for word in words {
                match word {
                    "key" => {
                        found.primary_key.push(name.into());
                        // By the database, unless it says otherwise.
                        made.default = (typname != "text").then(|| "nextval('s')".into());
                    }
                    "unique" => found.indexes.push(index(true)),
                    "led" => found.indexes.push(index(false)),
                    "null" => made.nullable = true,
                    "now" => made.default = Some("now()".into()),
                    word if word.starts_with('=') => made.default = Some(format!("'{}'::text", &word[1..])),
                    word if word.starts_with('>') => found.live.foreign_keys.push(ForeignKey {
                        columns: vec![name.into()],
                        target_schema: "public".into(),
                        target_table: word[1..].into(),
                        target_columns: vec!["id".into()],
                    }),
                    word if word.starts_with("in(") => {
                        let values: Vec<String> = word[3..]
                            .trim_end_matches(')')
                            .split('/')
                            .map(|value| format!("'{value}'::text"))
                            .collect();
                        found.conditions.push(format!("({name} = ANY (ARRAY[{}]))", values.join(", ")));
                    }
                    other => panic!("{other}"),
                }
            }
            found.live.columns.push(made);
        }
        if !found.primary_key.is_empty() {
            let columns = found.primary_key.clone();
            let (schema, table) = (found.schema.clone(), found.name.clone());
            found.indexes.push(Index { schema, table, is_unique: true, is_immediate: true, predicate: None, columns });
        }
        tables.push(found);
    }
    Survey { tables, zone: None }
}

fn drafted(legacy: &str, platform: &str) -> Draft {
    draft(["L", "P"], [&survey(legacy), &survey(platform)])
}

/// All entities, each as `id: legacy = platform`.
fn entities(draft: &Draft) -> Vec<String> {
    let shown = |entity: &Entity| format!("{}: {} = {}", entity.id, entity.sides[0].name, entity.sides[1].name);
    draft.entities().filter(|entity| entity.doubts.is_empty()).map(shown).collect()
}

/// The fields of the only entity, each as `legacy = platform`; what is unsure with a question mark.
fn fields(legacy: &str, platform: &str) -> Vec<String> {
    let draft = drafted(&format!("users: id int4 key, {legacy}"), &format!("users: id uuid key, {platform}"));
    let entity = draft.entities().next().expect("an entity");
    let mut shown: Vec<String> = entity
        .fields
        .iter()
        .map(|field| {
            let columns = field.columns.each_ref().map(|columns| columns.join("+"));
            format!("{} = {}{}", columns[0], columns[1], if field.is_doubted { "?" } else { "" })
        })
        .collect();
    shown.sort();
    shown
}

#[test]
fn tables_are_matched_by_name_columns_and_references() {
    let draft = drafted(
        "tbl_users: id int4 key, mail text unique
         tbl_grps: id int4 key, descr text
         tbl_grp_usr: grp_id int4 key >tbl_grps, usr_id int4 key >tbl_users, role text
         tbl_log: id int4 key, line text",
        "users: id uuid key, email text unique
         groups: id uuid key, name text
         memberships: group_id uuid key >groups, user_id uuid key >users, role text
         sessions: id uuid key, token text",
    );
    assert_eq!(
        entities(&draft),
        ["group: tbl_grps = groups", "user: tbl_users = users", "membership: tbl_grp_usr = memberships"]
    );
    let left = draft.left.each_ref().map(|left| left.iter().map(|one| one.shown.clone()).collect::<Vec<_>>());
    assert_eq!(left, [vec!["tbl_log".to_owned()], vec!["sessions".to_owned()]]);
    let stages: Vec<usize> = draft.stages.iter().map(|stage| stage.entities.len()).collect();
    assert_eq!(stages, [2, 1], "what refers comes after what it refers to");
}

#[test]
fn two_tables_that_are_equally_good_are_no_guess() {
    let draft = drafted(
        "customers: id int4 key, name text, city text",
        "shop.customers: id uuid key, name text, city text
         archive.customers: id uuid key, name text, city text",
    );
    assert_eq!(entities(&draft), Vec::<String>::new());
    assert_eq!(
        draft.left[0][0].why,
        "like `shop.customers` and `archive.customers` of the platform, but not clearly enough"
    );
    // What more is alike decides.
    let draft = drafted(
        "customers: id int4 key, name text, city text, vat text",
        "shop.customers: id uuid key, name text, city text, vat text
         archive.customers: id uuid key, reason text",
    );
    assert_eq!(entities(&draft), ["customer: customers = customers"]);
    assert_eq!(draft.entities().next().map(|entity| entity.sides[1].schema.as_str()), Some("shop"));
}

#[test]
fn what_has_no_name_for_its_rows_is_left_with_the_reason() {
    let draft = drafted("log: line text, at timestamptz", "log: id uuid key, line text, at timestamptz");
    assert_eq!(entities(&draft), Vec::<String>::new());
    assert!(draft.left[0][0].why.starts_with("neither a primary key"), "{:?}", draft.left[0]);
}

#[test]
fn columns_are_matched_by_names_as_people_give_them() {
    assert_eq!(
        fields(
            "usr_mail text, tel text, descr text, birth_dt date, typ text, ext bool",
            "email text, phone_number text, title text, born date, kind text, is_external bool"
        ),
        [
            "birth_dt = born",
            "descr = title",
            "ext = is_external",
            "tel = phone_number",
            "typ = kind",
            "usr_mail = email"
        ]
    );
}

#[test]
fn two_columns_that_are_equally_good_are_no_guess() {
    assert_eq!(fields("title text, label text", "name text"), ["label = name?", "title = name?"]);
    // A better name decides, and takes the column from the others.
    assert_eq!(fields("title text null, name text", "name text"), ["name = name"]);
    assert_eq!(fields("title text, name text", "name text, label text"), ["name = name", "title = label"]);
}

#[test]
fn a_type_that_says_too_little_makes_a_comment() {
    assert_eq!(fields("active bpchar in(Y/N)", "active bool"), ["active = active"]);
    assert_eq!(fields("active bpchar", "active bool"), ["active = active?"], "which letters mean true?");
    assert_eq!(fields("active bpchar in(Y/J/N)", "active bool"), ["active = active?"], "three letters for two");
    assert_eq!(fields("price int4", "price numeric(10,2)"), ["price = price?"], "cents?");
    assert_eq!(fields("seen int4", "seen timestamptz"), ["seen = seen"], "seconds: nothing else fits");
    assert_eq!(fields("seen int8", "seen timestamptz"), ["seen = seen?"], "seconds or milliseconds?");
    assert_eq!(fields("born varchar(8)", "born date"), ["born = born?"]);
    assert_eq!(fields("kind bpchar in(D/T)", "kind text in(department/team)"), ["kind = kind"]);
    assert_eq!(fields("kind int2 in(1/2)", "kind text in(department/team)"), ["kind = kind?"]);
    assert_eq!(fields("kind date", "kind int4, note text null"), ["kind = kind?"], "no lens at all");
    assert_eq!(fields("password text", "password_hash text"), ["password = password_hash?"]);
    assert_eq!(fields("created timestamptz", "created_at timestamptz"), ["created = created_at?"]);
    assert_eq!(
        fields("addr inet, x text null", "network inet, y text null"),
        ["addr = network?"],
        "the only ones of their type"
    );
}

#[test]
fn the_one_text_that_each_side_demands_is_the_same() {
    let demanded =
        |legacy: &str, platform: &str| fields(&format!("mail text, {legacy}"), &format!("email text, {platform}"));
    assert_eq!(demanded("wort text", "caption text"), ["mail = email", "wort = caption"]);
    assert_eq!(demanded("wort int4", "caption int4"), ["mail = email", "wort = caption?"], "numbers are of all kinds");
    assert_eq!(
        demanded("wort text", "caption text, word text"),
        [" = caption?", " = word?", "mail = email", "wort = ?"]
    );
    assert_eq!(demanded("wort text null", "caption text"), [" = caption?", "mail = email"]);
}

#[test]
fn what_says_nothing_on_a_side_without_null_is_null_on_the_other() {
    let null = |legacy: &str, platform: &str| {
        let draft = drafted(&format!("t: id int4 key, {legacy}"), &format!("t: id uuid key, {platform}"));
        let entity = draft.entities().next().expect("an entity");
        entity.fields[0].null.clone()
    };
    let zip = Some("0000".to_owned());
    assert_eq!(null("zip text =0000, x text", "zip text null, x text"), [zip, None]);
    assert_eq!(null("zip text =0000, x text", "zip text, x text"), [None, None]);
    assert_eq!(null("zip text, x text", "zip text null, x text"), [None, None]);
    assert_eq!(null("zip bpchar =N in(Y/N), x text", "zip bool null, x text"), [None, None], "a no is no nothing");
}

#[test]
fn two_names_are_joined_only_where_nothing_else_is_the_name() {
    assert_eq!(fields("first_name text, last_name text", "display_name text"), ["first_name+last_name = display_name"]);
    assert_eq!(
        fields("first_name text, last_name text", "first_name text, last_name text, display_name text null"),
        ["first_name = first_name", "last_name = last_name"]
    );
}

#[test]
fn a_number_of_something_else_is_no_value_to_carry_over() {
    let draft = drafted(
        "users: id int4 key, mail text, city_id int4 >cities
         cities: id int4 key, label text",
        "users: id uuid key, email text, city_id int4",
    );
    let user = draft.entities().next().expect("an entity");
    let city = user.fields.iter().find(|field| field.name == "city_id").expect("it is told");
    assert!(city.is_doubted && city.why.contains("refers to `cities`"), "{city:?}");
}

#[test]
fn a_stamp_is_named_or_shown_by_its_index_and_one_of_two_is_not_chosen() {
    let stamp = |columns: &str| {
        let survey = survey(&format!("t: id int4 key, {columns}"));
        let view = View::of(&survey);
        own::stamp(&view.tables[0])
    };
    let chosen = |columns: &str| match stamp(columns) {
        Pick::Sure(column, _) => column,
        Pick::Unsure(columns, _) => columns.join(" or "),
        Pick::None => "none".into(),
    };
    assert_eq!(chosen("changed timestamptz, made timestamptz"), "changed");
    assert_eq!(chosen("chg_ts timestamptz, last_update timestamptz"), "chg_ts or last_update");
    assert_eq!(chosen("chg_ts timestamptz, last_update timestamptz led"), "last_update");
    assert_eq!(chosen("stand timestamptz now led, seen timestamptz"), "stand");
    assert_eq!(chosen("created_at timestamptz now led"), "none");
    assert_eq!(chosen("changed int8"), "none", "a number without more is no time");
    assert_eq!(chosen("day date"), "none");
}

#[test]
fn one_wide_table_and_two_narrow_ones_are_two_entities() {
    let draft = drafted(
        "users: id int4 key, mail text unique, phone text null, born date null",
        "users: id uuid key, email text unique
         profiles: id uuid key, user_id uuid unique >users, phone text null, birth_date date null",
    );
    assert_eq!(entities(&draft), ["user: users = users", "profile: users = profiles"]);
    let profile = draft.entities().find(|entity| entity.id == "profile").expect("it is there");
    assert_eq!(profile.fields[0].columns, [vec!["id".to_owned()], vec!["user_id".to_owned()]]);
    assert_eq!(
        profile.match_on.as_ref().map(|it| (&it.fields[..], it.is_doubted)),
        Some((&["user".to_owned()][..], false))
    );
}

#[test]
fn two_narrow_tables_of_legacy_and_a_wide_one_are_two_entities_too() {
    let draft = drafted(
        "users: id int4 key, mail text unique
         details: id int4 key, user_id int4 unique >users, phone text null, birth_dt date null",
        "users: id uuid key, email text unique, phone text null, birth_date date null",
    );
    assert_eq!(entities(&draft), ["user: users = users", "detail: details = users"]);
    let detail = draft.entities().find(|entity| entity.id == "detail").expect("it is there");
    assert_eq!(detail.fields[0].columns, [vec!["user_id".to_owned()], vec!["id".to_owned()]]);
}

#[test]
fn a_natural_key_is_unique_on_both_sides_and_the_only_one() {
    let match_on = |legacy: &str, platform: &str| {
        let draft = drafted(&format!("t: id int4 key, {legacy}"), &format!("t: id uuid key, {platform}"));
        let entity = draft.entities().next().expect("an entity");
        entity.match_on.clone().map(|it| format!("{}{}", it.fields.join("+"), if it.is_doubted { "?" } else { "" }))
    };
    assert_eq!(match_on("code text unique, x text", "code text unique, x text"), Some("code".into()));
    assert_eq!(match_on("code text unique, x text", "code text, x text"), Some("code?".into()));
    assert_eq!(
        match_on("code text unique, mail text unique", "code text unique, email text unique"),
        Some("code?".into())
    );
    assert_eq!(match_on("code text, x text", "code text, x text"), None);
}

#[test]
fn what_check_refuses_becomes_a_comment_and_so_does_what_rests_on_it() {
    let mut draft = drafted(
        "users: id int4 key, mail text unique
         posts: id int4 key, title text, user_id int4 >users",
        "users: id uuid key, email text unique
         posts: id uuid key, title text, user_id uuid >users",
    );
    let finding = |code, entity: &str, field: Option<&str>| Finding {
        entity: Some(crate::config::EntityId::new(entity)),
        field: field.map(ToOwned::to_owned),
        ..Finding::error(code, "so it is")
    };
    let sure = |draft: &Draft| draft.counts().fields;
    let before = sure(&draft);
    assert!(!draft.settle(&[finding("missing-right", "user", None), finding("not-registered", "post", None)]));
    assert_eq!(sure(&draft), before, "the file is right, and the database is not");
    assert!(draft.settle(&[finding("generated-column", "post", Some("title"))]));
    assert_eq!(sure(&draft), before - 1);
    assert!(draft.settle(&[finding("not-null-not-mapped", "user", None)]));
    assert_eq!(entities(&draft), Vec::<String>::new(), "nothing of `post` is left without its reference");
    let text = draft.text();
    let table: toml::Table = toml::from_str(&text).expect("TOML");
    assert!(!table.contains_key("stages"), "{text}");
}

/// Names of every spelling, few enough to meet on both sides.
fn a_name() -> impl Strategy<Value = String> {
    let words = [
        "id",
        "user",
        "users",
        "user_id",
        "name",
        "first_name",
        "last_name",
        "mail",
        "email",
        "status",
        "active",
        "deleted",
        "deleted_at",
        "updated_at",
        "last_update",
        "created",
        "lat",
        "lon",
        "location",
        "legacy_id",
        "parent_id",
        "Order \"x\"",
        "a.b",
        "it's",
        "$",
        "${X}",
        "{y}",
        "line\nbreak",
        "\u{1}",
        "✓",
        "größe",
        "'\"",
        "\\",
        "#",
        " ",
        "tenant",
    ];
    proptest::sample::select(words.to_vec()).prop_map(str::to_owned)
}

/// A table whose columns, keys, checks and references are as they come.
fn a_table() -> impl Strategy<Value = Surveyed> {
    let types = [
        "int4",
        "int8",
        "numeric(10,2)",
        "text",
        "bpchar(1)",
        "varchar(8)",
        "bool",
        "date",
        "timestamptz",
        "timestamp",
        "uuid",
        "jsonb",
        "point",
        "inet",
        "money",
        "bytea",
    ];
    let defaults =
        [None, Some("now()"), Some("''::text"), Some("'0'::text"), Some("0"), Some("nextval('s'::regclass)")];
    let checks = ["'Y'::text, 'N'::text", "'Y'::text", "'active'::text, 'it''s'::text", "1, 0", "7", "'${X}'::text"];
    let a_column = (
        (a_name(), proptest::sample::select(types.to_vec()), proptest::sample::select(defaults.to_vec())),
        (
            any::<bool>(),
            any::<bool>(),
            0..4_u8,
            0..4_u8,
            proptest::option::weighted(0.3, proptest::sample::select(checks.to_vec())),
        ),
    );
    (a_name(), a_name(), proptest::collection::vec(a_column, 1..9), a_name()).prop_map(
        |(schema, name, columns, target)| {
            let live = columns.iter().map(|((name, typname, default), (nullable, generated, ..))| LiveColumn {
                nullable: *nullable,
                generated: *generated && *nullable,
                default: default.map(ToOwned::to_owned),
                ..column(name, typname, &[])
            });
            let mut found = Surveyed {
                live: table(Vec::new()),
                primary_key: Vec::new(),
                indexes: Vec::new(),
                conditions: Vec::new(),
                rows_about: Some(7),
                note: Some("[[stages]]\n".into()),
                schema,
                name,
            };
            for one in live {
                if found.live.column(&one.name).is_none() {
                    found.live.columns.push(one);
                }
            }
            for ((name, ..), (_, _, key, unique, check)) in &columns {
                let spelled = crate::sides::postgres::shown_ident(name);
                if *key == 0 && !found.primary_key.contains(name) {
                    found.primary_key.push(name.clone());
                }
                let (schema, table) = (found.schema.clone(), found.name.clone());
                let (is_unique, columns) = (*unique == 0, vec![spelled.clone()]);
                found.indexes.push(Index { schema, table, is_unique, is_immediate: true, predicate: None, columns });
                found.conditions.extend(check.map(|check| format!("({spelled} = ANY (ARRAY[{check}]))")));
                if *unique == 1 {
                    found.live.foreign_keys.push(ForeignKey {
                        columns: vec![name.clone()],
                        target_schema: found.schema.clone(),
                        target_table: target.clone(),
                        target_columns: vec!["id".into()],
                    });
                }
            }
            found
        },
    )
}

fn a_side() -> impl Strategy<Value = Survey> {
    (
        proptest::collection::vec(a_table(), 1..5),
        proptest::sample::select(&[None, Some("Europe/Berlin"), Some("Mars")][..]),
    )
        .prop_map(|(tables, zone)| {
            let mut seen = BTreeSet::new();
            let tables = tables.into_iter().filter(|one| seen.insert((one.schema.clone(), one.name.clone()))).collect();
            Survey { tables, zone: zone.map(ToOwned::to_owned) }
        })
}

proptest! {
    #[test]
    fn whatever_two_catalogues_hold_the_file_can_be_read(legacy in a_side(), platform in a_side()) {
        let draft = draft(["VARIABLE_OF_LEGACY", "VARIABLE_OF_PLATFORM"], [&legacy, &platform]);
        let text = draft.text();
        let whole: Result<toml::Table, _> = toml::from_str(&text);
        prop_assert!(whole.is_ok(), "{whole:?}\n{text}");
        prop_assert_eq!(whole.is_ok_and(|whole| whole.contains_key("stages")), draft.counts().entities > 0);
        if draft.counts().entities > 0 {
            let text = text
                .replace("${VARIABLE_OF_LEGACY}", "postgres://localhost/l")
                .replace("${VARIABLE_OF_PLATFORM}", "postgres://localhost/p");
            let config = crate::config::read_text(std::path::Path::new("bridge.toml"), &text);
            prop_assert!(config.is_ok(), "{}\n{text}", config.expect_err("it is not"));
        }
    }
}
