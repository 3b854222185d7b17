//! Which outcome each change has at each target. Every accepted change ends in exactly one outcome per target; until
//! then it stands here as pending, or among the changes that wait for a read or behind an intent.

use headgate_schemas::ChangeId;
use serde::{Deserialize, Serialize};

use super::fold::{Context, Learned};
use super::question::REPLACED;
use super::{Asked, Came, Entity, Life, Member, MemberState};
use crate::books::{Place, Share};
use crate::conflict::By;
use crate::mapping::Link;

/// How a change ended at one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Outcome {
    /// Written.
    Delivered = 1,
    /// The target showed the value already.
    Unchanged = 2,
    /// Our own write coming back.
    Echo = 3,
    /// A newer value of the same member took its place.
    Superseded = 4,
    /// It lost a conflict.
    Lost = 5,
    /// The target refused it for good; see the dead letters.
    Rejected = 6,
    /// A rule keeps it from the target (field not mapped, record gone, direction).
    Skipped = 7,
    /// No link concerns it. Counted once, not per target.
    NoTarget = 8,
    /// Answered with success, and the target shows its own value; tried again at the next revision.
    Kept = 9,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 9] = [
        Self::Delivered,
        Self::Unchanged,
        Self::Echo,
        Self::Superseded,
        Self::Lost,
        Self::Rejected,
        Self::Skipped,
        Self::NoTarget,
        Self::Kept,
    ];

    /// The name in metrics, logs and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Unchanged => "unchanged",
            Self::Echo => "echo",
            Self::Superseded => "superseded",
            Self::Lost => "lost_conflict",
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
            Self::NoTarget => "no_target",
            Self::Kept => "target_kept",
        }
    }

    /// What a change that put nothing in force ends as.
    pub const fn of(learned: Learned) -> Self {
        match learned {
            Learned::Echo => Self::Echo,
            Learned::Agreed | Learned::Taken => Self::Unchanged,
            Learned::Lost | Learned::Held => Self::Lost,
            Learned::Stale | Learned::Early | Learned::Aged | Learned::Known | Learned::Tie => Self::Superseded,
        }
    }
}

/// A change that is still to reach one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The change.
    pub change: ChangeId,
    /// The connection it came from.
    pub source: u32,
    /// How it came.
    pub came: Came,
    /// The fields it put in force, with their revisions.
    pub parts: Vec<(u8, i32)>,
}

/// A change that ended at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The change.
    pub change: ChangeId,
    /// The target's connection.
    pub target: u32,
    /// How.
    pub outcome: Outcome,
    /// How it came.
    pub came: Came,
}

/// Where one part of a change stands at a target.
enum Part {
    Open,
    Ended(Outcome),
}

impl Entity {
    /// Notes that a change of member `source` is to reach the targets it is due at.
    pub fn track(&mut self, source: usize, asked: &Asked, parts: &[(u8, i32)]) {
        let from = self.members[source].connection;
        let Asked { change, came, targets } = asked;
        for target in targets.iter().copied() {
            let m = match self.member_of(target) {
                Some(m) => m,
                None => self.add_member(Member::new(target, None, MemberState::Absent)),
            };
            self.members[m].pending.push(Pending { change: *change, source: from, came: *came, parts: parts.to_vec() });
        }
    }

    /// Takes out the pending changes that have ended.
    pub fn close_ended(&mut self, cx: &Context<'_>, closed: &mut Vec<Closed>) {
        for m in 0..self.members.len() {
            if self.members[m].pending.is_empty() {
                continue;
            }
            let target = self.members[m].connection;
            let pending = std::mem::take(&mut self.members[m].pending);
            let mut open = Vec::new();
            for change in pending {
                match self.ended(m, &change, cx) {
                    Some(outcome) => {
                        closed.push(Closed { change: change.change, target, outcome, came: change.came });
                    }
                    None => open.push(change),
                }
            }
            self.members[m].pending = open;
        }
    }

    fn ended(&self, m: usize, change: &Pending, cx: &Context<'_>) -> Option<Outcome> {
        let mut outcome = None;
        for &(f, rev) in &change.parts {
            match self.part(usize::from(f), rev, change.source, m, cx) {
                Part::Open => return None,
                Part::Ended(o) => outcome = Some(weightier(outcome, o)),
            }
        }
        Some(outcome.unwrap_or(Outcome::Skipped))
    }

