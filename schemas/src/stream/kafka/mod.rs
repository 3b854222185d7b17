//! The engine for several machines: Apache Kafka, through librdkafka. This folder is the only place that names it, but
//! for `headgate-librdkafka`, which does what its Rust crate does not wrap.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | what is configured, and what librdkafka is told because of it |
//! | `producer` | [`Sink`]: bounded, idempotent, replaced after an error that leaves an outcome open |
//! | `consumer` | [`KafkaSource`]: reads where the store says, never where the broker would guess |
//! | `control` | a small compacted topic that everybody knows whole |
//! | `topic` | makes the topic and compares its settings, for `headgate check --online` |
//! | `probe` | questions about the topic that need no reader: partitions, offsets, times |
//!
//! An append is acknowledged when all in-sync replicas have it. The surprising things: a batch is taken whole by the
//! queue but enters the log record by record, so an error leaves it *indefinite*; and positions are kept by whoever
//! reads, so the group offsets on the broker are never consulted.

mod consumer;
mod control;
mod probe;
mod producer;
mod settings;
mod topic;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;

pub use self::consumer::KafkaSource;
pub use self::control::{Control, Entry};
use self::probe::{Probe, blocking};
pub use self::producer::KafkaStats;
use self::producer::Producers;
pub use self::settings::{Bearer, KafkaConfig, Sasl, Security, Token};
pub use self::topic::Deviation;
use super::{Append, Position, Sink, StreamError, Topic};
use crate::contract::Record;

/// A topic of a Kafka cluster. Cheap to clone through its `Arc`s; dropping the last sink gives up what is still queued,
/// so [`Kafka::close`] it first.
pub struct Kafka {
    config: Arc<KafkaConfig>,
    topic: Topic,
    probe: Arc<Probe>,
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
    /// No broker answered.
    #[error("no broker of {brokers} answers: {reason}; check the addresses, the network and whether they want TLS")]
    Unreachable {
        /// The brokers asked.
        brokers: String,
        /// What was heard of them.
        reason: String,
    },
    /// The brokers do not take the login, or there is nothing to show them.
    #[error("the login at {brokers} fails: {reason}; check mechanism, user and password, or where tokens come from")]
    Login {
        /// The brokers asked.
        brokers: String,
        /// What they, or the source of tokens, say.
        reason: String,
    },
    /// The brokers' certificate is not one that we trust, or ours is not one that they do.
    #[error("no TLS connection to {brokers}: {reason}; check ca_file, and that the certificate has the name asked for")]
    Tls {
        /// The brokers asked.
        brokers: String,
        /// What TLS says.
        reason: String,
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
    /// The cluster does not show the topic's settings.
    #[error("the settings of topic {topic} cannot be looked at: {reason}")]
    Hidden {
        /// Its name.
        topic: String,
        /// Why.
        reason: String,
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

impl KafkaConfig {
    /// Fails unless a topic with `found` partitions is the one that is configured.
    fn fits(&self, found: u32) -> Result<(), OpenError> {
        let (topic, wanted) = (self.topic.clone(), self.partitions);
        match found {
            0 => Err(OpenError::Missing { topic }),
            found if found != wanted => Err(OpenError::Partitions { topic, found, wanted }),
            _ => Ok(()),
        }
    }
}

impl Kafka {
    /// Opens a topic that exists. Blocks for some seconds at most; call it off the async threads.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(config: KafkaConfig) -> Result<Self, OpenError> {
        let config = Arc::new(config);
        let probe = Probe::new(&config).map_err(OpenError::Settings)?;
        config.fits(probe.partitions().map_err(|error| probe.unreachable(error))?)?;
        let missing = || OpenError::Missing { topic: config.topic.clone() };
        let topic = probe.identity().map_err(|error| probe.unreachable(error))?.ok_or_else(missing)?;
        let producers = Producers::start(Arc::clone(&config)).map_err(OpenError::Settings)?;
        Ok(Self { config, topic, probe: Arc::new(probe), producers })
    }

    /// A reader of the topic as it is now; while the cluster does not tell, of the one that was opened. Must be called
    /// inside a Tokio runtime, and may block for some seconds.
    ///
    /// # Errors
    /// When librdkafka does not take the settings.
    pub fn source(&self) -> Result<KafkaSource, StreamError> {
        let now = blocking(|| self.probe.identity()).ok().flatten();
        KafkaSource::new(&self.config, &self.probe, now.as_ref().unwrap_or(&self.topic))
    }

    /// A control topic of the same cluster. Blocks for some seconds at most.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn control(&self, topic: &str) -> Result<Control, OpenError> {
        Control::open(&self.config, topic)
    }

    /// Records behind `positions`; a partition without a position counts from its start. Blocks for some seconds at
    /// most.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn lag(&self, positions: &[Position]) -> Result<u64, StreamError> {
        let behind = self.probe.bounds()?.into_iter().map(|(start, end)| {
            let at = positions.iter().find(|p| p.partition == start.partition).map_or(0, |p| p.offset);
            end.offset.saturating_sub(at.max(start.offset))
        });
        Ok(behind.sum())
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
