//! An outbound message as its SOAP body holds it: who sends it, and the records it tells of.
//!
//! Elements and namespaces are those of the "Outbound Messaging" chapters of Salesforce's SOAP API Developer Guide. It
//! must not know changes. The surprising thing: the message carries a session id, a live credential of a user of the
//! sender's; it is walked past and never becomes a value of ours.

use std::collections::BTreeMap;

use headgate_schemas::Value;
use indexmap::IndexMap;
use serde_json::json;

use super::id::id18;
use super::xml::{Content, Element, Walk};
use crate::provider::Malformed;

const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const OUTBOUND: &str = "http://soap.sforce.com/2005/09/outbound";
const SOBJECT: &str = "urn:sobject.enterprise.soap.sforce.com";

/// The schema of the message: at most this many notifications.
const NOTIFICATIONS: usize = 100;
/// Fields of one record, and of one compound field. Salesforce allows 800 custom fields.
const FIELDS: usize = 1_000;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The sending organization in 18 characters.
    pub(crate) organization: String,
    /// What it tells, 1 to 100.
    pub(crate) notifications: Vec<Notification>,
}

/// One record's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    /// Names the notification through all its deliveries.
    pub(crate) id: String,
    /// The record as it stands at delivery; none when it was deleted before.
    pub(crate) record: Option<Record>,
}

/// The selected fields of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its type, as Salesforce names it.
    pub(crate) kind: String,
    /// Its id in 18 characters.
    pub(crate) id: String,
    /// Its fields without the id. All values are text, because nothing in the message tells their types.
    pub(crate) fields: IndexMap<String, Value>,
}

impl Message {
    /// The message as JSON, without anything that is no part of a change.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let notification = |n: &Notification| match &n.record {
            None => json!({ "id": n.id, "object_type": null, "record_id": null, "fields": {} }),
            Some(r) => {
                let fields = r.fields.iter().map(|(name, value)| (name.clone(), value.clone().into()));
                let fields: serde_json::Map<String, serde_json::Value> = fields.collect();
                json!({ "id": n.id, "object_type": r.kind, "record_id": r.id, "fields": fields })
            }
        };
        let notifications: Vec<serde_json::Value> = self.notifications.iter().map(notification).collect();
        json!({ "organization_id": self.organization, "notifications": notifications })
    }
}

/// The sending organization of a message that may be cut off after it.
pub(super) fn organization(body: &[u8]) -> Result<String, Malformed> {
    let mut walk = Walk::new(body)?;
    enter(&mut walk)?;
    while let Some(element) = walk.child()? {
        if element.is(OUTBOUND, "OrganizationId") {
            return account(&walk.text()?);
        }
        walk.skip()?;
    }
    Err(NO_ORGANIZATION)
}

/// The whole message.
pub(crate) fn message(body: &[u8]) -> Result<Message, Malformed> {
    let mut walk = Walk::new(body)?;
    enter(&mut walk)?;
    let mut organization = None;
    let mut notifications = Vec::new();
    while let Some(element) = walk.child()? {
        if element.is(OUTBOUND, "OrganizationId") {
            if organization.replace(account(&walk.text()?)?).is_some() {
                return Err(Malformed("the message names its organization twice"));
            }
        } else if element.is(OUTBOUND, "Notification") {
            if notifications.len() == NOTIFICATIONS {
                return Err(Malformed("a message holds 1 to 100 notifications"));
            }
            notifications.push(notification(&mut walk)?);
        } else {
            // Session id, action id and addresses among them: none of them is ever kept.
            walk.skip()?;
        }
    }
    // The closings of body and envelope, and then nothing more.
    for _ in 0..3 {
        if walk.child()?.is_some() {
            return Err(Malformed("something follows the message"));
        }
    }
    if notifications.is_empty() {
        return Err(Malformed("a message holds 1 to 100 notifications"));
    }
    Ok(Message { organization: organization.ok_or(NO_ORGANIZATION)?, notifications })
}

const NO_ORGANIZATION: Malformed = Malformed("the message names no organization");

/// Walks into the element `notifications` of a SOAP body.
fn enter(walk: &mut Walk<'_>) -> Result<(), Malformed> {
    const NO_MESSAGE: Malformed = Malformed("the body is no SOAP envelope with an outbound message");
    if !walk.child()?.is_some_and(|root| root.is(SOAP, "Envelope")) {
        return Err(NO_MESSAGE);
    }
    let mut part = walk.child()?.ok_or(NO_MESSAGE)?;
    if part.is(SOAP, "Header") {
        walk.skip()?;
        part = walk.child()?.ok_or(NO_MESSAGE)?;
    }
    let message = if part.is(SOAP, "Body") { walk.child()? } else { None };
    if message.is_some_and(|element| element.is(OUTBOUND, "notifications")) { Ok(()) } else { Err(NO_MESSAGE) }
}

fn account(text: &str) -> Result<String, Malformed> {
    id18(text.trim()).ok_or(Malformed("the organization id is none"))
}

fn notification(walk: &mut Walk<'_>) -> Result<Notification, Malformed> {
    let (mut id, mut record) = (None, None);
    while let Some(element) = walk.child()? {
        let again = if element.is(OUTBOUND, "Id") {
            let text = walk.text()?;
            let found = id18(text.trim()).ok_or(Malformed("a notification id is none"))?;
            id.replace(found).is_some()
        } else if element.is(OUTBOUND, "sObject") {
            record.replace(sobject(walk, &element)?).is_some()
        } else {
            walk.skip()?;
            false
        };
        if again {
            return Err(Malformed("a notification holds something twice"));
        }
    }
    Ok(Notification { id: id.ok_or(Malformed("a notification has no id"))?, record: record.flatten() })
}

