//! One connection from its first byte to its end: which HTTP it speaks, how long it may take, and where it rests. It must
//! not know what a request means.
//!
//! The surprising thing: a connection that rests is taken from the HTTP library. Its buffers and its state are thirty
//! kilobytes, a provider keeps hundreds of connections and uses each now and then, and a stranger may open as many as
//! there are. What rests is a socket and a few hundred bytes, until it says something.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use headgate_schemas::shutdown::Shutdown;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout_at};

use crate::config::Limits;
use crate::line::{Line, Version};

/// Nothing said for so long, or up to twice as long, is a rest: longer than between two requests of one burst, shorter
/// than what ten thousand connections that each ask once would need to come in.
const REST: Duration = Duration::from_millis(250);
/// Smallest buffer the HTTP library takes.
const LEAST_BUFFER: usize = 8_192;
/// Bytes of one HTTP/2 stream that may be on their way unread, and of all streams of a connection together.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How connections are served.
pub(crate) struct Connections {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    patience: Duration,
    shutdown: Shutdown,
}

impl Connections {
    /// Within these limits, until the stop.
    pub(crate) fn new(limits: &Limits, shutdown: Shutdown) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // What a client that is slow with its header has left is counted here, across its rests.
            .header_read_timeout(None)
            .max_headers(limits.headers)
            .max_buf_size(limits.header_bytes.max(LEAST_BUFFER));
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(limits.h2_streams)
            .max_pending_accept_reset_streams(limits.h2_resets)
            .max_local_error_reset_streams(limits.h2_resets)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(limits.header_timeout)
            .keep_alive_timeout(limits.header_timeout);
        Self { http1, http2, patience: limits.header_timeout, shutdown }
    }

    /// Answers the requests of a connection until it ends, says nothing for too long, or the stop.
    pub(crate) async fn serve<S, A, F>(&self, stream: S, answer: A)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let mut line = Line::new(stream);
        let mut until = Instant::now() + self.patience;
        let version = tokio::select! {
            () = self.shutdown.stopped() => return,
            version = timeout_at(until, line.version()) => version,
        };
        match version {
            Ok(Ok(Version::Http1)) => {}
            // What answers requests is large and on the heap, so that a connection that rests need not have it.
            Ok(Ok(Version::Http2)) => return Box::pin(self.http2(line, answer)).await,
            Ok(Err(error)) => return tracing::debug!(%error, "a connection broke before its first request"),
            Err(_) => return tracing::debug!("a connection did not say what it speaks"),
        }
        while let Some(rested) = Box::pin(self.http1(line, answer.clone(), until)).await {
            (line, until) = rested;
            let more = tokio::select! {
                () = self.shutdown.stopped() => return,
                more = timeout_at(until, line.says_more()) => more,
            };
            if !matches!(more, Ok(Ok(true))) {
                return;
            }
        }
    }

    /// Answers requests until the connection rests; gives it back then, with the end of its patience.
    async fn http1<S, A, F>(&self, line: Line<S>, answer: A, until: Instant) -> Option<(Line<S>, Instant)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let (unsent, activity) = (line.unsent(), Arc::new(Activity::default()));
        let mut serving = self.http1.serve_connection(TokioIo::new(line), counted(Arc::clone(&activity), answer));
        let (mut watch, mut ticks) = (Watch::new(activity, self.patience, until), self.ticks());
        let mut stopping = false;
        loop {
            tokio::select! {
                served = &mut serving => {
                    ended(served);
                    return None;
                }
                () = self.shutdown.stopped(), if !stopping => {
                    stopping = true;
                    Pin::new(&mut serving).graceful_shutdown();
                }
                now = ticks.tick() => match watch.look(now) {
                    Seen::Busy => {}
                    Seen::Silent => return None,
                    // The library writes all it has before it waits for the next request, and hands out what it read
                    // of that one.
                    Seen::Rests if !unsent.load(Ordering::Relaxed) => {
                        let parts = serving.into_parts();
                        let mut line = parts.io.into_inner();
                        line.put_back(parts.read_buf);
                        return Some((line, watch.until));
                    }
                    Seen::Rests => {}
                },
            }
        }
    }

    /// Answers requests until the connection ends. It never rests: what HTTP/2 agreed on belongs to the connection.
    async fn http2<S, A, F>(&self, line: Line<S>, answer: A)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let activity = Arc::new(Activity::default());
        let mut serving = self.http2.serve_connection(TokioIo::new(line), counted(Arc::clone(&activity), answer));
        let mut watch = Watch::new(activity, self.patience, Instant::now() + self.patience);
        let (mut ticks, mut stopping) = (self.ticks(), false);
        loop {
            tokio::select! {
                served = &mut serving => return ended(served),
                () = self.shutdown.stopped(), if !stopping => {
                    stopping = true;
                    Pin::new(&mut serving).graceful_shutdown();
                }
                now = ticks.tick() => match watch.look(now) {
                    Seen::Silent => return,
                    // Told that it ends, and with nothing open: whether the client says so, too, changes nothing.
                    Seen::Rests if stopping => return,
                    Seen::Rests | Seen::Busy => {}
                },
            }
        }
    }

    fn ticks(&self) -> Interval {
        let every = REST.min(self.patience).max(Duration::from_millis(1));
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }
}

