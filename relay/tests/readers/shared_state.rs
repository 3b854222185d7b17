//! Subscriptions of relays that take turns on one state in PostgreSQL: what another relay delivered meanwhile is not
//! delivered again, and nothing of what is known here is written over what that one wrote.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headgate_relay::store::StorePlace;
use headgate_schemas::stream::memory::Memory;
use serde_json::json;

use crate::endpoint::{Endpoint, Office, Setting, append, of, status, subscription};
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
