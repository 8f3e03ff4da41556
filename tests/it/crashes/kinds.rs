//! What a process carries over when it dies: the tables, and the kinds of change.

pub const LEGACY: &str = "
    create table team (id serial primary key, label text, last_update timestamptz not null default now());
    create index on team (last_update, id);
    create table person (
      id serial primary key, email varchar(60) not null unique, first varchar(20), last varchar(30), phone text, team integer,
      removed char(1) not null default 'N', last_update timestamptz not null default now());
    create index on person (last_update, id)";

pub const PLATFORM: &str = "
    create table team (id uuid primary key, name text, updated_at timestamptz not null default now());
    create index on team (updated_at, id);
    create table person (
      id uuid primary key default gen_random_uuid(), email text not null unique, name text, phone text check (phone <> 'poison'),
      team_id uuid references team, deleted_at timestamptz, updated_at timestamptz not null default now());
    create index on person (updated_at, id)";

pub const STAGES: &str = r#"
[[stages]]
name = "all"

  [[stages.entities]]
  id = "team"
  legacy = { database = "legacy", table = "team", key = "id", updated_at = "last_update" }
  platform = { database = "platform", table = "team", key = "id" }
    [stages.entities.fields]
    name = { legacy = "label", platform = "name" }

  [[stages.entities]]
  id = "person"
  legacy = { database = "legacy", table = "person", key = "id", updated_at = "last_update", deleted = { column = "removed", yes = "Y", no = "N" } }
  platform = { database = "platform", table = "person", key = "id", deleted_at = "deleted_at" }
  match_on = ["email"]
    [stages.entities.fields]
    email = { legacy = "email", platform = "email", lens = "lowercase" }
    name = { legacy = ["first", "last"], platform = "name", lens = { join = " " } }
    phone = { legacy = "phone", platform = "phone" }
    team = { legacy = "team", platform = "team_id", lens = { ref = "team" } }
"#;

/// Which process does the work, and dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// With a tick that waits for it.
    Worker,
    /// `sync-bridge run --inline`, which makes its tick.
    Run,
    Scheduler,
    /// `sync-bridge erase` of the record, by its key on legacy.
    Erase,
}

/// A kind of change. In its SQL `{e}` is the record's address and `{n}` a number of its own.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// What is there before, on legacy, the platform and in the queue database, step by step; after each the sides settle.
    pub ready: &'static [[&'static str; 3]],
    pub legacy: &'static str,
    pub platform: &'static str,
    /// In the queue database, once the tick waits.
    pub queue: &'static str,
    /// A process dies here before the one of the case: what it leaves is part of the change.
    pub before: Option<&'static str>,
    /// What somebody does on legacy and the platform after the death, so that all can end well.
    pub mended: [&'static str; 2],
    /// The same, in the queue database.
    pub mended_queue: &'static str,
    pub may_die: bool,
    /// No row of the record is left in the end.
    pub gone: bool,
    /// Legacy does not answer at first, until somebody has asked it once more.
    pub away: bool,
    pub by: By,
    /// Asked only for points that no common kind passes.
    pub rare: bool,
}

pub const NEW: Kind = Kind {
    name: "",
    ready: &[],
    legacy: "",
    platform: "",
    queue: "",
    before: None,
    mended: ["", ""],
    mended_queue: "",
    may_die: false,
    gone: false,
    away: false,
    by: By::Worker,
    rare: false,
};

/// The record is there, and equal, before.
pub const PAIRED: Kind =
    Kind { ready: &[["insert into person (email, first, last, phone) values ('{e}', 'A', 'B', '0')", "", ""]], ..NEW };

const EDIT: &str = "update person set phone = 'l', last_update = now() where email = '{e}'";

/// All of it is due again that is done only now and then.
const LATER: &str = "update bridge.run set opened_at = opened_at - interval '9 d', ended_at = ended_at - interval '9 d' \
                     where ended_at is not null; update bridge.swept set at = at - interval '9 d'; update bridge.walk set began_at = began_at - interval '9 d'; \
                     update bridge.absence set first_seen = first_seen - interval '9 d'";

