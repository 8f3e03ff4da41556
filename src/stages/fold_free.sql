-- In the order of their keys, as everybody locks them. What others hold, or raised since, is left as it is.
with carried_out as (
  select * from unnest($2::text[], $3::bigint[], $4::text[], $5::integer[], $6::bigint[], $7::timestamptz[])
    as v (platform_key, rev, legacy_key, generation, legacy_hash, legacy_stamp)
), locked as materialized (
  select p.platform_key
  from sync_bridge.pair p join carried_out v on p.platform_key = v.platform_key and p.rev = v.rev
  where p.entity_id = $1 and p.next_base is not null
  order by p.platform_key for update of p skip locked
)
update sync_bridge.pair p
set rev = p.rev + 1, base = p.next_base, gone = p.next_gone, next_base = null, next_gone = null, intent_at = null,
    legacy_key = v.legacy_key, generation = v.generation, legacy_hash = v.legacy_hash,
    legacy_stamp = coalesce(v.legacy_stamp, p.legacy_stamp)
from carried_out v join locked using (platform_key)
where p.entity_id = $1 and p.platform_key = v.platform_key and p.rev = v.rev and p.next_base is not null
  and not exists (select from sync_bridge.pair o where o.entity_id = $1 and o.legacy_key = v.legacy_key
                  and not o.gone and o.platform_key <> p.platform_key)
