//! The control: the relay one would write first. One base value per member and field, moved after the answer; a value
//! equal to the base is an echo; an older one is dropped.
//!
//! It exists to be wrong: a world that it survives tests nothing. It shares the machine and the memory of the reference
//! and uses the smaller part of both.

use super::fold::{Channel, Learnt};
use super::mind::Mind;
use super::rules::Rules;
use super::state::{Outcome, RowState, Sighting, State};
use super::step::Row;
use super::value::{Answer, Field};
use super::world::World;

/// The mind of the control.
pub struct Naive(State);

impl Naive {
    /// A control that has imported every member of a world.
    pub fn new(world: &mut World) -> Self {
        Self(State::import(world, Rules::all()))
    }
}

impl Mind for Naive {
    fn state(&self) -> &State {
        &self.0
    }

    fn state_mut(&mut self) -> &mut State {
        &mut self.0
    }

    fn must_wait(&self, _: &Sighting) -> bool {
        false
    }

    fn learn(&mut self, sighting: &Sighting, _: Channel) -> Learnt {
        let closed = |outcome| Learnt { outcome, asks: false };
        let Sighting { member, field, value, time, .. } = *sighting;
        let cell = self.0.members[member].cells.get_mut(&field);
        let (Some(cell), Some(entity)) = (cell, self.0.fields.get_mut(&field)) else { return closed(Outcome::Known) };
        if value == cell.shown {
            return closed(Outcome::Echo);
        }
        cell.shown = value;
        if !time.after(entity.stamp) {
            return closed(Outcome::Lost);
        }
        entity.value = value;
        entity.stamp = time;
        entity.rev += 1;
        cell.rev = Some(entity.rev);
        closed(Outcome::Taken)
    }

    fn dirty(&mut self, member: usize, _: i64) -> Vec<Field> {
        let cells = &self.0.members[member].cells;
        let behind = |&(field, entity): &(&Field, &super::state::EntityField)| {
            cells.get(field).is_some_and(|cell| cell.rev < Some(entity.rev))
        };
        self.0.fields.iter().filter(behind).map(|(&field, _)| field).collect()
    }

    /// Believes every answer, and frees the pair whoever holds it.
    fn settle(&mut self, member: usize, intent: u64, rows: &[Row], _: &Answer, _: i64) -> bool {
        for row in rows {
            let Some(cell) = self.0.members[member].cells.get_mut(&row.field) else { continue };
            cell.shown = row.value;
            cell.rev = cell.rev.max(Some(row.rev));
            if let Some(write) = cell.row(intent) {
                write.state = RowState::Settled;
            }
        }
        true
    }

    /// Forgets the call and tries again.
    fn give_up(&mut self, _: usize, _: u64, _: i64) {}
}
