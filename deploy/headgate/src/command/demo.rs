//! `headgate demo`: simulated CRMs, the whole program, load, and a table of what came of it.

use crate::cli::DemoArgs;
use crate::exit::{Exit, Failure};

/// Runs the demo.
#[expect(clippy::unused_async, reason = "the commands share one form")]
pub(super) async fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let _ = (args.changes, args.rate, args.seconds, args.seed, args.stay, args.json);
    Err(Failure::failed("demo: not part of this build yet"))
}
