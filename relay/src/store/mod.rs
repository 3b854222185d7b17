//! The relay's durable state. The engine reads through [`Store`], collects what it changes in a [`Unit`], and commits
//! that as one transaction per tick; only then are calls made. Only this folder holds SQL.
//!
//! Several workers (engines, one per process) may share one state. What keeps them apart is in [`Store::commit`]: a unit
//! names what it read and what it holds, and is void as a whole when any of that is no longer so. There are no locks that
//! outlive a transaction; what a worker holds, it holds by a lease that ends by itself.

mod asked;
mod kept;
mod lives;
mod outcomes;
pub mod postgres;
mod reader;
mod sqlite;
mod trail;
mod worker;

use headgate_schemas::ChangeId;
use headgate_schemas::stream::Position;
use sha2::{Digest, Sha256};

pub use asked::{ListedDecision, ListedQuestion, QuestionFilter};
pub use kept::{KeptRow, Shelf};
pub use postgres::{Postgres, PostgresError};
pub use reader::{Reader, Readers, StorePlace};
pub use sqlite::{ListedLetter, Sqlite};

use crate::books::{Place, Share, Sum};
use crate::entity::Outcome;
use crate::trail::Happened;

/// Number of an entity in the store.
pub type EntityId = i64;

/// What stands before the name of a link among the names that have numbers; names of connections hold no space.
pub(crate) const LINK: &str = "link ";

/// Why the store failed. Where [`StoreError::is_overtaken`] the tick is void and is done again on what the store holds by
/// now; after any other the engine is thrown away and opened again: the store is the truth.
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
    /// A record, a claim or a change that was read as nobody's is somebody's by now.
    #[error("another relay was first to take a key")]
    Taken,
    /// A partition was given to another worker.
    #[error("partition {partition} is read by another relay")]
    PartitionLost {
        /// Which.
        partition: u32,
    },
    /// The worker did nothing for longer than its lease; others may have its work by now.
    #[error("the lease of worker {epoch} is over; its work belongs to whoever takes it up")]
    LeaseLost {
        /// The worker.
        epoch: u64,
    },
    /// Another worker has the state.
    #[error("another relay works on this state, at least until its lease ends or is renewed")]
    Held {
        /// When its lease ends unless it renews it, by our clock in microseconds.
        until: i64,
    },
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

impl StoreError {
    /// Another worker was faster: nothing of the unit was kept, and the same tick may succeed on fresh documents.
    pub const fn is_overtaken(&self) -> bool {
        matches!(self, Self::Moved { .. } | Self::Taken)
    }
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

/// An entity whose document or work rows change: its version covers both, and rises by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityWrite {
    /// Which.
    pub id: EntityId,
    /// The version that was read; 0 makes it.
    pub version: u64,
    /// The document; `None` where only work rows change.
    pub doc: Option<Vec<u8>>,
}

/// An entity as it stands, all of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityRow {
    /// The version.
    pub version: u64,
    /// The document.
    pub doc: Vec<u8>,
    /// Its work rows, by target.
    pub work: Vec<WorkRow>,
}

/// What a look at an entity found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is none.
    Nothing,
    /// It has the version that the caller knows.
    Same,
    /// It has another one.
    Now(EntityRow),
}

/// Entities that share a weak key and are looked at; more than these say that the key says nothing.
pub const CANDIDATES: u32 = 8;

/// A member key or a claim that goes from one holder to another, or stays as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyWrite {
    /// The key.
    pub key: Key,
    /// The holder that was read.
    pub was: Option<EntityId>,
    /// The holder from now on.
    pub now: Option<EntityId>,
}

/// Work that waits on one (entity, target) pair: a read, a write, a create. The document says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkKey {
    /// The connection.
    pub target: u32,
    /// The entity.
    pub entity: EntityId,
}

