//! One job of a replay: reading up to where the stream ended, and appending at a limited rate.

use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::contract::Record;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Begin, BeginError, Cursor, Delivered, Position, Sink, Source, StreamError};
use headgate_schemas::{Timestamp, time};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Keeper, Phase, Plan, ReplayError, View, again};
use crate::admin::OpenSource;

/// Records fetched at once, at most.
pub(super) const PAGE: usize = 500;
/// Records that a slow job fetches at once.
const PAGE_LEAST: usize = 10;
/// Appends a second, at most; each carries its share of the rate.
const APPENDS: u32 = 10;
/// A stream that answers and brings nothing for twice so long has no more before its end.
const QUIET: Duration = Duration::from_secs(2);
/// Tries of an append that is refused or of unknown outcome. A repeat has the same id and is dropped by the relay.
const TRIES: u32 = 20;
/// Between two of them, and between two tries of anything else.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two writes of how far it is.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// Tries of the last one.
const SAVE_TRIES: usize = 10;

/// A reader that ends where the stream ended when it was opened first.
pub(super) struct Reach {
    /// `None` only while the engine is asked something that blocks.
    source: Option<Box<dyn Source>>,
    topic: String,
    cursor: Cursor,
    ends: Vec<Position>,
}

/// Where a job ends that began earlier.
pub(super) struct Ends {
    /// The topic that these are offsets of, where it is known.
    pub(super) topic: Option<String>,
    /// By partition.
    pub(super) offsets: Vec<u64>,
}

/// Opens it off the async threads, because asking an engine may block. With the `ends` of an earlier time it fails where
/// another topic stands in the place of the one that they are of.
pub(super) async fn open(open: &OpenSource, begin: Begin, ends: Option<Ends>) -> Result<Reach, ReplayError> {
    let open = Arc::clone(open);
    let opened = tokio::task::spawn_blocking(move || {
        let mut source = open()?;
        let cursor = begin.cursor(source.as_ref())?;
        let assigned = source.assign(&cursor.positions());
        // Which topic it is turns out with the assignment; its places mean nothing in another one.
        let topic = source.topic().id;
        if ends.as_ref().and_then(|ends| ends.topic.as_ref()).is_some_and(|kept| *kept != topic) {
            return Err(StreamError::Replaced.into());
        }
        assigned?;
        let mut ends: Vec<Position> = match ends {
            Some(Ends { offsets, .. }) => {
                (0..).zip(offsets).map(|(partition, offset)| Position { partition, offset }).collect()
            }
            None => source.bounds()?.into_iter().map(|(_, end)| end).collect(),
        };
        // Kept as one number for each, in this order.
        ends.sort_unstable_by_key(|end| end.partition);
        Ok::<_, BeginError>(Reach { source: Some(source), topic, cursor, ends })
    });
    Ok(opened.await.map_err(|_| ReplayError::Stopping)??)
}

impl Reach {
    pub(super) fn position(&self) -> String {
        self.cursor.to_string()
    }

    /// The id of the topic that is read.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Where it ends, by partition.
    pub(super) fn ends(&self) -> Vec<u64> {
        self.ends.iter().map(|end| end.offset).collect()
    }

    fn is_through(&self) -> bool {
        let positions = self.cursor.positions();
        self.ends.iter().all(|end| positions.iter().any(|p| p.partition == end.partition && p.offset >= end.offset))
    }

