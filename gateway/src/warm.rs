//! Reads the last minutes of the stream into the deduplication, in the background, after a start.
//!
//! This is how a call stays without a second effect across restarts: the ids of its changes follow from what it says,
//! they stand in the stream as long as its signature is inside the time window and longer, and whoever holds them
//! answers a repeat as it answered the first. A repeat that comes before this has read so far is published once more
//! under the same ids, and readers of the stream drop it. It must not delay the start or fail it. The surprising thing:
//! the end is found by waiting, since offsets have gaps and the stream goes on growing.

use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::Timestamp;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Source, StreamError};
use tokio::time::timeout;

use crate::dedup::{Dedup, Key};
use crate::metrics::Metrics;

/// A signature is valid five minutes before and after its time, so a call can be repeated for ten; the rest is for
/// clocks, and for records whose order is not quite that of their times.
const BEHIND: Duration = Duration::from_mins(15);
/// How long what was read is remembered: longer than any call of that time stays valid.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);
/// Records read at once.
const PAGE: usize = 1_000;
/// Nothing more within this time: the end.
const END: Duration = Duration::from_secs(1);

/// Reads until the end, the stop, or the `keys` that are remembered at most. Without the history repeats cost a second
/// record in the stream, no more, so a fault is told and nothing else.
pub(crate) async fn warm(
    dedup: Arc<Dedup>,
    source: Box<dyn Source>,
    keys: u64,
    now: Timestamp,
    metrics: Metrics,
    shutdown: Shutdown,
) {
    let read = tokio::select! {
        () = shutdown.stopped() => return,
        read = read(&dedup, source, keys, now, &metrics) => read,
    };
    match read {
        Ok(changes) => tracing::info!(changes, "changes of the last minutes are remembered"),
        Err(error) => {
            tracing::warn!(%error, "the last minutes of the stream cannot be read; repeats are published again")
        }
    }
}

async fn read(
    dedup: &Dedup,
    mut source: Box<dyn Source>,
    keys: u64,
    now: Timestamp,
    metrics: &Metrics,
) -> Result<u64, StreamError> {
    let positions = source.since(now - BEHIND)?;
    source.assign(&positions)?;
    let mut remembered = 0;
    while remembered < keys {
        let Ok(page) = timeout(END, source.next(PAGE)).await else { break };
        for delivered in page? {
            let record = &delivered.record;
            let id = record.header("ce_id").and_then(|id| id.parse().ok());
            let (Some(id), Some(tenant)) = (id, record.header("ce_tenant")) else { continue };
            dedup.remember(Key::new(id, tenant), REMEMBERED_FOR);
            metrics.dedup_warmed.inc();
            remembered += 1;
        }
    }
    Ok(remembered)
}
