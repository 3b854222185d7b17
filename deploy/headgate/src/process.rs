//! What runs in one process, and the order of starting: it stands here and nowhere else. The stream first, then what
//! reads it, then the gateway that writes to it, then the admin listener that shows them; the line that says `ready`
//! comes when all of them work. `serve` has both halves, `gateway` and `relay` one each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headgate_gateway::Gateway;
use headgate_relay::Relay;
use headgate_relay::admin::OpenSource;
use headgate_relay::config::RelayConfig;
use headgate_relay::replay::Replays;
use headgate_relay::subscription::{self, Subscriptions, SubscriptionsConfig};
#[cfg(feature = "kafka")]
use headgate_relay::vault::Vault;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::Source;
use prometheus_client::registry::Registry;

use crate::admin::{self, Signs};
#[cfg(feature = "kafka")]
use crate::admin_endpoints;
use crate::admin_gateway;
use crate::config::{Config, StreamConfig};
#[cfg(feature = "kafka")]
use crate::control::Shares;
use crate::exit::{Exit, Failure};
use crate::stream::Stream;

/// Which half of the program a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Both.
    Serve,
    /// Webhooks in, stream out.
    Gateway,
    /// Stream in, CRMs out.
    Relay,
}

impl Role {
    /// Refuses a half by itself on a stream that no other process can reach.
    ///
    /// # Errors
    /// The reason, and what to do.
    fn allowed(self, stream: &StreamConfig) -> Result<(), Failure> {
        let name = match self {
            Self::Serve => return Ok(()),
            Self::Gateway => "gateway",
            Self::Relay => "relay",
        };
        match stream {
            StreamConfig::Embedded(_) => Err(Failure::new(
                Exit::Configuration,
                format!(
                    "stream.engine: `headgate {name}` by itself needs a stream that other processes reach, and the \
                     embedded one belongs to one process; use `headgate serve`, or engine = \"kafka\" with brokers"
                ),
            )),
            #[cfg(feature = "kafka")]
            StreamConfig::Kafka(_) => Ok(()),
        }
    }
}

/// What runs. Stop it with the [`Shutdown`] it was started with, then [`Running::close`] it.
pub(crate) struct Running {
    /// The gateway, where this process has one.
    gateway: Option<Gateway>,
    /// Address of the admin API.
    pub(crate) admin: SocketAddr,
    stream: Stream,
}

impl Running {
    /// Looks now at the files that are looked at now and then: those of the certificate. The configuration is read at the
    /// start alone.
    pub(crate) async fn look_again(&self) {
        let Some(gateway) = self.gateway.clone() else { return };
        match tokio::task::spawn_blocking(move || gateway.reload_certificate()).await {
            Ok(Ok(true)) => tracing::info!("the certificate was replaced; open connections keep the old one"),
            Ok(Ok(false)) => tracing::info!("there is no new certificate; a new configuration needs a new start"),
            Ok(Err(error)) => tracing::warn!(%error, "the certificate was not replaced and the old one stays"),
            Err(error) => tracing::warn!(%error, "nobody looked for a new certificate"),
        }
    }

    /// Address of the gateway, where this process has one.
    pub(crate) fn gateway(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().map(Gateway::local_addr)
    }

    /// The line that tells where.
    pub(crate) fn ready_line(&self) -> String {
        match &self.gateway {
            Some(gateway) => {
                let scheme = if gateway.speaks_tls() { "https" } else { "http" };
                format!("ready gateway={scheme}://{} admin=http://{}", gateway.local_addr(), self.admin)
            }
            None => format!("ready admin=http://{}", self.admin),
        }
    }

    /// Brings what the spool holds to the stream, writes what the stream still holds in memory and closes it, both at
    /// most for `patience`. Call it when every task has ended. False when that failed, or something remains.
    pub(crate) async fn close(self, patience: Duration) -> bool {
        let finished = match &self.gateway {
            Some(gateway) => gateway.finish(patience).await,
            None => Ok(()),
        };
        if let Err(remaining) = finished {
            tracing::error!("{remaining}");
        }
        // Closing joins threads, which blocks.
        let closed = tokio::task::spawn_blocking(move || self.stream.close(patience)).await;
        matches!(closed, Ok(true)) && finished.is_ok()
    }
}

