//! Send: what is due becomes packed calls. Intents are opened here, in the tick's transaction; the calls are handed
//! out after its commit.

use std::collections::BTreeMap;
use std::time::Duration;

use headgate_schemas::{ObjectType, Timestamp};

use crate::config::Guard;
use crate::engine::{Call, CallId, Engine, Flight, Request, Step, micros};
use crate::entity::fold::{Context, Rule};
use crate::entity::write::Intent;
use crate::entity::{Entity, Life, MemberState};
use crate::line::{Line, Room};
use crate::store::{EntityId, StoreError, WorkKey, external_key};
use crate::target::{By, CreateItem, DeleteItem, FindCall, NativeName, ReadCall, UpdateItem, WriteCall, WriteItems};
use crate::work::Pair;

/// While a call of a connection is open, further pairs gather so long before the next call goes out half full.
const GATHER: i64 = 40_000;

/// What waits for the set-up of its CRM is made due by the end of that; this is only how often it is looked at until then.
const SET_UP_LOOK: Duration = Duration::from_secs(30);

/// What is due of one kind on one connection.
#[derive(Default)]
struct Group {
    entities: Vec<EntityId>,
    /// Since when the oldest has been due.
    since: i64,
    /// Records a call may hold.
    pack: usize,
}

impl Engine {
    pub(crate) fn send(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.draining || self.backlog.is_read_first(now.micros(), micros(self.limits.read_first)) {
            return Ok(());
        }
        let connections: Vec<u32> = self.lines.keys().copied().collect();
        // Another connection is first each time, so that none is always last.
        let turn = usize::try_from(self.next_call).unwrap_or(0) % connections.len().max(1);
        for connection in connections[turn..].iter().chain(&connections[..turn]) {
            match self.lines.get(connection).map(|l| l.room(now)) {
                Some(Room::Calls(calls)) => self.send_line(*connection, calls, now)?,
                Some(Room::Probe) => self.probe(*connection, now)?,
                Some(Room::Closed(_)) | None => {}
            }
        }
        Ok(())
    }

    fn send_line(&mut self, connection: u32, mut calls: usize, now: Timestamp) -> Result<(), StoreError> {
        let groups = self.groups(connection, calls, now)?;
        let mut order: Vec<_> = groups.into_iter().collect();
        order.sort_by_key(|(_, g)| g.since);
        for ((object, step), group) in order {
            for chunk in group.entities.chunks(group.pack.max(1)) {
                let open = self.lines.get(&connection).is_some_and(|l| l.open > 0);
                let gather = open && chunk.len() < group.pack && now.micros() - group.since < GATHER;
                if calls == 0 || gather {
                    break;
                }
                calls -= usize::from(self.open_call(connection, &object, step, chunk, now)?);
            }
        }
        Ok(())
    }

    /// One read of one record.
    fn probe(&mut self, connection: u32, now: Timestamp) -> Result<(), StoreError> {
        let Some(entity) = self.work.due(connection, i64::MAX - 1).next() else { return Ok(()) };
        let Some((object, state)) = self
            .look(entity, now, |e, _| {
                let m = e.member_of(connection)?;
                Some((e.object.clone(), e.members[m].state))
            })?
            .flatten()
        else {
            return Ok(());
        };
        let step = if matches!(state, MemberState::Absent | MemberState::Refused) { Step::Lookup } else { Step::Read };
        if self.is_joining(entity) {
            return self.review_entity(entity, now);
        }
        if self.work.get(WorkKey { target: connection, entity }).is_none() {
            // Another worker took it.
            return Ok(());
        }
        self.open_call(connection, &object, step, &[entity], now)?;
        Ok(())
    }

