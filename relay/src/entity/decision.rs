//! What was decided between two values of a field, by which rule and for whom: one row of the decision log each.
//!
//! It holds field values, so it is never printed: the engine seals the values before they are stored. The surprising
//! thing: a choice that was no conflict (an edit made on top of the value in force) has no row.

use headgate_schemas::{ChangeId, Span, Value};

use super::{Author, Cause};
use crate::conflict::{By, Verdict};

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The field.
    pub field: Box<str>,
    /// Why it came out so.
    pub rule: Ground,
    /// How it came out.
    pub ruling: Ruling,
    /// The side that came.
    pub edit: Side,
    /// The side that was in force.
    pub force: Side,
    /// Whom the event names as author of the edit.
    pub author: Author,
    /// The change that brought the edit, where one did.
    pub change: Option<ChangeId>,
}

/// One side of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Who.
    pub by: By,
    /// What: canonical.
    pub value: Value,
    /// When, by our clock.
    pub stamp: Span,
}

/// Why a decision came out as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The policy of the field, by its name.
    Policy(&'static str),
    /// Something that only a person may decide.
    Asks(Cause),
    /// A person chose.
    Person,
    /// A write whose answer was lost showed up, or a person typed the same value; which of the two cannot be told.
    LateLanding,
    /// A read told of the edit, and it was made some time since the record was last seen: nobody can say whether before the
    /// value in force was set elsewhere. It counts as made on top of it, because the record was known to show that value.
    FoundByRead,
    /// The target answered our value with success and shows its own.
    TargetKept,
    /// Records were merged by somebody who saw both, and the survivor's value stays.
    Merge,
    /// The target refused a write because the record had moved since it was read.
    Strict,
}

impl Ground {
    /// The name in the log and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy(name) => name,
            Self::Asks(cause) => cause.as_str(),
            Self::Person => "person",
            Self::LateLanding => "late_landing",
            Self::FoundByRead => "found_by_read",
            Self::TargetKept => "target_kept",
            Self::Merge => "merge",
            Self::Strict => "strict",
        }
    }
}

/// How a decision came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The edit is in force.
    Edit,
    /// The value that was in force stays, and is written over the edit.
    Force,
    /// Neither: a person is asked.
    Held,
    /// A person's choice is in force.
    Chosen,
    /// What stands in the target is written over.
    Repaired,
    /// What stands in the target is left there until the field changes.
    Kept,
    /// Nothing was written; the record is read and decided again.
    Again,
}

impl Ruling {
    /// The name in the log and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edit => "edit",
            Self::Force => "force",
            Self::Held => "held",
            Self::Chosen => "chosen",
            Self::Repaired => "repaired",
            Self::Kept => "kept",
            Self::Again => "again",
        }
    }
}

impl From<Verdict> for Ruling {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Take => Self::Edit,
            Verdict::Lose => Self::Force,
            Verdict::Hold => Self::Held,
        }
    }
}
