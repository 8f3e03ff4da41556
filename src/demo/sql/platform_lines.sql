-- Beside what else is known about lists.
update identity.profiles
set settings = jsonb_set(settings, '{lists}', coalesce(settings -> 'lists', '{}') || jsonb_build_object('page_size', $2::smallint)),
    updated_at = now()
where user_id = $1
