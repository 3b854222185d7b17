//! More than there is room for: who gets a place, what the others are told, and that nothing accepted is lost.
//!
//! The stream stalls when the test says so, and a stalled call holds its place; so it is the test that fills the gateway,
//! not its speed.

use headgate_gateway::config::{Credential, EndpointConfig, Limits, Owners, ProviderName};
use headgate_schemas::System;

use super::checks::{BODY, senders};
use super::harness::{
    Bench, Client, DYNAMICS, HUBSPOT, Mode, PIPEDRIVE, Reply, SECRET, configuration, endpoints, hubspot, job_title,
    limits, owner, post,
};

const BUSY: &str = r#"gw_rejected_total{source="hubspot",reason="busy"}"#;
const OVER_SHARE: &str = r#"gw_rejected_total{source="hubspot",reason="over_share"}"#;

/// A head whose body never comes: whoever answers it did not wait for the body.
fn head_only() -> String {
    format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n")
}

/// All doors, HubSpot's for twenty accounts of twenty tenants.
fn doors() -> Vec<EndpointConfig> {
    let owners =
        (1..=20).map(|n: u64| (n.to_string(), owner(&format!("tenant-{n}"), &format!("hub-{n}"), &n.to_string())));
    let key = HUBSPOT.rsplit('/').next().unwrap();
    let secrets = Credential::Secrets(vec![SECRET.into()]);
    let kind = (ProviderName::Hubspot, System::Hubspot);
    let mut all = endpoints();
    all[0] = EndpointConfig::new("app", key, kind, Owners::ByAccount(owners.collect()), secrets);
    all
}

fn call(account: u64, event: u64) -> Vec<u8> {
    let event = job_title(event, event, 1_767_268_798_500, "CTO").replace("5550123", &account.to_string());
    hubspot(format!("[{event}]"))
}

/// A gateway with sixteen places and a stream that does not answer.
struct Stalled {
    bench: Bench,
    /// Who waits for the stream.
    waiting: Vec<Client>,
}

impl Stalled {
    async fn new(limits: Limits) -> Self {
        let bench = Bench::of(Limits { requests: 16, ..limits }, doors()).await;
        bench.sink.set(Mode::Hold);
        Self { bench, waiting: Vec::new() }
    }

    /// Sends a call that gets a place, and waits until it has one.
    async fn placed(&mut self, call: Vec<u8>) {
        let mut client = self.bench.connect().await;
        client.write(call).await;
        self.waiting.push(client);
        self.bench.sink.appended(self.waiting.len()).await;
    }

    /// The stream answers; what was placed is accepted.
    async fn release(&mut self) -> Vec<u16> {
        self.bench.sink.set(Mode::Acknowledge);
        self.bench.sink.answer(true);
        let mut statuses = Vec::new();
        for mut client in self.waiting.drain(..) {
            statuses.push(client.reply().await.status);
        }
        statuses
    }
}

fn told(reply: &Reply) -> (u16, Option<&str>) {
    (reply.status, reply.header("retry-after"))
}

