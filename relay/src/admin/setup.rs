//! How far each connection's set-up is, and what a person has to do about it. What is told here is known in the process
//! and needs no database.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Admin;
use crate::setup::Status;

/// One connection and type.
#[derive(Serialize)]
pub(super) struct Line {
    connection: String,
    object: String,
    #[serde(flatten)]
    status: Status,
}

/// `GET /v1/setup`.
pub(super) async fn list(State(admin): State<Admin>) -> Json<Vec<Line>> {
    let line = |(place, status): (crate::setup::Place, Status)| Line {
        connection: place.connection,
        object: place.object.to_string(),
        status,
    };
    Json(admin.relay.setups.statuses().into_iter().map(line).collect())
}