/// Due time and owner of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkRow {
    /// The pair.
    pub key: WorkKey,
    /// When it is due, by our clock in microseconds.
    pub due: i64,
    /// Failed attempts since the last success.
    pub attempts: u32,
    /// The worker that does it, for as long as that has its lease.
    pub owner: u64,
    /// Until when its call may be under way, 0 while there is none. A pair without a call may be taken by any worker that
    /// changes the entity; one with a call is left alone until its owner settles it or has lost its lease.
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
    /// Entities made or changed, each once, and every one whose work rows are in the unit.
    pub entities: Vec<EntityWrite>,
    /// Entities that were looked at and stay as they are, with the version that was read.
    pub unchanged: Vec<(EntityId, u64)>,
    /// Records that become members of an entity, or of none any more; and those that were asked about and stay as they
    /// are.
    pub members: Vec<KeyWrite>,
    /// Claims taken and given up; and those that were asked about and stay as they are.
    pub claims: Vec<KeyWrite>,
    /// Weaker keys that entities got (true) or lost.
    pub hints: Vec<(Key, EntityId, bool)>,
    /// Weaker keys that were asked about, each with what [`Store::hints`] answered.
    pub hinted: Vec<(Key, Vec<EntityId>)>,
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
    /// Added to what is open. Only where the state is shared: otherwise the one worker counts it in the documents.
    pub open: Vec<(Share, i64)>,
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
    /// What parts beside the engine keep.
    pub kept: Vec<KeptRow>,
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
    /// Nothing to write; what was only looked at does not count.
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
            && self.members.iter().chain(&self.claims).all(|key| key.was == key.now)
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
            && self.open.is_empty()
            && self.dead_letters.is_empty()
            && self.closed_letters.is_empty()
            && self.questions.is_empty()
            && self.ended_questions.is_empty()
            && self.decisions.is_empty()
            && self.audit.is_empty()
            && self.kept.is_empty()
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

/// How a shared state is divided, as a worker sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Division {
    /// The workers whose leases hold, oldest first.
    pub workers: Vec<u64>,
    /// The partitions that this worker reads.
    pub mine: Vec<u32>,
    /// Where to read on, whoever reads there; partitions that were never read are missing.
    pub positions: Vec<Position>,
    /// What went, by link, oldest first, as in [`Start`].
    pub goings: Vec<(String, i64)>,
    /// Entities by link.
    pub sizes: Vec<(String, i64)>,
}

/// The accounting of a shared state, of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedBooks {
    /// Sums of the accounting.
    pub sums: Vec<(Place, Sum, i64)>,
    /// What is open; only what is not 0.
    pub open: Vec<(Share, i64)>,
}

/// What a relay finds when it starts.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// This worker's number, higher than any before it.
    pub epoch: u64,
    /// Others may work on the same state at the same time: documents must be read anew in each tick.
    pub shared: bool,
    /// When the lease ends unless it is renewed; never where nobody else can open the state.
    pub until: i64,
    /// Positions by partition, of all that were ever read. Where the state is shared none of them is held before
    /// [`Store::take_partitions`].
    pub positions: Vec<Position>,
    /// Pairs that were taken over from workers that are no more, oldest first.
    pub work: Vec<WorkRow>,
    /// Counters.
    pub counters: Vec<(Counter, i64)>,
    /// Sums of the accounting.
    pub sums: Vec<(Place, Sum, i64)>,
    /// What went within the last hour and longer, by link, oldest first.
    pub goings: Vec<(String, i64)>,
    /// Entities by link.
    pub sizes: Vec<(String, i64)>,
    /// Random, the same for ever.
    pub salt: Key,
}

