//! The stream described for those who read it: an AsyncAPI 3 document made from the types, checked in as
//! `json/asyncapi.v1.json`.
//!
//! It names the topic with its key and headers, the same changes as `GET /v1/changes` sends them, and what a subscriber
//! is posted. Knows nothing of how any of that is done. The schemas inside are generated from the very types that decode
//! what the document describes.

use indexmap::IndexMap;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::change::{Change, Channel};
use crate::contract::{self, CHANGES_TOPIC, DEFAULT_PARTITIONS, Data};
use crate::event::{self, Event};
use crate::id::{ChangeId, System};
use crate::time::Timestamp;

/// Version of the document: that of the envelope.
const VERSION: &str = crate::change::SCHEMA_VERSION;
/// How schemas inside the document are written.
const DRAFT: &str = "application/schema+json;version=draft-07";

/// The headers of a record in the topic: CloudEvents 1.0 in binary mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordHeaders {
    /// Version of CloudEvents, `1.0`.
    pub ce_specversion: String,
    /// What identifies the change: a repeat has the same one.
    pub ce_id: ChangeId,
    /// `/in/{system}/{account}`.
    pub ce_source: String,
    /// `headgate.crm.{object}.{kind}.v1`
    pub ce_type: String,
    /// `{object}/{id of the record}`
    pub ce_subject: String,
    /// When it happened; when it came, if the provider does not tell.
    pub ce_time: Timestamp,
    /// When it came.
    pub ce_receivedtime: Timestamp,
    /// The record's key.
    pub ce_partitionkey: String,
    /// Whose record it is.
    pub ce_tenant: String,
    /// The CRM.
    pub ce_system: System,
    /// The account there.
    pub ce_account: String,
    /// The way it came.
    pub ce_channel: Channel,
    /// Name of the schema of the data.
    pub ce_dataschema: String,
    /// Media type of the data.
    #[serde(rename = "content-type")]
    pub content_type: String,
    /// Fixed width, compares as text among changes of one record that came on one channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_sequence: Option<String>,
    /// The provider's attempt, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_attempt: Option<String>,
    /// W3C trace context of the provider's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_traceparent: Option<String>,
    /// `true`: a newer change of the record was published before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_late: Option<String>,
}

/// The headers of what a subscriber is posted, as Standard Webhooks names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookHeaders {
    /// The id of the change: the same for every attempt, and for a repeat.
    #[serde(rename = "webhook-id")]
    pub id: ChangeId,
    /// When this attempt was made, in seconds since 1970.
    #[serde(rename = "webhook-timestamp")]
    pub timestamp: String,
    /// `v1,` and the base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`; one for each live secret, with spaces between.
    #[serde(rename = "webhook-signature")]
    pub signature: String,
}

/// The document, with `examples` of changes in it.
///
/// # Errors
/// When an example cannot be written.
pub fn document(examples: &[Change]) -> Result<Value, serde_json::Error> {
    Ok(json!({
        "asyncapi": "3.0.0",
        "id": "urn:headgate:changes",
        "info": {
            "title": "Headgate changes",
            "version": VERSION,
            "description": "Every change that CRM systems report, in one form and in order per record. Delivery is at \
                least once: drop repeats by the id of the change.",
            "license": { "name": "Apache-2.0" }
        },
        "defaultContentType": "application/json",
        "channels": channels(),
        "operations": operations(),
        "components": { "messages": messages(examples)?, "schemas": schemas() }
    }))
}

fn channels() -> Value {
    json!({
        "topic": {
            "address": CHANGES_TOPIC,
            "description": "The topic. The key is tenant/system/account/object/id, so one record stays in one partition. \
                The number of partitions is fixed when the topic is made.",
            "messages": { "change": { "$ref": "#/components/messages/change" } },
            "bindings": { "kafka": { "topic": CHANGES_TOPIC, "partitions": DEFAULT_PARTITIONS, "bindingVersion": "0.5.0" } }
        },
        "reader": {
            "address": "/v1/changes",
            "description": "The same changes over HTTP: server-sent events where the request accepts text/event-stream, \
                lines of JSON elsewhere. from is start, now, a position or a time; Last-Event-ID goes before it.",
            "messages": { "event": { "$ref": "#/components/messages/event" } }
        },
        "subscriber": {
            "address": null,
            "description": "The endpoint that a tenant registered. Changes of one record are posted one after the other; \
                a change that is not answered with 2xx is posted again, and later changes of its record wait for it.",
            "messages": { "webhook": { "$ref": "#/components/messages/webhook" } }
        }
    })
}

fn operations() -> Value {
    let query = ["from", "tenant", "system", "account", "object", "kind", "record"];
    let properties: Map<String, Value> =
        query.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect();
    let query = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    json!({
        "appendChange": { "action": "send", "channel": { "$ref": "#/channels/topic" } },
        "streamChanges": {
            "action": "send",
            "channel": { "$ref": "#/channels/reader" },
            "bindings": { "http": { "method": "GET", "query": query, "bindingVersion": "0.3.0" } }
        },
        "postChange": {
            "action": "send",
            "channel": { "$ref": "#/channels/subscriber" },
            "bindings": { "http": { "method": "POST", "bindingVersion": "0.3.0" } }
        }
    })
}

fn messages(examples: &[Change]) -> Result<Value, serde_json::Error> {
    let (mut records, mut events) = (Vec::new(), Vec::new());
    for change in examples {
        let record = contract::encode(change)?;
        let headers: IndexMap<&str, &str> = record.headers.iter().map(|(n, v)| (n.as_ref(), v.as_str())).collect();
        let payload: Value = serde_json::from_slice(&record.body)?;
        records.push(json!({ "name": change.kind.as_str(), "headers": headers, "payload": payload }));
        let event: Value = serde_json::from_slice(&event::body(&record))?;
        events.push(json!({ "name": change.kind.as_str(), "payload": event }));
    }
    let key = json!({ "type": "string", "description": "tenant/system/account/object/id" });
    Ok(json!({
        "change": {
            "name": "change",
            "title": "One change of one record, as CloudEvents 1.0 in binary mode",
            "contentType": "application/json",
            "headers": schema_ref("RecordHeaders"),
            "payload": schema_ref("Data"),
            "bindings": { "kafka": { "key": key, "bindingVersion": "0.5.0" } },
            "examples": records
        },
        "event": {
            "name": "event",
            "title": "One change of one record, as CloudEvents 1.0 in structured mode, with its place in the stream",
            "contentType": "application/json",
            "payload": schema_ref("Event"),
            "examples": events
        },
        "webhook": {
            "name": "webhook",
            "title": "The same without its place, signed as Standard Webhooks",
            "contentType": "application/json",
            "headers": schema_ref("WebhookHeaders"),
            "payload": schema_ref("Event")
        }
    }))
}

fn schema_ref(name: &str) -> Value {
    json!({ "schemaFormat": DRAFT, "schema": { "$ref": format!("#/components/schemas/{name}") } })
}

/// Every type that the messages name, and what they are made of.
fn schemas() -> Value {
    let settings = SchemaSettings::draft07().with(|s| s.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let named: [(&str, Schema); 4] = [
        ("Data", generator.subschema_for::<Data>()),
        ("Event", generator.subschema_for::<Event>()),
        ("RecordHeaders", generator.subschema_for::<RecordHeaders>()),
        ("WebhookHeaders", generator.subschema_for::<WebhookHeaders>()),
    ];
    let mut schemas = generator.take_definitions(true);
    // What the generator did not put there by itself.
    for (name, schema) in named {
        schemas.entry(name).or_insert_with(|| schema.into());
    }
    Value::Object(schemas)
}
