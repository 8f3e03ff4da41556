//! Customers that the queue database keeps: each as the text of its `[[customers]]`, as a file has it. Owns: reading them as the file's are, and
//! what text is kept of them. Never: where they lie; a value of a `${NAME}` in what is kept.

use std::collections::BTreeSet;
use std::path::Path;

use toml::de::DeTable;

use super::customers::{self, Outline};
use super::entities::{customers_have, template_names};
use super::env::Lookup;
use super::reader::{Keys, Node, Reader};
use super::report::Report;
use super::{Config, ConfigError, Customer, DatabaseUrl, Side};

/// What the file says in place of its customers.
pub(super) const ELSEWHERE: &str = "table";

/// A customer, and what is kept of it.
#[derive(Debug, Clone)]
pub struct Kept {
    pub customer: Customer,
    /// Its `[[customers]]`, the same text for the same content.
    pub text: String,
}

/// Whether the file leaves its customers to the queue database.
pub(super) fn are_elsewhere(node: &Node<'_>, queue: Option<&Option<DatabaseUrl>>, reader: &mut Reader<'_>) -> bool {
    if !node.is_text() {
        return false;
    }
    let Some(text) = node.text(reader) else { return true };
    if text.value != ELSEWHERE {
        let help = "`[[customers]]` in this file, or `customers = \"table\"`: the queue database has them";
        reader.problem(&text, format!("`{}` is no place for customers", text.raw), Some(help.into()));
    } else if queue.is_some_and(|url| url.as_ref().is_none_or(|url| url.embedded_name().is_some())) {
        let help = "name it as `url` under `[queue]`, or keep the customers in this file";
        reader.problem(&text, "an embedded queue database keeps no customers", Some(help.into()));
    }
    true
}

impl Config {
    /// The customers of a text, read as those of the file are.
    ///
    /// # Errors
    /// All problems of the text, as those of the file are told; never a secret.
    pub fn read_customers(&self, path: &Path, text: &str) -> Result<Vec<Kept>, ConfigError> {
        self.read_customers_with(path, text, &|name| std::env::var(name))
    }

    pub(super) fn read_customers_with(
        &self,
        path: &Path,
        text: &str,
        env: Lookup<'_>,
    ) -> Result<Vec<Kept>, ConfigError> {
        let mut reader = Reader::new(Report::new(path.display().to_string(), text), env);
        let (table, errors) = DeTable::parse_recoverable(text);
        if let Some(error) = errors.iter().min_by_key(|error| error.span().map_or(0, |at| at.start)) {
            let at = error.span().unwrap_or(0..0);
            reader.report.problem(&at, "", format!("not TOML: {}", error.message()), None);
            return Err(reader.report.into_error());
        }
        let mut root = Keys::root(table.get_ref());
        let node = root.required("customers", "[[customers]]", &mut reader);
        root.close(&mut reader);
        let (customers, outlines) =
            node.map(|node| customers::read(&node, &[], &self.defaults, &mut reader)).unwrap_or_default();
        for outline in &outlines {
            self.check_outline(outline, &mut reader);
        }
        let sound = reader.report.is_clean();
        for (customer, outline) in customers.iter().zip(&outlines).filter(|_| sound) {
            // Nobody but `up` knows where that server is, and it reads its file once.
            if customer.databases.values().any(|url| url.embedded_name().is_some()) {
                let help = "write its URL; `embedded:` is for customers in the file";
                reader.problem(&outline.at, "names a database of the embedded server", Some(help.into()));
            }
        }
        if !reader.report.is_clean() {
            return Err(reader.report.into_error());
        }
        let texts = written(text);
        Ok(customers.into_iter().zip(texts).map(|(customer, text)| Kept { customer, text }).collect())
    }

    /// As an entity of the file is held against the file's customers.
    fn check_outline(&self, outline: &Outline, reader: &mut Reader<'_>) {
        let tables = || self.entities().flat_map(|entity| Side::BOTH.map(|side| entity.table(side)));
        let without = [outline.name.as_str()];
        if let Some(names) = &outline.databases {
            let wanted: BTreeSet<&str> = tables().map(|table| table.database.as_str()).collect();
            for database in wanted.into_iter().filter(|name| !names.iter().any(|known| known == name)) {
                let message = format!("{} no database `{database}`", customers_have(&without, 1));
                reader.problem(&outline.at, message, Some("add it under the customer's `databases`".into()));
            }
        }
        let scopes: Vec<&String> = tables().flat_map(|table| table.scope.values()).collect();
        let wanted: BTreeSet<&str> =
            scopes.into_iter().flat_map(|value| template_names(value).unwrap_or_default()).collect();
        for name in wanted.into_iter().filter(|name| !outline.vars.iter().any(|known| known == name)) {
            let message = format!("{} no variable `{name}`", customers_have(&without, 1));
            reader.problem(&outline.at, message, Some("add it under the customer's `vars`".into()));
        }
    }
}

