//! The thread beside the writer: moves the write-ahead log of closed segments into their files, and deletes what is
//! too old or too much.
//!
//! Whole closed segments only, the oldest first, one at a time with a pause between: deleting a lot at once stalls the
//! disk for everybody. Which one is due is a pure function; the thread brings the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::folder::Segment;
use super::segment;
use super::writer::Closed;
use super::{Retention, Shared};
use crate::time::{self, Timestamp};

/// Between two deletions.
const DELETE_PAUSE: Duration = Duration::from_millis(150);
/// Between two looks at ages while nothing else happens.
const LOOK: Duration = Duration::from_secs(10);

/// Whether the oldest segment is to go. The last one is being written and always stays.
fn oldest_is_due(segments: &[Segment], retention: Retention, released: u64, now: Timestamp) -> bool {
    let [oldest, next, ..] = segments else { return false };
    let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    now.since(oldest.written) > retention.age || bytes > retention.bytes || next.first <= released
}

pub(super) struct Keeper {
    shared: Arc<Shared>,
    closed: Receiver<Closed>,
    /// Closed segments whose checkpoint a reader held up; at most one per segment of the log.
    unfinished: Vec<Closed>,
    last_delete: Option<Instant>,
}

impl Keeper {
    pub(super) const fn new(shared: Arc<Shared>, closed: Receiver<Closed>) -> Self {
        Self { shared, closed, unfinished: Vec::new(), last_delete: None }
    }

    /// Runs until the writer is gone.
    pub(super) fn run(mut self) {
        loop {
            let wait = self.work();
            match self.closed.recv_timeout(wait) {
                Ok(closed) => self.unfinished.push(closed),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.checkpoint();
    }

    /// Does what is due and says how long to wait for more.
    fn work(&mut self) -> Duration {
        self.checkpoint();
        let pause = self.last_delete.map_or(Duration::ZERO, |at| DELETE_PAUSE.saturating_sub(at.elapsed()));
        let released = self.shared.released.load(Ordering::Relaxed);
        let due = oldest_is_due(&self.shared.segments.read(), self.shared.retention, released, time::now());
        match (due, pause.is_zero()) {
            (true, true) => {
                self.delete_oldest();
                DELETE_PAUSE
            }
            (true, false) => pause,
            (false, _) if self.unfinished.is_empty() => LOOK,
            (false, _) => DELETE_PAUSE,
        }
    }

    fn checkpoint(&mut self) {
        self.unfinished.retain(|(path, connection)| match segment::checkpoint(connection, path) {
            Ok(done) => !done,
            Err(error) => {
                // Nothing is lost: the write-ahead log stays beside the file and is read from there.
                tracing::warn!(%error, "a closed segment of the stream's log could not be checkpointed");
                false
            }
        });
    }

    fn delete_oldest(&mut self) {
        self.last_delete = Some(Instant::now());
        // Out of the list first: from then on readers are told that its records are gone.
        let oldest = self.shared.segments.write().remove(0);
        self.unfinished.retain(|(path, _)| *path != oldest.path);
        match segment::remove(&oldest.path) {
            Ok(()) => {
                tracing::info!(first_offset = oldest.first, bytes = oldest.bytes, "deleted a segment by retention")
            }
            // It comes back into the list when the log is opened the next time, and is deleted then.
            Err(error) => tracing::warn!(%error, "a segment of the stream's log could not be deleted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(written: &[i64]) -> Vec<Segment> {
        let segment = |(first, at): (u64, &i64)| Segment {
            first,
            path: std::path::PathBuf::new(),
            starts: Arc::from([]),
            bytes: 100,
            written: Timestamp::from_secs(*at),
        };
        (0..).zip(written).map(segment).collect()
    }

    #[test]
    fn a_segment_goes_when_it_was_written_too_long_ago() {
        let retention = Retention { age: Duration::from_secs(60), bytes: 1_000 };
        assert!(!oldest_is_due(&segments(&[10, 20]), retention, 0, Timestamp::from_secs(70)));
        assert!(oldest_is_due(&segments(&[10, 20]), retention, 0, Timestamp::from_secs(71)));
    }

    #[test]
    fn a_segment_goes_when_the_log_is_too_large() {
        let retention = Retention { age: Duration::from_secs(60), bytes: 299 };
        assert!(!oldest_is_due(&segments(&[10, 20]), retention, 0, Timestamp::from_secs(20)));
        assert!(oldest_is_due(&segments(&[10, 20, 20]), retention, 0, Timestamp::from_secs(20)));
    }

    #[test]
    fn a_segment_goes_when_nobody_needs_it_any_more() {
        let retention = Retention { age: Duration::MAX, bytes: u64::MAX };
        // The second segment begins at offset 1.
        assert!(!oldest_is_due(&segments(&[10, 20]), retention, 0, Timestamp::from_secs(20)));
        assert!(oldest_is_due(&segments(&[10, 20]), retention, 1, Timestamp::from_secs(20)));
    }

    #[test]
    fn the_segment_being_written_stays_whatever_its_age_and_size() {
        let retention = Retention { age: Duration::ZERO, bytes: 0 };
        assert!(!oldest_is_due(&segments(&[0]), retention, 9, Timestamp::from_secs(9_999)));
    }
}
