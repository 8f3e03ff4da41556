-- COPY with ids leaves the sequences behind.
select setval('users_seq', (select coalesce(max(id), 1) from users));
select setval('grps_seq', (select coalesce(max(id), 1) from grps));
select setval('region_seq', (select coalesce(max(id), 1) from region));
select setval('sites_seq', (select coalesce(max(id), 1) from sites));
