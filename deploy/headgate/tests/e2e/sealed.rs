//! What must not be seen: secrets and values of fields in what the program prints, logs and measures.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use headgate_bench::sim::fault::{Fault, Refusal, Scope};
use headgate_bench::sim::hubspot::{HubspotEdit, WebhookEvent};
use headgate_certs::{Request, make, write};
use headgate_schemas::time;

use crate::sender::{Sender, until};
use crate::server::SECRETS;
use crate::stage::{Stage, set};

/// Found in every value of this test and nowhere else.
const MARK: &str = "Zyzzyva";

/// The second secret of the HubSpot app, while it is changed.
const SECOND_SECRET: (&str, &str) = ("HUBSPOT_APP_SECRET_NEXT", "next-secret-of-the-hubspot-app");
/// The session that Salesforce sends along: whoever reads it may act as its user.
const SESSION: &str = "00D5g000000ABCD!AQ4AQFake.Session_Of_Nobody";
/// The keys in the paths of the endpoints.
const PATHS: [&str; 2] = ["lp8tCkWv3fZ0yQ2mN7rBxA", "q7ZtB1nXc5eWm0uKjR4sDg"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_no_value_is_printed_logged_or_measured() {
    let stage = Stage::open(&[("HEADGATE_LOG", "debug")]).await;
    everything_that_complains(&stage).await;
    nothing_is_seen(&stage, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_with_certificates_of_both_sides_a_second_secret_and_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let expires = (time::now() + Duration::from_secs(3_600)).to_string();
    let mut stage = Stage::open(&[
        ("HEADGATE_LOG", "debug"),
        ("HEADGATE__GATEWAY__TLS__CERT_FILE", &file("server.pem")),
        ("HEADGATE__GATEWAY__TLS__KEY_FILE", &file("server-key.pem")),
        ("HEADGATE__GATEWAY__TLS__RELOAD", "1s"),
        ("HEADGATE__GATEWAY__SPOOL__PATH", &file("spool")),
        ("HEADGATE__GATEWAY__SPOOL__PERSISTENT", "true"),
        ("HEADGATE__ENDPOINT__SALESFORCE_MESSAGES__CLIENT_CA_FILE", &file("ca.pem")),
        ("HEADGATE__ENDPOINT__HUBSPOT_APP__SECOND_SECRET_ENV", SECOND_SECRET.0),
        ("HEADGATE__ENDPOINT__HUBSPOT_APP__SECOND_SECRET_EXPIRES", &expires),
        SECOND_SECRET,
    ])
    .await;
    let keys =
        ["ca-key.pem", "server-key.pem", "client-key.pem"].map(|name| std::fs::read_to_string(file(name)).unwrap());
    let gateway = stage.gateway();
    assert!(gateway.starts_with("https://127.0.0.1:"), "{gateway}");
    stage.sender = Sender::trusting(&gateway, folder.path(), true);
    everything_that_complains(&stage).await;
    // The second secret verifies; a message with a session is taken from who shows a certificate and from nobody else.
    let known = set(&stage.hubspot, stage.hubspot.ids("contacts")[0], "city", &format!("{MARK} town"));
    assert_eq!(stage.sender.post_signed(body(&known), SECOND_SECRET.1).await, Some(204));
    let path = format!("/in/salesforce/{}", PATHS[1]);
    let stranger = Sender::trusting(&gateway, folder.path(), false);
    assert_eq!(stage.sender.post_to(&path, &message()).await, Some(200));
    assert_eq!(stranger.post_to(&path, &message()).await, Some(401));
    // A key that does not belong to the certificate is complained about when the files are looked at again.
    std::fs::copy(file("client-key.pem"), file("server-key.pem")).unwrap();
    until("the wrong key is seen", async || {
        let metrics = stage.sender.read(&format!("{}/metrics", stage.admin)).await.unwrap_or_default();
        metrics.contains("gw_tls_reloads_total{result=\"failed\"}")
    })
    .await;
    until("the relay is done", async || stage.is_idle().await).await;
    let lines = keys.iter().flat_map(|key| key.lines()).filter(|line| !line.starts_with("-----"));
    let secrets: Vec<&str> = lines.chain([SECOND_SECRET.1, SESSION]).collect();
    nothing_is_seen(&stage, &secrets).await;
}

/// A change, and everything that has something to complain about: a rejected value, failing calls, bad signatures,
/// broken bodies.
async fn everything_that_complains(stage: &Stage) {
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
}

/// Reads everything that the program shows, ends it, and reads everything that it printed. `secrets` are those beside
/// the ones that every run has.
async fn nothing_is_seen(stage: &Stage, secrets: &[&str]) {
    let mark = MARK.to_lowercase();
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
        for (nth, secret) in secrets.iter().enumerate() {
            assert!(!text.contains(secret), "secret {nth} of this run in the {what}");
        }
        for key in PATHS {
            assert!(!text.contains(key), "an endpoint's key in the {what}");
        }
    }
}

fn certificates(folder: &Path) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let request = Request { server_names: names, client_name: "salesforce".to_owned(), days: 2 };
    write(&make(&request, time::now()).unwrap(), folder, true).unwrap();
}

/// An outbound message about a contact that nobody knows, with a session.
fn message() -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><notifications xmlns="http://soap.sforce.com/2005/09/outbound" xmlns:sf="urn:sobject.enterprise.soap.sforce.com"><OrganizationId>00D5g000000ABCDEA4</OrganizationId><ActionId>04k5g000000XyZaAAK</ActionId><SessionId>{SESSION}</SessionId><Notification><Id>04l5g0000000001AAA</Id><sObject xsi:type="sf:Lead"><sf:Id>00Q5g00000AbCdEEAV</sf:Id><sf:Title>{MARK}</sf:Title></sObject></Notification></notifications></soapenv:Body></soapenv:Envelope>"#
    )
}

fn body(event: &WebhookEvent) -> Vec<u8> {
    serde_json::to_vec(&[event]).unwrap()
}
