//! The interface descriptions against the running models: every listed request gets the listed verdict, and every
//! answer fits the schema that the description gives for its status.

#![allow(clippy::expect_used, reason = "a test that cannot go on stops here")]

mod support;

use std::collections::BTreeMap;

use headgate_bench::sim::hubspot::{Hubspot, HubspotEdit, HubspotOptions};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceOptions};
use serde_json::{Value, json};
use support::{Caller, Contract, Reply, shutdown};

fn cases(spec: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("cases.json")).expect("the cases are JSON");
    let all = all["cases"].as_array().expect("the cases are a list").clone();
    all.into_iter().filter(|c| c["spec"] == spec).collect()
}

fn body(case: &Value) -> Value {
    let mut body = case["body"].clone();
    if let Some(field) = case["repeat"]["field"].as_str() {
        let count = case["repeat"]["count"].as_u64().expect("a repeat has a count");
        body[field] = vec![body[field][0].clone(); usize::try_from(count).expect("small")].into();
    }
    body
}

async fn ask(base: &str, case: &Value) -> Reply {
    let headers = case["headers"].as_object().expect("headers").iter();
    let headers = headers.map(|(k, v)| (k.clone(), v.as_str().expect("text").to_owned())).collect();
    let (method, path) = (case["method"].as_str().expect("text"), case["path"].as_str().expect("text"));
    Caller::new(base).only(headers).call(method, path, body(case)).await
}

fn judge(contract: &Contract, case: &Value, reply: &Reply) {
    let verdict = if reply.status < 400 { "accept" } else { "reject" };
    assert_eq!(verdict, case["expect"], "{}: {} {}", case["name"], reply.status, reply.body);
    assert!(reply.status < 500, "{}: {}", case["name"], reply.status);
    contract.check(case["method"].as_str().expect("text"), case["path"].as_str().expect("text"), reply);
}

async fn seeded(stop: &headgate_schemas::shutdown::Shutdown) -> Hubspot {
    let hubspot = Hubspot::start(HubspotOptions::default(), stop).await.expect("loopback");
    for (object, id) in [("contacts", 1), ("companies", 2)] {
        let edit = HubspotEdit::Create { object: object.into(), id: Some(id), values: BTreeMap::new() };
        hubspot.edit(edit).expect("an empty record is good");
    }
    hubspot
}

#[tokio::test]
async fn every_hubspot_case_gets_its_verdict() {
    let (stop, contract) = (shutdown(), Contract::load("hubspot.contract.json"));
    let cases = cases("hubspot.contract.json");
    assert_eq!(cases.len(), 11);
    for case in &cases {
        let hubspot = seeded(&stop).await;
        judge(&contract, case, &ask(&hubspot.base_url(), case).await);
    }
    stop.drain().await.expect("all tasks end");
}

