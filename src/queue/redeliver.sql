with overdue as (
    select job.id, member.pool
    from bridge.job
    left join bridge.pool_member as member using (customer)
    where state = 'ready' and run_at < now() - $1
      -- The queue's row of its last delivery, by the key that `queue::enqueue` gives it, in the queue of its customer's pool: one that lies in
      -- another's is as good as none.
      and not exists (
          select from apalis.jobs as carrier
          where carrier.job_type = 'sync-bridge.' || job.kind || coalesce('@' || member.pool, '')
            and carrier.idempotency_key = job.id || '.' || job.delivery
            and (carrier.status = 'Pending'
                 -- Fetched, and for so long not claimed: the worker died with it in hand.
                 or (carrier.status = 'Queued' and carrier.lock_at > now() - $1)))
    order by run_at, id
    limit $2
    for update of job skip locked
)
update bridge.job
set delivery = job.delivery + 1, run_at = date_trunc('second', now()), pool = overdue.pool
from overdue
where job.id = overdue.id
returning job.id, job.kind, job.pool, job.delivery, job.priority, extract(epoch from job.run_at)::bigint as run_at_secs
