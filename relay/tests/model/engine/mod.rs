//! The real engine, played in the model's world: real changes over the real stream and store, calls carried out by the
//! world with the fates it draws, virtual time, and a process that dies.
//!
//! The machine around the engine is what the driver is in production: it reads the stream on from the positions, gives
//! every call an answer by its deadline and a late one after it, and opens the engine again over the same state when it
//! died; answers to calls of an earlier life are lost. Death comes at any of the three places where it matters: instead
//! of a commit, between a commit and its calls, and with calls under way. Nothing is drawn outside the world's dice.
//!
//! A strict write names the version of its guarding read; what the CRM checks is the state that read showed. A person
//! who is asked answers some time later with one of the candidates, through the command that the admin API gives.

pub mod account;
#[path = "../../support/disk.rs"]
pub mod disk;
pub mod strangers;
#[path = "../../support/vault.rs"]
pub mod vault;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::FutureExt as _;
use headgate_relay::config::RelayConfig;
use headgate_relay::conflict::By;
use headgate_relay::engine::{
    Call, CallId, Choice, Command, Engine, Input, Parts, Reply, ReplyResult, Request, Resolution, ResolveError,
    Resolved,
};
use headgate_relay::entity::fold::Rule;
use headgate_relay::entity::{About, Cause, Outcome};
use headgate_relay::metrics::Metrics;
use headgate_relay::store::{EntityId, StoreError};
use headgate_relay::target::{Target, Version};
use headgate_schemas::stream::memory::{Faults, Memory, MemoryConfig, MemorySource};
use headgate_schemas::stream::{Position, Sink as _, Source as _};
use headgate_schemas::{Change, ChangeId, Timestamp, contract};
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

use crate::dress::Dress;
use crate::real::{self, Cut};
use crate::reference::scenario::Scenario;
use crate::reference::value::{self as model, Field, Hand, Snapshot, Value};
use crate::reference::world::{DEADLINE, LATEST, Relay, Standing, World};
use account::Account;
use disk::{Disk, Shown};
use strangers::Strangers;

/// Records taken from the stream by one tick.
const BATCH: usize = 4;
/// Of 1,000 appends so many enter the log twice.
const REPEATED: u16 = 200;

/// How a run is played.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting {
    /// How often the process dies, per tick.
    pub deaths: f64,
    /// The rule that the engine goes without.
    pub without: Option<Rule>,
    /// Calls without an answer stay so: the machine around the engine breaks its promise.
    pub mute: bool,
    /// The trace shows every commit.
    pub diary: bool,
    /// How often somebody else writes the document before a tick, which the engine has in its cache.
    pub strangers: f64,
    /// How the mapping is made.
    pub cut: Cut,
    /// Answers do not tell the CRM's clock, so that all clocks are taken for ours.
    pub undated: bool,
    /// The longest run of a call that the engine is told of, where it is not the true one.
    pub longest_run: Option<i64>,
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    life: u64,
    call: CallId,
    member: usize,
    sent: i64,
    /// Whether the engine was given a reply.
    replied: bool,
}

/// What a wake-up is for.
#[derive(Clone, Copy, Debug)]
enum Timer {
    Tick,
    Deadline(u64),
}

impl Timer {
    const fn token(self) -> u64 {
        match self {
            Self::Tick => 0,
            Self::Deadline(flight) => flight + 1,
        }
    }

    const fn of(token: u64) -> Self {
        match token.checked_sub(1) {
            None => Self::Tick,
            Some(flight) => Self::Deadline(flight),
        }
    }
}

/// The real engine as a relay of the model.
pub struct Played {
    scenario: &'static Scenario,
    config: RelayConfig,
    targets: HashMap<String, Arc<dyn Target>>,
    metrics: Metrics,
    disk: Disk,
    stream: Memory,
    source: MemorySource,
    engine: Engine,
    entity: EntityId,
    setting: Setting,
    life: u64,
    flights: BTreeMap<u64, Flight>,
    inbox: Vec<(CallId, Reply)>,
    /// Who set the values of each change and of the reads in the inbox, for the judge of order.
    hands: BTreeMap<ChangeId, Vec<Hand>>,
    read_hands: Vec<Hand>,
    /// When the next tick is due, if a wake-up for it is on its way.
    tick_at: Option<i64>,
    looks: u64,
    /// Version and state of the last read of each member that was answered.
    read: BTreeMap<usize, (Version, u64)>,
    /// Questions that a person was told of.
    asked: BTreeSet<i64>,
    /// Answers that were not taken yet.
    choices: Vec<(i64, Choice)>,
    strangers: Strangers,
    account: Account,
}

