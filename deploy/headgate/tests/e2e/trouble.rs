//! A target in trouble: calls that fail, hang, are cut off or refused. Events are taken all the while, nothing is lost or
//! doubled, and what was parked flows when the trouble is over. What a target rejects for good is shown and can be
//! corrected, retried or skipped.

use std::time::{Duration, Instant};

use headgate_bench::sim::fault::{Fault, FaultRule, Refusal, Scope, When};
use serde_json::Value;

use crate::sender::until;
use crate::server::ask;
use crate::stage::{Change, FIELDS, Stage, set};

/// The shortest deadline of a call that the configuration takes.
const DEADLINE: [(&str, &str); 1] = [("HEADGATE__RELAY__LIMITS__SEND_DEADLINE", "2s")];

/// Edits ten known contacts and makes five, in two arrays that are taken whatever the target does.
async fn work(stage: &Stage, ids: &mut Vec<u64>, round: usize) {
    let changed: Vec<Change> = ids.iter().rev().take(10).map(|id| stage.update(*id, round % FIELDS.len())).collect();
    stage.deliver(&changed).await;
    let (fresh, created): (Vec<u64>, Vec<Change>) = (0..5).map(|_| stage.create()).unzip();
    stage.deliver(&created).await;
    ids.extend(fresh);
}

