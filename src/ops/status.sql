with late as (
    -- Also what was held by a worker that died, with nobody there to give it to another.
    select distinct customer from bridge.job where state = 'ready' and waits_for is null and run_at < now() - $2::interval
    union
    select customer from bridge.job where state = 'claimed' and lease_until < now() - $2::interval
),
-- While some of its work goes on, the rest only waits for its turn.
worked_on as (
    select distinct customer from bridge.job where state = 'claimed' and lease_until >= now()
),
-- Of each, how many, when the next, and why the one that was tried most often.
retried as (
    select distinct on (customer) customer, last_error as error,
        count(*) over of_customer as jobs, min(run_at) over of_customer as next_at
    from bridge.job
    where state = 'ready' and waits_for is null and last_error is not null
    window of_customer as (partition by customer)
    order by customer, attempt desc, id
)
select wanted.customer, now() as now,
    (select run.id from bridge.run where run.customer = wanted.customer and run.state = 'open') as open_run,
    (select run.id from bridge.run where run.customer = wanted.customer and run.state = 'loading') as load_run,
    (select tick.at from bridge.tick where tick.customer = wanted.customer order by tick.id desc limit 1) as newest_tick_at,
    wanted.customer in (select customer from late) and wanted.customer not in (select customer from worked_on) as waits_for_worker,
    (select customer.changed_at from bridge.customer where customer.id = wanted.customer) as changed_at,
    retried.error as retried_error, retried.jobs as retried_jobs, retried.next_at as retried_at,
    last_tick.at as tick_at, last_tick.state as tick_state,
    last_run.state as run_state, last_run.ended_at as run_ended_at,
    (select count(*) from bridge.parked where parked.customer = wanted.customer) as parked,
    (select count(*) from bridge.quarantine where quarantine.customer = wanted.customer) as quarantined,
    (select count(*) from bridge.job
     where job.customer = wanted.customer and job.state = 'dead' and job.requeued_at is null) as dead_letters,
    found.conflicts, found.differences,
    (select max(run.ended_at) from bridge.run
     where run.customer = wanted.customer and run.sweep and run.state <> 'open') as compared_at
from unnest($1::text[]) as wanted (customer)
left join retried on retried.customer = wanted.customer
left join lateral (
    select tick.at, tick.state from bridge.tick
    where tick.customer = wanted.customer and tick.state <> 'skipped'
    order by tick.id desc limit 1
) as last_tick on true
left join lateral (
    select run.state, run.ended_at from bridge.run
    where run.customer = wanted.customer and run.state not in ('open', 'loading')
    order by run.id desc limit 1
) as last_run on true
-- Those of a comparison under way do not count before it is complete, nor those that are on a list of their own.
left join lateral (
    select count(*) filter (where kind = 'listed') as conflicts,
        count(*) filter (where kind not in ('listed', 'quarantined', 'parked', 'dead_letter')) as differences
    from bridge.difference
    where difference.customer = wanted.customer
      and not exists (select from bridge.run where run.id = difference.run and run.state = 'open')
) as found on true
order by wanted.customer
