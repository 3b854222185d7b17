//! The one outgoing HTTP client: time-outs, a cap on answers, no redirects, and credentials that no log can show.
//!
//! It knows nothing of any CRM: it moves bytes and says what a lost call means. The surprising thing is how finely it
//! tells *not sent* from *perhaps sent*: a call that never got a connection is safe to repeat, a call that got one and
//! no answer may have been applied. Plain `http` addresses are accepted because the address comes from the operator's
//! file; certificates of `https` addresses are always verified.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headgate_schemas::{Timestamp, time};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};

use crate::oauth::Tokens;
use crate::target::{Disposition, TargetError};

type Pool = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Longest wait an answer may ask for; a longer one is shortened to this and asked again then.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// Bytes of one answer to a form; a longer one is an error of the call.
const FORM_ANSWER_BYTES: usize = 256 << 10;

/// Limits of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From the start of a call to an open connection (name, TCP and TLS). Beyond it the call was not sent.
    pub connect: Duration,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// Idle connections kept per host; further ones are closed after use.
    pub idle_per_host: usize,
    /// Bytes of one answer; a longer one is an error of the call.
    pub answer_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            idle: Duration::from_secs(30),
            idle_per_host: 16,
            answer_bytes: 32 << 20,
        }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The TLS library refused its own default settings.
    #[error("TLS cannot be set up with the default protocol versions; rebuild the program with TLS 1.2 or 1.3")]
    Tls(#[source] rustls::Error),
    /// A file of certificate authorities that cannot be used.
    #[error("the certificate authorities in {path} cannot be used: {why}; name a readable file with PEM certificates")]
    Authorities {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// An address that is not `http://host` or `https://host`.
    #[error("base_url `{0}` is not an http or https address with a host; write it like https://api.example.com")]
    BaseUrl(String),
    /// A credential that cannot stand in a header.
    #[error("the token holds characters that no HTTP header may carry; look for a line break at its end")]
    Token,
}

/// The pool of connections, shared by every CRM.
#[derive(Clone)]
pub struct Http {
    pool: Pool,
    settings: Settings,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Http {
    /// A pool with these limits.
    ///
    /// # Errors
    /// [`SetupError::Tls`].
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect));
        let tls = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .map_err(SetupError::Tls)?
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        // The pool repeats a request by itself only when the connection closed before any of it was written, so a
        // repeat can never be a second write.
        let pool = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle)
            .pool_max_idle_per_host(settings.idle_per_host)
            .build(tls);
        Ok(Self { pool, settings })
    }

    /// A client of one connection. `deadline` bounds a whole call, from its start to the last byte of the answer.
    ///
    /// # Errors
    /// [`SetupError::BaseUrl`].
    pub fn client(&self, base_url: &str, credential: Credential, deadline: Duration) -> Result<Client, SetupError> {
        let base = base_url.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| SetupError::BaseUrl(base.to_owned()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() || uri.query().is_some() {
            return Err(SetupError::BaseUrl(base.to_owned()));
        }
        Ok(Client { way: Way::Called(Arc::new(self.clone())), base_url: base.into(), credential, deadline })
    }

    /// Posts a form without any credentials beside those in it, once. A lost one may have had its effect.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn post_form(&self, url: &str, form: Bytes, deadline: Duration) -> Result<Reply, TargetError> {
        let mut request = Request::new(Full::new(form));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.parse().map_err(|_| unsendable())?;
        let headers = request.headers_mut();
        common(headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.call(request, Effect::Write, deadline, FORM_ANSWER_BYTES.min(self.settings.answer_bytes)).await
    }

    /// Makes one call; `most` caps the answer.
    async fn call(
        &self,
        mut request: Request<Full<Bytes>>,
        effect: Effect,
        deadline: Duration,
        most: usize,
    ) -> Result<Reply, TargetError> {
        let connection = capture_connection(&mut request);
        let answer = async {
            let mut waiting = connection.clone();
            let response = self.pool.request(request);
            tokio::pin!(response);
            let connected = tokio::time::timeout(self.settings.connect, waiting.wait_for_connection_metadata());
            let head = tokio::select! {
                biased;
                head = &mut response => head,
                connected = async { connected.await.is_ok() } => {
                    if !connected {
                        return Err(not_connected());
                    }
                    response.await
                }
            };
            read(head.map_err(|e| failed(&e, effect))?, effect, most).await
        };
        match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => answer,
            Err(_) if connection.connection_metadata().is_none() => Err(not_connected()),
            Err(_) => Err(lost("timeout", "no answer before the send deadline", effect.when_lost())),
        }
    }
}

