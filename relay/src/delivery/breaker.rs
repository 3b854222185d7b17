//! Whether a connection may be called: a circuit breaker with a parked state for credentials.
//!
//! Pure: `now` is an argument and nothing is called from here. It must not know what a call does or why it failed; the
//! caller says success, failure or neutral. The surprising thing: asking costs nothing. A probe is taken by
//! [`Breaker::on_send`], and one whose answer never arrives is given up after the call's own deadline. And a failure counts
//! by what it cost: a CRM that hangs gives few answers, so a call that ran into its deadline counts for several.

use std::time::Duration;

use headgate_schemas::Timestamp;

/// Failures in a row that open it.
const STREAK: u32 = 10;
/// What a call counts for in the streak that ran into its deadline: two of them open it.
const HUNG: u32 = 5;
/// Length of the window of the failure rate, in seconds and in buckets.
const WINDOW: usize = 30;
/// Calls in the window below which the rate says nothing.
const ENOUGH: u32 = 20;
/// First wait before a probe of an opened breaker.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait before a probe of an opened breaker.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Time between probes of parked credentials.
const PARKED_WAIT: Duration = Duration::from_secs(4);

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Everything.
    All,
    /// One call; a read where [`Breaker::is_parked`].
    Probe,
    /// Nothing before this time.
    No {
        /// When to ask again.
        until: Timestamp,
    },
}

/// The breaker of one connection. Bounded: a fixed number of counters, whatever happens.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    streak: u32,
    /// When a probe closed it last. Failures of calls made before tell of a trouble that is over.
    closed: Timestamp,
    window: [Bucket; WINDOW],
    call_deadline: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Nothing goes out before `until`, then one call. `wait` is what the next opening starts from.
    Open {
        until: Timestamp,
        wait: Duration,
    },
    /// One call is out since `sent`; another one may go out at `until`.
    Probing {
        sent: Timestamp,
        until: Timestamp,
        wait: Duration,
    },
    /// Credentials are refused. One read may go out at `next`.
    Parked {
        next: Timestamp,
    },
    /// One read is out to see whether the credentials are good again; given up at `until`.
    ParkedProbing {
        until: Timestamp,
    },
}

/// The answers of one second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: i64,
    good: u32,
    failed: u32,
}

impl Breaker {
    /// A closed breaker. `call_deadline` is the longest a call may stay without an answer.
    pub const fn new(call_deadline: Duration) -> Self {
        Self {
            state: State::Closed,
            streak: 0,
            closed: Timestamp::from_micros(i64::MIN),
            window: [Bucket { second: i64::MIN, good: 0, failed: 0 }; WINDOW],
            call_deadline,
        }
    }

    /// What may be sent at `now`. Changes nothing.
    pub fn allows(&self, now: Timestamp) -> Allow {
        match self.state {
            State::Closed => Allow::All,
            State::Open { until, .. }
            | State::Probing { until, .. }
            | State::Parked { next: until }
            | State::ParkedProbing { until } => {
                if now >= until {
                    Allow::Probe
                } else {
                    Allow::No { until }
                }
            }
        }
    }

    /// Whether the credentials are refused.
    pub const fn is_parked(&self) -> bool {
        matches!(self.state, State::Parked { .. } | State::ParkedProbing { .. })
    }

