//! What is dirty, intents before the call, answers, give-ups, and reads.

use headgate_schemas::{Span, Value};

use super::decision::{Ground, Ruling};
use super::fold::{Context, Folded, Learned, Notes, Rule, Sight};
use super::record::RemovalState;
use super::{Author, Cell, Create, Entity, Event, Life, MemberState, NO_FLOOR, NO_REV, Seen, Write, WriteState};

/// Reads that were too old are repeated so often, then left to the reconciler.
const READ_RETRIES: u8 = 6;

/// An intent: what is about to be written to one member. Its rows stand in the ledger before the call is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// Its number inside the entity.
    pub number: u32,
    /// Fields with their native values.
    pub items: Vec<(usize, Value)>,
}

/// What the CRM said of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It landed.
    Landed {
        /// Values as stored, by field, where the answer tells them.
        stored: Option<Vec<(usize, Value)>>,
        /// The version it made, by the CRM's clock, where the answer tells it.
        version: Option<Span>,
        /// The version is so fine that no two writes share it.
        exact: bool,
    },
    /// Nothing was applied because the record moved: it is read, then decided again.
    Refused,
    /// Nothing was applied for a passing reason: it is sent again later.
    NotApplied,
    /// Nothing was applied, for good. The fields named, or all of the intent, are not sent again at this revision.
    Rejected {
        /// Fields at fault; empty: all.
        fields: Vec<usize>,
    },
}

/// An event that had waited and what became of it.
pub type Refolded = (Event, Folded);

/// What a read came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// It was too old or too early: another one is due.
    Again,
    /// It was folded: fields now in force because of it, and the weightiest of what its values taught.
    Folded {
        /// Fields with their revisions.
        taken: Vec<(u8, i32)>,
        /// The weightiest of what its values taught.
        learned: Learned,
    },
}

impl Entity {
    /// The fields of member `m` that must be written. A cell that shows the projection by chance counts as written now.
    pub fn dirty(&mut self, m: usize, cx: &Context<'_>) -> Vec<usize> {
        if self.members[m].state != MemberState::Live || self.is_going() {
            return Vec::new();
        }
        let connection = self.members[m].connection;
        let peer = cx.peer(connection);
        let there = peer.clock.there(cx.now);
        let created = self.created;
        let mut dirty = Vec::new();
        for (f, field) in self.fields.iter_mut().enumerate() {
            let plan = cx.link.field(&field.name);
            let Some(cell) = field.cells[m].as_mut() else { continue };
            let Some(want) = plan.project(connection, &field.value, created, cx.timing) else { continue };
            if plan.same(connection, &cell.shown, &want) {
                if cell.rev != field.rev {
                    cell.rev = field.rev;
                    if cx.rules.has(Rule::Aligned) {
                        cell.since = there;
                    }
                }
                continue;
            }
            let behind = cell.rev != field.rev || !cx.rules.has(Rule::RevDirty);
            if field.held.is_none() && behind && cell.refused != field.rev && !cell.is_doubtful(peer, cx.now) {
                dirty.push(f);
            }
        }
        dirty
    }

    /// What stands in member `m` is not known well enough to take the record away.
    pub fn is_doubtful(&self, m: usize, cx: &Context<'_>) -> bool {
        let peer = cx.peer(self.members[m].connection);
        let mut cells = self.fields.iter().filter_map(|field| field.cells[m].as_ref());
        self.members[m].stale > 0 || cells.any(|cell| cell.is_doubtful(peer, cx.now))
    }

    /// Whether member `m` is to be made.
    pub fn wants_create(&self, m: usize) -> bool {
        let member = &self.members[m];
        let source = self.members.iter().any(|other| other.state == MemberState::Live);
        let free = self.life == Life::Live && source && !self.asks_about_match();
        !self.is_unread() && free && member.state == MemberState::Absent && member.create.is_none()
    }

    /// A write of member `m` is open.
    pub fn is_open(&self, m: usize) -> bool {
        self.fields.iter().any(|f| f.cells[m].as_ref().is_some_and(Cell::is_open))
            || self.members[m].create.as_ref().is_some_and(|c| c.unknown_until.is_none())
    }

