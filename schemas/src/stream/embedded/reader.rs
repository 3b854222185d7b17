//! Readers of the log. Each has its own connection and reads page by page, one short statement per page, on the
//! runtime's threads for blocking work: a transaction is never open while anybody waits.
//!
//! A reader never sees a row before it is durable: it reads below the end that the writer announces after its commit.
//! The page on its way belongs to the source, not to the future of `next`, so dropping that future loses nothing.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::segment::{self, Page};
use super::{Shared, Tail};
use crate::stream::assignment::Assignment;
use crate::stream::{Delivered, Next, Position, Source, StreamError, Topic};
use crate::time::Timestamp;

/// A reader of an embedded log.
pub struct EmbeddedSource {
    shared: Arc<Shared>,
    tail: watch::Receiver<Tail>,
    assignment: Arc<Assignment>,
    /// Read but not yet handed out.
    ready: VecDeque<Delivered>,
    /// A page on its way.
    page: Option<JoinHandle<(Pages, Result<Page, StreamError>)>>,
    pages: Option<Pages>,
}

impl fmt::Debug for EmbeddedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedSource").field("assignment", &self.assignment).finish_non_exhaustive()
    }
}

impl EmbeddedSource {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let tail = shared.tail.subscribe();
        Self { shared, tail, assignment: Arc::default(), ready: VecDeque::new(), page: None, pages: None }
    }

    async fn read(&mut self, max: usize) -> Result<Vec<Delivered>, StreamError> {
        let max = max.max(1);
        loop {
            if !self.ready.is_empty() {
                let count = self.ready.len().min(max);
                return Ok(self.ready.drain(..count).collect());
            }
            if self.page.is_none() && !self.start(max)? {
                self.wait().await?;
                continue;
            }
            self.finish().await?;
        }
    }

    /// Starts reading a page. False when there is nothing to read yet.
    fn start(&mut self, max: usize) -> Result<bool, StreamError> {
        let tail = *self.tail.borrow_and_update();
        self.shared.check(&self.assignment, tail.end)?;
        if self.assignment.cursor() >= tail.end {
            return match tail.closed {
                true => Err(StreamError::Unavailable("the log is closed".to_owned())),
                false => Ok(false),
            };
        }
        let (shared, assignment) = (Arc::clone(&self.shared), Arc::clone(&self.assignment));
        let mut pages = self.pages.take().unwrap_or_default();
        self.page = Some(tokio::task::spawn_blocking(move || {
            let page = pages.read(&shared, &assignment, tail.end, max);
            (pages, page)
        }));
        Ok(true)
    }

    /// Waits for the next commit, or the end of the log.
    async fn wait(&mut self) -> Result<(), StreamError> {
        let changed = self.tail.changed().await;
        changed.map_err(|_| StreamError::Unavailable("the log is closed".to_owned()))
    }

    /// Takes in the page on its way.
    async fn finish(&mut self) -> Result<(), StreamError> {
        let Some(page) = &mut self.page else { return Ok(()) };
        let read = page.await;
        self.page = None;
        let (pages, page) = read.map_err(|_| StreamError::Unavailable("the runtime is stopping".to_owned()))?;
        self.pages = Some(pages);
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                // A segment deleted in the meantime is told as such, not as a file that cannot be opened.
                let end = self.tail.borrow().end;
                self.shared.check(&self.assignment, end)?;
                return Err(error);
            }
        };
        Arc::make_mut(&mut self.assignment).advance(page.next);
        self.ready.extend(page.records);
        Ok(())
    }
}

impl Source for EmbeddedSource {
    fn topic(&self) -> Topic {
        self.shared.topic.clone()
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), StreamError> {
        let end = self.tail.borrow().end;
        self.assignment = Arc::new(Assignment::new(positions, &self.shared.starts(), end)?);
        self.ready.clear();
        // A page on its way belongs to the old assignment.
        self.page = None;
        Ok(())
    }

    fn next(&mut self, max: usize) -> Next<'_> {
        Box::pin(self.read(max))
    }

    fn numbers_across(&self) -> bool {
        true
    }

    fn bounds(&self) -> Result<Vec<(Position, Position)>, StreamError> {
        let (starts, end) = (self.shared.starts(), self.tail.borrow().end);
        let bounds = (0..)
            .zip(starts.iter())
            .map(|(partition, start)| (Position { partition, offset: *start }, Position { partition, offset: end }));
        Ok(bounds.collect())
    }

    fn since(&self, at: Timestamp) -> Result<Vec<Position>, StreamError> {
        let end = self.tail.borrow().end;
        let segments = self.shared.segments.read().clone();
        let after = segments.partition_point(|segment| segment.written < at);
        let first = match segments.get(after) {
            None => end,
            Some(segment) => {
                let until = segments.get(after + 1).map_or(end, |next| next.first);
                segment::since(&segment::open_reader(&segment.path)?, &segment.path, segment.first..until, at)?
            }
        };
        let starts = self.shared.starts();
        let positions =
            (0..).zip(starts.iter()).map(|(partition, start)| Position { partition, offset: first.max(*start) });
        Ok(positions.collect())
    }
}

/// The connection of one reader, to the segment it read last.
#[derive(Default)]
struct Pages {
    open: Option<(u64, Connection)>,
}

impl Pages {
    fn read(&mut self, shared: &Shared, assignment: &Assignment, end: u64, max: usize) -> Result<Page, StreamError> {
        let (segment, until) = shared.segment_at(assignment.cursor())?;
        let range = assignment.cursor().max(segment.first)..until.unwrap_or(end).min(end);
        let connection = match self.open.take() {
            Some((first, connection)) if first == segment.first => connection,
            _ => segment::open_reader(&segment.path)?,
        };
        // Kept only when the read went well: after a fault the file is opened again.
        let page = segment::page(&connection, &segment.path, range, assignment, max)?;
        self.open = Some((segment.first, connection));
        Ok(page)
    }
}
