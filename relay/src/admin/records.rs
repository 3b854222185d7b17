//! What the relay knows of a record: the entity it belongs to, what each member shows, what is on its way, how its
//! changes ended.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use headgate_schemas::{System, Timestamp, Value};
use serde::{Deserialize, Serialize};

use super::conflicts::DecisionView;
use super::history::OutcomeView;
use super::letters::{self, Letter};
use super::{Admin, Problem};
use crate::cache;
use crate::conflict::By;
use crate::entity::{Cell, Entity, Field, Member, MemberState, Question, WriteState};
use crate::store::{EntityId, ListedDecision, ListedLetter, OutcomeRow, Reader, StoreError, member_key};

/// Outcomes shown with a record.
const OUTCOMES: usize = 50;
/// Decisions shown with a record.
const DECISIONS: u32 = 50;
/// Dead letters shown with a record.
const LETTERS: u32 = 20;
/// Records in one page.
const PAGE_MOST: u32 = 1_000;

/// How a page of records is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    #[serde(default)]
    after: EntityId,
    #[serde(default = "default_page")]
    limit: u32,
}

const fn default_page() -> u32 {
    100
}

#[derive(Debug, Serialize)]
pub(crate) struct Records {
    records: Vec<Brief>,
    /// Give it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<EntityId>,
}

#[derive(Debug, Serialize)]
struct Brief {
    entity: EntityId,
    external_id: String,
    tenant: String,
    object: String,
    state: &'static str,
    open: usize,
    members: Vec<BriefMember>,
}

#[derive(Debug, Serialize)]
struct BriefMember {
    connection: String,
    id: Option<String>,
    state: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    brief: Brief,
    created_at: Timestamp,
    fields: Vec<FieldView>,
    work: Vec<WorkView>,
    /// What a person is to decide.
    questions: Vec<QuestionView>,
    /// What was decided, the latest first.
    decisions: Vec<DecisionView>,
    /// What a CRM refused, the latest first.
    deadletters: Vec<Letter>,
    outcomes: Vec<OutcomeView>,
}

/// A question; `conflict show ID` has what there is to choose from.
#[derive(Debug, Serialize)]
struct QuestionView {
    conflict: i64,
    kind: &'static str,
    subject: String,
    since: Timestamp,
}

/// What the store tells of a record.
struct Told {
    id: EntityId,
    doc: Vec<u8>,
    outcomes: Vec<OutcomeRow>,
    decisions: Vec<ListedDecision>,
    letters: Vec<ListedLetter>,
}

impl Told {
    fn read(reader: &Reader, id: EntityId) -> Result<Option<Self>, StoreError> {
        let Some(doc) = reader.document(id)? else { return Ok(None) };
        let newest = cache::decode(id, &doc)?.outcome;
        let mut letters = Vec::new();
        for letter in reader.letters_of(id, LETTERS)? {
            letters.extend(reader.letters(Some(letter), false, 1)?);
        }
        let outcomes = reader.outcomes(id, newest, OUTCOMES)?;
        let decisions = reader.decisions(Some(id), i64::MAX, DECISIONS)?;
        Ok(Some(Self { id, doc, outcomes, decisions, letters }))
    }
}

#[derive(Debug, Serialize)]
struct FieldView {
    name: String,
    value: Value,
    set_at: Timestamp,
    set_by: String,
    revision: i32,
    held: bool,
    members: Vec<CellView>,
}

#[derive(Debug, Serialize)]
struct CellView {
    connection: String,
    shown: Value,
    /// It stands for the value in force.
    current: bool,
    /// We wrote it.
    ours: bool,
    /// The CRM keeps its own form of our value.
    kept: bool,
    /// The CRM refused the value in force.
    refused: bool,
    /// Why it does not simply show the value in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    writes: Vec<WriteView>,
}

#[derive(Debug, Serialize)]
struct WriteView {
    intent: u32,
    state: &'static str,
    revision: i32,
}

#[derive(Debug, Serialize)]
struct WorkView {
    connection: String,
    reads_due: Vec<Timestamp>,
    changes_waiting: usize,
    changes_to_deliver: usize,
}

pub(crate) async fn list(State(admin): State<Admin>, Query(page): Query<Page>) -> Result<Json<Records>, Problem> {
    let limit = page.limit.clamp(1, PAGE_MOST);
    let rows = admin.read(move |r| r.documents(page.after, limit)).await?;
    let names = Names(admin.names());
    let full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = rows.last().map(|(id, _)| *id).filter(|_| full);
    let mut records = Vec::with_capacity(rows.len());
    for (id, doc) in rows {
        let entity = decode(id, &doc)?;
        if !entity.members.is_empty() {
            records.push(names.brief(id, &entity));
        }
    }
    Ok(Json(Records { records, next }))
}

pub(crate) async fn show(
    State(admin): State<Admin>,
    Path((system, object, id)): Path<(String, String, String)>,
) -> Result<Json<Record>, Problem> {
    let system: System = system.parse().map_err(|_| {
        let known = System::ALL.map(System::as_str).join(", ");
        Problem::new(StatusCode::BAD_REQUEST, "unknown_system", format!("a system is one of: {known}"))
    })?;
    let numbers = admin.relay.handle.connections();
    let of_system = admin.relay.systems.iter().filter(|(_, s)| **s == system);
    let connections: Vec<u32> = of_system.filter_map(|(name, _)| numbers.get(name).copied()).collect();
    let what = format!("{system}/{object}/{id}");
    let found = admin
        .read(move |reader| {
            for connection in connections {
                if let Some(entity) = reader.member(&member_key(connection, &object, &id))? {
                    return Told::read(reader, entity);
                }
            }
            Ok(None)
        })
        .await?;
    let Some(told) = found else {
        let detail = format!("{what} is not known: no change of it has come, or its type is not linked");
        return Err(Problem::new(StatusCode::NOT_FOUND, "record_unknown", detail));
    };
    let entity = decode(told.id, &told.doc)?;
    let mut record = Names(admin.names()).record(told.id, &entity, &told.outcomes);
    record.decisions = told.decisions.iter().map(|decision| admin.decision(decision)).collect();
    record.deadletters = told.letters.into_iter().map(|letter| letters::view(&admin, None, letter)).collect();
    Ok(Json(record))
}

