//! The task of one subscription: stream in, calls out, and where it stands kept in the relay's state. Rules of order and
//! retries are the backlog's; what an answer means is `post`'s.
//!
//! Only the worker that has the state sends: each call is made within its lease, and where the subscription stands is
//! kept on its word. When the state goes to another worker, or comes back, everything here is thrown away and read again.
//!
//! Nothing is served before a place and the id of its topic are durable. From then on whatever is opened again, however
//! soon, finds a place to go on from, and knows when another topic has taken that one's place.
//!
//! The surprising thing is what a crash repeats: where the subscription stands is written at most twice a second, so the
//! deliveries since then are made again, under the same `webhook-id`.
//!
//! | file | holds |
//! |---|---|
//! | `place` | where it stands: reopened, lost, kept |
//! | `order` | what a person orders |
//! | `show` | how it is |

mod order;
mod place;
mod show;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{BeginError, Delivered, Source, StreamError};
use headgate_schemas::{Timestamp, event, time};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backlog::{Answer, Backlog, Disabled, Memo};
use super::post::{Outcome, Poster};
use super::sign::Key;
use super::{Asked, Called, Metrics, Pace, Standing, SubscriptionConfig, View};
use crate::admin::OpenSource;
use crate::driver::Handle;
use crate::engine::{Held, micros};
use crate::store::Shelf;
use place::{hand_over, stand};

/// Records fetched at once.
const PAGE: usize = 200;
/// Between two writes of where the subscription stands, and between two tries of anything that failed inside.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// Longest sleep.
const IDLE: Duration = Duration::from_secs(5);

/// What a subscription is made of.
pub(super) struct Parts {
    pub(super) config: SubscriptionConfig,
    /// What signs its calls: those of the configuration, until others take their place.
    pub(super) keys: watch::Receiver<Vec<Key>>,
    pub(super) pace: Pace,
    pub(super) poster: Poster,
    pub(super) relay: Handle,
    pub(super) open: OpenSource,
    pub(super) metrics: Metrics,
    pub(super) view: Arc<Mutex<View>>,
    pub(super) shutdown: Shutdown,
    /// The subscription was taken away.
    pub(super) ended: CancellationToken,
}

/// A call under way: its lane and what came of it.
type Open = BoxFuture<'static, (String, Outcome)>;

struct Runner {
    parts: Parts,
    /// The worker on whose word all of this rests.
    epoch: u64,
    held: watch::Receiver<Option<Held>>,
    /// `None` while it has to be opened again.
    source: Option<Box<dyn Source>>,
    backlog: Backlog,
    /// What is kept beside the backlog's own part.
    memo: Memo,
    calls: FuturesUnordered<Open>,
    /// What the last failed attempt came to.
    told: Option<String>,
    /// Something changed since the last write.
    dirty: bool,
    saved: Instant,
    saving: Option<oneshot::Receiver<()>>,
    /// Waits for the open calls to end; nothing is sent or read meanwhile.
    rewind: Option<Asked>,
    dice: fastrand::Rng,
}

/// What happened.
enum Event {
    Stopped,
    Asked(Asked),
    Settled(Option<(String, Outcome)>),
    Saved(bool),
    Read(Result<Vec<Delivered>, StreamError>),
    Woken,
}

/// Serves the subscription until it is taken away or the program stops.
pub(super) async fn run(parts: Parts, mut asked: mpsc::Receiver<Asked>) {
    let ended = parts.ended.clone();
    let _guest = parts.relay.guest();
    tokio::select! {
        () = ended.cancelled() => {}
        () = serve(parts, &mut asked) => {}
    }
}

async fn serve(mut parts: Parts, asked: &mut mpsc::Receiver<Asked>) {
    let stop = parts.shutdown.clone();
    loop {
        let mut runner = tokio::select! {
            () = stop.stopped() => return,
            runner = Runner::open(parts) => runner,
        };
        let (name, position) = (runner.parts.config.name.as_str(), runner.backlog.cursor());
        tracing::info!(subscription = name, %position, "the subscription is served");
        while runner.is_held() || !runner.calls.is_empty() {
            if !runner.turn(asked).await {
                return;
            }
        }
        let name = runner.parts.config.name.as_str();
        tracing::info!(subscription = name, "this relay has the state no more; the subscription rests");
        parts = runner.parts;
        parts.view.lock().state = Standing::Starting;
    }
}

