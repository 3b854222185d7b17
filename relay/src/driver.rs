//! Drives the engine: a thread of its own for ticks and the database, tasks for the stream and for the calls.
//!
//! The engine thread takes what came (answers, records, commands), ticks, and starts a task per call. While nothing
//! comes it sleeps until the engine wants a tick; under load ticks are [`crate::config::Limits::tick`] apart, so that one
//! transaction serves many changes. When the store fails, the engine is dropped and opened again from what is durable;
//! answers and records of the earlier one are then of an older *generation* and are ignored.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use headgate_schemas::failpoint::pass;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Delivered, Position, Source, StreamError, Topic};
use headgate_schemas::time;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};

use crate::books::Report;
use crate::config::RelayConfig;
use crate::engine::{Call, CallId, Command, Engine, Held, Input, Parts, Recalled, Reply, ReplyResult, Request};
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::setup::{self, Place, Setups};
use crate::step;
use crate::store::{KeptRow, Shelf, StoreError};
use crate::target::Target;
use crate::vault::Vault;

/// Messages waiting for the engine. Calls, batches and commands are bounded by themselves well below this; a command
/// that finds it full is refused.
const INBOX: usize = 4_096;
/// Longest sleep of the engine thread: metrics and expiry are looked after at least so often.
const IDLE: Duration = Duration::from_millis(500);
/// Between two looks at all that waits, for the metrics.
const MEASURE_EVERY: Duration = Duration::from_millis(500);
/// Between two rounds of expiry.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// Between two attempts to read a stream that cannot be read.
const RETRY: Duration = Duration::from_secs(1);
/// First wait before the state is opened again after a failure; it doubles.
const REOPEN_FIRST: Duration = Duration::from_millis(100);
/// Longest wait before the state is opened again after a failure.
const REOPEN_MOST: Duration = Duration::from_secs(5);
/// Between two looks whether the calls of an engine that failed have ended.
const CALLS_LOOK: Duration = Duration::from_millis(5);
/// Between two looks of a relay that stands by; a look itself waits for a while at the lock of the one that works.
const STAND_BY: Duration = Duration::from_millis(250);

/// What becomes of a log that is another one than that which was read.
const ANEW: &str = "it is read from its start, and what stood unread in the old one is lost";

/// Where a state that is opened goes on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// Where it stood.
    Kept,
    /// At the start of a topic that was made anew.
    Start,
    /// Where it stood, but for this place: the log ends before it.
    Without(Position),
}

/// How the engine's work ended, when the state did not fail.
enum Ended {
    Drained,
    Replaced(From),
}

/// What reaches the engine thread.
#[derive(Debug)]
enum Message {
    Reply {
        generation: u64,
        call: CallId,
        reply: Reply,
    },
    Records {
        reading: Reading,
        records: Vec<Delivered>,
    },
    /// The topic was made anew, or became shorter; what stands before this in the inbox was read from the old one.
    Replaced {
        generation: u64,
        topic: Topic,
        from: From,
    },
    Command(Command),
    /// The books are to be told as they stand once everything that came before this was taken in.
    Count(oneshot::Sender<()>),
    Stop,
}

/// For which engine the stream is read, and for which edition of its part: what was read for another one is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reading {
    generation: u64,
    edition: u64,
}

/// Where the reader of the stream is to read, told anew with each generation, and when its part of the stream changes.
#[derive(Clone, Debug)]
struct Assignment {
    reading: Reading,
    /// Whose positions these are.
    topic: Topic,
    places: Places,
    /// Records that may be read for it, as one batch. Each has its own: what is under way for an earlier one counts no
    /// more.
    credit: Arc<Semaphore>,
}

/// Where an engine reads.
#[derive(Clone, Debug, Default)]
struct Places {
    /// The partitions; `None` for all of them.
    parts: Option<BTreeSet<u32>>,
    /// Where to read on in those that were read before.
    known: Vec<Position>,
}

impl Places {
    fn of(engine: &Engine) -> Self {
        let (_, parts) = engine.reads();
        Self { parts: parts.cloned(), known: engine.positions() }
    }

