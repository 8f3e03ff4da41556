insert into geo.sites (region_id, name, location, population, manager_id)
values ($1, $2, point($3, $4), $5, $6)
returning id
