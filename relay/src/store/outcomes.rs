//! How changes ended: one table for each day, so that a day is forgotten as a whole. Kept in the state's own file and
//! transaction.
//!
//! The key is (taken at, change, target): a change has one outcome at a target because a second one meets the first, and
//! new rows stand at the end of the table, which is what keeps them cheap: no index has to be kept in another order.
//! Rows of one entity are found along the chain of [`OutcomeRow::previous`], which starts in the entity's document. The
//! surprise: a day is the day a change was *taken*; one that waited for weeks brings back a table of its day.

use std::collections::{BTreeSet, HashSet};

use headgate_schemas::ChangeId;
use jiff::tz::TimeZone;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Committed, EntityId, Key, OutcomeRow, StoreError};
use crate::books::Place;
use crate::entity::Outcome;

/// The days there are, and when the last change of each ended.
pub(super) const SCHEMA: &str = "
CREATE TABLE outcome_day(day INTEGER PRIMARY KEY, last INTEGER NOT NULL);
";

const COLUMNS: &str = "accepted,change,target,link,entity,previous,kind,at,took";

/// Rows of a day that one step of forgetting takes away at most, give or take what was taken in the same microsecond.
const STEP: i64 = 5_000;

/// A chain is not followed further: longer ones take a person's patience, not our memory.
const CHAIN: usize = 10_000;

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

/// The day of a time of ours, as it is written: 20261121.
fn day(us: i64) -> i64 {
    let last = if us > 0 { jiff::Timestamp::MAX } else { jiff::Timestamp::MIN };
    let time = jiff::Timestamp::from_microsecond(us).unwrap_or(last);
    let date = time.to_zoned(TimeZone::UTC).date();
    i64::from(date.year()) * 10_000 + i64::from(date.month()) * 100 + i64::from(date.day())
}

fn table(day: i64) -> String {
    format!("outcome_{day:08}")
}

/// Writes outcomes and counts those that are new.
pub(super) fn write(db: &Connection, rows: &[OutcomeRow]) -> Result<Committed, StoreError> {
    let mut committed = Committed::default();
    // In the order of the key each row stands after the last, and pages fill up instead of being split.
    let mut rows: Vec<&OutcomeRow> = rows.iter().collect();
    rows.sort_by_key(|row| (row.accepted, row.change, row.place.target));
    for rows in rows.chunk_by(|a, b| a.accepted.div_euclid(DAY) == b.accepted.div_euclid(DAY)) {
        let day = rows.first().map_or(0, |row| day(row.accepted));
        let table = table(day);
        note_day(db, day, &table, rows.iter().map(|row| row.at).max().unwrap_or(0))?;
        let mut insert =
            db.prepare_cached(&format!("INSERT OR IGNORE INTO {table}({COLUMNS}) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)"))?;
        for o in rows {
            let new = insert.execute(params![
                o.accepted,
                o.change.as_bytes().as_slice(),
                o.place.target,
                o.place.link,
                o.entity,
                o.previous,
                o.outcome as u8,
                o.at,
                o.took
            ])?;
            if new == 0 {
                committed.doubled += 1;
            } else {
                committed.count(o.place, o.outcome);
            }
        }
    }
    Ok(committed)
}

fn note_day(db: &Connection, day: i64, table: &str, last: i64) -> Result<(), StoreError> {
    if !exists(db, day)? {
        db.execute_batch(&format!(
            "CREATE TABLE {table}(accepted INTEGER NOT NULL, change BLOB NOT NULL, target INTEGER NOT NULL,
             link INTEGER NOT NULL, entity INTEGER NOT NULL, previous INTEGER NOT NULL, kind INTEGER NOT NULL,
             at INTEGER NOT NULL, took INTEGER NOT NULL, PRIMARY KEY(accepted, change, target)) WITHOUT ROWID"
        ))?;
    }
    db.prepare_cached(
        "INSERT INTO outcome_day(day,last) VALUES(?1,?2) ON CONFLICT(day) DO UPDATE SET last=max(last,?2)",
    )?
    .execute(params![day, last])?;
    Ok(())
}

fn exists(db: &Connection, day: i64) -> Result<bool, StoreError> {
    Ok(db.prepare_cached("SELECT 1 FROM outcome_day WHERE day=?1")?.exists([day])?)
}

impl Committed {
    pub(super) fn count(&mut self, place: Place, outcome: Outcome) {
        match self.ended.iter_mut().find(|(p, o, _)| (*p, *o) == (place, outcome)) {
            Some((_, _, n)) => *n += 1,
            None => self.ended.push((place, outcome, 1)),
        }
    }
}

