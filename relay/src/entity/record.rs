//! The life of a record: missing, gone, restored, taken away by us, erased. Pure like everything beside it.
//!
//! Events about records are hints; a read decides. The surprising thing: a delete elsewhere is the one thing that cannot
//! be repaired by a later event, so every doubt ends in a question instead of a delete: a deleted record that did not
//! hold the newest values, a record to go that shows an edit nobody knew.

use serde::{Deserialize, Serialize};

use super::fold::{Context, Learned, Rule};
use super::question::{About, Question};
use super::write::Answer;
use super::{Asked, Entity, Field, Member, MemberState, NO_FLOOR};
use crate::config::RecordsConfig;
use crate::conflict::By;
use crate::store::EntityId;

/// Further looks, 1, 2 and 4 seconds apart, before a record that was never read counts as gone.
const UNREAD_LOOKS: u8 = 3;

/// Where an entity stands in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// Its members are kept equal.
    Live,
    /// One of its records was deleted, and the others are to follow.
    Leaving(Leaving),
    /// All of its records are gone.
    Left,
    /// It became part of another one.
    Joined(Joined),
    /// A person asked to be forgotten: its records are being erased.
    Erasing,
    /// Erased; the document says nothing more.
    Erased,
}

/// An entity whose records go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The connection whose record was deleted by somebody.
    pub gone: u32,
    /// When that was confirmed, by our clock.
    pub since: i64,
    /// Too many records of the link go at once: it waits until a person has looked.
    pub braked: bool,
}

/// Where an entity's members went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The entity that has them now.
    pub into: EntityId,
    /// Added to the numbers of its intents there.
    pub offset: u32,
}

/// A join that waits until no call of either entity is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joining {
    /// The entity to become part of.
    pub into: EntityId,
    /// Whose values stay.
    pub keep: Keep,
}

/// Whose values stay when two entities become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep {
    /// The survivor's: somebody merged the records and saw both. What is empty there is filled.
    Survivor,
    /// The policy of each field decides.
    Policy,
    /// The policy, unless the entity is on its way out and the record is a create of ours that landed late: it bears our
    /// own id, and shows nothing but what we wrote. Then the entity's stay, and the record goes, too.
    Ours,
}

/// A record that belongs to an entity which has another one in that CRM already. Nothing is written to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// The connection.
    pub connection: u32,
    /// The CRM's id.
    pub native: Box<str>,
}

/// A delete of ours that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Its intent.
    pub intent: u32,
    /// How it stands.
    pub state: RemovalState,
}

/// How a delete of ours stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemovalState {
    /// Sent, or about to be.
    Open,
    /// No answer: it may land until this time (ours); a read tells.
    Unknown(i64),
    /// The CRM refused it for good; see the dead letter.
    Refused,
}

/// What is done elsewhere when a record is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletePolicy {
    /// Nothing: the record is no longer a member, the others go on.
    #[default]
    Nothing,
    /// The fields that need not have a value are emptied.
    Clear,
    /// The other records are deleted.
    Delete,
}

/// How a link treats records that come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRules {
    /// What a delete does elsewhere.
    pub delete: DeletePolicy,
    /// How long a record must be missing before it counts as deleted.
    pub grace: i64,
    /// Most entities of a link that may go within an hour before a person is asked.
    pub brake_count: usize,
    /// The same as a share of the link's entities.
    pub brake_percent: u8,
}

impl Default for RecordRules {
    fn default() -> Self {
        Self { delete: DeletePolicy::Nothing, grace: 60_000_000, brake_count: 50, brake_percent: 5 }
    }
}

impl From<RecordsConfig> for RecordRules {
    fn from(config: RecordsConfig) -> Self {
        let grace = i64::try_from(config.grace.as_micros()).unwrap_or(i64::MAX);
        let RecordsConfig { delete, brake_count, brake_percent, .. } = config;
        Self { delete, grace, brake_count, brake_percent }
    }
}

/// What a read that found nothing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Another look decides.
    Again,
    /// The record was merged into this one.
    Merged(Box<str>),
    /// It is gone. The changes that waited for it end.
    Gone(Vec<Asked>),
    /// It was erased for privacy.
    Purged(Vec<Asked>),
    /// We took it away, or knew already. The changes that waited for it end.
    Known(Vec<Asked>),
}

