//! The admin API of the relay: records, dead letters, the stream. Read beside the engine from the same state file;
//! what changes something goes to the engine as a command. Errors are problem documents (RFC 9457).

mod answers;
mod aside;
mod changes;
mod conflicts;
mod history;
mod letters;
mod open;
mod params;
mod record;
mod records;
mod replays;
mod setup;
mod story;
mod subscriptions;

pub use changes::router as changes;
pub use replays::router as replays;
pub use subscriptions::router as subscriptions;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use headgate_schemas::stream::{Source, StreamError};
use serde::Serialize;

use crate::store::{Reader, StoreError};
use crate::{Handle, Relay, Standing};

pub(crate) use aside::Looks;
pub(crate) use open::{Plan, plans};

/// Opens one more reader of the stream.
pub type OpenSource = Arc<dyn Fn() -> Result<Box<dyn Source>, StreamError> + Send + Sync>;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Admin {
    relay: Relay,
}

/// The routes under `/v1` that show and change the relay's state. They are those of the relay that works on it: another
/// one could neither count what is open nor do what it is asked.
pub fn router(relay: Relay) -> Router {
    let handle = relay.handle.clone();
    Router::new()
        .route("/v1/records", get(records::list))
        .route("/v1/records/{system}/{object}/{id}", get(record::show))
        .route("/v1/accounting", get(history::accounting))
        .route("/v1/outcomes", get(history::outcomes))
        .route("/v1/audit", get(history::audit))
        .route("/v1/conflicts", get(conflicts::list))
        .route("/v1/conflicts/{id}", get(conflicts::show))
        .route("/v1/conflicts/{id}/resolve", post(conflicts::resolve))
        .route("/v1/decisions", get(conflicts::decisions))
        .route("/v1/deadletters", get(letters::list))
        .route("/v1/deadletters/{id}", get(letters::show))
        .route("/v1/deadletters/{id}/retry", post(letters::retry))
        .route("/v1/deadletters/{id}/skip", post(letters::skip))
        .route("/v1/setup", get(setup::list))
        .route_layer(middleware::from_fn_with_state(handle, not_while_standing_by))
        .with_state(Admin { relay })
}

/// Routes to what one relay does for all that share a state: another one would know nothing of it, and says so.
pub fn where_it_leads(routes: Router, relay: &Relay) -> Router {
    routes.route_layer(middleware::from_fn_with_state(relay.handle.clone(), not_beside_the_leader))
}

async fn not_beside_the_leader(State(handle): State<Handle>, request: Request, next: Next) -> Response {
    if handle.partitions().is_some() && !handle.leads() {
        let why = "another relay does this for all that share the state: ask the one whose relay_leads is 1";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_leading", why).into_response();
    }
    next.run(request).await
}

async fn not_while_standing_by(State(handle): State<Handle>, request: Request, next: Next) -> Response {
    if handle.standing() == Standing::StandingBy {
        let why = "this relay stands by: another one works on the state, ask there";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "standing_by", why).into_response();
    }
    next.run(request).await
}

impl Admin {
    /// Runs `read` on a database connection of its own, off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let readers = Arc::clone(&self.relay.readers);
        let _room = self.relay.readers.room().await;
        let joined = tokio::task::spawn_blocking(move || readers.read(read)).await;
        match joined {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::error!(%error, "the state cannot be read for the admin API");
                Err(Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "state_unavailable",
                    "the state cannot be read; see the log",
                ))
            }
            Err(_) => {
                Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request was cut off; try again"))
            }
        }
    }

    /// Connections by number.
    fn names(&self) -> HashMap<u32, String> {
        self.relay.handle.connections().into_iter().map(|(name, n)| (n, name)).collect()
    }
}

/// Who asks, by the name the client gives: nobody logs in here, so it is a signature and no proof.
pub(crate) struct Caller(pub(crate) String);

/// The header that carries the name.
const OPERATOR: &str = "headgate-operator";
/// Bytes of a name.
const NAME_MOST: usize = 64;

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let name = parts.headers.get(OPERATOR).and_then(|name| name.to_str().ok()).map(str::trim);
        let name = name.filter(|name| !name.is_empty() && name.len() <= NAME_MOST);
        Ok(Self(name.unwrap_or("somebody on this machine").to_owned()))
    }
}

/// What went wrong with a request.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error");
        Self { title, status: status.as_u16(), code, detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
