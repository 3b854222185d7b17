//! What no rule can fix: each case is produced by the real engine, counted, and seen where a person would look for it.
//!
//! The cases have the numbers of the table in the README. A bound that is broken in either direction is a finding: more
//! than expected is a fault, less means that the case is no longer produced or that the table promises too little. Two of
//! them, merges that look like deletes and deletes over an edit of the last moment, are counted with the lives of records.
//! Verdicts depend on the seeds and on nothing else.

use std::ops::RangeInclusive;

use headgate_relay::entity::Outcome;

use crate::engine::Setting;
use crate::reference::judge::End;
use crate::reference::scenario::{CrmSpec, Guard, Scenario, Style};
use crate::reference::value::{Field, MIN, SEC};
use crate::scenario;
use crate::schedules::{Run, run};

/// Runs of each case, unless it is a rare one.
const RUNS: u64 = 400;

/// What many runs came to.
#[derive(Debug, Default)]
struct Count {
    runs: u64,
    /// They end equal, but not on the last edit.
    other: u64,
    /// Of these, those whose decision log says why.
    told: u64,
    held: u64,
    differ: u64,
    /// An edit was overwritten before anything reported it.
    unseen: u64,
    most_writes: u32,
    /// Rows of the decision log by the rule that was asked about.
    rows: u64,
}

fn count(scenario: &'static Scenario, runs: u64, setting: Setting, rule: &str) -> Count {
    let mut count = Count { runs, ..Count::default() };
    for seed in 0..runs {
        let run = run(scenario, seed, setting);
        let Run { verdict, fault, decided, .. } = &run;
        assert_eq!(*fault, None, "{}, seed {seed}", scenario.name);
        let other = matches!(verdict.end, End::Equal | End::WrongSide);
        count.other += u64::from(other);
        count.told += u64::from(other && !decided.is_empty());
        count.held += u64::from(verdict.end == End::Held);
        count.differ += u64::from(verdict.end == End::Differ);
        count.unseen += u64::from(verdict.unseen > 0);
        count.most_writes = count.most_writes.max(verdict.writes);
        count.rows += u64::from(run.rows(rule));
        let broken = matches!(verdict.end, End::Open | End::Loop);
        assert!(!broken, "{}, seed {seed}: ended {:?}", scenario.name, verdict.end);
    }
    count
}

fn like(name: &str, change: impl FnOnce(&mut Scenario)) -> &'static Scenario {
    let mut scenario = *scenario(name);
    change(&mut scenario);
    Box::leak(Box::new(scenario))
}

/// Of the runs that end on another value than the last edit at least so many in a hundred have a row that says why. The
/// rest are runs in which somebody typed the value in force, or what we were writing: an agreement is no conflict, and an
/// older edit of the same member is superseded.
fn mostly_told(count: &Count, percent: u64) {
    assert!(count.told * 100 >= count.other * percent && count.differ == 0, "{count:?}");
}

/// So many per mille of the runs.
fn share(n: u64, count: &Count, expected: RangeInclusive<u64>) {
    let share = n * 1_000 / count.runs;
    assert!(expected.contains(&share), "{share} per mille, expected {expected:?}: {count:?}");
}

#[test]
fn case_1_two_edits_in_one_unit_of_a_clock_are_decided_by_rank_and_logged() {
    let coarse = count(scenario("coarse"), RUNS, Setting::default(), "last_write");
    share(coarse.other, &coarse, 100..=200);
    mostly_told(&coarse, 85);
}

#[test]
fn case_2_an_edit_between_look_and_write_is_lost_as_often_as_the_guard_lets_it() {
    let none = count(scenario("guard_none"), RUNS, Setting::default(), "");
    share(none.unseen, &none, 90..=190);
    let read = count(scenario("guard_read"), 4 * RUNS, Setting::default(), "");
    share(read.unseen, &read, 1..=30);
    let strict = count(scenario("guard_strict"), 4 * RUNS, Setting::default(), "");
    assert_eq!(strict.unseen, 0, "{strict:?}");
}

