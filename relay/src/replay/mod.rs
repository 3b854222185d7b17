//! Replay: changes of the past are put into the stream again, for the relay to fold once more.
//!
//! A job reads the stream from a place to where it ended when the job began, and appends what a filter wants at a limited
//! rate. Each change comes back with its own time and values, a new id that says what it is
//! ([`headgate_schemas::ChangeId::is_replayed`]) and the channel `replay`. So the relay treats it like any other that
//! comes late: what is older than what is known loses, and nothing is undone. Subscribers do not get it; they have a replay of their own.
//!
//! One job runs at a time. It lives in the state: whoever has that goes on with it, also after a restart; what was appended
//! and not written down yet is appended again under the same ids, which the relay drops. A job whose topic was deleted and
//! made again fails: what it had to read is gone. The surprising thing is the estimate: it is found by reading all of it,
//! because only that tells what a filter wants.

mod estimate;
mod job;

use std::collections::VecDeque;
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
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use estimate::{Cost, Estimate};

use crate::Relay;
use crate::admin::OpenSource;
use crate::config::{Guard, LinkConfig};
use crate::driver::{Busy, Handle};
use crate::engine::Recalled;
use crate::quota::Quotas;
use crate::store::{KeptRow, Shelf};
use crate::turn::{self, Owner, Turns};
use estimate::{Limits, Tally, Way};
use job::Reach;

/// Ended jobs that are remembered.
const REMEMBERED: usize = 20;
/// Most changes a second.
const RATE_MOST: u32 = 10_000;
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
    /// Another estimate is being made.
    #[error("another estimate is being made; try again in a moment")]
    Estimating,
    /// No job has that number.
    #[error("there is no replay {0}; the last {REMEMBERED} are remembered")]
    Unknown(u64),
    /// The program stops.
    #[error("the program is stopping")]
    Stopping,
    /// This process does not have the state, or the state cannot be written.
    #[error("the state cannot be written now; try again in a moment")]
    Busy,
}

impl From<Busy> for ReplayError {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

/// How a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It appends, or will once a relay has the state again.
    Running,
    /// It came to the end.
    Done,
    /// A person stopped it.
    Stopped,
    /// The stream failed.
    Failed,
}

/// A job as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its number.
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

/// The replays that the state knows.
#[derive(Clone)]
pub struct Replays(Arc<Inner>);

struct Inner {
    open: OpenSource,
    sink: Arc<dyn Sink>,
    links: Vec<LinkTargets>,
    quotas: Quotas,
    /// Distinct records that an estimate counts.
    estimate_records: usize,
    /// One estimate at a time: each reads the stream, and remembers every record of it up to that number.
    estimates: Semaphore,
    /// The newest first.
    jobs: Mutex<VecDeque<Job>>,
    /// One start or stop at a time.
    turns: Turns,
}

/// Whom a change of an object concerns.
struct LinkTargets {
    tenant: String,
    object: ObjectType,
    ways: Vec<Way>,
}

struct Job {
    view: Arc<Mutex<View>>,
    stop: CancellationToken,
    /// `None` when it had ended before this process had the state.
    task: Option<JoinHandle<()>>,
}

impl Job {
    fn is_running(&self) -> bool {
        self.view.lock().state == Phase::Running
    }
}

impl fmt::Debug for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replays").finish_non_exhaustive()
    }
}

