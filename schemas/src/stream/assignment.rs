//! Where one reader stands, for engines whose offsets are numbered across all partitions.
//!
//! Pure: knows no log and no lock. The surprising thing is that a position is checked against the *partition*, not
//! against the oldest record of the log: a quiet partition may stand far behind what retention dropped without having
//! lost anything, and such a reader must not be refused.

use super::{Position, StreamError};

/// What a reader reads and how far it got. One cursor serves all partitions, because the log is read in one order.
#[derive(Clone, Debug, Default)]
pub(super) struct Assignment {
    /// Per partition the first offset wanted; `None`: not read.
    from: Vec<Option<u64>>,
    /// Everything before it was looked at.
    cursor: u64,
}

impl Assignment {
    /// Checks `positions` against what the log holds: `starts` per partition, one `end` for all.
    pub(super) fn new(positions: &[Position], starts: &[u64], end: u64) -> Result<Self, StreamError> {
        let mut from = vec![None; starts.len()];
        for position in positions {
            let wanted = usize::try_from(position.partition).ok().and_then(|p| from.get_mut(p));
            let Some(wanted) = wanted else {
                return Err(out_of_range(*position, 0, 0));
            };
            *wanted = Some(position.offset);
        }
        let cursor = from.iter().flatten().copied().min().unwrap_or(end);
        let assignment = Self { from, cursor };
        assignment.check(starts, end)?;
        Ok(assignment)
    }

    /// Fails when the log no longer holds, or does not yet hold, what comes next in some partition.
    pub(super) fn check(&self, starts: &[u64], end: u64) -> Result<(), StreamError> {
        for (partition, (from, start)) in (0..).zip(self.from.iter().zip(starts)) {
            let Some(offset) = from.map(|from| from.max(self.cursor)) else { continue };
            if offset < *start || offset > end {
                return Err(out_of_range(Position { partition, offset }, *start, end));
            }
        }
        Ok(())
    }

    /// The next offset to look at.
    pub(super) const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Whether the record at `offset` of `partition` is to be delivered.
    pub(super) fn wants(&self, partition: u32, offset: u64) -> bool {
        let from = usize::try_from(partition).ok().and_then(|p| self.from.get(p).copied().flatten());
        from.is_some_and(|from| offset >= from && offset >= self.cursor)
    }

    /// Everything before `next` was looked at.
    pub(super) fn advance(&mut self, next: u64) {
        self.cursor = self.cursor.max(next);
    }
}

const fn out_of_range(position: Position, start: u64, end: u64) -> StreamError {
    StreamError::OutOfRange { partition: position.partition, offset: position.offset, start, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(partition: u32, offset: u64) -> Position {
        Position { partition, offset }
    }

    #[test]
    fn a_quiet_partition_behind_the_oldest_record_has_lost_nothing() {
        // Partition 0 lost records up to offset 99, partition 1 none: it had none before 500.
        let starts = [100, 0];
        assert!(Assignment::new(&[at(1, 3)], &starts, 600).is_ok());
        assert!(Assignment::new(&[at(0, 100), at(1, 600)], &starts, 600).is_ok());
        let refused = Assignment::new(&[at(0, 99)], &starts, 600).unwrap_err();
        assert!(matches!(refused, StreamError::OutOfRange { partition: 0, offset: 99, start: 100, end: 600 }));
        assert!(Assignment::new(&[at(1, 601)], &starts, 600).is_err());
        assert!(Assignment::new(&[at(2, 0)], &starts, 600).is_err());
    }

    #[test]
    fn each_partition_begins_at_its_own_position() {
        let mut assignment = Assignment::new(&[at(0, 5), at(2, 8)], &[0, 0, 0], 10).unwrap();
        assert_eq!(assignment.cursor(), 5);
        assert!(assignment.wants(0, 5));
        assert!(!assignment.wants(1, 6));
        assert!(!assignment.wants(2, 7));
        assert!(assignment.wants(2, 8));
        assignment.advance(9);
        assert!(!assignment.wants(0, 8));
        assert!(assignment.check(&[9, 11, 8], 10).is_ok());
        assert!(assignment.check(&[10, 0, 0], 10).is_err());
    }

    #[test]
    fn nothing_assigned_reads_nothing() {
        let assignment = Assignment::new(&[], &[7], 9).unwrap();
        assert!(!assignment.wants(0, 9));
        assert!(assignment.check(&[9], 9).is_ok());
    }
}
