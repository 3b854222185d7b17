//! The engine that the configuration names, behind one type: what to append to, what to read from, how it is, how it
//! ends. It must not know gateway or relay. The surprising thing: how far a reader is behind is counted differently by
//! the two engines, because one numbers its records across all partitions and the other in each of them.

use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::stream::embedded::Embedded;
#[cfg(feature = "kafka")]
use headgate_schemas::stream::kafka::{Control, Kafka, OpenError};
use headgate_schemas::stream::{Position, Sink, Source, StreamError};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::StreamConfig;
#[cfg(feature = "kafka")]
use crate::control::TOPIC;
#[cfg(feature = "kafka")]
use crate::exit::Exit;
use crate::exit::Failure;

/// An open stream. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Stream {
    /// A log of SQLite segments.
    Embedded(Arc<Embedded>),
    /// A topic of a Kafka cluster.
    #[cfg(feature = "kafka")]
    Kafka(Arc<Kafka>),
}

impl Stream {
    /// Opens the engine.
    ///
    /// # Errors
    /// Why it cannot be used, with what to do.
    pub(crate) async fn open(config: StreamConfig) -> Result<Self, Failure> {
        // Both engines block while they open: one reads its files, the other asks its cluster.
        let opened = tokio::task::spawn_blocking(move || match config {
            StreamConfig::Embedded(config) => Embedded::open(config)
                .map(|log| Self::Embedded(Arc::new(log)))
                .map_err(|error| Failure::failed(format!("stream: {error}"))),
            #[cfg(feature = "kafka")]
            StreamConfig::Kafka(config) => {
                Kafka::open(*config).map(|topic| Self::Kafka(Arc::new(topic))).map_err(|error| refused(&error))
            }
        });
        opened.await.unwrap_or_else(|_| Err(Failure::failed("stream: its opening was cut off; see the log")))
    }

    /// Where changes are appended.
    pub(crate) fn sink(&self) -> Arc<dyn Sink> {
        match self {
            Self::Embedded(log) => log.clone(),
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.clone(),
        }
    }

    /// One more reader.
    ///
    /// # Errors
    /// When the engine gives none.
    pub(crate) fn source(&self) -> Result<Box<dyn Source>, StreamError> {
        match self {
            Self::Embedded(log) => Ok(Box::new(log.source())),
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => Ok(Box::new(topic.source()?)),
        }
    }

    /// The topic that gateways share endpoints in; `None` where there is one process.
    ///
    /// # Errors
    /// When the cluster has none, or does not answer.
    #[cfg(feature = "kafka")]
    pub(crate) async fn control(&self) -> Result<Option<Control>, Failure> {
        let Self::Kafka(topic) = self else { return Ok(None) };
        let topic = Arc::clone(topic);
        let opened = tokio::task::spawn_blocking(move || topic.control(TOPIC).map_err(|error| refused(&error))).await;
        opened.unwrap_or_else(|_| Err(Failure::failed("stream: its opening was cut off; see the log"))).map(Some)
    }

    /// Whether appends are acknowledged, as far as is known.
    pub(crate) fn is_writable(&self) -> bool {
        match self {
            Self::Embedded(log) => log.stats().writable,
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.stats().writable,
        }
    }

    /// Records behind `positions`; `None` when the engine cannot be asked now. Blocks.
    pub(crate) fn lag(&self, positions: &[Position]) -> Option<u64> {
        match self {
            Self::Embedded(log) => {
                let stats = log.stats();
                let read_to = positions.iter().map(|p| p.offset).max().unwrap_or(0).max(stats.first_offset);
                Some(stats.end_offset.saturating_sub(read_to))
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.lag(positions).ok(),
        }
    }

    /// Writes what is still in memory and closes everything, for about `patience` at most. False when something was
    /// given up. Blocks.
    #[cfg_attr(not(feature = "kafka"), expect(unused_variables, reason = "only a cluster can be slow to answer"))]
    pub(crate) fn close(&self, patience: Duration) -> bool {
        match self {
            Self::Embedded(log) => {
                log.close();
                true
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.close(patience),
        }
    }
}

/// An engine that cannot be opened: the cluster is away, or the settings are wrong.
#[cfg(feature = "kafka")]
pub(crate) fn refused(error: &OpenError) -> Failure {
    let exit = match error {
        OpenError::Unreachable { .. } | OpenError::Login { .. } | OpenError::Tls { .. } => Exit::CannotReach,
        OpenError::Settings(_) | OpenError::Missing { .. } | OpenError::Partitions { .. } => Exit::Configuration,
        OpenError::Hidden { .. } | OpenError::NotMade { .. } => Exit::Failed,
    };
    Failure::new(exit, format!("stream: {error}"))
}

/// What `/metrics` shows of the engine.
#[derive(Debug)]
pub(crate) struct Gauges {
    queue_records: Gauge,
    queue_bytes: Gauge,
    segments: Gauge,
    bytes: Gauge,
    #[cfg(feature = "kafka")]
    kafka: KafkaGauges,
}

#[cfg(feature = "kafka")]
#[derive(Debug, Default)]
struct KafkaGauges {
    replaced: Gauge,
    brokers: Gauge,
    round_trip: Gauge<f64, std::sync::atomic::AtomicU64>,
}

impl Gauges {
    /// Registers what the engine of `stream` has.
    pub(crate) fn register(registry: &mut Registry, stream: &Stream) -> Self {
        let gauges = Self {
            queue_records: Gauge::default(),
            queue_bytes: Gauge::default(),
            segments: Gauge::default(),
            bytes: Gauge::default(),
            #[cfg(feature = "kafka")]
            kafka: KafkaGauges::default(),
        };
        let (records, bytes) = (gauges.queue_records.clone(), gauges.queue_bytes.clone());
        registry.register("stream_queue_records", "Records waiting for an acknowledgement", records);
        registry.register("stream_queue_bytes", "Bytes waiting for an acknowledgement", bytes);
        match stream {
            Stream::Embedded(_) => {
                registry.register("stream_segments", "Segment files of the log", gauges.segments.clone());
                registry.register("stream_bytes", "Bytes of the log on disk", gauges.bytes.clone());
            }
            #[cfg(feature = "kafka")]
            Stream::Kafka(_) => {
                let KafkaGauges { replaced, brokers, round_trip } = &gauges.kafka;
                let help = "Times the Kafka client was made anew after an append of open outcome";
                registry.register("kafka_producer_replaced", help, replaced.clone());
                registry.register("kafka_brokers_up", "Brokers that are connected", brokers.clone());
                let help = "Slowest mean round trip to a broker, of the last seconds";
                registry.register("kafka_round_trip_seconds", help, round_trip.clone());
            }
        }
        gauges
    }

    /// Reads the engine.
    pub(crate) fn measure(&self, stream: &Stream) {
        match stream {
            Stream::Embedded(log) => {
                let stats = log.stats();
                self.queue_records.set(whole(stats.queued_records as u64));
                self.queue_bytes.set(whole(stats.queued_bytes as u64));
                self.segments.set(whole(stats.segments as u64));
                self.bytes.set(whole(stats.bytes));
            }
            #[cfg(feature = "kafka")]
            Stream::Kafka(topic) => {
                let stats = topic.stats();
                self.queue_records.set(whole(stats.queued_records as u64));
                self.queue_bytes.set(whole(stats.queued_bytes as u64));
                self.kafka.replaced.set(whole(stats.replaced as u64));
                self.kafka.brokers.set(whole(stats.brokers_up as u64));
                self.kafka.round_trip.set(stats.round_trip_s);
            }
        }
    }
}

/// A number as a gauge takes it.
pub(crate) fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