    /// The next records before the end, so many at most; `None` after the last ones. A stream that cannot be read now is
    /// waited for. Where the future is dropped the reader is of no use any more.
    pub(super) async fn page(&mut self, most: usize) -> Result<Option<Vec<Delivered>>, StreamError> {
        let mut silences = 0;
        while !self.is_through() && silences < 2 {
            let Some(source) = self.source.as_mut() else { return Err(stopping()) };
            let Ok(read) = tokio::time::timeout(QUIET, source.next(most)).await else {
                // The silence of a stream that is away says nothing of its end.
                silences = if self.answers().await? { silences + 1 } else { 0 };
                continue;
            };
            let mut page = match read {
                Ok(page) => page,
                Err(StreamError::Unavailable(why)) => {
                    tracing::debug!(why, "the stream cannot be read now; trying again");
                    silences = 0;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            page.iter().for_each(|delivered| self.cursor.pass(delivered));
            page.retain(|d| self.ends.iter().any(|end| end.partition == d.partition && d.offset < end.offset));
            return Ok(Some(page));
        }
        Ok(None)
    }

    /// Whether the engine says anything, and still of the topic that is read: the silence of another one is no end.
    async fn answers(&mut self) -> Result<bool, StreamError> {
        let Some(mut source) = self.source.take() else { return Ok(false) };
        let positions = self.cursor.positions();
        let asked = tokio::task::spawn_blocking(move || {
            let answer = source.assign(&positions);
            (source, answer)
        });
        let Ok((source, answer)) = asked.await else { return Ok(false) };
        self.source = Some(source);
        match answer {
            Ok(()) => Ok(true),
            Err(error @ (StreamError::Replaced | StreamError::OutOfRange { .. } | StreamError::Corrupt(_))) => {
                Err(error)
            }
            Err(_) => Ok(false),
        }
    }
}

fn stopping() -> StreamError {
    StreamError::Unavailable("the program is stopping".to_owned())
}

/// What a job does.
pub(super) struct Work {
    pub(super) plan: Plan,
    pub(super) open: OpenSource,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) started: Timestamp,
    pub(super) keeper: Keeper,
}

/// How the work on a job ended.
enum End {
    /// The job ended with it.
    Over(Phase, Option<String>),
    /// Whoever has the state next goes on.
    Interrupted,
}

/// Runs it to its end, to a stop, or to a fault; until the shutdown, or until another worker has the state.
pub(super) async fn run(work: Work, reach: Option<Reach>, stop: CancellationToken, shutdown: Shutdown) {
    let _guest = work.keeper.relay.guest();
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => End::Over(Phase::Stopped, None),
        () = shutdown.stopped() => End::Interrupted,
        () = work.keeper.lost() => return,
        ended = work.replay(reach) => match ended {
            Ok(()) => End::Over(Phase::Done, None),
            Err(error) => End::Over(Phase::Failed, Some(error.to_string())),
        },
    };
    let End::Over(phase, reason) = end else {
        // Not waited for: the engine takes it before it ends.
        drop(work.keeper.keep());
        return;
    };
    let mut view = work.keeper.view.lock().clone();
    view.state = phase;
    view.reason = reason;
    view.ended = Some(time::now().to_string());
    let View { id: replay, replayed, ref reason, .. } = view;
    if work.is_kept(&view).await {
        tracing::info!(replay, state = ?phase, replayed, reason, "a replay ended");
        // Shown only now: whoever goes on from what is durable would take the end back.
        *work.keeper.view.lock() = view;
    } else {
        tracing::error!(replay, "that a replay ended could not be written down: it goes on at the next start");
    }
}

impl Work {
    async fn replay(&self, reach: Option<Reach>) -> Result<(), ReplayError> {
        let mut reach = match reach {
            Some(reach) => reach,
            None => self.reopen().await?,
        };
        let share = usize::try_from(self.plan.rate.div_ceil(APPENDS)).unwrap_or(1).max(1);
        // About what a second takes: whatever was read is appended, also after its topic was deleted.
        let most = usize::try_from(self.plan.rate).unwrap_or(PAGE).clamp(PAGE_LEAST, PAGE);
        let (mut done, mut saves) = (reach.cursor.clone(), Saves::default());
        while let Some(page) = reach.page(most).await? {
            for part in page.chunks(PAGE.min(share)) {
                self.append(part).await?;
                part.iter().for_each(|delivered| done.pass(delivered));
                self.keeper.view.lock().position = done.to_string();
                saves.now_and_then(&self.keeper);
            }
            // Past what is behind the end, too.
            done = reach.cursor.clone();
        }
        self.keeper.view.lock().position = reach.position();
        Ok(())
    }

    /// Opens the stream where the job stands, as soon as it can be.
    async fn reopen(&self) -> Result<Reach, ReplayError> {
        loop {
            let ends = Ends { topic: self.keeper.topic.clone(), offsets: self.keeper.ends.clone() };
            match open(&self.open, self.plan.begin.clone(), Some(ends)).await {
                Err(ReplayError::Begin(BeginError::Stream(StreamError::Unavailable(why)))) => {
                    tracing::warn!(why, "a replay cannot go on yet; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    /// Writes down how it ended.
    async fn is_kept(&self, view: &View) -> bool {
        for _ in 0..SAVE_TRIES {
            if let Some(durable) = self.keeper.keep_as(view.clone())
                && durable.await.is_ok()
            {
                return true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
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
        let mut view = self.keeper.view.lock();
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

/// Writes of how far it is, one at a time.
struct Saves {
    last: Instant,
    open: Option<oneshot::Receiver<()>>,
}

impl Default for Saves {
    fn default() -> Self {
        Self { last: Instant::now(), open: None }
    }
}

impl Saves {
    fn now_and_then(&mut self, keeper: &Keeper) {
        let settled = self.open.as_mut().is_none_or(|open| open.try_recv() != Err(oneshot::error::TryRecvError::Empty));
        if settled && self.last.elapsed() >= SAVE_EVERY {
            self.last = Instant::now();
            self.open = keeper.keep();
        }
    }
}
