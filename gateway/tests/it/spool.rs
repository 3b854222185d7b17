//! The stream is away. Time stands still in these tests unless they move it: nothing here depends on how fast the
//! machine is, and twenty minutes pass in no time.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use headgate_gateway::config::{Limits, SpoolConfig};
use headgate_gateway::{Gateway, Remaining};
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::StreamError;
use headgate_schemas::stream::memory::Memory;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::harness::{Client, configuration, endpoints, hubspot, job_title};

const SECOND: Duration = Duration::from_secs(1);

/// Stops the clock. It would run ahead by itself whenever everybody waits, as for a disk; a blocking task that does not
/// end until this is dropped keeps it from that.
struct Frozen {
    _end: SyncSender<()>,
}

fn freeze(shutdown: &Shutdown) -> Frozen {
    let (end, ended) = sync_channel(1);
    shutdown.spawn("frozen", async move {
        tokio::task::spawn_blocking(move || ended.recv().ok()).await.ok();
    });
    tokio::time::pause();
    Frozen { _end: end }
}

struct Stage {
    stream: Memory,
    gateway: Gateway,
    shutdown: Shutdown,
    clock: Shutdown,
    frozen: Option<Frozen>,
}

fn spool(path: &Path, bytes: u64) -> SpoolConfig {
    SpoolConfig { path: path.to_owned(), bytes, deadline: SECOND }
}

impl Stage {
    async fn new(stream: &Memory, spool: Option<SpoolConfig>) -> Self {
        let limits = Limits { order_window: Duration::ZERO, append_deadline: 2 * SECOND, ..Limits::default() };
        let mut config = configuration(limits, endpoints());
        config.spool = spool;
        let (shutdown, clock) = (Shutdown::new(20 * SECOND), Shutdown::new(20 * SECOND));
        let sink = Arc::new(stream.clone());
        let gateway = headgate_gateway::start(config, sink, &mut Registry::default(), &shutdown).await.unwrap();
        let frozen = Some(freeze(&clock));
        Self { stream: stream.clone(), gateway, shutdown, clock, frozen }
    }

    /// Begins a call; its answer comes when the gateway has one.
    async fn call(&self, event: u64) -> Client {
        let mut client = Client::connect(self.gateway.local_addr()).await;
        let body = format!("[{}]", job_title(event, 7000 + event % 7, 1_767_268_798_000 + event, "CTO"));
        client.write(hubspot(body)).await;
        client
    }

    async fn status(&self, event: u64) -> u16 {
        self.call(event).await.reply().await.status
    }

    /// Moves the clock by little steps until it is so. Between them whoever can work does.
    async fn until(&self, so: impl Fn() -> bool) {
        self.stepping(Duration::from_millis(10), so).await;
    }

    /// Waits until it is so, at one and the same time.
    async fn settled(&self, so: impl Fn() -> bool) {
        self.stepping(Duration::ZERO, so).await;
    }

    async fn stepping(&self, step: Duration, so: impl Fn() -> bool) {
        for _ in 0..100_000 {
            if so() {
                return;
            }
            tokio::time::advance(step).await;
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
        }
        panic!("it never happened");
    }

    /// Events in the stream by number, each once, in the order of their first appearance.
    fn arrived(&self) -> Vec<u64> {
        let mut seen = Vec::new();
        for delivered in self.stream.records() {
            let ms: u64 = delivered.record.header("ce_sequence").unwrap().parse().unwrap();
            let event = ms - 1_767_268_798_000;
            if !seen.contains(&event) {
                seen.push(event);
            }
        }
        seen
    }

    /// Ends the gateway as the program does.
    async fn end(mut self, patience: Duration) -> Result<(), Remaining> {
        drop(self.frozen.take());
        tokio::time::resume();
        assert_eq!(self.clock.drain().await, Ok(()));
        assert_eq!(self.shutdown.drain().await, Ok(()));
        self.gateway.finish(patience).await
    }
}

fn away() -> Option<StreamError> {
    Some(StreamError::Unavailable("away".to_owned()))
}

#[tokio::test]
async fn with_a_spool_a_stream_away_for_twenty_minutes_costs_no_call_and_no_order() {
    for silent in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let stream = Memory::new(24);
        let stage = Stage::new(&stream, Some(spool(folder.path(), 64 << 20))).await;
        assert_eq!(stage.status(0).await, 204);
        if silent {
            stream.hold()
        } else {
            stream.refuse(away())
        }
        // The first call finds out, by a refusal or by the end of its deadline; the others need not.
        let mut first = stage.call(1).await;
        if silent {
            stage.settled(|| stream.waiting() == 1).await;
            // Timers have a resolution of a millisecond.
            tokio::time::advance(SECOND + Duration::from_millis(2)).await;
        }
        let began = Instant::now();
        assert_eq!(first.reply().await.status, 204);
        for event in 2..=240 {
            assert_eq!(stage.status(event).await, 204, "event {event}");
            tokio::time::advance(5 * SECOND).await;
        }
        assert!(began.elapsed() >= Duration::from_secs(1_190));
        assert_eq!(stage.arrived(), [0]);
        if silent {
            stream.release()
        } else {
            stream.refuse(None)
        }
        // What comes now is behind all that waits.
        assert_eq!(stage.status(241).await, 204);
        stage.until(|| stage.arrived().len() == 242).await;
        assert_eq!(stage.arrived(), (0..=241).collect::<Vec<_>>());
        assert_eq!(stage.end(20 * SECOND).await, Ok(()));
    }
}

