-- A table that is too large for one run is compared slice by slice.

-- The run in which a comparison began; it ended in `run`. One in slices is no look at which rows are there.
alter table bridge.swept add column since_run bigint, add column in_slices boolean not null default false;
update bridge.swept set since_run = run;
alter table bridge.swept alter column since_run set not null;

-- How far the slices of an entity's side have come.
create table bridge.walk (
    customer text not null,
    entity text not null,
    side text not null check (side in ('legacy', 'platform')),
    since_run bigint not null,
    began_at timestamptz not null default now(),
    -- The next one begins here, and so much of the table lies before.
    block bigint not null,
    done double precision not null,
    secs double precision not null,
    rows bigint not null,
    pairs bigint not null,
    differing bigint not null,
    primary key (customer, entity, side)
);