/// What a read that found the record came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alive {
    /// It was there all the time.
    Still,
    /// It had counted as gone.
    Restored,
    /// The answer may be older than our delete: another look decides.
    Early,
}

/// What to do about records that are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// The entity goes on with what is left.
    Stay,
    /// It was the last record: the entity has left, and what still lands is not to bring it back.
    Last,
    /// Empty the others.
    Clear,
    /// Take the others away.
    Delete,
    /// Ask a person first.
    Ask,
}

impl Removal {
    /// It was sent and nobody answered: the record may go by it yet.
    const fn may_land(&self) -> bool {
        matches!(self.state, RemovalState::Unknown(_))
    }
}

impl Member {
    /// There is a record, as far as is known.
    pub const fn has_record(&self) -> bool {
        self.native.is_some() && matches!(self.state, MemberState::Heard | MemberState::Live | MemberState::Missing(_))
    }

    /// There is a record, and it was there the last time it was looked at.
    pub(super) const fn is_found(&self) -> bool {
        self.has_record() && !matches!(self.state, MemberState::Missing(_))
    }

    /// Nothing of it is to be waited for: it is not there, and no call that could make it is unsettled.
    const fn has_left(&self, cx: &Context<'_>) -> bool {
        let left = matches!(
            self.state,
            MemberState::Gone | MemberState::Removed(_) | MemberState::Absent | MemberState::Refused
        );
        left && (self.create.is_none() || !cx.rules.has(Rule::LateCreate))
    }

    /// Nothing of it is left to be erased.
    const fn is_erased(&self) -> bool {
        self.create.is_none() && (self.purge || self.native.is_none())
    }

    pub(super) fn end_asked(&mut self) -> Vec<Asked> {
        self.stale = 0;
        self.floor = NO_FLOOR;
        let mut ended = std::mem::take(&mut self.asked);
        ended.extend(std::mem::take(&mut self.waiting).iter().map(super::Event::asked));
        ended
    }
}

impl Entity {
    /// Nothing is written to its members but deletes.
    pub const fn is_going(&self) -> bool {
        matches!(self.life, Life::Leaving(_) | Life::Left | Life::Erasing)
    }

    /// Its document says nothing more: events of its records are no news.
    pub const fn is_over(&self) -> bool {
        matches!(self.life, Life::Erased | Life::Joined(_))
    }

    /// A read by native id found nothing. A record that was never read may be so new that the answering replica has not
    /// heard of it: it is looked for a few times. One that was there is missing from now on, and a second read after the
    /// grace decides, whatever caused the first.
    pub fn on_missing(&mut self, m: usize, asked_at: i64, merged_into: Option<&str>, cx: &Context<'_>) -> Missed {
        self.forget_absent(m, asked_at);
        let member = &mut self.members[m];
        member.reads.retain(|t| *t > asked_at);
        if let Some(into) = merged_into.map(Into::into).or_else(|| member.into.clone()) {
            return Missed::Merged(into);
        }
        if member.purge {
            member.state = MemberState::Gone;
            return Missed::Purged(member.end_asked());
        }
        if let Some(intent) = member.removals.iter().find(|r| r.may_land()).map(|r| r.intent) {
            return Missed::Known(self.removed(m, intent, cx.now));
        }
        match member.state {
            MemberState::Heard if member.stale < UNREAD_LOOKS => {
                member.need_read(cx.now + (cx.timing.second << member.stale));
                member.stale += 1;
                Missed::Again
            }
            MemberState::Live if cx.rules.has(Rule::Grace) => {
                member.state = MemberState::Missing(cx.now);
                member.need_read(cx.now + cx.link.records.grace);
                Missed::Again
            }
            MemberState::Missing(since) if cx.now - since < cx.link.records.grace => {
                member.need_read(since + cx.link.records.grace);
                Missed::Again
            }
            MemberState::Live | MemberState::Missing(_) => {
                member.state = MemberState::Gone;
                Missed::Gone(member.end_asked())
            }
            MemberState::Heard => {
                member.state = MemberState::Gone;
                Missed::Known(member.end_asked())
            }
            MemberState::Absent | MemberState::Gone | MemberState::Removed(_) | MemberState::Refused => {
                Missed::Known(member.end_asked())
            }
        }
    }

