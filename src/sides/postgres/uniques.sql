-- $1 schemas, $2 tables: the unique indexes an update may run into, with their plain columns
select n.nspname::text as schema_name, c.relname::text as table_name, i.relname::text as name,
  array_agg(a.attname::text order by k.ord) as columns
from (select distinct * from unnest($1::text[], $2::text[]) as named (schema, name)) as wanted
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_index x on x.indrelid = c.oid and x.indisunique and not x.indisprimary
join pg_class i on i.oid = x.indexrelid
cross join lateral unnest(x.indkey::smallint[]) with ordinality as k (attnum, ord)
join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
where k.ord <= x.indnkeyatts
group by n.nspname, c.relname, i.relname
order by n.nspname, c.relname, i.relname
