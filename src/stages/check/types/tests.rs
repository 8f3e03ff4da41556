//! Every pair of types that holds less than the other, and how it is said.

use super::super::live::{column, table};
use super::*;

#[test]
fn what_does_not_fit_is_told_from_the_types() {
    let labels = ["open", "closed"];
    let enums = |shown: &str| column("c", shown, if shown.starts_with("state") { &labels } else { &[] });
    for (from, into, expected) in [
        ("smallint", "integer", None),
        ("bigint", "integer", Some("larger numbers do not fit")),
        ("integer", "numeric", None),
        ("integer", "numeric(10)", None),
        ("integer", "numeric(10,2)", Some("numbers of more than 8 digits do not fit")),
        ("integer", "real", Some("numbers of more than 6 digits are rounded")),
        ("integer", "double precision", None),
        ("bigint", "double precision", Some("numbers of more than 15 digits are rounded")),
        ("integer", "character varying(11)", None),
        ("integer", "character varying(10)", Some("numbers of more than 10 characters do not fit")),
        ("numeric(10,2)", "numeric(12,2)", None),
        ("numeric(10,2)", "numeric(12,4)", None),
        ("numeric(10,2)", "numeric(10,4)", Some("numbers of more than 6 digits before the point do not fit")),
        ("numeric(10,4)", "numeric(12,2)", Some("more than 2 digits after the point are rounded")),
        ("numeric", "numeric(12,2)", Some("more than 2 digits after the point are rounded")),
        ("numeric(3,-2)", "numeric(5)", None),
        ("numeric(3,-2)", "numeric(4)", Some("numbers of more than 4 digits before the point do not fit")),
        ("numeric(12,2)", "numeric", None),
        ("numeric(9)", "integer", None),
        ("numeric(10)", "integer", Some("larger numbers do not fit")),
        ("numeric(9,2)", "integer", Some("fractions are rounded, and larger numbers do not fit")),
        ("numeric", "bigint", Some("fractions are rounded, and larger numbers do not fit")),
        ("numeric(15,2)", "double precision", None),
        ("numeric(16,2)", "double precision", Some("numbers of more than 15 digits are rounded")),
        ("real", "double precision", None),
        ("double precision", "real", Some("numbers of more than 6 digits are rounded")),
        ("double precision", "numeric", None),
        ("double precision", "numeric(10,2)", Some("more than 2 digits after the point are rounded")),
        ("real", "integer", Some("fractions are rounded")),
        ("text", "character varying(40)", Some("texts of more than 40 characters do not fit")),
        ("character varying(40)", "character varying(80)", None),
        ("character varying(80)", "character varying(40)", Some("texts of more than 40 characters do not fit")),
        ("character(3)", "character varying(2)", Some("texts of more than 2 characters do not fit")),
        ("character varying(3)", "character(3)", None),
        ("citext", "text", None),
        ("name", "text", None),
        ("text", "name", Some("texts of more than 63 characters do not fit")),
        ("text", "uuid", Some("only texts that are spelled as uuid prints them fit")),
        ("text", "integer", Some("only texts that are spelled as integer prints them fit")),
        ("text", "state", Some("no texts fit but `open` and `closed`")),
        ("state", "text", None),
        ("state", "character varying(5)", Some("`closed` is too long")),
        ("uuid", "text", None),
        ("uuid", "character varying(36)", None),
        ("uuid", "character varying(32)", Some("values of more than 32 characters do not fit")),
        ("boolean", "character(1)", Some("values of more than 1 characters do not fit")),
        ("timestamptz", "timestamptz(3)", Some("times are rounded to 3 digits of a second")),
        ("timestamptz(0)", "timestamptz(3)", None),
        ("timestamp", "timestamptz(0)", Some("times are rounded to whole seconds")),
        ("inet", "cidr", Some("they are compared by the text that each prints")),
        ("bytea", "bytea", None),
        ("_int4", "_int4", None),
        ("date", "date", None),
    ] {
        let found = match fit(&enums(from), &enums(into)) {
            Fit::All => None,
            Fit::Some(_, which) | Fit::Never(which) => Some(which),
        };
        assert_eq!(found.as_deref(), expected, "{from} into {into}");
    }
}

#[test]
fn enums_are_held_against_each_other_label_by_label() {
    let fit = |a: &[&str], b: &[&str]| fit(&column("c", "a", a), &column("c", "b", b));
    assert_eq!(fit(&["x", "y"], &["y", "x", "z"]), Fit::All);
    assert_eq!(fit(&["x", "y", "z"], &["y"]), Fit::Some("label-missing", "there is no label `x` and `z`".into()));
    assert_eq!(fit(&["x"], &["y"]), Fit::Never("they have no label in common".into()));
    let many: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let told = "there is no label `1`, `2`, `3`, `4`, `5` and `6`, and 2 more";
    assert_eq!(fit(&many, &["0"]), Fit::Some("label-missing", told.into()));
}

#[test]
fn types_that_are_not_supported_are_refused_by_name() {
    for (shown, refused) in [
        ("money", true),
        ("_money", true),
        ("tsvector", true),
        ("tsquery", true),
        ("_tsvector", true),
        ("regclass", true),
        ("_regtype", true),
        ("regnamespace", true),
        ("composite", true),
        ("registration", false),
        ("text", false),
        ("_text", false),
        ("inet", false),
        ("point", false),
        ("int4range", false),
        ("json", false),
    ] {
        assert_eq!(unsupported(&column("c", shown, &[])).is_some(), refused, "{shown}");
    }
    let mut pseudo = column("c", "record", &[]);
    pseudo.kind_of_type = "p".into();
    assert!(unsupported(&pseudo).is_some());
}

