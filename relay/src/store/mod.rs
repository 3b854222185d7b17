//! The relay's durable state. The engine reads through [`Store`], collects what it changes in a [`Unit`], and commits
//! that as one transaction per tick; only then are calls made. Only this folder holds SQL.

mod asked;
mod lives;
mod outcomes;
pub mod postgres;
mod reader;
mod sqlite;
mod trail;

use headgate_schemas::ChangeId;
use headgate_schemas::stream::Position;
use sha2::{Digest, Sha256};

pub use asked::{ListedDecision, ListedQuestion, QuestionFilter};
pub use postgres::{Postgres, PostgresError};
pub use reader::{Reader, Readers, StorePlace};
pub use sqlite::{ListedLetter, Sqlite};

use crate::books::{Place, Sum};
use crate::entity::Outcome;
use crate::trail::Happened;

/// Number of an entity in the store.
pub type EntityId = i64;

/// Why the store failed. After any of these the engine is thrown away and opened again: the store is the truth.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no.
    #[error("the state database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// PostgreSQL said no, or nothing.
    #[error(transparent)]
    Postgres(PostgresError),
    /// A document does not decode.
    #[error("entity {entity} cannot be decoded: {source}")]
    Document {
        /// Which.
        entity: EntityId,
        /// Why.
        source: postcard::Error,
    },
    /// Another version of an entity was there than the one that was read: somebody else works on the same state.
    #[error("entity {entity} was changed by another relay")]
    Moved {
        /// Which.
        entity: EntityId,
    },
    /// A claim or a change that was read as nobody's is somebody's by now.
    #[error("another relay was first to take a key")]
    Taken,
    /// The database was made by an older program.
    #[error("the state database has schema version {found}, this program needs {known}; start over with a new file")]
    Older {
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database was made by a newer program.
    #[error("the state database has schema version {found}, this program knows {known}; use the newer program")]
    Newer {
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The positions belong to another log.
    #[error(
        "the state belongs to stream {kept}, but the stream is {found}; the log was replaced: bring it back, or remove the state to start over"
    )]
    OtherTopic {
        /// The topic whose positions are kept.
        kept: String,
        /// The topic there is.
        found: String,
    },
    /// Another process holds the database.
    #[error("{path} is in use by another process; stop it first")]
    InUse {
        /// The file.
        path: String,
    },
    /// The file or its folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A 16-byte hash that names something unique: a member or a claim.
pub type Key = [u8; 16];

/// Names a record in one CRM.
pub fn member_key(connection: u32, object: &str, native: &str) -> Key {
    hash(&[b"member", &connection.to_be_bytes(), object.as_bytes(), native.as_bytes()])
}

/// Names a person or company by something that only one of them has.
pub fn claim_key(tenant: &str, object: &str, kind: &str, normalised: &str) -> Key {
    hash(&[b"claim", tenant.as_bytes(), object.as_bytes(), kind.as_bytes(), normalised.as_bytes()])
}

/// Names an entity by our own id of it, as it stands in the CRMs.
pub fn external_key(uuid: uuid::Uuid) -> Key {
    hash(&[b"external", uuid.as_bytes()])
}

/// Names a record that was erased, in a way that nobody can guess.
pub fn tombstone_key(salt: &Key, member: &Key) -> Key {
    hash(&[b"tombstone", salt, member])
}

/// Names a change of a tenant: six bytes of the provider's time in milliseconds, so that neighbours in time are
/// neighbours in the index, and ten bytes of hash. The time comes from the event and is the same for each repeat.
pub fn change_key(tenant: &str, change: ChangeId, occurred_ms: i64) -> Key {
    let mut key = hash(&[b"change", tenant.as_bytes(), change.as_bytes()]);
    let time = u64::try_from(occurred_ms).unwrap_or(0).to_be_bytes();
    key[..6].copy_from_slice(&time[2..]);
    key
}

/// The first key of changes that happened at `us` or later.
fn change_bound(us: i64) -> Key {
    let mut key = [0; 16];
    let time = u64::try_from(us / 1_000).unwrap_or(0).to_be_bytes();
    key[..6].copy_from_slice(&time[2..]);
    key
}

