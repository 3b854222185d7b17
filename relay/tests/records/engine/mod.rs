//! The real engine in the world of records: real changes over the real stream and store, calls carried out by the
//! shelves with the fates the world draws, virtual time, and a process that dies.
//!
//! The machine around the engine is what the driver is in production: it reads the stream on from the positions, gives
//! every call an answer by its deadline and a late one after it, and opens the engine again over the same state when it
//! died; answers to calls of an earlier life are lost. Death comes at any of the three places where it matters: instead
//! of a commit, between a commit and its calls, and with calls under way. The people of the beginning are made through
//! the front door, in calm weather. Nothing is drawn outside the world's dice.
//!
//! *Rivals* are two workers on one state that divide the stream and act as the dice say, in turn, or one of them between
//! what the other one read and its commit: both fold into the same entities, each knows only what it read. Now and then
//! one of them is held up, before a tick or between a commit and its calls, and often for longer than its lease; or it
//! leaves in good order, and another one comes. Whoever is left reads everything.

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
/// How often a rival is held up, per tick and before its calls, and for how long: a lease is half a minute.
const HELD_UP: f64 = 0.03;
const HOLD_UP: &[i64] = &[SEC, MIN, 15 * MIN];
/// How often a tick of one rival falls into one of the other, and how often one leaves in good order.
const BETWEEN: f64 = 0.2;
const LEAVES: f64 = 0.01;
/// Between two looks of a rival that found nothing.
const IDLE: i64 = 5 * SEC;
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
    /// Two workers have the state at once.
    pub rivals: bool,
    /// The state does not check the version of an entity whose work rows alone change.
    pub careless: bool,
    /// Calls are made however late it is: the machine around the engine breaks its promise.
    pub overdue: bool,
}

/// An engine over the state, with its place in the stream and the answers that wait for it.
struct Worker {
    /// Not here while it waits with its commit.
    engine: Option<Engine>,
    source: MemorySource,
    /// The edition of its part that it reads, and what it read ahead.
    edition: u64,
    ahead: Vec<Delivered>,
    /// Answers to calls of other lives are not for it.
    life: u64,
    inbox: Vec<(CallId, Reply)>,
    /// Versions that the replies in the inbox tell.
    telling: Vec<(RecordId, i64)>,
    tick_at: Option<i64>,
    /// Nothing of it goes on until then.
    held_until: i64,
}

/// What the machine is to do at a moment it asked for.
#[derive(Clone, Debug)]
enum Task {
    /// Of this worker.
    Tick(usize),
    /// A worker was held up before its call.
    Make(u64, Call),
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
    workers: Vec<Worker>,
    setting: Setting,
    /// Never counted anew: by its number an answer finds the life that asked.
    lives: u64,
    tasks: BTreeMap<u64, Task>,
    flights: BTreeMap<u64, Flight>,
    /// Tasks and flights are numbered together.
    next: u64,
    account: Account,
}

impl Played {
    /// An engine over an empty state.
    pub fn new(world: &mut World, setting: Setting) -> Result<Self, StoreError> {
        let config = wire::config();
        let puppet = wire::Puppet { conditional: world.scenario.strict };
        let names = config.connections.iter().map(|c| c.name.clone());
        let targets = names.map(|name| (name, Arc::new(puppet) as Arc<dyn Target>)).collect();
        let metrics = Metrics::register(&mut Registry::default());
        let seed = world.below(usize::MAX) as u64;
        let faults = Faults { repeat: REPEATED, ..Faults::default() };
        let stream = Memory::with(MemoryConfig { partitions: 2, seed, faults, ..MemoryConfig::default() });
        let disk = if setting.rivals { Disk::shared()? } else { Disk::new()? };
        let mut played = Self {
            config,
            targets,
            metrics,
            disk,
            stream,
            workers: Vec::new(),
            setting: Setting { rivals: setting.rivals, ..Setting::default() },
            lives: 0,
            tasks: BTreeMap::new(),
            flights: BTreeMap::new(),
            next: 0,
            account: Account::default(),
        };
        for _ in 0..=usize::from(setting.rivals) {
            let worker = played.hire(0);
            played.workers.push(worker);
        }
        Ok(played)
    }

    /// The calm is over.
    pub fn begin(&mut self, setting: Setting) {
        self.setting = setting;
        for worker in &mut self.workers {
            setting.without.into_iter().for_each(|rule| worker.engine().forgo(rule));
        }
        if setting.careless {
            self.disk.be_careless();
        }
    }

