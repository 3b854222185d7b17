//! Durable before 2xx, and one fate for one change however often it is sent.

use std::time::Duration;

use headgate_gateway::config::Limits;

use super::harness::{Bench, Mode, hubspot, job_title, limits, native, post};

const NEW: &str = r#"gw_dedup_total{source="hubspot",result="new"}"#;
const IN_FLIGHT: &str = r#"gw_dedup_total{source="hubspot",result="in_flight"}"#;
const KNOWN: &str = r#"gw_dedup_total{source="hubspot",result="known"}"#;

fn one() -> String {
    format!("[{}]", job_title(1, 7001, 1_767_268_798_500, "CTO"))
}

/// Whether anything can be read from the client's socket after a full round trip on another connection.
async fn answered(bench: &Bench, client: &super::harness::Client) -> bool {
    assert_eq!(bench.send(post("/", &[], "")).await.status, 404);
    client.stream.try_read(&mut [0; 1]).is_ok()
}

#[tokio::test]
async fn no_2xx_before_the_stream_acknowledged() {
    let bench = Bench::new().await;
    bench.sink.set(Mode::Hold);
    let mut client = bench.connect().await;
    client.write(hubspot(one())).await;
    bench.sink.appended(1).await;
    assert!(!answered(&bench, &client).await);
    bench.sink.answer(true);
    assert_eq!(client.reply().await.status, 204);
}

