//! The change stream: a log of records in partitions. [`Sink`] appends, [`Source`] reads; engines are interchangeable
//! and one conformance suite runs against all of them.
//!
//! What every engine promises: an acknowledged append survives the death of the process; records of one key stand in
//! one partition in the order of their appends; offsets in a partition rise, with gaps allowed; reading again from a
//! position yields the same records.

use std::future::Future;
use std::pin::Pin;

use crate::contract::Record;
use crate::time::Timestamp;

mod assignment;
mod begin;
mod cursor;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;

pub use begin::{Begin, BeginError, InvalidBegin};
pub use cursor::{Cursor, InvalidCursor};

/// Where a reader stands: everything before `offset` in `partition` was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// The next offset to read.
    pub offset: u64,
}

/// What a topic is. The id is kept with the positions: a topic that was deleted and made again has another one, and
/// positions of the old one mean nothing in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Made with the topic, never changed.
    pub id: String,
    /// Fixed at creation.
    pub partitions: u32,
}

impl Topic {
    /// What stands in an id before the part that each topic of the same name has for itself.
    pub const MADE: char = '#';

    /// Whether this topic took the place of the one whose id was kept: the same name in the same cluster, made at another
    /// time. Ids do not tell which of them was made later.
    pub fn is_in_the_place_of(&self, kept: &str) -> bool {
        let place = |id: &str| id.split_once(Self::MADE).map(|(place, _)| place.to_owned());
        self.id != kept && place(&self.id).is_some_and(|ours| place(kept) == Some(ours))
    }
}

/// A record as a reader gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its partition.
    pub partition: u32,
    /// Its offset in the partition.
    pub offset: u64,
    /// The record.
    pub record: Record,
}

/// What can go wrong with a stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    /// The engine's queue is full; nothing of the batch was taken. Try again later.
    #[error("the stream's queue is full")]
    Full,
    /// Nothing of the batch was taken.
    #[error("the stream cannot take records: {0}")]
    Unavailable(String),
    /// The batch may or may not have been taken; appending it again may repeat it.
    #[error("it is not known whether the stream took the batch: {0}")]
    Indefinite(String),
    /// A record is larger than the engine allows; nothing of the batch was taken.
    #[error("a record of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The position asked for is no longer (or not yet) in the log.
    #[error(
        "position {offset} of partition {partition} is not in the log (it starts at {start} and ends before {end})"
    )]
    OutOfRange {
        /// The partition.
        partition: u32,
        /// The offset asked for.
        offset: u64,
        /// First offset still there.
        start: u64,
        /// First offset not yet there.
        end: u64,
    },
    /// The topic was deleted and made again while it was read: positions in it mean nothing any more.
    #[error("the topic was deleted and made again; what was read before is not in it")]
    Replaced,
    /// The log itself is damaged or of another version.
    #[error("the log cannot be read: {0}")]
    Corrupt(String),
}

/// The acknowledgement of one append: resolves when every record of it is durable. Dropping it does not undo the append.
pub type Append = Pin<Box<dyn Future<Output = Result<(), StreamError>> + Send>>;

/// Takes records. One batch is taken as a whole or not at all.
pub trait Sink: Send + Sync {
    /// Queues `batch` at once and returns its acknowledgement. Batches enter the log in the order of the *calls*,
    /// whatever happens to the futures. Never blocks: a full queue resolves to [`StreamError::Full`].
    fn append(&self, batch: Vec<Record>) -> Append;

    /// Id and partitions.
    fn topic(&self) -> Topic;
}

/// The future of [`Source::next`].
pub type Next<'a> = Pin<Box<dyn Future<Output = Result<Vec<Delivered>, StreamError>> + Send + 'a>>;

/// Reads records.
pub trait Source: Send {
    /// Id and partitions.
    fn topic(&self) -> Topic;

    /// Says where to read. Partitions not named are not read. Replaces an earlier assignment.
    ///
    /// # Errors
    /// [`StreamError::OutOfRange`] for a position that the log no longer holds: this is never papered over.
    fn assign(&mut self, positions: &[Position]) -> Result<(), StreamError>;

    /// The next records, at least one and at most `max`, in order inside each partition; fewer where they are more bytes
    /// than a page of the engine holds. Waits for the first one.
    /// Cancel-safe: dropping the future loses nothing.
    fn next(&mut self, max: usize) -> Next<'_>;

    /// Whether offsets are numbered across all partitions and records come in the order of those numbers. Then one
    /// number says where a reader stands.
    fn numbers_across(&self) -> bool {
        false
    }

    /// For each partition the offsets `[start, end)` the log holds now.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    fn bounds(&self) -> Result<Vec<(Position, Position)>, StreamError>;

    /// Positions from which every record is read whose timestamp is `at` or later, as far as the order of the records
    /// is that of their timestamps. Short enough to be called from async code.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    fn since(&self, at: Timestamp) -> Result<Vec<Position>, StreamError>;
}

/// What a source's [`bounds`](Source::bounds) are: start and end of each partition.
pub type Bounds = [(Position, Position)];

/// Positions that read everything the log still holds.
pub fn from_start(bounds: &Bounds) -> Vec<Position> {
    bounds.iter().map(|(start, _)| *start).collect()
}

/// Positions that read only what is appended from now on.
pub fn from_now(bounds: &Bounds) -> Vec<Position> {
    bounds.iter().map(|(_, end)| *end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_in_the_place_of_one_of_its_name_in_its_cluster_and_of_no_other() {
        let topic = Topic { id: "kafka:c1/changes#22".to_owned(), partitions: 4 };
        let table = [
            ("kafka:c1/changes#11", true),
            ("kafka:c1/changes#22", false),
            ("kafka:c2/changes#11", false),
            ("kafka:c1/other#11", false),
            ("kafka:c1/changes", false),
        ];
        for (kept, expected) in table {
            assert_eq!(topic.is_in_the_place_of(kept), expected, "{kept}");
        }
        let embedded = Topic { id: "01890a5d".to_owned(), partitions: 4 };
        assert!(!embedded.is_in_the_place_of("another"), "a log in a folder has no name of its own");
    }
}
