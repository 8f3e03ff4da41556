-- A backoffice as it grew over twenty years: one database, short names, Y/N flags, one wide table for everything about a
-- person, and as many ways to stamp a change as there were developers. It is an example of a legacy side; sync-bridge
-- reads and writes it but never changes its tables.
--
-- The server in the cellar is on local time, and so is every session of it.
do $$ begin execute format('alter database %I set timezone to %L', current_database(), 'Europe/Berlin'); end $$;
set time zone 'Europe/Berlin';

-- ---------------------------------------------------------------------------------------------------------- people

create sequence users_seq;

-- Account, phone book, address and payroll in one row. The application stamps last_update itself, in local time.
create table users (
    id          integer      primary key default nextval('users_seq'),
    email_addr  varchar(120) not null,
    first_name  varchar(60)  not null,
    last_name   varchar(80)  not null,
    active      char(1)      not null default 'Y' check (active in ('Y', 'N')),
    ext         char(1)      not null default 'N' check (ext in ('Y', 'N')),     -- works here, is employed elsewhere
    deleted     char(1)      not null default 'N' check (deleted in ('Y', 'N')),
    phone       varchar(40),
    birth_dt    date,
    hire_d      varchar(8)   not null default '' check (hire_d ~ '^([0-9]{8})?$'),   -- YYYYMMDD; empty: nobody knows
    newsl       char(1)      not null default 'N' check (newsl in ('Y', 'J', 'N')),  -- J is from the German years
    lang        varchar(5)   not null default '',
    pg_len      smallint,                                                        -- lines to a page of a list
    street      varchar(120) not null default '',
    zip         varchar(12)  not null default '',
    city        varchar(80)  not null default '',
    ctry        varchar(2)   not null default '',
    pw_md5      char(32),
    cost_ctr    varchar(10)  not null default '0000',
    remarks     text,
    last_login  timestamp without time zone,
    created     timestamp without time zone not null default localtimestamp,
    last_update timestamp without time zone not null default localtimestamp
);
alter sequence users_seq owned by users.id;
-- Added after the second "Anna.Berg@ and anna.berg@" incident.
create unique index users_email on users (lower(email_addr));
create index users_upd on users (last_update, id);

-- ---------------------------------------------------------------------------------------------------------- groups

create sequence grps_seq;

create table grps (
    id      integer      primary key default nextval('grps_seq'),
    par_id  integer      references grps (id),
    code    varchar(20)  not null unique,
    descr   varchar(100) not null,
    typ     char(1)      not null default 'T' check (typ in ('D', 'T', 'P')),   -- department, team, project
    resp_id integer      references users (id),
    bud_ct  bigint       not null default 0,                                     -- cents
    valid_s integer,                                                             -- seconds since 1970, as the first intern left it
    del     char(1)      not null default 'N' check (del in ('Y', 'N')),
    chg_ts  timestamp with time zone not null default now()
);
alter sequence grps_seq owned by grps.id;
create index grps_par on grps (par_id);
create index grps_chg on grps (chg_ts, id);

-- Somebody had read about triggers.
create function trg_chg_ts() returns trigger language plpgsql as $$
begin
    new.chg_ts := now();
    return new;
end $$;
create trigger grps_chg_ts before update on grps for each row execute function trg_chg_ts();

-- Who is in which group. Who leaves is switched off, or removed, as each screen has it; the application stamps the rows.
create table grp_usr (
    grp_id      integer not null references grps (id),
    usr_id      integer not null references users (id),
    role        char(1) not null default 'M' check (role in ('M', 'A', 'O')),   -- member, administrator, owner
    act         char(1) not null default 'Y' check (act in ('Y', 'N')),
    since       date,
    last_update timestamp without time zone not null default localtimestamp,
    primary key (grp_id, usr_id)
);
create index grp_usr_usr on grp_usr (usr_id);
create index grp_usr_upd on grp_usr (last_update, grp_id, usr_id);

-- ---------------------------------------------------------------------------------------------------------- places

create table country (
    code        char(2)     primary key,
    descr       varchar(80) not null,
    last_update timestamp without time zone not null default localtimestamp
);
create index country_upd on country (last_update, code);

create sequence region_seq;

create table region (
    id      integer     primary key default nextval('region_seq'),
    country char(2)     not null references country (code),
    descr   varchar(80) not null,
    tz      varchar(40) not null,
    chg_ts  timestamp with time zone not null default now(),
    unique (country, descr)
);
alter sequence region_seq owned by region.id;
create index region_chg on region (chg_ts, id);

create sequence sites_seq;

-- Premises. A closed one keeps its row; one that was entered by mistake does not.
create table sites (
    id          integer      primary key default nextval('sites_seq'),
    reg_id      integer      not null references region (id),
    descr       varchar(120) not null,
    lat         numeric(9,6) not null,
    lon         numeric(9,6) not null,
    inhab       integer,
    mgr_id      integer      not null default 0,                                 -- 0: nobody
    closed      timestamp without time zone,
    last_update timestamp without time zone not null default localtimestamp
);
alter sequence sites_seq owned by sites.id;
create index sites_reg on sites (reg_id);
create index sites_upd on sites (last_update, id);

-- Copied from the groups module, and adapted.
create function trg_last_update() returns trigger language plpgsql as $$
begin
    new.last_update := localtimestamp;
    return new;
end $$;
create trigger sites_last_update before update on sites for each row execute function trg_last_update();