/// Starts the parts of `role` in order.
///
/// # Errors
/// Why a part did not start. What was started before it ends with `shutdown`.
pub(crate) async fn start(role: Role, config: Config, shutdown: &Shutdown) -> Result<Running, Failure> {
    role.allowed(&config.stream)?;
    #[cfg(feature = "kafka")]
    let (ground, key_file) = (config.ground, config.relay.store.key_file.clone());
    let mut registry = Registry::default();
    let stream = Stream::open(config.stream).await?;

    let opened = stream.clone();
    let open: OpenSource = Arc::new(move || opened.source());
    let relay = match role {
        Role::Serve | Role::Relay => {
            let links = config.relay.links.clone();
            let relay = relay(config.relay, &stream, &mut registry, shutdown)?;
            let replays = Replays::new(Arc::clone(&open), stream.sink(), &links, &relay, shutdown);
            let subscriptions = serve(config.subscriptions, &relay, &open, &mut registry, shutdown)?;
            Some((relay, subscriptions, replays))
        }
        Role::Gateway => None,
    };
    let gateway = match role {
        Role::Serve | Role::Gateway => {
            let gateway = headgate_gateway::start(config.gateway, stream.sink(), &mut registry, shutdown)
                .await
                .map_err(|error| Failure::failed(format!("gateway: {}", with_causes(&error))))?;
            gateway.remember(reader(&stream)?);
            Some(gateway)
        }
        Role::Relay => None,
    };

    let mut api = headgate_relay::admin::changes(open, config.admin.readers, shutdown);
    if let Some((relay, subscriptions, replays)) = relay.clone() {
        let led = headgate_relay::admin::subscriptions(subscriptions).merge(headgate_relay::admin::replays(replays));
        api = api.merge(headgate_relay::admin::where_it_leads(led, &relay));
        api = api.merge(headgate_relay::admin::router(relay));
    }
    if let Some(gateway) = &gateway {
        api = api.merge(admin_gateway::router(gateway.clone()));
        #[cfg(feature = "kafka")]
        if let Some(topic) = stream.control().await? {
            let failed = |error: &dyn std::error::Error| Failure::failed(format!("endpoints: {}", with_causes(error)));
            // A gateway that shares nothing needs no key.
            let vault = Vault::open_or_create(&key_file);
            let vault = vault.inspect_err(|error| tracing::warn!(%error, "shared endpoints cannot be opened")).ok();
            let shares =
                Shares::start(topic, vault, ground, gateway, shutdown).await.map_err(|error| failed(&error))?;
            api = api.merge(admin_endpoints::router(shares));
        }
    }
    let signs = Signs::new(registry, gateway.clone(), relay.map(|(relay, ..)| relay.handle), stream.clone());
    let admin = admin::serve(&config.admin, api, signs, shutdown).await?;
    Ok(Running { gateway, admin, stream })
}

fn relay(config: RelayConfig, stream: &Stream, registry: &mut Registry, shutdown: &Shutdown) -> Result<Relay, Failure> {
    headgate_relay::start(config, reader(stream)?, registry, shutdown)
        .map_err(|error| Failure::failed(format!("relay: {}", with_causes(&error))))
}

fn serve(
    config: SubscriptionsConfig,
    relay: &Relay,
    open: &OpenSource,
    registry: &mut Registry,
    shutdown: &Shutdown,
) -> Result<Subscriptions, Failure> {
    let lookup = headgate_relay::outgoing::system_lookup();
    subscription::start(config, relay, open, lookup, registry, shutdown)
        .map_err(|error| Failure::failed(format!("subscriptions: {}", with_causes(&error))))
}

fn reader(stream: &Stream) -> Result<Box<dyn Source>, Failure> {
    stream.source().map_err(|error| Failure::failed(format!("stream: {error}")))
}

/// An error with its causes, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
