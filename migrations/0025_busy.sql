-- A row that could not be written as others were at it is late since then: each look at how fresh a customer is asks.
create index parked_busy on bridge.parked (customer, entity, side, since) where reason = 'busy';
