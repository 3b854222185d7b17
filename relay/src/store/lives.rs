//! Records' lives as tables: weaker match keys, what goes on each link, hashes of what was erased.
//!
//! The documents are the truth of every entity; here stands what concerns many of them at once.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{CANDIDATES, EntityId, Forgotten, Key, StoreError, Unit, trail};

/// Their part of the schema.
pub(super) const SCHEMA: &str = "
CREATE TABLE hint(key BLOB NOT NULL, entity INTEGER NOT NULL, PRIMARY KEY(key, entity)) WITHOUT ROWID;
CREATE TABLE going(n INTEGER PRIMARY KEY, link TEXT NOT NULL, at INTEGER NOT NULL);
CREATE TABLE size(link TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tombstone(key BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
";

/// Goings older than this are forgotten: the brake looks at one hour.
const GOINGS: i64 = 2 * 3_600_000_000;
/// How long the hash of an erased record is kept: longer than any CRM repeats its events.
const TOMBSTONES: i64 = 90 * 86_400_000_000;
/// Rows that one round of forgetting takes away at most.
const EXPIRE_ROWS: i64 = 10_000;

/// Links with their goings, and with their sizes.
pub(super) type Standing = (Vec<(String, i64)>, Vec<(String, i64)>);

pub(super) fn write(db: &Connection, unit: &Unit) -> Result<(), StoreError> {
    for (key, known) in &unit.hinted {
        if hints(db, key)? != *known {
            return Err(StoreError::Taken);
        }
    }
    let mut drop = db.prepare_cached("DELETE FROM hint WHERE key=?1 AND entity=?2")?;
    let mut put = db.prepare_cached("INSERT OR IGNORE INTO hint(key,entity) VALUES(?1,?2)")?;
    for (key, entity, on) in &unit.hints {
        let hint = if *on { &mut put } else { &mut drop };
        hint.execute(params![key.as_slice(), entity])?;
    }
    let mut going = db.prepare_cached("INSERT INTO going(link,at) VALUES(?1,?2)")?;
    for (link, at) in &unit.goings {
        going.execute(params![link, at])?;
    }
    let mut released = db.prepare_cached("DELETE FROM going WHERE link=?1")?;
    for link in &unit.released {
        released.execute([link])?;
    }
    let mut size =
        db.prepare_cached("INSERT INTO size(link,n) VALUES(?1,?2) ON CONFLICT(link) DO UPDATE SET n=n+?2")?;
    for (link, n) in &unit.sizes {
        size.execute(params![link, n])?;
    }
    let mut tombstone = db.prepare_cached("INSERT OR REPLACE INTO tombstone(key,at) VALUES(?1,?2)")?;
    for (key, at) in &unit.tombstones {
        tombstone.execute(params![key.as_slice(), at])?;
    }
    for forgotten in &unit.forgotten {
        forget(db, forgotten)?;
    }
    Ok(())
}

/// Takes away what stands outside the document and could tell something of an entity.
fn forget(db: &Connection, of: &Forgotten) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM decision WHERE entity=?1",
        "DELETE FROM dead_letter WHERE entity=?1",
        "DELETE FROM hint WHERE entity=?1",
        "UPDATE question SET subject='' WHERE entity=?1",
    ] {
        db.prepare_cached(sql)?.execute([of.entity])?;
    }
    trail::forget(db, of)
}

pub(super) fn hints(db: &Connection, key: &Key) -> Result<Vec<EntityId>, StoreError> {
    let mut statement = db.prepare_cached("SELECT entity FROM hint WHERE key=?1 ORDER BY entity LIMIT ?2")?;
    Ok(statement.query_map(params![key.as_slice(), CANDIDATES], |r| r.get(0))?.collect::<Result<_, _>>()?)
}

pub(super) fn is_erased(db: &Connection, key: &Key) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached("SELECT 1 FROM tombstone WHERE key=?1")?;
    Ok(statement.query_row([key.as_slice()], |_| Ok(())).optional()?.is_some())
}

pub(super) fn standing(db: &Connection) -> Result<Standing, StoreError> {
    let pairs = |sql: &str| -> Result<Vec<(String, i64)>, StoreError> {
        let mut statement = db.prepare(sql)?;
        Ok(statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?)
    };
    Ok((pairs("SELECT link,at FROM going ORDER BY n")?, pairs("SELECT link,n FROM size")?))
}

/// Forgets what is too old to matter. Returns whether there may be more.
pub(super) fn expire(db: &Connection, now: i64) -> Result<bool, StoreError> {
    let goings = db
        .prepare_cached("DELETE FROM going WHERE n IN (SELECT n FROM going WHERE at<?1 ORDER BY n LIMIT ?2)")?
        .execute(params![now - GOINGS, EXPIRE_ROWS])?;
    let tombstones = db
        .prepare_cached("DELETE FROM tombstone WHERE key IN (SELECT key FROM tombstone WHERE at<?1 LIMIT ?2)")?
        .execute(params![now - TOMBSTONES, EXPIRE_ROWS])?;
    let full = usize::try_from(EXPIRE_ROWS).unwrap_or(usize::MAX);
    Ok(goings >= full || tombstones >= full)
}
