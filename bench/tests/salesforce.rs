//! The Salesforce model through its front door: external ids, collections, composite, queries, conditions, messages.

#![allow(clippy::expect_used, reason = "a test that cannot go on stops here")]

mod support;

use std::time::Duration;

use headgate_bench::sim::hooks::{Hook, HookProvider, RetryPlan};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceEdit, SalesforceOptions};
use headgate_schemas::shutdown::Shutdown;
use serde_json::{Value, json};
use support::{Caller, receiver, shutdown};

const DATA: &str = "/services/data/v62.0";

async fn start(options: SalesforceOptions, stop: &Shutdown) -> (Salesforce, Caller) {
    let salesforce = Salesforce::start(options, stop).await.expect("loopback");
    let caller = Caller::new(&salesforce.base_url());
    (salesforce, caller)
}

fn contact(values: Value) -> SalesforceEdit {
    SalesforceEdit::Create { object: "Contact".into(), values: values.as_object().expect("an object").clone() }
}

fn codes(reply: &support::Reply) -> Vec<String> {
    let results = reply.body.as_array().expect("list").iter();
    results.map(|r| r["errors"][0]["statusCode"].as_str().unwrap_or("ok").to_owned()).collect()
}

#[tokio::test]
async fn an_external_id_is_one_row_until_it_is_deleted() {
    let stop = shutdown();
    let (salesforce, caller) = start(SalesforceOptions::default(), &stop).await;
    let path = format!("{DATA}/sobjects/Contact/Relay_Id__c/Key-1");
    let first = caller.call("PATCH", &path, json!({"LastName": "L"})).await;
    let again = caller
        .call("PATCH", &path.to_lowercase().replace("/sobjects/contact", "/sobjects/Contact"), json!({"LastName": "M"}))
        .await;
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(first.body["id"], again.body["id"]);
    assert_eq!(first.header("sforce-limit-info"), "api-usage=1/100000");
    let id = first.body["id"].as_str().expect("text");
    assert_eq!(id, "0035g0000000001AAA");
    assert_eq!(caller.get(&format!("{DATA}/sobjects/Contact/{}", &id[..15])).await.body["LastName"], "M");
    assert_eq!(caller.call("DELETE", &format!("{DATA}/sobjects/Contact/{id}"), Value::Null).await.status, 204);
    let gone = caller.get(&format!("{DATA}/sobjects/Contact/{id}")).await;
    assert_eq!((gone.status, &gone.body[0]["errorCode"]), (404, &json!("ENTITY_IS_DELETED")));
    let anew = caller.call("PATCH", &path, json!({"LastName": "N"})).await;
    assert_eq!(anew.status, 201);
    assert_ne!(anew.body["id"], first.body["id"]);
    let back = SalesforceEdit::Undelete { object: "Contact".into(), id: id.into() };
    assert_eq!(salesforce.edit(back).map_err(|e| e.code), Err("DUPLICATE_VALUE".into()));
}

#[tokio::test]
async fn an_external_id_without_unique_values_can_name_several_rows() {
    let stop = shutdown();
    let (salesforce, caller) =
        start(SalesforceOptions { unique_external_id: false, ..SalesforceOptions::default() }, &stop).await;
    for _ in 0..2 {
        salesforce.edit(contact(json!({"LastName": "L", "Relay_Id__c": "k"}))).expect("not unique");
    }
    let reply = caller.call("PATCH", &format!("{DATA}/sobjects/Contact/Relay_Id__c/k"), json!({"LastName": "M"})).await;
    assert_eq!((reply.status, reply.body.as_array().map(Vec::len)), (300, Some(2)));
}

