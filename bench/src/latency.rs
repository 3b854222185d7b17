//! Latencies in a histogram, shown in milliseconds.
//!
//! It counts what it is given and knows no clock. Kept in microseconds with three significant digits; what exceeds an
//! hour counts as an hour.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency that is told apart.
const LONGEST_US: u64 = 3_600_000_000;

/// A set of latencies.
#[derive(Clone, Debug)]
pub struct Latency {
    counts: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "one to an hour with three digits is within the histogram's bounds")]
        let counts = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are constant and valid");
        Self { counts }
    }
}

impl Latency {
    /// Adds one latency.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US).clamp(1, LONGEST_US);
        self.counts.saturating_record(us);
    }

    /// Adds all of another set.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so every value of one has its place in the other.
        let added = self.counts.add(&other.counts);
        debug_assert!(added.is_ok(), "histograms of one form");
    }

    /// How many were added.
    pub fn len(&self) -> u64 {
        self.counts.len()
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The latency below which the share `quantile` lies, in milliseconds; 0 when none was added.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        if self.is_empty() { 0.0 } else { self.counts.value_at_quantile(quantile) as f64 / 1_000.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_values_added() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile_ms(0.5), 0.0);
        (1..=100).for_each(|ms| latency.record(Duration::from_millis(ms)));
        assert_eq!(latency.len(), 100);
        assert!((latency.quantile_ms(0.5) - 50.0).abs() < 0.1);
        assert!((latency.quantile_ms(0.99) - 99.0).abs() < 0.1);
    }
}
