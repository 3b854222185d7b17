//! Who may take how much: strangers that fail, addresses with many connections, accounts that send too fast, and
//! HTTP/2 clients that play with their streams.

use std::time::Duration;

use bytes::Bytes;
use headgate_gateway::config::{Credential, EndpointConfig, Limits, Owners, ProviderName};
use headgate_schemas::System;
use hyper::Request;
use tokio::net::TcpStream;

use super::harness::{
    Bench, HUBSPOT, NATIVE, SECRET, configuration, endpoints, hubspot, hubspot_signature, job_title, limits, native,
    owner, post, within,
};

const REFUSED: &str = r#"gw_rejected_total{source="hubspot",reason="too_many_failures"}"#;

/// A gateway that counts everybody on loopback as a stranger.
async fn among_strangers(limits: Limits) -> Bench {
    let mut config = configuration(limits, endpoints());
    config.trusted_proxies.clear();
    Bench::configured(config).await
}

fn forwarded(call: &[u8], peer: &str) -> Vec<u8> {
    let call = String::from_utf8(call.to_vec()).unwrap();
    call.replacen("\r\n", &format!("\r\nX-Forwarded-For: {peer}\r\n"), 1).into_bytes()
}

#[tokio::test]
async fn a_stranger_that_keeps_failing_is_refused_unread_at_that_endpoint_only() {
    let bench = among_strangers(Limits { failure_rate: 1, ..limits() }).await;
    let wrong = post(HUBSPOT, &[], "[]");
    // Ten at once are forgiven, and one more for each second this takes.
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) {
        assert!(statuses.len() < 100, "{statuses:?}");
        statuses.push(bench.send(&wrong).await.status);
    }
    assert!(statuses.len() > 11 && statuses[..11].iter().all(|status| *status == 401), "{statuses:?}");
    let told = bench.send(&hubspot("[]")).await;
    assert_eq!((told.status, told.header("retry-after")), (429, Some("5")));
    assert_eq!(bench.metric(REFUSED), 2);
    // The body is not even waited for.
    let head = format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(bench.send(head).await.status, 429);
    assert_eq!(bench.send(post(NATIVE, &[], "{}")).await.status, 401);
}

