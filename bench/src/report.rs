//! A verdict as a table for people. For programs the verdict serialises as one JSON object.
//!
//! Printing is the program's business; this file only makes text.

use crate::check::Verdict;

/// The counts and latencies of a run, one per line, names left and figures right.
pub fn table(verdict: &Verdict) -> String {
    let counts = [
        ("changes sent", verdict.sent),
        ("accepted by the gateway", verdict.accepted),
        ("delivered", verdict.delivered),
        ("lost", verdict.lost),
        ("duplicated", verdict.duplicated),
        ("reordered", verdict.reordered),
        ("values nobody sent", verdict.phantom),
        ("repeats posted", verdict.repeats_sent),
    ];
    let mut out = String::new();
    for (name, count) in counts {
        out += &format!("{name:<28}{count:>12}\n");
    }
    let times = [
        ("p50, first byte to written", verdict.p50_ms),
        ("p95", verdict.p95_ms),
        ("p99", verdict.p99_ms),
        ("generator behind schedule", verdict.schedule_lag_ms),
    ];
    for (name, ms) in times {
        out += &format!("{name:<28}{ms:>9.1} ms\n");
    }
    out + &format!("{:<28}{:>10.2} %\n", "within the budget", verdict.within_budget * 100.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::check::Checker;

    #[test]
    fn every_figure_has_its_line() {
        let text = table(&Checker::new(Duration::from_secs(5)).verdict(3, Duration::from_millis(2)));
        assert_eq!(text.lines().count(), 13);
        assert!(text.contains("repeats posted                         3"));
        assert!(text.contains("generator behind schedule         2.0 ms"));
        assert!(text.contains("within the budget               100.00 %"));
    }
}
