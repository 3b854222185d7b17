//! The configuration: one file and the environment, read into what the parts are started with. Every fault is found in
//! one reading. Nothing here reads the process environment or starts anything; the one thing read from disk besides the
//! file is a secret that the file names.
//!
//! | step | file |
//! |---|---|
//! | text to a tree with lines | `file` |
//! | variables laid over it | `env` |
//! | each section by itself | `reader`, `secret`, `gateway`, `relay`, `link`, `stream`, `kafka`, `subscription` |
//! | sections against each other | `cross` |

mod account;
mod address;
mod credential;
mod cross;
pub(crate) mod durations;
mod env;
pub(crate) mod fault;
mod file;
mod gateway;
#[cfg(feature = "kafka")]
mod kafka;
mod link;
mod oauth;
mod reader;
mod relay;
mod secret;
mod stream;
mod subscription;
mod suggest;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headgate_gateway::config::GatewayConfig;
use headgate_relay::config::{AdminConfig, ConnectionConfig, LinkConfig, RelayConfig};
use headgate_relay::subscription::{SubscriptionConfig, SubscriptionsConfig};

use headgate_schemas::bounded;

pub(crate) use address::base_url;
pub(crate) use env::Env;
use fault::{At, Finding, Origin};
use file::Table;
use reader::{Reader, Section};
pub(crate) use stream::StreamConfig;

/// Largest configuration file that is read.
const FILE_BYTES: u64 = 16 << 20;

/// A configuration without faults.
#[derive(Debug)]
pub(crate) struct Config {
    /// The gateway.
    pub(crate) gateway: GatewayConfig,
    /// The admin API.
    pub(crate) admin: AdminConfig,
    /// The stream between gateway and relay.
    pub(crate) stream: StreamConfig,
    /// The relay.
    pub(crate) relay: RelayConfig,
    /// Endpoints that get changes.
    pub(crate) subscriptions: SubscriptionsConfig,
    /// How long a stop may take before open work is cut.
    pub(crate) grace: Duration,
    /// What is worth knowing and stops nothing.
    pub(crate) warnings: Vec<Finding>,
    /// What all of this was read from.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "only gateways on a cluster read more behind it"))]
    pub(crate) ground: Ground,
}

/// What a configuration was read from, so that more can be read behind it.
#[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "only gateways on a cluster read more behind it"))]
#[derive(Clone, Default)]
pub(crate) struct Ground {
    /// The text of the file.
    pub(crate) text: String,
    /// Where relative paths start.
    pub(crate) base: PathBuf,
    /// The environment.
    pub(crate) env: Env,
}

impl fmt::Debug for Ground {
    /// Without the environment, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Why there is no configuration: every fault, in the order of the file.
#[derive(Debug, thiserror::Error)]
pub(crate) struct ConfigError {
    /// The file.
    pub(crate) file: PathBuf,
    /// At least one.
    pub(crate) faults: Vec<Finding>,
    /// Found on the way.
    pub(crate) warnings: Vec<Finding>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        let faults = if count == 1 { "fault" } else { "faults" };
        write!(f, "{}: {count} {faults}", self.file.display())
    }
}

/// Reads the file at `path`.
///
/// # Errors
/// Every fault of it; an unreadable file is one.
pub(crate) fn load(path: &Path, env: &Env) -> Result<Config, ConfigError> {
    let text = read(path).map_err(|fault| ConfigError { file: path.into(), faults: vec![fault], warnings: vec![] })?;
    parse(&text, base_of(path), env).map_err(|(faults, warnings)| ConfigError { file: path.into(), faults, warnings })
}

/// Faults and warnings of a refused configuration.
pub(crate) type Refused = (Vec<Finding>, Vec<Finding>);

/// Reads `text`; relative paths start from `base`.
///
/// # Errors
/// Every fault, and the warnings found on the way.
pub(crate) fn parse(text: &str, base: &Path, env: &Env) -> Result<Config, Refused> {
    let mut root = file::parse(text).map_err(|faults| (faults, Vec::new()))?;
    let overlay = env::overlay(&mut root, env);
    let reader = Reader::new(env, base);
    let parts = build(&reader, reader.root(&root));
    let (mut faults, mut warnings) = reader.into_findings();
    faults.extend(overlay.faults);
    warnings.extend(overlay.strays);
    fault::sort(&mut faults);
    fault::sort(&mut warnings);
    match parts {
        Some(config) if faults.is_empty() => {
            let ground = Ground { text: text.to_owned(), base: base.to_owned(), env: env.clone() };
            Ok(Config { warnings, ground, ..config })
        }
        _ => Err((faults, warnings)),
    }
}

