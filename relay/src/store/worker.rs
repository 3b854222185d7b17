//! Workers and what they hold: leases, work rows, partitions.
//!
//! A lease is one row; whatever names its epoch is held for as long as that row is there. So ending a lease is one
//! delete, and a row of work need not be written to be free. The surprising thing: nothing here reads a clock, and a
//! lease that is over is only ended when another worker looks, or when its own worker tries to use it.

use headgate_schemas::stream::Position;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::sqlite::signed;
use super::{Division, EntityId, StoreError, WorkKey, WorkRow};
use crate::books::{Place, Share};
use crate::division::Crew;

/// Their part of the schema. A partition that was taken and never read has no offset.
pub(super) const SCHEMA: &str = "
CREATE TABLE worker(epoch INTEGER PRIMARY KEY, until INTEGER NOT NULL);
CREATE TABLE position(part INTEGER PRIMARY KEY, off INTEGER, epoch INTEGER NOT NULL);
";

/// What only a shared state has, as it becomes one: what is open is to be counted first.
pub(super) const SHARED: &str = "
CREATE TABLE IF NOT EXISTS open_sum(link INTEGER NOT NULL, target INTEGER NOT NULL, at INTEGER NOT NULL,
  held INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(link, target, at, held)) WITHOUT ROWID;
DELETE FROM open_sum;
DELETE FROM meta WHERE key='open';
";

/// Makes a worker beside others.
pub(super) fn join(db: &Connection, epoch: u64, until: i64) -> Result<(), StoreError> {
    db.execute("INSERT INTO worker(epoch,until) VALUES(?1,?2)", params![signed(epoch), until])?;
    Ok(())
}

/// Makes the only worker, whose lease never ends: it has all work and all partitions. The rows keep the epochs they
/// have, which nobody else can hold any more.
pub(super) fn succeed(db: &Connection, epoch: u64) -> Result<Vec<WorkRow>, StoreError> {
    db.execute("DELETE FROM worker", [])?;
    join(db, epoch, i64::MAX)?;
    db.execute("UPDATE position SET epoch=?1", [signed(epoch)])?;
    let mut statement = db.prepare("SELECT target,entity,due,attempts FROM work ORDER BY due")?;
    Ok(statement.query_map([], |r| free_row(r, epoch))?.collect::<Result<_, _>>()?)
}

/// A pair of `owner` that has no call.
fn free_row(row: &Row<'_>, owner: u64) -> Result<WorkRow, rusqlite::Error> {
    let key = WorkKey { target: row.get(0)?, entity: row.get(1)? };
    Ok(WorkRow { key, due: row.get(2)?, attempts: row.get(3)?, owner, until: 0 })
}

/// A worker may act.
pub(super) fn check(db: &Connection, epoch: u64, now: i64) -> Result<(), StoreError> {
    let mut statement = db.prepare_cached("SELECT until FROM worker WHERE epoch=?1")?;
    let until: Option<i64> = statement.query_row([signed(epoch)], |r| r.get(0)).optional()?;
    if until.is_none_or(|until| until <= now) {
        return Err(StoreError::LeaseLost { epoch });
    }
    Ok(())
}

pub(super) fn renew(db: &Connection, epoch: u64, now: i64, until: i64) -> Result<(), StoreError> {
    let sql = "UPDATE worker SET until=max(until,?3) WHERE epoch=?1 AND until>?2";
    if db.prepare_cached(sql)?.execute(params![signed(epoch), now, until])? != 1 {
        return Err(StoreError::LeaseLost { epoch });
    }
    Ok(())
}

pub(super) fn leave(db: &Connection, epoch: u64) -> Result<(), StoreError> {
    db.execute("DELETE FROM worker WHERE epoch=?1", [signed(epoch)])?;
    Ok(())
}

pub(super) fn adopt(db: &Connection, epoch: u64, now: i64, most: usize) -> Result<Vec<WorkRow>, StoreError> {
    check(db, epoch, now)?;
    db.execute("DELETE FROM worker WHERE until<=?1", [now])?;
    let rows: Vec<WorkRow> = db
        .prepare_cached(
            "SELECT target,entity,due,attempts FROM work WHERE owner NOT IN (SELECT epoch FROM worker)
             AND until<=?2 ORDER BY due LIMIT ?1",
        )?
        .query_map([i64::try_from(most).unwrap_or(i64::MAX), now], |r| free_row(r, epoch))?
        .collect::<Result<_, _>>()?;
    let mut take = db.prepare_cached("UPDATE work SET owner=?3 WHERE target=?1 AND entity=?2")?;
    for row in &rows {
        take.execute(params![row.key.target, row.key.entity, signed(epoch)])?;
    }
    Ok(rows)
}

