-- One membership of the group, the person's own if there is one, is switched off, or on again.
update grp_usr
set act = case act when 'Y' then 'N' else 'Y' end, last_update = localtimestamp
where (grp_id, usr_id) = (
    select grp_id, usr_id from grp_usr where grp_id = $1 order by (usr_id = $2) desc, usr_id limit 1
)
