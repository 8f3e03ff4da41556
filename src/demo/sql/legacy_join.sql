-- A person joins a group, or comes back to it.
insert into grp_usr (grp_id, usr_id, since)
values ($1, $2, current_date)
on conflict (grp_id, usr_id) do update set act = 'Y', last_update = localtimestamp where grp_usr.act = 'N'
