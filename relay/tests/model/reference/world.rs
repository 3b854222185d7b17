//! The world of one run: virtual clock, agenda, seeded dice, the CRMs and their users, and the network between them and
//! a relay.
//!
//! It knows no rule: any [`Relay`] can be played in it. Everything uncertain (delays, repeats, the fate of a call, a
//! failed read) is drawn from its dice, so a run is a function of scenario, seed and relay.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use super::crm::{Crm, Message};
use super::order::Order;
use super::scenario::Scenario;
use super::value::{Answer, Change, Field, Hand, MIN, SEC, Snapshot, Value};

/// How long a relay waits for the answer to a write before its outcome counts as unknown.
pub const DEADLINE: i64 = 10 * SEC;
/// The longest run of a call inside a CRM.
pub const LATEST: i64 = 10 * MIN;
/// The oldest answer a relay plans for: replicas, search indexes.
pub const LAG: i64 = 5 * SEC;

/// The rank of whoever is no CRM: the state before the first change, and a person who resolved a conflict.
pub const OUTSIDE: usize = 9;

/// What is played in a world. Tokens are the relay's own; the world hands them back as they were.
pub trait Relay {
    /// A delivered event, possibly a repeat.
    fn accept(&mut self, world: &mut World, change: &Change);
    /// The moment asked for with [`World::wake`] has come.
    fn wake(&mut self, world: &mut World, token: u64);
    /// The answer to a read; none if it failed.
    fn read_answered(&mut self, world: &mut World, token: u64, answer: Option<&Snapshot>);
    /// The answer to a write; comes late or never when the call's fate wants it so.
    fn write_answered(&mut self, world: &mut World, token: u64, answer: &Answer);
    /// The daily reconciler has come to this member.
    fn reconcile(&mut self, world: &mut World, member: usize);
    /// A person looks at a held field and chooses; asked for with [`World::ask_person`].
    fn resolve(&mut self, world: &mut World, field: Field);
    /// How a field stands at the end of the run.
    fn standing(&self, field: Field) -> Standing;
    /// The value a member is known to have kept against ours, if it did.
    fn kept(&self, member: usize, field: Field) -> Option<Value>;
    /// Whether some change is without an outcome.
    fn is_open(&self) -> bool;
}

/// How a relay leaves a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The value in force.
    pub value: Value,
    /// Whether a person must decide.
    pub held: bool,
}

/// How a write call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    Lost,
    Never,
    Late,
    Zombie,
}

/// A write on its way.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) crm: usize,
    pub(super) token: u64,
    pub(super) values: Vec<(Field, Value)>,
    pub(super) precondition: Option<u64>,
    pub(super) fate: Fate,
    pub(super) sent: i64,
}

/// What the agenda holds.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Edit { crm: usize, field: Field, value: Value, number: u32 },
    Automation { crm: usize, field: Field },
    Poll { crm: usize },
    Deliver { crm: usize, number: u64, message: Message },
    Accept(Change),
    Look { crm: usize, token: u64 },
    Read { token: u64, answer: Option<Snapshot> },
    Land(Call),
    Answer { token: u64, answer: Answer },
    Wake { token: u64 },
    Resolve(Field),
    Reconcile { member: usize },
}

/// One run's world.
pub struct World {
    /// The virtual clock.
    pub now: i64,
    /// What is played.
    pub scenario: &'static Scenario,
    /// The CRMs; index = rank.
    pub crms: Vec<Crm>,
    /// What users typed and CRMs stored, in order.
    pub edits: Vec<(usize, Field, Value)>,
    /// How many of our writes landed.
    pub writes: u32,
    /// How many edits nobody can tell from a write of ours: the same value, in the same tick of the CRM's clock.
    pub twins: u32,
    /// The order of what users typed and we wrote, where a value names its edit.
    pub order: Order,
    agenda: BTreeMap<(i64, u64), Job>,
    minted: u64,
    pub(super) dice: fastrand::Rng,
    trace: Option<String>,
    known: BTreeSet<u32>,
    pub(super) overwritten: BTreeSet<u32>,
}

impl World {
    /// A world in which every edit, poll and reconciliation is already on the agenda.
    pub fn new(scenario: &'static Scenario, seed: u64, traced: bool) -> Self {
        let mut world = Self {
            now: 0,
            scenario,
            crms: scenario.crms.iter().map(|&spec| Crm::new(spec, scenario.fields)).collect(),
            edits: Vec::new(),
            writes: 0,
            twins: 0,
            order: Order::default(),
            agenda: BTreeMap::new(),
            minted: 0,
            dice: fastrand::Rng::with_seed(seed),
            trace: traced.then(String::new),
            known: BTreeSet::new(),
            overwritten: BTreeSet::new(),
        };
        world.plan();
        world
    }

    fn plan(&mut self) {
        let scenario = self.scenario;
        let mut at = SEC;
        for number in 0..scenario.edits {
            at += 1 + self.span(scenario.gaps);
            let crm = self.below(self.crms.len());
            let field = scenario.fields[self.below(scenario.fields.len())];
            let letter = if scenario.distinct { nth_letter(number) } else { ['a', 'b', 'c', 'd'][self.below(4)] };
            let value = Value::typed(field, letter);
            self.after(at, Job::Edit { crm, field, value, number });
        }
        for _ in 0..scenario.polls {
            let delay = SEC + self.span(&[at + MIN]);
            let crm = self.below(self.crms.len());
            self.after(delay, Job::Poll { crm });
        }
        if scenario.reconcile {
            for member in 0..self.crms.len() {
                self.after(at + 48 * 60 * MIN, Job::Reconcile { member });
            }
        }
    }

