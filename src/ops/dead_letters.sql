select job.id, job.customer, job.kind, coalesce(page.stage_name, stage.name) as stage, page.entity, page.side,
    page.rows_cut as rows, job.attempt as attempts, job.error_kind, job.last_error as error, job.ended_at as dead_since,
    exists (select from bridge.stage as target
            where target.state = 'open' and target.customer = page.customer and target.name = page.stage_name) as stage_open
from bridge.job
left join bridge.page on job.kind = 'page' and page.id = job.subject
left join bridge.stage on job.kind = 'stage' and stage.id = job.subject
where job.state = 'dead' and job.requeued_at is null and ($1::text is null or job.customer = $1)
order by job.id
limit $2
