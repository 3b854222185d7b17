//! The judge of order: a member's value is never written over a newer one of the same member.
//!
//! It works only where every edit of a field types a letter of its own, because only then does a value name its edit.
//! The surprising thing: newer is what the member's users typed later, whatever any clock or event said of it. Only
//! what nobody had told us when the call was sent is excused: an edit between our look and our write cannot be seen.

use std::collections::BTreeMap;

use super::value::{Field, Value};

/// Who typed what, and what we wrote, in a run whose values name their edits.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// By field and value: number of the edit and the CRM it was made in.
    typed: BTreeMap<(Field, Value), (u32, usize)>,
    /// When we were first told of an edit, by an event or a read.
    told: BTreeMap<u32, i64>,
    /// By CRM, field and member: the newest edit of that member we wrote there.
    newest: BTreeMap<(usize, Field, usize), u32>,
    /// Writes that moved a member's value back.
    pub reordered: u32,
}

impl Order {
    /// A user typed a value in a CRM.
    pub fn typed(&mut self, crm: usize, field: Field, value: Value, number: u32) {
        self.typed.insert((field, value), (number, crm));
    }

    /// We were told of an edit, whatever we made of it.
    pub fn told(&mut self, number: u32, now: i64) {
        self.told.entry(number).or_insert(now);
    }

    /// We wrote a value over another, in a call sent then; says whether that moved a member's value back.
    pub fn wrote(&mut self, crm: usize, field: Field, (old, new): (Value, Value), sent: i64) -> bool {
        let Some(&(number, by)) = self.typed.get(&(field, new)) else { return false };
        let replaced = self.typed.get(&(field, old)).is_some_and(|&(over, whose)| {
            whose == by && over > number && self.told.get(&over).is_some_and(|&at| at < sent)
        });
        let newest = self.newest.entry((crm, field, by)).or_insert(number);
        let moved_back = replaced || *newest > number;
        *newest = number.max(*newest);
        self.reordered += u32::from(moved_back);
        moved_back
    }
}
