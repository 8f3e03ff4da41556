//! Makes and fills the two sample systems on any server. Owns: the schemas of `examples/` and what is in them at the
//! start. Never: the `sync_bridge` schema, a row once the writers run.
//!
//! The legacy side holds everything, the platform nearly nothing: a few records made there only, and for a customer with
//! early adopters people whom both sides know already, not always by the same name or phone number.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{RngExt, SeedableRng};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::people::{self, Names, Person};
use crate::config::DatabaseUrl;

const LEGACY: &str = include_str!("../../examples/legacy.sql");
const IDENTITY: &str = include_str!("../../examples/platform/identity.sql");
const GROUPS: &str = include_str!("../../examples/platform/groups.sql");
const GEO: &str = include_str!("../../examples/platform/geo.sql");
const ONE_DATABASE: &str = include_str!("../../examples/platform/one-database.sql");
const CITIES: &str = include_str!("../../examples/cities.csv");
const COUNTRIES: &str = include_str!("../../examples/countries.csv");

/// What the clock on the wall of the backoffice shows; `legacy.sql` says the same.
const LEGACY_ZONE: Tz = Tz::Europe__Berlin;

/// The country, regions and sites that only the platform knows at the start; no city of the file lies there.
const PLATFORM_ONLY_COUNTRY: (&str, &str) = ("LI", "Liechtenstein");

/// A customer of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub id: &'static str,
    pub slug: &'static str,
    /// The platform's three services are schemas of one database, else databases.
    pub one_database: bool,
    /// Some of its people made themselves an account on the platform before anybody synced anything.
    pub early_adopters: bool,
}

/// As declared in `examples/bridge.toml`.
pub const ACME: Sample = Sample { id: "c-1001", slug: "acme", one_database: true, early_adopters: false };
pub const BIRCH: Sample = Sample { id: "c-1002", slug: "birch", one_database: false, early_adopters: true };
pub const ALL: [Sample; 2] = [ACME, BIRCH];

/// Where a customer's systems are. With one platform database the three are equal.
#[derive(Debug, Clone)]
pub struct Systems {
    pub legacy: DatabaseUrl,
    pub identity: DatabaseUrl,
    pub groups: DatabaseUrl,
    pub geo: DatabaseUrl,
}

/// How much is made.
#[derive(Debug, Clone, Copy)]
pub struct Amounts {
    pub people: usize,
    pub groups: usize,
    pub sites: usize,
}

impl Amounts {
    /// What goes with so many people of one customer.
    pub fn of_people(people: usize) -> Amounts {
        Amounts { people, groups: (people / 40).max(10), sites: (people / 2).clamp(10, 3000) }
    }
}

/// How many records of each entity a side held after filling.
#[derive(Debug, Clone, Default)]
pub struct Filled {
    pub legacy: BTreeMap<&'static str, usize>,
    pub platform: BTreeMap<&'static str, usize>,
}

impl Filled {
    /// How many pairs there will be once everything is on both sides.
    pub fn pairs_expected(&self) -> usize {
        self.legacy.values().sum::<usize>() + self.platform.get("only here").copied().unwrap_or_default()
    }
}

#[derive(Debug, Clone)]
pub struct City {
    pub name: String,
    pub country: String,
    pub latitude: f64,
    pub longitude: f64,
    pub timezone: String,
    pub population: i64,
}

/// Makes the tables of one customer's systems in empty databases.
///
/// # Errors
/// Names the database that refused.
pub async fn create(sample: &Sample, systems: &Systems) -> anyhow::Result<()> {
    apply(&systems.legacy, LEGACY).await?;
    apply(&systems.identity, IDENTITY).await?;
    apply(&systems.groups, GROUPS).await?;
    apply(&systems.geo, GEO).await?;
    if sample.one_database {
        apply(&systems.identity, ONE_DATABASE).await?;
    }
    Ok(())
}

async fn apply(url: &DatabaseUrl, script: &'static str) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    sqlx::raw_sql(script).execute(&mut connection).await.with_context(|| format!("creating sample tables in {url}"))?;
    connection.close().await.with_context(|| format!("closing the connection to {url}"))
}

/// A connection as an application of the platform has it, or the comparison.
pub async fn connect(url: &DatabaseUrl) -> anyhow::Result<PgConnection> {
    PgConnection::connect(url.expose()).await.with_context(|| format!("connecting to the sample database {url}"))
}

