//! One request from its first byte to its reply. The only place that knows the order of the steps.
//!
//! ```text
//! route → limit::Failures → limit::admit → limit::read_body → Provider::verify → Provider::changes → limit::Rates::take
//!       → Permit::believe → dedup::reserve → order → publish → Sink::append → dedup::commit → Provider::accepted
//! ```
//!
//! The surprising thing: from the reservation on the work runs in a task of its own. A client that goes away cancels
//! its reply and nothing else; when the deadline passes the reply is 503 while the append goes on, and the provider's
//! next attempt finds what became of it. And a refusal for too much traffic is held back for a moment, with no place
//! taken: a sender that waits for it sends nothing else, so that refusing never crowds out answering.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use headgate_schemas::failpoint::pass;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::{Timestamp, time};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

use crate::config::{Limits, Network, ProviderName};
use crate::dedup::{Dedup, Reserved};
use crate::doors::{Directory, Doors};
use crate::held::{Held, Open, Reply, Unread};
use crate::limit::{self, Admission, BodyFault, Failures, Full, Holder, Permit};
use crate::metrics::{Found, Metrics, Object, Outcome, Reason, Scheme, object_label};
use crate::peer::{self, Peer};
use crate::provider::{self, Answer, Body, Call, Endpoint, Malformed, Provider, Reading, Signed, Unrouted};
use crate::publish::{self, Publisher};
use crate::rejected::{self, Expected, Rejected, RejectedCall};
use crate::route::{Route, route};
use crate::signature::Refusal;
use crate::step;
use crate::unrouted::UnroutedEvents;

/// Seconds after which a provider may try again; short, since overload here is short.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// A larger body is verified and read aside, one at a time: several MiB may take a tenth of a second, in which a thread
/// would answer nobody else, and a hundred times their size in memory.
const LARGE: usize = 64 << 10;

/// Why a request was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    /// No such path.
    #[error("not found")]
    NotFound,
    /// Not a POST.
    #[error("only POST is answered here")]
    WrongMethod,
    /// A compressed body.
    #[error("send the body without Content-Encoding")]
    Encoded,
    /// A body beyond the limit.
    #[error("the body is too large")]
    TooLarge,
    /// A body too slow or too late.
    #[error("the body came too slowly")]
    Slow,
    /// Framing that broke off.
    #[error("the body is incomplete")]
    Broken,
    /// Every place is taken, or all bytes in flight.
    #[error("busy, try again")]
    Busy,
    /// Its peer or its account has as much as it leaves to the others.
    #[error("too many requests at once, try again")]
    OverShare,
    /// Not believed.
    #[error("unauthorised")]
    Unauthorised(Refusal),
    /// Believed and too fast; with the status its provider understands.
    #[error("too many requests, slow down")]
    TooFast(StatusCode),
    /// Too many failures of this stranger; with the status its provider understands.
    #[error("too many requests that failed verification, try again later")]
    TooManyFailures(StatusCode),
    /// Believed and not understood.
    #[error("{0}")]
    Malformed(Malformed),
    /// The stream did not take the events, or did not acknowledge in time.
    #[error("the events could not be stored, try again")]
    NotStored,
}

impl Rejection {
    fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed(provider::UNKNOWN_FORMAT) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Broken | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorised(_) => StatusCode::UNAUTHORIZED,
            Self::TooFast(status) | Self::TooManyFailures(status) => status,
            Self::Busy | Self::OverShare | Self::NotStored => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether it is about how much is sent and not about what: then the answer is held back.
    const fn is_about_traffic(self) -> bool {
        matches!(self, Self::Busy | Self::OverShare | Self::TooFast(_) | Self::TooManyFailures(_))
    }

    const fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::WrongMethod => "method",
            Self::Encoded => "content_encoding",
            Self::TooLarge => "too_large",
            Self::Slow => "slow_body",
            Self::Broken => "broken_body",
            Self::Busy => "busy",
            Self::OverShare => "over_share",
            Self::Unauthorised(refusal) => refusal.label(),
            Self::TooFast(_) => "too_fast",
            Self::TooManyFailures(_) => "too_many_failures",
            Self::Malformed(_) => "malformed",
            Self::NotStored => "not_stored",
        }
    }
}

