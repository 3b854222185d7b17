//! Webhooks in, normalised changes out to the stream. Holds no database.
//!
//! The path of a change, each step in the module that owns it:
//!
//! ```text
//! server    accept, connection limits, header time-outs
//! route     POST /in/{provider}/{key}
//! intake    the order of what follows
//!   limit     strangers that failed too often, places, bytes, capped body        429, 503, 413, 408
//!   provider  verify over raw bytes                    401
//!   provider  foreign JSON to changes                  400; unknown kinds are acknowledged
//!   limit     requests per second of the account       429, or 503 where the provider must not see that
//!   limit     its share of places and bytes            503
//!   dedup     reserve: known → answered as accepted; in flight → shares the fate
//!   order     a bounded wait for stragglers of one record
//!   publish   encode, Sink::append                     acknowledged, or 503
//!   dedup     commit
//!   provider  the reply it takes as success
//! ```
//!
//! A 2xx leaves only after the stream acknowledged every change of the request; everything else is left to the
//! provider's retry. [`vectors`] runs the same verification over recorded calls.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Sink, Source, StreamError};
use headgate_schemas::{System, time};
use prometheus_client::registry::Registry;
use rustls::RootCertStore;
use tokio::sync::Semaphore;

use crate::config::{EndpointConfig, GatewayConfig, Owner, Owners, ProviderName};
use crate::dedup::Dedup;
use crate::doors::Doors;
use crate::intake::Intake;
use crate::limit::{Admission, Failures};
use crate::metrics::Metrics;
use crate::provider::Endpoint;
use crate::publish::Publisher;
use crate::rejected::Rejected;
use crate::spool::{Spool, SpoolConfig};
use crate::tls::Tls;
use crate::unrouted::UnroutedEvents;

mod activity;
pub mod config;
mod connection;
mod dedup;
mod doors;
pub mod foreign;
mod held;
mod intake;
mod limit;
mod line;
mod metrics;
mod order;
mod peer;
mod provider;
mod publish;
mod rejected;
mod route;
mod server;
mod signature;
mod spool;
mod status;
mod step;
mod tls;
mod unrouted;
pub mod vectors;
mod warm;

pub use doors::{Added, Directory, Reread};
pub use rejected::{Expected, RejectedCall};
pub use signature::KeyError;
pub use spool::Remaining;
pub use status::{EndpointStatus, SecretStatus};
pub use step::STEPS;
pub use tls::TlsError;
pub use unrouted::{UnroutedAccount, UnroutedEvent};

/// Why a gateway did not start. Names endpoints, never their keys or secrets.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}; is another program using it?")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An endpoint has no key.
    #[error("endpoint {endpoint} has an empty key")]
    EmptyKey {
        /// Its name.
        endpoint: String,
    },
    /// Two endpoints of one provider have one key.
    #[error("endpoints {first} and {second} have the same key; give each its own")]
    SameKey {
        /// One name.
        first: String,
        /// The other name.
        second: String,
    },
    /// A certificate, a key or an authority cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The spool cannot be opened.
    #[error("spool: {0}")]
    Spool(#[source] StreamError),
    /// An endpoint asks for client certificates and connections are in clear.
    #[error("endpoint {endpoint} asks for client certificates; give the gateway a certificate of its own")]
    NeedsTls {
        /// Its name.
        endpoint: String,
    },
    /// An endpoint's credential is not what its provider needs.
    #[error("endpoint {endpoint} {source}")]
    Credential {
        /// Its name.
        endpoint: String,
        /// What is wrong.
        source: KeyError,
    },
}

