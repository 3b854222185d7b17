//! The sender of webhooks: signs with the app's secret, posts, and posts again what was not answered with 2xx. Knows
//! nothing of the records.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use headgate_bench::sim::hooks::hubspot_signature;
use headgate_bench::sim::hubspot::WebhookEvent;
use headgate_schemas::time;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::server::SECRETS;

/// The endpoint as the provider knows it.
const PATH: &str = "/in/hubspot/lp8tCkWv3fZ0yQ2mN7rBxA";
const PUBLIC: &str = "http://127.0.0.1:8080";
/// Longest wait for anything in these tests; it decides only when something is stuck.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A sender. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: Arc<RwLock<String>>,
}

impl Sender {
    pub(crate) fn new(gateway: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { client, gateway: Arc::new(RwLock::new(gateway.to_owned())) }
    }

    /// Posts once. `None` when there was no answer.
    pub(crate) async fn post(&self, events: &[WebhookEvent]) -> Option<u16> {
        let body = serde_json::to_vec(events).unwrap();
        self.post_signed(body, SECRETS[2].1).await
    }

    /// Posts any body with a signature by any secret.
    pub(crate) async fn post_signed(&self, body: Vec<u8>, secret: &str) -> Option<u16> {
        let now_ms = time::now().millis();
        let signature = hubspot_signature(secret, "POST", &format!("{PUBLIC}{PATH}"), &body, now_ms);
        let url = format!("{}{PATH}", self.gateway.read().unwrap());
        let request = Request::post(url)
            .header("content-type", "application/json")
            .header("x-hubspot-request-timestamp", now_ms.to_string())
            .header("x-hubspot-signature-v3", signature)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let exchange = async {
            let response = self.client.request(request).await.ok()?;
            let status = response.status().as_u16();
            response.into_body().collect().await.ok()?;
            Some(status)
        };
        tokio::time::timeout(Duration::from_secs(5), exchange).await.ok().flatten()
    }

    /// Posts until it is taken.
    pub(crate) async fn deliver(&self, events: &[WebhookEvent]) {
        let mut events = events.to_vec();
        let start = Instant::now();
        while !matches!(self.post(&events).await, Some(200..=299)) {
            assert!(start.elapsed() < DEADLINE, "events were not taken in {DEADLINE:?}");
            events.iter_mut().for_each(|event| event.attempt_number += 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads any page of a server as text. `None` when there was no answer.
    pub(crate) async fn read(&self, url: &str) -> Option<String> {
        let request = Request::get(url).body(Full::default()).unwrap();
        let response = self.client.request(request).await.ok()?;
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some(String::from_utf8_lossy(&body).into_owned())
    }
}

impl Sender {
    /// Posts JSON to the admin API and reads the answer.
    pub(crate) async fn send(&self, url: &str, body: &Value) -> Value {
        let request = Request::post(url).header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let body = self.client.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap_or_default()
    }

    /// Reads lines of a page that does not end, until `take` has enough.
    pub(crate) async fn lines(&self, url: &str, mut take: impl FnMut(&str) -> bool) {
        let request = Request::get(url).body(Full::default()).unwrap();
        let mut body = self.client.request(request).await.unwrap().into_body();
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            rest.extend_from_slice(frame.unwrap().data_ref().map_or(&[][..], |data| data));
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if !take(std::str::from_utf8(&line).unwrap()) {
                    return;
                }
            }
        }
    }
}

/// Waits until `is_so` says so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < DEADLINE, "in {DEADLINE:?} this did not come about: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
