-- $1 schemas, $2 tables: what the checks of these tables demand
select n.nspname::text as schema_name, c.relname::text as table_name, pg_get_expr(k.conbin, k.conrelid) as condition
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_constraint k on k.conrelid = c.oid and k.contype = 'c'
order by n.nspname, c.relname, k.conname
