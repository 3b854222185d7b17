//! Faults on demand, as a caller meets them.

#![allow(clippy::expect_used, reason = "a test that cannot go on stops here")]

mod support;

use std::time::Duration;

use headgate_bench::sim::fault::{Fault, FaultRule, Refusal, Scope, When};
use headgate_bench::sim::hubspot::{Hubspot, HubspotOptions};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceOptions};
use serde_json::{Value, json};
use support::{Caller, shutdown};

const CONTACTS: &str = "/crm/v3/objects/contacts";

#[tokio::test]
async fn refusals_speak_the_language_of_each_system() {
    let stop = shutdown();
    let hubspot = Hubspot::start(HubspotOptions::default(), &stop).await.expect("loopback");
    let salesforce = Salesforce::start(SalesforceOptions::default(), &stop).await.expect("loopback");
    let limited = Fault::Refuse(Refusal::RateLimited { retry_after: Some(Duration::from_secs(7)) });
    hubspot.faults().next(1, Scope::Reads, limited.clone());
    salesforce.faults().next(1, Scope::Reads, limited);
    let reply = Caller::new(&hubspot.base_url()).get(CONTACTS).await;
    assert_eq!(
        (reply.status, reply.header("retry-after"), &reply.body["policyName"]),
        (429, "7", &json!("TEN_SECONDLY_ROLLING"))
    );
    let caller = Caller::new(&salesforce.base_url());
    let reply = caller.get("/services/data/v62.0/limits").await;
    assert_eq!((reply.status, &reply.body[0]["errorCode"]), (403, &json!("REQUEST_LIMIT_EXCEEDED")));
    assert_eq!(caller.get("/services/data/v62.0/limits").await.status, 200);
    for (refusal, status) in [
        (Refusal::Unauthorized, 401),
        (Refusal::ServerError, 500),
        (Refusal::Unavailable, 503),
        (Refusal::Status(423), 423),
    ] {
        salesforce.faults().next(1, Scope::Any, Fault::Refuse(refusal));
        assert_eq!(caller.get("/services/data/v62.0/limits").await.status, status);
    }
}

#[tokio::test]
async fn a_cut_connection_hides_whether_the_write_was_applied() {
    let stop = shutdown();
    let hubspot = Hubspot::start(HubspotOptions::default(), &stop).await.expect("loopback");
    let caller = Caller::new(&hubspot.base_url());
    let hang = |applied| Fault::Hang { wait: Duration::from_millis(5), applied };
    for (fault, rows) in [(Fault::ResetBefore, 0), (Fault::ResetAfter, 1), (hang(false), 1), (hang(true), 2)] {
        hubspot.faults().clear();
        hubspot.faults().push(FaultRule {
            on: Scope::Path("contacts".into()),
            fault: fault.clone(),
            when: When::UntilCleared,
        });
        // One connection at a time: a fresh client cannot find an idle one to try again on.
        let answer = Caller::new(&hubspot.base_url()).try_call("POST", CONTACTS, &json!({"properties": {}})).await;
        assert!(answer.is_err(), "{fault:?}");
        assert_eq!(hubspot.ids("contacts").len(), rows, "{fault:?}");
    }
    hubspot.faults().clear();
    hubspot.faults().next(1, Scope::Any, Fault::Slow(Duration::from_millis(5)));
    assert_eq!(caller.get(CONTACTS).await.status, 200);
}

#[tokio::test]
async fn some_records_of_a_call_fail_and_the_others_go_through() {
    let stop = shutdown();
    let salesforce = Salesforce::start(SalesforceOptions::default(), &stop).await.expect("loopback");
    let caller = Caller::new(&salesforce.base_url());
    let fault = Fault::RejectRecord { field: "LastName".into(), value: "poison".into() };
    salesforce.faults().push(FaultRule { on: Scope::Writes, fault, when: When::UntilCleared });
    let record = |name: &str| json!({"attributes": {"type": "Contact"}, "LastName": name});
    let body = json!({"allOrNone": false, "records": [record("a"), record("poison"), record("b")]});
    let reply = caller.call("POST", "/services/data/v62.0/composite/sobjects", body).await;
    let success: Vec<&Value> = reply.body.as_array().expect("list").iter().map(|r| &r["success"]).collect();
    assert_eq!(success, [&json!(true), &json!(false), &json!(true)]);
    assert_eq!(reply.body[1]["errors"][0]["statusCode"], "FIELD_CUSTOM_VALIDATION_EXCEPTION");
    assert_eq!(salesforce.ids("Contact").len(), 2);
}
