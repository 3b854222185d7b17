//! Reads the last minutes of the stream into the deduplication, in the background, after a start.
//!
//! This is how a call stays without a second effect across restarts: the ids of its changes follow from what it says,
//! they stand in the stream as long as its signature is inside the time window and longer, and whoever holds them
//! answers a repeat as it answered the first. A repeat that comes before this has read so far is published once more
//! under the same ids, and readers of the stream drop it. It must not delay the start or fail it, and it leaves alone
//! what was received after the start: whoever publishes that remembers it, for as long as its provider may repeat it.
//! The surprising thing: the end is found by waiting, since offsets have gaps and the stream goes on growing. What ends
//! the wait is that no *old* record came for a while; new ones may come all the time, and partitions come in any order.

use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::Timestamp;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Source, StreamError};
use tokio::time::{Instant, timeout_at};

use crate::dedup::{Dedup, Key};
use crate::metrics::Metrics;

/// A signature is valid five minutes before and after its time, so a call can be repeated for ten; the rest is for
/// clocks, and for records whose order is not quite that of their times.
const BEHIND: Duration = Duration::from_mins(15);
/// How long what was read is remembered: longer than any call of that time stays valid.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);
/// Records read at once.
const PAGE: usize = 1_000;
/// Nothing from before the start within this time: the end.
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
    let mut end = Instant::now() + END;
    while remembered < keys {
        let Ok(page) = timeout_at(end, source.next(PAGE)).await else { break };
        let page = page?;
        let mut old = page.iter().map(|delivered| &delivered.record).filter(|record| record.at <= now).peekable();
        if old.peek().is_some() {
            end = Instant::now() + END;
        } else if Instant::now() >= end {
            // A stream that always has something never lets the wait above run out.
            break;
        }
        for record in old {
            let id = record.header("ce_id").and_then(|id| id.parse().ok());
            let (Some(id), Some(tenant)) = (id, record.header("ce_tenant")) else { continue };
            dedup.remember(Key::new(id, tenant), REMEMBERED_FOR);
            metrics.dedup_warmed.inc();
            remembered += 1;
        }
    }
    Ok(remembered)
}

#[cfg(test)]
mod tests {
    use headgate_schemas::contract::{self, Record};
    use headgate_schemas::stream::memory::Memory;
    use headgate_schemas::stream::{Next, Position, Sink as _, Topic};
    use headgate_schemas::{ChangeId, System};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::dedup::Reserved;

    const START: Timestamp = Timestamp::from_secs(1_767_268_800);

    fn id(seconds: i64) -> ChangeId {
        ChangeId::derive(System::Hubspot, "5550123", [seconds.to_string().as_bytes()])
    }

    /// A record received so long after the start.
    fn record(seconds: i64) -> Record {
        let mut change = contract::example();
        change.id = id(seconds);
        change.received_at = Timestamp::from_secs(START.millis() / 1_000 + seconds);
        contract::encode(&change).unwrap()
    }

    fn knows(dedup: &Arc<Dedup>, seconds: i64) -> bool {
        let key = Key::new(id(seconds), &contract::example().tenant);
        matches!(dedup.reserve([key], Duration::from_secs(60))[0], Reserved::Kept)
    }

    async fn read_all(dedup: &Dedup, source: Box<dyn Source>, keys: u64) -> Result<u64, StreamError> {
        read(dedup, source, keys, START, &Metrics::register(&mut Registry::default())).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_received_before_the_start_is_remembered_and_nothing_later() {
        let stream = Memory::new(4);
        let records = [-1_000, -3, 1, -2, 2, -1, 3].map(record);
        assert!(stream.append(records.into()).await.is_ok());
        let dedup = Dedup::new(100);
        assert_eq!(read_all(&dedup, Box::new(stream.source()), 100).await.ok(), Some(3));
        let known = [-1_000, -3, -2, -1, 1, 2, 3].map(|seconds| knows(&dedup, seconds));
        assert_eq!(known, [false, true, true, true, false, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_remembered_than_there_is_room_for() {
        let stream = Memory::new(1);
        for seconds in -9..0 {
            assert!(stream.append(vec![record(seconds)]).await.is_ok());
        }
        let dedup = Dedup::new(100);
        // Everything of one page counts; the next page is not read.
        assert_eq!(read_all(&dedup, Box::new(stream.source()), 5).await.ok(), Some(9));
        assert_eq!(read_all(&dedup, Box::new(stream.source()), 0).await.ok(), Some(0));
    }

    /// A stream that has a new record every 10 ms for ever, and an old one only as the third.
    struct Busy(i64);

    impl Source for Busy {
        fn topic(&self) -> Topic {
            Topic { id: "busy".to_owned(), partitions: 1 }
        }

        fn assign(&mut self, _: &[Position]) -> Result<(), StreamError> {
            Ok(())
        }

        fn next(&mut self, _: usize) -> Next<'_> {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                self.0 += 1;
                let record = record(if self.0 == 3 { -1 } else { self.0 });
                Ok(vec![headgate_schemas::stream::Delivered { partition: 0, offset: self.0.unsigned_abs(), record }])
            })
        }

        fn bounds(&self) -> Result<Vec<(Position, Position)>, StreamError> {
            Ok(Vec::new())
        }

        fn since(&self, _: Timestamp) -> Result<Vec<Position>, StreamError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_under_constant_traffic_is_read_to_its_old_end_only() {
        let (dedup, began) = (Dedup::new(100), Instant::now());
        assert_eq!(read_all(&dedup, Box::new(Busy(0)), 100).await.ok(), Some(1));
        assert!(knows(&dedup, -1));
        // The third record came after 30 ms, and a second after it nothing else was old.
        assert_eq!(began.elapsed().as_millis(), 1_030);
    }
}
