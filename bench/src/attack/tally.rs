//! What became of requests: latencies of the accepted ones, everything else by status. It counts and knows no clock.
//!
//! The surprising thing: a request that was due and found no free connection is *held back*: its sender, which has only
//! so many, would keep it. It is told apart from one that was refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use parking_lot::Mutex;

use super::wire::Answer;
use crate::latency::Latency;

/// Requests of one sender in one phase.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) latency: Latency,
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Refusals for too much traffic that did not say when to come again.
    pub(super) untold: u64,
    /// No answer: the connection ended or the answer came too late.
    pub(super) broken: u64,
    pub(super) held_back: u64,
    /// Numbers of the events that were accepted.
    pub(super) accepted: Vec<Range<u64>>,
    /// From the start to the last acceptance; over several phases the sum.
    pub(super) accepting: Duration,
}

impl Tally {
    /// Enters an answer to the call with the events of `numbers`, so long after the beginning.
    pub(super) fn answered(&mut self, answer: Answer, latency: Duration, numbers: Range<u64>, after: Duration) {
        *self.statuses.entry(answer.status).or_default() += 1;
        if matches!(answer.status, 429 | 503) && !answer.retry_after {
            self.untold += 1;
        }
        if answer.status == 204 {
            self.latency.record(latency);
            self.accepted.push(numbers);
            self.accepting = self.accepting.max(after);
        }
    }

    /// Requests accepted.
    pub(super) fn accepted_requests(&self) -> u64 {
        self.accepted.len() as u64
    }

    /// Events accepted.
    pub(super) fn accepted_events(&self) -> u64 {
        self.accepted.iter().map(|numbers| numbers.end - numbers.start).sum()
    }

    /// Requests that were due.
    pub(super) fn due(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.broken + self.held_back
    }

    /// Adds what another one counted.
    pub(super) fn add(&mut self, other: Self) {
        self.latency.add(&other.latency);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.untold += other.untold;
        self.broken += other.broken;
        self.held_back += other.held_back;
        self.accepting += other.accepting;
        self.accepted.extend(other.accepted);
    }
}

/// What the attackers were told.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Counts>);

/// The counts of [`Told`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Connections that ended without an answer.
    pub(super) cut: u64,
    /// Connections open now, and the most there were.
    pub(super) open: u64,
    pub(super) most_open: u64,
}

impl Told {
    /// Enters an answer, or an end without one.
    pub(super) fn heard(&self, answer: std::io::Result<Answer>) {
        let mut counts = self.0.lock();
        match answer {
            Ok(answer) => *counts.statuses.entry(answer.status).or_default() += 1,
            Err(_) => counts.cut += 1,
        }
    }

    /// Enters a connection that opened, or with `false` one that ended.
    pub(super) fn opened(&self, opened: bool) {
        let mut counts = self.0.lock();
        if opened {
            counts.open += 1;
            counts.most_open = counts.most_open.max(counts.open);
        } else {
            counts.open -= 1;
        }
    }

    /// What was counted so far.
    pub(super) fn counts(&self) -> Counts {
        self.0.lock().clone()
    }
}

/// What the stream says about what was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Accepted and not in the stream.
    pub(super) lost: u64,
    /// In the stream although nobody may accept it.
    pub(super) forged: u64,
    /// In the stream more than once.
    pub(super) doubled: u64,
}

impl Kept {
    /// Compares the numbers in the stream with the accepted ones; those from `forged` on must not be there.
    pub(super) fn compare(stream: impl Iterator<Item = u64>, accepted: &[Range<u64>], forged: u64) -> Self {
        let (mut seen, mut kept) = (BTreeSet::new(), Self::default());
        for number in stream {
            if number >= forged {
                kept.forged += 1;
            }
            if !seen.insert(number) {
                kept.doubled += 1;
            }
        }
        kept.lost = accepted.iter().cloned().flatten().filter(|number| !seen.contains(number)).count() as u64;
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_counts_once_and_only_an_accepted_one_has_a_latency() {
        let mut tally = Tally::default();
        let answer = |status, retry_after| Answer { status, retry_after, closes: false };
        let second = Duration::from_secs(1);
        tally.answered(answer(204, false), Duration::from_millis(3), 1..4, second);
        tally.answered(answer(503, true), 9 * second, 4..5, 2 * second);
        tally.answered(answer(429, false), 9 * second, 5..6, 2 * second);
        tally.held_back = 7;
        assert_eq!((tally.due(), tally.accepted_requests(), tally.accepted_events()), (10, 1, 3));
        assert_eq!((tally.untold, tally.latency.len()), (1, 1));
        let mut sum = Tally { broken: 1, accepting: 2 * second, ..Tally::default() };
        sum.add(tally);
        assert_eq!((sum.due(), sum.latency.len(), sum.statuses[&503], sum.accepting), (11, 1, 1, 3 * second));
    }

    #[test]
    fn what_was_accepted_is_in_the_stream_once_and_nothing_forged_is() {
        let kept = Kept::compare([1, 2, 2, 5, 100].into_iter(), &[1..4, 5..6], 100);
        assert_eq!(kept, Kept { lost: 1, forged: 1, doubled: 1 });
        assert_eq!(Kept::compare([1, 2, 3].into_iter(), std::slice::from_ref(&(1..4)), 100), Kept::default());
    }
}
