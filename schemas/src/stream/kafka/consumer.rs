//! Reading where the reader's own store says. The broker's idea of where a group stands is never asked for, and a
//! position that the log does not hold is an error, not a jump. A topic that was deleted and made again has offsets, too,
//! so every few seconds its id is compared with that of the topic that was read.
//!
//! The surprising thing: librdkafka tells once why it stopped reading a partition, and is silent ever after. So an error
//! is remembered, and reading begins anew from the same places, until the log allows it or somebody assigns others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use rdkafka::consumer::{Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::timeout;

use super::probe::{Probe, blocking, unavailable};
use super::settings::{Context, KafkaConfig};
use crate::contract::{Record, header_name};
use crate::stream::{Delivered, Next, Position, Source, StreamError, Topic};
use crate::time::Timestamp;

/// How often the topic is asked which one it is, also while nothing comes.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// A reader of a topic.
pub struct KafkaSource {
    consumer: StreamConsumer<Context>,
    config: Arc<KafkaConfig>,
    probe: Arc<Probe>,
    topic: Topic,
    /// Where each assigned partition is read on.
    next: BTreeMap<u32, u64>,
    /// When the topic was last asked which one it is.
    compared: Instant,
    /// What ended the reading, until it goes on.
    failed: Option<KafkaError>,
    /// The assigned places are of a topic that is no more.
    replaced: bool,
}

impl ConsumerContext for Context {}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("topic", &self.topic).field("next", &self.next).finish_non_exhaustive()
    }
}

impl KafkaSource {
    pub(super) fn new(config: &Arc<KafkaConfig>, probe: &Arc<Probe>, topic: &Topic) -> Result<Self, StreamError> {
        let consumer = config.consumer().create_with_context(config.context()).map_err(unavailable)?;
        let (config, probe) = (Arc::clone(config), Arc::clone(probe));
        let (topic, next) = (topic.clone(), BTreeMap::new());
        Ok(Self { consumer, config, probe, topic, next, compared: Instant::now(), failed: None, replaced: false })
    }

    /// Fails when the log does not hold one of the positions.
    fn check(&self, positions: &[Position]) -> Result<(), StreamError> {
        let bounds = self.bounds()?;
        for Position { partition, offset } in positions.iter().copied() {
            let found = bounds.get(usize::try_from(partition).unwrap_or(usize::MAX));
            let (start, end) = found.map_or((0, 0), |(start, end)| (start.offset, end.offset));
            if found.is_none() || offset < start || offset > end {
                return Err(StreamError::OutOfRange { partition, offset, start, end });
            }
        }
        Ok(())
    }

    /// Whether an error ended the reading of something. librdkafka gets over the others by itself.
    fn ends(error: &KafkaError) -> bool {
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::Fatal,
            )
            | None => true,
            Some(_) => {
                tracing::warn!(%error, "reading from Kafka");
                false
            }
        }
    }

    /// Reads on where it stopped, with a new client after an error that ends one for good. Tells what is wrong with
    /// these places, or else why it stopped.
    fn go_on(&mut self, error: KafkaError) -> StreamError {
        let positions: Vec<_> = self.next.iter().map(|(p, o)| Position { partition: *p, offset: *o }).collect();
        let begun = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => self.renew().and_then(|()| self.assign(&positions)),
            _ => self.assign(&positions),
        };
        match begun {
            Ok(()) => unavailable(error),
            Err(told) => {
                self.failed = Some(error);
                told
            }
        }
    }

    fn renew(&mut self) -> Result<(), StreamError> {
        self.consumer = self.config.consumer().create_with_context(self.config.context()).map_err(unavailable)?;
        Ok(())
    }

    /// Fails when the topic is another one than that which was read, and is then a reader of the new one. A cluster that
    /// cannot be asked, or has no such topic now, is asked later.
    fn compare(&mut self) -> Result<(), StreamError> {
        self.compared = Instant::now();
        match blocking(|| self.probe.identity()) {
            Ok(Some(found)) if found.id != self.topic.id => {
                self.topic = found;
                self.replaced = true;
                Err(StreamError::Replaced)
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the topic cannot be asked which one it is now");
                Ok(())
            }
        }
    }
}

