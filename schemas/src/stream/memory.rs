//! The engine for tests: a log in memory with seeded faults.
//!
//! It knows no clock and never sleeps. An append that is held back resolves when the test moves the time
//! ([`Memory::advance`]) or opens the gate ([`Memory::release`]), so it works under virtual time and with
//! `now_or_never`, and the same seed with the same calls gives the same run. Offsets are numbered across all
//! partitions, as in the embedded engine, so a test sees the gaps that every engine may have.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::assignment::Assignment;
use super::{Append, Delivered, Next, Position, Sink, Source, StreamError, Topic};
use crate::contract::{self, Record};
use crate::time::Timestamp;

/// How often appends fail, in thousandths of the appends. All zero: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Held back for up to [`Faults::delay_max`]; later appends wait behind it.
    pub delay: u16,
    /// Longest delay.
    pub delay_max: Duration,
    /// Refused with [`StreamError::Full`].
    pub full: u16,
    /// Refused with [`StreamError::Unavailable`].
    pub unavailable: u16,
    /// Answered with [`StreamError::Indefinite`]; taken in half of the cases.
    pub indefinite: u16,
    /// Taken twice, as after a producer's retry.
    pub repeat: u16,
}

/// Size and faults of a [`Memory`] log.
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// Partitions, at least one.
    pub partitions: u32,
    /// Drives every fault; part of the topic's id.
    pub seed: u64,
    /// Faults.
    pub faults: Faults,
    /// Records held back at most; more are refused with [`StreamError::Full`].
    pub queue_records: usize,
    /// Records kept at most; beyond it the oldest are dropped and old positions are out of range.
    pub keep_records: usize,
    /// Largest record; larger ones are refused with [`StreamError::TooLarge`].
    pub max_record_bytes: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            partitions: contract::DEFAULT_PARTITIONS,
            seed: 0,
            faults: Faults::default(),
            queue_records: 100_000,
            keep_records: 1_000_000,
            max_record_bytes: 1 << 20,
        }
    }
}

/// The log. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: MemoryConfig,
    state: Mutex<State>,
    /// How often the topic was made anew, and the end of the log; readers wait on it.
    end: watch::Sender<(u64, u64)>,
}

#[derive(Debug)]
struct State {
    /// How often the topic was made anew.
    made: u64,
    log: VecDeque<Delivered>,
    /// Per partition the first offset from which nothing was dropped.
    starts: Vec<u64>,
    end: u64,
    pending: VecDeque<Pending>,
    pending_records: usize,
    now: Timestamp,
    held: bool,
    refusal: Option<StreamError>,
    rng: Rng,
}

/// An append that entered the log's order but is not durable yet.
#[derive(Debug)]
struct Pending {
    due: Timestamp,
    batch: Vec<Record>,
    copies: usize,
    answer: Result<(), StreamError>,
    ack: oneshot::Sender<Result<(), StreamError>>,
}

impl Memory {
    /// A log without faults.
    pub fn new(partitions: u32) -> Self {
        Self::with(MemoryConfig { partitions, ..MemoryConfig::default() })
    }

    /// A log with faults.
    pub fn with(config: MemoryConfig) -> Self {
        let config = MemoryConfig { partitions: config.partitions.max(1), ..config };
        let state = State {
            made: 0,
            log: VecDeque::new(),
            starts: vec![0; config.partitions as usize],
            end: 0,
            pending: VecDeque::new(),
            pending_records: 0,
            now: Timestamp::default(),
            held: false,
            refusal: None,
            rng: Rng::with_seed(config.seed),
        };
        Self { shared: Arc::new(Shared { config, state: Mutex::new(state), end: watch::Sender::new((0, 0)) }) }
    }

    /// A reader, with nothing assigned. Any number may read.
    pub fn source(&self) -> MemorySource {
        MemorySource {
            end: self.shared.end.subscribe(),
            made: self.shared.state.lock().made,
            shared: Arc::clone(&self.shared),
            assignment: Assignment::default(),
            replaced: false,
        }
    }

    /// Moves the time; appends whose delay is over become durable. Time never goes back.
    pub fn advance(&self, now: Timestamp) {
        self.shared.change(|state, config| {
            state.now = state.now.max(now);
            state.settle(config);
        });
    }

    /// From now on every append waits for [`Memory::release`].
    pub fn hold(&self) {
        self.shared.state.lock().held = true;
    }

    /// Ends [`Memory::hold`] and makes everything durable that waits, whatever its delay.
    pub fn release(&self) {
        self.shared.change(|state, config| {
            state.held = false;
            for pending in &mut state.pending {
                pending.due = state.now;
            }
            state.settle(config);
        });
    }

