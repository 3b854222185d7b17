//! A second set of the same rules that is led through a run by its steps alone and compared after each.
//!
//! It proves that a step carries every input its rule needs, and is the pattern for following with another
//! implementation: never look at what the reference decided, then compare. It has no agenda and no dice.

use super::fold::Channel;
use super::rules::Rule;
use super::state::{Member, Outcome, Sighting, State};
use super::step::{Observer, Said, Step};
use super::value::{Change, Field, Kind, Snapshot};

/// Follows a reference relay; remembers where it first parted from it.
pub struct Follower {
    state: State,
    steps: usize,
    parted: Option<String>,
}

impl Follower {
    /// A follower that starts where the reference starts.
    pub const fn new(state: State) -> Self {
        Self { state, steps: 0, parted: None }
    }

    /// How many steps it has followed.
    pub const fn steps(&self) -> usize {
        self.steps
    }

    /// The step at which it parted from the reference, and how.
    pub fn parted(&self) -> Option<&str> {
        self.parted.as_deref()
    }

    /// Takes the step by its inputs; says where its own decision differs from the reported one.
    fn take(&mut self, step: &Step<'_>) -> Result<(), String> {
        match *step {
            Step::Pruned { member, field, rows, now } => same("pruned", self.state.prune(member, field, now), rows),
            Step::Event { change, now, said } => self.event(change, now, said),
            Step::Read { member, snapshot, now, said, again } => {
                let (own, own_again) = self.read(member, snapshot, now);
                same("read", own.as_slice(), said)?;
                same("another read", own_again, again.is_some())
            }
            Step::Dirty { member, now, fields } => same("dirty", self.state.dirty(member, now).as_slice(), fields),
            Step::Intent { member, intent, rows, now } => {
                let fields: Vec<_> = rows.iter().map(|row| row.field).collect();
                same("rows", self.state.rows(member, &fields).as_slice(), rows)?;
                self.state.intend(member, intent, rows, now);
                Ok(())
            }
            Step::Settled { member, intent, rows, answer, now } => {
                self.state.settle(member, intent, rows, answer, now);
                Ok(())
            }
            Step::GaveUp { member, intent, now } => {
                self.state.give_up(member, intent, now);
                Ok(())
            }
            Step::Resolved { field, value, now } => {
                self.state.resolve(field, value, now);
                Ok(())
            }
        }
    }

    fn event(&mut self, change: &Change, now: i64, said: Said<'_>) -> Result<(), String> {
        let halves = change.cells.iter().any(|reported| reported.half.is_some());
        if change.kind == Kind::Hint || (halves && self.state.rules.has(Rule::GroupRead)) {
            let member = &mut self.state.members[change.member];
            member.floor = member.floor.max(change.time.lo);
            member.stale = 0;
            return same("asks for a read", matches!(said, Said::Reads), true);
        }
        let sightings: Vec<_> = change.cells.iter().map(|reported| self.state.sighting(change, reported)).collect();
        if sightings.iter().any(|sighting| self.state.must_wait(sighting)) {
            return same("waits", matches!(said, Said::Waits), true);
        }
        let own = self.learn(&sightings, Channel { kind: change.kind, author: change.author, asked: now, now });
        match said {
            Said::Folded(said) => same("folded", own.as_slice(), said),
            Said::Waits | Said::Reads => Err(format!("the follower folded {own:?}")),
        }
    }

    fn read(&mut self, index: usize, snapshot: &Snapshot, now: i64) -> (Vec<(Field, Outcome)>, bool) {
        let member = &self.state.members[index];
        let asked = member.here(snapshot.asked);
        let old = member.is_below_floor(snapshot.version);
        let sightings: Vec<_> = if old { Vec::new() } else { snapshot.sightings(index).collect() };
        let said = self.learn(&sightings, Channel { kind: Kind::Read, author: None, asked, now });
        let member = &mut self.state.members[index];
        member.etag = snapshot.etag;
        member.rule_out(snapshot.asked);
        let came = |what| said.iter().any(|&(_, outcome)| outcome == what);
        let (stale, early, doubted) =
            (old || came(Outcome::Stale), came(Outcome::Early), self.state.rules.has(Rule::Doubt));
        let again = member.counts_again(stale || (early && !doubted)) || (early && doubted);
        (said, again)
    }

    fn learn(&mut self, sightings: &[Sighting], channel: Channel) -> Vec<(Field, Outcome)> {
        sightings.iter().map(|sighting| (sighting.field, self.state.learn(sighting, channel).outcome)).collect()
    }

    /// Compares everything but the machine's own business: who is busy, who is woken, and when reads are due.
    fn compare(&self, other: &State) -> Result<(), String> {
        same("the entity", &self.state.fields, &other.fields)?;
        for (own, other) in self.state.members.iter().zip(&other.members) {
            same("what is known of a member", &own.cells, &other.cells)?;
            let needs = |member: &Member| (member.floor, member.stale, member.etag);
            same("what a member's read must meet", needs(own), needs(other))?;
        }
        same("conflicts", self.state.conflicts, other.conflicts)
    }
}

impl Observer for Follower {
    fn step(&mut self, step: &Step<'_>, state: &State) {
        if self.parted.is_some() {
            return;
        }
        self.steps += 1;
        let taken = self.take(step).and_then(|()| self.compare(state));
        self.parted = taken.err().map(|why| format!("at step {}, {step}: {why}", self.steps));
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, own: T, reference: T) -> Result<(), String> {
    if own == reference { Ok(()) } else { Err(format!("{what}: follower {own:?}, reference {reference:?}")) }
}