#[tokio::test]
async fn a_collection_answers_each_record_in_order() {
    let stop = shutdown();
    let (salesforce, caller) = start(SalesforceOptions::default(), &stop).await;
    let taken = salesforce.edit(contact(json!({"LastName": "L", "Relay_Id__c": "taken"}))).expect("free");
    let typed = |mut r: Value| {
        r["attributes"] = json!({"type": "Contact"});
        r
    };
    let records: Vec<_> = [
        json!({"Relay_Id__c": "a", "LastName": "A"}),
        json!({"Relay_Id__c": "b"}),
        json!({"Relay_Id__c": "TAKEN", "Email": "no address"}),
        json!({"Relay_Id__c": "c", "LastName": "x".repeat(81)}),
        json!({"Relay_Id__c": "A", "LastName": "again"}),
        json!({"LastName": "without a key"}),
        json!({"Relay_Id__c": "d", "LastName": "D", "AccountId": "0015g0000000009"}),
        json!({"Relay_Id__c": "taken", "Title": "Chief"}),
    ]
    .map(typed)
    .into();
    let path = format!("{DATA}/composite/sobjects/Contact/Relay_Id__c");
    let reply = caller.call("PATCH", &path, json!({"allOrNone": false, "records": records})).await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        codes(&reply),
        [
            "ok",
            "REQUIRED_FIELD_MISSING",
            "INVALID_EMAIL_ADDRESS",
            "STRING_TOO_LONG",
            "DUPLICATE_VALUE",
            "MISSING_ARGUMENT",
            "INVALID_CROSS_REFERENCE_KEY",
            "DUPLICATE_VALUE"
        ]
    );
    assert_eq!((&reply.body[0]["created"], &reply.body[0]["success"]), (&json!(true), &json!(true)));
    let unknown = json!({"allOrNone": false, "records": [typed(json!({"Relay_Id__c": "z", "LastName": "Z"})), typed(json!({"Nope": 1}))]});
    let refused = caller.call("PATCH", &path, unknown).await;
    assert_eq!((refused.status, &refused.body[0]["errorCode"]), (400, &json!("INVALID_FIELD")));
    let wrong = json!({"allOrNone": false, "records": [typed(json!({"Relay_Id__c": "z", "LastName": 5}))]});
    assert_eq!(caller.call("PATCH", &path, wrong).await.body[0]["errorCode"], "JSON_PARSER_ERROR");
    assert_eq!(salesforce.ids("Contact").len(), 2);
    let update = json!({"allOrNone": false, "records": [typed(json!({"id": taken, "Relay_Id__c": "a"})), typed(json!({"id": taken, "Title": "T"}))]});
    assert_eq!(
        codes(&caller.call("PATCH", &format!("{DATA}/composite/sobjects"), update).await),
        ["DUPLICATE_VALUE", "DUPLICATE_VALUE"]
    );
    let calls: Vec<_> =
        salesforce.writes().into_iter().map(|w| (w.field.to_string(), w.new, w.created, w.who.to_string())).collect();
    let write = |f: &str, v: &str| (f.to_owned(), Some(v.to_owned()), true, "test".to_owned());
    assert_eq!(calls, [write("Id", "0035g0000000002AAA"), write("LastName", "A"), write("Relay_Id__c", "a")]);
}

