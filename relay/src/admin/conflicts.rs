//! Conflicts: what a person is asked, what there is to choose from, what each choice does, and the choice itself. The
//! log of decisions with both values.
//!
//! The list comes from the store's table, the rest from the document of the entity; a question that ends between the two
//! is shown without candidates. Choices go to the engine as commands.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headgate_schemas::{Timestamp, Value};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::answers::{Answer, Offer};
use super::params::{Document, Number, Params};
use super::{Admin, Caller, Problem};
use crate::cache;
use crate::conflict::By;
use crate::engine::{Command, Resolution, ResolveError};
use crate::entity::{About, Candidate, Entity, Field, Question};
use crate::resolve::DECISION;
use crate::store::{EntityId, ListedDecision, ListedQuestion, QuestionFilter, Reader, StoreError};

/// Entries in one page.
const PAGE_MOST: u32 = 1_000;
/// Decisions shown with a conflict or a record.
pub(super) const DECISIONS: u32 = 20;

/// How a page of conflicts is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// Ended ones, too.
    #[serde(default)]
    all: bool,
    #[serde(default)]
    after: i64,
    #[serde(default = "default_page")]
    limit: u32,
    link: Option<String>,
    field: Option<String>,
    kind: Option<String>,
    entity: Option<EntityId>,
}

/// How a page of decisions is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    entity: Option<EntityId>,
    before: Option<i64>,
    #[serde(default = "default_page")]
    limit: u32,
}

const fn default_page() -> u32 {
    100
}

#[derive(Debug, Serialize)]
pub(crate) struct Conflicts {
    conflicts: Vec<Brief>,
    /// Give it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Brief {
    id: i64,
    state: &'static str,
    kind: String,
    /// Why nobody but a person may say.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    tenant: String,
    link: String,
    entity: EntityId,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    /// The record's id in each CRM, by connection.
    records: Vec<(String, String)>,
    field: String,
    since: Timestamp,
    /// Name it with the choice, so that nothing is chosen that nobody saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    edition: Option<u32>,
    /// What is in force until somebody chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    candidates: Vec<CandidateView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<String>,
}

