//! Taking what an event, a state or a read says of one member: is it ours, is it an edit, who wins.
//!
//! The rules are listed at [`Rule`]; what breaks without each of them is shown by the model's tests.

use headgate_schemas::{ChangeId, Span, Value};

use super::decision::{self, Decision, Ground, Ruling};
use super::{
    Author, Candidate, Cause, Cell, Clock, Entity, Event, MemberState, NO_REV, Seen, Timing, Write, WriteState,
};
use crate::conflict::{self, By, Side, Verdict};
use crate::mapping::{FieldPlan, Link};

/// Rules that can be switched off, to show in tests that each one is needed. Production has them all. That part of a
/// group only asks for a read is no switch: the mapping has no way to hand in half a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// An event of a field with an open intent waits, whatever its value, unless it is older than the intent.
    WaitAny,
    /// An edit made on top of the value in force wins without comparing clocks.
    Informed,
    /// The newest value known not to be ours is remembered.
    Heard,
    /// The time of a write without version is the span of the call.
    Window,
    /// A tie is read, not before the read lag has passed.
    Patience,
    /// Dirty needs an older revision, not just another value.
    RevDirty,
    /// Changes older than the ledger are read, not folded.
    Horizon,
    /// A full state is an edit only of the fields that differ.
    StateDiff,
    /// More than ten flips in a day are a fight, too.
    SlowFight,
    /// An author mark "user" refutes our ledger.
    MarkRefutes,
    /// A read at the present revision is informed.
    ReadIsNow,
    /// A member that shows the projection by chance counts as written now.
    Aligned,
    /// The same value set again, later, is a revision of its own.
    AgreeRev,
    /// A member's own later edit is informed.
    OwnLine,
    /// A field that a tie leaves in doubt is not written until a read can be believed.
    Doubt,
    /// Our own writes are known when they come back.
    Ours,
    /// A match claim is taken before a record is made.
    Claim,
    /// A record that is not found counts as deleted only after the grace.
    Grace,
    /// A record known to have existed is written by its native id; it is never made again by a write.
    NativeId,
    /// A record to be deleted is read first, and stays if it shows an edit that nobody knew.
    Unseen,
    /// A create of ours that lands in a deleted entity is taken away again.
    LateCreate,
    /// An answer that names another record than the one written attaches neither.
    OtherAnswer,
    /// A delete of a record that did not hold the newest values asks.
    InformedDelete,
}

/// Which rules are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules(u32);

impl Rules {
    /// All of them.
    pub const ALL: Self = Self(u32::MAX);

    /// All but one.
    #[must_use]
    pub const fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u8))
    }

    /// Whether a rule is on.
    pub const fn has(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u8) != 0
    }
}

/// What the rules need to know of one CRM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its clock.
    pub clock: Clock,
    /// Oldest answer a read may give.
    pub read_lag: i64,
    /// Longest run of a call there.
    pub longest_run: i64,
}

/// Everything a fold looks at besides the entity.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Members, fields, policies.
    pub link: &'a Link,
    /// The CRMs, by connection; an unknown one has a perfect clock and no lag.
    pub peers: &'a dyn Fn(u32) -> Peer,
    /// Our clock.
    pub now: i64,
    /// Constants.
    pub timing: Timing,
    /// Rules in force.
    pub rules: Rules,
}

impl Context<'_> {
    /// The CRM of a connection.
    pub fn peer(&self, connection: u32) -> Peer {
        (self.peers)(connection)
    }

    const fn has(&self, rule: Rule) -> bool {
        self.rules.has(rule)
    }
}

/// What one value taught, the weightiest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Learned {
    /// A read older than what is known.
    Stale,
    /// A read that may not have seen the latest write yet.
    Early,
    /// Older than the ledger: the record is read.
    Aged,
    /// Nothing new.
    Known,
    /// Same time as something else: the record is read.
    Tie,
    /// Our own write coming back.
    Echo,
    /// The value in force already.
    Agreed,
    /// An edit that lost a conflict.
    Lost,
    /// An edit that waits for a person.
    Held,
    /// An edit that is now in force.
    Taken,
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folded {
    /// It stands behind an open intent.
    Waiting,
    /// A read decides it.
    Asked,
    /// It was folded.
    Done {
        /// Fields now in force because of it, with their revisions.
        taken: Vec<(u8, i32)>,
        /// The weightiest of what its values taught.
        learned: Learned,
    },
}

