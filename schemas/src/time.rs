//! Instants in microseconds since the Unix epoch, and half-open spans of them.
//!
//! The rest of the code takes `now` as an argument; [`now`] is for drivers and `main` only.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant in whole microseconds since the Unix epoch, UTC.
///
/// In JSON it is RFC 3339 text with six fractional digits and `Z`; in binary encodings the plain integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(us: i64) -> Self {
        Self(us)
    }

    /// From milliseconds since the Unix epoch; saturates at the ends of the range.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000))
    }

    /// From seconds since the Unix epoch; saturates at the ends of the range.
    pub const fn from_secs(s: i64) -> Self {
        Self(s.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The time from `earlier` to `self`, zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(rhs.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(rhs.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => write!(f, "{t:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an RFC 3339 instant with an offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 date and time with an offset")]
pub struct InvalidTimestamp;

impl std::str::FromStr for Timestamp {
    type Err = InvalidTimestamp;
    fn from_str(s: &str) -> Result<Self, InvalidTimestamp> {
        s.parse::<jiff::Timestamp>().map(|t| Self(t.as_microsecond())).map_err(|_| InvalidTimestamp)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { s.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = Cow::<'_, str>::deserialize(d)?;
            text.parse().map_err(de::Error::custom)
        } else {
            i64::deserialize(d).map(Self)
        }
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// How fine a provider's clock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Whole seconds.
    S,
    /// The provider told no time.
    None,
}

impl Resolution {
    /// Length of one unit in microseconds; one microsecond where no time was told.
    pub const fn micros(self) -> i64 {
        match self {
            Self::Us | Self::None => 1,
            Self::Ms => 1_000,
            Self::S => 1_000_000,
        }
    }
}

/// A half-open interval `[lo, hi)` of one clock, in microseconds: a provider's time with its resolution, or the span
/// of a call whose answer has no version. Spans are compared only inside one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// First microsecond inside.
    pub lo: i64,
    /// First microsecond after; always greater than `lo`.
    pub hi: i64,
}

impl Span {
    /// `[lo, hi)`; an empty or inverted pair becomes one microsecond long.
    pub const fn new(lo: i64, hi: i64) -> Self {
        Self { lo, hi: if hi > lo { hi } else { lo.saturating_add(1) } }
    }

    /// One microsecond.
    pub const fn point(at: i64) -> Self {
        Self::new(at, at.saturating_add(1))
    }

    /// The unit of `resolution` that holds `at`.
    pub const fn of(at: Timestamp, resolution: Resolution) -> Self {
        let unit = resolution.micros();
        let lo = at.0 - at.0.rem_euclid(unit);
        Self::new(lo, lo + unit)
    }

    /// Wholly later than `other`.
    pub const fn after(self, other: Self) -> bool {
        self.lo >= other.hi
    }

    /// Neither is after the other: their order cannot be known.
    pub const fn ties(self, other: Self) -> bool {
        self.lo < other.hi && other.lo < self.hi
    }

    /// Both ends moved by `by`.
    pub const fn shifted(self, by: i64) -> Self {
        Self { lo: self.lo.saturating_add(by), hi: self.hi.saturating_add(by) }
    }

    /// Both ends moved outwards by `by`.
    pub const fn widened(self, by: i64) -> Self {
        Self { lo: self.lo.saturating_sub(by), hi: self.hi.saturating_add(by) }
    }
}

/// The clock of this machine. Only drivers and `main` read it; logic takes `now` as an argument.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
        Ok(d) => Timestamp(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)),
        Err(e) => Timestamp(-i64::try_from(e.duration().as_micros()).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip_keeps_microseconds() {
        let t = Timestamp::from_micros(1_767_268_798_500_123);
        assert_eq!(t.to_string(), "2026-01-01T11:59:58.500123Z");
        assert_eq!(t.to_string().parse(), Ok(t));
        assert_eq!("2026-01-01T12:59:58.500123+01:00".parse(), Ok(t));
        assert_eq!("2026-01-01".parse::<Timestamp>(), Err(InvalidTimestamp));
    }

    #[test]
    fn spans_order_or_tie() {
        let s = Span::of(Timestamp::from_millis(1_999), Resolution::S);
        assert_eq!(s, Span::new(1_000_000, 2_000_000));
        assert!(Span::point(2_000_000).after(s));
        assert!(Span::point(1_999_999).ties(s));
        assert!(!s.after(Span::point(1_000_000)));
        assert_eq!(Span::of(Timestamp::from_millis(-1), Resolution::S), Span::new(-1_000_000, 0));
    }
}
