//! What the bodies of each further provider become, and how each of them is answered.

use super::golden::wire;
use super::harness::{
    Bench, CLOUDEVENTS, DYNAMICS, DYNAMICS_QUERY, HUBSPOT_LEGACY, Mode, NATIVE_SALESFORCE, PIPEDRIVE, SECRET,
    cloudevents, dynamics, hub_signature, hubspot_v2, native_to, pipedrive, post, t_v1,
};

const ENVIRONMENT: &str = "4ef5b371-e89e-e711-8122-000d3aa2331c";
const CONTACT: &str = "6d81597f-0f9f-e711-8122-000d3aa2331c";

/// Sends `calls` one after another; answers what is in the stream after them.
async fn stream(status: u16, calls: impl IntoIterator<Item = Vec<u8>>) -> String {
    let bench = Bench::new().await;
    for call in calls {
        let reply = bench.send(&call).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, ""), "{}", String::from_utf8_lossy(&call));
    }
    wire(&bench)
}

fn context(message: &str, rest: &str) -> String {
    format!(
        r#"{{"MessageName":"{message}","PrimaryEntityName":"contact","PrimaryEntityId":"{CONTACT}","OrganizationId":"{ENVIRONMENT}","CorrelationId":"b374239d-4233-41a9-8b17-a86cb4f737b5","OperationId":"4af10637-4ea2-e711-8122-000d3aa2331c","RequestId":null,"Depth":1,"Stage":40,"Mode":1,"UserId":"75c2dd85","InitiatingUserId":"75c2dd85","OperationCreatedOn":"\/Date(1767268798000+0000)\/","OwningExtension":{{"Id":"e0000000","LogicalName":"sdkmessageprocessingstep"}},{rest}}}"#
    )
}

const UPDATE: &str = r#""InputParameters":[{"key":"Target","value":{"__type":"Entity:http:\/\/schemas.microsoft.com\/xrm\/2011\/Contracts","LogicalName":"contact","Id":"6d81597f-0f9f-e711-8122-000d3aa2331c","RowVersion":null,"Attributes":[{"key":"jobtitle","value":"CTO"},{"key":"statuscode","value":{"__type":"OptionSetValue:http:\/\/x","Value":1}},{"key":"annualincome","value":{"__type":"Money:http:\/\/x","Value":10.50}},{"key":"parentcustomerid","value":{"__type":"EntityReference:http:\/\/x","Id":"a1","LogicalName":"account","Name":"A"}},{"key":"birthdate","value":"\/Date(0)\/"},{"key":"fax","value":null},{"key":"modifiedon","value":"\/Date(1767268797000)\/"}]}}],"PreEntityImages":[{"key":"pre","value":{"Attributes":[{"key":"jobtitle","value":"VP"}]}}],"PostEntityImages":[{"key":"post","value":{"Attributes":[{"key":"versionnumber","value":90210}]}}],"SharedVariables":[],"ParentContext":null"#;

