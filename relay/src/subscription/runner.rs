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
//! deliveries since then are made again, under the same `webhook-id`. An order of a person is answered only after what it
//! changed is durable.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{BeginError, Cursor, Delivered, Position, Source, StreamError, from_start};
use headgate_schemas::{Timestamp, event, time};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backlog::{Answer, Backlog, Disabled, Memo, Overtaken, Replaced};
use super::post::{Outcome, Poster};
use super::sign::Key;
use super::{
    Asked, Called, Metrics, Named, Order, OrderError, Pace, Standing, SubscriptionConfig, View, earlier_until,
};
use crate::admin::OpenSource;
use crate::driver::Handle;
use crate::engine::{Held, micros};
use crate::store::{KeptRow, Shelf};

/// Records fetched at once.
const PAGE: usize = 200;
/// Between two writes of where the subscription stands, and between two tries of anything that failed inside.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// Longest sleep.
const IDLE: Duration = Duration::from_secs(5);
/// Tries of a write that an order waits for.
const SAVE_TRIES: usize = 10;

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

    /// Opens the stream where the backlog stands.
    async fn reopen(&mut self) {
        let open = Arc::clone(&self.parts.open);
        let opened = tokio::task::spawn_blocking(move || open()).await;
        if let Ok(Ok(source)) = opened {
            self.stand(source).await;
        }
        if self.source.is_none() {
            tokio::time::sleep(SAVE_EVERY).await;
        }
    }

    async fn stand(&mut self, source: Box<dyn Source>) {
        match stand(source, self.memo.topic.as_deref(), &mut self.backlog).await {
            Ok((source, loss)) => {
                loss.enter(&mut self.memo);
                loss.tell(&self.parts);
                self.memo.topic = Some(source.topic().id);
                self.source = Some(source);
                if !matches!(loss, Loss::None) {
                    // At once: what is opened again before this is durable finds the same loss and tells it again.
                    self.saving = self.keep(None);
                }
            }
            Err(error) => {
                let name = self.parts.config.name.as_str();
                tracing::warn!(subscription = name, %error, "the stream cannot be read; trying again");
                self.source = None;
            }
        }
    }

    async fn order(&mut self, asked: Asked) {
        match asked.order {
            // The open calls end first: a record must not have two under way.
            Order::Replay { .. } if self.rewind.is_none() => self.rewind = Some(asked),
            Order::Replay { .. } => answer(asked.done, Err(OrderError::Busy)),
            Order::Enable { by } => {
                self.memo.disabled = None;
                self.told = None;
                self.backlog.forgive(time::now().micros());
                let kept = self.keep_now(by, "subscription.enable").await;
                answer(asked.done, kept);
            }
        }
    }

    async fn rewind(&mut self, asked: Asked) {
        let Asked { order: Order::Replay { begin, by }, done } = asked else { return };
        let open = Arc::clone(&self.parts.open);
        let found = tokio::task::spawn_blocking(move || {
            let mut source = open()?;
            let cursor = begin.cursor(source.as_ref())?;
            source.assign(&cursor.positions())?;
            Ok::<(Box<dyn Source>, Cursor), BeginError>((source, cursor))
        });
        let (source, cursor) = match found.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return answer(done, Err(error.into())),
            Err(_) => return answer(done, Err(OrderError::Busy)),
        };
        self.memo.topic = Some(source.topic().id);
        self.source = Some(source);
        self.backlog = Backlog::new(cursor);
        self.memo.disabled = None;
        self.told = None;
        let kept = self.keep_now(by, "subscription.replay").await;
        answer(done, kept);
    }

    /// Keeps where it stands. `None` when the state cannot take it now.
    fn keep(&mut self, deed: Option<(String, &'static str)>) -> Option<oneshot::Receiver<()>> {
        self.saved = Instant::now();
        let durable = hand_over(&self.parts, self.epoch, &mut self.memo, &self.backlog, deed);
        self.dirty = durable.is_none();
        durable
    }

    /// The same, waiting until it is durable.
    async fn keep_now(&mut self, by: String, what: &'static str) -> Result<(), OrderError> {
        // An earlier write that is still under way is followed by this one.
        self.saving = None;
        for _ in 0..SAVE_TRIES {
            if let Some(durable) = self.keep(Some((by.clone(), what)))
                && durable.await.is_ok()
            {
                return Ok(());
            }
            self.dirty = true;
            tokio::time::sleep(SAVE_EVERY).await;
        }
        Err(OrderError::Busy)
    }

    fn show(&self) {
        let text = |us: i64| Timestamp::from_micros(us).to_string();
        let failing = self.backlog.failing_since();
        let (state, since, reason) = match &self.memo.disabled {
            Some(disabled) => (Standing::Disabled, Some(disabled.at), Some(disabled.reason.clone())),
            None if failing.is_some() => (Standing::Failing, failing, self.told.clone()),
            None => (Standing::Well, None, None),
        };
        let next = self.backlog.wake(&self.parts.pace).filter(|_| self.sends() && self.backlog.open() == 0);
        let named = Named { subscription: self.parts.config.name.clone() };
        let waiting = self.backlog.waiting();
        self.parts.metrics.waiting.get_or_create(&named).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.parts.metrics.disabled.get_or_create(&named).set(i64::from(state == Standing::Disabled));
        let mut view = self.parts.view.lock();
        view.state = state;
        view.since = since.map(text);
        view.reason = reason;
        view.waiting = waiting;
        view.open = self.backlog.open();
        view.delivered = self.memo.delivered;
        view.next = next.map(text);
        view.position = self.backlog.cursor().to_string();
        view.earlier_secrets_until = earlier_until(&self.parts.keys.borrow(), time::now());
        view.overtaken = self.memo.overtaken.map(|lost| {
            let (at, offsets, partitions) = (text(lost.at), lost.offsets, lost.partitions);
            format!("{at}: up to {offsets} changes in {partitions} partitions were dropped by the stream before they were delivered")
        });
        view.replaced = self.memo.replaced.map(|Replaced { at, waited }| {
            let at = text(at);
            format!(
                "{at}: another stream took the place of the one that was read, and is read from its start; what was not read \
                 of the old one is lost, and {waited} of its changes that waited"
            )
        });
    }
}

