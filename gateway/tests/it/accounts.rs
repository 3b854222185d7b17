//! One URL for many tenants: each event belongs to the connection of the account it names.

use std::collections::HashMap;

use headgate_gateway::config::{Credential, EndpointConfig, Owners, ProviderName};
use headgate_schemas::{System, time};

use super::harness::{Bench, HUBSPOT, OLD_SECRET, SECRET, hubspot, hubspot_with, job_title, limits, owner};

/// An endpoint that serves `accounts` accounts, each of a tenant of its own.
fn by_account(accounts: u64) -> EndpointConfig {
    let owners =
        (1..=accounts).map(|n| (n.to_string(), owner(&format!("tenant-{n}"), &format!("hub-{n}"), &n.to_string())));
    let owners = Owners::ByAccount(owners.collect::<HashMap<_, _>>());
    let secrets = Credential::Secrets(vec![SECRET.into(), OLD_SECRET.into()]);
    let key = HUBSPOT.rsplit('/').next().unwrap();
    EndpointConfig::new("app", key, (ProviderName::Hubspot, System::Hubspot), owners, secrets)
}

fn event(account: u64, event: u64) -> String {
    job_title(event, 7001, 1_767_268_798_500, "CTO").replace("5550123", &account.to_string())
}

#[tokio::test]
async fn one_url_serves_a_thousand_accounts_of_a_thousand_tenants() {
    let bench = Bench::of(limits(), vec![by_account(1_000)]).await;
    for first in (1..=1_000).step_by(100) {
        let events: Vec<_> = (first..first + 100).map(|account| event(account, account)).collect();
        assert_eq!(bench.send(hubspot(format!("[{}]", events.join(",")))).await.status, 204);
    }
    let keys: Vec<_> = bench.sink.records().into_iter().map(|record| record.key).collect();
    let expected: Vec<_> = (1..=1_000).map(|n| format!("tenant-{n}/hubspot/{n}/contact/7001")).collect();
    assert_eq!(keys, expected);
    let records = bench.sink.records();
    assert_eq!(records[41].header("ce_tenant"), Some("tenant-42"));
    let data: serde_json::Value = serde_json::from_slice(&records[41].body).unwrap();
    assert_eq!(data["source"]["connection"], "hub-42");
}

#[tokio::test]
async fn events_of_one_account_in_a_mixed_request_stay_in_order_and_apart() {
    let bench = Bench::of(limits(), vec![by_account(2)]).await;
    let later = event(1, 3).replace("1767268798500", "1767268798900");
    let body = format!("[{},{},{},{}]", later, event(2, 2), event(1, 1), event(3, 4));
    assert_eq!(bench.send(hubspot(body)).await.status, 204);
    let mut records = bench.sink.records();
    records.sort_by(|a, b| a.key.cmp(&b.key));
    let seen: Vec<_> = records.iter().map(|r| (r.key.as_str(), r.header("ce_sequence").unwrap())).collect();
    let expected = [
        ("tenant-1/hubspot/1/contact/7001", "00000001767268798500"),
        ("tenant-1/hubspot/1/contact/7001", "00000001767268798900"),
        ("tenant-2/hubspot/2/contact/7001", "00000001767268798500"),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn events_of_unknown_accounts_are_acknowledged_counted_shown_and_kept() {
    let bench = Bench::of(limits(), vec![by_account(2)]).await;
    let stranger = event(999, 5);
    for n in 0..120 {
        let body = format!("[{},{}]", stranger, event(1, n));
        assert_eq!(bench.send(hubspot(body)).await.status, 204);
    }
    assert_eq!(bench.metric(r#"gw_events_ignored_total{source="hubspot",reason="unrouted"}"#), 120);
    let [account] = &bench.gateway.unrouted()[..] else { panic!("one account") };
    let shown = (account.endpoint.as_str(), account.account.as_str(), account.events, account.kept);
    assert_eq!(shown, ("app", "999", 120, 100));
    let events = bench.gateway.unrouted_events("app", "999").unwrap();
    assert_eq!(String::from_utf8_lossy(&events[0].body), stranger);
    assert_eq!(bench.gateway.unrouted_events("app", "1"), None);
}

#[tokio::test]
async fn each_of_two_secrets_tells_when_it_was_used_and_the_second_ends() {
    let mut endpoint = by_account(1);
    endpoint.second_secret_expires = Some(time::now() + std::time::Duration::from_secs(3_600));
    let bench = Bench::of(limits(), vec![endpoint.clone()]).await;
    let secrets = |bench: &Bench| bench.gateway.endpoints()[0].secrets.clone();
    assert_eq!(
        secrets(&bench).iter().map(|s| (s.place, s.last_used_at)).collect::<Vec<_>>(),
        [("first", None), ("second", None)]
    );
    let before = time::now();
    assert_eq!(bench.send(hubspot_with(OLD_SECRET, format!("[{}]", event(1, 1)))).await.status, 204);
    assert_eq!(secrets(&bench)[0].last_used_at, None);
    assert!(secrets(&bench)[1].last_used_at.is_some_and(|at| at >= before));
    assert_eq!(bench.send(hubspot(format!("[{}]", event(1, 2)))).await.status, 204);
    assert!(secrets(&bench)[0].last_used_at.is_some());
    assert!(!secrets(&bench)[1].expired);

    endpoint.second_secret_expires = Some(time::now());
    let bench = Bench::of(limits(), vec![endpoint]).await;
    assert_eq!(bench.send(hubspot_with(OLD_SECRET, format!("[{}]", event(1, 1)))).await.status, 401);
    assert_eq!(bench.send(hubspot(format!("[{}]", event(1, 2)))).await.status, 204);
    assert_eq!((secrets(&bench)[1].expired, secrets(&bench)[1].last_used_at), (true, None));
    let shown = serde_json::to_string(&bench.gateway.endpoints()).unwrap();
    assert!(
        !shown.contains(SECRET) && !shown.contains(OLD_SECRET) && !shown.contains(HUBSPOT.rsplit('/').next().unwrap())
    );
}
