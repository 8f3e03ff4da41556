-- What people did through the console: who, what, to what, why, and how it ended.
create table bridge.action (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    who text not null,
    action text not null,
    customer text,
    subject text not null,
    reason text not null,
    -- None yet: it is under way, or the process ended in it.
    outcome text
);
create index action_at on bridge.action (at);
create index action_customer on bridge.action (customer, id);
