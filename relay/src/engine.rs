//! The engine: the one place that knows the order of steps of the relay.
//!
//! A *tick* is one transaction: people's commands, **settle** what was answered, **accept** what the stream brought,
//! **review** (what is due when), **send** what is due (intents first), **finish** (outcomes, documents), commit, and only
//! then hand out the calls. The engine
//! does no network and reads no clock; a driver does both and gives it answers, records and the time. If the process
//! dies anywhere, the store holds either the state before the tick or after it: before it, the stream brings the
//! records again and no call was made; after it, every call that may be under way has its intent in the ledger, and
//! [`Engine::open`] turns those into writes of unknown outcome that are read back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use headgate_schemas::failpoint::pass;
use headgate_schemas::stream::{Delivered, Position, Topic};
use headgate_schemas::{ObjectType, Timestamp, Value};

use crate::books::{Account, Books, Place, Share, Sum};
use crate::cache::{Cache, Came};
use crate::config::{Guard, Limits, RelayConfig};
use crate::departure::Brake;
use crate::entity::fold::{Context, Notes, Peer, Rule, Rules};
use crate::entity::question::Unsuitable;
use crate::entity::{Entity, Member, Outcome, Timing};
use crate::line::{Line, Room};
use crate::mapping::{self, Link};
use crate::metrics::Metrics;
use crate::pace::Backlog;
use crate::recount::Recount;
use crate::shared::{Part, Tenure, lease_of};
use crate::step;
use crate::store::{
    Before, Committed, EntityId, KeptRow, Key, LINK, Look, QuestionEnd, Shelf, Store, StoreError, Unit, WorkKey,
};
use crate::target::{
    Answered, Disposition, FindCall, ReadCall, ReadItem, Target, TargetError, Version, WriteCall, Written,
};
use crate::vault::Vault;
use crate::work::{Pair, Work};

/// What the driver gives to a tick.
#[derive(Debug, Default)]
pub struct Input {
    /// Answers to calls.
    pub replies: Vec<(CallId, Reply)>,
    /// Records of the stream, in order inside each partition.
    pub records: Vec<Delivered>,
    /// What people ask for.
    pub commands: Vec<Command>,
}

/// What people ask for.
#[derive(Debug)]
pub enum Command {
    /// Try a dead letter again, or close it.
    Letter {
        /// Its number.
        id: i64,
        /// Try again; otherwise it is only closed.
        again: bool,
        /// Who asks for it.
        by: String,
        /// Told whether there was such an open letter.
        done: tokio::sync::oneshot::Sender<bool>,
    },
    /// An answer to a question.
    Resolve(Resolution),
    /// The fields that a connection's metadata list for a type.
    Described {
        /// The connection's name.
        connection: String,
        /// The type.
        object: ObjectType,
        /// Names of its fields.
        fields: HashSet<String>,
    },
    /// What was kept with [`Command::Keep`].
    Recall {
        /// On which shelf.
        shelf: Shelf,
        /// One name; all without it.
        name: Option<String>,
        /// Told what was kept.
        done: tokio::sync::oneshot::Sender<Recalled>,
    },
    /// Rows of parts beside the engine, to be kept.
    Keep {
        /// Whose knowledge they rest on: dropped unless this is the worker that recalled it.
        epoch: u64,
        /// What is kept.
        rows: Vec<KeptRow>,
        /// Who did what to the first of them, if somebody did.
        deed: Option<(String, &'static str)>,
        /// Told when it is durable.
        done: tokio::sync::oneshot::Sender<()>,
    },
    /// Whether records of a type may be made on a connection; see [`Engine::await_set_up`].
    SetUp {
        /// The connection's name.
        connection: String,
        /// The type.
        object: ObjectType,
        /// They may.
        open: bool,
    },
}

/// What was kept, and by whose word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// The worker that read it.
    pub epoch: u64,
    /// Names and what was kept under them.
    pub rows: Vec<(String, Vec<u8>)>,
}

/// A worker's hold of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The worker.
    pub epoch: u64,
    /// When its lease is over unless it is renewed; after that nothing may be sent any more.
    pub until: Timestamp,
}

