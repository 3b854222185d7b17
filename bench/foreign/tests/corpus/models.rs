//! Seeds made of what the models of the CRMs answer to the questions of `headgate_relay::foreign`, asked here by hand:
//! fresh in each run, so that reader and model cannot drift apart unseen, and kept as files when seeds are updated.
//!
//! The surprising thing: the ids in the answers are put in place of those that are always asked for.

use std::future::Future;
use std::time::Duration;

use headgate_bench::sim::hubspot::{Hubspot, HubspotOptions};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceOptions};
use headgate_foreign::{Target, answer};
use headgate_relay::foreign::{Answer, Asked};
use headgate_schemas::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{in_crate, run, updating};

const OURS: [&str; 2] = ["0190a0b0-0000-7000-8000-00000000000a", "0190a0b0-0000-7000-8000-00000000000b"];
const HUBSPOT: [&str; 2] = ["7001", "7002"];
const SALESFORCE: [&str; 2] = ["0035g00000AbCdEAAV", "0035g00000AbCdFAAV"];

/// A model, and the ids it gave to the two contacts.
struct Model {
    base_url: String,
    ids: [String; 2],
    asked_for: [&'static str; 2],
}

impl Model {
    /// Makes one call and reads the answer to its end.
    async fn call(&self, method: &str, path: &str, more: &str, body: &Value) -> Answer {
        let host = self.base_url.strip_prefix("http://").unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer x\r\nsforce-call-options: client=headgate\r\n{more}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut line = TcpStream::connect(host).await.unwrap();
        line.write_all(head.as_bytes()).await.unwrap();
        line.write_all(body.as_bytes()).await.unwrap();
        let mut text = String::new();
        line.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let kept = headers.filter(|(name, _)| !matches!(*name, "content-length" | "connection"));
        Answer {
            status,
            headers: kept.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect(),
            body: self.as_asked(body).into_bytes(),
        }
    }

    /// The answer as it would be had the contacts the ids that are asked for.
    fn as_asked(&self, text: &str) -> String {
        let ids = std::iter::zip(&self.ids, self.asked_for).filter(|(own, _)| !own.is_empty());
        ids.fold(text.to_owned(), |text, (own, asked_for)| text.replace(own, asked_for))
    }
}

/// Reads the answers as the relay does; `good` of what was asked came back good.
fn check(target: &str, name: &str, asked: Asked, answers: &[Answer], good: usize) {
    let target = Target::find(target).unwrap();
    let seed = answer::write(asked, answers);
    assert_eq!(run(&target, name, &seed), good, "{name}: {}", String::from_utf8_lossy(&seed));
    if updating() {
        let folder = in_crate("seeds").join(target.name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("model-{name}.txt")), &seed).unwrap();
    }
}

/// Runs the models only as long as they are asked.
async fn with<F: Future<Output = ()>>(ask: impl FnOnce(Shutdown) -> F) {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    ask(shutdown.clone()).await;
    shutdown.stop();
}

