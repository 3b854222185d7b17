//! The sequencer: puts the events of one record in order without making an idle record wait.
//!
//! Pure: no sockets, no clock, no tasks. It must not know what it orders. After every call ask [`Sequencer::poll_timeout`]
//! again and call [`Sequencer::handle_timeout`] no later than it says.
//!
//! The first event of a record goes out at once. While the record has traffic, what follows waits up to the window for
//! stragglers. The surprising thing: an event older than one already out is not held back, it goes out at once and is
//! marked late; order is a service to readers, never a reason to lose or delay. What was released counts as out even
//! if the stream then refuses it, so a repeat may carry the mark without need: it asks to look twice, never to drop.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// One item with its place: compares as text inside one record; none has no place and never waits.
#[derive(Clone, Debug)]
pub(crate) struct Offered<T> {
    /// The order key.
    pub order: Option<Box<str>>,
    /// What is ordered.
    pub item: T,
}

/// One item on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Released<T> {
    /// What was ordered.
    pub item: T,
    /// A newer item of the same record went out before.
    pub late: bool,
    /// How long it was held.
    pub waited: Duration,
}

#[derive(Debug)]
struct Held<T> {
    order: Box<str>,
    since: Instant,
    until: Instant,
    item: T,
}

/// The newest order that went out and when the record was last heard of.
#[derive(Clone, Debug)]
struct Last {
    order: Option<Box<str>>,
    seen: Instant,
}

/// Orders items per record `K`.
#[derive(Debug)]
pub(crate) struct Sequencer<K, T> {
    window: Duration,
    held_limit: usize,
    held: HashMap<K, Vec<Held<T>>, ahash::RandomState>,
    held_total: usize,
    /// One entry per offer that held something, in order of time because every offer waits equally long.
    due: VecDeque<(Instant, K)>,
    last: Remembered<K>,
}

impl<K: Hash + Eq + Clone, T> Sequencer<K, T> {
    /// Holds at most `held_limit` items and remembers at most `records` records.
    pub(crate) fn new(window: Duration, held_limit: usize, records: usize) -> Self {
        Self {
            window,
            held_limit,
            held: HashMap::default(),
            held_total: 0,
            due: VecDeque::new(),
            last: Remembered::new(records),
        }
    }

    /// Takes the items of one record of one request; pushes what may go out now onto `out`.
    pub(crate) fn offer(&mut self, now: Instant, key: K, mut items: Vec<Offered<T>>, out: &mut Vec<Released<T>>) {
        items.sort_by(|a, b| a.order.cmp(&b.order));
        let busy = self.last.get(&key).is_some_and(|last| now.saturating_duration_since(last.seen) < self.window);
        let room = self.held_total + items.len() <= self.held_limit && self.due.len() < self.held_limit;
        let hold = busy && room;
        let mut holding = Vec::new();
        let newest = self.last.get(&key).and_then(|last| last.order.clone());
        for Offered { order, item } in items {
            match order {
                Some(order) if hold && newest.as_ref().is_none_or(|newest| *newest <= order) => {
                    holding.push(Held { order, since: now, until: now + self.window, item });
                }
                order => self.release_now(now, &key, order, item, out),
            }
        }
        if !holding.is_empty() {
            self.held_total += holding.len();
            self.due.push_back((now + self.window, key.clone()));
            self.held.entry(key.clone()).or_default().extend(holding);
        }
        self.last.touch(key, now, None);
    }

    /// When [`Sequencer::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| *at)
    }

    /// Pushes everything whose time has come onto `out`, each with the older items of its record before it.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Released<T>>) {
        while let Some((_, key)) = self.due.pop_front_if(|(at, _)| *at <= now) {
            let newest_due = self
                .held
                .get(&key)
                .and_then(|held| held.iter().filter(|h| h.until <= now).map(|h| h.order.clone()).max());
            if let Some(newest_due) = newest_due {
                self.release_until(now, &key, &newest_due, out);
            }
        }
    }

    /// Pushes everything onto `out` and holds nothing from now on.
    pub(crate) fn close(&mut self, now: Instant, out: &mut Vec<Released<T>>) {
        self.window = Duration::ZERO;
        for (_, key) in std::mem::take(&mut self.due) {
            let newest = self.held.get(&key).and_then(|held| held.iter().map(|h| h.order.clone()).max());
            if let Some(newest) = newest {
                self.release_until(now, &key, &newest, out);
            }
        }
    }

    /// Items held.
    pub(crate) const fn held(&self) -> usize {
        self.held_total
    }

    /// Releases one item that does not wait, after the held ones that belong before it.
    fn release_now(&mut self, now: Instant, key: &K, order: Option<Box<str>>, item: T, out: &mut Vec<Released<T>>) {
        let mut late = false;
        if let Some(order) = order {
            self.release_until(now, key, &order, out);
            late = self.is_late(key, &order);
            self.last.touch(key.clone(), now, Some(order));
        }
        out.push(Released { item, late, waited: Duration::ZERO });
    }

    /// Releases the held items of a record up to and including `newest`, in order.
    fn release_until(&mut self, now: Instant, key: &K, newest: &str, out: &mut Vec<Released<T>>) {
        let Some(held) = self.held.get_mut(key) else { return };
        let mut going: Vec<Held<T>> = held.extract_if(.., |h| &*h.order <= newest).collect();
        if held.is_empty() {
            self.held.remove(key);
        }
        self.held_total -= going.len();
        going.sort_by(|a, b| a.order.cmp(&b.order));
        for Held { order, since, item, .. } in going {
            let late = self.is_late(key, &order);
            self.last.raise(key, now, order);
            out.push(Released { item, late, waited: now.saturating_duration_since(since) });
        }
    }

    fn is_late(&mut self, key: &K, order: &str) -> bool {
        self.last.get(key).and_then(|last| last.order.as_deref()).is_some_and(|newest| order < newest)
    }
}

/// The last state of a bounded number of records, in two generations: when the young one is full it becomes the old
/// one, and the old one is forgotten. A record that is used moves to the young one.
#[derive(Debug)]
struct Remembered<K> {
    half: usize,
    young: HashMap<K, Last, ahash::RandomState>,
    old: HashMap<K, Last, ahash::RandomState>,
}

impl<K: Hash + Eq + Clone> Remembered<K> {
    fn new(records: usize) -> Self {
        Self { half: (records / 2).max(1), young: HashMap::default(), old: HashMap::default() }
    }

    fn get(&mut self, key: &K) -> Option<&Last> {
        if let Some(last) = self.old.remove(key) {
            self.insert(key.clone(), last);
        }
        self.young.get(key)
    }

    fn insert(&mut self, key: K, last: Last) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, last);
    }

    /// The record was heard of now, and `order` went out if it is given.
    fn touch(&mut self, key: K, now: Instant, order: Option<Box<str>>) {
        let known = self.get(&key).and_then(|last| last.order.clone());
        let order = known.max(order);
        self.insert(key, Last { order, seen: now });
    }

    /// `order` went out; the record was not heard of again, so a busy one may become idle.
    fn raise(&mut self, key: &K, now: Instant, order: Box<str>) {
        let seen = self.get(key).map_or(now, |last| last.seen);
        self.touch(key.clone(), seen, Some(order));
    }
}

#[cfg(test)]
mod tests;
