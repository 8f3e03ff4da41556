//! Random damage: rows deleted, edited without a stamp, brought back from a backup, and a ledger that somebody edited. Each is to be
//! called by its name, to be repaired or listed, and nothing else may be touched. A seed makes a round.
//! A few rounds run with the tests; `cargo run --example damage` does as many as it is told.

#![allow(dead_code, reason = "the tests and the example use different parts")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sync_bridge::config::{Config, CustomerId};
use sync_bridge::jobs::Env;
use sync_bridge::ops::{self, VerifyOf};
use sync_bridge::stages::Data;

use crate::support::bridge::{Bridge, GRACE, Worker, page_rows};
use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Systems};

const LEGACY: &str = "
    create table person (
      id serial primary key, email varchar(60) not null unique, name text, age integer, last_update timestamptz not null default now());
    create index on person (last_update, id);
    create table note (id serial primary key, person integer not null references person on delete cascade, body text,
      last_update timestamptz not null default now());
    create index on note (last_update, id);
    create index on note (person)";

const PLATFORM: &str = "
    create table person (
      id uuid primary key, email text not null unique, name text, age integer, updated_at timestamptz not null default now());
    create index on person (updated_at, id);
    create table note (id uuid primary key, person_id uuid not null references person on delete cascade, body text,
      updated_at timestamptz not null default now());
    create index on note (updated_at, id);
    create index on note (person_id)";

const STAGES: &str = r#"
[[stages]]
name = "all"
  [[stages.entities]]
  id = "person"
  legacy = { database = "legacy", table = "person", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "person", key = "id" }
  match_on = ["email"]
    [stages.entities.fields]
    email = { legacy = "email", platform = "email", lens = "lowercase" }
    name = { legacy = "name", platform = "name" }
    age = { legacy = "age", platform = "age" }
  [[stages.entities]]
  id = "note"
  legacy = { database = "legacy", table = "note", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "note", key = "id" }
    [stages.entities.fields]
    person = { legacy = "person", platform = "person_id", lens = { ref = "person" } }
    body = { legacy = "body", platform = "body" }
"#;

/// As many as there are at first; half of them have a note.
const PERSONS: u32 = 120;
/// At most so many damages a round.
const DAMAGES_MAX: u64 = 8;

/// What is done to a record, or to two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    SilentOnLegacy,
    SilentOnPlatform,
    SilentOnBoth,
    MadeOnLegacy,
    MadeOnPlatform,
    GoneFromLegacy,
    GoneFromPlatform,
    GoneFromBoth,
    OldOnLegacy,
    OldOnPlatform,
    KeysSwapped,
    BaseEdited,
    Stamped,
}

use Damage::{
    BaseEdited, GoneFromBoth, GoneFromLegacy, GoneFromPlatform, KeysSwapped, MadeOnLegacy, MadeOnPlatform, OldOnLegacy,
    OldOnPlatform, SilentOnBoth, SilentOnLegacy, SilentOnPlatform, Stamped,
};

impl Damage {
    pub const ALL: [Damage; 13] = [
        SilentOnLegacy,
        SilentOnPlatform,
        SilentOnBoth,
        MadeOnLegacy,
        MadeOnPlatform,
        GoneFromLegacy,
        GoneFromPlatform,
        GoneFromBoth,
        OldOnLegacy,
        OldOnPlatform,
        KeysSwapped,
        BaseEdited,
        Stamped,
    ];

    /// What `verify` has to call it; the base is only looked at by `--deep`, and a record that is gone from both sides differs nowhere.
    pub fn name(self) -> Option<&'static str> {
        match self {
            SilentOnLegacy | SilentOnPlatform | MadeOnLegacy | MadeOnPlatform => Some("missed"),
            SilentOnBoth => Some("conflict"),
            GoneFromLegacy | GoneFromPlatform => Some("deleted"),
            GoneFromBoth => None,
            OldOnLegacy | OldOnPlatform => Some("restored"),
            KeysSwapped | BaseEdited => Some("foreign"),
            Stamped => Some("behind"),
        }
    }

    /// What becomes of it without a person.
    pub fn end(self) -> &'static str {
        match self {
            OldOnLegacy | OldOnPlatform | KeysSwapped | BaseEdited => "listed",
            GoneFromLegacy | GoneFromPlatform | GoneFromBoth => "deleted",
            _ => "repaired",
        }
    }
}

/// A damage to the person of this e-mail address, and of another one.
#[derive(Debug, Clone)]
pub struct Done {
    pub damage: Damage,
    who: String,
    other: Option<String>,
}

/// What rounds did, by damage.
pub type Tally = BTreeMap<Damage, u64>;

/// A failed round: what does not hold.
pub type Failed = String;

