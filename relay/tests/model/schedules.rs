//! The real engine in every scenario of the model: it ends as well as the reference does, with and without a process
//! that dies, and as two workers on one state, and its books balance; without a rule, or with a machine that breaks its
//! promise, it does not.
//!
//! Same environment variables as the scenarios of the reference. Verdicts depend on the seeds and on nothing else.

use std::collections::BTreeMap;

use headgate_relay::entity::Outcome;
use headgate_relay::entity::fold::Rule;

use crate::dress::Dress;
use crate::engine::{Played, Setting};
use crate::real::Cut;
use crate::reference::judge::{End, Verdict, play};
use crate::reference::scenario::{Scenario, Want};
use crate::reference::world::World;
use crate::{number_from_env, scenario};

/// Seeds per scenario where the environment names no other number.
const SEEDS: u64 = 320;
/// More steps than any run takes that ends; the engine looks for work more often than the reference does.
const STEPS: usize = 20_000;
/// More writes than any run needs; a fight that nobody holds goes on long before it is out of steps.
const MOST_WRITES: u32 = 200;
/// The same for two workers at once, which look at each other's leases all the time.
const RIVAL_SEEDS: u64 = 20;
/// How often the process dies, per tick, where it does.
const DEATHS: f64 = 0.2;

/// Nothing but the world disturbs.
const STEADY: Setting = Setting {
    deaths: 0.0,
    without: None,
    mute: false,
    diary: false,
    strangers: 0.0,
    cut: Cut { dress: Dress::Plain, blunt: false, apart: false },
    undated: false,
    longest_run: None,
    rivals: false,
};
/// A process that dies.
const DYING: Setting = Setting { deaths: DEATHS, ..STEADY };
/// Two workers on one state that die now and then.
const RIVALS: Setting = Setting { deaths: DEATHS / 4.0, rivals: true, ..STEADY };

/// What a run of the engine came to.
pub(crate) struct Run {
    /// How it ended.
    pub verdict: Verdict,
    /// What is wrong with the books.
    pub fault: Option<String>,
    /// How often a process died.
    pub deaths: u64,
    /// The decision log: how often each rule came to each ruling.
    pub decided: BTreeMap<(String, String), u32>,
    /// How changes ended.
    pub ways: BTreeMap<Outcome, u32>,
    /// Documents that somebody else wrote, and ticks that were refused because of it.
    pub strangers: (u64, u64),
}

impl Run {
    /// Rows of the decision log by a rule.
    pub(crate) fn rows(&self, rule: &str) -> u32 {
        self.decided.iter().filter(|((by, _), _)| by == rule).map(|(_, n)| n).sum()
    }
}

/// Plays the engine.
pub(crate) fn run(scenario: &'static Scenario, seed: u64, setting: Setting) -> Run {
    let mut world = World::new(scenario, seed, setting.diary);
    let mut played = match Played::new(&mut world, setting) {
        Ok(played) => played,
        Err(error) => panic!("scenario {}, seed {seed}: no engine: {error}", scenario.name),
    };
    let verdict = play(world, &mut played, STEPS);
    let deaths = played.deaths();
    let (fault, strangers) = (played.fault(verdict.rested), played.strangers());
    Run { verdict, fault, deaths, decided: played.decided().clone(), ways: played.ways().clone(), strangers }
}

/// What came of many runs of one scenario; shown when one of them ends badly.
#[derive(Debug, Default)]
struct Tally {
    ends: BTreeMap<End, u32>,
    most_writes: u32,
    deaths: u64,
}

impl Tally {
    fn add(&mut self, run: &Run) {
        *self.ends.entry(run.verdict.end).or_default() += 1;
        self.most_writes = self.most_writes.max(run.verdict.writes);
        self.deaths += run.deaths;
    }
}

