//! What a replay would do and may cost, counted change by change while the stream is looked through. Pure.
//!
//! Most changes of a replay cost nothing, because what is known already is not written; so what is counted of calls is the
//! most that it may be, if every change were written and nothing failed. The surprising thing is what keeps that low:
//! changes of one record that come within a second are one write, and the records of a second share calls.
//!
//! Records are told apart by a hash of their names, 16 bytes each, because a long look back sees very many: two of the same
//! hash would count as one, which of a million happens once in 37 million estimates.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use headgate_schemas::Timestamp;
use serde::Serialize;

use crate::quota::Told;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// What a replay would do, found by reading what it would read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// Changes.
    pub changes: u64,
    /// Their bytes in the stream.
    pub bytes: u64,
    /// Distinct records.
    pub records: u64,
    /// How long it takes at the rate that was asked for.
    pub seconds: u64,
    /// Everything was looked at; otherwise the numbers are the least.
    pub complete: bool,
    /// What it can cost at each target.
    pub targets: Vec<Cost>,
}

/// What a replay can cost at one target. Most changes cost nothing: what is known already is not written.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// The connection.
    pub connection: String,
    /// Records that may have to be read and written there, at most.
    pub records_at_most: u64,
    /// Writes of records, at most: changes of one record within a second are one.
    pub writes_at_most: u64,
    /// Calls, at most: the records of a second share them, as many as the CRM takes in one.
    pub calls_at_most: u64,
    /// Calls that the CRM takes in a second; absent where it has not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_a_second: Option<f64>,
    /// Calls that it takes in a day; absent where it has not told within one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_a_day: Option<u64>,
    /// Those of them that were left when it told last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_of_the_day: Option<u64>,
    /// When it told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<Timestamp>,
    /// How long its limits let so many calls take, where it told any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_at_most: Option<u64>,
    /// Whether so many calls fit in what is left of its day; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fits: Option<bool>,
    /// The same in words.
    pub note: String,
}

/// How a connection is called for the records of one link.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) connection: String,
    /// Records in one of the reads that guard writes; `None` where nothing does.
    pub(super) read: Option<usize>,
    /// Records in one write.
    pub(super) write: usize,
}

/// What a connection told of its limits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) burst: Option<Told>,
    pub(super) daily: Option<Told>,
}

/// The count so far.
pub(super) struct Tally {
    rate: u64,
    estimate: Estimate,
    /// Distinct records that are counted; beyond it the numbers are the least.
    records_most: usize,
    /// The second of the replay in which each record came last, by the hash of its name.
    records: HashMap<u64, u64>,
    loads: Vec<Load>,
}

/// What is due on one link.
struct Load {
    ways: Vec<Way>,
    calls: Vec<u64>,
    records: u64,
    writes: u64,
    second: u64,
    in_second: u64,
}

impl Load {
    fn write(&mut self, second: u64) {
        if second != self.second {
            self.end_second();
            self.second = second;
        }
        self.writes += 1;
        self.in_second += 1;
    }

    fn end_second(&mut self) {
        let records = std::mem::take(&mut self.in_second);
        let calls = |pack: usize| records.div_ceil(u64::try_from(pack).unwrap_or(1).max(1));
        for (way, count) in self.ways.iter().zip(&mut self.calls) {
            *count += way.read.map_or(0, calls) + calls(way.write);
        }
    }
}

impl Tally {
    /// Counts at a rate, and so many distinct records at most; `links` are the ways of each link.
    pub(super) fn new(rate: u32, records_most: usize, links: impl IntoIterator<Item = Vec<Way>>) -> Self {
        let load = |ways: Vec<Way>| {
            let calls = vec![0; ways.len()];
            Load { ways, calls, records: 0, writes: 0, second: 0, in_second: 0 }
        };
        Self {
            rate: u64::from(rate.max(1)),
            estimate: Estimate { complete: true, ..Estimate::default() },
            records_most,
            records: HashMap::new(),
            loads: links.into_iter().map(load).collect(),
        }
    }

    /// One more change of a record, which concerns a link or none.
    pub(super) fn take(&mut self, record: &str, bytes: usize, link: Option<usize>) {
        let second = self.estimate.changes / self.rate;
        self.estimate.changes += 1;
        self.estimate.bytes += bytes as u64;
        let full = self.records.len() >= self.records_most;
        let record = hash(record);
        let before = match self.records.get_mut(&record) {
            Some(last) => Some(std::mem::replace(last, second)),
            None if full => {
                self.estimate.complete = false;
                return;
            }
            None => self.records.insert(record, second),
        };
        let Some(load) = link.and_then(|link| self.loads.get_mut(link)) else { return };
        load.records += u64::from(before.is_none());
        if before != Some(second) {
            load.write(second);
        }
    }

