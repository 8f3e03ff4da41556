//! The text of a file cut into its customers and the rest, so that customers are read one by one: the tree of ten thousand takes fifty
//! times the room of their text, and what is kept of them would lie scattered over it. Owns: where to cut, and whether it was right to.
//! Never: what is wrong with a file; it is told of the file as a whole.

use toml::de::DeTable;

const HEADER: &str = "[[customers]]";

pub(super) struct Apart<'t> {
    /// The text with nothing but the header of each customer below. Spaces stand for the others' bytes, so that all keep their places.
    pub rest: String,
    pub customers: Vec<Part<'t>>,
}

/// One customer, a file of its own.
pub(super) struct Part<'t> {
    pub text: &'t str,
    /// Where its header stands in the whole.
    start: usize,
}

impl Apart<'_> {
    pub fn of(text: &str) -> Apart<'_> {
        let mut apart = Apart { rest: String::with_capacity(text.len()), customers: Vec::new() };
        for part in parts(text) {
            let indent = part.len() - part.trim_start().len();
            if !part[indent..].starts_with(HEADER) {
                apart.rest.push_str(part);
                continue;
            }
            apart.customers.push(Part { text: part, start: apart.rest.len() + indent });
            let (line, below) = part.split_at(part.find('\n').map_or(part.len(), |newline| newline + 1));
            apart.rest.push_str(line);
            apart.rest.extend(std::iter::repeat_n(' ', below.len()));
        }
        apart
    }

    /// Whether the customers of the rest are the headers that were left there, and these are empty: then none of them was a line of a
    /// string, and no customer has anything outside of its part.
    pub fn fits(&self, rest: &DeTable<'_>) -> bool {
        if self.customers.is_empty() {
            return true;
        }
        let Some(headers) = rest.get("customers").and_then(|list| list.get_ref().as_array()) else { return false };
        let mut pairs = headers.iter().zip(&self.customers);
        headers.len() == self.customers.len()
            && pairs.all(|(header, part)| {
                header.span().start == part.start && header.get_ref().as_table().is_some_and(DeTable::is_empty)
            })
    }
}

/// The text, cut before each line that looks like a header, but for those of a customer's own tables.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let is_cut = |line: &str| {
        let line = line.trim_start();
        let name = line.trim_start_matches('[');
        name.len() < line.len() && !name.starts_with("customers.")
    };
    let lines = text.split_inclusive('\n').scan(0, |end, line| {
        *end += line.len();
        Some((*end - line.len(), line))
    });
    let cuts = lines.filter(move |(_, line)| is_cut(line)).map(|(start, _)| start);
    cuts.chain([text.len()]).scan(0, |start, end| Some(&text[std::mem::replace(start, end)..end]))
}