    /// A read, asked for at `asked_at`, found the record. A record that had counted as gone was restored, and the entity
    /// lives again.
    pub fn on_alive(&mut self, m: usize, asked_at: i64, cx: &Context<'_>) -> Alive {
        let lag = cx.peer(self.members[m].connection).read_lag;
        let member = &mut self.members[m];
        if let MemberState::Removed(at) = member.state
            && asked_at < at + lag
        {
            // The replica that answered has not heard of our delete yet.
            member.reads.retain(|t| *t > asked_at);
            member.need_read(at + lag);
            return Alive::Early;
        }
        // An answer that was asked for before the event came cannot contradict it.
        if member.reads.iter().all(|t| *t <= asked_at) {
            member.into = None;
            member.purge = false;
        }
        // What may still land is kept: until then a record that is not found was not deleted by somebody else.
        member.removals.retain(|r| !matches!(r.state, RemovalState::Unknown(until) if until <= asked_at));
        for removal in &member.removals {
            if let RemovalState::Unknown(until) = removal.state
                && !member.reads.contains(&until)
            {
                member.reads.push(until);
            }
        }
        let was = std::mem::replace(&mut member.state, MemberState::Live);
        if !matches!(was, MemberState::Gone | MemberState::Removed(_)) {
            return Alive::Still;
        }
        if matches!(self.life, Life::Leaving(_) | Life::Left) {
            self.stay();
        }
        self.forget_confirmation(m, cx);
        Alive::Restored
    }

    /// A person who confirmed a delete spoke of newer values than the deleted record held. Restored, it still has to get
    /// them.
    fn forget_confirmation(&mut self, m: usize, cx: &Context<'_>) {
        let connection = self.members[m].connection;
        for field in &mut self.fields {
            let plan = cx.link.field(&field.name);
            let Some(want) = plan.project(connection, &field.value, self.created, cx.timing) else { continue };
            if let Some(cell) = field.cells[m].as_mut().filter(|c| !c.kept && !plan.same(connection, &c.shown, &want)) {
                cell.rev = super::NO_REV;
            }
        }
    }

    /// The entity goes on. What we took away ourselves is made again; what others deleted is left alone.
    pub fn stay(&mut self) {
        self.life = Life::Live;
        self.questions.retain(|q| !matches!(q.about, About::Delete { .. } | About::Brake { .. }));
        for m in 0..self.members.len() {
            if matches!(self.members[m].state, MemberState::Removed(_)) {
                self.make_again(m);
            }
        }
    }

    /// A record that we took away is to be made again.
    pub fn make_again(&mut self, m: usize) {
        let member = &mut self.members[m];
        member.state = MemberState::Absent;
        member.removals.clear();
        member.reads.clear();
        for cell in self.fields.iter_mut().filter_map(|f| f.cells[m].as_mut()) {
            cell.rev = super::NO_REV;
            cell.refused = super::NO_REV;
        }
    }

    /// What the delete of member `m`'s record asks for elsewhere.
    pub fn parting(&self, m: usize, cx: &Context<'_>) -> Parting {
        let others = self.members.iter().enumerate().any(|(o, member)| o != m && !member.has_left(cx));
        match cx.link.records.delete {
            DeletePolicy::Nothing => Parting::Stay,
            DeletePolicy::Clear if !others => Parting::Stay,
            DeletePolicy::Delete if !others => Parting::Last,
            _ if cx.rules.has(Rule::InformedDelete) && !self.held_newest(m, cx) => Parting::Ask,
            DeletePolicy::Clear => Parting::Clear,
            DeletePolicy::Delete => Parting::Delete,
        }
    }