/// How a member of a link is called; `None` where this version calls it not at all.
fn way(relay: &Relay, link: &LinkConfig, member: &str) -> Option<Way> {
    let (pack, conditional) = *relay.packs.get(member)?;
    let (read, write) = match (link.guard, conditional) {
        (Guard::None, _) => (None, pack.write),
        (Guard::Strict, true) => (Some(pack.read), 1),
        (Guard::Read, _) | (Guard::Strict, false) => (Some(pack.read), pack.write),
    };
    Some(Way { connection: member.to_owned(), read, write })
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
    /// Reads through `open`, appends to `sink`, and keeps its jobs in the state of `relay`. `links` are for estimates.
    pub fn new(
        open: OpenSource,
        sink: Arc<dyn Sink>,
        links: &[LinkConfig],
        relay: &Relay,
        shutdown: &Shutdown,
    ) -> Self {
        let links = links.iter().map(|link| LinkTargets {
            tenant: link.tenant.clone(),
            object: link.object.clone(),
            ways: link.members.iter().filter_map(|member| way(relay, link, member)).collect(),
        });
        let inner = Arc::new(Inner {
            open,
            sink,
            links: links.collect(),
            quotas: relay.quotas.clone(),
            estimate_records: relay.estimate_records,
            estimates: Semaphore::new(1),
            jobs: Mutex::default(),
            turns: Turns::new(relay.handle.clone(), shutdown.clone()),
        });
        shutdown.spawn("replays", turn::look_up(Arc::clone(&inner)));
        Self(inner)
    }

    /// Looks at what a job would do and changes nothing.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn estimate(&self, wish: &Wish) -> Result<Estimate, ReplayError> {
        let plan = wish.plan()?;
        let _alone = self.0.estimates.try_acquire().map_err(|_| ReplayError::Estimating)?;
        let mut reach = job::open(&self.0.open, plan.begin.clone(), None).await?;
        let mut tally =
            Tally::new(plan.rate, self.0.estimate_records, self.0.links.iter().map(|link| link.ways.clone()));
        let search = async {
            while let Some(page) = reach.page(job::PAGE).await? {
                for delivered in page.iter().filter(|delivered| plan.filter.wants(&delivered.record)) {
                    let record = &delivered.record;
                    tally.take(&record.key, record.len(), self.link_of(record));
                }
            }
            Ok::<_, StreamError>(true)
        };
        let is_through = tokio::select! {
            found = search => found?,
            () = tokio::time::sleep(SEARCH_MOST) => false,
            () = self.0.turns.shutdown().stopped() => return Err(ReplayError::Stopping),
        };
        if !is_through {
            tally.cut_short();
        }
        let now = time::now();
        let last = |connection: &str, window| self.0.quotas.last(connection, window, now);
        Ok(tally.end(|connection| Limits { burst: last(connection, "burst"), daily: last(connection, "daily") }))
    }

    fn link_of(&self, record: &Record) -> Option<usize> {
        let object = record.header("ce_subject")?.split_once('/')?.0;
        let tenant = record.header("ce_tenant")?;
        self.0.links.iter().position(|link| link.tenant == tenant && link.object.as_str() == object)
    }

    /// Starts a job, durable when this returns; started as well when nobody waits for that any more. It ends by itself
    /// where the stream ended when it began; a stop of the program only interrupts it.
    ///
    /// # Errors
    /// [`ReplayError::Running`] while another one runs.
    pub async fn start(&self, wish: &Wish, by: String) -> Result<View, ReplayError> {
        let (plan, filter) = (wish.plan()?, wish.filter.clone());
        let reach = job::open(&self.0.open, plan.begin.clone(), None).await?;
        turn::in_turn(&self.0, move |inner, epoch| async move {
            let new = inner.new_job(&plan, filter, &reach, by.clone())?;
            let shown = new.view.clone();
            let rows = inner.rows_for(&new)?;
            inner.turns.relay().keep(epoch, rows, Some((by, "replay.start")))?.await.map_err(|_| ReplayError::Busy)?;
            inner.run(epoch, new, plan, Some(reach));
            Ok(shown)
        })
        .await?
    }

    /// The jobs that are remembered, the newest first.
    pub fn list(&self) -> Vec<View> {
        self.0.jobs.lock().iter().map(|job| job.view.lock().clone()).collect()
    }

    /// One job.
    ///
    /// # Errors
    /// [`ReplayError::Unknown`].
    pub fn show(&self, id: u64) -> Result<View, ReplayError> {
        let all = self.list();
        all.into_iter().find(|view| view.id == id).ok_or(ReplayError::Unknown(id))
    }

    /// Stops a job after the changes it is appending, for good when this returns. One that has ended stays as it is.
    ///
    /// # Errors
    /// [`ReplayError::Unknown`]; [`ReplayError::Busy`] when the state cannot be written: it goes on at the next start.
    pub async fn stop(&self, id: u64) -> Result<View, ReplayError> {
        let ended = turn::in_turn(&self.0, move |inner, _| async move {
            let task = {
                let mut jobs = inner.jobs.lock();
                let job = jobs.iter_mut().find(|job| job.view.lock().id == id).ok_or(ReplayError::Unknown(id))?;
                job.stop.cancel();
                job.task.take()
            };
            if let Some(task) = task {
                // A task that failed has ended as well.
                drop(task.await);
            }
            Ok::<_, ReplayError>(())
        });
        ended.await??;
        let view = self.show(id)?;
        if view.state == Phase::Running { Err(ReplayError::Busy) } else { Ok(view) }
    }
}

impl Owner for Inner {
    const SHELF: Shelf = Shelf::Replay;

    fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Shows the jobs that the state knows, and goes on with the one that runs.
    async fn take_up(&self, recalled: &Recalled) {
        // Those of an earlier hold of the state end by themselves.
        let tasks: Vec<_> = self.jobs.lock().drain(..).filter_map(|job| job.task).collect();
        for task in tasks {
            drop(task.await);
        }
        let read = |(name, value): &(String, Vec<u8>)| {
            let memo: Option<Memo> = serde_json::from_slice(value).ok();
            if memo.is_none() {
                tracing::error!(replay = name, "what is kept of a replay cannot be read; it is not continued");
            }
            memo
        };
        let mut memos: Vec<Memo> = recalled.rows.iter().filter_map(read).collect();
        memos.sort_by_key(|memo| memo.view.id);
        for mut memo in memos {
            let plan = memo.plan();
            if memo.view.state == Phase::Running {
                match plan {
                    Ok(plan) => {
                        self.run(recalled.epoch, memo, plan, None);
                        continue;
                    }
                    Err(error) => {
                        memo.view.state = Phase::Failed;
                        memo.view.reason = Some(error.to_string());
                    }
                }
            }
            let job = Job { view: Arc::new(Mutex::new(memo.view)), stop: CancellationToken::new(), task: None };
            self.jobs.lock().push_front(job);
        }
    }
}

