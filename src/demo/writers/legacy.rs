//! The backoffice's users at work.

use rand::RngExt;
use sqlx::{Connection, PgConnection};

use super::super::people::{self, Person};
use super::super::samples::{self, Systems};
use super::{Act, Done, HOT, SITES_SHARE, Tools, Which, edited, hard_deleted, which};

pub(super) struct Application {
    connection: PgConnection,
    tools: Tools,
    users: Vec<i32>,
    hot: Vec<i32>,
    /// May get members and children; never moved.
    teams: Vec<i32>,
    /// Leaves of the tree: moved, archived, renamed.
    projects: Vec<i32>,
    regions: Vec<i32>,
    sites: Vec<i32>,
    deleted: Vec<i32>,
    closed: Vec<i32>,
}

impl Application {
    pub(super) async fn open(systems: &Systems, tools: Tools) -> anyhow::Result<Application> {
        let mut connection = samples::connect_to_legacy(&systems.legacy).await?;
        let at = &mut connection;
        Ok(Application {
            users: sqlx::query_scalar("select id from users where deleted = 'N' order by id")
                .fetch_all(&mut *at)
                .await?,
            hot: sqlx::query_scalar(
                "select id from users where deleted = 'N' order by lower(btrim(email_addr)) collate \"C\" limit $1",
            )
            .bind(HOT)
            .fetch_all(&mut *at)
            .await?,
            teams: sqlx::query_scalar("select id from grps where typ <> 'P' order by id").fetch_all(&mut *at).await?,
            projects: sqlx::query_scalar("select id from grps where typ = 'P' order by id").fetch_all(&mut *at).await?,
            regions: sqlx::query_scalar("select id from region order by id").fetch_all(&mut *at).await?,
            sites: sqlx::query_scalar("select id from sites where closed is null order by id")
                .fetch_all(&mut *at)
                .await?,
            deleted: Vec::new(),
            closed: Vec::new(),
            connection,
            tools,
        })
    }

    async fn user(&mut self) -> sqlx::Result<Option<i32>> {
        match which(&mut self.tools, &self.hot, &self.users) {
            None => Ok(None),
            Some(Which::Known(id)) => Ok(Some(id)),
            Some(Which::Recent(nth)) => {
                sqlx::query_scalar("select id from users order by last_update desc, id desc offset $1 limit 1")
                    .bind(nth)
                    .fetch_optional(&mut self.connection)
                    .await
            }
        }
    }

    async fn edit_user(&mut self) -> sqlx::Result<Done> {
        let Some(id) = self.user().await? else { return Ok(Done::Nothing) };
        let rng = &mut self.tools.rng;
        let statement = match rng.random_range(0..100) {
            0..=19 => sqlx::query("update users set first_name = $2, last_update = localtimestamp where id = $1")
                .bind(id)
                .bind(self.tools.names.given(rng)),
            20..=34 => sqlx::query("update users set last_name = $2, last_update = localtimestamp where id = $1")
                .bind(id)
                .bind(self.tools.names.family(rng)),
            35..=54 => sqlx::query("update users set phone = $2, last_update = localtimestamp where id = $1")
                .bind(id)
                .bind(rng.random_bool(0.9).then(|| people::phone(rng))),
            55..=74 => {
                let address = people::address(rng, &self.tools.cities);
                sqlx::query("update users set street = $2, zip = $3, city = $4, ctry = $5, last_update = localtimestamp where id = $1")
                    .bind(id)
                    .bind(address.street)
                    .bind(address.zip)
                    .bind(address.city)
                    .bind(address.country)
            }
            75..=84 => {
                let tag = self.tools.tag();
                sqlx::query("update users set email_addr = $2, last_update = localtimestamp where id = $1")
                    .bind(id)
                    .bind(format!("New.Address.{tag}@{}", self.tools.domain))
            }
            85..=89 => sqlx::query(
                "update users set active = case active when 'Y' then 'N' else 'Y' end, last_update = localtimestamp where id = $1",
            )
            .bind(id),
            // Payroll, personnel and preferences have a form each.
            90..=92 => sqlx::query(
                "update users set cost_ctr = $2, ext = case ext when 'Y' then 'N' else 'Y' end, last_update = localtimestamp where id = $1",
            )
            .bind(id)
            .bind(format!("{:04}", rng.random_range(0..40) * 100)),
            93..=95 => sqlx::query("update users set hire_d = $2, last_update = localtimestamp where id = $1")
                .bind(id)
                .bind(if rng.random_bool(0.8) { samples::eight_digits(people::hired(rng)) } else { String::new() }),
            96..=97 => sqlx::query("update users set lang = $2, pg_len = $3, last_update = localtimestamp where id = $1")
                .bind(id)
                .bind(if rng.random_bool(0.8) { people::locale(rng) } else { "" })
                .bind(rng.random_bool(0.7).then(|| people::lines(rng))),
            _ => sqlx::query("update users set newsl = $2, last_update = localtimestamp where id = $1")
                .bind(id)
                .bind(self.tools.pick(&["Y", "J", "N"])),
        };
        Ok(edited(statement.execute(&mut self.connection).await?.rows_affected()))
    }

