//! The relay around the rules: who is woken when, which pair is leased, which reads and writes are made.
//!
//! It is the same machine for the reference and for the control; what they think of a value is their [`Mind`].
//! Everything durable in it would survive a crash in a real relay, so a lost answer and a relay that slept are one
//! case.

use std::collections::BTreeMap;

use super::fold::{Channel, Learnt};
use super::mind::Mind;
use super::rules::Rule;
use super::scenario::Guard;
use super::state::{Member, Outcome, Sighting, State};
use super::step::{Observer, Row, Said, Step};
use super::value::{Answer, Change, ChangeId, Field, Kind, SEC, Snapshot, Value};
use super::world::{DEADLINE, LAG, Relay, Standing, World};

/// An intent whose answer may still come.
#[derive(Clone, Debug)]
struct Intent {
    member: usize,
    rows: Vec<Row>,
}

/// A relay with a mind.
pub struct Driver<'o, M> {
    mind: M,
    outcomes: BTreeMap<ChangeId, Outcome>,
    /// By number. Never emptied: an answer may come at any time, and a run is short.
    intents: BTreeMap<u64, Intent>,
    observer: Option<&'o mut dyn Observer>,
}

/// What a wake-up is for; the token of a wake-up is one of these as a number.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// Look for work of this member.
    Work(usize),
    /// The send deadline of this intent.
    Deadline(u64),
}

impl Timer {
    const fn token(self) -> u64 {
        match self {
            Self::Work(member) => (member as u64) << 1,
            Self::Deadline(intent) => intent << 1 | 1,
        }
    }

    const fn of(token: u64) -> Self {
        if token & 1 == 0 { Self::Work((token >> 1) as usize) } else { Self::Deadline(token >> 1) }
    }
}

impl<'o, M: Mind> Driver<'o, M> {
    /// A relay that nobody follows.
    pub const fn new(mind: M) -> Self {
        Self { mind, outcomes: BTreeMap::new(), intents: BTreeMap::new(), observer: None }
    }

