//! Relays that take each other's place on one state in PostgreSQL: a replay goes on where it stood, and a relay that stood
//! by while the topic was made anew reads the new one.
//!
//! Each relay has a log of its own with the same id, as two processes have two readers of one topic: so a test decides
//! which of them has heard that the topic was made anew.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use headgate_relay::Relay;
use headgate_relay::store::StorePlace;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::memory::Memory;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::endpoint::{Endpoint, Office, Setting, append, relay, status};
use crate::postgres::Schema;
use crate::replay::Desk;
use crate::shared_state::{schema, sql};
use crate::subscriptions::is_signed_with;
use crate::support::{change, open};

/// Longest wait for anything that must happen.
const DEADLINE: Duration = Duration::from_secs(60);

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.unwrap_or_else(|_| panic!("{what} never came"))
}

fn place(schema: &Schema) -> StorePlace {
    StorePlace::Postgres(Box::new(schema.address()))
}

/// How a job ended, by whoever has the state.
async fn ended(desks: &[&Desk], id: u64) -> Value {
    until("the end of the replay", async || {
        for desk in desks {
            let job = desk.job(id).await;
            if job["ended"].is_string() {
                return Some(job);
            }
        }
        None
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_replay_goes_on_with_the_relay_that_takes_over_and_misses_nothing() {
    let Some(schema) = schema().await else { return };
    let (folder, log) = (Arc::new(tempfile::tempdir().unwrap()), Memory::new(3));
    let originals: Vec<_> = (0..60).map(|at| change(&(at % 7).to_string(), at)).collect();
    for change in &originals {
        append(&log, change).await;
    }
    let desk = || Desk::at(place(&schema), Arc::clone(&folder), log.clone(), open(&log));
    let (first, working) = desk();
    working.handle.held().wait_for(Option::is_some).await.unwrap();
    let (second, standing_by) = desk();
    let wish = json!({ "from": "start", "rate": 40 });
    until("the state", async || (first.post("/v1/replays", wish.clone()).await.0 == 200).then_some(())).await;
    until("the first changes", async || (first.replayed().len() >= 12).then_some(())).await;

    // In good order: the second one goes on with it.
    first.shutdown.drain().await.unwrap();
    let before = first.replayed().len();
    assert!(before < 60, "it was cut off");
    standing_by.handle.held().wait_for(Option::is_some).await.unwrap();
    until("more of them", async || (second.replayed().len() >= before + 8).then_some(())).await;

    // Not in good order: its lease is over, and whoever is faster has the state next.
    let (third, _) = desk();
    sql(&schema, "DELETE FROM worker").await;
    let job = ended(&[&second, &third], 1).await;
    assert_eq!((&job["state"], &job["from"]), (&"done".into(), &"start".into()), "{job:#}");
    let back = third.replayed();
    let ids: HashSet<_> = back.iter().map(|change| change.id).collect();
    let seconds: HashSet<_> = back.iter().map(|change| change.occurred_at.unwrap().millis() / 1_000).collect();
    assert_eq!((ids.len(), seconds), (60, (0..60).collect()), "each under one id");

    for desk in [second, third] {
        desk.shutdown.drain().await.unwrap();
    }
    tokio::task::spawn_blocking(move || drop(schema)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_new_secret_signs_beside_the_one_before_it_after_a_take_over() {
    let Some(schema) = schema().await else { return };
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(1));
    let endpoint = Endpoint::open(|_, _| status(200)).await;
    let office = || Office::at(place(&schema), folder.path(), &log, Vec::new(), Setting::default());
    let working = office();
    let registered = working.registered(json!({ "name": "copy", "tenant": "acme", "url": endpoint.url() })).await;
    let standing_by = office();
    let (ok, renewed) = working.post("/v1/subscriptions/copy/secret", json!({})).await;
    assert_eq!(ok, 200, "{renewed:#}");
    working.close().await;
    standing_by.shown("copy", |view| view["state"] == "well").await;
    append(&log, &change("a", 1)).await;
    let calls = endpoint.until(|calls| !calls.is_empty()).await;
    is_signed_with(&calls[0], &[&renewed["secret"], &registered["secret"]].map(|secret| secret.as_str().unwrap()));
    standing_by.close().await;
    drop(endpoint);
    tokio::task::spawn_blocking(move || drop(schema)).await.unwrap();
}

/// A relay that links nothing, and what stops it.
struct Reading {
    relay: Relay,
    shutdown: Shutdown,
}

impl Reading {
    fn of(log: &Memory, schema: &Schema, folder: &TempDir) -> Self {
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let relay = relay(place(schema), folder.path(), log, &mut Registry::default(), &shutdown);
        Self { relay, shutdown }
    }

    /// Waits until it has accepted so many changes and stands at an offset.
    async fn stands(&self, accepted: i64, offset: u64) {
        until(&format!("{accepted} changes"), async || {
            let due: i64 = self.relay.handle.books().accounts.values().map(|account| account.due).sum();
            let at = self.relay.handle.positions().iter().map(|position| position.offset).max();
            (due == accepted && at == Some(offset)).then_some(())
        })
        .await;
    }
}

async fn fill(log: &Memory, seconds: std::ops::Range<i64>) {
    for at in seconds {
        append(log, &change("a", at)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_relay_that_stood_by_while_the_topic_was_made_anew_reads_the_new_one_from_its_start() {
    // Whether the relay that works hears of it before it ends.
    for heard in [false, true] {
        let Some(schema) = schema().await else { return };
        let folder = tempfile::tempdir().unwrap();
        let logs = [Memory::new(1), Memory::new(1)];
        for log in &logs {
            fill(log, 0..20).await;
        }
        let working = Reading::of(&logs[0], &schema, &folder);
        working.stands(20, 20).await;
        if heard {
            logs[0].make_anew();
            fill(&logs[0], 100..108).await;
            working.stands(28, 8).await;
        }
        let other = Reading::of(&logs[1], &schema, &folder);
        // Longer than the old one: every place of that is one in this.
        logs[1].make_anew();
        fill(&logs[1], 100..130).await;
        assert_eq!(other.relay.handle.books().accounts.len(), 0, "it stands by");
        working.shutdown.drain().await.unwrap();
        other.stands(50, 30).await;
        fill(&logs[1], 200..201).await;
        other.stands(51, 31).await;
        other.shutdown.drain().await.unwrap();
        tokio::task::spawn_blocking(move || drop(schema)).await.unwrap();
    }
}
