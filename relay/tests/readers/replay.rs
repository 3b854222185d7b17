//! Replay over the memory engine: estimate, filter, rate, progress, stop, and that what comes back is marked.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use headgate_relay::Relay;
use headgate_relay::admin::{self, OpenSource};
use headgate_relay::config::{Guard, LinkConfig, PolicyConfig, RecordsConfig};
use headgate_relay::replay::Replays;
use headgate_relay::store::StorePlace;
use headgate_schemas::change::Channel;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::memory::Memory;
use headgate_schemas::stream::{Next, Position, Source, StreamError, Topic};
use headgate_schemas::{Change, ObjectType, Timestamp, contract};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::endpoint::{append, relay};
use crate::support::{change, deal, open};

/// A running relay with replays.
pub(crate) struct Desk {
    log: Memory,
    folder: Arc<TempDir>,
    api: TowerToHyperService<Router>,
    pub(crate) shutdown: Shutdown,
}

impl Desk {
    /// Over a log with ten changes of five contacts, and two deals.
    async fn new() -> Self {
        let log = Memory::new(3);
        for at in 0..10 {
            append(&log, &change(&(at % 5).to_string(), at)).await;
        }
        append(&log, &deal("x", 10)).await;
        append(&log, &deal("y", 11)).await;
        let source = open(&log);
        Self::open(Arc::new(tempfile::tempdir().unwrap()), log, source).await
    }

    /// Over a state of its own, and readers of a log.
    async fn open(folder: Arc<TempDir>, log: Memory, source: OpenSource) -> Self {
        let place = StorePlace::Sqlite(folder.path().join("state.db"));
        let (desk, relay) = Self::at(place, folder, log, source);
        relay.handle.held().wait_for(Option::is_some).await.unwrap();
        desk
    }

    /// Over the state at a place, which it may have to wait for.
    pub(crate) fn at(place: StorePlace, folder: Arc<TempDir>, log: Memory, source: OpenSource) -> (Self, Relay) {
        let (shutdown, mut metrics) = (Shutdown::new(Duration::from_secs(5)), Registry::default());
        let relay = relay(place, folder.path(), &log, &mut metrics, &shutdown);
        let link = LinkConfig {
            name: "contacts".to_owned(),
            tenant: "acme".to_owned(),
            object: ObjectType::CONTACT,
            members: vec!["hubspot-main".to_owned(), "salesforce-main".to_owned()],
            primary: "salesforce-main".to_owned(),
            guard: Guard::Read,
            policy: PolicyConfig::default(),
            records: RecordsConfig::default(),
        };
        let replays = Replays::new(source, Arc::new(log.clone()), &[link], &relay, &shutdown);
        (Self { log, folder, api: TowerToHyperService::new(admin::replays(replays)), shutdown }, relay)
    }

    /// The program ends and starts again.
    async fn again(self) -> Self {
        // The clock of the test runs ahead while the engine works, and with it the grace.
        while self.shutdown.drain().await.is_err() {}
        let Self { log, folder, .. } = self;
        let source = open(&log);
        Self::open(folder, log, source).await
    }

