//! How much of the stream one tick takes, and what waits for it. Pure.
//!
//! While the stream is read to its end a tick takes little, whatever this allows. With a backlog one transaction serves
//! the more changes of a record, the more it takes: so the allowance grows while ticks are short, and shrinks when one was
//! so long that answers and leases wait for it. The surprising thing: where what is read is late already, nothing is sent
//! for a while. A record that is sent after the last of its changes was read is sent once, and all is written the sooner.

use std::time::Duration;

/// A tick that took longer was given too much.
const LONG: Duration = Duration::from_millis(500);
/// After a full tick that took less, the next one may be given twice as much.
const SHORT: Duration = Duration::from_millis(250);
/// What a slow state is given all the same.
const LEAST: usize = 500;
/// Who takes so many records in one tick is behind.
const MANY: usize = 2_000;
/// Whoever was behind is so until a tick finds fewer than so many.
const FEW: usize = 400;
/// What waited for so long, in microseconds, before it was read will not be written in time.
const LATE: i64 = 5_000_000;
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
    /// When its first many records were taken, and when its last were.
    read: Option<(i64, i64)>,
}

impl Backlog {
    /// A tick took so many records, the oldest of which came `waited` microseconds ago.
    pub(crate) fn met(&mut self, records: usize, waited: i64, now: i64) {
        self.read = match self.read.filter(|(_, last)| now - last < FOLLOWS) {
            None => (records >= MANY && waited > LATE).then_some((now, now)),
            Some((first, _)) => (records >= FEW).then_some((first, now)),
        };
    }

    /// It is being read, one full tick after the other, and not for `most` microseconds or longer.
    pub(crate) fn is_read_first(self, now: i64, most: i64) -> bool {
        self.read.is_some_and(|(first, last)| last > first && now - first < most && now - last < FOLLOWS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_read_first_and_not_for_ever() {
        const READ_FIRST: i64 = 15_000_000;
        let mut backlog = Backlog::default();
        backlog.met(MANY, LATE, 500);
        backlog.met(MANY, LATE, 600);
        assert!(!backlog.is_read_first(600, READ_FIRST), "that can still be in time");
        backlog.met(MANY - 1, LATE + 1, 700);
        backlog.met(MANY - 1, LATE + 1, 800);
        assert!(!backlog.is_read_first(800, READ_FIRST), "that is no backlog");
        backlog.met(MANY, LATE + 1, 0);
        assert!(!backlog.is_read_first(0, READ_FIRST), "that may be all");
        let step = FOLLOWS - 1;
        backlog.met(FEW, 0, step);
        assert!(backlog.is_read_first(2 * step, READ_FIRST));
        assert!(!backlog.is_read_first(2 * step + 1, READ_FIRST), "nothing follows");
        let end = (2..).map(|n| n * step).find(|now| *now >= READ_FIRST).unwrap();
        (2..).map(|n| n * step).take_while(|now| *now <= end).for_each(|now| backlog.met(MANY, LATE + 1, now));
        assert!(!backlog.is_read_first(end, READ_FIRST), "what is due is sent beside it");
        backlog.met(FEW - 1, LATE + 1, end + 1);
        for now in [end + 2, end + 3] {
            assert!(!backlog.is_read_first(now, READ_FIRST), "it was read");
            backlog.met(MANY, LATE + 1, now);
        }
        assert!(backlog.is_read_first(end + 3, READ_FIRST), "another one");
        for now in [end + READ_FIRST, end + READ_FIRST + 1] {
            assert!(!backlog.is_read_first(now, READ_FIRST));
            backlog.met(MANY, LATE + 1, now);
        }
        assert!(backlog.is_read_first(end + READ_FIRST + 1, READ_FIRST), "one after a rest");
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
