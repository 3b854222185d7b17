//! Figures of one attack, and whether what is promised was kept. Pure.
//!
//! The surprising thing: a promise that was not tried counts as broken. An attack that never got through to the gateway
//! would otherwise be the easiest to withstand.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Attack, Phase, Seen, hostile};

/// Valid traffic beside an attack.
const P99_MS: f64 = 50.0;
/// The most memory a gateway may ever hold under attack.
const MEMORY_MIB: f64 = 200.0;
/// How much the others may notice of an account that floods.
const NOISE: f64 = 1.5;
/// What must be left of the capacity under overload.
const GOODPUT: f64 = 0.8;
/// What must have been sent of what was due, or it was no overload.
const SENT: f64 = 0.9;

/// Valid traffic of one phase.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Requests that were due.
    pub due: u64,
    /// Requests that were accepted.
    pub accepted: u64,
    /// Of them per second, until the last one.
    pub accepted_per_s: f64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer in time.
    pub broken: u64,
    /// Requests that found no free connection.
    pub held_back: u64,
    /// Latency of the accepted ones from the time they were due.
    pub p50_ms: f64,
    /// The same.
    pub p95_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// The same.
    pub max_ms: f64,
    /// Time of the gateway on a core for everything it did in this phase, per accepted event.
    pub cpu_us_per_event: f64,
}

/// Something promised, and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Promise {
    /// What.
    pub what: &'static str,
    /// What was measured.
    pub measured: f64,
    /// What it is measured against.
    pub bound: f64,
    /// Whether it was kept.
    pub kept: bool,
}

/// One attack.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub attack: &'static str,
    /// Valid traffic alone; for the overload, as much of it as is answered.
    pub quiet: Figures,
    /// Valid traffic beside the attack.
    pub attacked: Figures,
    /// What attackers were told, by status; 0 stands for the frame that ends an HTTP/2 connection.
    pub attackers_told: BTreeMap<u16, u64>,
    /// Connections of attackers that ended without an answer.
    pub attackers_cut: u64,
    /// The most memory the gateway held, in MiB.
    pub memory_mib: f64,
    /// What is promised.
    pub promises: Vec<Promise>,
}

impl Outcome {
    /// Whether all promises were kept.
    pub fn kept(&self) -> bool {
        self.promises.iter().all(|promise| promise.kept)
    }

    /// The outcome of what was seen.
    pub(super) fn of(attack: Attack, seen: &Seen) -> Self {
        let (quiet, attacked) = (figures(&seen.quiet), figures(&seen.attacked));
        let mut told = seen.told.statuses.clone();
        for (status, count) in &seen.flood.statuses {
            *told.entry(*status).or_default() += count;
        }
        let memory_mib = seen.memory_peak as f64 / f64::from(1 << 20);
        let mut promises = own(attack, seen, &quiet, &attacked);
        promises.extend([
            at_most("memory of the gateway, MiB", memory_mib, MEMORY_MIB),
            none("accepted events that are lost", seen.kept.lost),
            none("events in the stream twice", seen.kept.doubled),
            none("forged events in the stream", seen.kept.forged),
            holds("a valid call afterwards is accepted", seen.served),
            holds("the gateway ends in order", seen.clean),
        ]);
        Self {
            attack: attack.as_str(),
            quiet,
            attacked,
            attackers_told: told,
            attackers_cut: seen.told.cut,
            memory_mib,
            promises,
        }
    }
}

fn figures(phase: &Phase) -> Figures {
    let tally = &phase.tally;
    let accepted = tally.accepted_requests();
    let per = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    Figures {
        due: tally.due(),
        accepted,
        accepted_per_s: per(accepted as f64, tally.accepting.as_secs_f64()),
        statuses: tally.statuses.clone(),
        broken: tally.broken,
        held_back: tally.held_back,
        p50_ms: tally.latency.quantile_ms(0.5),
        p95_ms: tally.latency.quantile_ms(0.95),
        p99_ms: tally.latency.quantile_ms(0.99),
        max_ms: tally.latency.quantile_ms(1.0),
        cpu_us_per_event: per(phase.cpu.as_micros() as f64, tally.accepted_events() as f64),
    }
}

