insert into sync_bridge.conflict (
  entity_id, platform_key, legacy_key, rev, kind, fields, legacy_stamp, platform_stamp, state, clock_difference_secs
)
select
  $1, v.platform_key, v.legacy_key, v.rev, v.kind, v.fields, v.legacy_stamp, v.platform_stamp, v.state,
  v.clock_difference_secs
from unnest(
  $2::text[], $3::text[], $4::bigint[], $5::text[], $6::jsonb[], $7::timestamptz[], $8::timestamptz[], $9::text[],
  $10::float8[], $11::boolean[]
) as v (
  platform_key, legacy_key, rev, kind, fields, legacy_stamp, platform_stamp, state, clock_difference_secs, repeats
)
-- A decision that is made again because its intent was made void: it is the pair's last entry already.
where not (
  v.repeats
  and exists (
    select from sync_bridge.conflict c
    where c.entity_id = $1 and c.platform_key = v.platform_key and c.kind = v.kind and c.fields = v.fields
      and c.rev = (
        select max(last.rev) from sync_bridge.conflict last
        where last.entity_id = $1 and last.platform_key = v.platform_key
      )
  )
)
