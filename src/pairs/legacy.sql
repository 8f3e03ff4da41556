-- sync-bridge on a legacy database: receipts only. Safe to repeat. Nobody but sync-bridge writes here.
create schema if not exists sync_bridge;

-- Short numbers for (customer, entity), so that a receipt does not repeat the names.
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

-- Proof that an intent of the pair ledger was carried out here (done) or never will be (void).
create table if not exists sync_bridge.receipt (
  entity_id     integer not null references sync_bridge.entity (id),
  platform_key  text collate "C" not null,
  -- NULL if the row was never made.
  legacy_key    text collate "C",
  generation    integer not null default 0,
  rev           bigint not null check (rev > 0),
  done          boolean not null,
  -- The stamp as stored when the bridge last wrote the row, and when users had edited it before.
  stamp_written timestamptz,
  stamp_before  timestamptz,
  row_hash      bigint,
  primary key (entity_id, platform_key)
);

create unique index if not exists receipt_legacy on sync_bridge.receipt (entity_id, legacy_key, generation);
