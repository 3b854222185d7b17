//! The engine for one machine: an append-only log of SQLite segments in one folder.
//!
//! | file | holds |
//! |---|---|
//! | `folder` | opening: one process at a time, every segment checked |
//! | `segment` | one file of the log; all SQL |
//! | `headers` | headers as bytes |
//! | `queue` | appends on their way, bounded |
//! | `writer` | the thread that commits groups and starts new segments |
//! | `keeper` | the thread that checkpoints and deletes closed segments |
//! | `reader` | [`EmbeddedSource`] |
//! | `step` | where tests end the process |
//!
//! An append is acknowledged after the commit that holds it was synced to the disk. Offsets are row ids numbered across
//! all partitions: in one partition they rise with gaps. A partition's start is one more than the last offset it lost
//! to retention, so a reader of a quiet partition is never told that it missed something it did not.

mod folder;
mod headers;
mod keeper;
mod queue;
mod reader;
mod segment;
mod step;
mod writer;

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use self::folder::Segment;
use self::keeper::Keeper;
use self::queue::{Queue, QueueLimits};
pub use self::reader::EmbeddedSource;
pub use self::step::STEPS;
use self::writer::Writer;
use super::assignment::Assignment;
use super::{Append, Sink, StreamError, Topic};
use crate::contract::{self, Record};

/// Closed segments the keeper may be behind; then commits wait.
const KEEPER_BACKLOG: usize = 4;

/// Settings of an embedded log. Every limit of the engine stands here.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Folder of the log; made when it is not there, with its parents.
    pub path: PathBuf,
    /// Fixed when the log is made; another number is refused later.
    pub partitions: u32,
    /// Records queued or being committed; beyond it an append is refused with [`StreamError::Full`].
    pub queue_records: usize,
    /// Bytes queued or being committed; beyond it an append is refused with [`StreamError::Full`].
    pub queue_bytes: usize,
    /// Largest record; larger ones are refused with [`StreamError::TooLarge`].
    pub max_record_bytes: usize,
    /// Shortest time between the starts of two commits; an idle log commits at once.
    pub commit_spacing: Duration,
    /// Size at which a segment is closed and the next one started.
    pub segment_bytes: u64,
    /// Closed segments last written longer ago are deleted.
    pub retention_age: Duration,
    /// Size of all segments; beyond it the oldest closed ones are deleted.
    pub retention_bytes: u64,
}

impl EmbeddedConfig {
    /// The defaults for a log in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            partitions: contract::DEFAULT_PARTITIONS,
            queue_records: 50_000,
            queue_bytes: 64 << 20,
            max_record_bytes: 1 << 20,
            commit_spacing: Duration::from_millis(2),
            segment_bytes: 64 << 20,
            retention_age: Duration::from_hours(7 * 24),
            retention_bytes: 8 << 30,
        }
    }
}

/// What the log is doing, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedStats {
    /// Segments, the one being written included.
    pub segments: usize,
    /// Their size.
    pub bytes: u64,
    /// First offset still there.
    pub first_offset: u64,
    /// The next offset.
    pub end_offset: u64,
    /// Records queued or being committed.
    pub queued_records: usize,
    /// Bytes queued or being committed.
    pub queued_bytes: usize,
    /// Commits that went well since the log was opened.
    pub commits: u64,
    /// Commits that failed since the log was opened.
    pub failed_commits: u64,
    /// How long the last commit took.
    pub last_commit: Duration,
    /// The last commit went well; true before the first one.
    pub writable: bool,
}

/// How long closed segments stay.
#[derive(Clone, Copy, Debug)]
struct Retention {
    age: Duration,
    bytes: u64,
}

/// The end of the log as readers see it.
#[derive(Clone, Copy, Debug)]
struct Tail {
    end: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Figures {
    commits: u64,
    failed: u64,
    last: Duration,
    broken: bool,
}

impl Figures {
    fn committed(&mut self, took: Duration, answer: &Result<(), StreamError>) {
        match answer {
            Ok(()) => self.commits += 1,
            Err(_) => self.failed += 1,
        }
        self.broken = answer.is_err();
        self.last = took;
    }
}

/// What the threads and the readers share.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    topic: Topic,
    spacing: Duration,
    segment_bytes: u64,
    retention: Retention,
    queue: Queue,
    /// Oldest first, never empty. The last one is being written.
    segments: RwLock<Vec<Segment>>,
    tail: watch::Sender<Tail>,
    figures: Mutex<Figures>,
    /// Nobody needs what lies before it.
    released: AtomicU64,
}

impl Shared {
    /// Per partition the position from which nothing is missing.
    fn starts(&self) -> Arc<[u64]> {
        self.segments.read().first().map_or_else(|| Arc::from([]), |oldest| Arc::clone(&oldest.starts))
    }

    fn check(&self, assignment: &Assignment, end: u64) -> Result<(), StreamError> {
        assignment.check(&self.starts(), end)
    }

