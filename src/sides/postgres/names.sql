-- Every table, view and foreign table of the applications, up to as many as a person could mean
select n.nspname::text as schema_name, c.relname::text as table_name
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f')
  and not c.relispartition
  and n.nspname not in ('information_schema', 'sync_bridge', 'bridge')
  and n.nspname not like 'pg\_%'
order by n.nspname, c.relname
limit 5000