    fn has(&self, partition: u32) -> bool {
        self.parts.as_ref().is_none_or(|parts| parts.contains(&partition))
    }
}

/// What others may ask of a running relay.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: SyncSender<Message>,
    state: Arc<State>,
}

/// How a relay is with its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// The state cannot be used; the log says why.
    #[default]
    Away,
    /// Another relay works on the state; this one takes over when that one ends.
    StandingBy,
    /// The engine is open, and its last tick was committed.
    Working,
}

#[derive(Debug, Default)]
struct State {
    standing: Mutex<Standing>,
    connections: Mutex<HashMap<String, u32>>,
    books: Mutex<Report>,
    positions: Mutex<Vec<Position>>,
    partitions: Mutex<Option<usize>>,
    /// How the state is held for what only one process does, and for what each does that works on it.
    held: watch::Sender<Option<Held>>,
    works: watch::Sender<Option<Held>>,
    guests: Arc<Guest>,
}

/// Whoever has one still has something to keep: the engine ends after the last one is gone.
#[derive(Debug, Default)]
pub(crate) struct Guest;

/// The engine cannot take commands now.
#[derive(Debug, thiserror::Error)]
#[error("the relay is busy or stopping; try again")]
pub struct Busy;

impl Handle {
    /// Gives a command to the engine.
    ///
    /// # Errors
    /// [`Busy`] when its inbox is full or it has stopped.
    pub fn command(&self, command: Command) -> Result<(), Busy> {
        self.inbox.try_send(Message::Command(command)).map_err(|_| Busy)
    }

    /// How this process holds the state for whatever only one process does; `None` while it does not, and where another
    /// one that shares the state does it. Changes with every worker and every renewal.
    pub fn held(&self) -> watch::Receiver<Option<Held>> {
        self.state.held.subscribe()
    }

    /// How this process works on the state, alone or beside others; `None` while it does not. Changes as [`Handle::held`].
    pub(crate) fn works(&self) -> watch::Receiver<Option<Held>> {
        self.state.works.subscribe()
    }

    /// Holds the engine open at a stop, until what its owner had to keep was handed over.
    pub(crate) fn guest(&self) -> Arc<Guest> {
        Arc::clone(&self.state.guests)
    }

    /// What was kept on a shelf. `None` when the state cannot be asked now.
    pub(crate) async fn recall(&self, shelf: Shelf, name: Option<&str>) -> Option<Recalled> {
        let (done, kept) = oneshot::channel();
        self.command(Command::Recall { shelf, name: name.map(str::to_owned), done }).ok()?;
        kept.await.ok()
    }

    /// Hands rows to the state, on the word of a worker. The answer tells when they are durable, and is an error when
    /// they never will be: another worker has the state, or it failed.
    ///
    /// # Errors
    /// [`Busy`].
    pub(crate) fn keep(
        &self,
        epoch: u64,
        rows: Vec<KeptRow>,
        deed: Option<(String, &'static str)>,
    ) -> Result<oneshot::Receiver<()>, Busy> {
        let (done, durable) = oneshot::channel();
        self.command(Command::Keep { epoch, rows, deed, done })?;
        Ok(durable)
    }

    /// How it is with its state.
    pub fn standing(&self) -> Standing {
        *self.state.standing.lock()
    }

    /// Name and number of every connection; none before the state was open for the first time.
    pub fn connections(&self) -> HashMap<String, u32> {
        self.state.connections.lock().clone()
    }

    /// Whether it is this process that does what only one does: send to subscribers, replay, forget what is old.
    pub fn leads(&self) -> bool {
        self.state.held.borrow().is_some()
    }

    /// Partitions that this process reads, where it shares the stream with others.
    pub fn partitions(&self) -> Option<usize> {
        *self.state.partitions.lock()
    }

    /// Where the stream is read on in each partition, by this process or by others that share it, as of the last tick.
    pub fn positions(&self) -> Vec<Position> {
        self.state.positions.lock().clone()
    }

    /// The accounting as of the last tick; where several share a state, as of the last look at what all of them did.
    pub fn books(&self) -> Report {
        self.state.books.lock().clone()
    }

    /// The accounting of this moment. Where the state cannot be asked, as [`Handle::books`].
    pub async fn counted(&self) -> Report {
        let (done, counted) = oneshot::channel();
        if self.partitions().is_some() && self.inbox.try_send(Message::Count(done)).is_ok() {
            // Where it is dropped, the state failed meanwhile.
            drop(counted.await);
        }
        self.books()
    }
}

/// What a running relay is made of.
pub(crate) struct Driver {
    pub(crate) config: RelayConfig,
    pub(crate) targets: HashMap<String, Arc<dyn Target>>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) setups: Setups,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
}

