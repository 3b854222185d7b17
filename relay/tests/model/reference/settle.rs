//! The write side of the rules: which fields are dirty, what an intent leaves in the ledger, and what an answer, or the
//! lack of one, means.
//!
//! Pure. Knowledge moves by version, so an answer is welcome however late it comes and whoever holds the pair by then.

use super::rules::Rule;
use super::scenario::Guard;
use super::state::{RowState, State, Write};
use super::step::Row;
use super::value::{Answer, Field, SEC, Span, Value};
use super::world::{LAG, LATEST};

impl State {
    /// The fields of a member that must be written. A member that shows the right value by chance counts as written
    /// from this moment on, without a call.
    pub fn dirty(&mut self, index: usize, now: i64) -> Vec<Field> {
        let rules = self.rules;
        let scenario = self.scenario;
        let member = &mut self.members[index];
        let here = member.here(now);
        let mut dirty = Vec::new();
        for (&field, entity) in &self.fields {
            let Some(cell) = member.cells.get_mut(&field) else { continue };
            let stale = cell.rev != Some(entity.rev);
            if cell.shown == scenario.project(index, entity.value) {
                if stale {
                    cell.rev = Some(entity.rev);
                    if rules.has(Rule::Aligned) {
                        cell.since = here;
                    }
                }
            } else if entity.held.is_none() && !cell.is_doubtful(here) && (stale || !rules.has(Rule::RevDirty)) {
                dirty.push(field);
            }
        }
        dirty
    }

    /// What an intent for these fields would write.
    pub fn rows(&self, index: usize, dirty: &[Field]) -> Vec<Row> {
        let row = |&field: &Field| {
            let entity = self.fields.get(&field)?;
            Some(Row { field, value: self.scenario.project(index, entity.value), rev: entity.rev })
        };
        dirty.iter().filter_map(row).collect()
    }

    /// Enters an intent into the ledger, before its call. It may be carried out from now on, so its time begins now, as
    /// early as the clock's error allows.
    pub fn intend(&mut self, index: usize, intent: u64, rows: &[Row], now: i64) {
        let member = &mut self.members[index];
        let sent = member.here(now) - member.error;
        for &Row { field, value, rev } in rows {
            let Some(cell) = member.cells.get_mut(&field) else { continue };
            cell.ledger.push(Write {
                intent,
                value,
                native: value,
                rev,
                at: Span { lo: sent, hi: sent + 1 },
                basis: cell.seen,
                exact: false,
                state: RowState::Open,
                until: 0,
            });
        }
    }

    /// The precondition of a write to this member, under a strict guard.
    pub fn precondition(&self, index: usize) -> Option<u64> {
        let strict = self.scenario.guard == Guard::Strict && self.scenario.crms[index].strict;
        strict.then_some(self.members[index].etag)
    }

    /// Whether this intent still holds the pair.
    pub fn is_open(&self, index: usize, intent: u64) -> bool {
        let rows = self.members[index].cells.values().flat_map(|cell| &cell.ledger);
        rows.filter(|row| row.intent == intent).any(|row| row.state == RowState::Open)
    }

    /// Takes in the answer to an intent.
    pub fn settle(&mut self, index: usize, intent: u64, rows: &[Row], answer: &Answer, now: i64) {
        for row in rows {
            match answer {
                Answer::Refused => {
                    if let Some(write) = self.members[index].cells.get_mut(&row.field).and_then(|cell| cell.row(intent))
                    {
                        write.state = RowState::Absent;
                    }
                }
                Answer::Written { stored, version } => {
                    let told = stored.iter().flatten().find(|cell| cell.field == row.field).map(|cell| cell.value);
                    self.settle_row(index, intent, row.field, told, *version, now);
                }
            }
        }
        if matches!(answer, Answer::Refused) {
            self.members[index].reads.push(now);
        }
    }

    fn settle_row(
        &mut self,
        index: usize,
        intent: u64,
        field: Field,
        told: Option<Value>,
        version: Option<Span>,
        now: i64,
    ) {
        let window = self.rules.has(Rule::Window);
        let member = &mut self.members[index];
        let (here, end) = (member.here(now), member.here(now) + member.error + 1);
        let Some(cell) = member.cells.get_mut(&field) else { return };
        let Some(row) = cell.row(intent) else { return };
        row.state = RowState::Settled;
        row.exact = told.is_none() && version.is_some_and(|version| version.hi - version.lo == 1);
        row.at = version.unwrap_or(Span { lo: if window { row.at.lo } else { end - 1 }, hi: end });
        row.native = told.unwrap_or(row.value);
        let Write { value, native, rev, at, basis, .. } = *row;
        // Nothing was learnt since it was opened: it is newer than all that is known, however coarse the clock.
        if basis == cell.seen || at.after(cell.seen) || (at.lo >= cell.seen.lo && !window) {
            (cell.shown, cell.rev, cell.mine, cell.early) = (native, Some(rev), true, false);
            // A span that the call's times give may begin before what was known, where clocks differ.
            if at.lo >= cell.seen.lo {
                cell.seen = at;
            }
            cell.kept = native.inbound() != value.inbound();
        } else if at.ties(cell.seen) && native != cell.shown {
            let delay = at.hi.max(cell.seen.hi) - here + LAG;
            member.need_read(now, delay);
        }
    }

    /// No answer until the send deadline: from here on nobody knows. The pair is read at once, again when an answer
    /// that was slow would be there, and when the call can no longer be carried out.
    pub fn give_up(&mut self, index: usize, intent: u64, now: i64) {
        let member = &mut self.members[index];
        for row in member.cells.values_mut().filter_map(|cell| cell.row(intent)) {
            row.state = RowState::Unknown;
            row.until = now + LATEST;
        }
        member.reads.extend([now, now + 30 * SEC, now + LATEST + SEC]);
    }
}
