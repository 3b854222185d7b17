//! HubSpot as a CRM that is written: the requests literally, and what is made of answers in any order.

use headgate_relay::target::{
    CreateItem, DeleteItem, Disposition, FindCall, NativeValues, Prepared, UpdateItem, Version, WriteCall, WriteItems,
    Written,
};
use headgate_schemas::{ObjectType, Resolution, System, Value};
use std::sync::Arc;
use uuid::Uuid;

use crate::contract::assert_fits;
use crate::server::{Answer, Server, ok};

fn values(pairs: &[(&str, Value)]) -> NativeValues {
    pairs.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect()
}

fn create(ids: &[u128]) -> WriteCall {
    let item = |id: &u128| CreateItem {
        external_id: Uuid::from_u128(*id),
        trace: format!("w{id}"),
        values: values(&[
            ("email", "a@example.com".into()),
            ("relay_id", "x".into()),
            ("seats", Value::Number("12.50".into())),
        ]),
    };
    WriteCall { object: ObjectType::CONTACT, items: WriteItems::Create(ids.iter().map(item).collect()) }
}

fn update(items: &[(&str, &str)]) -> WriteCall {
    let item = |(id, trace): &(&str, &str)| UpdateItem {
        id: (*id).to_owned(),
        trace: (*trace).to_owned(),
        values: values(&[("phone", Value::Null), ("hs_optout", Value::Bool(true))]),
        unless_changed: None,
    };
    WriteCall { object: ObjectType::COMPANY, items: WriteItems::Update(items.iter().map(item).collect()) }
}

fn delete(items: &[(&str, bool)]) -> WriteCall {
    let item = |(id, erase): &(&str, bool)| DeleteItem {
        id: (*id).to_owned(),
        trace: "w".to_owned(),
        unless_changed: None,
        erase: *erase,
    };
    WriteCall { object: ObjectType::CONTACT, items: WriteItems::Delete(items.iter().map(item).collect()) }
}

