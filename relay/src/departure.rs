//! Records that go: what follows from a delete that a read confirmed, the brake, erasing for privacy.
//!
//! The rules are in [`crate::entity::record`]; here are the steps that need the store: how many entities of a link went
//! within the hour, and what is left of a person who was erased. The surprising thing: the brake counts entities, not
//! calls, and once it holds one it holds every further one until a person has looked.

use std::collections::{BTreeSet, VecDeque};

use headgate_schemas::Timestamp;

use crate::engine::Engine;
use crate::entity::question::{About, Question};
use crate::entity::record::{DeletePolicy, Leaving, Life, Missed, Parting, RecordRules};
use crate::entity::{Asked, Outcome};
use crate::store::{EntityId, Forgotten, StoreError, external_key, member_key, tombstone_key};

/// The brake looks at what went within this time.
const WINDOW: i64 = 3_600_000_000;
/// So few entities may always go within an hour, however small the link is.
const FEW: usize = 10;

/// What goes on one link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brake {
    /// When entities went, oldest first; no more than the link's limit and one are kept.
    goings: VecDeque<i64>,
    /// Entities of the link.
    pub(crate) size: i64,
    /// Entities that wait for a person.
    held: BTreeSet<EntityId>,
}

impl Brake {
    /// Takes note of an entity that is to go. False where so many went that one more tells nothing new.
    fn count(&mut self, rules: &RecordRules, now: i64) -> bool {
        while self.goings.front().is_some_and(|at| now - at >= WINDOW) {
            self.goings.pop_front();
        }
        let counts = self.goings.len() <= rules.brake_count;
        if counts {
            self.goings.push_back(now);
        }
        counts
    }

    /// An entity waits for a person, or does no longer.
    pub(crate) fn hold(&mut self, id: EntityId, waits: bool) {
        if waits {
            self.held.insert(id)
        } else {
            self.held.remove(&id)
        };
    }

    /// Whether the entities counted are too many.
    fn is_over(&self, rules: &RecordRules) -> bool {
        let going = self.goings.len();
        let share = i64::try_from(going).unwrap_or(i64::MAX).saturating_mul(100);
        let percent = share > self.size.saturating_mul(i64::from(rules.brake_percent));
        !self.held.is_empty() || going > rules.brake_count || (going > FEW && percent)
    }
}

impl Engine {
    /// What follows when a read of the record in `connection` found nothing.
    pub(crate) fn missed(
        &mut self,
        id: EntityId,
        connection: u32,
        missed: Missed,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match missed {
            Missed::Again => Ok(()),
            Missed::Known(asked) => self.skip(id, connection, asked, now),
            Missed::Merged(into) => self.merged(id, connection, &into, now),
            Missed::Gone(asked) => {
                self.skip(id, connection, asked, now)?;
                self.departed(id, connection, now)
            }
            Missed::Purged(asked) => {
                self.skip(id, connection, asked, now)?;
                self.erase(id, connection, now)
            }
        }
    }

    pub(crate) fn skip(
        &mut self,
        id: EntityId,
        source: u32,
        asked: Vec<Asked>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let closed: Vec<_> = asked.into_iter().map(|a| (a, Outcome::Skipped)).collect();
        self.close_source(id, source, &closed, now)
    }

    /// Somebody deleted the record in `connection`: the delete policy of the link says what becomes of the others.
    fn departed(&mut self, id: EntityId, connection: u32, now: Timestamp) -> Result<(), StoreError> {
        let parting = self.with(id, now, |e, cx, _| {
            let m = e.member_of(connection)?;
            // A record that was set aside takes its place: the person is still there.
            if e.take_up(m, None, cx) || e.life != Life::Live {
                return None;
            }
            Some(e.parting(m, cx))
        })?;
        match parting.flatten() {
            None | Some(Parting::Stay) => Ok(()),
            Some(Parting::Last) => {
                self.with(id, now, |e, cx, _| e.leave(connection, false, cx.now))?;
                Ok(())
            }
            Some(Parting::Ask) => {
                self.with(id, now, |e, cx, _| {
                    e.leave(connection, false, cx.now);
                    if let Some(m) = e.member_of(connection) {
                        e.ask_about_delete(m, cx.now);
                    }
                })?;
                Ok(())
            }
            Some(Parting::Clear | Parting::Delete) => {
                let braked = self.brake(id, now)?;
                self.with(id, now, |e, cx, _| {
                    e.leave(connection, braked, cx.now);
                    e.depart(cx);
                })?;
                Ok(())
            }
        }
    }

