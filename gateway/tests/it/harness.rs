//! A gateway on a free port, a sink the test controls, and a client that writes HTTP/1.1 by hand, so that a test can
//! say exactly which bytes go out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_gateway::Gateway;
use headgate_gateway::config::{Credential, EndpointConfig, GatewayConfig, Limits, Owner, Owners, Place, ProviderName};
use headgate_schemas::contract::Record;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Append, Sink, StreamError, Topic};
use headgate_schemas::{System, time};
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

pub(crate) const SECRET: &str = "2f1c9b1e-1111-4222-8333-444455556666";
pub(crate) const OLD_SECRET: &str = "9a1c9b1e-1111-4222-8333-444455550000";
pub(crate) const NATIVE_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const HUBSPOT: &str = "/in/hubspot/lp8tCkWv3fZ0yQ2mN7rBxA";
pub(crate) const NATIVE: &str = "/in/native/nA4tCkWv3fZ0yQ2mN7rBxA";
pub(crate) const NATIVE_PUBLIC: &str = "/in/native/pU4tCkWv3fZ0yQ2mN7rBxA";
pub(crate) const SALESFORCE: &str = "/in/salesforce/q7ZtB1nXc5eWm0uKjR4sDg";
pub(crate) const ORGANIZATION: &str = "00D5g000000ABCDEA4";
pub(crate) const DYNAMICS: &str = "/in/dynamics/dY4tCkWv3fZ0yQ2mN7rBxA";
pub(crate) const DYNAMICS_QUERY: &str = "/in/dynamics/dQ4tCkWv3fZ0yQ2mN7rBxA";
pub(crate) const PIPEDRIVE: &str = "/in/pipedrive/pD4tCkWv3fZ0yQ2mN7rBxA";
pub(crate) const HUB_SIGNATURE: &str = "/in/hub-signature-256/hS4tCkWv3fZ0yQ2mN7rBxA";
pub(crate) const T_V1: &str = "/in/t-v1/tV4tCkWv3fZ0yQ2mN7rBxA";
pub(crate) const CLOUDEVENTS: &str = "/in/cloudevents/cE4tCkWv3fZ0yQ2mN7rBxA";
/// The native form, sent by somebody inside a Salesforce organization.
pub(crate) const NATIVE_SALESFORCE: &str = "/in/native/nS4tCkWv3fZ0yQ2mN7rBxA";
/// HubSpot with the old signatures allowed.
pub(crate) const HUBSPOT_LEGACY: &str = "/in/hubspot/hL4tCkWv3fZ0yQ2mN7rBxA";
pub(crate) const PUBLIC_URL: &str = "https://hooks.example.com";

/// Longest wait for anything that must happen; only ever reached by a failing test.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the sink does with the next appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Acknowledge,
    Refuse,
    /// Queue and leave the answer to [`TestSink::answer`].
    Hold,
}

/// A stream whose acknowledgements the test decides.
pub(crate) struct TestSink {
    mode: Mutex<Mode>,
    taken: Mutex<Vec<Record>>,
    held: Mutex<Vec<oneshot::Sender<Result<(), StreamError>>>>,
    appends: watch::Sender<usize>,
}

impl TestSink {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            mode: Mutex::new(Mode::Acknowledge),
            taken: Mutex::default(),
            held: Mutex::default(),
            appends: watch::channel(0).0,
        })
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    /// Every record that was appended and not refused, in order.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.taken.lock().clone()
    }

    /// Waits until `append` was called `n` times in all.
    pub(crate) async fn appended(&self, n: usize) {
        let mut appends = self.appends.subscribe();
        within(appends.wait_for(|seen| *seen >= n)).await.unwrap();
    }

    pub(crate) fn appends(&self) -> usize {
        *self.appends.borrow()
    }

    /// Answers every held append.
    pub(crate) fn answer(&self, ok: bool) {
        for held in self.held.lock().drain(..) {
            let answer = if ok { Ok(()) } else { Err(StreamError::Indefinite("by the test".to_owned())) };
            // Nobody waits for it any more when the gateway gave up.
            drop(held.send(answer));
        }
    }
}

impl Sink for TestSink {
    fn append(&self, batch: Vec<Record>) -> Append {
        let mode = *self.mode.lock();
        let answer: Append = match mode {
            Mode::Acknowledge => Box::pin(async { Ok(()) }),
            Mode::Refuse => Box::pin(async { Err(StreamError::Unavailable("by the test".to_owned())) }),
            Mode::Hold => {
                let (answer, held) = oneshot::channel();
                self.held.lock().push(answer);
                Box::pin(async { held.await.unwrap_or(Err(StreamError::Full)) })
            }
        };
        if mode != Mode::Refuse {
            self.taken.lock().extend(batch);
        }
        self.appends.send_modify(|n| *n += 1);
        answer
    }

