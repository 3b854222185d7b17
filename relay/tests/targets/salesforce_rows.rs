//! Salesforce row by row: preconditions, deletions, duplicates, rows found by a value, and the field of our id.

use std::sync::Arc;

use headgate_relay::target::{
    By, CreateItem, DeleteItem, Disposition, FindCall, NativeValues, Prepared, ReadItem, UpdateItem, Version,
    WriteCall, WriteItems,
};
use headgate_schemas::{ObjectType, Resolution, System, Value};
use uuid::Uuid;

use crate::contract::assert_fits;
use crate::server::{Answer, Server, ok, read};

const SAVED: &str = r#"{"id":"003000000000009AAA","success":true,"errors":[]}"#;

fn values(pairs: &[(&str, &str)]) -> NativeValues {
    pairs.iter().map(|(name, value)| (Arc::from(*name), Value::from(*value))).collect()
}

/// Records by number; those named twice carry a precondition.
fn update(items: &[(u32, Option<&str>)]) -> WriteCall {
    let item = |(id, version): &(u32, Option<&str>)| UpdateItem {
        id: format!("00300000000000{id}"),
        trace: "t".to_owned(),
        values: values(&[("Title", "Countess"), ("ID", "x")]),
        unless_changed: version.map(|at| Version { at: at.parse().unwrap(), resolution: Resolution::S }),
    };
    WriteCall { object: ObjectType::CONTACT, items: WriteItems::Update(items.iter().map(item).collect()) }
}

fn told(items: &[Result<headgate_relay::target::Written, headgate_relay::target::TargetError>]) -> Vec<String> {
    let of = |item: &Result<headgate_relay::target::Written, headgate_relay::target::TargetError>| match item {
        Ok(written) => written.id.clone().unwrap_or_default(),
        Err(error) => format!("{} {:?} {}", error.code, error.disposition, error.fields.join(",")),
    };
    items.iter().map(of).collect()
}

