//! What the reference relay remembers: the entity's fields, what is known of each member, and the ledger of its writes.
//!
//! Data only, all of it public, so that another implementation can be compared with it after each step. The surprising
//! thing: two clocks live side by side. `seen`, `heard_at`, `since` and a row's `at` are in the member's own clock,
//! everything else is in ours.

use std::collections::BTreeMap;

use super::crm::Crm;
use super::rules::{Rule, Rules};
use super::scenario::Scenario;
use super::value::{Change, Field, HOUR, Hand, Reported, Snapshot, Span, Value};
use super::world::{LAG, OUTSIDE, World};

/// How long a closed ledger row is kept.
pub const LEDGER: i64 = 26 * HOUR;
/// How often a read that was too old or too early is made again for one need.
pub const RETRIES: u32 = 6;
/// A floor below every version: no event asks for a younger answer.
pub const NO_FLOOR: i64 = -24 * HOUR;

/// How a change, or one value of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet; it waits for the answer to one of our writes.
    Open,
    /// It is the value in force now.
    Taken,
    /// It says what is in force anyway.
    Agreed,
    /// It is our own write.
    Echo,
    /// Nothing new.
    Known,
    /// It lost a conflict.
    Lost,
    /// A person will decide.
    Held,
    /// As old as what is known of others' edits, and different; a read decides what the member shows.
    Tie,
    /// Decided by a read.
    Read,
    /// Older than the ledger; a read decides.
    Aged,
    /// A read older than what is known.
    Stale,
    /// A read made too soon after a tie.
    Early,
}

impl Outcome {
    /// Whether a read with this outcome must be made again.
    pub const fn wants_another_read(self) -> bool {
        matches!(self, Self::Stale | Self::Early)
    }
}

/// One field of the entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityField {
    /// The value in force, canonical.
    pub value: Value,
    /// When it was set, in our clock.
    pub stamp: Span,
    /// Counts what was in force.
    pub rev: u32,
    /// The member that set it, or [`OUTSIDE`].
    pub by: usize,
    /// The candidates by member while a person must decide, oldest first.
    pub held: Option<Vec<(usize, Value)>>,
    /// When the value returned to what it was before another member changed it, in our clock.
    pub flips: Vec<i64>,
    /// Values that were in force, with the member that set them.
    pub past: BTreeMap<Value, usize>,
}

/// One field of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The native value last known to stand there.
    pub shown: Value,
    /// The version of that knowledge.
    pub seen: Span,
    /// The revision that `shown` stands for; none if it is no revision of the entity.
    pub rev: Option<u32>,
    /// From when `rev` can have been known there.
    pub since: i64,
    /// Whether `shown` was written by us.
    pub mine: bool,
    /// Whether `shown` is what the member kept instead of ours.
    pub kept: bool,
    /// The newest value known not to be ours.
    pub heard: Value,
    /// When that was.
    pub heard_at: Span,
    /// A read showed something else, too early to be believed, or an event that ties with the newest one heard did.
    pub early: bool,
    /// Our writes, oldest first.
    pub ledger: Vec<Write>,
}

/// The state of a ledger row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowState {
    /// The call is out.
    Open,
    /// Answered.
    Settled,
    /// Certainly not carried out, and never will be.
    Absent,
    /// No answer until the send deadline.
    Unknown,
}

/// One write of ours to one field of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The intent it belongs to.
    pub intent: u64,
    /// The native value that was sent.
    pub value: Value,
    /// The native value that stands there since, as far as the answer told.
    pub native: Value,
    /// The revision it carries.
    pub rev: u32,
    /// Its version, or the span of the call.
    pub at: Span,
    /// Version of the knowledge it was opened on.
    pub basis: Span,
    /// Whether the version names this write and no other.
    pub exact: bool,
    /// How far it got.
    pub state: RowState,
    /// Until when an unknown call may still be carried out, in our clock.
    pub until: i64,
}

/// What is known of one CRM's record.
#[derive(Clone, Debug)]
pub struct Member {
    /// How far its clock is ahead of ours, as measured.
    pub offset: i64,
    /// The error of that.
    pub error: i64,
    /// Its mapped fields.
    pub cells: BTreeMap<Field, Cell>,
    /// A read or a write is in flight.
    pub busy: bool,
    /// A wake-up is on its way.
    pub kicked: bool,
    /// When reads are due, in our clock.
    pub reads: Vec<i64>,
    /// A read must be younger than this, in the member's clock.
    pub floor: i64,
    /// How often the current need has been read in vain.
    pub stale: u32,
    /// Changes behind an open intent.
    pub waiting: Vec<Change>,
    /// The precondition the last read gave.
    pub etag: u64,
}

/// One value to fold.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Where it was seen.
    pub member: usize,
    /// In which field.
    pub field: Field,
    /// The native value.
    pub value: Value,
    /// When, in the member's clock.
    pub time: Span,
    /// Whose hand; carried for the judge, never asked.
    pub hand: Hand,
}

impl Snapshot {
    /// Every value of a read, under the version of the record.
    pub fn sightings(&self, member: usize) -> impl Iterator<Item = Sighting> {
        let time = self.version;
        self.cells.iter().map(move |cell| Sighting {
            member,
            field: cell.field,
            value: cell.value,
            time,
            hand: cell.hand,
        })
    }
}

