-- The service that knows what there is to lend; its database knows nothing of the other's.
create schema stock;
create type stock.condition as enum ('new', 'fair', 'worn');

create table stock."Subject Heading" (
    id           uuid        primary key,
    notation     text        not null unique,
    parent       uuid        references stock."Subject Heading",
    label        text        not null,
    "order"      integer,
    "updated at" timestamptz not null default now()
);
create index on stock."Subject Heading" ("updated at", id);

create table stock.titles (
    id         uuid        primary key,
    name       text        not null,
    isbn       text        unique,
    subject_id uuid        references stock."Subject Heading",
    published  date,
    price      numeric(10, 2),
    weight     numeric,
    height     double precision,
    imprint    json,
    cover      bytea,
    languages  text[],
    extra      jsonb,
    grace      interval,
    popularity integer,
    rating     numeric(3, 1),
    origin     text        not null check (origin in ('library', 'web')),
    removed_at timestamptz,
    updated_at timestamptz not null default now()
);
create index on stock.titles (updated_at, id);

create table stock.copies (
    title_id   uuid        not null references stock.titles,
    suffix     text        not null,
    branch     text        not null,
    shelf      point,
    condition  stock.condition not null,
    acquired   timestamptz,
    withdrawn  boolean     not null default false,
    updated_at timestamptz not null default now(),
    primary key (title_id, suffix)
);
create index on stock.copies (updated_at, title_id, suffix);

-- What is known of a copy beside itself: not of every one.
create table stock."copy.notes" (
    "of title" uuid        not null,
    "of copy"  text        not null,
    seen_at    timestamptz,
    remark     text,
    "order"    timestamptz not null default now(),
    primary key ("of copy", "of title"),
    foreign key ("of title", "of copy") references stock.copies
);
create index on stock."copy.notes" ("order", "of title", "of copy");

create table stock.loans (
    id         uuid        primary key,
    member_id  uuid,
    title_id   uuid        not null,
    suffix     text        not null,
    lent_at    timestamptz not null,
    due        date        not null,
    "user"     text,
    fee_cents  integer,
    returned   boolean,
    updated_at timestamptz not null default now(),
    foreign key (title_id, suffix) references stock.copies
);
create index on stock.loans (updated_at, id);
