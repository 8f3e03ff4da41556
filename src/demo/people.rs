//! People who do not exist, from a seed. Owns: names and what belongs to a person. Never: a database.

use chrono::NaiveDate;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::samples::City;

const NAMES: &str = include_str!("../../examples/names.txt");

/// What both systems can hold about a person. Lengths fit the backoffice's columns.
#[derive(Debug, Clone)]
pub struct Person {
    pub email: String,
    pub given: String,
    pub family: String,
    pub active: bool,
    pub external: bool,
    pub phone: Option<String>,
    pub born: Option<NaiveDate>,
    pub hired: Option<NaiveDate>,
    pub newsletter: bool,
    pub address: Address,
    pub locale: Option<&'static str>,
    /// Lines to a page of a list.
    pub lines: Option<i16>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    pub street: String,
    pub zip: String,
    pub city: String,
    pub country: String,
}

impl Person {
    /// `tag` makes the address unique: no two people of a customer share one.
    pub fn draw(rng: &mut StdRng, names: &Names, cities: &[City], domain: &str, tag: &str) -> Person {
        let (given, family) = (names.given(rng).to_owned(), names.family(rng).to_owned());
        let email = format!("{}.{}.{tag}@{domain}", folded(&given), folded(&family));
        Person {
            email,
            given,
            family,
            active: rng.random_bool(0.93),
            external: rng.random_bool(0.15),
            phone: rng.random_bool(0.85).then(|| phone(rng)),
            born: rng.random_bool(0.9).then(|| born(rng)),
            hired: rng.random_bool(0.8).then(|| hired(rng)),
            newsletter: rng.random_bool(0.4),
            address: if rng.random_bool(0.9) { address(rng, cities) } else { Address::default() },
            locale: rng.random_bool(0.7).then(|| locale(rng)),
            lines: rng.random_bool(0.3).then(|| lines(rng)),
        }
    }

    pub fn display_name(&self) -> String {
        format!("{} {}", self.given, self.family)
    }

    /// As somebody types it who has the shift key under a finger.
    pub fn email_as_typed(&self, rng: &mut StdRng) -> String {
        match rng.random_range(0..10) {
            0 => capitals_after_dots(&self.email),
            1 => self.email.to_uppercase(),
            // Pasted from a letter.
            2 => format!("{} ", capitals_after_dots(&self.email)),
            _ => self.email.clone(),
        }
    }
}

pub struct Names {
    given: Vec<&'static str>,
    family: Vec<&'static str>,
}

impl Names {
    pub fn load() -> Names {
        let mut lines = NAMES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let given = lines.by_ref().take_while(|line| !line.starts_with('-')).collect();
        Names { given, family: lines.collect() }
    }

    pub fn given(&self, rng: &mut impl Rng) -> &'static str {
        self.given.choose(rng).copied().expect("the file of names has given names")
    }

    pub fn family(&self, rng: &mut impl Rng) -> &'static str {
        self.family.choose(rng).copied().expect("the file of names has family names")
    }
}

pub fn phone(rng: &mut StdRng) -> String {
    const CODES: [&str; 8] = ["+49 30", "+33 1", "+44 20", "+81 3", "+55 11", "+91 22", "+1 212", "+234 1"];
    format!("{} {}", CODES.choose(rng).expect("there are codes"), rng.random_range(1_000_000..10_000_000))
}

fn born(rng: &mut StdRng) -> NaiveDate {
    let first = NaiveDate::from_ymd_opt(1948, 1, 1).expect("a date of the calendar");
    first + chrono::Days::new(rng.random_range(0..21_000))
}

pub fn hired(rng: &mut StdRng) -> NaiveDate {
    let first = NaiveDate::from_ymd_opt(1989, 7, 1).expect("a date of the calendar");
    first + chrono::Days::new(rng.random_range(0..13_000))
}

pub fn locale(rng: &mut StdRng) -> &'static str {
    const LOCALES: [&str; 6] = ["de", "de-AT", "en", "fr", "pt-BR", "tr"];
    LOCALES.choose(rng).expect("there are locales")
}

pub fn lines(rng: &mut StdRng) -> i16 {
    const LINES: [i16; 4] = [20, 25, 50, 100];
    *LINES.choose(rng).expect("there are numbers of lines")
}

pub fn address(rng: &mut StdRng, cities: &[City]) -> Address {
    const STREETS: [&str; 12] = [
        "Rue de l'Église",
        "Bahnhofstraße",
        "Calle Mayor",
        "O'Connell Street",
        "Main Street",
        "Via Roma",
        "Storgatan",
        "Nowy Świat",
        "Avenida São João",
        "İstiklal Caddesi",
        "Marina Road",
        "Sakura-dōri",
    ];
    let street = STREETS.choose(rng).expect("there are streets");
    let city = cities.choose(rng);
    Address {
        street: format!("{street} {}", rng.random_range(1..250)),
        zip: format!("{:05}", rng.random_range(1_000..99_999)),
        city: city.map_or_else(String::new, |city| city.name.clone()),
        country: city.map_or_else(String::new, |city| city.country.clone()),
    }
}

/// A name as it stands in a mail address: lower case, letters a to z and digits only.
fn folded(name: &str) -> String {
    name.to_lowercase().chars().map(fold).collect()
}

fn fold(letter: char) -> &'static str {
    const PLAIN: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
    if let Some(at) = PLAIN.find(letter) {
        return &PLAIN[at..=at];
    }
    match letter {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ą' => "a",
        'ç' | 'ć' | 'č' => "c",
        'ď' | 'đ' => "d",
        'è' | 'é' | 'ê' | 'ë' | 'ė' | 'ę' | 'ễ' => "e",
        'ğ' => "g",
        'ì' | 'í' | 'î' | 'ï' | 'ı' => "i",
        'ł' => "l",
        'ñ' | 'ń' => "n",
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ő' | 'ồ' => "o",
        'ř' => "r",
        'ś' | 'š' | 'ş' => "s",
        'ß' => "ss",
        'ù' | 'ú' | 'û' | 'ü' | 'ű' => "u",
        'ý' | 'ÿ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => "",
    }
}

fn capitals_after_dots(email: &str) -> String {
    let mut start = true;
    email
        .chars()
        .map(|letter| {
            let shown = if start { letter.to_ascii_uppercase() } else { letter };
            start = letter == '.';
            shown
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_name_makes_an_address_and_fits() {
        let names = Names::load();
        assert!(names.given.len() > 100 && names.family.len() > 100);
        for name in names.given.iter().chain(&names.family) {
            assert!(!folded(name).is_empty(), "{name}");
            assert!(name.chars().count() <= 40, "{name}");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_person() {
        let draw = || {
            let mut rng = StdRng::seed_from_u64(7);
            let person = Person::draw(&mut rng, &Names::load(), &[], "acme.example", "17");
            format!("{person:?} {}", person.email_as_typed(&mut rng))
        };
        assert_eq!(draw(), draw());
    }
}
