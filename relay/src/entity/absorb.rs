//! Two entities become one: records that were merged in a CRM, or that turned out to be the same person.
//!
//! What is known of each record moves along, so that our own late events are still recognised; every open change keeps
//! its place and ends exactly once. The surprising thing: where both have a record in one CRM, only one of them can stay
//! linked. The other is set aside as it stands, and a person is asked.

use headgate_schemas::Value;

use super::decision::{Ground, Ruling};
use super::fold::{Context, Learned, Notes, Rule};
use super::question::{About, Candidate, Question, REPLACED, UNNUMBERED};
use super::record::{Detached, Keep, Life};
use super::{Asked, Author, Cell, Entity, Field, Member, MemberState, NO_REV};
use crate::conflict::By;

/// What is left over when two entities became one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// Records that were set aside, with the changes of each that end here, by connection.
    pub closed: Vec<(u32, Vec<Asked>)>,
    /// Added to the numbers of the other's intents.
    pub offset: u32,
}

/// How one field of the other entity continues in this one.
#[derive(Clone, Copy, Debug)]
struct Course {
    /// Its place here.
    field: usize,
    /// The other's revision.
    theirs: i32,
    /// What became of the other's value.
    met: Learned,
    /// The revision in force here.
    rev: i32,
    /// A person is to decide here.
    held: bool,
}

impl Course {
    /// A revision of the other entity in this one's count: the one in force, one that a person is to make, or one that
    /// was overtaken.
    fn rev(self, theirs: i32) -> i32 {
        match theirs {
            REPLACED => REPLACED,
            _ if theirs == self.theirs && matches!(self.met, Learned::Taken | Learned::Agreed) => self.rev,
            _ if theirs == self.theirs && self.met == Learned::Held => self.rev + 1,
            _ if theirs == self.theirs + 1 && self.held => self.rev + 1,
            _ => self.rev - 1,
        }
    }
}

impl Entity {
    /// Takes everything of `other`, which is empty afterwards and must only say where its members went. An entity that
    /// was never read must not absorb one that was.
    pub fn absorb(&mut self, other: &mut Self, keep: Keep, cx: &Context<'_>, notes: &mut Notes) -> Absorbed {
        let mut absorbed = Absorbed { closed: Vec::new(), offset: self.intents };
        self.intents += other.intents;
        self.created = self.created.min(other.created);
        let late = keep == Keep::Ours && self.is_late_create(other, cx);
        let keep = if late { Keep::Survivor } else { keep };
        let erasing = self.life == Life::Erasing;
        // What was only heard of tells nothing of whether the person is there: the read that follows does. The survivor of
        // a merge is there all the same.
        let tells = !other.is_unread() || keep == Keep::Survivor;
        if self.is_going() && !erasing && other.life == Life::Live && tells && !late {
            self.stay();
        }
        other.questions.retain(|q| match &q.about {
            About::Field { name, .. } => self.field_named(name).is_none_or(|f| self.fields[f].held.is_none()),
            About::Delete { .. } | About::Brake { .. } => false,
            About::Match { .. } | About::Found { .. } | About::Surplus { .. } => !erasing,
        });
        other.questions.iter_mut().for_each(|q| q.id = UNNUMBERED);
        // What our own late create shows was in force here once: nothing of it is lost.
        let mut unsaid = Notes::default();
        let notes = if late { &mut unsaid } else { notes };
        let decided = std::mem::take(&mut other.fields).into_iter();
        let (courses, cells): (Vec<Course>, Vec<Vec<Option<Cell>>>) =
            decided.map(|theirs| self.absorb_field(theirs, keep, cx, notes)).unzip();
        for (o, mut member) in std::mem::take(&mut other.members).into_iter().enumerate() {
            for part in member.pending.iter_mut().flat_map(|p| &mut p.parts) {
                if let Some(course) = courses.get(usize::from(part.0)) {
                    *part = (u8::try_from(course.field).unwrap_or(u8::MAX), course.rev(part.1));
                }
            }
            let column: Vec<(usize, Option<Cell>)> = courses
                .iter()
                .zip(&cells)
                .map(|(course, row)| {
                    (course.field, row.get(o).cloned().flatten().map(|c| carried(c, *course, absorbed.offset)))
                })
                .collect();
            if late && member.has_record() {
                self.take_late_create(&member, column.clone());
            }
            self.absorb_member(member, column, absorbed.offset, &mut absorbed.closed, cx);
        }
        self.detached.append(&mut other.detached);
        self.questions.append(&mut other.questions);
        self.apart.append(&mut other.apart);
        for member in self.members.iter_mut().filter(|m| m.has_record()) {
            member.need_read(cx.now);
        }
        absorbed
    }

