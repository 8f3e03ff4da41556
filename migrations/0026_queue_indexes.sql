-- A worker's name is on every row that it finished in the last minutes. With an index on it the planner, whose statistics are of another
-- moment, read all of these for each acknowledgement, though the rows are named by key. What is asked for by name is what a worker holds.
drop index if exists apalis.idx_apalis_jobs_lock_by;
drop index if exists apalis.lidx;
create index if not exists bridge_held on apalis.jobs (lock_by) where status in ('Queued', 'Running');
