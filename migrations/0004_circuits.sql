-- A database of a customer that does not answer: its circuit is open, and jobs that need it wait here instead of trying.
create table bridge.circuit (
    -- As it may be shown: host, port and name.
    database text primary key,
    since timestamptz not null default now(),
    error text not null,
    -- How often it was asked in vain, and when it is asked next. One worker at a time asks: who moves `probe_at`.
    probes integer not null default 0 check (probes >= 0),
    probe_at timestamptz not null
);
-- What the job waits for; such a job has no delivery under way.
alter table bridge.job add column waits_for text;
-- Since when databases that are away hold the job up.
alter table bridge.job add column away_since timestamptz;
create index job_waits on bridge.job (waits_for, id) where waits_for is not null;