/// Everything the reference relay remembers.
#[derive(Clone, Debug)]
pub struct State {
    /// The world's rules of the game: policy, guard, mapping.
    pub scenario: &'static Scenario,
    /// Which rules hold.
    pub rules: Rules,
    /// The CRMs; index = rank.
    pub members: Vec<Member>,
    /// The entity.
    pub fields: BTreeMap<Field, EntityField>,
    /// How many conflicts were decided or held.
    pub conflicts: u32,
}

impl State {
    /// The state after the first import of every member.
    pub fn import(world: &mut World, rules: Rules) -> Self {
        let scenario = world.scenario;
        let members = (0..world.crms.len())
            .map(|index| {
                let (offset, error) = if rules.has(Rule::Offset) { world.measured_offset(index) } else { (0, 0) };
                Member::new(&world.crms[index], offset, error)
            })
            .collect();
        let fields = scenario.fields.iter().map(|&field| (field, EntityField::new(Value::initial(field)))).collect();
        Self { scenario, rules, members, fields, conflicts: 0 }
    }

    /// What this member should show for the value in force, if the field is mapped.
    pub fn wanted(&self, member: usize, field: Field) -> Option<Value> {
        self.fields.get(&field).map(|entity| self.scenario.project(member, entity.value))
    }

    /// One value of an event. Half a group is merged with the other half as last shown; that is asked for only where
    /// the rule that reads the group instead is off.
    pub fn sighting(&self, change: &Change, reported: &Reported) -> Sighting {
        let cell = reported.cell;
        let shown = self.members[change.member].cells.get(&cell.field).map(|known| known.shown);
        let value = match (reported.half, shown) {
            (Some(half), Some(shown)) => shown.with_half(half, cell.value),
            _ => cell.value,
        };
        Sighting { member: change.member, field: cell.field, value, time: change.time, hand: cell.hand }
    }

    /// Forgets closed ledger rows of one cell that are older than the ledger is kept; says how many went.
    pub fn prune(&mut self, member: usize, field: Field, now: i64) -> usize {
        let member = &mut self.members[member];
        let here = member.here(now);
        let Some(cell) = member.cells.get_mut(&field) else { return 0 };
        let before = cell.ledger.len();
        cell.ledger.retain(|row| row.is_undecided() || here - row.at.hi < LEDGER);
        before - cell.ledger.len()
    }
}

impl EntityField {
    fn new(value: Value) -> Self {
        let stamp = Span { lo: -HOUR, hi: -HOUR + 1 };
        Self { value, stamp, rev: 0, by: OUTSIDE, held: None, flips: Vec::new(), past: BTreeMap::new() }
    }
}

impl Member {
    fn new(crm: &Crm, offset: i64, error: i64) -> Self {
        let (imported, version) = crm.state();
        let cells = imported.iter().map(|r| (r.cell.field, Cell::new(r.cell.value, version))).collect();
        Self {
            offset,
            error,
            cells,
            busy: false,
            kicked: false,
            reads: Vec::new(),
            floor: NO_FLOOR,
            stale: 0,
            waiting: Vec::new(),
            etag: 0,
        }
    }

    /// A moment of our clock as this member would show it.
    pub const fn here(&self, now: i64) -> i64 {
        now + self.offset
    }

    /// A time of this member in our clock, as wide as the offset is uncertain.
    pub const fn ours(&self, time: Span) -> Span {
        Span { lo: time.lo - self.offset - self.error, hi: time.hi - self.offset + self.error }
    }

    /// Notes that a read is due after `delay`. An idle member must be woken again: it may be needed earlier than the
    /// wake-up that is on its way.
    pub fn need_read(&mut self, now: i64, delay: i64) {
        self.reads.push(now + delay.max(0));
        self.kicked = self.kicked && self.busy;
    }

    /// Whether an answer of this version is older than an event that asked for a read.
    pub const fn is_below_floor(&self, version: Span) -> bool {
        version.hi <= self.floor
    }

    /// After a read: whether it must be made again, which has a limit per need. A need that is met, or left to the
    /// reconciler, takes its floor with it.
    pub const fn counts_again(&mut self, unfit: bool) -> bool {
        let again = unfit && self.stale < RETRIES;
        if again {
            self.stale += 1;
        } else {
            (self.stale, self.floor) = (0, NO_FLOOR);
        }
        again
    }

    /// Whether a read is due.
    pub fn is_read_due(&self, now: i64) -> bool {
        self.reads.iter().any(|&at| at <= now)
    }
}

impl Cell {
    fn new(value: Value, version: Span) -> Self {
        Self {
            shown: value,
            seen: version,
            rev: Some(0),
            since: version.lo,
            mine: false,
            kept: false,
            heard: value,
            heard_at: version,
            early: false,
            ledger: Vec::new(),
        }
    }

    /// Whether nobody can say yet what stands there. `here` is the member's clock.
    pub const fn is_doubtful(&self, here: i64) -> bool {
        self.early && here < self.seen.hi + LAG
    }

    /// The row of an intent.
    pub fn row(&mut self, intent: u64) -> Option<&mut Write> {
        self.ledger.iter_mut().find(|row| row.intent == intent)
    }
}

impl Write {
    /// Open or unknown: it may still be carried out, so it is never forgotten.
    pub const fn is_undecided(&self) -> bool {
        matches!(self.state, RowState::Open | RowState::Unknown)
    }
}
