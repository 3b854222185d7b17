//! The state of a relay that dies: a store that outlives its engine, fails a commit on demand, and keeps a record of
//! what was committed.
//!
//! The record is what the accounting is judged by; it shares no counter with the product.

use std::fmt;
use std::sync::Arc;

use headgate_relay::store::{
    Before, Committed, EntityId, EntityWrite, Key, Look, QuestionEnd, Shelf, Sqlite, Start, Store, StoreError, Unit,
    WorkRow,
};
use headgate_schemas::stream::Position;
use parking_lot::Mutex;

/// A state that clones share.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    sqlite: Sqlite,
    fail: bool,
    /// The worker that started last.
    epoch: u64,
    committed: Vec<Unit>,
}

impl Disk {
    /// An empty state.
    pub fn new() -> Result<Self, StoreError> {
        let state = State { sqlite: Sqlite::in_memory()?, fail: false, epoch: 0, committed: Vec::new() };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// An empty state that several workers share, each with a clone.
    pub fn shared() -> Result<Self, StoreError> {
        let state = State { sqlite: Sqlite::in_memory()?.shared(), fail: false, epoch: 0, committed: Vec::new() };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// The next commit fails, and nothing of it is kept.
    pub fn fail_next(&self) {
        self.0.lock().fail = true;
    }

    /// Somebody else reads a document and writes it changed, between two ticks of the worker that has it in its cache.
    /// It is not among what was committed.
    pub fn rewrite(&self, id: EntityId, now: i64, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        let Look::Now(row) = state.sqlite.entity(id, 0)? else { return Ok(()) };
        let doc = Some(change(&row.doc));
        let unit = Unit { entities: vec![EntityWrite { id, version: row.version, doc }], ..Unit::default() };
        let epoch = state.epoch;
        state.sqlite.commit(epoch, now, &unit).map(drop)
    }

    /// What was committed since the last call, in order.
    pub fn committed(&self) -> Vec<Unit> {
        std::mem::take(&mut self.0.lock().committed)
    }
}

/// A commit as a trace shows it: without what is sealed, which is never the same twice.
#[derive(Debug)]
pub struct Shown<'a>(pub &'a Unit);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unit { entities, members, claims, work, done, outcomes, positions, trail, .. } = self.0;
        write!(
            f,
            "committed documents {entities:?}, members {members:?}, claims {claims:?}, work {work:?}, done {done:?}, \
             outcomes {outcomes:?}, positions {positions:?}, trail {trail:?}"
        )
    }
}

impl Store for Disk {
    fn start(&mut self, topic: &str, now: i64, until: i64) -> Result<Start, StoreError> {
        let mut state = self.0.lock();
        let start = state.sqlite.start(topic, now, until)?;
        state.epoch = start.epoch;
        Ok(start)
    }

    fn renew(&mut self, epoch: u64, now: i64, until: i64) -> Result<(), StoreError> {
        self.0.lock().sqlite.renew(epoch, now, until)
    }

    fn adopt(&mut self, epoch: u64, now: i64, most: usize) -> Result<Vec<WorkRow>, StoreError> {
        self.0.lock().sqlite.adopt(epoch, now, most)
    }

    fn take_partitions(&mut self, epoch: u64, now: i64, partitions: &[u32]) -> Result<Vec<Position>, StoreError> {
        self.0.lock().sqlite.take_partitions(epoch, now, partitions)
    }

    fn leave(&mut self, epoch: u64) -> Result<(), StoreError> {
        self.0.lock().sqlite.leave(epoch)
    }

    fn next_entity(&mut self) -> Result<EntityId, StoreError> {
        self.0.lock().sqlite.next_entity()
    }

    fn next_question(&mut self) -> Result<i64, StoreError> {
        self.0.lock().sqlite.next_question()
    }

    fn rebind(&mut self, topic: &str, now: i64) -> Result<(), StoreError> {
        self.0.lock().sqlite.rebind(topic, now)
    }

    fn numbers(&mut self, names: &[&str]) -> Result<Vec<u32>, StoreError> {
        self.0.lock().sqlite.numbers(names)
    }

    fn entity(&mut self, id: EntityId, known: u64) -> Result<Look, StoreError> {
        self.0.lock().sqlite.entity(id, known)
    }

    fn member(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.0.lock().sqlite.member(key)
    }

    fn claim(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.0.lock().sqlite.claim(key)
    }

    fn hints(&mut self, key: &Key, most: usize) -> Result<Vec<EntityId>, StoreError> {
        self.0.lock().sqlite.hints(key, most)
    }

    fn is_erased(&mut self, tombstone: &Key) -> Result<bool, StoreError> {
        self.0.lock().sqlite.is_erased(tombstone)
    }

    fn known(&mut self, change: &Key) -> Result<bool, StoreError> {
        self.0.lock().sqlite.known(change)
    }

    fn open_letter(&mut self, id: i64) -> Result<Option<(EntityId, u32, Vec<String>)>, StoreError> {
        self.0.lock().sqlite.open_letter(id)
    }

    fn question(&mut self, id: i64) -> Result<Option<(EntityId, Option<QuestionEnd>)>, StoreError> {
        self.0.lock().sqlite.question(id)
    }

    fn kept(&mut self, shelf: Shelf, name: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.0.lock().sqlite.kept(shelf, name)
    }

    fn documents(&mut self, after: EntityId, limit: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
        self.0.lock().sqlite.documents(after, limit)
    }

    fn commit(&mut self, epoch: u64, now: i64, unit: &Unit) -> Result<Committed, StoreError> {
        let mut state = self.0.lock();
        if std::mem::take(&mut state.fail) {
            return Err(StoreError::InUse { path: "a disk that fails".to_owned() });
        }
        let committed = state.sqlite.commit(epoch, now, unit)?;
        state.committed.push(unit.clone());
        Ok(committed)
    }

    fn expire_lives(&mut self, now: i64) -> Result<bool, StoreError> {
        self.0.lock().sqlite.expire_lives(now)
    }

    fn expire(&mut self, before: Before) -> Result<bool, StoreError> {
        self.0.lock().sqlite.expire(before)
    }
}
