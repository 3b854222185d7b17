//! Refusals and answers of Salesforce, literally.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderMap;

use super::*;

const SECOND: fn(u64) -> Disposition = |seconds| Disposition::Rate { wait: Duration::from_secs(seconds) };

fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    let body = Bytes::copy_from_slice(body.as_bytes());
    Reply { status: StatusCode::from_u16(status).unwrap(), headers, body, date: None }
}

fn refused(code: &str, message: &str) -> String {
    serde_json::json!([{ "message": message, "errorCode": code }]).to_string()
}

fn record_error(faults: serde_json::Value) -> TargetError {
    errors::record(serde_json::from_value(faults).unwrap())
}

#[test]
fn refused_records_are_classified() {
    let table = [
        ("DUPLICATES_DETECTED", Disposition::Conflict),
        ("DUPLICATE_VALUE", Disposition::Conflict),
        ("DUPLICATE_EXTERNAL_ID", Disposition::Conflict),
        ("ENTITY_IS_DELETED", Disposition::Gone),
        ("INVALID_CROSS_REFERENCE_KEY", Disposition::Gone),
        ("NOT_FOUND", Disposition::Gone),
        ("UNABLE_TO_LOCK_ROW", Disposition::Retry),
        ("ALL_OR_NONE_OPERATION_ROLLED_BACK", Disposition::Retry),
        ("PROCESSING_HALTED", Disposition::Retry),
        ("SERVER_UNAVAILABLE", Disposition::Retry),
        ("QUERY_TIMEOUT", Disposition::Retry),
        ("REQUEST_RUNNING_TOO_LONG", Disposition::Retry),
        ("UNKNOWN_EXCEPTION", Disposition::Retry),
        ("INVALID_SESSION_ID", Disposition::Reauthorise),
        ("REQUEST_LIMIT_EXCEEDED", SECOND(300)),
        ("REQUIRED_FIELD_MISSING", Disposition::Permanent),
        ("FIELD_CUSTOM_VALIDATION_EXCEPTION", Disposition::Permanent),
        ("STRING_TOO_LONG", Disposition::Permanent),
        ("INVALID_EMAIL_ADDRESS", Disposition::Permanent),
        ("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", Disposition::Permanent),
        ("FIELD_INTEGRITY_EXCEPTION", Disposition::Permanent),
        ("JSON_PARSER_ERROR", Disposition::Permanent),
        ("MALFORMED_ID", Disposition::Permanent),
        ("INVALID_FIELD", Disposition::Permanent),
        ("INVALID_FIELD_FOR_INSERT_UPDATE", Disposition::Permanent),
        ("INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", Disposition::Permanent),
        ("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", Disposition::Permanent),
        ("API_DISABLED_FOR_ORG", Disposition::Permanent),
        ("A_CODE_OF_A_LATER_RELEASE", Disposition::Permanent),
    ];
    for (code, disposition) in table {
        let error = record_error(serde_json::json!([{ "statusCode": code, "message": "m", "fields": [] }]));
        assert_eq!((error.code.as_str(), error.disposition), (code, disposition));
    }
}

#[test]
fn a_refused_record_is_judged_by_more_than_its_first_code() {
    let owner = record_error(serde_json::json!([
        { "statusCode": "INVALID_CROSS_REFERENCE_KEY", "message": "invalid cross reference id", "fields": ["OwnerId"] }
    ]));
    assert_eq!(owner.disposition, Disposition::Permanent, "a bad reference, not a missing record");
    let lock = record_error(serde_json::json!([{
        "statusCode": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        "message": "Trigger failed: UNABLE_TO_LOCK_ROW, unable to obtain exclusive access"
    }]));
    assert_eq!(lock.disposition, Disposition::Retry);
    let several = record_error(serde_json::json!([
        { "statusCode": "UNABLE_TO_LOCK_ROW", "message": "busy", "fields": [] },
        { "statusCode": "STRING_TOO_LONG", "message": "too long", "fields": ["Title"] },
        { "statusCode": "DUPLICATES_DETECTED", "message": "twice", "fields": ["Email"] }
    ]));
    assert_eq!((several.code.as_str(), several.message.as_str()), ("STRING_TOO_LONG", "too long"));
    assert_eq!(several.fields, ["Title", "Email"]);
    assert_eq!(record_error(serde_json::json!([])).disposition, Disposition::Unknown);
}

