//! One connection as the engine sees it: its health, its clock, its open calls. Pure: `now` is an argument.

use std::time::Duration;

use headgate_schemas::{ObjectType, System, Timestamp};

use crate::clock::ClockEstimate;
use crate::config::{ConnectionConfig, Limits};
use crate::delivery::breaker::{Allow, Breaker};
use crate::entity::Clock;
use crate::entity::fold::Peer;
use crate::target::{Pack, Target};

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its number in the store.
    pub(crate) number: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its CRM.
    pub(crate) system: System,
    /// Records per call.
    pub(crate) pack: Pack,
    /// The CRM heeds preconditions.
    pub(crate) conditional: bool,
    /// Calls open.
    pub(crate) open: usize,
    breaker: Breaker,
    clock: ClockEstimate,
    paused_until: Timestamp,
    read_lag: i64,
    longest_run: i64,
    slots: usize,
    /// What all workers of a shared state may have open.
    all_slots: usize,
    /// Types of which no record can be made yet.
    awaits: Vec<ObjectType>,
}

/// How much may be sent on a line now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// So many calls.
    Calls(usize),
    /// One read of one record, to see whether the CRM is back.
    Probe,
    /// Nothing before this time (microseconds), or before an answer comes.
    Closed(Option<i64>),
}

impl Line {
    /// A healthy line.
    pub(crate) fn new(number: u32, config: &ConnectionConfig, target: &dyn Target, limits: &Limits) -> Self {
        Self {
            number,
            name: config.name.clone(),
            system: config.system,
            pack: target.pack(),
            conditional: target.conditional(),
            open: 0,
            breaker: Breaker::new(limits.send_deadline),
            clock: ClockEstimate::new(),
            paused_until: Timestamp::default(),
            read_lag: micros(config.read_lag),
            longest_run: micros(config.longest_run),
            slots: limits.calls_per_connection,
            all_slots: limits.calls_per_connection,
            awaits: Vec::new(),
        }
    }

    /// What may be sent.
    pub(crate) fn room(&self, now: Timestamp) -> Room {
        if self.paused_until > now {
            return Room::Closed(Some(self.paused_until.micros()));
        }
        match self.breaker.allows(now) {
            Allow::All if self.open >= self.slots => Room::Closed(None),
            Allow::All => Room::Calls(self.slots - self.open),
            Allow::Probe => Room::Probe,
            Allow::No { until } => Room::Closed(Some(until.micros())),
        }
    }

    /// So many workers have calls open to this CRM: each takes its share, and at least one.
    pub(crate) fn share_slots(&mut self, workers: usize) {
        self.slots = (self.all_slots / workers.max(1)).max(1);
    }

    /// No record of this type can be made until [`Line::on_set_up`].
    pub(crate) fn await_set_up(&mut self, object: &ObjectType) {
        if !self.awaits_set_up(object) {
            self.awaits.push(object.clone());
        }
    }

    /// Whether records of this type cannot be made yet.
    pub(crate) fn awaits_set_up(&self, object: &ObjectType) -> bool {
        self.awaits.contains(object)
    }

    /// Records of this type can be made.
    pub(crate) fn on_set_up(&mut self, object: &ObjectType) {
        self.awaits.retain(|waiting| waiting != object);
    }

    /// A call goes out.
    pub(crate) fn on_send(&mut self, now: Timestamp) {
        self.open += 1;
        self.breaker.on_send(now);
    }

    /// An answer came, or the deadline passed.
    pub(crate) const fn on_return(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// The CRM did its work. True when this let the waiting work go.
    pub(crate) fn on_success(&mut self, now: Timestamp) -> bool {
        self.breaker.on_success(now)
    }

    /// The CRM failed a call made at `made`, or did not answer. True when this opened the breaker.
    pub(crate) fn on_failure(&mut self, made: Timestamp, now: Timestamp) -> bool {
        self.breaker.on_failure(made, now)
    }

    /// A limit is reached.
    pub(crate) fn on_rate(&mut self, now: Timestamp, wait: Duration) {
        self.breaker.on_neutral(now);
        self.paused_until = self.paused_until.max(now + wait);
    }

    /// The credentials are refused. True when that is news.
    pub(crate) fn on_unauthorised(&mut self, now: Timestamp) -> bool {
        self.breaker.park(now)
    }

    /// What an answer tells of the CRM's clock.
    pub(crate) fn observe_clock(&mut self, sent: Timestamp, answered: Timestamp, date: Option<Timestamp>) {
        if let Some(date) = date {
            self.clock.observe(sent, answered, date);
        }
    }

    /// What the rules need to know of it.
    pub(crate) fn peer(&self) -> Peer {
        let measured = self.clock.estimate();
        Peer {
            clock: Clock { offset: measured.offset, error: measured.error },
            read_lag: self.read_lag,
            longest_run: self.longest_run,
        }
    }

    /// For the metric: 0 closed, 1 half open, 2 open, 3 parked for credentials.
    pub(crate) fn state(&self, now: Timestamp) -> i64 {
        match (self.breaker.is_parked(), self.breaker.is_open(), self.breaker.allows(now)) {
            (true, _, _) => 3,
            (false, true, Allow::Probe) => 1,
            (false, true, _) => 2,
            (false, false, _) => 0,
        }
    }
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}