impl Source for KafkaSource {
    fn topic(&self) -> Topic {
        self.topic.clone()
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), StreamError> {
        self.compare()?;
        self.check(positions)?;
        if self.replaced {
            // The old client remembers the leaders of the old topic, and takes places in the new one for lost ones.
            self.renew()?;
        }
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let partition = i32::try_from(position.partition).unwrap_or(i32::MAX);
            let offset = Offset::Offset(i64::try_from(position.offset).unwrap_or(i64::MAX));
            list.add_partition_offset(&self.config.topic, partition, offset).map_err(unavailable)?;
        }
        self.consumer.assign(&list).map_err(unavailable)?;
        self.next = positions.iter().map(|p| (p.partition, p.offset)).collect();
        (self.failed, self.replaced) = (None, false);
        Ok(())
    }

    fn next(&mut self, max: usize) -> Next<'_> {
        Box::pin(async move {
            if self.replaced {
                return Err(StreamError::Replaced);
            }
            if let Some(error) = self.failed.take() {
                return Err(self.go_on(error));
            }
            let (mut page, mut bytes) = (Vec::new(), 0);
            // Nothing is awaited once a record was taken, so that dropping this loses none.
            while page.is_empty() {
                if self.compared.elapsed() > COMPARE_EVERY {
                    self.compare()?;
                }
                let received = timeout(COMPARE_EVERY, self.consumer.recv()).await;
                match received.map(|received| received.map(|m| delivered(&m))) {
                    Ok(Ok(record)) => bytes += take(&mut self.next, record, &mut page),
                    Ok(Err(error)) if Self::ends(&error) => return Err(self.go_on(error)),
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            // One stream for the whole page: each registers a waker.
            let mut ready = self.consumer.stream();
            while page.len() < max && bytes < self.config.read_ahead_bytes {
                match ready.next().now_or_never().flatten().map(|received| received.map(|m| delivered(&m))) {
                    Some(Ok(record)) => bytes += take(&mut self.next, record, &mut page),
                    // What was read is not held back for it.
                    Some(Err(error)) if Self::ends(&error) => {
                        self.failed = Some(error);
                        break;
                    }
                    Some(Err(_)) | None => break,
                }
            }
            Ok(page)
        })
    }

    fn bounds(&self) -> Result<Vec<(Position, Position)>, StreamError> {
        blocking(|| self.probe.bounds())
    }

    fn since(&self, at: Timestamp) -> Result<Vec<Position>, StreamError> {
        blocking(|| self.probe.since(at))
    }
}

/// Puts a record on the page, which is read on behind it; returns its bytes.
fn take(next: &mut BTreeMap<u32, u64>, delivered: Delivered, page: &mut Vec<Delivered>) -> usize {
    // What an assignment that was replaced had fetched ahead.
    let Some(next) = next.get_mut(&delivered.partition).filter(|next| delivered.offset >= **next) else { return 0 };
    *next = delivered.offset + 1;
    let bytes = delivered.record.len();
    page.push(delivered);
    bytes
}

/// Text as it was written, and as much of it as can be read where somebody else wrote it.
fn text(bytes: Option<&[u8]>) -> String {
    let bytes = bytes.unwrap_or_default();
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes).into_owned(), str::to_owned)
}

fn delivered(message: &BorrowedMessage<'_>) -> Delivered {
    let headers = message.headers().into_iter().flat_map(|h| h.iter());
    let headers = headers.map(|h| (header_name(h.key), text(h.value))).collect();
    let at = message.timestamp().to_millis().unwrap_or(0);
    Delivered {
        partition: u32::try_from(message.partition()).unwrap_or(0),
        offset: u64::try_from(message.offset()).unwrap_or(0),
        record: Record {
            key: text(message.key()),
            at: Timestamp::from_millis(at),
            headers,
            body: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        },
    }
}
