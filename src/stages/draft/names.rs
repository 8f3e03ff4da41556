//! What two names have in common, as far as a person would say so who knows neither system. Pure.

/// A name taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Lower case, singular.
    pub words: Vec<String>,
    /// The same with common short forms written out.
    long: Vec<String>,
    /// Without what only says of what kind the column is: `is_`, `_at`, `_dt`, `_id`.
    pub stem: Vec<String>,
    /// That as one.
    spelled: String,
    /// What it means, of those that have many names.
    pub concept: Option<&'static str>,
}

/// How much two names are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// A letter apart.
    Near,
    /// One is short for the other.
    Short,
    /// Two names of one thing.
    Synonym,
    /// But for `is_`, `_at`, `_id` and the like.
    ButForEnds,
    Same,
}

impl Likeness {
    /// Of a hundred.
    pub fn points(self) -> u32 {
        match self {
            Likeness::Same => 100,
            Likeness::ButForEnds => 88,
            Likeness::Synonym => 76,
            Likeness::Short => 64,
            Likeness::Near => 52,
        }
    }

    /// The reason, as a comment gives it.
    pub fn why(self) -> &'static str {
        match self {
            Likeness::Same => "the same name",
            Likeness::ButForEnds => "the same name but for its ends",
            Likeness::Synonym => "two names for one thing",
            Likeness::Short => "one name is short for the other",
            Likeness::Near => "the names are a letter apart",
        }
    }
}

/// Short forms that stand for one word only.
const SHORT: [(&str, &str); 53] = [
    ("acct", "account"),
    ("addr", "address"),
    ("amt", "amount"),
    ("bal", "balance"),
    ("cat", "category"),
    ("cd", "code"),
    ("chg", "changed"),
    ("change", "changed"),
    ("create", "created"),
    ("creation", "created"),
    ("ctry", "country"),
    ("cust", "customer"),
    ("ctr", "center"),
    ("del", "deleted"),
    ("delete", "deleted"),
    ("dept", "department"),
    ("desc", "description"),
    ("descr", "description"),
    ("emp", "employee"),
    ("ext", "external"),
    ("grp", "group"),
    ("inhab", "inhabitant"),
    ("img", "image"),
    ("insert", "created"),
    ("inserted", "created"),
    ("inv", "invoice"),
    ("lang", "language"),
    ("lat", "latitude"),
    ("lng", "longitude"),
    ("lon", "longitude"),
    ("mail", "email"),
    ("mgr", "manager"),
    ("mod", "modified"),
    ("modification", "modified"),
    ("msg", "message"),
    ("no", "number"),
    ("nr", "number"),
    ("num", "number"),
    ("org", "organisation"),
    ("organization", "organisation"),
    ("par", "parent"),
    ("pct", "percent"),
    ("prod", "product"),
    ("pw", "password"),
    ("pwd", "password"),
    ("qty", "quantity"),
    ("resp", "responsible"),
    ("tel", "phone"),
    ("telephone", "phone"),
    ("tz", "timezone"),
    ("upd", "updated"),
    ("update", "updated"),
    ("usr", "user"),
];

/// Things that have many names: the first is what they are called here.
const CONCEPTS: [(&str, &[&str]); 25] = [
    ("email", &["email", "email address"]),
    ("phone", &["phone", "phone number"]),
    ("name", &["name", "title", "label", "caption", "description", "designation", "display name", "full name"]),
    ("first name", &["first name", "given name", "forename", "fname"]),
    ("last name", &["last name", "surname", "family name", "lname"]),
    ("birth date", &["birth date", "birth", "birthday", "born", "dob", "date of birth"]),
    ("status", &["status", "state", "active", "enabled"]),
    ("kind", &["kind", "type", "typ", "category", "class"]),
    ("group", &["group", "team"]),
    ("comment", &["comment", "remark", "note", "memo"]),
    ("language", &["language", "locale"]),
    ("zip", &["zip", "zip code", "postal code", "post code", "postcode"]),
    ("city", &["city", "town"]),
    ("parent", &["parent", "superior"]),
    ("owner", &["owner", "responsible"]),
    ("population", &["population", "inhabitant"]),
    ("login", &["login", "login name", "user name", "username"]),
    ("address", &["url", "website", "homepage"]),
    ("quantity", &["quantity", "count"]),
    ("member", &["member", "membership"]),
    ("person", &["person", "people", "user"]),
    (CREATED, &["created", "date created", "ctime", "entered", "added"]),
    (
        UPDATED,
        &[
            "updated",
            "last updated",
            "modified",
            "last modified",
            "changed",
            "last changed",
            "edited",
            "last edited",
            "touched",
            "mtime",
        ],
    ),
    (DELETED, &["deleted", "removed", "archived"]),
    (SECRET, &["password", "password hash", "password md5", "secret", "salt", "token", "otp", "totp secret"]),
];