    /// Opening and saving a form without a change stamps the row.
    async fn touch_user(&mut self) -> sqlx::Result<Done> {
        let Some(id) = self.user().await? else { return Ok(Done::Nothing) };
        let touched =
            sqlx::query("update users set last_login = localtimestamp, last_update = localtimestamp where id = $1")
                .bind(id)
                .execute(&mut self.connection)
                .await?;
        Ok(if touched.rows_affected() > 0 { Done::Touched } else { Done::Nothing })
    }

    /// A new person with some memberships, in one transaction.
    async fn hire(&mut self) -> sqlx::Result<Done> {
        let tag = self.tools.tag();
        let tools = &mut self.tools;
        let person = Person::draw(&mut tools.rng, &tools.names, &tools.cities, &tools.domain, &tag);
        let email = person.email_as_typed(&mut tools.rng);
        let mut transaction = self.connection.begin().await?;
        let id: i32 = sqlx::query_scalar(include_str!("../sql/legacy_hire.sql"))
            .bind(email)
            .bind(person.given)
            .bind(person.family)
            .bind(if person.active { "Y" } else { "N" })
            .bind(person.phone)
            .bind(person.born)
            .bind(if person.newsletter { "Y" } else { "N" })
            .bind(person.address.street)
            .bind(person.address.zip)
            .bind(person.address.city)
            .bind(person.address.country)
            .bind(if person.external { "Y" } else { "N" })
            .bind(person.hired.map(samples::eight_digits).unwrap_or_default())
            .bind(person.locale.unwrap_or_default())
            .bind(person.lines)
            .fetch_one(&mut *transaction)
            .await?;
        for _ in 0..self.tools.rng.random_range(0..3) {
            if let Some(group) = self.tools.pick(&self.teams) {
                sqlx::query(
                    "insert into grp_usr (grp_id, usr_id, since) values ($1, $2, current_date) on conflict do nothing",
                )
                .bind(group)
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            }
        }
        transaction.commit().await?;
        self.users.push(id);
        Ok(Done::Created)
    }

    async fn delete_or_restore_user(&mut self) -> sqlx::Result<Done> {
        if self.deleted.len() > 3 && self.tools.chance(0.5) {
            let id = self.deleted.remove(0);
            let restored = sqlx::query(
                "update users set deleted = 'N', last_update = localtimestamp where id = $1 and deleted = 'Y'",
            )
            .bind(id)
            .execute(&mut self.connection)
            .await?;
            return Ok(if restored.rows_affected() > 0 { Done::Undeleted } else { Done::Nothing });
        }
        let Some(id) = self.user().await? else { return Ok(Done::Nothing) };
        let deleted =
            sqlx::query("update users set deleted = 'Y', last_update = localtimestamp where id = $1 and deleted = 'N'")
                .bind(id)
                .execute(&mut self.connection)
                .await?;
        if deleted.rows_affected() == 0 {
            return Ok(Done::Nothing);
        }
        self.deleted.push(id);
        Ok(Done::Deleted)
    }

    async fn edit_membership(&mut self) -> sqlx::Result<Done> {
        let group = if self.tools.chance(0.7) { self.tools.pick(&self.teams) } else { self.tools.pick(&self.projects) };
        let (Some(group), Some(user)) = (group, self.user().await?) else { return Ok(Done::Nothing) };
        if self.tools.chance(0.3) {
            let joined = sqlx::query(include_str!("../sql/legacy_join.sql"))
                .bind(group)
                .bind(user)
                .execute(&mut self.connection)
                .await?;
            return Ok(if joined.rows_affected() > 0 { Done::Created } else { Done::Nothing });
        }
        let statement = if self.tools.chance(0.6) {
            let role = self.tools.pick(&["M", "A", "O"]).unwrap_or("M");
            sqlx::query(include_str!("../sql/legacy_role.sql")).bind(group).bind(role)
        } else {
            sqlx::query(include_str!("../sql/legacy_leave.sql")).bind(group)
        };
        Ok(edited(statement.bind(user).execute(&mut self.connection).await?.rows_affected()))
    }

