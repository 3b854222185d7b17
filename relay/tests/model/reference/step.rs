//! The elementary steps of the reference relay, told to whoever wants to follow it.
//!
//! A step carries every input its rule needs, so another implementation can be led through the same run, step for step,
//! and compared after each. It carries the decision too, but apart: a follower must not need it.

use std::fmt;

use super::state::{Outcome, State};
use super::value::{Answer, Change, Field, Listed, Snapshot, Value};

/// Follows a reference relay.
pub trait Observer {
    /// Called after each step with the state it led to.
    fn step(&mut self, step: &Step<'_>, state: &State);
}

/// One row of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The field.
    pub field: Field,
    /// The native value that is sent.
    pub value: Value,
    /// The revision it carries.
    pub rev: u32,
}

/// What became of an event.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// It waits behind an open intent and will be folded again.
    Waits,
    /// It only asked for a read.
    Reads,
    /// Each of its values was folded, in this order.
    Folded(&'a [(Field, Outcome)]),
}

/// One step. `now` is our clock; other times are as the step's parts say.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Closed ledger rows of one cell were forgotten.
    Pruned {
        /// Whose.
        member: usize,
        /// Which cell.
        field: Field,
        /// How many.
        rows: usize,
        /// When.
        now: i64,
    },
    /// An event was folded, for the first time or again.
    Event {
        /// The event, member included.
        change: &'a Change,
        /// When it was folded.
        now: i64,
        /// What came of it.
        said: Said<'a>,
    },
    /// A read was folded. It answers every read that was due when it was asked.
    Read {
        /// Whose.
        member: usize,
        /// What it said, and when it was asked.
        snapshot: &'a Snapshot,
        /// When the answer came.
        now: i64,
        /// What came of each value; empty if the whole answer was too old for the event that asked for it.
        said: &'a [(Field, Outcome)],
        /// How much later it is repeated, if it is.
        again: Option<i64>,
    },
    /// Somebody asked what must be written. This is a step, since a member that shows the right value by chance counts
    /// as written from here on.
    Dirty {
        /// Whose.
        member: usize,
        /// When.
        now: i64,
        /// The fields that must be written.
        fields: &'a [Field],
    },
    /// A write was intended; the call goes out.
    Intent {
        /// To whom.
        member: usize,
        /// Its number, unique in the run.
        intent: u64,
        /// What is written.
        rows: &'a [Row],
        /// When.
        now: i64,
    },
    /// A write was answered, in time or late.
    Settled {
        /// By whom.
        member: usize,
        /// Which intent.
        intent: u64,
        /// What was written.
        rows: &'a [Row],
        /// The answer.
        answer: &'a Answer,
        /// When.
        now: i64,
    },
    /// A write was not answered until its deadline.
    GaveUp {
        /// By whom.
        member: usize,
        /// Which intent.
        intent: u64,
        /// When.
        now: i64,
    },
    /// A person decided a held field.
    Resolved {
        /// Which.
        field: Field,
        /// The chosen value, canonical.
        value: Value,
        /// When.
        now: i64,
    },
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pruned { member, field, rows, now: _ } => write!(f, "crm{member} {field}: {rows} ledger rows pruned"),
            Self::Event { change, now: _, said } => {
                write!(f, "crm{} {:?} at {}", change.member, change.kind, change.time)?;
                for reported in &change.cells {
                    let part = reported.half.map_or("", |_| " (half)");
                    write!(f, " {}={}{part}", reported.cell.field, reported.cell.value)?;
                }
                match said {
                    Said::Waits => f.write_str(" waits"),
                    Said::Reads => f.write_str(" asks for a read"),
                    Said::Folded(said) => outcomes(f, said),
                }
            }
            Self::Read { member, snapshot, now: _, said, again } => {
                let (asked, version) = (snapshot.asked, snapshot.version);
                write!(f, "crm{member} read asked {asked} at {version}: {}", Listed(&snapshot.cells))?;
                outcomes(f, said)?;
                f.write_str(if again.is_some() { ", again" } else { "" })
            }
            Self::Dirty { member, now: _, fields } => write!(f, "crm{member} dirty {fields:?}"),
            Self::Intent { member, intent, rows, now: _ } => {
                write!(f, "crm{member} intent {intent}")?;
                rows.iter().try_for_each(|row| write!(f, " {}={} rev {}", row.field, row.value, row.rev))
            }
            Self::Settled { member, intent, rows, answer, now: _ } => {
                write!(f, "crm{member} intent {intent} ({} rows) ", rows.len())?;
                match answer {
                    Answer::Refused => f.write_str("refused"),
                    Answer::Written { stored, version } => {
                        f.write_str("settled")?;
                        stored.iter().try_for_each(|cells| write!(f, ": {}", Listed(cells)))?;
                        version.iter().try_for_each(|version| write!(f, " at {version}"))
                    }
                }
            }
            Self::GaveUp { member, intent, now: _ } => write!(f, "crm{member} intent {intent} unknown"),
            Self::Resolved { field, value, now: _ } => write!(f, "a person chose {field}={value}"),
        }
    }
}

fn outcomes(f: &mut fmt::Formatter<'_>, said: &[(Field, Outcome)]) -> fmt::Result {
    said.iter().try_for_each(|(field, outcome)| write!(f, " -> {field} {outcome:?}"))
}