    /// Opens an intent for `fields` of member `m`. Commit the entity before making the call.
    pub fn intend(&mut self, m: usize, fields: &[usize], cx: &Context<'_>) -> Intent {
        self.intents += 1;
        let number = self.intents;
        let connection = self.members[m].connection;
        let peer = cx.peer(connection);
        let sent = peer.clock.there(cx.now) - peer.clock.error;
        let created = self.created;
        let mut items = Vec::with_capacity(fields.len());
        for &f in fields {
            let field = &mut self.fields[f];
            let plan = cx.link.field(&field.name);
            let Some(value) = plan.project(connection, &field.value, created, cx.timing) else { continue };
            let Some(cell) = field.cells[m].as_mut() else { continue };
            cell.ledger.push(Write {
                intent: number,
                value: value.clone(),
                native: value.clone(),
                rev: field.rev,
                at: Span::point(sent),
                basis: Some(cell.seen),
                state: WriteState::Open,
                exact: false,
            });
            items.push((f, value));
        }
        Intent { number, items }
    }

    /// Opens the intent that makes member `m`: the whole projected record. A field that projects to nothing is left out
    /// of the call; what stands there afterwards is the CRM's own default, which the next read tells.
    pub fn intend_create(&mut self, m: usize, cx: &Context<'_>) -> Intent {
        let connection = self.members[m].connection;
        let long_ago = Span::point(NO_FLOOR);
        let mut fields = Vec::with_capacity(self.fields.len());
        for (f, field) in self.fields.iter_mut().enumerate() {
            let plan = cx.link.field(&field.name);
            if !plan.maps(connection) {
                continue;
            }
            let cell = field.cells[m].get_or_insert_with(|| Cell::first(Value::Null, long_ago, NO_REV));
            match plan.project(connection, &field.value, self.created, cx.timing) {
                Some(value) if value.is_empty() => cell.rev = field.rev,
                // Refused in an earlier attempt: the record is made without it.
                Some(_) if cell.refused == field.rev => {}
                Some(_) => fields.push(f),
                None => {}
            }
        }
        let intent = self.intend(m, &fields, cx);
        self.members[m].create = Some(Create { intent: intent.number, unknown_until: None });
        intent
    }

