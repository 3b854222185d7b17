//! Reading where the reader's own store says. The broker's idea of where a group stands is never asked for, and a
//! position that the log does not hold is an error, not a jump.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use rdkafka::consumer::{Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::ASK;
use super::settings::{Context, KafkaConfig};
use crate::contract::Record;
use crate::stream::{Delivered, Next, Position, Source, StreamError, Topic};
use crate::time::Timestamp;

/// A reader of a topic.
pub struct KafkaSource {
    consumer: StreamConsumer<Context>,
    config: Arc<KafkaConfig>,
    topic: Topic,
    /// Where each assigned partition is read on.
    next: BTreeMap<u32, u64>,
}

impl ConsumerContext for Context {}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("topic", &self.topic).field("next", &self.next).finish_non_exhaustive()
    }
}

impl KafkaSource {
    pub(super) fn new(config: &Arc<KafkaConfig>, topic: &Topic) -> Result<Self, StreamError> {
        let consumer = config
            .consumer()
            .create_with_context(config.context())
            .map_err(|error: KafkaError| StreamError::Unavailable(error.to_string()))?;
        Ok(Self { consumer, config: Arc::clone(config), topic: topic.clone(), next: BTreeMap::new() })
    }

    fn bounds_of(&self, partition: u32) -> Result<(Position, Position), StreamError> {
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let (low, high) = self.consumer.fetch_watermarks(&self.config.topic, number, ASK).map_err(unavailable)?;
        let at = |offset| Position { partition, offset: u64::try_from(offset).unwrap_or(0) };
        Ok((at(low), at(high)))
    }

    fn check(&self, position: Position) -> Result<(), StreamError> {
        let Position { partition, offset } = position;
        let (start, end) = match partition < self.topic.partitions {
            true => self.bounds_of(partition)?,
            false => (Position { partition, offset: 0 }, Position { partition, offset: 0 }),
        };
        if partition >= self.topic.partitions || offset < start.offset || offset > end.offset {
            return Err(StreamError::OutOfRange { partition, offset, start: start.offset, end: end.offset });
        }
        Ok(())
    }

    /// What to make of an error while reading: `None` when librdkafka gets over it by itself.
    fn fault(&self, error: &KafkaError) -> Option<StreamError> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                let lost = self.next.iter().map(|(p, o)| Position { partition: *p, offset: *o });
                let found = lost.into_iter().find_map(|position| self.check(position).err());
                Some(found.unwrap_or_else(|| StreamError::Unavailable(error.to_string())))
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

    fn take(&mut self, delivered: Delivered, page: &mut Vec<Delivered>) {
        self.next.insert(delivered.partition, delivered.offset + 1);
        page.push(delivered);
    }
}

impl Source for KafkaSource {
    fn topic(&self) -> Topic {
        self.topic.clone()
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), StreamError> {
        for position in positions {
            self.check(*position)?;
        }
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let partition = i32::try_from(position.partition).unwrap_or(i32::MAX);
            let offset = Offset::Offset(i64::try_from(position.offset).unwrap_or(i64::MAX));
            list.add_partition_offset(&self.config.topic, partition, offset).map_err(unavailable)?;
        }
        self.consumer.assign(&list).map_err(unavailable)?;
        self.next = positions.iter().map(|p| (p.partition, p.offset)).collect();
        Ok(())
    }

    fn next(&mut self, max: usize) -> Next<'_> {
        Box::pin(async move {
            let mut page = Vec::new();
            // Nothing is awaited once a record was taken, so that dropping this loses none.
            while page.is_empty() {
                let received = self.consumer.recv().await.map(|m| delivered(&m));
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
        (0..self.topic.partitions).map(|p| self.bounds_of(p)).collect()
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

fn unavailable(error: KafkaError) -> StreamError {
    StreamError::Unavailable(error.to_string())
}

fn delivered(message: &BorrowedMessage<'_>) -> Delivered {
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
