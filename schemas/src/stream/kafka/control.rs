//! A small compacted topic that everybody who opens it knows whole: the last value of each key. What gateways must agree
//! on stands there.
//!
//! It must not know what the values mean. The surprising thing is how it is read: not by waiting for what comes, but up
//! to where it ends *now*, so that whoever asks knows that nothing written before the question is missing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use super::probe::{ASK, Probe, unavailable};
use super::settings::{Context, KafkaConfig};
use super::topic::{admin, options};
use super::{OpenError, blocking};
use crate::stream::{StreamError, Topic};

/// A value that was read; `None` takes the key away.
pub type Entry = (String, Option<Vec<u8>>);

/// The one partition there is: all of it is read, and its order is the order of what was agreed.
const PARTITION: i32 = 0;
/// Between two looks for a record that is on its way.
const POLL: Duration = Duration::from_millis(50);

/// An open control topic.
pub struct Control {
    config: KafkaConfig,
    probe: Probe,
    producer: FutureProducer<Context>,
    reader: Mutex<Reader>,
}

struct Reader {
    consumer: BaseConsumer<Context>,
    /// Which topic was read, and up to where.
    topic: Option<Topic>,
    next: i64,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("topic", &self.config.topic).finish_non_exhaustive()
    }
}

/// The settings of a cluster, for its control topic.
fn of(config: &KafkaConfig, topic: &str) -> KafkaConfig {
    KafkaConfig { topic: topic.to_owned(), partitions: 1, ..config.clone() }
}

impl Control {
    /// Makes the topic where it is missing. True when it was made.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn ensure(config: &KafkaConfig, topic: &str) -> Result<bool, OpenError> {
        let config = of(config, topic);
        match super::topic::has_partitions(&config).await {
            Err(OpenError::Missing { .. }) => {}
            found => return found.map(|()| false),
        }
        let in_sync = config.min_in_sync.to_string();
        let wanted = NewTopic::new(topic, 1, TopicReplication::Fixed(config.replication))
            .set("cleanup.policy", "compact")
            .set("min.insync.replicas", &in_sync);
        let not_made = |reason: String| OpenError::NotMade { topic: topic.to_owned(), reason };
        let made = admin(&config)?.create_topics([&wanted], &options()).await;
        match made.map_err(|error| not_made(error.to_string()))?.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(not_made(code.to_string())),
            None => Err(not_made("the cluster gave no answer".to_owned())),
        }
    }

    /// Opens a topic that exists. Blocks for some seconds at most.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(config: &KafkaConfig, topic: &str) -> Result<Self, OpenError> {
        let config = of(config, topic);
        let probe = Probe::new(&Arc::new(config.clone())).map_err(OpenError::Settings)?;
        config.fits(probe.partitions().map_err(|error| probe.unreachable(error))?)?;
        let consumer = config.consumer().create_with_context(config.context()).map_err(OpenError::Settings)?;
        let mut producer = config.producer();
        let producer = producer.set("statistics.interval.ms", "0");
        let producer = producer.create_with_context(config.context()).map_err(OpenError::Settings)?;
        let reader = Mutex::new(Reader { consumer, topic: None, next: 0 });
        Ok(Self { config, probe, producer, reader })
    }

    /// Writes a value, or takes a key away; returns when all in-sync replicas have it.
    ///
    /// # Errors
    /// [`StreamError::Indefinite`] when that is not known; writing it again does no harm.
    pub async fn put(&self, key: &str, value: Option<&[u8]>) -> Result<(), StreamError> {
        let mut record = FutureRecord::<str, [u8]>::to(&self.config.topic).key(key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        let sent = self.producer.send(record, self.config.delivery).await;
        sent.map(drop).map_err(|(error, _)| StreamError::Indefinite(error.to_string()))
    }

    /// Everything that was written since the last call and before this one, in order; at the first call, and when the
    /// topic was made anew, all that stands there, with `true`. Blocks for some seconds at most.
    ///
    /// # Errors
    /// When the cluster does not answer; the next call goes on where the last one that succeeded ended.
    pub fn read_on(&self) -> Result<(bool, Vec<Entry>), StreamError> {
        let mut reader = self.reader.lock();
        blocking(|| reader.read(&self.probe, &self.config.topic))
    }
}

impl Reader {
    fn read(&mut self, probe: &Probe, name: &str) -> Result<(bool, Vec<Entry>), StreamError> {
        let topic = probe.identity().map_err(unavailable)?;
        let bounds = probe.bounds()?;
        let (start, end) = bounds.first().map_or((0, 0), |(start, end)| (start.offset, end.offset));
        let (start, end) = (i64::try_from(start).unwrap_or(i64::MAX), i64::try_from(end).unwrap_or(i64::MAX));
        let anew = self.topic.is_none() || self.topic != topic || self.next > end;
        let from = if anew { start } else { self.next };
        let entries = if from < end { self.fetch(name, from, end)? } else { Vec::new() };
        (self.topic, self.next) = (topic, end);
        Ok((anew, entries))
    }

    /// The records from one place to another. Compaction leaves gaps, so the end is reached when the reader says so.
    fn fetch(&self, name: &str, from: i64, end: i64) -> Result<Vec<Entry>, StreamError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(name, PARTITION, Offset::Offset(from)).map_err(unavailable)?;
        self.consumer.assign(&list).map_err(unavailable)?;
        let (since, mut entries) = (Instant::now(), Vec::new());
        while since.elapsed() < ASK {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) if message.offset() < end => {
                    let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
                    entries.push((key, message.payload().map(<[u8]>::to_vec)));
                    if message.offset() + 1 == end {
                        return Ok(entries);
                    }
                }
                // What came after the question.
                Some(Ok(_)) | Some(Err(KafkaError::PartitionEOF(_))) => return Ok(entries),
                Some(Err(error)) => tracing::debug!(%error, "reading the control topic"),
                None => {}
            }
        }
        Err(StreamError::Unavailable("the control topic was not read to its end in time".to_owned()))
    }
}
