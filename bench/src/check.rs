//! The checker: what was sent at one end, what was written at the other, and whether that is right.
//!
//! It shares no code with the gateway or the relay, and no knowledge either: it recognises a value because every value
//! the load makes is unique. The rules are those of a target that must end equal to its source:
//!
//! - *lost*: an accepted change whose value is not what stands in the target at the end, nor is a newer one;
//! - *duplicated*: a second row for one record, or a write of the value that stood there already;
//! - *reordered*: a value written over a newer one of the same field;
//! - *phantom*: a value in a watched field that nobody sent, or one that belongs to another record.
//!
//! The surprising thing: a value can be in the target before its own event was posted, because a read for an earlier
//! event saw it. Such a change counts as delivered and in time, but adds no latency, so that it flatters no quantile.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use headgate_schemas::Timestamp;
use serde::Serialize;

use crate::latency::Latency;
use crate::sim::log::Write;

/// Which target object and fields stand for which source object and fields.
#[derive(Clone, Copy, Debug)]
pub struct Pairing {
    /// HubSpot object type.
    pub source: &'static str,
    /// Salesforce object.
    pub target: &'static str,
    /// HubSpot property and Salesforce field.
    pub fields: &'static [(&'static str, &'static str)],
}

/// The default mapping between HubSpot and Salesforce, as far as the load exercises it.
pub const PAIRINGS: [Pairing; 3] = [
    Pairing {
        source: "contacts",
        target: "Contact",
        fields: &[
            ("email", "Email"),
            ("firstname", "FirstName"),
            ("lastname", "LastName"),
            ("phone", "Phone"),
            ("jobtitle", "Title"),
            ("city", "MailingCity"),
        ],
    },
    Pairing {
        source: "companies",
        target: "Account",
        fields: &[
            ("name", "Name"),
            ("phone", "Phone"),
            ("city", "BillingCity"),
            ("numberofemployees", "NumberOfEmployees"),
        ],
    },
    Pairing { source: "deals", target: "Opportunity", fields: &[("dealname", "Name"), ("amount", "Amount")] },
];

/// The judgement over a run. Durations are milliseconds from the first byte of a change's first post to the write.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Distinct changes sent.
    pub sent: u64,
    /// Changes answered with 2xx.
    pub accepted: u64,
    /// Accepted changes with the target equal or newer at the end.
    pub delivered: u64,
    /// Accepted changes that are not.
    pub lost: u64,
    /// Second rows and repeated effects.
    pub duplicated: u64,
    /// Older values written over newer ones.
    pub reordered: u64,
    /// Values nobody sent, or sent for another record.
    pub phantom: u64,
    /// Repeated values on the wire that were forgiven; see [`Checker::forgive_repeats`].
    pub wire_repeats: u64,
    /// Posts of changes that had been posted before.
    pub repeats_sent: u64,
    /// Half of the changes took at most this long.
    pub p50_ms: f64,
    /// 95 % took at most this long.
    pub p95_ms: f64,
    /// 99 % took at most this long.
    pub p99_ms: f64,
    /// Share of the accepted changes that were written within the budget, from 0 to 1.
    pub within_budget: f64,
    /// How far the generator fell behind its own schedule at worst.
    pub schedule_lag_ms: f64,
}

impl Verdict {
    /// Whether nothing was lost, duplicated, reordered or made up.
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.phantom == 0
    }
}

