//! The workers of a run: one that has the state for itself, or two *rivals* that share it.
//!
//! Rivals have a partition of the stream each and act in turn as the dice say: both fold into the one record, each knows
//! only what it read. Now and then one of them stands still for a while, before a tick or between a commit and its
//! calls, and often for longer than its lease. Both may die; whoever comes after a rival has its place.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use headgate_relay::engine::{CallId, Engine, Reply};
use headgate_relay::store::StoreError;
use headgate_relay::target::Version;
use headgate_schemas::stream::memory::{Memory, MemorySource};
use headgate_schemas::stream::{Delivered, Position, Source as _};

use super::{BATCH, Played, Timer, open, wire};
use crate::reference::value::{Hand, MIN, SEC};
use crate::reference::world::World;

/// Partitions of the stream.
pub const PARTITIONS: u32 = 2;
/// How often a rival stands still, per tick and before its calls, and for how long: a lease is half a minute.
const HELD_UP: f64 = 0.03;
const HOLD_UP: &[i64] = &[SEC, MIN, 15 * MIN];
/// Longer than any lease, after the end of a run.
const LONG_AFTER: i64 = 24 * 60 * MIN;

/// An engine over the state, with its place in the stream and the answers that wait for it.
pub struct Worker {
    /// What is played.
    pub engine: Engine,
    /// Its place in the stream.
    pub source: MemorySource,
    /// Answers to calls of other lives are not for it.
    pub life: u64,
    /// Answers for the next tick.
    pub inbox: Vec<(CallId, Reply)>,
    /// Who set the values of the reads in the inbox, for the judge of order.
    pub read_hands: Vec<Hand>,
    /// Version and state of the last read of each member that was answered.
    pub read: BTreeMap<usize, (Version, u64)>,
    /// When the next tick is due, if a wake-up for it is on its way.
    pub tick_at: Option<i64>,
    /// Nothing of it goes on until then.
    pub held_until: i64,
}

impl Worker {
    fn new(engine: Engine, stream: &Memory, life: u64) -> Self {
        Self {
            engine,
            source: stream.source(),
            life,
            inbox: Vec::new(),
            read_hands: Vec::new(),
            read: BTreeMap::new(),
            tick_at: None,
            held_until: i64::MIN,
        }
    }

    /// Reads the stream from where the state stands.
    fn read_on(&mut self, partitions: Vec<u32>, now: i64) {
        let taken = self.engine.take_partitions(&partitions, wire::clock(now));
        assert!(taken.is_ok(), "partitions {partitions:?} were not given: {taken:?}");
        let known = self.engine.positions();
        let start = |partition| Position { partition, offset: 0 };
        let at = |partition| known.iter().find(|p| p.partition == partition).copied();
        let positions: Vec<_> = partitions.iter().map(|&p| at(p).unwrap_or_else(|| start(p))).collect();
        let assigned = self.source.assign(&positions);
        assert!(assigned.is_ok(), "the stream lost {positions:?}: {assigned:?}");
    }

    /// The next records of the stream.
    pub fn take_records(&mut self) -> Vec<Delivered> {
        match self.source.next(BATCH).now_or_never() {
            Some(Ok(records)) => records,
            None => Vec::new(),
            Some(Err(error)) => panic!("the stream cannot be read: {error}"),
        }
    }
}

impl Played {
    /// Another process opens the state, in the place of one that died. Opening may die, too.
    pub(super) fn hire(&mut self, place: usize, now: i64) -> Worker {
        loop {
            self.lives += 1;
            let Self { scenario, setting, config, targets, metrics, disk, stream, .. } = self;
            match open((*scenario, setting.cut), config, targets, metrics, disk, stream, now) {
                Ok(mut engine) => {
                    setting.without.into_iter().for_each(|rule| engine.forgo(rule));
                    let mut worker = Worker::new(engine, stream, self.lives);
                    let own = |partition: &u32| !setting.rivals || usize::try_from(*partition) == Ok(place);
                    worker.read_on((0..PARTITIONS).filter(own).collect(), now);
                    return worker;
                }
                Err(StoreError::InUse { .. }) => {}
                Err(error) => panic!("the state cannot be opened again: {error}"),
            }
        }
    }

    /// A process that comes when all is over, and no lease holds of those that rest.
    pub(super) fn hire_at_last(&mut self, world_end: i64) -> Worker {
        self.hire(0, world_end + LONG_AFTER)
    }

    /// The worker that lives this life, if it still does.
    pub(super) fn living(&mut self, life: u64) -> Option<usize> {
        self.workers.iter().position(|worker| worker.life == life)
    }

    pub(super) fn schedule(&mut self, world: &mut World, place: usize, at: i64) {
        let at = at.max(world.now);
        if self.workers[place].tick_at.is_none_or(|due| due > at) {
            self.workers[place].tick_at = Some(at);
            world.wake(at, Timer::Tick(place).token());
        }
    }

    /// As the driver does: soon, and under load or with a machine that stutters much later.
    pub(super) fn schedule_soon(&mut self, world: &mut World, place: usize) {
        let delay = world.span(world.scenario.send_delay) + self.hold_up(world);
        self.schedule(world, place, world.now + delay);
    }

    pub(super) fn schedule_all_soon(&mut self, world: &mut World) {
        (0..self.workers.len()).for_each(|place| self.schedule_soon(world, place));
    }

    /// How long a rival stands still.
    pub(super) fn hold_up(&self, world: &mut World) -> i64 {
        if self.setting.rivals && world.chance(HELD_UP) { world.span(HOLD_UP) } else { 0 }
    }

    /// A wake-up for a tick has come.
    pub(super) fn wake_up(&mut self, world: &mut World, place: usize) {
        if self.workers[place].tick_at.is_none_or(|due| due > world.now) {
            return;
        }
        self.workers[place].tick_at = None;
        match self.workers[place].held_until {
            // Its calls first: it does not know how late it is.
            until if world.now < until => self.schedule(world, place, until + 1),
            _ => self.tick(world, place),
        }
    }
}
