//! Logins that may do what `sync-bridge prepare --roles` prints, and nothing else.

use sqlx::{AssertSqlSafe, PgPool};
use sync_bridge::config::{Config, DatabaseUrl, Side};
use sync_bridge::stages;

use super::systems::Systems;

const PASSWORD: &str = "r";

/// The configuration of these systems under a login for each side that was granted what it needs. Logins are the server's and stay there; what they may
/// do goes with the databases.
pub async fn least(systems: &Systems) -> Config {
    let mut config = Config::clone(&systems.config);
    for url in config.customers.iter_mut().flat_map(|customer| customer.databases.values_mut()) {
        let side = if url.to_string().ends_with(&systems.databases[0].name) { Side::Legacy } else { Side::Platform };
        *url = as_login(url, side);
    }
    for grants in stages::grants(&config).expect("what roles need") {
        let side = if grants.role == login(Side::Legacy) { Side::Legacy } else { Side::Platform };
        let pool = match side {
            Side::Legacy => &systems.legacy,
            Side::Platform => &systems.platform,
        };
        make(pool, &grants.role).await;
        for statement in grants.statements.iter().chain([&grants.membership]) {
            run(pool, statement).await;
        }
    }
    config
}

fn login(side: Side) -> String {
    format!("least_{side}")
}

fn as_login(url: &DatabaseUrl, side: Side) -> DatabaseUrl {
    let (scheme, rest) = url.expose().split_once("://").expect("a URL");
    let (_, place) = rest.split_once('@').expect("a URL with a login");
    DatabaseUrl::new(format!("{scheme}://{}:{PASSWORD}@{place}", login(side)), url.to_string())
}

/// A login to which nothing comes by being anybody.
async fn make(pool: &PgPool, role: &str) {
    let made = format!(
        "do $$ begin
           create role {role} login password '{PASSWORD}';
         exception when duplicate_object or unique_violation then null;
         end $$;
         do $$ begin execute format('revoke all on database %I from public', current_database()); end $$;
         revoke all on schema public from public"
    );
    run(pool, &made).await;
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
