//! The load and the checker against small stand-ins for the product: an honest one, and ones with a known fault.

#![allow(clippy::expect_used, reason = "a test that cannot go on stops here")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use headgate_bench::check::{PAIRINGS, Pairing, Verdict};
use headgate_bench::demo::{MeasureOptions, Progress, measure};
use headgate_bench::load::{Endpoint, LoadOptions};
use headgate_bench::sim::hooks::RetryPlan;
use headgate_bench::sim::hubspot::{Hubspot, HubspotOptions, WebhookEvent};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceOptions};
use serde_json::{Map, Value, json};
use support::{Caller, receiver, shutdown};
use tokio::sync::watch;

/// How the stand-in behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Reads the record for every event and writes what differs.
    Honest,
    /// Writes the value of each event as it comes, repeats and latecomers included.
    Blind,
    /// Honest, but forgets every tenth record.
    Forgetful,
}

struct StandIn {
    way: Way,
    hubspot: Hubspot,
    caller: Caller,
    written: HashMap<u64, HashMap<String, String>>,
}

impl StandIn {
    async fn take(&mut self, event: &WebhookEvent) {
        let object = event.subscription_type.split('.').next().unwrap_or_default();
        let (pairing, id) = match object {
            "contact" => (&PAIRINGS[0], event.object_id),
            "company" => (&PAIRINGS[1], event.object_id),
            _ => (&PAIRINGS[2], event.object_id),
        };
        let id = id.expect("an event of a record names it");
        if self.way == Way::Forgetful && id % 10 == 0 {
            return;
        }
        let mut values = self.hubspot.record(pairing.source, id).expect("records are not deleted here");
        if let (Way::Blind, Some(name), Some(value)) = (self.way, &event.property_name, &event.property_value) {
            values.insert(name.clone(), value.clone());
        }
        let written = self.written.entry(id).or_default();
        let first = written.is_empty();
        let mut body = Map::new();
        for (property, field) in pairing.fields {
            let value = &values[*property];
            let named = event.property_name.as_deref() == Some(property);
            let due = if self.way == Way::Blind && !first { named } else { written.get(*property) != Some(value) };
            if due {
                body.insert((*field).to_owned(), typed(field, value));
                written.insert((*property).to_owned(), value.clone());
            }
        }
        if body.is_empty() {
            return;
        }
        if first {
            require(pairing, &mut body);
        }
        let path = format!("/services/data/v62.0/sobjects/{}/Relay_Id__c/{id}", pairing.target);
        let reply = self.caller.call("PATCH", &path, Value::Object(body)).await;
        assert!(reply.status < 300, "{}", reply.body);
    }
}

fn typed(field: &str, value: &str) -> Value {
    match field {
        "Amount" | "NumberOfEmployees" => value.parse::<u64>().expect("a number").into(),
        _ => value.into(),
    }
}

fn require(pairing: &Pairing, body: &mut Map<String, Value>) {
    if pairing.target == "Opportunity" {
        body.insert("StageName".into(), "Qualification".into());
        body.insert("CloseDate".into(), "2027-01-31".into());
    }
}

async fn run(way: Way, changes: u64) -> Verdict {
    let stop = shutdown();
    let hubspot = Hubspot::start(HubspotOptions::default(), &stop).await.expect("loopback");
    let salesforce = Salesforce::start(SalesforceOptions::default(), &stop).await.expect("loopback");
    let (url, mut got) = receiver(&stop).await;
    let mut stand_in =
        StandIn { way, hubspot: hubspot.clone(), caller: Caller::new(&salesforce.base_url()), written: HashMap::new() };
    let stopping = stop.clone();
    let _task = stop.spawn("stand-in", async move {
        let mut refused = 0;
        loop {
            let post = tokio::select! {
                () = stopping.stopped() => return,
                post = got.recv() => post.expect("the receiver runs"),
            };
            // The first posts are refused, so that retries are part of every run.
            if refused < 3 {
                refused += 1;
                post.answer(503, "");
                continue;
            }
            let events: Vec<WebhookEvent> = serde_json::from_slice(&post.body).expect("events");
            post.answer(200, "");
            for event in &events {
                stand_in.take(event).await;
            }
        }
    });
    let endpoint = Endpoint {
        url,
        secret: "s".into(),
        retry: RetryPlan { first: Duration::from_millis(10), ..RetryPlan::default() },
        answers: Default::default(),
    };
    let options = MeasureOptions {
        load: LoadOptions { changes, rate: 400.0, seed: 11, ..LoadOptions::default() },
        settle: Duration::from_secs(if way == Way::Forgetful { 1 } else { 60 }),
        quiet: Duration::from_millis(300),
        budget: Duration::from_secs(60),
        ..MeasureOptions::default()
    };
    let (progress, seen) = watch::channel(Progress::default());
    let verdict = measure(&hubspot, &salesforce, endpoint, options, &progress, &stop).await.expect("a verdict");
    assert_eq!(seen.borrow().sent, changes);
    stop.drain().await.expect("all tasks end");
    verdict
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_product_gets_a_clean_verdict() {
    let verdict = run(Way::Honest, 600).await;
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!((verdict.sent, verdict.accepted, verdict.delivered), (600, 600, 600));
    assert!(verdict.repeats_sent > 20, "{verdict:?}");
    assert_eq!(verdict.within_budget, 1.0);
    let shown = json!(verdict);
    for key in [
        "sent",
        "accepted",
        "delivered",
        "lost",
        "duplicated",
        "reordered",
        "repeats_sent",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "within_budget",
    ] {
        assert!(shown[key].is_number(), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_product_that_writes_events_as_they_come_is_caught() {
    let verdict = run(Way::Blind, 600).await;
    assert!(verdict.reordered > 0 && verdict.duplicated > 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_product_that_forgets_records_is_caught() {
    let verdict = run(Way::Forgetful, 300).await;
    assert!(verdict.lost > 0, "{verdict:?}");
    assert_eq!(verdict.delivered + verdict.lost, verdict.accepted);
    assert_eq!((verdict.duplicated, verdict.reordered, verdict.phantom), (0, 0, 0));
}