#[tokio::test]
async fn a_refusal_is_503_and_the_retry_is_accepted() {
    let bench = Bench::new().await;
    bench.sink.set(Mode::Refuse);
    let reply = bench.send(hubspot(one())).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    bench.sink.set(Mode::Acknowledge);
    assert_eq!(bench.send(hubspot(one())).await.status, 204);
    assert_eq!(bench.sink.records().len(), 1);
    assert_eq!((bench.metric(NEW), bench.metric(KNOWN)), (2, 0));
    assert_eq!(bench.metric(r#"stream_produce_errors_total{reason="unavailable"}"#), 1);
}

#[tokio::test]
async fn a_repeat_of_a_published_change_is_answered_at_once() {
    let bench = Bench::new().await;
    assert_eq!(bench.send(hubspot(one())).await.status, 204);
    bench.sink.set(Mode::Refuse);
    // A new attempt has another number, subscription, time and signature; the change is the same.
    let again = one().replace("\"attemptNumber\":0", "\"attemptNumber\":3").replace("41", "42");
    assert_eq!(bench.send(hubspot(again)).await.status, 204);
    assert_eq!((bench.sink.appends(), bench.metric(KNOWN)), (1, 1));
}

#[tokio::test]
async fn a_repeat_in_flight_shares_the_fate() {
    for (ok, expected) in [(true, 204), (false, 503)] {
        let bench = Bench::new().await;
        bench.sink.set(Mode::Hold);
        let (mut first, mut second) = (bench.connect().await, bench.connect().await);
        first.write(hubspot(one())).await;
        bench.sink.appended(1).await;
        second.write(hubspot(one())).await;
        bench.counted(IN_FLIGHT, 1).await;
        assert!(!answered(&bench, &second).await);
        bench.sink.answer(ok);
        assert_eq!((first.reply().await.status, second.reply().await.status), (expected, expected));
        assert_eq!(bench.sink.appends(), 1);
        bench.sink.set(Mode::Acknowledge);
        assert_eq!(bench.send(hubspot(one())).await.status, 204);
        assert_eq!(bench.sink.appends(), if ok { 1 } else { 2 });
    }
}

#[tokio::test]
async fn a_request_waits_for_every_one_of_its_changes() {
    let bench = Bench::new().await;
    bench.sink.set(Mode::Hold);
    let both = format!("[{},{}]", job_title(1, 7001, 1_767_268_798_500, "CTO"), job_title(2, 7002, 1, "CFO"));
    let (mut first, mut second) = (bench.connect().await, bench.connect().await);
    first.write(hubspot(one())).await;
    bench.sink.appended(1).await;
    // The second request publishes one change itself and waits for the first request with the other.
    bench.sink.set(Mode::Acknowledge);
    second.write(hubspot(both)).await;
    bench.sink.appended(2).await;
    assert!(!answered(&bench, &second).await);
    bench.sink.answer(false);
    assert_eq!((first.reply().await.status, second.reply().await.status), (503, 503));
}

#[tokio::test]
async fn a_change_twice_in_one_request_counts_once() {
    let bench = Bench::new().await;
    let event = job_title(1, 7001, 1_767_268_798_500, "CTO");
    assert_eq!(bench.send(hubspot(format!("[{event},{event}]"))).await.status, 204);
    assert_eq!(bench.sink.records().len(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_loses_nothing() {
    let bench = Bench::new().await;
    bench.sink.set(Mode::Hold);
    let mut client = bench.connect().await;
    client.write(hubspot(one())).await;
    bench.sink.appended(1).await;
    drop(client);
    bench.counted("gw_connections ", 0).await;
    bench.sink.answer(true);
    // In flight or known, the repeat is no second append.
    assert_eq!(bench.send(hubspot(one())).await.status, 204);
    assert_eq!(bench.sink.appends(), 1);
}

#[tokio::test]
async fn a_missed_deadline_is_503_and_the_late_acknowledgement_counts() {
    let bench = Bench::with(Limits { append_deadline: Duration::from_millis(50), ..limits() }).await;
    bench.sink.set(Mode::Hold);
    let reply = bench.send(hubspot(one())).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    bench.sink.answer(true);
    bench.counted("stream_produce_duration_seconds_count ", 1).await;
    assert_eq!(bench.send(hubspot(one())).await.status, 204);
    assert_eq!(bench.sink.appends(), 1);
}

#[tokio::test]
async fn a_native_retry_has_the_same_id_and_another_time() {
    let bench = Bench::new().await;
    let body = r#"{"type":"contact.updated","timestamp":"2026-01-01T11:59:57.120Z","data":{"id":"c_19","name":"R"}}"#;
    for id in ["msg_1", "msg_1", "msg_2"] {
        assert_eq!(bench.send(native(id, body)).await.status, 204);
    }
    assert_eq!(bench.sink.records().len(), 2);
}

#[tokio::test]
async fn the_metrics_have_their_names() {
    let bench = Bench::new().await;
    assert_eq!(bench.send(hubspot(one())).await.status, 204);
    assert_eq!(bench.send(post("/", &[], "")).await.status, 404);
    bench.sink.set(Mode::Refuse);
    assert_eq!(
        bench
            .send(native("m", r#"{"type":"deal.touched","timestamp":"2026-01-01T00:00:00Z","data":{"id":1}}"#))
            .await
            .status,
        503
    );
    let text = bench.metrics();
    for line in [
        r#"gw_requests_total{source="hubspot",outcome="accepted"} 1"#,
        r#"gw_events_total{source="hubspot",object="contact"} 1"#,
        r#"gw_dedup_total{source="hubspot",result="new"} 1"#,
        r#"gw_verify_duration_seconds_count{scheme="hubspot-v3"} 1"#,
        r#"gw_requests_total{source="none",outcome="refused"} 1"#,
        r#"gw_requests_total{source="native",outcome="unavailable"} 1"#,
        r#"gw_rejected_total{source="none",reason="not_found"} 1"#,
        r#"gw_rejected_total{source="native",reason="not_stored"} 1"#,
        r#"stream_produce_errors_total{reason="unavailable"} 1"#,
        "gw_request_duration_seconds_count 3",
        "gw_inflight_requests 0",
        "gw_order_held_events 0",
        "gw_order_late_total 0",
        "gw_order_wait_seconds_count 0",
        "stream_produce_duration_seconds_count 1",
        "# TYPE gw_connections gauge",
        "# TYPE gw_dedup_keys gauge",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    assert!(!text.contains("CTO") && !text.contains("7001"));
}
