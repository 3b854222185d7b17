//! `/v1/subscriptions`: how each subscription is, and the two orders a person may give. A router of its own, because it
//! needs nothing of the relay's state.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use headgate_schemas::stream::{Begin, BeginError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::changes::refusal;
use super::{Caller, Problem};
use crate::subscription::{OrderError, Subscriptions, View};

/// The routes.
pub fn router(subscriptions: Subscriptions) -> Router {
    Router::new()
        .route("/v1/subscriptions", get(list))
        .route("/v1/subscriptions/{name}", get(show))
        .route("/v1/subscriptions/{name}/replay", post(replay))
        .route("/v1/subscriptions/{name}/enable", post(enable))
        .with_state(subscriptions)
}

async fn list(State(subscriptions): State<Subscriptions>) -> Json<Value> {
    Json(json!({ "subscriptions": subscriptions.list() }))
}

async fn show(State(subscriptions): State<Subscriptions>, Path(name): Path<String>) -> Result<Json<View>, Problem> {
    subscriptions.show(&name).map(Json).ok_or_else(|| refused(OrderError::Unknown(name)))
}

/// Where to read on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    from: String,
}

async fn replay(
    State(subscriptions): State<Subscriptions>,
    Path(name): Path<String>,
    Caller(by): Caller,
    Json(Replay { from }): Json<Replay>,
) -> Result<Json<Option<View>>, Problem> {
    let bad = |error| Problem::new(StatusCode::BAD_REQUEST, "bad_position", format!("{error}"));
    let begin: Begin = from.parse().map_err(bad)?;
    subscriptions.replay(&name, begin, by).await.map_err(refused)?;
    Ok(Json(subscriptions.show(&name)))
}

async fn enable(
    State(subscriptions): State<Subscriptions>,
    Path(name): Path<String>,
    Caller(by): Caller,
) -> Result<Json<Option<View>>, Problem> {
    subscriptions.enable(&name, by).await.map_err(refused)?;
    Ok(Json(subscriptions.show(&name)))
}

fn refused(error: OrderError) -> Problem {
    let (status, code) = match &error {
        OrderError::Unknown(_) => (StatusCode::NOT_FOUND, "subscription_unknown"),
        OrderError::Begin(BeginError::Position(_)) => (StatusCode::BAD_REQUEST, "bad_position"),
        OrderError::Begin(BeginError::Stream(error)) => return refusal(error),
        OrderError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "subscription_busy"),
    };
    Problem::new(status, code, error.to_string())
}
