//! A CRM with many records: what stands there, what users do to it, and what it reports.
//!
//! It knows no relay, no agenda and no dice. The surprising thing: a merge leaves the survivor as it was and names it
//! only in an event of the record that went, and an event is a hint: it says where to look and no value.

use std::collections::BTreeMap;
use std::fmt;

use crate::scenario::Act;

/// A record of a CRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The CRM.
    pub crm: usize,
    /// Counted from 1 in each CRM.
    pub number: u32,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.crm, self.number)
    }
}

/// Who touched a record last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// A person.
    User,
    /// The relay.
    Us,
}

/// What stands in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key; a record that was made without one is mutilated.
    pub email: Option<String>,
    /// The one mapped field.
    pub phone: u32,
    /// Our own id of the person.
    pub external: Option<u128>,
    /// Not deleted and not merged away.
    pub alive: bool,
    /// The record it was merged into.
    pub into: Option<RecordId>,
    /// Its version: when it was touched last.
    pub at: i64,
    /// By whom.
    pub hand: Hand,
}

/// What a CRM reports of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was made.
    Created,
    /// Something in it changed.
    Updated,
    /// It is no longer there.
    Deleted,
    /// It is there again.
    Restored,
    /// It was merged into another.
    Merged(RecordId),
}

/// One CRM.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// Which.
    pub crm: usize,
    unique: bool,
    rows: BTreeMap<RecordId, Row>,
}

impl Shelf {
    /// An empty one.
    pub const fn new(crm: usize, unique: bool) -> Self {
        Self { crm, unique, rows: BTreeMap::new() }
    }

    /// Puts a record there.
    pub fn add(&mut self, row: Row) -> RecordId {
        let number = u32::try_from(self.rows.len()).unwrap_or(u32::MAX).saturating_add(1);
        let id = RecordId { crm: self.crm, number };
        self.rows.insert(id, row);
        id
    }

    /// What stands in a record.
    pub fn row(&self, id: RecordId) -> &Row {
        match self.rows.get(&id) {
            Some(row) => row,
            None => panic!("no record {id} was ever made"),
        }
    }

    /// Changes a record, alive or not.
    pub fn touch(&mut self, id: RecordId, now: i64, hand: Hand, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows.get_mut(&id) {
            change(row);
            (row.at, row.hand) = (now, hand);
        }
    }

    /// The records that stand there.
    pub fn alive(&self) -> impl Iterator<Item = (RecordId, &Row)> {
        self.rows.iter().filter(|(_, row)| row.alive).map(|(&id, row)| (id, row))
    }

    /// Every record there ever was.
    pub fn rows(&self) -> impl Iterator<Item = (RecordId, &Row)> {
        self.rows.iter().map(|(&id, row)| (id, row))
    }

    /// The record that holds an address.
    pub fn holder(&self, email: &str) -> Option<RecordId> {
        self.alive().find(|(_, row)| row.email.as_deref() == Some(email)).map(|(id, _)| id)
    }

    /// The record that stands in the way of another one with this address.
    pub fn clash(&self, email: &str) -> Option<RecordId> {
        if self.unique { self.holder(email) } else { None }
    }

    /// The record with an external id.
    pub fn of_external(&self, external: u128) -> Option<RecordId> {
        self.alive().find(|(_, row)| row.external == Some(external)).map(|(id, _)| id)
    }

    /// Where a record went by merges.
    pub fn follow(&self, id: RecordId) -> RecordId {
        self.row(id).into.map_or(id, |next| self.follow(next))
    }

    /// What a user does, and what is reported of it. `phone` is a number that nobody had before.
    pub fn user(&mut self, act: Act, email: &str, phone: u32, now: i64) -> Vec<(RecordId, Kind)> {
        let wanted = match act {
            Act::Restore => self.deleted(email),
            Act::Create | Act::Edit | Act::Delete | Act::Merge(_) => self.holder(email),
        };
        match (act, wanted) {
            (Act::Create, Some(_)) if self.unique => Vec::new(),
            (Act::Create, _) => {
                let email = Some(email.to_owned());
                let row = Row { email, phone, external: None, alive: true, into: None, at: now, hand: Hand::User };
                vec![(self.add(row), Kind::Created)]
            }
            (_, None) => Vec::new(),
            (Act::Edit, Some(id)) => {
                self.touch(id, now, Hand::User, |row| row.phone = phone);
                vec![(id, Kind::Updated)]
            }
            (Act::Delete, Some(id)) => {
                self.touch(id, now, Hand::User, |row| row.alive = false);
                vec![(id, Kind::Deleted)]
            }
            (Act::Restore, Some(id)) => {
                self.touch(id, now, Hand::User, |row| row.alive = true);
                vec![(id, Kind::Restored)]
            }
            (Act::Merge(other), Some(id)) => self.merge(id, other, now),
        }
    }

    fn merge(&mut self, id: RecordId, other: &str, now: i64) -> Vec<(RecordId, Kind)> {
        let Some(survivor) = self.holder(other) else { return Vec::new() };
        if let Some(row) = self.rows.get_mut(&id) {
            (row.alive, row.into, row.at) = (false, Some(survivor), now);
        }
        vec![(id, Kind::Deleted), (id, Kind::Merged(survivor))]
    }

    fn deleted(&self, email: &str) -> Option<RecordId> {
        let gone = |row: &Row| !row.alive && row.into.is_none() && row.email.as_deref() == Some(email);
        self.rows.iter().find(|(_, row)| gone(row)).map(|(&id, _)| id)
    }
}
