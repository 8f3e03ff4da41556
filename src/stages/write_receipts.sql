-- A receipt only ever grows: one that returns no row was made void, or given, for this revision or a later one. A void receipt keeps
-- what is known of the row and its last write.
insert into sync_bridge.receipt as r (
  entity_id, platform_key, legacy_key, generation, rev, done, stamp_written, stamp_before, row_hash
)
select $1, v.*
from unnest(
  $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::boolean[], $7::timestamptz[], $8::timestamptz[], $9::bigint[]
) as v (platform_key, legacy_key, generation, rev, done, stamp_written, stamp_before, row_hash)
order by v.platform_key collate "C"
on conflict (entity_id, platform_key) do update
set legacy_key = coalesce(excluded.legacy_key, r.legacy_key),
    generation = excluded.generation,
    rev = excluded.rev,
    done = excluded.done,
    stamp_written = coalesce(excluded.stamp_written, r.stamp_written),
    stamp_before = case when excluded.stamp_written is null then r.stamp_before else excluded.stamp_before end,
    row_hash = coalesce(excluded.row_hash, r.row_hash)
where r.rev < excluded.rev
returning r.platform_key
