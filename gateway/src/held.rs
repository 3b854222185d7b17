//! Answers, and those that are held back for a moment: whoever waits for an answer sends nothing else meanwhile, so that
//! refusing never crowds out answering.
//!
//! It must not know why something is refused. The surprising thing: an answer over HTTP/1.1 waits outside of the HTTP
//! library. What the library keeps of a connection is thirty kilobytes, an overload holds back thousands of answers, and
//! all that is left to do is to throw away a body of known length and to write a few lines.

use std::future::pending;
use std::io;

use bytes::Bytes;
use futures_util::FutureExt as _;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::time;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, EXPECT};
use hyper::{Request, Response, Version};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, sleep, timeout};

use crate::line::Line;

/// Bytes of an unread body that are thrown away so that its connection can go on: a connection that is closed with bytes
/// unread is reset, and its sender may never see the answer.
const DISCARDED: u64 = 64 << 10;

/// What a request is answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The answer.
    pub response: Response<Bytes>,
    /// How it is held back, if it is.
    pub held: Option<Held>,
}

impl From<Response<Bytes>> for Reply {
    fn from(response: Response<Bytes>) -> Self {
        Self { response, held: None }
    }
}

/// How an answer is held back.
#[derive(Debug)]
pub(crate) struct Held {
    /// For so long.
    pub time: Duration,
    /// What must be taken off the connection.
    pub unread: Unread,
    /// One of the answers that may be held back at once.
    pub place: OwnedSemaphorePermit,
    /// The request is open until it is answered.
    pub open: Open,
}

/// What is left of the body of a request.
#[derive(Debug)]
pub(crate) enum Unread {
    /// Nothing: it was read.
    Nothing,
    /// All of it.
    All(Incoming),
    /// Nobody knows how much.
    Part,
}

/// Counts a request as open until this is dropped.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Open {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Held {
    /// Waits inside of the HTTP library, and takes what comes of the body off the connection meanwhile.
    pub(crate) async fn wait(self, shutdown: &Shutdown) {
        let discard = async {
            if let Unread::All(body) = self.unread {
                discard(body).await;
            }
            pending::<()>().await;
        };
        tokio::select! {
            () = shutdown.stopped() => {}
            () = sleep(self.time) => {}
            () = discard => {}
        }
    }

    /// Whether it is known how many bytes of the request are still to come.
    pub(crate) fn is_measured(&self) -> bool {
        match &self.unread {
            Unread::Nothing => true,
            Unread::All(body) => body.size_hint().exact().is_some(),
            Unread::Part => false,
        }
    }
}

/// Whether the answer to a request may be written without the HTTP library: nothing was said about its connection, and its
/// sender does not wait to be asked for the body.
pub(crate) fn is_plain<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.version() == Version::HTTP_11 && !headers.contains_key(CONNECTION) && !headers.contains_key(EXPECT)
}

/// An answer that waits outside of the HTTP library.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// To a request that [`is_plain`].
    pub response: Response<Bytes>,
    /// That [`is_measured`](Held::is_measured).
    pub held: Held,
}

impl Waiting {
    /// Waits, throws away the body, and answers; tells whether the connection can go on. The library must have given up
    /// the connection, and everything answered before must have left. `patience` is for the client to take it.
    pub(crate) async fn answer<S>(self, line: &mut Line<S>, shutdown: &Shutdown, patience: Duration) -> io::Result<bool>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { response, held: Held { time, unread, place, open } } = self;
        let mut left = left(unread);
        let mut may_skip = left.min(DISCARDED);
        let mut skip = async |line: &mut Line<S>| -> io::Result<u64> {
            let skipped = line.skip(may_skip).await?;
            may_skip -= skipped;
            Ok(skipped)
        };
        left -= skip(line).await?;
        tokio::select! {
            () = shutdown.stopped() => {}
            () = sleep(time) => {}
        }
        left -= skip(line).await?;
        drop((place, open));
        let closes = left > 0 || shutdown.is_stopped();
        let written = async {
            line.write_all(&lines(&response, closes)).await?;
            if closes { line.shutdown().await } else { line.flush().await }
        };
        timeout(patience, written).await.map_err(io::Error::from)??;
        Ok(!closes)
    }
}

/// Bytes of a body that the connection still holds. What the library had read ahead is in `unread` and ends there.
fn left(unread: Unread) -> u64 {
    let Unread::All(mut body) = unread else { return 0 };
    while let Some(Some(Ok(_))) = body.frame().now_or_never() {}
    body.size_hint().exact().unwrap_or(u64::MAX)
}

/// An answer as HTTP/1.1 has it (RFC 9112, section 2).
fn lines(response: &Response<Bytes>, closes: bool) -> Vec<u8> {
    let (status, body) = (response.status(), response.body());
    let reason = status.canonical_reason().map_or_else(|| " ".to_owned(), |reason| format!(" {reason}"));
    let mut lines = Vec::with_capacity(256 + body.len());
    let mut line = |parts: [&[u8]; 3]| {
        parts.iter().for_each(|part| lines.extend_from_slice(part));
        lines.extend_from_slice(b"\r\n");
    };
    line([b"HTTP/1.1 ", status.as_str().as_bytes(), reason.as_bytes()]);
    for (name, value) in response.headers() {
        line([name.as_str().as_bytes(), b": ", value.as_bytes()]);
    }
    let now = std::time::UNIX_EPOCH + time::now().since(headgate_schemas::Timestamp::from_micros(0));
    line([b"date: ", httpdate::fmt_http_date(now).as_bytes(), b""]);
    line([b"content-length: ", body.len().to_string().as_bytes(), b""]);
    if closes {
        line([b"connection: close", b"", b""]);
    }
    line([b"", b"", b""]);
    lines.extend_from_slice(body);
    lines
}

/// Throws away what comes of a body that nobody will read, at most [`DISCARDED`] bytes.
async fn discard(mut body: Incoming) {
    let mut discarded = 0;
    while discarded < DISCARDED {
        let Some(Ok(frame)) = body.frame().await else { return };
        discarded += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use hyper::header::{HeaderValue, RETRY_AFTER};

    use super::*;

    #[test]
    fn an_answer_is_written_as_http_has_it() {
        let mut response = Response::new(Bytes::from_static(b"busy\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        let text = |closes| String::from_utf8(lines(&response, closes)).unwrap();
        let (before, rest) = text(false).split_once("date: ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(before, "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n");
        let (date, after) = rest.split_once("\r\n").unwrap();
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
        assert_eq!(after, "content-length: 5\r\n\r\nbusy\n");
        assert!(text(true).ends_with("content-length: 5\r\nconnection: close\r\n\r\nbusy\n"));
    }

    #[test]
    fn what_was_said_of_the_connection_is_left_to_the_library() {
        let request = || Request::builder().header("host", "h");
        let plain = |request: hyper::http::request::Builder| is_plain(&request.body(()).unwrap());
        assert!(plain(request()));
        for (name, value) in [("connection", "close"), ("expect", "100-continue")] {
            assert!(!plain(request().header(name, value)), "{name}");
        }
        assert!(!plain(request().version(Version::HTTP_10)) && !plain(request().version(Version::HTTP_2)));
    }
}
