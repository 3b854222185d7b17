//! The listener and its connections: how many, how long, how they end. It must not know what a request means.
//!
//! The surprising thing: the HTTP library starts its header timer only once it knows which version the client speaks,
//! and a client that sends one byte never gets there. So each connection has a second timer here, from accept to the
//! first complete header and between requests.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::Limits;
use crate::intake::Intake;
use crate::limit::{Addresses, Seat};
use crate::metrics::{Metrics, Reason};
use crate::peer::{self, Peer};
use crate::tls::Tls;

/// After a failed accept (no free descriptors) the loop waits this long instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Smallest buffer the HTTP library takes.
const LEAST_BUFFER: usize = 8_192;
/// Bytes of one HTTP/2 stream that may be on their way unread, and of all streams of a connection together.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What all connections share.
struct Server {
    http: auto::Builder<TokioExecutor>,
    intake: Arc<Intake>,
    tls: Option<Arc<Tls>>,
    slots: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    shutdown: Shutdown,
}

/// Accepts connections until the stop; then the listener is closed at once and open connections finish their requests.
pub(crate) async fn accept(listener: TcpListener, intake: Arc<Intake>, tls: Option<Arc<Tls>>, shutdown: Shutdown) {
    let server = Arc::new(Server {
        http: http(&intake.limits),
        slots: Arc::new(Semaphore::new(intake.limits.connections.min(Semaphore::MAX_PERMITS))),
        addresses: Arc::default(),
        tls,
        intake,
        shutdown,
    });
    loop {
        let accepted = tokio::select! {
            () = server.shutdown.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => match server.open(from) {
                Ok(open) => {
                    let connection = Arc::clone(&server).connection(stream, from.ip(), open);
                    server.shutdown.spawn("connection", connection);
                }
                Err(reason) => {
                    let rejected = &server.intake.metrics.rejected;
                    rejected.get_or_create(&Reason { source: "none", reason }).inc();
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
        .max_concurrent_streams(limits.h2_streams)
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(limits.h2_resets)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
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

impl Server {
    /// A place for one more connection, or the limit that has none.
    fn open(&self, from: SocketAddr) -> Result<Open, &'static str> {
        let limits = &self.intake.limits;
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| "connections")?;
        let seat = if peer::is_trusted(from.ip(), &self.intake.trusted_proxies) {
            None
        } else {
            let address = peer::counted(from.ip());
            Some(self.addresses.take(address, limits.connections_per_address).ok_or("connections_per_address")?)
        };
        Ok(Open::new(self.intake.metrics.clone(), slot, seat))
    }

    /// One connection to its end. What answers requests is large and on the heap, so that ten thousand connections that
    /// say nothing need not have it.
    async fn connection(self: Arc<Self>, stream: TcpStream, address: IpAddr, _open: Open) {
        let patience = self.intake.limits.header_timeout;
        let begun = async {
            stream.set_nodelay(true)?;
            // A connection that says nothing costs a socket and this wait, and no buffers of the HTTP library.
            stream.peek(&mut [0]).await
        };
        let begun = tokio::select! {
            () = self.shutdown.stopped() => return,
            begun = timeout(patience, begun) => begun,
        };
        match begun {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return tracing::debug!(%error, "a connection broke before its first byte"),
            Err(_) => return tracing::debug!("a connection said nothing"),
        }
        let Some(tls) = &self.tls else {
            let peer = Arc::new(Peer { address, certificates: Arc::from([]) });
            return Box::pin(self.serve(stream, peer)).await;
        };
        let stream = match timeout(patience, Box::pin(tls.acceptor().accept(stream))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!("a TLS handshake did not end in time"),
        };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates = certificates.iter().map(|c| c.clone().into_owned()).collect();
        Box::pin(self.serve(stream, Arc::new(Peer { address, certificates }))).await;
    }

    /// Answers requests until the connection ends, idles, or the stop.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, peer: Arc<Peer>) {
        let idle = self.intake.limits.header_timeout;
        let activity = Arc::new(Activity::default());
        let (counted, intake) = (Arc::clone(&activity), Arc::clone(&self.intake));
        let service = service_fn(move |mut request: hyper::Request<_>| {
            counted.begun.fetch_add(1, Ordering::Relaxed);
            let ending = Ending(Arc::clone(&counted));
            let intake = Arc::clone(&intake);
            request.extensions_mut().insert(Arc::clone(&peer));
            async move {
                let _ending = ending;
                Ok::<_, Infallible>(intake.receive(request).await)
            }
        });
        let mut serving = pin!(self.http.serve_connection(TokioIo::new(stream), service));
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
                () = self.shutdown.stopped(), if !stopping => {
                    stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
                _ = ticks.tick() => {
                    let begun = activity.begun.load(Ordering::Relaxed);
                    // Nothing open and nothing new for a whole tick: cut it. A graceful end would wait for a client
                    // that may never say anything again.
                    if begun == activity.ended.load(Ordering::Relaxed) && begun == begun_before {
                        return;
                    }
                    begun_before = begun;
                }
            }
        }
    }
}

/// Counts a connection and holds its slot, and its seat at its address, while it is open.
struct Open {
    metrics: Metrics,
    _slot: OwnedSemaphorePermit,
    _seat: Option<Seat>,
}

impl Open {
    fn new(metrics: Metrics, slot: OwnedSemaphorePermit, seat: Option<Seat>) -> Self {
        metrics.connections.inc();
        Self { metrics, _slot: slot, _seat: seat }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