/// What happened on the way, for metrics and the decision log.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Edits that were not made on top of the value in force.
    pub conflicts: u32,
    /// What was decided, in order.
    pub decisions: Vec<Decision>,
    /// Events recognised as our own writes.
    pub echoes: u32,
}

/// One value as it was learnt.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub(super) value: Value,
    pub(super) time: Span,
    pub(super) seen: Seen,
    pub(super) author: Author,
    /// For reads: when we asked, by the member's clock.
    pub(super) asked_at: i64,
    /// The change that told it, where one did.
    pub(super) change: Option<ChangeId>,
}

impl Entity {
    /// Takes one event of member `m`.
    pub fn fold(&mut self, m: usize, event: Event, cx: &Context<'_>, notes: &mut Notes) -> Folded {
        match self.members[m].state {
            // Not read yet: the values stand behind the first read, so that one newer than it is not lost.
            MemberState::Heard if !event.hint => {
                let member = &mut self.members[m];
                if member.reads.is_empty() {
                    member.need_read(cx.now);
                }
                member.waiting.push(event);
                return Folded::Waiting;
            }
            MemberState::Missing(_) | MemberState::Gone | MemberState::Removed(_) => {
                self.members[m].need_read(cx.now);
                return Folded::Asked;
            }
            MemberState::Heard | MemberState::Absent | MemberState::Live | MemberState::Refused => {}
        }
        let unplaced =
            |e: &Self| event.cells.iter().any(|(name, _)| e.field_named(name).and_then(|f| e.cell(f, m)).is_none());
        if event.hint || unplaced(self) {
            self.members[m].need_read_of(event.time, cx.now);
            return Folded::Asked;
        }
        let cells: Vec<(usize, Value)> =
            event.cells.iter().filter_map(|(name, v)| Some((self.field_named(name)?, v.clone()))).collect();
        if cells.iter().any(|(f, v)| self.must_wait(*f, m, v, event.time, cx)) {
            self.members[m].waiting.push(event);
            return Folded::Waiting;
        }
        let mut taken = Vec::new();
        let mut weightiest = Learned::Known;
        let mut aged = false;
        for (f, value) in cells {
            let (time, seen, author) = (event.time, event.seen, event.author);
            let sight = Sight { value, time, seen, author, asked_at: 0, change: Some(event.change) };
            let learned = self.learn(m, f, sight, cx, notes);
            aged |= learned == Learned::Aged;
            taken.extend(self.part_of(f, learned));
            weightiest = weightiest.max(learned);
        }
        if aged { Folded::Asked } else { Folded::Done { taken, learned: weightiest } }
    }

    /// The revision a change stands for after it was learnt: the one in force, or the one a person is still to make.
    pub(super) fn part_of(&self, f: usize, learned: Learned) -> Option<(u8, i32)> {
        let rev = match learned {
            Learned::Taken => self.fields[f].rev,
            Learned::Held => self.fields[f].rev + 1,
            _ => return None,
        };
        Some((u8::try_from(f).unwrap_or(u8::MAX), rev))
    }

    fn must_wait(&self, f: usize, m: usize, v: &Value, time: Span, cx: &Context<'_>) -> bool {
        let Some(cell) = self.cell(f, m) else { return false };
        let mut open = cell.ledger.iter().filter(|w| w.state == WriteState::Open);
        if cx.has(Rule::WaitAny) {
            return open.any(|w| time.hi > w.at.lo);
        }
        open.any(|w| w.value == *v)
    }

