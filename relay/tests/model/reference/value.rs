//! The words of the model: fields, values, times of other people's clocks, and what travels between a CRM and a relay.
//!
//! Knows neither CRMs nor rules. All times are milliseconds of the virtual clock. Values are single letters on purpose:
//! four of them are enough to make two writes look alike by accident, which is what the rules must survive.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// One second.
pub const SEC: i64 = 1_000;
/// One minute.
pub const MIN: i64 = 60 * SEC;
/// One hour.
pub const HOUR: i64 = 60 * MIN;

/// A field of the record; `G` is a group of two columns that is decided as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// A plain field.
    X,
    /// Another plain field.
    Y,
    /// A group, like an amount and its currency.
    G,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X => "x",
            Self::Y => "y",
            Self::G => "g",
        })
    }
}

/// A half of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Half {
    /// The first column.
    First,
    /// The second column.
    Second,
}

/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// A plain field's value, or one half of a group.
    Text(char),
    /// Both halves of a group.
    Pair(char, char),
}

impl Value {
    /// The value every record starts with.
    pub const fn initial(field: Field) -> Self {
        match field {
            Field::X | Field::Y => Self::Text('a'),
            Field::G => Self::Pair('a', 'a'),
        }
    }

    /// The value a user types when he means this letter.
    pub const fn typed(field: Field, letter: char) -> Self {
        match field {
            Field::X | Field::Y => Self::Text(letter),
            Field::G => Self::Pair(letter, letter),
        }
    }

    /// One half of a pair; plain text is its own half.
    pub const fn half(self, half: Half) -> Self {
        match (self, half) {
            (Self::Text(a) | Self::Pair(a, _), Half::First) | (Self::Text(a) | Self::Pair(_, a), Half::Second) => {
                Self::Text(a)
            }
        }
    }

    /// This pair with one half replaced.
    pub const fn with_half(self, half: Half, new: Self) -> Self {
        match (self, half, new) {
            (Self::Pair(_, b), Half::First, Self::Text(a)) => Self::Pair(a, b),
            (Self::Pair(a, _), Half::Second, Self::Text(b)) => Self::Pair(a, b),
            (whole, _, _) => whole,
        }
    }

    /// Whether the two columns of a group say different things. Users and CRMs always set both.
    pub const fn is_mixed(self) -> bool {
        matches!(self, Self::Pair(a, b) if a != b)
    }

    /// Plain text in capitals; a group has no case.
    pub const fn upper(self) -> Self {
        match self {
            Self::Text(a) => Self::Text(a.to_ascii_uppercase()),
            Self::Pair(..) => self,
        }
    }

    /// Plain text in small letters; a group has no case.
    pub const fn lower(self) -> Self {
        match self {
            Self::Text(a) => Self::Text(a.to_ascii_lowercase()),
            Self::Pair(..) => self,
        }
    }

    /// The entry of the pick list that stands for this value: `a` and `b` share one.
    pub const fn to_pick_list(self) -> Self {
        match self {
            Self::Text('a' | 'b') => Self::Text('P'),
            Self::Text('c') => Self::Text('Q'),
            Self::Text(_) | Self::Pair(..) => self,
        }
    }

    /// The canonical value of a native one: pick-list entries are mapped back, everything else is itself.
    pub const fn inbound(self) -> Self {
        match self {
            Self::Text('P') => Self::Text('a'),
            Self::Text('Q') => Self::Text('c'),
            Self::Text(_) | Self::Pair(..) => self,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(a) => write!(f, "{a}"),
            Self::Pair(a, b) => write!(f, "{a}{b}"),
        }
    }
}

/// A time known to lie in `[lo, hi)`: a version with its resolution, or the span of a call without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The earliest it can be.
    pub lo: i64,
    /// The first moment it cannot be.
    pub hi: i64,
}

impl Span {
    /// The tick of a clock with this resolution that holds `at`.
    pub const fn tick(at: i64, resolution: i64) -> Self {
        let lo = at - at.rem_euclid(resolution);
        Self { lo, hi: lo + resolution }
    }