    /// What is due, by type and step; no more than `calls` calls can carry.
    fn groups(
        &mut self,
        connection: u32,
        calls: usize,
        now: Timestamp,
    ) -> Result<BTreeMap<(ObjectType, Step), Group>, StoreError> {
        let Some(line) = self.lines.get(&connection) else { return Ok(BTreeMap::new()) };
        let pack = line.pack;
        let most = calls * pack.read.max(pack.write);
        let due: Vec<EntityId> = self.work.due(connection, now.micros()).take(most).collect();
        let mut groups: BTreeMap<(ObjectType, Step), Group> = BTreeMap::new();
        for entity in due {
            let key = WorkKey { target: connection, entity };
            self.load(entity)?;
            // Another worker may have taken it.
            let Some(pair) = self.work.get(key).copied() else { continue };
            if self.is_joining(entity) {
                self.review_entity(entity, now)?;
                continue;
            }
            let step = self.look(entity, now, |e, cx| {
                let m = e.member_of(connection)?;
                e.next_step(m, cx).map(|step| (e.object.clone(), step))
            })?;
            let Some((object, step)) = step.flatten() else {
                // Its need went away while a call had it that then failed; left as it is, it would be due for ever.
                self.review_entity(entity, now)?;
                continue;
            };
            if matches!(step, Step::Create | Step::Lookup)
                && self.lines.get(&connection).is_some_and(|l| l.awaits_set_up(&object))
            {
                let due = (now + SET_UP_LOOK).micros();
                self.put_pair(key, Pair { due, attempts: pair.attempts.max(1), ..pair });
                continue;
            }
            let limit = match step {
                Step::Read | Step::Lookup | Step::Find => pack.read,
                Step::Create | Step::Update | Step::Delete => pack.write,
            };
            let group = groups.entry((object, step)).or_insert_with(|| Group {
                since: pair.since,
                pack: limit,
                ..Group::default()
            });
            group.since = group.since.min(pair.since);
            group.pack = group.pack.min(pair.pack);
            group.entities.push(entity);
        }
        Ok(groups)
    }

    /// Opens one call for these entities. False when nothing was left to ask.
    pub(crate) fn open_call(
        &mut self,
        connection: u32,
        object: &ObjectType,
        step: Step,
        entities: &[EntityId],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let id = self.next_call;
        let (request, pairs) = match step {
            Step::Read | Step::Lookup => self.read_request(connection, object, step, entities, now)?,
            Step::Create => self.create_request(connection, object, entities, now)?,
            Step::Update => self.update_request(connection, object, entities, now)?,
            Step::Find => self.find_request(connection, object, entities, now)?,
            Step::Delete => self.delete_request(connection, object, entities, now)?,
        };
        if pairs.is_empty() {
            return Ok(false);
        }
        self.next_call += 1;
        self.metrics.batch_size.observe(f64::from(u32::try_from(pairs.len()).unwrap_or(u32::MAX)));
        for (entity, _) in &pairs {
            let key = WorkKey { target: connection, entity: *entity };
            let pair = self.work.get(key).copied().unwrap_or_else(|| Pair::due_at(now.micros(), now.micros()));
            self.put_pair(key, Pair { busy: Some(id), ..pair });
        }
        if let Some(line) = self.lines.get_mut(&connection) {
            line.on_send(now);
        }
        let (object, opened) = (object.clone(), now.micros());
        let flight = Flight { connection, object, step, pairs, opened, took: 0, given_up: false };
        self.flights.insert(id, flight);
        self.tick.calls.push(Call { id, connection, request, not_after: self.not_after(now) });
        Ok(true)
    }

    fn read_request(
        &mut self,
        connection: u32,
        object: &ObjectType,
        step: Step,
        entities: &[EntityId],
        now: Timestamp,
    ) -> Result<(Request, Vec<(EntityId, u32)>), StoreError> {
        let (mut ids, mut pairs) = (Vec::with_capacity(entities.len()), Vec::with_capacity(entities.len()));
        let mut fields = None;
        for entity in entities {
            let found = self.look(*entity, now, |e, cx| {
                let m = e.member_of(connection)?;
                let id = match step {
                    Step::Lookup => e.uuid.to_string(),
                    Step::Read | Step::Create | Step::Update | Step::Find | Step::Delete => {
                        e.members[m].native.as_deref()?.to_owned()
                    }
                };
                Some((id, cx.link.member(connection).map(|m| m.read_fields.clone())))
            })?;
            if let Some((id, Some(read_fields))) = found.flatten() {
                ids.push(id);
                pairs.push((*entity, 0));
                fields = Some(read_fields);
            }
        }
        let by = if step == Step::Lookup { By::ExternalId } else { By::NativeId };
        let call = ReadCall { object: object.clone(), by, ids, fields: fields.unwrap_or_else(|| [].into()) };
        Ok((Request::Read(call), pairs))
    }

