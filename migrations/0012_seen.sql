-- Which rows of its table a side's watermark stands for, by table, scope and `where`: rows that came into sight since are read like those
-- of a first load. None: of an older binary, and counts as what the file says when it is met.
alter table bridge.watermark add column seen bigint;
