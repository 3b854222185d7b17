//! What is in the stream of a gateway that has ended. It reads the log and knows nothing of how it came to be.
//!
//! The surprising thing: the number of an event is the id of its record, the last part of the record's key.

use std::path::Path;

use anyhow::Context as _;
use headgate_schemas::stream::embedded::{Embedded, EmbeddedConfig};
use headgate_schemas::stream::{Source as _, from_start};

/// Records read at once.
const PAGE: usize = 5_000;

/// The numbers of all events in the log in `folder`.
pub(super) async fn numbers(folder: &Path) -> anyhow::Result<Vec<u64>> {
    let config = EmbeddedConfig::new(folder);
    let log =
        tokio::task::spawn_blocking(move || Embedded::open(config)).await?.context("the stream cannot be read")?;
    let end = log.stats().end_offset;
    let mut source = log.source();
    let start = from_start(&source.bounds()?);
    source.assign(&start)?;
    let mut numbers = Vec::new();
    let mut next = log.stats().first_offset;
    while next < end {
        for delivered in source.next(PAGE).await? {
            next = delivered.offset + 1;
            numbers.extend(delivered.record.key.rsplit('/').next().and_then(|id| id.parse::<u64>().ok()));
        }
    }
    tokio::task::spawn_blocking(move || log.close()).await?;
    Ok(numbers)
}
