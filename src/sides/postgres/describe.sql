-- $1 schemas, $2 tables: the columns of these relations, of whatever kind
select
  n.nspname::text as schema_name,
  c.relname::text as table_name,
  c.relkind::text as kind,
  current_user::text as role,
  has_schema_privilege(n.oid, 'usage') as may_use_schema,
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
  -- What a statement does to it is no rule's.
  c.relkind = 'r' and not exists (select from pg_rewrite r where r.ev_class = c.oid) as is_plain,
  -- Of a partitioned table the parts are its own, and its indexes theirs.
  c.relkind <> 'p' and exists (select from pg_inherits h where h.inhparent = c.oid) as has_heirs,
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
  exists (select from pg_collation k where k.oid = a.attcollation and not k.collisdeterministic) as folds,
  not (a.attnotnull or t.typnotnull) as nullable,
  a.attgenerated <> '' as generated,
  a.attidentity = 'a' as always_identity,
  coalesce(b.typtype, t.typtype)::text as kind_of_type,
  -- Of an array.
  element.typname::text as element,
  element.typtype::text as kind_of_element,
  array(
    select l.enumlabel::text from pg_enum l where l.enumtypid = coalesce(b.oid, t.oid) order by l.enumsortorder
  ) as labels,
  -- Where its type lies, and each that a domain is over: those that we may not use, as `prepare --roles` grants them.
  array(
    with recursive types (oid) as (
      select a.atttypid
      union select over.typbasetype from types join pg_type over using (oid) where over.typtype = 'd'
    )
    select distinct quote_ident(un.nspname)
    from types
    join pg_type u using (oid)
    join pg_namespace un on un.oid = u.typnamespace
    where not has_schema_privilege(un.oid, 'usage')
  ) as shut_schemas,
  has_column_privilege(c.oid, a.attnum, 'select') as may_select,
  has_column_privilege(c.oid, a.attnum, 'insert') as may_insert,
  has_column_privilege(c.oid, a.attnum, 'update') as may_update,
  -- What a default or an identity takes its numbers from.
  sequence.name as sequence,
  coalesce(has_sequence_privilege(sequence.oid, 'usage, update'), true) as may_use_sequence,
  case
    when a.attidentity <> ''
      then 'nextval(' || quote_literal(pg_get_serial_sequence(
             quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.attname)) || '::regclass)'
    when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid)
  end as default_sql
from (select distinct * from unnest($1::text[], $2::text[]) as named (schema, name)) as wanted
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name and c.relkind in ('r', 'p', 'v', 'm', 'f')
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
  select p.oid, p.typname, pn.nspname, p.typcategory, p.typtype, p.typelem, below.modifier
  from below
  join pg_type p on p.oid = below.oid and p.typtype <> 'd'
  join pg_namespace pn on pn.oid = p.typnamespace
) b on t.typtype = 'd'
left join pg_type element
  on element.oid = coalesce(b.typelem, t.typelem) and coalesce(b.typcategory, t.typcategory) = 'A'
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
left join lateral (
  select s.oid, quote_ident(sn.nspname) || '.' || quote_ident(s.relname) as name
  from pg_depend x
  join pg_class s on s.relkind = 'S' and s.oid = case when x.classid = 'pg_class'::regclass then x.objid else x.refobjid end
  join pg_namespace sn on sn.oid = s.relnamespace
  where (x.classid = 'pg_attrdef'::regclass and x.objid = d.oid and x.refclassid = 'pg_class'::regclass)
    or (x.classid = 'pg_class'::regclass and x.deptype = 'i' and x.refclassid = 'pg_class'::regclass
        and x.refobjid = c.oid and x.refobjsubid = a.attnum)
  order by s.oid
  limit 1
) sequence on true
order by n.nspname, c.relname, a.attnum
