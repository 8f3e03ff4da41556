-- The platform's geo service: countries, regions and the sites in them.

create schema geo;

create table geo.countries (
    id         uuid primary key default gen_random_uuid(),
    code       char(2) not null unique,
    name       text not null,
    updated_at timestamptz not null default now()
);
create index countries_updated_at on geo.countries (updated_at, id);

create table geo.regions (
    id         uuid primary key default gen_random_uuid(),
    country_id uuid not null references geo.countries (id),
    name       text not null,
    timezone   text not null,
    updated_at timestamptz not null default now(),
    unique (country_id, name)
);
create index regions_updated_at on geo.regions (updated_at, id);

create table geo.sites (
    id         uuid primary key default gen_random_uuid(),
    region_id  uuid not null references geo.regions (id),
    name       text not null,
    -- Longitude, latitude.
    location   point not null check (location[0] between -180 and 180 and location[1] between -90 and 90),
    population bigint,
    manager_id uuid,
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create index sites_region on geo.sites (region_id);
create index sites_updated_at on geo.sites (updated_at, id);

-- This team wanted the moment of the statement, not of the transaction.
create function geo.touch() returns trigger language plpgsql as $$
begin
    new.updated_at := clock_timestamp();
    return new;
end $$;
create trigger touch before update on geo.sites for each row execute function geo.touch();
