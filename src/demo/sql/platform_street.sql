-- One member of the address, the others as they are.
update identity.profiles
set address = jsonb_set(address, '{street}', to_jsonb($2::text)), updated_at = now()
where user_id = $1