    /// Refuses every append with `error` until it is called with `None`.
    pub fn refuse(&self, error: Option<StreamError>) {
        self.shared.state.lock().refusal = error;
    }

    /// The process dies: whatever was not acknowledged is gone, its callers learn nothing certain. The log stays as
    /// it was. Returns the number of appends lost.
    pub fn crash(&self) -> usize {
        let lost = {
            let mut state = self.shared.state.lock();
            state.pending_records = 0;
            state.held = false;
            std::mem::take(&mut state.pending)
        };
        let count = lost.len();
        for pending in lost {
            pending.ack.send(Err(StreamError::Indefinite("the process stopped".to_owned()))).ok();
        }
        count
    }

    /// The topic is deleted and made again: it has another id and is empty, and its offsets begin anew. Readers are told
    /// once, as by Kafka, and read on when they were assigned places in the new one.
    pub fn make_anew(&self) {
        self.crash();
        self.shared.change(|state, config| {
            state.made += 1;
            state.log.clear();
            state.starts = vec![0; config.partitions as usize];
            state.end = 0;
        });
    }

    /// Drops every record before `offset`, as retention would.
    pub fn drop_before(&self, offset: u64) {
        let mut state = self.shared.state.lock();
        while state.log.front().is_some_and(|record| record.offset < offset) {
            state.drop_oldest();
        }
    }

    /// Appends that are not durable yet.
    pub fn waiting(&self) -> usize {
        self.shared.state.lock().pending.len()
    }

    /// Everything the log holds, in its order.
    pub fn records(&self) -> Vec<Delivered> {
        self.shared.state.lock().log.iter().cloned().collect()
    }
}

impl Sink for Memory {
    fn append(&self, batch: Vec<Record>) -> Append {
        let (ack, answer) = oneshot::channel();
        self.shared.change(|state, config| state.offer(config, batch, ack));
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(StreamError::Indefinite("the log was dropped".to_owned())))
        })
    }

    fn topic(&self) -> Topic {
        let made = self.shared.state.lock().made;
        self.shared.topic(made)
    }
}

impl Shared {
    fn topic(&self, made: u64) -> Topic {
        let id = format!("memory:{:016x}{}{made}", self.config.seed, Topic::MADE);
        Topic { id, partitions: self.config.partitions }
    }

    /// Changes the state, then wakes the readers if the log grew.
    fn change(&self, change: impl FnOnce(&mut State, &MemoryConfig)) {
        let end = {
            let mut state = self.state.lock();
            change(&mut state, &self.config);
            (state.made, state.end)
        };
        self.end.send_if_modified(|seen| {
            let grew = end > *seen;
            *seen = end.max(*seen);
            grew
        });
    }
}

impl State {
    fn offer(&mut self, config: &MemoryConfig, batch: Vec<Record>, ack: oneshot::Sender<Result<(), StreamError>>) {
        if let Some(refused) = self.refusal(config, &batch) {
            ack.send(Err(refused)).ok();
            return;
        }
        let (copies, answer) = self.outcome(config.faults);
        let behind = self.pending.back().map_or(self.now, |last| last.due);
        let due = behind.max(self.now + self.delay(config.faults));
        self.pending_records += batch.len();
        self.pending.push_back(Pending { due, batch, copies, answer, ack });
        self.settle(config);
    }

    /// Why nothing of the batch is taken.
    fn refusal(&mut self, config: &MemoryConfig, batch: &[Record]) -> Option<StreamError> {
        let limit = config.max_record_bytes;
        if let Some(bytes) = batch.iter().map(Record::len).find(|bytes| *bytes > limit) {
            return Some(StreamError::TooLarge { bytes, limit });
        }
        if let Some(refusal) = &self.refusal {
            return Some(refusal.clone());
        }
        // A batch larger than the whole queue is taken when nothing else waits, or it could never be taken.
        if self.pending_records > 0 && self.pending_records + batch.len() > config.queue_records {
            return Some(StreamError::Full);
        }
        let roll = self.rng.u16(0..1_000);
        if roll < config.faults.full {
            return Some(StreamError::Full);
        }
        (roll < config.faults.full.saturating_add(config.faults.unavailable))
            .then(|| StreamError::Unavailable("a seeded fault".to_owned()))
    }

    /// How often the batch enters the log and what its caller is told.
    fn outcome(&mut self, faults: Faults) -> (usize, Result<(), StreamError>) {
        let roll = self.rng.u16(0..1_000);
        if roll < faults.indefinite {
            let copies = usize::from(self.rng.bool());
            return (copies, Err(StreamError::Indefinite("a seeded fault".to_owned())));
        }
        let repeated = roll < faults.indefinite.saturating_add(faults.repeat);
        (if repeated { 2 } else { 1 }, Ok(()))
    }

