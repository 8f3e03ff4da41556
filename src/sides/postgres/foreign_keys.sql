-- $1 schemas, $2 tables: what these tables refer to, column by column
select
  n.nspname::text as schema_name,
  c.relname::text as table_name,
  array(
    select a.attname::text
    from unnest(k.conkey) with ordinality as part (attnum, ord)
    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = part.attnum
    order by part.ord
  ) as columns,
  tn.nspname::text as target_schema,
  t.relname::text as target_table,
  array(
    select a.attname::text
    from unnest(k.confkey) with ordinality as part (attnum, ord)
    join pg_attribute a on a.attrelid = k.confrelid and a.attnum = part.attnum
    order by part.ord
  ) as target_columns
from unnest($1::text[], $2::text[]) as wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_constraint k on k.conrelid = c.oid and k.contype = 'f'
join pg_class t on t.oid = k.confrelid
join pg_namespace tn on tn.oid = t.relnamespace
-- A reference to a partitioned table is there once more for each of its partitions.
where k.conparentid = 0
order by n.nspname, c.relname, k.conname
