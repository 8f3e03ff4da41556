-- The platform's identity service: accounts and what people say about themselves.

create schema identity;

create type identity.user_status as enum ('active', 'suspended');
create type identity.contact_preference as enum ('newsletter', 'none');

create table identity.users (
    id           uuid primary key default gen_random_uuid(),
    email        text not null unique check (email = lower(email)),
    display_name text not null check (display_name <> ''),
    status       identity.user_status not null default 'active',
    is_external  boolean not null default false,
    -- For reports. Payroll lives in the backoffice, so nobody here edits it.
    cost_center  text,
    -- How the account came to be.
    source       text not null default 'signup' check (source in ('signup', 'backoffice')),
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    deleted_at   timestamptz
);
create index users_updated_at on identity.users (updated_at, id);

-- Every change of an account is stamped by the database, whoever makes it.
create function identity.touch() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end $$;
create trigger touch before update on identity.users for each row execute function identity.touch();

-- One profile per account. The service stamps it itself.
create table identity.profiles (
    id         uuid primary key default gen_random_uuid(),
    user_id    uuid not null unique references identity.users (id),
    phone      text,
    birth_date date,
    hired_on   date,
    contact    identity.contact_preference not null default 'none',
    address    jsonb not null default '{"street": "", "zip": "", "city": "", "country": ""}'
               check (jsonb_typeof(address) = 'object'),
    -- {"locale": "de", "theme": "dark", "lists": {"page_size": 50}}: what the clients of the service keep, each its own.
    settings   jsonb not null default '{}' check (jsonb_typeof(settings) = 'object'),
    updated_at timestamptz not null default now()
);
create index profiles_updated_at on identity.profiles (updated_at, id);
