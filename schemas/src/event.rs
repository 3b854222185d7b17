//! A change as one JSON document: CloudEvents 1.0 in structured mode, as `GET /v1/changes` and subscriptions send it.
//!
//! The attributes are the `ce_` headers of the record without their prefix, and the data stay byte for byte what the
//! stream holds: nothing is decoded and written again on the way to a reader. [`Event`] is the type of the document for
//! readers, for its JSON Schema and for tests; what is sent is written from the record by [`write()`].

use bytes::Bytes;
use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::change::Channel;
use crate::contract::{Data, Record};
use crate::id::{ChangeId, System};
use crate::time::Timestamp;

/// The name of the schema of [`Event`].
pub const EVENT_SCHEMA: &str = "urn:headgate:schema:event:v1";

/// Where a record stands, for readers that go on from there later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its partition.
    pub partition: u32,
    /// Its offset in the partition.
    pub offset: u64,
    /// The position after it: what `from` and `Last-Event-ID` take.
    pub position: String,
}

/// A change as readers get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Version of CloudEvents, `1.0`.
    pub specversion: String,
    /// What identifies the change: a repeat has the same one.
    pub id: ChangeId,
    /// `/in/{system}/{account}`.
    pub source: String,
    /// `headgate.crm.{object}.{kind}.v1`
    #[serde(rename = "type")]
    pub kind: String,
    /// `{object}/{id of the record}`
    pub subject: String,
    /// When it happened; when it came, if the provider does not tell.
    pub time: Timestamp,
    /// When it came.
    pub receivedtime: Timestamp,
    /// `{tenant}/{system}/{account}/{object}/{id}`: changes of one record share it and come in order.
    pub partitionkey: String,
    /// Whose record it is.
    pub tenant: String,
    /// The CRM.
    pub system: System,
    /// The account there.
    pub account: String,
    /// The way it came.
    pub channel: Channel,
    /// Name of the schema of `data`.
    pub dataschema: String,
    /// Media type of `data`.
    pub datacontenttype: String,
    /// Fixed width, compares as text among changes of one record that came on one channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// The provider's attempt, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// W3C trace context of the provider's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// `true`: a newer change of the record was published before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<String>,
    /// Its partition, in `GET /v1/changes` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Its offset there, in `GET /v1/changes` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Where to read on after it, in `GET /v1/changes` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The change.
    pub data: Data,
}

/// The JSON Schema of [`Event`]. `json/event.v1.json` is this, checked in.
pub fn event_schema() -> Schema {
    let mut schema = schema_for!(Event);
    schema.insert("$id".to_owned(), EVENT_SCHEMA.into());
    schema
}

/// Appends `record` to `out` as one JSON object without line breaks.
pub fn write(record: &Record, place: Option<&Place>, out: &mut Vec<u8>) {
    let mut event = Map::new();
    if let Some(place) = place {
        event.insert("partition".to_owned(), place.partition.into());
        event.insert("offset".to_owned(), place.offset.into());
        event.insert("position".to_owned(), place.position.as_str().into());
    }
    for (name, value) in &record.headers {
        let name = match name.as_ref() {
            "content-type" => "datacontenttype",
            name => name.strip_prefix("ce_").unwrap_or(name),
        };
        event.insert(name.to_owned(), Value::String(value.clone()));
    }
    let mut text = Value::Object(event).to_string();
    let data: Option<&RawValue> = serde_json::from_slice(&record.body).ok();
    if let Some(data) = data {
        // Our own writer puts no line breaks into JSON; a reader of lines must not depend on that.
        let one_line = data.get().replace(['\n', '\r'], " ");
        text.pop();
        text.push_str(",\"data\":");
        text.push_str(&one_line);
        text.push('}');
    }
    out.extend_from_slice(text.as_bytes());
}

/// The document of a subscription: without a place, which differs from reader to reader.
pub fn body(record: &Record) -> Bytes {
    let mut out = Vec::with_capacity(record.len() + 512);
    write(record, None, &mut out);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, encode};

    #[test]
    fn a_record_is_written_as_the_event_it_is() {
        let change = contract::example();
        let mut record = encode(&change).unwrap();
        record.mark_late();
        let place = Place { partition: 3, offset: 17, position: "18".to_owned() };
        let mut out = Vec::new();
        write(&record, Some(&place), &mut out);
        let event: Event = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (event.id, event.time, event.receivedtime),
            (change.id, change.occurred_at.unwrap(), change.received_at)
        );
        assert_eq!((event.kind.as_str(), event.subject.as_str()), ("headgate.crm.contact.updated.v1", "contact/7001"));
        assert_eq!((event.partition, event.offset, event.position.as_deref()), (Some(3), Some(17), Some("18")));
        assert_eq!((event.late.as_deref(), event.attempt.as_deref()), (Some("true"), Some("1")));
        assert_eq!(event.data.fields["jobtitle"].value, "CTO".into());
        let without: Event = serde_json::from_slice(&body(&record)).unwrap();
        assert_eq!(without, Event { partition: None, offset: None, position: None, ..event });
    }

    #[test]
    fn data_with_line_breaks_stay_on_one_line() {
        let mut record = encode(&contract::example()).unwrap();
        record.body = Bytes::from_static(b"{\n  \"a\": \"x\\ny\"\r\n}");
        let text = String::from_utf8(body(&record).to_vec()).unwrap();
        assert!(!text.contains(['\n', '\r']), "{text}");
        assert!(text.ends_with(r#""data":{   "a": "x\ny"  }}"#), "{text}");
    }
}
