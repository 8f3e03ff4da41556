-- What an operator asked for goes before what a schedule asked for.
alter table bridge.job add column priority smallint not null default 0 check (priority in (0, 1));