/// A connection as the backoffice has it. Its database says the zone, but the driver asks for UTC when it connects, and a
/// legacy trigger that stores local time would then be hours off.
pub async fn connect_to_legacy(url: &DatabaseUrl) -> anyhow::Result<PgConnection> {
    let mut connection = connect(url).await?;
    sqlx::query("select set_config('TimeZone', $1, false)")
        .bind(LEGACY_ZONE.name())
        .execute(&mut connection)
        .await
        .with_context(|| format!("setting the time zone of a session of {url}"))?;
    Ok(connection)
}

/// Fills both systems. The same seed makes the same data.
///
/// # Errors
/// Names the table and database that refused.
pub async fn fill(sample: &Sample, systems: &Systems, amounts: Amounts, seed: u64) -> anyhow::Result<Filled> {
    let mut rng = StdRng::seed_from_u64(seed ^ fnv(sample.id));
    let world = World::draw(&mut rng, sample, amounts);
    let mut filled = Filled::default();
    world.copy_to_legacy(&mut rng, &systems.legacy, &mut filled.legacy).await?;
    world.copy_to_platform(&mut rng, sample, systems, &mut filled.platform).await?;
    Ok(filled)
}

/// So that two customers with one seed do not have the same people.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What is true of one customer before it is written down anywhere.
struct World {
    domain: String,
    names: Names,
    cities: Vec<City>,
    people: Vec<LegacyPerson>,
    groups: Vec<LegacyGroup>,
    memberships: Vec<LegacyMembership>,
    countries: Vec<(String, String)>,
    regions: Vec<LegacyRegion>,
}

struct LegacyPerson {
    id: i32,
    deleted: bool,
    stamp: DateTime<Utc>,
    person: Person,
}

struct LegacyGroup {
    id: i32,
    parent: Option<i32>,
    code: String,
    name: String,
    kind: &'static str,
    owner: Option<i32>,
    budget_cents: i64,
    /// In seconds since 1970.
    expires: Option<i64>,
    deleted: bool,
}

struct LegacyMembership {
    group: i32,
    user: i32,
    role: &'static str,
    active: bool,
    since: Option<NaiveDate>,
}

struct LegacyRegion {
    id: i32,
    country: String,
    name: String,
    timezone: String,
}

impl World {
    fn draw(rng: &mut StdRng, sample: &Sample, amounts: Amounts) -> World {
        let domain = format!("{}.example", sample.slug);
        let names = Names::load();
        // Each customer has other cities; the larger ones come first in the file.
        let skip = usize::from(*sample != ACME);
        let cities: Vec<City> = cities().into_iter().skip(skip).step_by(2).take(amounts.sites).collect();
        let people = draw_people(rng, &names, &cities, &domain, amounts.people);
        let groups = draw_groups(rng, &people, amounts.groups);
        let memberships = draw_memberships(rng, &people, &groups);
        let regions = regions_of(&cities);
        World { domain, names, cities, people, groups, memberships, countries: countries(), regions }
    }

