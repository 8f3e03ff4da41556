//! The tables of the histories: how they are made and mapped, what users do to them, and their canonical form in SQL of
//! its own, which shares nothing with the bridge's translation.

use sync_bridge::config::Side;

pub const LEGACY: &str = "
    create table team (
      id serial primary key, code varchar(20) not null unique, label varchar(40), parent integer references team,
      last_update timestamp not null);
    create index on team (last_update, id);
    create table person (
      id serial primary key, email varchar(60) not null unique, first varchar(20), last varchar(30), phone text,
      active char(1) not null default 'Y', team integer references team, removed char(1) not null default 'N',
      last_update timestamptz);
    create index on person (last_update, id);
    create table member (
      person integer references person, team integer references team, role text, last_update bigint not null,
      primary key (person, team));
    create index on member (last_update, person, team);
    create table note (code text primary key, body text, last_update timestamptz);
    create index on note (last_update, code);
";

pub const PLATFORM: &str = "
    create type person_status as enum ('active', 'suspended');
    create table team (
      id uuid primary key, code text not null unique, name text, parent_id uuid references team, updated_at timestamptz not null);
    create index on team (updated_at, id);
    create table person (
      id uuid primary key, email text not null unique, name text, phone text, status person_status not null default 'active',
      team_id uuid references team, deleted_at timestamptz, updated_at timestamptz not null);
    create index on person (updated_at, id);
    create table member (
      person_id uuid references person, team_id uuid references team, role text, updated_at timestamptz not null,
      primary key (person_id, team_id));
    create index on member (updated_at, person_id, team_id);
    create table note (id bigserial primary key, code text not null unique, body text, updated_at timestamptz not null);
    create index on note (updated_at, id);
";

/// The TOML below `[[customers]]`.
pub const STAGES: &str = r#"
[[stages]]
name = "first"

  [[stages.entities]]
  id = "team"
  legacy = { database = "legacy", table = "team", key = "id", updated_at = "last_update", timezone = "Europe/Berlin" }
  platform = { database = "platform", table = "team", key = "id" }
    [stages.entities.fields]
    code = { legacy = "code", platform = "code" }
    name = { legacy = "label", platform = "name" }
    parent = { legacy = "parent", platform = "parent_id", lens = { ref = "team" } }

  [[stages.entities]]
  id = "person"
  legacy = { database = "legacy", table = "person", key = "id", updated_at = "last_update", deleted = { column = "removed", yes = "Y", no = "N" } }
  platform = { database = "platform", table = "person", key = "id", deleted_at = "deleted_at" }
  match_on = ["email"]
    [stages.entities.fields]
    email = { legacy = "email", platform = "email", lens = "lowercase" }
    name = { legacy = ["first", "last"], platform = "name", lens = { join = " " } }
    phone = { legacy = "phone", platform = "phone" }
    status = { legacy = "active", platform = "status", lens = { values = { Y = "active", N = "suspended" } } }
    team = { legacy = "team", platform = "team_id", lens = { ref = "team" } }

[[stages]]
name = "second"

  [[stages.entities]]
  id = "member"
  legacy = { database = "legacy", table = "member", key = ["person", "team"], updated_at = "last_update" }
  platform = { database = "platform", table = "member", key = ["person_id", "team_id"] }
    [stages.entities.fields]
    person = { legacy = "person", platform = "person_id", lens = { ref = "person" } }
    team = { legacy = "team", platform = "team_id", lens = { ref = "team" } }
    role = { legacy = "role", platform = "role" }

  [[stages.entities]]
  id = "note"
  legacy = { database = "legacy", table = "note", key = "code", updated_at = "last_update" }
  platform = { database = "platform", table = "note", key = "id" }
  match_on = ["code"]
    [stages.entities.fields]
    code = { legacy = "code", platform = "code" }
    body = { legacy = "body", platform = "body" }
"#;