/// What a person answers to a question.
#[derive(Debug)]
pub struct Resolution {
    /// The question.
    pub id: i64,
    /// The edition that the person saw; without it the present one is meant.
    pub edition: Option<u32>,
    /// The answer.
    pub choice: Choice,
    /// Who answers.
    pub by: String,
    /// Told what became of it.
    pub done: tokio::sync::oneshot::Sender<Result<Resolved, ResolveError>>,
}

/// An answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// What this connection would have it be.
    Member(String),
    /// What is in force.
    Kept,
    /// These are one: the entities of a [`crate::entity::About::Match`].
    Link,
    /// These are not one.
    Separate,
    /// This record, by its id in the CRM.
    Record(String),
    /// The others go, too; the brake lets go.
    Delete,
    /// The others stay; the linked record stays.
    Keep,
    /// A value that the person gives: canonical, as text or in its type.
    Value(Value),
}

impl std::fmt::Display for Choice {
    /// Without the value: this is stored in clear.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(name) => write!(f, "member {name}"),
            Self::Kept => f.write_str("the value in force"),
            Self::Link => f.write_str("link"),
            Self::Separate => f.write_str("separate"),
            Self::Record(id) => write!(f, "record {id}"),
            Self::Delete => f.write_str("delete"),
            Self::Keep => f.write_str("keep"),
            Self::Value(_) => f.write_str("another value"),
        }
    }
}

/// A question that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The question.
    pub id: i64,
    /// The entity.
    pub entity: EntityId,
    /// The field.
    pub field: String,
}

/// Why an answer was not taken. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such question.
    #[error("there is no open conflict {id}; conflict list shows those there are")]
    Unknown {
        /// The question.
        id: i64,
    },
    /// It was answered before, or went away.
    #[error("conflict {id} ended at {at}{}", if by.is_empty() { String::new() } else { format!(": {by} resolved it") })]
    Ended {
        /// The question.
        id: i64,
        /// When it ended.
        at: Timestamp,
        /// By whom; empty when it went away by itself.
        by: String,
    },
    /// What there was to choose from changed since the person looked.
    #[error("what there is to choose from has changed (edition {now}); look at it again and choose then")]
    Moved {
        /// The present edition.
        now: u32,
    },
    /// No connection has that name.
    #[error("there is no connection \"{name}\"; choose a member that conflict show names")]
    NoConnection {
        /// The name.
        name: String,
    },
    /// The choice is not one of those that this question has.
    #[error("this question is answered with: {choices}")]
    Unfit {
        /// Those it has.
        choices: &'static str,
    },
    /// A call for the record is under way.
    #[error("a call for this record is under way; answer again in a moment")]
    Busy,
    /// The choice does not fit.
    #[error(transparent)]
    Unsuitable(#[from] Unsuitable),
}
pub use crate::books::Totals;
pub use crate::recount::Counted;

/// Number of a call.
pub type CallId = u64;

/// A call to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub id: CallId,
    /// The connection's number.
    pub connection: u32,
    /// What to ask.
    pub request: Request,
    /// When it may no longer be made: had it been late on its way, another worker might have the pair by its deadline.
    pub not_after: Option<Timestamp>,
}

/// What a call asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Records to read.
    Read(ReadCall),
    /// Records to write.
    Write(WriteCall),
    /// Records to look for by what only one person or company has.
    Find(FindCall),
}

impl Request {
    /// The answer to a call that was not made, because it would have been too late ([`Call::not_after`]).
    pub fn not_made(&self) -> ReplyResult {
        let error = TargetError {
            code: "too_late_to_call".to_owned(),
            message: "the worker was held up, and the record may be another worker's by now".to_owned(),
            fields: Vec::new(),
            existing: None,
            disposition: Disposition::Retry,
        };
        match self {
            Self::Read(_) => ReplyResult::Read(Err(error)),
            Self::Write(_) => ReplyResult::Write(Err(error)),
            Self::Find(_) => ReplyResult::Find(Err(error)),
        }
    }
}

/// The answer to a call. The driver answers every call by its deadline, with [`crate::target::Disposition::Unknown`]
/// where the CRM did not; an answer that comes after that may be given as a second reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// When the call was made.
    pub sent: Timestamp,
    /// When the answer was there.
    pub answered: Timestamp,
    /// What it says.
    pub result: ReplyResult,
}