    async fn copy_to_legacy(
        &self,
        rng: &mut StdRng,
        url: &DatabaseUrl,
        counts: &mut BTreeMap<&'static str, usize>,
    ) -> anyhow::Result<()> {
        let mut connection = connect_to_legacy(url).await?;
        let mut users = CopyText::default();
        for LegacyPerson { id, deleted, stamp, person } in &self.people {
            users
                .value(id)
                .value(person.email_as_typed(rng))
                .value(&person.given)
                .value(&person.family)
                .value(yes_no(person.active))
                .value(yes_no(person.external))
                .value(yes_no(*deleted))
                .option(person.phone.as_ref())
                .option(person.born)
                .value(person.hired.map(eight_digits).unwrap_or_default())
                .value(if person.newsletter && id % 5 == 0 { "J" } else { yes_no(person.newsletter) })
                .value(person.locale.unwrap_or_default())
                .option(person.lines)
                .value(&person.address.street)
                .value(&person.address.zip)
                .value(&person.address.city)
                .value(&person.address.country)
                .value(format!("{:04}", id % 37 * 100))
                .value(local(*stamp))
                .value(local(*stamp))
                .end();
        }
        let columns = "id, email_addr, first_name, last_name, active, ext, deleted, phone, birth_dt, hire_d, newsl, lang, \
                       pg_len, street, zip, city, ctry, cost_ctr, created, last_update";
        let copied = users.copy(&mut connection, "users", columns).await?;
        counts.insert("user", copied);
        counts.insert("profile", copied);

        let mut groups = CopyText::default();
        for group in &self.groups {
            groups
                .value(group.id)
                .option(group.parent)
                .value(&group.code)
                .value(&group.name)
                .value(group.kind)
                .option(group.owner)
                .value(group.budget_cents)
                .option(group.expires)
                .value(yes_no(group.deleted))
                .value(stamp(rng))
                .end();
        }
        let columns = "id, par_id, code, descr, typ, resp_id, bud_ct, valid_s, del, chg_ts";
        counts.insert("group", groups.copy(&mut connection, "grps", columns).await?);

        let mut memberships = CopyText::default();
        for membership in &self.memberships {
            memberships
                .value(membership.group)
                .value(membership.user)
                .value(membership.role)
                .value(yes_no(membership.active))
                .option(membership.since)
                .value(local(stamp(rng)))
                .end();
        }
        let columns = "grp_id, usr_id, role, act, since, last_update";
        counts.insert("membership", memberships.copy(&mut connection, "grp_usr", columns).await?);

        let mut countries = CopyText::default();
        for (code, name) in &self.countries {
            countries.value(code).value(name).value(local(stamp(rng))).end();
        }
        counts.insert("country", countries.copy(&mut connection, "country", "code, descr, last_update").await?);

        let mut regions = CopyText::default();
        for region in &self.regions {
            regions
                .value(region.id)
                .value(&region.country)
                .value(&region.name)
                .value(&region.timezone)
                .value(stamp(rng))
                .end();
        }
        counts.insert("region", regions.copy(&mut connection, "region", "id, country, descr, tz, chg_ts").await?);

        let region_ids: BTreeMap<(&str, &str), i32> = self
            .regions
            .iter()
            .map(|region| ((region.country.as_str(), region.timezone.as_str()), region.id))
            .collect();
        let mut sites = CopyText::default();
        for (number, city) in self.cities.iter().enumerate() {
            let region = region_ids[&(city.country.as_str(), city.timezone.as_str())];
            let changed = stamp(rng);
            sites
                .value(501 + number)
                .value(region)
                .value(&city.name)
                .value(city.latitude)
                .value(city.longitude)
                .option(rng.random_bool(0.95).then_some(city.population))
                .value(self.people.choose(rng).filter(|_| number % 3 > 0).map_or(0, |manager| manager.id))
                .option(rng.random_bool(0.03).then(|| local(changed)))
                .value(local(changed))
                .end();
        }
        let columns = "id, reg_id, descr, lat, lon, inhab, mgr_id, closed, last_update";
        counts.insert("site", sites.copy(&mut connection, "sites", columns).await?);

        sqlx::raw_sql(include_str!("sql/after_copy.sql"))
            .execute(&mut connection)
            .await
            .with_context(|| format!("setting the sequences of {url}"))?;
        connection.close().await.with_context(|| format!("closing the connection to {url}"))
    }