#[test]
fn refused_calls_are_classified() {
    let both = |d: Disposition| (d.clone(), d);
    let lost = || (Disposition::Retry, Disposition::Unknown);
    let table = [
        (401, refused("INVALID_SESSION_ID", "Session expired or invalid"), both(Disposition::Reauthorise)),
        (401, String::new(), both(Disposition::Reauthorise)),
        (403, refused("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."), both(SECOND(300))),
        (403, refused("REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded."), both(SECOND(5))),
        (403, refused("API_DISABLED_FOR_ORG", "m"), both(Disposition::Permanent)),
        (403, String::new(), both(Disposition::Permanent)),
        (404, refused("NOT_FOUND", "The requested resource does not exist"), both(Disposition::Permanent)),
        (404, String::new(), both(Disposition::Permanent)),
        (400, refused("INVALID_FIELD", "No such column 'x' on entity 'Contact'"), both(Disposition::Permanent)),
        (400, refused("JSON_PARSER_ERROR", "m"), both(Disposition::Permanent)),
        (400, refused("QUERY_TIMEOUT", "m"), both(Disposition::Retry)),
        (400, refused("A_LATER_CODE", "m"), both(Disposition::Permanent)),
        (414, String::new(), both(Disposition::Permanent)),
        (429, String::new(), both(SECOND(5))),
        (500, refused("UNKNOWN_EXCEPTION", "m"), lost()),
        (500, refused("UNABLE_TO_LOCK_ROW", "m"), lost()),
        (503, refused("SERVER_UNAVAILABLE", "m"), both(Disposition::Retry)),
        (503, "<html>".to_owned(), lost()),
        (504, String::new(), lost()),
    ];
    for (status, body, (read, write)) in table {
        let reply = reply(status, &[], &body);
        assert_eq!(errors::whole_call(&reply, Effect::Read).disposition, read, "read {status} {body}");
        assert_eq!(errors::whole_call(&reply, Effect::Write).disposition, write, "write {status} {body}");
    }
    let asked = reply(429, &[("retry-after", "7")], "");
    assert_eq!(errors::whole_call(&asked, Effect::Write).disposition, SECOND(7));
    assert_eq!(errors::whole_call(&asked, Effect::Write).code, "http_429");
}

#[test]
fn the_allocation_is_read_from_the_header() {
    let remaining = |text: &str| quota(&reply(200, &[("sforce-limit-info", text)], "")).first().map(Quota::remaining);
    assert_eq!(remaining("api-usage=3750/15000"), Some(0.75));
    assert_eq!(remaining("api-usage=3750/15000, per-app-api-usage=17/250(appName=x)"), Some(0.75));
    assert_eq!(remaining("api-usage=20000/15000"), Some(0.0));
    assert_eq!(remaining("api-usage=1/0"), None);
    assert_eq!(remaining("nonsense"), None);
}

#[test]
fn no_column_is_asked_for_twice() {
    let fields: Vec<NativeName> = ["LastName", "id", "Relay_Id__c", "lastname"].map(Arc::from).into();
    assert_eq!(columns(["Relay_Id__c"].into_iter(), &fields), ["Id", "SystemModstamp", "Relay_Id__c", "LastName"]);
    assert_eq!(columns(["Id"].into_iter(), &fields), ["Id", "SystemModstamp", "LastName", "Relay_Id__c"]);
}

#[test]
fn two_rows_with_one_external_id_are_a_conflict() {
    let call =
        ReadCall { object: ObjectType::CONTACT, by: By::ExternalId, ids: vec!["x".to_owned()], fields: Arc::from([]) };
    let row = |id: &str| {
        let serde_json::Value::Object(row) = serde_json::json!({
            "Id": id, "SystemModstamp": "2026-01-01T12:00:00.000+0000", "Relay_Id__c": "X"
        }) else {
            unreachable!()
        };
        row
    };
    let found = index(&call, "Relay_Id__c", "Relay_Id__c", &[row("003000000000001"), row("003000000000002")]).unwrap();
    let Some(ReadItem::Failed(error)) = found.get("x") else { panic!("{found:?}") };
    assert_eq!(error.disposition, Disposition::Conflict);
}

#[test]
fn a_next_page_never_leads_elsewhere() {
    assert!(is_next("/services/data/v62.0/query/01gxx-2000"));
    assert!(!is_next("https://example.com/services/data/v62.0/query/01gxx-2000"));
    assert!(!is_next("//example.com/services/data/"));
}

#[test]
fn an_id_that_is_none_is_not_told() {
    for (id, told) in [("", None), ("7", None), ("0035g00000AbCdE", Some("0035g00000AbCdEAAV"))] {
        let result: write::SaveResult =
            serde_json::from_value(serde_json::json!({ "id": id, "success": true })).unwrap();
        assert_eq!(result.written().unwrap().id.as_deref(), told);
    }
}
