-- The server and this database of it. For servers of every version: those that are too old are told so by this.
select
  current_setting('server_version_num')::integer as version_number,
  current_setting('server_version') as version,
  pg_is_in_recovery() as standby,
  getdatabaseencoding()::text as encoding,
  current_user::text as role