/// Forgets days whose last change ended before a time: empties the oldest such day by a step, and drops it when nothing
/// is left, because dropping a big table at once would hold up a tick. Returns whether there may be more.
pub(super) fn expire(db: &Connection, before: i64) -> Result<bool, StoreError> {
    let Some(day) = db
        .prepare_cached("SELECT day FROM outcome_day WHERE last<?1 ORDER BY day LIMIT 1")?
        .query_row([before], |row| row.get::<_, i64>(0))
        .optional()?
    else {
        return Ok(false);
    };
    let table = table(day);
    let last_of_step = db
        .prepare(&format!("SELECT accepted FROM {table} ORDER BY accepted,change,target LIMIT 1 OFFSET ?1"))?
        .query_row([STEP], |row| row.get::<_, i64>(0))
        .optional()?;
    if let Some(accepted) = last_of_step {
        db.prepare(&format!("DELETE FROM {table} WHERE accepted<=?1"))?.execute([accepted])?;
    } else {
        db.execute_batch(&format!(
            "BEGIN IMMEDIATE; DROP TABLE {table}; DELETE FROM outcome_day WHERE day={day}; COMMIT;"
        ))?;
    }
    Ok(true)
}

/// Outcomes of an entity, the newest first, along the chain that starts at `newest`.
pub(super) fn of_entity(
    db: &Connection,
    entity: EntityId,
    newest: i64,
    limit: usize,
) -> Result<Vec<OutcomeRow>, StoreError> {
    let (mut rows, mut seen, mut ahead) = (Vec::new(), HashSet::new(), BTreeSet::from([newest]));
    while let Some(accepted) = ahead.pop_last()
        && rows.len() < limit
        && seen.len() < CHAIN
    {
        if accepted == 0 || !seen.insert(accepted) {
            continue;
        }
        let found = read(db, accepted, "entity=?2", &entity)?;
        ahead.extend(found.iter().map(|row| row.previous));
        rows.extend(found);
    }
    rows.sort_by_key(|row| (std::cmp::Reverse(row.at), row.change, row.place));
    rows.truncate(limit);
    Ok(rows)
}

/// Outcomes of a change at each target. `None` when the change is not known (any more).
pub(super) fn of_change(db: &Connection, key: &Key, change: ChangeId) -> Result<Option<Vec<OutcomeRow>>, StoreError> {
    let accepted = db
        .prepare_cached("SELECT at FROM change WHERE id=?1")?
        .query_row([key.as_slice()], |row| row.get::<_, i64>(0))
        .optional()?;
    accepted.map(|accepted| read(db, accepted, "change=?2", &change.as_bytes().as_slice())).transpose()
}

/// Outcomes of the changes that were taken last before a time, the newest first.
pub(super) fn recent(db: &Connection, before: i64, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
    let days: Vec<i64> = db
        .prepare_cached("SELECT day FROM outcome_day WHERE day<=?1 ORDER BY day DESC")?
        .query_map([day(before)], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for day in days {
        let left = i64::try_from(limit - rows.len()).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT {COLUMNS} FROM {} WHERE accepted<?1 ORDER BY accepted DESC,change DESC,target DESC LIMIT ?2",
            table(day)
        );
        let found = db.prepare_cached(&sql)?.query_map(params![before, left], row)?.collect::<Result<Vec<_>, _>>()?;
        rows.extend(found);
        if rows.len() >= limit {
            break;
        }
    }
    Ok(rows)
}

fn read(
    db: &Connection,
    accepted: i64,
    what: &str,
    which: &dyn rusqlite::ToSql,
) -> Result<Vec<OutcomeRow>, StoreError> {
    let day = day(accepted);
    if !exists(db, day)? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT {COLUMNS} FROM {} WHERE accepted=?1 AND {what}", table(day));
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params![accepted, which], row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn row(row: &Row<'_>) -> rusqlite::Result<OutcomeRow> {
    let kind: u8 = row.get(6)?;
    let unknown = || rusqlite::Error::IntegralValueOutOfRange(6, i64::from(kind));
    Ok(OutcomeRow {
        accepted: row.get(0)?,
        change: ChangeId::from_bytes(row.get(1)?),
        place: Place { target: row.get(2)?, link: row.get(3)? },
        entity: row.get(4)?,
        previous: row.get(5)?,
        outcome: Outcome::ALL.into_iter().find(|o| *o as u8 == kind).ok_or_else(unknown)?,
        at: row.get(7)?,
        took: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_day_of_the_world_clock() {
        for (us, name) in [
            (0, "outcome_19700101"),
            (86_399_999_999, "outcome_19700101"),
            (86_400_000_000, "outcome_19700102"),
            (1_800_000_000_000_000, "outcome_20270115"),
        ] {
            assert_eq!(table(day(us)), name);
        }
    }
}
