//! The gateway measured while it is attacked, and judged by what is promised of it.
//!
//! Each attack has a gateway of its own: a process of the same program on temporary data, on loopback. Valid traffic
//! runs twice, in quiet and beside the attack, so that what a busy machine costs is in both figures. Afterwards the
//! gateway is stopped and its stream is read: what was accepted must be there, what nobody may accept must not.
//!
//! | file | holds |
//! |---|---|
//! | `subject`, `machine`, `cores` | the process, and what it runs on |
//! | `call`, `wire`, `traffic` | signed calls, connections, valid traffic |
//! | `hostile` | the attackers |
//! | `tally`, `stream` | what came of it |
//! | `outcome`, `report` | figures and promises; tables |
//!
//! The surprising thing: generator and gateway share the machine. So the generator is bounded (connections are kept,
//! attacks have rates), and latencies hold the generator's own waits as well: they are upper bounds. Only the overload
//! gives each of them cores of its own, because there the generator would take what is measured: what is left of the
//! capacity.

mod call;
mod cores;
mod hostile;
mod machine;
mod outcome;
mod report;
mod stream;
mod subject;
mod tally;
mod traffic;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{bail, ensure};
use headgate_schemas::shutdown::Shutdown;
use tokio::time::{Instant, sleep};

use self::call::{ACCOUNTS, Calls, FORGED};
use self::cores::Divided;
use self::hostile::Target;
pub use self::machine::Machine;
pub use self::outcome::{Figures, Outcome, Promise};
pub use self::report::{markdown, table};
pub use self::subject::Program;
use self::subject::Subject;
pub(crate) use self::subject::cpu_of;
use self::tally::{Kept, Tally, Told};
use self::traffic::{Packing, Senders};

/// Connections of valid traffic.
const SENDERS: u32 = 64;
/// Connections of the account that floods.
const FLOODERS: u32 = 64;
/// Verified requests a second of one account while one of them floods.
const ACCOUNT_RATE: u32 = 200;
/// Phases that are compared with each other take turns so often.
const TURNS: u32 = 4;
/// Places of the gateway that is overloaded. What waits for its turn there is answered late, so they are few.
const PLACES: u32 = 64;
/// Connections with which its capacity is measured: enough to keep it busy, and none is refused.
const CAPACITY_SENDERS: u32 = PLACES / 2;
/// Connections of the overload: enough to send everything that is due while refusals are held back.
const OVERLOAD_SENDERS: u32 = 8_192;
/// How much more than the capacity is due.
const OVERLOAD: f64 = 5.0;
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// Longest wait until an attack is under way.
const BUILD_UP: Duration = Duration::from_secs(60);
/// Open files that everything else needs beside the connections of the idle attack, or of the overload.
const OTHER_FILES: u64 = 1_000;

/// What is done to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Nothing: what valid traffic costs by itself.
    None,
    /// Slow headers, slow bodies, answers that are not read.
    Slow,
    /// Ten thousand connections that say nothing.
    Idle,
    /// Bursts of a hundred requests on one connection.
    Pipelined,
    /// Valid calls hidden behind framings that can be read in two ways.
    Smuggled,
    /// HTTP/2 requests that are taken back at once.
    Resets,
    /// Huge, deep and endless bodies, some of them signed.
    Bombs,
    /// A hundred thousand calls with wrong signatures.
    WrongSignatures,
    /// One of a thousand accounts sends as fast as it is answered.
    NoisyAccount,
    /// Five times as much as the gateway can take.
    Overload,
}

impl Attack {
    /// All of them, in the order of a full run.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::Slow,
        Self::Idle,
        Self::Pipelined,
        Self::Smuggled,
        Self::Resets,
        Self::Bombs,
        Self::WrongSignatures,
        Self::NoisyAccount,
        Self::Overload,
    ];

    /// Its name on the command line and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Slow => "slow",
            Self::Idle => "idle",
            Self::Pipelined => "pipelined",
            Self::Smuggled => "smuggled",
            Self::Resets => "resets",
            Self::Bombs => "bombs",
            Self::WrongSignatures => "wrong-signatures",
            Self::NoisyAccount => "noisy-account",
            Self::Overload => "overload",
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// What starts a gateway.
    pub program: Program,
    /// An empty folder for its data.
    pub folder: PathBuf,
    /// How long each of the two phases takes.
    pub time: Duration,
    /// Valid requests a second.
    pub rate: u32,
}

