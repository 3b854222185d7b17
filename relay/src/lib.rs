//! The relay: changes in from the stream, the other CRMs brought to the same state.
//!
//! The way of a change through here:
//!
//! ```text
//! Source::next → engine: accept   fold into the entity: ours? newer? who wins?      one transaction
//!                        send     read before write, intents, packed calls          per tick
//!                        settle   answers: ledger, what members show, outcomes
//! ```
//!
//! [`engine`] is the only place that knows the order of the steps and does neither network nor clock; `driver` gives it
//! both. [`entity`], [`conflict`] and [`mapping`] are the rules, pure. [`target`] holds one folder per CRM. [`store`] is
//! the only place with SQL. Nothing here knows how changes are received: that is the gateway's.

mod accept;
pub mod admin;
mod audit;
mod authorities;
pub mod books;
mod cache;
pub mod clock;
pub mod config;
pub mod conflict;
pub mod delivery;
mod departure;
pub mod division;
mod driver;
pub mod engine;
pub mod entity;
mod failed;
mod finish;
pub mod foreign;
pub mod http;
mod identity;
mod line;
pub mod mapping;
pub mod metrics;
pub mod oauth;
pub mod outgoing;
mod pace;
mod quota;
mod recount;
pub mod replay;
mod resolve;
mod send;
mod settle;
mod setup;
mod shared;
mod step;
pub mod store;
pub mod subscription;
pub mod target;
pub mod trail;
mod turn;
pub mod vault;
mod work;

use std::collections::HashMap;
use std::sync::Arc;

use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::Source;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use driver::{Busy, Handle, Standing, StartError};
pub use step::STEPS;

use config::{Auth, RelayConfig};
use target::Target;

/// Starts the relay: opens the state, reads the stream from where it stands, and works until `shutdown`.
///
/// # Errors
/// When the state cannot be opened or belongs to another stream, when the stream no longer holds the position, or when
/// a connection's system has no client in this version.
pub fn start(
    config: RelayConfig,
    source: Box<dyn Source>,
    registry: &mut Registry,
    shutdown: &Shutdown,
) -> Result<Relay, StartError> {
    let vault = Arc::new(vault::Vault::open_or_create(&config.store.key_file)?);
    let settings = http::Settings { answer_bytes: config.limits.answer_bytes, ..http::Settings::default() };
    let http = http::Http::new(settings)?;
    let mut targets: HashMap<String, Arc<dyn Target>> = HashMap::new();
    let mut logins = Vec::new();
    for connection in &config.connections {
        let tokens = oauth::Tokens::default();
        if let Auth::Oauth(oauth) = &connection.auth {
            logins.push((connection.name.clone(), oauth.as_ref().clone(), tokens.clone()));
        }
        match target::build_drawing(connection, &http, config.limits.send_deadline, tokens) {
            Ok(target) => {
                targets.insert(connection.name.clone(), target);
            }
            Err(error @ target::BuildError::UnsupportedSystem { .. }) => {
                tracing::warn!(%error, "this connection is neither read nor written by this version");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let metrics = metrics::Metrics::register(registry);
    let readers = Arc::new(store::Readers::new(config.store.place.clone()));
    let systems = config.connections.iter().map(|c| (c.name.clone(), c.system)).collect();
    let setups = setup::Setups::default();
    let plans = admin::plans(&config, |name| targets.get(name).map(|target| target.conditional()));
    let (circuit, exchanges) = (metrics.circuit.clone(), metrics.exchanges.clone());
    let deadline = config.limits.send_deadline;
    let looks = admin::Looks::new(targets.clone(), deadline);
    let packs = targets.iter().map(|(name, target)| (name.clone(), (target.pack(), target.conditional()))).collect();
    let quotas = metrics.quotas.clone();
    let estimate_records = config.limits.estimate_records;
    let driver = driver::Driver {
        config,
        targets,
        vault: Arc::clone(&vault),
        setups: setups.clone(),
        metrics,
        shutdown: shutdown.clone(),
    };
    let handle = driver::start(driver, source)?;
    for (connection, config, tokens) in logins {
        let parts = oauth::Parts {
            connection,
            config,
            tokens,
            http: http.clone(),
            deadline,
            vault: Arc::clone(&vault),
            handle: handle.clone(),
            exchanges: exchanges.clone(),
            shutdown: shutdown.clone(),
        };
        shutdown.spawn("relay-login", oauth::run(parts, fastrand::u64(..)));
    }
    Ok(Relay { handle, vault, readers, systems, setups, plans, circuit, looks, packs, quotas, estimate_records })
}

/// A running relay.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Commands and state.
    pub handle: Handle,
    vault: Arc<vault::Vault>,
    readers: Arc<store::Readers>,
    systems: HashMap<String, headgate_schemas::System>,
    setups: setup::Setups,
    plans: Arc<[admin::Plan]>,
    circuit: Family<metrics::Connection, Gauge>,
    looks: admin::Looks,
    /// Records per call of each connection, and whether the CRM heeds preconditions.
    packs: HashMap<String, (target::Pack, bool)>,
    quotas: quota::Quotas,
    /// Distinct records that the estimate of a replay counts.
    estimate_records: usize,
}
