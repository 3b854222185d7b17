//! What is accepted while the stream is away: a log of its own on a persistent volume, between the publisher and the
//! stream's sink.
//!
//! It must not know HTTP, providers or changes: records in, records out. While it is empty, appends go to the stream
//! and are answered by it, in order; the first one that is refused, or not answered within the deadline, takes
//! everything behind it into the log. From then on the log is the only way in until it has been brought to the stream
//! to its last record, so the order of appends is the order of the stream. The surprising thing: an append that was
//! given up may have reached the stream all the same. Then its records stand there twice, with one id, and readers drop
//! the second.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use headgate_schemas::contract::Record;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::embedded::{Embedded, EmbeddedConfig};
use headgate_schemas::stream::{Append, Sink, StreamError, Topic};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::metrics::Metrics;

mod drain;
mod position;

use self::position::DrainedTo;

/// Smallest file of the log; a spool of any size is at least eight of them.
const LEAST_SEGMENT: u64 = 256 << 10;

/// Settings of the spool. It belongs on a volume that outlives the process and the machine's next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Its folder; made when it is not there.
    pub path: PathBuf,
    /// Bytes on disk; beyond it requests are refused and the providers send again.
    pub bytes: u64,
    /// How long the stream has for an acknowledgement. Less than the deadline of the whole append.
    pub deadline: Duration,
}

/// Changes that were accepted and are not in the stream yet. They stay in the spool for the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} accepted changes remain in the spool; start again with the same volume to send them")]
pub struct Remaining(pub u64);

/// The sink in front of the stream's sink.
pub(crate) struct Spool {
    stream: Arc<dyn Sink>,
    log: Embedded,
    config: SpoolConfig,
    state: Mutex<State>,
    /// Something is in flight, or the log has something.
    changed: Notify,
    drained: DrainedTo,
    metrics: Metrics,
    /// Its tasks outlive those of the gateway, which still append while they end.
    tasks: Shutdown,
}

struct State {
    /// The log is the way in.
    spooling: bool,
    /// Handed to the stream and not answered, in the order of the calls. Bounded by the admitted requests.
    inflight: VecDeque<Inflight>,
    /// Someone waits for the answer of what was the first of them.
    waiting: bool,
    /// The log's records before this offset are in the stream.
    drained: u64,
}

/// An append that the stream has. Its records are kept until it answers; that copy is the price of a spool.
struct Inflight {
    batch: Vec<Record>,
    append: Append,
    deadline: Instant,
    answer: oneshot::Sender<Result<(), StreamError>>,
}

impl Spool {
    /// Opens the log. What an earlier run left in it goes to the stream first. Blocks while it reads.
    pub(crate) fn open(
        config: SpoolConfig,
        stream: Arc<dyn Sink>,
        metrics: Metrics,
        grace: Duration,
    ) -> Result<Arc<Self>, StreamError> {
        let log = Embedded::open(EmbeddedConfig {
            partitions: 1,
            segment_bytes: (config.bytes / 8).max(LEAST_SEGMENT),
            // Nothing is ever deleted by age or size: a record leaves when it is in the stream.
            retention_age: Duration::MAX,
            retention_bytes: u64::MAX,
            ..EmbeddedConfig::new(&config.path)
        })?;
        let stats = log.stats();
        let position = DrainedTo::new(&config.path, log.topic().id);
        let drained = position.read().unwrap_or(0).clamp(stats.first_offset, stats.end_offset);
        let spooling = drained < stats.end_offset;
        if spooling {
            tracing::info!(changes = stats.end_offset - drained, "the spool holds changes of an earlier run");
        }
        let state = State { spooling, inflight: VecDeque::new(), waiting: false, drained };
        let spool = Arc::new(Self {
            stream,
            log,
            config,
            state: Mutex::new(state),
            changed: Notify::new(),
            drained: position,
            metrics,
            tasks: Shutdown::new(grace),
        });
        spool.tasks.spawn("spool-answers", Arc::clone(&spool).answer());
        spool.tasks.spawn("spool-drain", Arc::clone(&spool).drain());
        spool.measure();
        Ok(spool)
    }

