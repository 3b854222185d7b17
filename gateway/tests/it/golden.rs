//! Golden calls: what each body becomes on the stream, byte for byte but for the time of receipt.

use std::fmt::Write as _;

use super::harness::{Bench, hubspot, native, salesforce};

/// The records as text: headers in order, then the data.
pub(crate) fn wire(bench: &Bench) -> String {
    let mut out = String::new();
    for record in bench.sink.records() {
        writeln!(out, "key {}", record.key).unwrap();
        for (name, value) in &record.headers {
            // An event without a time of its own has that of its receipt.
            let receipt = record.header("ce_receivedtime");
            let value = if name.ends_with("time") && receipt == Some(value) { "(receipt)" } else { value };
            writeln!(out, "{name}: {value}").unwrap();
        }
        let data: serde_json::Value = serde_json::from_slice(&record.body).unwrap();
        writeln!(out, "{}\n", serde_json::to_string_pretty(&data).unwrap()).unwrap();
    }
    out
}

async fn hubspot_wire(body: &str) -> String {
    let bench = Bench::new().await;
    let reply = bench.send(hubspot(body)).await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    wire(&bench)
}

async fn native_wire(body: &str) -> String {
    let bench = Bench::new().await;
    let reply = bench.send(native("msg_1", body)).await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    wire(&bench)
}

