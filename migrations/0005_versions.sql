-- Which binaries may work here. A migration that only adds leaves it alone: older binaries run on beside newer ones for one
-- release. One that takes away what they use raises `min_version` to its own number, a release later.
create table bridge.meta (
    only_row boolean primary key default true check (only_row),
    min_version bigint not null check (min_version >= 1)
);
insert into bridge.meta (min_version) values (1);