    async fn ask(&self, request: Request<Body>) -> (u16, Value) {
        let response = self.api.call(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = Request::post(path).header("content-type", "application/json");
        self.ask(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn job(&self, id: u64) -> Value {
        self.ask(Request::get(format!("/v1/replays/{id}")).body(Body::empty()).unwrap()).await.1
    }

    /// The numbers of all jobs.
    async fn ids(&self) -> Vec<Value> {
        // As soon as the jobs were looked up.
        while self.post("/v1/replays/99/stop", Value::Null).await.0 != 404 {}
        let list = self.ask(Request::get("/v1/replays").body(Body::empty()).unwrap()).await.1;
        list["replays"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect()
    }

    /// Starts a job, as soon as the relay has its state: right after the topic was made anew it opens it again.
    async fn start(&self, wish: Value) {
        loop {
            match self.post("/v1/replays", wish.clone()).await {
                (200, _) => return,
                (status, answer) => assert_eq!(status, 503, "{answer:#}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the end of a job, which is there soon after the start.
    async fn ended(&self, id: u64) -> Value {
        loop {
            let job = self.job(id).await;
            if job["ended"].is_string() {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What was put into the log again.
    pub(crate) fn replayed(&self) -> Vec<Change> {
        let changes = self.log.records().into_iter().map(|d| contract::decode(&d.record).unwrap());
        changes.filter(|change| change.channel == Channel::Replay).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_volume_cost_and_time_and_changes_nothing() {
    let desk = Desk::new().await;
    let (status, estimate) = desk.post("/v1/replays/estimate", json!({ "from": "start", "rate": 4 })).await;
    assert_eq!(status, 200);
    assert_eq!((&estimate["changes"], &estimate["records"], &estimate["seconds"]), (&12.into(), &7.into(), &3.into()));
    assert_eq!(estimate["complete"], true);
    // Ten changes of five records at four a second: no record twice in a second. Three reads and three writes carry them.
    let cost = |connection: &str| {
        json!({
            "connection": connection,
            "records_at_most": 5,
            "writes_at_most": 10,
            "calls_at_most": 6,
            "note": "up to 6 calls; it has not told how many it takes in a day",
        })
    };
    assert_eq!(estimate["targets"], json!([cost("hubspot-main"), cost("salesforce-main")]));
    let wish = json!({ "from": "1970-01-01T00:00:05Z", "filter": { "object": "contact", "record": "0,1" } });
    let (_, estimate) = desk.post("/v1/replays/estimate", wish).await;
    assert_eq!((&estimate["changes"], &estimate["records"]), (&2.into(), &2.into()));
    assert_eq!(desk.log.records().len(), 12, "nothing was appended");
    // One record more than are counted.
    append(&desk.log, &deal("z", 12)).await;
    let (_, estimate) = desk.post("/v1/replays/estimate", json!({ "from": "start" })).await;
    assert_eq!((&estimate["changes"], &estimate["records"]), (&13.into(), &7.into()));
    assert_eq!(estimate["complete"], false);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_is_the_same_change_marked_and_once() {
    let desk = Desk::new().await;
    let wish = json!({ "from": "start", "filter": { "object": "contact" }, "rate": 100 });
    let (status, job) = desk.post("/v1/replays", wish.clone()).await;
    assert_eq!((status, &job["state"], &job["id"]), (200, &"running".into(), &1.into()));
    let job = desk.ended(1).await;
    assert_eq!((&job["state"], &job["replayed"], &job["read"]), (&"done".into(), &10.into(), &12.into()), "{job:#}");
    let back = desk.replayed();
    for (at, again) in (0..).zip(&back) {
        let original = change(&(at % 5).to_string(), at);
        assert!(again.id.is_replayed() && again.id != original.id);
        assert!(again.received_at > original.received_at);
        let same =
            Change { id: original.id, channel: original.channel, received_at: original.received_at, ..again.clone() };
        assert_eq!(same, original);
    }
    // A second run reads past what the first one put there.
    desk.start(wish).await;
    assert_eq!(desk.ended(2).await["replayed"], 10);
    let ids: std::collections::HashSet<_> = desk.replayed().iter().map(|change| change.id).collect();
    assert_eq!(ids.len(), 20, "each run has its own ids");
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept_and_a_job_can_be_stopped() {
    let desk = Desk::new().await;
    let started = Instant::now();
    desk.start(json!({ "from": "start", "rate": 1 })).await;
    let (status, busy) = desk.post("/v1/replays", json!({ "from": "start" })).await;
    assert_eq!((status, &busy["code"]), (409, &"replay_running".into()));
    while desk.replayed().len() < 4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(desk.post("/v1/replays/1/stop", Value::Null).await.0, 200);
    let job = desk.ended(1).await;
    assert_eq!(job["state"], "stopped");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(desk.replayed().len(), 4, "nothing comes after a stop");
    desk.start(json!({ "from": "start", "rate": 10_000 })).await;
    assert_eq!(desk.ended(2).await["state"], "done", "the next one may run");
}

#[tokio::test]
async fn wishes_that_mean_nothing_are_refused() {
    let desk = Desk::new().await;
    let table = [
        (json!({ "from": "yesterday" }), 400, "bad_position"),
        (json!({ "from": "1.2" }), 400, "bad_position"),
        (json!({ "from": "99" }), 410, "replay_position_expired"),
        (json!({ "from": "start", "rate": 0 }), 400, "bad_rate"),
        (json!({ "from": "start", "filter": { "kind": "renamed" } }), 400, "bad_filter"),
        (json!({ "form": "start" }), 400, "bad_body"),
    ];
    for (wish, status, code) in table {
        for path in ["/v1/replays/estimate", "/v1/replays"] {
            let (told, problem) = desk.post(path, wish.clone()).await;
            assert_eq!((told, problem["code"].as_str()), (status, Some(code)), "{wish}");
        }
    }
    assert_eq!(desk.post("/v1/replays/7/stop", Value::Null).await.0, 404);
    assert!(desk.replayed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_outlives_the_program_and_appends_each_change_under_one_id() {
    let desk = Desk::new().await;
    desk.start(json!({ "from": "start", "rate": 2 })).await;
    while desk.replayed().len() < 4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let desk = desk.again().await;
    let before = desk.replayed().len();
    assert!(before < 12, "it was cut off");
    let job = desk.ended(1).await;
    assert_eq!((&job["state"], &job["from"]), (&"done".into(), &"start".into()), "{job:#}");
    let ids: std::collections::HashSet<_> = desk.replayed().iter().map(|change| change.id).collect();
    assert_eq!(ids.len(), 12, "whatever was appended twice has one id");

    // Numbers go on, and what a person stopped stays stopped.
    let (_, job) = desk.post("/v1/replays", json!({ "from": "start", "rate": 1 })).await;
    assert_eq!(job["id"], 2);
    let (status, job) = desk.post("/v1/replays/2/stop", Value::Null).await;
    assert_eq!((status, &job["state"]), (200, &"stopped".into()));
    let desk = desk.again().await;
    assert_eq!(desk.ended(2).await["state"], "stopped");
    let count = desk.replayed().len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(desk.replayed().len(), count);
}

#[tokio::test]
async fn a_job_whose_caller_goes_away_is_whole_or_not_at_all() {
    // From the first step of it to long after its end.
    for polls in (0..12).map(|power| 1 << power) {
        let desk = Desk::new().await;
        let mut call = Box::pin(desk.post("/v1/replays", json!({ "from": "start", "rate": 1 })));
        for _ in 0..polls {
            // As far as it comes until something else must go on.
            if futures_util::poll!(call.as_mut()).is_ready() {
                break;
            }
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        }
        drop(call);
        // What was begun has its turn before this.
        assert_eq!(desk.post("/v1/replays/99/stop", Value::Null).await.0, 404);
        let shown = desk.ids().await;
        let desk = desk.again().await;
        assert_eq!(desk.ids().await, shown, "after {polls} looks at it");
    }
}

/// A reader of a stream that goes away for ten seconds when it is first read.
struct Away {
    source: Box<dyn Source>,
    since: Arc<Mutex<Option<Instant>>>,
    /// Whoever reads is told; else it is silent.
    tells: bool,
}

const AWAY: Duration = Duration::from_secs(10);

impl Away {
    fn answers(&self) -> Result<(), StreamError> {
        match *self.since.lock() {
            Some(since) if since.elapsed() < AWAY => Err(StreamError::Unavailable("it is away".to_owned())),
            _ => Ok(()),
        }
    }
}

impl Source for Away {
    fn topic(&self) -> Topic {
        self.source.topic()
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), StreamError> {
        self.answers()?;
        self.source.assign(positions)
    }

    fn next(&mut self, max: usize) -> Next<'_> {
        let back = *self.since.lock().get_or_insert_with(Instant::now) + AWAY;
        Box::pin(async move {
            if self.tells {
                self.answers()?;
            }
            tokio::time::sleep_until(back).await;
            self.source.next(max).await
        })
    }

    fn numbers_across(&self) -> bool {
        self.source.numbers_across()
    }

    fn bounds(&self) -> Result<Vec<(Position, Position)>, StreamError> {
        self.answers()?;
        self.source.bounds()
    }

    fn since(&self, at: Timestamp) -> Result<Vec<Position>, StreamError> {
        self.source.since(at)
    }
}

/// A desk whose stream is away for a while after it was opened.
async fn beside_one_that_is_away(tells: bool) -> Desk {
    let desk = Desk::new().await;
    let (log, since) = (desk.log.clone(), Arc::new(Mutex::new(None)));
    let source: OpenSource = {
        let (log, since) = (log.clone(), Arc::clone(&since));
        Arc::new(move || Ok(Box::new(Away { source: Box::new(log.source()), since: Arc::clone(&since), tells })))
    };
    Desk::open(Arc::new(tempfile::tempdir().unwrap()), log, source).await
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_away_is_waited_for_whether_it_says_so_or_is_silent() {
    for tells in [false, true] {
        let desk = beside_one_that_is_away(tells).await;
        desk.start(json!({ "from": "start", "rate": 100 })).await;
        let job = desk.ended(1).await;
        assert_eq!((&job["state"], &job["replayed"]), (&"done".into(), &12.into()), "{tells} {job:#}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_estimate_is_made_at_a_time() {
    let desk = beside_one_that_is_away(false).await;
    let ask = || desk.post("/v1/replays/estimate", json!({ "from": "start" }));
    let (first, second) = tokio::join!(ask(), ask());
    assert_eq!((first.0, &first.1["changes"]), (200, &12.into()));
    assert_eq!((second.0, &second.1["code"]), (503, &"replay_busy".into()));
    // Whoever hangs up makes room.
    assert_eq!(ask().await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_topic_was_made_anew_fails_and_reads_nothing_of_the_new_one() {
    const GONE: &str = "the topic was deleted and made again; what was read before is not in it";
    let wish = json!({ "from": "start", "rate": 100 });
    for while_away in [true, false] {
        let desk = Desk::new().await;
        // More than is read at once: what was read is appended whatever becomes of the topic.
        for at in 0..600 {
            append(&desk.log, &change("a", at)).await;
        }
        desk.start(wish.clone()).await;
        while desk.replayed().len() < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let anew = async |log: &Memory| {
            log.make_anew();
            // Longer than the old one, so that every place of that is one in this.
            for at in 0..1_000 {
                append(log, &change("z", at)).await;
            }
        };
        let desk = if while_away {
            while desk.shutdown.drain().await.is_err() {}
            let Desk { log, folder, .. } = desk;
            anew(&log).await;
            let source = open(&log);
            Desk::open(folder, log, source).await
        } else {
            anew(&desk.log).await;
            desk
        };
        let job = desk.ended(1).await;
        assert_eq!((&job["state"], &job["reason"]), (&"failed".into(), &GONE.into()), "{while_away} {job:#}");
        assert!(desk.replayed().iter().all(|change| change.object.id.as_deref() != Some("z")), "{while_away}");
        // Another one may be started in the new topic.
        desk.start(json!({ "from": "start", "rate": 10_000 })).await;
        assert_eq!(desk.ended(2).await["replayed"], 1_000, "{while_away}");
    }
}
