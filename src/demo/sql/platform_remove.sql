-- One membership of the group is removed; of the next one that has any, if it has none.
delete from groups.memberships
where (group_id, user_id) = (
    select group_id, user_id from groups.memberships where group_id >= $1 order by group_id, user_id limit 1
)
