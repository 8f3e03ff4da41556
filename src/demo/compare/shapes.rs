//! How each entity reads on either side, written by hand so that the comparison owes nothing to the bridge's mapping.

/// An entity as two statements that answer a key and the same fields in the same order, as text.
pub(super) struct Shape {
    pub entity: &'static str,
    pub service: Service,
    pub legacy: &'static str,
    pub platform: &'static str,
    pub fields: &'static [Field],
    /// Positions of the fields that tell records apart by what they are; all of them where nothing else does.
    pub natural: &'static [usize],
}

/// In which of the platform's services an entity lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Identity,
    Groups,
    Geo,
}

pub(super) struct Field {
    pub name: &'static str,
    /// The field is the key of a record of this entity.
    pub refers_to: Option<&'static str>,
}

const fn plain(name: &'static str) -> Field {
    Field { name, refers_to: None }
}

const fn key_of(name: &'static str, entity: &'static str) -> Field {
    Field { name, refers_to: Some(entity) }
}

/// Referenced entities first.
pub(super) const SHAPES: [Shape; 7] = [
    Shape {
        entity: "user",
        service: Service::Identity,
        legacy: "select id::text, array[lower(btrim(email_addr)), first_name || ' ' || last_name, \
                 case active when 'Y' then 'active' when 'N' then 'suspended' end, (ext = 'Y')::text, cost_ctr, \
                 (deleted = 'Y')::text] from users order by id",
        platform: "select id::text, array[email, display_name, status::text, is_external::text, cost_center, \
                   (deleted_at is not null)::text] from identity.users order by id",
        fields: &[plain("email"), plain("name"), plain("status"), plain("external"), plain("cost"), plain("deleted")],
        natural: &[0],
    },
    Shape {
        entity: "profile",
        service: Service::Identity,
        legacy: "select id::text, array[id::text, phone, birth_dt::text, \
                 to_date(nullif(hire_d, ''), 'YYYYMMDD')::text, \
                 case when newsl in ('Y', 'J') then 'newsletter' when newsl = 'N' then 'none' end, street, zip, city, ctry, \
                 nullif(lang, ''), pg_len::text] from users order by id",
        platform: "select id::text, array[user_id::text, phone, birth_date::text, hired_on::text, contact::text, \
                   address ->> 'street', address ->> 'zip', address ->> 'city', address ->> 'country', \
                   settings ->> 'locale', settings #>> '{lists,page_size}'] from identity.profiles order by id",
        fields: &[
            key_of("user", "user"),
            plain("phone"),
            plain("born"),
            plain("hired"),
            plain("contact"),
            plain("address.street"),
            plain("address.zip"),
            plain("address.city"),
            plain("address.country"),
            plain("locale"),
            plain("lines"),
        ],
        natural: &[0],
    },
    Shape {
        entity: "group",
        service: Service::Groups,
        legacy: "select id::text, array[par_id::text, code, descr, \
                 case typ when 'D' then 'department' when 'T' then 'team' when 'P' then 'project' end, resp_id::text, \
                 (bud_ct / 100.0)::numeric(20, 2)::text, valid_s::text, (del = 'Y')::text] from grps order by id",
        platform: "select id::text, array[parent_id::text, code, name, kind::text, owner_id::text, budget::text, \
                   floor(extract(epoch from expires_at))::bigint::text, (archived_at is not null)::text] \
                   from groups.groups order by id",
        fields: &[
            key_of("parent", "group"),
            plain("code"),
            plain("name"),
            plain("kind"),
            key_of("owner", "user"),
            plain("budget"),
            plain("expires"),
            plain("deleted"),
        ],
        natural: &[1],
    },
    Shape {
        entity: "membership",
        service: Service::Groups,
        legacy: "select grp_id || chr(31) || usr_id, array[grp_id::text, usr_id::text, \
                 case role when 'M' then 'member' when 'A' then 'admin' when 'O' then 'owner' end, since::text, \
                 (act = 'N')::text] from grp_usr order by grp_id, usr_id",
        platform: "select group_id || chr(31) || user_id, array[group_id::text, user_id::text, role::text, \
                   (joined_at at time zone 'UTC')::date::text, (deleted_at is not null)::text] from groups.memberships order by group_id, user_id",
        fields: &[key_of("group", "group"), key_of("user", "user"), plain("role"), plain("since"), plain("deleted")],
        natural: &[0, 1],
    },
    Shape {
        entity: "country",
        service: Service::Geo,
        legacy: "select code::text, array[code::text, descr] from country order by code",
        platform: "select id::text, array[code::text, name] from geo.countries order by id",
        fields: &[plain("code"), plain("name")],
        natural: &[0],
    },
    Shape {
        entity: "region",
        service: Service::Geo,
        legacy: "select id::text, array[country::text, descr, tz] from region order by id",
        platform: "select id::text, array[country_id::text, name, timezone] from geo.regions order by id",
        fields: &[key_of("country", "country"), plain("name"), plain("timezone")],
        natural: &[0, 1],
    },
    Shape {
        entity: "site",
        service: Service::Geo,
        legacy: "select id::text, array[reg_id::text, descr, lon::float8 || ' ' || lat::float8, inhab::text, \
                 nullif(mgr_id, 0)::text, (closed is not null)::text] from sites order by id",
        platform: "select id::text, array[region_id::text, name, location[0] || ' ' || location[1], population::text, \
                   manager_id::text, (deleted_at is not null)::text] from geo.sites order by id",
        fields: &[
            key_of("region", "region"),
            plain("name"),
            plain("location"),
            plain("population"),
            key_of("manager", "user"),
            plain("deleted"),
        ],
        natural: &[0, 1, 2, 3, 4, 5],
    },
];