impl From<BodyFault> for Rejection {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::TooLarge => Self::TooLarge,
            BodyFault::Slow => Self::Slow,
            BodyFault::Full(full) => full.into(),
            BodyFault::Broken => Self::Broken,
        }
    }
}

impl From<Full> for Rejection {
    fn from(full: Full) -> Self {
        match full {
            Full::All => Self::Busy,
            Full::Share => Self::OverShare,
        }
    }
}

/// A request that was not accepted, and what was not read of it.
struct Refused {
    rejection: Rejection,
    unread: Unread,
}

/// Refused after its body was read, or without a word about traffic.
impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, unread: Unread::Nothing }
    }
}

/// What all requests share.
pub(crate) struct Intake {
    /// By provider and key.
    pub endpoints: Doors,
    /// Who may know of more endpoints.
    pub directory: OnceLock<Arc<dyn Directory>>,
    /// What a call to an unknown key is checked against, so that it takes as long as any other.
    pub decoys: HashMap<ProviderName, Endpoint, ahash::RandomState>,
    /// Scheme, host and prefix as the providers see them.
    pub public_url: String,
    /// All limits.
    pub limits: Limits,
    /// Places and bytes of the open requests.
    pub admission: Arc<Admission>,
    /// The turn to read a large body.
    pub large: Semaphore,
    /// Refusals that may be held back.
    pub held: Arc<Semaphore>,
    /// What was published.
    pub dedup: Arc<Dedup>,
    /// The way to the stream.
    pub publisher: Arc<Publisher>,
    /// Failures of strangers.
    pub failures: Failures,
    /// Whose word about strangers is believed.
    pub trusted_proxies: Vec<Network>,
    /// Calls that were refused.
    pub rejected: Rejected,
    /// Events of accounts without a connection.
    pub unrouted: UnroutedEvents,
    /// Counters.
    pub metrics: Metrics,
    /// Runs the tasks.
    pub shutdown: Shutdown,
}

/// A request whose body was read.
struct Received {
    parts: hyper::http::request::Parts,
    body: Bytes,
    at: Timestamp,
    permit: Permit,
}

/// Where a request wants to go, and who brings it.
struct Door<'a> {
    name: ProviderName,
    key: &'a str,
    provider: &'static dyn Provider,
    endpoint: Option<Arc<Endpoint>>,
    peer: Option<Arc<Peer>>,
    /// The address to count failures by; none behind a proxy that names nobody.
    stranger: Option<IpAddr>,
    at: Timestamp,
}

impl Intake {
    /// Answers one request.
    pub(crate) async fn receive(&self, request: Request<Incoming>) -> Reply {
        let (started, at) = (Instant::now(), time::now());
        let open = Open::new(&self.metrics.inflight);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let (provider, result) = match route(&method, uri.path()) {
            Route::Unknown => (None, Err(Rejection::NotFound.into())),
            Route::WrongMethod => (None, Err(Rejection::WrongMethod.into())),
            Route::Inbound { provider, key } => (Some(provider), self.take(request, provider, key, at).await),
            Route::Consent { provider, key } => match self.consent(request.headers(), provider, key) {
                Some(answer) => return answer.into(),
                None => (None, Err(Rejection::WrongMethod.into())),
            },
        };
        self.metrics.request_seconds.observe(started.elapsed().as_secs_f64());
        match result {
            Ok(answer) => self.answer(provider, Ok(answer)).into(),
            Err(Refused { rejection, unread }) => {
                let held = if rejection.is_about_traffic() { self.hold_back(unread, open) } else { None };
                Reply { response: self.answer(provider, Err(rejection)), held }
            }
        }
    }

    /// How a refusal is held back while there is room for one more.
    fn hold_back(&self, unread: Unread, open: Open) -> Option<Held> {
        let place = Arc::clone(&self.held).try_acquire_owned().ok()?;
        Some(Held { time: self.limits.refusal_delay, unread, place, open })
    }

