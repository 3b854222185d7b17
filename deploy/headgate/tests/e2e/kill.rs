//! The end of the process, sudden and in good order: what was answered with 2xx survives both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headgate_bench::sim::fault::{Fault, FaultRule, Scope, When};
use tokio::task::JoinHandle;

use crate::stage::{FIELDS, Stage};

/// Makes changes and posts them one array after the other, each until it is taken, until it is told to stop.
pub(crate) fn post_on(stage: &Arc<Stage>, seed: u64, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    // Users pause; the load stays well below what a debug build carries.
    post_with_pauses(stage, seed, stop, Duration::from_millis(10))
}

/// The same with `pause` after each array.
pub(crate) fn post_with_pauses(
    stage: &Arc<Stage>,
    seed: u64,
    stop: &Arc<AtomicBool>,
    pause: Duration,
) -> JoinHandle<usize> {
    let (posting, stop) = (Arc::clone(stage), Arc::clone(stop));
    stage.spawn(async move {
        let stage = posting;
        let mut choices = fastrand::Rng::with_seed(seed);
        let mut ids = Vec::new();
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            // A record is changed once in an array, and the answer lies between two arrays: no two changes of a field
            // share a millisecond.
            let mut array = Vec::new();
            let mut known = ids.clone();
            for _ in 0..choices.usize(1..=12) {
                if known.is_empty() || choices.f64() < 0.2 {
                    let (id, change) = stage.create();
                    ids.push(id);
                    array.push(change);
                } else {
                    let id = known.swap_remove(choices.usize(..known.len()));
                    array.push(stage.update(id, choices.usize(..FIELDS.len())));
                }
            }
            stage.deliver(&array).await;
            sent += array.len();
            tokio::time::sleep(pause).await;
        }
        sent
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_lose_nothing_and_double_nothing() {
    ten_kills(Stage::rough(&[]).await).await;
}

/// Kills the program ten times under load.
pub(crate) async fn ten_kills(stage: Stage) {
    let stage = Arc::new(stage);
    // Some calls take long enough for a kill to meet them in the middle, before they are applied and after.
    let slow = Fault::Slow(Duration::from_millis(60));
    let lost = Fault::Hang { wait: Duration::from_millis(60), applied: true };
    for (on, fault, share) in [(Scope::Writes, lost, 0.1), (Scope::Any, slow, 0.3)] {
        stage.salesforce.faults().push(FaultRule { on, fault, when: When::Share { share, seed: 7 } });
    }
    let stop = Arc::new(AtomicBool::new(false));
    let posters: Vec<_> = (0..4).map(|seed| post_on(&stage, 100 + seed, &stop)).collect();
    let mut moments = fastrand::Rng::with_seed(9);
    for _ in 0..10 {
        // The moment of the kill; nothing is waited for.
        tokio::time::sleep(Duration::from_millis(moments.u64(30..500))).await;
        let stage = Arc::clone(&stage);
        tokio::task::spawn_blocking(move || stage.kill_and_restart()).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    stage.salesforce.faults().clear();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_ends_with_0_and_loses_nothing() {
    drains(Stage::rough(&[]).await).await;
}

/// Drains the program three times under load.
pub(crate) async fn drains(stage: Stage) {
    let stage = Arc::new(stage);
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let posters: Vec<_> = (0..4).map(|seed| post_on(&stage, 10 * round + seed, &stop)).collect();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let ending = Arc::clone(&stage);
        let ended = tokio::task::spawn_blocking(move || {
            let ended = ending.terminate();
            ending.start();
            ended
        });
        assert_eq!(ended.await.unwrap(), (Some(0), String::new()));
        stop.store(true, Ordering::Relaxed);
        for poster in posters {
            poster.await.unwrap();
        }
    }
    stage.settled().await;
    let verdict = stage.judge();
    assert_eq!((verdict.delivered, verdict.wire_repeats), (verdict.accepted, 0));
}
