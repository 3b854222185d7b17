//! The listener: how many connections, from where, and their way to the first byte in clear. It must not know HTTP.
//!
//! The surprising thing: a connection that says nothing has a socket and a timer, and nothing else: neither the state of
//! a TLS handshake nor any buffer is made before its first byte.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::connection::Connections;
use crate::intake::Intake;
use crate::limit::{Addresses, Seat};
use crate::metrics::{Metrics, Reason};
use crate::peer::{self, Peer};
use crate::tls::Tls;

/// After a failed accept (no free descriptors) the loop waits this long instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that may wait to be accepted; the system may allow fewer. One more is not heard at all, and whoever opens it
/// tries again after a second: too late for a sender that waits five.
const BACKLOG: u32 = 4_096;

/// What all connections share.
struct Server {
    connections: Connections,
    intake: Arc<Intake>,
    tls: Option<Arc<Tls>>,
    slots: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    shutdown: Shutdown,
}

/// Listens on an address of this machine.
pub(crate) fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a gateway that has ended may linger.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until the stop; then the listener is closed at once and open connections finish their requests.
pub(crate) async fn accept(listener: TcpListener, intake: Arc<Intake>, tls: Option<Arc<Tls>>, shutdown: Shutdown) {
    let server = Arc::new(Server {
        connections: Connections::new(&intake.limits, shutdown.clone()),
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

    /// One connection to its end.
    async fn connection(self: Arc<Self>, stream: TcpStream, address: IpAddr, _open: Open) {
        let patience = self.intake.limits.header_timeout;
        let begun = async {
            stream.set_nodelay(true)?;
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
            return self.serve(stream, peer).await;
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

    /// Answers the requests of a connection.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, peer: Arc<Peer>) {
        let intake = Arc::clone(&self.intake);
        let answer = move |mut request: hyper::Request<hyper::body::Incoming>| {
            let intake = Arc::clone(&intake);
            request.extensions_mut().insert(Arc::clone(&peer));
            async move { intake.receive(request).await }
        };
        self.connections.serve(stream, answer).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn more_connections_than_one_burst_brings_wait_to_be_accepted() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let at = listener.local_addr().unwrap();
        // More than libraries ask for by themselves, as far as the system allows. Nobody accepts them, and one that has ended
        // waits as well, so one that finds no room is never heard.
        let allowed: u32 = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
        for n in 0..allowed.min(1_500) {
            let opened = timeout(Duration::from_secs(60), TcpStream::connect(at)).await;
            assert!(matches!(opened, Ok(Ok(_))), "connection {n} finds no room");
        }
    }
}
