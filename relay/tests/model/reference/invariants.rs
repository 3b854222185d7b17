//! What must hold from one step to the next, whatever the schedule: nothing moves back, nothing undecided is forgotten,
//! one write per pair is in flight.
//!
//! It looks at states only and repeats no rule, so it judges any relay that keeps the reference's memory.

use super::state::{Cell, EntityField, RowState, State};
use super::step::{Observer, Step};

/// Follows a relay and remembers the first fault.
#[derive(Default)]
pub struct Invariants {
    before: Option<State>,
    broken: Option<String>,
}

impl Invariants {
    /// The first fault and the step it came with.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }
}

impl Observer for Invariants {
    fn step(&mut self, step: &Step<'_>, state: &State) {
        if self.broken.is_none() {
            let fault = self.before.as_ref().and_then(|before| fault(step, before, state));
            self.broken = fault.map(|fault| format!("{fault} at: {step}"));
        }
        self.before = Some(state.clone());
    }
}

fn fault(step: &Step<'_>, before: &State, after: &State) -> Option<&'static str> {
    let cells = after.members.iter().flat_map(|member| member.cells.values());
    let cells_before = before.members.iter().flat_map(|member| member.cells.values());
    let fields = after.fields.values().zip(before.fields.values());
    cells
        .zip(cells_before)
        .find_map(|(cell, was)| cell_fault(step, cell, was))
        .or_else(|| fields.into_iter().find_map(|(entity, was)| entity_fault(step, entity, was)))
        .or_else(|| pair_fault(step, after))
}

fn cell_fault(step: &Step<'_>, cell: &Cell, was: &Cell) -> Option<&'static str> {
    let undecided = |cell: &Cell| cell.ledger.iter().filter(|row| row.is_undecided()).count();
    if cell.seen.lo < was.seen.lo {
        Some("knowledge of a member moved back")
    } else if was.heard_at.after(cell.heard_at) {
        Some("the newest foreign value moved back")
    } else if matches!(step, Step::Pruned { .. }) && undecided(cell) != undecided(was) {
        Some("an undecided write was forgotten")
    } else {
        None
    }
}

fn entity_fault(step: &Step<'_>, entity: &EntityField, was: &EntityField) -> Option<&'static str> {
    if entity.rev < was.rev || (entity.value != was.value && entity.rev == was.rev) {
        Some("a value came into force without a revision of its own")
    } else if entity.stamp.lo < was.stamp.lo && !matches!(step, Step::Resolved { .. }) {
        Some("a stamp moved back")
    } else {
        None
    }
}

fn pair_fault(step: &Step<'_>, after: &State) -> Option<&'static str> {
    let Step::Intent { member, intent, .. } = *step else { return None };
    let member = &after.members[member];
    let mut open = member.cells.values().flat_map(|cell| &cell.ledger).filter(|row| row.state == RowState::Open);
    if open.any(|row| row.intent != intent) {
        Some("two writes to one pair are in flight")
    } else if member.busy {
        None
    } else {
        Some("a write went out without holding the pair")
    }
}
