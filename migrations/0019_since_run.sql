-- A worker of the release before compares tables in one go, and knows no column that says so. Goes with the release after.
create function bridge.swept_since_run() returns trigger language plpgsql as $$
begin
    if new.since_run is null or tg_op = 'UPDATE' and new.run <> old.run and new.since_run = old.since_run then
        new.since_run := new.run;
        new.in_slices := false;
    end if;
    return new;
end
$$;
create trigger since_run before insert or update on bridge.swept for each row execute function bridge.swept_since_run();
