//! What strangers and broken senders try.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_gateway::config::{Credential, GatewayConfig, Limits, ProviderName};
use headgate_gateway::{KeyError, StartError};
use headgate_schemas::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use super::harness::{
    Bench, HUBSPOT, NATIVE, OLD_SECRET, SECRET, endpoint, endpoints, hubspot, hubspot_signature, job_title, limits,
    mac, native, native_public, post,
};

const BODY: &str = r#"[{"eventId":1,"subscriptionId":41,"portalId":5550123,"appId":70077,"occurredAt":1767268798500,"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":7001,"propertyName":"jobtitle","propertyValue":"CTO"}]"#;

#[tokio::test]
async fn flipping_any_byte_of_a_signed_body_is_refused() {
    let bench = Bench::new().await;
    let (signature, at) = hubspot_signature(SECRET, HUBSPOT, BODY.as_bytes());
    let headers = [("X-HubSpot-Signature-v3", signature.as_str()), ("X-HubSpot-Request-Timestamp", at.as_str())];
    let mut client = bench.connect().await;
    for place in 0..BODY.len() {
        let mut body = BODY.as_bytes().to_vec();
        body[place] ^= 1;
        assert_eq!(client.send(post(HUBSPOT, &headers, body)).await.status, 401, "byte {place}");
    }
    assert_eq!(bench.sink.appends(), 0);
    assert_eq!(client.send(post(HUBSPOT, &headers, BODY)).await.status, 204);
}

#[tokio::test]
async fn both_live_secrets_are_accepted_and_no_other() {
    let bench = Bench::new().await;
    for (secret, expected) in [(SECRET, 204), (OLD_SECRET, 204), ("another", 401)] {
        let (signature, at) = hubspot_signature(secret, HUBSPOT, BODY.as_bytes());
        let headers = [("X-HubSpot-Signature-v3", signature.as_str()), ("X-HubSpot-Request-Timestamp", at.as_str())];
        assert_eq!(bench.send(post(HUBSPOT, &headers, BODY)).await.status, expected);
    }
}

#[tokio::test]
async fn a_public_key_checks_ed25519_and_is_never_an_hmac_secret() {
    let bench = Bench::new().await;
    let v1a = |key: &Ed25519KeyPair, content: &[u8]| format!("v1a,{}", STANDARD.encode(key.sign(content)));
    assert_eq!(bench.send(native_public(v1a, "{}")).await.status, 204);
    let after_others = |key: &Ed25519KeyPair, content: &[u8]| format!("v2,AAAA v1,AAAA {}", v1a(key, content));
    assert_eq!(bench.send(native_public(after_others, "{}")).await.status, 204);
    let confused = |key: &Ed25519KeyPair, content: &[u8]| format!("v1,{}", mac(key.public_key().as_ref(), &[content]));
    assert_eq!(bench.send(native_public(confused, "{}")).await.status, 401);
    let wrong = |key: &Ed25519KeyPair, content: &[u8]| v1a(key, &[content, b" "].concat());
    assert_eq!(bench.send(native_public(wrong, "{}")).await.status, 401);
}

#[tokio::test]
async fn the_query_is_signed_and_the_host_is_not_believed() {
    let bench = Bench::new().await;
    let path = format!("{HUBSPOT}?a=%3A&b=%20");
    let (signature, at) = hubspot_signature(SECRET, &path.replace("%3A", ":"), BODY.as_bytes());
    let headers = [
        ("X-HubSpot-Signature-v3", signature.as_str()),
        ("X-HubSpot-Request-Timestamp", at.as_str()),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "http"),
    ];
    assert_eq!(bench.send(post(&path, &headers, BODY)).await.status, 204);
    assert_eq!(bench.send(post(HUBSPOT, &headers, BODY)).await.status, 401);
}

#[tokio::test]
async fn an_unknown_key_looks_like_a_wrong_signature() {
    let bench = Bench::new().await;
    let wrong = bench.send(post(HUBSPOT, &[], BODY)).await.undated();
    assert_eq!((wrong.status, wrong.body.as_str()), (401, "unauthorised\n"));
    for path in ["/in/hubspot/nope", "/in/native/nope", "/in/salesforce/nope", "/in/t-v1/nope", NATIVE] {
        assert_eq!(bench.send(post(path, &[], BODY)).await.undated(), wrong, "{path}");
    }
}

