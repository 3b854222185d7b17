//! Refusals and answers of HubSpot, literally.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;

fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    let body = Bytes::copy_from_slice(body.as_bytes());
    Reply { status: StatusCode::from_u16(status).unwrap(), headers, body, date: None }
}

fn call(by: By, ids: &[&str], fields: &[&str]) -> ReadCall {
    ReadCall {
        object: ObjectType::CONTACT,
        by,
        ids: ids.iter().map(|s| (*s).to_owned()).collect(),
        fields: fields.iter().map(|s| Arc::from(*s)).collect(),
    }
}

fn items(call: &ReadCall, answer: &str) -> Vec<ReadItem> {
    match_items(call, "relay_id", serde_json::from_str(answer).unwrap()).unwrap()
}

#[test]
fn refused_calls_are_classified() {
    const RATE: fn(u64) -> Disposition = |seconds| Disposition::Rate { wait: Duration::from_secs(seconds) };
    let body =
        |category: &str| format!(r#"{{"status":"error","message":"m","correlationId":"c","category":"{category}"}}"#);
    let policy = |name: &str| format!(r#"{{"category":"RATE_LIMITS","message":"m","policyName":"{name}"}}"#);
    let after = ("retry-after", "7");
    let table = [
        (reply(401, &[], &body("EXPIRED_AUTHENTICATION")), "EXPIRED_AUTHENTICATION", Disposition::Reauthorise),
        (reply(401, &[], &body("INVALID_AUTHENTICATION")), "INVALID_AUTHENTICATION", Disposition::Reauthorise),
        (reply(403, &[], &body("MISSING_SCOPES")), "MISSING_SCOPES", Disposition::Permanent),
        (reply(404, &[], &body("OBJECT_NOT_FOUND")), "OBJECT_NOT_FOUND", Disposition::Gone),
        (reply(404, &[], "<html>"), "http_404", Disposition::Permanent),
        (reply(409, &[], &body("CONFLICT")), "CONFLICT", Disposition::Conflict),
        (reply(423, &[], ""), "http_423", RATE(2)),
        (reply(429, &[after], &policy("TEN_SECONDLY_ROLLING")), "RATE_LIMITS", RATE(7)),
        (reply(429, &[], &policy("TEN_SECONDLY_ROLLING")), "RATE_LIMITS", RATE(10)),
        (reply(429, &[], &policy("DAILY")), "RATE_LIMITS", RATE(60)),
        (reply(429, &[], "slow down"), "http_429", RATE(10)),
        (reply(477, &[("retry-after", "3600")], ""), "http_477", RATE(3_600)),
        (reply(477, &[], ""), "http_477", RATE(60)),
        (reply(400, &[], &body("VALIDATION_ERROR")), "VALIDATION_ERROR", Disposition::Permanent),
        (reply(400, &[], &body("a value, quoted")), "unreadable_code", Disposition::Permanent),
        (reply(502, &[], "Bad Gateway"), "http_502", Disposition::Retry),
        (reply(521, &[], ""), "http_521", Disposition::Retry),
        (reply(524, &[], ""), "http_524", Disposition::Retry),
    ];
    for (reply, code, disposition) in table {
        let error = errors::whole_call(&reply, Effect::Read);
        assert_eq!((error.code.as_str(), error.disposition), (code, disposition), "{}", reply.status);
    }
    assert_eq!(errors::whole_call(&reply(502, &[], ""), Effect::Write).disposition, Disposition::Unknown);
}

#[test]
fn a_refusal_names_its_detail_and_fields() {
    let error = errors::whole_call(
        &reply(
            400,
            &[],
            r#"{"status":"error","message":"Property values were not valid","correlationId":"c","category":"VALIDATION_ERROR",
                "errors":[{"message":"bad","code":"INVALID_OPTION","in":"lifecyclestage","context":{"propertyName":["lifecyclestage"]}}]}"#,
        ),
        Effect::Read,
    );
    assert_eq!(error.code, "INVALID_OPTION");
    assert_eq!(error.message, "Property values were not valid");
    assert_eq!(error.fields, ["lifecyclestage"]);
}

#[test]
fn answers_are_matched_by_id_in_any_order() {
    let call = call(By::NativeId, &["1", "2", "3", "4", "5"], &["email", "phone", "unheard_of"]);
    let answer = r#"{"status":"COMPLETE","numErrors":2,"results":[
        {"id":"3","createdAt":"2026-01-01T00:00:00Z","updatedAt":"2026-01-01T12:00:00.250Z","archived":false,
         "properties":{"email":"c@example.com","phone":"","hs_object_id":"3","hs_merged_object_ids":"2;77"}},
        {"id":"1","updatedAt":"2026-01-01T12:00:00Z","properties":{"email":"a@example.com","phone":null}}],
      "errors":[
        {"status":"error","category":"OBJECT_NOT_FOUND","message":"gone","context":{"ids":["4"]}},
        {"status":"error","category":"INTERNAL_ERROR","message":"oops","context":{"ids":["5"]}}]}"#;
    let items = items(&call, answer);
    let [
        ReadItem::Found(first),
        ReadItem::Found(second),
        ReadItem::Found(third),
        ReadItem::Missing { .. },
        ReadItem::Failed(fifth),
    ] = &items[..]
    else {
        panic!("{items:?}")
    };
    assert_eq!(first.id, "1");
    assert_eq!(second.id, "3", "merged into 3");
    assert_eq!(third.version.at, "2026-01-01T12:00:00.250Z".parse().unwrap());
    assert_eq!(third.version.resolution, Resolution::Ms);
    let expected: NativeValues =
        [(Arc::from("email"), Value::text("c@example.com")), (Arc::from("phone"), Value::Null)].into();
    assert_eq!(third.values, expected, "empty is null, unknown is absent, unasked is left out");
    assert_eq!(fifth.disposition, Disposition::Retry);
}

