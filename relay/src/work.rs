//! What waits: one row per (entity, target) with a due time, never a queue of changes. Values are read when they are
//! sent, so order, coalescing, parking and bounds follow from the structure. Pure: `now` is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::store::{EntityId, WorkKey, WorkRow};

/// Due time of a pair with nothing to do but wait for something else (a hold, a person).
pub(crate) const PARKED: i64 = i64::MAX;

/// One pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// When it is due.
    pub(crate) due: i64,
    /// Since when it has been due for its present need.
    pub(crate) since: i64,
    /// Failed attempts since the last success.
    pub(crate) attempts: u32,
    /// Conflicts answered since the last success.
    pub(crate) conflicts: u32,
    /// Records a call with it may hold: halves after each refusal of a whole call, so that one bad record is found.
    pub(crate) pack: usize,
    /// The call that has it.
    pub(crate) busy: Option<u64>,
}

/// All pairs, in memory; the store has a row for each.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pairs: HashMap<WorkKey, Pair, ahash::RandomState>,
    due: BTreeMap<u32, BTreeSet<(i64, EntityId)>>,
    /// What pairs were before this tick changed them, newest last, where a tick may be void.
    journal: Option<Vec<(WorkKey, Option<Pair>)>>,
}

impl Work {
    /// A pair, if it has work.
    pub(crate) fn get(&self, key: WorkKey) -> Option<&Pair> {
        self.pairs.get(&key)
    }

    /// Makes or changes a pair. A pair that a call has is not due.
    pub(crate) fn put(&mut self, key: WorkKey, pair: Pair) {
        self.note(key);
        self.take_due(key);
        if pair.busy.is_none() && pair.due != PARKED {
            self.due.entry(key.target).or_default().insert((pair.due, key.entity));
        }
        self.pairs.insert(key, pair);
    }

    /// Forgets a pair. True if there was one.
    pub(crate) fn remove(&mut self, key: WorkKey) -> bool {
        self.note(key);
        self.take_due(key);
        self.pairs.remove(&key).is_some()
    }

    /// From here on changes can be taken back.
    pub(crate) fn begin(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// The changes stay.
    pub(crate) fn keep(&mut self) {
        self.journal = None;
    }

    /// Everything is as it was at [`Work::begin`].
    pub(crate) fn undo(&mut self) {
        for (key, before) in self.journal.take().unwrap_or_default().into_iter().rev() {
            match before {
                Some(pair) => self.put(key, pair),
                None => {
                    self.remove(key);
                }
            }
        }
    }

    fn note(&mut self, key: WorkKey) {
        let before = self.pairs.get(&key).copied();
        self.journal.iter_mut().for_each(|journal| journal.push((key, before)));
    }

    fn take_due(&mut self, key: WorkKey) {
        if let Some(old) = self.pairs.get(&key)
            && let Some(set) = self.due.get_mut(&key.target)
        {
            set.remove(&(old.due, key.entity));
        }
    }

    /// Pairs of a target that are due, oldest first.
    pub(crate) fn due(&self, target: u32, now: i64) -> impl Iterator<Item = EntityId> {
        self.due.get(&target).into_iter().flat_map(move |set| set.range(..=(now, EntityId::MAX)).map(|(_, e)| *e))
    }

    /// Whether more than so many pairs of a target are due.
    pub(crate) fn has_due(&self, target: u32, now: i64, most: usize) -> bool {
        // Counting them is for the rare case that there are as many at all.
        self.due.get(&target).is_some_and(|set| set.len() > most) && self.due(target, now).nth(most).is_some()
    }

    /// When the next pair of a target is due.
    pub(crate) fn next_due(&self, target: u32) -> Option<i64> {
        self.due.get(&target).and_then(|set| set.first()).map(|(due, _)| *due)
    }

    /// Makes every pair of a target that failed due now, as after an outage. One that a call still has starts afresh too:
    /// should that call fail late, its pair waits no longer than after a first failure.
    pub(crate) fn all_due(&mut self, target: u32, now: i64) {
        let failed = |key: &WorkKey, pair: &Pair| key.target == target && pair.attempts > 0 && pair.due != PARKED;
        let failed: Vec<WorkKey> = self.pairs.iter().filter(|(key, pair)| failed(key, pair)).map(|(k, _)| *k).collect();
        for key in failed {
            if let Some(pair) = self.pairs.get(&key).copied() {
                self.put(key, Pair { due: pair.due.min(now), attempts: 0, ..pair });
            }
        }
    }

    /// Number of pairs.
    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Pairs of a target that are waiting, and since when the oldest is.
    pub(crate) fn backlog(&self, target: u32) -> (usize, Option<i64>) {
        let mut count = 0;
        let mut oldest = None;
        for (key, pair) in &self.pairs {
            if key.target == target && pair.due != PARKED {
                count += 1;
                oldest = Some(oldest.map_or(pair.since, |o: i64| o.min(pair.since)));
            }
        }
        (count, oldest)
    }
}

impl Pair {
    /// A pair that is due.
    pub(crate) const fn due_at(due: i64, now: i64) -> Self {
        Self { due, since: now, attempts: 0, conflicts: 0, pack: usize::MAX, busy: None }
    }

