//! `GET /v1/records`: the records there are, page by page, with how each stands.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::params::Params;
use super::{Admin, Problem};
use crate::cache;
use crate::entity::{Entity, Field, Life, Member, MemberState};
use crate::store::EntityId;
use crate::trail::Standing;

/// Records in one page.
const PAGE_MOST: u32 = 1_000;
/// Documents that one answer looks through for records of a state; the next page goes on from there.
const SCAN_MOST: usize = 10_000;

/// How a page of records is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    #[serde(default)]
    after: EntityId,
    #[serde(default = "default_page")]
    limit: u32,
    /// Only those that stand so.
    state: Option<String>,
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

/// A record in one line.
#[derive(Debug, Serialize)]
pub(crate) struct Brief {
    entity: EntityId,
    external_id: String,
    tenant: String,
    object: String,
    state: &'static str,
    /// Changes that have no outcome yet.
    open: usize,
    members: Vec<BriefMember>,
}

#[derive(Debug, Serialize)]
struct BriefMember {
    connection: String,
    id: Option<String>,
    state: &'static str,
}

/// How a record stands, as the API names it.
const STATES: [&str; 6] = ["in_sync", "working", "held", "differs", "leaving", "gone"];

pub(crate) async fn list(State(admin): State<Admin>, Params(page): Params<Page>) -> Result<Json<Records>, Problem> {
    if let Some(state) = page.state.as_ref().filter(|state| !STATES.contains(&state.as_str())) {
        let detail = format!("there is no state \"{state}\"; it is one of: {}", STATES.join(", "));
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail));
    }
    let limit = page.limit.clamp(1, PAGE_MOST);
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let names = Names(admin.names());
    let (mut records, mut after, mut scanned) = (Vec::new(), page.after, 0);
    while records.len() < most && scanned < SCAN_MOST {
        let rows = admin.read(move |reader| reader.documents(after, limit)).await?;
        let last_page = rows.len() < most;
        scanned += rows.len();
        for (id, doc) in rows {
            let entity = decode(id, &doc)?;
            after = id;
            let fits = page.state.as_ref().is_none_or(|state| state == standing(&entity));
            if fits && !entity.members.is_empty() {
                records.push(names.brief(id, &entity));
            }
            if records.len() == most {
                return Ok(Json(Records { records, next: Some(after) }));
            }
        }
        if last_page {
            return Ok(Json(Records { records, next: None }));
        }
    }
    Ok(Json(Records { records, next: Some(after) }))
}

pub(super) fn decode(id: EntityId, doc: &[u8]) -> Result<Entity, Problem> {
    cache::decode(id, doc).map_err(|error| {
        tracing::error!(%error, "a document cannot be decoded");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "state_damaged",
            format!("entity {id} cannot be decoded; see the log"),
        )
    })
}

/// How a record stands: what a person most needs to know first.
fn standing(entity: &Entity) -> &'static str {
    let held = entity.fields.iter().any(|f| f.held.is_some()) || !entity.questions.is_empty();
    let settled = entity.members.iter().all(|m| m.reads.is_empty() && m.state != MemberState::Absent);
    let behind = |f: &Field| f.cells.iter().flatten().any(|c| c.rev != f.rev);
    match (&entity.life, held) {
        (_, true) => "held",
        (Life::Left | Life::Erased, _) => "gone",
        (Life::Leaving(_) | Life::Erasing, _) => "leaving",
        (Life::Live | Life::Joined(_), _) if open(entity) > 0 || !settled => "working",
        // Nothing is under way, and yet a member does not show the value in force: it is not written, or refused it.
        (Life::Live | Life::Joined(_), _) if entity.fields.iter().any(behind) => "differs",
        (Life::Live | Life::Joined(_), _) => "in_sync",
    }
}

/// Changes that have no outcome yet.
fn open(entity: &Entity) -> usize {
    entity.members.iter().map(|m| m.pending.len() + m.asked.len() + m.waiting.len()).sum()
}

/// Names of connections by number.
pub(crate) struct Names(pub(crate) HashMap<u32, String>);

impl Names {
    /// The name of one.
    pub(crate) fn of(&self, connection: u32) -> String {
        self.0.get(&connection).cloned().unwrap_or_else(|| format!("#{connection}"))
    }

    pub(super) fn brief(&self, id: EntityId, entity: &Entity) -> Brief {
        Brief {
            entity: id,
            external_id: entity.uuid.to_string(),
            tenant: entity.tenant.to_string(),
            object: entity.object.to_string(),
            state: standing(entity),
            open: open(entity),
            members: entity.members.iter().map(|m| self.member(m)).collect(),
        }
    }

    fn member(&self, member: &Member) -> BriefMember {
        let state = Standing::from(member.state).as_str();
        BriefMember { connection: self.of(member.connection), id: member.native.as_deref().map(str::to_owned), state }
    }
}