#[tokio::test]
async fn creates_are_one_batch_upsert_by_our_own_id() {
    let server = Server::start(|_| {
        ok(r#"{"status":"COMPLETE","results":[
            {"id":"502","new":false,"objectWriteTraceId":"w11","createdAt":"2026-01-01T00:00:00Z",
             "updatedAt":"2026-01-01T12:00:00.007Z","archived":false,
             "properties":{"email":"a@example.com","seats":"12.5","hs_object_id":"502"}},
            {"id":"501","new":true,"createdAt":"2026-01-01T00:00:00Z","updatedAt":"2026-01-01T12:00:00Z","archived":false,
             "properties":{"relay_id":"00000000-0000-0000-0000-00000000000A"}}]}"#)
    })
    .await;
    let answered = server.target(System::Hubspot, "2026-09").write(&create(&[10, 11])).await.unwrap();
    assert_eq!(
        server.request().literal(),
        concat!(
            "POST /crm/objects/2026-09/contacts/batch/upsert\n",
            "accept: application/json\n",
            "authorization: Bearer test-token\n",
            "content-type: application/json\n",
            "user-agent: headgate/0.1.0\n",
            r#"{"inputs":[{"id":"00000000-0000-0000-0000-00000000000a","idProperty":"relay_id","objectWriteTraceId":"w10","#,
            r#""properties":{"email":"a@example.com","seats":"12.50"}},"#,
            r#"{"id":"00000000-0000-0000-0000-00000000000b","idProperty":"relay_id","objectWriteTraceId":"w11","#,
            r#""properties":{"email":"a@example.com","seats":"12.50"}}]}"#
        )
    );
    assert_fits(System::Hubspot, &server.request());
    let version = |at: &str| Some(Version { at: at.parse().unwrap(), resolution: Resolution::Ms });
    let stored = Some(values(&[("email", "a@example.com".into()), ("seats", "12.5".into())]));
    let expected = [
        Written {
            id: Some("501".to_owned()),
            created: Some(true),
            version: version("2026-01-01T12:00:00Z"),
            stored: Some(values(&[])),
        },
        Written {
            id: Some("502".to_owned()),
            created: Some(false),
            version: version("2026-01-01T12:00:00.007Z"),
            stored,
        },
    ];
    assert_eq!(answered.items.into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn updates_go_by_native_id_and_every_outcome_finds_its_record() {
    let server = Server::start(|_| {
        let body = r#"{"status":"COMPLETE","numErrors":4,"results":[
            {"id":"77","objectWriteTraceId":"w1","updatedAt":"2026-01-01T12:00:00Z","properties":{"phone":""}}],
          "errors":[
            {"category":"VALIDATION_ERROR","message":"bad","context":{"ids":["2"],"objectWriteTraceId":["w2"]},
             "errors":[{"message":"m","code":"PROPERTY_DOESNT_EXIST","in":"hs_optout","context":{"propertyName":["hs_optout"]}}]},
            {"category":"OBJECT_NOT_FOUND","message":"gone","context":{"ids":["3"]}},
            {"category":"CONFLICT","message":"Company already exists. Existing ID: 4711.","context":{"objectWriteTraceId":["w4"]}},
            {"category":"VALIDATION_ERROR","message":"m","errors":[{"code":"CONFLICTING_UNIQUE_VALUE","in":"domain"}],
             "context":{"objectWriteTraceId":["w5"],"existingId":["12"]}}]}"#;
        Answer::Json(207, Vec::new(), body.to_owned())
    })
    .await;
    let call = update(&[("1", "w1"), ("2", "w2"), ("3", "w3"), ("4", "w4"), ("5", "w5"), ("6", "w6")]);
    let answered = server.target(System::Hubspot, "v3").write(&call).await.unwrap();
    let request = server.request();
    assert_eq!(request.path, "/crm/v3/objects/companies/batch/update");
    assert!(request.body.starts_with(
        r#"{"inputs":[{"id":"1","objectWriteTraceId":"w1","properties":{"hs_optout":"true","phone":""}},"#
    ));
    assert_fits(System::Hubspot, &request);
    let first = answered.items[0].as_ref().unwrap();
    assert_eq!(first.id.as_deref(), Some("77"), "merged into another one meanwhile");
    assert_eq!(first.stored, Some(values(&[("phone", Value::Null)])));
    let told: Vec<_> = answered.items[1..]
        .iter()
        .map(|item| item.as_ref().unwrap_err())
        .map(|e| (e.code.as_str(), e.disposition.clone(), e.fields.join(","), e.existing.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("PROPERTY_DOESNT_EXIST", Disposition::Permanent, "hs_optout".to_owned(), None),
            ("OBJECT_NOT_FOUND", Disposition::Gone, String::new(), None),
            ("CONFLICT", Disposition::Conflict, String::new(), Some("4711")),
            ("CONFLICTING_UNIQUE_VALUE", Disposition::Conflict, "domain".to_owned(), Some("12")),
            ("answer_incomplete", Disposition::Unknown, String::new(), None),
        ]
    );
}

