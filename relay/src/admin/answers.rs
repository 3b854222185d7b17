//! What a question can be answered with and what each answer does, as the API shows it; and an answer as it is given.
//!
//! An answer that is shown is the very body that `resolve` takes. It decides nothing: whether an answer fits is the
//! engine's word.

use axum::http::StatusCode;
use headgate_schemas::Value;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Admin, Problem};
use crate::conflict::By;
use crate::engine::Choice;
use crate::entity::{About, Candidate, Entity, Question};

/// An answer. Exactly one of the choices.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    member: Option<String>,
    #[serde(default)]
    keep: bool,
    #[serde(default, deserialize_with = "given")]
    value: Option<Value>,
    #[serde(default)]
    link: bool,
    #[serde(default)]
    separate: bool,
    record: Option<String>,
    #[serde(default)]
    delete: bool,
    pub(super) edition: Option<u32>,
    pub(super) by: Option<String>,
}

/// A value that is there, even if it is null.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(|value| Some(value.into()))
}

impl Answer {
    /// The one choice it makes.
    pub(super) fn choice(self) -> Result<Choice, Problem> {
        let flags = [
            (self.keep, Choice::Kept),
            (self.link, Choice::Link),
            (self.separate, Choice::Separate),
            (self.delete, Choice::Delete),
        ];
        let mut choices: Vec<Choice> = flags.into_iter().filter(|(is_given, _)| *is_given).map(|(_, c)| c).collect();
        choices.extend(self.member.map(Choice::Member));
        choices.extend(self.value.map(Choice::Value));
        choices.extend(self.record.map(Choice::Record));
        match (choices.pop(), choices.is_empty()) {
            (Some(choice), true) => Ok(choice),
            _ => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "choice_unsuitable",
                "give exactly one of \"member\" (a connection), \"keep\": true, \"value\", \"link\": true, \
                 \"separate\": true, \"record\" (its id in the CRM) and \"delete\": true",
            )),
        }
    }
}

/// One of the answers that a question has.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Offer {
    /// The body of a request that gives it.
    answer: serde_json::Value,
    /// What comes of it.
    does: String,
}

fn offer(answer: serde_json::Value, does: impl Into<String>) -> Offer {
    Offer { answer, does: does.into() }
}

impl Admin {
    /// What there is to choose from.
    pub(super) fn offers(&self, entity: &Entity, question: &Question) -> Vec<Offer> {
        match &question.about {
            About::Field { name, .. } => self.values(entity, name),
            About::Match { .. } => vec![
                offer(json!({"link": true}), "the two are one: they are joined and kept alike in every CRM"),
                offer(
                    json!({"separate": true}),
                    "they are two: each gets a record where it has none, and nobody is asked again",
                ),
            ],
            About::Found { connection, natives } => {
                let place = self.name(*connection);
                let same = format!("it is this one: it is linked, and no record is made in {place}");
                let none = format!("none of them is this one: a record is made in {place}");
                let records = natives.iter().map(|native| offer(json!({"record": native}), same.as_str()));
                records.chain([offer(json!({"separate": true}), none.as_str())]).collect()
            }
            About::Surplus { connection, native } => {
                let place = self.name(*connection);
                let taken =
                    format!("it takes the place of the one linked in {place}, which is left alone from then on");
                let kept = format!("the one linked in {place} stays, and {native} is left alone");
                let own =
                    format!("{native} is somebody else: it is kept by itself, and gets a record where it has none");
                vec![
                    offer(json!({"record": native}), taken),
                    offer(json!({"keep": true}), kept),
                    offer(json!({"separate": true}), own),
                ]
            }
            About::Delete { .. } => vec![
                offer(
                    json!({"delete": true}),
                    "the records in the other CRMs go, too: deleted or cleared, as the link says",
                ),
                offer(json!({"keep": true}), "the records in the other CRMs stay"),
            ],
            About::Brake { link, .. } => vec![
                offer(
                    json!({"delete": true}),
                    format!("all that waits on link {link} goes, too: deleted or cleared, as the link says"),
                ),
                offer(json!({"keep": true}), format!("all that waits on link {link} stays in the other CRMs")),
            ],
        }
    }

    fn values(&self, entity: &Entity, field: &str) -> Vec<Offer> {
        let held = entity.field_named(field).and_then(|f| entity.fields[f].held.as_ref());
        let member = |candidate: &Candidate| match candidate.by {
            By::Member(connection) => Some(self.name(connection)),
            By::Person => None,
        };
        let members = held.into_iter().flatten().filter_map(member);
        let mut offers: Vec<Offer> = members
            .map(|name| offer(json!({"member": name}), format!("the value of {name} is written to the others")))
            .collect();
        offers.push(offer(json!({"keep": true}), "the value in force is written over the others"));
        offers.push(offer(json!({"value": null}), "the field is emptied everywhere; or any value in place of null"));
        offers
    }
}
