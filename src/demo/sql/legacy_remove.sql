-- One membership of the group is removed; of the next one that has any, if it has none.
delete from grp_usr
where (grp_id, usr_id) = (
    select grp_id, usr_id from grp_usr where grp_id >= $1 order by grp_id, usr_id limit 1
)
