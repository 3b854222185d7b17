//! The load: users of the HubSpot model make changes, and their webhooks are posted to a gateway.
//!
//! Open loop: a step is due by schedule, whether or not earlier posts are answered; how far the generator itself fell
//! behind is measured and told. The surprising thing: lateness and repeats are made here on purpose, by holding an
//! event back while newer ones go out, and by posting it again.

mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::time;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::check::{Checker, PAIRINGS};
use crate::latency::Latency;
use crate::sim::hooks::{Poster, RetryPlan};
use crate::sim::hubspot::{EditRefused, Hubspot, HubspotEdit, WebhookEvent};
pub use plan::LoadOptions;
use plan::{Edit, Planner, Step, fillers};

/// Events that wait to be posted late or again; when all places are taken an event goes out at once, or once.
const HELD: usize = 100_000;

/// Where the webhooks go.
#[derive(Clone)]
pub struct Endpoint {
    /// Address of the endpoint, as the gateway knows itself.
    pub url: String,
    /// The app's client secret.
    pub secret: String,
    /// When a refused post is tried again.
    pub retry: RetryPlan,
    /// How long each post took until it was taken.
    pub answers: Arc<Mutex<Latency>>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What the load itself can tell about a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadStats {
    /// Changes made.
    pub made: u64,
    /// Changes posted again after they had been posted.
    pub repeats_sent: u64,
    /// Changes whose post was refused to the end.
    pub given_up: u64,
    /// How far the generator fell behind its schedule at worst.
    pub schedule_lag: Duration,
}

/// A run of the load that can be watched while it goes on.
#[derive(Debug)]
pub struct Load {
    hubspot: Hubspot,
    sender: Arc<Sender>,
    ids: HashMap<usize, u64>,
    slots: Arc<Semaphore>,
    held: Arc<Semaphore>,
    in_flight: u32,
    shutdown: Shutdown,
}

#[derive(Debug)]
struct Sender {
    endpoint: Endpoint,
    poster: Poster,
    checker: Arc<Mutex<Checker>>,
    repeats: AtomicU64,
    given_up: AtomicU64,
    stop: Shutdown,
}

impl Load {
    /// A load on a HubSpot account; the checker hears of every change before it is made.
    pub fn new(
        hubspot: &Hubspot,
        endpoint: Endpoint,
        checker: Arc<Mutex<Checker>>,
        in_flight: usize,
        shutdown: &Shutdown,
    ) -> Self {
        let sender = Sender {
            endpoint,
            poster: Poster::new(),
            checker,
            repeats: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            stop: shutdown.clone(),
        };
        let in_flight = u32::try_from(in_flight.max(1)).unwrap_or(u32::MAX).min(1 << 20);
        Self {
            hubspot: hubspot.clone(),
            sender: Arc::new(sender),
            ids: HashMap::new(),
            slots: Arc::new(Semaphore::new(in_flight as usize)),
            held: Arc::new(Semaphore::new(HELD)),
            in_flight,
            shutdown: shutdown.clone(),
        }
    }

    /// Runs the plan to its end and waits until every post is answered or given up.
    ///
    /// # Errors
    /// When the account refuses a change, which means that the plan and the model disagree.
    pub async fn run(mut self, options: LoadOptions) -> Result<LoadStats, EditRefused> {
        let start = Instant::now();
        let mut stats = LoadStats::default();
        for step in Planner::new(options) {
            let due = start + step.due;
            tokio::select! {
                () = self.shutdown.stopped() => break,
                () = tokio::time::sleep_until(due) => {}
            }
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { break };
            stats.schedule_lag = stats.schedule_lag.max(due.elapsed());
            stats.made += step.edits.len() as u64;
            self.step(step, slot)?;
        }
        // Holding every place means that no task holds one: all posts are done.
        let _held = self.held.acquire_many(HELD as u32).await;
        let _slots = self.slots.acquire_many(self.in_flight).await;
        stats.repeats_sent = self.sender.repeats.load(Ordering::Relaxed);
        stats.given_up = self.sender.given_up.load(Ordering::Relaxed);
        Ok(stats)
    }

