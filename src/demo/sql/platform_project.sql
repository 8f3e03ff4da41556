insert into groups.groups (parent_id, code, name, kind, owner_id)
values ($1, $2, $3, 'project', $4)
returning id
