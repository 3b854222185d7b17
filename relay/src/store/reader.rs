//! Reads the state beside the engine, for the admin API, whatever it is kept in. Nothing here writes.

use std::path::{Path, PathBuf};

use headgate_schemas::ChangeId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::postgres::{Address, Reading};
use super::{
    AuditRow, Counter, EntityId, Key, ListedDecision, ListedLetter, ListedQuestion, OutcomeRow, Postgres,
    QuestionFilter, Sqlite, Store, StoreError, TrailRow, WorkKey, WorkRow, sqlite,
};

/// Where a state is kept.
#[derive(Clone, Debug)]
pub enum StorePlace {
    /// In a SQLite file.
    Sqlite(PathBuf),
    /// In a PostgreSQL database.
    Postgres(Box<Address>),
}

impl StorePlace {
    /// Several relays use it at once.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(address) if address.shared)
    }

    /// Opens the state for the engine.
    ///
    /// # Errors
    /// As [`Sqlite::open`] and [`Postgres::open`].
    pub fn open(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(match self {
            Self::Sqlite(path) => Box::new(Sqlite::open(path)?),
            Self::Postgres(address) if address.shared => Box::new(Postgres::open_shared(address)?),
            Self::Postgres(address) => Box::new(Postgres::open(address)?),
        })
    }
}

/// Readers in use at once; who comes later waits.
const READERS: usize = 4;

/// The readers of a state: bounded, and kept where it costs something to make one.
#[derive(Debug)]
pub struct Readers {
    place: StorePlace,
    idle: Mutex<Vec<Reader>>,
    room: Semaphore,
}

impl Readers {
    /// Of the state at a place.
    pub const fn new(place: StorePlace) -> Self {
        Self { place, idle: Mutex::new(Vec::new()), room: Semaphore::const_new(READERS) }
    }

    /// Waits until there may be one reader more. Cancel-safe.
    pub(crate) async fn room(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.room.acquire().await.ok()
    }

    /// Reads. Blocks on the disk or on the server.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.idle.lock().pop().filter(Reader::is_kept);
        let reader = idle.map_or_else(|| Reader::of(&self.place), Ok)?;
        let result = read(&reader);
        if result.is_ok() {
            self.idle.lock().push(reader);
        }
        result
    }
}

/// One reader.
#[derive(Debug)]
pub struct Reader(Kind);

#[derive(Debug)]
enum Kind {
    Sqlite(sqlite::Reader),
    Postgres(Reading),
}

macro_rules! either {
    ($reader:expr, $method:ident($($argument:expr),*)) => {
        match &$reader.0 {
            Kind::Sqlite(reader) => reader.$method($($argument),*),
            Kind::Postgres(reader) => reader.$method($($argument),*),
        }
    };
}

