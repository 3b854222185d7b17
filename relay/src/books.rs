//! The accounting: what became due at each target of each link, how it ended, what is open and why. Pure.
//!
//! `due = ended + open` always. Due and ended are sums of the store, kept for ever; open is counted in the documents of
//! the entities, so that the two sides come from different places and a difference is a fault and not a rounding.

use std::collections::BTreeMap;

use crate::entity::Outcome;

/// A target of a link, by their numbers in the store; both 0 for changes that no link concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The link.
    pub link: u32,
    /// The connection.
    pub target: u32,
}

/// What is summed up for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sum {
    /// Deliveries that became due: one per change and target, or one for a change without target.
    Due,
    /// Deliveries that ended so.
    Ended(Outcome),
}

impl Sum {
    /// All sums.
    pub const ALL: [Self; 1 + Outcome::ALL.len()] = {
        let mut all = [Self::Due; 1 + Outcome::ALL.len()];
        let mut i = 0;
        while i < Outcome::ALL.len() {
            all[i + 1] = Self::Ended(Outcome::ALL[i]);
            i += 1;
        }
        all
    };

    /// Its number in the store.
    pub const fn number(self) -> u8 {
        match self {
            Self::Due => 0,
            Self::Ended(outcome) => outcome as u8,
        }
    }
}

/// Open deliveries of one entity that wait for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share {
    /// Where they are due.
    pub place: Place,
    /// The connection that is to act: the target, or the source whose record is to be read first.
    pub at: u32,
    /// A person is to decide.
    pub held: bool,
}

/// All sums, and what is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    sums: BTreeMap<(Place, Sum), i64>,
    open: BTreeMap<Share, i64>,
}

/// One line of the accounting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Deliveries that became due.
    pub due: i64,
    /// Deliveries that ended, by outcome; only those that occurred.
    pub closed: BTreeMap<Outcome, i64>,
    /// On their way.
    pub waiting: i64,
    /// On their way to a connection that cannot take them now.
    pub parked: i64,
    /// A person is to decide.
    pub held: i64,
}

impl Account {
    /// Deliveries that ended.
    pub fn ended(&self) -> i64 {
        self.closed.values().sum()
    }

    /// Deliveries that have not ended.
    pub const fn open(&self) -> i64 {
        self.waiting + self.parked + self.held
    }

    /// Must be 0.
    pub fn difference(&self) -> i64 {
        self.due - self.ended() - self.open()
    }

    /// Adds another line to this one.
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        for (outcome, n) in &other.closed {
            *self.closed.entry(*outcome).or_default() += n;
        }
        self.waiting += other.waiting;
        self.parked += other.parked;
        self.held += other.held;
    }
}

impl Books {
    /// The books with what the store has summed up; what is open is added as the documents are read.
    pub fn new(sums: impl IntoIterator<Item = (Place, Sum, i64)>) -> Self {
        let sums = sums.into_iter().map(|(place, sum, n)| ((place, sum), n)).collect();
        Self { sums, open: BTreeMap::new() }
    }

    /// Adds to a sum.
    pub fn count(&mut self, place: Place, sum: Sum, n: i64) {
        *self.sums.entry((place, sum)).or_default() += n;
    }

    /// Open deliveries came (or, negative, went).
    pub fn open(&mut self, share: Share, n: i64) {
        let open = self.open.entry(share).or_default();
        *open += n;
        if *open == 0 {
            self.open.remove(&share);
        }
    }

    /// One line for each target of each link. A connection that `is_down` cannot take anything now.
    pub fn accounts(&self, is_down: impl Fn(u32) -> bool) -> BTreeMap<Place, Account> {
        let mut accounts: BTreeMap<Place, Account> = BTreeMap::new();
        for ((place, sum), n) in &self.sums {
            let account = accounts.entry(*place).or_default();
            match sum {
                Sum::Due => account.due += n,
                Sum::Ended(outcome) => *account.closed.entry(*outcome).or_default() += n,
            }
        }
        for (share, n) in &self.open {
            let account = accounts.entry(share.place).or_default();
            match share {
                Share { held: true, .. } => account.held += n,
                Share { at, .. } if is_down(*at) => account.parked += n,
                Share { .. } => account.waiting += n,
            }
        }
        accounts
    }

    /// What is open, all links together.
    pub fn open_now(&self) -> i64 {
        self.open.values().sum()
    }

    /// Sums over all links and targets.
    pub fn totals(&self) -> Totals {
        let held = self.open.iter().filter(|(share, _)| share.held).map(|(_, n)| n).sum();
        let mut totals = Totals { open: self.open_now(), held, ..Totals::default() };
        for ((_, sum), n) in &self.sums {
            match sum {
                Sum::Due => totals.due += n,
                Sum::Ended(_) => totals.closed += n,
            }
        }
        totals
    }
}

/// The accounting as others may read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One line for each target of each link.
    pub accounts: BTreeMap<Place, Account>,
    /// Names of the links by number.
    pub links: BTreeMap<u32, String>,
}

/// Sums over everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Deliveries that became due.
    pub due: i64,
    /// Deliveries that ended.
    pub closed: i64,
    /// Deliveries open, counted in the documents.
    pub open: i64,
    /// Those of them that wait for a person.
    pub held: i64,
}

impl Totals {
    /// Must be 0.
    pub const fn difference(self) -> i64 {
        self.due - self.closed - self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { link: 1, target: 2 };

    #[test]
    fn lines_add_up_and_say_why_something_is_open() {
        let mut books = Books::new([(PLACE, Sum::Due, 10), (PLACE, Sum::Ended(Outcome::Delivered), 3)]);
        books.count(PLACE, Sum::Ended(Outcome::Lost), 1);
        let share = |at, held| Share { place: PLACE, at, held };
        books.open(share(2, false), 3);
        books.open(share(2, true), 1);
        books.open(share(7, false), 2);
        let account = &books.accounts(|connection| connection == 7)[&PLACE];
        assert_eq!((account.due, account.ended(), account.open(), account.difference()), (10, 4, 6, 0));
        assert_eq!((account.waiting, account.parked, account.held), (3, 2, 1), "the source of two cannot be read");
        assert_eq!(books.accounts(|_| false)[&PLACE].waiting, 5, "everything can be reached again");
        assert_eq!(books.totals(), Totals { due: 10, closed: 4, open: 6, held: 1 });
    }

    #[test]
    fn what_closed_leaves_no_line() {
        let mut books = Books::default();
        let share = Share { place: PLACE, at: 2, held: false };
        books.open(share, 2);
        books.open(share, -2);
        assert_eq!(books, Books::default());
    }

    #[test]
    fn a_sum_keeps_its_number() {
        let numbers: Vec<u8> = Sum::ALL.iter().map(|sum| sum.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
