//! A topic that is deleted and made again on a real broker, as people do it: by Kafka's own command and `headgate check
//! --online`. The relay, a subscriber and a replay read it meanwhile, or come back later.
//!
//! What stood in the old one and was read counts; what was written into the new one is read from its start by whoever
//! reads all of it, though it soon has more records than were read of the old one. A replay has lost what it had to
//! read, and says so. The surprising thing is the replay's speed: it is slow, so that it has much to read when its topic
//! goes.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::commands::shown;
use crate::kafka::{Kafka, check};
use crate::sender::until;
use crate::server::{SPLIT, headgate};
use crate::stage::Stage;
use crate::subscriber::Subscriber;
use crate::subscriptions::{self, firsts};

/// What a replay says whose topic is no more.
const GONE: &str = "the topic was deleted and made again; what was read before is not in it";

/// A stage on a broker, with a subscriber to all contacts.
struct Scene {
    kafka: Kafka,
    stage: Stage,
    subscriber: Subscriber,
    /// Changes that the subscriber is to get, by record.
    due: BTreeMap<String, usize>,
    ids: Vec<u64>,
    _certificates: TempDir,
}

impl Scene {
    /// So many contacts stand in both CRMs, and the subscriber has heard of each.
    async fn with(contacts: usize) -> Option<Self> {
        let kafka = Kafka::start()?;
        let certificates = subscriptions::certificates();
        let authority = certificates.path().join("ca.pem");
        let open = subscriptions::open(authority.to_str().unwrap());
        let stage = kafka.stage_with(&[open, vec![(SPLIT, "1")]].concat()).await;
        let subscriber = Subscriber::open(&stage, certificates.path()).await;
        let url = subscriber.url();
        let add = ["subscription", "add", "copy", "--tenant", "acme", "--url", &url, "--object", "contact", "--json"];
        let registered: Value = serde_json::from_str(&shown(&stage, &add)).unwrap();
        subscriber.expect(registered["secret"].as_str().unwrap());
        let ids = stage.contacts(contacts).await;
        let due = ids.iter().map(|id| (id.to_string(), 1)).collect();
        let scene = Self { kafka, stage, subscriber, due, ids, _certificates: certificates };
        scene.told().await;
        Some(scene)
    }

    /// Starts a replay of everything that takes far longer than the topic will live.
    async fn replay(&self) -> Child {
        let mut command = headgate(self.stage.folder.path());
        command.args(["replay", "--from", "start", "--rate", "2", "--admin", &self.stage.admin]);
        let follower = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        until("the replay is on its way", async || self.job().await["replayed"].as_u64() >= Some(2)).await;
        follower
    }

    /// The replay.
    async fn job(&self) -> Value {
        let text = self.stage.sender.read(&format!("{}/v1/replays/1", self.stage.admin)).await;
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Deletes the topic, and makes it again.
    fn make_anew(&self) {
        self.kafka.broker.delete("headgate.changes").unwrap();
        assert!(check(self.stage.folder.path(), self.stage.vars()).contains("was made, 24 partitions"));
    }

    /// Changes every contact so many times, the next one after all have taken the last.
    async fn edit(&mut self, times: usize) {
        for field in 0..times {
            let changes: Vec<_> = self.ids.iter().map(|id| self.stage.update(*id, field)).collect();
            for array in changes.chunks(20) {
                self.stage.deliver(array).await;
            }
        }
        self.due.values_mut().for_each(|due| *due += times);
    }

    /// Waits until the subscriber was told everything, and compares: each change, in the order of its record.
    async fn told(&self) {
        until("the subscriber gets every change", async || {
            let firsts = firsts(&self.subscriber.taken());
            self.due.iter().all(|(record, due)| firsts.get(record).is_some_and(|taken| taken.len() >= *due))
        })
        .await;
        for (record, taken) in firsts(&self.subscriber.taken()) {
            assert_eq!(taken.len(), self.due[&record], "{record}: each change once, whatever was repeated");
            let times: Vec<&str> = taken.iter().map(|t| t.event["time"].as_str().unwrap()).collect();
            assert!(times.is_sorted(), "{record}: {times:?}");
        }
        assert_eq!(self.subscriber.unverified(), Vec::<String>::new());
    }

    /// Everything that was written into the new topic has arrived everywhere, and everybody was told of the change.
    async fn is_whole(&self, delivered: u64) {
        let stage = &self.stage;
        let job = self.job().await;
        assert_eq!((&job["state"], &job["reason"]), (&"failed".into(), &GONE.into()), "{job:#}");
        stage.settled().await;
        let verdict = stage.judge();
        assert_eq!((verdict.delivered, verdict.lost), (delivered, 0));
        assert_eq!(stage.accounting().await, Some((0, 0)));
        let log = stage.log();
        assert!(log.contains("the topic was deleted and made again: it is read from its start"));
        assert!(
            !log.contains("No offset to automatically reset to"),
            "it is not read with what is known of the old one"
        );

        self.told().await;
        let view: Value = serde_json::from_str(&shown(stage, &["subscription", "show", "copy", "--json"])).unwrap();
        assert_eq!((&view["state"], &view["overtaken"]), (&"well".into(), &Value::Null), "{view:#}");
        let replaced = view["replaced"].as_str().unwrap_or_default();
        assert!(replaced.contains("another stream took the place of the one that was read"), "{view:#}");
        assert!(replaced.ends_with("is lost, and 0 of its changes that waited"), "{view:#}");
    }
}

/// While all of them read it. Nothing of ours is started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_with_a_topic_that_is_made_anew_loses_nothing_of_the_new_one() {
    let Some(mut scene) = Scene::with(60).await else { return };
    let follower = scene.replay().await;
    scene.make_anew();
    scene.edit(3).await;
    let ended = follower.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("state     failed") && told.contains(GONE), "{told}");
    scene.is_whole(60 + 180).await;
}

/// The same while no relay runs, so that nobody sees it happen: the new topic has grown past every place that the relay
/// knows when it comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_with_a_topic_that_is_made_anew_while_the_relay_is_away_loses_nothing_of_it() {
    let Some(mut scene) = Scene::with(20).await else { return };
    let follower = scene.replay().await;
    scene.stage.end_relay(false);
    let ended = follower.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(4), "its server went away");
    scene.make_anew();
    scene.edit(5).await;
    scene.stage.start_relay();
    until("the replay ended", async || scene.job().await["ended"].is_string()).await;
    scene.is_whole(20 + 100).await;
}
