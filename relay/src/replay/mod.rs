//! Replay: changes of the past are put into the stream again, for the relay to fold once more.
//!
//! A job reads the stream from a place to where it ended when the job began, and appends what a filter wants at a limited
//! rate. Each change comes back with its own time and values, a new id that says what it is
//! ([`headgate_schemas::ChangeId::is_replayed`]) and the channel `replay`. So the relay treats it like any other that
//! comes late: what is older than what is known loses, and nothing is undone. Subscribers do not get it; they have a replay of their own.
//!
//! One job runs at a time and lives in memory: a restart ends it, and what it appended stays. The surprising thing is the
//! estimate: it is found by reading all of it, because only that tells what a filter wants.

mod job;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::change::Channel;
use headgate_schemas::contract::{self, Record};
use headgate_schemas::filter::{Filter, FilterText, InvalidFilter};
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Begin, BeginError, InvalidBegin, Sink, StreamError};
use headgate_schemas::{ObjectType, Timestamp, time};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::admin::OpenSource;
use crate::config::LinkConfig;

/// Ended jobs that are remembered.
const REMEMBERED: usize = 20;
/// Most changes a second.
const RATE_MOST: u32 = 10_000;
/// Most distinct records that an estimate counts; beyond it they are "at least".
const RECORDS_MOST: usize = 1_000_000;
/// Longest search of an estimate; what it found by then is "at least".
const SEARCH_MOST: Duration = Duration::from_secs(20);

/// What is to be replayed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Where to begin: a time, a position or the start.
    pub from: String,
    /// Which changes.
    #[serde(default)]
    pub filter: FilterText,
    /// Changes a second.
    #[serde(default = "rate")]
    pub rate: u32,
}

const fn rate() -> u32 {
    50
}

/// A wish that was understood.
#[derive(Clone, Debug)]
struct Plan {
    begin: Begin,
    filter: Filter,
    rate: u32,
}

/// Why nothing is replayed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReplayError {
    /// `from` means nothing.
    #[error(transparent)]
    From(#[from] InvalidBegin),
    /// The filter means nothing.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// The rate is out of range.
    #[error("rate is from 1 to {RATE_MOST} changes a second")]
    Rate,
    /// The stream does not hold that place.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// Reading or appending failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Another job runs.
    #[error("replay {0} is running; wait for its end, or stop it")]
    Running(u64),
    /// No job has that number.
    #[error("there is no replay {0}; the last {REMEMBERED} are remembered")]
    Unknown(u64),
    /// The program stops.
    #[error("the program is stopping")]
    Stopping,
}

/// What a replay would do, found by reading what it would read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Changes.
    pub changes: u64,
    /// Their bytes in the stream.
    pub bytes: u64,
    /// Distinct records.
    pub records: u64,
    /// How long it takes at the rate that was asked for.
    pub seconds: u64,
    /// Everything was looked at; otherwise the numbers are the least.
    pub complete: bool,
    /// What it can cost at each target.
    pub targets: Vec<Cost>,
}

/// What a replay can cost at one target. Most changes cost nothing: what is known already is not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// The connection.
    pub connection: String,
    /// Records that may have to be read and written once there, at most.
    pub records_at_most: u64,
}

/// How a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It appends.
    Running,
    /// It came to the end.
    Done,
    /// A person or the end of the program stopped it.
    Stopped,
    /// The stream failed.
    Failed,
}

/// A job as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// Its number since the program started.
    pub id: u64,
    /// How it is.
    pub state: Phase,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it began.
    pub from: String,
    /// Changes a second.
    pub rate: u32,
    /// Changes put into the stream again.
    pub replayed: u64,
    /// Changes looked at.
    pub read: u64,
    /// Where it reads on: a stopped job is continued by a new one from here.
    pub position: String,
    /// Who started it.
    pub by: String,
    /// When it began.
    pub started: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// The replays of a process.
#[derive(Clone)]
pub struct Replays(Arc<Inner>);

struct Inner {
    open: OpenSource,
    sink: Arc<dyn Sink>,
    links: Vec<LinkTargets>,
    shutdown: Shutdown,
    jobs: Mutex<Jobs>,
}

/// Whom a change of an object concerns.
struct LinkTargets {
    tenant: String,
    object: ObjectType,
    members: Vec<String>,
}

#[derive(Default)]
struct Jobs {
    last: u64,
    all: VecDeque<Job>,
}

struct Job {
    view: Arc<Mutex<View>>,
    stop: tokio_util::sync::CancellationToken,
}

impl fmt::Debug for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replays").finish_non_exhaustive()
    }
}

impl Wish {
    fn plan(&self) -> Result<Plan, ReplayError> {
        let (begin, mut filter) = (self.from.parse()?, self.filter.filter()?);
        if !(1..=RATE_MOST).contains(&self.rate) {
            return Err(ReplayError::Rate);
        }
        // What was replayed once is in the stream twice; it is replayed from its original.
        filter.replayed = false;
        Ok(Plan { begin, filter, rate: self.rate })
    }
}

impl Replays {
    /// Reads through `open`, appends to `sink`. `links` are for estimates.
    pub fn new(open: OpenSource, sink: Arc<dyn Sink>, links: &[LinkConfig], shutdown: &Shutdown) -> Self {
        let links = links.iter().map(|link| LinkTargets {
            tenant: link.tenant.clone(),
            object: link.object.clone(),
            members: link.members.clone(),
        });
        let (links, shutdown) = (links.collect(), shutdown.clone());
        Self(Arc::new(Inner { open, sink, links, shutdown, jobs: Mutex::default() }))
    }