/// What an answer says.
#[derive(Clone, Debug)]
pub enum ReplyResult {
    /// To a read.
    Read(Result<Answered<ReadItem>, TargetError>),
    /// To a write.
    Write(Result<Answered<Result<Written, TargetError>>, TargetError>),
    /// To a search.
    Find(Result<Answered<Vec<String>>, TargetError>),
}

/// A call under way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) connection: u32,
    pub(crate) object: ObjectType,
    pub(crate) step: Step,
    /// Entities in the order of the call's items, with the number of the intent for writes.
    pub(crate) pairs: Vec<(EntityId, u32)>,
    /// When the intent was opened.
    pub(crate) opened: i64,
    /// Microseconds from call to answer, once it is there.
    pub(crate) took: i64,
    /// The deadline passed: only what a late answer teaches is taken.
    pub(crate) given_up: bool,
}

/// What is to be done for a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Read by native id.
    Read,
    /// Read by external id.
    Lookup,
    /// Look for a record that stands there without our id.
    Find,
    /// Make the record.
    Create,
    /// Change the record.
    Update,
    /// Take the record away.
    Delete,
}

/// The relay's logic over a store.
pub struct Engine {
    pub(crate) store: Box<dyn Store>,
    pub(crate) limits: Limits,
    pub(crate) timing: Timing,
    pub(crate) rules: Rules,
    /// The first link maps nothing: entities of a link that was removed are worked with it.
    pub(crate) links: Vec<Link>,
    /// The number of each link in the store; 0 for the first.
    pub(crate) link_numbers: Vec<u32>,
    pub(crate) lines: BTreeMap<u32, Line>,
    pub(crate) numbers: HashMap<String, u32>,
    pub(crate) peers: BTreeMap<u32, Peer>,
    pub(crate) cache: Cache,
    pub(crate) work: Work,
    pub(crate) flights: HashMap<CallId, Flight>,
    /// Entities that are to become part of another one.
    pub(crate) joins: BTreeMap<EntityId, EntityId>,
    /// What goes, by link.
    pub(crate) brakes: HashMap<String, Brake>,
    /// Makes the hashes of who was erased impossible to guess.
    pub(crate) salt: Key,
    pub(crate) next_call: CallId,
    pub(crate) epoch: u64,
    pub(crate) tenure: Tenure,
    pub(crate) dice: fastrand::Rng,
    pub(crate) vault: Arc<Vault>,
    pub(crate) metrics: Metrics,
    pub(crate) positions: BTreeMap<u32, u64>,
    pub(crate) part: Part,
    pub(crate) books: Books,
    pub(crate) recount: Recount,
    pub(crate) draining: bool,
    pub(crate) backlog: Backlog,
    /// How deliveries ended and how many, to be counted once it is durable.
    pub(crate) ended: Vec<(Outcome, i64)>,
    /// What this tick changed.
    pub(crate) tick: Tick,
}

/// What one tick collects.
#[derive(Debug, Default)]
pub(crate) struct Tick {
    pub(crate) unit: Unit,
    pub(crate) calls: Vec<Call>,
    pub(crate) touched: Vec<EntityId>,
    pub(crate) work: HashSet<WorkKey>,
    /// Whose records are that this tick asked about.
    pub(crate) members: HashMap<Key, Holding, ahash::RandomState>,
    /// Who holds the claims that this tick asked about.
    pub(crate) claims: BTreeMap<Key, Holding>,
    /// Weaker keys of entities that came or went.
    pub(crate) hints: BTreeMap<(Key, EntityId), bool>,
    /// Who had the weaker keys that this tick asked about.
    pub(crate) hinted: BTreeMap<Key, Vec<EntityId>>,
    pub(crate) changes: HashSet<Key, ahash::RandomState>,
    /// How long the oldest change of this tick waited for it, in microseconds.
    pub(crate) waited: i64,
    /// Open deliveries that came or went, by entity.
    pub(crate) open: Vec<(EntityId, Share, i64)>,
    /// Versions that guarding reads of this tick found, by connection and entity: preconditions of strict writes.
    pub(crate) versions: HashMap<WorkKey, Version>,
    /// How questions that people answered ended.
    pub(crate) ended: HashMap<i64, QuestionEnd>,
    /// What people are told once it is durable, one for each command.
    pub(crate) told: Vec<Told>,
}

