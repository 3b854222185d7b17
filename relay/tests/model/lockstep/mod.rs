//! The product's own rules, led through the reference's runs step by step and compared after each.
//!
//! An observer hands every elementary step to the real [`Entity`] and never looks at what the reference decided before
//! the real code has decided for itself. Where they part, one of the two is wrong. The surprising thing: the real
//! `settle` folds again by itself what had waited, while the reference reports each of those folds as a step of its
//! own; so the events that wait are kept aside and folded one by one, and a copy takes the short way and must arrive
//! at the same place.

mod compare;

use std::collections::BTreeMap;

use headgate_relay::entity::fold::{Context, Folded, Notes, Peer, Rules};
use headgate_relay::entity::write::{Answer, ReadOutcome};
use headgate_relay::entity::{Author, Came, Clock, Entity, Event, Seen, Timing};
use headgate_relay::mapping::Link;
use headgate_schemas::ChangeId;

use crate::real::{self, Ruler};
use crate::reference::scenario::Scenario;
use crate::reference::state::{self, LEDGER, Outcome, State};
use crate::reference::step::{Observer, Row, Said, Step};
use crate::reference::value::{self as model, HOUR, Kind, SEC, Snapshot};
use crate::reference::world::{LAG, LATEST, World};
use compare::{compare_cell, compare_field, compare_member, same, weightiest};

/// The model's own unit.
const MILLIS: Ruler = Ruler { per_ms: 1, zero: 0 };
const TIMING: Timing = Timing { second: SEC, ledger: LEDGER, margin: HOUR };

/// How the real rules are led.
#[derive(Clone, Copy, Debug)]
pub struct Led {
    /// The rules of the real code that hold.
    pub rules: Rules,
    /// Half a group is handed in as if it were the whole, which the mapping never does.
    pub halves: bool,
}

impl Led {
    /// As in production.
    pub const PROPERLY: Self = Self { rules: Rules::ALL, halves: false };
}

/// The real rules beside a reference relay; remembers where they first parted.
pub struct Lockstep {
    entity: Entity,
    link: Link,
    peers: Vec<Peer>,
    led: Led,
    notes: Notes,
    intents: BTreeMap<u64, u32>,
    aside: Aside,
    /// A read the real code has asked for and the reference is about to.
    next_read: Option<(usize, i64)>,
    steps: usize,
    short_ways: usize,
    parted: Option<String>,
}

/// The events that a settlement lets go, and the copy that folds them by itself.
#[derive(Default)]
struct Aside {
    events: usize,
    copy: Option<Entity>,
}

impl Lockstep {
    /// Stands where the reference stands after its import.
    pub fn new(world: &World, state: &State, led: Led) -> Self {
        let peer = |member: &state::Member| Peer {
            clock: Clock { offset: member.offset, error: member.error },
            read_lag: LAG,
            longest_run: LATEST,
        };
        Self {
            entity: real::entity(world.scenario, &world.crms, MILLIS),
            link: real::link(world.scenario),
            peers: state.members.iter().map(peer).collect(),
            led,
            notes: Notes::default(),
            intents: BTreeMap::new(),
            aside: Aside::default(),
            next_read: None,
            steps: 0,
            short_ways: 0,
            parted: None,
        }
    }

    /// The step at which the real rules parted from the reference, and how.
    pub fn parted(&self) -> Option<&str> {
        self.parted.as_deref()
    }

    /// How many steps were compared.
    pub const fn steps(&self) -> usize {
        self.steps
    }

    /// How often a settlement that folded several things by itself was compared with its parts.
    pub const fn short_ways(&self) -> usize {
        self.short_ways
    }

