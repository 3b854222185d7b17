//! `[stream]`, `[store]` and `[admin]`: the parts under the gateway and the relay. The surprise: `serve` takes any pair
//! of engines, so no pair is refused here; a half by itself is refused where it would start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use headgate_relay::config::{AdminConfig, StoreConfig, StorePlace};
use headgate_relay::store::postgres::Address;
use headgate_schemas::stream::embedded::EmbeddedConfig;
#[cfg(feature = "kafka")]
use headgate_schemas::stream::kafka::KafkaConfig;

use super::gateway::listen;
use super::reader::{Choice, Section, set};
use super::secret;

/// Where the changes are kept.
#[derive(Clone, Debug)]
pub(crate) enum StreamConfig {
    /// A log of SQLite segments in a folder.
    Embedded(EmbeddedConfig),
    /// A topic of a Kafka cluster.
    #[cfg(feature = "kafka")]
    Kafka(Box<KafkaConfig>),
}

impl StreamConfig {
    /// Whoever appends waits so long; an engine that would go on trying gives up then, too.
    #[cfg_attr(not(feature = "kafka"), expect(unused_variables, reason = "only Kafka's client goes on trying"))]
    pub(crate) fn answered_within(self, deadline: Duration) -> Self {
        match self {
            Self::Embedded(config) => Self::Embedded(config),
            #[cfg(feature = "kafka")]
            Self::Kafka(config) => Self::Kafka(Box::new(KafkaConfig { delivery: deadline, ..*config })),
        }
    }

    /// The largest record it takes.
    pub(crate) fn max_record_bytes(&self) -> usize {
        match self {
            Self::Embedded(config) => config.max_record_bytes,
            #[cfg(feature = "kafka")]
            Self::Kafka(config) => config.max_record_bytes,
        }
    }
}

/// The engines by name.
#[derive(Clone, Copy)]
enum Engine {
    Embedded,
    #[cfg(feature = "kafka")]
    Kafka,
}

/// The engines a file may name. A build without Kafka knows it by name only.
const ENGINES: [(&str, Choice<Engine>); 2] = [
    ("embedded", Choice::Built(Engine::Embedded)),
    #[cfg(feature = "kafka")]
    ("kafka", Choice::Built(Engine::Kafka)),
    #[cfg(not(feature = "kafka"))]
    ("kafka", Choice::NotYet),
];

/// Reads `[stream]`. `None` after a fault that leaves nothing to build.
pub(crate) fn stream(mut section: Section<'_>) -> Option<StreamConfig> {
    let engine = if section.has("engine") { section.choice("engine", &ENGINES) } else { Some(Engine::Embedded) };
    let config = match engine {
        Some(Engine::Embedded) => {
            let path = section.path("path").unwrap_or_else(|| section.reader.base.join("data/stream"));
            Some(StreamConfig::Embedded(embedded(&mut section, EmbeddedConfig::new(path))))
        }
        #[cfg(feature = "kafka")]
        Some(Engine::Kafka) => {
            // Where the embedded engine would keep its log: a file may name both and change between them.
            section.ignore(&["path"]);
            super::kafka::kafka(&mut section).map(|config| StreamConfig::Kafka(Box::new(config)))
        }
        // Which keys belong here is not known without the engine.
        None => return None,
    };
    section.finish();
    config
}

fn embedded(s: &mut Section<'_>, d: EmbeddedConfig) -> EmbeddedConfig {
    EmbeddedConfig {
        partitions: s.number("partitions", 1).unwrap_or(d.partitions),
        queue_records: s.size("queue_records", 1).unwrap_or(d.queue_records),
        queue_bytes: s.size("queue_bytes", 1 << 20).unwrap_or(d.queue_bytes),
        max_record_bytes: s.size("max_record_bytes", 1 << 10).unwrap_or(d.max_record_bytes),
        commit_spacing: s.duration("commit_spacing", Duration::ZERO).unwrap_or(d.commit_spacing),
        segment_bytes: s.number("segment_bytes", 1 << 20).unwrap_or(d.segment_bytes),
        retention_age: s.duration("retain", Duration::from_secs(60)).unwrap_or(d.retention_age),
        retention_bytes: s.number("retain_bytes", 64 << 20).unwrap_or(d.retention_bytes),
        path: d.path,
    }
}

/// Reads `[store]`.
pub(crate) fn store(mut section: Section<'_>) -> Option<StoreConfig> {
    let url = section.text("url").unwrap_or_else(|| "sqlite://data/state.db".to_owned());
    let key_file = section.path("key_file").unwrap_or_else(|| section.reader.base.join("data/headgate.key"));
    let place = match url.strip_prefix("sqlite://") {
        Some(path) if !path.is_empty() => Some(StorePlace::Sqlite(section.reader.base.join(path))),
        _ if url.starts_with("postgres://") || url.starts_with("postgresql://") => postgres(&mut section, &url),
        _ => {
            // The text is not repeated: a store URL may carry a password.
            section.fault(
                "url",
                "it is not a store URL",
                "use \"sqlite://data/state.db\" or \"postgres://user@host:5432/database\"",
            );
            section.ignore(&["statement_timeout", "shared"]);
            None
        }
    };
    section.finish();
    Some(StoreConfig { place: place?, key_file })
}

fn postgres(section: &mut Section<'_>, url: &str) -> Option<StorePlace> {
    let given = secret::PASSWORD.present(section);
    let password = secret::optional(section, secret::PASSWORD);
    let timeout = section.duration("statement_timeout", Duration::from_secs(1));
    let shared = section.boolean("shared").unwrap_or(false);
    match Address::parse(url, password.as_ref(), section.reader.base) {
        Ok(mut address) => {
            address.statement_timeout = timeout.unwrap_or(address.statement_timeout);
            address.shared = shared;
            (password.is_some() || !given).then(|| StorePlace::Postgres(Box::new(address)))
        }
        Err(error) => {
            section.fault("url", error.to_string(), error.fix());
            None
        }
    }
}

/// Reads `[admin]`.
pub(crate) fn admin(mut section: Section<'_>) -> AdminConfig {
    let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
    let listen = listen(&mut section, default);
    if !listen.ip().is_loopback() {
        section.fault(
            "listen",
            "an admin address off loopback needs a login, which is not available in this version",
            "listen on 127.0.0.1 and reach it through a tunnel",
        );
    }
    let mut admin = AdminConfig::new(listen);
    set(&mut admin.readers, section.size("readers", 1));
    set(&mut admin.reader_stall, section.duration("reader_stall", Duration::from_secs(1)));
    section.not_yet(&["login", "tls"]);
    section.finish();
    admin
}
