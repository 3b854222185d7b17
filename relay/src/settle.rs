//! Settle: what the CRMs answered, item by item. A failure of a whole call is a failure of each of its items.

use headgate_schemas::{Span, Timestamp};

use crate::config::Guard;
use crate::engine::{CallId, Engine, Flight, Reply, ReplyResult, Step};
use crate::entity::fold::{Context, Learned};
use crate::entity::join::ReadValues;
use crate::entity::write::{Answer, ReadOutcome, Refolded};
use crate::entity::{Asked, Came, Entity, Member, MemberState, Outcome};
use crate::metrics;
use crate::store::{EntityId, StoreError, WorkKey, member_key};
use crate::target::{Answered, Disposition, Found, ReadItem, TargetError, Version, Written};

impl Engine {
    pub(crate) fn settle(&mut self, id: CallId, reply: Reply, now: Timestamp) -> Result<(), StoreError> {
        let Some(flight) = self.flights.remove(&id) else { return Ok(()) };
        if flight.given_up {
            return self.settle_late(&flight, reply, now);
        }
        if let Some(line) = self.lines.get_mut(&flight.connection) {
            line.on_return();
        }
        match reply.result {
            ReplyResult::Read(Ok(answered)) if answered.items.len() == flight.pairs.len() => {
                self.answered(&flight, &answered, reply.sent, reply.answered, now);
                self.settle_read(&flight, answered.items, reply.sent, now)
            }
            ReplyResult::Write(Ok(answered)) if answered.items.len() == flight.pairs.len() => {
                self.answered(&flight, &answered, reply.sent, reply.answered, now);
                self.time_write(&flight, reply.sent, reply.answered);
                self.settle_write(&flight, answered.items, now)
            }
            ReplyResult::Read(Ok(_)) => self.settle_failed(id, flight, &short_answer(Disposition::Retry), now),
            ReplyResult::Write(Ok(_)) => self.settle_failed(id, flight, &short_answer(Disposition::Unknown), now),
            ReplyResult::Read(Err(error)) | ReplyResult::Write(Err(error)) => {
                self.settle_failed(id, flight, &error, now)
            }
        }
    }

    /// What every answer tells: the CRM is well, its clock, its limits.
    fn answered<T>(&mut self, flight: &Flight, answered: &Answered<T>, sent: Timestamp, at: Timestamp, now: Timestamp) {
        let Some(line) = self.lines.get_mut(&flight.connection) else { return };
        line.observe_clock(sent, at, answered.date);
        self.peers.insert(flight.connection, line.peer());
        for quota in &answered.quota {
            let window = metrics::Window { connection: line.name.clone(), window: quota.window };
            self.metrics.quota.get_or_create(&window).set(quota.remaining);
        }
        if line.on_success(now) {
            tracing::info!(connection = line.name, "the connection works again; waiting work goes out");
            self.work.all_due(flight.connection, now.micros());
        }
    }

    fn time_write(&self, flight: &Flight, sent: Timestamp, answered: Timestamp) {
        if let Some(line) = self.lines.get(&flight.connection) {
            let crm = metrics::Crm { crm: line.system.as_str() };
            self.metrics.write_duration.get_or_create(&crm).observe(answered.since(sent).as_secs_f64());
        }
    }

    fn settle_read(
        &mut self,
        flight: &Flight,
        items: Vec<ReadItem>,
        sent: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut onward = Vec::new();
        for ((entity, _), item) in flight.pairs.iter().zip(items) {
            let key = WorkKey { target: flight.connection, entity: *entity };
            match item {
                ReadItem::Found(found) => {
                    self.succeeded(key, now);
                    if self.found(*entity, flight, &found, sent, now)? {
                        self.tick.versions.insert(key, found.version);
                        onward.push(*entity);
                    }
                }
                ReadItem::Missing { .. } => {
                    self.succeeded(key, now);
                    self.missing(*entity, flight, sent, now)?;
                }
                ReadItem::Failed(error) => self.item_failed(key, flight, 0, &error, now)?,
            }
        }
        // Guarded by this very read: the write follows at once and the pairs are not let go in between.
        let pack = self.lines.get(&flight.connection).map_or(1, |l| l.pack.write).max(1);
        if self.draining {
            onward.clear();
        }
        for chunk in onward.chunks(pack) {
            self.open_call(flight.connection, &flight.object, Step::Update, chunk, now)?;
        }
        Ok(())
    }

