//! Checks 1 to 5: who is believed, and what an unbelieved call can do (nothing).

use super::super::harness::{
    Bench, HUBSPOT, Mode, NATIVE, SALESFORCE, SECRET, hubspot_at, hubspot_signature, native_at, post,
    salesforce_envelope,
};
use super::{BODY, NATIVE_BODY, NOTIFICATION, senders, without};
use headgate_schemas::time;

#[tokio::test]
async fn check_01_flipping_any_byte_of_a_signed_body_is_refused() {
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
async fn check_01_nothing_is_parsed_kept_or_counted_before_a_call_is_believed() {
    let bench = Bench::new().await;
    // Each would be 400 if it were read: unbelieved it is 401 like everything else.
    let deep = "[".repeat(10_000);
    for body in [deep.as_str(), "{", "", "\u{0}", BODY, NATIVE_BODY] {
        for path in [HUBSPOT, NATIVE, SALESFORCE] {
            assert_eq!(bench.send(post(path, &[], body)).await.status, 401, "{path} {body:.20}");
        }
    }
    // Salesforce names its sender in the body, so that far the body is read, and no farther.
    let broken = salesforce_envelope("<Notification>").replace("00D5g000000ABCDEA4", "00D5g000000ABCE");
    assert_eq!(bench.send(post(SALESFORCE, &[], &broken)).await.status, 401);
    assert_eq!(bench.sink.appends(), 0);
    let counted = bench.metrics();
    for family in ["gw_events_total{", "gw_dedup_total{", "gw_events_ignored_total{"] {
        assert!(!counted.contains(family), "{family}");
    }
}

#[tokio::test]
async fn check_02_every_bit_of_a_signature_counts() {
    let bench = Bench::new().await;
    let (signature, at) = hubspot_signature(SECRET, HUBSPOT, BODY.as_bytes());
    let mut client = bench.connect().await;
    let mut try_with = async |signature: &str| {
        let headers = [("X-HubSpot-Signature-v3", signature), ("X-HubSpot-Request-Timestamp", at.as_str())];
        client.send(post(HUBSPOT, &headers, BODY)).await.status
    };
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let bytes = engine.decode(&signature).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(try_with(&engine.encode(wrong)).await, 401, "bit {bit}");
    }
    // Shorter and longer ones never reach the comparison, which is of equal lengths only.
    for length in [0, 1, 31, 33, 64] {
        let other: Vec<u8> = bytes.iter().copied().cycle().take(length).collect();
        assert_eq!(try_with(&engine.encode(other)).await, 401, "{length} bytes");
    }
    assert_eq!(try_with(&signature).await, 204);
}

#[tokio::test]
async fn check_03_a_signature_header_stands_once_in_its_form_or_the_answer_is_one_and_the_same_401() {
    let bench = Bench::new().await;
    for sender in senders().into_iter().filter(|sender| !sender.headers.is_empty()) {
        let call = String::from_utf8(sender.call()).unwrap();
        let refused = bench.send(without(&call, sender.headers)).await.undated();
        for name in sender.headers {
            let line = call.split("\r\n").find(|l| l.starts_with(name)).unwrap();
            let (_, value) = line.split_once(": ").unwrap();
            let long = format!("{name}: {}", "a".repeat(3_000));
            let replaced = [
                String::new(),
                format!("{name}: "),
                format!("{line}\r\n{line}"),
                format!("{name}: {value},{value}"),
                format!("{name}: \u{e9}{value}"),
                format!("{name}: v9={value}"),
                long,
            ];
            for other in replaced {
                let other_line = if other.is_empty() { other.clone() } else { format!("{other}\r\n") };
                let call = call.replacen(&format!("{line}\r\n"), &other_line, 1);
                let reply = bench.send(&call).await.undated();
                assert_eq!(reply, refused, "{} {name} {other:.60}", sender.name);
            }
        }
        assert_eq!(refused.status, 401);
        assert_eq!(bench.send(&call).await.status, sender.accepted, "{} as it is", sender.name);
    }
}

#[tokio::test]
async fn check_04_a_time_outside_the_window_is_refused_on_both_sides() {
    let bench = Bench::new().await;
    let now = time::now().millis();
    // A minute of slack on either side of the 300 s, so that the test machine may stall.
    for (off_ms, expected) in [(-360_000, 401), (360_000, 401), (-240_000, 204), (240_000, 204)] {
        assert_eq!(bench.send(hubspot_at(BODY, &(now + off_ms).to_string())).await.status, expected, "{off_ms}");
        let at_s = ((now + off_ms) / 1_000).to_string();
        assert_eq!(bench.send(native_at("m", NATIVE_BODY, &at_s)).await.status, expected, "{off_ms}");
    }
    // Seconds where milliseconds belong and the other way round; and what only looks like a number.
    assert_eq!(bench.send(hubspot_at(BODY, &(now / 1_000).to_string())).await.status, 401);
    assert_eq!(bench.send(native_at("m", NATIVE_BODY, &now.to_string())).await.status, 401);
    for odd in ["NaN", "-1", "+1", "1e12", "0x1", "", "99999999999999999999", &format!("{now}.0"), &format!(" {now}0")]
    {
        assert_eq!(bench.send(hubspot_at(BODY, odd)).await.status, 401, "{odd}");
    }
}

#[tokio::test]
async fn check_04_the_same_signature_again_gets_the_first_answer_and_has_no_second_effect() {
    let bench = Bench::new().await;
    for (round, sender) in senders().into_iter().enumerate() {
        let call = sender.call();
        // A first 503 frees it.
        bench.sink.set(Mode::Refuse);
        assert_eq!(bench.send(&call).await.status, 503, "{}", sender.name);
        bench.sink.set(Mode::Acknowledge);
        for _ in 0..3 {
            assert_eq!(bench.send(&call).await.status, sender.accepted, "{}", sender.name);
        }
        assert_eq!(bench.sink.records().len(), round + 1, "{}", sender.name);
    }
    // Another gateway remembers nothing: the change it publishes has the id that readers drop repeats by.
    let (first, other) = (Bench::new().await, Bench::new().await);
    let call = salesforce_call();
    assert_eq!((first.send(&call).await.status, other.send(&call).await.status), (200, 200));
    let id = |bench: &Bench| bench.sink.records().pop().unwrap().header("ce_id").map(str::to_owned);
    assert!(id(&other).is_some());
    assert_eq!(id(&first), id(&other));
}

fn salesforce_call() -> Vec<u8> {
    post(SALESFORCE, &[], salesforce_envelope(NOTIFICATION))
}

#[tokio::test]
async fn check_05_the_query_is_signed_with_its_escapes_and_the_host_is_not_believed() {
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