    /// Counts an entity that is to go. True when it has to wait for a person.
    fn brake(&mut self, id: EntityId, now: Timestamp) -> Result<bool, StoreError> {
        let Some((link, rules)) = self.look(id, now, |_, cx| (cx.link.name.clone(), cx.link.records))? else {
            return Ok(false);
        };
        let brake = self.brakes.entry(link.clone()).or_default();
        let counted = brake.count(&rules, now.micros());
        let over = brake.is_over(&rules);
        let first = over && brake.held.is_empty();
        if over {
            brake.held.insert(id);
        }
        let going = u32::try_from(brake.goings.len()).unwrap_or(u32::MAX);
        if counted {
            self.tick.unit.goings.push((link.clone(), now.micros()));
        }
        if first {
            tracing::warn!(
                link,
                going,
                "many records of this link were deleted within an hour; deletes elsewhere wait for a person"
            );
            self.with(id, now, |e, cx, _| {
                e.questions.push(Question::new(About::Brake { link: link.as_str().into(), going }, cx.now));
            })?;
        }
        Ok(over)
    }

    /// A person has looked at what the brake holds: it goes, or all of it stays.
    pub(crate) fn release(&mut self, link: &str, go: bool, now: Timestamp) -> Result<(), StoreError> {
        let Some(brake) = self.brakes.get_mut(link) else { return Ok(()) };
        let held = std::mem::take(&mut brake.held);
        brake.goings.clear();
        self.tick.unit.released.push(link.to_owned());
        for id in held {
            let (id, _) = self.follow(id, 0)?;
            self.with(id, now, |e, cx, _| {
                e.questions.retain(|q| !matches!(q.about, About::Brake { .. }));
                let Life::Leaving(Leaving { gone, braked: true, .. }) = e.life else { return };
                if go {
                    e.leave(gone, false, cx.now);
                    e.depart(cx);
                } else {
                    e.stay();
                }
            })?;
        }
        Ok(())
    }

    /// Takes up what an earlier process knew: goings of the last hour, sizes of links.
    pub(crate) fn recover_brakes(&mut self, goings: &[(String, i64)], sizes: &[(String, i64)]) {
        self.brakes.values_mut().for_each(|brake| brake.goings.clear());
        for (link, at) in goings {
            self.brakes.entry(link.clone()).or_default().goings.push_back(*at);
        }
        for (link, size) in sizes {
            self.brakes.entry(link.clone()).or_default().size = *size;
        }
    }

    /// An entity as it was found at the start: what waits for a person, what waits to be joined.
    pub(crate) fn recover_life(&mut self, id: EntityId, now: Timestamp) -> Result<(), StoreError> {
        let found = self.look(id, now, |e, cx| {
            let braked = matches!(e.life, Life::Leaving(Leaving { braked: true, .. }));
            (braked.then(|| cx.link.name.clone()), e.joining)
        })?;
        let Some((braked, joining)) = found else { return Ok(()) };
        if let Some(link) = braked {
            self.brakes.entry(link).or_default().held.insert(id);
        }
        if let Some(joining) = joining {
            self.joins.insert(id, joining.into);
        }
        Ok(())
    }

    /// One entity more, or less, stands under a link.
    pub(crate) fn tally(&mut self, id: EntityId, by: i64, now: Timestamp) -> Result<(), StoreError> {
        if let Some(link) = self.look(id, now, |_, cx| cx.link.name.clone())? {
            self.brakes.entry(link.clone()).or_default().size += by;
            self.tick.unit.sizes.push((link, by));
        }
        Ok(())
    }

