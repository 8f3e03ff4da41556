select
    (select count(*) from bridge.run where state <> 'open') as runs_done,
    (select count(*) from bridge.page where state = 'done') as pages_done,
    (select count(distinct customer) from bridge.run where state = 'done') as customers_loaded
