//! What happened to one record, step by step, for people who ask later: what was heard, read and written, and how its
//! records came and went. One row for each tick that had something to tell, written with the documents.
//!
//! It knows names of fields and ids of records, never a value. Rows of an entity are a chain like its outcomes: the
//! document names the newest row, each row the one before it. The surprising thing: how records came and went is not
//! told by those who did it. It is the difference between what a document says and what it said when it was last
//! written, so that no way of changing a record can forget to tell.

use headgate_schemas::{ChangeId, ChangeKind, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Flight, Step};
use crate::entity::fold::{Folded, Learned};
use crate::entity::{Author, Entity, Life, MemberState, Outcome};
use crate::store::{EntityId, TrailRow};

/// Names of fields kept with one step; of more only the first are told.
pub(crate) const FIELDS_MOST: usize = 40;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happened {
    /// A change was taken from the stream.
    Heard {
        /// The change.
        change: ChangeId,
        /// The connection it came from.
        source: u32,
        /// What it says happened.
        kind: ChangeKind,
        /// When it happened by the CRM's clock, in microseconds, where the event tells.
        occurred: Option<i64>,
        /// A newer change of the same record was published before it.
        late: bool,
        /// Whom the event names as author.
        author: Author,
        /// The mapped fields it tells.
        fields: Vec<Box<str>>,
        /// What became of it at once.
        met: Met,
    },
    /// A change that had to wait was decided.
    Decided {
        /// The change.
        change: ChangeId,
        /// The connection it came from.
        source: u32,
        /// What became of it.
        met: Met,
    },
    /// A CRM was asked.
    Read {
        /// The connection.
        connection: u32,
        /// By what.
        by: Asked,
        /// What it answered.
        answer: Answer,
        /// From call to answer, in microseconds.
        took: i64,
    },
    /// A CRM was written.
    Wrote {
        /// The connection.
        connection: u32,
        /// What was to be done there.
        deed: Deed,
        /// The fields sent.
        fields: Vec<Box<str>>,
        /// What came of it.
        answer: Answer,
        /// From call to answer, in microseconds.
        took: i64,
    },
    /// A record came, went or changed its place.
    Record {
        /// The connection.
        connection: u32,
        /// The CRM's id of it, where there is one.
        native: Option<Box<str>>,
        /// How it stands now.
        standing: Standing,
    },
    /// The entity took another turn.
    Turn(Turn),
    /// Another entity became part of this one: what happened to it until then is told by its own chains.
    Joined {
        /// The other one.
        other: EntityId,
        /// Its newest row.
        trail: i64,
        /// Its newest outcome.
        outcome: i64,
    },
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Met {
    /// It stands behind a write of ours that is under way.
    Waits,
    /// A read decides it.
    Asked,
    /// It put these fields in force.
    Taken(Vec<Box<str>>),
    /// A person is to decide.
    Held,
    /// It lost a conflict.
    Lost,
    /// The value was in force already.
    Agreed,
    /// Our own write coming back.
    Echo,
    /// Nothing new: older than what is known, or the same again.
    Known,
    /// A rule keeps it from having any effect.
    Skipped,
}

impl Met {
    /// The name in the API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Waits => "waits_for_write",
            Self::Asked => "waits_for_read",
            Self::Taken(_) => "taken",
            Self::Held => "held",
            Self::Lost => "lost_conflict",
            Self::Agreed => "unchanged",
            Self::Echo => "echo",
            Self::Known => "superseded",
            Self::Skipped => "skipped",
        }
    }

    /// What a fold came to. `entity` names the fields.
    pub(crate) fn of(folded: &Folded, entity: &Entity) -> Self {
        match folded {
            Folded::Waiting => Self::Waits,
            Folded::Asked => Self::Asked,
            Folded::Done { taken, learned } => Self::learned(taken, *learned, entity),
        }
    }

    /// What values that were learnt came to.
    pub(crate) fn learned(taken: &[(u8, i32)], learned: Learned, entity: &Entity) -> Self {
        let name = |(f, _): &(u8, i32)| entity.fields.get(usize::from(*f)).map(|field| field.name.clone());
        match learned {
            Learned::Taken => Self::Taken(taken.iter().filter_map(name).take(FIELDS_MOST).collect()),
            Learned::Held => Self::Held,
            Learned::Lost => Self::Lost,
            Learned::Agreed => Self::Agreed,
            Learned::Echo => Self::Echo,
            Learned::Stale | Learned::Early | Learned::Aged | Learned::Known | Learned::Tie => Self::Known,
        }
    }
}

