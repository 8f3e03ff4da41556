update groups.groups
set archived_at = case when archived_at is null then now() end, updated_at = now()
where id = $1
