//! What is configured of Kafka, and what librdkafka is told because of it. Reasons stand beside each setting that
//! differs from its default; the names are those of librdkafka's CONFIGURATION.md.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use secrecy::{ExposeSecret as _, SecretString};

use crate::contract;
use crate::time::Timestamp;

/// A topic and how to reach it. Every limit of the engine stands here.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, several with commas.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Its partitions; another number than the topic has is refused.
    pub partitions: u32,
    /// Replicas of each partition when the topic is made.
    pub replication: i32,
    /// Replicas that must have a record before it is acknowledged (`min.insync.replicas`), when the topic is made.
    pub min_in_sync: i32,
    /// How long the topic keeps records when it is made.
    pub retention: Duration,
    /// Name of this client in the broker's logs and metrics.
    pub client_id: String,
    /// How long an append may take before its outcome counts as open.
    pub delivery: Duration,
    /// Records on their way; beyond it an append is refused with [`StreamError::Full`](super::super::StreamError::Full).
    pub queue_records: usize,
    /// Bytes on their way; beyond it an append is refused.
    pub queue_bytes: usize,
    /// Largest record; larger ones are refused. The topic must allow as much (`max.message.bytes`).
    pub max_record_bytes: usize,
    /// How long a record waits for others of its partition. Broker and readers pay for each batch, however little is in
    /// it: at 5,000 records a second in 24 partitions, 5 ms make batches of one record.
    pub linger: Duration,
    /// Bytes that each reader reads ahead: what waits for it, one answer of a broker, and one page of
    /// [`Source::next`](super::super::Source::next) are each no longer, give or take a record.
    pub read_ahead_bytes: usize,
    /// How the connection is secured.
    pub security: Security,
}

/// How the connection is secured.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// TLS. Without a CA file the system's certificates are trusted.
    pub tls: bool,
    /// Trusted certificates, PEM.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key, PEM, where the broker asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
    /// A login.
    pub sasl: Option<Sasl>,
}

/// A login by SASL.
#[derive(Clone, Debug)]
pub enum Sasl {
    /// `PLAIN`; only over TLS.
    Plain {
        /// User.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// `SCRAM-SHA-256`, or 512.
    Scram {
        /// 512 instead of 256 bits.
        sha512: bool,
        /// User.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// `OAUTHBEARER`: whoever configures it fetches the tokens.
    OauthBearer(Arc<dyn Bearer>),
}

/// Fetches tokens for `OAUTHBEARER`. Called on one of librdkafka's threads, some time before the last token expires; it
/// may block.
pub trait Bearer: fmt::Debug + Send + Sync {
    /// A fresh token.
    ///
    /// # Errors
    /// Why there is none, without secrets: it is logged, and asked again later.
    fn token(&self) -> Result<Token, String>;
}

/// A token for `OAUTHBEARER`.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token.
    pub value: SecretString,
    /// Whom it names.
    pub principal: String,
    /// When it expires.
    pub expires: Timestamp,
}

impl KafkaConfig {
    /// The defaults for a cluster.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: contract::CHANGES_TOPIC.to_owned(),
            partitions: contract::DEFAULT_PARTITIONS,
            replication: 3,
            min_in_sync: 2,
            retention: Duration::from_hours(7 * 24),
            client_id: "headgate".to_owned(),
            delivery: Duration::from_secs(2),
            queue_records: 50_000,
            queue_bytes: 64 << 20,
            max_record_bytes: 1 << 20,
            linger: Duration::from_millis(20),
            read_ahead_bytes: 16 << 20,
            security: Security::default(),
        }
    }

    /// What every client is told.
    pub(super) fn client(&self) -> ClientConfig {
        let mut c = ClientConfig::new();
        c.set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            // The default leaves a broker that is back unused for up to 10 s more.
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true");
        self.security.tell(&mut c);
        c
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut c = self.client();
        c.set("acks", "all")
            // Retries neither repeat nor reorder.
            .set("enable.idempotence", "true")
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("compression.type", "lz4")
            // The partition that Java's clients would choose; the default here is another one.
            .set("partitioner", "murmur2_random")
            // The default would hold a record for five minutes and then drop it.
            .set("message.timeout.ms", self.delivery.as_millis().max(10).to_string())
            .set("message.max.bytes", (self.max_record_bytes + (64 << 10)).to_string())
            // Ours are the bounds that refuse; librdkafka's stand above them.
            .set("queue.buffering.max.messages", (self.queue_records * 2).to_string())
            .set("queue.buffering.max.kbytes", (self.queue_bytes / 512).max(1_024).to_string())
            .set("statistics.interval.ms", "5000");
        c
    }

    pub(super) fn consumer(&self) -> ClientConfig {
        let mut c = self.client();
        let read_ahead = self.read_ahead_bytes.max(64 << 10);
        c.set("group.id", &self.client_id)
            // Positions stand in the reader's own store, in the transaction that they belong to.
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A lost position must be seen, not skipped.
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            // A broker pays for each answer, however little is in it: under load they are few and full, and a record
            // that comes alone waits for so long.
            .set("fetch.min.bytes", "65536")
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", (read_ahead >> 10).to_string())
            // A backlog comes partition by partition, as much of one as an answer may hold, and not a little of each: all
            // changes of a record stand in one partition, and what is read together is worked on together.
            .set("fetch.message.max.bytes", read_ahead.to_string())
            // The bytes are the bound; whoever finds them used up looks again soon and not after a second.
            .set("queued.min.messages", "50000")
            .set("fetch.queue.backoff.ms", "10")
            .set("isolation.level", "read_committed");
        c
    }
}

