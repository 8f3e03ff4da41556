-- A person joins a group, or comes back to it.
insert into groups.memberships as m (group_id, user_id, joined_at)
values ($1, $2, now())
on conflict (group_id, user_id) do update set deleted_at = null where m.deleted_at is not null