/// Who held a key when this tick read it, and who does by now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    pub(crate) was: Option<EntityId>,
    pub(crate) now: Option<EntityId>,
}

/// What a person is told of a command.
#[derive(Debug)]
pub(crate) enum Told {
    /// Nothing.
    Nothing,
    /// Whether there was such an open letter.
    Letter(bool),
    /// What became of an answer.
    Resolved(Result<Resolved, ResolveError>),
    /// What was kept.
    Recalled(Recalled),
    /// It is kept.
    Kept,
}

/// What the engine is built from.
pub struct Parts<'a> {
    /// Settings.
    pub config: &'a RelayConfig,
    /// The CRMs, by name of their connection.
    pub targets: &'a HashMap<String, Arc<dyn Target>>,
    /// The state.
    pub store: Box<dyn Store>,
    /// The stream the positions are of.
    pub topic: &'a Topic,
    /// Seals what targets say.
    pub vault: Arc<Vault>,
    /// Numbers for the operator.
    pub metrics: Metrics,
    /// Seed of jitter and of new ids.
    pub seed: u64,
}

impl Engine {
    /// Opens the state. Calls that were under way when an earlier process died become writes of unknown outcome.
    ///
    /// # Errors
    /// When the store fails, or belongs to another stream.
    pub fn open(parts: Parts<'_>, now: Timestamp) -> Result<Self, StoreError> {
        let (config, targets) = (parts.config, parts.targets);
        let writable = |system| {
            config
                .connections
                .iter()
                .filter(|c| c.system == system)
                .any(|c| targets.get(&c.name).is_some_and(|t| t.writable()))
        };
        let compile = |number: &dyn Fn(&str) -> u32| {
            config.links.iter().map(|l| mapping::compile(l, &config.connections, number, &writable)).collect()
        };
        Self::open_linked(parts, compile, now)
    }

    /// [`Engine::open`] with links that were not compiled from the configuration; `links` is told the number of each
    /// connection. For tests whose fields no CRM has.
    ///
    /// # Errors
    /// As [`Engine::open`].
    #[doc(hidden)]
    pub fn open_linked(
        parts: Parts<'_>,
        compile: impl FnOnce(&dyn Fn(&str) -> u32) -> Vec<Link>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let Parts { config, targets, mut store, topic, vault, metrics, seed } = parts;
        let until = now.micros() + lease_of(&config.limits);
        let start = store.start(&topic.id, now.micros(), until)?;
        let names: Vec<&str> = config.connections.iter().map(|c| c.name.as_str()).collect();
        let numbers: HashMap<String, u32> =
            config.connections.iter().map(|c| c.name.clone()).zip(store.numbers(&names)?).collect();
        let number = |name: &str| numbers.get(name).copied().unwrap_or(0);
        let mut lines = BTreeMap::new();
        for connection in &config.connections {
            let n = number(&connection.name);
            if let Some(target) = targets.get(&connection.name) {
                lines.insert(n, Line::new(n, connection, target.as_ref(), &config.limits));
            }
        }
        let mut links = vec![Link::new("", "", ObjectType::new(""), Guard::None, Vec::new(), Vec::new())];
        links.extend(compile(&number));
        let link_numbers = link_numbers(store.as_mut(), &links)?;
        let peers = lines.iter().map(|(n, l)| (*n, l.peer())).collect();
        let timing = Timing { ledger: micros(config.limits.ledger), ..Timing::MICROS };
        let mut engine = Self {
            store,
            limits: config.limits.clone(),
            timing,
            rules: Rules::ALL,
            links,
            link_numbers,
            lines,
            peers,
            cache: Cache::new(config.limits.cached_entities, start.shared),
            work: Work::default(),
            flights: HashMap::new(),
            joins: BTreeMap::new(),
            brakes: HashMap::new(),
            salt: start.salt,
            next_call: 1,
            epoch: start.epoch,
            tenure: Tenure::new(start.shared, start.until, now.micros()),
            dice: fastrand::Rng::with_seed(seed),
            vault,
            metrics,
            positions: start.positions.iter().map(|p| (p.partition, p.offset)).collect(),
            part: Part::of(&start, topic.partitions),
            books: Books::new(start.sums.iter().copied()),
            recount: Recount::default(),
            draining: false,
            backlog: Backlog::default(),
            ended: Vec::new(),
            tick: Tick::default(),
            numbers,
        };
        if engine.tenure.shared {
            engine.count_what_is_open(now)?;
        }
        engine.note_start(&format!("{config:?}"), now);
        engine.recover_brakes(&start.goings, &start.sizes);
        engine.recover(&start.work, now)?;
        if engine.tenure.shared {
            // Nothing is read before partitions were taken.
            engine.positions.clear();
        }
        engine.keep_lease(now)?;
        if engine.tenure.shared {
            engine.read_books()?;
        }
        Ok(engine)
    }

