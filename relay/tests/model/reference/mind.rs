//! What a relay thinks: the seam between the machine, which is the same for all, and the rules, which are not.
//!
//! A mind has no agenda and no dice; it is told the moment and says what it makes of it.

use super::fold::{Channel, Learnt};
use super::rules::Rules;
use super::state::{Sighting, State};
use super::step::Row;
use super::value::{Answer, Field};
use super::world::World;

/// What a relay makes of values and answers.
pub trait Mind {
    /// What it remembers.
    fn state(&self) -> &State;
    /// The same, to change it.
    fn state_mut(&mut self) -> &mut State;
    /// Whether an event with this value must wait for an open intent.
    fn must_wait(&self, sighting: &Sighting) -> bool;
    /// Folds one value.
    fn learn(&mut self, sighting: &Sighting, channel: Channel) -> Learnt;
    /// The fields of a member that must be written.
    fn dirty(&mut self, member: usize, now: i64) -> Vec<Field>;
    /// Takes in an answer; says whether the pair is free again.
    fn settle(&mut self, member: usize, intent: u64, rows: &[Row], answer: &Answer, now: i64) -> bool;
    /// Takes in that there is no answer. Called only while the intent is open.
    fn give_up(&mut self, member: usize, intent: u64, now: i64);
}

/// The mind that follows the rules.
pub struct Reference(State);

impl Reference {
    /// A mind that has imported every member of a world.
    pub fn new(world: &mut World, rules: Rules) -> Self {
        Self(State::import(world, rules))
    }

    /// What it remembers.
    pub const fn memory(&self) -> &State {
        &self.0
    }
}

impl Mind for Reference {
    fn state(&self) -> &State {
        &self.0
    }

    fn state_mut(&mut self) -> &mut State {
        &mut self.0
    }

    fn must_wait(&self, sighting: &Sighting) -> bool {
        self.0.must_wait(sighting)
    }

    fn learn(&mut self, sighting: &Sighting, channel: Channel) -> Learnt {
        self.0.learn(sighting, channel)
    }

    fn dirty(&mut self, member: usize, now: i64) -> Vec<Field> {
        self.0.dirty(member, now)
    }

    fn settle(&mut self, member: usize, intent: u64, rows: &[Row], answer: &Answer, now: i64) -> bool {
        let leased = self.0.is_open(member, intent);
        self.0.settle(member, intent, rows, answer, now);
        leased
    }

    fn give_up(&mut self, member: usize, intent: u64, now: i64) {
        self.0.give_up(member, intent, now);
    }
}