#[tokio::test]
async fn a_valid_sender_is_never_counted() {
    let bench = among_strangers(Limits { failure_rate: 1, ..limits() }).await;
    for event in 0..50 {
        let body = format!("[{}]", job_title(event, 7001, 1_767_268_798_500, "CTO"));
        assert_eq!(bench.send(hubspot(body)).await.status, 204);
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_whoever_it_names_is_counted() {
    let bench = Bench::with(Limits { failure_rate: 1, ..limits() }).await;
    let wrong = post(HUBSPOT, &[], "[]");
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) {
        assert!(statuses.len() < 100, "{statuses:?}");
        statuses.push(bench.send(forwarded(&wrong, "6.6.6.6, 203.0.113.9")).await.status);
    }
    assert_eq!(bench.send(forwarded(&wrong, "203.0.113.10")).await.status, 401);
    // Nobody is named: the proxy speaks for everybody and nobody is counted.
    for _ in 0..50 {
        assert_eq!(bench.send(&wrong).await.status, 401);
    }
    // The signed URL does not come from the proxy's words.
    let call = String::from_utf8(hubspot("[{}]")).unwrap();
    let told = call.replacen("\r\n", "\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: http\r\n", 1);
    assert_eq!(bench.send(told).await.status, 400);
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let bench = among_strangers(Limits { connections_per_address: 2, ..limits() }).await;
    let (mut first, mut second) = (bench.connect().await, bench.connect().await);
    assert_eq!(first.send(post("/", &[], "")).await.status, 404);
    assert_eq!(second.send(post("/", &[], "")).await.status, 404);
    assert_eq!(bench.connect().await.closed().await, 0);
    assert_eq!(bench.metric(r#"gw_rejected_total{source="none",reason="connections_per_address"}"#), 1);
    drop(first);
    bench.counted("gw_connections ", 1).await;
    assert_eq!(bench.send(post("/", &[], "")).await.status, 404);
}

#[tokio::test]
async fn a_noisy_account_is_slowed_down_and_the_others_are_not() {
    let owners = ["5550123", "42"].map(|account| (account.to_owned(), owner("t", account, account)));
    let key = HUBSPOT.rsplit('/').next().unwrap();
    let secrets = Credential::Secrets(vec![SECRET.into()]);
    let kind = (ProviderName::Hubspot, System::Hubspot);
    let endpoint = EndpointConfig::new("app", key, kind, Owners::ByAccount(owners.into()), secrets);
    let bench = Bench::of(Limits { endpoint_rate: 5, ..limits() }, vec![endpoint]).await;
    let event = |n| job_title(n, 7001, 1_767_268_798_500, "CTO");
    let mut noisy = Vec::new();
    while noisy.last() != Some(&429) {
        assert!(noisy.len() < 1_000);
        noisy.push(bench.send(hubspot(format!("[{}]", event(noisy.len() as u64)))).await.status);
    }
    let quiet = event(9_999).replace("5550123", "42");
    assert_eq!(bench.send(hubspot(format!("[{quiet}]"))).await.status, 204);
    // Together in one request: the quiet one must not suffer.
    let mixed = format!("[{},{}]", event(5_000), quiet.replace("9999", "9998"));
    assert_eq!(bench.send(hubspot(mixed)).await.status, 204);
}

#[tokio::test]
async fn a_body_that_pauses_for_a_second_is_waited_for() {
    let bench = Bench::new().await;
    let whole = hubspot(format!("[{}]", job_title(1, 7001, 1_767_268_798_500, "CTO")));
    let mut client = bench.connect().await;
    let (first, second) = whole.split_at(whole.len() - 50);
    client.write(first).await;
    // A second and more goes by between the two halves; that is the thing under test, not a wait for something.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    client.write(second).await;
    assert_eq!(client.reply().await.status, 204);
}

/// An HTTP/2 connection by hand; its driver runs beside it.
async fn h2(bench: &Bench) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(bench.gateway.local_addr()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    (client, bench.shutdown.spawn("h2", connection))
}

fn request() -> Request<()> {
    Request::post(format!("http://h{HUBSPOT}")).body(()).unwrap()
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_nobody_else_notices() {
    let bench = Bench::with(Limits { h2_resets: 20, ..limits() }).await;
    let (client, driver) = h2(&bench).await;
    let flood = async {
        let mut opened = 0;
        while let Ok(mut ready) = client.clone().ready().await {
            let Ok((_, mut stream)) = ready.send_request(request(), false) else { break };
            // Its head goes out first: a stream that was never opened cannot be reset.
            tokio::task::yield_now().await;
            stream.send_reset(h2::Reason::CANCEL);
            tokio::task::yield_now().await;
            opened += 1;
            assert!(opened < 100_000, "never told to stop");
        }
    };
    within(flood).await;
    let error = within(driver).await.unwrap().unwrap_err();
    // It is told why, unless it was too busy writing to read that.
    assert!(error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) || error.is_io(), "{error}");
    assert_eq!(bench.send(native("m", r#"{"type":"x.touched"}"#)).await.status, 400);
    bench.counted("gw_inflight_requests ", 0).await;
}

#[tokio::test]
async fn an_http_2_client_is_told_its_limits() {
    let bench = Bench::with(Limits { h2_streams: 3, header_bytes: 8 << 10, ..limits() }).await;
    let (client, _driver) = h2(&bench).await;
    let mut ready = within(client.ready()).await.unwrap();
    let body = format!("[{}]", job_title(1, 7001, 1_767_268_798_500, "CTO"));
    let (signature, at) = hubspot_signature(SECRET, HUBSPOT, body.as_bytes());
    let mut call = request();
    call.headers_mut().insert("X-HubSpot-Signature-v3", signature.parse().unwrap());
    call.headers_mut().insert("X-HubSpot-Request-Timestamp", at.parse().unwrap());
    let (answer, mut stream) = ready.send_request(call, false).unwrap();
    stream.send_data(Bytes::from(body), true).unwrap();
    assert_eq!(within(answer).await.unwrap().status(), 204);
    assert_eq!(ready.current_max_send_streams(), 3);
    let mut large = request();
    large.headers_mut().insert("x-large", "x".repeat(9 << 10).parse().unwrap());
    let (answer, _) = within(ready.ready()).await.unwrap().send_request(large, true).unwrap();
    assert_eq!(within(answer).await.unwrap().status(), 431);
}
