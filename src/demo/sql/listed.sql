select entity, side, key from bridge.parked where customer = $1
union
select entity, side, key from bridge.quarantine where customer = $1
order by entity, side, key