/// Reads every section. `None` only after a fault.
fn build(reader: &Reader<'_>, mut root: Section<'_>) -> Option<Config> {
    let gateway = gateway::gateway(root.section("gateway"));
    let admin = stream::admin(root.section("admin"));
    let stream = stream::stream(root.section("stream"));
    let store = root.section("store");
    let shared_at = store.at("shared");
    let store = stream::store(store);
    let limits = relay::relay(root.section("relay"));
    let connections: Vec<_> = root.entries("connection").into_iter().map(relay::connection).collect();
    let loopback = gateway.listen.ip().is_loopback() && gateway.public_url.as_deref().is_none_or(address::is_loopback);
    let endpoints: Vec<_> =
        root.entries("endpoint").into_iter().map(|section| gateway::endpoint(section, loopback)).collect();
    let links: Vec<_> = root.entries("link").into_iter().map(link::link).collect();
    let shared = subscription::subscriptions(root.section("subscriptions"));
    let subscriptions = root.entries("subscription").into_iter();
    let subscriptions: Vec<_> =
        subscriptions.map(|section| subscription::subscription(section, &shared.policy)).collect();
    root.finish();

    let index = cross::Connections::of(reader, &connections);
    cross::listeners(reader, &gateway, &admin);
    cross::sizes(reader, &gateway, stream.as_ref());
    cross::shared(reader, store.as_ref(), &shared_at, stream.as_ref());
    let fed: Vec<_> = endpoints.iter().filter_map(cross::feeds).collect();
    let endpoints = cross::endpoints(reader, &index, endpoints, gateway.tls.is_some());
    cross::one_way(reader, &connections, &fed);
    cross::links(reader, &index, &links);
    cross::subscriptions(reader, &index, &subscriptions);

    let deadline = gateway.spool.as_ref().map_or(gateway.limits.append_deadline, |spool| spool.deadline);

    let subscription::Shared { policy, pace, ca_file, most, overlap } = shared;
    let tenants = index.tenants();
    let connections: Option<Vec<ConnectionConfig>> = connections.into_iter().map(|draft| draft.config).collect();
    let links: Option<Vec<LinkConfig>> = links.into_iter().map(link::LinkDraft::config).collect();
    let list: Option<Vec<SubscriptionConfig>> = subscriptions.into_iter().map(|draft| draft.config).collect();
    Some(Config {
        gateway: GatewayConfig {
            listen: gateway.listen,
            public_url: gateway.public_url,
            endpoints,
            limits: gateway.limits,
            trusted_proxies: gateway.trusted_proxies,
            spool: gateway.spool,
            tls: gateway.tls,
        },
        admin,
        stream: stream?.answered_within(deadline),
        relay: RelayConfig { store: store?, connections: connections?, links: links?, limits },
        subscriptions: SubscriptionsConfig { list: list?, policy, pace, ca_file, tenants, most, overlap },
        grace: gateway.grace,
        warnings: Vec::new(),
        ground: Ground::default(),
    })
}

/// Reads `[admin].listen` alone: a command that talks to a running server must work whatever else the file says.
///
/// # Errors
/// Why the address is not known.
pub(crate) fn load_admin(path: &Path, env: &Env) -> Result<SocketAddr, ConfigError> {
    let refuse = |faults| ConfigError { file: path.into(), faults, warnings: vec![] };
    let text = read(path).map_err(|fault| refuse(vec![fault]))?;
    let mut root: Table = file::parse(&text).map_err(refuse)?;
    env::overlay(&mut root, env);
    let reader = Reader::new(env, base_of(path));
    let admin = stream::admin(reader.root(&root).section("admin"));
    let (faults, _) = reader.into_findings();
    if faults.is_empty() { Ok(admin.listen) } else { Err(refuse(faults)) }
}

fn base_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

fn read(path: &Path) -> Result<String, Finding> {
    let fault = |problem: String| {
        Finding::new(
            At { path: path.display().to_string(), origin: Origin::Absent },
            problem,
            "name a readable configuration file",
        )
    };
    bounded::read(path, FILE_BYTES).map_err(|problem| fault(format!("it {problem}")))
}