/// What could not be read any more.
enum Loss {
    None,
    Overtaken(Overtaken),
    Replaced(Replaced),
}

/// Puts a reader where the backlog stands in `topic`; what the log no longer holds is given up and told. In another topic,
/// and where the places lie behind the end, because a log never becomes shorter there, it is read from its start.
async fn stand(
    mut source: Box<dyn Source>,
    topic: Option<&str>,
    backlog: &mut Backlog,
) -> Result<(Box<dyn Source>, Loss), StreamError> {
    let positions = backlog.cursor().positions();
    let tried = tokio::task::spawn_blocking(move || {
        let assigned = source.assign(&positions);
        // Which topic it is turns out with the assignment.
        (source.topic(), assigned, source.bounds(), positions, source)
    });
    let (found, assigned, bounds, positions, mut source) = tried.await.map_err(|_| stopping())?;
    let is_other = topic.is_some_and(|topic| topic != found.id) || matches!(assigned, Err(StreamError::Replaced));
    match assigned {
        Ok(()) if !is_other => return Ok((source, Loss::None)),
        Ok(()) | Err(StreamError::OutOfRange { .. } | StreamError::Replaced) => {}
        Err(error) => return Err(error),
    }
    let bounds = bounds?;
    let is_behind = |p: &Position| bounds.iter().any(|(_, end)| end.partition == p.partition && p.offset > end.offset);
    let is_other = is_other || positions.iter().any(is_behind);
    let (starts, now) = (from_start(&bounds), time::now().micros());
    let loss = if is_other {
        Loss::Replaced(backlog.replace(Cursor::new(&starts, found.partitions, source.numbers_across()), now))
    } else {
        backlog.overtake(&starts, now).map_or(Loss::None, Loss::Overtaken)
    };
    let positions = backlog.cursor().positions();
    let tried = tokio::task::spawn_blocking(move || source.assign(&positions).map(|()| source));
    source = tried.await.map_err(|_| stopping())??;
    Ok((source, loss))
}

fn stopping() -> StreamError {
    StreamError::Unavailable("the program is stopping".to_owned())
}

impl Loss {
    /// Writes it where it outlives the process.
    const fn enter(&self, memo: &mut Memo) {
        match self {
            Self::None => {}
            Self::Overtaken(lost) => memo.overtaken = Some(*lost),
            Self::Replaced(lost) => memo.replaced = Some(*lost),
        }
    }

    /// Tells whoever watches this process.
    fn tell(&self, parts: &Parts) {
        let name = parts.config.name.as_str();
        match self {
            Self::None => return,
            Self::Overtaken(Overtaken { offsets, partitions, .. }) => tracing::warn!(
                subscription = name,
                offsets,
                partitions,
                "the stream dropped changes before they were delivered"
            ),
            Self::Replaced(Replaced { waited, .. }) => tracing::error!(
                subscription = name,
                waited,
                "another stream took the place of the one that was read, and is read from its start; what was not read of \
                 the old one is lost, and its changes that waited"
            ),
        }
        parts.metrics.overtaken.get_or_create(&Named { subscription: name.to_owned() }).inc();
    }
}

/// Hands what must outlive the process to the state. `None` when it cannot take it now.
fn hand_over(
    parts: &Parts,
    epoch: u64,
    memo: &mut Memo,
    backlog: &Backlog,
    deed: Option<(String, &'static str)>,
) -> Option<oneshot::Receiver<()>> {
    (memo.read, memo.pending) = (backlog.read(), backlog.pending());
    let value = match memo.encode() {
        Ok(value) => value,
        Err(error) => {
            tracing::error!(%error, "where a subscription stands cannot be written");
            return None;
        }
    };
    let row = KeptRow { shelf: Shelf::Subscription, name: parts.config.name.clone(), value: Some(value) };
    parts.relay.keep(epoch, vec![row], deed).ok()
}

fn answer(done: oneshot::Sender<Result<(), OrderError>>, answer: Result<(), OrderError>) {
    if done.send(answer).is_err() {
        tracing::debug!("whoever gave the order has gone away");
    }
}