#[tokio::test]
async fn when_every_place_is_taken_one_more_is_refused_unread_and_nothing_accepted_is_lost() {
    let mut stalled = Stalled::new(limits()).await;
    for account in 1..=14 {
        stalled.placed(call(account, account)).await;
    }
    for _ in 0..5 {
        assert_eq!(told(&stalled.bench.send(head_only()).await), (503, Some("5")));
    }
    assert_eq!((stalled.bench.metric(BUSY), stalled.bench.sink.appends()), (5, 14));
    assert_eq!(stalled.release().await, [204; 14]);
    for account in 15..=19 {
        assert_eq!(stalled.bench.send(call(account, account)).await.status, 204);
    }
    let keys: Vec<_> = stalled.bench.sink.records().into_iter().map(|record| record.key).collect();
    let expected: Vec<_> = (1..=19).map(|n| format!("tenant-{n}/hubspot/{n}/contact/{n}")).collect();
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn the_last_places_are_for_those_who_hardly_try_again() {
    let mut stalled = Stalled::new(limits()).await;
    for account in 1..=14 {
        stalled.placed(call(account, account)).await;
    }
    assert_eq!(told(&stalled.bench.send(head_only()).await), (503, Some("5")));
    let hardly_retry = senders().into_iter().filter(|sender| ["dynamics", "pipedrive"].contains(&sender.name));
    for sender in hardly_retry {
        stalled.placed(sender.call()).await;
    }
    for path in [DYNAMICS, PIPEDRIVE] {
        assert_eq!(told(&stalled.bench.send(post(path, &[], "{}")).await), (503, Some("5")), "{path}");
    }
    assert_eq!(stalled.release().await, [vec![204; 14], vec![200; 2]].concat());
    assert_eq!(stalled.bench.sink.records().len(), 16);
}

#[tokio::test]
async fn an_account_that_floods_leaves_as_many_places_as_it_takes() {
    let mut stalled = Stalled::new(limits()).await;
    for event in 1..=7 {
        stalled.placed(call(1, event)).await;
    }
    for event in 8..=10 {
        assert_eq!(told(&stalled.bench.send(call(1, event)).await), (503, Some("5")));
    }
    assert_eq!(stalled.bench.metric(OVER_SHARE), 3);
    // Together in one request with an account that has room: that one must not suffer.
    let event = |account: u64, n| job_title(n, n, 1_767_268_798_500, "CTO").replace("5550123", &account.to_string());
    stalled.placed(hubspot(format!("[{},{}]", event(1, 11), event(2, 12)))).await;
    for account in 3..=6 {
        stalled.placed(call(account, 20 + account)).await;
    }
    assert_eq!(stalled.release().await, [204; 12]);
    assert_eq!(stalled.bench.send(call(1, 8)).await.status, 204);
    assert_eq!(stalled.bench.sink.records().len(), 14);
}

#[tokio::test]
async fn a_peer_that_never_finishes_its_calls_leaves_as_many_places_as_it_takes() {
    let bench = Bench::configured(configuration(Limits { requests: 16, ..limits() }, endpoints())).await;
    let from = |peer: &str| head_only().replacen("\r\n", &format!("\r\nX-Forwarded-For: {peer}\r\n"), 1);
    let mut open = Vec::new();
    for n in 1..=7 {
        let mut client = bench.connect().await;
        client.write(from("203.0.113.9")).await;
        open.push(client);
        bench.counted("gw_inflight_requests ", n).await;
    }
    assert_eq!(told(&bench.send(from("203.0.113.9")).await), (503, Some("5")));
    let valid = String::from_utf8(hubspot(BODY)).unwrap();
    let other = valid.replacen("\r\n", "\r\nX-Forwarded-For: 203.0.113.10\r\n", 1);
    assert_eq!(bench.send(other).await.status, 204);
    drop(open);
    bench.counted("gw_inflight_requests ", 0).await;
    assert_eq!(bench.send(from("203.0.113.9").replace("Length: 9", "Length: 0")).await.status, 401);
}

#[tokio::test]
async fn a_refusal_is_held_back_without_a_place_and_so_many_at_most() {
    // Longer than any test lasts: what is held back is answered by the stop alone.
    let refusal_delay = std::time::Duration::from_secs(3_600);
    let mut stalled = Stalled::new(Limits { refusal_delay, held_refusals: 1, ..limits() }).await;
    for account in 1..=14 {
        stalled.placed(call(account, account)).await;
    }
    let mut held = stalled.bench.connect().await;
    held.write(head_only()).await;
    stalled.bench.counted("gw_inflight_requests ", 15).await;
    // There is room for one: the next refusal comes at once.
    assert_eq!(told(&stalled.bench.send(head_only()).await), (503, Some("5")));
    assert_eq!(stalled.release().await, [204; 14]);
    assert_eq!(stalled.bench.metric("gw_inflight_requests "), 1);
    assert_eq!(stalled.bench.send(call(15, 15)).await.status, 204);
    let (ended, reply) = tokio::join!(stalled.bench.shutdown.drain(), held.reply());
    assert_eq!((ended, told(&reply)), (Ok(()), (503, Some("5"))));
}

#[tokio::test]
async fn a_connection_goes_on_after_a_refusal_although_its_body_was_not_read() {
    let refusal_delay = std::time::Duration::from_millis(500);
    let mut stalled = Stalled::new(Limits { refusal_delay, ..limits() }).await;
    for account in 1..=14 {
        stalled.placed(call(account, account)).await;
    }
    let mut client = stalled.bench.connect().await;
    let events: Vec<_> = (0..100).map(|n| job_title(n, n, 1_767_268_798_500, "CTO")).collect();
    assert_eq!(told(&client.send(hubspot(format!("[{}]", events.join(",")))).await), (503, Some("5")));
    stalled.release().await;
    assert_eq!(client.send(call(15, 15)).await.status, 204);
}
