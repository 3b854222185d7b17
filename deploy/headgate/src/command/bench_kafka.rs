//! `headgate bench kafka`: the whole way through a broker, measured and judged. It must not know how that is done; it
//! knows this program, the arguments and the report.
//!
//! The surprising thing: the report has a part that people write below what the command writes, and that part stays.

use std::fs;
use std::io::{Write as _, stderr, stdout};
use std::time::Duration;

use headgate_bench::attack::Machine;
use headgate_bench::throughput::{self, Options, Outcome};
use headgate_schemas::shutdown::Shutdown;
use serde_json::json;

use super::print_json;
use super::serve::drain;
use crate::cli::BenchKafka;
use crate::exit::{Exit, Failure};
use crate::signals::Signals;

/// What stands below this line of a report was written by people.
const BY_HAND: &str = "<!-- by hand -->";

/// Measures, prints what came of it, and says whether every promise was kept.
pub(super) async fn run(args: &BenchKafka) -> Result<Exit, Failure> {
    let failed = |error: anyhow::Error| Failure::failed(format!("bench: {error:#}"));
    let mut signals = Signals::listen()?;
    let folder = tempfile::Builder::new().prefix("headgate-bench-").tempdir()?;
    let options = Options {
        program: std::env::current_exe()?,
        script: fs::canonicalize(&args.broker)
            .map_err(|error| Failure::failed(format!("{}: {error}; name it with --broker", args.broker.display())))?,
        folder: folder.path().to_owned(),
        rate: args.rate,
        steady: Duration::from_secs(args.seconds.into()),
        away: Duration::from_secs(args.away.into()),
    };
    let machine = Machine::look();
    if machine.profile != "release" {
        writeln!(stderr(), "this is a debug build: its figures mean nothing (cargo run --release -- bench kafka)")?;
    }
    let shutdown = Shutdown::new(Duration::from_secs(10));
    let ended = tokio::select! {
        outcome = throughput::run(options.clone(), &shutdown) => outcome.map_err(failed),
        () = signals.next() => Err(Failure::failed("bench: interrupted")),
    };
    drain(&shutdown).await;
    let outcome = ended?;
    if args.json {
        print_json(&mut stdout(), &json!({ "machine": machine, "kept": outcome.kept(), "outcome": outcome }))?;
    } else {
        print(&outcome)?;
    }
    if let Some(file) = &args.report {
        let command =
            format!("headgate bench kafka --rate {} --seconds {} --away {}", args.rate, args.seconds, args.away);
        let kept = fs::read_to_string(file).ok().and_then(|text| Some(text.split_once(BY_HAND)?.1.to_owned()));
        let text = throughput::markdown(&machine, &command, &options, &outcome);
        let text = kept.map_or_else(|| text.clone(), |kept| format!("{text}\n{BY_HAND}{kept}"));
        fs::write(file, text).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
    }
    Ok(if outcome.kept() { Exit::Ok } else { Exit::Failed })
}

fn print(outcome: &Outcome) -> std::io::Result<()> {
    for (what, measured, bound, kept) in outcome.promises() {
        writeln!(stdout(), "{}  {what}: {measured} (bound {bound})", if kept { "kept  " } else { "broken" })?;
    }
    Ok(())
}