/// Opens the state and starts the engine thread and its tasks. Where another relay works on the state, this one stands by
/// until it can take over.
///
/// # Errors
/// When the state cannot be opened, or the stream no longer holds the positions it stands at.
pub(crate) fn start(driver: Driver, mut source: Box<dyn Source>) -> Result<Handle, StartError> {
    let engine = open_first(&driver, source.as_mut())?;
    let topic = source.topic();
    let (inbox, messages) = sync_channel(INBOX);
    let state = Arc::new(State::default());
    let handle = Handle { inbox: inbox.clone(), state: Arc::clone(&state) };
    let reading = Reading { generation: 0, edition: engine.as_ref().map_or(0, |engine| engine.reads().0) };
    let places = engine.as_ref().map(Places::of).unwrap_or_default();
    // The lag is that of these places from the first moment on.
    *state.positions.lock() = engine.as_ref().map(Engine::read_to).unwrap_or_default();
    // A relay that stands by reads nothing.
    let pace = Pace::new(driver.config.batch());
    let credit = Arc::new(Semaphore::new(engine.as_ref().map_or(0, |_| pace.batch())));
    let first = Assignment { reading, topic: topic.clone(), places, credit: Arc::clone(&credit) };
    let (assigner, assigned) = watch::channel(first);
    let shutdown = driver.shutdown.clone();
    shutdown.spawn("relay-reader", read_stream(source, assigned, inbox.clone(), reading, shutdown.clone()));
    setup::start(&driver, &handle);
    let stop = shutdown.clone();
    let stopper = inbox.clone();
    shutdown.spawn("relay-stop", async move {
        stop.stopped().await;
        // The engine also sees the stop when it wakes by itself.
        drop(stopper.try_send(Message::Stop));
    });
    let (finished, done) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Handle::current();
    let thread = Thread {
        driver,
        topic,
        inbox,
        messages,
        state,
        assign: assigner,
        credit,
        pace,
        owed: false,
        counting: Vec::new(),
        calls: Arc::default(),
        reading,
        replaced: None,
    };
    std::thread::Builder::new().name("relay-engine".to_owned()).spawn(move || {
        let _context = runtime.enter();
        thread.run(engine);
        drop(finished);
    })?;
    shutdown.spawn("relay-engine", async move {
        drop(done.await);
    });
    Ok(handle)
}

/// Opens the state, and reads the stream from where it stands: from the start of a topic that took the place of the one
/// that was read. `None` where another relay works on the state.
fn open_first(driver: &Driver, source: &mut dyn Source) -> Result<Option<Engine>, StartError> {
    let mut from = From::Kept;
    loop {
        let next = match unless_held(open_apart(driver, &source.topic(), from)) {
            Ok(None) => return Ok(None),
            Ok(Some(engine)) => match assign(source, &Places::of(&engine)) {
                Ok(()) => return Ok(Some(engine)),
                // One state is open at a time: this one is closed before the next.
                Err(error) => replaced(&error).filter(|next| *next != from).ok_or(error)?,
            },
            Err(StartError::Store(StoreError::OtherTopic { kept, .. }))
                if from != From::Start && source.topic().is_in_the_place_of(&kept) =>
            {
                From::Start
            }
            Err(error) => return Err(error),
        };
        from = next;
    }
}