/// Deletes every row of a side and begins its numbers anew.
pub fn clear(side: Side) -> &'static str {
    match side {
        Side::Legacy => {
            "delete from member; delete from person; delete from team; delete from note; delete from sync_bridge.receipt; \
             alter sequence team_id_seq restart; alter sequence person_id_seq restart"
        }
        Side::Platform => {
            "delete from member; delete from person; delete from team; delete from note; delete from sync_bridge.conflict; \
             delete from sync_bridge.pair; alter sequence note_id_seq restart"
        }
    }
}

/// One entity's table on one side, as users know it.
pub struct Table {
    pub entity: &'static str,
    pub side: Side,
    /// The key's columns.
    pub key: &'static [&'static str],
    /// Orders the rows the same on every machine.
    pub natural: &'static str,
    pub stamp: &'static str,
    /// The fields' names, and their canonical form over `t`.
    pub fields: &'static [&'static str],
    pub canon: &'static str,
    /// What users set: `{v}` is new, `{n}` is one of few.
    pub edits: &'static [&'static str],
    /// Only where values may collide.
    pub collisions: &'static [&'static str],
}

const PERSON: &[&str] = &["email", "name", "phone", "status", "team", "deleted"];

const TABLES: [Table; 8] = [
    Table {
        entity: "team",
        side: Side::Legacy,
        key: &["id"],
        natural: "t.code",
        stamp: "last_update",
        fields: &["code", "name", "parent"],
        canon: "array[t.code, t.label, (select q.code from team q where q.id = t.parent)]::text[]",
        edits: &[
            "label = 'l{v}'",
            "label = 'same{n}'",
            "parent = (select id from team order by code offset {n} limit 1)",
        ],
        collisions: &[],
    },
    Table {
        entity: "team",
        side: Side::Platform,
        key: &["id"],
        natural: "t.code",
        stamp: "updated_at",
        fields: &["code", "name", "parent"],
        canon: "array[t.code, t.name, (select q.code from team q where q.id = t.parent_id)]::text[]",
        edits: &["name = 'l{v}'", "name = null", "parent_id = (select id from team order by code offset {n} limit 1)"],
        collisions: &[],
    },
    Table {
        entity: "person",
        side: Side::Legacy,
        key: &["id"],
        natural: "lower(t.email)",
        stamp: "last_update",
        fields: PERSON,
        canon: "array[lower(t.email), case when t.first is null and t.last is null then null \
                else concat_ws(' ', nullif(t.first, ''), nullif(t.last, '')) end, t.phone, \
                case t.active when 'Y' then 'active' when 'N' then 'suspended' end, \
                (select q.code from team q where q.id = t.team), case t.removed when 'Y' then 'deleted' end]::text[]",
        edits: &[
            "email = 'E{v}@X'",
            "first = 'f{v}'",
            "last = 'g{v}'",
            "first = null, last = null",
            "first = '', last = 'h{v}'",
            "first = '', last = ''",
            "phone = 'p{v}'",
            "phone = 'p{v}'",
            "phone = 'p{v}'",
            "phone = 'same{n}'",
            "phone = null",
            "phone = 'q{v}', first = 'i{v}'",
            "active = case t.active when 'Y' then 'N' else 'Y' end",
            "removed = case t.removed when 'Y' then 'N' else 'Y' end",
            "team = (select id from team order by code offset {n} limit 1)",
            "email = t.email",
        ],
        collisions: &["email = 'u{n}@x'", "email = 'U{n}@x'"],
    },
    Table {
        entity: "person",
        side: Side::Platform,
        key: &["id"],
        natural: "lower(t.email)",
        stamp: "updated_at",
        fields: PERSON,
        canon: "array[lower(t.email), t.name, t.phone, t.status::text, (select q.code from team q where q.id = t.team_id), \
                case when t.deleted_at is not null then 'deleted' end]::text[]",
        edits: &[
            "email = 'f{v}@x'",
            "name = 'f{v}'",
            "name = 'f{v} g{v}'",
            "name = null",
            "name = ''",
            "name = ' j{v}'",
            "name = 'k{v}  k '",
            "phone = 'p{v}'",
            "phone = 'p{v}'",
            "phone = 'p{v}'",
            "phone = 'same{n}'",
            "phone = null",
            "phone = 'q{v}', name = 'i{v}'",
            "status = case t.status when 'active' then 'suspended'::person_status else 'active' end",
            "deleted_at = case when t.deleted_at is null then now() end",
            "team_id = (select id from team order by code offset {n} limit 1)",
            "email = t.email",
        ],
        collisions: &["email = 'u{n}@x'", "email = 'u{n}@x'"],
    },
    Table {
        entity: "member",
        side: Side::Legacy,
        key: &["person", "team"],
        natural: "(select lower(email) from person q where q.id = t.person), (select code from team q where q.id = t.team)",
        stamp: "last_update",
        fields: &["person", "team", "role"],
        canon: "array[(select lower(email) from person q where q.id = t.person), (select code from team q where q.id = t.team), \
                t.role]::text[]",
        edits: &["role = 'r{v}'", "role = 'same{n}'", "role = null"],
        collisions: &[],
    },
    Table {
        entity: "member",
        side: Side::Platform,
        key: &["person_id", "team_id"],
        natural: "(select lower(email) from person q where q.id = t.person_id), \
                  (select code from team q where q.id = t.team_id)",
        stamp: "updated_at",
        fields: &["person", "team", "role"],
        canon: "array[(select lower(email) from person q where q.id = t.person_id), \
                (select code from team q where q.id = t.team_id), t.role]::text[]",
        edits: &["role = 'r{v}'", "role = 'same{n}'", "role = null"],
        collisions: &[],
    },
    Table {
        entity: "note",
        side: Side::Legacy,
        key: &["code"],
        natural: "t.code",
        stamp: "last_update",
        fields: &["code", "body"],
        canon: "array[t.code, t.body]::text[]",
        edits: &["body = 'b{v}'", "body = 'b{v}'", "body = 'same{n}'", "body = null"],
        collisions: &[],
    },
    Table {
        entity: "note",
        side: Side::Platform,
        key: &["id"],
        natural: "t.code",
        stamp: "updated_at",
        fields: &["code", "body"],
        canon: "array[t.code, t.body]::text[]",
        edits: &["body = 'b{v}'", "body = 'b{v}'", "body = 'same{n}'", "body = null"],
        collisions: &[],
    },
];

