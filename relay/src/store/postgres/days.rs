//! Days of outcomes, of trails and of audit: a partition each, made before its first row is written and dropped as a whole.
//!
//! A partition is made in a transaction of its own, ahead of the tick that needs it, because making one takes locks that
//! a tick must not hold. With it goes a note until when the day matters, rounded up to the hour so that it is written
//! once an hour and not once a tick. The surprise: a day of outcomes is the day its changes were *taken*, so one that
//! waited for weeks brings a partition of its day back.

use std::collections::BTreeMap;

use jiff::Span;
use jiff::civil::Date;
use tokio_postgres::Client;

use super::error::PostgresError;
use super::session::Lock;
use crate::store::{Before, Unit};

const DAY: i64 = 86_400_000_000;
const HOUR: i64 = 3_600_000_000;

/// Partitions that one round of forgetting drops at most, of each kind.
const DROP_MOST: i64 = 8;
/// A drop waits for readers no longer than this: whoever writes waits behind it.
const DROP_PATIENCE_MS: u32 = 200;

/// What is kept in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Outcome,
    Trail,
    Audit,
}

impl Of {
    const fn table(self) -> &'static str {
        match self {
            Self::Outcome => "outcome",
            Self::Trail => "trail",
            Self::Audit => "audit",
        }
    }
}

/// Days that this session knows to be there, with the end that is noted for them.
#[derive(Debug, Default)]
pub(super) struct Days(BTreeMap<(Of, i64), i64>);

impl Days {
    /// Whether a unit needs partitions that are not known to be there.
    pub(super) fn lack(&self, unit: &Unit) -> bool {
        wanted(unit).any(|(of, day, last)| self.0.get(&(of, day)).is_none_or(|noted| *noted < last))
    }

    /// Makes the partitions that a unit needs and that are not known to be there.
    pub(super) async fn make_for(&mut self, client: &Client, unit: &Unit) -> Result<(), PostgresError> {
        for (of, day, last) in wanted(unit) {
            if self.0.get(&(of, day)).is_some_and(|noted| *noted >= last) {
                continue;
            }
            make(client, of, day, last).await?;
            self.0.insert((of, day), last);
        }
        Ok(())
    }

    /// Drops the days that do not matter any more. Returns whether there may be more.
    pub(super) async fn expire(&mut self, client: &Client, before: Before) -> Result<bool, PostgresError> {
        let outcomes = self.drop_ended(client, Of::Outcome, before.outcomes).await?;
        let trail = self.drop_ended(client, Of::Trail, before.outcomes).await?;
        let audit = self.drop_ended(client, Of::Audit, before.audit).await?;
        Ok(outcomes || trail || audit)
    }

    async fn drop_ended(&mut self, client: &Client, of: Of, before: i64) -> Result<bool, PostgresError> {
        let ended = client
            .query(
                "SELECT day FROM day WHERE of=$1 AND last<$2 ORDER BY day LIMIT $3",
                &[&of.table(), &before, &DROP_MOST],
            )
            .await?;
        for row in &ended {
            let day = row.try_get(0)?;
            self.0.remove(&(of, day));
            if !drop_day(client, of, day, before).await? {
                return Ok(false);
            }
        }
        Ok(i64::try_from(ended.len()).unwrap_or(DROP_MOST) == DROP_MOST)
    }
}

/// The days of a unit's rows, each with the time until which it matters because of them.
fn wanted(unit: &Unit) -> impl Iterator<Item = (Of, i64, i64)> {
    let outcomes = unit.outcomes.iter().map(|o| (Of::Outcome, o.accepted.div_euclid(DAY), o.at));
    let audit = unit.audit.iter().map(|a| (Of::Audit, a.at.div_euclid(DAY), a.at));
    let mut days: BTreeMap<(Of, i64), i64> = BTreeMap::new();
    let trail = unit.trail.iter().map(|t| (Of::Trail, t.at.div_euclid(DAY), t.at));
    for (of, day, at) in outcomes.chain(audit).chain(trail) {
        let last = at.div_euclid(HOUR).saturating_add(1).saturating_mul(HOUR);
        days.entry((of, day)).and_modify(|noted| *noted = last.max(*noted)).or_insert(last);
    }
    days.into_iter().map(|((of, day), last)| (of, day, last))
}

