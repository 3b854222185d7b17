//! Which entity a record belongs to: by our own id that stands in it, by what only one person has, by what somebody
//! merged, by what already stands in a CRM. A claim is taken before anything is made.
//!
//! Joining is the one step that touches two entities. It waits until no call of either is under way; until then both
//! rest, and the document of the one to go says where. The surprising thing: an answer may still come long after, so a
//! joined entity keeps its place as a signpost with the number that its intents are raised by.

use headgate_schemas::Timestamp;
use uuid::Uuid;

use crate::engine::{Engine, Holding};
use crate::entity::fold::Rule;
use crate::entity::matching::{LINK, MatchKey};
use crate::entity::question::{About, Question};
use crate::entity::record::{Detached, Joined, Joining, Keep, Life};
use crate::entity::{Entity, MemberState, Outcome};
use crate::store::{EntityId, Key, StoreError, WorkKey, external_key, member_key};
use crate::trail::Happened;

impl Engine {
    /// The entity of a record or of an external id.
    pub(crate) fn owner(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        if let Some(holding) = self.tick.members.get(key) {
            return Ok(holding.now);
        }
        let was = self.store.member(key)?;
        self.tick.members.insert(*key, Holding { was, now: was });
        Ok(was)
    }

    /// Says whose a record is from now on.
    pub(crate) fn own(&mut self, key: Key, id: EntityId) -> Result<(), StoreError> {
        self.owner(&key)?;
        self.tick.members.entry(key).and_modify(|holding| holding.now = Some(id));
        Ok(())
    }

    /// A record is nobody's from now on.
    pub(crate) fn disown(&mut self, key: Key) -> Result<(), StoreError> {
        self.owner(&key)?;
        self.tick.members.entry(key).and_modify(|holding| holding.now = None);
        Ok(())
    }

    /// The entity that `id` is by now, and the number that its intent has there.
    pub(crate) fn follow(&mut self, id: EntityId, intent: u32) -> Result<(EntityId, u32), StoreError> {
        let mut at = (id, intent);
        while self.load(at.0)? {
            let Some(Life::Joined(joined)) = self.cache.get_mut(at.0).map(|l| l.entity.life.clone()) else { break };
            at = (joined.into, at.1 + joined.offset);
        }
        Ok(at)
    }

    /// Finds out whose a record is that was just read. `external` is our own id as it stands in the record.
    pub(crate) fn identify(
        &mut self,
        id: EntityId,
        connection: u32,
        external: Option<Uuid>,
        first: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some(external) = external.filter(|_| first)
            && let Some(owner) = self.owner_by_external_id(id, external)?
            && self.look(id, now, |e, _| e.apart.contains(&owner))? != Some(true)
        {
            return self.join_into(id, owner, Keep::Ours, now);
        }
        if self.rules.has(Rule::Claim) { self.claim(id, connection, first, now) } else { Ok(()) }
    }

    fn owner_by_external_id(&mut self, id: EntityId, external: Uuid) -> Result<Option<EntityId>, StoreError> {
        let Some(owner) = self.owner(&external_key(external))? else { return Ok(None) };
        let (owner, _) = self.follow(owner, 0)?;
        let known = self.load(owner)? && self.cache.get_mut(owner).is_some_and(|l| !l.entity.is_over());
        Ok((owner != id && known).then_some(owner))
    }

    /// Takes the match claims of an entity as its values stand, and gives up those it no longer has. Where another
    /// entity holds one, the two are one: at first contact they join, later a person is asked.
    fn claim(&mut self, id: EntityId, connection: u32, first: bool, now: Timestamp) -> Result<(), StoreError> {
        let keys = self.look(id, now, |e, _| (e.match_keys(), e.claims.clone(), e.hints.clone(), e.apart.clone()))?;
        let Some((wanted, held, hinted, apart)) = keys else { return Ok(()) };
        let (unique, weak): (Vec<MatchKey>, Vec<MatchKey>) = wanted.into_iter().partition(|k| k.confidence >= LINK);
        let mut claims: Vec<Key> = Vec::with_capacity(unique.len());
        for match_key in &unique {
            let holder = if held.contains(&match_key.key) { Some(id) } else { self.holder(&match_key.key)? };
            match holder {
                Some(other) if other != id => {
                    if apart.contains(&other) {
                        continue;
                    }
                    if first {
                        return self.join_into(id, other, Keep::Policy, now);
                    }
                    self.ask_match(id, other, match_key, now)?;
                }
                Some(_) => claims.push(match_key.key),
                None => {
                    self.hold_claim(match_key.key, Some(id))?;
                    claims.push(match_key.key);
                }
            }
        }
        for lost in held.iter().filter(|key| !claims.contains(key)) {
            self.hold_claim(*lost, None)?;
        }
        let hints: Vec<Key> = weak.iter().map(|k| k.key).collect();
        self.hint(id, &hinted, &hints);
        if claims != held || hints != hinted {
            self.with(id, now, |e, _, _| (e.claims, e.hints) = (claims, hints))?;
        }
        if first {
            self.look_around(id, connection, &weak, now)?;
        }
        Ok(())
    }

