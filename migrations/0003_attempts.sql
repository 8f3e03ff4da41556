-- What became of claims that did not end `done`, the newest of each job. Goes with its job.
create table bridge.attempt (
    id bigint generated always as identity primary key,
    job bigint not null references bridge.job (id) on delete cascade,
    number integer not null check (number >= 0),
    worker text not null,
    claimed_at timestamptz not null,
    ended_at timestamptz not null default now(),
    ending text not null check (ending in ('failed', 'outage', 'handed back', 'lease expired', 'dead')),
    error_kind text not null,
    error text not null,
    next_run_at timestamptz,
    check ((ending = 'dead') = (next_run_at is null))
);
create index attempt_job on bridge.attempt (job, id);

-- A dead letter may be dealt with in other ways than by bringing it back. `requeued_at` says when it was, whatever the way,
-- so that a program of the release before counts alike; without `dealt` it was such a program that brought it back.
alter table bridge.job add column dealt text check (dealt in ('requeued', 'discarded', 'repeated', 'overtaken'));
alter table bridge.job add constraint job_dealt_at check (dealt is null or requeued_at is not null);
-- A tick or stage that dies again for as long as its dead letter waits makes no other one.
alter table bridge.job add column repeats integer not null default 0 check (repeats >= 0);
alter table bridge.job add column repeated_at timestamptz;
alter table bridge.job add constraint job_repeated_at check ((repeats = 0) = (repeated_at is null));
-- A discarded page's rows are the next sweep's.
create index job_discarded on bridge.job (customer, requeued_at) where dealt = 'discarded' and kind = 'page';

-- Also who discarded a dead letter, and why.
alter table bridge.requeue add column action text not null default 'requeue' check (action in ('requeue', 'discard'));
