//! The platform's three services at work, each over its own connection.

use rand::RngExt;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::super::people::{self, Person};
use super::super::samples::{self, Systems, address_json, settings_json};
use super::{Act, Done, HOT, SITES_SHARE, Tools, Which, edited, hard_deleted, which};

pub(super) struct Application {
    identity: PgConnection,
    groups: PgConnection,
    geo: PgConnection,
    tools: Tools,
    users: Vec<Uuid>,
    hot: Vec<Uuid>,
    /// May get members and children; never moved.
    teams: Vec<Uuid>,
    /// Leaves of the tree: moved, archived, renamed.
    projects: Vec<Uuid>,
    regions: Vec<Uuid>,
    sites: Vec<Uuid>,
    deleted: Vec<Uuid>,
    closed: Vec<Uuid>,
}

impl Application {
    pub(super) async fn open(systems: &Systems, tools: Tools) -> anyhow::Result<Application> {
        let mut identity = samples::connect(&systems.identity).await?;
        let mut groups = samples::connect(&systems.groups).await?;
        let mut geo = samples::connect(&systems.geo).await?;
        Ok(Application {
            users: sqlx::query_scalar(
                "select id from identity.users where deleted_at is null order by email collate \"C\"",
            )
            .fetch_all(&mut identity)
            .await?,
            hot: sqlx::query_scalar(
                "select id from identity.users where deleted_at is null order by email collate \"C\" limit $1",
            )
            .bind(HOT)
            .fetch_all(&mut identity)
            .await?,
            teams: sqlx::query_scalar(
                "select id from groups.groups where kind <> 'project' order by code collate \"C\"",
            )
            .fetch_all(&mut groups)
            .await?,
            projects: sqlx::query_scalar(
                "select id from groups.groups where kind = 'project' order by code collate \"C\"",
            )
            .fetch_all(&mut groups)
            .await?,
            regions: sqlx::query_scalar("select id from geo.regions order by name collate \"C\", id")
                .fetch_all(&mut geo)
                .await?,
            sites: sqlx::query_scalar(
                "select id from geo.sites where deleted_at is null order by name collate \"C\", id",
            )
            .fetch_all(&mut geo)
            .await?,
            deleted: Vec::new(),
            closed: Vec::new(),
            identity,
            groups,
            geo,
            tools,
        })
    }

    async fn user(&mut self) -> sqlx::Result<Option<Uuid>> {
        match which(&mut self.tools, &self.hot, &self.users) {
            None => Ok(None),
            Some(Which::Known(id)) => Ok(Some(id)),
            Some(Which::Recent(nth)) => {
                sqlx::query_scalar("select id from identity.users order by updated_at desc, id desc offset $1 limit 1")
                    .bind(nth)
                    .fetch_optional(&mut self.identity)
                    .await
            }
        }
    }

    /// The database stamps accounts; a touch is an update without a change.
    async fn edit_account(&mut self) -> sqlx::Result<Done> {
        let Some(id) = self.user().await? else { return Ok(Done::Nothing) };
        let rng = &mut self.tools.rng;
        let statement = match rng.random_range(0..100) {
            0..=54 => sqlx::query("update identity.users set display_name = $2 where id = $1").bind(id).bind(format!(
                "{} {}",
                self.tools.names.given(rng),
                self.tools.names.family(rng)
            )),
            55..=74 => {
                let tag = self.tools.tag();
                sqlx::query("update identity.users set email = $2 where id = $1")
                    .bind(id)
                    .bind(format!("new.address.{tag}@{}", self.tools.domain))
            }
            75..=84 => sqlx::query(include_str!("../sql/platform_status.sql")).bind(id),
            85..=89 => sqlx::query("update identity.users set is_external = not is_external where id = $1").bind(id),
            _ => {
                let touched = sqlx::query("update identity.users set email = email where id = $1")
                    .bind(id)
                    .execute(&mut self.identity)
                    .await?;
                return Ok(if touched.rows_affected() > 0 { Done::Touched } else { Done::Nothing });
            }
        };
        Ok(edited(statement.execute(&mut self.identity).await?.rows_affected()))
    }