    /// Certainly later than the other.
    pub const fn after(self, other: Self) -> bool {
        self.lo >= other.hi
    }

    /// Neither is certainly later.
    pub const fn ties(self, other: Self) -> bool {
        self.lo < other.hi && other.lo < self.hi
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{},{})", self.lo, self.hi)
    }
}

/// Whose hand set a value. Relays never look at it: it is how the judge follows an edit through the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hand {
    /// The relay, or nobody since the record was made.
    Us,
    /// An automation inside the CRM.
    Automation,
    /// The user's edit with this number.
    User(u32),
}

impl fmt::Display for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Us => f.write_str("us"),
            Self::Automation => f.write_str("automation"),
            Self::User(number) => write!(f, "user #{number}"),
        }
    }
}

/// Who a CRM says made a change, where it says so at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The account of the relay.
    Us,
    /// Anybody else.
    User,
}

/// What one reported value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The field was changed to it at that time.
    Edit,
    /// The record stood like this at that time, whoever changed what.
    State,
    /// Something changed; no value is told.
    Hint,
    /// The relay asked and this was the answer. Never the kind of an event.
    Read,
}

/// One value as it stands in a CRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// Which field.
    pub field: Field,
    /// Its native value.
    pub value: Value,
    /// Who put it there; for the judge only.
    pub hand: Hand,
}

/// One value of an event; with `half` set it is one column of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reported {
    /// What is said to stand in which field.
    pub cell: Stored,
    /// Which column of the group, if the event tells only one.
    pub half: Option<Half>,
}

/// Tells repeats from news, as the dedup key of a webhook does. Where a CRM sends the state at delivery the body
/// belongs to the identity, since two states may share one second and one delivery id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeId {
    /// Minted by the sender.
    pub number: u64,
    /// Hash of version and body for state events, else 0.
    pub body: u64,
}

impl ChangeId {
    /// The identity of a delivery that carries its body.
    pub fn of_body(number: u64, time: Span, cells: &[Reported]) -> Self {
        let mut hasher = DefaultHasher::new();
        (time, cells).hash(&mut hasher);
        Self { number, body: hasher.finish() }
    }
}

/// An event as a relay gets it.
#[derive(Clone, Debug)]
pub struct Change {
    /// What tells repeats apart.
    pub id: ChangeId,
    /// Index of the CRM, which is also its rank.
    pub member: usize,
    /// What the values mean.
    pub kind: Kind,
    /// The values; empty for a hint.
    pub cells: Vec<Reported>,
    /// When, in the CRM's clock.
    pub time: Span,
    /// Author mark, where the CRM sends one.
    pub author: Option<Author>,
}

impl Change {
    /// Who set its values.
    pub fn hands(&self) -> Vec<Hand> {
        self.cells.iter().map(|reported| reported.cell.hand).collect()
    }
}

/// A whole record read from a CRM.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Every mapped field.
    pub cells: Vec<Stored>,
    /// Version of the record, in the CRM's clock; an upper bound for each field.
    pub version: Span,
    /// The precondition a strict write may name.
    pub etag: u64,
    /// When it was asked, in our clock. What it shows may be older than that, where reads come from a replica.
    pub asked: i64,
}

impl Snapshot {
    /// Who set its values.
    pub fn hands(&self) -> Vec<Hand> {
        self.cells.iter().map(|cell| cell.hand).collect()
    }
}

/// The answer to a write.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The precondition failed; nothing was written.
    Refused,
    /// It was carried out.
    Written {
        /// What stands there now, where the CRM tells.
        stored: Option<Vec<Stored>>,
        /// The version it has, where the CRM tells.
        version: Option<Span>,
    },
}

/// The values of a list of cells as a trace shows them.
pub struct Listed<'a>(pub &'a [Stored]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, cell) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { " " };
            write!(f, "{comma}{}={} ({})", cell.field, cell.value, cell.hand)?;
        }
        Ok(())
    }
}
