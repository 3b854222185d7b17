//! The admin listener: signs of life, metrics, and the relay's API. It is for people and their tools on this machine;
//! an address off loopback is refused by the configuration.

use std::future::IntoFuture as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use headgate_gateway::Gateway;
use headgate_relay::config::AdminConfig;
use headgate_relay::{Handle, Standing};
use headgate_schemas::shutdown::Shutdown;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpListener;

use crate::admin_listener::Impatient;
use crate::exit::Failure;
use crate::stream::{self, Stream, whole};

/// After a stop, open answers get so long to end by themselves.
const LINGER: Duration = Duration::from_secs(1);

/// What tells whether the process is well.
#[derive(Clone)]
pub(crate) struct Signs(Arc<Inner>);

struct Inner {
    registry: Registry,
    gateway: Option<Gateway>,
    relay: Option<Handle>,
    stream: Stream,
    gauges: Gauges,
}

/// Numbers that are read when somebody asks.
struct Gauges {
    stream: stream::Gauges,
    lag: Gauge,
    working: Gauge,
    leads: Gauge,
    partitions: Gauge,
    memory: Gauge,
}

impl Signs {
    /// Takes over the registry. A half that this process does not run shows nothing.
    pub(crate) fn new(mut registry: Registry, gateway: Option<Gateway>, relay: Option<Handle>, stream: Stream) -> Self {
        let stream_gauges = stream::Gauges::register(&mut registry, &stream);
        let gauges = Gauges {
            stream: stream_gauges,
            lag: Gauge::default(),
            working: Gauge::default(),
            leads: Gauge::default(),
            partitions: Gauge::default(),
            memory: Gauge::default(),
        };
        if relay.is_some() {
            let help = "Changes in the stream that the relay has not taken; -1 while the stream cannot be asked, and in a \
                        relay that does not work";
            registry.register("relay_lag_events", help, gauges.lag.clone());
            let help = "1 in a relay that works on the state, 0 in one that stands by or cannot use it";
            registry.register("relay_working", help, gauges.working.clone());
            let help = "1 in the relay that sends to subscribers, replays, and forgets what is old";
            registry.register("relay_leads", help, gauges.leads.clone());
            let help = "Partitions that this relay reads; -1 where it reads all there are";
            registry.register("relay_partitions", help, gauges.partitions.clone());
        }
        registry.register("process_resident_memory_bytes", "Resident memory", gauges.memory.clone());
        let build = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("commit", option_env!("HEADGATE_COMMIT").unwrap_or("unknown").to_owned()),
        ];
        registry.register("build", "What runs", Info::new(build));
        Self(Arc::new(Inner { registry, gateway, relay, stream, gauges }))
    }

    async fn measure(&self) {
        let Inner { relay, stream, gauges, .. } = &*self.0;
        gauges.stream.measure(stream);
        if let Some(relay) = relay {
            let working = relay.standing() == Standing::Working;
            gauges.working.set(i64::from(working));
            gauges.leads.set(i64::from(relay.leads()));
            gauges.partitions.set(relay.partitions().map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)));
            let (positions, asked) = (relay.positions(), stream.clone());
            let lag = tokio::task::spawn_blocking(move || working.then(|| asked.lag(&positions)).flatten()).await;
            gauges.lag.set(lag.ok().flatten().map_or(-1, whole));
        }
        gauges.memory.set(resident_bytes().unwrap_or(0));
    }

    /// How this process is ready, or why it is not.
    fn ready(&self) -> Result<&'static str, &'static str> {
        let Inner { gateway, relay, stream, .. } = &*self.0;
        if let Some(gateway) = gateway {
            return match () {
                () if gateway.is_draining() => Err("draining\n"),
                () if gateway.ready() && (stream.is_writable() || gateway.has_spool()) => Ok("ready\n"),
                () => Err("the stream takes no changes; see the log\n"),
            };
        }
        match relay.as_ref().map_or(Standing::Away, Handle::standing) {
            Standing::Working => Ok("ready\n"),
            Standing::StandingBy => Ok("standing by\n"),
            Standing::Away => Err("the relay's state cannot be used; see the log\n"),
        }
    }
}

/// A problem document (RFC 9457).
pub(crate) fn problem(status: StatusCode, code: &str, title: &str) -> Response {
    let problem = json!({ "title": title, "status": status.as_u16(), "code": code });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
}