    /// Answers a request for consent to deliveries. Behind an unknown key it is refused like any other origin.
    fn consent(&self, headers: &HeaderMap, name: ProviderName, key: &str) -> Option<Response<Bytes>> {
        let endpoint = self.endpoints.find(name, key);
        let consent = provider::find(name).consent(headers, endpoint.as_deref(), self.limits.endpoint_rate)?;
        let mut reply = reply(StatusCode::OK, None);
        reply.headers_mut().extend(consent.headers);
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
        Some(reply)
    }

    /// The steps, in order.
    async fn take(
        &self,
        request: Request<Incoming>,
        name: ProviderName,
        key: &str,
        at: Timestamp,
    ) -> Result<Answer, Refused> {
        let mut door = self.door(&request, name, key, at);
        let received = self.body(request, &door).await;
        let mut received = received.inspect_err(|refused| self.note(&door, None, refused.rejection))?;
        pass(step::RECEIVED);
        let deadline = tokio::time::Instant::now() + self.limits.append_deadline;
        let provider = door.provider;
        let understood = if received.body.len() > LARGE {
            let turn = tokio::time::timeout_at(deadline, self.large.acquire()).await;
            let Ok(Ok(_turn)) = turn else { return Err(Rejection::Busy.into()) };
            aside(|| self.understand(&mut received, &door))
        } else {
            self.understand(&mut received, &door)
        };
        let understood = match understood {
            Err(Rejection::Unauthorised(_)) if self.learns(deadline).await => {
                door.endpoint = self.endpoints.find(name, key);
                self.understand(&mut received, &door)
            }
            understood => understood,
        };
        let reading = understood.inspect_err(|rejection| self.refused(&door, &received, *rejection))?;
        pass(step::PARSED);
        if reading.changes.is_empty() {
            return Ok(provider.accepted());
        }
        let work = self.publish(name, provider, reading, received.permit);
        match tokio::time::timeout_at(deadline, work).await {
            Ok(Ok(true)) => {
                pass(step::ACCEPTED);
                Ok(provider.accepted())
            }
            Ok(Ok(false) | Err(_)) | Err(_) => Err(Rejection::NotStored.into()),
        }
    }

