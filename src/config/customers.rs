//! `[[customers]]`.

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::apart::Part;
use super::parse::{Defaults, read_list};
use super::reader::{Entry, Key, Keys, Located, Node, Reader, Text};
use super::{ByName, Customer, CustomerId, DatabaseUrl, Pool, Schedule, database, limits, schedule};

/// Ids and slugs become tags, labels and parts of names: Kubernetes allows 63 characters.
pub(super) const NAME_CHARS_MAX: usize = 63;

/// What entities must know of a customer, also of one that has problems.
pub(super) struct Outline {
    /// Slug or id, or its place in the list.
    pub name: String,
    /// `None`: they could not be read.
    pub databases: Option<Vec<String>>,
    pub vars: Vec<String>,
    /// Where it names its databases, or where it stands.
    pub at: Key,
}

/// `parts`: the customers, where the list has nothing but their headers; the tree of each is gone before the next is read.
pub(super) fn read(
    node: &Node<'_>,
    parts: &[Part<'_>],
    defaults: &Defaults,
    reader: &mut Reader<'_>,
) -> (Vec<Customer>, Vec<Outline>) {
    let mut customers = Vec::new();
    let mut outlines = Vec::new();
    let mut taken = Taken::default();
    let mut add = |node: &Node<'_>, reader: &mut Reader<'_>| {
        if let Some((customer, outline)) = read_one(node, defaults, &mut taken, reader) {
            customers.extend(customer);
            outlines.push(outline);
        }
    };
    for (index, node) in read_list(node, "customer", reader).iter().enumerate() {
        let Some(part) = parts.get(index) else {
            add(node, reader);
            continue;
        };
        match DeTable::parse(part.text) {
            Ok(table) => {
                let list = Keys::root(table.get_ref()).optional("customers").and_then(|list| list.list(reader));
                list.iter().flatten().for_each(|node| add(node, reader));
            }
            Err(error) => reader.problem(node, error.message(), None),
        }
    }
    taken.check_slugs(reader);
    (customers, outlines)
}

fn read_one(
    node: &Node<'_>,
    defaults: &Defaults,
    taken: &mut Taken,
    reader: &mut Reader<'_>,
) -> Option<(Option<Customer>, Outline)> {
    let mut keys = node.keys(reader)?;
    let id = keys.required("id", r#"id = "c-1001""#, reader).and_then(|node| read_id(&node, reader));
    let slug = match keys.optional("slug") {
        Some(node) => node.text(reader).filter(|slug| check_name(slug, "slug", reader)),
        None => id.clone(),
    };
    let labels = read_texts(keys.optional("labels"), reader);
    let databases = keys.required("databases", r#"databases = { legacy = "${LEGACY_URL}", … }"#, reader);
    let at = databases.as_ref().unwrap_or(node).place();
    let databases = databases.map(|node| read_databases(&node, reader));
    let vars = read_texts(keys.optional("vars"), reader);
    let pool = match keys.optional("pool") {
        Some(node) => node.text(reader).and_then(|text| read_pool(&text, reader)).map(Some),
        None => Some(None),
    };
    let limits = keys.optional("limits");
    if let Some((Some(names), _)) = &databases {
        limits::check_names(limits.as_ref(), &names.iter().map(String::as_str).collect(), reader);
    }
    let limits = limits::read(limits.as_ref(), &defaults.limits, reader);
    let schedule = read_schedule(&mut keys, defaults, reader);
    let load_window = match keys.optional("load_window") {
        Some(node) => node.text(reader).and_then(|text| schedule::read_window(&text, reader)).map(Some),
        None => Some(defaults.load_window),
    };
    keys.close(reader);

    if let Some(id) = &id {
        taken.id(id, reader);
    }
    if let Some(slug) = &slug {
        taken.slugs.push((slug.clone(), id.as_ref().map(|id| id.value.clone())));
    }
    let name = slug.as_ref().or(id.as_ref()).map_or_else(|| node.field().to_owned(), |text| text.raw.clone());
    let (names, urls) = match databases {
        Some((names, urls)) => (names, urls),
        None => (None, None),
    };
    let var_names = vars.iter().flat_map(|vars| vars.names().map(str::to_owned)).collect();
    let outline = Outline { name, databases: names, vars: var_names, at };
    let customer = (|| {
        Some(Customer {
            id: CustomerId::new(id?.value),
            slug: slug?.value,
            labels: labels?,
            databases: urls?,
            vars: vars?,
            pool: pool?,
            schedule: schedule?,
            load_window: load_window?,
            limits: limits?.into_iter().collect(),
            version: 0,
        })
    })();
    Some((customer, outline))
}

fn read_pool(text: &Text, reader: &mut Reader<'_>) -> Option<Pool> {
    match text.value.parse() {
        Ok(pool) => Some(pool),
        Err(form) => {
            reader.problem(text, format!("`{}` is no name of a pool", text.raw), Some(form));
            None
        }
    }
}

/// An id: fixed, so no variable may change it.
pub(super) fn read_id(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Text> {
    let text = node.text(reader)?;
    if !text.variables.is_empty() {
        let help = "an id is fixed for ever: write it out";
        reader.problem(&text, "an id cannot come from a variable", Some(help.into()));
        return None;
    }
    check_name(&text, "id", reader).then_some(text)
}

/// Whether it can serve as id or slug.
fn check_name(text: &Text, what: &str, reader: &mut Reader<'_>) -> bool {
    let value = &text.value;
    let good = value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && value.len() <= NAME_CHARS_MAX;
    if value.is_empty() {
        reader.problem(text, format!("the {what} is empty"), None);
    } else if !good {
        let help = format!("letters, digits, `-`, `_` and `.`, at most {NAME_CHARS_MAX}, a letter or digit first");
        reader.problem(text, format!("`{}` is no {what}", text.raw), Some(help));
    }
    good
}

/// The names as they stand, and the URLs if all are good.
type Databases = (Option<Vec<String>>, Option<ByName<DatabaseUrl>>);

fn read_databases(node: &Node<'_>, reader: &mut Reader<'_>) -> Databases {
    let Some(entries) = node.entries(reader) else { return (None, None) };
    if entries.is_empty() {
        reader.problem(node, "names no database", None);
    }
    let names = entries.iter().map(|entry| entry.name.clone()).collect();
    let url = |entry: Entry<'_>| Some((entry.name, database::read(&entry.node.text(reader)?, reader)?));
    let urls: Vec<Option<(String, DatabaseUrl)>> = entries.into_iter().map(url).collect();
    (Some(names), urls.into_iter().collect())
}

/// A table of texts under the user's own names; none is an empty one.
fn read_texts(node: Option<Node<'_>>, reader: &mut Reader<'_>) -> Option<ByName<String>> {
    let Some(node) = node else { return Some(ByName::default()) };
    let texts: Vec<Option<(String, String)>> =
        node.entries(reader)?.into_iter().map(|entry| Some((entry.name, entry.node.scalar(reader)?.value))).collect();
    texts.into_iter().collect()
}

fn read_schedule(keys: &mut Keys<'_>, defaults: &Defaults, reader: &mut Reader<'_>) -> Option<Schedule> {
    let expression = match keys.optional("schedule") {
        Some(node) => node.text(reader).and_then(|text| schedule::read_expression(&text, reader)),
        None => Some(defaults.expression.clone()),
    };
    let timezone = match keys.optional("timezone") {
        Some(node) => node.text(reader).and_then(|text| schedule::read_timezone(&text, reader)),
        None => Some(defaults.timezone),
    };
    Some(Schedule { expression: expression?, timezone: timezone? })
}

/// Ids and slugs so far: an operator types either, so no slug may be another customer's id.
#[derive(Default)]
struct Taken {
    ids: BTreeMap<String, u32>,
    slugs: Vec<(Text, Option<String>)>,
}

impl Taken {
    fn id(&mut self, id: &Text, reader: &mut Reader<'_>) {
        let line = reader.report.place(id.at()).line;
        if let Some(first) = self.ids.get(&id.value) {
            reader.problem(id, format!("the id `{}` is taken, by the customer in line {first}", id.raw), None);
        } else {
            self.ids.insert(id.value.clone(), line);
        }
    }

    fn check_slugs(&self, reader: &mut Reader<'_>) {
        let mut lines: BTreeMap<&str, u32> = BTreeMap::new();
        for (slug, id) in &self.slugs {
            let is_own_id = id.as_ref() == Some(&slug.value);
            let first =
                lines.get(slug.value.as_str()).or_else(|| if is_own_id { None } else { self.ids.get(&slug.value) });
            if let Some(first) = first {
                // A customer without a slug has its id for one: that it is taken was said already.
                if !is_own_id {
                    let message = format!("the slug `{}` is taken, by the customer in line {first}", slug.raw);
                    reader.problem(slug, message, None);
                }
            } else {
                lines.insert(&slug.value, reader.report.place(slug.at()).line);
            }
        }
    }
}