    /// One tick. Returns the calls to make; they may be made only because this returned.
    ///
    /// # Errors
    /// When the store fails. The engine must then be dropped and opened again: the store is the truth, and what this
    /// tick would have done is done again from there.
    pub fn tick(&mut self, now: Timestamp, input: Input) -> Result<Vec<Call>, StoreError> {
        self.keep_lease(now)?;
        let Input { replies, records, commands } = input;
        let settles = !replies.is_empty();
        self.store.begin_unit()?;
        let done = if self.tenure.shared {
            self.contend(|engine| engine.turn(now, replies.clone(), &records, &commands))?
        } else {
            self.turn(now, replies, &records, &commands)?
        };
        for (command, told) in commands.into_iter().zip(done.told) {
            command.tell(told);
        }
        if settles {
            pass(step::SETTLEMENT_COMMITTED);
        }
        if !done.calls.is_empty() {
            pass(step::COMMITTED);
        }
        Ok(done.calls)
    }

    /// The steps of a tick, in their order.
    fn turn(
        &mut self,
        now: Timestamp,
        replies: Vec<(CallId, Reply)>,
        records: &[Delivered],
        commands: &[Command],
    ) -> Result<Done, StoreError> {
        let only_reads = replies.is_empty() && commands.is_empty() && !self.draining && !self.tenure.shared;
        for command in commands {
            let told = self.command(command, now)?;
            self.tick.told.push(told);
        }
        for (call, reply) in replies {
            self.settle(call, reply, now)?;
            pass(step::SETTLED);
        }
        self.accept(records, now)?;
        self.backlog.met(records.len(), self.tick.waited, now.micros());
        if !records.is_empty() {
            pass(step::FOLDED);
        }
        self.join_free(now)?;
        self.review(now)?;
        self.send(now)?;
        if !self.tick.calls.is_empty() {
            pass(step::OPENED);
        }
        self.finish(now)?;
        let most = micros(self.limits.read_first);
        if only_reads && self.tick.calls.is_empty() && self.backlog.may_wait(now.micros(), most) {
            let committed = self.store.commit_later(self.epoch, now.micros(), &self.tick.unit)?;
            return Ok(self.close_tick(committed));
        }
        self.commit(now)
    }

    /// Makes durable what ticks that only read left to a later one: call it before the engine is dropped for another
    /// reason than a failure.
    ///
    /// # Errors
    /// When the store fails.
    pub fn flush(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.commit(now).map(drop)
    }

    /// Takes over an entity whose records were read elsewhere, as if it had been built here. For tests that start in the
    /// middle of a record's life.
    ///
    /// # Errors
    /// When the store fails; the engine must then be dropped, as after [`Engine::tick`].
    #[doc(hidden)]
    pub fn adopt(&mut self, entity: Entity, now: Timestamp) -> Result<EntityId, StoreError> {
        let id = self.store.next_entity()?;
        for member in &entity.members {
            if let Some(native) = &member.native {
                let key = crate::store::member_key(member.connection, entity.object.as_str(), native);
                self.own(key, id)?;
            }
        }
        let link = link_of(&self.links, &entity.tenant, &entity.object);
        self.cache.insert(id, entity, link);
        self.with(id, now, |_, _, _| ())?;
        self.finish(now)?;
        self.commit(now)?;
        Ok(id)
    }