    /// A record that bears our id and turned up while this entity goes is a create of ours that nobody touched: it takes
    /// the place of a record that is no more, or that was not found the last time (no CRM has two with one id), or a
    /// look-up linked it here already; and it shows only what was in force here at some time.
    fn is_late_create(&self, other: &Self, cx: &Context<'_>) -> bool {
        let fits = |o: usize, theirs: &Member| {
            let place = self.member_of(theirs.connection).map(|m| &self.members[m]);
            let has_place = place.is_some_and(|ours| !ours.is_found() || ours.native == theirs.native);
            has_place
                && other.fields.iter().all(|field| {
                    let shown = field.cells[o].as_ref().map(|c| &c.shown).filter(|shown| !shown.is_empty());
                    shown.is_none_or(|shown| self.was_in_force(&field.name, theirs.connection, shown, cx))
                })
        };
        let there = other.members.iter().enumerate().filter(|(_, theirs)| theirs.has_record());
        matches!(self.life, Life::Leaving(_) | Life::Left)
            && cx.rules.has(Rule::LateCreate)
            && there.into_iter().all(|(o, theirs)| fits(o, theirs))
    }

    /// Whether a native value in `connection` stands for one that the field has or had.
    fn was_in_force(&self, name: &str, connection: u32, shown: &Value, cx: &Context<'_>) -> bool {
        let Some(f) = self.field_named(name) else { return false };
        let (field, plan) = (&self.fields[f], cx.link.field(name));
        let mut values = field.past.iter().map(|(value, _)| value).chain([&field.value]);
        values.any(|value| {
            let written = plan.project(connection, value, self.created, cx.timing);
            written.is_some_and(|written| plan.same(connection, shown, &written))
        })
    }

    /// Links a late create of ours: it is to go, too, unless somebody touches it before that.
    fn take_late_create(&mut self, theirs: &Member, mut column: Vec<(usize, Option<Cell>)>) {
        let Some(m) = self.member_of(theirs.connection) else { return };
        let member = &mut self.members[m];
        if member.native != theirs.native {
            member.removals.clear();
        }
        member.native.clone_from(&theirs.native);
        member.state = MemberState::Live;
        member.create = None;
        member.into = None;
        member.purge = false;
        member.stale = 0;
        member.reads.clear();
        for cell in column.iter_mut().filter_map(|(_, cell)| cell.as_mut()) {
            cell.mine = true;
        }
        self.put_column(m, column);
    }

