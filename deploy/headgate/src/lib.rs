//! The program `headgate`: reads the command line and the environment once, runs one command, turns its end into an
//! exit code. Everything else is a part that this file does not know.
//!
//! It is a library so that what reads foreign bytes can be called without a process around it; see [`foreign`].

mod admin;
mod admin_client;
#[cfg(feature = "kafka")]
mod admin_endpoints;
mod admin_gateway;
mod admin_listener;
mod cli;
mod command;
mod config;
#[cfg(feature = "kafka")]
mod control;
mod exit;
#[cfg(feature = "failpoints")]
mod failpoint;
pub mod foreign;
#[cfg(feature = "kafka")]
mod kafka_login;
mod logging;
mod output;
mod process;
mod report;
#[cfg(all(test, feature = "kafka"))]
mod shipped;
mod signals;
mod stream;

use std::io::{Write as _, stderr};
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::Env;
use crate::exit::{Exit, Failure};

/// Runs the program as the command line says, to its end.
pub fn run() -> ExitCode {
    let cli = cli::Cli::parse();
    // A variable that is not text cannot be one of ours.
    let env: Env =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    #[cfg(feature = "failpoints")]
    if let Err(refused) = failpoint::arm(&env) {
        let said = writeln!(stderr().lock(), "{refused}");
        debug_assert!(said.is_ok(), "a test reads what its process says");
        return Exit::Usage.into();
    }
    logging::start(cli.talk, env.get(logging::VARIABLE).map(String::as_str));
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the system gives no threads: {error}")))
        .and_then(|runtime| runtime.block_on(command::run(cli.command, &env)));
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // With stderr gone the exit code is all that is left to say.
            let said = writeln!(stderr().lock(), "{failure}");
            debug_assert!(said.is_ok() || failure.exit != Exit::Ok);
            failure.exit.into()
        }
    }
}