    fn delay(&mut self, faults: Faults) -> Duration {
        if self.rng.u16(0..1_000) >= faults.delay {
            return Duration::ZERO;
        }
        let longest = u64::try_from(faults.delay_max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.u64(0..=longest))
    }

    /// Makes durable, in order, what is due.
    fn settle(&mut self, config: &MemoryConfig) {
        while !self.held && self.pending.front().is_some_and(|first| first.due <= self.now) {
            let Some(Pending { batch, copies, answer, ack, .. }) = self.pending.pop_front() else { return };
            self.pending_records -= batch.len();
            for _ in 1..copies {
                self.write(config, batch.clone());
            }
            if copies > 0 {
                self.write(config, batch);
            }
            ack.send(answer).ok();
        }
    }

    fn write(&mut self, config: &MemoryConfig, batch: Vec<Record>) {
        for record in batch {
            let partition = contract::partition(&record.key, config.partitions);
            self.log.push_back(Delivered { partition, offset: self.end, record });
            self.end += 1;
        }
        while self.log.len() > config.keep_records {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(dropped) = self.log.pop_front() {
            self.starts[dropped.partition as usize] = dropped.offset + 1;
        }
    }

    /// Up to `max` records the reader wants, and where it stands after them.
    fn read(&self, assignment: &Assignment, max: usize) -> (Vec<Delivered>, u64) {
        let first = self.log.front().map_or(self.end, |record| record.offset);
        let skip = usize::try_from(assignment.cursor().saturating_sub(first)).unwrap_or(usize::MAX);
        let wanted = self.log.iter().skip(skip).filter(|record| assignment.wants(record.partition, record.offset));
        let found: Vec<_> = wanted.take(max.max(1)).cloned().collect();
        let next = if found.len() == max.max(1) { found.last().map_or(self.end, |r| r.offset + 1) } else { self.end };
        (found, next)
    }
}

/// A reader of a [`Memory`] log.
#[derive(Debug)]
pub struct MemorySource {
    shared: Arc<Shared>,
    end: watch::Receiver<(u64, u64)>,
    /// Which topic this reads.
    made: u64,
    assignment: Assignment,
    /// The assigned places are of a topic that is no more.
    replaced: bool,
}

impl MemorySource {
    /// Fails when the topic is another one than that which was read, and is then a reader of the new one.
    fn compare(&mut self) -> Result<(), StreamError> {
        let made = self.shared.state.lock().made;
        if made == self.made {
            return Ok(());
        }
        (self.made, self.replaced) = (made, true);
        Err(StreamError::Replaced)
    }
}

impl Source for MemorySource {
    fn topic(&self) -> Topic {
        self.shared.topic(self.made)
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), StreamError> {
        self.compare()?;
        let state = self.shared.state.lock();
        self.assignment = Assignment::new(positions, &state.starts, state.end)?;
        self.replaced = false;
        Ok(())
    }

    fn next(&mut self, max: usize) -> Next<'_> {
        Box::pin(async move {
            loop {
                // Seen before reading: an append after the read wakes the wait below.
                self.end.borrow_and_update();
                self.compare()?;
                if self.replaced {
                    return Err(StreamError::Replaced);
                }
                let (found, next) = {
                    let state = self.shared.state.lock();
                    self.assignment.check(&state.starts, state.end)?;
                    state.read(&self.assignment, max)
                };
                self.assignment.advance(next);
                if !found.is_empty() {
                    return Ok(found);
                }
                if self.end.changed().await.is_err() {
                    return Err(StreamError::Unavailable("the log was dropped".to_owned()));
                }
            }
        })
    }

    fn numbers_across(&self) -> bool {
        true
    }

    fn bounds(&self) -> Result<Vec<(Position, Position)>, StreamError> {
        let state = self.shared.state.lock();
        let bounds = (0..).zip(&state.starts).map(|(partition, start)| {
            (Position { partition, offset: *start }, Position { partition, offset: state.end })
        });
        Ok(bounds.collect())
    }