async fn read(response: Response<Incoming>, effect: Effect, most: usize) -> Result<Reply, TargetError> {
    let (head, body) = response.into_parts();
    if head.status.is_redirection() {
        return Err(redirected());
    }
    let body = Limited::new(body, most).collect().await.map_err(|e| {
        if e.is::<LengthLimitError>() {
            lost("answer_too_large", "the answer is longer than the configured limit", effect.when_lost())
        } else {
            lost("connection_lost", "the connection closed inside the answer", effect.when_lost())
        }
    })?;
    Ok(Reply::new(head.status, head.headers, body.to_bytes()))
}

/// Who we are in a CRM.
#[derive(Clone)]
pub enum Credential {
    /// Always the same.
    Fixed(HeaderValue),
    /// A token that ends, drawn anew for each call.
    Drawn(Tokens),
}

impl Credential {
    /// `Authorization: Bearer …`.
    ///
    /// # Errors
    /// [`SetupError::Token`].
    pub fn bearer(token: &SecretString) -> Result<Self, SetupError> {
        let mut header =
            HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).map_err(|_| SetupError::Token)?;
        header.set_sensitive(true);
        Ok(Self::Fixed(header))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed",
            Self::Drawn(_) => "Drawn",
        })
    }
}

/// What a call does, which decides what its loss means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing changes, so a lost call is simply made again. (A read may well be a POST.)
    Read,
    /// A lost call may have been applied.
    Write,
}

impl Effect {
    /// What is to be done about a call that was sent and got no usable answer.
    pub const fn when_lost(self) -> Disposition {
        match self {
            Self::Read => Disposition::Retry,
            Self::Write => Disposition::Unknown,
        }
    }
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it does.
    pub effect: Effect,
    /// HTTP method.
    pub method: Method,
    /// Path with query, from `/`, already percent-encoded.
    pub path: String,
    /// Headers beside the usual ones.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// JSON.
    pub body: Option<Bytes>,
}

impl Call {
    /// A GET that changes nothing.
    pub const fn get(path: String) -> Self {
        Self { effect: Effect::Read, method: Method::GET, path, headers: Vec::new(), body: None }
    }

    /// A call with a JSON body.
    pub const fn json(effect: Effect, method: Method, path: String, body: Bytes) -> Self {
        Self { effect, method, path, headers: Vec::new(), body: Some(body) }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// A whole answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, read to its end.
    pub body: Bytes,
    /// The CRM's clock, whole seconds.
    pub date: Option<Timestamp>,
}

impl Reply {
    /// A whole answer.
    pub(crate) fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        let date = headers.get(header::DATE).and_then(|v| v.to_str().ok()).and_then(http_date);
        Self { status, headers, body, date }
    }

    /// The value of a header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim)
    }

    /// Nothing answers at this address: what stands there is not the whole of the CRM's API.
    pub fn is_unbuilt(&self) -> bool {
        matches!(self.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
    }

    /// The wait asked for by `Retry-After`, in seconds or as a date (counted from the answer's own `Date`).
    pub fn retry_after(&self) -> Option<Duration> {
        wait(self.header("retry-after")?, self.date)
    }
}

/// The wait that a `Retry-After` asks for, at most a day; a date is counted from `date`, when the answer was made.
pub(crate) fn wait(retry_after: &str, date: Option<Timestamp>) -> Option<Duration> {
    let wait = match retry_after.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => http_date(retry_after)?.since(date?),
    };
    Some(wait.min(LONGEST_WAIT))
}

