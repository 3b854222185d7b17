//! How many requests and body bytes are open at once, and who may hold how much of them.
//!
//! It must not know HTTP or providers: it counts. The surprising thing: nobody has a fixed share. A *holder*, which is a
//! peer until its call is believed and the account of its events after that, may hold as much as it leaves free. One
//! alone may so use half of the gateway, two a third each, and whoever comes next always finds a place. A fixed share
//! would either be too small for the only account of a small installation or too large for one of a thousand.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Charged per request beside its body, so that many empty requests are bounded too.
pub(super) const REQUEST_BYTES: usize = 4 << 10;
/// This part of everything is kept for senders that hardly try again.
const RESERVED: usize = 8;

/// Who is told what a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    /// A stranger whose call is not believed yet.
    Peer(IpAddr),
    /// An account of an endpoint, by their numbers.
    Account(usize, usize),
}

/// Why a request finds no place: answer 503 and read nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Everything is taken.
    All,
    /// This holder has as much as it leaves to the others.
    Share,
}

/// Requests and bytes that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    requests: usize,
    bytes: usize,
}

/// The open requests and their bytes.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: Load,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: Load,
    /// Only who holds something; bounded by the requests.
    holders: HashMap<Holder, Load, ahash::RandomState>,
}

/// A request's place and its bytes; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    /// What it may use in all: less than everything unless its sender hardly tries again.
    limit: Load,
    holders: Vec<Holder>,
    bytes: usize,
}

impl Admission {
    /// At most so many requests and bytes at once.
    pub(crate) fn new(requests: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit: Load { requests, bytes }, open: Mutex::default() })
    }

    /// Admits one request of `peer` without its body. `precious` ones may use what is kept for senders that hardly try
    /// again. A peer that cannot be told from others has no share.
    pub(crate) fn admit(self: &Arc<Self>, peer: Option<IpAddr>, precious: bool) -> Result<Permit, Full> {
        let mut limit = self.limit;
        if !precious {
            limit.requests -= limit.requests / RESERVED;
            limit.bytes -= limit.bytes / RESERVED;
        }
        let holders: Vec<Holder> = peer.map(Holder::Peer).into_iter().collect();
        let mut open = self.open.lock();
        let all = Load { requests: open.all.requests + 1, bytes: open.all.bytes + REQUEST_BYTES };
        if all.requests > limit.requests || all.bytes > limit.bytes {
            return Err(Full::All);
        }
        open.all = all;
        if !open.any_within(&holders, limit, REQUEST_BYTES) {
            open.all = Load { requests: all.requests - 1, bytes: all.bytes - REQUEST_BYTES };
            return Err(Full::Share);
        }
        open.charge(&holders, REQUEST_BYTES);
        drop(open);
        Ok(Permit { admission: Arc::clone(self), limit, holders, bytes: REQUEST_BYTES })
    }
}

impl Permit {
    /// Takes `more` bytes.
    pub(super) fn grow(&mut self, more: usize) -> Result<(), Full> {
        let mut open = self.admission.open.lock();
        let bytes = open.all.bytes.checked_add(more).filter(|sum| *sum <= self.limit.bytes).ok_or(Full::All)?;
        open.uncharge(&self.holders, self.bytes);
        open.all.bytes = bytes;
        let within = open.any_within(&self.holders, self.limit, self.bytes + more);
        if within {
            self.bytes += more;
        } else {
            open.all.bytes -= more;
        }
        open.charge(&self.holders, self.bytes);
        if within { Ok(()) } else { Err(Full::Share) }
    }

    /// Charges the request to the accounts of its events and no longer to its peer. One that holds too much does not
    /// stop the others of its request: it is refused only when none is left.
    pub(crate) fn believe(&mut self, accounts: Vec<Holder>) -> Result<(), Full> {
        let mut open = self.admission.open.lock();
        open.uncharge(&self.holders, self.bytes);
        self.holders = accounts;
        let within = open.any_within(&self.holders, self.limit, self.bytes);
        open.charge(&self.holders, self.bytes);
        if within { Ok(()) } else { Err(Full::Share) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock();
        open.uncharge(&self.holders, self.bytes);
        open.all.requests -= 1;
        open.all.bytes -= self.bytes;
    }
}

impl Open {
    /// Whether one of `holders` would, with a request of `bytes` more that is counted in all of them already, hold no
    /// more than is left free below `limit`. The only request of a holder always is: it may be of any size.
    fn any_within(&self, holders: &[Holder], limit: Load, bytes: usize) -> bool {
        let free = Load {
            requests: limit.requests.saturating_sub(self.all.requests),
            bytes: limit.bytes.saturating_sub(self.all.bytes),
        };
        let within = |holder: &Holder| match self.holders.get(holder) {
            Some(held) => held.requests < free.requests && held.bytes + bytes <= free.bytes,
            None => true,
        };
        holders.is_empty() || holders.iter().any(within)
    }

