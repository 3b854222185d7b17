//! The schema that is checked in is the one of the types, and what we write obeys it.

use std::fs;

use headgate_schemas::{ChangeKind, contract};
use serde_json::{Value, json};

use crate::examples::example;
use crate::{REGENERATE, in_crate, updating};

const FILE: &str = "json/change.v1.json";

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

#[test]
fn the_schema_is_that_of_the_types() {
    let text = format!("{}\n", serde_json::to_string_pretty(&generated()).unwrap());
    let path = in_crate(FILE);
    if updating() {
        fs::write(&path, &text).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(checked_in, text, "schemas/{FILE} is not what the types say; regenerate it with: {REGENERATE}");
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
