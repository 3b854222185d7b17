//! The relay around the rules: it looks where events point, sends what a CRM lacks, settles what is answered, and looks
//! back where no answer came.
//!
//! One write per (person, CRM) is under way. Calls are carried out here, on the shelves, when the world says so.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Life, Person, PersonId, State, external};
use crate::rules::{Rule, Rules};
use crate::scenario::{MIN, SEC};
use crate::shelf::{Kind, RecordId, Row};
use crate::world::{DEADLINE, Fate, GRACE, Hint, LATEST, Relay, Standing, Update, World};

/// What the machine is to do at a moment it asked for.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Look(RecordId),
    Looked(RecordId, Row),
    Send { person: PersonId, crm: usize },
    Land(Write, Fate),
    Settle(Write, Answer),
    Unknown { person: PersonId, crm: usize },
    LookBack { person: PersonId, crm: usize },
    Delete { person: PersonId, id: RecordId, version: i64 },
}

/// A write under way; without a record it is a create.
#[derive(Clone, Debug)]
pub(super) struct Write {
    person: PersonId,
    crm: usize,
    record: Option<RecordId>,
    email: Option<String>,
    phone: u32,
}

/// What a CRM says of a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Written(RecordId),
    Exists(RecordId),
    Gone(RecordId),
}

/// The reference as a relay.
pub struct Machine {
    pub(super) state: State,
    tasks: BTreeMap<u64, Task>,
    next: u64,
    busy: BTreeSet<(PersonId, usize)>,
}

impl Machine {
    /// A relay that knows the people a world starts with.
    pub fn new(world: &mut World, rules: Rules) -> Self {
        let mut state = State::new(rules);
        for email in world.scenario.start {
            let person = state.persons.len();
            let mut known = Person::new(0, 0);
            for id in world.import(email, external(person)) {
                known.members.insert(id.crm, id);
                known.shown.insert(id.crm, 0);
                state.of.insert(id, person);
                state.seen.insert(id, 0);
            }
            state.persons.push(known);
            state.claims.insert((*email).to_owned(), person);
        }
        Self { state, tasks: BTreeMap::new(), next: 0, busy: BTreeSet::new() }
    }

    pub(super) const fn has(&self, rule: Rule) -> bool {
        self.state.rules.has(rule)
    }

    pub(super) fn later(&mut self, world: &mut World, delay: i64, task: Task) {
        self.next += 1;
        self.tasks.insert(self.next, task);
        world.wake(delay, self.next);
    }

    pub(super) fn need_write(&mut self, world: &mut World, person: PersonId, crm: usize) {
        if self.busy.insert((person, crm)) {
            let delay = world.span(&[20, SEC]);
            self.later(world, delay, Task::Send { person, crm });
        }
    }

    fn look(&mut self, world: &mut World, id: RecordId) {
        let row = world.look(id);
        let delay = world.span(&[50, SEC]);
        self.later(world, delay, Task::Looked(id, row));
    }

    fn send(&mut self, world: &mut World, person: PersonId, crm: usize) {
        let known = &self.state.persons[person];
        if known.life != Life::Live || known.into.is_some() {
            self.busy.remove(&(person, crm));
            return;
        }
        let record = known.members.get(&crm).copied();
        let email = if record.is_none() { self.address(world, person) } else { None };
        let write = Write { person, crm, record, email, phone: known.phone };
        let (fate, lands) = world.fate();
        world.say(format_args!("relay: sends {write:?}: {fate:?}"));
        if let Some(delay) = lands.filter(|_| fate != Fate::Refused) {
            self.later(world, delay, Task::Land(write, fate));
        }
        if fate != Fate::Answered {
            self.later(world, DEADLINE, Task::Unknown { person, crm });
        }
    }

    /// The address a person is made with; without claims, that of any record of his.
    fn address(&self, world: &World, person: PersonId) -> Option<String> {
        let claim = self.state.claim_of(person)?;
        if self.has(Rule::Claim) {
            return Some(claim.to_owned());
        }
        let rows = world.shelves.iter().flat_map(crate::shelf::Shelf::rows);
        let mut own = rows.filter(|(id, _)| self.state.person_of(*id) == Some(person));
        own.next().and_then(|(_, row)| row.email.clone())
    }