/// One field of one record.
type Cell = (usize, &'static str);

#[derive(Debug, Default)]
struct CellState {
    /// Sequence number of the value that stands in the target.
    stands: Option<u64>,
    /// Changes of this field that no write has covered yet.
    waiting: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct ChangeState {
    cells: Vec<Cell>,
    open: usize,
    /// Latest of the writes that covered its cells.
    latest: Timestamp,
    covered: Option<Timestamp>,
    posted: Option<Timestamp>,
    accepted: bool,
    in_time: bool,
    measured: bool,
}

/// Follows a run and judges it.
#[derive(Debug)]
pub struct Checker {
    budget: Duration,
    forgive_repeats: bool,
    values: HashMap<(&'static str, &'static str, String), (usize, u64)>,
    cells: HashMap<Cell, CellState>,
    changes: HashMap<u64, ChangeState>,
    rows: HashMap<String, usize>,
    holders: HashMap<usize, String>,
    latency: Latency,
    covered: u64,
    accepted: u64,
    duplicated: u64,
    reordered: u64,
    phantom: u64,
    wire_repeats: u64,
}

impl Checker {
    /// A checker for a latency budget.
    pub fn new(budget: Duration) -> Self {
        Self {
            budget,
            forgive_repeats: false,
            values: HashMap::new(),
            cells: HashMap::new(),
            changes: HashMap::new(),
            rows: HashMap::new(),
            holders: HashMap::new(),
            latency: Latency::default(),
            covered: 0,
            accepted: 0,
            duplicated: 0,
            reordered: 0,
            phantom: 0,
            wire_repeats: 0,
        }
    }

    /// Counts a write of the value that stands there already as a repeat on the wire, not as a duplicate. Right for
    /// runs with crashes or cut connections, where a write whose answer was lost has to be made again.
    pub const fn forgive_repeats(mut self) -> Self {
        self.forgive_repeats = true;
        self
    }

    /// Announces change number `seq` of a record before it is made, with its properties and their unique values.
    pub fn plan(&mut self, seq: u64, record: usize, pairing: &Pairing, values: &[(&'static str, String)]) {
        let mut cells = Vec::new();
        for (property, value) in values {
            let Some((_, field)) = pairing.fields.iter().find(|(p, _)| p == property) else { continue };
            self.values.insert((pairing.target, field, canonical(value)), (record, seq));
            self.cells.entry((record, field)).or_default().waiting.insert(seq);
            cells.push((record, *field));
        }
        let open = cells.len();
        self.changes.insert(seq, ChangeState { cells, open, ..ChangeState::default() });
    }

    /// Notes the first byte of a change's post; only the first counts.
    pub fn posted(&mut self, seq: u64, at: Timestamp) {
        if let Some(change) = self.changes.get_mut(&seq) {
            change.posted.get_or_insert(at);
        }
        self.measure(seq);
    }

    /// Notes that a change was answered with 2xx.
    pub fn accepted(&mut self, seq: u64) {
        if let Some(change) = self.changes.get_mut(&seq).filter(|c| !c.accepted) {
            change.accepted = true;
            self.accepted += 1;
        }
    }

    /// Takes in writes of the target, in the order of its log.
    pub fn observe(&mut self, writes: &[Write]) {
        for write in writes {
            let watched = PAIRINGS.iter().find(|p| p.target == &*write.object);
            let field = watched.and_then(|p| p.fields.iter().find(|(_, f)| *f == &*write.field));
            let (Some(pairing), Some((_, field))) = (watched, field) else { continue };
            let Some(new) = &write.new else {
                self.phantom += 1;
                continue;
            };
            match self.values.get(&(pairing.target, *field, canonical(new))).copied() {
                Some((record, seq)) => self.landed(write, (record, field), seq),
                None => self.phantom += 1,
            }
        }
    }

    fn landed(&mut self, write: &Write, cell: Cell, seq: u64) {
        let owner = *self.rows.entry(write.id.clone()).or_insert(cell.0);
        if owner != cell.0 {
            self.phantom += 1;
            return;
        }
        let holder = self.holders.entry(cell.0).or_insert_with(|| write.id.clone());
        if *holder != write.id {
            // Counted once per row: from here on the row is known as a second one.
            self.duplicated += 1;
            self.rows.insert(write.id.clone(), usize::MAX);
            return;
        }
        let state = self.cells.entry(cell).or_default();
        match state.stands {
            Some(stands) if stands == seq && self.forgive_repeats => self.wire_repeats += 1,
            Some(stands) if stands == seq => self.duplicated += 1,
            Some(stands) if stands > seq => self.reordered += 1,
            _ => {}
        }
        state.stands = Some(seq);
        let still = state.waiting.split_off(&(seq + 1));
        let covered = std::mem::replace(&mut state.waiting, still);
        for seq in covered {
            self.cover(seq, write.at);
        }
    }

    fn cover(&mut self, seq: u64, at: Timestamp) {
        let Some(change) = self.changes.get_mut(&seq) else { return };
        change.open = change.open.saturating_sub(1);
        change.latest = change.latest.max(at);
        if change.open == 0 {
            change.covered = Some(change.latest);
            self.covered += 1;
            self.measure(seq);
        }
    }

    /// Takes the latency of a change once both of its ends are known.
    fn measure(&mut self, seq: u64) {
        let Some(change) = self.changes.get_mut(&seq).filter(|c| !c.measured) else { return };
        let (Some(posted), Some(covered)) = (change.posted, change.covered) else { return };
        change.measured = true;
        let latency = covered.since(posted);
        change.in_time = latency <= self.budget;
        if covered >= posted {
            self.latency.record(latency);
        }
    }

    /// Changes announced so far.
    pub fn planned(&self) -> u64 {
        self.changes.len() as u64
    }

    /// Changes accepted so far, and changes covered by a write so far.
    pub const fn progress(&self) -> (u64, u64) {
        (self.accepted, self.covered)
    }

    /// The latencies taken so far.
    pub const fn latency(&self) -> &Latency {
        &self.latency
    }

    /// Whether every accepted change is covered by a write.
    pub fn is_settled(&self) -> bool {
        self.changes.values().all(|c| !c.accepted || c.covered.is_some())
    }

    /// The judgement. `repeats_sent` and `schedule_lag` are the load's to tell.
    pub fn verdict(&self, repeats_sent: u64, schedule_lag: Duration) -> Verdict {
        let stands = |cell: &Cell| self.cells.get(cell).and_then(|c| c.stands);
        let arrived = |seq: &u64, c: &ChangeState| c.cells.iter().all(|cell| stands(cell).is_some_and(|s| s >= *seq));
        let accepted = self.changes.iter().filter(|(_, c)| c.accepted);
        let delivered = accepted.clone().filter(|(seq, c)| arrived(seq, c)).count() as u64;
        let in_time = accepted.filter(|(_, c)| c.in_time).count() as f64;
        Verdict {
            sent: self.changes.values().filter(|c| c.posted.is_some()).count() as u64,
            accepted: self.accepted,
            delivered,
            lost: self.accepted - delivered,
            duplicated: self.duplicated,
            reordered: self.reordered,
            phantom: self.phantom,
            wire_repeats: self.wire_repeats,
            repeats_sent,
            p50_ms: self.latency.quantile_ms(0.5),
            p95_ms: self.latency.quantile_ms(0.95),
            p99_ms: self.latency.quantile_ms(0.99),
            within_budget: if self.accepted == 0 { 1.0 } else { in_time / self.accepted as f64 },
            schedule_lag_ms: schedule_lag.as_secs_f64() * 1_000.0,
        }
    }
}

/// One spelling for values that are equal: numbers without needless zeros, text trimmed and without case.
fn canonical(value: &str) -> String {
    match value.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => number.to_string(),
        _ => value.trim().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: &Pairing = &PAIRINGS[0];

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_767_268_800_000 + ms)
    }

    fn write(ms: i64, id: &str, field: &str, new: &str) -> Write {
        Write {
            at: at(ms),
            call: 1,
            path: "/".into(),
            object: "Contact".into(),
            id: id.into(),
            field: field.into(),
            old: None,
            new: Some(new.into()),
            created: false,
            who: "headgate".into(),
        }
    }

    /// Record 0 is created with change 0 and renamed by changes 1 and 2; all are accepted.
    fn run() -> Checker {
        let mut checker = Checker::new(Duration::from_secs(5));
        checker.plan(0, 0, CONTACT, &[("email", "a0@example.com".into()), ("firstname", "Ada0".into())]);
        checker.plan(1, 0, CONTACT, &[("firstname", "Ada1".into())]);
        checker.plan(2, 0, CONTACT, &[("firstname", "Ada2".into())]);
        for seq in 0..3 {
            checker.posted(seq, at(seq as i64 * 10));
            checker.accepted(seq);
        }
        checker
    }

    fn counts(checker: &Checker) -> (u64, u64, u64, u64, u64) {
        let v = checker.verdict(0, Duration::ZERO);
        (v.delivered, v.lost, v.duplicated, v.reordered, v.phantom)
    }

    #[test]
    fn a_newer_value_delivers_the_older_ones() {
        let mut checker = run();
        checker.observe(&[write(100, "r", "Email", "A0@example.com"), write(120, "r", "FirstName", "Ada2")]);
        assert_eq!(counts(&checker), (3, 0, 0, 0, 0));
        assert!(checker.is_settled());
        let verdict = checker.verdict(7, Duration::ZERO);
        assert_eq!((verdict.sent, verdict.repeats_sent, verdict.within_budget), (3, 7, 1.0));
        assert!((verdict.p99_ms - 120.0).abs() < 0.2, "the creation is complete after 120 ms: {}", verdict.p99_ms);
    }

    #[test]
    fn an_older_value_at_the_end_is_reordered_and_loses_the_newer_change() {
        let mut checker = run();
        checker.observe(&[write(100, "r", "Email", "a0@example.com"), write(120, "r", "FirstName", "Ada2")]);
        checker.observe(&[write(130, "r", "FirstName", "Ada1")]);
        assert_eq!(counts(&checker), (2, 1, 0, 1, 0));
    }

    #[test]
    fn nothing_written_is_lost_and_not_within_the_budget() {
        let checker = run();
        assert_eq!(counts(&checker), (0, 3, 0, 0, 0));
        assert!(!checker.is_settled());
        assert_eq!(checker.verdict(0, Duration::ZERO).within_budget, 0.0);
    }

    #[test]
    fn repeats_and_second_rows_are_duplicates() {
        let mut checker = run();
        checker.observe(&[write(1, "r", "Email", "a0@example.com"), write(2, "r", "FirstName", "Ada2")]);
        checker.observe(&[write(3, "r", "FirstName", "Ada2")]);
        assert_eq!(counts(&checker), (3, 0, 1, 0, 0));
        checker.observe(&[write(4, "s", "Email", "a0@example.com")]);
        assert_eq!(counts(&checker), (3, 0, 2, 0, 0));
        let mut forgiving = run().forgive_repeats();
        forgiving.observe(&[write(2, "r", "FirstName", "Ada2"), write(3, "r", "FirstName", "Ada2")]);
        assert_eq!(forgiving.verdict(0, Duration::ZERO).wire_repeats, 1);
        assert_eq!(forgiving.verdict(0, Duration::ZERO).duplicated, 0);
    }

    #[test]
    fn what_nobody_sent_is_a_phantom() {
        let mut checker = run();
        checker.observe(&[write(1, "r", "FirstName", "Eve"), write(1, "r", "Description", "not watched")]);
        assert_eq!(counts(&checker), (0, 3, 0, 0, 1));
    }

    #[test]
    fn a_late_write_misses_the_budget() {
        let mut checker = run();
        checker.observe(&[write(6_000, "r", "Email", "a0@example.com"), write(1_000, "r", "FirstName", "Ada2")]);
        let verdict = checker.verdict(0, Duration::ZERO);
        assert_eq!(verdict.lost, 0);
        assert!((verdict.within_budget - 2.0 / 3.0).abs() < 1e-9);
    }
}