    fn holder(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        if let Some(holding) = self.tick.claims.get(key) {
            return Ok(holding.now);
        }
        let was = self.store.claim(key)?;
        self.tick.claims.insert(*key, Holding { was, now: was });
        Ok(was)
    }

    /// Says who holds a claim from now on.
    pub(crate) fn hold_claim(&mut self, key: Key, holder: Option<EntityId>) -> Result<(), StoreError> {
        self.holder(&key)?;
        self.tick.claims.entry(key).and_modify(|holding| holding.now = holder);
        Ok(())
    }

    fn hint(&mut self, id: EntityId, old: &[Key], new: &[Key]) {
        for key in old.iter().filter(|key| !new.contains(key)) {
            self.tick.hints.insert((*key, id), false);
        }
        for key in new.iter().filter(|key| !old.contains(key)) {
            self.tick.hints.insert((*key, id), true);
        }
    }

    /// The entities that the store has under a weak key.
    fn hinted(&mut self, key: &Key) -> Result<Vec<EntityId>, StoreError> {
        if let Some(known) = self.tick.hinted.get(key) {
            return Ok(known.clone());
        }
        let found = self.store.hints(key)?;
        self.tick.hinted.insert(*key, found.clone());
        Ok(found)
    }

    /// Asks about entities that are likely to be the same and have no record in this CRM yet; creations wait for it.
    fn look_around(
        &mut self,
        id: EntityId,
        connection: u32,
        weak: &[MatchKey],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(entity) = self.look(id, now, |e, _| e.clone())? else { return Ok(()) };
        for match_key in weak {
            let mut others = self.hinted(&match_key.key)?;
            others.extend(
                self.tick.hints.iter().filter(|((k, _), on)| *k == match_key.key && **on).map(|((_, e), _)| *e),
            );
            others.sort_unstable();
            for other in others.into_iter().filter(|other| *other != id && !entity.apart.contains(other)) {
                let fits = self.look(other, now, |e, _| {
                    let free = e.member_of(connection).is_none_or(|m| !e.members[m].has_record());
                    free && e.life == Life::Live && !e.is_unread() && entity.may_match(e)
                })?;
                if fits == Some(true) {
                    return self.ask_match(id, other, match_key, now);
                }
            }
        }
        Ok(())
    }

    /// Asks whether two entities are one. Asked once for each pair.
    pub(crate) fn ask_match(
        &mut self,
        id: EntityId,
        other: EntityId,
        by: &MatchKey,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (kind, confidence) = (by.kind, by.confidence);
        self.with(id, now, |e, cx, _| {
            let asked = e.questions.iter().any(|q| matches!(q.about, About::Match { other: o, .. } if o == other));
            if !asked && !e.apart.contains(&other) {
                let about = About::Match { other, by: kind.into(), confidence };
                e.questions.push(Question::new(about, cx.now));
            }
        })?;
        Ok(())
    }

    /// Notes that two entities are one; they join as soon as no call of either is under way.
    pub(crate) fn join_into(
        &mut self,
        id: EntityId,
        other: EntityId,
        keep: Keep,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (other, _) = self.follow(other, 0)?;
        if other == id || !self.load(id)? || !self.load(other)? {
            return Ok(());
        }
        let unread = |engine: &mut Self, id| engine.cache.get_mut(id).is_some_and(|l| l.entity.is_unread());
        // What was read absorbs what was only heard of.
        let (from, into) = if unread(self, other) && !unread(self, id) { (other, id) } else { (id, other) };
        self.with(from, now, |e, _, _| e.joining = Some(Joining { into, keep }))?;
        self.with(into, now, |_, _, _| ())?;
        self.joins.insert(from, into);
        Ok(())
    }

