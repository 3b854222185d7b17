//! What one subscription has taken from the stream and not delivered yet: which change may go out now, what an answer
//! means for the ones behind it, and what of all that must outlive the process. Pure.
//!
//! Every record has a *lane*: its changes in order, of which only the first may be under way. A lane that fails waits,
//! the others go on. What is kept durably is where the stream was read to and which changes before that place are still
//! waiting; their bodies are read from the stream again after a restart. So a state never holds a field value, and it
//! is bounded by the number of changes that may wait.
//!
//! The surprising thing is trouble: after a few failures in a row the endpoint as a whole is doubted. Then one call is
//! made at a time with growing pauses, and the first success makes everything due at once.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use headgate_schemas::stream::{Cursor, Delivered, Position};
use serde::{Deserialize, Serialize};

use super::Pace;
use crate::engine::micros;

/// Failures in a row after which the endpoint is doubted.
const TROUBLE: u32 = 3;

/// A change of the stream, by its place.
pub(super) type Spot = (u32, u64);

/// The form in which a [`Memo`] is kept.
const VERSION: u8 = 2;
/// The form in which it was kept before places had a topic.
const BEFORE_TOPICS: u8 = 1;

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memo {
    /// The id of the topic that the places are of; not known of what an earlier version kept.
    pub(super) topic: Option<String>,
    /// Per partition the next offset to read.
    pub(super) read: Vec<u64>,
    /// Changes before it that wait.
    pub(super) pending: Vec<Pending>,
    /// Changes delivered since the subscription was made.
    pub(super) delivered: u64,
    /// Why and since when nothing is sent.
    pub(super) disabled: Option<Disabled>,
    /// What the stream dropped before it could be delivered.
    pub(super) overtaken: Option<Overtaken>,
    /// What was lost when the topic was made anew.
    pub(super) replaced: Option<Replaced>,
}

/// A [`Memo`] as [`BEFORE_TOPICS`] has it.
#[derive(Serialize, Deserialize)]
struct WithoutTopic {
    read: Vec<u64>,
    pending: Vec<Pending>,
    delivered: u64,
    disabled: Option<Disabled>,
    overtaken: Option<Overtaken>,
}

/// A change that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Where it stands.
    pub(super) spot: Spot,
    /// How it went so far.
    pub(super) tries: Tries,
}

/// How a change, and with it its lane, went so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tries {
    /// Failed attempts.
    pub(super) attempts: u32,
    /// The first failure, by our clock in microseconds.
    pub(super) since: Option<i64>,
    /// When it may be tried again.
    pub(super) due: i64,
}

/// Nothing is sent any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Disabled {
    /// Since when, by our clock in microseconds.
    pub(super) at: i64,
    /// Why.
    pub(super) reason: String,
}

/// Changes that the stream dropped before they could be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Overtaken {
    /// When it was found, by our clock in microseconds.
    pub(super) at: i64,
    /// Partitions that lost something.
    pub(super) partitions: u32,
    /// Offsets that were passed over, all partitions together; not every one need have been a change.
    pub(super) offsets: u64,
}

/// Another topic stands in the place of the one that was read. What was not read of that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replaced {
    /// When it was found, by our clock in microseconds.
    pub(super) at: i64,
    /// Changes that waited and were not being sent.
    pub(super) waited: u64,
}

impl Memo {
    /// Of one that stands at a place in a topic.
    pub(super) fn at(cursor: &Cursor, topic: String) -> Self {
        let read = cursor.positions().iter().map(|position| position.offset).collect();
        Self { topic: Some(topic), read, ..Self::default() }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_extend(self, vec![VERSION])
    }

    /// Reads what [`Memo::encode`] wrote, also that of an earlier version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, postcard::Error> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest),
            Some((&BEFORE_TOPICS, rest)) => {
                let WithoutTopic { read, pending, delivered, disabled, overtaken } = postcard::from_bytes(rest)?;
                Ok(Self { topic: None, read, pending, delivered, disabled, overtaken, replaced: None })
            }
            _ => Err(postcard::Error::DeserializeBadEncoding),
        }
    }
}

/// A change to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// The key of its record.
    pub(super) lane: String,
    /// Where it stands.
    pub(super) spot: Spot,
    /// `webhook-id`.
    pub(super) id: String,
    /// What is posted.
    pub(super) body: Bytes,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 2xx.
    Taken,
    /// Anything else, with the wait that was asked for, in microseconds.
    Failed { wait: i64 },
}

struct Waiting {
    spot: Spot,
    /// It was read from a topic that is no more, and cannot be read again.
    last_copy: bool,
    id: String,
    body: Bytes,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Waiting>,
    tries: Tries,
    open: bool,
}

