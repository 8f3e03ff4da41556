-- What was left out as somebody held its tables locked: so that it is told, and no picture takes it for done.
alter table bridge.watermark add column locked_since timestamptz;
alter table bridge.tick add column left_out boolean not null default false;
alter table bridge.run add column left_out boolean not null default false;