    /// Decides one field. What is empty is filled; where both sides hold a value, the survivor's stays or the policy
    /// decides.
    fn absorb_field(
        &mut self,
        theirs: Field,
        keep: Keep,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> (Course, Vec<Option<Cell>>) {
        let f = self.field_or_new(&theirs.name, theirs.stamp, theirs.by);
        let ours = &mut self.fields[f];
        let equal = cx.link.field(&theirs.name).same_canonical(&ours.value, &theirs.value);
        let met = if equal {
            Learned::Agreed
        } else if theirs.value.is_empty() {
            Learned::Lost
        } else if ours.value.is_empty() && ours.held.is_none() {
            ours.take(theirs.by, theirs.value, theirs.stamp);
            Learned::Taken
        } else {
            let edit = Candidate { by: theirs.by, value: theirs.value, stamp: theirs.stamp, change: None };
            let side = match theirs.by {
                By::Member(connection) => self.member_of(connection),
                By::Person => None,
            };
            if keep == Keep::Survivor {
                notes.decisions.push(self.fields[f].decision(&edit, Ground::Merge, Ruling::Force, Author::Unknown));
                Learned::Lost
            } else {
                self.meet(f, side.unwrap_or_default(), edit, cx, notes)
            }
        };
        let ours = &mut self.fields[f];
        if ours.held.is_none() {
            ours.held = theirs.held;
        }
        (Course { field: f, theirs: theirs.rev, met, rev: ours.rev, held: ours.held.is_some() }, theirs.cells)
    }

    /// Finds a place for a member: an empty one, or that of a record that is gone; a second record is set aside.
    fn absorb_member(
        &mut self,
        mut theirs: Member,
        column: Vec<(usize, Option<Cell>)>,
        offset: u32,
        closed: &mut Vec<(u32, Vec<Asked>)>,
        cx: &Context<'_>,
    ) {
        let connection = theirs.connection;
        theirs.renumber(offset);
        let Some(m) = self.member_of(connection) else {
            let m = self.add_member(theirs);
            self.put_column(m, column);
            return;
        };
        let pending = std::mem::take(&mut theirs.pending);
        self.members[m].pending.extend(pending);
        let ours = &mut self.members[m];
        if ours.native.is_some() && ours.native == theirs.native {
            ours.asked.append(&mut theirs.asked);
            ours.waiting.append(&mut theirs.waiting);
            ours.removals.append(&mut theirs.removals);
            ours.floor = ours.floor.max(theirs.floor);
            return;
        }
        if !theirs.has_record() {
            // Nothing is there: what waited for it ends, what is on its way to it goes to ours.
            closed.push((connection, theirs.end_asked()));
            return;
        }
        if ours.has_record() {
            closed.push((connection, theirs.end_asked()));
            self.set_aside(connection, theirs.native.unwrap_or_default(), cx.now);
            return;
        }
        theirs.pending = std::mem::take(&mut ours.pending);
        let ended = ours.end_asked();
        if ours.create.as_ref().is_some_and(|c| c.unknown_until.is_some()) {
            // A create of ours may still land beside the record that takes its place.
            theirs.looks.extend(ours.reads.iter().copied());
        }
        *ours = theirs;
        closed.push((connection, ended));
        self.put_column(m, column);
    }

    fn put_column(&mut self, m: usize, column: Vec<(usize, Option<Cell>)>) {
        for (f, cell) in column {
            self.fields[f].cells[m] = cell;
        }
    }

    /// A further record of this entity in a CRM that has one already: nothing is written to it, and a person is asked
    /// which of them stays linked.
    pub fn set_aside(&mut self, connection: u32, native: Box<str>, now: i64) {
        if self.detached.iter().any(|d| d.connection == connection && d.native == native) {
            return;
        }
        self.detached.push(Detached { connection, native: native.clone() });
        if self.life != Life::Erasing {
            self.questions.push(Question::new(About::Surplus { connection, native }, now));
        }
    }

    /// The record linked in member `m` gives its place to one that was set aside. False when there is no such record.
    pub fn take_up(&mut self, m: usize, native: Option<&str>, cx: &Context<'_>) -> bool {
        let connection = self.members[m].connection;
        let fits = |d: &Detached| d.connection == connection && native.is_none_or(|n| n == &*d.native);
        let Some(place) = self.detached.iter().position(fits) else { return false };
        let taken = self.detached.remove(place).native;
        self.end_surplus(connection, &taken);
        let old = self.members[m].native.replace(taken);
        if let (true, Some(old)) = (self.members[m].has_record(), old) {
            self.detached.push(Detached { connection, native: old });
        }
        let member = &mut self.members[m];
        member.state = MemberState::Heard;
        member.into = None;
        member.purge = false;
        member.removals.clear();
        member.stale = 0;
        member.floor = super::NO_FLOOR;
        member.reads = vec![cx.now];
        for field in &mut self.fields {
            field.cells[m] = None;
        }
        true
    }

    /// Nothing is to be asked any more about a record that was set aside.
    pub fn end_surplus(&mut self, connection: u32, native: &str) {
        self.questions.retain(
            |q| !matches!(&q.about, About::Surplus { connection: c, native: n } if *c == connection && **n == *native),
        );
    }
}

impl Member {
    fn renumber(&mut self, offset: u32) {
        if let Some(create) = &mut self.create {
            create.intent += offset;
        }
        for removal in &mut self.removals {
            removal.intent += offset;
        }
    }
}

/// What is known of a record, in the count of the entity that has it now.
fn carried(mut cell: Cell, course: Course, offset: u32) -> Cell {
    let current = cell.rev == course.theirs && matches!(course.met, Learned::Taken | Learned::Agreed);
    cell.rev = if current { course.rev } else { NO_REV };
    cell.refused = NO_REV;
    for row in &mut cell.ledger {
        row.intent += offset;
        row.rev = course.rev(row.rev);
    }
    cell
}

#[cfg(test)]
#[path = "absorb_tests.rs"]
mod tests;