    /// The service stamps profiles itself.
    async fn edit_profile(&mut self) -> sqlx::Result<Done> {
        let Some(id) = self.user().await? else { return Ok(Done::Nothing) };
        let rng = &mut self.tools.rng;
        let statement = match rng.random_range(0..100) {
            0..=29 => sqlx::query("update identity.profiles set phone = $2, updated_at = now() where user_id = $1")
                .bind(id)
                .bind(rng.random_bool(0.9).then(|| people::phone(rng))),
            30..=34 => sqlx::query("update identity.profiles set hired_on = $2, updated_at = now() where user_id = $1")
                .bind(id)
                .bind(rng.random_bool(0.8).then(|| people::hired(rng))),
            // One client's member, which the backoffice does not know, and one that it knows.
            35..=44 => sqlx::query(include_str!("../sql/platform_settings.sql"))
                .bind(id)
                .bind(if rng.random_bool(0.5) { "dark" } else { "light" })
                .bind(people::locale(rng)),
            45..=49 => sqlx::query(include_str!("../sql/platform_lines.sql")).bind(id).bind(people::lines(rng)),
            50..=69 => sqlx::query(
                "update identity.profiles set address = address || $2, updated_at = now() where user_id = $1",
            )
            .bind(id)
            .bind(address_json(&people::address(rng, &self.tools.cities))),
            70..=84 => sqlx::query(include_str!("../sql/platform_street.sql"))
                .bind(id)
                .bind(people::address(rng, &self.tools.cities).street),
            _ => sqlx::query(include_str!("../sql/platform_contact.sql")).bind(id),
        };
        Ok(edited(statement.execute(&mut self.identity).await?.rows_affected()))
    }

    /// Account and profile in one transaction, memberships in the other service afterwards.
    async fn sign_up(&mut self) -> sqlx::Result<Done> {
        let tag = self.tools.tag();
        let tools = &mut self.tools;
        let person = Person::draw(&mut tools.rng, &tools.names, &tools.cities, &tools.domain, &tag);
        let mut transaction = self.identity.begin().await?;
        let id: Uuid =
            sqlx::query_scalar("insert into identity.users (email, display_name) values ($1, $2) returning id")
                .bind(&person.email)
                .bind(person.display_name())
                .fetch_one(&mut *transaction)
                .await?;
        let settings = settings_json(&person);
        sqlx::query(include_str!("../sql/platform_profile.sql"))
            .bind(id)
            .bind(person.phone)
            .bind(person.born)
            .bind(if person.newsletter { "newsletter" } else { "none" })
            .bind(address_json(&person.address))
            .bind(person.hired)
            .bind(settings)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.users.push(id);
        for _ in 0..self.tools.rng.random_range(0..3) {
            if let Some(group) = self.tools.pick(&self.teams) {
                sqlx::query(
                    "insert into groups.memberships (group_id, user_id, joined_at) values ($1, $2, now()) on conflict do nothing",
                )
                .bind(group)
                .bind(id)
                .execute(&mut self.groups)
                .await?;
            }
        }
        Ok(Done::Created)
    }