    /// Folds one value seen in one member.
    pub(super) fn learn(&mut self, m: usize, f: usize, sight: Sight, cx: &Context<'_>, notes: &mut Notes) -> Learned {
        let connection = self.members[m].connection;
        let (field, plan) = (&self.fields[f], cx.link.field(&self.fields[f].name));
        let sight = Sight { value: plan.complete(connection, sight.value, &field.value), ..sight };
        let peer = cx.peer(connection);
        let there = peer.clock.there(cx.now);
        let time = sight.time;
        let Some(cell) = self.fields[f].cells[m].as_mut() else { return Learned::Known };
        cell.prune(there, cx.timing.ledger);
        if sight.seen != Seen::Read && cx.has(Rule::Horizon) && there - time.hi > cx.timing.ledger - cx.timing.margin {
            self.members[m].need_read(cx.now);
            return Learned::Aged;
        }
        let Some(cell) = self.fields[f].cells[m].as_ref() else { return Learned::Known };
        let plan = cx.link.field(&self.fields[f].name);
        let same = |a: &Value, b: &Value| plan.same(connection, a, b);
        if sight.seen == Seen::Read {
            if cell.seen.after(time) {
                return Learned::Stale;
            }
            // A write of ours whose answer was lost, and here it stands: there is nothing to be patient for.
            let landed = || {
                cell.ledger.iter().any(|w| {
                    let ours = || {
                        same(&sight.value, &w.value)
                            || plan.inbound(connection, &sight.value) == plan.inbound(connection, &w.value)
                    };
                    matches!(w.state, WriteState::Unknown(_)) && time.hi > w.at.lo && ours()
                })
            };
            let early = time.ties(cell.seen)
                && !same(&sight.value, &cell.shown)
                && sight.asked_at < cell.seen.hi + peer.read_lag;
            if early && cx.has(Rule::Patience) && !landed() {
                if let Some(cell) = self.fields[f].cells[m].as_mut() {
                    cell.early |= cx.has(Rule::Doubt);
                }
                return Learned::Early;
            }
        }
        let own = cell.ours(&sight, plan, connection, cx).cloned();
        let (edit, doubt) = cell.is_edit(&sight, same, cx);
        let mut rev = cell.rev;
        let mut learned = Learned::Known;
        if let Some(write) = &own {
            learned = Learned::Echo;
            rev = write.rev;
            notes.echoes += 1;
            if matches!(write.state, WriteState::Unknown(_)) && write.rev != self.fields[f].rev {
                let value = plan.inbound(connection, &sight.value);
                let stamp = peer.clock.ours(time);
                let landed = Candidate { by: By::Member(connection), value, stamp, change: sight.change };
                let row = self.fields[f].decision(&landed, Ground::LateLanding, Ruling::Repaired, sight.author);
                notes.decisions.push(row);
            }
        } else if edit {
            learned = self.decide(m, f, &sight, cx, notes);
            rev = if matches!(learned, Learned::Taken | Learned::Agreed) { self.fields[f].rev } else { NO_REV };
        } else if doubt {
            learned = Learned::Tie;
        }
        let edit = edit && own.is_none();
        let kept = self.keeps_own(m, f, cx);
        self.know(m, f, &sight, own.map(|w| w.value), edit, doubt, rev, cx);
        if !kept && self.keeps_own(m, f, cx) {
            notes.decisions.extend(self.shown_row(m, f, (Ground::TargetKept, Ruling::Kept), cx));
        }
        learned
    }

    /// The member was given our value, said yes, and shows the one it had before.
    pub(super) fn keeps_own(&self, m: usize, f: usize, cx: &Context<'_>) -> bool {
        let plan = cx.link.field(&self.fields[f].name);
        let keeps = |cell: &Cell| cell.kept && plan.same(self.members[m].connection, &cell.shown, &cell.heard);
        self.cell(f, m).is_some_and(keeps)
    }

    /// A row of the decision log about what a member shows, as far as is known, against the value in force.
    pub(super) fn shown_row(
        &self,
        m: usize,
        f: usize,
        (rule, ruling): (Ground, Ruling),
        cx: &Context<'_>,
    ) -> Option<Decision> {
        let connection = self.members[m].connection;
        let cell = self.cell(f, m)?;
        let value = cx.link.field(&self.fields[f].name).inbound(connection, &cell.shown);
        let stamp = cx.peer(connection).clock.ours(cell.seen);
        let shown = Candidate { by: By::Member(connection), value, stamp, change: None };
        Some(self.fields[f].decision(&shown, rule, ruling, Author::Unknown))
    }