fn unless_held(opened: Result<Engine, StartError>) -> Result<Option<Engine>, StartError> {
    match opened {
        Err(StartError::Store(StoreError::Held { .. })) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Opens the state on a thread of its own: a store may wait for its server, which no thread of the runtime may.
fn open_apart(driver: &Driver, topic: &Topic, from: From) -> Result<Engine, StartError> {
    let opened = std::thread::scope(|scope| scope.spawn(|| driver.open(topic, from)).join());
    Ok(opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream no longer holds what the state stands at.
    #[error("the stream cannot be read from where the relay stands: {0}")]
    Stream(#[from] StreamError),
    /// The engine thread could not be started.
    #[error("no thread for the engine: {0}")]
    Thread(#[from] std::io::Error),
    /// The sealing key cannot be used.
    #[error(transparent)]
    Vault(#[from] crate::vault::VaultError),
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Http(#[from] crate::http::SetupError),
    /// A connection cannot be used as it is set.
    #[error(transparent)]
    Target(#[from] crate::target::BuildError),
}

/// Reads on where the state stands, and from the start of the log in partitions it does not know.
fn assign(source: &mut dyn Source, places: &Places) -> Result<(), StreamError> {
    let starts = source.bounds()?.into_iter().map(|(start, _)| start).filter(|s| places.has(s.partition));
    let known = |s: &Position| places.known.iter().find(|p| p.partition == s.partition).copied();
    let positions: Vec<_> = starts.map(|s| known(&s).unwrap_or(s)).collect();
    source.assign(&positions)
}

/// The same in the topic that the positions are of, and in no other.
fn assign_in(source: &mut dyn Source, topic: &Topic, places: &Places) -> Result<(), StreamError> {
    let assigned = match assign(source, places) {
        // It is told once, and these may be places in the new one.
        Err(StreamError::Replaced) => assign(source, places),
        assigned => assigned,
    };
    if source.topic() == *topic { assigned } else { Err(StreamError::Replaced) }
}

/// From where to read, if the log is another one than that which was read. A log never becomes shorter at its end.
const fn replaced(error: &StreamError) -> Option<From> {
    match error {
        StreamError::Replaced => Some(From::Start),
        StreamError::OutOfRange { partition, offset, end, .. } if *offset > *end => {
            Some(From::Without(Position { partition: *partition, offset: *offset }))
        }
        _ => None,
    }
}

impl Driver {
    fn open(&self, topic: &Topic, from: From) -> Result<Engine, StoreError> {
        let mut store = self.config.store.place.open()?;
        match from {
            From::Kept => {}
            From::Without(place) if self.config.store.place.is_shared() => {
                tracing::error!(place.partition, place.offset, "a partition ends before where it was read to: {ANEW}");
                store.forget_place(place)?;
            }
            From::Start | From::Without(_) => {
                tracing::error!(topic = topic.id, "the topic was deleted and made again: {ANEW}");
                store.rebind(&topic.id, time::now().micros())?;
            }
        }
        let now = time::now();
        let seed = u64::try_from(now.micros()).unwrap_or(0) ^ u64::from(std::process::id()).rotate_left(40);
        let parts = Parts {
            config: &self.config,
            targets: &self.targets,
            store,
            topic,
            vault: Arc::clone(&self.vault),
            metrics: self.metrics.clone(),
            seed,
        };
        let mut engine = Engine::open(parts, now)?;
        if engine.is_shared() {
            engine.join_division(now)?;
        }
        self.setups.brief(&mut engine, self.places());
        #[cfg(feature = "failpoints")]
        if std::env::var_os("HEADGATE_BLIND").is_some() {
            // The control of the loop tests: what we wrote ourselves is taken for an edit.
            engine.forgo(crate::entity::fold::Rule::Ours);
        }
        Ok(engine)
    }

    /// What is written where.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        setup::places(&self.config, |name| self.targets.get(name).is_some_and(|target| target.writable()))
    }
}

/// The engine thread.
struct Thread {
    driver: Driver,
    topic: Topic,
    inbox: SyncSender<Message>,
    messages: Receiver<Message>,
    state: Arc<State>,
    assign: watch::Sender<Assignment>,
    credit: Arc<Semaphore>,
    pace: Pace,
    /// The reader gave a batch, and was not told yet to read the next.
    owed: bool,
    /// For whom it reads.
    reading: Reading,
    /// Who wants to be told when the books are as of now.
    counting: Vec<oneshot::Sender<()>>,
    /// Every call under way has it, too.
    calls: Arc<Guest>,
    /// The reader found that the log is another one, which is to be read from here.
    replaced: Option<From>,
}

impl Thread {
    fn run(mut self, engine: Option<Engine>) {
        let mut open = engine.or_else(|| self.reopen(From::Kept));
        while let Some(mut engine) = open.take() {
            let from = match self.serve(&mut engine) {
                Ok(Ended::Drained) => return,
                Ok(Ended::Replaced(from)) => from,
                Err(error) => {
                    tracing::error!(%error, "the state failed; opening it again from what is durable");
                    self.replaced.unwrap_or(From::Kept)
                }
            };
            // Another process may do what only one does from here on. Calls that are under way end with the tokens they have.
            self.stands(Standing::Away);
            self.state.held.send_replace(None);
            let stop = &self.driver.shutdown;
            await_calls(&self.calls, self.driver.config.limits.send_deadline, || stop.is_stopped());
            drop(engine);
            self.state.works.send_replace(None);
            open = self.reopen(from);
        }
    }

    /// Opens the state again: after a failure waiting longer each time, while another relay has it looking steadily.
    /// `None` when the stop came first.
    fn reopen(&mut self, mut from: From) -> Option<Engine> {
        let mut wait = REOPEN_FIRST;
        loop {
            if self.driver.shutdown.is_stopped() {
                return None;
            }
            let pause = match self.driver.open(&self.topic, from) {
                Ok(engine) => {
                    self.read_for(&engine);
                    return Some(engine);
                }
                Err(StoreError::Held { .. }) => {
                    // Whoever has the state finds out for itself what became of the topic.
                    from = From::Kept;
                    if self.stands(Standing::StandingBy) != Standing::StandingBy {
                        tracing::info!("another relay works on this state; standing by until it ends");
                    }
                    STAND_BY
                }
                Err(StoreError::OtherTopic { kept, .. }) if self.topic.is_in_the_place_of(&kept) => {
                    // Which of the two is there now is found out by whoever reads.
                    (self.topic.id, from) = (kept, From::Kept);
                    Duration::ZERO
                }
                Err(error) => {
                    tracing::error!(%error, "the state cannot be opened; trying again");
                    self.stands(Standing::Away);
                    let pause = wait;
                    wait = (wait * 2).min(REOPEN_MOST);
                    pause
                }
            };
            // Messages of the failed generation are of no use, and a command must not wait for ever.
            while let Ok(message) = self.messages.recv_timeout(pause) {
                if let Message::Replaced { topic, from: anew, .. } = message {
                    (self.topic, from) = (topic, anew);
                }
            }
        }
    }

    /// From now on the stream is read for this engine.
    fn read_for(&mut self, engine: &Engine) {
        self.reading.generation += 1;
        self.read_there(engine);
    }

    /// From now on it is read where this engine reads.
    fn read_there(&mut self, engine: &Engine) {
        self.reading.edition = engine.reads().0;
        (self.credit, self.owed) = (Arc::new(Semaphore::new(self.pace.batch())), false);
        let (reading, topic, places) = (self.reading, self.topic.clone(), Places::of(engine));
        self.assign.send_replace(Assignment { reading, topic, places, credit: Arc::clone(&self.credit) });
    }

    /// Tells others how it is with the state; returns what they were told before.
    fn stands(&self, standing: Standing) -> Standing {
        std::mem::replace(&mut *self.state.standing.lock(), standing)
    }

    fn serve(&mut self, engine: &mut Engine) -> Result<Ended, StoreError> {
        self.replaced = None;
        *self.state.connections.lock() = engine.connections().clone();
        if self.stands(Standing::Working) == Standing::StandingBy {
            tracing::info!("took the state over from another relay");
        }
        let mut last_tick = Instant::now();
        let (mut last_expiry, mut last_measure) = (Instant::now(), None::<Instant>);
        self.hold(engine);
        loop {
            // Asked before the inbox is: whoever is gone by now has put in what it had.
            let alone = Arc::strong_count(&self.state.guests) == 1;
            let (input, stop) = self.gather(engine, last_tick);
            if stop || self.driver.shutdown.is_stopped() {
                engine.drain();
            }
            if !input.records.is_empty() || !input.replies.is_empty() {
                pass(step::GATHERED);
            }
            last_tick = Instant::now();
            let now = time::now();
            // The next batch is fetched while this one is worked on.
            if self.owed && !engine.is_full(now) {
                self.owed = false;
                self.credit.add_permits(self.pace.batch());
            }
            let records = input.records.len();
            let calls = engine.tick(now, input)?;
            self.pace.met(records, last_tick.elapsed());
            self.driver.metrics.tick.observe(last_tick.elapsed().as_secs_f64());
            for call in calls {
                self.make(call);
            }
            if engine.reads().0 != self.reading.edition {
                self.read_there(engine);
            }
            self.hold(engine);
            if last_measure.is_none_or(|at| at.elapsed() > MEASURE_EVERY) {
                last_measure = Some(Instant::now());
                engine.measure(now);
                engine.recount()?;
            }
            if !self.counting.is_empty() && engine.is_shared() {
                engine.read_books()?;
            }
            *self.state.books.lock() = Report { accounts: engine.accounts(now), links: engine.link_names() };
            *self.state.positions.lock() = engine.read_to();
            // Whoever asked may have gone away.
            self.counting.drain(..).for_each(|asked| asked.send(()).unwrap_or_default());
            if last_expiry.elapsed() > EXPIRE_EVERY && (!engine.leads() || !engine.expire(now)?) {
                last_expiry = Instant::now();
            }
            if engine.is_drained() && alone {
                // Without it the next one would wait until the end of the session is noticed.
                engine.leave()?;
                return Ok(Ended::Drained);
            }
            if let Some(from) = self.replaced {
                // What was read of the old topic cannot be read again.
                engine.flush(now)?;
                return Ok(Ended::Replaced(from));
            }
        }
    }

    /// Tells others how the state is held.
    fn hold(&self, engine: &Engine) {
        let held = engine.leads().then(|| engine.held());
        *self.state.partitions.lock() = engine.reads().1.map(BTreeSet::len);
        self.state.held.send_if_modified(|told| std::mem::replace(told, held) != held);
        let works = Some(engine.held());
        self.state.works.send_if_modified(|told| std::mem::replace(told, works) != works);
    }

    /// Waits for messages and takes all there are. An idle engine ticks on the first one; a busy one lets them gather.
    fn gather(&mut self, engine: &Engine, last_tick: Instant) -> (Input, bool) {
        let mut input = Input::default();
        let mut stop = false;
        let now = time::now();
        let wait = engine.next_tick(now).map_or(IDLE, |at| at.since(now).min(IDLE));
        let pause = self.driver.config.limits.tick.saturating_sub(last_tick.elapsed());
        match self.messages.recv_timeout(wait.max(pause)) {
            Ok(message) => stop |= self.take(message, &mut input),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        let until = last_tick + self.driver.config.limits.tick;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(message) => stop |= self.take(message, &mut input),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return (input, stop),
            }
        }
    }

    fn take(&mut self, message: Message, input: &mut Input) -> bool {
        let generation = self.reading.generation;
        match message {
            Message::Reply { generation: of, call, reply } if of == generation => input.replies.push((call, reply)),
            Message::Records { reading, records } if reading == self.reading => {
                self.owed = true;
                input.records.extend(records);
            }
            // Another topic is another one whatever generation was told of it; a log that became shorter is the same.
            Message::Replaced { generation: of, topic, from } if of == generation || topic != self.topic => {
                (self.topic, self.replaced) = (topic, Some(from));
            }
            Message::Reply { .. } | Message::Records { .. } | Message::Replaced { .. } => {}
            Message::Command(command) => input.commands.push(command),
            Message::Count(done) => self.counting.push(done),
            Message::Stop => return true,
        }
        false
    }

    /// Starts a task for a call. Its answer always comes: the clients have a deadline of their own.
    fn make(&self, call: Call) {
        let Some(target) = self.target(call.connection) else { return };
        let (inbox, generation) = (self.inbox.clone(), self.reading.generation);
        let under_way = Arc::clone(&self.calls);
        self.driver.shutdown.spawn("relay-call", async move {
            let sent = time::now();
            let result = if call.not_after.is_some_and(|last| sent > last) {
                call.request.not_made()
            } else {
                ask(target.as_ref(), &call.request).await
            };
            let reply = Reply { sent, answered: time::now(), result };
            drop(under_way);
            give(&inbox, Message::Reply { generation, call: call.id, reply }).await;
        });
    }

    fn target(&self, connection: u32) -> Option<Arc<dyn Target>> {
        let names = self.state.connections.lock();
        let name = names.iter().find(|(_, n)| **n == connection).map(|(name, _)| name.clone())?;
        self.driver.targets.get(&name).cloned()
    }
}

async fn ask(target: &dyn Target, request: &Request) -> ReplyResult {
    match request {
        Request::Read(read) => {
            pass(step::BEFORE_READ);
            let answer = target.read(read).await;
            pass(step::AFTER_READ);
            ReplyResult::Read(answer)
        }
        Request::Write(write) => {
            pass(step::BEFORE_WRITE);
            let answer = target.write(write).await;
            pass(step::AFTER_WRITE);
            ReplyResult::Write(answer)
        }
        Request::Find(find) => {
            pass(step::BEFORE_READ);
            let answer = target.find(find).await;
            pass(step::AFTER_READ);
            ReplyResult::Find(answer)
        }
    }
}

/// Gives a message, waiting while the inbox is full.
async fn give(inbox: &SyncSender<Message>, mut message: Message) {
    loop {
        match inbox.try_send(message) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => return,
            Err(TrySendError::Full(back)) => message = back,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits, at most so long, until the calls of an engine that failed have ended. What they did is found out by reading, and
/// nobody may read before that: so the engine is closed only then, for others take its work up at once.
fn await_calls(calls: &Arc<Guest>, most: Duration, is_stopped: impl Fn() -> bool) {
    let latest = Instant::now() + most;
    while Arc::strong_count(calls) > 1 && Instant::now() < latest && !is_stopped() {
        std::thread::park_timeout(CALLS_LOOK);
    }
}

/// Reads the stream one batch ahead of the engine: the next batch is asked for only when the engine took the last.
async fn read_stream(
    mut source: Box<dyn Source>,
    mut assigned: watch::Receiver<Assignment>,
    inbox: SyncSender<Message>,
    begun: Reading,
    shutdown: Shutdown,
) {
    // For whom the source reads; nobody after an assignment that failed.
    let mut standing = Some(begun);
    loop {
        let Assignment { reading, topic, places, credit } = assigned.borrow_and_update().clone();
        let mut batch = 0;
        let reading_on = async {
            // Nobody closes it.
            let permit = credit.acquire().await.ok();
            permit.into_iter().for_each(SemaphorePermit::forget);
            batch = 1 + credit.forget_permits(usize::MAX);
            if standing != Some(reading) {
                let assigned = assign_in(source.as_mut(), &topic, &places);
                standing = assigned.is_ok().then_some(reading);
                assigned?;
            }
            source.next(batch).await
        };
        let read = tokio::select! {
            // A stream that fails at once must not win over a stop by chance.
            biased;
            () = shutdown.stopped() => return,
            changed = assigned.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = reading_on => read,
        };
        match read {
            Ok(records) if records.is_empty() => credit.add_permits(batch),
            Ok(records) => {
                pass(step::READ);
                give(&inbox, Message::Records { reading, records }).await;
            }
            Err(error) => {
                // The engine tells where to go on.
                if let Some(from) = replaced(&error) {
                    let (generation, topic) = (reading.generation, source.topic());
                    give(&inbox, Message::Replaced { generation, topic, from }).await;
                    continue;
                }
                tracing::error!(%error, "the stream cannot be read from where the relay stands; trying again");
                tokio::select! {
                    () = shutdown.stopped() => return,
                    () = tokio::time::sleep(RETRY) => credit.add_permits(batch),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use headgate_schemas::contract;
    use headgate_schemas::stream::Sink as _;
    use headgate_schemas::stream::memory::{Memory, MemoryConfig};

    use super::*;

    async fn append(log: &Memory, records: usize) {
        for _ in 0..records {
            log.append(vec![contract::encode(&contract::example()).unwrap()]).await.unwrap();
        }
    }

    /// What came, by generation; whoever reads has had all the time there is.
    async fn given(messages: &Receiver<Message>) -> Vec<(u64, usize)> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let of = |message| match message {
            Message::Records { reading, records } => (reading.generation, records.len()),
            other => panic!("{other:?}"),
        };
        messages.try_iter().map(of).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_batch_is_under_way_whatever_an_earlier_generation_was_owed() {
        let (log, shutdown) = (Memory::new(1), Shutdown::new(Duration::from_secs(1)));
        let topic = log.source().topic();
        let assignment = |generation, permits| {
            let places = Places { parts: None, known: vec![Position { partition: 0, offset: 0 }] };
            let reading = Reading { generation, edition: 0 };
            Assignment { reading, topic: topic.clone(), places, credit: Arc::new(Semaphore::new(permits)) }
        };
        let first = assignment(0, 2);
        let (assign, assigned) = watch::channel(first.clone());
        let (inbox, messages) = sync_channel(16);
        let mut source = log.source();
        assign_in(&mut source, &topic, &first.places).unwrap();
        shutdown.spawn("test", read_stream(Box::new(source), assigned, inbox, first.reading, shutdown.clone()));
        append(&log, 2).await;
        assert_eq!(given(&messages).await, [(0, 2)]);
        // The next batch is asked for, and the engine fails while the reader waits for it.
        first.credit.add_permits(2);
        assert_eq!(given(&messages).await, []);
        let second = assignment(1, 2);
        assign.send_replace(second.clone());
        assert_eq!(given(&messages).await, [(1, 2)]);
        append(&log, 6).await;
        assert_eq!(given(&messages).await, []);
        second.credit.add_permits(2);
        assert_eq!(given(&messages).await, [(1, 2)]);
        shutdown.stop();
    }

    #[test]
    fn an_engine_that_failed_is_closed_after_its_calls() {
        const LONG: Duration = Duration::from_secs(600);
        let calls = Arc::<Guest>::default();
        // It ends once it was waited for.
        let call = Mutex::new(Some(Arc::clone(&calls)));
        await_calls(&calls, LONG, || {
            drop(call.lock().take());
            false
        });
        assert!(call.lock().is_none());
        let _never_ends = Arc::clone(&calls);
        await_calls(&calls, LONG, || true);
        await_calls(&calls, Duration::ZERO, || panic!("its time is over"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_cannot_be_read_holds_no_stop_up() {
        // Whatever comes first by chance.
        for _ in 0..20 {
            let config = MemoryConfig { partitions: 1, keep_records: 1, ..MemoryConfig::default() };
            let (log, shutdown) = (Memory::with(config), Shutdown::new(Duration::from_millis(100)));
            let places = Places { parts: None, known: vec![Position { partition: 0, offset: 0 }] };
            let (mut source, reading) = (log.source(), Reading::default());
            let topic = source.topic();
            assign_in(&mut source, &topic, &places).unwrap();
            append(&log, 3).await;
            let credit = Arc::new(Semaphore::new(10));
            let (assign, assigned) = watch::channel(Assignment { reading, topic, places, credit });
            let (inbox, messages) = sync_channel(16);
            shutdown.spawn("test", read_stream(Box::new(source), assigned, inbox, reading, shutdown.clone()));
            assert_eq!(given(&messages).await, [], "the log no longer holds that place");
            shutdown.drain().await.unwrap();
            drop(assign);
        }
    }
}