/// Each `[[customers]]` of a text that was read, by itself: without comments, its keys in order, variables as they are written.
fn written(text: &str) -> Vec<String> {
    let root: toml::Table = text.parse().unwrap_or_default();
    let all = root.get("customers").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    all.into_iter()
        .map(|one| {
            let alone = toml::Table::from_iter([("customers".to_owned(), toml::Value::Array(vec![one]))]);
            toml::to_string(&alone).unwrap_or_default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::env::VarError;

    use super::super::{Finding, parse};
    use super::*;

    const STAGES: &str = r#"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "user"
  legacy = { database = "old", table = "users", key = "id", scope = { tenant = "{tenant}" } }
  platform = { database = "new", table = "users", key = "id" }
    [stages.entities.fields]
    name = { legacy = "name", platform = "name" }
"#;

    const ACME: &str = r#"
[[customers]]
id = "c-1"
slug = "acme"
databases = { old = "${OLD_URL}", new = "postgres://localhost/new" }
vars = { tenant = "${TENANT}", plain = "$$5" }
"#;

    fn env(name: &str) -> Result<String, VarError> {
        match name {
            "OLD_URL" => Ok("postgres://u:hunter2@localhost/old".into()),
            "QUEUE_URL" => Ok("postgres://localhost/queue".into()),
            "TENANT" => Ok("t-1".into()),
            _ => Err(VarError::NotPresent),
        }
    }

    fn file(text: &str) -> Result<Config, ConfigError> {
        parse::parse(Path::new("bridge.toml"), text, &env)
    }

    fn table() -> Config {
        let text = format!(
            "customers = \"table\"\n[queue]\nurl = \"${{QUEUE_URL}}\"\n[defaults]\nschedule = \"*/7 * * * *\"\n{STAGES}"
        );
        file(&text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_is_kept_holds_variables_as_they_are_written_and_is_read_as_the_file_is() {
        let config = table();
        assert_eq!((config.customers.len(), config.roster), (0, Some(0)));
        let read = |text: &str| config.read_customers_with(Path::new("one"), text, &env).expect("a customer");
        let [first] = <[Kept; 1]>::try_from(read(ACME)).expect("one");
        assert!(!first.text.contains("hunter2") && !first.text.contains("t-1"), "{}", first.text);
        assert!(first.text.contains("old = \"${OLD_URL}\"") && first.text.contains("$$5"), "{}", first.text);
        let [again] = <[Kept; 1]>::try_from(read(&first.text)).expect("one");
        assert!(first.customer.is_same(&again.customer));
        assert_eq!(first.text, again.text, "the same text for the same content");
        let of_file = file(&format!("[defaults]\nschedule = \"*/7 * * * *\"\n{ACME}{STAGES}")).expect("a file");
        assert!(of_file.customers[0].is_same(&again.customer), "the file's defaults hold for it");
        let moved = ACME.replace("id = \"c-1\"\n", "").replace("slug = \"acme\"", "slug = 'acme' # ours\nid = 'c-1'");
        assert_eq!(read(&moved)[0].text, first.text, "comments and order are no content");
    }

    #[test]
    fn what_the_file_refuses_of_a_customer_is_refused_in_the_same_words() {
        let config = table();
        // What to do about a name that is missing is said of the file as a whole there.
        let said = |error: ConfigError| -> Vec<(String, Option<String>)> {
            let of = |Finding { message, help, .. }: Finding| {
                let help = help.filter(|_| !message.contains(" has no "));
                (message, help)
            };
            error.findings.into_iter().map(of).collect()
        };
        for (old, new) in [
            ("id = \"c-1\"", "id = \"c 1\""),
            ("id = \"c-1\"", "id = \"${TENANT}\""),
            ("slug = \"acme\"", "slugg = \"acme\""),
            ("slug = \"acme\"", "schedule = \"* * *\""),
            ("slug = \"acme\"", "timezone = \"Europe/Berlyn\""),
            ("slug = \"acme\"", "load_window = \"22\""),
            ("slug = \"acme\"", "limits = { old = { connections = 0 } }"),
            ("slug = \"acme\"", "limits = { odd = { connections = 4 } }"),
            ("${OLD_URL}", "${NOT_SET}"),
            ("${OLD_URL}", "postgres://u:hunter2@localhost/old"),
            ("${OLD_URL}", "mysql://localhost/old"),
            ("old = \"${OLD_URL}\", ", ""),
            ("tenant = \"${TENANT}\", ", ""),
            ("[[customers]]", "[[customers"),
        ] {
            assert!(ACME.contains(old), "{old}");
            let text = ACME.replacen(old, new, 1);
            let of_file = said(file(&format!("{text}{STAGES}")).expect_err("the file is refused"));
            let kept = config.read_customers_with(Path::new("one"), &text, &env).expect_err("and so is this");
            assert!(!kept.to_string().contains("hunter2"), "{kept}");
            assert_eq!(said(kept), of_file, "{new}");
        }
    }

    #[test]
    fn customers_are_kept_in_a_queue_database_that_is_named() {
        for (text, message) in [
            ("customers = \"tabel\"\n", "`tabel` is no place for customers"),
            ("customers = \"table\"\n", "an embedded queue database keeps no customers"),
            (
                "customers = \"table\"\n[queue]\nurl = \"embedded:bridge\"\n",
                "an embedded queue database keeps no customers",
            ),
        ] {
            let error = file(&format!("{text}{STAGES}")).expect_err("it is refused").to_string();
            assert!(error.contains(message), "{error}");
        }
        let embedded = ACME.replace("postgres://localhost/new", "embedded:new");
        let error = table().read_customers_with(Path::new("one"), &embedded, &env).expect_err("it is refused");
        assert!(error.to_string().contains("names a database of the embedded server"), "{error}");
    }
}
