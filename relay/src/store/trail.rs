//! What happened to each record, as a table that only grows at its end: rows of one entity are found along the chain of
//! [`TrailRow::previous`], which starts in the entity's document, so that no index has to be kept in another order.
//!
//! The surprising thing: a chain may fork. Where two entities became one, a row names the newest row of the other.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{EntityId, Forgotten, StoreError, TrailRow, sqlite::Reader};
use crate::trail::Happened;

/// Its part of the schema.
pub(super) const SCHEMA: &str = "
CREATE TABLE trail(at INTEGER NOT NULL, entity INTEGER NOT NULL, previous INTEGER NOT NULL, happened BLOB NOT NULL,
  PRIMARY KEY(at, entity)) WITHOUT ROWID;
";

/// Rows that one round of forgetting takes away at most.
const EXPIRE_ROWS: i64 = 10_000;
/// A chain is not followed further: longer ones take a person's patience, not our memory.
pub(super) const CHAIN: usize = 10_000;

pub(super) fn write(db: &Connection, rows: &[TrailRow]) -> Result<(), StoreError> {
    let mut insert = db.prepare_cached("INSERT INTO trail(at,entity,previous,happened) VALUES(?1,?2,?3,?4)")?;
    // In the order of the key each row stands after the last.
    let mut rows: Vec<&TrailRow> = rows.iter().collect();
    rows.sort_by_key(|row| (row.at, row.entity));
    for row in rows {
        insert.execute(params![row.at, row.entity, row.previous, encode(row)?])?;
    }
    Ok(())
}

/// What happened, as it is kept.
pub(super) fn encode(row: &TrailRow) -> Result<Vec<u8>, StoreError> {
    postcard::to_stdvec(&row.happened).map_err(|source| StoreError::Document { entity: row.entity, source })
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(entity: EntityId, happened: &[u8]) -> Result<Vec<Happened>, StoreError> {
    postcard::from_bytes(happened).map_err(|source| StoreError::Document { entity, source })
}

/// The rows that come before one along its chain, by time and entity.
pub(super) fn before(row: &TrailRow) -> impl Iterator<Item = (i64, EntityId)> {
    let joined = row.happened.iter().filter_map(|happened| match happened {
        Happened::Joined { other, trail, .. } => Some((*trail, *other)),
        _ => None,
    });
    std::iter::once((row.previous, row.entity)).chain(joined)
}

/// Takes away everything that was told of an entity, and of those that became part of it.
pub(super) fn forget(db: &Connection, of: &Forgotten) -> Result<(), StoreError> {
    let mut delete = db.prepare_cached("DELETE FROM trail WHERE at=?1 AND entity=?2")?;
    for row in chain(db, (of.trail, of.entity), 0, CHAIN)? {
        delete.execute(params![row.at, row.entity])?;
    }
    Ok(())
}

/// Forgets what is older. Returns whether there may be more.
pub(super) fn expire(db: &Connection, before: i64) -> Result<bool, StoreError> {
    let rows = db
        .prepare_cached(
            "DELETE FROM trail WHERE (at,entity) IN (SELECT at,entity FROM trail WHERE at<?1 ORDER BY at LIMIT ?2)",
        )?
        .execute(params![before, EXPIRE_ROWS])?;
    Ok(i64::try_from(rows).unwrap_or(i64::MAX) >= EXPIRE_ROWS)
}

/// Rows along a chain, the newest first, none older than `since`.
fn chain(db: &Connection, newest: (i64, EntityId), since: i64, most: usize) -> Result<Vec<TrailRow>, StoreError> {
    let mut select = db.prepare_cached("SELECT previous,happened FROM trail WHERE at=?1 AND entity=?2")?;
    let (mut rows, mut ahead) = (Vec::new(), BTreeSet::from([newest]));
    while let Some((at, entity)) = ahead.pop_last()
        && rows.len() < most
    {
        if at <= 0 || at < since {
            continue;
        }
        let found: Option<(i64, Vec<u8>)> =
            select.query_row(params![at, entity], |r| Ok((r.get(0)?, r.get(1)?))).optional()?;
        let Some((previous, happened)) = found else { continue };
        let row = TrailRow { entity, at, previous, happened: decode(entity, &happened)? };
        ahead.extend(before(&row));
        rows.push(row);
    }
    Ok(rows)
}

impl Reader {
    /// What happened to an entity and to those that became part of it, the newest row first, none older than `since`;
    /// `newest` is where its chain starts ([`crate::entity::Entity::trail`]).
    ///
    /// # Errors
    /// When SQLite fails or a row cannot be decoded.
    pub(super) fn trail(
        &self,
        entity: EntityId,
        newest: i64,
        since: i64,
        most: usize,
    ) -> Result<Vec<TrailRow>, StoreError> {
        chain(&self.db, (newest, entity), since, most.min(CHAIN))
    }
}
