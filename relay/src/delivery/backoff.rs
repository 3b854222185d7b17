//! How long to wait before the next attempt: exponential, with full jitter, capped.
//!
//! Pure: the random number is an argument. The whole range down to zero is used on purpose, because work that failed
//! together must not come back together.

use std::time::Duration;

/// Upper end of the first wait.
const BASE: Duration = Duration::from_millis(500);
/// Upper end of every later wait.
const CAP: Duration = Duration::from_secs(30);

/// The longest wait before attempt `attempt + 1`, where `attempt` counts the failed ones from 0.
pub fn ceiling(attempt: u32) -> Duration {
    let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
    BASE.saturating_mul(factor).min(CAP)
}

/// The wait before the next attempt: `random` spread evenly over zero to [`ceiling`].
pub fn delay(attempt: u32, random: u64) -> Duration {
    let micros = ceiling(attempt).as_micros();
    let scaled = (u128::from(random) * (micros + 1)) >> 64;
    Duration::from_micros(u64::try_from(scaled).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let table =
            [(0, 500), (1, 1_000), (2, 2_000), (3, 4_000), (5, 16_000), (6, 30_000), (31, 30_000), (32, 30_000)];
        for (attempt, millis) in table {
            assert_eq!(ceiling(attempt), Duration::from_millis(millis), "{attempt}");
        }
        assert_eq!(ceiling(u32::MAX), CAP);
    }

    #[test]
    fn the_random_number_spans_the_range() {
        assert_eq!(delay(0, 0), Duration::ZERO);
        assert_eq!(delay(0, 1 << 63), Duration::from_micros(250_000));
        assert_eq!(delay(0, u64::MAX), Duration::from_millis(500));
        assert_eq!(delay(40, u64::MAX), Duration::from_secs(30));
    }

    proptest! {
        #[test]
        fn never_above_the_ceiling_and_never_falling_with_the_random_number(attempt: u32, a: u64, b: u64) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(delay(attempt, high) <= ceiling(attempt));
            prop_assert!(delay(attempt, low) <= delay(attempt, high));
        }
    }
}
