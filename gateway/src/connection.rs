//! One connection from its first byte to its end: which HTTP it speaks, how long it may take, and where it rests. It must
//! not know what a request means.
//!
//! The surprising thing: a connection that rests is taken from the HTTP library, and so is one whose answer is held back.
//! Its buffers and its state are thirty kilobytes, a provider keeps hundreds of connections and uses each now and then,
//! and a stranger may open as many as there are. What rests is a socket and a few hundred bytes, until it says something.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use headgate_schemas::shutdown::Shutdown;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout_at};

use crate::activity::{Activity, Seen, Watch};
use crate::config::Limits;
use crate::held::{self, Reply, Waiting};
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
        F: Future<Output = Reply> + Send + 'static,
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
        loop {
            line = match Box::pin(self.http1(line, answer.clone(), until)).await {
                Left::Ended => return,
                Left::Rests(rested, rests_until) => {
                    until = rests_until;
                    rested
                }
                Left::Waits(mut waits, waiting) => {
                    let answered = Box::pin(waiting.answer(&mut waits, &self.shutdown, self.patience)).await;
                    until = Instant::now() + self.patience;
                    match answered {
                        Ok(true) => waits,
                        Ok(false) => return,
                        Err(error) => return tracing::debug!(%error, "a client did not take its refusal"),
                    }
                }
            };
            let more = tokio::select! {
                () = self.shutdown.stopped() => return,
                more = timeout_at(until, line.says_more()) => more,
            };
            if !matches!(more, Ok(Ok(true))) {
                return;
            }
        }
    }

    /// Answers requests until the connection has nothing to do for the HTTP library.
    async fn http1<S, A, F>(&self, line: Line<S>, answer: A, until: Instant) -> Left<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = Reply> + Send + 'static,
    {
        let (unsent, activity) = (line.unsent(), Arc::new(Activity::default()));
        let leaving = self.leaving(&activity, Some(Arc::clone(&unsent)));
        let mut serving = self.http1.serve_connection(TokioIo::new(line), leaving.service(answer));
        let (mut watch, mut ticks) = (Watch::new(Arc::clone(&activity), self.patience, until), self.ticks());
        let mut stopping = false;
        loop {
            let served = poll_fn(|cx| match Pin::new(&mut serving).poll(cx) {
                Poll::Ready(served) => Poll::Ready(Err(served)),
                Poll::Pending => activity.waiting().map_or(Poll::Pending, |waiting| Poll::Ready(Ok(waiting))),
            });
            tokio::select! {
                served = served => match served {
                    Ok(waiting) => return Left::Waits(taken(serving), waiting),
                    Err(served) => {
                        ended(served);
                        return Left::Ended;
                    }
                },
                () = self.shutdown.stopped(), if !stopping => {
                    stopping = true;
                    Pin::new(&mut serving).graceful_shutdown();
                }
                now = ticks.tick() => match watch.look(now) {
                    Seen::Busy => {}
                    Seen::Silent => return Left::Ended,
                    // The library writes all it has before it waits for the next request.
                    Seen::Rests if !unsent.load(Ordering::Relaxed) => return Left::Rests(taken(serving), watch.until),
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
        F: Future<Output = Reply> + Send + 'static,
    {
        let activity = Arc::new(Activity::default());
        let leaving = self.leaving(&activity, None);
        let mut serving = self.http2.serve_connection(TokioIo::new(line), leaving.service(answer));
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

    fn leaving(&self, activity: &Arc<Activity>, unsent: Option<Arc<AtomicBool>>) -> Leaving {
        Leaving { activity: Arc::clone(activity), shutdown: self.shutdown.clone(), unsent }
    }

    fn ticks(&self) -> Interval {
        let every = REST.min(self.patience).max(Duration::from_millis(1));
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }
}

/// What became of a connection in the hands of the HTTP library.
enum Left<S> {
    /// It ended.
    Ended,
    /// Nothing is open; the next header must be complete by then.
    Rests(Line<S>, Instant),
    /// Its only open request waits for an answer.
    Waits(Line<S>, Box<Waiting>),
}

/// Takes a connection from the HTTP library, with what that has read and not used.
fn taken<S, A>(serving: http1::Connection<TokioIo<Line<S>>, A>) -> Line<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: HttpService<Incoming, ResBody = Full<Bytes>>,
    A::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let parts = serving.into_parts();
    let mut line = parts.io.into_inner();
    line.put_back(parts.read_buf);
    line
}

fn ended(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// An answer under way.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

/// How answers leave a connection.
#[derive(Clone)]
struct Leaving {
    activity: Arc<Activity>,
    shutdown: Shutdown,
    /// Whether something was written that has not left; where answers may wait outside of the HTTP library.
    unsent: Option<Arc<AtomicBool>>,
}

impl Leaving {
    /// Answers requests with what `answer` makes of them.
    fn service<A, F>(
        self,
        answer: A,
    ) -> impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future = Answering>
    where
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = Reply> + Send + 'static,
    {
        service_fn(move |request| -> Answering {
            let (this, begun, plain) = (self.clone(), self.activity.begins(), held::is_plain(&request));
            let answering = answer(request);
            Box::pin(async move {
                let Reply { response, held } = answering.await;
                if let Some(held) = held {
                    if plain && held.is_measured() && this.has_sent() {
                        begun.waits(Box::new(Waiting { response, held }));
                        // The library is not asked again: the connection is taken from it.
                        return pending().await;
                    }
                    held.wait(&this.shutdown).await;
                }
                Ok(response.map(Full::new))
            })
        })
    }

    /// Whether all that was answered before has left, where that matters. The library tries to send what it has before
    /// it reads the next request.
    fn has_sent(&self) -> bool {
        self.unsent.as_ref().is_some_and(|unsent| !unsent.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper::StatusCode;
    use prometheus_client::metrics::gauge::Gauge;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::Semaphore;
    use tokio::task::JoinHandle;
    use tokio::time::advance;

    use super::*;
    use crate::held::{Held, Open, Unread};

    async fn echo(request: Request<Incoming>) -> Reply {
        let body = request.into_body().collect().await.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
        Response::new(body).into()
    }

    /// Refuses what goes to `/busy` without reading it, and answers everything else like [`echo`].
    async fn busy(request: Request<Incoming>) -> Reply {
        if request.uri().path() != "/busy" {
            return echo(request).await;
        }
        let mut response = Response::new(Bytes::from_static(b"no"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (unread, open) = (Unread::All(request.into_body()), Open::new(&Gauge::default()));
        Reply { response, held: Some(Held { time: HELD, unread, place, open }) }
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
                connections.serve(served, busy).await;
            });
            Self { stream, serving, shutdown }
        }

        /// Reads an answer that refuses; whether the connection ends with it.
        async fn is_refused(&mut self) -> bool {
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n\r\nno") {
                heard.push(self.stream.read_u8().await.unwrap());
            }
            assert!(heard.starts_with(b"HTTP/1.1 503 Service Unavailable\r\n"), "{}", String::from_utf8_lossy(&heard));
            String::from_utf8(heard).unwrap().contains("connection: close")
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

    /// For so long an answer is held back.
    const HELD: Duration = Duration::from_millis(500);

    fn refused(body: &str) -> String {
        post(body).replacen("/ ", "/busy ", 1)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_is_answered_in_time_and_the_connection_goes_on() {
        let mut client = Client::new(Duration::from_secs(10), 64 << 10);
        // A body that the library has read ahead in part, none, and one with the next request behind it.
        for (body, next) in [("b".repeat(40_000), ""), (String::new(), ""), ("b".to_owned(), "second")] {
            let began = Instant::now();
            client.says(&(refused(&body) + &post(next))).await;
            assert!(!client.is_refused().await && began.elapsed() == HELD, "{:?}", began.elapsed());
            client.hears(next).await;
        }
        client.says(&refused("again")).await;
        assert!(!client.is_refused().await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_waits_outside_of_the_library_with_what_was_read_of_it() {
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let connections = connections(Duration::from_secs(10), &shutdown);
        let (mut client, served) = duplex(4_096);
        client.write_all((refused("body") + "POST").as_bytes()).await.unwrap();
        let Left::Waits(mut line, waiting) = connections.http1(Line::new(served), busy, Instant::now()).await else {
            panic!("it does not wait outside")
        };
        let answering = waiting.answer(&mut line, &shutdown, HELD);
        assert!(size_of_val(&answering) < 1_024, "{}", size_of_val(&answering));
        assert!(answering.await.unwrap());
        assert!(line.says_more().await.unwrap());
        assert_eq!(line.ahead(), b"POST");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_whose_body_does_not_come_ends_its_connection() {
        // Announced and not sent; and more than is thrown away.
        for (body, sent) in [("b".repeat(1_000), 900), ("b".repeat(100_000), 80_000)] {
            let mut client = Client::new(Duration::from_secs(10), 256 << 10);
            let whole = refused(&body);
            client.says(&whole[..whole.len() - body.len() + sent]).await;
            assert!(client.is_refused().await);
            assert_eq!(client.closed().await, Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_of_a_connection_holds_for_what_is_held_back() {
        let mut client = Client::new(Duration::from_secs(10), 4_096);
        client.says(&refused("body").replacen("\r\n", "\r\nConnection: close\r\n", 1)).await;
        assert!(client.is_refused().await);
        assert_eq!(client.closed().await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_answers_what_is_held_back_at_once() {
        let mut client = Client::new(Duration::from_secs(10), 4_096);
        client.says(&refused("body")).await;
        tokio::time::sleep(HELD / 2).await;
        client.shutdown.stop();
        let began = Instant::now();
        assert!(client.is_refused().await);
        assert_eq!((client.closed().await, began.elapsed()), (Duration::ZERO, Duration::ZERO));
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
        let Left::Rests(line, until) = connections.http1(Line::new(served), echo, Instant::now()).await else {
            panic!("it does not rest")
        };
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