#[tokio::test]
async fn a_full_pack_of_writes_fits_the_contract_and_an_empty_one_makes_no_call() {
    let server = Server::start(|_| ok(r#"{"status":"COMPLETE","results":[]}"#)).await;
    let target = server.target(System::Hubspot, "2026-03");
    target.write(&update(&[])).await.unwrap();
    let all: Vec<u128> = (0..100).collect();
    assert_eq!(target.pack().write, all.len());
    let answered = target.write(&create(&all)).await.unwrap();
    assert!(answered.items.iter().all(|i| i.as_ref().unwrap_err().disposition == Disposition::Unknown));
    assert_eq!(server.request().path, "/crm/objects/2026-03/contacts/batch/upsert");
    assert_fits(System::Hubspot, &server.request());
}

#[tokio::test]
async fn a_whole_batch_that_one_record_spoilt_names_its_cause() {
    let table = [
        (
            409,
            r#"{"category":"CONFLICT","message":"Contact already exists. Existing ID: 501"}"#,
            ("CONFLICT", Disposition::Conflict, Some("501")),
        ),
        (
            400,
            r#"{"category":"VALIDATION_ERROR","message":"m","errors":[{"code":"CONFLICTING_UNIQUE_VALUE"}]}"#,
            ("CONFLICTING_UNIQUE_VALUE", Disposition::Conflict, None),
        ),
        (
            400,
            r#"{"category":"VALIDATION_ERROR","message":"m","errors":[{"code":"INVALID_OPTION","in":"stage"}]}"#,
            ("INVALID_OPTION", Disposition::Permanent, None),
        ),
        (503, "", ("http_503", Disposition::Unknown, None)),
    ];
    for (status, body, expected) in table {
        let server = Server::start(move |_| Answer::Json(status, Vec::new(), body.to_owned())).await;
        let error = server.target(System::Hubspot, "2026-09").write(&create(&[1])).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.disposition, error.existing.as_deref()), expected, "{body}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_proves_nothing() {
    for (status, body) in [(200, ""), (200, "[]"), (200, "<html>"), (202, "{}"), (204, "")] {
        let server = Server::start(move |_| Answer::Json(status, Vec::new(), body.to_owned())).await;
        let error = server.target(System::Hubspot, "2026-09").write(&create(&[1])).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.disposition), ("malformed_answer", Disposition::Unknown), "{body}");
    }
}

