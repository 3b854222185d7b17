//! The real engine in every scenario of records' lives: it ends as well as the reference does, with and without a process
//! that dies, and its books balance.
//!
//! Same environment variables as the scenarios of the reference. Verdicts depend on the seeds and on nothing else.

use std::collections::BTreeMap;

use headgate_relay::entity::fold::Rule;

use crate::engine::{Played, Setting};
use crate::judge::{End, Verdict, play};
use crate::scenario::{ALL, Act, Fates, Line, Scenario};
use crate::world::World;
use crate::{number_from_env, residual, scenario};

/// Seeds per scenario where the environment names no other number.
const SEEDS: u64 = 100;
/// The same of rivals, who take more steps.
const RIVAL_SEEDS: u64 = 40;
/// Seeds of deletes that land late.
const LATE_SEEDS: u64 = 300;
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
const STEADY: Setting =
    Setting { deaths: 0.0, without: None, answers: false, rivals: false, careless: false, overdue: false };

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
    // The reference does it where it has asked; the engine waits for the answer.
    let undone = (verdict.undone > 0 && !setting.answers).then(|| "deleted what somebody had restored".to_owned());
    Run { fault: played.fault(now).or(undone), verdict, deaths }
}

/// What no rule can fix is expected: the moment between the read and the delete is longer where calls take a second.
fn is_expected(name: &str, setting: Setting, end: End) -> bool {
    let moment = name == "delete_edit" && end == End::Blind;
    // Whoever is held up may be the one that has the event of the merge.
    let slow = name == "merge_mute" && setting.rivals && end == End::Deleted;
    end.is_good() || moment || slow || residual(name).is_some_and(|(residual, _)| residual == end)
}

fn check(name: &str, module: &str, setting: Setting) {
    let scenario = scenario(name);
    let single = number_from_env("HEADGATE_MODEL_SEED");
    let many = number_from_env("HEADGATE_MODEL_SEEDS").unwrap_or(if setting.rivals { RIVAL_SEEDS } else { SEEDS });
    let mut ends: BTreeMap<End, u64> = BTreeMap::new();
    for seed in single.map_or(0..many, |seed| seed..seed + 1) {
        let Run { verdict: Verdict { end, trace, .. }, fault, .. } = run(scenario, seed, setting, single.is_some());
        assert!(
            is_expected(name, setting, end) && fault.is_none(),
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

/// Some seed ends badly when rivals are played so, and the same seed ends well when nothing is wrong.
fn are_caught(name: &str, setting: Setting) {
    let good = |seed, setting| {
        let Run { verdict, fault, .. } = run(scenario(name), seed, setting, false);
        is_expected(name, setting, verdict.end) && fault.is_none()
    };
    let caught = (0..300).find(|seed| !good(*seed, setting));
    assert!(caught.is_some_and(|seed| good(seed, RIVALS)), "{name}, {setting:?}: {caught:?}");
}

/// Without the check of versions where only work rows change, a worker deletes the row of a need that another has found.
#[test]
fn rivals_over_a_state_that_checks_no_versions_are_caught() {
    for name in ["twins", "twins_crash", "delete"] {
        are_caught(name, Setting { careless: true, ..RIVALS });
    }
}

/// Whoever was held up past the end of its lease would send what another worker has given up and maybe sent itself.
#[test]
fn rivals_that_send_after_their_lease_are_caught() {
    for name in ["twins_crash", "delete"] {
        are_caught(name, Setting { overdue: true, ..RIVALS });
    }
}

/// Deletes that land minutes late and an attempt in between that came to nothing: what goes by them is not taken for
/// somebody's delete, which would take a record along that was restored.
#[test]
fn deletes_of_ours_that_land_late_undo_nothing() {
    let fates = Fates { answered: 2, lost: 1, never: 1, late: 3, refused: 3 };
    let late: &'static Scenario = Box::leak(Box::new(Scenario { fates, ..*scenario("delete_restore") }));
    let single = number_from_env("HEADGATE_MODEL_SEED");
    for (setting, seeds) in [(STEADY, LATE_SEEDS), (RIVALS, RIVAL_SEEDS)] {
        let many = number_from_env("HEADGATE_MODEL_SEEDS").unwrap_or(seeds);
        for seed in single.map_or(0..many, |seed| seed..seed + 1) {
            let Run { verdict, fault, .. } = run(late, seed, setting, single.is_some());
            let good = is_expected(late.name, setting, verdict.end) && fault.is_none();
            assert!(good, "seed {seed}, {setting:?}: {:?}, {fault:?}\n{}", verdict.end, verdict.trace);
        }
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

/// How many of so many runs end so.
fn ends(scenario: &'static Scenario, runs: u64, end: End) -> usize {
    (0..runs).filter(|&seed| run(scenario, seed, STEADY, false).verdict.end == end).count()
}

/// A merge in a CRM that answers "not found", whose event comes after the grace, looks like a delete to the engine as it
/// does to the rules.
#[test]
fn the_residual_of_slow_mute_merges_is_real() {
    let deleted = ends(scenario("merge_mute_slow"), 300, End::Deleted);
    assert!((9..=60).contains(&deleted), "{deleted} of 300 runs delete because of a merge");
}

/// An edit between the read and the call of a delete goes with the record; none does where the CRM checks versions.
#[test]
fn the_residual_of_deletes_without_precondition_is_real() {
    let script: &[Line] = &[
        Line { between: (0, 1), crm: 0, act: Act::Delete, email: "ann" },
        Line { between: (60, 66), crm: 1, act: Act::Edit, email: "ann" },
    ];
    let moment = |strict| &*Box::leak(Box::new(Scenario { strict, script, delay: &[50], ..*scenario("delete_edit") }));
    let blind = ends(moment(false), 1_000, End::Blind);
    assert!((10..=100).contains(&blind), "{blind} of 1,000 runs delete over an edit in the last moment");
    assert_eq!(ends(moment(true), 1_000, End::Blind), 0, "the precondition did not hold");
}
