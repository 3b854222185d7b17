//! The HTTP side of a model: accept, read a capped body, carry out faults, answer.
//!
//! It knows no CRM. The surprising thing: cutting a connection is done by failing the service, which makes the server
//! close the socket without an answer, so the caller learns nothing about what was applied.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headgate_schemas::shutdown::Shutdown;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::SimError;
use super::fault::{CallClass, Fault, Faults, Refusal};

/// Largest body of a request; beyond it 413.
const BODY_CAP: usize = 10 * 1024 * 1024;
/// Open connections; further ones wait in the listener's backlog.
const CONNECTIONS: usize = 2_048;
/// Time for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// One request, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path as sent, without the query.
    pub(crate) path: String,
    /// Path cut at slashes and percent-decoded.
    pub(crate) segments: Vec<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, target: &str, headers: HeaderMap, body: Bytes) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let segments = path.split('/').filter(|s| !s.is_empty()).map(decode).collect();
        Self { method, path: path.to_owned(), segments, query: pairs(query), headers, body }
    }

    /// Path segments as text slices, for matching.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter that may be repeated or hold a comma-separated list.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let values = self.query.iter().filter(|(k, _)| k == name).flat_map(|(_, v)| v.split(','));
        values.map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect()
    }

    /// Whether the body is declared as `media`, whatever its parameters.
    pub(crate) fn has_media(&self, media: &str) -> bool {
        let declared = self.header("content-type").and_then(|v| v.split(';').next());
        declared.is_some_and(|v| v.trim().eq_ignore_ascii_case(media))
    }

    /// Method and path with ids replaced, for counting.
    pub(crate) fn label(&self) -> String {
        let names = self.segments.iter().map(|s| if is_id(s) { "{id}" } else { s.as_str() });
        format!("{} /{}", self.method, names.collect::<Vec<_>>().join("/"))
    }
}

/// A path segment with a digit that is neither a version nor a date nor a type id is taken for an id.
fn is_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let fixed =
        segment.starts_with('v') || segment.starts_with("20") && segment.len() == 7 || segment.starts_with("0-");
    digits > 0 && !fixed && segment != "oauth2"
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Fields of a query or of a form body.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let split = text.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")));
    split.map(|(k, v)| (decode(&k.replace('+', " ")), decode(&v.replace('+', " ")))).collect()
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: Serialize + ?Sized>(status: u16, body: &T) -> Self {
        // The bodies are made here from plain structures, which always serialise; an empty body would be seen at once.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { status, headers: vec![("content-type", "application/json;charset=UTF-8".into())], body }
    }

    pub(crate) const fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().append(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// A CRM model behind the server.
pub(crate) trait Model: Send + Sync + 'static {
    /// The fault plan.
    fn faults(&self) -> &Faults;
    /// What the call does, judged by method and path alone.
    fn class(&self, call: &Call) -> CallClass;
    /// A refusal in the CRM's words.
    fn refuse(&self, call: &Call, refusal: Refusal) -> Answer;
    /// The answer; state changes happen here.
    fn answer(&self, call: &Call) -> Answer;
}

/// Opens the listener of a model.
pub(crate) async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), SimError> {
    let listener = TcpListener::bind(addr).await.map_err(|source| SimError::Bind { addr, source })?;
    let bound = listener.local_addr().map_err(|source| SimError::Bind { addr, source })?;
    Ok((listener, bound))
}

/// Serves until the shutdown stops it; open requests are finished first.
pub(crate) fn serve<M: Model>(listener: TcpListener, model: Arc<M>, shutdown: &Shutdown) {
    let stop = shutdown.clone();
    let _accepting = shutdown.spawn("sim-accept", async move {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = stop.stopped() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, most likely: let open connections end before the next try.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            let (model, watch) = (Arc::clone(&model), stop.clone());
            let _connection = stop.spawn("sim-connection", async move {
                connection(TokioIo::new(stream), model, watch).await;
                drop(slot);
            });
        }
    });
}

async fn connection<M: Model>(io: TokioIo<tokio::net::TcpStream>, model: Arc<M>, stop: Shutdown) {
    let watch = stop.clone();
    let service = hyper::service::service_fn(move |request| {
        let (model, stop) = (Arc::clone(&model), stop.clone());
        async move { handle(model.as_ref(), request, &stop).await }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let mut serving = pin!(builder.serve_connection(io, service));
    // An error here is a caller that went away or a connection cut on purpose: both are ordinary for a model.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = watch.stopped() => {
            serving.as_mut().graceful_shutdown();
            drop(serving.await);
        }
    }
}

/// The connection is cut on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut by the fault plan")]
struct Cut;

async fn handle<M: Model>(
    model: &M,
    request: Request<Incoming>,
    stop: &Shutdown,
) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_CAP).collect().await else {
        return Ok(Answer::empty(413).into_response());
    };
    let target = head.uri.path_and_query().map_or_else(|| head.uri.path().to_owned(), ToString::to_string);
    let call = Call::new(head.method, &target, head.headers, body.to_bytes());
    let answer = match model.faults().pick(model.class(&call), &call.path) {
        None | Some(Fault::RejectRecord { .. } | Fault::RejectRecords) => model.answer(&call),
        Some(Fault::Refuse(refusal)) => model.refuse(&call, refusal),
        Some(Fault::Slow(wait)) => {
            pause(wait, stop).await;
            model.answer(&call)
        }
        Some(Fault::Hang { wait, applied }) => {
            if applied {
                model.answer(&call);
            }
            pause(wait, stop).await;
            return Err(Cut);
        }
        Some(Fault::ResetBefore) => return Err(Cut),
        Some(Fault::ResetAfter) => {
            model.answer(&call);
            return Err(Cut);
        }
    };
    Ok(answer.into_response())
}

async fn pause(wait: Duration, stop: &Shutdown) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stop.stopped() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_taken_apart() {
        let target = "/crm/v3/objects/contacts/a%40b.c?properties=email,phone&properties=city&q=a+b%2Bc";
        let call = Call::new(Method::GET, target, HeaderMap::new(), Bytes::new());
        assert_eq!(call.parts(), ["crm", "v3", "objects", "contacts", "a@b.c"]);
        assert_eq!(call.list("properties"), ["email", "phone", "city"]);
        assert_eq!(call.param("q"), Some("a b+c"));
        assert_eq!(call.param("missing"), None);
    }

    #[test]
    fn labels_keep_versions_and_hide_ids() {
        let label = |target: &str| Call::new(Method::GET, target, HeaderMap::new(), Bytes::new()).label();
        assert_eq!(label("/crm/objects/2026-09/contacts/1001"), "GET /crm/objects/2026-09/contacts/{id}");
        assert_eq!(
            label("/services/data/v62.0/sobjects/Contact/0035g00000AbCdEAAV"),
            "GET /services/data/v62.0/sobjects/Contact/{id}"
        );
        assert_eq!(label("/services/oauth2/token"), "GET /services/oauth2/token");
    }
}
