//! The end: nothing new, everything open is answered, then every task has ended. And both versions of HTTP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headgate_gateway::config::GatewayConfig;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::memory::Memory;
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use prometheus_client::registry::Registry;
use tokio::net::TcpStream;

use super::harness::{Bench, HUBSPOT, Mode, PUBLIC_URL, SECRET, hubspot, hubspot_signature, job_title, post};

#[tokio::test]
async fn open_requests_are_answered_and_nothing_new_is_taken() {
    let bench = Bench::new().await;
    assert!(bench.gateway.ready() && !bench.gateway.is_draining());
    assert_eq!(bench.gateway.public_url(), PUBLIC_URL);
    bench.sink.set(Mode::Hold);
    let (mut idle, mut open) = (bench.connect().await, bench.connect().await);
    assert_eq!(idle.send(post("/", &[], "")).await.status, 404);
    open.write(hubspot(format!("[{}]", job_title(1, 7001, 1_767_268_798_500, "CTO")))).await;
    bench.sink.appended(1).await;

    bench.shutdown.stop();
    assert!(!bench.gateway.ready() && bench.gateway.is_draining());
    // The idle connection is ended, and so is the listener.
    assert_eq!(idle.closed().await, 0);
    super::harness::within(async {
        while TcpStream::connect(bench.gateway.local_addr()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    bench.sink.answer(true);
    let reply = open.reply().await;
    assert_eq!(reply.status, 204);
    assert_eq!(open.closed().await, 0);
    assert_eq!(bench.shutdown.drain().await, Ok(()));
}

#[tokio::test]
async fn http_2_is_spoken_without_negotiation() {
    let bench = Bench::new().await;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for event in 1..=3 {
        let body = format!("[{}]", job_title(event, 7001, 1_767_268_798_500 + event, "CTO"));
        let (signature, at) = hubspot_signature(SECRET, HUBSPOT, body.as_bytes());
        let request = Request::post(format!("http://{}{HUBSPOT}", bench.gateway.local_addr()))
            .header("X-HubSpot-Signature-v3", signature)
            .header("X-HubSpot-Request-Timestamp", at)
            .body(Full::from(body))
            .unwrap();
        assert_eq!(client.request(request).await.unwrap().status(), 204);
    }
    assert_eq!(bench.sink.records().len(), 3);
    assert_eq!(bench.metric("gw_connections "), 1);
    drop(client);
    assert_eq!(bench.shutdown.drain().await, Ok(()));
}

#[tokio::test]
async fn without_a_public_url_the_real_address_is_signed() {
    let (shutdown, limits) = (Shutdown::new(Duration::from_secs(20)), super::harness::limits());
    let config = GatewayConfig { limits, ..GatewayConfig::new(([127, 0, 0, 1], 0).into(), Vec::new()) };
    let sink = Arc::new(Memory::new(1));
    let gateway = headgate_gateway::start(config, sink, &mut Registry::default(), &shutdown).await.unwrap();
    assert_eq!(gateway.public_url(), format!("http://{}", gateway.local_addr()));
    assert_eq!(shutdown.drain().await, Ok(()));
}
