//! The decision: whether an edit comes into force. Informed edits win without comparing clocks between CRMs; every
//! other edit is a conflict, which policy decides; systems that undo each other are held.
//!
//! Pure, like the fold that calls it. It moves the entity and never what is known of members, except from when a member
//! that agrees can have known it.

use super::fold::{Channel, Learnt};
use super::rules::Rule;
use super::scenario::Policy;
use super::state::{EntityField, Outcome, Sighting, State};
use super::value::{Field, HOUR, Kind, MIN, Span, Value};
use super::world::OUTSIDE;

/// Quick returns that are not yet a fight, within ten minutes.
const QUICK_FLIPS: usize = 3;
/// Slow returns that are not yet a fight, within a day.
const SLOW_FLIPS: usize = 10;

impl State {
    /// Decides one edit.
    pub(super) fn decide(&mut self, sighting: &Sighting, channel: Channel) -> Learnt {
        let closed = |outcome| Learnt { outcome, asks: false };
        let Sighting { member: index, field, value, time, .. } = *sighting;
        let stamp = self.members[index].ours(time);
        let new = value.inbound();
        if self.agrees(sighting) {
            self.agree(sighting, stamp, channel.now);
            return closed(Outcome::Agreed);
        }
        let informed = self.is_informed(sighting, stamp, channel.kind);
        let Some(entity) = self.fields.get_mut(&field) else { return closed(Outcome::Known) };
        if let Some(candidates) = &mut entity.held {
            match candidates.iter_mut().find(|(by, _)| *by == index) {
                Some(candidate) => candidate.1 = new,
                None => candidates.push((index, new)),
            }
            return closed(Outcome::Held);
        }
        if !informed {
            self.conflicts += 1;
            if self.scenario.policy == Policy::Manual {
                entity.hold(index, new);
                return Learnt { outcome: Outcome::Held, asks: true };
            }
            let newer = stamp.after(entity.stamp) || (stamp.ties(entity.stamp) && index < entity.by);
            let prefer = |member| self.scenario.preference(member, field);
            if (prefer(index), newer) < (prefer(entity.by), true) {
                return closed(Outcome::Lost);
            }
        }
        if entity.is_fight(index, new, channel.now, self.rules.has(Rule::SlowFight)) {
            entity.hold(index, new);
            return closed(Outcome::Held);
        }
        entity.take(index, new, stamp);
        closed(Outcome::Taken)
    }

    /// A person has chosen: a new revision that nobody's edit was made on top of.
    pub fn resolve(&mut self, field: Field, value: Value, now: i64) {
        let Some(entity) = self.fields.get_mut(&field) else { return };
        entity.value = value;
        entity.rev += 1;
        entity.by = OUTSIDE;
        entity.held = None;
        entity.stamp = Span { lo: now, hi: now + 1 };
    }

    fn agrees(&self, sighting: &Sighting) -> bool {
        let Sighting { member, field, value, .. } = *sighting;
        let (Some(cell), Some(entity)) = (self.members[member].cells.get(&field), self.fields.get(&field)) else {
            return false;
        };
        Some(value) == self.wanted(member, field) || (value == cell.shown && cell.rev == Some(entity.rev))
    }

    /// The value in force, set again and later, takes over stamp and author and becomes a revision of its own, so that
    /// a delayed edit from before the agreement is not taken for one made on top of it.
    fn agree(&mut self, sighting: &Sighting, stamp: Span, now: i64) {
        let rules = self.rules;
        let member = &mut self.members[sighting.member];
        let here = member.here(now);
        let (Some(cell), Some(entity)) = (member.cells.get_mut(&sighting.field), self.fields.get_mut(&sighting.field))
        else {
            return;
        };
        if stamp.after(entity.stamp) {
            entity.stamp = stamp;
            if rules.has(Rule::AgreeRev) {
                entity.rev += 1;
                entity.by = sighting.member;
            }
        }
        if rules.has(Rule::Aligned) {
            cell.since = here;
        }
    }

    /// Whether whoever made this edit had the value in force before his eyes, or is following his own last one.
    fn is_informed(&self, sighting: &Sighting, stamp: Span, kind: Kind) -> bool {
        let Sighting { member, field, time, .. } = *sighting;
        let (Some(cell), Some(entity)) = (self.members[member].cells.get(&field), self.fields.get(&field)) else {
            return false;
        };
        let later = stamp.after(entity.stamp);
        if !self.rules.has(Rule::Informed) {
            return cell.rev >= Some(entity.rev) && (self.scenario.policy != Policy::LastWrite || later);
        }
        let current = kind == Kind::Read && self.rules.has(Rule::ReadIsNow);
        let on_top = cell.rev == Some(entity.rev) && (current || (time.after(cell.seen) && time.lo >= cell.since));
        let own_line = entity.by == member && (self.rules.has(Rule::OwnLine) || current || later);
        on_top || own_line
    }
}

impl EntityField {
    fn hold(&mut self, member: usize, value: Value) {
        let mut candidates = vec![(self.by, self.value), (member, value)];
        if self.by == member {
            candidates.remove(0);
        }
        self.held = Some(candidates);
    }

    /// The value returns to what this member had set before another changed it, once too often.
    fn is_fight(&mut self, member: usize, value: Value, now: i64, slow: bool) -> bool {
        if self.by != member && self.past.get(&value) == Some(&member) {
            self.flips.push(now);
        }
        let within = |span: i64| self.flips.iter().filter(|&&at| now - at < span).count();
        within(10 * MIN) > QUICK_FLIPS || (slow && within(24 * HOUR) > SLOW_FLIPS)
    }

    /// The new value comes into force. Its stamp is never below the old one's: an informed edit may come from a slow
    /// clock.
    fn take(&mut self, member: usize, value: Value, stamp: Span) {
        self.past.insert(self.value, self.by);
        self.value = value;
        self.rev += 1;
        self.by = member;
        self.stamp =
            if stamp.after(self.stamp) { stamp } else { Span { lo: self.stamp.lo + 1, hi: self.stamp.hi + 1 } };
    }
}
