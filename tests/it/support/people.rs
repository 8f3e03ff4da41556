//! People in teams, on both sides: the tables that most tests of pages and scenarios stand on.

use super::systems::{Same, Systems};

pub const LEGACY: &str = "
    create table team (
      id serial primary key, label varchar(40) not null, parent integer references team,
      last_update timestamp not null default (now() at time zone 'Europe/Berlin'));
    create index on team (last_update, id);
    create table person (
      id serial primary key, email varchar(60) not null unique, first varchar(20), last varchar(30), phone text,
      active char(1) not null default 'Y', team integer references team, removed char(1) not null default 'N',
      last_update timestamptz not null default now());
    create index on person (last_update, id);
";

pub const PLATFORM: &str = "
    create type person_status as enum ('active', 'suspended');
    create table team (
      id uuid primary key, name text not null, parent_id uuid references team, updated_at timestamptz not null default now());
    create index on team (updated_at, id);
    create table person (
      id uuid primary key default gen_random_uuid(), email text not null unique, name text, phone text check (phone <> 'poison'),
      status person_status not null default 'active', team_id uuid references team, deleted_at timestamptz,
      updated_at timestamptz not null default now());
    create index on person (updated_at, id);
";

pub const STAGES: &str = r#"
[[stages]]
name = "all"

  [[stages.entities]]
  id = "team"
  legacy = { database = "legacy", table = "team", key = "id", updated_at = "last_update", timezone = "Europe/Berlin" }
  platform = { database = "platform", table = "team", key = "id" }
    [stages.entities.fields]
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
"#;

/// The records as a person compares them.
pub const SAME: [Same; 2] = [
    Same {
        entity: "team",
        legacy: "select t.id::text, concat_ws('|', t.label, coalesce(p.label, '-')) from team t left join team p on p.id = t.parent",
        platform: "select t.id::text, concat_ws('|', t.name, coalesce(p.name, '-')) from team t left join team p on p.id = t.parent_id",
    },
    Same {
        entity: "person",
        legacy: "select p.id::text, concat_ws('|', lower(p.email), trim(concat(p.first, ' ', p.last)), coalesce(p.phone, '-'), \
                 p.active, coalesce(t.label, '-'), p.removed) from person p left join team t on t.id = p.team",
        platform: "select p.id::text, concat_ws('|', p.email, coalesce(p.name, ''), coalesce(p.phone, '-'), \
                   case p.status when 'active' then 'Y' else 'N' end, coalesce(t.name, '-'), \
                   case when p.deleted_at is null then 'N' else 'Y' end) from person p left join team t on t.id = p.team_id",
    },
];

pub async fn people(hint: &str) -> Systems {
    Systems::new(hint, LEGACY, PLATFORM, STAGES).await
}

/// With other words in the configuration.
pub async fn people_with(hint: &str, changes: &[(&str, &str)]) -> Systems {
    let mut stages = STAGES.to_owned();
    for (old, new) in changes {
        assert!(stages.contains(old), "{old}");
        stages = stages.replace(old, new);
    }
    Systems::new(hint, LEGACY, PLATFORM, &stages).await
}
