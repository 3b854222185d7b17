//! How far a CRM's clock is from ours, from the `Date` header of its answers.
//!
//! Pure: it sees only times it is given. The header has whole seconds, yet many answers together are much finer: an
//! answer dated `D` that was asked for at `sent` and came at `answered` proves that the CRM's clock, read at some moment
//! between the two, stood in `[D, D + 1 s)`, so the offset lies in `[D - answered, D + 1 s - sent]`. All samples must
//! agree, so their intersection holds the offset. When none is left, the clock was set or the answer came from another
//! machine, and counting starts again from the newest sample.

use std::collections::VecDeque;
use std::time::Duration;

use headgate_schemas::Timestamp;

/// Samples kept; the oldest goes first.
const SAMPLES: usize = 64;
/// Age at which a sample is forgotten, because clocks drift.
const WINDOW: Duration = Duration::from_secs(600);
/// What the header leaves open.
const SECOND: i64 = 1_000_000;

/// A CRM's clock minus ours, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// To be added to our time to get the CRM's.
    pub offset: i64,
    /// The true offset is at most this far from `offset`. Zero before the first sample.
    pub error: i64,
}

/// The running estimate for one connection.
#[derive(Clone, Debug, Default)]
pub struct ClockEstimate {
    samples: VecDeque<Sample>,
}

/// What one answer proves.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Timestamp,
    low: i64,
    high: i64,
}

impl ClockEstimate {
    /// An estimate that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what an answer proves: sent and answered by our clock, dated by the CRM's. An answer that came before it was
    /// asked for (our clock was set back meanwhile) proves nothing and is left out.
    pub fn observe(&mut self, sent: Timestamp, answered: Timestamp, date: Timestamp) {
        if answered < sent {
            return;
        }
        let newest = Sample {
            at: answered,
            low: date.micros().saturating_sub(answered.micros()),
            high: date.micros().saturating_add(SECOND).saturating_sub(sent.micros()),
        };
        self.samples.retain(|s| answered.since(s.at) <= WINDOW);
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(newest);
        if self.bounds().is_some_and(|(low, high)| low > high) {
            self.samples.clear();
            self.samples.push_back(newest);
        }
    }

    /// The estimate. An offset of zero is preferred while it is possible, so that equal clocks stay equal and the figure
    /// does not wander with every answer.
    pub fn estimate(&self) -> Offset {
        match self.bounds() {
            None => Offset::default(),
            Some((low, high)) if low <= 0 && high >= 0 => Offset { offset: 0, error: high.max(low.saturating_neg()) },
            Some((low, high)) => {
                let width = high.saturating_sub(low);
                Offset { offset: low.saturating_add(width / 2), error: width / 2 + width % 2 }
            }
        }
    }

    fn bounds(&self) -> Option<(i64, i64)> {
        self.samples.iter().map(|s| (s.low, s.high)).reduce(|a, b| (a.0.max(b.0), a.1.min(b.1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_767_225_600_000_000;

    /// An answer of a CRM whose clock is `offset` ahead, stamped in the middle of the call.
    fn answer(clock: &mut ClockEstimate, sent: i64, took: i64, offset: i64) {
        let stamped = (sent + took / 2 + offset).div_euclid(SECOND) * SECOND;
        let us = |t| Timestamp::from_micros(START + t);
        clock.observe(us(sent), us(sent + took), us(stamped));
    }

    #[test]
    fn nothing_is_known_before_the_first_sample() {
        assert_eq!(ClockEstimate::new().estimate(), Offset { offset: 0, error: 0 });
    }

    #[test]
    fn one_sample_is_as_coarse_as_the_header() {
        let mut clock = ClockEstimate::new();
        answer(&mut clock, 300_000, 100_000, 0);
        assert_eq!(clock.estimate(), Offset { offset: 0, error: 700_000 });
        let mut clock = ClockEstimate::new();
        answer(&mut clock, 300_000, 100_000, 10 * SECOND);
        assert_eq!(clock.estimate(), Offset { offset: 10 * SECOND + 150_000, error: 550_000 });
    }

    #[test]
    fn many_samples_are_much_finer() {
        let mut clock = ClockEstimate::new();
        for i in 0..64 {
            answer(&mut clock, i * 1_017_000, 20_000, -7_250_000);
        }
        let Offset { offset, error } = clock.estimate();
        assert!(error <= 30_000, "{error}");
        assert!((offset + 7_250_000).abs() <= error, "{offset}");
    }

    #[test]
    fn a_clock_that_was_set_starts_anew() {
        let mut clock = ClockEstimate::new();
        for i in 0..40 {
            answer(&mut clock, i * 1_017_000, 20_000, 0);
        }
        assert_eq!(clock.estimate().offset, 0);
        answer(&mut clock, 50 * SECOND, 20_000, 3_600 * SECOND);
        let Offset { offset, error } = clock.estimate();
        assert!((offset - 3_600 * SECOND).abs() <= error);
        assert_eq!(error, 510_000, "one sample only");
    }

    #[test]
    fn samples_are_bounded_in_number_and_age() {
        let mut clock = ClockEstimate::new();
        for i in 0..200 {
            answer(&mut clock, i * 1_000, 20_000, 0);
        }
        assert_eq!(clock.samples.len(), SAMPLES);
        answer(&mut clock, 601 * SECOND, 20_000, 0);
        assert_eq!(clock.samples.len(), 1);
    }

    #[test]
    fn an_answer_before_its_question_is_left_out() {
        let mut clock = ClockEstimate::new();
        clock.observe(Timestamp::from_secs(10), Timestamp::from_secs(9), Timestamp::from_secs(500));
        assert_eq!(clock.estimate(), Offset::default());
        clock.observe(Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX), Timestamp::from_micros(0));
        assert_eq!(clock.estimate(), Offset { offset: 0, error: i64::MAX });
    }

    proptest! {
        #[test]
        fn the_truth_stays_inside(
            offset in -100 * SECOND..100 * SECOND,
            calls in proptest::collection::vec((0_i64..5 * SECOND, 0_i64..3 * SECOND), 1..120),
        ) {
            let mut clock = ClockEstimate::new();
            let mut now = 0;
            for (gap, took) in calls {
                now += gap;
                answer(&mut clock, now, took, offset);
                let estimate = clock.estimate();
                prop_assert!((estimate.offset - offset).abs() <= estimate.error, "{estimate:?} for {offset}");
            }
        }
    }
}
