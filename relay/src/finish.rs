//! Review and finish: due times of what was touched, outcomes, claims, documents; and what an earlier process left.

use std::collections::HashSet;

use headgate_schemas::Timestamp;
use headgate_schemas::failpoint::pass;

use crate::audit::Deed;
use crate::cache;
use crate::engine::{Command, Engine, Holding, Recalled, Told, link_of};
use crate::entity::pending::Closed;
use crate::entity::record::RemovalState;
use crate::entity::{Entity, Life, MemberState, NO_REV, Outcome};
use crate::step;
use crate::store::{ClosedLetter, EntityId, EntityWrite, KeptRow, KeyWrite, StoreError, WorkKey, WorkRow, digest};
use crate::work::{PARKED, Pair};

impl Engine {
    /// Due times of every pair of the entities that were touched.
    pub(crate) fn review(&mut self, now: Timestamp) -> Result<(), StoreError> {
        for id in self.tick.touched.clone() {
            self.review_if_changed(id, now)?;
        }
        Ok(())
    }

    /// [`Engine::review_entity`], where anything changed since it was reviewed in this tick.
    fn review_if_changed(&mut self, id: EntityId, now: Timestamp) -> Result<(), StoreError> {
        if self.cache.is_reviewed(id) { Ok(()) } else { self.review_entity(id, now) }
    }

    pub(crate) fn review_entity(&mut self, id: EntityId, now: Timestamp) -> Result<(), StoreError> {
        let needs = self.look(id, now, |entity, cx| {
            (0..entity.members.len())
                .map(|m| (entity.members[m].connection, entity.next_due(m, cx)))
                .collect::<Vec<_>>()
        })?;
        // Until it is joined it rests; the join is what makes it due again.
        let rests = self.is_joining(id);
        for (target, due) in needs.unwrap_or_default() {
            let due = if rests { due.map(|_| PARKED) } else { due };
            let key = WorkKey { target, entity: id };
            if self.is_busy(key) {
                continue;
            }
            let theirs = self.elsewhere(key);
            let old = self.work.get(key).copied().or_else(|| theirs.as_ref().map(Pair::of_row));
            match due {
                Some(due) => {
                    let pair = match old {
                        // A failed attempt waits out its backoff.
                        Some(pair) if pair.attempts > 0 => {
                            let rested = due == PARKED || pair.due == PARKED;
                            Pair { due: if rested { due } else { due.max(pair.due) }, ..pair }
                        }
                        Some(pair) => {
                            Pair { due, since: if pair.due == PARKED { now.micros() } else { pair.since }, ..pair }
                        }
                        None => Pair::due_at(due, now.micros()),
                    };
                    // What another worker does as soon is left to it.
                    if old != Some(pair) && theirs.is_none_or(|row| pair.due < row.due) {
                        self.put_pair(key, pair);
                    }
                }
                None => self.end_pair(key),
            }
        }
        self.cache.set_reviewed(id, true);
        Ok(())
    }

    /// Outcomes, due times, documents.
    pub(crate) fn finish(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.review(now)?;
        for id in self.tick.touched.clone() {
            let mut closed: Vec<Closed> = Vec::new();
            self.look(id, now, |entity, cx| entity.close_ended(cx, &mut closed))?;
            if !closed.is_empty() {
                self.cache.set_reviewed(id, false);
            }
            for c in closed {
                self.close(c.change, id, c.target, c.outcome, c.came, now);
            }
            self.end_life(id, now)?;
            self.review_if_changed(id, now)?;
            self.list_questions(id, now)?;
            self.write_entity(id, now)?;
        }
        self.write_identity();
        self.write_work(now)?;
        self.forget_flights(now);
        Ok(())
    }

