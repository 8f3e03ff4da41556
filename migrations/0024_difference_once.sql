-- Two long keys fill more than an index row holds: what is once is told by their hashes, of 64 bits each.
create unique index difference_of_keys on bridge.difference
    (customer, run, entity, hashtextextended(coalesce(legacy_key, ''), 0), hashtextextended(coalesce(platform_key, ''), 0));
drop index bridge.difference_once;
