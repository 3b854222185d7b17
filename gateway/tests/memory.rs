//! What hostile traffic costs in memory: the gateway in a process of its own test, floods from all sides, and the largest
//! resident size the system ever saw. One test only, because the size is that of the process.

#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "the measure is worth reading")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends by panicking")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_gateway::config::{Credential, EndpointConfig, GatewayConfig, Limits, Owner, Owners, ProviderName};
use headgate_schemas::System;
use headgate_schemas::contract::Record;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Append, Sink, Topic};
use headgate_schemas::time;
use hmac::{Hmac, KeyInit as _, Mac as _};
use prometheus_client::registry::Registry;
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Body bytes that may be held at once.
const INFLIGHT: usize = 16 << 20;
/// What connections, buffers of the HTTP library, parsers and the allocator may need beside them.
const SLACK: usize = 112 << 20;
const SECRET: &str = "secret-of-this-test";
const PUBLIC_URL: &str = "https://hooks.example.com";
/// Senders at once.
const SENDERS: usize = 24;

/// Takes everything and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn append(&self, _: Vec<Record>) -> Append {
        Box::pin(async { Ok(()) })
    }

    fn topic(&self) -> Topic {
        Topic { id: "nowhere".to_owned(), partitions: 1 }
    }
}

/// The largest resident size so far.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

fn organization() -> String {
    "00D5g000000ABCDEA4".to_owned()
}

/// Sends one call and answers its status; 0 when the gateway ended the connection first.
async fn send(at: std::net::SocketAddr, head: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut status = [0; 12];
    // All senders send one and the same body, so that what grows is the gateway.
    let request = async {
        write.write_all(format!("POST {head}\r\nHost: h\r\n\r\n").as_bytes()).await?;
        write.write_all(body).await
    };
    // The answer may come before all of it was taken.
    let (_, answered) = tokio::join!(request, read.read_exact(&mut status));
    if answered.is_err() {
        return 0;
    }
    std::str::from_utf8(&status[9..]).unwrap().parse().unwrap()
}

fn floods() -> Vec<(String, Vec<u8>)> {
    const PATH: &str = "/in/salesforce/k HTTP/1.1";
    let whole = |body: Vec<u8>| (format!("{PATH}\r\nContent-Length: {}", body.len()), body);
    let envelope = |inner: &str| {
        format!(
            "<E:Envelope xmlns:E='http://schemas.xmlsoap.org/soap/envelope/'><E:Body><notifications xmlns='http://soap.sforce.com/2005/09/outbound'><OrganizationId>{}</OrganizationId>{inner}</notifications></E:Body></E:Envelope>",
            organization()
        )
    };
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    vec![
        whole(vec![b'x'; 20 << 20]),
        whole(vec![b'['; 1 << 20]),
        whole(envelope(&"<y/>".repeat(1 << 20)).into_bytes()),
        whole(envelope(&"<y>".repeat(1 << 20)).into_bytes()),
        whole(
            envelope(&format!("<y {}/>", (0..200_000).map(|n| format!("a{n}='' ")).collect::<String>())).into_bytes(),
        ),
        whole(envelope(&format!("<y>{}</y>", "&amp;".repeat(1 << 19))).into_bytes()),
        whole(envelope(&"<Notification><Id>04l5g0000000001</Id></Notification>".repeat(60_000)).into_bytes()),
        signed(format!("[{}{{}}]", "{},".repeat(1_500_000))),
        (format!("{PATH}\r\nTransfer-Encoding: chunked"), chunk.repeat(400).into_bytes()),
        (format!("{PATH}\r\n{}Content-Length: 0", "X-A: b\r\n".repeat(20_000)), Vec::new()),
    ]
}

/// A HubSpot call whose signature is right.
fn signed(body: String) -> (String, Vec<u8>) {
    let at = time::now().millis().to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    for part in ["POST", PUBLIC_URL, "/in/hubspot/k", &body, &at] {
        mac.update(part.as_bytes());
    }
    let tag = STANDARD.encode(mac.finalize().into_bytes());
    let head = format!(
        "/in/hubspot/k HTTP/1.1\r\nX-HubSpot-Signature-v3: {tag}\r\nX-HubSpot-Request-Timestamp: {at}\r\nContent-Length: {}",
        body.len()
    );
    (head, body.into_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_traffic_stays_within_the_configured_memory() {
    let owner = Owner { account: organization(), ..Owner::default() };
    let kind = (ProviderName::Salesforce, System::Salesforce);
    let endpoint = EndpointConfig::new("e", "k", kind, Owners::One(owner.clone()), Credential::None);
    let kind = (ProviderName::Hubspot, System::Hubspot);
    let hubspot = EndpointConfig::new("h", "k", kind, Owners::One(owner), Credential::Secrets(vec![SECRET.into()]));
    let limits = Limits { inflight_bytes: INFLIGHT, ..Limits::default() };
    let public_url = Some(PUBLIC_URL.to_owned());
    let at = ([127, 0, 0, 1], 0).into();
    let config = GatewayConfig { limits, public_url, ..GatewayConfig::new(at, vec![endpoint, hubspot]) };
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let gateway =
        headgate_gateway::start(config, Arc::new(Nowhere), &mut Registry::default(), &shutdown).await.unwrap();
    let at = gateway.local_addr();
    let floods: Arc<Vec<_>> = Arc::new(floods());
    let before = peak();
    for which in 0..floods.len() {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..SENDERS {
            let floods = Arc::clone(&floods);
            all.spawn(async move { send(at, &floods[which].0, &floods[which].1).await });
        }
        while let Some(status) = all.join_next().await {
            let status = status.unwrap();
            assert!(status == 0 || (400..500).contains(&status) || status == 503, "{status} for flood {which}");
        }
    }
    let grown = peak().saturating_sub(before);
    println!("grew by {} MiB", grown >> 20);
    assert!(grown < INFLIGHT + SLACK, "{} MiB", grown >> 20);
}