fn split_fields(text: &str) -> Vec<String> {
    text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// A hash of anything, to tell later whether it was the same.
pub fn digest(bytes: &[u8]) -> Key {
    hash(&[b"digest", bytes])
}

fn hash(parts: &[&[u8]]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}

/// An entity to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityWrite {
    /// Which.
    pub id: EntityId,
    /// The version that was read; 0 makes it.
    pub version: u64,
    /// The document.
    pub doc: Vec<u8>,
}

/// Work that waits on one (entity, target) pair: a read, a write, a create. The document says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkKey {
    /// The connection.
    pub target: u32,
    /// The entity.
    pub entity: EntityId,
}

/// Due time and lease of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkRow {
    /// The pair.
    pub key: WorkKey,
    /// When it is due, by our clock in microseconds.
    pub due: i64,
    /// Failed attempts since the last success.
    pub attempts: u32,
    /// The epoch that leases it, 0 when free.
    pub owner: u64,
    /// Until when the lease holds.
    pub until: i64,
}

/// How a change ended at one target. The store keeps one for each change and target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeRow {
    /// The change.
    pub change: ChangeId,
    /// When it was taken from the stream, by our clock in microseconds: with the change and the target it names the row,
    /// and the day it is kept with.
    pub accepted: i64,
    /// Link and target.
    pub place: Place,
    /// The entity, 0 where none was touched.
    pub entity: EntityId,
    /// When the change was taken whose outcome this entity had before, 0 for none: rows of an entity are a chain, so that
    /// they are found without an index that every change would pay for.
    pub previous: i64,
    /// How.
    pub outcome: Outcome,
    /// When, by our clock in microseconds.
    pub at: i64,
    /// Microseconds since the first byte at the gateway.
    pub took: i64,
}

/// What happened to an entity in one tick. The store keeps one for each entity and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailRow {
    /// The entity.
    pub entity: EntityId,
    /// When, by our clock in microseconds; rises from row to row of an entity.
    pub at: i64,
    /// The entity's row before this one, 0 for none.
    pub previous: i64,
    /// What, in order.
    pub happened: Vec<Happened>,
}

/// An entity of which nothing is to be left but its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Which.
    pub entity: EntityId,
    /// Where what happened to it is told.
    pub trail: i64,
}

/// Something a target refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The entity.
    pub entity: EntityId,
    /// The target's connection.
    pub target: u32,
    /// When, by our clock in microseconds.
    pub at: i64,
    /// The target's code.
    pub code: String,
    /// The target's words, sealed: they may quote field values.
    pub message: Vec<u8>,
    /// The neutral fields refused.
    pub fields: Vec<String>,
}

/// A question to a person, as it is listed. The entity's document has the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionRow {
    /// Its number.
    pub id: i64,
    /// The entity.
    pub entity: EntityId,
    /// Whose it is.
    pub tenant: String,
    /// The link.
    pub link: String,
    /// The kind of question.
    pub kind: String,
    /// What exactly it asks: the field.
    pub subject: String,
    /// When it arose, by our clock in microseconds.
    pub since: i64,
}

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionEnd {
    /// When, by our clock in microseconds.
    pub at: i64,
    /// By whom; empty when it went away by itself.
    pub by: String,
    /// What was chosen, without any value.
    pub choice: String,
}

/// One row of the decision log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionRow {
    /// When, by our clock in microseconds.
    pub at: i64,
    /// The entity.
    pub entity: EntityId,
    /// The field.
    pub field: String,
    /// Why it came out so.
    pub rule: String,
    /// How it came out.
    pub ruling: String,
    /// The connection whose value came, 0 for a person, and when it was set: two ends of a span, by our clock.
    pub edit: (u32, i64, i64),
    /// The same of the value in force.
    pub force: (u32, i64, i64),
    /// Whom the event names as author, or the person who chose.
    pub author: String,
    /// The change that brought the value, where one did.
    pub change: Option<ChangeId>,
    /// Both values, sealed.
    pub values: Vec<u8>,
}

/// What counters count, besides the sums of the accounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Counter {
    /// Changes taken from the stream, repeats not counted.
    Changes = 1,
    /// Changes that had been taken before.
    Repeats = 2,
    /// Outcomes of a change that had one at that target: not kept and not summed up. Must be 0.
    Doubled = 3,
}

/// Something that a person or the program did, for those who ask later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// When, by our clock in microseconds.
    pub at: i64,
    /// Who: the name a person gave, or `headgate`.
    pub who: String,
    /// What was done, like `deadletter.retry`.
    pub what: String,
    /// To what, like `deadletter/17`.
    pub subject: String,
    /// Hash of that before.
    pub before: Option<Key>,
    /// Hash of that after.
    pub after: Option<Key>,
}

