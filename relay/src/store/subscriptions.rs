//! Where subscriptions stand, as a table: one row each, written by whoever runs it and opaque here. It holds places in
//! the stream and counts, no field value and no address.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{StoreError, Unit};

/// Its part of the schema. Added to states of earlier builds, which nothing else in them is changed for.
pub(super) const SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS subscription(name TEXT PRIMARY KEY, memo BLOB NOT NULL) WITHOUT ROWID;";

/// Where a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// Its name.
    pub name: String,
    /// What it keeps.
    pub memo: Vec<u8>,
}

pub(super) fn write(db: &Connection, unit: &Unit) -> Result<(), StoreError> {
    let mut put =
        db.prepare_cached("INSERT INTO subscription(name,memo) VALUES(?1,?2) ON CONFLICT(name) DO UPDATE SET memo=?2")?;
    for row in &unit.subscriptions {
        put.execute(params![row.name, row.memo])?;
    }
    Ok(())
}

pub(super) fn memo(db: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = db.prepare_cached("SELECT memo FROM subscription WHERE name=?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}
