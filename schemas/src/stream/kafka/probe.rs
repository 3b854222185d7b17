//! Questions to the cluster: what the topic is, and which offsets it holds. They block, for [`ASK`] at most.
//!
//! It must not read or write records. The surprising thing: librdkafka answers nothing that needs a callback (a login
//! by token) unless its queue is served, and nobody reads from this client, so every question serves it first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headgate_librdkafka::topic_id;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::OpenError;
use super::settings::{Context, KafkaConfig, Sasl};
use crate::stream::{Position, StreamError, Topic};
use crate::time::Timestamp;

/// How long a question to the cluster may take.
pub(super) const ASK: Duration = Duration::from_secs(10);
/// Events that are served before a question at most.
const EVENTS: usize = 100;
/// How long the first token may take.
const TOKEN: Duration = Duration::from_secs(5);
/// How long the cause of a failure may take to be told.
const CAUSE: Duration = Duration::from_secs(2);
/// Between two attempts of one question.
const AGAIN: Duration = Duration::from_millis(100);
/// The leader of a partition is not who it was; the next answer about the topic tells who it is.
const LEADERS: [RDKafkaErrorCode; 5] = [
    RDKafkaErrorCode::FencedLeaderEpoch,
    RDKafkaErrorCode::UnknownLeaderEpoch,
    RDKafkaErrorCode::NotLeaderForPartition,
    RDKafkaErrorCode::LeaderNotAvailable,
    RDKafkaErrorCode::OffsetNotAvailable,
];

/// A client that only asks.
pub(super) struct Probe {
    consumer: BaseConsumer<Context>,
    context: Context,
    config: Arc<KafkaConfig>,
}

impl Probe {
    pub(super) fn new(config: &Arc<KafkaConfig>) -> Result<Self, KafkaError> {
        let context = config.context();
        let consumer: BaseConsumer<Context> = config.client().create_with_context(context.clone())?;
        if matches!(config.security.sasl, Some(Sasl::OauthBearer(_))) {
            let served = Instant::now();
            while !context.has_token() && served.elapsed() < TOKEN {
                drop(consumer.poll(Duration::from_millis(20)));
            }
        }
        Ok(Self { consumer, context, config: Arc::clone(config) })
    }

    /// What to make of a question that failed. The cause is told by an event, which may come a moment later.
    pub(super) fn unreachable(&self, error: KafkaError) -> OpenError {
        let failed = Instant::now();
        while !self.context.knows_the_cause() && failed.elapsed() < CAUSE {
            drop(self.consumer.poll(AGAIN));
        }
        let (brokers, heard) = (self.config.brokers.clone(), self.context.heard());
        let reason = heard.as_ref().map_or_else(|| error.to_string(), |heard| heard.reason.clone());
        match heard.map(|heard| heard.code) {
            Some(RDKafkaErrorCode::Authentication) => OpenError::Login { brokers, reason },
            Some(RDKafkaErrorCode::SSL) => OpenError::Tls { brokers, reason },
            Some(_) | None => OpenError::Unreachable { brokers, reason },
        }
    }

    /// How many partitions the topic has; 0 when there is no such topic.
    pub(super) fn partitions(&self) -> Result<u32, KafkaError> {
        self.serve();
        let metadata = self.consumer.fetch_metadata(Some(&self.config.topic), ASK)?;
        let found = metadata.topics().iter().find(|t| t.name() == self.config.topic && t.error().is_none());
        Ok(found.map_or(0, |t| u32::try_from(t.partitions().len()).unwrap_or(u32::MAX)))
    }

    /// Which topic this is: the cluster, the name, and the id that it was given when it was made. `None` while there is
    /// no such topic.
    pub(super) fn identity(&self) -> Result<Option<Topic>, KafkaError> {
        self.serve();
        let client = self.consumer.client();
        let made = topic_id(client, &self.config.topic, ASK)?;
        let cluster = client.fetch_cluster_id(ASK).unwrap_or_default();
        let id = |made| format!("kafka:{cluster}/{}{}{made}", self.config.topic, Topic::MADE);
        Ok(made.map(|made| Topic { id: id(made), partitions: self.config.partitions }))
    }

    /// Start and end of each partition.
    pub(super) fn bounds(&self) -> Result<Vec<(Position, Position)>, StreamError> {
        let starts = self.offsets(Offset::Beginning)?;
        let ends = self.offsets(Offset::End)?;
        let position = |(partition, offset): (u32, Option<u64>)| Position { partition, offset: offset.unwrap_or(0) };
        Ok((0..).zip(starts).map(position).zip((0..).zip(ends).map(position)).collect())
    }

    /// The end of each partition.
    pub(super) fn ends(&self) -> Result<Vec<u64>, StreamError> {
        Ok(self.offsets(Offset::End)?.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Positions from which everything of that time or later is read.
    pub(super) fn since(&self, at: Timestamp) -> Result<Vec<Position>, StreamError> {
        // The ends first: what comes between the two questions must be read.
        let ends = self.ends()?;
        let first = self.offsets(Offset::Offset(at.millis().max(0)))?;
        let first = first.into_iter().zip(ends).map(|(first, end)| first.unwrap_or(end));
        Ok((0..).zip(first).map(|(partition, offset)| Position { partition, offset }).collect())
    }

    /// An offset of every partition. `at` is the beginning, the end, or a time in milliseconds; `None` where nothing has
    /// that time or a later one. A question that met a change of leaders is asked again.
    fn offsets(&self, at: Offset) -> Result<Vec<Option<u64>>, StreamError> {
        let asked = Instant::now();
        loop {
            let error = match self.ask(at) {
                Ok(offsets) => return Ok(offsets),
                Err(error) => error,
            };
            if asked.elapsed() > ASK || !error.rdkafka_error_code().is_some_and(|code| LEADERS.contains(&code)) {
                return Err(unavailable(error));
            }
            // What is known of the leaders is renewed by asking for it.
            self.partitions().map_err(unavailable)?;
            drop(self.consumer.poll(AGAIN));
        }
    }

    /// One request to each broker.
    fn ask(&self, at: Offset) -> Result<Vec<Option<u64>>, KafkaError> {
        self.serve();
        let count = self.config.partitions;
        let mut asked = TopicPartitionList::with_capacity(count as usize);
        for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
            asked.add_partition_offset(&self.config.topic, partition, at)?;
        }
        let found = self.consumer.offsets_for_times(asked, ASK)?;
        let mut offsets = vec![None; count as usize];
        for element in found.elements() {
            element.error()?;
            let place = usize::try_from(element.partition()).ok().and_then(|p| offsets.get_mut(p));
            if let (Some(place), Offset::Offset(offset)) = (place, element.offset()) {
                *place = u64::try_from(offset).ok();
            }
        }
        Ok(offsets)
    }

    fn serve(&self) {
        for _ in 0..EVENTS {
            if self.consumer.poll(Duration::ZERO).is_none() {
                return;
            }
        }
    }
}

/// The cluster did not do what was asked of it; nothing changed.
pub(super) fn unavailable(error: KafkaError) -> StreamError {
    StreamError::Unavailable(error.to_string())
}

/// Runs something that blocks, so that the other tasks of this thread go on elsewhere.
pub(super) fn blocking<T>(ask: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(ask),
        _ => ask(),
    }
}
