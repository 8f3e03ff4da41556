-- Rows of our queues that apalis would choke on: it decodes a whole batch or nothing, and a payload that is no JSON ends
-- the worker that took it. Only `queue::enqueue` writes here, so whatever does not look like its work is not ours.
with malformed as (
    select id, job_type,
        case
            when id !~ '^[0-7][0-9A-HJKMNP-TV-Z]{25}$' then 'its id is no ULID'
            -- `escape` never fails, whatever the bytes are.
            when encode(job, 'escape') !~ '^\{"job":(0|[1-9][0-9]{0,17}),"delivery":(0|[1-9][0-9]{0,8})\}$' then 'its payload is not ours'
            when array_position(avals(metadata), null) is not null then 'its metadata holds a null'
            when run_at < 'epoch' or lock_at < 'epoch' or done_at < 'epoch' then 'a stamp lies before 1970'
            when attempts < 0 or max_attempts < 0 or priority < 0 then 'a count is negative'
            else 'its status is unknown'
        end as problem
    from apalis.jobs
    where job_type = any($1)
      and status not in ('Done', 'Killed')
      and (id !~ '^[0-7][0-9A-HJKMNP-TV-Z]{25}$'
           or encode(job, 'escape') !~ '^\{"job":(0|[1-9][0-9]{0,17}),"delivery":(0|[1-9][0-9]{0,8})\}$'
           or array_position(avals(metadata), null) is not null
           or run_at < 'epoch' or lock_at < 'epoch' or done_at < 'epoch'
           or attempts < 0 or max_attempts < 0 or priority < 0
           or status not in ('Pending', 'Queued', 'Running', 'Failed'))
    order by id
    limit $3
    for update skip locked
),
noted as (
    insert into bridge.refused (queue, task, problem)
    select job_type, left(id, 100), problem from malformed
)
-- The key goes, so that two of one key can lie here.
update apalis.jobs as job
set job_type = $2, idempotency_key = null, status = 'Killed', done_at = now(), lock_by = null, lock_at = null
from malformed
where job.id = malformed.id