/// A running gateway. Its tasks belong to the [`Shutdown`] it was started with and end with it.
#[derive(Clone)]
pub struct Gateway {
    local_addr: SocketAddr,
    intake: Arc<Intake>,
    tls: Option<Arc<Tls>>,
    spool: Option<Arc<Spool>>,
    shutdown: Shutdown,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Gateway {
    /// The address it listens on, with the real port.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Whether its connections are encrypted.
    pub const fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What signed URLs begin with.
    pub fn public_url(&self) -> &str {
        &self.intake.public_url
    }

    /// Whether it takes requests, whatever the state of what reads the stream.
    pub fn ready(&self) -> bool {
        !self.shutdown.is_stopped()
    }

    /// Whether it finishes what is open and takes nothing new.
    pub fn is_draining(&self) -> bool {
        self.shutdown.is_stopped()
    }

    /// The endpoints by name, with the state of their secrets.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        let now = time::now();
        let endpoints = self.intake.endpoints.list();
        let mut list: Vec<_> = endpoints.iter().map(|endpoint| status::of(endpoint, now)).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Makes `added` the endpoints beside those of the configuration, in one step. What did not change keeps its counts.
    ///
    /// # Errors
    /// When one of them cannot be used; nothing changes then.
    pub fn add_endpoints(&self, added: Vec<Added>) -> Result<(), StartError> {
        self.intake.endpoints.add(added)
    }

    /// Asks `directory` before a call is refused whose key nobody knows or whose signature does not fit. Only the first
    /// directory counts.
    pub fn consult(&self, directory: Arc<dyn Directory>) {
        if self.intake.directory.set(directory).is_err() {
            tracing::debug!("a directory is consulted already");
        }
    }

    /// Calls that were refused, the last one first. Bounded per endpoint.
    pub fn rejected(&self) -> Vec<RejectedCall> {
        self.intake.rejected.list()
    }

    /// Takes up a changed certificate at once instead of at the next look; tells whether there was one. Blocks while it
    /// reads the files. Open connections keep the certificate they began with.
    ///
    /// # Errors
    /// When the files cannot be used; the old certificate stays.
    pub fn reload_certificate(&self) -> Result<bool, TlsError> {
        self.tls.as_ref().map_or(Ok(false), |tls| tls.reload())
    }

    /// Reads the last minutes of `history`, which is the stream it publishes to, in the background: what was published
    /// before this start is recognised again.
    pub fn remember(&self, history: Box<dyn Source>) {
        let Intake { dedup, metrics, limits, .. } = &*self.intake;
        let (dedup, metrics) = (Arc::clone(dedup), metrics.clone());
        let warm = warm::warm(dedup, history, limits.dedup_keys, time::now(), metrics, self.shutdown.clone());
        self.shutdown.spawn("dedup-warm-up", warm);
    }

    /// Accepted changes that are not in the stream yet; they stand in the spool.
    pub fn spooled_changes(&self) -> u64 {
        self.spool.as_ref().map_or(0, |spool| spool.remaining())
    }

    /// Whether changes are accepted while the stream is away.
    pub fn has_spool(&self) -> bool {
        self.spool.is_some()
    }

    /// Waits until the spool is empty, at most for `patience`, and closes it. Called when every task of the gateway has
    /// ended and before the stream is closed. Without a spool there is nothing to wait for.
    ///
    /// # Errors
    /// How many accepted changes remain in the spool for the next start.
    pub async fn finish(&self, patience: Duration) -> Result<(), Remaining> {
        match &self.spool {
            Some(spool) => spool.finish(patience).await,
            None => Ok(()),
        }
    }

    /// Accounts whose events came to an endpoint and whom no connection has, the one heard of last first.
    pub fn unrouted(&self) -> Vec<UnroutedAccount> {
        self.intake.unrouted.list(time::now())
    }

    /// The events kept of one of them, the oldest first; `None` when there never was any.
    pub fn unrouted_events(&self, endpoint: &str, account: &str) -> Option<Vec<UnroutedEvent>> {
        self.intake.unrouted.events(endpoint, account, time::now())
    }
}

/// Checks the endpoints, listens, and starts answering. Draining is [`Shutdown::drain`]: the listener closes, open
/// requests are answered, held changes are published, then every task has ended.
///
/// # Errors
/// [`StartError`]; nothing keeps running then.
pub async fn start(
    config: GatewayConfig,
    sink: Arc<dyn Sink>,
    metrics: &mut Registry,
    shutdown: &Shutdown,
) -> Result<Gateway, StartError> {
    let GatewayConfig { listen, public_url, endpoints, limits, trusted_proxies, spool, tls } = config;
    let mut authorities = RootCertStore::empty();
    let endpoints = Doors::open(endpoints, limits.endpoint_rate, tls.is_some(), &mut authorities)?;
    let tls = tls.map(|tls| Tls::load(tls, authorities)).transpose()?.map(Arc::new);
    let listen_error = |source| StartError::Listen { listen, source };
    let listener = server::listen(listen).map_err(listen_error)?;
    let local_addr = listener.local_addr().map_err(listen_error)?;
    let public_url =
        public_url.unwrap_or_else(|| format!("{}://{local_addr}", if tls.is_some() { "https" } else { "http" }));
    let public_url = public_url.trim_end_matches('/').to_owned();

    let metrics = Metrics::register(metrics);
    let (sink, spool) = spooled(sink, spool, &metrics, shutdown)?;
    let dedup = Dedup::new(limits.dedup_keys);
    let publisher = Publisher::new(sink, Arc::clone(&dedup), &limits, metrics.clone(), shutdown.clone());
    let publisher = Arc::new(publisher);
    let intake = Arc::new(Intake {
        endpoints,
        directory: OnceLock::new(),
        decoys: decoys(),
        public_url,
        admission: Admission::new(limits.requests, limits.inflight_bytes),
        large: Semaphore::new(1),
        held: Arc::new(Semaphore::new(limits.held_refusals.min(Semaphore::MAX_PERMITS))),
        failures: Failures::new(limits.failure_rate, limits.failing_peers),
        trusted_proxies,
        rejected: Rejected::default(),
        unrouted: UnroutedEvents::new(&limits),
        limits,
        dedup,
        publisher: Arc::clone(&publisher),
        metrics,
        shutdown: shutdown.clone(),
    });
    shutdown.spawn("order", publisher.drive());
    if let Some(tls) = &tls {
        shutdown.spawn("certificate", Arc::clone(tls).watch(intake.metrics.clone(), shutdown.clone()));
    }
    shutdown.spawn("accept", server::accept(listener, Arc::clone(&intake), tls.clone(), shutdown.clone()));
    Ok(Gateway { local_addr, intake, tls, spool, shutdown: shutdown.clone() })
}

type Sinks = (Arc<dyn Sink>, Option<Arc<Spool>>);

/// The stream's sink, behind the spool if there is one.
fn spooled(
    stream: Arc<dyn Sink>,
    config: Option<SpoolConfig>,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<Sinks, StartError> {
    let Some(config) = config else { return Ok((stream, None)) };
    let spool = Spool::open(config, stream, metrics.clone(), shutdown.grace()).map_err(StartError::Spool)?;
    Ok((Arc::clone(&spool) as Arc<dyn Sink>, Some(spool)))
}

/// One endpoint per provider that no call can satisfy, since its answer is thrown away.
fn decoys() -> HashMap<ProviderName, Endpoint, ahash::RandomState> {
    let decoy = |name: ProviderName| {
        let provider = provider::find(name);
        // Base64 and plain text at once, so that every provider can make a key of it.
        let credential = provider.decoy("aGVhZGdhdGUtbm8tc3VjaC1lbmRwb2ludA==");
        let keys = provider.keys(&credential).ok()?;
        let nobody = Owners::One(Owner::default());
        let config = EndpointConfig::new("", "", (name, System::Native), nobody, credential);
        Some((name, Endpoint::new(config, keys, 1)))
    };
    ProviderName::ALL.iter().copied().filter_map(decoy).collect()
}
