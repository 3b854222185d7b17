//! The rules: whose a record is, what a read of it means, and what may be deleted.
//!
//! Pure but for what it asks the machine to do next. The surprising thing: a person that is being deleted comes back to
//! life as soon as a record of him is seen that somebody touched later, and the record in question asks first.

use super::machine::{Machine, Task};
use super::state::{Life, Person, PersonId};
use crate::rules::Rule;
use crate::scenario::SEC;
use crate::shelf::{Hand, RecordId, Row};
use crate::world::{GRACE, World};

impl Machine {
    /// What a read of a record said.
    pub(super) fn looked(&mut self, world: &mut World, id: RecordId, row: &Row) {
        if !self.state.is_news(id, row.at) {
            return;
        }
        world.say(format_args!("relay: read {id}: {row:?}"));
        world.tell(id, row.at);
        if row.alive { self.found(world, id, row) } else { self.not_found(world, id, row) }
    }

    fn not_found(&mut self, world: &mut World, id: RecordId, row: &Row) {
        self.state.seen.insert(id, row.at);
        let survivor = row.into.or_else(|| self.state.merges.get(&id).copied());
        if let Some(survivor) = survivor {
            let survivor = world.shelves[id.crm].follow(survivor);
            return self.merged(world, id, survivor);
        }
        if self.state.person_of(id).is_none() {
            return;
        }
        let since = *self.state.missing.entry(id).or_insert(world.now);
        if self.has(Rule::Grace) && world.now - since < GRACE {
            self.later(world, GRACE, Task::Look(id));
        } else {
            self.gone(world, id);
        }
    }

    fn found(&mut self, world: &mut World, id: RecordId, row: &Row) {
        self.state.missing.remove(&id);
        let person = match self.state.person_of(id) {
            Some(person) => person,
            None => self.place(world, id, row),
        };
        if self.state.detached.contains(&id) {
            return;
        }
        if self.state.persons[person].life == Life::Deleting && !self.stirs(world, person, id, row) {
            return;
        }
        let known = &mut self.state.persons[person];
        let shown = known.shown.get(&id.crm).copied();
        let told = shown != Some(row.phone) && (row.hand == Hand::User || shown.is_none());
        if told && row.at >= known.at {
            (known.phone, known.at) = (row.phone, row.at);
        }
        known.shown.insert(id.crm, row.phone);
        self.state.seen.insert(id, row.at);
        self.spread(world, person);
    }

    /// A record stands there under a person that is being deleted. False when that settles it.
    fn stirs(&mut self, world: &mut World, person: PersonId, id: RecordId, row: &Row) -> bool {
        let known = &self.state.persons[person];
        let ours = row.external == Some(super::state::external(person)) && row.hand == Hand::Us;
        if ours && self.has(Rule::LateCreate) {
            self.drop_record(world, person, id);
            return false;
        }
        let newer = self.state.seen.get(&id).is_some_and(|&seen| seen < row.at);
        if newer || row.hand == Hand::User {
            if known.members.get(&id.crm) == Some(&id) && !known.asks.contains(&id) {
                self.ask(world, person, id);
                return false;
            }
            self.state.persons[person].life = Life::Live;
        }
        true
    }

    /// Finds the person of a record that appears: by our own id, by its claim, or a new one.
    fn place(&mut self, world: &mut World, id: RecordId, row: &Row) -> PersonId {
        let key = match &row.email {
            Some(email) if self.has(Rule::Claim) => email.clone(),
            Some(_) | None => id.to_string(),
        };
        let ours = (0..self.state.persons.len()).find(|&p| row.external == Some(super::state::external(p)));
        let known = ours.or_else(|| self.state.claims.get(&key).copied());
        let person = match known {
            Some(person) => self.state.now(person),
            None => {
                self.state.persons.push(Person::new(row.phone, row.at));
                let person = self.state.persons.len() - 1;
                self.state.claims.insert(key, person);
                person
            }
        };
        self.attach(world, person, id);
        person
    }

