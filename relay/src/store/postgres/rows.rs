//! What whole tables hold, read and turned into our types; for the start and for the admin API.

use headgate_schemas::ChangeId;
use headgate_schemas::stream::Position;
use tokio_postgres::types::{FromSql, FromSqlOwned};
use tokio_postgres::{Client, Row};

use super::error::PostgresError;
use super::write::unsigned;
use crate::books::{Place, Share, Sum};
use crate::entity::Outcome;
use crate::store::{Counter, OutcomeRow, QuestionEnd};

type Read<T> = Result<T, PostgresError>;

/// The one value of a query.
pub(super) async fn value<T: FromSqlOwned>(client: &Client, sql: &str) -> Read<T> {
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

/// A column of a row.
pub(super) fn at<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Read<T> {
    Ok(row.try_get(column)?)
}

async fn all<T>(client: &Client, sql: &str, read: impl Fn(&Row) -> Read<T>) -> Read<Vec<T>> {
    client.query(sql, &[]).await?.iter().map(read).collect()
}

pub(super) async fn positions(client: &Client) -> Read<Vec<Position>> {
    all(client, "SELECT part,off FROM position WHERE off IS NOT NULL ORDER BY part", position).await
}

/// Where to read a partition on.
pub(super) fn position(row: &Row) -> Read<Position> {
    let (partition, offset): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Position { partition: u32::try_from(partition).unwrap_or(u32::MAX), offset: u64::try_from(offset).unwrap_or(0) })
}

pub(super) async fn pairs(client: &Client, sql: &str) -> Read<Vec<(String, i64)>> {
    all(client, sql, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await
}

pub(super) async fn counters(client: &Client) -> Read<Vec<(Counter, i64)>> {
    let rows =
        all(client, "SELECT name,n FROM counter", |row| Ok((row.try_get::<_, i16>(0)?, row.try_get(1)?))).await?;
    let known = [Counter::Changes, Counter::Repeats, Counter::Doubled];
    let find = |name: i16| known.into_iter().find(|counter| i16::from(*counter as u8) == name);
    Ok(rows.into_iter().filter_map(|(name, n)| Some((find(name)?, n))).collect())
}

pub(super) async fn sums(client: &Client) -> Read<Vec<(Place, Sum, i64)>> {
    let rows = all(client, "SELECT link,target,what,n FROM sum ORDER BY link,target,what", |row| {
        let place = Place { link: unsigned(row.try_get(0)?), target: unsigned(row.try_get(1)?) };
        Ok((place, row.try_get::<_, i16>(2)?, row.try_get(3)?))
    })
    .await?;
    let known = |number: i16| Sum::ALL.into_iter().find(|sum| i16::from(sum.number()) == number);
    Ok(rows.into_iter().filter_map(|(place, what, n)| Some((place, known(what)?, n))).collect())
}

/// What is open in a shared state.
pub(super) async fn open(client: &Client) -> Read<Vec<(Share, i64)>> {
    all(client, "SELECT link,target,at,held,n FROM open_sum WHERE n<>0 ORDER BY link,target,at,held", |row| {
        let place = Place { link: unsigned(row.try_get(0)?), target: unsigned(row.try_get(1)?) };
        Ok((Share { place, at: unsigned(row.try_get(2)?), held: row.try_get(3)? }, row.try_get(4)?))
    })
    .await
}

/// How a question ended, from three columns.
pub(super) fn question_end(row: &Row, from: usize) -> Read<Option<QuestionEnd>> {
    let Some(at) = row.try_get(from)? else { return Ok(None) };
    Ok(Some(QuestionEnd { at, by: row.try_get(from + 1)?, choice: row.try_get(from + 2)? }))
}

pub(super) const OUTCOME: &str = "accepted,change,target,link,entity,previous,kind,at,took";

/// An outcome, from the columns of [`OUTCOME`].
pub(super) fn outcome(row: &Row) -> Read<OutcomeRow> {
    let kind: i16 = row.try_get(6)?;
    let outcome = Outcome::ALL.into_iter().find(|o| i16::from(*o as u8) == kind);
    Ok(OutcomeRow {
        accepted: row.try_get(0)?,
        change: change(row.try_get(1)?)?,
        place: Place { target: unsigned(row.try_get(2)?), link: unsigned(row.try_get(3)?) },
        entity: row.try_get(4)?,
        previous: row.try_get(5)?,
        outcome: outcome.ok_or_else(|| foreign("outcome"))?,
        at: row.try_get(7)?,
        took: row.try_get(8)?,
    })
}

pub(super) fn change(bytes: &[u8]) -> Read<ChangeId> {
    bytes.try_into().map(ChangeId::from_bytes).map_err(|_| foreign("change id"))
}

/// Something that no version of this program writes.
pub(super) fn foreign(what: &'static str) -> PostgresError {
    PostgresError::Foreign(what)
}
