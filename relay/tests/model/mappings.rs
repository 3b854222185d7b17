//! Mappings: however the CRMs spell the values, a run is the same run; and where types are ignored, it is not.
//!
//! Verdicts depend on the seeds and on nothing else.

use crate::dress::Dress;
use crate::engine::Setting;
use crate::real::Cut;
use crate::reference::judge::{End, Verdict};
use crate::reference::scenario::Want;
use crate::scenario;
use crate::schedules::{Run, run};

/// Scenarios whose CRMs keep what they are given, so that the mapping alone is in question.
const SCENARIOS: [&str; 9] =
    ["order3", "crash", "repeats", "no_times", "manual", "state", "real_mix", "group", "two_channels"];
/// Seeds per scenario and dress.
const SEEDS: u64 = 12;

fn played(name: &str, seed: u64, cut: Cut) -> Verdict {
    let Run { verdict, fault, .. } = run(scenario(name), seed, Setting { cut, ..Setting::default() });
    assert_eq!(fault, None, "{name}, seed {seed}, {cut:?}");
    verdict
}

#[test]
fn spelling_changes_nothing() {
    for dress in Dress::ALL.into_iter().filter(|dress| *dress != Dress::Listed) {
        for name in SCENARIOS {
            for seed in 0..SEEDS {
                let plain = played(name, seed, Cut::default());
                assert_eq!(
                    played(name, seed, Cut { dress, ..Cut::default() }),
                    plain,
                    "{name}, seed {seed}, {dress:?}"
                );
            }
        }
    }
}

/// An entry without a name in the other CRMs is asked about; the rest goes on.
#[test]
fn lists_are_translated_and_what_has_no_name_is_held() {
    let (mut held, mut equal) = (0, 0);
    // Nobody may choose what no CRM has a name for, so nobody is asked about anything else.
    for name in SCENARIOS.into_iter().filter(|name| *name != "manual") {
        for seed in 0..SEEDS {
            let verdict = played(name, seed, Cut { dress: Dress::Listed, ..Cut::default() });
            assert!(verdict.is_good(Want::Equal), "{name}, seed {seed}: ended {:?}", verdict.end);
            held += u32::from(verdict.end == End::Held);
            equal += u32::from(matches!(verdict.end, End::Right | End::Equal));
        }
    }
    assert!(held > 20 && equal > 20, "{held} runs ended held, {equal} equal");
}

#[test]
fn types_that_are_ignored_are_missed() {
    for dress in [Dress::Text, Dress::Email, Dress::Phone, Dress::Domain] {
        let changed = (0..SEEDS).any(|seed| {
            let setting = |cut| Setting { cut, ..Setting::default() };
            let ended = |cut| run(scenario("order3"), seed, setting(cut)).verdict;
            ended(Cut { dress, blunt: true, ..Cut::default() }) != ended(Cut::default())
        });
        assert!(changed, "{dress:?}: nobody misses the type");
    }
}
