-- The bridge's own tables: the truth about the work. No values of anybody's rows: ids, keys, stamps, counts and reasons.
-- Runs after apalis' own migrations, in one transaction.

-- A tick: the scheduled (or asked for) start of one customer's run at one instant of this database's clock.
create table bridge.tick (
    id bigint generated always as identity primary key,
    customer text not null,
    at timestamptz not null,
    origin text not null check (origin in ('schedule', 'operator')),
    state text not null default 'queued' check (state in ('queued', 'skipped', 'idle', 'opened', 'dead')),
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    check ((state = 'queued') = (ended_at is null)),
    check (origin = 'operator' or at = date_trunc('second', at))
);
-- Two schedulers make one tick.
create unique index tick_instant on bridge.tick (customer, at) where origin = 'schedule';
-- However long nobody worked, one tick of a customer waits.
create unique index tick_queued on bridge.tick (customer) where state = 'queued';
create index tick_latest on bridge.tick (customer, id);
create index tick_ended on bridge.tick (ended_at) where ended_at is not null;

-- A run: one pass over the stages of one customer.
create table bridge.run (
    id bigint generated always as identity primary key,
    customer text not null,
    tick bigint not null unique references bridge.tick (id),
    state text not null default 'open' check (state in ('open', 'done', 'degraded')),
    -- Whether some entity's side was read for the first time.
    first_load boolean not null,
    -- Whether its reconciliation compares whole tables.
    sweep boolean not null,
    opened_at timestamptz not null default now(),
    ended_at timestamptz,
    check ((state = 'open') = (ended_at is null)),
    check (not (sweep and first_load))
);
create unique index run_open on bridge.run (customer) where state = 'open';
create index run_latest on bridge.run (customer, id);
create index run_ended on bridge.run (ended_at) where ended_at is not null;

-- A stage of a run. `pages_left` is the barrier: the page that takes it to 0 closes the stage.
create table bridge.stage (
    id bigint generated always as identity primary key,
    run bigint not null references bridge.run (id) on delete cascade,
    customer text not null,
    position integer not null check (position >= 0),
    name text not null,
    state text not null default 'queued' check (state in ('queued', 'open', 'closed', 'dead')),
    pages_left integer not null default 0 check (pages_left >= 0),
    round integer not null default 0 check (round >= 0),
    -- Whether a page of this round made a pair: then what was parked in it is worth another look.
    round_paired boolean not null default false,
    created_at timestamptz not null default now(),
    opened_at timestamptz,
    ended_at timestamptz,
    unique (run, position),
    check ((state in ('closed', 'dead')) = (ended_at is not null)),
    check (state <> 'open' or opened_at is not null),
    check (state = 'open' or pages_left = 0)
);

-- What a stage's entities' watermarks become when it closes.
create table bridge.proposal (
    stage bigint not null references bridge.stage (id) on delete cascade,
    entity text not null,
    side text not null check (side in ('legacy', 'platform')),
    horizon timestamptz not null,
    held_by text,
    held_secs double precision not null default 0,
    debt timestamptz,
    signature jsonb not null,
    primary key (stage, entity, side)
);

-- A page: a bounded slice of one entity on one side. Without a stage it is a re-queued one that waits for the next run.
create table bridge.page (
    id bigint generated always as identity primary key,
    customer text not null,
    stage_name text not null,
    stage bigint references bridge.stage (id) on delete cascade,
    run bigint references bridge.run (id) on delete cascade,
    entity text not null,
    side text not null check (side in ('legacy', 'platform')),
    mode text not null check (mode in ('sync', 'compare')),
    range jsonb not null,
    rows_cut bigint not null check (rows_cut >= 0),
    round integer not null default 0,
    generation integer not null default 1 check (generation >= 1),
    requeue_of bigint unique references bridge.page (id) on delete set null,
    state text not null default 'waiting' check (state in ('waiting', 'released', 'done', 'dead')),
    rows_read bigint not null default 0,
    rows_to_platform bigint not null default 0,
    rows_to_legacy bigint not null default 0,
    rows_unchanged bigint not null default 0,
    conflicts bigint not null default 0,
    parked bigint not null default 0,
    quarantined bigint not null default 0,
    differences bigint not null default 0,
    freshness_secs real[] not null default '{}' check (cardinality(freshness_secs) <= 20),
    created_at timestamptz not null default now(),
    released_at timestamptz,
    ended_at timestamptz,
    check ((stage is null) = (run is null)),
    check (stage is not null or state = 'waiting'),
    check ((state = 'waiting') = (released_at is null)),
    check ((state in ('done', 'dead')) = (ended_at is not null))
);
create index page_waiting on bridge.page (stage, id) where state = 'waiting';
create index page_released on bridge.page (stage) where state = 'released';
create index page_unattached on bridge.page (customer, stage_name, id) where stage is null;
create index page_run on bridge.page (run);
create index page_stage on bridge.page (stage);

