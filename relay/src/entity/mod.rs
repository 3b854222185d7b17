//! One logical record and its members: the state that the rules of convergence work on.
//!
//! Nothing here reads a clock, waits, or draws a random number. Times are integers in one unit: the engine passes
//! microseconds, the model tests milliseconds; [`Timing`] carries the constants in the same unit. Times of a member
//! are in that member's own clock and are compared only there; stamps and due times are in ours.
//!
//! | file | does |
//! |---|---|
//! | [`fold`] | takes what an event, a state or a read says |
//! | [`mod@write`] | what is dirty, intents, answers, give-ups |
//! | [`pending`] | which outcome each change has at each target |
//! | [`join`] | first contact: a record becomes a member, two records become one entity |
//! | [`absorb`] | two entities become one |
//! | [`matching`] | what makes two records one person or company |
//! | [`record`] | missing, gone, restored, taken away, erased |
//! | [`question`] | what a person is to decide, and what a choice does |
//! | [`decision`] | what was decided, by which rule, for the log |

pub mod absorb;
pub mod decision;
pub mod fold;
pub mod join;
pub mod matching;
pub mod pending;
pub mod question;
pub mod record;
pub mod write;

use headgate_schemas::{ChangeId, ObjectType, Span, Value};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::conflict::By;
use crate::store::EntityId;
pub use pending::{Outcome, Pending};
pub use question::{About, Candidate, Cause, Question};
use record::Removal;
pub use record::{Detached, Joining, Life};

/// The revision of a cell that stands for no revision of the entity.
pub const NO_REV: i32 = -1;

/// A floor below every time.
pub const NO_FLOOR: i64 = i64::MIN / 4;

/// Past values of a field kept to notice two systems fighting.
const PAST_VALUES: usize = 32;

/// One logical record of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entity {
    /// Our own id of it, the value of the external-id field in every CRM.
    pub uuid: Uuid,
    /// Whose it is.
    pub tenant: Box<str>,
    /// What it is.
    pub object: ObjectType,
    /// When we first heard of it, by our clock.
    pub created: i64,
    /// Number of the last intent; intents are numbered inside the entity.
    pub intents: u32,
    /// When the change was taken whose outcome was written down last, by our clock; 0 for none. The store's rows lead on
    /// from there.
    pub outcome: i64,
    /// When the newest row of what happened to it was written, by our clock; 0 for none. The store's rows lead on from
    /// there.
    pub trail: i64,
    /// Match claims it holds.
    pub claims: Vec<[u8; 16]>,
    /// Weaker keys under which it can be found.
    pub hints: Vec<[u8; 16]>,
    /// Where it stands in its life.
    pub life: Life,
    /// A join that waits for calls under way.
    pub joining: Option<Joining>,
    /// Entities that a person said are not the same.
    pub apart: Vec<EntityId>,
    /// Further records of it in a CRM that has one already.
    pub detached: Vec<Detached>,
    /// Records that were erased, while others are still to be.
    pub erased: Vec<Detached>,
    /// What a person is to decide.
    pub questions: Vec<Question>,
    /// The record in each CRM.
    pub members: Vec<Member>,
    /// The fields, in the order of the mapping when they were first seen.
    pub fields: Vec<Field>,
}

/// That record in one CRM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The connection.
    pub connection: u32,
    /// The CRM's id, once known.
    pub native: Option<Box<str>>,
    /// Whether it is there.
    pub state: MemberState,
    /// Reads that are due: times by our clock.
    pub reads: Vec<i64>,
    /// An event (member's clock) that the next read must not be older than.
    pub floor: i64,
    /// Reads that came too early or were too old, for the present need.
    pub stale: u8,
    /// Events behind an open intent; folded again when it settles.
    pub waiting: Vec<Event>,
    /// Changes that a read of this member decides.
    pub asked: Vec<Asked>,
    /// Changes of other members that are still to reach this one.
    pub pending: Vec<Pending>,
    /// An unsettled create: its rows stand in the cells of the ledger like any other write's.
    pub create: Option<Create>,
    /// Further look-ups by our own id, when a create of ours may still land beside the record that took its place.
    pub looks: Vec<i64>,
    /// It was looked for by what only one person has, before a record was to be made.
    pub sought: bool,
    /// The record that an event says it was merged into; a read decides.
    pub into: Option<Box<str>>,
    /// An event says that it was erased for privacy; a read decides. Afterwards: nothing of it is left to erase.
    pub purge: bool,
    /// Unsettled deletes of ours: one that is open at most, or refused, and those that may still land.
    pub removals: Vec<Removal>,
}

/// Whether the record is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// Named by an event, not read yet.
    Heard,
    /// Does not exist there yet; to be made once the entity is known.
    Absent,
    /// There.
    Live,
    /// Not found since then, by our clock; a read after the grace decides. Nothing is written to it.
    Missing(i64),
    /// Deleted by somebody. It is not made again.
    Gone,
    /// Taken away by us, then, by our clock. Made again if the entity lives again.
    Removed(i64),
    /// The CRM refused to make it; see the dead letter. A newer revision tries again.
    Refused,
}

