//! Which changes were published already, and which are being published now.
//!
//! It must not know HTTP or providers: keys are integers. The surprising thing: a change is entered as published only
//! after the stream acknowledged it. Until then it stands in a second map, and a repeat that arrives meanwhile shares
//! its [`Fate`]: both are answered alike. Forgetting is harmless, since readers of the stream drop repeats by id.
//!
//! This is the protection against replays as well. The time window bounds how long a signed call can be repeated; inside
//! it the repeat holds the same changes with the same ids, finds them here, and gets the first answer again. After a
//! failed first attempt it finds nothing and is tried afresh. A store of signatures would add a second truth and no
//! safety: what a call does is decided by its changes, and those are known by id for longer than any signature lives.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use headgate_schemas::ChangeId;
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// Identifies one change of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u128);

impl Key {
    /// The key of a change; the same change of two tenants is two.
    pub(crate) fn new(id: ChangeId, tenant: &str) -> Self {
        let tenant: [u8; 32] = Sha256::digest(tenant.as_bytes()).into();
        Self(id.as_u128() ^ tenant.first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes)))
    }
}

/// How the publishing of a change ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Published,
    Failed,
}

/// The end of a publishing that somebody waits for.
#[derive(Clone, Debug)]
pub(crate) struct Fate(watch::Receiver<State>);

impl Fate {
    /// Waits for the end: true when the change is durable. Cancel-safe.
    pub(crate) async fn published(mut self) -> bool {
        // A sender that vanished without a word has published nothing we know of.
        self.0.wait_for(|state| *state != State::Open).await.is_ok_and(|state| *state == State::Published)
    }
}

/// The answer to a reservation.
#[derive(Debug)]
pub(crate) enum Reserved {
    /// It is ours to publish.
    New(Reservation),
    /// Somebody is publishing it, maybe this very request.
    Open(Fate),
    /// It was published before.
    Kept,
}

/// The right and the duty to publish one change. Dropped without [`Dedup::commit`] it fails whoever waits, and the
/// provider's next attempt starts afresh.
#[derive(Debug)]
pub(crate) struct Reservation {
    dedup: Arc<Dedup>,
    key: Key,
    ttl: Duration,
    state: watch::Sender<State>,
}

impl Reservation {
    /// Its end.
    pub(crate) fn fate(&self) -> Fate {
        Fate(self.state.subscribe())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if *self.state.borrow() == State::Open {
            self.dedup.open.lock().remove(&self.key);
            self.state.send_replace(State::Failed);
        }
    }
}

/// The memory of published changes: bounded in keys (the least recently used goes first) and in time.
#[derive(Debug)]
pub(crate) struct Dedup {
    kept: Cache<Key, Duration, RandomState>,
    /// Bounded by the admitted requests, whose events it holds.
    open: Mutex<HashMap<Key, Fate, RandomState>>,
}

/// Each entry lives as long as its provider may retry.
struct PerProvider;

impl Expiry<Key, Duration> for PerProvider {
    fn expire_after_create(&self, _: &Key, ttl: &Duration, _: Instant) -> Option<Duration> {
        Some(*ttl)
    }
}

impl Dedup {
    /// Remembers at most `keys` changes.
    pub(crate) fn new(keys: u64) -> Arc<Self> {
        let kept = Cache::builder()
            .max_capacity(keys)
            .initial_capacity(usize::try_from(keys.min(1 << 20)).unwrap_or(1 << 20))
            // The default policy may refuse a new key in favour of an old one; ours must take every new one.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(PerProvider)
            .build_with_hasher(RandomState::new());
        Arc::new(Self { kept, open: Mutex::default() })
    }

