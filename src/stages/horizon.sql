-- $1: the application_name of our reading sessions, which write nothing and so hold nothing back.
with open_transactions as (
  -- Every open transaction counts, also one that has not written yet: its now() is fixed already.
  select xact_start as since, format('pid %s, user %s, application %s', pid, usename, application_name) as holder
  from pg_stat_activity
  where datname = current_database()
    and pid <> pg_backend_pid()
    and xact_start is not null
    and backend_type not in ('autovacuum worker', 'walsender')
    and not (application_name = $1 and usename = current_user)
  union all
  select prepared, format('prepared transaction %s of %s', gid, owner)
  from pg_prepared_xacts
  where database = current_database()
),
oldest as (
  select since, holder from open_transactions order by since limit 1
)
select
  -- One second covers a backend that has fixed its now() but does not show it yet.
  least(clock_timestamp() - interval '1 second', (select since from oldest)) as horizon,
  case when (select since from oldest) < clock_timestamp() - interval '1 second' then (select holder from oldest) end as held_by