/// A create that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// Its intent.
    pub intent: u32,
    /// Open, or unknown until this time (ours).
    pub unknown_until: Option<i64>,
}

/// A change that waits for a read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The change.
    pub change: ChangeId,
    /// How it came.
    pub came: Came,
    /// The connections that it is due at: those the link had when it came.
    pub targets: Box<[u32]>,
}

/// How a change came: when, by our clock, and by which link it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    /// First byte at the gateway.
    pub received: i64,
    /// Taken from the stream.
    pub accepted: i64,
    /// The number of the link in the accounting. A link may get another name while the change waits: what became due by
    /// one ends by that one.
    pub link: u32,
}

/// One field of an entity, or one group of fields that are decided together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// Neutral name.
    pub name: Box<str>,
    /// The value in force, canonical. A group is a list of its parts.
    pub value: Value,
    /// When it was set, by our clock.
    pub stamp: Span,
    /// Counts the revisions.
    pub rev: i32,
    /// Who set it.
    pub by: By,
    /// Candidates, one for each side, while a person is to decide. Nothing of this field is written until then.
    pub held: Option<Vec<Candidate>>,
    /// When the value returned to what it was by another member's doing.
    pub flips: Vec<i64>,
    /// Values that were in force, with who set them.
    pub past: Vec<(Value, By)>,
    /// What each member shows; in the order of [`Entity::members`], `None` while a member has no such record.
    pub cells: Vec<Option<Cell>>,
}

/// What one member shows of one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Native value last known to stand there.
    pub shown: Value,
    /// Version of that knowledge.
    pub seen: Span,
    /// The entity's revision that `shown` stands for, or [`NO_REV`].
    pub rev: i32,
    /// From when (member's clock) that revision can have been known there.
    pub since: i64,
    /// `shown` was written by us.
    pub mine: bool,
    /// The target changed our value.
    pub kept: bool,
    /// The newest native value known not to be ours.
    pub heard: Value,
    /// Its time.
    pub heard_at: Span,
    /// A read showed something else, too early to be believed, or an event that ties with the newest one heard did: what
    /// stands there is in doubt until the read lag is over.
    pub early: bool,
    /// The revision that the CRM refused for good, or [`NO_REV`].
    pub refused: i32,
    /// Our own writes.
    pub ledger: Vec<Write>,
}

/// A row of the ledger: one write of one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// Its intent.
    pub intent: u32,
    /// The native value sent.
    pub value: Value,
    /// The native value as the answer told it; the sent one otherwise.
    pub native: Value,
    /// The entity's revision it stands for.
    pub rev: i32,
    /// Version, or `[sent, answered]`, by the member's clock.
    pub at: Span,
    /// What was known of the cell when the write was opened; `None` once it settled.
    pub basis: Option<Span>,
    /// Where it stands.
    pub state: WriteState,
    /// The version is exact and the answer did not tell the value: a read of that very version is ours.
    pub exact: bool,
}

/// Where a write stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteState {
    /// Sent, or about to be.
    Open,
    /// Answered: it landed.
    Settled,
    /// Refused, or shown by a read not to have landed.
    Absent,
    /// No answer: it may land until this time (ours).
    Unknown(i64),
}

/// How something was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// It was changed then.
    Edit,
    /// It stood there then.
    State,
    /// We asked.
    Read,
}

/// Whom the event names as author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Author {
    /// Us.
    Us,
    /// Somebody else, for certain.
    User,
    /// It does not tell.
    Unknown,
}

/// What an event says about one member, already mapped to fields of the entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The change it came from.
    pub change: ChangeId,
    /// How the change came.
    pub came: Came,
    /// The connections that the change is due at.
    pub targets: Box<[u32]>,
    /// [`Seen::Edit`] or [`Seen::State`].
    pub seen: Seen,
    /// Fields (by name) with their native values; empty for a hint.
    pub cells: Vec<(Box<str>, Value)>,
    /// Only a read can tell: a hint, part of a group, or a record not read yet.
    pub hint: bool,
    /// When, by the member's clock.
    pub time: Span,
    /// By whom.
    pub author: Author,
}

impl Event {
    /// The change it came from.
    pub fn asked(&self) -> Asked {
        Asked { change: self.change, came: self.came, targets: self.targets.clone() }
    }
}

/// Constants of the rules, in the unit of all times.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// One second.
    pub second: i64,
    /// How long our own writes are remembered.
    pub ledger: i64,
    /// Safety margin of the ledger: changes older than `ledger - margin` are not folded.
    pub margin: i64,
}

impl Timing {
    /// For times in microseconds, with the default ledger of 26 hours.
    pub const MICROS: Self = Self { second: 1_000_000, ledger: 26 * 3_600_000_000, margin: 3_600_000_000 };
}