#[tokio::test]
async fn a_precondition_makes_a_row_a_call_of_its_own() {
    let server = Server::start(|request| match request.path.rsplit('/').next().unwrap() {
        "003000000000001AAA" => Answer::Json(204, Vec::new(), String::new()),
        "003000000000002AAA" => Answer::Json(412, Vec::new(), String::new()),
        "003000000000003AAA" => {
            Answer::Json(404, Vec::new(), r#"[{"errorCode":"ENTITY_IS_DELETED","message":"m"}]"#.to_owned())
        }
        "003000000000004AAA" => {
            let faults = r#"[{"errorCode":"UNABLE_TO_LOCK_ROW","message":"m"},{"errorCode":"STRING_TOO_LONG","message":"m","fields":["Title"]}]"#;
            Answer::Json(400, Vec::new(), faults.to_owned())
        }
        "003000000000006AAA" => ok(SAVED),
        "003000000000007AAA" => Answer::Json(500, Vec::new(), String::new()),
        _ => ok(r#"[{"id":"003000000000005AAA","success":true,"errors":[]}]"#),
    })
    .await;
    let at = Some("1994-11-06T08:49:37Z");
    let target = server.target(System::Salesforce, "62.0");
    assert!(target.conditional());
    let call = update(&[(1, at), (2, at), (3, at), (4, at), (5, None), (6, at), (7, at)]);
    let answered = target.write(&call).await.unwrap();
    assert_eq!(
        told(&answered.items),
        [
            "003000000000001AAA",
            "PRECONDITION_FAILED Conflict ",
            "NOT_FOUND Gone ",
            "STRING_TOO_LONG Permanent Title",
            "003000000000005AAA",
            "003000000000009AAA",
            "http_500 Unknown ",
        ]
    );
    let requests = server.requests();
    assert_eq!(requests.len(), 7);
    requests.iter().for_each(|request| assert_fits(System::Salesforce, request));
    let first = requests.iter().find(|r| r.path.ends_with("003000000000001AAA")).unwrap();
    assert_eq!(
        first.literal(),
        concat!(
            "PATCH /services/data/v62.0/sobjects/Contact/003000000000001AAA\n",
            "accept: application/json\n",
            "authorization: Bearer test-token\n",
            "content-type: application/json\n",
            "if-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT\n",
            "sforce-call-options: client=headgate\n",
            "user-agent: headgate/0.1.0\n",
            r#"{"Title":"Countess"}"#
        )
    );
}

#[tokio::test]
async fn rows_that_all_fail_alike_are_a_failure_of_the_connection() {
    let at = Some("1994-11-06T08:49:37Z");
    let body = r#"[{"errorCode":"INVALID_SESSION_ID","message":"m"}]"#;
    let server = Server::start(|_| Answer::Json(401, Vec::new(), body.to_owned())).await;
    let target = server.target(System::Salesforce, "62.0");
    let error = target.write(&update(&[(1, at), (2, None), (3, at)])).await.unwrap_err();
    assert_eq!(error.disposition, Disposition::Reauthorise);
}

#[tokio::test]
async fn deletions_are_one_collection_call_and_what_is_gone_counts_as_done() {
    let server = Server::start(|_| {
        ok(r#"[{"id":"003000000000001AAA","success":true,"errors":[]},
            {"success":false,"errors":[{"statusCode":"ENTITY_IS_DELETED","message":"entity is deleted","fields":[]}]},
            {"success":false,"errors":[{"statusCode":"DELETE_FAILED","message":"it has cases","fields":[]}]}]"#)
    })
    .await;
    let item = |id: &str| DeleteItem { id: id.to_owned(), trace: "t".to_owned(), unless_changed: None, erase: true };
    let items = ["003000000000001", "003000000000002AAA", "not an id", "003000000000003AAA"].map(item).into();
    let call = WriteCall { object: ObjectType::CONTACT, items: WriteItems::Delete(items) };
    let answered = server.target(System::Salesforce, "62.0").write(&call).await.unwrap();
    assert_eq!(
        told(&answered.items),
        ["003000000000001AAA", "003000000000002AAA", "MALFORMED_ID Permanent ", "DELETE_FAILED Permanent "]
    );
    let request = server.request();
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        (
            "DELETE",
            "/services/data/v62.0/composite/sobjects?ids=003000000000001AAA,003000000000002AAA,003000000000003AAA&allOrNone=false"
        )
    );
    assert_fits(System::Salesforce, &request);
}

#[tokio::test]
async fn a_refused_duplicate_names_the_record_that_stands_there() {
    let matched = |ids: &[&str]| {
        let records: Vec<String> = ids.iter().map(|id| format!(r#"{{"record":{{"Id":"{id}"}}}}"#)).collect();
        format!(
            r#"[{{"success":false,"errors":[{{"statusCode":"DUPLICATES_DETECTED","message":"Use one of these records?",
                "fields":[],"duplicateResult":{{"matchResults":[{{"matchRecords":[{}]}}]}}}}]}}]"#,
            records.join(",")
        )
    };
    let named = r#"[{"success":false,"errors":[{"statusCode":"DUPLICATE_VALUE","fields":["Relay_Id__c"],
        "message":"duplicate value found: Relay_Id__c duplicates value on record with id: 003000000000002"}]}]"#;
    let table = [
        (matched(&["003000000000001"]), Some("003000000000001AAA")),
        (matched(&["003000000000001", "003000000000001AAA"]), Some("003000000000001AAA")),
        (matched(&["003000000000001", "003000000000002"]), None),
        (matched(&[]), None),
        (matched(&["003000000000001"]).replace("duplicateResult", "duplicateResut"), Some("003000000000001AAA")),
        (named.to_owned(), Some("003000000000002AAA")),
    ];
    let item =
        CreateItem { external_id: Uuid::from_u128(1), trace: "t".to_owned(), values: values(&[("LastName", "L")]) };
    let call = WriteCall { object: ObjectType::CONTACT, items: WriteItems::Create(vec![item]) };
    for (body, existing) in table {
        let answer = body.clone();
        let server = Server::start(move |_| ok(answer.clone())).await;
        let answered = server.target(System::Salesforce, "62.0").write(&call).await.unwrap();
        let error = answered.items[0].as_ref().unwrap_err();
        assert_eq!((&error.disposition, error.existing.as_deref()), (&Disposition::Conflict, existing), "{body}");
    }
}

