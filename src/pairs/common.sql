-- Schema sync_bridge, on either side. Safe to repeat. Nobody but sync-bridge writes here.
create schema if not exists sync_bridge;

-- Short numbers for (customer, entity), so that a receipt or a pair does not repeat the names.
create table if not exists sync_bridge.entity (
  id       integer generated always as identity primary key,
  customer text not null,
  entity   text not null,
  unique (customer, entity)
);
-- Binaries that do not know this version of the schema must not work here.
alter table sync_bridge.entity add column if not exists min_version integer not null default 1;

-- Which rows an entity's are: no two customers may see the same.
create table if not exists sync_bridge.relation (
  customer text not null,
  entity   text not null,
  side     text not null check (side in ('legacy', 'platform')),
  -- Schema and table.
  relation text not null,
  scope    jsonb not null,
  primary key (customer, entity, side)
);