    /// Moves what is known of a member: `heard` by edits and foreign states, `shown` by whatever is newer.
    #[expect(clippy::too_many_arguments, reason = "the verdicts of `learn`, which is the only caller")]
    fn know(
        &mut self,
        m: usize,
        f: usize,
        sight: &Sight,
        own: Option<Value>,
        edit: bool,
        doubt: bool,
        rev: i32,
        cx: &Context<'_>,
    ) {
        let connection = self.members[m].connection;
        let peer = cx.peer(connection);
        let plan = cx.link.field(&self.fields[f].name);
        let time = sight.time;
        let Some(cell) = self.fields[f].cells[m].as_mut() else { return };
        let same_as_shown = plan.same(connection, &sight.value, &cell.shown);
        if edit {
            if !cell.heard_at.after(time) {
                cell.heard = sight.value.clone();
                cell.heard_at = time;
            }
        } else if own.is_none()
            && !doubt
            && sight.seen != Seen::Edit
            && same_as_shown
            && !cell.mine
            && time.after(cell.heard_at)
        {
            cell.heard = sight.value.clone();
            cell.heard_at = time;
        }
        if time.after(cell.seen) || (sight.seen == Seen::Read && (edit || own.is_some())) {
            if !same_as_shown || own.is_some() || edit {
                cell.kept = own
                    .as_ref()
                    .is_some_and(|sent| plan.inbound(connection, &sight.value) != plan.inbound(connection, sent));
                cell.shown = sight.value.clone();
                cell.rev = rev;
                cell.mine = own.is_some();
            }
            if time.after(cell.seen) {
                cell.seen = time;
                cell.early = false;
            }
        } else if (time.ties(cell.seen) && !same_as_shown) || doubt {
            cell.early |= doubt && own.is_none() && cx.has(Rule::Doubt);
            let wait = if cx.has(Rule::Patience) { cell.seen.hi - peer.clock.there(cx.now) + peer.read_lag } else { 0 };
            let due = cx.now + wait.max(0);
            self.members[m].need_read(due);
        }
    }

    /// Decides an edit: agreement, informed, or a conflict for the policy.
    fn decide(&mut self, m: usize, f: usize, sight: &Sight, cx: &Context<'_>, notes: &mut Notes) -> Learned {
        let connection = self.members[m].connection;
        let peer = cx.peer(connection);
        let me = By::Member(connection);
        let created = self.created;
        let field = &mut self.fields[f];
        let plan = cx.link.field(&field.name);
        let canonical = plan.inbound(connection, &sight.value);
        let stamp = peer.clock.ours(sight.time);
        let Some(cell) = field.cells[m].as_mut() else { return Learned::Known };
        let shows_force = plan
            .project(connection, &field.value, created, cx.timing)
            .is_some_and(|p| plan.same(connection, &sight.value, &p));
        if shows_force || (plan.same(connection, &sight.value, &cell.shown) && cell.rev == field.rev) {
            if stamp.after(field.stamp) {
                field.stamp = stamp;
                if cx.has(Rule::AgreeRev) {
                    field.rev += 1;
                    field.by = me;
                }
            }
            if cx.has(Rule::Aligned) {
                cell.since = peer.clock.there(cx.now);
            }
            return Learned::Agreed;
        }
        let edit = Candidate { by: me, value: canonical, stamp, change: sight.change };
        if field.held.is_some() {
            self.replace_candidate(f, edit);
            return Learned::Held;
        }
        let read_now = sight.seen == Seen::Read && cx.has(Rule::ReadIsNow);
        let on_top =
            cell.rev == field.rev && (read_now || (sight.time.after(cell.seen) && sight.time.lo >= cell.since));
        // It was made at some time since the record was last seen, and the value in force may be younger than that.
        let unsure = read_now && field.by != me && !peer.clock.ours(cell.seen).after(field.stamp);
        let own_line = field.by == me && (cx.has(Rule::OwnLine) || read_now || stamp.after(field.stamp));
        let informed = if cx.has(Rule::Informed) {
            on_top || own_line
        } else {
            cell.rev >= field.rev && (*plan.policy() != conflict::Policy::LastWrite || stamp.after(field.stamp))
        };
        // Consent is given up for good: not even an edit made in full knowledge takes that back.
        let free = *plan.policy() != conflict::Policy::MostRestrictive || edit.value == Value::Bool(true);
        let judged = if informed && free { None } else { Some(self.judge(f, &edit, cx)) };
        let row = self.fields[f].decision(&edit, Ground::FoundByRead, Ruling::Edit, sight.author);
        let learned = self.carry_out(f, m, edit, judged, sight.author, cx, notes);
        notes.decisions.extend(Some(row).filter(|_| unsure && judged.is_none() && learned == Learned::Taken));
        learned
    }

