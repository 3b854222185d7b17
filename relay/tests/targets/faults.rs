//! Everything that can go wrong between a request and its answer, for a read and for a write.
//!
//! A read is always safe to make again. A write is so only while nothing of it was sent: the tables say which is which.

use std::sync::Arc;
use std::time::Duration;

use headgate_relay::http::{Http, Settings};
use headgate_relay::target::{
    self, BuildError, By, Disposition, ReadItem, Target, TargetError, UpdateItem, WriteCall, WriteItems,
};
use headgate_schemas::{ObjectType, System};
use tokio::net::TcpListener;

use crate::server::{Answer, Server, connection, ok, read};

/// Short, and yet it decides nothing: what it cuts off would never have ended.
const DEADLINE: Duration = Duration::from_secs(1);

type Fault = fn() -> Answer;

async fn both(target: &Arc<dyn Target>) -> (TargetError, TargetError) {
    let item = UpdateItem {
        id: "003000000000001AAA".to_owned(),
        trace: "t".to_owned(),
        values: [].into(),
        unless_changed: None,
    };
    let write = WriteCall { object: ObjectType::CONTACT, items: WriteItems::Update(vec![item]) };
    let read = target.read(&read(By::NativeId, &["003000000000001AAA"], &["LastName"])).await.unwrap_err();
    (read, target.write(&write).await.unwrap_err())
}

fn assert_both(errors: (TargetError, TargetError), code: &str, read: Disposition, write: Disposition) {
    assert_eq!((errors.0.code.as_str(), errors.0.disposition), (code, read), "read");
    assert_eq!((errors.1.code.as_str(), errors.1.disposition), (code, write), "write");
}

#[tokio::test]
async fn a_call_that_was_sent_and_lost_is_unknown_only_for_a_write() {
    let table: [(Fault, &str); 4] = [
        (|| Answer::Hang, "timeout"),
        (|| Answer::Cut, "connection_lost"),
        (|| Answer::Half, "connection_lost"),
        (|| ok("x".repeat((64 << 10) + 1)), "answer_too_large"),
    ];
    for (answer, code) in table {
        let server = Server::start(move |_| answer()).await;
        let deadline = if code == "timeout" { DEADLINE } else { Duration::from_secs(30) };
        let errors = both(&server.target_within(System::Salesforce, "62.0", deadline)).await;
        assert_both(errors, code, Disposition::Retry, Disposition::Unknown);
        assert_eq!(server.requests().len(), 2, "{code}: no call is repeated");
    }
}

#[tokio::test]
async fn a_call_without_a_connection_was_never_sent() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = format!("http://{closed}");
    // Accepted by the system, but nobody answers the TLS greeting: the request cannot have left.
    let mute = format!("https://{}", silent.local_addr().unwrap());
    for (base_url, connect, deadline) in [
        (&refused, Duration::from_secs(30), Duration::from_secs(30)),
        (&mute, DEADLINE, Duration::from_secs(30)),
        (&mute, Duration::from_secs(30), DEADLINE),
    ] {
        let http = Http::new(Settings { connect, ..Settings::default() }).unwrap();
        let target = target::build(&connection(System::Salesforce, "62.0", base_url), &http, deadline).unwrap();
        assert_both(both(&target).await, "connect_failed", Disposition::Retry, Disposition::Retry);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(|_| ok("[]")).await;
    let location = elsewhere.base_url.clone();
    let server = Server::start(move |_| Answer::Json(307, vec![("location", location.clone())], String::new())).await;
    let errors = both(&server.target(System::Salesforce, "62.0")).await;
    assert_both(errors, "redirected", Disposition::Permanent, Disposition::Permanent);
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn refusals_of_the_whole_call_reach_the_caller() {
    let rate = |seconds| Disposition::Rate { wait: Duration::from_secs(seconds) };
    let table = [
        (
            401,
            "",
            r#"[{"errorCode":"INVALID_SESSION_ID","message":"m"}]"#,
            "INVALID_SESSION_ID",
            Disposition::Reauthorise,
            Disposition::Reauthorise,
        ),
        (429, "7", "", "http_429", rate(7), rate(7)),
        (500, "", "", "http_500", Disposition::Retry, Disposition::Unknown),
        (
            503,
            "",
            r#"[{"errorCode":"SERVER_UNAVAILABLE","message":"m"}]"#,
            "SERVER_UNAVAILABLE",
            Disposition::Retry,
            Disposition::Retry,
        ),
    ];
    for (status, after, body, code, read, write) in table {
        let server =
            Server::start(move |_| Answer::Json(status, vec![("retry-after", after.to_owned())], body.to_owned()))
                .await;
        assert_both(both(&server.target(System::Salesforce, "62.0")).await, code, read, write);
    }
}

#[tokio::test]
async fn hubspot_reads_fail_in_the_same_classes() {
    let server = Server::start(|_| {
        let body = r#"{"category":"RATE_LIMITS","message":"m","policyName":"TEN_SECONDLY_ROLLING"}"#;
        Answer::Json(429, Vec::new(), body.to_owned())
    })
    .await;
    let error = server.target(System::Hubspot, "2026-09").read(&read(By::NativeId, &["1"], &[])).await.unwrap_err();
    assert_eq!(error.disposition, Disposition::Rate { wait: Duration::from_secs(10) });
    let server = Server::start(|_| Answer::Cut).await;
    let error = server.target(System::Hubspot, "2026-09").read(&read(By::NativeId, &["1"], &[])).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.disposition), ("connection_lost", Disposition::Retry));
}