impl Played {
    /// An engine that has imported every member of a world.
    pub fn new(world: &mut World, setting: Setting) -> Result<Self, StoreError> {
        let scenario = world.scenario;
        let config = wire::config(scenario, setting.longest_run.unwrap_or(LATEST));
        let names = config.connections.iter().map(|c| c.name.clone());
        let puppets = scenario.crms.iter().map(|crm| Arc::new(wire::Puppet { strict: crm.strict }) as Arc<dyn Target>);
        let targets = names.zip(puppets).collect();
        let metrics = Metrics::register(&mut Registry::default());
        let seed = world.below(usize::MAX) as u64;
        let faults = Faults { repeat: REPEATED, ..Faults::default() };
        let stream = Memory::with(MemoryConfig { partitions: 2, seed, faults, ..MemoryConfig::default() });
        let disk = Disk::new()?;
        let mut engine = open((scenario, setting.cut), &config, &targets, &metrics, &disk, &stream, 0)?;
        setting.without.into_iter().for_each(|rule| engine.forgo(rule));
        let source = stream.source();
        let account = Account::new(scenario);
        let mut played = Self {
            scenario,
            config,
            targets,
            metrics,
            disk,
            stream,
            source,
            engine,
            entity: 0,
            setting,
            life: 0,
            flights: BTreeMap::new(),
            inbox: Vec::new(),
            hands: BTreeMap::new(),
            read_hands: Vec::new(),
            tick_at: None,
            looks: 0,
            read: BTreeMap::new(),
            asked: BTreeSet::new(),
            choices: Vec::new(),
            strangers: Strangers::default(),
            account,
        };
        played.import(world)?;
        Ok(played)
    }

    /// The entity stands in the state before the run. Where clocks are wrong every record is read once more, so that
    /// the clocks are known as they are after any real import.
    fn import(&mut self, world: &mut World) -> Result<(), StoreError> {
        let mut entity = real::entity_cut(world.scenario, &world.crms, wire::MICROS, self.setting.cut);
        if self.scenario.crms.iter().any(|crm| crm.skew != 0) {
            entity.members.iter_mut().for_each(|member| member.need_read(wire::MICROS.zero));
        }
        self.entity = self.engine.adopt(entity, wire::clock(0))?;
        self.read_on();
        self.schedule(world, 0);
        Ok(())
    }

    /// What is wrong with the bookkeeping, first fault first.
    pub fn fault(&mut self) -> Option<String> {
        self.account.at_rest(&self.engine);
        self.look_for_marks();
        self.account.fault().map(str::to_owned)
    }

    /// The decision log: how often each rule came to each ruling.
    pub const fn decided(&self) -> &BTreeMap<(String, String), u32> {
        self.account.decided()
    }

    /// How changes ended.
    pub const fn ways(&self) -> &BTreeMap<Outcome, u32> {
        self.account.ways()
    }

    /// Documents that somebody else wrote, and ticks that were refused because of it.
    pub const fn strangers(&self) -> (u64, u64) {
        self.strangers.counts()
    }

    /// How often the process died.
    pub const fn lives(&self) -> u64 {
        self.life
    }

    /// Reads the stream from where the state stands.
    fn read_on(&mut self) {
        let known = self.engine.positions();
        let start = |partition| Position { partition, offset: 0 };
        let at = |partition| known.iter().find(|p| p.partition == partition).copied();
        let positions: Vec<_> = (0..2).map(|partition| at(partition).unwrap_or_else(|| start(partition))).collect();
        let assigned = self.source.assign(&positions);
        assert!(assigned.is_ok(), "the stream lost {positions:?}: {assigned:?}");
    }

    fn publish(&mut self, change: &Change) {
        let record = contract::encode(change);
        let appended = record.map(|record| self.stream.append(vec![record]).now_or_never());
        assert!(matches!(appended, Ok(Some(Ok(())))), "the stream refused a change: {appended:?}");
        self.account.accepted(change.id, &change.source.connection);
    }

    fn schedule(&mut self, world: &mut World, at: i64) {
        let at = at.max(world.now);
        if self.tick_at.is_none_or(|due| due > at) {
            self.tick_at = Some(at);
            world.wake(at, Timer::Tick.token());
        }
    }

    /// As the driver does: soon, and under load or with a machine that stutters much later.
    fn schedule_soon(&mut self, world: &mut World) {
        let delay = world.span(world.scenario.send_delay);
        self.schedule(world, world.now + delay);
    }

