//! Workers and what they hold: leases, work rows, partitions, numbers. As in SQLite a lease is one row, and ending it is
//! one delete.
//!
//! Whoever acts as a worker locks the worker's row for sharing until its transaction ends, and whoever ends a lease
//! deletes that row: so the end of a lease comes either before a commit, which then finds nothing, or after it.

use headgate_schemas::stream::Position;
use tokio_postgres::{Client, Row};

use super::error::PostgresError;
use super::rows;
use super::session::Lock;
use super::write::{signed, unsigned};
use crate::store::{EntityId, EntityRow, Look, StoreError, WorkKey, WorkRow};

/// Numbers that a worker takes at once.
const NUMBERS: i64 = 100;

/// Looks up a lease, and keeps it from being ended until the transaction is over.
pub(super) const LEASE: &str = "SELECT until FROM worker WHERE epoch=$1 FOR SHARE";

/// Makes a worker beside others.
pub(super) async fn join(client: &Client, epoch: u64, until: i64) -> Result<(), PostgresError> {
    client.execute("INSERT INTO worker(epoch,until) VALUES($1,$2)", &[&signed(epoch), &until]).await?;
    Ok(())
}

/// The workers whose leases hold and whose sessions are gone: a worker holds a lock on its epoch for as long as its
/// session lives, and without its session it commits nothing. So whoever died is succeeded at once, and a lease is only
/// waited for where its worker may still be there.
pub(super) async fn bereft(client: &Client, now: i64) -> Result<Vec<i64>, StoreError> {
    let live = client.query("SELECT epoch,until FROM worker WHERE until>$1 ORDER BY epoch", &[&now]).await;
    let mut bereft = Vec::new();
    for row in &live.map_err(PostgresError::from)? {
        let (epoch, until): (i64, i64) = (rows::at(row, 0)?, rows::at(row, 1)?);
        match Lock::Worker(epoch).acquire(client).await {
            Ok(()) => Lock::Worker(epoch).release(client).await?,
            Err(error) if error.is_locked_out() => return Err(StoreError::Held { until }),
            Err(error) => return Err(error.into()),
        }
        bereft.push(epoch);
    }
    Ok(bereft)
}

/// Makes the only worker: it has all work and all partitions. The rows keep the epochs they have, which nobody else can
/// hold any more. Those that are `bereft` of their sessions are not waited for.
pub(super) async fn succeed(
    client: &Client,
    epoch: u64,
    now: i64,
    until: i64,
    bereft: &[i64],
) -> Result<Vec<WorkRow>, StoreError> {
    // One succession at a time, and none beside a renewal.
    client.batch_execute("LOCK TABLE worker IN SHARE ROW EXCLUSIVE MODE").await.map_err(PostgresError::from)?;
    let held = "SELECT max(until) FROM worker WHERE until>$1 AND epoch<>ALL($2)";
    let held = client.query_one(held, &[&now, &bereft]).await.map_err(PostgresError::from)?;
    if let Some(until) = rows::at(&held, 0)? {
        return Err(StoreError::Held { until });
    }
    Ok(take_all(client, epoch, until).await?)
}

async fn take_all(client: &Client, epoch: u64, until: i64) -> Result<Vec<WorkRow>, PostgresError> {
    // Waits for a commit of the worker that is ended here, and voids the next one.
    client.execute("DELETE FROM worker", &[]).await?;
    join(client, epoch, until).await?;
    client.execute("UPDATE position SET epoch=$1", &[&signed(epoch)]).await?;
    client
        .batch_execute(
            "UPDATE number SET next=(SELECT coalesce(max(id),0)+1 FROM entity) WHERE of='entity';
             UPDATE number SET next=(SELECT coalesce(max(id),0)+1 FROM question) WHERE of='question'",
        )
        .await?;
    let free = client.query("SELECT target,entity,due,attempts FROM work ORDER BY due", &[]).await?;
    free.iter().map(|row| free_row(row, epoch)).collect()
}

/// A pair of `owner` that has no call.
fn free_row(row: &Row, owner: u64) -> Result<WorkRow, PostgresError> {
    Ok(WorkRow {
        key: WorkKey { target: unsigned(row.try_get(0)?), entity: row.try_get(1)? },
        due: row.try_get(2)?,
        attempts: u32::try_from(row.try_get::<_, i64>(3)?).unwrap_or(u32::MAX),
        owner,
        until: 0,
    })
}

