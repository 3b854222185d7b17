//! `headgate serve`: the whole program in one process. The order of starting stands here and nowhere else: the stream,
//! then what writes to it and what reads it, then the line that says so; stopping goes the other way round.

use std::io::{Write as _, stdout};
use std::sync::Arc;

use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::Sink;
use headgate_schemas::stream::embedded::Embedded;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::ServeArgs;
use crate::config::{self, Config, Env, StreamConfig};
use crate::exit::{Exit, Failure};
use crate::report;

/// Reads the configuration, starts everything, and runs until a signal.
pub(super) async fn run(args: &ServeArgs, env: &Env) -> Result<Exit, Failure> {
    let mut config = config::load(&args.config, env).map_err(|error| report::refused(&error))?;
    report::warn(&config.warnings)?;
    config.warnings.clear();
    let mut signals = Signals::listen()?;
    let shutdown = Shutdown::new(config.grace);
    let parts = match start(config, &shutdown).await {
        Ok(parts) => parts,
        Err(failure) => {
            // What was started before the part that failed must not outlive it.
            drain(&shutdown).await;
            return Err(failure);
        }
    };
    writeln!(stdout(), "{}", parts.ready)?;
    stdout().flush()?;
    tracing::info!("{}", parts.ready);
    signals.next().await;
    tracing::info!(grace_s = shutdown.grace().as_secs(), "stopping: finishing what is open");
    let drained = tokio::select! {
        drained = drain(&shutdown) => drained,
        () = signals.next() => {
            tracing::warn!("stopped at once by a second signal");
            false
        }
    };
    Ok(if drained { Exit::Ok } else { Exit::Failed })
}

/// What runs.
struct Parts {
    /// The line that tells where.
    ready: String,
}

/// Starts the parts in order.
async fn start(config: Config, shutdown: &Shutdown) -> Result<Parts, Failure> {
    let mut metrics = Registry::default();
    let StreamConfig::Embedded(stream) = config.stream;
    let stream = Embedded::open(stream).map_err(|error| Failure::failed(format!("stream: {error}")))?;
    let sink: Arc<dyn Sink> = Arc::new(stream);
    let gateway = headgate_gateway::start(config.gateway, sink, &mut metrics, shutdown)
        .await
        .map_err(|error| Failure::failed(format!("gateway: {error}")))?;
    Ok(Parts { ready: format!("ready gateway=http://{}", gateway.local_addr()) })
}

/// Stops every task; tells whether all of them ended in time.
async fn drain(shutdown: &Shutdown) -> bool {
    match shutdown.drain().await {
        Ok(()) => true,
        Err(cut) => {
            tracing::error!(cut, "the grace period ran out: open work was cut");
            false
        }
    }
}

/// SIGTERM and SIGINT, as one.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| Failure::failed(format!("signals cannot be received: {error}")));
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    /// Waits for the next one. Cancel-safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
