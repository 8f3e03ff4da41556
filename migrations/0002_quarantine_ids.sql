-- A quarantined row gets a number that a person can type; its key may be long.
alter table bridge.quarantine add column id bigint generated always as identity;
create unique index quarantine_id on bridge.quarantine (id);