    /// Whether an entity waits to be joined with another one: then no call is opened for it.
    pub(crate) fn is_joining(&self, id: EntityId) -> bool {
        self.joins.iter().any(|(from, into)| *from == id || *into == id)
    }

    /// Joins what is free.
    pub(crate) fn join_free(&mut self, now: Timestamp) -> Result<(), StoreError> {
        for from in self.joins.keys().copied().collect::<Vec<_>>() {
            let Some(joining) = self.look(from, now, |e, _| e.joining)?.flatten() else {
                self.joins.remove(&from);
                continue;
            };
            let (into, _) = self.follow(joining.into, 0)?;
            if into != from && !(self.is_idle(from) && self.is_idle(into)) {
                self.joins.insert(from, into);
                continue;
            }
            self.joins.remove(&from);
            if into == from {
                self.with(from, now, |e, _, _| e.joining = None)?;
            } else {
                self.join(from, into, joining.keep, now)?;
            }
        }
        Ok(())
    }

    fn is_idle(&mut self, id: EntityId) -> bool {
        let targets: Vec<u32> = self.lines.keys().copied().collect();
        targets.into_iter().all(|target| !self.is_busy(WorkKey { target, entity: id }))
    }

    fn join(&mut self, id: EntityId, into: EntityId, keep: Keep, now: Timestamp) -> Result<(), StoreError> {
        let Some(mut other) = self.with(id, now, |e, _, _| e.take_all())? else { return Ok(()) };
        let object = other.object.clone();
        let records: Vec<(u32, Box<str>)> = other.records().collect();
        let (claims, hints, external) = (other.claims.clone(), other.hints.clone(), other.uuid);
        let absorbed = self.with(into, now, |e, cx, notes| {
            e.claims.extend(&claims);
            e.hints.extend(hints.iter().filter(|h| !e.hints.contains(h)).copied().collect::<Vec<_>>());
            e.absorb(&mut other, keep, cx, notes)
        })?;
        let Some(absorbed) = absorbed else { return Ok(()) };
        self.tell_of_join((id, other.trail, other.outcome), into);
        let offset = absorbed.offset;
        self.with(id, now, |e, _, _| e.life = Life::Joined(Joined { into, offset }))?;
        for (connection, native) in records {
            self.own(member_key(connection, object.as_str(), &native), into)?;
        }
        self.own(external_key(external), into)?;
        for key in claims {
            self.hold_claim(key, Some(into))?;
        }
        for key in hints {
            self.tick.hints.insert((key, id), false);
            self.tick.hints.insert((key, into), true);
        }
        self.end_work(id);
        for (source, asked) in absorbed.closed {
            let closed: Vec<_> = asked.into_iter().map(|a| (a, Outcome::Skipped)).collect();
            self.close_source(into, source, &closed, now)?;
        }
        Ok(())
    }

    /// Nothing is to be done any more for an entity without members.
    pub(crate) fn end_work(&mut self, id: EntityId) {
        for target in self.lines.keys().copied().collect::<Vec<_>>() {
            self.end_pair(WorkKey { target, entity: id });
        }
    }

    /// A record that was set aside is somebody else: it gets an entity of its own, and the two are not taken for one again,
    /// whatever they have in common.
    pub(crate) fn part(
        &mut self,
        id: EntityId,
        connection: u32,
        native: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let parted = self.with(id, now, |e, _, _| {
            let is_it = |d: &Detached| d.connection == connection && *d.native == *native;
            e.detached.remove(e.detached.iter().position(is_it)?);
            e.end_surplus(connection, native);
            Some((e.tenant.clone(), e.object.clone()))
        })?;
        let Some((tenant, object)) = parted.flatten() else { return Ok(()) };
        let link = self.cache.get_mut(id).map_or(0, |loaded| loaded.link);
        let own = self.make_entity(&tenant, &object, link, (connection, native), now)?;
        self.with(own, now, |e, cx, _| {
            e.apart.push(id);
            e.members[0].need_read(cx.now);
        })?;
        self.with(id, now, |e, _, _| e.apart.push(own))?;
        Ok(())
    }