/// When a row was made.
pub const CREATED: &str = "created";
/// When a row was edited.
pub const UPDATED: &str = "updated";
/// Whether, or when, a row was deleted.
pub const DELETED: &str = "deleted";
/// What nobody should carry about by a guess.
pub const SECRET: &str = "secret";

/// Says of what kind a column is, not what it is.
const FIRST: [&str; 4] = ["is", "has", "fk", "flag"];
const LAST: [&str; 15] =
    ["at", "on", "ts", "dt", "d", "date", "time", "timestamp", "tm", "id", "flag", "fl", "key", "ct", "cent"];

/// Shorter ones are short for too much.
const SHORT_CHARS_MIN: usize = 3;
/// In shorter names one letter is much.
const NEAR_CHARS_MIN: usize = 5;

impl Name {
    pub fn of(name: &str) -> Name {
        Name::of_words(words(name))
    }

    fn of_words(words: Vec<String>) -> Name {
        let written = |word: &String| {
            let long = SHORT.iter().find(|(short, _)| short == word).map(|(_, long)| *long);
            long.map_or_else(|| word.clone(), ToOwned::to_owned)
        };
        let long: Vec<String> = words.iter().map(written).collect();
        let mut stem = &long[..];
        while stem.len() > 1 && FIRST.contains(&stem[0].as_str()) {
            stem = &stem[1..];
        }
        while stem.len() > 1 && LAST.contains(&stem[stem.len() - 1].as_str()) {
            stem = &stem[..stem.len() - 1];
        }
        let stem = stem.to_vec();
        let named = |words: &[String]| {
            let spoken = words.join(" ");
            CONCEPTS.iter().find(|(_, names)| names.contains(&spoken.as_str())).map(|(concept, _)| *concept)
        };
        let concept = named(&long).or_else(|| named(&stem));
        let spelled = stem.concat();
        Name { words, long, stem, spelled, concept }
    }

    /// Without words that it begins with, such as its table's; as it is if nothing else would be left.
    pub fn without(&self, start: &[String]) -> Name {
        let start = Name::of_words(start.to_vec()).long;
        match self.words.get(start.len()..) {
            Some(rest) if !rest.is_empty() && self.long.starts_with(&start) => Name::of_words(rest.to_vec()),
            _ => self.clone(),
        }
    }

    pub fn like(&self, other: &Name) -> Option<Likeness> {
        if self.words.is_empty() || other.words.is_empty() {
            return None;
        }
        if self.words == other.words || self.long == other.long {
            return Some(Likeness::Same);
        }
        if self.stem == other.stem {
            return Some(Likeness::ButForEnds);
        }
        if self.concept.is_some() && self.concept == other.concept {
            return Some(Likeness::Synonym);
        }
        let is_short = |a: &[String], b: &[String]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || short_for(a, b) || short_for(b, a))
        };
        if is_short(&self.stem, &other.stem) || is_short(&self.long, &other.long) {
            return Some(Likeness::Short);
        }
        a_letter_apart(&self.spelled, &other.spelled).then_some(Likeness::Near)
    }

    /// Its words as one, for a name of ours.
    pub fn joined(&self) -> String {
        self.words.join("_")
    }
}

/// One letter is another, is missing, or has changed its place with the next.
fn a_letter_apart(one: &str, other: &str) -> bool {
    if one.chars().count().min(other.chars().count()) < NEAR_CHARS_MIN {
        return false;
    }
    let same = |(a, b): &(char, char)| a == b;
    let before: usize = one.chars().zip(other.chars()).take_while(same).map(|(letter, _)| letter.len_utf8()).sum();
    let (one, other) = (&one[before..], &other[before..]);
    let behind: usize =
        one.chars().rev().zip(other.chars().rev()).take_while(same).map(|(letter, _)| letter.len_utf8()).sum();
    let mut letters = one[..one.len() - behind].chars();
    let mut others = other[..other.len() - behind].chars();
    let (ours, theirs) = ([letters.next(), letters.next()], [others.next(), others.next()]);
    let is_all = letters.next().is_none() && others.next().is_none();
    is_all && ((ours[1].is_none() && theirs[1].is_none()) || (ours[0] == theirs[1] && ours[1] == theirs[0]))
}

/// `grp` for `group`: the same first letter, and all letters of the shorter in the order of the longer.
fn short_for(short: &str, long: &str) -> bool {
    let length = short.chars().count();
    let mut letters = long.chars();
    length >= SHORT_CHARS_MIN
        && length < long.chars().count()
        && short.chars().next() == long.chars().next()
        && short.chars().all(|letter| letters.any(|other| other == letter))
}