    /// Plays until nothing is left to do; false if `limit` steps did not suffice, which is a loop.
    pub fn run(&mut self, relay: &mut dyn Relay, limit: usize) -> bool {
        for _ in 0..limit {
            let Some(((at, _), job)) = self.agenda.pop_first() else { return true };
            self.now = at;
            self.perform(relay, job);
        }
        self.agenda.is_empty()
    }

    fn perform(&mut self, relay: &mut dyn Relay, job: Job) {
        match job {
            Job::Edit { crm, field, value, number } => {
                self.put(crm, &[(field, value)], Hand::User(number));
            }
            Job::Automation { crm, field } => {
                if let Some(value) = self.crms[crm].automation(field) {
                    self.put(crm, &[(field, value)], Hand::Automation);
                }
            }
            Job::Poll { crm } => self.poll(crm),
            Job::Deliver { crm, number, message } => self.deliver(crm, number, message),
            Job::Accept(change) => relay.accept(self, &change),
            Job::Look { crm, token } => self.look(crm, token),
            Job::Read { token, answer } => relay.read_answered(self, token, answer.as_ref()),
            Job::Land(call) => self.land(&call),
            Job::Answer { token, answer } => relay.write_answered(self, token, &answer),
            Job::Wake { token } => relay.wake(self, token),
            Job::Resolve(field) => relay.resolve(self, field),
            Job::Reconcile { member } => relay.reconcile(self, member),
        }
    }

    /// The relay takes in values that these hands set, whatever it makes of them.
    pub fn tell(&mut self, hands: impl IntoIterator<Item = Hand>) {
        for hand in hands {
            if let Hand::User(number) = hand {
                self.order.told(number, self.now);
            }
        }
    }

    // What a relay may ask for.

    /// Wakes the relay at a moment, never before now.
    pub fn wake(&mut self, at: i64, token: u64) {
        self.after((at - self.now).max(0), Job::Wake { token });
    }

    /// Sends a read; its answer, or its failure, comes back with the token.
    pub fn read(&mut self, crm: usize, token: u64) {
        let delay = self.span(&[50, SEC]);
        self.after(delay, Job::Look { crm, token });
    }

    /// Sends a write, under a precondition if one is named. Whether it is carried out, when, and whether its answer
    /// comes back is drawn here.
    pub fn write(&mut self, crm: usize, values: &[(Field, Value)], precondition: Option<u64>, token: u64) {
        let fate = self.fate();
        self.say(format_args!("call to crm{crm}: {fate:?}"));
        let delay = match fate {
            Fate::Answered | Fate::Lost => self.span(&[50, SEC, 5 * SEC]),
            Fate::Late | Fate::Zombie => DEADLINE + self.span(&[SEC, MIN, LATEST - 2 * DEADLINE]),
            Fate::Never => return,
        };
        self.after(delay, Job::Land(Call { crm, token, values: values.to_vec(), precondition, fate, sent: self.now }));
    }

    /// Lets a person decide a held field, some time between a minute and an hour from now.
    pub fn ask_person(&mut self, field: Field) {
        let delay = self.span(&[MIN, 60 * MIN]);
        self.after(delay, Job::Resolve(field));
    }

    /// What the answers' date header says about a CRM's clock: its offset from ours, and the error of that.
    pub fn measured_offset(&mut self, crm: usize) -> (i64, i64) {
        let spec = self.crms[crm].spec;
        if spec.skew == 0 {
            return (0, 0);
        }
        let noise = self.dice.i64(-300..=300);
        (spec.skew + noise, 300 + spec.resolution)
    }

    /// Notes that the relay has given this value an outcome it can show, so its edit cannot vanish unseen.
    pub fn note(&mut self, hand: Hand) {
        if let Hand::User(number) = hand {
            self.known.insert(number);
        }
    }

    /// A heavy-tailed delay: one of the spans, then a time uniform in it.
    pub fn span(&mut self, spans: &[i64]) -> i64 {
        match spans.len() {
            0 => 0,
            n => {
                let longest = spans[self.dice.usize(0..n)];
                self.dice.i64(0..longest.max(1))
            }
        }
    }

    /// A number below `n`, which must not be zero.
    pub fn below(&mut self, n: usize) -> usize {
        self.dice.usize(0..n)
    }

    /// Adds a line to the trace, if one is kept.
    pub fn say(&mut self, line: fmt::Arguments<'_>) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let (seconds, millis) = (now / SEC, now % SEC);
            // Writing into a string cannot fail.
            writeln!(trace, "{seconds:>9}.{millis:03} {line}").unwrap_or_default();
        }
    }

    /// The trace so far; empty if none is kept.
    pub fn trace(&self) -> &str {
        self.trace.as_deref().unwrap_or_default()
    }

    /// How many users' edits were overwritten by us before anything reported them.
    pub fn unseen(&self) -> usize {
        self.overwritten.difference(&self.known).count()
    }

    pub(super) fn after(&mut self, delay: i64, job: Job) {
        self.minted += 1;
        self.agenda.insert((self.now + delay, self.minted), job);
    }

    pub(super) fn mint(&mut self) -> u64 {
        self.minted += 1;
        self.minted
    }

    /// Whether something of this likelihood happens.
    pub fn chance(&mut self, share: f64) -> bool {
        self.dice.f64() < share
    }
}

/// A letter of its own for each of 25 edits; nobody starts with one of them.
fn nth_letter(number: u32) -> char {
    ('b'..='z').nth(number as usize).unwrap_or_else(|| panic!("edit {number} has no letter of its own"))
}
