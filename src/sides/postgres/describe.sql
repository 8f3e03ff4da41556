-- $1 schema, $2 table
select
  -- None of the letters beyond ASCII that the encoding has in this range (encodings of several bytes, but UTF-8, let nobody ask).
  not exists (
    select
    from pg_database d
    cross join lateral generate_series(
      128, case when pg_encoding_to_char(d.encoding) = 'UTF8' or pg_encoding_max_length(d.encoding) = 1 then 255 end
    ) as letter
    where d.datname = current_database() and lower(chr(letter)) <> chr(letter)
  ) and to_regcollation('pg_catalog."und-x-icu"') is not null as lowers_ascii_only,
  row_security_active(c.oid) as row_security,
  a.attname::text as name,
  -- The declared type by its catalogue name: a cast to it has no length or precision and so never truncates. A domain's would
  -- (the length is its own), so it goes by its base type; what the domain demands is asked of what is stored.
  quote_ident(coalesce(b.nspname, tn.nspname)) || '."' || replace(coalesce(b.typname, t.typname), '"', '""') || '"' as type_sql,
  format_type(a.atttypid, a.atttypmod) as type_shown,
  -- A domain counts as its base type.
  coalesce(b.typname, t.typname)::text as typname,
  coalesce(b.typcategory, t.typcategory)::text as typcategory,
  coalesce(nullif(a.atttypmod, -1), nullif(b.modifier, -1)) as modifier,
  -- The operators an `order by` goes by: an extension's, which an empty search path does not see.
  exists (
    select
    from pg_opclass oc
    join pg_am m on m.oid = oc.opcmethod and m.amname = 'btree'
    join pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amoplefttype = oc.opcintype
      and ao.amoprighttype = oc.opcintype
    join pg_operator o on o.oid = ao.amopopr
    where oc.opcdefault and oc.opcintype = coalesce(b.oid, t.oid) and o.oprnamespace <> 'pg_catalog'::regnamespace
  ) as foreign_order,
  not (a.attnotnull or t.typnotnull) as nullable,
  a.attgenerated <> '' as generated,
  case
    when a.attidentity <> ''
      then 'nextval(' || quote_literal(pg_get_serial_sequence(
             quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.attname)) || '::regclass)'
    when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid)
  end as default_sql
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
join pg_namespace tn on tn.oid = t.typnamespace
left join lateral (
  with recursive below as (
    select t.typtype, t.typbasetype as oid, t.typtypmod as modifier
    union all
    select d.typtype, d.typbasetype, coalesce(nullif(below.modifier, -1), d.typtypmod)
    from below join pg_type d on below.typtype = 'd' and d.oid = below.oid
  )
  select p.oid, p.typname, pn.nspname, p.typcategory, below.modifier
  from below
  join pg_type p on p.oid = below.oid and p.typtype <> 'd'
  join pg_namespace pn on pn.oid = p.typnamespace
) b on t.typtype = 'd'
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')
order by a.attnum
