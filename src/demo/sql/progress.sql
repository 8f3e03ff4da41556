select
    (select count(*) from bridge.run where ended_at is not null) as runs_done,
    (select count(*) from bridge.page where state = 'done') as pages_done,
    (select count(distinct customer) from bridge.run where state = 'done' and first_load) as customers_loaded