#[tokio::test]
async fn dataverse_contexts() {
    let link = r#""InputParameters":[{"key":"Target","value":{"Id":"6d81597f","LogicalName":"contact"}},{"key":"Relationship","value":{"SchemaName":"contact_leads"}},{"key":"RelatedEntities","value":[{"Id":"L1","LogicalName":"lead"}]}]"#;
    let merge = r#""InputParameters":[{"key":"SubordinateId","value":"B2"}]"#;
    let many = r#""InputParameters":[{"key":"Targets","value":{"__type":"EntityCollection:http://x","Entities":[{"Id":"C1","Attributes":[{"key":"jobtitle","value":"A"}]},{"Id":"C2","Attributes":[{"key":"jobtitle","value":"B"}]}]}}]"#;
    insta::assert_snapshot!(
        stream(
            200,
            [
                dynamics(context("Update", UPDATE)),
                dynamics(context("Create", UPDATE).replace("4af10637", "00000001")),
                dynamics(context("Delete", r#""InputParameters":[]"#).replace("4af10637", "00000002")),
                dynamics(context("Associate", link).replace("4af10637", "00000003")),
                dynamics(context("Merge", merge).replace("4af10637", "00000004")),
                dynamics(context("UpdateMultiple", many).replace("4af10637", "00000005")),
            ]
        )
        .await
    );
}

#[tokio::test]
async fn dataverse_is_told_apart_by_its_job_and_without_one_by_everything_else() {
    let bench = Bench::new().await;
    let synchronous = context("Update", UPDATE).replace("\"Mode\":1", "\"Mode\":0");
    for (body, records) in [
        (context("Update", UPDATE), 1),
        // The one repeat; then another job; then the same without a job, once more, and with another value.
        (context("Update", UPDATE), 1),
        (context("Update", UPDATE).replace("4af10637", "4af10638"), 2),
        (synchronous.clone(), 3),
        (synchronous.clone(), 3),
        (synchronous.replace("\"CTO\"", "\"CEO\""), 4),
    ] {
        assert_eq!(bench.send(dynamics(&body)).await.status, 200);
        assert_eq!(bench.sink.records().len(), records, "{body:.60}");
    }
}

#[tokio::test]
async fn dataverse_over_its_limit_is_a_hint_and_headers_must_agree_with_the_body() {
    let bench = Bench::new().await;
    let body = context("Update", r#""Initiating":1"#);
    let call = |header: &str| {
        let call = String::from_utf8(dynamics(&body)).unwrap();
        call.replacen("\r\n", &format!("\r\n{header}\r\n"), 1)
    };
    assert_eq!(bench.send(call("x-ms-dynamics-msg-size-exceeded: true")).await.status, 200);
    let data: serde_json::Value = serde_json::from_slice(&bench.sink.records()[0].body).unwrap();
    assert_eq!((data["needs_fetch"].as_bool(), data["object"]["id"].as_str()), (Some(true), Some(CONTACT)));
    assert_eq!(bench.send(call("x-ms-dynamics-entity-name: account")).await.status, 400);
    assert_eq!(bench.send(call("x-ms-dynamics-request-name: Update")).await.status, 200);
    assert_eq!(bench.send(dynamics(context("Publish", r#""a":1"#))).await.status, 200, "a message we do not know");
    assert_eq!(bench.send(dynamics(body.replace(ENVIRONMENT, "another"))).await.status, 200, "another environment");
    assert_eq!(bench.metric(r#"gw_events_ignored_total{source="dynamics",reason="unrouted"}"#), 1);
}

#[tokio::test]
async fn dataverse_shows_its_value_in_a_header_or_in_the_query() {
    let bench = Bench::new().await;
    let body = context("Update", UPDATE);
    for (path, headers, expected) in [
        (DYNAMICS.to_owned(), vec![("x-headgate-key", SECRET)], 200),
        (DYNAMICS.to_owned(), vec![("x-headgate-key", "x")], 401),
        (DYNAMICS.to_owned(), vec![("x-headgate-key", SECRET), ("x-headgate-key", SECRET)], 401),
        (DYNAMICS.to_owned(), vec![], 401),
        (format!("{DYNAMICS}?X-Headgate-Key={SECRET}"), vec![], 401),
        (format!("{DYNAMICS_QUERY}?code={SECRET}"), vec![], 200),
        (format!("{DYNAMICS_QUERY}?x=1&code={}", SECRET.replace('-', "%2D")), vec![], 200),
        (format!("{DYNAMICS_QUERY}?code={SECRET}&code={SECRET}"), vec![], 401),
        (format!("{DYNAMICS_QUERY}?Code={SECRET}"), vec![], 401),
        (DYNAMICS_QUERY.to_owned(), vec![("code", SECRET)], 401),
    ] {
        assert_eq!(bench.send(post(&path, &headers, &body)).await.status, expected, "{path} {headers:?}");
    }
    assert!(!bench.metrics().contains(SECRET));
}

const DEAL: &str = r#"{"meta":{"action":"change","entity":"deal","entity_id":"318","company_id":"4410","correlation_id":"7b1f","id":"0d9f0b52-7a52-45f0-8f7d-0f2f6a1c9e11","is_bulk_edit":false,"timestamp":"2026-01-01T11:59:58.412Z","type":"general","user_id":"77","version":"2.0","webhook_id":"900","change_source":"app","attempt":1,"host":"acme.pipedrive.com"},"data":{"id":318,"title":"Renewal","value":1200,"custom_fields":{"a1b2":"x"}},"previous":{"value":1000,"custom_fields":{"a1b2":null}}}"#;
const DEAL_V1: &str = r#"{"v":1,"meta":{"v":1,"action":"updated","object":"person","id":5,"company_id":4410,"user_id":77,"host":"h","timestamp":1767268798,"timestamp_micro":1767268798412001,"change_source":"api","webhook_id":"901"},"retry":1,"current":{"id":5,"name":"Ana"},"previous":{"id":5,"name":"Anna"},"event":"updated.person"}"#;

#[tokio::test]
async fn pipedrive_events_of_both_versions() {
    let second = |action: &str, id: &str| DEAL.replace("\"change\"", action).replace("0d9f0b52", id);
    let deleted = second("\"delete\"", "00000001")
        .replace(r#""data":{"id":318,"title":"Renewal","value":1200,"custom_fields":{"a1b2":"x"}}"#, r#""data":null"#);
    let merged = deleted.replace("00000001", "00000002").replace("\"attempt\"", "\"merged_to_id\":\"400\",\"attempt\"");
    insta::assert_snapshot!(
        stream(
            200,
            [
                pipedrive(DEAL),
                pipedrive(second("\"create\"", "00000003").replace("\"2026-01-01T11:59:58.412Z\"", "1767268799")),
                pipedrive(deleted),
                pipedrive(merged),
                pipedrive(DEAL_V1),
            ]
        )
        .await
    );
}

#[tokio::test]
async fn pipedrive_never_hears_429_and_its_repeats_are_one_event() {
    let limits = headgate_gateway::config::Limits { endpoint_rate: 1, ..super::harness::limits() };
    let bench = Bench::with(limits).await;
    let again = DEAL.replace("\"attempt\":1", "\"attempt\":2");
    let mut statuses = std::collections::BTreeSet::new();
    for _ in 0..50 {
        for body in [DEAL, &again] {
            statuses.insert(bench.send(pipedrive(body)).await.status);
        }
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [200, 503]);
    assert_eq!(bench.sink.records().len(), 1);
    let bench = Bench::new().await;
    bench.sink.set(Mode::Refuse);
    assert_eq!(bench.send(pipedrive(DEAL)).await.status, 503);
    bench.sink.set(Mode::Acknowledge);
    assert_eq!(bench.send(pipedrive(again)).await.status, 200);
    assert_eq!(bench.send(pipedrive(DEAL.replace("4410", "4411"))).await.status, 200, "another company");
    assert_eq!(bench.send(post(PIPEDRIVE, &[("Authorization", "Basic !")], DEAL)).await.status, 401);
    assert_eq!(bench.sink.records().len(), 1);
}

const NATIVE: &str =
    r#"{"type":"contact.updated","timestamp":"2026-01-01T11:59:57.120Z","data":{"id":"c_19","name":"Renée"}}"#;

#[tokio::test]
async fn generic_senders_tell_native_events() {
    let bench = Bench::new().await;
    for call in [
        hub_signature("d-1", NATIVE),
        hub_signature("d-1", NATIVE),
        hub_signature("d-2", NATIVE),
        t_v1(NATIVE),
        t_v1(NATIVE),
        t_v1(NATIVE.replace("Renée", "René")),
        hub_signature("d-3", "{}"),
    ] {
        assert_eq!(bench.send(call).await.status, 204);
    }
    assert_eq!(bench.sink.records().len(), 4);
    assert!(bench.sink.records().iter().all(|record| record.key == "acme/native/crm/contact/c_19"));
}

fn change_event(header: &str, fields: &str) -> String {
    format!(
        r#"{{"schema":"x","payload":{{"ChangeEventHeader":{{"entityName":"Contact","changeOrigin":"com/salesforce/api/soap/62.0;client=headgate","transactionKey":"000-key","sequenceNumber":2,"commitTimestamp":1767268798412,"commitNumber":9,"commitUser":"0055g000001",{header}}}{fields}}},"event":{{"replayId":7}}}}"#
    )
}

#[tokio::test]
async fn salesforce_change_events_over_the_native_form() {
    let one = r#""recordIds":["0035g00000AbCdE"],"changeType":"UPDATE""#;
    let with = |fields: &str, lists: &str| change_event(&format!("{one},{lists}"), fields);
    let calls = [
        // Only what changed is there, and a null clears.
        change_event(one, r#","Title":"CTO","Fax":null,"Name":{"FirstName":"Ana"},"MailingAddress":{"City":"Bonn"}"#),
        // Everything is there, and lists say what changed: by names, and by bitmaps over the order of the fields.
        with(
            r#","Title":"CTO","Fax":null,"Phone":null"#,
            r#""changedFields":["Title"],"nulledFields":["Fax"],"diffFields":[]"#,
        ),
        with(
            r#","Title":"CTO","Fax":null,"Phone":null"#,
            r#""changedFields":["0x02"],"nulledFields":["0x04"],"diffFields":[]"#,
        ),
        with(
            r#","Description":"--- a\n+++ b","Title":"CEO""#,
            r#""changedFields":["Description","Title"],"nulledFields":[],"diffFields":["Description"]"#,
        ),
        change_event(r#""recordIds":["0035g00000AbCdE","0035g00000AbCdF"],"changeType":"DELETE""#, ""),
        change_event(r#""recordIds":["0035g00000AbCdE"],"changeType":"GAP_UPDATE""#, ""),
        change_event(r#""recordIds":["003*"],"changeType":"GAP_CREATE""#, ""),
        change_event(r#""recordIds":[],"changeType":"GAP_OVERFLOW""#, ""),
        change_event(r#""recordIds":["0035g00000AbCdE"],"changeType":"UNDELETE""#, r#","LastName":"D""#),
    ];
    let numbered = calls.into_iter().enumerate().map(|(n, body)| {
        let body = body.replace("\"sequenceNumber\":2", &format!("\"sequenceNumber\":{n}"));
        native_to(NATIVE_SALESFORCE, &format!("m{n}"), body)
    });
    insta::assert_snapshot!(stream(204, numbered).await);
}

#[tokio::test]
async fn a_change_event_is_one_whoever_sends_it_on() {
    let bench = Bench::new().await;
    let event = change_event(r#""recordIds":["0035g00000AbCdE"],"changeType":"UPDATE""#, r#","Title":"CTO""#);
    let relayed = format!(r#"{{"version":"0","id":"e-1","detail":{event}}}"#);
    let alone = event.split_once("\"payload\":").unwrap().1.rsplit_once(",\"event\"").unwrap().0;
    for (id, body) in [("a", event.as_str()), ("b", &relayed), ("c", alone)] {
        assert_eq!(bench.send(native_to(NATIVE_SALESFORCE, id, body)).await.status, 204, "{body}");
    }
    assert_eq!(bench.sink.records().len(), 1);
    for broken in [
        event.replace("\"recordIds\":[\"0035g00000AbCdE\"]", "\"recordIds\":7"),
        event.replace(
            "\"changeType\":\"UPDATE\"",
            "\"changeType\":\"UPDATE\",\"changedFields\":[\"0xFF\"],\"nulledFields\":[]",
        ),
        event.replace("1767268798412", "-1"),
    ] {
        assert_eq!(bench.send(native_to(NATIVE_SALESFORCE, "d", &broken)).await.status, 400, "{broken}");
    }
}

#[tokio::test]
async fn hubspot_workflow_actions_are_hints() {
    let action = r#"{"objectId":7001,"objectTypeId":"0-1","portalId":5550123,"properties":{"jobtitle":"CTO"}}"#;
    let bench = Bench::new().await;
    for body in [action, r#"{"vid":7002,"properties":{"jobtitle":{"value":"CTO"}}}"#] {
        assert_eq!(bench.send(hubspot_v2(body)).await.status, 204, "{body}");
    }
    assert_eq!(bench.send(hubspot_v2(action.replace("5550123", "999"))).await.status, 204);
    let told: Vec<_> = bench
        .sink
        .records()
        .iter()
        .map(|record| {
            let data: serde_json::Value = serde_json::from_slice(&record.body).unwrap();
            assert!(data.get("fields").is_none(), "no value of a weakly signed call is believed");
            (record.key.clone(), data["change"].clone(), data["needs_fetch"].clone())
        })
        .collect();
    let hint = |key: &str| (key.to_owned(), "touched".into(), true.into());
    assert_eq!(told, [hint("acme/hubspot/5550123/contact/7001"), hint("acme/hubspot/5550123/contact/7002")]);
    for body in ["{}", r#"{"objectId":1}"#, r#"{"objectId":1,"objectTypeId":"0 1"}"#, "{"] {
        let status = bench.send(hubspot_v2(body)).await.status;
        assert!(matches!(status, 400 | 401), "{status} {body}");
    }
    let unsigned = post(HUBSPOT_LEGACY, &[("X-HubSpot-Signature-Version", "v2")], action);
    assert_eq!(bench.send(unsigned).await.status, 401);
    // Where old signatures are not allowed, an object is no event however it is signed.
    assert_eq!(bench.send(super::harness::hubspot(action)).await.status, 400);
}

const EVENT: &str = r#"{"specversion":"1.0","id":"e-1","source":"/crm","type":"com.example.contact.updated.v1","time":"2026-01-01T11:59:57.120Z","subject":"contact/c_19","sequence":"0042","data":{"name":"Renée"}}"#;

#[tokio::test]
async fn cloudevents_in_their_three_modes() {
    let structured = ("Content-Type", "application/cloudevents+json; charset=UTF-8");
    let batched = ("Content-Type", "application/cloudevents-batch+json");
    let binary = [
        ("Content-Type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "e-2"),
        ("ce-source", "/crm"),
        ("ce-type", "deal.created"),
        ("ce-subject", "d%C3%A9j%C3%A0"),
    ];
    let other = EVENT.replace("e-1", "e-3").replace("contact.updated", "contact.deleted");
    insta::assert_snapshot!(
        stream(
            202,
            [
                cloudevents(&[structured], EVENT),
                cloudevents(&[batched], format!("[{EVENT},{other}]")),
                cloudevents(&binary, r#"{"amount":12.50}"#),
                cloudevents(&[batched], "[]"),
            ]
        )
        .await
    );
}

#[tokio::test]
async fn cloudevents_answers_and_tokens() {
    let bench = Bench::new().await;
    let structured = ("Content-Type", "application/cloudevents+json");
    for (body, expected) in [
        (EVENT.replace("com.example.contact.updated.v1", "ping"), 202),
        (EVENT.replace("\"subject\":\"contact/c_19\",", ""), 400),
        (EVENT.replace("\"1.0\"", "\"2.0\""), 400),
        (EVENT.replace("\"data\":", "\"data_base64\":\"AA==\",\"data\":"), 400),
        (EVENT.replace("{\"name\":\"Renée\"}", "7"), 400),
        (EVENT.replace("2026-01-01T11:59:57.120Z", "soon"), 400),
    ] {
        assert_eq!(bench.send(cloudevents(&[structured], &body)).await.status, expected, "{body}");
    }
    let avro = cloudevents(&[("Content-Type", "application/cloudevents+avro")], "x");
    assert_eq!(bench.send(avro).await.status, 415);
    let query = post(&format!("{CLOUDEVENTS}?access_token={SECRET}"), &[structured], EVENT);
    assert_eq!(bench.send(query).await.status, 202);
    for headers in [vec![], vec![("Authorization", "Bearer x")], vec![("Authorization", SECRET)]] {
        let call = post(&format!("{CLOUDEVENTS}?access_token=x"), &[&[structured][..], &headers].concat(), EVENT);
        assert_eq!(bench.send(call).await.status, 401, "{headers:?}");
    }
}

#[tokio::test]
async fn consent_is_given_by_headers_to_the_origins_on_the_list() {
    let bench = Bench::new().await;
    let ask = |path: &str, origin: &str| {
        format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: h\r\nWebHook-Request-Origin: {origin}\r\nWebHook-Request-Rate: 120\r\nWebHook-Request-Callback: http://127.0.0.1:1/\r\n\r\n"
        )
    };
    let given = bench.send(ask(CLOUDEVENTS, "events.example.com")).await;
    assert_eq!((given.status, given.header("webhook-allowed-origin")), (200, Some("events.example.com")));
    assert_eq!((given.header("webhook-allowed-rate"), given.header("allow")), (Some("120"), Some("POST, OPTIONS")));
    let refused = bench.send(ask(CLOUDEVENTS, "evil.example")).await.undated();
    assert_eq!((refused.status, refused.header("webhook-allowed-origin")), (200, None));
    let unknown = bench.send(ask("/in/cloudevents/nope", "events.example.com")).await.undated();
    assert_eq!(unknown, refused, "an unknown key looks like an origin that is not on the list");
    assert_eq!(bench.send(ask(PIPEDRIVE, "events.example.com")).await.status, 405);
}