    /// Not everything was looked at.
    pub(super) const fn cut_short(&mut self) {
        self.estimate.complete = false;
    }

    /// The estimate, beside what the connections told of their limits.
    pub(super) fn end(mut self, limits: impl Fn(&str) -> Limits) -> Estimate {
        self.estimate.records = self.records.len() as u64;
        self.estimate.seconds = self.estimate.changes.div_ceil(self.rate);
        for mut load in self.loads {
            load.end_second();
            for (way, calls) in load.ways.iter().zip(&load.calls).filter(|_| load.records > 0) {
                let costs = &mut self.estimate.targets;
                let known = costs.iter().position(|cost| cost.connection == way.connection);
                let place = known.unwrap_or_else(|| {
                    costs.push(Cost { connection: way.connection.clone(), ..Cost::default() });
                    costs.len() - 1
                });
                costs[place].records_at_most += load.records;
                costs[place].writes_at_most += load.writes;
                costs[place].calls_at_most += calls;
            }
        }
        let complete = self.estimate.complete;
        for cost in &mut self.estimate.targets {
            cost.judge(&limits(&cost.connection), complete);
        }
        self.estimate
    }
}

impl Cost {
    /// Puts beside the count what the connection told of its limits.
    fn judge(&mut self, limits: &Limits, complete: bool) {
        let calls = self.calls_at_most;
        let second = limits.burst.map(|told| told.quota.most as f64 / told.quota.per.as_secs_f64().max(0.001));
        self.calls_a_second = second;
        let at_speed = second.map(|second| (calls as f64 / second.max(f64::MIN_POSITIVE)).ceil() as u64);
        self.seconds_at_most = at_speed;
        let Some(daily) = limits.daily else {
            self.note = format!("up to {}; it has not told how many it takes in a day", counted(calls, "call"));
            return;
        };
        let (left, most) = (daily.quota.left, daily.quota.most.max(1));
        (self.calls_a_day, self.left_of_the_day, self.told) = (Some(most), Some(left), Some(daily.at));
        // Every call beyond what is left waits for a later day.
        let days = calls.saturating_sub(left).div_ceil(most);
        self.seconds_at_most = Some(days.saturating_mul(DAY).max(at_speed.unwrap_or(0)));
        self.fits = if calls > left { Some(false) } else { complete.then_some(true) };
        let calls = counted(calls, "call");
        self.note = match self.fits {
            Some(false) => format!(
                "does not fit: up to {calls}, {left} of {most} are left of the day, and the live changes need some; takes \
                 {} more, or a later --from",
                counted(days, "day")
            ),
            Some(true) => format!("fits: up to {calls}, {left} of {most} are left of the day"),
            None => format!("{calls} or more, {left} of {most} are left of the day"),
        };
    }
}

