//! The fold: what one value seen in one CRM means. Whose it is, whether it is an edit, and what is known afterwards.
//!
//! Pure: the moment is an argument, nothing is drawn, nothing is sent. What must happen next is returned. Whether an
//! edit wins stands in `decide`.

use super::rules::Rule;
use super::state::{Cell, LEDGER, Member, Outcome, RowState, Sighting, State, Write};
use super::value::{Author, HOUR, Kind, Span, Value};
use super::world::LAG;

/// How a value came to us.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// What the value means.
    pub kind: Kind,
    /// Author mark.
    pub author: Option<Author>,
    /// For a read: when it was asked, in the member's clock.
    pub asked: i64,
    /// Our clock.
    pub now: i64,
}

/// What came of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// How it ended.
    pub outcome: Outcome,
    /// A person must be asked about this field.
    pub asks: bool,
}

/// What a row of ours says about a value that is ours.
#[derive(Clone, Copy, Debug)]
struct Own {
    rev: u32,
    value: Value,
}

impl State {
    /// Whether a value's field has an open intent that the value may come after.
    pub fn must_wait(&self, sighting: &Sighting) -> bool {
        let Some(cell) = self.members[sighting.member].cells.get(&sighting.field) else { return false };
        cell.ledger.iter().filter(|row| row.state == RowState::Open).any(|row| {
            if self.rules.has(Rule::WaitAny) { sighting.time.hi > row.at.lo } else { row.value == sighting.value }
        })
    }

    /// Folds one value. The caller has pruned the cell and, for an event, found that it need not wait.
    pub fn learn(&mut self, sighting: &Sighting, channel: Channel) -> Learnt {
        let closed = |outcome| Learnt { outcome, asks: false };
        let Sighting { member, field, value, time, .. } = *sighting;
        if let Some(outcome) = self.set_aside(sighting, channel) {
            return closed(outcome);
        }
        let Some(cell) = self.members[member].cells.get(&field) else { return closed(Outcome::Known) };
        let own = self.ours(cell, value, time, channel);
        let (edit, doubt) = self.is_edit(cell, value, time, channel.kind);
        let mut learnt = closed(Outcome::Known);
        let mut rev = cell.rev;
        let mut heard = false;
        if let Some(own) = own {
            learnt.outcome = Outcome::Echo;
            rev = Some(own.rev);
        } else if edit {
            learnt = self.decide(sighting, channel);
            let in_force = matches!(learnt.outcome, Outcome::Taken | Outcome::Agreed);
            rev = self.fields.get(&field).filter(|_| in_force).map(|entity| entity.rev);
            heard = true;
        } else if doubt {
            learnt.outcome = Outcome::Tie;
        } else {
            heard = channel.kind != Kind::Edit && value == cell.shown && !cell.mine && time.after(cell.heard_at);
        }
        let (patient, doubted) = (self.rules.has(Rule::Patience), self.rules.has(Rule::Doubt));
        let keeper = &mut self.members[member];
        let Some(cell) = keeper.cells.get_mut(&field) else { return learnt };
        if heard && !cell.heard_at.after(time) {
            (cell.heard, cell.heard_at) = (value, time);
        }
        if time.after(cell.seen) || (channel.kind == Kind::Read && (edit || own.is_some())) {
            cell.show(value, time, rev, own, edit);
        } else if doubt || (time.ties(cell.seen) && value != cell.shown) {
            cell.early |= doubt && own.is_none() && doubted;
            let settled = cell.seen.hi;
            let delay = if patient { settled - keeper.here(channel.now) + LAG } else { 0 };
            keeper.need_read(channel.now, delay);
        }
        learnt
    }

