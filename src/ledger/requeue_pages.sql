with target as (
    -- At most one stage of a customer is open, and one of a load beside it.
    select stage.id, stage.run, stage.customer, stage.name, run.state = 'loading' as loads
    from bridge.stage join bridge.run on run.id = stage.run
    where stage.state = 'open'
),
made as (
    insert into bridge.page (customer, stage_name, stage, run, round, entity, side, mode, range, rows_cut, generation, requeue_of)
    select old.customer, old.stage_name, target.id, target.run, old.round, old.entity, old.side, old.mode, old.range,
        old.rows_cut, old.generation + 1, old.id
    from bridge.page as old
    left join target on target.customer = old.customer and target.name = old.stage_name and target.loads = old.loads
    where old.id = any($1) and old.state = 'dead'
    order by old.id
    -- The mark on the job is the gate; this is the lock behind it.
    on conflict (requeue_of) do nothing
    returning stage
)
update bridge.stage set pages_left = pages_left + joined.pages
from (select stage, count(*)::integer as pages from made where stage is not null group by stage) as joined
where stage.id = joined.stage
