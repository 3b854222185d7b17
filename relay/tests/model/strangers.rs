//! Documents that others write between the engine's reading and its writing: nothing of theirs is written over, the run
//! ends as well as without them, and the books balance. Verdicts depend on the seeds and on nothing else.

use crate::engine::Setting;
use crate::reference::scenario::Want;
use crate::scenario;
use crate::schedules::{Run, run};

/// Seeds per scenario.
const SEEDS: u64 = 40;
/// How often somebody else writes the document before a tick.
const OFTEN: f64 = 0.2;

#[test]
fn a_document_that_another_has_changed_is_not_written_over() {
    let (mut marks, mut overtaken) = (0, 0);
    for name in ["order", "crash", "manual", "states_late", "real_mix", "group", "everything"] {
        for seed in 0..SEEDS {
            let setting = Setting { strangers: OFTEN, ..Setting::default() };
            let Run { verdict, fault, strangers, .. } = run(scenario(name), seed, setting);
            let good = verdict.is_good(Want::Equal) || verdict.is_good(scenario(name).want);
            assert!(good && fault.is_none(), "{name}, seed {seed}: ended {:?}, {fault:?}", verdict.end);
            marks += strangers.0;
            overtaken += strangers.1;
        }
    }
    assert!(marks > 2_000 && overtaken > 1_000, "{marks} documents were changed, {overtaken} ticks refused");
}