    /// The record in member `m` held the newest value of every field that it has. A delete of it then speaks for the
    /// whole entity.
    pub fn held_newest(&self, m: usize, cx: &Context<'_>) -> bool {
        let connection = self.members[m].connection;
        let newest = |field: &Field| {
            let plan = cx.link.field(&field.name);
            let Some(want) = plan.project(connection, &field.value, self.created, cx.timing) else { return true };
            field.held.is_none()
                && field.cells[m].as_ref().is_some_and(|c| c.rev == field.rev || plan.same(connection, &c.shown, &want))
        };
        self.fields.iter().all(newest)
    }

    /// The records of this entity are to go, because the one of `gone` was deleted.
    pub fn leave(&mut self, gone: u32, braked: bool, now: i64) {
        self.life = Life::Leaving(Leaving { gone, since: now, braked });
        for member in self.members.iter_mut().filter(|member| member.connection != gone && member.has_record()) {
            member.need_read(now);
        }
    }

    /// A person said that the others are to go, too: what they show by now was seen.
    pub fn confirm_leaving(&mut self, now: i64) {
        let Life::Leaving(leaving) = self.life.clone() else { return };
        self.questions.retain(|q| !matches!(q.about, About::Delete { .. } | About::Field { .. }));
        let Some(gone) = self.member_of(leaving.gone) else { return };
        for field in &mut self.fields {
            field.held = None;
            if let Some(cell) = field.cells[gone].as_mut() {
                cell.rev = field.rev;
            }
        }
        self.leave(leaving.gone, leaving.braked, now);
    }

    /// Empties every field that no remaining member needs.
    pub fn clear(&mut self, gone: u32, cx: &Context<'_>) {
        let stays: Vec<u32> =
            self.members.iter().filter(|member| member.has_record()).map(|member| member.connection).collect();
        for field in &mut self.fields {
            let plan = cx.link.field(&field.name);
            if !field.value.is_empty() && !stays.iter().any(|c| plan.is_required(*c)) {
                let stamp = headgate_schemas::Span::point(cx.now);
                field.take(By::Member(gone), headgate_schemas::Value::Null, stamp);
            }
        }
    }

    /// A delete of member `m` is to be sent: after a read of what would go, unless it is erased.
    pub fn wants_removal(&self, m: usize, cx: &Context<'_>) -> bool {
        let member = &self.members[m];
        let there = member.state == MemberState::Live;
        let open = match &self.life {
            Life::Leaving(leaving) => there && !leaving.braked && leaving.gone != member.connection,
            Life::Left => there && cx.rules.has(Rule::LateCreate),
            // What lies in a bin is erased as well.
            Life::Erasing => member.native.is_some() && !member.purge,
            Life::Live | Life::Joined(_) | Life::Erased => false,
        };
        open && member.removals.iter().all(|r| r.may_land()) && !self.asks_about_delete()
    }

    /// A question whether the others go is open.
    pub fn asks_about_delete(&self) -> bool {
        self.questions.iter().any(|q| matches!(q.about, About::Delete { .. }))
    }

    /// Whether what a read of member `m` taught stands against deleting it.
    pub fn is_against_removal(&self, m: usize, learned: Learned, cx: &Context<'_>) -> bool {
        if self.life == Life::Erasing || !cx.rules.has(Rule::Unseen) {
            return false;
        }
        let edited = matches!(learned, Learned::Taken | Learned::Lost | Learned::Held);
        let doubt = match &self.life {
            Life::Leaving(leaving) if cx.rules.has(Rule::InformedDelete) => {
                self.member_of(leaving.gone).is_some_and(|gone| !self.held_newest(gone, cx))
            }
            // Our own create that landed late: it may go unless somebody touched it.
            Life::Left => !self.is_untouched(m),
            _ => false,
        };
        edited || doubt
    }

    /// Every value that member `m` shows was written by us, or is empty.
    fn is_untouched(&self, m: usize) -> bool {
        self.fields.iter().filter_map(|f| f.cells[m].as_ref()).all(|c| c.mine || c.shown.is_empty())
    }

    /// Opens the intent that takes member `m` away. Commit the entity before making the call.
    pub fn intend_removal(&mut self, m: usize, now: i64) -> u32 {
        self.intents += 1;
        let removals = &mut self.members[m].removals;
        // What is erased is not read before, which would forget them.
        removals.retain(|r| !matches!(r.state, RemovalState::Unknown(until) if until <= now));
        removals.push(Removal { intent: self.intents, state: RemovalState::Open });
        self.intents
    }

