//! Load without trouble: creations, repeats, disorder, and one record that changes all the time.

use std::collections::BTreeSet;
use std::time::Duration;

use headgate_bench::sim::hubspot::WebhookEvent;
use headgate_schemas::time;
use tokio::task::JoinHandle;

use crate::stage::{Change, FIELDS, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creations_without_values_and_five_changes_of_each_land_once_and_right() {
    creations_and_changes(Stage::open(&[]).await).await;
}

/// Five hundred contacts, and five changes of each.
pub(crate) async fn creations_and_changes(stage: Stage) {
    let ids = stage.contacts(500).await;
    assert_eq!(stage.salesforce.ids("Contact").len(), 500);
    for round in 0..5 {
        let changes: Vec<Change> =
            ids.iter().enumerate().map(|(i, id)| stage.update(*id, (round + i) % FIELDS.len())).collect();
        for array in changes.chunks(100) {
            stage.deliver(array).await;
        }
    }
    stage.settled().await;
    let verdict = stage.judge();
    assert_eq!((verdict.sent, verdict.delivered), (3_000, 3_000));
    assert_eq!(stage.salesforce.ids("Contact").len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_come_three_and_forty_times_at_once_have_one_effect() {
    let stage = Stage::open(&[]).await;
    let (ids, created): (Vec<u64>, Vec<Change>) = (0..30).map(|_| stage.create()).unzip();
    storm(&stage, &created).await;
    stage.settled().await;
    for round in 0..4 {
        next_ms();
        let changed: Vec<Change> = ids.iter().map(|id| stage.update(*id, round)).collect();
        storm(&stage, &changed).await;
    }
    stage.settled().await;
    let verdict = stage.judge();
    assert_eq!((verdict.delivered, verdict.duplicated), (150, 0));
    assert_eq!(stage.salesforce.ids("Contact").len(), 30);
}

/// Posts every change three times and every tenth forty times, all at once.
async fn storm(stage: &Stage, changes: &[Change]) {
    stage.posted(changes);
    let mut posts = Vec::new();
    for (i, change) in changes.iter().enumerate() {
        let times = if i % 10 == 0 { 40 } else { 3 };
        posts.extend((0..times).map(|_| post(stage, vec![change.event.clone()])));
    }
    for post in posts {
        post.await.unwrap();
    }
    stage.accepted(changes);
}

fn post(stage: &Stage, events: Vec<WebhookEvent>) -> JoinHandle<()> {
    let sender = stage.sender.clone();
    stage.spawn(async move { sender.deliver(&events).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_change_wins_when_a_third_of_them_comes_late() {
    const ROUNDS: usize = 60;
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(25).await;
    let mut choices = fastrand::Rng::with_seed(30);
    let mut held: Vec<(usize, Change)> = Vec::new();
    // Thirty seconds of users' work; what is held back comes any time later, up to the very end.
    for round in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut array = Vec::new();
        for id in &ids {
            let change = stage.update(*id, choices.usize(..FIELDS.len()));
            if choices.f64() < 0.3 {
                held.push((choices.usize(round + 1..=ROUNDS), change));
            } else {
                array.push(change);
            }
        }
        let (due, later) = held.into_iter().partition(|(due, _)| *due <= round);
        held = later;
        array.extend(due.into_iter().map(|(_, change)| change));
        choices.shuffle(&mut array);
        stage.deliver(&array).await;
    }
    let mut rest: Vec<Change> = held.into_iter().map(|(_, change)| change).collect();
    choices.shuffle(&mut rest);
    for array in rest.chunks(7) {
        stage.deliver(array).await;
    }
    stage.settled().await;
    let verdict = stage.judge();
    assert_eq!((verdict.delivered, verdict.reordered), (25 + 1_500, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_changes_a_thousand_times_costs_few_writes() {
    let stage = Stage::open(&[]).await;
    let id = stage.contacts(1).await[0];
    let before = stage.salesforce.writes().len();
    let mut posts = Vec::new();
    let mut changes = Vec::new();
    for _ in 0..1_000 {
        next_ms();
        let change = stage.update(id, 4);
        stage.posted(std::slice::from_ref(&change));
        posts.push(post(&stage, vec![change.event.clone()]));
        changes.push(change);
    }
    for post in posts {
        post.await.unwrap();
    }
    stage.accepted(&changes);
    stage.settled().await;
    stage.judge();
    let calls: BTreeSet<u64> = stage.salesforce.writes_since(before).iter().map(|write| write.call).collect();
    eprintln!("{} writes for 1000 changes", calls.len());
    assert!((1..250).contains(&calls.len()), "{} writes for 1000 changes", calls.len());
}

/// Lets the millisecond end: two changes of one field in one millisecond have no order that anybody could tell.
fn next_ms() {
    let now = time::now().millis();
    while time::now().millis() == now {
        std::hint::spin_loop();
    }
}
