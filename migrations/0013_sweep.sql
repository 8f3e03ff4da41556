-- Sweeps compare whole tables with the ledger, and find rows that are not there any more.

-- A run that looks whether all rows are still there, and no more than that.
alter table bridge.run add column scan boolean not null default false;

-- Pages of rows that are gone: their counterparts go, too.
alter table bridge.page drop constraint page_mode_check;
alter table bridge.page add constraint page_mode_check check (mode in ('sync', 'compare', 'delete'));
alter table bridge.page
    add column deletes_to_platform bigint not null default 0,
    add column deletes_to_legacy bigint not null default 0;

-- One difference is one, whichever side's page saw it.
delete from bridge.difference a using bridge.difference b
where a.id > b.id and (a.customer, a.run, a.entity) = (b.customer, b.run, b.entity)
  and a.legacy_key is not distinct from b.legacy_key and a.platform_key is not distinct from b.platform_key;
create unique index difference_once on bridge.difference (customer, run, entity, coalesce(legacy_key, ''), coalesce(platform_key, ''));

-- Rows of which a pair says that they are there, and which are not: since when that is seen.
create table bridge.absence (
    customer text not null,
    entity text not null,
    side text not null check (side in ('legacy', 'platform')),
    key text not null,
    first_seen timestamptz not null default now(),
    -- An operator said that so many may be gone.
    accepted boolean not null default false,
    primary key (customer, entity, side, key)
);

-- What the last comparison of an entity's side with the ledger found, each depth by itself.
create table bridge.swept (
    customer text not null,
    entity text not null,
    side text not null check (side in ('legacy', 'platform')),
    depth text not null check (depth in ('rows', 'keys')),
    run bigint not null,
    at timestamptz not null default now(),
    secs double precision not null,
    rows bigint not null,
    pairs bigint not null,
    -- Rows that were looked at one by one, and rows that are not there; at most so many were named.
    differing bigint not null,
    missing bigint not null,
    primary key (customer, entity, side, depth)
);
