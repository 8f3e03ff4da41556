-- Who stopped what: a whole customer (`entity` null) or one entity; all of it (`toward` null) or only writes to one side.
create table bridge.pause (
    id bigint generated always as identity primary key,
    customer text not null,
    entity text,
    toward text check (toward in ('legacy', 'platform')),
    who text not null,
    reason text not null,
    since timestamptz not null default now()
);
create unique index pause_once on bridge.pause (customer, coalesce(entity, ''), coalesce(toward, ''));

-- A row that would be written on a paused side (`waits_side`) waits until that is over.
alter table bridge.parked
    drop constraint parked_reason_check,
    drop constraint parked_check1,
    add constraint parked_reason_check check (reason in ('parent', 'busy', 'paused')),
    add constraint parked_waits_check check (
        (waits_key is null) = (waits_entity is null) and (waits_side is null) = (reason = 'busy'));

-- The parked rows that are due. What is paused is as soon as nothing pauses it any more: nobody has to wake it.
create view bridge.due as
select customer, entity, side, key, reason, run
from bridge.parked
where woken
  and not exists (
      select from bridge.pause
      where pause.customer = parked.customer and (pause.entity is null or pause.entity = parked.entity)
        and (pause.toward is null or parked.reason = 'paused' and pause.toward = parked.waits_side));
