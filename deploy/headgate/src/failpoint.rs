//! `HEADGATE_FAILPOINT=relay.before_write:2`: this process kills itself at the second passage of that place. Only in
//! builds with the feature `failpoints`, which nothing that is shipped has.
//!
//! The surprising thing: a name that no part knows ends the program at once, because a test that arms a place that does
//! not exist would prove nothing.

use headgate_schemas::failpoint::{self, Armed, Failpoint};
use headgate_schemas::stream::embedded;

use crate::config::Env;

/// The variable.
const VARIABLE: &str = "HEADGATE_FAILPOINT";

/// The variable does not name a place.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}: write the name of a place and the number of a passage, as relay.before_write:2")]
pub(crate) struct NoSuchPlace;

/// Arms what the environment asks for, if it asks.
///
/// # Errors
/// When it asks for something that does not exist.
pub(crate) fn arm(env: &Env) -> Result<(), NoSuchPlace> {
    let Some(wish) = env.get(VARIABLE) else { return Ok(()) };
    let (name, nth) = wish.split_once(':').ok_or(NoSuchPlace)?;
    let point = all().find(|point| point.name() == name).ok_or(NoSuchPlace)?;
    let nth = nth.parse().ok().filter(|nth| *nth > 0).ok_or(NoSuchPlace)?;
    if failpoint::arm(Armed { point, nth, die }) { Ok(()) } else { Err(NoSuchPlace) }
}

/// The places of all parts, in the order of the way of a change.
fn all() -> impl Iterator<Item = Failpoint> {
    headgate_gateway::STEPS.into_iter().chain(embedded::STEPS).chain(headgate_relay::STEPS)
}

/// Ends the process as a power cut would: nothing is flushed, dropped or said.
fn die() {
    use rustix::process::{Signal, getpid, kill_process};
    // A process may always signal itself, and no code runs after this signal.
    let sent = kill_process(getpid(), Signal::KILL);
    debug_assert!(sent.is_ok(), "a process may signal itself");
}
