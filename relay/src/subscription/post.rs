//! One attempt: a signed POST to a subscriber's endpoint and what its answer means. Knows no backlog.
//!
//! Nothing of an answer is kept but its status and how long to wait: bodies are read only as far as it takes to use the
//! connection again, and are never shown, because they may repeat what was sent.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headgate_schemas::Timestamp;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use super::backlog::{Answer, Job};
use super::sign::{self, Key};
use crate::authorities;
use crate::engine::micros;
use crate::http;
use crate::outgoing::{Connector, Refused};

/// Bytes of an answer that are read; a longer one costs its connection.
const ANSWER_BYTES: usize = 16 << 10;
/// How long the body of an answer is read; a slower one costs its connection.
const BODY: Duration = Duration::from_secs(1);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept for each host.
const IDLE_MOST: usize = 8;

/// Calls subscribers.
#[derive(Clone)]
pub(super) struct Poster {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster").finish_non_exhaustive()
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What it means for the change.
    pub(super) answer: Answer,
    /// The endpoint says that it is gone for good.
    pub(super) gone: bool,
    /// What happened, without a word of the answer's body.
    pub(super) told: String,
}

impl Outcome {
    fn failed(told: impl Into<String>) -> Self {
        Self { answer: Answer::Failed { wait: 0 }, gone: false, told: told.into() }
    }
}

impl Poster {
    /// Calls through `connector`, and believes the public authorities and those of a file.
    ///
    /// # Errors
    /// When TLS cannot be set up, or the file is of no use.
    pub(super) fn new(connector: Connector, ca_file: Option<&Path>) -> Result<Self, http::SetupError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = ca_file {
            authorities::add_file(&mut roots, path)
                .map_err(|why| http::SetupError::Authorities { path: path.display().to_string(), why })?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(http::SetupError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MOST)
            .build(tls);
        Ok(Self { client })
    }

    /// Posts `job` once and waits for the head of the answer, at most for `within`.
    pub(super) async fn post(&self, url: &Uri, keys: &[Key], job: &Job, now: Timestamp, within: Duration) -> Outcome {
        let Some(request) = request(url, keys, job, now) else {
            return Outcome::failed("the change has an id that no header may carry");
        };
        let response = match tokio::time::timeout(within, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Outcome::failed(cause(&error)),
            Err(_) => return Outcome::failed(format!("no answer within {} s", within.as_secs_f64())),
        };
        let (head, body) = response.into_parts();
        // Read to its end the connection serves the next call; what the body says, or whether it ever ends, is nobody's
        // business here: the answer has been given.
        drop(tokio::time::timeout(BODY, Limited::new(body, ANSWER_BYTES).collect()).await);
        judge(head.status, &head.headers)
    }
}

fn request(url: &Uri, keys: &[Key], job: &Job, now: Timestamp) -> Option<Request<Full<Bytes>>> {
    let mut request = Request::new(Full::new(job.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.clone();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("headgate/", env!("CARGO_PKG_VERSION"))));
    headers.insert("webhook-id", HeaderValue::try_from(&job.id).ok()?);
    headers.insert("webhook-timestamp", HeaderValue::from(sign::seconds(now)));
    let signature = sign::signature(keys, &job.id, now, &job.body);
    headers.insert("webhook-signature", HeaderValue::try_from(signature).ok()?);
    Some(request)
}

/// What a status means. A redirect is a failure like any other: its target was never judged.
fn judge(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let told = format!("it answered {}", status.as_u16());
    if status.is_success() {
        return Outcome { answer: Answer::Taken, gone: false, told };
    }
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let date = text(DATE).and_then(http::http_date);
    let wait = text(RETRY_AFTER).and_then(|after| http::wait(after, date)).map_or(0, micros);
    Outcome { answer: Answer::Failed { wait }, gone: status == StatusCode::GONE, told }
}

/// Why there was no answer: the guard's word where it refused, the innermost cause elsewhere.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    loop {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return refused.to_string();
        }
        match cause.source() {
            Some(inner) => cause = inner,
            None => return format!("no answer: {cause}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, headers: &[(&'static str, &'static str)]) -> Outcome {
        let headers = headers.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect();
        judge(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn only_2xx_takes_a_change() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(judged(status, &[]).answer, Answer::Taken, "{status}");
        }
        for status in [301, 302, 307, 308, 400, 401, 403, 404, 410, 413, 429, 500, 502, 503] {
            assert_eq!(judged(status, &[]).answer, Answer::Failed { wait: 0 }, "{status}");
            assert_eq!(judged(status, &[]).gone, status == 410, "{status}");
        }
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_within_a_day() {
        let wait = |value| judged(503, &[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", value)]).answer;
        assert_eq!(wait("7"), Answer::Failed { wait: 7_000_000 });
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:47 GMT"), Answer::Failed { wait: 10_000_000 });
        assert_eq!(wait("999999999"), Answer::Failed { wait: 86_400_000_000 });
        assert_eq!(wait("soon"), Answer::Failed { wait: 0 });
    }
}