pub(super) fn rows_of(db: &Connection, entity: EntityId) -> Result<Vec<WorkRow>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT target,due,attempts,owner,until FROM work WHERE entity=?1 ORDER BY target")?;
    let rows = statement.query_map([entity], |r| {
        let owner = u64::try_from(r.get::<_, i64>(3)?).unwrap_or(0);
        let key = WorkKey { target: r.get(0)?, entity };
        Ok(WorkRow { key, due: r.get(1)?, attempts: r.get(2)?, owner, until: r.get(4)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn positions(db: &Connection) -> Result<Vec<Position>, StoreError> {
    let mut statement = db.prepare("SELECT part,off FROM position WHERE off IS NOT NULL ORDER BY part")?;
    let rows = statement.query_map([], |r| {
        Ok(Position { partition: r.get(0)?, offset: u64::try_from(r.get::<_, i64>(1)?).unwrap_or(0) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn forget_place(db: &Connection, place: Position) -> Result<(), StoreError> {
    let sql = "UPDATE position SET off=NULL WHERE part=?1 AND off=?2";
    db.execute(sql, params![place.partition, signed(place.offset)])?;
    Ok(())
}

pub(super) fn take_partitions(
    db: &Connection,
    epoch: u64,
    now: i64,
    partitions: &[u32],
) -> Result<Vec<Position>, StoreError> {
    check(db, epoch, now)?;
    let mut take = db.prepare_cached(
        "INSERT INTO position(part,epoch) VALUES(?1,?2) ON CONFLICT(part) DO UPDATE SET epoch=?2 RETURNING off",
    )?;
    let mut positions = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let offset: Option<i64> = take.query_row(params![partition, signed(epoch)], |r| r.get(0))?;
        let offset = offset.and_then(|offset| u64::try_from(offset).ok());
        positions.extend(offset.map(|offset| Position { partition: *partition, offset }));
    }
    Ok(positions)
}

/// What is open; only what is not 0.
pub(super) fn open(db: &Connection) -> Result<Vec<(Share, i64)>, StoreError> {
    let mut find = db.prepare_cached("SELECT link,target,at,held,n FROM open_sum WHERE n<>0")?;
    let share = |r: &Row<'_>| {
        let place = Place { link: r.get(0)?, target: r.get(1)? };
        Ok((Share { place, at: r.get(2)?, held: r.get(3)? }, r.get(4)?))
    };
    Ok(find.query_map([], share)?.collect::<Result<_, _>>()?)
}

/// Adds to what is open.
pub(super) fn add_open(db: &Connection, open: &[(Share, i64)]) -> Result<(), StoreError> {
    let sql = "INSERT INTO open_sum(link,target,at,held,n) VALUES(?1,?2,?3,?4,?5)
               ON CONFLICT(link,target,at,held) DO UPDATE SET n=n+?5";
    let mut add = db.prepare_cached(sql)?;
    for (Share { place, at, held }, n) in open {
        add.execute(params![place.link, place.target, at, held, n])?;
    }
    Ok(())
}

/// Documents of entities that have work, in the order of their numbers.
pub(super) fn open_documents(
    db: &Connection,
    after: EntityId,
    most: u32,
) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
    let sql = "SELECT id,doc FROM entity WHERE id IN
               (SELECT DISTINCT entity FROM work WHERE entity>?1 ORDER BY entity LIMIT ?2) ORDER BY id";
    let mut find = db.prepare_cached(sql)?;
    Ok(find.query_map(params![after, most], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?)
}

/// A worker's part of the division of a shared state.
pub(super) fn divide(db: &Connection, epoch: u64, now: i64, partitions: u32) -> Result<Division, StoreError> {
    check(db, epoch, now)?;
    db.execute("DELETE FROM worker WHERE until<=?1", [now])?;
    let moves = crew(db)?.moves(epoch, partitions);
    let mut give = db.prepare_cached("UPDATE position SET epoch=0 WHERE part=?1 AND epoch=?2")?;
    for partition in moves.give {
        give.execute(params![partition, signed(epoch)])?;
    }
    take_partitions(db, epoch, now, &moves.take)?;
    let crew = crew(db)?;
    let mine = crew.readers.iter().filter(|(_, reader)| **reader == epoch).map(|(partition, _)| *partition);
    Ok(Division { mine: mine.collect(), workers: crew.workers, positions: positions(db)?, ..Division::default() })
}

fn crew(db: &Connection) -> Result<Crew, StoreError> {
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let mut workers = db.prepare("SELECT epoch FROM worker ORDER BY epoch")?;
    let mut readers = db.prepare("SELECT part,epoch FROM position")?;
    Ok(Crew {
        workers: workers.query_map([], |r| Ok(number(r.get(0)?)))?.collect::<Result<_, _>>()?,
        readers: readers.query_map([], |r| Ok((r.get(0)?, number(r.get(1)?))))?.collect::<Result<_, _>>()?,
    })
}

/// Moves positions forward, each of them held by this worker or by nobody yet.
pub(super) fn move_positions(db: &Connection, epoch: u64, positions: &[Position]) -> Result<(), StoreError> {
    let mut put = db.prepare_cached(
        "INSERT INTO position(part,off,epoch) VALUES(?1,?2,?3)
         ON CONFLICT(part) DO UPDATE SET off=max(coalesce(off,0),?2) WHERE epoch=?3",
    )?;
    for Position { partition, offset } in positions {
        if put.execute(params![partition, signed(*offset), signed(epoch)])? != 1 {
            return Err(StoreError::PartitionLost { partition: *partition });
        }
    }
    Ok(())
}
