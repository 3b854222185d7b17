//! What happens outside the relay: a change in a CRM becomes messages that come late, twice, out of order or never; a
//! call lands or does not, and its answer comes back or does not.
//!
//! Part of the world, split from it because this is where all the malice is. It knows no rule.

use super::crm::{Body, Message};
use super::scenario::Tells;
use super::value::{
    Answer, Change, ChangeId, Field, Hand, Kind, Listed, MIN, Reported, SEC, Snapshot, Span, Stored, Value,
};
use super::world::{Call, DEADLINE, Fate, Job, World};

impl World {
    pub(super) fn fate(&mut self) -> Fate {
        let fates = self.scenario.fates;
        let weighted = [
            (Fate::Answered, fates.answered),
            (Fate::Lost, fates.lost),
            (Fate::Never, fates.never),
            (Fate::Late, fates.late),
            (Fate::Zombie, fates.zombie),
        ];
        let mut drawn = self.dice.u32(0..weighted.iter().map(|(_, weight)| weight).sum());
        for (fate, weight) in weighted {
            if drawn < weight {
                return fate;
            }
            drawn -= weight;
        }
        Fate::Answered
    }

    pub(super) fn put(&mut self, crm: usize, values: &[(Field, Value)], hand: Hand) -> (Vec<Stored>, Span) {
        if hand == Hand::Us && values.iter().any(|&(field, value)| self.crms[crm].is_twin(self.now, field, value)) {
            self.twins += 1;
        }
        let effect = self.crms[crm].put(self.now, values, hand);
        self.say(format_args!("crm{crm} by {hand}: {} at {}", Listed(&effect.stored), effect.version));
        for &(before, after) in &effect.changed {
            if let Hand::User(number) = hand {
                self.order.typed(crm, after.field, after.value, number);
            }
            match (hand, before.hand) {
                (Hand::Us, Hand::User(number)) => _ = self.overwritten.insert(number),
                (Hand::User(_), _) => self.edits.push((crm, after.field, after.value)),
                (Hand::Us | Hand::Automation, _) => {}
            }
        }
        for message in effect.messages {
            self.emit(crm, &message);
        }
        if hand == Hand::Us && self.crms[crm].spec.flow.is_some() {
            for (_, after) in effect.changed {
                let delay = self.span(self.scenario.flow_delay);
                self.after(delay, Job::Automation { crm, field: after.field });
            }
        }
        (effect.stored, effect.version)
    }

    /// Judges what a call of ours has just written over what stood there.
    fn judge_order(&mut self, call: &Call, before: &[(Field, Value)]) {
        for &(field, old) in before {
            let new = self.crms[call.crm].value(field);
            if self.scenario.distinct && self.order.wrote(call.crm, field, (old, new), call.sent) {
                self.say(format_args!("crm{} {field} moves back from {old} to {new}", call.crm));
            }
        }
    }

    /// Sends a message once, never, or more than once; a copy keeps its number or comes under a new one.
    fn emit(&mut self, crm: usize, message: &Message) {
        let scenario = self.scenario;
        if self.chance(scenario.lose) {
            return;
        }
        let copies = u32::from(self.chance(scenario.repeat)) + u32::from(self.chance(scenario.repeat / 3.0));
        let mut number = self.mint();
        for copy in 0..=copies {
            let mut delay = self.span(scenario.delay);
            if copy > 0 {
                delay += self.span(scenario.repeat_delay);
                if self.chance(0.5) {
                    number = self.mint();
                }
            }
            self.after(delay, Job::Deliver { crm, number, message: message.clone() });
        }
    }

    pub(super) fn deliver(&mut self, crm: usize, number: u64, message: Message) {
        let (id, cells, time) = match message.body {
            Body::Fixed { cells, time } => (ChangeId { number, body: 0 }, cells, time),
            Body::AtDelivery => {
                let (cells, time) = self.crms[crm].state();
                (ChangeId::of_body(number, time, &cells), cells, time)
            }
        };
        let delay = self.span(&[20, 20, 2 * SEC]);
        let (member, kind, author) = (crm, message.kind, message.author);
        self.after(delay, Job::Accept(Change { id, member, kind, cells, time, author }));
    }

    /// Another channel: coarser, under another id, maybe from a replica.
    pub(super) fn poll(&mut self, crm: usize) {
        let snapshot = self.snapshot(crm);
        let cells = snapshot.cells.into_iter().map(|cell| Reported { cell, half: None }).collect();
        let second = Span::tick(snapshot.version.lo, SEC);
        let time = Span { lo: second.lo, hi: second.hi.max(snapshot.version.hi) };
        let id = ChangeId { number: self.mint(), body: 0 };
        let delay = self.span(&[50, 3 * SEC, MIN]);
        let change = Change { id, member: crm, kind: Kind::State, cells, time, author: None };
        self.after(delay, Job::Accept(change));
    }

    fn snapshot(&mut self, crm: usize) -> Snapshot {
        let lag = self.crms[crm].spec.lag;
        let age = if lag == 0 { 0 } else { self.span(&[lag]) };
        self.crms[crm].snapshot(self.now - age, self.now)
    }

    pub(super) fn look(&mut self, crm: usize, token: u64) {
        if self.chance(self.scenario.fail) {
            return self.after(DEADLINE, Job::Read { token, answer: None });
        }
        let snapshot = self.snapshot(crm);
        let delay = self.span(&[50, 50, 3 * SEC]);
        self.after(delay, Job::Read { token, answer: Some(snapshot) });
    }

    pub(super) fn land(&mut self, call: &Call) {
        let crm = call.crm;
        let answer = if call.precondition.is_some_and(|etag| etag != self.crms[crm].etag()) {
            self.say(format_args!("crm{crm} refuses: its record has moved"));
            Answer::Refused
        } else {
            self.writes += 1;
            let before: Vec<_> = call.values.iter().map(|&(field, _)| (field, self.crms[crm].value(field))).collect();
            let (stored, version) = self.put(crm, &call.values, Hand::Us);
            self.judge_order(call, &before);
            let tells = self.crms[crm].spec.tells;
            Answer::Written {
                stored: (tells == Tells::Values).then_some(stored),
                version: (tells != Tells::Nothing).then_some(version),
            }
        };
        if matches!(call.fate, Fate::Answered | Fate::Zombie) {
            let delay = self.span(&[50, SEC, 4 * SEC]);
            self.after(delay, Job::Answer { token: call.token, answer });
        }
    }
}