#[tokio::test]
async fn all_or_none_takes_everything_back() {
    let stop = shutdown();
    let (salesforce, caller) =
        start(SalesforceOptions { contract: false, ..SalesforceOptions::default() }, &stop).await;
    let record = |v: Value| json!({"attributes": {"type": "Account"}, "Name": v});
    let body = json!({"allOrNone": true, "records": [record(json!("A")), record(Value::Null)]});
    let reply = caller.call("POST", &format!("{DATA}/composite/sobjects"), body).await;
    assert_eq!(codes(&reply), ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING"]);
    assert_eq!(salesforce.ids("Account"), Vec::<String>::new());
    assert_eq!(salesforce.writes(), []);
}

#[tokio::test]
async fn a_composite_call_passes_results_on_and_halts_what_depends_on_a_failure() {
    let stop = shutdown();
    let (salesforce, caller) = start(SalesforceOptions::default(), &stop).await;
    let part = |method: &str, url: &str, name: &str, body: Value| {
        let mut part = json!({"method": method, "url": format!("{DATA}{url}"), "referenceId": name});
        if !body.is_null() {
            part["body"] = body;
        }
        part
    };
    let body = json!({"compositeRequest": [
        part("POST", "/sobjects/Account", "a", json!({"Name": "Acme"})),
        part("POST", "/sobjects/Contact", "c", json!({"LastName": "L", "AccountId": "@{a.id}"})),
        part("POST", "/sobjects/Contact", "bad", json!({"FirstName": "F"})),
        part("GET", "/sobjects/Contact/@{bad.id}", "d", Value::Null),
        part("GET", "/query?q=SELECT+Id+FROM+Contact+WHERE+AccountId='@{a.id}'", "q", Value::Null),
    ]});
    let reply = caller.call("POST", &format!("{DATA}/composite"), body).await;
    let parts = reply.body["compositeResponse"].as_array().expect("list");
    let statuses: Vec<_> = parts.iter().map(|p| p["httpStatusCode"].as_u64().expect("number")).collect();
    assert_eq!(statuses, [201, 201, 400, 400, 200]);
    assert_eq!(parts[3]["body"][0]["errorCode"], "PROCESSING_HALTED");
    assert_eq!(parts[4]["body"]["records"][0]["Id"], parts[1]["body"]["id"]);
    assert_eq!((salesforce.ids("Account").len(), salesforce.ids("Contact").len()), (1, 1));
}

#[tokio::test]
async fn queries_page_and_see_deleted_rows_only_when_asked() {
    let stop = shutdown();
    let (salesforce, caller) = start(SalesforceOptions::default(), &stop).await;
    let ids: Vec<String> =
        (0..450).map(|n| salesforce.edit(contact(json!({"LastName": format!("L{n:03}")}))).expect("good")).collect();
    salesforce.edit(SalesforceEdit::Delete { object: "Contact".into(), id: ids[0].clone() }).expect("live");
    let paging = caller.clone().with("sforce-query-options", "batchSize=200");
    let mut page = paging.query("SELECT Id, LastName FROM Contact ORDER BY LastName DESC").await;
    let mut names = Vec::new();
    loop {
        names.extend(
            page.body["records"]
                .as_array()
                .expect("list")
                .iter()
                .map(|r| r["LastName"].as_str().expect("text").to_owned()),
        );
        let Some(next) = page.body["nextRecordsUrl"].as_str() else { break };
        page = paging.get(next).await;
    }
    assert_eq!((names.len(), names[0].as_str(), names[448].as_str()), (449, "L449", "L001"));
    assert_eq!(page.body["done"], true);
    let short = caller.query(&format!("SELECT Id FROM Contact WHERE Id IN ('{}', '{}')", &ids[1][..15], ids[2])).await;
    assert_eq!(short.body["totalSize"], 2);
    assert_eq!(caller.query(&format!("SELECT Id FROM Contact WHERE Id = '{}'", ids[0])).await.body["totalSize"], 0);
    let all = caller.get(&format!("{DATA}/queryAll?q=SELECT+Id,IsDeleted+FROM+Contact+WHERE+IsDeleted=true")).await;
    assert_eq!(all.body["records"][0]["Id"], ids[0].as_str());
    assert_eq!(caller.query("SELECT Id FROM Contact WHERE LastName = 5").await.body[0]["errorCode"], "INVALID_FIELD");
    assert_eq!(caller.query("SELECT Id FROM Nope").await.body[0]["errorCode"], "INVALID_TYPE");
}

#[tokio::test]
async fn conditions_and_media_types_are_enforced() {
    let stop = shutdown();
    let (salesforce, caller) = start(SalesforceOptions::default(), &stop).await;
    let id = salesforce.edit(contact(json!({"LastName": "L"}))).expect("good");
    let path = format!("{DATA}/sobjects/Contact/{id}");
    let patch = |header: &str, value: &str| {
        let caller = caller.clone().with(header, value);
        let path = path.clone();
        async move { caller.call("PATCH", &path, json!({"Title": "T"})).await.status }
    };
    assert_eq!(patch("if-unmodified-since", "Thu, 01 Jan 2026 00:00:00 GMT").await, 412);
    assert_eq!(patch("if-unmodified-since", "yesterday").await, 400);
    assert_eq!(patch("if-unmodified-since", "Fri, 01 Jan 2100 00:00:00 GMT").await, 204);
    assert_eq!(patch("content-type", "text/plain").await, 415);
    assert_eq!(patch("sforce-call-options", "").await, 400);
    assert_eq!(patch("authorization", "").await, 401);
    assert_eq!(caller.call("PUT", &path, json!({})).await.status, 405);
    let read = caller.get(&path).await;
    let modified = read.header("last-modified").to_owned();
    assert_eq!(caller.clone().with("if-modified-since", &modified).get(&path).await.status, 304);
    let stamp = read.body["SystemModstamp"].as_str().expect("text");
    assert!(stamp.ends_with(".000+0000"), "{stamp}");
}

#[tokio::test]
async fn outbound_messages_carry_the_state_at_delivery_until_acknowledged() {
    let stop = shutdown();
    let (url, mut got) = receiver(&stop).await;
    let hook = Hook { url, provider: HookProvider::Salesforce, secret: "00D5g000000ABCDEA4".into() };
    let retry = RetryPlan { first: Duration::from_millis(1), ..RetryPlan::default() };
    let (salesforce, _) =
        start(SalesforceOptions { hooks: vec![hook], retry, ..SalesforceOptions::default() }, &stop).await;
    let id = salesforce.edit(contact(json!({"LastName": "D\u{e9}ry & Co", "Email": "a@example.com"}))).expect("good");
    let first = got.recv().await.expect("a message");
    let text = String::from_utf8(first.body.to_vec()).expect("UTF-8");
    assert!(first.header("content-type").starts_with("text/xml"));
    for part in [
        "<OrganizationId>00D5g000000ABCDEA4</OrganizationId>",
        "<sObject xsi:type=\"sf:Contact\"",
        &format!("<sf:Id>{id}</sf:Id>"),
        "<sf:LastName>D\u{e9}ry &amp; Co</sf:LastName>",
        "<sf:Title xsi:nil=\"true\"/>",
        ".000Z</sf:SystemModstamp>",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let values = json!({"LastName": "Newer"}).as_object().expect("an object").clone();
    salesforce.edit(SalesforceEdit::Update { object: "Contact".into(), id, values }).expect("live");
    first.answer(200, "<Ack>false</Ack>");
    // The retry of the first message and the message of the second change come in either order; both tell the new state.
    for _ in 0..2 {
        let message = got.recv().await.expect("a message");
        assert!(String::from_utf8_lossy(&message.body).contains("<sf:LastName>Newer</sf:LastName>"));
        message.answer(200, "<a:Ack xmlns:a=\"x\">true</a:Ack>");
    }
}

#[tokio::test]
async fn a_row_deleted_before_delivery_yields_its_id_only_and_the_deletion_no_message() {
    let stop = shutdown();
    let (url, mut got) = receiver(&stop).await;
    let retry = RetryPlan { first: Duration::from_millis(1), ..RetryPlan::default() };
    let (salesforce, caller) = start(SalesforceOptions { retry, ..SalesforceOptions::default() }, &stop).await;
    let hook = Hook { url, provider: HookProvider::Salesforce, secret: "00D5g000000ABCDEA4".into() };
    salesforce.attach(&hook).expect("a good address");
    let made = caller.call("POST", &format!("{DATA}/sobjects/Contact"), json!({"LastName": "L"})).await;
    let id = made.body["id"].as_str().expect("text").to_owned();
    let first = got.recv().await.expect("a message");
    salesforce.edit(SalesforceEdit::Delete { object: "Contact".into(), id: id.clone() }).expect("live");
    first.answer(500, "");
    let second = got.recv().await.expect("a retry");
    let text = String::from_utf8_lossy(&second.body).into_owned();
    assert!(text.contains(&format!("<sf:Id>{id}</sf:Id></sObject>")), "{text}");
    second.answer(200, "<Ack>true</Ack>");
    salesforce.edit(contact(json!({"LastName": "Next"}))).expect("good");
    let third = got.recv().await.expect("a message");
    assert!(String::from_utf8_lossy(&third.body).contains("<sf:LastName>Next</sf:LastName>"));
    third.answer(200, "<Ack>true</Ack>");
}
