//! Limits of a request: its place among the open ones ([`admission`]), size and speed of the body, failures of strangers
//! before it is believed and the rate of its account after that.
//!
//! It must not know providers. The surprising thing: a declared length is only ever used to refuse early; what counts
//! is bytes read, and a chunked body has no declared length at all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::config::{Limits, Owners};

mod admission;

pub(crate) use self::admission::{Admission, Full, Holder, Permit};

/// Largest buffer made on the word of a declared length.
const TRUSTED_CAPACITY: usize = 64 << 10;
/// A body's rate is not looked at before this.
const GRACE: Duration = Duration::from_secs(5);
/// Failures allowed at once, in seconds of the rate.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// How long a stranger with too many failures is refused.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// A stranger that did nothing for so long is forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_mins(10);

/// Verified requests per second of each account at one endpoint, with a burst of one second's worth.
///
/// The governor crate's limiters, one per account and without a lock. Its middleware for HTTP stacks cannot be used: it
/// takes the key from the head of a request, and whose request it is stands in the body, known only once that is
/// verified and read.
#[derive(Debug)]
pub(crate) struct Rates {
    accounts: HashMap<String, Account, ahash::RandomState>,
    /// Calls with nothing for any of them.
    others: Account,
}

/// One account and what it may still send.
#[derive(Debug)]
struct Account {
    number: usize,
    rate: DefaultDirectRateLimiter,
}

/// The account sends too fast: answer as its provider understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooFast;

impl Rates {
    /// At most `per_second` requests per second in the long run.
    pub(crate) fn new(owners: &Owners, per_second: u32) -> Self {
        let quota = Quota::per_second(at_least_one(per_second));
        let account = |number| Account { number, rate: RateLimiter::direct(quota) };
        let accounts = owners.iter().zip(1..).map(|(owner, number)| (owner.account.clone(), account(number)));
        Self { accounts: accounts.collect(), others: account(0) }
    }

    /// Takes one request with events of `accounts`; answers their numbers, each once. One that is over its limit does
    /// not stop the others of its request: the request is refused only when none is left.
    pub(crate) fn take<'a>(&self, accounts: impl Iterator<Item = &'a str>) -> Result<Vec<usize>, TooFast> {
        let mut numbers: Vec<usize> = Vec::new();
        let mut allowed = false;
        let known = accounts.map(|account| self.accounts.get(account).unwrap_or(&self.others));
        for account in known {
            if !numbers.contains(&account.number) {
                numbers.push(account.number);
                allowed |= account.rate.check().is_ok();
            }
        }
        if numbers.is_empty() {
            numbers.push(self.others.number);
            allowed = self.others.rate.check().is_ok();
        }
        if allowed { Ok(numbers) } else { Err(TooFast) }
    }
}

fn at_least_one(rate: u32) -> NonZeroU32 {
    NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN)
}

/// Failed verifications by stranger and endpoint. Bounded: the least recent are forgotten.
///
/// A secret that is wrong at one endpoint must not lock out the others that the same sender calls, so the endpoint is
/// part of the key. All keys of no endpoint are one.
pub(crate) struct Failures {
    peers: Cache<(IpAddr, Option<usize>), Arc<Stranger>, ahash::RandomState>,
    rate: NonZeroU32,
    /// Somebody failed since the start: most gateways need not look at all.
    any: AtomicBool,
}

/// What one stranger did at one endpoint.
struct Stranger {
    budget: DefaultDirectRateLimiter,
    refused_until: Mutex<Option<Instant>>,
}

impl Failures {
    /// At most `per_second` failures per second of one stranger at one endpoint, and ten seconds' worth at once.
    pub(crate) fn new(per_second: u32, peers: u64) -> Self {
        let peers = Cache::builder()
            .max_capacity(peers)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(FORGIVEN_AFTER)
            .build_with_hasher(ahash::RandomState::new());
        Self { peers, rate: at_least_one(per_second), any: AtomicBool::new(false) }
    }

    /// Whether what this stranger sends there is refused at `now` whatever it is.
    pub(crate) fn refuses(&self, peer: IpAddr, endpoint: Option<usize>, now: Instant) -> bool {
        self.any.load(Ordering::Relaxed)
            && self
                .peers
                .get(&(peer, endpoint))
                .is_some_and(|stranger| stranger.refused_until.lock().is_some_and(|until| now < until))
    }

