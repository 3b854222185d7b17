//! The real engine in the world of records: real changes over the real stream and store, calls carried out by the
//! shelves with the fates the world draws, virtual time, and a process that dies.
//!
//! The machine around the engine is what the driver is in production: it reads the stream on from the positions, gives
//! every call an answer by its deadline and a late one after it, and opens the engine again over the same state when it
//! died; answers to calls of an earlier life are lost. Death comes at any of the three places where it matters: instead
//! of a commit, between a commit and its calls, and with calls under way. The people of the beginning are made through
//! the front door, in calm weather. Nothing is drawn outside the world's dice.

pub mod account;
#[path = "../../support/disk.rs"]
pub mod disk;
#[path = "../../support/vault.rs"]
pub mod vault;
pub mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::FutureExt as _;
use headgate_relay::config::RelayConfig;
use headgate_relay::engine::{Call, CallId, Engine, Input, Parts, Reply, ReplyResult, Request};
use headgate_relay::entity::fold::Rule;
use headgate_relay::metrics::Metrics;
use headgate_relay::store::StoreError;
use headgate_relay::target::Target;
use headgate_schemas::contract;
use headgate_schemas::stream::memory::{Faults, Memory, MemoryConfig, MemorySource};
use headgate_schemas::stream::{Delivered, Position, Sink as _, Source as _};
use prometheus_client::registry::Registry;

use crate::scenario::{MIN, SEC};
use crate::shelf::RecordId;
use crate::world::{DEADLINE, Fate, Hint, Relay, Standing, World};
use account::Account;
use disk::{Disk, Shown};

/// Records taken from the stream by one tick.
const BATCH: usize = 4;
/// Of 1,000 appends so many enter the log twice.
const REPEATED: u16 = 200;
/// How often a read fails where writes do.
const FAILED_READS: f64 = 0.1;
/// Time from a wake-up to the tick.
const SOON: &[i64] = &[20, 20, SEC];

/// How a run is played.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting {
    /// How often the process dies, per tick.
    pub deaths: f64,
    /// The rule that the engine goes without.
    pub without: Option<Rule>,
    /// People answer what they are asked.
    pub answers: bool,
}

/// An engine over the state, with its place in the stream and the answers that wait for it.
struct Worker {
    engine: Engine,
    source: MemorySource,
    /// Answers to calls of other lives are not for it.
    life: u64,
    inbox: Vec<(CallId, Reply)>,
    /// Versions that the replies in the inbox tell.
    telling: Vec<(RecordId, i64)>,
}

/// What the machine is to do at a moment it asked for.
#[derive(Clone, Debug)]
enum Task {
    Tick,
    /// The call reaches the CRM.
    Land(u64),
    /// The answer reaches us.
    Answer(u64, ReplyResult, Vec<(RecordId, i64)>),
    /// No answer came.
    Deadline(u64),
    /// Somebody looks at a question.
    Person(i64),
}

/// A call under way.
#[derive(Clone, Debug)]
struct Flight {
    life: u64,
    call: CallId,
    crm: usize,
    request: Request,
    fate: Fate,
    sent: i64,
    replied: bool,
}

/// The real engine as a relay of this world.
pub struct Played {
    config: RelayConfig,
    targets: HashMap<String, Arc<dyn Target>>,
    metrics: Metrics,
    disk: Disk,
    stream: Memory,
    worker: Worker,
    setting: Setting,
    lives: u64,
    tasks: BTreeMap<u64, Task>,
    flights: BTreeMap<u64, Flight>,
    /// Tasks and flights are numbered together.
    next: u64,
    tick_at: Option<i64>,
    account: Account,
}

impl Played {
    /// An engine over an empty state.
    pub fn new(world: &mut World) -> Result<Self, StoreError> {
        let config = wire::config();
        let puppet = wire::Puppet { conditional: world.scenario.strict };
        let names = config.connections.iter().map(|c| c.name.clone());
        let targets = names.map(|name| (name, Arc::new(puppet) as Arc<dyn Target>)).collect();
        let metrics = Metrics::register(&mut Registry::default());
        let seed = world.below(usize::MAX) as u64;
        let faults = Faults { repeat: REPEATED, ..Faults::default() };
        let stream = Memory::with(MemoryConfig { partitions: 2, seed, faults, ..MemoryConfig::default() });
        let disk = Disk::new()?;
        let engine = open(&config, &targets, &metrics, &disk, &stream, 0)?;
        let worker = Worker::new(engine, &stream, 0);
        Ok(Self {
            config,
            targets,
            metrics,
            disk,
            stream,
            worker,
            setting: Setting::default(),
            lives: 0,
            tasks: BTreeMap::new(),
            flights: BTreeMap::new(),
            next: 0,
            tick_at: None,
            account: Account::default(),
        })
    }

