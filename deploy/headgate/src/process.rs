//! The whole program in one process: the order of starting stands here and nowhere else. The stream first, then what
//! reads it, then the gateway that writes to it, then the admin listener that shows them; the line that says `ready`
//! comes when all of them work.

use std::sync::Arc;
use std::time::Duration;

use headgate_gateway::Gateway;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::embedded::Embedded;
use headgate_schemas::stream::{Sink, Source};
use prometheus_client::registry::Registry;

use crate::admin::{self, Signs};
use crate::admin_gateway;
use crate::config::{Config, StreamConfig};
use crate::exit::Failure;

/// What runs. Stop it with the [`Shutdown`] it was started with, then [`Running::close`] it.
pub(crate) struct Running {
    /// Address of the gateway.
    pub(crate) gateway: std::net::SocketAddr,
    /// Address of the admin API.
    pub(crate) admin: std::net::SocketAddr,
    gateway_parts: Gateway,
    stream: Arc<Embedded>,
}

impl Running {
    /// The line that tells where.
    pub(crate) fn ready_line(&self) -> String {
        format!("ready gateway=http://{} admin=http://{}", self.gateway, self.admin)
    }

    /// Brings what the spool holds to the stream, at most for `patience`, writes what the stream still holds in memory
    /// and closes its files. Call it when every task has ended. False when that failed, or something remains.
    pub(crate) async fn close(self, patience: Duration) -> bool {
        let finished = self.gateway_parts.finish(patience).await;
        if let Err(remaining) = finished {
            tracing::error!("{remaining}");
        }
        // Joining the log's threads blocks.
        tokio::task::spawn_blocking(move || self.stream.close()).await.is_ok() && finished.is_ok()
    }
}

/// Starts the parts in order.
///
/// # Errors
/// Why a part did not start. What was started before it ends with `shutdown`.
pub(crate) async fn start(config: Config, shutdown: &Shutdown) -> Result<Running, Failure> {
    let mut registry = Registry::default();
    let StreamConfig::Embedded(stream) = config.stream;
    let stream = Arc::new(Embedded::open(stream).map_err(|error| Failure::failed(format!("stream: {error}")))?);

    let source: Box<dyn Source> = Box::new(stream.source());
    let relay = headgate_relay::start(config.relay, source, &mut registry, shutdown)
        .map_err(|error| Failure::failed(format!("relay: {}", with_causes(&error))))?;

    let sink: Arc<dyn Sink> = stream.clone();
    let gateway = headgate_gateway::start(config.gateway, sink, &mut registry, shutdown)
        .await
        .map_err(|error| Failure::failed(format!("gateway: {}", with_causes(&error))))?;

    gateway.remember(Box::new(stream.source()));
    let (gateway_addr, reader) = (gateway.local_addr(), stream.clone());
    let open = Arc::new(move || Ok(Box::new(reader.source()) as Box<dyn Source>));
    let api = headgate_relay::admin::router(relay.clone())
        .merge(headgate_relay::admin::changes(open, config.admin.readers, shutdown))
        .merge(admin_gateway::router(gateway.clone()));
    let signs = Signs::new(registry, gateway.clone(), relay.handle, stream.clone());
    let admin = admin::serve(&config.admin, api, signs, shutdown).await?;
    Ok(Running { gateway: gateway_addr, admin, gateway_parts: gateway, stream })
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
