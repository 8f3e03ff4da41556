-- A first load is a run of its own beside the run that carries changes over: `loading` where that one is `open`, so that
-- whoever asks for a customer's open run, an older worker too, means the one that carries changes.
alter table bridge.run
    drop constraint run_state_check,
    drop constraint run_check,
    add constraint run_state_check check (state in ('open', 'loading', 'done', 'degraded')),
    add constraint run_ended_check check ((state in ('open', 'loading')) = (ended_at is null)),
    add constraint run_loading_check check (state <> 'loading' or first_load);
create unique index run_loading on bridge.run (customer) where state = 'loading';
-- At most two of a customer: what settles in one holds both.
create index stage_open on bridge.stage (customer, id) where state = 'open';

-- Pages of a first load, whoever makes them: whole tables, written.
alter table bridge.page add column loads boolean not null
    generated always as (mode = 'sync' and range ->> 'lane' = 'whole') stored;
create index page_load on bridge.page (customer, entity, side) where loads;
create index page_loading on bridge.page (customer, entity, side) where loads and state in ('waiting', 'released');
