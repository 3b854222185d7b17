//! Accept: one batch of the stream folded into its entities, without any network. A repeat is counted as such; a
//! change ends here when nothing has to be written for it.

use std::collections::BTreeSet;

use headgate_schemas::change::Ours;
use headgate_schemas::stream::Delivered;
use headgate_schemas::{Change, ChangeId, ChangeKind, ObjectType, Span, Timestamp, Value, contract};
use uuid::Uuid;

use crate::books::Place;
use crate::engine::Engine;
use crate::entity::fold::Folded;
use crate::entity::{Asked, Author, Came, Entity, Event, Life, MemberState, NO_FLOOR, Outcome, Seen};
use crate::mapping::{Decoded, Link};
use crate::store::{Counter, DeadLetter, EntityId, OutcomeRow, StoreError, change_key, member_key, tombstone_key};
use crate::trail::{FIELDS_MOST, Happened, Met};

/// A change whose time is so far ahead of its arrival is not believed.
const FUTURE: i64 = 300_000_000;

/// What a change asks of the relay.
enum Meaning {
    /// Fold it.
    Fold(Event),
    /// Nothing is written for it.
    Skip,
}

impl Engine {
    pub(crate) fn accept(&mut self, records: &[Delivered], now: Timestamp) -> Result<(), StoreError> {
        for delivered in records {
            if !self.part.has(delivered.partition) {
                // It was given up since this was read, and whoever has it reads it again.
                continue;
            }
            match contract::decode(&delivered.record) {
                Ok(change) => self.take(&change, now)?,
                Err(error) => self.undecodable(delivered, &error, now),
            }
            self.positions.insert(delivered.partition, delivered.offset + 1);
        }
        let read: BTreeSet<u32> = records.iter().map(|r| r.partition).filter(|p| self.part.has(*p)).collect();
        self.tick.unit.positions.extend(self.positions().into_iter().filter(|p| read.contains(&p.partition)));
        Ok(())
    }

    fn take(&mut self, change: &Change, now: Timestamp) -> Result<(), StoreError> {
        let occurred = change.occurred_at.map_or(0, Timestamp::millis);
        let key = change_key(&change.tenant, change.id, occurred);
        if self.tick.changes.contains(&key) || self.store.known(&key)? {
            self.tick.unit.count(Counter::Repeats, 1);
            self.tick.unit.repeats.push(key);
            self.metrics.repeats.inc();
            return Ok(());
        }
        self.tick.changes.insert(key);
        self.tick.unit.changes.push((key, now.micros()));
        self.tick.unit.count(Counter::Changes, 1);
        self.tick.waited = self.tick.waited.max(now.micros() - change.received_at.micros());
        let route = self.route(change);
        let targets: Vec<u32> =
            route.map_or_else(Vec::new, |(source, link)| self.links[link].targets(source).collect());
        let route = route.filter(|_| !targets.is_empty());
        let number = route.map_or(0, |(_, link)| self.link_numbers[link]);
        let came = Came { received: change.received_at.micros(), accepted: now.micros(), link: number };
        let Some((source, link)) = route else {
            self.tick.unit.due_at(Place::default());
            self.end(change.id, 0, Place::default(), Outcome::NoTarget, came, now);
            return Ok(());
        };
        let places = targets.iter().map(|target| Place { link: number, target: *target });
        places.for_each(|place| self.tick.unit.due_at(place));
        let event = match meaning(change, source, &self.links[link], came, &targets) {
            Meaning::Fold(event) => event,
            Meaning::Skip => {
                self.close_all(change.id, 0, &targets, Outcome::Skipped, came, now);
                return Ok(());
            }
        };
        let named = change.object.id.as_deref().unwrap_or_default();
        let native = change.merge.as_ref().map_or(named, |merge| merge.into.as_str());
        let Some(id) = self.entity_of(change, source, link, native, now)? else {
            self.close_all(change.id, 0, &targets, Outcome::Skipped, came, now);
            return Ok(());
        };
        if change.kind == ChangeKind::Purged {
            self.with(id, now, |e, _, _| e.member_of(source).map(|m| e.members[m].purge = e.life != Life::Erased))?;
        }
        let heard = heard(change, source, &event.cells);
        let met = if self.concerns(id, source, native, now)? {
            self.fold_event(id, source, event, now)?
        } else {
            self.close_all(change.id, id, &targets, Outcome::Skipped, came, now);
            Met::Skipped
        };
        self.happened(id, heard(met));
        if let Some(merge) = &change.merge {
            for gone in merge.from.iter().filter(|gone| *gone != native) {
                self.hear_of_merge(source, change, gone, native, now)?;
            }
        }
        Ok(())
    }