/// What librdkafka asks of us and tells us, whatever the client is.
#[derive(Clone, Debug)]
pub(super) struct Context {
    bearer: Option<Arc<dyn Bearer>>,
    /// A token was given to librdkafka.
    token: Arc<AtomicBool>,
    heard: Arc<Mutex<Option<Heard>>>,
}

/// What went wrong between a client and its brokers. A question that fails because of it says no more than that no
/// broker answered.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) code: RDKafkaErrorCode,
    pub(super) reason: String,
}

impl Heard {
    /// Whether it names the cause: what comes after it is its consequence.
    const fn names_the_cause(&self) -> bool {
        matches!(self.code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
    }
}

impl KafkaConfig {
    pub(super) fn context(&self) -> Context {
        let bearer = match &self.security.sasl {
            Some(Sasl::OauthBearer(bearer)) => Some(Arc::clone(bearer)),
            Some(Sasl::Plain { .. } | Sasl::Scram { .. }) | None => None,
        };
        Context { bearer, token: Arc::default(), heard: Arc::default() }
    }
}

impl Context {
    pub(super) fn has_token(&self) -> bool {
        self.token.load(Ordering::Relaxed)
    }

    /// Whether the cause of what goes wrong was heard.
    pub(super) fn knows_the_cause(&self) -> bool {
        self.heard.lock().as_ref().is_some_and(Heard::names_the_cause)
    }

    /// The worst that was heard since it was last asked.
    pub(super) fn heard(&self) -> Option<Heard> {
        self.heard.lock().take()
    }

    pub(super) fn oauth_token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let bearer = self.bearer.as_ref().ok_or("no source of tokens is configured")?;
        let token = bearer.token()?;
        self.token.store(true, Ordering::Relaxed);
        Ok(OAuthToken {
            token: token.value.expose_secret().to_owned(),
            principal_name: token.principal,
            lifetime_ms: token.expires.millis(),
        })
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka");
        let Some(code) = error.rdkafka_error_code() else { return };
        if !self.knows_the_cause() {
            *self.heard.lock() = Some(Heard { code, reason: reason.to_owned() });
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.oauth_token()
    }
}

impl Security {
    fn tell(&self, c: &mut ClientConfig) {
        let protocol = match (self.tls, self.sasl.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        c.set("security.protocol", protocol);
        if let Some(ca) = &self.ca_file {
            c.set("ssl.ca.location", ca.to_string_lossy());
        }
        if let Some((certificate, key)) = &self.client {
            c.set("ssl.certificate.location", certificate.to_string_lossy());
            c.set("ssl.key.location", key.to_string_lossy());
        }
        match &self.sasl {
            None => {}
            Some(Sasl::Plain { username, password }) => {
                c.set("sasl.mechanism", "PLAIN").set("sasl.username", username);
                c.set("sasl.password", password.expose_secret());
            }
            Some(Sasl::Scram { sha512, username, password }) => {
                c.set("sasl.mechanism", if *sha512 { "SCRAM-SHA-512" } else { "SCRAM-SHA-256" });
                c.set("sasl.username", username).set("sasl.password", password.expose_secret());
            }
            Some(Sasl::OauthBearer(_)) => {
                c.set("sasl.mechanism", "OAUTHBEARER");
            }
        }
    }
}
