//! What the users will do and how it will be posted, from a seed.
//!
//! Pure: no clock and no randomness of its own, so a run can be repeated exactly apart from its times. Every value
//! carries the number of its change, so that a checker can recognise it anywhere.

use std::collections::HashSet;
use std::time::Duration;

use crate::check::{PAIRINGS, Pairing};

/// The shape of a load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Distinct changes to make.
    pub changes: u64,
    /// Changes per second, kept whatever the answers do.
    pub rate: f64,
    /// Stop after this time even when changes are left.
    pub longest: Option<Duration>,
    /// Seed of every choice.
    pub seed: u64,
    /// Share of changes that create a record, from 0 to 1.
    pub create_share: f64,
    /// Share of the records that are companies.
    pub company_share: f64,
    /// Share of the records that are deals.
    pub deal_share: f64,
    /// Share of changes posted a second time.
    pub repeat_share: f64,
    /// Share of changes posted late, after newer ones.
    pub out_of_order_share: f64,
    /// Largest array of one post.
    pub largest_array: usize,
    /// Posts in flight; when all are taken the generator falls behind, and says by how much.
    pub in_flight: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            changes: 2_000,
            rate: 167.0,
            longest: None,
            seed: 1,
            create_share: 0.3,
            company_share: 0.15,
            deal_share: 0.1,
            repeat_share: 0.1,
            out_of_order_share: 0.1,
            largest_array: 100,
            in_flight: 1_024,
        }
    }
}

/// One change a user makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) seq: u64,
    /// Number of the record in this run.
    pub(super) record: usize,
    /// Index of the object's pairing.
    pub(super) pairing: usize,
    pub(super) create: bool,
    pub(super) values: Vec<(&'static str, String)>,
    /// Posted on its own, this much later.
    pub(super) late: Option<Duration>,
    /// Posted once more, this much later.
    pub(super) repeat: Option<Duration>,
}

/// Changes that are posted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Time from the start of the run.
    pub(super) due: Duration,
    pub(super) edits: Vec<Edit>,
}

/// Makes the steps of a run.
#[derive(Debug)]
pub(super) struct Planner {
    options: LoadOptions,
    choices: fastrand::Rng,
    made: u64,
    records: Vec<usize>,
}

impl Planner {
    pub(super) fn new(options: LoadOptions) -> Self {
        let choices = fastrand::Rng::with_seed(options.seed);
        Self { options, choices, made: 0, records: Vec::new() }
    }

    /// Mostly single events, some small arrays, a few large ones, as HubSpot posts under bursts.
    fn array(&mut self) -> u64 {
        let most = self.options.largest_array.max(1) as u64;
        let size = match self.choices.f64() {
            r if r < 0.55 => 1,
            r if r < 0.85 => self.choices.u64(2..=10),
            _ => self.choices.u64(11..=100),
        };
        size.min(most).min(self.options.changes - self.made)
    }

    /// One more edit, of a record that this step has not edited yet: edits of one step share a millisecond, and two of
    /// one field in one millisecond have no order that anybody could tell.
    fn edit(&mut self, edited: &mut HashSet<usize>) -> Edit {
        let seq = self.made;
        self.made += 1;
        let wanted = self.choices.usize(..self.records.len().max(1));
        let rested = (wanted..self.records.len()).chain(0..wanted).find(|record| !edited.contains(record));
        let create = rested.is_none() || self.choices.f64() < self.options.create_share;
        let (record, pairing) = if create {
            let pairing = match self.choices.f64() {
                r if r < self.options.company_share => 1,
                r if r < self.options.company_share + self.options.deal_share => 2,
                _ => 0,
            };
            self.records.push(pairing);
            (self.records.len() - 1, pairing)
        } else {
            let record = rested.unwrap_or(wanted);
            (record, self.records[record])
        };
        edited.insert(record);
        let Pairing { fields, .. } = PAIRINGS[pairing];
        let fields = if create { fields } else { std::slice::from_ref(&fields[self.choices.usize(..fields.len())]) };
        let values = fields.iter().map(|(property, _)| (*property, value(property, seq))).collect();
        let late = self.delay(self.options.out_of_order_share, 2_000);
        let repeat = self.delay(self.options.repeat_share, 1_000);
        Edit { seq, record, pairing, create, values, late, repeat }
    }