    /// Connection and link of a change, where it has both.
    fn route(&self, change: &Change) -> Option<(u32, usize)> {
        let source = *self.numbers.get(&change.source.connection)?;
        let link = self
            .links
            .iter()
            .position(|l| l.tenant == change.tenant && l.object == change.object.kind && l.member(source).is_some())?;
        self.lines.contains_key(&source).then_some((source, link))
    }

    fn entity_of(
        &mut self,
        change: &Change,
        source: u32,
        link: usize,
        native: &str,
        now: Timestamp,
    ) -> Result<Option<EntityId>, StoreError> {
        let key = member_key(source, change.object.kind.as_str(), native);
        if let Some(id) = self.owner(&key)? {
            return Ok(Some(self.follow(id, 0)?.0));
        }
        if self.store.is_erased(&tombstone_key(&self.salt, &key))? {
            return Ok(None);
        }
        self.make_entity(&change.tenant, &change.object.kind, link, (source, native), now).map(Some)
    }

    /// A new entity with one record that was named and not read yet.
    pub(crate) fn make_entity(
        &mut self,
        tenant: &str,
        object: &ObjectType,
        link: usize,
        (connection, native): (u32, &str),
        now: Timestamp,
    ) -> Result<EntityId, StoreError> {
        let id = self.store.next_entity()?;
        let uuid = self.new_uuid(now);
        let entity = Entity::heard(uuid, tenant, object.clone(), connection, native, now.micros());
        self.cache.insert(id, entity, link);
        self.own(member_key(connection, object.as_str(), native), id)?;
        Ok(id)
    }

    /// Whether an event of record `native` is news of the entity it belongs to: not where the record was set aside, gave
    /// its place to another one, or was erased.
    fn concerns(&mut self, id: EntityId, source: u32, native: &str, now: Timestamp) -> Result<bool, StoreError> {
        let concerns = self.with(id, now, |e, cx, _| {
            let m = e.member_of(source).filter(|_| !e.is_over() && e.life != Life::Erasing)?;
            if e.members[m].native.as_deref() == Some(native) {
                return Some(true);
            }
            let aside = e.detached.iter().any(|d| d.connection == source && *d.native == *native);
            let member = &mut e.members[m];
            if aside || member.has_record() || member.create.is_some() {
                return Some(false);
            }
            // A record that was there before, and is heard of again: a read tells what it is now.
            member.native = Some(native.into());
            member.state = MemberState::Gone;
            member.need_read(cx.now);
            Some(true)
        })?;
        Ok(concerns.flatten().unwrap_or(false))
    }

    fn new_uuid(&mut self, now: Timestamp) -> Uuid {
        let mut random = [0; 10];
        self.dice.fill(&mut random);
        uuid::Builder::from_unix_timestamp_millis(u64::try_from(now.millis()).unwrap_or(0), &random).into_uuid()
    }

    pub(crate) fn fold_event(
        &mut self,
        id: EntityId,
        source: u32,
        event: Event,
        now: Timestamp,
    ) -> Result<Met, StoreError> {
        let asked = event.asked();
        let folded = self.with(id, now, |entity, cx, notes| {
            let m = entity.member_of(source)?;
            let folded = entity.fold(m, event, cx, notes);
            entity.settle_fold(m, &asked, &folded);
            let met = Met::of(&folded, entity);
            Some((folded, met))
        })?;
        let (folded, met) = folded.flatten().map_or((None, Met::Skipped), |(folded, met)| (Some(folded), met));
        match folded {
            Some(Folded::Done { taken, learned }) if taken.is_empty() => {
                let outcome = Outcome::of(learned);
                if outcome == Outcome::Echo {
                    self.count_echo(source);
                }
                self.close_all(asked.change, id, &asked.targets, outcome, asked.came, now);
            }
            Some(Folded::Done { .. } | Folded::Asked | Folded::Waiting) => {}
            None => self.close_all(asked.change, id, &asked.targets, Outcome::Skipped, asked.came, now),
        }
        Ok(met)
    }

