//! Order through the front door: one request is sorted, a straggler finds its place or is marked late.

use std::time::Duration;

use headgate_gateway::config::Limits;

use super::harness::{Bench, hubspot, job_title, limits};

fn order(bench: &Bench) -> Vec<(String, bool)> {
    let place = |r: &headgate_schemas::contract::Record| {
        (r.header("ce_sequence").unwrap()[17..].to_owned(), r.header("ce_late") == Some("true"))
    };
    bench.sink.records().iter().map(place).collect()
}

fn at(event: u64, ms: u64) -> String {
    job_title(event, 7001, 1_767_268_798_000 + ms, "x")
}

#[tokio::test]
async fn one_request_is_sorted_and_an_older_change_is_late() {
    let bench = Bench::new().await;
    assert_eq!(bench.send(hubspot(format!("[{},{},{}]", at(1, 300), at(2, 100), at(3, 200)))).await.status, 204);
    assert_eq!(bench.send(hubspot(format!("[{}]", at(4, 150)))).await.status, 204);
    let on_time = |ms: &str| (ms.to_owned(), false);
    assert_eq!(order(&bench), [on_time("100"), on_time("200"), on_time("300"), ("150".to_owned(), true)]);
    assert_eq!(bench.metric("gw_order_late_total "), 1);
}

#[tokio::test]
async fn stragglers_of_a_busy_record_find_their_place() {
    // The window is far longer than the test: only the drain ends it.
    let bench = Bench::with(Limits { order_window: Duration::from_secs(3_600), ..limits() }).await;
    assert_eq!(bench.send(hubspot(format!("[{}]", at(1, 100)))).await.status, 204);
    let mut clients = Vec::new();
    for (event, ms) in [(2, 400), (3, 200), (4, 300)] {
        let mut client = bench.connect().await;
        client.write(hubspot(format!("[{}]", at(event, ms)))).await;
        bench.counted("gw_order_held_events ", event - 1).await;
        clients.push(client);
    }
    assert_eq!(bench.sink.records().len(), 1);
    // Another record does not wait.
    assert_eq!(bench.send(hubspot(format!("[{}]", job_title(9, 7002, 1_767_268_798_900, "x")))).await.status, 204);
    assert_eq!(bench.shutdown.drain().await, Ok(()));
    for mut client in clients {
        assert_eq!(client.reply().await.status, 204);
    }
    let on_time = |ms: &str| (ms.to_owned(), false);
    assert_eq!(order(&bench), [on_time("100"), on_time("900"), on_time("200"), on_time("300"), on_time("400")]);
}

#[tokio::test]
async fn a_held_change_is_released_when_its_window_ends() {
    let bench = Bench::with(Limits { order_window: Duration::from_millis(30), ..limits() }).await;
    let mut client = bench.connect().await;
    for event in 1..=5 {
        assert_eq!(client.send(hubspot(format!("[{}]", at(event, event * 100)))).await.status, 204);
    }
    let released: Vec<_> = order(&bench).into_iter().map(|(ms, _)| ms).collect();
    assert_eq!(released, ["100", "200", "300", "400", "500"]);
}
