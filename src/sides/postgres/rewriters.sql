-- $1 schemas, $2 tables: what may change a row on its way into one of these
select
  n.nspname::text as schema_name,
  c.relname::text as table_name,
  'trigger' as kind,
  t.tgname::text as name,
  p.proname::text as function,
  l.lanname in ('plpgsql', 'sql') as is_readable,
  p.prosrc as body,
  encode(t.tgargs, 'escape') as arguments
from (select distinct * from unnest($1::text[], $2::text[]) as named (schema, name)) as wanted
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_trigger t on t.tgrelid = c.oid
join pg_proc p on p.oid = t.tgfoid
join pg_language l on l.oid = p.prolang
where not t.tgisinternal
  and t.tgenabled in ('O', 'A')
  -- For each row (1), before it (2), of an insert (4) or an update (16).
  and t.tgtype & 3 = 3
  and t.tgtype & 20 <> 0
union all
select n.nspname::text, c.relname::text, 'rule', r.rulename::text, '', false, '', ''
from (select distinct * from unnest($1::text[], $2::text[]) as named (schema, name)) as wanted
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_rewrite r on r.ev_class = c.oid
where r.ev_enabled in ('O', 'A')
  -- For an update (2) or an insert (3).
  and r.ev_type in ('2', '3')
order by 1, 2, 3, 4
