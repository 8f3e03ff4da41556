-- A person joins a group, or comes back to it.
insert into groups.memberships as m (group_id, user_id, joined_on)
values ($1, $2, current_date)
on conflict (group_id, user_id) do update set deleted_at = null where m.deleted_at is not null
