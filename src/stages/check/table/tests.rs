//! Every judgement about a table, from what the catalogue may say.

use super::super::live::{column, index, table};
use super::*;
use crate::config::{Config, Severity};

const FILE: &str = r#"
[[customers]]
id = "c-1"
databases = { old = "postgres://localhost/old", new = "postgres://localhost/new" }
[[stages]]
name = "s"
  [[stages.entities]]
  id = "user"
  legacy = { database = "old", table = "users", key = "id", updated_at = "changed" }
  platform = { database = "new", table = "Id.users", key = ["tenant", "id"], scope = { tenant = "t" }, deleted_at = "gone" }
  match_on = ["mail"]
    [stages.entities.fields]
    mail = { legacy = "mail", platform = "email", lens = "lowercase" }
    name = { legacy = "name", platform = "Name" }
"#;

fn entity() -> Entity {
    entity_of(FILE)
}

fn entity_of(file: &str) -> Entity {
    // Soft deletes on one side alone are refused by the file; here each side is looked at alone.
    let file = file.replace("updated_at = \"changed\"", "updated_at = \"changed\", deleted_at = \"left\"");
    Config::from_text(&file).entities().next().expect("an entity").clone()
}

fn legacy() -> LiveTable {
    let id = LiveColumn {
        default: Some("nextval('s')".into()),
        sequence: Some(("public.s".into(), true)),
        ..column("id", "integer", &[])
    };
    let texts = ["mail", "name"].map(|name| column(name, "text", &[]));
    let times = ["changed", "left"].map(|name| column(name, "timestamptz", &[]));
    table([id].into_iter().chain(texts).chain(times).collect())
}

fn platform() -> LiveTable {
    let texts = ["tenant", "email", "Name"].map(|name| column(name, "text", &[]));
    let times = ["updated_at", "gone"].map(|name| column(name, "timestamptz", &[]));
    table([column("id", "uuid", &[])].into_iter().chain(texts).chain(times).collect())
}

fn indexes() -> Vec<Index> {
    vec![
        index("public.users", "!id"),
        index("public.users", "changed, id"),
        index("public.users", "!lower(mail)"),
        index("Id.users", "!tenant, id"),
        index("Id.users", "tenant, updated_at"),
        index("Id.users", "!tenant, email"),
    ]
}

fn live(side: Side) -> LiveTable {
    if side == Side::Legacy { legacy() } else { platform() }
}

fn should(side: Side, live: &LiveTable, indexes: &[Index], rewriters: &[Rewriter]) -> Vec<Flaw> {
    should_have(&entity(), side, live, Around { entities: &[], indexes, rewriters })
}

fn codes(flaws: &[Flaw]) -> Vec<(&'static str, Severity)> {
    flaws.iter().map(|flaw| (flaw.code, flaw.severity)).collect()
}

#[test]
fn tables_that_have_all_give_no_finding() {
    for side in Side::BOTH {
        assert_eq!(must_have(&entity(), side, &live(side)), []);
        assert_eq!(should(side, &live(side), &indexes(), &[]), []);
    }
}

type Change = fn(&mut LiveTable);

fn of<'t>(table: &'t mut LiveTable, name: &str) -> &'t mut LiveColumn {
    table.columns.iter_mut().find(|column| column.name == name).expect("a column")
}

#[test]
fn what_no_page_can_do_without_is_an_error() {
    let cases: [(Side, Change, &str, &str); 11] = [
        (Side::Legacy, |t| t.kind = Kind::View, "not-a-table", "public.users is a view"),
        (Side::Legacy, |t| t.kind = Kind::MaterializedView, "not-a-table", "public.users is a view"),
        (Side::Legacy, |t| t.kind = Kind::ForeignTable, "not-a-table", "public.users is a foreign table"),
        (
            Side::Legacy,
            |t| t.row_security = true,
            "row-security",
            "row security hides rows of public.users from role bridge",
        ),
        (
            Side::Legacy,
            |t| of(t, "mail").name = "email".into(),
            "no-such-column",
            "there is no column `mail` in public.users",
        ),
        (
            Side::Platform,
            |t| of(t, "gone").name = "x".into(),
            "no-such-column",
            "there is no column `gone` in Id.users",
        ),
        (Side::Platform, |t| of(t, "tenant").name = "x".into(), "no-such-column", "there is no column `tenant`"),
        (Side::Legacy, |t| of(t, "name").generated = true, "generated-column", "public.users.name is generated"),
        (Side::Legacy, |t| of(t, "left").generated = true, "generated-column", "public.users.left is generated"),
        (Side::Legacy, |t| of(t, "name").always_identity = true, "generated-column", "`generated always as identity`"),
        (
            Side::Legacy,
            |t| of(t, "changed").typname = "text".into(),
            "stamp-type",
            "`updated_at` column public.users.changed",
        ),
    ];
    for (side, change, code, message) in cases {
        let mut table = live(side);
        change(&mut table);
        let flaws = must_have(&entity(), side, &table);
        assert_eq!(codes(&flaws), [(code, Severity::Error)], "{message}");
        assert!(flaws[0].message.contains(message), "{}", flaws[0].message);
    }
    // All of them, not only the first.
    let flaws = must_have(&entity(), Side::Legacy, &table(vec![column("e_mail", "text", &[])]));
    assert_eq!(flaws.len(), 5, "{flaws:?}");
    // And nothing that only follows from it: not the index of a column that is not there, nor what was meant by it.
    let mut table = legacy();
    of(&mut table, "mail").name = "maill".into();
    of(&mut table, "changed").name = "change".into();
    assert_eq!(should(Side::Legacy, &table, &indexes(), &[]), []);
    let mail = flaws.iter().find(|flaw| flaw.field.as_deref() == Some("mail")).expect("the field's");
    assert_eq!(mail.help.as_deref(), Some("known here: `e_mail`"));
}

