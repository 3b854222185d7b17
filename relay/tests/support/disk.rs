//! The state of a relay that dies: a store that outlives its engine, fails a commit on demand, and keeps a record of
//! what was committed.
//!
//! The record is what the accounting is judged by; it shares no counter with the product.

use std::sync::Arc;

use headgate_relay::entity::Outcome;
use headgate_relay::store::{EntityId, Key, OutcomeRow, QuestionEnd, Sqlite, Start, Store, StoreError, Unit};
use headgate_schemas::ChangeId;
use parking_lot::Mutex;

/// A state that clones share.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    sqlite: Sqlite,
    fail: bool,
    ended: Vec<(ChangeId, u32, Outcome)>,
    /// What was committed since it was last asked for, where it is wanted at all.
    diary: Option<Vec<String>>,
}

impl Disk {
    /// An empty state, with a diary of its commits if wanted.
    pub fn new(diary: bool) -> Result<Self, StoreError> {
        let sqlite = Sqlite::in_memory()?;
        let state = State { sqlite, fail: false, ended: Vec::new(), diary: diary.then(Vec::new) };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// The next commit fails, and nothing of it is kept.
    pub fn fail_next(&self) {
        self.0.lock().fail = true;
    }

    /// Every outcome that was committed.
    pub fn ended(&self) -> Vec<(ChangeId, u32, Outcome)> {
        self.0.lock().ended.clone()
    }

    /// What was committed since the last call.
    pub fn diary(&self) -> Vec<String> {
        self.0.lock().diary.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl State {
    fn keep(&mut self, unit: &Unit) {
        let row = |row: &OutcomeRow| (row.change, row.target, row.outcome);
        self.ended.extend(unit.outcomes.iter().map(row));
        if let Some(diary) = &mut self.diary {
            diary.push(format!(
                "committed documents {:?}, work {:?}, done {:?}, outcomes {:?}, positions {:?}",
                unit.entities, unit.work, unit.done, unit.outcomes, unit.positions
            ));
        }
    }
}

impl Store for Disk {
    fn start(&mut self, topic: &str) -> Result<Start, StoreError> {
        self.0.lock().sqlite.start(topic)
    }

    fn numbers(&mut self, names: &[&str]) -> Result<Vec<u32>, StoreError> {
        self.0.lock().sqlite.numbers(names)
    }

    fn entity(&mut self, id: EntityId) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.0.lock().sqlite.entity(id)
    }

    fn member(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.0.lock().sqlite.member(key)
    }

    fn claim(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.0.lock().sqlite.claim(key)
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

    fn expire_decisions(&mut self, before: i64) -> Result<bool, StoreError> {
        self.0.lock().sqlite.expire_decisions(before)
    }

    fn commit(&mut self, unit: &Unit) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        if std::mem::take(&mut state.fail) {
            return Err(StoreError::Moved { entity: 0 });
        }
        state.sqlite.commit(unit)?;
        state.keep(unit);
        Ok(())
    }

    fn expire(&mut self, changes_before: i64, outcomes_before: i64) -> Result<bool, StoreError> {
        self.0.lock().sqlite.expire(changes_before, outcomes_before)
    }
}