/// How old something may be, as times of ours in microseconds: what is older is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Ids of changes.
    pub changes: i64,
    /// Days of outcomes: counted from the last one of the day.
    pub outcomes: i64,
    /// Decisions and ended questions, from when they ended.
    pub decisions: i64,
    /// Closed dead letters, from when they were closed.
    pub letters: i64,
    /// Audit.
    pub audit: i64,
}

/// What a commit did that was not known before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Deliveries that ended, as they were added to the sums.
    pub ended: Vec<(Place, Outcome, i64)>,
    /// Outcomes that were not kept, because the change had one at that target.
    pub doubled: i64,
}

/// One transaction.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// Entities made or changed.
    pub entities: Vec<EntityWrite>,
    /// Records that are members of an entity.
    pub members: Vec<(Key, EntityId)>,
    /// Records that are members of nothing any more.
    pub unmembers: Vec<Key>,
    /// Claims given up, before others are taken.
    pub unclaims: Vec<Key>,
    /// Claims taken.
    pub claims: Vec<(Key, EntityId)>,
    /// Weaker keys that entities got (true) or lost.
    pub hints: Vec<(Key, EntityId, bool)>,
    /// Hashes of records that were erased, with our time.
    pub tombstones: Vec<(Key, i64)>,
    /// Entities of which nothing is to be left but their number.
    pub forgotten: Vec<Forgotten>,
    /// Entities of a link that are to go, with our time.
    pub goings: Vec<(String, i64)>,
    /// Links whose goings a person has looked at.
    pub released: Vec<String>,
    /// Added to the number of entities of a link.
    pub sizes: Vec<(String, i64)>,
    /// Changes taken, with our time.
    pub changes: Vec<(Key, i64)>,
    /// Changes taken before that came again.
    pub repeats: Vec<Key>,
    /// What happened to entities.
    pub trail: Vec<TrailRow>,
    /// Work to do.
    pub work: Vec<WorkRow>,
    /// Pairs with nothing more to do.
    pub done: Vec<WorkKey>,
    /// How changes ended.
    pub outcomes: Vec<OutcomeRow>,
    /// Where to read on.
    pub positions: Vec<Position>,
    /// Added to counters.
    pub counters: Vec<(Counter, i64)>,
    /// Deliveries that became due. Those that ended are counted from the outcomes.
    pub due: Vec<(Place, i64)>,
    /// What was refused for good.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters that a person closed.
    pub closed_letters: Vec<ClosedLetter>,
    /// Questions that arose.
    pub questions: Vec<QuestionRow>,
    /// Questions that ended.
    pub ended_questions: Vec<(i64, QuestionEnd)>,
    /// What was decided.
    pub decisions: Vec<DecisionRow>,
    /// What was done.
    pub audit: Vec<AuditRow>,
}

/// A dead letter that a person closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedLetter {
    /// Its number.
    pub id: i64,
    /// It is tried again; otherwise it was given up.
    pub again: bool,
    /// When, by our clock in microseconds.
    pub at: i64,
}

impl Unit {
    /// Nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.entities.is_empty()
            && self.members.is_empty()
            && self.claims.is_empty()
            && self.unclaims.is_empty()
            && self.unmembers.is_empty()
            && self.hints.is_empty()
            && self.tombstones.is_empty()
            && self.forgotten.is_empty()
            && self.goings.is_empty()
            && self.released.is_empty()
            && self.sizes.is_empty()
            && self.changes.is_empty()
            && self.repeats.is_empty()
            && self.trail.is_empty()
            && self.work.is_empty()
            && self.done.is_empty()
            && self.outcomes.is_empty()
            && self.positions.is_empty()
            && self.counters.is_empty()
            && self.due.is_empty()
            && self.dead_letters.is_empty()
            && self.closed_letters.is_empty()
            && self.questions.is_empty()
            && self.ended_questions.is_empty()
            && self.decisions.is_empty()
            && self.audit.is_empty()
    }

    /// Adds to a counter.
    pub fn count(&mut self, counter: Counter, n: i64) {
        match self.counters.iter_mut().find(|(c, _)| *c == counter) {
            Some((_, sum)) => *sum += n,
            None => self.counters.push((counter, n)),
        }
    }

    /// A delivery became due.
    pub fn due_at(&mut self, place: Place) {
        match self.due.iter_mut().find(|(p, _)| *p == place) {
            Some((_, sum)) => *sum += 1,
            None => self.due.push((place, 1)),
        }
    }
}

