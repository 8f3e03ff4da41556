-- $1: the application_name of our reading sessions, which write nothing and so hold nothing back.
with other_sessions as (
  select pid, usename, application_name, state, xact_start
  from pg_stat_activity
  where datname = current_database()
    and pid <> pg_backend_pid()
    and backend_type not in ('autovacuum worker', 'walsender')
    and not (application_name = $1 and usename = current_user)
),
open_transactions as (
  -- Every open transaction counts, also one that has not written yet: its now() is fixed already.
  select xact_start as since, format('pid %s, user %s, application %s', pid, usename, application_name) as holder
  from other_sessions
  where xact_start is not null
),
oldest as (
  select since, holder from open_transactions order by since, holder limit 1
)
select
  clock_timestamp() as now,
  -- One second covers a backend that has fixed its now() but does not show it yet.
  -- One microsecond less than its start: what it stamps is exactly its start and must lie above.
  least(clock_timestamp() - interval '1 second', (select since from oldest) - interval '1 microsecond') as visible_horizon,
  (select holder from oldest) as holder,
  pg_is_in_recovery() as standby,
  pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_others,
  -- A session with track_activities off shows no transaction.
  (select min(pid) from other_sessions where state = 'disabled') as untracked_pid,
  -- A prepared transaction shows only when it was prepared, which is later than its stamps.
  (select min(prepared) from pg_prepared_xacts where database = current_database()) as prepared,
  (select format('prepared transaction %s of %s', gid, owner) from pg_prepared_xacts
   where database = current_database() order by prepared, gid limit 1) as prepared_holder,
  current_user::text as role,
  -- How far what is committed here is on disk: it never goes back, but with the database.
  case when not pg_is_in_recovery() then (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint end as wal
