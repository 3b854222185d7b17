//! The ten checks of foreign bytes, each under its number:
//!
//! 1. raw bytes are verified before anything is parsed, kept or counted
//! 2. comparison of whole digests
//! 3. a signature header stands once and in its form, or the answer is one and the same 401
//! 4. the window in time, and what a repeat does
//! 5. the URL that HubSpot signs
//! 6. bodies by bytes read, encodings, multipart
//! 7. headers, HTTP/2, pipelining, smuggling
//! 8. slow senders
//! 9. JSON
//! 10. XML
//!
//! Whatever is tried: the answer is 4xx or the connection ends, never 2xx or 500, and the next valid request is served.

mod believing;
mod http2;
mod parsing;
mod slow;
mod transport;

use super::harness::{hubspot, native, salesforce};

/// One event of a contact.
const BODY: &str = r#"[{"eventId":1,"subscriptionId":41,"portalId":5550123,"appId":70077,"occurredAt":1767268798500,"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":7001,"propertyName":"jobtitle","propertyValue":"CTO"}]"#;
/// The same in the native form.
const NATIVE_BODY: &str =
    r#"{"type":"contact.updated","timestamp":"2026-01-01T11:59:57.120Z","data":{"id":"c_19","name":"Renée"}}"#;
/// The same in an outbound message.
const NOTIFICATION: &str = r#"<Notification><Id>04l5g0000000001</Id><sObject xsi:type="sf:Contact"><sf:Id>0035g00000AbCdE</sf:Id><sf:Title>CTO</sf:Title></sObject></Notification>"#;

/// A provider as the checks use it.
struct Sender {
    name: &'static str,
    /// Headers that its signature needs.
    headers: &'static [&'static str],
    /// The status it takes as success.
    accepted: u16,
    valid: fn() -> Vec<u8>,
}

impl Sender {
    /// A valid call that changes one record.
    fn call(&self) -> Vec<u8> {
        (self.valid)()
    }
}

/// Every provider that is built.
fn senders() -> Vec<Sender> {
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
    ]
}

/// The call without some of its headers.
fn without(call: &str, names: &[&str]) -> String {
    let named = |line: &str| names.iter().any(|name| line.starts_with(&format!("{name}:")));
    let (head, body) = call.split_once("\r\n\r\n").unwrap();
    let lines: Vec<&str> = head.split("\r\n").filter(|line| !named(line)).collect();
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}