#[test]
fn a_table_that_is_not_there_has_a_near_one() {
    let names = |names: &[&str]| -> Vec<(String, String)> {
        names.iter().map(|name| name.split_once('.').expect("a schema")).map(|(a, b)| (a.into(), b.into())).collect()
    };
    for (known, code, help) in [
        (&["public.user", "public.orders"][..], "no-such-table", "did you mean `public.user`?"),
        (&["public.orders", "app.users"], "no-such-table", "did you mean `app.users`?"),
        (&["app.users"], "no-such-schema", "did you mean `app.users`?"),
        (&["publik.orders"], "no-such-schema", "did you mean `publik`?"),
        (&["public.orders"], "no-such-table", "known here: `public.orders`"),
        (&[], "no-such-table", "correct `table`, or grant the role the right to see it"),
    ] {
        let flaw = no_such_table(&entity(), Side::Legacy, "h/db", &names(known));
        assert_eq!((flaw.code, flaw.help.as_deref()), (code, Some(help)), "{known:?}");
    }
}

#[test]
fn indexes_make_keys_unique_and_changes_quick_to_find() {
    let without = |columns: &str| -> Vec<Index> {
        indexes().into_iter().filter(|index| index.columns.join(", ") != columns.trim_start_matches('!')).collect()
    };
    let with = |side: Side, columns: &str, change: fn(&mut Index)| {
        let mut changed = index(if side == Side::Legacy { "public.users" } else { "Id.users" }, columns);
        change(&mut changed);
        let mut all = without(columns);
        all.push(changed);
        all
    };
    let (error, warning) = (Severity::Error, Severity::Warning);
    let (legacy, platform) = (Side::Legacy, Side::Platform);
    let cases = vec![
        (
            legacy,
            without("id"),
            Some(("key-not-unique", error)),
            "`create unique index concurrently on public.users (id)`",
        ),
        (legacy, with(legacy, "id", |_| ()), Some(("key-not-unique", error)), ""),
        (legacy, with(legacy, "!id", |it| it.predicate = Some("x".into())), Some(("key-not-unique", error)), ""),
        (legacy, with(legacy, "!id", |it| it.is_immediate = false), Some(("key-not-unique", error)), ""),
        (platform, without("tenant, id"), Some(("key-not-unique", error)), "on \"Id\".users (tenant, id)`"),
        // A part of the key that is unique by itself is enough.
        (platform, with(platform, "!id", |_| ()), None, ""),
        (legacy, without("changed, id"), Some(("no-index", warning)), "on public.users (changed, id)`"),
        (legacy, with(legacy, "changed, id", |it| it.predicate = Some("x".into())), Some(("no-index", warning)), ""),
        (legacy, with(legacy, "changed, id", |it| it.columns.swap(0, 1)), Some(("no-index", warning)), ""),
        (platform, without("tenant, updated_at"), Some(("no-index", warning)), "(updated_at, tenant, id)`"),
        (legacy, without("lower(mail)"), Some(("match-on-not-unique", warning)), "on public.users (mail)`"),
        (platform, without("tenant, email"), Some(("match-on-not-unique", warning)), "(tenant, email)`"),
        (platform, with(platform, "!tenant, email", |it| it.predicate = Some("(gone IS NULL)".into())), None, ""),
        (
            platform,
            with(platform, "!tenant, email", |it| it.predicate = Some("(vip)".into())),
            Some(("match-on-not-unique", warning)),
            "",
        ),
    ];
    for (at, (side, indexes, expected, help)) in cases.into_iter().enumerate() {
        let flaws = should(side, &live(side), &indexes, &[]);
        assert_eq!(codes(&flaws), expected.into_iter().collect::<Vec<_>>(), "case {at}: {flaws:?}");
        assert!(flaws.iter().all(|flaw| flaw.help.as_ref().is_some_and(|it| it.contains(help))), "{flaws:?}");
    }
}