    /// What the policy says of an edit that was not made on top of the value in force.
    pub(super) fn judge(&self, f: usize, edit: &Candidate, cx: &Context<'_>) -> Verdict {
        let field = &self.fields[f];
        let origin = |by: By| matches!(by, By::Member(c) if Some(c) == self.origin());
        let side = |by, stamp, value| Side { by, rank: cx.link.rank(by), origin: origin(by), stamp, value };
        conflict::decide(
            cx.link.field(&field.name).policy(),
            side(edit.by, edit.stamp, &edit.value),
            side(field.by, field.stamp, &field.value),
        )
    }

    /// What keeps a winning edit from being put in force without a person.
    fn obstacle(&mut self, f: usize, m: usize, edit: &Candidate, cx: &Context<'_>) -> Option<Cause> {
        let connection = self.members[m].connection;
        let field = &mut self.fields[f];
        let plan = cx.link.field(&field.name);
        if plan.is_unknown(connection, &edit.value) {
            return Some(Cause::UnknownValue);
        }
        if plan.reopens(&field.value, &edit.value) {
            return Some(Cause::Closed);
        }
        field.fighting(edit.by, &edit.value, cx).then_some(Cause::Fight)
    }

    /// Puts an edit in force, or not, or asks. `judged` is the verdict of a conflict; without one the edit was made on
    /// top of the value in force. Whatever is not plain is a row of the log.
    #[expect(
        clippy::too_many_arguments,
        reason = "what an edit is made of, at the end of `decide` and of a first read"
    )]
    pub(super) fn carry_out(
        &mut self,
        f: usize,
        m: usize,
        edit: Candidate,
        judged: Option<Verdict>,
        author: Author,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> Learned {
        let verdict = judged.unwrap_or(Verdict::Take);
        let cause = match verdict {
            Verdict::Lose => None,
            Verdict::Hold => Some(Cause::Policy),
            Verdict::Take => self.obstacle(f, m, &edit, cx),
        };
        let policy = Ground::Policy(cx.link.field(&self.fields[f].name).policy().as_str());
        let row = match (judged, cause) {
            (None, None) => None,
            (Some(Verdict::Hold), _) | (_, None) => Some((policy, verdict.into())),
            (_, Some(cause)) => Some((Ground::Asks(cause), Ruling::Held)),
        };
        notes.conflicts += u32::from(judged.is_some());
        notes.decisions.extend(row.map(|(rule, ruling)| self.fields[f].decision(&edit, rule, ruling, author)));
        match (verdict, cause) {
            (_, Some(cause)) => {
                self.hold(f, edit, cause, cx.now);
                Learned::Held
            }
            (Verdict::Lose, None) => Learned::Lost,
            (Verdict::Take | Verdict::Hold, None) => {
                self.fields[f].take(edit.by, edit.value, edit.stamp);
                Learned::Taken
            }
        }
    }
}

impl super::Field {
    /// Puts a new value in force.
    pub(super) fn take(&mut self, by: By, value: Value, stamp: Span) {
        let old = std::mem::replace(&mut self.value, value);
        self.remember(old, self.by);
        self.rev += 1;
        self.by = by;
        self.stamp = if stamp.after(self.stamp) { stamp } else { self.stamp.shifted(1) };
    }

