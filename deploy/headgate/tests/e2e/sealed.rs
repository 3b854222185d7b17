//! What must not be seen: secrets and values of fields in what the program prints, logs and measures.

use std::collections::BTreeMap;

use headgate_bench::sim::fault::{Fault, Refusal, Scope};
use headgate_bench::sim::hubspot::{HubspotEdit, WebhookEvent};

use crate::sender::until;
use crate::server::SECRETS;
use crate::stage::{Stage, set};

/// Found in every value of this test and nowhere else.
const MARK: &str = "Zyzzyva";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_no_value_is_printed_logged_or_measured() {
    let stage = Stage::open(&[("HEADGATE_LOG", "debug")]).await;
    let mark = MARK.to_lowercase();
    let values = [
        ("email", format!("{mark}@{mark}.example.com")),
        ("firstname", format!("{MARK} first")),
        ("lastname", format!("{MARK} last")),
        ("jobtitle", format!("{MARK} title")),
    ];
    let values: BTreeMap<String, String> = values.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let edited = stage.hubspot.edit(HubspotEdit::Create { object: "contacts".to_owned(), id: None, values }).unwrap();
    stage.sender.deliver(&edited.events).await;
    until("the contact is there", async || stage.salesforce.ids("Contact").len() == 1 && stage.is_idle().await).await;

    // Everything that has something to complain about: a rejected value, failing calls, bad signatures, broken bodies.
    let long = format!("{MARK}{}", "x".repeat(129));
    stage.sender.deliver(&[set(&stage.hubspot, edited.id, "jobtitle", &long)]).await;
    until("the value is rejected", async || {
        let letters = stage.sender.read(&format!("{}/v1/deadletters", stage.admin)).await.unwrap_or_default();
        letters.contains("STRING_TOO_LONG") && stage.is_idle().await
    })
    .await;
    stage.salesforce.faults().next(2, Scope::Any, Fault::Refuse(Refusal::ServerError));
    stage.salesforce.faults().next(2, Scope::Writes, Fault::ResetAfter);
    let last = set(&stage.hubspot, edited.id, "city", &format!("{MARK} city"));
    stage.sender.deliver(std::slice::from_ref(&last)).await;
    assert_eq!(stage.sender.post_signed(body(&last), "another-secret-of-zyzzyva").await, Some(401));
    let malformed = format!("[{{\"{MARK}\": \"{MARK}\"}}]").into_bytes();
    assert_eq!(stage.sender.post_signed(malformed, SECRETS[2].1).await, Some(400));
    until("the city is written", async || {
        let ids = stage.salesforce.ids("Contact");
        let row = stage.salesforce.record("Contact", &ids[0]).unwrap();
        row["MailingCity"] == format!("{MARK} city") && stage.is_idle().await
    })
    .await;

    let metrics = stage.sender.read(&format!("{}/metrics", stage.admin)).await.unwrap();
    let rejected = stage.sender.read(&format!("{}/v1/rejected", stage.admin)).await.unwrap();
    assert!(rejected.contains("signature_mismatch") && rejected.contains("malformed"), "{rejected}");
    let endpoints = stage.sender.read(&format!("{}/v1/endpoints", stage.admin)).await.unwrap();
    assert!(endpoints.contains("last_used_at"), "{endpoints}");
    let (code, printed) = stage.terminate();
    assert_eq!(code, Some(0));
    let log = stage.log();
    assert!(log.contains("\"level\":\"debug\""), "the log is that of a person looking for a fault");
    let texts = [
        ("log", &log),
        ("metrics", &metrics),
        ("output", &printed),
        ("refused calls", &rejected),
        ("endpoints", &endpoints),
    ];
    for (what, text) in texts {
        let folded = text.to_lowercase();
        let found = folded.lines().find(|line| line.contains(&mark));
        assert_eq!(found, None, "a value in the {what}");
        for (name, secret) in SECRETS {
            assert!(!text.contains(secret), "{name} in the {what}");
        }
        assert!(!text.contains("lp8tCkWv3fZ0yQ2mN7rBxA"), "the endpoint's key in the {what}");
    }
}

fn body(event: &WebhookEvent) -> Vec<u8> {
    serde_json::to_vec(&[event]).unwrap()
}
