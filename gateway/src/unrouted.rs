//! Events of accounts that no connection has: counted, acknowledged, and kept for a day, so that whoever adds the
//! missing connection can see what came before it.
//!
//! Pure but for its lock: `now` is an argument. Kept in memory and nowhere else: the bodies hold values of people whom
//! nobody here has a contract with, and what is never written needs no sealing, no retention job and no erasure. A
//! restart forgets them; the next event of the account shows it again. The surprising thing: when the bytes are used
//! up, the account that holds most loses its oldest body, so a loud stranger cannot push a quiet one out.

use std::collections::VecDeque;
use std::time::Duration;

use headgate_schemas::Timestamp;
use indexmap::IndexMap;
use parking_lot::Mutex;
use serde::Serialize;

use crate::config::Limits;

/// How long a body is kept.
const KEPT_FOR: Duration = Duration::from_hours(24);
/// Bodies kept per account; beyond it the oldest goes.
const BODIES: usize = 100;
/// Accounts remembered; beyond it the one not heard of for longest goes.
const ACCOUNTS: usize = 1_000;
/// Between two looks for bodies whose time is over, while events come.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// One account without a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnroutedAccount {
    /// The endpoint its events came to.
    pub endpoint: String,
    /// The account they name.
    pub account: String,
    /// Events since the start.
    pub events: u64,
    /// The first of them.
    pub first_at: Timestamp,
    /// The last of them.
    pub last_at: Timestamp,
    /// Bodies still kept.
    pub kept: usize,
}

/// One event of an account without a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnroutedEvent {
    /// When it came.
    pub at: Timestamp,
    /// The event as it stood in the call.
    pub body: Vec<u8>,
}

/// What is kept, bounded in accounts, bodies per account, bytes and time.
#[derive(Debug)]
pub(crate) struct UnroutedEvents {
    bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By endpoint and account, the one heard of last at the end.
    accounts: IndexMap<(String, String), Account, ahash::RandomState>,
    bytes: usize,
    expired_at: Timestamp,
}

#[derive(Debug)]
struct Account {
    events: u64,
    first_at: Timestamp,
    last_at: Timestamp,
    bodies: VecDeque<UnroutedEvent>,
    bytes: usize,
}

impl UnroutedEvents {
    /// Keeps at most [`Limits::unrouted_bytes`].
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { bytes: limits.unrouted_bytes, state: Mutex::default() }
    }

    /// Counts one event and keeps its body.
    pub(crate) fn keep(&self, endpoint: &str, account: &str, body: Vec<u8>, now: Timestamp) {
        let mut state = self.state.lock();
        if now.since(state.expired_at) > BETWEEN_LOOKS {
            state.expire(now);
        }
        let key = (endpoint.to_owned(), account.to_owned());
        let mut entry = state.take(&key).unwrap_or_else(|| Account::new(now));
        entry.events += 1;
        entry.last_at = now;
        // A body that would push out a good part of all others is counted and not kept.
        if body.len() <= self.bytes / 16 {
            entry.push(UnroutedEvent { at: now, body });
        }
        state.bytes += entry.bytes;
        state.accounts.insert(key, entry);
        while state.accounts.len() > ACCOUNTS {
            state.forget_oldest();
        }
        while state.bytes > self.bytes {
            state.shrink_largest();
        }
    }

    /// The accounts, the one heard of last first.
    pub(crate) fn list(&self, now: Timestamp) -> Vec<UnroutedAccount> {
        let mut state = self.state.lock();
        state.expire(now);
        let shown = |((endpoint, account), entry): (&(String, String), &Account)| UnroutedAccount {
            endpoint: endpoint.clone(),
            account: account.clone(),
            events: entry.events,
            first_at: entry.first_at,
            last_at: entry.last_at,
            kept: entry.bodies.len(),
        };
        state.accounts.iter().rev().map(shown).collect()
    }

    /// The events kept of one account, the oldest first; `None` for an account that never was here.
    pub(crate) fn events(&self, endpoint: &str, account: &str, now: Timestamp) -> Option<Vec<UnroutedEvent>> {
        let mut state = self.state.lock();
        state.expire(now);
        let entry = state.accounts.get(&(endpoint.to_owned(), account.to_owned()))?;
        Some(entry.bodies.iter().cloned().collect())
    }
}

