//! `/v1/subscriptions`: how each subscription is, the two orders a person may give, and registrations, whose secret is
//! told once, as is a new one. A router of its own, because it needs nothing of the relay's state.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use headgate_schemas::stream::{Begin, BeginError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::changes::refusal;
use super::{Caller, Problem};
use crate::subscription::{OrderError, RegisterError, Registered, Registration, Renewal, Subscriptions, View};

/// The routes.
pub fn router(subscriptions: Subscriptions) -> Router {
    Router::new()
        .route("/v1/subscriptions", get(list).post(register))
        .route("/v1/subscriptions/{name}", get(show).delete(remove))
        .route("/v1/subscriptions/{name}/replay", post(replay))
        .route("/v1/subscriptions/{name}/enable", post(enable))
        .route("/v1/subscriptions/{name}/secret", post(renew))
        .with_state(subscriptions)
}

async fn list(State(subscriptions): State<Subscriptions>) -> Json<Value> {
    Json(json!({ "subscriptions": subscriptions.list() }))
}

async fn show(State(subscriptions): State<Subscriptions>, Path(name): Path<String>) -> Result<Json<View>, Problem> {
    subscriptions.show(&name).map(Json).ok_or_else(|| refused(OrderError::Unknown(name)))
}

async fn register(
    State(subscriptions): State<Subscriptions>,
    Caller(by): Caller,
    body: Result<Json<Registration>, JsonRejection>,
) -> Result<(StatusCode, Json<Registered>), Problem> {
    let bad = |error: JsonRejection| Problem::new(StatusCode::BAD_REQUEST, "bad_body", error.body_text());
    let Json(registration) = body.map_err(bad)?;
    let registered = subscriptions.register(registration, by).await.map_err(not_registered)?;
    Ok((StatusCode::CREATED, Json(registered)))
}

/// A new secret. The body may be left out.
async fn renew(
    State(subscriptions): State<Subscriptions>,
    Path(name): Path<String>,
    Caller(by): Caller,
    body: Result<Option<Json<Renewal>>, JsonRejection>,
) -> Result<Json<Registered>, Problem> {
    let bad = |error: JsonRejection| Problem::new(StatusCode::BAD_REQUEST, "bad_body", error.body_text());
    let Json(renewal) = body.map_err(bad)?.unwrap_or_default();
    subscriptions.renew(&name, renewal, by).await.map(Json).map_err(not_registered)
}

async fn remove(
    State(subscriptions): State<Subscriptions>,
    Path(name): Path<String>,
    Caller(by): Caller,
) -> Result<StatusCode, Problem> {
    subscriptions.remove(&name, by).await.map_err(not_registered)?;
    Ok(StatusCode::NO_CONTENT)
}

fn not_registered(error: RegisterError) -> Problem {
    let (status, code) = match &error {
        RegisterError::Name => (StatusCode::BAD_REQUEST, "bad_name"),
        RegisterError::Tenant(_) => (StatusCode::BAD_REQUEST, "tenant_unknown"),
        RegisterError::Url | RegisterError::Refused(_) => (StatusCode::BAD_REQUEST, "bad_url"),
        RegisterError::Secret(_) => (StatusCode::BAD_REQUEST, "bad_secret"),
        RegisterError::Filter(_) => (StatusCode::BAD_REQUEST, "bad_filter"),
        RegisterError::From(_) | RegisterError::Begin(BeginError::Position(_)) => {
            (StatusCode::BAD_REQUEST, "bad_position")
        }
        RegisterError::Begin(BeginError::Stream(error)) => return refusal(error),
        RegisterError::Taken(_) => (StatusCode::CONFLICT, "subscription_exists"),
        RegisterError::Full(_) => (StatusCode::CONFLICT, "subscriptions_full"),
        RegisterError::Fixed(_) => (StatusCode::CONFLICT, "subscription_in_file"),
        RegisterError::Unknown(_) => (StatusCode::NOT_FOUND, "subscription_unknown"),
        RegisterError::Secrets => (StatusCode::CONFLICT, "secrets_full"),
        RegisterError::Busy | RegisterError::Renewing => (StatusCode::SERVICE_UNAVAILABLE, "subscription_busy"),
        RegisterError::Vault(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    };
    Problem::new(status, code, error.to_string())
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