    fn write_entity(&mut self, id: EntityId, now: Timestamp) -> Result<(), StoreError> {
        let Some(loaded) = self.cache.get_mut(id) else { return Ok(()) };
        let open = loaded.entity.open_shares();
        if open != loaded.open {
            self.tick.open.extend(loaded.open.iter().map(|(share, n)| (id, *share, -n)));
            self.tick.open.extend(open.iter().map(|(share, n)| (id, *share, *n)));
        }
        self.tick.unit.trail.extend(loaded.tale.row(id, &mut loaded.entity, now));
        let doc = cache::encode(id, &loaded.entity)?;
        self.tick.unit.entities.push(EntityWrite { id, version: loaded.version, doc: Some(doc) });
        loaded.open = open;
        loaded.version += 1;
        loaded.touched = false;
        Ok(())
    }

    /// Records, claims and weaker keys, as they stand at the end of the tick.
    fn write_identity(&mut self) {
        // Where others write, too, what was read and stays as it is must still be so.
        let shared = self.tenure.shared;
        let moved = |(key, Holding { was, now })| (shared || was != now).then_some(KeyWrite { key, was, now });
        self.tick.unit.members.extend(std::mem::take(&mut self.tick.members).into_iter().filter_map(moved));
        self.tick.unit.members.sort_unstable_by_key(|write| write.key);
        self.tick.unit.claims.extend(std::mem::take(&mut self.tick.claims).into_iter().filter_map(moved));
        let hints = std::mem::take(&mut self.tick.hints);
        self.tick.unit.hints.extend(hints.into_iter().map(|((key, id), on)| (key, id, on)));
        let hinted = std::mem::take(&mut self.tick.hinted);
        self.tick.unit.hinted.extend(hinted.into_iter().filter(|_| shared));
    }

