//! What a person is to decide about a record, and what a choice does. Nothing is written over an open question.
//!
//! The document is the truth; the store's table of questions only lists them. A question is numbered by the engine when
//! it is first committed. The surprising thing: a choice is an edit like any other, so an edit that the person had not
//! seen is not made on top of it and asks again.

use headgate_schemas::{ChangeId, Span, Value};
use serde::{Deserialize, Serialize};

use super::decision::{Decision, Ground, Ruling, Side};
use super::fold::Context;
use super::{Author, Entity};
use crate::conflict::By;
use crate::store::EntityId;

/// The number of a question that was not committed yet.
pub const UNNUMBERED: i64 = 0;

/// The revision of a part of a change whose place a newer value of the same member took while the field was held.
pub(super) const REPLACED: i32 = -2;

/// Something that only a person may decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Its number, or [`UNNUMBERED`].
    pub id: i64,
    /// When it arose, by our clock.
    pub since: i64,
    /// Rises with everything that changes what there is to choose from.
    pub edition: u32,
    /// What it is about.
    pub about: About,
}

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum About {
    /// Which value a field is to have. The candidates stand in [`super::Field::held`].
    Field {
        /// The field.
        name: Box<str>,
        /// Why nobody but a person may say.
        cause: Cause,
    },
    /// Whether this entity and another one are one person or company. Nothing is made elsewhere until then.
    Match {
        /// The other one.
        other: EntityId,
        /// By what they are alike: `email`, `phone`, …
        by: Box<str>,
        /// How sure it is, of 100.
        confidence: u8,
    },
    /// Which of the records that stand in a CRM without our id is this entity's, if any. None is made there until then.
    Found {
        /// The connection.
        connection: u32,
        /// Their ids there.
        natives: Vec<Box<str>>,
    },
    /// Which of two records in one CRM stays linked.
    Surplus {
        /// The connection.
        connection: u32,
        /// The one that was set aside.
        native: Box<str>,
    },
    /// Whether the other records go, because one was deleted that did not hold the newest values, or because the others
    /// show edits that nobody knew.
    Delete {
        /// The connection whose record was deleted.
        connection: u32,
    },
    /// Whether a link's records may go, because unusually many of them were deleted within an hour.
    Brake {
        /// The link.
        link: Box<str>,
        /// How many.
        going: u32,
    },
}

impl Question {
    /// A question that has no number yet.
    pub const fn new(about: About, now: i64) -> Self {
        Self { id: UNNUMBERED, since: now, edition: 1, about }
    }
}

impl About {
    /// The kind of question, as the API and the store name it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Field { .. } => "field",
            Self::Match { .. } | Self::Found { .. } => "match",
            Self::Surplus { .. } => "surplus",
            Self::Delete { .. } => "delete",
            Self::Brake { .. } => "brake",
        }
    }

    /// What it can be answered with, in the words of the API.
    pub const fn choices(&self) -> &'static str {
        match self {
            Self::Field { .. } => "member, keep, or value",
            Self::Match { .. } => "link, or separate",
            Self::Found { .. } => "record with the id of one of those found, or separate",
            Self::Surplus { .. } => "record with the id of the one that was set aside, keep, or separate",
            Self::Delete { .. } | Self::Brake { .. } => "delete, or keep",
        }
    }

    /// What exactly it asks: the field, the key, the record, the link. Never a value.
    pub fn subject(&self) -> &str {
        match self {
            Self::Field { name, .. } => name,
            Self::Match { by, .. } => by,
            Self::Found { natives, .. } => natives.first().map_or("", |native| native),
            Self::Surplus { native, .. } => native,
            Self::Delete { .. } => "",
            Self::Brake { link, .. } => link,
        }
    }
}

/// Why a field is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The policy of the field asks.
    Policy,
    /// Two systems undo each other's values.
    Fight,
    /// The edit would reopen what is won or lost.
    Closed,
    /// The value has no counterpart in the other CRMs.
    UnknownValue,
}

impl Cause {
    /// The name in the API and in the decision log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "manual",
            Self::Fight => "fight",
            Self::Closed => "closed",
            Self::UnknownValue => "unknown_value",
        }
    }
}

/// What one side would have a held field be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Whose it is.
    pub by: By,
    /// The canonical value.
    pub value: Value,
    /// When it was set, by our clock.
    pub stamp: Span,
    /// The change that brought it, where one did.
    pub change: Option<ChangeId>,
}

/// A person's choice, already in the engine's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// The candidate of a side.
    Of(By),
    /// What is in force now.
    Force,
    /// A value that the person typed.
    Value(Value),
}

/// Why a choice cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// That side has no candidate.
    #[error("that member has no candidate here; choose one that is shown, or give a value")]
    NoCandidate,
    /// It is not of the field's type.
    #[error(
        "the value does not fit the type of the field; give a number, a date (YYYY-MM-DD), true or false as it needs"
    )]
    Malformed,
    /// No CRM of the link has a name for the value.
    #[error("no other CRM of the link has a name for this value; give one that the mapping knows")]
    Unmapped,
}

