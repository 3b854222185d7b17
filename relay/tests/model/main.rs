//! The rules of convergence, played in a small hostile world: every scenario ends well, every rule is needed, the
//! control fails, and a seed reproduces a run to the byte. The real rules follow the reference step by step
//! (`agreement`), and the real engine is played in the same world (`schedules`).
//!
//! `HEADGATE_MODEL_SEEDS` sets how many seeds each scenario is played with, `HEADGATE_MODEL_SEED` plays one and shows
//! its trace if it ends badly; `HEADGATE_MODEL_FROM` is the first seed of the real engine's runs, so that a long form can
//! go on where another one ended. Verdicts depend on the seeds and on nothing else; no clock is read.

mod agreement;
pub mod dress;
pub mod engine;
pub mod lockstep;
mod mappings;
pub mod real;
pub mod reference;
mod residuals;
mod schedules;
mod strangers;

use std::env;

use reference::catalogue;
use reference::follower::Follower;
use reference::invariants::Invariants;
use reference::judge::{End, STEPS, Verdict, play, play_reference};
use reference::mind::{Mind, Reference};
use reference::naive::Naive;
use reference::relay::Driver;
use reference::rules::{Rule, Rules};
use reference::scenario::Scenario;
use reference::state::State;
use reference::world::World;

/// Seeds per scenario where the environment names no other number.
const SEEDS: u64 = 1_000;

fn scenario(name: &str) -> &'static Scenario {
    match catalogue::named(name) {
        Some(scenario) => scenario,
        None => panic!("no scenario is called {name}"),
    }
}

fn number_from_env(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name} must be a whole number, not {text:?}"),
    }
}

/// What to read and what to run when a run ended badly.
fn complaint(scenario: &Scenario, seed: u64, verdict: &Verdict) -> String {
    let Verdict { end, writes, reordered, trace, .. } = verdict;
    let name = scenario.name;
    format!(
        "scenario {name}, seed {seed}: ended {end:?} after {writes} writes, {reordered} out of order; replay with\n  \
         HEADGATE_MODEL_SEED={seed} cargo test -p headgate-relay --test model scenarios::{name} -- --exact\n{trace}"
    )
}