    fn create_request(
        &mut self,
        connection: u32,
        object: &ObjectType,
        entities: &[EntityId],
        now: Timestamp,
    ) -> Result<(Request, Vec<(EntityId, u32)>), StoreError> {
        let (mut items, mut pairs) = (Vec::with_capacity(entities.len()), Vec::with_capacity(entities.len()));
        for entity in entities {
            let item = self.with(*entity, now, |e, cx, _| {
                let m = e.member_of(connection)?;
                // Without that rule a record that is known is made again, to show in tests what that does.
                if !e.wants_create(m) && (cx.rules.has(Rule::NativeId) || e.members[m].state != MemberState::Live) {
                    return None;
                }
                let intent = e.intend_create(m, cx);
                let mut values = e.encode_intent(&intent, connection, cx);
                values.retain(|_, v| !v.is_empty());
                Some((CreateItem { external_id: e.uuid, trace: trace(e, &intent), values }, intent.number))
            })?;
            if let Some((item, intent)) = item.flatten() {
                self.own(external_key(item.external_id), *entity)?;
                items.push(item);
                pairs.push((*entity, intent));
            }
        }
        Ok((Request::Write(WriteCall { object: object.clone(), items: WriteItems::Create(items) }), pairs))
    }

    fn update_request(
        &mut self,
        connection: u32,
        object: &ObjectType,
        entities: &[EntityId],
        now: Timestamp,
    ) -> Result<(Request, Vec<(EntityId, u32)>), StoreError> {
        let (mut items, mut pairs) = (Vec::with_capacity(entities.len()), Vec::with_capacity(entities.len()));
        let conditional = self.lines.get(&connection).is_some_and(|line| line.conditional);
        for entity in entities {
            let read = self.tick.versions.remove(&WorkKey { target: connection, entity: *entity });
            let item = self.with(*entity, now, |e, cx, _| {
                let m = e.member_of(connection)?;
                let id = e.members[m].native.as_deref()?.to_owned();
                let dirty = e.dirty(m, cx);
                if dirty.is_empty() {
                    return None;
                }
                let intent = e.intend(m, &dirty, cx);
                let values = e.encode_intent(&intent, connection, cx);
                let unless_changed = read.filter(|_| conditional && cx.link.guard == Guard::Strict);
                Some((UpdateItem { id, trace: trace(e, &intent), values, unless_changed }, intent.number))
            })?;
            if let Some((item, intent)) = item.flatten() {
                items.push(item);
                pairs.push((*entity, intent));
            }
        }
        Ok((Request::Write(WriteCall { object: object.clone(), items: WriteItems::Update(items) }), pairs))
    }

    fn find_request(
        &mut self,
        connection: u32,
        object: &ObjectType,
        entities: &[EntityId],
        now: Timestamp,
    ) -> Result<(Request, Vec<(EntityId, u32)>), StoreError> {
        let (mut values, mut pairs) = (Vec::with_capacity(entities.len()), Vec::with_capacity(entities.len()));
        let mut field = None;
        for entity in entities {
            let sought = self.look(*entity, now, |e, cx| e.sought(e.member_of(connection)?, cx))?.flatten();
            // Two that look for the same thing do so one after the other.
            if let Some((name, value)) = sought.filter(|(_, value)| !values.contains(value)) {
                values.push(value);
                pairs.push((*entity, 0));
                field = Some(name);
            }
        }
        let field = field.unwrap_or_else(|| "".into());
        Ok((Request::Find(FindCall { object: object.clone(), field, values }), pairs))
    }

    fn delete_request(
        &mut self,
        connection: u32,
        object: &ObjectType,
        entities: &[EntityId],
        now: Timestamp,
    ) -> Result<(Request, Vec<(EntityId, u32)>), StoreError> {
        let (mut items, mut pairs) = (Vec::with_capacity(entities.len()), Vec::with_capacity(entities.len()));
        for entity in entities {
            let unless_changed = self.tick.versions.remove(&WorkKey { target: connection, entity: *entity });
            let item = self.with(*entity, now, |e, cx, _| {
                let m = e.member_of(connection).filter(|m| e.wants_removal(*m, cx))?;
                let id = e.members[m].native.as_deref()?.to_owned();
                let intent = e.intend_removal(m, cx.now);
                let erase = e.life == Life::Erasing;
                let unless_changed = unless_changed.filter(|_| !erase);
                Some((DeleteItem { id, trace: format!("{}-{intent}", e.uuid), unless_changed, erase }, intent))
            })?;
            if let Some((item, intent)) = item.flatten() {
                items.push(item);
                pairs.push((*entity, intent));
            }
        }
        Ok((Request::Write(WriteCall { object: object.clone(), items: WriteItems::Delete(items) }), pairs))
    }

