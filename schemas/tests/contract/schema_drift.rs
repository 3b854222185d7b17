//! What is checked in is what the types say, what we write obeys it, and the AsyncAPI document obeys its specification.

use std::fs;

use headgate_schemas::asyncapi::{self, RecordHeaders};
use headgate_schemas::contract::{self, Data};
use headgate_schemas::event::{self, Event};
use headgate_schemas::{Change, ChangeKind};
use serde_json::{Value, json};

use crate::examples::example;
use crate::{REGENERATE, in_crate, updating};

/// With the keys of every object in order, whatever the JSON library is told to keep.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn generated() -> Value {
    sorted(contract::data_schema().as_value())
}

fn asyncapi() -> Value {
    let examples: Vec<Change> = ChangeKind::ALL.into_iter().map(example).collect();
    sorted(&asyncapi::document(&examples).unwrap())
}

/// Compares a file with what the types say; writes it first when that is asked for.
fn checked_in(file: &str, generated: &Value) {
    let text = format!("{}\n", serde_json::to_string_pretty(generated).unwrap());
    let path = in_crate(file);
    if updating() {
        fs::write(&path, &text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, text, "schemas/{file} is not what the types say; regenerate it with: {REGENERATE}");
}

#[test]
fn what_is_checked_in_is_what_the_types_say() {
    checked_in("json/change.v1.json", &generated());
    checked_in("json/event.v1.json", &sorted(event::event_schema().as_value()));
    checked_in("json/asyncapi.v1.json", &asyncapi());
}

#[test]
fn the_document_obeys_the_specification_it_names() {
    let specification: Value = serde_json::from_str(include_str!("../asyncapi/3.0.0.json")).unwrap();
    let validator = jsonschema::validator_for(&specification).unwrap();
    let document = asyncapi();
    let faults: Vec<_> = validator.iter_errors(&document).map(|f| format!("{}: {f}", f.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let spoilt: [(&str, Value); 4] = [
        ("/asyncapi", json!("2.6.0")),
        ("/operations/postChange/action", json!("post")),
        ("/channels/topic/bindings/kafka/partitions", json!(0)),
        ("/components/messages/change", json!({ "payloads": {} })),
    ];
    for (pointer, value) in spoilt {
        let mut other = document.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&other), "{pointer}");
    }
}

/// A schema of the document as one that stands for itself.
fn component(document: &Value, name: &str) -> jsonschema::Validator {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$ref": format!("#/components/schemas/{name}"),
        "components": document["components"]
    });
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn the_examples_are_valid_and_are_read_by_the_types() {
    let document = asyncapi();
    let messages = &document["components"]["messages"];
    let (headers, data) = (component(&document, "RecordHeaders"), component(&document, "Data"));
    let events = component(&document, "Event");
    let examples = |message: &str| messages[message]["examples"].as_array().unwrap().clone();
    assert_eq!((examples("change").len(), examples("event").len()), (10, 10));
    for one in examples("change") {
        assert!(headers.is_valid(&one["headers"]) && data.is_valid(&one["payload"]), "{one:#}");
        let read: RecordHeaders = serde_json::from_value(one["headers"].clone()).unwrap();
        let payload: Data = serde_json::from_value(one["payload"].clone()).unwrap();
        assert_eq!(read.ce_system, payload.source.system);
        assert_eq!(one["name"], payload.change.as_str());
    }
    for one in examples("event") {
        assert!(events.is_valid(&one["payload"]), "{one:#}");
        let event: Event = serde_json::from_value(one["payload"].clone()).unwrap();
        assert_eq!(one["name"], event.data.change.as_str());
    }
    let mut spoilt = examples("change")[0]["headers"].clone();
    spoilt["ce_system"] = json!("crm");
    assert!(!headers.is_valid(&spoilt));
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    let document = asyncapi();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 20, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|inner| collect(inner, references));
        }
        Value::Array(list) => list.iter().for_each(|inner| collect(inner, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_kind_is_valid_as_it_is_written() {
    let validator = jsonschema::validator_for(&generated()).unwrap();
    for kind in ChangeKind::ALL {
        let record = contract::encode(&example(kind)).unwrap();
        let body: Value = serde_json::from_slice(&record.body).unwrap();
        let faults: Vec<_> = validator.iter_errors(&body).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{kind}: {faults:?}");
    }
}

#[test]
fn what_is_no_change_is_invalid() {
    let validator = jsonschema::validator_for(&generated()).unwrap();
    let valid: Value = serde_json::from_slice(&contract::encode(&contract::example()).unwrap().body).unwrap();
    assert!(validator.is_valid(&valid));
    let spoilt: [(&str, Value); 5] = [
        ("/change", json!("renamed")),
        ("/source/system", json!("crm")),
        ("/fields_complete", json!("yes")),
        ("/raw/bytes", json!(-1)),
        ("/object", json!({ "type": "contact" })),
    ];
    for (pointer, value) in spoilt {
        let mut body = valid.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&body), "{pointer}");
    }
    for required in ["schema", "source", "object", "change", "fields_complete", "needs_fetch", "origin", "raw"] {
        let mut body = valid.clone();
        body.as_object_mut().unwrap().remove(required);
        assert!(!validator.is_valid(&body), "without {required}");
    }
}