fn ended(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Requests begun and ended on one connection.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Counts a request as ended, also when its client went away.
struct Ending(Arc<Activity>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// An answer under way.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

/// Requests as they are answered, counted.
fn counted<A, F>(
    activity: Arc<Activity>,
    answer: A,
) -> impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future = Answering>
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    service_fn(move |request| -> Answering {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        let (ending, answering) = (Ending(Arc::clone(&activity)), answer(request));
        Box::pin(async move {
            let _ending = ending;
            Ok(answering.await)
        })
    })
}

/// What a look at a connection finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Requests are open, or came since the last look, or none came at all.
    Busy,
    /// Every request was answered, and none came since the last look.
    Rests,
    /// It had no request for longer than it may. A graceful end would wait for a client that may never say anything
    /// again.
    Silent,
}

/// Looks at a connection now and then.
struct Watch {
    activity: Arc<Activity>,
    patience: Duration,
    /// When the next header must be complete.
    until: Instant,
    begun_before: u64,
}

impl Watch {
    fn new(activity: Arc<Activity>, patience: Duration, until: Instant) -> Self {
        Self { activity, patience, until, begun_before: 0 }
    }

    fn look(&mut self, now: Instant) -> Seen {
        let begun = self.activity.begun.load(Ordering::Relaxed);
        let open = begun != self.activity.ended.load(Ordering::Relaxed);
        if open || begun != self.begun_before {
            self.begun_before = begun;
            self.until = now + self.patience;
            return Seen::Busy;
        }
        match begun {
            _ if now >= self.until => Seen::Silent,
            // Its first header is on its way.
            0 => Seen::Busy,
            _ => Seen::Rests,
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::advance;

    use super::*;

    async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
        Response::new(Full::new(request.into_body().collect().await.unwrap().to_bytes()))
    }

    fn connections(patience: Duration, shutdown: &Shutdown) -> Connections {
        Connections::new(&Limits { header_timeout: patience, ..Limits::default() }, shutdown.clone())
    }

    /// One connection whose answers are the bodies of its requests; on a clock that goes on when nothing else does.
    struct Client {
        stream: DuplexStream,
        serving: JoinHandle<()>,
        shutdown: Shutdown,
    }

    impl Client {
        fn new(patience: Duration, room: usize) -> Self {
            let shutdown = Shutdown::new(Duration::from_secs(5));
            let limits = Limits { header_timeout: patience, ..Limits::default() };
            let connections = Connections::new(&limits, shutdown.clone());
            let (stream, served) = duplex(room);
            let serving = shutdown.spawn("test", async move {
                let answer = |request: Request<Incoming>| async {
                    let body =
                        request.into_body().collect().await.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
                    Response::new(Full::new(body))
                };
                connections.serve(served, answer).await;
            });
            Self { stream, serving, shutdown }
        }

        async fn says(&mut self, text: &str) {
            self.stream.write_all(text.as_bytes()).await.unwrap();
        }

        /// Reads an answer with this body.
        async fn hears(&mut self, body: &str) {
            let mut heard = Vec::new();
            while !heard.ends_with(format!("\r\n\r\n{body}").as_bytes()) {
                assert!(self.stream.read_buf(&mut heard).await.unwrap() > 0, "{}", String::from_utf8_lossy(&heard));
            }
            assert!(heard.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&heard));
        }

        /// Whether the other side closes, and how long that takes.
        async fn closed(mut self) -> Duration {
            let began = Instant::now();
            self.stream.read_to_end(&mut Vec::new()).await.unwrap();
            self.serving.await.unwrap();
            began.elapsed()
        }
    }

