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
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use self::kept::Kept;

mod kept;

/// Identifies one change of one tenant.
///
/// Bytes, because an integer of that size would be padded wherever it stands beside anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 16]);

impl Key {
    /// The key of a change; the same change of two tenants is two.
    pub(crate) fn new(id: ChangeId, tenant: &str) -> Self {
        let tenant: [u8; 32] = Sha256::digest(tenant.as_bytes()).into();
        let tenant = tenant.first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes));
        Self((id.as_u128() ^ tenant).to_be_bytes())
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
            self.dedup.known.lock().open.remove(&self.key);
            self.state.send_replace(State::Failed);
        }
    }
}

/// The memory of published changes: bounded in keys (the oldest go first) and in time.
#[derive(Debug)]
pub(crate) struct Dedup {
    began: Instant,
    known: Mutex<Known>,
}

/// Behind one lock, so that a repeat finds a change in one of the two at any moment.
#[derive(Debug)]
struct Known {
    kept: Kept,
    /// Bounded by the admitted requests, whose events it holds.
    open: HashMap<Key, Fate, RandomState>,
}

impl Dedup {
    /// Remembers at most `keys` changes.
    pub(crate) fn new(keys: u64) -> Arc<Self> {
        let known = Known { kept: Kept::new(keys), open: HashMap::default() };
        Arc::new(Self { began: Instant::now(), known: Mutex::new(known) })
    }

    /// Reserves `keys` in one go, so that two requests with the same changes cannot each get half of them.
    pub(crate) fn reserve(self: &Arc<Self>, keys: impl IntoIterator<Item = Key>, ttl: Duration) -> Vec<Reserved> {
        let now = self.now();
        let Known { kept, open } = &mut *self.known.lock();
        keys.into_iter()
            .map(|key| match open.entry(key) {
                Entry::Occupied(entry) => Reserved::Open(entry.get().clone()),
                Entry::Vacant(_) if kept.contains(key, now) => Reserved::Kept,
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
        let now = self.now();
        let mut known = self.known.lock();
        for reservation in &published {
            known.kept.insert(reservation.key, after(now, reservation.ttl));
            known.open.remove(&reservation.key);
        }
        drop(known);
        for reservation in published {
            reservation.state.send_replace(State::Published);
        }
    }

    /// Enters a change that was published before the start.
    pub(crate) fn remember(&self, key: Key, ttl: Duration) {
        let now = self.now();
        let mut known = self.known.lock();
        if !known.kept.contains(key, now) {
            known.kept.insert(key, after(now, ttl));
        }
    }

    /// Changes remembered, including those that are old enough to be forgotten.
    pub(crate) fn len(&self) -> usize {
        self.known.lock().kept.len()
    }

    /// Seconds since the start.
    fn now(&self) -> u32 {
        after(0, self.began.elapsed())
    }
}

/// Whole seconds, for centuries enough.
fn after(now: u32, time: Duration) -> u32 {
    now.saturating_add(u32::try_from(time.as_secs()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn at(key: u128) -> Key {
        Key(key.to_be_bytes())
    }

    fn one(dedup: &Arc<Dedup>, key: u128) -> Reserved {
        dedup.reserve([at(key)], TTL).remove(0)
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
        let mut reserved = dedup.reserve([at(1), at(1)], TTL);
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
        assert!(dedup.len() <= 100);
        assert!(matches!(one(&dedup, 999), Reserved::Kept));
        assert!(matches!(one(&dedup, 0), Reserved::New(_)));
        assert!(dedup.known.lock().open.is_empty());
    }

    #[test]
    fn an_entry_is_forgotten_after_its_time() {
        let dedup = Dedup::new(100);
        dedup.commit(match dedup.reserve([at(7)], Duration::ZERO).remove(0) {
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