impl Reader {
    /// A reader of a SQLite file that exists.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        sqlite::Reader::open(path).map(|reader| Self(Kind::Sqlite(reader)))
    }

    /// A reader of the state at a place, which must have been opened before.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn of(place: &StorePlace) -> Result<Self, StoreError> {
        match place {
            StorePlace::Sqlite(path) => Self::open(path),
            StorePlace::Postgres(address) => Reading::open(address).map(|reader| Self(Kind::Postgres(reader))),
        }
    }

    /// Whether it may be used again: only where making another one costs something, and while its server answers.
    fn is_kept(&self) -> bool {
        match &self.0 {
            Kind::Sqlite(_) => false,
            Kind::Postgres(reader) => reader.is_alive(),
        }
    }

    /// The entity of a record.
    ///
    /// # Errors
    /// When the database fails.
    pub fn member(&self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        either!(self, member(key))
    }

    /// An entity's document.
    ///
    /// # Errors
    /// When the database fails.
    pub fn document(&self, id: EntityId) -> Result<Option<Vec<u8>>, StoreError> {
        either!(self, document(id))
    }

    /// Entities by number, from `after`, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn documents(&self, after: EntityId, limit: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
        either!(self, documents(after, limit))
    }

    /// Names of connections, and of links with `link ` before them, by their numbers: those of earlier configurations,
    /// too.
    ///
    /// # Errors
    /// When the database fails.
    pub fn names(&self) -> Result<Vec<(u32, String)>, StoreError> {
        either!(self, names())
    }

    /// How often a change came again. `None` when it is not known (any more).
    ///
    /// # Errors
    /// When the database fails.
    pub fn repeats(&self, change: &Key) -> Result<Option<u32>, StoreError> {
        either!(self, repeats(change))
    }

    /// What waits for an entity at a target.
    ///
    /// # Errors
    /// When the database fails.
    pub fn work(&self, key: WorkKey) -> Result<Option<WorkRow>, StoreError> {
        either!(self, work(key))
    }

    /// What happened to an entity and to those that became part of it, the newest row first, none older than `since`;
    /// `newest` is where its chain starts ([`crate::entity::Entity::trail`]).
    ///
    /// # Errors
    /// When the database fails or a row cannot be decoded.
    pub fn trail(&self, entity: EntityId, newest: i64, since: i64, most: usize) -> Result<Vec<TrailRow>, StoreError> {
        either!(self, trail(entity, newest, since, most))
    }

    /// The newest outcomes of an entity; `newest` is where its chain starts ([`crate::entity::Entity::outcome`]).
    ///
    /// # Errors
    /// When the database fails.
    pub fn outcomes(&self, entity: EntityId, newest: i64, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        either!(self, outcomes(entity, newest, limit))
    }

    /// How a change ended, by target; empty while it is open. `None` when it is not known: it was never taken, or so
    /// long ago that it was forgotten.
    ///
    /// # Errors
    /// When the database fails.
    pub fn outcomes_of_change(&self, key: &Key, change: ChangeId) -> Result<Option<Vec<OutcomeRow>>, StoreError> {
        either!(self, outcomes_of_change(key, change))
    }

    /// Outcomes of the changes that were taken last before a time, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn recent_outcomes(&self, before: i64, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        either!(self, recent_outcomes(before, limit))
    }

    /// What was done, the newest first, from before number `before` on.
    ///
    /// # Errors
    /// When the database fails.
    pub fn audit(&self, before: i64, limit: u32) -> Result<Vec<(i64, AuditRow)>, StoreError> {
        either!(self, audit(before, limit))
    }

    /// Dead letters, newest first; all or only the open ones.
    ///
    /// # Errors
    /// When the database fails.
    pub fn letters(&self, only: Option<i64>, open: bool, limit: u32) -> Result<Vec<ListedLetter>, StoreError> {
        either!(self, letters(only, open, limit))
    }

    /// Numbers of the dead letters of an entity, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn letters_of(&self, entity: EntityId, limit: u32) -> Result<Vec<i64>, StoreError> {
        either!(self, letters_of(entity, limit))
    }

    /// Counters as of the last commit.
    ///
    /// # Errors
    /// When the database fails.
    pub fn counters(&self) -> Result<Vec<(Counter, i64)>, StoreError> {
        either!(self, counters())
    }

    /// Questions by number, from `after`, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn questions(
        &self,
        filter: &QuestionFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ListedQuestion>, StoreError> {
        either!(self, questions(filter, after, limit))
    }

    /// One question.
    ///
    /// # Errors
    /// When the database fails.
    pub fn question(&self, id: i64) -> Result<Option<ListedQuestion>, StoreError> {
        either!(self, question(id))
    }

    /// Decisions, newest first, before the place `before`; of one entity, or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub fn decisions(
        &self,
        entity: Option<EntityId>,
        before: i64,
        limit: u32,
    ) -> Result<Vec<ListedDecision>, StoreError> {
        either!(self, decisions(entity, before, limit))
    }
}