async fn make(client: &Client, of: Of, day: i64, last: i64) -> Result<(), PostgresError> {
    let made = make_locked(client, of, day, last).await;
    if made.is_err() {
        client.batch_execute("ROLLBACK").await?;
    }
    made
}

async fn make_locked(client: &Client, of: Of, day: i64, last: i64) -> Result<(), PostgresError> {
    let (table, partition) = (of.table(), partition(of, day));
    client.batch_execute("BEGIN").await?;
    Lock::Partitions.acquire(client).await?;
    let there = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&partition]).await?;
    if !there.try_get::<_, bool>(0)? {
        // Made beside the others and then taken in: this way nobody who reads or writes them has to wait.
        let (from, to) = (day.saturating_mul(DAY), day.saturating_add(1).saturating_mul(DAY));
        let make = format!(
            "CREATE TABLE {partition} (LIKE {table});
             ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ({from}) TO ({to})"
        );
        client.batch_execute(&make).await?;
    }
    client
        .execute(
            "INSERT INTO day(of,day,last) VALUES($1,$2,$3) ON CONFLICT(of,day) DO UPDATE SET last=greatest(day.last,$3)",
            &[&table, &day, &last],
        )
        .await?;
    Ok(client.batch_execute("COMMIT").await?)
}

/// Drops a day, unless somebody reads it at length or it came to matter again. False when it has to wait for a later round.
async fn drop_day(client: &Client, of: Of, day: i64, before: i64) -> Result<bool, PostgresError> {
    let dropped = drop_locked(client, of, day, before).await;
    match dropped {
        Ok(()) => Ok(true),
        Err(error) => {
            client.batch_execute("ROLLBACK").await?;
            if error.is_locked_out() { Ok(false) } else { Err(error) }
        }
    }
}

async fn drop_locked(client: &Client, of: Of, day: i64, before: i64) -> Result<(), PostgresError> {
    client.batch_execute(&format!("BEGIN; SET LOCAL lock_timeout = {DROP_PATIENCE_MS}")).await?;
    Lock::Partitions.acquire(client).await?;
    let sql = "DELETE FROM day WHERE of=$1 AND day=$2 AND last<$3";
    if client.execute(sql, &[&of.table(), &day, &before]).await? > 0 {
        client.batch_execute(&format!("DROP TABLE IF EXISTS {}", partition(of, day))).await?;
    }
    Ok(client.batch_execute("COMMIT").await?)
}

/// The name of a day's partition, with the date as people write it.
fn partition(of: Of, day: i64) -> String {
    let days = Span::new().try_days(day).ok().filter(|_| day >= 0);
    match days.and_then(|days| Date::constant(1970, 1, 1).checked_add(days).ok()) {
        Some(date) => format!("{}_{:04}{:02}{:02}", of.table(), date.year(), date.month(), date.day()),
        None => format!("{}_{}{}", of.table(), if day < 0 { "before_" } else { "day_" }, day.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_named_after_its_date() {
        for (of, us, name) in [
            (Of::Outcome, 0, "outcome_19700101"),
            (Of::Outcome, 86_399_999_999, "outcome_19700101"),
            (Of::Audit, 86_400_000_000, "audit_19700102"),
            (Of::Outcome, 1_800_000_000_000_000, "outcome_20270115"),
            (Of::Outcome, i64::MAX, "outcome_day_106751991"),
        ] {
            assert_eq!(partition(of, us.div_euclid(DAY)), name);
        }
    }
}