    /// Works on without one of the rules, to show in tests that it is needed.
    #[doc(hidden)]
    pub const fn forgo(&mut self, rule: Rule) {
        self.rules = self.rules.without(rule);
    }

    /// An entity as it stands in the store, for tests: the engine itself learns nothing by it.
    ///
    /// # Errors
    /// When the store fails.
    #[doc(hidden)]
    pub fn entity(&mut self, id: EntityId) -> Result<Option<Entity>, StoreError> {
        match self.store.entity(id, 0)? {
            Look::Now(row) => crate::cache::decode(id, &row.doc).map(Some),
            Look::Same | Look::Nothing => Ok(None),
        }
    }

    /// How this worker holds the state.
    pub const fn held(&self) -> Held {
        Held { epoch: self.epoch, until: self.tenure.until() }
    }

    /// Where to read on in the partitions that are this worker's; those that were never read are missing.
    pub fn positions(&self) -> Vec<Position> {
        self.positions.iter().map(|(partition, offset)| Position { partition: *partition, offset: *offset }).collect()
    }

    /// Reading the stream should pause: more is due on a connection that works than is configured, and more belongs in
    /// the stream. A connection that is down stops nobody: what waits for it is one row per record, not per change.
    pub fn is_full(&self, now: Timestamp) -> bool {
        let most = self.limits.due_per_connection;
        self.lines.values().any(|line| {
            let well = matches!(line.room(now), Room::Calls(_) | Room::Closed(None));
            well && self.work.has_due(line.number, now.micros(), most)
        })
    }

    /// When the engine wants a tick although nothing came, by our clock.
    pub fn next_tick(&self, now: Timestamp) -> Option<Timestamp> {
        let due = self.lines.values().filter_map(|line| self.line_due(line, now));
        due.chain(self.next_look(now)).min()
    }

    /// Sums of the accounting.
    pub fn totals(&self) -> Totals {
        self.books.totals()
    }

    /// The accounting: one line for each target of each link.
    pub fn accounts(&self, now: Timestamp) -> BTreeMap<Place, Account> {
        self.books.accounts(|connection| self.lines.get(&connection).is_some_and(|line| line.state(now) != 0))
    }

    /// Names of the links by their numbers in the accounting.
    pub fn link_names(&self) -> BTreeMap<u32, String> {
        self.link_numbers.iter().copied().zip(self.links.iter().map(|link| link.name.clone())).skip(1).collect()
    }

    /// Nothing of this type is made or looked up by our external id on a connection until [`Command::SetUp`]: the
    /// field that holds it may not be there yet. What is there already is read and changed all the same.
    pub fn await_set_up(&mut self, connection: &str, object: &ObjectType) {
        let line = self.numbers.get(connection).and_then(|number| self.lines.get_mut(number));
        line.into_iter().for_each(|line| line.await_set_up(object));
    }

    /// What a connection's metadata list for a type: optional fields are mapped from now on where they are listed.
    pub fn describe(&mut self, connection: &str, object: &ObjectType, fields: &HashSet<String>) {
        let Some(number) = self.numbers.get(connection).copied() else { return };
        for link in self.links.iter_mut().filter(|l| l.object == *object && l.member(number).is_some()) {
            link.describe(number, &|name| fields.contains(name));
        }
    }

    /// From now on no call is opened: what is under way is settled, the rest waits for the next start.
    pub const fn drain(&mut self) {
        self.draining = true;
    }

    /// Calls under way.
    pub fn calls_open(&self) -> usize {
        self.flights.values().filter(|f| !f.given_up).count()
    }

    /// Draining, and every call answered.
    pub fn is_drained(&self) -> bool {
        self.draining && self.calls_open() == 0
    }

    /// Pairs that wait for anything, parked ones included.
    pub fn pairs(&self) -> usize {
        self.work.len()
    }

    /// Name and number of every connection.
    pub fn connections(&self) -> &HashMap<String, u32> {
        &self.numbers
    }

