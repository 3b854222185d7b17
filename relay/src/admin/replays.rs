//! `/v1/replays`: what a replay would do, and the jobs: start, look, stop.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use headgate_schemas::stream::BeginError;
use serde_json::{Value, json};

use super::changes::refusal;
use super::{Caller, Problem};
use crate::replay::{Estimate, ReplayError, Replays, View, Wish};

/// The routes.
pub fn router(replays: Replays) -> Router {
    Router::new()
        .route("/v1/replays", get(list).post(start))
        .route("/v1/replays/estimate", post(estimate))
        .route("/v1/replays/{id}", get(show))
        .route("/v1/replays/{id}/stop", post(stop))
        .with_state(replays)
}

/// The body of a request, with a fault of it told like any other.
type Body = Result<Json<Wish>, JsonRejection>;

fn wish(body: Body) -> Result<Wish, Problem> {
    let Json(wish) = body.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_body", error.body_text()))?;
    Ok(wish)
}

async fn estimate(State(replays): State<Replays>, body: Body) -> Result<Json<Estimate>, Problem> {
    replays.estimate(&wish(body)?).await.map(Json).map_err(refused)
}

async fn start(State(replays): State<Replays>, Caller(by): Caller, body: Body) -> Result<Json<View>, Problem> {
    replays.start(&wish(body)?, by).await.map(Json).map_err(refused)
}

async fn list(State(replays): State<Replays>) -> Json<Value> {
    Json(json!({ "replays": replays.list() }))
}

async fn show(State(replays): State<Replays>, Path(id): Path<u64>) -> Result<Json<View>, Problem> {
    replays.show(id).map(Json).map_err(refused)
}

async fn stop(State(replays): State<Replays>, Path(id): Path<u64>) -> Result<Json<View>, Problem> {
    replays.stop(id).await.map(Json).map_err(refused)
}

fn refused(error: ReplayError) -> Problem {
    let (status, code) = match &error {
        ReplayError::From(_) | ReplayError::Begin(BeginError::Position(_)) => (StatusCode::BAD_REQUEST, "bad_position"),
        ReplayError::Filter(_) => (StatusCode::BAD_REQUEST, "bad_filter"),
        ReplayError::Rate => (StatusCode::BAD_REQUEST, "bad_rate"),
        ReplayError::Begin(BeginError::Stream(error)) | ReplayError::Stream(error) => return refusal(error),
        ReplayError::Running(_) => (StatusCode::CONFLICT, "replay_running"),
        ReplayError::Unknown(_) => (StatusCode::NOT_FOUND, "replay_unknown"),
        ReplayError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        ReplayError::Busy | ReplayError::Estimating => (StatusCode::SERVICE_UNAVAILABLE, "replay_busy"),
    };
    Problem::new(status, code, error.to_string())
}
