//! Connections of the admin API that do not wait for ever: a client that takes nothing of its answer for a while is cut
//! off. Knows nothing of what is sent.
//!
//! This is the policy for slow readers of the stream. A slow one holds back only itself, because the next page is read
//! when it took the last one; one that takes nothing at all would hold its place among the readers for ever, and no
//! sender above the socket can tell: what it handed down is still on its way.

use std::io::{self, Error, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

/// A listener whose connections are [`Watched`].
#[derive(Debug)]
pub(crate) struct Impatient {
    inner: TcpListener,
    stall: Duration,
}

impl Impatient {
    /// `stall`: how long a peer may take nothing.
    pub(crate) const fn new(inner: TcpListener, stall: Duration) -> Self {
        Self { inner, stall }
    }
}

impl Listener for Impatient {
    type Io = Watched<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, peer) = Listener::accept(&mut self.inner).await;
        (Watched::new(io, self.stall), peer)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// A connection whose writes fail when the peer has taken nothing for too long.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    inner: T,
    stall: Duration,
    /// Runs while a write waits for the peer.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<T> Watched<T> {
    const fn new(inner: T, stall: Duration) -> Self {
        Self { inner, stall, waiting: None }
    }

    /// What a write came to: if it waits, it does not wait longer than the stall.
    fn judge<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let until = Instant::now() + self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::IntoFuture as _;

    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::sync::mpsc;

    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_after_the_stall() {
        let (ours, _theirs) = duplex(16);
        let started = Instant::now();
        let error = Watched::new(ours, STALL).write_all(&[0; 64]).await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed().as_secs()), (ErrorKind::TimedOut, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_little_now_and_then_is_served_to_the_end() {
        let (ours, mut theirs) = duplex(16);
        let mut watched = Watched::new(ours, STALL);
        let started = Instant::now();
        let slow = async {
            for _ in 0..16 {
                tokio::time::sleep(STALL - Duration::from_secs(1)).await;
                theirs.read_exact(&mut [0; 4]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(watched.write_all(&[0; 64]), slow);
        assert!(written.is_ok());
        assert!(started.elapsed() > 10 * STALL);
    }

    /// Tells when it is dropped.
    struct Told(mpsc::Sender<()>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.try_send(()).ok();
        }
    }

    #[tokio::test]
    async fn what_a_stalled_reader_holds_is_given_back() {
        let (tell, mut told) = mpsc::channel(1);
        let endless = move || {
            let told = Told(tell.clone());
            async move {
                let chunks = stream::unfold(told, |told| async move {
                    Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(&[0; 65_536])), told))
                });
                Body::from_stream(chunks)
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            axum::serve(Impatient::new(listener, Duration::from_millis(50)), Router::new().route("/", get(endless)));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        // The client stays connected and reads nothing.
        tokio::select! {
            ended = server.into_future() => panic!("{ended:?}"),
            told = told.recv() => assert_eq!(told, Some(())),
        }
        drop(client);
    }
}