    fn tick(&mut self, world: &mut World) {
        let now = wire::clock(world.now);
        let records = match self.source.next(BATCH).now_or_never() {
            Some(Ok(records)) => records,
            None => Vec::new(),
            Some(Err(error)) => panic!("the stream cannot be read: {error}"),
        };
        let more = records.len() == BATCH;
        let changes = records.iter().filter_map(|delivered| contract::decode(&delivered.record).ok());
        let hands = changes.filter_map(|change| self.hands.get(&change.id)).flatten().copied();
        let hands: Vec<Hand> = hands.chain(std::mem::take(&mut self.read_hands)).collect();
        hands.iter().for_each(|hand| world.note(*hand));
        world.tell(hands);
        if world.chance(self.setting.deaths / 3.0) {
            self.disk.fail_next();
        }
        self.meddle(world);
        let replies = std::mem::take(&mut self.inbox);
        let idle = replies.is_empty() && records.is_empty();
        let (commands, told): (Vec<_>, Vec<_>) = self.choices.iter().cloned().map(answer).unzip();
        let idle = idle && commands.is_empty();
        let input = Input { replies, records, commands };
        let calls = match self.engine.tick(now, input) {
            Ok(calls) => calls,
            Err(error) => {
                self.strangers.overtook(&error);
                return self.die(world, "instead of a commit");
            }
        };
        self.choices.clear();
        for mut told in told {
            let result = told.try_recv();
            self.account.expect(matches!(result, Ok(Ok(_))), || format!("a choice was not taken: {result:?}"));
        }
        self.committed(world);
        self.ask(world);
        let idle = idle && calls.is_empty();
        self.account.expect(!idle || self.engine.next_tick(now).is_none_or(|at| at > now), || {
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
        if more {
            self.schedule(world, world.now);
        }
        if let Some(at) = self.engine.next_tick(now) {
            self.schedule(world, wire::moment(at));
        }
    }

    fn committed(&mut self, world: &mut World) {
        for unit in self.disk.committed() {
            world.say(format_args!("engine: {}", Shown(&unit)));
            self.account.committed(&unit);
        }
        self.account.after_tick(&mut self.engine, self.entity);
    }

    fn make(&mut self, world: &mut World, call: Call) {
        world.say(format_args!("engine: {call:?}"));
        let member = call.connection as usize - 1;
        let token = self.flights.len() as u64;
        let (life, sent) = (self.life, world.now);
        self.flights.insert(token, Flight { life, call: call.id, member, sent, replied: false });
        match call.request {
            Request::Read(_) => world.read(member, token),
            Request::Write(write) => {
                let values = wire::written(&write, self.scenario, self.setting.cut, &world.crms[member]);
                let precondition = wire::precondition(&write).map(|named| match self.read.get(&member) {
                    Some((version, state)) if *version == named => *state,
                    read => panic!("a write names {named:?}, the last read was {read:?}"),
                });
                world.write(member, &values, precondition, token);
                world.wake(world.now + DEADLINE, Timer::Deadline(token).token());
            }
            Request::Find(find) => panic!("the one record stands everywhere already, and yet: {find:?}"),
        }
    }

    /// Tells a person of the questions that are new, where the policy asks one.
    fn ask(&mut self, world: &mut World) {
        let Some(entity) = self.account.entity() else { return };
        for question in &entity.questions {
            let About::Field { name, cause } = &question.about else { continue };
            if *cause == Cause::Policy && self.asked.insert(question.id) {
                let field = real::fields(self.scenario).into_iter().find(|field| real::name(*field) == &**name);
                field.into_iter().for_each(|field| world.ask_person(field));
            }
        }
    }

    /// The process dies and another one opens the state. Opening may die, too.
    fn die(&mut self, world: &mut World, when: &str) {
        world.say(format_args!("engine: dies {when}"));
        if world.chance(self.setting.deaths) {
            self.disk.fail_next();
        }
        let now = world.now;
        loop {
            self.life += 1;
            let Self { scenario, setting, config, targets, metrics, disk, stream, .. } = self;
            match open((*scenario, setting.cut), config, targets, metrics, disk, stream, now) {
                Ok(mut engine) => {
                    self.setting.without.into_iter().for_each(|rule| engine.forgo(rule));
                    let before = std::mem::replace(&mut self.engine, engine);
                    self.wake_the_dead(before);
                    break;
                }
                Err(StoreError::InUse { .. }) => {}
                Err(error) => panic!("the state cannot be opened again: {error}"),
            }
        }
        self.committed(world);
        self.ask(world);
        self.inbox.clear();
        self.read_hands.clear();
        self.read_on();
        self.schedule_soon(world);
    }

    /// What the `Date` header of an answer says.
    fn date(&self, member: usize, now: i64) -> Option<Timestamp> {
        wire::date(self.scenario, member, now).filter(|_| !self.setting.undated)
    }

    /// Gives the engine a reply to a call of this life.
    fn reply(&mut self, world: &mut World, token: u64, result: ReplyResult) {
        let now = world.now;
        let Some(flight) = self.flights.get_mut(&token).filter(|flight| flight.life == self.life) else { return };
        flight.replied = true;
        let reply = Reply { sent: wire::clock(flight.sent), answered: wire::clock(now), result };
        self.inbox.push((flight.call, reply));
        self.schedule_soon(world);
    }
}

impl Relay for Played {
    fn accept(&mut self, world: &mut World, change: &model::Change) {
        self.hands.insert(wire::id(change), change.hands());
        self.publish(&wire::change(change, self.setting.cut.dress, world.now));
        self.schedule_soon(world);
    }

    fn wake(&mut self, world: &mut World, token: u64) {
        match Timer::of(token) {
            Timer::Tick if self.tick_at.is_some_and(|due| due <= world.now) => {
                self.tick_at = None;
                self.tick(world);
            }
            Timer::Tick => {}
            Timer::Deadline(flight) => {
                if !self.setting.mute && self.flights.get(&flight).is_some_and(|flight| !flight.replied) {
                    self.reply(world, flight, ReplyResult::Write(Err(wire::lost())));
                }
            }
        }
    }

    fn read_answered(&mut self, world: &mut World, token: u64, answer: Option<&Snapshot>) {
        let Some(&Flight { member, life, .. }) = self.flights.get(&token) else { return };
        let result = match answer {
            Some(snapshot) => {
                // An answer to a process that died reaches nobody.
                if life == self.life {
                    self.read_hands.extend(snapshot.hands());
                    self.read.insert(member, (wire::version(snapshot.version), snapshot.etag));
                }
                wire::read(member, snapshot, self.setting.cut.dress, self.date(member, snapshot.asked))
            }
            None => ReplyResult::Read(Err(wire::failed(world.below(3)))),
        };
        self.reply(world, token, result);
    }

    fn write_answered(&mut self, world: &mut World, token: u64, answer: &model::Answer) {
        let Some(member) = self.flights.get(&token).map(|flight| flight.member) else { return };
        let result = wire::answer(member, answer, self.setting.cut.dress, self.date(member, world.now));
        self.reply(world, token, result);
    }

    fn reconcile(&mut self, world: &mut World, member: usize) {
        self.looks += 1;
        self.publish(&wire::look(member, self.looks, world.now));
        self.schedule_soon(world);
    }

    fn resolve(&mut self, world: &mut World, field: Field) {
        let Some(entity) = self.account.entity() else { return };
        let Some(place) = entity.field_named(real::name(field)) else { return };
        let Some(question) = entity.question_of(place) else { return };
        let candidates = entity.fields[place].held.as_deref().unwrap_or_default();
        let choice = match candidates[world.below(candidates.len())].by {
            By::Member(connection) => Choice::Member(wire::connection_name(connection as usize - 1)),
            By::Person => Choice::Kept,
        };
        self.choices.push((entity.questions[question].id, choice));
        self.schedule_soon(world);
    }

    fn standing(&self, field: Field) -> Standing {
        let entity = self.account.entity();
        let of = |name: &str| entity.and_then(|entity| entity.fields.get(entity.field_named(name)?));
        if let (Field::G, [Some(first), Some(second)]) = (field, ["g_first", "g_second"].map(of)) {
            // Its columns are fields of their own.
            let [first, second] = [first, second].map(|column| Dress::Plain.letter(&column.value));
            return Standing { value: Value::Pair(first, second), held: false };
        }
        let known = of(real::name(field));
        Standing {
            value: known.map_or_else(|| Value::initial(field), |known| self.setting.cut.dress.letters(&known.value)),
            held: known.is_some_and(|known| known.held.is_some()),
        }
    }

    fn kept(&self, member: usize, field: Field) -> Option<Value> {
        let entity = self.account.entity()?;
        let cell = entity.cell(entity.field_named(real::name(field))?, member)?;
        cell.kept.then(|| self.setting.cut.dress.letters(&cell.shown))
    }

    fn is_open(&self) -> bool {
        self.account.is_open()
    }
}

/// A person's answer as a command.
fn answer((id, choice): (i64, Choice)) -> (Command, oneshot::Receiver<Result<Resolved, ResolveError>>) {
    let (done, told) = oneshot::channel();
    (Command::Resolve(Resolution { id, edition: None, choice, by: "a person".to_owned(), done }), told)
}

fn open(
    (scenario, cut): (&Scenario, Cut),
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
    Engine::open_linked(parts, |_| vec![real::link_cut(scenario, cut)], wire::clock(now))
}