-- A delivery: one row per tick, stage and released page; apalis only carries its id. `attempt` counts claims.
create table bridge.job (
    id bigint generated always as identity primary key,
    kind text not null check (kind in ('tick', 'stage', 'page')),
    customer text not null,
    subject bigint not null,
    state text not null default 'ready' check (state in ('ready', 'claimed', 'done', 'dead')),
    attempt integer not null default 0 check (attempt >= 0),
    -- Outages in a row; they spend no attempt.
    outages integer not null default 0 check (outages >= 0),
    delivery integer not null default 1 check (delivery >= 1),
    -- Whole seconds, as the queue keeps them: a delivery must not arrive before the ledger lets it be claimed.
    run_at timestamptz not null check (run_at = date_trunc('second', run_at)),
    token uuid,
    lease_until timestamptz,
    claimed_by text,
    claimed_at timestamptz,
    last_error text,
    error_kind text,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    requeued_at timestamptz,
    unique (kind, subject),
    check ((state = 'claimed') = (token is not null)),
    check ((state = 'claimed') = (lease_until is not null)),
    check (state <> 'claimed' or (claimed_by is not null and claimed_at is not null)),
    check ((state in ('done', 'dead')) = (ended_at is not null)),
    check (state <> 'dead' or (last_error is not null and error_kind is not null)),
    check (requeued_at is null or state = 'dead')
);
create index job_lease on bridge.job (lease_until) where state = 'claimed';
create index job_ready on bridge.job (run_at, id) where state = 'ready';
create index job_ended on bridge.job (ended_at) where ended_at is not null;
create index job_dead on bridge.job (customer, id) where state = 'dead' and requeued_at is null;

-- Per entity and side: up to where changes are surely done, and what the last run saw above that.
create table bridge.watermark (
    customer text not null,
    entity text not null,
    side text not null check (side in ('legacy', 'platform')),
    watermark timestamptz not null,
    signature jsonb not null,
    -- Who holds the horizon back, and how old the oldest change is that may still appear.
    held_by text,
    held_secs double precision not null default 0,
    -- Changes stamped after this may still appear although the watermark has passed them.
    debt timestamptz,
    -- The last moment at which everything stamped up to then was known to be done.
    settled_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (customer, entity, side)
);

-- Rows that wait.
create table bridge.parked (
    customer text not null,
    entity text not null,
    side text not null check (side in ('legacy', 'platform')),
    key text not null,
    reason text not null check (reason in ('parent', 'busy')),
    waits_entity text,
    waits_side text check (waits_side in ('legacy', 'platform')),
    waits_key text,
    -- What it waited for is there: due again.
    woken boolean not null,
    -- Where it was seen last. No reference: it outlives the run.
    run bigint not null,
    stage bigint not null,
    round integer not null,
    since timestamptz not null default now(),
    seen_at timestamptz not null default now(),
    primary key (customer, entity, side, key),
    check ((reason = 'parent') = (waits_key is not null)),
    check ((waits_key is null) = (waits_entity is null) and (waits_key is null) = (waits_side is null))
);
create index parked_waits on bridge.parked (customer, waits_entity, waits_side, waits_key) where waits_key is not null;
create index parked_woken on bridge.parked (customer, entity) where woken;
create index parked_stage on bridge.parked (stage, round);

-- Rows that cannot be written as they are.
create table bridge.quarantine (
    customer text not null,
    entity text not null,
    side text not null check (side in ('legacy', 'platform')),
    key text not null,
    field text,
    reason text not null,
    page bigint not null,
    since timestamptz not null default now(),
    seen_at timestamptz not null default now(),
    primary key (customer, entity, side, key)
);

-- What the last closed comparison of whole tables found (and the one under way is finding).
create table bridge.difference (
    id bigint generated always as identity primary key,
    customer text not null,
    run bigint not null,
    entity text not null,
    legacy_key text,
    platform_key text,
    kind text not null,
    fields text[] not null,
    found_at timestamptz not null default now(),
    check (legacy_key is not null or platform_key is not null)
);
create index difference_customer on bridge.difference (customer, run);

-- Who brought a dead letter back, when and why.
create table bridge.requeue (
    id bigint generated always as identity primary key,
    job bigint not null,
    kind text not null,
    customer text not null,
    who text not null,
    reason text not null,
    at timestamptz not null default now()
);
create index requeue_job on bridge.requeue (job);

-- Deliveries that were none of ours: their payload or their row made no sense.
create table bridge.refused (
    id bigint generated always as identity primary key,
    queue text not null,
    task text not null,
    problem text not null,
    at timestamptz not null default now()
);
create index refused_at on bridge.refused (at);

-- Apalis never removes what it finished; we do, and need to find it without reading the whole table.
create index if not exists bridge_finished on apalis.jobs (done_at) where status in ('Done', 'Failed', 'Killed');
-- A queue's rows live for seconds: vacuum by count, not by share of a table that is sometimes large.
alter table apalis.jobs set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 2000, fillfactor = 80);
alter table bridge.job set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, fillfactor = 80);
