//! Who says too little: headers and bodies byte by byte, answers that are not read, connections that say nothing.

use std::time::Duration;

use tokio::time::timeout;

use super::super::call::hubspot_head;
use super::super::wire::Line;
use super::{Target, repeat, stranger};

/// Between two bytes of a slow sender.
const DRIP: Duration = Duration::from_millis(500);
/// A slow reader asks for so many answers at first: more than fit between the two sides. Then for so many now and then.
const UNREAD: usize = 700;
const UNREAD_AGAIN: usize = 50;
/// Of so many slow clients one is a slow reader, whose requests cost the most; the others are half and half.
const READERS: u64 = 9;
/// Idle connections per address: below the limit that the gateway has for one.
const PER_ADDRESS: u64 = 500;

/// One slow client: of a header, of a body, or of reading, by its number.
pub(super) async fn slow(n: u64, target: Target) {
    let target = &target;
    repeat(DRIP, |_| async move {
        let Ok(mut line) = Line::open(target.address, stranger(n)).await else { return };
        target.told.opened(true);
        if n.is_multiple_of(READERS) {
            unread(&mut line).await;
        } else {
            let begun = if n.is_multiple_of(2) { "X-Slow: " } else { "Content-Length: 100000\r\n\r\n" };
            if line.write(format!("{}{begun}", hubspot_head()).as_bytes()).await.is_ok() {
                drip(&mut line, target).await;
            }
        }
        target.told.opened(false);
    })
    .await;
}

/// A byte now and then until the gateway has enough.
async fn drip(line: &mut Line, target: &Target) {
    loop {
        match timeout(DRIP, line.answer()).await {
            Ok(answer) => return target.told.heard(answer),
            Err(_) => {
                if let Err(broken) = line.write(b"x").await {
                    return target.told.heard(Err(broken));
                }
            }
        }
    }
}

/// Leaves what it asked for on the connection and asks again, until that is no longer taken.
async fn unread(line: &mut Line) {
    let ask = |times| "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(times);
    let mut more = ask(UNREAD);
    while let Ok(Ok(())) = timeout(20 * DRIP, line.write(more.as_bytes())).await {
        more = ask(UNREAD_AGAIN);
        tokio::time::sleep(4 * DRIP).await;
    }
}

/// One idle connection. Every second one has asked something before, and rests between two requests.
pub(super) async fn idle(n: u64, target: Target) {
    let target = &target;
    repeat(DRIP, |_| async move {
        let Ok(mut line) = Line::open(target.address, stranger(n / PER_ADDRESS)).await else { return };
        target.told.opened(true);
        if n.is_multiple_of(2) {
            target.told.heard(line.call(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await);
        }
        line.closed().await;
        target.told.opened(false);
    })
    .await;
}
