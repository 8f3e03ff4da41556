-- Customers that stand still. Of the ticks since $1 that did not skip, the last two found nothing to do, or only opened a run that found all rows as
-- they should be, as one does that looks whether rows are gone; and when that was last looked at, since $1, none was.
select count(*)
from (select distinct customer from bridge.tick) c
cross join lateral (
    select count(*) filter (where t.created_at > $1 and t.still) as still
    from (
        select
            tick.created_at,
            tick.state = 'idle' or run.state = 'done' and not exists (
                select
                from bridge.page
                where page.run = run.id
                  and page.rows_to_platform + page.rows_to_legacy + page.recorded + page.parked > 0
            ) as still
        from bridge.tick
        left join bridge.run on run.tick = tick.id
        where tick.customer = c.customer
          and tick.state in ('idle', 'opened', 'dead')
        order by tick.id desc
        limit 2
    ) t
) ticks
-- Both depths of a comparison tell; the later one counts.
cross join lateral (
    select bool_and(run.opened_at > $1 and look.missing = 0) as complete
    from (
        select distinct on (entity, side) run, missing
        from bridge.swept
        where customer = c.customer
        order by entity, side, at desc
    ) look
    join bridge.run on run.id = look.run
) looks
where ticks.still = 2
  and looks.complete