    /// What happened to an entity that became part of another one is told there from now on.
    fn tell_of_join(&mut self, (other, trail, outcome): (EntityId, i64, i64), into: EntityId) {
        let mut tale = self.cache.get_mut(other).map(|loaded| std::mem::take(&mut loaded.tale)).unwrap_or_default();
        if let Some(loaded) = self.cache.get_mut(into) {
            loaded.tale.take_over(&mut tale);
        }
        self.happened(into, Happened::Joined { other, trail, outcome });
    }

    /// The record of `id` in `connection` was merged into record `winner` there.
    pub(crate) fn merged(
        &mut self,
        id: EntityId,
        connection: u32,
        winner: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(object) = self.look(id, now, |e, _| e.object.clone())? else { return Ok(()) };
        let key = member_key(connection, object.as_str(), winner);
        let owner = match self.owner(&key)? {
            Some(owner) => Some(self.follow(owner, 0)?.0),
            None => None,
        };
        match owner {
            Some(other) if other != id => {
                self.with(id, now, |e, _, _| e.lose_record(connection))?;
                self.join_into(id, other, Keep::Survivor, now)
            }
            Some(_) => {
                self.with(id, now, |e, cx, _| {
                    e.lose_record(connection);
                    if let Some(m) = e.member_of(connection) {
                        e.take_up(m, Some(winner), cx);
                    }
                })?;
                Ok(())
            }
            None => {
                self.own(key, id)?;
                self.with(id, now, |e, cx, _| e.move_record(connection, winner, cx.now))?;
                Ok(())
            }
        }
    }

    /// A record already stands where one was to be made: it becomes the member, after a read; one that another entity
    /// has is asked about. False when a person said already that the two are not the same.
    pub(crate) fn attach_existing(
        &mut self,
        id: EntityId,
        connection: u32,
        native: &str,
        by: &MatchKey,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some((object, apart)) = self.look(id, now, |e, _| (e.object.clone(), e.apart.clone()))? else {
            return Ok(false);
        };
        let key = member_key(connection, object.as_str(), native);
        if let Some(owner) = self.owner(&key)? {
            let (owner, _) = self.follow(owner, 0)?;
            if owner != id {
                self.ask_match(id, owner, by, now)?;
                return Ok(!apart.contains(&owner));
            }
        }
        self.own(key, id)?;
        self.with(id, now, |e, cx, _| {
            let Some(m) = e.member_of(connection) else { return };
            e.detached.retain(|d| d.connection != connection || *d.native != *native);
            e.end_surplus(connection, native);
            if e.members[m].has_record() && e.members[m].native.as_deref() != Some(native) {
                return e.set_aside(connection, native.into(), cx.now);
            }
            let member = &mut e.members[m];
            member.native = Some(native.into());
            member.state = MemberState::Heard;
            member.stale = 0;
            member.need_read(cx.now);
        })?;
        Ok(true)
    }
}

impl Entity {
    /// Takes everything out, and leaves a document without members.
    fn take_all(&mut self) -> Self {
        let empty = Self {
            members: Vec::new(),
            fields: Vec::new(),
            ..Self::heard(self.uuid, &self.tenant, self.object.clone(), 0, "", self.created)
        };
        std::mem::replace(self, empty)
    }

    /// All its records, those set aside included.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u32, Box<str>)> {
        let linked = self.members.iter().filter_map(|m| Some((m.connection, m.native.clone()?)));
        linked.chain(self.detached.iter().map(|d| (d.connection, d.native.clone())))
    }

    /// The record of a connection is no more: it was merged into another one.
    fn lose_record(&mut self, connection: u32) {
        let Some(m) = self.member_of(connection) else { return };
        let member = &mut self.members[m];
        member.native = None;
        member.into = None;
        member.state = MemberState::Gone;
        member.reads.clear();
    }

    /// The record of a connection goes on as another one that nobody had heard of.
    fn move_record(&mut self, connection: u32, native: &str, now: i64) {
        let unread = self.is_unread();
        let Some(m) = self.member_of(connection) else { return };
        let member = &mut self.members[m];
        member.native = Some(native.into());
        member.into = None;
        member.stale = 0;
        member.state = if unread { MemberState::Heard } else { MemberState::Live };
        member.need_read(now);
    }
}
