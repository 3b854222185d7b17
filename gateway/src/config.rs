//! Settings of the gateway, already checked: the program parses its file into these and reports every fault there.
//!
//! They must not know the environment, nor any file but those of certificates, which change while we run. The surprising thing: every limit of the process stands in [`Limits`],
//! each with what happens when it is reached.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use headgate_schemas::{System, Timestamp};
use secrecy::SecretString;

pub use crate::peer::{InvalidNetwork, Network};
pub use crate::provider::ProviderName;
pub use crate::spool::SpoolConfig;

/// Everything the gateway is told. Every limit of the process stands here.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Scheme, host and prefix as the providers see it, without a trailing slash. Signed URLs are built from this,
    /// never from the request. `None` when `listen` has port 0 and nothing was configured: then the real address is it.
    pub public_url: Option<String>,
    /// The doors.
    pub endpoints: Vec<EndpointConfig>,
    /// Limits.
    pub limits: Limits,
    /// Proxies whose word about who is behind them is believed, for counting strangers only. They are exempt from the
    /// limits per address. By default the loopback: a proxy or a tunnel of this machine carries everybody.
    pub trusted_proxies: Vec<Network>,
    /// Where accepted changes wait while the stream is away; without it they are refused then.
    pub spool: Option<SpoolConfig>,
    /// The certificate to show; without it connections are in clear.
    pub tls: Option<TlsConfig>,
}

impl GatewayConfig {
    /// A gateway in clear at `listen` with the default limits.
    pub fn new(listen: SocketAddr, endpoints: Vec<EndpointConfig>) -> Self {
        Self {
            listen,
            public_url: None,
            endpoints,
            limits: Limits::default(),
            trusted_proxies: Network::LOOPBACK.to_vec(),
            spool: None,
            tls: None,
        }
    }
}

/// The certificate of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The chain, PEM, the gateway's own certificate first.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// How often the files are looked at. At least a second.
    pub reload: Duration,
}

/// Limits of the gateway. Full-policy in each line.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; one more is closed at once.
    pub connections: usize,
    /// Open connections from one address that is no trusted proxy; one more is closed at once.
    pub connections_per_address: usize,
    /// Requests between their header and their answer; one more is answered 503 with `Retry-After`, body unread. The last
    /// eighth is for providers that hardly try again. One peer, until its call is believed, and one account after that
    /// may hold as many as it leaves free.
    pub requests: usize,
    /// Body bytes held by all open requests; more is answered and shared like requests.
    pub inflight_bytes: usize,
    /// How long a refusal for too much traffic is held back. A sender that keeps its connection sends nothing else
    /// meanwhile, so that refusing never costs more than answering does.
    pub refusal_delay: Duration,
    /// Refusals held back at once; beyond it they are sent immediately.
    pub held_refusals: usize,
    /// Body of one request when the provider sets no larger one; more is answered 413.
    pub body_bytes: usize,
    /// From accept to the first byte, or to the end of the TLS handshake; from there, or from the previous answer, to
    /// the end of the header; then the connection is closed.
    pub header_timeout: Duration,
    /// From the end of the header to the end of the body; then 408.
    pub body_timeout: Duration,
    /// Slowest body, bytes per second on average, five seconds free; slower is answered 408.
    pub body_min_rate: usize,
    /// Header bytes of one request; more is answered 431 by the HTTP library.
    pub header_bytes: usize,
    /// Headers of one request.
    pub headers: usize,
    /// One record of the stream; a larger change goes without its values and is marked to be fetched.
    pub record_bytes: usize,
    /// Verified requests per second of one account at one endpoint, with a burst of one second; more is answered as
    /// its provider understands it, normally 429 with `Retry-After`. A request with events of several accounts is
    /// refused only when all of them are over.
    pub endpoint_rate: u32,
    /// Failed verifications per second of one stranger at one endpoint, with a burst of ten seconds; beyond it whatever
    /// that stranger sends there is refused for five seconds, unread.
    pub failure_rate: u32,
    /// Strangers whose failures are counted; beyond it the least recent are forgotten.
    pub failing_peers: u64,
    /// Streams of one HTTP/2 connection answered at once; the client is told and waits.
    pub h2_streams: u32,
    /// Streams of one HTTP/2 connection reset by its client before they were answered; beyond it the connection is
    /// closed.
    pub h2_resets: usize,
    /// From the last body byte to the answer; then 503 and the provider sends again.
    pub append_deadline: Duration,
    /// Keys remembered as already published; beyond it the oldest are forgotten and the relay recognises repeats.
    pub dedup_keys: u64,
    /// Bytes of events kept of accounts without a connection; beyond it the account that holds most loses its oldest.
    pub unrouted_bytes: usize,
    /// Longest wait for stragglers of one busy record.
    pub order_window: Duration,
    /// Events held for stragglers in all; beyond it they are published at once.
    pub order_held: usize,
    /// Records whose last released order is remembered; beyond it the least recent are forgotten.
    pub order_records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_000,
            connections_per_address: 1_000,
            requests: 4_096,
            inflight_bytes: 64 << 20,
            refusal_delay: Duration::from_millis(500),
            held_refusals: 4_096,
            body_bytes: 1 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            body_min_rate: 1_000,
            header_bytes: 16 << 10,
            headers: 100,
            record_bytes: 900_000,
            endpoint_rate: 5_000,
            failure_rate: 100,
            failing_peers: 10_000,
            h2_streams: 100,
            h2_resets: 50,
            append_deadline: Duration::from_secs(2),
            dedup_keys: 250_000,
            unrouted_bytes: 16 << 20,
            order_window: Duration::from_millis(50),
            order_held: 50_000,
            order_records: 200_000,
        }
    }
}

