-- Rows that wait for one that waits itself, and that one waits for: all that wait for each other are among them.
with recursive linked as (
    select entity, side, key, waits_entity, waits_side, waits_key from bridge.parked as it
    where customer = $1 and entity = any($2) and reason = 'parent' and not woken
      -- What a load parked is its own while it lasts, and it takes nothing else.
      and (run = $3 or not $4 and not exists (
          select from bridge.run as other where other.id = it.run and other.state = 'loading'))
      and exists (
          select from bridge.parked as next
          where next.customer = $1 and next.entity = it.waits_entity and next.side = it.waits_side and next.key = it.waits_key
            and next.reason = 'parent' and not next.woken)
      and exists (
          select from bridge.parked as before
          where before.customer = $1 and before.waits_entity = it.entity and before.waits_side = it.side
            and before.waits_key = it.key and not before.woken)
    order by entity, side, key limit $5
),
-- With those that the limit left out of their chains.
chain as (
    select entity, side, key, waits_entity, waits_side, waits_key from linked
    union
    select next.entity, next.side, next.key, next.waits_entity, next.waits_side, next.waits_key
    from chain
    join bridge.parked as next on next.customer = $1 and next.entity = chain.waits_entity and next.side = chain.waits_side
        and next.key = chain.waits_key and next.reason = 'parent' and not next.woken
    where next.entity = any($2)
)
select entity, side, key, waits_entity, waits_side, waits_key from chain order by entity, side, key
