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
pub mod workers;

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
use headgate_relay::target::Target;
use headgate_schemas::stream::Sink as _;
use headgate_schemas::stream::memory::{Faults, Memory, MemoryConfig};
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
use workers::{PARTITIONS, Worker};

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
    /// Two workers have the state at once.
    pub rivals: bool,
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
    /// Of the worker in this place.
    Tick(usize),
    Deadline(u64),
    /// A call that its worker did not make at once.
    Make(u64),
}

impl Timer {
    const fn token(self) -> u64 {
        match self {
            Self::Tick(place) => 3 * place as u64,
            Self::Deadline(flight) => 3 * flight + 1,
            Self::Make(call) => 3 * call + 2,
        }
    }

    const fn of(token: u64) -> Self {
        match token % 3 {
            0 => Self::Tick((token / 3) as usize),
            1 => Self::Deadline(token / 3),
            _ => Self::Make(token / 3),
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
    workers: Vec<Worker>,
    entity: EntityId,
    setting: Setting,
    /// Never counted anew: by its number an answer finds the life that asked.
    lives: u64,
    flights: BTreeMap<u64, Flight>,
    /// Calls whose worker stood still before it made them, with its life.
    held_up: BTreeMap<u64, (u64, Call)>,
    /// Who set the values of each change, for the judge of order.
    hands: BTreeMap<ChangeId, Vec<Hand>>,
    looks: u64,
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
        let stream = Memory::with(MemoryConfig { partitions: PARTITIONS, seed, faults, ..MemoryConfig::default() });
        let disk = if setting.rivals { Disk::shared()? } else { Disk::new()? };
        let account = Account::new(scenario);
        let mut played = Self {
            scenario,
            config,
            targets,
            metrics,
            disk,
            stream,
            workers: Vec::new(),
            entity: 0,
            setting,
            lives: 0,
            flights: BTreeMap::new(),
            held_up: BTreeMap::new(),
            hands: BTreeMap::new(),
            looks: 0,
            asked: BTreeSet::new(),
            choices: Vec::new(),
            strangers: Strangers::default(),
            account,
        };
        for place in 0..=usize::from(setting.rivals) {
            let worker = played.hire(place, 0);
            played.workers.push(worker);
        }
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
        self.entity = self.workers[0].engine.adopt(entity, wire::clock(0))?;
        (0..self.workers.len()).for_each(|place| self.schedule(world, place, 0));
        Ok(())
    }

    /// What is wrong with the bookkeeping, first fault first. Of rivals it is the next process that finds what they left:
    /// one that reads what they added up, and one that counts it afresh.
    pub fn fault(&mut self, now: i64) -> Option<String> {
        if self.setting.rivals {
            let next = self.hire_at_last(now);
            self.workers = vec![next];
            self.account.after_tick(&mut self.workers[0].engine, self.entity, true);
            let shared = self.disk.become_shared();
            assert!(shared.is_ok(), "the state cannot be shared anew: {shared:?}");
            let lease_is_over = wire::moment(self.workers[0].engine.held().until);
            let next = self.hire_at_last(lease_is_over);
            self.workers = vec![next];
            self.account.after_tick(&mut self.workers[0].engine, self.entity, true);
        }
        self.account.at_rest(&self.workers[0].engine);
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

    /// How often a process died.
    pub const fn deaths(&self) -> u64 {
        self.lives - self.workers.len() as u64
    }

    fn publish(&mut self, change: &Change) {
        let record = contract::encode(change);
        let appended = record.map(|record| self.stream.append(vec![record]).now_or_never());
        assert!(matches!(appended, Ok(Some(Ok(())))), "the stream refused a change: {appended:?}");
        self.account.accepted(change.id, &change.source.connection);
    }

    fn tick(&mut self, world: &mut World, place: usize) {
        let now = wire::clock(world.now);
        let records = self.workers[place].take_records();
        let more = records.len() == BATCH;
        let changes = records.iter().filter_map(|delivered| contract::decode(&delivered.record).ok());
        let hands = changes.filter_map(|change| self.hands.get(&change.id)).flatten().copied();
        let hands: Vec<Hand> = hands.chain(std::mem::take(&mut self.workers[place].read_hands)).collect();
        hands.iter().for_each(|hand| world.note(*hand));
        world.tell(hands);
        if world.chance(self.setting.deaths / 3.0) {
            self.disk.fail_next();
        }
        self.meddle(world);
        let replies = std::mem::take(&mut self.workers[place].inbox);
        let idle = replies.is_empty() && records.is_empty();
        let (commands, told): (Vec<_>, Vec<_>) = self.choices.iter().cloned().map(answer).unzip();
        let idle = idle && commands.is_empty();
        let input = Input { replies, records, commands };
        let calls = match self.workers[place].engine.tick(now, input) {
            Ok(calls) => calls,
            Err(error) => {
                self.strangers.overtook(&error);
                return self.die(world, place, "instead of a commit");
            }
        };
        self.told(told);
        self.committed(world, place);
        self.ask(world);
        let idle = idle && calls.is_empty();
        let next = self.workers[place].engine.next_tick(now);
        self.account.expect(!idle || next.is_none_or(|at| at > now), || {
            format!("at {} the engine had nothing to do and wants another tick at once", world.now)
        });
        if world.chance(self.setting.deaths / 3.0) {
            return self.die(world, place, "before its calls");
        }
        self.make_all(world, place, calls);
        if world.chance(self.setting.deaths / 3.0) {
            return self.die(world, place, "with calls under way");
        }
        if more {
            self.schedule(world, place, world.now);
        }
        // A rival would look for what others leave for ever.
        if let Some(at) = next.filter(|_| !self.setting.rivals || self.disk.waits(now)) {
            self.schedule(world, place, wire::moment(at));
        }
    }

    /// What became of the answers that a tick was given. Only a call under way is a reason to answer again; beside a
    /// rival the question may have ended, too.
    fn told(&mut self, told: Vec<(i64, oneshot::Receiver<Result<Resolved, ResolveError>>)>) {
        let rivals = self.setting.rivals;
        for (id, mut told) in told {
            match told.try_recv() {
                Ok(Err(ResolveError::Busy)) if rivals => {}
                Ok(Err(ResolveError::Ended { .. })) if rivals => self.choices.retain(|(choice, _)| *choice != id),
                result => {
                    self.choices.retain(|(choice, _)| *choice != id);
                    let taken = matches!(result, Ok(Ok(_)));
                    self.account.expect(taken, || format!("a choice was not taken: {result:?}"));
                }
            }
        }
    }

    fn committed(&mut self, world: &mut World, place: usize) {
        for unit in self.disk.committed() {
            world.say(format_args!("engine {place}: {}", Shown(&unit)));
            self.account.committed(&unit);
        }
        self.account.after_tick(&mut self.workers[place].engine, self.entity, !self.setting.rivals);
    }

    /// Makes the calls of a tick, unless the worker stands still before it has made them.
    fn make_all(&mut self, world: &mut World, place: usize, calls: Vec<Call>) {
        let life = self.workers[place].life;
        let delay = if calls.is_empty() { 0 } else { self.hold_up(world) };
        self.workers[place].held_until = world.now + delay;
        for call in calls {
            if delay == 0 {
                self.make(world, life, call);
                continue;
            }
            let token = self.held_up.len() as u64;
            self.held_up.insert(token, (life, call));
            world.wake(world.now + delay, Timer::Make(token).token());
        }
    }

    /// Makes a call that its worker stood still before. What it had not done when it died is never done, and what is too
    /// late is not done either.
    fn make_late(&mut self, world: &mut World, token: u64) {
        let Some((life, call)) = self.held_up.get(&token).cloned() else { return };
        let Some(place) = self.living(life) else { return };
        let now = wire::clock(world.now);
        if call.not_after.is_some_and(|last| now > last) {
            let reply = Reply { sent: now, answered: now, result: call.request.not_made() };
            self.workers[place].inbox.push((call.id, reply));
            return self.schedule_soon(world, place);
        }
        self.make(world, life, call);
    }

    fn make(&mut self, world: &mut World, life: u64, call: Call) {
        world.say(format_args!("engine: {call:?}"));
        let member = call.connection as usize - 1;
        let token = self.flights.len() as u64;
        let sent = world.now;
        self.flights.insert(token, Flight { life, call: call.id, member, sent, replied: false });
        match call.request {
            Request::Read(_) => world.read(member, token),
            Request::Write(write) => {
                let values = wire::written(&write, self.scenario, self.setting.cut, &world.crms[member]);
                self.account.sent(call.connection, &write);
                let read = self.living(life).and_then(|place| self.workers[place].read.get(&member).copied());
                let precondition = wire::precondition(&write).map(|named| match read {
                    Some((version, state)) if version == named => state,
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

    /// The process dies and another one opens the state.
    fn die(&mut self, world: &mut World, place: usize, when: &str) {
        world.say(format_args!("engine {place}: dies {when}"));
        if world.chance(self.setting.deaths) {
            self.disk.fail_next();
        }
        let (tick_at, hired) = (self.workers[place].tick_at, self.hire(place, world.now));
        let before = std::mem::replace(&mut self.workers[place], Worker { tick_at, ..hired });
        if !self.setting.rivals {
            self.wake_the_dead(before.engine);
        }
        self.committed(world, place);
        self.ask(world);
        self.schedule_soon(world, place);
    }

    /// What the `Date` header of an answer says.
    fn date(&self, member: usize, now: i64) -> Option<Timestamp> {
        wire::date(self.scenario, member, now).filter(|_| !self.setting.undated)
    }

    /// Gives a reply to the worker that made the call, if it still lives.
    fn reply(&mut self, world: &mut World, token: u64, result: ReplyResult) {
        let Some(&Flight { life, call, sent, .. }) = self.flights.get(&token) else { return };
        let Some(place) = self.living(life) else { return };
        self.flights.entry(token).and_modify(|flight| flight.replied = true);
        let reply = Reply { sent: wire::clock(sent), answered: wire::clock(world.now), result };
        self.workers[place].inbox.push((call, reply));
        self.schedule_soon(world, place);
    }
}

impl Relay for Played {
    fn accept(&mut self, world: &mut World, change: &model::Change) {
        self.hands.insert(wire::id(change), change.hands());
        self.publish(&wire::change(change, self.setting.cut.dress, world.now));
        self.schedule_all_soon(world);
    }

    fn wake(&mut self, world: &mut World, token: u64) {
        match Timer::of(token) {
            Timer::Tick(place) => self.wake_up(world, place),
            Timer::Make(call) => self.make_late(world, call),
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
                if let Some(place) = self.living(life) {
                    self.workers[place].read_hands.extend(snapshot.hands());
                    self.workers[place].read.insert(member, (wire::version(snapshot.version), snapshot.etag));
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
        self.schedule_all_soon(world);
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
        self.schedule_all_soon(world);
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
fn answer((id, choice): (i64, Choice)) -> (Command, (i64, oneshot::Receiver<Result<Resolved, ResolveError>>)) {
    let (done, told) = oneshot::channel();
    (Command::Resolve(Resolution { id, edition: None, choice, by: "a person".to_owned(), done }), (id, told))
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
