//! Endpoints that all gateways share: listed, added, taken away. Only shapes questions and answers; what an endpoint may
//! be is decided in `control`. The surprising thing: an answer comes when every gateway has it, or says which do not.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde_json::json;

use crate::admin::problem;
use crate::control::{ControlError, Shared, Shares, Standing};

/// The routes under `/v1` that every gateway on a cluster answers.
pub(crate) fn router(shares: Arc<Shares>) -> Router {
    Router::new()
        .route("/v1/shared-endpoints", get(list).post(add))
        .route("/v1/shared-endpoints/{name}", delete(remove))
        .with_state(shares)
}

async fn list(State(shares): State<Arc<Shares>>) -> Response {
    Json(json!({ "endpoints": shares.list() })).into_response()
}

async fn add(State(shares): State<Arc<Shares>>, Json(shared): Json<Shared>) -> Response {
    answer(shares.add(shared).await)
}

async fn remove(State(shares): State<Arc<Shares>>, Path(name): Path<String>) -> Response {
    answer(shares.remove(&name).await)
}

fn answer(done: Result<Standing, ControlError>) -> Response {
    let (status, code, error) = match done {
        Ok(standing) => return Json(json!(standing)).into_response(),
        Err(error @ ControlError::Invalid(_)) => (StatusCode::BAD_REQUEST, "invalid_endpoint", error),
        Err(error @ ControlError::Unknown(_)) => (StatusCode::NOT_FOUND, "not_found", error),
        Err(error @ ControlError::Full) => (StatusCode::CONFLICT, "too_many", error),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", error),
    };
    problem(status, code, &error.to_string())
}
