insert into identity.profiles (user_id, phone, birth_date, contact, address, hired_on, settings)
values ($1, $2, $3, $4::text::identity.contact_preference, $5, $6, $7)