/// A worker may act, and may until this transaction ends.
pub(super) async fn check(client: &Client, epoch: u64, now: i64) -> Result<(), StoreError> {
    let row = client.query_opt(LEASE, &[&signed(epoch)]).await.map_err(PostgresError::from)?;
    holds(row.as_ref(), epoch, now)
}

/// Whether the lease that was looked up holds.
pub(super) fn holds(row: Option<&Row>, epoch: u64, now: i64) -> Result<(), StoreError> {
    let until: Option<i64> = row.map(|row| rows::at(row, 0)).transpose()?;
    if until.is_some_and(|until| until > now) { Ok(()) } else { Err(StoreError::LeaseLost { epoch }) }
}

pub(super) async fn renew(client: &Client, epoch: u64, now: i64, until: i64) -> Result<(), StoreError> {
    let sql = "UPDATE worker SET until=greatest(until,$3) WHERE epoch=$1 AND until>$2";
    let renewed = client.execute(sql, &[&signed(epoch), &now, &until]).await.map_err(PostgresError::from)?;
    if renewed == 1 { Ok(()) } else { Err(StoreError::LeaseLost { epoch }) }
}

pub(super) async fn adopt(client: &Client, epoch: u64, now: i64, most: usize) -> Result<Vec<WorkRow>, StoreError> {
    check(client, epoch, now).await?;
    // A row that another worker is about to adopt is left to it.
    let sql = "WITH free AS (SELECT target,entity FROM work WHERE owner NOT IN (SELECT epoch FROM worker)
                ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED)
               UPDATE work SET owner=$1 FROM free WHERE work.target=free.target AND work.entity=free.entity
               RETURNING work.target,work.entity,work.due,work.attempts";
    let adopted = async {
        client.execute("DELETE FROM worker WHERE until<=$1", &[&now]).await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = client.query(sql, &[&signed(epoch), &most]).await?;
        rows.iter().map(|row| free_row(row, epoch)).collect::<Result<Vec<_>, PostgresError>>()
    };
    let mut rows = adopted.await?;
    rows.sort_by_key(|row| row.due);
    Ok(rows)
}

pub(super) async fn take_partitions(
    client: &Client,
    epoch: u64,
    now: i64,
    partitions: &[u32],
) -> Result<Vec<Position>, StoreError> {
    check(client, epoch, now).await?;
    let mut sorted: Vec<i64> = partitions.iter().copied().map(i64::from).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let sql = "INSERT INTO position(part,epoch) SELECT p,$2 FROM unnest($1::bigint[]) p
               ON CONFLICT(part) DO UPDATE SET epoch=excluded.epoch RETURNING part,off";
    let rows = client.query(sql, &[&sorted, &signed(epoch)]).await.map_err(PostgresError::from)?;
    let read = rows.iter().filter(|row| !matches!(row.try_get::<_, Option<i64>>(1), Ok(None)));
    Ok(read.map(rows::position).collect::<Result<_, _>>()?)
}

pub(super) async fn leave(client: &Client, epoch: u64) -> Result<(), PostgresError> {
    client.execute("DELETE FROM worker WHERE epoch=$1", &[&signed(epoch)]).await?;
    Ok(())
}

/// Numbers of a series that were taken and not given yet.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    next: i64,
    end: i64,
}

impl Numbers {
    /// The next number of a series; takes further ones from the database when none is left.
    pub(super) async fn next(&mut self, client: &Client, series: &str) -> Result<i64, PostgresError> {
        if self.next >= self.end {
            let sql = "UPDATE number SET next=next+$2 WHERE of=$1 RETURNING next";
            self.end = client.query_one(sql, &[&series, &NUMBERS]).await?.try_get(0)?;
            self.next = self.end - NUMBERS;
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

/// What a look at an entity found: a row for each of its work rows, or one alone.
pub(super) fn look(entity: EntityId, rows: &[Row]) -> Result<Look, PostgresError> {
    let Some(first) = rows.first() else { return Ok(Look::Nothing) };
    let Some(doc) = first.try_get(1)? else { return Ok(Look::Same) };
    let version = u64::try_from(first.try_get::<_, i64>(0)?).unwrap_or(0);
    let mut work = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(target) = row.try_get::<_, Option<i32>>(2)? else { continue };
        work.push(WorkRow {
            key: WorkKey { target: unsigned(target), entity },
            due: row.try_get(3)?,
            attempts: u32::try_from(row.try_get::<_, i64>(4)?).unwrap_or(u32::MAX),
            owner: u64::try_from(row.try_get::<_, i64>(5)?).unwrap_or(0),
            until: row.try_get(6)?,
        });
    }
    Ok(Look::Now(EntityRow { version, doc, work }))
}