    /// Reserves `keys` in one go, so that two requests with the same changes cannot each get half of them.
    pub(crate) fn reserve(self: &Arc<Self>, keys: impl IntoIterator<Item = Key>, ttl: Duration) -> Vec<Reserved> {
        let mut open = self.open.lock();
        keys.into_iter()
            .map(|key| match open.entry(key) {
                Entry::Occupied(entry) => Reserved::Open(entry.get().clone()),
                Entry::Vacant(_) if self.kept.get(&key).is_some() => Reserved::Kept,
                Entry::Vacant(entry) => {
                    let (state, fate) = watch::channel(State::Open);
                    entry.insert(Fate(fate));
                    Reserved::New(Reservation { dedup: Arc::clone(self), key, ttl, state })
                }
            })
            .collect()
    }

    /// Enters published changes and tells everybody who waits for them.
    pub(crate) fn commit(&self, published: Vec<Reservation>) {
        // Kept first, then no longer open: in between a repeat finds either.
        for reservation in &published {
            self.kept.insert(reservation.key, reservation.ttl);
        }
        let mut open = self.open.lock();
        for reservation in &published {
            open.remove(&reservation.key);
        }
        drop(open);
        for reservation in published {
            reservation.state.send_replace(State::Published);
        }
    }

    /// Enters a change that was published before the start.
    pub(crate) fn remember(&self, key: Key, ttl: Duration) {
        if !self.kept.contains_key(&key) {
            self.kept.insert(key, ttl);
        }
    }

    /// Changes remembered, about.
    pub(crate) fn len(&self) -> u64 {
        self.kept.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn one(dedup: &Arc<Dedup>, key: u128) -> Reserved {
        dedup.reserve([Key(key)], TTL).remove(0)
    }

    fn new(dedup: &Arc<Dedup>, key: u128) -> Reservation {
        match one(dedup, key) {
            Reserved::New(reservation) => reservation,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_repeat_in_flight_shares_the_fate() {
        let dedup = Dedup::new(10);
        let first = new(&dedup, 1);
        let (own, Reserved::Open(repeat)) = (first.fate(), one(&dedup, 1)) else { panic!("open") };
        dedup.commit(vec![first]);
        assert!(own.published().await && repeat.published().await);
        assert!(matches!(one(&dedup, 1), Reserved::Kept));
    }

    #[tokio::test]
    async fn a_dropped_reservation_fails_its_waiters_and_frees_the_key() {
        let dedup = Dedup::new(10);
        let first = new(&dedup, 1);
        let Reserved::Open(repeat) = one(&dedup, 1) else { panic!("open") };
        drop(first);
        assert!(!repeat.published().await);
        drop(new(&dedup, 1));
    }

    #[tokio::test]
    async fn a_repeat_inside_one_request_is_open() {
        let dedup = Dedup::new(10);
        let mut reserved = dedup.reserve([Key(1), Key(1)], TTL);
        assert!(matches!(reserved.pop(), Some(Reserved::Open(_))));
        assert!(matches!(reserved.pop(), Some(Reserved::New(_))));
    }

    #[test]
    fn memory_is_bounded_and_takes_every_new_key() {
        let dedup = Dedup::new(100);
        for key in 0..1_000 {
            let reservation = new(&dedup, key);
            dedup.commit(vec![reservation]);
        }
        dedup.kept.run_pending_tasks();
        assert!(dedup.len() <= 100);
        assert!(matches!(one(&dedup, 999), Reserved::Kept));
        assert!(matches!(one(&dedup, 0), Reserved::New(_)));
        assert!(dedup.open.lock().is_empty());
    }

    #[test]
    fn an_entry_is_forgotten_after_its_time() {
        let dedup = Dedup::new(100);
        dedup.commit(match dedup.reserve([Key(7)], Duration::ZERO).remove(0) {
            Reserved::New(reservation) => vec![reservation],
            other => panic!("{other:?}"),
        });
        assert!(matches!(one(&dedup, 7), Reserved::New(_)));
    }

    #[test]
    fn tenants_do_not_share_keys() {
        let id = ChangeId::from_bytes([7; 16]);
        assert_ne!(Key::new(id, "acme"), Key::new(id, "globex"));
        assert_eq!(Key::new(id, "acme"), Key::new(id, "acme"));
    }
}
