//! Settle: what the CRMs answered, item by item. A failure of a whole call is a failure of each of its items.

use headgate_schemas::{ChangeId, Span, Timestamp};

use crate::config::Guard;
use crate::engine::{CallId, Engine, Flight, Reply, ReplyResult, Step};
use crate::entity::fold::{Context, Folded, Learned, Notes, Rule};
use crate::entity::join::ReadValues;
use crate::entity::question::{About, Question};
use crate::entity::record::{Alive, Keep};
use crate::entity::write::{Answer, ReadOutcome, Refolded};
use crate::entity::{Asked, Entity, MemberState, Outcome};
use crate::metrics;
use crate::store::{EntityId, StoreError, WorkKey, member_key};
use crate::trail::{Answer as Told, Happened, Met};
use uuid::Uuid;

use crate::target::{Answered, Disposition, Found, ReadItem, TargetError, Version, Written};

impl Engine {
    pub(crate) fn settle(&mut self, id: CallId, reply: Reply, now: Timestamp) -> Result<(), StoreError> {
        let Some(mut flight) = self.flights.remove(&id) else { return Ok(()) };
        flight.took = reply.answered.micros() - reply.sent.micros();
        for (entity, _) in &flight.pairs {
            // Others may have changed it since: nothing is told of what this worker remembers.
            self.load(*entity)?;
        }
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
            ReplyResult::Find(Ok(answered)) if answered.items.len() == flight.pairs.len() => {
                self.answered(&flight, &answered, reply.sent, reply.answered, now);
                self.settle_find(&flight, answered.items, now)
            }
            ReplyResult::Read(Ok(_)) | ReplyResult::Find(Ok(_)) => {
                self.settle_failed(id, flight, &short_answer(Disposition::Retry), now)
            }
            ReplyResult::Write(Ok(_)) => self.settle_failed(id, flight, &short_answer(Disposition::Unknown), now),
            ReplyResult::Read(Err(error)) | ReplyResult::Write(Err(error)) | ReplyResult::Find(Err(error)) => {
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
            self.metrics.quota.get_or_create(&window).set(quota.remaining());
        }
        self.metrics.quotas.tell(&line.name, &answered.quota, now);
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
        let (mut onward, mut going) = (Vec::new(), Vec::new());
        for ((entity, _), item) in flight.pairs.iter().zip(items) {
            let key = WorkKey { target: flight.connection, entity: *entity };
            match item {
                ReadItem::Found(found) => {
                    self.succeeded(key, now);
                    self.told(*entity, flight, 0, Told::Ok);
                    let onward_of = self.found(*entity, flight, &found, sent, now)?;
                    if onward_of != Onward::Nothing {
                        self.tick.versions.insert(key, found.version);
                    }
                    match onward_of {
                        Onward::Nothing => {}
                        Onward::Update => onward.push(*entity),
                        Onward::Delete => going.push(*entity),
                    }
                }
                ReadItem::Missing { merged_into } => {
                    self.succeeded(key, now);
                    let merged = merged_into.is_some();
                    self.told(*entity, flight, 0, if merged { Told::Merged } else { Told::Missing });
                    self.missing(*entity, flight, merged_into.as_deref(), sent, now)?;
                }
                ReadItem::Failed(error) => self.item_failed(key, flight, 0, &error, now)?,
            }
        }
        // Guarded by this very read: the write follows at once and the pairs are not let go in between.
        let pack = self.lines.get(&flight.connection).map_or(1, |l| l.pack.write).max(1);
        if self.draining {
            return Ok(());
        }
        for (step, entities) in [(Step::Update, onward), (Step::Delete, going)] {
            let free: Vec<EntityId> = entities.into_iter().filter(|id| !self.is_joining(*id)).collect();
            for chunk in free.chunks(pack) {
                self.open_call(flight.connection, &flight.object, step, chunk, now)?;
            }
        }
        Ok(())
    }