    fn since(&self, at: Timestamp) -> Result<Vec<Position>, StreamError> {
        let state = self.shared.state.lock();
        let first = state.log.partition_point(|delivered| delivered.record.at < at);
        let first = state.log.get(first).map_or(state.end, |delivered| delivered.offset);
        let positions =
            (0..).zip(&state.starts).map(|(partition, start)| Position { partition, offset: first.max(*start) });
        Ok(positions.collect())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::contract::{encode, example};

    fn record(id: &str) -> Record {
        let mut change = example();
        change.object.id = Some(id.to_owned());
        encode(&change).unwrap()
    }

    fn ids(memory: &Memory) -> Vec<String> {
        let id = |d: Delivered| d.record.key.rsplit('/').next().unwrap_or_default().to_owned();
        memory.records().into_iter().map(id).collect()
    }

    #[test]
    fn a_held_append_is_neither_acknowledged_nor_visible() {
        let memory = Memory::new(1);
        let mut source = memory.source();
        source.assign(&[Position { partition: 0, offset: 0 }]).unwrap();
        memory.hold();
        let mut first = memory.append(vec![record("1")]);
        assert!((&mut first).now_or_never().is_none());
        assert!(source.next(10).now_or_never().is_none());
        memory.release();
        assert!(matches!(first.now_or_never(), Some(Ok(()))));
        assert_eq!(source.next(10).now_or_never().unwrap().unwrap().len(), 1);
    }

    #[test]
    fn a_delay_holds_back_what_comes_after_it_until_time_moves() {
        let faults = Faults { delay: 1_000, delay_max: Duration::from_secs(1), ..Faults::default() };
        let memory = Memory::with(MemoryConfig { partitions: 1, seed: 1, faults, ..MemoryConfig::default() });
        let (mut a, mut b) = (memory.append(vec![record("a")]), memory.append(vec![record("b")]));
        assert!((&mut a).now_or_never().is_none());
        assert!((&mut b).now_or_never().is_none());
        memory.advance(Timestamp::from_secs(1));
        assert!(matches!((a.now_or_never(), b.now_or_never()), (Some(Ok(())), Some(Ok(())))));
        assert_eq!(ids(&memory), ["a", "b"]);
    }

    #[test]
    fn a_crash_loses_exactly_what_was_not_acknowledged() {
        let memory = Memory::new(4);
        assert!(matches!(memory.append(vec![record("kept")]).now_or_never(), Some(Ok(()))));
        memory.hold();
        let lost = memory.append(vec![record("lost")]);
        assert_eq!(memory.crash(), 1);
        assert!(matches!(lost.now_or_never(), Some(Err(StreamError::Indefinite(_)))));
        assert!(matches!(memory.append(vec![record("after")]).now_or_never(), Some(Ok(()))));
        assert_eq!(ids(&memory), ["kept", "after"]);
    }

    #[test]
    fn a_topic_that_is_made_anew_is_another_one_and_told_once_to_each_reader() {
        let memory = Memory::new(1);
        let (old, start) = (memory.topic(), [Position { partition: 0, offset: 0 }]);
        let mut source = memory.source();
        source.assign(&start).unwrap();
        assert!(matches!(memory.append(vec![record("old")]).now_or_never(), Some(Ok(()))));
        memory.make_anew();
        assert!(memory.topic().is_in_the_place_of(&old.id));
        assert!(matches!(memory.append(vec![record("new")]).now_or_never(), Some(Ok(()))));
        for _ in 0..2 {
            assert!(matches!(source.next(10).now_or_never(), Some(Err(StreamError::Replaced))));
        }
        assert_eq!(source.topic(), memory.topic());
        source.assign(&start).unwrap();
        let read = source.next(10).now_or_never().unwrap().unwrap();
        assert_eq!(read.iter().map(|d| d.offset).collect::<Vec<_>>(), [0]);
        assert_eq!(ids(&memory), ["new"]);
    }

    #[test]
    fn every_fault_does_what_it_says() {
        let run = |faults| {
            let memory = Memory::with(MemoryConfig { seed: 7, faults, ..MemoryConfig::default() });
            let answer = memory.append(vec![record("1"), record("2")]).now_or_never().unwrap();
            (answer, ids(&memory).len())
        };
        let none = Faults::default();
        assert!(matches!(run(Faults { full: 1_000, ..none }), (Err(StreamError::Full), 0)));
        assert!(matches!(run(Faults { unavailable: 1_000, ..none }), (Err(StreamError::Unavailable(_)), 0)));
        assert!(matches!(run(Faults { repeat: 1_000, ..none }), (Ok(()), 4)));
        let memory =
            Memory::with(MemoryConfig { faults: Faults { indefinite: 1_000, ..none }, ..MemoryConfig::default() });
        for n in 0..100 {
            let answer = memory.append(vec![record(&n.to_string())]).now_or_never();
            assert!(matches!(answer, Some(Err(StreamError::Indefinite(_)))));
        }
        let taken = ids(&memory).len();
        assert!(taken > 0 && taken < 100, "an indefinite append is sometimes taken and sometimes not: {taken}");
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let run = |seed| {
            let faults = Faults { full: 200, unavailable: 100, indefinite: 200, repeat: 200, ..Faults::default() };
            let memory = Memory::with(MemoryConfig { seed, faults, ..MemoryConfig::default() });
            let answers: Vec<_> =
                (0..200).map(|n| format!("{:?}", memory.append(vec![record(&n.to_string())]).now_or_never())).collect();
            (answers, ids(&memory))
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
