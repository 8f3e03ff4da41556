//! A login that may do what `sync-bridge prepare --roles` prints, and nothing else.

use sqlx::{AssertSqlSafe, PgPool};
use sync_bridge::config::{Config, DatabaseUrl};
use sync_bridge::stages;

use super::systems::Systems;

/// It is the server's and stays there; what it may do goes with the databases.
const LOGIN: &str = "least";

const PASSWORD: &str = "r";

/// Nothing comes to it by being anybody.
const MAKE: &str = "
do $$
begin
  create role least login password 'r';
exception when duplicate_object or unique_violation then null;
end
$$;
do $$ begin execute format('revoke all on database %I from public', current_database()); end $$;
revoke all on schema public from public";

/// The configuration of these systems under that login, which was granted what it needs in each of their databases.
pub async fn least(systems: &Systems) -> Config {
    let mut config = Config::clone(&systems.config);
    for url in config.customers.iter_mut().flat_map(|customer| customer.databases.values_mut()) {
        *url = as_login(url);
    }
    for grants in stages::grants(&config).expect("what roles need") {
        let pool = systems.pool_at(&grants.database);
        run(pool, MAKE).await;
        for statement in grants.statements.iter().chain([&grants.membership]) {
            run(pool, statement).await;
        }
    }
    config
}

fn as_login(url: &DatabaseUrl) -> DatabaseUrl {
    let (scheme, rest) = url.expose().split_once("://").expect("a URL");
    let (_, place) = rest.split_once('@').expect("a URL with a login");
    DatabaseUrl::new(format!("{scheme}://{LOGIN}:{PASSWORD}@{place}"), url.to_string())
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