    /// Takes the answer to an intent. It is accepted by number, with or without the lease: it is knowledge.
    pub fn settle(
        &mut self,
        m: usize,
        intent: u32,
        answer: &Answer,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> Vec<Refolded> {
        let connection = self.members[m].connection;
        let peer = cx.peer(connection);
        let end = peer.clock.there(cx.now) + peer.clock.error + 1;
        let mut rereads: Vec<i64> = Vec::new();
        let kept: Vec<bool> = (0..self.fields.len()).map(|f| self.keeps_own(m, f, cx)).collect();
        for (f, field) in self.fields.iter_mut().enumerate() {
            let plan = cx.link.field(&field.name);
            let Some(cell) = field.cells[m].as_mut() else { continue };
            let Some(i) = cell.ledger.iter().rposition(|w| w.intent == intent) else { continue };
            match answer {
                Answer::Refused | Answer::NotApplied => cell.ledger[i].state = WriteState::Absent,
                Answer::Rejected { fields } => {
                    cell.ledger[i].state = WriteState::Absent;
                    if fields.is_empty() || fields.contains(&f) {
                        cell.refused = cell.ledger[i].rev;
                    }
                }
                Answer::Landed { stored, version, exact } => {
                    let sent = cell.ledger[i].at;
                    let at = match version {
                        Some(v) => *v,
                        None if cx.rules.has(Rule::Window) => Span::new(sent.lo, end),
                        None => Span::new(end - 1, end),
                    };
                    let native = stored.as_ref().and_then(|s| s.iter().find(|(x, _)| *x == f)).map(|(_, v)| v.clone());
                    let row = &mut cell.ledger[i];
                    // Nothing was learnt since the write was opened: it is newer than all that is known, however
                    // coarse the clock of the version that it was opened on.
                    let next = row.basis.take() == Some(cell.seen);
                    row.state = WriteState::Settled;
                    row.exact = *exact && version.is_some() && stored.is_none();
                    row.at = at;
                    row.native = native.map_or_else(|| row.value.clone(), |n| plan.complete(connection, n, &row.value));
                    let row = row.clone();
                    if next || at.after(cell.seen) || (at.lo >= cell.seen.lo && !cx.rules.has(Rule::Window)) {
                        cell.kept = plan.inbound(connection, &row.native) != plan.inbound(connection, &row.value);
                        cell.shown = row.native;
                        // A span that the call's times give may begin before what was known, where clocks differ.
                        if at.lo >= cell.seen.lo {
                            cell.seen = at;
                        }
                        cell.rev = row.rev;
                        cell.mine = true;
                        cell.early = false;
                    } else if at.ties(cell.seen) && !plan.same(connection, &row.native, &cell.shown) {
                        let due = at.hi.max(cell.seen.hi) - peer.clock.there(cx.now) + peer.read_lag;
                        rereads.push(cx.now + due.max(0));
                    }
                }
            }
        }
        for f in kept.iter().enumerate().filter(|(_, kept)| !**kept).map(|(f, _)| f) {
            if self.keeps_own(m, f, cx) {
                notes.decisions.extend(self.shown_row(m, f, (Ground::TargetKept, Ruling::Kept), cx));
            }
        }
        self.settle_removal(m, intent, answer, cx.now);
        let member = &mut self.members[m];
        member.reads.extend(rereads);
        if *answer == Answer::Refused {
            member.need_read(cx.now);
        }
        if member.create.as_ref().is_some_and(|c| c.intent == intent) {
            member.create = None;
            if matches!(answer, Answer::Rejected { fields } if fields.is_empty()) {
                member.state = MemberState::Refused;
                for cell in self.fields.iter_mut().filter_map(|f| f.cells[m].as_mut()) {
                    cell.refused = cell.refused.max(cell.rev);
                }
            }
        }
        self.refold(m, cx, notes)
    }

    /// Notes that the target refused an intent because the record had moved.
    pub fn note_refusal(&self, m: usize, intent: u32, cx: &Context<'_>, notes: &mut Notes) {
        let rows =
            self.fields.iter().enumerate().filter(|(_, field)| {
                field.cells[m].as_ref().is_some_and(|c| c.ledger.iter().any(|w| w.intent == intent))
            });
        notes.decisions.extend(rows.filter_map(|(f, _)| self.shown_row(m, f, (Ground::Strict, Ruling::Again), cx)));
    }

    /// The send deadline passed without an answer: crash, lost answer and time-out are one case. The pair is read
    /// before any other write, again after 30 seconds, and after the longest run of a call.
    pub fn give_up(&mut self, m: usize, intent: u32, cx: &Context<'_>, notes: &mut Notes) -> Vec<Refolded> {
        let until = cx.now + cx.peer(self.members[m].connection).longest_run;
        let mut any = false;
        for field in &mut self.fields {
            let Some(cell) = field.cells[m].as_mut() else { continue };
            for row in cell.ledger.iter_mut().filter(|w| w.intent == intent && w.state == WriteState::Open) {
                row.state = WriteState::Unknown(until);
                any = true;
            }
        }
        let member = &mut self.members[m];
        if let Some(create) = member.create.as_mut().filter(|c| c.intent == intent && c.unknown_until.is_none()) {
            create.unknown_until = Some(until);
            any = true;
        }
        if let Some(removal) = member.removals.iter_mut().find(|r| r.intent == intent && r.state == RemovalState::Open)
        {
            removal.state = RemovalState::Unknown(until);
            any = true;
        }
        if !any {
            return Vec::new();
        }
        member.reads.extend([cx.now, cx.now + 30 * cx.timing.second, until + cx.timing.second]);
        self.refold(m, cx, notes)
    }

    /// Open intents of member `m`, oldest first.
    pub fn open_intents(&self, m: usize) -> Vec<u32> {
        let rows = self.fields.iter().filter_map(|f| f.cells[m].as_ref()).flat_map(|c| &c.ledger);
        let mut open: Vec<u32> = rows.filter(|w| w.state == WriteState::Open).map(|w| w.intent).collect();
        if let Some(create) = self.members[m].create.as_ref().filter(|c| c.unknown_until.is_none()) {
            open.push(create.intent);
        }
        open.extend(self.members[m].removals.iter().filter(|r| r.state == RemovalState::Open).map(|r| r.intent));
        open.sort_unstable();
        open.dedup();
        open
    }

    /// Folds again what waited behind an intent or behind the first read.
    pub fn refold(&mut self, m: usize, cx: &Context<'_>, notes: &mut Notes) -> Vec<Refolded> {
        let waiting = std::mem::take(&mut self.members[m].waiting);
        waiting.into_iter().map(|event| (event.clone(), self.fold(m, event, cx, notes))).collect()
    }

    /// Takes what a read of member `m` found. `asked_at` is when the call was made, by our clock: needs that arose
    /// later stay.
    pub fn on_read(
        &mut self,
        m: usize,
        cells: Vec<(usize, Value)>,
        version: Span,
        asked_at: i64,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> ReadOutcome {
        let connection = self.members[m].connection;
        let peer = cx.peer(connection);
        let mut stale = version.hi <= self.members[m].floor;
        // When a read that came too early can be believed, by the member's clock.
        let mut patient: Option<i64> = None;
        let (mut taken, mut weightiest) = (Vec::new(), Learned::Known);
        if !stale {
            for (f, value) in cells {
                let sight = Sight {
                    value,
                    time: version,
                    seen: Seen::Read,
                    author: Author::Unknown,
                    asked_at: peer.clock.there(asked_at),
                    change: None,
                };
                let learned = self.learn(m, f, sight, cx, notes);
                stale |= learned == Learned::Stale;
                if learned == Learned::Early {
                    let seen = self.fields[f].cells[m].as_ref().map_or(version, |c| c.seen);
                    patient = patient.max(Some(seen.hi + peer.read_lag));
                }
                taken.extend(self.part_of(f, learned));
                weightiest = weightiest.max(learned);
            }
        }
        self.forget_absent(m, asked_at);
        let member = &mut self.members[m];
        member.reads.retain(|t| *t > asked_at);
        member.looks.retain(|t| *t > asked_at);
        // An early answer says when a read can be believed, so it is repeated then, however many are made meanwhile.
        let doubted = patient.is_some() && cx.rules.has(Rule::Doubt);
        let in_vain = (stale || (patient.is_some() && !doubted)) && member.stale < READ_RETRIES;
        if in_vain {
            member.stale += 1;
        } else {
            member.stale = 0;
            member.floor = NO_FLOOR;
        }
        if in_vain || doubted {
            let later = if in_vain && stale { cx.timing.second << member.stale } else { 0 };
            let lag = patient.map_or(0, |at| at - peer.clock.there(cx.now));
            member.need_read(cx.now + later.max(lag).max(0));
            return ReadOutcome::Again;
        }
        ReadOutcome::Folded { taken, learned: weightiest }
    }

    /// A look-up by our own id found nothing that could be linked: a create that was sent has not landed yet, and may be
    /// sent again. Where another record is linked by now, that says nothing of it: a read of it that is due stays due.
    pub fn on_absent(&mut self, m: usize, asked_at: i64) {
        self.members[m].looks.retain(|t| *t > asked_at);
        if self.members[m].has_record() {
            return;
        }
        self.forget_absent(m, asked_at);
        let member = &mut self.members[m];
        member.reads.retain(|t| *t > asked_at);
        member.stale = 0;
        // Of a person who is being erased a late create would be the beginning of a new record.
        if self.life != Life::Erasing || member.reads.is_empty() {
            member.create = None;
        }
    }

    /// Unknown writes that can no longer land, as of a read made at `asked_at`, did not.
    pub fn forget_absent(&mut self, m: usize, asked_at: i64) {
        for field in &mut self.fields {
            let Some(cell) = field.cells[m].as_mut() else { continue };
            for row in &mut cell.ledger {
                if matches!(row.state, WriteState::Unknown(until) if until <= asked_at) {
                    row.state = WriteState::Absent;
                }
            }
        }
    }
}
