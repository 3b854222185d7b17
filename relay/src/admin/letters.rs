//! Dead letters: what a target refused for good, why, and what to do about it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headgate_schemas::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::params::{Number, Params};
use super::{Admin, Caller, Problem};
use crate::cache;
use crate::engine::Command;
use crate::store::{EntityId, ListedLetter};

/// Letters in one answer.
const PAGE: u32 = 500;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    /// Closed ones, too.
    #[serde(default)]
    all: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Letters {
    deadletters: Vec<Letter>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Letter {
    pub(super) id: i64,
    /// `target_rejected` (for the tenant) or `pipeline_failed` (for the operator).
    kind: &'static str,
    pub(super) state: String,
    pub(super) at: Timestamp,
    pub(super) target: String,
    entity: EntityId,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    /// The record's id in each CRM, by connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    records: Vec<(String, String)>,
    pub(super) code: String,
    pub(super) reason: String,
    pub(super) fields: Vec<String>,
    next_step: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Done {
    id: i64,
    state: &'static str,
}

pub(crate) async fn list(State(admin): State<Admin>, Params(filter): Params<Filter>) -> Result<Json<Letters>, Problem> {
    Ok(Json(Letters { deadletters: fetch(&admin, None, !filter.all).await? }))
}

pub(crate) async fn show(State(admin): State<Admin>, Number(id): Number) -> Result<Json<Letter>, Problem> {
    fetch(&admin, Some(id), false).await?.pop().map(Json).ok_or_else(|| unknown(id))
}

pub(crate) async fn retry(
    State(admin): State<Admin>,
    caller: Caller,
    Number(id): Number,
) -> Result<Json<Done>, Problem> {
    close(&admin, id, true, caller).await
}

pub(crate) async fn skip(
    State(admin): State<Admin>,
    caller: Caller,
    Number(id): Number,
) -> Result<Json<Done>, Problem> {
    close(&admin, id, false, caller).await
}

async fn fetch(admin: &Admin, only: Option<i64>, open: bool) -> Result<Vec<Letter>, Problem> {
    let rows = admin
        .read(move |reader| {
            let letters = reader.letters(only, open, PAGE)?;
            letters.into_iter().map(|l| Ok((reader.document(l.entity)?, l))).collect::<Result<Vec<_>, _>>()
        })
        .await?;
    Ok(rows.into_iter().map(|(doc, letter)| view(admin, doc.as_deref(), letter)).collect())
}

pub(super) fn view(admin: &Admin, doc: Option<&[u8]>, letter: ListedLetter) -> Letter {
    let names = admin.names();
    let name = |n: u32| names.get(&n).cloned().unwrap_or_else(|| "-".to_owned());
    let entity = doc.and_then(|d| cache::decode(letter.entity, d).ok());
    let reason = admin.relay.vault.open(b"dead_letter", &letter.message).map_or_else(
        |_| "the reason was sealed with another key".to_owned(),
        |words| String::from_utf8_lossy(&words).into_owned(),
    );
    let pipeline = letter.code.starts_with("pipeline_");
    let records = entity
        .iter()
        .flat_map(|e| &e.members)
        .filter_map(|m| Some((name(m.connection), m.native.as_deref()?.to_owned())));
    Letter {
        id: letter.id,
        kind: if pipeline { "pipeline_failed" } else { "target_rejected" },
        state: letter.state,
        at: Timestamp::from_micros(letter.at),
        target: name(letter.target),
        entity: letter.entity,
        object: entity.as_ref().map(|e| e.object.to_string()),
        external_id: entity.as_ref().map(|e| e.uuid.to_string()),
        records: records.collect(),
        next_step: next_step(&letter.code),
        code: letter.code,
        reason,
        fields: letter.fields,
    }
}

/// What a person can do about a refusal.
fn next_step(code: &str) -> &'static str {
    match code {
        "REQUIRED_FIELD_MISSING" => {
            "fill the required field in the source record, or make it optional in the target; then retry"
        }
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST" => {
            "add the value to the target's pick list, or correct it in the source; then retry"
        }
        "STRING_TOO_LONG" => "shorten the value in the source, or lengthen the target's field; then retry",
        "INVALID_EMAIL_ADDRESS" => "correct the e-mail address in the source; it is then written by itself",
        "FIELD_CUSTOM_VALIDATION_EXCEPTION" => "satisfy or change the target's validation rule; then retry",
        "INVALID_FIELD" | "INVALID_FIELD_FOR_INSERT_UPDATE" => {
            "give the connection's user access to the field, or create it (see check --online); then retry"
        }
        "DUPLICATES_DETECTED" | "DUPLICATE_VALUE" | "DUPLICATE_EXTERNAL_ID" => {
            "merge the duplicate records in the target, or allow them in its duplicate rule; then retry"
        }
        code if code.starts_with("pipeline_") => {
            "report this to the operator of the stream: a record there is no change"
        }
        _ => "correct the value in the source or the rule in the target; then retry, or skip it",
    }
}

async fn close(admin: &Admin, id: i64, again: bool, caller: Caller) -> Result<Json<Done>, Problem> {
    let (done, told) = oneshot::channel();
    admin
        .relay
        .handle
        .command(Command::Letter { id, again, by: caller.0, done })
        .map_err(|busy| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", busy.to_string()))?;
    match told.await {
        Ok(true) => Ok(Json(Done { id, state: if again { "retried" } else { "skipped" } })),
        Ok(false) => Err(unknown(id)),
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "the relay is restarting; try again")),
    }
}

fn unknown(id: i64) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "deadletter_unknown",
        format!("there is no open dead letter {id}; deadletter list shows those there are"),
    )
}