#[tokio::test]
async fn one_failed_query_of_several_fails_the_read() {
    let server = Server::start(|request| {
        let last = request.path.contains("003000000000199AAA");
        if last {
            Answer::Json(500, Vec::new(), String::new())
        } else {
            ok(r#"{"totalSize":0,"done":true,"records":[]}"#)
        }
    })
    .await;
    let ids: Vec<String> = (0..200).map(|i| format!("003000000000{i:03}AAA")).collect();
    let call = read(By::NativeId, &ids.iter().map(String::as_str).collect::<Vec<_>>(), &["LastName"]);
    let answered = server.target(System::Salesforce, "62.0").read(&call).await;
    assert_eq!(
        answered.map(|a| a.items.iter().filter(|i| matches!(i, ReadItem::Missing { .. })).count()).unwrap_err().code,
        "http_500"
    );
}

#[test]
fn what_cannot_be_built_says_what_to_change() {
    let http = Http::new(Settings::default()).unwrap();
    let build = |system, version: &str, client: &str, field: &str| {
        let mut config = connection(system, version, "http://127.0.0.1:1");
        config.client = client.to_owned();
        config.external_id_field = field.to_owned();
        target::build(&config, &http, DEADLINE).map(|_| ()).map_err(|e: BuildError| e.to_string())
    };
    assert_eq!(build(System::Salesforce, "62.0", "headgate", "Relay_Id__c"), Ok(()));
    assert_eq!(build(System::Salesforce, "v59.0", "my.app-2", "Relay_Id__c"), Ok(()));
    let wrong = [
        (
            System::Hubspot,
            "v4",
            "headgate",
            "relay_id",
            "connection `main`: api_version must be 2026-09, 2026-03 or v3",
        ),
        (
            System::Salesforce,
            "58.0",
            "headgate",
            "R__c",
            "connection `main`: api_version must be 59.0 or later, like 62.0",
        ),
        (
            System::Salesforce,
            "latest",
            "headgate",
            "R__c",
            "connection `main`: api_version must be 59.0 or later, like 62.0",
        ),
        (
            System::Salesforce,
            "62.0",
            "a b",
            "R__c",
            "connection `main`: client may hold letters, digits and ._/- only, because Salesforce records it",
        ),
        (
            System::Salesforce,
            "62.0",
            "headgate",
            "Relay Id",
            "connection `main`: external_id_field must be a field name, like Relay_Id__c",
        ),
        (
            System::Pipedrive,
            "v2",
            "headgate",
            "relay_id",
            "connection `main`: this version has no target for pipedrive; use hubspot or salesforce",
        ),
    ];
    for (system, version, client, field, message) in wrong {
        assert_eq!(build(system, version, client, field), Err(message.to_owned()));
    }
}
