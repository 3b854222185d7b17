//! The commands, one file each. This file only says which is which. Every command takes its arguments and the
//! environment as values and ends in an exit code or a failure that explains itself.

mod bench;
#[cfg(feature = "kafka")]
mod bench_kafka;
mod check;
#[cfg(feature = "kafka")]
mod check_topic;
mod completion;
mod conflict;
mod deadletter;
mod demo;
#[cfg(feature = "kafka")]
mod endpoint;
mod record;
mod replay;
mod serve;
mod simulate;
mod subscription;
mod tail;
mod verify;

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::Command;
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::process::Role;

/// Runs one command.
///
/// # Errors
/// Why it stopped, with the exit code to stop with.
pub(crate) async fn run(command: Command, env: &Env) -> Result<Exit, Failure> {
    match command {
        Command::Serve(args) => serve::run(Role::Serve, &args, env).await,
        Command::Gateway(args) => serve::run(Role::Gateway, &args, env).await,
        Command::Relay(args) => serve::run(Role::Relay, &args, env).await,
        Command::Demo(args) => demo::run(&args).await,
        Command::Simulate(args) => simulate::run(&args, env).await,
        Command::Check(args) => check::run(&args, env).await,
        Command::Verify(args) => verify::run(&args, env),
        Command::Tail(args) => tail::run(&args, env).await,
        Command::Record(args) => record::run(args, env).await,
        Command::Deadletter(args) => deadletter::run(args, env).await,
        Command::Conflict(args) => conflict::run(args, env).await,
        Command::Bench(args) => bench::run(args.command, env).await,
        #[cfg(feature = "kafka")]
        Command::Endpoint(args) => endpoint::run(args, env).await,
        Command::Replay(args) => replay::run(&args, env).await,
        Command::Subscription(args) => subscription::run(args, env).await,
        Command::Completion(args) => completion::run(&args),
    }
}

/// Prints JSON with line breaks, as people and `jq` both read it.
fn print_json(out: &mut impl Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}
