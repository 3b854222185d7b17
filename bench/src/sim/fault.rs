//! Faults on demand: what goes wrong with which calls, and for how long.
//!
//! A rule says *on* which calls it bears, *what* happens and *when* it stops. This file decides only; carrying a fault
//! out (sleeping, cutting the connection) is the server's work, and the words of a refusal are the CRM's.
//! The surprising thing: rules are asked in the order they were pushed and the first that bears wins, so a rule that
//! is still counting down hides the ones behind it.

use std::time::Duration;

use parking_lot::Mutex;

/// A refusal in the CRM's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The quota is used up. HubSpot answers 429, Salesforce 403 `REQUEST_LIMIT_EXCEEDED`.
    RateLimited {
        /// Sent as `Retry-After` in whole seconds, or not at all.
        retry_after: Option<Duration>,
    },
    /// 500.
    ServerError,
    /// 503.
    Unavailable,
    /// 401 for every token, as after a revocation.
    Unauthorized,
    /// Any other status.
    Status(u16),
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Refused before anything is applied.
    Refuse(Refusal),
    /// Answered rightly, but late.
    Slow(Duration),
    /// No answer: the connection is cut after the wait.
    Hang {
        /// How long the caller is kept waiting.
        wait: Duration,
        /// Whether the call was carried out before the silence.
        applied: bool,
    },
    /// The connection is cut and nothing was applied.
    ResetBefore,
    /// Everything was applied, then the connection is cut before the answer.
    ResetAfter,
    /// Records holding this value in this field are refused; the others of the call go through.
    RejectRecord {
        /// Native name of the field.
        field: String,
        /// The value, as text.
        value: String,
    },
    /// Each record of a call is refused or not: partial failure. Choose the share with [`When::Share`].
    RejectRecords,
}

/// Which calls a rule bears on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every call.
    Any,
    /// Calls that read, searches and queries included.
    Reads,
    /// Calls that write.
    Writes,
    /// Token requests.
    Tokens,
    /// Calls whose path contains the text.
    Path(String),
}

/// How long a rule bears.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// The next calls (or records, for the rules on records), then never again.
    Next(u32),
    /// Until [`Faults::clear`] or [`Faults::remove`].
    UntilCleared,
    /// This share of calls (or records), by a seed: the same seed makes the same choices.
    Share {
        /// From 0 to 1.
        share: f64,
        /// Seed of the choices.
        seed: u64,
    },
}

/// One rule of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRule {
    /// Which calls.
    pub on: Scope,
    /// What happens.
    pub fault: Fault,
    /// For how long.
    pub when: When,
}

/// Handle of a rule, for [`Faults::remove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultId(u64);

/// What a call does, as the fault plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallClass {
    Read,
    Write,
    Token,
}

#[derive(Debug)]
struct Active {
    id: FaultId,
    rule: FaultRule,
    left: u32,
    choices: fastrand::Rng,
}

impl Active {
    fn bears(&mut self) -> bool {
        match self.rule.when {
            When::UntilCleared => true,
            When::Share { share, .. } => self.choices.f64() < share,
            When::Next(_) if self.left == 0 => false,
            When::Next(_) => {
                self.left -= 1;
                true
            }
        }
    }
}

/// The fault plan of one model. Safe to change while calls run.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    next: u64,
    active: Vec<Active>,
}

impl Faults {
    /// Adds a rule behind the ones that stand.
    pub fn push(&self, rule: FaultRule) -> FaultId {
        let mut plan = self.plan.lock();
        plan.next += 1;
        let id = FaultId(plan.next);
        let (left, seed) = match rule.when {
            When::Next(n) => (n, 0),
            When::UntilCleared => (0, 0),
            When::Share { seed, .. } => (0, seed),
        };
        plan.active.push(Active { id, rule, left, choices: fastrand::Rng::with_seed(seed) });
        id
    }

    /// Shorthand for a rule on the next `n` calls of a scope.
    pub fn next(&self, n: u32, on: Scope, fault: Fault) -> FaultId {
        self.push(FaultRule { on, fault, when: When::Next(n) })
    }

    /// Takes one rule away; a rule that is gone already is no error.
    pub fn remove(&self, id: FaultId) {
        self.plan.lock().active.retain(|a| a.id != id);
    }

    /// Takes every rule away.
    pub fn clear(&self) {
        self.plan.lock().active.clear();
    }

    /// The fault of this call, if any rule bears on it. Counts the rule down.
    pub(crate) fn pick(&self, class: CallClass, path: &str) -> Option<Fault> {
        let mut plan = self.plan.lock();
        plan.active
            .iter_mut()
            .filter(|a| !matches!(a.rule.fault, Fault::RejectRecord { .. } | Fault::RejectRecords))
            .find_map(|a| (covers(&a.rule.on, class, path) && a.bears()).then(|| a.rule.fault.clone()))
    }

    /// Whether a record of a write to `path` is refused. `field` gives the value sent for a field, as text.
    pub(crate) fn rejects(&self, path: &str, field: impl Fn(&str) -> Option<String>) -> bool {
        let mut plan = self.plan.lock();
        plan.active.iter_mut().any(|a| {
            let hit = match &a.rule.fault {
                Fault::RejectRecord { field: name, value } => field(name).as_ref() == Some(value),
                Fault::RejectRecords => true,
                Fault::Refuse(_) | Fault::Slow(_) | Fault::Hang { .. } | Fault::ResetBefore | Fault::ResetAfter => {
                    false
                }
            };
            hit && covers(&a.rule.on, CallClass::Write, path) && a.bears()
        })
    }
}

fn covers(scope: &Scope, class: CallClass, path: &str) -> bool {
    match scope {
        Scope::Any => true,
        Scope::Reads => class == CallClass::Read,
        Scope::Writes => class == CallClass::Write,
        Scope::Tokens => class == CallClass::Token,
        Scope::Path(part) => path.contains(part.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_counts_down_and_then_lets_go() {
        let faults = Faults::default();
        faults.next(2, Scope::Writes, Fault::ResetBefore);
        assert_eq!(faults.pick(CallClass::Read, "/x"), None);
        assert_eq!(faults.pick(CallClass::Write, "/x"), Some(Fault::ResetBefore));
        assert_eq!(faults.pick(CallClass::Write, "/x"), Some(Fault::ResetBefore));
        assert_eq!(faults.pick(CallClass::Write, "/x"), None);
    }

    #[test]
    fn a_share_is_the_same_for_the_same_seed() {
        let choices = |seed| {
            let faults = Faults::default();
            let when = When::Share { share: 0.3, seed };
            faults.push(FaultRule { on: Scope::Any, fault: Fault::Refuse(Refusal::ServerError), when });
            (0..200).map(|_| faults.pick(CallClass::Read, "/").is_some()).collect::<Vec<_>>()
        };
        let hits = choices(7).iter().filter(|h| **h).count();
        assert_eq!(choices(7), choices(7));
        assert!((30..=90).contains(&hits), "a share of 0.3 hit {hits} of 200");
    }

    #[test]
    fn records_are_refused_by_value_and_rules_can_be_removed() {
        let faults = Faults::default();
        let fault = Fault::RejectRecord { field: "email".into(), value: "bad@example.com".into() };
        let id = faults.push(FaultRule { on: Scope::Writes, fault, when: When::UntilCleared });
        let field = |name: &str| (name == "email").then(|| "bad@example.com".to_owned());
        assert!(faults.rejects("/a", field));
        assert!(!faults.rejects("/a", |_| None));
        assert_eq!(faults.pick(CallClass::Write, "/a"), None);
        faults.remove(id);
        assert!(!faults.rejects("/a", field));
    }
}