    async fn copy_to_platform(
        &self,
        rng: &mut StdRng,
        sample: &Sample,
        systems: &Systems,
        counts: &mut BTreeMap<&'static str, usize>,
    ) -> anyhow::Result<()> {
        let mut only_here = 0;
        let mut users = CopyText::default();
        let mut profiles = CopyText::default();
        let mut user_count = 0;
        let mut profile_count = 0;
        let mut account = |rng: &mut StdRng, person: &Person, with_profile: bool| {
            let id = uuid(rng);
            let changed = stamp(rng);
            users
                .value(id)
                .value(&person.email)
                .value(person.display_name())
                .value(if person.active { "active" } else { "suspended" })
                .value(person.external)
                .value(changed)
                .value(changed)
                .end();
            user_count += 1;
            if with_profile {
                profiles
                    .value(uuid(rng))
                    .value(id)
                    .option(person.phone.as_ref())
                    .option(person.born)
                    .option(person.hired)
                    .value(if person.newsletter { "newsletter" } else { "none" })
                    .value(address_json(&person.address))
                    .value(settings_json(person))
                    .value(stamp(rng))
                    .end();
                profile_count += 1;
            }
            id
        };

        if sample.early_adopters {
            let alive: Vec<&LegacyPerson> = self.people.iter().filter(|known| !known.deleted).collect();
            for known in alive.sample(rng, self.people.len() / 10) {
                let mut person = known.person.clone();
                if rng.random_bool(0.2) {
                    self.names.given(rng).clone_into(&mut person.given);
                }
                if rng.random_bool(0.25) {
                    person.phone = Some(people::phone(rng));
                }
                let with_profile = rng.random_bool(0.9);
                account(rng, &person, with_profile);
            }
        }
        let mut members = Vec::new();
        for number in 0..(self.people.len() / 500).max(3) {
            let person = Person::draw(rng, &self.names, &self.cities, &self.domain, &format!("p{number}"));
            members.push(account(rng, &person, true));
            only_here += 2;
        }
        counts.insert("user", user_count);
        counts.insert("profile", profile_count);
        let mut identity = connect(&systems.identity).await?;
        let columns = "id, email, display_name, status, is_external, created_at, updated_at";
        users.copy(&mut identity, "identity.users", columns).await?;
        let columns = "id, user_id, phone, birth_date, hired_on, contact, address, settings, updated_at";
        profiles.copy(&mut identity, "identity.profiles", columns).await?;
        identity.close().await?;

        let mut groups = CopyText::default();
        let mut memberships = CopyText::default();
        let circle = uuid(rng);
        groups
            .value(circle)
            .value("PILOT")
            .value("Pilot circle")
            .value("project")
            .value(members[0])
            .value(stamp(rng))
            .end();
        for (number, user) in members.iter().enumerate() {
            let role = if number == 0 { "owner" } else { "member" };
            memberships.value(circle).value(user).value(role).value("2025-02-01 09:30:00+00").value(stamp(rng)).end();
        }
        only_here += 1 + members.len();
        let mut connection = connect(&systems.groups).await?;
        let columns = "id, code, name, kind, owner_id, updated_at";
        counts.insert("group", groups.copy(&mut connection, "groups.groups", columns).await?);
        let columns = "group_id, user_id, role, joined_at, updated_at";
        counts.insert("membership", memberships.copy(&mut connection, "groups.memberships", columns).await?);
        connection.close().await?;

        only_here += self.copy_geo(rng, sample, &systems.geo, counts).await?;
        counts.insert("only here", only_here);
        Ok(())
    }

    /// Answers how many of the records only the platform knows.
    async fn copy_geo(
        &self,
        rng: &mut StdRng,
        sample: &Sample,
        url: &DatabaseUrl,
        counts: &mut BTreeMap<&'static str, usize>,
    ) -> anyhow::Result<usize> {
        let (code, name) = PLATFORM_ONLY_COUNTRY;
        let (country, region) = (uuid(rng), uuid(rng));
        let mut countries = CopyText::default();
        countries.value(country).value(code).value(name).value(stamp(rng)).end();
        if sample.early_adopters {
            for (number, (code, name)) in self.countries.iter().step_by(6).enumerate() {
                // Entered by hand, here and there with a different idea of the name.
                let name = if number % 10 == 0 { format!("Republic of {name}") } else { name.clone() };
                countries.value(uuid(rng)).value(code).value(name).value(stamp(rng)).end();
            }
        }
        let mut regions = CopyText::default();
        regions.value(region).value(country).value("Vaduz").value("Europe/Vaduz").value(stamp(rng)).end();
        let places = [
            ("Vaduz", 47.14151, 9.52154, 5668),
            ("Schaan", 47.16498, 9.50867, 6039),
            ("Balzers", 47.06665, 9.50251, 4628),
        ];
        let mut sites = CopyText::default();
        for (name, latitude, longitude, population) in places {
            sites
                .value(uuid(rng))
                .value(region)
                .value(name)
                .value(format!("({longitude},{latitude})"))
                .value(population)
                .value(stamp(rng))
                .end();
        }
        let mut connection = connect(url).await?;
        let columns = "id, code, name, updated_at";
        counts.insert("country", countries.copy(&mut connection, "geo.countries", columns).await?);
        let columns = "id, country_id, name, timezone, updated_at";
        counts.insert("region", regions.copy(&mut connection, "geo.regions", columns).await?);
        let columns = "id, region_id, name, location, population, updated_at";
        counts.insert("site", sites.copy(&mut connection, "geo.sites", columns).await?);
        connection.close().await?;
        Ok(2 + places.len())
    }
}

fn draw_people(rng: &mut StdRng, names: &Names, cities: &[City], domain: &str, count: usize) -> Vec<LegacyPerson> {
    let mut id = 1000;
    (0..count)
        .map(|_| {
            // Sequences have holes.
            id += rng.random_range(1..=3);
            let person = Person::draw(rng, names, cities, domain, &id.to_string());
            LegacyPerson { id, deleted: rng.random_bool(0.04), stamp: stamp(rng), person }
        })
        .collect()
}

