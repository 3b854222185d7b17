//! How much of the stream one tick takes, and what waits for it. Pure.
//!
//! While the stream is read to its end a tick takes little, whatever this allows. With a backlog one transaction serves
//! the more changes of a record, the more it takes: so the allowance grows while ticks are short, and shrinks when one was
//! so long that answers and leases wait for it. The surprising thing: where what is read is late already, nothing is sent
//! for a while. A record that is sent after the last of its changes was read is sent once, and all is written the sooner.
//! Ticks that do nothing but read need not be durable one by one: the stream has it all.

use std::time::Duration;

/// A tick that took longer was given too much.
const LONG: Duration = Duration::from_millis(1_000);
/// After a full tick that took less, the next one may be given twice as much.
const SHORT: Duration = Duration::from_millis(500);
/// What a slow state is given all the same.
const LEAST: usize = 500;
/// A tick that finds no more than so many records reads no backlog.
const FEW: usize = 400;
/// A backlog is read when so many ticks in a row were such: one may only have come before the next answer of the stream.
const ENDS: u32 = 10;
/// What waited for so long, in microseconds, before it was read will not be written in time.
const LATE: i64 = 5_000_000;

/// Ticks that only read become durable together, after so long at the latest: in microseconds, and what is read again
/// where the process dies.
const TOGETHER: i64 = 5_000_000;

/// How many records the next tick may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    batch: usize,
    most: usize,
}

impl Pace {
    /// Before anything is known of the state: a quarter of what is allowed.
    pub(crate) const fn new(most: usize) -> Self {
        Self { batch: most.div_ceil(4), most }
    }

    /// So many.
    pub(crate) const fn batch(self) -> usize {
        self.batch
    }

    /// A tick took so many, in so long.
    pub(crate) fn met(&mut self, records: usize, took: Duration) {
        if took > LONG && records > self.batch / 2 {
            self.batch = (self.batch / 2).max(LEAST.min(self.batch));
        } else if records >= self.batch && took < SHORT {
            self.batch = (self.batch * 2).min(self.most);
        }
    }
}

/// Whether the stream is read before anything is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backlog {
    /// Since when one is read, or was the last time.
    since: Option<i64>,
    /// When that one was over.
    ended: Option<i64>,
    /// Ticks that found few since the last one that did not.
    few: u32,
    /// Since when ticks wait to become durable.
    waits: Option<i64>,
}

impl Backlog {
    /// A tick took so many records, the oldest of which came `waited` microseconds ago.
    pub(crate) fn met(&mut self, records: usize, waited: i64, now: i64) {
        self.few = if records > FEW { 0 } else { self.few.saturating_add(1) };
        let reads = self.since.is_some() && self.ended.is_none();
        if reads && self.few >= ENDS {
            self.ended = Some(now);
        } else if !reads && records > FEW && waited > LATE {
            // What came before the last one was over belongs to it: the stream only paused, and the time for it goes on.
            let is_new = self.ended.is_none_or(|ended| now - waited >= ended);
            self.since = self.since.filter(|_| !is_new).or(Some(now));
            self.ended = None;
        }
    }

    /// It is being read, and not for `most` microseconds or longer. A clock that was set back makes that no longer.
    pub(crate) fn is_read_first(self, now: i64, most: i64) -> bool {
        self.ended.is_none() && self.since.is_some_and(|since| (0..most).contains(&(now - since)))
    }

    /// Whether what a tick did may become durable later, if it did nothing but read.
    pub(crate) fn may_wait(&mut self, now: i64, most: i64) -> bool {
        let since = *self.waits.get_or_insert(now);
        self.is_read_first(now, most) && (0..TOGETHER).contains(&(now - since))
    }

    /// Something waits to become durable.
    pub(crate) const fn has_waiting(self) -> bool {
        self.waits.is_some()
    }

    /// Everything is durable.
    pub(crate) const fn is_durable(&mut self) {
        self.waits = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_read_first_and_not_for_ever() {
        const READ_FIRST: i64 = 15_000_000;
        let mut backlog = Backlog::default();
        backlog.met(10_000, LATE, 0);
        assert!(!backlog.is_read_first(0, READ_FIRST), "that can still be in time");
        backlog.met(FEW, LATE + 1, 0);
        assert!(!backlog.is_read_first(0, READ_FIRST), "that is no backlog");
        backlog.met(FEW + 1, LATE + 1, 0);
        assert!(backlog.is_read_first(0, READ_FIRST));
        for _ in 1..ENDS {
            backlog.met(0, 0, 1);
            assert!(backlog.is_read_first(1, READ_FIRST), "more may be on its way");
        }
        backlog.met(FEW + 1, 0, 2);
        for tick in 1..=ENDS {
            assert!(backlog.is_read_first(3, READ_FIRST), "{tick}");
            backlog.met(FEW, LATE + 1, 3);
        }
        assert!(!backlog.is_read_first(3, READ_FIRST), "it was read");
        let next = LATE + 4;
        backlog.met(FEW + 1, LATE + 1, next);
        backlog.met(10_000, LATE + 1, READ_FIRST);
        assert!(backlog.is_read_first(next + READ_FIRST - 1, READ_FIRST), "another one");
        assert!(!backlog.is_read_first(next + READ_FIRST, READ_FIRST), "what is due is sent beside it");
    }

    #[test]
    fn a_stream_that_pauses_gives_a_backlog_no_more_time() {
        const READ_FIRST: i64 = 15_000_000;
        const HOUR: i64 = 3_600_000_000;
        let mut backlog = Backlog::default();
        // An hour of changes is read in a minute, and every ten seconds the stream pauses for ten ticks.
        let mut sends_beside = 0;
        for second in 0..60 {
            let now = HOUR + second * 1_000_000;
            backlog.met(10_000, HOUR, now);
            sends_beside += i64::from(!backlog.is_read_first(now, READ_FIRST));
            for _ in 0..if second % 10 == 9 { ENDS } else { 0 } {
                backlog.met(0, 0, now);
            }
        }
        assert_eq!(sends_beside, 45, "what came in the first fifteen seconds is read first");
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut backlog = Backlog::default();
        backlog.met(10_000, LATE + 1, 3_600_000_000);
        assert!(backlog.may_wait(3_600_000_000, LATE));
        assert!(!backlog.is_read_first(0, LATE) && !backlog.may_wait(0, LATE));
    }

    #[test]
    fn full_short_ticks_are_given_more_and_long_ones_less() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(10_000);
        let mut next = |records, took| {
            pace.met(records, ms(took));
            pace.batch()
        };
        assert_eq!(next(200, 5), 2_500, "what was there was taken");
        assert_eq!(
            [next(2_500, 100), next(5_000, 499), next(10_000, 100)],
            [5_000, 10_000, 10_000],
            "and no more than all"
        );
        assert_eq!([next(10_000, 500), next(10_000, 1_001)], [10_000, 5_000]);
        assert_eq!(next(100, 9_000), 5_000, "it was not the records that took so long");
        assert_eq!([5_000, 2_500, 1_250, 625, 500].map(|records| next(records, 9_000)), [2_500, 1_250, 625, 500, 500]);
        assert_eq!(Pace::new(1).batch(), 1);
    }

    #[test]
    fn what_is_allowed_holds_for_the_least_too() {
        let mut pace = Pace::new(3);
        pace.met(1, LONG * 2);
        assert_eq!(pace.batch(), 1);
        pace.met(1, Duration::ZERO);
        pace.met(2, Duration::ZERO);
        assert_eq!(pace.batch(), 3);
    }
}
