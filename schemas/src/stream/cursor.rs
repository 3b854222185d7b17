//! Where a reader of the whole stream stands, and how that is written: the one text that `from` takes, that every event
//! carries, and that a reader keeps to go on later.
//!
//! Pure. The surprising thing is that there are two spellings: where offsets are numbered across all partitions one
//! number says everything, elsewhere there is one number for each partition, with dots between them.

use std::fmt;

use super::{Delivered, Position};

/// Where a reader stands in every partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The next offset of each partition.
    next: Vec<u64>,
    /// Offsets are numbered across all partitions, and records come in that order.
    across: bool,
}

/// Text that is no position of this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is a number, or one number for each of the {partitions} partitions with dots between them")]
pub struct InvalidCursor {
    /// Partitions of the stream.
    pub partitions: u32,
}

impl Cursor {
    /// Stands at `positions`; partitions not named stand at their beginning.
    pub fn new(positions: &[Position], partitions: u32, across: bool) -> Self {
        let next = (0..partitions)
            .map(|partition| positions.iter().find(|p| p.partition == partition).map_or(0, |p| p.offset))
            .collect();
        Self { next, across }
    }

    /// Reads what [`fmt::Display`] wrote. One number alone stands for all partitions.
    ///
    /// # Errors
    /// When the text has another form, or another number of partitions.
    pub fn parse(text: &str, partitions: u32, across: bool) -> Result<Self, InvalidCursor> {
        let numbers: Result<Vec<u64>, _> = text.split('.').map(digits).collect();
        let refused = || InvalidCursor { partitions };
        let next = match numbers.map_err(|()| refused())?.as_slice() {
            [all] => vec![*all; usize::try_from(partitions).unwrap_or(0)],
            each if u32::try_from(each.len()) == Ok(partitions) => each.to_vec(),
            _ => return Err(refused()),
        };
        Ok(Self { next, across })
    }

    /// Where to read on.
    pub fn positions(&self) -> Vec<Position> {
        (0..).zip(&self.next).map(|(partition, offset)| Position { partition, offset: *offset }).collect()
    }

    /// The same stream at other positions; partitions not named stand at their beginning.
    #[must_use]
    pub fn moved_to(&self, positions: &[Position]) -> Self {
        Self::new(positions, u32::try_from(self.next.len()).unwrap_or(u32::MAX), self.across)
    }

    /// A record was read.
    pub fn pass(&mut self, read: &Delivered) {
        let after = read.offset + 1;
        for (partition, next) in (0..).zip(&mut self.next) {
            if self.across || partition == read.partition {
                *next = (*next).max(after);
            }
        }
    }
}

/// A number without a sign.
fn digits(text: &str) -> Result<u64, ()> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().map_err(drop) } else { Err(()) }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.across {
            // Every partition was read up to the same place, or begins after it.
            return write!(f, "{}", self.next.iter().min().unwrap_or(&0));
        }
        for (n, next) in self.next.iter().enumerate() {
            write!(f, "{}{next}", if n == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{encode, example};

    fn read(partition: u32, offset: u64) -> Delivered {
        Delivered { partition, offset, record: encode(&example()).unwrap() }
    }

    #[test]
    fn one_number_where_offsets_run_across_partitions() {
        let mut cursor = Cursor::parse("17", 3, true).unwrap();
        assert_eq!(cursor.positions().iter().map(|p| p.offset).collect::<Vec<_>>(), [17, 17, 17]);
        cursor.pass(&read(2, 20));
        assert_eq!(cursor.to_string(), "21");
    }

    #[test]
    fn one_number_each_elsewhere() {
        let mut cursor = Cursor::parse("4.0.9", 3, false).unwrap();
        cursor.pass(&read(1, 7));
        assert_eq!(cursor.to_string(), "4.8.9");
        assert_eq!(Cursor::parse("4.8.9", 3, false).unwrap(), cursor);
        assert_eq!(Cursor::new(&cursor.positions(), 3, false), cursor);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "now", "1.2", "1.2.3.4", "1.-2.3", "+1", "1.2.x", "99999999999999999999", "1..3"] {
            assert_eq!(Cursor::parse(text, 3, false), Err(InvalidCursor { partitions: 3 }), "{text}");
        }
    }
}
