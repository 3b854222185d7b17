//! The process dies at every named step of gateway, stream and relay, under load, again and again on the same data; then
//! a judge that knows nothing of the product counts what became of everything.
//!
//! The surprising thing: nobody kills anybody. The program is told where to die and does it itself, so a step that it
//! does not pass any more fails the test instead of making it weaker.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headgate_schemas::stream::embedded;

use crate::world::{Habits, World, is_clean_but_for_the_untold, work};

/// Smallest segments that can be configured, so that they are often full.
const SMALL: [(&str, &str); 1] = [("HEADGATE__STREAM__SEGMENT_BYTES", "1048576")];

/// Rounds over all steps; one in an ordinary test run, more by `HEADGATE_KILL_ROUNDS`.
fn rounds() -> u64 {
    std::env::var("HEADGATE_KILL_ROUNDS").map_or(1, |n| n.parse().unwrap())
}

/// Steps that the writer takes only when a segment is full.
fn rotates(place: &str) -> bool {
    ["stream.full", "stream.built", "stream.named", "stream.closed", "stream.checkpointed"].contains(&place)
}

/// Steps that a process takes seldom.
fn is_rare(place: &str) -> bool {
    rotates(place) || place.starts_with("relay.recover") || place.starts_with("relay.login")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_step_loses_nothing_and_doubles_nothing() {
    let world = Arc::new(World::with_a_login(&SMALL).await);
    let people = world.people(60).await;
    world.kill();
    let stop = Arc::new(AtomicBool::new(false));
    let habits = |seed| Habits {
        seed,
        pause: Duration::from_millis(20),
        salesforce: 0.4,
        creates: 0.05,
        crowd: 0.2,
        apart: Duration::ZERO,
    };
    let working: Vec<_> = (0..3).map(|seed| work(&world, &people, habits(seed), &stop)).collect();
    let places = headgate_gateway::STEPS.into_iter().chain(embedded::STEPS).chain(headgate_relay::STEPS);
    let places: Vec<&str> = places.map(|place| place.name()).collect();
    let mut dice = fastrand::Rng::with_seed(11);
    for _ in 0..rounds() {
        for place in &places {
            // The first passage meets the work of a start, a later one the work of a running process.
            for nth in if is_rare(place) { vec![1] } else { vec![1, dice.u64(2..30)] } {
                let (dying, place) = (Arc::clone(&world), (*place).to_owned());
                let filling = Arc::new(AtomicBool::new(rotates(&place)));
                let ballast = fill(&world, &filling);
                let died = tokio::task::spawn_blocking(move || {
                    let died = dying.die_at(&place, nth);
                    dying.chronicle.crash(&place);
                    died
                });
                assert_eq!(died.await.unwrap().signal(), Some(9), "it kills itself");
                filling.store(false, Ordering::Relaxed);
                ballast.await.unwrap();
            }
        }
    }
    world.start();
    stop.store(true, Ordering::Relaxed);
    for person in working {
        person.await.unwrap();
    }
    let report = world.end(Duration::from_secs(1), &[]).await;
    for place in places {
        let hit = report.crashes.get(place).copied().unwrap_or(0);
        assert!(hit >= rounds(), "{place} was met {hit} times");
    }
    is_clean_but_for_the_untold(&report);
}

/// Fills the stream while it is told to.
fn fill(world: &Arc<World>, on: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let (filling, on) = (Arc::clone(world), Arc::clone(on));
    world.spawn(async move {
        while on.load(Ordering::Relaxed) {
            filling.ballast(60_000);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    })
}
