//! What the gateway tells its operator: its endpoints with the state of their secrets, calls it refused, and events
//! that no connection has. Only shapes answers; what may be shown is decided in the gateway. The surprising thing: the events themselves
//! are shown, values and all, because whoever reads them here decides whom they belong to; no log ever gets them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headgate_gateway::Gateway;
use serde_json::{Value, json};

use crate::admin::problem;

/// The routes under `/v1` that the gateway answers.
pub(crate) fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/rejected", get(rejected))
        .route("/v1/unrouted", get(unrouted))
        .route("/v1/unrouted/{endpoint}/{account}", get(unrouted_events))
        .with_state(gateway)
}

async fn endpoints(State(gateway): State<Gateway>) -> Json<Value> {
    Json(json!({ "endpoints": gateway.endpoints() }))
}

async fn rejected(State(gateway): State<Gateway>) -> Json<Value> {
    Json(json!({ "rejected": gateway.rejected() }))
}

async fn unrouted(State(gateway): State<Gateway>) -> Json<Value> {
    Json(json!({ "unrouted": gateway.unrouted() }))
}

async fn unrouted_events(
    State(gateway): State<Gateway>,
    Path((endpoint, account)): Path<(String, String)>,
) -> Response {
    let Some(events) = gateway.unrouted_events(&endpoint, &account) else {
        return problem(StatusCode::NOT_FOUND, "not_found", "no event of this account came to this endpoint");
    };
    let event = |event: &headgate_gateway::UnroutedEvent| {
        let body = serde_json::from_slice(&event.body);
        let body: Value = body.unwrap_or_else(|_| String::from_utf8_lossy(&event.body).into());
        json!({ "at": event.at, "event": body })
    };
    let events: Vec<_> = events.iter().map(event).collect();
    Json(json!({ "endpoint": endpoint, "account": account, "events": events })).into_response()
}