    /// Counts a failure at `now`.
    pub(crate) fn count(&self, peer: IpAddr, endpoint: Option<usize>, now: Instant) {
        let burst = self.rate.saturating_mul(BURST_SECONDS);
        self.any.store(true, Ordering::Relaxed);
        let stranger = self.peers.get_with((peer, endpoint), || {
            let budget = RateLimiter::direct(Quota::per_second(self.rate).allow_burst(burst));
            Arc::new(Stranger { budget, refused_until: Mutex::new(None) })
        });
        if stranger.budget.check().is_err() {
            *stranger.refused_until.lock() = Some(now + REFUSED_FOR);
        }
    }
}

/// Open connections by address.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    open: Mutex<HashMap<IpAddr, usize, ahash::RandomState>>,
}

/// An address's share of the connections; given back on drop.
#[derive(Debug)]
pub(crate) struct Seat {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Takes one connection of `address`; none when it has `limit` already.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, limit: usize) -> Option<Seat> {
        let mut open = self.open.lock();
        let count = open.entry(address).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Seat { addresses: Arc::clone(self), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// More bytes than allowed.
    TooLarge,
    /// Too long, or too slow on average.
    Slow,
    /// There is no room for it.
    Full(Full),
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
        permit.grow(data.len()).map_err(BodyFault::Full)?;
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

/// How long a body of which `read` bytes have come may take until its next piece: some seconds free, since a network may
/// stall that long without anybody's fault, then the rate, and never beyond the whole time-out.
fn time_for(read: usize, limits: &Limits) -> Duration {
    let rate = limits.body_min_rate.max(1) as u64;
    let paid = Duration::from_millis((read as u64).saturating_mul(1_000) / rate);
    GRACE.saturating_add(paid).min(limits.body_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Owner;

    #[test]
    fn the_rate_counts_after_five_seconds_and_ends_with_the_timeout() {
        let limits = Limits { body_min_rate: 1_000, body_timeout: Duration::from_secs(10), ..Limits::default() };
        for (read, millis) in [(0, 5_000), (1, 5_001), (500, 5_500), (5_000, 10_000), (1 << 30, 10_000)] {
            assert_eq!(time_for(read, &limits), Duration::from_millis(millis), "{read}");
        }
        let fast = Limits { body_timeout: Duration::from_millis(50), ..limits };
        assert_eq!(time_for(0, &fast), Duration::from_millis(50));
    }

    #[test]
    fn each_account_has_its_own_rate_and_a_mixed_request_passes_with_any_of_them() {
        let owner = |account: &str| Owner { account: account.to_owned(), ..Owner::default() };
        let owners = Owners::ByAccount(["a", "b"].map(|a| (a.to_owned(), owner(a))).into());
        let rates = Rates::new(&owners, 2);
        let take = |accounts: &[&'static str]| rates.take(accounts.iter().copied());
        let first = take(&["a"]);
        let (a, count) = first.as_deref().map(|numbers| (numbers[0], numbers.len())).unwrap();
        assert_eq!((count, take(&["a", "a"]), take(&["a"])), (1, first, Err(TooFast)));
        let b = 3 - a;
        assert_eq!([take(&["a", "b"]), take(&["b"]), take(&["a", "b"])], [Ok(vec![a, b]), Ok(vec![b]), Err(TooFast)]);
        // Calls without a routed event have a rate of their own.
        assert_eq!([take(&[]), take(&["z", "y"]), take(&[])], [Ok(vec![0]), Ok(vec![0]), Err(TooFast)]);
    }

    #[test]
    fn failures_are_counted_per_stranger_and_endpoint_and_forgiven_in_time() {
        let (now, failures) = (Instant::now(), Failures::new(1, 100));
        let (peer, other): (IpAddr, IpAddr) = ([203, 0, 113, 9].into(), [203, 0, 113, 10].into());
        let app = Some(0);
        for _ in 0..10 {
            failures.count(peer, app, now);
        }
        assert!(!failures.refuses(peer, app, now));
        failures.count(peer, app, now);
        assert!(failures.refuses(peer, app, now));
        assert!(!failures.refuses(peer, None, now) && !failures.refuses(other, app, now));
        assert!(!failures.refuses(peer, app, now + REFUSED_FOR));
    }

    #[test]
    fn an_address_has_so_many_connections() {
        let addresses = Arc::new(Addresses::default());
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let seats = [addresses.take(a, 2), addresses.take(a, 2)];
        assert!(addresses.take(a, 2).is_none() && addresses.take(b, 2).is_some());
        drop(seats);
        assert!(addresses.open.lock().is_empty());
    }
}
