//! Merging two records into one.
//!
//! The surprising thing: depending on the account, the surviving id is the primary's or a new one; old ids go on
//! answering with the record that stands for them.

use std::collections::BTreeMap;

use super::event::Happened;
use super::portal::{By, Portal, Record};
use super::problem::Problem;

impl Portal {
    /// Merges `merged` into `primary`; answers the id that stands for both afterwards.
    pub(super) fn merge(&mut self, table: usize, primary: u64, merged: u64, by: &By) -> Result<u64, Problem> {
        let spec = &self.tables[table].spec;
        let record =
            |id: u64| self.live(table, id).ok_or_else(|| Problem::missing(&spec.singular, vec![id.to_string()]));
        let (winner, loser) = (record(primary)?.clone(), record(merged)?.clone());
        if winner.id == loser.id {
            return Err(Problem::invalid("A record cannot be merged with itself."));
        }
        let filled =
            |r: &Record| r.properties.clone().into_iter().filter(|(_, v)| !v.is_empty()).collect::<BTreeMap<_, _>>();
        let mut values = filled(&loser);
        let kept = filled(&winner);
        let moved = values.keys().filter(|k| !kept.contains_key(*k)).count() as u64;
        values.extend(kept);
        values.insert("hs_merged_object_ids".into(), merged_ids(&winner, &loser));
        let new = if self.traits.merge_makes_new { self.heir(table, &winner, by) } else { winner.id };
        self.retire(table, loser.id, by, Some(new));
        if new != winner.id {
            self.retire(table, winner.id, by, Some(new));
        }
        self.put(table, new, values, by);
        let happened = Happened::Merged { primary: winner.id, merged: loser.id, new, moved };
        self.happened(table, winner.id, happened, by);
        Ok(new)
    }

    fn heir(&mut self, table: usize, winner: &Record, by: &By) -> u64 {
        self.next_id += 1;
        self.total += 1;
        let mut heir = winner.clone();
        heir.id = self.next_id;
        heir.updated_ms = by.now.millis();
        heir.properties.clear();
        self.tables[table].records.insert(heir.id, heir);
        self.next_id
    }
}

fn merged_ids(winner: &Record, loser: &Record) -> String {
    let earlier = [winner, loser].map(|r| r.properties.get("hs_merged_object_ids").cloned().unwrap_or_default());
    let own = [loser.id.to_string()];
    own.into_iter().chain(earlier).filter(|t| !t.is_empty()).collect::<Vec<_>>().join(";")
}
