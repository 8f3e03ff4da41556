-- `alter database ... set timezone`, which a session gets unless its driver asks for another zone.
select split_part(setting, '=', 2)
from pg_db_role_setting s
join pg_database d on d.oid = s.setdatabase
cross join lateral unnest(s.setconfig) as setting
where d.datname = current_database()
  and s.setrole = 0
  and lower(split_part(setting, '=', 1)) = 'timezone'
order by 1
limit 1
