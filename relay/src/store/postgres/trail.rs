//! What happened to each record, followed from row to row; each row lies in the partition of its day.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::error::PostgresError;
use super::rows::foreign;
use crate::store::trail::{before, decode};
use crate::store::{EntityId, TrailRow};

/// Rows along a chain, the newest first, none older than `since`.
pub(super) async fn chain(
    client: &Client,
    newest: (i64, EntityId),
    since: i64,
    most: usize,
) -> Result<Vec<TrailRow>, PostgresError> {
    let sql = "SELECT previous,happened FROM trail WHERE at=$1 AND entity=$2";
    let (mut rows, mut ahead) = (Vec::new(), BTreeSet::from([newest]));
    while let Some((at, entity)) = ahead.pop_last()
        && rows.len() < most
    {
        if at <= 0 || at < since {
            continue;
        }
        let Some(found) = client.query_opt(sql, &[&at, &entity]).await? else { continue };
        let happened = decode(entity, found.try_get(1)?).map_err(|_| foreign("trail row"))?;
        let row = TrailRow { entity, at, previous: found.try_get(0)?, happened };
        ahead.extend(before(&row));
        rows.push(row);
    }
    Ok(rows)
}
