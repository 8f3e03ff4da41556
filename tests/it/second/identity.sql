-- The service that knows branches and members.
create extension citext;
create schema identity;
create type identity.level as enum ('child', 'adult', 'staff');
create domain identity.amount as numeric;

create table identity.branches (
    code       text        primary key,
    title      text        not null,
    is_open    boolean     not null,
    network    inet,
    hours      integer[],
    opens_at   time,
    "group"    text,
    updated_at timestamptz not null default now()
);
create index on identity.branches (updated_at, code);

create table identity.members (
    id            uuid            primary key default gen_random_uuid(),
    branch        text            not null references identity.branches (code),
    "number"      integer         not null,
    "name"        text            not null,
    email         citext          unique,
    level         identity.level  not null default 'adult',
    born          date,
    valid_until   date            not null default 'infinity',
    blocked_until timestamptz,
    balance       identity.amount not null default 0,
    card          uuid,
    pin           bytea,
    last_ip       inet,
    interests     text[]          not null default '{}',
    newsletter    boolean         not null default false,
    settings      jsonb           not null default '{}',
    joined_at     timestamptz,
    removed_at    timestamptz,
    updated_at    timestamptz     not null default now(),
    unique (branch, "number")
);
create index on identity.members (updated_at, id);
