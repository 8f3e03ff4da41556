-- $1 schema, $2 table: the unique indexes an update may run into, with their plain columns
select i.relname::text as name, array_agg(a.attname::text order by k.ord) as columns
from pg_index x
join pg_class i on i.oid = x.indexrelid
join pg_class c on c.oid = x.indrelid
join pg_namespace n on n.oid = c.relnamespace
cross join lateral unnest(x.indkey::smallint[]) with ordinality as k (attnum, ord)
join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
where n.nspname = $1 and c.relname = $2 and x.indisunique and not x.indisprimary and k.ord <= x.indnkeyatts
group by i.relname
order by i.relname
