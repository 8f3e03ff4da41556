insert into bridge.parked as old
    (customer, entity, side, key, reason, waits_entity, waits_side, waits_key, woken, run, stage, round)
-- A page may name a row twice; one entry is enough.
select distinct on (side, key) $1, $2, side, key,
    case when waits_key is not null then 'parent' when waits_side is not null then 'paused' else 'busy' end,
    waits_entity, waits_side, waits_key, waits_key is null, $3, $4, $5
from unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
    as waiting (side, key, waits_entity, waits_side, waits_key)
order by side, key
on conflict (customer, entity, side, key) do update
set reason = excluded.reason, waits_entity = excluded.waits_entity, waits_side = excluded.waits_side,
    waits_key = excluded.waits_key, woken = old.woken or excluded.woken, run = excluded.run, stage = excluded.stage,
    round = excluded.round, seen_at = now()
