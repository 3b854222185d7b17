//! Brings the log to the stream, oldest first, one batch at a time.
//!
//! It must not skip: a batch that the stream refuses is offered again until it is taken, since it was promised to its
//! sender. The surprising thing: a batch without an answer is waited for and not sent again, or a stream that is only
//! slow would be filled with copies.

use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::contract::Record;
use headgate_schemas::stream::{Delivered, Position, Source as _, StreamError};
use tokio::time::{sleep, timeout};

use super::Spool;

/// Records brought over at once.
const BATCH: usize = 500;
/// Between two looks whether the log is empty.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// The first wait after a refusal; each one doubles it.
const BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait after a refusal: so late the stream's return is noticed.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

impl Spool {
    /// Runs until the stop.
    pub(super) async fn drain(self: Arc<Self>) {
        let mut source = self.log.source();
        loop {
            if !self.state.lock().spooling {
                tokio::select! {
                    () = self.tasks.stopped() => return,
                    () = sleep(LOOK) => continue,
                }
            }
            let start = Position { partition: 0, offset: self.state.lock().drained };
            if let Err(error) = source.assign(&[start]) {
                tracing::error!(%error, "the spool cannot be read; its changes stay in it");
                return;
            }
            tokio::select! {
                () = self.tasks.stopped() => return,
                ended = self.empty(&mut source) => if let Err(error) = ended {
                    tracing::error!(%error, "the spool cannot be read; trying again");
                    sleep(LONGEST_BACKOFF).await;
                }
            }
        }
    }

    /// Brings over what the log holds, and whatever comes behind it meanwhile, until it is empty.
    async fn empty(&self, source: &mut headgate_schemas::stream::embedded::EmbeddedSource) -> Result<(), StreamError> {
        while !self.is_empty() {
            // The wait ends by itself when what is queued does not become durable.
            let Ok(batch) = timeout(LOOK, source.next(BATCH)).await else { continue };
            let batch = batch?;
            let Some(next) = batch.last().map(|last| last.offset + 1) else { continue };
            self.send(batch).await;
            if let Err(error) = self.drained.write(next) {
                tracing::warn!(%error, "the spool's position cannot be written; a restart would repeat changes");
            }
            self.state.lock().drained = next;
            self.log.release(next);
            self.measure();
        }
        tracing::info!("the spool is empty: changes go to the stream again");
        Ok(())
    }

    /// Whether the log has nothing more; then appends go to the stream again.
    fn is_empty(&self) -> bool {
        let mut state = self.state.lock();
        let stats = self.log.stats();
        let empty = stats.queued_records == 0 && stats.end_offset == state.drained;
        state.spooling = !empty;
        empty
    }

    /// Offers one batch until the stream has it.
    async fn send(&self, batch: Vec<Delivered>) {
        let batch: Vec<Record> = batch.into_iter().map(|delivered| delivered.record).collect();
        let mut wait = BACKOFF;
        while let Err(error) = self.stream.append(batch.clone()).await {
            tracing::debug!(%error, "the stream does not take the spool's changes yet");
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_BACKOFF);
        }
    }
}
