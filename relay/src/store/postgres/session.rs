//! One connection to PostgreSQL, for the thread that owns it: the client is asynchronous, the engine is not, so each
//! session brings a small runtime of its own and works on it only while it is asked something. It knows no table.
//!
//! Whatever is asked is bounded three times: the server ends a statement, the client stops waiting a little later, and
//! TCP gives up on a peer that does not acknowledge. A session on which something failed is thrown away by its owner.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};

use super::address::Address;
use super::error::PostgresError;
use super::tls::Tls;
use crate::store::StoreError;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for a lock that another session holds.
const LOCK: Duration = Duration::from_secs(3);
/// A transaction whose client says nothing for so long is ended by the server: whoever was held up in the middle of one
/// lets go of its locks before others have waited for them in vain.
const IDLE: Duration = Duration::from_secs(2);
/// A silent peer is asked for a sign of life after this.
const SILENCE: Duration = Duration::from_secs(15);
/// What the client waits beyond what the server allows itself.
const MARGIN: Duration = Duration::from_secs(5);

/// A connection.
pub(super) struct Session {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    pub(super) client: Client,
    patience: Duration,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without waiting, because it may be dropped where waiting is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Session {
    /// Connects.
    pub(super) fn open(address: &Address) -> Result<Self, PostgresError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(PostgresError::Runtime)?;
        let client = connect(&runtime, address)?;
        let patience = address.statement_timeout.max(LOCK) + MARGIN;
        let session = Self { runtime: Some(runtime), client, patience };
        session.run(prepare(&session.client, address.statement_timeout))?;
        Ok(session)
    }

    /// Works on something until it is done, at most for the session's patience. What is cut off may still be carried
    /// out by the server: the session is to be thrown away.
    pub(super) fn run<T, E: From<PostgresError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let silent = || E::from(PostgresError::Silent(self.patience));
        let Some(runtime) = &self.runtime else { return Err(silent()) };
        runtime.block_on(async { tokio::time::timeout(self.patience, work).await }).unwrap_or_else(|_| Err(silent()))
    }
}

fn connect(runtime: &Runtime, address: &Address) -> Result<Client, PostgresError> {
    let mut config = address.config.clone();
    config.connect_timeout(CONNECT).keepalives_idle(SILENCE).tcp_user_timeout(address.statement_timeout + MARGIN);
    if config.get_application_name().is_none() {
        config.application_name("headgate");
    }
    let tls = address.tls.as_ref().map(Tls::new).transpose()?;
    let connected = runtime.block_on(async {
        tokio::time::timeout(2 * CONNECT, async {
            // The connection's own task lives on this runtime, moves only while something is asked, and ends with it.
            match tls {
                Some(tls) => {
                    let (client, connection) = config.connect(tls).await?;
                    drop(runtime.spawn(connection));
                    Ok(client)
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    drop(runtime.spawn(connection));
                    Ok(client)
                }
            }
        })
        .await
    });
    match connected {
        Ok(client) => client.map_err(|error| PostgresError::unreachable(&address.place(), &error)),
        Err(_) => Err(PostgresError::Unreachable { place: address.place(), why: "no answer came".to_owned() }),
    }
}

/// Settings of the session. A database whose commits are not durable is told to make ours durable; plans are made once
/// and follow the order of the arrays, so that rows are locked in the order in which they are given.
async fn prepare(client: &Client, statement: Duration) -> Result<(), PostgresError> {
    let settings = format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {};
         SET jit = off; SET plan_cache_mode = force_generic_plan; SET client_min_messages = warning;
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        statement.as_millis(),
        LOCK.as_millis(),
        IDLE.as_millis(),
    );
    Ok(client.batch_execute(&settings).await?)
}

/// Goes with [`Lock::Way`] beside others.
pub(super) const PASS: &str = "SELECT pg_advisory_xact_lock_shared(1751474436, hashtext(current_schema()))";

/// What only one session does at a time. The keys hold the schema's name, since locks belong to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// Changes of the schema.
    Schema,
    /// Making and dropping of partitions; for one transaction.
    Partitions,
    /// Committing units, where several workers do: shared by all of them, except when one holds the others off; for one
    /// transaction.
    Way,
    /// Being a worker: held for as long as its session lives.
    Worker(i64),
}

impl Lock {
    const fn class(self) -> i32 {
        match self {
            Self::Schema => 0x6865_6101,
            Self::Partitions => 0x6865_6102,
            Self::Worker(_) => 0x6865_6103,
            Self::Way => 0x6865_6104,
        }
    }

    /// Waits for it, at most as long as for any lock. It is held until the session ends or gives it back; that of the
    /// partitions and that of the way until the transaction ends.
    pub(super) async fn acquire(self, client: &Client) -> Result<(), PostgresError> {
        let function = match self {
            Self::Partitions | Self::Way => "pg_advisory_xact_lock",
            Self::Schema | Self::Worker(_) => "pg_advisory_lock",
        };
        self.call(client, function).await
    }

    /// Whether nobody has it, without waiting.
    pub(super) async fn is_free(self, client: &Client) -> Result<bool, PostgresError> {
        let sql = format!("SELECT pg_try_advisory_lock({})", self.key());
        let free: bool = client.query_one(&sql, &[]).await?.try_get(0)?;
        if free {
            self.release(client).await?;
        }
        Ok(free)
    }

    /// Gives it back.
    pub(super) async fn release(self, client: &Client) -> Result<(), PostgresError> {
        self.call(client, "pg_advisory_unlock").await
    }

    async fn call(self, client: &Client, function: &str) -> Result<(), PostgresError> {
        Ok(client.batch_execute(&format!("SELECT {function}({})", self.key())).await?)
    }

    fn key(self) -> String {
        let of = match self {
            Self::Worker(epoch) => format!("current_schema() || '/{epoch}'"),
            Self::Schema | Self::Partitions | Self::Way => "current_schema()".to_owned(),
        };
        format!("{}, hashtext({of})", self.class())
    }
}

impl From<PostgresError> for StoreError {
    fn from(error: PostgresError) -> Self {
        Self::Postgres(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_with_others_waits_for_whoever_holds_them_off() {
        assert!(PASS.contains(&format!("({})", Lock::Way.key())));
    }
}