fn decode(id: EntityId, doc: &[u8]) -> Result<Entity, Problem> {
    cache::decode(id, doc).map_err(|error| {
        tracing::error!(%error, "a document cannot be decoded");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "state_damaged",
            format!("entity {id} cannot be decoded; see the log"),
        )
    })
}

/// Why a CRM does not simply show the value in force, for a person.
fn why(field: &Field, cell: &Cell) -> Option<&'static str> {
    let any = |wanted: fn(&WriteState) -> bool| cell.ledger.iter().any(|w| wanted(&w.state));
    match cell.rev == field.rev {
        true if cell.kept => Some("kept in its own form"),
        true => None,
        false if field.held.is_some() => Some("held, a person is to decide"),
        false if cell.refused == field.rev => Some("refused, see the dead letters"),
        false if any(|state| *state == WriteState::Open) => Some("a write is under way"),
        false if any(|state| matches!(state, WriteState::Unknown(_))) => Some("a write had no answer, it is read back"),
        false => Some("behind"),
    }
}

fn question(question: &Question) -> QuestionView {
    QuestionView {
        conflict: question.id,
        kind: question.about.kind(),
        subject: question.about.subject().to_owned(),
        since: Timestamp::from_micros(question.since),
    }
}

/// Names of connections by number.
pub(crate) struct Names(pub(crate) std::collections::HashMap<u32, String>);

impl Names {
    /// The name of one.
    pub(crate) fn of(&self, connection: u32) -> String {
        self.0.get(&connection).cloned().unwrap_or_else(|| format!("#{connection}"))
    }

    fn brief(&self, id: EntityId, entity: &Entity) -> Brief {
        let members = entity.members.iter().map(|m| self.member(m)).collect();
        let open = entity.members.iter().map(|m| m.pending.len() + m.asked.len() + m.waiting.len()).sum();
        let held = entity.fields.iter().any(|f| f.held.is_some());
        let settled = entity.members.iter().all(|m| m.reads.is_empty() && m.state != MemberState::Absent);
        let behind = |f: &Field| f.cells.iter().flatten().any(|c| c.rev != f.rev);
        let differs = entity.fields.iter().any(behind);
        let state = match (held, open == 0 && settled) {
            (true, _) => "held",
            (false, false) => "working",
            // Nothing is under way, and yet a member does not show the value in force: it is not written, or refused it.
            (false, true) if differs => "differs",
            (false, true) => "in sync",
        };
        Brief {
            entity: id,
            external_id: entity.uuid.to_string(),
            tenant: entity.tenant.to_string(),
            object: entity.object.to_string(),
            state,
            open,
            members,
        }
    }

    fn member(&self, member: &Member) -> BriefMember {
        let state = match member.state {
            MemberState::Heard => "not read yet",
            MemberState::Absent => "to be made",
            MemberState::Live => "live",
            MemberState::Missing(_) => "missing",
            MemberState::Gone => "gone",
            MemberState::Removed(_) => "removed by us",
            MemberState::Refused => "refused",
        };
        BriefMember { connection: self.of(member.connection), id: member.native.as_deref().map(str::to_owned), state }
    }

    fn record(&self, id: EntityId, entity: &Entity, outcomes: &[OutcomeRow]) -> Record {
        let fields = entity
            .fields
            .iter()
            .map(|field| FieldView {
                name: field.name.to_string(),
                value: field.value.clone(),
                set_at: Timestamp::from_micros(field.stamp.lo),
                set_by: match field.by {
                    By::Member(c) => self.of(c),
                    By::Person => "a person".to_owned(),
                },
                revision: field.rev,
                held: field.held.is_some(),
                members: std::iter::zip(&entity.members, &field.cells)
                    .filter_map(|(m, cell)| Some(self.cell(m.connection, field, cell.as_ref()?)))
                    .collect(),
            })
            .collect();
        let work = entity.members.iter().map(|m| WorkView {
            connection: self.of(m.connection),
            reads_due: m.reads.iter().map(|t| Timestamp::from_micros(*t)).collect(),
            changes_waiting: m.waiting.len() + m.asked.len(),
            changes_to_deliver: m.pending.len(),
        });
        Record {
            brief: self.brief(id, entity),
            created_at: Timestamp::from_micros(entity.created),
            fields,
            work: work.collect(),
            questions: entity.questions.iter().map(question).collect(),
            decisions: Vec::new(),
            deadletters: Vec::new(),
            outcomes: outcomes.iter().map(|row| OutcomeView::new(row, self)).collect(),
        }
    }

    fn cell(&self, connection: u32, field: &Field, cell: &Cell) -> CellView {
        let rev = field.rev;
        let writes = cell.ledger.iter().rev().take(10).map(|w| WriteView {
            intent: w.intent,
            state: match w.state {
                WriteState::Open => "open",
                WriteState::Settled => "settled",
                WriteState::Absent => "absent",
                WriteState::Unknown(_) => "unknown",
            },
            revision: w.rev,
        });
        CellView {
            connection: self.of(connection),
            shown: cell.shown.clone(),
            current: cell.rev == rev,
            ours: cell.mine,
            kept: cell.kept,
            refused: cell.refused == rev,
            why: why(field, cell),
            writes: writes.collect(),
        }
    }
}
