//! The checks of foreign bytes, each under its number:
//!
//! 1. raw bytes are verified before anything is parsed, kept or counted
//! 2. comparison of whole digests (that it takes as long wherever they differ is counted by `gateway/tests/compare.sh`)
//! 3. a signature header stands once and in its form, or the answer is one and the same 401
//! 4. the window in time, and what a repeat does
//! 5. the URL that HubSpot signs
//! 6. bodies by bytes read, encodings, multipart
//! 7. headers, HTTP/2, pipelining, smuggling
//! 8. slow senders
//! 9. JSON
//! 10. XML
//! 11. the key in the path
//! 12. what is too much: what is said, and what is still computed
//! 13. TLS (in `tls`)
//!
//! Whatever is tried: the answer is 4xx or the connection ends, never 2xx or 500, and the next valid request is served.

mod believing;
mod door;
mod http2;
mod parsing;
mod slow;
mod transport;

use super::harness::{cloudevents, dynamics, hub_signature, hubspot, native, pipedrive, salesforce, t_v1};

/// One event of a contact.
pub(crate) const BODY: &str = r#"[{"eventId":1,"subscriptionId":41,"portalId":5550123,"appId":70077,"occurredAt":1767268798500,"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":7001,"propertyName":"jobtitle","propertyValue":"CTO"}]"#;
/// The same in the native form.
pub(crate) const NATIVE_BODY: &str =
    r#"{"type":"contact.updated","timestamp":"2026-01-01T11:59:57.120Z","data":{"id":"c_19","name":"Renée"}}"#;
/// The same in an outbound message.
pub(crate) const NOTIFICATION: &str = r#"<Notification><Id>04l5g0000000001</Id><sObject xsi:type="sf:Contact"><sf:Id>0035g00000AbCdE</sf:Id><sf:Title>CTO</sf:Title></sObject></Notification>"#;

/// The same in an execution context.
const CONTEXT: &str = r#"{"MessageName":"Update","PrimaryEntityName":"contact","PrimaryEntityId":"6d81597f","OrganizationId":"4ef5b371-e89e-e711-8122-000d3aa2331c","OperationId":"4af10637","Mode":1,"InputParameters":[{"key":"Target","value":{"Attributes":[{"key":"jobtitle","value":"CTO"}]}}]}"#;
/// The same in an event of Pipedrive's.
const PIPEDRIVE_BODY: &str = r#"{"meta":{"action":"change","entity":"person","entity_id":"7","company_id":"4410","id":"e-1","timestamp":"2026-01-01T11:59:58.412Z"},"data":{"id":7,"name":"Ana"}}"#;
/// The same in a structured event.
const EVENT: &str = r#"{"specversion":"1.0","id":"e-1","source":"/crm","type":"contact.updated","subject":"c_19","data":{"name":"Ana"}}"#;

/// A provider as the checks use it.
pub(crate) struct Sender {
    pub(crate) name: &'static str,
    /// Headers that its signature needs.
    headers: &'static [&'static str],
    /// The status it takes as success.
    accepted: u16,
    valid: fn() -> Vec<u8>,
}

impl Sender {
    /// A valid call that changes one record.
    pub(crate) fn call(&self) -> Vec<u8> {
        (self.valid)()
    }
}

/// Every provider that is built.
pub(crate) fn senders() -> Vec<Sender> {
    vec![
        Sender {
            name: "hubspot",
            headers: &["X-HubSpot-Signature-v3", "X-HubSpot-Request-Timestamp"],
            accepted: 204,
            valid: || hubspot(BODY),
        },
        Sender {
            name: "native",
            headers: &["webhook-id", "webhook-timestamp", "webhook-signature"],
            accepted: 204,
            valid: || native("msg_check", NATIVE_BODY),
        },
        Sender { name: "salesforce", headers: &[], accepted: 200, valid: || salesforce(NOTIFICATION) },
        Sender { name: "dynamics", headers: &["X-Headgate-Key"], accepted: 200, valid: || dynamics(CONTEXT) },
        Sender { name: "pipedrive", headers: &["Authorization"], accepted: 200, valid: || pipedrive(PIPEDRIVE_BODY) },
        Sender {
            name: "hub-signature-256",
            headers: &["X-Hub-Signature-256"],
            accepted: 204,
            valid: || hub_signature("d-1", NATIVE_BODY),
        },
        Sender {
            name: "t-v1",
            headers: &["Stripe-Signature"],
            accepted: 204,
            valid: || t_v1(NATIVE_BODY.replace("c_19", "c_20")),
        },
        Sender {
            name: "cloudevents",
            headers: &["Authorization"],
            accepted: 202,
            valid: || cloudevents(&[("Content-Type", "application/cloudevents+json")], EVENT),
        },
    ]
}

/// The call without some of its headers.
fn without(call: &str, names: &[&str]) -> String {
    let named = |line: &str| names.iter().any(|name| line.starts_with(&format!("{name}:")));
    let (head, body) = call.split_once("\r\n\r\n").unwrap();
    let lines: Vec<&str> = head.split("\r\n").filter(|line| !named(line)).collect();
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}
