//! First contact: what the first read of a record makes of an entity, and how a record joins an entity that exists.

use headgate_schemas::{Span, Value};

use super::fold::{Context, Learned, Notes};
use super::write::ReadOutcome;
use super::{Author, Candidate, Cause, Cell, Entity, Field, Member, MemberState, NO_FLOOR, NO_REV};
use crate::conflict::By;

/// Native values of one record by neutral field name, as a read found them; a field that the CRM does not know is absent.
pub type ReadValues = Vec<(Box<str>, Value)>;

impl Entity {
    /// The first read of the first member: it sets every field. The other connections of the link that can be written
    /// become members that are still to be made.
    pub fn first_read(
        &mut self,
        m: usize,
        values: ReadValues,
        version: Span,
        asked_at: i64,
        cx: &Context<'_>,
    ) -> ReadOutcome {
        let connection = self.members[m].connection;
        let by = By::Member(connection);
        let stamp = cx.peer(connection).clock.ours(version);
        for target in cx.link.targets(connection) {
            if self.member_of(target).is_none() {
                self.add_member(Member::new(target, None, MemberState::Absent));
            }
        }
        let members = self.members.len();
        let mut taken = Vec::new();
        for plan in cx.link.fields() {
            let native = values.iter().find(|(name, _)| &**name == plan.name()).map(|(_, v)| v.clone());
            let canonical = native.as_ref().map_or(Value::Null, |v| plan.inbound(connection, v));
            let unknown = plan.is_unknown(connection, &canonical);
            let mut field = Field::first(plan.name(), canonical.clone(), stamp, by, members);
            if plan.maps(connection) {
                field.cells[m] = Some(Cell::first(native.unwrap_or_default(), version, field.rev));
            }
            let f = self.fields.len();
            // A value that no other CRM has a name for waits for the revision that a person makes.
            taken.push((u8::try_from(f).unwrap_or(u8::MAX), field.rev + i32::from(unknown)));
            self.fields.push(field);
            if unknown {
                let only = Candidate { by, value: canonical, stamp, change: None };
                self.hold(f, only, Cause::UnknownValue, cx.now);
            }
        }
        self.read_done(m, version, asked_at, cx);
        ReadOutcome::Folded { taken, learned: Learned::Taken }
    }

    /// The first read of a further member: empty fields are filled from either side, equal ones agree, and where both
    /// sides hold a value the policy decides.
    pub fn join_read(
        &mut self,
        m: usize,
        values: ReadValues,
        version: Span,
        asked_at: i64,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> ReadOutcome {
        let connection = self.members[m].connection;
        let by = By::Member(connection);
        let stamp = cx.peer(connection).clock.ours(version);
        let mut taken = Vec::new();
        for plan in cx.link.fields().filter(|p| p.maps(connection)) {
            let f = self.field_or_new(plan.name(), stamp, by);
            let native =
                values.iter().find(|(name, _)| &**name == plan.name()).map(|(_, v)| v.clone()).unwrap_or_default();
            let field = &self.fields[f];
            let native = plan.complete(connection, native, &field.value);
            let canonical = plan.inbound(connection, &native);
            let equal = plan
                .project(connection, &field.value, self.created, cx.timing)
                .is_some_and(|p| plan.same(connection, &native, &p))
                || canonical == field.value;
            let place = u8::try_from(f).unwrap_or(u8::MAX);
            let empty = (canonical.is_empty(), field.value.is_empty() && field.held.is_none());
            let met = match (equal, empty) {
                (true, _) => Learned::Agreed,
                (false, (true, _)) => Learned::Lost,
                (false, (false, true)) => {
                    self.fields[f].take(by, canonical, stamp);
                    Learned::Taken
                }
                (false, (false, false)) => {
                    let edit = Candidate { by, value: canonical, stamp, change: None };
                    self.meet(f, m, edit, cx, notes)
                }
            };
            let field = &mut self.fields[f];
            match met {
                Learned::Taken => taken.push((place, field.rev)),
                Learned::Held => taken.push((place, field.rev + 1)),
                _ => {}
            }
            let rev = if matches!(met, Learned::Taken | Learned::Agreed) { field.rev } else { NO_REV };
            field.cells[m] = Some(Cell::first(native, version, rev));
        }
        self.read_done(m, version, asked_at, cx);
        let learned = if taken.is_empty() { Learned::Agreed } else { Learned::Taken };
        ReadOutcome::Folded { taken, learned }
    }

    /// Both sides hold a value, and not the same one.
    pub(super) fn meet(&mut self, f: usize, m: usize, edit: Candidate, cx: &Context<'_>, notes: &mut Notes) -> Learned {
        if self.fields[f].held.is_some() {
            self.replace_candidate(f, edit);
            return Learned::Held;
        }
        let verdict = self.judge(f, &edit, cx);
        self.carry_out(f, m, edit, Some(verdict), Author::Unknown, cx, notes)
    }

    /// Gives member `m` a cell for every mapped field that it lacks, as after a mapping was extended.
    pub fn place(&mut self, m: usize, cx: &Context<'_>) {
        let connection = self.members[m].connection;
        let long_ago = Span::point(NO_FLOOR);
        for plan in cx.link.fields().filter(|p| p.maps(connection)) {
            let f = self.field_or_new(plan.name(), long_ago, By::Member(connection));
            self.fields[f].cells[m].get_or_insert_with(|| Cell::first(Value::Null, long_ago, NO_REV));
        }
    }

    pub(super) fn field_or_new(&mut self, name: &str, stamp: Span, by: By) -> usize {
        self.field_named(name).unwrap_or_else(|| {
            self.fields.push(Field::first(name, Value::Null, stamp, by, self.members.len()));
            self.fields.len() - 1
        })
    }

    /// The record is known now. An answer older than the event that asked for it is taken, so that nobody waits for the
    /// record, and looked at again. What came after the question is still to be read.
    fn read_done(&mut self, m: usize, version: Span, asked_at: i64, cx: &Context<'_>) {
        let member = &mut self.members[m];
        member.state = MemberState::Live;
        member.reads.retain(|t| *t > asked_at);
        if version.hi <= member.floor {
            member.stale = 1;
            member.need_read(cx.now + (cx.timing.second << member.stale));
        } else {
            member.stale = 0;
            member.floor = NO_FLOOR;
        }
    }
}