/// What is waiting and what is under way.
pub(super) struct Backlog {
    cursor: Cursor,
    /// Up to here the stream was read before a restart.
    mark: Vec<u64>,
    /// Changes before the mark that are to be delivered, until they are read again.
    expected: BTreeMap<Spot, Tries>,
    lanes: HashMap<String, Lane>,
    waiting: usize,
    bytes: usize,
    open: usize,
    in_a_row: u32,
    /// No call before this moment.
    gate: i64,
}

impl Backlog {
    /// Begins at `cursor` with nothing waiting.
    pub(super) fn new(cursor: Cursor) -> Self {
        Self {
            mark: Vec::new(),
            expected: BTreeMap::new(),
            lanes: HashMap::new(),
            waiting: 0,
            bytes: 0,
            open: 0,
            in_a_row: 0,
            gate: 0,
            cursor,
        }
    }

    /// Goes on where `memo` stands. Reads from the oldest change that waits.
    pub(super) fn resume(memo: &Memo, across: bool) -> Self {
        let expected: BTreeMap<Spot, Tries> = memo.pending.iter().map(|p| (p.spot, p.tries)).collect();
        let floor = (0..).zip(&memo.read).map(|(partition, read)| {
            let oldest = expected.range((partition, 0)..=(partition, u64::MAX)).next();
            Position { partition, offset: oldest.map_or(*read, |((_, offset), _)| (*offset).min(*read)) }
        });
        let floor: Vec<Position> = floor.collect();
        let partitions = u32::try_from(memo.read.len()).unwrap_or(u32::MAX);
        let cursor = Cursor::new(&floor, partitions, across);
        Self { mark: memo.read.clone(), expected, ..Self::new(cursor) }
    }

    /// Where to read on.
    pub(super) const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Everything before it was taken, also by an earlier process.
    pub(super) fn read(&self) -> Vec<u64> {
        let marks = self.mark.iter().copied().chain(std::iter::repeat(0));
        self.cursor.positions().iter().zip(marks).map(|(position, mark)| position.offset.max(mark)).collect()
    }

    /// The log begins at `starts` by now: what was wanted before that is given up. Tells what that was.
    pub(super) fn overtake(&mut self, starts: &[Position], now: i64) -> Option<Overtaken> {
        let mut lost = Overtaken { at: now, partitions: 0, offsets: 0 };
        let mut positions = self.cursor.positions();
        for position in &mut positions {
            let start = starts.iter().find(|s| s.partition == position.partition).map_or(0, |s| s.offset);
            if position.offset < start {
                lost.partitions += 1;
                lost.offsets += start - position.offset;
                position.offset = start;
            }
        }
        self.expected.retain(|(partition, offset), _| {
            positions.iter().any(|p| p.partition == *partition && *offset >= p.offset)
        });
        self.cursor = self.cursor.moved_to(&positions);
        (lost.partitions > 0).then_some(lost)
    }

    /// Another topic stands in the place of the one that was read, and is read from `cursor` on. What waits is given up,
    /// because it could not be read again, but for the calls under way.
    pub(super) fn replace(&mut self, cursor: Cursor, now: i64) -> Replaced {
        let waited = self.waiting().saturating_sub(self.open) as u64;
        self.lanes.retain(|_, lane| lane.open);
        for lane in self.lanes.values_mut() {
            lane.queue.truncate(1);
            lane.queue.iter_mut().for_each(|waiting| waiting.last_copy = true);
        }
        self.waiting = self.lanes.len();
        self.bytes = self.lanes.values().flat_map(|lane| &lane.queue).map(|waiting| waiting.body.len()).sum();
        self.expected.clear();
        self.mark.clear();
        self.cursor = cursor;
        Replaced { at: now, waited }
    }

    /// Takes a record that was read; `wanted` says whether it is one to deliver.
    pub(super) fn take(&mut self, read: &Delivered, wanted: bool, body: impl FnOnce() -> Bytes) {
        self.cursor.pass(read);
        let spot = (read.partition, read.offset);
        let mark = usize::try_from(read.partition).ok().and_then(|p| self.mark.get(p)).copied().unwrap_or(0);
        let again = self.expected.remove(&spot);
        if !wanted || (read.offset < mark && again.is_none()) {
            return;
        }
        let id = read.record.header("ce_id").unwrap_or_default().to_owned();
        let lane = self.lanes.entry(read.record.key.clone()).or_default();
        if let Some(tries) = again.filter(|_| lane.queue.is_empty()) {
            lane.tries = tries;
        }
        let body = body();
        self.waiting += 1;
        self.bytes += body.len();
        lane.queue.push_back(Waiting { spot, last_copy: false, id, body });
    }

