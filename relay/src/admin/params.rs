//! What a request brings (the path, what stands after the question mark, a document), read into types; what does not fit
//! is a problem document that says so, like every other refusal of this API.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Problem;

/// What stands after the question mark.
pub(crate) struct Params<T>(pub(crate) T);

/// A number in the path.
pub(crate) struct Number(pub(crate) i64);

/// A JSON document.
pub(crate) struct Document<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                let detail = format!("{}; correct what stands after the question mark", last(&rejection.body_text()));
                Err(Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<i64>::from_request_parts(parts, state).await {
            Ok(Path(number)) => Ok(Self(number)),
            Err(_) => {
                let detail = "give its number, as the list shows it";
                Err(Problem::new(StatusCode::BAD_REQUEST, "bad_path", detail))
            }
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Document<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(document)) => Ok(Self(document)),
            Err(rejection) => {
                let detail = format!("{}; send JSON with content-type application/json", last(&rejection.body_text()));
                Err(Problem::new(rejection.status(), "bad_document", detail))
            }
        }
    }
}

/// "Failed to deserialize query string: limit: invalid digit": without the part that everybody knows.
fn last(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(_, what)| what)
}
