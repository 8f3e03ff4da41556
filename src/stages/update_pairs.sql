-- The rows are locked and their revisions were compared before.
update sync_bridge.pair p
set legacy_key = v.legacy_key,
    generation = v.generation,
    rev = v.rev,
    base = v.base,
    gone = v.gone,
    next_base = v.next_base,
    next_gone = v.next_gone,
    intent_at = case when v.next_base is not null then clock_timestamp() end,
    listed = v.listed,
    platform_stamp = v.platform_stamp,
    platform_edited_at = v.platform_edited_at,
    platform_hash = v.platform_hash,
    legacy_stamp = v.legacy_stamp,
    legacy_edited_at = v.legacy_edited_at,
    legacy_hash = v.legacy_hash,
    complement = v.complement
from unnest(
  $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::bytea[], $7::boolean[], $8::bytea[], $9::boolean[],
  $10::bytea[], $11::timestamptz[], $12::timestamptz[], $13::bigint[], $14::timestamptz[], $15::timestamptz[],
  $16::bigint[], $17::jsonb[]
) as v (
  platform_key, legacy_key, generation, rev, base, gone, next_base, next_gone,
  listed, platform_stamp, platform_edited_at, platform_hash, legacy_stamp, legacy_edited_at,
  legacy_hash, complement
)
where p.entity_id = $1 and p.platform_key = v.platform_key
