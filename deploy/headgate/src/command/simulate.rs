//! `headgate simulate`: the models of the CRMs alone, for people and for vendors' client libraries.

use crate::cli::SimulateArgs;
use crate::config::Env;
use crate::exit::{Exit, Failure};

/// Runs the models until a signal.
#[expect(clippy::unused_async, reason = "the commands share one form")]
pub(super) async fn run(args: &SimulateArgs, _env: &Env) -> Result<Exit, Failure> {
    let _ = (&args.hubspot, &args.salesforce, &args.hooks, args.strict_auth);
    Err(Failure::failed("simulate: not part of this build yet"))
}