    /// Where the request wants to go and who brings it.
    fn door<'a>(&'a self, request: &Request<Incoming>, name: ProviderName, key: &'a str, at: Timestamp) -> Door<'a> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let trusted = &self.trusted_proxies;
        let stranger = peer.as_ref().and_then(|peer| peer::stranger(peer.address, request.headers(), trusted));
        let endpoint = self.endpoints.find(name, key);
        Door { name, key, provider: provider::find(name), endpoint, peer, stranger, at }
    }

    /// Finds a place for the request and reads its body within the limits.
    async fn body(&self, request: Request<Incoming>, door: &Door<'_>) -> Result<Received, Refused> {
        let (parts, body) = request.into_parts();
        let mut permit = match self.place(&parts.headers, door) {
            Ok(permit) => permit,
            Err(rejection) => return Err(Refused { rejection, unread: Unread::All(body) }),
        };
        let cap = door.provider.body_bytes().unwrap_or(0).max(self.limits.body_bytes);
        let body = limit::read_body(body, cap, &mut permit, &self.limits).await;
        let body = body.map_err(|fault| Refused { rejection: fault.into(), unread: Unread::Part })?;
        Ok(Received { parts, body, at: door.at, permit })
    }

    /// What is decided before the first byte of the body is read.
    fn place(&self, headers: &HeaderMap, door: &Door<'_>) -> Result<Permit, Rejection> {
        let place = door.endpoint.as_ref().map(|endpoint| endpoint.number);
        if door.stranger.is_some_and(|stranger| self.failures.refuses(stranger, place, tokio::time::Instant::now())) {
            return Err(Rejection::TooManyFailures(door.provider.slow_down()));
        }
        plain_encoding(headers)?;
        Ok(self.admission.admit(door.stranger, door.provider.hardly_retries())?)
    }

    /// Verifies, reads, and checks the rate and the share of whose events these are.
    fn understand(&self, received: &mut Received, door: &Door<'_>) -> Result<Reading, Rejection> {
        let provider = door.provider;
        let endpoint = self.believe(received, door)?;
        pass(step::VERIFIED);
        let url = self.url(received);
        let mut reading =
            provider.changes(&received.call(&url), endpoint, received.at).map_err(Rejection::Malformed)?;
        let accounts = reading.changes.iter().map(|change| change.source.account.as_str());
        let accounts = accounts.chain(reading.unrouted.iter().map(|event| event.account.as_str()));
        let accounts =
            endpoint.rates.take(accounts).map_err(|limit::TooFast| Rejection::TooFast(provider.slow_down()))?;
        received.permit.believe(accounts.into_iter().map(|n| Holder::Account(endpoint.number, n)).collect())?;
        self.count(endpoint, &reading);
        self.keep_unrouted(&endpoint.config.name, &mut reading.unrouted, received.at);
        Ok(reading)
    }

    /// Whether there is an endpoint, or a secret, that was not known when the call came.
    async fn learns(&self, deadline: tokio::time::Instant) -> bool {
        let Some(directory) = self.directory.get() else { return false };
        tokio::time::timeout_at(deadline, directory.reread()).await.unwrap_or(false)
    }

    /// Counts a failure of a stranger, and keeps the call.
    fn refused(&self, door: &Door<'_>, received: &Received, rejection: Rejection) {
        if let (Rejection::Unauthorised(_), Some(stranger)) = (rejection, door.stranger) {
            let place = door.endpoint.as_ref().map(|endpoint| endpoint.number);
            self.failures.count(stranger, place, tokio::time::Instant::now());
        }
        self.note(door, Some(received), rejection);
    }

    /// Finds the endpoint and checks the signature over the raw bytes.
    fn believe<'d>(&self, received: &Received, door: &'d Door<'_>) -> Result<&'d Endpoint, Rejection> {
        let unknown = Rejection::Unauthorised(Refusal::UnknownEndpoint);
        let (found, provider) = (door.endpoint.as_deref(), door.provider);
        let Some(endpoint) = found.or_else(|| self.decoys.get(&door.name)) else { return Err(unknown) };
        let started = Instant::now();
        let url = self.url(received);
        endpoint.expire(received.at);
        let verdict = provider.verify(&received.call(&url), endpoint, received.at);
        let scheme = verdict.unwrap_or("none");
        self.metrics.verify_seconds.get_or_create(&Scheme { scheme }).observe(started.elapsed().as_secs_f64());
        let Some(endpoint) = found else { return Err(unknown) };
        verdict.map_err(Rejection::Unauthorised)?;
        if let Some(authority) = &endpoint.clients {
            let now = received.at.since(Timestamp::from_micros(0));
            if !door.peer.as_ref().is_some_and(|peer| authority.vouches_for(peer, now)) {
                return Err(Rejection::Unauthorised(Refusal::ClientCertificate));
            }
        }
        endpoint.verified(received.at);
        Ok(endpoint)
    }

    /// Counts what a call held.
    fn count(&self, endpoint: &Endpoint, reading: &Reading) {
        let source = endpoint.config.provider.as_str();
        for change in &reading.changes {
            let object = object_label(change.object.kind.as_str());
            self.metrics.events.get_or_create(&Object { source, object }).inc();
        }
        for (reason, count) in [("unknown_kind", reading.unknown), ("unrouted", reading.unrouted.len() as u64)] {
            if count > 0 {
                self.metrics.ignored.get_or_create(&Reason { source, reason }).inc_by(count);
            }
        }
    }

    fn keep_unrouted(&self, endpoint: &str, unrouted: &mut Vec<Unrouted>, at: Timestamp) {
        let Some(first) = unrouted.first() else { return };
        tracing::info!(
            endpoint,
            account = first.account,
            events = unrouted.len(),
            "events of an account without a connection"
        );
        for Unrouted { account, body } in unrouted.drain(..) {
            self.unrouted.keep(endpoint, &account, body, at);
        }
    }

    /// Keeps a refused call for whoever wonders why nothing arrives. What is our own fault is no refusal.
    fn note(&self, door: &Door<'_>, received: Option<&Received>, rejection: Rejection) {
        if matches!(rejection, Rejection::Busy | Rejection::OverShare | Rejection::NotStored) {
            return;
        }
        let detail = match rejection {
            Rejection::Unauthorised(refusal) => refusal.to_string(),
            other => other.to_string(),
        };
        let expected = match (received, door.endpoint.as_ref()) {
            (Some(received), Some(_)) => {
                let url = self.url(received);
                let Signed { scheme, url, timestamp } = door.provider.signed(&received.call(&url));
                let timestamp = timestamp.map(|text| provider::bounded(&text, 64));
                Some(Expected { scheme, url: url.map(|url| rejected::hidden(&url, door.key)), timestamp })
            }
            _ => None,
        };
        self.rejected.note(RejectedCall {
            at: door.at,
            endpoint: door.endpoint.as_ref().map(|endpoint| endpoint.config.name.clone()),
            provider: door.name.as_str(),
            peer: door.stranger.or_else(|| door.peer.as_ref().map(|peer| peer.address)),
            status: rejection.status().as_u16(),
            reason: rejection.label(),
            detail,
            expected,
            body_bytes: received.map_or(0, |received| received.body.len()),
        });
    }

    /// Reserves and publishes in a task of its own, which keeps the request's share of memory until the end.
    fn publish(
        &self,
        name: ProviderName,
        provider: &'static dyn Provider,
        reading: Reading,
        permit: Permit,
    ) -> tokio::task::JoinHandle<bool> {
        let reserved = publish::reserve(&self.dedup, provider, &reading.changes);
        pass(step::RESERVED);
        let source = name.as_str();
        for reserved in &reserved {
            let result = match reserved {
                Reserved::New(_) => "new",
                Reserved::Open(_) => "in_flight",
                Reserved::Kept => "known",
            };
            self.metrics.dedup.get_or_create(&Found { source, result }).inc();
        }
        let publisher = Arc::clone(&self.publisher);
        self.shutdown.spawn("publish", async move {
            let published = publisher.publish(reading.changes, reserved).await;
            drop(permit);
            published.inspect_err(|error| tracing::debug!(%error, "a request was not published")).is_ok()
        })
    }

    /// The URL as the provider signed it: ours, never what the request claims to be its host.
    fn url(&self, received: &Received) -> String {
        let target = received.parts.uri.path_and_query().map_or("", |target| target.as_str());
        format!("{}{target}", self.public_url)
    }

    fn answer(&self, name: Option<ProviderName>, result: Result<Answer, Rejection>) -> Response<Bytes> {
        let source = name.map_or("none", ProviderName::as_str);
        let outcome = match result {
            Ok(_) => "accepted",
            Err(rejection) if rejection.status().is_server_error() => "unavailable",
            Err(_) => "refused",
        };
        self.metrics.requests.get_or_create(&Outcome { source, outcome }).inc();
        let rejection = match result {
            Ok(answer) => return reply(answer.status, answer.body),
            Err(rejection) => rejection,
        };
        self.metrics.rejected.get_or_create(&Reason { source, reason: rejection.label() }).inc();
        tracing::debug!(source, reason = rejection.label(), "a request was not accepted");
        let read = name.and_then(|name| provider::find(name).refused());
        let mut reply = reply(rejection.status(), read);
        if read.is_none() {
            *reply.body_mut() = Bytes::from(format!("{rejection}\n"));
            reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        if matches!(reply.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            reply.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if rejection == Rejection::WrongMethod {
            reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        reply
    }
}

impl Received {
    fn call<'a>(&'a self, url: &'a str) -> Call<'a> {
        Call { method: self.parts.method.as_str(), url, headers: &self.parts.headers, body: &self.body }
    }
}

/// Runs work that takes long without keeping its thread from what else it would do. With a single thread there is nobody
/// else to do it.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Refuses compressed bodies: a signature covers bytes as sent, and a small body may unfold into a huge one.
fn plain_encoding(headers: &HeaderMap) -> Result<(), Rejection> {
    let plain = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(plain) { Ok(()) } else { Err(Rejection::Encoded) }
}

fn reply(status: StatusCode, body: Option<Body>) -> Response<Bytes> {
    let text = body.map_or("", |body| body.text);
    let mut reply = Response::new(Bytes::from_static(text.as_bytes()));
    *reply.status_mut() = status;
    if let Some(body) = body {
        reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(body.content_type));
    }
    reply
}
