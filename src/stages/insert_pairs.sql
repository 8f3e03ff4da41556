-- A claim that returns no row was made by somebody else, who may still be at it: the statement waits for him.
insert into sync_bridge.pair (
  entity_id, platform_key, legacy_key, generation, rev, base, gone, next_base, next_gone, intent_at,
  listed, platform_stamp, platform_edited_at, platform_hash, legacy_stamp, legacy_edited_at, legacy_hash, complement
)
select
  $1, v.platform_key, v.legacy_key, v.generation, v.rev, v.base, v.gone, v.next_base, v.next_gone,
  case when v.next_base is not null then clock_timestamp() end,
  v.listed, v.platform_stamp, v.platform_edited_at, v.platform_hash, v.legacy_stamp, v.legacy_edited_at,
  v.legacy_hash, v.complement
from unnest(
  $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::bytea[], $7::boolean[], $8::bytea[], $9::boolean[],
  $10::bytea[], $11::timestamptz[], $12::timestamptz[], $13::bigint[], $14::timestamptz[], $15::timestamptz[],
  $16::bigint[], $17::jsonb[]
) as v (
  platform_key, legacy_key, generation, rev, base, gone, next_base, next_gone,
  listed, platform_stamp, platform_edited_at, platform_hash, legacy_stamp, legacy_edited_at,
  legacy_hash, complement
)
order by v.platform_key collate "C"
on conflict do nothing
returning platform_key
