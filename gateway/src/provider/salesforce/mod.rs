//! Salesforce outbound messages: SOAP posts with the state of changed records.
//!
//! Facts come from the "Outbound Messaging" chapters of Salesforce's SOAP API Developer Guide. It must not know any other
//! provider. There is no signature: who sends is told by the organization id in the message, by a client certificate
//! where the listener asks for one, and by the unguessable path. The surprising things: one acknowledgement covers the
//! whole message, so it is given only when all of it is durable; and a message carries each record as it stands when the
//! message is *delivered*, so a repeat of one notification may tell a newer state and is then another change.

use std::time::Duration;

use headgate_schemas::change::{FieldChange, Object, SequenceKind};
use headgate_schemas::{Change, ChangeKind, ObjectType, Resolution, System, Timestamp, Value};
use hyper::StatusCode;
use sha2::{Digest as _, Sha256};

use super::{Answer, Arrival, Body, Call, Endpoint, Malformed, Provider, Reading, Scheme, Signed, Unrouted, object};
use crate::config::{Credential, CredentialKind, Owner, Owners};
use crate::signature::{KeyError, Keys, Refusal};

pub(crate) mod cdc;
pub(crate) mod id;
pub(crate) mod soap;
mod xml;

use soap::{Notification, Record};

/// The guide: a message is kept and sent again for up to 24 hours; two more for clocks and queues.
const REMEMBERED_FOR: Duration = Duration::from_secs(26 * 3_600);

const XML: &str = "text/xml; charset=utf-8";
/// The positive acknowledgement, word for word as vectors and listeners expect it.
const ACK: &str = concat!(
    r#"<?xml version="1.0" encoding="UTF-8"?>"#,
    r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>"#,
    r#"<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse>"#,
    r#"</soapenv:Body></soapenv:Envelope>"#
);
/// The negative one: the message stays queued.
const NACK: &str = concat!(
    r#"<?xml version="1.0" encoding="UTF-8"?>"#,
    r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>"#,
    r#"<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>false</Ack></notificationsResponse>"#,
    r#"</soapenv:Body></soapenv:Envelope>"#
);

/// Salesforce as a provider.
pub(crate) struct Salesforce;

impl Provider for Salesforce {
    fn system(&self) -> System {
        System::Salesforce
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Certificate
    }

    fn schemes(&self) -> &'static [Scheme] {
        const { &[Scheme { name: "salesforce-outbound-message", windowed: false, reads: true }] }
    }

    fn body_bytes(&self) -> Option<usize> {
        // 100 records, each with long text among its fields.
        Some(5 << 20)
    }

    fn remembered_for(&self) -> Duration {
        REMEMBERED_FOR
    }

    fn keys(&self, _: &Credential) -> Result<Keys, KeyError> {
        Ok(Keys::None)
    }

    fn signed(&self, call: &Call<'_>) -> Signed {
        let told = soap::organization(call.body).is_ok();
        Signed { scheme: if told { "salesforce-outbound-message" } else { "none" }, url: None, timestamp: None }
    }

    fn verify(&self, call: &Call<'_>, endpoint: &Endpoint, _: Timestamp) -> Result<&'static str, Refusal> {
        let organization = soap::organization(call.body).map_err(|_| Refusal::Missing)?;
        // The id is no secret, so there is nothing to tell by the time that comparing takes.
        match &endpoint.config.owners {
            Owners::One(owner) if owner.account != organization => Err(Refusal::Organization),
            Owners::One(_) | Owners::ByAccount(_) => Ok("salesforce-outbound-message"),
        }
    }

    fn changes(&self, call: &Call<'_>, endpoint: &Endpoint, received_at: Timestamp) -> Result<Reading, Malformed> {
        let message = soap::message(call.body)?;
        let Some(owner) = endpoint.config.owners.of(&message.organization) else {
            // Never the body itself: it may hold a live session.
            let body = serde_json::to_vec(&message.to_json()).unwrap_or_default();
            let unrouted = vec![Unrouted { account: message.organization, body }];
            return Ok(Reading { unrouted, ..Reading::default() });
        };
        let arrival = Arrival::new(call, &endpoint.config, received_at, message.notifications.len());
        let told = message.notifications.into_iter().enumerate();
        let changes = told.map(|(index, notification)| change(&arrival, owner, index, notification));
        Ok(Reading { changes: changes.collect::<Result<_, _>>()?, ..Reading::default() })
    }

    fn accepted(&self) -> Answer {
        Answer { status: StatusCode::OK, body: Some(Body { content_type: XML, text: ACK }) }
    }

    fn refused(&self) -> Option<Body> {
        Some(Body { content_type: XML, text: NACK })
    }
}

/// The neutral type behind a type of Salesforce's; others keep their name.
pub(crate) fn neutral(native: &str) -> ObjectType {
    match native {
        "Account" => ObjectType::COMPANY,
        "Opportunity" => ObjectType::DEAL,
        other => ObjectType::new(other),
    }
}

fn change(arrival: &Arrival<'_>, owner: &Owner, index: usize, notification: Notification) -> Result<Change, Malformed> {
    let Some(record) = notification.record else {
        // The record was deleted before its turn, and not even its id is told: only a look at all of them can find it.
        let gone = Object { kind: ObjectType::new("object"), native_type: String::new(), id: None };
        let key = [owner.account.as_str(), &notification.id].map(str::as_bytes);
        let mut change = arrival.change(owner, index, ChangeKind::Resync, gone, key);
        change.needs_fetch = true;
        return Ok(change);
    };
    let state = digest(&record);
    let subject = object(neutral(&record.kind), &record.kind, &record.id);
    let key = [owner.account.as_bytes(), notification.id.as_bytes(), &state];
    let mut change = arrival.change(owner, index, ChangeKind::Updated, subject, key);
    change.state = true;
    change.correlation = Some(arrival.batch().to_owned());
    match time(&record)? {
        Some((at, resolution)) => {
            change.occurred_at = Some(at);
            change.occurred_at_resolution = resolution;
            if let Ok(ms) = u64::try_from(at.millis()) {
                change.sequence = Some(format!("{ms:020}"));
                change.sequence_kind = SequenceKind::Time;
            }
        }
        None => change.needs_fetch = true,
    }
    change.fields = record.fields.into_iter().map(|(name, value)| (name, FieldChange::to(value))).collect();
    Ok(change)
}

/// When the record was last written. The message writes whole seconds; should it ever write finer ones, they are believed.
fn time(record: &Record) -> Result<Option<(Timestamp, Resolution)>, Malformed> {
    let selected = |name: &str| record.fields.get(name).and_then(Value::as_text);
    let Some(text) = selected("SystemModstamp").or_else(|| selected("LastModifiedDate")) else { return Ok(None) };
    let at: Timestamp = text.parse().map_err(|_| Malformed("the time of a record is no date and time"))?;
    if !super::TIMES.contains(&at.millis()) {
        return Err(Malformed("the time of a record is not of our era"));
    }
    let whole = at.micros() % 1_000_000 == 0;
    Ok(Some((at, if whole { Resolution::S } else { Resolution::Ms })))
}

/// A digest of the record's state. Two states in one second differ by nothing else.
fn digest(record: &Record) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(record.kind.as_bytes());
    part(record.id.as_bytes());
    for (name, value) in &record.fields {
        part(name.as_bytes());
        // Null and empty text look alike here, and are alike in a record.
        part(value.to_plain().as_bytes());
    }
    hash.finalize().into()
}
