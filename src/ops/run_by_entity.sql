-- $1: a run. What its pages did to records, by entity.
with did as (
    select entity, sum(creates_to_platform) as creates_to_platform, sum(creates_to_legacy) as creates_to_legacy,
        sum(rows_to_platform - creates_to_platform - deletes_to_platform) as updates_to_platform,
        sum(rows_to_legacy - creates_to_legacy - deletes_to_legacy) as updates_to_legacy,
        sum(deletes_to_platform) as deletes_to_platform, sum(deletes_to_legacy) as deletes_to_legacy,
        sum(adopted) as adopted, sum(recorded) as recorded, sum(conflicts) as conflicts, sum(listed) as listed,
        sum(rows_read) as rows_read, sum(rows_unchanged) as rows_unchanged
    from bridge.page
    where run = $1 and mode <> 'compare'
    group by entity
),
-- Rows that wait now, not how often a page parked one; and the same of those that were refused.
waits as (
    select entity, count(*) as parked from bridge.parked where run = $1 group by entity
),
refused as (
    select quarantine.entity, count(*) as quarantined
    from bridge.quarantine join bridge.page on page.id = quarantine.page
    where page.run = $1
    group by quarantine.entity
)
select entity, creates_to_platform::bigint, creates_to_legacy::bigint, updates_to_platform::bigint, updates_to_legacy::bigint,
    deletes_to_platform::bigint, deletes_to_legacy::bigint, adopted::bigint, recorded::bigint, conflicts::bigint, listed::bigint, rows_read::bigint, rows_unchanged::bigint,
    coalesce(parked, 0) as parked, coalesce(quarantined, 0) as quarantined
from did
left join waits using (entity)
left join refused using (entity)
order by entity
