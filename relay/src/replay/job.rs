//! One job of a replay: reading up to where the stream ended, and appending at a limited rate.

use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::contract::Record;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Begin, BeginError, Cursor, Delivered, Position, Sink, Source, StreamError};
use headgate_schemas::{Timestamp, time};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Phase, Plan, ReplayError, View, again};
use crate::admin::OpenSource;

/// Records fetched at once.
const PAGE: usize = 500;
/// Appends a second, at most; each carries its share of the rate.
const APPENDS: u32 = 10;
/// A partition that brings nothing for so long has no more before its end.
const QUIET: Duration = Duration::from_secs(2);
/// Tries of an append that is refused or of unknown outcome. A repeat has the same id and is dropped by the relay.
const TRIES: u32 = 20;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(500);

/// A reader that ends where the stream ended when it was opened.
pub(super) struct Reach {
    source: Box<dyn Source>,
    cursor: Cursor,
    ends: Vec<Position>,
}

/// Opens it off the async threads, because asking an engine may block.
pub(super) async fn open(open: &OpenSource, begin: Begin) -> Result<Reach, ReplayError> {
    let open = Arc::clone(open);
    let opened = tokio::task::spawn_blocking(move || {
        let mut source = open()?;
        let cursor = begin.cursor(source.as_ref())?;
        source.assign(&cursor.positions())?;
        let ends = source.bounds()?.into_iter().map(|(_, end)| end).collect();
        Ok::<_, BeginError>(Reach { source, cursor, ends })
    });
    Ok(opened.await.map_err(|_| ReplayError::Stopping)??)
}

impl Reach {
    pub(super) fn position(&self) -> String {
        self.cursor.to_string()
    }

    fn is_through(&self) -> bool {
        let positions = self.cursor.positions();
        self.ends.iter().all(|end| positions.iter().any(|p| p.partition == end.partition && p.offset >= end.offset))
    }

    /// The next records before the end; `None` after the last ones. Cancel-safe.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<Delivered>>, StreamError> {
        if self.is_through() {
            return Ok(None);
        }
        let Ok(read) = tokio::time::timeout(QUIET, self.source.next(PAGE)).await else { return Ok(None) };
        let mut page = read?;
        page.iter().for_each(|delivered| self.cursor.pass(delivered));
        page.retain(|d| self.ends.iter().any(|end| end.partition == d.partition && d.offset < end.offset));
        Ok(Some(page))
    }
}

/// What a job does.
pub(super) struct Work {
    pub(super) plan: Plan,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) view: Arc<Mutex<View>>,
    pub(super) started: Timestamp,
}

/// Runs it to its end, to a stop, or to a fault.
pub(super) async fn run(work: Work, reach: Reach, stop: CancellationToken, shutdown: Shutdown) {
    let (phase, reason) = tokio::select! {
        biased;
        () = stop.cancelled() => (Phase::Stopped, None),
        () = shutdown.stopped() => (Phase::Stopped, None),
        ended = work.replay(reach) => match ended {
            Ok(()) => (Phase::Done, None),
            Err(error) => (Phase::Failed, Some(error.to_string())),
        },
    };
    let mut view = work.view.lock();
    view.state = phase;
    view.reason = reason;
    view.ended = Some(time::now().to_string());
    let (replay, replayed, reason) = (view.id, view.replayed, view.reason.as_deref());
    tracing::info!(replay, state = ?phase, replayed, reason, "a replay ended");
}

impl Work {
    async fn replay(&self, mut reach: Reach) -> Result<(), StreamError> {
        let share = usize::try_from(self.plan.rate.div_ceil(APPENDS)).unwrap_or(1).max(1);
        while let Some(page) = reach.page().await? {
            for part in page.chunks(PAGE.min(share)) {
                self.append(part).await?;
            }
            self.view.lock().position = reach.position();
        }
        self.view.lock().position = reach.position();
        Ok(())
    }

    /// Appends what is wanted of `part`, and waits for as long as that many may take.
    async fn append(&self, part: &[Delivered]) -> Result<(), StreamError> {
        let now = time::now();
        let wanted = part.iter().filter(|delivered| self.plan.filter.wants(&delivered.record));
        // What is no change of ours has nothing to say to the relay.
        let batch: Vec<Record> = wanted.filter_map(|d| again(&d.record, self.started, now).ok()).collect();
        let count = batch.len();
        if count > 0 {
            self.append_all(batch).await?;
            tokio::time::sleep(Duration::from_secs_f64(count as f64 / f64::from(self.plan.rate))).await;
        }
        let mut view = self.view.lock();
        view.read += part.len() as u64;
        view.replayed += count as u64;
        Ok(())
    }

    async fn append_all(&self, batch: Vec<Record>) -> Result<(), StreamError> {
        let mut tries = 0;
        loop {
            match self.sink.append(batch.clone()).await {
                Ok(()) => return Ok(()),
                Err(
                    error @ (StreamError::TooLarge { .. }
                    | StreamError::OutOfRange { .. }
                    | StreamError::Replaced
                    | StreamError::Corrupt(_)),
                ) => {
                    return Err(error);
                }
                Err(error) if tries >= TRIES => return Err(error),
                Err(StreamError::Full | StreamError::Unavailable(_) | StreamError::Indefinite(_)) => tries += 1,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
