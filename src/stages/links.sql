-- $1 the referred entity's number, $2 legacy keys, $3 platform keys
select legacy_key, platform_key
from sync_bridge.pair
where entity_id = $1 and legacy_key = any($2) and not gone
union
select legacy_key, platform_key
from sync_bridge.pair
where entity_id = $1 and platform_key = any($3) and legacy_key is not null and not gone
order by platform_key
