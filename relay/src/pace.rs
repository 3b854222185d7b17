//! How much of the stream one tick takes: all there is, up to what a tick may take in time. Pure.
//!
//! While the stream is read to its end a tick takes little, whatever this allows. With a backlog one transaction serves
//! the more changes of a record, the more it takes: so the allowance grows while ticks are short, and shrinks when one was
//! so long that answers and leases wait for it.

use std::time::Duration;

/// A tick that took longer was given too much.
const LONG: Duration = Duration::from_millis(400);
/// After a full tick that took less, the next one may be given twice as much.
const SHORT: Duration = Duration::from_millis(150);
/// What a slow state is given all the same.
const LEAST: usize = 500;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_short_ticks_are_given_more_and_long_ones_less() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(10_000);
        let mut next = |records, took| {
            pace.met(records, ms(took));
            pace.batch()
        };
        assert_eq!(next(200, 5), 2_500, "what was there was taken");
        assert_eq!([next(2_500, 100), next(5_000, 149), next(10_000, 100)], [5_000, 10_000, 10_000], "and no more than all");
        assert_eq!([next(10_000, 300), next(10_000, 401)], [10_000, 5_000]);
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
