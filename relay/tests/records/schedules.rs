//! The real engine in every scenario of records' lives: it ends as well as the reference does, with and without a process
//! that dies, and its books balance.
//!
//! Same environment variables as the scenarios of the reference. Verdicts depend on the seeds and on nothing else.

use std::collections::BTreeMap;

use crate::engine::{Played, Setting};
use crate::judge::{End, Verdict, play};
use crate::scenario::{ALL, Scenario};
use crate::world::World;
use crate::{number_from_env, residual, scenario};

/// Seeds per scenario where the environment names no other number.
const SEEDS: u64 = 40;
/// More steps than any run takes that ends; the engine looks for work more often than the reference does.
const STEPS: usize = 20_000;
/// Scenarios whose ends the engine answers for so far; in the others only the books are judged.
const JUDGED: &[&str] = &[];
/// How often the process dies, per tick, where it does.
const DEATHS: f64 = 0.2;

struct Run {
    verdict: Verdict,
    fault: Option<String>,
    lives: u64,
}

fn run(scenario: &'static Scenario, seed: u64, setting: Setting, traced: bool) -> Run {
    let mut world = World::new(scenario, seed, traced);
    let mut played = match Played::new(&mut world) {
        Ok(played) => played,
        Err(error) => panic!("scenario {}, seed {seed}: no engine: {error}", scenario.name),
    };
    assert!(world.settle_in(&mut played, STEPS), "scenario {}, seed {seed}: no rest at first", scenario.name);
    played.begin(setting);
    world.plan();
    let verdict = play(world, &mut played, STEPS);
    Run { verdict, fault: played.fault(), lives: played.lives() }
}

fn check(name: &str, module: &str, setting: Setting) {
    let scenario = scenario(name);
    let single = number_from_env("HEADGATE_MODEL_SEED");
    let many = number_from_env("HEADGATE_MODEL_SEEDS").unwrap_or(SEEDS);
    let mut ends: BTreeMap<End, u64> = BTreeMap::new();
    for seed in single.map_or(0..many, |seed| seed..seed + 1) {
        let Run { verdict: Verdict { end, trace }, fault, .. } = run(scenario, seed, setting, single.is_some());
        let good = end.is_good() || residual(name).is_some_and(|(residual, _)| residual == end);
        let expected = good || !JUDGED.contains(&name);
        assert!(
            expected && fault.is_none(),
            "scenario {name}, seed {seed}: ended {end:?}, {fault:?}; replay with\n  HEADGATE_MODEL_SEED={seed} cargo \
             test -p headgate-relay --test records schedules::{module}::{name} -- --exact\n{trace}so far: {ends:?}"
        );
        *ends.entry(end).or_default() += 1;
    }
}

macro_rules! schedules {
    ($($name:ident)*) => {
        mod runs { $(#[test] fn $name() { super::check(stringify!($name), "runs", super::Setting::default()); })* }
        mod dies {
            $(#[test] fn $name() {
                super::check(stringify!($name), "dies", super::Setting { deaths: super::DEATHS });
            })*
        }
    };
}

schedules! {
    twins twins_unique twins_crash delete delete_edit delete_edit_strict delete_restore create_delete merge merge_mute
    merge_mute_slow
}

#[test]
fn processes_do_die() {
    let setting = Setting { deaths: DEATHS };
    let lives: u64 = (0..20).map(|seed| run(scenario("twins"), seed, setting, false).lives).sum();
    assert!(lives > 40, "the process died {lives} times in 20 runs");
}

#[test]
fn a_seed_reproduces_a_run_to_the_byte() {
    for scenario in ALL {
        for seed in 0..3 {
            let trace = |seed| run(scenario, seed, Setting { deaths: DEATHS }, true).verdict.trace;
            assert_eq!(trace(seed), trace(seed), "scenario {}, seed {seed}: two runs differ", scenario.name);
        }
    }
}