    /// As it stands in the store: this worker's, with a call that may be under way until `until` where one has it.
    pub(crate) const fn row(&self, key: WorkKey, epoch: u64, until: i64) -> WorkRow {
        let until = if self.busy.is_some() { until } else { 0 };
        WorkRow { key, due: self.due, attempts: self.attempts, owner: epoch, until }
    }

    /// A pair without a call, as it was read.
    pub(crate) const fn of_row(row: &WorkRow) -> Self {
        Self { attempts: row.attempts, ..Self::due_at(row.due, row.due) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(target: u32, entity: EntityId) -> WorkKey {
        WorkKey { target, entity }
    }

    #[test]
    fn due_pairs_come_oldest_first_and_busy_ones_not_at_all() {
        let mut work = Work::default();
        for (entity, due) in [(1, 30), (2, 10), (3, 20), (4, 99)] {
            work.put(key(7, entity), Pair::due_at(due, 0));
        }
        assert_eq!(work.due(7, 30).collect::<Vec<_>>(), [2, 3, 1]);
        let pair = *work.get(key(7, 3)).unwrap();
        work.put(key(7, 3), Pair { busy: Some(1), ..pair });
        assert_eq!(work.due(7, 30).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(work.due(8, 30).count(), 0);
        assert_eq!([1, 2].map(|most| work.has_due(7, 30, most)), [true, false]);
        assert!(!work.has_due(7, 19, 1), "one of them is due later");
        assert_eq!(work.next_due(7), Some(10));
        assert!(work.remove(key(7, 2)));
        assert_eq!(work.next_due(7), Some(30));
        work.put(key(7, 1), Pair::due_at(PARKED, 0));
        assert_eq!(work.next_due(7), Some(99));
    }

    #[test]
    fn a_void_tick_leaves_no_trace() {
        let mut work = Work::default();
        work.put(key(7, 1), Pair::due_at(30, 0));
        work.put(key(7, 2), Pair::due_at(20, 0));
        work.begin();
        work.put(key(7, 1), Pair { busy: Some(4), ..Pair::due_at(30, 0) });
        work.put(key(7, 1), Pair::due_at(50, 0));
        work.remove(key(7, 2));
        work.put(key(7, 3), Pair::due_at(10, 0));
        work.undo();
        assert_eq!(work.due(7, 100).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((work.len(), *work.get(key(7, 1)).unwrap()), (2, Pair::due_at(30, 0)));
        work.begin();
        work.remove(key(7, 2));
        work.keep();
        work.undo();
        assert_eq!(work.due(7, 100).collect::<Vec<_>>(), [1], "what was kept is not taken back");
    }

    #[test]
    fn recovery_makes_only_failed_pairs_due() {
        let mut work = Work::default();
        work.put(key(7, 1), Pair { attempts: 3, ..Pair::due_at(500, 0) });
        work.put(key(7, 2), Pair::due_at(600, 0));
        work.put(key(7, 3), Pair { attempts: 4, busy: Some(9), ..Pair::due_at(500, 0) });
        work.put(key(7, 4), Pair { attempts: 2, ..Pair::due_at(PARKED, 0) });
        work.put(key(8, 5), Pair { attempts: 2, ..Pair::due_at(500, 0) });
        work.all_due(7, 100);
        assert_eq!(work.due(7, 100).collect::<Vec<_>>(), [1]);
        assert_eq!(work.get(key(7, 1)).unwrap().attempts, 0);
        let out = work.get(key(7, 3)).unwrap();
        assert_eq!((out.attempts, out.busy), (0, Some(9)), "its call goes on, its failures are forgotten");
        assert_eq!(work.get(key(7, 4)).unwrap().due, PARKED);
        assert_eq!(work.due(8, 499).count(), 0, "another target's work waits on");
    }
}