/// The same for the same name, in every process.
fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// A number of things in words.
fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::target::Quota;

    fn way(connection: &str, read: Option<usize>, write: usize) -> Way {
        Way { connection: connection.to_owned(), read, write }
    }

    fn told(window: &'static str, left: u64, most: u64, seconds: u64) -> Option<Told> {
        let quota = Quota { window, left, most, per: Duration::from_secs(seconds) };
        Some(Told { quota, at: Timestamp::from_secs(7) })
    }

    const MOST: usize = 1_000;

    fn nothing(_: &str) -> Limits {
        Limits::default()
    }

    #[test]
    fn changes_of_one_record_within_a_second_are_one_write_and_the_records_of_a_second_share_calls() {
        let ways = vec![way("packed", Some(3), 2), way("unguarded", None, 2), way("row-by-row", Some(3), 1)];
        let mut tally = Tally::new(10, MOST, [ways]);
        // Second 0: ten changes of five records; second 1: ten of one record; second 2: one more.
        for n in 0..10 {
            tally.take(&(n % 5).to_string(), 100, Some(0));
        }
        for _ in 10..21 {
            tally.take("0", 100, Some(0));
        }
        let estimate = tally.end(nothing);
        assert_eq!((estimate.changes, estimate.bytes, estimate.records, estimate.seconds), (21, 2_100, 5, 3));
        let counts = |c: &Cost| (c.connection.clone(), c.records_at_most, c.writes_at_most, c.calls_at_most);
        let expected = [
            // Reads 2 + 1 + 1, writes 3 + 1 + 1.
            ("packed".to_owned(), 5, 7, 9),
            ("unguarded".to_owned(), 5, 7, 5),
            ("row-by-row".to_owned(), 5, 7, 11),
        ];
        assert_eq!(estimate.targets.iter().map(counts).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn links_of_one_connection_add_up_and_what_no_link_concerns_costs_nothing() {
        let mut tally =
            Tally::new(1, MOST, [vec![way("a", None, 1)], vec![way("a", None, 1), way("b", None, 1)], vec![]]);
        for (record, link) in [("1", Some(0)), ("2", Some(1)), ("3", None), ("4", Some(2))] {
            tally.take(record, 1, link);
        }
        let costs = tally.end(nothing).targets;
        let calls: Vec<_> = costs.iter().map(|c| (c.connection.as_str(), c.calls_at_most, c.fits)).collect();
        assert_eq!(calls, [("a", 2, None), ("b", 1, None)]);
        assert_eq!(costs[1].note, "up to 1 call; it has not told how many it takes in a day");
    }

    /// The cost of so many calls at one connection.
    fn cost(calls: u64, limits: Limits) -> Cost {
        let mut tally = Tally::new(1, MOST, [vec![way("a", None, 1)]]);
        (0..calls).for_each(|n| tally.take(&n.to_string(), 1, Some(0)));
        tally.end(|_| limits).targets.remove(0)
    }

    #[test]
    fn what_does_not_fit_in_the_rest_of_the_day_is_said() {
        let daily = |left| Limits { daily: told("daily", left, 40, 86_400), burst: None };
        let cost_of = |calls, left| {
            let cost = cost(calls, daily(left));
            (cost.fits, cost.seconds_at_most, cost.note)
        };
        let fits = "fits: up to 30 calls, 30 of 40 are left of the day".to_owned();
        assert_eq!(cost_of(30, 30), (Some(true), Some(0), fits));
        let (fits, seconds, note) = cost_of(101, 20);
        assert_eq!((fits, seconds), (Some(false), Some(3 * 86_400)), "81 calls at 40 a day");
        let expected = "does not fit: up to 101 calls, 20 of 40 are left of the day, and the live changes need some; takes 3 \
                        days more, or a later --from";
        assert_eq!(note, expected);
        let known = cost(1, daily(20));
        assert_eq!((known.calls_a_day, known.left_of_the_day), (Some(40), Some(20)));
        assert_eq!(known.told, Some(Timestamp::from_secs(7)));
    }

    #[test]
    fn the_speed_limit_says_how_long_it_takes() {
        let burst = told("burst", 0, 110, 10);
        let slow = cost(221, Limits { burst, daily: None });
        assert_eq!((slow.calls_a_second, slow.seconds_at_most, slow.fits), (Some(11.0), Some(21), None));
        let both = cost(221, Limits { burst, daily: told("daily", 1_000, 1_000, 86_400) });
        assert_eq!((both.seconds_at_most, both.fits), (Some(21), Some(true)));
    }

    #[test]
    fn what_was_cut_short_never_fits_for_sure() {
        let of = |left| {
            let mut tally = Tally::new(1, MOST, [vec![way("a", None, 1)]]);
            tally.take("1", 1, Some(0));
            tally.take("2", 1, Some(0));
            tally.cut_short();
            let limits = Limits { daily: told("daily", left, 10, 86_400), burst: None };
            tally.end(|_| limits).targets.remove(0)
        };
        assert_eq!((of(2).fits, of(1).fits), (None, Some(false)));
        assert_eq!(of(2).note, "2 calls or more, 2 of 10 are left of the day");
    }

    #[test]
    fn records_beyond_the_most_are_not_counted_and_the_numbers_are_the_least() {
        let of = |records: u64| {
            let mut tally = Tally::new(1, 2, [vec![way("a", None, 1)]]);
            // Known ones are counted on.
            (0..records).chain([0, 1]).for_each(|n| tally.take(&n.to_string(), 1, Some(0)));
            let estimate = tally.end(nothing);
            let cost = &estimate.targets[0];
            (estimate.changes, estimate.records, cost.records_at_most, cost.writes_at_most, estimate.complete)
        };
        assert_eq!(of(2), (4, 2, 2, 4, true));
        assert_eq!(of(3), (5, 2, 2, 4, false));
        assert_eq!(of(9), (11, 2, 2, 4, false));
    }
}