    /// Forgets old ids and outcomes, a bounded number per call. Returns whether there may be more.
    ///
    /// # Errors
    /// When the store fails.
    pub fn expire(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        if self.backlog.has_waiting() {
            // It has transactions of its own.
            return Ok(true);
        }
        let before = |age| now.micros() - micros(age);
        let limits = &self.limits;
        let lives = self.store.expire_lives(now.micros())?;
        let rows = self.store.expire(Before {
            changes: before(limits.change_ids),
            outcomes: before(limits.outcomes),
            decisions: before(limits.decisions),
            letters: before(limits.dead_letters),
            audit: before(limits.audit),
        })?;
        Ok(rows || lives)
    }

    /// Counts what is open in a few documents more; after the last one compares it with the books. Returns what a round
    /// of all documents found, when one ended. Where others work on the state, too, what all of them added up is read
    /// instead: their documents are not of one moment.
    ///
    /// # Errors
    /// When the store fails.
    pub fn recount(&mut self) -> Result<Option<Counted>, StoreError> {
        if self.tenure.shared {
            return self.read_books().map(|()| None);
        }
        let after = self.recount.counted_to();
        let batch = u32::try_from(self.limits.recount_batch).unwrap_or(u32::MAX);
        let documents = self.store.documents(after, batch)?;
        let mut stranded = Vec::new();
        for (id, doc) in &documents {
            let (open, has_work) = self.open_in(*id, doc);
            self.recount.add(*id, i64::try_from(open).unwrap_or(i64::MAX));
            if open > 0 && !has_work {
                stranded.push((*id, open));
            }
        }
        if !stranded.is_empty() {
            self.still_leased()?;
            for (entity, open) in stranded {
                tracing::error!(entity, open, "changes of this entity are open and nothing is to be done for them");
            }
        }
        if !documents.is_empty() {
            return Ok(None);
        }
        let counted = self.recount.end(self.books.open_now());
        if counted.difference() != 0 {
            self.still_leased()?;
        }
        self.metrics.recounted.set(counted.difference());
        if counted.difference() != 0 || self.totals().difference() != 0 {
            let Totals { due, closed, open, .. } = self.totals();
            let recounted = counted.open;
            tracing::error!(due, closed, open, recounted, "the accounting does not add up; please report this");
        }
        Ok(Some(counted))
    }

    /// Open deliveries of a document, and whether there is work for it. One that cannot be read counts as nothing, which
    /// the next comparison shows.
    fn open_in(&self, id: EntityId, doc: &[u8]) -> (usize, bool) {
        let entity = match crate::cache::decode(id, doc) {
            Ok(entity) => entity,
            Err(error) => {
                tracing::error!(%error, "a document cannot be counted");
                return (0, true);
            }
        };
        let has_work = |m: &Member| self.work.get(WorkKey { target: m.connection, entity: id }).is_some();
        // Where others work, too, it may be theirs.
        (entity.open_deliveries(), self.tenure.shared || entity.members.iter().any(has_work))
    }

