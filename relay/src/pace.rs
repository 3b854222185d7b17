//! How much of the stream one tick takes, and what waits for it. Pure.
//!
//! While the stream is read to its end a tick takes little, whatever this allows. With a backlog one transaction serves
//! the more changes of a record, the more it takes: so the allowance grows while ticks are short, and shrinks when one was
//! so long that answers and leases wait for it. The surprising thing: for a while nothing is sent then. What is behind is
//! late already, and a record that is sent after the last of its changes was read is sent once.

use std::time::Duration;

/// A tick that took longer was given too much.
const LONG: Duration = Duration::from_millis(500);
/// After a full tick that took less, the next one may be given twice as much.
const SHORT: Duration = Duration::from_millis(250);
/// What a slow state is given all the same.
const LEAST: usize = 500;
/// Who takes so many records in one tick is behind.
const MANY: usize = 2_000;
/// A backlog is read for so long, in microseconds, before anything is sent; then both are done side by side.
const READ_FIRST: i64 = 8_000_000;
/// Many records were the last of a backlog if no others follow in this time.
const FOLLOWS: i64 = 250_000;

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
    /// When many records were taken at once, first and last.
    read: Option<(i64, i64)>,
}

impl Backlog {
    /// A tick took so many records.
    pub(crate) fn met(&mut self, records: usize, now: i64) {
        self.read = (records >= MANY).then(|| (self.read.map_or(now, |(first, _)| first), now));
    }

    /// It is being read, one full tick after the other, and has not been for too long.
    pub(crate) fn is_read_first(self, now: i64) -> bool {
        self.read.is_some_and(|(first, last)| last > first && now - first < READ_FIRST && now - last < FOLLOWS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_read_first_and_not_for_ever() {
        let mut backlog = Backlog::default();
        backlog.met(MANY - 1, 500);
        assert!(!backlog.is_read_first(500), "that is no backlog");
        backlog.met(MANY, 0);
        assert!(!backlog.is_read_first(0), "that may be all");
        backlog.met(MANY, 1_000);
        assert!(backlog.is_read_first(1_000 + FOLLOWS - 1));
        assert!(!backlog.is_read_first(1_000 + FOLLOWS), "nothing follows");
        backlog.met(MANY, READ_FIRST - 1_000);
        assert!(backlog.is_read_first(READ_FIRST - 1));
        backlog.met(MANY, READ_FIRST);
        assert!(!backlog.is_read_first(READ_FIRST), "what is due is sent beside it");
        backlog.met(1, READ_FIRST + 2_000);
        assert!(!backlog.is_read_first(READ_FIRST + 2_000));
        backlog.met(MANY, READ_FIRST + 3_000);
        backlog.met(MANY, READ_FIRST + 4_000);
        assert!(backlog.is_read_first(READ_FIRST + 4_001), "another one");
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
            [next(2_500, 100), next(5_000, 249), next(10_000, 100)],
            [5_000, 10_000, 10_000],
            "and no more than all"
        );
        assert_eq!([next(10_000, 300), next(10_000, 501)], [10_000, 5_000]);
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
