//! Reading where the reader's own store says. The broker's idea of where a group stands is never asked for, and a
//! position that the log does not hold is an error, not a jump. A topic that was deleted and made again has offsets, too,
//! so every few seconds the last records read are compared with what stands at their place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use rdkafka::consumer::{Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::timeout;

use super::marks::Marks;
use super::probe::{Probe, blocking, unavailable};
use super::settings::{Context, KafkaConfig};
use crate::contract::Record;
use crate::stream::{Delivered, Next, Position, Source, StreamError, Topic};
use crate::time::Timestamp;

/// How often what was read is compared with the log, also while nothing comes.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// A reader of a topic.
pub struct KafkaSource {
    consumer: StreamConsumer<Context>,
    config: Arc<KafkaConfig>,
    probe: Arc<Probe>,
    topic: Topic,
    /// Where each assigned partition is read on.
    next: BTreeMap<u32, u64>,
    marks: Marks,
    /// When the marks were last compared with the log.
    compared: Instant,
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
        let (topic, next, marks) = (topic.clone(), BTreeMap::new(), Marks::default());
        Ok(Self { consumer, config, probe, topic, next, marks, compared: Instant::now() })
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

    /// What to make of an error while reading: `None` when librdkafka gets over it by itself.
    fn fault(&mut self, error: &KafkaError) -> Option<StreamError> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                if matches!(self.compare(), Err(StreamError::Replaced)) {
                    return Some(StreamError::Replaced);
                }
                let next: Vec<_> = self.next.iter().map(|(p, o)| Position { partition: *p, offset: *o }).collect();
                let lost = self.check(&next).err();
                Some(lost.unwrap_or_else(|| StreamError::Unavailable(error.to_string())))
            }
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::Fatal,
            ) => Some(unavailable(error.clone())),
            Some(_) => {
                tracing::warn!(%error, "reading from Kafka");
                None
            }
            None => Some(unavailable(error.clone())),
        }
    }

    /// Fails when the log no longer holds what was read of it. A cluster that cannot be asked is asked later.
    fn compare(&mut self) -> Result<(), StreamError> {
        self.compared = Instant::now();
        match blocking(|| self.marks.hold(&self.probe, &self.config)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StreamError::Replaced),
            Err(error) => {
                tracing::debug!(%error, "what was read cannot be compared with the log now");
                Ok(())
            }
        }
    }

    fn take(&mut self, delivered: Delivered, page: &mut Vec<Delivered>) {
        self.next.insert(delivered.partition, delivered.offset + 1);
        self.marks.read(&delivered);
        page.push(delivered);
    }
}

impl Source for KafkaSource {
    fn topic(&self) -> Topic {
        self.topic.clone()
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), StreamError> {
        self.check(positions)?;
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let partition = i32::try_from(position.partition).unwrap_or(i32::MAX);
            let offset = Offset::Offset(i64::try_from(position.offset).unwrap_or(i64::MAX));
            list.add_partition_offset(&self.config.topic, partition, offset).map_err(unavailable)?;
        }
        self.consumer.assign(&list).map_err(unavailable)?;
        self.next = positions.iter().map(|p| (p.partition, p.offset)).collect();
        self.marks = Marks::default();
        self.compared = Instant::now();
        Ok(())
    }

    fn next(&mut self, max: usize) -> Next<'_> {
        Box::pin(async move {
            let mut page = Vec::new();
            // Nothing is awaited once a record was taken, so that dropping this loses none.
            while page.is_empty() {
                if self.compared.elapsed() > COMPARE_EVERY {
                    self.compare()?;
                }
                let received = timeout(COMPARE_EVERY, self.consumer.recv()).await;
                let Ok(received) = received.map(|received| received.map(|m| delivered(&m))) else { continue };
                self.receive(received, &mut page)?;
            }
            while page.len() < max {
                let Some(received) = self.consumer.recv().now_or_never() else { break };
                let received = received.map(|m| delivered(&m));
                if received.is_err() {
                    // It comes again, or it passes; what was read is not held back for it.
                    break;
                }
                self.receive(received, &mut page)?;
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

impl KafkaSource {
    fn receive(
        &mut self,
        received: Result<Delivered, KafkaError>,
        page: &mut Vec<Delivered>,
    ) -> Result<(), StreamError> {
        match received {
            // What an assignment that was replaced had fetched ahead.
            Ok(d) if self.next.get(&d.partition).is_none_or(|next| d.offset < *next) => Ok(()),
            Ok(d) => {
                self.take(d, page);
                Ok(())
            }
            Err(error) => self.fault(&error).map_or(Ok(()), Err),
        }
    }
}

pub(super) fn delivered(message: &BorrowedMessage<'_>) -> Delivered {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let headers = message.headers().into_iter().flat_map(|h| h.iter());
    let headers = headers.map(|h| (Cow::Owned(h.key.to_owned()), text(h.value))).collect();
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
