//! `headgate bench`: measurements that judge. Here stands `bench gateway`, which attacks gateways in processes of their
//! own, and the hidden command that is such a process.
//!
//! The surprising thing: a gateway alone on the embedded stream is no way to run this program, since nobody would read
//! its stream. It exists here only, so that what is measured is the gateway and not the relay beside it.

use std::fs;
use std::io::{Read as _, Write as _, stderr, stdin, stdout};
use std::time::Duration;

use headgate_bench::attack::{self, Attack, Machine, Options, Outcome, Program};
use headgate_schemas::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::oneshot;

use super::print_json;
use super::serve::drain;
use crate::cli::{ALL_ATTACKS, BenchCommand, BenchGateway, BenchTarget};
use crate::config::{self, Env};
use crate::exit::{Exit, Failure};
use crate::report;
use crate::signals::Signals;
use crate::stream::Stream;

/// Runs one of the measurements.
pub(super) async fn run(command: BenchCommand, env: &Env) -> Result<Exit, Failure> {
    match command {
        BenchCommand::Gateway(args) => gateway(&args).await,
        #[cfg(feature = "kafka")]
        BenchCommand::Kafka(args) => super::bench_kafka::run(&args).await,
        BenchCommand::Target(args) => target(&args, env).await,
    }
}

/// Attacks gateways, prints what came of it, and says whether every promise was kept.
async fn gateway(args: &BenchGateway) -> Result<Exit, Failure> {
    let failed = |error: anyhow::Error| Failure::failed(format!("bench: {error:#}"));
    let mut signals = Signals::listen()?;
    let folder = tempfile::Builder::new().prefix("headgate-bench-").tempdir()?;
    let path = std::env::current_exe()?;
    let options = Options {
        program: Program { path, args: vec!["bench".to_owned(), "target".to_owned(), "--config".to_owned()] },
        folder: folder.path().to_owned(),
        time: Duration::from_secs(args.seconds.into()),
        rate: args.rate,
    };
    let machine = Machine::look();
    if machine.profile != "release" {
        writeln!(stderr(), "this is a debug build: its figures mean nothing (cargo run --release -- bench gateway)")?;
    }
    let attacks = attacks(&args.attack);
    let mut outcomes = Vec::with_capacity(attacks.len());
    for (nth, attack) in attacks.iter().enumerate() {
        writeln!(stderr(), "{} of {}: {attack}", nth + 1, attacks.len())?;
        let outcome = tokio::select! {
            outcome = attack::measure(*attack, &options) => outcome.map_err(failed)?,
            () = signals.next() => return Err(Failure::failed("bench: interrupted")),
        };
        outcomes.push(outcome);
    }
    let kept = outcomes.iter().all(Outcome::kept);
    if args.json {
        let all = json!({ "machine": machine, "seconds": args.seconds, "rate": args.rate, "kept": kept, "outcomes": outcomes });
        print_json(&mut stdout(), &all)?;
    } else {
        write!(stdout(), "{}", attack::table(&outcomes))?;
    }
    if let Some(file) = &args.report {
        let text = attack::markdown(&machine, &command_line(args), &options, &outcomes);
        fs::write(file, text).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
    }
    Ok(if kept { Exit::Ok } else { Exit::Failed })
}

/// The attacks that were named, in the order of a full run, each once.
fn attacks(names: &[String]) -> Vec<Attack> {
    let all = names.is_empty() || names.iter().any(|name| name == ALL_ATTACKS);
    let named = |attack: &Attack| all || names.iter().any(|name| name == attack.as_str());
    Attack::ALL.into_iter().filter(named).collect()
}

/// The command that makes the same measurement again.
fn command_line(args: &BenchGateway) -> String {
    let attacks: String = args.attack.iter().map(|name| format!(" --attack {name}")).collect();
    format!("headgate bench gateway{attacks} --seconds {} --rate {}", args.seconds, args.rate)
}

/// A gateway with its stream and nothing else, until standard input ends or a signal comes.
async fn target(args: &BenchTarget, env: &Env) -> Result<Exit, Failure> {
    let config = config::load(&args.config, env).map_err(|error| report::refused(&error))?;
    let mut signals = Signals::listen()?;
    let shutdown = Shutdown::new(config.grace);
    let stream = Stream::open(config.stream).await?;
    let gateway = headgate_gateway::start(config.gateway, stream.sink(), &mut Registry::default(), &shutdown)
        .await
        .map_err(|error| Failure::failed(format!("gateway: {error}")))?;
    writeln!(stdout(), "ready gateway=http://{}", gateway.local_addr())?;
    stdout().flush()?;
    tokio::select! {
        () = input_ended()? => {}
        () = signals.next() => {}
    }
    let drained = drain(&shutdown).await;
    // Closing joins threads, which blocks.
    let closed = tokio::task::spawn_blocking(move || stream.close(shutdown.grace())).await;
    Ok(if drained && matches!(closed, Ok(true)) { Exit::Ok } else { Exit::Failed })
}

/// Resolves when standard input ends: whoever holds its other end is gone or has enough.
fn input_ended() -> Result<impl Future<Output = ()>, Failure> {
    let (ended, waiting) = oneshot::channel();
    // A thread of its own, which nobody waits for: a read that is blocked would keep the runtime from ending.
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        stdin().read_to_end(&mut Vec::new()).ok();
        ended.send(()).ok();
    })?;
    Ok(async move {
        waiting.await.ok();
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_run_in_one_order_whatever_the_order_of_their_names() {
        let names = |names: &[&str]| attacks(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&[]), Attack::ALL);
        assert_eq!(names(&["slow", ALL_ATTACKS]), Attack::ALL);
        assert_eq!(names(&["overload", "slow", "overload"]), [Attack::Slow, Attack::Overload]);
    }
}