#[test]
fn a_record_nobody_asked_for_stands_for_an_id_only_where_it_can_be_the_one() {
    let call = call(By::NativeId, &["1", "2"], &[]);
    let record = |id: &str| format!(r#"{{"id":"{id}","updatedAt":"2026-01-01T12:00:00Z","properties":{{}}}}"#);
    let answer = |records: &[&str], absent: &str| {
        let records: Vec<String> = records.iter().map(|id| record(id)).collect();
        let fault = format!(r#"{{"category":"OBJECT_NOT_FOUND","message":"m","context":{{"ids":[{absent}]}}}}"#);
        let text = format!(r#"{{"status":"COMPLETE","results":[{}],"errors":[{fault}]}}"#, records.join(","));
        let told = |item: ReadItem| if let ReadItem::Found(found) = item { found.id } else { "-".to_owned() };
        items(&call, &text).into_iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(answer(&["9", "9"], ""), ["9", "9"]);
    assert_eq!(answer(&["1", "9"], ""), ["1", "9"]);
    assert_eq!(answer(&["1", "9"], r#""2""#), ["1", "-"], "reported absent");
    assert_eq!(answer(&["8", "9"], ""), ["-", "-"], "either could be meant");
}

#[test]
fn external_ids_are_matched_by_their_property() {
    let call = call(
        By::ExternalId,
        &["0190a0b0-0000-7000-8000-00000000000a", "0190a0b0-0000-7000-8000-00000000000b"],
        &["email"],
    );
    let answer = r#"{"status":"COMPLETE","results":[{"id":"9","updatedAt":"2026-01-01T12:00:00Z",
        "properties":{"email":"a@example.com","relay_id":"0190A0B0-0000-7000-8000-00000000000B"}}]}"#;
    let items = items(&call, answer);
    let [ReadItem::Missing { .. }, ReadItem::Found(found)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(found.id, "9");
    assert_eq!(found.values.len(), 1);
}

#[test]
fn limits_are_read_from_the_headers() {
    let reply = reply(
        200,
        &[
            ("x-hubspot-ratelimit-max", "110"),
            ("x-hubspot-ratelimit-remaining", "55"),
            ("x-hubspot-ratelimit-daily", "250000"),
            ("x-hubspot-ratelimit-daily-remaining", "0"),
        ],
        "",
    );
    let burst = Quota { window: "burst", left: 55, most: 110, per: Duration::from_secs(10) };
    let daily = Quota { window: "daily", left: 0, most: 250_000, per: Duration::from_secs(86_400) };
    assert_eq!(quota(&reply), [burst, daily]);
    assert_eq!((burst.remaining(), daily.remaining()), (0.5, 0.0));
}

#[test]
fn limits_that_make_no_sense_are_left_out() {
    let wrong = [
        ("x-hubspot-ratelimit-max", "0"),
        ("x-hubspot-ratelimit-remaining", "5"),
        ("x-hubspot-ratelimit-daily", "NaN"),
    ];
    assert_eq!(quota(&reply(200, &wrong, "")), []);
}

#[test]
fn an_answer_with_an_id_that_is_none_is_not_understood() {
    let long = "7".repeat(256);
    for id in ["", " 7", "7\\n", "é", &long] {
        let answer = format!(r#"{{"id":"{id}","updatedAt":"2026-01-01T12:00:00Z","properties":{{}}}}"#);
        assert!(serde_json::from_str::<Record>(&answer).is_err(), "{id:.9}");
    }
    assert!(serde_json::from_str::<Record>(r#"{"id":"7001","updatedAt":"","properties":{}}"#).is_ok());
}

#[test]
fn the_record_in_the_way_and_the_fields_named_are_bounded() {
    let long = "7".repeat(256);
    let body = serde_json::json!({
        "category": "CONFLICT", "message": format!("Existing ID: {long}"),
        "context": { "existingId": [long], "propertyName": [long, "email"] },
    });
    let error = errors::whole_call(&reply(409, &[], &body.to_string()), Effect::Write);
    assert_eq!((error.existing, &error.fields[..]), (None, &["email".to_owned()][..]));
}