    fn write_work(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let until = self.under_way(now);
        let mut changed: Vec<WorkKey> = self.tick.work.drain().collect();
        changed.sort_unstable_by_key(|k| (k.entity, k.target));
        let mut written: HashSet<EntityId> = self.tick.unit.entities.iter().map(|e| e.id).collect();
        for key in changed {
            match self.work.get(key) {
                Some(pair) => self.tick.unit.work.push(pair.row(key, self.epoch, until)),
                None => self.tick.unit.done.push(key),
            }
            let known = self.load(key.entity)?;
            let Some(loaded) = self.cache.get_mut(key.entity).filter(|_| known) else { continue };
            loaded.elsewhere.retain(|row| row.key != key);
            if written.insert(key.entity) {
                self.tick.unit.entities.push(EntityWrite { id: key.entity, version: loaded.version, doc: None });
                loaded.version += 1;
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
            self.recover_life(row.key.entity, now)?;
            self.recover_targets(row.key.entity, now)?;
            if !self.tenure.shared {
                let pair = Pair { attempts: row.attempts, ..Pair::due_at(row.due, now.micros()) };
                self.put_pair(row.key, pair);
            } else if self.work.get(row.key).is_none() {
                // Another worker was faster.
                continue;
            }
            // Only from this commit on the row says that no call has it.
            self.tick.work.insert(row.key);
            let intents =
                self.with(row.key.entity, now, |e, _, _| e.member_of(row.key.target).map(|m| e.open_intents(m)))?;
            for intent in intents.flatten().unwrap_or_default() {
                self.told_of_loss(row.key.entity, row.key.target, intent);
                self.give_up_on(row.key.entity, row.key.target, intent, now)?;
            }
        }
        self.join_free(now)?;
        self.finish(now)?;
        pass(step::RECOVERING);
        self.commit(now)?;
        pass(step::RECOVERED);
        Ok(())
    }

    /// A link may have lost targets since: what waits for a decision is due there no more.
    fn recover_targets(&mut self, id: EntityId, now: Timestamp) -> Result<(), StoreError> {
        let left = self.with(id, now, |entity, cx, _| entity.leave_targets(cx.link))?;
        for (source, asked) in left.unwrap_or_default() {
            self.close_source(id, source, &[(asked, Outcome::Skipped)], now)?;
        }
        Ok(())
    }

    /// Puts what an entity had open when it was read into the books: at a start nothing else tells them.
    fn count_open(&mut self, id: EntityId) {
        let Some(loaded) = self.cache.get_mut(id).filter(|_| !self.tenure.shared) else { return };
        for (share, n) in &loaded.open {
            self.books.open(*share, *n);
        }
    }

    /// Does what a person asks for. What it comes to is told when it is durable.
    pub(crate) fn command(&mut self, command: &Command, now: Timestamp) -> Result<Told, StoreError> {
        match command {
            Command::Letter { id, again, by, .. } => {
                let (id, again) = (*id, *again);
                let letter = self.store.open_letter(id)?;
                let found = letter.is_some();
                if let Some((entity, target, fields)) = letter {
                    let what = if again { "deadletter.retry" } else { "deadletter.skip" };
                    let deed = Deed { who: by, what, subject: format!("deadletter/{id}") };
                    self.audited(deed, entity, now, |engine| {
                        engine.tick.unit.closed_letters.push(ClosedLetter { id, again, at: now.micros() });
                        if again { engine.retry_letter(entity, target, &fields, now) } else { Ok(()) }
                    })?;
                }
                return Ok(Told::Letter(found));
            }
            Command::Resolve(resolution) => return Ok(Told::Resolved(self.resolve(resolution, now)?)),
            Command::Described { connection, object, fields } => self.describe(connection, object, fields),
            Command::Recall { shelf, name, .. } => {
                let rows = self.store.kept(*shelf, name.as_deref())?;
                return Ok(Told::Recalled(Recalled { epoch: self.epoch, rows }));
            }
            Command::Keep { epoch, rows, deed, .. } if *epoch == self.epoch => {
                self.keep(rows, deed.as_ref(), now);
                return Ok(Told::Kept);
            }
            Command::Keep { .. } => {}
            Command::SetUp { connection, object, open: false } => self.await_set_up(connection, object),
            Command::SetUp { connection, object, open: true } => {
                let Some(number) = self.numbers.get(connection).copied() else { return Ok(Told::Nothing) };
                if let Some(line) = self.lines.get_mut(&number) {
                    line.on_set_up(object);
                }
                self.work.all_due(number, now.micros());
            }
        }
        Ok(Told::Nothing)
    }

    fn keep(&mut self, rows: &[KeptRow], deed: Option<&(String, &'static str)>, now: Timestamp) {
        if let (Some((who, what)), Some(KeptRow { shelf, name, value })) = (deed, rows.first()) {
            let subject = format!("{}/{name}", shelf.as_str());
            self.note_deed(Deed { who, what, subject }, None, value.as_deref().map(digest), now);
        }
        self.tick.unit.kept.extend_from_slice(rows);
    }

    fn retry_letter(
        &mut self,
        entity: EntityId,
        target: u32,
        fields: &[String],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (entity, _) = self.follow(entity, 0)?;
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
            e.members[m].removals.retain(|r| r.state != RemovalState::Refused);
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
            // A read that was too old is waited for: what it shows decides what is to be written.
            MemberState::Live => self.members[m].stale == 0 && !self.dirty(m, cx).is_empty(),
            MemberState::Absent => self.wants_create(m),
            MemberState::Heard
            | MemberState::Missing(_)
            | MemberState::Gone
            | MemberState::Removed(_)
            | MemberState::Refused => false,
        };
        let patient = self.is_doubtful(m, cx) && self.life != Life::Erasing;
        let now = now || (!patient && self.wants_removal(m, cx));
        let due = if now { Some(read.map_or(cx.now, |r| r.min(cx.now))) } else { read };
        // What waits for something else must be found again at the next start.
        let rests = self.joining.is_some() || matches!(self.life, Life::Leaving(_) | Life::Erasing);
        let waits = rests || !self.members[m].pending.is_empty() || !self.members[m].asked.is_empty();
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
}
