-- $1 the entity's number, $2 platform keys
with ended as materialized (
  -- An open intent may still be carried out on legacy, whoever has the tombstone by then.
  select platform_key, rev, generation
  from sync_bridge.pair
  where entity_id = $1 and platform_key = any($2) and gone and next_base is null
  order by platform_key
  for update skip locked
)
select pair.platform_key, pair.legacy_key, ended.rev, ended.generation
from sync_bridge.pair left join ended using (platform_key)
where pair.entity_id = $1 and pair.platform_key = any($2)