    fn step(&mut self, step: Step, slot: OwnedSemaphorePermit) -> Result<(), EditRefused> {
        let mut array = Vec::with_capacity(step.edits.len());
        for edit in step.edits {
            let event = self.make(&edit)?;
            let posted = (edit.seq, event);
            if let Some(wait) = edit.repeat {
                self.hold(wait.max(edit.late.unwrap_or_default()), posted.clone(), true);
            }
            let late = edit.late.filter(|wait| self.hold(*wait, posted.clone(), false));
            if late.is_none() {
                array.push(posted);
            }
        }
        if !array.is_empty() {
            let sender = Arc::clone(&self.sender);
            let _task = self.shutdown.spawn("load-post", async move {
                sender.deliver(array, false).await;
                drop(slot);
            });
        }
        Ok(())
    }

    /// Makes one change as a user and answers its event.
    fn make(&mut self, edit: &Edit) -> Result<WebhookEvent, EditRefused> {
        let pairing = &PAIRINGS[edit.pairing];
        self.sender.checker.lock().plan(edit.seq, edit.record, pairing, &edit.values);
        let object = pairing.source.to_owned();
        let values = edit.values.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
        let mut values: BTreeMap<String, String> = values.collect();
        let change = match self.ids.get(&edit.record) {
            Some(id) if !edit.create => HubspotEdit::Update { object, id: *id, values },
            _ => {
                values.extend(fillers(edit.pairing).iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
                HubspotEdit::Create { object, id: None, values }
            }
        };
        let edited = self.hubspot.edit(change)?;
        self.ids.insert(edit.record, edited.id);
        let nothing =
            || EditRefused { status: 200, category: "NO_EVENT".into(), message: "the change made no event".into() };
        edited.events.into_iter().next().ok_or_else(nothing)
    }

    /// Posts an event on its own after a wait. False when too many are held already.
    fn hold(&self, wait: Duration, posted: (u64, WebhookEvent), again: bool) -> bool {
        let Ok(place) = Arc::clone(&self.held).try_acquire_owned() else { return false };
        let (sender, stop) = (Arc::clone(&self.sender), self.shutdown.clone());
        let _task = self.shutdown.spawn("load-held", async move {
            tokio::select! {
                () = stop.stopped() => {}
                () = tokio::time::sleep(wait) => sender.deliver(vec![posted], again).await,
            }
            drop(place);
        });
        true
    }
}

impl Sender {
    /// Posts an array until it is taken or given up.
    async fn deliver(&self, mut posted: Vec<(u64, WebhookEvent)>, again: bool) {
        let now = time::now();
        {
            let mut checker = self.checker.lock();
            posted.iter().filter(|_| !again).for_each(|(seq, _)| checker.posted(*seq, now));
        }
        if again {
            self.repeats.fetch_add(posted.len() as u64, Ordering::Relaxed);
        }
        let Endpoint { url, secret, retry, answers } = &self.endpoint;
        let begun = Instant::now();
        for attempt in 0..=retry.retries {
            if attempt > 0 {
                posted.iter_mut().for_each(|(_, event)| event.attempt_number = attempt);
                tokio::select! {
                    () = self.stop.stopped() => break,
                    () = tokio::time::sleep(retry.wait(attempt)) => {}
                }
            }
            let events: Vec<WebhookEvent> = posted.iter().map(|(_, e)| e.clone()).collect();
            if self.poster.post_events(url, secret, &events).await {
                answers.lock().record(begun.elapsed());
                let mut checker = self.checker.lock();
                posted.iter().for_each(|(seq, _)| checker.accepted(*seq));
                return;
            }
        }
        if !again {
            self.given_up.fetch_add(posted.len() as u64, Ordering::Relaxed);
        }
    }
}