    /// The calm is over.
    pub fn begin(&mut self, setting: Setting) {
        self.setting = setting;
        setting.without.into_iter().for_each(|rule| self.worker.engine.forgo(rule));
    }

    /// What is wrong with the bookkeeping, first fault first. It is the next process that finds what was left.
    pub fn fault(&mut self, now: i64) -> Option<String> {
        let next = self.hire(now);
        self.account.after_tick(&next.engine);
        self.account.at_rest(&next.engine);
        self.account.fault().map(str::to_owned)
    }

    /// How often the process died.
    pub const fn lives(&self) -> u64 {
        self.lives
    }

    /// Another process opens the state. Opening may die, too.
    fn hire(&mut self, now: i64) -> Worker {
        loop {
            self.lives += 1;
            let Self { config, targets, metrics, disk, stream, .. } = self;
            match open(config, targets, metrics, disk, stream, now) {
                Ok(mut engine) => {
                    self.setting.without.into_iter().for_each(|rule| engine.forgo(rule));
                    return Worker::new(engine, &self.stream, self.lives);
                }
                Err(StoreError::InUse { .. }) => {}
                Err(error) => panic!("the state cannot be opened again: {error}"),
            }
        }
    }

    fn later(&mut self, world: &mut World, delay: i64, task: Task) {
        self.next += 1;
        self.tasks.insert(self.next, task);
        world.wake(delay, self.next);
    }

    fn schedule(&mut self, world: &mut World, at: i64) {
        let at = at.max(world.now);
        if self.tick_at.is_none_or(|due| due > at) {
            self.tick_at = Some(at);
            self.later(world, at - world.now, Task::Tick);
        }
    }

    fn schedule_soon(&mut self, world: &mut World) {
        let delay = world.span(SOON);
        self.schedule(world, world.now + delay);
    }

    fn tick(&mut self, world: &mut World) {
        let now = wire::clock(world.now);
        let records = self.worker.read();
        let more = records.len() == BATCH;
        if world.chance(self.setting.deaths / 3.0) {
            self.disk.fail_next();
        }
        let replies = std::mem::take(&mut self.worker.inbox);
        let telling = std::mem::take(&mut self.worker.telling);
        let (commands, answered) = self.account.answers();
        let idle = replies.is_empty() && records.is_empty() && commands.is_empty();
        let Ok(calls) = self.worker.engine.tick(now, Input { replies, records, commands }) else {
            return self.die(world, "instead of a commit");
        };
        self.account.answered(answered);
        self.committed(world);
        telling.into_iter().for_each(|(id, at)| world.tell(id, at));
        let idle = idle && calls.is_empty();
        self.account.expect(!idle || self.worker.engine.next_tick(now).is_none_or(|at| at > now), || {
            format!("at {} the engine had nothing to do and wants another tick at once", world.now)
        });
        if world.chance(self.setting.deaths / 3.0) {
            return self.die(world, "before its calls");
        }
        for call in calls {
            self.make(world, call);
        }
        if world.chance(self.setting.deaths / 3.0) {
            return self.die(world, "with calls under way");
        }
        self.ask(world);
        if more {
            self.schedule(world, world.now);
        }
        if let Some(at) = self.worker.engine.next_tick(now) {
            self.schedule(world, wire::moment(at));
        }
    }

    /// People look at what they are asked, some time later.
    fn ask(&mut self, world: &mut World) {
        let questions = if self.setting.answers { self.account.new_questions() } else { Vec::new() };
        for question in questions {
            let delay = world.span(&[MIN, 60 * MIN]);
            self.later(world, delay, Task::Person(question));
        }
    }

    fn committed(&mut self, world: &mut World) {
        for unit in self.disk.committed() {
            world.say(format_args!("engine: {}", Shown(&unit)));
            self.account.committed(&unit, &mut self.worker.engine);
        }
        self.account.after_tick(&self.worker.engine);
    }

    fn make(&mut self, world: &mut World, call: Call) {
        world.say(format_args!("engine: {call:?}"));
        let write = matches!(call.request, Request::Write(_));
        let (fate, lands) = if write { world.fate() } else { read_fate(world) };
        self.next += 1;
        let (flight, life, sent) = (self.next, self.worker.life, world.now);
        let Call { id, connection, request, .. } = call;
        let crm = wire::crm(connection);
        self.flights.insert(flight, Flight { life, call: id, crm, request, fate, sent, replied: false });
        if let Some(delay) = lands {
            self.later(world, delay, Task::Land(flight));
        }
        self.later(world, DEADLINE, Task::Deadline(flight));
    }

    fn land(&mut self, world: &mut World, flight: u64) {
        let Some(Flight { crm, request, fate, .. }) = self.flights.get(&flight).cloned() else { return };
        let (result, told) = match request {
            Request::Read(call) => wire::read(world, crm, &call),
            Request::Write(call) => (wire::write(world, crm, &call), Vec::new()),
            Request::Find(call) => (wire::find(world, crm, &call), Vec::new()),
        };
        if fate == Fate::Answered {
            let delay = world.span(&[50, SEC]);
            self.later(world, delay, Task::Answer(flight, result, told));
        }
    }

