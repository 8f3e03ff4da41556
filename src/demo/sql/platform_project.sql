insert into groups.groups (parent_id, code, name, kind, owner_id, budget, expires_at)
values ($1, $2, $3, 'project', $4, $5, now() + interval '1 year')
returning id
