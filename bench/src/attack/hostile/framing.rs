//! Who plays with where a request ends: hundreds on one connection at once, and requests hidden in others.
//!
//! The surprising thing: what is hidden is a call with a valid signature. So a gateway that reads a body as a request
//! cannot get away with refusing it; it shows in the stream.

use std::time::Duration;

use super::super::call::{FORGED, hubspot_head};
use super::super::wire::Line;
use super::{Target, repeat, stranger};

/// Requests sent at once on one connection: two thousand a second from all attackers.
const BURST: u64 = 100;
const BURST_EVERY: Duration = Duration::from_millis(1_600);
/// Six hundred connections a second from all attackers.
const SMUGGLED_EVERY: Duration = Duration::from_millis(50);
/// Framings of which no two servers think the same; a gateway must refuse each and close.
const AMBIGUOUS: [&str; 10] = [
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 6",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 5, 6",
    "Content-Length: +5",
    "Content-Length: 0x5",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: chunked\r\n X: y",
    "Transfer-Encoding:\u{b}chunked",
];

/// Bursts of requests on one connection, a tenth of them with a wrong signature, all read at the end.
pub(super) async fn pipelined(n: u64, target: Target) {
    let target = &target;
    repeat(BURST_EVERY, |round| async move {
        let Ok(mut line) = Line::open(target.address, stranger(n)).await else { return };
        let mut burst = Vec::new();
        for nth in 0..BURST {
            if nth.is_multiple_of(10) {
                burst.extend(target.calls.forged(1, FORGED + n * 1_000_000 + round * BURST + nth));
            } else {
                burst.extend(b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
            }
        }
        if let Err(broken) = line.write(&burst).await {
            return target.told.heard(Err(broken));
        }
        for _ in 0..BURST {
            let answer = line.answer().await;
            let ended = answer.as_ref().is_ok_and(|answer| answer.closes) || answer.is_err();
            target.told.heard(answer);
            if ended {
                return;
            }
        }
    })
    .await;
}

/// A valid call hidden behind a framing that can be read in two ways. Every answer that comes is counted: a second one
/// is to the hidden call.
pub(super) async fn smuggled(n: u64, target: Target) {
    let target = &target;
    repeat(SMUGGLED_EVERY, |round| async move {
        let Ok(mut line) = Line::open(target.address, stranger(n)).await else { return };
        let framing = AMBIGUOUS[usize::try_from(n + round).unwrap_or(0) % AMBIGUOUS.len()];
        let hidden = FORGED + n * 1_000_000 + round;
        let mut request = format!("{}{framing}\r\n\r\n0\r\n\r\n", hubspot_head()).into_bytes();
        request.extend(target.calls.signed(1, hidden..hidden + 1));
        if let Err(broken) = line.write(&request).await {
            return target.told.heard(Err(broken));
        }
        loop {
            let answer = line.answer().await;
            let ended = answer.is_err();
            target.told.heard(answer);
            if ended {
                return;
            }
        }
    })
    .await;
}
