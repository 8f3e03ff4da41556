update identity.users
set status = case status when 'active' then 'suspended' else 'active' end::identity.user_status
where id = $1