impl From<Outcome> for Met {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Echo => Self::Echo,
            Outcome::Unchanged => Self::Agreed,
            Outcome::Lost => Self::Lost,
            Outcome::Superseded => Self::Known,
            Outcome::Delivered | Outcome::Rejected | Outcome::Skipped | Outcome::NoTarget | Outcome::Kept => {
                Self::Skipped
            }
        }
    }
}

/// By what a CRM was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// By its own id.
    Id,
    /// By our id.
    ExternalId,
    /// By what only one person or company has.
    Key,
}

impl Asked {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::ExternalId => "external_id",
            Self::Key => "match_key",
        }
    }
}

/// What was to be done in a CRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Make the record.
    Create,
    /// Change the record.
    Update,
    /// Take the record away.
    Delete,
}

impl Deed {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What a CRM answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done, or found.
    Ok,
    /// There is no such record.
    Missing,
    /// The record was merged into another one.
    Merged,
    /// No answer came: it may have been done.
    Unknown,
    /// It was not done and is tried again; the CRM's code says why.
    Again(Box<str>),
    /// The CRM refused it for good; the dead letter has its words.
    Rejected(Box<str>),
}

impl Answer {
    /// The name in the API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Merged => "merged",
            Self::Unknown => "unknown",
            Self::Again(_) => "again",
            Self::Rejected(_) => "rejected",
        }
    }

    /// The CRM's code, where it said no.
    pub const fn code(&self) -> Option<&str> {
        match self {
            Self::Again(code) | Self::Rejected(code) => Some(code),
            Self::Ok | Self::Missing | Self::Merged | Self::Unknown => None,
        }
    }
}

/// How a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Named by an event, not read yet.
    Heard,
    /// To be made.
    Absent,
    /// There.
    Live,
    /// Not found; a read after the grace decides.
    Missing,
    /// Deleted by somebody.
    Gone,
    /// Taken away by us.
    Removed,
    /// The CRM refused to make it.
    Refused,
    /// Set aside: the entity has another record in that CRM.
    Aside,
    /// No longer a record of this entity.
    Parted,
}

impl From<MemberState> for Standing {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Heard => Self::Heard,
            MemberState::Absent => Self::Absent,
            MemberState::Live => Self::Live,
            MemberState::Missing(_) => Self::Missing,
            MemberState::Gone => Self::Gone,
            MemberState::Removed(_) => Self::Removed,
            MemberState::Refused => Self::Refused,
        }
    }
}

impl Standing {
    /// The words of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heard => "not read yet",
            Self::Absent => "to be made",
            Self::Live => "live",
            Self::Missing => "missing",
            Self::Gone => "gone",
            Self::Removed => "removed by us",
            Self::Refused => "refused",
            Self::Aside => "set aside",
            Self::Parted => "parted",
        }
    }
}

/// Where an entity stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Turn {
    /// Its records are kept equal.
    #[default]
    Live,
    /// A record was deleted, and the others are to follow.
    Leaving,
    /// All records are gone.
    Left,
    /// It became part of another one.
    Joined,
    /// Its records are being erased.
    Erasing,
    /// Erased.
    Erased,
}

impl From<&Life> for Turn {
    fn from(life: &Life) -> Self {
        match life {
            Life::Live => Self::Live,
            Life::Leaving(_) => Self::Leaving,
            Life::Left => Self::Left,
            Life::Joined(_) => Self::Joined,
            Life::Erasing => Self::Erasing,
            Life::Erased => Self::Erased,
        }
    }
}

impl Turn {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Joined => "joined",
            Self::Erasing => "erasing",
            Self::Erased => "erased",
        }
    }
}

/// The records of an entity and its turn, as they were last told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    turn: Turn,
    records: Vec<(u32, Option<Box<str>>, Standing)>,
}