    /// The same relay, followed step by step.
    pub fn followed_by(mut self, observer: &'o mut dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// What it remembers.
    pub fn state(&self) -> &State {
        self.mind.state()
    }

    fn member(&mut self, index: usize) -> &mut Member {
        &mut self.mind.state_mut().members[index]
    }

    fn report(&mut self, world: &mut World, step: &Step<'_>) {
        world.say(format_args!("relay: {step}"));
        if let Some(observer) = &mut self.observer {
            observer.step(step, self.mind.state());
        }
    }

    // Accept: no network.

    fn fold_event(&mut self, world: &mut World, change: &Change) {
        let (index, now) = (change.member, world.now);
        let grouped = self.state().rules.has(Rule::GroupRead);
        if change.kind == Kind::Hint || (grouped && change.cells.iter().any(|reported| reported.half.is_some())) {
            let member = self.member(index);
            member.floor = member.floor.max(change.time.lo);
            member.stale = 0;
            member.need_read(now, 0);
            change.cells.iter().for_each(|reported| world.note(reported.cell.hand));
            self.close(world, change, Outcome::Read, Said::Reads);
            return self.kick(world, index);
        }
        let sightings: Vec<_> = change.cells.iter().map(|reported| self.state().sighting(change, reported)).collect();
        if sightings.iter().any(|sighting| self.mind.must_wait(sighting)) {
            self.member(index).waiting.push(change.clone());
            return self.close(world, change, Outcome::Open, Said::Waits);
        }
        self.prune(world, &sightings);
        let channel = Channel { kind: change.kind, author: change.author, asked: now, now };
        let said = self.learn_all(world, &sightings, channel);
        let last = said.last().map_or(Outcome::Known, |&(_, outcome)| outcome);
        self.close(world, change, last, Said::Folded(&said));
        self.kick_all(world);
    }

    fn close(&mut self, world: &mut World, change: &Change, outcome: Outcome, said: Said<'_>) {
        self.outcomes.insert(change.id, outcome);
        self.report(world, &Step::Event { change, now: world.now, said });
    }

    fn prune(&mut self, world: &mut World, sightings: &[Sighting]) {
        let now = world.now;
        for &Sighting { member, field, .. } in sightings {
            let rows = self.mind.state_mut().prune(member, field, now);
            if rows > 0 {
                self.report(world, &Step::Pruned { member, field, rows, now });
            }
        }
    }

    fn learn_all(&mut self, world: &mut World, sightings: &[Sighting], channel: Channel) -> Vec<(Field, Outcome)> {
        let mut said = Vec::with_capacity(sightings.len());
        for sighting in sightings {
            let Learnt { outcome, asks } = self.mind.learn(sighting, channel);
            if !outcome.wants_another_read() {
                world.note(sighting.hand);
            }
            if asks {
                world.ask_person(sighting.field);
            }
            said.push((sighting.field, outcome));
        }
        said
    }

    /// Folds what waited behind an intent; it may have to wait again.
    fn refold(&mut self, world: &mut World, index: usize) {
        for change in std::mem::take(&mut self.member(index).waiting) {
            self.fold_event(world, &change);
        }
    }

    // Send: leased work per member.

    fn dirty(&mut self, world: &mut World, index: usize) -> Vec<Field> {
        let fields = self.mind.dirty(index, world.now);
        self.report(world, &Step::Dirty { member: index, now: world.now, fields: &fields });
        fields
    }

    fn kick_all(&mut self, world: &mut World) {
        (0..world.crms.len()).for_each(|index| self.kick(world, index));
    }

    /// Sends a wake-up to a member that has work and is neither at work nor woken already.
    fn kick(&mut self, world: &mut World, index: usize) {
        let member = self.member(index);
        if member.busy || member.kicked {
            return;
        }
        let read = member.reads.iter().min().copied();
        let due = if self.dirty(world, index).is_empty() { read } else { Some(world.now) };
        let Some(due) = due else { return };
        self.member(index).kicked = true;
        let at = due.max(world.now) + world.span(world.scenario.send_delay);
        world.wake(at, Timer::Work(index).token());
    }

    fn work(&mut self, world: &mut World, index: usize) {
        let now = world.now;
        let member = self.member(index);
        member.kicked = false;
        if member.busy {
            return;
        }
        let read_due = member.is_read_due(now);
        let dirty = self.dirty(world, index);
        if read_due || (!dirty.is_empty() && world.scenario.guard != Guard::None) {
            let member = self.member(index);
            member.reads.retain(|&at| at > now);
            member.busy = true;
            world.read(index, index as u64);
        } else if dirty.is_empty() {
            self.kick(world, index);
        } else {
            self.intend(world, index, &dirty);
        }
    }

    fn intend(&mut self, world: &mut World, index: usize, dirty: &[Field]) {
        let now = world.now;
        let intent = self.intents.len() as u64;
        let state = self.mind.state_mut();
        let rows = state.rows(index, dirty);
        state.members[index].busy = true;
        state.intend(index, intent, &rows, now);
        let precondition = state.precondition(index);
        self.report(world, &Step::Intent { member: index, intent, rows: &rows, now });
        let values: Vec<_> = rows.iter().map(|row| (row.field, row.value)).collect();
        world.write(index, &values, precondition, intent);
        world.wake(now + DEADLINE, Timer::Deadline(intent).token());
        self.intents.insert(intent, Intent { member: index, rows });
    }

    /// Frees the pair.
    fn release(&mut self, world: &mut World, index: usize) {
        self.member(index).busy = false;
        self.kick(world, index);
    }

    /// Frees the pair and reads it again after a while.
    fn read_again(&mut self, world: &mut World, index: usize, delay: i64) {
        let now = world.now;
        let member = self.member(index);
        member.busy = false;
        member.need_read(now, delay);
        self.kick_all(world);
    }

    fn on_read(&mut self, world: &mut World, index: usize, snapshot: &Snapshot) {
        let now = world.now;
        let doubted = self.state().rules.has(Rule::Doubt);
        let member = self.member(index);
        let old = member.is_below_floor(snapshot.version);
        let asked = member.here(snapshot.asked);
        let sightings: Vec<_> = if old { Vec::new() } else { snapshot.sightings(index).collect() };
        self.prune(world, &sightings);
        let said = self.learn_all(world, &sightings, Channel { kind: Kind::Read, author: None, asked, now });
        let member = self.member(index);
        member.etag = snapshot.etag;
        member.rule_out(snapshot.asked);
        let here = member.here(now);
        let stale = old || said.iter().any(|&(_, outcome)| outcome == Outcome::Stale);
        let too_early = said.iter().any(|&(_, outcome)| outcome == Outcome::Early);
        let in_vain = member.counts_again(stale || (too_early && !doubted));
        let later = if in_vain && stale { SEC << member.stale } else { 0 };
        // An early answer is repeated as soon as it can be believed: the lag counts from what is known, not from now.
        let early = said.iter().filter(|&&(_, outcome)| outcome == Outcome::Early);
        let lags = early.filter_map(|(field, _)| member.cells.get(field)).map(|cell| cell.seen.hi + LAG - here);
        let delay = lags.max().unwrap_or(0).max(later).max(0);
        let again = (in_vain || (too_early && doubted)).then_some(delay);
        self.report(world, &Step::Read { member: index, snapshot, now, said: &said, again });
        match again {
            Some(delay) if in_vain => return self.read_again(world, index, delay),
            // Only fields in doubt wait for that read; the others go on.
            Some(delay) => self.member(index).need_read(now, delay),
            None => {}
        }
        let dirty = self.dirty(world, index);
        if dirty.is_empty() || self.member(index).is_read_due(now) {
            self.release(world, index);
        } else {
            self.intend(world, index, &dirty);
        }
        self.kick_all(world);
    }

    fn deadline(&mut self, world: &mut World, intent: u64) {
        let now = world.now;
        let Some(member) = self.intents.get(&intent).map(|intent| intent.member) else { return };
        if !self.state().is_open(member, intent) {
            return;
        }
        self.mind.give_up(member, intent, now);
        self.report(world, &Step::GaveUp { member, intent, now });
        self.refold(world, member);
        self.release(world, member);
    }
}

impl<M: Mind> Relay for Driver<'_, M> {
    fn accept(&mut self, world: &mut World, change: &Change) {
        world.tell(change.hands());
        if !self.outcomes.contains_key(&change.id) {
            self.fold_event(world, change);
        }
    }

