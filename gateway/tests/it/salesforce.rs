//! Outbound messages: one acknowledgement for all of a message, what counts as a repeat, and who may send.

use headgate_gateway::config::{Credential, EndpointConfig, Owners, ProviderName};
use headgate_schemas::System;

use super::harness::{Bench, Mode, ORGANIZATION, SALESFORCE, limits, owner, post, salesforce, salesforce_envelope};

fn notification(id: u8, title: &str) -> String {
    format!(
        "<Notification><Id>04l5g000000000{id}</Id><sObject xsi:type=\"sf:Contact\"><sf:Id>0035g00000AbCd{id}</sf:Id>\
         <sf:Title>{title}</sf:Title><sf:SystemModstamp>2026-01-01T11:59:57.000Z</sf:SystemModstamp></sObject>\
         </Notification>"
    )
}

#[tokio::test]
async fn the_message_is_acknowledged_only_when_all_of_it_is_durable() {
    let bench = Bench::new().await;
    bench.sink.set(Mode::Hold);
    let mut client = bench.connect().await;
    client.write(salesforce(&notification(1, "CTO"))).await;
    bench.sink.appended(1).await;
    // The second message repeats a record that is still being stored and brings another one, which is stored at once.
    bench.sink.set(Mode::Acknowledge);
    let mut second = bench.connect().await;
    second.write(salesforce(&[notification(1, "CTO"), notification(2, "CFO")].concat())).await;
    bench.sink.appended(2).await;
    assert_eq!(bench.send(post("/", &[], "")).await.status, 404, "the gateway answers others meanwhile");
    assert!(second.stream.try_read(&mut [0; 1]).is_err(), "nothing is acknowledged yet");
    bench.sink.answer(false);
    for client in [&mut client, &mut second] {
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
        assert_eq!(reply.header("content-type"), Some("text/xml; charset=utf-8"));
        assert!(reply.body.contains("<Ack>false</Ack>") && !reply.body.contains("true"), "{}", reply.body);
    }
    let reply = bench.send(salesforce(&[notification(1, "CTO"), notification(2, "CFO")].concat())).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.contains("<Ack>true</Ack>"));
}

#[tokio::test]
async fn a_repeat_with_a_newer_state_is_another_change() {
    let bench = Bench::new().await;
    // Both states carry one time: it has whole seconds only.
    for title in ["CTO", "CTO", "CEO", "CTO"] {
        assert_eq!(bench.send(salesforce(&notification(1, title))).await.status, 200, "{title}");
    }
    let titles: Vec<String> = bench
        .sink
        .records()
        .iter()
        .map(|record| {
            let data: serde_json::Value = serde_json::from_slice(&record.body).unwrap();
            data["fields"]["Title"]["value"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(titles, ["CTO", "CEO"]);
}

#[tokio::test]
async fn another_organization_is_not_believed_and_both_forms_of_ours_are() {
    let bench = Bench::new().await;
    let envelope = salesforce_envelope(&notification(1, "CTO"));
    for (organization, expected) in [
        ("00D5g000000ABCD", 200),
        (" 00D5g000000ABCDEA4\n", 200),
        ("00D5g000000AbCD", 401),
        ("00D5g000000ABCDEA5", 401),
        ("00D5g000000ABCE", 401),
        ("", 401),
    ] {
        let body = envelope.replace("00D5g000000ABCDEA4", organization);
        assert_eq!(bench.send(post(SALESFORCE, &[], body)).await.status, expected, "{organization}");
    }
    assert_eq!(bench.metric(r#"gw_rejected_total{source="salesforce",reason="organization"}"#), 2);
    assert_eq!(bench.metric(r#"gw_rejected_total{source="salesforce",reason="signature_missing"}"#), 2);
}

#[tokio::test]
async fn the_session_id_goes_nowhere() {
    let bench = Bench::new().await;
    let envelope = salesforce_envelope(&notification(1, "CTO"));
    let body = envelope.replace("<SessionId xsi:nil=\"true\"/>", "<SessionId>00D5g!AQ-live-credential</SessionId>");
    assert_ne!(body, envelope);
    assert_eq!(bench.send(post(SALESFORCE, &[], body)).await.status, 200);
    for record in bench.sink.records() {
        assert!(!String::from_utf8_lossy(&record.body).contains("live-credential"));
        assert!(record.headers.iter().all(|(_, value)| !value.contains("live-credential")));
    }
    assert!(!bench.metrics().contains("live-credential"));
}

#[tokio::test]
async fn one_url_serves_many_organizations_and_keeps_no_session_of_an_unknown_one() {
    let other = "00D7F00000107XsUAI";
    let owners = [(ORGANIZATION.to_owned(), owner("acme", "salesforce-main", ORGANIZATION))];
    let key = SALESFORCE.rsplit('/').next().unwrap();
    let kind = (ProviderName::Salesforce, System::Salesforce);
    let endpoint = EndpointConfig::new("app", key, kind, Owners::ByAccount(owners.into()), Credential::None);
    let bench = Bench::of(limits(), vec![endpoint]).await;
    assert_eq!(bench.send(salesforce(&notification(1, "CTO"))).await.status, 200);
    let session = "<SessionId>00D5g!AQ-live-credential</SessionId>";
    let body = salesforce_envelope(&notification(2, "CFO")).replace("<SessionId xsi:nil=\"true\"/>", session);
    assert_eq!(bench.send(post(SALESFORCE, &[], body.replace(ORGANIZATION, other))).await.status, 200);
    assert_eq!(bench.sink.records().len(), 1);
    let kept = bench.gateway.unrouted_events("app", other).unwrap();
    let kept = String::from_utf8_lossy(&kept[0].body);
    assert!(kept.contains("CFO") && !kept.contains("live-credential"), "{kept}");
}