    fn charge(&mut self, holders: &[Holder], bytes: usize) {
        for holder in holders {
            let held = self.holders.entry(*holder).or_default();
            held.requests += 1;
            held.bytes += bytes;
        }
    }

    fn uncharge(&mut self, holders: &[Holder], bytes: usize) {
        for holder in holders {
            if let Some(held) = self.holders.get_mut(holder) {
                held.requests -= 1;
                held.bytes -= bytes;
                if held.requests == 0 {
                    self.holders.remove(holder);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 1 << 30;

    fn peer(n: u8) -> Option<IpAddr> {
        Some([203, 0, 113, n].into())
    }

    fn unused(admission: &Admission) -> bool {
        let open = admission.open.lock();
        open.all == Load::default() && open.holders.is_empty()
    }

    #[test]
    fn a_holder_may_hold_what_it_leaves_free_and_the_next_one_always_finds_a_place() {
        // 14 of 16 are for everybody. Each peer takes what it can get.
        let admission = Admission::new(16, MANY);
        let mut permits = Vec::new();
        let mut taken = Vec::new();
        for n in 1..=6 {
            let before = permits.len();
            while let Ok(permit) = admission.admit(peer(n), false) {
                permits.push(permit);
            }
            taken.push(permits.len() - before);
        }
        assert_eq!(taken, [7, 3, 2, 1, 1, 0]);
        assert_eq!(admission.admit(peer(6), false).err(), Some(Full::All));
        // Two are left for those who hardly try again.
        let last = [admission.admit(peer(7), true), admission.admit(peer(8), true)];
        assert!(last.iter().all(Result::is_ok));
        assert_eq!(admission.admit(peer(9), true).err(), Some(Full::All));
        drop((permits, last));
        assert!(unused(&admission));
    }

    #[test]
    fn who_cannot_be_told_from_others_has_no_share() {
        let admission = Admission::new(16, MANY);
        let permits: Vec<_> = (0..20).map_while(|_| admission.admit(None, false).ok()).collect();
        assert_eq!(permits.len(), 14);
    }

    #[test]
    fn bytes_are_shared_like_places_and_a_single_request_may_be_of_any_size() {
        let admission = Admission::new(MANY, 8 * 10 * REQUEST_BYTES);
        // 70 units are for everybody.
        let mut first = admission.admit(peer(1), false).unwrap();
        assert_eq!(first.grow(60 * REQUEST_BYTES), Ok(()));
        assert_eq!(admission.admit(peer(1), false).err(), Some(Full::Share));
        let mut second = admission.admit(peer(2), false).unwrap();
        assert_eq!(second.grow(8 * REQUEST_BYTES + 1), Err(Full::All));
        drop(first);
        let mut third = admission.admit(peer(2), false).unwrap();
        assert_eq!(third.grow(32 * REQUEST_BYTES), Ok(()));
        assert_eq!(third.grow(2 * REQUEST_BYTES), Err(Full::Share));
        drop((second, third));
        assert!(unused(&admission));
    }

    #[test]
    fn a_believed_call_is_its_accounts_and_no_longer_its_peers() {
        let admission = Admission::new(10, MANY);
        let account = |n| vec![Holder::Account(0, n)];
        let mut calls: Vec<_> = (0..4).map(|_| admission.admit(peer(1), false).unwrap()).collect();
        assert_eq!(admission.admit(peer(1), false).err(), Some(Full::Share));
        assert!(calls.iter_mut().all(|call| call.believe(account(1)).is_ok()));
        let mut fifth = admission.admit(peer(1), false).unwrap();
        assert_eq!(fifth.believe(account(1)), Err(Full::Share));
        // With an account that has room the request passes.
        assert_eq!(fifth.believe([account(1), account(2)].concat()), Ok(()));
        drop((calls, fifth));
        assert!(unused(&admission));
    }

    #[test]
    fn bytes_in_flight_are_bounded_and_given_back() {
        let admission = Admission::new(100, 3 * REQUEST_BYTES);
        let mut first = admission.admit(None, true).unwrap();
        let second = admission.admit(None, true).unwrap();
        assert_eq!(first.grow(REQUEST_BYTES + 1), Err(Full::All));
        assert_eq!(first.grow(usize::MAX), Err(Full::All));
        assert_eq!(first.grow(REQUEST_BYTES), Ok(()));
        assert_eq!(admission.admit(None, true).err(), Some(Full::All));
        drop(second);
        assert!(admission.admit(None, true).is_ok());
        drop(first);
        assert!(unused(&admission));
    }
}