pub fn table(entity: &str, side: Side) -> &'static Table {
    let found = TABLES.iter().find(|table| table.entity == entity && table.side == side);
    found.expect("an entity of these tables")
}

impl Table {
    /// The key of `alias` as one text.
    pub fn key_text(&self, alias: &str) -> String {
        let parts: Vec<String> = self.key.iter().map(|column| format!("{alias}.{column}::text")).collect();
        parts.join(" || E'\\x1f' || ")
    }

    /// Now, so many seconds shifted, as this table is stamped.
    pub fn stamped(&self, shift: i32) -> String {
        let at = format!("now() + interval '{shift} s'");
        match (self.entity, self.side) {
            ("team", Side::Legacy) => format!("({at}) at time zone 'Europe/Berlin'"),
            ("member", Side::Legacy) => format!("floor(extract(epoch from {at}))::bigint"),
            _ => at,
        }
    }

    pub fn edit(&self, key: &str, what: u32, value: u32, shift: i32, collisions: bool) -> String {
        let all: Vec<&str> = self.edits.iter().chain(if collisions { self.collisions } else { &[] }).copied().collect();
        let set = filled(all[what as usize % all.len()], value);
        let same: Vec<String> = self.key.iter().map(|column| format!("t.{column} = o.{column}")).collect();
        format!(
            "with old as (select t.*, {canon} as canon from {table} t where {key_text} = '{key}' for update) \
             update {table} t set {set}, {stamp} = {stamped} from old o where {same} returning o.canon, {canon}",
            canon = self.canon,
            table = self.entity,
            key_text = self.key_text("t"),
            stamp = self.stamp,
            stamped = self.stamped(shift),
            same = same.join(" and "),
        )
    }

