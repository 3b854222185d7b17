//! Appending: bounded by our own counts, acknowledged by all in-sync replicas.
//!
//! One producer is in use at a time. When a record's outcome is open (its time passed, or the producer failed for good)
//! everything that is still queued is given up at once, and a new producer takes its place: the old one could deliver
//! later what somebody has sent again by then. A thread of its own does that, because closing a producer blocks.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::statistics::Statistics;
use tokio::sync::oneshot;

use super::settings::{Context, KafkaConfig};
use crate::contract::Record;
use crate::stream::{Append, StreamError};

type Producer = ThreadedProducer<Watch>;

/// How long a producer that is replaced may take to hand back what it gave up.
const GIVE_UP: Duration = Duration::from_secs(1);
/// Between two attempts to make a producer.
const AGAIN: Duration = Duration::from_millis(200);

/// What the producer is doing, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KafkaStats {
    /// The last append was acknowledged, or a broker has come back since one was not.
    pub writable: bool,
    /// Records on their way.
    pub queued_records: usize,
    /// Bytes on their way.
    pub queued_bytes: usize,
    /// Times the producer was replaced.
    pub replaced: usize,
    /// Slowest mean round trip to a broker in the last statistics interval, in seconds.
    pub round_trip_s: f64,
    /// Brokers that are connected.
    pub brokers_up: usize,
}

/// The producer in use, and how it is replaced.
pub(super) struct Producers {
    shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    config: Arc<KafkaConfig>,
    /// None while it is being replaced, and after the end.
    current: RwLock<Option<Producer>>,
    /// Batches are enqueued one after the other, in the order of the calls.
    order: Mutex<()>,
    room: Arc<Room>,
    keeper: SyncSender<Errand>,
    replaced: AtomicUsize,
    writable: AtomicBool,
    seen: Mutex<KafkaStats>,
}

/// What the keeper is asked for.
enum Errand {
    /// The producer of this generation left an outcome open.
    Replace(usize),
    Stop,
}

/// What is on its way.
#[derive(Debug, Default)]
struct Room {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

/// A batch on its way. Answers when its last record has.
pub(super) struct Batch {
    left: AtomicUsize,
    bytes: usize,
    records: usize,
    room: Arc<Room>,
    failure: Mutex<Option<StreamError>>,
    done: Mutex<Option<oneshot::Sender<Result<(), StreamError>>>>,
}

/// Hears what becomes of the records of one producer.
struct Watch {
    generation: usize,
    client: Context,
    shared: std::sync::Weak<Shared>,
}

impl Producers {
    pub(super) fn start(config: Arc<KafkaConfig>) -> Result<Self, KafkaError> {
        let (errands, inbox) = sync_channel(16);
        let shared = Arc::new(Shared {
            config,
            current: RwLock::new(None),
            order: Mutex::new(()),
            room: Arc::default(),
            keeper: errands,
            replaced: AtomicUsize::new(0),
            writable: AtomicBool::new(true),
            seen: Mutex::default(),
        });
        // Made at start: the first record of a fresh producer waits half a second for its producer id.
        *shared.current.write() = Some(shared.make(0)?);
        let kept = Arc::downgrade(&shared);
        let keeper = thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn(move || keep(&kept, &inbox))
            .map_err(|e| KafkaError::ClientCreation(e.to_string()))?;
        Ok(Self { shared, keeper: Mutex::new(Some(keeper)) })
    }