/// A company, its departments, teams in these, projects in teams. Only projects have no children, so only they move.
fn draw_groups(rng: &mut StdRng, people: &[LegacyPerson], count: usize) -> Vec<LegacyGroup> {
    const DEPARTMENTS: [&str; 6] = ["Sales", "Finance", "Operations", "Research", "People & Culture", "Customer Care"];
    const TOPICS: [&str; 10] = [
        "Billing",
        "Onboarding",
        "Logistics",
        "Façade",
        "Réseau",
        "Data",
        "Übersetzung",
        "Quality",
        "Field",
        "Archive",
    ];
    let mut groups: Vec<LegacyGroup> = Vec::with_capacity(count);
    let mut departments = Vec::new();
    let mut teams = Vec::new();
    for number in 0..count {
        let id = 10 + i32::try_from(number).unwrap_or(i32::MAX - 10);
        let owner = people.choose(rng).filter(|_| rng.random_bool(0.8)).map(|owner| owner.id);
        let topic = TOPICS.choose(rng).expect("there are topics");
        let (kind, parent, code, name) = match number {
            0 => ("D", None, "D000".to_owned(), "Company".to_owned()),
            1..=6 => ("D", Some(10), format!("D{number:03}"), DEPARTMENTS[number - 1].to_owned()),
            _ if number % 3 != 0 || teams.is_empty() => {
                ("T", departments.choose(rng).copied(), format!("T{number:05}"), format!("{topic} Team {number}"))
            }
            _ => ("P", teams.choose(rng).copied(), format!("P{number:05}"), format!("{topic} 2025/{number}")),
        };
        match kind {
            "D" => departments.push(id),
            "T" => teams.push(id),
            _ => {}
        }
        groups.push(LegacyGroup {
            id,
            parent,
            code,
            name,
            kind,
            owner,
            budget_cents: if rng.random_bool(0.7) { rng.random_range(0..50_000_000) } else { 0 },
            expires: (kind == "P").then(|| stamp(rng).timestamp() + EXPIRES_AFTER_SECS),
            deleted: kind == "P" && rng.random_bool(0.1),
        });
    }
    groups
}

fn draw_memberships(rng: &mut StdRng, people: &[LegacyPerson], groups: &[LegacyGroup]) -> Vec<LegacyMembership> {
    let mut memberships = Vec::with_capacity(people.len() * 2);
    for person in people {
        let count = rng.random_range(0..=3);
        let joined: BTreeSet<i32> = groups.iter().map(|group| group.id).sample(rng, count).into_iter().collect();
        for group in joined {
            let role = match rng.random_range(0..20) {
                0 => "O",
                1 | 2 => "A",
                _ => "M",
            };
            memberships.push(LegacyMembership {
                group,
                user: person.id,
                role,
                active: rng.random_bool(0.92),
                since: rng.random_bool(0.7).then(|| stamp(rng).date_naive()),
            });
        }
    }
    memberships
}

fn regions_of(cities: &[City]) -> Vec<LegacyRegion> {
    let distinct: BTreeSet<(&str, &str)> =
        cities.iter().map(|city| (city.country.as_str(), city.timezone.as_str())).collect();
    (101..)
        .zip(distinct)
        .map(|(id, (country, timezone))| LegacyRegion {
            id,
            country: country.to_owned(),
            name: timezone.rsplit('/').next().unwrap_or(timezone).replace('_', " "),
            timezone: timezone.to_owned(),
        })
        .collect()
}

/// The cities of `examples/cities.csv`, most populous first.
pub fn cities() -> Vec<City> {
    CITIES.lines().skip(1).filter_map(city).collect()
}

fn city(line: &str) -> Option<City> {
    // Two names of the file hold a comma and stand in quotes.
    let (_, rest) = line.split_once(',')?;
    let (name, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once("\",")?,
        None => rest.split_once(',')?,
    };
    let mut parts = rest.split(',');
    Some(City {
        name: name.to_owned(),
        country: parts.next()?.to_owned(),
        latitude: parts.next()?.parse().ok()?,
        longitude: parts.next()?.parse().ok()?,
        timezone: parts.next()?.to_owned(),
        population: parts.next()?.parse().ok()?,
    })
}

fn countries() -> Vec<(String, String)> {
    COUNTRIES
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(','))
        .map(|(code, name)| (code.to_owned(), name.to_owned()))
        .collect()
}

