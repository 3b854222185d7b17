//! Subscriptions of relays that take turns on one state in PostgreSQL: what another relay delivered meanwhile is not
//! delivered again, and nothing of what is known here is written over what that one wrote.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headgate_relay::Relay;
use headgate_relay::store::StorePlace;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::memory::Memory;
use prometheus_client::registry::Registry;
use serde_json::json;

use crate::endpoint::{self, Endpoint, Office, Setting, append, of, status, subscription};
use crate::postgres::Schema;
use crate::support::change;

/// A schema of the test's own, if there is a server.
pub(crate) async fn schema() -> Option<Arc<Schema>> {
    tokio::task::spawn_blocking(Schema::make).await.unwrap().map(Arc::new)
}

/// Runs statements in it, as another relay would.
pub(crate) async fn sql(schema: &Arc<Schema>, text: &'static str) {
    let schema = Arc::clone(schema);
    tokio::task::spawn_blocking(move || schema.execute(text)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_relay_that_lost_the_state_and_has_it_again_goes_on_where_the_other_one_stood() {
    let Some(schema) = schema().await else { return };
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    let well = Arc::new(AtomicBool::new(true));
    let is_well = Arc::clone(&well);
    let endpoint = Endpoint::open(move |_, _| status(if is_well.load(Ordering::SeqCst) { 200 } else { 500 })).await;
    let list = || vec![subscription("crm", &endpoint.url())];
    let place = || StorePlace::Postgres(Box::new(schema.address()));
    for at in 0..6 {
        append(&log, &change("a", at)).await;
    }
    // What a relay leaves that delivered everything.
    let office = Office::at(place(), folder.path(), &log, list(), Setting::default());
    endpoint.taken(6).await;
    office.shown("crm", |view| view["waiting"] == 0).await;
    office.close().await;
    sql(&schema, "CREATE TABLE aside AS SELECT * FROM kept; DELETE FROM kept").await;

    well.store(false, Ordering::SeqCst);
    let office = Office::at(place(), folder.path(), &log, list(), Setting::default());
    office.shown("crm", |view| view["waiting"] == 6 && view["state"] == "failing").await;
    // Another relay has the state for a moment, as after a pause of this one that was longer than its lease.
    sql(&schema, "BEGIN; DELETE FROM worker; DELETE FROM kept; INSERT INTO kept SELECT * FROM aside; COMMIT").await;
    office.shown("crm", |view| view["waiting"] == 0 && view["state"] == "well").await;
    well.store(true, Ordering::SeqCst);
    append(&log, &change("a", 9)).await;
    let taken = endpoint.taken(7).await;
    assert_eq!(of(&taken, "a"), [0, 1, 2, 3, 4, 5, 9]);
    office.shown("crm", |view| view["delivered"] == 7).await;
    office.close().await;
    drop(endpoint);
    tokio::task::spawn_blocking(move || drop(schema)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_another_relay_registered_under_the_same_name_holds() {
    let Some(schema) = schema().await else { return };
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    let (theirs, ours) = (Endpoint::open(|_, _| status(200)).await, Endpoint::open(|_, _| status(200)).await);
    let place = StorePlace::Postgres(Box::new(schema.address()));
    let office = Office::at(place, folder.path(), &log, Vec::new(), Setting::default());
    let asked = |url: String| json!({ "name": "copy", "tenant": "acme", "url": url });
    // What the other relay will have written.
    let registered = office.registered(asked(theirs.url())).await;
    sql(&schema, "CREATE TABLE aside AS SELECT * FROM kept").await;
    assert_eq!(office.delete("/v1/subscriptions/copy").await.0, 204);
    office.registered(asked(ours.url())).await;
    sql(&schema, "BEGIN; DELETE FROM worker; DELETE FROM kept; INSERT INTO kept SELECT * FROM aside; COMMIT").await;
    office.shown("copy", |view| view["url"] == registered["subscription"]["url"]).await;
    append(&log, &change("a", 1)).await;
    assert_eq!(theirs.taken(1).await, [("a".to_owned(), 1)]);
    assert_eq!(ours.seen(), []);
    office.close().await;
    drop((theirs, ours));
    tokio::task::spawn_blocking(move || drop(schema)).await.unwrap();
}

/// So many changes were taken, all links and targets together.
async fn took(relay: &Relay, n: i64) {
    let taken = async {
        while relay.handle.counted().await.accounts.values().map(|account| account.due).sum::<i64>() != n {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), taken).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_log_that_became_shorter_is_read_by_relays_that_share_the_state() {
    let Some(schema) = schema().await else { return };
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    let mut address = schema.address();
    address.shared = true;
    let start = |shutdown: &Shutdown| {
        let place = StorePlace::Postgres(Box::new(address.clone()));
        endpoint::relay(place, folder.path(), &log, &mut Registry::default(), shutdown)
    };
    for record in ["a", "b", "c", "d"] {
        append(&log, &change(record, 1)).await;
    }
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let relay = start(&shutdown);
    took(&relay, 4).await;
    // While it runs; what it took is in the log again, and some more.
    sql(&schema, "UPDATE position SET off=off+100; DELETE FROM worker").await;
    append(&log, &change("a", 2)).await;
    took(&relay, 5).await;
    shutdown.drain().await.unwrap();
    // And while it is away.
    sql(&schema, "UPDATE position SET off=off+100").await;
    append(&log, &change("a", 3)).await;
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let relay = start(&shutdown);
    took(&relay, 6).await;
    shutdown.drain().await.unwrap();
    tokio::task::spawn_blocking(move || drop(schema)).await.unwrap();
}
