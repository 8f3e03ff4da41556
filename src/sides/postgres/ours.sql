-- $1 tables of schema sync_bridge: whether they are there, and what this role may do with them
select
  wanted.name as name,
  n.oid is not null as schema_is_there,
  coalesce(has_schema_privilege(n.oid, 'usage'), false) as may_use_schema,
  c.oid is not null as is_there,
  coalesce(has_table_privilege(c.oid, 'select'), false) as may_select,
  coalesce(has_table_privilege(c.oid, 'insert'), false) as may_insert,
  coalesce(has_table_privilege(c.oid, 'update'), false) as may_update,
  coalesce(has_table_privilege(c.oid, 'delete'), false) as may_delete,
  array(
    select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum
  ) as columns
from unnest($1::text[]) with ordinality as wanted (name, n)
left join pg_namespace n on n.nspname = 'sync_bridge'
left join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name and c.relkind in ('r', 'p')
order by wanted.n