/// The record of a notification; none when the element says that it has no value.
fn sobject(walk: &mut Walk<'_>, element: &Element) -> Result<Option<Record>, Malformed> {
    if element.nil {
        walk.skip()?;
        return Ok(None);
    }
    let kind = element.kind.as_ref().filter(|kind| kind.space == SOBJECT && is_name(&kind.name));
    let kind = kind.ok_or(Malformed("a record has no type"))?.name.clone();
    let mut fields = members(walk, None)?;
    let id = fields.shift_remove("Id").ok_or(Malformed("a record has no id"))?;
    let id = id.as_text().and_then(id18).ok_or(Malformed("a record id is none"))?;
    Ok(Some(Record { kind, id, fields }))
}

/// The fields of the element just opened, of which `first` was opened as well; closes it. Recursion ends at the depth
/// that [`Walk`] allows.
fn members(walk: &mut Walk<'_>, first: Option<Element>) -> Result<IndexMap<String, Value>, Malformed> {
    let mut fields = IndexMap::new();
    let mut next = if first.is_some() { first } else { walk.child()? };
    while let Some(element) = next {
        if element.space != SOBJECT || !is_name(&element.name) {
            return Err(Malformed("a record holds an element that is no field"));
        }
        if fields.len() == FIELDS {
            return Err(Malformed("a record has too many fields"));
        }
        let nil = element.nil;
        let value = match walk.content()? {
            Content::Text(text) if nil || text.is_empty() => Value::Null,
            Content::Text(text) => Value::text(text),
            Content::Child(child) => compound(members(walk, Some(child))?),
        };
        if fields.insert(element.name, value).is_some() {
            return Err(Malformed("a record holds a field twice"));
        }
        next = walk.child()?;
    }
    Ok(fields)
}

fn compound(fields: IndexMap<String, Value>) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect::<BTreeMap<Box<str>, Value>>())
}

/// Names of types and fields: a letter, then letters, digits and underscores.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(inner: &str) -> String {
        format!(
            "<e:Envelope xmlns:e=\"{SOAP}\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><e:Body>\
             <notifications xmlns=\"{OUTBOUND}\" xmlns:sf=\"{SOBJECT}\">{inner}</notifications></e:Body></e:Envelope>"
        )
    }

    const ORG: &str = "<OrganizationId>00D5g000000ABCD</OrganizationId>";

    fn one(record: &str) -> String {
        body(&format!("{ORG}<Notification><Id>04l5g00000ZzYyXAAV</Id>{record}</Notification>"))
    }

    #[test]
    fn a_record_is_read_with_its_compound_fields() {
        let record = "<sObject xsi:type='sf:Contact'><sf:Id>0035g00000AbCdE</sf:Id><sf:Email/><sf:Title xsi:nil='true'/>\
                      <sf:MailingAddress><sf:city>Bonn</sf:city></sf:MailingAddress><sf:Own__c> a </sf:Own__c></sObject>";
        let message = message(one(record).as_bytes()).unwrap();
        assert_eq!(message.organization, "00D5g000000ABCDEA4");
        let record = message.notifications[0].record.clone().unwrap();
        assert_eq!((record.kind.as_str(), record.id.as_str()), ("Contact", "0035g00000AbCdEAAV"));
        let address = Value::Map(BTreeMap::from([("city".into(), Value::from("Bonn"))]));
        let expected = [
            ("Email", Value::Null),
            ("Title", Value::Null),
            ("MailingAddress", address),
            ("Own__c", Value::from(" a ")),
        ];
        assert_eq!(record.fields, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn the_organization_is_told_without_reading_on() {
        let whole = body(&format!("<SessionId>s</SessionId>{ORG}<Notification>"));
        let cut = &whole[..whole.find("<Notification>").unwrap()];
        assert_eq!(organization(cut.as_bytes()), Ok("00D5g000000ABCDEA4".to_owned()));
        assert!(message(cut.as_bytes()).is_err());
    }

    #[test]
    fn nothing_else_is_a_message() {
        let id = "<sf:Id>0035g00000AbCdE</sf:Id>";
        let contact = |fields: &str| one(&format!("<sObject xsi:type='sf:Contact'>{fields}</sObject>"));
        assert!(message(contact(id).as_bytes()).is_ok());
        assert_eq!(message(one("").as_bytes()).unwrap().notifications[0].record, None);
        assert_eq!(message(one("<sObject xsi:nil='true'/>").as_bytes()).unwrap().notifications[0].record, None);
        for wrong in [
            body(ORG),
            body(&format!("{ORG}{ORG}<Notification><Id>04l5g00000ZzYyX</Id></Notification>")),
            body("<Notification><Id>04l5g00000ZzYyX</Id></Notification>"),
            body(&format!("{ORG}<Notification/>")),
            body(&format!("{ORG}<Notification><Id>04l</Id></Notification>")),
            one("<Id>04l5g00000ZzYyX</Id>"),
            one("<sObject><sf:Id>0035g00000AbCdE</sf:Id></sObject>"),
            one(&format!("<sObject xsi:type='Contact'>{id}</sObject>")),
            contact(""),
            contact("<sf:Id>003</sf:Id>"),
            contact(&format!("{id}{id}")),
            contact(&format!("{id}text")),
            contact(&format!("{id}<Email>x</Email>")),
            contact(&format!("{id}<sf:A>x<sf:B/></sf:A>")),
            contact(&format!("{id}{}", (0..1_000).map(|n| format!("<sf:F{n}/>")).collect::<String>())),
            format!("{}<more/>", contact(id)),
            contact(id).replace("</e:Body>", "</e:Body><e:Body/>"),
            contact(id).replace("</notifications>", "</notifications><x/>"),
        ] {
            assert!(message(wrong.as_bytes()).is_err(), "{wrong:.400}");
        }
    }
}