    /// A record that was found, and what must follow at once.
    fn found(
        &mut self,
        id: EntityId,
        flight: &Flight,
        found: &Found,
        sent: Timestamp,
        now: Timestamp,
    ) -> Result<Onward, StoreError> {
        let connection = flight.connection;
        let linked = self.look(id, now, |e, _| e.members[e.member_of(connection)?].native.clone())?.flatten();
        if flight.step == Step::Read && linked.is_some_and(|native| *native != *found.id) {
            self.merged(id, connection, &found.id, now)?;
            return Ok(Onward::Nothing);
        }
        if flight.step == Step::Lookup && !self.place_record(id, connection, &found.id, now)? {
            self.with(id, now, |e, _, _| e.member_of(connection).map(|m| e.on_absent(m, sent.micros())))?;
            return Ok(Onward::Nothing);
        }
        let external = found.external_id.as_deref().and_then(|text| text.trim().parse::<Uuid>().ok());
        let read = self.with(id, now, |e, cx, notes| {
            let m = e.member_of(connection)?;
            let first = e.is_unread();
            e.take_found(m, found, flight.step, sent.micros(), cx, notes).map(|taken| (first, taken))
        })?;
        let Some((first, taken)) = read.flatten() else { return Ok(Onward::Nothing) };
        for (change, met) in taken.tracked {
            self.happened(id, Happened::Decided { change, source: connection, met });
        }
        self.close_source(id, connection, &taken.closed, now)?;
        self.close_refolded(id, connection, taken.refolded, now)?;
        if first {
            self.tally(id, 1, now)?;
        }
        self.identify(id, connection, external, first, now)?;
        Ok(if self.is_joining(id) { Onward::Nothing } else { taken.onward })
    }

    /// A create or a look-up by our own id names the record. False when another record took its place meanwhile: then
    /// it is set aside.
    fn place_record(
        &mut self,
        id: EntityId,
        connection: u32,
        native: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(object) = self.look(id, now, |e, _| e.object.clone())? else { return Ok(false) };
        let key = member_key(connection, object.as_str(), native);
        let owner = self.owner(&key)?;
        let placed = self.with(id, now, |e, cx, _| {
            let m = e.member_of(connection)?;
            if e.members[m].native.as_deref() == Some(native) && e.members[m].has_record() {
                return Some(true);
            }
            if e.members[m].has_record() {
                e.set_aside(connection, native.into(), cx.now);
                return Some(false);
            }
            let member = &mut e.members[m];
            member.native = Some(native.into());
            member.create = None;
            member.state = MemberState::Live;
            Some(true)
        })?;
        self.own(key, id)?;
        if let Some(other) = owner.filter(|other| *other != id) {
            // Its event came before our answer: what was made of it joins. It bears our id, so it is a create of ours.
            self.join_into(other, id, Keep::Ours, now)?;
        }
        Ok(placed.flatten().unwrap_or(false))
    }

