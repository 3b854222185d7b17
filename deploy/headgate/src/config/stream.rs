//! `[stream]`, `[store]` and `[admin]`: the parts under the gateway and the relay. The surprise: `serve` takes any pair
//! of engines; what is refused here is refused because this version does not have it, and by its name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use headgate_relay::config::{AdminConfig, StoreConfig};
use headgate_schemas::stream::embedded::EmbeddedConfig;

use super::gateway::listen;
use super::reader::{Choice, Section, set};

/// Where the changes are kept.
#[derive(Clone, Debug)]
pub(crate) enum StreamConfig {
    /// A log of SQLite segments in a folder.
    Embedded(EmbeddedConfig),
}

/// Reads `[stream]`. `None` after a fault that leaves nothing to build.
pub(crate) fn stream(mut section: Section<'_>) -> Option<StreamConfig> {
    let engine = if section.has("engine") {
        section.choice("engine", &[("embedded", Choice::Built(())), ("kafka", Choice::NotYet)])
    } else {
        Some(())
    };
    if engine.is_none() {
        // The keys of another engine are none of this one's faults.
        section.ignore(&["brokers", "topic"]);
    }
    let path = section.path("path").unwrap_or_else(|| section.reader.base.join("data/stream"));
    let config = embedded(&mut section, EmbeddedConfig::new(path));
    section.finish();
    engine.map(|()| StreamConfig::Embedded(config))
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
    let path = match url.strip_prefix("sqlite://") {
        Some(path) if !path.is_empty() => Some(section.reader.base.join(path)),
        _ if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            section.fault(
                "url",
                "a PostgreSQL store is not available in this version",
                "use \"sqlite://data/state.db\"",
            );
            None
        }
        _ => {
            // The text is not repeated: a store URL may carry a password.
            section.fault(
                "url",
                "it is not a store URL",
                "use \"sqlite://\" and a path, like \"sqlite://data/state.db\"",
            );
            None
        }
    };
    section.finish();
    Some(StoreConfig { path: path?, key_file })
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
