//! The sender of webhooks: signs with the app's secret, posts, and posts again what was not answered with 2xx. Knows
//! nothing of the records.

use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use headgate_bench::sim::hooks::hubspot_signature;
use headgate_bench::sim::hubspot::WebhookEvent;
use headgate_schemas::time;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
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
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    gateway: Arc<RwLock<String>>,
    /// How long one array may be posted again and again.
    pub(crate) patience: Duration,
}

impl Sender {
    pub(crate) fn new(gateway: &str) -> Self {
        Self::over(gateway, config().with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    }

    /// One that trusts the authority in a folder of certificates and, when it `shows` one, shows the client's.
    pub(crate) fn trusting(gateway: &str, folder: &Path, shows: bool) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap()).unwrap();
        let config = config().with_root_certificates(roots);
        let config = if shows {
            let chain = vec![CertificateDer::from_pem_file(folder.join("client.pem")).unwrap()];
            let key = PrivateKeyDer::from_pem_file(folder.join("client-key.pem")).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        } else {
            config.with_no_client_auth()
        };
        Self::over(gateway, config)
    }

    fn over(gateway: &str, tls: ClientConfig) -> Self {
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, gateway: Arc::new(RwLock::new(gateway.to_owned())), patience: DEADLINE }
    }

    /// Posts any body to any path of the gateway.
    pub(crate) async fn post_to(&self, path: &str, body: &str) -> Option<u16> {
        let url = format!("{}{path}", self.gateway.read().unwrap());
        let request = Request::post(url).header("content-type", "text/xml").body(Full::from(body.to_owned())).unwrap();
        let answered = tokio::time::timeout(Duration::from_secs(5), self.client.request(request)).await;
        Some(answered.ok()?.ok()?.status().as_u16())
    }

    /// Posts once. `None` when there was no answer.
    pub(crate) async fn post(&self, events: &[WebhookEvent]) -> Option<u16> {
        let body = serde_json::to_vec(events).unwrap();
        self.post_signed(body, SECRETS[2].1).await
    }

    /// Posts any body with a signature by any secret.
    pub(crate) async fn post_signed(&self, body: Vec<u8>, secret: &str) -> Option<u16> {
        let gateway = self.gateway.read().unwrap().clone();
        self.post_signed_to(&gateway, PATH, body, secret).await
    }

    /// The same to any path of any gateway.
    pub(crate) async fn post_signed_to(&self, gateway: &str, path: &str, body: Vec<u8>, secret: &str) -> Option<u16> {
        let now_ms = time::now().millis();
        let signature = hubspot_signature(secret, "POST", &format!("{PUBLIC}{path}"), &body, now_ms);
        let url = format!("{gateway}{path}");
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
            assert!(start.elapsed() < self.patience, "events were not taken in {:?}", self.patience);
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
    /// Reads a page of the admin API with its status.
    pub(crate) async fn ask(&self, url: &str) -> (u16, Value) {
        let request = Request::get(url).body(Full::default()).unwrap();
        let response = self.client.request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

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

fn config() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap()
}

/// Waits until `is_so` says so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < DEADLINE, "in {DEADLINE:?} this did not come about: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
