//! Talks to the admin API of a running server. Knows addresses, JSON and problem documents (RFC 9457), no command.
//! The surprise: of the configuration only `[admin].listen` is read, so that looking at a running server works while
//! its file is being edited.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{DEFAULT_FILE, Server};
use crate::config::{self, Env};
use crate::exit::{Exit, Failure};
use crate::output::printable;
use crate::report;

/// Longest wait for a connection; the server is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const ANSWER_BYTES: usize = 64 << 20;
/// Longest line of a stream of changes.
const LINE_BYTES: usize = 16 << 20;

/// What can go wrong between this program and the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// Nothing listens.
    #[error("no server answers at {url}: {reason}\nIs it running? Name another one with --config FILE or --admin URL.")]
    Unreachable {
        /// Where.
        url: String,
        /// What the connection said.
        reason: String,
    },
    /// It hung up in the middle: whether it did what was asked is not known.
    #[error("the server at {url} hung up before it had answered: {reason}")]
    HungUp {
        /// Where.
        url: String,
        /// What the connection said.
        reason: String,
    },
    /// It took too long.
    #[error("the server at {url} did not answer within {} s", ANSWER.as_secs())]
    Late {
        /// Where.
        url: String,
    },
    /// The server says no, and why.
    #[error("{title}{}", detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Problem {
        /// Its code, for the exit code and for scripts.
        code: Option<String>,
        /// What is wrong.
        title: String,
        /// More about it.
        detail: Option<String>,
    },
    /// Something answers, but not this API.
    #[error("{url} is not the admin API of headgate: {reason}")]
    Foreign {
        /// Where.
        url: String,
        /// What is strange.
        reason: String,
    },
}

impl AdminError {
    /// Whether the server may have done what it was asked.
    pub(crate) const fn leaves_open(&self) -> bool {
        match self {
            Self::HungUp { .. } | Self::Late { .. } => true,
            Self::Unreachable { .. } | Self::Problem { .. } | Self::Foreign { .. } => false,
        }
    }

