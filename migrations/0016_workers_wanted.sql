-- How many workers' worth of work there is, for whoever scales them: as many worker processes are wanted. KEDA asks for it with a target of 1.
--
-- It is what is at work, in the places that one worker has; and, where work has waited for a worker for too long, as much more as has
-- the late done within half a minute, but a quarter at least, so that it is noticed. Only what a further worker could take counts: jobs that
-- are due and nobody's. What waits for a database that is away, for a retry, for the end of a pause or for a session that holds the horizon
-- is not due, however late its customer is. Nothing to do is 0.
--
-- It reads jobs that are due, at most 10,000, those at work and the last 500 that ended, each by its index.
create function bridge.workers_wanted(
    -- Of these customers alone (their ids); null: of all.
    customers text[] default null,
    -- These are left out.
    leave_out text[] default '{}',
    -- What one worker works on at a time.
    tick_places integer default 8,
    stage_places integer default 6,
    page_places integer default 16
) returns integer
-- Whoever may ask needs no right on any table, and cannot bend what the names here mean.
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    with due as materialized (
        select job.kind, job.customer, job.error_kind, extract(epoch from now() - job.run_at) as waited
        from bridge.job
        -- A job whose customer has its share of one worker's places comes again in three seconds; another worker could take it now.
        where job.state = 'ready' and job.waits_for is null
          and job.run_at <= now() + interval '5 seconds' and (job.run_at <= now() or job.error_kind = 'crowded')
          and (customers is null or job.customer = any(customers)) and job.customer <> all(leave_out)
        order by job.run_at, job.id
        limit 10000
    ),
    late as (
        select due.kind from due
        -- A worker with a free place takes a job within two seconds.
        where due.waited > 10
           or (due.waited > 3 or due.error_kind = 'crowded') and exists (
               select from bridge.watermark
               where watermark.customer = due.customer and watermark.settled_at < now() - interval '2 minutes')
        union all
        -- Its worker died, and there is none that keeps house.
        select job.kind from bridge.job
        where job.state = 'claimed' and job.lease_until < now() - interval '10 seconds'
          and (customers is null or job.customer = any(customers)) and job.customer <> all(leave_out)
    ),
    busy as (
        select job.kind from bridge.job
        where job.state = 'claimed' and job.lease_until >= now() - interval '10 seconds'
          and (customers is null or job.customer = any(customers)) and job.customer <> all(leave_out)
    ),
    took as (
        select latest.kind, avg(extract(epoch from latest.ended_at - latest.claimed_at)) as secs
        from (
            select job.kind, job.ended_at, job.claimed_at from bridge.job
            where job.ended_at > now() - interval '5 minutes'
            order by job.ended_at desc
            limit 500
        ) as latest
        group by latest.kind
    ),
    -- In workers.
    wanted as (
        select
            (select count(*) from busy where busy.kind = places.kind)::float8 / places.number as busy,
            (select count(*) from late where late.kind = places.kind)::float8 / places.number as late,
            -- Of a kind that none ended of lately: a second.
            least(1, greatest(0, coalesce((select took.secs from took where took.kind = places.kind), 1)) / 30)::float8 as part
        from (values ('tick', tick_places), ('stage', stage_places), ('page', page_places)) as places (kind, number)
    )
    select max(ceil(case
        when wanted.late = 0 then wanted.busy
        else wanted.busy + least(ceil(wanted.late), greatest(wanted.late * wanted.part, wanted.busy / 4, 0.25))
    end))::integer
    from wanted
$$;

-- Nobody's but those it is granted to: docs/DEPLOY.md has the role.
revoke all on function bridge.workers_wanted(text[], text[], integer, integer, integer) from public;