    /// The next change to send, which is under way from now on.
    pub(super) fn next(&mut self, now: i64, pace: &Pace) -> Option<Job> {
        if self.open >= self.calls(pace) || now < self.gate {
            return None;
        }
        let free = self.lanes.iter_mut().filter(|(_, lane)| !lane.open && lane.tries.due <= now);
        // Among those that are due equally long the oldest in the stream, as far as partitions have one order.
        let (key, lane) =
            free.min_by_key(|(_, lane)| (lane.tries.due, lane.queue.front().map(|w| (w.spot.1, w.spot.0))))?;
        let waiting = lane.queue.front()?;
        let job = Job { lane: key.clone(), spot: waiting.spot, id: waiting.id.clone(), body: waiting.body.clone() };
        lane.open = true;
        self.open += 1;
        Some(job)
    }

    const fn calls(&self, pace: &Pace) -> usize {
        if self.in_a_row >= TROUBLE { 1 } else { pace.calls }
    }

    /// When [`Backlog::next`] may have something, if nothing else happens.
    pub(super) fn wake(&self, pace: &Pace) -> Option<i64> {
        if self.open >= self.calls(pace) {
            return None;
        }
        let due = self.lanes.values().filter(|lane| !lane.open).map(|lane| lane.tries.due).min()?;
        Some(due.max(self.gate))
    }

    /// A call came back.
    pub(super) fn settle(&mut self, lane: &str, answer: Answer, now: i64, pace: &Pace, random: u64) {
        let Some(found) = self.lanes.get_mut(lane).filter(|found| found.open) else { return };
        found.open = false;
        self.open = self.open.saturating_sub(1);
        match answer {
            Answer::Taken => {
                if let Some(taken) = found.queue.pop_front() {
                    self.waiting = self.waiting.saturating_sub(1);
                    self.bytes = self.bytes.saturating_sub(taken.body.len());
                }
                found.tries = Tries::default();
                if found.queue.is_empty() {
                    self.lanes.remove(lane);
                }
                if self.in_a_row >= TROUBLE {
                    self.make_due(now);
                }
                self.in_a_row = 0;
            }
            Answer::Failed { wait } => {
                let tries = &mut found.tries;
                tries.since.get_or_insert(now);
                tries.due = now.saturating_add(pace.pause(tries.attempts, random).max(wait));
                tries.attempts = tries.attempts.saturating_add(1);
                self.in_a_row = self.in_a_row.saturating_add(1);
                if self.in_a_row >= TROUBLE {
                    self.gate = now.saturating_add(pace.doubt(self.in_a_row - TROUBLE).max(wait));
                }
            }
        }
    }

    /// Everything that waits may be tried at once.
    pub(super) fn make_due(&mut self, now: i64) {
        self.gate = 0;
        self.lanes.values_mut().for_each(|lane| lane.tries.due = lane.tries.due.min(now));
    }

    /// As after a person said that the endpoint works again: tries are counted from the beginning.
    pub(super) fn forgive(&mut self, now: i64) {
        self.make_due(now);
        self.in_a_row = 0;
        self.lanes.values_mut().for_each(|lane| lane.tries = Tries { due: now, ..Tries::default() });
        self.expected.values_mut().for_each(|tries| *tries = Tries { due: now, ..Tries::default() });
    }

    /// How many more changes may be read from the stream. In bytes it may be exceeded by what one read brings.
    pub(super) const fn room(&self, pace: &Pace) -> usize {
        if self.bytes < pace.waiting_bytes { pace.waiting.saturating_sub(self.waiting) } else { 0 }
    }

    /// Changes taken and not delivered, those under way included.
    pub(super) fn waiting(&self) -> usize {
        self.waiting + self.expected.len()
    }

    /// Calls under way.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// The first failure of the change that fails longest.
    pub(super) fn failing_since(&self) -> Option<i64> {
        self.lanes.values().filter_map(|lane| lane.tries.since).min()
    }

    /// Every change that waits and can be read again.
    pub(super) fn pending(&self) -> Vec<Pending> {
        let lanes = self.lanes.values().flat_map(|lane| {
            // Only the first one was tried; the others wait for it.
            let tries = std::iter::once(lane.tries).chain(std::iter::repeat(Tries::default()));
            let again = lane.queue.iter().zip(tries).filter(|(waiting, _)| !waiting.last_copy);
            again.map(|(waiting, tries)| Pending { spot: waiting.spot, tries })
        });
        let mut pending: Vec<Pending> = lanes.collect();
        pending.extend(self.expected.iter().map(|(spot, tries)| Pending { spot: *spot, tries: *tries }));
        pending.sort_by_key(|p| p.spot);
        pending
    }
}

/// The pause after a failed attempt, in microseconds: `random` spread evenly over the upper half of an exponential.
pub(super) fn pause(first: std::time::Duration, most: std::time::Duration, attempt: u32, random: u64) -> i64 {
    let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
    let ceiling = micros(first.saturating_mul(factor).min(most));
    let half = ceiling / 2;
    let spread = u64::try_from(ceiling - half).unwrap_or(0);
    let jitter = (u128::from(random) * (u128::from(spread) + 1)) >> 64;
    half.saturating_add(i64::try_from(jitter).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[path = "backlog_tests.rs"]
mod tests;