    /// Whether calls are held back for the CRM's health.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. } | State::Probing { .. })
    }

    /// A call goes out. Where only a probe was allowed, this was it.
    pub fn on_send(&mut self, now: Timestamp) {
        // A call that hangs must not keep the next one from finding out that all is well again.
        let until = now + self.call_deadline.min(LONGEST_WAIT);
        self.state = match self.state {
            State::Closed => State::Closed,
            State::Open { wait, .. } | State::Probing { wait, .. } => State::Probing { sent: now, until, wait },
            State::Parked { .. } | State::ParkedProbing { .. } => State::ParkedProbing { until },
        };
    }

    /// The CRM answered and did its work, whatever it says of single items. True when this let the waiting work go:
    /// all of it is then due.
    ///
    /// A late success of a call sent before the breaker opened or the connection was parked proves nothing: only a
    /// probe closes.
    pub fn on_success(&mut self, now: Timestamp) -> bool {
        match self.state {
            State::Closed => {
                self.streak = 0;
                let bucket = self.bucket(now);
                bucket.good = bucket.good.saturating_add(1);
                false
            }
            State::Probing { .. } | State::ParkedProbing { .. } => {
                *self = Self { closed: now, ..Self::new(self.call_deadline) };
                true
            }
            State::Open { .. } | State::Parked { .. } => false,
        }
    }

    /// A retryable failure, or an unknown outcome, of a call made at `made`. True when this opened the breaker.
    pub fn on_failure(&mut self, made: Timestamp, now: Timestamp) -> bool {
        match self.state {
            State::Closed if made < self.closed => false,
            State::Closed => {
                let hung = now >= made + self.call_deadline;
                self.streak = self.streak.saturating_add(if hung { HUNG } else { 1 });
                let bucket = self.bucket(now);
                bucket.failed = bucket.failed.saturating_add(1);
                if self.streak < STREAK && !self.mostly_failed(now) {
                    return false;
                }
                self.state = State::Open { until: now + FIRST_WAIT, wait: FIRST_WAIT };
                true
            }
            // An earlier call that only now gives up does not speak for the probe.
            State::Probing { sent, .. } if made < sent => false,
            State::Probing { sent, wait, .. } => {
                let wait = wait.saturating_mul(2).min(LONGEST_WAIT);
                // Counted from when it was sent: a CRM that hangs is asked as often as one that refuses at once.
                self.state = State::Open { until: now.max(sent + wait), wait };
                false
            }
            State::ParkedProbing { .. } => {
                self.state = State::Parked { next: now + PARKED_WAIT };
                false
            }
            State::Open { .. } | State::Parked { .. } => false,
        }
    }

    /// An answer that says nothing of the CRM's health: a limit was reached. A probe is given back.
    pub fn on_neutral(&mut self, now: Timestamp) {
        match self.state {
            State::Probing { wait, .. } => self.state = State::Open { until: now + wait, wait },
            State::ParkedProbing { .. } => self.state = State::Parked { next: now + PARKED_WAIT },
            State::Closed | State::Open { .. } | State::Parked { .. } => {}
        }
    }

    /// The credentials were refused. True when the connection was not parked before.
    pub fn park(&mut self, now: Timestamp) -> bool {
        match self.state {
            State::Closed | State::Open { .. } | State::Probing { .. } => {
                self.state = State::Parked { next: now + PARKED_WAIT };
                true
            }
            State::ParkedProbing { .. } => {
                self.state = State::Parked { next: now + PARKED_WAIT };
                false
            }
            // Other calls that were out when the first refusal came do not push the probe away.
            State::Parked { .. } => false,
        }
    }

    fn bucket(&mut self, now: Timestamp) -> &mut Bucket {
        let second = second(now);
        let index = usize::try_from(second.rem_euclid(WINDOW as i64)).unwrap_or(0);
        let bucket = &mut self.window[index];
        if bucket.second != second {
            *bucket = Bucket { second, good: 0, failed: 0 };
        }
        bucket
    }

    fn mostly_failed(&self, now: Timestamp) -> bool {
        let now = second(now);
        let recent = self.window.iter().filter(|b| now.abs_diff(b.second) < WINDOW as u64);
        let (good, failed) = recent
            .fold((0_u32, 0_u32), |(good, failed), b| (good.saturating_add(b.good), failed.saturating_add(b.failed)));
        good.saturating_add(failed) >= ENOUGH && failed >= good
    }
}

