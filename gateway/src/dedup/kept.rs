//! Keys of published changes, each for as long as its provider may send it again; bounded in keys and in time.
//!
//! Pure: the clock is an argument. The surprising thing: no key is ever forgotten by itself. Keys stand in generations, and
//! when there are as many as allowed the oldest generation goes as a whole. So a key costs some twenty bytes and one
//! insertion, where a cache that keeps an order of use and of time needs three hundred bytes and a thousand cycles.

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;

use super::Key;

/// A bound is divided into at least so many generations.
const GENERATIONS: usize = 8;

/// The keys.
#[derive(Debug)]
pub(super) struct Kept {
    /// Oldest first; each key with the second from which on it no longer counts.
    generations: VecDeque<HashMap<Key, u32, RandomState>>,
    /// Generations at most, and keys of each.
    most: usize,
    each: usize,
}

impl Kept {
    /// Keeps at most `keys`, and the newest three quarters of them whatever happens.
    pub(super) fn new(keys: u64) -> Self {
        let keys = usize::try_from(keys).unwrap_or(usize::MAX).max(1);
        // A hash map is full when seven eighths of a power of two are taken: a generation of that size wastes nothing.
        let places = 1 << (keys / GENERATIONS).saturating_mul(8).max(8).div_euclid(7).ilog2();
        let each = (places / 8 * 7).clamp(1, keys);
        Self { generations: VecDeque::new(), most: keys / each, each }
    }

    /// Whether the key is kept at the second `now`.
    pub(super) fn contains(&self, key: Key, now: u32) -> bool {
        self.generations.iter().rev().any(|keys| keys.get(&key).is_some_and(|until| now < *until))
    }

    /// Keeps a key until the second `until`.
    pub(super) fn insert(&mut self, key: Key, until: u32) {
        if self.generations.back().is_none_or(|young| young.len() >= self.each) {
            if self.generations.len() >= self.most {
                self.generations.pop_front();
            }
            self.generations.push_back(HashMap::with_capacity_and_hasher(self.each, RandomState::new()));
        }
        if let Some(young) = self.generations.back_mut() {
            young.insert(key, until);
        }
    }

    /// Keys kept, including those whose time is over.
    pub(super) fn len(&self) -> usize {
        self.generations.iter().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        Key(u128::from(n).to_be_bytes())
    }

    #[test]
    fn the_oldest_go_and_the_newest_stay() {
        for bound in [1, 2, 7, 8, 9, 63, 64, 100, 1_000, 4_096] {
            let mut kept = Kept::new(u64::from(bound));
            for n in 0..10 * bound {
                kept.insert(key(n), 1);
                assert!(kept.len() <= bound as usize, "{bound}: {}", kept.len());
                assert!(kept.contains(key(n), 0), "{bound}: {n}");
            }
            let newest = bound * 3 / 4;
            assert!((10 * bound - newest..10 * bound).all(|n| kept.contains(key(n), 0)), "{bound}");
            assert!(!kept.contains(key(0), 0), "{bound}");
        }
    }

    #[test]
    fn a_generation_fills_its_table() {
        for bound in [64_u64, 1_000, 250_000, 1_000_000, u64::MAX] {
            let kept = Kept::new(bound);
            assert!((kept.each as u128 * kept.most as u128) <= u128::from(bound));
            assert!((GENERATIONS..=2 * GENERATIONS + 3).contains(&kept.most), "{bound}: {}", kept.most);
            assert_eq!((kept.each / 7 * 8).count_ones(), 1, "{bound}: {}", kept.each);
        }
        let mut kept = Kept::new(250_000);
        kept.insert(key(1), 1);
        assert_eq!((kept.each, kept.generations[0].capacity()), (28_672, 28_672));
    }

    #[test]
    fn a_key_counts_until_its_time_and_its_last_one_is_the_one_that_counts() {
        let mut kept = Kept::new(100);
        kept.insert(key(1), 5);
        assert!(kept.contains(key(1), 4) && !kept.contains(key(1), 5));
        kept.insert(key(1), 9);
        assert!(kept.contains(key(1), 8) && !kept.contains(key(2), 0));
    }
}