    async fn edit_group(&mut self) -> sqlx::Result<Done> {
        let (Some(team), Some(project)) = (self.tools.pick(&self.teams), self.tools.pick(&self.projects)) else {
            return Ok(Done::Nothing);
        };
        let tag = self.tools.tag();
        let statement = match self.tools.rng.random_range(0..100) {
            // The trigger stamps.
            0..=19 => sqlx::query("update grps set descr = $2 where id = $1")
                .bind(if self.tools.chance(0.5) { team } else { project })
                .bind(format!("Renamed in the office {tag}")),
            20..=29 => sqlx::query("update grps set bud_ct = bud_ct + $2 where id = $1")
                .bind(team)
                .bind(self.tools.rng.random_range(1..100_000_i64)),
            30..=39 => sqlx::query("update grps set valid_s = extract(epoch from now())::integer + $2 where id = $1")
                .bind(project)
                .bind(self.tools.rng.random_range(0..30_000_000)),
            40..=54 => sqlx::query("update grps set par_id = $2 where id = $1").bind(project).bind(team),
            55..=69 => {
                sqlx::query("update grps set resp_id = $2 where id = $1").bind(team).bind(self.tools.pick(&self.users))
            }
            70..=84 => {
                sqlx::query("update grps set del = case del when 'Y' then 'N' else 'Y' end where id = $1").bind(project)
            }
            _ => {
                let id = sqlx::query_scalar(
                    "insert into grps (par_id, code, descr, typ, resp_id) values ($1, $2, $3, 'P', $4) returning id",
                )
                .bind(team)
                .bind(format!("NP-{tag}").to_uppercase())
                .bind(format!("Project {tag}"))
                .bind(self.tools.pick(&self.users))
                .fetch_one(&mut self.connection)
                .await?;
                self.projects.push(id);
                return Ok(Done::Created);
            }
        };
        Ok(edited(statement.execute(&mut self.connection).await?.rows_affected()))
    }

    async fn edit_site(&mut self) -> sqlx::Result<Done> {
        let tag = self.tools.tag();
        let city = self.tools.city();
        let (latitude, longitude) = (self.tools.nearby(city.latitude, 90.0), self.tools.nearby(city.longitude, 180.0));
        let Some(site) = self.tools.pick(&self.sites) else { return Ok(Done::Nothing) };
        let statement = match self.tools.rng.random_range(0..100) {
            0..=34 => {
                sqlx::query("update sites set descr = $2 where id = $1").bind(site).bind(format!("{} {tag}", city.name))
            }
            35..=44 => sqlx::query("update sites set mgr_id = $2 where id = $1")
                .bind(site)
                .bind(self.tools.pick(&self.users).filter(|_| tag.ends_with(['1', '3', '5', '7'])).unwrap_or(0)),
            45..=59 => sqlx::query("update sites set lat = $2, lon = $3 where id = $1")
                .bind(site)
                .bind(latitude)
                .bind(longitude),
            60..=74 => sqlx::query("update sites set inhab = inhab + $2 where id = $1")
                .bind(site)
                .bind(self.tools.rng.random_range(1..500)),
            75..=84 if self.closed.len() > 2 => {
                let site = self.closed.remove(0);
                let reopened = sqlx::query("update sites set closed = null where id = $1 and closed is not null")
                    .bind(site)
                    .execute(&mut self.connection)
                    .await?;
                return Ok(if reopened.rows_affected() > 0 { Done::Undeleted } else { Done::Nothing });
            }
            75..=89 => {
                let closed = sqlx::query("update sites set closed = localtimestamp where id = $1 and closed is null")
                    .bind(site)
                    .execute(&mut self.connection)
                    .await?;
                if closed.rows_affected() == 0 {
                    return Ok(Done::Nothing);
                }
                self.closed.push(site);
                return Ok(Done::Deleted);
            }
            _ => {
                let id = sqlx::query_scalar(
                    "insert into sites (reg_id, descr, lat, lon) values ($1, $2, $3, $4) returning id",
                )
                .bind(self.tools.pick(&self.regions))
                .bind(format!("Depot {} {tag}", city.name))
                .bind(latitude)
                .bind(longitude)
                .fetch_one(&mut self.connection)
                .await?;
                self.sites.push(id);
                return Ok(Done::Created);
            }
        };
        Ok(edited(statement.execute(&mut self.connection).await?.rows_affected()))
    }
}

impl Act for Application {
    async fn act(&mut self) -> sqlx::Result<Done> {
        match self.tools.rng.random_range(0..100) {
            0..=41 => self.edit_user().await,
            42..=46 => self.touch_user().await,
            47..=54 => self.hire().await,
            55..=61 => self.delete_or_restore_user().await,
            62..=77 => self.edit_membership().await,
            78..=87 => self.edit_group().await,
            _ => self.edit_site().await,
        }
    }

    async fn delete_for_good(&mut self) -> sqlx::Result<Done> {
        let gone = if self.tools.chance(SITES_SHARE) {
            let Some(site) = self.tools.pick(&self.sites) else { return Ok(Done::Nothing) };
            self.sites.retain(|known| *known != site);
            sqlx::query("delete from sites where id = $1").bind(site).execute(&mut self.connection).await?
        } else {
            let Some(group) = self.tools.pick(&self.teams) else { return Ok(Done::Nothing) };
            sqlx::query(include_str!("../sql/legacy_remove.sql")).bind(group).execute(&mut self.connection).await?
        };
        Ok(hard_deleted(gone.rows_affected()))
    }
}