fn check(name: &str, module: &str, setting: Setting, seeds: u64) {
    let scenario = scenario(name);
    // Who may die may lose an answer: what then stands is equal everywhere, but it need not be the last edit, nor
    // that of the preferred side.
    let good = |verdict: &Verdict| {
        let equal = verdict.is_good(Want::Equal) || verdict.end == End::WrongSide;
        verdict.is_good(scenario.want) || (setting.deaths > 0.0 && equal)
    };
    let single = number_from_env("HEADGATE_MODEL_SEED");
    let many = number_from_env("HEADGATE_MODEL_SEEDS").unwrap_or(seeds);
    let first = number_from_env("HEADGATE_MODEL_FROM").unwrap_or(0);
    let mut tally = Tally::default();
    for seed in single.map_or(first..first + many, |seed| seed..seed + 1) {
        let run = run(scenario, seed, Setting { diary: single.is_some(), ..setting });
        tally.add(&run);
        let Run { verdict: Verdict { end, writes, reordered, trace, .. }, fault, .. } = &run;
        assert!(
            good(&run.verdict) && *writes <= MOST_WRITES && fault.is_none(),
            "scenario {name}, seed {seed}: ended {end:?} after {writes} writes, {reordered} out of order, {fault:?}; replay with\n  \
             HEADGATE_MODEL_SEED={seed} cargo test -p headgate-relay --test model schedules::{module}::{name} \
             -- --exact\n{trace}so far: {tally:?}"
        );
    }
}