const fn second(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000 + ms)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(DEADLINE);
        let opens: Vec<bool> = (0..10).map(|_| breaker.on_failure(at(0), at(0))).collect();
        assert_eq!(opens, [false, false, false, false, false, false, false, false, false, true]);
        breaker
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_a_success_between_does_not() {
        assert_eq!(opened().allows(at(999)), Allow::No { until: at(1_000) });
        assert_eq!(opened().allows(at(1_000)), Allow::Probe);
        let mut breaker = Breaker::new(DEADLINE);
        for _ in 0..9 {
            breaker.on_failure(at(0), at(0));
        }
        assert!(!breaker.on_success(at(0)));
        assert!(!breaker.on_failure(at(0), at(0)));
        assert_eq!(breaker.allows(at(0)), Allow::All);
    }

    #[test]
    fn half_of_twenty_calls_in_thirty_seconds_open_it() {
        let run = |calls: i64, apart_ms: i64| {
            let mut breaker = Breaker::new(DEADLINE);
            for i in 0..calls {
                if i % 2 == 0 {
                    breaker.on_success(at(i * apart_ms))
                } else {
                    breaker.on_failure(at(i * apart_ms), at(i * apart_ms))
                };
            }
            breaker.is_open()
        };
        assert!(!run(19, 100), "nineteen calls say nothing");
        assert!(run(20, 100));
        assert!(run(20, 1_500), "twenty calls, all inside thirty seconds");
        assert!(!run(20, 1_700), "the first ones are too old");
        assert!(!run(200, 1_700));
    }

    #[test]
    fn a_probe_closes_or_doubles_the_wait_up_to_four_seconds() {
        let mut breaker = opened();
        let mut now = 1_000;
        for wait in [2_000, 4_000, 4_000] {
            assert_eq!(breaker.allows(at(now)), Allow::Probe);
            breaker.on_send(at(now));
            assert_eq!(breaker.allows(at(now)), Allow::No { until: at(now + 4_000) }, "one call, not two");
            assert!(!breaker.on_failure(at(now), at(now)));
            assert_eq!(breaker.allows(at(now)), Allow::No { until: at(now + wait) });
            now += wait;
        }
        breaker.on_send(at(now));
        assert!(breaker.on_success(at(now)), "the waiting work is due");
        assert_eq!(breaker.allows(at(now)), Allow::All);
        assert!(!breaker.on_failure(at(now), at(now)), "the count starts afresh");
    }

    #[test]
    fn a_probe_without_an_answer_is_given_up_and_a_neutral_one_given_back() {
        let mut breaker = opened();
        breaker.on_send(at(1_000));
        assert_eq!(breaker.allows(at(5_000)), Allow::Probe);
        breaker.on_send(at(5_000));
        breaker.on_neutral(at(5_500));
        assert_eq!(breaker.allows(at(5_500)), Allow::No { until: at(6_500) });
        assert_eq!(breaker.allows(at(6_500)), Allow::Probe);
    }

    #[test]
    fn probes_of_a_crm_that_hangs_start_at_most_four_seconds_apart() {
        let mut breaker = Breaker::new(Duration::from_secs(2));
        for _ in 0..10 {
            breaker.on_failure(at(0), at(0));
        }
        let mut sent = 1_000;
        for wait in [2_000, 4_000, 4_000] {
            breaker.on_send(at(sent));
            breaker.on_failure(at(sent), at(sent + 2_000));
            let next = sent + wait;
            assert_eq!(breaker.allows(at(next)), Allow::Probe);
            let soon = breaker.allows(at(next - 1));
            assert!(wait == 2_000 || soon == Allow::No { until: at(next) }, "{soon:?}");
            sent = next;
        }
    }

    #[test]
    fn two_calls_in_a_row_that_ran_into_their_deadline_open_it() {
        let mut breaker = Breaker::new(DEADLINE);
        assert!(!breaker.on_failure(at(0), at(10_000)));
        assert!(!breaker.on_success(at(10_000)), "a success between starts the count afresh");
        assert!(!breaker.on_failure(at(0), at(10_000)));
        assert!(!breaker.on_failure(at(0), at(9_999)), "one that failed sooner counts once");
        assert!(breaker.on_failure(at(1), at(10_001)));
        assert_eq!(breaker.allows(at(10_001)), Allow::No { until: at(11_001) });
    }

    #[test]
    fn calls_made_before_a_recovery_do_not_open_it_again() {
        let mut breaker = opened();
        for sent in [1_000, 5_000, 9_000] {
            assert_eq!(breaker.allows(at(sent)), Allow::Probe, "a probe that hangs does not keep the next one back");
            breaker.on_send(at(sent));
        }
        assert!(breaker.on_success(at(9_100)));
        for sent in [0, 0, 1_000, 5_000] {
            assert!(!breaker.on_failure(at(sent), at(sent + 10_000)));
        }
        assert_eq!(breaker.allows(at(15_000)), Allow::All);
        assert!(!breaker.on_failure(at(9_100), at(19_100)));
        assert!(breaker.on_failure(at(9_200), at(19_200)), "a new trouble does");
    }

    #[test]
    fn an_earlier_call_that_gives_up_does_not_speak_for_the_probe() {
        let mut breaker = opened();
        breaker.on_send(at(1_000));
        assert!(!breaker.on_failure(at(0), at(1_500)));
        assert!(breaker.on_success(at(1_600)), "the probe found that all is well");
    }

    #[test]
    fn late_answers_of_earlier_calls_change_nothing_while_open() {
        let mut breaker = opened();
        assert!(!breaker.on_success(at(100)));
        assert!(!breaker.on_failure(at(0), at(100)));
        breaker.on_neutral(at(100));
        assert_eq!(breaker.allows(at(100)), Allow::No { until: at(1_000) });
    }

    #[test]
    fn parked_credentials_are_probed_every_four_seconds_until_a_probe_succeeds() {
        let mut breaker = Breaker::new(DEADLINE);
        assert!(breaker.park(at(0)));
        assert!(breaker.is_parked());
        assert!(!breaker.park(at(1_000)), "a second refusal does not push the probe away");
        assert!(!breaker.on_success(at(1_500)), "nor does an earlier call's success unpark");
        assert_eq!(breaker.allows(at(3_999)), Allow::No { until: at(4_000) });
        assert_eq!(breaker.allows(at(4_000)), Allow::Probe);
        breaker.on_send(at(4_000));
        assert!(!breaker.park(at(4_100)));
        assert_eq!(breaker.allows(at(4_100)), Allow::No { until: at(8_100) });
        breaker.on_send(at(8_100));
        breaker.on_failure(at(8_100), at(8_200));
        assert!(breaker.is_parked());
        breaker.on_send(at(12_200));
        assert!(breaker.on_success(at(12_300)));
        assert!(!breaker.is_parked());
        assert_eq!(breaker.allows(at(12_300)), Allow::All);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send,
        Success,
        Failure,
        Hung,
        Neutral,
        Park,
        Wait(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Send),
            2 => Just(Step::Success),
            5 => Just(Step::Failure),
            1 => Just(Step::Hung),
            1 => Just(Step::Neutral),
            1 => Just(Step::Park),
            3 => (0_i64..6_000).prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn it_never_stays_shut(steps in steps()) {
            let mut breaker = Breaker::new(DEADLINE);
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Send => breaker.on_send(at(now)),
                    Step::Success => { breaker.on_success(at(now)); }
                    Step::Failure => { breaker.on_failure(at(now), at(now)); }
                    Step::Hung => { breaker.on_failure(at(now - 10_000), at(now)); }
                    Step::Neutral => breaker.on_neutral(at(now)),
                    Step::Park => { breaker.park(at(now)); }
                    Step::Wait(ms) => now += ms,
                }
                if let Allow::No { until } = breaker.allows(at(now)) {
                    prop_assert!(until > at(now));
                    prop_assert!(until <= at(now) + DEADLINE);
                    prop_assert_eq!(breaker.allows(until), Allow::Probe);
                }
                let held = breaker.allows(at(now)) != Allow::All;
                prop_assert_eq!(held, breaker.is_open() || breaker.is_parked());
            }
            now += 60_000;
            if breaker.allows(at(now)) == Allow::Probe {
                breaker.on_send(at(now));
                prop_assert!(breaker.on_success(at(now)));
            }
            prop_assert_eq!(breaker.allows(at(now)), Allow::All);
        }
    }
}
