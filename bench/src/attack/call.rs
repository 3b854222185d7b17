//! What is sent: signed webhooks as HubSpot sends them, and the configuration that a gateway needs to take them.
//!
//! Every event has a number of its own, which is the id of its record, so that the stream can be searched for it. The
//! surprising thing: numbers from [`FORGED`] on are of calls that must never be accepted; one of them in the stream is a
//! broken promise.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headgate_schemas::time;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Accounts behind the one URL, each of a tenant of its own.
pub(super) const ACCOUNTS: u64 = 1_000;
/// Numbers of events that nobody may accept.
pub(super) const FORGED: u64 = 1 << 50;
/// The variable that holds the app's secret.
pub(super) const SECRET_VARIABLE: &str = "HEADGATE_BENCH_SECRET";
/// The app's secret: it protects a gateway on loopback with no data behind it, for as long as a measurement takes.
pub(super) const SECRET: &str = "secret-of-a-measurement-on-loopback";

const HUBSPOT: &str = "/in/hubspot/bench-hubspot-on-loopback";
const SALESFORCE: &str = "/in/salesforce/bench-salesforce-on-loopback";

/// A configuration with one HubSpot URL for all accounts and one Salesforce endpoint. `limits` are lines of
/// `[gateway.limits]`.
pub(super) fn configuration(limits: &str) -> String {
    let mut text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\ngrace = \"10s\"\ntrusted_proxies = []\n[gateway.limits]\n{limits}\n\
         [stream]\npath = \"stream\"\n[[endpoint]]\nname = \"app\"\nkey = \"bench-hubspot-on-loopback\"\n\
         provider = \"hubspot\"\nroute = \"account\"\nsecret_env = \"{SECRET_VARIABLE}\"\n[[endpoint]]\n\
         name = \"messages\"\nkey = \"bench-salesforce-on-loopback\"\nprovider = \"salesforce\"\n\
         connection = \"organization\"\n"
    );
    let mut connection = |name: &str, tenant: &str, system: &str, account: &str| {
        let written = write!(
            text,
            "[[connection]]\nname = \"{name}\"\ntenant = \"{tenant}\"\nsystem = \"{system}\"\naccount = \"{account}\"\n\
             base_url = \"http://127.0.0.1:1\"\npoll = \"off\"\n\
             auth = {{ kind = \"bearer\", token_env = \"{SECRET_VARIABLE}\" }}\n"
        );
        debug_assert!(written.is_ok(), "text takes any text");
    };
    connection("organization", "tenant-0", "salesforce", "00D5g000000ABCDEA4");
    for n in 1..=ACCOUNTS {
        connection(&format!("hub-{n}"), &format!("tenant-{n}"), "hubspot", &n.to_string());
    }
    text
}

/// Makes calls to one gateway.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    mac: Hmac<Sha256>,
    url: String,
}

impl Calls {
    /// For the gateway at `address`, whose public URL is that.
    pub(super) fn new(address: SocketAddr) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes keys of any length");
        Self { mac, url: format!("http://{address}{HUBSPOT}") }
    }

    /// A signed call with the events of these numbers, all of one account.
    pub(super) fn signed(&self, account: u64, numbers: Range<u64>) -> Vec<u8> {
        self.signed_body(&body(account, numbers))
    }

    /// A signed call with any body.
    pub(super) fn signed_body(&self, body: &str) -> Vec<u8> {
        let at = time::now().millis().to_string();
        let mut mac = self.mac.clone();
        for part in ["POST", &self.url, body, &at] {
            mac.update(part.as_bytes());
        }
        post(&BASE64_STANDARD.encode(mac.finalize().into_bytes()), &at, body)
    }

    /// The same with a signature that is none of ours.
    pub(super) fn forged(&self, account: u64, number: u64) -> Vec<u8> {
        let at = time::now().millis().to_string();
        post("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", &at, &body(account, number..number + 1))
    }
}

/// The head of a call to HubSpot's URL, without its last empty line.
pub(super) fn hubspot_head() -> String {
    format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n")
}

/// The same for Salesforce's.
pub(super) fn salesforce_head() -> String {
    format!("POST {SALESFORCE} HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\n")
}

fn post(signature: &str, at: &str, body: &str) -> Vec<u8> {
    let head = hubspot_head();
    let length = body.len();
    format!(
        "{head}X-HubSpot-Signature-v3: {signature}\r\nX-HubSpot-Request-Timestamp: {at}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn body(account: u64, numbers: Range<u64>) -> String {
    let at = time::now().millis();
    let event = |n| {
        format!(
            r#"{{"eventId":{n},"subscriptionId":41,"portalId":{account},"appId":70077,"occurredAt":{at},"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":{n},"propertyName":"jobtitle","propertyValue":"Head of {n}","changeSource":"CRM_UI","sourceId":"userId:31"}}"#
        )
    };
    format!("[{}]", numbers.map(event).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_signed_over_method_url_body_and_time() {
        let calls = Calls::new(([127, 0, 0, 1], 8080).into());
        let call = String::from_utf8(calls.signed(7, 5..7)).unwrap();
        let (head, body) = call.split_once("\r\n\r\n").unwrap();
        let header = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim();
        assert_eq!(header("Content-Length:"), body.len().to_string());
        let at = header("X-HubSpot-Request-Timestamp:");
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("POSThttp://127.0.0.1:8080/in/hubspot/bench-hubspot-on-loopback{body}{at}").as_bytes());
        assert_eq!(header("X-HubSpot-Signature-v3:"), BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        let events: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
        assert_eq!(
            (events.len(), events[1]["objectId"].as_u64(), events[0]["portalId"].as_u64()),
            (2, Some(6), Some(7))
        );
    }
}
