-- One membership of the group, the person's own if there is one, gets another role.
update groups.memberships
set role = $2::text::groups.member_role
where (group_id, user_id) = (
    select group_id, user_id from groups.memberships where group_id = $1 order by (user_id = $3) desc, user_id limit 1
)
