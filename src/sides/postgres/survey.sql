-- $1 how many at most: every table, view and foreign table of the applications, with what a person would look at beside its columns
select
  n.nspname::text as schema_name,
  c.relname::text as table_name,
  -- As the last analyze saw it; below zero: there was none.
  c.reltuples::bigint as rows_about,
  obj_description(c.oid, 'pg_class') as note,
  array(
    select a.attname::text
    from pg_index x
    cross join lateral unnest(x.indkey::smallint[]) with ordinality as k (attnum, ord)
    join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
    where x.indrelid = c.oid and x.indisprimary and k.ord <= x.indnkeyatts
    order by k.ord
  ) as primary_key
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f')
  and not c.relispartition
  and n.nspname not in ('information_schema', 'sync_bridge', 'bridge')
  and n.nspname not like 'pg\_%'
  -- What an extension brought along is its own.
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by n.nspname, c.relname
limit $1
