//! What takes Kafka longer than anybody waits in a test: a broker that is away for longer than its clients keep a message,
//! fifteen still minutes, and a relay that is exchanged every ten seconds (of two at once: see `relays`).
//!
//! They run when they are asked for: [`VARIABLE`] is a share of the full length (1 for all of it, 0.01 to see that they
//! work), beside the variable that asks for a broker. Each tells what it saw, for the report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::kafka::{Kafka, under_load};
use crate::kill;
use crate::sender::DEADLINE;
use crate::stage::Stage;

/// The environment variable that asks for them.
const VARIABLE: &str = "HEADGATE_KAFKA_LONG";

/// How long `full` is in this run, if these runs are asked for.
pub(crate) fn length(full: Duration) -> Option<Duration> {
    let share: f64 = std::env::var(VARIABLE).ok()?.parse().unwrap();
    Some(full.mul_f64(share))
}

/// A broker with it.
fn asked(full: Duration) -> Option<(Kafka, Duration)> {
    let length = length(full)?;
    Some((Kafka::start()?, length))
}

/// Everything that was sent is delivered once, and nothing is open.
async fn judged(what: &str, stage: &Stage, posters: Vec<JoinHandle<usize>>, since: Instant) {
    let mut sent = 0;
    for poster in posters {
        sent += poster.await.unwrap();
    }
    let ended = Instant::now();
    stage.settled().await;
    let verdict = stage.judge();
    assert_eq!(verdict.delivered, sent as u64);
    assert_eq!(stage.accounting().await, Some((0, 0)));
    let (length, after) = (ended.duration_since(since).as_secs(), ended.elapsed().as_secs_f64());
    eprintln!(
        "{what}: {length} s, {sent} changes sent, {} delivered, {} lost, {} duplicated, {} reordered; settled {after:.1} s \
         after the last was taken",
        verdict.delivered, verdict.lost, verdict.duplicated, verdict.reordered,
    );
}

fn posters(stage: &Arc<Stage>, stop: &Arc<AtomicBool>, seed: u64) -> Vec<JoinHandle<usize>> {
    (0..2).map(|n| kill::post_with_pauses(stage, seed + n, stop, Duration::from_millis(200))).collect()
}

/// librdkafka by itself keeps a message for 300 s and then drops it; nothing here waits so long, or for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_long_away_for_longer_than_a_message_lives() {
    let Some((mut kafka, length)) = asked(Duration::from_secs(330)) else { return };
    let mut stage = kafka.stage(true).await;
    // A busy machine takes its time to start a broker.
    stage.sender.patience += length + 3 * DEADLINE;
    let (stage, stop) = (Arc::new(stage), Arc::new(AtomicBool::new(false)));
    let since = Instant::now();
    let posters = posters(&stage, &stop, 500);
    under_load(&stage).await;
    kafka = tokio::task::spawn_blocking(move || {
        kafka.broker.kill().unwrap();
        kafka
    })
    .await
    .unwrap();
    // The length of the outage.
    tokio::time::sleep(length).await;
    let _kafka = tokio::task::spawn_blocking(move || {
        kafka.broker.up().unwrap();
        kafka
    })
    .await
    .unwrap();
    under_load(&stage).await;
    stop.store(true, Ordering::Relaxed);
    judged("broker away", &stage, posters, since).await;
}

/// Brokers close connections that are still for ten minutes, and forget producers that are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_long_still_and_then_busy() {
    let Some((kafka, length)) = asked(Duration::from_secs(15 * 60)) else { return };
    let stage = Arc::new(kafka.stage(true).await);
    let since = Instant::now();
    let before = stage.contacts(20).await.len();
    // The length of the stillness.
    tokio::time::sleep(length).await;
    let stop = Arc::new(AtomicBool::new(false));
    let woken = Instant::now();
    let posters = posters(&stage, &stop, 600);
    under_load(&stage).await;
    eprintln!("the first changes after the stillness were taken within {} ms", woken.elapsed().as_millis());
    stop.store(true, Ordering::Relaxed);
    let mut sent = before;
    for poster in posters {
        sent += poster.await.unwrap();
    }
    let counted = stage.spawn(async move { sent });
    judged("stillness", &stage, vec![counted], since).await;
}

/// Drained and killed in turn; the next one takes the partitions where the last one stood.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_long_with_a_relay_that_is_exchanged_every_ten_seconds() {
    let Some((kafka, length)) = asked(Duration::from_secs(600)) else { return };
    let (stage, stop) = (Arc::new(kafka.stage(true).await), Arc::new(AtomicBool::new(false)));
    let since = Instant::now();
    let posters = posters(&stage, &stop, 700);
    let mut exchanged = 0;
    while since.elapsed() < length || exchanged < 2 {
        // The time that each relay has.
        tokio::time::sleep(Duration::from_secs(10).min(length)).await;
        let (ending, suddenly) = (Arc::clone(&stage), exchanged % 2 == 0);
        let started = tokio::task::spawn_blocking(move || {
            ending.end_relay(suddenly);
            ending.start_relay();
        })
        .await;
        assert!(started.is_ok(), "no relay after {exchanged}:\n{}", stage.log());
        exchanged += 1;
    }
    stop.store(true, Ordering::Relaxed);
    eprintln!("the relay was exchanged {exchanged} times");
    judged("relays exchanged", &stage, posters, since).await;
}
