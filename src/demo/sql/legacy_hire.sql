insert into users (
  email_addr, first_name, last_name, active, phone, birth_dt, newsl, street, zip, city, ctry, ext, hire_d, lang, pg_len
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
returning id
