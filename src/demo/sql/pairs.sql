-- The living pairs of one entity, from the pair ledger.
select p.platform_key, p.legacy_key
from sync_bridge.pair p
join sync_bridge.entity e on e.id = p.entity_id
where e.customer = $1
  and e.entity = $2
  and not p.gone
order by p.platform_key
