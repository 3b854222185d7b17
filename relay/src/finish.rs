//! Review and finish: due times of what was touched, outcomes, claims, documents; and what an earlier process left.

use std::collections::HashSet;

use headgate_schemas::Timestamp;
use headgate_schemas::failpoint::pass;

use crate::audit::Deed;
use crate::cache;
use crate::engine::{Command, Engine, link_of};
use crate::entity::pending::Closed;
use crate::entity::{Entity, MemberState, NO_REV};
use crate::mapping::Kind;
use crate::step;
use crate::store::{ClosedLetter, EntityId, EntityWrite, StoreError, WorkKey, WorkRow, claim_key};
use crate::work::{PARKED, Pair};

impl Engine {
    /// Due times of every pair of the entities that were touched.
    pub(crate) fn review(&mut self, now: Timestamp) -> Result<(), StoreError> {
        for id in self.tick.touched.clone() {
            self.review_entity(id, now)?;
        }
        Ok(())
    }

    pub(crate) fn review_entity(&mut self, id: EntityId, now: Timestamp) -> Result<(), StoreError> {
        let needs = self.look(id, now, |entity, cx| {
            (0..entity.members.len())
                .map(|m| (entity.members[m].connection, entity.next_due(m, cx)))
                .collect::<Vec<_>>()
        })?;
        for (target, due) in needs.unwrap_or_default() {
            let key = WorkKey { target, entity: id };
            let old = self.work.get(key).copied();
            if old.is_some_and(|p| p.busy.is_some()) {
                continue;
            }
            match due {
                Some(due) => {
                    let pair = match old {
                        // A failed attempt waits out its backoff.
                        Some(pair) if pair.attempts > 0 => {
                            Pair { due: if due == PARKED { due } else { due.max(pair.due) }, ..pair }
                        }
                        Some(pair) => {
                            Pair { due, since: if pair.due == PARKED { now.micros() } else { pair.since }, ..pair }
                        }
                        None => Pair::due_at(due, now.micros()),
                    };
                    if old != Some(pair) {
                        self.put_pair(key, pair);
                    }
                }
                None if old.is_some() => {
                    self.work.remove(key);
                    self.tick.work.insert(key);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Outcomes, due times, documents.
    pub(crate) fn finish(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.review(now)?;
        for id in self.tick.touched.clone() {
            let mut closed: Vec<Closed> = Vec::new();
            self.with(id, now, |entity, cx, _| entity.close_ended(cx, &mut closed))?;
            for c in closed {
                self.close(c.change, id, c.target, c.outcome, c.came, now);
            }
            self.review_entity(id, now)?;
            self.list_questions(id, now);
            self.write_entity(id)?;
        }
        self.write_work(now);
        self.forget_flights(now);
        Ok(())
    }

    fn write_entity(&mut self, id: EntityId) -> Result<(), StoreError> {
        let Some(loaded) = self.cache.get_mut(id) else { return Ok(()) };
        let open = loaded.entity.open_shares(&self.links[loaded.link]);
        if open != loaded.open {
            let link = self.link_numbers[loaded.link];
            self.tick.open.extend(loaded.open.iter().map(|(share, n)| (id, link, *share, -n)));
            self.tick.open.extend(open.iter().map(|(share, n)| (id, link, *share, *n)));
        }
        let doc = cache::encode(id, &loaded.entity)?;
        self.tick.unit.entities.push(EntityWrite { id, version: loaded.version, doc });
        loaded.open = open;
        loaded.version += 1;
        loaded.touched = false;
        Ok(())
    }

    fn write_work(&mut self, now: Timestamp) {
        let until = self.lease(now);
        let mut changed: Vec<WorkKey> = self.tick.work.drain().collect();
        changed.sort_unstable_by_key(|k| (k.target, k.entity));
        for key in changed {
            match self.work.get(key) {
                Some(pair) => self.tick.unit.work.push(pair.row(key, self.epoch, until)),
                None => self.tick.unit.done.push(key),
            }
        }
    }

    /// Takes the match claims of a record that was read. Where another entity holds one and has no record in that CRM,
    /// the record joins it.
    pub(crate) fn claim(&mut self, id: EntityId, connection: u32, now: Timestamp) -> Result<(), StoreError> {
        let wanted = self.look(id, now, |entity, _| entity.match_key())?.flatten();
        let held = self.look(id, now, |entity, _| entity.claims.clone())?.unwrap_or_default();
        if held.len() == usize::from(wanted.is_some()) && held.first() == wanted.as_ref() {
            return Ok(());
        }
        if let Some(key) = wanted {
            let holder = match self.tick.claims.get(&key).copied() {
                Some(holder) => Some(holder),
                None => self.store.claim(&key)?,
            };
            match holder {
                Some(other) if other != id => return self.join(id, other, connection, now),
                Some(_) => {}
                None => {
                    self.tick.claims.insert(key, id);
                    self.tick.unit.claims.push((key, id));
                }
            }
        }
        self.tick.unit.unclaims.extend(held.iter().filter(|k| Some(**k) != wanted));
        self.with(id, now, |entity, _, _| entity.claims = wanted.into_iter().collect())?;
        Ok(())
    }

    /// Moves the only record of entity `id` into entity `other`, unless that has one in the same CRM: then the two stay
    /// apart.
    fn join(&mut self, id: EntityId, other: EntityId, connection: u32, now: Timestamp) -> Result<(), StoreError> {
        let free = self.with(other, now, |entity, _, _| {
            entity.member_of(connection).is_none_or(|m| entity.members[m].native.is_none())
        })?;
        let alone =
            self.with(id, now, |entity, _, _| entity.members.iter().filter(|m| m.native.is_some()).count() == 1)?;
        if free != Some(true) || alone != Some(true) {
            return Ok(());
        }
        let Some(moved) = self
            .with(id, now, |entity, _, _| {
                let m = entity.member_of(connection)?;
                let mut member = entity.members[m].clone();
                member.state = MemberState::Heard;
                member.asked.extend(
                    entity
                        .members
                        .iter_mut()
                        .flat_map(|t| std::mem::take(&mut t.pending))
                        .map(|p| crate::entity::Asked { change: p.change, came: p.came }),
                );
                member.asked.sort_by_key(|a| a.change);
                member.asked.dedup_by_key(|a| a.change);
                entity.members.clear();
                entity.fields.clear();
                Some(member)
            })?
            .flatten()
        else {
            return Ok(());
        };
        let native = moved.native.clone().unwrap_or_default();
        self.with(other, now, |entity, cx, _| {
            let mut member = moved;
            member.need_read(cx.now);
            match entity.member_of(connection) {
                Some(m) => {
                    member.pending = std::mem::take(&mut entity.members[m].pending);
                    entity.members[m] = member;
                }
                None => {
                    entity.add_member(member);
                }
            }
        })?;
        let object = self.cache.get_mut(other).map(|l| l.entity.object.clone());
        if let Some(object) = object {
            let key = crate::store::member_key(connection, object.as_str(), &native);
            self.tick.members.insert(key, other);
            self.tick.unit.members.push((key, other));
        }
        let stale: Vec<WorkKey> = self.lines.keys().map(|target| WorkKey { target: *target, entity: id }).collect();
        for key in stale {
            if self.work.remove(key) {
                self.tick.work.insert(key);
            }
        }
        Ok(())
    }

    /// What an earlier process left: calls that were under way are of unknown outcome now.
    pub(crate) fn recover(&mut self, rows: &[WorkRow], now: Timestamp) -> Result<(), StoreError> {
        let mut counted = HashSet::new();
        for row in rows {
            if !self.load(row.key.entity)? {
                self.tick.work.insert(row.key);
                continue;
            }
            if counted.insert(row.key.entity) {
                self.count_open(row.key.entity);
            }
            let pair = Pair { attempts: row.attempts, ..Pair::due_at(row.due, now.micros()) };
            self.put_pair(row.key, pair);
            let intents =
                self.with(row.key.entity, now, |e, _, _| e.member_of(row.key.target).map(|m| e.open_intents(m)))?;
            for intent in intents.flatten().unwrap_or_default() {
                self.give_up_on(row.key.entity, row.key.target, intent, now)?;
            }
        }
        self.finish(now)?;
        pass(step::RECOVERING);
        self.commit()?;
        pass(step::RECOVERED);
        Ok(())
    }

    /// Puts what an entity had open when it was read into the books: at a start nothing else tells them.
    fn count_open(&mut self, id: EntityId) {
        let Some(loaded) = self.cache.get_mut(id) else { return };
        let link = self.link_numbers[loaded.link];
        for (share, n) in &loaded.open {
            self.books.open(link, *share, *n);
        }
    }

    pub(crate) fn command(&mut self, command: Command, now: Timestamp) -> Result<(), StoreError> {
        match command {
            Command::Letter { id, again, by, done } => {
                let letter = self.store.open_letter(id)?;
                let found = letter.is_some();
                if let Some((entity, target, fields)) = letter {
                    let what = if again { "deadletter.retry" } else { "deadletter.skip" };
                    let deed = Deed { who: &by, what, subject: format!("deadletter/{id}") };
                    self.audited(deed, entity, now, |engine| {
                        engine.tick.unit.closed_letters.push(ClosedLetter { id, again, at: now.micros() });
                        if again { engine.retry_letter(entity, target, &fields, now) } else { Ok(()) }
                    })?;
                }
                if done.send(found).is_err() {
                    tracing::debug!(letter = id, "whoever asked about the dead letter has gone away");
                }
            }
            Command::Resolve(resolution) => self.resolve(resolution, now)?,
            Command::Described { connection, object, fields } => {
                self.describe(&connection, &object, &fields);
            }
            Command::SetUp { connection, object, open: false } => self.await_set_up(&connection, &object),
            Command::SetUp { connection, object, open: true } => {
                let Some(number) = self.numbers.get(&connection).copied() else { return Ok(()) };
                if let Some(line) = self.lines.get_mut(&number) {
                    line.on_set_up(&object);
                }
                self.work.all_due(number, now.micros());
            }
        }
        Ok(())
    }

    fn retry_letter(
        &mut self,
        entity: EntityId,
        target: u32,
        fields: &[String],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.with(entity, now, |e, _, _| {
            let Some(m) = e.member_of(target) else { return };
            for field in e.fields.iter_mut().filter(|f| fields.is_empty() || fields.iter().any(|n| **n == *f.name)) {
                if let Some(cell) = &mut field.cells[m] {
                    cell.refused = NO_REV;
                }
            }
            if e.members[m].state == MemberState::Refused {
                e.members[m].state = MemberState::Absent;
            }
        })?;
        Ok(())
    }

    /// Puts the numbers of this moment into the metrics.
    pub fn measure(&self, now: Timestamp) {
        let m = &self.metrics;
        let totals = self.totals();
        m.due.set(totals.due);
        m.closed.set(totals.closed);
        m.open.set(totals.open);
        m.difference.set(totals.difference());
        let mut oldest: Option<i64> = None;
        for line in self.lines.values() {
            let label = crate::metrics::Connection { connection: line.name.clone() };
            let (waiting, since) = self.work.backlog(line.number);
            m.waiting.get_or_create(&label).set(i64::try_from(waiting).unwrap_or(i64::MAX));
            m.circuit.get_or_create(&label).set(line.state(now));
            m.inflight
                .get_or_create(&crate::metrics::Crm { crm: line.system.as_str() })
                .set(i64::try_from(line.open).unwrap_or(0));
            oldest = [oldest, since].into_iter().flatten().min();
        }
        let age = oldest.map_or(0.0, |since| now.since(Timestamp::from_micros(since)).as_secs_f64());
        m.oldest.set(age);
    }

    /// The link an entity of this kind would have.
    pub fn has_link(&self, tenant: &str, object: &headgate_schemas::ObjectType) -> bool {
        link_of(&self.links, tenant, object) != 0
    }
}

impl Entity {
    /// When member `m` wants something done.
    fn next_due(&mut self, m: usize, cx: &crate::entity::fold::Context<'_>) -> Option<i64> {
        self.revive(m);
        let read = self.members[m].next_read();
        let now = match self.members[m].state {
            // A read that came too early is waited for: what it shows decides what is to be written.
            MemberState::Live => self.members[m].stale == 0 && !self.dirty(m, cx).is_empty(),
            MemberState::Absent => self.wants_create(m),
            MemberState::Heard | MemberState::Gone | MemberState::Refused => false,
        };
        let due = if now { Some(read.map_or(cx.now, |r| r.min(cx.now))) } else { read };
        let waits = !self.members[m].pending.is_empty() || !self.members[m].asked.is_empty();
        due.or_else(|| waits.then_some(PARKED))
    }

    /// A refused create is tried again as soon as the entity has a newer revision.
    fn revive(&mut self, m: usize) {
        let newer =
            |f: &crate::entity::Field| f.cells[m].as_ref().is_some_and(|c| c.refused != NO_REV && f.rev > c.refused);
        if self.members[m].state == MemberState::Refused && self.fields.iter().any(newer) {
            self.members[m].state = MemberState::Absent;
        }
    }

    /// What this entity claims: the e-mail address of a person.
    fn match_key(&self) -> Option<[u8; 16]> {
        if self.object.as_str() != "contact" {
            return None;
        }
        let value = &self.fields[self.field_named("email")?].value;
        (!value.is_empty()).then(|| claim_key(&self.tenant, self.object.as_str(), "email", &Kind::Email.normal(value)))
    }
}
