-- One membership of the group, the person's own if there is one, gets another role.
update grp_usr
set role = $2, last_update = localtimestamp
where (grp_id, usr_id) = (
    select grp_id, usr_id from grp_usr where grp_id = $1 order by (usr_id = $3) desc, usr_id limit 1
)