    pub(super) fn append(&self, records: &[Record]) -> Append {
        match self.shared.enqueue(records) {
            Ok(None) => Box::pin(async { Ok(()) }),
            Ok(Some(answer)) => Box::pin(async move {
                answer.await.unwrap_or_else(|_| Err(StreamError::Indefinite("the producer ended".to_owned())))
            }),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }

    pub(super) fn stats(&self) -> KafkaStats {
        KafkaStats {
            queued_records: self.shared.room.records.load(Ordering::Relaxed),
            queued_bytes: self.shared.room.bytes.load(Ordering::Relaxed),
            replaced: self.shared.replaced.load(Ordering::Relaxed),
            writable: self.shared.writable.load(Ordering::Relaxed),
            ..*self.shared.seen.lock()
        }
    }

    /// Waits for what is queued, gives up the rest, ends. False when something was given up.
    pub(super) fn close(&self, longest: Duration) -> bool {
        let Some(keeper) = self.keeper.lock().take() else { return true };
        let producer = self.shared.current.write().take();
        let clean = producer.as_ref().is_none_or(|p| p.flush(longest).is_ok() && p.in_flight_count() == 0);
        drop(producer);
        let told = self.shared.keeper.send(Errand::Stop).is_ok();
        clean & (keeper.join().is_ok() | !told)
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

impl Shared {
    fn make(self: &Arc<Self>, generation: usize) -> Result<Producer, KafkaError> {
        let watch = Watch { generation, client: self.config.context(), shared: Arc::downgrade(self) };
        self.config.producer().create_with_context(watch)
    }

    /// Queues a batch, all of it or nothing. `None` for an empty one.
    fn enqueue(&self, records: &[Record]) -> Result<Option<oneshot::Receiver<Result<(), StreamError>>>, StreamError> {
        let limit = self.config.max_record_bytes;
        if let Some(bytes) = records.iter().map(Record::len).find(|bytes| *bytes > limit) {
            return Err(StreamError::TooLarge { bytes, limit });
        }
        if records.is_empty() {
            return Ok(None);
        }
        let bytes = records.iter().map(Record::len).sum();
        let _order = self.order.lock();
        let current = self.current.read();
        let Some(producer) = current.as_ref() else {
            return Err(StreamError::Unavailable("the connection to Kafka is being made anew".to_owned()));
        };
        self.room.take(records.len(), bytes, &self.config)?;
        let (done, answer) = oneshot::channel();
        let batch = Arc::new(Batch {
            left: AtomicUsize::new(records.len()),
            bytes,
            records: records.len(),
            room: Arc::clone(&self.room),
            failure: Mutex::new(None),
            done: Mutex::new(Some(done)),
        });
        for (n, record) in records.iter().enumerate() {
            if let Err(error) = self.send(producer, record, &batch) {
                // What was queued before it may still be taken.
                let failure = match n {
                    0 if matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull)) => StreamError::Full,
                    0 => StreamError::Unavailable(error.to_string()),
                    _ => StreamError::Indefinite(error.to_string()),
                };
                batch.ended(records.len() - n, Some(failure));
                break;
            }
        }
        Ok(Some(answer))
    }

    fn send(&self, producer: &Producer, record: &Record, batch: &Arc<Batch>) -> Result<(), KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let message = BaseRecord::with_opaque_to(&self.config.topic, Arc::clone(batch))
            .key(record.key.as_str())
            .payload(&*record.body)
            .timestamp(record.at.millis())
            .headers(headers);
        producer.send(message).map_err(|(error, _)| error)
    }
}

impl Room {
    fn take(&self, records: usize, bytes: usize, config: &KafkaConfig) -> Result<(), StreamError> {
        // Only one append at a time comes here; answers only make room.
        let fits = self.records.load(Ordering::Acquire) + records <= config.queue_records
            && self.bytes.load(Ordering::Acquire) + bytes <= config.queue_bytes;
        if !fits {
            return Err(StreamError::Full);
        }
        self.records.fetch_add(records, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Ok(())
    }
}

impl Batch {
    /// So many of its records have their answer.
    fn ended(&self, records: usize, failure: Option<StreamError>) {
        if let Some(failure) = failure {
            self.failure.lock().get_or_insert(failure);
        }
        if self.left.fetch_sub(records, Ordering::AcqRel) != records {
            return;
        }
        self.room.records.fetch_sub(self.records, Ordering::AcqRel);
        self.room.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        let result = self.failure.lock().take().map_or(Ok(()), Err);
        if let Some(done) = self.done.lock().take()
            && done.send(result).is_err()
        {
            tracing::trace!("nobody waits for this acknowledgement any more");
        }
    }
}

impl ClientContext for Watch {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn stats(&self, statistics: Statistics) {
        let Some(shared) = self.shared.upgrade() else { return };
        let brokers = statistics.brokers.values();
        let up = brokers.clone().filter(|b| b.state == "UP").count();
        let slowest = brokers.filter_map(|b| b.rtt.as_ref()).map(|rtt| rtt.avg).max().unwrap_or(0);
        if up > 0 {
            shared.writable.store(true, Ordering::Relaxed);
        }
        let mut seen = shared.seen.lock();
        seen.brokers_up = up;
        seen.round_trip_s = Duration::from_micros(u64::try_from(slowest).unwrap_or(0)).as_secs_f64();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => self.replace(),
            Some(RDKafkaErrorCode::AllBrokersDown) => self.mark(false),
            _ => {}
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.client.oauth_token()
    }
}

impl Watch {
    /// Notes whether appends are acknowledged.
    fn mark(&self, writable: bool) {
        if let Some(shared) = self.shared.upgrade() {
            shared.writable.store(writable, Ordering::Relaxed);
        }
    }

    fn replace(&self) {
        if let Some(shared) = self.shared.upgrade()
            && shared.keeper.try_send(Errand::Replace(self.generation)).is_err()
        {
            tracing::trace!("the producer is being replaced already");
        }
    }
}

impl ProducerContext for Watch {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        match result {
            Ok(_) => {
                self.mark(true);
                batch.ended(1, None);
            }
            Err((error, _)) => {
                // Only a record that the broker finds too large has certainly not been taken, and harms no other.
                let alone = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge);
                batch.ended(1, Some(StreamError::Indefinite(error.to_string())));
                if !alone {
                    self.mark(false);
                    self.replace();
                }
            }
        }
    }
}

/// Replaces producers until it is told to stop.
fn keep(shared: &std::sync::Weak<Shared>, inbox: &Receiver<Errand>) {
    let mut generation = 0;
    while let Ok(errand) = inbox.recv() {
        match errand {
            Errand::Stop => return,
            Errand::Replace(old) if old != generation => {}
            Errand::Replace(_) => {
                let Some(shared) = shared.upgrade() else { return };
                generation += 1;
                let old = shared.current.write().take();
                // Closed already: nothing is to come after.
                let Some(old) = old else { continue };
                let started = Instant::now();
                old.purge(PurgeConfig::default().queue().inflight());
                if old.flush(GIVE_UP).is_err() {
                    tracing::warn!("Kafka's client was slow to hand back what it gave up");
                }
                drop(old);
                match make_again(&shared, generation, inbox) {
                    Some(producer) => *shared.current.write() = Some(producer),
                    None => return,
                }
                shared.replaced.fetch_add(1, Ordering::Relaxed);
                let took_ms = started.elapsed().as_millis();
                tracing::warn!(took_ms, "an append to Kafka had no certain outcome; its client was made anew");
            }
        }
    }
}

/// Tries until it works. `None` when it is told to stop meanwhile.
fn make_again(shared: &Arc<Shared>, generation: usize, inbox: &Receiver<Errand>) -> Option<Producer> {
    loop {
        match shared.make(generation) {
            Ok(producer) => return Some(producer),
            Err(error) => tracing::error!(%error, "no Kafka client can be made; trying again"),
        }
        if let Ok(Errand::Stop) = inbox.recv_timeout(AGAIN) {
            return None;
        }
    }
}

impl fmt::Debug for Producers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producers").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