#[tokio::test]
async fn hubspot_property_changes() {
    // Set, cleared, withheld twice, a custom object, the other name of the type, an id beyond 2^53.
    insta::assert_snapshot!(hubspot_wire(r#"[
        {"eventId":900001,"subscriptionId":41,"portalId":5550123,"appId":70077,"occurredAt":1767268798500,"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":7001,"propertyName":"lifecyclestage","propertyValue":"customer \"gold\" é","changeSource":"CRM_UI","sourceId":"userId:31"},
        {"eventId":900002,"subscriptionId":41,"portalId":5550123,"appId":70077,"occurredAt":1767268798501,"subscriptionType":"company.propertyChange","attemptNumber":1,"objectId":7002,"propertyName":"city","propertyValue":"","changeSource":"IMPORT"},
        {"eventId":900003,"subscriptionId":41,"portalId":5550123,"appId":70077,"occurredAt":1767268798502,"eventType":"contact.propertyChange","attemptNumber":0,"objectId":7003,"propertyName":"ssn","propertyValue":"REDACTED"},
        {"eventId":900004,"subscriptionId":41,"portalId":5550123,"appId":70077,"occurredAt":1767268798503,"subscriptionType":"object.propertyChange","objectTypeId":"0-3","attemptNumber":0,"objectId":7004,"propertyName":"amount","isSensitive":true},
        {"eventId":900005,"subscriptionId":41,"portalId":5550123,"appId":70077,"occurredAt":1767268798504,"subscriptionType":"object.propertyChange","objectTypeId":"2-48113","attemptNumber":0,"objectId":98765432109876543210,"propertyName":"make","propertyValue":"Opel","unheardOf":{"a":[1]}}
    ]"#).await);
}

#[tokio::test]
async fn hubspot_record_events() {
    insta::assert_snapshot!(hubspot_wire(r#"[
        {"eventId":1,"subscriptionId":1,"portalId":5550123,"appId":70077,"occurredAt":1767268798100,"subscriptionType":"contact.creation","attemptNumber":0,"objectId":7001,"changeFlag":"NEW","changeSource":"CRM"},
        {"eventId":2,"subscriptionId":2,"portalId":5550123,"appId":70077,"occurredAt":1767268798200,"subscriptionType":"deal.deletion","attemptNumber":0,"objectId":7002},
        {"eventId":3,"subscriptionId":3,"portalId":5550123,"appId":70077,"occurredAt":1767268798300,"subscriptionType":"object.restore","objectTypeId":"0-2","attemptNumber":0,"objectId":7003},
        {"eventId":4,"subscriptionId":4,"portalId":5550123,"appId":70077,"occurredAt":1767268798400,"subscriptionType":"contact.privacyDeletion","attemptNumber":0,"objectId":7004},
        {"eventId":5,"subscriptionId":5,"portalId":5550123,"appId":70077,"occurredAt":1767268798500,"subscriptionType":"conversation.newMessage","attemptNumber":0,"objectId":7005,"messageId":"m","messageType":"COMMENT"}
    ]"#).await);
}

#[tokio::test]
async fn hubspot_merges_and_associations() {
    insta::assert_snapshot!(hubspot_wire(r#"[
        {"eventId":1,"subscriptionId":44,"portalId":5550123,"appId":70077,"occurredAt":1767268798900,"subscriptionType":"contact.merge","attemptNumber":0,"objectId":7001,"primaryObjectId":7001,"mergedObjectIds":[7009],"newObjectId":7010,"numberOfPropertiesMoved":6},
        {"eventId":2,"subscriptionId":44,"portalId":5550123,"appId":70077,"occurredAt":1767268798901,"subscriptionType":"company.merge","attemptNumber":0,"objectId":8001,"primaryObjectId":8001,"mergedObjectIds":[8002,8003]},
        {"eventId":3,"subscriptionId":45,"portalId":5550123,"appId":70077,"occurredAt":1767268798902,"subscriptionType":"contact.associationChange","attemptNumber":0,"fromObjectId":7001,"toObjectId":8001,"associationType":"CONTACT_TO_COMPANY","associationRemoved":false,"isPrimaryAssociation":true},
        {"eventId":3,"subscriptionId":45,"portalId":5550123,"appId":70077,"occurredAt":1767268798902,"subscriptionType":"contact.associationChange","attemptNumber":0,"fromObjectId":7001,"toObjectId":8001,"associationType":"CONTACT_TO_COMPANY","associationRemoved":false,"isPrimaryAssociation":false},
        {"eventId":4,"subscriptionId":46,"portalId":5550123,"appId":70077,"occurredAt":1767268798903,"subscriptionType":"object.associationChange","objectTypeId":"0-3","attemptNumber":0,"fromObjectId":9001,"toObjectId":8001,"fromObjectTypeId":"0-3","toObjectTypeId":"0-2","associationType":"custom","associationRemoved":true}
    ]"#).await);
}

#[tokio::test]
async fn native_events() {
    insta::assert_snapshot!("native_updated", native_wire(r#"{"type":"contact.updated","timestamp":"2026-01-01T11:59:57.120Z","data":{"id":"c_19","name":"Renée","tags":["a","b"],"score":12345678901234567890.10,"phone":null},"previous":{"name":"Rene"},"actor":"user-7","client":"web"}"#).await);
    insta::assert_snapshot!("native_created", native_wire(r#"{"type":"deal.created","timestamp":"2026-01-01T12:59:57+01:00","data":{"id":42,"amount":"10.00"},"sequence":17,"complete":true}"#).await);
    insta::assert_snapshot!("native_merged", native_wire(r#"{"type":"company.merged","timestamp":"2026-01-01T11:59:57.120456Z","data":{"id":"a"},"merge":{"into":"a","from":["b",3]},"sequence":"0000000A"}"#).await);
    insta::assert_snapshot!("native_linked", native_wire(r#"{"type":"contact.linked","timestamp":"2026-01-01T11:59:57Z","data":{"id":"a"},"link":{"type":"company","id":7,"label":"employer","primary":true}}"#).await);
}

#[tokio::test]
async fn what_we_do_not_want_is_a_success_without_effect() {
    let bench = Bench::new().await;
    for body in [
        // Unknown kinds, one of a shape we never saw.
        r#"[{"subscriptionType":"event.completed","payload":{"x":[true,null]}}]"#,
        r#"[{"subscriptionType":"product.associationChange","portalId":5550123}]"#,
        // Another account.
        r#"[{"eventId":1,"portalId":999,"appId":1,"occurredAt":1,"subscriptionType":"contact.creation","objectId":1}]"#,
    ] {
        assert_eq!(bench.send(hubspot(body)).await.status, 204, "{body}");
    }
    for body in [
        r#"{"test":1}"#,
        r#"{"type":"contact.exploded"}"#,
        r#"{"type":7}"#,
        r#"{"type":".created"}"#,
        r#"{"type":"a b.created"}"#,
    ] {
        assert_eq!(bench.send(native("msg_2", body)).await.status, 204, "{body}");
    }
    assert_eq!(bench.sink.appends(), 0);
    assert_eq!(bench.metric(r#"gw_events_ignored_total{source="hubspot",reason="unknown_kind"}"#), 2);
    assert_eq!(bench.metric(r#"gw_events_ignored_total{source="hubspot",reason="unrouted"}"#), 1);
    assert_eq!(bench.metric(r#"gw_events_ignored_total{source="native",reason="unknown_kind"}"#), 5);
}

#[tokio::test]
async fn an_event_of_another_account_leaves_the_rest_of_its_request_alone() {
    let bench = Bench::new().await;
    let ours = super::harness::job_title(1, 7001, 1_767_268_798_500, "CTO");
    let theirs = ours.replace("5550123", "5550124");
    assert_eq!(bench.send(hubspot(format!("[{theirs},{ours}]"))).await.status, 204);
    let records = bench.sink.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].key, "acme/hubspot/5550123/contact/7001");
}

#[tokio::test]
async fn a_change_too_large_for_a_record_is_marked_to_be_fetched() {
    let limits = headgate_gateway::config::Limits { record_bytes: 2_000, ..super::harness::limits() };
    let bench = Bench::with(limits).await;
    let long = super::harness::job_title(1, 7001, 1_767_268_798_500, &"x".repeat(5_000));
    assert_eq!(bench.send(hubspot(format!("[{long}]"))).await.status, 204);
    let data: serde_json::Value = serde_json::from_slice(&bench.sink.records()[0].body).unwrap();
    assert_eq!((data["needs_fetch"].as_bool(), data.get("fields")), (Some(true), None));
}

async fn salesforce_wire(records: &str) -> String {
    let bench = Bench::new().await;
    let reply = bench.send(salesforce(records)).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/xml; charset=utf-8")));
    assert!(reply.body.contains("<Ack>true</Ack>"), "{}", reply.body);
    wire(&bench)
}

#[tokio::test]
async fn salesforce_outbound_messages() {
    // The state of a record with a cleared and a custom field; one without a time; one with its id only, as it is told of
    // a record that was deleted before its turn; and one of which not even the id is told.
    insta::assert_snapshot!(salesforce_wire(r#"
        <Notification><Id>04l5g0000000001</Id><sObject xsi:type="sf:Contact"><sf:Id>0035g00000AbCdE</sf:Id><sf:Email>ana@example.com</sf:Email><sf:LastName>D&#233;ry &amp; Co</sf:LastName><sf:Title xsi:nil="true"/><sf:HasOptedOutOfEmail>true</sf:HasOptedOutOfEmail><sf:Own__c>5.0</sf:Own__c><sf:SystemModstamp>2026-01-01T11:59:57.000Z</sf:SystemModstamp></sObject></Notification>
        <Notification><Id>04l5g0000000002</Id><sObject xsi:type="sf:Account"><sf:Id>0015g00000AbCdE</sf:Id><sf:Name>Acme</sf:Name><sf:BillingAddress><sf:city>Bonn</sf:city></sf:BillingAddress></sObject></Notification>
        <Notification><Id>04l5g0000000003</Id><sObject xsi:type="sf:Opportunity"><sf:Id>0065g00000AbCdE</sf:Id></sObject></Notification>
        <Notification><Id>04l5g0000000004</Id></Notification>
    "#).await);
}
