//! Appends on their way to the writer: bounded in records and bytes, never blocking the caller.
//!
//! The order of [`Queue::push`] calls is the order of the log. What a commit has taken still counts until it is
//! answered: the limit is about memory, not about the waiting line.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::contract::Record;
use crate::stream::StreamError;

/// Largest group of one commit; the rest waits for the next one.
const GROUP_RECORDS: usize = 4_096;
const GROUP_BYTES: usize = 8 << 20;

/// Answers one append.
pub(super) type Ack = oneshot::Sender<Result<(), StreamError>>;

/// One append.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) batch: Vec<Record>,
    pub(super) ack: Ack,
    bytes: usize,
}

/// Limits of the queue; beyond them an append is refused with [`StreamError::Full`].
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) record_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Queue {
    limits: QueueLimits,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Pending>,
    /// Waiting or being committed.
    records: usize,
    bytes: usize,
    /// The writer sleeps until something comes. Otherwise it looks by itself, and waking it would only cost.
    idle: bool,
    closed: bool,
}

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { limits, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes the whole batch or nothing of it.
    pub(super) fn push(&self, batch: Vec<Record>) -> Result<oneshot::Receiver<Result<(), StreamError>>, StreamError> {
        let limit = self.limits.record_bytes;
        let mut bytes = 0;
        for record in &batch {
            let length = record.len();
            if length > limit {
                return Err(StreamError::TooLarge { bytes: length, limit });
            }
            bytes += length;
        }
        let mut state = self.state.lock();
        if state.closed {
            return Err(StreamError::Unavailable("the log is closed".to_owned()));
        }
        let full = state.records + batch.len() > self.limits.records || state.bytes + bytes > self.limits.bytes;
        // A batch larger than the whole queue is taken when nothing else waits, or it could never be taken.
        if full && state.records > 0 {
            return Err(StreamError::Full);
        }
        let (ack, answer) = oneshot::channel();
        state.records += batch.len();
        state.bytes += bytes;
        state.waiting.push_back(Pending { batch, ack, bytes });
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        Ok(answer)
    }

    /// The next group to commit, not before `not_before`; blocks. `None` when the queue is closed and empty.
    pub(super) fn take(&self, not_before: Instant) -> Option<Vec<Pending>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state.idle = true;
            self.changed.wait(&mut state);
        }
        state.idle = false;
        while !state.closed && !self.changed.wait_until(&mut state, not_before).timed_out() {}
        let (mut records, mut bytes, mut count) = (0, 0, 0);
        for pending in &state.waiting {
            records += pending.batch.len();
            bytes += pending.bytes;
            if count > 0 && (records > GROUP_RECORDS || bytes > GROUP_BYTES) {
                break;
            }
            count += 1;
        }
        Some(state.waiting.drain(..count).collect())
    }

    /// Answers a group and gives its room back.
    pub(super) fn answer(&self, group: Vec<Pending>, answer: &Result<(), StreamError>) {
        let mut state = self.state.lock();
        for pending in &group {
            state.records -= pending.batch.len();
            state.bytes -= pending.bytes;
        }
        drop(state);
        for pending in group {
            // The caller may have gone away; the append stands all the same.
            pending.ack.send(answer.clone()).ok();
        }
    }

    /// Refuses new appends; what waits is still taken.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Closes and drops what waits: nobody is there any more to take it.
    pub(super) fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        let gone = Err(StreamError::Unavailable("the writer of the log has stopped".to_owned()));
        self.answer(waiting.into(), &gone);
    }

    /// Records and bytes waiting or being committed.
    pub(super) fn load(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.records, state.bytes)
    }
}

/// The time of the next commit: groups form while it is in the future.
pub(super) fn spaced(started: Instant, spacing: Duration) -> Instant {
    started.checked_add(spacing).unwrap_or(started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{encode, example};

    fn queue(records: usize, bytes: usize) -> Queue {
        Queue::new(QueueLimits { records, bytes, record_bytes: 10_000 })
    }

    fn batch(count: usize) -> Vec<Record> {
        vec![encode(&example()).unwrap(); count]
    }

    #[test]
    fn room_is_given_back_by_the_answer_not_by_the_take() {
        let queue = queue(3, usize::MAX);
        let mut first = queue.push(batch(2)).unwrap();
        assert!(matches!(queue.push(batch(2)), Err(StreamError::Full)));
        let group = queue.take(Instant::now()).unwrap();
        assert!(matches!(queue.push(batch(2)), Err(StreamError::Full)));
        queue.answer(group, &Ok(()));
        assert!(matches!(first.try_recv(), Ok(Ok(()))));
        assert!(queue.push(batch(2)).is_ok());
    }

    #[test]
    fn bytes_are_a_limit_of_their_own() {
        let one = batch(1)[0].len();
        let queue = queue(usize::MAX, one);
        assert!(queue.push(batch(1)).is_ok());
        assert!(matches!(queue.push(batch(1)), Err(StreamError::Full)));
        assert_eq!(queue.load(), (1, one));
    }

    #[test]
    fn a_batch_larger_than_the_queue_is_taken_alone() {
        let queue = queue(1, usize::MAX);
        assert!(queue.push(batch(5)).is_ok());
        assert!(matches!(queue.push(batch(1)), Err(StreamError::Full)));
    }

    #[test]
    fn a_group_ends_at_its_limit_and_keeps_the_order() {
        let queue = queue(usize::MAX, usize::MAX);
        for count in [GROUP_RECORDS, 1, 2] {
            queue.push(batch(count)).unwrap();
        }
        let sizes = |group: Vec<Pending>| group.iter().map(|p| p.batch.len()).collect::<Vec<_>>();
        assert_eq!(sizes(queue.take(Instant::now()).unwrap()), [GROUP_RECORDS]);
        assert_eq!(sizes(queue.take(Instant::now()).unwrap()), [1, 2]);
    }

    #[test]
    fn closing_lets_out_what_waits_and_lets_in_nothing() {
        let queue = queue(10, usize::MAX);
        let far = Instant::now() + Duration::from_secs(3_600);
        queue.push(batch(1)).unwrap();
        queue.close();
        assert!(matches!(queue.push(batch(1)), Err(StreamError::Unavailable(_))));
        assert_eq!(queue.take(far).map(|group| group.len()), Some(1));
        assert!(queue.take(far).is_none());
    }
}
