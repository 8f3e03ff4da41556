-- Whose it was, of what concerns several customers at once: dead letters that were chosen by id, or all there are.
alter table bridge.action add column customers text[] not null default '{}';
create index action_customers on bridge.action using gin (customers);