    fn topic(&self) -> Topic {
        Topic { id: "test".to_owned(), partitions: 24 }
    }
}

pub(crate) struct Bench {
    pub(crate) gateway: Gateway,
    pub(crate) sink: Arc<TestSink>,
    pub(crate) shutdown: Shutdown,
    registry: Registry,
}

pub(crate) fn limits() -> Limits {
    let (order_window, refusal_delay) = (Duration::ZERO, Duration::ZERO);
    Limits { order_window, refusal_delay, append_deadline: PATIENCE, ..Limits::default() }
}

pub(crate) fn owner(tenant: &str, connection: &str, account: &str) -> Owner {
    Owner { tenant: tenant.to_owned(), connection: connection.to_owned(), account: account.to_owned(), app_id: None }
}

pub(crate) fn endpoint(name: &str, path: &str, provider: ProviderName, credential: Credential) -> EndpointConfig {
    let key = path.rsplit('/').next().unwrap();
    EndpointConfig::new(
        name,
        key,
        (provider, provider.system()),
        Owners::One(owner("acme", &format!("{name}-main"), account_of(provider))),
        credential,
    )
}

fn account_of(provider: ProviderName) -> &'static str {
    match provider.system() {
        System::Hubspot => "5550123",
        System::Salesforce => ORGANIZATION,
        System::Dynamics => "4ef5b371-e89e-e711-8122-000d3aa2331c",
        System::Pipedrive => "4410",
        System::Native => "crm",
    }
}

pub(crate) fn endpoints() -> Vec<EndpointConfig> {
    let secrets = Credential::Secrets(vec![SECRET.into(), OLD_SECRET.into()]);
    let native = Credential::Secrets(vec![NATIVE_SECRET.into()]);
    let public = Credential::PublicKey(format!("whpk_{}", STANDARD.encode(key_pair().public_key())));
    let text = Credential::Secrets(vec![SECRET.into()]);
    let shown = |place, name: &str| Credential::Shown {
        place,
        names: vec![name.to_owned()],
        values: vec![vec![SECRET.into()], vec![OLD_SECRET.into()]],
    };
    vec![
        endpoint("hubspot", HUBSPOT, ProviderName::Hubspot, secrets),
        endpoint("native", NATIVE, ProviderName::Native, native.clone()),
        endpoint("native-public", NATIVE_PUBLIC, ProviderName::Native, public),
        endpoint("salesforce", SALESFORCE, ProviderName::Salesforce, Credential::None),
        endpoint("dynamics", DYNAMICS, ProviderName::Dynamics, shown(Place::Header, "X-Headgate-Key")),
        endpoint("dynamics-query", DYNAMICS_QUERY, ProviderName::Dynamics, shown(Place::Query, "code")),
        endpoint(
            "pipedrive",
            PIPEDRIVE,
            ProviderName::Pipedrive,
            Credential::Basic { username: "crm-sync".to_owned(), passwords: vec![SECRET.into(), OLD_SECRET.into()] },
        ),
        endpoint("hub-signature", HUB_SIGNATURE, ProviderName::HubSignature256, text.clone()),
        endpoint("t-v1", T_V1, ProviderName::TV1, text.clone()),
        EndpointConfig {
            allowed_origins: vec!["events.example.com".to_owned()],
            ..endpoint("cloudevents", CLOUDEVENTS, ProviderName::Cloudevents, text.clone())
        },
        EndpointConfig {
            system: System::Salesforce,
            ..endpoint("native-salesforce", NATIVE_SALESFORCE, ProviderName::Native, native)
        },
        EndpointConfig {
            allow_legacy: true,
            ..endpoint("hubspot-legacy", HUBSPOT_LEGACY, ProviderName::Hubspot, text)
        },
    ]
}

/// A free port and the public URL of the tests.
pub(crate) fn configuration(limits: Limits, endpoints: Vec<EndpointConfig>) -> GatewayConfig {
    let public_url = Some(PUBLIC_URL.to_owned());
    GatewayConfig { public_url, limits, ..GatewayConfig::new(([127, 0, 0, 1], 0).into(), endpoints) }
}

