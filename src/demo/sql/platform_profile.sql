insert into identity.profiles (user_id, phone, birth_date, contact, address)
values ($1, $2, $3, $4::text::identity.contact_preference, $5)