#[test]
fn columns_are_looked_at_one_by_one() {
    let (error, warning) = (Severity::Error, Severity::Warning);
    let cases: [(Change, &str, Severity, &str, &str); 10] = [
        (
            |t| of(t, "id").nullable = true,
            "key-nullable",
            warning,
            "key column public.users.id may be NULL",
            "alter column id set not null",
        ),
        (
            |t| of(t, "changed").nullable = true,
            "stamp-nullable",
            warning,
            "`updated_at` column public.users.changed may be NULL",
            "set default now()",
        ),
        (
            |t| t.columns.push(column("born", "date", &[])),
            "not-null-not-mapped",
            error,
            "public.users.born is NOT NULL without a default",
            "alter column born set default",
        ),
        (
            |t| t.may_use_schema = false,
            "missing-right",
            error,
            "role bridge may not use schema public",
            "`grant usage on schema public to bridge`",
        ),
        (
            |t| {
                of(t, "mail").type_sql = "kinds.\"citext\"".into();
                ["mail", "name"].into_iter().for_each(|name| of(t, name).shut_schemas = vec!["kinds".into()]);
            },
            "missing-right",
            error,
            "role bridge may not use schema kinds, of the type of `mail` and `name` of public.users",
            "`grant usage on schema kinds to bridge`",
        ),
        (
            |t| of(t, "mail").shut_schemas = vec!["kinds".into()],
            "missing-right",
            warning,
            "role bridge may not use schema kinds, of the type of `mail` of public.users",
            "`grant usage on schema kinds to bridge`",
        ),
        (
            |t| of(t, "id").sequence = Some(("public.s".into(), false)),
            "missing-right",
            error,
            "role bridge may not take new keys of public.users from sequence public.s",
            "`grant usage on sequence public.s to bridge`",
        ),
        (
            |t| of(t, "mail").rights.select = false,
            "missing-right",
            error,
            "role bridge may not select `mail` of public.users",
            "`grant select (mail) on public.users to bridge`",
        ),
        (
            |t| t.columns.iter_mut().for_each(|column| column.rights.insert = false),
            "missing-right",
            error,
            "role bridge may not insert public.users",
            "`grant insert on public.users to bridge`",
        ),
        (
            |t| {
                t.columns
                    .iter_mut()
                    .filter(|column| column.name != "id")
                    .for_each(|column| column.rights.update = false)
            },
            "missing-right",
            error,
            "may not update `changed`, `left`, `mail` and `name` of public.users",
            "`grant update (changed, \"left\", mail, name) on public.users to bridge`",
        ),
    ];
    for (change, code, severity, message, help) in cases {
        let mut table = legacy();
        change(&mut table);
        let flaws = should(Side::Legacy, &table, &indexes(), &[]);
        assert_eq!(codes(&flaws), [(code, severity)], "{flaws:?}");
        assert!(flaws[0].message.contains(message), "{}", flaws[0].message);
        assert!(flaws[0].help.as_ref().is_some_and(|it| it.contains(help)), "{flaws:?}");
    }
    // Nullable, with a default or computed: nobody has to fill it. A key that is not ours to change needs no right to be updated.
    let mut table = legacy();
    table.columns.push(LiveColumn { nullable: true, ..column("a", "text", &[]) });
    table.columns.push(LiveColumn { default: Some("1".into()), ..column("b", "text", &[]) });
    table.columns.push(LiveColumn { generated: true, ..column("c", "text", &[]) });
    of(&mut table, "id").rights.update = false;
    assert_eq!(should(Side::Legacy, &table, &indexes(), &[]), []);
}

fn trigger(body: &str) -> Rewriter {
    Rewriter {
        schema: "public".into(),
        table: "users".into(),
        kind: "trigger".into(),
        name: "t".into(),
        function: "f".into(),
        is_readable: true,
        body: body.into(),
        arguments: String::new(),
    }
}

#[test]
fn a_wide_table_is_filled_by_all_its_entities() {
    let mut table = legacy();
    table.columns.push(column("born", "date", &[]));
    let other = entity_of(&FILE.replace("legacy = \"name\"", "legacy = \"born\""));
    let indexes = indexes();
    for (entities, count) in [(&[][..], 1), (&[&other][..], 0)] {
        let around = Around { entities, indexes: &indexes, rewriters: &[] };
        assert_eq!(should_have(&entity(), Side::Legacy, &table, around).len(), count);
    }
}