    pub(crate) fn count_echo(&self, source: u32) {
        if let Some(line) = self.lines.get(&source) {
            self.metrics.loops.get_or_create(&crate::metrics::Crm { crm: line.system.as_str() }).inc();
        }
    }

    /// A record that was merged away, if we know it: the event names the survivor, a read decides. One that was set
    /// aside is done with: nothing was ever written to it.
    fn hear_of_merge(
        &mut self,
        source: u32,
        change: &Change,
        native: &str,
        into: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let key = member_key(source, change.object.kind.as_str(), native);
        if let Some(id) = self.owner(&key)? {
            let (id, _) = self.follow(id, 0)?;
            self.with(id, now, |entity, cx, _| {
                entity.detached.retain(|d| d.connection != source || *d.native != *native);
                entity.end_surplus(source, native);
                let Some(m) = entity.member_of(source) else { return };
                if entity.members[m].native.as_deref() == Some(native) {
                    entity.members[m].into = Some(into.into());
                    entity.members[m].need_read(cx.now);
                }
            })?;
            self.happened(id, heard(change, source, &[])(Met::Asked));
        }
        Ok(())
    }

    pub(crate) fn close_all(
        &mut self,
        change: ChangeId,
        entity: EntityId,
        targets: &[u32],
        outcome: Outcome,
        came: Came,
        now: Timestamp,
    ) {
        for target in targets {
            self.close(change, entity, *target, outcome, came, now);
        }
    }

    /// Writes down how a change ended at a target, of an entity or of none (0).
    pub(crate) fn close(
        &mut self,
        change: ChangeId,
        entity: EntityId,
        target: u32,
        outcome: Outcome,
        came: Came,
        now: Timestamp,
    ) {
        self.end(change, entity, Place { link: came.link, target }, outcome, came, now);
    }

    /// [`Engine::close`] for a change that may have no target.
    fn end(&mut self, change: ChangeId, entity: EntityId, place: Place, outcome: Outcome, came: Came, now: Timestamp) {
        let previous = self.chain(entity, came.accepted);
        self.tick.unit.outcomes.push(OutcomeRow {
            change,
            accepted: came.accepted,
            place,
            entity,
            previous,
            outcome,
            at: now.micros(),
            took: now.micros() - came.received,
        });
        if outcome == Outcome::Delivered {
            self.time_delivery(place.target, came, now);
        }
    }

    /// Makes an outcome the newest of its entity; returns the one before it.
    fn chain(&mut self, id: EntityId, accepted: i64) -> i64 {
        let Some(loaded) = self.cache.get_mut(id) else { return 0 };
        if !loaded.touched {
            loaded.touched = true;
            self.tick.touched.push(id);
        }
        std::mem::replace(&mut loaded.entity.outcome, accepted)
    }

    fn time_delivery(&self, target: u32, came: Came, now: Timestamp) {
        const BUDGET: f64 = 5.0;
        let Some(line) = self.lines.get(&target) else { return };
        let crm = line.system.as_str();
        let (ingest, deliver) = (seconds(came.accepted - came.received), seconds(now.micros() - came.accepted));
        let total = seconds(now.micros() - came.received);
        for (stage, value) in [("ingest", ingest), ("deliver", deliver), ("total", total)] {
            self.metrics.e2e.get_or_create(&crate::metrics::CrmStage { crm, stage }).observe(value);
        }
        if total > BUDGET {
            let stage = if ingest > deliver { "ingest" } else { "deliver" };
            self.metrics.budget_missed.get_or_create(&crate::metrics::Stage { stage }).inc();
        }
    }

