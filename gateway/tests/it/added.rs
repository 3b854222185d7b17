//! Endpoints that come and go while the gateway runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use headgate_gateway::config::{Credential, EndpointConfig, Owners, ProviderName};
use headgate_gateway::{Added, Directory, Gateway, Reread, StartError};
use headgate_schemas::System;
use parking_lot::Mutex;

use super::harness::{Bench, HUBSPOT, OLD_SECRET, SECRET, hubspot, hubspot_to, job_title, limits, owner};

const KEY: &str = "aD4tCkWv3fZ0yQ2mN7rBxA";

fn endpoint(name: &str, key: &str, secret: &str) -> EndpointConfig {
    let owner = owner("acme", "hubspot-main", "5550123");
    let credential = Credential::Secrets(vec![secret.into()]);
    EndpointConfig::new(name, key, (ProviderName::Hubspot, System::Hubspot), Owners::One(owner), credential)
}

fn added(edition: u64, key: &str, secret: &str) -> Vec<Added> {
    vec![Added { edition, config: endpoint("second-app", key, secret) }]
}

async fn bench() -> Bench {
    Bench::of(limits(), vec![endpoint("app", HUBSPOT.rsplit('/').next().unwrap(), SECRET)]).await
}

fn event(n: u64) -> String {
    format!("[{}]", job_title(n, 7001, 1_767_268_798_500, "CTO"))
}

/// The status of a call to the added endpoint.
async fn called(bench: &Bench, secret: &str, n: u64) -> u16 {
    bench.send(hubspot_to(&format!("/in/hubspot/{KEY}"), secret, event(n))).await.status
}

#[tokio::test]
async fn an_endpoint_is_added_replaced_and_taken_away_and_the_configured_one_stays() {
    let bench = bench().await;
    assert_eq!(called(&bench, SECRET, 1).await, 401);
    bench.gateway.add_endpoints(added(1, KEY, SECRET)).unwrap();
    assert_eq!(called(&bench, SECRET, 2).await, 204);
    bench.gateway.add_endpoints(added(2, KEY, OLD_SECRET)).unwrap();
    assert_eq!((called(&bench, SECRET, 3).await, called(&bench, OLD_SECRET, 4).await), (401, 204));
    let names: Vec<_> = bench.gateway.endpoints().into_iter().map(|endpoint| endpoint.name).collect();
    assert_eq!(names, ["app", "second-app"]);
    bench.gateway.add_endpoints(Vec::new()).unwrap();
    assert_eq!(called(&bench, OLD_SECRET, 5).await, 401);
    assert_eq!(bench.send(hubspot(event(6))).await.status, 204);
}

#[tokio::test]
async fn what_cannot_be_added_changes_nothing() {
    let bench = bench().await;
    bench.gateway.add_endpoints(added(1, KEY, SECRET)).unwrap();
    let taken = HUBSPOT.rsplit('/').next().unwrap();
    let refused = bench.gateway.add_endpoints(added(2, taken, OLD_SECRET));
    assert!(matches!(&refused, Err(StartError::SameKey { first, second }) if first == "app" && second == "second-app"));
    assert_eq!(called(&bench, SECRET, 1).await, 204);
    assert_eq!(bench.send(hubspot(event(2))).await.status, 204);
}

/// Knows the second app's endpoint, and tells it at the first question.
struct Knows {
    gateway: Mutex<Option<Gateway>>,
    asked: AtomicUsize,
}

impl Directory for Knows {
    fn reread(&self) -> Reread<'_> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let gateway = self.gateway.lock().take();
            gateway.is_some_and(|gateway| gateway.add_endpoints(added(1, KEY, SECRET)).is_ok())
        })
    }
}

#[tokio::test]
async fn the_directory_is_asked_before_a_call_is_refused_and_not_when_it_is_believed() {
    let bench = bench().await;
    let knows = Arc::new(Knows { gateway: Mutex::new(Some(bench.gateway.clone())), asked: AtomicUsize::new(0) });
    bench.gateway.consult(knows.clone());
    assert_eq!(bench.send(hubspot(event(1))).await.status, 204);
    assert_eq!(knows.asked.load(Ordering::Relaxed), 0);
    assert_eq!(called(&bench, SECRET, 2).await, 204, "it was not known when the call came");
    assert_eq!(knows.asked.load(Ordering::Relaxed), 1);
    assert_eq!(called(&bench, OLD_SECRET, 3).await, 401, "a wrong signature asks as well");
    assert_eq!(knows.asked.load(Ordering::Relaxed), 2);
    assert_eq!(bench.sink.records().len(), 2);
}