#[derive(Debug, Serialize)]
struct CandidateView {
    /// The connection, or `a person`.
    member: String,
    value: Value,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
    /// It is the value in force.
    in_force: bool,
    /// Connections that are written if this is chosen, where the mapping writes the field there.
    writes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Conflict {
    #[serde(flatten)]
    brief: Brief,
    /// The records, by connection, that may be the same: of a question whether two are one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<(String, String)>,
    /// What it can be answered with; nothing once it has ended.
    choices: Vec<Offer>,
    /// What was decided before about the same; left out where the history tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decisions: Vec<DecisionView>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Decisions {
    decisions: Vec<DecisionView>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// One row of the decision log.
#[derive(Debug, Serialize)]
pub(crate) struct DecisionView {
    pub(super) n: i64,
    pub(super) at: Timestamp,
    entity: EntityId,
    pub(super) field: String,
    pub(super) rule: String,
    pub(super) ruling: String,
    pub(super) edit: SideView,
    pub(super) in_force: SideView,
    pub(super) author: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct SideView {
    pub(super) member: String,
    value: Value,
    /// From when to when it can have been set, by our clock.
    from: Timestamp,
    until: Timestamp,
}

#[derive(Debug, Serialize)]
pub(crate) struct Done {
    id: i64,
    state: &'static str,
    entity: EntityId,
    field: String,
}

pub(crate) async fn list(State(admin): State<Admin>, Params(page): Params<Page>) -> Result<Json<Conflicts>, Problem> {
    let limit = page.limit.clamp(1, PAGE_MOST);
    let (link, kind, subject, entity) = (page.link, page.kind, page.field, page.entity);
    let filter = QuestionFilter { ended: page.all, link, kind, subject, entity };
    let rows = admin
        .read(move |reader| {
            let listed = reader.questions(&filter, page.after, limit)?;
            listed.into_iter().map(|q| Ok((reader.document(q.question.entity)?, q))).collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = rows.last().map(|(_, q)| q.question.id).filter(|_| full);
    let brief = |(doc, q): (Option<Vec<u8>>, ListedQuestion)| {
        let entity = doc.and_then(|d| cache::decode(q.question.entity, &d).ok());
        admin.brief(entity.as_ref(), q)
    };
    let conflicts = rows.into_iter().map(brief).collect();
    Ok(Json(Conflicts { conflicts, next }))
}

pub(crate) async fn show(State(admin): State<Admin>, Number(id): Number) -> Result<Json<Conflict>, Problem> {
    let found = admin
        .read(move |reader| {
            let Some(question) = reader.question(id)? else { return Ok(None) };
            let entity = question.question.entity;
            let decisions = reader.decisions(Some(entity), i64::MAX, PAGE_MOST)?;
            let entity = reader.document(entity)?.map(|doc| cache::decode(entity, &doc)).transpose()?;
            let other = other_of(reader, entity.as_ref(), id)?;
            Ok(Some((entity, other, question, decisions)))
        })
        .await?;
    let Some((entity, other, question, decisions)) = found else {
        return Err(problem(&ResolveError::Unknown { id }));
    };
    let field = question.question.subject.clone();
    let most = usize::try_from(DECISIONS).unwrap_or(usize::MAX);
    let decisions = decisions.iter().filter(|d| d.decision.field == field).take(most);
    let decisions = decisions.map(|d| admin.decision(d)).collect();
    let conflict = admin.conflict(entity.as_ref(), other.as_ref(), question);
    Ok(Json(Conflict { decisions, ..conflict }))
}

pub(crate) async fn decisions(
    State(admin): State<Admin>,
    Params(log): Params<Log>,
) -> Result<Json<Decisions>, Problem> {
    let limit = log.limit.clamp(1, PAGE_MOST);
    let before = log.before.unwrap_or(i64::MAX);
    let rows = admin.read(move |reader| reader.decisions(log.entity, before, limit)).await?;
    let full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = rows.last().map(|d| d.n).filter(|_| full);
    Ok(Json(Decisions { decisions: rows.iter().map(|d| admin.decision(d)).collect(), next }))
}

pub(crate) async fn resolve(
    State(admin): State<Admin>,
    caller: Caller,
    Number(id): Number,
    Document(answer): Document<Answer>,
) -> Result<Json<Done>, Problem> {
    let edition = answer.edition;
    let by = answer.by.clone().unwrap_or(caller.0);
    let choice = answer.choice()?;
    let (done, told) = oneshot::channel();
    let command = Command::Resolve(Resolution { id, edition, choice, by, done });
    admin
        .relay
        .handle
        .command(command)
        .map_err(|busy| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", busy.to_string()))?;
    match told.await {
        Ok(Ok(resolved)) => Ok(Json(Done { id, state: "resolved", entity: resolved.entity, field: resolved.field })),
        Ok(Err(error)) => Err(problem(&error)),
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "the relay is restarting; try again")),
    }
}

fn problem(error: &ResolveError) -> Problem {
    let (status, code) = match error {
        ResolveError::Unknown { .. } => (StatusCode::NOT_FOUND, "conflict_unknown"),
        ResolveError::Ended { .. } => (StatusCode::CONFLICT, "conflict_ended"),
        ResolveError::Moved { .. } => (StatusCode::CONFLICT, "conflict_moved"),
        ResolveError::Busy => (StatusCode::CONFLICT, "record_busy"),
        ResolveError::NoConnection { .. } | ResolveError::Unsuitable(_) | ResolveError::Unfit { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "choice_unsuitable")
        }
    };
    Problem::new(status, code, error.to_string())
}

impl Admin {
    fn brief(&self, entity: Option<&Entity>, listed: ListedQuestion) -> Brief {
        let ListedQuestion { question: row, end } = listed;
        let question = entity.and_then(|e| asked(e, row.id));
        let field = entity.zip(question).and_then(|(e, q)| held(e, q));
        let candidates = entity.zip(field).map_or_else(Vec::new, |(e, f)| {
            f.held.iter().flatten().map(|candidate| self.candidate(e, f, candidate)).collect()
        });
        Brief {
            id: row.id,
            state: if end.is_some() { "ended" } else { "open" },
            kind: row.kind,
            cause: question.and_then(cause),
            tenant: row.tenant,
            link: row.link,
            entity: row.entity,
            object: entity.map(|e| e.object.to_string()),
            records: entity.map_or_else(Vec::new, |e| self.records(e)),
            field: row.subject,
            since: Timestamp::from_micros(row.since),
            edition: question.map(|q| q.edition),
            value: field.map(|f| f.value.clone()),
            candidates,
            ended_at: end.as_ref().map(|e| Timestamp::from_micros(e.at)),
            resolved_by: end.as_ref().map(|e| e.by.clone()).filter(|by| !by.is_empty()),
            choice: end.map(|e| e.choice),
        }
    }

    /// A question with what there is to choose from; `other` is the entity that it asks about, too.
    pub(super) fn conflict(&self, entity: Option<&Entity>, other: Option<&Entity>, listed: ListedQuestion) -> Conflict {
        let others = other.map_or_else(Vec::new, |other| self.records(other));
        let open = entity.and_then(|e| Some((e, asked(e, listed.question.id)?)));
        let choices = open.map_or_else(Vec::new, |(entity, question)| self.offers(entity, question));
        Conflict { brief: self.brief(entity, listed), others, choices, decisions: Vec::new() }
    }

    /// The records of an entity, by connection.
    fn records(&self, entity: &Entity) -> Vec<(String, String)> {
        let linked =
            entity.members.iter().filter_map(|m| Some((self.name(m.connection), m.native.as_deref()?.to_owned())));
        linked.collect()
    }

    fn candidate(&self, entity: &Entity, field: &Field, candidate: &Candidate) -> CandidateView {
        let in_force = candidate.by == field.by && candidate.value == field.value;
        let shows = |(member, cell): (&crate::entity::Member, &crate::entity::Cell)| {
            By::Member(member.connection) == candidate.by || (in_force && cell.rev == field.rev)
        };
        let cells = std::iter::zip(&entity.members, &field.cells).filter_map(|(m, c)| Some((m, c.as_ref()?)));
        CandidateView {
            member: self.by(candidate.by),
            value: candidate.value.clone(),
            at: Timestamp::from_micros(candidate.stamp.lo),
            change: candidate.change.map(|c| c.to_string()),
            in_force,
            writes: cells.filter(|c| !shows(*c)).map(|(m, _)| self.name(m.connection)).collect(),
        }
    }

    /// A row of the decision log with its values, as far as they can be opened.
    pub(super) fn decision(&self, listed: &ListedDecision) -> DecisionView {
        let d = &listed.decision;
        let open = self.relay.vault.open(DECISION, &d.values).ok();
        let values: Option<[serde_json::Value; 2]> = open.and_then(|text| serde_json::from_slice(&text).ok());
        let [edit, force] = values.unwrap_or_else(|| ["sealed with another key"; 2].map(serde_json::Value::from));
        let side = |(by, lo, hi): (u32, i64, i64), value: serde_json::Value| SideView {
            member: if by == 0 { self.by(By::Person) } else { self.name(by) },
            value: value.into(),
            from: Timestamp::from_micros(lo),
            until: Timestamp::from_micros(hi),
        };
        DecisionView {
            n: listed.n,
            at: Timestamp::from_micros(d.at),
            entity: d.entity,
            field: d.field.clone(),
            rule: d.rule.clone(),
            ruling: d.ruling.clone(),
            edit: side(d.edit, edit),
            in_force: side(d.force, force),
            author: d.author.clone(),
            change: d.change.map(|c| c.to_string()),
        }
    }

    pub(super) fn name(&self, connection: u32) -> String {
        self.names().get(&connection).cloned().unwrap_or_else(|| format!("#{connection}"))
    }

    fn by(&self, by: By) -> String {
        match by {
            By::Member(connection) => self.name(connection),
            By::Person => "a person".to_owned(),
        }
    }
}

/// The other entity that an open question is about.
pub(super) fn other_of(reader: &Reader, entity: Option<&Entity>, id: i64) -> Result<Option<Entity>, StoreError> {
    match entity.and_then(|e| asked(e, id)).map(|q| &q.about) {
        Some(About::Match { other, .. }) => reader.document(*other)?.map(|doc| cache::decode(*other, &doc)).transpose(),
        _ => Ok(None),
    }
}

/// The open question of this number.
fn asked(entity: &Entity, id: i64) -> Option<&Question> {
    entity.questions.iter().find(|q| q.id == id)
}

/// The field that a question is about.
fn held<'e>(entity: &'e Entity, question: &Question) -> Option<&'e Field> {
    match &question.about {
        About::Field { name, .. } => Some(&entity.fields[entity.field_named(name)?]),
        About::Match { .. }
        | About::Found { .. }
        | About::Surplus { .. }
        | About::Delete { .. }
        | About::Brake { .. } => None,
    }
}

const fn cause(question: &Question) -> Option<&'static str> {
    match &question.about {
        About::Field { cause, .. } => Some(cause.as_str()),
        About::Match { .. } => Some("alike"),
        About::Found { .. } => Some("several_found"),
        About::Surplus { .. } => Some("two_records"),
        About::Delete { .. } => Some("deleted_elsewhere"),
        About::Brake { .. } => Some("many_deleted"),
    }
}