/// What is promised of this attack beside what is promised of all.
fn own(attack: Attack, seen: &Seen, quiet: &Figures, attacked: &Figures) -> Vec<Promise> {
    match attack {
        Attack::NoisyAccount => vec![
            at_most("p99 of the other accounts by that in quiet", ratio(attacked.p99_ms, quiet.p99_ms), NOISE),
            none("valid requests of the others that were not accepted", quiet.refused() + attacked.refused()),
            some("requests of the noisy account that were refused", seen.flood.due() - seen.flood.accepted_requests()),
            none("refusals that do not say when to come again", seen.flood.untold),
        ],
        Attack::Overload => vec![
            at_least(
                "accepted per second by the capacity",
                ratio(attacked.accepted_per_s, quiet.accepted_per_s),
                GOODPUT,
            ),
            at_least("sent of what was due", ratio(attacked.sent() as f64, attacked.due as f64), SENT),
            some("requests that were refused", attacked.sent() - attacked.accepted),
            none("answers that are neither 204 nor 503", others(attacked)),
            none("refusals that do not say when to come again", seen.attacked.tally.untold),
            none("requests without an answer", attacked.broken),
        ],
        _ => {
            let told = &seen.told.statuses;
            let wrongly = told.iter().filter(|(status, _)| (200..300).contains(*status) || **status == 500);
            let mut promises = vec![
                at_most("p99 of valid requests, ms", attacked.p99_ms, P99_MS),
                none("valid requests that were not accepted", quiet.refused() + attacked.refused()),
                none("attackers told 2xx or 500", wrongly.map(|(_, count)| count).sum()),
            ];
            match attack {
                Attack::Idle => {
                    promises.push(at_least("connections at once", seen.told.most_open as f64, hostile::IDLE as f64));
                }
                Attack::WrongSignatures => {
                    let refused = told.get(&401).copied().unwrap_or_default();
                    promises.push(at_least("wrong signatures refused", refused as f64, hostile::WRONG as f64));
                }
                Attack::None => {}
                _ => {
                    promises.push(some("attacks that were answered or cut", told.values().sum::<u64>() + seen.told.cut))
                }
            }
            promises
        }
    }
}

impl Figures {
    /// Requests that were due and not accepted.
    pub(super) const fn refused(&self) -> u64 {
        self.due - self.accepted
    }

    /// Requests that were due and left their sender.
    const fn sent(&self) -> u64 {
        self.due - self.held_back
    }
}

fn others(figures: &Figures) -> u64 {
    figures.statuses.iter().filter(|(status, _)| !matches!(**status, 204 | 503)).map(|(_, count)| count).sum()
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { f64::NAN }
}

/// A figure that is none, because there was nothing to measure, is within no bound.
fn at_most(what: &'static str, measured: f64, bound: f64) -> Promise {
    Promise { what, measured, bound, kept: measured <= bound }
}

fn at_least(what: &'static str, measured: f64, bound: f64) -> Promise {
    Promise { what, measured, bound, kept: measured >= bound }
}

fn none(what: &'static str, count: u64) -> Promise {
    at_most(what, count as f64, 0.0)
}

fn some(what: &'static str, count: u64) -> Promise {
    at_least(what, count as f64, 1.0)
}