    /// A record becomes the person's in its CRM, or is one too many there.
    pub(super) fn attach(&mut self, world: &mut World, person: PersonId, id: RecordId) {
        self.state.of.insert(id, person);
        let mine = self.state.persons[person].members.get(&id.crm).copied();
        let other = mine.filter(|&mine| mine != id);
        if other.is_some_and(|other| world.shelves[id.crm].row(other).alive) {
            self.state.detached.insert(id);
            return self.ask(world, person, id);
        }
        self.state.detached.remove(&id);
        let known = &mut self.state.persons[person];
        known.members.insert(id.crm, id);
        if mine != Some(id) {
            known.shown.remove(&id.crm);
        }
    }

    fn ask(&mut self, world: &mut World, person: PersonId, id: RecordId) {
        world.say(format_args!("relay: asks about {id}"));
        self.state.persons[person].asks.insert(id);
    }

    /// A record is gone for good: the person is to go everywhere, if the one who deleted it had seen the newest value.
    pub(super) fn gone(&mut self, world: &mut World, id: RecordId) {
        let Some(person) = self.state.person_of(id) else { return };
        let known = &mut self.state.persons[person];
        let is_member = known.members.get(&id.crm) == Some(&id) && !self.state.detached.contains(&id);
        if !is_member || known.life != Life::Live {
            return;
        }
        known.life = Life::Deleting;
        world.say(format_args!("relay: {id} is gone"));
        let informed = known.shown.get(&id.crm) == Some(&known.phone);
        let others: Vec<_> = known.members.values().copied().filter(|other| other.crm != id.crm).collect();
        if !informed && self.has(Rule::InformedDelete) {
            return self.ask(world, person, id);
        }
        for other in others {
            self.drop_record(world, person, other);
        }
    }

    /// Reads what would go; an edit that nobody has folded asks, the rest is deleted.
    fn drop_record(&mut self, world: &mut World, person: PersonId, id: RecordId) {
        let row = world.look(id);
        if self.state.persons[person].life == Life::Live || !row.alive {
            return;
        }
        if row.hand == Hand::User && self.state.is_unseen(id, row.at) && self.has(Rule::Unseen) {
            return self.ask(world, person, id);
        }
        world.tell(id, row.at);
        let delay = world.span(&[50, SEC]);
        self.later(world, delay, Task::Delete { person, id, version: row.at });
    }

    /// The delete call arrives.
    pub(super) fn delete(&mut self, world: &mut World, person: PersonId, id: RecordId, version: i64) {
        if self.state.persons[person].life == Life::Live {
            return;
        }
        let precondition = self.has(Rule::Unseen).then_some(version);
        if !world.delete(id, precondition) {
            self.ask(world, person, id);
        }
    }

    /// Two records became one: so do their persons.
    fn merged(&mut self, world: &mut World, loser: RecordId, survivor: RecordId) {
        let Some(a) = self.state.person_of(loser) else { return };
        let b = self.state.person_of(survivor).unwrap_or(a);
        self.state.of.entry(survivor).or_insert(b);
        let known = &mut self.state.persons[a];
        if known.members.get(&loser.crm) == Some(&loser) {
            known.members.remove(&loser.crm);
            known.shown.remove(&loser.crm);
        }
        self.state.of.remove(&loser);
        if a == b {
            self.attach(world, a, survivor);
        } else {
            self.join(world, a, b);
        }
        self.later(world, SEC, Task::Look(survivor));
        for id in self.state.persons[b].members.clone().into_values() {
            self.later(world, SEC, Task::Look(id));
        }
    }

    fn join(&mut self, world: &mut World, a: PersonId, b: PersonId) {
        self.state.persons[a].into = Some(b);
        let (members, asks) = (self.state.persons[a].members.clone(), self.state.persons[a].asks.clone());
        for id in members.into_values() {
            self.attach(world, b, id);
        }
        self.state.persons[b].asks.extend(asks);
        self.state.persons[b].life = Life::Live;
    }

    /// What every CRM is to show.
    pub(super) fn spread(&mut self, world: &mut World, person: PersonId) {
        if self.state.persons[person].life != Life::Live {
            return;
        }
        for crm in 0..world.shelves.len() {
            let known = &self.state.persons[person];
            if known.shown.get(&crm) != Some(&known.phone) {
                self.need_write(world, person, crm);
            }
        }
    }
}
