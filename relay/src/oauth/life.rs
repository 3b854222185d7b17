//! The life of an access token: when the next one is due, and what a refusal of the present one means. Pure.
//!
//! The surprising thing: a refusal by the CRM does not always ask for another token. One that never worked will not work
//! better when it is new, and a CRM that refuses every token must not make us log in with every call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headgate_schemas::Timestamp;
use hyper::header::HeaderValue;

/// How long before its end a token is renewed, where it lives long enough.
const AHEAD: Duration = Duration::from_secs(300);
/// A token is not renewed by time before it is so old, however short its life is.
const LEAST: Duration = Duration::from_secs(1);
/// How long a token that never worked is believed to be good.
const UNPROVEN: Duration = Duration::from_secs(60);
/// Between two renewals that the CRM's refusals asked for.
const APART: Duration = Duration::from_secs(30);
/// First wait after the provider refused; it doubles.
const REFUSED: Duration = Duration::from_secs(60);
/// Longest wait after the provider refused.
const REFUSED_MOST: Duration = Duration::from_secs(600);

/// When a token is renewed: a part of its life before its end, and up to half as much earlier by chance, so that
/// connections that began together do not ask together. Never, where its life is not told.
pub(crate) fn renew_at(granted: Timestamp, life: Option<Duration>, random: u64) -> Option<Timestamp> {
    let life = life?;
    let ahead = AHEAD.min(life / 4);
    let early = spread(ahead / 2, random);
    Some(granted + life.saturating_sub(ahead + early).max(LEAST))
}

/// How long the provider is left alone after it refused for the `refusals`-th time in a row, counted from 0.
pub(super) fn refused_wait(refusals: u32, random: u64) -> Duration {
    let factor = 1_u32.checked_shl(refusals).unwrap_or(u32::MAX);
    let wait = REFUSED.saturating_mul(factor).min(REFUSED_MOST);
    wait + spread(wait / 10, random)
}

/// Zero to `most`, evenly.
fn spread(most: Duration, random: u64) -> Duration {
    let scaled = (u128::from(random) * (most.as_micros() + 1)) >> 64;
    Duration::from_micros(u64::try_from(scaled).unwrap_or(u64::MAX))
}

/// An access token.
#[derive(Debug)]
pub(crate) struct Access {
    number: u64,
    header: HeaderValue,
    granted: Timestamp,
    renew_at: Option<Timestamp>,
    worked: AtomicBool,
}

impl Access {
    /// The `Authorization` header; marked as sensitive.
    pub(crate) const fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// The CRM took it.
    pub(crate) fn worked(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }

    /// Which one it is, of those that this process had.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}

/// How it is with the token.
#[derive(Debug, Default)]
pub(super) enum Standing {
    /// One is to be fetched, and calls may wait for it.
    #[default]
    Awaited,
    /// There is one.
    Usable(Arc<Access>),
    /// None could be fetched; it is tried again.
    Failing {
        /// Why; safe to log.
        code: String,
    },
    /// The provider gives none until somebody does something.
    Refused {
        /// Its word; safe to log.
        code: String,
        /// What to do.
        advice: &'static str,
    },
}

/// What is known of the token of a connection.
#[derive(Debug, Default)]
pub(super) struct Purse {
    standing: Standing,
    issued: u64,
    forced: Option<Timestamp>,
}

/// A token as it was given.
pub(super) struct Given {
    /// The `Authorization` header.
    pub(super) header: HeaderValue,
    /// When.
    pub(super) granted: Timestamp,
    /// When it is to be renewed.
    pub(super) renew_at: Option<Timestamp>,
    /// It was used before, by this process or by another.
    pub(super) used: bool,
}

impl Purse {
    /// How it is.
    pub(super) const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// A token came.
    pub(super) fn on_granted(&mut self, given: Given) {
        let Given { header, granted, renew_at, used } = given;
        self.issued += 1;
        let worked = AtomicBool::new(used);
        self.standing = Standing::Usable(Arc::new(Access { number: self.issued, header, granted, renew_at, worked }));
    }

    /// No token came, and why is not for a person to mend. One that is there stays good.
    pub(super) fn on_failing(&mut self, code: &str) {
        if !matches!(self.standing, Standing::Usable(_)) {
            self.standing = Standing::Failing { code: code.to_owned() };
        }
    }

    /// The provider refuses. One that is there is not used any more: it ends soon, and somebody has to know before.
    pub(super) fn on_refused(&mut self, code: &str, advice: &'static str) {
        self.standing = Standing::Refused { code: code.to_owned(), advice };
    }

    /// What was known is to be found out again.
    pub(super) fn forget(&mut self) {
        self.standing = Standing::Awaited;
    }

