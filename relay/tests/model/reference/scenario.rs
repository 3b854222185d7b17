//! What a scenario is made of: CRMs and their habits, users, faults, policy, guard, and which ends count as good.
//!
//! Only the vocabulary; the scenarios themselves stand in `catalogue`. What a CRM makes of a value is said here, once,
//! for the CRM that stores it and for the judge.

use super::value::{Field, Value};

/// How a CRM tells of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One event per changed field, with value and time.
    Field,
    /// "This record changed", no values.
    Hint,
    /// The whole record as it stands when the message is sent, not when it was changed.
    State,
}

/// What the answer to a write tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// Success and nothing else.
    Nothing,
    /// The version of the record.
    Version,
    /// The version and what now stands in the fields.
    Values,
}

/// What a CRM stores when a value is written over another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The value.
    Verbatim,
    /// Its capitals.
    Upper,
    /// An entry of a pick list; two values share one entry.
    PickList,
    /// The value, except that `c` is answered with success and not stored.
    RefusesC,
}

impl Form {
    /// What stands there after writing `new` over `old`.
    pub fn stores(self, new: Value, old: Value) -> Value {
        match self {
            Self::Verbatim => new,
            Self::Upper => new.upper(),
            Self::PickList => new.to_pick_list(),
            Self::RefusesC => {
                if new == Value::Text('c') {
                    old
                } else {
                    new
                }
            }
        }
    }
}

/// An automation inside a CRM that prefers its own spelling and applies it after every write of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Writes capitals.
    Upper,
    /// Writes small letters.
    Lower,
}

impl Flow {
    /// The spelling this automation wants.
    pub const fn spells(self, value: Value) -> Value {
        match self {
            Self::Upper => value.upper(),
            Self::Lower => value.lower(),
        }
    }
}

/// Who wins a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The later stamp.
    LastWrite,
    /// CRM 0.
    Ours,
    /// Any CRM but 0.
    Theirs,
    /// The CRM that ranks highest for this field.
    FieldPriority,
    /// A person.
    Manual,
}

/// What a relay does before it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    None,
    /// Reads the record first.
    Read,
    /// Reads it and names its version as the precondition, where the CRM can check one.
    Strict,
}

/// Which ends are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Everybody ends on the last edit.
    Right,
    /// Everybody ends equal, or the difference is in the open.
    Equal,
    /// Equal, and never on a value older than the last edit of CRM 0.
    Ours,
    /// Equal, and never on a value older than the last edit of another CRM than 0.
    Theirs,
    /// Equal, with nothing held and nothing kept.
    KeptEdits,
    /// Equal, and no write moved a member's value back to an older one of the same member.
    Order,
}

/// One CRM of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct CrmSpec {
    /// How it tells of changes.
    pub style: Style,
    /// Resolution of its clock.
    pub resolution: i64,
    /// How far its clock is ahead of ours.
    pub skew: i64,
    /// How old the answer to a read may be.
    pub lag: i64,
    /// What the answer to a write tells.
    pub tells: Tells,
    /// What it makes of a value.
    pub form: Form,
    /// Its automation, if it has one.
    pub flow: Option<Flow>,
    /// Whether its events name their author.
    pub marks: bool,
    /// Whether it checks preconditions.
    pub strict: bool,
}

/// How likely each end of a call is, as weights.
#[derive(Clone, Copy, Debug)]
pub struct Fates {
    /// Carried out, and the answer arrives.
    pub answered: u32,
    /// Carried out, and the answer does not arrive.
    pub lost: u32,
    /// Not carried out, and nobody says so.
    pub never: u32,
    /// Carried out minutes after the send deadline, without an answer.
    pub late: u32,
    /// Carried out minutes after the send deadline, and the answer arrives.
    pub zombie: u32,
}

/// One scenario. Delays are lists of spans: one is drawn, then a time uniform in it, which gives a heavy tail.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, as in commands.
    pub name: &'static str,
    /// The CRMs; index = rank.
    pub crms: &'static [CrmSpec],
    /// The mapped fields.
    pub fields: &'static [Field],
    /// Who wins conflicts.
    pub policy: Policy,
    /// What precedes a write.
    pub guard: Guard,
    /// How many edits users make.
    pub edits: u32,
    /// Time between edits.
    pub gaps: &'static [i64],
    /// Time from a change to its delivery.
    pub delay: &'static [i64],
    /// Chance of a second copy of an event; a third of it for a third copy.
    pub repeat: f64,
    /// How much later a copy comes.
    pub repeat_delay: &'static [i64],
    /// Chance that an event is never delivered.
    pub lose: f64,
    /// Ends of write calls.
    pub fates: Fates,
    /// Chance that a read fails.
    pub fail: f64,
    /// Time from a wake-up to the work.
    pub send_delay: &'static [i64],
    /// Time from our write to the automation's.
    pub flow_delay: &'static [i64],
    /// How often a poller reads some CRM as a second channel.
    pub polls: u32,
    /// Whether everything is read again two days later.
    pub reconcile: bool,
    /// Whether the relay knows the pick list.
    pub mapped: bool,
    /// Whether every edit types a letter of its own, so that a value names its edit and the order can be judged.
    pub distinct: bool,
    /// Which ends are good.
    pub want: Want,
}

impl Scenario {
    /// What a relay wants to see in this CRM for a canonical value.
    pub fn project(&self, member: usize, value: Value) -> Value {
        if self.mapped && self.crms[member].form == Form::PickList { value.to_pick_list() } else { value }
    }

    /// How strongly this policy prefers a member for a field, before any clock is asked.
    pub fn preference(&self, member: usize, field: Field) -> usize {
        match self.policy {
            Policy::LastWrite | Policy::Manual => 0,
            Policy::Ours => usize::from(member == 0),
            Policy::Theirs => usize::from(member != 0),
            Policy::FieldPriority => {
                let top = self.fields.iter().position(|&f| f == field).unwrap_or(0);
                (member + self.crms.len() - top) % self.crms.len()
            }
        }
    }
}