    async fn delete_or_restore_account(&mut self) -> sqlx::Result<Done> {
        if self.deleted.len() > 3 && self.tools.chance(0.5) {
            let id = self.deleted.remove(0);
            let restored =
                sqlx::query("update identity.users set deleted_at = null where id = $1 and deleted_at is not null")
                    .bind(id)
                    .execute(&mut self.identity)
                    .await?;
            return Ok(if restored.rows_affected() > 0 { Done::Undeleted } else { Done::Nothing });
        }
        let Some(id) = self.user().await? else { return Ok(Done::Nothing) };
        let deleted = sqlx::query("update identity.users set deleted_at = now() where id = $1 and deleted_at is null")
            .bind(id)
            .execute(&mut self.identity)
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
            let joined = sqlx::query(include_str!("../sql/platform_join.sql"))
                .bind(group)
                .bind(user)
                .execute(&mut self.groups)
                .await?;
            return Ok(if joined.rows_affected() > 0 { Done::Created } else { Done::Nothing });
        }
        let statement = if self.tools.chance(0.6) {
            let role = self.tools.pick(&["member", "admin", "owner"]).unwrap_or("member");
            sqlx::query(include_str!("../sql/platform_role.sql")).bind(group).bind(role)
        } else {
            sqlx::query(include_str!("../sql/platform_leave.sql")).bind(group)
        };
        Ok(edited(statement.bind(user).execute(&mut self.groups).await?.rows_affected()))
    }

    async fn edit_group(&mut self) -> sqlx::Result<Done> {
        let (Some(team), Some(project)) = (self.tools.pick(&self.teams), self.tools.pick(&self.projects)) else {
            return Ok(Done::Nothing);
        };
        let tag = self.tools.tag();
        let statement = match self.tools.rng.random_range(0..100) {
            0..=19 => sqlx::query("update groups.groups set name = $2, updated_at = now() where id = $1")
                .bind(if self.tools.chance(0.5) { team } else { project })
                .bind(format!("Renamed online {tag}")),
            20..=29 => {
                sqlx::query("update groups.groups set budget = $2::numeric / 100, updated_at = now() where id = $1")
                    .bind(team)
                    .bind(self.tools.rng.random_range(0..50_000_000_i64))
            }
            // With a fraction of a second that the backoffice has no room for.
            30..=39 => sqlx::query(include_str!("../sql/platform_expires.sql"))
                .bind(project)
                .bind(self.tools.rng.random_range(0..9_000)),
            40..=54 => sqlx::query("update groups.groups set parent_id = $2, updated_at = now() where id = $1")
                .bind(project)
                .bind(team),
            55..=69 => sqlx::query("update groups.groups set owner_id = $2, updated_at = now() where id = $1")
                .bind(team)
                .bind(self.tools.pick(&self.users)),
            70..=84 => sqlx::query(include_str!("../sql/platform_archive.sql")).bind(project),
            _ => {
                let id = sqlx::query_scalar(include_str!("../sql/platform_project.sql"))
                    .bind(team)
                    .bind(format!("NP-{tag}").to_uppercase())
                    .bind(format!("Project {tag}"))
                    .bind(self.tools.pick(&self.users))
                    .bind(self.tools.rng.random_range(0..9_000))
                    .fetch_one(&mut self.groups)
                    .await?;
                self.projects.push(id);
                return Ok(Done::Created);
            }
        };
        Ok(edited(statement.execute(&mut self.groups).await?.rows_affected()))
    }

    async fn edit_site(&mut self) -> sqlx::Result<Done> {
        let tag = self.tools.tag();
        let city = self.tools.city();
        let (latitude, longitude) = (self.tools.nearby(city.latitude, 90.0), self.tools.nearby(city.longitude, 180.0));
        let Some(site) = self.tools.pick(&self.sites) else { return Ok(Done::Nothing) };
        // The trigger stamps.
        let statement = match self.tools.rng.random_range(0..100) {
            0..=34 => sqlx::query("update geo.sites set name = $2 where id = $1")
                .bind(site)
                .bind(format!("{} {tag}", city.name)),
            35..=44 => sqlx::query("update geo.sites set manager_id = $2 where id = $1")
                .bind(site)
                .bind(self.tools.pick(&self.users).filter(|_| tag.ends_with(['2', '4', '6', '8']))),
            45..=59 => sqlx::query("update geo.sites set location = point($2, $3) where id = $1")
                .bind(site)
                .bind(longitude)
                .bind(latitude),
            60..=74 => {
                sqlx::query("update geo.sites set population = $2 where id = $1").bind(site).bind(city.population)
            }
            75..=84 if self.closed.len() > 2 => {
                let site = self.closed.remove(0);
                let reopened =
                    sqlx::query("update geo.sites set deleted_at = null where id = $1 and deleted_at is not null")
                        .bind(site)
                        .execute(&mut self.geo)
                        .await?;
                return Ok(if reopened.rows_affected() > 0 { Done::Undeleted } else { Done::Nothing });
            }
            75..=89 => {
                let closed =
                    sqlx::query("update geo.sites set deleted_at = now() where id = $1 and deleted_at is null")
                        .bind(site)
                        .execute(&mut self.geo)
                        .await?;
                if closed.rows_affected() == 0 {
                    return Ok(Done::Nothing);
                }
                self.closed.push(site);
                return Ok(Done::Deleted);
            }
            _ => {
                let id = sqlx::query_scalar(include_str!("../sql/platform_site.sql"))
                    .bind(self.tools.pick(&self.regions))
                    .bind(format!("Depot {} {tag}", city.name))
                    .bind(longitude)
                    .bind(latitude)
                    .bind(city.population)
                    .bind(self.tools.pick(&self.users))
                    .fetch_one(&mut self.geo)
                    .await?;
                self.sites.push(id);
                return Ok(Done::Created);
            }
        };
        Ok(edited(statement.execute(&mut self.geo).await?.rows_affected()))
    }
}

impl Act for Application {
    async fn act(&mut self) -> sqlx::Result<Done> {
        match self.tools.rng.random_range(0..100) {
            0..=24 => self.edit_account().await,
            25..=46 => self.edit_profile().await,
            47..=54 => self.sign_up().await,
            55..=61 => self.delete_or_restore_account().await,
            62..=77 => self.edit_membership().await,
            78..=87 => self.edit_group().await,
            _ => self.edit_site().await,
        }
    }

    async fn delete_for_good(&mut self) -> sqlx::Result<Done> {
        let gone = if self.tools.chance(SITES_SHARE) {
            let Some(site) = self.tools.pick(&self.sites) else { return Ok(Done::Nothing) };
            self.sites.retain(|known| *known != site);
            sqlx::query("delete from geo.sites where id = $1").bind(site).execute(&mut self.geo).await?
        } else {
            let Some(group) = self.tools.pick(&self.teams) else { return Ok(Done::Nothing) };
            sqlx::query(include_str!("../sql/platform_remove.sql")).bind(group).execute(&mut self.groups).await?
        };
        Ok(hard_deleted(gone.rows_affected()))
    }
}
