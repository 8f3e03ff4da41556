
-- On a legacy database: receipts only.

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

-- A row is written again in the page where it stands, so that no index has to hear of it.
do $$
begin
  if not exists (select from pg_class where oid = 'sync_bridge.receipt'::regclass and reloptions::text like '%fillfactor%') then
    alter table sync_bridge.receipt set (fillfactor = 90);
  end if;
end
$$;

create unique index if not exists receipt_legacy on sync_bridge.receipt (entity_id, legacy_key, generation);