impl State {
    /// Takes an account out, for it to come back at the end.
    fn take(&mut self, key: &(String, String)) -> Option<Account> {
        let entry = self.accounts.shift_remove(key)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    fn forget_oldest(&mut self) {
        if let Some((_, entry)) = self.accounts.shift_remove_index(0) {
            self.bytes -= entry.bytes;
        }
    }

    fn shrink_largest(&mut self) {
        let largest = self.accounts.values_mut().max_by_key(|entry| entry.bytes);
        let freed = largest.map_or(self.bytes, Account::pop);
        self.bytes -= freed;
    }

    /// Drops bodies, and accounts not heard of, after their time.
    fn expire(&mut self, now: Timestamp) {
        let old = |at: Timestamp| now.since(at) > KEPT_FOR;
        let mut freed = 0;
        self.expired_at = now;
        self.accounts.retain(|_, entry| {
            while entry.bodies.front().is_some_and(|event| old(event.at)) {
                freed += entry.pop();
            }
            !old(entry.last_at)
        });
        self.bytes -= freed;
    }
}

impl Account {
    const fn new(now: Timestamp) -> Self {
        Self { events: 0, first_at: now, last_at: now, bodies: VecDeque::new(), bytes: 0 }
    }

    fn push(&mut self, event: UnroutedEvent) {
        if self.bodies.len() >= BODIES {
            self.pop();
        }
        self.bytes += event.body.len();
        self.bodies.push_back(event);
    }

    /// Drops the oldest body and tells its size.
    fn pop(&mut self) -> usize {
        let freed = self.bodies.pop_front().map_or(0, |event| event.body.len());
        self.bytes -= freed;
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp::from_secs(1_767_268_798);

    fn events(bytes: usize) -> UnroutedEvents {
        UnroutedEvents::new(&Limits { unrouted_bytes: bytes, ..Limits::default() })
    }

    fn kept(events: &UnroutedEvents, now: Timestamp) -> Vec<(String, u64, usize)> {
        events.list(now).into_iter().map(|a| (a.account, a.events, a.kept)).collect()
    }

    #[test]
    fn an_account_keeps_its_last_hundred_bodies_for_a_day() {
        let events = events(1 << 20);
        for n in 0..150_u8 {
            events.keep("e", "7", vec![n], T);
        }
        assert_eq!(kept(&events, T), [("7".to_owned(), 150, 100)]);
        let bodies = events.events("e", "7", T).unwrap();
        assert_eq!((bodies[0].body[0], bodies[99].body[0]), (50, 149));
        assert_eq!(events.events("e", "8", T), None);
        let day = Duration::from_hours(24);
        events.keep("e", "7", vec![0], T + day);
        assert_eq!(kept(&events, T + day), [("7".to_owned(), 151, 100)]);
        assert_eq!(kept(&events, T + day + Duration::from_secs(1)), [("7".to_owned(), 151, 1)]);
        assert_eq!(kept(&events, T + 2 * day + Duration::from_secs(1)), []);
        assert_eq!(events.state.lock().bytes, 0);
    }

    #[test]
    fn the_loudest_account_loses_first() {
        let events = events(1_600);
        events.keep("e", "quiet", vec![0; 100], T);
        for _ in 0..50 {
            events.keep("e", "loud", vec![0; 100], T);
        }
        // A body of more than a sixteenth of everything is counted only.
        events.keep("e", "huge", vec![0; 101], T);
        let expected = [("huge".to_owned(), 1, 0), ("loud".to_owned(), 50, 15), ("quiet".to_owned(), 1, 1)];
        assert_eq!(kept(&events, T), expected);
    }

    #[test]
    fn the_accounts_are_bounded() {
        let events = events(1 << 20);
        for n in 0..ACCOUNTS + 5 {
            events.keep("e", &n.to_string(), vec![1], T);
        }
        let list = events.list(T);
        assert_eq!((list.len(), list[ACCOUNTS - 1].account.as_str()), (ACCOUNTS, "5"));
        assert_eq!(events.state.lock().bytes, ACCOUNTS);
    }
}
