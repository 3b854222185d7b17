//! Senders that behave like providers (send again until 2xx, sometimes hang up) against a stream with seeded faults.
//! Judged at every 2xx: the changes it stands for are in the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::memory::{Faults, Memory, MemoryConfig};
use prometheus_client::registry::Registry;

use super::harness::{Client, endpoints, hubspot, job_title, limits, start};

const SENDERS: u64 = 8;
const REQUESTS: u64 = 25;

/// The events a log holds, by record and time, without repeats.
fn kept(log: &Memory) -> BTreeSet<(String, String)> {
    let place = |r: headgate_schemas::stream::Delivered| {
        (r.record.key.clone(), r.record.header("ce_sequence").unwrap().to_owned())
    };
    log.records().into_iter().map(place).collect()
}

fn expected(contact: u64, ms: u64) -> (String, String) {
    (format!("acme/hubspot/5550123/contact/{contact}"), format!("{:020}", 1_767_268_798_000 + ms))
}

/// Sends requests of two events until each is accepted; every third attempt hangs up without waiting.
/// Answers how often it was told to come again.
async fn sender(at: std::net::SocketAddr, contact: u64, log: Memory) -> u64 {
    let (mut attempts, mut refused, mut client) = (0, 0, Client::connect(at).await);
    for request in 0..REQUESTS {
        let (first, second) = (request * 2, request * 2 + 1);
        let event = |ms| job_title(contact * 1_000 + ms, contact, 1_767_268_798_000 + ms, "x");
        loop {
            attempts += 1;
            let call = hubspot(format!("[{},{}]", event(second), event(first)));
            if attempts % 3 == 0 {
                client.write(call).await;
                client = Client::connect(at).await;
                continue;
            }
            let status = client.send(call).await.status;
            if status == 204 {
                let kept = kept(&log);
                assert!(kept.contains(&expected(contact, first)) && kept.contains(&expected(contact, second)));
                break;
            }
            assert_eq!(status, 503);
            refused += 1;
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_stream_does_a_2xx_is_in_the_log_and_nothing_is_lost() {
    for seed in 1..=3 {
        let faults = Faults { full: 100, unavailable: 100, indefinite: 100, repeat: 50, ..Faults::default() };
        let log = Memory::with(MemoryConfig { seed, faults, ..MemoryConfig::default() });
        let shutdown = Shutdown::new(Duration::from_secs(20));
        let mut registry = Registry::default();
        let gateway = start(limits(), endpoints(), Arc::new(log.clone()), &mut registry, &shutdown).await;
        let senders = (1..=SENDERS).map(|contact| {
            let sender = sender(gateway.local_addr(), contact, log.clone());
            shutdown.spawn("sender", sender)
        });
        let mut refused = 0;
        for sender in senders.collect::<Vec<_>>() {
            refused += sender.await.unwrap();
        }
        assert_eq!(shutdown.drain().await, Ok(()));
        let all = (1..=SENDERS).flat_map(|contact| (0..REQUESTS * 2).map(move |ms| expected(contact, ms)));
        assert_eq!(kept(&log), all.collect::<BTreeSet<_>>(), "seed {seed}");
        assert!(refused > 0, "seed {seed} had no fault at all");
    }
}
