-- A tick that was made while this database's clock was ahead keeps no later one of its customer back.
alter table bridge.tick
    drop constraint tick_origin_check,
    add constraint tick_origin_check check (origin in ('schedule', 'operator', 'ahead'));
