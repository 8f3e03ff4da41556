select job.id, job.customer, job.kind, coalesce(page.stage_name, stage.name) as stage, page.entity, page.side,
    page.rows_cut as rows, page.generation, job.attempt as attempts, job.repeats, job.repeated_at,
    job.error_kind, job.last_error as error, job.ended_at as dead_since,
    case when job.requeued_at is null then 'waiting' else coalesce(job.dealt, 'requeued') end as state,
    exists (
        -- As `requeue_pages.sql` chooses.
        select from bridge.stage as target join bridge.run on run.id = target.run
        where target.state = 'open' and target.customer = page.customer and target.name = page.stage_name
          and (run.state = 'loading') = page.loads) as stage_open
from bridge.job
-- Each by its id (`limit` keeps it so): there are few letters beside what was done in weeks, whatever their number is guessed to be.
left join lateral (select * from bridge.page where job.kind = 'page' and page.id = job.subject limit 1) page on true
left join lateral (select * from bridge.stage where job.kind = 'stage' and stage.id = job.subject limit 1) stage on true
where job.state = 'dead'
  and ($1 or job.requeued_at is null)
  and (cardinality($2::bigint[]) = 0 or job.id = any($2))
  and ($3::text is null or job.customer = $3)
  and ($4::text is null or coalesce(page.stage_name, stage.name) = $4)
  and ($5::text is null or page.entity = $5)
  and ($6::text is null or job.error_kind = $6)
  and ($7::interval is null or job.ended_at <= now() - $7)
  and ($8::interval is null or job.ended_at > now() - $8)
order by job.id
limit $9
