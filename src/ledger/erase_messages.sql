-- $1 customer, $2 entity, $3 and $4 sides and keys of the rows, $5 what is to stand there
with held as materialized (
  select job.id
  from bridge.job left join bridge.page on page.id = job.subject
  where job.kind = 'page' and job.customer = $1
    -- Of a page that is not there any more, or under another id, nobody knows what it held; and one of a range may have held any row.
    and (page.id is null or page.entity = $2 and (not page.range ? 'keys' or exists (
      select from unnest($3::text[], $4::text[]) as erased (side, key)
      where erased.side = page.side and page.range -> 'keys' ? erased.key)))
),
jobs as (
  update bridge.job set last_error = $5
  where id in (select id from held) and last_error <> $5 and error_kind not in ('outage', 'timeout')
  returning 1
),
attempts as (
  update bridge.attempt set error = $5
  where job in (select id from held) and error <> $5 and error_kind not in ('outage', 'timeout')
  returning 1
)
select (select count(*) from jobs) + (select count(*) from attempts)
