-- What a page did to records, by kind, so that it can be held against what `plan` foresaw. What was written and not made is an update.
alter table bridge.page
    add column creates_to_platform bigint not null default 0,
    add column creates_to_legacy bigint not null default 0,
    add column adopted bigint not null default 0,
    add column recorded bigint not null default 0,
    add column listed bigint not null default 0;