fn holds(what: &'static str, so: bool) -> Promise {
    at_least(what, f64::from(u8::from(so)), 1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tally::{Counts, Kept, Tally};
    use super::super::wire::Answer;
    use super::*;

    /// A phase of a second with so many requests accepted, each after so many milliseconds.
    fn phase(accepted: u64, ms: u64) -> Phase {
        let mut tally = Tally::default();
        for n in 0..accepted {
            let answer = Answer { status: 204, retry_after: false, closes: false };
            tally.answered(answer, Duration::from_millis(ms), n..n + 1, Duration::from_secs(1));
        }
        Phase { tally, cpu: Duration::from_millis(10) }
    }

    /// Everything as promised.
    fn good() -> Seen {
        Seen {
            quiet: phase(100, 10),
            attacked: phase(100, 12),
            told: Counts { statuses: [(401, 100_000)].into(), most_open: 10_000, ..Counts::default() },
            memory_peak: 100 << 20,
            served: true,
            clean: true,
            ..Seen::default()
        }
    }

    /// So many refusals, with or without a word about when to come again.
    fn refuse(tally: &mut Tally, status: u16, retry_after: bool, times: u64) {
        for n in 0..times {
            tally.answered(Answer { status, retry_after, closes: false }, Duration::ZERO, n..n + 1, Duration::ZERO);
        }
    }

    fn broken(attack: Attack, seen: &Seen) -> Vec<&'static str> {
        let promises = Outcome::of(attack, seen).promises;
        promises.into_iter().filter(|promise| !promise.kept).map(|promise| promise.what).collect()
    }

    #[test]
    fn every_promise_is_broken_by_what_breaks_it_and_by_nothing_else() {
        let none: [&str; 0] = [];
        for attack in [Attack::None, Attack::Slow, Attack::Idle, Attack::Bombs, Attack::WrongSignatures] {
            assert_eq!(broken(attack, &good()), none, "{attack}");
        }
        assert_eq!(broken(Attack::Slow, &Seen { attacked: phase(100, 51), ..good() }), ["p99 of valid requests, ms"]);
        let mut refused = good();
        refused.attacked.tally.broken = 1;
        assert_eq!(broken(Attack::Slow, &refused), ["valid requests that were not accepted"]);
        let told =
            |statuses: &[(u16, u64)]| Counts { statuses: statuses.iter().copied().collect(), ..Counts::default() };
        for statuses in [&[(401, 1), (204, 1)][..], &[(500, 1)]] {
            let seen = Seen { told: told(statuses), ..good() };
            assert_eq!(broken(Attack::Smuggled, &seen), ["attackers told 2xx or 500"]);
        }
        assert_eq!(broken(Attack::Bombs, &Seen { told: told(&[]), ..good() }), ["attacks that were answered or cut"]);
        let few = Seen { told: told(&[(401, 99_999)]), ..good() };
        assert_eq!(broken(Attack::WrongSignatures, &few), ["wrong signatures refused"]);
        assert_eq!(broken(Attack::Idle, &few), ["connections at once"]);
        let wrong = Seen {
            memory_peak: 201 << 20,
            served: false,
            clean: false,
            kept: Kept { lost: 1, forged: 1, doubled: 1 },
            ..good()
        };
        assert_eq!(broken(Attack::None, &wrong).len(), 6);
    }

    #[test]
    fn a_flood_may_cost_the_others_half_as_much_again_and_must_be_refused_itself() {
        let flooded = || {
            let mut flood = phase(50, 1).tally;
            refuse(&mut flood, 429, true, 1);
            Seen { flood, attacked: phase(100, 15), ..good() }
        };
        assert!(broken(Attack::NoisyAccount, &flooded()).is_empty());
        let slower = Seen { attacked: phase(100, 16), ..flooded() };
        assert_eq!(broken(Attack::NoisyAccount, &slower), ["p99 of the other accounts by that in quiet"]);
        let unheard = Seen { flood: phase(50, 1).tally, ..flooded() };
        assert_eq!(broken(Attack::NoisyAccount, &unheard), ["requests of the noisy account that were refused"]);
    }

    #[test]
    fn an_overload_leaves_four_fifths_of_the_capacity_and_refuses_the_rest_in_form() {
        let overloaded = |accepted| {
            let mut attacked = phase(accepted, 40);
            refuse(&mut attacked.tally, 503, true, 450 - accepted);
            attacked.tally.held_back = 50;
            Seen { attacked, ..good() }
        };
        assert!(broken(Attack::Overload, &overloaded(80)).is_empty());
        assert_eq!(broken(Attack::Overload, &overloaded(79)), ["accepted per second by the capacity"]);
        let mut untold = overloaded(90);
        refuse(&mut untold.attacked.tally, 429, false, 1);
        let expected = ["answers that are neither 204 nor 503", "refusals that do not say when to come again"];
        assert_eq!(broken(Attack::Overload, &untold), expected);
        let mut little = overloaded(90);
        little.attacked.tally.held_back = 51;
        assert_eq!(broken(Attack::Overload, &little), ["sent of what was due"]);
    }
}