macro_rules! schedules {
    ($($name:ident)*) => {
        mod runs { $(#[test] fn $name() { super::check(stringify!($name), "runs", super::STEADY, super::SEEDS); })* }
        mod dies { $(#[test] fn $name() { super::check(stringify!($name), "dies", super::DYING, super::SEEDS); })* }
        mod rivals {
            $(#[test] fn $name() { super::check(stringify!($name), "rivals", super::RIVALS, super::RIVAL_SEEDS); })*
        }
    };
}

schedules! {
    order order3 crash crash_marks repeats aged no_times no_times_crash coarse coarse_crash skew read_lag ours
    ours_crash theirs priority manual manual_crash state real_mix group forms forms_blind refuses fight slow_fight guard_none guard_read
    guard_strict two_channels states_late ties_late reconciler everything
}

#[test]
fn a_seed_reproduces_a_run_to_the_byte() {
    for name in ["crash", "real_mix", "everything"] {
        for seed in 0..5 {
            let setting = Setting { deaths: DEATHS, diary: true, ..Setting::default() };
            let trace = |seed| run(scenario(name), seed, setting).verdict.trace;
            assert_eq!(trace(seed), trace(seed), "scenario {name}, seed {seed}: two runs differ");
        }
    }
}

#[test]
fn processes_do_die() {
    let setting = Setting { deaths: DEATHS, ..Setting::default() };
    let deaths: u64 = (0..20).map(|seed| run(scenario("crash"), seed, setting).deaths).sum();
    assert!(deaths > 40, "the process died {deaths} times in 20 runs");
}

/// An edit that nobody reported is found by looking at the records, each of them once.
#[test]
fn a_look_finds_what_nobody_reported() {
    let silent = &*Box::leak(Box::new(Scenario { lose: 1.0, edits: 1, reconcile: true, ..*scenario("order") }));
    let mut writes = 0;
    for seed in 0..10 {
        let Run { verdict, fault, .. } = run(silent, seed, Setting { diary: true, ..Setting::default() });
        assert_eq!((verdict.end, fault), (End::Right, None), "seed {seed}\n{}", verdict.trace);
        assert_eq!(verdict.trace.matches("Read(ReadCall").count(), 2, "seed {seed}\n{}", verdict.trace);
        writes += verdict.writes;
    }
    assert!(writes > 3, "only {writes} of 10 edits had to be written");
}

/// Some seed ends badly when the engine goes without a rule, and the same seed ends well with it.
fn is_caught(rule: Rule, name: &str, seeds: u64) {
    let scenario = scenario(name);
    let good = |seed, without| {
        let run = run(scenario, seed, Setting { without, ..Setting::default() });
        run.verdict.is_good(scenario.want) && run.verdict.writes <= MOST_WRITES && run.fault.is_none()
    };
    let Some(seed) = (0..seeds).find(|&seed| !good(seed, Some(rule))) else {
        panic!("{name} without {rule:?} ended well in {seeds} seeds");
    };
    assert!(good(seed, None), "{name}, seed {seed} ends badly with every rule");
}

#[test]
fn an_engine_without_a_rule_is_caught() {
    for (rule, name) in [
        (Rule::Ours, "order"),
        (Rule::Heard, "order"),
        (Rule::Aligned, "order"),
        (Rule::AgreeRev, "order"),
        (Rule::Informed, "ours"),
        (Rule::StateDiff, "guard_strict"),
        (Rule::RevDirty, "forms"),
        (Rule::SlowFight, "slow_fight"),
        (Rule::Horizon, "repeats"),
        (Rule::OwnLine, "theirs"),
        (Rule::Window, "coarse_crash"),
        (Rule::Patience, "read_lag"),
        (Rule::Doubt, "ties_late"),
    ] {
        is_caught(rule, name, 2_000);
    }
}

/// How many of 600 runs end on the last edit.
fn right_ends(name: &str, without: Option<Rule>) -> usize {
    let right =
        |&seed: &u64| run(scenario(name), seed, Setting { without, ..Setting::default() }).verdict.end == End::Right;
    (0..600).filter(right).count()
}

/// Two rules break no equality alone; without them edits are lost that need not be.
#[test]
fn an_engine_without_a_rule_loses_edits() {
    for (rule, name) in [(Rule::WaitAny, "forms"), (Rule::MarkRefutes, "crash_marks")] {
        let (with, without) = (right_ends(name, None), right_ends(name, Some(rule)));
        assert!(without + 8 <= with, "{name}: {with} of 600 end on the last edit, {without} without {rule:?}");
    }
}

#[test]
fn a_machine_that_forgets_a_call_is_caught() {
    let setting = Setting { mute: true, ..Setting::default() };
    let ends: Vec<_> = (0..20).map(|seed| run(scenario("crash"), seed, setting).verdict.end).collect();
    assert!(ends.contains(&End::Open), "{ends:?}");
}

/// The clocks of the CRMs are measured by what their answers say; without that edits are lost that need not be.
#[test]
fn an_engine_that_measures_no_clock_loses_edits() {
    let right = |undated| {
        let right = |&seed: &u64| {
            run(scenario("skew"), seed, Setting { undated, ..Setting::default() }).verdict.end == End::Right
        };
        (0..600).filter(right).count()
    };
    let (with, without) = (right(false), right(true));
    assert!(without + 30 <= with, "{with} of 600 end on the last edit, {without} without measuring");
}

/// A rule that breaks nothing alone: it spares people false conflicts.
#[test]
fn an_engine_without_a_rule_sees_conflicts_that_are_none() {
    let conflicts = |without| {
        let rows = |seed| run(scenario("read_lag"), seed, Setting { without, ..Setting::default() }).rows("last_write");
        (0..300).map(rows).sum::<u32>()
    };
    let (with, without) = (conflicts(None), conflicts(Some(Rule::ReadIsNow)));
    assert!(with + 5 <= without, "{with} conflicts in 300 runs, {without} without the rule");
}

/// Columns that belong together are one field of the mapping: as fields of their own they are mixed.
#[test]
fn a_mapping_without_groups_is_caught() {
    let cut = |apart| Setting { cut: Cut { apart, ..Cut::default() }, ..Setting::default() };
    let differs = |&seed: &u64| run(scenario("group"), seed, cut(true)).verdict.end == End::Differ;
    let Some(seed) = (0..500).find(differs) else { panic!("no group was mixed in 500 runs") };
    assert!(run(scenario("group"), seed, cut(false)).verdict.is_good(Want::Equal));
}