/// Calls of Salesforce so far.
fn calls(stage: &Stage) -> u64 {
    stage.salesforce.calls().values().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_three_seconds_parks_and_flows_again() {
    let stage = Stage::rough(&[]).await;
    let mut ids = stage.contacts(20).await;
    for (round, refusal) in [Refusal::ServerError, Refusal::Unavailable, Refusal::Unauthorized].into_iter().enumerate()
    {
        let rule = FaultRule { on: Scope::Any, fault: Fault::Refuse(refusal), when: When::UntilCleared };
        stage.salesforce.faults().push(rule);
        let rows = stage.salesforce.ids("Contact").len();
        work(&stage, &mut ids, round).await;
        // The length of the outage.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(stage.salesforce.ids("Contact").len(), rows, "{refusal:?}");
        stage.salesforce.faults().clear();
        let recovered = Instant::now();
        stage.settled().await;
        eprintln!("{refusal:?}: parked work was written {} ms after the recovery", recovered.elapsed().as_millis());
    }
    stage.judge();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_hang_or_break_off_are_looked_up_and_not_doubled() {
    let stage = Stage::rough(&DEADLINE).await;
    let mut ids = stage.contacts(20).await;
    let hang = |applied| Fault::Hang { wait: Duration::from_secs(4), applied };
    let faults = [Fault::ResetAfter, Fault::ResetBefore, hang(true), hang(false)];
    for (round, fault) in faults.into_iter().enumerate() {
        stage.salesforce.faults().next(3, Scope::Writes, fault);
        work(&stage, &mut ids, round).await;
        stage.settled().await;
        stage.salesforce.faults().clear();
    }
    let verdict = stage.judge();
    assert_eq!(verdict.delivered, verdict.accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_waited_out() {
    let stage = Stage::rough(&[]).await;
    let mut ids = stage.contacts(20).await;
    let wait = Some(Duration::from_secs(1));
    stage.hubspot.faults().next(2, Scope::Reads, Fault::Refuse(Refusal::RateLimited { retry_after: wait }));
    stage.salesforce.faults().next(2, Scope::Writes, Fault::Refuse(Refusal::Status(429)));
    let before = calls(&stage);
    work(&stage, &mut ids, 0).await;
    stage.settled().await;
    let verdict = stage.judge();
    assert_eq!(verdict.delivered, verdict.accepted);
    // A limit is waited out, not run against.
    let made = calls(&stage) - before;
    assert!(made < 40, "{made} calls for fifteen records");
}

/// The open dead letters, as the command shows them.
fn letters(stage: &Stage) -> Vec<Value> {
    let output = ask(stage.folder.path(), &stage.admin, &["deadletter", "list", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["deadletters"].as_array().unwrap().clone()
}

/// Waits for as many open dead letters and gives them.
async fn letters_become(stage: &Stage, n: usize) -> Vec<Value> {
    until("the dead letters are there", async || letters(stage).len() == n && stage.is_idle().await).await;
    letters(stage)
}

/// What stands in the Salesforce row that has the e-mail address of a contact.
fn field(stage: &Stage, id: u64, name: &str) -> Option<String> {
    let email = stage.hubspot.record("contacts", id)?.get("email")?.clone();
    let mut rows = stage.salesforce.ids("Contact").into_iter().filter_map(|id| stage.salesforce.record("Contact", &id));
    rows.find(|row| row["Email"] == *email)?[name].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rejected_is_shown_corrected_and_written_and_the_rest_of_the_batch_goes_on() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(20).await;
    let long = "x".repeat(129);
    let mut changes: Vec<Change> = ids[1..].iter().map(|id| stage.update(*id, 4)).collect();
    let bad = Change { seq: u64::MAX, event: set(&stage.hubspot, ids[0], "jobtitle", &long) };
    changes.insert(7, bad);
    stage.deliver(&changes).await;

    let letters = letters_become(&stage, 1).await;
    let letter = &letters[0];
    assert_eq!(letter["kind"], "target_rejected");
    assert_eq!((&letter["state"], &letter["target"]), (&"open".into(), &"salesforce-main".into()));
    assert_eq!((&letter["code"], &letter["fields"]), (&"STRING_TOO_LONG".into(), &serde_json::json!(["title"])));
    assert_eq!(letter["reason"], format!("Title: data value too large: {long} (max length=128)"));
    assert!(letter["next_step"].as_str().unwrap().contains("shorten the value"), "{letter}");
    stage.settled().await;

    stage.deliver(&[stage.update(ids[0], 4)]).await;
    stage.settled().await;
    let verdict = stage.judge();
    assert_eq!(verdict.delivered, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_retried_or_skipped() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(2).await;
    let rule = FaultRule {
        on: Scope::Path("/composite/sobjects".to_owned()),
        fault: Fault::RejectRecords,
        when: When::UntilCleared,
    };
    stage.salesforce.faults().push(rule);
    let changes = [stage.update(ids[0], 5), stage.update(ids[1], 5)];
    let value = |change: &Change| change.event.property_value.clone();
    stage.deliver(&changes).await;
    let open = letters_become(&stage, 2).await;
    assert!(open.iter().all(|letter| letter["code"] == "FIELD_CUSTOM_VALIDATION_EXCEPTION"), "{open:?}");
    stage.salesforce.faults().clear();

    let letter_of = |id: u64| {
        let record = serde_json::json!(["hubspot-main", id.to_string()]);
        let found = open.iter().find(|letter| letter["records"].as_array().unwrap().contains(&record));
        found.unwrap()["id"].to_string()
    };
    let run = |verb: &str, id: &str| {
        let output = ask(stage.folder.path(), &stage.admin, &["deadletter", verb, id]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (retried, skipped) = (letter_of(ids[0]), letter_of(ids[1]));
    assert_eq!(run("retry", &retried), (Some(0), format!("id     {retried}\nstate  retried\n")));
    assert_eq!(run("skip", &skipped), (Some(0), format!("id     {skipped}\nstate  skipped\n")));
    until("the retried one is written", async || field(&stage, ids[0], "MailingCity") == value(&changes[0])).await;
    letters_become(&stage, 0).await;
    assert_ne!(field(&stage, ids[1], "MailingCity"), value(&changes[1]), "a skipped change is not written");
    assert_eq!(run("retry", &skipped).0, Some(1), "it is closed");
    assert_eq!(stage.salesforce.ids("Contact").len(), 2);
}
