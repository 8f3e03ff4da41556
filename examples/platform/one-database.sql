-- An installation that keeps the three services in one database can hold what the services promise each other.

alter table groups.groups add foreign key (owner_id) references identity.users (id);
alter table groups.memberships add foreign key (user_id) references identity.users (id);
alter table geo.sites add foreign key (manager_id) references identity.users (id);