    /// Runs `act` with everything the rules look at.
    fn with<R>(&mut self, now: i64, act: impl FnOnce(&mut Entity, &Context<'_>, &mut Notes) -> R) -> R {
        let Self { entity, link, peers, led, notes, .. } = self;
        within(link, peers, led.rules, now, |cx| act(entity, cx, notes))
    }

    fn take(&mut self, step: &Step<'_>) -> Result<(), String> {
        if let Some((member, at)) = self.next_read.take() {
            self.entity.members[member].need_read(at);
        }
        match *step {
            // The real code forgets old rows when it folds, which is the step that follows.
            Step::Pruned { .. } => Ok(()),
            Step::Event { change, now, said } => self.event(change, now, said),
            Step::Read { member, snapshot, now, said, again } => self.read(member, snapshot, now, said, again),
            Step::Dirty { member, now, fields } => self.dirty(member, now, fields),
            Step::Intent { member, intent, rows, now } => self.intend(member, intent, rows, now),
            Step::Settled { member, intent, answer, now, .. } => self.settle(member, intent, answer, now),
            Step::GaveUp { member, intent, now } => self.give_up(member, intent, now),
            Step::Resolved { field, value, now } => {
                let place = self.place(field)?;
                self.entity.resolve(place, real::value(value), now);
                Ok(())
            }
        }
    }

    fn place(&self, field: model::Field) -> Result<usize, String> {
        self.entity.field_named(real::name(field)).ok_or_else(|| format!("{field} is not mapped"))
    }

    fn event(&mut self, change: &model::Change, now: i64, said: Said<'_>) -> Result<(), String> {
        let event = self.as_event(change);
        let folded = self.with(now, |entity, cx, notes| entity.fold(change.member, event, cx, notes));
        self.aside.events = self.aside.events.saturating_sub(1);
        let reference = match said {
            Said::Waits => Folded::Waiting,
            Said::Reads => Folded::Asked,
            Said::Folded(said) if said.iter().any(|(_, outcome)| *outcome == Outcome::Aged) => Folded::Asked,
            Said::Folded(said) => Folded::Done { taken: self.taken(said)?, learned: weightiest(said) },
        };
        same("an event", &folded, &reference)
    }

    /// What the mapping makes of a change: half a group can only ask for a read.
    fn as_event(&self, change: &model::Change) -> Event {
        let partly = change.cells.iter().any(|reported| reported.half.is_some());
        let cells = change.cells.iter().map(|reported| {
            let cell = reported.cell;
            let value = match reported.half {
                Some(half) => self.shown(change.member, cell.field).with_half(half, cell.value),
                None => cell.value,
            };
            (real::name(cell.field).into(), real::value(value))
        });
        let mut id = [0; 16];
        id[..8].copy_from_slice(&change.id.number.to_be_bytes());
        id[8..].copy_from_slice(&change.id.body.to_be_bytes());
        Event {
            change: ChangeId::from_bytes(id),
            came: Came { received: 0, accepted: 0, link: 1 },
            targets: [].into(),
            seen: if change.kind == Kind::State { Seen::State } else { Seen::Edit },
            cells: cells.collect(),
            hint: change.kind == Kind::Hint || (partly && !self.led.halves),
            time: MILLIS.span(change.time),
            author: match change.author {
                Some(model::Author::Us) => Author::Us,
                Some(model::Author::User) => Author::User,
                None => Author::Unknown,
            },
        }
    }

    fn shown(&self, member: usize, field: model::Field) -> model::Value {
        let cell = self.entity.field_named(real::name(field)).and_then(|f| self.entity.cell(f, member));
        cell.map_or_else(|| model::Value::initial(field), |cell| real::letters(&cell.shown))
    }

    fn read(
        &mut self,
        member: usize,
        snapshot: &Snapshot,
        now: i64,
        said: &[(model::Field, Outcome)],
        again: Option<i64>,
    ) -> Result<(), String> {
        let place = |cell: &model::Stored| Ok((self.place(cell.field)?, real::value(cell.value)));
        let cells = snapshot.cells.iter().map(place).collect::<Result<Vec<_>, String>>()?;
        let version = MILLIS.span(snapshot.version);
        let outcome =
            self.with(now, |entity, cx, notes| entity.on_read(member, cells, version, snapshot.asked, cx, notes));
        let reference = if again.is_some() {
            ReadOutcome::Again
        } else {
            ReadOutcome::Folded { taken: self.taken(said)?, learned: weightiest(said) }
        };
        same("a read", &outcome, &reference)?;
        if let Some(wait) = again {
            // The reference notes the next read only after it has told of this one.
            let known = &mut self.entity.members[member];
            let next = known.reads.pop();
            same("the next read", &next, &Some(now + wait))?;
            self.next_read = next.map(|at| (member, at));
        }
        Ok(())
    }

    fn dirty(&mut self, member: usize, now: i64, fields: &[model::Field]) -> Result<(), String> {
        let before = self.aside.copy.is_some().then(|| self.entity.clone());
        let dirty = self.with(now, |entity, cx, _| entity.dirty(member, cx));
        if before.is_some_and(|before| before != self.entity) {
            // A member that shows the right value by chance counts as written from this very look on: the copy, which
            // does not look in between, is no longer comparable.
            self.aside.copy = None;
        }
        let names: Vec<_> = dirty.iter().map(|f| &*self.entity.fields[*f].name).collect();
        same("dirty fields", &names, &fields.iter().map(|field| real::name(*field)).collect())
    }

    fn intend(&mut self, member: usize, number: u64, rows: &[Row], now: i64) -> Result<(), String> {
        let fields = rows.iter().map(|row| self.place(row.field)).collect::<Result<Vec<_>, _>>()?;
        let intent = self.with(now, |entity, cx, _| entity.intend(member, &fields, cx));
        self.intents.insert(number, intent.number);
        let wanted: Vec<_> = fields.into_iter().zip(rows.iter().map(|row| real::value(row.value))).collect();
        same("what is written", &intent.items, &wanted)
    }

    fn settle(&mut self, member: usize, intent: u64, answer: &model::Answer, now: i64) -> Result<(), String> {
        let number = self.number(intent)?;
        let answer = match answer {
            model::Answer::Refused => Answer::Refused,
            model::Answer::Written { stored, version } => Answer::Landed {
                stored: match stored {
                    Some(cells) => Some(
                        cells
                            .iter()
                            .map(|cell| Ok((self.place(cell.field)?, real::value(cell.value))))
                            .collect::<Result<_, String>>()?,
                    ),
                    None => None,
                },
                version: version.map(|version| MILLIS.span(version)),
                exact: version.is_some_and(|version| version.hi - version.lo == 1),
            },
        };
        self.let_go(member, now, |entity, cx, notes| entity.settle(member, number, &answer, cx, notes).len());
        Ok(())
    }

    fn give_up(&mut self, member: usize, intent: u64, now: i64) -> Result<(), String> {
        let number = self.number(intent)?;
        self.let_go(member, now, |entity, cx, notes| entity.give_up(member, number, cx, notes).len());
        Ok(())
    }

    fn number(&self, intent: u64) -> Result<u32, String> {
        self.intents.get(&intent).copied().ok_or_else(|| format!("intent {intent} was never opened"))
    }

    /// Settles once with the events that wait, on a copy, and once without them; they are folded as the next steps.
    fn let_go(&mut self, member: usize, now: i64, act: impl Fn(&mut Entity, &Context<'_>, &mut Notes) -> usize) {
        let mut copy = self.entity.clone();
        let mut unheard = Notes::default();
        let events = within(&self.link, &self.peers, self.led.rules, now, |cx| act(&mut copy, cx, &mut unheard));
        self.entity.members[member].waiting.clear();
        self.with(now, |entity, cx, notes| act(entity, cx, notes));
        self.aside = Aside { events, copy: (events > 0).then_some(copy) };
    }

    /// The fields a change put in force, or before a person, with the revisions they stand for.
    fn taken(&self, said: &[(model::Field, Outcome)]) -> Result<Vec<(u8, i32)>, String> {
        let mut taken = Vec::new();
        for &(field, outcome) in said {
            let place = self.place(field)?;
            let rev = self.entity.fields[place].rev;
            let rev = match outcome {
                Outcome::Taken => rev,
                Outcome::Held => rev + 1,
                _ => continue,
            };
            taken.push((u8::try_from(place).map_err(|_| "too many fields")?, rev));
        }
        Ok(taken)
    }

    fn compare(&mut self, step: &Step<'_>, other: &State) -> Result<(), String> {
        for (field, reference) in self.entity.fields.iter().zip(other.fields.values()) {
            compare_field(field, reference, now_of(step))?;
        }
        for (place, (member, reference)) in self.entity.members.iter().zip(&other.members).enumerate() {
            compare_member(member, reference, now_of(step), self.aside.events)?;
            for (field, cell) in self.entity.fields.iter().zip(reference.cells.values()) {
                let own = field.cells[place].as_ref().ok_or("a member lost a cell")?;
                compare_cell(own, cell, matches!(step, Step::Pruned { .. }))
                    .map_err(|why| format!("{} of member {place}: {why}", field.name))?;
            }
        }
        let conflicts = self.notes.conflicts;
        same("conflicts", &conflicts, &other.conflicts)?;
        self.arrive()
    }

    /// After the last event that was let go, the copy must stand where the single steps led.
    fn arrive(&mut self) -> Result<(), String> {
        if self.aside.events > 0 {
            return Ok(());
        }
        let Some(copy) = self.aside.copy.take() else { return Ok(()) };
        self.short_ways += 1;
        same("settled at once", &copy, &self.entity)
    }
}

impl Observer for Lockstep {
    fn step(&mut self, step: &Step<'_>, state: &State) {
        if self.parted.is_some() {
            return;
        }
        self.steps += 1;
        let taken = self.take(step).and_then(|()| self.compare(step, state));
        self.parted = taken.err().map(|why| format!("at step {}, {step}: {why}", self.steps));
    }
}

fn within<R>(link: &Link, peers: &[Peer], rules: Rules, now: i64, act: impl FnOnce(&Context<'_>) -> R) -> R {
    let peer = |connection: u32| peers.get(connection as usize - 1).copied().unwrap_or_default();
    act(&Context { link, peers: &peer, now, timing: TIMING, rules })
}

const fn now_of(step: &Step<'_>) -> i64 {
    match *step {
        Step::Pruned { now, .. }
        | Step::Event { now, .. }
        | Step::Read { now, .. }
        | Step::Dirty { now, .. }
        | Step::Intent { now, .. }
        | Step::Settled { now, .. }
        | Step::GaveUp { now, .. }
        | Step::Resolved { now, .. } => now,
    }
}

/// What one run came to.
pub struct Walk {
    /// Where the real rules parted from the reference.
    pub parted: Option<String>,
    /// Steps compared.
    pub steps: usize,
    /// Settlements compared with their parts.
    pub short_ways: usize,
}

/// Leads the real rules through one run of the reference.
pub fn walk(scenario: &'static Scenario, seed: u64, reference: crate::reference::rules::Rules, led: Led) -> Walk {
    use crate::reference::judge::STEPS;
    use crate::reference::mind::Reference;
    use crate::reference::relay::Driver;
    let mut world = World::new(scenario, seed, false);
    let mind = Reference::new(&mut world, reference);
    let mut lockstep = Lockstep::new(&world, mind.memory(), led);
    let mut relay = Driver::new(mind).followed_by(&mut lockstep);
    world.run(&mut relay, STEPS);
    Walk { parted: lockstep.parted().map(str::to_owned), steps: lockstep.steps(), short_ways: lockstep.short_ways() }
}
