//! The guard of outgoing calls, with names that lie: an endpoint that leads, or later comes to lead, to this machine, to
//! the network beside it or to a cloud's metadata is never called.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::header::{CONNECTION, HeaderValue};
use axum::response::{IntoResponse as _, Redirect};
use headgate_relay::outgoing::{Lookup, Policy};
use headgate_schemas::stream::memory::Memory;

use crate::endpoint::{Endpoint, Office, Setting, append, status, subscription};
use crate::support::change;

/// A name server: the n-th question gets the n-th answer, later ones the last.
fn names(answers: Vec<Vec<&'static str>>) -> (Lookup, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lookup: Lookup = Arc::new(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        let answer: Vec<IpAddr> = answers[n].iter().map(|ip| ip.parse().unwrap()).collect();
        Box::pin(std::future::ready(Ok(answer)))
    });
    (lookup, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_inside_is_refused_and_nothing_is_called() {
    let trap = Endpoint::open(|_, _| status(200)).await;
    for address in ["127.0.0.1", "169.254.169.254", "fd00:ec2::254", "::ffff:127.0.0.1", "10.0.0.5", "100.100.100.200"]
    {
        let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
        append(&log, &change("a", 1)).await;
        let (lookup, asked) = names(vec![vec![address]]);
        let policy = Policy { ports: vec![443, trap.port], loopback: false };
        let url = format!("https://hooks.example.com:{}/", trap.port);
        let setting = Setting { policy, lookup, ..Setting::default() };
        let office = Office::open(folder.path(), &log, vec![subscription("crm", &url)], setting);
        let view = office.shown("crm", |view| view["state"] == "failing").await;
        let reason = view["reason"].as_str().unwrap();
        assert!(reason.ends_with("address, which is not called"), "{address}: {reason}");
        assert!(asked.load(Ordering::SeqCst) > 0);
        office.close().await;
    }
    assert!(trap.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_comes_to_lead_elsewhere_is_judged_again_at_each_connection() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    append(&log, &change("a", 1)).await;
    // The endpoint closes its connection, so that the next call needs another one.
    let endpoint = Endpoint::open(|_, _| {
        let mut response = status(200);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    })
    .await;
    let (lookup, asked) = names(vec![vec!["127.0.0.1"], vec!["169.254.169.254"]]);
    let url = format!("http://hooks.example.com:{}/", endpoint.port);
    let setting = Setting { lookup, ..Setting::default() };
    let office = Office::open(folder.path(), &log, vec![subscription("crm", &url)], setting);
    office.shown("crm", |view| view["delivered"] == 1).await;
    append(&log, &change("a", 2)).await;
    let view = office.shown("crm", |view| view["state"] == "failing").await;
    assert_eq!(view["reason"], "the host has a link-local address, which is not called");
    assert_eq!(endpoint.seen().len(), 1);
    assert!(asked.load(Ordering::SeqCst) >= 2);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    append(&log, &change("a", 1)).await;
    let inside = Endpoint::open(|_, _| status(200)).await;
    let target = inside.url();
    let endpoint = Endpoint::open(move |_, _| Redirect::temporary(&target).into_response()).await;
    let office = Office::open(folder.path(), &log, vec![subscription("crm", &endpoint.url())], Setting::default());
    let view = office.shown("crm", |view| view["state"] == "failing").await;
    assert_eq!(view["reason"], "it answered 307");
    assert!(inside.seen().is_empty());
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_to_the_world_is_refused_even_where_loopback_is_open() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Memory::new(3));
    append(&log, &change("a", 1)).await;
    let (lookup, _) = names(vec![vec!["93.184.216.34"]]);
    let setting = Setting { lookup, ..Setting::default() };
    let office = Office::open(folder.path(), &log, vec![subscription("crm", "http://hooks.example.com/")], setting);
    let view = office.shown("crm", |view| view["state"] == "failing").await;
    assert_eq!(view["reason"], "only https:// is called");
    office.close().await;
}
