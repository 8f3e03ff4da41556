-- $1 the entity's number, $2 legacy keys, $3 the platform keys of the receipts that name these
select platform_key, legacy_key, generation, false as ended
from sync_bridge.pair
where entity_id = $1 and legacy_key = any($2) and not gone
union
-- A tombstone that somebody means to bring back has not ended.
select platform_key, legacy_key, generation, next_base is null
from sync_bridge.pair
where entity_id = $1 and legacy_key = any($2) and gone
union
-- Its row was made on legacy, and that is not noted yet.
select platform_key, legacy_key, generation, false
from sync_bridge.pair
where entity_id = $1 and platform_key = any($3) and legacy_key is null
order by platform_key