    fn land(&mut self, world: &mut World, write: Write, fate: Fate) {
        let answer = match write.record {
            Some(id) if self.has(Rule::NativeId) => world
                .update(id, &Update { phone: Some(write.phone), email: None })
                .map_or(Answer::Gone(id), Answer::Written),
            Some(_) | None => {
                let made = world.upsert(write.crm, external(write.person), write.email.as_deref(), write.phone);
                made.map_or_else(Answer::Exists, Answer::Written)
            }
        };
        if fate == Fate::Answered {
            let delay = world.span(&[50, SEC]);
            self.later(world, delay, Task::Settle(write, answer));
        }
    }

    fn settle(&mut self, world: &mut World, write: &Write, answer: Answer) {
        self.busy.remove(&(write.person, write.crm));
        let person = self.state.now(write.person);
        let id = match answer {
            Answer::Written(id) => id,
            Answer::Exists(id) => {
                if self.state.person_of(id).is_none() {
                    self.attach(world, person, id);
                }
                let delay = world.span(&[SEC]);
                return self.later(world, delay, Task::Look(id));
            }
            Answer::Gone(id) => {
                let delay = GRACE + world.span(&[SEC]);
                return self.later(world, delay, Task::Look(id));
            }
        };
        if let Some(wrote) = write.record.filter(|&wrote| wrote != id && self.has(Rule::OtherAnswer)) {
            // The CRM wrote somewhere else: a merge we have not heard of.
            self.later(world, SEC, Task::Look(wrote));
            return self.later(world, SEC, Task::Look(id));
        }
        if self.state.person_of(id) != Some(person) {
            self.attach(world, person, id);
        }
        let known = &mut self.state.persons[person];
        if known.members.get(&write.crm) == Some(&id) {
            known.shown.insert(write.crm, write.phone);
        }
        self.later(world, SEC, Task::Look(id));
        self.spread(world, person);
    }

    /// No answer came by the deadline: look at what may have become of it, and again when nothing can land any more.
    fn unknown(&mut self, world: &mut World, person: PersonId, crm: usize) {
        self.busy.remove(&(person, crm));
        for delay in [0, LATEST] {
            self.later(world, delay, Task::LookBack { person, crm });
        }
        let person = self.state.now(person);
        if !self.state.persons[person].members.contains_key(&crm) {
            // A create by external id may be repeated.
            self.spread(world, person);
        }
    }

    fn look_back(&mut self, world: &mut World, person: PersonId, crm: usize) {
        let ours = |row: &Row| row.external == Some(external(person));
        let mut ids: BTreeSet<_> = world.shelves[crm].rows().filter(|(_, row)| ours(row)).map(|(id, _)| id).collect();
        ids.extend(self.state.persons[person].members.get(&crm));
        for id in ids {
            self.look(world, id);
        }
    }
}

impl Relay for Machine {
    fn hint(&mut self, world: &mut World, hint: &Hint) {
        if let Kind::Merged(survivor) = hint.kind {
            self.state.merges.insert(hint.id, survivor);
        }
        let deleted = hint.kind == Kind::Deleted;
        if deleted && !self.has(Rule::Grace) {
            return self.gone(world, hint.id);
        }
        let delay = if deleted { MIN } else { world.span(&[20, SEC]) };
        self.later(world, delay, Task::Look(hint.id));
    }

    fn wake(&mut self, world: &mut World, token: u64) {
        match self.tasks.remove(&token) {
            Some(Task::Look(id)) => self.look(world, id),
            Some(Task::Looked(id, row)) => self.looked(world, id, &row),
            Some(Task::Send { person, crm }) => self.send(world, person, crm),
            Some(Task::Land(write, fate)) => self.land(world, write, fate),
            Some(Task::Settle(write, answer)) => self.settle(world, &write, answer),
            Some(Task::Unknown { person, crm }) => self.unknown(world, person, crm),
            Some(Task::LookBack { person, crm }) => self.look_back(world, person, crm),
            Some(Task::Delete { person, id, version }) => self.delete(world, person, id, version),
            None => {}
        }
    }

    fn people(&self) -> Vec<Standing> {
        self.state.standing()
    }

    fn holds(&self, id: RecordId) -> bool {
        self.state.person_of(id).is_some()
    }

    fn has_asked(&self) -> bool {
        self.state.persons.iter().any(|person| !person.asks.is_empty())
    }
}
