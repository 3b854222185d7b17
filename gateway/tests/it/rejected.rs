//! Refused calls are shown with what was expected, and never with a secret, a key or a value.

use headgate_gateway::RejectedCall;

use super::harness::{Bench, HUBSPOT, NATIVE, PUBLIC_URL, SECRET, hubspot, hubspot_with, job_title, native, post};

fn words(call: &RejectedCall) -> (Option<&str>, u16, &'static str) {
    (call.endpoint.as_deref(), call.status, call.reason)
}

#[tokio::test]
async fn a_refused_call_tells_its_reason_and_what_was_expected() {
    let bench = Bench::new().await;
    let body = format!("[{}]", job_title(1, 7001, 1_767_268_798_500, "Top secret title"));
    let wrong = String::from_utf8(hubspot_with("some other secret", &body)).unwrap();
    let wrong = wrong.replace(HUBSPOT, &format!("{HUBSPOT}?code=hunter2"));
    assert_eq!(bench.send(wrong).await.status, 401);
    let [call] = &bench.gateway.rejected()[..] else { panic!("one call") };
    assert_eq!(words(call), (Some("hubspot"), 401, "signature_mismatch"));
    assert_eq!(call.detail, "the signature does not match; check the secret and public_url");
    let expected = call.expected.as_ref().unwrap();
    assert_eq!(expected.scheme, "hubspot-v3");
    assert_eq!(expected.url.as_deref(), Some(format!("{PUBLIC_URL}/in/hubspot/…?…").as_str()));
    assert!(expected.timestamp.as_ref().is_some_and(|at| at.parse::<i64>().is_ok()));
    assert_eq!((call.body_bytes, call.peer), (body.len(), Some([127, 0, 0, 1].into())));

    let shown = serde_json::to_string(&bench.gateway.rejected()).unwrap();
    let key = HUBSPOT.rsplit('/').next().unwrap();
    for secret in [SECRET, "some other secret", key, "hunter2", "Top secret title", "7001"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn every_refusal_is_listed_and_no_acceptance_is() {
    let bench = Bench::new().await;
    let event = format!("[{}]", job_title(1, 7001, 1_767_268_798_500, "CTO"));
    assert_eq!(bench.send(hubspot(event)).await.status, 204);
    for (call, status) in [
        (post("/in/hubspot/nope", &[], "[]"), 401),
        (post(NATIVE, &[], "{}"), 401),
        (native("m", "{"), 400),
        (post(HUBSPOT, &[("Content-Encoding", "gzip")], "[]"), 415),
        (format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n").into_bytes(), 413),
    ] {
        assert_eq!(bench.send(call).await.status, status);
    }
    let mut listed: Vec<_> = bench.gateway.rejected();
    listed.sort_by_key(|call| call.at);
    let expected = [
        (None, 401, "unknown_endpoint"),
        (Some("native"), 401, "signature_missing"),
        (Some("native"), 400, "malformed"),
        (Some("hubspot"), 415, "content_encoding"),
        (Some("hubspot"), 413, "too_large"),
    ];
    assert_eq!(listed.iter().map(words).collect::<Vec<_>>(), expected);
    assert!(listed[0].expected.is_none(), "nothing is told about a door that is not there");
}
