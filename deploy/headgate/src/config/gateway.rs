//! `[gateway]` and `[[endpoint]]`. Reads each by itself; whether an endpoint fits its connection is decided in `cross`,
//! and what its calls are checked with is read in `credential`. The surprise: which keys an endpoint has depends on its
//! provider, so a key of another provider is an unknown one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use headgate_gateway::config::{Credential, Limits, Network, ProviderName, SpoolConfig, TlsConfig};
use headgate_schemas::{System, Timestamp};

use super::address;
use super::credential::credential;
use super::fault::At;
use super::reader::{Choice, Section, set};
use super::secret::SECOND;

/// `[gateway]`, read.
#[derive(Debug)]
pub(crate) struct GatewayDraft {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where `listen` stands.
    pub(crate) listen_at: At,
    /// How the providers see it.
    pub(crate) public_url: Option<String>,
    /// Its limits.
    pub(crate) limits: Limits,
    /// Whose word about strangers is believed.
    pub(crate) trusted_proxies: Vec<Network>,
    /// Where changes wait while the stream is away.
    pub(crate) spool: Option<SpoolConfig>,
    /// Its certificate.
    pub(crate) tls: Option<TlsConfig>,
    /// Where the largest record stands.
    pub(crate) record_bytes_at: At,
    /// How long a stop may take.
    pub(crate) grace: Duration,
}

/// `[[endpoint]]`, read. `None` where a fault was reported.
#[derive(Debug)]
pub(crate) struct EndpointDraft {
    /// Its name.
    pub(crate) name: Option<String>,
    /// Where its name stands.
    pub(crate) name_at: At,
    /// Its key.
    pub(crate) key: Option<String>,
    /// Where its key stands.
    pub(crate) key_at: At,
    /// Who posts there.
    pub(crate) provider: Option<ProviderName>,
    /// Where the provider stands.
    pub(crate) provider_at: At,
    /// Its connection, unless each event's account says it.
    pub(crate) connection: Option<String>,
    /// `route = "account"`.
    pub(crate) by_account: bool,
    /// Where the connection stands.
    pub(crate) connection_at: At,
    /// Salesforce: the organization it expects.
    pub(crate) organization: Option<String>,
    /// Where the organization stands.
    pub(crate) organization_at: At,
    /// What a call is checked with.
    pub(crate) credential: Option<Credential>,
    /// Salesforce: the authority of the client certificates it asks for.
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Where that stands.
    pub(crate) client_ca_at: At,
    /// When the second live secret ends.
    pub(crate) second_secret_expires: Option<Timestamp>,
    /// HubSpot: the old signatures too.
    pub(crate) allow_legacy: bool,
    /// HubSpot: the URL as sent too.
    pub(crate) raw_url_fallback: bool,
    /// CloudEvents: who hears consent to deliveries.
    pub(crate) allowed_origins: Vec<String>,
}

/// Keys that some provider's endpoints have.
pub(super) const PROVIDER_KEYS: [&str; 18] = [
    "second_secret_expires",
    "secret",
    "secret_env",
    "secret_file",
    "second_secret_env",
    "second_secret_file",
    "public_key",
    "username",
    "password_env",
    "password_file",
    "credential",
    "header_name",
    "query_name",
    "organization",
    "client_ca_file",
    "allow_legacy",
    "raw_url_fallback",
    "allowed_origins",
];

/// Whether a provider's webhooks can be about `system`: what signs like everybody may be about anything.
pub(crate) fn can_be_about(provider: ProviderName, system: System) -> bool {
    let own = provider.system();
    own == System::Native || own == system
}

/// Reads `[gateway]`.
pub(crate) fn gateway(mut section: Section<'_>) -> GatewayDraft {
    const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    let listen = listen(&mut section, LISTEN);
    let had_url = section.has("public_url");
    let public_url = url(&mut section, "public_url").or_else(|| address::url_of(listen));
    if !listen.ip().is_loopback() && !had_url {
        section.fault(
            "public_url",
            "it is missing, and listen is not on loopback",
            "write the URL as the providers call it, like \"https://hooks.example.com\"",
        );
    }
    let trusted_proxies = trusted_proxies(&mut section);
    let tls = tls(section.section("tls"));
    if public_url.as_deref().is_some_and(address::in_clear) && had_url {
        section.warn(
            "public_url",
            "webhooks to it travel in clear",
            "add [gateway.tls], or put a proxy with TLS before the gateway, and use the https:// URL",
        );
    }
    let limits_section = section.section("limits");
    let record_bytes_at = limits_section.at("record_bytes");
    let limits = limits(limits_section);
    let grace = section.duration("grace", Duration::from_secs(1)).unwrap_or(Duration::from_secs(25));
    let spool = spool(section.section("spool"), limits.append_deadline);
    let listen_at = section.at("listen");
    section.finish();
    GatewayDraft { listen, listen_at, public_url, limits, trusted_proxies, spool, tls, record_bytes_at, grace }
}