    /// A record that was found. True when it must be written at once.
    fn found(
        &mut self,
        id: EntityId,
        flight: &Flight,
        found: &Found,
        sent: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let connection = flight.connection;
        let version = span(found.version);
        let read = self.with(id, now, |entity, cx, notes| {
            let m = entity.member_of(connection)?;
            let values = read_values(found, connection, cx);
            let attached = attach(&mut entity.members[m], flight.step, &found.id);
            let outcome = if entity.is_unread() {
                entity.first_read(m, values, version, cx)
            } else if entity.members[m].state == MemberState::Heard {
                entity.join_read(m, values, version, cx, notes)
            } else {
                entity.members[m].state = MemberState::Live;
                entity.place(m, cx);
                let cells = values.into_iter().filter_map(|(name, v)| Some((entity.field_named(&name)?, v))).collect();
                entity.on_read(m, cells, version, sent.micros(), cx, notes)
            };
            let again = outcome == ReadOutcome::Again;
            let asked = if again { Vec::new() } else { std::mem::take(&mut entity.members[m].asked) };
            let closed = entity.settle_read_of(m, &asked, &outcome, cx);
            let refolded = if again { Vec::new() } else { entity.refold(m, cx, notes) };
            for (event, folded) in &refolded {
                entity.settle_fold(m, event.change, event.came, folded, cx);
            }
            let due = entity.members[m].next_read().is_some_and(|t| t <= cx.now);
            let guards = cx.link.guard != Guard::None && flight.step == Step::Read;
            let write = !again && !due && guards && !entity.dirty(m, cx).is_empty();
            Some((attached, closed, refolded, write))
        })?;
        let Some((attached, closed, refolded, write)) = read.flatten() else { return Ok(false) };
        if attached {
            self.attach_key(id, connection, &found.id, flight);
        }
        self.close_source(id, connection, &closed, now)?;
        self.close_refolded(id, connection, refolded, now)?;
        self.claim(id, connection, now)?;
        Ok(write)
    }

    fn attach_key(&mut self, id: EntityId, connection: u32, native: &str, flight: &Flight) {
        let key = member_key(connection, flight.object.as_str(), native);
        self.tick.members.insert(key, id);
        self.tick.unit.members.push((key, id));
    }

