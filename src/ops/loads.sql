with loading as (
    select distinct customer, entity, side from bridge.page
    where loads and state in ('waiting', 'released') and customer = any($1)
),
counted as (
    -- Whatever runs its pages were in; one that died is the dead letter's.
    select page.customer, page.entity, page.side, min(page.created_at) as since,
        coalesce(sum(page.rows_cut) filter (where page.state = 'done'), 0)::bigint as rows_done,
        coalesce(sum(page.rows_cut) filter (where page.state in ('waiting', 'released')), 0)::bigint as rows_left,
        coalesce(sum(page.rows_cut) filter (where page.state = 'done' and page.ended_at > now() - $2), 0)::float8
            as rows_lately
    from bridge.page
    join loading on loading.customer = page.customer and loading.entity = page.entity and loading.side = page.side
    where page.loads
    group by page.customer, page.entity, page.side
)
select customer, entity, side, since, rows_done, rows_left,
    rows_lately / greatest(1, extract(epoch from now() - greatest(since, now() - $2)))::float8 as rows_per_sec
from counted
order by customer, entity, side
