//! Check 8: senders that take their time. The limits are short here; no verdict depends on how long anything took.

use std::time::Duration;

use headgate_gateway::config::Limits;

use super::super::harness::{Bench, HUBSPOT, hubspot, limits, post};
use super::{BODY, senders};

async fn impatient() -> Bench {
    let short = Duration::from_millis(100);
    Bench::with(Limits { header_timeout: short, body_timeout: short, ..limits() }).await
}

#[tokio::test]
async fn check_08_a_client_that_never_finishes_its_header_is_cut() {
    let bench = impatient().await;
    // Nothing; one byte, which may still become either version; half a header; half an HTTP/2 preface.
    for said in ["", "P", "POST /in/hubspot/x HTTP/1.1\r\nHost: h\r\nX-Slow: ", "PRI * HTTP/2.0\r\n"] {
        let mut client = bench.connect().await;
        client.write(said).await;
        client.closed().await;
    }
    bench.counted("gw_connections ", 0).await;
}

#[tokio::test]
async fn check_08_an_idle_connection_is_cut() {
    let bench = impatient().await;
    let mut client = bench.connect().await;
    assert_eq!(client.send(post("/", &[], "")).await.status, 404);
    assert_eq!(client.closed().await, 0);
}

#[tokio::test]
async fn check_08_a_body_that_stalls_is_answered_408() {
    let bench = impatient().await;
    for sender in senders() {
        let whole = sender.call();
        let mut client = bench.connect().await;
        client.write(&whole[..whole.len() - 1]).await;
        assert_eq!(client.reply().await.status, 408, "{}", sender.name);
        client.closed().await;
        let counted = format!(r#"gw_rejected_total{{source="{}",reason="slow_body"}}"#, sender.name);
        assert_eq!(bench.metric(&counted), 1);
    }
    assert_eq!(bench.sink.appends(), 0);
}

#[tokio::test]
async fn check_08_a_body_that_breaks_off_has_no_effect() {
    let bench = Bench::new().await;
    let whole = hubspot("[]");
    let mut client = bench.connect().await;
    client.write(&whole[..whole.len() - 1]).await;
    drop(client);
    bench.counted(r#"gw_rejected_total{source="hubspot",reason="broken_body"}"#, 1).await;
    let mut chunked = bench.connect().await;
    chunked.write(format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")).await;
    assert_eq!(chunked.reply().await.status, 400);
}

#[tokio::test]
async fn check_08_a_thousand_slow_senders_keep_nobody_else_waiting() {
    // Nothing is cut here for being slow, so that it is not the machine that decides.
    let patient = Duration::from_secs(3_600);
    let bench = Bench::with(Limits { body_timeout: patient, body_min_rate: 0, ..limits() }).await;
    let whole = hubspot(BODY);
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        let mut client = bench.connect().await;
        client.write(&whole[..whole.len() - 1]).await;
        slow.push(client);
    }
    assert_eq!(bench.send(hubspot(BODY)).await.status, 204);
    assert!(slow.iter().all(|client| client.stream.try_read(&mut [0; 1]).is_err()), "they are still being listened to");
}
