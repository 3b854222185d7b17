//! `GET /v1/changes`: the stream for anyone, as lines of JSON or as server-sent events, with filters, from any place on.
//! It works on every engine, because it knows only [`Source`].
//!
//! Each change is a CloudEvent with its `partition`, its `offset` and the `position` after it, which is the id of the
//! server-sent event: a reader that lost its connection goes on with `Last-Event-ID` or `?from=`. While nothing comes, a
//! sign of life is sent, with the position for those who filter much away.
//!
//! A reader that is slow holds back only itself: a page is read when it took the last one. When the log has dropped what
//! it would read next, it is told so and the answer ends; a reader that takes nothing for a while is cut off by the
//! listener; beyond the number of readers a further one is refused.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use headgate_schemas::event::{self, Place};
use headgate_schemas::filter::{Filter, FilterText};
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Begin, BeginError, Cursor, Delivered, Source, StreamError};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{OpenSource, Problem};

/// Records fetched at once; the engine stops a page at 4 MB.
const PAGE: usize = 500;
/// A sign of life is sent after so long without any event.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What the handler knows.
#[derive(Clone)]
struct Changes {
    open: OpenSource,
    readers: Arc<Semaphore>,
    shutdown: Shutdown,
}

/// The route, for at most `readers` at once. Answers go on for ever and end with `shutdown`.
pub fn router(open: OpenSource, readers: usize, shutdown: &Shutdown) -> Router {
    let readers = Arc::new(Semaphore::new(readers.min(Semaphore::MAX_PERMITS)));
    Router::new().route("/v1/changes", get(follow)).with_state(Changes { open, readers, shutdown: shutdown.clone() })
}

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default = "now")]
    from: String,
    tenant: Option<String>,
    system: Option<String>,
    account: Option<String>,
    object: Option<String>,
    kind: Option<String>,
    record: Option<String>,
}

fn now() -> String {
    "now".to_owned()
}

async fn follow(
    State(changes): State<Changes>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(wanted) = wanted.map_err(|error| bad("bad_query", error.body_text()))?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let last = text("last-event-id").filter(|id| !id.is_empty());
    let begin: Begin = last.unwrap_or(&wanted.from).parse().map_err(|error| bad("bad_position", format!("{error}")))?;
    let form = match text("accept") {
        Some(accept) if accept.contains("text/event-stream") => Form::Events,
        _ => Form::Lines,
    };
    let Wanted { from: _, tenant, system, account, object, kind, record } = wanted;
    let filter = FilterText { tenant, system, account, object, kind, record };
    let filter = filter.filter().map_err(|error| bad("bad_filter", error.to_string()))?;
    let permit = Arc::clone(&changes.readers).try_acquire_owned().map_err(|_| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_readers",
            "as many readers as [admin] readers allows are connected; close one, or raise it",
        )
    })?;
    let (source, cursor) = open(changes.open, begin).await?;
    let reader = Reader { source, cursor, filter, form, shutdown: changes.shutdown, ended: false, _permit: permit };
    let body = Body::from_stream(stream::unfold(reader, |mut reader| async move {
        let page = reader.page().await?;
        Some((Ok::<_, Infallible>(page), reader))
    }));
    let kind = HeaderValue::from_static(form.media_type());
    let fresh = HeaderValue::from_static("no-store");
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, fresh)], body).into_response())
}

fn bad(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, detail)
}

/// A source that stands where the reader wants to begin. Asking an engine may block, so it happens off the async threads.
async fn open(open: OpenSource, begin: Begin) -> Result<(Box<dyn Source>, Cursor), Problem> {
    let opened = tokio::task::spawn_blocking(move || {
        let mut source = open()?;
        let cursor = begin.cursor(source.as_ref())?;
        source.assign(&cursor.positions())?;
        Ok::<_, BeginError>((source, cursor))
    });
    match opened.await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(BeginError::Position(error))) => Err(bad("bad_position", error.to_string())),
        Ok(Err(BeginError::Stream(error))) => Err(refusal(&error)),
        Err(_) => {
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request was cut off; try again"))
        }
    }
}

/// What a reader is told when the stream says no.
pub(super) fn refusal(error: &StreamError) -> Problem {
    let (status, code) = match error {
        StreamError::OutOfRange { .. } | StreamError::Replaced => (StatusCode::GONE, "replay_position_expired"),
        StreamError::Full
        | StreamError::Unavailable(_)
        | StreamError::Indefinite(_)
        | StreamError::TooLarge { .. }
        | StreamError::Corrupt(_) => (StatusCode::SERVICE_UNAVAILABLE, "stream_unavailable"),
    };
    Problem::new(status, code, error.to_string())
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A line of JSON each.
    Lines,
    /// Server-sent events.
    Events,
}

impl Form {
    const fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    fn event(self, delivered: &Delivered, cursor: &Cursor, out: &mut Vec<u8>) {
        let position = cursor.to_string();
        if self == Self::Events {
            out.extend_from_slice(format!("id: {position}\nevent: change\ndata: ").as_bytes());
        }
        let place = Place { partition: delivered.partition, offset: delivered.offset, position };
        event::write(&delivered.record, Some(&place), out);
        out.extend_from_slice(self.end());
    }

    /// Nothing happened; a reader of events is told how far that holds.
    fn heartbeat(self, cursor: &Cursor, out: &mut Vec<u8>) {
        match self {
            Self::Lines => out.push(b'\n'),
            Self::Events => out.extend_from_slice(format!(": nothing new\nid: {cursor}\n\n").as_bytes()),
        }
    }

    /// The last words: why there is no more.
    fn problem(self, error: &StreamError, out: &mut Vec<u8>) {
        if self == Self::Events {
            out.extend_from_slice(b"event: problem\ndata: ");
        }
        out.extend_from_slice(json!({ "problem": refusal(error) }).to_string().as_bytes());
        out.extend_from_slice(self.end());
    }

    const fn end(self) -> &'static [u8] {
        match self {
            Self::Lines => b"\n",
            Self::Events => b"\n\n",
        }
    }
}

/// One reader.
struct Reader {
    source: Box<dyn Source>,
    cursor: Cursor,
    filter: Filter,
    form: Form,
    shutdown: Shutdown,
    ended: bool,
    /// Its place among the readers.
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The next bytes to send; nothing more after the stop or a problem.
    async fn page(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        let quiet = tokio::time::sleep(HEARTBEAT);
        tokio::pin!(quiet);
        while out.is_empty() && !self.ended {
            tokio::select! {
                biased;
                () = self.shutdown.stopped() => return None,
                () = &mut quiet => self.form.heartbeat(&self.cursor, &mut out),
                read = self.source.next(PAGE) => match read {
                    Ok(records) => self.take(&records, &mut out),
                    Err(error) => {
                        self.ended = true;
                        self.form.problem(&error, &mut out);
                    }
                },
            }
        }
        if out.is_empty() { None } else { Some(Bytes::from(out)) }
    }

    fn take(&mut self, records: &[Delivered], out: &mut Vec<u8>) {
        for delivered in records {
            self.cursor.pass(delivered);
            if self.filter.wants(&delivered.record) {
                self.form.event(delivered, &self.cursor, out);
            }
        }
    }
}
