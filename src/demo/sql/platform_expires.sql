update groups.groups
set expires_at = now() + $2 * interval '1 hour', updated_at = now()
where id = $1