#[tokio::test]
async fn rows_are_found_by_a_value_without_case() {
    let server = Server::start(|_| {
        let row =
            |id: &str, email: &str| format!(r#"{{"attributes":{{"type":"Contact"}},"Id":"{id}","Email":"{email}"}}"#);
        let rows: Vec<String> = (10..22)
            .map(|n| row(&format!("0030000000000{n}"), "ADA@example.com"))
            .chain([row("003000000000001", "grace@example.com")])
            .collect();
        ok(format!(r#"{{"totalSize":13,"done":true,"records":[{}]}}"#, rows.join(",")))
    })
    .await;
    let values = ["Grace@Example.com", "o'hara@example.com", "ada@example.com"].map(str::to_owned).into();
    let call = FindCall { object: ObjectType::CONTACT, field: Arc::from("Email"), values };
    let found = server.target(System::Salesforce, "62.0").find(&call).await.unwrap();
    assert_eq!(found.items[0], ["003000000000001AAA"]);
    assert_eq!(found.items[1], Vec::<String>::new());
    assert_eq!((found.items[2].len(), found.items[2][0].as_str()), (10, "003000000000010AAA"));
    assert_eq!(
        server.request().path,
        concat!(
            "/services/data/v62.0/query?q=SELECT%20Id,Email%20FROM%20Contact%20WHERE%20Email%20IN%20(",
            "'Grace%40Example.com','o%5C'hara%40example.com','ada%40example.com')"
        )
    );
    assert_fits(System::Salesforce, &server.request());
}

#[tokio::test]
async fn a_field_that_is_missing_or_unfit_is_asked_of_an_administrator() {
    let table = [
        (r#"{"name":"relay_id__c","externalId":true,"unique":true,"createable":true}"#, "Ready"),
        (
            r#"{"name":"Relay_Id__c","externalId":false,"unique":true,"createable":true}"#,
            "the field exists but is not marked as External ID",
        ),
        (
            r#"{"name":"Relay_Id__c","externalId":true,"unique":false,"createable":true}"#,
            "the field exists but its values may repeat",
        ),
        (
            r#"{"name":"Relay_Id__c","externalId":true,"unique":true,"createable":false}"#,
            "the field exists but our user may not write it",
        ),
        (r#"{"name":"Relay_Id__c"}"#, "Ready"),
        (r#""#, r#"Unclear { reason: "the address that describes a type does not answer as Salesforce's does" }"#),
        (r#"{"name":"Email"}"#, "the field does not exist or our user may not see it"),
    ];
    for (field, expected) in table {
        let server = Server::start(move |_| ok(format!(r#"{{"fields":[{field}]}}"#))).await;
        let prepared = server.target(System::Salesforce, "62.0").prepare(&ObjectType::COMPANY).await.unwrap();
        assert_eq!(server.request().path, "/services/data/v62.0/sobjects/Account/describe");
        match prepared {
            Prepared::Blocked { field, advice } => {
                assert_eq!(field, "Relay_Id__c");
                assert!(advice.starts_with(expected), "{advice}");
                assert!(
                    advice.contains("Setup > Object Manager > Account > Fields & Relationships > New > Text"),
                    "{advice}"
                );
            }
            Prepared::Ready | Prepared::Made | Prepared::Unclear { .. } => {
                assert_eq!(format!("{prepared:?}"), expected)
            }
        }
    }
}

#[tokio::test]
async fn a_type_without_our_field_is_read_all_the_same() {
    let server = Server::start(|request| {
        if request.path.ends_with("/describe") {
            let field = r#"{"name":"Relay_Id__c","externalId":true,"unique":true,"createable":true}"#;
            return ok(format!(r#"{{"fields":[{field}]}}"#));
        }
        if request.path.contains("Relay_Id__c") {
            let refused =
                r#"[{"errorCode":"INVALID_FIELD","message":"No such column 'Relay_Id__c' on entity 'Contact'."}]"#;
            return Answer::Json(400, Vec::new(), refused.to_owned());
        }
        let row = r#"{"Id":"003000000000001AAA","SystemModstamp":"2026-01-01T12:00:00.000+0000","Title":"x"}"#;
        ok(format!(r#"{{"totalSize":1,"done":true,"records":[{row}]}}"#))
    })
    .await;
    let target = server.target(System::Salesforce, "62.0");
    let call = read(By::NativeId, &["003000000000001AAA"], &["Title"]);
    let asked = || server.requests().iter().filter(|r| r.path.contains("Relay_Id__c")).count();
    for _ in 0..2 {
        let answered = target.read(&call).await.unwrap();
        let [ReadItem::Found(found)] = &answered.items[..] else { panic!("{:?}", answered.items) };
        assert_eq!(found.external_id, None);
    }
    assert_eq!((asked(), server.requests().len()), (1, 3), "asked for once, then left out");
    target.prepare(&ObjectType::CONTACT).await.unwrap();
    target.read(&call).await.unwrap();
    assert_eq!(asked(), 2, "the field is there now: asked for again");
}
