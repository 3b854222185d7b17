//! The whole way through a real Kafka broker, measured: how long a webhook waits for its answer while everything shares
//! this machine, and how soon the relay has read what gathered while it was away.
//!
//! Gateway and relay are processes of their own, the broker is Apache's, the models of the CRMs and the load are here.
//! The surprising thing: the load never pauses. Whoever comes back to a stream of 5,000 changes a second has to read
//! faster than that to arrive; *back* means less behind than comes in a tenth of a second. What was read is not written
//! yet: that comes later, and is told beside it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use headgate_schemas::shutdown::Shutdown;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::attack::{Machine, cpu_of};
use crate::broker::Broker;
use crate::check::Verdict;
use crate::demo::{MeasureOptions, Progress, measure};
use crate::latency::Latency;
use crate::load::{Endpoint, LoadOptions};
use crate::sim::hooks::RetryPlan;
use crate::sim::hubspot::{Hubspot, HubspotOptions};
use crate::sim::salesforce::{Salesforce, SalesforceOptions};

/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(15);
/// The load goes on for so long when the relay is back.
const TAIL: Duration = Duration::from_secs(20);
/// Longest wait for what is open when the load has ended.
const SETTLE: Duration = Duration::from_secs(120);
/// Between two looks at how far the relay is. For each of them the relay asks the broker, which costs what is measured here.
const LOOK: Duration = Duration::from_millis(100);
/// Changes that make a record, of all: people edit more than they create.
const CREATES: f64 = 0.05;
/// What an answer may take.
const ACK_MS: f64 = 150.0;
/// How long the relay may be behind when it is back.
const BACK_S: f64 = 10.0;
/// Changes in the stream that the relay has not read.
const LAG: &str = "relay_lag_events ";
/// Deliveries that it has to make of what it read.
const OPEN: &str = "relay_deliveries_open ";
/// What the load makes records of.
const OBJECTS: [&str; 3] = ["contacts", "companies", "deals"];
const KEY: &str = "bench-endpoint-on-loopback";
const SECRET: &str = "bench-secret-of-the-simulated-app";

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// This program.
    pub program: PathBuf,
    /// What starts a broker.
    pub script: PathBuf,
    /// For everybody's data.
    pub folder: PathBuf,
    /// Changes per second.
    pub rate: u32,
    /// How long answers are measured.
    pub steady: Duration,
    /// How long the relay is away.
    pub away: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Half of the posts were answered in this time, tries again included.
    pub ack_p50_ms: f64,
    /// The same for 99 %.
    pub ack_p99_ms: f64,
    /// Posts measured.
    pub acks: u64,
    /// Cores that gateway, relay, broker, and load with models kept busy meanwhile.
    pub cores: [f64; 4],
    /// Records in the stream that the relay had not read when it was back.
    pub behind: u64,
    /// From the relay's line until it was no longer behind; `None` when it still was after the load and its end.
    pub back_s: Option<f64>,
    /// From the relay's line until no more deliveries were open than come in a second; `None` when there were more to
    /// the end.
    pub through_s: Option<f64>,
    /// Records that all changes were made in.
    pub records: usize,
    /// What the checker says of all changes.
    pub verdict: Verdict,
}