    fn part(&self, f: usize, rev: i32, source: u32, m: usize, cx: &Context<'_>) -> Part {
        let member = &self.members[m];
        let Some(field) = self.fields.get(f) else { return Part::Ended(Outcome::Skipped) };
        if matches!(self.life, Life::Left | Life::Erasing | Life::Erased) {
            return Part::Ended(Outcome::Skipped);
        }
        match member.state {
            MemberState::Gone | MemberState::Removed(_) => return Part::Ended(Outcome::Skipped),
            MemberState::Refused => return Part::Ended(Outcome::Rejected),
            MemberState::Heard | MemberState::Absent | MemberState::Live | MemberState::Missing(_) => {}
        }
        if member.state == MemberState::Absent && !self.members.iter().any(Member::has_record) {
            // There is nothing any more that it could be made from.
            return Part::Ended(Outcome::Skipped);
        }
        if rev == REPLACED {
            return Part::Ended(Outcome::Superseded);
        }
        if field.rev > rev {
            let own = field.by == By::Member(source);
            return Part::Ended(if own { Outcome::Superseded } else { Outcome::Lost });
        }
        let plan = cx.link.field(&field.name);
        let unwritten = || plan.project(member.connection, &field.value, self.created, cx.timing).is_none();
        if !plan.writes(member.connection) || (field.held.is_none() && unwritten()) {
            return Part::Ended(Outcome::Skipped);
        }
        match &field.cells[m] {
            None => Part::Open,
            Some(cell) if cell.refused >= rev => Part::Ended(Outcome::Rejected),
            Some(cell) if cell.rev >= rev => Part::Ended(match cell.mine {
                false => Outcome::Unchanged,
                true if cell.kept && plan.same(member.connection, &cell.shown, &cell.heard) => Outcome::Kept,
                true => Outcome::Delivered,
            }),
            Some(_) => Part::Open,
        }
    }

    /// Changes that are no longer due at targets that the link has lost: each with those targets, by source.
    pub(crate) fn leave_targets(&mut self, link: &Link) -> Vec<(u32, Asked)> {
        let mut left = Vec::new();
        for member in &mut self.members {
            let source = member.connection;
            let linked = |target: &u32| link.targets(source).any(|t| t == *target);
            let asked = member.asked.iter_mut().map(|a| (a.change, a.came, &mut a.targets));
            let waiting = member.waiting.iter_mut().map(|e| (e.change, e.came, &mut e.targets));
            for (change, came, targets) in asked.chain(waiting) {
                let (stay, go): (Vec<u32>, Vec<u32>) = targets.iter().partition(|target| linked(target));
                if !go.is_empty() {
                    *targets = stay.into();
                    left.push((source, Asked { change, came, targets: go.into() }));
                }
            }
        }
        left
    }

    /// Open deliveries: changes that have no outcome yet, counted per target.
    pub fn open_deliveries(&self) -> usize {
        self.members
            .iter()
            .map(|m| m.pending.len() + undecided(m).map(|(_, targets)| targets.len()).sum::<usize>())
            .sum()
    }

    /// [`Entity::open_deliveries`] by where they are due and by what they wait for.
    pub fn open_shares(&self) -> Vec<(Share, i64)> {
        let mut shares: Vec<(Share, i64)> = Vec::new();
        let mut add = |share: Share| match shares.iter_mut().find(|(s, _)| *s == share) {
            Some((_, sum)) => *sum += 1,
            None => shares.push((share, 1)),
        };
        for member in &self.members {
            let at = member.connection;
            for pending in &member.pending {
                let place = Place { link: pending.came.link, target: at };
                add(Share { place, at, held: self.is_held(member, pending) });
            }
            for (link, targets) in undecided(member) {
                targets
                    .iter()
                    .for_each(|target| add(Share { place: Place { link, target: *target }, at, held: false }));
            }
        }
        shares
    }

    /// A person is to decide about some part of a change, or which record it is to reach.
    fn is_held(&self, member: &Member, change: &Pending) -> bool {
        if member.state == MemberState::Absent && self.asks_about_match() {
            return true;
        }
        let held = |f: u8| self.fields.get(usize::from(f)).is_some_and(|field| field.held.is_some());
        change.parts.iter().any(|(f, rev)| *rev != REPLACED && held(*f))
    }
}

/// Where the changes of a member are due that a read decides, or that stand behind an intent: by which link, and at
/// which targets.
fn undecided(member: &Member) -> impl Iterator<Item = (u32, &[u32])> {
    let asked = member.asked.iter().map(|a| (a.came.link, &*a.targets));
    asked.chain(member.waiting.iter().map(|e| (e.came.link, &*e.targets)))
}

/// Of the outcomes of its parts a change has the one a person most needs to see.
fn weightier(a: Option<Outcome>, b: Outcome) -> Outcome {
    const ORDER: [Outcome; 7] = [
        Outcome::Rejected,
        Outcome::Kept,
        Outcome::Delivered,
        Outcome::Unchanged,
        Outcome::Lost,
        Outcome::Superseded,
        Outcome::Skipped,
    ];
    let weight = |o: Outcome| ORDER.iter().position(|x| *x == o).unwrap_or(ORDER.len());
    match a {
        Some(a) if weight(a) <= weight(b) => a,
        Some(_) | None => b,
    }
}
