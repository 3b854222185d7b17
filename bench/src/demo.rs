//! The core of the demonstration: run the load, follow the target, judge.
//!
//! It knows the two models and an address; what stands between them is not its business. The surprising thing: after
//! the last change is covered it goes on watching for a while, because duplicates and reorderings come after.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::check::{Checker, Verdict};
use crate::load::{Endpoint, Load, LoadOptions, LoadStats};
use crate::sim::hubspot::{EditRefused, Hubspot};
use crate::sim::salesforce::Salesforce;

/// How often the target's log is read and the progress told.
const LOOK: Duration = Duration::from_millis(100);

/// How a run is measured.
#[derive(Clone, Debug)]
pub struct MeasureOptions {
    /// The load.
    pub load: LoadOptions,
    /// From the first byte to the write.
    pub budget: Duration,
    /// Longest wait for the last changes after the load has ended.
    pub settle: Duration,
    /// How long the target must stay unwritten before the run is judged.
    pub quiet: Duration,
    /// See [`Checker::forgive_repeats`].
    pub forgive_repeats: bool,
}

impl Default for MeasureOptions {
    fn default() -> Self {
        Self {
            load: LoadOptions::default(),
            budget: Duration::from_secs(5),
            settle: Duration::from_secs(30),
            quiet: Duration::from_secs(1),
            forgive_repeats: false,
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Changes made so far.
    pub sent: u64,
    /// Changes answered with 2xx so far.
    pub accepted: u64,
    /// Changes covered by a write so far.
    pub delivered: u64,
    /// Changes covered per second, over the last second or so.
    pub rate: f64,
    /// 99 % of the changes took at most this long so far.
    pub p99_ms: f64,
}

/// A run could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The account refused a change of the plan.
    #[error("the load and the model disagree; this is a fault of the bench")]
    Refused(#[from] EditRefused),
    /// The target wrote more than its log holds.
    #[error("{0} writes did not fit into the target's log; raise `write_log` or send fewer changes")]
    LogFull(u64),
}

/// Runs a load against the gateway behind `endpoint` and judges what arrives in the target.
///
/// Cancel-safe in that dropping it stops the load's driver; posts under way end with the shutdown.
///
/// # Errors
/// When the run cannot be judged; a run with losses is a verdict, not an error.
pub async fn measure(
    hubspot: &Hubspot,
    salesforce: &Salesforce,
    endpoint: Endpoint,
    options: MeasureOptions,
    progress: &watch::Sender<Progress>,
    shutdown: &Shutdown,
) -> Result<Verdict, MeasureError> {
    let checker = Checker::new(options.budget);
    let checker = if options.forgive_repeats { checker.forgive_repeats() } else { checker };
    let checker = Arc::new(Mutex::new(checker));
    let seen = salesforce.writes_since(0).len();
    let mut watcher = Watcher { salesforce, checker: &checker, progress, seen, last: (Instant::now(), 0), rate: 0.0 };
    let load = Load::new(hubspot, endpoint, Arc::clone(&checker), options.load.in_flight, shutdown);
    let stats = follow(load, options.load, &mut watcher).await?;
    settle(&mut watcher, options.settle, options.quiet, shutdown).await;
    match salesforce.writes_dropped() {
        0 => Ok(checker.lock().verdict(stats.repeats_sent, stats.schedule_lag)),
        dropped => Err(MeasureError::LogFull(dropped)),
    }
}

struct Watcher<'a> {
    salesforce: &'a Salesforce,
    checker: &'a Mutex<Checker>,
    progress: &'a watch::Sender<Progress>,
    seen: usize,
    last: (Instant, u64),
    rate: f64,
}

impl Watcher<'_> {
    /// Reads what the target wrote since the last look; answers whether there was anything.
    fn look(&mut self) -> bool {
        let writes = self.salesforce.writes_since(self.seen);
        self.seen += writes.len();
        let mut checker = self.checker.lock();
        checker.observe(&writes);
        let (accepted, delivered) = checker.progress();
        let (sent, p99_ms) = (checker.planned(), checker.latency().quantile_ms(0.99));
        drop(checker);
        let passed = self.last.0.elapsed();
        if passed >= Duration::from_secs(1) {
            self.rate = (delivered - self.last.1) as f64 / passed.as_secs_f64();
            self.last = (Instant::now(), delivered);
        }
        self.progress.send_replace(Progress { sent, accepted, delivered, rate: self.rate, p99_ms });
        !writes.is_empty()
    }
}

/// Runs the load to its end while following the target.
async fn follow(load: Load, options: LoadOptions, watcher: &mut Watcher<'_>) -> Result<LoadStats, EditRefused> {
    let mut running = pin!(load.run(options));
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            stats = running.as_mut() => return stats,
            _ = looks.tick() => drop(watcher.look()),
        }
    }
}

/// Follows the target until all is covered and quiet, at most for the given time.
async fn settle(watcher: &mut Watcher<'_>, longest: Duration, quiet: Duration, shutdown: &Shutdown) {
    let start = Instant::now();
    let mut written = start;
    loop {
        if watcher.look() {
            written = Instant::now();
        }
        let settled = watcher.checker.lock().is_settled() && written.elapsed() >= quiet;
        if settled || start.elapsed() >= longest {
            return;
        }
        tokio::select! {
            () = shutdown.stopped() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
