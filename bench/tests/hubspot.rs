//! The HubSpot model through its front door: uniqueness, batches, searches, tokens, limits, webhooks.

#![allow(clippy::expect_used, reason = "a test that cannot go on stops here")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use headgate_bench::sim::access::{AccessOptions, OauthApp, Rotation};
use headgate_bench::sim::hooks::{Hook, HookProvider, RetryPlan, hubspot_signature};
use headgate_bench::sim::hubspot::{Hubspot, HubspotEdit, HubspotOptions};
use headgate_schemas::shutdown::Shutdown;
use serde_json::{Value, json};
use support::{Caller, receiver, shutdown};

const CONTACTS: &str = "/crm/v3/objects/contacts";

async fn start(options: HubspotOptions, stop: &Shutdown) -> (Hubspot, Caller) {
    let hubspot = Hubspot::start(options, stop).await.expect("loopback");
    let caller = Caller::new(&hubspot.base_url());
    (hubspot, caller)
}

fn create(values: &[(&str, &str)]) -> HubspotEdit {
    HubspotEdit::Create { object: "contacts".into(), id: None, values: owned(values) }
}

fn owned(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[tokio::test]
async fn an_upsert_by_our_own_id_creates_once() {
    let stop = shutdown();
    let (hubspot, caller) = start(HubspotOptions::default(), &stop).await;
    let body = json!({"inputs": [{"id": "e-1", "idProperty": "relay_id", "objectWriteTraceId": "w1", "properties": {"email": "Ana@Example.com"}}]});
    let first = caller.call("POST", &format!("{CONTACTS}/batch/upsert"), body.clone()).await;
    let second = caller.call("POST", "/crm/objects/2026-03/0-1/batch/upsert", body).await;
    assert_eq!((first.status, second.status), (200, 200));
    let (made, again) = (&first.body["results"][0], &second.body["results"][0]);
    assert_eq!((&made["new"], &again["new"]), (&json!(true), &json!(false)));
    assert_eq!(made["id"], again["id"]);
    assert_eq!(made["objectWriteTraceId"], "w1");
    assert_eq!(made["properties"]["email"], "ana@example.com");
    assert_eq!(made["properties"]["relay_id"], "e-1");
    assert_eq!(hubspot.ids("contacts").len(), 1);
    let writes: Vec<_> = hubspot.writes().into_iter().map(|w| (w.field.to_string(), w.old, w.new, w.created)).collect();
    let ana = Some("ana@example.com".to_owned());
    assert_eq!(
        writes,
        [
            ("email".to_owned(), None, ana.clone(), true),
            ("relay_id".to_owned(), None, Some("e-1".to_owned()), true),
            ("email".to_owned(), ana.clone(), ana, false),
        ]
    );
}

#[tokio::test]
async fn unique_values_clash_and_come_free() {
    let stop = shutdown();
    let (hubspot, caller) = start(HubspotOptions::default(), &stop).await;
    let id = hubspot.edit(create(&[("email", "a@example.com")])).expect("free").id;
    let clash = caller.call("POST", CONTACTS, json!({"properties": {"email": "A@EXAMPLE.com"}})).await;
    assert_eq!((clash.status, &clash.body["category"]), (409, &json!("CONFLICT")));
    assert_eq!(clash.body["message"], format!("Contact already exists. Existing ID: {id}"));
    assert_eq!(
        caller.call("PATCH", &format!("{CONTACTS}/{id}"), json!({"properties": {"email": ""}})).await.status,
        200
    );
    assert_eq!(caller.call("POST", CONTACTS, json!({"properties": {"email": "a@example.com"}})).await.status, 201);
    let fields = json!({"name": "badge", "label": "Badge", "type": "string", "fieldType": "text", "groupName": "g", "hasUniqueValue": true});
    assert_eq!(caller.call("POST", "/crm/v3/properties/contacts", fields.clone()).await.status, 201);
    assert_eq!(caller.call("POST", "/crm/v3/properties/contacts", fields).await.status, 409);
    let badge = json!({"properties": {"badge": "7"}});
    assert_eq!(caller.call("POST", CONTACTS, badge.clone()).await.status, 201);
    assert_eq!(caller.call("POST", CONTACTS, badge).await.status, 409);
    let by_phone = json!({"inputs": [{"id": "1", "idProperty": "phone", "properties": {}}]});
    assert_eq!(caller.call("POST", &format!("{CONTACTS}/batch/upsert"), by_phone).await.status, 400);
}

#[tokio::test]
async fn a_batch_tells_each_failure_by_id_and_shuffles_by_seed() {
    let stop = shutdown();
    let (_, caller) = start(HubspotOptions { shuffle: Some(3), ..HubspotOptions::default() }, &stop).await;
    let inputs: Vec<_> = (0..20)
        .map(|n| {
            json!({"id": format!("e{n}"), "idProperty": "relay_id", "objectWriteTraceId": format!("w{n}"),
            "properties": {"email": if n == 7 { "bad".into() } else { format!("u{n}@example.com") }}})
        })
        .collect();
    let reply = caller.call("POST", &format!("{CONTACTS}/batch/upsert"), json!({"inputs": inputs})).await;
    assert_eq!((reply.status, &reply.body["numErrors"]), (207, &json!(1)));
    assert_eq!(reply.body["errors"][0]["context"], json!({"ids": ["e7"], "objectWriteTraceId": ["w7"]}));
    assert_eq!(reply.body["errors"][0]["errors"][0]["code"], "INVALID_EMAIL");
    let order: Vec<&str> = reply.body["results"]
        .as_array()
        .expect("list")
        .iter()
        .map(|r| r["objectWriteTraceId"].as_str().expect("text"))
        .collect();
    assert_eq!(order.len(), 19);
    assert!(!order.is_sorted_by_key(|w| w[1..].parse::<u32>().expect("number")), "the order is not that of the inputs");
    let read =
        json!({"inputs": [{"id": "e1"}, {"id": "nope"}], "idProperty": "relay_id", "properties": ["email", "city"]});
    let read = caller.call("POST", &format!("{CONTACTS}/batch/read"), read).await;
    assert_eq!(read.status, 207);
    assert_eq!(read.body["errors"][0]["context"]["ids"], json!(["nope"]));
    assert_eq!(read.body["results"][0]["properties"]["city"], Value::Null);
}

#[tokio::test]
async fn a_batch_create_without_trace_ids_is_all_or_nothing() {
    let stop = shutdown();
    let (hubspot, caller) = start(HubspotOptions::default(), &stop).await;
    let inputs =
        json!({"inputs": [{"properties": {"email": "a@example.com"}}, {"properties": {"email": "a@example.com"}}]});
    let reply = caller.call("POST", &format!("{CONTACTS}/batch/create"), inputs).await;
    assert_eq!(reply.status, 409);
    assert_eq!(hubspot.ids("contacts"), Vec::<u64>::new());
    assert_eq!(hubspot.writes(), []);
    assert_eq!(caller.call("POST", CONTACTS, json!({"properties": {"email": "a@example.com"}})).await.status, 201);
}

#[tokio::test]
async fn deleted_and_merged_records_answer_as_hubspot_does() {
    let stop = shutdown();
    let (hubspot, caller) = start(HubspotOptions { merge_makes_new: true, ..HubspotOptions::default() }, &stop).await;
    let ids: Vec<u64> = ["a@example.com", "b@example.com", "c@example.com"]
        .map(|e| hubspot.edit(create(&[("email", e), ("city", e)])).expect("free").id)
        .into();
    assert_eq!(caller.call("DELETE", &format!("{CONTACTS}/{}", ids[2]), Value::Null).await.status, 204);
    assert_eq!(caller.get(&format!("{CONTACTS}/{}", ids[2])).await.status, 404);
    assert_eq!(caller.get(&format!("{CONTACTS}?archived=true")).await.body["results"][0]["id"], ids[2].to_string());
    let body = json!({"primaryObjectId": ids[0].to_string(), "objectIdToMerge": ids[1].to_string()});
    let merged = caller.call("POST", &format!("{CONTACTS}/merge"), body).await;
    assert_eq!(merged.status, 200);
    let new = merged.body["id"].as_str().expect("text").to_owned();
    assert!(!ids.iter().any(|id| id.to_string() == new));
    for old in &ids[..2] {
        let read = caller.get(&format!("{CONTACTS}/{old}?properties=email,hs_merged_object_ids")).await;
        assert_eq!((read.status, read.body["id"].as_str()), (200, Some(new.as_str())));
        assert_eq!(read.body["properties"]["email"], "a@example.com");
        assert_eq!(read.body["properties"]["hs_merged_object_ids"], ids[1].to_string());
    }
}

#[tokio::test]
async fn a_search_filters_sorts_and_pages() {
    let stop = shutdown();
    let (hubspot, caller) = start(HubspotOptions::default(), &stop).await;
    for n in 0..5 {
        hubspot
            .edit(create(&[
                ("email", &format!("u{n}@example.com")),
                ("city", if n % 2 == 0 { "Bern" } else { "Rome" }),
            ]))
            .expect("free");
    }
    let mut body = json!({
        "filterGroups": [{"filters": [{"propertyName": "city", "operator": "EQ", "value": "bern"}]}],
        "sorts": [{"propertyName": "email", "direction": "DESCENDING"}], "properties": ["email"], "limit": 2,
    });
    let emails = |r: &support::Reply| {
        r.body["results"]
            .as_array()
            .expect("list")
            .iter()
            .map(|r| r["properties"]["email"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    let page = caller.call("POST", &format!("{CONTACTS}/search"), body.clone()).await;
    assert_eq!(
        (page.body["total"].as_u64(), emails(&page)),
        (Some(3), vec!["u4@example.com".to_owned(), "u2@example.com".to_owned()])
    );
    body["after"] = page.body["paging"]["next"]["after"].clone();
    let page = caller.call("POST", &format!("{CONTACTS}/search"), body.clone()).await;
    assert_eq!((emails(&page), page.body["paging"].is_null()), (vec!["u0@example.com".to_owned()], true));
    body["after"] = "9999".into();
    assert_eq!(caller.call("POST", &format!("{CONTACTS}/search"), body).await.status, 400);
}

#[tokio::test]
async fn tokens_expire_and_limits_fill() {
    let stop = shutdown();
    let app = OauthApp {
        client_id: "id".into(),
        client_secret: "secret".into(),
        refresh_token: "refresh".into(),
        expires_in: Duration::from_secs(1_800),
        rotation: Rotation::None,
    };
    let options = HubspotOptions {
        access: AccessOptions { token: None, app: Some(app) },
        burst: Some(2),
        ..HubspotOptions::default()
    };
    let (hubspot, caller) = start(options, &stop).await;
    let denied = caller.get(CONTACTS).await;
    assert_eq!((denied.status, &denied.body["category"]), (401, &json!("INVALID_AUTHENTICATION")));
    let form = b"grant_type=refresh_token&client_id=id&client_secret=secret&refresh_token=refresh".to_vec();
    let asking = caller.clone().with("content-type", "application/x-www-form-urlencoded");
    let issued = asking.try_raw("POST", "/oauth/2026-03/token", form).await.expect("answered");
    assert_eq!((issued.status, issued.body["expires_in"].as_u64()), (200, Some(1_800)));
    let wrong = asking
        .try_raw("POST", "/oauth/v1/token", b"grant_type=refresh_token&client_id=id".to_vec())
        .await
        .expect("answered");
    assert_eq!(wrong.status, 400);
    let caller =
        caller.with("authorization", &format!("Bearer {}", issued.body["access_token"].as_str().expect("text")));
    let good = caller.get(CONTACTS).await;
    assert_eq!(
        (good.status, good.header("x-hubspot-ratelimit-max"), good.header("x-hubspot-ratelimit-remaining")),
        (200, "2", "1")
    );
    assert_eq!(caller.get(CONTACTS).await.status, 200);
    let limited = caller.get(CONTACTS).await;
    assert_eq!((limited.status, &limited.body["policyName"]), (429, &json!("TEN_SECONDLY_ROLLING")));
    hubspot.revoke_tokens();
    assert_eq!(caller.get(CONTACTS).await.status, 401);
    assert_eq!(hubspot.calls()["GET /crm/v3/objects/contacts"], 5);
}

#[tokio::test]
async fn webhooks_are_signed_carry_the_author_and_are_retried() {
    let stop = shutdown();
    let (url, mut got) = receiver(&stop).await;
    let url = format!("{url}/in/hubspot/key");
    let hook = Hook { url: url.clone(), provider: HookProvider::Hubspot, secret: "s3cret".into() };
    let retry = RetryPlan { first: Duration::from_millis(1), ..RetryPlan::default() };
    let (hubspot, caller) =
        start(HubspotOptions { hooks: vec![hook], retry, ..HubspotOptions::default() }, &stop).await;
    let edited = hubspot.edit(create(&[("email", "a@example.com")])).expect("free");
    assert_eq!(edited.events.len(), 1, "a creation names the record only");
    hubspot.post(&edited.events);
    let first = got.recv().await.expect("a post");
    let sent_at: i64 = first.header("x-hubspot-request-timestamp").parse().expect("a number");
    assert_eq!(first.header("x-hubspot-signature-v3"), hubspot_signature("s3cret", "POST", &url, &first.body, sent_at));
    let event = first.json()[0].clone();
    assert_eq!(event["subscriptionType"], "contact.creation");
    assert_eq!((&event["objectId"], &event["attemptNumber"]), (&json!(edited.id), &json!(0)));
    assert!(event.get("propertyName").is_none());
    first.answer(503, "");
    let second = got.recv().await.expect("a retry");
    assert_eq!(second.json()[0]["attemptNumber"], 1);
    assert_eq!(second.json()[0]["eventId"], event["eventId"]);
    second.answer(200, "");
    let body = json!({"properties": {"city": "Bern", "email": "a@example.com"}});
    caller.call("PATCH", &format!("{CONTACTS}/{}", edited.id), body).await;
    let echo = got.recv().await.expect("a post");
    let events = echo.json();
    assert_eq!(events.as_array().map(Vec::len), Some(1), "only what changed fires: {events}");
    assert_eq!((&events[0]["propertyName"], &events[0]["propertyValue"]), (&json!("city"), &json!("Bern")));
    assert_eq!((&events[0]["changeSource"], &events[0]["sourceId"]), (&json!("INTEGRATION"), &json!("70077")));
    echo.answer(200, "");
}
