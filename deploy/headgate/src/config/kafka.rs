//! `[stream]` with `engine = "kafka"`: where the cluster is, what the topic is to be, how the connection is secured.
//!
//! It must not know librdkafka: the engine turns this into its settings. The surprising thing: a login without TLS is
//! taken when its mechanism shows no password (SCRAM), and refused when it does, except to a broker on this machine.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use headgate_schemas::stream::kafka::{KafkaConfig, Sasl, Security};

use super::reader::{Choice, Section, set};
use super::secret;

/// How a login is made.
#[derive(Clone, Copy)]
enum Mechanism {
    Plain,
    Scram { sha512: bool },
}

const MECHANISMS: [(&str, Choice<Mechanism>); 4] = [
    ("plain", Choice::Built(Mechanism::Plain)),
    ("scram-sha-256", Choice::Built(Mechanism::Scram { sha512: false })),
    ("scram-sha-512", Choice::Built(Mechanism::Scram { sha512: true })),
    ("oauthbearer", Choice::NotYet),
];

/// Reads the keys of the engine. `None` after a fault that leaves nothing to build.
pub(super) fn kafka(s: &mut Section<'_>) -> Option<KafkaConfig> {
    let brokers = brokers(s);
    let mut config = KafkaConfig::new(brokers.clone().unwrap_or_default());
    set(&mut config.topic, name(s, "topic"));
    set(&mut config.partitions, s.number("partitions", 1));
    set(&mut config.replication, s.number::<u16>("replication", 1).map(i32::from));
    set(&mut config.min_in_sync, s.number::<u16>("min_in_sync", 1).map(i32::from));
    set(&mut config.retention, s.duration("retain", Duration::from_secs(60)));
    set(&mut config.client_id, name(s, "client_id"));
    set(&mut config.queue_records, s.size("queue_records", 1));
    set(&mut config.queue_bytes, s.size("queue_bytes", 1 << 20));
    set(&mut config.max_record_bytes, s.size("max_record_bytes", 1 << 10));
    set(&mut config.linger, s.duration("linger", Duration::ZERO));
    set(&mut config.read_ahead_bytes, s.size("read_ahead_bytes", 64 << 10));
    if config.min_in_sync > config.replication {
        let problem = format!("a partition with {} replicas can never have so many in sync", config.replication);
        s.fault("min_in_sync", problem, "lower it, or raise replication");
    }
    config.security = security(s, brokers.as_deref());
    brokers.map(|_| config)
}

/// `host:port`, several with commas.
fn brokers(s: &mut Section<'_>) -> Option<String> {
    const FIX: &str = "write \"host:9092\", several with commas";
    let text = s.required("brokers", FIX)?;
    let fits = |broker: &str| {
        broker.rsplit_once(':').is_some_and(|(host, port)| {
            let port = port.parse::<u16>().is_ok_and(|port| port > 0);
            port && !host.is_empty() && !host.contains(['/', '@', ' '])
        })
    };
    match text.split(',').map(str::trim).find(|broker| !fits(broker)) {
        None => Some(text.split(',').map(str::trim).collect::<Vec<_>>().join(",")),
        Some(_) => {
            // Not repeated: what is no address may be a URL with a password.
            s.fault("brokers", "an entry is not a host and a port", FIX);
            None
        }
    }
}

/// A name in the cluster, where one is given. What is a name here, Kafka takes.
fn name(s: &mut Section<'_>, key: &'static str) -> Option<String> {
    if s.has(key) { s.name(key, "name it, or leave the key out") } else { None }
}

/// `[stream.tls]` and `[stream.sasl]`.
fn security(s: &mut Section<'_>, brokers: Option<&str>) -> Security {
    let mut tls = s.section("tls");
    let (ca_file, cert, key) = (tls.path("ca_file"), tls.path("cert_file"), tls.path("key_file"));
    if cert.is_some() != key.is_some() {
        let (there, missing) = if cert.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
        tls.fault(missing, format!("{there} is set without it"), "set both, or neither");
    }
    for (key, path) in [("ca_file", &ca_file), ("cert_file", &cert), ("key_file", &key)] {
        readable(&tls, key, path.as_ref());
    }
    let has_tls = tls.is_present();
    tls.finish();
    let mut sasl = s.section("sasl");
    let login = if sasl.is_present() { login(&mut sasl) } else { None };
    if matches!(login, Some(Sasl::Plain { .. })) && !has_tls && !brokers.is_none_or(on_this_machine) {
        sasl.fault("mechanism", "PLAIN sends the password as it is, and the connection has no TLS", "add [stream.tls]");
    }
    sasl.finish();
    Security { tls: has_tls, ca_file, client: cert.zip(key), sasl: login }
}

fn readable(tls: &Section<'_>, key: &str, path: Option<&PathBuf>) {
    let Some(path) = path else { return };
    if let Err(error) = std::fs::File::open(path) {
        let problem = format!("the file {} cannot be read: {}", path.display(), error.kind());
        tls.fault(key, problem, "name a readable file in PEM form");
    }
}

fn login(s: &mut Section<'_>) -> Option<Sasl> {
    if !s.has("mechanism") {
        s.fault("mechanism", "it is missing", "use \"plain\", \"scram-sha-256\" or \"scram-sha-512\"");
    }
    let mechanism = s.choice("mechanism", &MECHANISMS);
    let username = s.required("username", "name the user");
    let password = secret::required(s, secret::PASSWORD);
    let (mechanism, username, password) = (mechanism?, username?, password?);
    Some(match mechanism {
        Mechanism::Plain => Sasl::Plain { username, password },
        Mechanism::Scram { sha512 } => Sasl::Scram { sha512, username, password },
    })
}

/// Whether every broker is named by a loopback address.
fn on_this_machine(brokers: &str) -> bool {
    brokers.split(',').all(|broker| {
        let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}
