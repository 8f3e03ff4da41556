-- One membership of the group, the person's own if there is one, is ended, or taken up again.
update groups.memberships
set deleted_at = case when deleted_at is null then now() end
where (group_id, user_id) = (
    select group_id, user_id from groups.memberships where group_id = $1 order by (user_id = $2) desc, user_id limit 1
)