    /// Values that are not folded: events older than the ledger, reads older than what is known, and reads made so soon
    /// after a tie that a replica may not have the other value yet.
    fn set_aside(&mut self, sighting: &Sighting, channel: Channel) -> Option<Outcome> {
        let Channel { kind, asked, now, .. } = channel;
        let rules = self.rules;
        let member = &mut self.members[sighting.member];
        if kind != Kind::Read {
            let age = member.here(now) - sighting.time.hi;
            if !rules.has(Rule::Horizon) || age <= LEDGER - HOUR {
                return None;
            }
            member.need_read(now, 0);
            return Some(Outcome::Aged);
        }
        let cell = member.cells.get_mut(&sighting.field)?;
        if cell.seen.after(sighting.time) {
            return Some(Outcome::Stale);
        }
        // A write of ours whose answer was lost, and here it stands: there is nothing to be patient for.
        let landed = cell.ledger.iter().any(|row| {
            let same = sighting.value == row.value || sighting.value.inbound() == row.value.inbound();
            row.state == RowState::Unknown && same && sighting.time.hi > row.at.lo
        });
        let doubtful = sighting.time.ties(cell.seen) && sighting.value != cell.shown && !landed;
        let early = rules.has(Rule::Patience) && doubtful && asked < cell.seen.hi + LAG;
        cell.early |= early && rules.has(Rule::Doubt);
        early.then_some(Outcome::Early)
    }

    /// The write of ours that this value is, if it is one: by value *and* time. A read made after a write settled
    /// cannot show an older settled one, so only the newest of those counts for it.
    fn ours(&self, cell: &Cell, value: Value, time: Span, channel: Channel) -> Option<Own> {
        if channel.author == Some(Author::User) && self.rules.has(Rule::MarkRefutes) {
            return None;
        }
        let read = channel.kind == Kind::Read;
        let newest = cell.ledger.iter().rposition(|row| row.state == RowState::Settled);
        let is_ours = |&(position, row): &(usize, &Write)| {
            let same = value == row.value || value == row.native || value.inbound() == row.value.inbound();
            match row.state {
                RowState::Unknown => same && time.hi > row.at.lo,
                RowState::Settled => {
                    let back = (!read || newest == Some(position))
                        && time.ties(row.at)
                        && (same || channel.author == Some(Author::Us) || (row.exact && read && time == row.at));
                    back || (same && channel.kind == Kind::State && cell.stood(row, time))
                }
                RowState::Open | RowState::Absent => false,
            }
        };
        let (_, row) = cell.ledger.iter().enumerate().find(is_ours)?;
        Some(Own { rev: row.rev, value: row.value })
    }

    /// Whether a value that is not ours is an edit nobody has decided yet, and whether it ties with the newest one
    /// heard.
    fn is_edit(&self, cell: &Cell, value: Value, time: Span, kind: Kind) -> (bool, bool) {
        let fresh_state = kind == Kind::State && time.after(cell.seen) && self.rules.has(Rule::StateDiff);
        if kind == Kind::Read || fresh_state {
            return (value != cell.shown, false);
        }
        if !self.rules.has(Rule::Heard) {
            return (true, false);
        }
        let newer = time.after(cell.heard_at);
        (newer && (kind == Kind::Edit || value != cell.heard), time.ties(cell.heard_at) && value != cell.heard)
    }
}

impl Cell {
    /// Whether a state that is no newer than what is known was told of the time when this settled write stood: late, or
    /// in the unit of time in which the next write replaced it. Then nobody has set that value again.
    fn stood(&self, row: &Write, time: Span) -> bool {
        let replaced = |by: &Write| by.state == RowState::Settled && by.at.after(row.at) && time.after(by.at);
        let known = !time.after(self.seen) && !self.heard_at.after(row.at);
        known && time.after(row.at) && !self.ledger.iter().any(replaced)
    }

    /// Moves what is known to stand there, whoever put it there.
    fn show(&mut self, value: Value, time: Span, rev: Option<u32>, own: Option<Own>, edit: bool) {
        if value != self.shown || own.is_some() || edit {
            self.shown = value;
            self.rev = rev;
            self.mine = own.is_some();
            self.kept = own.is_some_and(|own| value.inbound() != own.value.inbound());
        }
        if time.after(self.seen) {
            self.seen = time;
            self.early = false;
        }
    }
}

impl Member {
    /// Turns unknown rows whose call can no longer be carried out into absent ones, after a read that was asked then
    /// and did not show them. `asked` is in our clock.
    pub fn rule_out(&mut self, asked: i64) {
        for row in self.cells.values_mut().flat_map(|cell| &mut cell.ledger) {
            if row.state == RowState::Unknown && row.until <= asked {
                row.state = RowState::Absent;
            }
        }
    }
}