    fn post(body: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Longer than any rest begins after.
    const RESTED: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_answered_after_each_of_its_rests() {
        let mut client = Client::new(Duration::from_secs(10), 4_096);
        for body in ["first", "second", "third"] {
            client.says(&post(body)).await;
            client.hears(body).await;
            advance(RESTED).await;
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_rests_is_given_back_with_what_was_read_of_it() {
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let connections = connections(Duration::from_secs(10), &shutdown);
        let (mut client, served) = duplex(4_096);
        client.write_all((post("first") + "POST").as_bytes()).await.unwrap();
        let (line, until) = connections.http1(Line::new(served), echo, Instant::now()).await.unwrap();
        assert_eq!(line.ahead(), b"POST");
        assert!(until > Instant::now() + Duration::from_secs(9));
        assert!(client.read_buf(&mut Vec::new()).await.unwrap() > 0);
        // And little else is left while it rests: what serves is beside it on the heap.
        assert!(size_of_val(&connections.serve(client, echo)) < 1_024);
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_survives_a_rest() {
        let mut client = Client::new(Duration::from_secs(10), 4_096);
        let (begin, end) = (post("second")[..20].to_owned(), post("second")[20..].to_owned());
        client.says(&(post("first") + &begin)).await;
        client.hears("first").await;
        for piece in end.split_inclusive('\n') {
            tokio::time::sleep(RESTED).await;
            client.says(piece).await;
        }
        client.hears("second").await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_keeps_its_connection_from_resting() {
        let mut client = Client::new(Duration::from_secs(10), 64);
        let body = "b".repeat(200);
        client.says(&post(&body)).await;
        tokio::time::sleep(5 * RESTED).await;
        client.hears(&body).await;
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_at_the_same_time_however_little_is_said() {
        let patience = Duration::from_secs(10);
        let near = |took: Duration| (patience..patience + 2 * REST).contains(&took);
        // Nothing; and half a header, behind an answered request or not.
        for begun in [String::new(), post("")[..20].to_owned()] {
            let mut client = Client::new(patience, 4_096);
            client.says(&begun).await;
            let took = client.closed().await;
            assert!(near(took), "{took:?} after {begun:?}");
            let mut client = Client::new(patience, 4_096);
            client.says(&(post("first") + &begun)).await;
            client.hears("first").await;
            let took = client.closed().await;
            assert!(near(took), "{took:?} after an answer and {begun:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_what_rests_at_once() {
        let mut client = Client::new(Duration::from_secs(10), 4_096);
        client.says(&post("first")).await;
        client.hears("first").await;
        tokio::time::sleep(RESTED).await;
        client.shutdown.stop();
        assert_eq!(client.closed().await, Duration::ZERO);
    }
}