/// `UserIDs`, `user_ids`, `User-IDs`: user, id.
fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for (at, &letter) in letters.iter().enumerate() {
        if !letter.is_alphanumeric() {
            open = false;
            continue;
        }
        let before = at.checked_sub(1).map(|before| letters[before]);
        let is_lower = |at: usize| letters.get(at).is_some_and(|letter| letter.is_lowercase());
        // `HTTPAddress` is two words, `IDs` is one.
        let is_plural = letters.get(at + 1) == Some(&'s') && !is_lower(at + 2);
        let begins = letter.is_uppercase()
            && (before.is_some_and(char::is_lowercase)
                || (before.is_some_and(char::is_uppercase) && is_lower(at + 1) && !is_plural));
        match words.last_mut() {
            Some(word) if open && !begins => word.extend(letter.to_lowercase()),
            _ => words.push(letter.to_lowercase().collect()),
        }
        open = true;
    }
    // `e-mail`.
    while let Some(at) = words.windows(2).position(|pair| pair[0] == "e" && pair[1].starts_with("mail")) {
        let mail = words.remove(at + 1);
        words[at].push_str(&mail);
    }
    words.iter().map(|word| singular(word)).collect()
}

fn singular(word: &str) -> String {
    let strip = |end: &str| word.strip_suffix(end);
    if word.chars().count() <= 3 {
        return if word == "ids" { "id".to_owned() } else { word.to_owned() };
    }
    if let Some(rest) = strip("ies").filter(|rest| rest.chars().count() > 1) {
        return format!("{rest}y");
    }
    if ["sses", "xes", "ches", "shes"].iter().any(|end| word.ends_with(end)) {
        return word[..word.len() - 2].to_owned();
    }
    match strip("s") {
        Some(rest) if !["s", "u", "i"].iter().any(|end| rest.ends_with(end)) => rest.to_owned(),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart_whatever_its_spelling() {
        for (name, expected) in [
            ("users", "user"),
            ("UserIDs", "user id"),
            ("HTTPAddress", "http address"),
            ("E-Mail", "email"),
            ("e_mails", "email"),
            ("Vor Name", "vor name"),
            ("Ausleihe \"neu\".2", "ausleihe neu 2"),
            ("gültig bis", "gültig bis"),
            ("countries", "country"),
            ("addresses", "address"),
            ("boxes", "box"),
            ("sizes", "size"),
            ("status", "status"),
            ("analysis", "analysis"),
            ("address", "address"),
            ("is", "is"),
            ("✓", ""),
        ] {
            assert_eq!(words(name).join(" "), expected, "{name}");
        }
    }

    #[test]
    fn names_are_alike_as_a_person_would_say() {
        let like = |one: &str, other: &str| {
            let found = Name::of(one).like(&Name::of(other));
            assert_eq!(found, Name::of(other).like(&Name::of(one)), "{one} and {other}");
            found
        };
        for (one, other, expected) in [
            ("email", "E-Mail", Some(Likeness::Same)),
            ("usr_id", "UsrId", Some(Likeness::Same)),
            ("descr", "description", Some(Likeness::Same)),
            ("grps", "groups", Some(Likeness::Same)),
            ("ext", "is_external", Some(Likeness::ButForEnds)),
            ("country", "country_id", Some(Likeness::ButForEnds)),
            ("hire_d", "hire_date", Some(Likeness::ButForEnds)),
            ("mail", "email_address", Some(Likeness::Synonym)),
            ("descr", "title", Some(Likeness::Synonym)),
            ("birth_dt", "born", Some(Likeness::Synonym)),
            ("chg_ts", "updated_at", Some(Likeness::Synonym)),
            ("last_update", "modified_on", Some(Likeness::Synonym)),
            ("active", "status", Some(Likeness::Synonym)),
            ("team_id", "group_id", Some(Likeness::Synonym)),
            ("usr_id", "user_id", Some(Likeness::Same)),
            ("emp_nam", "employee_name", Some(Likeness::Short)),
            ("cost_ctr", "cost_center", Some(Likeness::Same)),
            ("bud_ct", "budget", Some(Likeness::Short)),
            ("Titel", "titles", Some(Likeness::Near)),
            ("colour", "color", Some(Likeness::Short)),
            ("adress", "address", Some(Likeness::Short)),
            ("größe", "grösse", None),
            ("cost1", "cost2", Some(Likeness::Near)),
            ("abcde", "abedc", None),
            ("id", "code", None),
            ("no", "name", None),
            ("city", "country", None),
            ("✓", "✓", None),
        ] {
            assert_eq!(like(one, other), expected, "{one} and {other}");
        }
    }

    #[test]
    fn a_prefix_is_taken_off_only_where_something_is_left() {
        let user = Name::of("users").words;
        assert_eq!(Name::of("user_name").without(&user), Name::of("name"));
        assert_eq!(Name::of("user").without(&user), Name::of("user"));
        assert_eq!(Name::of("name").without(&user), Name::of("name"));
        assert_eq!(Name::of("name").without(&[]), Name::of("name"));
    }
}
