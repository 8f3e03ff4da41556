-- $1 schemas, $2 tables: their foreign keys to each other, column by column
select n.nspname::text as schema_name, c.relname::text as table_name, tn.nspname::text as to_schema, t.relname::text as to_table,
  array_agg(a.attname::text order by k.ord) as columns, array_agg(ta.attname::text order by k.ord) as to_columns
from (select distinct * from unnest($1::text[], $2::text[]) as named (schema, name)) as wanted
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_constraint f on f.conrelid = c.oid and f.contype = 'f'
join pg_class t on t.oid = f.confrelid
join pg_namespace tn on tn.oid = t.relnamespace
cross join lateral unnest(f.conkey, f.confkey) with ordinality as k (attnum, to_attnum, ord)
join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
join pg_attribute ta on ta.attrelid = t.oid and ta.attnum = k.to_attnum
where (tn.nspname::text, t.relname::text) in (select * from unnest($1::text[], $2::text[]))
group by n.nspname, c.relname, f.oid, tn.nspname, t.relname
order by n.nspname, c.relname, f.oid
