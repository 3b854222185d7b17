//! `headgate serve`, `gateway` and `relay`: the whole program or a half of it in one process, from its configuration to a
//! signal. What starts in which order stands in `process`.

use std::io::{Write as _, stdout};
use std::time::Instant;

use headgate_schemas::shutdown::Shutdown;

use crate::cli::ServeArgs;
use crate::config::{self, Env};
use crate::exit::{Exit, Failure};
use crate::process::{self, Role};
use crate::report;
use crate::signals::{Hangups, Signals};

/// Reads the configuration, starts the parts of `role`, and runs until a signal.
pub(super) async fn run(role: Role, args: &ServeArgs, env: &Env) -> Result<Exit, Failure> {
    let mut config = config::load(&args.config, env).map_err(|error| report::refused(&error))?;
    report::warn(&config.warnings)?;
    config.warnings.clear();
    let (mut signals, mut hangups) = (Signals::listen()?, Hangups::listen()?);
    let shutdown = Shutdown::new(config.grace);
    let parts = match process::start(role, config, &shutdown).await {
        Ok(parts) => parts,
        Err(failure) => {
            // What was started before the part that failed must not outlive it.
            drain(&shutdown).await;
            return Err(failure);
        }
    };
    let ready = parts.ready_line();
    writeln!(stdout(), "{ready}")?;
    stdout().flush()?;
    tracing::info!("{ready}");
    loop {
        tokio::select! {
            () = signals.next() => break,
            () = hangups.next() => parts.look_again().await,
        }
    }
    let stopped = Instant::now();
    tracing::info!(grace_s = shutdown.grace().as_secs(), "stopping: finishing what is open");
    let drained = tokio::select! {
        drained = drain(&shutdown) => drained,
        () = signals.next() => {
            tracing::warn!("stopped at once by a second signal");
            false
        }
    };
    let closed = parts.close(shutdown.grace().saturating_sub(stopped.elapsed())).await;
    Ok(if drained && closed { Exit::Ok } else { Exit::Failed })
}

/// Stops every task; tells whether all of them ended in time.
pub(super) async fn drain(shutdown: &Shutdown) -> bool {
    match shutdown.drain().await {
        Ok(()) => true,
        Err(cut) => {
            tracing::error!(cut, "the grace period ran out: open work was cut");
            false
        }
    }
}