/// Measures one attack. Everything it started has ended when it returns.
///
/// # Errors
/// When the gateway does not start, or this machine cannot make the attack.
pub async fn measure(attack: Attack, options: &Options) -> anyhow::Result<Outcome> {
    let connections = match attack {
        Attack::Idle => hostile::IDLE,
        Attack::Overload => OVERLOAD_SENDERS.into(),
        _ => 0,
    };
    let (needed, files) = (connections + OTHER_FILES, machine::open_files().unwrap_or(u64::MAX));
    ensure!(
        files >= needed,
        "this attack needs {needed} open files and this process may have {files}; run `ulimit -n {needed}` first"
    );
    let limits = match attack {
        Attack::NoisyAccount => format!("endpoint_rate = {ACCOUNT_RATE}"),
        Attack::Overload => format!("requests = {PLACES}"),
        _ => String::new(),
    };
    let divided = if attack == Attack::Overload { Divided::begin()? } else { None };
    let (program, folder) = (options.program.clone(), options.folder.join(attack.as_str()));
    let (divided, subject) = tokio::task::spawn_blocking(move || {
        let start = || Subject::start(&program, &folder, &call::configuration(&limits));
        let subject = match &divided {
            Some(divided) => divided.start(start),
            None => start(),
        };
        subject.map(|subject| (divided, subject))
    })
    .await??;
    let tasks = Shutdown::new(Duration::from_secs(20));
    let run = Run { attack, options, subject, tasks, numbers: Arc::default() };
    let (subject, mut seen) = run.phases().await?;
    drop(divided);
    seen.memory_peak = subject.memory_peak()?;
    let (clean, log) = tokio::task::spawn_blocking(move || subject.stop()).await??;
    seen.clean = clean;
    let numbers = stream::numbers(&log).await?;
    let accepted = seen.accepted();
    seen.kept = Kept::compare(numbers.into_iter(), &accepted, FORGED);
    Ok(Outcome::of(attack, &seen))
}

/// One attack on one gateway.
struct Run<'a> {
    attack: Attack,
    options: &'a Options,
    subject: Subject,
    tasks: Shutdown,
    numbers: Arc<AtomicU64>,
}

/// Everything that was counted.
#[derive(Debug, Default)]
struct Seen {
    /// Valid traffic alone, and beside the attack; with the time of the gateway on a core.
    quiet: Phase,
    attacked: Phase,
    /// Of the account that floods.
    flood: Tally,
    told: tally::Counts,
    memory_peak: u64,
    /// A valid call afterwards was accepted.
    served: bool,
    /// The gateway ended as one should.
    clean: bool,
    kept: Kept,
    /// Accepted in the warm-up and at the end.
    beside: Tally,
}

/// One phase.
#[derive(Debug, Default)]
struct Phase {
    tally: Tally,
    cpu: Duration,
}

impl Seen {
    /// Numbers of all events that were accepted.
    fn accepted(&self) -> Vec<std::ops::Range<u64>> {
        let all = [&self.quiet.tally, &self.attacked.tally, &self.flood, &self.beside];
        all.into_iter().flat_map(|tally| tally.accepted.iter().cloned()).collect()
    }
}

