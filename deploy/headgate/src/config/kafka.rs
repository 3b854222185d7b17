//! `[stream]` with `engine = "kafka"`: where the cluster is, what the topic is to be, how the connection is secured.
//!
//! It must not know librdkafka: the engine turns this into its settings. The surprising thing: a login without TLS is
//! taken when its mechanism shows no password (SCRAM), and refused when it does, except to a broker on this machine.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::stream::kafka::{KafkaConfig, Sasl, Security};

use hyper::Uri;
use secrecy::SecretString;

use super::reader::{Choice, Section, set};
use super::secret;
use crate::kafka_login::{TokenEndpoint, Tokens};

/// How a login is made.
#[derive(Clone, Copy)]
enum Mechanism {
    Plain,
    Scram { sha512: bool },
    OauthBearer,
}

const MECHANISMS: [(&str, Choice<Mechanism>); 4] = [
    ("plain", Choice::Built(Mechanism::Plain)),
    ("scram-sha-256", Choice::Built(Mechanism::Scram { sha512: false })),
    ("scram-sha-512", Choice::Built(Mechanism::Scram { sha512: true })),
    ("oauthbearer", Choice::Built(Mechanism::OauthBearer)),
];

/// What a login by user and password has.
const USER_KEYS: [&str; 4] = ["username", "password", "password_env", "password_file"];
/// What a login by token has.
const TOKEN_KEYS: [&str; 7] =
    ["token_url", "client_id", "client_secret", "client_secret_env", "client_secret_file", "scope", "token_ca_file"];

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

fn readable(section: &Section<'_>, key: &str, path: Option<&PathBuf>) {
    let Some(path) = path else { return };
    if let Err(error) = std::fs::File::open(path) {
        let problem = format!("the file {} cannot be read: {}", path.display(), error.kind());
        section.fault(key, problem, "name a readable file in PEM form");
    }
}

fn login(s: &mut Section<'_>) -> Option<Sasl> {
    if !s.has("mechanism") {
        let fix = "use \"plain\", \"scram-sha-256\", \"scram-sha-512\" or \"oauthbearer\"";
        s.fault("mechanism", "it is missing", fix);
        // Which of them belong here depends on it.
        s.ignore(&USER_KEYS);
        s.ignore(&TOKEN_KEYS);
        return None;
    }
    let scram = |sha512| move |username, password| Sasl::Scram { sha512, username, password };
    match s.choice("mechanism", &MECHANISMS) {
        Some(Mechanism::Plain) => user(s).map(|(username, password)| Sasl::Plain { username, password }),
        Some(Mechanism::Scram { sha512 }) => user(s).map(|(username, password)| scram(sha512)(username, password)),
        Some(Mechanism::OauthBearer) => Some(Sasl::OauthBearer(Arc::new(Tokens::new(tokens(s)?)))),
        None => {
            s.ignore(&USER_KEYS);
            s.ignore(&TOKEN_KEYS);
            None
        }
    }
}

fn user(s: &mut Section<'_>) -> Option<(String, SecretString)> {
    let username = s.required("username", "name the user");
    let password = secret::required(s, secret::PASSWORD);
    username.zip(password)
}

/// Where tokens come from.
fn tokens(s: &mut Section<'_>) -> Option<TokenEndpoint> {
    const FIX: &str =
        "write the token endpoint of your identity provider, like \"https://id.example.com/oauth2/token\"";
    let url = s.required("token_url", FIX).and_then(|text| token_url(s, &text, FIX));
    let client_id = s.required("client_id", "name the client as the identity provider knows it");
    let client_secret = secret::required(s, secret::CLIENT);
    let (scope, ca_file) = (s.text("scope"), s.path("token_ca_file"));
    readable(s, "token_ca_file", ca_file.as_ref());
    Some(TokenEndpoint { url: url?, client_id: client_id?, client_secret: client_secret?, scope, ca_file })
}

/// The secret goes there, so nobody may listen on the way.
fn token_url(s: &Section<'_>, text: &str, fix: &str) -> Option<Uri> {
    let url: Option<Uri> = text.parse().ok().filter(|url: &Uri| url.host().is_some_and(|host| !host.contains('@')));
    let safe = |url: &Uri| match url.scheme_str() {
        Some("https") => true,
        Some("http") => url.authority().is_some_and(|at| on_this_machine(at.as_str())),
        _ => false,
    };
    if let Some(url) = url.filter(safe) {
        return Some(url);
    }
    // Not repeated: it may hold a password.
    s.fault("token_url", "it is not an https address", fix);
    None
}

/// Whether every broker is named by a loopback address.
fn on_this_machine(brokers: &str) -> bool {
    brokers.split(',').all(|broker| {
        let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}
