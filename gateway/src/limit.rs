//! Limits of a request: bytes in flight, size and speed of the body, and once it is believed the rate of its endpoint.
//!
//! It must not know providers. The surprising thing: a declared length is only ever used to refuse early; what counts
//! is bytes read, and a chunked body has no declared length at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};

use crate::config::Limits;

/// Charged per request beside its body, so that many empty requests are bounded too.
const REQUEST_BYTES: usize = 4 << 10;
/// Largest buffer made on the word of a declared length.
const TRUSTED_CAPACITY: usize = 64 << 10;

/// Bytes of all open requests.
#[derive(Debug)]
pub(crate) struct Admission {
    used: AtomicUsize,
    limit: usize,
}

/// The limit is reached: answer 503 and read nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A request's share of the bytes in flight; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    /// At most `limit` bytes at once.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Admits one request without its body.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Permit, Full> {
        let mut permit = Permit { admission: Arc::clone(self), bytes: 0 };
        permit.grow(REQUEST_BYTES)?;
        Ok(permit)
    }
}

impl Permit {
    /// Takes `more` bytes.
    fn grow(&mut self, more: usize) -> Result<(), Full> {
        let limit = self.admission.limit;
        let taken = self.admission.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(more).filter(|sum| *sum <= limit)
        });
        if taken.is_err() {
            return Err(Full);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Requests per second of one endpoint, with a burst of one second's worth. Pure: `now` is an argument.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// The time one request uses up.
    each: Duration,
    /// When everything taken so far is used up.
    used_until: Option<std::time::Instant>,
}

/// The endpoint sends too fast: answer as its provider understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooFast;

impl Rate {
    /// At most `per_second` requests per second in the long run.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { each: Duration::from_secs(1) / per_second.max(1), used_until: None }
    }

    /// Takes one request.
    pub(crate) fn take(&mut self, now: std::time::Instant) -> Result<(), TooFast> {
        let until = self.used_until.map_or(now, |until| until.max(now)) + self.each;
        if until > now + Duration::from_secs(1) {
            return Err(TooFast);
        }
        self.used_until = Some(until);
        Ok(())
    }
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// More bytes than allowed.
    TooLarge,
    /// Too long, or too slow after the first second.
    Slow,
    /// The bytes in flight of all requests are used up.
    Full,
    /// The connection or the framing broke.
    Broken,
}

/// Reads a body of at most `cap` bytes.
pub(crate) async fn read_body(
    mut body: Incoming,
    cap: usize,
    permit: &mut Permit,
    limits: &Limits,
) -> Result<Bytes, BodyFault> {
    let declared = body.size_hint().lower();
    if declared > cap as u64 {
        return Err(BodyFault::TooLarge);
    }
    let start = Instant::now();
    let mut read = Bytes::new();
    let mut more = BytesMut::new();
    loop {
        let length = read.len() + more.len();
        let deadline = start + time_for(length, limits);
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| BodyFault::Slow)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| BodyFault::Broken)?.into_data() else { continue };
        if length + data.len() > cap {
            return Err(BodyFault::TooLarge);
        }
        permit.grow(data.len()).map_err(|Full| BodyFault::Full)?;
        // Most bodies arrive in one piece and are used as they came.
        if read.is_empty() {
            read = data;
        } else {
            more.reserve(usize::try_from(declared).map_or(0, |d| d.min(TRUSTED_CAPACITY).saturating_sub(length)));
            more.extend_from_slice(&data);
        }
    }
    if more.is_empty() {
        return Ok(read);
    }
    let mut whole = BytesMut::with_capacity(read.len() + more.len());
    whole.extend_from_slice(&read);
    whole.extend_from_slice(&more);
    Ok(whole.freeze())
}

/// How long a body of which `read` bytes have come may take until its next piece: one second free, then the rate, and
/// never beyond the whole time-out.
fn time_for(read: usize, limits: &Limits) -> Duration {
    let rate = limits.body_min_rate.max(1) as u64;
    let paid = Duration::from_millis((read as u64).saturating_mul(1_000) / rate);
    Duration::from_secs(1).saturating_add(paid).min(limits.body_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_after_the_first_second_and_ends_with_the_timeout() {
        let limits = Limits { body_min_rate: 1_000, body_timeout: Duration::from_secs(10), ..Limits::default() };
        for (read, millis) in [(0, 1_000), (1, 1_001), (500, 1_500), (9_000, 10_000), (1 << 30, 10_000)] {
            assert_eq!(time_for(read, &limits), Duration::from_millis(millis), "{read}");
        }
        let fast = Limits { body_timeout: Duration::from_millis(50), ..limits };
        assert_eq!(time_for(0, &fast), Duration::from_millis(50));
    }

    #[test]
    fn the_rate_allows_a_burst_of_one_second_and_then_its_pace() {
        let (start, ms) = (std::time::Instant::now(), Duration::from_millis);
        let mut rate = Rate::new(4);
        for (at, expected) in [
            (0, [Ok(()), Ok(()), Ok(()), Ok(()), Err(TooFast)]),
            (500, [Ok(()), Ok(()), Err(TooFast), Err(TooFast), Err(TooFast)]),
            (60_000, [Ok(()), Ok(()), Ok(()), Ok(()), Err(TooFast)]),
        ] {
            assert_eq!([(); 5].map(|()| rate.take(start + ms(at))), expected, "at {at} ms");
        }
    }

    #[test]
    fn bytes_in_flight_are_bounded_and_given_back() {
        let admission = Admission::new(3 * REQUEST_BYTES);
        let mut first = admission.admit().unwrap();
        let second = admission.admit().unwrap();
        assert_eq!(first.grow(REQUEST_BYTES + 1), Err(Full));
        assert_eq!(first.grow(REQUEST_BYTES), Ok(()));
        assert!(admission.admit().is_err());
        drop(second);
        assert!(admission.admit().is_ok());
        drop(first);
        assert_eq!(admission.used.load(Ordering::Relaxed), 0);
    }
}