impl Shape {
    /// As a document has it.
    pub(crate) fn of(entity: &Entity) -> Self {
        let linked = entity.members.iter().map(|m| (m.connection, m.native.clone(), m.state.into()));
        let aside = entity.detached.iter().map(|d| (d.connection, Some(d.native.clone()), Standing::Aside));
        Self { turn: Turn::from(&entity.life), records: linked.chain(aside).collect() }
    }

    /// Whether a document still has it so. Most do, and nothing is built to find that out.
    fn is(&self, entity: &Entity) -> bool {
        let linked = entity.members.iter().map(|m| (m.connection, m.native.as_ref(), m.state.into()));
        let aside = entity.detached.iter().map(|d| (d.connection, Some(&d.native), Standing::Aside));
        let told = self.records.iter().map(|(connection, native, standing)| (*connection, native.as_ref(), *standing));
        self.turn == Turn::from(&entity.life) && linked.chain(aside).eq(told)
    }

    /// What happened on the way from here to `now`.
    fn to(&self, now: &Self) -> Vec<Happened> {
        let mut happened = Vec::new();
        let record = |connection: u32, native: &Option<Box<str>>, standing| {
            let native = native.clone();
            Happened::Record { connection, native, standing }
        };
        for (connection, native, standing) in &now.records {
            if !self.records.contains(&(*connection, native.clone(), *standing)) {
                happened.push(record(*connection, native, *standing));
            }
        }
        for (connection, native, _) in self.records.iter().filter(|(_, native, _)| native.is_some()) {
            if !now.records.iter().any(|(c, n, _)| c == connection && n == native) {
                happened.push(record(*connection, native, Standing::Parted));
            }
        }
        if self.turn != now.turn {
            happened.push(Happened::Turn(now.turn));
        }
        happened
    }
}

/// What an entity has to tell of this tick.
#[derive(Debug, Default)]
pub(crate) struct Tale {
    /// As it was last told.
    shape: Shape,
    happened: Vec<Happened>,
}

impl Tale {
    /// Of a document that was just read.
    pub(crate) fn of(entity: &Entity) -> Self {
        Self { shape: Shape::of(entity), happened: Vec::new() }
    }

    /// Takes down one thing.
    pub(crate) fn add(&mut self, happened: Happened) {
        self.happened.push(happened);
    }

    /// What another entity had to tell is told here from now on.
    pub(crate) fn take_over(&mut self, other: &mut Self) {
        self.happened.append(&mut other.happened);
    }

    /// The row of this tick, if there is anything to tell. It becomes the newest of the entity's chain. Of a person who
    /// was erased nothing is told but that.
    pub(crate) fn row(&mut self, id: EntityId, entity: &mut Entity, now: Timestamp) -> Option<TrailRow> {
        let mut happened = std::mem::take(&mut self.happened);
        if !self.shape.is(entity) {
            let shape = Shape::of(entity);
            happened.extend(self.shape.to(&shape));
            self.shape = shape;
        }
        match self.shape.turn {
            Turn::Joined => return None,
            Turn::Erased => happened.retain(|h| matches!(h, Happened::Turn(_))),
            Turn::Live | Turn::Leaving | Turn::Left | Turn::Erasing => {}
        }
        if happened.is_empty() {
            return None;
        }
        // Two ticks may bear the same time; the rows of an entity do not.
        let at = now.micros().max(entity.trail.saturating_add(1));
        let previous = std::mem::replace(&mut entity.trail, at);
        Some(TrailRow { entity: id, at, previous, happened })
    }
}

impl Engine {
    /// Takes down what happened to an entity. It is written with its document at the end of the tick.
    pub(crate) fn happened(&mut self, id: EntityId, happened: Happened) {
        let Some(loaded) = self.cache.get_mut(id) else { return };
        loaded.tale.add(happened);
        if !loaded.touched {
            loaded.touched = true;
            self.tick.touched.push(id);
        }
    }