/// An edit of one field is reported by a hint; what the read shows then carries the version of a later edit of another
/// field. Both CRMs check preconditions, so that nothing is overwritten unseen.
#[test]
fn case_3_an_edit_found_by_a_read_carries_the_version_of_the_record() {
    let plain = scenario("order").crms[0];
    let hints = |fields: &'static [Field]| {
        let strict = CrmSpec { strict: true, ..plain };
        let crms: &[CrmSpec] = Box::leak(Box::new([CrmSpec { style: Style::Hint, ..strict }, strict]));
        like("order", |s| (s.crms, s.fields, s.edits, s.guard) = (crms, fields, 6, Guard::Strict))
    };
    let two = count(hints(&[Field::X, Field::Y]), RUNS, Setting::default(), "last_write");
    share(two.other, &two, 5..=150);
    mostly_told(&two, 75);
}

#[test]
fn case_4_a_value_typed_again_where_an_answer_was_lost_is_taken_for_ours_and_logged() {
    let silent = count(scenario("crash"), 2 * RUNS, Setting::default(), "late_landing");
    share(silent.other, &silent, 5..=60);
    assert!(silent.rows > 10, "{silent:?}");
    let marked = count(scenario("crash_marks"), 2 * RUNS, Setting::default(), "late_landing");
    assert!(marked.other * 3 <= silent.other, "marks tell who typed: {marked:?}, without them {silent:?}");
}

/// The engine is told of a shorter time than calls really take.
#[test]
fn case_5_a_call_that_lands_after_the_longest_run_counts_as_an_edit() {
    let hasty = Setting { longest_run: Some(20 * SEC), ..Setting::default() };
    let late = count(scenario("crash_marks"), 2 * RUNS, Setting { ..hasty }, "");
    let known = count(scenario("crash_marks"), 2 * RUNS, Setting::default(), "");
    share(late.other, &late, 10..=300);
    assert!(late.other > 2 * known.other && late.differ == 0, "{late:?}, with the true time {known:?}");
}

#[test]
fn case_6_a_target_that_keeps_its_own_value_is_shown_and_not_fought() {
    let mut kept = 0;
    for seed in 0..RUNS {
        let run = run(scenario("refuses"), seed, Setting::default());
        let ends_so = run.ways.contains_key(&Outcome::Kept);
        kept += u64::from(ends_so);
        assert!(!ends_so || run.rows("target_kept") > 0, "seed {seed}: an outcome without a row");
        assert!(run.verdict.writes <= 40, "seed {seed}: {} writes", run.verdict.writes);
    }
    assert!((40..=120).contains(&kept), "{kept} of {RUNS} runs have a change that ended so");
}

#[test]
fn case_7_a_fight_of_automations_ends_held_with_both_named() {
    for (name, expected) in [("fight", 450..=650), ("slow_fight", 500..=750)] {
        let fight = count(scenario(name), RUNS, Setting::default(), "fight");
        share(fight.held, &fight, expected);
        assert!(fight.rows >= fight.held && fight.differ == 0 && fight.most_writes <= 30, "{name}: {fight:?}");
    }
}

/// Clocks are wrong and nobody says so. Edits with time between them are made in full knowledge of what is in force: for
/// them clocks do not count.
#[test]
fn case_10_clocks_beyond_what_was_measured_decide_among_conflicts_only() {
    let undated = Setting { undated: true, ..Setting::default() };
    let skewed = count(scenario("skew"), RUNS, undated, "");
    share(skewed.other, &skewed, 100..=350);
    mostly_told(&skewed, 80);
    let rare = like("skew", |s| (s.gaps, s.delay, s.send_delay) = (&[20 * MIN], &[50], &[20]));
    let rare = count(rare, RUNS, undated, "");
    assert!(rare.other <= skewed.other / 10, "with minutes between the edits: {rare:?}");
}

#[test]
fn case_11_an_event_that_is_never_sent_is_found_when_the_record_is_next_read() {
    let lost = |reconcile| like("reconciler", |s| (s.reconcile, s.polls, s.guard) = (reconcile, 0, Guard::None));
    let unread = count(lost(false), RUNS, Setting::default(), "");
    share(unread.differ, &unread, 50..=600);
    let read = count(lost(true), RUNS, Setting::default(), "");
    assert_eq!(read.differ, 0, "{read:?}");
    share(read.unseen, &read, 30..=250);
}
