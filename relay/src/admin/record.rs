//! `GET /v1/records/{system}/{object}/{id}`: everything that is known of one record. What each CRM shows, what is open
//! and why, what a person is to decide, what happened. The surprising thing: two entities may have become one, and then
//! the history of both is told.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use headgate_schemas::{System, Timestamp, Value, time};
use serde::{Deserialize, Serialize};

use super::aside::{Aside, Asked};
use super::conflicts::{Conflict, other_of};
use super::history::OutcomeView;
use super::letters::{self, Letter};
use super::open::WorkView;
use super::params::Params;
use super::records::{Brief, Names, decode};
use super::story::{Entry, Story, Wanted};
use super::{Admin, Problem};
use crate::conflict::By;
use crate::entity::{Cell, Entity, Field, WriteState};
use crate::store::{
    EntityId, Key, ListedDecision, ListedLetter, ListedQuestion, OutcomeRow, QuestionFilter, Reader, StoreError,
    TrailRow, WorkKey, WorkRow, change_key, member_key,
};
use crate::trail::{Happened, Turn};

/// Lines of a history that are told at most, and unless another number is asked for.
const HISTORY: (usize, usize) = (2_000, 200);
/// Rows of each table that a history is made of.
const ROWS: usize = 2_000;
/// Dead letters that are looked at.
const LETTERS: u32 = 200;

/// Which part of the history is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// Only what happened then or later.
    since: Option<String>,
    /// Only what is about this field.
    field: Option<String>,
    /// Only what is about this connection.
    target: Option<String>,
    /// The newest so many lines.
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Record {
    /// The server's clock when it answered.
    now: Timestamp,
    #[serde(flatten)]
    brief: Brief,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    life: &'static str,
    created_at: Timestamp,
    /// What it holds that only one person or company has.
    claims: Vec<&'static str>,
    connections: Vec<ConnectionView>,
    /// Records set aside, as they stand now: nothing is written to them.
    detached: Vec<Aside>,
    fields: Vec<FieldView>,
    work: Vec<WorkView>,
    /// What a person is to decide.
    questions: Vec<Conflict>,
    /// What a CRM refused and nobody has dealt with.
    deadletters: Vec<Letter>,
    /// What happened, the oldest first.
    history: Vec<Entry>,
    /// More happened before that, or was left out by the filters' limit.
    earlier: bool,
}

/// A connection that has, or is to have, a record of this entity.
#[derive(Debug, Serialize)]
struct ConnectionView {
    connection: String,
    /// `none`, `read` or `strict`, as it acts there; absent where nothing is linked by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    guard: Option<&'static str>,
    /// `works`, or what keeps it from working.
    state: &'static str,
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

/// What the store tells of a record.
struct Told {
    id: EntityId,
    doc: Vec<u8>,
    work: Vec<Option<WorkRow>>,
    trail: Vec<TrailRow>,
    /// How often each change came again, where it did.
    repeats: Vec<(Key, u32)>,
    questions: Vec<(ListedQuestion, Option<Entity>)>,
    outcomes: Vec<OutcomeRow>,
    decisions: Vec<ListedDecision>,
    letters: Vec<ListedLetter>,
}

impl Told {
    fn read(reader: &Reader, id: EntityId, since: i64) -> Result<Option<Self>, StoreError> {
        let Some(doc) = reader.document(id)? else { return Ok(None) };
        let entity = crate::cache::decode(id, &doc)?;
        let key = |target| WorkKey { target, entity: id };
        let work = entity.members.iter().map(|m| reader.work(key(m.connection))).collect::<Result<_, _>>()?;
        let trail = reader.trail(id, entity.trail, since, ROWS)?;
        let mut told = Self {
            id,
            doc,
            work,
            repeats: repeats(reader, &entity.tenant, &trail)?,
            trail,
            questions: Vec::new(),
            outcomes: Vec::new(),
            decisions: Vec::new(),
            letters: Vec::new(),
        };
        let joined = told.trail.iter().flat_map(|row| &row.happened).filter_map(|happened| match happened {
            Happened::Joined { other, outcome, .. } => Some((*other, *outcome)),
            _ => None,
        });
        let parts: Vec<(EntityId, i64)> = [(id, entity.outcome)].into_iter().chain(joined).collect();
        for (part, outcome) in parts {
            told.add(reader, &entity, part, outcome)?;
        }
        Ok(Some(told))
    }