impl Run<'_> {
    /// Warms up, measures, and sees whether the gateway still serves.
    async fn phases(self) -> anyhow::Result<(Subject, Seen)> {
        let mut seen = Seen::default();
        let senders = self.senders(2..=ACCOUNTS, (SENDERS, Packing::MIXED));
        seen.beside.add(senders.by_schedule(f64::from(self.options.rate), WARM_UP).await);
        match self.attack {
            Attack::NoisyAccount => self.noise(&senders, &mut seen).await?,
            Attack::Overload => self.overload(&mut seen).await?,
            _ => self.attack(&senders, &mut seen).await?,
        }
        seen.served = senders.is_served(&mut seen.beside).await;
        if let Err(cut) = self.tasks.drain().await {
            bail!("{cut} tasks of the generator did not end");
        }
        Ok((self.subject, seen))
    }

    fn senders(&self, accounts: std::ops::RangeInclusive<u64>, how: (u32, Packing)) -> Arc<Senders> {
        Senders::new(self.subject.address, accounts, how, &self.numbers, &self.tasks)
    }

    /// How long each of the two phases takes.
    fn time(&self) -> Duration {
        self.options.time.max(hostile::least_time(self.attack))
    }

    /// Counts one phase, with what it cost the gateway.
    async fn phase(&self, traffic: impl Future<Output = Tally>) -> anyhow::Result<Phase> {
        let cpu = self.subject.cpu()?;
        let tally = traffic.await;
        Ok(Phase { tally, cpu: self.subject.cpu()? - cpu })
    }

    /// Quiet, then beside the attackers.
    async fn attack(&self, senders: &Arc<Senders>, seen: &mut Seen) -> anyhow::Result<()> {
        let (rate, time) = (f64::from(self.options.rate), self.time());
        seen.quiet = self.phase(senders.by_schedule(rate, time)).await?;
        let attackers = Shutdown::new(Duration::from_secs(20));
        let told = Arc::new(Told::default());
        let address = self.subject.address;
        let target = Target { address, calls: Calls::new(address), time, told: Arc::clone(&told) };
        hostile::start(self.attack, &target, &attackers);
        let began = Instant::now();
        while !hostile::is_under_way(self.attack, &told) {
            ensure!(began.elapsed() < BUILD_UP, "the attack cannot be built up: {:?}", told.counts());
            sleep(Duration::from_millis(50)).await;
        }
        seen.attacked = self.phase(senders.by_schedule(rate, time)).await?;
        seen.told = told.counts();
        if let Err(cut) = attackers.drain().await {
            bail!("{cut} attackers did not end");
        }
        Ok(())
    }

    /// The first account floods and rests by turns; the figures are of the others.
    async fn noise(&self, senders: &Arc<Senders>, seen: &mut Seen) -> anyhow::Result<()> {
        let (rate, time) = (f64::from(self.options.rate), self.time() / TURNS);
        let flooders = self.senders(1..=1, (FLOODERS, Packing::MIXED));
        for _ in 0..TURNS {
            seen.quiet.add(self.phase(senders.by_schedule(rate, time)).await?);
            let both = async {
                let (others, flood) = tokio::join!(senders.by_schedule(rate, time), flooders.as_fast_as_answered(time));
                seen.flood.add(flood);
                others
            };
            let noisy = self.phase(both).await?;
            seen.attacked.add(noisy);
        }
        Ok(())
    }

    /// As much as is answered and five times that, by turns. Calls are full, so that one costs the gateway much more to
    /// accept than to refuse and the generator little to send: everything that is due can be sent.
    async fn overload(&self, seen: &mut Seen) -> anyhow::Result<()> {
        let time = self.options.time / TURNS;
        let most = self.senders(2..=ACCOUNTS, (CAPACITY_SENDERS, Packing::FULL));
        let crowd = self.senders(2..=ACCOUNTS, (OVERLOAD_SENDERS, Packing::FULL));
        for _ in 0..TURNS {
            seen.quiet.add(self.phase(most.as_fast_as_answered(time)).await?);
            let capacity = &seen.quiet.tally;
            let due = capacity.accepted_requests() as f64 / capacity.accepting.as_secs_f64() * OVERLOAD;
            seen.attacked.add(self.phase(crowd.by_schedule(due, time)).await?);
        }
        Ok(())
    }
}

impl Phase {
    fn add(&mut self, other: Self) {
        self.tally.add(other.tally);
        self.cpu += other.cpu;
    }
}