/// What is not answered here may be another process's to answer.
async fn elsewhere(State(signs): State<Signs>, uri: Uri) -> Response {
    let path = uri.path();
    let Inner { gateway, relay, .. } = &*signs.0;
    let (code, title) = match (gateway, relay) {
        (Some(_), None) => (
            "gateway_only",
            format!("a gateway by itself has no {path}; ask the relay: --admin URL, or --config with its file"),
        ),
        (None, Some(_)) => (
            "relay_only",
            format!("a relay by itself has no {path}; ask a gateway: --admin URL, or --config with its file"),
        ),
        _ => ("not_found", format!("there is no {path} here, as this program is set")),
    };
    problem(StatusCode::NOT_FOUND, code, &title)
}

/// Resident memory as the system tells it; `None` where it does not.
fn resident_bytes() -> Option<i64> {
    const PAGE: i64 = 4_096;
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split(' ').nth(1)?.parse::<i64>().ok().map(|pages| pages * PAGE)
}

/// Listens and answers until the shutdown. Returns the real address.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) async fn serve(
    config: &AdminConfig,
    api: Router,
    signs: Signs,
    shutdown: &Shutdown,
) -> Result<SocketAddr, Failure> {
    let (listen, stall) = (config.listen, config.reader_stall);
    let refused =
        |error| Failure::failed(format!("admin: cannot listen on {listen}: {error}; is another program using it?"));
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let local = listener.local_addr().map_err(refused)?;
    let life = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(elsewhere)
        .with_state(signs);
    let stop = shutdown.clone();
    shutdown.spawn("admin", async move {
        let routes = life.merge(api).layer(middleware::from_fn(same_site));
        let stopping = stop.clone();
        let server = axum::serve(Impatient::new(listener, stall), routes)
            .with_graceful_shutdown(async move { stopping.stopped().await });
        let late = async move {
            stop.stopped().await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            ended = server.into_future() => if let Err(error) = ended {
                tracing::error!(%error, "the admin listener ended");
            },
            // A reader that takes nothing must not hold up the stop.
            () = late => {}
        }
    });
    Ok(local)
}

/// Refuses what a web page elsewhere makes a browser send: a name that is not this machine's (DNS rebinding), and
/// requests that come from another site.
async fn same_site(request: Request, next: Next) -> Response {
    if is_same_site(request.headers()) {
        return next.run(request).await;
    }
    problem(StatusCode::FORBIDDEN, "other_site", "this address answers tools and pages of this machine only")
}

fn is_same_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let local = text("host").is_none_or(is_loopback);
    let own = |origin: &str| origin.split_once("://").map(|(_, host)| host) == text("host");
    let site = text("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    local && site && text("origin").is_none_or(own)
}

/// Whether a `Host` names this machine's loopback.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Ready means that the gateway accepts, whatever the targets do; for a relay by itself, that it works or stands by: one
/// that is replaced waits for the readiness of the one that is to succeed it.
async fn ready(State(signs): State<Signs>) -> impl IntoResponse {
    match signs.ready() {
        Ok(how) => (StatusCode::OK, how),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn metrics(State(signs): State<Signs>) -> impl IntoResponse {
    signs.measure().await;
    let mut text = String::new();
    match encode(&mut text, &signs.0.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text)
        }
        Err(_) => {
            let kind = "text/plain; charset=utf-8";
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                [(header::CONTENT_TYPE, kind)],
                "the metrics cannot be written\n".to_owned(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_elsewhere_sends_is_refused() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect::<HeaderMap>()
        };
        assert!(is_same_site(&headers(&[("host", "127.0.0.1:8081")])));
        assert!(is_same_site(&headers(&[("host", "localhost:8081"), ("origin", "http://localhost:8081")])));
        assert!(!is_same_site(&headers(&[("host", "rebind.evil.example:8081")])));
        assert!(!is_same_site(&headers(&[("host", "127.0.0.1:8081"), ("origin", "http://evil.example")])));
        assert!(!is_same_site(&headers(&[("host", "127.0.0.1:8081"), ("origin", "null")])));
        assert!(!is_same_site(&headers(&[("host", "127.0.0.1:8081"), ("sec-fetch-site", "cross-site")])));
    }

    #[test]
    fn only_this_machine_is_named() {
        for yes in ["127.0.0.1:8081", "127.8.0.1", "localhost:1", "LOCALHOST", "[::1]:8081", "[::1]"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["", "evil.example", "rebind.evil.example:8081", "127.0.0.1.evil.example", "10.0.0.1:8081", "[::2]"] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
