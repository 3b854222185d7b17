//! The schema, as numbered steps that are never changed once they were shipped: a new step is a new file and a new line
//! in [`STEPS`]. They run under a lock, so that of several programs starting at once one does the work; each step is
//! one transaction, so that a step that fails leaves what was there before it.

use tokio_postgres::Client;

use super::error::PostgresError;
use super::session::Lock;
use crate::store::StoreError;

/// The steps; the first makes version 1.
const STEPS: [&str; 6] = [
    include_str!("migrations/0001_state.sql"),
    include_str!("migrations/0002_trail.sql"),
    include_str!("migrations/0003_workers.sql"),
    include_str!("migrations/0004_subscription.sql"),
    include_str!("migrations/0005_kept.sql"),
    include_str!("migrations/0006_shared.sql"),
];

/// The version this program works with.
const VERSION: i64 = STEPS.len() as i64;

/// Brings the schema to this program's version.
///
/// # Errors
/// [`StoreError::Newer`] where a newer program was here; when a step fails.
pub(super) async fn migrate(client: &Client) -> Result<(), StoreError> {
    Lock::Schema.acquire(client).await?;
    let migrated = steps(client).await;
    // Where this fails the connection is of no use any more, and the lock goes with it.
    Lock::Schema.release(client).await?;
    migrated
}

async fn steps(client: &Client) -> Result<(), StoreError> {
    let found = version(client).await.map_err(StoreError::Postgres)?;
    if found > VERSION {
        return Err(StoreError::Newer { found, known: VERSION });
    }
    for (n, sql) in STEPS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        // A step may rewrite a big table: it ends when it ends.
        let step = format!(
            "BEGIN; SET LOCAL statement_timeout = 0; {sql} INSERT INTO schema_version(version) VALUES({}); COMMIT",
            n + 1
        );
        if let Err(error) = client.batch_execute(&step).await {
            client.batch_execute("ROLLBACK").await.map_err(PostgresError::from)?;
            return Err(PostgresError::from(error).into());
        }
        tracing::info!(version = n + 1, "the state's schema was brought up");
    }
    Ok(())
}

async fn version(client: &Client) -> Result<i64, PostgresError> {
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_version(version bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    Ok(client.query_one("SELECT coalesce(max(version),0) FROM schema_version", &[]).await?.try_get(0)?)
}