    /// What is wrong with the bookkeeping, first fault first. It is the next process that finds what was left.
    pub fn fault(&mut self, now: i64) -> Option<String> {
        // Long after, so that no lease holds of those that rest.
        let mut next = self.hire(now + 24 * 60 * MIN);
        self.account.after_tick(next.engine(), true);
        if self.setting.rivals {
            // Another one counts afresh what is open.
            let shared = self.disk.become_shared();
            assert!(shared.is_ok(), "the state cannot be shared again: {shared:?}");
            next = self.hire(now + 2 * 24 * 60 * MIN);
            self.account.after_tick(next.engine(), true);
        }
        self.account.at_rest(next.engine());
        self.account.fault().map(str::to_owned)
    }

    /// How often a process died.
    pub const fn deaths(&self) -> u64 {
        self.lives - self.workers.len() as u64
    }

    /// Another process opens the state, in the place of one that died. Opening may die, too.
    fn hire(&mut self, now: i64) -> Worker {
        loop {
            self.lives += 1;
            let Self { config, targets, metrics, disk, stream, .. } = self;
            match open(config, targets, metrics, disk, stream, (self.lives, now)) {
                Ok(mut engine) => {
                    self.setting.without.into_iter().for_each(|rule| engine.forgo(rule));
                    return Worker::new(engine, &self.stream, self.lives, now);
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

    fn schedule(&mut self, world: &mut World, place: usize, at: i64) {
        let at = at.max(world.now);
        if self.workers[place].tick_at.is_none_or(|due| due > at) {
            self.workers[place].tick_at = Some(at);
            self.later(world, at - world.now, Task::Tick(place));
        }
    }

    fn schedule_soon(&mut self, world: &mut World, place: usize) {
        let delay = world.span(SOON) + self.hold_up(world);
        self.schedule(world, place, world.now + delay);
    }

    fn schedule_all_soon(&mut self, world: &mut World) {
        (0..self.workers.len()).for_each(|place| self.schedule_soon(world, place));
    }

    /// How long a rival is held up.
    fn hold_up(&self, world: &mut World) -> i64 {
        let held_up = self.setting.rivals && !world.is_calm() && world.chance(HELD_UP);
        if held_up { world.span(HOLD_UP) } else { 0 }
    }

    fn tick(&mut self, world: &mut World, place: usize) {
        let now = wire::clock(world.now);
        let records = self.workers[place].read();
        let worker = &mut self.workers[place];
        let (replies, telling) = (std::mem::take(&mut worker.inbox), std::mem::take(&mut worker.telling));
        let (commands, answered) = self.account.answers();
        let idle = replies.is_empty() && records.is_empty() && commands.is_empty();
        // Whoever comes after one that died looks often whether anything was left: these looks are to end.
        let deaths = self.setting.deaths / if idle && self.setting.rivals { 30.0 } else { 3.0 };
        if world.chance(deaths) {
            self.disk.fail_next();
        }
        let calls = match self.turn(world, place, Input { replies, records, commands }) {
            Ok(calls) => calls,
            Err(StoreError::InUse { .. }) => return self.die(world, place, "instead of a commit"),
            Err(StoreError::LeaseLost { .. }) if self.setting.rivals => return self.die(world, place, "by its lease"),
            Err(error) => panic!("at {}: {error}", world.now),
        };
        self.account.answered(answered);
        self.committed(world, place);
        telling.into_iter().for_each(|(id, at)| world.tell(id, at));
        let idle = idle && calls.is_empty();
        self.workers[place].read_there();
        let next = self.workers[place].engine().next_tick(now);
        self.account.expect(!idle || next.is_none_or(|at| at > now), || {
            format!("at {} the engine had nothing to do and wants another tick at once", world.now)
        });
        if world.chance(deaths) {
            return self.die(world, place, "before its calls");
        }
        let life = self.workers[place].life;
        let delay = if calls.is_empty() { 0 } else { self.hold_up(world) };
        self.workers[place].held_until = world.now + delay;
        for call in calls {
            match delay {
                0 => self.make(world, life, call),
                _ => self.later(world, delay, Task::Make(life, call)),
            }
        }
        if world.chance(deaths) {
            return self.die(world, place, "with calls under way");
        }
        self.ask(world);
        if !self.workers[place].ahead.is_empty() {
            self.schedule(world, place, world.now);
        }
        if !idle && self.leaves(world, place) {
            return self.die(world, place, "in good order");
        }
        // A rival would look for what others leave for ever.
        if let Some(at) = next.filter(|_| !self.setting.rivals || self.disk.waits(now)) {
            // Somebody who finds nothing looks again later than it might, so that a run has no more steps than it needs.
            let later = if idle && self.setting.rivals { world.now + IDLE } else { world.now };
            self.schedule(world, place, wire::moment(at).max(later));
        }
    }

    /// One tick of a worker, and now and then one of its rival between what it reads and its commit.
    fn turn(&mut self, world: &mut World, place: usize, input: Input) -> Result<Vec<Call>, StoreError> {
        let now = wire::clock(world.now);
        let rival = 1 - place.min(1);
        let is_there = |worker: &Worker| worker.engine.is_some() && worker.held_until < world.now;
        let comes_between = self.setting.rivals && !world.is_calm() && is_there(&self.workers[rival]);
        if !comes_between || !world.chance(BETWEEN) {
            return self.workers[place].engine().tick(now, input);
        }
        let Some(mut engine) = self.workers[place].engine.take() else { panic!("worker {place} ticks twice") };
        let disk = self.disk.clone();
        let ticked = disk.between(
            engine.held().epoch,
            || (engine.tick(now, input), engine),
            || {
                world.say(format_args!("engine {place}: is about to commit"));
                self.tick(world, rival);
            },
        );
        self.workers[place].engine = Some(ticked.1);
        ticked.0
    }

    /// Whether a rival with nothing under way leaves; if so it has left.
    fn leaves(&mut self, world: &mut World, place: usize) -> bool {
        let engine = self.workers[place].engine();
        let may = self.setting.rivals && !world.is_calm() && engine.calls_open() == 0;
        let leaves = may && world.chance(LEAVES);
        if leaves {
            assert!(engine.leave().is_ok(), "the state refused that a worker leaves");
        }
        leaves
    }

    /// People look at what they are asked, some time later.
    fn ask(&mut self, world: &mut World) {
        let questions = if self.setting.answers { self.account.new_questions() } else { Vec::new() };
        for question in questions {
            let delay = world.span(&[MIN, 60 * MIN]);
            self.later(world, delay, Task::Person(question));
        }
    }

    fn committed(&mut self, world: &mut World, place: usize) {
        for unit in self.disk.committed() {
            world.say(format_args!("engine {place}: {}", Shown(&unit)));
            self.account.committed(&unit, self.workers[place].engine());
        }
        self.account.after_tick(self.workers[place].engine(), !self.setting.rivals);
    }

    /// Makes a call, unless its worker was held up for too long.
    fn make(&mut self, world: &mut World, life: u64, call: Call) {
        world.say(format_args!("engine: {call:?}"));
        if !self.setting.overdue && call.not_after.is_some_and(|last| wire::clock(world.now) > last) {
            let now = wire::clock(world.now);
            let reply = Reply { sent: now, answered: now, result: call.request.not_made() };
            return self.give(world, life, call.id, reply, Vec::new());
        }
        let (fate, lands) = match &call.request {
            Request::Write(write) => {
                self.account.sent(call.connection, write);
                world.fate()
            }
            Request::Read(_) | Request::Find(_) => read_fate(world),
        };
        self.next += 1;
        let (flight, sent) = (self.next, world.now);
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
            Request::Write(_) if fate == Fate::Refused => (ReplyResult::Write(Err(wire::busy())), Vec::new()),
            Request::Write(call) => (wire::write(world, crm, &call), Vec::new()),
            Request::Find(call) => (wire::find(world, crm, &call), Vec::new()),
        };
        if matches!(fate, Fate::Answered | Fate::Refused) {
            let delay = world.span(&[50, SEC]);
            self.later(world, delay, Task::Answer(flight, result, told));
        }
    }

    /// Gives the engine a reply to a call of this life.
    fn reply(&mut self, world: &mut World, flight: u64, result: ReplyResult, told: Vec<(RecordId, i64)>) {
        let now = world.now;
        let Some(flight) = self.flights.get_mut(&flight) else { return };
        flight.replied = true;
        let reply = Reply { sent: wire::clock(flight.sent), answered: wire::clock(now), result };
        let (life, call) = (flight.life, flight.call);
        self.give(world, life, call, reply, told);
    }

    /// Gives a reply to the worker that made the call, if it still lives.
    fn give(&mut self, world: &mut World, life: u64, call: CallId, reply: Reply, told: Vec<(RecordId, i64)>) {
        let Some(place) = self.workers.iter().position(|worker| worker.life == life) else { return };
        self.workers[place].inbox.push((call, reply));
        self.workers[place].telling.extend(told);
        self.schedule_soon(world, place);
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
    fn die(&mut self, world: &mut World, place: usize, when: &str) {
        world.say(format_args!("engine {place}: dies {when}"));
        if world.chance(self.setting.deaths) {
            self.disk.fail_next();
        }
        let (tick_at, hired) = (self.workers[place].tick_at, self.hire(world.now));
        self.workers[place] = Worker { tick_at, ..hired };
        self.committed(world, place);
        self.schedule_soon(world, place);
    }
}

impl Worker {
    /// A worker that reads the stream on from where the state stands: its part, where another one works, too.
    fn new(mut engine: Engine, stream: &Memory, life: u64, now: i64) -> Self {
        let now = wire::clock(now);
        let joined = if engine.is_shared() { engine.join_division(now) } else { engine.take_partitions(&[0, 1], now) };
        assert!(joined.is_ok(), "no part of the stream was given: {joined:?}");
        let mut worker = Self {
            engine: Some(engine),
            source: stream.source(),
            edition: 0,
            ahead: Vec::new(),
            life,
            inbox: Vec::new(),
            telling: Vec::new(),
            tick_at: None,
            held_until: i64::MIN,
        };
        worker.read_there();
        worker
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap_or_else(|| panic!("the engine of life {} waits with its commit", self.life))
    }

    /// Reads the engine's part, if that is another one than before: what was read ahead of the earlier one is dropped.
    fn read_there(&mut self) {
        let engine = self.engine();
        let (edition, Some(parts)) = engine.reads() else { panic!("it reads no part of the stream") };
        let known = engine.positions();
        let at = |partition| known.iter().find(|p| p.partition == partition).copied();
        let positions: Vec<_> = parts.iter().map(|&p| at(p).unwrap_or(Position { partition: p, offset: 0 })).collect();
        if edition != self.edition {
            (self.edition, self.ahead) = (edition, Vec::new());
            let assigned = self.source.assign(&positions);
            assert!(assigned.is_ok(), "the stream lost {positions:?}: {assigned:?}");
        }
    }

    /// The next records, while those after them are fetched already.
    fn read(&mut self) -> Vec<Delivered> {
        let records = if self.ahead.is_empty() { self.fetch() } else { std::mem::take(&mut self.ahead) };
        self.ahead = self.fetch();
        records
    }

    fn fetch(&mut self) -> Vec<Delivered> {
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
        self.schedule_all_soon(world);
    }

    fn wake(&mut self, world: &mut World, token: u64) {
        match self.tasks.remove(&token) {
            Some(Task::Tick(place)) if self.workers[place].tick_at.is_some_and(|due| due <= world.now) => {
                self.workers[place].tick_at = None;
                match self.workers[place].held_until {
                    // Its calls first: it does not know how late it is.
                    until if world.now < until => self.schedule(world, place, until + 1),
                    _ => self.tick(world, place),
                }
            }
            Some(Task::Tick(_)) | None => {}
            Some(Task::Make(life, call)) => {
                // Held up was the process: what it had not done when it died is never done.
                if self.workers.iter().any(|worker| worker.life == life) {
                    self.make(world, life, call);
                }
            }
            Some(Task::Land(flight)) => self.land(world, flight),
            Some(Task::Answer(flight, result, told)) => self.reply(world, flight, result, told),
            Some(Task::Deadline(flight)) => self.give_up(world, flight),
            Some(Task::Person(question)) => {
                self.account.choose(question, world);
                self.schedule_all_soon(world);
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
    (life, now): (u64, i64),
) -> Result<Engine, StoreError> {
    let parts = Parts {
        config,
        targets,
        store: Box::new(disk.clone()),
        topic: &stream.topic(),
        vault: vault::vault(),
        metrics: metrics.clone(),
        // Two lives must not make the same ids.
        seed: life,
    };
    Engine::open_linked(parts, |_| vec![wire::link()], wire::clock(now))
}
