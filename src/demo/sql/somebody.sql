-- Anybody who is there on both sides.
select id, lower(btrim(email_addr))
from users
where deleted = 'N'
  and active = 'Y'
order by id
limit 1
