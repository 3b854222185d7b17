//! The books checked against the documents: everything open is counted afresh, a few documents at a time, and compared
//! with what was added up change by change. Pure: documents come in, a verdict goes out.
//!
//! The surprise: entities go on changing while they are counted. One that was counted already is followed by the
//! difference of each commit, so that at the end of a round the count is that of one moment.

use crate::store::EntityId;

/// A round of counting.
#[derive(Debug, Default)]
pub(crate) struct Recount {
    /// Entities up to here are counted.
    counted_to: EntityId,
    open: i64,
}

/// What a round found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Deliveries open in the documents.
    pub open: i64,
    /// Deliveries open in the books.
    pub booked: i64,
}

impl Counted {
    /// Must be 0.
    pub const fn difference(self) -> i64 {
        self.open - self.booked
    }
}

impl Recount {
    /// From where to count on.
    pub(crate) const fn counted_to(&self) -> EntityId {
        self.counted_to
    }

    /// An entity that stands in the store with so many open deliveries.
    pub(crate) const fn add(&mut self, id: EntityId, open: i64) {
        self.counted_to = id;
        self.open += open;
    }

    /// An entity was written, and so many more (or, negative, fewer) are open.
    pub(crate) const fn follow(&mut self, id: EntityId, more: i64) {
        if id <= self.counted_to {
            self.open += more;
        }
    }

    /// No document is left: the verdict, and a new round.
    pub(crate) fn end(&mut self, booked: i64) -> Counted {
        let open = std::mem::take(self).open;
        Counted { open, booked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_while_it_is_counted_is_counted_once() {
        let mut recount = Recount::default();
        recount.add(1, 2);
        // Entity 1 was counted and is followed; entity 5 will be met as it stands then.
        recount.follow(1, -2);
        recount.follow(5, 3);
        recount.add(5, 3);
        let counted = recount.end(3);
        assert_eq!((counted, counted.difference()), (Counted { open: 3, booked: 3 }, 0));
        assert_eq!(recount.end(1).difference(), -1, "a new round begins at the first entity");
    }
}