/// Reads `trusted_proxies`; without it the loopback.
fn trusted_proxies(section: &mut Section<'_>) -> Vec<Network> {
    const KEY: &str = "trusted_proxies";
    let Some(texts) = section.texts(KEY) else { return Network::LOOPBACK.to_vec() };
    let mut networks = Vec::with_capacity(texts.len());
    for text in texts {
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(_) => {
                let problem = format!("\"{text}\" is no address and no network");
                section.fault(KEY, problem, "write addresses or networks, like [\"127.0.0.0/8\", \"10.1.2.3\"]");
            }
        }
    }
    networks
}

/// Reads `[gateway.spool]`. A spool promises that what it took survives, so its volume must be declared to.
fn spool(mut section: Section<'_>, append_deadline: Duration) -> Option<SpoolConfig> {
    if !section.is_present() {
        return None;
    }
    if section.boolean("persistent") != Some(true) {
        section.fault(
            "persistent",
            "a spool is only safe on a volume that outlives this process and this machine's next start",
            "put path on such a volume and write persistent = true, or remove [gateway.spool]",
        );
    }
    let path = section.path("path").unwrap_or_else(|| section.reader.base.join("data/spool"));
    let bytes = section.number("bytes", 4 << 20).unwrap_or(1 << 30);
    let deadline = section.duration("deadline", Duration::from_millis(10)).unwrap_or(Duration::from_secs(1));
    if deadline >= append_deadline {
        section.fault(
            "deadline",
            "it leaves no time for the spool before the whole append must be answered",
            "make it shorter than gateway.limits.append_deadline",
        );
    }
    section.finish();
    Some(SpoolConfig { path, bytes, deadline })
}

/// Reads `[gateway.tls]`. `None` when there is none, or after a fault.
fn tls(mut section: Section<'_>) -> Option<TlsConfig> {
    if !section.is_present() {
        return None;
    }
    let file = |section: &mut Section<'_>, key: &'static str, what: &str| {
        let path = section.path(key);
        if path.is_none() && !section.has(key) {
            section.fault(key, "it is missing", format!("name the PEM file of the {what}"));
        }
        path
    };
    let cert_file = file(&mut section, "cert_file", "certificate chain");
    let key_file = file(&mut section, "key_file", "private key");
    let reload = section.duration("reload", Duration::from_secs(1)).unwrap_or(Duration::from_secs(10));
    section.finish();
    Some(TlsConfig { cert_file: cert_file?, key_file: key_file?, reload })
}

/// Reads `listen` of a section.
pub(crate) fn listen(section: &mut Section<'_>, default: SocketAddr) -> SocketAddr {
    let fix = format!("write an address and a port, like \"{default}\"");
    section.parsed("listen", "an address with a port", &fix).unwrap_or(default)
}

/// Reads a URL.
pub(crate) fn url(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let text = section.text(key)?;
    match address::base_url(&text) {
        Ok(url) => Some(url),
        Err(problem) => {
            section.fault(key, problem, "write scheme, host and prefix only, like \"https://api.example.com\"");
            None
        }
    }
}

fn limits(mut section: Section<'_>) -> Limits {
    const MS: Duration = Duration::from_millis(1);
    let mut limits = Limits::default();
    let (l, s) = (&mut limits, &mut section);
    set(&mut l.connections, s.size("connections", 1));
    set(&mut l.connections_per_address, s.size("connections_per_address", 1));
    set(&mut l.requests, s.size("requests", 16));
    set(&mut l.inflight_bytes, s.size("inflight_bytes", 1 << 20));
    set(&mut l.refusal_delay, s.duration("refusal_delay", Duration::ZERO));
    set(&mut l.held_refusals, s.size("held_refusals", 0));
    set(&mut l.body_bytes, s.size("body_bytes", 1 << 10));
    set(&mut l.header_timeout, s.duration("header_timeout", MS));
    set(&mut l.body_timeout, s.duration("body_timeout", MS));
    set(&mut l.body_min_rate, s.size("body_min_rate", 0));
    set(&mut l.header_bytes, s.size("header_bytes", 8 << 10));
    set(&mut l.headers, s.size("headers", 16));
    set(&mut l.append_deadline, s.duration("append_deadline", MS));
    set(&mut l.dedup_keys, s.number("dedup_keys", 1));
    set(&mut l.unrouted_bytes, s.size("unrouted_bytes", 64 << 10));
    set(&mut l.order_window, s.duration("order_window", Duration::ZERO));
    set(&mut l.order_held, s.size("order_held", 0));
    set(&mut l.order_records, s.size("order_records", 1));
    set(&mut l.record_bytes, s.size("record_bytes", 1 << 10));
    set(&mut l.endpoint_rate, s.number("endpoint_rate", 1));
    set(&mut l.failure_rate, s.number("failure_rate", 1));
    set(&mut l.failing_peers, s.number("failing_peers", 1));
    set(&mut l.h2_streams, s.number("h2_streams", 1));
    set(&mut l.h2_resets, s.size("h2_resets", 1));
    section.finish();
    limits
}

