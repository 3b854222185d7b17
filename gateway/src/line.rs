//! A connection as bytes: what was read of it before it was known who would read it, and whether everything that was
//! written has left.
//!
//! It must not know HTTP, but for the first bytes that tell one version from the other. The surprising thing: both are
//! here so that a connection can be taken from the HTTP library and given back to it. Its buffers cost more than
//! everything else a connection needs, and most connections rest.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// How every HTTP/2 connection begins (RFC 9113, section 3.4). No HTTP/1.1 request does.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that are thrown away in one go, on the stack.
const SKIPPED_AT_ONCE: usize = 16 << 10;

/// What the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Line<S> {
    stream: S,
    /// Read already, and first to be read again.
    ahead: Bytes,
    unsent: Arc<AtomicBool>,
}

impl<S> Line<S> {
    /// A connection of which nothing was read yet.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, ahead: Bytes::new(), unsent: Arc::default() }
    }

    /// Whether the last write waits for the client to take it. Whoever writes all it has before it waits for anything
    /// else has nothing left to send while this is false.
    pub(crate) fn unsent(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.unsent)
    }

    /// Puts back bytes that were read last and not used.
    pub(crate) fn put_back(&mut self, unused: Bytes) {
        self.ahead = if self.ahead.is_empty() { unused } else { [unused, self.ahead.split_off(0)].concat().into() };
    }

    /// What was read ahead.
    #[cfg(test)]
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Notes how a write or a flush went.
    fn wrote<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.unsent.store(result.is_pending(), Ordering::Relaxed);
        result
    }
}

impl<S: AsyncRead + Unpin> Line<S> {
    /// Waits until there is something to read; false when the client has closed. Cancel-safe.
    pub(crate) async fn says_more(&mut self) -> io::Result<bool> {
        if self.ahead.is_empty() {
            let mut first = [0];
            let read = self.stream.read(&mut first).await?;
            self.ahead = Bytes::copy_from_slice(&first[..read]);
        }
        Ok(!self.ahead.is_empty())
    }

    /// Throws away what is there of the next `most` bytes, without waiting for more, and answers how many they were. An end
    /// before them is an error.
    pub(crate) async fn skip(&mut self, most: u64) -> io::Result<u64> {
        poll_fn(|cx| {
            let mut skipped = 0;
            while skipped < most {
                let mut buf = [const { MaybeUninit::<u8>::uninit() }; SKIPPED_AT_ONCE];
                let length = usize::try_from(most - skipped).unwrap_or(usize::MAX).min(SKIPPED_AT_ONCE);
                let mut buf = ReadBuf::uninit(&mut buf[..length]);
                match Pin::new(&mut *self).poll_read(cx, &mut buf) {
                    Poll::Pending => break,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    Poll::Ready(Ok(())) => skipped += buf.filled().len() as u64,
                }
            }
            Poll::Ready(Ok(skipped))
        })
        .await
    }

    /// Reads until it is clear what the client speaks. What breaks off before is left to the reader of HTTP/1.1. Bytes
    /// are lost when it is cancelled.
    pub(crate) async fn version(&mut self) -> io::Result<Version> {
        let mut begun = [0; PREFACE.len()];
        let mut length = 0;
        while length < begun.len() && begun[..length] == PREFACE[..length] {
            let read = self.read(&mut begun[length..]).await?;
            if read == 0 {
                break;
            }
            length += read;
        }
        self.put_back(Bytes::copy_from_slice(&begun[..length]));
        Ok(if begun == *PREFACE { Version::Http2 } else { Version::Http1 })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ahead = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..ahead]);
        this.ahead.advance(ahead);
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // With what is there already in one go, or the reader would parse a single byte first.
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Pending | Poll::Ready(Err(_)) if ahead > 0 => Poll::Ready(Ok(())),
            read => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    /// What the version is taken for when these pieces come, and everything that is read afterwards.
    async fn told(pieces: &[&[u8]]) -> (Version, Vec<u8>) {
        let (mut client, server) = duplex(16);
        let mut line = Line::new(server);
        let send = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
            }
            drop(client);
        };
        let read = async {
            let (version, mut all) = (line.version().await.unwrap(), Vec::new());
            line.read_to_end(&mut all).await.unwrap();
            (version, all)
        };
        tokio::join!(send, read).1
    }

    #[tokio::test]
    async fn versions_are_told_apart_by_the_first_bytes_and_nothing_is_lost() {
        let preface = &PREFACE[..];
        for (pieces, version) in [
            (&[&b"POST / HTTP/1.1\r\n\r\nmore than the preface is long"[..]][..], Version::Http1),
            (&[b"P", b"OST / HTTP/1.1\r\n\r\n"], Version::Http1),
            (&[&preface[..1], &preface[1..23], &preface[23..], b"frames"], Version::Http2),
            (&[&preface[..23], b"x"], Version::Http1),
            (&[&preface[..5]], Version::Http1),
            (&[], Version::Http1),
        ] {
            assert_eq!(told(pieces).await, (version, pieces.concat()));
        }
    }

    #[tokio::test]
    async fn bytes_that_were_put_back_come_first() {
        let (mut client, server) = duplex(64);
        let mut line = Line::new(server);
        client.write_all(b"def").await.unwrap();
        assert!(line.says_more().await.unwrap());
        line.put_back(Bytes::from_static(b"abc"));
        assert!(line.says_more().await.unwrap());
        let mut all = [0; 6];
        line.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"abcdef");
        drop(client);
        assert!(!line.says_more().await.unwrap());
    }

    #[tokio::test]
    async fn what_is_there_is_thrown_away_and_nothing_behind_it() {
        let (mut client, server) = duplex(64);
        let mut line = Line::new(server);
        line.put_back(Bytes::from_static(b"abc"));
        client.write_all(b"defgh").await.unwrap();
        assert_eq!(line.skip(2).await.unwrap(), 2);
        assert_eq!(line.skip(4).await.unwrap(), 4);
        let mut next = [0];
        line.read_exact(&mut next).await.unwrap();
        assert_eq!((&next, line.skip(9).await.unwrap(), line.skip(9).await.unwrap()), (b"g", 1, 0));
        drop(client);
        assert_eq!(line.skip(0).await.unwrap(), 0);
        assert_eq!(line.skip(1).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_write_that_waits_is_told() {
        let (mut client, server) = duplex(4);
        let mut line = Line::new(server);
        let unsent = line.unsent();
        {
            let mut send = Box::pin(line.write_all(b"12345678"));
            assert!(send.as_mut().now_or_never().is_none() && unsent.load(Ordering::Relaxed));
            let mut taken = [0; 8];
            let (sent, _) = tokio::join!(send, client.read_exact(&mut taken));
            sent.unwrap();
        }
        assert!(!unsent.load(Ordering::Relaxed));
    }
}