#[tokio::test]
async fn every_salesforce_case_gets_its_verdict() {
    let (stop, contract) = (shutdown(), Contract::load("salesforce.contract.json"));
    let cases = cases("salesforce.contract.json");
    assert_eq!(cases.len(), 8);
    for case in &cases {
        let salesforce = Salesforce::start(SalesforceOptions::default(), &stop).await.expect("loopback");
        judge(&contract, case, &ask(&salesforce.base_url(), case).await);
    }
    stop.drain().await.expect("all tasks end");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of requests")]
async fn hubspot_answers_fit_their_schemas() {
    let (stop, contract) = (shutdown(), Contract::load("hubspot.contract.json"));
    let hubspot = seeded(&stop).await;
    let caller = Caller::new(&hubspot.base_url());
    let objects = "/crm/objects/2026-09/contacts";
    let one = |id: &str| json!({"inputs": [{"id": id}]});
    let filter = json!({"filters": [{"propertyName": "email", "operator": "HAS_PROPERTY"}]});
    let calls = [
        (
            201,
            "POST",
            format!("{objects}/batch/create"),
            json!({"inputs": [{"properties": {"email": "a@example.com"}, "objectWriteTraceId": "t1"}]}),
        ),
        (
            207,
            "POST",
            format!("{objects}/batch/create"),
            json!({"inputs": [{"properties": {"email": "a@example.com"}, "objectWriteTraceId": "t2"}]}),
        ),
        (
            409,
            "POST",
            format!("{objects}/batch/create"),
            json!({"inputs": [{"properties": {"email": "a@example.com"}}]}),
        ),
        (201, "POST", objects.to_owned(), json!({"properties": {"firstname": "B"}})),
        (400, "POST", objects.to_owned(), json!({"properties": {"nosuch": "B"}})),
        (200, "PATCH", format!("{objects}/1"), json!({"properties": {"firstname": "C"}, "objectWriteTraceId": "t3"})),
        (404, "PATCH", format!("{objects}/99999"), json!({"properties": {"firstname": "C"}})),
        (200, "GET", format!("{objects}/1?properties=firstname,email&propertiesWithHistory=firstname"), Value::Null),
        (200, "GET", format!("{objects}/a%40example.com?idProperty=email"), Value::Null),
        (404, "GET", format!("{objects}/99999"), Value::Null),
        (200, "GET", format!("{objects}?limit=2"), Value::Null),
        (
            200,
            "POST",
            format!("{objects}/batch/read"),
            json!({"inputs": [{"id": "1"}], "properties": ["email"], "propertiesWithHistory": ["firstname"]}),
        ),
        (
            207,
            "POST",
            format!("{objects}/batch/read"),
            json!({"inputs": [{"id": "1"}, {"id": "99999"}], "properties": []}),
        ),
        (
            200,
            "POST",
            format!("{objects}/batch/update"),
            json!({"inputs": [{"id": "1", "properties": {"city": "Bern"}}]}),
        ),
        (
            200,
            "POST",
            format!("{objects}/search"),
            json!({"filterGroups": [filter], "properties": ["email"], "limit": 1}),
        ),
        (
            201,
            "POST",
            "/crm/v4/associations/contacts/companies/batch/create".into(),
            json!({"inputs": [{"from": {"id": "1"}, "to": {"id": "2"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}]}]}),
        ),
        (200, "POST", "/crm/associations/2026-03/contacts/companies/batch/read".into(), one("1")),
        (
            204,
            "POST",
            "/crm/associations/2026-09/contacts/companies/batch/archive".into(),
            json!({"inputs": [{"from": {"id": "1"}, "to": [{"id": "2"}]}]}),
        ),
        (200, "GET", "/crm/v3/properties/contacts".into(), Value::Null),
        (
            201,
            "POST",
            "/crm/v3/properties/contacts".into(),
            json!({"name": "score", "label": "Score", "type": "number", "fieldType": "number", "groupName": "information"}),
        ),
        (200, "GET", "/crm/v3/pipelines/deals".into(), Value::Null),
        (200, "GET", "/crm/v3/owners?email=OWNER@example.com".into(), Value::Null),
        (204, "POST", format!("{objects}/batch/archive"), one("1")),
        (204, "DELETE", format!("{objects}/1"), Value::Null),
    ];
    for (status, method, path, body) in calls {
        let reply = caller.call(method, &path, body).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        contract.check(method, &path, &reply);
    }
    stop.drain().await.expect("all tasks end");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of requests")]
async fn salesforce_answers_fit_their_schemas() {
    let (stop, contract) = (shutdown(), Contract::load("salesforce.contract.json"));
    let salesforce = Salesforce::start(SalesforceOptions::default(), &stop).await.expect("loopback");
    let caller = Caller::new(&salesforce.base_url());
    let data = "/services/data/v62.0";
    let made = caller.call("POST", &format!("{data}/sobjects/Account"), json!({"Name": "A"})).await;
    let id = made.body["id"].as_str().expect("an id").to_owned();
    let record = |extra: Value| json!({"allOrNone": false, "records": [extra]});
    let calls = [
        (200, "GET", format!("{data}/sobjects/Account/{id}?fields=Id,Name"), Value::Null),
        (204, "PATCH", format!("{data}/sobjects/Account/{id}"), json!({"Name": "B"})),
        (404, "PATCH", format!("{data}/sobjects/Account/0015g0000zzzzzzAAA"), json!({"Name": "B"})),
        (201, "PATCH", format!("{data}/sobjects/Contact/Relay_Id__c/k1"), json!({"LastName": "L"})),
        (200, "PATCH", format!("{data}/sobjects/Contact/Relay_Id__c/K1"), json!({"LastName": "M"})),
        (200, "GET", format!("{data}/sobjects/Contact/Relay_Id__c/k1"), Value::Null),
        (400, "POST", format!("{data}/sobjects/Contact"), json!({"FirstName": "no last name"})),
        (404, "PATCH", format!("{data}/sobjects/Contact/Relay_Id__c/k2?updateOnly=true"), json!({"LastName": "M"})),
        (
            200,
            "POST",
            format!("{data}/composite/sobjects"),
            record(json!({"attributes": {"type": "Lead"}, "LastName": "L"})),
        ),
        (
            200,
            "PATCH",
            format!("{data}/composite/sobjects"),
            record(json!({"attributes": {"type": "Account"}, "id": id, "Phone": "1"})),
        ),
        (
            400,
            "PATCH",
            format!("{data}/composite/sobjects"),
            record(json!({"attributes": {"type": "Account"}, "Phone": "1"})),
        ),
        (
            200,
            "PATCH",
            format!("{data}/composite/sobjects/Contact/Relay_Id__c"),
            record(json!({"attributes": {"type": "Contact"}, "Relay_Id__c": "k3"})),
        ),
        (
            200,
            "POST",
            format!("{data}/composite"),
            json!({"compositeRequest": [{"method": "GET", "url": format!("{data}/limits"), "referenceId": "r"}]}),
        ),
        (200, "GET", format!("{data}/query?q=SELECT+Id,Name+FROM+Account"), Value::Null),
        (200, "GET", format!("{data}/queryAll?q=SELECT+Id+FROM+Account"), Value::Null),
        (400, "GET", format!("{data}/query?q=SELECT+Nope+FROM+Account"), Value::Null),
        (400, "GET", format!("{data}/query/01gxx-2000"), Value::Null),
        (200, "GET", format!("{data}/sobjects/Contact/describe"), Value::Null),
        (200, "GET", format!("{data}/sobjects"), Value::Null),
        (200, "GET", format!("{data}/limits"), Value::Null),
        (
            200,
            "GET",
            format!("{data}/sobjects/Account/updated?start=2026-01-01T00:00:00Z&end=2126-01-01T00:00:00Z"),
            Value::Null,
        ),
        (200, "DELETE", format!("{data}/composite/sobjects?ids={id}&allOrNone=false"), Value::Null),
        (
            200,
            "GET",
            format!("{data}/sobjects/Account/deleted?start=2026-01-01T00:00:00Z&end=2126-01-01T00:00:00Z"),
            Value::Null,
        ),
        (404, "DELETE", format!("{data}/sobjects/Account/{id}"), Value::Null),
    ];
    for (status, method, path, body) in calls {
        let reply = caller.call(method, &path, body).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        contract.check(method, &path, &reply);
    }
    stop.drain().await.expect("all tasks end");
}
