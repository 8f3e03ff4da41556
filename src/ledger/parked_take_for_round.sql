with recursive due as (
    select entity, side, key, waits_entity, waits_side, waits_key from bridge.parked
    where customer = $1 and entity = any($2)
      and (not (reason = 'busy' and run = $4 and $6 > 0)
           and exists (
               select from bridge.due
               where due.customer = $1 and due.entity = parked.entity and due.side = parked.side and due.key = parked.key)
           -- What a load parked is its own while it lasts, and it takes nothing else.
           and (run = $4 or not $8 and not exists (
               select from bridge.run as other where other.id = parked.run and other.state = 'loading'))
           or ($7 or $6 = 0) and reason = 'parent' and stage = $5 and round = $6)
    order by entity, side, key limit $3 for update
),
taken as (
    update bridge.parked set woken = false from due
    where parked.customer = $1 and parked.entity = due.entity and parked.side = due.side and parked.key = due.key
),
chain as (
    select entity, side, key, waits_entity, waits_side, waits_key from due
    union
    select next.entity, next.side, next.key, next.waits_entity, next.waits_side, next.waits_key
    from chain
    join bridge.parked as next on next.customer = $1 and next.entity = chain.waits_entity and next.side = chain.waits_side
        and next.key = chain.waits_key
    where next.entity = any($2)
)
select entity, side, key, waits_entity, waits_side, waits_key, (entity, side, key) in (select entity, side, key from due) as due
from chain
order by entity, side, key