    /// When a line wants a tick.
    pub(crate) fn line_due(&self, line: &Line, now: Timestamp) -> Option<Timestamp> {
        let next = self.work.next_due(line.number)?;
        let at = match line.room(now) {
            Room::Closed(None) => return None,
            Room::Closed(Some(until)) => until.max(next.min(until)),
            Room::Probe => now.micros(),
            Room::Calls(_) if line.open > 0 && next <= now.micros() => now.micros() + GATHER / 2,
            Room::Calls(_) => next,
        };
        Some(Timestamp::from_micros(at))
    }

    /// Until when a call may be under way: twice the send deadline.
    pub(crate) fn under_way(&self, now: Timestamp) -> i64 {
        now.micros() + 2 * micros(self.limits.send_deadline)
    }

    /// Forgets calls that can no longer answer.
    pub(crate) fn forget_flights(&mut self, now: Timestamp) {
        let peers = &self.peers;
        self.flights.retain(|_: &CallId, f| {
            let longest = peers.get(&f.connection).map_or(0, |p| p.longest_run);
            !f.given_up || now.micros() - f.opened < longest
        });
    }
}

impl Entity {
    /// What is to be done for member `m` now.
    pub(crate) fn next_step(&mut self, m: usize, cx: &Context<'_>) -> Option<Step> {
        let read_due = self.members[m].next_read().is_some_and(|t| t <= cx.now);
        let state = self.members[m].state;
        if self.members[m].look_due(cx.now) {
            return Some(Step::Lookup);
        }
        if self.life == Life::Erasing && self.members[m].create.is_some() {
            return read_due.then_some(Step::Lookup);
        }
        if self.life == Life::Erasing {
            return self.wants_removal(m, cx).then_some(Step::Delete);
        }
        match state {
            MemberState::Heard | MemberState::Missing(_) | MemberState::Gone | MemberState::Removed(_) => {
                read_due.then_some(Step::Read)
            }
            MemberState::Refused => read_due.then_some(Step::Lookup),
            MemberState::Absent if self.wants_create(m) && !read_due => {
                Some(if self.sought(m, cx).is_some() { Step::Find } else { Step::Create })
            }
            MemberState::Absent => read_due.then_some(Step::Lookup),
            MemberState::Live if read_due => Some(Step::Read),
            // A read that was too old is waited for, and before a delete also one that came too early to tell.
            MemberState::Live if self.members[m].stale > 0 => None,
            MemberState::Live if self.wants_removal(m, cx) => (!self.is_doubtful(m, cx)).then_some(Step::Read),
            MemberState::Live if self.dirty(m, cx).is_empty() => None,
            MemberState::Live if !cx.rules.has(Rule::NativeId) => Some(Step::Create),
            MemberState::Live if cx.link.guard == Guard::None => Some(Step::Update),
            MemberState::Live => Some(Step::Read),
        }
    }

    /// What is to be looked for before member `m` is made: field and value there.
    fn sought(&self, m: usize, cx: &Context<'_>) -> Option<(NativeName, String)> {
        let member = &self.members[m];
        let open = !member.sought && member.state == MemberState::Absent && cx.rules.has(Rule::Claim);
        let connection = member.connection;
        let find = cx.link.member(connection).filter(|_| open)?.find?;
        let plan = cx.link.field(find);
        let value = &self.fields[self.field_named(find)?].value;
        let value = plan.project(connection, value, self.created, cx.timing)?.to_plain().trim().to_owned();
        Some((plan.native_name(connection)?.clone(), value)).filter(|(_, value)| !value.is_empty())
    }

    fn encode_intent(&self, intent: &Intent, connection: u32, cx: &Context<'_>) -> crate::target::NativeValues {
        let mut values = crate::target::NativeValues::new();
        for (f, native) in &intent.items {
            cx.link.field(&self.fields[*f].name).encode(connection, native, &mut values);
        }
        values
    }
}

fn trace(entity: &Entity, intent: &Intent) -> String {
    format!("{}-{}", entity.uuid, intent.number)
}
