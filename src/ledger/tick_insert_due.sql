with due as (
    select wanted.customer, wanted.at,
        -- Somebody is at it, or will be: one tick waits for each customer, however long nobody worked.
        exists (select from bridge.run where run.customer = wanted.customer and run.state = 'open')
        or exists (select from bridge.tick where tick.customer = wanted.customer and tick.state = 'queued') as busy
    from unnest($1::text[], $2::timestamptz[]) as wanted (customer, at)
    where not exists (
        -- Also keeps a changed schedule from going back in time.
        select from bridge.tick
        where tick.customer = wanted.customer and tick.origin = 'schedule' and tick.at >= wanted.at)
),
made as (
    insert into bridge.tick (customer, at, origin, state, ended_at)
    select customer, at, 'schedule', case when busy then 'skipped' else 'queued' end, case when busy then now() end
    from due
    order by customer
    on conflict do nothing
    returning customer, id, state
)
select customer, id, state from made order by customer