#[tokio::test]
async fn without_a_spool_every_call_is_told_to_come_again_within_two_and_a_half_seconds() {
    let stream = Memory::new(24);
    let stage = Stage::new(&stream, None).await;
    stream.hold();
    for round in 0..240 {
        let mut client = stage.call(round).await;
        let began = Instant::now();
        stage.settled(|| stream.waiting() == usize::try_from(round).unwrap() + 1).await;
        tokio::time::advance(Duration::from_millis(2_500)).await;
        assert_eq!(client.reply().await.status, 503);
        assert!(began.elapsed() <= Duration::from_millis(2_500), "{:?}", began.elapsed());
        tokio::time::advance(Duration::from_millis(2_500)).await;
    }
    // The stream comes back: what it held is in it, and the repeat of each call is accepted without a second record.
    stream.release();
    for round in 0..240 {
        assert_eq!(stage.status(round).await, 204);
    }
    assert_eq!(stream.records().len(), 240);
    assert_eq!(stage.end(20 * SECOND).await, Ok(()));
}

#[tokio::test]
async fn a_restart_during_the_outage_keeps_what_was_accepted_and_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let stream = Memory::new(24);
    stream.refuse(away());
    let stage = Stage::new(&stream, Some(spool(folder.path(), 64 << 20))).await;
    for event in 0..5 {
        assert_eq!(stage.status(event).await, 204);
    }
    // The drain waits for the stream in vain and says how many remain.
    assert_eq!(stage.end(Duration::from_millis(50)).await, Err(Remaining(5)));

    let stage = Stage::new(&stream, Some(spool(folder.path(), 64 << 20))).await;
    assert_eq!(stage.status(5).await, 204);
    assert_eq!(stage.end(Duration::from_millis(50)).await, Err(Remaining(6)));

    let stage = Stage::new(&stream, Some(spool(folder.path(), 64 << 20))).await;
    stream.refuse(None);
    stage.until(|| stage.arrived().len() == 6).await;
    assert_eq!(stage.status(6).await, 204);
    stage.until(|| stage.arrived().len() == 7).await;
    assert_eq!(stage.arrived(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(stage.end(20 * SECOND).await, Ok(()));
    // Nothing is sent a second time.
    let sent = stream.records().len();
    let stage = Stage::new(&stream, Some(spool(folder.path(), 64 << 20))).await;
    assert_eq!(stage.end(20 * SECOND).await, Ok(()));
    assert_eq!(stream.records().len(), sent);
}

#[tokio::test]
async fn a_full_spool_refuses_and_loses_nothing_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let stream = Memory::new(24);
    let stage = Stage::new(&stream, Some(spool(folder.path(), 1 << 20))).await;
    stream.refuse(away());
    let mut accepted = Vec::new();
    let refused = loop {
        let event = accepted.len() as u64;
        assert!(event < 2_000, "it never gets full");
        let mut client = Client::connect(stage.gateway.local_addr()).await;
        let text = "x".repeat(20 << 10);
        client.write(hubspot(format!("[{}]", job_title(event, 7001, 1_767_268_798_000 + event, &text)))).await;
        let reply = client.reply().await;
        if reply.status != 204 {
            break (reply.status, reply.header("retry-after").map(str::to_owned));
        }
        accepted.push(event);
    };
    assert_eq!(refused, (503, Some("5".to_owned())));
    assert!(accepted.len() > 10, "{}", accepted.len());
    stream.refuse(None);
    stage.until(|| stage.arrived().len() == accepted.len()).await;
    assert_eq!(stage.arrived(), accepted);
    stage.until(|| stage.gateway.spooled_changes() == 0).await;
    assert_eq!(stage.status(5_000).await, 204);
    assert_eq!(stage.end(20 * SECOND).await, Ok(()));
}

#[tokio::test]
async fn the_drain_on_shutdown_waits_until_the_spool_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let stream = Memory::new(24);
    stream.refuse(away());
    let stage = Stage::new(&stream, Some(spool(folder.path(), 64 << 20))).await;
    for event in 0..3 {
        assert_eq!(stage.status(event).await, 204);
    }
    let (gateway, back) = (stage.gateway.clone(), stream.clone());
    let ending = stage.end(20 * SECOND);
    let returning = async move {
        assert_eq!(gateway.spooled_changes(), 3);
        back.refuse(None);
    };
    let (ended, ()) = tokio::join!(ending, returning);
    assert_eq!(ended, Ok(()));
    assert_eq!(stream.records().len(), 3);
}