    /// The CRM refused token `number`. True when a call may be made once more with the token that is drawn next.
    pub(super) fn on_unauthorised(&mut self, number: u64, now: Timestamp) -> bool {
        let Standing::Usable(access) = &self.standing else { return true };
        if access.number != number {
            return true;
        }
        let unproven = !access.worked.load(Ordering::Relaxed) && now < access.granted + UNPROVEN;
        let too_soon = self.forced.is_some_and(|at| now < at + APART);
        if unproven || too_soon {
            return false;
        }
        self.forced = Some(now);
        self.standing = Standing::Awaited;
        true
    }

    /// When the provider is to be asked, which is left alone until `hold_off`. `None`: not before something happens.
    pub(super) fn due(&self, hold_off: Option<Timestamp>) -> Option<Timestamp> {
        let due = match &self.standing {
            Standing::Usable(access) => access.renew_at?,
            Standing::Awaited | Standing::Failing { .. } | Standing::Refused { .. } => Timestamp::default(),
        };
        Some(due.max(hold_off.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn given(granted: i64, renew_at: Option<i64>) -> Given {
        Given {
            header: HeaderValue::from_static("Bearer t"),
            granted: at(granted),
            renew_at: renew_at.map(at),
            used: false,
        }
    }

    fn usable(purse: &Purse) -> Arc<Access> {
        let Standing::Usable(access) = purse.standing() else { panic!("{purse:?}") };
        Arc::clone(access)
    }

    #[test]
    fn a_token_is_renewed_five_minutes_or_a_quarter_of_its_life_ahead_and_by_chance_earlier() {
        let table = [
            (Some(1_800), 0, Some(1_500)),
            (Some(1_800), u64::MAX, Some(1_350)),
            (Some(86_400), 0, Some(86_100)),
            (Some(86_400), u64::MAX, Some(85_950)),
            (Some(40), 0, Some(30)),
            (Some(40), u64::MAX, Some(25)),
            (Some(0), 0, Some(1)),
            (None, 7, None),
        ];
        for (life, random, expected) in table {
            let found = renew_at(at(1_000), life.map(Duration::from_secs), random);
            assert_eq!(found, expected.map(|s| at(1_000 + s)), "{life:?} {random}");
        }
    }

    #[test]
    fn a_provider_that_refuses_is_asked_ever_less_often() {
        let found: Vec<u64> = [0, 1, 2, 3, 4, 31, 32, u32::MAX].map(|n| refused_wait(n, 0).as_secs()).to_vec();
        assert_eq!(found, [60, 120, 240, 480, 600, 600, 600, 600]);
        assert_eq!(refused_wait(0, u64::MAX), Duration::from_secs(66));
    }

    #[test]
    fn a_token_that_worked_is_renewed_when_it_is_refused_and_that_but_once_in_half_a_minute() {
        let mut purse = Purse::default();
        purse.on_granted(given(0, None));
        let first = usable(&purse);
        first.worked();
        assert!(purse.on_unauthorised(first.number(), at(10)));
        assert!(matches!(purse.standing(), Standing::Awaited));
        assert!(purse.on_unauthorised(first.number(), at(10)), "another call waits for the same renewal");
        purse.on_granted(given(11, None));
        let second = usable(&purse);
        assert!(
            purse.on_unauthorised(first.number(), at(11)),
            "a late refusal of the old one does not end the new one"
        );
        second.worked();
        assert!(!purse.on_unauthorised(second.number(), at(39)));
        assert_eq!(usable(&purse).number(), second.number());
        assert!(purse.on_unauthorised(second.number(), at(40)));
    }

    #[test]
    fn a_token_that_never_worked_is_not_renewed_before_it_is_a_minute_old() {
        let mut purse = Purse::default();
        purse.on_granted(given(100, None));
        let access = usable(&purse);
        assert!(!purse.on_unauthorised(access.number(), at(159)));
        assert!(purse.on_unauthorised(access.number(), at(160)));
        purse.on_granted(Given { used: true, ..given(200, None) });
        assert!(purse.on_unauthorised(usable(&purse).number(), at(201)), "another process used it with success");
    }

    #[test]
    fn the_provider_is_asked_when_a_token_is_missing_or_due_and_left_alone_meanwhile() {
        let mut purse = Purse::default();
        assert_eq!(purse.due(None), Some(at(0)));
        assert_eq!(purse.due(Some(at(9))), Some(at(9)));
        purse.on_failing("timeout");
        assert_eq!(purse.due(Some(at(9))), Some(at(9)));
        purse.on_granted(given(0, Some(1_500)));
        assert_eq!(purse.due(None), Some(at(1_500)));
        purse.on_failing("timeout");
        assert_eq!(usable(&purse).number(), 1, "what is there stays good");
        assert_eq!(purse.due(Some(at(1_501))), Some(at(1_501)));
        purse.on_refused("invalid_grant", "log in");
        assert_eq!(purse.due(Some(at(1_600))), Some(at(1_600)));
        purse.on_granted(given(0, None));
        assert_eq!(purse.due(Some(at(5))), None, "only a refusal tells that it ended");
    }
}
