-- Under which mapping the rows of an entity were looked at; its fields by the fingerprints of their lenses, in order.
create table bridge.mapping (
    customer text not null,
    entity text not null,
    -- Under which every pair was compared: what the watermarks stand for. Rather too few than too many.
    fields bigint[] not null default '{}',
    -- What the file says, as the last tick knew it.
    target bigint[] not null,
    -- counting: the whole table is to be read; equal values are agreed on, different ones counted, and wait.
    -- waiting: these are too many, for an operator to accept.
    -- covering: the whole table is to be read, and different values are decided.
    -- settled: that is done.
    state text not null check (state in ('counting', 'waiting', 'covering', 'settled')),
    -- The pages of this reading are recorded.
    cut boolean not null default false,
    rows_read bigint not null default 0,
    rows_different bigint not null default 0,
    -- The mapping that an operator accepted, whatever it touches.
    accepted bigint[],
    -- The tables' mapped columns with their types as they were last seen to fit, to say what is different when they do not.
    tables jsonb not null default '{}',
    since timestamptz not null default now(),
    primary key (customer, entity),
    check (state <> 'settled' or fields = target),
    check (not cut or state in ('counting', 'covering'))
);

-- Who accepted which mapping, and what was known of it then.
create table bridge.acceptance (
    id bigint generated always as identity primary key,
    customer text not null,
    entity text not null,
    target bigint[] not null,
    state text not null,
    rows_read bigint not null,
    rows_different bigint not null,
    who text not null,
    at timestamptz not null default now()
);

-- The bridge's own pause of an entity whose tables do not fit its mapping: it ends by itself once they do.
alter table bridge.pause add column halted boolean not null default false;