    /// Waits until everything is in the stream, at most for `patience`, then ends the tasks and closes the log.
    ///
    /// # Errors
    /// What remains.
    pub(crate) async fn finish(self: &Arc<Self>, patience: Duration) -> Result<(), Remaining> {
        let empty = async {
            while self.remaining() > 0 {
                tokio::time::sleep(drain::LOOK).await;
            }
        };
        // Running out of patience is not what counts, what remains is.
        tokio::time::timeout(patience, empty).await.ok();
        self.tasks.drain().await.ok();
        let this = Arc::clone(self);
        // Joining the log's threads blocks.
        tokio::task::spawn_blocking(move || this.log.close()).await.ok();
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(Remaining(remaining)),
        }
    }

    /// Changes that are not in the stream yet.
    pub(crate) fn remaining(&self) -> u64 {
        let state = self.state.lock();
        let stats = self.log.stats();
        let inflight: usize = state.inflight.iter().map(|inflight| inflight.batch.len()).sum();
        stats.end_offset - state.drained + stats.queued_records as u64 + inflight as u64 + u64::from(state.waiting)
    }

    /// Passes on the stream's answers, in order, and changes to the log when one does not come.
    async fn answer(self: Arc<Self>) {
        loop {
            let first = self.take_first();
            let Some(Inflight { batch, mut append, deadline, answer }) = first else {
                tokio::select! {
                    () = self.tasks.stopped() => return,
                    () = self.changed.notified() => continue,
                }
            };
            match timeout_at(deadline, &mut append).await {
                // Another engine would not take it either.
                Ok(result @ (Ok(()) | Err(StreamError::TooLarge { .. }))) => {
                    answer.send(result).ok();
                }
                late_or_refused => {
                    let reason = match late_or_refused {
                        Ok(Err(error)) => error.to_string(),
                        _ => "no answer in time".to_owned(),
                    };
                    tracing::warn!(reason, "the stream does not take changes: they go to the spool");
                    self.give_up(batch, answer).await;
                }
            }
            self.state.lock().waiting = false;
        }
    }

    fn take_first(&self) -> Option<Inflight> {
        let mut state = self.state.lock();
        let first = state.inflight.pop_front();
        state.waiting = first.is_some();
        first
    }

    /// Takes the first append in flight and everything behind it into the log, in order.
    async fn give_up(&self, first: Vec<Record>, answer: oneshot::Sender<Result<(), StreamError>>) {
        let mut moved = Vec::new();
        {
            let mut state = self.state.lock();
            state.spooling = true;
            moved.push((self.store(first), answer));
            for Inflight { batch, append, answer, .. } in std::mem::take(&mut state.inflight) {
                match append.now_or_never() {
                    Some(Ok(())) => drop(answer.send(Ok(()))),
                    _ => moved.push((self.store(batch), answer)),
                }
            }
        }
        for (append, answer) in moved {
            answer.send(append.await).ok();
        }
        self.changed.notify_one();
    }

    /// Appends to the log, if there is room. Called with the state locked, so that calls and records have one order.
    fn store(&self, batch: Vec<Record>) -> Append {
        let stats = self.log.stats();
        let more: usize = batch.iter().map(Record::len).sum();
        if stats.bytes + (stats.queued_bytes + more) as u64 > self.config.bytes {
            return Box::pin(std::future::ready(Err(StreamError::Full)));
        }
        self.metrics.spooled.inc_by(batch.len() as u64);
        self.log.append(batch)
    }

    fn measure(&self) {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.spool_changes.set(whole(self.remaining()));
        self.metrics.spool_bytes.set(whole(self.log.stats().bytes));
    }
}

impl Sink for Spool {
    fn append(&self, batch: Vec<Record>) -> Append {
        let mut state = self.state.lock();
        if state.spooling {
            return self.store(batch);
        }
        let (answer, answered) = oneshot::channel();
        let append = self.stream.append(batch.clone());
        let deadline = Instant::now() + self.config.deadline;
        state.inflight.push_back(Inflight { batch, append, deadline, answer });
        drop(state);
        self.changed.notify_one();
        Box::pin(async move {
            let lost = || Err(StreamError::Indefinite("the spool has stopped".to_owned()));
            answered.await.unwrap_or_else(|_| lost())
        })
    }

    fn topic(&self) -> Topic {
        self.stream.topic()
    }
}
