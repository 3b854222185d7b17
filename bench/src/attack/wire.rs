//! One HTTP/1.1 connection, written and read by hand: the cheapest sender there is, and the only one that can be made to
//! send what no client library would.
//!
//! It knows bytes and statuses, not what they mean. The surprising thing: each connection says which address of the
//! loopback network it comes from, so that one machine can be many strangers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Largest head of an answer.
const HEAD: usize = 16 << 10;

/// An answer, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// It says when to come again.
    pub(super) retry_after: bool,
    /// The other side closes after it.
    pub(super) closes: bool,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Line {
    /// Connects from an address of this machine.
    pub(super) async fn open(to: SocketAddr, from: Ipv4Addr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from.into(), 0))?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends bytes as they are.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads the next answer with its body. An end of the connection before it is an error.
    pub(super) async fn answer(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if self.read.len() > HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.more().await?;
        };
        let head = std::str::from_utf8(&self.read[..end]).map_err(|_| io::ErrorKind::InvalidData)?;
        let (answer, length) = head_of(head).ok_or(io::ErrorKind::InvalidData)?;
        self.read.drain(..end);
        while self.read.len() < length {
            self.more().await?;
        }
        self.read.drain(..length);
        Ok(answer)
    }

    /// Sends one request and reads its answer.
    pub(super) async fn call(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.write(request).await?;
        self.answer().await
    }

    /// Sends while it listens: whoever is answered stops sending.
    pub(super) async fn call_until_answered(&mut self, request: &[u8]) -> io::Result<Answer> {
        let Self { stream, read } = self;
        let (mut from, mut to) = stream.split();
        tokio::select! {
            received = from.read_buf(read) => if received? == 0 { return Err(io::ErrorKind::UnexpectedEof.into()) },
            sent = to.write_all(request) => sent?,
        }
        self.answer().await
    }

    /// Reads until the other side closes.
    pub(super) async fn closed(&mut self) {
        loop {
            self.read.clear();
            if self.more().await.is_err() {
                return;
            }
        }
    }

    /// What was read and is no answer.
    pub(super) fn unread(&self) -> &[u8] {
        &self.read
    }

    /// Reads more bytes behind those that were read.
    pub(super) async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// The answer that a head announces, and the length of its body.
fn head_of(head: &str) -> Option<(Answer, usize)> {
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, retry_after: false, closes: false };
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("retry-after") {
            answer.retry_after = true;
        } else if name.eq_ignore_ascii_case("connection") {
            answer.closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    Some((answer, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_far_as_it_matters() {
        let head =
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nContent-Length: 12\r\nconnection: Close\r\n\r\n";
        assert_eq!(head_of(head), Some((Answer { status: 503, retry_after: true, closes: true }, 12)));
        let head = "HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n";
        assert_eq!(head_of(head), Some((Answer { status: 204, retry_after: false, closes: false }, 0)));
        assert_eq!(head_of("nonsense"), None);
        assert_eq!(head_of("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"), None);
    }
}
