-- Workers that work for certain customers alone: each pool has queues of its own, `sync-bridge.page@large`.
-- Pools that there are or were: rows of the last deliveries may lie in their queues.
create table bridge.pool (
    name text primary key check (name ~ '^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$')
);

-- Who is in one, as the scheduler's configuration has it.
create table bridge.pool_member (
    customer text primary key,
    pool text not null references bridge.pool,
    since timestamptz not null default now()
);

-- Into whose queue a job was delivered last; null: into that of no pool.
alter table bridge.job add column pool text;

-- As `workers_wanted`, of the workers of a pool; without a name: of those of none.
create function bridge.pool_workers_wanted(pool text default null) returns integer
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select case
        when pool_workers_wanted.pool is null then
            bridge.workers_wanted(leave_out => array(select member.customer from bridge.pool_member as member))
        else bridge.workers_wanted(customers => array(
            select member.customer from bridge.pool_member as member where member.pool = pool_workers_wanted.pool))
    end
$$;

-- Nobody's but those it is granted to: docs/DEPLOY.md has the role.
revoke all on function bridge.pool_workers_wanted(text) from public;

-- Who could ask how many workers are wanted can ask it of a pool.
do $$
declare
    scaler record;
begin
    for scaler in
        select distinct role.rolname from pg_proc as asked
        cross join lateral aclexplode(asked.proacl) as granted
        join pg_roles as role on role.oid = granted.grantee
        where asked.pronamespace = 'bridge'::regnamespace and asked.proname = 'workers_wanted' and granted.grantee <> asked.proowner
    loop
        execute format('grant execute on function bridge.pool_workers_wanted(text) to %I', scaler.rolname);
    end loop;
end
$$;
