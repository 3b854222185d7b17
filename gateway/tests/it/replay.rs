//! The same signed call again: the first answer again, and no second effect, across restarts as well.

use std::sync::Arc;
use std::time::Duration;

use headgate_gateway::Gateway;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::embedded::{Embedded, EmbeddedConfig};
use prometheus_client::registry::Registry;

use super::harness::{Bench, Client, Mode, configuration, endpoints, hubspot, job_title, limits, native, within};

fn calls() -> [Vec<u8>; 3] {
    let event = |n| job_title(n, 7001, 1_767_268_798_500, "CTO");
    let body = r#"{"type":"contact.updated","timestamp":"2026-01-01T11:59:57.120Z","data":{"id":"c_19","name":"R"}}"#;
    [hubspot(format!("[{}]", event(1))), hubspot(format!("[{},{}]", event(2), event(3))), native("msg_1", body)]
}

#[tokio::test]
async fn the_first_answer_is_given_again_and_nothing_happens_twice() {
    let bench = Bench::new().await;
    for call in calls() {
        let first = bench.send(&call).await.undated();
        assert_eq!(first.status, 204);
        for _ in 0..3 {
            assert_eq!(bench.send(&call).await.undated(), first);
        }
    }
    assert_eq!(bench.sink.records().len(), 4);
    // A call that was malformed stays malformed.
    let bad = hubspot("[{}]");
    assert_eq!(bench.send(&bad).await.undated(), bench.send(&bad).await.undated());
}

#[tokio::test]
async fn a_first_failure_frees_the_call() {
    let bench = Bench::new().await;
    for call in calls() {
        bench.sink.set(Mode::Refuse);
        assert_eq!(bench.send(&call).await.status, 503);
        bench.sink.set(Mode::Acknowledge);
        assert_eq!(bench.send(&call).await.status, 204);
        assert_eq!(bench.send(&call).await.status, 204);
    }
    assert_eq!(bench.sink.records().len(), 4);
}

struct Run {
    log: Arc<Embedded>,
    gateway: Gateway,
    shutdown: Shutdown,
    registry: Registry,
}

impl Run {
    async fn start(folder: &std::path::Path) -> Self {
        let log = Arc::new(Embedded::open(EmbeddedConfig::new(folder)).unwrap());
        let (shutdown, mut registry) = (Shutdown::new(Duration::from_secs(20)), Registry::default());
        let config = configuration(limits(), endpoints());
        let sink = Arc::clone(&log);
        let gateway = headgate_gateway::start(config, sink, &mut registry, &shutdown).await.unwrap();
        gateway.remember(Box::new(log.source()));
        Self { log, gateway, shutdown, registry }
    }

    fn warmed(&self) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|line| line == "gw_dedup_warmed_total 4")
    }

    async fn send(&self, call: &[u8]) -> u16 {
        Client::connect(self.gateway.local_addr()).await.send(call).await.status
    }

    async fn end(self) -> u64 {
        assert_eq!(self.shutdown.drain().await, Ok(()));
        let end = self.log.stats().end_offset;
        self.log.close();
        end
    }
}

#[tokio::test]
async fn a_restart_remembers_the_last_minutes_of_the_stream() {
    let (folder, calls) = (tempfile::tempdir().unwrap(), calls());
    let run = Run::start(folder.path()).await;
    for call in &calls {
        assert_eq!(run.send(call).await, 204);
    }
    assert_eq!(run.end().await, 4);

    let run = Run::start(folder.path()).await;
    within(async {
        while !run.warmed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    for call in &calls {
        assert_eq!(run.send(call).await, 204);
    }
    assert_eq!(run.end().await, 4, "no record was added");
}
