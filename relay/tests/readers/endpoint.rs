//! A subscriber's endpoint that answers as the test says and writes down every call; and a running relay with
//! subscriptions to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use headgate_relay::admin::OpenSource;
use headgate_relay::config::{Auth, ConnectionConfig, Limits, RelayConfig, SetUp, StoreConfig};
use headgate_relay::outgoing::{Lookup, Policy, system_lookup};
use headgate_relay::store::StorePlace;
use headgate_relay::subscription::sign::Key;
use headgate_relay::subscription::{self, OVERLAP, Pace, SubscriptionConfig, SubscriptionsConfig};
use headgate_relay::{Relay, admin};
use headgate_schemas::event::Event;
use headgate_schemas::filter::Filter;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::memory::Memory;
use headgate_schemas::stream::{Begin, Sink as _};
use headgate_schemas::{Change, System, contract};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::open;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Longest wait for anything that must happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// One call as it came.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What it was answered.
    pub(crate) status: u16,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn event(&self) -> Event {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Record and time of the change.
    pub(crate) fn change(&self) -> (String, i64) {
        let event = self.event();
        (event.data.object.id.unwrap(), event.time.millis() / 1_000)
    }
}

/// Answers a call, by its number and what it is.
type Answers = Arc<dyn Fn(usize, &Call) -> Response + Send + Sync>;

/// The endpoint.
pub(crate) struct Endpoint {
    pub(crate) port: u16,
    calls: watch::Receiver<Vec<Call>>,
    stop: Shutdown,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

pub(crate) fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

impl Endpoint {
    pub(crate) async fn open(answer: impl Fn(usize, &Call) -> Response + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", Arc::new(answer)).await
    }

    async fn on(address: &str, answer: Answers) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (write, calls) = watch::channel(Vec::<Call>::new());
        let write = Arc::new(write);
        let handler = move |headers: HeaderMap, body: Bytes| {
            let (write, answer) = (Arc::clone(&write), Arc::clone(&answer));
            async move {
                let mut call = Call { headers, body, status: 0 };
                let mut response = None;
                write.send_modify(|calls| {
                    let answered = answer(calls.len(), &call);
                    call.status = answered.status().as_u16();
                    calls.push(call);
                    response = Some(answered);
                });
                response.unwrap()
            }
        };
        let stop = Shutdown::new(Duration::from_secs(1));
        let stopping = stop.clone();
        stop.spawn("endpoint", async move {
            let server = axum::serve(listener, Router::new().fallback(handler));
            server.with_graceful_shutdown(async move { stopping.stopped().await }).await.unwrap();
        });
        Self { port, calls, stop }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?key=s3cr3t", self.port)
    }

    /// Waits until the calls are as `so`, and gives them.
    pub(crate) async fn until(&self, so: impl Fn(&[Call]) -> bool) -> Vec<Call> {
        let mut calls = self.calls.clone();
        let found = tokio::time::timeout(DEADLINE, calls.wait_for(|calls| so(calls))).await;
        found.unwrap_or_else(|_| panic!("{:?}", self.seen())).unwrap().clone()
    }

    /// The calls that were answered with 2xx, once there are so many.
    pub(crate) async fn taken(&self, n: usize) -> Vec<(String, i64)> {
        let calls = self.until(|calls| calls.iter().filter(|c| c.status / 100 == 2).count() >= n).await;
        calls.iter().filter(|c| c.status / 100 == 2).map(Call::change).collect()
    }

    pub(crate) fn seen(&self) -> Vec<(String, i64)> {
        self.calls.borrow().iter().map(Call::change).collect()
    }
}

/// The changes of one record among all, in the order in which they were taken.
pub(crate) fn of(taken: &[(String, i64)], record: &str) -> Vec<i64> {
    taken.iter().filter(|(id, _)| id == record).map(|(_, at)| *at).collect()
}

/// What a test sets.
pub(crate) struct Setting {
    pub(crate) policy: Policy,
    pub(crate) pace: Pace,
    pub(crate) lookup: Lookup,
    pub(crate) begin: Begin,
    /// What subscriptions read the log through, where it is not the log itself.
    pub(crate) open: Option<OpenSource>,
}

impl Default for Setting {
    fn default() -> Self {
        let pace = Pace {
            deadline: Duration::from_secs(30),
            retry_first: Duration::from_millis(2),
            retry_most: Duration::from_millis(20),
            ..Pace::default()
        };
        let policy = Policy { loopback: true, ..Policy::default() };
        Self { policy, pace, lookup: system_lookup(), begin: Begin::Start, open: None }
    }
}

pub(crate) fn subscription(name: &str, url: &str) -> SubscriptionConfig {
    SubscriptionConfig {
        name: name.to_owned(),
        tenant: "acme".to_owned(),
        url: url.parse().unwrap(),
        keys: vec![Key::new(SECRET).unwrap()],
        filter: Filter::default(),
        begin: Begin::Start,
    }
}