pub const KINDS: [Kind; 39] = [
    Kind {
        name: "create on legacy",
        legacy: "insert into person (email, first, last, phone) values ('{e}', 'A', 'B', '1')",
        ..NEW
    },
    Kind {
        name: "create on platform",
        platform: "insert into person (email, name, phone) values ('{e}', 'A B', '1')",
        ..NEW
    },
    Kind {
        name: "many at once",
        legacy: "insert into person (email, first, last, phone) values ('{e}', 'A', 'B', '1'); \
                 insert into person (email, first, last, phone) select n || '-{e}', 'A', 'B', '1' from generate_series(1, 99) n",
        rare: true,
        ..NEW
    },
    Kind { name: "update on legacy", legacy: EDIT, ..PAIRED },
    Kind {
        name: "update on platform",
        platform: "update person set phone = 'p', updated_at = now() where email = '{e}'",
        ..PAIRED
    },
    Kind {
        name: "soft delete on legacy",
        legacy: "update person set removed = 'Y', last_update = now() where email = '{e}'",
        ..PAIRED
    },
    Kind {
        name: "soft delete on platform",
        platform: "update person set deleted_at = now(), updated_at = now() where email = '{e}'",
        ..PAIRED
    },
    Kind {
        name: "conflict, legacy newer",
        legacy: EDIT,
        platform: "update person set phone = 'p', updated_at = now() - interval '9 s' where email = '{e}'",
        ..PAIRED
    },
    Kind {
        name: "conflict, platform newer",
        legacy: "update person set phone = 'l', last_update = now() - interval '9 s' where email = '{e}'",
        platform: "update person set phone = 'p', updated_at = now() where email = '{e}'",
        ..PAIRED
    },
    Kind {
        name: "merge",
        legacy: EDIT,
        platform: "update person set name = 'N M', updated_at = now() where email = '{e}'",
        ..PAIRED
    },
    Kind {
        name: "first contact",
        legacy: "insert into person (email, first, phone, last_update) values ('{e}', 'A', 'l', now() - interval '9 s')",
        platform: "insert into person (email, name, phone) values ('{e}', 'A', 'p')",
        ..NEW
    },
    Kind {
        name: "update after a death",
        platform: "update person set phone = 'p', updated_at = now() where email = '{e}'",
        before: Some("platform.after_commit"),
        ..PAIRED
    },
    Kind {
        name: "create after a death",
        platform: "insert into person (email, name, phone) values ('{e}', 'A B', '1')",
        before: Some("legacy.after_commit"),
        ..NEW
    },
    Kind {
        name: "two change places",
        ready: &[[
            "insert into person (email, first, phone) values ('{e}', 'A', '1'), ('other.{e}', 'B', '2')",
            "",
            "",
        ]],
        legacy: "update person set email = 'free.{e}', last_update = now() where email = '{e}'; \
                 update person set email = '{e}', last_update = now() where email = 'other.{e}'; \
                 update person set email = 'other.{e}', last_update = now() where email = 'free.{e}'",
        rare: true,
        ..NEW
    },
    Kind {
        name: "waits for its parent",
        legacy: "insert into person (email, first, team) values ('{e}', 'A', 1000000 + {n})",
        mended: ["insert into team (id, label) values (1000000 + {n}, 'T')", ""],
        rare: true,
        ..NEW
    },
    Kind {
        name: "quarantined, then mended",
        legacy: "update person set phone = 'poison', last_update = now() where email = '{e}'",
        mended: ["update person set phone = 'cure', last_update = now() where email = '{e}'", ""],
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "comes back under its key",
        ready: &[
            ["insert into person (id, email, first) values (1000000 + {n}, '{e}', 'A')", "", ""],
            [
                "delete from person where email = '{e}'",
                "delete from person where email = '{e}'",
                "insert into bridge.parked (customer, entity, side, key, reason, woken, run, stage, round) \
                 values ('c-1', 'person', 'legacy', (1000000 + {n})::text, 'busy', true, 0, 0, 0)",
            ],
        ],
        legacy: "insert into person (id, email, first) values (1000000 + {n}, '{e}', 'C')",
        rare: true,
        ..NEW
    },
    Kind {
        name: "whole tables compared",
        legacy: "update person set phone = 'poison', last_update = now() where email = '{e}'",
        queue: LATER,
        mended: ["update person set phone = 'cure', last_update = now() where email = '{e}'", ""],
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "a slice compared",
        legacy: EDIT,
        queue: "insert into bridge.walk (customer, entity, side, since_run, began_at, block, done, secs, rows, pairs, differing) \
                select 'c-1', 'person', side, 1, now() - interval '12 h', 1, 0.1, 1, 1, 1, 0 \
                from unnest(array['legacy', 'platform']) as ends (side) \
                on conflict (customer, entity, side) do update set began_at = excluded.began_at, done = 0.1",
        rare: true,
        ..PAIRED
    },
    Kind { name: "nothing changed", rare: true, ..PAIRED },
    Kind {
        name: "gone from legacy",
        ready: &[PAIRED.ready[0], ["delete from person where email = '{e}'", "", LATER]],
        queue: LATER,
        gone: true,
        rare: true,
        ..NEW
    },
    Kind {
        name: "gone from the platform",
        ready: &[PAIRED.ready[0], ["", "delete from person where email = '{e}'", LATER]],
        queue: LATER,
        gone: true,
        rare: true,
        ..NEW
    },
    Kind {
        name: "written without a stamp",
        ready: &[[
            "insert into person (email, first, last, phone, last_update) values ('{e}', 'A', 'B', '0', now() - interval '1 h')",
            "",
            "",
        ]],
        legacy: "update person set phone = 'l' where email = '{e}'",
        queue: LATER,
        rare: true,
        ..NEW
    },
    Kind {
        name: "first load",
        legacy: EDIT,
        queue: "delete from bridge.watermark where entity = 'person'",
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "paused under way",
        legacy: EDIT,
        before: Some("page.decided"),
        queue: "insert into bridge.pause (customer, entity, who, reason) values ('c-1', 'person', 'matrix', 'a test')",
        mended_queue: "delete from bridge.pause",
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "dead letter",
        legacy: EDIT,
        platform: "create or replace function refuse() returns trigger language plpgsql as \
                   $$ begin raise exception 'refused' using errcode = 'XX001'; end $$; \
                   create or replace trigger refuse before update on person for each row execute function refuse()",
        mended: ["", "drop trigger refuse on person"],
        may_die: true,
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "the clock was ahead",
        legacy: EDIT,
        queue: "update bridge.job set run_at = run_at + interval '1 d' where state = 'ready'; \
                update apalis.jobs set run_at = run_at + interval '1 d' where status = 'Pending'",
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "a second tick dies",
        legacy: EDIT,
        queue: "create or replace function bridge.refuse() returns trigger language plpgsql as \
                $$ begin raise exception 'refused' using errcode = 'XX001'; end $$; \
                create or replace trigger refuse before update on bridge.tick for each row when (new.state <> 'dead') \
                execute function bridge.refuse(); \
                with tick as (insert into bridge.tick (customer, at, origin, state, ended_at) \
                values ('c-1', now() - interval '1 h', 'operator', 'dead', now()) returning id) \
                insert into bridge.job (kind, customer, subject, state, attempt, run_at, ended_at, error_kind, last_error) \
                select 'tick', 'c-1', id, 'dead', 1, date_trunc('second', now()), now(), 'permanent', 'died before' from tick",
        mended_queue: "drop trigger if exists refuse on bridge.tick",
        may_die: true,
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "a table is away",
        legacy: EDIT,
        platform: "alter table person rename to person_away",
        mended: ["", "alter table if exists person_away rename to person"],
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "another mapping",
        legacy: EDIT,
        queue: "update bridge.mapping set fields = '{1}', target = '{1}', state = 'settled', cut = false where entity = 'person'",
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "tried again",
        legacy: EDIT,
        platform: "create sequence if not exists refusals; select setval('refusals', 1, false); \
                   create or replace function refuse_once() returns trigger language plpgsql as \
                   $$ begin if nextval('public.refusals') = 1 then raise exception 'refused' using errcode = '53200'; end if; \
                   return new; end $$; \
                   create or replace trigger refuse before update on person for each row execute function refuse_once()",
        mended: ["", "drop trigger refuse on person"],
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "slow page",
        legacy: EDIT,
        // Longer than a lease waits for its first renewal.
        platform: "create or replace function delay() returns trigger language plpgsql as \
                   $$ begin perform pg_sleep(6); return new; end $$; \
                   create or replace trigger delay before update on person for each row execute function delay()",
        mended: ["", "drop trigger delay on person"],
        rare: true,
        ..PAIRED
    },
    Kind {
        name: "lost delivery",
        legacy: EDIT,
        queue: "delete from apalis.jobs where status = 'Pending'; \
                update bridge.job set run_at = run_at - interval '31 s' where state = 'ready'",
        rare: true,
        ..PAIRED
    },
    Kind { name: "legacy is away", legacy: EDIT, away: true, rare: true, ..PAIRED },
    Kind { name: "asked for", legacy: EDIT, by: By::Run, rare: true, ..PAIRED },
    Kind { name: "scheduled", legacy: EDIT, by: By::Scheduler, rare: true, ..PAIRED },
    Kind {
        name: "adopted after a death",
        legacy: "insert into person (email, first, phone, last_update) values ('{e}', 'A', 'l', now() - interval '9 s')",
        platform: "insert into person (email, name, phone) values ('{e}', 'A', 'p')",
        before: Some("platform.after_commit"),
        rare: true,
        ..NEW
    },
    Kind {
        name: "erased while it lives",
        ready: &[
            ["insert into person (id, email, first, last, phone) values (1000000 + {n}, '{e}', 'A', 'B', '0')", "", ""],
            [
                "update person set phone = 'l', last_update = now() - interval '9 s' where email = '{e}'",
                "update person set phone = 'p', name = 'C', updated_at = now() where email = '{e}'",
                "",
            ],
        ],
        by: By::Erase,
        rare: true,
        ..NEW
    },
    Kind {
        name: "erased after its end",
        ready: &[
            ["insert into person (id, email, first) values (1000000 + {n}, '{e}', 'A')", "", ""],
            ["", "update person set name = 'B', updated_at = now() where email = '{e}'", ""],
            [
                "delete from person where email = '{e}'",
                "delete from person where email = '{e}'",
                "insert into bridge.parked (customer, entity, side, key, reason, woken, run, stage, round) \
                 values ('c-1', 'person', 'legacy', (1000000 + {n})::text, 'busy', true, 0, 0, 0)",
            ],
        ],
        platform: "update sync_bridge.pair set gone_rev = rev, gone_seen = now() - interval '9 d' where gone",
        gone: true,
        by: By::Erase,
        rare: true,
        ..NEW
    },
];