/// A client of one connection: where it is, and who we are there.
#[derive(Clone)]
pub struct Client {
    way: Way,
    base_url: Box<str>,
    credential: Credential,
    deadline: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// Where answers come from.
#[derive(Clone)]
enum Way {
    /// The CRM.
    Called(Arc<Http>),
    /// A list; see [`crate::foreign`].
    Told(Arc<Mutex<VecDeque<Reply>>>),
}

impl Client {
    /// A client whose calls are answered from a list and go nowhere. A call beyond the end of the list is lost.
    pub(crate) fn told(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self {
            way: Way::Told(Arc::new(Mutex::new(replies.into_iter().collect()))),
            base_url: "http://crm.example".into(),
            credential: Credential::Fixed(HeaderValue::from_static("Bearer x")),
            deadline: Duration::from_secs(10),
        }
    }

    /// What bounds each call.
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Makes one call, once. Dropping the future abandons it; a write may then have been applied.
    ///
    /// # Errors
    /// `connect_failed`: not sent ([`Disposition::Retry`]). `timeout`, `connection_lost`, `answer_too_large`: sent
    /// ([`Effect::when_lost`]). `redirected`: the address answers with another one, which is not followed because our
    /// credentials are not for it ([`Disposition::Permanent`]). Any other status is an `Ok`.
    ///
    /// Where the token ends, one that the CRM refuses is renewed and the call made once more within the same deadline: a
    /// refusal tells that nothing was applied. `no_token` and whatever the token endpoint says mean that it was not sent.
    pub async fn send(&self, call: Call) -> Result<Reply, TargetError> {
        let tokens = match &self.credential {
            Credential::Fixed(authorization) => return self.make(&call, authorization, self.deadline).await,
            Credential::Drawn(tokens) => tokens,
        };
        let begun = tokio::time::Instant::now();
        // The last quarter is for the call itself: a write that is cut off at once is one of unknown outcome.
        let patience = || (self.deadline * 3 / 4).saturating_sub(begun.elapsed());
        let left = || self.deadline.saturating_sub(begun.elapsed());
        let access = tokens.draw(patience()).await?;
        let mut reply = self.make(&call, access.header(), left()).await?;
        if reply.status != StatusCode::UNAUTHORIZED {
            access.worked();
            return Ok(reply);
        }
        if tokens.refused(&access, time::now()) {
            let access = tokens.draw(patience()).await?;
            reply = self.make(&call, access.header(), left()).await?;
            if reply.status != StatusCode::UNAUTHORIZED {
                access.worked();
            }
        }
        Ok(reply)
    }

    async fn make(&self, call: &Call, authorization: &HeaderValue, left: Duration) -> Result<Reply, TargetError> {
        let effect = call.effect;
        let request = self.request(call, authorization)?;
        match &self.way {
            Way::Called(http) => http.call(request, effect, left, http.settings.answer_bytes).await,
            Way::Told(replies) => match replies.lock().pop_front() {
                Some(reply) if reply.status.is_redirection() => Err(redirected()),
                Some(reply) => Ok(reply),
                None => Err(lost("connection_lost", "the list of answers is at its end", effect.when_lost())),
            },
        }
    }

    fn request(&self, call: &Call, authorization: &HeaderValue) -> Result<Request<Full<Bytes>>, TargetError> {
        let uri: Uri = format!("{}{}", self.base_url, call.path).parse().map_err(|_| unsendable())?;
        let mut request = Request::new(Full::new(call.body.clone().unwrap_or_default()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, authorization.clone());
        common(headers);
        if call.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &call.headers {
            headers.insert(name, value.clone());
        }
        Ok(request)
    }
}

/// What every request carries.
fn common(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("headgate/", env!("CARGO_PKG_VERSION"))));
}

fn unsendable() -> TargetError {
    lost("unsendable", "the call cannot be written as an HTTP request", Disposition::Permanent)
}

fn not_connected() -> TargetError {
    lost("connect_failed", "no connection in time; check base_url and the network", Disposition::Retry)
}

fn failed(error: &hyper_util::client::legacy::Error, effect: Effect) -> TargetError {
    if error.is_connect() {
        return lost("connect_failed", "no connection; check base_url and the network", Disposition::Retry);
    }
    lost("connection_lost", "the connection closed before an answer", effect.when_lost())
}

fn redirected() -> TargetError {
    lost("redirected", "the address redirects; put the final address into base_url", Disposition::Permanent)
}

fn lost(code: &str, message: &str, disposition: Disposition) -> TargetError {
    TargetError::new(code, message, disposition)
}

