//! The same scenarios on Apache Kafka, and what only a broker between gateway and relay can do: go away, stand still.
//!
//! They run where a broker is asked for, see [`broker`]; each has one of its own, because it is killed under it. The
//! topic is made by `headgate check --online`, as people make it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headgate_bench::broker::{self, Broker};
use tempfile::TempDir;

use crate::sender::until;
use crate::server::{self, SPLIT, headgate};
use crate::stage::Stage;
use crate::{flow, kill, readers, subscriptions};

pub(crate) const ENGINE: &str = "HEADGATE__STREAM__ENGINE";

/// A broker and its data.
pub(crate) struct Kafka {
    pub(crate) broker: Broker,
    _folder: TempDir,
}

impl Kafka {
    /// Starts one, if it is asked for.
    pub(crate) fn start() -> Option<Self> {
        let script = broker::script()?;
        let folder = tempfile::tempdir().unwrap();
        Some(Self { broker: Broker::start(&script, folder.path(), None).unwrap(), _folder: folder })
    }

    /// What a server on it has in its environment.
    pub(crate) fn vars(&self) -> [(&'static str, String); 4] {
        [
            (ENGINE, "kafka".to_owned()),
            ("HEADGATE__STREAM__BROKERS", self.broker.address()),
            ("HEADGATE__STREAM__REPLICATION", "1".to_owned()),
            ("HEADGATE__STREAM__MIN_IN_SYNC", "1".to_owned()),
        ]
    }

    pub(crate) async fn stage(&self, split: bool) -> Stage {
        self.stage_with(if split { &[(SPLIT, "1")] } else { &[] }).await
    }

    /// A stage whose server has further variables in its environment.
    pub(crate) async fn stage_with(&self, more: &[(&str, &str)]) -> Stage {
        let vars = self.vars();
        let vars: Vec<_> =
            vars.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect();
        Stage::rough(&vars).await
    }
}

/// Makes the topic where the variables name Kafka.
pub(crate) fn make_topic(folder: &Path, vars: &[(String, String)]) {
    if !vars.iter().any(|(name, value)| name == ENGINE && value == "kafka") {
        return;
    }
    server::write_file(folder);
    assert!(check(folder, vars).contains("stream.topic[headgate.changes]: was made, 24 partitions"));
    assert!(check(folder, vars).contains("stream.topic[headgate.changes]: is there, 24 partitions"));
}

/// `headgate check --online`, which finds nothing wrong.
pub(crate) fn check(folder: &Path, vars: &[(String, String)]) -> String {
    let output = headgate(folder).args(["check", "headgate.toml", "--online"]).envs(vars.iter().cloned()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_carries_creations_and_changes() {
    let Some(kafka) = Kafka::start() else { return };
    flow::creations_and_changes(kafka.stage(false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_between_two_processes_carries_creations_and_changes() {
    let Some(kafka) = Kafka::start() else { return };
    flow::creations_and_changes(kafka.stage(true).await).await;
}

/// Whoever reads along does so on this engine, too: `tail`, a subscriber behind TLS, and replays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_read_along_from_any_position() {
    let Some(kafka) = Kafka::start() else { return };
    readers::lines_say_where_to_go_on(kafka.stage(true).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_feeds_a_subscriber_through_refusals_and_a_kill() {
    let Some(kafka) = Kafka::start() else { return };
    let certificates = subscriptions::certificates();
    let authority = certificates.path().join("ca.pem");
    let stage = kafka.stage_with(&subscriptions::open(authority.to_str().unwrap())).await;
    subscriptions::through_refusals_and_a_kill(stage, certificates).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_goes_on_with_a_replay_after_a_kill() {
    let Some(kafka) = Kafka::start() else { return };
    readers::replay_through_a_kill(kafka.stage(true).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_outlives_ten_kills_of_the_program() {
    let Some(kafka) = Kafka::start() else { return };
    kill::ten_kills(kafka.stage(true).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_drained_under_load() {
    let Some(kafka) = Kafka::start() else { return };
    kill::drains(kafka.stage(false).await).await;
}

/// The broker is killed ten times under load, and stands still once for longer than any deadline; nobody starts
/// anything of ours again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_killed_ten_times_and_stopped_once_loses_nothing() {
    let Some(mut kafka) = Kafka::start() else { return };
    let stage = Arc::new(kafka.stage(true).await);
    let stop = Arc::new(AtomicBool::new(false));
    let posters: Vec<_> = (0..4).map(|seed| kill::post_on(&stage, 300 + seed, &stop)).collect();
    for _ in 0..10 {
        under_load(&stage).await;
        kafka = tokio::task::spawn_blocking(move || {
            kafka.broker.kill().unwrap();
            kafka.broker.up().unwrap();
            kafka
        })
        .await
        .unwrap();
    }
    under_load(&stage).await;
    kafka.broker.pause().unwrap();
    // The length of the outage.
    tokio::time::sleep(Duration::from_secs(30)).await;
    kafka.broker.go_on().unwrap();
    under_load(&stage).await;
    stop.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for poster in posters {
        sent += poster.await.unwrap();
    }
    assert!(sent > 100, "only {sent} changes were posted");
    stage.settled().await;
    let verdict = stage.judge();
    assert_eq!(verdict.delivered, sent as u64);
    assert_eq!(stage.accounting().await, Some((0, 0)));
}

/// Waits until some more changes were taken, so that the next fault meets others under way.
pub(crate) async fn under_load(stage: &Stage) {
    let before = stage.taken();
    until("changes are taken again", async || stage.taken() > before + 20).await;
}