/// Reads one `[[endpoint]]`. A key shorter than 128 bits is for loopback only.
pub(crate) fn endpoint(mut section: Section<'_>, loopback: bool) -> EndpointDraft {
    let s = &mut section;
    let name = s.name("name", "give the endpoint a name");
    let key = key(s, loopback);
    let provider = provider(s);
    let by_account = by_account(s, provider);
    let connection =
        if s.has("route") { s.text("connection") } else { s.required("connection", "name a [[connection]]") };
    let credential = credential(s, provider);
    let (allow_legacy, raw_url_fallback) = hubspot_options(s, provider);
    let origins = if provider == Some(ProviderName::Cloudevents) { s.texts("allowed_origins") } else { None };
    let allowed_origins = origins.unwrap_or_default();
    let second_secret_expires = expiry(s);
    let client_ca_file = if provider == Some(ProviderName::Salesforce) { s.path("client_ca_file") } else { None };
    let organization = if provider == Some(ProviderName::Salesforce) { s.text("organization") } else { None };
    let draft = EndpointDraft {
        name,
        name_at: s.at("name"),
        key,
        key_at: s.at("key"),
        provider,
        provider_at: s.at("provider"),
        connection,
        by_account,
        connection_at: s.at("connection"),
        organization,
        organization_at: s.at("organization"),
        credential,
        client_ca_file,
        client_ca_at: s.at("client_ca_file"),
        second_secret_expires,
        allow_legacy,
        raw_url_fallback,
        allowed_origins,
    };
    section.finish();
    draft
}

fn provider(section: &mut Section<'_>) -> Option<ProviderName> {
    section.required("provider", "name who posts there, like \"hubspot\"")?;
    let choices: Vec<_> = ProviderName::ALL.iter().map(|name| (name.as_str(), Choice::Built(*name))).collect();
    section.choice("provider", &choices)
}

fn key(section: &mut Section<'_>, loopback: bool) -> Option<String> {
    /// 22 characters of six bits each are the fewest that hold 128 bits.
    const CHARACTERS: usize = 22;
    const FIX: &str =
        "make one of 22 or more random characters, as \"openssl rand -base64 16 | tr '+/' '-_' | tr -d '='\" does";
    let key = section.required("key", FIX)?;
    if key.len() > 128 || !key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        section.fault("key", "it is not at most 128 letters, digits, \"-\" and \"_\"", FIX);
        return None;
    }
    if !loopback && key.len() < CHARACTERS {
        section.fault(
            "key",
            "it is shorter than 128 bits, and the gateway is called from elsewhere than loopback",
            FIX,
        );
        return None;
    }
    Some(key)
}

/// `route = "account"`: each event's account says which connection it is of.
fn by_account(section: &mut Section<'_>, provider: Option<ProviderName>) -> bool {
    if !section.has("route") {
        return false;
    }
    let chosen = section.choice("route", &[("account", Choice::Built(()))]).is_some();
    if chosen && section.has("connection") {
        section.fault(
            "connection",
            "route = \"account\" finds the connection by each event's account",
            "keep one of the two keys",
        );
    }
    if chosen && provider.is_some_and(|provider| provider.system() == System::Native) {
        section.fault(
            "route",
            "calls of this provider name no account",
            "make one endpoint per connection and name it in \"connection\"",
        );
    }
    chosen
}

/// When the second live secret ends. Without one there is nothing to end.
fn expiry(section: &mut Section<'_>) -> Option<Timestamp> {
    const KEY: &str = "second_secret_expires";
    let text = section.text(KEY)?;
    if !SECOND.present(section) {
        section.fault(KEY, "there is no second secret", "remove the key, or name the secret in second_secret_env");
        return None;
    }
    match text.parse() {
        Ok(at) => Some(at),
        Err(_) => {
            section.fault(KEY, "it is not a time", "write it like \"2026-01-31T12:00:00Z\"");
            None
        }
    }
}

/// `allow_legacy` and `raw_url_fallback`, which only HubSpot's endpoints have.
fn hubspot_options(section: &mut Section<'_>, provider: Option<ProviderName>) -> (bool, bool) {
    if provider != Some(ProviderName::Hubspot) {
        return (false, false);
    }
    let allow_legacy = section.boolean("allow_legacy").unwrap_or(false);
    if allow_legacy {
        section.warn(
            "allow_legacy",
            "signatures of version 1 and 2 carry no time: whoever saw one can send it again",
            "switch the app to version 3 and remove the key",
        );
    }
    (allow_legacy, section.boolean("raw_url_fallback").unwrap_or(false))
}