    /// The delete of member `m` landed. Where the entity lives again by now, the record is made again. The changes that
    /// waited for the record end. Another delete that may still land is kept: somebody may restore the record before.
    pub fn removed(&mut self, m: usize, intent: u32, now: i64) -> Vec<Asked> {
        let member = &mut self.members[m];
        let Some(place) = member.removals.iter().position(|r| r.intent == intent) else { return Vec::new() };
        let unknown = member.removals.remove(place).may_land();
        member.state = MemberState::Removed(now);
        // Of one whose answer came late nobody knows whether it landed before or after somebody restored the record.
        member.reads.retain(|t| unknown && self.life != Life::Erasing && *t > now);
        let ended = member.end_asked();
        if self.life == Life::Live {
            self.make_again(m);
        } else if self.life == Life::Erasing {
            self.erase_next(m);
        }
        ended
    }

    /// From now on nothing is done for this person but erasing. What waited ends; it is returned by source.
    pub fn begin_erasing(&mut self) -> Vec<(u32, Vec<Asked>)> {
        self.life = Life::Erasing;
        self.questions.clear();
        let mut ended = Vec::new();
        for member in &mut self.members {
            // A create that may still land is looked for, so that it is erased as well.
            if member.create.is_none() {
                member.reads.clear();
            }
            ended.push((member.connection, member.end_asked()));
        }
        for field in &mut self.fields {
            field.held = None;
        }
        ended
    }

    /// Takes every value out of the document.
    pub fn empty(&mut self) {
        self.uuid = uuid::Uuid::nil();
        self.trail = 0;
        self.members.clear();
        self.fields.clear();
        self.detached.clear();
        self.erased.clear();
        self.questions.clear();
        self.claims.clear();
        self.hints.clear();
    }

    /// A person is asked whether the others go, too.
    /// Asked because of member `m`, which does not go as long as the question is open.
    pub fn ask_about_delete(&mut self, m: usize, now: i64) {
        if self.life == Life::Left {
            let gone = self.members.iter().enumerate().find(|(o, _)| *o != m).map(|(_, other)| other.connection);
            self.life = Life::Leaving(Leaving { gone: gone.unwrap_or(u32::MAX), since: now, braked: false });
        }
        let Life::Leaving(leaving) = &self.life else { return };
        let connection = leaving.gone;
        if !self.asks_about_delete() {
            self.questions.push(Question::new(About::Delete { connection }, now));
        }
    }

    /// Member `m` is erased. A further record of this person in the same CRM takes its place and goes next.
    pub fn erase_next(&mut self, m: usize) {
        let connection = self.members[m].connection;
        let member = &mut self.members[m];
        member.purge = true;
        member.removals.clear();
        if let Some(native) = member.native.clone() {
            self.erased.push(Detached { connection, native });
        }
        if let Some(place) = self.detached.iter().position(|d| d.connection == connection) {
            member.native = Some(self.detached.remove(place).native);
            member.purge = false;
        }
    }

    /// Takes the answer to a delete that was not applied: for good, or for a passing reason.
    pub(super) fn settle_removal(&mut self, m: usize, intent: u32, answer: &Answer, now: i64) {
        let member = &mut self.members[m];
        let Some(place) = member.removals.iter().position(|r| r.intent == intent) else { return };
        match answer {
            Answer::Landed { .. } => return,
            Answer::Rejected { .. } => member.removals[place].state = RemovalState::Refused,
            Answer::NotApplied | Answer::Refused => _ = member.removals.remove(place),
        }
        member.need_read(now);
    }

    /// Moves on when all records are gone. True when that is news.
    pub fn has_just_left(&mut self, cx: &Context<'_>) -> bool {
        match self.life {
            Life::Leaving(_) if self.members.iter().all(|member| member.has_left(cx)) => self.life = Life::Left,
            Life::Erasing if self.members.iter().all(Member::is_erased) => self.life = Life::Erased,
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
