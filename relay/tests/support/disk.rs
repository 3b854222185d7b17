//! The state of a relay that dies: a store that outlives its engine, fails a commit on demand, and keeps a record of
//! what was committed.
//!
//! The record is what the accounting is judged by; it shares no counter with the product.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use headgate_relay::books::Share;
use headgate_relay::store::{
    Before, Committed, Division, EntityId, EntityWrite, Key, Look, QuestionEnd, SharedBooks, Shelf, Sqlite, Start,
    Store, StoreError, Unit, WorkRow,
};
use headgate_schemas::Timestamp;
use headgate_schemas::stream::Position;
use parking_lot::{Condvar, Mutex};

/// A state that clones share.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<State>>, Arc<Gate>);

/// Where the next commit waits, if it is to.
#[derive(Debug, Default)]
struct Gate {
    stands: Mutex<Stands>,
    moved: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stands {
    #[default]
    Open,
    /// The next commit of this worker waits.
    Shut(u64),
    /// It does.
    Waiting,
}

impl Gate {
    fn put(&self, stands: Stands) {
        *self.stands.lock() = stands;
        self.moved.notify_all();
    }

    fn pass(&self, epoch: u64) {
        let mut stands = self.stands.lock();
        if *stands != Stands::Shut(epoch) {
            return;
        }
        *stands = Stands::Waiting;
        self.moved.notify_all();
        self.moved.wait_while(&mut stands, |stands| *stands == Stands::Waiting);
    }

    /// Whether a commit waits; false where the work ended without one.
    fn is_reached(&self) -> bool {
        let mut stands = self.stands.lock();
        self.moved.wait_while(&mut stands, |stands| matches!(stands, Stands::Shut(_)));
        *stands == Stands::Waiting
    }
}

#[derive(Debug)]
struct State {
    sqlite: Sqlite,
    fail: bool,
    /// The worker that started last.
    epoch: u64,
    careless: bool,
    committed: Vec<Unit>,
    /// Due times and calls of all pairs.
    waiting: BTreeMap<(EntityId, u32), (i64, i64)>,
    /// When something was done last.
    done: i64,
}

/// Longer than two leases.
const LATELY: i64 = 70_000_000;

impl Disk {
    /// An empty state.
    pub fn new() -> Result<Self, StoreError> {
        let state = State::of(Sqlite::in_memory()?);
        Ok(Self(Arc::new(Mutex::new(state)), Arc::default()))
    }

    /// An empty state that several workers share, each with a clone.
    pub fn shared() -> Result<Self, StoreError> {
        let state = State::of(Sqlite::in_memory()?.shared()?);
        Ok(Self(Arc::new(Mutex::new(state)), Arc::default()))
    }

    /// Lets a worker do something, and something else happen between what that read and its first commit. One after the
    /// other, whatever threads there are.
    pub fn between<T: Send>(&self, epoch: u64, work: impl FnOnce() -> T + Send, meanwhile: impl FnOnce()) -> T {
        let gate = &self.1;
        gate.put(Stands::Shut(epoch));
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let done = work();
                gate.put(Stands::Open);
                done
            });
            if gate.is_reached() {
                meanwhile();
                gate.put(Stands::Open);
            }
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
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

    /// From here on no version is checked where only work rows change, nor of what was only looked at: to show in tests
    /// that this loses needs.
    pub fn be_careless(&self) {
        self.0.lock().careless = true;
    }

    /// The state becomes a shared one anew: what is open is to be counted again.
    pub fn become_shared(&self) -> Result<(), StoreError> {
        let sqlite = &mut self.0.lock().sqlite;
        *sqlite = std::mem::replace(sqlite, Sqlite::in_memory()?).shared()?;
        Ok(())
    }

    /// Whether anything is to be done that is not for a person, or something was done of late: what a worker left that
    /// died then is found by another one when its lease is over.
    pub fn waits(&self, now: Timestamp) -> bool {
        let state = self.0.lock();
        let waits = |(due, until): &(i64, i64)| *due != i64::MAX || *until > 0;
        now.micros() < state.done + LATELY || state.waiting.values().any(waits)
    }

    /// What was committed since the last call, in order.
    pub fn committed(&self) -> Vec<Unit> {
        std::mem::take(&mut self.0.lock().committed)
    }
}

impl State {
    const fn of(sqlite: Sqlite) -> Self {
        Self {
            sqlite,
            fail: false,
            epoch: 0,
            careless: false,
            committed: Vec::new(),
            waiting: BTreeMap::new(),
            done: 0,
        }
    }

    fn note(&mut self, unit: &Unit, now: i64) {
        self.done = if unit.is_empty() { self.done } else { now };
        for row in &unit.work {
            self.waiting.insert((row.key.entity, row.key.target), (row.due, row.until));
        }
        for key in &unit.done {
            self.waiting.remove(&(key.entity, key.target));
        }
        self.committed.push(unit.clone());
    }
}

/// A commit as a trace shows it: without what is sealed, which is never the same twice.
#[derive(Debug)]
pub struct Shown<'a>(pub &'a Unit);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unit { entities, members, claims, work, done, outcomes, positions, trail, .. } = self.0;
        let entities: Vec<_> = entities.iter().map(|e| (e.id, e.version, e.doc.is_some())).collect();
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
        let mut state = self.0.lock();
        let adopted = state.sqlite.adopt(epoch, now, most)?;
        state.done = if adopted.is_empty() { state.done } else { now };
        Ok(adopted)
    }

    fn take_partitions(&mut self, epoch: u64, now: i64, partitions: &[u32]) -> Result<Vec<Position>, StoreError> {
        self.0.lock().sqlite.take_partitions(epoch, now, partitions)
    }

    fn divide(&mut self, epoch: u64, now: i64, partitions: u32) -> Result<Division, StoreError> {
        self.0.lock().sqlite.divide(epoch, now, partitions)
    }

    fn shared_books(&mut self) -> Result<Option<SharedBooks>, StoreError> {
        self.0.lock().sqlite.shared_books()
    }

    fn open_documents(&mut self, after: EntityId, most: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
        self.0.lock().sqlite.open_documents(after, most)
    }

    fn count_open(&mut self, epoch: u64, now: i64, open: &[(Share, i64)]) -> Result<(), StoreError> {
        self.0.lock().sqlite.count_open(epoch, now, open)
    }

    fn hold_others(&mut self) -> Result<(), StoreError> {
        self.0.lock().sqlite.hold_others()
    }

    fn let_others(&mut self) -> Result<(), StoreError> {
        self.0.lock().sqlite.let_others()
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

    fn forget_place(&mut self, place: Position) -> Result<(), StoreError> {
        self.0.lock().sqlite.forget_place(place)
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

    fn hints(&mut self, key: &Key) -> Result<Vec<EntityId>, StoreError> {
        self.0.lock().sqlite.hints(key)
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
        self.1.pass(epoch);
        let mut state = self.0.lock();
        if std::mem::take(&mut state.fail) {
            return Err(StoreError::InUse { path: "a disk that fails".to_owned() });
        }
        let mut unit = unit.clone();
        if state.careless {
            unit.unchanged.clear();
            unit.entities.retain(|write| write.doc.is_some());
        }
        let committed = state.sqlite.commit(epoch, now, &unit)?;
        state.note(&unit, now);
        Ok(committed)
    }

    fn expire_lives(&mut self, now: i64) -> Result<bool, StoreError> {
        self.0.lock().sqlite.expire_lives(now)
    }

    fn expire(&mut self, before: Before) -> Result<bool, StoreError> {
        self.0.lock().sqlite.expire(before)
    }
}
