-- What two clients keep, the others' members as they are.
update identity.profiles
set settings = settings || jsonb_build_object('theme', $2::text, 'locale', $3::text), updated_at = now()
where user_id = $1