    /// Sets a row's `columns` back to what `$1` holds of it.
    pub fn restore(&self, key: &str, columns: &[&str]) -> String {
        let sets: Vec<String> = columns.iter().map(|column| format!("{column} = was.{column}")).collect();
        format!(
            "with old as (select {canon} as canon from {table} t where {key_text} = '{key}' for update), \
             was as (select * from jsonb_populate_record(null::{table}, $1)) \
             update {table} t set {sets}, {stamp} = {stamped} from old, was where {key_text} = '{key}' \
             returning old.canon, {canon}",
            canon = self.canon,
            table = self.entity,
            key_text = self.key_text("t"),
            sets = sets.join(", "),
            stamp = self.stamp,
            stamped = self.stamped(0),
        )
    }

    /// A new row; with `key`, under a key that was there before.
    pub fn insert(&self, value: u32, shift: i32, both: bool, collisions: bool, key: Option<&str>) -> String {
        let natural =
            if collisions && value.is_multiple_of(3) { format!("u{}", value % 4) } else { format!("c{value}") };
        // Where it comes in on both sides, some of it may differ.
        let other = if both && value.is_multiple_of(2) && self.side == Side::Platform { "x" } else { "" };
        let stamped = self.stamped(shift);
        let one = |table: &str, by: &str, at: u32| {
            format!(
                "(select id from {table} order by {by} offset {at} % greatest(1, (select count(*) from {table})) limit 1)"
            )
        };
        let made = format!("00000000-0000-4000-8000-{value:012}");
        let id = key.unwrap_or(match self.side {
            Side::Legacy => "default",
            Side::Platform => &made,
        });
        let id = if id == "default" { "default".to_string() } else { format!("'{id}'") };
        let (columns, values) = match (self.entity, self.side) {
            ("team", Side::Legacy) => ("id, code, label", format!("{id}, 't{value}', 'n{value}'")),
            ("team", Side::Platform) => ("id, code, name", format!("{id}, 't{value}', 'n{value}'")),
            ("person", Side::Legacy) => {
                ("id, email, first, phone", format!("{id}, '{natural}@x', 'a{value}', 'o{value}'"))
            }
            ("person", Side::Platform) => {
                ("id, email, name, phone", format!("{id}, '{natural}@x', 'a{value}', 'o{value}{other}'"))
            }
            ("member", side) => {
                let columns = if side == Side::Legacy { "person, team, role" } else { "person_id, team_id, role" };
                let parts: Vec<&str> = key.map(|key| key.split('\u{1f}').collect()).unwrap_or_default();
                match parts.as_slice() {
                    [person, team] => (columns, format!("'{person}', '{team}', 'm{value}'")),
                    _ => {
                        let (person, team) = (one("person", "lower(email)", value), one("team", "code", value / 2));
                        (columns, format!("{person}, {team}, 'm{value}{other}'"))
                    }
                }
            }
            (_, Side::Legacy) => {
                let code = key.map_or_else(|| natural.clone(), str::to_string);
                ("code, body", format!("'{code}', 'w{value}'"))
            }
            (_, Side::Platform) => ("code, body", format!("'{natural}', 'w{value}{other}'")),
        };
        format!(
            "insert into {table} as t ({columns}, {stamp}) values ({values}, {stamped}) returning {key}, {canon}",
            table = self.entity,
            stamp = self.stamp,
            key = self.key_text("t"),
            canon = self.canon,
        )
    }

    pub fn delete(&self, key: &str) -> String {
        format!("delete from {} t where {} = '{key}' returning {}", self.entity, self.key_text("t"), self.canon)
    }

    pub fn keys(&self) -> String {
        format!("select {} from {} t order by {}", self.key_text("t"), self.entity, self.natural)
    }

    /// Key and canonical form of every row.
    pub fn rows(&self) -> String {
        format!("select {}, {} from {} t order by {}", self.key_text("t"), self.canon, self.entity, self.natural)
    }
}

fn filled(template: &str, value: u32) -> String {
    template.replace("{v}", &value.to_string()).replace("{n}", &(value % 4).to_string())
}
