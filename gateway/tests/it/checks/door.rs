//! Checks 11 and 12: the path, and what is said when it is too much.

use headgate_gateway::config::Limits;

use super::super::harness::{
    Bench, HUBSPOT, NATIVE, SALESFORCE, configuration, endpoints, hubspot, limits, post, salesforce,
};
use super::{BODY, NOTIFICATION, senders, without};

/// A call that is valid but for its path, which ends in a key that nobody has.
fn astray(call: &[u8]) -> String {
    let call = String::from_utf8(call.to_vec()).unwrap();
    let (line, rest) = call.split_once(" HTTP/1.1\r\n").unwrap();
    let (door, key) = line.rsplit_once('/').unwrap();
    format!("{door}/{}{} HTTP/1.1\r\n{rest}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' })
}

#[tokio::test]
async fn check_11_an_unknown_key_looks_like_a_wrong_signature_and_is_as_much_work() {
    let bench = Bench::new().await;
    let verified = "gw_verify_duration_seconds_count{scheme=\"none\"}";
    let known = bench.send(post(HUBSPOT, &[], BODY)).await.undated();
    assert_eq!((known.status, known.body.as_str()), (401, "unauthorised\n"));
    for path in ["/in/hubspot/nope", "/in/native/nope", "/in/t-v1/nope", NATIVE] {
        assert_eq!(bench.send(post(path, &[], BODY)).await.undated(), known, "{path}");
    }
    // Salesforce reads an acknowledgement, whatever the status.
    let known = bench.send(post(SALESFORCE, &[], BODY)).await.undated();
    assert_eq!(known.status, 401);
    assert_eq!(bench.send(post("/in/salesforce/nope", &[], BODY)).await.undated(), known);
    for sender in senders() {
        let before = bench.metric(verified) + matched(&bench);
        assert_eq!(bench.send(astray(&sender.call())).await.status, 401, "{}", sender.name);
        assert_eq!(
            bench.metric(verified) + matched(&bench),
            before + 1,
            "{}: one check, as for a known key",
            sender.name
        );
    }
    assert_eq!(bench.sink.appends(), 0);
}

/// Checks that found a scheme to match.
fn matched(bench: &Bench) -> u64 {
    let metrics = bench.metrics();
    let lines = metrics.lines().filter(|line| line.starts_with("gw_verify_duration_seconds_count"));
    let lines = lines.filter(|line| !line.contains("scheme=\"none\""));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test]
async fn check_11_the_key_is_never_the_only_secret() {
    let bench = Bench::new().await;
    for sender in senders().into_iter().filter(|sender| !sender.headers.is_empty()) {
        let call = String::from_utf8(sender.call()).unwrap();
        assert_eq!(bench.send(without(&call, sender.headers)).await.status, 401, "{}", sender.name);
    }
    // Salesforce shows no secret: its organization must be the endpoint's, and client certificates can be asked for.
    let call = String::from_utf8(salesforce(NOTIFICATION)).unwrap();
    let other = call.replacen("00D5g000000ABCDEA4", "00D5g000000ZZZZEA4", 1);
    assert_eq!(bench.send(other).await.status, 401);
    assert_eq!(bench.sink.appends(), 0);
}

#[tokio::test]
async fn check_12_above_the_hard_cap_every_provider_is_told_when_to_come_again_and_nothing_is_computed() {
    let bench = Bench::configured(configuration(Limits { requests: 0, ..limits() }, endpoints())).await;
    for sender in senders() {
        let reply = bench.send(sender.call()).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")), "{}", sender.name);
    }
    let lines = bench.metrics();
    let verified = lines.lines().find(|line| line.starts_with("gw_verify_duration_seconds_count"));
    assert_eq!((verified, bench.sink.appends()), (None, 0));
}

#[tokio::test]
async fn check_12_below_it_signatures_are_checked_first_and_too_fast_is_told_as_each_provider_understands_it() {
    let bench = Bench::with(Limits { endpoint_rate: 1, ..limits() }).await;
    for sender in senders() {
        // A machine that stalls for a second may earn one more, but not a hundred of them.
        let mut replies = Vec::new();
        while replies.last().is_none_or(|status| *status == sender.accepted) {
            assert!(replies.len() < 100, "{}", sender.name);
            let reply = bench.send(sender.call()).await;
            if reply.status != sender.accepted {
                assert_eq!(reply.header("retry-after"), Some("5"), "{}", sender.name);
            }
            replies.push(reply.status);
        }
        let expected = if ["dynamics", "pipedrive"].contains(&sender.name) { 503 } else { 429 };
        assert_eq!(replies.last(), Some(&expected), "{}", sender.name);
        assert!(replies.len() > 1, "{}: the first is accepted", sender.name);
    }
    // A stranger learns nothing of the rate.
    assert_eq!(bench.send(post(HUBSPOT, &[], BODY)).await.status, 401);
    assert_eq!(bench.send(hubspot("not json")).await.status, 400);
}
