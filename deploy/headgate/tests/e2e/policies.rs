//! People in both CRMs edit the same records at once, under every policy. All ends equal or asked about, every decision
//! can be looked up, and when the edits stop the writes stop. The control run takes away what recognises our own writes.
//!
//! The surprising thing: in the short form the policies share one run, one field each, because a policy is a field's
//! matter. The long form (`HEADGATE_BOTH_WAYS_SECONDS=60`) gives each policy a run of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{Habits, World, hubspot_name, is_clean_but_for_the_untold, work};

/// The same records for everybody.
const RECORDS: usize = 200;
/// Everything in one link: a policy per field.
const EACH: &str = r#"default = "last_write"
fields = { first_name = "ours", last_name = "theirs", title = { policy = "field_priority", order = ["hubspot-main", "salesforce-main"] }, city = "manual" }"#;
/// The rank of the members is a field's matter: it cannot be the default of a link.
const RANKED: &str = r#"default = "last_write"
[link.policy.fields]
first_name = { policy = "field_priority", order = ["hubspot-main", "salesforce-main"] }
last_name = { policy = "field_priority", order = ["salesforce-main", "hubspot-main"] }
email = { policy = "field_priority", order = ["hubspot-main", "salesforce-main"] }
phone = { policy = "field_priority", order = ["salesforce-main", "hubspot-main"] }
title = { policy = "field_priority", order = ["hubspot-main", "salesforce-main"] }
city = { policy = "field_priority", order = ["salesforce-main", "hubspot-main"] }"#;
const GUARD: &str = "guard = \"read\"";
const POLICY: &str = "default = \"last_write\"\nfields = { lifecycle = \"theirs\" }";

/// Length of a long run; a short one takes a few seconds.
fn seconds() -> Option<u64> {
    std::env::var("HEADGATE_BOTH_WAYS_SECONDS").ok().map(|n| n.parse().unwrap())
}

fn with_policy(file: &str, policy: &str) -> String {
    assert!(file.contains(POLICY), "the documented configuration has a policy");
    file.replace(POLICY, policy)
}

/// People work in both CRMs for a while.
async fn quarrel(world: &Arc<World>, records: usize, length: Duration) {
    let people = world.people(records).await;
    // Webhooks take their time and overtake each other; what we wrote is told long after it was replaced.
    world.witness.hold_back(Duration::from_secs(2));
    let stop = Arc::new(AtomicBool::new(false));
    let habits = |seed| Habits {
        seed,
        pause: Duration::from_millis(12),
        salesforce: 0.5,
        creates: 0.0,
        crowd: 0.6,
        apart: Duration::ZERO,
    };
    let working: Vec<_> = (0..3).map(|seed| work(world, &people, habits(seed), &stop)).collect();
    // How long they work.
    tokio::time::sleep(length).await;
    stop.store(true, Ordering::Relaxed);
    for person in working {
        person.await.unwrap();
    }
}

/// A person answers every open question, for one side or the other. Answers what was decided, for the judge.
async fn answer_all(world: &World) -> Vec<Value> {
    let open = world.conflicts().await;
    let mut decided = Vec::new();
    for (n, conflict) in open.iter().enumerate() {
        let candidates = conflict["candidates"].as_array().unwrap();
        assert!(!candidates.is_empty(), "{conflict}");
        let member = candidates[n % candidates.len()]["member"].as_str().unwrap();
        let url = format!("{}/v1/conflicts/{}/resolve", world.admin(), conflict["id"]);
        let answer: Value = world.sender.send(&url, &json!({"member": member})).await;
        assert_eq!(answer["state"], "resolved", "{answer} for {conflict}");
        let ids: Vec<&Value> = conflict["records"].as_array().unwrap().iter().map(|record| &record[1]).collect();
        let values: Vec<&Value> = candidates.iter().map(|candidate| &candidate["value"]).collect();
        decided
            .push(json!({"what": "decision", "ids": ids, "values": values, "field": hubspot_name(&conflict["field"])}));
    }
    decided
}

/// One run under a policy, judged.
async fn run(policy: &str, length: Duration) {
    let world = Arc::new(World::watched(|file| with_policy(&file, policy), &[]).await);
    quarrel(&world, RECORDS, length).await;
    world.settled(&[]).await;
    let asked = answer_all(&world).await;
    eprintln!("{policy}: {} questions answered", asked.len());
    let report = world.end(Duration::from_secs(2), &asked).await;
    assert_eq!(report.held, 0, "every question was answered");
    assert!(report.decisions > 0, "people met");
    is_clean_but_for_the_untold(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_on_both_sides_at_once_converge_under_every_policy() {
    let Some(seconds) = seconds() else { return run(EACH, Duration::from_secs(8)).await };
    for policy in
        [RANKED, r#"default = "manual""#, r#"default = "ours""#, r#"default = "theirs""#, r#"default = "last_write""#]
    {
        run(policy, Duration::from_secs(seconds)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_recognition_of_our_own_writes_edits_are_lost_or_fought_over() {
    // Without the look before each write, which would show most edits in time whoever made them.
    let unguarded = |file: String| {
        assert!(file.contains(GUARD), "the documented configuration has a guard");
        file.replace(GUARD, "guard = \"none\"")
    };
    let world = Arc::new(World::open(unguarded, &[("HEADGATE_BLIND", "1")]).await);
    quarrel(&world, 10, Duration::from_secs(4)).await;
    // Long enough for what is told late; a run that goes on for ever would never be idle.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let report = world.judged(&[]).await;
    eprintln!("the control, which must be found guilty:\n{report}");
    let guilty = report.looping.len() + report.reordered.len() + report.lost.len() + report.differing.len();
    assert!(guilty > 0, "a judge that finds nothing here finds nothing anywhere: {report}");
}
