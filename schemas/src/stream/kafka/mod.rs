//! The engine for several machines: Apache Kafka, through librdkafka. This folder is the only place that names it.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | what is configured, and what librdkafka is told because of it |
//! | `producer` | [`Sink`]: bounded, idempotent, replaced after an error that leaves an outcome open |
//! | `consumer` | [`KafkaSource`]: reads where the store says, never where the broker would guess |
//!
//! An append is acknowledged when all in-sync replicas have it. The surprising things: a batch is taken whole by the
//! queue but enters the log record by record, so an error leaves it *indefinite*; and positions are kept by whoever
//! reads, so the group offsets on the broker are never consulted.

mod consumer;
mod producer;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub use self::consumer::KafkaSource;
pub use self::producer::KafkaStats;
use self::producer::Producers;
use self::settings::Context;
pub use self::settings::{Bearer, KafkaConfig, Sasl, Security, Token};
use super::{Append, Sink, StreamError, Topic};
use crate::contract::Record;

/// How long a question to the cluster may take: metadata, watermarks, making a topic.
const ASK: Duration = Duration::from_secs(10);

/// A topic of a Kafka cluster. Cheap to clone through its `Arc`s; dropping the last sink gives up what is still queued,
/// so [`Kafka::close`] it first.
pub struct Kafka {
    config: Arc<KafkaConfig>,
    topic: Topic,
    producers: Producers,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("brokers", &self.config.brokers)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// Why a topic cannot be used. Says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No broker answered, or it refused us.
    #[error("no broker of {brokers} answers: {source}; check the addresses, the network and the login")]
    Unreachable {
        /// The brokers asked.
        brokers: String,
        /// What librdkafka says.
        source: KafkaError,
    },
    /// librdkafka does not take the settings.
    #[error("these Kafka settings cannot be used: {0}")]
    Settings(KafkaError),
    /// The topic is not there.
    #[error("the cluster has no topic {topic}; make it with `headgate check FILE --online`")]
    Missing {
        /// Its name.
        topic: String,
    },
    /// The topic has another number of partitions, so keys would move.
    #[error(
        "topic {topic} has {found} partitions, the configuration says {wanted}; drain it before changing their number"
    )]
    Partitions {
        /// Its name.
        topic: String,
        /// What there is.
        found: u32,
        /// What was asked for.
        wanted: u32,
    },
    /// The cluster would not make the topic.
    #[error("topic {topic} cannot be made: {reason}")]
    NotMade {
        /// Its name.
        topic: String,
        /// Why.
        reason: String,
    },
}

impl Kafka {
    /// Opens a topic that exists. Blocks for some seconds at most; call it off the async threads.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(config: KafkaConfig) -> Result<Self, OpenError> {
        let probe: BaseConsumer<Context> =
            config.client().create_with_context(config.context()).map_err(OpenError::Settings)?;
        let unreachable = |source| OpenError::Unreachable { brokers: config.brokers.clone(), source };
        let metadata = probe.fetch_metadata(Some(&config.topic), ASK).map_err(unreachable)?;
        let found = metadata.topics().iter().find(|t| t.name() == config.topic);
        let found = found.filter(|t| t.error().is_none()).map_or(0, |t| t.partitions().len());
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        match found {
            0 => return Err(OpenError::Missing { topic: config.topic }),
            n if n != config.partitions => {
                return Err(OpenError::Partitions { topic: config.topic, found, wanted: config.partitions });
            }
            _ => {}
        }
        let cluster = probe.client().fetch_cluster_id(ASK).unwrap_or_default();
        let topic = Topic { id: format!("kafka:{cluster}/{}", config.topic), partitions: found };
        let config = Arc::new(config);
        let producers = Producers::start(Arc::clone(&config)).map_err(OpenError::Settings)?;
        Ok(Self { config, topic, producers })
    }

    /// Makes the topic where it is missing, with its partitions, replicas and retention. True when it was made.
    ///
    /// # Errors
    /// [`OpenError`]; an existing topic with another number of partitions is one.
    pub async fn ensure(config: &KafkaConfig) -> Result<bool, OpenError> {
        let admin: AdminClient<Context> =
            config.client().create_with_context(config.context()).map_err(OpenError::Settings)?;
        let retention = config.retention.as_millis().to_string();
        let wanted = NewTopic::new(
            &config.topic,
            i32::try_from(config.partitions).unwrap_or(i32::MAX),
            TopicReplication::Fixed(config.replication),
        )
        .set("retention.ms", &retention)
        .set("cleanup.policy", "delete");
        let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
        let not_made = |reason: String| OpenError::NotMade { topic: config.topic.clone(), reason };
        let results = admin
            .create_topics([&wanted], &options)
            .await
            .map_err(|source| OpenError::Unreachable { brokers: config.brokers.clone(), source })?;
        match results.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(not_made(code.to_string())),
            None => Err(not_made("the cluster gave no answer".to_owned())),
        }
    }

    /// A reader. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When librdkafka does not take the settings.
    pub fn source(&self) -> Result<KafkaSource, StreamError> {
        KafkaSource::new(&self.config, &self.topic)
    }

    /// What the producer is doing, for metrics.
    pub fn stats(&self) -> KafkaStats {
        self.producers.stats()
    }

    /// Waits until everything queued is acknowledged or `longest` has passed; then gives up the rest. Blocks. False
    /// when something was given up.
    pub fn close(&self, longest: Duration) -> bool {
        self.producers.close(longest)
    }
}

impl Sink for Kafka {
    fn append(&self, batch: Vec<Record>) -> Append {
        self.producers.append(&batch)
    }

    fn topic(&self) -> Topic {
        self.topic.clone()
    }
}