    /// The side that is in force.
    pub(super) fn side(&self) -> decision::Side {
        decision::Side { by: self.by, value: self.value.clone(), stamp: self.stamp }
    }

    /// A row of the decision log about an edit of this field.
    pub(super) fn decision(&self, edit: &Candidate, rule: Ground, ruling: Ruling, author: Author) -> Decision {
        Decision {
            field: self.name.clone(),
            rule,
            ruling,
            edit: decision::Side { by: edit.by, value: edit.value.clone(), stamp: edit.stamp },
            force: self.side(),
            author,
            change: edit.change,
        }
    }

    /// The value returns to what it was, by another member: more than 3 times in 10 minutes or more than 10 in a day.
    fn fighting(&mut self, by: By, new: &Value, cx: &Context<'_>) -> bool {
        let (minute, day) = (60 * cx.timing.second, 86_400 * cx.timing.second);
        if self.by != by && self.past.iter().any(|(v, b)| v == new && *b == by) {
            self.flips.push(cx.now);
        }
        self.flips.retain(|t| cx.now - t < day);
        let quick = self.flips.iter().filter(|t| cx.now - **t < 10 * minute).count();
        quick > 3 || (cx.has(Rule::SlowFight) && self.flips.len() > 10)
    }
}

impl Cell {
    fn prune(&mut self, there: i64, ledger: i64) {
        self.ledger
            .retain(|w| matches!(w.state, WriteState::Open | WriteState::Unknown(_)) || there - w.at.hi < ledger);
    }

    /// The write of ours that this is, if it is ours.
    fn ours(&self, sight: &Sight, plan: &FieldPlan, connection: u32, cx: &Context<'_>) -> Option<&Write> {
        if !cx.has(Rule::Ours) || (sight.author == Author::User && cx.has(Rule::MarkRefutes)) {
            return None;
        }
        let newest_settled = self.ledger.iter().rposition(|w| w.state == WriteState::Settled);
        self.ledger.iter().enumerate().find_map(|(i, w)| {
            let same = || {
                plan.same(connection, &sight.value, &w.value)
                    || plan.same(connection, &sight.value, &w.native)
                    || plan.inbound(connection, &sight.value) == plan.inbound(connection, &w.value)
            };
            match w.state {
                WriteState::Unknown(_) if sight.time.hi > w.at.lo && same() => Some(w),
                WriteState::Settled => {
                    // A read made after a write settled cannot show an older settled one.
                    let counts = sight.seen != Seen::Read || Some(i) == newest_settled;
                    let exact = w.exact && sight.seen == Seen::Read && sight.time == w.at;
                    let back = counts && sight.time.ties(w.at) && (same() || sight.author == Author::Us || exact);
                    (back || (self.stood(w, sight) && same())).then_some(w)
                }
                WriteState::Open | WriteState::Absent | WriteState::Unknown(_) => None,
            }
        })
    }

    /// Whether a state that is no newer than what is known shows a settled write that stood at its time: told late, or in
    /// the very second of the write that replaced it. Nobody has set that value again.
    fn stood(&self, w: &Write, sight: &Sight) -> bool {
        let at = sight.time;
        let replaced = |by: &Write| by.state == WriteState::Settled && by.at.after(w.at) && at.after(by.at);
        sight.seen == Seen::State
            && !at.after(self.seen)
            && at.after(w.at)
            && !self.heard_at.after(w.at)
            && !self.ledger.iter().any(replaced)
    }

    /// Whether a value that is not ours is an edit, or may be one (a tie).
    fn is_edit(&self, sight: &Sight, same: impl Fn(&Value, &Value) -> bool, cx: &Context<'_>) -> (bool, bool) {
        let newer_state = sight.seen == Seen::State && sight.time.after(self.seen) && cx.has(Rule::StateDiff);
        if sight.seen == Seen::Read || newer_state {
            return (!same(&sight.value, &self.shown), false);
        }
        if !cx.has(Rule::Heard) {
            return (true, false);
        }
        let news = !same(&sight.value, &self.heard);
        let edit = sight.time.after(self.heard_at) && (sight.seen == Seen::Edit || news);
        (edit, sight.time.ties(self.heard_at) && news)
    }
}