    /// Changes of a source that a read decided without anything to write.
    pub(crate) fn close_source(
        &mut self,
        id: EntityId,
        source: u32,
        closed: &[(Asked, Outcome)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (asked, outcome) in closed {
            self.load(id)?;
            self.close_all(asked.change, id, &asked.targets, *outcome, asked.came, now);
            let met = Met::from(*outcome);
            self.happened(id, Happened::Decided { change: asked.change, source, met });
        }
        Ok(())
    }

    pub(crate) fn close_refolded(
        &mut self,
        id: EntityId,
        source: u32,
        refolded: Vec<Refolded>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (event, folded) in refolded {
            self.load(id)?;
            let met = self.cache.get_mut(id).map(|loaded| Met::of(&folded, &loaded.entity));
            if let Some(met) = met.filter(|met| *met != Met::Waits) {
                self.happened(id, Happened::Decided { change: event.change, source, met });
            }
            if let Folded::Done { taken, learned } = folded
                && taken.is_empty()
            {
                if learned == Learned::Echo {
                    self.count_echo(source);
                }
                self.close_all(event.change, id, &event.targets, Outcome::of(learned), event.came, now);
            }
        }
        Ok(())
    }

    pub(crate) fn missing(
        &mut self,
        id: EntityId,
        flight: &Flight,
        merged_into: Option<&str>,
        sent: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let connection = flight.connection;
        let missed = self.with(id, now, |entity, cx, _| {
            let m = entity.member_of(connection)?;
            if flight.step == Step::Lookup {
                entity.on_absent(m, sent.micros());
                return None;
            }
            Some(entity.on_missing(m, sent.micros(), merged_into, cx))
        })?;
        match missed.flatten() {
            Some(missed) => self.missed(id, connection, missed, now),
            None => Ok(()),
        }
    }

    /// What a search before a create found.
    fn settle_find(&mut self, flight: &Flight, items: Vec<Vec<String>>, now: Timestamp) -> Result<(), StoreError> {
        for ((entity, _), natives) in flight.pairs.iter().zip(items) {
            let connection = flight.connection;
            self.succeeded(WorkKey { target: connection, entity: *entity }, now);
            self.told(*entity, flight, 0, if natives.is_empty() { Told::Missing } else { Told::Ok });
            let key = self.with(*entity, now, |e, _, _| {
                if let Some(m) = e.member_of(connection) {
                    e.members[m].sought = true;
                }
                e.match_keys().into_iter().next()
            })?;
            let Some(key) = key.flatten() else { continue };
            match natives.as_slice() {
                [] => {}
                [native] => {
                    self.attach_existing(*entity, connection, native, &key, now)?;
                }
                several => {
                    let natives = several.iter().map(|native| native.as_str().into()).collect();
                    let about = About::Found { connection, natives };
                    self.with(*entity, now, |e, cx, _| e.questions.push(Question::new(about, cx.now)))?;
                }
            }
        }
        Ok(())
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
        let (id, intent) = self.follow(id, intent)?;
        let connection = flight.connection;
        self.told(id, flight, intent, Told::Ok);
        if flight.step == Step::Delete {
            let ended = self.with(id, now, |e, cx, _| Some(e.removed(e.member_of(connection)?, intent, cx.now)))?;
            return self.skip(id, connection, ended.flatten().unwrap_or_default(), now);
        }
        let ours = match (&written.id, flight.step) {
            (Some(native), Step::Create) => self.place_record(id, connection, native, now)?,
            (Some(native), _) => self.is_linked(id, connection, native, now)?,
            (None, _) => true,
        };
        let refolded = self.with(id, now, |entity, cx, notes| {
            let m = entity.member_of(connection)?;
            let answer = if ours { answer_of(entity, written, connection, cx) } else { Answer::NotApplied };
            if flight.step == Step::Create && written.id.is_none() {
                // The CRM does not tell the id: look it up by ours before anything else.
                entity.members[m].state = MemberState::Absent;
                entity.members[m].need_read(cx.now);
            }
            if !ours {
                entity.members[m].need_read(cx.now + cx.timing.second);
            }
            let refolded = entity.settle(m, intent, &answer, cx, notes);
            for (event, folded) in &refolded {
                entity.settle_fold(m, &event.asked(), folded);
            }
            Some(refolded)
        })?;
        self.close_refolded(id, connection, refolded.flatten().unwrap_or_default(), now)
    }

    /// Whether an answer names the record that was written. Another one is a merge that nobody told us of: both are
    /// read, and neither is attached.
    fn is_linked(&mut self, id: EntityId, connection: u32, native: &str, now: Timestamp) -> Result<bool, StoreError> {
        let member =
            self.look(id, now, |e, _| Some((e.object.clone(), e.members[e.member_of(connection)?].native.clone())))?;
        let Some((object, linked)) = member.flatten() else { return Ok(false) };
        if linked.as_deref() == Some(native) {
            return Ok(true);
        }
        let key = member_key(connection, object.as_str(), native);
        if !self.rules.has(Rule::OtherAnswer) {
            // Shows in tests what comes of believing the answer.
            self.own(key, id)?;
            self.with(id, now, |e, _, _| {
                if let Some(m) = e.member_of(connection) {
                    e.members[m].native = Some(native.into());
                }
            })?;
            return Ok(true);
        }
        if let Some(other) = self.owner(&key)? {
            let (other, _) = self.follow(other, 0)?;
            self.with(other, now, |e, cx, _| {
                if let Some(m) = e.member_of(connection) {
                    e.members[m].need_read(cx.now + cx.timing.second);
                }
            })?;
        }
        Ok(false)
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

/// What must follow a read at once, while nobody else has the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Onward {
    Nothing,
    Update,
    Delete,
}

/// What became of a record that was found.
struct TakenIn {
    closed: Vec<(Asked, Outcome)>,
    /// Changes that the read decided and that are on their way now.
    tracked: Vec<(ChangeId, Met)>,
    refolded: Vec<Refolded>,
    onward: Onward,
}

impl Entity {
    /// Takes in what a read of member `m` found. `None` when the answer came too early to tell.
    fn take_found(
        &mut self,
        m: usize,
        found: &Found,
        step: Step,
        asked_at: i64,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> Option<TakenIn> {
        let connection = self.members[m].connection;
        let (values, version) = (read_values(found, connection, cx), span(found.version));
        let outcome = if self.is_unread() {
            self.first_read(m, values, version, asked_at, cx)
        } else if self.members[m].state == MemberState::Heard {
            self.join_read(m, values, version, asked_at, cx, notes)
        } else {
            if self.on_alive(m, asked_at, cx) == Alive::Early {
                return None;
            }
            self.place(m, cx);
            let cells = values.into_iter().filter_map(|(name, v)| Some((self.field_named(&name)?, v))).collect();
            self.on_read(m, cells, version, asked_at, cx, notes)
        };
        let again = outcome == ReadOutcome::Again;
        let asked = if again { Vec::new() } else { std::mem::take(&mut self.members[m].asked) };
        let closed = self.settle_read_of(m, &asked, &outcome);
        let tracked = self.tracked_of(&asked, &outcome);
        let refolded = if again { Vec::new() } else { self.refold(m, cx, notes) };
        for (event, folded) in &refolded {
            self.settle_fold(m, &event.asked(), folded);
        }
        let due = self.members[m].next_read().is_some_and(|t| t <= cx.now);
        // Where it came too early for some fields, the others go on.
        let in_vain = again && self.members[m].stale > 0;
        let onward = if in_vain || due || step != Step::Read {
            Onward::Nothing
        } else if self.wants_removal(m, cx) {
            if again || self.is_doubtful(m, cx) { Onward::Nothing } else { self.part_from(m, &outcome, &refolded, cx) }
        } else if cx.link.guard != Guard::None && !self.dirty(m, cx).is_empty() {
            Onward::Update
        } else {
            Onward::Nothing
        };
        Some(TakenIn { closed, tracked, refolded, onward })
    }

    /// A record that is to go was read: it goes, or a person is asked because it shows what nobody knew.
    fn part_from(&mut self, m: usize, read: &ReadOutcome, refolded: &[Refolded], cx: &Context<'_>) -> Onward {
        let of_event = |folded: &Folded| match folded {
            Folded::Done { learned, .. } => *learned,
            Folded::Waiting | Folded::Asked => Learned::Known,
        };
        let of_read = match read {
            ReadOutcome::Folded { learned, .. } => *learned,
            ReadOutcome::Again => Learned::Known,
        };
        let learned = refolded.iter().map(|(_, folded)| of_event(folded)).fold(of_read, Ord::max);
        if self.is_against_removal(m, learned, cx) {
            self.ask_about_delete(m, cx.now);
            return Onward::Nothing;
        }
        Onward::Delete
    }

    /// What a read made of the changes that waited for it, where it put something in force or asks a person.
    fn tracked_of(&self, asked: &[Asked], outcome: &ReadOutcome) -> Vec<(ChangeId, Met)> {
        match outcome {
            ReadOutcome::Folded { taken, learned } if !taken.is_empty() => {
                asked.iter().map(|a| (a.change, Met::learned(taken, *learned, self))).collect()
            }
            ReadOutcome::Folded { .. } | ReadOutcome::Again => Vec::new(),
        }
    }

    /// Changes that a read decided: those that put something in force are tracked, the others end.
    fn settle_read_of(&mut self, m: usize, asked: &[Asked], outcome: &ReadOutcome) -> Vec<(Asked, Outcome)> {
        let ReadOutcome::Folded { taken, learned } = outcome else { return Vec::new() };
        if taken.is_empty() {
            return asked.iter().map(|a| (a.clone(), Outcome::of(*learned))).collect();
        }
        for change in asked {
            self.track(m, change, taken);
        }
        Vec::new()
    }
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
