//! Subscriptions: order per record through failures, restarts and replays; a dead one beside a good one; bounds.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::body::{Body, Bytes};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{FutureExt as _, stream};
use headgate_relay::admin::OpenSource;
use headgate_relay::outgoing::Policy;
use headgate_relay::subscription::Pace;
use headgate_relay::subscription::sign::Key;
use headgate_schemas::change::Channel;
use headgate_schemas::stream::memory::{Memory, MemoryConfig, MemorySource};
use headgate_schemas::stream::{Begin, Next, Position, Source, StreamError, Topic};
use headgate_schemas::{Timestamp, time};
use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};

use crate::endpoint::{Call, Endpoint, Office, SECRET, Setting, append, of, status, subscription};
use crate::support::change;

const RECORDS: [&str; 3] = ["a", "b", "c"];

/// Ten changes of each record, their times rising.
async fn fill(log: &Memory) {
    for at in 0..30 {
        append(log, &change(RECORDS[at as usize % 3], at)).await;
    }
}

fn each_in_order(taken: &[(String, i64)]) {
    for (first, record) in (0..).zip(RECORDS) {
        let expected: Vec<i64> = (0..10).map(|n| first + 3 * n).collect();
        assert_eq!(of(taken, record), expected, "{record}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_answers_500_for_a_while_gets_everything_in_order() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    fill(&log).await;
    let endpoint = Endpoint::open(|n, _| status(if n < 40 { 500 } else { 204 })).await;
    let office = Office::open(folder.path(), &log, vec![subscription("crm", &endpoint.url())], Setting::default());
    let taken = endpoint.taken(30).await;
    each_in_order(&taken);
    let view = office.shown("crm", |view| view["delivered"] == 30).await;
    assert_eq!((&view["state"], &view["waiting"]), (&"well".into(), &0.into()));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_at_random_keep_one_call_of_a_record_under_way() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    fill(&log).await;
    // Two thirds of the calls fail, each record at its own places.
    let endpoint = Endpoint::open(|n, _| status(if (n * 7 + n / 5) % 3 == 0 { 200 } else { 503 })).await;
    let office = Office::open(folder.path(), &log, vec![subscription("crm", &endpoint.url())], Setting::default());
    each_in_order(&endpoint.taken(30).await);
    // A change is never tried while an earlier one of its record is refused: tries of a record never go back.
    let seen = endpoint.seen();
    for record in RECORDS {
        assert!(of(&seen, record).is_sorted(), "{record}: {:?}", of(&seen, record));
    }
    office.close().await;
}

/// Each of the secrets signed the call, in this order, and no other did.
pub(crate) fn is_signed_with(call: &Call, secrets: &[&str]) {
    let signed = format!("{}.{}.", call.header("webhook-id"), call.header("webhook-timestamp"));
    let signatures: Vec<&str> = call.header("webhook-signature").split(' ').collect();
    assert_eq!(signatures.len(), secrets.len());
    for (signature, secret) in signatures.iter().zip(secrets) {
        let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
        let mac = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        let message = [signed.as_bytes(), &call.body].concat();
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message, &mac).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_standard_webhooks_with_every_live_secret() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    append(&log, &change("a", 1)).await;
    let endpoint = Endpoint::open(|n, _| status(if n == 0 { 500 } else { 200 })).await;
    let new = format!("whsec_{}", STANDARD.encode([7; 32]));
    let mut one = subscription("crm", &endpoint.url());
    one.keys = vec![Key::new(&new).unwrap(), Key::new(SECRET).unwrap()];
    let office = Office::open(folder.path(), &log, vec![one], Setting::default());
    let calls = endpoint.until(|calls| calls.len() == 2).await;
    for call in &calls {
        assert_eq!(call.header("webhook-id"), change("a", 1).id.to_string());
        assert_eq!(call.header("content-type"), "application/json");
        is_signed_with(call, &[&new, SECRET]);
    }
    let event = calls[0].event();
    assert_eq!((event.tenant.as_str(), event.subject.as_str(), event.position), ("acme", "contact/a", None));
    let (_, list) = office.get("/v1/subscriptions").await;
    assert_eq!(list["subscriptions"][0]["url"], endpoint.url().split('?').next().unwrap(), "the query stays here");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_what_is_not_theirs_and_what_was_sent_again_stays_here() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    let mut other = change("a", 1);
    other.tenant = "globex".to_owned();
    append(&log, &other).await;
    let mut again = change("a", 2);
    again.channel = Channel::Replay;
    append(&log, &again).await;
    append(&log, &change("a", 3)).await;
    let endpoint = Endpoint::open(|_, _| status(200)).await;
    let mut one = subscription("crm", &endpoint.url());
    one.filter.tenants = vec!["globex".to_owned()];
    let office = Office::open(folder.path(), &log, vec![one], Setting::default());
    assert_eq!(endpoint.taken(1).await, [("a".to_owned(), 3)]);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_one_delays_nobody_and_reads_no_more_than_may_wait() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    fill(&log).await;
    let dead = Endpoint::open(|_, _| status(500)).await;
    let good = Endpoint::open(|_, _| status(200)).await;
    let list = vec![subscription("dead", &dead.url()), subscription("good", &good.url())];
    let pace = Pace { waiting: 5, ..Setting::default().pace };
    let office = Office::open(folder.path(), &log, list, Setting { pace, ..Setting::default() });
    each_in_order(&good.taken(30).await);
    let view = office.shown("dead", |view| view["state"] == "failing").await;
    assert!(view["waiting"].as_u64().unwrap() <= 5 && view["reason"] == "it answered 500", "{view:#}");
    let (_, list) = office.get("/v1/subscriptions").await;
    assert_eq!(list["subscriptions"].as_array().unwrap().len(), 2);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_refused_holds_up_only_itself() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    fill(&log).await;
    let poison = Arc::new(AtomicBool::new(true));
    let bad = Arc::clone(&poison);
    let endpoint = Endpoint::open(move |_, call| {
        let refused = bad.load(Ordering::Relaxed) && call.change().0 == "b";
        status(if refused { 422 } else { 200 })
    })
    .await;
    let office = Office::open(folder.path(), &log, vec![subscription("crm", &endpoint.url())], Setting::default());
    let taken = endpoint.taken(20).await;
    assert_eq!((of(&taken, "a").len(), of(&taken, "b").len(), of(&taken, "c").len()), (10, 0, 10));
    poison.store(false, Ordering::Relaxed);
    each_in_order(&endpoint.taken(30).await);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_disables_it_until_a_person_enables_it() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    fill(&log).await;
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let endpoint = Endpoint::open(move |_, _| status(if is_well.load(Ordering::Relaxed) { 200 } else { 410 })).await;
    let list = || vec![subscription("crm", &endpoint.url())];
    let office = Office::open(folder.path(), &log, list(), Setting::default());
    let view = office.shown("crm", |view| view["state"] == "disabled" && view["open"] == 0).await;
    assert_eq!(view["reason"], "the endpoint says that it is gone (410)");
    let mut metrics = String::new();
    encode(&mut metrics, &office.metrics).unwrap();
    assert!(metrics.contains("subscription_disabled{subscription=\"crm\"} 1"), "{metrics}");
    let calls = endpoint.seen().len();
    office.close().await;

    // A restart is no reason to go on.
    let office = Office::open(folder.path(), &log, list(), Setting::default());
    office.shown("crm", |view| view["state"] == "disabled").await;
    assert_eq!(endpoint.seen().len(), calls);
    well.store(true, Ordering::Relaxed);
    assert_eq!(office.enable("crm").await.0, 200);
    each_in_order(&endpoint.taken(30).await);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_refused_for_too_long_disables_it_with_the_reason() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    append(&log, &change("a", 1)).await;
    let endpoint = Endpoint::open(|_, _| status(400)).await;
    let pace = Pace { disable_after: Duration::from_millis(50), ..Setting::default().pace };
    let list = vec![subscription("crm", &endpoint.url())];
    let office = Office::open(folder.path(), &log, list, Setting { pace, ..Setting::default() });
    let view = office.shown("crm", |view| view["state"] == "disabled").await;
    assert_eq!(view["reason"], "a change was refused for too long; the last time it answered 400");
    assert!(endpoint.seen().len() >= 2, "it was tried again before");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_is_disabled_by_what_it_refused_first_however_many_records_wait() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    for record in 0..20 {
        append(&log, &change(&record.to_string(), record)).await;
    }
    let endpoint = Endpoint::open(|_, _| status(500)).await;
    // No change is tried twice before all of them were tried, one after the other.
    let pace = Pace {
        calls: 1,
        disable_after: Duration::from_millis(50),
        retry_first: Duration::from_hours(1),
        retry_most: Duration::from_hours(1),
        ..Setting::default().pace
    };
    let list = vec![subscription("crm", &endpoint.url())];
    let office = Office::open(folder.path(), &log, list, Setting { pace, ..Setting::default() });
    office.shown("crm", |view| view["state"] == "disabled").await;
    let seen = endpoint.seen();
    assert!(seen.len() < 20 && seen.iter().collect::<HashSet<_>>().len() == seen.len(), "{seen:?}");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_it_goes_on_where_it_stood() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    fill(&log).await;
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let endpoint = Endpoint::open(move |_, call| {
        status(if is_well.load(Ordering::Relaxed) || call.change().0 == "a" { 200 } else { 500 })
    })
    .await;
    let list = || vec![subscription("crm", &endpoint.url())];
    let office = Office::open(folder.path(), &log, list(), Setting::default());
    endpoint.taken(10).await;
    office.shown("crm", |view| view["delivered"] == 10).await;
    // What an order changed is durable when it is answered, and with it everything before.
    assert_eq!(office.enable("crm").await.0, 200);
    office.close().await;
    let before = endpoint.seen().len();

    well.store(true, Ordering::Relaxed);
    let office = Office::open(folder.path(), &log, list(), Setting::default());
    let taken = endpoint.taken(30).await;
    each_in_order(&taken);
    assert!(endpoint.seen()[before..].iter().all(|(record, _)| record != "a"), "what was delivered is not sent again");
    let view = office.shown("crm", |view| view["delivered"] == 30).await;
    assert_eq!(view["waiting"], 0);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_sends_again_from_a_place_under_the_same_ids() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    fill(&log).await;
    let endpoint = Endpoint::open(|_, _| status(200)).await;
    let office = Office::open(folder.path(), &log, vec![subscription("crm", &endpoint.url())], Setting::default());
    endpoint.taken(30).await;
    office.shown("crm", |view| view["waiting"] == 0).await;
    let (ok, view) = office.replay("crm", "27").await;
    assert_eq!((ok, &view["name"]), (200, &"crm".into()));
    let calls = endpoint.until(|calls| calls.len() >= 33).await;
    let ids = |from: usize, to: usize| {
        let mut ids: Vec<String> = calls[from..to].iter().map(|c| c.header("webhook-id").to_owned()).collect();
        ids.sort();
        ids
    };
    let mut last: Vec<String> = (27..30).map(|at| change(RECORDS[at as usize % 3], at).id.to_string()).collect();
    last.sort();
    assert_eq!(ids(30, 33), last);

    assert_eq!(office.replay("crm", "1970-01-01T00:00:29Z").await.0, 200);
    let calls = endpoint.until(|calls| calls.len() >= 34).await;
    assert_eq!(calls[33].change(), ("c".to_owned(), 29));

    let code = |(status, problem): (u16, Value)| (status, problem["code"].as_str().unwrap().to_owned());
    assert_eq!(code(office.replay("crm", "yesterday").await), (400, "bad_position".to_owned()));
    assert_eq!(code(office.replay("crm", "1.2.3.4").await), (400, "bad_position".to_owned()));
    assert_eq!(code(office.replay("crm", "31").await), (410, "replay_position_expired".to_owned()));
    assert_eq!(code(office.replay("nobody", "start").await), (404, "subscription_unknown".to_owned()));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_stream_dropped_meanwhile_is_told_and_the_rest_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let log = Memory::with(MemoryConfig { partitions: 1, keep_records: 10, ..MemoryConfig::default() });
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let endpoint = Endpoint::open(move |_, _| status(if is_well.load(Ordering::Relaxed) { 200 } else { 500 })).await;
    let pace = Pace { waiting: 2, ..Setting::default().pace };
    append(&log, &change("a", 0)).await;
    append(&log, &change("a", 1)).await;
    let list = vec![subscription("crm", &endpoint.url())];
    let office = Office::open(folder.path(), &log, list, Setting { pace, ..Setting::default() });
    office.shown("crm", |view| view["waiting"] == 2).await;
    for at in 2..50 {
        append(&log, &change("a", at)).await;
    }
    well.store(true, Ordering::Relaxed);
    let taken = endpoint.taken(12).await;
    let expected: Vec<i64> = [0, 1].into_iter().chain(40..50).collect();
    assert_eq!(of(&taken, "a"), expected);
    let view = office.shown("crm", |view| view["overtaken"].is_string()).await;
    let told = view["overtaken"].as_str().unwrap();
    let tail = "up to 38 changes in 1 partitions were dropped by the stream before they were delivered";
    assert!(told.ends_with(tail), "{told}");
    office.close().await;
}

/// A topic in the place of the log's, at least as long: every place of the old one is one in this.
async fn make_anew(log: &Memory) {
    log.make_anew();
    for at in 100..160 {
        append(log, &change(RECORDS[at as usize % 3], at)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_anew_while_the_relay_was_away_is_read_from_its_start_and_what_is_lost_is_told() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    fill(&log).await;
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let endpoint = Endpoint::open(move |_, _| status(if is_well.load(Ordering::Relaxed) { 200 } else { 500 })).await;
    let pace = || Pace { waiting: 5, ..Setting::default().pace };
    let setting = || Setting { pace: pace(), ..Setting::default() };
    let list = || vec![subscription("crm", &endpoint.url())];
    let office = Office::open(folder.path(), &log, list(), setting());
    let named = json!({ "name": "copy", "tenant": "acme", "url": endpoint.url(), "from": "start" });
    office.registered(named).await;
    for name in ["crm", "copy"] {
        office.shown(name, |view| view["waiting"] == 5 && view["state"] == "failing").await;
    }
    // One that was registered and has not read anything since.
    assert_eq!(office.replay("copy", "now").await.0, 200);
    assert_eq!(office.enable("crm").await.0, 200);
    office.close().await;

    make_anew(&log).await;
    well.store(true, Ordering::Relaxed);
    let office = Office::open(folder.path(), &log, list(), setting());
    let taken = endpoint.taken(120).await;
    for (first, record) in (0..).zip(["b", "c", "a"]) {
        let each: Vec<i64> = (0..20).map(|n| 100 + first + 3 * n).collect();
        let twice: Vec<i64> = each.iter().flat_map(|at| [*at, *at]).collect();
        let mut got = of(&taken, record);
        got.sort_unstable();
        assert_eq!(got, twice, "{record}");
    }
    for (name, lost) in [("crm", 5), ("copy", 0)] {
        let view = office.shown(name, |view| view["waiting"] == 0).await;
        let told = view["replaced"].as_str().unwrap();
        assert!(told.ends_with(&format!("is lost, and {lost} of its changes that waited")), "{told}");
    }
    let mut metrics = String::new();
    encode(&mut metrics, &office.metrics).unwrap();
    assert!(metrics.contains("subscription_overtaken_total{subscription=\"crm\"} 1"), "{metrics}");
    office.close().await;
    // The notice stays, and nothing is found replaced again.
    let office = Office::open(folder.path(), &log, list(), setting());
    let view = office.shown("crm", |view| view["state"] == "well").await;
    assert!(view["replaced"].is_string(), "{view:#}");
    append(&log, &change("a", 999)).await;
    assert_eq!(of(&endpoint.taken(122).await, "a").len(), 42);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_anew_under_way_is_read_from_its_start_and_in_order() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    fill(&log).await;
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let endpoint = Endpoint::open(move |_, _| status(if is_well.load(Ordering::Relaxed) { 200 } else { 500 })).await;
    let pace = Pace { waiting: 100, ..Setting::default().pace };
    let list = vec![subscription("crm", &endpoint.url())];
    let office = Office::open(folder.path(), &log, list, Setting { pace, ..Setting::default() });
    office.shown("crm", |view| view["waiting"] == 30 && view["state"] == "failing").await;
    make_anew(&log).await;
    office.shown("crm", |view| view["replaced"].is_string() && view["waiting"].as_u64() >= Some(60)).await;
    well.store(true, Ordering::Relaxed);
    // The relay opens its state anew as well, which repeats what was not written down by then.
    let first_times = |calls: &[Call]| {
        let taken = calls.iter().filter(|call| call.status == 200).map(Call::change).filter(|(_, at)| *at >= 100);
        let mut seen = HashSet::new();
        taken.filter(|change| seen.insert(change.clone())).collect::<Vec<_>>()
    };
    let taken = first_times(&endpoint.until(|calls| first_times(calls).len() == 60).await);
    for (first, record) in (0..).zip(["b", "c", "a"]) {
        assert_eq!(of(&taken, record), (0..20).map(|n| 100 + first + 3 * n).collect::<Vec<i64>>(), "{record}");
    }
    office.close().await;
}

/// A reader to which nothing comes: whoever reads through it learns of nothing that happens to the log.
struct Deaf(MemorySource);

impl Source for Deaf {
    fn topic(&self) -> Topic {
        self.0.topic()
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), StreamError> {
        self.0.assign(positions)
    }

    fn next(&mut self, _: usize) -> Next<'_> {
        Box::pin(std::future::pending())
    }

    fn numbers_across(&self) -> bool {
        self.0.numbers_across()
    }

    fn bounds(&self) -> Result<Vec<(Position, Position)>, StreamError> {
        self.0.bounds()
    }

    fn since(&self, at: Timestamp) -> Result<Vec<Position>, StreamError> {
        self.0.since(at)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_served_has_a_place_that_outlives_the_state_s_being_opened_anew_at_once() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    fill(&log).await;
    let endpoint = Endpoint::open(|_, _| status(200)).await;
    // The relay finds the topic made anew and opens its state anew; the subscription learns of it only by that.
    let (opened, read) = (AtomicUsize::new(0), log.clone());
    let through: OpenSource = Arc::new(move || {
        let source = read.source();
        let is_first = opened.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(if is_first { Box::new(Deaf(source)) as Box<dyn Source> } else { Box::new(source) })
    });
    let setting = || Setting { begin: Begin::Now, ..Setting::default() };
    let list = || vec![subscription("crm", &endpoint.url())];
    let office = Office::open(folder.path(), &log, list(), Setting { open: Some(through), ..setting() });
    office.shown("crm", |view| view["state"] == "well").await;
    make_anew(&log).await;
    let view = office.shown("crm", |view| view["replaced"].is_string()).await;
    let told = view["replaced"].as_str().unwrap().to_owned();
    assert!(told.ends_with("is lost, and 0 of its changes that waited"), "{told}");
    let taken = endpoint.taken(60).await;
    for (first, record) in (0..).zip(["b", "c", "a"]) {
        assert_eq!(of(&taken, record), (0..20).map(|n| 100 + first + 3 * n).collect::<Vec<i64>>(), "{record}");
    }
    office.shown("crm", |view| view["delivered"] == 60).await;
    office.close().await;
    // What is kept names the new topic: it is read on, and nothing is found replaced again.
    let office = Office::open(folder.path(), &log, list(), setting());
    let view = office.shown("crm", |view| view["state"] == "well").await;
    assert_eq!(view["replaced"], told.as_str());
    append(&log, &change("a", 999)).await;
    assert_eq!(endpoint.taken(61).await[60..], [("a".to_owned(), 999)]);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_registers_an_endpoint_which_outlives_a_restart_and_is_taken_away() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    append(&log, &change("a", 0)).await;
    let endpoint = Endpoint::open(|_, _| status(200)).await;
    let office = Office::open(folder.path(), &log, Vec::new(), Setting::default());
    let url = endpoint.url();
    let asked = json!({ "name": "copy", "tenant": "acme", "url": url, "filter": { "record": "a,b" } });
    let registered = office.registered(asked.clone()).await;
    let secret = registered["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"), "{registered}");
    assert_eq!(registered["subscription"]["url"], url.split('?').next().unwrap(), "the query stays here");
    for at in 1..7 {
        append(&log, &change(RECORDS[at as usize % 3], at)).await;
    }
    let taken = endpoint.taken(4).await;
    assert_eq!((of(&taken, "a"), of(&taken, "b")), (vec![3, 6], vec![1, 4]), "from now on, and of two records");
    let calls = endpoint.until(|calls| calls.len() == 4).await;
    for call in &calls {
        let signed = format!("{}.{}.", call.header("webhook-id"), call.header("webhook-timestamp"));
        let mac = STANDARD.decode(call.header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
        let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
        let message = [signed.as_bytes(), &call.body].concat();
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message, &mac).unwrap();
    }
    let (status, problem) = office.post("/v1/subscriptions", asked.clone()).await;
    assert_eq!((status, &problem["code"]), (409, &"subscription_exists".into()));
    office.shown("copy", |view| view["waiting"] == 0).await;
    office.close().await;
    let state = std::fs::read(folder.path().join("state.db")).unwrap();
    for hidden in [secret.as_bytes(), b"s3cr3t"] {
        assert!(!state.windows(hidden.len()).any(|part| part == hidden), "sealed at rest");
    }

    let office = Office::open(folder.path(), &log, Vec::new(), Setting::default());
    append(&log, &change("a", 9)).await;
    assert_eq!(of(&endpoint.taken(5).await, "a"), [3, 6, 9], "it goes on where it stood");
    assert_eq!(office.delete("/v1/subscriptions/copy").await.0, 204);
    assert_eq!(office.delete("/v1/subscriptions/copy").await.1["code"], "subscription_unknown");
    append(&log, &change("a", 10)).await;
    // Another one of the same name begins afresh.
    office.registered(asked).await;
    append(&log, &change("a", 11)).await;
    assert_eq!(of(&endpoint.taken(6).await, "a"), [3, 6, 9, 11]);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_that_mean_nothing_or_reach_inside_are_refused() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    let setting = Setting { policy: Policy::default(), ..Setting::default() };
    let office = Office::open(folder.path(), &log, vec![subscription("fixed", "https://a.example/")], setting);
    // As soon as the state is there.
    office.shown("fixed", |view| view["state"] != "starting").await;
    let asked = |key: &str, value: &str| {
        let mut asked = json!({ "name": "copy", "tenant": "acme", "url": "https://hooks.example.com/" });
        asked[key] = value.into();
        asked
    };
    let table = [
        (asked("name", "a b"), 400, "bad_name"),
        (asked("name", "fixed"), 409, "subscription_exists"),
        (asked("tenant", "globex"), 400, "tenant_unknown"),
        (asked("url", "no url"), 400, "bad_url"),
        (asked("url", "http://hooks.example.com/"), 400, "bad_url"),
        (asked("url", "https://127.0.0.1/"), 400, "bad_url"),
        (asked("url", "https://[::ffff:169.254.169.254]/"), 400, "bad_url"),
        (asked("url", "https://169.254.169.254/latest"), 400, "bad_url"),
        (asked("secret", "whsec_short"), 400, "bad_secret"),
        (asked("from", "yesterday"), 400, "bad_position"),
        (asked("from", "17"), 410, "replay_position_expired"),
        (asked("to", "17"), 400, "bad_body"),
    ];
    for (body, status, code) in table {
        let (told, problem) = office.post("/v1/subscriptions", body.clone()).await;
        assert_eq!((told, problem["code"].as_str()), (status, Some(code)), "{body}");
    }
    let (status, problem) = office.delete("/v1/subscriptions/fixed").await;
    assert_eq!((status, &problem["code"]), (409, &"subscription_in_file".into()));
    for name in ["one", "two"] {
        office.registered(asked("name", name)).await;
    }
    let (status, problem) = office.post("/v1/subscriptions", asked("name", "three")).await;
    assert_eq!((status, &problem["code"]), (409, &"subscriptions_full".into()));
    office.close().await;
}

/// Sends one more change, and sees what signed its call.
async fn next_is_signed_with(log: &Memory, endpoint: &Endpoint, secrets: &[&str]) {
    let at = i64::try_from(endpoint.seen().len()).unwrap();
    append(log, &change("a", at)).await;
    let calls = endpoint.until(|calls| calls.iter().any(|call| call.change().1 == at)).await;
    is_signed_with(calls.last().unwrap(), secrets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_secret_signs_beside_the_one_before_it_and_outlives_a_restart() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(1));
    let endpoint = Endpoint::open(|_, _| status(200)).await;
    let office = Office::open(folder.path(), &log, vec![subscription("fixed", &endpoint.url())], Setting::default());
    let url = endpoint.url();
    let registered = office.registered(json!({ "name": "copy", "tenant": "acme", "url": url })).await;
    let first = registered["secret"].as_str().unwrap().to_owned();
    office.close().await;
    let office = Office::open(folder.path(), &log, Vec::new(), Setting::default());
    office.shown("copy", |view| view["state"] == "well").await;
    next_is_signed_with(&log, &endpoint, &[&first]).await;

    let renew = async |office: &Office, body: Value| office.post("/v1/subscriptions/copy/secret", body).await;
    let (ok, renewed) = renew(&office, json!({})).await;
    assert_eq!((ok, &renewed["subscription"]["name"]), (200, &"copy".into()));
    let second = renewed["secret"].as_str().unwrap().to_owned();
    let until: Timestamp = renewed["subscription"]["earlier_secrets_until"].as_str().unwrap().parse().unwrap();
    let left = until.since(time::now());
    assert!(left > Duration::from_hours(23) && left <= Duration::from_hours(24), "{left:?}");
    next_is_signed_with(&log, &endpoint, &[&second, &first]).await;
    office.close().await;

    let office = Office::open(folder.path(), &log, Vec::new(), Setting::default());
    let view = office.shown("copy", |view| view["state"] == "well").await;
    assert_eq!(view["earlier_secrets_until"], until.to_string());
    next_is_signed_with(&log, &endpoint, &[&second, &first]).await;
    // One of the caller's own; asked for again it is the one that there is.
    let own = format!("whsec_{}", STANDARD.encode([7; 32]));
    for _ in 0..2 {
        let (ok, renewed) = renew(&office, json!({ "secret": own })).await;
        assert_eq!((ok, &renewed["secret"]), (200, &own.as_str().into()));
        next_is_signed_with(&log, &endpoint, &[&own, &second, &first]).await;
    }
    let (full, problem) = renew(&office, json!({})).await;
    assert_eq!((full, &problem["code"]), (409, &"secrets_full".into()));
    next_is_signed_with(&log, &endpoint, &[&own, &second, &first]).await;

    // After a leak.
    let (ok, renewed) = renew(&office, json!({ "at_once": true })).await;
    assert_eq!((ok, &renewed["subscription"]["earlier_secrets_until"]), (200, &Value::Null));
    let last = renewed["secret"].as_str().unwrap().to_owned();
    next_is_signed_with(&log, &endpoint, &[&last]).await;
    // One whose caller goes away comes to its end; whoever asks for it again hears of it, and it is there once.
    drop(renew(&office, json!({ "secret": own })).now_or_never());
    office.shown("copy", |view| view["earlier_secrets_until"].is_string()).await;
    next_is_signed_with(&log, &endpoint, &[&own, &last]).await;
    let (ok, renewed) = renew(&office, json!({ "secret": own })).await;
    assert_eq!((ok, &renewed["secret"]), (200, &own.as_str().into()));
    next_is_signed_with(&log, &endpoint, &[&own, &last]).await;
    office.close().await;
    let state = std::fs::read(folder.path().join("state.db")).unwrap();
    for hidden in [&second, &last, &own] {
        assert!(!state.windows(hidden.len()).any(|part| part == hidden.as_bytes()), "sealed at rest");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_secrets_that_mean_nothing_or_belong_into_the_file_are_refused() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(1));
    let endpoint = Endpoint::open(|_, _| status(200)).await;
    let office = Office::open(folder.path(), &log, vec![subscription("fixed", &endpoint.url())], Setting::default());
    office.registered(json!({ "name": "copy", "tenant": "acme", "url": endpoint.url() })).await;
    let table = [
        ("copy", json!({ "secret": "whsec_short" }), 400, "bad_secret"),
        ("copy", json!({ "overlap": "1h" }), 400, "bad_body"),
        ("fixed", json!({}), 409, "subscription_in_file"),
        ("nobody", json!({}), 404, "subscription_unknown"),
    ];
    for (name, body, status, code) in table {
        let (told, problem) = office.post(&format!("/v1/subscriptions/{name}/secret"), body.clone()).await;
        assert_eq!((told, problem["code"].as_str()), (status, Some(code)), "{name} {body}");
    }
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_counts_when_its_head_is_there() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    append(&log, &change("a", 1)).await;
    // 200, and a body that never ends.
    let endpoint =
        Endpoint::open(|_, _| Response::new(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()))).await;
    let pace = Pace { deadline: Duration::from_secs(5), ..Setting::default().pace };
    let list = vec![subscription("crm", &endpoint.url())];
    let office = Office::open(folder.path(), &log, list, Setting { pace, ..Setting::default() });
    let view = office.shown("crm", |view| view["delivered"] == 1 || view["state"] == "failing").await;
    assert_eq!(view["state"], "well", "{view:#}");
    assert_eq!(endpoint.seen().len(), 1);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_for_comes_to_its_end_although_the_caller_goes_away() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    let endpoint = Endpoint::open(|_, _| status(200)).await;
    let office = Office::open(folder.path(), &log, Vec::new(), Setting::default());
    let asked = |name: &str| json!({ "name": name, "tenant": "acme", "url": endpoint.url() });
    office.registered(asked("first")).await;
    // It has begun, and nobody waits for its end.
    drop(office.post("/v1/subscriptions", asked("copy")).now_or_never());
    office.shown("copy", |view| view["state"] == "well").await;
    append(&log, &change("a", 1)).await;
    assert_eq!(of(&endpoint.taken(2).await, "a"), [1, 1]);

    drop(office.delete("/v1/subscriptions/copy").now_or_never());
    office.gone("copy").await;
    office.registered(asked("second")).await;
    office.close().await;
    let office = Office::open(folder.path(), &log, Vec::new(), Setting::default());
    office.shown("second", |view| view["state"] == "well").await;
    assert_eq!(office.delete("/v1/subscriptions/copy").await.1["code"], "subscription_unknown");
    office.close().await;
}

#[tokio::test]
async fn who_hangs_up_leaves_at_most_so_many_orders_behind() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    let endpoint = Endpoint::open(|_, _| status(200)).await;
    let office = Office::open(folder.path(), &log, Vec::new(), Setting::default());
    let asked = |name: &str| json!({ "name": name, "tenant": "acme", "url": endpoint.url() });
    office.registered(asked("first")).await;
    // Nothing goes on between these: there is one thread.
    let told: Vec<_> = (0..40)
        .map(|n| office.post("/v1/subscriptions", asked(&format!("copy-{n}"))).now_or_never().map(|(status, _)| status))
        .collect();
    assert_eq!(told, [vec![None; 32], vec![Some(503); 8]].concat());
    office.shown("copy-1", |view| view["state"] == "well").await;
    office.close().await;
}