impl Outcome {
    /// Each promise, what was measured, the bound, and whether it was kept.
    pub fn promises(&self) -> [(&'static str, String, String, bool); 3] {
        let wrong = self.verdict.lost + self.verdict.duplicated + self.verdict.reordered;
        let back = self.back_s.map_or_else(|| "not in this run".to_owned(), |s| format!("{s:.1} s"));
        [
            ("99 % of the posts are answered in", ms(self.ack_p99_ms), ms(ACK_MS), self.ack_p99_ms <= ACK_MS),
            (
                "the relay has read what gathered in",
                back,
                format!("{BACK_S} s"),
                self.back_s.is_some_and(|s| s <= BACK_S),
            ),
            ("changes lost, duplicated or reordered", wrong.to_string(), "0".to_owned(), self.verdict.is_clean()),
        ]
    }

    /// Whether every promise was kept.
    pub fn kept(&self) -> bool {
        self.promises().iter().all(|(.., kept)| *kept)
    }
}

fn ms(ms: f64) -> String {
    format!("{ms:.1} ms")
}

/// Runs it.
///
/// # Errors
/// When something does not start or cannot be judged; a broken promise is an outcome.
pub async fn run(options: Options, shutdown: &Shutdown) -> anyhow::Result<Outcome> {
    let (script, data) = (options.script.clone(), options.folder.join("kafka"));
    let broker = tokio::task::spawn_blocking(move || Broker::start(&script, &data, None)).await??;
    let hubspot = HubspotOptions { burst: None, ..HubspotOptions::default() };
    let hubspot = Hubspot::start(hubspot, shutdown).await?;
    let salesforce =
        Salesforce::start(SalesforceOptions { daily: u64::MAX, ..SalesforceOptions::default() }, shutdown).await?;
    let text = configuration(&broker.address(), &hubspot.base_url(), &salesforce.base_url());
    let (program, folder) = (options.program.clone(), options.folder.clone());
    let parts = tokio::task::spawn_blocking(move || Parts::start(program, folder, &text)).await??;
    let answers: Arc<Mutex<Latency>> = Arc::default();
    let endpoint = Endpoint {
        url: format!("{}/in/hubspot/{KEY}", parts.gateway.said("gateway=")?),
        secret: SECRET.to_owned(),
        retry: RetryPlan::default(),
        answers: Arc::clone(&answers),
    };
    let load = LoadOptions {
        changes: u64::MAX,
        rate: f64::from(options.rate),
        longest: Some(WARM_UP + options.steady + options.away + TAIL),
        create_share: CREATES,
        ..LoadOptions::default()
    };
    let measured = MeasureOptions { load, settle: SETTLE, forgive_repeats: true, ..MeasureOptions::default() };
    let (progress, _) = watch::channel(Progress::default());
    let watched = async { Ok(measure(&hubspot, &salesforce, endpoint, measured, &progress, shutdown).await?) };
    let (verdict, seen) = tokio::try_join!(watched, conduct(&options, parts, &answers, &broker))?;
    let Seen { steady, cores, behind, back_s, through_s, .. } = &seen;
    Ok(Outcome {
        ack_p50_ms: steady.quantile_ms(0.5),
        ack_p99_ms: steady.quantile_ms(0.99),
        acks: steady.len(),
        cores: *cores,
        behind: *behind,
        back_s: *back_s,
        through_s: *through_s,
        records: OBJECTS.iter().map(|object| hubspot.ids(object).len()).sum(),
        verdict,
    })
}

/// What is seen while the load runs.
struct Seen {
    steady: Latency,
    cores: [f64; 4],
    behind: u64,
    back_s: Option<f64>,
    through_s: Option<f64>,
    /// Both go on until everything is judged.
    _parts: Parts,
}

/// Measures in quiet, takes the relay away, and brings it back.
async fn conduct(
    options: &Options,
    mut parts: Parts,
    answers: &Mutex<Latency>,
    broker: &Broker,
) -> anyhow::Result<Seen> {
    sleep(WARM_UP).await;
    drop(std::mem::take(&mut *answers.lock()));
    let processes = [parts.gateway.child.id(), parts.relay.child.id(), broker.process(), std::process::id()];
    let (before, since) = (processes.map(cpu_of), Instant::now());
    sleep(options.steady).await;
    let steady = std::mem::take(&mut *answers.lock());
    let passed = since.elapsed().as_secs_f64();
    let mut cores = [0.0; 4];
    for (n, (before, after)) in before.into_iter().zip(processes.map(cpu_of)).enumerate() {
        cores[n] = (after? - before?).as_secs_f64() / passed;
    }
    parts = tokio::task::spawn_blocking(move || parts.end_relay()).await??;
    sleep(options.away).await;
    parts = tokio::task::spawn_blocking(move || parts.start_relay()).await??;
    let since = Instant::now();
    let metrics = format!("{}/metrics", parts.relay.said("admin=")?);
    let [behind, _] = read_metrics(&metrics, [LAG, OPEN]).await?;
    let (mut back_s, mut through_s) = (None, None);
    while (back_s.is_none() || through_s.is_none()) && since.elapsed() < TAIL + SETTLE {
        sleep(LOOK).await;
        let [lag, open] = read_metrics(&metrics, [LAG, OPEN]).await?;
        if back_s.is_none() && lag <= u64::from(options.rate / 10) {
            back_s = Some(since.elapsed().as_secs_f64());
        }
        // What waits in the stream is not due yet.
        if back_s.is_some() && through_s.is_none() && open <= u64::from(options.rate) {
            through_s = Some(since.elapsed().as_secs_f64());
        }
    }
    Ok(Seen { steady, cores, behind, back_s, through_s, _parts: parts })
}

/// Numbers that the relay tells of itself.
async fn read_metrics<const N: usize>(url: &str, names: [&str; N]) -> anyhow::Result<[u64; N]> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(Request::get(url).body(Empty::new())?).await?;
    let text = answer.into_body().collect().await?.to_bytes();
    let text = std::str::from_utf8(&text)?;
    let mut found = [0; N];
    for (found, name) in found.iter_mut().zip(names) {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        *found = line.trim().parse()?;
    }
    Ok(found)
}

/// A gateway and a relay.
struct Parts {
    program: PathBuf,
    folder: PathBuf,
    gateway: Process,
    relay: Process,
}

struct Process {
    child: Child,
    line: String,
}

impl Parts {
    /// Writes the configuration, makes the topic, and starts both.
    fn start(program: PathBuf, folder: PathBuf, configuration: &str) -> anyhow::Result<Self> {
        std::fs::write(folder.join("headgate.toml"), configuration)?;
        let checked = command(&program, &folder).args(["check", "headgate.toml", "--online"]).output()?;
        ensure!(checked.status.success(), "no topic: {}", String::from_utf8_lossy(&checked.stdout));
        let gateway = Process::start(&program, &folder, "gateway")?;
        let relay = Process::start(&program, &folder, "relay")?;
        Ok(Self { program, folder, gateway, relay })
    }