impl Runner {
    /// Opens it where it stands, once this process has the state, trying again until that works.
    async fn open(parts: Parts) -> Self {
        let mut held = parts.relay.held();
        loop {
            if held.wait_for(Option::is_some).await.is_err() {
                // The engine is gone for good, and with it the program's run.
                return std::future::pending().await;
            }
            match Self::try_open(&parts).await {
                Ok((epoch, source, backlog, memo)) => {
                    let seed = u64::try_from(time::now().micros()).unwrap_or(0);
                    return Self {
                        source: Some(source),
                        backlog,
                        memo,
                        calls: FuturesUnordered::new(),
                        told: None,
                        dirty: true,
                        saved: Instant::now(),
                        saving: None,
                        rewind: None,
                        dice: fastrand::Rng::with_seed(seed),
                        epoch,
                        held,
                        parts,
                    };
                }
                Err(problem) => {
                    let name = parts.config.name.as_str();
                    tracing::warn!(subscription = name, problem, "the subscription cannot be opened; trying again");
                }
            }
            tokio::time::sleep(SAVE_EVERY).await;
        }
    }

    async fn try_open(parts: &Parts) -> Result<(u64, Box<dyn Source>, Backlog, Memo), String> {
        let recalled = parts.relay.recall(Shelf::Subscription, Some(&parts.config.name)).await;
        let recalled = recalled.ok_or("the state cannot be read now")?;
        let memo = recalled.rows.first().map(|(_, bytes)| Memo::decode(bytes)).transpose();
        let memo = memo.map_err(|_| "what it kept is of another version; use the newer program")?;
        let (open, begin) = (Arc::clone(&parts.open), parts.config.begin.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let source = open()?;
            let backlog = match &memo {
                Some(memo) => Backlog::resume(memo, source.numbers_across()),
                None => Backlog::new(begin.cursor(source.as_ref())?),
            };
            Ok::<_, BeginError>((source, backlog, memo.unwrap_or_default()))
        });
        let (source, mut backlog, mut memo) =
            opened.await.map_err(|_| "the program is stopping".to_owned())?.map_err(|error| error.to_string())?;
        let stood = stand(source, memo.topic.as_deref(), &mut backlog).await;
        let (source, loss) = stood.map_err(|error| error.to_string())?;
        loss.enter(&mut memo);
        let topic = Some(source.topic().id);
        if memo.topic != topic {
            memo.topic = topic;
            let durable = hand_over(parts, recalled.epoch, &mut memo, &backlog, None);
            let durable = durable.ok_or("the state cannot take where it stands now")?;
            durable.await.map_err(|_| "where it stands could not be written")?;
        }
        loss.tell(parts);
        Ok((recalled.epoch, source, backlog, memo))
    }

    /// The worker that this rests on has the state.
    fn is_held(&self) -> bool {
        self.held.borrow().is_some_and(|held| held.epoch == self.epoch)
    }

    /// One round. False when the program stops.
    async fn turn(&mut self, asked: &mut mpsc::Receiver<Asked>) -> bool {
        self.send();
        self.show();
        match self.wait(asked).await {
            Event::Stopped => {
                self.keep(None);
                return false;
            }
            Event::Asked(asked) => self.order(asked).await,
            Event::Settled(Some((lane, outcome))) => self.settle(&lane, outcome),
            Event::Settled(None) | Event::Woken => {}
            Event::Saved(durable) => {
                self.saving = None;
                self.dirty |= !durable;
            }
            Event::Read(read) => self.take(read).await,
        }
        if self.calls.is_empty()
            && let Some(asked) = self.rewind.take()
        {
            self.rewind(asked).await;
        }
        if !self.is_held() {
            return true;
        }
        if self.source.is_none() {
            self.reopen().await;
        }
        if self.dirty && self.saving.is_none() && self.saved.elapsed() >= SAVE_EVERY {
            self.saving = self.keep(None);
        }
        true
    }

    async fn wait(&mut self, asked: &mut mpsc::Receiver<Asked>) -> Event {
        let sleep = self.sleep();
        let reads = self.sends() && self.backlog.room(&self.parts.pace) > 0;
        let page = self.backlog.room(&self.parts.pace).min(PAGE);
        let source = self.source.as_mut().filter(|_| reads);
        let (calls, saving, held) = (&mut self.calls, &mut self.saving, &mut self.held);
        tokio::select! {
            biased;
            () = self.parts.shutdown.stopped() => Event::Stopped,
            // Without anybody left who could give orders there are none.
            Some(asked) = asked.recv() => Event::Asked(asked),
            settled = calls.next(), if !calls.is_empty() => Event::Settled(settled),
            saved = async { match saving {
                Some(saving) => saving.await.is_ok(),
                None => std::future::pending().await,
            } } => Event::Saved(saved),
            read = async { match source {
                Some(source) => source.next(page).await,
                None => std::future::pending().await,
            } } => Event::Read(read),
            // Told anew with each renewal, too.
            changed = held.changed() => if changed.is_ok() { Event::Woken } else { Event::Stopped },
            () = tokio::time::sleep(sleep) => Event::Woken,
        }
    }

    fn sleep(&self) -> Duration {
        let now = time::now();
        let idle = if self.dirty { SAVE_EVERY } else { IDLE };
        let wake = self.backlog.wake(&self.parts.pace).filter(|_| self.sends());
        let wake = wake.map_or(idle, |at| Timestamp::from_micros(at).since(now));
        // A clock that stands still for a moment must not make this spin.
        wake.min(idle).max(Duration::from_millis(1))
    }

    fn sends(&self) -> bool {
        self.memo.disabled.is_none() && self.rewind.is_none() && self.is_held()
    }

    /// How long a call that begins now may run: its deadline, and never beyond the lease.
    fn patience(&self, now: Timestamp) -> Option<Duration> {
        let held = self.held.borrow().filter(|held| held.epoch == self.epoch)?;
        let left = held.until.since(now);
        (!left.is_zero()).then(|| left.min(self.parts.pace.deadline))
    }

    fn send(&mut self) {
        while self.sends() {
            let now = time::now();
            let Some(deadline) = self.patience(now) else { return };
            let Some(job) = self.backlog.next(now.micros(), &self.parts.pace) else { return };
            let poster = self.parts.poster.clone();
            let (url, keys) = (self.parts.config.url.clone(), self.parts.keys.borrow().clone());
            self.calls.push(Box::pin(async move {
                let outcome = poster.post(&url, &keys, &job, now, deadline).await;
                (job.lane, outcome)
            }));
        }
    }

    fn settle(&mut self, lane: &str, outcome: Outcome) {
        let now = time::now().micros();
        self.backlog.settle(lane, outcome.answer, now, &self.parts.pace, self.dice.u64(..));
        self.dirty = true;
        let label = if outcome.answer == Answer::Taken { "delivered" } else { "failed" };
        let called = Called { subscription: self.parts.config.name.clone(), outcome: label };
        self.parts.metrics.calls.get_or_create(&called).inc();
        if outcome.answer == Answer::Taken {
            self.memo.delivered += 1;
            return;
        }
        let patience = micros(self.parts.pace.disable_after);
        if outcome.gone {
            self.disable(now, "the endpoint says that it is gone (410)".to_owned());
        } else if self.backlog.failing_since().is_some_and(|since| now - since >= patience) {
            // Not only by its own tries: those of a dead endpoint are one after the other, over all that waits.
            self.disable(now, format!("a change was refused for too long; the last time {}", outcome.told));
        }
        self.told = Some(outcome.told);
    }

    fn disable(&mut self, now: i64, reason: String) {
        if self.memo.disabled.is_some() {
            return;
        }
        let name = self.parts.config.name.as_str();
        tracing::warn!(
            subscription = name,
            reason,
            "the subscription is disabled: nothing is sent until it is enabled"
        );
        self.memo.disabled = Some(Disabled { at: now, reason });
        self.saving = self.keep(Some(("headgate".to_owned(), "subscription.disable")));
    }

    async fn take(&mut self, read: Result<Vec<Delivered>, StreamError>) {
        match read {
            Ok(records) => {
                self.dirty |= !records.is_empty();
                for delivered in &records {
                    let wanted = self.parts.config.filter.wants(&delivered.record);
                    self.backlog.take(delivered, wanted, || event::body(&delivered.record));
                }
            }
            Err(error) => {
                let name = self.parts.config.name.as_str();
                tracing::warn!(subscription = name, %error, "the stream cannot be read; opening it again");
                self.source = None;
            }
        }
    }
}
