//! The history of one record: what was heard, read, written, decided, asked and refused, in the order of time, from the
//! trail and from the tables beside it. Values of decisions are opened here, because this is the answer to somebody who
//! asks for them; they go nowhere else.

use headgate_schemas::{ChangeKind, Timestamp};
use serde::Serialize;

use super::conflicts::{DecisionView, SideView};
use super::history::OutcomeView;
use super::letters::Letter;
use super::records::Names;
use crate::entity::Author;
use crate::store::{ListedQuestion, QuestionEnd, TrailRow};
use crate::trail::{Happened, Met};

/// One line of the history.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) at: Timestamp,
    #[serde(flatten)]
    event: Event,
}

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    /// A change was taken.
    Heard {
        connection: String,
        change: String,
        kind: ChangeKind,
        fields: Vec<String>,
        author: &'static str,
        /// By the CRM's clock.
        #[serde(skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
        late: bool,
        /// It came so many times more.
        repeats: u32,
        result: &'static str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        taken: Vec<String>,
    },
    /// A change that had to wait was decided.
    Decided {
        connection: String,
        change: String,
        result: &'static str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        taken: Vec<String>,
    },
    /// A CRM was asked.
    Read {
        connection: String,
        by: &'static str,
        result: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        took_ms: f64,
    },
    /// A CRM was written.
    Wrote {
        connection: String,
        deed: &'static str,
        fields: Vec<String>,
        result: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        took_ms: f64,
    },
    /// A record came, went, or changed its place.
    Record { connection: String, id: Option<String>, state: &'static str },
    /// The entity took another turn.
    Turn { life: &'static str },
    /// Another entity became part of this one.
    Joined { entity: i64 },
    /// A change ended at a target.
    Outcome { connection: String, change: String, outcome: &'static str, took_ms: f64 },
    /// Something was decided between two values.
    Decision {
        n: i64,
        field: String,
        rule: String,
        ruling: String,
        edit: SideView,
        in_force: SideView,
        author: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        change: Option<String>,
    },
    /// A person was asked.
    Asked { conflict: i64, kind: String, subject: String },
    /// A question ended: a person answered, or it went away by itself.
    Answered {
        conflict: i64,
        kind: String,
        subject: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        choice: String,
    },
    /// A CRM refused something for good.
    Refused { connection: String, deadletter: i64, state: String, code: String, reason: String, fields: Vec<String> },
}

/// Which part of a history is wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) since: Option<Timestamp>,
    pub(super) field: Option<String>,
    pub(super) connection: Option<String>,
}

/// A history that is being put together.
#[derive(Debug, Default)]
pub(super) struct Story(Vec<Entry>);

impl Story {
    /// What the trail tells. `repeats` says how often a change came again.
    pub(super) fn trail(&mut self, rows: &[TrailRow], names: &Names, repeats: impl Fn(&Happened) -> u32) {
        for row in rows.iter().rev() {
            for happened in &row.happened {
                let event = told(happened, names, repeats(happened));
                self.0.push(Entry { at: Timestamp::from_micros(row.at), event });
            }
        }
    }

    /// A question that was asked, and how it ended.
    pub(super) fn question(&mut self, listed: ListedQuestion) {
        let ListedQuestion { question, end } = listed;
        let (conflict, kind, subject) = (question.id, question.kind, question.subject);
        let event = Event::Asked { conflict, kind: kind.clone(), subject: subject.clone() };
        self.0.push(Entry { at: Timestamp::from_micros(question.since), event });
        if let Some(QuestionEnd { at, by, choice }) = end {
            let by = Some(by).filter(|by| !by.is_empty());
            let event = Event::Answered { conflict, kind, subject, by, choice };
            self.0.push(Entry { at: Timestamp::from_micros(at), event });
        }
    }

    pub(super) fn decision(&mut self, view: DecisionView) {
        let DecisionView { n, at, field, rule, ruling, edit, in_force, author, change, .. } = view;
        self.0.push(Entry { at, event: Event::Decision { n, field, rule, ruling, edit, in_force, author, change } });
    }

    pub(super) fn letter(&mut self, letter: Letter) {
        let Letter { id, state, at, target, code, reason, fields, .. } = letter;
        let event = Event::Refused { connection: target, deadletter: id, state, code, reason, fields };
        self.0.push(Entry { at, event });
    }

    pub(super) fn outcome(&mut self, view: OutcomeView) {
        let OutcomeView { change, target, outcome, at, took_ms, .. } = view;
        self.0.push(Entry { at, event: Event::Outcome { connection: target, change, outcome, took_ms } });
    }

    /// What is wanted of it, the oldest first, the newest `most`; and whether there was more.
    pub(super) fn told(mut self, wanted: &Wanted, most: usize) -> (Vec<Entry>, bool) {
        // Outcomes name no field: those of the changes that are told belong to them.
        let of_field = |event: &Event| wanted.field.as_ref().is_none_or(|field| event.fields().any(|f| f == field));
        let changes: Vec<String> =
            self.0.iter().filter(|e| of_field(&e.event)).filter_map(|e| e.event.change().cloned()).collect();
        self.0.retain(|entry| {
            let event = &entry.event;
            let follows = matches!(event, Event::Outcome { change, .. } if changes.contains(change));
            wanted.since.is_none_or(|since| entry.at >= since)
                && wanted.connection.as_ref().is_none_or(|name| event.connections().any(|c| c == name))
                && (of_field(event) || follows)
        });
        self.0.sort_by_key(|entry| entry.at);
        let cut = self.0.len().saturating_sub(most);
        self.0.drain(..cut);
        (self.0, cut > 0)
    }
}

impl Event {
    /// The fields it is about.
    fn fields(&self) -> impl Iterator<Item = &String> {
        let (some, more): (&[String], &[String]) = match self {
            Self::Heard { fields, taken, .. } => (fields, taken),
            Self::Decided { taken, .. } => (taken, &[]),
            Self::Wrote { fields, .. } | Self::Refused { fields, .. } => (fields, &[]),
            Self::Decision { field, .. } => (std::slice::from_ref(field), &[]),
            Self::Asked { kind, subject, .. } | Self::Answered { kind, subject, .. } if kind == "field" => {
                (std::slice::from_ref(subject), &[])
            }
            Self::Asked { .. }
            | Self::Answered { .. }
            | Self::Read { .. }
            | Self::Record { .. }
            | Self::Turn { .. }
            | Self::Joined { .. }
            | Self::Outcome { .. } => (&[], &[]),
        };
        some.iter().chain(more)
    }

    /// The connections it is about.
    fn connections(&self) -> impl Iterator<Item = &String> {
        let (one, other) = match self {
            Self::Heard { connection, .. }
            | Self::Decided { connection, .. }
            | Self::Read { connection, .. }
            | Self::Wrote { connection, .. }
            | Self::Record { connection, .. }
            | Self::Outcome { connection, .. }
            | Self::Refused { connection, .. } => (Some(connection), None),
            Self::Decision { edit, in_force, .. } => (Some(&edit.member), Some(&in_force.member)),
            Self::Turn { .. } | Self::Joined { .. } | Self::Asked { .. } | Self::Answered { .. } => (None, None),
        };
        one.into_iter().chain(other)
    }

    /// The change that it tells of.
    const fn change(&self) -> Option<&String> {
        match self {
            Self::Heard { change, .. } | Self::Decided { change, .. } => Some(change),
            _ => None,
        }
    }
}

fn told(happened: &Happened, names: &Names, repeats: u32) -> Event {
    let texts = |fields: &[Box<str>]| fields.iter().map(ToString::to_string).collect::<Vec<_>>();
    let taken = |met: &Met| if let Met::Taken(fields) = met { texts(fields) } else { Vec::new() };
    match happened {
        Happened::Heard { change, source, kind, occurred, late, author, fields, met } => Event::Heard {
            connection: names.of(*source),
            change: change.to_string(),
            kind: *kind,
            fields: texts(fields),
            author: match author {
                Author::Us => "us",
                Author::User => "user",
                Author::Unknown => "unknown",
            },
            occurred_at: occurred.map(Timestamp::from_micros),
            late: *late,
            repeats,
            result: met.as_str(),
            taken: taken(met),
        },
        Happened::Decided { change, source, met } => {
            let (connection, change) = (names.of(*source), change.to_string());
            Event::Decided { connection, change, result: met.as_str(), taken: taken(met) }
        }
        Happened::Read { connection, by, answer, took } => Event::Read {
            connection: names.of(*connection),
            by: by.as_str(),
            result: answer.as_str(),
            code: answer.code().map(str::to_owned),
            took_ms: millis(*took),
        },
        Happened::Wrote { connection, deed, fields, answer, took } => Event::Wrote {
            connection: names.of(*connection),
            deed: deed.as_str(),
            fields: texts(fields),
            result: answer.as_str(),
            code: answer.code().map(str::to_owned),
            took_ms: millis(*took),
        },
        Happened::Record { connection, native, standing } => {
            let id = native.as_ref().map(ToString::to_string);
            Event::Record { connection: names.of(*connection), id, state: standing.as_str() }
        }
        Happened::Turn(turn) => Event::Turn { life: turn.as_str() },
        Happened::Joined { other, .. } => Event::Joined { entity: *other },
    }
}

fn millis(us: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a latency for a person")]
    let us = us as f64;
    us / 1e3
}