    /// Changes of a source that a read decided without anything to write.
    fn close_source(
        &mut self,
        id: EntityId,
        source: u32,
        closed: &[(Asked, Outcome)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if closed.is_empty() {
            return Ok(());
        }
        let targets = self.targets_of(id, source)?;
        for (asked, outcome) in closed {
            self.close_all(asked.change, id, &targets, *outcome, asked.came, now);
        }
        Ok(())
    }

    pub(crate) fn targets_of(&mut self, id: EntityId, source: u32) -> Result<Vec<u32>, StoreError> {
        self.load(id)?;
        let link = self.cache.get_mut(id).map_or(0, |l| l.link);
        Ok(self.links[link].targets(source).collect())
    }

    pub(crate) fn close_refolded(
        &mut self,
        id: EntityId,
        source: u32,
        refolded: Vec<Refolded>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        use crate::entity::fold::Folded;
        if refolded.is_empty() {
            return Ok(());
        }
        let targets = self.targets_of(id, source)?;
        for (event, folded) in refolded {
            if let Folded::Done { taken, learned } = folded
                && taken.is_empty()
            {
                if learned == Learned::Echo {
                    self.count_echo(source);
                }
                self.close_all(event.change, id, &targets, Outcome::of(learned), event.came, now);
            }
        }
        Ok(())
    }

    pub(crate) fn missing(
        &mut self,
        id: EntityId,
        flight: &Flight,
        sent: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let connection = flight.connection;
        let gone = self.with(id, now, |entity, cx, _| {
            let m = entity.member_of(connection)?;
            if flight.step == Step::Lookup {
                entity.on_absent(m, sent.micros());
                return Some(Vec::new());
            }
            let gone = entity.on_missing(m, sent.micros(), cx);
            Some(gone.into_iter().map(|a| (a, Outcome::Skipped)).collect())
        })?;
        self.close_source(id, connection, &gone.flatten().unwrap_or_default(), now)
    }

    fn settle_write(
        &mut self,
        flight: &Flight,
        items: Vec<Result<Written, TargetError>>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for ((entity, intent), item) in flight.pairs.iter().zip(items) {
            let key = WorkKey { target: flight.connection, entity: *entity };
            match item {
                Ok(written) => {
                    self.succeeded(key, now);
                    self.count_write(flight.connection, "ok");
                    self.landed(*entity, flight, *intent, &written, now)?;
                }
                Err(error) => self.item_failed(key, flight, *intent, &error, now)?,
            }
        }
        Ok(())
    }

    fn landed(
        &mut self,
        id: EntityId,
        flight: &Flight,
        intent: u32,
        written: &Written,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let connection = flight.connection;
        let settled = self.with(id, now, |entity, cx, notes| {
            let m = entity.member_of(connection)?;
            let answer = answer_of(entity, written, connection, cx);
            let attached = match (&written.id, flight.step) {
                (Some(native), Step::Create) => attach(&mut entity.members[m], Step::Lookup, native),
                (Some(_) | None, _) => false,
            };
            if flight.step == Step::Create {
                entity.members[m].state = MemberState::Live;
                if written.id.is_none() {
                    // The CRM does not tell the id: look it up by ours before anything else.
                    entity.members[m].state = MemberState::Absent;
                    entity.members[m].need_read(cx.now);
                }
            }
            let refolded = entity.settle(m, intent, &answer, cx, notes);
            for (event, folded) in &refolded {
                entity.settle_fold(m, event.change, event.came, folded, cx);
            }
            Some((attached, refolded))
        })?;
        let Some((attached, refolded)) = settled.flatten() else { return Ok(()) };
        if let (true, Some(native)) = (attached, &written.id) {
            self.attach_key(id, connection, native, flight);
        }
        self.close_refolded(id, connection, refolded, now)
    }

    /// An answer after the deadline: what landed is knowledge, the rest was decided without it.
    fn settle_late(&mut self, flight: &Flight, reply: Reply, now: Timestamp) -> Result<(), StoreError> {
        let ReplyResult::Write(Ok(answered)) = reply.result else { return Ok(()) };
        if answered.items.len() != flight.pairs.len() {
            return Ok(());
        }
        for ((entity, intent), item) in flight.pairs.iter().zip(answered.items) {
            if let Ok(written) = item {
                self.landed(*entity, flight, *intent, &written, now)?;
            }
        }
        Ok(())
    }
}

impl Entity {
    /// Changes that a read decided: those that put something in force are tracked, the others end.
    fn settle_read_of(
        &mut self,
        m: usize,
        asked: &[Asked],
        outcome: &ReadOutcome,
        cx: &Context<'_>,
    ) -> Vec<(Asked, Outcome)> {
        let ReadOutcome::Folded { taken, learned } = outcome else { return Vec::new() };
        if taken.is_empty() {
            return asked.iter().map(|a| (a.clone(), Outcome::of(*learned))).collect();
        }
        for Asked { change, came } in asked {
            let came: Came = *came;
            self.track(m, *change, came, taken, cx);
        }
        Vec::new()
    }
}

/// Gives a member its native id. True when that is news.
fn attach(member: &mut Member, step: Step, native: &str) -> bool {
    if step != Step::Lookup || member.native.as_deref() == Some(native) {
        return false;
    }
    member.native = Some(native.into());
    member.create = None;
    member.state = MemberState::Live;
    true
}

fn span(version: Version) -> Span {
    Span::of(version.at, version.resolution)
}

fn read_values(found: &Found, connection: u32, cx: &Context<'_>) -> ReadValues {
    let wire = |name: &str| found.values.get(name).cloned();
    cx.link
        .fields()
        .filter_map(|plan| match plan.decode(connection, &wire) {
            crate::mapping::Decoded::Told(value) => Some((plan.name().into(), value)),
            crate::mapping::Decoded::Partly | crate::mapping::Decoded::Untold => None,
        })
        .collect()
}

fn answer_of(entity: &Entity, written: &Written, connection: u32, cx: &Context<'_>) -> Answer {
    let stored = written.stored.as_ref().map(|stored| {
        let wire = |name: &str| stored.get(name).cloned();
        entity
            .fields
            .iter()
            .enumerate()
            .filter_map(|(f, field)| match cx.link.field(&field.name).decode(connection, &wire) {
                crate::mapping::Decoded::Told(value) => Some((f, value)),
                crate::mapping::Decoded::Partly | crate::mapping::Decoded::Untold => None,
            })
            .collect()
    });
    let exact = written.version.is_some_and(|v| v.resolution == headgate_schemas::Resolution::Us);
    Answer::Landed { stored, version: written.version.map(span), exact }
}

fn short_answer(disposition: Disposition) -> TargetError {
    TargetError {
        code: "answer_incomplete".to_owned(),
        message: "the answer has another number of items than the call".to_owned(),
        fields: Vec::new(),
        existing: None,
        disposition,
    }
}
