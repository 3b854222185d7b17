//! `GET /v1/changes`: the stream as lines of JSON, from the start, from now, or from a position on. Each line is a
//! CloudEvent in structured form with its `partition` and `offset`; the reader resumes with `?from=OFFSET`.
//!
//! A reader that is too slow holds back only itself: records are fetched when it takes the next lines.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use headgate_schemas::stream::{Delivered, Position, Source, StreamError};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Admin, Problem};

/// Records fetched at once.
const PAGE: usize = 500;

#[derive(Debug, Deserialize)]
pub(crate) struct From {
    #[serde(default = "now")]
    from: String,
}

fn now() -> String {
    "now".to_owned()
}

pub(crate) async fn follow(State(admin): State<Admin>, Query(from): Query<From>) -> Result<Response, Problem> {
    let open = admin.source.clone();
    let source = tokio::task::spawn_blocking(move || {
        let mut source = open()?;
        let positions = positions(source.as_ref(), &from.from)?;
        source.assign(&positions).map_err(Refusal::Stream)?;
        Ok::<_, Refusal>(source)
    })
    .await
    .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request was cut off; try again"))?
    .map_err(Refusal::problem)?;
    let lines = stream::unfold((source, admin.shutdown), |(mut source, shutdown)| async move {
        let records = tokio::select! {
            () = shutdown.stopped() => return None,
            records = source.next(PAGE) => records.ok()?,
        };
        let mut page = Vec::with_capacity(records.len() * 1024);
        for record in &records {
            line(record, &mut page);
        }
        Some((Ok::<_, Infallible>(Bytes::from(page)), (source, shutdown)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

enum Refusal {
    Stream(StreamError),
    From,
}

impl std::convert::From<StreamError> for Refusal {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl Refusal {
    fn problem(self) -> Problem {
        match self {
            Self::From => {
                Problem::new(StatusCode::BAD_REQUEST, "bad_position", "from is start, now, or an offset of the stream")
            }
            Self::Stream(error @ StreamError::OutOfRange { .. }) => {
                Problem::new(StatusCode::GONE, "replay_position_expired", error.to_string())
            }
            Self::Stream(error) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stream_unavailable", error.to_string())
            }
        }
    }
}

fn positions(source: &dyn Source, from: &str) -> Result<Vec<Position>, Refusal> {
    let bounds = source.bounds()?;
    match from {
        "start" => Ok(bounds.into_iter().map(|(start, _)| start).collect()),
        "now" => Ok(bounds.into_iter().map(|(_, end)| end).collect()),
        offset => {
            let offset: u64 = offset.parse().map_err(|_| Refusal::From)?;
            Ok(bounds.into_iter().map(|(start, _)| Position { partition: start.partition, offset }).collect())
        }
    }
}

/// One record as a line.
fn line(delivered: &Delivered, out: &mut Vec<u8>) {
    let mut event = Map::new();
    event.insert("partition".to_owned(), delivered.partition.into());
    event.insert("offset".to_owned(), delivered.offset.into());
    for (name, value) in &delivered.record.headers {
        let name = match name.as_ref() {
            "content-type" => "datacontenttype",
            name => name.strip_prefix("ce_").unwrap_or(name),
        };
        event.insert(name.to_owned(), Value::String(value.clone()));
    }
    let data: Option<&RawValue> = serde_json::from_slice(&delivered.record.body).ok();
    let mut text = Value::Object(event).to_string();
    if let Some(data) = data {
        // The data stay byte for byte as they are in the stream.
        text.pop();
        text.push_str(",\"data\":");
        text.push_str(data.get());
        text.push('}');
    }
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}