fn check(name: &str) {
    let scenario = scenario(name);
    let single = number_from_env("HEADGATE_MODEL_SEED");
    let many = number_from_env("HEADGATE_MODEL_SEEDS").unwrap_or(SEEDS);
    let seeds = single.map_or(0..many, |seed| seed..seed + 1);
    for seed in seeds {
        let verdict = play_reference(scenario, seed, Rules::all(), single.is_some());
        assert!(verdict.is_good(scenario.want), "{}", complaint(scenario, seed, &verdict));
    }
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        /// One test per scenario, so that a failure names it and one can be run alone.
        mod scenarios {
            $(#[test] fn $name() { super::check(stringify!($name)); })*
        }
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

scenarios! {
    order order3 crash crash_marks repeats aged no_times no_times_crash coarse coarse_crash skew read_lag ours ours_crash
    theirs priority manual manual_crash state real_mix group forms forms_blind refuses fight slow_fight guard_none
    guard_read guard_strict two_channels states_late ties_late reconciler everything
}

#[test]
fn every_scenario_has_its_test() {
    let all: Vec<_> = catalogue::ALL.iter().map(|scenario| scenario.name).collect();
    assert_eq!(all, TESTED);
    assert_eq!(all.len(), 34);
}

#[test]
fn a_complaint_names_scenario_seed_and_command() {
    let verdict = Verdict {
        end: End::Differ,
        writes: 3,
        unseen: 0,
        reordered: 0,
        twins: 0,
        rested: 0,
        trace: "0.000 nothing\n".to_owned(),
    };
    assert_eq!(
        complaint(scenario("crash"), 7, &verdict),
        "scenario crash, seed 7: ended Differ after 3 writes, 0 out of order; replay with\n  HEADGATE_MODEL_SEED=7 cargo test -p \
         headgate-relay --test model scenarios::crash -- --exact\n0.000 nothing\n"
    );
}

/// Without the rule some seed below `seeds` ends as said, which is not good there, and with it the same seed is good.
fn is_caught(rule: Rule, name: &str, seeds: u64, as_end: End) {
    let scenario = scenario(name);
    assert!(!as_end.is_good(scenario.want), "{as_end:?} is a good end of {name} and would catch nothing");
    let broken = |&seed: &u64| play_reference(scenario, seed, Rules::all().without(rule), false).end == as_end;
    let Some(seed) = (0..seeds).find(broken) else {
        panic!("{name} without {rule:?} never ended {as_end:?} in {seeds} seeds: the rule is not tested by it");
    };
    let verdict = play_reference(scenario, seed, Rules::all(), false);
    assert!(verdict.is_good(scenario.want), "{}", complaint(scenario, seed, &verdict));
}

/// Without the rule some seed below `seeds` has a member's value written over a newer one of the same member, and with
/// it the same seed has not.
fn moves_back(rule: Rule, name: &str, seeds: u64) {
    let scenario = scenario(name);
    let reordered = |seed, rules| play_reference(scenario, seed, rules, false).reordered;
    let Some(seed) = (0..seeds).find(|&seed| reordered(seed, Rules::all().without(rule)) > 0) else {
        panic!("{name} without {rule:?} kept the order in {seeds} seeds: the rule is not tested by it");
    };
    assert_eq!(reordered(seed, Rules::all()), 0, "{name}, seed {seed}");
}

/// How many of 1,000 runs end on the last edit.
fn right_ends(name: &str, rules: Rules) -> usize {
    let scenario = scenario(name);
    (0..1_000).filter(|&seed| play_reference(scenario, seed, rules, false).end == End::Right).count()
}

/// Without the rule at least `runs` fewer of 1,000 end on the last edit: it costs no equality, but it costs edits.
fn costs_edits(rule: Rule, name: &str, runs: usize) {
    let (with, without) = (right_ends(name, Rules::all()), right_ends(name, Rules::all().without(rule)));
    assert!(without + runs <= with, "{name}: {with} of 1,000 end on the last edit, {without} without {rule:?}");
}

mod rules_off {
    use super::reference::judge::End::{Differ, Equal, Loop, WrongSide};
    use super::reference::rules::{Rule, Rules};
    use super::{conflicts, costs_edits, is_caught, moves_back};

    #[test]
    fn heard() {
        is_caught(Rule::Heard, "order", 200, Equal);
        is_caught(Rule::Heard, "repeats", 100, Equal);
        is_caught(Rule::Heard, "theirs", 200, WrongSide);
    }

    #[test]
    fn state_diff() {
        is_caught(Rule::StateDiff, "state", 500, Differ);
        is_caught(Rule::StateDiff, "guard_strict", 200, Differ);
    }

    #[test]
    fn window() {
        is_caught(Rule::Window, "coarse_crash", 5_000, Differ);
        is_caught(Rule::Window, "forms_blind", 5_000, Differ);
    }

    #[test]
    fn patience() {
        is_caught(Rule::Patience, "read_lag", 20_000, Differ);
    }

    #[test]
    fn rev_dirty() {
        is_caught(Rule::RevDirty, "forms", 50, Loop);
        is_caught(Rule::RevDirty, "refuses", 50, Loop);
    }

    #[test]
    fn aligned() {
        is_caught(Rule::Aligned, "order", 1_000, Equal);
    }

    #[test]
    fn agree_rev() {
        is_caught(Rule::AgreeRev, "order", 1_000, Equal);
    }

    #[test]
    fn informed() {
        is_caught(Rule::Informed, "ours", 500, WrongSide);
        costs_edits(Rule::Informed, "skew", 40);
        costs_edits(Rule::Informed, "coarse", 60);
    }

    #[test]
    fn own_line() {
        is_caught(Rule::OwnLine, "theirs", 5_000, WrongSide);
    }

    #[test]
    fn group_read() {
        is_caught(Rule::GroupRead, "group", 500, Differ);
        is_caught(Rule::GroupRead, "real_mix", 100, Differ);
    }

    #[test]
    fn doubt() {
        moves_back(Rule::Doubt, "states_late", 1_000);
    }

    #[test]
    fn slow_fight() {
        is_caught(Rule::SlowFight, "slow_fight", 100, Loop);
    }

    #[test]
    fn horizon() {
        is_caught(Rule::Horizon, "repeats", 5_000, Equal);
        costs_edits(Rule::Horizon, "aged", 5);
    }

    #[test]
    fn mark_refutes() {
        costs_edits(Rule::MarkRefutes, "crash_marks", 10);
    }

    #[test]
    fn wait_any() {
        costs_edits(Rule::WaitAny, "forms", 15);
    }

    #[test]
    fn offset() {
        costs_edits(Rule::Offset, "skew", 80);
    }

    /// It breaks nothing alone; it spares people false conflicts.
    #[test]
    fn read_is_now() {
        for name in ["read_lag", "real_mix"] {
            let (with, without) =
                (conflicts(name, Rules::all()), conflicts(name, Rules::all().without(Rule::ReadIsNow)));
            assert!(with + 10 <= without, "{name}: {with} conflicts in 1,000 runs, {without} without the rule");
        }
    }
}

#[test]
fn without_any_rule_the_world_breaks() {
    for (name, as_end) in [("real_mix", End::Differ), ("forms", End::Loop), ("everything", End::Loop)] {
        let broken = (0..100).any(|seed| play_reference(scenario(name), seed, Rules::none(), false).end == as_end);
        assert!(broken, "{name} without any rule never ended {as_end:?} in 100 seeds");
    }
}

/// How many conflicts 1,000 runs have.
fn conflicts(name: &str, rules: Rules) -> u32 {
    let run = |seed| {
        let mut world = World::new(scenario(name), seed, false);
        let mut relay = Driver::new(Reference::new(&mut world, rules));
        world.run(&mut relay, STEPS);
        relay.state().conflicts
    };
    (0..1_000).map(run).sum()
}

fn play_naive(scenario: &'static Scenario, seed: u64) -> End {
    let mut world = World::new(scenario, seed, false);
    let mut relay = Driver::new(Naive::new(&mut world));
    play(world, &mut relay, STEPS).end
}

#[test]
fn the_control_leaves_members_different() {
    for name in
        ["order", "order3", "crash", "repeats", "no_times", "coarse", "skew", "ours_crash", "fight", "everything"]
    {
        let differ = (0..SEEDS).filter(|&seed| play_naive(scenario(name), seed) == End::Differ).count();
        assert!(differ > 0, "{name}: the control survived {SEEDS} seeds, so the scenario tests nothing");
    }
}

#[test]
fn the_control_fights_for_ever() {
    let loops = (0..SEEDS).filter(|&seed| play_naive(scenario("slow_fight"), seed) == End::Loop).count();
    assert!(loops > 0, "the control came to rest in all of {SEEDS} seeds of slow_fight");
}

#[test]
fn a_seed_reproduces_a_run_to_the_byte() {
    for scenario in catalogue::ALL {
        for seed in 0..20 {
            let trace = |seed| play_reference(scenario, seed, Rules::all(), true).trace;
            assert_eq!(trace(seed), trace(seed), "scenario {}, seed {seed}: two runs differ", scenario.name);
            assert_ne!(
                trace(seed),
                trace(seed + 1),
                "scenario {}: seeds {seed} and its next are one run",
                scenario.name
            );
        }
    }
}

#[test]
fn a_trace_changes_nothing() {
    for scenario in catalogue::ALL {
        let silent = play_reference(scenario, 1, Rules::all(), false);
        let traced = play_reference(scenario, 1, Rules::all(), true);
        assert_eq!(silent, Verdict { trace: String::new(), ..traced }, "scenario {}", scenario.name);
    }
}

/// Follows one run of the reference with a set of rules of the follower's own; says where they parted, and how many
/// steps were compared.
fn follow(scenario: &'static Scenario, seed: u64, rules: Rules) -> (Option<String>, usize) {
    let mut world = World::new(scenario, seed, false);
    let mind = Reference::new(&mut world, Rules::all());
    let mut follower = Follower::new(State { rules, ..mind.memory().clone() });
    let mut relay = Driver::new(mind).followed_by(&mut follower);
    world.run(&mut relay, STEPS);
    (follower.parted().map(str::to_owned), follower.steps())
}

#[test]
fn steps_alone_lead_a_follower_to_the_same_state() {
    for scenario in catalogue::ALL {
        let mut steps = 0;
        for seed in 0..50 {
            let (parted, followed) = follow(scenario, seed, Rules::all());
            assert_eq!(parted, None, "scenario {}, seed {seed}", scenario.name);
            steps += followed;
        }
        assert!(steps > 1_000, "scenario {}: only {steps} steps in 50 runs were reported", scenario.name);
    }
}

#[test]
fn a_follower_with_other_rules_is_told_apart() {
    for (rule, name) in [(Rule::Heard, "order"), (Rule::WaitAny, "forms"), (Rule::Patience, "read_lag")] {
        let rules = Rules::all().without(rule);
        let parts = (0..200).any(|seed| follow(scenario(name), seed, rules).0.is_some());
        assert!(parts, "{name}: a follower without {rule:?} agreed with the reference in 200 runs");
    }
}

fn broken_invariant<M: Mind>(scenario: &'static Scenario, seed: u64, mind: impl Fn(&mut World) -> M) -> Option<String> {
    let mut world = World::new(scenario, seed, false);
    let mut invariants = Invariants::default();
    let mut relay = Driver::new(mind(&mut world)).followed_by(&mut invariants);
    world.run(&mut relay, STEPS);
    invariants.broken().map(str::to_owned)
}

#[test]
fn every_step_keeps_the_invariants() {
    for scenario in catalogue::ALL {
        for seed in 0..500 {
            let broken = broken_invariant(scenario, seed, |world| Reference::new(world, Rules::all()));
            assert_eq!(broken, None, "scenario {}, seed {seed}", scenario.name);
        }
    }
}

#[test]
fn the_control_breaks_the_invariants() {
    let faults: Vec<_> = (0..50).filter_map(|seed| broken_invariant(scenario("crash"), seed, Naive::new)).collect();
    assert!(faults.iter().any(|fault| fault.starts_with("two writes to one pair are in flight")), "{faults:?}");
}