#[tokio::test]
async fn records_are_archived_together_and_erased_one_by_one() {
    let server = Server::start(|request| {
        if request.path.ends_with("/gdpr-delete") && request.body.contains("\"3\"") {
            return Answer::Json(404, Vec::new(), r#"{"category":"OBJECT_NOT_FOUND","message":"m"}"#.to_owned());
        }
        if request.path.ends_with("/gdpr-delete") && request.body.contains("\"4\"") {
            return Answer::Json(403, Vec::new(), r#"{"category":"MISSING_SCOPES","message":"m"}"#.to_owned());
        }
        Answer::Json(204, Vec::new(), String::new())
    })
    .await;
    let call = delete(&[("1", false), ("2", true), ("3", true), ("4", true), ("5", false)]);
    let answered = server.target(System::Hubspot, "2026-09").write(&call).await.unwrap();
    let mut sent: Vec<String> = server.requests().iter().map(|r| format!("{} {}", r.path, r.body)).collect();
    sent.sort();
    let objects = "/crm/objects/2026-09/contacts";
    assert_eq!(
        sent,
        [
            format!(r#"{objects}/batch/archive {{"inputs":[{{"id":"1"}},{{"id":"5"}}]}}"#),
            format!(r#"{objects}/gdpr-delete {{"objectId":"2"}}"#),
            format!(r#"{objects}/gdpr-delete {{"objectId":"3"}}"#),
            format!(r#"{objects}/gdpr-delete {{"objectId":"4"}}"#),
        ]
    );
    server.requests().iter().for_each(|request| assert_fits(System::Hubspot, request));
    let told: Vec<String> = answered
        .items
        .into_iter()
        .map(|item| item.map_or_else(|error| error.code, |written| written.id.unwrap_or_default()))
        .collect();
    assert_eq!(told, ["1", "2", "3", "MISSING_SCOPES", "5"]);
}

#[tokio::test]
async fn a_deletion_that_reaches_nobody_is_a_failure_of_the_connection() {
    let body = r#"{"category":"INVALID_AUTHENTICATION","message":"m"}"#;
    let server = Server::start(|_| Answer::Json(401, Vec::new(), body.to_owned())).await;
    let target = server.target(System::Hubspot, "2026-09");
    for call in [delete(&[("1", false)]), delete(&[("1", true), ("2", true)]), delete(&[("1", false), ("2", true)])] {
        assert_eq!(target.write(&call).await.unwrap_err().disposition, Disposition::Reauthorise);
    }
}

#[tokio::test]
async fn contacts_are_found_by_any_of_their_addresses() {
    let server = Server::start(|_| {
        ok(r#"{"status":"COMPLETE","results":[
            {"id":"9","updatedAt":"2026-01-01T12:00:00Z","properties":{"email":"ada@example.com","hs_additional_emails":"Augusta@example.com;x@example.com"}}],
            "errors":[{"category":"OBJECT_NOT_FOUND","context":{"ids":["nobody@example.com"]}}]}"#)
    })
    .await;
    let values = ["augusta@Example.com", "nobody@example.com", "Ada@example.com"].map(str::to_owned).into();
    let call = FindCall { object: ObjectType::CONTACT, field: Arc::from("email"), values };
    let found = server.target(System::Hubspot, "2026-09").find(&call).await.unwrap();
    assert_eq!(found.items, [vec!["9".to_owned()], Vec::new(), vec!["9".to_owned()]]);
    assert_eq!(
        server.request().body,
        concat!(
            r#"{"idProperty":"email","inputs":[{"id":"augusta@Example.com"},{"id":"nobody@example.com"},{"id":"Ada@example.com"}],"#,
            r#""properties":["email","hs_additional_emails"]}"#
        )
    );
    assert_fits(System::Hubspot, &server.request());
}

#[tokio::test]
async fn other_fields_are_searched_page_by_page() {
    let server = Server::start(|request| {
        let hit = |id: u32, domain: &str| {
            format!(r#"{{"id":"{id}","updatedAt":"2026-01-01T12:00:00Z","properties":{{"domain":"{domain}"}}}}"#)
        };
        let (hits, after) = if request.body.contains("\"after\":\"200\"") {
            ([hit(13, "acme.example"), hit(14, "stranger.example")], "")
        } else {
            ([hit(11, "Acme.example"), hit(12, "other.example")], r#","paging":{"next":{"after":"200"}}"#)
        };
        ok(format!(r#"{{"total":4,"results":[{}]{after}}}"#, hits.join(",")))
    })
    .await;
    let values = ["Acme.example", "none.example", "other.example"].map(str::to_owned).into();
    let call = FindCall { object: ObjectType::COMPANY, field: Arc::from("domain"), values };
    let found = server.target(System::Hubspot, "2026-09").find(&call).await.unwrap();
    let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(found.items, [owned(&["11", "13"]), owned(&[]), owned(&["12"])]);
    let requests = server.requests();
    assert_eq!(
        requests[0].body,
        concat!(
            r#"{"filterGroups":[{"filters":[{"propertyName":"domain","operator":"IN","#,
            r#""values":["acme.example","none.example","other.example"]}]}],"properties":["domain"],"limit":200}"#
        )
    );
    assert_eq!(requests.len(), 2);
    requests.iter().for_each(|request| assert_fits(System::Hubspot, request));
}

const UNIQUE: &str = r#"{"results":[{"name":"relay_id","hasUniqueValue":true}]}"#;
const REPEATING: &str = r#"{"results":[{"name":"relay_id","hasUniqueValue":false}]}"#;

#[tokio::test]
async fn the_property_of_our_id_is_made_where_it_is_missing() {
    let server = Server::start(|request| match request.method.as_str() {
        "GET" => ok(r#"{"results":[{"name":"email","hasUniqueValue":true}]}"#),
        _ => Answer::Json(201, Vec::new(), "{}".to_owned()),
    })
    .await;
    let made = server.target(System::Hubspot, "2026-09").prepare(&ObjectType::DEAL).await.unwrap();
    assert_eq!(made, Prepared::Made);
    let requests = server.requests();
    assert_eq!(
        (requests[1].path.as_str(), requests[1].body.as_str()),
        (
            "/crm/v3/properties/deals",
            r#"{"name":"relay_id","label":"Headgate id","type":"string","fieldType":"text","groupName":"dealinformation","hasUniqueValue":true}"#
        )
    );
    requests.iter().for_each(|request| assert_fits(System::Hubspot, request));
}

#[tokio::test]
async fn set_up_tells_what_a_person_must_do_and_never_makes_what_it_may_not() {
    let told = async |first: &'static str, status: u16, then: &'static str, set_up: bool| {
        let asked = std::sync::atomic::AtomicU32::new(0);
        let server = Server::start(move |request| {
            if request.method == "POST" {
                return Answer::Json(status, Vec::new(), r#"{"category":"MISSING_SCOPES","message":"m"}"#.to_owned());
            }
            let again = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0;
            ok(if again { then } else { first })
        })
        .await;
        let target = if set_up { server.target(System::Hubspot, "v3") } else { server.target_without_set_up() };
        let prepared = target.prepare(&ObjectType::CONTACT).await.map_err(|e| e.disposition);
        let posts = server.requests().iter().filter(|r| r.method == "POST").count();
        let advice = match prepared {
            Ok(Prepared::Blocked { field, advice }) => format!("{field}: {advice}"),
            other => format!("{other:?}"),
        };
        (posts, advice.split(". In HubSpot: ").next().unwrap().to_owned())
    };
    const NONE: &str = r#"{"results":[{"name":"email","hasUniqueValue":true}]}"#;
    const SILENT: &str = r#"{"results":[{"name":"relay_id"}]}"#;
    let unclear = |verb| {
        format!("Ok(Unclear {{ reason: \"the address to {verb} properties does not answer as HubSpot's does\" }})")
    };
    let (cannot_list, cannot_make) = (unclear("list"), unclear("make"));
    let table = [
        (told(UNIQUE, 500, "", true).await, 0, "Ok(Ready)"),
        (told(SILENT, 500, "", true).await, 0, "Ok(Ready)"),
        (told("{}", 500, "", true).await, 0, cannot_list.as_str()),
        (told("<html>", 500, "", true).await, 0, cannot_list.as_str()),
        (told(r#"{"results":[]}"#, 500, "", true).await, 0, cannot_list.as_str()),
        (told(NONE, 404, "", true).await, 1, cannot_make.as_str()),
        (told(NONE, 501, "", true).await, 1, cannot_make.as_str()),
        (told(NONE, 409, UNIQUE, true).await, 1, "Ok(Ready)"),
        (told(NONE, 500, "", true).await, 1, "Err(Unknown)"),
        (
            told(NONE, 403, "", true).await,
            1,
            "relay_id: HubSpot refuses to make it (MISSING_SCOPES); the app needs the scope of schemas",
        ),
        (
            told(NONE, 409, NONE, true).await,
            1,
            "relay_id: HubSpot keeps an archived property of this name; restore or purge it",
        ),
        (told(NONE, 500, "", false).await, 0, "relay_id: the property is missing and setup is \"never\""),
        (
            told(REPEATING, 500, "", true).await,
            0,
            "relay_id: a property of this name exists whose values may repeat or cannot be written; delete or rename it first",
        ),
    ];
    for ((posts, advice), expected_posts, expected) in table {
        assert_eq!((posts, advice.as_str()), (expected_posts, expected));
    }
}

#[tokio::test]
async fn a_stand_in_without_metadata_is_no_obstacle() {
    for status in [403, 404, 405, 501] {
        let server = Server::start(move |_| Answer::Json(status, Vec::new(), "no".to_owned())).await;
        for (system, version) in [(System::Hubspot, "2026-09"), (System::Salesforce, "62.0")] {
            let prepared = server.target(system, version).prepare(&ObjectType::CONTACT).await;
            match (system, status) {
                // Salesforce hides what we may not see instead of refusing the question.
                (System::Salesforce, 403) => assert_eq!(prepared.unwrap_err().disposition, Disposition::Permanent),
                _ => assert!(matches!(prepared, Ok(Prepared::Unclear { .. })), "{system} {status} {prepared:?}"),
            }
        }
    }
}
