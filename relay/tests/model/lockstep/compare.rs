//! Whether the real state and the reference's say the same: value by value, in the reference's words for the error.
//!
//! It looks and changes nothing. What is the machine's own business is left out: numbers of intents, reads that are
//! due already, flips that no longer count.

use std::collections::BTreeSet;

use headgate_relay::conflict::By;
use headgate_relay::entity::fold::Learned;
use headgate_relay::entity::{Cell, Field, Member, NO_FLOOR, NO_REV, Write, WriteState};
use headgate_schemas::{Span, Value};

use super::MILLIS;
use crate::real;
use crate::reference::state::{self, Outcome, RowState};
use crate::reference::value::{self as model, HOUR};

/// Flips older than this no longer count.
const DAY: i64 = 24 * HOUR;

const fn learned(outcome: Outcome) -> Learned {
    match outcome {
        Outcome::Stale => Learned::Stale,
        Outcome::Early => Learned::Early,
        Outcome::Aged => Learned::Aged,
        Outcome::Known | Outcome::Open | Outcome::Read => Learned::Known,
        Outcome::Tie => Learned::Tie,
        Outcome::Echo => Learned::Echo,
        Outcome::Agreed => Learned::Agreed,
        Outcome::Lost => Learned::Lost,
        Outcome::Held => Learned::Held,
        Outcome::Taken => Learned::Taken,
    }
}

/// The weightiest of what several values taught.
pub(super) fn weightiest(said: &[(model::Field, Outcome)]) -> Learned {
    said.iter().map(|(_, outcome)| learned(*outcome)).fold(Learned::Known, Ord::max)
}

/// One field of the entity.
pub(super) fn compare_field(own: &Field, reference: &state::EntityField, now: i64) -> Result<(), String> {
    let what = |part: &str| format!("{part} of {}", own.name);
    same(&what("value"), &own.value, &real::value(reference.value))?;
    same(&what("stamp"), &own.stamp, &MILLIS.span(reference.stamp))?;
    same(&what("revision"), &own.rev, &rev(Some(reference.rev)))?;
    same(&what("author"), &own.by, &real::by(reference.by))?;
    let held = reference.held.as_ref().map(|held| candidates(held.iter().copied()));
    let own_held = own.held.as_ref().map(|held| held.iter().map(|c| (c.by, c.value.clone())).collect::<Vec<_>>());
    same(&what("candidates"), &own_held, &held)?;
    let past: BTreeSet<_> = reference.past.iter().map(|(value, by)| (real::value(*value), real::by(*by))).collect();
    same(&what("past"), &own.past.iter().cloned().collect(), &past)?;
    // The real code forgets flips that no longer count.
    let recent = |flips: &[i64]| flips.iter().copied().filter(|at| now - at < DAY).collect::<Vec<_>>();
    same(&what("flips"), &recent(&own.flips), &recent(&reference.flips))
}

fn candidates(held: impl Iterator<Item = (usize, model::Value)>) -> Vec<(By, Value)> {
    held.map(|(member, value)| (real::by(member), real::value(value))).collect()
}

/// One member, its cells apart. While events are still to be folded one by one, those that wait are not comparable.
pub(super) fn compare_member(own: &Member, reference: &state::Member, now: i64, aside: usize) -> Result<(), String> {
    let floor = if reference.floor == state::NO_FLOOR { NO_FLOOR } else { reference.floor };
    same("floor", &own.floor, &floor)?;
    same("reads in vain", &u32::from(own.stale), &reference.stale)?;
    // Reads that are due are the machine's business: it may have sent them. Those to come must agree.
    let to_come = |reads: &[i64]| reads.iter().copied().filter(|at| *at > now).collect::<BTreeSet<_>>();
    same("reads to come", &to_come(&own.reads), &to_come(&reference.reads))?;
    if aside == 0 {
        same("waiting events", &own.waiting.len(), &reference.waiting.len())?;
    }
    Ok(())
}

/// One cell; not its ledger where the reference has just forgotten old rows.
pub(super) fn compare_cell(own: &Cell, reference: &state::Cell, pruned: bool) -> Result<(), String> {
    same("shown", &own.shown, &real::value(reference.shown))?;
    same("seen", &own.seen, &MILLIS.span(reference.seen))?;
    same("revision", &own.rev, &rev(reference.rev))?;
    same("since", &own.since, &reference.since)?;
    same("mine", &own.mine, &reference.mine)?;
    same("kept", &own.kept, &reference.kept)?;
    same("heard", &own.heard, &real::value(reference.heard))?;
    same("heard at", &own.heard_at, &MILLIS.span(reference.heard_at))?;
    same("in doubt", &own.early, &reference.early)?;
    if pruned {
        return Ok(());
    }
    let rows: Vec<_> = own.ledger.iter().map(own_row).collect();
    same("ledger", &rows, &reference.ledger.iter().map(reference_row).collect())
}

/// A ledger row as both sides can show it; intents are numbered apart, `until` counts only while unknown.
type LedgerRow = (Value, Value, i32, Span, WriteState, bool);

fn own_row(row: &Write) -> LedgerRow {
    (row.value.clone(), row.native.clone(), row.rev, row.at, row.state, row.exact)
}

fn reference_row(row: &state::Write) -> LedgerRow {
    let state = match row.state {
        RowState::Open => WriteState::Open,
        RowState::Settled => WriteState::Settled,
        RowState::Absent => WriteState::Absent,
        RowState::Unknown => WriteState::Unknown(row.until),
    };
    (real::value(row.value), real::value(row.native), rev(Some(row.rev)), MILLIS.span(row.at), state, row.exact)
}

fn rev(rev: Option<u32>) -> i32 {
    rev.map_or(NO_REV, |rev| i32::try_from(rev).unwrap_or(i32::MAX))
}

/// The two sides agree on something.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, own: &T, reference: &T) -> Result<(), String> {
    if own == reference { Ok(()) } else { Err(format!("{what}: real {own:?}, reference {reference:?}")) }
}
