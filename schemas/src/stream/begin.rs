//! Where a reader wants to begin: the start, now, a position that an earlier reader was told, or a time.
//!
//! Knows no engine. Whether the log still holds that place is found out when the reader is assigned to it.

use std::fmt;
use std::str::FromStr;

use super::{Cursor, InvalidCursor, Source, StreamError, from_now, from_start};
use crate::time::Timestamp;

/// Where to begin to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the oldest record there is.
    Start,
    /// With the next record that comes.
    Now,
    /// At a position, as [`Cursor`] writes it.
    At(String),
    /// With the records that came at this time or later.
    Time(Timestamp),
}

/// Text that says nothing of where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("from is start, now, a position of the stream, or a time like 2026-01-31T08:00:00Z")]
pub struct InvalidBegin;

/// Why a reader cannot begin there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BeginError {
    /// It is a position of another stream.
    #[error(transparent)]
    Position(#[from] InvalidCursor),
    /// The stream says no.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl FromStr for Begin {
    type Err = InvalidBegin;

    fn from_str(text: &str) -> Result<Self, InvalidBegin> {
        match text {
            "start" => Ok(Self::Start),
            "now" => Ok(Self::Now),
            "" => Err(InvalidBegin),
            _ if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => Ok(Self::At(text.to_owned())),
            _ => text.parse().map(Self::Time).map_err(|_| InvalidBegin),
        }
    }
}

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Now => f.write_str("now"),
            Self::At(position) => f.write_str(position),
            Self::Time(at) => write!(f, "{at}"),
        }
    }
}

impl Begin {
    /// Where that is in the stream of `source` now. May block for as long as the engine takes to answer.
    ///
    /// # Errors
    /// When the position is not one of this stream, or the engine cannot be asked.
    pub fn cursor(&self, source: &dyn Source) -> Result<Cursor, BeginError> {
        let (partitions, across) = (source.topic().partitions, source.numbers_across());
        let positions = match self {
            Self::At(position) => return Ok(Cursor::parse(position, partitions, across)?),
            Self::Start => from_start(&source.bounds()?),
            Self::Now => from_now(&source.bounds()?),
            Self::Time(at) => source.since(*at)?,
        };
        Ok(Cursor::new(&positions, partitions, across))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_what_it_means() {
        let table = [
            ("start", Some(Begin::Start)),
            ("now", Some(Begin::Now)),
            ("17", Some(Begin::At("17".to_owned()))),
            ("17.0.4", Some(Begin::At("17.0.4".to_owned()))),
            ("1970-01-01T00:00:01Z", Some(Begin::Time(Timestamp::from_secs(1)))),
            ("yesterday", None),
            ("-1", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
        assert_eq!(Begin::Time(Timestamp::from_secs(1)).to_string(), "1970-01-01T00:00:01.000000Z");
    }
}
