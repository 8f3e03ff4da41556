-- Customers whose last two ticks that did not skip were both made after $1 and both found nothing to do.
select count(*)
from (select distinct customer from bridge.tick) c
cross join lateral (
    select count(*) filter (where t.state = 'idle' and t.created_at > $1) as idle
    from (
        select state, created_at
        from bridge.tick
        where customer = c.customer
          and state in ('idle', 'opened', 'dead')
        order by id desc
        limit 2
    ) t
) last
where last.idle = 2