/// An HTTP date (`Sun, 06 Nov 1994 08:49:37 GMT`); the two obsolete forms of RFC 9110 are not understood.
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    static PARSER: jiff::fmt::rfc2822::DateTimeParser = jiff::fmt::rfc2822::DateTimeParser::new();
    PARSER.parse_timestamp(text).ok().map(|t| Timestamp::from_micros(t.as_microsecond()))
}

/// What an answer without a code we know means, by its status alone.
pub fn by_status(reply: &Reply, effect: Effect) -> Disposition {
    match reply.status.as_u16() {
        401 => Disposition::Reauthorise,
        404 | 410 => Disposition::Gone,
        408 | 423 | 425 => Disposition::Retry,
        409 | 412 => Disposition::Conflict,
        429 => Disposition::Rate { wait: reply.retry_after().unwrap_or(Duration::from_secs(5)) },
        500..=599 => effect.when_lost(),
        _ => Disposition::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, headers: &[(&'static str, &str)]) -> Reply {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        Reply::new(StatusCode::from_u16(status).unwrap(), headers, Bytes::new())
    }

    #[test]
    fn dates_and_waits_are_understood() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Timestamp::from_secs(784_111_777)));
        assert_eq!(http_date("yesterday"), None);
        let wait = |value: &str| {
            reply(429, &[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", value)]).retry_after()
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("99999999999"), Some(LONGEST_WAIT));
        assert_eq!(wait("-1"), None);
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn status_alone_decides_where_no_code_is_known() {
        let table = [
            (400, Disposition::Permanent, Disposition::Permanent),
            (401, Disposition::Reauthorise, Disposition::Reauthorise),
            (403, Disposition::Permanent, Disposition::Permanent),
            (404, Disposition::Gone, Disposition::Gone),
            (408, Disposition::Retry, Disposition::Retry),
            (409, Disposition::Conflict, Disposition::Conflict),
            (410, Disposition::Gone, Disposition::Gone),
            (412, Disposition::Conflict, Disposition::Conflict),
            (413, Disposition::Permanent, Disposition::Permanent),
            (423, Disposition::Retry, Disposition::Retry),
            (425, Disposition::Retry, Disposition::Retry),
            (
                429,
                Disposition::Rate { wait: Duration::from_secs(5) },
                Disposition::Rate { wait: Duration::from_secs(5) },
            ),
            (500, Disposition::Retry, Disposition::Unknown),
            (503, Disposition::Retry, Disposition::Unknown),
            (524, Disposition::Retry, Disposition::Unknown),
        ];
        for (status, read, write) in table {
            assert_eq!(by_status(&reply(status, &[]), Effect::Read), read, "read {status}");
            assert_eq!(by_status(&reply(status, &[]), Effect::Write), write, "write {status}");
        }
    }

    #[test]
    fn addresses_and_tokens_are_checked_and_never_shown() {
        let http = Http::new(Settings::default()).unwrap();
        let token = SecretString::from("s3cr3t-token");
        for bad in ["", "api.example.com", "ftp://api.example.com", "https://", "/crm", "https://a.example?x=1"] {
            let refused = http.client(bad, Credential::bearer(&token).unwrap(), Duration::from_secs(1));
            assert!(matches!(refused, Err(SetupError::BaseUrl(_))), "{bad}");
        }
        assert!(matches!(Credential::bearer(&SecretString::from("a\nb")), Err(SetupError::Token)));
        let credential = Credential::bearer(&token).unwrap();
        let Credential::Fixed(authorization) = &credential else { panic!("{credential:?}") };
        let client = http.client("https://api.example.com/", credential.clone(), Duration::from_secs(1)).unwrap();
        let request = client.request(&Call::get("/x?y=1".to_owned()), authorization).unwrap();
        assert_eq!(request.uri(), "https://api.example.com/x?y=1");
        assert_eq!(request.headers()["authorization"], "Bearer s3cr3t-token");
        let shown = [format!("{client:?}"), format!("{request:?}"), format!("{http:?}"), format!("{credential:?}")];
        for shown in shown {
            assert!(!shown.contains("s3cr3t"), "{shown}");
        }
    }
}