/// A gateway with the public URL of the tests.
pub(crate) async fn start(
    limits: Limits,
    endpoints: Vec<EndpointConfig>,
    sink: Arc<dyn Sink>,
    registry: &mut Registry,
    shutdown: &Shutdown,
) -> Gateway {
    let config = configuration(limits, endpoints);
    headgate_gateway::start(config, sink, registry, shutdown).await.unwrap()
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(limits()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::of(limits, endpoints()).await
    }

    pub(crate) async fn of(limits: Limits, endpoints: Vec<EndpointConfig>) -> Self {
        Self::configured(configuration(limits, endpoints)).await
    }

    pub(crate) async fn configured(config: GatewayConfig) -> Self {
        let (sink, shutdown) = (TestSink::new(), Shutdown::new(PATIENCE));
        let mut registry = Registry::default();
        let gateway = headgate_gateway::start(config, sink.clone(), &mut registry, &shutdown).await.unwrap();
        Self { gateway, sink, shutdown, registry }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.gateway.local_addr()).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, request: impl AsRef<[u8]>) -> Reply {
        let mut client = self.connect().await;
        client.write(request).await;
        client.reply().await
    }

    /// The value of one line of the metrics, 0 when it is not there yet.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        self.metrics().lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or(0)
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Waits until a line of the metrics has the value `n`.
    pub(crate) async fn counted(&self, line: &str, n: u64) {
        within(async {
            while self.metric(line) != n {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

/// Fails the test instead of hanging.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("must happen")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Everything but the date, to compare answers.
    pub(crate) fn undated(mut self) -> Self {
        self.headers.retain(|(n, _)| n != "date");
        self
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(at: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(at).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.write(bytes).await;
        self.reply().await
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        within(self.try_reply()).await.expect("a reply")
    }

    /// The next reply, or none when the connection ends first.
    pub(crate) async fn try_reply(&mut self) -> Option<Reply> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            self.fill().await?;
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let pair = |l: &str| l.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
        let headers: Vec<_> = lines.filter_map(pair).collect();
        let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
        while self.read.len() < length {
            self.fill().await?;
        }
        let body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        Some(Reply { status, headers, body })
    }

    /// Waits until the other side closes; answers whatever it still sent.
    pub(crate) async fn closed(&mut self) -> usize {
        within(async { while self.fill().await.is_some() {} }).await;
        self.read.len()
    }

    async fn fill(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.read).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }
}

pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("POST {path} HTTP/1.1\r\nHost: anything.example\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    [out.as_bytes(), body].concat()
}

pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|p| mac.update(p));
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Signature and timestamp of a HubSpot v3 call made now.
pub(crate) fn hubspot_signature(secret: &str, path: &str, body: &[u8]) -> (String, String) {
    let at = time::now().millis().to_string();
    (hubspot_mac(secret, path, body, &at), at)
}

fn hubspot_mac(secret: &str, path: &str, body: &[u8], at: &str) -> String {
    let url = format!("{PUBLIC_URL}{path}");
    mac(secret.as_bytes(), &[b"POST", url.as_bytes(), body, at.as_bytes()])
}

/// A signed HubSpot call.
pub(crate) fn hubspot(body: impl AsRef<[u8]>) -> Vec<u8> {
    hubspot_with(SECRET, body)
}

/// A HubSpot call signed with `secret`.
pub(crate) fn hubspot_with(secret: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    hubspot_to(HUBSPOT, secret, body)
}

/// The same to any path.
pub(crate) fn hubspot_to(path: &str, secret: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    signed_hubspot(path, secret, body.as_ref(), &time::now().millis().to_string())
}

/// A HubSpot call signed with any text as its time.
pub(crate) fn hubspot_at(body: impl AsRef<[u8]>, at: &str) -> Vec<u8> {
    signed_hubspot(HUBSPOT, SECRET, body.as_ref(), at)
}

fn signed_hubspot(path: &str, secret: &str, body: &[u8], at: &str) -> Vec<u8> {
    let signature = hubspot_mac(secret, path, body, at);
    let headers = [
        ("Content-Type", "application/json"),
        ("X-HubSpot-Signature-v3", signature.as_str()),
        ("X-HubSpot-Request-Timestamp", at),
    ];
    post(path, &headers, body)
}

/// The sender of the public-key endpoint.
fn key_pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

/// A call to the public-key endpoint with the signatures `sign` makes of the signed content.
pub(crate) fn native_public(sign: impl Fn(&Ed25519KeyPair, &[u8]) -> String, body: &str) -> Vec<u8> {
    let at = (time::now().millis() / 1_000).to_string();
    let signature = sign(&key_pair(), format!("msg_1.{at}.{body}").as_bytes());
    let headers =
        [("webhook-id", "msg_1"), ("webhook-timestamp", at.as_str()), ("webhook-signature", signature.as_str())];
    post(NATIVE_PUBLIC, &headers, body)
}

/// A signed native call.
pub(crate) fn native(id: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    native_at(id, body, &(time::now().millis() / 1_000).to_string())
}

/// A native call signed with any text as its time.
pub(crate) fn native_at(id: &str, body: impl AsRef<[u8]>, at: &str) -> Vec<u8> {
    let body = body.as_ref();
    let key = STANDARD.decode(NATIVE_SECRET.trim_start_matches("whsec_")).unwrap();
    let signature = format!("v1,{}", mac(&key, &[id.as_bytes(), b".", at.as_bytes(), b".", body]));
    let headers = [
        ("Content-Type", "application/json"),
        ("webhook-id", id),
        ("webhook-timestamp", at),
        ("webhook-signature", signature.as_str()),
    ];
    post(NATIVE, &headers, body)
}

fn mac_hex(key: &[u8], parts: &[&[u8]]) -> String {
    let mac = STANDARD.decode(mac(key, parts)).unwrap();
    mac.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A Dataverse call with the configured header.
pub(crate) fn dynamics(body: impl AsRef<[u8]>) -> Vec<u8> {
    post(DYNAMICS, &[("Content-Type", "application/json; charset=utf-8"), ("X-Headgate-Key", SECRET)], body)
}

/// A Pipedrive call with the configured name and password.
pub(crate) fn pipedrive(body: impl AsRef<[u8]>) -> Vec<u8> {
    let shown = format!("Basic {}", STANDARD.encode(format!("crm-sync:{SECRET}")));
    post(PIPEDRIVE, &[("Content-Type", "application/json"), ("Authorization", &shown)], body)
}

/// A call signed in `X-Hub-Signature-256`.
pub(crate) fn hub_signature(delivery: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let signature = format!("sha256={}", mac_hex(SECRET.as_bytes(), &[body]));
    post(HUB_SIGNATURE, &[("X-Hub-Signature-256", &signature), ("X-GitHub-Delivery", delivery)], body)
}

/// A call signed in `t=…,v1=…`.
pub(crate) fn t_v1(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let at = (time::now().millis() / 1_000).to_string();
    let tag = mac_hex(SECRET.as_bytes(), &[at.as_bytes(), b".", body]);
    post(T_V1, &[("Stripe-Signature", &format!("t={at},v1={tag}"))], body)
}

/// A call with events and the configured token.
pub(crate) fn cloudevents(headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let token = format!("Bearer {SECRET}");
    post(CLOUDEVENTS, &[&[("Authorization", token.as_str())], headers].concat(), body)
}

/// A native call to `path`.
pub(crate) fn native_to(path: &str, id: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    String::from_utf8(native(id, body)).unwrap().replacen(NATIVE, path, 1).into_bytes()
}

/// A HubSpot call with a signature of version 2.
pub(crate) fn hubspot_v2(body: impl AsRef<[u8]>) -> Vec<u8> {
    use sha2::Digest as _;
    let body = body.as_ref();
    let url = format!("{PUBLIC_URL}{HUBSPOT_LEGACY}");
    let hash = Sha256::digest([SECRET.as_bytes(), b"POST", url.as_bytes(), body].concat());
    let tag: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    post(HUBSPOT_LEGACY, &[("X-HubSpot-Signature", &tag), ("X-HubSpot-Signature-Version", "v2")], body)
}

/// An outbound message of the configured organization around `notifications`.
pub(crate) fn salesforce_envelope(notifications: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><notifications xmlns="http://soap.sforce.com/2005/09/outbound" xmlns:sf="urn:sobject.enterprise.soap.sforce.com"><OrganizationId>{ORGANIZATION}</OrganizationId><ActionId>04k5g000000XyZaAAK</ActionId><SessionId xsi:nil="true"/>{notifications}</notifications></soapenv:Body></soapenv:Envelope>"#
    )
}

/// A call with an outbound message.
pub(crate) fn salesforce(notifications: &str) -> Vec<u8> {
    let headers = [("Content-Type", "text/xml; charset=utf-8"), ("SOAPAction", "\"\"")];
    post(SALESFORCE, &headers, salesforce_envelope(notifications))
}

/// One property change of one contact.
pub(crate) fn job_title(event: u64, contact: u64, occurred_ms: u64, value: &str) -> String {
    format!(
        r#"{{"eventId":{event},"subscriptionId":41,"portalId":5550123,"appId":70077,"occurredAt":{occurred_ms},"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":{contact},"propertyName":"jobtitle","propertyValue":"{value}","changeSource":"CRM_UI","sourceId":"userId:31"}}"#
    )
}
