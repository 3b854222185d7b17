//! The real engine in every scenario of records' lives: it ends as well as the reference does, with and without a process
//! that dies, and its books balance.
//!
//! Same environment variables as the scenarios of the reference. Verdicts depend on the seeds and on nothing else.

use std::collections::BTreeMap;

use headgate_relay::entity::fold::Rule;

use crate::engine::{Played, Setting};
use crate::judge::{End, Verdict, play};
use crate::scenario::{ALL, Scenario};
use crate::world::World;
use crate::{number_from_env, residual, scenario};

/// Seeds per scenario where the environment names no other number.
const SEEDS: u64 = 100;
/// More steps than any run takes that ends; the engine looks for work more often than the reference does.
const STEPS: usize = 20_000;
/// How often the process dies, per tick, where it does.
const DEATHS: f64 = 0.2;

/// A process that dies.
const DYING: Setting = Setting { deaths: DEATHS, ..STEADY };
/// People who answer, and a process that dies now and then.
const ANSWERED: Setting = Setting { deaths: DEATHS / 4.0, answers: true, ..STEADY };
/// Two workers on one state that die now and then.
const RIVALS: Setting = Setting { deaths: DEATHS / 4.0, rivals: true, ..STEADY };
/// Nothing but the world disturbs.
const STEADY: Setting = Setting { deaths: 0.0, without: None, answers: false, rivals: false, careless: false };

struct Run {
    verdict: Verdict,
    fault: Option<String>,
    deaths: u64,
}

fn run(scenario: &'static Scenario, seed: u64, setting: Setting, traced: bool) -> Run {
    let mut world = World::new(scenario, seed, traced);
    let mut played = match Played::new(&mut world, setting) {
        Ok(played) => played,
        Err(error) => panic!("scenario {}, seed {seed}: no engine: {error}", scenario.name),
    };
    assert!(world.settle_in(&mut played, STEPS), "scenario {}, seed {seed}: no rest at first", scenario.name);
    played.begin(setting);
    world.plan();
    let (verdict, now) = play(world, &mut played, STEPS);
    let deaths = played.deaths();
    Run { verdict, fault: played.fault(now), deaths }
}

/// What no rule can fix is expected: the moment between the read and the delete is longer where calls take a second.
fn is_expected(name: &str, end: End) -> bool {
    let moment = name == "delete_edit" && end == End::Blind;
    end.is_good() || moment || residual(name).is_some_and(|(residual, _)| residual == end)
}

fn check(name: &str, module: &str, setting: Setting) {
    let scenario = scenario(name);
    let single = number_from_env("HEADGATE_MODEL_SEED");
    let many = number_from_env("HEADGATE_MODEL_SEEDS").unwrap_or(SEEDS);
    let mut ends: BTreeMap<End, u64> = BTreeMap::new();
    for seed in single.map_or(0..many, |seed| seed..seed + 1) {
        let Run { verdict: Verdict { end, trace }, fault, .. } = run(scenario, seed, setting, single.is_some());
        assert!(
            is_expected(name, end) && fault.is_none(),
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
                super::check(stringify!($name), "dies", super::DYING);
            })*
        }
        mod rivals {
            $(#[test] fn $name() {
                super::check(stringify!($name), "rivals", super::RIVALS);
            })*
        }
        mod answered { $(#[test] fn $name() { super::check(stringify!($name), "answered", super::ANSWERED); })* }
    };
}

schedules! {
    twins twins_unique twins_crash delete delete_edit delete_edit_strict delete_restore create_delete merge merge_mute
    merge_mute_slow
}

#[test]
fn processes_do_die() {
    let deaths: u64 = (0..20).map(|seed| run(scenario("twins"), seed, DYING, false).deaths).sum();
    assert!(deaths > 40, "the process died {deaths} times in 20 runs");
}

#[test]
fn a_seed_reproduces_a_run_to_the_byte() {
    for scenario in ALL {
        for seed in 0..3 {
            let trace = |seed| run(scenario, seed, DYING, true).verdict.trace;
            assert_eq!(trace(seed), trace(seed), "scenario {}, seed {seed}: two runs differ", scenario.name);
        }
    }
}

/// Without the check of versions where only work rows change, a worker deletes the row of a need that another has found.
#[test]
fn rivals_that_check_no_version_of_work_rows_lose_needs() {
    let good = |name, seed, careless| {
        let Run { verdict, fault, .. } = run(scenario(name), seed, Setting { careless, ..RIVALS }, false);
        is_expected(name, verdict.end) && fault.is_none()
    };
    for name in ["twins", "twins_crash", "delete"] {
        let caught = (0..300).find(|seed| !good(name, *seed, true));
        assert!(caught.is_some_and(|seed| good(name, seed, false)), "{name}: {caught:?}");
    }
}

/// Some seed ends badly when the engine goes without a rule, and the same seed ends well with it.
fn is_caught(rule: Rule, name: &str) {
    let good = |seed, without| {
        let Run { verdict, fault, .. } = run(scenario(name), seed, Setting { without, ..Setting::default() }, false);
        verdict.end.is_good() && fault.is_none()
    };
    let caught = (0..500).any(|seed| !good(seed, Some(rule)) && good(seed, None));
    assert!(caught, "{name} without {rule:?} ended well wherever it does with it");
}

#[test]
fn an_engine_without_a_rule_is_caught() {
    for (rule, name) in [
        (Rule::Claim, "twins"),
        (Rule::Grace, "merge_mute"),
        (Rule::NativeId, "delete_restore"),
        (Rule::Unseen, "delete_edit_strict"),
        (Rule::LateCreate, "create_delete"),
        (Rule::OtherAnswer, "merge"),
        (Rule::InformedDelete, "delete_edit"),
    ] {
        is_caught(rule, name);
    }
}

/// A merge in a CRM that answers "not found", whose event comes after the grace, looks like a delete to the engine as it
/// does to the rules.
#[test]
fn the_residual_of_slow_mute_merges_is_real() {
    let ends = |seed| run(scenario("merge_mute_slow"), seed, Setting::default(), false).verdict.end;
    let deleted = (0..300).filter(|&seed| ends(seed) == End::Deleted).count();
    assert!((9..=60).contains(&deleted), "{deleted} of 300 runs delete because of a merge");
}
