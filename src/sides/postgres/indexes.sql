-- $1 schemas, $2 tables: the indexes that can be used, each with its columns (or expressions) in order
select
  wanted.schema as schema_name,
  wanted.name as table_name,
  x.indisunique as is_unique,
  -- A deferrable one is looked at too late to tell two rows apart.
  x.indimmediate as is_immediate,
  pg_get_expr(x.indpred, x.indrelid) as predicate,
  array(
    select pg_get_indexdef(x.indexrelid, k, true) from generate_series(1, x.indnkeyatts::integer) as k order by k
  ) as columns
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_index x on x.indrelid = c.oid and x.indisvalid
order by wanted.schema, wanted.name, x.indexrelid
