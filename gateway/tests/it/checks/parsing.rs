//! Checks 9 and 10: bodies that are believed and meant to hurt whoever reads them.

use super::super::harness::{Bench, SALESFORCE, hubspot, native, post, salesforce, salesforce_envelope};
use super::{BODY, NOTIFICATION};

#[tokio::test]
async fn check_09_a_valid_signature_over_malformed_events_is_400() {
    let bench = Bench::new().await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_value = BODY.replace("\"CTO\"", &deep);
    let many = format!("[{}]", vec![BODY.trim_matches(['[', ']']); 101].join(","));
    for body in [
        "",
        "{}",
        "[]",
        "[1]",
        "null",
        "not json",
        "[{}]",
        "[[]]",
        "[{",
        &BODY[..BODY.len() - 1],
        &deep,
        &deep_value,
        &many,
        &BODY.replace("7001", "7001.5"),
        &BODY.replace("7001", "\"x\""),
        &BODY.replace("\"objectId\":7001,", ""),
        &BODY.replace("\"portalId\":5550123,", ""),
        &BODY.replace("1767268798500", "\"yesterday\""),
        // Times that the stream could not write as a date.
        &BODY.replace("1767268798500", "10000000000000000"),
        &BODY.replace("1767268798500", "9000000000000000000"),
        &BODY.replace("1767268798500", "-1"),
        &BODY.replace("contact.", "object."),
        &BODY.replace("contact.", "object.").replace("\"appId\"", "\"objectTypeId\":\"0 1\",\"appId\""),
        &BODY.replace("\"objectId\":7001", "\"objectId\":7001,\"objectId\":7002"),
    ] {
        let reply = bench.send(hubspot(body)).await;
        assert_eq!(reply.status, 400, "{body:.60}: {}", reply.body);
    }
    let deep_data = format!(r#"{{"type":"contact.updated","timestamp":"2026-01-01T00:00:00Z","data":{deep}}}"#);
    for body in [
        "",
        "[]",
        "x",
        &deep_data,
        r#"{"type":"contact.updated"}"#,
        r#"{"type":"contact.updated","timestamp":"2026-01-01T00:00:00Z","data":{}}"#,
        r#"{"type":"contact.updated","timestamp":"yesterday","data":{"id":"1"}}"#,
        r#"{"type":"contact.updated","timestamp":"2026-01-01T00:00:00Z","data":{"id":{}}}"#,
        r#"{"type":"contact.merged","timestamp":"2026-01-01T00:00:00Z","data":{"id":"1"}}"#,
        r#"{"type":"contact.updated","timestamp":"2026-01-01T00:00:00Z","data":{"id":"1"},"sequence":-1}"#,
    ] {
        let reply = bench.send(native("m", body)).await;
        assert_eq!(reply.status, 400, "{body:.60}: {}", reply.body);
    }
    assert_eq!(bench.sink.appends(), 0);
}

#[tokio::test]
async fn check_09_what_json_allows_and_hardly_anybody_expects() {
    let bench = Bench::new().await;
    let data = |fields: &str| {
        format!(r#"{{"type":"contact.updated","timestamp":"2026-01-01T00:00:00Z","data":{{"id":"1"{fields}}}}}"#)
    };
    let keys: String = (0..2_000).map(|n| format!(",\"k{n}\":1")).collect();
    let digits = format!(",\"n\":{}", "9".repeat(100_000));
    for (body, expected) in [
        // More fields than a record has; a lone surrogate; a number that is none; bytes that are no text; a mark in front.
        (data(&keys).into_bytes(), 400),
        (data(r#","a":"\ud800""#).into_bytes(), 400),
        (data(r#","a":NaN"#).into_bytes(), 400),
        (data(r#","a":01"#).into_bytes(), 400),
        (data(",\"a\":\"\u{1}\"").into_bytes(), 400),
        ([data(",\"a\":\"").as_bytes(), b"\xff\"}}"].concat(), 400),
        (format!("\u{feff}{}", data("")).into_bytes(), 400),
        (format!("{}{{}}", data("")).into_bytes(), 400),
        // Of two equal keys of the event, none is believed; of two equal fields, the last stands, as everywhere in JSON.
        (data("").replace("\"data\"", "\"type\":\"contact.deleted\",\"data\"").into_bytes(), 400),
        (data(r#","a":1,"a":2"#).into_bytes(), 204),
        // Digits are kept, not computed with.
        (data(&digits).into_bytes(), 204),
        (data(r#","a":1e999999999"#).into_bytes(), 204),
    ] {
        let id = format!("m{}", body.len());
        let reply = bench.send(native(&id, &body)).await;
        assert_eq!(reply.status, expected, "{}: {}", String::from_utf8_lossy(&body[..body.len().min(120)]), reply.body);
    }
    let last = &bench.sink.records()[0];
    let data: serde_json::Value = serde_json::from_slice(&last.body).unwrap();
    assert_eq!(data["fields"]["a"]["value"], 2);
    assert_eq!(bench.send(hubspot(BODY)).await.status, 204);
}

#[tokio::test]
async fn check_10_xml_that_is_meant_to_hurt_is_refused() {
    let bench = Bench::new().await;
    let envelope = salesforce_envelope(NOTIFICATION);
    let declaration = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
    let with_type = |subset: &str| envelope.replacen(declaration, &format!("{declaration}<!DOCTYPE a {subset}>"), 1);
    let laughs: String =
        (1..10).map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10))).collect();
    let record = |fields: &str| salesforce_envelope(&NOTIFICATION.replace("<sf:Title>CTO</sf:Title>", fields));
    let deep = format!("{}{}", "<sf:A>".repeat(10_000), "</sf:A>".repeat(10_000));
    let wide: String = (0..10_000).map(|n| format!(" a{n}=\"\"")).collect();
    let spaces: String = (0..10_000).map(|n| format!(" xmlns:a{n}=\"x\"")).collect();
    for body in [
        with_type(&format!("[<!ENTITY l0 \"lol\">{laughs}]")).replace(">CTO<", ">&l9;<"),
        with_type(&format!("[<!ENTITY big \"{}\">]", "x".repeat(100_000)))
            .replace(">CTO<", &format!(">{}<", "&big;".repeat(1_000))),
        with_type("[<!ENTITY f SYSTEM \"file:///etc/passwd\">]").replace(">CTO<", ">&f;<"),
        with_type("[<!ENTITY % p SYSTEM \"http://127.0.0.1:1/x\"> %p;]"),
        with_type("SYSTEM \"http://127.0.0.1:1/x\""),
        with_type("[]"),
        record("<sf:Title>&l9;</sf:Title>"),
        record("<sf:Title>&#0;</sf:Title>"),
        record(&deep),
        record(&format!("<sf:Title{wide}/>")),
        record(&format!("<sf:Title{spaces}/>")),
        record(&"<sf:Title/>".repeat(1_001)),
        record("<sf:Title>"),
        record("<evil:Title/>"),
        envelope.replace("http://soap.sforce.com/2005/09/outbound", "http://soap.sforce.com/2005/09/other"),
        envelope.replacen("UTF-8", "UTF-16", 1),
        envelope[..envelope.len() - 1].to_owned(),
        format!("{envelope}{envelope}"),
        salesforce_envelope(&NOTIFICATION.repeat(101)),
        salesforce_envelope(""),
    ] {
        let reply = bench.send(post(SALESFORCE, &[], &body)).await;
        assert!(matches!(reply.status, 400 | 401), "{} {:.200}", reply.status, body);
        assert!(reply.body.contains("<Ack>false</Ack>") && !reply.body.contains("passwd"));
    }
    assert_eq!(bench.sink.appends(), 0);
    assert_eq!(bench.send(salesforce(NOTIFICATION)).await.status, 200);
}

#[tokio::test]
async fn check_10_a_message_of_many_small_elements_takes_no_more_memory_than_its_largest_value() {
    let bench = Bench::new().await;
    // Under the limit of the body, and nearly all of it tags: walked past without keeping any.
    let ignored = format!("<x>{}</x>", "<y/>".repeat(1 << 20));
    let body = salesforce_envelope(&format!("{ignored}{NOTIFICATION}"));
    assert_eq!(bench.send(post(SALESFORCE, &[], &body)).await.status, 200);
    assert_eq!(bench.sink.records().len(), 1);
}