    /// Gives the engine a reply to a call of this life.
    fn reply(&mut self, world: &mut World, flight: u64, result: ReplyResult, told: Vec<(RecordId, i64)>) {
        let now = world.now;
        let Some(flight) = self.flights.get_mut(&flight) else { return };
        if self.worker.life != flight.life {
            return;
        }
        flight.replied = true;
        let reply = Reply { sent: wire::clock(flight.sent), answered: wire::clock(now), result };
        self.worker.inbox.push((flight.call, reply));
        self.worker.telling.extend(told);
        self.schedule_soon(world);
    }

    fn give_up(&mut self, world: &mut World, flight: u64) {
        let Some(open) = self.flights.get(&flight).filter(|flight| !flight.replied) else { return };
        let lost = match open.request {
            Request::Read(_) => ReplyResult::Read(Err(wire::lost())),
            Request::Write(_) => ReplyResult::Write(Err(wire::lost())),
            Request::Find(_) => ReplyResult::Find(Err(wire::lost())),
        };
        self.reply(world, flight, lost, Vec::new());
    }

    /// The process dies and another one opens the state.
    fn die(&mut self, world: &mut World, when: &str) {
        world.say(format_args!("engine: dies {when}"));
        if world.chance(self.setting.deaths) {
            self.disk.fail_next();
        }
        self.worker = self.hire(world.now);
        self.committed(world);
        self.schedule_soon(world);
    }
}

impl Worker {
    /// A worker that reads the stream on from where the state stands.
    fn new(engine: Engine, stream: &Memory, life: u64) -> Self {
        let mut source = stream.source();
        let known = engine.positions();
        let start = |partition| Position { partition, offset: 0 };
        let at = |partition| known.iter().find(|p| p.partition == partition).copied();
        let positions: Vec<_> = (0..2).map(|partition| at(partition).unwrap_or_else(|| start(partition))).collect();
        let assigned = source.assign(&positions);
        assert!(assigned.is_ok(), "the stream lost {positions:?}: {assigned:?}");
        Self { engine, source, life, inbox: Vec::new(), telling: Vec::new() }
    }

    fn read(&mut self) -> Vec<Delivered> {
        match self.source.next(BATCH).now_or_never() {
            Some(Ok(records)) => records,
            None => Vec::new(),
            Some(Err(error)) => panic!("the stream cannot be read: {error}"),
        }
    }
}

impl Relay for Played {
    fn hint(&mut self, world: &mut World, hint: &Hint) {
        let change = wire::change(hint, world.now);
        let record = contract::encode(&change);
        let appended = record.map(|record| self.stream.append(vec![record]).now_or_never());
        assert!(matches!(appended, Ok(Some(Ok(())))), "the stream refused a change: {appended:?}");
        self.account.accepted(change.id, hint.id.crm);
        self.schedule_soon(world);
    }

    fn wake(&mut self, world: &mut World, token: u64) {
        match self.tasks.remove(&token) {
            Some(Task::Tick) if self.tick_at.is_some_and(|due| due <= world.now) => {
                self.tick_at = None;
                self.tick(world);
            }
            Some(Task::Tick) | None => {}
            Some(Task::Land(flight)) => self.land(world, flight),
            Some(Task::Answer(flight, result, told)) => self.reply(world, flight, result, told),
            Some(Task::Deadline(flight)) => self.give_up(world, flight),
            Some(Task::Person(question)) => {
                self.account.choose(question, world);
                self.schedule_soon(world);
            }
        }
    }

    fn people(&self) -> Vec<Standing> {
        self.account.people()
    }

    fn holds(&self, id: RecordId) -> bool {
        self.account.holds(id)
    }

    fn has_asked(&self) -> bool {
        self.account.has_asked()
    }
}

/// Reads are answered, or fail where writes do.
fn read_fate(world: &mut World) -> (Fate, Option<i64>) {
    let soon = world.span(&[50, SEC]);
    let rough = world.is_rough() && world.chance(FAILED_READS);
    if rough { (Fate::Never, None) } else { (Fate::Answered, Some(soon)) }
}

fn open(
    config: &RelayConfig,
    targets: &HashMap<String, Arc<dyn Target>>,
    metrics: &Metrics,
    disk: &Disk,
    stream: &Memory,
    now: i64,
) -> Result<Engine, StoreError> {
    let parts = Parts {
        config,
        targets,
        store: Box::new(disk.clone()),
        topic: &stream.topic(),
        vault: vault::vault(),
        metrics: metrics.clone(),
        seed: 7,
    };
    Engine::open_linked(parts, |_| vec![wire::link()], wire::clock(now))
}