/// The offset of a member's clock from ours, as far as it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Added to our time it gives the member's.
    pub offset: i64,
    /// Bound of the error, not negative.
    pub error: i64,
}

impl Clock {
    /// Our time as that CRM would show it.
    pub const fn there(self, ours: i64) -> i64 {
        ours.saturating_add(self.offset)
    }

    /// A time of that CRM as a span of ours.
    pub const fn ours(self, there: Span) -> Span {
        there.shifted(-self.offset).widened(self.error)
    }
}

impl Entity {
    /// An entity with one member that was named by an event.
    pub fn heard(uuid: Uuid, tenant: &str, object: ObjectType, connection: u32, native: &str, now: i64) -> Self {
        Self {
            uuid,
            tenant: tenant.into(),
            object,
            created: now,
            intents: 0,
            outcome: 0,
            trail: 0,
            claims: Vec::new(),
            hints: Vec::new(),
            life: Life::Live,
            joining: None,
            apart: Vec::new(),
            detached: Vec::new(),
            erased: Vec::new(),
            questions: Vec::new(),
            members: vec![Member::new(connection, Some(native), MemberState::Heard)],
            fields: Vec::new(),
        }
    }

    /// The place of a connection among the members.
    pub fn member_of(&self, connection: u32) -> Option<usize> {
        self.members.iter().position(|m| m.connection == connection)
    }

    /// The place of a field.
    pub fn field_named(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| &*f.name == name)
    }

    /// The cell of a field in a member.
    pub fn cell(&self, field: usize, member: usize) -> Option<&Cell> {
        self.fields[field].cells[member].as_ref()
    }

    /// Adds a member; every field gets an empty place for it.
    pub fn add_member(&mut self, member: Member) -> usize {
        self.members.push(member);
        for field in &mut self.fields {
            field.cells.push(None);
        }
        self.members.len() - 1
    }

    /// The connection in which the record was made, as far as is known: the one that told of it first.
    pub fn origin(&self) -> Option<u32> {
        self.members.first().map(|m| m.connection)
    }

    /// No member was read yet.
    pub const fn is_unread(&self) -> bool {
        self.fields.is_empty()
    }
}

impl Member {
    /// A member with nothing to do.
    pub fn new(connection: u32, native: Option<&str>, state: MemberState) -> Self {
        Self {
            connection,
            native: native.map(Into::into),
            state,
            reads: Vec::new(),
            floor: NO_FLOOR,
            stale: 0,
            waiting: Vec::new(),
            asked: Vec::new(),
            pending: Vec::new(),
            create: None,
            looks: Vec::new(),
            sought: false,
            into: None,
            purge: false,
            removals: Vec::new(),
        }
    }

    /// Asks for a read at `at` (ours).
    pub fn need_read(&mut self, at: i64) {
        self.reads.push(at);
    }

    /// Asks for a read that is not older than `event`; every need has its own retries.
    pub fn need_read_of(&mut self, event: Span, now: i64) {
        self.floor = self.floor.max(event.lo);
        self.stale = 0;
        self.reads.push(now);
    }

    /// When the next read is due.
    pub fn next_read(&self) -> Option<i64> {
        self.reads.iter().chain(&self.looks).min().copied()
    }

    /// A look-up by our own id is due, although the record is known.
    pub fn look_due(&self, now: i64) -> bool {
        self.looks.iter().any(|at| *at <= now)
    }
}

impl Field {
    /// A field as the first member that was read shows it.
    pub fn first(name: &str, value: Value, stamp: Span, by: By, members: usize) -> Self {
        Self {
            name: name.into(),
            value,
            stamp,
            rev: 0,
            by,
            held: None,
            flips: Vec::new(),
            past: Vec::new(),
            cells: vec![None; members],
        }
    }

    fn remember(&mut self, value: Value, by: By) {
        self.past.retain(|(v, _)| *v != value);
        if self.past.len() == PAST_VALUES {
            self.past.remove(0);
        }
        self.past.push((value, by));
    }
}

impl Cell {
    /// What a first read shows; not ours.
    pub fn first(shown: Value, at: Span, rev: i32) -> Self {
        Self {
            heard: shown.clone(),
            heard_at: at,
            shown,
            seen: at,
            rev,
            since: at.lo,
            mine: false,
            kept: false,
            early: false,
            refused: NO_REV,
            ledger: Vec::new(),
        }
    }

    /// Nobody can say yet what stands there, so nothing is written over it.
    pub const fn is_doubtful(&self, peer: fold::Peer, now: i64) -> bool {
        self.early && peer.clock.there(now) < self.seen.hi.saturating_add(peer.read_lag)
    }

    /// A write of this cell is open.
    pub fn is_open(&self) -> bool {
        self.ledger.iter().any(|w| w.state == WriteState::Open)
    }
}
