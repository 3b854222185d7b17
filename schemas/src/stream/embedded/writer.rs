//! The one thread that writes: takes a group from the queue, commits it, tells the readers, answers the appends.
//!
//! It must not delete or checkpoint: that is the keeper's thread, because either stalls commits by hundreds of
//! milliseconds. A failed commit is not the end of the log: the segment is opened again before the next group, so that
//! what the disk really holds decides the next offset.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use rusqlite::Connection;

use super::Shared;
use super::folder::Segment;
use super::queue::{self, Pending};
use super::segment::{self, CommitFault, Content, Meta};
use super::step;
use crate::failpoint::pass;
use crate::stream::StreamError;
use crate::time;

/// A segment that takes no more rows, with the writer's connection to it.
pub(super) type Closed = (std::path::PathBuf, Connection);

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Takes closed segments. Bounded: when the keeper is that far behind, commits wait and the queue refuses.
    keeper: SyncSender<Closed>,
    active: Segment,
    /// `None` after a failed commit, until the segment could be opened again.
    connection: Option<Connection>,
    /// The next offset.
    next: u64,
    /// Per partition one more than its last offset.
    starts: Vec<u64>,
    not_before: Instant,
}

/// Whatever ends the thread, nobody is left waiting for it.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.queue.abandon();
        self.0.tail.send_modify(|tail| tail.closed = true);
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        keeper: SyncSender<Closed>,
        active: Segment,
        connection: Connection,
        content: Content,
    ) -> Self {
        let (next, starts) = (content.end, content.starts);
        Self { shared, keeper, active, connection: Some(connection), next, starts, not_before: Instant::now() }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let farewell = Farewell(Arc::clone(&self.shared));
        while let Some(group) = self.shared.queue.take(self.not_before) {
            pass(step::TAKEN);
            let started = Instant::now();
            self.not_before = queue::spaced(started, self.shared.spacing);
            let answer = self.commit(&group);
            self.shared.figures.lock().committed(started.elapsed(), &answer);
            if let Err(error) = &answer {
                tracing::warn!(%error, appends = group.len(), "a commit of the stream's log failed");
            }
            pass(step::SHOWN);
            self.shared.queue.answer(group, &answer);
            pass(step::ANSWERED);
            if answer.is_ok() && self.active.bytes >= self.shared.segment_bytes {
                self.rotate();
            }
        }
        // The keeper ends when the sender is gone, and it must see the last segment closed.
        drop(self.connection.take());
        drop(farewell);
    }

    fn commit(&mut self, group: &[Pending]) -> Result<(), StreamError> {
        let mut connection = self.connection()?;
        let partitions = self.shared.topic.partitions;
        let records = group.iter().flat_map(|pending| &pending.batch);
        let with_partition = records.map(|record| (segment::partition(record, partitions), record));
        match segment::commit(&mut connection, &self.active.path, self.next, with_partition) {
            Ok(()) => {}
            // Left closed: the next group opens the segment again and continues where the disk says.
            Err(CommitFault::Nothing(error)) => return Err(error),
            Err(CommitFault::Unknown(error)) => return Err(StreamError::Indefinite(error.to_string())),
        }
        for record in group.iter().flat_map(|pending| &pending.batch) {
            let partition = segment::partition(record, partitions) as usize;
            self.next += 1;
            self.starts[partition] = self.next;
        }
        // The rows are durable: a size that cannot be read must not turn the answer into a failure.
        self.active.bytes = segment::bytes(&connection, &self.active.path).unwrap_or(self.active.bytes);
        self.active.written = time::now();
        self.connection = Some(connection);
        pass(step::COMMITTED);
        self.shared.committed(&self.active, self.next);
        Ok(())
    }

    /// The connection of the active segment, opened again after a failure.
    fn connection(&mut self) -> Result<Connection, StreamError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let path = &self.active.path;
        let connection = segment::open_writer(path)?;
        let meta = segment::meta(&connection, path)?;
        let content = segment::content(&connection, path, &meta)?;
        // A commit whose outcome was unknown may turn out to be there: then its records are delivered, and come first.
        (self.next, self.starts) = (content.end, content.starts);
        self.active.bytes = content.bytes;
        Ok(connection)
    }

    /// Starts the next segment and hands the old one over. When that fails the old one goes on taking rows.
    fn rotate(&mut self) {
        pass(step::FULL);
        let Shared { topic, folder, .. } = &*self.shared;
        let meta =
            Meta { log: topic.id.clone(), partitions: topic.partitions, first: self.next, starts: self.starts.clone() };
        let made = segment::create(folder, &meta).and_then(|path| Ok((segment::open_writer(&path)?, path)));
        let unused = segment::path(folder, meta.first);
        let (connection, path) = match made {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%error, "the stream's log could not start a new segment and goes on with the old one");
                // It may stand there unused. If it cannot be removed now, that is done when the log is opened again.
                segment::remove(&unused).ok();
                return;
            }
        };
        pass(step::NAMED);
        let next = Segment::empty(path, &meta, time::now());
        let closed = std::mem::replace(&mut self.active, next);
        self.shared.segments.write().push(self.active.clone());
        if let Some(old) = self.connection.replace(connection) {
            // Fails only when the keeper is gone, which is when the log is being closed.
            self.keeper.send((closed.path, old)).ok();
            pass(step::CLOSED);
        }
    }
}