/// What a provider's endpoints are configured to check calls with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// One shared secret, or two while it is changed.
    Secrets,
    /// Shared secrets, or the sender's public key.
    SecretsOrPublicKey,
    /// A user name and a password.
    Basic,
    /// Values that the call shows in a header or in its URL.
    Shown,
    /// A certificate of the connection, or nothing.
    Certificate,
}

/// One door: `POST /in/{provider}/{key}`.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Its name in the configuration.
    pub name: String,
    /// The unguessable part of its path.
    pub key: String,
    /// Who posts there.
    pub provider: ProviderName,
    /// The system its changes are of.
    pub system: System,
    /// Whose changes they are. Events of any other account are unrouted: counted, acknowledged, kept for a while,
    /// not published.
    pub owners: Owners,
    /// What a call is checked with.
    pub credential: Credential,
    /// From then on the second of two live secrets is no longer accepted.
    pub second_secret_expires: Option<Timestamp>,
    /// A call must come over a connection whose client showed a certificate of this authority (PEM). Needs TLS.
    pub client_ca_file: Option<PathBuf>,
    /// HubSpot: accept the forgeable v1 and v2 signatures.
    pub allow_legacy: bool,
    /// HubSpot: also compute v3 over the URL as sent.
    pub raw_url_fallback: bool,
    /// CloudEvents: origins that hear consent to deliveries; `*` for all.
    pub allowed_origins: Vec<String>,
}

impl EndpointConfig {
    /// An endpoint with everything optional switched off.
    pub fn new(
        name: impl Into<String>,
        key: impl Into<String>,
        (provider, system): (ProviderName, System),
        owners: Owners,
        credential: Credential,
    ) -> Self {
        Self {
            name: name.into(),
            key: key.into(),
            provider,
            system,
            owners,
            credential,
            second_secret_expires: None,
            client_ca_file: None,
            allow_legacy: false,
            raw_url_fallback: false,
            allowed_origins: Vec::new(),
        }
    }
}

/// A connection as its changes name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The tenant.
    pub tenant: String,
    /// The name of the connection.
    pub connection: String,
    /// The account in the CRM, in canonical form.
    pub account: String,
    /// The id of our own app there, where it is known: changes that the CRM marks with it are our own writes.
    pub app_id: Option<String>,
}

/// Whose changes an endpoint takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owners {
    /// One connection's.
    One(Owner),
    /// Those of the account that each event names, by account.
    ByAccount(HashMap<String, Owner>),
}

impl Owners {
    /// The owner of events that name `account`.
    pub fn of(&self, account: &str) -> Option<&Owner> {
        match self {
            Self::One(owner) => (owner.account == account).then_some(owner),
            Self::ByAccount(owners) => owners.get(account),
        }
    }

    /// The owner of events that name no account.
    pub const fn sole(&self) -> Option<&Owner> {
        match self {
            Self::One(owner) => Some(owner),
            Self::ByAccount(_) => None,
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Owner> {
        let (one, many) = match self {
            Self::One(owner) => (Some(owner), None),
            Self::ByAccount(owners) => (None, Some(owners.values())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// Where a call shows a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In headers.
    Header,
    /// In the query of its URL.
    Query,
}

/// What a call is checked with.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Up to two live shared secrets, the current one first.
    Secrets(Vec<SecretString>),
    /// A public key (`whpk_…`) of a sender that signs with Ed25519.
    PublicKey(String),
    /// A user name and up to two live passwords, the current one first.
    Basic {
        /// The name, without a colon.
        username: String,
        /// The passwords.
        passwords: Vec<SecretString>,
    },
    /// Values that each call shows under these names, all of them.
    Shown {
        /// Where they stand.
        place: Place,
        /// Their names.
        names: Vec<String>,
        /// Up to two live sets of values, the current one first; each has a value per name.
        values: Vec<Vec<SecretString>>,
    },
    /// Nothing here: the provider's own check (organisation id, client certificate) is all there is.
    None,
}