impl Inner {
    /// The next job, unless one runs.
    fn new_job(&self, plan: &Plan, filter: FilterText, reach: &Reach, by: String) -> Result<Memo, ReplayError> {
        let jobs = self.jobs.lock();
        if let Some(running) = jobs.iter().find(|job| job.is_running()) {
            return Err(ReplayError::Running(running.view.lock().id));
        }
        let started = time::now();
        let view = View {
            id: jobs.front().map_or(0, |job| job.view.lock().id) + 1,
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
        let topic = Some(reach.topic().to_owned());
        Ok(Memo { view, filter, topic, ends: reach.ends(), started: started.micros() })
    }

    /// The row of a new job, and those of the ones that are forgotten for it.
    fn rows_for(&self, memo: &Memo) -> Result<Vec<KeptRow>, ReplayError> {
        let mut jobs = self.jobs.lock();
        let stay = jobs.len().min(REMEMBERED - 1);
        let forgotten = jobs.split_off(stay);
        let mut rows = vec![memo.row().ok_or(ReplayError::Busy)?];
        rows.extend(forgotten.iter().map(|job| KeptRow {
            shelf: Shelf::Replay,
            name: job.view.lock().id.to_string(),
            value: None,
        }));
        Ok(rows)
    }

    /// Runs a job on the word of a worker.
    fn run(&self, epoch: u64, memo: Memo, plan: Plan, reach: Option<Reach>) {
        let Memo { view, filter, topic, ends, started } = memo;
        tracing::info!(replay = view.id, position = view.position, rate = view.rate, by = view.by, "a replay runs");
        let (view, stop) = (Arc::new(Mutex::new(view)), CancellationToken::new());
        let (relay, shown) = (self.turns.relay().clone(), Arc::clone(&view));
        let keeper = Keeper { relay, epoch, filter, topic, ends, started, view: shown };
        let work = job::Work {
            plan,
            open: Arc::clone(&self.open),
            sink: Arc::clone(&self.sink),
            started: Timestamp::from_micros(started),
            keeper,
        };
        let running = job::run(work, reach, stop.clone(), self.turns.shutdown().clone());
        let task = Some(self.turns.shutdown().spawn("replay", running));
        self.jobs.lock().push_front(Job { view, stop, task });
    }
}

/// What the state keeps of a job.
#[derive(Serialize, Deserialize)]
struct Memo {
    view: View,
    filter: FilterText,
    /// The id of the topic that the places are of; not known of a job that an earlier version began.
    #[serde(default)]
    topic: Option<String>,
    /// Where it ends, by partition.
    ends: Vec<u64>,
    /// By our clock in microseconds; makes the ids of what it appends.
    started: i64,
}

impl Memo {
    fn row(&self) -> Option<KeptRow> {
        let value = serde_json::to_vec(self).ok()?;
        Some(KeptRow { shelf: Shelf::Replay, name: self.view.id.to_string(), value: Some(value) })
    }

    /// How to go on.
    fn plan(&self) -> Result<Plan, ReplayError> {
        let from = self.view.position.clone();
        Wish { from, filter: self.filter.clone(), rate: self.view.rate }.plan()
    }
}

/// Keeps how a job is, on the word of the worker it runs under.
struct Keeper {
    relay: Handle,
    epoch: u64,
    filter: FilterText,
    topic: Option<String>,
    ends: Vec<u64>,
    started: i64,
    view: Arc<Mutex<View>>,
}

impl Keeper {
    /// Hands it to the state as it is shown. `None` when it cannot be taken now.
    fn keep(&self) -> Option<oneshot::Receiver<()>> {
        let view = self.view.lock().clone();
        self.keep_as(view)
    }

    /// Hands it to the state as it is to be shown once that is durable.
    fn keep_as(&self, view: View) -> Option<oneshot::Receiver<()>> {
        let (filter, ends) = (self.filter.clone(), self.ends.clone());
        let row = Memo { view, filter, topic: self.topic.clone(), ends, started: self.started }.row()?;
        self.relay.keep(self.epoch, vec![row], None).ok()
    }

    /// Resolves when another worker has the state, or nobody.
    async fn lost(&self) {
        let mut held = self.relay.held();
        // A relay that is gone has nothing any more.
        drop(held.wait_for(|held| held.is_none_or(|held| held.epoch != self.epoch)).await);
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
