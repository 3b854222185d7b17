//! What the reference knows: persons, whose record is whose, what each record was last seen as.

use std::collections::{BTreeMap, BTreeSet};

use crate::rules::Rules;
use crate::shelf::RecordId;
use crate::world::Standing;

/// A person; an index into [`State::persons`].
pub type PersonId = usize;

/// Whether a person is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// There.
    Live,
    /// Deleted in one CRM; the others follow, unless somebody must be asked.
    Deleting,
}

/// One person.
#[derive(Clone, Debug)]
pub struct Person {
    /// The value in force.
    pub phone: u32,
    /// When it was set.
    pub at: i64,
    /// The record in each CRM.
    pub members: BTreeMap<usize, RecordId>,
    /// What each CRM is known to show.
    pub shown: BTreeMap<usize, u32>,
    /// Whether it is there.
    pub life: Life,
    /// Records somebody must decide about.
    pub asks: BTreeSet<RecordId>,
    /// The person it became one with.
    pub into: Option<PersonId>,
}

/// Everything that is known.
#[derive(Debug)]
pub struct State {
    /// The rules in force.
    pub rules: Rules,
    /// Every person there ever was.
    pub persons: Vec<Person>,
    /// Who holds an address, or without claims a record.
    pub claims: BTreeMap<String, PersonId>,
    /// Whose each record is.
    pub of: BTreeMap<RecordId, PersonId>,
    /// The version each record was last seen in.
    pub seen: BTreeMap<RecordId, i64>,
    /// Records one too many.
    pub detached: BTreeSet<RecordId>,
    /// Survivors as events named them.
    pub merges: BTreeMap<RecordId, RecordId>,
    /// Since when a record is not found.
    pub missing: BTreeMap<RecordId, i64>,
}

impl Person {
    /// A person without any record.
    pub const fn new(phone: u32, at: i64) -> Self {
        Self {
            phone,
            at,
            members: BTreeMap::new(),
            shown: BTreeMap::new(),
            life: Life::Live,
            asks: BTreeSet::new(),
            into: None,
        }
    }
}

/// Our own id of a person.
pub const fn external(person: PersonId) -> u128 {
    person as u128 + 100
}

impl State {
    /// Nothing is known.
    pub const fn new(rules: Rules) -> Self {
        Self {
            rules,
            persons: Vec::new(),
            claims: BTreeMap::new(),
            of: BTreeMap::new(),
            seen: BTreeMap::new(),
            detached: BTreeSet::new(),
            merges: BTreeMap::new(),
            missing: BTreeMap::new(),
        }
    }

    /// Who a person is now, after merges.
    pub fn now(&self, person: PersonId) -> PersonId {
        self.persons[person].into.map_or(person, |next| self.now(next))
    }

    /// Whose a record is now.
    pub fn person_of(&self, id: RecordId) -> Option<PersonId> {
        self.of.get(&id).map(|&person| self.now(person))
    }

    /// Whether a record may tell something new at this version.
    pub fn is_news(&self, id: RecordId, at: i64) -> bool {
        self.seen.get(&id).is_none_or(|&seen| seen <= at)
    }

    /// Whether a record was never seen as new as this.
    pub fn is_unseen(&self, id: RecordId, at: i64) -> bool {
        self.seen.get(&id).is_none_or(|&seen| seen < at)
    }

    /// What a person would be created with: the address he is claimed by.
    pub fn claim_of(&self, person: PersonId) -> Option<&str> {
        let owns = |holder: PersonId| holder == person || self.persons[holder].into == Some(person);
        self.claims.iter().find(|(_, holder)| owns(**holder)).map(|(key, _)| key.as_str())
    }

    /// How every person stands.
    pub fn standing(&self) -> Vec<Standing> {
        let standing = |person: &Person| Standing {
            members: person.members.values().copied().collect(),
            asks: !person.asks.is_empty(),
            decided: false,
        };
        self.persons.iter().filter(|person| person.into.is_none()).map(standing).collect()
    }
}