    /// Runs `act` on an entity with everything the rules look at, and marks it as touched. `None` when there is none.
    pub(crate) fn with<R>(
        &mut self,
        id: EntityId,
        now: Timestamp,
        act: impl FnOnce(&mut Entity, &Context<'_>, &mut Notes) -> R,
    ) -> Result<Option<R>, StoreError> {
        let mut notes = Notes::default();
        let result = self.look(id, now, |entity, cx| act(entity, cx, &mut notes))?;
        self.cache.set_reviewed(id, false);
        if let Some(loaded) = self.cache.get_mut(id).filter(|loaded| !loaded.touched) {
            loaded.touched = true;
            self.tick.touched.push(id);
        }
        self.note(id, notes, now);
        Ok(result)
    }

    /// Runs `look` on an entity without marking it as touched: it is not written for this.
    pub(crate) fn look<R>(
        &mut self,
        id: EntityId,
        now: Timestamp,
        look: impl FnOnce(&mut Entity, &Context<'_>) -> R,
    ) -> Result<Option<R>, StoreError> {
        if !self.load(id)? {
            return Ok(None);
        }
        let Some(loaded) = self.cache.get_mut(id) else { return Ok(None) };
        let peers = &self.peers;
        let peer = |connection: u32| peers.get(&connection).copied().unwrap_or_default();
        let cx = Context {
            link: &self.links[loaded.link],
            peers: &peer,
            now: now.micros(),
            timing: self.timing,
            rules: self.rules,
        };
        Ok(Some(look(&mut loaded.entity, &cx)))
    }

    /// Reads an entity into the cache. False when there is none.
    pub(crate) fn load(&mut self, id: EntityId) -> Result<bool, StoreError> {
        let links = &self.links;
        let came = self.cache.load(id, self.store.as_mut(), |entity| {
            let link = link_of(links, &entity.tenant, &entity.object);
            (link, entity.open_shares())
        })?;
        if let Came::Read(rows) = &came {
            self.reconcile(id, rows);
        }
        Ok(came != Came::Nothing)
    }

    /// The pair of a connection and an entity, as it should stand after a call returned.
    pub(crate) fn put_pair(&mut self, key: WorkKey, pair: Pair) {
        self.work.put(key, pair);
        self.tick.work.insert(key);
    }

    /// Makes what the tick collected durable and hands out its calls.
    pub(crate) fn commit(&mut self, now: Timestamp) -> Result<Done, StoreError> {
        self.check_what_was_read();
        if self.tenure.shared {
            self.tick.unit.open = self.tick.open.drain(..).map(|(_, share, n)| (share, n)).collect();
        }
        let committed = self.store.commit(self.epoch, now.micros(), &self.tick.unit)?;
        self.backlog.is_durable();
        let done = self.close_tick(committed);
        for (outcome, n) in self.ended.drain(..) {
            let ended = crate::metrics::Outcome { outcome: outcome.as_str() };
            self.metrics.outcomes.get_or_create(&ended).inc_by(u64::try_from(n).unwrap_or(0));
        }
        Ok(done)
    }

    /// Takes what the store kept of a tick into what is known of it.
    fn close_tick(&mut self, committed: Committed) -> Done {
        let tick = std::mem::take(&mut self.tick);
        self.ended.extend(committed.ended.iter().map(|(_, outcome, n)| (*outcome, *n)));
        // Where others work, too, the books are read: see [`Engine::recount`].
        if !self.tenure.shared {
            for (place, n) in tick.unit.due {
                self.books.count(place, Sum::Due, n);
            }
            for (place, outcome, n) in committed.ended {
                self.books.count(place, Sum::Ended(outcome), n);
            }
            for (id, share, n) in tick.open {
                self.books.open(share, n);
                self.recount.follow(id, n);
            }
        }
        if committed.doubled > 0 {
            tracing::error!(count = committed.doubled, "changes ended twice at one target; the first outcome stands");
            self.metrics.doubled.inc_by(u64::try_from(committed.doubled).unwrap_or(0));
        }
        self.cache.end_round();
        Done { calls: tick.calls, told: tick.told }
    }
}

impl Command {
    /// Tells whoever gave it what became of it.
    fn tell(self, told: Told) {
        let gone = match (self, told) {
            (Self::Letter { done, .. }, Told::Letter(found)) => done.send(found).is_err(),
            (Self::Resolve(Resolution { done, .. }), Told::Resolved(result)) => done.send(result).is_err(),
            (Self::Recall { done, .. }, Told::Recalled(kept)) => done.send(kept).is_err(),
            (Self::Keep { done, .. }, Told::Kept) => done.send(()).is_err(),
            _ => false,
        };
        if gone {
            tracing::debug!("whoever gave a command has gone away");
        }
    }
}

/// What a tick did, once it is durable.
pub(crate) struct Done {
    pub(crate) calls: Vec<Call>,
    told: Vec<Told>,
}

/// Numbers of the links, by their names.
fn link_numbers(store: &mut dyn Store, links: &[Link]) -> Result<Vec<u32>, StoreError> {
    let names: Vec<String> = links.iter().skip(1).map(|link| format!("{LINK}{}", link.name)).collect();
    let numbers = store.numbers(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(std::iter::once(0).chain(numbers).collect())
}

/// The link of an entity; 0, which maps nothing, when it has none.
pub(crate) fn link_of(links: &[Link], tenant: &str, object: &ObjectType) -> usize {
    links.iter().position(|l| l.tenant == tenant && l.object == *object).unwrap_or(0)
}

pub(crate) fn micros(d: std::time::Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}
