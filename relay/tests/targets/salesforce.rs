//! Salesforce: the requests that are made, and what is made of the answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use headgate_relay::target::{
    By, CreateItem, Disposition, NativeValues, Quota, ReadItem, UpdateItem, WriteCall, WriteItems, Written,
};
use headgate_schemas::{ObjectType, Resolution, System, Value};
use uuid::Uuid;

use crate::contract::assert_fits;
use crate::server::{Answer, Server, ok, read};

fn values(pairs: &[(&str, Value)]) -> NativeValues {
    pairs.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect()
}

fn rows(rows: &[(&str, &str)]) -> String {
    let rows: Vec<String> = rows
        .iter()
        .map(|(id, rest)| {
            format!(r#"{{"attributes":{{"type":"Contact"}},"Id":"{id}","SystemModstamp":"2026-01-01T11:59:58.000+0000"{rest}}}"#)
        })
        .collect();
    format!(r#"{{"totalSize":{},"done":true,"records":[{}]}}"#, rows.len(), rows.join(","))
}

#[tokio::test]
async fn a_read_by_native_id_is_one_query_and_what_it_misses_is_looked_for_among_the_deleted() {
    let server = Server::start(|request| {
        if request.path.contains("/queryAll?") {
            let gone = r#"{"attributes":{"type":"Contact"},"Id":"001000000000001AAA","IsDeleted":true,"MasterRecordId":"001000000000002"}"#;
            return ok(format!(r#"{{"totalSize":1,"done":true,"records":[{gone}]}}"#));
        }
        let body = rows(&[(
            "0035g00000AbCdEAAV",
            r#","Relay_Id__c":"ours","LastName":"Lovelace","NumberOfDogs__c":12.50,"HasOptedOutOfEmail":false,"Title":null"#,
        )]);
        Answer::Json(200, vec![("Sforce-Limit-Info", "api-usage=18/15000".to_owned())], body)
    })
    .await;
    let ids = ["001000000000001", "0035g00000AbCdE", "not-an-id"];
    let call = read(By::NativeId, &ids, &["LastName", "NumberOfDogs__c", "HasOptedOutOfEmail", "Title"]);
    let answered = server.target(System::Salesforce, "62.0").read(&call).await.unwrap();
    let requests = server.requests();
    assert_eq!(
        requests[0].literal(),
        concat!(
            "GET /services/data/v62.0/query?q=SELECT%20Id,SystemModstamp,Relay_Id__c,LastName,NumberOfDogs__c,HasOptedOutOfEmail,Title",
            "%20FROM%20Contact%20WHERE%20Id%20IN%20('001000000000001AAA','0035g00000AbCdEAAV')\n",
            "accept: application/json\n",
            "authorization: Bearer test-token\n",
            "sforce-call-options: client=headgate\n",
            "user-agent: headgate/0.1.0\n",
        )
    );
    assert_eq!(
        requests[1].path,
        "/services/data/v62.0/queryAll?q=SELECT%20Id,IsDeleted,MasterRecordId%20FROM%20Contact%20WHERE%20Id%20IN%20('001000000000001AAA')"
    );
    assert_eq!(requests.len(), 2);
    requests.iter().for_each(|request| assert_fits(System::Salesforce, request));
    let [ReadItem::Missing { merged_into }, ReadItem::Found(found), ReadItem::Failed(failed)] = &answered.items[..]
    else {
        panic!("{:?}", answered.items)
    };
    assert_eq!(merged_into.as_deref(), Some("001000000000002AAA"));
    assert_eq!((found.id.as_str(), found.external_id.as_deref()), ("0035g00000AbCdEAAV", Some("ours")));
    assert_eq!(found.version.resolution, Resolution::S);
    let expected = values(&[
        ("LastName", Value::text("Lovelace")),
        ("NumberOfDogs__c", Value::Number("12.50".into())),
        ("HasOptedOutOfEmail", Value::Bool(false)),
        ("Title", Value::Null),
    ]);
    assert_eq!(found.values, expected);
    assert_eq!((failed.code.as_str(), &failed.disposition), ("MALFORMED_ID", &Disposition::Permanent));
    assert_eq!(
        answered.quota,
        [Quota { window: "daily", left: 14_982, most: 15_000, per: Duration::from_secs(86_400) }]
    );
    assert_eq!(answered.date, Some("2026-01-01T12:00:00Z".parse().unwrap()));
}

#[tokio::test]
async fn a_read_by_external_id_asks_for_that_field_and_matches_without_case() {
    let server =
        Server::start(|_| ok(rows(&[("003000000000001", r#","Relay_Id__c":"0190A0B0-0000-7000-8000-00000000000A""#)])))
            .await;
    let call =
        read(By::ExternalId, &["0190a0b0-0000-7000-8000-00000000000b", "0190a0b0-0000-7000-8000-00000000000a"], &[]);
    let answered = server.target(System::Salesforce, "62.0").read(&call).await.unwrap();
    assert_eq!(
        server.request().path,
        concat!(
            "/services/data/v62.0/query?q=SELECT%20Id,SystemModstamp,Relay_Id__c%20FROM%20Contact%20WHERE%20Relay_Id__c%20IN%20",
            "('0190a0b0-0000-7000-8000-00000000000b','0190a0b0-0000-7000-8000-00000000000a')"
        )
    );
    let [ReadItem::Missing { .. }, ReadItem::Found(found)] = &answered.items[..] else {
        panic!("{:?}", answered.items)
    };
    assert_eq!(found.id, "003000000000001AAA");
    assert_eq!(found.values, values(&[]));
}

/// Answers a query with a row for each id it names.
fn all_asked(path: &str) -> String {
    let ids: Vec<(&str, &str)> = path.split('\'').skip(1).step_by(2).map(|id| (id, "")).collect();
    rows(&ids)
}

#[tokio::test]
async fn a_full_pack_is_split_by_the_length_of_the_address() {
    let server = Server::start(|request| ok(all_asked(&request.path))).await;
    let target = server.target(System::Salesforce, "62.0");
    let ids: Vec<String> = (0..target.pack().read).map(|i| format!("003000000000{i:03}AAA")).collect();
    let call = read(By::NativeId, &ids.iter().map(String::as_str).collect::<Vec<_>>(), &["LastName"]);
    let answered = target.read(&call).await.unwrap();
    let found: Vec<&str> = answered
        .items
        .iter()
        .map(|item| if let ReadItem::Found(found) = item { found.id.as_str() } else { panic!("{item:?}") })
        .collect();
    assert_eq!(found, ids, "in the order of the call");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert!(request.path.len() <= 4_000);
        assert_fits(System::Salesforce, &request);
    }
}

#[tokio::test]
async fn further_pages_are_followed_on_the_same_host_only() {
    let server = Server::start(|request| {
        let next =
            if request.path.contains("LastName") { "/services/data/v62.0/query/01g-2" } else { "http://127.0.0.1:9/x" };
        let first = rows(&[("003000000000001AAA", "")])
            .replace(r#""done":true"#, &format!(r#""done":false,"nextRecordsUrl":"{next}""#));
        ok(if request.path.ends_with("/01g-2") { rows(&[("003000000000002AAA", "")]) } else { first })
    })
    .await;
    let target = server.target(System::Salesforce, "62.0");
    let ids = ["003000000000001AAA", "003000000000002AAA"];
    let answered = target.read(&read(By::NativeId, &ids, &["LastName"])).await.unwrap();
    assert!(matches!(answered.items[..], [ReadItem::Found(_), ReadItem::Found(_)]), "{:?}", answered.items);
    assert_eq!(server.requests()[1].path, "/services/data/v62.0/query/01g-2");
    assert_fits(System::Salesforce, &server.requests()[1]);
    let error = target.read(&read(By::NativeId, &ids, &["Title"])).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.disposition), ("malformed_answer", Disposition::Retry));
    assert_eq!(server.requests().len(), 3);
}

fn create() -> WriteCall {
    let item = |id: u128, name: &str| CreateItem {
        external_id: Uuid::from_u128(id),
        trace: "t".to_owned(),
        values: values(&[
            ("LastName", Value::text(name)),
            ("NumberOfDogs__c", Value::Number("12.50".into())),
            ("relay_id__C", "x".into()),
        ]),
    };
    WriteCall { object: ObjectType::CONTACT, items: WriteItems::Create(vec![item(10, "Lovelace"), item(11, "Hopper")]) }
}

#[tokio::test]
async fn creates_are_collection_upserts_on_the_external_id() {
    let server = Server::start(|_| {
        ok(r#"[{"id":"003000000000001","success":true,"created":true,"errors":[]},
               {"id":"003000000000002AAA","success":true,"created":false,"errors":[]}]"#)
    })
    .await;
    let answered = server.target(System::Salesforce, "62.0").write(&create()).await.unwrap();
    assert_eq!(
        server.request().literal(),
        concat!(
            "PATCH /services/data/v62.0/composite/sobjects/Contact/Relay_Id__c\n",
            "accept: application/json\n",
            "authorization: Bearer test-token\n",
            "content-type: application/json\n",
            "sforce-call-options: client=headgate\n",
            "user-agent: headgate/0.1.0\n",
            r#"{"allOrNone":false,"records":["#,
            r#"{"attributes":{"type":"Contact"},"Relay_Id__c":"00000000-0000-0000-0000-00000000000a","LastName":"Lovelace","NumberOfDogs__c":12.50},"#,
            r#"{"attributes":{"type":"Contact"},"Relay_Id__c":"00000000-0000-0000-0000-00000000000b","LastName":"Hopper","NumberOfDogs__c":12.50}]}"#
        )
    );
    assert_fits(System::Salesforce, &server.request());
    let written =
        |id: &str, created| Written { id: Some(id.to_owned()), created: Some(created), version: None, stored: None };
    let items: Vec<Written> = answered.items.into_iter().map(Result::unwrap).collect();
    assert_eq!(items, [written("003000000000001AAA", true), written("003000000000002AAA", false)]);
}

fn update(ids: &[&str]) -> WriteCall {
    let items = ids.iter().map(|id| UpdateItem {
        id: (*id).to_owned(),
        trace: "t".to_owned(),
        values: values(&[("Title", Value::Null), ("Phone", Value::text("+41 44 668 18 00"))]),
        unless_changed: None,
    });
    WriteCall { object: ObjectType::COMPANY, items: WriteItems::Update(items.collect()) }
}

#[tokio::test]
async fn updates_are_collection_updates_by_native_id_with_a_result_for_each_record() {
    let server = Server::start(|_| {
        ok(r#"[{"id":"001000000000001AAA","success":true,"errors":[]},
               {"success":false,"errors":[{"statusCode":"STRING_TOO_LONG","message":"Title: data value too large","fields":["Title"]}]},
               {"id":null,"success":false,"errors":[{"statusCode":"ENTITY_IS_DELETED","message":"entity is deleted","fields":[]}]}]"#)
    })
    .await;
    let call = update(&["001000000000001AAA", "001000000000002AAA", "001000000000003AAA"]);
    let answered = server.target(System::Salesforce, "62.0").write(&call).await.unwrap();
    let request = server.request();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("PATCH", "/services/data/v62.0/composite/sobjects"));
    assert_eq!(request.headers["sforce-call-options"], "client=headgate");
    assert!(request.body.starts_with(concat!(
        r#"{"allOrNone":false,"records":["#,
        r#"{"attributes":{"type":"Account"},"id":"001000000000001AAA","Phone":"+41 44 668 18 00","Title":null},"#
    )));
    assert_fits(System::Salesforce, &request);
    let [Ok(first), Err(second), Err(third)] = &answered.items[..] else { panic!("{:?}", answered.items) };
    assert_eq!(first.id.as_deref(), Some("001000000000001AAA"));
    assert_eq!(first.created, None);
    assert_eq!((second.code.as_str(), &second.disposition), ("STRING_TOO_LONG", &Disposition::Permanent));
    assert_eq!(
        (second.message.as_str(), &second.fields[..]),
        ("Title: data value too large", &["Title".to_owned()][..])
    );
    assert_eq!((third.code.as_str(), &third.disposition), ("ENTITY_IS_DELETED", &Disposition::Gone));
}

#[tokio::test]
async fn a_full_pack_of_writes_fits_the_contract_and_an_empty_one_makes_no_call() {
    let one = r#"{"id":"001000000000001AAA","success":true,"errors":[]}"#;
    let server = Server::start(move |_| ok(format!("[{}]", vec![one; 200].join(",")))).await;
    let target = server.target(System::Salesforce, "62.0");
    target.write(&update(&[])).await.unwrap();
    let answered = target.write(&update(&vec!["001000000000001AAA"; target.pack().write])).await.unwrap();
    assert_eq!(answered.items.len(), 200);
    assert_fits(System::Salesforce, &server.request());
}

#[tokio::test]
async fn an_answer_to_a_write_that_proves_nothing_is_unknown() {
    let bodies = ["", "[]", "{}", r#"[{"success":true}]"#, r#"[{"success":true},{"success":"yes"}]"#, "<html>"];
    for body in bodies {
        let server = Server::start(move |_| ok(body)).await;
        let error = server.target(System::Salesforce, "62.0").write(&create()).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.disposition), ("malformed_answer", Disposition::Unknown), "{body}");
    }
}

#[tokio::test]
async fn fields_are_described_with_what_may_be_set() {
    let server = Server::start(|request| match request.path.as_str() {
        "/services/data/v62.0/sobjects/Opportunity/describe" => {
            ok(r#"{"name":"Opportunity","fields":[{"name":"Name","type":"string","createable":true,"updateable":true},
                {"name":"SystemModstamp","type":"datetime","createable":false,"updateable":false}]}"#)
        }
        _ => Answer::Json(404, Vec::new(), r#"[{"errorCode":"NOT_FOUND","message":"m"}]"#.to_owned()),
    })
    .await;
    let target = server.target(System::Salesforce, "62.0");
    let fields = target.describe(&ObjectType::DEAL).await.unwrap().unwrap();
    let settable: BTreeSet<_> = fields.iter().map(|f| (&*f.name, f.createable, f.updateable)).collect();
    assert_eq!(settable, [("Name", true, true), ("SystemModstamp", false, false)].into());
    assert_eq!(target.describe(&ObjectType::CONTACT).await.unwrap(), None);
    for request in server.requests() {
        assert_fits(System::Salesforce, &request);
    }
}