    /// Takes down a write that an earlier process sent, and whose answer went with it.
    pub(crate) fn told_of_loss(&mut self, id: EntityId, connection: u32, intent: u32) {
        let Some(loaded) = self.cache.get_mut(id) else { return };
        let entity = &loaded.entity;
        let Some(member) = entity.member_of(connection).map(|m| &entity.members[m]) else { return };
        let deed = match &member.create {
            Some(create) if create.intent == intent => Deed::Create,
            _ if member.removals.iter().any(|removal| removal.intent == intent) => Deed::Delete,
            _ => Deed::Update,
        };
        let fields = entity.sent_with(connection, intent);
        self.happened(id, Happened::Wrote { connection, deed, fields, answer: Answer::Unknown, took: 0 });
    }

    /// Takes down what a call came to for one entity.
    pub(crate) fn told(&mut self, id: EntityId, flight: &Flight, intent: u32, answer: Answer) {
        let (connection, took) = (flight.connection, flight.took);
        let deed = match flight.step {
            Step::Read | Step::Lookup | Step::Find => {
                let by = match flight.step {
                    Step::Lookup => Asked::ExternalId,
                    Step::Find => Asked::Key,
                    Step::Read | Step::Create | Step::Update | Step::Delete => Asked::Id,
                };
                return self.happened(id, Happened::Read { connection, by, answer, took });
            }
            Step::Create => Deed::Create,
            Step::Update => Deed::Update,
            Step::Delete => Deed::Delete,
        };
        let fields = self.cache.get_mut(id).map_or_else(Vec::new, |loaded| loaded.entity.sent_with(connection, intent));
        self.happened(id, Happened::Wrote { connection, deed, fields, answer, took });
    }
}

impl Entity {
    /// The fields that an intent sent to a connection.
    fn sent_with(&self, connection: u32, intent: u32) -> Vec<Box<str>> {
        let Some(m) = self.member_of(connection) else { return Vec::new() };
        let of = |cell: &crate::entity::Cell| cell.ledger.iter().any(|row| row.intent == intent);
        let sent = self.fields.iter().filter(|field| field.cells[m].as_ref().is_some_and(of));
        sent.map(|field| field.name.clone()).take(FIELDS_MOST).collect()
    }
}

#[cfg(test)]
mod tests {
    use headgate_schemas::ObjectType;
    use uuid::Uuid;

    use super::*;

    fn ann() -> Entity {
        Entity::heard(Uuid::nil(), "acme", ObjectType::CONTACT, 1, "7001", 0)
    }

    fn record(connection: u32, native: &str, standing: Standing) -> Happened {
        Happened::Record { connection, native: Some(native.into()), standing }
    }

    #[test]
    fn how_records_came_and_went_is_told_by_the_difference() {
        let mut entity = ann();
        let mut tale = Tale::default();
        let row = tale.row(5, &mut entity, Timestamp::from_micros(100)).unwrap();
        assert_eq!(
            row,
            TrailRow { entity: 5, at: 100, previous: 0, happened: vec![record(1, "7001", Standing::Heard)] }
        );
        assert_eq!(tale.row(5, &mut entity, Timestamp::from_micros(100)), None, "nothing new");

        entity.members[0].state = MemberState::Live;
        entity.detached.push(crate::entity::Detached { connection: 1, native: "7002".into() });
        let row = tale.row(5, &mut entity, Timestamp::from_micros(100)).unwrap();
        assert_eq!((row.at, row.previous), (101, 100), "a time of its own, and the row before it");
        assert_eq!(row.happened, [record(1, "7001", Standing::Live), record(1, "7002", Standing::Aside)]);

        entity.detached.clear();
        entity.members[0].native = Some("7002".into());
        entity.life = Life::Left;
        let row = tale.row(5, &mut entity, Timestamp::from_micros(200)).unwrap();
        let parted = record(1, "7001", Standing::Parted);
        assert_eq!(row.happened, [record(1, "7002", Standing::Live), parted, Happened::Turn(Turn::Left)]);
    }

    #[test]
    fn nothing_is_told_of_a_person_who_was_erased() {
        let mut entity = ann();
        let mut tale = Tale::of(&entity);
        tale.add(Happened::Decided { change: ChangeId::from_bytes([1; 16]), source: 1, met: Met::Echo });
        entity.life = Life::Erased;
        entity.members.clear();
        let row = tale.row(5, &mut entity, Timestamp::from_micros(100)).unwrap();
        assert_eq!(row.happened, [Happened::Turn(Turn::Erased)]);
    }
}
