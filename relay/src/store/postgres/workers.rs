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
use crate::division::{Crew, Moves};
use crate::store::{Division, EntityId, EntityRow, Look, SharedBooks, StoreError, WorkKey, WorkRow};

/// Numbers that a worker takes at once.
const NUMBERS: i64 = 100;

/// Looks up a lease, and keeps it from being ended until the transaction is over.
pub(super) const LEASE: &str = "SELECT until FROM worker WHERE epoch=$1 FOR SHARE";

/// Makes a worker.
async fn join(client: &Client, epoch: u64, until: i64, shared: bool) -> Result<(), PostgresError> {
    let sql = "INSERT INTO worker(epoch,until,shared) VALUES($1,$2,$3)";
    client.execute(sql, &[&signed(epoch), &until, &shared]).await?;
    Ok(())
}

/// Makes a worker beside others, unless one of them believes to be alone.
pub(super) async fn enter(client: &Client, epoch: u64, now: i64, until: i64) -> Result<(), StoreError> {
    one_at_a_time(client).await?;
    end_the_dead(client, epoch, now).await?;
    let alone = "SELECT max(until) FROM worker WHERE NOT shared";
    let alone = client.query_one(alone, &[]).await.map_err(PostgresError::from)?;
    match rows::at(&alone, 0)? {
        Some(until) => Err(StoreError::Held { until }),
        None => Ok(join(client, epoch, until, true).await?),
    }
}

/// What is summed up and what is open, in a transaction that sees one moment.
pub(super) async fn books(client: &Client) -> Result<Option<SharedBooks>, PostgresError> {
    let counted: bool = rows::value(client, "SELECT EXISTS(SELECT 1 FROM meta WHERE key='open')").await?;
    let books = SharedBooks { sums: rows::sums(client).await?, open: rows::open(client).await? };
    Ok(counted.then_some(books))
}

/// Notes that what is open is counted. False where another worker was first.
pub(super) async fn first_to_count(client: &Client, epoch: u64, now: i64) -> Result<bool, StoreError> {
    check(client, epoch, now).await?;
    let sql = "INSERT INTO meta(key,value) VALUES('open','counted') ON CONFLICT DO NOTHING";
    Ok(client.execute(sql, &[]).await.map_err(PostgresError::from)? == 1)
}

/// Until this transaction ends no worker comes, renews or is ended but by it: who is one does not change while it is
/// decided who has what. Commits go on.
async fn one_at_a_time(client: &Client) -> Result<(), PostgresError> {
    Ok(client.batch_execute("LOCK TABLE worker IN SHARE ROW EXCLUSIVE MODE").await?)
}

/// Ends the leases of others that are over. One in the middle of a commit is ended at a later look: nobody waits for it.
async fn end_leases(client: &Client, epoch: u64, now: i64) -> Result<(), PostgresError> {
    let sql = "DELETE FROM worker WHERE epoch IN
               (SELECT epoch FROM worker WHERE until<=$1 AND epoch<>$2 FOR UPDATE SKIP LOCKED)";
    client.execute(sql, &[&now, &signed(epoch)]).await?;
    Ok(())
}

/// Ends the leases that are over, and those of workers whose sessions are gone, which commit nothing any more.
async fn end_the_dead(client: &Client, epoch: u64, now: i64) -> Result<(), PostgresError> {
    end_leases(client, epoch, now).await?;
    for row in client.query("SELECT epoch FROM worker WHERE epoch<>$1 ORDER BY epoch", &[&signed(epoch)]).await? {
        let other: i64 = row.try_get(0)?;
        if Lock::Worker(other).is_free(client).await? {
            client.execute("DELETE FROM worker WHERE epoch=$1", &[&other]).await?;
        }
    }
    Ok(())
}

/// A worker's part of the division of a shared state.
pub(super) async fn divide(client: &Client, epoch: u64, now: i64, partitions: u32) -> Result<Division, StoreError> {
    one_at_a_time(client).await?;
    check(client, epoch, now).await?;
    let divided = async {
        end_the_dead(client, epoch, now).await?;
        let (mut crew, mut positions) = crew(client).await?;
        let moves = crew.moves(epoch, partitions);
        if moves != Moves::default() {
            carry_out(client, epoch, &moves).await?;
            (crew, positions) = self::crew(client).await?;
        }
        let mine = crew.readers.iter().filter(|(_, reader)| **reader == epoch).map(|(partition, _)| *partition);
        Ok::<_, PostgresError>(Division {
            mine: mine.collect(),
            workers: crew.workers,
            positions,
            goings: rows::pairs(client, "SELECT link,at FROM going ORDER BY n").await?,
            sizes: rows::pairs(client, "SELECT link,n FROM size").await?,
        })
    };
    Ok(divided.await?)
}

/// Who works, who reads what, and where to read on.
async fn crew(client: &Client) -> Result<(Crew, Vec<Position>), PostgresError> {
    let number = |row: &Row, column| Ok::<_, PostgresError>(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0));
    let workers = client.query("SELECT epoch FROM worker ORDER BY epoch", &[]).await?;
    let mut crew =
        Crew { workers: workers.iter().map(|row| number(row, 0)).collect::<Result<_, _>>()?, ..Crew::default() };
    let mut positions = Vec::new();
    for row in client.query("SELECT part,off,epoch FROM position ORDER BY part", &[]).await? {
        let partition = u32::try_from(row.try_get::<_, i64>(0)?).unwrap_or(u32::MAX);
        crew.readers.insert(partition, number(&row, 2)?);
        if row.try_get::<_, Option<i64>>(1)?.is_some() {
            positions.push(rows::position(&row)?);
        }
    }
    Ok((crew, positions))
}

async fn carry_out(client: &Client, epoch: u64, moves: &Moves) -> Result<(), PostgresError> {
    let numbers = |partitions: &[u32]| partitions.iter().copied().map(i64::from).collect::<Vec<_>>();
    let give = "UPDATE position SET epoch=0 WHERE epoch=$1 AND part=ANY($2)";
    client.execute(give, &[&signed(epoch), &numbers(&moves.give)]).await?;
    let take = "INSERT INTO position(part,epoch) SELECT p,$2 FROM unnest($1::bigint[]) p ORDER BY p
                ON CONFLICT(part) DO UPDATE SET epoch=excluded.epoch
                WHERE position.epoch NOT IN (SELECT epoch FROM worker)";
    client.execute(take, &[&numbers(&moves.take), &signed(epoch)]).await?;
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
    one_at_a_time(client).await?;
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
    join(client, epoch, until, false).await?;
    // It counts for itself what is open.
    client.batch_execute("DELETE FROM meta WHERE key='open'; DELETE FROM open_sum").await?;
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
    one_at_a_time(client).await?;
    check(client, epoch, now).await?;
    let sql = "WITH free AS (SELECT target,entity FROM work WHERE owner NOT IN (SELECT epoch FROM worker)
                AND until<=$3 ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED)
               UPDATE work SET owner=$1 FROM free WHERE work.target=free.target AND work.entity=free.entity
               RETURNING work.target,work.entity,work.due,work.attempts";
    let adopted = async {
        end_leases(client, epoch, now).await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = client.query(sql, &[&signed(epoch), &most, &now]).await?;
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