    /// Asks the relay to drain.
    fn end_relay(mut self) -> anyhow::Result<Self> {
        let child = &mut self.relay.child;
        let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        ensure!(told.success() && child.wait()?.success(), "the relay did not drain");
        Ok(self)
    }

    fn start_relay(mut self) -> anyhow::Result<Self> {
        self.relay = Process::start(&self.program, &self.folder, "relay")?;
        Ok(self)
    }
}

impl Process {
    fn start(program: &Path, folder: &Path, role: &str) -> anyhow::Result<Self> {
        let mut child = command(program, folder)
            .args([role, "--config", "headgate.toml"])
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(folder.join("log"))?)
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let process = Self { child, line: line.trim_end().to_owned() };
        if !process.line.starts_with("ready ") {
            bail!("the {role} did not start:\n{}", std::fs::read_to_string(folder.join("log"))?);
        }
        Ok(process)
    }

    /// An address in its line.
    fn said(&self, what: &str) -> anyhow::Result<String> {
        let part = self.line.split(' ').find_map(|part| part.strip_prefix(what));
        Ok(part.with_context(|| format!("no {what} in {:?}", self.line))?.to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is well.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    let secrets = [("BENCH_TOKEN", "bench-token"), ("BENCH_SECRET", SECRET)];
    command.env_clear().envs(secrets).current_dir(folder).stdin(Stdio::null());
    command
}

fn configuration(brokers: &str, hubspot: &str, salesforce: &str) -> String {
    let connection = |name: &str, account: &str, base_url: &str| {
        format!(
            "[[connection]]\nname = \"{name}\"\ntenant = \"bench\"\nsystem = \"{name}\"\naccount = \"{account}\"\n\
             base_url = \"{base_url}\"\npoll = \"off\"\nauth = {{ kind = \"bearer\", token_env = \"BENCH_TOKEN\" }}\n"
        )
    };
    let link = |object: &str| {
        format!(
            "[[link]]\nname = \"{object}\"\ntenant = \"bench\"\nobject = \"{object}\"\n\
             members = [\"hubspot\", \"salesforce\"]\nprimary = \"salesforce\"\npolicy = {{ default = \"last_write\" }}\n"
        )
    };
    format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [stream]\nengine = \"kafka\"\nbrokers = \"{brokers}\"\nreplication = 1\nmin_in_sync = 1\n\
         {}{}\
         [[endpoint]]\nname = \"hubspot\"\nkey = \"{KEY}\"\nprovider = \"hubspot\"\nconnection = \"hubspot\"\n\
         secret_env = \"BENCH_SECRET\"\n\
         {}{}{}",
        connection("hubspot", "5550123", hubspot),
        connection("salesforce", "00D5g000000ABCDEA4", salesforce),
        link("contact"),
        link("company"),
        link("deal"),
    )
}

/// The report: machine, command, figures, promises.
pub fn markdown(machine: &Machine, command: &str, options: &Options, outcome: &Outcome) -> String {
    let Machine { processor, cores, memory_gib, kernel, commit, profile } = machine;
    let Options { rate, steady, away, .. } = options;
    let [gateway, relay, broker, load] = outcome.cores;
    let mut out = format!(
        "# Through Apache Kafka\n\n\
         Made by `{command}`; do not edit this part.\n\n\
         {cores} cores of {processor}, {memory_gib} GiB, Linux {kernel}; commit {commit}, {profile} build. {rate} changes \
         a second by schedule, {} % of them new records, repeats and disorder as in the demo. Broker (Apache's, one node), \
         gateway, relay, load and the models of both CRMs share the cores. Answers are measured over {} s, from when a \
         post begins until it is taken; then the relay is away for {} s while the load goes on, and is back when it is \
         less behind than comes in a tenth of a second.\n\n\
         | promise | measured | bound | |\n|---|---|---|---|\n",
        CREATES * 100.0,
        steady.as_secs(),
        away.as_secs(),
    );
    for (what, measured, bound, kept) in outcome.promises() {
        let kept = if kept { "kept" } else { "**broken**" };
        say(&mut out, format_args!("| {what} | {measured} | {bound} | {kept} |\n"));
    }
    let Verdict { sent, accepted, delivered, .. } = &outcome.verdict;
    say(
        &mut out,
        format_args!(
            "\n{} posts measured, half of them answered in {}. Cores busy meanwhile: gateway {gateway:.2}, relay \
             {relay:.2}, broker {broker:.2}, load and models {load:.2}. When the relay was back, {} records waited. Of \
             {sent} changes, made in {} records, {accepted} were taken and {delivered} stand in the other CRM. No more \
             deliveries were open than come in a second: {} after the relay was back.\n",
            outcome.acks,
            ms(outcome.ack_p50_ms),
            outcome.behind,
            outcome.records,
            outcome.through_s.map_or_else(|| "not until the load ended,".to_owned(), |s| format!("{s:.1} s")),
        ),
    );
    out
}

fn say(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "text takes any text");
}
