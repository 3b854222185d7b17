//! The real rules decide every step of every run as the reference does, and no rule of theirs is idle.
//!
//! Same environment variables as the scenarios of the reference. Verdicts depend on the seeds and on nothing else.

use headgate_relay::entity::fold::{Rule as RealRule, Rules as RealRules};

use crate::lockstep::{Led, walk};
use crate::reference::catalogue;
use crate::reference::rules::{Rule, Rules};
use crate::{number_from_env, scenario};

/// Seeds per scenario where the environment names no other number.
const SEEDS: u64 = 200;

/// The real rules decide every step of every run as the reference does.
#[test]
fn agree_with_the_reference_at_every_step() {
    let single = number_from_env("HEADGATE_MODEL_SEED");
    let many = number_from_env("HEADGATE_MODEL_SEEDS").unwrap_or(SEEDS);
    for scenario in catalogue::ALL {
        let (mut steps, mut short_ways) = (0, 0);
        for seed in single.map_or(0..many, |seed| seed..seed + 1) {
            let walk = walk(scenario, seed, Rules::all(), Led::PROPERLY);
            assert_eq!(walk.parted, None, "scenario {}, seed {seed}", scenario.name);
            steps += walk.steps;
            short_ways += walk.short_ways;
        }
        let enough = single.is_some() || many < SEEDS || (steps > 4_000 && short_ways > 50);
        let name = scenario.name;
        assert!(enough, "{name}: only {steps} steps and {short_ways} settlements with events were compared");
    }
}

const SWITCHES: [(RealRule, Rule, &str); 15] = [
    (RealRule::WaitAny, Rule::WaitAny, "forms"),
    (RealRule::Informed, Rule::Informed, "ours"),
    (RealRule::Heard, Rule::Heard, "order"),
    (RealRule::Window, Rule::Window, "no_times"),
    (RealRule::Patience, Rule::Patience, "read_lag"),
    (RealRule::RevDirty, Rule::RevDirty, "forms"),
    (RealRule::Horizon, Rule::Horizon, "aged"),
    (RealRule::StateDiff, Rule::StateDiff, "state"),
    (RealRule::SlowFight, Rule::SlowFight, "slow_fight"),
    (RealRule::MarkRefutes, Rule::MarkRefutes, "crash_marks"),
    (RealRule::ReadIsNow, Rule::ReadIsNow, "read_lag"),
    (RealRule::Aligned, Rule::Aligned, "order"),
    (RealRule::AgreeRev, Rule::AgreeRev, "order"),
    (RealRule::OwnLine, Rule::OwnLine, "theirs"),
    (RealRule::Doubt, Rule::Doubt, "states_late"),
];

/// A rule of the real code that is switched off is missed, and its switch means what the reference's means.
#[test]
fn part_from_the_reference_without_any_one_rule() {
    for (real, reference, name) in SWITCHES {
        let led = Led { rules: RealRules::ALL.without(real), ..Led::PROPERLY };
        let parted = (0..2_000).any(|seed| walk(scenario(name), seed, Rules::all(), led).parted.is_some());
        assert!(parted, "{name}: without {real:?} the real rules agreed with the reference in 2,000 runs");
        for seed in 0..10 {
            let walk = walk(scenario(name), seed, Rules::all().without(reference), led);
            assert_eq!(walk.parted, None, "{name}, seed {seed}, without {real:?} on both sides");
        }
    }
}

/// The rule of groups stands in the mapping: it never hands in half a group as if it were the whole.
#[test]
fn part_from_the_reference_where_half_a_group_is_folded() {
    let led = Led { halves: true, ..Led::PROPERLY };
    assert!((0..200).any(|seed| walk(scenario("group"), seed, Rules::all(), led).parted.is_some()));
}
