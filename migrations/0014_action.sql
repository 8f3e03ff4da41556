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

-- What is settled of a difference is found by either key, however many there are.
create index difference_legacy on bridge.difference (customer, entity, legacy_key) where legacy_key is not null;
create index difference_platform on bridge.difference (customer, entity, platform_key) where platform_key is not null;

-- More rows are gone than were named; and an operator said that those may be, too, until a look names all that is gone.
alter table bridge.swept
    add column more_missing boolean not null default false,
    add column accepts_more boolean not null default false;
