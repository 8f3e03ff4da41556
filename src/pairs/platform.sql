
-- On a platform database: the pair ledger.

-- A legacy record and a platform record that are the same thing. This row arbitrates between the two databases:
-- revisions are issued and bases are kept here and nowhere else.
create table if not exists sync_bridge.pair (
  entity_id          integer not null references sync_bridge.entity (id),
  platform_key       text collate "C" not null,
  -- NULL until the legacy row was made and its key is known.
  legacy_key         text collate "C",
  -- Counts up when a legacy key is used again after its record was deleted.
  generation         integer not null default 0,
  -- Plus one in every transaction that changes this row.
  rev                bigint not null check (rev > 0),
  -- Per field the fingerprint of its lens (4 bytes) and the hash of the canonical value both sides last agreed on (8 bytes).
  base               bytea not null,
  -- The agreed state is "no row on either side": a tombstone.
  gone               boolean not null default false,
  -- An open intent to write legacy: what base and gone become if legacy's receipt for this rev says done.
  next_base          bytea,
  next_gone          boolean,
  intent_at          timestamptz,
  -- Per field of an open manual conflict, the two values' hashes it was listed with.
  listed             bytea,
  -- The stamps as last stored or seen, and when users edited the row.
  platform_stamp     timestamptz,
  platform_edited_at timestamptz,
  platform_hash      bigint,
  legacy_stamp       timestamptz,
  legacy_edited_at   timestamptz,
  legacy_hash        bigint,
  -- What one side knows and the other cannot hold.
  complement         jsonb,
  primary key (entity_id, platform_key),
  check ((next_base is null) = (intent_at is null)),
  check ((next_gone is null) = (intent_at is null))
);

-- A row is written again in the page where it stands, so that no index has to hear of it: a third of the pages that an edit touches.
do $$
begin
  if not exists (select from pg_class where oid = 'sync_bridge.pair'::regclass and reloptions::text like '%fillfactor%') then
    alter table sync_bridge.pair set (fillfactor = 90);
  end if;
end
$$;

-- The revision as of which a tombstone is known to be one, and since when: it ends once it is old enough.
alter table sync_bridge.pair add column if not exists gone_rev bigint;
alter table sync_bridge.pair add column if not exists gone_seen timestamptz;

-- One living pair per legacy key; its tombstones by generation.
create unique index if not exists pair_legacy_live on sync_bridge.pair (entity_id, legacy_key) where not gone;
create unique index if not exists pair_legacy_gone on sync_bridge.pair (entity_id, legacy_key, generation) where gone;

-- Conflicts, written in the transaction that decides, before anything is overwritten.
create table if not exists sync_bridge.conflict (
  id             bigint generated always as identity primary key,
  entity_id      integer not null references sync_bridge.entity (id),
  platform_key   text collate "C" not null,
  legacy_key     text collate "C",
  rev            bigint not null,
  decided_at     timestamptz not null default now(),
  -- conflict: both sides changed; first_contact: never compared before; delete_update: one side deleted, the other edited.
  kind           text not null check (kind in ('conflict', 'first_contact', 'delete_update')),
  -- An array: field, legacy value, platform value, winner (NULL: nobody yet), policy, whether it was a tie.
  fields         jsonb not null,
  legacy_stamp   timestamptz,
  platform_stamp timestamptz,
  -- How far apart the two databases' clocks were at most.
  clock_difference_secs double precision,
  state          text not null check (state in ('decided', 'open', 'resolved', 'undone', 'superseded')),
  unique (entity_id, platform_key, rev)
);

create index if not exists conflict_decided_at on sync_bridge.conflict (decided_at, id);