/// What a relay finds when it starts.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Positions by partition; empty at the very first start.
    pub positions: Vec<Position>,
    /// Pairs with work.
    pub work: Vec<WorkRow>,
    /// This start's number: leases of earlier ones are void.
    pub epoch: u64,
    /// First number for a new entity.
    pub next_entity: EntityId,
    /// Counters.
    pub counters: Vec<(Counter, i64)>,
    /// Sums of the accounting.
    pub sums: Vec<(Place, Sum, i64)>,
    /// The number after the last dead letter.
    pub next_letter: i64,
    /// The number after the last question.
    pub next_question: i64,
    /// What went within the last hour and longer, by link, oldest first.
    pub goings: Vec<(String, i64)>,
    /// Entities by link.
    pub sizes: Vec<(String, i64)>,
    /// Random, the same for ever.
    pub salt: Key,
}

/// The relay's durable state. Synchronous: the engine runs on a thread of its own.
pub trait Store: Send {
    /// Binds the state to a topic, takes a new epoch, and says what there is.
    ///
    /// # Errors
    /// [`StoreError::OtherTopic`] when positions of another topic are kept.
    fn start(&mut self, topic: &str) -> Result<Start, StoreError>;

    /// Forgets where the stream was read to: its topic was made anew, and everything in it is to be read.
    ///
    /// # Errors
    /// When the database fails.
    fn forget_positions(&mut self) -> Result<(), StoreError>;

    /// Numbers for names of connections, the same for ever.
    ///
    /// # Errors
    /// When the database fails.
    fn numbers(&mut self, names: &[&str]) -> Result<Vec<u32>, StoreError>;

    /// Documents with their versions.
    ///
    /// # Errors
    /// When the database fails.
    fn entity(&mut self, id: EntityId) -> Result<Option<(u64, Vec<u8>)>, StoreError>;

    /// The entity of a record.
    ///
    /// # Errors
    /// When the database fails.
    fn member(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError>;

    /// The entity that holds a claim.
    ///
    /// # Errors
    /// When the database fails.
    fn claim(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError>;

    /// Entities that have a weaker key, at most so many.
    ///
    /// # Errors
    /// When the database fails.
    fn hints(&mut self, key: &Key, most: usize) -> Result<Vec<EntityId>, StoreError>;

    /// Whether a record was erased.
    ///
    /// # Errors
    /// When the database fails.
    fn is_erased(&mut self, tombstone: &Key) -> Result<bool, StoreError>;

    /// Whether a change was taken before.
    ///
    /// # Errors
    /// When the database fails.
    fn known(&mut self, change: &Key) -> Result<bool, StoreError>;

    /// An open dead letter: entity, target and fields.
    ///
    /// # Errors
    /// When the database fails.
    fn open_letter(&mut self, id: i64) -> Result<Option<(EntityId, u32, Vec<String>)>, StoreError>;

    /// The entity of a question, and how the question ended if it did.
    ///
    /// # Errors
    /// When the database fails.
    fn question(&mut self, id: i64) -> Result<Option<(EntityId, Option<QuestionEnd>)>, StoreError>;

    /// Documents by number, from `after` on, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    fn documents(&mut self, after: EntityId, limit: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError>;

    /// Commits everything or nothing, durably. A second outcome of a change at a target is not kept: to refuse the whole
    /// unit would only bring the same unit again for ever, and the first one stands.
    ///
    /// # Errors
    /// [`StoreError::Moved`] when an entity has another version than was read.
    fn commit(&mut self, unit: &Unit) -> Result<Committed, StoreError>;

    /// Forgets what is older; a bounded number per call. Returns whether there may be more.
    ///
    /// # Errors
    /// When the database fails.
    fn expire(&mut self, before: Before) -> Result<bool, StoreError>;

    /// Forgets goings of more than two hours ago and hashes of what was erased more than 90 days ago; a bounded number
    /// per call. Returns whether there may be more.
    ///
    /// # Errors
    /// When the database fails.
    fn expire_lives(&mut self, now: i64) -> Result<bool, StoreError>;
}