#[test]
fn marks_and_scopes_hold_values_of_their_columns() {
    let mut table = platform();
    of(&mut table, "gone").class = Class::Text;
    let flaws = should(Side::Platform, &table, &indexes(), &[]);
    assert_eq!(codes(&flaws), [("deleted-type", Severity::Error)]);
    for (shown, labels, value, fits) in [
        ("text", &[][..], "x", true),
        ("integer", &[], "7", true),
        ("integer", &[], "7.5", false),
        ("smallint", &[], "70000", false),
        ("numeric(5,2)", &[], "7.5", true),
        ("uuid", &[], "6f1c0a52-0000-4000-8000-000000000001", true),
        ("uuid", &[], "7", false),
        ("boolean", &[], "Yes", true),
        ("boolean", &[], "Y/N", false),
        ("state", &["on"], "off", false),
        ("state", &["on"], "on", true),
    ] {
        let mut table = platform();
        *of(&mut table, "tenant") = column("tenant", shown, labels);
        let flaws = scope(Side::Platform, &table, &[("tenant", value.to_owned())]);
        assert_eq!(flaws.is_empty(), fits, "{shown} {value}");
        assert!(flaws.iter().all(|flaw| flaw.code == "scope-value" && !flaw.message.contains(value)), "{flaws:?}");
    }
}

#[test]
fn triggers_are_read_as_far_as_their_text_tells() {
    for (body, code) in [
        ("begin new.changed := now(); return new; end", Some("trigger-restamps")),
        ("begin NEW.Changed = now(); RETURN NEW; end", Some("trigger-restamps")),
        (
            "begin if new.name is distinct from old.name then new.changed := now(); end if; return new; end",
            Some("trigger-restamps"),
        ),
        ("begin new.changed := now(); new.internal := 1; return new; end", Some("trigger-restamps")),
        ("begin new.name := trim(new.name); return new; end", Some("trigger-may-rewrite")),
        ("begin new.changed := now(); new.\"mail\" := lower(new.mail); return new; end", Some("trigger-may-rewrite")),
        ("begin select x into new.name from y; return new; end", Some("trigger-may-rewrite")),
        ("begin new := populate_record(new, x); return new; end", Some("trigger-may-rewrite")),
        ("begin select * into new from y; return new; end", Some("trigger-may-rewrite")),
        ("begin if new.name <> 'x' then return old; end if; return new; end", Some("trigger-may-rewrite")),
        ("begin return null; end", Some("trigger-may-rewrite")),
        // One that only looks, or sets what is not mapped.
        ("begin insert into log values (new.id, new.name); return new; end", None),
        ("begin if new.name is null then raise exception 'no'; end if; return new; end", None),
        ("begin new.internal := renew.name; return new; end", None),
    ] {
        let flaws = should(Side::Legacy, &legacy(), &indexes(), &[trigger(body)]);
        let found: Vec<&str> = flaws.iter().map(|flaw| flaw.code).collect();
        assert_eq!(found, code.into_iter().collect::<Vec<_>>(), "{body}");
    }
    let module = Rewriter { is_readable: false, ..trigger("moddatetime") };
    let known = Rewriter { function: "moddatetime".into(), arguments: "changed\\000".into(), ..module.clone() };
    let rule = Rewriter { kind: "rule".into(), ..module.clone() };
    let elsewhere = Rewriter { table: "orders".into(), ..module.clone() };
    for (one, code) in [
        (module, Some("trigger-may-rewrite")),
        (known, Some("trigger-restamps")),
        (rule, Some("rule-may-rewrite")),
        (elsewhere, None),
    ] {
        let flaws = should(Side::Legacy, &legacy(), &indexes(), std::slice::from_ref(&one));
        assert_eq!(
            flaws.iter().map(|flaw| flaw.code).collect::<Vec<_>>(),
            code.into_iter().collect::<Vec<_>>(),
            "{one:?}"
        );
    }
}

#[test]
fn a_part_of_an_index_is_about_a_column() {
    for (part, about_it, plain_it) in [
        ("email", "email", Some("email")),
        ("\"Mail\"", "Mail", Some("Mail")),
        ("lower(email)", "email", None),
        ("lower((email)::text)", "email", None),
        ("lower(email::text)", "email", None),
        ("upper(email)", "upper(email", None),
    ] {
        assert_eq!((about(part), plain(part).as_deref()), (about_it, plain_it), "{part}");
    }
}