/// When a record was last edited, long before anybody syncs. A fifth was taken over from an older system in one night.
fn stamp(rng: &mut StdRng) -> DateTime<Utc> {
    const TAKEOVER_SECS: i64 = 1_617_062_400;
    const DAYS: i64 = 1_500;
    let micros = if rng.random_bool(0.2) { 0 } else { rng.random_range(1..DAYS * 86_400 * 1_000_000) };
    DateTime::from_timestamp_micros(TAKEOVER_SECS * 1_000_000 + micros).expect("a time of the calendar")
}

/// A project is given five years.
const EXPIRES_AFTER_SECS: i64 = 5 * 365 * 86_400;

/// As a server on local time writes it down.
fn local(stamp: DateTime<Utc>) -> NaiveDateTime {
    stamp.with_timezone(&LEGACY_ZONE).naive_local()
}

fn uuid(rng: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}

/// A date as the backoffice keeps one in a text.
pub(super) fn eight_digits(date: NaiveDate) -> String {
    date.format("%Y%m%d").to_string()
}

fn yes_no(flag: bool) -> &'static str {
    if flag { "Y" } else { "N" }
}

pub(super) fn address_json(address: &people::Address) -> serde_json::Value {
    serde_json::json!({
        "street": address.street,
        "zip": address.zip,
        "city": address.city,
        "country": address.country,
    })
}

/// With a member that only the platform knows.
pub(super) fn settings_json(person: &Person) -> serde_json::Value {
    let mut settings = serde_json::json!({ "theme": if person.newsletter { "light" } else { "dark" } });
    if let Some(locale) = person.locale {
        settings["locale"] = locale.into();
    }
    if let Some(lines) = person.lines {
        settings["lists"] = serde_json::json!({ "page_size": lines, "dense": false });
    }
    settings
}

/// Rows in the text form of COPY.
#[derive(Default)]
struct CopyText {
    text: String,
    rows: usize,
    in_row: bool,
}

impl CopyText {
    fn value(&mut self, value: impl std::fmt::Display) -> &mut Self {
        self.separate();
        for letter in value.to_string().chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '\t' => self.text.push_str("\\t"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                other => self.text.push(other),
            }
        }
        self
    }

    fn option(&mut self, value: Option<impl std::fmt::Display>) -> &mut Self {
        if let Some(value) = value {
            return self.value(value);
        }
        self.separate();
        self.text.push_str("\\N");
        self
    }

    fn separate(&mut self) {
        if self.in_row {
            self.text.push('\t');
        }
        self.in_row = true;
    }

    fn end(&mut self) {
        self.text.push('\n');
        self.in_row = false;
        self.rows += 1;
    }

    /// Answers the number of rows. `table` and `columns` are texts of this module.
    async fn copy(&self, connection: &mut PgConnection, table: &str, columns: &str) -> anyhow::Result<usize> {
        let statement = format!("copy {table} ({columns}) from stdin");
        let copying = async {
            let mut copy = connection.copy_in_raw(&statement).await?;
            copy.send(self.text.as_bytes()).await?;
            copy.finish().await
        };
        copying.await.with_context(|| format!("filling the sample table {table}"))?;
        let analyze = format!("analyze {table}");
        sqlx::query(AssertSqlSafe(analyze)).execute(connection).await.with_context(|| format!("analyzing {table}"))?;
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_city_is_read_and_has_a_country() {
        let (cities, countries) = (cities(), countries());
        assert_eq!(cities.len(), 6000);
        let known: BTreeSet<&str> = countries.iter().map(|(code, _)| code.as_str()).collect();
        for city in &cities {
            assert!(known.contains(city.country.as_str()), "{city:?}");
            assert!(city.name.chars().count() <= 120, "{city:?}");
        }
        assert!(!known.contains(PLATFORM_ONLY_COUNTRY.0));
        let regions = regions_of(&cities);
        let names: BTreeSet<(&str, &str)> =
            regions.iter().map(|region| (region.country.as_str(), region.name.as_str())).collect();
        assert_eq!(names.len(), regions.len(), "two regions of a country share a name");
    }

    #[test]
    fn the_same_seed_makes_the_same_world() {
        let draw = || {
            let world = World::draw(&mut StdRng::seed_from_u64(3), &BIRCH, Amounts::of_people(40));
            world.people.iter().map(|known| known.person.email.clone()).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
    }

    #[test]
    fn copy_text_escapes_what_would_end_a_value() {
        let mut rows = CopyText::default();
        rows.value("a\tb\\c\nd").option(None::<&str>).value(1).end();
        assert_eq!(rows.text, "a\\tb\\\\c\\nd\t\\N\t1\n");
    }
}