    /// A record of the stream that is no change: kept as a pipeline failure for the operator; the stream goes on.
    fn undecodable(&mut self, delivered: &Delivered, error: &contract::DecodeError, now: Timestamp) {
        tracing::error!(
            partition = delivered.partition,
            offset = delivered.offset,
            "a record of the stream is no change"
        );
        self.metrics.undecodable.inc();
        let words = format!("partition {} offset {}: {error}", delivered.partition, delivered.offset);
        let message = self.seal(&words);
        self.tick.unit.dead_letters.push(DeadLetter {
            entity: 0,
            target: 0,
            at: now.micros(),
            code: "pipeline_undecodable".to_owned(),
            message,
            fields: Vec::new(),
        });
    }

    pub(crate) fn seal(&self, words: &str) -> Vec<u8> {
        self.vault.seal(b"dead_letter", words.as_bytes()).unwrap_or_default()
    }
}

impl Entity {
    /// Keeps a change where it waits: for a read, or for its targets.
    pub(crate) fn settle_fold(&mut self, m: usize, asked: &Asked, folded: &Folded) {
        match folded {
            Folded::Asked => self.members[m].asked.push(asked.clone()),
            Folded::Done { taken, .. } if !taken.is_empty() => self.track(m, asked, taken),
            Folded::Done { .. } | Folded::Waiting => {}
        }
    }
}

fn seconds(us: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a latency for a histogram")]
    let us = us.max(0) as f64;
    us / 1e6
}

impl From<Ours> for Author {
    fn from(ours: Ours) -> Self {
        match ours {
            Ours::Yes => Self::Us,
            Ours::No => Self::User,
            Ours::Unknown => Self::Unknown,
        }
    }
}

/// A change as it is told of its record, once it is known what became of it.
fn heard(change: &Change, source: u32, cells: &[(Box<str>, Value)]) -> impl FnOnce(Met) -> Happened + use<> {
    let (id, kind, late, author) = (change.id, change.kind, change.late, change.origin.ours.into());
    let occurred = change.occurred_at.map(Timestamp::micros);
    let fields = cells.iter().map(|(name, _)| name.clone()).take(FIELDS_MOST).collect();
    move |met| Happened::Heard { change: id, source, kind, occurred, late, author, fields, met }
}

/// What a change asks of the relay, by its kind.
fn meaning(change: &Change, source: u32, link: &Link, came: Came, targets: &[u32]) -> Meaning {
    if change.object.id.is_none() {
        return Meaning::Skip;
    }
    // Without a time of the CRM only a read can tell, and there is nothing that its answer could be too old for: our own
    // clock is later than every version, so each read would be taken for a stale one.
    let time = change.occurred_at.map_or(Span::point(NO_FLOOR), |at| Span::of(at, change.occurred_at_resolution));
    let mut event = Event {
        change: change.id,
        came,
        targets: targets.into(),
        seen: if change.state || change.fields_complete { Seen::State } else { Seen::Edit },
        cells: Vec::new(),
        hint: true,
        time,
        author: change.origin.ours.into(),
    };
    match change.kind {
        ChangeKind::Linked | ChangeKind::Unlinked => Meaning::Skip,
        // Any answer will do: nothing to be found is the news.
        ChangeKind::Deleted | ChangeKind::Purged => {
            event.time = Span::point(NO_FLOOR);
            Meaning::Fold(event)
        }
        // A time well ahead of ours would freeze the field until then: a read tells what stands there.
        _ if time.lo > came.received + FUTURE => {
            event.time = Span::point(NO_FLOOR);
            Meaning::Fold(event)
        }
        ChangeKind::Created | ChangeKind::Restored | ChangeKind::Merged | ChangeKind::Touched | ChangeKind::Resync => {
            Meaning::Fold(event)
        }
        ChangeKind::Updated if change.needs_fetch || change.occurred_at.is_none() => Meaning::Fold(event),
        ChangeKind::Updated => {
            let wire = |name: &str| change.fields.get(name).map(|f| f.value.clone());
            event.hint = false;
            for plan in link.fields() {
                match plan.decode(source, &wire) {
                    Decoded::Told(value) => event.cells.push((plan.name().into(), value)),
                    Decoded::Partly => event.hint = true,
                    Decoded::Untold => {}
                }
            }
            if event.hint || !event.cells.is_empty() { Meaning::Fold(event) } else { Meaning::Skip }
        }
    }
}