/// A connection that is never called.
fn connection(system: System) -> ConnectionConfig {
    let hubspot = system == System::Hubspot;
    ConnectionConfig {
        name: format!("{system}-main"),
        tenant: "acme".to_owned(),
        system,
        account: "1".to_owned(),
        base_url: "http://127.0.0.1:9".to_owned(),
        auth: Auth::Bearer("token".into()),
        api_version: if hubspot { "v3" } else { "62.0" }.to_owned(),
        client: "headgate".to_owned(),
        app_id: None,
        external_id_field: if hubspot { "relay_id" } else { "Relay_Id__c" }.to_owned(),
        set_up: SetUp::Never,
        read_lag: Duration::ZERO,
        longest_run: Duration::from_secs(600),
    }
}

/// A relay over a state, which links nothing.
pub(crate) fn relay(
    place: StorePlace,
    folder: &Path,
    log: &Memory,
    metrics: &mut Registry,
    shutdown: &Shutdown,
) -> Relay {
    let config = RelayConfig {
        store: StoreConfig { place, key_file: folder.join("key") },
        connections: [System::Hubspot, System::Salesforce].map(connection).into(),
        links: Vec::new(),
        limits: Limits { estimate_records: 7, ..Limits::default() },
    };
    headgate_relay::start(config, Box::new(log.source()), metrics, shutdown).unwrap()
}

/// A running relay with subscriptions.
pub(crate) struct Office {
    api: TowerToHyperService<Router>,
    pub(crate) metrics: Registry,
    shutdown: Shutdown,
}

impl Office {
    /// Opens it over the state in `folder`.
    pub(crate) fn open(folder: &Path, log: &Memory, list: Vec<SubscriptionConfig>, setting: Setting) -> Self {
        Self::at(StorePlace::Sqlite(folder.join("state.db")), folder, log, list, setting)
    }

    /// Opens it over the state at a place.
    pub(crate) fn at(
        place: StorePlace,
        folder: &Path,
        log: &Memory,
        list: Vec<SubscriptionConfig>,
        setting: Setting,
    ) -> Self {
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let mut metrics = Registry::default();
        let relay = relay(place, folder, log, &mut metrics, &shutdown);
        let Setting { policy, pace, lookup, begin, open: through } = setting;
        let list = list.into_iter().map(|one| SubscriptionConfig { begin: begin.clone(), ..one }).collect();
        let tenants = vec!["acme".to_owned()];
        let config = SubscriptionsConfig { list, policy, pace, ca_file: None, tenants, most: 3, overlap: OVERLAP };
        let through = through.unwrap_or_else(|| open(log));
        let all = subscription::start(config, &relay, &through, lookup, &mut metrics, &shutdown).unwrap();
        Self { api: TowerToHyperService::new(admin::subscriptions(all)), metrics, shutdown }
    }

    pub(crate) async fn close(self) {
        self.shutdown.drain().await.unwrap();
    }

    async fn ask(&self, request: Request<Body>) -> (u16, Value) {
        let response = self.api.call(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.ask(Request::delete(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = Request::post(path).header("content-type", "application/json");
        self.ask(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Registers a subscription, as soon as the state is there.
    pub(crate) async fn registered(&self, asked: Value) -> Value {
        let registering = async {
            loop {
                match self.post("/v1/subscriptions", asked.clone()).await {
                    (201, registered) => return registered,
                    (503, _) => tokio::time::sleep(Duration::from_millis(2)).await,
                    (status, problem) => panic!("{status} {problem:#}"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, registering).await.unwrap()
    }

    /// Waits until no subscription has that name.
    pub(crate) async fn gone(&self, name: &str) {
        self.shown(name, |view| view["code"] == "subscription_unknown").await;
    }

    pub(crate) async fn replay(&self, name: &str, from: &str) -> (u16, Value) {
        self.post(&format!("/v1/subscriptions/{name}/replay"), json!({ "from": from })).await
    }

    pub(crate) async fn enable(&self, name: &str) -> (u16, Value) {
        self.post(&format!("/v1/subscriptions/{name}/enable"), Value::Null).await
    }

    /// Waits until a subscription is shown as `so`.
    pub(crate) async fn shown(&self, name: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut view = Value::Null;
        let wait = async {
            loop {
                view = self.get(&format!("/v1/subscriptions/{name}")).await.1;
                if so(&view) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, wait).await;
        assert!(waited.is_ok(), "{view:#}");
        view
    }
}

pub(crate) async fn append(log: &Memory, change: &Change) {
    log.append(vec![contract::encode(change).unwrap()]).await.unwrap();
}