    /// The segment to read `offset` from, and where it ends unless it is the last one. Before the oldest segment it is
    /// that one: nothing that was asked for stands between.
    fn segment_at(&self, offset: u64) -> Result<(Segment, Option<u64>), StreamError> {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.first <= offset).max(1);
        let segment = segments.get(after - 1).ok_or_else(|| segment::corrupt(&self.folder, "it has no segment"))?;
        Ok((segment.clone(), segments.get(after).map(|next| next.first)))
    }

    /// Tells the readers about a commit.
    fn committed(&self, active: &Segment, end: u64) {
        if let Some(last) = self.segments.write().last_mut() {
            last.bytes = active.bytes;
            last.written = active.written;
        }
        self.tail.send_modify(|tail| tail.end = end);
    }
}

/// An open log. Dropping it closes it.
pub struct Embedded {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writer: JoinHandle<()>,
    keeper: JoinHandle<()>,
    /// Released last: another process may open the log only when no thread writes any more.
    lock: File,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("folder", &self.shared.folder).field("topic", &self.shared.topic).finish()
    }
}

impl Embedded {
    /// Opens the log, or makes it. Blocks while it reads what the last run left behind.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`] when the folder cannot be used, another process has the log open, or it has another
    /// number of partitions; [`StreamError::Corrupt`], with the name of the file, when a segment is damaged, foreign or
    /// missing.
    pub fn open(config: EmbeddedConfig) -> Result<Self, StreamError> {
        let opened = folder::open(&config.path, config.partitions)?;
        let limits = QueueLimits {
            records: config.queue_records,
            bytes: config.queue_bytes,
            record_bytes: config.max_record_bytes,
        };
        let Some(active) = opened.segments.last().cloned() else {
            return Err(segment::corrupt(&config.path, "it has no segment"));
        };
        let shared = Arc::new(Shared {
            folder: config.path,
            topic: Topic { id: opened.id, partitions: config.partitions },
            spacing: config.commit_spacing,
            segment_bytes: config.segment_bytes,
            retention: Retention { age: config.retention_age, bytes: config.retention_bytes },
            queue: Queue::new(limits),
            segments: RwLock::new(opened.segments),
            tail: watch::Sender::new(Tail { end: opened.content.end, closed: false }),
            figures: Mutex::default(),
            released: AtomicU64::new(0),
        });
        let (closed, closing) = sync_channel(KEEPER_BACKLOG);
        let writer = Writer::new(Arc::clone(&shared), closed, active, opened.active, opened.content);
        let keeper = Keeper::new(Arc::clone(&shared), closing);
        let writer = start("stream-writer", move || writer.run())?;
        let keeper = start("stream-keeper", move || keeper.run())?;
        Ok(Self { shared, threads: Mutex::new(Some(Threads { writer, keeper, lock: opened.lock })) })
    }

    /// A reader, with nothing assigned. Any number may read; one that outlives the log is told that it is closed.
    pub fn source(&self) -> EmbeddedSource {
        EmbeddedSource::new(Arc::clone(&self.shared))
    }

    /// Refuses new appends, commits what is queued, ends the threads and lets other processes open the log. Blocks for
    /// as long as that takes: from async code call it where blocking is allowed. Calling it again does nothing.
    pub fn close(&self) {
        self.shared.queue.close();
        let Some(Threads { writer, keeper, lock }) = self.threads.lock().take() else { return };
        for (name, thread) in [("writer", writer), ("keeper", keeper)] {
            if thread.join().is_err() {
                tracing::error!(thread = name, "a thread of the stream's log ended by a panic");
            }
        }
        drop(lock);
    }

    /// Tells that nobody needs the records before `offset` any more: closed segments that hold no others are deleted,
    /// whatever their age. For logs with one reader.
    pub fn release(&self, offset: u64) {
        self.shared.released.fetch_max(offset, Ordering::Relaxed);
    }

    /// What the log is doing.
    pub fn stats(&self) -> EmbeddedStats {
        let (queued_records, queued_bytes) = self.shared.queue.load();
        let end_offset = self.shared.tail.borrow().end;
        let (segments, bytes, first_offset) = {
            let segments = self.shared.segments.read();
            let bytes = segments.iter().map(|segment| segment.bytes).sum();
            (segments.len(), bytes, segments.first().map_or(end_offset, |oldest| oldest.first))
        };
        let figures = self.shared.figures.lock();
        EmbeddedStats {
            segments,
            bytes,
            first_offset,
            end_offset,
            queued_records,
            queued_bytes,
            commits: figures.commits,
            failed_commits: figures.failed,
            last_commit: figures.last,
            writable: !figures.broken,
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl Sink for Embedded {
    fn append(&self, batch: Vec<Record>) -> Append {
        if batch.is_empty() {
            return Box::pin(std::future::ready(Ok(())));
        }
        match self.shared.queue.push(batch) {
            Err(refused) => Box::pin(std::future::ready(Err(refused))),
            Ok(answer) => Box::pin(async move {
                let lost = || Err(StreamError::Indefinite("the writer of the log has stopped".to_owned()));
                answer.await.unwrap_or_else(|_| lost())
            }),
        }
    }

    fn topic(&self) -> Topic {
        self.shared.topic.clone()
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StreamError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|e| StreamError::Unavailable(format!("the thread {name} could not be started: {e}")))
}
