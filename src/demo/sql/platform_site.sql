insert into geo.sites (region_id, name, latitude, longitude, population)
values ($1, $2, $3, $4, $5)
returning id
