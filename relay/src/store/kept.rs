//! What parts beside the engine keep in the state: small rows on a few shelves, opaque here, written with the tick that
//! hands them over and therefore under its worker's epoch. They hold places in the stream, counts and sealed definitions;
//! no field value ever.

use rusqlite::{Connection, params};

use super::{StoreError, Unit};

/// Its part of the schema.
pub(super) const SCHEMA: &str = "
CREATE TABLE kept(shelf INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(shelf, name)) WITHOUT ROWID;
";

/// What a row is of. The numbers stand in states and are never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shelf {
    /// Where a subscription stands, by its name.
    Subscription = 1,
    /// A subscription that was made over the API, by its name; sealed.
    Endpoint = 2,
    /// A replay, by its number.
    Replay = 3,
    /// A login to a provider, by the name of the connection; sealed.
    Login = 4,
}

impl Shelf {
    /// The number in the state.
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The name in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subscription | Self::Endpoint => "subscription",
            Self::Replay => "replay",
            Self::Login => "login",
        }
    }
}

/// One row, as it is to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRow {
    /// What it is of.
    pub shelf: Shelf,
    /// Its name there.
    pub name: String,
    /// What is kept; `None` takes the row away.
    pub value: Option<Vec<u8>>,
}

pub(super) fn write(db: &Connection, unit: &Unit) -> Result<(), StoreError> {
    let mut put = db.prepare_cached(
        "INSERT INTO kept(shelf,name,value) VALUES(?1,?2,?3) ON CONFLICT(shelf,name) DO UPDATE SET value=?3",
    )?;
    let mut drop = db.prepare_cached("DELETE FROM kept WHERE shelf=?1 AND name=?2")?;
    for KeptRow { shelf, name, value } in &unit.kept {
        match value {
            Some(value) => put.execute(params![shelf.number(), name, value])?,
            None => drop.execute(params![shelf.number(), name])?,
        };
    }
    Ok(())
}

pub(super) fn read(db: &Connection, shelf: Shelf, name: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let sql = "SELECT name,value FROM kept WHERE shelf=?1 AND (?2 IS NULL OR name=?2) ORDER BY name";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![shelf.number(), name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