/// Both systems, at rest, with a worker.
pub struct World {
    pub bridge: Bridge,
    worker: Option<Worker>,
    made: u32,
    /// Of the round, so that no edit is one that was made before.
    seed: u64,
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % count
    }
}

macro_rules! ensure {
    ($holds:expr, $($told:tt)*) => {
        if !$holds {
            return Err(format!($($told)*));
        }
    };
}

impl World {
    pub async fn new(hint: &str) -> World {
        let systems = Systems::new(hint, LEGACY, PLATFORM, STAGES).await;
        let mut config = Config::clone(&systems.config);
        page_rows(&mut config, 25);
        let bridge = Bridge { systems, queue: queue(hint).await, config: Arc::new(config) };
        bridge
            .systems
            .on_legacy(&format!(
                "insert into person (email, name, age) select 'p' || n || '@example.org', 'name ' || n, n from generate_series(1, {PERSONS}) n;
                 insert into note (person, body) select id, 'note ' || id from person where id % 2 = 0"
            ))
            .await;
        let worker = Some(bridge.work(GRACE));
        let world = World { bridge, worker, made: PERSONS, seed: 0 };
        world.bridge.settle().await;
        world
    }

    pub async fn end(mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stop().await;
        }
    }

    /// One round from a seed.
    ///
    /// # Errors
    /// What does not hold.
    pub async fn round(&mut self, seed: u64) -> Result<Tally, Failed> {
        self.seed = seed;
        let mut dice = Dice(seed);
        self.rest().await;
        let done = self.draw(&mut dice).await;
        let hurt: BTreeSet<String> =
            done.iter().flat_map(|done| [Some(done.who.clone()), done.other.clone()]).flatten().collect();
        let before = self.whole(&hurt).await;
        let bases = self.rows(true, "select encode(base, 'hex') || ':' || platform_key from sync_bridge.pair").await;
        let mut expected: BTreeSet<(String, String)> = BTreeSet::new();
        let mut deeper = expected.clone();
        for done in &done {
            self.hurt(done).await;
        }
        for done in &done {
            for who in [Some(&done.who), done.other.as_ref()].into_iter().flatten() {
                let Some(name) = done.damage.name() else { continue };
                let named = (who.clone(), name.to_owned());
                if done.damage != BaseEdited {
                    expected.insert(named.clone());
                }
                deeper.insert(named);
            }
        }
        for (deep, expected) in [(false, &expected), (true, &deeper)] {
            let found = self.verified(deep, &hurt).await?;
            ensure!(&found == expected, "deep {deep}: found {found:?} of {done:?}");
        }
        // Looking changed nothing; then runs do what they can.
        for _ in 0..3 {
            self.later().await;
            self.bridge.settle().await;
        }
        for done in &done {
            self.judge(done).await?;
        }
        let after = self.whole(&hurt).await;
        ensure!(before == after, "others were touched: {before:?} {after:?}");
        // What only a person can mend.
        for done in &done {
            self.heal(done, &bases).await;
        }
        self.bridge.settle().await;
        self.later().await;
        self.bridge.settle().await;
        for deep in [false, true] {
            let found = self.verified(deep, &hurt).await?;
            ensure!(found.is_empty(), "left, deep {deep}: {found:?} of {done:?}");
        }
        let rows = "select concat_ws('|', p.email, p.name, p.age, n.body) from person p left join note n on n.person";
        let both = [
            self.rows(false, &format!("{rows} = p.id order by p.email collate \"C\"")).await,
            self.rows(true, &format!("{rows}_id = p.id order by p.email collate \"C\"")).await,
        ];
        ensure!(both[0] == both[1], "the sides differ: {both:?}");
        let mut tally = Tally::new();
        done.iter().for_each(|done| *tally.entry(done.damage).or_default() += 1);
        Ok(tally)
    }

    /// As if nobody had touched anything for an hour.
    async fn rest(&self) {
        self.bridge
            .systems
            .on_legacy("update person set last_update = now() - interval '1 h'; update note set last_update = now() - interval '1 h'")
            .await;
        self.bridge
            .systems
            .on_platform(
                "update person set updated_at = now() - interval '1 h'; update note set updated_at = now() - interval '1 h';
                 update sync_bridge.pair set platform_stamp = now() - interval '1 h', legacy_stamp = now() - interval '1 h'",
            )
            .await;
        self.bridge.settle().await;
    }

    async fn draw(&mut self, dice: &mut Dice) -> Vec<Done> {
        let mut free = self.rows(false, "select email from person order by id").await;
        let mut done = Vec::new();
        for _ in 0..=dice.below(DAMAGES_MAX) {
            let damage = Damage::ALL[dice.below(Damage::ALL.len() as u64) as usize];
            let mut one = |dice: &mut Dice| free.swap_remove(dice.below(free.len() as u64) as usize);
            let who = match damage {
                MadeOnLegacy | MadeOnPlatform => {
                    self.made += 1;
                    format!("p{}@example.org", self.made)
                }
                _ => one(dice),
            };
            let other = (damage == KeysSwapped).then(|| one(dice));
            done.push(Done { damage, who, other });
        }
        done
    }

    async fn hurt(&self, done: &Done) {
        let Done { damage, who, other } = done;
        let systems = &self.bridge.systems;
        let seed = self.seed;
        let edit = |to: &str| format!("update person set name = '{to} {seed}' where email = '{who}'");
        let old = |stamp: &str| {
            format!("update person set name = 'old {seed}', {stamp} = {stamp} - interval '3 d' where email = '{who}'")
        };
        let delete = format!("delete from person where email = '{who}'");
        match damage {
            SilentOnLegacy => systems.on_legacy(&edit("silent on legacy")).await,
            SilentOnPlatform => systems.on_platform(&edit("silent on platform")).await,
            SilentOnBoth => {
                systems.on_legacy(&edit("one")).await;
                systems.on_platform(&edit("another")).await;
            }
            MadeOnLegacy => {
                let sql = "insert into person (email, name, age, last_update) values";
                systems.on_legacy(&format!("{sql} ('{who}', 'made', 1, now() - interval '1 h')")).await;
            }
            MadeOnPlatform => {
                let sql = "insert into person (id, email, name, age, updated_at) values";
                systems
                    .on_platform(&format!("{sql} (gen_random_uuid(), '{who}', 'made', 1, now() - interval '1 h')"))
                    .await;
            }
            GoneFromLegacy => systems.on_legacy(&delete).await,
            GoneFromPlatform => systems.on_platform(&delete).await,
            GoneFromBoth => {
                systems.on_legacy(&delete).await;
                systems.on_platform(&delete).await;
            }
            OldOnLegacy => systems.on_legacy(&old("last_update")).await,
            OldOnPlatform => systems.on_platform(&old("updated_at")).await,
            KeysSwapped => self.swap(who, other.as_ref().expect("two")).await,
            BaseEdited => {
                let sql = "update sync_bridge.pair set base = set_byte(base, length(base) - 1, get_byte(base, length(base) - 1) # 255)";
                systems
                    .on_platform(&format!(
                        "{sql} where platform_key = (select id::text from person where email = '{who}')"
                    ))
                    .await;
            }
            Stamped => {
                systems
                    .on_legacy(&format!(
                        "update person set name = 'edited {seed}', last_update = clock_timestamp() where email = '{who}'"
                    ))
                    .await;
            }
        }
    }

    async fn swap(&self, who: &str, other: &str) {
        let key = |who: &str| format!("(select id::text from person where email = '{who}')");
        let found = |who: &str| format!("select legacy_key from sync_bridge.pair where platform_key = {}", key(who));
        let (one, two) = (self.rows(true, &found(who)).await.concat(), self.rows(true, &found(other)).await.concat());
        let set = |to: &str, who: &str| {
            format!("update sync_bridge.pair set legacy_key = {to} where platform_key = {};", key(who))
        };
        let sql = [set("null", who), set(&format!("'{one}'"), other), set(&format!("'{two}'"), who)].concat();
        self.bridge.systems.on_platform(&sql).await;
    }

    /// What `verify` finds, by e-mail address.
    async fn verified(&self, deep: bool, hurt: &BTreeSet<String>) -> Result<BTreeSet<(String, String)>, Failed> {
        let data = Arc::new(Data::new(self.bridge.config.clone()));
        let env = Env { config: self.bridge.config.clone(), data, queue: self.bridge.queue.pool.clone() };
        let customer = CustomerId::new(CUSTOMER);
        let of = VerifyOf { customer: &customer, entity: None, deep, wait: Duration::ZERO };
        let found = ops::verify(&env, of, |_| {}).await.map_err(|error| format!("{error:#}"))?;
        let mut named = BTreeSet::new();
        for one in found.iter().flat_map(|entity| entity.differences.iter().map(move |one| (&entity.entity, one))) {
            let (entity, one) = one;
            // A person's note goes with it, waits for it, or refers to who took its place.
            let table = entity.as_str();
            let of_person = if table == "note" { "person p join note n on n.person" } else { "" };
            let mut who = Vec::new();
            for (key, platform) in [(&one.legacy_key, false), (&one.platform_key, true)] {
                let Some(key) = key else { continue };
                let sql = match (table, platform) {
                    ("note", false) => format!("select p.email from {of_person} = p.id where n.id::text = '{}'", key.0),
                    ("note", true) => {
                        format!("select p.email from {of_person}_id = p.id where n.id::text = '{}'", key.0)
                    }
                    _ => format!("select email from person where id::text = '{}'", key.0),
                };
                who.extend(self.rows(platform, &sql).await);
            }
            if table == "note" {
                ensure!(
                    ["deleted", "parked", "foreign"].contains(&one.kind.as_str()),
                    "a note is {}: {one:?} of {hurt:?}",
                    one.kind
                );
                continue;
            }
            ensure!(!who.is_empty(), "of nobody: {one:?}");
            named.extend(who.into_iter().map(|who| (who, one.kind.clone())));
        }
        Ok(named)
    }

    /// What has to be so once runs have had their time.
    async fn judge(&self, done: &Done) -> Result<(), Failed> {
        let name = |who: &str| format!("select coalesce(name, '-') from person where email = '{who}'");
        let both = [self.rows(false, &name(&done.who)).await, self.rows(true, &name(&done.who)).await];
        let [legacy, platform] = both.clone().map(|rows| rows.join(","));
        let seed = self.seed;
        let hold = |name: &str| both.iter().all(|rows| *rows == [format!("{name} {seed}")]);
        let holds = match done.damage {
            SilentOnLegacy => hold("silent on legacy"),
            SilentOnPlatform => hold("silent on platform"),
            SilentOnBoth => {
                let logged = format!(
                    "select count(*)::text from sync_bridge.conflict c, jsonb_array_elements(fields) f where f->>'field' = 'name' \
                     and f->>'legacy' = 'one {seed}' and f->>'platform' = 'another {seed}' and c.platform_key = (select id::text from person where email = '{}')",
                    done.who
                );
                legacy == platform && (hold("one") || hold("another")) && self.rows(true, &logged).await != ["0"]
            }
            MadeOnLegacy | MadeOnPlatform => both == [["made"], ["made"]],
            GoneFromLegacy | GoneFromPlatform | GoneFromBoth => both.iter().all(Vec::is_empty),
            Stamped => hold("edited"),
            OldOnLegacy => legacy == format!("old {seed}") && platform != legacy,
            OldOnPlatform => platform == format!("old {seed}") && legacy != platform,
            KeysSwapped | BaseEdited => legacy == platform,
        };
        ensure!(holds, "{done:?} ends as {both:?}");
        Ok(())
    }

    async fn heal(&self, done: &Done, bases: &[String]) {
        let systems = &self.bridge.systems;
        let edit = |stamp: &str| {
            format!("update person set name = 'healed {}', {stamp} = now() where email = '{}'", self.seed, done.who)
        };
        match done.damage {
            OldOnLegacy => systems.on_legacy(&edit("last_update")).await,
            OldOnPlatform => systems.on_platform(&edit("updated_at")).await,
            KeysSwapped => self.swap(&done.who, done.other.as_ref().expect("two")).await,
            BaseEdited => {
                let key = format!("select id::text from person where email = '{}'", done.who);
                let key = self.rows(true, &key).await.concat();
                let base = bases.iter().filter_map(|base| base.split_once(':')).find(|(_, of)| *of == key);
                let base = base.expect("it had one").0;
                systems
                    .on_platform(&format!(
                        "update sync_bridge.pair set base = decode('{base}', 'hex') where platform_key = '{key}'"
                    ))
                    .await;
            }
            _ => {}
        }
    }

    /// The very rows of everybody else, on both sides.
    async fn whole(&self, hurt: &BTreeSet<String>) -> [Vec<String>; 2] {
        let but: Vec<String> = hurt.iter().map(|who| format!("'{who}'")).collect();
        let sql = format!(
            "select concat_ws(' ', email, ctid, xmin, to_jsonb(p)) from person p where email not in ({}) order by email",
            but.join(", ")
        );
        [self.rows(false, &sql).await, self.rows(true, &sql).await]
    }

    /// Two hours later a run compares whole tables; what was seen gone then is seen gone for long enough.
    async fn later(&self) {
        for sql in [
            "update bridge.run set opened_at = opened_at - interval '2 d', ended_at = ended_at - interval '2 d'",
            "update bridge.swept set at = at - interval '2 d'",
            "update bridge.absence set first_seen = first_seen - interval '2 h'",
        ] {
            sqlx::raw_sql(sql).execute(&self.bridge.queue.pool).await.expect("letting time pass");
        }
        self.bridge.tick().await;
    }

    async fn rows(&self, platform: bool, sql: &str) -> Vec<String> {
        match platform {
            true => self.bridge.systems.platform_rows(sql).await,
            false => self.bridge.systems.legacy_rows(sql).await,
        }
    }
}

#[cfg(test)]
#[tokio::test]
async fn every_damage_is_named_and_repaired_or_listed() {
    /// As many as run with the tests.
    const QUICK: u64 = 4;
    let mut world = World::new("damage").await;
    for seed in 1..=QUICK {
        world.round(seed).await.unwrap_or_else(|failed| panic!("seed {seed}: {failed}"));
    }
    world.end().await;
}
