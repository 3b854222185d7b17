//! The listener and its connections: how many, how long, how they end. It must not know what a request means.
//!
//! The surprising thing: the HTTP library starts its header timer only once it knows which version the client speaks,
//! and a client that sends one byte never gets there. So each connection has a second timer here, from accept to the
//! first complete header and between requests.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::intake::Intake;
use crate::metrics::{Metrics, Reason};

/// Streams of one HTTP/2 connection answered at once.
const STREAMS: u32 = 100;
/// After a failed accept (no free descriptors) the loop waits this long instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Smallest buffer the HTTP library takes.
const LEAST_BUFFER: usize = 8_192;

/// Accepts connections until the stop; then the listener is closed at once and open connections finish their requests.
pub(crate) async fn accept(listener: TcpListener, intake: Arc<Intake>, shutdown: Shutdown) {
    let slots = Arc::new(Semaphore::new(intake.limits.connections.min(Semaphore::MAX_PERMITS)));
    let http = Arc::new(http(&intake.limits));
    loop {
        let accepted = tokio::select! {
            () = shutdown.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => {
                    let connection = connection(stream, slot, Arc::clone(&http), Arc::clone(&intake), shutdown.clone());
                    shutdown.spawn("connection", connection);
                }
                Err(_) => {
                    intake.metrics.rejected.get_or_create(&Reason { source: "none", reason: "connections" }).inc();
                    drop(stream);
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn http(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes.max(LEAST_BUFFER));
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.header_timeout);
    http
}

/// Requests begun and ended on one connection.
#[derive(Default)]
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

async fn connection(
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    http: Arc<auto::Builder<TokioExecutor>>,
    intake: Arc<Intake>,
    shutdown: Shutdown,
) {
    let _open = Open::new(intake.metrics.clone(), slot);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection broke before its first byte");
        return;
    }
    let idle = intake.limits.header_timeout;
    let activity = Arc::new(Activity::default());
    let counted = Arc::clone(&activity);
    let service = service_fn(move |request| {
        counted.begun.fetch_add(1, Ordering::Relaxed);
        let ending = Ending(Arc::clone(&counted));
        let intake = Arc::clone(&intake);
        async move {
            let _ending = ending;
            Ok::<_, Infallible>(intake.receive(request).await)
        }
    });
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut stopping = false;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + idle, idle);
    let mut begun_before = 0;
    loop {
        tokio::select! {
            served = serving.as_mut() => {
                if let Err(error) = served {
                    tracing::debug!(error = %error, "a connection ended early");
                }
                return;
            }
            () = shutdown.stopped(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => {
                let (begun, ended) = (activity.begun.load(Ordering::Relaxed), activity.ended.load(Ordering::Relaxed));
                // Nothing open and nothing new for a whole tick: cut it. A graceful end would wait for a client that
                // may never say anything again.
                if begun == ended && begun == begun_before {
                    return;
                }
                begun_before = begun;
            }
        }
    }
}

/// Counts a connection and holds its slot while it is open.
struct Open {
    metrics: Metrics,
    _slot: OwnedSemaphorePermit,
}

impl Open {
    fn new(metrics: Metrics, slot: OwnedSemaphorePermit) -> Self {
        metrics.connections.inc();
        Self { metrics, _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