#[tokio::test]
async fn a_repeated_signature_header_is_refused() {
    let bench = Bench::new().await;
    for (call, names) in [
        (hubspot(BODY), &["X-HubSpot-Signature-v3", "X-HubSpot-Request-Timestamp"][..]),
        (native("m", "{}"), &["webhook-id", "webhook-timestamp", "webhook-signature"][..]),
    ] {
        let call = String::from_utf8(call).unwrap();
        for name in names {
            let line = call.split("\r\n").find(|l| l.starts_with(name)).unwrap();
            let twice = call.replacen(line, &format!("{line}\r\n{line}"), 1);
            assert_eq!(bench.send(twice).await.status, 401, "{name} twice");
            let without = call.replacen(&format!("{line}\r\n"), "", 1);
            assert_eq!(bench.send(without).await.status, 401, "{name} missing");
        }
        assert_eq!(bench.send(call).await.status, 204);
    }
}

#[tokio::test]
async fn paths_methods_and_encodings() {
    let bench = Bench::new().await;
    for (request, expected) in [
        ("GET /in/hubspot/x HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 404),
        ("POST /in/zoho/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".to_owned(), 404),
        (format!("POST {HUBSPOT}/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), 404),
    ] {
        assert_eq!(bench.send(&request).await.status, expected, "{request}");
    }
    for (encoding, expected) in [("gzip", 415), ("identity, gzip", 415), ("br", 415), ("Identity", 401)] {
        let call = post(HUBSPOT, &[("Content-Encoding", encoding)], BODY);
        assert_eq!(bench.send(call).await.status, expected, "{encoding}");
    }
    let call = String::from_utf8(hubspot(BODY)).unwrap().replacen("\r\n", "\r\nContent-Encoding: gzip\r\n", 1);
    assert_eq!(bench.send(call).await.status, 415);
}

#[tokio::test]
async fn a_provider_that_is_not_implemented_is_unavailable() {
    let bench = Bench::new().await;
    let reply = bench.send(post("/in/salesforce/q7ZtB1nXc5eWm0uKjR4sDg", &[], "<x/>")).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    assert_eq!(reply.body, "this provider is not available in this version\n");
}

#[tokio::test]
async fn a_valid_signature_over_malformed_events_is_400() {
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
async fn a_huge_body_is_refused_by_its_declared_length_and_by_what_is_read() {
    let bench = Bench::new().await;
    let declared = format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", 20 << 20);
    assert_eq!(bench.send(declared).await.status, 413);

    let mut client = bench.connect().await;
    client.write(format!("POST {NATIVE} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    let (mut read, mut write) = client.stream.split();
    let flood = async {
        use tokio::io::AsyncWriteExt as _;
        // Endless: only the gateway's refusal ends it.
        while write.write_all(chunk.as_bytes()).await.is_ok() {}
    };
    let answer = async {
        use tokio::io::AsyncReadExt as _;
        let mut status = [0; 12];
        read.read_exact(&mut status).await.unwrap();
        String::from_utf8_lossy(&status).into_owned()
    };
    let status = tokio::select! { status = answer => status, () = flood => "closed".to_owned() };
    assert!(status == "HTTP/1.1 413" || status == "closed", "{status}");
    bench.counted(r#"gw_rejected_total{source="native",reason="too_large"}"#, 1).await;
    assert_eq!(bench.sink.appends(), 0);
}

#[tokio::test]
async fn header_floods_are_refused() {
    let bench = Bench::new().await;
    let many = "X-A: b\r\n".repeat(200);
    let long = format!("X-A: {}\r\n", "b".repeat(64 << 10));
    for headers in [many, long] {
        let mut client = bench.connect().await;
        client.write(format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).await;
        assert_eq!(client.reply().await.status, 431);
        client.closed().await;
    }
}

#[tokio::test]
async fn two_lengths_do_not_smuggle_a_second_request() {
    let bench = Bench::new().await;
    let call = String::from_utf8(hubspot(BODY)).unwrap();
    let (head, _) = call.split_once("\r\n\r\n").unwrap();
    // By its length the second request is part of the first body; by its chunks it is a request of its own.
    let smuggled = format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{call}");
    let mut client = bench.connect().await;
    client.write(smuggled).await;
    assert_ne!(client.reply().await.status, 204);
    assert_eq!(client.closed().await, 0, "nothing after the first answer");
    assert_eq!(bench.sink.appends(), 0);
    for bad in ["Content-Length: 5\r\nContent-Length: 6", "Transfer-Encoding: chunked, gzip", "Content-Length: -1"] {
        let reply = bench.send(format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\n{bad}\r\n\r\nhello")).await;
        assert_eq!(reply.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_turn() {
    let bench = Bench::new().await;
    let first = hubspot(format!("[{}]", job_title(1, 7001, 1_767_268_798_500, "CTO")));
    let second = post("/nowhere", &[], "");
    let third = hubspot(format!("[{}]", job_title(2, 7001, 1_767_268_798_501, "CEO")));
    let mut client = bench.connect().await;
    client.write([first, second, third].concat()).await;
    let statuses = [client.reply().await.status, client.reply().await.status, client.reply().await.status];
    assert_eq!(statuses, [204, 404, 204]);
    assert_eq!(bench.sink.records().len(), 2);
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_and_overload_is_answered() {
    let bench = Bench::with(Limits { inflight_bytes: 10 << 10, ..limits() }).await;
    let large = format!("[{}]", job_title(1, 7001, 1_767_268_798_500, &"x".repeat(8 << 10)));
    let reply = bench.send(hubspot(large)).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    assert_eq!(bench.send(hubspot(BODY)).await.status, 204, "its bytes were given back");
}

#[tokio::test]
async fn a_verified_sender_that_is_too_fast_is_told_so_and_a_stranger_costs_it_nothing() {
    let bench = Bench::with(Limits { endpoint_rate: 1, ..limits() }).await;
    for _ in 0..3 {
        assert_eq!(bench.send(post(HUBSPOT, &[], BODY)).await.status, 401);
    }
    assert_eq!(bench.send(hubspot(BODY)).await.status, 204);
    // A machine that stalls for a second may earn one more, but not a hundred of them.
    let mut replies = Vec::new();
    for _ in 0..100 {
        replies.push(bench.send(hubspot(BODY)).await);
    }
    let told = replies.iter().find(|reply| reply.status != 204).unwrap();
    assert_eq!((told.status, told.header("retry-after")), (429, Some("5")));
    assert_eq!(bench.send(native("m", "{}")).await.status, 204, "another endpoint has its own rate");
}

#[tokio::test]
async fn one_connection_too_many_is_closed() {
    let bench = Bench::with(Limits { connections: 1, ..limits() }).await;
    let mut first = bench.connect().await;
    assert_eq!(first.send(post("/", &[], "")).await.status, 404);
    assert_eq!(bench.connect().await.closed().await, 0);
    assert_eq!(first.send(post("/", &[], "")).await.status, 404);
    drop(first);
    // The slot comes back once the gateway has seen the end.
    bench.counted("gw_connections ", 0).await;
    assert_eq!(bench.send(post("/", &[], "")).await.status, 404);
}

#[tokio::test]
async fn a_configuration_that_cannot_work_does_not_start() {
    let start = async |endpoints| {
        let config = GatewayConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            public_url: None,
            endpoints,
            limits: Limits::default(),
        };
        let bench = Bench::new().await;
        let shutdown = Shutdown::new(Duration::from_secs(1));
        headgate_gateway::start(config, bench.sink, &mut Registry::default(), &shutdown).await.map(|_| ())
    };
    let mut twice = endpoints();
    twice.push(twice[0].clone());
    assert!(matches!(start(twice).await, Err(StartError::SameKey { .. })));
    let mut keyless = endpoints();
    keyless[0].key.clear();
    assert!(matches!(start(keyless).await, Err(StartError::EmptyKey { .. })));
    for (provider, credential, expected) in [
        (ProviderName::Hubspot, Credential::None, KeyError::NeedsSecret),
        (ProviderName::Hubspot, Credential::Secrets(vec!["".into()]), KeyError::Empty),
        (ProviderName::Hubspot, Credential::Secrets(vec!["a".into(), "b".into(), "c".into()]), KeyError::TooMany),
        (ProviderName::Native, Credential::Secrets(vec!["whsec_!".into()]), KeyError::NotBase64),
        (ProviderName::Native, Credential::PublicKey("whsec_AAAA".to_owned()), KeyError::NotPublicKey),
        (ProviderName::Native, Credential::PublicKey("whpk_AAAA".to_owned()), KeyError::NotPublicKey),
    ] {
        match start(vec![endpoint("e", "/k", provider, credential)]).await {
            Err(StartError::Credential { endpoint, source }) => {
                assert_eq!((endpoint.as_str(), source), ("e", expected))
            }
            other => panic!("{other:?}"),
        }
    }
}