    /// What the tables hold of an entity, or of one that became part of it.
    fn add(&mut self, reader: &Reader, entity: &Entity, id: EntityId, outcome: i64) -> Result<(), StoreError> {
        let most = u32::try_from(ROWS).unwrap_or(u32::MAX);
        self.outcomes.extend(reader.outcomes(id, outcome, ROWS)?);
        self.decisions.extend(reader.decisions(Some(id), i64::MAX, most)?);
        for letter in reader.letters_of(id, LETTERS)? {
            self.letters.extend(reader.letters(Some(letter), false, 1)?);
        }
        let filter = QuestionFilter { ended: true, entity: Some(id), ..QuestionFilter::default() };
        for question in reader.questions(&filter, 0, most)? {
            let other = other_of(reader, Some(entity), question.question.id)?;
            self.questions.push((question, other));
        }
        Ok(())
    }
}

/// How often the changes of a trail came again, where they did.
fn repeats(reader: &Reader, tenant: &str, trail: &[TrailRow]) -> Result<Vec<(Key, u32)>, StoreError> {
    let mut repeats = Vec::new();
    for happened in trail.iter().flat_map(|row| &row.happened) {
        let Some(key) = heard_key(tenant, happened) else { continue };
        if let Some(n) = reader.repeats(&key)?.filter(|n| *n > 0) {
            repeats.push((key, n));
        }
    }
    Ok(repeats)
}

/// The key of a change that was heard.
fn heard_key(tenant: &str, happened: &Happened) -> Option<Key> {
    let Happened::Heard { change, occurred, .. } = happened else { return None };
    Some(change_key(tenant, *change, occurred.map_or(0, |us| Timestamp::from_micros(us).millis())))
}

pub(crate) async fn show(
    State(admin): State<Admin>,
    Path((system, object, id)): Path<(String, String, String)>,
    Params(part): Params<Part>,
) -> Result<Json<Record>, Problem> {
    let system: System = system.parse().map_err(|_| {
        let known = System::ALL.map(System::as_str).join(", ");
        Problem::new(StatusCode::BAD_REQUEST, "unknown_system", format!("a system is one of: {known}"))
    })?;
    let (wanted, most) = part.wanted(&admin)?;
    let since = wanted.since.map_or(0, Timestamp::micros);
    let numbers = admin.relay.handle.connections();
    let of_system = admin.relay.systems.iter().filter(|(_, s)| **s == system);
    let connections: Vec<u32> = of_system.filter_map(|(name, _)| numbers.get(name).copied()).collect();
    let what = format!("{system}/{object}/{id}");
    let asked = Asked { connections: connections.clone(), id: id.clone() };
    let found = admin
        .read(move |reader| {
            for connection in connections {
                if let Some(entity) = reader.member(&member_key(connection, &object, &id))? {
                    return Told::read(reader, entity, since);
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
    let detached = admin.asides(&entity, &asked).await;
    Ok(Json(Record { detached, ..admin.record(&entity, told, &wanted, most) }))
}

impl Part {
    fn wanted(self, admin: &Admin) -> Result<(Wanted, usize), Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail);
        let since = self.since.map(|text| text.parse::<Timestamp>()).transpose();
        let since = since.map_err(|_| bad("since is a time like 2026-11-21T10:00:00Z".to_owned()))?;
        if let Some(name) = self.target.as_ref().filter(|name| !admin.relay.systems.contains_key(*name)) {
            let mut known: Vec<&str> = admin.relay.systems.keys().map(String::as_str).collect();
            known.sort_unstable();
            return Err(bad(format!("there is no connection \"{name}\"; target is one of: {}", known.join(", "))));
        }
        let most = self.limit.unwrap_or(HISTORY.1).clamp(1, HISTORY.0);
        Ok((Wanted { since, field: self.field, connection: self.target }, most))
    }
}

impl Admin {
    fn record(&self, entity: &Entity, told: Told, wanted: &Wanted, most: usize) -> Record {
        let names = Names(self.names());
        let now = time::now();
        let plan = self.plan(entity);
        let rows = told.work.iter().enumerate();
        let work = rows.filter_map(|(m, row)| self.open(entity, m, row.as_ref(), now)).collect();
        let connections = entity.members.iter().map(|m| {
            let connection = names.of(m.connection);
            let (guard, state) = (self.guard(plan, &connection), self.circuit(&connection));
            ConnectionView { connection, guard, state }
        });
        let held = |key: &crate::entity::matching::MatchKey| entity.claims.contains(&key.key).then_some(key.kind);
        let mut record = Record {
            now,
            brief: names.brief(told.id, entity),
            link: plan.map(|plan| plan.name.clone()),
            life: Turn::from(&entity.life).as_str(),
            created_at: Timestamp::from_micros(entity.created),
            claims: entity.match_keys().iter().filter_map(held).collect(),
            connections: connections.collect(),
            detached: Vec::new(),
            fields: entity.fields.iter().map(|field| names.field(entity, field)).collect(),
            work,
            questions: Vec::new(),
            deadletters: Vec::new(),
            history: Vec::new(),
            earlier: false,
        };
        let story = self.story(entity, &names, told, &mut record);
        (record.history, record.earlier) = story.told(wanted, most);
        record
    }

    /// What happened; what of it is still open goes into the record.
    fn story(&self, entity: &Entity, names: &Names, told: Told, record: &mut Record) -> Story {
        let again = |happened: &Happened| {
            let key = heard_key(&entity.tenant, happened);
            told.repeats.iter().find(|(k, _)| Some(*k) == key).map_or(0, |(_, n)| *n)
        };
        let mut story = Story::default();
        story.trail(&told.trail, names, again);
        for (question, other) in told.questions {
            if question.end.is_none() {
                record.questions.push(self.conflict(Some(entity), other.as_ref(), question.clone()));
            }
            story.question(question);
        }
        told.decisions.iter().rev().for_each(|decision| story.decision(self.decision(decision)));
        for letter in told.letters {
            if letter.state == "open" {
                record.deadletters.push(letters::view(self, None, letter.clone()));
            }
            story.letter(letters::view(self, None, letter));
        }
        told.outcomes.iter().rev().for_each(|row| story.outcome(OutcomeView::new(row, names)));
        story
    }
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

impl Names {
    fn field(&self, entity: &Entity, field: &Field) -> FieldView {
        FieldView {
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
