//! `headgate demo`: simulated CRMs, the whole program on temporary data, load as HubSpot sends it, and a table of what
//! came of it. Nothing has to be installed or running, and nothing is left behind.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::path::Path;
use std::time::Duration;

use headgate_bench::check::Verdict;
use headgate_bench::demo::{MeasureOptions, Progress, measure};
use headgate_bench::load::{Endpoint, LoadOptions};
use headgate_bench::report::table;
use headgate_bench::sim::hooks::RetryPlan;
use headgate_bench::sim::hubspot::{Hubspot, HubspotOptions};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceOptions};
use headgate_schemas::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::Instant;

use super::serve::drain;
use crate::cli::DemoArgs;
use crate::config::{self, Config, Env};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::process::{self, Role};
use crate::signals::Signals;

/// Path of the demo's endpoint; the demo is reachable from this machine only.
const KEY: &str = "demo-endpoint-on-loopback";
const SECRET: &str = "demo-secret-of-the-simulated-app";
/// How often the picture is drawn on a terminal, and a line is printed elsewhere.
const DRAW: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(2);

/// Runs the demo.
pub(super) async fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let shutdown = Shutdown::new(Duration::from_secs(10));
    let folder = tempfile::Builder::new().prefix("headgate-demo-").tempdir()?;
    let ended = tokio::select! {
        ended = show(args, folder.path(), &shutdown) => ended,
        () = signals.next() => Err(Failure::failed("demo: interrupted")),
    };
    let (running, verdict) = match ended {
        Ok(ended) => ended,
        Err(failure) => {
            drain(&shutdown).await;
            return Err(failure);
        }
    };
    if args.json {
        writeln!(stdout(), "{}", json(&verdict))?;
    } else {
        writeln!(stdout(), "\n{}", table(&verdict))?;
    }
    stdout().flush()?;
    if args.stay {
        let mut talk = stderr();
        writeln!(talk, "still running: {}", running.ready_line())?;
        writeln!(talk, "look around with: headgate record list --admin http://{}  (Ctrl-C ends it)", running.admin)?;
        signals.next().await;
    }
    let drained = drain(&shutdown).await;
    let closed = running.close(Duration::ZERO).await;
    Ok(if verdict.is_clean() && drained && closed { Exit::Ok } else { Exit::Failed })
}

/// Starts everything and runs the load.
async fn show(args: &DemoArgs, folder: &Path, shutdown: &Shutdown) -> Result<(process::Running, Verdict), Failure> {
    let model = |error| Failure::failed(format!("demo: a model of a CRM does not start: {error}"));
    // The model's burst limit is that of a real account; the demo shows the program, not the account's plan.
    let hubspot = HubspotOptions { burst: None, ..HubspotOptions::default() };
    let hubspot = Hubspot::start(hubspot, shutdown).await.map_err(model)?;
    let salesforce = Salesforce::start(SalesforceOptions::default(), shutdown).await.map_err(model)?;
    let config = configuration(folder, &hubspot.base_url(), &salesforce.base_url())?;
    let started = Instant::now();
    let running = process::start(Role::Serve, config, shutdown).await?;
    let ready_ms = started.elapsed().as_millis();
    let Some(gateway) = running.gateway() else {
        return Err(Failure::failed("demo: the process has no gateway"));
    };
    writeln!(stderr(), "ready in {ready_ms} ms: gateway http://{gateway}, admin http://{}", running.admin)?;
    writeln!(
        stderr(),
        "simulated HubSpot {} → headgate → simulated Salesforce {}\n",
        hubspot.base_url(),
        salesforce.base_url()
    )?;

    let seconds = u64::from(args.seconds.unwrap_or(10));
    let load = LoadOptions {
        changes: args.changes.unwrap_or_else(|| u64::from(args.rate) * seconds),
        rate: f64::from(args.rate),
        longest: args.seconds.map(|s| Duration::from_secs(u64::from(s))),
        seed: args.seed,
        ..LoadOptions::default()
    };
    let endpoint = Endpoint {
        url: format!("http://{gateway}/in/hubspot/{KEY}"),
        secret: SECRET.to_owned(),
        retry: RetryPlan::default(),
        answers: Default::default(),
    };
    let (progress, watched) = watch::channel(Progress::default());
    let total = load.changes;
    let options = MeasureOptions { load, ..MeasureOptions::default() };
    let measured = measure(&hubspot, &salesforce, endpoint, options, &progress, shutdown);
    let verdict = tokio::select! {
        verdict = measured => verdict.map_err(|error| Failure::failed(format!("demo: {error}")))?,
        failure = draw(watched, total) => return Err(failure),
    };
    clear_line()?;
    Ok((running, verdict))
}