impl Entity {
    /// Asks a person about field `f`: from now on nothing of it is written. The value in force is a candidate, too,
    /// unless the edit comes from the same side.
    pub(super) fn hold(&mut self, f: usize, edit: Candidate, cause: Cause, now: i64) {
        let field = &mut self.fields[f];
        let force = Candidate { by: field.by, value: field.value.clone(), stamp: field.stamp, change: None };
        field.held = Some(if force.by == edit.by { vec![edit] } else { vec![force, edit] });
        let about = About::Field { name: field.name.clone(), cause };
        self.questions.push(Question { id: UNNUMBERED, since: now, edition: 1, about });
    }

    /// A newer edit of a side of a held field takes the place of that side's candidate.
    pub(super) fn replace_candidate(&mut self, f: usize, edit: Candidate) {
        let by = edit.by;
        let Some(held) = self.fields[f].held.as_mut() else { return };
        match held.iter_mut().find(|c| c.by == by) {
            Some(candidate) => *candidate = edit,
            None => held.push(edit),
        }
        if let Some(question) = self.question_of(f) {
            self.questions[question].edition += 1;
        }
        for part in self.parts_of(f).filter(|(source, _)| By::Member(*source) == by).map(|(_, part)| part) {
            *part = REPLACED;
        }
    }

    /// Whether a person is asked which record this entity's is elsewhere.
    pub fn asks_about_match(&self) -> bool {
        self.questions.iter().any(|q| matches!(q.about, About::Match { .. } | About::Found { .. }))
    }

    /// The question about field `f`.
    pub fn question_of(&self, f: usize) -> Option<usize> {
        let name = &self.fields[f].name;
        self.questions.iter().position(|q| matches!(&q.about, About::Field { name: asked, .. } if asked == name))
    }

    /// The revisions of field `f` that changes wait for, with the changes' sources.
    fn parts_of(&mut self, f: usize) -> impl Iterator<Item = (u32, &mut i32)> {
        let waiting = self.members.iter_mut().flat_map(|m| &mut m.pending);
        waiting.flat_map(move |p| {
            let source = p.source;
            let of = move |(field, rev): &'_ mut (u8, i32)| usize::from(*field) == f && *rev != REPLACED;
            p.parts.iter_mut().filter_map(move |part| of(part).then_some((source, &mut part.1)))
        })
    }

    /// A person decides a held field. The log's row is returned.
    ///
    /// # Errors
    /// When there is no such candidate, or no target could be given the value.
    pub fn choose(&mut self, f: usize, chosen: Chosen, cx: &Context<'_>) -> Result<Decision, Unsuitable> {
        let field = &self.fields[f];
        let plan = cx.link.field(&field.name);
        let held = field.held.clone().unwrap_or_default();
        let chosen = match chosen {
            Chosen::Force => Candidate { by: field.by, value: field.value.clone(), stamp: field.stamp, change: None },
            Chosen::Of(by) => held.iter().find(|c| c.by == by).ok_or(Unsuitable::NoCandidate)?.clone(),
            Chosen::Value(value) => {
                let value = plan.typed(value).ok_or(Unsuitable::Malformed)?;
                Candidate { by: By::Person, value, stamp: Span::point(cx.now), change: None }
            }
        };
        if !chosen.value.is_empty() && !plan.is_writable_anywhere(&chosen.value) {
            return Err(Unsuitable::Unmapped);
        }
        let force = Side { by: field.by, value: field.value.clone(), stamp: field.stamp };
        let decision = Decision {
            field: field.name.clone(),
            rule: Ground::Person,
            ruling: Ruling::Chosen,
            edit: Side { by: chosen.by, value: chosen.value.clone(), stamp: chosen.stamp },
            force,
            author: Author::User,
            change: chosen.change,
        };
        self.credit(f, &held, &chosen.value);
        self.resolve(f, chosen.value, cx.now);
        Ok(decision)
    }

    /// Changes whose value was chosen wait for the revision that the choice makes; those of other values lost.
    fn credit(&mut self, f: usize, held: &[Candidate], chosen: &Value) {
        let rev = self.fields[f].rev;
        let won = |source: u32| held.iter().any(|c| c.by == By::Member(source) && c.value == *chosen);
        for (source, part) in self.parts_of(f) {
            *part = if won(source) { rev + 1 } else { (*part).min(rev) };
        }
    }

    /// Puts a person's value in force.
    pub fn resolve(&mut self, f: usize, value: Value, now: i64) {
        if let Some(question) = self.question_of(f) {
            self.questions.remove(question);
        }
        let field = &mut self.fields[f];
        field.value = value;
        field.rev += 1;
        field.by = By::Person;
        field.held = None;
        field.stamp = Span::point(now);
    }
}