    /// The code of what the server says no with.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Problem { code, .. } => code.as_deref(),
            Self::Unreachable { .. } | Self::HungUp { .. } | Self::Late { .. } | Self::Foreign { .. } => None,
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let exit = match &error {
            AdminError::Unreachable { .. } | AdminError::HungUp { .. } | AdminError::Late { .. } => Exit::CannotReach,
            AdminError::Problem { .. } | AdminError::Foreign { .. } => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

/// A problem document.
#[derive(Deserialize)]
struct Problem {
    title: String,
    detail: Option<String>,
    code: Option<String>,
}

/// A client of one server.
#[derive(Debug)]
pub(crate) struct AdminClient {
    http: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl AdminClient {
    /// The server that the options name: `--admin`, else `--config`, else `headgate.toml` here, else the default address.
    ///
    /// # Errors
    /// When the options name none.
    pub(crate) fn of(server: &Server, env: &Env) -> Result<Self, Failure> {
        Ok(Self::at(base(server, env)?))
    }

    /// The server at `base`, a URL without a slash at the end.
    pub(crate) fn at(base: String) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        Self { http: Client::builder(TokioExecutor::new()).build(connector), base }
    }

    /// Reads `path`.
    ///
    /// # Errors
    /// When the server cannot be reached or says no.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, AdminError> {
        self.call(Method::GET, path, None).await
    }

    /// Asks for what `path` stands for.
    ///
    /// # Errors
    /// When the server cannot be reached or says no.
    pub(crate) async fn post(&self, path: &str) -> Result<Value, AdminError> {
        self.call(Method::POST, path, None).await
    }

    /// The same with a document that says more.
    ///
    /// # Errors
    /// When the server cannot be reached or says no.
    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Result<Value, AdminError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Takes away what `path` names.
    ///
    /// # Errors
    /// When the server cannot be reached or says no.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, AdminError> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, AdminError> {
        let answer = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let body = self.body(response).await?;
            if !status.is_success() {
                return Err(self.problem(status, &body));
            }
            if body.is_empty() {
                return Ok(Value::Null);
            }
            serde_json::from_slice(&body).map_err(|_| self.foreign("its answer is not JSON"))
        };
        tokio::time::timeout(ANSWER, answer).await.map_err(|_| AdminError::Late { url: self.base.clone() })?
    }

    /// Reads the lines of an endless answer until the server ends it or `each` wants no more (returns `false`).
    ///
    /// # Errors
    /// When the server cannot be reached, says no, hangs up in the middle or sends a line beyond the limit.
    pub(crate) async fn lines(&self, path: &str, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), AdminError> {
        let head = tokio::time::timeout(ANSWER, self.send(Method::GET, path, None)).await;
        let response = head.map_err(|_| AdminError::Late { url: self.base.clone() })??;
        let status = response.status();
        if !status.is_success() {
            let body = self.body(response).await?;
            return Err(self.problem(status, &body));
        }
        let mut body = response.into_body();
        let mut lines = Lines::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.hung_up(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            if !lines.feed(data, &mut each).map_err(|TooLong| self.foreign("it sends a line beyond the limit"))? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, AdminError> {
        let uri: Uri = format!("{}{path}", self.base).parse().map_err(|_| self.foreign("the URL cannot be built"))?;
        let mut request = Request::new(Full::new(body.map(|b| Bytes::from(b.to_string())).unwrap_or_default()));
        if body.is_some() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        // Whoever is logged in here signs what is done; the server keeps the name with the deed.
        let name = std::env::var("USER").ok().and_then(|name| HeaderValue::from_str(&name).ok());
        if let Some(name) = name {
            request.headers_mut().insert("headgate-operator", name);
        }
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        self.http.request(request).await.map_err(|error| {
            if error.is_connect() {
                AdminError::Unreachable { url: self.base.clone(), reason: cause(&error) }
            } else {
                self.hung_up(&error)
            }
        })
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, AdminError> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        Ok(body.map_err(|error| self.hung_up(&*error))?.to_bytes())
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> AdminError {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => AdminError::Problem {
                code: problem.code,
                title: printable(&problem.title),
                detail: problem.detail.as_deref().map(printable),
            },
            Err(_) => self.foreign(&format!("it answers {status} without a reason")),
        }
    }

    fn foreign(&self, reason: &str) -> AdminError {
        AdminError::Foreign { url: self.base.clone(), reason: reason.to_owned() }
    }

    fn hung_up(&self, error: &(dyn std::error::Error + 'static)) -> AdminError {
        AdminError::HungUp { url: self.base.clone(), reason: cause(error) }
    }
}

/// The innermost cause: the outer ones say no more than "it failed".
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A line beyond [`LINE_BYTES`].
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

/// Cuts a stream of bytes into lines; empty lines keep a connection alive and are left out.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Gives each line that `data` completes to `each`, until it returns `false`. Tells whether to go on.
    fn feed(&mut self, data: &[u8], each: &mut impl FnMut(&[u8]) -> bool) -> Result<bool, TooLong> {
        let mut parts = data.split(|byte| *byte == b'\n');
        let mut part = parts.next().unwrap_or_default();
        for next in parts {
            self.rest.extend_from_slice(part);
            let line = std::mem::take(&mut self.rest);
            if !line.trim_ascii().is_empty() && !each(&line) {
                return Ok(false);
            }
            part = next;
        }
        self.rest.extend_from_slice(part);
        if self.rest.len() > LINE_BYTES { Err(TooLong) } else { Ok(true) }
    }
}

fn base(server: &Server, env: &Env) -> Result<String, Failure> {
    if let Some(url) = &server.admin {
        return admin_url(url).map_err(|problem| Failure::new(Exit::Usage, format!("--admin: {problem}")));
    }
    let fallback = || Path::new(DEFAULT_FILE).exists().then_some(Path::new(DEFAULT_FILE));
    let Some(file) = server.config.as_deref().or_else(fallback) else {
        return Ok("http://127.0.0.1:8081".to_owned());
    };
    let listen = config::load_admin(file, env).map_err(|error| report::refused(&error))?;
    if listen.port() == 0 {
        let message = format!("{}: the server picks its admin port itself; name it with --admin URL", file.display());
        return Err(Failure::new(Exit::Configuration, message));
    }
    Ok(format!("http://{listen}"))
}

fn admin_url(text: &str) -> Result<String, &'static str> {
    if text.starts_with("https://") {
        return Err("the admin API speaks http:// on loopback; reach it through a tunnel");
    }
    config::base_url(text)
}

/// `text` as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_bytes_are() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for chunk in ["{\"a\"", ":1}\n\n{\"b\":2}\n{", "\"c\":3}", "\n"] {
            let go_on = lines.feed(chunk.as_bytes(), &mut |line| {
                seen.push(String::from_utf8_lossy(line).into_owned());
                true
            });
            assert_eq!(go_on, Ok(true));
        }
        assert_eq!(seen, ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
        assert_eq!(lines.feed(&vec![b'x'; LINE_BYTES + 1], &mut |_| true), Err(TooLong));
        assert_eq!(Lines::default().feed(b"a\nb\n", &mut |line| line != b"a"), Ok(false));
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("003/..?x#y z"), "003%2F..%3Fx%23y%20z");
        assert_eq!(segment("ä"), "%C3%A4");
    }
}