    /// A person is to be forgotten: everything that waited ends, every record of theirs is erased.
    fn erase(&mut self, id: EntityId, connection: u32, now: Timestamp) -> Result<(), StoreError> {
        let ended = self.with(id, now, |e, _, _| {
            let ended = e.begin_erasing();
            if let Some(m) = e.member_of(connection) {
                e.erase_next(m);
            }
            ended
        })?;
        for (source, asked) in ended.unwrap_or_default() {
            self.skip(id, source, asked, now)?;
        }
        Ok(())
    }

    /// Moves an entity on whose records are all gone.
    pub(crate) fn end_life(&mut self, id: EntityId, now: Timestamp) -> Result<(), StoreError> {
        let ended = self.look(id, now, |e, cx| e.has_just_left(cx).then(|| e.life.clone()))?;
        match ended.flatten() {
            Some(Life::Left) => self.give_up_claims(id, now),
            Some(Life::Erased) => {
                self.give_up_claims(id, now)?;
                self.forget(id, now)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whoever has the same address from now on is somebody else.
    fn give_up_claims(&mut self, id: EntityId, now: Timestamp) -> Result<(), StoreError> {
        let keys = self.with(id, now, |e, _, _| (std::mem::take(&mut e.claims), std::mem::take(&mut e.hints)))?;
        let (claims, hints) = keys.unwrap_or_default();
        for key in claims {
            self.hold_claim(key, None)?;
        }
        for key in hints {
            self.tick.hints.insert((key, id), false);
        }
        self.tally(id, -1, now)
    }

    /// Leaves of a person only hashes that no one can turn back, so that late events do not bring them to life again.
    fn forget(&mut self, id: EntityId, now: Timestamp) -> Result<(), StoreError> {
        let emptied = self.with(id, now, |e, _, _| {
            let keys: Vec<_> =
                e.erased.iter().map(|d| member_key(d.connection, e.object.as_str(), &d.native)).collect();
            let (external, trail) = (external_key(e.uuid), e.trail);
            e.empty();
            (keys, external, trail)
        })?;
        let Some((keys, external, trail)) = emptied else { return Ok(()) };
        for key in &keys {
            self.tick.unit.tombstones.push((tombstone_key(&self.salt, key), now.micros()));
        }
        for key in keys.into_iter().chain([external]) {
            self.disown(key)?;
        }
        self.end_work(id);
        self.tick.unit.forgotten.push(Forgotten { entity: id, trail });
        Ok(())
    }
}

impl crate::entity::Entity {
    /// Does what the policy says of an entity that leaves, where nothing holds it.
    fn depart(&mut self, cx: &crate::entity::fold::Context<'_>) {
        if let Life::Leaving(Leaving { gone, braked: false, .. }) = self.life
            && cx.link.records.delete == DeletePolicy::Clear
            && !self.asks_about_delete()
        {
            self.clear(gone, cx);
            self.stay();
        }
    }

    /// A person's answer to whether the others go, too.
    pub(crate) fn answer_delete(&mut self, go: bool, cx: &crate::entity::fold::Context<'_>) {
        if go {
            self.confirm_leaving(cx.now);
            self.depart(cx);
        } else {
            self.stay();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_bounded_by_the_limit_and_leaves_after_an_hour() {
        let rules = RecordRules { brake_count: 20, brake_percent: 100, ..RecordRules::default() };
        let mut brake = Brake { size: 1_000, ..Brake::default() };
        for n in 1..=20 {
            assert!(brake.count(&rules, n));
            assert!(!brake.is_over(&rules), "{n} may go");
        }
        for n in 21..=10_000 {
            assert_eq!(brake.count(&rules, n), n == 21);
            assert!(brake.is_over(&rules), "{n} is too many");
        }
        assert_eq!(brake.goings.len(), 21);
        assert!(brake.count(&rules, WINDOW + 20));
        assert_eq!(brake.goings.len(), 2, "the one of the 21st moment, and this one");
        assert!(!brake.is_over(&rules));
    }
}
