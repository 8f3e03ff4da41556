update identity.profiles
set contact = case contact when 'none' then 'newsletter' else 'none' end::identity.contact_preference, updated_at = now()
where user_id = $1