    /// Looks at what a job would do and changes nothing.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn estimate(&self, wish: &Wish) -> Result<Estimate, ReplayError> {
        let plan = wish.plan()?;
        let mut reach = job::open(&self.0.open, plan.begin.clone()).await?;
        let mut estimate = Estimate { complete: true, ..Estimate::default() };
        let mut records = HashSet::new();
        let mut by_link = vec![HashSet::new(); self.0.links.len()];
        let search = async {
            while let Some(page) = reach.page().await? {
                for delivered in page.iter().filter(|delivered| plan.filter.wants(&delivered.record)) {
                    let record = &delivered.record;
                    estimate.changes += 1;
                    estimate.bytes += record.len() as u64;
                    if records.len() >= RECORDS_MOST {
                        estimate.complete = false;
                        continue;
                    }
                    records.insert(record.key.clone());
                    if let Some(link) = self.link_of(record) {
                        by_link[link].insert(record.key.clone());
                    }
                }
            }
            Ok::<_, StreamError>(())
        };
        tokio::select! {
            found = search => found?,
            () = tokio::time::sleep(SEARCH_MOST) => estimate.complete = false,
            () = self.0.shutdown.stopped() => return Err(ReplayError::Stopping),
        }
        estimate.records = records.len() as u64;
        estimate.seconds = estimate.changes.div_ceil(u64::from(plan.rate));
        estimate.targets = self.costs(&by_link);
        Ok(estimate)
    }

    fn link_of(&self, record: &Record) -> Option<usize> {
        let object = record.header("ce_subject")?.split_once('/')?.0;
        let tenant = record.header("ce_tenant")?;
        self.0.links.iter().position(|link| link.tenant == tenant && link.object.as_str() == object)
    }

    fn costs(&self, by_link: &[HashSet<String>]) -> Vec<Cost> {
        let mut costs: Vec<Cost> = Vec::new();
        for (link, records) in self.0.links.iter().zip(by_link).filter(|(_, records)| !records.is_empty()) {
            for member in &link.members {
                let more = records.len() as u64;
                match costs.iter_mut().find(|cost| cost.connection == *member) {
                    Some(cost) => cost.records_at_most += more,
                    None => costs.push(Cost { connection: member.clone(), records_at_most: more }),
                }
            }
        }
        costs
    }

    /// Starts a job. It ends by itself where the stream ended when it began.
    ///
    /// # Errors
    /// [`ReplayError::Running`] while another one runs.
    pub async fn start(&self, wish: &Wish, by: String) -> Result<View, ReplayError> {
        let plan = wish.plan()?;
        let reach = job::open(&self.0.open, plan.begin.clone()).await?;
        let started = time::now();
        let (view, stop) = {
            let mut jobs = self.0.jobs.lock();
            if let Some(running) = jobs.all.iter().map(|job| job.view.lock()).find(|v| v.state == Phase::Running) {
                return Err(ReplayError::Running(running.id));
            }
            jobs.last += 1;
            let view = View {
                id: jobs.last,
                state: Phase::Running,
                reason: None,
                from: plan.begin.to_string(),
                rate: plan.rate,
                replayed: 0,
                read: 0,
                position: reach.position(),
                by,
                started: started.to_string(),
                ended: None,
            };
            let (view, stop) = (Arc::new(Mutex::new(view)), tokio_util::sync::CancellationToken::new());
            jobs.all.push_front(Job { view: Arc::clone(&view), stop: stop.clone() });
            jobs.all.truncate(REMEMBERED);
            (view, stop)
        };
        let shown = view.lock().clone();
        tracing::info!(replay = shown.id, from = shown.from, rate = shown.rate, by = shown.by, "a replay begins");
        let work = job::Work { plan, sink: Arc::clone(&self.0.sink), view, started };
        let shutdown = self.0.shutdown.clone();
        self.0.shutdown.spawn("replay", job::run(work, reach, stop, shutdown));
        Ok(shown)
    }

    /// The jobs since the program started, the newest first.
    pub fn list(&self) -> Vec<View> {
        self.0.jobs.lock().all.iter().map(|job| job.view.lock().clone()).collect()
    }

    /// One job.
    ///
    /// # Errors
    /// [`ReplayError::Unknown`].
    pub fn show(&self, id: u64) -> Result<View, ReplayError> {
        let all = self.list();
        all.into_iter().find(|view| view.id == id).ok_or(ReplayError::Unknown(id))
    }

    /// Stops a job after the changes it is appending. One that has ended stays as it is.
    ///
    /// # Errors
    /// [`ReplayError::Unknown`].
    pub fn stop(&self, id: u64) -> Result<View, ReplayError> {
        let jobs = self.0.jobs.lock();
        let job = jobs.all.iter().find(|job| job.view.lock().id == id).ok_or(ReplayError::Unknown(id))?;
        job.stop.cancel();
        let view = job.view.lock().clone();
        Ok(view)
    }
}

/// A change as it comes back: its own time and values, under an id that run `started` gives it, received now.
///
/// # Errors
/// When the record is no change; it is left out then.
pub fn again(record: &Record, started: Timestamp, now: Timestamp) -> Result<Record, contract::DecodeError> {
    let mut change = contract::decode(record)?;
    change.id = change.id.replayed(started);
    change.channel = Channel::Replay;
    change.received_at = now;
    Ok(contract::encode(&change)?)
}