/// The configuration of the demo, through the same door as any other.
fn configuration(folder: &Path, hubspot: &str, salesforce: &str) -> Result<Config, Failure> {
    let link = |object: &str| {
        format!(
            "[[link]]\nname = \"{object}\"\ntenant = \"demo\"\nobject = \"{object}\"\n\
             members = [\"hubspot\", \"salesforce\"]\nprimary = \"salesforce\"\npolicy = {{ default = \"last_write\" }}\n"
        )
    };
    let text = format!(
        r#"
[gateway]
listen = "127.0.0.1:0"
grace = "10s"
[admin]
listen = "127.0.0.1:0"
[[connection]]
name = "hubspot"
tenant = "demo"
system = "hubspot"
account = "5550123"
base_url = "{hubspot}"
auth = {{ kind = "bearer", token_env = "DEMO_TOKEN" }}
[[connection]]
name = "salesforce"
tenant = "demo"
system = "salesforce"
account = "00D5g000000ABCDEA4"
base_url = "{salesforce}"
auth = {{ kind = "bearer", token_env = "DEMO_TOKEN" }}
poll = "off"
[[endpoint]]
name = "hubspot"
key = "{KEY}"
provider = "hubspot"
connection = "hubspot"
secret_env = "DEMO_SECRET"
{}{}{}"#,
        link("contact"),
        link("company"),
        link("deal"),
    );
    let env: Env = [("DEMO_TOKEN", "demo-token"), ("DEMO_SECRET", SECRET)]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    config::parse(&text, folder, &env).map_err(|(faults, _)| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Failure::failed(format!("demo: its own configuration is refused: {}", faults.join("; ")))
    })
}

/// Draws the progress until it is dropped. Ends only when stderr cannot be written.
async fn draw(progress: watch::Receiver<Progress>, total: u64) -> Failure {
    let terminal = stderr().is_terminal();
    let mut frames = tokio::time::interval(if terminal { DRAW } else { LINE });
    let colour = output::colour(terminal);
    loop {
        frames.tick().await;
        let now = *progress.borrow();
        let line = if terminal {
            format!("\r{}\x1b[K", picture(&now, total, colour))
        } else {
            format!("{}\n", sentence(&now))
        };
        if let Err(error) = stderr().write_all(line.as_bytes()).and_then(|()| stderr().flush()) {
            return error.into();
        }
    }
}

/// One line with a bar: the dark part is sent, the bright part is written.
fn picture(now: &Progress, total: u64, colour: bool) -> String {
    const WIDTH: u64 = 30;
    let cells = |n: u64| usize::try_from(n.min(total) * WIDTH / total.max(1)).unwrap_or(0);
    let (written, sent) = (cells(now.delivered), cells(now.sent).max(cells(now.delivered)));
    let (done, under_way) = ("█".repeat(written), "▒".repeat(sent - written));
    let rest = "·".repeat(usize::try_from(WIDTH).unwrap_or(0) - sent);
    let done = output::paint(colour, output::Colour::Green, &done);
    format!("{done}{under_way}{rest} {}", sentence(now))
}

fn sentence(now: &Progress) -> String {
    format!(
        "{:>6} sent  {:>6} accepted  {:>6} written  {:>5.0}/s  p99 {:>5.0} ms",
        now.sent, now.accepted, now.delivered, now.rate, now.p99_ms
    )
}

fn clear_line() -> std::io::Result<()> {
    if stderr().is_terminal() { stderr().write_all(b"\r\x1b[K") } else { Ok(()) }
}

fn json(verdict: &Verdict) -> String {
    serde_json::to_string(verdict).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}
