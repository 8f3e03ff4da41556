-- Names that are alike, types that are not always.
create schema "My Shop";

create table "My Shop"."Order" (
    id            uuid primary key default gen_random_uuid(),
    "select"      text not null,
    "total net"   numeric(12, 2),
    "line break"  text,
    user_id       uuid references "My Shop"."Order",
    updated_at    timestamptz not null default now()
);
create index on "My Shop"."Order" (updated_at, id);

create table "My Shop"."Group" (
    "order"    bigint not null,
    "From"     text not null,
    "To"       date not null,
    label      text not null,
    shout      text,
    updated_at timestamptz not null default now(),
    primary key ("order", "From", "To")
);

create table "My Shop".audit_log (id uuid primary key, what text, at timestamptz);
create table "My Shop".codes (
    code       text primary key,
    text       text not null,
    sort       integer,
    deleted_at timestamptz,
    must       text not null
);
create table "My Shop".events (id bigint primary key, day date not null, kind text, payload json, updated_at timestamptz);
create view "My Shop".open_orders as select * from "My Shop"."Order";

create table "My Shop".people (
    id         integer primary key generated always as identity,
    legacy_id  integer unique,
    email      text not null unique,
    fullname   text,
    salary     numeric(12, 2),
    search     text,
    password   text,
    mood       text,
    flag       boolean not null default false,
    level      text check (level in ('child', 'adult')),
    tags       text[],
    roles      text[],
    sizes      integer[],
    since      timestamptz,
    updated_at timestamptz not null default now()
);
create table "My Shop".customers (id uuid primary key, name text not null, city text, updated_at timestamptz not null default now());
create table "My Shop".a_left (id uuid primary key, right_id uuid, title text not null, updated_at timestamptz not null default now());
create table "My Shop".a_right (id uuid primary key, left_id uuid references "My Shop".a_left, title text not null, updated_at timestamptz not null default now());
alter table "My Shop".a_left add foreign key (right_id) references "My Shop".a_right;
create table "My Shop"."t$" ("$" text primary key, "${X}" text, updated_at timestamptz not null default now());
create table "My Shop"."表" ("キー" integer primary key, "名前" text, updated_at timestamptz not null default now());