fn ids_of(answer: &Answer, at: &str) -> [String; 2] {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let list = if at.is_empty() { &body } else { &body[at] };
    assert!(list[1]["id"].is_string(), "{body}");
    [0, 1].map(|n| list[n]["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn answers_of_hubspot_are_read() {
    with(|shutdown| async move {
        let hubspot = Hubspot::start(HubspotOptions::default(), &shutdown).await.unwrap();
        let mut model = Model { base_url: hubspot.base_url(), ids: [String::new(), String::new()], asked_for: HUBSPOT };
        let objects = "/crm/objects/2026-09/contacts";
        let mails = ["ada@example.com", "grace@example.com"];
        let input = |n: usize, id: &str| {
            let properties = json!({ "email": mails[n], "phone": "+14155550100", "firstname": "" });
            json!({ "id": id, "objectWriteTraceId": format!("t-{n}"), "properties": properties })
        };
        let mut inputs = [input(0, OURS[0]), input(1, OURS[1])];
        inputs.iter_mut().for_each(|input| input["idProperty"] = "relay_id".into());
        let post = |path: &str| format!("{objects}/{path}");
        let made = model.call("POST", &post("batch/upsert"), "", &json!({ "inputs": inputs })).await;
        model.ids = ids_of(&made, "results");
        let again = model.call("POST", &post("batch/upsert"), "", &json!({ "inputs": inputs })).await;
        check("hubspot-answers", "create", Asked::Create, &[again], 2);
        let ids = model.ids.each_ref().map(|id| json!({ "id": id }));
        let properties = ["email", "phone", "firstname", "relay_id", "hs_merged_object_ids"];
        let body = json!({ "inputs": ids, "properties": properties });
        let read = model.call("POST", &post("batch/read"), "", &body).await;
        check("hubspot-answers", "read", Asked::Read, &[read], 2);
        let ours = OURS.map(|id| json!({ "id": id }));
        let body = json!({ "idProperty": "relay_id", "inputs": ours, "properties": properties });
        let read = model.call("POST", &post("batch/read"), "", &body).await;
        check("hubspot-answers", "read-by-our-id", Asked::ReadByOurId, &[read], 2);
        let body = json!({ "inputs": [input(0, &model.ids[0]), input(1, "999999")] });
        let updated = model.call("POST", &post("batch/update"), "", &body).await;
        check("hubspot-answers", "update-one-of-two", Asked::Update, &[updated], 1);
        let body =
            json!({ "idProperty": "email", "inputs": mails.map(|id| json!({ "id": id })), "properties": ["email"] });
        let found = model.call("POST", &post("batch/read"), "", &body).await;
        check("hubspot-answers", "find", Asked::Find, &[found], 2);
        let filter = json!({ "propertyName": "phone", "operator": "IN", "values": ["+14155550100"] });
        let body = json!({ "filterGroups": [{ "filters": [filter] }], "properties": ["phone"], "limit": 1 });
        let page = model.call("POST", &post("search"), "", &body).await;
        let after =
            json!({ "filterGroups": [{ "filters": [filter] }], "properties": ["phone"], "limit": 1, "after": "1" });
        let last = model.call("POST", &post("search"), "", &after).await;
        check("hubspot-answers", "search-in-pages", Asked::Search, &[page, last], 0);
        let listing = model.call("GET", "/crm/v3/properties/contacts", "", &Value::Null).await;
        check("hubspot-answers", "prepare", Asked::Prepare, &[listing], 1);
        let archived = model.call("POST", &post("batch/archive"), "", &json!({ "inputs": [ids[0]] })).await;
        let erased = model.call("POST", &post("gdpr-delete"), "", &json!({ "objectId": model.ids[1] })).await;
        check("hubspot-answers", "delete", Asked::Delete, &[archived, erased], 2);
        let body = json!({ "inputs": ids, "properties": properties });
        let read = model.call("POST", &post("batch/read"), "", &body).await;
        check("hubspot-answers", "read-what-is-gone", Asked::Read, &[read], 0);
    })
    .await;
}

#[tokio::test]
async fn answers_of_salesforce_are_read() {
    with(|shutdown| async move {
        let salesforce = Salesforce::start(SalesforceOptions::default(), &shutdown).await.unwrap();
        let mut model =
            Model { base_url: salesforce.base_url(), ids: [String::new(), String::new()], asked_for: SALESFORCE };
        let base = "/services/data/v62.0";
        let row = |n: usize, key: &str, id: &str| {
            let mail = ["ada@example.com", "grace@example.com"][n];
            json!({ "attributes": { "type": "Contact" }, key: id, "LastName": "X", "Email": mail, "Phone": null })
        };
        let rows = [row(0, "Relay_Id__c", OURS[0]), row(1, "Relay_Id__c", OURS[1])];
        let upsert = format!("{base}/composite/sobjects/Contact/Relay_Id__c");
        let body = json!({ "allOrNone": false, "records": rows });
        let made = model.call("PATCH", &upsert, "", &body).await;
        model.ids = ids_of(&made, "");
        let again = model.call("PATCH", &upsert, "", &body).await;
        check("salesforce-answers", "create", Asked::Create, &[again], 2);
        let query = |key: &str, values: [&str; 2]| {
            let columns = "Id,SystemModstamp,Relay_Id__c,Email,Phone,FirstName";
            let list = values.map(|value| format!("'{value}'")).join(",");
            format!("{base}/query?q=SELECT%20{columns}%20FROM%20Contact%20WHERE%20{key}%20IN%20({list})")
        };
        let own = model.ids.clone();
        let own = [own[0].as_str(), own[1].as_str()];
        let read = model.call("GET", &query("Id", own), "", &Value::Null).await;
        check("salesforce-answers", "read", Asked::Read, &[read], 2);
        let read = model.call("GET", &query("Relay_Id__c", OURS), "", &Value::Null).await;
        check("salesforce-answers", "read-by-our-id", Asked::ReadByOurId, &[read], 2);
        let found =
            model.call("GET", &query("Email", ["ada@example.com", "grace@example.com"]), "", &Value::Null).await;
        check("salesforce-answers", "find", Asked::Find, &[found], 2);
        let update = format!("{base}/composite/sobjects");
        let body = json!({ "allOrNone": false, "records": [row(0, "id", own[0]), row(1, "id", "003000000000001AAA")] });
        let updated = model.call("PATCH", &update, "", &body).await;
        check("salesforce-answers", "update-one-of-two", Asked::Update, &[updated], 1);
        let body = json!({ "allOrNone": false, "records": [row(1, "id", own[1])] });
        let free = model.call("PATCH", &update, "", &body).await;
        let old = "if-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let path = format!("{base}/sobjects/Contact/{}", own[0]);
        let refused = model.call("PATCH", &path, old, &json!({ "FirstName": "Ada" })).await;
        check("salesforce-answers", "update-unless-changed", Asked::UpdateUnlessChanged, &[free, refused], 1);
        let described = model.call("GET", &format!("{base}/sobjects/Contact/describe"), "", &Value::Null).await;
        check("salesforce-answers", "prepare", Asked::Prepare, &[described], 1);
        let path = format!("{base}/composite/sobjects?ids={},{}&allOrNone=false", own[0], own[1]);
        let deleted = model.call("DELETE", &path, "", &Value::Null).await;
        check("salesforce-answers", "delete", Asked::Delete, &[deleted], 2);
        let gone = model.call("GET", &query("Id", own), "", &Value::Null).await;
        let all = query("Id", own).replace("/query?", "/queryAll?");
        let survivors = model.call("GET", &all, "", &Value::Null).await;
        check("salesforce-answers", "read-what-is-gone", Asked::Read, &[gone, survivors], 0);
        let refused = model.call("GET", &format!("{base}/query?q=SELECT"), "", &Value::Null).await;
        check("salesforce-answers", "read-malformed-query", Asked::Read, &[refused], 0);
    })
    .await;
}