const FILE: &str = r#"
[[customers]]
id = "c-1"
databases = { old = "postgres://localhost/old", new = "postgres://localhost/new" }
[[stages]]
name = "s"
  [[stages.entities]]
  id = "user"
  legacy = { database = "old", table = "users", key = "id" }
  platform = { database = "new", table = "p.users", key = "id" }
    [stages.entities.fields]
    f = { legacy = "l", platform = "p", lens = "same" }
"#;

/// The flaws of a field with this lens between these columns: side, code, message.
fn told(lens: &str, legacy: LiveColumn, platform: LiveColumn) -> Vec<(Option<Side>, &'static str, String)> {
    let config = Config::from_text(&FILE.replace("\"same\"", lens));
    let entity = config.entities().next().expect("an entity");
    let (legacy, platform) = (table(vec![legacy]), table(vec![platform]));
    let key = |_: &Entity, side: Side, _: usize| {
        Some(column("id", if side == Side::Legacy { "integer" } else { "uuid" }, &[]))
    };
    let flaws = of_fields(&config, entity, [&legacy, &platform], key);
    assert!(flaws.iter().all(|flaw| flaw.field.as_deref() == Some("f")), "{flaws:?}");
    flaws.into_iter().map(|flaw| (flaw.side, flaw.code, flaw.message)).collect()
}

#[test]
fn the_narrower_side_is_named_with_both_types() {
    let found = told("\"same\"", column("l", "text", &[]), column("p", "character varying(40)", &[]));
    let message = "public.users.l is text and p.users.p (platform side) is character varying(40): texts of more than 40 characters \
                   do not fit";
    assert_eq!(found, [(Some(Side::Platform), "narrower-type", message.to_owned())]);
    let found = told("\"lowercase\"", column("l", "character(3)", &[]), column("p", "text", &[]));
    assert_eq!(found.iter().map(|one| (one.0, one.1)).collect::<Vec<_>>(), [(Some(Side::Legacy), "narrower-type")]);
    assert_eq!(told("\"same\"", column("l", "integer", &[]), column("p", "integer", &[])), []);
    let found = told("\"same\"", column("l", "integer", &[]), column("p", "jsonb", &[]));
    let message = "public.users.l is integer and p.users.p (platform side) is jsonb: they cannot hold the same values";
    assert_eq!(found, [(Some(Side::Platform), "types-do-not-fit", message.to_owned())]);
}

#[test]
fn a_value_map_is_held_against_labels_and_lengths() {
    let values = "{ values = { Y = \"open\", N = \"shut\" } }";
    let codes = |legacy, platform| {
        told(values, legacy, platform).into_iter().map(|(side, code, _)| (side, code)).collect::<Vec<_>>()
    };
    let letter = || column("l", "character(1)", &[]);
    assert_eq!(codes(letter(), column("p", "state", &["open", "shut"])), []);
    assert_eq!(
        codes(letter(), column("p", "state", &["open", "shut", "lost"])),
        [(Some(Side::Platform), "label-missing")]
    );
    assert_eq!(codes(letter(), column("p", "state", &["open"])), [(Some(Side::Platform), "no-such-label")]);
    assert_eq!(codes(letter(), column("p", "character varying(3)", &[])), [(Some(Side::Platform), "no-such-label")]);
}

#[test]
fn arrays_are_told_with_the_class_of_what_is_in_them() {
    let of = |shown: &str| column("c", shown, &[]).class_of_elements();
    assert_eq!([of("_text"), of("_int4"), of("_inet")], [Some(Class::Text), Some(Class::Number), Some(Class::Other)]);
    // These print with something else between their elements.
    assert_eq!([of("_box"), of("int2vector"), of("text")], [None, None, None]);
}

#[test]
fn a_flag_needs_a_bit_of_the_number() {
    let lens = "{ flags = { 1 = \"a\", 32768 = \"b\" } }";
    let of = |shown| told(lens, column("l", shown, &[]), column("p", "_text", &[]));
    assert_eq!(of("integer"), []);
    let message = "public.users.l (legacy side) is smallint, which has no bit 32768";
    assert_eq!(of("smallint"), [(Some(Side::Legacy), "no-such-bit", message.to_owned())]);
}

#[test]
fn null_flows_only_where_it_may() {
    let nullable = |name| LiveColumn { nullable: true, ..column(name, "text", &[]) };
    assert_eq!(told("\"same\"", nullable("l"), nullable("p")), []);
    let found = told("\"same\"", nullable("l"), column("p", "text", &[]));
    let message = "public.users.l may be NULL and p.users.p (platform side) may not: such a row is quarantined";
    assert_eq!(found, [(Some(Side::Platform), "null-into-not-null", message.to_owned())]);
}

#[test]
fn a_reference_is_of_the_type_of_the_key_it_names() {
    let lens = "{ ref = \"user\" }";
    assert_eq!(told(lens, column("l", "integer", &[]), column("p", "uuid", &[])), []);
    let found = told(lens, column("l", "smallint", &[]), column("p", "integer", &[]));
    let codes: Vec<_> = found.iter().map(|one| (one.0, one.1)).collect();
    assert_eq!(codes, [(Some(Side::Legacy), "narrower-type"), (Some(Side::Platform), "types-do-not-fit")]);
    let message = "p.users.p (platform side) is integer and refers to `user`, whose key p.users.id is uuid";
    assert_eq!(found[1].2, message);
}
