//! A queue database per test, migrated.

use sqlx::PgPool;
use sync_bridge::{ops, queue};

use super::{TestDatabase, database_from, template};

pub struct Queue {
    pub pool: PgPool,
    pub database: TestDatabase,
}

/// A migrated queue database and a pool on it.
pub async fn queue(hint: &str) -> Queue {
    let template = template("queue", async |url| {
        let pool = queue::connect(&url).await?;
        ops::migrate(&pool).await?;
        pool.close().await;
        Ok(())
    })
    .await;
    let database = database_from(hint, &template).await;
    let pool = queue::connect(&database.url).await.expect("connecting to the queue");
    Queue { pool, database }
}