    fn delay(&mut self, share: f64, most_ms: u64) -> Option<Duration> {
        let (hit, ms) = (self.choices.f64() < share, self.choices.u64(0..=most_ms));
        hit.then(|| Duration::from_millis(ms))
    }
}

impl Iterator for Planner {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let due = Duration::from_secs_f64(self.made as f64 / self.options.rate.max(0.001));
        if self.made >= self.options.changes || self.options.longest.is_some_and(|l| due >= l) {
            return None;
        }
        let size = self.array();
        let mut edited = HashSet::new();
        let edits = (0..size).map(|_| self.edit(&mut edited)).collect();
        Some(Step { due, edits })
    }
}

/// A valid value of a property that no other change has.
fn value(property: &str, seq: u64) -> String {
    match property {
        "email" => format!("user{seq}@example.com"),
        "phone" => format!("+1415{}", 2_000_000 + seq),
        "firstname" => format!("Ada{seq}"),
        "lastname" => format!("Lovelace{seq}"),
        "jobtitle" => format!("Engineer {seq}"),
        "city" => format!("City {seq}"),
        "numberofemployees" | "amount" => (seq + 1).to_string(),
        other => format!("{other} {seq}"),
    }
}

/// Properties that a creation needs and no checker watches: targets do not take a deal without them.
pub(super) fn fillers(pairing: usize) -> &'static [(&'static str, &'static str)] {
    match PAIRINGS[pairing].source {
        "deals" => &[("pipeline", "default"), ("dealstage", "qualifiedtobuy"), ("closedate", "2027-01-31")],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(seed: u64) -> Vec<Step> {
        Planner::new(LoadOptions { changes: 2_000, rate: 100.0, seed, ..LoadOptions::default() }).collect()
    }

    #[test]
    fn a_seed_repeats_a_run_and_another_does_not() {
        assert_eq!(steps(3), steps(3));
        assert_ne!(steps(3), steps(4));
    }

    #[test]
    fn the_schedule_keeps_the_rate_and_the_shares() {
        let steps = steps(5);
        let edits: Vec<&Edit> = steps.iter().flat_map(|s| &s.edits).collect();
        assert_eq!(edits.len(), 2_000);
        assert!(edits.iter().enumerate().all(|(i, e)| e.seq == i as u64));
        assert!(steps.iter().all(|s| (1..=100).contains(&s.edits.len())));
        let last = steps.last().expect("there are steps");
        assert_eq!(last.due, Duration::from_secs_f64(last.edits[0].seq as f64 / 100.0));
        let share = |n: usize| n as f64 / 2_000.0;
        assert!((0.07..0.13).contains(&share(edits.iter().filter(|e| e.late.is_some()).count())));
        assert!((0.07..0.13).contains(&share(edits.iter().filter(|e| e.repeat.is_some()).count())));
        assert!((0.25..0.35).contains(&share(edits.iter().filter(|e| e.create).count())));
    }

    #[test]
    fn a_step_edits_no_record_twice() {
        for step in steps(7) {
            let records: HashSet<usize> = step.edits.iter().map(|e| e.record).collect();
            assert_eq!(records.len(), step.edits.len());
        }
    }

    #[test]
    fn a_record_is_created_before_it_is_changed() {
        let mut known = HashSet::new();
        for edit in steps(6).into_iter().flat_map(|s| s.edits) {
            assert_eq!(edit.create, known.insert(edit.record), "record {}", edit.record);
        }
    }
}
