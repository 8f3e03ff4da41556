-- $1 the referred entity's number, $2 legacy keys, $3 platform keys, in whatever letters
select true as of_legacy, asked.key as asked, pair.legacy_key, pair.platform_key
from unnest($2::text[]) as asked (key)
join sync_bridge.pair on pair.entity_id = $1 and not pair.gone and lower(pair.legacy_key) = lower(asked.key)
union all
select false, asked.key, pair.legacy_key, pair.platform_key
from unnest($3::text[]) as asked (key)
join sync_bridge.pair
  on pair.entity_id = $1 and not pair.gone and pair.legacy_key is not null and lower(pair.platform_key) = lower(asked.key)
