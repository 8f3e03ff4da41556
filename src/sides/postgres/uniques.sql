-- $1 schemas, $2 tables: the unique indexes, with their plain columns; those of the primary key, which no update runs into; and those
-- that hold at any moment for all rows, by nothing but columns
select n.nspname::text as schema_name, c.relname::text as table_name, i.relname::text as name, x.indisprimary as of_key,
  x.indisvalid and x.indimmediate and x.indpred is null and 0 <> all (x.indkey::smallint[]) as holds,
  array_agg(a.attname::text order by k.ord) as columns
from (select distinct * from unnest($1::text[], $2::text[]) as named (schema, name)) as wanted
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_index x on x.indrelid = c.oid and x.indisunique
join pg_class i on i.oid = x.indexrelid
cross join lateral unnest(x.indkey::smallint[]) with ordinality as k (attnum, ord)
join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
where k.ord <= x.indnkeyatts
group by n.nspname, c.relname, i.relname, x.indexrelid, x.indisprimary, x.indisvalid, x.indimmediate, x.indpred, x.indkey
order by n.nspname, c.relname, i.relname