/// The relay's durable state. Synchronous: the engine runs on a thread of its own.
///
/// # What an implementation must hold
/// A worker is an epoch with a lease, given by [`Store::start`]. In production one worker at a time has a state, and others
/// stand by until its lease is over: an engine has all work of the state in memory, and the events of one entity come
/// from several partitions, so that two at once would do the same work twice and void each other's. But a lease can end
/// while its worker sleeps and does not know, so nothing may rest on it alone: every check below holds among any number of
/// workers that all believe they are the one. A state may also be shared in earnest ([`Start::shared`]). These are atomic, and serial with each other where they
/// touch the same rows:
/// * [`Store::commit`]: all of its checks and all of its writes. The checks are on what is committed, not on a snapshot
///   of earlier: two units of which each would void the other cannot both be kept.
/// * [`Store::adopt`]: ending the lease of a worker and giving its rows to another. A worker whose lease was ended
///   commits nothing any more.
/// * [`Store::take_partitions`]: from then on the earlier holder moves none of these positions.
/// * [`Store::entity`]: version, document and work rows of one moment.
///
/// Other reads may be of different moments: a unit is checked against all that it read.
pub trait Store: Send {
    /// Binds the state to a topic, makes a worker whose lease holds from `now` until `until`, and says what there is. It
    /// ends all earlier workers and takes their work and all partitions; where the state is shared, it leaves them alone,
    /// and work is taken over by [`Store::adopt`] and partitions by [`Store::take_partitions`].
    ///
    /// # Errors
    /// * [`StoreError::OtherTopic`] when positions of another topic are kept.
    /// * [`StoreError::Held`] when another worker has its lease at `now`, and the state is not shared.
    fn start(&mut self, topic: &str, now: i64, until: i64) -> Result<Start, StoreError>;

    /// Prolongs the lease of a worker.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when it is over at `now`, or was ended.
    fn renew(&mut self, epoch: u64, now: i64, until: i64) -> Result<(), StoreError>;

    /// Ends the leases that are over at `now`, and gives a worker pairs whose owner is no more: the oldest, at most
    /// `most`. A pair with a call is left until that cannot be under way any more, whoever made it: its owner may have
    /// lost the state alone and not the CRM. They come back as that worker's, without a call; others still see the calls
    /// they had, until a unit of that worker says otherwise: it may be gone, too, before it has told what became of them.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when its own lease is over.
    fn adopt(&mut self, epoch: u64, now: i64, most: usize) -> Result<Vec<WorkRow>, StoreError>;

    /// Gives partitions to a worker, whoever had them, for tests that decide themselves who reads what. Returns where to
    /// read on; those that were never read are missing.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when its lease is over at `now`.
    fn take_partitions(&mut self, epoch: u64, now: i64, partitions: &[u32]) -> Result<Vec<Position>, StoreError>;

    /// Divides so many partitions among the workers of a shared state, as far as it is one worker's part: gives up and
    /// takes what [`crate::division::Crew::moves`] says, once the leases were ended that are over at `now`, and those of
    /// workers that are known to be gone. Nothing is taken from whoever has it.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when its own lease is over.
    fn divide(&mut self, epoch: u64, now: i64, partitions: u32) -> Result<Division, StoreError>;

    /// What is summed up and what is open, of one moment. `None` where what is open was not counted since the state
    /// became a shared one: see [`Store::count_open`].
    ///
    /// # Errors
    /// When the database fails.
    fn shared_books(&mut self) -> Result<Option<SharedBooks>, StoreError>;

