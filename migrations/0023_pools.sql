-- Workers that work for certain customers alone: each pool has queues of its own, `sync-bridge.page@large`.
-- Pools that there are or were: rows of the last deliveries may lie in their queues.
create table bridge.pool (
    name text primary key check (name ~ '^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$')
);

-- Who is in one, as the scheduler's configuration has it.
create table bridge.pool_member (
    customer text primary key,
    pool text not null references bridge.pool,
    since timestamptz not null default now()
);

-- Into whose queue a job was delivered last; null: into that of no pool.
alter table bridge.job add column pool text;