    fn wake(&mut self, world: &mut World, token: u64) {
        match Timer::of(token) {
            Timer::Work(member) => self.work(world, member),
            Timer::Deadline(intent) => self.deadline(world, intent),
        }
    }

    /// A read that failed is made again: the need for it is durable.
    fn read_answered(&mut self, world: &mut World, token: u64, answer: Option<&Snapshot>) {
        let member = token as usize;
        match answer {
            Some(snapshot) => {
                world.tell(snapshot.hands());
                self.on_read(world, member, snapshot);
            }
            None => self.read_again(world, member, 0),
        }
    }

    fn write_answered(&mut self, world: &mut World, token: u64, answer: &Answer) {
        let (intent, now) = (token, world.now);
        let Some(Intent { member, rows }) = self.intents.get(&intent).cloned() else { return };
        let free = self.mind.settle(member, intent, &rows, answer, now);
        self.report(world, &Step::Settled { member, intent, rows: &rows, answer, now });
        self.refold(world, member);
        if free {
            self.release(world, member);
        }
        self.kick_all(world);
    }

    fn reconcile(&mut self, world: &mut World, member: usize) {
        let now = world.now;
        self.member(member).need_read(now, 0);
        self.kick(world, member);
    }

    fn resolve(&mut self, world: &mut World, field: Field) {
        let now = world.now;
        let candidates = self.state().fields.get(&field).and_then(|entity| entity.held.clone());
        let Some(candidates) = candidates.filter(|candidates| !candidates.is_empty()) else { return };
        let (_, value) = candidates[world.below(candidates.len())];
        self.mind.state_mut().resolve(field, value, now);
        self.report(world, &Step::Resolved { field, value, now });
        self.kick_all(world);
    }

    fn standing(&self, field: Field) -> Standing {
        let entity = self.state().fields.get(&field);
        Standing {
            value: entity.map_or_else(|| Value::initial(field), |entity| entity.value),
            held: entity.is_some_and(|entity| entity.held.is_some()),
        }
    }

    fn kept(&self, member: usize, field: Field) -> Option<Value> {
        let cell = self.state().members[member].cells.get(&field)?;
        cell.kept.then_some(cell.shown)
    }

    fn is_open(&self) -> bool {
        let waiting = self.state().members.iter().any(|member| !member.waiting.is_empty());
        waiting || self.outcomes.values().any(|&outcome| outcome == Outcome::Open)
    }
}
