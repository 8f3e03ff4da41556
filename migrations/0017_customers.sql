-- Customers that are kept here, where the configuration file says `customers = "table"`.
create table bridge.customer (
    id text primary key,
    -- Its `[[customers]]` as a file has it: the names of environment variables, never what they hold.
    definition text not null,
    -- removed: it is not worked for, and what is known of it stays; purging: that is being taken away, too.
    state text not null default 'enabled' check (state in ('enabled', 'disabled', 'removed', 'purging')),
    -- Of all of them, when this one was changed last.
    version bigint not null,
    who text not null,
    reason text not null,
    changed_at timestamptz not null default now()
);
create index customer_version on bridge.customer (version);

-- Counts their changes. One row, so that they are made one after the other, and whoever looks for news reads it alone.
alter table bridge.meta add column customers_version bigint not null default 0;
