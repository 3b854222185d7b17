//! Records, readers and waiting for all tests of this suite.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use headgate_schemas::Timestamp;
use headgate_schemas::contract::Record;
use headgate_schemas::stream::{Delivered, Position, Source, StreamError, from_start};

/// A record with `key`; `n` tells it from the others.
pub(crate) fn record(key: &str, n: usize) -> Record {
    sized(key, n, 20)
}

/// A record with a body of about `bytes`.
pub(crate) fn sized(key: &str, n: usize, bytes: usize) -> Record {
    Record {
        key: key.to_owned(),
        at: Timestamp::from_millis(1_767_268_798_700 + n as i64),
        headers: vec![(Cow::Borrowed("ce_id"), format!("{n:032x}")), (Cow::Borrowed("content-type"), "x".to_owned())],
        body: Bytes::from(format!("{n:0bytes$}")),
    }
}

/// The `n` of a record.
pub(crate) fn number(delivered: &Delivered) -> usize {
    usize::from_str_radix(delivered.record.header("ce_id").unwrap(), 16).unwrap()
}

pub(crate) fn numbers(delivered: &[Delivered]) -> Vec<usize> {
    delivered.iter().map(number).collect()
}

pub(crate) fn sorted(delivered: &[Delivered]) -> Vec<usize> {
    let mut numbers = numbers(delivered);
    numbers.sort_unstable();
    numbers
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it hangs")
}

/// Looks again until it is so; fails instead of hanging.
pub(crate) async fn eventually(what: &str, so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// Reads exactly `count` records in pages of at most `max`.
pub(crate) async fn read(source: &mut impl Source, count: usize, max: usize) -> Vec<Delivered> {
    let mut all = Vec::new();
    while all.len() < count {
        let page = soon(source.next(max)).await.unwrap();
        assert!(!page.is_empty() && page.len() <= max, "a page has at least one record and at most {max}");
        all.extend(page);
    }
    assert_eq!(all.len(), count, "more records than were appended");
    all
}

/// A reader of everything the log still holds.
pub(crate) fn assign_all(source: &mut impl Source) {
    let positions = from_start(&source.bounds().unwrap());
    source.assign(&positions).unwrap();
}

pub(crate) const fn at(partition: u32, offset: u64) -> Position {
    Position { partition, offset }
}

pub(crate) fn is_out_of_range<T>(result: &Result<T, StreamError>) -> bool {
    matches!(result, Err(StreamError::OutOfRange { .. }))
}