    /// The documents of entities that have work, those with a higher number than `after`, in the order of their numbers.
    ///
    /// # Errors
    /// When the database fails.
    fn open_documents(&mut self, after: EntityId, most: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError>;

    /// Keeps what was counted as open in the documents of a shared state; from here on each unit adds to it. Nobody may
    /// change an entity before this was done once. Where another worker was first, its count stands, which is the same.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is over at `now`.
    fn count_open(&mut self, epoch: u64, now: i64, open: &[(Share, i64)]) -> Result<(), StoreError>;

    /// From here to the end of the next [`Store::commit`], or to [`Store::let_others`], nobody else commits a unit: what
    /// is read now still stands then, so that a unit which others voided comes through. Whoever is held up in between
    /// loses it soon, and the others go on.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when others hold this one off for too long.
    fn hold_others(&mut self) -> Result<(), StoreError>;

    /// Ends [`Store::hold_others`], if it holds.
    ///
    /// # Errors
    /// When the database fails.
    fn let_others(&mut self) -> Result<(), StoreError>;

    /// Ends the lease of a worker that stops: its work may be taken over at once.
    ///
    /// # Errors
    /// When the database fails.
    fn leave(&mut self, epoch: u64) -> Result<(), StoreError>;

    /// A number for a new entity, given to nobody else.
    ///
    /// # Errors
    /// When the database fails.
    fn next_entity(&mut self) -> Result<EntityId, StoreError>;

    /// A number for a new question, given to nobody else.
    ///
    /// # Errors
    /// When the database fails.
    fn next_question(&mut self) -> Result<i64, StoreError>;

    /// Binds the state to `topic`, which was made anew, and forgets where the one before it was read to: everything in
    /// the new one is to be read. All leases end, so that nobody writes places of the old one. Where it is bound to that
    /// topic already, another worker was first, and nothing is done. Called before [`Store::start`].
    ///
    /// # Errors
    /// [`StoreError::Held`] when another worker has the state at `now`.
    fn rebind(&mut self, topic: &str, now: i64) -> Result<(), StoreError>;

    /// Forgets how far a partition was read where that is still this place: the log ends before it, and what it holds by
    /// now is to be read. Another worker that does the same finds nothing to do. Called before [`Store::start`] where the
    /// state is shared; whoever is alone forgets all places with [`Store::rebind`].
    ///
    /// # Errors
    /// When the database fails.
    fn forget_place(&mut self, place: Position) -> Result<(), StoreError>;

    /// Numbers for names of connections, the same for ever.
    ///
    /// # Errors
    /// When the database fails.
    fn numbers(&mut self, names: &[&str]) -> Result<Vec<u32>, StoreError>;

    /// An entity, unless it still has the version that the caller knows; 0 for none.
    ///
    /// # Errors
    /// When the database fails.
    fn entity(&mut self, id: EntityId, known: u64) -> Result<Look, StoreError>;

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

    /// Entities that have a weaker key, at most [`CANDIDATES`].
    ///
    /// # Errors
    /// When the database fails.
    fn hints(&mut self, key: &Key) -> Result<Vec<EntityId>, StoreError>;

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

    /// What was kept on a shelf, by name: everything, or the row of that name.
    ///
    /// # Errors
    /// When the database fails.
    fn kept(&mut self, shelf: Shelf, name: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Documents by number, from `after` on, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    fn documents(&mut self, after: EntityId, limit: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError>;

    /// What is read from here to the next [`Store::commit`] may be read as of one moment, where that is cheaper. Nothing
    /// else of the store is called in between but reads, numbers for what is new and [`Store::commit_later`]; a store
    /// whose commit failed, or that was not asked to commit, is dropped.
    ///
    /// # Errors
    /// When the database fails.
    fn begin_unit(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Commits everything or nothing, durably, for a worker at `now`. A second outcome of a change at a target is not
    /// kept: to refuse the whole unit would only bring the same unit again for ever, and the first one stands.
    ///
    /// # Errors
    /// * [`StoreError::LeaseLost`] when the worker's lease is over at `now`, or was ended.
    /// * [`StoreError::PartitionLost`] when a position is moved that another worker holds.
    /// * [`StoreError::Moved`] when an entity of the unit, changed or only looked at, has another version than was read.
    /// * [`StoreError::Taken`] when a key has another holder than was read, a weak key other entities, or a change was
    ///   taken before.
    fn commit(&mut self, epoch: u64, now: i64, unit: &Unit) -> Result<Committed, StoreError>;

    /// [`Store::commit`] of what needs not be durable yet: it is from the next commit on, together with that, and until
    /// then a failure takes all of it back. Pages that many such units change are written once. A store for which this
    /// would change nothing commits at once, and so does one that several workers share.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn commit_later(&mut self, epoch: u64, now: i64, unit: &Unit) -> Result<Committed, StoreError> {
        self.commit(epoch, now, unit)
    }

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
