-- The platform's groups service: a tree of groups and who is in them. People are known by the identity service's ids.

create schema groups;

create type groups.group_kind as enum ('department', 'team', 'project');
create type groups.member_role as enum ('member', 'admin', 'owner');

create table groups.groups (
    id          uuid primary key default gen_random_uuid(),
    parent_id   uuid references groups.groups (id),
    code        text not null unique,
    name        text not null,
    kind        groups.group_kind not null default 'team',
    owner_id    uuid,
    budget      numeric(14, 2) not null default 0,
    expires_at  timestamptz,
    archived_at timestamptz,
    updated_at  timestamptz not null default now()
);
create index groups_parent on groups.groups (parent_id);
create index groups_updated_at on groups.groups (updated_at, id);

create table groups.memberships (
    group_id   uuid not null references groups.groups (id),
    user_id    uuid not null,
    role       groups.member_role not null default 'member',
    joined_at  timestamptz,
    deleted_at timestamptz,
    updated_at timestamptz not null default now(),
    primary key (group_id, user_id)
);
create index memberships_user on groups.memberships (user_id);
create index memberships_updated_at on groups.memberships (updated_at, group_id, user_id);

create function groups.touch() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end $$;
create trigger touch before update on groups.memberships for each row execute function groups.touch();
