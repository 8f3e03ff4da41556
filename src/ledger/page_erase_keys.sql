-- $1 customer, $2 entity, $3 side, $4 key
update bridge.page
set range = range
  || case when range -> 'keys' ? $4 then jsonb_build_object('keys', (range -> 'keys') - $4) else '{}' end
  || case when range #>> '{after,key}' = $4
       then jsonb_build_object('after', range -> 'after' || '{"key": ""}') else '{}' end
  || case when range #>> '{upto,key}' = $4
       then jsonb_build_object('upto', range -> 'upto' || '{"key": ""}') else '{}' end
where customer = $1 and entity = $2 and side = $3
  and (range -> 'keys' ? $4 or $4 in (range #>> '{after,key}', range #>> '{upto,key}'))
  -- A dead letter's range is worked on again once it is brought back, as another page.
  and (state = 'done' or state = 'dead' and not exists (
    select from bridge.job where job.kind = 'page' and job.subject = page.id and job.dealt is null))
